/*
 * Pillow's resampling (libImaging/Resample.c): a pass that changes the width, then one that changes
 * the height; since Pillow 13 the other way round where the height shrinks by more than twice the
 * pixels that the width loses. The order shows, because the image between them is rounded.
 *
 * The filter is stretched by the scale where the image shrinks, so every pixel of the source has its
 * share (antialiasing). Output pixel x has its centre at (x + 1/2) scale; taps reach support * scale
 * to both sides, cut at the border and normalised to sum 1. Weights are integers with 22 fractional
 * bits, and the image between the passes is rounded to 8 bits: both as Pillow has it.
 */
#include "trainer/data/resize.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"

#define FRACTION_BITS 22 /* 32 less 8 of a pixel less 2 for overshoot */

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static double bicubic(double x)
{
    const double a = -0.5;

    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static const struct {
    double (*weight)(double x);
    double support;
} filters[] = {[RESIZE_BILINEAR] = {bilinear, 1}, [RESIZE_BICUBIC] = {bicubic, 2}};

struct taps {               /* of one axis */
    int32_t most;           /* taps of a pixel at most */
    int32_t *first, *count; /* [out] */
    int32_t *weight;        /* [out][most] */
};

static void taps_release(struct taps *t)
{
    mem_free(t->first);
    mem_free(t->count);
    mem_free(t->weight);
}

/* Weights of output pixel i; w: scratch for t->most of them. */
static void fill_taps(struct taps *t, int32_t i, int32_t in, double scale,
                      enum resize_filter filter, double *w)
{
    const double stretch = scale > 1 ? scale : 1, support = filters[filter].support * stretch;
    const double centre = ((double)i + 0.5) * scale;
    const int32_t lo = (int32_t)(centre - support + 0.5), hi = (int32_t)(centre + support + 0.5);
    const int32_t first = lo > 0 ? lo : 0, n = (hi < in ? hi : in) - first;
    double sum = 0;

    for (int32_t k = 0; k < n; k++) {
        w[k] = filters[filter].weight(((double)(k + first) - centre + 0.5) * (1 / stretch));
        sum += w[k];
    }
    t->first[i] = first;
    t->count[i] = n;
    for (int32_t k = 0; k < n; k++) {
        const double v = (sum != 0 ? w[k] / sum : w[k]) * (1 << FRACTION_BITS);
        t->weight[(size_t)i * (size_t)t->most + (size_t)k] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
    }
}

static int taps_init(struct taps *t, int32_t in, int32_t out, enum resize_filter filter)
{
    const double scale = (double)in / out, stretch = scale > 1 ? scale : 1;

    *t = (struct taps){.most = (int32_t)ceil(filters[filter].support * stretch) * 2 + 1};
    OWNED double *w = mem_array((size_t)t->most, sizeof *w);
    t->first = mem_array((size_t)out, sizeof *t->first);
    t->count = mem_array((size_t)out, sizeof *t->count);
    t->weight = mem_array((size_t)out * (size_t)t->most, sizeof *t->weight);
    if (w == NULL || t->first == NULL || t->count == NULL || t->weight == NULL)
        return ERR_NOMEM;
    for (int32_t i = 0; i < out; i++)
        fill_taps(t, i, in, scale, filter, w);
    return 0;
}

/* Sum of the taps of output pixel i over samples that lie `step` apart. */
static uint8_t blend(const struct taps *t, int32_t i, const uint8_t *from, size_t step)
{
    const int32_t *w = t->weight + (size_t)i * (size_t)t->most;
    int64_t sum = (int64_t)1 << (FRACTION_BITS - 1);

    from += (size_t)t->first[i] * step;
    for (int32_t k = 0; k < t->count[i]; k++)
        sum += (int64_t)w[k] * from[(size_t)k * step];
    sum >>= FRACTION_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static int scale_width(const struct picture *p, int32_t width, enum resize_filter filter,
                       uint8_t *out)
{
    SCOPED(taps_release) struct taps t = {0};

    TRY(taps_init(&t, p->width, width, filter));
    for (int32_t y = 0; y < p->height; y++)
        for (int32_t x = 0; x < width; x++)
            for (size_t c = 0; c < 3; c++)
                out[((size_t)y * (size_t)width + (size_t)x) * 3 + c] =
                    blend(&t, x, p->rgb + (size_t)y * (size_t)p->width * 3 + c, 3);
    return 0;
}

static int scale_height(const struct picture *p, int32_t height, enum resize_filter filter,
                        uint8_t *out)
{
    const size_t row = (size_t)p->width * 3;
    SCOPED(taps_release) struct taps t = {0};

    TRY(taps_init(&t, p->height, height, filter));
    for (int32_t y = 0; y < height; y++)
        for (size_t x = 0; x < row; x++)
            out[(size_t)y * row + x] = blend(&t, y, p->rgb + x, row);
    return 0;
}

/* One pass: either side may change. A pass that changes nothing copies. */
static int pass(const struct picture *p, int32_t height, int32_t width, enum resize_filter filter,
                struct picture *out)
{
    const size_t n = (size_t)height * (size_t)width;
    int rc = 0;

    *out = (struct picture){height, width, mem_array(n, 3)};
    if (out->rgb == NULL)
        return ERR_NOMEM;
    if (p->width != width)
        rc = scale_width(p, width, filter, out->rgb);
    else if (p->height != height)
        rc = scale_height(p, height, filter, out->rgb);
    else
        memcpy(out->rgb, p->rgb, 3 * n);
    if (rc < 0)
        picture_release(out);
    return rc;
}

static bool height_first(const struct picture *p, int32_t height, int32_t width)
{
    return height < p->height && p->height - height > 2 * (p->width - width);
}

int picture_resize(const struct picture *p, int32_t height, int32_t width,
                   enum resize_filter filter, struct picture *out)
{
    SCOPED(picture_release) struct picture between = {0};
    int32_t h, w;

    if (height < 1 || width < 1 || !picture_fits((size_t)width, (size_t)height) ||
        !picture_fits((size_t)width, (size_t)p->height) ||
        !picture_fits((size_t)p->width, (size_t)height))
        return fail(ERR_DATA, "an image of %dx%d pixels cannot be scaled to %dx%d", p->width,
                    p->height, width, height);
    h = height_first(p, height, width) ? height : p->height;
    w = height_first(p, height, width) ? p->width : width;
    TRY(pass(p, h, w, filter, &between));
    return pass(&between, height, width, filter, out);
}

int picture_shorter_side(struct picture *p, int32_t side, enum resize_filter filter)
{
    const bool wide = p->width > p->height;
    const int64_t shorter = wide ? p->height : p->width, longer = wide ? p->width : p->height;
    const int64_t other = longer * side / shorter;
    struct picture scaled = {0};

    if (shorter == side)
        return 0;
    if (other > INT32_MAX)
        return fail(ERR_DATA, "an image of %dx%d pixels cannot be scaled", p->width, p->height);
    TRY(picture_resize(p, wide ? side : (int32_t)other, wide ? (int32_t)other : side, filter,
                       &scaled));
    picture_release(p);
    *p = scaled;
    return 0;
}

/* Half of the margin; halves to the even number, as Python's round. */
static int32_t half(int32_t margin)
{
    return margin % 2 == 0 ? margin / 2 : margin / 2 + (margin / 2) % 2;
}

void picture_cut(struct picture *p, int32_t top, int32_t left, int32_t height, int32_t width)
{
    for (int32_t y = 0; y < height; y++)
        memmove(p->rgb + (size_t)y * (size_t)width * 3,
                p->rgb + ((size_t)(y + top) * (size_t)p->width + (size_t)left) * 3,
                (size_t)width * 3);
    p->height = height;
    p->width = width;
}

int picture_crop(struct picture *p, int32_t height, int32_t width)
{
    if (p->height < height || p->width < width)
        return fail(ERR_DATA, "%dx%d pixels are less than the crop of %dx%d", p->width, p->height,
                    width, height);
    picture_cut(p, half(p->height - height), half(p->width - width), height, width);
    return 0;
}
