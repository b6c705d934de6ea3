/*
 * Both sides of the linear backend "rlwe" (rlwe_party.h).
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
#include "runtime/linear/rlwe_party.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/base/buf.h"
#include "core/base/cpu.h"
#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "runtime/crypto/rlwe.h"
#include "runtime/linear/rlwe_direct.h"
#include "runtime/linear/rlwe_layout.h"

#define HEADER_BYTES 8
#define GROUP 32            /* polynomials or answers that are moved, then worked on, at a time */
#define AT_ONCE (4 * GROUP) /* answers whose products without transforms are made at a time */
#define TILE 8              /* bands that share a transform of weights at the server */
#define TILE_POLYS 1024     /* uploads that it keeps for that at most: 128 MiB */
#define ANSWER_ROOM (RLWE_HALF_BYTES + (size_t)RLWE_N * RLWE_ANSWER_BYTES)

struct weight_cache {
    uint64_t *w;  /* [in][out][RLWE_PRIMES][RLWE_N], NULL where it did not fit or is not made yet */
    int64_t uses; /* of the step, since the layouts were made */
    struct rlwe_direct
        *direct; /* of a step whose products need no transforms; made when first used */
};
struct party {
    const struct plan *plan;
    struct transport *t;
    struct prg *rng;           /* secrets */
    uint8_t stream[RLWE_SEED]; /* of the random halves: the client's seed, the server's nonce */
    uint64_t call;             /* linear steps done on this connection */
    struct rlwe *rlwe;
    struct rlwe_layout *layout; /* one a step, zeros where it is not linear */
    int64_t lot;                /* images that they are for */
    /* client */
    struct rlwe_secret *secret;
    /* server */
    const struct plan_weights *weights;
    uint64_t *key, *key_a;
    struct weight_cache *cache; /* one a step */
    size_t cache_limit, cache_left;
};

/* Bands that are worked on together. */
static int64_t tile_of(const struct rlwe_layout *l)
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
    int64_t weights = l.in_polys * l.out_polys, most = tile_of(&l);
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

static int send_header(struct party *y, int32_t step, int64_t count)
{
    uint8_t header[HEADER_BYTES];

    make_header(header, step, count);
    return transport_send(y->t, header, sizeof header);
}

static int receive_header(struct party *y, int32_t step, int64_t count)
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

static void drop_cache(struct party *y)
{
    for (int32_t i = 0; y->cache != NULL && i < y->plan->n_step; i++) {
        secret_free(y->cache[i].w);
        rlwe_direct_free(y->cache[i].direct);
        y->cache[i] = (struct weight_cache){0};
    }
    y->cache_left = y->cache_limit;
}

static void close_party(void *ctx)
{
    struct party *y = ctx;

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

/* Layouts of a lot; those of another one, and weights transformed for them, go. */
static int use_lot(struct party *y, int64_t lot)
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

static int open_party(const struct plan *p, struct transport *t, struct prg *rng,
                      struct party **out)
{
    struct party *y;
    int rc;

    TRY(linear_rlwe_check(p));
    if ((y = mem_array(1, sizeof *y)) == NULL)
        return ERR_NOMEM;
    *y = (struct party){.plan = p, .t = t, .rng = rng};
    if ((rc = rlwe_new(ntt_best_path(), &y->rlwe)) < 0)
        goto out;
    if ((y->layout = mem_array((size_t)p->n_step, sizeof *y->layout)) == NULL) {
        rc = ERR_NOMEM;
        goto out;
    }
    *out = y;
    y = NULL;
out:
    close_party(y);
    return rc;
}

/* Work on `n` of something by several threads; messages of failures are a thread's own, so the first
 * item that failed is done again on this thread. */
struct crew {
    int (*work)(void *ctx, int64_t item, int thread);
    void *ctx;
    int threads;
};

static int crew_run(const struct crew *c, int64_t n)
{
    int64_t failed = n;

#pragma omp parallel for schedule(static) num_threads(c->threads) reduction(min : failed)
    for (int64_t i = 0; i < n; i++)
        if (c->work(c->ctx, i, cpu_thread_index()) < 0)
            failed = i < failed ? i : failed;
    return failed < n ? c->work(c->ctx, failed, 0) : 0;
}

static int crew_size(int64_t items)
{
    return (int64_t)cpu_threads() < items ? cpu_threads() : (int)items;
}

/* ---- client: uploads ---------------------------------------------------------------------- */

struct upload {
    uint64_t m[RLWE_N]; /* secret */
    uint64_t a[RLWE_PRIMES][RLWE_N], c[RLWE_PRIMES][RLWE_N];
};

/* to := bytes of an encryption of m, or of 0, as polynomial `poly` of call `call`. */
static int encrypt(const struct party *y, struct upload *u, uint64_t call, uint32_t poly,
                   const uint64_t *m, const uint8_t seed[PRG_SEED], uint8_t *to)
{
    struct prg *rng = NULL;
    int rc;

    TRY(prg_new(seed, &rng));
    if ((rc = rlwe_random(y->rlwe, y->stream, call, poly, u->a[0])) == 0 &&
        (rc = rlwe_encrypt(y->rlwe, y->secret, u->a[0], m, rng, u->c[0])) == 0)
        rlwe_pack(to, u->c[0]);
    prg_free(rng);
    return rc;
}

struct uploads { /* a group of a step's polynomials */
    const struct party *y;
    const struct rlwe_layout *layout;
    const uint64_t *r;
    int64_t first;
    struct upload *scratch; /* one a thread */
    uint8_t (*seed)[PRG_SEED];
    uint8_t (*bytes)[RLWE_POLY_BYTES];
};

static int encrypt_item(void *ctx, int64_t item, int thread)
{
    const struct uploads *g = ctx;
    struct upload *u = &g->scratch[thread];
    int64_t poly = g->first + item, per_band = g->layout->in_polys;

    rlwe_layout_input(g->layout, poly / per_band, poly % per_band, g->r, u->m);
    return encrypt(g->y, u, g->y->call, (uint32_t)poly, u->m, g->seed[item], g->bytes[item]);
}

static int send_group(struct party *y, struct uploads *g, const struct crew *c, int64_t n)
{
    prg_bytes(y->rng, g->seed, (size_t)n * sizeof *g->seed);
    TRY(crew_run(c, n));
    for (int64_t i = 0; i < n; i++)
        TRY(transport_send(y->t, g->bytes[i], sizeof g->bytes[i]));
    return 0;
}

static int send_operand(struct party *y, int32_t step, const uint64_t *r)
{
    const struct rlwe_layout *l = &y->layout[step];
    int64_t polys = rlwe_layout_bands(l) * l->in_polys, room = min_i64(polys, GROUP);
    struct uploads g = {.y = y, .layout = l, .r = r};
    struct crew c = {encrypt_item, &g, crew_size(room)};
    int rc = ERR_NOMEM;

    g.scratch = secret_array((size_t)c.threads, sizeof *g.scratch);
    g.seed = secret_array((size_t)room, sizeof *g.seed);
    g.bytes = mem_array((size_t)room, sizeof *g.bytes);
    if (g.scratch != NULL && g.seed != NULL && g.bytes != NULL)
        rc = send_header(y, step, polys);
    for (; rc == 0 && g.first < polys; g.first += room)
        rc = send_group(y, &g, &c, min_i64(room, polys - g.first));
    secret_free(g.scratch);
    secret_free(g.seed);
    mem_free(g.bytes);
    return rc;
}

/* ---- client: answers ---------------------------------------------------------------------- */

struct download { /* an answer and where its numbers go */
    int32_t place[RLWE_N];
    int64_t element[RLWE_N];
    uint64_t u[RLWE_N];
};
struct downloads { /* a group of a step's answers */
    const struct party *y;
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

static int receive_group(struct party *y, struct downloads *g, const struct crew *c, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t answer = g->first + i, bands = rlwe_layout_bands(g->layout);
        int64_t outputs = rlwe_layout_count(g->layout, answer % bands, answer / bands);
        TRY(transport_recv(y->t, g->bytes[i],
                           RLWE_HALF_BYTES + (size_t)outputs * RLWE_ANSWER_BYTES));
    }
    return crew_run(c, n);
}

static int receive_result(struct party *y, int32_t step, uint64_t *u)
{
    const struct rlwe_layout *l = &y->layout[step];
    int64_t answers = rlwe_layout_bands(l) * l->out_polys, room = min_i64(answers, GROUP);
    struct downloads g = {.y = y, .layout = l, .u = u};
    struct crew c = {open_item, &g, crew_size(room)};
    int rc = ERR_NOMEM;

    g.scratch = secret_array((size_t)c.threads, sizeof *g.scratch);
    g.bytes = mem_array((size_t)room, sizeof *g.bytes);
    if (g.scratch != NULL && g.bytes != NULL)
        rc = receive_header(y, step, answers);
    for (; rc == 0 && g.first < answers; g.first += room)
        rc = receive_group(y, &g, &c, min_i64(room, answers - g.first));
    secret_free(g.scratch);
    mem_free(g.bytes);
    return rc;
}

static int client_step(void *ctx, int32_t step, int64_t images, const uint64_t *r, uint64_t *u)
{
    struct party *y = ctx;

    TRY(use_lot(y, images));
    y->call++;
    TRY(send_operand(y, step, r));
    return receive_result(y, step, u);
}

/* ---- client: opening ---------------------------------------------------------------------- */

/* Seed, nonce, and a new secret. */
static int start_client(struct party *y)
{
    prg_bytes(y->rng, y->stream, PRG_SEED);
    TRY(transport_recv(y->t, y->stream + PRG_SEED, PRG_SEED));
    TRY(rlwe_secret_new(y->rlwe, y->rng, &y->secret));
    return transport_send(y->t, y->stream, PRG_SEED);
}

static int send_key(struct party *y)
{
    struct upload *u = secret_array(1, sizeof *u);
    uint8_t *bytes = mem_array(RLWE_POLY_BYTES, 1), seed[PRG_SEED];
    int rc = ERR_NOMEM;

    if (u == NULL || bytes == NULL || (rc = start_client(y)) < 0)
        goto out;
    prg_bytes(y->rng, seed, sizeof seed);
    if ((rc = encrypt(y, u, 0, 0, NULL, seed, bytes)) == 0 &&
        (rc = transport_send(y->t, bytes, RLWE_POLY_BYTES)) == 0)
        rc = transport_flush(y->t);
    wipe(seed, sizeof seed);
out:
    secret_free(u);
    mem_free(bytes);
    return rc;
}

int linear_rlwe_client(const struct plan *p, struct transport *t, struct prg *rng,
                       struct linear_party *out)
{
    struct party *y = NULL;
    int rc;

    TRY(open_party(p, t, rng, &y));
    if ((rc = send_key(y)) < 0) {
        close_party(y);
        return rc;
    }
    *out = (struct linear_party){.ctx = y, .client = client_step, .close = close_party};
    return 0;
}

/* ---- server: weights ---------------------------------------------------------------------- */

/* Transformed weights of (in, out) modulo prime i: from the cache, or made in w. NULL for zeros. */
static const uint64_t *weights_of(const struct party *y, int32_t step, int64_t in, int64_t out,
                                  int i, int16_t *coefficient, uint64_t *w)
{
    const struct rlwe_layout *l = &y->layout[step];

    if (!rlwe_layout_reads(l, in, out))
        return NULL;
    if (y->cache[step].w != NULL)
        return y->cache[step].w +
               ((size_t)(in * l->out_polys + out) * RLWE_PRIMES + (size_t)i) * RLWE_N;
    (void)rlwe_layout_weight(l, y->weights->matrix[step].weight, in, out, coefficient);
    if (rlwe_layout_constant(l))
        rlwe_weight_constant(y->rlwe, i, coefficient[0], w);
    else
        rlwe_weight(y->rlwe, i, coefficient, w);
    return w;
}

struct scratch { /* of one thread */
    int16_t coefficient[RLWE_N];
    uint64_t w[NTT_BATCH][RLWE_N];
    int32_t place[RLWE_N];
    int64_t element[RLWE_N];
    uint64_t mask[RLWE_N];
};

/* ---- server: a step ----------------------------------------------------------------------- */

struct job {
    struct party *y;
    const struct rlwe_layout *layout;
    int32_t step;
    int64_t most;        /* bands in a tile */
    int64_t band, bands; /* first one of the tile at work, how many it has */
    int64_t first;       /* polynomial of the tile, or answer of it, that is first in a group */
    uint64_t *c, *a;     /* of one tile: [most][in_polys][RLWE_PRIMES][RLWE_N] */
    const uint64_t *s;   /* masks, by output of the step */
    int threads;
    struct rlwe_work **work;           /* one a thread and band of a tile */
    struct scratch *scratch;           /* one a thread */
    uint8_t (*seed)[PRG_SEED];         /* of answers, [out_polys][all bands] */
    uint8_t (*bytes)[RLWE_POLY_BYTES]; /* of a group */
    uint8_t (*answer)[ANSWER_ROOM];    /* of all bands */
    /* products without transforms, one band at a time; NULL: with them */
    const struct rlwe_direct *direct;
    uint8_t *digits, *panel; /* of the band's uploads; a thread's work */
    uint64_t *sum;           /* [AT_ONCE][2][RLWE_PRIMES][RLWE_N] */
};

/* Transforms the weights of a step for good, if they fit into what is left of the limit, when it comes
 * for the second time: whoever asks once does not pay for memory that is touched once. */
static void fill_cache(struct job *j)
{
    const struct rlwe_layout *l = j->layout;
    const int16_t *weight = j->y->weights->matrix[j->step].weight;
    struct weight_cache *cache = &j->y->cache[j->step];
    size_t pairs = (size_t)(l->in_polys * l->out_polys), size = RLWE_POLY_WORDS * sizeof(uint64_t);

    if (cache->uses != 2 || cache->direct != NULL || pairs > j->y->cache_left / size ||
        (cache->w = secret_array(pairs, size)) == NULL)
        return; /* a cache that cannot be had is none */
    j->y->cache_left -= pairs * size;
#pragma omp parallel for schedule(static) num_threads(j->threads)
    for (size_t pair = 0; pair < pairs; pair++) {
        int16_t *coefficient = j->scratch[cpu_thread_index()].coefficient;
        uint64_t *to = cache->w + pair * RLWE_POLY_WORDS;

        if (!rlwe_layout_weight(l, weight, (int64_t)pair / l->out_polys,
                                (int64_t)pair % l->out_polys, coefficient))
            continue;
        for (int i = 0; i < RLWE_PRIMES; i++)
            rlwe_weight(j->y->rlwe, i, coefficient, to + (size_t)i * RLWE_N);
    }
}

static void free_job(struct job *j)
{
    for (int64_t k = 0; j->work != NULL && k < j->threads * j->most; k++)
        rlwe_work_free(j->work[k]);
    mem_free(j->work);
    secret_free(j->scratch);
    secret_free(j->seed);
    mem_free(j->bytes);
    mem_free(j->answer);
    mem_free(j->c);
    mem_free(j->a);
    mem_free(j->digits);
    mem_free(j->panel);
    secret_free(j->sum);
}

/* What products without transforms need, where the step has them. */
static int new_direct(struct job *j)
{
    struct weight_cache *cache = &j->y->cache[j->step];
    size_t answers = (size_t)min_i64(j->layout->out_polys, AT_ONCE);

    if (cache->uses++ == 0)
        TRY(rlwe_direct_new(j->y->rlwe, j->layout, j->y->weights->matrix[j->step].weight,
                            &cache->direct));
    if ((j->direct = cache->direct) == NULL)
        return 0;
    j->digits = mem_aligned(rlwe_direct_bytes(j->direct), 1);
    j->panel = mem_aligned((size_t)cpu_threads(), rlwe_direct_panel_bytes(j->direct));
    j->sum = secret_array(answers * 2, RLWE_POLY_WORDS * sizeof *j->sum);
    return j->digits == NULL || j->panel == NULL || j->sum == NULL ? ERR_NOMEM : 0;
}

static int new_job(struct job *j)
{
    const struct rlwe_layout *l = j->layout;
    size_t answers = (size_t)(rlwe_layout_bands(l) * l->out_polys), polys;

    TRY(new_direct(j));
    j->most = j->direct != NULL ? 1 : tile_of(l);
    polys = (size_t)(j->most * l->in_polys);
    j->threads = crew_size(l->in_polys > l->out_polys ? l->in_polys : l->out_polys);
    j->work = mem_array((size_t)(j->threads * j->most), sizeof(struct rlwe_work *));
    j->scratch = secret_array((size_t)j->threads, sizeof *j->scratch);
    j->seed = secret_array(answers, sizeof *j->seed);
    j->bytes = mem_array((size_t)min_i64((int64_t)polys, GROUP), sizeof *j->bytes);
    j->answer = mem_array(answers, sizeof *j->answer);
    j->c = mem_aligned(polys, RLWE_POLY_WORDS * sizeof *j->c);
    j->a = mem_aligned(polys, RLWE_POLY_WORDS * sizeof *j->a);
    if (j->work == NULL || j->scratch == NULL || j->seed == NULL || j->bytes == NULL ||
        j->answer == NULL || j->c == NULL || j->a == NULL)
        return ERR_NOMEM;
    for (int64_t k = 0; k < j->threads * j->most; k++)
        TRY(rlwe_work_new(&j->work[k]));
    prg_bytes(j->y->rng, j->seed, answers * sizeof *j->seed);
    return 0;
}

/* ---- server: uploads ---------------------------------------------------------------------- */

static int unpack_item(void *ctx, int64_t item, int thread)
{
    const struct job *j = ctx;
    int64_t poly = j->first + item;
    size_t at = (size_t)poly * RLWE_POLY_WORDS;
    uint32_t number = (uint32_t)(j->band * j->layout->in_polys + poly);

    (void)thread;
    TRY(rlwe_random(j->y->rlwe, j->y->stream, j->y->call, number, j->a + at));
    return rlwe_unpack(j->y->rlwe, j->c + at, j->bytes[item]);
}

static int receive_tile(struct job *j)
{
    const struct crew c = {unpack_item, j, j->threads};
    int64_t polys = j->bands * j->layout->in_polys;

    for (j->first = 0; j->first < polys; j->first += GROUP) {
        int64_t n = min_i64(GROUP, polys - j->first);
        for (int64_t i = 0; i < n; i++)
            TRY(transport_recv(j->y->t, j->bytes[i], sizeof j->bytes[i]));
        TRY(crew_run(&c, n));
    }
    return 0;
}

/* Uploads of the band as coefficients, then as digits. */
static int invert_item(void *ctx, int64_t item, int thread)
{
    const struct job *j = ctx;

    (void)thread;
    for (int i = 0; i < RLWE_PRIMES; i++) {
        size_t at = (size_t)item * RLWE_POLY_WORDS + (size_t)i * RLWE_N;
        ntt_inverse(rlwe_prime(j->y->rlwe, i), j->c + at);
        ntt_inverse(rlwe_prime(j->y->rlwe, i), j->a + at);
    }
    return 0;
}

static int load_item(void *ctx, int64_t group, int thread)
{
    const struct job *j = ctx;

    (void)thread;
    rlwe_direct_load(j->direct, j->y->rlwe, group, j->c, j->a, j->digits);
    return 0;
}

static int load_direct(struct job *j)
{
    TRY(crew_run(&(struct crew){invert_item, j, j->threads}, j->layout->in_polys));
    return crew_run(&(struct crew){load_item, j, j->threads}, rlwe_direct_groups(j->direct));
}

/* ---- server: answers ---------------------------------------------------------------------- */

static uint8_t *answer_at(const struct job *j, int64_t band, int64_t out)
{
    return j->answer[out * rlwe_layout_bands(j->layout) + band];
}

/* Up to NTT_BATCH input polynomials from *in on that answer `out` reads, and their weights. */
static int next_inputs(const struct job *j, int64_t *in, int64_t out, int i, struct scratch *k,
                       int64_t which[NTT_BATCH], const uint64_t *w[NTT_BATCH])
{
    int n = 0;

    for (; n < NTT_BATCH && *in < j->layout->in_polys; (*in)++) {
        which[n] = *in;
        w[n] = weights_of(j->y, j->step, *in, out, i, k->coefficient, k->w[n]);
        n += w[n] != NULL;
    }
    return n;
}

/* Answer `out` of every band of the tile modulo prime i. */
static void add_products(const struct job *j, int64_t out, int i, struct rlwe_work **work,
                         struct scratch *k)
{
    const struct party *y = j->y;
    int64_t polys = j->layout->in_polys, in = 0, which[NTT_BATCH];
    size_t prime = (size_t)i * RLWE_N;
    const uint64_t *w[NTT_BATCH], *c[NTT_BATCH], *a[NTT_BATCH];
    int n;

    while ((n = next_inputs(j, &in, out, i, k, which, w)) > 0)
        for (int64_t b = 0; b < j->bands; b++) {
            for (int e = 0; e < n; e++) {
                size_t at = (size_t)(b * polys + which[e]) * RLWE_POLY_WORDS + prime;
                c[e] = j->c + at;
                a[e] = j->a + at;
            }
            rlwe_work_add_batch(work[b], y->rlwe, i, n, c, a, w);
        }
    for (int64_t b = 0; b < j->bands; b++)
        rlwe_work_close(work[b], y->rlwe, i, y->key + prime, y->key_a + prime);
}

/* The same of the only band, from sums that are there. */
static void take_products(const struct job *j, int64_t item, int i, struct rlwe_work *work)
{
    size_t prime = (size_t)i * RLWE_N;
    const uint64_t *sum =
        j->sum + (size_t)((j->first + item) % AT_ONCE) * 2 * RLWE_POLY_WORDS + prime;

    rlwe_work_close(work, j->y->rlwe, i, j->y->key + prime, j->y->key_a + prime);
    rlwe_work_plus(work, j->y->rlwe, i, sum, sum + RLWE_POLY_WORDS);
}

/* Hides it and writes it down. */
static void write_answer(const struct job *j, int64_t band, int64_t out, struct rlwe_work *work,
                         struct scratch *k)
{
    int64_t n = rlwe_layout_outputs(j->layout, band, out, k->place, k->element);
    uint8_t *to = answer_at(j, band, out);

    for (int64_t e = 0; e < n; e++)
        k->mask[e] = j->s[k->element[e]];
    rlwe_answer(work, j->y->rlwe, k->place, k->mask, n, to, to + RLWE_HALF_BYTES);
}

static int answer_item(void *ctx, int64_t item, int thread)
{
    const struct job *j = ctx;
    struct rlwe_work **work = j->work + thread * j->most;
    int64_t out = j->first + item, all = rlwe_layout_bands(j->layout);

    for (int64_t b = 0; b < j->bands; b++) {
        struct prg *rng = NULL;
        TRY(prg_new(j->seed[out * all + j->band + b], &rng));
        rlwe_work_start(work[b], rng);
        prg_free(rng);
    }
    for (int i = 0; i < RLWE_PRIMES; i++)
        if (j->direct != NULL)
            take_products(j, item, i, work[0]);
        else
            add_products(j, out, i, work, &j->scratch[thread]);
    for (int64_t b = 0; b < j->bands; b++)
        write_answer(j, j->band + b, out, work[b], &j->scratch[thread]);
    return 0;
}

/* Answers first ... first + n - 1 of all bands. */
static int send_answers(struct job *j, int64_t n)
{
    int64_t bands = rlwe_layout_bands(j->layout);

    for (int64_t out = j->first; out < j->first + n; out++)
        for (int64_t band = 0; band < bands; band++) {
            int64_t outputs = rlwe_layout_count(j->layout, band, out);
            TRY(transport_send(j->y->t, answer_at(j, band, out),
                               RLWE_HALF_BYTES + (size_t)outputs * RLWE_ANSWER_BYTES));
        }
    return 0;
}

/* Answers of the tile that is there. With the last one they are sent, as they become complete. */
static int answer_tile(struct job *j)
{
    const struct crew c = {answer_item, j, j->threads};
    int64_t answers = j->layout->out_polys, bands = rlwe_layout_bands(j->layout);
    bool last = j->band + j->bands == bands;

    if (last)
        TRY(send_header(j->y, j->step, bands * answers));
    for (j->first = 0; j->first < answers; j->first += GROUP) {
        int64_t n = min_i64(GROUP, answers - j->first);
        if (j->direct != NULL && j->first % AT_ONCE == 0)
            rlwe_direct_products(j->direct, j->y->rlwe, j->digits, j->first,
                                 min_i64(AT_ONCE, answers - j->first), j->threads, j->panel,
                                 j->sum);
        TRY(crew_run(&c, n));
        if (last)
            TRY(send_answers(j, n));
    }
    return 0;
}

static int run_tiles(struct job *j)
{
    int64_t bands = rlwe_layout_bands(j->layout);
    int rc = receive_header(j->y, j->step, bands * j->layout->in_polys);

    for (j->band = 0; rc == 0 && j->band < bands; j->band += j->bands) {
        j->bands = min_i64(j->most, bands - j->band);
        if ((rc = receive_tile(j)) == 0 && j->direct != NULL)
            rc = load_direct(j);
        if (rc == 0)
            rc = answer_tile(j);
    }
    if (rc == 0)
        rc = transport_flush(j->y->t);
    return rc < 0 ? fail_context(rc, "linear step '%s'", j->y->plan->step[j->step].name) : 0;
}

static int server_step(void *ctx, int32_t step, int64_t images, uint64_t *s)
{
    struct party *y = ctx;
    struct job j = {.y = y, .layout = &y->layout[step], .step = step, .s = s};
    int rc;

    TRY(use_lot(y, images));
    y->call++;
    if ((rc = new_job(&j)) == 0) {
        fill_cache(&j);
        rc = run_tiles(&j);
    }
    free_job(&j);
    return rc;
}

/* ---- server: opening ---------------------------------------------------------------------- */

static int read_key(struct party *y, uint8_t *bytes)
{
    uint8_t *nonce = y->stream + PRG_SEED;

    prg_bytes(y->rng, nonce, PRG_SEED);
    TRY(transport_send(y->t, nonce, PRG_SEED));
    TRY(transport_recv(y->t, y->stream, PRG_SEED));
    TRY(transport_recv(y->t, bytes, RLWE_POLY_BYTES));
    TRY(rlwe_random(y->rlwe, y->stream, 0, 0, y->key_a));
    return rlwe_unpack(y->rlwe, y->key, bytes);
}

static int receive_key(struct party *y)
{
    uint8_t *bytes = mem_array(RLWE_POLY_BYTES, 1);
    size_t size = sizeof *y->key;
    int rc = ERR_NOMEM;

    y->key = mem_aligned(RLWE_POLY_WORDS, size);
    y->key_a = mem_aligned(RLWE_POLY_WORDS, size);
    y->cache = mem_array((size_t)y->plan->n_step, sizeof *y->cache);
    if (bytes != NULL && y->key != NULL && y->key_a != NULL && y->cache != NULL &&
        (rc = read_key(y, bytes)) < 0)
        rc = fail_context(rc, "public key");
    mem_free(bytes);
    return rc;
}

/* The largest error that products with these rows could add. */
static double largest_error(const struct plan_matrix *m)
{
    double largest = 0;

    for (int64_t i = 0; i < m->rows; i++) {
        double l1 = 0, squares = 0;
        for (int64_t k = 0; k < m->columns; k++) {
            double w = m->weight[i * m->columns + k];
            l1 += fabs(w);
            squares += w * w;
        }
        largest = fmax(largest, rlwe_product_error(l1, sqrt(squares)));
    }
    return largest;
}

static int check_weights(const struct plan *p, const struct plan_weights *w)
{
    for (int32_t i = 0; i < p->n_step; i++) {
        double error = plan_is_linear(&p->step[i]) ? largest_error(&w->matrix[i]) : 0;
        if (error > RLWE_ERROR_LIMIT)
            return fail(
                ERR_UNSUPPORTED,
                "step '%s': encryption could change its sums by up to %.0f units, more than %d: its weights are too large for their number; give --dealer",
                p->step[i].name, error, RLWE_ERROR_LIMIT);
    }
    return 0;
}

int linear_rlwe_server(const struct plan *p, const struct plan_weights *w, struct transport *t,
                       struct prg *rng, size_t cache, struct linear_party *out)
{
    struct party *y = NULL;
    int rc;

    TRY(check_weights(p, w));
    TRY(open_party(p, t, rng, &y));
    y->weights = w;
    y->cache_limit = y->cache_left = cache;
    if ((rc = receive_key(y)) < 0) {
        close_party(y);
        return rc;
    }
    *out = (struct linear_party){.ctx = y, .server = server_step, .close = close_party};
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
