/*
 * Loss of detail: Gaussian, defocus, glass and zoom blur, pixelate.
 *
 * Each follows the library that the published script calls: Gaussians as in scipy.ndimage (radius
 * floor(4 sigma + 1/2), edge pixels repeated), the defocus disc as in OpenCV (border reflect-101),
 * zoom as in scipy.ndimage.zoom of order 1 in single precision, pixelate as Pillow's box filter in
 * its 22-bit fixed point.
 */
#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "trainer/corrupt/filter.h"
#include "trainer/corrupt/job.h"

struct disc_params {
    double radius, alias;
};
struct glass_params {
    double sigma;
    int delta, iterations;
};

static const double gaussian_sigma[2][5] = {{.4, .6, .7, .8, 1}, {.5, .75, 1, 1.25, 1.5}};
static const struct disc_params defocus[2][5] = {
    {{.3, .4}, {.4, .5}, {.5, .6}, {1, .2}, {1.5, .1}},
    {{.5, .6}, {1, .1}, {1.5, .1}, {2.5, .01}, {3, .1}}};
static const struct glass_params glass[2][5] = {
    {{.05, 1, 1}, {.25, 1, 1}, {.4, 1, 1}, {.25, 1, 2}, {.4, 1, 2}},
    {{.1, 1, 1}, {.5, 1, 1}, {.6, 1, 2}, {.7, 2, 1}, {.9, 2, 2}}};
static const int zoom_count[5] = {7, 12, 16, 21, 26}; /* factors 1, 1.01, ...; both sizes */
static const double pixelate_factor[2][5] = {{.95, .9, .85, .75, .65}, {.9, .8, .7, .6, .5}};

/* ---- Gaussian ------------------------------------------------------------------------ */

/* Blurs j->x in place. */
static int gaussian(struct corrupt_job *j, double sigma)
{
    const int32_t n = j->h * j->w;

    for (int32_t c = 0; c < 3; c++)
        TRY(filter_gaussian(j->x + c * n, j->work, j->h, j->w, sigma, 4, FILTER_NEAREST));
    return 0;
}

int corrupt_gaussian_blur(struct corrupt_job *j)
{
    return gaussian(j, gaussian_sigma[j->large][j->severity]);
}

/* ---- defocus --------------------------------------------------------------------------- */

#define DISC_RADIUS 4 /* radius 3 and one pixel of the alias Gaussian */
#define DISC_SIDE (2 * DISC_RADIUS + 1)

/* The disc, smoothed by a 3x3 Gaussian, in single precision. */
static void make_disc(float kernel[DISC_SIDE][DISC_SIDE], struct disc_params p)
{
    float disc[DISC_SIDE + 2][DISC_SIDE + 2] = {{0}}; /* a frame of zeros */
    double side = exp(-0.5 / (p.alias * p.alias)), total = 1 + 2 * side;
    const float g[3] = {(float)(side / total), (float)(1 / total), (float)(side / total)};
    int count = 0;

    for (int y = -DISC_RADIUS; y <= DISC_RADIUS; y++)
        for (int x = -DISC_RADIUS; x <= DISC_RADIUS; x++)
            count += x * x + y * y <= p.radius * p.radius;
    for (int y = -DISC_RADIUS; y <= DISC_RADIUS; y++)
        for (int x = -DISC_RADIUS; x <= DISC_RADIUS; x++)
            if (x * x + y * y <= p.radius * p.radius)
                disc[y + DISC_RADIUS + 1][x + DISC_RADIUS + 1] = 1.0f / (float)count;
    for (int y = 0; y < DISC_SIDE; y++)
        for (int x = 0; x < DISC_SIDE; x++) {
            float sum = 0;
            for (int i = 0; i < 9; i++)
                sum += g[i / 3] * g[i % 3] * disc[y + i / 3][x + i % 3];
            kernel[y][x] = sum;
        }
}

static double correlate(const double *plane, int32_t h, int32_t w, int32_t y, int32_t x,
                        float kernel[DISC_SIDE][DISC_SIDE])
{
    double sum = 0;

    for (int32_t i = 0; i < DISC_SIDE; i++)
        for (int32_t k = 0; k < DISC_SIDE; k++)
            if (kernel[i][k] > 0)
                sum += (double)kernel[i][k] *
                       plane[filter_index(FILTER_REFLECT_101, y + i - DISC_RADIUS, h) * w +
                             filter_index(FILTER_REFLECT_101, x + k - DISC_RADIUS, w)];
    return sum;
}

int corrupt_defocus_blur(struct corrupt_job *j)
{
    float kernel[DISC_SIDE][DISC_SIDE];
    int32_t n = j->h * j->w;

    make_disc(kernel, defocus[j->large][j->severity]);
    memcpy(j->work, j->x, (size_t)(3 * n) * sizeof *j->x);
    for (int32_t i = 0; i < 3 * n; i++)
        j->x[i] = correlate(j->work + i / n * n, j->h, j->w, i % n / j->w, i % j->w, kernel);
    return 0;
}

/* ---- glass ------------------------------------------------------------------------------ */

static void truncate_to_bytes(double *x, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        x[i] = floor(x[i] * 255) / 255.0;
}

/* Pixels take a neighbour's value. The published code means to exchange the two, but views alias:
 * only (y, x) changes. */
static void scatter(struct corrupt_job *j, int delta)
{
    int32_t n = j->h * j->w;

    for (int32_t y = j->h - delta; y > delta; y--)
        for (int32_t x = j->w - delta; x > delta; x--) {
            int32_t dx = (int32_t)rng_below(j->r, (uint32_t)(2 * delta)) - delta;
            int32_t dy = (int32_t)rng_below(j->r, (uint32_t)(2 * delta)) - delta;
            for (int32_t c = 0; c < 3; c++)
                j->x[c * n + y * j->w + x] = j->x[c * n + (y + dy) * j->w + x + dx];
        }
}

int corrupt_glass_blur(struct corrupt_job *j)
{
    const struct glass_params *p = &glass[j->large][j->severity];

    TRY(gaussian(j, p->sigma));
    truncate_to_bytes(j->x, 3 * j->h * j->w);
    for (int i = 0; i < p->iterations; i++)
        scatter(j, p->delta);
    return gaussian(j, p->sigma);
}

/* ---- zoom ------------------------------------------------------------------------------- */

/* sum += the image zoomed by `factor`, in single precision. */
static int add_zoomed(const struct corrupt_job *j, double factor, float *sum)
{
    const int32_t n = j->h * j->w;

    for (int32_t c = 0; c < 3; c++) {
        TRY(filter_zoom(j->work, j->x + c * n, j->h, j->w, factor));
        for (int32_t i = 0; i < n; i++)
            sum[c * n + i] += (float)j->work[i];
    }
    return 0;
}

int corrupt_zoom_blur(struct corrupt_job *j)
{
    int32_t n = 3 * j->h * j->w, count = zoom_count[j->severity];
    OWNED float *sum = mem_array((size_t)n, sizeof *sum);
    const double step = 1.01 - 1; /* as numpy's arange has it, a little more than .01 */

    if (sum == NULL)
        return ERR_NOMEM;
    for (int32_t i = 0; i < n; i++)
        j->x[i] = (double)(float)j->x[i];
    for (int32_t k = 0; k < count; k++)
        TRY(add_zoomed(j, 1 + k * step, sum));
    for (int32_t i = 0; i < n; i++)
        j->x[i] = (double)(((float)j->x[i] + sum[i]) / (float)(count + 1));
    return 0;
}

/* ---- pixelate --------------------------------------------------------------------------- */

#define BOX_BITS 22

/* The values whose centres lie in a box of the size of an output pixel (at least one pixel), n_in
 * to n_out values, each `step` apart. */
static void box_line(uint8_t *out, int32_t n_out, const uint8_t *in, int32_t n_in, int32_t step)
{
    double scale = (double)n_in / n_out, half = (scale < 1 ? 1 : scale) / 2;

    for (int32_t i = 0; i < n_out; i++) {
        double centre = (i + 0.5) * scale;
        int32_t first = (int32_t)(centre - half + 0.5), end = (int32_t)(centre + half + 0.5);
        int32_t sum = 1 << (BOX_BITS - 1), weight, count = 0;
        first = first < 0 ? 0 : first;
        end = end > n_in ? n_in : end;
        for (int32_t k = first; k < end; k++) /* a centre on the left edge is outside */
            count +=
                (k + 0.5 - centre) / (2 * half) > -0.5 && (k + 0.5 - centre) / (2 * half) <= 0.5;
        weight = (int32_t)(0.5 + 1.0 / count * (1 << BOX_BITS));
        for (int32_t k = first; k < end; k++)
            if ((k + 0.5 - centre) / (2 * half) > -0.5 && (k + 0.5 - centre) / (2 * half) <= 0.5)
                sum += in[k * step] * weight;
        out[i * step] = (uint8_t)(sum >> BOX_BITS);
    }
}

/* Columns, then rows of a plane, rows `stride` apart; out may not be in. */
static void box_resize(uint8_t *out, int32_t h_out, int32_t w_out, const uint8_t *in, int32_t h,
                       int32_t w, int32_t stride, uint8_t *between)
{
    for (int32_t y = 0; y < h; y++)
        box_line(between + y * stride, w_out, in + y * stride, w, 1);
    for (int32_t x = 0; x < w_out; x++)
        box_line(out + x, h_out, between + x, h, stride);
}

int corrupt_pixelate(struct corrupt_job *j)
{
    double factor = pixelate_factor[j->large][j->severity];
    int32_t n = j->h * j->w, h = (int32_t)(j->h * factor), w = (int32_t)(j->w * factor);
    uint8_t *between = (uint8_t *)j->work, *few = between + n, *back = few + n;

    for (int32_t c = 0; c < 3; c++) {
        box_resize(few, h, w, j->in + c * n, j->h, j->w, j->w, between);
        box_resize(back, j->h, j->w, few, h, w, j->w, between);
        for (int32_t i = 0; i < n; i++)
            j->x[c * n + i] = back[i] / 255.0;
    }
    return 0;
}
