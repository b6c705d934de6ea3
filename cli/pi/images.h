#ifndef CLI_PI_IMAGES_H
#define CLI_PI_IMAGES_H
/* Images of a .npy file for a program: uint8 [N,C,H,W] or [N,H,W,C] (where both fit, the first), or
 * float32 [N,C,H,W] already normalised. */
#include "core/base/npy.h"
#include "runtime/report.h"

int pi_images_open(const char *path, const struct plan *p, struct npy *x,
                   enum pi_input *kind) MUST_CHECK;
/* Index of the largest; the first where several are. */
int64_t pi_best(const float *logits, int64_t k);
#endif
