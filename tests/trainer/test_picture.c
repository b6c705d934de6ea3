/* PNG and JPEG against fixed numbers; tests/cli/pictures.sh compares every kind with Pillow. */
#include <stdlib.h>
#include <string.h>

#include <stdio.h>

#include <jpeglib.h>
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

/* A progressive JPEG of 16x16 pixels whose last scan comes `more` times again. */
static uint8_t *with_scans(size_t more, size_t *n)
{
    static const uint8_t scan[] = {0xff, 0xda};
    uint8_t grey[16] = {0}, *row = grey;
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    unsigned char *made = NULL;
    unsigned long len = 0;
    size_t at;

    info.err = jpeg_std_error(&errors);
    jpeg_create_compress(&info);
    jpeg_mem_dest(&info, &made, &len);
    info.image_width = info.image_height = 16;
    info.input_components = 1;
    info.in_color_space = JCS_GRAYSCALE;
    jpeg_set_defaults(&info);
    jpeg_simple_progression(&info);
    jpeg_start_compress(&info, TRUE);
    for (int y = 0; y < 16; y++)
        jpeg_write_scanlines(&info, &row, 1);
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    for (at = len - 2; memcmp(made + at, scan, 2) != 0;)
        at--;
    const size_t size = len - 2 - at; /* the end of the image has two bytes */
    uint8_t *out = mem_array(len + more * size, 1);
    memcpy(out, made, len - 2);
    for (size_t i = 0; i < more; i++)
        memcpy(out + len - 2 + i * size, made + at, size);
    memcpy(out + len - 2 + more * size, made + len - 2, 2);
    free(made);
    *n = len + more * size;
    return out;
}

/* Some bytes a scan are work for all pixels: as many as one likes would keep us busy for hours. */
static void test_scans_are_counted(void **state)
{
    struct picture p = {0};
    size_t n;
    uint8_t *file = with_scans(480, &n);

    (void)state;
    assert_int_equal(picture_read_bytes(file, n, "test", &p), 0);
    picture_release(&p);
    mem_free(file);
    file = with_scans(600, &n);
    assert_int_equal(picture_read_bytes(file, n, "test", &p), ERR_DATA);
    assert_non_null(strstr(err_message(), "'test': JPEG: more than 500 scans"));
    assert_null(p.rgb);
    mem_free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_are_those_of_the_file),
        cmocka_unit_test(test_every_cut_is_refused),
        cmocka_unit_test(test_scans_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
