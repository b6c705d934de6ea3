#ifndef RUNTIME_INPUT_H
#define RUNTIME_INPUT_H
/* Images to numbers (runtime/pi.h, enum pi_input). */
#include "runtime/pi.h"

/* Bytes of one image. */
size_t pi_input_size(const struct plan *p, enum pi_input kind);
/* One image -> real numbers [C,H,W] after normalisation. ERR_DATA as pi_run. */
int pi_input_real(const struct plan *p, enum pi_input kind, const void *image,
                  double *x) MUST_CHECK;
/* rint(x * 2^f) of each. */
void pi_input_fixed(const struct plan *p, const double *x, uint64_t *out);
#endif
