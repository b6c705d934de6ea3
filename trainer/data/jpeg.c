/*
 * JPEG through libjpeg-turbo: reading, and one round trip as the corruption wants it.
 *
 * The library's error exit must not return; it jumps back to the function that set the point.
 * Everything that is alive across the jump sits in one block on the heap, so no local variable can
 * lose its value.
 */
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

#include "core/base/mem.h"
#include "trainer/data/picture.h"

struct jump {
    struct jpeg_error_mgr base;
    jmp_buf back;
    char text[JMSG_LENGTH_MAX];
};

static void on_error(j_common_ptr info)
{
    struct jump *j = (struct jump *)(void *)info->err;

    info->err->format_message(info, j->text);
    longjmp(j->back, 1);
}

/* A file that ends too early is refused, as Pillow does. Other warnings are about odd bytes: the
 * image is taken as far as it goes. */
static void on_message(j_common_ptr info, int level)
{
    if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) {
        struct jump *j = (struct jump *)(void *)info->err;
        snprintf(j->text, sizeof j->text, "the file is truncated");
        longjmp(j->back, 1);
    }
}

static struct jpeg_error_mgr *errors(struct jump *j)
{
    struct jpeg_error_mgr *e = jpeg_std_error(&j->base);

    e->error_exit = on_error;
    e->emit_message = on_message;
    return e;
}

/* A progressive file brings its image in scans. Each costs time for all pixels, and some bytes are enough for
 * one; encoders write about ten. */
#define MOST_SCANS 500

static void on_progress(j_common_ptr info)
{
    struct jump *j = (struct jump *)(void *)info->err;

    if (((j_decompress_ptr)(void *)info)->input_scan_number <= MOST_SCANS)
        return;
    snprintf(j->text, sizeof j->text, "more than %d scans", MOST_SCANS);
    longjmp(j->back, 1);
}

struct reading { /* lives across the jump */
    struct jpeg_decompress_struct info;
    struct jpeg_progress_mgr progress;
    struct jump jump;
    uint8_t *rgb;
    uint8_t *ink; /* a row of cyan, magenta, yellow, black; NULL for other files */
    bool no_memory;
};

/* a b / 255 to the nearest, as Pillow has it */
static int times(int a, int b)
{
    const int t = a * b + 128;
    return ((t >> 8) + t) >> 8;
}

/* Files of four inks are taken as Adobe writes them: inverted, so 255 is no ink. */
static void ink_to_rgb(const uint8_t *ink, size_t width, uint8_t *rgb)
{
    for (size_t i = 0; i < width; i++)
        for (int c = 0; c < 3; c++)
            rgb[3 * i + (size_t)c] =
                (uint8_t)(ink[4 * i + 3] - times(255 - ink[4 * i + (size_t)c], ink[4 * i + 3]));
}

/* Under the jump point: anything may leave by it. */
static void decode(struct reading *r, const uint8_t *data, size_t len)
{
    jpeg_create_decompress(&r->info);
    r->progress.progress_monitor = on_progress;
    r->info.progress = &r->progress;
    jpeg_mem_src(&r->info, data, (unsigned long)len);
    jpeg_read_header(&r->info, TRUE);
    if (!picture_fits(r->info.image_width, r->info.image_height)) {
        snprintf(r->jump.text, sizeof r->jump.text, "%ux%u pixels are too many",
                 r->info.image_width, r->info.image_height);
        longjmp(r->jump.back, 1);
    }
    const bool inks = r->info.num_components == 4;
    r->info.out_color_space = inks ? JCS_CMYK : JCS_RGB;
    r->info.dct_method = JDCT_ISLOW;
    jpeg_start_decompress(&r->info);
    const size_t width = r->info.output_width;
    r->rgb = mem_array(width * r->info.output_height, 3);
    r->ink = inks ? mem_array(width, 4) : NULL;
    r->no_memory = r->rgb == NULL || (inks && r->ink == NULL);
    while (!r->no_memory && r->info.output_scanline < r->info.output_height) {
        uint8_t *rgb = r->rgb + (size_t)r->info.output_scanline * width * 3;
        JSAMPROW row = inks ? r->ink : rgb;
        jpeg_read_scanlines(&r->info, &row, 1);
        if (inks)
            ink_to_rgb(r->ink, width, rgb);
    }
    if (!r->no_memory)
        jpeg_finish_decompress(&r->info);
}

int picture_read_jpeg(const uint8_t *data, size_t len, const char *what, struct picture *out)
{
    struct reading *r = mem_array(1, sizeof *r);
    int rc = 0;

    if (r == NULL)
        return ERR_NOMEM;
    r->info.err = errors(&r->jump);
    if (setjmp(r->jump.back) == 0)
        decode(r, data, len);
    else
        rc = fail(ERR_DATA, "'%s': JPEG: %s", what, r->jump.text);
    if (r->no_memory)
        rc = ERR_NOMEM;
    if (rc == 0)
        *out =
            (struct picture){(int32_t)r->info.output_height, (int32_t)r->info.output_width, r->rgb};
    else
        mem_free(r->rgb);
    mem_free(r->ink);
    jpeg_destroy_decompress(&r->info);
    mem_free(r);
    return rc;
}

struct writing {
    struct jpeg_compress_struct info;
    struct jump jump;
    unsigned char *data; /* malloc'ed by the library */
    unsigned long len;
};

static void encode(struct writing *w, const uint8_t *rgb, int32_t height, int32_t width,
                   int quality)
{
    jpeg_create_compress(&w->info);
    jpeg_mem_dest(&w->info, &w->data, &w->len);
    w->info.image_width = (JDIMENSION)width;
    w->info.image_height = (JDIMENSION)height;
    w->info.input_components = 3;
    w->info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&w->info);
    jpeg_set_quality(&w->info, quality, TRUE);
    w->info.dct_method = JDCT_ISLOW;
    jpeg_start_compress(&w->info, TRUE);
    while (w->info.next_scanline < w->info.image_height) {
        JSAMPROW row =
            (JSAMPROW)(uintptr_t)(rgb + (size_t)w->info.next_scanline * (size_t)width * 3);
        jpeg_write_scanlines(&w->info, &row, 1);
    }
    jpeg_finish_compress(&w->info);
}

static int write_jpeg(const uint8_t *rgb, int32_t h, int32_t w, int quality, struct writing *out)
{
    out->info.err = errors(&out->jump);
    if (setjmp(out->jump.back) == 0) {
        encode(out, rgb, h, w, quality);
        return 0;
    }
    return fail(ERR_DATA, "JPEG: %s", out->jump.text);
}

int picture_jpeg_round_trip(const uint8_t *chw, int32_t h, int32_t w, int quality, uint8_t *out)
{
    const size_t n = (size_t)h * (size_t)w;
    struct writing *writing = mem_array(1, sizeof *writing);
    uint8_t *rgb = mem_array(n, 3);
    struct picture back = {0};
    int rc = ERR_NOMEM;

    if (writing == NULL || rgb == NULL)
        goto out;
    for (size_t i = 0; i < 3 * n; i++)
        rgb[i] = chw[i % 3 * n + i / 3];
    if ((rc = write_jpeg(rgb, h, w, quality, writing)) == 0 &&
        (rc = picture_read_jpeg(writing->data, writing->len, "an image of ours", &back)) == 0)
        for (size_t i = 0; i < 3 * n; i++)
            out[i % 3 * n + i / 3] = back.rgb[i];
out:
    if (writing != NULL) {
        jpeg_destroy_compress(&writing->info);
        free(writing->data);
    }
    picture_release(&back);
    mem_free(writing);
    mem_free(rgb);
    return rc;
}
