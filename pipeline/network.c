/* Models for users of the API: opening, logits, gradients. */
#include "pipeline/network.h"

#include <math.h>

#include "linearizer/linearizer.h"
#include "pipeline/precision.h"
#include "pipeline/tasks.h"

#define BATCH 64 /* images an executor holds; longer calls are cut */

/* ---- opening ------------------------------------------------------------------------------- */

static const struct option_row rows[] = {
    OPEN_ROWS, NORMALIZE_ROW(NORMALIZE_HELP),
    PRECISION_ROW(offsetof(struct open_options, precision), "fp32"), OPTION_END};
static const struct open_options defaults = {.precision = PRECISION_FP32};
const struct task open_task = {"open", rows, &defaults, sizeof defaults, NULL, true};

FREE_AT(linnet_close, struct linnet_model)

static int fill_info(const struct graph *g, struct linnet_info *out)
{
    const struct shape *in = &g->value[g->input].shape;
    OWNED struct relu_site *site = NULL;
    int32_t n = 0;

    *out = (struct linnet_info){.channels = in->dim[1],
                                .channels_last = g->channels_last,
                                .height = in->dim[2],
                                .width = in->dim[3],
                                .classes = g->value[g->output].shape.dim[1],
                                .branches = graph_branches(g) == 2 ? 2 : 1,
                                .parameters = g->n_params,
                                .macs = graph_macs(g)};
    TRY(relu_sites(g, &site, &n));
    for (int32_t s = 0; s < n; s++) {
        out->relus_total += site[s].total;
        out->relus_kept += site[s].kept;
        out->relu_evaluations += relu_evaluations(&site[s]);
    }
    return 0;
}

int linnet_open(const char *path, const struct linnet_options *o, const struct linnet_listener *l,
                struct linnet_model **out)
{
    const struct task *task = o != NULL ? options_task(o) : NULL;
    const struct open_options *how = task != NULL && task->opens ? options_values(o) : NULL;
    SCOPED(linnet_close_at) struct linnet_model *m = NULL;

    *out = NULL;
    if (task != NULL && task->check != NULL)
        TRY(task->check(o));
    if ((m = mem_array(1, sizeof *m)) == NULL)
        return ERR_NOMEM;
    m->precision = how != NULL ? how->precision : PRECISION_FP32;
    TRY(model_open(l, path, how, options_seed(o), &m->m));
    model_drop_file(&m->m);
    TRY(fill_info(m->m.g, &m->info));
    precision_note(l, precision_of(m->precision, false));
    *out = mem_hand_on(&m);
    return 0;
}

void linnet_close(struct linnet_model *m)
{
    if (m == NULL)
        return;
    exec_free(m->infer);
    exec_free(m->gradient);
    model_close(&m->m);
    mem_free(m);
}

const struct linnet_info *linnet_model_info(const struct linnet_model *m)
{
    return &m->info;
}

int linnet_branch(const struct linnet_model *m, const char *name, int *branch)
{
    return model_branch(m->m.g, name, branch);
}

/* ---- running ------------------------------------------------------------------------------- */

static int check_call(const struct linnet_model *m, int branch, int64_t n)
{
    if (branch < 0 || branch >= m->info.branches)
        return fail(ERR_ARG, "'%s' has no branch %d", m->m.path, branch);
    return n < 0 ? fail(ERR_ARG, "%lld images", (long long)n) : 0;
}

/* An executor with memory for the images of this call; a later call with more gets another. */
static int open_exec(struct linnet_model *m, enum exec_mode mode, int64_t n, struct exec **e,
                     int64_t *holds)
{
    const int64_t held = n < 1 ? 1 : n > BATCH ? BATCH : n;

    if (*e != NULL && *holds >= held)
        return 0;
    exec_free(*e);
    *e = NULL;
    *holds = held;
    const struct exec_opts o = {.precision = precision_of(m->precision, mode != EXEC_INFER),
                                .held = held};
    return exec_new(m->m.g, mode, BATCH, &o, e);
}

int linnet_logits(struct linnet_model *m, int branch, const float *pixels, int64_t n, float *logits)
{
    TRY(check_call(m, branch, n));
    TRY(open_exec(m, EXEC_INFER, n, &m->infer, &m->infer_holds));
    return exec_infer(m->infer, pixels, n, branch, logits);
}

/* What the file does to a row of logits. */
static void apply_tail(enum graph_tail tail, float *z, int64_t k)
{
    double top = z[0], sum = 0;

    for (int64_t i = 1; i < k; i++)
        top = z[i] > top ? z[i] : top;
    for (int64_t i = 0; i < k; i++)
        sum += exp(z[i] - top);
    for (int64_t i = 0; i < k; i++)
        z[i] = (float)(tail == TAIL_SOFTMAX ? exp(z[i] - top) / sum : z[i] - top - log(sum));
}

int linnet_outputs(struct linnet_model *m, int branch, const float *pixels, int64_t n,
                   float *outputs)
{
    const enum graph_tail tail = m->m.g->tail;

    TRY(linnet_logits(m, branch, pixels, n, outputs));
    for (int64_t i = 0; i < n && tail != TAIL_NONE; i++)
        apply_tail(tail, outputs + i * m->info.classes, m->info.classes);
    return 0;
}

struct upstream {
    const float *v; /* [n,K] */
    int64_t classes;
};

static void pass_upstream(void *ctx, int64_t first, int64_t count, const float *logits,
                          float *dlogits)
{
    const struct upstream *u = ctx;

    (void)logits;
    for (int64_t i = 0; i < count * u->classes; i++)
        dlogits[i] = u->v[first * u->classes + i];
}

int linnet_gradient(struct linnet_model *m, int branch, const float *pixels, int64_t n,
                    const float *upstream, float *gradient, float *logits)
{
    struct upstream u = {upstream, m->info.classes};

    TRY(check_call(m, branch, n));
    TRY(open_exec(m, EXEC_INPUT_GRAD, n, &m->gradient, &m->gradient_holds));
    return exec_input_grad(m->gradient, pixels, n, branch, pass_upstream, &u, gradient, logits);
}
