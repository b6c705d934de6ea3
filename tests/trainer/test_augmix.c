/* The operations against Pillow (tests/vec/augmix.txt), the mixture by its properties. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "tests/scratch.h"
#include "trainer/corrupt/augmix.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define VECTORS "tests/vec/augmix.txt"
#define MOST (3 * 32 * 40)
#define CIFAR_RECORD 3073

static uint32_t crc32_more(uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
    while (n-- > 0) {
        crc ^= *p++;
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

/* The generator of tests/vec/augmix.py. */
static void make_picture(int index, uint8_t *chw, int32_t *h, int32_t *w)
{
    uint32_t state = (uint32_t)index * 2654435761u + 1;

    *h = index % 10 == 9 ? 24 : 32;
    *w = index % 10 == 9 ? 40 : 32;
    for (uint32_t i = 0; i < 3u * (uint32_t)(*h * *w); i++) {
        uint32_t c = i / (uint32_t)(*h * *w), x = i % (uint32_t)*w;
        uint32_t y = i / (uint32_t)*w % (uint32_t)*h, r;
        state = state * 1664525u + 1013904223u;
        r = state >> 24;
        const uint32_t value[5] = {r, x * 5 + y * 3 * c + (r >> 4), (r & 3) * 60 + (uint32_t)index,
                                   100 + (r >> 3), r < 250 ? 200 : r};
        chw[i] = (uint8_t)value[index % 5];
    }
}

static uint32_t crc_of_op(enum augmix_kind op, const uint8_t *chw, int32_t h, int32_t w)
{
    static const float level[] = {0.1f, 0.5f, 1, 2, 2.5f, 2.9f, 9.9f};
    uint8_t out[MOST];
    uint32_t crc = 0;

    for (size_t i = 0; i < 2 * sizeof level / sizeof level[0]; i++) {
        double parameter = augmix_parameter(op, level[i / 2], i % 2 == 1, h, w);
        augmix_op(op, parameter, chw, 3, h, w, out);
        crc = crc32_more(crc, out, (size_t)(3 * h * w));
    }
    return crc;
}

static void check_line(const char *line, const uint8_t *chw, int32_t h, int32_t w)
{
    const char *s = strchr(strchr(line, ' ') + 1, ' ');

    for (int op = 0; op < AUGMIX_N; op++) {
        char *end;
        uint32_t want = (uint32_t)strtoul(s, &end, 16);
        uint32_t got = crc_of_op((enum augmix_kind)op, chw, h, w);
        if (got != want)
            fail_msg("operation %d: crc %08x, Pillow's is %08x, in %.12s", op, got, want, line);
        s = end;
    }
}

/* Calls check_line for each line of the kind; file: CIFAR-10's test images, NULL for `made`. */
static void check_kind(const char *kind, FILE *file)
{
    char line[256];
    uint8_t picture[MOST];
    int32_t h = 32, w = 32;
    int index, found = 0;
    FILE *f = fopen(VECTORS, "r");

    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, kind, strlen(kind)) != 0)
            continue;
        index = atoi(strchr(line, ' '));
        if (file == NULL) {
            make_picture(index, picture, &h, &w);
        } else {
            assert_int_equal(fseek(file, 37L * index * CIFAR_RECORD + 1, SEEK_SET), 0);
            assert_int_equal(fread(picture, 1, 3072, file), 3072);
        }
        check_line(line, picture, h, w);
        found++;
    }
    fclose(f);
    assert_true(found >= 40);
}

static void test_operations_equal_pillow(void **state)
{
    (void)state;
    check_kind("made", NULL);
}

static void test_operations_equal_pillow_on_cifar(void **state)
{
    char path[SCRATCH_TEXT];
    FILE *f;

    (void)state;
    if (scratch_shared("data/cifar10/test_batch.bin", path) == NULL) {
        print_message("skipped: no shared folder\n");
        skip();
    }
    f = fopen(path, "rb");
    assert_non_null(f);
    check_kind("cifar", f);
    fclose(f);
}

static void test_parameters_follow_the_levels(void **state)
{
    (void)state;
    assert_true(augmix_parameter(AUGMIX_POSTERIZE, 2.4f, false, 32, 32) == 4);
    assert_true(augmix_parameter(AUGMIX_POSTERIZE, 2.5f, false, 32, 32) == 3);
    assert_true(augmix_parameter(AUGMIX_ROTATE, 2.9f, true, 32, 32) == -8);
    assert_true(augmix_parameter(AUGMIX_SOLARIZE, 3.0f, false, 32, 32) == 180);
    assert_true(augmix_parameter(AUGMIX_TRANSLATE_X, 3.0f, true, 32, 32) == -3);
    assert_true(augmix_parameter(AUGMIX_TRANSLATE_Y, 3.0f, false, 64, 32) == 6);
    assert_true(fabs(augmix_parameter(AUGMIX_SHEAR_X, 3.0f, false, 32, 32) - 0.09) < 1e-6);
    assert_true(fabs(augmix_parameter(AUGMIX_COLOR, 3.0f, false, 32, 32) - 0.64) < 1e-6);
}

static void mix(uint64_t sample, const struct augmix_config *cfg, float *out)
{
    struct rng r = rng_at(3, RNG_AUGMIX, 0, sample);
    uint8_t picture[MOST];
    int32_t h, w;

    make_picture(1, picture, &h, &w);
    augmix(cfg, picture, 3, h, w, &r, out);
}

static void test_mixture_stays_in_range_and_repeats(void **state)
{
    struct augmix_config cfg = augmix_defaults();
    float a[3072], b[3072];
    int changed = 0;

    (void)state;
    cfg.all_ops = true;
    for (uint64_t sample = 0; sample < 200; sample++) {
        mix(sample, &cfg, a);
        mix(sample, &cfg, b);
        assert_memory_equal(a, b, sizeof a);
        for (int i = 0; i < 3072; i++)
            assert_true(a[i] >= 0 && a[i] <= 1);
        mix(sample + 1, &cfg, b);
        changed += memcmp(a, b, sizeof a) != 0;
    }
    assert_int_equal(changed, 200);
}

/* No operation changes a black image at severity 3, so no mixture does. */
static void test_mixture_of_black_is_black(void **state)
{
    struct augmix_config cfg = augmix_defaults();
    uint8_t black[3 * 64] = {0};
    float out[3 * 64];

    (void)state;
    for (uint64_t sample = 0; sample < 100; sample++) {
        struct rng r = rng_at(3, RNG_AUGMIX, 0, sample);
        augmix(&cfg, black, 3, 8, 8, &r, out);
        for (int i = 0; i < 3 * 64; i++)
            assert_true(out[i] == 0);
    }
}

static void test_one_channel_works(void **state)
{
    struct augmix_config cfg = augmix_defaults();
    struct rng r = rng_at(3, RNG_AUGMIX, 0, 5);
    uint8_t picture[MOST];
    float out[1024];
    int32_t h, w;

    (void)state;
    make_picture(1, picture, &h, &w);
    augmix(&cfg, picture, 1, h, w, &r, out);
    for (int i = 0; i < 1024; i++)
        assert_true(out[i] >= 0 && out[i] <= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operations_equal_pillow),
        cmocka_unit_test(test_operations_equal_pillow_on_cifar),
        cmocka_unit_test(test_parameters_follow_the_levels),
        cmocka_unit_test(test_mixture_stays_in_range_and_repeats),
        cmocka_unit_test(test_mixture_of_black_is_black),
        cmocka_unit_test(test_one_channel_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
