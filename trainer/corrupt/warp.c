/*
 * Movement and compression: motion blur, elastic transform, JPEG.
 *
 * Elastic: an affine map that sends three points around the centre to themselves plus noise, then a
 * smooth random displacement of every pixel (its length and smoothness are shares of the side). Both
 * are inverse maps with bilinear samples; the published script's affine step rounds its sampling
 * positions to 1/32 of a pixel, ours does not.
 */
#include <math.h>

#include "core/base/mem.h"
#include "trainer/corrupt/filter.h"
#include "trainer/corrupt/job.h"
#include "trainer/data/picture.h"

struct motion_params {
    double radius, sigma;
};
struct elastic_params {
    double alpha, sigma, affine; /* shares of the side */
};

static const struct motion_params motion[2][5] = {
    {{6, 1}, {6, 1.5}, {6, 2}, {8, 2}, {9, 2.5}},
    {{10, 1}, {10, 1.5}, {10, 2}, {10, 2.5}, {12, 3}}};
static const struct elastic_params elastic[2][5] = {
    {{0, 0, .08}, {.05, .2, .07}, {.08, .06, .06}, {.1, .04, .05}, {.1, .03, .03}},
    {{0, 0, .08}, {.05, .3, .06}, {.1, .08, .06}, {.1, .03, .03}, {.16, .03, .02}}};
static const int jpeg_quality[2][5] = {{80, 65, 58, 50, 40}, {65, 58, 50, 40, 25}};

static double between(struct rng *r, double lo, double hi)
{
    return lo + (hi - lo) * rng_uniform_double(r);
}

static void from_bytes(struct corrupt_job *j, const uint8_t *bytes)
{
    for (int32_t i = 0; i < 3 * j->h * j->w; i++)
        j->x[i] = (bytes[i] + 0.5) / 255; /* truncation gives the byte back */
}

int corrupt_motion_blur(struct corrupt_job *j)
{
    const struct motion_params *p = &motion[j->large][j->severity];
    const double angle = between(j->r, -45, 45);
    const int32_t n = j->h * j->w;
    uint8_t *bytes = (uint8_t *)j->work;

    for (int32_t c = 0; c < 3; c++)
        filter_motion(bytes + c * n, j->in + c * n, j->h, j->w, p->radius, p->sigma, angle);
    from_bytes(j, bytes);
    return 0;
}

int corrupt_jpeg_compression(struct corrupt_job *j)
{
    uint8_t *bytes = (uint8_t *)j->work;

    TRY(picture_jpeg_round_trip(j->in, j->h, j->w, jpeg_quality[j->large][j->severity], bytes));
    from_bytes(j, bytes);
    return 0;
}

/* ---- elastic --------------------------------------------------------------------------------- */

/* (x, y) -> (m0 x + m1 y + m2, m3 x + m4 y + m5) */
struct affine {
    double m[6];
};

/* The map that sends to[i] to from[i], i = 0 ... 2 ([.][0] is x): Cramer's rule. */
static struct affine solve_affine(double to[3][2], double from[3][2])
{
    const double ax = to[1][0] - to[0][0], ay = to[1][1] - to[0][1];
    const double bx = to[2][0] - to[0][0], by = to[2][1] - to[0][1], det = ax * by - ay * bx;
    struct affine a;

    for (int k = 0; k < 2; k++) {
        const double u = from[1][k] - from[0][k], v = from[2][k] - from[0][k];
        a.m[3 * k] = (u * by - v * ay) / det;
        a.m[3 * k + 1] = (v * ax - u * bx) / det;
        a.m[3 * k + 2] = from[0][k] - a.m[3 * k] * to[0][0] - a.m[3 * k + 1] * to[0][1];
    }
    return a;
}

/* As the published script has them: the centre is (h div 2, w div 2), taken as (x, y). */
static struct affine draw_affine(struct corrupt_job *j, double reach)
{
    const double q = (j->h < j->w ? j->h : j->w) / 3, cx = j->h / 2, cy = j->w / 2;
    double from[3][2] = {{cx + q, cy + q}, {cx + q, cy - q}, {cx - q, cy - q}}, to[3][2];

    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 2; k++)
            to[i][k] = from[i][k] + between(j->r, -reach, reach);
    return solve_affine(to, from);
}

static void warp(struct corrupt_job *j, const struct affine *a)
{
    const int32_t n = j->h * j->w;

    for (int32_t i = 0; i < 3 * n; i++)
        j->work[i] = j->x[i];
    for (int32_t i = 0; i < 3 * n; i++) {
        const double x = i % n % j->w, y = i % n / j->w;
        j->x[i] =
            filter_sample(j->work + i / n * n, j->h, j->w, a->m[3] * x + a->m[4] * y + a->m[5],
                          a->m[0] * x + a->m[1] * y + a->m[2], FILTER_REFLECT_101);
    }
}

/* field := alpha * Gaussian of U(-1, 1) */
static int draw_field(struct corrupt_job *j, double alpha, double sigma, double *field)
{
    const int32_t n = j->h * j->w;

    for (int32_t i = 0; i < n; i++)
        field[i] = between(j->r, -1, 1);
    TRY(filter_gaussian(field, j->work, j->h, j->w, sigma, 3, FILTER_REFLECT));
    for (int32_t i = 0; i < n; i++)
        field[i] *= alpha;
    return 0;
}

static void displace(struct corrupt_job *j, const double *dx, const double *dy)
{
    const int32_t n = j->h * j->w;

    for (int32_t i = 0; i < 3 * n; i++)
        j->work[i] = j->x[i];
    for (int32_t i = 0; i < 3 * n; i++)
        j->x[i] = filter_sample(j->work + i / n * n, j->h, j->w, i % n / j->w + dy[i % n],
                                i % n % j->w + dx[i % n], FILTER_REFLECT);
}

int corrupt_elastic_transform(struct corrupt_job *j)
{
    const struct elastic_params *p = &elastic[j->large][j->severity];
    const double side = j->h < j->w ? j->h : j->w;
    const size_t n = (size_t)j->h * (size_t)j->w;
    const struct affine a = draw_affine(j, side * p->affine);
    OWNED double *field = mem_array(2 * n, sizeof *field);

    if (field == NULL)
        return ERR_NOMEM;
    warp(j, &a);
    TRY(draw_field(j, side * p->alpha, side * p->sigma, field));
    TRY(draw_field(j, side * p->alpha, side * p->sigma, field + n));
    displace(j, field, field + n);
    return 0;
}
