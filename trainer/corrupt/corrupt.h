#ifndef TRAINER_CORRUPT_CORRUPT_H
#define TRAINER_CORRUPT_CORRUPT_H
/*
 * The common corruptions of Hendrycks and Dietterich (2019) as a generator: a re-implementation for
 * training and for data that have no published files (robustness.md section 7). Results must be
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

#include "core/base/err.h"
#include "core/graph/rng.h"

#define CORRUPT_MAX_SIDE 256
#define CORRUPT_SEVERITIES 5

/* The 15 standard ones in the published order, then the extra ones. */
enum corrupt_type {
    CORRUPT_GAUSSIAN_NOISE,
    CORRUPT_SHOT_NOISE,
    CORRUPT_IMPULSE_NOISE,
    CORRUPT_DEFOCUS_BLUR,
    CORRUPT_GLASS_BLUR,
    CORRUPT_MOTION_BLUR,
    CORRUPT_ZOOM_BLUR,
    CORRUPT_SNOW,
    CORRUPT_FROST,
    CORRUPT_FOG,
    CORRUPT_BRIGHTNESS,
    CORRUPT_CONTRAST,
    CORRUPT_ELASTIC_TRANSFORM,
    CORRUPT_PIXELATE,
    CORRUPT_JPEG_COMPRESSION,
    CORRUPT_N_STANDARD,
    CORRUPT_SPECKLE_NOISE = CORRUPT_N_STANDARD,
    CORRUPT_GAUSSIAN_BLUR,
    CORRUPT_SPATTER,
    CORRUPT_SATURATE,
    CORRUPT_N
};

/* The five photos that frost blends in. They are not ours to ship: a folder with frost1.png,
 * frost2.png, frost3.png, frost4.jpg, frost5.jpg is named by the user. */
struct corrupt_photos;
int corrupt_photos_open(const char *folder, struct corrupt_photos **out) MUST_CHECK;
void corrupt_photos_close(struct corrupt_photos *p); /* NULL is fine */

/* out [3,H,W], not the input. severity 1 ... 5. Types that need no randomness leave r alone.
 * ERR_UNSUPPORTED for frost, ERR_ARG for severity or size. */
int corrupt_apply(enum corrupt_type type, int severity, const uint8_t *chw, int32_t height,
                  int32_t width, struct rng *r, uint8_t *out) MUST_CHECK;
/* The same with photos: then frost works too. photos may be NULL. */
int corrupt_apply_with(const struct corrupt_photos *photos, enum corrupt_type type, int severity,
                       const uint8_t *chw, int32_t height, int32_t width, struct rng *r,
                       uint8_t *out) MUST_CHECK;
/* False for frost, which corrupt_apply has no photos for. */
bool corrupt_is_supported(enum corrupt_type type);
bool corrupt_is_random(enum corrupt_type type);
const char *corrupt_name(enum corrupt_type type); /* "gaussian_noise", ... */
/* ERR_ARG names the unknown word. */
int corrupt_parse(const char *name, enum corrupt_type *out) MUST_CHECK;
#endif
