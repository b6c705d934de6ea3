/*
 * Snow and frost.
 *
 * Snow: a layer of thresholded noise, zoomed and blurred along a falling direction, over a whitened
 * image. Frost: a random window of one of five photos that the user has; the script draws only the
 * first five of its six.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "trainer/corrupt/filter.h"
#include "trainer/corrupt/job.h"
#include "trainer/data/picture.h"

struct snow_params {
    double loc, scale, zoom, threshold, radius, sigma, mix;
};
static const struct snow_params snow[2][5] = {{{.1, .2, 1, .6, 8, 3, .95},
                                               {.1, .2, 1, .5, 10, 4, .9},
                                               {.15, .3, 1.75, .55, 10, 4, .9},
                                               {.25, .3, 2.25, .6, 12, 6, .85},
                                               {.3, .3, 1.25, .65, 14, 12, .8}},
                                              {{.1, .2, 1, .6, 8, 3, .8},
                                               {.1, .2, 1, .5, 10, 4, .8},
                                               {.15, .3, 1.75, .55, 10, 4, .7},
                                               {.25, .3, 2.25, .6, 12, 6, .65},
                                               {.3, .3, 1.25, .65, 14, 12, .6}}};
static const double frost_ab[2][5][2] = {{{1, .2}, {1, .3}, {.9, .4}, {.85, .4}, {.75, .45}},
                                         {{1, .3}, {.9, .4}, {.8, .45}, {.75, .5}, {.7, .55}}};
static const double frost_scale[2] = {0.2, 0.3};

/* ---- snow ------------------------------------------------------------------------------------ */

/* layer [h][w] of 8 bits; noise and zoomed: work space of the same size */
static int snow_layer(struct corrupt_job *j, const struct snow_params *p, double *noise,
                      double *zoomed, uint8_t *layer)
{
    const int32_t n = j->h * j->w;
    uint8_t *flakes = layer + n;

    for (int32_t i = 0; i < n; i++)
        noise[i] = p->loc + p->scale * (double)rng_normal(j->r);
    TRY(filter_zoom(zoomed, noise, j->h, j->w, p->zoom));
    for (int32_t i = 0; i < n; i++) {
        const double v = zoomed[i] < p->threshold ? 0 : zoomed[i];
        flakes[i] = (uint8_t)((v > 1 ? 1 : v) * 255);
    }
    filter_motion(layer, flakes, j->h, j->w, p->radius, p->sigma,
                  -135 + 90 * rng_uniform_double(j->r));
    return 0;
}

int corrupt_snow(struct corrupt_job *j)
{
    const struct snow_params *p = &snow[j->large][j->severity];
    const int32_t n = j->h * j->w;
    OWNED uint8_t *layer = mem_array(2 * (size_t)n, 1);

    if (layer == NULL)
        return ERR_NOMEM;
    TRY(snow_layer(j, p, j->work, j->work + n, layer));
    for (int32_t i = 0; i < n; i++) {
        const double grey = .299 * j->x[i] + .587 * j->x[n + i] + .114 * j->x[2 * n + i];
        const double fallen = (layer[i] + layer[n - 1 - i]) / 255.0;
        for (int c = 0; c < 3; c++) {
            double *x = &j->x[c * n + i];
            *x = p->mix * *x + (1 - p->mix) * fmax(*x, 1.5 * grey + 0.5) + fallen;
        }
    }
    return 0;
}

/* ---- frost ----------------------------------------------------------------------------------- */

#define PHOTOS 5
#define PATH_SIZE 4096

struct corrupt_photos {
    struct picture scaled[2][PHOTOS]; /* by job.large */
};

/* OpenCV's bilinear resize by a factor below 1: pixel i lies at (i + 1/2)/factor - 1/2. */
static int shrink(const struct picture *in, double factor, struct picture *out)
{
    const int32_t h = (int32_t)nearbyint(in->height * factor);
    const int32_t w = (int32_t)nearbyint(in->width * factor);

    if ((out->rgb = mem_array((size_t)h * (size_t)w, 3)) == NULL)
        return ERR_NOMEM;
    out->height = h;
    out->width = w;
    for (int32_t i = 0; i < 3 * h * w; i++) {
        const double y = (i / 3 / w + 0.5) / factor - 0.5, x = (i / 3 % w + 0.5) / factor - 0.5;
        const int32_t row = (int32_t)floor(y), col = (int32_t)floor(x), c = i % 3;
        const int32_t r0 = filter_index(FILTER_NEAREST, row, in->height) * in->width;
        const int32_t r1 = filter_index(FILTER_NEAREST, row + 1, in->height) * in->width;
        const int32_t c0 = filter_index(FILTER_NEAREST, col, in->width);
        const int32_t c1 = filter_index(FILTER_NEAREST, col + 1, in->width);
        const double fx = x - col, fy = y - row;
        const double a = in->rgb[(r0 + c0) * 3 + c] * (1 - fx) + in->rgb[(r0 + c1) * 3 + c] * fx;
        const double b = in->rgb[(r1 + c0) * 3 + c] * (1 - fx) + in->rgb[(r1 + c1) * 3 + c] * fx;
        out->rgb[i] = (uint8_t)(a * (1 - fy) + b * fy + 0.5);
    }
    return 0;
}

static int read_photo(struct corrupt_photos *p, const char *folder, int index)
{
    static const char *const name[PHOTOS] = {"frost1.png", "frost2.png", "frost3.png", "frost4.jpg",
                                             "frost5.jpg"};
    SCOPED(picture_release) struct picture whole = {0};
    char path[PATH_SIZE];

    if (snprintf(path, sizeof path, "%s/%s", folder, name[index]) >= (int)sizeof path)
        return fail(ERR_DATA, "path '%.60s...' is too long", folder);
    if (picture_read(path, &whole) < 0)
        return fail_context(ERR_DATA, "frost photos (frost1.png ... frost5.jpg)");
    for (int large = 0; large < 2; large++)
        TRY(shrink(&whole, frost_scale[large], &p->scaled[large][index]));
    return 0;
}

int corrupt_photos_open(const char *folder, struct corrupt_photos **out)
{
    SCOPED(corrupt_photos_close_at) struct corrupt_photos *p = mem_array(1, sizeof *p);

    if (p == NULL)
        return ERR_NOMEM;
    for (int i = 0; i < PHOTOS; i++)
        TRY(read_photo(p, folder, i));
    *out = mem_hand_on(&p);
    return 0;
}

void corrupt_photos_close(struct corrupt_photos *p)
{
    for (int i = 0; p != NULL && i < 2 * PHOTOS; i++)
        picture_release(&p->scaled[i / PHOTOS][i % PHOTOS]);
    mem_free(p);
}

int corrupt_frost(struct corrupt_job *j)
{
    const double *ab = frost_ab[j->large][j->severity];
    const int32_t n = j->h * j->w;

    if (j->photos == NULL)
        return fail(ERR_UNSUPPORTED, "corruption frost needs its five photos: --frost-dir DIR");
    const struct picture *p = &j->photos->scaled[j->large][rng_below(j->r, PHOTOS)];
    if (p->height <= j->h || p->width <= j->w)
        return fail(ERR_DATA, "a frost photo has %dx%d pixels after scaling, images have %dx%d",
                    p->width, p->height, j->w, j->h);
    const int32_t top = (int32_t)rng_below(j->r, (uint32_t)(p->height - j->h));
    const int32_t left = (int32_t)rng_below(j->r, (uint32_t)(p->width - j->w));
    for (int32_t i = 0; i < 3 * n; i++) {
        const int32_t row = top + i % n / j->w, col = left + i % n % j->w;
        const double v = ab[0] * j->in[i] + ab[1] * p->rgb[(row * p->width + col) * 3 + i / n];
        j->x[i] = v >= 255 ? 1 : (floor(v) + 0.5) / 255; /* truncation gives floor(v) back */
    }
    return 0;
}
