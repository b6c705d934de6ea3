/* What the stages of a conversion do alike; see conversion.h. */
#include "pipeline/conversion.h"

#include "core/base/json.h"
#include "pipeline/listener.h"
#include "pipeline/source.h"
#include "trainer/train/checkpoint.h"

char *conversion_config(const struct conversion *c, const struct model_form *form,
                        const struct graph *g)
{
    const struct run *r = &c->run;
    json_t *root = json_pack("{s:o,s:o,s:I,s:I,s:o,s:I}", "network", model_form_json(form, g),
                             "recipe", linearize_recipe_json(&c->o->r), "seed", (json_int_t)r->seed,
                             "relus", (json_int_t)c->quota.want, "data",
                             json_text(r->train->source), "train-images", (json_int_t)r->train->n);
    char *text = json_spell(root, JSON_SORT_KEYS | JSON_COMPACT);

    json_decref(root);
    return text;
}

/* A network that gives targets: its input and classes must be the model's. */
static int open_teacher(const struct conversion *c, const char *option, const char *path,
                        struct model *out)
{
    const struct graph *g = c->run.m.g;

    if (path == NULL)
        return 0;
    TRY(model_open(c->run.l, path, NULL, c->run.seed, out));
    if (!shape_equal(&g->value[g->input].shape, &out->g->value[out->g->input].shape) ||
        !shape_equal(&g->value[g->output].shape, &out->g->value[out->g->output].shape))
        return fail(ERR_ARG, "%s '%s': its input or number of classes is not that of '%s'", option,
                    path, c->run.m.path);
    if (!out->normalize_known) {
        out->g->norm = g->norm;
        listener_note(c->run.l, "%s names no normalisation; it gets that of the model", path);
    }
    return 0;
}

int conversion_open(struct conversion *c)
{
    const struct linearize_options *o = c->o;
    struct source_options all = o->open.images;
    int64_t common = 0;

    TRY(open_teacher(c, "--logit-teacher", o->logit_teacher, &c->logits));
    TRY(open_teacher(c, "--clean-teacher", o->clean_teacher, &c->clean_logits));
    if (o->extra == NULL)
        return 0;
    all.test = all.val = o->extra; /* none of them is kept apart */
    TRY(source_open(o->extra, &all, DATA_TRAIN, c->run.seed, c->run.m.g, &c->extra));
    if (source_apart(c->extra, c->run.test, "test", &common) < 0 ||
        source_apart(c->extra, c->run.val, "validation", &common) < 0)
        return fail_context(ERR_DATA, "--extra");
    listener_note(c->run.l, "%s: %lld extra images, %g %% of each batch", c->extra->source,
                  (long long)c->extra->n, 100 * o->r.extra_share);
    return 0;
}

void conversion_release(struct conversion *c)
{
    model_close(&c->logits);
    model_close(&c->clean_logits);
    data_close(c->extra);
}

int conversion_deployed(const struct conversion *c, const struct graph *g)
{
    return c->o->deploy == DEPLOY_ADV && graph_branches(g) == 2;
}

/* A network with one branch for all images learns of the branch that knows their kind. */
static void set_teachers(const struct conversion *c, struct train_config *cfg)
{
    const bool one = c->o->deploy == DEPLOY_SINGLE;
    struct graph *teacher = c->logits.g;

    cfg->tap_branch = one;
    cfg->signal[TRAIN_CLEAN].g = c->clean_logits.g ? c->clean_logits.g : teacher;
    cfg->signal[TRAIN_ADVERSARIAL] = (struct train_signal){
        .g = teacher, .branch = one && graph_branches(teacher ? teacher : c->run.m.g) == 2};
}

int conversion_stage(const struct conversion *c, enum recipe_stage which, const char *file,
                     const char *config, struct stage *out)
{
    const struct run *r = &c->run;

    *out = (struct stage){0};
    if (config == NULL)
        return fail(ERR_NOMEM, "no memory for the configuration");
    TRY(recipe_train_config(&c->o->r, which, r->seed, r->train->n, &out->cfg));
    out->cfg.checkpoint = file;
    out->cfg.config_json = config;
    out->cfg.structure = r->m.file;
    out->cfg.structure_len = r->m.file_len;
    out->cfg.at_teacher = out->cfg.at_student = c->group;
    out->cfg.n_at = c->n_group;
    out->cfg.soft.budget = c->quota.want;
    out->cfg.extra = c->extra;
    out->cfg.extra_share = c->extra ? c->o->r.extra_share : 0;
    if (which != STAGE_TEACHER)
        set_teachers(c, &out->cfg);
    return 0;
}

int conversion_take_finished(const struct conversion *c, const char *path, struct graph *g)
{
    struct checkpoint_file *f = NULL;
    int rc;

    TRY(checkpoint_open(path, &f));
    if (!checkpoint_info(f)->done)
        rc = fail(ERR_ARG, "'%s': the stage '%s' is not finished, and --stages leaves it out", path,
                  checkpoint_info(f)->stage);
    else
        rc = checkpoint_read_graph(f, g);
    if (rc == 0)
        listener_note(c->run.l, "%s: taken as it is", path);
    else
        fail_context(rc, "cannot continue from '%s'", path);
    checkpoint_close(f);
    return rc;
}
