/* What a conversion writes at its end: models, package, report.json, table; and its settings. */
#include <stdlib.h>
#include <string.h>

#include "pipeline/linearize.h"
#include "pipeline/outputs.h"
#include "core/op/op.h"
#include "trainer/data/data.h"
#include "trainer/data/normalize.h"

#define PATH_BYTES 4096
#define OVERLAP                                                                                    \
    "trained on the corruption generator: the corrupted accuracy is that of known corruptions"

/* ---- settings ------------------------------------------------------------------------------ */

char *linearize_config(const struct linearize *l, const struct graph *g)
{
    const struct model_form *form = g == l->student ? &l->student_form : &l->m.form;
    json_t *root = json_pack("{s:o,s:o,s:I,s:I,s:s,s:I}", "network", model_form_json(form, g),
                             "recipe", linearize_recipe_json(&l->o->r), "seed",
                             (json_int_t)l->c->seed, "relus", (json_int_t)l->budget, "data",
                             l->train->source, "train-images", (json_int_t)l->train->n);
    char *text = root ? json_dumps(root, JSON_SORT_KEYS | JSON_COMPACT) : NULL;

    json_decref(root);
    return text;
}

static void set_text(json_t *root, const char *key, const char *text)
{
    if (text)
        json_object_set_new(root, key, json_string(text));
}

static json_t *config_json(const struct linearize *l)
{
    const struct linearize_options *o = l->o;
    char norm[NORMALIZE_TEXT];
    json_t *root = linearize_recipe_json(&o->r);

    set_text(root, "data", o->data);
    set_text(root, "relus", o->relus);
    set_text(root, "stages", o->stages);
    set_text(root, "teacher", o->teacher);
    set_text(root, "masks", o->masks);
    set_text(root, "layer-budgets", o->budgets);
    set_text(root, "normalize", normalize_text(&l->m.g->norm, norm));
    json_object_set_new(root, "empty-cheapest", json_integer(o->empty_cheapest));
    if (o->train_limit > 0)
        json_object_set_new(root, "train-limit", json_integer(o->train_limit));
    json_object_set_new(root, "seed", json_integer(l->c->seed));
    return root;
}

int linearize_write_config(const struct linearize *l)
{
    struct cli_common to_file = *l->c;
    char path[PATH_BYTES];

    TRY(output_path(l->o->out, "config.json", path, sizeof path));
    to_file.json = path;
    if (!l->part)
        cli_note(l->c, "settings: %s", path);
    return cli_json_write(&to_file, config_json(l));
}

/* ---- report -------------------------------------------------------------------------------- */

static json_t *budget_json(const struct linearize *l)
{
    const struct graph *g = l->m.g; /* the student's sites have the same names */
    json_t *layers = json_array();

    for (int32_t s = 0; s < l->n_site; s++)
        json_array_append_new(layers,
                              json_pack("{s:s,s:I,s:I,s:f}", "name", g->node[l->site[s].node].name,
                                        "total", (json_int_t)l->site[s].total, "kept",
                                        (json_int_t)l->kept[s], "sensitivity", l->eta[s]));
    return json_pack("{s:I,s:I,s:o}", "total", (json_int_t)l->total, "kept", (json_int_t)l->budget,
                     "layers", layers);
}

static json_t *groups_json(const struct linearize *l)
{
    json_t *list = json_array();

    for (int32_t i = 0; i < l->n_group; i++) {
        const int32_t node = l->m.g->value[l->group[i]].producer;

        json_array_append_new(list, json_string(l->m.g->node[node].name));
    }
    return list;
}

static bool knows_corruptions(const struct linearize *l)
{
    return strncmp(l->o->r.augment, "corruptions", 11) == 0;
}

static json_t *report_json(struct linearize *l)
{
    static const char *const name[] = {NULL, "teacher.safetensors", "model.onnx"};
    char *config = linearize_config(l, l->m.g);
    json_t *root =
        json_pack("{s:s,s:o,s:I,s:o,s:o,s:o,s:o,s:o}", "format", "linnet.report/1", "config",
                  json_loads(config ? config : "{}", 0, NULL), "seed", (json_int_t)l->c->seed,
                  "budget", budget_json(l), "stages", metrics_stages(&l->metrics), "masks",
                  metrics_events(&l->metrics, "masks"), "attention", groups_json(l), "notes",
                  knows_corruptions(l) ? json_pack("[s]", OVERLAP) : json_array());

    free(config);
    for (int i = 0; root && i < SUMMARY_COLUMNS; i++)
        if (l->measured[i])
            json_object_set_new(root, summary_name(i),
                                summary_json(i == SUMMARY_GIVEN                      ? l->model
                                             : i == SUMMARY_TEACHER && l->o->teacher ? l->o->teacher
                                                                                     : name[i],
                                             &l->column[i]));
    return root;
}

static int write_report(struct linearize *l)
{
    struct cli_common to_file = *l->c;
    json_t *root = report_json(l);
    char path[PATH_BYTES];
    int rc;

    if (root == NULL)
        return fail(ERR_NOMEM, "no memory for the report");
    if ((rc = output_path(l->o->out, "report.json", path, sizeof path)) == 0) {
        to_file.json = path;
        rc = cli_json_write(&to_file, json_incref(root));
    }
    if (rc == 0 && !l->part)
        return cli_json_write(l->c, root);
    json_decref(root);
    return rc;
}

/* ---- models -------------------------------------------------------------------------------- */

/* Accuracies of what was measured; branches that were not stay without. */
static struct output_facts facts_of(const struct linearize *l, enum summary_column which)
{
    struct output_facts f = {.seed = l->c->seed,
                             .data = l->train,
                             .eps = l->o->r.adversarial ? l->o->r.attack_eps : 0,
                             .split = "test",
                             .recipe = recipe_kind_name(l->o->r.kind)};
    const struct eval_result *r = &l->column[which].eval;

    for (int i = 0; l->measured[which] && i < r->n_branch; i++) {
        const struct eval_branch *b = &r->branch[i];
        struct output_accuracy *a = &f.accuracy[b->bank];

        *a = (struct output_accuracy){.clean = b->clean.accuracy, .n = b->clean.n};
        if (b->n_attack > 0) {
            a->attacked = b->attack[0].score.accuracy;
            a->n_attack = b->attack[0].score.n;
        }
    }
    return f;
}

static int export_student(struct linearize *l)
{
    struct output_facts facts = facts_of(l, SUMMARY_RESULT);
    int64_t n = l->o->r.calib_images;
    float *x = NULL;
    int rc;

    facts.budget = l->budget;
    facts.total = l->total;
    if ((rc = output_calibration(l->train, &n, &x)) == 0)
        rc = output_write_all(l->c, &l->m, l->student, &facts, x, n, l->o->out);
    mem_free(x);
    return rc;
}

/* teacher.onnx, teacher.adv.onnx: what a run of the teacher's stage alone leaves. */
static int export_teacher(struct linearize *l)
{
    static const char *const name[] = {"teacher.onnx", "teacher.adv.onnx"};
    const struct export_options opt = {.form = MASK_WHERE};
    const struct output_facts facts = facts_of(l, SUMMARY_TEACHER);
    const int banks = graph_banks(l->m.g) == 2 ? 2 : 1;
    char path[PATH_BYTES];
    int rc = 0;

    for (int bank = 0; bank < banks && rc == 0; bank++) {
        struct graph *b = NULL;

        if ((rc = output_branch(&l->m, l->m.g, bank, &facts, &b)) == 0 &&
            (rc = output_path(l->o->out, name[bank], path, sizeof path)) == 0)
            rc = onnx_export(b, &opt, path);
        graph_free(b);
    }
    return rc;
}

int linearize_measure(struct linearize *l, enum summary_column which, struct graph *g)
{
    const struct summary_job s = {.c = l->c,
                                  .test = l->test,
                                  .calib = l->train,
                                  .n_calib = l->o->r.calib_images,
                                  .n_attack = l->o->eval_attack_images,
                                  .n_corrupt = l->o->eval_corrupt_images};

    TRY(summary_measure(&s, which, g, &l->column[which]));
    l->measured[which] = true;
    return 0;
}

static int check_goals(const struct linearize *l)
{
    const double clean = 100 * l->column[SUMMARY_RESULT].eval.branch[0].clean.accuracy;

    if (clean < l->o->require_clean)
        return fail(ERR_GOAL, "clean accuracy %.2f %% is below --require-clean %g", clean,
                    l->o->require_clean);
    if (l->o->max_relus >= 0 && l->budget > l->o->max_relus)
        return fail(ERR_GOAL, "%lld ReLUs kept, --max-relus %lld", (long long)l->budget,
                    (long long)l->o->max_relus);
    return 0;
}

int linearize_finish(struct linearize *l)
{
    if (!l->brief)
        TRY(linearize_measure(l, SUMMARY_TEACHER, l->m.g));
    if (l->student)
        TRY(linearize_measure(l, SUMMARY_RESULT, l->student));
    else
        l->column[SUMMARY_RESULT] = l->column[SUMMARY_TEACHER];
    TRY(l->student ? export_student(l) : export_teacher(l)); /* with its accuracies */
    TRY(write_report(l));
    if (l->part)
        return 0;
    summary_print(cli_out(l->c), l->column);
    if (knows_corruptions(l))
        fprintf(cli_out(l->c), "Note: " OVERLAP ".\n");
    return check_goals(l);
}
