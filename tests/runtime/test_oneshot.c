/* runtime/relu/oneshot: the terms add up to the comparison, against integers and against the formula. */
#include "runtime/relu/oneshot.h"

/* before cmocka.h, which has a macro fail */
#include "runtime/crypto/prg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_counts(void **state)
{
    (void)state;
    static const size_t want[] = {0, 0, 2, 7, 18, 41, 88};

    for (int q = 1; q <= ONESHOT_MOST_DIGITS; q++)
        assert_int_equal(oneshot_terms(q), want[q]);
}

/* lt ^ eq & (...) by definition, one word. */
static uint64_t slow_carry(int q, const uint64_t *lt, const uint64_t *eq)
{
    uint64_t carry = lt[0];

    for (int i = 1; i < q; i++)
        carry = lt[i] ^ (eq[i] & carry);
    return carry;
}

static uint64_t sum_of_terms(int q, const uint64_t *cl, const uint64_t *ce, const uint64_t *sl,
                             const uint64_t *se)
{
    uint64_t client[100], server[100], own[2], sum;

    oneshot_client(q, 1, cl, ce, client, &own[0]);
    oneshot_server(q, 1, sl, se, server, &own[1]);
    sum = own[0] ^ own[1];
    for (size_t k = 0; k < oneshot_terms(q); k++)
        sum ^= client[k] & server[k];
    return sum;
}

/* Every assignment of all shares up to 3 digits (2^10), 64 at a time; random ones above. */
static void test_terms_add_up(void **state)
{
    (void)state;
    struct prg *p = NULL;

    assert_int_equal(prg_new((const uint8_t[PRG_SEED]){4}, &p), 0);
    for (int q = 1; q <= ONESHOT_MOST_DIGITS; q++) {
        int bits = 4 * q - 2;
        uint64_t rounds = bits <= 14 ? (uint64_t)1 << (bits > 6 ? bits - 6 : 0) : 2000;

        for (uint64_t r = 0; r < rounds; r++) {
            uint64_t row[4][ONESHOT_MOST_DIGITS] = {{0}}, lt[6], eq[6];
            int bit = 0;

            for (int k = 0; k < 4; k++)
                for (int i = k < 2 ? 0 : 1; i < q; i++, bit++) {
                    static const uint64_t low[] = {0xaaaaaaaaaaaaaaaa, 0xcccccccccccccccc,
                                                   0xf0f0f0f0f0f0f0f0, 0xff00ff00ff00ff00,
                                                   0xffff0000ffff0000, 0xffffffff00000000};

                    if (bits > 14)
                        prg_bytes(p, &row[k][i], 8);
                    else
                        row[k][i] = bit < 6 ? low[bit] : (uint64_t)0 - (r >> (bit - 6) & 1);
                }
            for (int i = 0; i < q; i++) {
                lt[i] = row[0][i] ^ row[1][i];
                eq[i] = row[2][i] ^ row[3][i];
            }
            assert_int_equal(sum_of_terms(q, row[0], row[2], row[1], row[3]),
                             slow_carry(q, lt, eq));
        }
    }
    prg_free(p);
}

/* a < b of numbers of q digits of `width` bits, shares at random. */
static void check_integers(struct prg *p, int q, int width, uint64_t a, uint64_t b)
{
    uint64_t cl[6], ce[6], sl[6], se[6], mask = ((uint64_t)1 << width) - 1;

    prg_bytes(p, cl, sizeof cl);
    prg_bytes(p, ce, sizeof ce);
    for (int i = 0; i < q; i++) {
        uint64_t x = a >> width * i & mask, y = b >> width * i & mask;

        sl[i] = cl[i] ^ (x < y ? UINT64_MAX : 0);
        se[i] = ce[i] ^ (x == y ? UINT64_MAX : 0);
    }
    assert_int_equal(sum_of_terms(q, cl, ce, sl, se), a < b ? UINT64_MAX : 0);
}

static void test_against_integers(void **state)
{
    (void)state;
    struct prg *p = NULL;

    assert_int_equal(prg_new((const uint8_t[PRG_SEED]){5}, &p), 0);
    for (uint64_t a = 0; a < 256; a++)
        for (uint64_t b = 0; b < 256; b++)
            check_integers(p, 4, 2, a, b);
    for (int k = 0; k < 3000; k++) {
        uint64_t v[2];

        prg_bytes(p, v, sizeof v);
        v[1] = k % 3 == 0 ? v[0] ^ 1u << k % 24 : v[1];
        for (int q = 1; q <= ONESHOT_MOST_DIGITS; q++)
            check_integers(p, q, 4, v[0] & (((uint64_t)1 << 4 * q) - 1),
                           v[1] & (((uint64_t)1 << 4 * q) - 1));
    }
    prg_free(p);
}

/* Words of a row do not mix. */
static void test_rows(void **state)
{
    (void)state;
    enum { Q = 5, W = 3 };
    uint64_t rows[4][Q][W], term[2][41][W], own[2][W];
    struct prg *p = NULL;

    assert_int_equal(prg_new((const uint8_t[PRG_SEED]){6}, &p), 0);
    prg_bytes(p, rows, sizeof rows);
    prg_free(p);
    oneshot_client(Q, W, rows[0][0], rows[1][0], term[0][0], own[0]);
    oneshot_server(Q, W, rows[2][0], rows[3][0], term[1][0], own[1]);
    for (int w = 0; w < W; w++) {
        uint64_t lt[Q], eq[Q], sum = own[0][w] ^ own[1][w];

        for (int i = 0; i < Q; i++) {
            lt[i] = rows[0][i][w] ^ rows[2][i][w];
            eq[i] = rows[1][i][w] ^ rows[3][i][w];
        }
        for (size_t k = 0; k < 41; k++)
            sum ^= term[0][k][w] & term[1][k][w];
        assert_int_equal(sum, slow_carry(Q, lt, eq));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_terms_add_up),
        cmocka_unit_test(test_against_integers),
        cmocka_unit_test(test_rows),
    };

    return cmocka_run_group_tests_name("oneshot", tests, NULL, NULL);
}
