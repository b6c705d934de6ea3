/* What compares, and what sums windows: ReLU with its mask, the pools. */
#include <math.h>

#include "exporter/lower/lower.h"
#include "exporter/lower/lowering.h"

/* ---- ReLU --------------------------------------------------------------------------------- */

/* m: sign, integer bits, f, margin; rounded up to 4q + 1. */
static int32_t comparison_width(const struct lowering *s, int32_t tensor, int32_t extra,
                                int64_t cap)
{
    int32_t m = plan_relu_width(s->p->scale, s->p->tensor[tensor].max_log2 + extra, cap);

    m = m < PLAN_MIN_WIDTH ? PLAN_MIN_WIDTH : m;
    return (m + 2) / 4 * 4 + 1;
}

static int kept_positions(struct lowering *s, const float *mask, int64_t total, struct plan_relu *r)
{
    r->total = total;
    if ((r->index = arena_array(s->p->arena, (size_t)total, sizeof *r->index)) == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < total; i++)
        if (mask == NULL || mask[i] > 0.5f)
            r->index[r->kept++] = (uint32_t)i;
    return 0;
}

/* ---- lines --------------------------------------------------------------------------------- */

#define LINE_SHIFT 12 /* public slopes are multiples of 2^-12 */

static bool is_half(const struct value *slope)
{
    for (int64_t c = 0; c < shape_elems(&slope->shape); c++)
        if (slope->data[c] != 0.5f)
            return false;
    return true;
}

/* Slopes as integers that everybody sees. */
static int public_slopes(struct lowering *s, const struct node *n, struct plan_relu *r)
{
    const struct value *slope = op_in(s->g, n, 2);

    if (!s->o->publish_slopes)
        return lowering_refuse(
            n,
            "its removed ReLUs are lines with a slope a channel, which the package would publish. Hint: say --publish-slopes, or linearize with --removed half, which publishes nothing");
    r->line_shift = LINE_SHIFT;
    r->n_slope = (int32_t)shape_elems(&slope->shape);
    if ((r->slope = arena_array(s->p->arena, (size_t)r->n_slope, sizeof *r->slope)) == NULL)
        return ERR_NOMEM;
    for (int32_t c = 0; c < r->n_slope; c++) {
        const double k = nearbyint(ldexp((double)slope->data[c], LINE_SHIFT));

        if (!(fabs(k) <= PLAN_MAX_SLOPE))
            return lowering_refuse(n, "the slope of a removed ReLU is beyond 256");
        r->slope[c] = (int32_t)k;
    }
    return 0;
}

/* Removed positions: attributes into r, offsets into d. */
static int removed_lines(struct lowering *s, const struct node *n, double factor,
                         struct plan_relu *r, struct draft *d)
{
    if (n->n_in == 2)
        return 0;
    const struct value *b = op_in(s->g, n, 3);
    const int64_t c = shape_elems(&b->shape);

    r->line_shift = 1;
    if (!is_half(op_in(s->g, n, 2)))
        TRY(public_slopes(s, n, r));
    if ((d->bias = arena_array(s->p->arena, (size_t)c, sizeof *d->bias)) == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < c; i++)
        d->bias[i] = (double)b->data[i] / factor;
    return 0;
}

int lower_relu(struct lowering *s, const struct node *n)
{
    bool masked = n->op == &op_masked_relu;
    struct lowered x = lowering_operand(s, n, 0);
    struct plan_relu r = {0};
    struct draft d = {0};
    struct plan_step *step;

    if (masked && n->p.masked_relu.soft)
        return fail(ERR_ARG, "node '%s': its mask is soft; make it 0 or 1 first", n->name);
    TRY(kept_positions(s, masked ? op_in(s->g, n, 1)->data : NULL, s->p->tensor[x.tensor].count,
                       &r));
    if (r.kept == 0) {
        lowering_set(s, n, x.tensor, x.factor);
        return 0;
    }
    if (n->op == &op_relu6 || (masked && n->p.masked_relu.relu6))
        r.cap = llround(ldexp((double)RELU6_TOP / x.factor, s->p->scale));
    r.width = comparison_width(s, x.tensor, 0, r.cap);
    if (masked)
        TRY(removed_lines(s, n, x.factor, &r, &d));
    TRY(lowering_step(s, n, PLAN_RELU, s->p->scale, x.factor, &step));
    step->u.relu = r;
    s->draft[step - s->p->step] = d;
    return 0;
}

/* ---- pools -------------------------------------------------------------------------------- */

static bool is_global(const struct node *n)
{
    return n->op == &op_global_average_pool || n->op == &op_global_max_pool;
}

static void pool_attributes(const struct lowering *s, const struct node *n, struct plan_pool *q)
{
    const struct shape *x = &op_in(s->g, n, 0)->shape, *y = &s->g->value[n->out[0]].shape;
    const struct pool_params *p = &n->p.pool;

    for (int i = 0; i < 2; i++) {
        q->kernel[i] = is_global(n) ? x->dim[i + 2] : p->kernel[i];
        q->stride[i] = is_global(n) ? 1 : p->stride[i];
        q->pad[i] = is_global(n) ? 0 : p->pad[i];
        q->pad[i + 2] = is_global(n) ? 0 : p->pad[i + 2];
        /* ceil_mode: padding at the end stands for the last, partial window */
        int64_t need =
            (y->dim[i + 2] - 1) * q->stride[i] + q->kernel[i] - x->dim[i + 2] - q->pad[i];
        q->pad[i + 2] = need > q->pad[i + 2] ? need : q->pad[i + 2];
    }
}

static int add_pool(struct lowering *s, const struct node *n, enum plan_kind kind,
                    const struct plan_pool *q, double factor)
{
    struct plan_step *step;

    TRY(lowering_step(s, n, kind, s->p->tensor[lowering_operand(s, n, 0).tensor].scale, factor,
                      &step));
    step->u.pool = *q;
    return 0;
}

int lower_average_pool(struct lowering *s, const struct node *n)
{
    struct plan_pool q = {0};
    double factor = lowering_operand(s, n, 0).factor;

    pool_attributes(s, n, &q);
    if (q.pad[0] + q.pad[1] + q.pad[2] + q.pad[3] > 0 &&
        (!n->p.pool.count_include_pad || n->p.pool.ceil_mode))
        return lowering_refuse(
            n, "windows at the border have another divisor; pad explicitly, or count the padding");
    return add_pool(s, n, PLAN_SUM_POOL, &q, factor / (double)(q.kernel[0] * q.kernel[1]));
}

int lower_max_pool(struct lowering *s, const struct node *n)
{
    struct plan_pool q = {0};
    struct lowered x = lowering_operand(s, n, 0);

    pool_attributes(s, n, &q);
    q.width = comparison_width(s, x.tensor, 1, 0);
    return add_pool(s, n, PLAN_MAX_POOL, &q, x.factor);
}
