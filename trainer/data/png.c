/*
 * PNG through libpng's row interface: any kind of PNG to RGB of 8 bits, the values that Pillow's
 * convert("RGB") gives.
 *
 *     16 bits      the high byte (Pillow too, except for 16-bit grey, which it cuts off at 255)
 *     1, 2, 4 bits grey is scaled to 0 ... 255; palette indices are looked up
 *     alpha, tRNS  dropped: the colour below counts, however transparent
 *     gAMA, iCCP, sRGB   ignored: no gamma and no colour management, numbers as they are stored
 *     palette      indices after its end are black
 *
 * Stricter than Pillow: the file must have its end (IEND) and right checksums.
 *
 * The library's error exit jumps back to the function that set the point; what is alive across the
 * jump sits in one block on the heap, so no local variable can lose its value.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "core/base/mem.h"
#include "trainer/data/picture.h"

#define PALETTE 256

struct png_reading { /* lives across the jump */
    png_structp png;
    png_infop info;
    const uint8_t *data;
    size_t len, at;
    uint8_t *rows;  /* [height][width][channels] as libpng gives them */
    png_bytep *row; /* [height] into rows */
    uint8_t *rgb;
    uint32_t width, height;
    int channels;
    bool no_memory;
    char text[128];
};

static void on_error(png_structp png, png_const_charp message)
{
    struct png_reading *r = png_get_error_ptr(png);

    snprintf(r->text, sizeof r->text, "%s", message);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png, (void)message; /* odd chunks that have no say in the pixels */
}

static void on_read(png_structp png, png_bytep to, size_t n)
{
    struct png_reading *r = png_get_io_ptr(png);

    if (n > r->len - r->at)
        png_error(png, "the file is truncated");
    memcpy(to, r->data + r->at, n);
    r->at += n;
}

/* Under the jump point: rows of bytes, one a channel; palette indices stay indices. */
static void read_rows(struct png_reading *r)
{
    png_set_read_fn(r->png, r, on_read);
    png_read_info(r->png, r->info);
    r->width = png_get_image_width(r->png, r->info);
    r->height = png_get_image_height(r->png, r->info);
    if (!picture_fits(r->width, r->height))
        png_error(r->png, "too many pixels");
    png_set_strip_16(r->png);
    if (png_get_color_type(r->png, r->info) == PNG_COLOR_TYPE_PALETTE)
        png_set_packing(r->png);
    else
        png_set_expand_gray_1_2_4_to_8(r->png);
    png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    r->channels = png_get_channels(r->png, r->info);
    const size_t stride = (size_t)r->width * (size_t)r->channels;
    r->rows = mem_array(r->height, stride);
    r->row = mem_array(r->height, sizeof *r->row);
    r->no_memory = r->rows == NULL || r->row == NULL;
    if (r->no_memory)
        return;
    for (uint32_t y = 0; y < r->height; y++)
        r->row[y] = r->rows + y * stride;
    png_read_image(r->png, r->row);
    png_read_end(r->png, NULL);
}

static void read_palette(struct png_reading *r, uint8_t palette[PALETTE][3])
{
    png_colorp colour = NULL;
    int n = 0;

    if (png_get_PLTE(r->png, r->info, &colour, &n) == 0)
        return;
    for (int i = 0; i < n && i < PALETTE; i++) {
        palette[i][0] = colour[i].red;
        palette[i][1] = colour[i].green;
        palette[i][2] = colour[i].blue;
    }
}

/* 1 channel: grey or palette, 2: grey and alpha, 3: colours, 4: colours and alpha. */
static void to_rgb(struct png_reading *r)
{
    const bool indexed = png_get_color_type(r->png, r->info) == PNG_COLOR_TYPE_PALETTE;
    const size_t n = (size_t)r->width * r->height, c = (size_t)r->channels;
    uint8_t palette[PALETTE][3] = {{0}};

    if (indexed)
        read_palette(r, palette);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = r->rows + i * c;

        if (indexed)
            memcpy(r->rgb + 3 * i, palette[*p], 3);
        else if (c >= 3)
            memcpy(r->rgb + 3 * i, p, 3);
        else
            memset(r->rgb + 3 * i, *p, 3);
    }
}

static int read_png(struct png_reading *r, const char *what)
{
    r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r, on_error, on_warning);
    r->info = r->png != NULL ? png_create_info_struct(r->png) : NULL;
    if (r->info == NULL)
        return fail(ERR_NOMEM, "out of memory");
    if (setjmp(png_jmpbuf(r->png)) != 0)
        return fail(ERR_DATA, "'%s': PNG: %s", what, r->text);
    read_rows(r);
    return r->no_memory ? ERR_NOMEM : 0;
}

int picture_read_png(const uint8_t *data, size_t len, const char *what, struct picture *out)
{
    struct png_reading *r = mem_array(1, sizeof *r);
    int rc;

    if (r == NULL)
        return ERR_NOMEM;
    r->data = data;
    r->len = len;
    rc = read_png(r, what);
    if (rc == 0 && (r->rgb = mem_array((size_t)r->width * r->height, 3)) == NULL)
        rc = ERR_NOMEM;
    if (rc == 0) {
        to_rgb(r);
        *out = (struct picture){(int32_t)r->height, (int32_t)r->width, r->rgb};
    }
    png_destroy_read_struct(&r->png, &r->info, NULL);
    mem_free(r->rows);
    mem_free(r->row);
    mem_free(r);
    return rc;
}
