#ifndef TRAINER_DATA_PICTURE_H
#define TRAINER_DATA_PICTURE_H
/*
 * Image files: JPEG (libjpeg-turbo, slow integer DCT) and PNG (libpng), always as RGB of 8 bits,
 * with the values of Pillow's Image.open(...).convert("RGB"): grey becomes RGB, alpha is dropped, four
 * inks become RGB, 16 bits become the high byte. Gamma, colour profiles and the EXIF orientation are
 * ignored: an image that only a tag turns stays as it is stored. A truncated file is refused.
 *
 *     struct picture p = {0};
 *     TRY(picture_read("cat.jpg", &p));       // p.rgb [p.height][p.width][3]
 *     picture_release(&p);
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

#define PICTURE_MOST_PIXELS ((size_t)1 << 26)
#define PICTURE_MOST_BYTES ((size_t)1 << 28) /* of a file */

struct picture {
    int32_t height, width;
    uint8_t *rgb; /* [height][width][3] */
};
/* ERR_DATA names file and reason. `what` names the bytes. */
int picture_read(const char *path, struct picture *out) MUST_CHECK;
int picture_read_bytes(const uint8_t *data, size_t len, const char *what,
                       struct picture *out) MUST_CHECK;
void picture_release(struct picture *p); /* a zeroed one is fine */
/* As JPEG at the quality (1 ... 100) with the library's defaults (4:2:0), and back. [3][h][w]. */
int picture_jpeg_round_trip(const uint8_t *chw, int32_t h, int32_t w, int quality,
                            uint8_t *out) MUST_CHECK;

/* Neither empty nor more than PICTURE_MOST_PIXELS. */
bool picture_fits(size_t width, size_t height);
/* Of the two formats; out is zeroed before. */
int picture_read_jpeg(const uint8_t *data, size_t len, const char *what,
                      struct picture *out) MUST_CHECK;
int picture_read_png(const uint8_t *data, size_t len, const char *what,
                     struct picture *out) MUST_CHECK;
#endif
