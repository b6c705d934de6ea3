/* ResNet-18 with a 3x3 stem for small images; ResNet-50 as torchvision has it, strides in the 3x3. */
#include "tests/resnet_plan.h"

#include "core/base/mem.h"
#include "core/graph/rng.h"

/* Returns the width of the result. */
static int64_t add(struct resnet_plan *n, int64_t in, int64_t out, int64_t size, int64_t kernel,
                   int64_t stride)
{
    int32_t i = n->plan.n_step++, t = 2 * i;
    int64_t pad = kernel / 2, to = (size + 2 * pad - kernel) / stride + 1;
    struct plan_linear *l = &n->step[i].u.linear;

    n->plan.n_tensor = t + 2;
    n->tensor[t] =
        (struct plan_tensor){.rank = 3, .dim = {in, size, size}, .count = in * size * size};
    n->tensor[t + 1] =
        (struct plan_tensor){.rank = 3, .dim = {out, to, to}, .count = out * to * to};
    n->step[i] = (struct plan_step){
        .kind = PLAN_CONV, .name = kernel == 1 ? "1x1" : "kxk", .in = {t}, .n_in = 1, .out = t + 1};
    *l = (struct plan_linear){.kernel = {kernel, kernel},
                              .stride = {stride, stride},
                              .pad = {pad, pad, pad, pad},
                              .dilation = {1, 1},
                              .group = 1};
    return to;
}

static void small(struct resnet_plan *n)
{
    int64_t size = add(n, 3, 64, 32, 3, 1), c = 64;

    for (int64_t stage = 0; stage < 4; stage++) {
        int64_t to = stage == 0 ? 64 : 2 * c, stride = stage == 0 ? 1 : 2, from = size;
        size = add(n, c, to, from, 3, stride);
        for (int k = 0; k < 3; k++)
            add(n, to, to, size, 3, 1);
        if (stage > 0)
            add(n, c, to, from, 1, 2);
        c = to;
    }
    add(n, 512, 10, 1, 1, 1);
}

static void large(struct resnet_plan *n)
{
    static const int blocks[] = {3, 4, 6, 3};
    int64_t size = 56, c = 64;

    add(n, 3, 64, 224, 7, 2);
    for (int64_t stage = 0; stage < 4; stage++)
        for (int k = 0; k < blocks[stage]; k++) {
            int64_t inner = (int64_t)64 << stage, stride = stage > 0 && k == 0 ? 2 : 1;
            add(n, c, inner, size, 1, 1);
            int64_t to = add(n, inner, inner, size, 3, stride);
            add(n, inner, 4 * inner, to, 1, 1);
            if (k == 0)
                add(n, c, 4 * inner, size, 1, stride);
            size = to;
            c = 4 * inner;
        }
    add(n, 2048, 1000, 1, 1, 1);
}

struct resnet_plan *resnet_plan(int depth)
{
    struct resnet_plan *n = mem_array(1, sizeof *n);

    if (n == NULL)
        return NULL;
    n->plan = (struct plan){.tensor = n->tensor, .step = n->step};
    n->weights = (struct plan_weights){.matrix = n->matrix, .n_matrix = RESNET_STEPS};
    (depth == 18 ? small : large)(n);
    return n;
}

int resnet_weights(struct resnet_plan *n)
{
    struct rng g = rng_at(1, RNG_TEST, 0, 0);

    for (int32_t i = 0; i < n->plan.n_step; i++) {
        struct plan_matrix *m = &n->matrix[i];
        plan_matrix_size(&n->plan, &n->step[i], &m->rows, &m->columns);
        if ((m->weight = mem_array((size_t)(m->rows * m->columns), sizeof *m->weight)) == NULL)
            return ERR_NOMEM;
        for (int64_t k = 0; k < m->rows * m->columns; k++)
            m->weight[k] = (int16_t)((int)rng_below(&g, 401) - 200);
    }
    return 0;
}

void resnet_free(struct resnet_plan *n)
{
    if (n == NULL)
        return;
    for (int32_t i = 0; i < n->plan.n_step; i++)
        mem_free(n->matrix[i].weight);
    mem_free(n);
}
