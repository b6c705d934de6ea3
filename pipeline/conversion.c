/* What the stages of a conversion do alike; see conversion.h. */
#include "pipeline/conversion.h"

#include "pipeline/listener.h"
#include "trainer/train/checkpoint.h"

char *conversion_config(const struct conversion *c, const struct model_form *form,
                        const struct graph *g)
{
    const struct run *r = &c->run;
    json_t *root = json_pack("{s:o,s:o,s:I,s:I,s:s,s:I}", "network", model_form_json(form, g),
                             "recipe", linearize_recipe_json(&c->o->r), "seed", (json_int_t)r->seed,
                             "relus", (json_int_t)c->quota.want, "data", r->train->source,
                             "train-images", (json_int_t)r->train->n);
    char *text = root ? json_dumps(root, JSON_SORT_KEYS | JSON_COMPACT) : NULL;

    json_decref(root);
    return text;
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
    return 0;
}

int conversion_take_finished(const struct conversion *c, const char *path, struct graph *g)
{
    struct checkpoint_file *f = NULL;
    int rc;

    TRY(checkpoint_open(path, &f));
    if (!checkpoint_is_done(f))
        rc = fail(ERR_ARG, "'%s': the stage '%s' is not finished, and --stages leaves it out", path,
                  checkpoint_stage(f));
    else
        rc = checkpoint_read_graph(f, g);
    if (rc == 0)
        listener_note(c->run.l, "%s: taken as it is", path);
    else
        fail_context(rc, "cannot continue from '%s'", path);
    checkpoint_close(f);
    return rc;
}
