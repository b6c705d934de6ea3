/* Tensors and steps of a plan under construction. */
#include "exporter/lower/lowering.h"

#include <math.h>

int lowering_refuse(const struct node *n, const char *hint)
{
    return fail(ERR_UNSUPPORTED, "node '%s' (%s) cannot run privately: %s", n->name, n->op->type,
                hint);
}

/* ---- tensors and steps -------------------------------------------------------------------- */

/* Smallest e with v <= 2^e, at least -f: a value below one unit needs no bits. */
static int32_t ceil_log2(double v, int32_t f)
{
    int e;

    if (v <= ldexp(1, -f))
        return -f;
    return frexp(v, &e) == 0.5 ? e - 1 : e;
}

/* max: largest |real value| / factor. */
int32_t lowering_add_tensor(struct lowering *s, int32_t rank, const int64_t dim[3], int32_t scale,
                            double max)
{
    int32_t id = s->p->n_tensor++;
    struct plan_tensor *t = &s->p->tensor[id];

    *t = (struct plan_tensor){rank, {1, 1, 1}, 1, scale, ceil_log2(max, s->p->scale)};
    for (int32_t i = 0; i < rank; i++) {
        t->dim[i] = dim[i];
        t->count *= dim[i];
    }
    s->tensor_max[id] = max;
    return id;
}

/* Appends a step with one operand and result tensor `out`; NULL after fail(). */
struct plan_step *lowering_add_step(struct lowering *s, enum plan_kind kind, const char *name,
                                    int32_t in, int32_t out)
{
    struct plan_step *step = &s->p->step[s->p->n_step++];

    *step = (struct plan_step){.kind = kind, .in = {in, 0}, .n_in = 1, .out = out};
    step->name = arena_strdup(s->p->arena, name);
    return step->name == NULL ? NULL : step;
}

/* Shape of a graph value in the plan; ERR_UNSUPPORTED for ranks the plan has no form for. */
int lowering_shape(const struct lowering *s, const struct node *n, value_id v, int32_t *rank,
                   int64_t dim[3])
{
    const struct shape *shape = &s->g->value[v].shape;

    if (shape->rank != 4 && shape->rank != 2)
        return lowering_refuse(n, "only [N,C,H,W] and [N,K] have a form in model.pi");
    *rank = shape->rank - 1;
    for (int32_t i = 0; i < *rank; i++)
        dim[i] = shape->dim[i + 1];
    return 0;
}

int lowering_step(struct lowering *s, const struct node *n, enum plan_kind kind, int32_t scale,
                  double factor, struct plan_step **step)
{
    int64_t dim[3];
    int32_t rank = 0, out;

    TRY(lowering_shape(s, n, n->out[0], &rank, dim));
    out = lowering_add_tensor(s, rank, dim, scale, s->max_abs[n->out[0]] / factor);
    *step = lowering_add_step(s, kind, n->name, lowering_operand(s, n, 0).tensor, out);
    lowering_set(s, n, out, factor);
    return *step != NULL ? 0 : ERR_NOMEM;
}

void lowering_set(struct lowering *s, const struct node *n, int32_t tensor, double factor)
{
    s->of[n->out[0]] = (struct lowered){tensor, factor};
}

struct lowered lowering_operand(const struct lowering *s, const struct node *n, int i)
{
    return s->of[n->in[i]];
}
