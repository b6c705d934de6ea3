/* Rounds of comparisons, and the windows that take part in them (tournament.h). */
#include "runtime/plan/tournament.h"

/* ---- rounds ------------------------------------------------------------------------------- */

int64_t tournament_pairs(const struct tournament *t)
{
    int64_t pairs = 0;

    for (int64_t g = 0; g < t->groups; g++)
        pairs += t->count[g] / 2;
    return pairs;
}

void tournament_round(const struct tournament *t, uint64_t *x, int64_t pairs)
{
    for (int k = 0; k < 2 && t->value[k] != NULL; k++) {
        uint64_t *to = x + k * pairs;
        for (int64_t g = 0; g < t->groups; g++) {
            const uint64_t *v = t->value[k] + g * t->stride;
            for (int32_t i = 0; i < t->count[g] / 2; i++)
                *to++ = v[2 * i] - v[2 * i + 1];
        }
    }
}

void tournament_advance(struct tournament *t, const uint64_t *z, int64_t pairs)
{
    for (int k = 0; k < 2 && t->value[k] != NULL; k++) {
        const uint64_t *from = z + k * pairs;
        for (int64_t g = 0; g < t->groups; g++) {
            uint64_t *v = t->value[k] + g * t->stride;
            int32_t n = t->count[g] / 2;
            for (int32_t i = 0; i < n; i++)
                v[i] = v[2 * i + 1] + *from++;
            if (t->count[g] % 2 == 1)
                v[n] = v[2 * n];
        }
    }
    (void)tournament_skip(t->count, t->groups); /* half of each group is left */
}

int64_t tournament_skip(int32_t *count, int64_t groups)
{
    int64_t pairs = 0;

    for (int64_t g = 0; g < groups; g++) {
        pairs += count[g] / 2;
        count[g] -= count[g] / 2;
    }
    return pairs;
}

/* ---- windows of a max pool ---------------------------------------------------------------- */

/* Part of a window that lies inside [0, size). */
static void clip(int64_t at, int64_t kernel, int64_t size, int64_t *from, int64_t *to)
{
    *from = at < 0 ? 0 : at;
    *to = at + kernel > size ? size : at + kernel;
}

struct window {
    int64_t y0, y1, x0, x1;
};
static struct window window_of(const struct plan_pool *p, const int64_t in[3], int64_t i, int64_t j)
{
    struct window w;

    clip(i * p->stride[0] - p->pad[0], p->kernel[0], in[1], &w.y0, &w.y1);
    clip(j * p->stride[1] - p->pad[1], p->kernel[1], in[2], &w.x0, &w.x1);
    return w;
}

void pool_counts(const struct plan_pool *p, const int64_t in[3], const int64_t out[3],
                 int32_t *count)
{
    for (int64_t c = 0; c < out[0]; c++)
        for (int64_t i = 0; i < out[1]; i++)
            for (int64_t j = 0; j < out[2]; j++) {
                struct window w = window_of(p, in, i, j);
                *count++ = (int32_t)((w.y1 - w.y0) * (w.x1 - w.x0));
            }
}

static void gather_window(uint64_t *to, const uint64_t *plane, int64_t width, struct window w)
{
    for (int64_t y = w.y0; y < w.y1; y++)
        for (int64_t x = w.x0; x < w.x1; x++)
            *to++ = plane[y * width + x];
}

void pool_gather(uint64_t *to, const uint64_t *x, const struct plan_pool *p, const int64_t in[3],
                 const int64_t out[3])
{
    int64_t window = p->kernel[0] * p->kernel[1];

    for (int64_t c = 0; c < out[0]; c++)
        for (int64_t i = 0; i < out[1]; i++)
            for (int64_t j = 0; j < out[2]; j++, to += window)
                gather_window(to, x + c * in[1] * in[2], in[2], window_of(p, in, i, j));
}
