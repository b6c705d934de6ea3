/*
 * AugMix: chains of image operations, mixed with the original.
 *
 *     w ~ Dirichlet(1,1,1)      m ~ Beta(1,1) = U(0,1)
 *     c_i = `depth` operations, drawn with replacement, on the 8-bit image
 *     out = (1-m) x/255 + m sum_i w_i c_i/255
 *
 * Source: Hendrycks et al. 2020 with the image operations of Pillow (ImageOps, ImageEnhance, the
 * affine transform with the bilinear filter): the same 8-bit result for every pixel. Sums and
 * products that Pillow rounds one by one stand in statements of their own, so that no compiler may
 * fuse them.
 */
#include "trainer/corrupt/augmix.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PI 3.14159265358979323846
#define MAX_WIDTH 8
#define MAX_BYTES (AUGMIX_MAX_CHANNELS * AUGMIX_MAX_SIDE * AUGMIX_MAX_SIDE)

struct picture {
    const uint8_t *chw;
    int32_t c, h, w;
};

/* ---- operations that look each value up in a table ------------------------------ */

static int clip8(int v)
{
    return v < 0 ? 0 : v > 255 ? 255 : v;
}

static void identity(uint8_t table[256])
{
    for (int i = 0; i < 256; i++)
        table[i] = (uint8_t)i;
}

static void count(const uint8_t *in, int32_t n, int32_t hist[256])
{
    memset(hist, 0, 256 * sizeof *hist);
    for (int32_t i = 0; i < n; i++)
        hist[in[i]]++;
}

static int highest(const int32_t hist[256])
{
    int i = 255;
    while (i > 0 && hist[i] == 0)
        i--;
    return i;
}

static int lowest(const int32_t hist[256])
{
    int i = 0;
    while (i < 255 && hist[i] == 0)
        i++;
    return i;
}

static void stretch_table(const int32_t hist[256], int32_t pixels, uint8_t table[256])
{
    int lo = lowest(hist), hi = highest(hist);
    double scale, offset;

    (void)pixels;
    if (hi <= lo) {
        identity(table);
        return;
    }
    scale = 255.0 / (hi - lo);
    offset = -lo * scale;
    for (int i = 0; i < 256; i++) {
        double v = i * scale;
        v += offset;
        table[i] = (uint8_t)clip8((int)v);
    }
}

static void equal_table(const int32_t hist[256], int32_t pixels, uint8_t table[256])
{
    int32_t step = (pixels - hist[highest(hist)]) / 255, n = step / 2;

    if (step == 0) { /* also where only one value is present */
        identity(table);
        return;
    }
    for (int i = 0; i < 256; i++) {
        table[i] = (uint8_t)clip8(n / step);
        n += hist[i];
    }
}

/* Each channel through a table that is made of its values. */
static void through_tables(void (*make)(const int32_t hist[256], int32_t pixels,
                                        uint8_t table[256]),
                           const struct picture *p, uint8_t *out)
{
    int32_t hist[256], n = p->h * p->w;
    uint8_t table[256];

    for (int32_t c = 0; c < p->c; c++) {
        count(p->chw + c * n, n, hist);
        make(hist, n, table);
        for (int32_t i = c * n; i < (c + 1) * n; i++)
            out[i] = table[p->chw[i]];
    }
}

static void autocontrast(double unused, const struct picture *p, uint8_t *out)
{
    (void)unused;
    through_tables(stretch_table, p, out);
}

static void equalize(double unused, const struct picture *p, uint8_t *out)
{
    (void)unused;
    through_tables(equal_table, p, out);
}

static void posterize(double bits, const struct picture *p, uint8_t *out)
{
    unsigned mask = ~((1u << (8 - (unsigned)bits)) - 1) & 255u;

    for (int32_t i = 0; i < p->c * p->h * p->w; i++)
        out[i] = (uint8_t)(p->chw[i] & mask);
}

static void solarize(double threshold, const struct picture *p, uint8_t *out)
{
    int limit = (int)threshold;

    for (int32_t i = 0; i < p->c * p->h * p->w; i++)
        out[i] = (uint8_t)(p->chw[i] < limit ? p->chw[i] : 255 - p->chw[i]);
}

/* ---- affine maps ---------------------------------------------------------------- */

static int32_t clamp(int32_t v, int32_t n)
{
    return v < 0 ? 0 : v < n ? v : n - 1;
}

static double lerp(double a, double b, double t)
{
    double step = b - a;
    step *= t;
    return a + step;
}

/* The image at (x, y), which lies in [0,w) x [0,h); pixel (0,0) has its centre at (.5, .5). */
static void sample(const struct picture *p, double x, double y, uint8_t *out)
{
    int32_t plane = p->h * p->w, col, row;
    double dx, dy;

    x -= 0.5;
    y -= 0.5;
    col = (int32_t)floor(x);
    row = (int32_t)floor(y);
    dx = x - col;
    dy = y - row;
    int32_t left = clamp(col, p->w), right = clamp(col + 1, p->w);
    int32_t top = clamp(row, p->h) * p->w, low = clamp(row + 1, p->h) * p->w;
    for (int32_t c = 0; c < p->c; c++) {
        const uint8_t *in = p->chw + c * plane;
        double a = lerp(in[top + left], in[top + right], dx);
        double b = lerp(in[low + left], in[low + right], dx);
        out[c * plane] = (uint8_t)lerp(a, b, dy);
    }
}

/* Output pixel (x, y) takes the input at (m0 x + m1 y + m2, m3 x + m4 y + m5), black outside. */
static void affine(const double m[6], const struct picture *p, uint8_t *out)
{
    int32_t plane = p->h * p->w;

    for (int32_t i = 0; i < plane; i++) {
        double x = i % p->w + 0.5, y = i / p->w + 0.5;
        double u0 = m[0] * x, u1 = m[1] * y, v0 = m[3] * x, v1 = m[4] * y;
        u0 += u1;
        u0 += m[2];
        v0 += v1;
        v0 += m[5];
        if (u0 >= 0 && u0 < p->w && v0 >= 0 && v0 < p->h)
            sample(p, u0, v0, out + i);
        else
            for (int32_t c = 0; c < p->c; c++)
                out[c * plane + i] = 0;
    }
}

/* To 15 decimals, as Pillow does with its matrix. Through text, because the product with 1e15 would
 * itself be rounded. */
static double round15(double v)
{
    char text[32];

    snprintf(text, sizeof text, "%.15f", v);
    return strtod(text, NULL);
}

static void rotate(double degrees, const struct picture *p, uint8_t *out)
{
    double full = degrees < 0 ? degrees + 360 : degrees, angle = -(full * (PI / 180));
    double c = round15(cos(angle)), s = round15(sin(angle));
    double cx = p->w / 2.0, cy = p->h / 2.0, m[6] = {c, s, 0, -s, c, 0}, t;

    if (degrees == 0) {
        memcpy(out, p->chw, (size_t)(p->c * p->h * p->w));
        return;
    }
    m[2] = c * -cx;
    t = s * -cy;
    m[2] += t;
    m[2] += cx;
    m[5] = -s * -cx;
    t = c * -cy;
    m[5] += t;
    m[5] += cy;
    affine(m, p, out);
}

static void shear_x(double factor, const struct picture *p, uint8_t *out)
{
    affine((const double[]){1, factor, 0, 0, 1, 0}, p, out);
}

static void shear_y(double factor, const struct picture *p, uint8_t *out)
{
    affine((const double[]){1, 0, 0, factor, 1, 0}, p, out);
}

static void translate_x(double pixels, const struct picture *p, uint8_t *out)
{
    affine((const double[]){1, 0, pixels, 0, 1, 0}, p, out);
}

static void translate_y(double pixels, const struct picture *p, uint8_t *out)
{
    affine((const double[]){1, 0, 0, 0, 1, pixels}, p, out);
}

/* ---- blends with a degenerate image ------------------------------------------------ */

/* Pillow's grey of pixel i: (.299 R + .587 G + .114 B) in 16-bit fixed point. */
static uint8_t grey(const struct picture *p, int32_t i)
{
    int32_t n = p->h * p->w;

    if (p->c < 3)
        return p->chw[i];
    return (uint8_t)((p->chw[i] * 19595u + p->chw[n + i] * 38470u + p->chw[2 * n + i] * 7471u +
                      0x8000u) >>
                     16);
}

static uint8_t blend(int from, int to, float factor)
{
    float v = factor * (float)(to - from);

    v += (float)from;
    return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)v;
}

static void color(double factor, const struct picture *p, uint8_t *out)
{
    int32_t n = p->h * p->w;

    for (int32_t i = 0; i < n; i++)
        for (int32_t c = 0; c < p->c; c++)
            out[c * n + i] = blend(grey(p, i), p->chw[c * n + i], (float)factor);
}

static void contrast(double factor, const struct picture *p, uint8_t *out)
{
    int32_t n = p->h * p->w, sum = 0;

    for (int32_t i = 0; i < n; i++)
        sum += grey(p, i);
    for (int32_t i = 0; i < p->c * n; i++)
        out[i] = blend((int)((double)sum / n + 0.5), p->chw[i], (float)factor);
}

static void brightness(double factor, const struct picture *p, uint8_t *out)
{
    for (int32_t i = 0; i < p->c * p->h * p->w; i++)
        out[i] = blend(0, p->chw[i], (float)factor);
}

/* The weighted row left, centre, right. */
static float row3(const uint8_t *in, float side, float centre)
{
    float a = (float)in[-1] * side, b = (float)in[0] * centre, c = (float)in[1] * side;

    a += b;
    return a + c;
}

/* 3x3 mean with weight 5 in the centre, over 13; the outermost pixels stay. */
static uint8_t smooth(const struct picture *p, const uint8_t *in, int32_t x, int32_t y)
{
    float side = 1.0f / 13.0f, centre = 5.0f / 13.0f, v = 0.5f;

    if (x == 0 || y == 0 || x == p->w - 1 || y == p->h - 1)
        return *in;
    v += row3(in + p->w, side, side);
    v += row3(in, side, centre);
    v += row3(in - p->w, side, side);
    return (uint8_t)(v >= 255 ? 255 : v);
}

static void sharpness(double factor, const struct picture *p, uint8_t *out)
{
    int32_t n = p->h * p->w;

    for (int32_t i = 0; i < p->c * n; i++)
        out[i] = blend(smooth(p, p->chw + i, i % n % p->w, i % n / p->w), p->chw[i], (float)factor);
}

/* ---- the table ---------------------------------------------------------------------- */

enum form { NO_LEVEL, FROM_BITS, FROM_THRESHOLD, WHOLE, FRACTION, FACTOR };

static const struct {
    void (*apply)(double parameter, const struct picture *p, uint8_t *out);
    double most; /* parameter at level 10; for translate the side is multiplied in */
    enum form form;
} table[AUGMIX_N] = {
    [AUGMIX_AUTOCONTRAST] = {autocontrast, 0, NO_LEVEL},
    [AUGMIX_EQUALIZE] = {equalize, 0, NO_LEVEL},
    [AUGMIX_POSTERIZE] = {posterize, 4, FROM_BITS},
    [AUGMIX_ROTATE] = {rotate, 30, WHOLE},
    [AUGMIX_SOLARIZE] = {solarize, 256, FROM_THRESHOLD},
    [AUGMIX_SHEAR_X] = {shear_x, 0.3, FRACTION},
    [AUGMIX_SHEAR_Y] = {shear_y, 0.3, FRACTION},
    [AUGMIX_TRANSLATE_X] = {translate_x, 0, WHOLE},
    [AUGMIX_TRANSLATE_Y] = {translate_y, 0, WHOLE},
    [AUGMIX_COLOR] = {color, 1.8, FACTOR},
    [AUGMIX_CONTRAST] = {contrast, 1.8, FACTOR},
    [AUGMIX_BRIGHTNESS] = {brightness, 1.8, FACTOR},
    [AUGMIX_SHARPNESS] = {sharpness, 1.8, FACTOR},
};

static double most_of(enum augmix_kind op, int32_t height, int32_t width)
{
    if (op == AUGMIX_TRANSLATE_X)
        return width / 3.0;
    return op == AUGMIX_TRANSLATE_Y ? height / 3.0 : table[op].most;
}

double augmix_parameter(enum augmix_kind op, float level, bool negative, int32_t height,
                        int32_t width)
{
    double most = most_of(op, height, width), v = (double)level * most / 10, whole = trunc(v);

    switch (table[op].form) {
    case NO_LEVEL:
        return 0;
    case FROM_BITS:
        return 4 - whole;
    case FROM_THRESHOLD:
        return 256 - whole;
    case WHOLE:
        return negative ? -whole : whole;
    case FRACTION:
        return negative ? -v : v;
    case FACTOR:
        return v + 0.1;
    }
    return 0;
}

void augmix_op(enum augmix_kind op, double parameter, const uint8_t *chw, int32_t channels,
               int32_t height, int32_t width, uint8_t *out)
{
    table[op].apply(parameter, &(struct picture){chw, channels, height, width}, out);
}

/* ---- mixtures ------------------------------------------------------------------------ */

struct augmix_config augmix_defaults(void)
{
    return (struct augmix_config){.severity = 3, .width = 3, .depth = 0, .all_ops = false};
}

static void random_op(const struct augmix_config *cfg, const struct picture *p, struct rng *r,
                      uint8_t *out)
{
    enum augmix_kind op =
        (enum augmix_kind)rng_below(r, cfg->all_ops ? AUGMIX_N : AUGMIX_N_DEFAULT);
    float level = rng_range(r, 0.1f, cfg->severity);
    bool negative = rng_uniform(r) > 0.5f;

    augmix_op(op, augmix_parameter(op, level, negative, p->h, p->w), p->chw, p->c, p->h, p->w, out);
}

/* `depth` operations in a row; returns which of the two buffers holds the result. */
static const uint8_t *chain(const struct augmix_config *cfg, struct picture p, struct rng *r,
                            uint8_t *one, uint8_t *two)
{
    uint32_t depth = cfg->depth > 0 ? (uint32_t)cfg->depth : 1 + rng_below(r, 3);

    for (uint32_t k = 0; k < depth; k++) {
        uint8_t *out = p.chw == one ? two : one;
        random_op(cfg, &p, r, out);
        p.chw = out;
    }
    return p.chw;
}

/* Dirichlet(1, ..., 1): exponentials over their sum. */
static void weights(struct rng *r, int32_t width, float *w)
{
    double e[MAX_WIDTH], sum = 0;

    for (int32_t i = 0; i < width; i++) {
        e[i] = -log(1 - rng_uniform_double(r));
        sum += e[i];
    }
    for (int32_t i = 0; i < width; i++) /* the sum is 0 with probability 2^-159 */
        w[i] = sum > 0 ? (float)(e[i] / sum) : 1.0f / (float)width;
}

void augmix(const struct augmix_config *cfg, const uint8_t *chw, int32_t channels, int32_t height,
            int32_t width, struct rng *r, float *out)
{
    uint8_t one[MAX_BYTES], two[MAX_BYTES];
    struct picture p = {chw, channels, height, width};
    int32_t n = channels * height * width;
    float w[MAX_WIDTH], m;

    assert(n <= MAX_BYTES && channels <= AUGMIX_MAX_CHANNELS);
    assert(cfg->width >= 1 && cfg->width <= MAX_WIDTH);
    weights(r, cfg->width, w);
    m = rng_uniform(r);
    for (int32_t j = 0; j < n; j++)
        out[j] = (1 - m) * (float)chw[j];
    for (int32_t i = 0; i < cfg->width; i++) {
        const uint8_t *c = chain(cfg, p, r, one, two);
        for (int32_t j = 0; j < n; j++)
            out[j] += m * w[i] * (float)c[j];
    }
    for (int32_t j = 0; j < n; j++) /* rounding must not leave [0,1] */
        out[j] = fminf(out[j] / 255.0f, 1);
}
