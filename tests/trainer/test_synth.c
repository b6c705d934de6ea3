/* The synthetic images: repeatable, balanced, the same for any number of threads, and classes that
 * can be told apart. */
#include <stdlib.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"
#include "trainer/data/synth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define N 500
#define SYNTH_HASH 0xeda24cf3c1aefa75u

static void draw(uint64_t seed, enum synth_part part, int threads, uint8_t *pixels, int32_t *labels)
{
    cpu_set_threads(threads);
    synth_images(seed, part, N, pixels, labels);
    cpu_set_threads(0);
}

static void test_same_seed_gives_the_same_bytes_for_any_threads(void **state)
{
    uint8_t *a = mem_array(N, SYNTH_BYTES), *b = mem_array(N, SYNTH_BYTES);
    int32_t la[N], lb[N];

    (void)state;
    assert_non_null(a);
    assert_non_null(b);
    draw(1, SYNTH_TRAIN, 1, a, la);
    draw(1, SYNTH_TRAIN, 3, b, lb);
    assert_memory_equal(a, b, N * SYNTH_BYTES);
    assert_memory_equal(la, lb, sizeof la);
    draw(2, SYNTH_TRAIN, 1, b, lb);
    assert_memory_not_equal(a, b, SYNTH_BYTES);
    draw(1, SYNTH_TEST, 1, b, lb);
    assert_memory_not_equal(a, b, SYNTH_BYTES);
    mem_free(a);
    mem_free(b);
}

/* The images are part of recorded results: a change of the generator must be meant. FNV-1a. */
static void test_pictures_are_those_of_this_version(void **state)
{
    uint8_t chw[SYNTH_BYTES];
    uint64_t hash = 0xcbf29ce484222325u;
    int32_t label;

    (void)state;
    for (int64_t i = 0; i < 50; i++) {
        synth_image(1, SYNTH_TRAIN, i, chw, &label);
        assert_int_equal(label, i % 10);
        for (int k = 0; k < SYNTH_BYTES; k++)
            hash = (hash ^ chw[k]) * 0x100000001b3u;
    }
    if (hash != SYNTH_HASH)
        fail_msg("hash of the first 50 images is 0x%016llx", (unsigned long long)hash);
}

/* Strong contrasts: in each image some channel spans at least 60 of 255 grey levels, a large part
 * of the range is used over all images, and few values are clipped. */
static void test_pictures_have_contrast(void **state)
{
    uint8_t chw[SYNTH_BYTES];
    int64_t clipped = 0;
    int32_t label;

    (void)state;
    for (int64_t i = 0; i < N; i++) {
        int span = 0;
        synth_image(5, SYNTH_TRAIN, i, chw, &label);
        for (int c = 0; c < 3; c++) {
            int lo = 255, hi = 0;
            for (int k = 0; k < 1024; k++) {
                int v = chw[c * 1024 + k];
                lo = v < lo ? v : lo;
                hi = v > hi ? v : hi;
                clipped += v == 0 || v == 255;
            }
            span = hi - lo > span ? hi - lo : span;
        }
        assert_true(span >= 60);
    }
    assert_true(clipped < N * SYNTH_BYTES / 5);
}

static void test_class_names_differ(void **state)
{
    (void)state;
    for (int32_t i = 0; i < SYNTH_CLASSES; i++)
        for (int32_t j = 0; j < i; j++)
            assert_string_not_equal(synth_class_name(i), synth_class_name(j));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_seed_gives_the_same_bytes_for_any_threads),
        cmocka_unit_test(test_pictures_are_those_of_this_version),
        cmocka_unit_test(test_pictures_have_contrast),
        cmocka_unit_test(test_class_names_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
