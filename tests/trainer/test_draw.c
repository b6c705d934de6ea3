/* Random parts: torchvision's rule written down once more, its distribution, exact pixels. */
#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/graph/rng.h"
#include "trainer/data/draw.h"
#include "trainer/data/resize.h"
#include "tests/crc32.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define MANY 20000

static struct picture_part drawn(int32_t epoch, int64_t record, int32_t h, int32_t w)
{
    const struct data_view view = {true, 11, epoch};

    return draw_part(&view, record, h, w);
}

static void test_inside_and_in_range(void **state)
{
    static const int32_t size[][2] = {{224, 224}, {375, 500}, {500, 333}, {32, 32}, {60, 90}};

    (void)state;
    for (size_t k = 0; k < 5; k++) {
        const int32_t h = size[k][0], w = size[k][1];
        const double whole = (double)h * w;
        double area = 0, log_ratio = 0, flips = 0, top = 0;

        for (int64_t i = 0; i < MANY; i++) {
            const struct picture_part p = drawn(3, i, h, w);
            assert_true(p.top >= 0 && p.left >= 0 && p.height >= 1 && p.width >= 1);
            assert_true(p.top + p.height <= h && p.left + p.width <= w);
            /* rounding of the sides moves area and ratio a little */
            const double a = (double)p.height * p.width / whole, edge = 1.5 * (h + w) / whole;
            assert_true(a > 0.08 - edge && a <= 1);
            const double ratio = (double)p.width / p.height, slack = 1.0 / p.height + 1.0 / p.width;
            assert_true(ratio > 0.75 * (1 - slack) && ratio < 4.0 / 3 * (1 + slack));
            area += a / MANY;
            log_ratio += log(ratio) / MANY;
            flips += p.flip / (double)MANY;
            top += h > p.height ? (double)p.top / (h - p.height) / MANY : 0.5 / MANY;
        }
        assert_true(fabs(flips - 0.5) < 0.02);
        assert_true(fabs(top - 0.5) < 0.02);
        if (h == w) { /* few are drawn anew: nearly uniform in [0.08, 1], ratios even */
            assert_true(area > 0.45 && area < 0.54);
            assert_true(fabs(log_ratio) < 0.02);
        }
    }
}

static void test_keys(void **state)
{
    const struct picture_part a = drawn(1, 7, 100, 100), b = drawn(1, 7, 100, 100);
    int same_epoch = 0, same_record = 0;

    (void)state;
    assert_memory_equal(&a, &b, sizeof a);
    for (int i = 0; i < 100; i++) {
        const struct picture_part c = drawn(2 + i, 7, 100, 100), d = drawn(1, 8 + i, 100, 100);
        same_epoch += c.top == a.top && c.left == a.left && c.height == a.height;
        same_record += d.top == a.top && d.left == a.left && d.height == a.height;
    }
    assert_true(same_epoch < 3 && same_record < 3);
}

/* Ratios that no part can have: the middle as torchvision's last way out. */
static void test_middle(void **state)
{
    struct picture_part p = drawn(0, 0, 10, 1000);

    (void)state;
    assert_int_equal(p.height, 10);
    assert_int_equal(p.width, 13); /* round(10 * 4 / 3) */
    assert_int_equal(p.left, 493);
    p = drawn(0, 0, 1000, 10);
    assert_int_equal(p.width, 10);
    assert_int_equal(p.height, 13); /* round(10 / (3 / 4)) */
    assert_int_equal(p.top, 493);
    p = drawn(0, 0, 1, 1);
    assert_int_equal(p.height * p.width, 1);
}

static void test_pixels(void **state)
{
    const struct picture_part part = {2, 3, 4, 6, false};
    struct picture_part flipped = part;
    struct picture p = {8, 12, mem_array(8 * 12, 3)}, q = {8, 12, mem_array(8 * 12, 3)};

    (void)state;
    flipped.flip = true;
    for (int i = 0; i < 3 * 8 * 12; i++)
        p.rgb[i] = q.rgb[i] = (uint8_t)(i * 5);
    assert_int_equal(picture_take(&p, &part, 4, 6), 0); /* the part as it is */
    assert_int_equal(picture_take(&q, &flipped, 4, 6), 0);
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 6; x++)
            for (int c = 0; c < 3; c++) {
                const uint8_t want = (uint8_t)((((y + 2) * 12 + x + 3) * 3 + c) * 5);
                assert_int_equal(p.rgb[(y * 6 + x) * 3 + c], want);
                assert_int_equal(q.rgb[(y * 6 + 5 - x) * 3 + c], want);
            }
    picture_release(&p);
    picture_release(&q);
}

static uint8_t pattern(int32_t x, int32_t y, int32_t c)
{
    return (uint8_t)((x * x * 7 + y * 13 * (c + 1) + x * y / 3 * 5 + c * 29) % 256);
}

/* The CRC-32 of what Pillow 13 gives for image.crop(part).resize(size, BILINEAR), which is what
 * torchvision's resized_crop calls. */
static void test_pillow(void **state)
{
    static const struct {
        int32_t h, w;
        struct picture_part part;
        int32_t to_h, to_w;
        uint32_t crc;
    } cases[] = {
        {60, 50, {5, 7, 40, 31, false}, 24, 24, 0x563728e3},
        {60, 50, {0, 0, 60, 50, false}, 24, 20, 0xeedcfb1f},
        {100, 130, {33, 12, 61, 88, false}, 32, 32, 0x24f8c322},
        {40, 40, {3, 5, 11, 9, false}, 32, 32, 0xe4d91b01},
        {224, 224, {10, 50, 150, 170, false}, 224, 224, 0x1ff1399c},
        {375, 500, {20, 100, 300, 257, false}, 96, 96, 0xd3360f18},
    };

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const int32_t h = cases[k].h, w = cases[k].w;
        struct picture p = {h, w, mem_array((size_t)h * (size_t)w, 3)};

        for (int32_t i = 0; i < 3 * h * w; i++)
            p.rgb[i] = pattern(i / 3 % w, i / 3 / w, i % 3);
        assert_int_equal(picture_take(&p, &cases[k].part, cases[k].to_h, cases[k].to_w), 0);
        assert_int_equal(crc32_of(p.rgb, 3 * (size_t)p.height * (size_t)p.width), cases[k].crc);
        picture_release(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inside_and_in_range),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_middle),
        cmocka_unit_test(test_pixels),
        cmocka_unit_test(test_pillow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
