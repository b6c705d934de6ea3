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
#include "runtime/cost/cost.h"

#include <math.h>

#include "runtime/linear/rlwe_party.h"

#define RING_BYTES 8

static const char *const backend_names[COST_BACKENDS] = {
    [COST_GC] = "gc", [COST_OT] = "ot", [COST_DELPHI_GC] = "delphi-gc"};

const struct cost_machine *cost_machine_default(void)
{
    /* `linnet-pi bench -v` on two cores of an AMD EPYC with AVX-512 (Zen 4), November 2026 */
    static const struct cost_machine machine = {
        .comparison = {[COST_GC] = {.online_batch = 30e-6,
                                    .online = 0.56e-6,
                                    .offline_batch = 180e-6,
                                    .offline = 1.5e-6},
                       [COST_OT] = {.online_batch = 75e-6,
                                    .online = 0.043e-6,
                                    .offline_batch = 170e-6,
                                    .offline = 1.35e-6},
                       [COST_DELPHI_GC] = {.online = 26.5e-6, .offline = 30.5e-6}},
        .upload = 0.53e-3,
        .product = 0.04e-3,
        .transform = 0.04e-3,
        .answer = 0.7e-3,
        .fresh = 0.4e-9,
        .byte = 0.35e-9,
        .mac = 0.078e-9,
        .cell = 2.0e-9,
        .word_mac = 0.086e-9,
        .claim = 4e-3,
        .file_byte = 1.9e-9,
        .element = 0.5e-9,
    };

    return &machine;
}
const char *cost_backend_name(enum cost_backend b)
{
    return backend_names[b];
}

const struct cost_link *cost_links(void)
{
    static const struct cost_link links[] = {
        {"lan", 3e9, 0.3e-3}, {"wan", 400e6, 40e-3}, {NULL, 0, 0}};

    return links;
}

const struct cost_link *cost_loopback(void)
{
    static const struct cost_link loopback = {"loopback", 1e15, 0};

    return &loopback;
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

/* ---- comparisons -------------------------------------------------------------------------- */

static double most(double a, double b)
{
    return a > b ? a : b;
}

static double transfer(int64_t bits, const struct cost_link *l)
{
    return (double)bits / l->bits_per_second;
}

/* One batch of `count` comparisons, `batches` times one after another. */
static void add_comparisons(struct plan_cost *c, const struct cost_case *k, int64_t count,
                            int32_t m, int32_t batches)
{
    const struct cost_comparison *t = &k->machine->comparison[k->backend];
    int64_t on = count * online_bits(k->backend, m), off = count * offline_bits(k->backend, m);
    double wide_on =
        (double)online_bits(k->backend, m) / (double)online_bits(k->backend, COST_WIDTH);
    double wide_off =
        (double)offline_bits(k->backend, m) / (double)offline_bits(k->backend, COST_WIDTH);
    int32_t flips = cost_flips(k->backend, m);

    if (count == 0)
        return;
    c->online_bytes += (uint64_t)((on + 7) / 8);
    c->offline_relu_bytes += (uint64_t)((off + 7) / 8);
    c->online_flips += (uint32_t)(batches * flips);
    c->online_seconds += batches * (t->online_batch + flips * k->link->rtt / 2) +
                         most(transfer(on, k->link), (double)count * wide_on * t->online);
    c->offline_relu_seconds += batches * (t->offline_batch + k->link->rtt) +
                               most(transfer(off, k->link), (double)count * wide_off * t->offline);
}

/* ---- linear steps ------------------------------------------------------------------------- */

/* Steps follow one another, so each waits for its answer. *cache: bytes left for transformed weights,
 * which later images of the connection find. */
static bool add_rlwe(struct plan_cost *c, const struct cost_case *k, const struct plan *p,
                     int32_t step, uint64_t *cache)
{
    const struct cost_machine *m = k->machine;
    struct linear_rlwe_count n;
    double images = (double)k->images, transforms, fresh = 0;
    uint64_t bytes, kept;

    if (linear_rlwe_count(p, step, 1, &n) < 0)
        return false;
    bytes = linear_rlwe_bytes(p, step, 1) + linear_rlwe_bytes(p, step, 0);
    kept = (uint64_t)n.weights * LINEAR_RLWE_WEIGHT_BYTES;
    transforms = (double)n.products;
    if (kept <= *cache) {
        *cache -= kept;
        transforms = (double)n.weights / images;
        fresh = (double)kept / images * m->fresh;
    }
    c->offline_linear_bytes += bytes;
    c->offline_linear_seconds += k->link->rtt + transfer(8 * (int64_t)bytes, k->link) +
                                 (double)n.uploads * m->upload + (double)n.products * m->product +
                                 transforms * m->transform + fresh + (double)n.answers * m->answer;
    return true;
}

/* A product of `out` numbers, as convolutions count. */
struct product {
    double macs, cells, in, out;
};

static struct product product_of(const struct plan *p, const struct plan_step *s)
{
    int64_t rows, columns, in = p->tensor[s->in[0]].count, out = p->tensor[s->out].count;

    plan_matrix_size(p, s, &rows, &columns);
    return (struct product){.macs = (double)columns * (double)out,
                            .cells =
                                (double)(columns * s->u.linear.group) * (double)out / (double)rows,
                            .in = (double)in,
                            .out = (double)out};
}

/* delta up, c from a file; the client's product and the server's share one machine. */
static void add_dealer(struct plan_cost *c, const struct cost_case *k, const struct product *x)
{
    const struct cost_machine *m = k->machine;
    double bytes = RING_BYTES * x->in;

    c->offline_linear_bytes += (uint64_t)bytes;
    c->offline_linear_seconds += x->macs * (m->word_mac + m->mac) + x->cells * m->cell +
                                 bytes * m->byte + RING_BYTES * x->out * m->file_byte +
                                 8 * bytes / k->link->bits_per_second;
}

static void add_linear(struct plan_cost *c, const struct cost_case *k, const struct plan *p,
                       int32_t step, uint64_t *cache)
{
    struct product x = product_of(p, &p->step[step]);

    c->online_seconds += x.macs * k->machine->mac + x.cells * k->machine->cell;
    if (k->provider != COST_RLWE || !add_rlwe(c, k, p, step, cache))
        add_dealer(c, k, &x);
}

/* ---- the whole ---------------------------------------------------------------------------- */

static void add_step(struct plan_cost *c, const struct cost_case *k, const struct plan *p,
                     int32_t step, uint64_t *cache)
{
    const struct plan_step *s = &p->step[step];
    int64_t window;
    int32_t rounds = 0;

    c->online_seconds += (double)p->tensor[s->out].count * k->machine->element;
    switch (s->kind) {
    case PLAN_CONV:
    case PLAN_GEMM:
        add_linear(c, k, p, step, cache);
        break;
    case PLAN_RELU:
        add_comparisons(c, k, s->u.relu.kept, s->u.relu.width, 1);
        break;
    case PLAN_MAX_POOL:
        window = s->u.pool.kernel[0] * s->u.pool.kernel[1];
        while (((int64_t)1 << rounds) < window)
            rounds++;
        add_comparisons(c, k, (window - 1) * p->tensor[s->out].count, s->u.pool.width, rounds);
        break;
    default:
        break;
    }
}

void cost_estimate(const struct plan *p, const struct cost_case *k, struct plan_cost *out)
{
    struct plan_cost c = {.backend = backend_names[k->backend], .link = k->link->name};
    struct cost_case full = *k;
    uint64_t cache = LINEAR_RLWE_CACHE;

    full.machine = k->machine != NULL ? k->machine : cost_machine_default();
    full.images = k->images > 0 ? k->images : 1;
    c.online_seconds = k->link->rtt; /* image there, result back */
    if (k->provider == COST_DEALER)  /* both parties claim their file; its number there and back */
        c.offline_linear_seconds = 2 * full.machine->claim + k->link->rtt;
    for (int32_t i = 0; i < p->n_step; i++)
        add_step(&c, &full, p, i, &cache);
    *out = c;
}
