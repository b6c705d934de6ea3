/* Time by layer; see profile.h. */
#include "core/exec/profile.h"

#include "core/exec/run.h"

int profile_begin(struct profile *p, const struct graph *g)
{
    *p = (struct profile){.g = g, .node = mem_array((size_t)g->n_node + 1, sizeof *p->node)};
    return p->node != NULL ? 0 : ERR_NOMEM;
}

void profile_end(struct profile *p)
{
    mem_free(p->node);
    *p = (struct profile){0};
}

void profile_add(struct profile *p, const struct exec *e, int64_t images)
{
    p->images += images;
    for (int i = 0; i < e->n_worker; i++)
        for (int32_t n = 0; n < p->g->n_node; n++) {
            struct exec_profile *had = &e->profile[i][n];

            p->node[n].forward_s += had->forward_s;
            p->node[n].grad_input_s += had->grad_input_s;
            p->node[n].grad_params_s += had->grad_params_s;
            *had = (struct exec_profile){0};
        }
}

double profile_seconds(const struct profile *p)
{
    double sum = 0;

    for (int32_t n = 0; n < p->g->n_node; n++)
        sum += p->node[n].forward_s + p->node[n].grad_input_s + p->node[n].grad_params_s;
    return sum;
}

double profile_flops(const struct graph *g, const struct node *x)
{
    if (x->op != &op_conv)
        return 0;
    const struct shape *w = &op_in(g, x, 1)->shape;

    return 2.0 * (double)shape_elems(&g->value[x->out[0]].shape) *
           (double)(shape_elems(w) / w->dim[0]);
}

struct direction {
    const char *name;
    double seconds, all, flops; /* of all images */
    double ms;                  /* what seconds are multiplied with */
};

static void print_direction(FILE *out, const struct direction *d)
{
    if (d->seconds <= 0)
        return;
    fprintf(out, "  %s %8.2f ms %5.1f %%", d->name, d->ms * d->seconds, 100 * d->seconds / d->all);
    if (d->flops > 0)
        fprintf(out, " %6.1f GFLOP/s", 1e-9 * d->flops / d->seconds);
    else
        fprintf(out, "               ");
}

void profile_print(FILE *out, const struct profile *p, int64_t per)
{
    const double images = (double)(p->images > 0 ? p->images : 1);
    struct direction d = {.all = profile_seconds(p), .ms = 1e3 * (double)per / images};
    char shape[SHAPE_TEXT];

    for (int32_t n = 0; n < p->g->n_node; n++) {
        const struct node *x = &p->g->node[n];
        const struct exec_profile *t = &p->node[n];
        const double seconds[] = {t->forward_s, t->grad_input_s, t->grad_params_s};
        static const char *const name[] = {"fwd", "dx", "dw"};

        if (t->forward_s <= 0)
            continue;
        d.flops = images * profile_flops(p->g, x);
        fprintf(out, "%-22s %-18s %-14s", x->name, x->op->type,
                shape_text(&p->g->value[x->out[0]].shape, shape));
        for (int i = 0; i < 3; i++) {
            d.name = name[i];
            d.seconds = seconds[i];
            print_direction(out, &d);
        }
        fprintf(out, "\n");
    }
}
