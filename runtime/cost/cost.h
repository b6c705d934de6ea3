#ifndef RUNTIME_COST_COST_H
#define RUNTIME_COST_COST_H
/*
 * What a private inference of one image costs, by formula. BW and RTT are the link's, t are seconds of
 * the machine:
 *
 *     online          = arithmetic + sum over comparison batches of
 *                       t_batch + flips * RTT/2 + max(B_on / BW, n * t_on), and a round trip
 *                       for image and result
 *     offline ReLU    = sum over batches of t_batch + RTT + max(B_off / BW, n * t_off)
 *     offline linear  = sum over linear steps of RTT + bytes / BW + products
 *
 * A batch is a layer with kept ReLUs, or a level of a max pool. A linearised position costs nothing.
 * Bytes follow from the messages (PROTOCOL.md); t are constants of a machine, fitted on the one at hand
 * (cost_fit.h) or those of cost_machine_default. Those of delphi-gc are published measurements
 * (Delphi's logs in the artifact of "Characterizing and Optimizing End-to-End Systems for Private
 * Inference", ASPLOS 2023).
 */
#include "runtime/plan/plan.h"

enum cost_backend { COST_GC, COST_OT, COST_DELPHI_GC, COST_BACKENDS };
enum cost_provider { COST_RLWE, COST_DEALER };
struct cost_link {
    const char *name;
    double bits_per_second, rtt;
};
const char *cost_backend_name(enum cost_backend b);
/* "lan": 3 Gbit/s, 0.3 ms; "wan": 400 Mbit/s, 40 ms. NULL-named row ends the list. */
const struct cost_link *cost_links(void);
/* Both parties on one machine: what its sockets cost is in the constants. */
const struct cost_link *cost_loopback(void);

/* Seconds, wall clock of the client, both parties on one machine. Comparisons: of a batch, and of one
 * comparison of COST_WIDTH bits in it; other widths in proportion to their bytes. */
#define COST_WIDTH 25
struct cost_comparison {
    double online_batch, online, offline_batch, offline;
};
struct cost_machine {
    struct cost_comparison comparison[COST_BACKENDS];
    double upload, product, transform, answer; /* rlwe: a polynomial, a product, its weights */
    double fresh;                              /* byte of memory touched for the first time */
    double byte;                               /* moved by sockets */
    double mac, cell;        /* online: product; entry of the matrix of windows it reads */
    double word_mac;         /* dealer, client: product of 64-bit words */
    double claim, file_byte; /* dealer: taking a file for good; byte read from it */
    double element;          /* local arithmetic on a tensor element */
};
const struct cost_machine *cost_machine_default(void);

/* Bytes of one comparison of m bits, and the one-way messages of one batch of them. */
int64_t cost_online_bytes(enum cost_backend b, int32_t m);
int64_t cost_offline_bytes(enum cost_backend b, int32_t m);
int32_t cost_flips(enum cost_backend b, int32_t m);

struct cost_case {
    enum cost_backend backend;
    enum cost_provider provider;
    const struct cost_link *link;
    const struct cost_machine *machine; /* NULL: cost_machine_default */
    int64_t images;                     /* of one connection, which keeps weights; 0: one */
};
/* Fills *out with figures of one image, for a plan that plan_check accepts. The key (rlwe) and
 * F = W - A (dealer) are a connection's and a model's, not an image's. A step that rlwe does not take
 * (linear_rlwe_check) counts as the dealer's. */
void cost_estimate(const struct plan *p, const struct cost_case *k, struct plan_cost *out);
#endif
