/*
 * The server of the linear backend "rlwe": reads uploads, multiplies them with the weights and answers; messages, order
 * and groups as rlwe_party.c says.
 *
 * A step is a job of tiles: a few bands whose uploads are in memory together, so that a weight is transformed once
 * for all of them. A step whose weights have few taps needs no transforms (rlwe_direct.h); then a tile is one band. Weights
 * that are asked for a second time stay transformed, as far as the cache's limit goes.
 */
#include "runtime/linear/rlwe_sides.h"

#include <math.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"

#define AT_ONCE (4 * GROUP) /* answers whose products without transforms are made at a time */

/* ---- a step ------------------------------------------------------------------------------ */

/* A sum reads many polynomials side by side. If all began at a multiple of 4096 bytes, their numbers of one index would
 * fight for the same few places of the caches: 192 bytes between polynomials halve the time of sums. */
#define APART 24

struct scratch { /* of one thread */
    int16_t value[RLWE_N];
    uint64_t w[NTT_BATCH][RLWE_N + APART];
    int32_t place[RLWE_N];
    int64_t element[RLWE_N];
    uint64_t mask[RLWE_N];
};
struct job {
    struct rlwe_party *y;
    const struct rlwe_layout *layout;
    int32_t step;
    int64_t most;        /* bands in a tile */
    int64_t band, bands; /* first one of the tile at work, how many it has */
    int64_t first;       /* polynomial of the tile, or answer of it, that is first in a group */
    uint64_t *c, *a; /* of one tile: [most][in_polys], each `stride` words: [RLWE_PRIMES][RLWE_N] */
    size_t stride;
    const uint64_t *s; /* masks, by output of the step */
    int threads;
    struct rlwe_work **work;           /* one a thread and band of a tile */
    struct scratch *scratch;           /* one a thread */
    uint8_t (*seed)[PRG_SEED];         /* of answers, [out_polys][all bands] */
    uint8_t (*bytes)[RLWE_POLY_BYTES]; /* of a group */
    uint8_t (*answer)[ANSWER_ROOM];    /* of all bands */
    struct ntt_taps **taps; /* of weights, by kind of input polynomial; all have this gap */
    int gap;
    /* products without transforms, one band at a time; NULL: with them */
    const struct rlwe_direct *direct;
    uint8_t *digits, *panel; /* of the band's uploads; a thread's work */
    uint64_t *sum;           /* [AT_ONCE][2][RLWE_PRIMES][RLWE_N] */
};

/* ---- weights ----------------------------------------------------------------------------- */

/* Places of taps: of each kind the first polynomial's. */
static int new_taps(struct job *j)
{
    const struct rlwe_layout *l = j->layout;
    const struct ntt *t = rlwe_prime(j->y->rlwe, 0);
    int64_t kinds = rlwe_layout_kinds(l), n = 0;
    struct scratch *k = &j->scratch[0];

    if ((j->taps = mem_array((size_t)kinds, sizeof *j->taps)) == NULL)
        return ERR_NOMEM;
    j->gap = NTT_LOG;
    for (int64_t in = 0; in < min_i64(kinds, l->in_polys); in++) {
        n = rlwe_layout_taps(l, NULL, in, 0, RLWE_N, k->place, k->value);
        j->gap = (int)min_i64(j->gap, ntt_gap(t, k->place, n));
    }
    for (int64_t in = 0; in < min_i64(kinds, l->in_polys); in++) {
        struct ntt_taps **taps = &j->taps[rlwe_layout_kind(l, in)];
        n = rlwe_layout_taps(l, NULL, in, 0, RLWE_N, k->place, k->value);
        if (*taps == NULL)
            TRY(ntt_taps_new(k->place, n, j->gap, taps));
    }
    return 0;
}

/* Words of transformed weights of one pair modulo one prime. */
static size_t weight_words(const struct job *j)
{
    return (size_t)RLWE_N >> j->gap;
}

/* w := transformed weights of (in, out) modulo prime i. */
static void make_weight(const struct job *j, int64_t in, int64_t out, int i, int16_t *value,
                        uint64_t *w)
{
    const struct rlwe_layout *l = j->layout;
    const int16_t *weight = j->y->weights->matrix[j->step].weight;

    (void)rlwe_layout_taps(l, weight, in, out, RLWE_N, NULL, value);
    ntt_weight(rlwe_prime(j->y->rlwe, i), j->taps[rlwe_layout_kind(l, in)], value, w);
}

/* The same from the cache, or made in w. NULL for zeros. */
static const uint64_t *weights_of(const struct job *j, int64_t in, int64_t out, int i,
                                  int16_t *value, uint64_t *w)
{
    const struct rlwe_layout *l = j->layout;
    const uint64_t *cached = j->y->cache[j->step].w;

    if (!rlwe_layout_reads(l, in, out))
        return NULL;
    if (cached != NULL)
        return cached +
               ((size_t)(in * l->out_polys + out) * RLWE_PRIMES + (size_t)i) * weight_words(j);
    make_weight(j, in, out, i, value, w);
    return w;
}

/* Transforms the weights of a step for good, if they fit into what is left of the limit, when it comes
 * for the second time: whoever asks once does not pay for memory that is touched once. */
static void fill_cache(struct job *j)
{
    const struct rlwe_layout *l = j->layout;
    struct weight_cache *cache = &j->y->cache[j->step];
    size_t pairs = (size_t)(l->in_polys * l->out_polys), words = weight_words(j);
    size_t size = RLWE_PRIMES * words * sizeof(uint64_t);

    if (cache->uses != 2 || cache->direct != NULL || pairs > j->y->cache_left / size ||
        (cache->w = secret_array(pairs, size)) == NULL)
        return; /* a cache that cannot be had is none */
    j->y->cache_left -= pairs * size;
#pragma omp parallel for schedule(static) num_threads(j->threads)
    for (size_t pair = 0; pair < pairs; pair++) {
        int64_t in = (int64_t)pair / l->out_polys, out = (int64_t)pair % l->out_polys;

        for (int i = 0; rlwe_layout_reads(l, in, out) && i < RLWE_PRIMES; i++)
            make_weight(j, in, out, i, j->scratch[cpu_thread_index()].value,
                        cache->w + (pair * RLWE_PRIMES + (size_t)i) * words);
    }
}

static void free_job(struct job *j)
{
    for (int64_t k = 0; j->work != NULL && k < j->threads * j->most; k++)
        rlwe_work_free(j->work[k]);
    mem_free(j->work);
    for (int64_t k = 0; j->taps != NULL && k < rlwe_layout_kinds(j->layout); k++)
        ntt_taps_free(j->taps[k]);
    mem_free(j->taps);
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
    j->most = j->direct != NULL ? 1 : rlwe_tile(l);
    j->stride = RLWE_POLY_WORDS + (j->direct != NULL ? 0 : APART);
    polys = (size_t)(j->most * l->in_polys);
    j->threads = rlwe_crew_size(l->in_polys > l->out_polys ? l->in_polys : l->out_polys);
    j->work = mem_array((size_t)(j->threads * j->most), sizeof(struct rlwe_work *));
    j->scratch = secret_array((size_t)j->threads, sizeof *j->scratch);
    j->seed = secret_array(answers, sizeof *j->seed);
    j->bytes = mem_array((size_t)min_i64((int64_t)polys, GROUP), sizeof *j->bytes);
    j->answer = mem_array(answers, sizeof *j->answer);
    j->c = mem_aligned(polys, j->stride * sizeof *j->c);
    j->a = mem_aligned(polys, j->stride * sizeof *j->a);
    if (j->work == NULL || j->scratch == NULL || j->seed == NULL || j->bytes == NULL ||
        j->answer == NULL || j->c == NULL || j->a == NULL)
        return ERR_NOMEM;
    for (int64_t k = 0; k < j->threads * j->most; k++)
        TRY(rlwe_work_new(&j->work[k]));
    TRY(new_taps(j));
    prg_bytes(j->y->rng, j->seed, answers * sizeof *j->seed);
    return 0;
}

/* ---- uploads ----------------------------------------------------------------------------- */

static int unpack_item(void *ctx, int64_t item, int thread)
{
    const struct job *j = ctx;
    int64_t poly = j->first + item;
    size_t at = (size_t)poly * j->stride;
    uint32_t number = (uint32_t)(j->band * j->layout->in_polys + poly);

    (void)thread;
    TRY(rlwe_random(j->y->rlwe, j->y->stream, j->y->call, number, j->a + at));
    TRY(rlwe_unpack(j->y->rlwe, j->c + at, j->bytes[item]));
    for (int i = 0; j->direct == NULL && i < RLWE_PRIMES; i++) {
        ntt_operand(rlwe_prime(j->y->rlwe, i), j->a + at + (size_t)i * RLWE_N);
        ntt_operand(rlwe_prime(j->y->rlwe, i), j->c + at + (size_t)i * RLWE_N);
    }
    return 0;
}

static int receive_tile(struct job *j)
{
    const struct rlwe_crew c = {unpack_item, j, j->threads};
    int64_t polys = j->bands * j->layout->in_polys;

    for (j->first = 0; j->first < polys; j->first += GROUP) {
        int64_t n = min_i64(GROUP, polys - j->first);
        for (int64_t i = 0; i < n; i++)
            TRY(transport_recv(j->y->t, j->bytes[i], sizeof j->bytes[i]));
        TRY(rlwe_crew_run(&c, n));
    }
    return 0;
}

/* Uploads of the band as coefficients, then as digits. */
static int invert_item(void *ctx, int64_t item, int thread)
{
    const struct job *j = ctx;

    (void)thread;
    for (int i = 0; i < RLWE_PRIMES; i++) {
        size_t at = (size_t)item * j->stride + (size_t)i * RLWE_N;
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
    TRY(rlwe_crew_run(&(struct rlwe_crew){invert_item, j, j->threads}, j->layout->in_polys));
    return rlwe_crew_run(&(struct rlwe_crew){load_item, j, j->threads},
                         rlwe_direct_groups(j->direct));
}

/* ---- answers ----------------------------------------------------------------------------- */

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
        w[n] = weights_of(j, *in, out, i, k->value, k->w[n]);
        n += w[n] != NULL;
    }
    return n;
}

/* Answer `out` of every band of the tile modulo prime i. */
static void add_products(const struct job *j, int64_t out, int i, struct rlwe_work **work,
                         struct scratch *k)
{
    const struct rlwe_party *y = j->y;
    int64_t polys = j->layout->in_polys, in = 0, which[NTT_BATCH];
    size_t prime = (size_t)i * RLWE_N;
    const uint64_t *w[NTT_BATCH], *c[NTT_BATCH], *a[NTT_BATCH];
    int n;

    while ((n = next_inputs(j, &in, out, i, k, which, w)) > 0)
        for (int64_t b = 0; b < j->bands; b++) {
            for (int e = 0; e < n; e++) {
                size_t at = (size_t)(b * polys + which[e]) * j->stride + prime;
                c[e] = j->c + at;
                a[e] = j->a + at;
            }
            rlwe_work_add(work[b], y->rlwe, i, n, c, a, w, j->gap);
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
        SCOPED(prg_free_at) struct prg *rng = NULL;
        TRY(prg_new(j->seed[out * all + j->band + b], &rng));
        rlwe_work_start(work[b], rng);
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
    const struct rlwe_crew c = {answer_item, j, j->threads};
    int64_t answers = j->layout->out_polys, bands = rlwe_layout_bands(j->layout);
    bool last = j->band + j->bands == bands;

    if (last)
        TRY(rlwe_send_header(j->y, j->step, bands * answers));
    for (j->first = 0; j->first < answers; j->first += GROUP) {
        int64_t n = min_i64(GROUP, answers - j->first);
        if (j->direct != NULL && j->first % AT_ONCE == 0)
            rlwe_direct_products(j->direct, j->y->rlwe, j->digits, j->first,
                                 min_i64(AT_ONCE, answers - j->first), j->threads, j->panel,
                                 j->sum);
        TRY(rlwe_crew_run(&c, n));
        if (last)
            TRY(send_answers(j, n));
    }
    return 0;
}

static int run_tiles(struct job *j)
{
    int64_t bands = rlwe_layout_bands(j->layout);

    TRY(rlwe_receive_header(j->y, j->step, bands * j->layout->in_polys));
    for (j->band = 0; j->band < bands; j->band += j->bands) {
        j->bands = min_i64(j->most, bands - j->band);
        TRY(receive_tile(j));
        if (j->direct != NULL)
            TRY(load_direct(j));
        TRY(answer_tile(j));
    }
    return transport_flush(j->y->t);
}

static int server_step(void *ctx, int32_t step, int64_t images, uint64_t *s)
{
    struct rlwe_party *y = ctx;
    SCOPED(free_job)
    struct job j = {.y = y, .layout = &y->layout[step], .step = step, .s = s};
    int rc;

    TRY(rlwe_party_use_lot(y, images));
    y->call++;
    TRY(new_job(&j));
    fill_cache(&j);
    rc = run_tiles(&j);
    return rc < 0 ? fail_context(rc, "linear step '%s'", y->plan->step[step].name) : 0;
}

/* ---- opening ----------------------------------------------------------------------------- */

static int read_key(struct rlwe_party *y, uint8_t *bytes)
{
    uint8_t *nonce = y->stream + PRG_SEED;

    prg_bytes(y->rng, nonce, PRG_SEED);
    TRY(transport_send(y->t, nonce, PRG_SEED));
    TRY(transport_recv(y->t, y->stream, PRG_SEED));
    TRY(transport_recv(y->t, bytes, RLWE_POLY_BYTES));
    TRY(rlwe_random(y->rlwe, y->stream, 0, 0, y->key_a));
    return rlwe_unpack(y->rlwe, y->key, bytes);
}

static int receive_key(struct rlwe_party *y)
{
    OWNED uint8_t *bytes = mem_array(RLWE_POLY_BYTES, 1);
    size_t size = sizeof *y->key;
    int rc;

    y->key = mem_aligned(RLWE_POLY_WORDS, size);
    y->key_a = mem_aligned(RLWE_POLY_WORDS, size);
    y->cache = mem_array((size_t)y->plan->n_step, sizeof *y->cache);
    if (bytes == NULL || y->key == NULL || y->key_a == NULL || y->cache == NULL)
        return ERR_NOMEM;
    rc = read_key(y, bytes);
    return rc < 0 ? fail_context(rc, "public key") : 0;
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
    SCOPED(rlwe_party_close_at) struct rlwe_party *y = NULL;

    TRY(check_weights(p, w));
    TRY(rlwe_party_new(p, t, rng, &y));
    y->weights = w;
    y->cache_limit = y->cache_left = cache;
    TRY(receive_key(y));
    *out = (struct linear_party){
        .ctx = mem_hand_on(&y), .server = server_step, .close = rlwe_party_close};
    return 0;
}
