#ifndef RUNTIME_COST_H
#define RUNTIME_COST_H
/*
 * What a private inference of one image costs, by formula.
 *
 *     online      = T_linear + sum over comparison layers of flips * RTT/2 + K * (B_on/BW + t_on)
 *     offline     = K * (B_off/BW + t_off)               the ReLU part
 *                 + bytes/BW + layers * RTT + products           the linear part
 *
 * K counts kept ReLUs and comparisons of max pools. A linearised position costs nothing. The
 * constants of gc and ot follow from the messages (PROTOCOL of the backends); their CPU times were
 * measured; those of delphi-gc are published measurements (Delphi's logs in the artifact of
 * "Characterizing and Optimizing End-to-End Systems for Private Inference", ASPLOS 2023).
 */
#include "runtime/plan.h"

enum cost_backend { COST_GC, COST_OT, COST_DELPHI_GC, COST_BACKENDS };
struct cost_link {
    const char *name;
    double bits_per_second, rtt;
};
const char *cost_backend_name(enum cost_backend b);
/* "lan": 3 Gbit/s, 0.3 ms; "wan": 400 Mbit/s, 40 ms. NULL-named row ends the list. */
const struct cost_link *cost_links(void);

/* Bytes of one comparison of m bits, and the one-way messages of one batch of them. */
int64_t cost_online_bytes(enum cost_backend b, int32_t m);
int64_t cost_offline_bytes(enum cost_backend b, int32_t m);
int32_t cost_flips(enum cost_backend b, int32_t m);

/* Offline part of all linear steps; the key (rlwe) and F = W - A (dealer) are a connection's and a
 * model's, not an image's. A step that rlwe does not take (linear_rlwe_check) counts as the dealer's.
 * Seconds: both parties on one core each, one after another. */
enum cost_provider { COST_RLWE, COST_DEALER };
struct cost_linear {
    uint64_t bytes;
    double seconds;
};
struct cost_linear cost_linear(const struct plan *p, enum cost_provider v,
                               const struct cost_link *link);

/* Linear steps by rlwe. Fills *out (backend, link and all figures) for a plan that plan_check accepts. */
void cost_estimate(const struct plan *p, enum cost_backend b, const struct cost_link *link,
                   struct plan_cost *out);
#endif
