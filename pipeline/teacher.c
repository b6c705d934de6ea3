/* The teacher: taken from a file or trained; see teacher.h. */
#include "pipeline/teacher.h"

#include <string.h>
#include <unistd.h>

#include "core/graph/pass.h"
#include "linearizer/published.h"
#include "pipeline/listener.h"
#include "pipeline/outputs.h"
#include "trainer/data/normalize.h"

#define PATH_BYTES 4096

int teacher_check_relus(const char *path, const struct graph *g, int64_t *total)
{
    OWNED struct relu_site *site = NULL;
    int32_t n = 0;

    *total = 0;
    TRY(relu_sites(g, &site, &n));
    for (int32_t s = 0; s < n; s++)
        *total += site[s].total;
    for (int32_t s = 0; s < n; s++)
        if (site[s].kept < site[s].total)
            return fail(
                ERR_UNSUPPORTED,
                "'%s': node '%s' keeps %lld of %lld ReLUs; give the model that it was made from",
                path, g->node[site[s].node].name, (long long)site[s].kept,
                (long long)site[s].total);
    return 0;
}

/* The teacher takes the model's place; both must be the same network but for their numbers. */
static int check_teacher(const struct conversion *c, const struct model *t)
{
    const struct model *m = &c->run.m;
    const struct graph *a = m->g, *b = t->g;
    OWNED struct relu_site *mine = NULL, *its = NULL;
    int32_t n_mine = 0, n_its = 0;
    int64_t total;
    char na[NORMALIZE_TEXT], nb[NORMALIZE_TEXT];

    TRY(teacher_check_relus(c->o->teacher, b, &total));
    TRY(relu_sites(a, &mine, &n_mine));
    TRY(relu_sites(b, &its, &n_its));
    bool same = n_mine == n_its &&
                shape_equal(&a->value[a->input].shape, &b->value[b->input].shape) &&
                shape_equal(&a->value[a->output].shape, &b->value[b->output].shape);
    for (int32_t s = 0; same && s < n_mine; s++)
        same = mine[s].total == its[s].total;
    if (!same)
        return fail(
            ERR_ARG,
            "--teacher '%s': its input, classes or ReLU layers (%d) are not those of '%s' (%d)",
            c->o->teacher, n_its, m->path, n_mine);
    if (m->normalize_known && t->normalize_known &&
        strcmp(normalize_text(&a->norm, na), normalize_text(&b->norm, nb)) != 0)
        return fail(ERR_ARG, "--teacher '%s' was trained with another normalisation than '%s' has",
                    c->o->teacher, m->path);
    return 0;
}

int teacher_take(struct conversion *c)
{
    struct model *m = &c->run.m, t = {0};
    struct open_options how = {.images = c->o->open.images, .guess = GUESS_SURE};
    int rc;

    if (c->o->teacher == NULL)
        return 0;
    if (m->normalize_known)
        how.guess = GUESS_NEVER;
    else
        how.data = c->o->open.data;
    if ((rc = model_open(c->run.l, c->o->teacher, &how, c->run.seed, &t)) < 0 ||
        (rc = check_teacher(c, &t)) < 0) {
        model_close(&t);
        return rc;
    }
    if (!t.normalize_known)
        t.g->norm = m->g->norm;
    memcpy(t.sha256, m->sha256, sizeof t.sha256); /* what the result is made from */
    model_close(m);
    *m = t;
    listener_note(c->run.l, "teacher: %s", c->o->teacher);
    return 0;
}

/* Two branches, of which the first is deployed, whatever one the file came from. */
static int make_branches(struct graph *g)
{
    TRY(pass_dual_branch(g));
    return graph_set_meta(g, "linnet.branch", NULL);
}

int teacher_prepare(struct conversion *c)
{
    const struct recipe *r = &c->o->r;
    struct graph *g = c->run.m.g;
    struct model_form *form = &c->run.m.form;

    if (r->preset != PRESET_NONE)
        TRY(run_insert_batchnorm(&c->run, r->calib_images));
    if (r->adversarial)
        TRY(make_branches(g));
    else
        TRY(pass_select_branch(g, 0));
    if (r->as_published)
        TRY(published_share_shortcuts(g));
    if (r->adversarial && graph_branches(g) < 2)
        return fail(ERR_UNSUPPORTED,
                    "the model has no place for batch norm, so it cannot have two branches");
    form->branches = graph_branches(g);
    form->masked = true;
    form->shared_shortcuts = r->as_published;
    return mask_insert(g);
}

static int train(struct conversion *c, const char *path)
{
    struct model *m = &c->run.m;
    OWNED char *config = conversion_config(c, &m->form, m->g);
    struct stage s;

    TRY(conversion_stage(c, STAGE_TEACHER, path, config, &s));
    return stage_run(&c->run, &s, m->g, NULL);
}

int teacher_train(struct conversion *c)
{
    char path[PATH_BYTES];

    TRY(output_path(c->o->out, "teacher.safetensors", path, sizeof path));
    if (c->o->r.stage[STAGE_TEACHER].epochs > 0)
        return train(c, path);
    if (c->run.resume && !c->o->teacher && access(path, F_OK) == 0)
        return conversion_take_finished(c, path, c->run.m.g);
    return 0;
}
