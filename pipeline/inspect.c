/*
 * Task "inspect": what a model file holds, what it costs, and every reason to refuse it.
 *
 * A refused file gets the same report as far as facts are known; figures that need a graph are then
 * left out, null in JSON. The cost of private inference uses the formulas of runtime/cost/cost.h on a
 * list of layers made from the graph, with one comparison width for all, as there is no calibration
 * yet. Memory comes from the executor's own plan.
 */
#include <inttypes.h>
#include <string.h>

#include "core/exec/exec.h"
#include "core/op/op.h"
#include "core/base/json.h"
#include "core/base/sha256.h"
#include "core/graph/text.h"
#include "exporter/lower/lower.h"
#include "importer/importer.h"
#include "linearizer/linearizer.h"
#include "pipeline/model.h"
#include "pipeline/report.h"
#include "pipeline/tasks.h"
#include "runtime/cost/cost.h"

#define COMPARISON_BITS 25 /* typical width after calibration */
#define INFER_BATCH 64
#define TRAIN_BATCH 128
#define DAMAGED "E1606" /* metadata of linnet that say nothing */
#define GRAPH_TEXT_LIMIT ((size_t)256 << 20)

struct inspect_settings {
    struct open_options open;
    bool allow_newer_opset, graph;
};
static const struct option_row rows[] = {
    OPEN_ROWS,
    OPTION("allow-newer-opset", 0, OPTION_FLAG,
           offsetof(struct inspect_settings, allow_newer_opset), NULL,
           "no warning for versions that linnet does not know"),
    OPTION("graph", 0, OPTION_FLAG, offsetof(struct inspect_settings, graph), NULL,
           "print the imported graph, one node per line, and nothing else"),
    OPTION_END};
static const struct inspect_settings defaults = {0};
const struct task inspect_task = {"inspect", rows, &defaults, sizeof defaults, NULL, true};

struct inspection { /* of one file; the graph and what follows are missing if it was refused */
    const char *path;
    struct import_report report;
    struct graph *g;
    struct buf_writer text; /* of the graph, where it was asked for */
    char *not_private;      /* why it cannot run privately, NULL if it can */
    char *damaged;          /* what is wrong with the file's metadata, NULL if nothing is */
    struct relu_site *site;
    int32_t n_sites;
    int64_t relus_total, relus_kept, evaluations; /* a ReLU6 costs two ReLU evaluations */
    size_t infer_bytes, train_bytes;              /* 0 where unknown */
    struct plan costs;                            /* only what cost_estimate reads */
    struct cost_machine machine;
};

/* ---- figures ------------------------------------------------------------------------------- */

/* 0 where a network cannot be run that way. */
static size_t exec_bytes(struct graph *g, enum exec_mode mode, int64_t batch)
{
    size_t n = 0;

    return exec_size(g, mode, EXEC_FP32, batch, &n) < 0 ? 0 : n;
}

/* ---- cost of private inference --------------------------------------------------------------- */

/* The step of a node that costs something; false for the others. */
static bool costly_step(const struct graph *g, int32_t i, struct plan_step *s)
{
    const struct node *n = &g->node[i];
    const struct shape *x = &op_in(g, n, 0)->shape;

    *s = (struct plan_step){.name = n->name, .in = {n->in[0]}, .n_in = 1, .out = n->out[0]};
    if (n->op == &op_gemm) {
        s->kind = PLAN_GEMM;
        s->u.linear = (struct plan_linear){
            .kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .group = 1};
        return true;
    }
    if (n->op == &op_conv) {
        const struct conv_params *c = &n->p.conv;
        const struct shape *w = &op_in(g, n, 1)->shape;

        s->kind = PLAN_CONV;
        s->u.linear.group = c->group;
        memcpy(s->u.linear.kernel, w->dim + 2, sizeof s->u.linear.kernel);
        memcpy(s->u.linear.stride, c->stride, sizeof c->stride);
        memcpy(s->u.linear.pad, c->pad, sizeof c->pad);
        memcpy(s->u.linear.dilation, c->dilation, sizeof c->dilation);
        return true;
    }
    if (n->op == &op_max_pool || n->op == &op_global_max_pool) {
        s->kind = PLAN_MAX_POOL;
        s->u.pool = (struct plan_pool){
            .kernel = {x->dim[2], x->dim[3]}, .stride = {1, 1}, .width = COMPARISON_BITS};
        if (n->op == &op_global_max_pool)
            return true;
        memcpy(s->u.pool.kernel, n->p.pool.kernel, sizeof s->u.pool.kernel);
        memcpy(s->u.pool.stride, n->p.pool.stride, sizeof s->u.pool.stride);
        memcpy(s->u.pool.pad, n->p.pool.pad, sizeof s->u.pool.pad);
        return true;
    }
    return false;
}

/* One image of [N,C,H,W] or [N,K]. */
static struct plan_tensor tensor_of(const struct shape *shape)
{
    struct plan_tensor t = {.dim = {1, 1, 1}, .count = shape_elems(shape)};

    for (int32_t d = 1; d < shape->rank && d <= 3; d++)
        t.dim[d - 1] = shape->dim[d];
    return t;
}

static int make_costs(struct inspection *in)
{
    const struct graph *g = in->g;
    struct plan *p = &in->costs;
    int32_t next = 0; /* site */

    p->tensor = mem_array((size_t)g->n_value, sizeof *p->tensor);
    p->step = mem_array((size_t)g->n_node + 1, sizeof *p->step);
    if (p->tensor == NULL || p->step == NULL)
        return ERR_NOMEM;
    for (value_id v = 0; v < g->n_value; v++)
        p->tensor[v] = tensor_of(&g->value[v].shape);
    for (int32_t i = 0; i < g->n_node; i++) {
        struct plan_step s;

        if (next < in->n_sites && in->site[next].node == i) {
            s = (struct plan_step){
                .kind = PLAN_RELU, .in = {in->site[next].x}, .n_in = 1, .out = in->site[next].y};
            s.u.relu.cap = in->site[next].relu6;
            s.u.relu.kept = in->site[next++].kept;
            s.u.relu.width = COMPARISON_BITS;
        } else if (!costly_step(g, i, &s)) {
            continue;
        }
        p->step[p->n_step++] = s;
    }
    p->macs = graph_macs(g);
    return 0;
}

static void print_costs(FILE *f, const struct plan *p, const struct cost_machine *m)
{
    const bool built_in = strcmp(m->name, cost_machine_default().name) == 0;

    fprintf(
        f,
        "\nprivate inference of one image, predicted for ReLU evaluations of %d bits with %s%s\n",
        COMPARISON_BITS, built_in ? "the built-in constants" : "the constants of ",
        built_in ? "" : m->name);
    fprintf(f, "  %-10s %-6s %12s %10s %14s %10s\n", "ReLU", "link", "online MB", "online s",
            "offline MB", "offline s");
    for (const struct link *l = link_list(); l->name != NULL; l++)
        for (const struct relu_backend *const *r = relu_backends(); *r != NULL; r++) {
            struct cost c;

            if (cost_estimate(p, &(struct cost_case){.relu = *r, .link = l, .machine = m}, &c) < 0)
                continue;
            fprintf(f, "  %-10s %-6s %12.3f %10.3f %14.3f %10.3f\n", c.relu->name, l->name,
                    (double)c.online_bytes / 1e6, c.online_seconds,
                    (double)(c.offline_relu_bytes + c.offline_linear_bytes) / 1e6,
                    c.offline_relu_seconds + c.offline_linear_seconds);
        }
}

static int measure(struct inspection *in)
{
    TRY(relu_sites(in->g, &in->site, &in->n_sites));
    for (int32_t i = 0; i < in->n_sites; i++) {
        in->relus_total += in->site[i].total;
        in->relus_kept += in->site[i].kept;
        in->evaluations += relu_evaluations(&in->site[i]);
    }
    in->infer_bytes = exec_bytes(in->g, EXEC_INFER, INFER_BATCH);
    in->train_bytes = exec_bytes(in->g, EXEC_TRAIN, TRAIN_BATCH);
    TRY(cost_machine_find(&in->machine));
    const int rc = lower_check(in->g);
    if (rc == ERR_UNSUPPORTED)
        return (in->not_private = mem_strdup(err_message())) != NULL ? 0 : ERR_NOMEM;
    TRY(rc);
    return make_costs(in);
}

/* ---- for people ------------------------------------------------------------------------------ */

/* "[N,3,32,32]" with the file's own name of the batch; dims that the file leaves open are "?". */
static void print_interface(FILE *f, const struct inspection *in)
{
    const struct import_report *r = &in->report;

    for (int32_t i = 0; i < r->n_inputs + r->n_outputs; i++) {
        fprintf(f, "  %-8s %s [", i < r->n_inputs ? "input" : "output", r->io[i].name);
        for (int32_t d = 0; d < r->io[i].shape.rank; d++) {
            int64_t dim = r->io[i].shape.dim[d];

            fprintf(f, "%s", d > 0 ? "," : "");
            if (dim >= 0)
                fprintf(f, "%" PRId64, dim);
            else
                fprintf(f, "%s", d == 0 && r->io[i].dim0[0] != '\0' ? r->io[i].dim0 : "?");
        }
        fprintf(f, "]\n");
    }
}

static void print_head(FILE *f, const struct inspection *in)
{
    const struct import_report *r = &in->report;
    char hex[SHA256_HEX];

    fprintf(f, "%s\n", in->path);
    fprintf(f, "  ONNX     IR %" PRId64 ", opset %" PRId64 ", by %s\n", r->ir_version, r->opset,
            r->producer != NULL && r->producer[0] != '\0' ? r->producer : "(no name)");
    fprintf(f, "  sha256   %s\n", sha256_hex(r->sha256, hex));
    print_interface(f, in);
}

static int32_t count_in_graph(const struct graph *g, const char *type)
{
    int32_t n = 0;

    for (int32_t i = 0; g != NULL && i < g->n_node; i++)
        n += strcmp(g->node[i].op->type, type) == 0;
    return n;
}

static bool in_file(const struct import_report *r, const char *type)
{
    for (int32_t i = 0; i < r->n_op_count; i++)
        if (strcmp(r->op_count[i].type, type) == 0)
            return true;
    return false;
}

static void print_operators(FILE *f, const struct inspection *in)
{
    const struct import_report *r = &in->report;

    if (r->n_op_count == 0)
        return;
    fprintf(f, "\n  %-24s %10s%s\n", "operator", "in file", in->g != NULL ? "  in linnet" : "");
    for (int32_t i = 0; i < r->n_op_count; i++) {
        fprintf(f, "  %-24s %10d", r->op_count[i].type, r->op_count[i].count);
        if (in->g != NULL)
            fprintf(f, " %10d", count_in_graph(in->g, r->op_count[i].type));
        fprintf(f, "\n");
    }
    for (const struct op *const *o = op_table(); *o != NULL; o++) {
        int32_t n = count_in_graph(in->g, (*o)->type);

        if (n > 0 && !in_file(r, (*o)->type))
            fprintf(f, "  %-24s %10d %10d\n", (*o)->type, 0, n);
    }
}

static double percent(int64_t part, int64_t whole)
{
    return whole > 0 ? 100.0 * (double)part / (double)whole : 0;
}

static void print_relus(FILE *f, const struct inspection *in)
{
    char text[SHAPE_TEXT];

    fprintf(f, "\n  %-40s %-16s %10s %10s %7s %11s\n", "ReLU layer", "shape", "total", "kept", "%",
            "evaluations");
    for (int32_t i = 0; i < in->n_sites; i++) {
        const struct relu_site *s = &in->site[i];

        fprintf(f, "  %-40s %-16s %10" PRId64 " %10" PRId64 " %7.2f %11" PRId64 "\n",
                in->g->node[s->node].name, shape_text(&in->g->value[s->y].shape, text), s->total,
                s->kept, percent(s->kept, s->total), relu_evaluations(s));
    }
    fprintf(f, "  %-57s %10" PRId64 " %10" PRId64 " %7.2f %11" PRId64 "\n",
            "all, the first layer included", in->relus_total, in->relus_kept,
            percent(in->relus_kept, in->relus_total), in->evaluations);
    if (in->evaluations != in->relus_kept)
        fprintf(
            f,
            "  a ReLU6 is one ReLU of the budget and two ReLU evaluations of a private inference\n");
}

static void print_figures(FILE *f, const struct inspection *in)
{
    fprintf(f, "\n  parameters %" PRId64 ", multiply-adds %" PRId64 " an image\n", in->g->n_params,
            graph_macs(in->g));
    fprintf(f, "  memory beside the weights: inference at batch %d %.1f MB", INFER_BATCH,
            (double)in->infer_bytes / 1e6);
    if (in->train_bytes > 0)
        fprintf(f, ", training at batch %d about %.0f MB", TRAIN_BATCH,
                (double)in->train_bytes / 1e6);
    fprintf(f, "\n");
}

static void print_problems(FILE *f, const struct inspection *in)
{
    const struct import_report *r = &in->report;
    const int32_t kinds = r->n_problem + (in->damaged != NULL);
    int32_t n = kinds;

    for (int32_t i = 0; i < r->n_problem; i++)
        n += r->problem[i].more;

    for (int32_t i = 0; i < r->n_warning; i++)
        fprintf(f, "%swarning: %s\n", i == 0 ? "\n" : "", r->warning[i]);
    if (n == 0)
        fprintf(f, "\nproblems: none\n");
    else
        fprintf(f, n == kinds ? "\nproblems: %d\n" : "\nproblems: %d, of %d kinds\n", n, kinds);
    if (in->damaged != NULL)
        fprintf(f, "  error[%s]: %s\n", DAMAGED, in->damaged);
    for (int32_t i = 0; i < r->n_problem; i++) {
        const struct import_problem *p = &r->problem[i];

        fprintf(f, "  error[%s]: %s%s%s\n", p->code, p->message, p->hint[0] ? ". Hint: " : "",
                p->hint);
    }
}

static void print(FILE *f, const void *facts)
{
    const struct inspection *in = facts;

    if (in->text.len > 0) {
        fwrite(in->text.data, 1, in->text.len, f);
        return;
    }
    print_head(f, in);
    print_operators(f, in);
    if (in->g != NULL) {
        print_relus(f, in);
        print_figures(f, in);
        if (in->not_private != NULL)
            fprintf(f, "\nno private inference: %s\n", in->not_private);
        else
            print_costs(f, &in->costs, &in->machine);
    }
    print_problems(f, in);
}

/* ---- for programs ---------------------------------------------------------------------------- */

/* [{"name","shape"}]: a dimension is a number, the name of the batch, or null. */
static json_t *interface_json(const struct import_report *r, int32_t from, int32_t to)
{
    json_t *list = json_array();

    for (int32_t i = from; i < to; i++) {
        json_t *shape = json_array();

        for (int32_t d = 0; d < r->io[i].shape.rank; d++) {
            int64_t dim = r->io[i].shape.dim[d];
            json_t *v = dim >= 0 ? json_integer(dim) : json_null();

            if (dim < 0 && d == 0 && r->io[i].dim0[0] != '\0')
                v = json_string(r->io[i].dim0);
            json_add(&shape, v);
        }
        json_add(&list, json_pack("{s:s,s:o}", "name", r->io[i].name, "shape", shape));
    }
    return list;
}

static json_t *relu_layers_json(const struct inspection *in)
{
    json_t *list = json_array();

    for (int32_t i = 0; i < in->n_sites; i++) {
        const struct relu_site *s = &in->site[i];

        json_add(&list, json_pack("{s:s,s:o,s:I,s:I,s:I}", "name", in->g->node[s->node].name,
                                  "shape", report_shape(&in->g->value[s->y].shape), "total",
                                  (json_int_t)s->total, "kept", (json_int_t)s->kept, "evaluations",
                                  (json_int_t)relu_evaluations(s)));
    }
    return list;
}

static json_t *problems_json(const struct inspection *in)
{
    const struct import_report *r = &in->report;
    json_t *list = json_array();

    if (in->damaged != NULL)
        json_add(&list, json_pack("{s:s,s:s,s:s,s:s,s:s}", "code", DAMAGED, "node", "", "op", "",
                                  "message", in->damaged, "hint", ""));

    for (int32_t i = 0; i < r->n_problem; i++) {
        const struct import_problem *p = &r->problem[i];

        json_add(&list,
                 json_pack("{s:s,s:s,s:s,s:s,s:s,s:i}", "code", p->code, "node", p->node, "op",
                           p->op, "message", p->message, "hint", p->hint, "more", (int)p->more));
    }
    return list;
}

static json_t *warnings_json(const struct import_report *r)
{
    json_t *list = json_array();

    for (int32_t i = 0; i < r->n_warning; i++)
        json_add(&list, json_string(r->warning[i]));
    return list;
}

static json_t *operators_json(const struct import_report *r)
{
    json_t *o = json_object();

    for (int32_t i = 0; i < r->n_op_count; i++)
        json_put(&o, r->op_count[i].type, json_integer(r->op_count[i].count));
    return o;
}

/* A figure that only an accepted file has. */
static json_t *figure(const struct inspection *in, int64_t v)
{
    return in->g != NULL ? json_integer(v) : json_null();
}

static json_t *to_json(const struct inspection *in)
{
    const struct import_report *r = &in->report;
    int64_t params = in->g != NULL ? in->g->n_params : 0;
    int64_t macs = in->g != NULL ? graph_macs(in->g) : 0;
    char hex[SHA256_HEX];
    json_t *o =
        json_pack("{s:s,s:s,s:I,s:I,s:s}", "format", "linnet.inspect/1", "sha256",
                  sha256_hex(r->sha256, hex), "ir_version", (json_int_t)r->ir_version, "opset",
                  (json_int_t)r->opset, "producer", r->producer != NULL ? r->producer : "");

    json_put(&o, "inputs", interface_json(r, 0, r->n_inputs));
    json_put(&o, "outputs", interface_json(r, r->n_inputs, r->n_inputs + r->n_outputs));
    json_put(&o, "params", figure(in, params));
    json_put(&o, "macs", figure(in, macs));
    json_put(&o, "relus_total", figure(in, in->relus_total));
    json_put(&o, "relus_kept", figure(in, in->relus_kept));
    json_put(&o, "relu_evaluations", figure(in, in->evaluations));
    json_put(&o, "relu_layers", relu_layers_json(in));
    json_put(&o, "operators", operators_json(r));
    json_put(&o, "private_inference", json_boolean(in->g != NULL && in->not_private == NULL));
    json_put(&o, "problems", problems_json(in));
    json_put(&o, "warnings", warnings_json(r));
    return o;
}

/* ---- the task ------------------------------------------------------------------------------- */

/* Import errors come back after the report. */
static int inspect(const struct inspect_settings *s, struct inspection *in,
                   struct linnet_report **out)
{
    struct import_options opt;
    char input[MODEL_NAME];
    int refused;

    TRY(model_import_options(&s->open, input, &opt));
    opt.allow_newer_opset = s->allow_newer_opset;
    refused = onnx_import(in->path, &opt, &in->report, &in->g);
    if (refused == 0 && (refused = model_normalize_by_file(in->path, in->g)) == ERR_FORMAT &&
        (in->damaged = mem_strdup(err_message())) == NULL)
        return ERR_NOMEM;
    if (refused < 0 && !model_refuses(refused))
        return refused;
    OWNED char *why = mem_strdup(err_message());
    if (why == NULL)
        return ERR_NOMEM;
    if (in->g != NULL)
        TRY(measure(in));
    in->text = buf_writer_to(GRAPH_TEXT_LIMIT);
    if (s->graph && in->g != NULL) {
        graph_text(in->g, &in->text);
        TRY(buf_status(&in->text));
    }
    TRY(report_new(print, in, to_json(in), out));
    if (refused == 0)
        return 0;
    return in->damaged != NULL ? fail(refused, "%s", why) : fail(refused, "%s: %s", in->path, why);
}

int linnet_inspect(const char *path, const struct linnet_options *o, struct linnet_report **out)
{
    const struct inspect_settings *s;
    struct inspection in = {.path = path};
    int rc;

    if (out != NULL)
        *out = NULL;
    TRY(options_read(o, &inspect_task, (const void **)&s));
    rc = inspect(s, &in, out);
    mem_free(in.costs.tensor);
    mem_free(in.costs.step);
    mem_free(in.site);
    buf_release(&in.text);
    mem_free(in.damaged);
    mem_free(in.not_private);
    graph_free(in.g);
    import_report_release(&in.report);
    return rc;
}
