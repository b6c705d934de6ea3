/* Digests of both directions (tally.h). */
#include "runtime/net/tally.h"

#include "core/base/mem.h"

struct tally {
    struct transport inner;
    struct sha256 *sent, *received; /* NULL: stopped */
};

static int tally_send(void *ctx, const void *bytes, size_t n)
{
    struct tally *y = ctx;

    if (y->sent != NULL)
        TRY(sha256_add(y->sent, bytes, n));
    return transport_send(&y->inner, bytes, n);
}

static int tally_recv(void *ctx, void *bytes, size_t n)
{
    struct tally *y = ctx;

    TRY(transport_recv(&y->inner, bytes, n));
    return y->received == NULL ? 0 : sha256_add(y->received, bytes, n);
}

static int tally_flush(void *ctx)
{
    return transport_flush(&((struct tally *)ctx)->inner);
}

void tally_stop(struct tally *y)
{
    sha256_free(y->sent);
    sha256_free(y->received);
    y->sent = y->received = NULL;
}

static void tally_free(struct tally *y)
{
    if (y != NULL)
        tally_stop(y);
    mem_free(y);
}
FREE_AT(tally_free, struct tally)

static void tally_close(void *ctx)
{
    struct tally *y = ctx;

    transport_close(&y->inner);
    tally_free(y);
}

static void tally_limit(void *ctx, double seconds)
{
    transport_limit(&((struct tally *)ctx)->inner, seconds);
}

int tally_restart(struct tally *y, const void *start, size_t n)
{
    tally_stop(y);
    TRY(sha256_new(&y->sent));
    TRY(sha256_new(&y->received));
    TRY(sha256_add(y->sent, start, n));
    return sha256_add(y->received, start, n);
}

int tally_wrap(struct transport *t, const void *start, size_t n, struct tally **out)
{
    SCOPED(tally_free_at) struct tally *y = mem_array(1, sizeof *y);

    if (y == NULL)
        return ERR_NOMEM;
    TRY(tally_restart(y, start, n));
    y->inner = *t;
    *t = (struct transport){.send = tally_send,
                            .recv = tally_recv,
                            .flush = tally_flush,
                            .close = tally_close,
                            .limit = tally_limit,
                            .ctx = y,
                            .count = y->inner.count,
                            .last = y->inner.last};
    *out = mem_hand_on(&y);
    return 0;
}

int tally_digests(const struct tally *y, uint8_t sent[SHA256_SIZE], uint8_t received[SHA256_SIZE])
{
    TRY(sha256_peek(y->sent, sent));
    return sha256_peek(y->received, received);
}
