/*
 * The cost formulas of private inference (cost.h).
 *
 * gc, per comparison of m bits. Online: m labels of 16 bytes, two 8-byte ciphertexts, one 8-byte
 * answer. Offline: m-1 gates of 32 bytes; m transfers of 32 bits for the labels; one transfer and one
 * 8-byte message for the multiplexer.
 *
 * ot, q = (m-1)/4 digits of radix 16. Leaf: 32 bits a digit, 16 for the lowest. Merging q leaves
 * takes q-1 ANDs for "less" and q-1-levels for "equal", 2 bits a party each. Multiplexer and
 * re-share: 64+1 bits there, 1+64 back. Random OTs: 4 a digit, 2 an AND, 2 for the multiplexer, 31
 * bits each; 4 bits of choice a digit and one 8-byte message more. One-way messages: one a level, one
 * more where their number is odd, and two (andtree.h).
 *
 * Batches pack bits without gaps, so sizes are counted in bits; a batch rounds up a few times.
 */
#include "runtime/cost.h"

#include <math.h>

#include "runtime/linear_rlwe.h"

#define SECONDS_PER_MAC_ONLINE 0.225e-9 /* three limb products in doubles, one core, estimate */
#define SECONDS_PER_MAC_OFFLINE 0.7e-9  /* 64-bit integer product of the client, estimate */
#define RING_BYTES 8
/* rlwe, one core with AVX-512 IFMA, measured by tests/bench_rlwe (Sapphire Rapids, 2.3 GHz): encrypt
 * and receive; transform weights and multiply; answer and open. */
#define SECONDS_PER_UPLOAD 0.45e-3
#define SECONDS_PER_PRODUCT 0.10e-3
#define SECONDS_PER_ANSWER 0.91e-3

static const struct {
    const char *name;
    double online_s, offline_s; /* per comparison, both parties, tests/bench_relu on two cores */
} backends[COST_BACKENDS] = {
    [COST_GC] = {"gc", 0.8e-6, 1.95e-6},
    [COST_OT] = {"ot", 0.1e-6, 1.3e-6},
    [COST_DELPHI_GC] = {"delphi-gc", 26.5e-6, 30.5e-6},
};

const char *cost_backend_name(enum cost_backend b)
{
    return backends[b].name;
}

const struct cost_link *cost_links(void)
{
    static const struct cost_link links[] = {
        {"lan", 3e9, 0.3e-3}, {"wan", 400e6, 40e-3}, {NULL, 0, 0}};

    return links;
}

static int32_t ot_levels(int32_t digits)
{
    int32_t levels = 0;

    while ((1 << levels) < digits)
        levels++;
    return levels;
}

static int32_t ot_ands(int32_t digits)
{
    return 2 * (digits - 1) - ot_levels(digits);
}

static int64_t online_bits(enum cost_backend b, int32_t m)
{
    int32_t q = (m - 1) / 4;

    switch (b) {
    case COST_GC:
        return 8 * (16 * m + 24);
    case COST_OT:
        return 32 * (q - 1) + 16 + 4 * ot_ands(q) + 130;
    default:
        return 8 * 1193;
    }
}

static int64_t offline_bits(enum cost_backend b, int32_t m)
{
    int32_t q = (m - 1) / 4;

    switch (b) {
    case COST_GC:
        return 8 * (32 * (m - 1) + 4 * m + 4 + 8);
    case COST_OT:
        return 31 * (4 * q + 2 * ot_ands(q) + 2) + 4 * q + 64;
    default:
        return 8 * 19088;
    }
}

int64_t cost_online_bytes(enum cost_backend b, int32_t m)
{
    return (online_bits(b, m) + 7) / 8;
}

int64_t cost_offline_bytes(enum cost_backend b, int32_t m)
{
    return (offline_bits(b, m) + 7) / 8;
}

int32_t cost_flips(enum cost_backend b, int32_t m)
{
    int32_t levels = ot_levels((m - 1) / 4);

    return b == COST_OT ? levels + levels % 2 + 2 : 2;
}

/* One batch of `count` comparisons, `batches` times one after another. */
static void add_comparisons(struct plan_cost *c, enum cost_backend b, int64_t count, int32_t m,
                            int32_t batches)
{
    if (count == 0)
        return;
    c->online_bytes += (uint64_t)((count * online_bits(b, m) + 7) / 8);
    c->offline_relu_bytes += (uint64_t)((count * offline_bits(b, m) + 7) / 8);
    c->online_flips += (uint32_t)(batches * cost_flips(b, m));
    c->online_seconds += (double)count * backends[b].online_s;
    c->offline_relu_seconds += (double)count * backends[b].offline_s;
}

static void add_step(struct plan_cost *c, const struct plan *p, const struct plan_step *s,
                     enum cost_backend b)
{
    int64_t window;
    int32_t rounds = 0;

    switch (s->kind) {
    case PLAN_RELU:
        add_comparisons(c, b, s->u.relu.kept, s->u.relu.width, 1);
        break;
    case PLAN_MAX_POOL:
        window = s->u.pool.kernel[0] * s->u.pool.kernel[1];
        while (((int64_t)1 << rounds) < window)
            rounds++;
        add_comparisons(c, b, (window - 1) * p->tensor[s->out].count, s->u.pool.width, rounds);
        break;
    default:
        break;
    }
}

/* Steps follow one another, so each waits for its answer. */
static void add_linear(struct cost_linear *c, const struct plan *p, int32_t step,
                       enum cost_provider v)
{
    const struct plan_step *s = &p->step[step];
    struct linear_rlwe_count n;
    int64_t rows, columns;

    if (v == COST_RLWE && linear_rlwe_count(p, step, &n) == 0) {
        c->bytes += linear_rlwe_bytes(p, step, 1) + linear_rlwe_bytes(p, step, 0);
        c->seconds += (double)n.uploads * SECONDS_PER_UPLOAD +
                      (double)n.products * SECONDS_PER_PRODUCT +
                      (double)n.answers * SECONDS_PER_ANSWER;
        return;
    }
    plan_matrix_size(p, s, &rows, &columns);
    int64_t in = p->tensor[s->in[0]].count, out = p->tensor[s->out].count;
    c->bytes += (uint64_t)(RING_BYTES * (in + out)); /* delta up, c down */
    c->seconds += (double)columns * (double)out * SECONDS_PER_MAC_OFFLINE;
}

struct cost_linear cost_linear(const struct plan *p, enum cost_provider v,
                               const struct cost_link *link)
{
    struct cost_linear c = {0};

    for (int32_t i = 0; i < p->n_step; i++)
        if (p->step[i].kind == PLAN_CONV || p->step[i].kind == PLAN_GEMM) {
            add_linear(&c, p, i, v);
            c.seconds += link->rtt;
        }
    c.seconds += (double)c.bytes * 8 / link->bits_per_second;
    return c;
}

void cost_estimate(const struct plan *p, enum cost_backend b, const struct cost_link *link,
                   struct plan_cost *out)
{
    struct plan_cost c = {.backend = backends[b].name, .link = link->name};

    for (int32_t i = 0; i < p->n_step; i++)
        add_step(&c, p, &p->step[i], b);
    c.online_seconds += (double)p->macs * SECONDS_PER_MAC_ONLINE + c.online_flips * link->rtt / 2 +
                        (double)c.online_bytes * 8 / link->bits_per_second;
    c.offline_relu_seconds += (double)c.offline_relu_bytes * 8 / link->bits_per_second;
    struct cost_linear linear = cost_linear(p, COST_RLWE, link);
    c.offline_linear_bytes = linear.bytes;
    c.offline_linear_seconds = linear.seconds;
    *out = c;
}
