#ifndef RUNTIME_LINEAR_LINEAR_H
#define RUNTIME_LINEAR_LINEAR_H
/*
 * Offline part of a linear step (convolution, gemm) behind one interface, and the registry of the
 * backends that do it: the client holds r, the server W; afterwards the client holds u and the server s
 * with u + s = W r (mod 2^64). Online the server alone computes y = W E + s + b for E = x - r, so that
 * u + y = W x + b. No bytes move online.
 *
 * All that others know of a backend is its struct linear_backend: rlwe_party.c, dealer.c. A backend
 * is opened once a connection; steps are asked for in plan order, by both parties.
 */
#include <stdint.h>

#include "runtime/crypto/prg.h"
#include "runtime/net/transport.h"
#include "runtime/plan/schedule.h"
#include "runtime/ring/prepared.h"

#define LINEAR_MAX_BACKENDS 8
#define LINEAR_MAX_CONSTANTS 8

struct linear_setup {                /* all borrowed until close */
    const struct prepared *prepared; /* server: with weights */
    const struct schedule *schedule;
    const uint8_t *model; /* [32]: identity of the package */
    const char *dealer;   /* folder of correlations, for backends with a third party */
    bool client;
    struct transport *t;
    struct prg *rng;
};
struct linear_party {
    void *ctx;
    /* A lot of `images` images takes a step together: s, r and u are [images][elements of one].
     *
     * s [outputs of the step]. On entry random words drawn by the caller: a backend that can choose s
     * keeps them (rlwe), so that a run is predictable from its share seeds; one that cannot, replaces
     * them (dealer). */
    int (*server)(void *ctx, int32_t step, int64_t images, uint64_t *s);
    /* r [inputs of the step]; u [outputs of the step], written. */
    int (*client)(void *ctx, int32_t step, int64_t images, const uint64_t *r, uint64_t *u);
    void (*close)(void *ctx); /* wipes */
};

/* What the linear steps of one image take offline, for the cost model (cost.h). */
struct linear_work {
    double round_trips, bytes;        /* over the link */
    double products, window_entries;  /* of exact arithmetic, counted as online */
    double moved;                     /* bytes that sockets move while nothing else goes on */
    double own[LINEAR_MAX_CONSTANTS]; /* units of the backend's own constants */
};
struct linear_constant {
    const char *name; /* as in "rlwe.upload" of machine.txt */
    double seconds;   /* of one unit, on the machine named at cost_machine_default */
};
struct linear_backend {
    uint8_t code;            /* on the wire, not 0 */
    const char *name, *text; /* "rlwe"; what it is, in a few words */
    bool third_party;        /* correlations come from a folder that a dealer filled */
    const struct linear_constant *constant; /* a NULL-named row ends the list */
    /* ERR_UNSUPPORTED names the first step that the backend cannot do. */
    int (*check)(const struct plan *p);
    /* What one party sends for a linear step of a lot of images, exactly; step -1: once a connection. */
    uint64_t (*bytes)(const struct plan *p, int32_t step, int64_t lot, int from_client);
    /* images: of one connection, which may keep what serves them all; the figures are for one. */
    int (*work)(const struct plan *p, int64_t images, struct linear_work *out);
    int (*open)(const struct linear_setup *o, struct linear_party *out);
};

extern const struct linear_backend linear_rlwe, linear_dealer;

/* The registry: all backends, NULL at the end. Where nothing else decides, the first is taken. */
const struct linear_backend *const *linear_backends(void);
/* The first with or without a third party. */
const struct linear_backend *linear_backend_with(bool third_party);
#endif
