/*
 * Both sides of the rlwe linear provider (linear_rlwe.h).
 *
 *     open    server -> client   nonce (16)
 *             client -> server   seed (16), public key: one polynomial (163,840)
 *     step    client -> server   u32 step, u32 count; count polynomials (163,840 each)
 *             server -> client   u32 step, u32 count; count times: random half (98,304), then
 *                                12 bytes for each output the answer holds
 *
 * Integers are little-endian; counts follow from the layout (rlwe_layout.h) and are sent only so that
 * parties that disagree find out. The random halves of key and uploads are one stream, read in the order
 * in which polynomials are sent. Its key is a hash of seed and nonce: the second half of an answer is
 * hidden by the random half of the public key, so the client must not be able to choose that. The
 * client's key lives as long as the provider.
 *
 * The server reads a whole step before it answers, so that both never send at once; a step's
 * ciphertexts take 512 KiB a polynomial. Answers of a band are computed by cpu_threads() threads, each
 * answer with randomness of its own, so their number changes no bit.
 */
#include "runtime/linear/rlwe_party.h"

#include <stdbool.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"
#include "core/base/sha256.h"
#include "runtime/crypto/rlwe.h"
#include "runtime/linear/rlwe_layout.h"

#define HEADER_BYTES 8
#define ANSWER_ROOM (RLWE_HALF_BYTES + (size_t)RLWE_N * RLWE_ANSWER_BYTES)

struct weight_cache {
    uint64_t *w; /* [in][out][RLWE_PRIMES][RLWE_N], NULL where it did not fit or is not made yet */
    bool refused;
};
struct party {
    const struct plan *plan;
    struct transport *t;
    struct prg *rng, *stream; /* secrets; random halves, public */
    struct rlwe *rlwe;
    struct rlwe_layout *layout; /* one a step, zeros where it is not linear */
    /* client */
    struct rlwe_secret *secret;
    /* server */
    const struct plan_weights *weights;
    uint64_t *key, *key_a;
    struct weight_cache *cache; /* one a step */
    size_t cache_left;
};

static bool is_linear(const struct plan_step *s)
{
    return s->kind == PLAN_CONV || s->kind == PLAN_GEMM;
}

/* ---- public facts ------------------------------------------------------------------------- */

int linear_rlwe_check(const struct plan *p)
{
    struct rlwe_parameters parameters = rlwe_parameters();
    struct rlwe_layout l;

    for (int32_t i = 0; i < p->n_step; i++) {
        int rc;
        if (!is_linear(&p->step[i]))
            continue;
        TRY(rlwe_layout_of(p, &p->step[i], &l));
        if ((rc = rlwe_parameters_check(&parameters, l.columns)) < 0)
            return fail_context(rc, "step '%s'", p->step[i].name);
    }
    return 0;
}

int linear_rlwe_count(const struct plan *p, int32_t step, struct linear_rlwe_count *out)
{
    struct rlwe_layout l;

    TRY(rlwe_layout_of(p, &p->step[step], &l));
    int64_t bands = rlwe_layout_bands(&l);
    *out = (struct linear_rlwe_count){bands * l.in_polys, bands * l.out_polys,
                                      bands * l.in_polys * l.out_polys, l.in_polys * l.out_polys};
    return 0;
}

uint64_t linear_rlwe_bytes(const struct plan *p, int32_t step, int from_client)
{
    struct linear_rlwe_count n;

    if (step < 0)
        return from_client ? PRG_SEED + RLWE_POLY_BYTES : PRG_SEED;
    if (!is_linear(&p->step[step]) || linear_rlwe_count(p, step, &n) < 0)
        return 0;
    if (from_client)
        return HEADER_BYTES + (uint64_t)n.uploads * RLWE_POLY_BYTES;
    return HEADER_BYTES + (uint64_t)n.answers * RLWE_HALF_BYTES +
           (uint64_t)p->tensor[p->step[step].out].count * RLWE_ANSWER_BYTES;
}

/* ---- headers ------------------------------------------------------------------------------ */

static void put32(uint8_t *to, uint32_t v)
{
    for (int k = 0; k < 4; k++)
        to[k] = (uint8_t)(v >> 8 * k);
}

static int send_header(struct party *y, int32_t step, int64_t count)
{
    uint8_t header[HEADER_BYTES];

    put32(header, (uint32_t)step);
    put32(header + 4, (uint32_t)count);
    return transport_send(y->t, header, sizeof header);
}

static int receive_header(struct party *y, int32_t step, int64_t count)
{
    uint8_t header[HEADER_BYTES], want[HEADER_BYTES];

    put32(want, (uint32_t)step);
    put32(want + 4, (uint32_t)count);
    TRY(transport_recv(y->t, header, sizeof header));
    if (memcmp(header, want, sizeof header) != 0)
        return fail(
            ERR_PEER,
            "linear step '%s': the peer's message is of another step or has another number of ciphertexts than the %lld of the description",
            y->plan->step[step].name, (long long)count);
    return 0;
}

/* ---- both --------------------------------------------------------------------------------- */

static void close_party(void *ctx)
{
    struct party *y = ctx;

    if (y == NULL)
        return;
    for (int32_t i = 0; y->cache != NULL && i < y->plan->n_step; i++)
        secret_free(y->cache[i].w);
    mem_free(y->cache);
    mem_free(y->key);
    mem_free(y->key_a);
    rlwe_secret_free(y->secret);
    prg_free(y->stream);
    rlwe_free(y->rlwe);
    mem_free(y->layout);
    mem_free(y);
}

/* The random halves' stream: SHA-256("linnet rlwe stream", the client's seed, the server's nonce). */
static int open_stream(struct party *y, const uint8_t seed[PRG_SEED], const uint8_t nonce[PRG_SEED])
{
    static const char name[] = "linnet rlwe stream";
    uint8_t text[sizeof name - 1 + 2 * PRG_SEED], digest[SHA256_SIZE];

    memcpy(text, name, sizeof name - 1);
    memcpy(text + sizeof name - 1, seed, PRG_SEED);
    memcpy(text + sizeof name - 1 + PRG_SEED, nonce, PRG_SEED);
    TRY(sha256_bytes(text, sizeof text, digest));
    return prg_new(digest, &y->stream);
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
    for (int32_t i = 0; i < p->n_step; i++)
        if (is_linear(&p->step[i]) && (rc = rlwe_layout_of(p, &p->step[i], &y->layout[i])) < 0)
            goto out;
    *out = y;
    y = NULL;
out:
    close_party(y);
    return rc;
}

/* ---- client ------------------------------------------------------------------------------- */

struct upload {
    uint64_t m[RLWE_N]; /* secret */
    uint64_t a[RLWE_PRIMES][RLWE_N], c[RLWE_PRIMES][RLWE_N];
    uint8_t bytes[RLWE_POLY_BYTES];
};

/* Encrypts m, or 0, and sends it. */
static int send_polynomial(struct party *y, struct upload *u, const uint64_t *m)
{
    rlwe_random(y->rlwe, y->stream, u->a[0]);
    TRY(rlwe_encrypt(y->rlwe, y->secret, u->a[0], m, y->rng, u->c[0]));
    rlwe_pack(u->bytes, u->c[0]);
    return transport_send(y->t, u->bytes, sizeof u->bytes);
}

static int send_operand(struct party *y, int32_t step, const uint64_t *r)
{
    const struct rlwe_layout *l = &y->layout[step];
    int64_t bands = rlwe_layout_bands(l);
    struct upload *u = secret_array(1, sizeof *u);
    int rc;

    if (u == NULL)
        return ERR_NOMEM;
    rc = send_header(y, step, bands * l->in_polys);
    for (int64_t i = 0; rc == 0 && i < bands * l->in_polys; i++) {
        rlwe_layout_input(l, i / l->in_polys, i % l->in_polys, r, u->m);
        rc = send_polynomial(y, u, u->m);
    }
    secret_free(u);
    return rc;
}

struct download { /* an answer and where its numbers go */
    int32_t place[RLWE_N];
    int64_t element[RLWE_N];
    uint64_t u[RLWE_N];
    uint8_t bytes[ANSWER_ROOM];
};

static int receive_answer(struct party *y, int32_t step, int64_t band, int64_t out,
                          struct download *d, uint64_t *u)
{
    int64_t n = rlwe_layout_outputs(&y->layout[step], band, out, d->place, d->element);

    TRY(transport_recv(y->t, d->bytes, RLWE_HALF_BYTES + (size_t)n * RLWE_ANSWER_BYTES));
    TRY(rlwe_open(y->rlwe, y->secret, d->bytes, d->bytes + RLWE_HALF_BYTES, d->place, n, d->u,
                  NULL));
    for (int64_t k = 0; k < n; k++)
        u[d->element[k]] = d->u[k];
    return 0;
}

static int client_step(void *ctx, int32_t step, const uint64_t *r, uint64_t *u)
{
    struct party *y = ctx;
    const struct rlwe_layout *l = &y->layout[step];
    int64_t answers = rlwe_layout_bands(l) * l->out_polys;
    struct download *d;
    int rc;

    TRY(send_operand(y, step, r));
    if ((d = secret_array(1, sizeof *d)) == NULL)
        return ERR_NOMEM;
    rc = receive_header(y, step, answers);
    for (int64_t i = 0; rc == 0 && i < answers; i++)
        rc = receive_answer(y, step, i / l->out_polys, i % l->out_polys, d, u);
    secret_free(d);
    return rc;
}

static int send_key(struct party *y)
{
    uint8_t seed[PRG_SEED], nonce[PRG_SEED];
    struct upload *u = secret_array(1, sizeof *u);
    int rc;

    if (u == NULL)
        return ERR_NOMEM;
    prg_bytes(y->rng, seed, sizeof seed);
    if ((rc = transport_recv(y->t, nonce, sizeof nonce)) < 0 ||
        (rc = open_stream(y, seed, nonce)) < 0 ||
        (rc = rlwe_secret_new(y->rlwe, y->rng, &y->secret)) < 0 ||
        (rc = transport_send(y->t, seed, sizeof seed)) < 0)
        goto out;
    if ((rc = send_polynomial(y, u, NULL)) == 0)
        rc = transport_flush(y->t);
out:
    secret_free(u);
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
    *out = (struct linear_party){
        .name = "rlwe", .ctx = y, .client = client_step, .close = close_party};
    return 0;
}

/* ---- server: weights ---------------------------------------------------------------------- */

/* Transformed weights of (in, out) modulo prime i: from the cache, or made in w. NULL for zeros. */
static const uint64_t *weights_of(const struct party *y, int32_t step, int64_t in, int64_t out,
                                  int i, int16_t *coefficient, uint64_t *w)
{
    const struct rlwe_layout *l = &y->layout[step];

    if (!rlwe_layout_weight(l, y->weights->matrix[step].weight, in, out, coefficient))
        return NULL;
    if (y->cache[step].w != NULL)
        return y->cache[step].w +
               ((size_t)(in * l->out_polys + out) * RLWE_PRIMES + (size_t)i) * RLWE_N;
    rlwe_weight(y->rlwe, i, coefficient, w);
    return w;
}

struct scratch { /* of one thread */
    int16_t coefficient[RLWE_N];
    uint64_t w[RLWE_N];
    int32_t place[RLWE_N];
    int64_t element[RLWE_N];
    uint64_t mask[RLWE_N];
};

/* ---- server: a step ----------------------------------------------------------------------- */

struct job {
    struct party *y;
    int32_t step;
    uint64_t *c, *a;   /* [bands * in_polys][RLWE_PRIMES][RLWE_N] */
    const uint64_t *s; /* masks, by output of the step */
    int threads;
    struct rlwe_work **work; /* one a thread */
    struct scratch *scratch; /* one a thread */
    struct prg **rng;        /* one an answer of a band */
    uint8_t *answers;        /* [out_polys][ANSWER_ROOM] */
};

/* Transforms the weights of a step once, if they fit into what is left of the limit. */
static void fill_cache(struct job *j)
{
    const struct rlwe_layout *l = &j->y->layout[j->step];
    const int16_t *weight = j->y->weights->matrix[j->step].weight;
    struct weight_cache *cache = &j->y->cache[j->step];
    size_t pairs = (size_t)(l->in_polys * l->out_polys), size = RLWE_POLY_WORDS * sizeof(uint64_t);

    if (cache->w != NULL || cache->refused)
        return;
    cache->refused = pairs > j->y->cache_left / size;
    if (cache->refused || (cache->w = secret_array(pairs, size)) == NULL)
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
    for (int k = 0; j->work != NULL && k < j->threads; k++)
        rlwe_work_free(j->work[k]);
    for (int64_t k = 0; j->rng != NULL && k < j->y->layout[j->step].out_polys; k++)
        prg_free(j->rng[k]);
    mem_free(j->work);
    mem_free(j->rng);
    secret_free(j->scratch);
    mem_free(j->answers);
    mem_free(j->c);
    mem_free(j->a);
}

static int new_job(struct job *j)
{
    const struct rlwe_layout *l = &j->y->layout[j->step];
    size_t polys = (size_t)(rlwe_layout_bands(l) * l->in_polys), answers = (size_t)l->out_polys;

    j->threads = (int64_t)cpu_threads() < l->out_polys ? cpu_threads() : (int)l->out_polys;
    j->work = mem_array((size_t)j->threads, sizeof(struct rlwe_work *));
    j->rng = mem_array(answers, sizeof(struct prg *));
    j->scratch = secret_array((size_t)j->threads, sizeof *j->scratch);
    j->answers = mem_aligned(answers, ANSWER_ROOM);
    j->c = mem_aligned(polys, RLWE_POLY_WORDS * sizeof *j->c);
    j->a = mem_aligned(polys, RLWE_POLY_WORDS * sizeof *j->a);
    if (j->work == NULL || j->rng == NULL || j->scratch == NULL || j->answers == NULL ||
        j->c == NULL || j->a == NULL)
        return ERR_NOMEM;
    for (int k = 0; k < j->threads; k++)
        TRY(rlwe_work_new(&j->work[k]));
    return 0;
}

static int receive_polynomial(struct party *y, uint8_t *bytes, uint64_t *c, uint64_t *a)
{
    TRY(transport_recv(y->t, bytes, RLWE_POLY_BYTES));
    rlwe_random(y->rlwe, y->stream, a);
    return rlwe_unpack(y->rlwe, c, bytes);
}

static int receive_operand(struct job *j)
{
    const struct rlwe_layout *l = &j->y->layout[j->step];
    int64_t polys = rlwe_layout_bands(l) * l->in_polys;
    uint8_t *bytes = mem_array(RLWE_POLY_BYTES, 1);
    int rc;

    if (bytes == NULL)
        return ERR_NOMEM;
    rc = receive_header(j->y, j->step, polys);
    for (int64_t i = 0; rc == 0 && i < polys; i++)
        rc = receive_polynomial(j->y, bytes, j->c + (size_t)i * RLWE_POLY_WORDS,
                                j->a + (size_t)i * RLWE_POLY_WORDS);
    mem_free(bytes);
    return rc < 0 ? fail_context(rc, "linear step '%s'", j->y->plan->step[j->step].name) : 0;
}

/* One answer of a band, into its place among the band's answers. */
static void compute_answer(const struct job *j, int64_t band, int64_t out, int thread)
{
    struct party *y = j->y;
    const struct rlwe_layout *l = &y->layout[j->step];
    struct scratch *k = &j->scratch[thread];
    struct rlwe_work *work = j->work[thread];
    uint8_t *to = j->answers + (size_t)out * ANSWER_ROOM;
    int64_t n = rlwe_layout_outputs(l, band, out, k->place, k->element);

    rlwe_work_start(work, j->rng[out]);
    for (int i = 0; i < RLWE_PRIMES; i++) {
        size_t prime = (size_t)i * RLWE_N;
        for (int64_t in = 0; in < l->in_polys; in++) {
            size_t at = (size_t)(band * l->in_polys + in) * RLWE_POLY_WORDS + prime;
            const uint64_t *w = weights_of(y, j->step, in, out, i, k->coefficient, k->w);
            if (w != NULL)
                rlwe_work_add(work, y->rlwe, i, j->c + at, j->a + at, w);
        }
        rlwe_work_close(work, y->rlwe, i, y->key + prime, y->key_a + prime);
    }
    for (int64_t e = 0; e < n; e++)
        k->mask[e] = j->s[k->element[e]];
    rlwe_answer(work, y->rlwe, j->rng[out], k->place, k->mask, n, to, to + RLWE_HALF_BYTES);
}

/* Fresh randomness for every answer of a band: drawn in order, before the threads start. */
static int fork_answers(struct job *j)
{
    for (int64_t k = 0; k < j->y->layout[j->step].out_polys; k++) {
        prg_free(j->rng[k]);
        j->rng[k] = NULL;
        TRY(prg_fork(j->y->rng, &j->rng[k]));
    }
    return 0;
}

static int answer_band(struct job *j, int64_t band)
{
    const struct rlwe_layout *l = &j->y->layout[j->step];
    int64_t answers = l->out_polys;

    TRY(fork_answers(j));
#pragma omp parallel for schedule(static) num_threads(j->threads)
    for (int64_t out = 0; out < answers; out++)
        compute_answer(j, band, out, cpu_thread_index());
    for (int64_t out = 0; out < answers; out++) {
        int64_t n = rlwe_layout_outputs(l, band, out, j->scratch->place, j->scratch->element);
        TRY(transport_send(j->y->t, j->answers + (size_t)out * ANSWER_ROOM,
                           RLWE_HALF_BYTES + (size_t)n * RLWE_ANSWER_BYTES));
    }
    return 0;
}

static int server_step(void *ctx, int32_t step, uint64_t *s)
{
    struct party *y = ctx;
    const struct rlwe_layout *l = &y->layout[step];
    int64_t bands = rlwe_layout_bands(l);
    struct job j = {.y = y, .step = step, .s = s};
    int rc;

    if ((rc = new_job(&j)) < 0 || (rc = receive_operand(&j)) < 0)
        goto out;
    fill_cache(&j);
    rc = send_header(y, step, bands * l->out_polys);
    for (int64_t band = 0; rc == 0 && band < bands; band++)
        rc = answer_band(&j, band);
    if (rc == 0)
        rc = transport_flush(y->t);
out:
    free_job(&j);
    return rc;
}

static int receive_key(struct party *y)
{
    uint8_t seed[PRG_SEED], nonce[PRG_SEED], *bytes = mem_array(RLWE_POLY_BYTES, 1);
    size_t size = sizeof *y->key;
    int rc;

    y->key = mem_aligned(RLWE_POLY_WORDS, size);
    y->key_a = mem_aligned(RLWE_POLY_WORDS, size);
    y->cache = mem_array((size_t)y->plan->n_step, sizeof *y->cache);
    if (bytes == NULL || y->key == NULL || y->key_a == NULL || y->cache == NULL) {
        rc = ERR_NOMEM;
        goto out;
    }
    prg_bytes(y->rng, nonce, sizeof nonce);
    if ((rc = transport_send(y->t, nonce, sizeof nonce)) < 0 ||
        (rc = transport_recv(y->t, seed, sizeof seed)) < 0 ||
        (rc = open_stream(y, seed, nonce)) < 0)
        goto out;
    if ((rc = receive_polynomial(y, bytes, y->key, y->key_a)) < 0)
        rc = fail_context(rc, "public key");
out:
    mem_free(bytes);
    return rc;
}

int linear_rlwe_server(const struct plan *p, const struct plan_weights *w, struct transport *t,
                       struct prg *rng, size_t cache, struct linear_party *out)
{
    struct party *y = NULL;
    int rc;

    TRY(open_party(p, t, rng, &y));
    y->weights = w;
    y->cache_left = cache;
    if ((rc = receive_key(y)) < 0) {
        close_party(y);
        return rc;
    }
    *out = (struct linear_party){
        .name = "rlwe", .ctx = y, .server = server_step, .close = close_party};
    return 0;
}
