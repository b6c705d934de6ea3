/* The input: its normalisation, and what the graph does to it before anything else reads it. */
#include <math.h>

#include "exporter/lower/lowering.h"

/* Takes y = a x + b of the input into mean and std; false where that is impossible. */
static bool absorb(struct plan_input *in, const double *a, const double *b, int64_t c)
{
    for (int64_t i = 0; i < c; i++)
        if (!(a[i] > 0) || !isfinite(a[i]) || !isfinite(b[i]))
            return false;
    for (int64_t i = 0; i < c;
         i++) { /* a (p - mean) / std + b = (p - mean + b std / a) / (std / a) */
        in->mean[i] -= b[i] * in->std[i] / a[i];
        in->std[i] /= a[i];
    }
    return true;
}

/* Follows the input through constants per channel as long as nobody else reads it. */
static int peel_input(struct lowering *s, value_id *v)
{
    for (;;) {
        int32_t user = graph_single_user(s->g, *v);
        const struct node *n = user < 0 ? NULL : &s->g->node[user];
        double *a, *b;
        int64_t c;
        if (n == NULL || graph_count_uses(s->g, *v) != 1 || n->in[0] != *v ||
            (n->op != &op_add && n->op != &op_sub && n->op != &op_mul && n->op != &op_div) ||
            value_is_activation(op_in(s->g, n, 1)))
            return 0;
        TRY(lowering_new_affine(s, *v, &c, &a, &b));
        if (lowering_constant(s, n, 0, a, b, c) < 0 || !absorb(&s->p->input, a, b, c))
            return 0;
        s->peeled[user] = true;
        *v = n->out[0];
    }
}

int lower_input(struct lowering *s)
{
    const struct shape *shape = &s->g->value[s->g->input].shape;
    const struct input_norm *norm = &s->g->norm;
    struct plan_input *in = &s->p->input;
    value_id v = s->g->input;
    double max = 0;

    if (shape->rank != 4 || shape->dim[1] > PLAN_MAX_CHANNELS)
        return fail(ERR_UNSUPPORTED, "the input is not an image of at most %d channels",
                    PLAN_MAX_CHANNELS);
    for (int64_t c = 0; c < shape->dim[1]; c++) {
        in->mean[c] = norm->channels > 0 ? (double)norm->mean[c] : 0;
        in->std[c] = norm->channels > 0 ? (double)norm->std[c] : 1;
    }
    TRY(peel_input(s, &v));
    for (int64_t c = 0; c < shape->dim[1]; c++)
        max = fmax(max, fmax(fabs(in->mean[c] / in->std[c]), fabs((1 - in->mean[c]) / in->std[c])));
    s->of[v] = (struct lowered){lowering_add_tensor(s, 3, shape->dim + 1, s->p->scale, max), 1};
    if ((in->name = arena_strdup(s->p->arena, s->g->value[s->g->input].name)) == NULL)
        return ERR_NOMEM;
    return 0;
}
