/* What only moves numbers: Pad, Slice, Flatten, Reshape. */
#include <string.h>

#include "exporter/lower/lowering.h"

int lower_pad(struct lowering *s, const struct node *n)
{
    struct lowered x = lowering_operand(s, n, 0);
    struct plan_step *step;

    TRY(lowering_step(s, n, PLAN_PAD, s->p->tensor[x.tensor].scale, x.factor, &step));
    for (int i = 0; i < 3; i++) {
        step->u.pad.begin[i] = n->p.pad.begin[i + 1];
        step->u.pad.end[i] = n->p.pad.end[i + 1];
    }
    return 0;
}

int lower_slice(struct lowering *s, const struct node *n)
{
    struct lowered x = lowering_operand(s, n, 0);
    struct plan_step *step;

    TRY(lowering_step(s, n, PLAN_SLICE, s->p->tensor[x.tensor].scale, x.factor, &step));
    for (int i = 0; i < 3; i++) {
        step->u.slice.start[i] = n->p.slice.start[i + 1];
        step->u.slice.step[i] = n->p.slice.step[i + 1];
    }
    return 0;
}

int lower_reshape(struct lowering *s, const struct node *n)
{
    struct lowered x = lowering_operand(s, n, 0);
    const struct plan_tensor *t = &s->p->tensor[x.tensor];
    int64_t dim[3] = {1, 1, 1};
    int32_t rank = 0, out;

    TRY(lowering_shape(s, n, n->out[0], &rank, dim));
    if (rank == t->rank && memcmp(dim, t->dim, sizeof dim) == 0) {
        lowering_set(s, n, x.tensor, x.factor);
        return 0;
    }
    if (rank != 1)
        return lowering_refuse(n, "only a reshape to [N,K] has a form");
    out = lowering_add_tensor(s, 1, dim, t->scale, s->tensor_max[x.tensor]);
    lowering_set(s, n, out, x.factor);
    return lowering_add_step(s, PLAN_FLATTEN, n->name, x.tensor, out) == NULL ? ERR_NOMEM : 0;
}
