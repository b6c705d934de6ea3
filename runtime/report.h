#ifndef RUNTIME_REPORT_H
#define RUNTIME_REPORT_H
/*
 * Private: what the commands of linnet-pi need beyond the public API (pi.h) to make reports, the plan
 * and the cost model, the server, and what one run counted. Not installed.
 */
#include "runtime/cost/cost.h"
#include "runtime/cost/fit.h"
#include "runtime/crypto/seal.h"
#include "runtime/linear/dealer.h"
#include "runtime/model.h"
#include "runtime/net/system.h"
#include "runtime/net/tls.h"
#include "runtime/party/message.h"
#include "runtime/serve/server.h"

/* A copy of what a party counted, so that it outlives it. Figures are per image. */
struct pi_report {
    const struct plan *plan;
    const struct relu_backend *relu;
    const struct linear_backend *linear;
    struct schedule *schedule;
    int64_t images;
    struct cost_count phase[PHASES];
    struct cost_count *online, *offline; /* [events + 2] */
    struct cost predicted;
    bool has_prediction;
};
/* Divides by the number of images; only setup stays a total. */
int pi_report_init(struct pi_report *r, const struct party *p, const struct plan *plan) MUST_CHECK;
void pi_report_release(struct pi_report *r);
/* What the cost model says for the report's own backends; transfers: the server's option. */
int pi_report_predict(struct pi_report *r, const struct link *link, enum relu_transfers transfers,
                      bool ahead, const struct cost_machine *machine) MUST_CHECK;
double pi_report_predicted(const struct pi_report *r, enum phase p); /* seconds */
/* Online bytes of ReLU evaluations, both directions. */
uint64_t pi_report_relu_bytes(const struct pi_report *r);

/* Events of one step put together: input, every step that may interact, argmax, result. */
struct pi_layer {
    const char *name;
    int64_t kept, total;
    int64_t evaluations; /* selections: of a ReLU layer one or two a kept position */
    int32_t width;       /* of ReLU evaluations, 0: none */
    struct cost_count online, offline;
};
typedef void pi_layer_fn(void *ctx, const struct pi_layer *l);
void pi_report_each_layer(const struct pi_report *r, pi_layer_fn *visit, void *ctx);

/* Every ReLU backend over every link of the list, predicted. */
typedef void pi_cost_fn(void *ctx, const struct cost *c);
int pi_each_cost(const struct plan *p, const struct cost_machine *m, pi_cost_fn *visit,
                 void *ctx) MUST_CHECK;

/* ---- measuring both parties of one package, each in a process of its own ----------------------- */

struct bench_case { /* all borrowed */
    const struct plan *plan;
    const struct plan_weights *weights;
    const struct relu_backend *relu;
    const struct linear_backend *linear;
    const struct link *link; /* to emulate; NULL: none */
    bool label;
    enum relu_transfers transfers;
    bool ahead; /* forms save time online alone (relu.h) */
    int64_t queries, seed;
    int64_t lot;    /* above 0: bundles of so many images together are made first, then used up */
    double seconds; /* longest silence */
    enum pi_input kind;
    const void *images;
    const char
        *folder[2]; /* of client and server: correlations, where the linear backend has a third
                     * party, or the bundles of a lot */
};
/* Bytes that follow from the seed. */
int bench_random(uint8_t seed, uint8_t *out, size_t n) MUST_CHECK;
/* Fills the folders with correlations. */
int bench_deal(const struct bench_case *b) MUST_CHECK;
/* Makes the folders of a lot. */
int bench_folders(const struct bench_case *b) MUST_CHECK;
/* Folders and what is in them, where there are any. */
void bench_remove_folders(const struct bench_case *b);
/* The server: one connection. linear_seconds: of its own arithmetic, one image. */
int bench_serve(const struct bench_case *b, struct tcp_listener *l,
                double *linear_seconds) MUST_CHECK;
/* The client: results [queries][results of one]; report: what it counted. */
int bench_ask(const struct bench_case *b, const struct tcp_address *at, int64_t *results,
              struct pi_report *report) MUST_CHECK;
/* Whether sim2pc gives the same logits. */
int bench_check(const struct bench_case *b, const int64_t *logits, bool *equal) MUST_CHECK;
#endif
