/* Opening models and checkpoints; see model.h for the form of a checkpoint. */
#include "cli/model.h"

#include <string.h>

#include "core/file.h"
#include "core/op.h"
#include "core/pass.h"
#include "importer/importer.h"
#include "linearizer/linearizer.h"
#include "trainer/checkpoint.h"
#include "trainer/normalize.h"

#define MOST_PROBLEMS_SHOWN 5

/* ---- normalisation ------------------------------------------------------------------------- */

int model_set_normalize(struct graph *g, const char *text)
{
    const int64_t channels = g->value[g->input].shape.dim[1];
    struct input_norm norm;
    char canonical[NORMALIZE_TEXT];

    if (strcmp(text, "auto") == 0)
        return fail(ERR_ARG,
                    "--normalize auto: not in this version; name a preset (cifar10, imagenet, "
                    "none, 255 ...) or give m,m,m/s,s,s");
    TRY(normalize_parse(text, &norm));
    if (norm.channels > 0 && norm.channels != channels)
        return fail(ERR_ARG, "--normalize %s: has %d channels, the model's input has %lld", text,
                    norm.channels, (long long)channels);
    g->norm = norm;
    return graph_set_meta(g, "linnet.normalize", normalize_text(&norm, canonical));
}

static int choose_normalize(const struct cli_common *c, const char *path, const char *option,
                            struct model *m)
{
    const char *text = option ? option : graph_get_meta(m->g, "linnet.normalize");

    m->normalize_known = text != NULL;
    if (text)
        return model_set_normalize(m->g, text);
    cli_detail(c, "%s: no --normalize and none in the file; pixels in [0,1] go in as they are",
               path);
    return 0;
}

/* ---- structure ----------------------------------------------------------------------------- */

static int insert_neutral_bn(struct graph *g)
{
    const int32_t n = pass_batchnorm_sites(g, NULL, 0);
    int32_t *sites = mem_array((size_t)n + 1, sizeof *sites);
    float *zero = NULL;
    int rc = 0;

    if (sites == NULL)
        return ERR_NOMEM;
    pass_batchnorm_sites(g, sites, n);
    for (int32_t i = n - 1; i >= 0 && rc == 0; i--) { /* from the back: indices in front stay */
        const int64_t channels = g->value[g->node[sites[i]].out[0]].shape.dim[1];

        if ((zero = mem_array((size_t)channels, sizeof *zero)) == NULL)
            rc = ERR_NOMEM;
        else
            rc = pass_insert_batchnorm(g, sites[i], zero, zero);
        mem_free(zero);
    }
    mem_free(sites);
    return rc;
}

int model_apply_form(struct graph *g, const struct model_form *form)
{
    if (form->bn_inserted)
        TRY(insert_neutral_bn(g));
    if (form->banks == 2)
        TRY(pass_dual_bank(g));
    if (form->masked)
        TRY(mask_insert(g));
    return graph_verify(g);
}

json_t *model_form_json(const struct model_form *form, const struct graph *g)
{
    char norm[NORMALIZE_TEXT];

    return json_pack("{s:b,s:i,s:b,s:s}", "bn_inserted", form->bn_inserted, "banks",
                     (int)form->banks, "masked", form->masked, "normalize",
                     normalize_text(&g->norm, norm));
}

static int parse_form(const char *path, const char *config, struct model_form *form, json_t **root,
                      const char **normalize)
{
    json_error_t e;
    json_t *network;
    int bn, masked;

    if ((*root = json_loads(config, JSON_REJECT_DUPLICATES, &e)) == NULL)
        return fail(ERR_FORMAT, "'%s': its config is not JSON: %s", path, e.text);
    network = json_object_get(*root, "network");
    if (json_unpack(network, "{s:b,s:i,s:b,s:s}", "bn_inserted", &bn, "banks", &form->banks,
                    "masked", &masked, "normalize", normalize) < 0 ||
        form->banks < 0 || form->banks > 2)
        return fail(ERR_FORMAT, "'%s': its config does not describe a network", path);
    form->bn_inserted = bn;
    form->masked = masked;
    return 0;
}

/* ---- opening ------------------------------------------------------------------------------- */

/* A file that could be read but is not taken; other messages name the file already. */
static bool is_refusal(int rc)
{
    return rc == ERR_FORMAT || rc == ERR_LIMIT || rc == ERR_UNSUPPORTED || rc == ERR_NUMERIC;
}

static int import_file(const struct cli_common *c, const char *path, const uint8_t *bytes,
                       size_t len, struct model *m)
{
    struct import_report report = {0};
    int rc = bytes ? onnx_import_bytes(bytes, len, -1, NULL, &report, &m->g)
                   : onnx_import(path, NULL, &report, &m->g);

    for (int32_t i = 0; rc == 0 && i < report.n_warning; i++)
        cli_note(c, "%s: warning: %s", path, report.warning[i]);
    for (int32_t i = 1; rc < 0 && i < report.n_problem && i < MOST_PROBLEMS_SHOWN; i++)
        cli_note(c, "%s: also error[%s]: %s", path, report.problem[i].code,
                 report.problem[i].message);
    if (rc < 0 && report.n_problem > MOST_PROBLEMS_SHOWN)
        cli_note(c, "%s: and %d more problems; `linnet inspect` lists all of them", path,
                 report.n_problem - MOST_PROBLEMS_SHOWN);
    import_report_release(&report);
    return is_refusal(rc) ? fail_context(rc, "%s", path) : rc;
}

static int open_checkpoint(const struct cli_common *c, const char *path, const char *normalize,
                           struct model *m)
{
    struct checkpoint_file *f = NULL;
    const char *stored;
    json_t *root = NULL;
    const uint8_t *structure;
    size_t len;
    int rc;

    if ((rc = checkpoint_open(path, &f)) < 0)
        return rc;
    if ((rc = parse_form(path, checkpoint_config(f), &m->form, &root, &stored)) < 0)
        goto out;
    if ((structure = checkpoint_structure(f, &len)) == NULL) {
        rc = fail(ERR_FORMAT, "'%s': holds no model structure", path);
        goto out;
    }
    if ((m->file = mem_array(len, 1)) == NULL ||
        (m->config = mem_strdup(checkpoint_config(f))) == NULL) {
        rc = ERR_NOMEM;
        goto out;
    }
    memcpy(m->file, structure, len);
    m->file_len = len;
    if ((rc = import_file(c, path, m->file, len, m)) < 0 ||
        (rc = model_apply_form(m->g, &m->form)) < 0 || (rc = checkpoint_read_graph(f, m->g)) < 0 ||
        (rc = model_set_normalize(m->g, normalize ? normalize : stored)) < 0)
        goto out;
    m->normalize_known = true;
    graph_touch(m->g);
out:
    json_decref(root);
    checkpoint_close(f);
    return rc;
}

static bool looks_like_safetensors(const char *path)
{
    const size_t n = strlen(path), m = strlen(".safetensors");

    return n > m && strcmp(path + n - m, ".safetensors") == 0;
}

int model_open(const struct cli_common *c, const char *path, const char *normalize,
               struct model *out)
{
    struct model m = {0};
    int rc;

    m.is_checkpoint = looks_like_safetensors(path);
    if (m.is_checkpoint)
        rc = open_checkpoint(c, path, normalize, &m);
    else if ((rc = import_file(c, path, NULL, 0, &m)) == 0 &&
             (rc = file_read(path, IMPORT_MAX_FILE, &m.file, &m.file_len)) == 0 &&
             (rc = choose_normalize(c, path, normalize, &m)) == 0)
        m.form = (struct model_form){.banks = graph_banks(m.g)};
    if (rc == 0)
        rc = sha256_file(path, m.sha256);
    *out = m;
    return rc;
}

void model_close(struct model *m)
{
    graph_free(m->g);
    mem_free(m->file);
    mem_free(m->config);
    *m = (struct model){0};
}

/* ---- branches ------------------------------------------------------------------------------ */

int model_branch(const struct graph *g, const char *name, int *bank)
{
    if (strcmp(name, "clean") != 0 && strcmp(name, "adv") != 0)
        return fail(ERR_ARG, "--branch %s: is clean or adv", name);
    *bank = strcmp(name, "adv") == 0;
    if (*bank == 1 && graph_banks(g) < 2)
        return fail(ERR_ARG, "--branch adv: the model has only one batch-norm branch");
    return 0;
}
