/*
 * The linear backend "rlwe" (rlwe_party.h): the client, and what both sides share. The server: rlwe_server.c.
 *
 *     open    server -> client   nonce (16)
 *             client -> server   seed (16), public key: one polynomial (40,960)
 *     step    client -> server   u32 step, u32 count; count polynomials (40,960 each)
 *             server -> client   u32 step, u32 count; count times: random half (32,768), then
 *                                8 bytes for each output the answer holds
 *
 * Integers are little-endian; counts follow from the layout (rlwe_layout.h) and are sent only so that
 * parties that disagree find out. The random halves of key and uploads are streams of seed and nonce, one
 * a polynomial and prime (rlwe_random): the key is polynomial 0 of call 0, a step is a call of its own.
 * The nonce is in them because the second half of an answer is hidden by the random half of the public
 * key, so the client must not be able to choose that. The client's key lives as long as the connection.
 *
 * The server sends nothing before it has read a whole step, so that both never wait for each other's
 * sending; but it computes the answers of a few bands (a tile, which shares transforms of weights) as
 * soon as they are there, while the client encrypts the next ones, and it keeps the ciphertexts of one
 * tile only (128 KiB a polynomial). So uploads come band by band, answers one output polynomial after
 * the other, of all bands each.
 * Polynomials travel in groups: one thread moves bytes, then all threads encrypt, unpack, multiply or
 * open the group. What is random about a polynomial or an answer is drawn before the threads start, of
 * a step's answers at its beginning, so neither threads nor tiles change a bit.
 */
#include "runtime/linear/rlwe_sides.h"

#include <string.h>

#include "core/base/buf.h"
#include "core/base/cpu.h"
#include "core/base/mem.h"

int64_t rlwe_tile(const struct rlwe_layout *l)
{
    int64_t fit = TILE_POLYS / l->in_polys;

    return min_i64(rlwe_layout_bands(l), min_i64(TILE, fit > 1 ? fit : 1));
}

/* ---- public facts ------------------------------------------------------------------------- */

int linear_rlwe_check(const struct plan *p)
{
    struct rlwe_parameters parameters = rlwe_parameters();
    struct rlwe_layout l;

    TRY(rlwe_parameters_check(&parameters));
    for (int32_t i = 0; i < p->n_step; i++)
        if (plan_is_linear(&p->step[i]))
            TRY(rlwe_layout_of(p, &p->step[i], 1, &l));
    return 0;
}

int linear_rlwe_count(const struct plan *p, int32_t step, int64_t lot,
                      struct linear_rlwe_count *out)
{
    struct rlwe_layout l;

    TRY(rlwe_layout_of(p, &p->step[step], lot, &l));
    int64_t bands = rlwe_layout_bands(&l);
    int64_t weights = l.in_polys * l.out_polys, most = rlwe_tile(&l);
    *out = (struct linear_rlwe_count){
        bands * l.in_polys, bands * l.out_polys, bands * weights, weights,
        rlwe_layout_constant(&l) ? 0 : weights * ((bands + most - 1) / most)};
    return 0;
}

uint64_t linear_rlwe_lot_bytes(const struct plan *p, int32_t step, int64_t lot, int from_client)
{
    struct linear_rlwe_count n;

    if (step < 0)
        return from_client ? PRG_SEED + RLWE_POLY_BYTES : PRG_SEED;
    if (!plan_is_linear(&p->step[step]) || linear_rlwe_count(p, step, lot, &n) < 0)
        return 0;
    if (from_client)
        return HEADER_BYTES + (uint64_t)n.uploads * RLWE_POLY_BYTES;
    return HEADER_BYTES + (uint64_t)n.answers * RLWE_HALF_BYTES +
           (uint64_t)(lot * p->tensor[p->step[step].out].count) * RLWE_ANSWER_BYTES;
}

uint64_t linear_rlwe_bytes(const struct plan *p, int32_t step, int from_client)
{
    return linear_rlwe_lot_bytes(p, step, 1, from_client);
}

/* ---- headers ------------------------------------------------------------------------------ */

static void make_header(uint8_t header[HEADER_BYTES], int32_t step, int64_t count)
{
    struct buf_writer w = buf_writer_in(header, HEADER_BYTES);

    buf_put_u32(&w, (uint32_t)step);
    buf_put_u32(&w, (uint32_t)count);
}

int rlwe_send_header(struct rlwe_party *y, int32_t step, int64_t count)
{
    uint8_t header[HEADER_BYTES];

    make_header(header, step, count);
    return transport_send(y->t, header, sizeof header);
}

int rlwe_receive_header(struct rlwe_party *y, int32_t step, int64_t count)
{
    uint8_t header[HEADER_BYTES], want[HEADER_BYTES];

    make_header(want, step, count);
    TRY(transport_recv(y->t, header, sizeof header));
    if (memcmp(header, want, sizeof header) != 0)
        return fail(
            ERR_PEER,
            "linear step '%s': the peer's message is of another step or has another number of ciphertexts than the %lld of the plan",
            y->plan->step[step].name, (long long)count);
    return 0;
}

/* ---- both --------------------------------------------------------------------------------- */

static void drop_cache(struct rlwe_party *y)
{
    for (int32_t i = 0; y->cache != NULL && i < y->plan->n_step; i++) {
        secret_free(y->cache[i].w);
        rlwe_direct_free(y->cache[i].direct);
        y->cache[i] = (struct weight_cache){0};
    }
    y->cache_left = y->cache_limit;
}

void rlwe_party_close(void *ctx)
{
    struct rlwe_party *y = ctx;

    if (y == NULL)
        return;
    drop_cache(y);
    mem_free(y->cache);
    mem_free(y->key);
    mem_free(y->key_a);
    rlwe_secret_free(y->secret);
    rlwe_free(y->rlwe);
    mem_free(y->layout);
    mem_free(y);
}

int rlwe_party_use_lot(struct rlwe_party *y, int64_t lot)
{
    if (y->lot == lot)
        return 0;
    drop_cache(y);
    y->lot = 0;
    for (int32_t i = 0; i < y->plan->n_step; i++)
        if (plan_is_linear(&y->plan->step[i]))
            TRY(rlwe_layout_of(y->plan, &y->plan->step[i], lot, &y->layout[i]));
    y->lot = lot;
    return 0;
}

int rlwe_party_new(const struct plan *p, struct transport *t, struct prg *rng,
                   struct rlwe_party **out)
{
    SCOPED(rlwe_party_close_at) struct rlwe_party *y = NULL;

    TRY(linear_rlwe_check(p));
    if ((y = mem_array(1, sizeof *y)) == NULL)
        return ERR_NOMEM;
    *y = (struct rlwe_party){.plan = p, .t = t, .rng = rng};
    TRY(rlwe_new(ntt_best_path(), &y->rlwe));
    if ((y->layout = mem_array((size_t)p->n_step, sizeof *y->layout)) == NULL)
        return ERR_NOMEM;
    *out = mem_hand_on(&y);
    return 0;
}

int rlwe_crew_run(const struct rlwe_crew *c, int64_t n)
{
    int64_t failed = n;

#pragma omp parallel for schedule(static) num_threads(c->threads) reduction(min : failed)
    for (int64_t i = 0; i < n; i++)
        if (c->work(c->ctx, i, cpu_thread_index()) < 0)
            failed = i < failed ? i : failed;
    return failed < n ? c->work(c->ctx, failed, 0) : 0;
}

int rlwe_crew_size(int64_t items)
{
    return (int64_t)cpu_threads() < items ? cpu_threads() : (int)items;
}

/* ---- client: uploads ---------------------------------------------------------------------- */

struct upload {
    uint64_t m[RLWE_N]; /* secret */
    uint64_t a[RLWE_PRIMES][RLWE_N], c[RLWE_PRIMES][RLWE_N];
};

/* to := bytes of an encryption of m, or of 0, as polynomial `poly` of call `call`. */
static int encrypt(const struct rlwe_party *y, struct upload *u, uint64_t call, uint32_t poly,
                   const uint64_t *m, const uint8_t seed[PRG_SEED], uint8_t *to)
{
    SCOPED(prg_free_at) struct prg *rng = NULL;

    TRY(prg_new(seed, &rng));
    TRY(rlwe_random(y->rlwe, y->stream, call, poly, u->a[0]));
    TRY(rlwe_encrypt(y->rlwe, y->secret, u->a[0], m, rng, u->c[0]));
    rlwe_pack(to, u->c[0]);
    return 0;
}

struct uploads { /* a group of a step's polynomials */
    const struct rlwe_party *y;
    const struct rlwe_layout *layout;
    const uint64_t *r;
    int64_t first;
    struct upload *scratch; /* one a thread */
    uint8_t (*seed)[PRG_SEED];
    uint8_t (*bytes)[RLWE_POLY_BYTES];
};

static void uploads_release(struct uploads *g)
{
    secret_free(g->scratch);
    secret_free(g->seed);
    mem_free(g->bytes);
}

static int encrypt_item(void *ctx, int64_t item, int thread)
{
    const struct uploads *g = ctx;
    struct upload *u = &g->scratch[thread];
    int64_t poly = g->first + item, per_band = g->layout->in_polys;

    rlwe_layout_input(g->layout, poly / per_band, poly % per_band, g->r, u->m);
    return encrypt(g->y, u, g->y->call, (uint32_t)poly, u->m, g->seed[item], g->bytes[item]);
}

static int send_group(struct rlwe_party *y, struct uploads *g, const struct rlwe_crew *c, int64_t n)
{
    prg_bytes(y->rng, g->seed, (size_t)n * sizeof *g->seed);
    TRY(rlwe_crew_run(c, n));
    for (int64_t i = 0; i < n; i++)
        TRY(transport_send(y->t, g->bytes[i], sizeof g->bytes[i]));
    return 0;
}

static int send_operand(struct rlwe_party *y, int32_t step, const uint64_t *r)
{
    const struct rlwe_layout *l = &y->layout[step];
    int64_t polys = rlwe_layout_bands(l) * l->in_polys, room = min_i64(polys, GROUP);
    SCOPED(uploads_release) struct uploads g = {.y = y, .layout = l, .r = r};
    struct rlwe_crew c = {encrypt_item, &g, rlwe_crew_size(room)};

    g.scratch = secret_array((size_t)c.threads, sizeof *g.scratch);
    g.seed = secret_array((size_t)room, sizeof *g.seed);
    g.bytes = mem_array((size_t)room, sizeof *g.bytes);
    if (g.scratch == NULL || g.seed == NULL || g.bytes == NULL)
        return ERR_NOMEM;
    TRY(rlwe_send_header(y, step, polys));
    for (; g.first < polys; g.first += room)
        TRY(send_group(y, &g, &c, min_i64(room, polys - g.first)));
    return 0;
}

/* ---- client: answers ---------------------------------------------------------------------- */

struct download { /* an answer and where its numbers go */
    int32_t place[RLWE_N];
    int64_t element[RLWE_N];
    uint64_t u[RLWE_N];
};
struct downloads { /* a group of a step's answers */
    const struct rlwe_party *y;
    const struct rlwe_layout *layout;
    uint64_t *u;
    int64_t first;
    struct download *scratch; /* one a thread */
    uint8_t (*bytes)[ANSWER_ROOM];
};

static int open_item(void *ctx, int64_t item, int thread)
{
    const struct downloads *g = ctx;
    struct download *d = &g->scratch[thread];
    const uint8_t *bytes = g->bytes[item];
    int64_t answer = g->first + item, bands = rlwe_layout_bands(g->layout);
    int64_t n =
        rlwe_layout_outputs(g->layout, answer % bands, answer / bands, d->place, d->element);

    TRY(rlwe_open(g->y->rlwe, g->y->secret, bytes, bytes + RLWE_HALF_BYTES, d->place, n, d->u));
    for (int64_t k = 0; k < n; k++)
        g->u[d->element[k]] = d->u[k];
    return 0;
}

static int receive_group(struct rlwe_party *y, struct downloads *g, const struct rlwe_crew *c,
                         int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t answer = g->first + i, bands = rlwe_layout_bands(g->layout);
        int64_t outputs = rlwe_layout_count(g->layout, answer % bands, answer / bands);
        TRY(transport_recv(y->t, g->bytes[i],
                           RLWE_HALF_BYTES + (size_t)outputs * RLWE_ANSWER_BYTES));
    }
    return rlwe_crew_run(c, n);
}

static int receive_result(struct rlwe_party *y, int32_t step, uint64_t *u)
{
    const struct rlwe_layout *l = &y->layout[step];
    int64_t answers = rlwe_layout_bands(l) * l->out_polys, room = min_i64(answers, GROUP);
    const int threads = rlwe_crew_size(room);
    SECRET struct download *scratch = secret_array((size_t)threads, sizeof *scratch);
    OWNED uint8_t(*bytes)[ANSWER_ROOM] = mem_array((size_t)room, sizeof *bytes);
    struct downloads g = {.y = y, .layout = l, .u = u, .scratch = scratch, .bytes = bytes};
    const struct rlwe_crew c = {open_item, &g, threads};

    if (scratch == NULL || bytes == NULL)
        return ERR_NOMEM;
    TRY(rlwe_receive_header(y, step, answers));
    for (; g.first < answers; g.first += room)
        TRY(receive_group(y, &g, &c, min_i64(room, answers - g.first)));
    return 0;
}

static int client_step(void *ctx, int32_t step, int64_t images, const uint64_t *r, uint64_t *u)
{
    struct rlwe_party *y = ctx;

    TRY(rlwe_party_use_lot(y, images));
    y->call++;
    TRY(send_operand(y, step, r));
    return receive_result(y, step, u);
}

/* ---- client: opening ---------------------------------------------------------------------- */

/* Seed, nonce, and a new secret. */
static int start_client(struct rlwe_party *y)
{
    prg_bytes(y->rng, y->stream, PRG_SEED);
    TRY(transport_recv(y->t, y->stream + PRG_SEED, PRG_SEED));
    TRY(rlwe_secret_new(y->rlwe, y->rng, &y->secret));
    return transport_send(y->t, y->stream, PRG_SEED);
}

static int send_key(struct rlwe_party *y)
{
    SECRET struct upload *u = secret_array(1, sizeof *u);
    SECRET uint8_t *seed = secret_array(PRG_SEED, 1);
    OWNED uint8_t *bytes = mem_array(RLWE_POLY_BYTES, 1);

    if (u == NULL || seed == NULL || bytes == NULL)
        return ERR_NOMEM;
    TRY(start_client(y));
    prg_bytes(y->rng, seed, PRG_SEED);
    TRY(encrypt(y, u, 0, 0, NULL, seed, bytes));
    TRY(transport_send(y->t, bytes, RLWE_POLY_BYTES));
    return transport_flush(y->t);
}

int linear_rlwe_client(const struct plan *p, struct transport *t, struct prg *rng,
                       struct linear_party *out)
{
    SCOPED(rlwe_party_close_at) struct rlwe_party *y = NULL;

    TRY(rlwe_party_new(p, t, rng, &y));
    TRY(send_key(y));
    *out = (struct linear_party){
        .ctx = mem_hand_on(&y), .client = client_step, .close = rlwe_party_close};
    return 0;
}

/* ---- what others ask ---------------------------------------------------------------------- */

static int rlwe_party_open(const struct linear_setup *o, struct linear_party *out)
{
    const struct prepared *m = o->prepared;

    if (o->client)
        return linear_rlwe_client(m->plan, o->t, o->rng, out);
    return linear_rlwe_server(m->plan, m->weights, o->t, o->rng, LINEAR_RLWE_CACHE, out);
}

/* Best times of parts on one core of a Xeon at work for others too (tests/bench_rlwe.c); to be fitted
 * again, with both parties on it, on a quiet machine. */
enum { UPLOAD, ANSWER, PRODUCT, TRANSFORM, FRESH_BYTE };
static const struct linear_constant constants[] = {
    [UPLOAD] = {"upload", 0.125e-3},       /* a polynomial: encrypted, read */
    [ANSWER] = {"answer", 0.165e-3},       /* made, opened */
    [PRODUCT] = {"product", 0.006e-3},     /* of an upload and transformed weights */
    [TRANSFORM] = {"transform", 0.016e-3}, /* of the weights of a product */
    [FRESH_BYTE] = {"fresh_byte", 0.4e-9}, /* of memory touched for the first time */
    {0}};

/* Steps follow one another, so each waits for its answer. The first image of a connection transforms
 * weights and drops them, the second one keeps those that fit into the cache, for all that follow. */
static int rlwe_work(const struct plan *p, int64_t images, struct linear_work *out)
{
    size_t left = LINEAR_RLWE_CACHE, weight = RLWE_POLY_WORDS * sizeof(uint64_t);

    *out = (struct linear_work){0};
    TRY(linear_rlwe_check(p));
    for (int32_t i = 0; i < p->n_step; i++) {
        struct linear_rlwe_count n;
        double transforms;
        if (!plan_is_linear(&p->step[i]))
            continue;
        TRY(linear_rlwe_count(p, i, 1, &n));
        transforms = (double)n.transforms;
        if (images > 1 && (size_t)n.weights <= left / weight) {
            left -= (size_t)n.weights * weight;
            transforms = (double)(n.transforms + n.weights) / (double)images;
            out->own[FRESH_BYTE] += (double)n.weights * (double)weight / (double)images;
        }
        out->round_trips++;
        out->bytes += (double)(linear_rlwe_bytes(p, i, 1) + linear_rlwe_bytes(p, i, 0));
        out->own[UPLOAD] += (double)n.uploads;
        out->own[ANSWER] += (double)n.answers;
        out->own[PRODUCT] += (double)n.products;
        out->own[TRANSFORM] += transforms;
    }
    return 0;
}

const struct linear_backend linear_rlwe = {
    .code = 2,
    .name = "rlwe",
    .text = "ring-LWE, no third party",
    .constant = constants,
    .check = linear_rlwe_check,
    .bytes = linear_rlwe_lot_bytes,
    .work = rlwe_work,
    .open = rlwe_party_open,
};
