#ifndef TESTS_HIDDEN_H
#define TESTS_HIDDEN_H
/* Secrets as undefined memory, for valgrind's memcheck (test_ctime.c says how). Without valgrind nothing. */
#include <stddef.h>

#include "runtime/crypto/prg.h"
#include "runtime/net/transport.h"

#if defined __has_include && __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#else
#define VALGRIND_MAKE_MEM_UNDEFINED(p, n) ((void)(p), (void)(n))
#define VALGRIND_MAKE_MEM_DEFINED(p, n) ((void)(p), (void)(n))
#define VALGRIND_GET_VBITS(p, bits, n) ((void)(p), (void)(bits), (void)(n))
#define VALGRIND_COUNT_ERRORS 0
#define RUNNING_ON_VALGRIND 0
#endif

static inline void hide(void *p, size_t n)
{
    VALGRIND_MAKE_MEM_UNDEFINED(p, n);
}

/* ---- a line on which messages become public --------------------------------------------------- */

static inline int open_recv(void *ctx, void *bytes, size_t n)
{
    TRY(transport_recv(ctx, bytes, n));
    VALGRIND_MAKE_MEM_DEFINED(bytes, n);
    return 0;
}

static inline int open_send(void *ctx, const void *bytes, size_t n)
{
    TRY(transport_send(ctx, bytes, n));
    VALGRIND_MAKE_MEM_DEFINED((void *)(uintptr_t)bytes, n);
    return 0;
}

static inline int open_flush(void *ctx)
{
    return transport_flush(ctx);
}

static inline struct transport public_line(struct transport *inner)
{
    return (struct transport){
        .send = open_send, .recv = open_recv, .flush = open_flush, .ctx = inner};
}

/* A stream of a secret seed in place of *p. */
static inline int hide_stream(struct prg **p)
{
    uint8_t seed[PRG_SEED] = {7};

    prg_free(*p);
    *p = NULL;
    hide(seed, sizeof seed);
    return prg_new(seed, p);
}
#endif
