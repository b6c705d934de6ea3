#ifndef RUNTIME_LINEAR_LINEAR_H
#define RUNTIME_LINEAR_LINEAR_H
/*
 * Offline part of a linear step (convolution, gemm): the client holds r, the server W; afterwards the
 * client holds u and the server s with u + s = W r (mod 2^64). Online the server alone computes
 * y = W E + s + b for E = x - r, so that u + y = W x + b (pi.md section 3). No bytes move online.
 *
 * Providers: linear_dealer (stage A, correlations from files) and linear_rlwe (stage B, no third
 * party). A provider is opened per connection; steps are asked for in program order, by both parties.
 */
#include <stdint.h>

#include "runtime/plan/plan.h"
#include "runtime/crypto/prg.h"
#include "runtime/net/transport.h"

struct linear_party {
    const char *name; /* "dealer", "rlwe" */
    void *ctx;
    /* A lot of `images` images takes a step together: s, r and u are [images][elements of one].
     *
     * s [outputs of the step]. On entry random words drawn by the caller: a provider that can choose s
     * keeps them (rlwe), so that a run is predictable from its share seeds; one that cannot, replaces
     * them (dealer). */
    int (*server)(void *ctx, int32_t step, int64_t images, uint64_t *s);
    /* r [inputs of the step]; u [outputs of the step], written. */
    int (*client)(void *ctx, int32_t step, int64_t images, const uint64_t *r, uint64_t *u);
    void (*close)(void *ctx); /* wipes */
};
#endif
