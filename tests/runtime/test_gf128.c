/* runtime/crypto/gf128: products against long multiplication bit by bit, and every CPU path alike. */
#include "runtime/crypto/gf128.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* a * x^0 ... x^127 by one shift at a time, added where b has a bit. */
static struct block slow_mul(struct block a, struct block b)
{
    struct block sum = {0, 0};

    for (int i = 0; i < 128; i++) {
        if ((i < 64 ? b.lo >> i : b.hi >> (i - 64)) & 1) {
            sum.lo ^= a.lo;
            sum.hi ^= a.hi;
        }
        uint64_t carry = a.hi >> 63;
        a.hi = a.hi << 1 | a.lo >> 63;
        a.lo = a.lo << 1 ^ (carry ? 0x87 : 0);
    }
    return sum;
}

static void check_equal(struct block a, struct block b)
{
    assert_memory_equal(&a, &b, sizeof a);
}

enum { N = 300 };
static void random_blocks(uint8_t what, struct block *a, size_t n)
{
    uint8_t seed[PRG_SEED] = {what};
    struct prg *p = NULL;

    assert_int_equal(prg_new(seed, &p), 0);
    prg_bytes(p, a, n * sizeof *a);
    prg_free(p);
}

/* x^127 * x = x^7 + x^2 + x + 1, from the definition; (x^127)^2 = x^254 = x^126 * (that). */
static void test_known_products(void **state)
{
    (void)state;
    struct block one = {1, 0}, x = {2, 0}, top = {0, (uint64_t)1 << 63};

    check_equal(gf128_mul(top, x), (struct block){0x87, 0});
    check_equal(gf128_mul(one, top), top);
    check_equal(gf128_mul(top, top),
                gf128_mul((struct block){0x87, 0}, (struct block){0, 1ull << 62}));
    check_equal(gf128_mul((struct block){0, 0}, top), (struct block){0, 0});
}

static void test_products_and_sums(void **state)
{
    (void)state;
    struct block a[N], b[N], sum = {0, 0};

    random_blocks(1, a, N);
    random_blocks(2, b, N);
    a[7] = (struct block){UINT64_MAX, UINT64_MAX};
    b[7] = a[7];
    for (size_t i = 0; i < N; i++) {
        struct block want = slow_mul(a[i], b[i]);

        check_equal(gf128_mul(a[i], b[i]), want);
        check_equal(gf128_mul(b[i], a[i]), want);
        for (enum cpu_path p = CPU_GENERIC; p <= CPU_AVX512; p++)
            check_equal(gf128_dot(p, a, b, i), sum);
        sum.lo ^= want.lo;
        sum.hi ^= want.hi;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_products),
        cmocka_unit_test(test_products_and_sums),
    };

    return cmocka_run_group_tests_name("gf128", tests, NULL, NULL);
}
