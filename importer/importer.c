/*
 * ONNX bytes -> graph.
 *
 *     bytes --sniff, wire_unpack--> ModelProto --enter names, check order--> entries
 *           --forward walk: fold | canon--> graph --finish: output, metadata, verify--> caller
 *
 * The walk visits the nodes that the output depends on. A node that fails is recorded and its
 * outputs become BAD, so everything that does not depend on it is still looked at; the file is
 * refused in the end with the first problem as the message.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "onnx.pb-c.h"

#include "core/base/cpu.h"
#include "core/base/file.h"
#include "core/graph/pass.h"
#include "core/base/sha256.h"
#include "core/base/wire.h"
#include "importer/canon/canon.h"
#include "importer/fold/fold.h"
#include "importer/importer.h"
#include "importer/steps.h"

#define PARALLEL_FROM ((size_t)4 << 20) /* bytes of a file that two threads share */
#define MAX_ATTRIBUTES 64               /* of a node; real ones have ten */
#define RESERVE_MAX ((int64_t)1 << 29)  /* floats; beyond, the block grows as it needs */

/* ---- the node at hand ----------------------------------------------------------------------- */

/* A node without a name is called as its first output, which is unique. */
static const char *node_name(const Onnx__NodeProto *p)
{
    return p->name[0] != '\0' ? p->name : p->n_output > 0 ? p->output[0] : "";
}

static int begin_node(struct import *im, struct call *c, size_t index)
{
    const Onnx__NodeProto *p = im->file->node[index];

    *c = (struct call){.proto = p, .type = p->op_type, .name = node_name(p)};
    if (im->node_opset != NULL)
        im->opset = im->node_opset[index];
    im->at = arena_printf(im->arena, "(node '%.*s', opset %lld)", IMPORT_MAX_NAME, c->name,
                          (long long)im->opset);
    if (im->at == NULL)
        return ERR_NOMEM;
    im->call = c;
    im->reported = false;
    return 0;
}

static void end_node(struct import *im)
{
    im->call = NULL;
    im->at = "";
}

/* Enters the outputs of a node. */
static int enter_node(struct import *im, size_t index)
{
    const Onnx__NodeProto *p = im->file->node[index];
    struct entry *e;

    (void)names_check(im, "node", p->name);
    (void)names_check(im, "operator", p->op_type);
    for (size_t k = 0; k < p->n_output; k++)
        if (p->output[k][0] != '\0')
            TRY(names_enter(im, p->output[k], (int32_t)index, &e));
    return 0;
}

static void check_node_inputs(struct import *im, size_t index)
{
    const Onnx__NodeProto *p = im->file->node[index];

    for (size_t k = 0; k < p->n_input; k++) {
        const struct entry *e = p->input[k][0] != '\0' ? names_find(im, p->input[k]) : NULL;

        if (p->input[k][0] == '\0')
            continue;
        if (e == NULL)
            (void)report_problem(im, "E1401", "", "input '%.*s' is not defined anywhere %s",
                                 IMPORT_MAX_NAME, p->input[k], im->at);
        else if (e->producer >= (int32_t)index)
            (void)report_problem(im, "E1402", "", "input '%s' depends on the node that reads it %s",
                                 e->name, im->at);
    }
}

/* An attribute given twice means what the reader makes of it. */
static void check_attributes(struct import *im, size_t index)
{
    const Onnx__NodeProto *p = im->file->node[index];

    if (p->n_attribute > MAX_ATTRIBUTES) {
        (void)report_problem(im, "E1205", "", "%zu attributes, at most %d %s", p->n_attribute,
                             MAX_ATTRIBUTES, im->at);
        return;
    }
    for (size_t k = 1; k < p->n_attribute; k++)
        for (size_t i = 0; i < k; i++)
            if (strcmp(p->attribute[i]->name, p->attribute[k]->name) == 0) {
                (void)report_problem(im, "E1205", "", "attribute '%.*s' is given twice %s",
                                     IMPORT_MAX_NAME, p->attribute[k]->name, im->at);
                return;
            }
}

static int enter_nodes(struct import *im)
{
    struct call c;

    for (size_t k = 0; k < im->file->n_node; k++) {
        TRY(begin_node(im, &c, k));
        TRY(enter_node(im, k));
        check_attributes(im, k);
        end_node(im);
    }
    TRY(sort_nodes(im));
    for (size_t k = 0; k < im->file->n_node; k++) {
        TRY(begin_node(im, &c, k));
        check_node_inputs(im, k);
        end_node(im);
    }
    return 0;
}

/* ---- initializers and inputs ---------------------------------------------------------------- */

static int enter_initializers(struct import *im)
{
    for (size_t k = 0; k < im->file->n_initializer; k++) {
        const Onnx__TensorProto *t = im->file->initializer[k];
        struct entry *e;
        int rc;

        TRY(names_enter(im, t->name, -1, &e));
        if (e == NULL)
            continue;
        e->is_initializer = true;
        e->kind = ENTRY_CONSTANT;
        if ((rc = constant_of_proto(im, t, e->name, &e->constant)) == ERR_NOMEM)
            return rc;
        if (rc < 0)
            e->kind = ENTRY_BAD;
    }
    return 0;
}

static int enter_input_names(struct import *im)
{
    for (size_t k = 0; k < im->file->n_input; k++) {
        struct entry *e = names_find(im, im->file->input[k]->name);

        if (e != NULL && e->is_initializer)
            continue;
        TRY(names_enter(im, im->file->input[k]->name, -1, &e));
        if (e != NULL)
            e->kind = ENTRY_BAD;
    }
    return 0;
}

/* Input k as an entry, NULL if it is an initializer or its name was refused. */
static struct entry *input_at(const struct import *im, size_t k)
{
    struct entry *e = names_find(im, im->file->input[k]->name);

    return e != NULL && !e->is_initializer ? e : NULL;
}

/* How many inputs some node reads. */
static int32_t mark_read(struct import *im)
{
    int32_t n = 0;

    for (size_t k = 0; k < im->file->n_node; k++)
        for (size_t i = 0; i < im->file->node[k]->n_input; i++) {
            struct entry *e = names_find(im, im->file->node[k]->input[i]);

            if (e != NULL)
                e->is_read = true;
        }
    for (size_t k = 0; k < im->file->n_input; k++)
        n += input_at(im, k) != NULL && input_at(im, k)->is_read;
    return n;
}

/* The input that is no initializer is the image; there may be only one that nodes read. */
static int choose_input(struct import *im)
{
    const bool any_read = mark_read(im) > 0;
    bool found = false;

    for (size_t k = 0; k < im->file->n_input; k++) {
        const Onnx__ValueInfoProto *v = im->file->input[k];
        struct entry *e = input_at(im, k);
        int rc = 0;

        if (e == NULL)
            continue;
        if (any_read && !e->is_read) {
            TRY(report_warning(im, "no node reads the input '%s'; it is left out", v->name));
            continue;
        }
        if (found)
            rc = report_problem(im, "E1501", "make it a constant (an initializer) and export again",
                                "second input '%s'; linnet takes one image input", v->name);
        else
            rc = input_enter(im, v, e);
        found = true;
        if (rc == ERR_NOMEM)
            return rc;
        if (rc < 0 && im->n_found == 0)
            (void)report_problem(im, "E1303", "", "input '%s': %s", v->name, err_message());
    }
    if (!found)
        (void)report_problem(im, "E1501", "", "the graph has no input");
    return 0;
}

/* ---- the output ----------------------------------------------------------------------------- */

static const char *output_names(struct import *im)
{
    const struct import_report *r = im->report;
    const char *list = "";
    char text[SHAPE_TEXT];

    for (int32_t k = 0; k < r->n_outputs && k < 8; k++) {
        const struct import_io *io = &r->io[r->n_inputs + k];

        list = report_text(im, "%s%s'%s' %s", list, k > 0 ? ", " : "", io->name,
                           io->known ? shape_text(&io->shape, text) : "of unknown shape");
    }
    return list;
}

/* By what the file declares: [N,K], or [N,K,1,1]. */
static bool is_logits(const struct import_io *io)
{
    const struct shape *s = &io->shape;

    return io->known && (s->rank == 2 || (s->rank == 4 && s->dim[2] == 1 && s->dim[3] == 1));
}

/* The only output that looks like logits, of several; -1 if there is none or more than one, or one that
 * the file says nothing of. */
static int32_t only_logits(const struct import_report *r)
{
    int32_t at = -1;

    for (int32_t k = 0; k < r->n_outputs; k++) {
        const struct import_io *io = &r->io[r->n_inputs + k];

        if (!io->known || (is_logits(io) && at >= 0))
            return -1;
        at = is_logits(io) ? k : at;
    }
    return at;
}

static int choose_output(struct import *im)
{
    const char *name = im->opt != NULL ? im->opt->output : NULL;
    int32_t k = 0;

    if (name != NULL) {
        if ((im->output = names_find(im, name)) == NULL)
            return report_problem(im, "E1504",
                                  report_text(im, "the outputs are %s", output_names(im)),
                                  "the file has no value '%s' to use as the output", name);
        return 0;
    }
    if (im->file->n_output == 0)
        return report_problem(im, "E1503", "", "the graph has no output");
    if (im->file->n_output > 1) {
        if ((k = only_logits(im->report)) < 0)
            (void)report_problem(im, "E1503", "choose one with --output-name NAME",
                                 "the graph has %zu outputs: %s", im->file->n_output,
                                 output_names(im));
        else
            TRY(report_warning(im, "the graph has %zu outputs: %s; taken is '%s', the only [N,K]",
                               im->file->n_output, output_names(im), im->file->output[k]->name));
        k = k < 0 ? 0 : k;
    }
    if ((im->output = names_find(im, im->file->output[k]->name)) == NULL)
        return report_problem(im, "E1401", "", "output '%s' is not defined anywhere",
                              im->file->output[k]->name);
    return 0;
}

/* Marks the nodes that the output depends on and counts the uses of values. */
static void mark_live(struct import *im)
{
    im->output->uses++;
    for (size_t k = im->file->n_node; k-- > 0;) {
        const Onnx__NodeProto *p = im->file->node[k];

        for (size_t o = 0; o < p->n_output; o++) {
            const struct entry *e = names_find(im, p->output[o]);

            im->live[k] = im->live[k] || (e != NULL && e->producer == (int32_t)k && e->uses > 0);
        }
        for (size_t i = 0; im->live[k] && i < p->n_input; i++) {
            struct entry *e = names_find(im, p->input[i]);

            if (e != NULL)
                e->uses++;
        }
    }
}

/* ---- the walk ------------------------------------------------------------------------------- */

/* Looks the inputs up; *bad if one of them failed or is unknown. */
static int bind_inputs(struct import *im, struct call *c, bool *bad)
{
    const Onnx__NodeProto *p = c->proto;

    if ((c->in = arena_array(im->arena, p->n_input + 1, sizeof *c->in)) == NULL)
        return ERR_NOMEM;
    c->n_in = (int32_t)p->n_input;
    *bad = false;
    for (int32_t k = 0; k < c->n_in; k++) {
        if (p->input[k][0] == '\0')
            continue;
        c->in[k] = names_find(im, p->input[k]);
        *bad =
            *bad || c->in[k] == NULL || c->in[k]->kind == ENTRY_NONE || c->in[k]->kind == ENTRY_BAD;
    }
    return 0;
}

static int check_domain(struct import *im)
{
    const Onnx__NodeProto *p = im->call->proto;

    if (header_is_standard(p->domain))
        return 0;
    if ((strncmp(p->domain, "com.microsoft", 13) == 0 || strncmp(p->domain, "com.ms.", 7) == 0) &&
        p->op_type[0] != 'Q' && strstr(p->op_type, "Quantize") == NULL)
        return report_problem(
            im, "E1201",
            "the file is the optimised form that onnxruntime saves; give the model from before, or save it at the level ORT_ENABLE_BASIC",
            "operator '%s' of domain '%s' %s", p->op_type, p->domain, im->at);
    return report_problem(im, "E1201", "only standard ONNX operators are supported",
                          "operator '%s' of domain '%s' %s", p->op_type, p->domain, im->at);
}

/* Every operator but Split has one result here; others of the file must be unused. */
static int check_outputs(struct import *im)
{
    const Onnx__NodeProto *p = im->call->proto;

    if (strcmp(p->op_type, "Split") == 0)
        return 0;
    for (size_t k = 1; k < p->n_output; k++) {
        const struct entry *e = p->output[k][0] != '\0' ? names_find(im, p->output[k]) : NULL;

        if (e != NULL && e->uses > 0)
            return report_problem(im, "E1206", "linnet reads the first output of every operator",
                                  "output %zu of %s is used %s", k, p->op_type, im->at);
    }
    return 0;
}

static int run_node(struct import *im, bool bad)
{
    const struct call *c = im->call;
    canon_fn *fn = canon_find(c->type);

    TRY(check_domain(im));
    if (fn == NULL && !fold_knows(c->type))
        return canon_unsupported(im);
    if (bad || c->out == NULL)
        return 0;
    TRY(check_outputs(im));
    if (fold_can(c))
        return fold_node(im);
    return fn != NULL ? fn(im) : canon_unsupported(im);
}

static void poison_outputs(struct import *im)
{
    const Onnx__NodeProto *p = im->call->proto;

    for (size_t k = 0; k < p->n_output; k++) {
        struct entry *e = names_find(im, p->output[k]);

        if (e != NULL && e->kind == ENTRY_NONE)
            e->kind = ENTRY_BAD;
    }
}

static int walk_node(struct import *im, size_t index)
{
    struct call c;
    bool bad;
    int rc;

    TRY(begin_node(im, &c, index));
    TRY(bind_inputs(im, &c, &bad));
    if (c.proto->n_output > 0 && c.proto->output[0][0] != '\0')
        c.out = names_find(im, c.proto->output[0]);
    if ((rc = run_node(im, bad)) == ERR_NOMEM)
        return rc;
    if (rc < 0 && !im->reported) {
        const bool named = strstr(err_message(), "node '") != NULL;

        (void)report_problem(im, "E1301", "", "%s%s%s", err_message(), named ? "" : " ",
                             named ? "" : im->at);
    }
    poison_outputs(im);
    end_node(im);
    return 0;
}

/* ---- the end -------------------------------------------------------------------------------- */

static int rename_value(struct graph *g, value_id v, const char *name)
{
    const char *copy = arena_strdup(g->arena, name);

    if (copy == NULL)
        return ERR_NOMEM;
    nameset_remove(&g->value_names, g->value[v].name);
    g->value[v].name = copy;
    return nameset_add(&g->value_names, copy);
}

/* The output keeps its name where it is the same value as something before it. */
static int name_output(struct import *im)
{
    struct graph *g = im->g;
    const struct value *v = &g->value[g->output];

    if (strcmp(v->name, im->output->name) == 0 || v->kind != VALUE_TEMP ||
        nameset_has(&g->value_names, im->output->name))
        return 0;
    return rename_value(g, g->output, im->output->name);
}

/* A last Softmax is taken off the graph: training, attacks and comparisons work on the logits. */
static int detach_softmax(struct import *im)
{
    struct graph *g = im->g;
    const struct node *last = graph_producer(g, g->output);

    if (last == NULL || last->op != &op_softmax || graph_count_uses(g, g->output) != 1 ||
        last->in[0] == g->input || g->value[g->output].shape.rank != 2)
        return 0;
    g->tail = TAIL_SOFTMAX;
    g->tail_node = arena_strdup(g->arena, last->name);
    g->tail_output = arena_strdup(g->arena, im->output->name);
    g->output = last->in[0];
    return g->tail_node == NULL || g->tail_output == NULL ? ERR_NOMEM : 0;
}

/* [N,K,1,1], as a network without a last Gemm has it, is [N,K]. The output's name is for the latter. */
static int flatten_output(struct import *im)
{
    struct graph *g = im->g;
    const struct shape s = g->value[g->output].shape;
    const char *name = report_text(im, "%s_image", im->output->name);

    if (s.rank < 3 || shape_elems(&s) != s.dim[1])
        return 0;
    if (strcmp(g->value[g->output].name, im->output->name) == 0 &&
        !nameset_has(&g->value_names, name))
        TRY(rename_value(g, g->output, name));
    return graph_add_node(g, &op_flatten, report_text(im, "%s/Flatten", im->output->name),
                          &g->output, 1, NULL, report_text(im, "%s/Flatten_out", im->output->name),
                          &g->output);
}

static int set_output(struct import *im)
{
    struct graph *g = im->g;
    char text[SHAPE_TEXT];

    if (im->output->kind == ENTRY_BAD || im->output->kind == ENTRY_NONE)
        return 0; /* reported */
    if (im->output->kind == ENTRY_CONSTANT)
        return report_problem(im, "E1502", "", "output '%s' is a constant", im->output->name);
    TRY(entry_act(im, im->output, &g->output));
    TRY(detach_softmax(im));
    if (g->output == g->input)
        return report_problem(im, "E1502", "", "the output is the input");
    TRY(flatten_output(im));
    const struct shape *s = &g->value[g->output].shape;
    if (s->rank != 2)
        return report_problem(
            im, "E1502", "linnet works on classifiers with one row of logits per image",
            "output '%s' has shape %s, should be [N,K]", im->output->name, shape_text(s, text));
    g->file_output = *s;
    if (im->batch > 0)
        g->file_output.dim[0] = im->batch;
    return g->tail == TAIL_NONE ? name_output(im) : 0;
}

/* Nodes whose results nobody reads: the Relu inside of a mask form, the parts of a sum. */
static int prune(struct graph *g)
{
    OWNED bool *used = mem_array((size_t)g->n_value + 1, sizeof *used);
    bool all = true;

    if (used == NULL)
        return ERR_NOMEM;
    used[g->output] = true;
    for (int32_t n = 0; n < g->n_node; n++)
        for (int32_t i = 0; i < g->node[n].n_in; i++)
            if (g->node[n].in[i] != NO_VALUE)
                used[g->node[n].in[i]] = true;
    for (int32_t n = 0; n < g->n_node; n++)
        all = all && used[g->node[n].out[0]];
    return all ? 0 : pass_prune(g);
}

static int set_facts(struct import *im)
{
    struct graph *g = im->g;

    g->ir_version = im->model->ir_version;
    g->opset = im->report->opset;
    g->producer = arena_strdup(g->arena, im->report->producer);
    g->name = arena_strdup(g->arena, report_text(im, "%s", im->file->name));
    if (g->producer == NULL || g->name == NULL)
        return ERR_NOMEM;
    for (size_t k = 0; k < im->model->n_metadata_props; k++) {
        const Onnx__StringStringEntryProto *m = im->model->metadata_props[k];

        if (strncmp(m->key, "linnet.", 7) == 0 && report_is_clean(m->key, IMPORT_MAX_NAME))
            TRY(graph_set_meta(g, m->key, m->value));
    }
    if (im->n_half > 0)
        TRY(report_warning(im, "%d 16-bit tensors become float32", im->n_half));
    if (im->n_double > 0)
        TRY(report_warning(im, "%d double tensors become float32", im->n_double));
    if (im->n_relu6 > 0)
        TRY(report_warning(im, "%d ReLU6 become Relu, another function: train before use",
                           im->n_relu6));
    if (im->n_cast > 0)
        TRY(report_warning(
            im, "%d Casts to other floating types are left out: all is computed in float32",
            im->n_cast));
    return 0;
}

static int finish(struct import *im)
{
    int rc;

    im->reported = false;
    if ((rc = set_output(im)) < 0 && rc != ERR_NOMEM && !im->reported)
        (void)report_problem(im, "E1301", "", "%s", err_message());
    if (rc == ERR_NOMEM || im->n_found > 0)
        return rc == ERR_NOMEM ? rc : 0;
    TRY(prune(im->g));
    TRY(set_facts(im));
    if ((rc = graph_verify(im->g)) < 0 && rc != ERR_NOMEM)
        (void)report_problem(im, "E1301", "", "%s", err_message());
    return rc == ERR_NOMEM ? rc : 0;
}

/* One block for all weights: growing it step by step would need twice its size and more. */
static int reserve_weights(struct import *im)
{
    int64_t n = 0;

    for (int32_t k = 0; k < im->n_entry && n < RESERVE_MAX; k++)
        if (im->entry[k].kind == ENTRY_CONSTANT && im->entry[k].uses > 0)
            n += constant_stored(im, im->entry[k].constant);
    return n > 0 && n < RESERVE_MAX ? graph_reserve_params(im->g, n) : 0;
}

/* 0 or an error that leaves nothing more to look at (also recorded, unless ERR_NOMEM). */
static int import_model(struct import *im)
{
    im->file = im->model->graph;
    TRY(header_check(im));
    TRY(inline_functions(im));
    TRY(names_init(im));
    TRY(enter_initializers(im));
    TRY(enter_input_names(im));
    TRY(report_facts(im));
    TRY(enter_nodes(im));
    TRY(choose_input(im));
    TRY(choose_output(im));
    mark_live(im);
    TRY(reserve_weights(im));
    for (size_t k = 0; k < im->file->n_node; k++)
        if (im->live[k])
            TRY(walk_node(im, k));
    return finish(im);
}

static int unpack(struct import *im, const uint8_t *bytes, size_t len, struct wire_message **out)
{
    int rc = wire_unpack(&onnx__model_proto__descriptor, bytes, len, "the file", out);

    if (rc == 0) {
        im->model = wire_root(*out);
        return 0;
    }
    if (rc == ERR_NOMEM)
        return rc;
    return report_problem(im, rc == ERR_LIMIT ? "E1007" : "E1001",
                          "the file is truncated, damaged or no ONNX model", "%s", err_message());
}

static int64_t first_room(size_t len)
{
    const int64_t n = (int64_t)len, computed = IMPORT_ROOM_COMPUTED * n;

    return IMPORT_ROOM + IMPORT_ROOM_FACTOR * n +
           (computed < IMPORT_ROOM_COMPUTED_MAX ? computed : IMPORT_ROOM_COMPUTED_MAX);
}

/* Two looks at all bytes, on two threads where that pays; the messages are those of this thread, which
 * takes the first. */
static int hash_and_unpack(struct import *im, const uint8_t *bytes, size_t len,
                           struct wire_message **out)
{
    int rc[2] = {0};

    if ((rc[0] = header_sniff(im, bytes, len)) < 0) {
        TRY(sha256_bytes(bytes, len, im->report->sha256));
        return rc[0];
    }
#pragma omp parallel for schedule(static)                                                          \
    num_threads(len < PARALLEL_FROM || cpu_threads() < 2 ? 1 : 2)
    for (int k = 0; k < 2; k++)
        rc[k] = k == 0 ? unpack(im, bytes, len, out) : sha256_bytes(bytes, len, im->report->sha256);
    return rc[0] < 0 ? rc[0] : rc[1];
}

/* map: of these bytes, or zeroed; closed as soon as they are unpacked: the weights are in the message then. */
static int import_bytes(const uint8_t *bytes, size_t len, struct file_map *map, int dir_fd,
                        const struct import_options *opt, struct import_report *report,
                        struct graph **out)
{
    struct import_report own;
    struct import im = {.opt = opt, .dir_fd = dir_fd, .at = "", .room = first_room(len)};
    struct wire_message *message = NULL;
    int rc;

    im.report = report != NULL ? report : &own;
    if ((rc = report_init(im.report)) < 0 || (rc = arena_new(IMPORT_CONSTANTS, &im.arena)) < 0 ||
        (rc = graph_new(&im.g)) < 0 || (rc = hash_and_unpack(&im, bytes, len, &message)) < 0)
        goto out;
    file_map_close(map);
    im.g->batch_name = "N";
    if ((rc = import_model(&im)) == 0 && im.no_memory)
        rc = ERR_NOMEM;
out:
    if (rc != ERR_NOMEM && im.n_found > 0 && (rc = report_close(&im)) == 0)
        rc = report_fail(im.report, im.n_found);
    if (rc == 0) {
        *out = im.g;
        im.g = NULL;
    }
    wire_free(message);
    graph_free(im.g);
    arena_free(im.arena);
    file_map_close(map);
    if (report == NULL)
        import_report_release(&own);
    return rc;
}

int onnx_import_bytes(const uint8_t *bytes, size_t len, int dir_fd,
                      const struct import_options *opt, struct import_report *report,
                      struct graph **out)
{
    return import_bytes(bytes, len, &(struct file_map){0}, dir_fd, opt, report, out);
}

/* The folder of `path`, -1 if it cannot be opened (then external data cannot be read). */
static int open_folder(const char *path, int *fd)
{
    const char *slash = strrchr(path, '/');
    OWNED char *folder = mem_strdup(slash != NULL ? path : ".");

    if (folder == NULL)
        return ERR_NOMEM;
    if (slash != NULL)
        folder[slash == path ? 1 : slash - path] = '\0';
    *fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return 0;
}

int onnx_import(const char *path, const struct import_options *opt, struct import_report *report,
                struct graph **out)
{
    SCOPED(file_map_close) struct file_map map = {0};
    int fd = -1, rc;

    if (report != NULL) /* so that it can be released whatever fails */
        memset(report, 0, sizeof *report);
    TRY(file_map_open(path, &map));
    TRY(open_folder(path, &fd));
    rc = import_bytes(map.data, map.len, &map, fd, opt, report, out);
    if (fd >= 0)
        close(fd);
    return rc;
}
