/*
 * Spatter: drops of mud (opaque) or water (bright rims).
 *
 * Water follows OpenCV step by step on 8 bits: Canny's edges (Sobel 3x3, |gx| + |gy|, thresholds 50
 * and 150), distance to the nearest edge with the 5x5 chamfer mask (1, 1.4, 2.1969), cut at 20, 3x3
 * mean, histogram equalisation, an embossing kernel saturated to 8 bits, 3x3 mean. A liquid layer
 * above 1 wraps around in 8 bits, as it does there.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "trainer/corrupt/filter.h"
#include "trainer/corrupt/job.h"

struct spatter_params {
    double loc, scale, sigma, threshold, strength;
    bool mud;
};
static const struct spatter_params spatter[2][5] = {{{.62, .1, .7, .7, .5, false},
                                                     {.65, .1, .8, .7, .5, false},
                                                     {.65, .3, 1, .69, .5, false},
                                                     {.65, .1, .7, .69, .6, true},
                                                     {.65, .1, .5, .68, .6, true}},
                                                    {{.62, .1, .7, .7, .6, false},
                                                     {.65, .1, .8, .7, .6, false},
                                                     {.65, .3, 1, .69, .6, false},
                                                     {.65, .1, .7, .68, .6, true},
                                                     {.65, .1, .5, .67, .6, true}}};
static const double mud_colour[3] = {63 / 255.0, 42 / 255.0, 20 / 255.0};
static const double water_colour[3] = {175 / 255.0, 238 / 255.0, 238 / 255.0};

#define MUD_LEAST 0.8
#define CANNY_LOW 50
#define CANNY_HIGH 150
#define MOST_DISTANCE 20

struct plane { /* 8 bits with its size */
    uint8_t *v;
    int32_t h, w;
};

static int at(const struct plane *p, enum filter_border border, int32_t y, int32_t x)
{
    return p->v[filter_index(border, y, p->h) * p->w + filter_index(border, x, p->w)];
}

/* ---- Canny ----------------------------------------------------------------------------------- */

static void sobel(const struct plane *p, int32_t y, int32_t x, int *gx, int *gy)
{
    static const int side[3] = {1, 2, 1};

    *gx = *gy = 0;
    for (int i = -1; i <= 1; i++) {
        *gx += side[i + 1] *
               (at(p, FILTER_NEAREST, y + i, x + 1) - at(p, FILTER_NEAREST, y + i, x - 1));
        *gy += side[i + 1] *
               (at(p, FILTER_NEAREST, y + 1, x + i) - at(p, FILTER_NEAREST, y - 1, x + i));
    }
}

static int size_at(const struct plane *p, const int *size, int32_t y, int32_t x)
{
    return y < 0 || x < 0 || y >= p->h || x >= p->w ? 0 : size[y * p->w + x];
}

/* Is the gradient at (y, x) a ridge? Ties go as in OpenCV: greater than one side, not less than the
 * other. */
static bool is_ridge(const struct plane *p, const int *size, int32_t y, int32_t x, int gx, int gy)
{
    const int m = size[y * p->w + x];
    const int64_t ax = abs(gx), ay = (int64_t)abs(gy) << 15,
                  flat = ax * 13573; /* tan 22.5 * 2^15 */
    const int32_t s = (gx ^ gy) < 0 ? -1 : 1;

    if (ay < flat)
        return m > size_at(p, size, y, x - 1) && m >= size_at(p, size, y, x + 1);
    if (ay > flat + (ax << 16))
        return m > size_at(p, size, y - 1, x) && m >= size_at(p, size, y + 1, x);
    return m > size_at(p, size, y - 1, x - s) && m > size_at(p, size, y + 1, x + s);
}

/* Weak ridges (1) that touch an edge (2) become edges, until nothing changes. */
static void grow_edges(const struct plane *p, uint8_t *mark)
{
    bool again = true;

    while (again) {
        again = false;
        for (int32_t i = 0; i < p->h * p->w; i++) {
            const int32_t y = i / p->w, x = i % p->w;
            for (int k = 0; mark[i] == 1 && k < 9; k++) {
                const int32_t ny = y + k / 3 - 1, nx = x + k % 3 - 1;
                if (ny >= 0 && nx >= 0 && ny < p->h && nx < p->w && mark[ny * p->w + nx] == 2) {
                    mark[i] = 2;
                    again = true;
                }
            }
        }
    }
}

/* mark [h][w]: 2 where an edge is. size: work space. */
static void canny(const struct plane *p, int *size, uint8_t *mark)
{
    int gx, gy;

    for (int32_t i = 0; i < p->h * p->w; i++) {
        sobel(p, i / p->w, i % p->w, &gx, &gy);
        size[i] = abs(gx) + abs(gy);
    }
    for (int32_t i = 0; i < p->h * p->w; i++) {
        sobel(p, i / p->w, i % p->w, &gx, &gy);
        mark[i] = 0;
        if (size[i] > CANNY_LOW && is_ridge(p, size, i / p->w, i % p->w, gx, gy))
            mark[i] = size[i] > CANNY_HIGH ? 2 : 1;
    }
    grow_edges(p, mark);
}

/* ---- the chain of 8-bit steps ---------------------------------------------------------------- */

/* Length of the step (dy, dx) of the chamfer mask; 0: not one of it. */
static float step_length(int dy, int dx)
{
    const int a = abs(dy), b = abs(dx);

    if (a + b == 1)
        return 1;
    if (a == 1 && b == 1)
        return 1.4f;
    return a + b == 3 && a * b == 2 ? 2.1969f : 0;
}

/* d := least over the mask's half that has been visited. sign 1: from the top, -1: from the end. */
static void chamfer_pass(const struct plane *p, float *d, int sign)
{
    const int32_t n = p->h * p->w;

    for (int32_t k = 0; k < n; k++) {
        const int32_t i = sign > 0 ? k : n - 1 - k, y = i / p->w, x = i % p->w;
        for (int m = 0; m < 12; m++) { /* two rows before, and what is before in the row */
            const int dy = -(2 - m / 5), dx = m % 5 - 2;
            const int32_t ny = y + sign * dy, nx = x + sign * dx;
            const float length = step_length(dy, dx);
            if (length > 0 && ny >= 0 && nx >= 0 && ny < p->h && nx < p->w)
                d[i] = fminf(d[i], d[ny * p->w + nx] + length);
        }
    }
}

/* Mean of 3x3, border reflect-101, of values rounded to nearest even as saturate_cast does. */
static void mean3(const struct plane *in, uint8_t *out)
{
    for (int32_t i = 0; i < in->h * in->w; i++) {
        int sum = 0;
        for (int k = 0; k < 9; k++)
            sum += at(in, FILTER_REFLECT_101, i / in->w + k / 3 - 1, i % in->w + k % 3 - 1);
        out[i] = (uint8_t)nearbyint(sum / 9.0);
    }
}

static void mean3_floats(const struct plane *p, const float *in, uint8_t *out)
{
    for (int32_t i = 0; i < p->h * p->w; i++) {
        double sum = 0;
        for (int k = 0; k < 9; k++) {
            const int32_t y = filter_index(FILTER_REFLECT_101, i / p->w + k / 3 - 1, p->h);
            const int32_t x = filter_index(FILTER_REFLECT_101, i % p->w + k % 3 - 1, p->w);
            sum += (double)in[y * p->w + x];
        }
        out[i] = (uint8_t)(sum / 9);
    }
}

static void equalise(struct plane *p)
{
    int32_t hist[256] = {0}, n = p->h * p->w, sum = 0;
    uint8_t table[256] = {0};
    int first = 0;

    for (int32_t i = 0; i < n; i++)
        hist[p->v[i]]++;
    while (hist[first] == 0)
        first++;
    if (hist[first] == n)
        return;
    const float scale = 255.0f / (float)(n - hist[first]);
    for (int v = first + 1; v < 256; v++) {
        sum += hist[v];
        table[v] = (uint8_t)nearbyintf((float)sum * scale);
    }
    for (int32_t i = 0; i < n; i++)
        p->v[i] = table[p->v[i]];
}

static void emboss(const struct plane *in, uint8_t *out)
{
    static const int kernel[9] = {-2, -1, 0, -1, 1, 1, 0, 1, 2};

    for (int32_t i = 0; i < in->h * in->w; i++) {
        int sum = 0;
        for (int k = 0; k < 9; k++)
            sum += kernel[k] *
                   at(in, FILTER_REFLECT_101, i / in->w + k / 3 - 1, i % in->w + k % 3 - 1);
        out[i] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
    }
}

struct water { /* work space of n pixels */
    int *size;
    float *d;
    uint8_t *a, *b;
};

/* layer of 8 bits -> rim of 8 bits (in s->a). */
static void find_rims(const struct plane *layer, const struct water *s)
{
    struct plane a = {s->a, layer->h, layer->w}, b = {s->b, layer->h, layer->w};
    const int32_t n = layer->h * layer->w;

    canny(layer, s->size, s->a);
    for (int32_t i = 0; i < n; i++)
        s->d[i] = s->a[i] == 2 ? 0 : 8192;
    chamfer_pass(layer, s->d, 1);
    chamfer_pass(layer, s->d, -1);
    for (int32_t i = 0; i < n; i++)
        s->d[i] = fminf(s->d[i], MOST_DISTANCE);
    mean3_floats(layer, s->d, s->a);
    equalise(&a);
    emboss(&a, s->b);
    mean3(&b, s->a);
}

static void pour_water(struct corrupt_job *j, const struct spatter_params *p, const uint8_t *layer,
                       const uint8_t *rim)
{
    const int32_t n = j->h * j->w;
    double most = 0;

    for (int32_t i = 0; i < n; i++)
        most = fmax(most, (double)layer[i] * rim[i]);
    for (int32_t i = 0; most > 0 && i < 3 * n; i++)
        j->x[i] += layer[i % n] * rim[i % n] / most * p->strength * water_colour[i / n];
}

static int water(struct corrupt_job *j, const struct spatter_params *p, const double *liquid)
{
    const size_t n = (size_t)j->h * (size_t)j->w;
    OWNED uint8_t *bytes = mem_array(3 * n, 1);
    struct water s;
    OWNED void *size = mem_array(n, sizeof *s.size), *d = mem_array(n, sizeof *s.d);
    const struct plane layer = {bytes, j->h, j->w};

    if (bytes == NULL || size == NULL || d == NULL)
        return ERR_NOMEM;
    s = (struct water){size, d, bytes + n, bytes + 2 * n};
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(int)(liquid[i] * 255);
    find_rims(&layer, &s);
    pour_water(j, p, bytes, s.a);
    return 0;
}

static int mud(struct corrupt_job *j, const struct spatter_params *p, double *liquid, double *work)
{
    const int32_t n = j->h * j->w;

    for (int32_t i = 0; i < n; i++)
        liquid[i] = liquid[i] > p->threshold;
    TRY(filter_gaussian(liquid, work, j->h, j->w, p->strength, 4, FILTER_NEAREST));
    for (int32_t i = 0; i < 3 * n; i++) {
        const double m = liquid[i % n] < MUD_LEAST ? 0 : liquid[i % n];
        j->x[i] = j->x[i] * (1 - m) + m * mud_colour[i / n];
    }
    return 0;
}

int corrupt_spatter(struct corrupt_job *j)
{
    const struct spatter_params *p = &spatter[j->large][j->severity];
    const int32_t n = j->h * j->w;
    double *liquid = j->work, *work = j->work + n;

    for (int32_t i = 0; i < n; i++)
        liquid[i] = p->loc + p->scale * (double)rng_normal(j->r);
    TRY(filter_gaussian(liquid, work, j->h, j->w, p->sigma, 4, FILTER_NEAREST));
    for (int32_t i = 0; i < n; i++)
        liquid[i] = liquid[i] < p->threshold ? 0 : liquid[i];
    return p->mud ? mud(j, p, liquid, work) : water(j, p, liquid);
}
