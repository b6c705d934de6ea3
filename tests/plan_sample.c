/* A plan and weights for tests (plan_sample.h). */
#include "tests/plan_sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "core/graph/rng.h"

void plan_sample_tensor(struct plan *p, int32_t id, int32_t rank, int64_t c, int64_t h, int64_t w,
                        int32_t scale, int32_t max_log2)
{
    p->tensor[id] = (struct plan_tensor){rank, {c, h, w}, c * h * w, scale, max_log2};
}

static void set_step(struct plan *p, int32_t id, enum plan_kind kind, const char *name, int32_t in)
{
    p->step[id] =
        (struct plan_step){.kind = kind, .name = name, .in = {in, 0}, .n_in = 1, .out = id + 1};
}

static const struct plan_linear conv3x3 = {{3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, 1, 12};
static const struct plan_linear no_window = {{1, 1}, {1, 1}, {0, 0, 0, 0}, {1, 1}, 1, 12};

static void fill_steps(struct plan *p)
{
    set_step(p, CONV, PLAN_CONV, "conv", 0);
    p->step[CONV].u.linear = conv3x3;
    p->step[CONV].shift = 12;
    set_step(p, RELU, PLAN_RELU, "relu", 1);
    set_step(p, CONV2, PLAN_CONV, "conv2", 2);
    p->step[CONV2].u.linear = conv3x3;
    set_step(p, SLICE, PLAN_SLICE, "slice", 2);
    p->step[SLICE].u.slice = (struct plan_slice){{0, 0, 0}, {1, 2, 2}};
    set_step(p, PAD, PLAN_PAD, "pad", 4);
    p->step[PAD].u.pad = (struct plan_pad){{0, 1, 1}, {0, 1, 1}};
    set_step(p, ADD, PLAN_ADD, "add", 3);
    p->step[ADD].in[1] = 5;
    p->step[ADD].n_in = 2;
    p->step[ADD].input_shift[1] = p->step[ADD].shift = 12;
    set_step(p, MAXPOOL, PLAN_MAX_POOL, "maxpool", 6);
    p->step[MAXPOOL].u.pool = (struct plan_pool){{2, 2}, {2, 2}, {0}, 21};
    set_step(p, SUMPOOL, PLAN_SUM_POOL, "sumpool", 7);
    p->step[SUMPOOL].u.pool = (struct plan_pool){{2, 2}, {1, 1}, {0}, 0};
    set_step(p, FLATTEN, PLAN_FLATTEN, "flatten", 8);
    set_step(p, GEMM, PLAN_GEMM, "gemm", 9);
    p->step[GEMM].u.linear = no_window;
    p->step[GEMM].shift = 12;
}

struct plan *plan_sample(int kept)
{
    struct plan *p = NULL;
    uint32_t *index;

    assert_int_equal(plan_new(&p), 0);
    p->tensor = arena_array(p->arena, TENSORS, sizeof *p->tensor);
    p->step = arena_array(p->arena, STEPS, sizeof *p->step);
    index = arena_array(p->arena, 64, sizeof *index);
    assert_true(p->tensor && p->step && index);
    p->n_tensor = TENSORS;
    p->n_step = STEPS;
    p->scale = 12;
    plan_sample_tensor(p, 0, 3, 2, 4, 4, 12, 2);
    for (int32_t i = 1; i < 7; i++)
        plan_sample_tensor(p, i, 3, 4, 4, 4, i == 3 ? 24 : 12, 4);
    plan_sample_tensor(p, 4, 3, 4, 2, 2, 12, 4);
    plan_sample_tensor(p, 7, 3, 4, 2, 2, 12, 4);
    plan_sample_tensor(p, 8, 3, 4, 1, 1, 12, 6);
    plan_sample_tensor(p, 9, 1, 4, 1, 1, 12, 6);
    plan_sample_tensor(p, 10, 1, 3, 1, 1, 12, 5);
    fill_steps(p);
    for (int i = 0; i < kept; i++)
        index[i] = (uint32_t)(64 / kept * i);
    p->step[RELU].u.relu =
        (struct plan_relu){.total = 64, .kept = kept, .index = index, .width = 21};
    p->input.mean[1] = 0.25;
    p->input.std[0] = p->input.std[1] = 0.5;
    p->input.name = "image";
    p->input.normalize = "half";
    p->model_id = "0123456789abcdef";
    p->producer = "test";
    plan_complete(p);
    return p;
}

void plan_sample_lines(struct plan *p, bool slopes)
{
    static int32_t slope[4] = {2048, -700, 4500, 1};
    struct plan_relu *r = &p->step[RELU].u.relu;

    r->line_shift = slopes ? 12 : 1;
    r->n_slope = slopes ? 4 : 0;
    r->slope = slopes ? slope : NULL;
    plan_complete(p);
}

void plan_sample_cap(struct plan *p, int64_t cap)
{
    p->step[RELU].u.relu.cap = cap;
    plan_complete(p);
}

struct plan_weights *plan_sample_weights(const struct plan *p, uint64_t seed)
{
    struct rng r = rng_at(seed, RNG_TEST, 0, 0);
    struct plan_weights *w = NULL;

    assert_int_equal(plan_weights_new(p, &w), 0);
    for (int32_t i = 0; i < p->n_step; i++) {
        struct plan_matrix *m = &w->matrix[i];
        for (int64_t k = 0; k < m->rows * m->columns; k++)
            m->weight[k] = (int16_t)(rng_u32(&r) % 8192 - 4096);
        for (int64_t k = 0; k < m->rows; k++)
            m->bias[k] = ((int64_t)rng_u32(&r) - ((int64_t)1 << 31)) >>
                         (p->step[i].kind == PLAN_RELU ? 17 : 0);
    }
    memset(w->salt, (int)seed, sizeof w->salt);
    w->maxima = "{}";
    return w;
}
