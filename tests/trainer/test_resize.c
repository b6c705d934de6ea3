/* Scaling against Pillow (CRC-32 of what Image.resize gave for the same pattern), and cropping. */
#include <string.h>

#include "core/base/mem.h"
#include "trainer/data/resize.h"
#include "tests/crc32.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static uint8_t pattern(int32_t x, int32_t y, int32_t c)
{
    return (uint8_t)((x * x * 7 + y * 13 * (c + 1) + x * y / 3 * 5 + c * 29) % 256);
}

static struct picture made(int32_t h, int32_t w)
{
    struct picture p = {h, w, mem_array((size_t)h * (size_t)w, 3)};

    for (int32_t i = 0; i < 3 * h * w; i++)
        p.rgb[i] = pattern(i / 3 % w, i / 3 / w, i % 3);
    return p;
}

static void test_pillow(void **state)
{
    static const struct {
        int32_t h, w, to_h, to_w;
        enum resize_filter filter;
        uint32_t crc;
    } cases[] = {
        {40, 56, 32, 32, RESIZE_BILINEAR, 0xea252234},
        {40, 56, 32, 32, RESIZE_BICUBIC, 0x7f78438a},
        {32, 32, 64, 48, RESIZE_BILINEAR, 0xc6b764e5},
        {32, 32, 64, 48, RESIZE_BICUBIC, 0x88c0f97e},
        {100, 37, 13, 37, RESIZE_BILINEAR, 0x2a036614},
        {100, 37, 13, 37, RESIZE_BICUBIC, 0xa47b3ced},
        {17, 90, 17, 31, RESIZE_BILINEAR, 0x19a90b21},
        {17, 90, 17, 31, RESIZE_BICUBIC, 0x0d4e6aca},
        {9, 11, 8, 200, RESIZE_BILINEAR, 0xb9e9baf0},
        {9, 11, 8, 200, RESIZE_BICUBIC, 0xa680f58f},
        {375, 500, 256, 341, RESIZE_BILINEAR, 0xafaa445a},
        {375, 500, 256, 341, RESIZE_BICUBIC, 0x3f573c17},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct picture p = made(cases[i].h, cases[i].w), q = {0};
        assert_int_equal(picture_resize(&p, cases[i].to_h, cases[i].to_w, cases[i].filter, &q), 0);
        const uint32_t crc = crc32_of(q.rgb, (size_t)q.height * (size_t)q.width * 3);
        if (crc != cases[i].crc)
            fail_msg("case %zu: %08x", i, crc);
        picture_release(&p);
        picture_release(&q);
    }
}

static void test_shorter_side(void **state)
{
    struct picture p = made(375, 500);

    (void)state;
    assert_int_equal(picture_shorter_side(&p, 256, RESIZE_BILINEAR), 0);
    assert_true(p.height == 256 && p.width == 341); /* floor(500 256 / 375) */
    picture_release(&p);
    p = made(90, 30);
    assert_int_equal(picture_shorter_side(&p, 30, RESIZE_BICUBIC), 0);
    assert_true(p.height == 90 && p.width == 30 && p.rgb[3] == pattern(1, 0, 0));
    picture_release(&p);
    assert_int_equal(picture_resize(&p, 0, 5, RESIZE_BILINEAR, &p), ERR_DATA);
}

/* Rows and columns of the middle; of an odd margin half of it to the even number. */
static void test_crop(void **state)
{
    static const struct {
        int32_t side, crop, from;
    } cases[] = {{10, 4, 3}, {10, 5, 2}, {10, 3, 4}, {9, 9, 0}, {8, 7, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct picture p = made(cases[i].side + 2, cases[i].side);
        assert_int_equal(picture_crop(&p, cases[i].crop + 2, cases[i].crop), 0);
        for (int32_t k = 0; k < 3 * p.height * p.width; k++)
            assert_int_equal(p.rgb[k], pattern(k / 3 % p.width + cases[i].from,
                                               k / 3 / p.width + cases[i].from, k % 3));
        picture_release(&p);
    }
    struct picture p = made(5, 5);
    assert_int_equal(picture_crop(&p, 6, 5), ERR_DATA);
    assert_int_equal(picture_crop(&p, 5, 6), ERR_DATA);
    picture_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pillow),
        cmocka_unit_test(test_shorter_side),
        cmocka_unit_test(test_crop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
