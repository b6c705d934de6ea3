/* PNG and JPEG against fixed numbers; tests/cli/pictures.sh compares every kind with Pillow. */
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "core/base/mem.h"
#include "trainer/data/picture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct file {
    uint8_t bytes[4096];
    size_t n;
};

static void append(png_structp png, png_bytep data, size_t n)
{
    struct file *f = png_get_io_ptr(png);

    assert_true(f->n + n <= sizeof f->bytes);
    memcpy(f->bytes + f->n, data, n);
    f->n += n;
}

/* One row of two pixels, with a gamma of 1.0 (a reader that obeys it changes the values). */
static struct file encoded(int bits, int colour, const uint8_t *row, const png_color *palette,
                           int n_palette)
{
    struct file f = {.n = 0};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);

    png_set_write_fn(png, &f, append, NULL);
    png_set_IHDR(png, info, 2, 1, bits, colour, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_BASE,
                 PNG_FILTER_TYPE_BASE);
    png_set_gAMA(png, info, 1.0);
    if (palette != NULL)
        png_set_PLTE(png, info, palette, n_palette);
    png_write_info(png, info);
    png_write_row(png, row);
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    return f;
}

static void expect_pixels(const struct file *f, const uint8_t want[6])
{
    struct picture p = {0};

    if (picture_read_bytes(f->bytes, f->n, "test", &p) != 0)
        fail_msg("%s", err_message());
    assert_true(p.height == 1 && p.width == 2);
    assert_memory_equal(p.rgb, want, 6);
    picture_release(&p);
}

static void test_numbers_are_those_of_the_file(void **state)
{
    static const uint8_t rgb16[] = {1, 255, 128, 128, 254, 0, 0, 7, 64, 200, 255, 255};
    static const uint8_t rgba[] = {10, 20, 30, 0, 200, 100, 50, 128};
    static const uint8_t grey16[] = {77, 200, 255, 254}, grey2[] = {0x60}, index4[] = {0x1f};
    static const png_color palette[] = {{9, 9, 9}, {40, 50, 60}};
    struct file f = encoded(16, PNG_COLOR_TYPE_RGB, rgb16, NULL, 0);

    (void)state;
    expect_pixels(&f, (const uint8_t[]){1, 128, 254, 0, 64, 255});
    f = encoded(8, PNG_COLOR_TYPE_RGB_ALPHA, rgba, NULL, 0);
    expect_pixels(&f, (const uint8_t[]){10, 20, 30, 200, 100, 50});
    f = encoded(16, PNG_COLOR_TYPE_GRAY, grey16, NULL, 0);
    expect_pixels(&f, (const uint8_t[]){77, 77, 77, 255, 255, 255});
    f = encoded(2, PNG_COLOR_TYPE_GRAY, grey2, NULL, 0);
    expect_pixels(&f, (const uint8_t[]){85, 85, 85, 170, 170, 170});
    f = encoded(4, PNG_COLOR_TYPE_PALETTE, index4, palette, 2); /* 15 is behind the palette */
    expect_pixels(&f, (const uint8_t[]){40, 50, 60, 0, 0, 0});
}

static void test_every_cut_is_refused(void **state)
{
    static const uint8_t rgb[] = {1, 2, 3, 4, 5, 6};
    const struct file f = encoded(8, PNG_COLOR_TYPE_RGB, rgb, NULL, 0);
    struct picture p = {0};

    (void)state;
    expect_pixels(&f, rgb);
    for (size_t n = 0; n < f.n; n++) {
        assert_int_equal(picture_read_bytes(f.bytes, n, "test", &p), ERR_DATA);
        assert_null(p.rgb);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_are_those_of_the_file),
        cmocka_unit_test(test_every_cut_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
