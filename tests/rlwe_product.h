#ifndef TESTS_RLWE_PRODUCT_H
#define TESTS_RLWE_PRODUCT_H
/* One product of an upload and weights, as a server makes it, for tests: c and a are residues. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "runtime/crypto/rlwe.h"

/* Modulo prime i: adds (c, a) * the sum of value[j] X^(apart * j) to the work. */
static void rlwe_product_add(struct rlwe_work *k, const struct rlwe *r, int i, const uint64_t *c,
                             const uint64_t *a, const int16_t *value, int32_t apart)
{
    int64_t n = (RLWE_N + apart - 1) / apart;
    const struct ntt *t = rlwe_prime(r, i);
    struct ntt_taps *taps = NULL;
    int32_t *place = mem_array(RLWE_N, sizeof *place);
    uint64_t *x[3];

    assert_non_null(place);
    for (int32_t j = 0; j < n; j++)
        place[j] = apart * j;
    for (int j = 0; j < 3; j++)
        assert_non_null(x[j] = mem_aligned(RLWE_N, sizeof *x[j]));
    memcpy(x[0], c, RLWE_N * sizeof *c);
    memcpy(x[1], a, RLWE_N * sizeof *a);
    ntt_operand(t, x[0]);
    ntt_operand(t, x[1]);
    assert_int_equal(ntt_taps_new(place, n, 0, &taps), 0);
    ntt_weight(t, taps, value, x[2]);
    rlwe_work_add(k, r, i, 1, (const uint64_t *const *)x, (const uint64_t *const *)x + 1,
                  (const uint64_t *const *)x + 2, 0);
    ntt_taps_free(taps);
    mem_free(place);
    for (int j = 0; j < 3; j++)
        mem_free(x[j]);
}
#endif
