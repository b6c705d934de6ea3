#ifndef CLI_PI_IMAGES_H
#define CLI_PI_IMAGES_H
/* Images of a .npy file for a program: uint8 [N,C,H,W] or [N,H,W,C] (where both fit, the first), or
 * float32 [N,C,H,W], pixels in [0,1] or values that are normalised already. */
#include "core/base/npy.h"
#include "runtime/report.h"

enum pi_floats { PI_FLOATS_PIXELS, PI_FLOATS_NORMALIZED }; /* as --input-kind lists them */
/* A row of an option table; its field is an int32_t, enum pi_floats. */
#define PI_INPUT_KIND_ROW(offset)                                                                  \
    {                                                                                              \
        "input-kind", 0, CLI_CHOICE, offset, "pixels|normalized",                                  \
            "meaning of float images: pixels in [0,1], or already normalised (default pixels)", 0, \
            0                                                                                      \
    }
/* Values are checked when they are read (pi_input_real). ERR_DATA. */
int pi_images_open(const char *path, const struct plan *p, enum pi_floats floats, struct npy *x,
                   enum pi_input *kind) MUST_CHECK;
/* Index of the largest; the first where several are. */
int64_t pi_best(const float *logits, int64_t k);
#endif
