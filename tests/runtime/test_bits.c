/* runtime/bits: packing and transposition against loops over single bits. */
#include "runtime/ring/bits.h"
#include "runtime/crypto/prg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"

enum { COUNT = 31, STRIDE = 40 };
static const uint8_t seed[16] = "bits";

static int bit(const uint8_t *bytes, size_t k)
{
    return bytes[k / 8] >> k % 8 & 1;
}

static void test_pack_round_trip(void **state)
{
    (void)state;
    uint8_t in[COUNT * STRIDE], out[COUNT * STRIDE], packed[COUNT * STRIDE + 1];
    struct prg *p = NULL;

    assert_int_equal(prg_new(seed, &p), 0);
    prg_bytes(p, in, sizeof in);
    for (size_t n = 0; n <= 8 * STRIDE; n++) {
        size_t size = bits_packed_size(COUNT, n), total = COUNT * n;

        assert_int_equal(size, (total + 7) / 8);
        memset(packed, 0xee, sizeof packed);
        memset(out, 0xee, sizeof out);
        bits_pack(packed, in, STRIDE, COUNT, n);
        assert_int_equal(packed[size], 0xee);
        if (total % 8 != 0)
            assert_int_equal(packed[size - 1] >> total % 8, 0);
        bits_unpack(out, STRIDE, COUNT, n, packed);
        for (size_t i = 0; i < COUNT; i++) {
            for (size_t k = 0; k < n; k++)
                assert_int_equal(bit(out + i * STRIDE, k), bit(in + i * STRIDE, k));
            for (size_t k = n; k < (n + 7) / 8 * 8; k++)
                assert_int_equal(bit(out + i * STRIDE, k), 0);
            for (size_t k = (n + 7) / 8; k < STRIDE; k++)
                assert_int_equal(out[i * STRIDE + k], 0xee);
        }
    }
    prg_free(p);
}

enum { N = 128 * 11, PLANE = N / 8 + 16, TREES = 16 };

static uint8_t *random_planes(size_t count)
{
    uint8_t *planes = mem_aligned(count, PLANE);
    struct prg *p = NULL;

    assert_non_null(planes);
    assert_int_equal(PLANE % 64, 0);
    assert_int_equal(prg_new(seed, &p), 0);
    prg_bytes(p, planes, count * PLANE);
    prg_free(p);
    return planes;
}

static void test_transpose_equals_loop(void **state)
{
    (void)state;
    struct block *rows = mem_aligned(N, sizeof *rows);
    uint8_t *planes = random_planes(128);

    assert_non_null(rows);
    for (enum cpu_path path = CPU_GENERIC; path <= cpu_best_path(); path++) {
        memset(rows, 0, N * sizeof *rows);
        bits_transpose(path, rows, planes, PLANE, N);
        for (size_t k = 0; k < N; k++)
            for (size_t i = 0; i < 128; i++)
                assert_int_equal(bit((const uint8_t *)&rows[k], i), bit(planes + i * PLANE, k));
    }
    mem_free(rows);
    mem_free(planes);
}

static void test_weigh_and_add_equal_loops(void **state)
{
    (void)state;
    uint8_t *leaf = random_planes(TREES), *digit = mem_aligned(5, PLANE), *sum = digit + 4 * PLANE;

    assert_non_null(digit);
    for (enum cpu_path path = CPU_GENERIC; path <= cpu_best_path(); path++) {
        bits_weigh(path, sum, digit, leaf, PLANE, PLANE);
        bits_add_masked(path, sum, leaf, 0x00ff00ff00ff00ff, PLANE);
        for (size_t at = 0; at < PLANE; at++) {
            uint8_t want[5] = {0};

            for (size_t i = 0; i < TREES; i++)
                for (size_t b = 0; b < 5; b++)
                    want[b] ^= b == 4 || i >> b & 1 ? leaf[i * PLANE + at] : 0;
            want[4] ^= at % 2 == 0 ? leaf[at] : 0;
            for (size_t b = 0; b < 5; b++)
                assert_int_equal(digit[b * PLANE + at], want[b]);
        }
    }
    mem_free(leaf);
    mem_free(digit);
}

static void test_rows_of_words(void **state)
{
    (void)state;
    enum { M = 300 };
    uint64_t from[64], to[64], v[M];
    struct block b[M];
    struct prg *p = NULL;

    assert_int_equal(prg_new(seed, &p), 0);
    prg_bytes(p, from, sizeof from);
    prg_bytes(p, v, sizeof v);
    prg_bytes(p, b, sizeof b);
    prg_free(p);
    for (size_t n = 1; n <= M; n += 7)
        for (size_t at = 0; at < 140; at += 9) {
            bits_copy(to, from, at, n);
            for (size_t k = 0; k < n; k++)
                assert_int_equal(bits_mask(to, k), bits_mask(from, at + k));
            assert_int_equal(n % 64 == 0 ? 0 : to[n / 64] >> n % 64, 0);
        }
    for (size_t n = 1; n <= M; n += 13) {
        bits_lowest(to, b, n);
        for (size_t k = 0; k < n; k++)
            assert_int_equal(bits_mask(to, k), (uint64_t)0 - (b[k].lo & 1));
        bits_of_words(to, v, n, 3, 5);
        for (size_t i = 0; i < 5; i++)
            for (size_t k = 0; k < n; k++)
                assert_int_equal(bits_mask(to, i * n + k), (uint64_t)0 - (v[k] >> (3 + i) & 1));
    }
    assert_int_equal(bits_words(0), 0);
    assert_int_equal(bits_words(64), 1);
    assert_int_equal(bits_words(65), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pack_round_trip),
        cmocka_unit_test(test_transpose_equals_loop),
        cmocka_unit_test(test_weigh_and_add_equal_loops),
        cmocka_unit_test(test_rows_of_words),
    };

    return cmocka_run_group_tests_name("bits", tests, NULL, NULL);
}
