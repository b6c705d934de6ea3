/* runtime/ring/byte_product: digits of all weights, and sums against integers, at their bounds too. */
#include "runtime/ring/byte_product.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/graph/rng.h"

#include <cmocka.h>

static void test_digits(void **state)
{
    (void)state;
    for (int w = INT16_MIN; w <= INT16_MAX; w++) {
        int8_t low, high;
        bool fits = byte_digits((int16_t)w, &low, &high);

        assert_int_equal(fits, w < 32640);
        if (fits)
            assert_int_equal(low + 256 * high, w);
    }
}

struct operands {
    size_t steps;
    uint64_t *x; /* [steps][4][16], below 2^40 */
    int16_t *w;  /* [BYTE_ROWS][steps][4] */
    uint8_t *panel;
    int8_t *row;
};

static void fill(struct operands *o, struct rng *g, size_t steps, bool extreme)
{
    o->steps = steps;
    o->x = mem_array(steps * BYTE_TERMS * BYTE_COLUMNS, sizeof *o->x);
    o->w = mem_array(BYTE_ROWS * steps * BYTE_TERMS, sizeof *o->w);
    o->panel = mem_array(steps, BYTE_PANEL_STEP);
    o->row = mem_array(BYTE_ROWS * steps, BYTE_ROW_STEP);
    assert_true(o->x != NULL && o->w != NULL && o->panel != NULL && o->row != NULL);
    for (size_t i = 0; i < steps * BYTE_TERMS * BYTE_COLUMNS; i++)
        o->x[i] = extreme ? ((uint64_t)1 << 40) - 1
                          : ((uint64_t)rng_u32(g) << 32 | rng_u32(g)) & (((uint64_t)1 << 40) - 1);
    for (size_t i = 0; i < BYTE_ROWS * steps * BYTE_TERMS; i++)
        o->w[i] = extreme ? INT16_MIN : (int16_t)(rng_u32(g) % 65000 - 32500);
    for (size_t s = 0; s < steps; s++)
        for (size_t t = 0; t < BYTE_TERMS; t++) {
            for (size_t r = 0; r < BYTE_ROWS; r++) {
                int8_t *to = o->row + (r * steps + s) * BYTE_ROW_STEP + t;
                assert_true(
                    byte_digits(o->w[(r * steps + s) * BYTE_TERMS + t], to, to + BYTE_TERMS));
            }
            for (size_t d = 0; d < BYTE_DIGITS; d++)
                for (size_t j = 0; j < BYTE_COLUMNS; j++)
                    o->panel[s * BYTE_PANEL_STEP + (d * BYTE_COLUMNS + j) * BYTE_TERMS + t] =
                        (uint8_t)(o->x[(s * BYTE_TERMS + t) * BYTE_COLUMNS + j] >> 8 * d);
        }
}

static void release(struct operands *o)
{
    mem_free(o->x);
    mem_free(o->w);
    mem_free(o->panel);
    mem_free(o->row);
}

static void check(const struct operands *o, int rows)
{
    static int32_t fast[BYTE_ROWS][BYTE_CLASSES][BYTE_COLUMNS];
    static int32_t plain[BYTE_ROWS][BYTE_CLASSES][BYTE_COLUMNS];
    size_t apart = o->steps * BYTE_ROW_STEP;

    byte_product(fast, o->panel, o->row, apart, rows, o->steps);
    byte_product_plain(plain, o->panel, o->row, apart, rows, o->steps);
    assert_memory_equal(fast, plain, (size_t)rows * sizeof *fast);
    for (int r = 0; r < rows; r++)
        for (size_t j = 0; j < BYTE_COLUMNS; j++) {
            __int128 want = 0, sum = 0;
            for (size_t k = 0; k < o->steps * BYTE_TERMS; k++)
                want += (__int128)o->x[k * BYTE_COLUMNS + j] *
                        o->w[(size_t)r * o->steps * BYTE_TERMS + k];
            for (int c = BYTE_CLASSES - 1; c >= 0; c--)
                sum = sum * 256 + fast[r][c][j];
            assert_true(sum == want);
        }
}

static void test_products(void **state)
{
    (void)state;
    static const size_t steps[] = {1, 2, 9, 144, 1152};
    struct rng g;

    g = rng_at(5, RNG_TEST, 0, 0);
    for (size_t k = 0; k < sizeof steps / sizeof *steps; k++)
        for (int rows = 1; rows <= BYTE_ROWS; rows++) {
            struct operands o;
            fill(&o, &g, steps[k], false);
            check(&o, rows);
            release(&o);
        }
}

/* As many terms as are allowed, all as large as can be. */
static void test_largest_sums(void **state)
{
    (void)state;
    struct rng g;
    struct operands o;

    g = rng_at(6, RNG_TEST, 0, 0);
    fill(&o, &g, BYTE_MOST_STEPS, true);
    check(&o, BYTE_ROWS);
    release(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digits),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_largest_sums),
    };

    if (!byte_product_fast())
        print_message("no AVX512-VNNI: the fast path is not tested\n");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
