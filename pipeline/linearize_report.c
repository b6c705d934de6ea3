/* The report of a conversion; see linearize_report.h. */
#include "pipeline/linearize_report.h"

#include "core/base/json.h"

#include <string.h>

#include "pipeline/precision.h"

#define OVERLAP                                                                                    \
    "trained on the corruption generator: the corrupted accuracy is that of known corruptions"

#define SYNTHETIC                                                                                  \
    "synthetic test images: their classes lie far apart, so even a network without robust training may keep some accuracy under attack; on CIFAR-10 its clean branch keeps none"

static json_t *budget_json(const struct conversion *c)
{
    const struct quota *q = &c->quota;
    const struct graph *g = c->run.m.g; /* the student's sites have the same names */
    json_t *layers = json_array();
    int64_t evaluations = 0;

    for (int32_t s = 0; s < q->n_site; s++) {
        struct relu_site site = q->site[s];

        site.kept = q->kept[s];
        evaluations += relu_evaluations(&site);
        json_add(&layers,
                 json_pack("{s:s,s:I,s:I,s:I,s:f}", "name", g->node[site.node].name, "total",
                           (json_int_t)site.total, "kept", (json_int_t)site.kept, "evaluations",
                           (json_int_t)relu_evaluations(&site), "sensitivity", q->eta[s]));
    }
    return json_pack("{s:I,s:I,s:I,s:o}", "total", (json_int_t)q->total, "kept",
                     (json_int_t)q->want, "evaluations", (json_int_t)evaluations, "layers", layers);
}

static json_t *groups_json(const struct conversion *c)
{
    const struct graph *g = c->run.m.g;
    json_t *list = json_array();

    for (int32_t i = 0; i < c->n_group; i++) {
        const int32_t node = g->value[c->group[i]].producer;

        json_add(&list, json_string(g->node[node].name));
    }
    return list;
}

/* Empty where the images have no names. */
static json_t *names_json(const struct dataset *d)
{
    json_t *list = json_array();

    for (int32_t k = 0; d->class_name != NULL && k < d->classes; k++)
        json_add(&list, json_text(d->class_name[k]));
    return list;
}

static bool knows_corruptions(const struct conversion *c)
{
    return strncmp(c->o->r.augment, "corruptions", 11) == 0;
}

static bool is_synthetic(const struct conversion *c)
{
    return c->run.test != NULL && strncmp(c->run.test->source, "synth", 5) == 0;
}

static json_t *notes_json(const struct conversion *c)
{
    json_t *notes = json_array();

    if (knows_corruptions(c))
        json_add(&notes, json_string(OVERLAP));
    if (is_synthetic(c))
        json_add(&notes, json_string(SYNTHETIC));
    return notes;
}

json_t *linearize_report_json(const struct linearize_facts *f)
{
    const struct conversion *c = f->c;
    static const char *const name[] = {NULL, "teacher.safetensors", "model.onnx"};
    char *config = conversion_config(c, &c->run.m.form, c->run.m.g);
    json_t *root = json_pack(
        "{s:s,s:s,s:o,s:I,s:o,s:o,s:o,s:o,s:o}", "format", "linnet.report/1", "precision",
        exec_precision_name(precision_of(c->o->r.precision, true)), "config",
        config != NULL ? json_loads(config, 0, NULL) : NULL, "seed", (json_int_t)c->run.seed,
        "budget", budget_json(c), "stages", metrics_stages(&c->run.metrics), "masks",
        metrics_events(&c->run.metrics, "masks"), "attention", groups_json(c), "notes",
        notes_json(c));

    mem_free(config);
    if (c->o->r.bn_shards > 1)
        json_put(&root, "bn_shards", json_integer(c->o->r.bn_shards));
    json_put(&root, "class_names", names_json(c->run.test));
    for (int i = 0; root && i < SUMMARY_COLUMNS; i++)
        if (f->measured[i])
            json_put(&root, summary_name(i),
                     summary_json(i == SUMMARY_GIVEN                      ? f->path
                                  : i == SUMMARY_TEACHER && c->o->teacher ? c->o->teacher
                                                                          : name[i],
                                  &f->column[i]));
    return root;
}

void linearize_report_print(FILE *out, const void *facts)
{
    const struct linearize_facts *f = facts;

    summary_print(out, f->column);
    if (f->c->o->r.bn_shards > 1)
        fprintf(out, "Batch norm took its statistics from each of %lld shards of a batch.\n",
                (long long)f->c->o->r.bn_shards);
    if (knows_corruptions(f->c))
        fprintf(out, "Note: " OVERLAP ".\n");
    if (is_synthetic(f->c))
        fprintf(out, "Note: " SYNTHETIC ".\n");
}
