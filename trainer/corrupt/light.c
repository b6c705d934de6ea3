/*
 * Light and colour: brightness, saturate, contrast, fog.
 */
#include <math.h>

#include "core/base/mem.h"
#include "trainer/corrupt/job.h"

static const double brightness_add[2][5] = {{.05, .1, .15, .2, .3}, {.1, .2, .3, .4, .5}};
static const double contrast_factor[2][5] = {{.75, .5, .4, .3, .15}, {.4, .3, .2, .1, .05}};
static const double saturate_ab[2][5][2] = {{{.3, 0}, {.1, 0}, {1.5, 0}, {2, .1}, {2.5, .2}},
                                            {{.3, 0}, {.1, 0}, {2, 0}, {5, .1}, {30, .2}}};
static const double fog_c[2][5][2] = {{{.2, 3}, {.5, 3}, {.75, 2.5}, {1, 2}, {1.5, 1.75}},
                                      {{.4, 3}, {.7, 3}, {1, 2.5}, {1.5, 2}, {2, 1.75}}};

static double clip01(double v)
{
    return v < 0 ? 0 : v > 1 ? 1 : v;
}

/* ---- hue, saturation, value ------------------------------------------------------ */

struct hsv {
    double h, s, v; /* h in [0,1) of the circle */
};

static struct hsv to_hsv(double r, double g, double b)
{
    double v = fmax(r, fmax(g, b)), span = v - fmin(r, fmin(g, b)), h;

    if (span == 0)
        return (struct hsv){0, 0, v};
    h = b == v ? 4 + (r - g) / span : g == v ? 2 + (b - r) / span : (g - b) / span;
    h /= 6;
    return (struct hsv){h - floor(h), span / v, v};
}

static void from_hsv(struct hsv c, double rgb[3])
{
    double part = floor(c.h * 6), f = c.h * 6 - part;
    double p = c.v * (1 - c.s), q = c.v * (1 - f * c.s), t = c.v * (1 - (1 - f) * c.s);
    const double choice[6][3] = {{c.v, t, p}, {q, c.v, p}, {p, c.v, t},
                                 {p, q, c.v}, {t, p, c.v}, {c.v, p, q}};

    for (int i = 0; i < 3; i++)
        rgb[i] = choice[(int)part % 6][i];
}

/* s := s_factor s + s_add, v := v + v_add, each clipped. */
static void change_hsv(struct corrupt_job *j, double s_factor, double s_add, double v_add)
{
    int32_t n = j->h * j->w;

    for (int32_t i = 0; i < n; i++) {
        struct hsv c = to_hsv(j->x[i], j->x[n + i], j->x[2 * n + i]);
        double rgb[3];
        c.s = clip01(c.s * s_factor + s_add);
        c.v = clip01(c.v + v_add);
        from_hsv(c, rgb);
        for (int k = 0; k < 3; k++)
            j->x[k * n + i] = rgb[k];
    }
}

int corrupt_brightness(struct corrupt_job *j)
{
    change_hsv(j, 1, 0, brightness_add[j->large][j->severity]);
    return 0;
}

int corrupt_saturate(struct corrupt_job *j)
{
    const double *ab = saturate_ab[j->large][j->severity];
    change_hsv(j, ab[0], ab[1], 0);
    return 0;
}

int corrupt_contrast(struct corrupt_job *j)
{
    double c = contrast_factor[j->large][j->severity];
    int32_t n = j->h * j->w;

    for (int k = 0; k < 3; k++) {
        double *x = j->x + k * n, mean = 0;
        for (int32_t i = 0; i < n; i++)
            mean += x[i];
        mean /= n;
        for (int32_t i = 0; i < n; i++)
            x[i] = (x[i] - mean) * c + mean;
    }
    return 0;
}

/* ---- fog -------------------------------------------------------------------------- */

struct plasma {
    double *map; /* [side][side], wraps around */
    int32_t side;
    double wibble;
    struct rng *r;
};

static double *at(const struct plasma *p, int32_t y, int32_t x)
{
    return &p->map[(y & (p->side - 1)) * p->side + (x & (p->side - 1))];
}

/* The mean of the four places at distance d, straight or diagonal, plus noise. The published code
 * multiplies by the amplitude twice. */
static double wibbled(const struct plasma *p, int32_t y, int32_t x, int32_t d, bool diagonal)
{
    int32_t e = diagonal ? d : 0;
    double sum =
        *at(p, y - d, x - e) + *at(p, y + d, x + e) + *at(p, y - e, x + d) + *at(p, y + e, x - d);
    double noise = 2 * rng_uniform_double(p->r) - 1;

    return sum / 4 + p->wibble * p->wibble * noise;
}

static void fill(const struct plasma *p, int32_t y0, int32_t x0, int32_t step, bool diagonal)
{
    for (int32_t y = y0; y < p->side; y += step)
        for (int32_t x = x0; x < p->side; x += step)
            *at(p, y, x) = wibbled(p, y, x, step / 2, diagonal);
}

/* Diamond-square; values end in [0,1]. */
static void make_plasma(struct plasma *p, double decay)
{
    double lo, hi;

    p->map[0] = 0;
    p->wibble = 100;
    for (int32_t step = p->side; step >= 2; step /= 2, p->wibble /= decay) {
        fill(p, step / 2, step / 2, step, true);
        fill(p, 0, step / 2, step, false);
        fill(p, step / 2, 0, step, false);
    }
    lo = hi = p->map[0];
    for (int32_t i = 0; i < p->side * p->side; i++) {
        lo = fmin(lo, p->map[i]);
        hi = fmax(hi, p->map[i]);
    }
    for (int32_t i = 0; i < p->side * p->side; i++)
        p->map[i] = (p->map[i] - lo) / (hi - lo);
}

int corrupt_fog(struct corrupt_job *j)
{
    const double *c = fog_c[j->large][j->severity];
    struct plasma p = {NULL, 1, 0, j->r};
    double most = 0;
    int32_t n = j->h * j->w;

    while (p.side < j->h || p.side < j->w)
        p.side *= 2;
    if ((p.map = mem_array((size_t)p.side * (size_t)p.side, sizeof *p.map)) == NULL)
        return ERR_NOMEM;
    make_plasma(&p, c[1]);
    for (int32_t i = 0; i < 3 * n; i++)
        most = fmax(most, j->x[i]);
    for (int32_t i = 0; i < 3 * n; i++)
        j->x[i] = (j->x[i] + c[0] * *at(&p, i % n / j->w, i % j->w)) * most / (most + c[0]);
    mem_free(p.map);
    return 0;
}
