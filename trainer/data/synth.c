/*
 * The generator of labelled images.
 *
 * Layers, from the back: a background of two colours with a wave and coarse cells; clutter (thin
 * bars and blobs); one shape, whose outline is the class, in random pose, with its own colours and
 * wave; some clutter in front; a light gradient; noise. A shape is a signed distance in units where
 * its radius is about 1 (negative inside); distance times radius in pixels, clamped to one pixel,
 * is the coverage, which gives anti-aliased edges.
 *
 * What tells two classes apart is several pixels wide and in strong contrast, so that a robust
 * classifier exists at 8/255; what makes it hard is pose, clutter, texture and noise.
 *
 * No function of libm but sqrtf and floorf, which are exact: the same bytes everywhere.
 */
#include "trainer/data/synth.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "core/graph/rng.h"
#include "trainer/data/owner.h"

#define SIDE SYNTH_SIDE
#define PLANE (SIDE * SIDE)

/* The measures that set how hard the images are. */
static const float radius_min = 7.0f, radius_max = 12.5f; /* of the shape, pixels */
static const float offset_most = 4.5f;                    /* of its centre, pixels */
static const float aspect_most = 1.30f;                   /* stretch along one axis */
static const float contrast_min = 0.28f;                  /* mean difference of shape and ground */
static const float noise_most = 0.08f;                    /* standard deviation */
static const float wave_most = 0.13f;                     /* amplitude of texture */
#define CLUTTER_BEHIND 4
#define CLUTTER_FRONT 2

struct point {
    float x, y;
};

/* ---- distances --------------------------------------------------------------- */

static float length2(float x, float y)
{
    return sqrtf(x * x + y * y);
}

/* Box around (x0, y0) with half sizes w and h. */
static float box(struct point p, float x0, float y0, float w, float h)
{
    float dx = fabsf(p.x - x0) - w, dy = fabsf(p.y - y0) - h;
    float inside = fminf(fmaxf(dx, dy), 0);

    return length2(fmaxf(dx, 0), fmaxf(dy, 0)) + inside;
}

/* Closed polygon: distance to the nearest edge, negative where a ray meets an odd number of
 * edges. */
static float polygon(struct point p, const struct point *v, int n)
{
    float best = 1e9f, sign = 1;

    for (int i = 0, j = n - 1; i < n; j = i++) {
        float ex = v[j].x - v[i].x, ey = v[j].y - v[i].y;
        float wx = p.x - v[i].x, wy = p.y - v[i].y;
        float t = fminf(fmaxf((wx * ex + wy * ey) / (ex * ex + ey * ey), 0), 1);
        float dx = wx - ex * t, dy = wy - ey * t;
        best = fminf(best, dx * dx + dy * dy);
        if ((v[i].y > p.y) != (v[j].y > p.y) && (p.x < ex * (p.y - v[i].y) / ey + v[i].x))
            sign = -sign;
    }
    return sign * sqrtf(best);
}

static float disc(struct point p)
{
    return length2(p.x, p.y) - 0.92f;
}

static float ring(struct point p)
{
    return fabsf(length2(p.x, p.y) - 0.76f) - 0.22f;
}

static float square(struct point p)
{
    return box(p, 0, 0, 0.78f, 0.78f);
}

static float triangle(struct point p)
{
    static const struct point v[] = {{0, -1.05f}, {0.91f, 0.6f}, {-0.91f, 0.6f}};
    return polygon(p, v, 3);
}

static float cross(struct point p)
{
    return fminf(box(p, 0, 0, 1, 0.29f), box(p, 0, 0, 0.29f, 1));
}

static float star(struct point p)
{
    static const struct point v[] = {{0, -1.1f},          {0.2469f, -0.3398f}, {1.0462f, -0.3399f},
                                     {0.3995f, 0.1298f},  {0.6466f, 0.8899f},  {0, 0.42f},
                                     {-0.6466f, 0.8899f}, {-0.3995f, 0.1298f}, {-1.0462f, -0.3399f},
                                     {-0.2469f, -0.3398f}};
    return polygon(p, v, 10);
}

static float bars(struct point p)
{
    float d = box(p, 0, 0, 0.95f, 0.19f);
    d = fminf(d, box(p, 0, -0.72f, 0.95f, 0.19f));
    return fminf(d, box(p, 0, 0.72f, 0.95f, 0.19f));
}

static float checker(struct point p)
{
    float d = box(p, 0, 0, 0.31f, 0.31f);
    for (int i = 0; i < 4; i++)
        d = fminf(d, box(p, i & 1 ? 0.62f : -0.62f, i & 2 ? 0.62f : -0.62f, 0.31f, 0.31f));
    return d;
}

static float crescent(struct point p)
{
    return fmaxf(length2(p.x, p.y) - 0.98f, 0.78f - length2(p.x - 0.46f, p.y));
}

static float arrow(struct point p)
{
    static const struct point v[] = {{1.1f, 0},       {0.2f, 0.8f},   {0.2f, 0.27f}, {-1.0f, 0.27f},
                                     {-1.0f, -0.27f}, {0.2f, -0.27f}, {0.2f, -0.8f}};
    return polygon(p, v, 7);
}

static const struct {
    const char *name;
    float (*distance)(struct point p);
} shape[SYNTH_CLASSES] = {
    {"disc", disc}, {"ring", ring}, {"square", square},   {"triangle", triangle}, {"cross", cross},
    {"star", star}, {"bars", bars}, {"checker", checker}, {"crescent", crescent}, {"arrow", arrow},
};

const char *synth_class_name(int32_t label)
{
    return shape[label].name;
}

/* ---- pose, colour, wave ------------------------------------------------------- */

/* A uniform direction: a point in the unit disc, away from its centre, made a unit vector. */
static struct point direction(struct rng *r)
{
    for (;;) {
        float x = rng_range(r, -1, 1), y = rng_range(r, -1, 1), n = length2(x, y);
        if (n > 0.1f && n <= 1)
            return (struct point){x / n, y / n};
    }
}

struct pose { /* pixel -> shape units: turn, then scale */
    struct point centre, turn;
    float sx, sy; /* shape units a pixel */
    float radius; /* pixels a shape unit, for the edge */
};

static struct pose draw_pose(struct rng *r)
{
    struct pose q;
    float aspect = rng_range(r, 1, aspect_most);

    q.radius = rng_range(r, radius_min, radius_max);
    q.centre.x = SIDE / 2 + rng_range(r, -offset_most, offset_most);
    q.centre.y = SIDE / 2 + rng_range(r, -offset_most, offset_most);
    q.turn = direction(r);
    q.sx = sqrtf(aspect) / q.radius;
    q.sy = 1 / (sqrtf(aspect) * q.radius);
    if (rng_below(r, 2) == 0) {
        float s = q.sx;
        q.sx = q.sy;
        q.sy = s;
    }
    return q;
}

static struct point to_shape(const struct pose *q, float x, float y)
{
    float dx = x - q->centre.x, dy = y - q->centre.y;
    return (struct point){(dx * q->turn.x + dy * q->turn.y) * q->sx,
                          (dy * q->turn.x - dx * q->turn.y) * q->sy};
}

struct colour {
    float v[3];
};

static struct colour any_colour(struct rng *r)
{
    struct colour c;
    for (int i = 0; i < 3; i++)
        c.v[i] = rng_range(r, 0.08f, 0.92f);
    return c;
}

static float contrast(const struct colour *a, const struct colour *b)
{
    float sum = 0;
    for (int i = 0; i < 3; i++)
        sum += fabsf(a->v[i] - b->v[i]);
    return sum / 3;
}

/* Away from both colours of the ground. */
static struct colour shape_colour(struct rng *r, const struct colour *ground)
{
    struct colour c;
    do
        c = any_colour(r);
    while (contrast(&c, &ground[0]) < contrast_min || contrast(&c, &ground[1]) < contrast_min);
    return c;
}

/* A colour not far from c. */
static struct colour near_colour(struct rng *r, const struct colour *c, float most)
{
    struct colour out;
    for (int i = 0; i < 3; i++)
        out.v[i] = c->v[i] + rng_range(r, -most, most);
    return out;
}

struct wave { /* amplitude times a smooth periodic function of fx x + fy y + phase */
    float fx, fy, phase, amplitude;
};

static struct wave draw_wave(struct rng *r, float most)
{
    struct point d = direction(r);
    float per_pixel = rng_range(r, 0.04f, 0.30f);
    return (struct wave){d.x * per_pixel, d.y * per_pixel, rng_uniform(r), rng_range(r, 0, most)};
}

/* Two parabolas a period instead of a sine: +-amplitude. */
static float wave_at(const struct wave *w, float x, float y)
{
    float t = w->fx * x + w->fy * y + w->phase, u = 2 * (t - floorf(t)) - 1;
    return w->amplitude * 4 * u * (1 - fabsf(u));
}

/* ---- layers -------------------------------------------------------------------- */

static void blend(float *canvas, int pixel, const struct colour *c, float shade, float cover)
{
    for (int k = 0; k < 3; k++) {
        float *v = &canvas[k * PLANE + pixel];
        *v += cover * (c->v[k] + shade - *v);
    }
}

static float coverage(float distance)
{
    return fminf(fmaxf(0.5f - distance, 0), 1);
}

/* Ground: a to b along a direction, a wave, and cells of 8 pixels with corners of random shade. */
static void paint_ground(float *canvas, struct rng *r, const struct colour *ground)
{
    enum { CELLS = SIDE / 8 + 1 };
    float cell[CELLS][CELLS];
    struct point d = direction(r);
    struct wave w = draw_wave(r, wave_most);

    for (int i = 0; i < CELLS * CELLS; i++)
        cell[i / CELLS][i % CELLS] = rng_range(r, -wave_most, wave_most) * 0.8f;
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            int cx = x / 8, cy = y / 8;
            float fx = (float)(x % 8) / 8, fy = (float)(y % 8) / 8;
            float top = cell[cy][cx] * (1 - fx) + cell[cy][cx + 1] * fx;
            float low = cell[cy + 1][cx] * (1 - fx) + cell[cy + 1][cx + 1] * fx;
            float along = ((float)(x - SIDE / 2) * d.x + (float)(y - SIDE / 2) * d.y) / SIDE + 0.5f;
            float shade = wave_at(&w, (float)x, (float)y) + top * (1 - fy) + low * fy;
            blend(canvas, y * SIDE + x, &ground[0], shade, 1);
            blend(canvas, y * SIDE + x, &ground[1], shade, fminf(fmaxf(along, 0), 1));
        }
}

static void paint_shape(float *canvas, struct rng *r, int32_t label, const struct colour *ground)
{
    struct pose q = draw_pose(r);
    struct colour c = shape_colour(r, ground);
    struct wave w = draw_wave(r, wave_most * 0.7f);

    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            struct point p = to_shape(&q, (float)x + 0.5f, (float)y + 0.5f);
            float cover = 0;
            if (p.x * p.x + p.y * p.y < 2.6f) /* no shape reaches farther than 1.4 */
                cover = coverage(shape[label].distance(p) * q.radius);
            if (cover > 0)
                blend(canvas, y * SIDE + x, &c, wave_at(&w, (float)x, (float)y), cover);
        }
}

/* A bar of round ends between two points, or a blob where they are close. */
static void paint_clutter(float *canvas, struct rng *r, const struct colour *ground, float width)
{
    struct point a = {rng_range(r, -2, SIDE + 2), rng_range(r, -2, SIDE + 2)}, d = direction(r);
    float reach = rng_below(r, 3) == 0 ? 1.0f : rng_range(r, 3, 16);
    float half = rng_range(r, 0.4f, width);
    struct colour c = rng_below(r, 2) == 0 ? any_colour(r) : near_colour(r, &ground[0], 0.3f);
    float strength = rng_range(r, 0.5f, 1);

    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            float wx = (float)x + 0.5f - a.x, wy = (float)y + 0.5f - a.y;
            float t = fminf(fmaxf(wx * d.x + wy * d.y, 0), reach);
            float cover = coverage(length2(wx - d.x * t, wy - d.y * t) - half);
            if (cover > 0)
                blend(canvas, y * SIDE + x, &c, 0, cover * strength);
        }
}

/* Four bytes of a random word summed: near enough to a normal number, and cheap. */
static float noise(struct rng *r)
{
    uint32_t u = rng_u32(r);
    int sum = (int)((u & 255) + (u >> 8 & 255) + (u >> 16 & 255) + (u >> 24));
    return ((float)sum - 510) / 147.8f;
}

static void to_bytes(const float *canvas, struct rng *r, uint8_t *chw)
{
    struct point light = direction(r);
    float slope = rng_range(r, 0, 0.3f) / SIDE, gain = rng_range(r, 0.85f, 1.1f);
    float sigma = rng_range(r, 0.01f, noise_most);

    for (int i = 0; i < SYNTH_BYTES; i++) {
        float x = (float)(i % SIDE - SIDE / 2), y = (float)(i / SIDE % SIDE - SIDE / 2);
        float v = canvas[i] * (gain + slope * (x * light.x + y * light.y)) + sigma * noise(r);
        chw[i] = (uint8_t)(fminf(fmaxf(v, 0), 1) * 255 + 0.5f);
    }
}

void synth_image(uint64_t seed, enum synth_part part, int64_t i, uint8_t *chw, int32_t *label)
{
    struct rng r = rng_at(seed, RNG_SYNTH, (uint32_t)part, (uint64_t)i);
    float canvas[SYNTH_BYTES] = {0};
    struct colour ground[2];

    *label = (int32_t)(i % SYNTH_CLASSES);
    ground[0] = any_colour(&r);
    ground[1] = near_colour(&r, &ground[0], 0.25f);
    paint_ground(canvas, &r, ground);
    for (uint32_t k = rng_below(&r, CLUTTER_BEHIND + 1); k > 0; k--)
        paint_clutter(canvas, &r, ground, 2.5f);
    paint_shape(canvas, &r, *label, ground);
    for (uint32_t k = rng_below(&r, CLUTTER_FRONT + 1); k > 0; k--)
        paint_clutter(canvas, &r, ground, 1.6f);
    to_bytes(canvas, &r, chw);
}

void synth_images(uint64_t seed, enum synth_part part, int64_t n, uint8_t *pixels, int32_t *labels)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        synth_image(seed, part, i, pixels + i * SYNTH_BYTES, &labels[i]);
}

int data_synth_load(int64_t n, bool is_test, uint64_t seed, struct dataset *d)
{
    d->n = is_test ? n / 5 : n;
    d->channels = SYNTH_CHANNELS;
    d->height = d->width = SYNTH_SIDE;
    d->classes = SYNTH_CLASSES;
    d->owner->classes_known = true;
    for (int32_t c = 0; c < SYNTH_CLASSES; c++) {
        const char *name = synth_class_name(c);
        TRY(name_list_add(&d->owner->class_name, name, strlen(name)));
    }
    TRY(data_owner_alloc(d, d->n, false));
    synth_images(seed, is_test ? SYNTH_TEST : SYNTH_TRAIN, d->n, d->owner->pixels,
                 d->owner->labels);
    return data_owner_source(d, "synth:%" PRId64 " (seed %" PRIu64 ")", n, seed);
}
