/*
 * Shared filters of the corruptions.
 *
 * Motion blur: pixel (y, x) becomes the weighted mean of the pixels at (y + round(i sin), x +
 * round(i cos)), i = 0 ... 2 ceil(radius), with one-sided Gaussian weights.
 */
#include "trainer/corrupt/filter.h"

#include <math.h>

#include "core/base/mem.h"
#include "trainer/corrupt/corrupt.h"

#define PI 3.14159265358979323846
#define MOST_MOTION 64 /* taps: radius up to 31 */

static int32_t clamp(int32_t v, int32_t n)
{
    return v < 0 ? 0 : v < n ? v : n - 1;
}

int32_t filter_index(enum filter_border border, int32_t i, int32_t n)
{
    const int32_t period = border == FILTER_REFLECT ? 2 * n : 2 * (n - 1);

    if (i >= 0 && i < n)
        return i;
    if (border == FILTER_NEAREST || n == 1)
        return clamp(i, n);
    i %= period;
    if (i < 0)
        i += period;
    return i < n ? i : (border == FILTER_REFLECT ? period - 1 : period) - i;
}

/* One line of n values `step` apart, from in to out. k[0] is the centre. */
static void blur_line(double *out, const double *in, int32_t n, int32_t step, const double *k,
                      int32_t radius, enum filter_border border)
{
    for (int32_t i = 0; i < n; i++) {
        double sum = in[i * step] * k[0];
        for (int32_t d = radius; d > 0; d--)
            sum += (in[filter_index(border, i - d, n) * step] +
                    in[filter_index(border, i + d, n) * step]) *
                   k[d];
        out[i * step] = sum;
    }
}

int filter_gaussian(double *plane, double *work, int32_t h, int32_t w, double sigma,
                    double truncate, enum filter_border border)
{
    const int32_t radius = (int32_t)(truncate * sigma + 0.5);
    OWNED double *k = NULL;
    double sum = 0;

    if (radius == 0)
        return 0;
    if ((k = mem_array((size_t)radius + 1, sizeof *k)) == NULL)
        return ERR_NOMEM;
    for (int32_t i = 0; i <= radius; i++) {
        k[i] = exp(-0.5 / (sigma * sigma) * i * i);
        sum += i == 0 ? k[i] : 2 * k[i];
    }
    for (int32_t i = 0; i <= radius; i++)
        k[i] /= sum;
    for (int32_t x = 0; x < w; x++)
        blur_line(work + x, plane + x, h, w, k, radius, border);
    for (int32_t y = 0; y < h; y++)
        blur_line(plane + y * w, work + y * w, w, 1, k, radius, border);
    return 0;
}

/* ---- zoom ------------------------------------------------------------------------------------ */

/* One axis: output i lies between inputs `low` and `high` at `part`. */
struct zoom_axis {
    int32_t low[CORRUPT_MAX_SIDE], high[CORRUPT_MAX_SIDE];
    double part[CORRUPT_MAX_SIDE];
};

static void make_axis(struct zoom_axis *a, int32_t n, double factor)
{
    int32_t crop = (int32_t)ceil(n / factor), first = (n - crop) / 2;
    int32_t wide = (int32_t)nearbyint(crop * factor), trim = (wide - n) / 2;
    double step = wide > 1 ? (double)(crop - 1) / (wide - 1) : 1;

    for (int32_t i = 0; i < n; i++) {
        double at = (i + trim) * step;
        int32_t low = (int32_t)floor(at);
        a->part[i] = at - low;
        a->low[i] = first + clamp(low, crop);
        a->high[i] = first + clamp(low + 1, crop);
    }
}

int filter_zoom(double *out, const double *in, int32_t h, int32_t w, double factor)
{
    OWNED struct zoom_axis *axis = mem_array(2, sizeof *axis);
    struct zoom_axis *ay = axis, *ax = axis + 1;

    if (axis == NULL)
        return ERR_NOMEM;
    make_axis(ay, h, factor);
    make_axis(ax, w, factor);
    for (int32_t i = 0; i < h * w; i++) {
        const int32_t y = i / w, x = i % w;
        const double *top = in + ay->low[y] * w, *low = in + ay->high[y] * w;
        const double a = top[ax->low[x]] * (1 - ax->part[x]) + top[ax->high[x]] * ax->part[x];
        const double b = low[ax->low[x]] * (1 - ax->part[x]) + low[ax->high[x]] * ax->part[x];
        out[i] = a * (1 - ay->part[y]) + b * ay->part[y];
    }
    return 0;
}

double filter_sample(const double *plane, int32_t h, int32_t w, double y, double x,
                     enum filter_border border)
{
    const int32_t row = (int32_t)floor(y), col = (int32_t)floor(x);
    const double fy = y - row, fx = x - col;
    const double *top = plane + filter_index(border, row, h) * w;
    const double *low = plane + filter_index(border, row + 1, h) * w;
    const int32_t left = filter_index(border, col, w), right = filter_index(border, col + 1, w);
    const double a = top[left] * (1 - fx) + top[right] * fx;
    const double b = low[left] * (1 - fx) + low[right] * fx;

    return a * (1 - fy) + b * fy;
}

/* ---- motion ---------------------------------------------------------------------------------- */

void filter_motion(uint8_t *out, const uint8_t *in, int32_t h, int32_t w, double radius,
                   double sigma, double angle)
{
    const int32_t most = 2 * (int32_t)ceil(radius) + 1, n = most < MOST_MOTION ? most : MOST_MOTION;
    const double turn = angle * (PI / 180);
    double k[MOST_MOTION], sum = 0;
    int32_t dy[MOST_MOTION], dx[MOST_MOTION];

    for (int32_t i = 0; i < n; i++) {
        k[i] = exp(-(double)(i * i) / (2 * sigma * sigma));
        sum += k[i];
        dx[i] = (int32_t)ceil(i * cos(turn) - 0.5);
        dy[i] = (int32_t)ceil(i * sin(turn) - 0.5);
    }
    for (int32_t p = 0; p < h * w; p++) {
        double v = 0;
        for (int32_t i = 0; i < n; i++)
            v += k[i] / sum * in[clamp(p / w + dy[i], h) * w + clamp(p % w + dx[i], w)];
        out[p] = (uint8_t)((int32_t)(257 * v + 0.5) / 257); /* rounded to 16 bits, cut to 8 */
    }
}
