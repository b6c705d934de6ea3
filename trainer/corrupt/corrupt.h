#ifndef TRAINER_CORRUPT_CORRUPT_H
#define TRAINER_CORRUPT_CORRUPT_H
/*
 * The common corruptions of Hendrycks and Dietterich (2019) as a generator: a re-implementation for
 * training and for data that have no published files. Results must be
 * labelled so; figures for CIFAR-10-C come from the published files.
 *
 *     struct rng r = rng_at(seed, RNG_CORRUPT, type * 8 + severity, image);
 *     TRY(corrupt_apply(CORRUPT_FOG, 3, pixels, 32, 32, &r, out));
 *
 * RGB images [3,H,W] of 8 bits, sides 8 ... CORRUPT_MAX_SIDE. The parameters are the published ones
 * for 32x32 (up to 48 pixels) and for 64x64 (above).
 */
#include <stdbool.h>
#include <stdint.h>

#include "core/base/mem.h"
#include "core/graph/rng.h"

#define CORRUPT_MAX_SIDE 256
#define CORRUPT_SEVERITIES 5

/* X(NAME, name, set, how): the 15 standard types in the published order, then the extra ones. `name`
 * is the word that users write; corrupt_<name>(struct corrupt_job *), in a file of this folder, is the
 * operation. A new type is its file and a row at the end: its place keys the random numbers.
 *
 *     set   STANDARD or EXTRA (only where it is named)
 *     how   FIXED, DRAWN (random) or PHOTO (random, and needs corrupt_photos) */
#define CORRUPT_TABLE(X)                                                                           \
    X(GAUSSIAN_NOISE, gaussian_noise, STANDARD, DRAWN)                                             \
    X(SHOT_NOISE, shot_noise, STANDARD, DRAWN)                                                     \
    X(IMPULSE_NOISE, impulse_noise, STANDARD, DRAWN)                                               \
    X(DEFOCUS_BLUR, defocus_blur, STANDARD, FIXED)                                                 \
    X(GLASS_BLUR, glass_blur, STANDARD, DRAWN)                                                     \
    X(MOTION_BLUR, motion_blur, STANDARD, DRAWN)                                                   \
    X(ZOOM_BLUR, zoom_blur, STANDARD, FIXED)                                                       \
    X(SNOW, snow, STANDARD, DRAWN)                                                                 \
    X(FROST, frost, STANDARD, PHOTO)                                                               \
    X(FOG, fog, STANDARD, DRAWN)                                                                   \
    X(BRIGHTNESS, brightness, STANDARD, FIXED)                                                     \
    X(CONTRAST, contrast, STANDARD, FIXED)                                                         \
    X(ELASTIC_TRANSFORM, elastic_transform, STANDARD, DRAWN)                                       \
    X(PIXELATE, pixelate, STANDARD, FIXED)                                                         \
    X(JPEG_COMPRESSION, jpeg_compression, STANDARD, FIXED)                                         \
    X(SPECKLE_NOISE, speckle_noise, EXTRA, DRAWN)                                                  \
    X(GAUSSIAN_BLUR, gaussian_blur, EXTRA, FIXED)                                                  \
    X(SPATTER, spatter, EXTRA, DRAWN)                                                              \
    X(SATURATE, saturate, EXTRA, FIXED)

enum corrupt_type {
#define CORRUPT_VALUE(NAME, name, set, how) CORRUPT_##NAME,
    CORRUPT_TABLE(CORRUPT_VALUE) CORRUPT_N
};
#define CORRUPT_IN_STANDARD 1
#define CORRUPT_IN_EXTRA 0
#define CORRUPT_COUNT(NAME, name, set, how) +CORRUPT_IN_##set
#define CORRUPT_N_STANDARD (0 CORRUPT_TABLE(CORRUPT_COUNT))

/* "gaussian_noise, shot_noise, ..." for --help. */
#define CORRUPT_WORD(NAME, name, set, how) " " #name
#define CORRUPT_WORDS CORRUPT_TABLE(CORRUPT_WORD)

/* The five photos that frost blends in. They are not ours to ship: a folder with frost1.png,
 * frost2.png, frost3.png, frost4.jpg, frost5.jpg is named by the user. */
struct corrupt_photos;
int corrupt_photos_open(const char *folder, struct corrupt_photos **out) MUST_CHECK;
void corrupt_photos_close(struct corrupt_photos *p); /* NULL is fine */
FREE_AT(corrupt_photos_close, struct corrupt_photos)

/* out [3,H,W], not the input. severity 1 ... 5. Types that need no randomness leave r alone.
 * ERR_UNSUPPORTED for frost, ERR_ARG for severity or size. */
int corrupt_apply(enum corrupt_type type, int severity, const uint8_t *chw, int32_t height,
                  int32_t width, struct rng *r, uint8_t *out) MUST_CHECK;
/* The same with photos: then frost works too. photos may be NULL. */
int corrupt_apply_with(const struct corrupt_photos *photos, enum corrupt_type type, int severity,
                       const uint8_t *chw, int32_t height, int32_t width, struct rng *r,
                       uint8_t *out) MUST_CHECK;
/* Frost: corrupt_apply alone has no photos for it. */
bool corrupt_needs_photos(enum corrupt_type type);
bool corrupt_is_random(enum corrupt_type type);
bool corrupt_is_standard(enum corrupt_type type);
const char *corrupt_name(enum corrupt_type type); /* "gaussian_noise", ... */
/* ERR_ARG names the unknown word and those that are known. */
int corrupt_parse(const char *name, enum corrupt_type *out) MUST_CHECK;
#endif
