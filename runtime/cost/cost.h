#ifndef RUNTIME_COST_COST_H
#define RUNTIME_COST_COST_H
/*
 * What a private inference of one image costs, by formula. BW and RTT are the link's, t are seconds of
 * a machine (machine.h):
 *
 *     online          = arithmetic + sum over batches of ReLU evaluations of
 *                       t_batch + messages * RTT/2 + max(B_on / BW, n * t_on), and a round trip
 *                       for image and result
 *     offline ReLU    = sum over batches of t_batch + RTT + max(B_off / BW, n * t_off)
 *     offline linear  = round trips * RTT + bytes / BW + the linear backend's work
 *
 * A batch is one of the schedule, in the form that the two parties agree on for the link (relu/ways.h); where
 * transfers are silent, their rounds (cot.h) are shared by the images of a set-up. A linearised position costs
 * nothing. Bytes and messages are those of the backends (relu.h, linear.h).
 */
#include "runtime/cost/machine.h"
#include "runtime/relu/ways.h"

struct cost_case {
    const struct relu_backend *relu;     /* NULL: the first of the registry */
    const struct linear_backend *linear; /* NULL: the first that takes the plan */
    const struct link *link;             /* NULL: lan */
    const struct link *expected;         /* that forms are chosen for; NULL: link */
    enum relu_transfers transfers;       /* of the server */
    const struct cost_machine *machine;  /* NULL: built in */
    int64_t images;                      /* of one connection, which keeps weights; 0: one */
    bool ahead;                          /* forms save time online alone (relu.h) */
    bool tagged;                         /* batches are, for a client that may deviate */
    bool label;                          /* the class alone comes out */
};
struct cost { /* of one image; what a connection or a model moves once is left out */
    const struct relu_backend *relu;
    const struct linear_backend *linear;
    const struct link *link;
    uint64_t online_bytes, offline_relu_bytes, offline_linear_bytes;
    int32_t online_messages; /* one-way */
    double offline_relu_messages;
    double online_seconds, offline_relu_seconds, offline_linear_seconds;
};
/* For a plan that plan_check accepts. ERR_UNSUPPORTED: the linear backend does not take the plan. */
int cost_estimate(const struct plan *p, const struct cost_case *k, struct cost *out) MUST_CHECK;
/* The ReLU backend with the least seconds online; k->relu is ignored. */
int cost_fastest_relu(const struct plan *p, const struct cost_case *k,
                      const struct relu_backend **out) MUST_CHECK;
#endif
