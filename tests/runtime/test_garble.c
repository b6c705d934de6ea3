/* runtime/garble: every input of narrow comparisons, a naive second garbler, blocks of any size. */
#include "runtime/crypto/garble.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/base/sha256.h"
#include "tests/ref_aes.h"

static const uint8_t seed[16] = "garble";
static const uint64_t batch = 0x1122334455667788;
static const uint8_t session[HASH_SID] = {1};

static struct block plus(struct block a, struct block b)
{
    return (struct block){a.lo ^ b.lo, a.hi ^ b.hi};
}

static struct block when(uint64_t bit, struct block a)
{
    return bit & 1 ? a : (struct block){0, 0};
}

static struct block *blocks(size_t n)
{
    struct block *b = mem_array(n, sizeof *b);

    assert_non_null(b);
    return b;
}

/* n comparisons of m bits with random labels. */
struct garbled {
    struct hasher *h;
    size_t n;
    int m;
    uint64_t first;
    struct block delta, *a, *b, *tables, *out, *scratch, *held_a, *held_b, *held_out;
};

static void garbled_open(struct garbled *g, size_t n, int m, uint64_t first)
{
    struct prg *p = NULL;
    size_t labels = n * (size_t)m;

    *g = (struct garbled){.n = n, .m = m, .first = first};
    g->a = blocks(labels);
    g->b = blocks(labels);
    g->held_a = blocks(labels);
    g->held_b = blocks(labels);
    g->tables = blocks(2 * labels);
    g->out = blocks(n);
    g->held_out = blocks(n);
    g->scratch = blocks(garble_scratch(n));
    assert_int_equal(hasher_new(&g->h), 0);
    assert_int_equal(hasher_key(g->h, session, batch, 0), 0);
    assert_int_equal(prg_new(seed, &p), 0);
    prg_bytes(p, &g->delta, sizeof g->delta);
    g->delta.lo |= 1;
    prg_bytes(p, g->a, labels * sizeof *g->a);
    prg_bytes(p, g->b, labels * sizeof *g->b);
    prg_free(p);
}

static void garbled_close(struct garbled *g)
{
    mem_free(g->a);
    mem_free(g->b);
    mem_free(g->held_a);
    mem_free(g->held_b);
    mem_free(g->tables);
    mem_free(g->out);
    mem_free(g->held_out);
    mem_free(g->scratch);
    hasher_free(g->h);
}

static void garble(struct garbled *g)
{
    garble_sign(g->h, g->n, g->m, g->delta, batch, g->first, g->a, g->b, g->tables, g->out,
                g->scratch);
}

static void evaluate(struct garbled *g, const uint64_t *a, const uint64_t *b)
{
    for (size_t i = 0; i < (size_t)g->m; i++)
        for (size_t k = 0; k < g->n; k++) {
            size_t at = i * g->n + k;

            g->held_a[at] = plus(g->a[at], when(a[k] >> i, g->delta));
            g->held_b[at] = plus(g->b[at], when(b[k] >> i, g->delta));
        }
    memset(g->held_out, 0, g->n * sizeof *g->held_out);
    for (size_t i = 0; i + 1 < (size_t)g->m; i++)
        garble_evaluate_gate(g->h, g->n, (int)i, batch, g->first, g->held_a + i * g->n,
                             g->held_b + i * g->n, g->tables + 2 * i * g->n, g->held_out,
                             g->scratch);
    garble_output(g->n, g->held_a + (size_t)(g->m - 1) * g->n,
                  g->held_b + (size_t)(g->m - 1) * g->n, g->held_out);
}

static void check_signs(struct garbled *g, const uint64_t *a, const uint64_t *b)
{
    for (size_t k = 0; k < g->n; k++) {
        struct block want = plus(g->out[k], when((a[k] + b[k]) >> (g->m - 1), g->delta));

        assert_memory_equal(&g->held_out[k], &want, sizeof want);
    }
}

static void test_narrow_comparisons_exhaustively(void **state)
{
    (void)state;
    for (int m = 1; m <= 6; m++) {
        size_t range = (size_t)1 << m, n = range * range;
        uint64_t *a = mem_array(n, 8), *b = mem_array(n, 8);
        struct garbled g;

        assert_true(a != NULL && b != NULL);
        for (size_t k = 0; k < n; k++) {
            a[k] = k / range;
            b[k] = k % range;
        }
        garbled_open(&g, n, m, 0);
        garble(&g);
        evaluate(&g, a, b);
        check_signs(&g, a, b);
        garbled_close(&g);
        mem_free(a);
        mem_free(b);
    }
}

static void test_wide_comparisons(void **state)
{
    (void)state;
    enum { N = 150 };
    uint64_t a[N], b[N];
    struct prg *p = NULL;

    assert_int_equal(prg_new(seed, &p), 0);
    for (int m = 21; m <= 61; m += 4) {
        struct garbled g;
        int64_t top = (int64_t)1 << (m - 1);
        const int64_t edge[] = {0, 1, -1, top - 1, -top, 1 - top, -2, 2};

        prg_bytes(p, a, sizeof a);
        prg_bytes(p, b, sizeof b);
        for (size_t k = 0; k < 8; k++)
            b[k] = (uint64_t)edge[k] - a[k];
        garbled_open(&g, N, m, 77);
        garble(&g);
        evaluate(&g, a, b);
        check_signs(&g, a, b);
        garbled_close(&g);
    }
    prg_free(p);
}

/* ---- the second garbler ------------------------------------------------------------------- */

static struct block naive_hash(struct block x, uint64_t slot, uint64_t k)
{
    uint8_t once[16], twice[16], tweak[16], text[13 + HASH_SID + 16] = "linnet hash 2",
                                                                 key[SHA256_SIZE];
    uint64_t lo = slot * ((uint64_t)1 << 48) + k;
    struct block out;

    memcpy(tweak, &lo, 8);
    memcpy(tweak + 8, &batch, 8);
    memcpy(text + 13, session, HASH_SID);
    memcpy(text + 13 + HASH_SID, &batch, 8); /* part 0 */
    assert_int_equal(sha256_bytes(text, sizeof text, key), 0);
    ref_aes128(key, (const uint8_t *)&x, once);
    for (int i = 0; i < 16; i++)
        tweak[i] ^= once[i];
    ref_aes128(key, tweak, twice);
    for (int i = 0; i < 16; i++)
        once[i] ^= twice[i];
    memcpy(&out, once, 16);
    return out;
}

/* The gate as two tables of two rows: the generator's half knows pb, the evaluator's half sees b ^ pb.
 * Encrypts both rows of each half; the row of colour 0 is made zero by the choice of the output. */
static struct block naive_gate(struct block a, struct block b, struct block d, uint64_t i,
                               uint64_t k, struct block table[2])
{
    uint64_t pa = a.lo & 1, pb = b.lo & 1;
    struct block row[2], wg, we;

    /* generator's half: a & pb, rows by the colour of a */
    row[pa] = naive_hash(a, 2 * i, k);
    row[!pa] = naive_hash(plus(a, d), 2 * i, k);
    wg = row[0]; /* label of value (a = pa) & pb */
    table[0] = plus(plus(row[0], row[1]), when(pb, d));
    wg = plus(wg, when(pa & pb, d)); /* zero label */
    /* evaluator's half: a & (b ^ pb), rows by the colour of b */
    row[pb] = naive_hash(b, 2 * i + 1, k);
    row[!pb] = naive_hash(plus(b, d), 2 * i + 1, k);
    we = row[0];
    table[1] = plus(plus(row[0], row[1]), a);
    return plus(wg, we);
}

static void test_equals_naive_garbler(void **state)
{
    (void)state;
    enum { N = 3, M = 5 };
    struct garbled g;

    garbled_open(&g, N, M, 1000);
    garble(&g);
    for (size_t k = 0; k < N; k++) {
        struct block c = {0, 0}, table[2];

        for (size_t i = 0; i < M - 1; i++) {
            struct block a = plus(g.a[i * N + k], c), b = plus(g.b[i * N + k], c);

            c = plus(c, naive_gate(a, b, g.delta, i, 1000 + k, table));
            assert_memory_equal(&g.tables[2 * i * N + k], &table[0], 16);
            assert_memory_equal(&g.tables[(2 * i + 1) * N + k], &table[1], 16);
        }
        c = plus(c, plus(g.a[(M - 1) * N + k], g.b[(M - 1) * N + k]));
        assert_memory_equal(&g.out[k], &c, 16);
    }
    garbled_close(&g);
}

/* ---- pairs -------------------------------------------------------------------------------- */

static struct block sigma(struct block x)
{
    return (struct block){x.lo ^ x.hi, x.lo};
}

/* Four words, by value b0 | b1 << 1. */
static struct block word_of(struct block zeros, unsigned v, struct block d)
{
    return plus(zeros, plus(when(v, sigma(d)), when(v >> 1, d)));
}

static unsigned colour_of(struct block word)
{
    return (unsigned)((word.lo & 1) | (word.hi & 1) << 1);
}

/* Tables against a naive second garbler; every value opens to its own labels, and a row that is another's to none. */
static void check_pair(struct hasher *h, struct block d, size_t n, int pair, uint64_t first)
{
    struct block *zeros = blocks(2 * n), *a = blocks(2 * n), *table = blocks(3 * n),
                 *held = blocks(2 * n), *wrong = blocks(3 * n),
                 *scratch = blocks(garble_scratch(n));
    struct prg *p = NULL;

    assert_int_equal(prg_new(seed, &p), 0);
    prg_bytes(p, zeros + n, n * sizeof *zeros);
    prg_free(p);
    memcpy(a, zeros, 2 * n * sizeof *a);
    garble_pair(h, n, pair, d, batch, first, a, table, scratch);
    for (unsigned v = 0; v < 4; v++) {
        for (size_t k = 0; k < n; k++) {
            struct block word = zeros[n + k];

            garble_pair_word(&word, v | 12, d);
            held[n + k] = word_of(zeros[n + k], v, d);
            assert_memory_equal(&word, &held[n + k], sizeof word);
            for (unsigned c = 0; c < 3; c++) /* rows of other colours in its place */
                wrong[c * n + k] = table[(c + 1) % 3 * n + k];
        }
        garble_open_pair(h, n, pair, batch, first, held, table, scratch);
        for (size_t k = 0; k < n; k++) {
            struct block low = plus(a[k], when(v, d)), high = plus(a[n + k], when(v >> 1, d));

            assert_memory_equal(&held[k], &low, sizeof low);
            assert_memory_equal(&held[n + k], &high, sizeof high);
            held[n + k] = word_of(zeros[n + k], v, d);
        }
        garble_open_pair(h, n, pair, batch, first, held, wrong, scratch);
        for (size_t k = 0; k < n; k++)
            if (colour_of(word_of(zeros[n + k], v, d)) != 0) {
                struct block other = plus(a[k], d);
                assert_memory_not_equal(&held[k], &a[k], sizeof other);
                assert_memory_not_equal(&held[k], &other, sizeof other);
            }
    }
    for (size_t k = 0; k < n; k++) {
        uint64_t slot = 256 + (uint64_t)pair;
        struct block row[4];
        unsigned seen = 0;

        for (unsigned v = 0; v < 4; v++) {
            struct block word = word_of(zeros[n + k], v, d);
            row[colour_of(word)] = plus(naive_hash(word, slot, first + k), when(v, d));
            seen |= 1u << colour_of(word);
        }
        assert_int_equal(seen, 15);
        assert_memory_equal(&a[k], &row[0], sizeof *row);
        for (unsigned c = 1; c < 4; c++) {
            row[c] = plus(row[c], row[0]);
            assert_memory_equal(&table[(c - 1) * n + k], &row[c], sizeof *row);
        }
    }
    mem_free(zeros);
    mem_free(a);
    mem_free(table);
    mem_free(held);
    mem_free(wrong);
    mem_free(scratch);
}

/* Both colours that delta's upper half may have; a block of many strips. */
static void test_pairs(void **state)
{
    struct hasher *h = NULL;
    struct block d = {0x0123456789abcdef, 0xfedcba9876543210};

    (void)state;
    assert_int_equal(hasher_new(&h), 0);
    assert_int_equal(hasher_key(h, session, batch, 0), 0);
    for (int upper = 0; upper < 2; upper++, d.hi ^= 1) {
        check_pair(h, d, 1, 0, 9);
        check_pair(h, d, 700, 19, 1000);
    }
    hasher_free(h);
}

/* One block of many equals many blocks of one. */
static void test_one_shot_equals_pieces(void **state)
{
    (void)state;
    enum { N = 700, M = 21 };
    struct garbled g, one;

    garbled_open(&g, N, M, 5);
    garble(&g);
    for (size_t k = 0; k < N; k += 33) {
        garbled_open(&one, 1, M, 5 + k);
        for (size_t i = 0; i < M; i++) {
            one.a[i] = g.a[i * N + k];
            one.b[i] = g.b[i * N + k];
        }
        garble(&one);
        for (size_t i = 0; i < 2 * (M - 1); i++)
            assert_memory_equal(&one.tables[i], &g.tables[i * N + k], 16);
        assert_memory_equal(&one.out[0], &g.out[k], 16);
        garbled_close(&one);
    }
    garbled_close(&g);
}

static void test_tweaks_are_distinct(void **state)
{
    (void)state;
    struct block a = garble_tweak(1, 2, ((uint64_t)1 << 48) - 1), b = garble_tweak(1, 3, 0);

    assert_true(a.lo != b.lo && a.lo >> 48 == 2 && b.lo >> 48 == 3 && a.hi == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_narrow_comparisons_exhaustively),
        cmocka_unit_test(test_wide_comparisons),
        cmocka_unit_test(test_equals_naive_garbler),
        cmocka_unit_test(test_one_shot_equals_pieces),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_tweaks_are_distinct),
    };

    return cmocka_run_group_tests_name("garble", tests, NULL, NULL);
}
