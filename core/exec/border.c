/*
 * What passes between the caller and the executor's memory: pixels in, their gradient out, and taps.
 * Pixels are in ONNX order [n,c,h,w], storage is channels-last [n][h][w][c].
 */
#include "core/exec/run.h"

#include <assert.h>

struct image_dims {
    int64_t c, hw; /* rank 4: channels, pixels; otherwise c = 1 */
};

static struct image_dims image_dims(const struct graph *g, value_id v)
{
    const struct shape *s = &g->value[v].shape;

    if (s->rank != 4)
        return (struct image_dims){1, shape_elems(s)};
    return (struct image_dims){s->dim[1], s->dim[2] * s->dim[3]};
}

/* x [n][h][w][c] = (pixels [n,c,h,w] - mean) / std */
void exec_load_pixels(const struct graph *g, const float *pixels, int64_t n, float *x)
{
    const struct image_dims d = image_dims(g, g->input);

    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < d.c; c++) {
            const bool on = c < g->norm.channels;
            const float mean = on ? g->norm.mean[c] : 0, std = on ? g->norm.std[c] : 1;
            const float *from = pixels + (i * d.c + c) * d.hw;
            float *to = x + i * d.c * d.hw + c;

            for (int64_t p = 0; p < d.hw; p++)
                to[p * d.c] = (from[p] - mean) / std;
        }
}

void exec_store_pixel_gradient(const struct graph *g, const float *dx, int64_t n, float *dpixels)
{
    const struct image_dims d = image_dims(g, g->input);

    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < d.c; c++) {
            const float std = c < g->norm.channels ? g->norm.std[c] : 1;
            const float *from = dx + i * d.c * d.hw + c;
            float *to = dpixels + (i * d.c + c) * d.hw;

            for (int64_t p = 0; p < d.hw; p++)
                to[p] = from[p * d.c] / std;
        }
}

const float *exec_tap(const struct exec *e, value_id v)
{
    if (e->tap_memory[v])
        return e->tap_memory[v];
    return e->rooms->room[0].memory + e->plan.act[v] * e->cap;
}

float *exec_tap_grad(struct exec *e, value_id v)
{
    assert(e->mode == EXEC_TRAIN && e->tap[v]);
    if (e->tap_grad[v])
        return e->tap_grad[v];
    return e->rooms->room[0].memory + e->plan.grad[v] * e->cap;
}
