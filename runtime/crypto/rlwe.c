/*
 * Ring-LWE encryption with plaintext modulus 2^64 (rlwe.h): BFV with secret-key uploads, products by
 * plain polynomials only, and answers that hide the polynomials. R = Z[X]/(X^4096 + 1).
 *
 *     secret   s ternary, uniform;  errors e: centred binomial of 42 bits, sigma 3.24, |e| <= 21
 *     modulus  Q = q1 q2, the two largest primes below 2^40 that are 1 mod 16384: 80 bits
 *     upload   (c, a), a uniform from a public seed, c = -a s + e + round(Q m / 2^64)
 *     product  (sum c_t w_t, sum a_t w_t), w_t integer polynomials
 *     answer   + (pc v, pa v + e1): (pc, pa) the public key, an upload of 0; v ternary, e1 as e;
 *              both halves switched to the modulus 2^64; the first - mask at every place that is
 *              sent, mask uniform mod 2^64
 *     opening  first + second * s mod 2^64
 *
 * The message is scaled by Q/2^64 itself, rounded (an error below 1/2), not by its floor: then
 * Q/2^64 * (multiple of 2^64) vanishes mod Q and m may wrap in the product. Rounded in residues:
 * with k = Q m mod 2^64, centred, round(Q m / 2^64) = (Q m - k) / 2^64 = -k * 2^-64 mod q_i.
 *
 * Security of the client: RLWE with n = 4096, ternary secret, log2 Q = 80. "Homomorphic Encryption
 * Security Standard" (Albrecht et al., HomomorphicEncryption.org, 2018), table 1: 128 bits (classical)
 * for log2 Q <= 109. Our own estimate: tests/long/lattice.py, its output in tests/long/lattice.txt.
 *
 * Security of the server: without re-randomising, a_t w_t would show w_t. pa v + e1 makes the second
 * half look uniform (RLWE with secret v, same table), whatever pc is. The first half is a number mod
 * 2^64 minus a uniform one: exactly uniform and independent of everything else, of the upload too. An
 * upload therefore need not be an encryption: a client that sends -a s + e + 2^k m' instead learns
 * nothing. (Where an answer has bits that no mask covers, it learns all weights:
 * tests/runtime/test_rlwe_evil.c.)
 *
 * Error of a result, in units of the result (2^-12 of the smallest step of an activation, "ulp", after
 * a truncation by 12 bits), for weights w of a sum; there is no failure, only this error:
 *
 *     product   (e + rounding of m) times w: at most 21.5 L1(w) / 2^16. As a sum of independent errors
 *               it exceeds 10 sqrt(10.5 + 1/12) L2(w) / 2^16 with a chance below 2^-71. w_rms 2^9:
 *               sigma 0.6 for K = 576 weights, 1.7 for 4,608
 *     key       v times the key's error, e1 times s: at most 2 * 4096 * 21 / 2^16 = 2.6, sigma 0.004
 *     switch    1/2 + (sum of 4096 halves times s): at most 2,049, sigma 15.1, below 186 by the tail
 *
 * So an output and its truncated value are off by at most one ulp. A step whose products could add more
 * than RLWE_ERROR_LIMIT is refused (linear/rlwe_server.c): any 3,946 int16 weights pass, whatever they
 * are, and far more of usual size. A third prime for such a step would make 120 bits, more than the
 * table's 109 for n = 4096; it would need n = 8192, for layers that no known network has.
 */
#include "runtime/crypto/rlwe.h"

#include <math.h>
#include <string.h>

#include "core/base/buf.h"
#include "core/base/sha256.h"

#define ERROR_BOUND 21
#define SECURITY_BITS 128
#define TAIL 10 /* 2 exp(-TAIL^2 / 2) < 2^-71 */

typedef unsigned __int128 u128;

static const uint64_t primes[RLWE_PRIMES] = {1099511480321, 1099510890497};
static const char stream_name[] = "linnet rlwe stream";

struct shoup {
    uint64_t w, quotient;
};
struct prime {
    struct ntt *ntt;
    uint64_t q;
    struct shoup one;    /* 1 */
    struct shoup unwrap; /* 2^-64 */
    struct shoup unhat;  /* (Q/q)^-1 */
    uint64_t hat;        /* Q/q mod 2^64 */
    u128 reciprocal;     /* floor(2^128 / q) */
    uint64_t turn;       /* floor(2^64 / q) */
};
struct rlwe {
    struct prime p[RLWE_PRIMES];
    uint64_t modulus_low; /* Q mod 2^64 */
};
struct rlwe_secret {
    uint64_t s[RLWE_PRIMES][RLWE_N]; /* transformed */
};
struct rlwe_work {
    struct ntt_sum c, a;
    uint64_t first[RLWE_PRIMES][RLWE_N], second[RLWE_PRIMES][RLWE_N];
    uint64_t scratch[RLWE_N];
    int8_t v[RLWE_N], e[RLWE_N];
};

/* ---- parameters --------------------------------------------------------------------------- */

struct rlwe_parameters rlwe_parameters(void)
{
    return (struct rlwe_parameters){.n = RLWE_N, .modulus_bits = 80, .error_bound = ERROR_BOUND};
}

/* Largest log2 Q of the standard's table for ternary secrets at 128 bits; 0 outside the table. */
static int32_t secure_bits(int32_t n)
{
    static const int32_t table[][2] = {{1024, 27},  {2048, 54},   {4096, 109},
                                       {8192, 218}, {16384, 438}, {32768, 881}};

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i][0] == n)
            return table[i][1];
    return 0;
}

int rlwe_parameters_check(const struct rlwe_parameters *p)
{
    if (p->modulus_bits > secure_bits(p->n) || p->error_bound < ERROR_BOUND)
        return fail(
            ERR_UNSUPPORTED,
            "encryption with ring degree %d, modulus of %d bits and errors up to %d has less than %d bits of security: at most %d bits, errors up to %d at least",
            p->n, p->modulus_bits, p->error_bound, SECURITY_BITS, secure_bits(p->n), ERROR_BOUND);
    return 0;
}

double rlwe_product_error(double l1, double l2)
{
    double worst = (ERROR_BOUND + 0.5) * l1, tail = TAIL * sqrt(ERROR_BOUND / 2.0 + 1 / 12.0) * l2;

    return fmin(worst, tail) * 0x1p-16;
}

double rlwe_error(double l1, double l2)
{
    double key = 2.0 * RLWE_N * ERROR_BOUND * 0x1p-16, rounding = TAIL * sqrt(RLWE_N / 12.0);

    return rlwe_product_error(l1, l2) + key + 0.5 + rounding;
}

/* ---- residues: secret operands, so no division and no branch ------------------------------- */

static struct shoup shoup_of(uint64_t w, uint64_t q)
{
    return (struct shoup){w, (uint64_t)(((u128)w << 64) / q)};
}

/* y * w in [0, 2q), any y. */
static inline uint64_t times(uint64_t y, struct shoup f, uint64_t q)
{
    return y * f.w - (uint64_t)((u128)y * f.quotient >> 64) * q;
}

/* From [0, 2q) to [0, q). */
static inline uint64_t once(uint64_t y, uint64_t q)
{
    uint64_t z = y - q;

    return z + (q & (0 - (z >> 63)));
}

/* round(Q/2^64 * m) mod q. */
static inline uint64_t scaled(const struct rlwe *r, const struct prime *p, uint64_t m)
{
    uint64_t u = 0 - r->modulus_low * m; /* -k as a signed number: u - 2^64 where it is negative */

    return once(once(times(u, p->unwrap, p->q), p->q) + p->q - (u >> 63), p->q);
}

static u128 times_wide(uint64_t y, u128 w) /* mod 2^128 */
{
    return (u128)y * (uint64_t)w + ((u128)(y * (uint64_t)(w >> 64)) << 64);
}

/* ---- tables ------------------------------------------------------------------------------- */

static void fill_prime(struct rlwe *r, int i)
{
    struct prime *p = &r->p[i];
    uint64_t q = p->q = primes[i], hat = 1;

    p->hat = 1;
    for (int k = 0; k < RLWE_PRIMES; k++)
        if (k != i) {
            hat = ntt_mul(hat, primes[k] % q, q);
            p->hat *= primes[k];
        }
    p->one = shoup_of(1, q);
    p->unwrap = shoup_of(ntt_pow(ntt_pow(2, 64, q), q - 2, q), q);
    p->unhat = shoup_of(ntt_pow(hat, q - 2, q), q);
    p->reciprocal = ~(u128)0 / q;
    p->turn = UINT64_MAX / q;
}

int rlwe_new(enum ntt_path path, struct rlwe **out)
{
    SCOPED(rlwe_free_at) struct rlwe *r = mem_array(1, sizeof *r);

    if (r == NULL)
        return ERR_NOMEM;
    r->modulus_low = 1;
    for (int i = 0; i < RLWE_PRIMES; i++) {
        TRY(ntt_new(primes[i], path, &r->p[i].ntt));
        fill_prime(r, i);
        r->modulus_low *= primes[i];
    }
    *out = mem_hand_on(&r);
    return 0;
}

void rlwe_free(struct rlwe *r)
{
    if (r == NULL)
        return;
    for (int i = 0; i < RLWE_PRIMES; i++)
        ntt_free(r->p[i].ntt);
    mem_free(r);
}

const struct ntt *rlwe_prime(const struct rlwe *r, int i)
{
    return r->p[i].ntt;
}

/* ---- random polynomials ------------------------------------------------------------------- */

static uint64_t residue_at(const uint8_t *from)
{
    uint64_t v = 0;

    for (int k = RLWE_RESIDUE_BYTES - 1; k >= 0; k--)
        v = v << 8 | from[k];
    return v;
}

/* 40-bit words of the stream that are below q, in order. */
static void random_residues(struct prg *stream, uint64_t q, uint64_t *a)
{
    uint8_t bytes[256 * RLWE_RESIDUE_BYTES];
    size_t got = 0;

    while (got < RLWE_N) {
        size_t n = RLWE_N - got < 256 ? RLWE_N - got : 256;
        prg_bytes(stream, bytes, n * RLWE_RESIDUE_BYTES);
        for (size_t k = 0; k < n; k++) {
            a[got] = residue_at(bytes + k * RLWE_RESIDUE_BYTES);
            got += a[got] < q;
        }
    }
}

int rlwe_random(const struct rlwe *r, const uint8_t seed[RLWE_SEED], uint64_t call, uint32_t poly,
                uint64_t *a)
{
    uint8_t text[sizeof stream_name - 1 + RLWE_SEED + 8 + 4 + 4], key[SHA256_SIZE];
    struct buf_writer head = buf_writer_in(text, sizeof text);

    buf_put_bytes(&head, stream_name, sizeof stream_name - 1);
    buf_put_bytes(&head, seed, RLWE_SEED);
    buf_put_u64(&head, call);
    buf_put_u32(&head, poly);
    for (int i = 0; i < RLWE_PRIMES; i++) {
        SCOPED(prg_free_at) struct prg *stream = NULL;
        struct buf_writer w = head; /* the number of every prime goes to the same place */

        buf_put_u32(&w, (uint32_t)i);
        TRY(sha256_bytes(text, sizeof text, key));
        TRY(prg_new(key, &stream));
        random_residues(stream, r->p[i].q, a + (size_t)i * RLWE_N);
    }
    return 0;
}

/* Uniform in -1, 0, 1 but for 2^-62: the upper half of 3 times 64 bits, minus 1. No rejection, whose
 * place would depend on secret bytes. */
static void draw_ternary(struct prg *rng, int8_t *v)
{
    uint64_t words[256];

    for (size_t at = 0; at < RLWE_N; at += 256) {
        prg_bytes(rng, words, sizeof words);
        for (size_t k = 0; k < 256; k++)
            v[at + k] = (int8_t)((int)((u128)words[k] * 3 >> 64) - 1);
    }
    wipe(words, sizeof words);
}

/* Ones among the low 21 bits of each half of 64: no table, whose index would be secret. */
static uint32_t ones21(uint64_t x)
{
    x -= x >> 1 & 0x5555555555555555;
    x = (x & 0x3333333333333333) + (x >> 2 & 0x3333333333333333);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0f;
    return (uint32_t)(x * 0x0101010101010101 >> 56);
}

static void draw_errors(struct prg *rng, int8_t *e)
{
    uint64_t words[256], low = ((uint64_t)1 << ERROR_BOUND) - 1;

    for (size_t at = 0; at < RLWE_N; at += 256) {
        prg_bytes(rng, words, sizeof words);
        for (size_t k = 0; k < 256; k++)
            e[at + k] =
                (int8_t)((int)ones21(words[k] & low) - (int)ones21(words[k] >> ERROR_BOUND & low));
    }
    wipe(words, sizeof words);
}

/* ---- bytes -------------------------------------------------------------------------------- */

void rlwe_pack(uint8_t *to, const uint64_t *c)
{
    for (size_t i = 0; i < RLWE_POLY_WORDS; i++, to += RLWE_RESIDUE_BYTES)
        for (int k = 0; k < RLWE_RESIDUE_BYTES; k++)
            to[k] = (uint8_t)(c[i] >> 8 * k);
}

int rlwe_unpack_part(const struct rlwe *r, size_t first, size_t n, uint64_t *c, const uint8_t *from)
{
    for (size_t i = 0; i < n; i++, from += RLWE_RESIDUE_BYTES) {
        c[i] = residue_at(from);
        if (c[i] >= r->p[(first + i) / RLWE_N].q)
            return fail(ERR_PEER, "ciphertext: residue %zu is not below its modulus", first + i);
    }
    return 0;
}

int rlwe_unpack(const struct rlwe *r, uint64_t *c, const uint8_t *from)
{
    return rlwe_unpack_part(r, 0, RLWE_POLY_WORDS, c, from);
}

static uint64_t word_at(const uint8_t *from)
{
    uint64_t v;

    memcpy(&v, from, sizeof v);
    return v;
}

/* ---- client ------------------------------------------------------------------------------- */

int rlwe_secret_new(const struct rlwe *r, struct prg *rng, struct rlwe_secret **out)
{
    SECRET struct rlwe_secret *s = secret_array(1, sizeof *s);
    SECRET int8_t *small = secret_array(RLWE_N, 1);

    if (s == NULL || small == NULL)
        return ERR_NOMEM;
    draw_ternary(rng, small);
    for (int i = 0; i < RLWE_PRIMES; i++) {
        for (int j = 0; j < RLWE_N; j++)
            s->s[i][j] = ntt_residue(small[j], r->p[i].q);
        ntt_forward(r->p[i].ntt, s->s[i]);
    }
    *out = mem_hand_on(&s);
    return 0;
}

void rlwe_secret_free(struct rlwe_secret *s)
{
    secret_free(s);
}

struct client_scratch {
    struct ntt_sum sum;
    uint64_t product[RLWE_N];
    uint64_t z[RLWE_PRIMES][RLWE_N];
    int8_t e[RLWE_N];
};

/* product := x * y elementwise. */
static void multiply(struct client_scratch *k, const struct ntt *t, const uint64_t *x,
                     const uint64_t *y)
{
    memset(&k->sum, 0, sizeof k->sum);
    ntt_sum_add(t, &k->sum, x, y);
    ntt_sum_get(t, k->product, &k->sum);
}

int rlwe_encrypt(const struct rlwe *r, const struct rlwe_secret *s, const uint64_t *a,
                 const uint64_t *m, struct prg *rng, uint64_t *c)
{
    SECRET struct client_scratch *k = secret_array(1, sizeof *k);

    if (k == NULL)
        return ERR_NOMEM;
    draw_errors(rng, k->e);
    for (int i = 0; i < RLWE_PRIMES; i++, c += RLWE_N, a += RLWE_N) {
        const struct prime *p = &r->p[i];
        for (int j = 0; j < RLWE_N; j++)
            c[j] = once(ntt_residue(k->e[j], p->q) + (m != NULL ? scaled(r, p, m[j]) : 0), p->q);
        ntt_forward(p->ntt, c);
        multiply(k, p->ntt, a, s->s[i]);
        for (int j = 0; j < RLWE_N; j++)
            c[j] = once(c[j] + p->q - k->product[j], p->q);
    }
    return 0;
}

/* z := half * s modulo each prime. */
static void open_half(const struct rlwe *r, const struct rlwe_secret *s, const uint8_t *half,
                      struct client_scratch *k)
{
    for (int i = 0; i < RLWE_PRIMES; i++) {
        const struct prime *p = &r->p[i];
        for (size_t j = 0; j < RLWE_N; j++)
            k->z[i][j] = once(times(word_at(half + j * RLWE_ANSWER_BYTES), p->one, p->q), p->q);
        ntt_forward(p->ntt, k->z[i]);
        multiply(k, p->ntt, k->z[i], s->s[i]);
        memcpy(k->z[i], k->product, sizeof k->product);
        ntt_inverse(p->ntt, k->z[i]);
    }
}

/* The integer with these residues mod 2^64; its magnitude is below 4096 * 2^64 = 2^76, a sixteenth of
 * Q, so the sum of y_i / q_i lies next to the whole number of Qs that is too much. */
static uint64_t combine(const struct rlwe *r, const struct client_scratch *k, int32_t j)
{
    u128 turns = (u128)1 << 63;
    uint64_t sum = 0;

    for (int i = 0; i < RLWE_PRIMES; i++) {
        const struct prime *p = &r->p[i];
        uint64_t y = once(times(k->z[i][j], p->unhat, p->q), p->q);
        sum += y * p->hat;
        turns += (u128)y * p->turn;
    }
    return sum - (uint64_t)(turns >> 64) * r->modulus_low;
}

int rlwe_open(const struct rlwe *r, const struct rlwe_secret *s, const uint8_t *half,
              const uint8_t *values, const int32_t *place, int64_t n, uint64_t *u)
{
    SECRET struct client_scratch *k = secret_array(1, sizeof *k);

    if (k == NULL)
        return ERR_NOMEM;
    open_half(r, s, half, k);
    for (int64_t i = 0; i < n; i++)
        u[i] = word_at(values + i * RLWE_ANSWER_BYTES) + combine(r, k, place[i]);
    return 0;
}

/* ---- server ------------------------------------------------------------------------------- */

int rlwe_work_new(struct rlwe_work **out)
{
    struct rlwe_work *k = secret_array(1, sizeof *k);

    if (k == NULL)
        return ERR_NOMEM;
    *out = k;
    return 0;
}

void rlwe_work_free(struct rlwe_work *k)
{
    secret_free(k);
}

void rlwe_work_start(struct rlwe_work *k, struct prg *rng)
{
    memset(&k->c, 0, sizeof k->c);
    memset(&k->a, 0, sizeof k->a);
    draw_ternary(rng, k->v);
    draw_errors(rng, k->e);
}

void rlwe_work_add(struct rlwe_work *k, const struct rlwe *r, int i, int n,
                   const uint64_t *const *c, const uint64_t *const *a, const uint64_t *const *w,
                   int gap)
{
    ntt_sum_add_pairs(r->p[i].ntt, &k->c, &k->a, n, c, a, w, gap);
}

void rlwe_work_close(struct rlwe_work *k, const struct rlwe *r, int i, const uint64_t *c,
                     const uint64_t *a)
{
    const struct prime *p = &r->p[i];

    for (int j = 0; j < RLWE_N; j++)
        k->scratch[j] = ntt_residue(k->v[j], p->q);
    ntt_forward(p->ntt, k->scratch);
    ntt_sum_add(p->ntt, &k->c, c, k->scratch);
    ntt_sum_add(p->ntt, &k->a, a, k->scratch);
    ntt_sum_get(p->ntt, k->first[i], &k->c);
    ntt_sum_get(p->ntt, k->second[i], &k->a);
    ntt_inverse(p->ntt, k->first[i]);
    ntt_inverse(p->ntt, k->second[i]);
    for (int j = 0; j < RLWE_N; j++)
        k->second[i][j] = once(k->second[i][j] + ntt_residue(k->e[j], p->q), p->q);
    memset(&k->c, 0, sizeof k->c);
    memset(&k->a, 0, sizeof k->a);
}

void rlwe_work_plus(struct rlwe_work *k, const struct rlwe *r, int i, const uint64_t *c,
                    const uint64_t *a)
{
    uint64_t q = r->p[i].q;

    for (int j = 0; j < RLWE_N; j++) {
        k->first[i][j] = once(k->first[i][j] + c[j], q);
        k->second[i][j] = once(k->second[i][j] + a[j], q);
    }
}

/* round(x * 2^64 / Q) of the number with these residues: x/Q = sum of y_i/q_i mod 1, in 128 bits
 * after the point (off by less than 2^-86). */
static uint64_t switched(const struct rlwe *r, const uint64_t x[RLWE_PRIMES])
{
    u128 sum = (u128)1 << 63;

    for (int i = 0; i < RLWE_PRIMES; i++) {
        const struct prime *p = &r->p[i];
        sum += times_wide(once(times(x[i], p->unhat, p->q), p->q), p->reciprocal);
    }
    return (uint64_t)(sum >> 64);
}

void rlwe_answer(struct rlwe_work *k, const struct rlwe *r, const int32_t *place,
                 const uint64_t *mask, int64_t n, uint8_t *half, uint8_t *values)
{
    uint64_t x[RLWE_PRIMES], v;

    for (size_t j = 0; j < RLWE_N; j++) {
        for (int i = 0; i < RLWE_PRIMES; i++)
            x[i] = k->second[i][j];
        v = switched(r, x);
        memcpy(half + j * RLWE_ANSWER_BYTES, &v, sizeof v);
    }
    for (int64_t at = 0; at < n; at++) {
        for (int i = 0; i < RLWE_PRIMES; i++)
            x[i] = k->first[i][place[at]];
        v = switched(r, x) - mask[at];
        memcpy(values + at * RLWE_ANSWER_BYTES, &v, sizeof v);
    }
    wipe(x, sizeof x);
}
