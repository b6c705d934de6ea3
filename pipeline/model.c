/* Opening models and checkpoints; see model.h for the form of a checkpoint. */
#include "pipeline/model.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "pipeline/auto_normalize.h"
#include "pipeline/listener.h"
#include "core/base/json.h"
#include "core/base/file.h"
#include "core/op/op.h"
#include "core/graph/pass.h"
#include "exporter/exporter.h"
#include "linearizer/published.h"
#include "trainer/train/checkpoint.h"
#include "trainer/data/normalize.h"

#define MOST_PROBLEMS_SHOWN 5
#define IMPORT_MAX_SIDE (1 << 20)

/* ---- normalisation ------------------------------------------------------------------------- */

static bool is_auto(const char *normalize, const char *data)
{
    return normalize && data && strcmp(normalize, "auto") == 0;
}

int model_normalize_by_file(const char *path, struct graph *g)
{
    const char *text = graph_get_meta(g, "linnet.normalize");
    const int rc = text != NULL && strcmp(text, "auto") != 0 ? normalize_set(g, text) : 0;

    return rc == ERR_ARG ? fail_context(ERR_FORMAT, "%s: its metadata linnet.normalize", path) : rc;
}

static int choose_normalize(const struct linnet_listener *l, const char *path,
                            const struct open_options *o, uint64_t seed, struct model *m)
{
    const char *text = o->normalize ? o->normalize : graph_get_meta(m->g, "linnet.normalize");

    m->normalize_known = text != NULL;
    if (is_auto(text, o->data))
        return normalize_auto(l, path, o->data, &o->images, seed, m->g);
    if (o->normalize)
        return normalize_set(m->g, text);
    if (text)
        return model_normalize_by_file(path, m->g);
    if (o->data != NULL && o->guess != GUESS_NEVER)
        return normalize_guess(l, path, o->data, &o->images, seed, o->guess == GUESS_SURE, m->g,
                               &m->normalize_known);
    if (o->guess != GUESS_NEVER)
        listener_note(
            l, "%s: no --normalize and none in the file: pixels in [0,1] go in as they are", path);
    return 0;
}

/* ---- structure ----------------------------------------------------------------------------- */

static int insert_neutral_bn(struct graph *g)
{
    const int32_t n = pass_batchnorm_sites(g, NULL, 0);
    OWNED int32_t *sites = mem_array((size_t)n + 1, sizeof *sites);

    if (sites == NULL)
        return ERR_NOMEM;
    pass_batchnorm_sites(g, sites, n);
    for (int32_t i = n - 1; i >= 0; i--) { /* from the back: indices in front stay */
        const int64_t channels = g->value[g->node[sites[i]].out[0]].shape.dim[1];
        OWNED float *zero = mem_array((size_t)channels, sizeof *zero);

        if (zero == NULL)
            return ERR_NOMEM;
        TRY(pass_insert_batchnorm(g, sites[i], zero, zero));
    }
    return 0;
}

int model_apply_form(struct graph *g, const struct model_form *form)
{
    if (form->bn_inserted)
        TRY(insert_neutral_bn(g));
    if (form->branches == 2 || form->deploy == DEPLOY_SINGLE)
        TRY(pass_dual_branch(g));
    if (form->shared_shortcuts)
        TRY(published_share_shortcuts(g));
    if (form->masked)
        TRY(mask_insert(g));
    TRY(line_insert(g, (enum removed_kind)form->removed));
    if (form->dropped_skips)
        TRY(published_drop_skips(g));
    if (form->deploy == DEPLOY_SINGLE) /* it was the second branch, and its values are named so */
        TRY(pass_select_branch(g, 1));
    if (form->deploy != DEPLOY_CLEAN || form->branches == 2)
        TRY(graph_set_meta(g, "linnet.branch", model_deploy_name(form->deploy)));
    return graph_verify(g);
}

json_t *model_form_json(const struct model_form *form, const struct graph *g)
{
    char norm[NORMALIZE_TEXT];
    json_t *o = json_pack("{s:b,s:i,s:b,s:s}", "bn_inserted", form->bn_inserted, "banks",
                          (int)form->branches, "masked", form->masked, "normalize",
                          normalize_text(&g->norm, norm));

    if (o && form->removed != REMOVED_IDENTITY)
        json_put(&o, "removed", json_string(removed_name((enum removed_kind)form->removed)));
    if (o && form->deploy != DEPLOY_CLEAN)
        json_put(&o, "deploy", json_string(model_deploy_name(form->deploy)));
    if (o && form->shared_shortcuts)
        json_put(&o, "shared_shortcuts", json_true());
    if (o && form->dropped_skips)
        json_put(&o, "dropped_skips", json_true());
    return o;
}

static bool parse_removed(const char *text, int32_t *kind)
{
    *kind = REMOVED_LINE;
    while (*kind > REMOVED_IDENTITY && strcmp(text, removed_name((enum removed_kind) * kind)) != 0)
        --*kind;
    return strcmp(text, removed_name((enum removed_kind) * kind)) == 0;
}

static bool parse_deploy(const char *text, int32_t *deploy)
{
    for (*deploy = DEPLOYS - 1; *deploy > DEPLOY_CLEAN; --*deploy)
        if (strcmp(text, model_deploy_name(*deploy)) == 0)
            break;
    return strcmp(text, model_deploy_name(*deploy)) == 0;
}

static int parse_form(const char *path, const char *config, struct model_form *form, json_t **root,
                      const char **normalize)
{
    json_error_t e;
    json_t *network;
    const char *removed = removed_name(REMOVED_IDENTITY), *deploy = model_deploy_name(DEPLOY_CLEAN);
    int bn, masked, shared = 0, dropped = 0;

    if ((*root = json_loads(config, JSON_REJECT_DUPLICATES, &e)) == NULL)
        return fail(ERR_FORMAT, "'%s': its config is not JSON: %s", path, e.text);
    network = json_object_get(*root, "network");
    if (json_unpack(network, "{s:b,s:i,s:b,s:s,s?b,s?b,s?s,s?s}", "bn_inserted", &bn, "banks",
                    &form->branches, "masked", &masked, "normalize", normalize, "shared_shortcuts",
                    &shared, "dropped_skips", &dropped, "removed", &removed, "deploy",
                    &deploy) < 0 ||
        !parse_removed(removed, &form->removed) || !parse_deploy(deploy, &form->deploy) ||
        form->branches < 0 || form->branches > 2)
        return fail(ERR_FORMAT, "'%s': its config does not describe a network", path);
    form->bn_inserted = bn;
    form->masked = masked;
    form->shared_shortcuts = shared;
    form->dropped_skips = dropped;
    return 0;
}

/* ---- opening ------------------------------------------------------------------------------- */

bool model_refuses(int rc)
{
    return rc == ERR_FORMAT || rc == ERR_LIMIT || rc == ERR_UNSUPPORTED || rc == ERR_NUMERIC;
}

/* "NAME:1,C,H,W" or "1,C,H,W"; names may hold colons, so the last one counts. */
static int parse_input_shape(const char *text, char name[MODEL_NAME], struct import_options *o)
{
    const char *colon = strrchr(text, ':'), *at = colon ? colon + 1 : text;
    char *end = NULL;

    o->input_shape.rank = 4;
    for (int k = 0; k < 4; k++, at = end + 1) {
        o->input_shape.dim[k] = strtol(at, &end, 10);
        if (end == at || *end != (k < 3 ? ',' : '\0') || o->input_shape.dim[k] < (k > 0) ||
            o->input_shape.dim[k] > IMPORT_MAX_SIDE)
            return fail(ERR_ARG, "--input-shape %s: is NAME:1,C,H,W with four sizes", text);
    }
    if (colon && colon - text >= MODEL_NAME)
        return fail(ERR_ARG, "--input-shape: the name is too long");
    snprintf(name, MODEL_NAME, "%.*s", colon ? (int)(colon - text) : 0, text);
    o->input = name;
    return 0;
}

int model_import_options(const struct open_options *o, char name[MODEL_NAME],
                         struct import_options *out)
{
    *out = (struct import_options){0};
    out->output = o->output_name;
    out->layout = (enum import_layout)o->layout;
    out->relu6_as_relu = o->relu6 == 1;
    return o->input_shape ? parse_input_shape(o->input_shape, name, out) : 0;
}

static void tell(const struct linnet_listener *l, const char *path, const struct import_report *r,
                 int rc)
{
    for (int32_t i = 0; rc == 0 && i < r->n_warning; i++)
        listener_note(l, "%s: warning: %s", path, r->warning[i]);
    for (int32_t i = 1; rc < 0 && i < r->n_problem && i < MOST_PROBLEMS_SHOWN; i++)
        listener_note(l, "%s: also error[%s]: %s", path, r->problem[i].code, r->problem[i].message);
    if (rc < 0 && r->n_problem > MOST_PROBLEMS_SHOWN)
        listener_note(l, "%s: and %d more problems; `linnet inspect` lists all of them", path,
                      r->n_problem - MOST_PROBLEMS_SHOWN);
}

/* The bytes of a file that stands alone and needs no options to be read, made from the graph. */
static int embed_own(struct model *m)
{
    const struct export_options opt = {.form = MASK_WHERE};

    TRY(onnx_export_bytes(m->g, &opt, &m->file, &m->file_len));
    graph_free(m->g);
    m->g = NULL;
    return onnx_import_bytes(m->file, m->file_len, -1, NULL, NULL, &m->g);
}

static int import_embedded(const struct linnet_listener *l, const char *path, struct model *m)
{
    SCOPED(import_report_release) struct import_report report = {0};
    int rc = onnx_import_bytes(m->file, m->file_len, -1, NULL, &report, &m->g);

    tell(l, path, &report, rc);
    return model_refuses(rc) ? fail_context(rc, "%s", path) : rc; /* others name the file already */
}

static int import_path(const struct linnet_listener *l, const char *path,
                       const struct open_options *o, struct model *m)
{
    SCOPED(import_report_release) struct import_report report = {0};
    struct import_options opt;
    char name[MODEL_NAME];
    int rc;

    TRY(model_import_options(o, name, &opt));
    rc = onnx_import(path, &opt, &report, &m->g);
    tell(l, path, &report, rc);
    if (rc == 0 && (report.has_external || opt.output || opt.layout || opt.relu6_as_relu ||
                    opt.input_shape.rank > 0))
        rc = embed_own(m);
    else if (rc == 0)
        rc = file_read(path, IMPORT_MAX_FILE, &m->file, &m->file_len);
    return model_refuses(rc) ? fail_context(rc, "%s", path) : rc; /* others name the file already */
}

static int open_checkpoint(const struct linnet_listener *l, const char *path,
                           const struct open_options *o, uint64_t seed, struct model *m)
{
    const bool choose = is_auto(o->normalize, o->data);
    SCOPED(checkpoint_close_at) struct checkpoint_file *f = NULL;
    SCOPED(json_decref_at) json_t *root = NULL;
    const char *stored;
    const uint8_t *structure;
    size_t len;

    TRY(checkpoint_open(path, &f));
    TRY(parse_form(path, checkpoint_info(f)->config, &m->form, &root, &stored));
    if ((structure = checkpoint_structure(f, &len)) == NULL)
        return fail(ERR_FORMAT, "'%s': holds no model structure", path);
    if ((m->file = mem_array(len, 1)) == NULL ||
        (m->config = mem_strdup(checkpoint_info(f)->config)) == NULL)
        return ERR_NOMEM;
    memcpy(m->file, structure, len);
    m->file_len = len;
    TRY(import_embedded(l, path, m));
    TRY(model_apply_form(m->g, &m->form));
    TRY(checkpoint_read_graph(f, m->g));
    TRY(normalize_set(m->g, o->normalize && !choose ? o->normalize : stored));
    m->normalize_known = true;
    graph_touch(m->g);
    if (!checkpoint_info(f)->done)
        listener_note(
            l,
            "%s: warning: stage '%s' is not finished (epoch %d, step %lld); the numbers are those of that moment",
            path, checkpoint_info(f)->stage, (int)checkpoint_info(f)->epoch,
            (long long)checkpoint_info(f)->step);
    return choose ? normalize_auto(l, path, o->data, &o->images, seed, m->g) : 0;
}

bool model_is_safetensors(const char *path)
{
    const size_t n = strlen(path), m = strlen(".safetensors");

    return n > m && strcmp(path + n - m, ".safetensors") == 0;
}

/* The folder of linearize is no model, but it holds some. */
static int refuse_folder(const char *path)
{
    struct stat st;

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return fail(
            ERR_ARG,
            "'%s' is a folder; name a file in it, such as checkpoint.safetensors (both branches), teacher.safetensors or model.onnx",
            path);
    return 0;
}

int model_open(const struct linnet_listener *l, const char *path, const struct open_options *o,
               uint64_t seed, struct model *out)
{
    static const struct open_options nothing = {.guess = GUESS_NEVER};
    struct model m = {0};
    int rc;

    TRY(refuse_folder(path));
    o = o != NULL ? o : &nothing;
    m.is_checkpoint = model_is_safetensors(path);
    if ((m.path = mem_strdup(path)) == NULL)
        rc = ERR_NOMEM;
    else if (m.is_checkpoint)
        rc = open_checkpoint(l, path, o, seed, &m);
    else if ((rc = import_path(l, path, o, &m)) == 0 &&
             (rc = choose_normalize(l, path, o, seed, &m)) == 0)
        m.form = (struct model_form){.branches = graph_branches(m.g)};
    if (rc == 0)
        rc = sha256_file(path, m.sha256);
    *out = m;
    return rc;
}

void model_drop_file(struct model *m)
{
    mem_free(m->file);
    m->file = NULL;
    m->file_len = 0;
}

void model_close(struct model *m)
{
    graph_free(m->g);
    mem_free(m->path);
    mem_free(m->file);
    mem_free(m->config);
    *m = (struct model){0};
}

/* ---- branches ------------------------------------------------------------------------------ */

const char *model_deploy_name(int32_t deploy)
{
    static const char *const name[DEPLOYS] = {"clean", "adv", "single"};

    return name[deploy];
}

const char *model_branch_name(int branch)
{
    return model_deploy_name(branch == 1 ? DEPLOY_ADV : DEPLOY_CLEAN);
}

/* Of two branches the metadata tell which one is deployed, of one which it is. */
struct model_branches model_branches(const struct graph *g)
{
    const char *text = graph_get_meta(g, "linnet.branch");
    int32_t deploy;

    if (text == NULL || !parse_deploy(text, &deploy))
        deploy = DEPLOY_CLEAN;
    if (graph_branches(g) == 2)
        return (struct model_branches){{model_branch_name(0), model_branch_name(1)},
                                       deploy == DEPLOY_ADV};
    return (struct model_branches){{model_deploy_name(deploy), model_branch_name(1)},
                                   deploy == DEPLOY_ADV ? -1 : 0};
}

int model_branch(const struct graph *g, const char *name, int *branch)
{
    const struct model_branches b = model_branches(g);
    const int branches = graph_branches(g) == 2 ? 2 : 1;
    int32_t known;

    *branch = 0;
    if (name == NULL)
        return 0;
    if (!parse_deploy(name, &known))
        return fail(ERR_ARG, "--branch %s: is clean, adv or single", name);
    while (*branch < branches && strcmp(name, b.name[*branch]) != 0)
        ++*branch;
    if (*branch == branches && branches == 2)
        return fail(ERR_ARG, "--branch %s: the model has the branches clean and adv", name);
    if (*branch == branches)
        return fail(ERR_ARG, "--branch %s: the model has only one batch-norm branch, '%s'", name,
                    b.name[0]);
    return 0;
}
