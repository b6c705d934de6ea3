/* Tar files for tests; see tar_make.h. */
#include "tests/tar_make.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include "core/base/mem.h"
#include "tests/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define BLOCK 512

static uint8_t *grow(struct tar_make *t, size_t n)
{
    t->v = mem_resize(t->v, t->n + n, 1);
    assert_non_null(t->v);
    memset(t->v + t->n, 0, n);
    t->n += n;
    return t->v + t->n - n;
}

void tar_sum(struct tar_make *t, size_t header)
{
    uint8_t *h = t->v + header;
    unsigned sum = 0;

    memset(h + 148, ' ', 8);
    for (int i = 0; i < BLOCK; i++)
        sum += h[i];
    snprintf((char *)h + 148, 8, "%06o", sum);
}

void tar_put(struct tar_make *t, const char *name, char kind, const void *data, size_t n)
{
    t->last = t->n;
    uint8_t *h = grow(t, BLOCK);

    snprintf((char *)h, 101, "%s", name);
    strcpy((char *)h + 100, "0000644");
    snprintf((char *)h + 124, 12, "%011zo", n);
    h[156] = (uint8_t)kind;
    memcpy(h + 257, "ustar\00000", 8);
    tar_sum(t, t->last);
    if (n > 0)
        memcpy(grow(t, (n + BLOCK - 1) / BLOCK * BLOCK), data, n);
}

/* malloc'ed */
static unsigned char *grey_jpeg(uint8_t grey, int height, int width, unsigned long *len)
{
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    unsigned char *out = NULL;
    uint8_t *row = mem_array((size_t)width, 1);

    assert_non_null(row);
    for (int x = 0; x < width; x++)
        row[x] = x < width / 2 ? grey : (uint8_t)~grey;
    info.err = jpeg_std_error(&errors);
    jpeg_create_compress(&info);
    jpeg_mem_dest(&info, &out, len);
    info.image_width = (JDIMENSION)width;
    info.image_height = (JDIMENSION)height;
    info.input_components = 1;
    info.in_color_space = JCS_GRAYSCALE;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, 100, TRUE);
    jpeg_start_compress(&info, TRUE);
    for (int y = 0; y < height; y++) {
        JSAMPROW at = row;
        jpeg_write_scanlines(&info, &at, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    mem_free(row);
    return out;
}

void tar_put_sample(struct tar_make *t, const char *key, int label, uint8_t grey, int height,
                    int width)
{
    char name[256], text[16];
    unsigned long len = 0;
    unsigned char *jpeg = grey_jpeg(grey, height, width, &len);

    snprintf(name, sizeof name, "%s.cls", key);
    tar_put(t, name, '0', text, (size_t)snprintf(text, sizeof text, "%d", label));
    snprintf(name, sizeof name, "%s.jpg", key);
    tar_put(t, name, '0', jpeg, len);
    free(jpeg);
}

void tar_end(struct tar_make *t)
{
    grow(t, 2 * BLOCK);
}

void tar_write(const struct tar_make *t, const char *path)
{
    scratch_write(path, t->v, t->n);
}

void tar_release(struct tar_make *t)
{
    mem_free(t->v);
    *t = (struct tar_make){0};
}
