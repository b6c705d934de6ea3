#ifndef TRAINER_CORRUPT_AUGMIX_H
#define TRAINER_CORRUPT_AUGMIX_H
/*
 * AugMix (Hendrycks et al. 2020): chains of simple operations on 8-bit images, mixed with the
 * original. The operations are those of Pillow, bit for bit (ImageOps, Image.transform).
 *
 *     struct augmix_config cfg = augmix_defaults();      // severity 3, width 3, depth 1 ... 3
 *     struct rng r = rng_at(seed, RNG_AUGMIX, epoch, sample);
 *     augmix(&cfg, pixels, 3, 32, 32, &r, out);          // out [3,32,32] in [0,1]
 *
 * Images are [C,H,W] with 1 ... 3 channels (color needs 3) and sides up to AUGMIX_MAX_SIDE.
 */
#include <stdbool.h>
#include <stdint.h>

#include "core/graph/rng.h"

#define AUGMIX_MAX_SIDE 256
#define AUGMIX_MAX_CHANNELS 3

enum augmix_kind {
    AUGMIX_AUTOCONTRAST,
    AUGMIX_EQUALIZE,
    AUGMIX_POSTERIZE, /* parameter: bits kept, 1 ... 8 */
    AUGMIX_ROTATE,    /* whole degrees, counter-clockwise */
    AUGMIX_SOLARIZE,  /* threshold 0 ... 256 */
    AUGMIX_SHEAR_X,   /* factor */
    AUGMIX_SHEAR_Y,
    AUGMIX_TRANSLATE_X, /* pixels; output (x, y) takes input (x + parameter, y) */
    AUGMIX_TRANSLATE_Y,
    AUGMIX_N_DEFAULT,
    AUGMIX_COLOR = AUGMIX_N_DEFAULT, /* from here on: factor of the blend, off by default because */
    AUGMIX_CONTRAST,                 /* they overlap the test corruptions */
    AUGMIX_BRIGHTNESS,
    AUGMIX_SHARPNESS,
    AUGMIX_N
};

struct augmix_config {
    float severity; /* levels are drawn from U(0.1, severity); at most 10 */
    int32_t width;  /* chains: 1 ... 8 */
    int32_t depth;  /* operations a chain; 0: 1, 2 or 3 by chance */
    bool all_ops;   /* with the last four operations */
};
struct augmix_config augmix_defaults(void);

/* One mixture of an image: out [C,H,W] in [0,1]. Work space is on the stack; thread safe. */
void augmix(const struct augmix_config *cfg, const uint8_t *chw, int32_t channels, int32_t height,
            int32_t width, struct rng *r, float *out);
/* One operation with its final parameter (see the enumeration): out [C,H,W], not the input. */
void augmix_op(enum augmix_kind op, double parameter, const uint8_t *chw, int32_t channels,
               int32_t height, int32_t width, uint8_t *out);
/* The parameter at level l for an image of that size: int(l max / 10) or l max / 10, turned into
 * the form of the enumeration; `negative` turns rotate, shear and translate. */
double augmix_parameter(enum augmix_kind op, float level, bool negative, int32_t height,
                        int32_t width);
#endif
