/* --profile; see profile_report.h. */
#include "pipeline/profile_report.h"

#include "core/base/json.h"
#include "pipeline/report.h"
#include "core/op/op.h"

#define PER 1000 /* images */

void profile_report_print(FILE *out, const char *name, const struct profile *p)
{
    if (p->images == 0)
        return;
    fprintf(
        out,
        "profile of %s, %lld images: milliseconds of one thread per %d images, share, GFLOP/s of one thread counted as direct convolution\n",
        name, (long long)p->images, PER);
    profile_print(out, p, PER);
}

static json_t *layer_json(const struct profile *p, int32_t n)
{
    const struct node *x = &p->g->node[n];
    const struct exec_profile *t = &p->node[n];
    const double seconds = t->forward_s + t->grad_input_s + t->grad_params_s;
    const int directions = (t->forward_s > 0) + (t->grad_input_s > 0) + (t->grad_params_s > 0);
    const double flops = directions * (double)p->images * profile_flops(p->g, x);

    return json_pack("{s:s,s:s,s:o,s:o,s:o,s:o}", "name", x->name, "op", x->op->type, "shape",
                     report_shape(&p->g->value[x->out[0]].shape), "ms",
                     json_finite(1e3 * PER * seconds / (double)p->images), "share",
                     json_finite(100 * seconds / profile_seconds(p)), "gflops",
                     flops > 0 ? json_finite(1e-9 * flops / seconds) : json_null());
}

json_t *profile_report_json(const struct profile *p)
{
    json_t *layers = json_array();

    for (int32_t n = 0; n < p->g->n_node; n++)
        if (p->node[n].forward_s > 0)
            json_add(&layers, layer_json(p, n));
    return json_pack("{s:I,s:o}", "images", (json_int_t)p->images, "layers", layers);
}
