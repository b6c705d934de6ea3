/*
 * Task "sweep": several ReLU budgets from one teacher.
 *
 *     DIR/teacher/       the teacher: trained, or measured where --teacher gives it
 *     DIR/relus-10p/     one folder a budget, as linearize writes it
 *     DIR/sweep.json     all of them in one file
 *
 * A budget whose report is there is not run again; an interrupted one continues. Both need --resume,
 * and settings equal to those in the folder's config.json.
 *
 * Several ranks (core/base/ranks.h) train the teacher together, then split into groups, as many as there are budgets
 * or ranks; group g takes budgets g, g + groups, ... So each rank works on fewer budgets with fewer others to wait for,
 * and the files are the same, since they do not depend on the number of ranks.
 */
#include <string.h>
#include <unistd.h>

#include "pipeline/linearize.h"
#include "pipeline/listener.h"
#include "pipeline/outputs.h"
#include "pipeline/page/page.h"
#include "pipeline/page/run.h"
#include "pipeline/report.h"
#include "pipeline/tasks.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/ranks.h"

#define PATH_BYTES 4096
#define BUDGET_BYTES 64
#define TEACHER_STAGE "teacher"

struct sweep {
    const struct linnet_listener *l;
    const struct linearize_options *o;
    const char *path; /* of the model */
    uint64_t seed;
    json_t *teacher; /* report of the teacher's run */
    json_t *budgets; /* list of reports */
    bool planned;    /* the listener has heard the plan */
    struct lock *lock;
};

/* ---- files --------------------------------------------------------------------------------- */

/* The first of the options about images that `had` records otherwise; NULL: none. */
static const char *other_images(const struct source_options *s, const json_t *had)
{
    const struct {
        const char *key, *now;
    } text[] = {
        {"test-data", s->test}, {"val-data", s->val}, {"resize", s->resize}, {"crop", s->crop}};

    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
        const char *then = json_string_value(json_object_get(had, text[i].key));
        if ((then == NULL) != (text[i].now == NULL) ||
            (then != NULL && strcmp(then, text[i].now) != 0))
            return text[i].key;
    }
    return json_is_true(json_object_get(had, "random-crop")) == s->random ? NULL : "random-crop";
}

/* The first of the options, recorded only where they are on, that `had` records otherwise. */
static const char *other_option(const struct linearize_options *o, const json_t *had)
{
    const json_t *shards = json_object_get(had, "bn-shards");

    if (o->r.bn_shards != (shards != NULL ? json_integer_value(shards) : 1))
        return "bn-shards";
    return other_images(&o->open.images, had);
}

/* Every setting of this run has the value that `had` records. */
static int same_settings(const struct linearize_options *o, uint64_t seed, const char *path,
                         const json_t *had)
{
    SCOPED(json_decref_at) json_t *now = linearize_recipe_json(&o->r);
    const char *key, *other = NULL;
    json_t *v;

    json_put(&now, "data", json_text(o->open.data));
    json_put(&now, "seed", json_integer((json_int_t)seed));
    json_object_foreach(now, key, v)
    {
        if (other == NULL && !json_equal(v, json_object_get(had, key)))
            other = key;
    }
    other = other != NULL ? other : other_option(o, had);
    return other == NULL
               ? 0
               : fail(
                     ERR_ARG,
                     "'%s' was made with another --%s; take another -o, or the settings of that file",
                     path, other);
}

/* The report of an earlier run in this folder, if it is finished and was made with these settings. */
static int finished_report(const struct linearize_options *o, uint64_t seed, json_t **out)
{
    char report[PATH_BYTES], config[PATH_BYTES];
    SCOPED(json_decref_at) json_t *had = NULL;

    *out = NULL;
    TRY(output_path(o->out, "report.json", report, sizeof report));
    TRY(output_path(o->out, "config.json", config, sizeof config));
    if (!o->resume || access(report, F_OK) != 0 || access(config, F_OK) != 0)
        return 0;
    TRY(json_read(config, REPORT_LIMIT, &had));
    TRY(same_settings(o, seed, config, had));
    return json_read(report, REPORT_LIMIT, out);
}

/* ---- runs ---------------------------------------------------------------------------------- */

/* Runs one conversion, or takes the report of the run that was. later: the budgets after it. */
static int run_one(struct sweep *s, const struct linearize_options *o, bool brief,
                   const char *later, json_t **report)
{
    const struct linearize_job job = {.l = s->l,
                                      .o = o,
                                      .path = s->path,
                                      .seed = s->seed,
                                      .part = true,
                                      .brief = brief,
                                      .sweep = s->o,
                                      .later = s->planned ? NULL : later};
    char path[PATH_BYTES];

    TRY(finished_report(o, s->seed, report));
    ranks_meet(); /* all have looked */
    if (*report) {
        listener_note(s->l, "%s: finished before", o->out);
        return 0;
    }
    TRY(output_path(o->out, "report.json", path, sizeof path));
    s->planned = true;
    TRY(linearize_run(&job, NULL));
    ranks_meet(); /* the first has written it */
    return json_read(path, REPORT_LIMIT, report);
}

static int run_teacher(struct sweep *s, char *checkpoint)
{
    struct linearize_options o = *s->o;
    char folder[PATH_BYTES];

    TRY(output_path(s->o->out, "teacher", folder, sizeof folder));
    o.out = folder;
    o.relus = NULL;
    o.stages = TEACHER_STAGE;
    o.r.stage[STAGE_MASK].epochs = o.r.stage[STAGE_FINETUNE].epochs = 0;
    TRY(run_one(s, &o, false, s->o->relus, &s->teacher));
    return output_path(folder, "teacher.safetensors", checkpoint, PATH_BYTES);
}

/* "10%" -> "relus-10p" */
static void folder_name(const char *budget, size_t n, char name[64])
{
    snprintf(name, 64, "relus-%.*s", (int)n, budget);
    for (char *p = name; *p; p++)
        if (*p == '%')
            *p = 'p';
}

static int run_budget(struct sweep *s, const char *text, const char *later, const char *teacher)
{
    struct linearize_options o = *s->o;
    char folder[PATH_BYTES], name[64];
    json_t *report = NULL;

    folder_name(text, strlen(text), name);
    TRY(output_path(s->o->out, name, folder, sizeof folder));
    o.out = folder;
    o.relus = text;
    o.teacher = teacher;
    o.r.stage[STAGE_TEACHER].epochs = 0;
    listener_note(s->l, "budget %s: %s", text, folder);
    TRY(run_one(s, &o, true, later, &report));
    json_decref(report);
    return 0;
}

/* The report of a budget that is done, by whatever group. */
static int take_report(struct sweep *s, const char *text)
{
    char folder[PATH_BYTES], path[PATH_BYTES], name[64];
    json_t *report = NULL;

    folder_name(text, strlen(text), name);
    TRY(output_path(s->o->out, name, folder, sizeof folder));
    TRY(output_path(folder, "report.json", path, sizeof path));
    TRY(json_read(path, REPORT_LIMIT, &report));
    json_put(&report, "relus", json_string(text));
    json_put(&report, "folder", json_string(name));
    return json_array_append_new(s->budgets, report) < 0 ? ERR_NOMEM : 0;
}

/* ---- table --------------------------------------------------------------------------------- */

struct cell {
    char text[16];
};

static struct cell number(const json_t *v, const char *format)
{
    struct cell c = {"-"};

    if (json_is_number(v))
        snprintf(c.text, sizeof c.text, format, json_number_value(v));
    return c;
}

static void print_branch(FILE *out, const json_t *eval, const char *name)
{
    const json_t *b = page_branch(eval, name);
    const json_t *clean = json_object_get(json_object_get(b, "clean"), "accuracy");
    const json_t *bad = json_object_get(json_object_get(b, "corruptions"), "mean");
    const json_t *attack = json_array_get(json_object_get(b, "attacks"), 0);

    fprintf(out, " %8s %9s %7s", number(clean, "%.2f").text, number(bad, "%.2f").text,
            number(json_object_get(attack, "accuracy"), "%.2f").text);
}

static void print_row(FILE *out, const char *name, const json_t *eval)
{
    fprintf(out, "%-10s %9s", name, number(json_object_get(eval, "relus"), "%.0f").text);
    print_branch(out, eval, page_branch(eval, "single") ? "single" : "clean");
    print_branch(out, eval, "adv");
    fprintf(out, " %9s\n", number(json_object_get(eval, "pi_online_seconds"), "%.3f").text);
}

static void print_table(FILE *out, const void *facts)
{
    const struct sweep *s = facts;
    size_t i;
    json_t *b;

    fprintf(out, "%-10s %9s %-27s %-26s %9s\n", "", "", "  clean branch, or single",
            "  adversarial branch", "online");
    fprintf(out, "%-10s %9s %8s %9s %7s %8s %9s %7s %9s\n", "", "ReLUs", "clean %", "corrupt %",
            "PGD-20", "clean %", "corrupt %", "PGD-20", "s");
    print_row(out, "given", json_object_get(s->teacher, "given"));
    print_row(out, "teacher", json_object_get(s->teacher, "teacher"));
    json_array_foreach(s->budgets, i, b) print_row(
        out, json_string_value(json_object_get(b, "relus")), json_object_get(b, "result"));
    fprintf(
        out,
        "Test images; intervals, attacks and corruptions: sweep.json. Online: estimate for the deployed file, garbled ReLUs (gc), LAN 3 Gbit/s, 0.3 ms.\n");
}

/* ---- the task ------------------------------------------------------------------------------- */

/* Copies the next budget of "A,B,C"; *list is NULL after the last. */
static int next_budget(const char **list, char text[BUDGET_BYTES])
{
    const size_t n = strcspn(*list, ",");

    if (n == 0 || n >= BUDGET_BYTES)
        return fail(ERR_ARG, "--relus '%s': counts or shares with commas between", *list);
    snprintf(text, BUDGET_BYTES, "%.*s", (int)n, *list);
    *list = (*list)[n] == ',' ? *list + n + 1 : NULL;
    return 0;
}

/* A slip in the last budget shows before hours go into the first; the network is not open yet. */
static int check_budgets(const char *list)
{
    char text[BUDGET_BYTES], other[BUDGET_BYTES];

    while (list != NULL) {
        TRY(next_budget(&list, text));
        TRY(linearize_check_relus(text));
        for (const char *rest = list; rest != NULL;) {
            TRY(next_budget(&rest, other));
            if (strcmp(text, other) == 0)
                return fail(ERR_ARG, "--relus: '%s' is there twice", text);
        }
    }
    return 0;
}

static int check(const struct linearize_options *o)
{
    if (o->relus == NULL)
        return fail(ERR_ARG, "give --relus A,B,C: counts, or shares such as 50%%,10%%");
    if (o->masks || o->stages)
        return fail(ERR_ARG, "--%s: not in a sweep; linearize has it",
                    o->masks ? "masks" : "stages");
    TRY(check_budgets(o->relus));
    return 0;
}

/* Of "A,B,C" those of group g: "A,C" is the first one's of two. */
static void own_budgets(const char *list, int g, int groups, char *own)
{
    char *end = own;

    *own = '\0';
    for (int i = 0; list != NULL; i++) {
        const size_t n = strcspn(list, ",");

        if (i % groups == g)
            end += sprintf(end, "%s%.*s", end > own ? "," : "", (int)n, list);
        list = list[n] == ',' ? list + n + 1 : NULL;
    }
}

static int run_list(struct sweep *s, const char *list, const char *teacher)
{
    char text[BUDGET_BYTES];

    while (list != NULL) {
        TRY(next_budget(&list, text));
        TRY(run_budget(s, text, list != NULL ? list : "", teacher));
    }
    return 0;
}

static int run_groups(struct sweep *s, const char *teacher)
{
    int budgets = 1, groups, rc;

    for (const char *p = s->o->relus; *p; p++)
        budgets += *p == ',';
    groups = budgets < ranks_count() ? budgets : ranks_count();
    OWNED char *own = mem_array(strlen(s->o->relus) + 1, 1);
    if (own == NULL)
        return ERR_NOMEM;
    if (groups > 1)
        listener_note(s->l, "%d ranks work on %d budgets in %d groups; this is the first one's",
                      ranks_count(), budgets, groups);
    own_budgets(s->o->relus, ranks_split(groups), groups, own);
    rc = run_list(s, own, teacher);
    if (rc < 0 && rc != ERR_INTERRUPTED)
        return rc; /* which ends all groups */
    if (rc == ERR_INTERRUPTED)
        (void)ranks_asked(true);
    ranks_join();
    return ranks_agree(rc);
}

static int run_all(struct sweep *s)
{
    char checkpoint[PATH_BYTES], text[BUDGET_BYTES];

    TRY(check(s->o));
    TRY(output_claim(s->o->out, &s->lock));
    TRY(run_teacher(s, checkpoint));
    TRY(run_groups(s, access(checkpoint, F_OK) == 0 ? checkpoint : s->o->teacher));
    for (const char *list = s->o->relus; list != NULL;) {
        TRY(next_budget(&list, text));
        TRY(take_report(s, text));
    }
    return 0;
}

static int finish(const struct sweep *s, struct linnet_report **out)
{
    char path[PATH_BYTES];
    SCOPED(json_decref_at)
    json_t *root =
        json_pack("{s:s,s:o,s:I,s:O,s:O}", "format", "linnet.sweep/1", "model", json_text(s->path),
                  "seed", (json_int_t)s->seed, "teacher", s->teacher, "budgets", s->budgets);

    TRY(output_path(s->o->out, "sweep.json", path, sizeof path));
    TRY(report_write(path, json_incref(root)));
    TRY(output_path(s->o->out, "report.html", path, sizeof path));
    TRY(page_write(&s->o->out, 1, path));
    return report_new(print_table, s, json_incref(root), out);
}

int linnet_sweep(const char *path, const struct linnet_options *o, const struct linnet_listener *l,
                 struct linnet_report **out)
{
    struct linearize_options settings;
    struct sweep s = {.l = l, .o = &settings, .path = path};
    const void *raw;
    int rc;

    if (out != NULL)
        *out = NULL;
    TRY(options_read(o, &sweep_task, &raw));
    TRY(linearize_options_read(o, &settings));
    s.seed = options_seed(o);
    if ((s.budgets = json_array()) == NULL)
        return ERR_NOMEM;
    if ((rc = run_all(&s)) == 0)
        rc = finish(&s, out);
    json_decref(s.teacher);
    json_decref(s.budgets);
    lock_release(s.lock);
    return rc;
}
