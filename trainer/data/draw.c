/* Random parts of images; see draw.h. */
#include "trainer/data/draw.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/graph/rng.h"
#include "trainer/data/resize.h"

#define LEAST_AREA 0.08
#define MOST_RATIO (4.0 / 3) /* of width and height; the least is its inverse */
#define TRIES 10

static double between(struct rng *r, double lo, double hi)
{
    return lo + (hi - lo) * rng_uniform_double(r);
}

/* The middle of the image, cut where it is longer than the ratio allows. */
static struct picture_part middle(int32_t height, int32_t width)
{
    const double ratio = (double)width / height;
    struct picture_part p = {.height = height, .width = width};

    if (ratio < 1 / MOST_RATIO)
        p.height = (int32_t)lrint(width * MOST_RATIO);
    else if (ratio > MOST_RATIO)
        p.width = (int32_t)lrint(height * MOST_RATIO);
    p.top = (height - p.height) / 2;
    p.left = (width - p.width) / 2;
    return p;
}

struct picture_part draw_part(const struct data_view *view, int64_t record, int32_t height,
                              int32_t width)
{
    struct rng r = rng_at(view->seed, RNG_CROP, (uint32_t)view->epoch, (uint64_t)record);
    const bool flip = rng_u32(&r) & 1;
    struct picture_part p;

    for (int i = 0; i < TRIES; i++) {
        const double area = (double)height * width * between(&r, LEAST_AREA, 1);
        const double ratio = exp(between(&r, -log(MOST_RATIO), log(MOST_RATIO)));
        const long w = lrint(sqrt(area * ratio)), h = lrint(sqrt(area / ratio));

        if (w < 1 || w > width || h < 1 || h > height)
            continue;
        p = (struct picture_part){.height = (int32_t)h, .width = (int32_t)w, .flip = flip};
        p.top = (int32_t)rng_below(&r, (uint32_t)(height - p.height + 1));
        p.left = (int32_t)rng_below(&r, (uint32_t)(width - p.width + 1));
        return p;
    }
    p = middle(height, width);
    p.flip = flip;
    return p;
}

static void mirror(struct picture *p)
{
    for (int32_t y = 0; y < p->height; y++) {
        uint8_t *row = p->rgb + (size_t)y * (size_t)p->width * 3;
        for (int32_t a = 0, b = p->width - 1; a < b; a++, b--) {
            uint8_t t[3];
            memcpy(t, row + 3 * a, 3);
            memcpy(row + 3 * a, row + 3 * b, 3);
            memcpy(row + 3 * b, t, 3);
        }
    }
}

int picture_take(struct picture *p, const struct picture_part *part, int32_t height, int32_t width)
{
    struct picture scaled = {0};

    picture_cut(p, part->top, part->left, part->height, part->width);
    TRY(picture_resize(p, height, width, RESIZE_BILINEAR, &scaled));
    picture_release(p);
    *p = scaled;
    if (part->flip)
        mirror(p);
    return 0;
}
