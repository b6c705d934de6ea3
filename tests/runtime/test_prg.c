/* runtime/prg: AES against published vectors and a second implementation, pieces, secret memory; all of it
 * three times, once for each source of AES. */
#include "runtime/crypto/prg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/base/sha256.h"
#include "tests/ref_aes.h"

static const uint8_t zero_key[16];

static void test_aes_published(void **state)
{
    (void)state;
    /* FIPS 197, appendix C.1, by the second implementation that the other tests lean on */
    uint8_t key[16], in[16], out[16];
    static const uint8_t want[16] = {0x69, 0xc4, 0xe0, 0xd8, 0x6a, 0x7b, 0x04, 0x30,
                                     0xd8, 0xcd, 0xb7, 0x80, 0x70, 0xb4, 0xc5, 0x5a};
    for (int i = 0; i < 16; i++) {
        key[i] = (uint8_t)i;
        in[i] = (uint8_t)(i * 0x11);
    }
    ref_aes128(key, in, out);
    assert_memory_equal(out, want, 16);
    /* counters 0, 1, 2 under the zero key: test cases 1 and 2 of the GCM specification */
    static const uint8_t stream[48] = {0x66, 0xe9, 0x4b, 0xd4, 0xef, 0x8a, 0x2c, 0x3b, 0x88, 0x4c,
                                       0xfa, 0x59, 0xca, 0x34, 0x2b, 0x2e, 0x58, 0xe2, 0xfc, 0xce,
                                       0xfa, 0x7e, 0x30, 0x61, 0x36, 0x7f, 0x1d, 0x57, 0xa4, 0xe7,
                                       0x45, 0x5a, 0x03, 0x88, 0xda, 0xce, 0x60, 0xb6, 0xa3, 0x92,
                                       0xf3, 0x28, 0xc2, 0xb9, 0x71, 0xb2, 0xfe, 0x78};
    uint8_t got[48];
    struct prg *p = NULL;
    assert_int_equal(prg_new(zero_key, &p), 0);
    prg_bytes(p, got, sizeof got);
    prg_free(p);
    assert_memory_equal(got, stream, sizeof stream);
}

#define LONG ((size_t)5000)

static void test_stream_pieces_do_not_matter(void **state)
{
    (void)state;
    static const uint8_t seed[16] = "sixteen bytes..";
    static const size_t sizes[] = {0, 1, 7, 8, 15, 16, 17, 511, 512, 513, 1024, 1300};
    uint8_t whole[LONG], pieces[LONG], block[16], counter[16] = {0};
    struct prg *p = NULL;

    assert_int_equal(prg_new(seed, &p), 0);
    prg_bytes(p, whole, LONG);
    prg_free(p);
    for (size_t at = 0; at + 16 <= LONG; at += 16) {
        counter[14] = (uint8_t)(at / 16 >> 8);
        counter[15] = (uint8_t)(at / 16);
        ref_aes128(seed, counter, block);
        assert_memory_equal(whole + at, block, 16);
        if (at > 512 && at < 4000)
            at += 800; /* the slow one */
    }
    for (size_t turn = 0; turn < sizeof sizes / sizeof *sizes; turn++) {
        assert_int_equal(prg_new(seed, &p), 0);
        for (size_t at = 0, k = turn, n; at < LONG; at += n, k++) {
            n = sizes[k % (sizeof sizes / sizeof *sizes)];
            n = n < LONG - at ? n : LONG - at;
            prg_bytes(p, pieces + at, n);
        }
        prg_free(p);
        assert_memory_equal(pieces, whole, LONG);
    }
}

static void test_generators_differ(void **state)
{
    (void)state;
    struct prg *a = NULL, *b = NULL, *c = NULL;
    uint8_t x[3][32], key[16];

    assert_int_equal(prg_new_random(&a), 0);
    assert_int_equal(prg_new_random(&b), 0);
    prg_bytes(a, x[0], 32);
    prg_bytes(b, x[1], 32);
    assert_memory_not_equal(x[0], x[1], 32);
    prg_free(a);
    prg_free(b);
    /* a fork is keyed by the next 16 bytes */
    assert_int_equal(prg_new(zero_key, &a), 0);
    assert_int_equal(prg_new(zero_key, &b), 0);
    assert_int_equal(prg_fork(a, &c), 0);
    prg_bytes(b, key, 16);
    prg_free(b);
    assert_int_equal(prg_new(key, &b), 0);
    prg_bytes(b, x[0], 32);
    prg_bytes(c, x[1], 32);
    prg_bytes(a, x[2], 32);
    assert_memory_equal(x[0], x[1], 32);
    assert_memory_not_equal(x[0], x[2], 32);
    prg_free(a);
    prg_free(b);
    prg_free(c);
}

static const uint8_t sid[HASH_SID] = {1, 2, 3};

/* The key of batch 0x0102030405060708, part 5. */
static void naive_key(uint8_t key[SHA256_SIZE])
{
    static const uint8_t numbers[16] = {8, 7, 6, 5, 4, 3, 2, 1, 5};
    uint8_t text[13 + HASH_SID + 16];

    memcpy(text, "linnet hash 2", 13);
    memcpy(text + 13, sid, HASH_SID);
    memcpy(text + 13 + HASH_SID, numbers, 16);
    assert_int_equal(sha256_bytes(text, sizeof text, key), 0);
}

static void naive_hash(const uint8_t in[16], struct block tweak, uint8_t out[16])
{
    uint8_t once[16], mixed[16], t[16], key[SHA256_SIZE];

    naive_key(key);
    memcpy(t, &tweak, 16);
    ref_aes128(key, in, once);
    for (int i = 0; i < 16; i++)
        mixed[i] = once[i] ^ t[i];
    ref_aes128(key, mixed, out);
    for (int i = 0; i < 16; i++)
        out[i] ^= once[i];
}

static void test_hash_equals_naive(void **state)
{
    (void)state;
    enum { N = 1500 };
    static struct block in[N], out[N], one;
    struct block tweak = {0x0123456789abcdef, 0xfedcba9876543210};
    struct prg *p = NULL;
    struct hasher *h = NULL;
    uint8_t want[16];

    assert_int_equal(prg_new(zero_key, &p), 0);
    assert_int_equal(hasher_new(&h), 0);
    assert_int_equal(hasher_key(h, sid, 0x0102030405060708, 5), 0);
    prg_bytes(p, in, sizeof in);
    hash_blocks(h, out, in, N, tweak);
    for (size_t k = 0; k<N; k += k % 512> 3 && k % 512 < 500 ? 62 : 1) {
        struct block t = {tweak.lo + k, tweak.hi};

        naive_hash((const uint8_t *)&in[k], t, want);
        assert_memory_equal(&out[k], want, 16);
        hash_blocks(h, &one, &in[k], 1, t);
        assert_memory_equal(&one, want, 16);
    }
    hash_blocks(h, in, in, N, tweak); /* in place */
    assert_memory_equal(in, out, sizeof out);
    hash_blocks(h, out, in, 0, tweak);
    hasher_free(h);
    prg_free(p);
}

/* H(x) = p(s(x)) ^ s(x) for every length up to some groups of the widest path, nothing beyond it written. */
static void test_circular_hash_equals_naive(void **state)
{
    (void)state;
    enum { N = 70 };
    static const uint8_t key[16] = "a public key...";
    const struct block guard = {0x5555555555555555, 0xaaaaaaaaaaaaaaaa};
    struct block in[N], want[N], out[N + 1];
    struct permutation *h = NULL;
    struct prg *p = NULL;

    assert_int_equal(prg_new(zero_key, &p), 0);
    assert_int_equal(permutation_new(&h), 0);
    permutation_key(h, key);
    prg_bytes(p, in, sizeof in);
    for (size_t k = 0; k < N; k++) {
        struct block mixed = {in[k].hi, in[k].hi ^ in[k].lo};

        ref_aes128(key, (const uint8_t *)&mixed, (uint8_t *)&want[k]);
        want[k].lo ^= mixed.lo;
        want[k].hi ^= mixed.hi;
    }
    for (size_t n = 0; n <= N; n++) {
        out[n] = guard;
        permutation_hash(h, out, in, n);
        assert_memory_equal(out, want, n * sizeof *out);
        assert_memory_equal(&out[n], &guard, sizeof guard);
    }
    permutation_hash(h, in, in, N); /* in place */
    assert_memory_equal(in, want, sizeof in);
    permutation_free(h);
    prg_free(p);
}

/* A stream goes on anywhere, also where its counter takes more than one byte or word. */
static void test_seek(void **state)
{
    (void)state;
    static const uint8_t seed[16] = "sixteen bytes..";
    static const uint64_t from[] = {1, 0xfe, 0xfffe, 0xfffffffe, (uint64_t)1 << 56};
    struct block got[5];
    struct prg *p = NULL;

    assert_int_equal(prg_new(seed, &p), 0);
    for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
        prg_seek(p, from[i]);
        prg_bytes(p, got, sizeof got);
        for (uint64_t k = 0; k < 5; k++) {
            uint8_t counter[16] = {0}, want[16];

            for (int b = 0; b < 8; b++)
                counter[15 - b] = (uint8_t)((from[i] + k) >> 8 * b);
            ref_aes128(seed, counter, want);
            assert_memory_equal(&got[k], want, 16);
        }
    }
    prg_free(p);
}

/* Another session, batch or part: another hash; back again: the same. */
static void test_hash_keys(void **state)
{
    (void)state;
    static const struct {
        uint8_t sid[HASH_SID];
        uint64_t batch, part;
    } at[] = {{{0}, 0, 0},
              {{1}, 0, 0},
              {{[31] = 1}, 0, 0},
              {{0}, 1, 0},
              {{0}, 0, 1},
              {{0}, (uint64_t)1 << 63, 0},
              {{0}, 0, (uint64_t)1 << 63},
              {{0}, 0, 0}};
    enum { KEYS = sizeof at / sizeof *at };
    struct block in = {3, 4}, out[KEYS];
    struct hasher *h = NULL;

    assert_int_equal(hasher_new(&h), 0);
    for (int i = 0; i < KEYS; i++) {
        assert_int_equal(hasher_key(h, at[i].sid, at[i].batch, at[i].part), 0);
        hash_blocks(h, &out[i], &in, 1, (struct block){1, 1});
        for (int k = 0; k < i; k++)
            assert_int_equal(memcmp(&out[i], &out[k], 16) == 0, i == KEYS - 1 && k == 0);
    }
    hasher_free(h);
}

static void test_secret_memory(void **state)
{
    (void)state;
    long before = secret_alive();
    uint8_t *a = secret_array(3, 5), *b = secret_array(0, 8);

    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal((uintptr_t)a % 64, 0);
    assert_int_equal((uintptr_t)b % 64, 0);
    for (int i = 0; i < 15; i++)
        assert_int_equal(a[i], 0);
    assert_int_equal(secret_alive(), before + 2);
    memset(a, 7, 15);
    wipe(a, 14);
    for (int i = 0; i < 15; i++)
        assert_int_equal(a[i], i < 14 ? 0 : 7);
    secret_free(a);
    secret_free(b);
    secret_free(NULL);
    wipe(NULL, 0);
    assert_int_equal(secret_alive(), before);
    assert_null(secret_array(SIZE_MAX / 8, 8));
    assert_null(secret_array(SIZE_MAX / 4, 8));
}

static int make_all(void)
{
    struct prg *a = NULL, *b = NULL, *c = NULL;
    struct hasher *h = NULL;
    int rc;

    if ((rc = prg_new_random(&a)) < 0 || (rc = prg_new(zero_key, &b)) < 0 ||
        (rc = prg_fork(a, &c)) < 0 || (rc = hasher_new(&h)) < 0)
        goto out;
out:
    prg_free(a);
    prg_free(b);
    prg_free(c);
    hasher_free(h);
    return rc;
}

static void test_allocation_failures(void **state)
{
    (void)state;
    long before = secret_alive(), n = 0;
    int rc;

    do {
        mem_fail_at(++n);
        rc = make_all();
        assert_int_equal(secret_alive(), before);
    } while (rc == ERR_NOMEM);
    mem_fail_at(0);
    assert_int_equal(rc, 0);
    assert_int_equal(n, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aes_published),
        cmocka_unit_test(test_stream_pieces_do_not_matter),
        cmocka_unit_test(test_generators_differ),
        cmocka_unit_test(test_hash_equals_naive),
        cmocka_unit_test(test_circular_hash_equals_naive),
        cmocka_unit_test(test_seek),
        cmocka_unit_test(test_hash_keys),
        cmocka_unit_test(test_secret_memory),
        cmocka_unit_test(test_allocation_failures),
    };

    int failed = cmocka_run_group_tests_name("prg", tests, NULL, NULL);

    setenv("LINNET_CPU", "avx2", 1);
    failed += cmocka_run_group_tests_name("prg without AVX-512", tests, NULL, NULL);
    setenv("LINNET_CPU", "generic", 1); /* AES of OpenSSL */
    return failed + cmocka_run_group_tests_name("prg without vectors", tests, NULL, NULL);
}
