/* The graph that is lowered, and the largest value of each of its activations over some images. */
#include <math.h>
#include <string.h>

#include "core/base/minmax.h"
#include "core/exec/exec.h"
#include "core/graph/pass.h"
#include "exporter/lower/lower.h"
#include "exporter/lower/lowering.h"

#define CALIBRATION_BATCH 32
#define TAP_FLOATS (16LL << 20) /* 64 MiB: activations of all nodes for the images at hand */

static int drop_softmax(struct graph *g)
{
    int32_t n = g->value[g->output].producer;

    if (n < 0 || g->node[n].op != &op_softmax)
        return 0;
    graph_replace_uses(g, g->output, g->node[n].in[0], n);
    return pass_prune(g);
}

/* A layer of lines alone is a factor and an offset per channel. */
static int empty_lines(struct graph *g)
{
    for (int32_t n = g->n_node - 1; n >= 0; n--) {
        const struct node *x = &g->node[n];
        bool any = false;

        if (x->op != &op_masked_relu || x->n_in == 2)
            continue;
        for (int64_t i = 0; i < shape_elems(&op_in(g, x, 1)->shape); i++)
            any = any || op_in(g, x, 1)->data[i] > 0.5f;
        if (!any)
            TRY(pass_line_to_affine(g, n));
    }
    return 0;
}

int lower_prepare(struct graph *g)
{
    if (graph_branches(g) > 1)
        return fail(ERR_ARG, "'%s' has two BN branches; choose one first", g->name);
    TRY(drop_softmax(g));
    TRY(empty_lines(g));
    TRY(pass_merge_affine(g));
    TRY(pass_fold_batchnorm(g, false));
    return pass_prune(g);
}

/* Largest |x| as a float's bits: above those of infinity if there is a NaN. */
static uint32_t largest_bits(const float *x, int64_t n)
{
    uint32_t most = 0;

    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffffu;
        most = bits > most ? bits : most;
    }
    return most;
}

static double largest(const float *x, int64_t n, double so_far)
{
    uint32_t bits = largest_bits(x, n);
    float v;

    memcpy(&v, &bits, sizeof v);
    return (double)v <= so_far ? so_far : (double)v;
}

/* Values that nodes make, into ids; returns how many. */
static int32_t made_values(const struct graph *g, value_id *ids)
{
    int32_t n = 0;

    for (int32_t i = 0; i < g->n_node; i++)
        ids[n++] = g->node[i].out[0];
    return n;
}

/* Images at a time: of n, as many as TAP_FLOATS allows. */
static int64_t images_at_once(const struct graph *g, const value_id *ids, int32_t n_ids, int64_t n)
{
    int64_t floats = 1;

    for (int32_t k = 0; k < n_ids; k++)
        floats += shape_elems(&g->value[ids[k]].shape);
    return max_i64(1, min_i64(min_i64(n, CALIBRATION_BATCH), TAP_FLOATS / floats));
}

/* room: of `step` images, where they are read. */
static int calibrate_with(struct exec *e, const struct graph *g, const value_id *ids, int32_t n_ids,
                          const struct lower_options *o, int64_t step, float *room, float *logits,
                          double *max_abs)
{
    int64_t image = shape_elems(&g->value[g->input].shape);

    for (int64_t i = 0; i < o->n_pixels; i += step) {
        int64_t count = min_i64(o->n_pixels - i, step);
        const float *pixels = o->pixels != NULL ? o->pixels + i * image : room;

        if (o->pixels == NULL)
            TRY(o->read(o->images, i, count, room));
        TRY(exec_infer(e, pixels, count, 0, logits));
        for (int32_t k = 0; k < n_ids; k++)
            max_abs[ids[k]] = largest(
                exec_tap(e, ids[k]), count * shape_elems(&g->value[ids[k]].shape), max_abs[ids[k]]);
    }
    for (int32_t k = 0; k < n_ids; k++)
        if (!isfinite(max_abs[ids[k]]))
            return fail(ERR_NUMERIC, "calibration: value '%s' is not finite",
                        g->value[ids[k]].name);
    return 0;
}

int lower_calibrate(struct graph *g, const struct lower_options *o, double *max_abs)
{
    OWNED value_id *ids = mem_array((size_t)g->n_node, sizeof *ids);
    OWNED float *logits = mem_array(
        (size_t)(CALIBRATION_BATCH * shape_elems(&g->value[g->output].shape)), sizeof *logits);
    SCOPED(exec_free_at) struct exec *e = NULL;

    memset(max_abs, 0, (size_t)g->n_value * sizeof *max_abs);
    if (ids == NULL || logits == NULL)
        return ERR_NOMEM;
    const int32_t n_ids = made_values(g, ids);
    const int64_t step = images_at_once(g, ids, n_ids, o->n_pixels);
    OWNED float *room =
        mem_aligned((size_t)(step * shape_elems(&g->value[g->input].shape)), sizeof *room);
    if (room == NULL)
        return ERR_NOMEM;
    const struct exec_opts held = {.held = step, .taps = ids, .n_taps = n_ids};
    TRY(exec_new(g, EXEC_INFER, CALIBRATION_BATCH, &held, &e));
    return calibrate_with(e, g, ids, n_ids, o, step, room, logits, max_abs);
}
