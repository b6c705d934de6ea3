/* The open backend (plain_relu.h). State of the client: u, then r, [payloads][n] each. */
#include "tests/plain_relu.h"

#include <string.h>

static size_t words(const struct relu_batch *b)
{
    return (size_t)(b->n * b->payloads);
}

static size_t state_size(const struct relu_batch *b, int is_client)
{
    return is_client ? 2 * words(b) * sizeof(uint64_t) : 8;
}

static uint64_t offline_bytes(const struct relu_batch *b, int from_client)
{
    (void)b;
    return from_client ? 0 : 8;
}

static uint64_t online_bytes(const struct relu_batch *b, int from_client)
{
    (void)from_client;
    return words(b) * sizeof(uint64_t);
}

static uint64_t open_bytes(int from_client, bool tagged)
{
    (void)tagged;
    (void)from_client;
    return 0;
}

static int open_party(int is_client, const uint8_t sid[HASH_SID], const struct relu_ways *ways,
                      struct transport *t, struct prg *rng, struct relu_party **out)
{
    (void)sid;
    (void)ways;
    (void)is_client;
    (void)rng;
    *out = (struct relu_party *)t;
    return 0;
}

static void close_party(struct relu_party *p)
{
    (void)p;
}

static int offline_server(struct relu_party *p, const struct relu_batch *b, struct tape *state)
{
    tape_put(state, &b->tweak, sizeof b->tweak);
    TRY(transport_send((struct transport *)p, &b->tweak, sizeof b->tweak));
    return transport_flush((struct transport *)p);
}

static int offline_client(struct relu_party *p, const struct relu_batch *b, const uint64_t *u,
                          const uint64_t *r, struct tape *state)
{
    size_t size = words(b) * sizeof *u;
    uint64_t tweak;

    TRY(transport_recv((struct transport *)p, &tweak, sizeof tweak));
    if (tweak != b->tweak)
        return fail(ERR_PEER, "batches differ");
    tape_put(state, u, size);
    tape_put(state, r, size);
    return 0;
}

static int online_server(struct transport *t, const struct relu_batch *b, struct tape *state,
                         uint64_t at, const uint64_t *x, uint64_t *z)
{
    uint64_t tweak;

    TRY(tape_take(state, at, &tweak, sizeof tweak));
    if (tweak != b->tweak)
        return fail(ERR_PEER, "a state of another batch");
    TRY(transport_send(t, x, words(b) * sizeof *x));
    return transport_recv(t, z, words(b) * sizeof *z);
}

static int online_client(struct transport *t, const struct relu_batch *b, struct tape *state,
                         uint64_t at)
{
    size_t n = words(b);
    uint64_t *x = secret_array(3 * n, sizeof *x), *u = x + n, *r = u + n;
    int rc;

    if (x == NULL)
        return ERR_NOMEM;
    if ((rc = tape_take(state, at, u, 2 * n * sizeof *u)) == 0 &&
        (rc = transport_recv(t, x, n * sizeof *x)) == 0) {
        for (size_t i = 0; i < n; i++)
            x[i] += u[i];
        for (size_t i = n; i-- > 0;)
            r[i] = (x[i % (size_t)b->n] >> (b->width - 1) & 1 ? 0 : x[i]) - r[i];
        if ((rc = transport_send(t, r, n * sizeof *r)) == 0)
            rc = transport_flush(t);
    }
    secret_free(x);
    return rc;
}

/* Code 1: a client that is told to take no other backend takes it from a server that offers it. */
const struct relu_backend plain_relu = {.code = 1,
                                        .name = "plain",
                                        .state_size = state_size,
                                        .offline_bytes = offline_bytes,
                                        .online_bytes = online_bytes,
                                        .open_bytes = open_bytes,
                                        .open = open_party,
                                        .close = close_party,
                                        .offline_server = offline_server,
                                        .offline_client = offline_client,
                                        .online_server = online_server,
                                        .online_client = online_client};
