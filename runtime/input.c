/*
 * Normalisation and quantisation of images. Every step is one IEEE double operation, written so
 * that no compiler can fuse two of them (a division stands between subtraction and scaling; scaling
 * by a power of two is exact).
 */
#include "runtime/model.h"

#include <math.h>

#define ROUNDING 1e-5 /* what a pixel may miss [0,1] by; it is put back */

size_t pi_input_size(const struct plan *p, enum pi_input kind)
{
    size_t one = kind == PI_U8_NCHW || kind == PI_U8_NHWC ? 1 : sizeof(float);

    return (size_t)p->tensor[0].count * one;
}

/* Element (c, i) of the image as a pixel in [0,1], or as the number itself. */
static double element(const struct plan *p, enum pi_input kind, const void *image, int64_t c,
                      int64_t i)
{
    int64_t channels = p->tensor[0].dim[0], plane = p->tensor[0].dim[1] * p->tensor[0].dim[2];
    const uint8_t *bytes = image;
    int32_t v;

    if (kind == PI_PIXELS)
        return fmin(1, fmax(0, (double)((const float *)image)[c * plane + i]));
    if (kind == PI_NORMALIZED)
        return (double)((const float *)image)[c * plane + i];
    v = kind == PI_U8_NCHW ? bytes[c * plane + i] : bytes[i * channels + c];
    return (double)(v - p->input.low) / (double)(p->input.high - p->input.low);
}

/* NaN breaks it too. */
static int check_pixels(const struct plan *p, const float *image)
{
    const int64_t plane = p->tensor[0].dim[1] * p->tensor[0].dim[2];

    for (int64_t i = 0; i < p->tensor[0].count; i++)
        if (!(image[i] >= (float)-ROUNDING && image[i] <= (float)(1 + ROUNDING)))
            return fail(
                ERR_DATA,
                "channel %lld, position %lld: %g is no pixel in [0,1]; divide 0..255 by 255, or say that the values are normalised already (--input-kind normalized)",
                (long long)(i / plane), (long long)(i % plane), (double)image[i]);
    return 0;
}

int pi_input_real(const struct plan *p, enum pi_input kind, const void *image, double *x)
{
    int64_t channels = p->tensor[0].dim[0], plane = p->tensor[0].dim[1] * p->tensor[0].dim[2];
    double limit = ldexp(1, p->tensor[0].max_log2);

    if (kind == PI_PIXELS)
        TRY(check_pixels(p, image));
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < plane; i++) {
            double v = element(p, kind, image, c, i);
            if (kind != PI_NORMALIZED)
                v = (v - p->input.mean[c]) / p->input.std[c];
            if (!(fabs(v) <= limit))
                return fail(ERR_DATA, "input channel %lld, position %lld: %g is outside +-%g",
                            (long long)c, (long long)i, v, limit);
            x[c * plane + i] = v;
        }
    return 0;
}

void pi_input_fixed(const struct plan *p, const double *x, uint64_t *out)
{
    for (int64_t i = 0; i < p->tensor[0].count; i++)
        out[i] = (uint64_t)(int64_t)nearbyint(ldexp(x[i], p->scale));
}
