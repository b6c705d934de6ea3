/* Task "eval": clean, attacked and corrupted accuracy of a model or a checkpoint. */
#include <string.h>

#include "core/base/json.h"
#include "pipeline/attack_state.h"
#include "pipeline/auto_normalize.h"
#include "pipeline/audit_report.h"
#include "pipeline/eval_report.h"
#include "pipeline/listener.h"
#include "pipeline/network.h"
#include "pipeline/precision.h"
#include "pipeline/profile_report.h"
#include "pipeline/report.h"
#include "pipeline/source.h"
#include "pipeline/tasks.h"
#include "trainer/corrupt/set.h"
#include "trainer/data/normalize.h"
#include "trainer/eval/eval.h"

#define TASK "eval"

struct eval_settings {
    struct open_options open;
    const char *split, *branch, *corruptions, *types, *severities, *state, *frost, *transfer;
    struct value_texts attack;
    bool audit, profile;
    int64_t limit, batch;
    double require_clean;
};
#define FIELD(f) offsetof(struct eval_settings, f)
static const struct option_row rows[] = {
    DATA_ROW(DATA_HELP),
    TEST_ROW,
    VAL_ROW,
    IMAGE_ROWS,
    OPTION("split", 0, OPTION_TEXT, FIELD(split), "test|val|train|all",
           "which images (default test; of one set without parts all)"),
    NORMALIZE_ROW(NORMALIZE_AUTO_HELP),
    OPTION("branch", 0, OPTION_TEXT, FIELD(branch), BRANCH_WORDS "|both",
           "BN branches (default both)"),
    OPTION(
        "attack", 'a', OPTION_TEXTS, FIELD(attack), "SPEC",
        "NAME[:KEY=VALUE,...], such as pgd:eps=8/255,alpha=2/255,steps=20,restarts=1 or autoattack:fast,eps=4/255; one of " ATTACK_WORDS
        "; may be repeated"),
    OPTION("state", 0, OPTION_OUTPUT, FIELD(state), "FILE",
           "save the progress of attacks here; an existing file is resumed"),
    OPTION(
        "corruptions", 0, OPTION_INPUT, FIELD(corruptions), "synth|DIR",
        "evaluate under corruptions: generated on the fly, or the files of a CIFAR-10-C style folder"),
    OPTION("types", 0, OPTION_TEXT, FIELD(types), "T,T,...",
           "corruption types (default: all standard ones available):" CORRUPT_WORDS),
    OPTION("severities", 0, OPTION_TEXT, FIELD(severities), "1,2,...",
           "corruption severities, as in 1-5 or 1,3 (default: all five, or those of the folder)"),
    OPTION("frost-dir", 0, OPTION_INPUT, FIELD(frost), "DIR",
           "folder with frost1.png ... frost5.jpg; generated corruptions then include frost"),
    NUMBER("limit", 0, OPTION_INT, FIELD(limit), "N", "use the first N images only", 1, 1e9),
    NUMBER("batch", 0, OPTION_INT, FIELD(batch), "N", "images per batch (default 256, attacks 250)",
           1, 65536),
    NUMBER("require-clean", 0, OPTION_REAL, FIELD(require_clean), "P",
           "exit 6 if the deployed BN branch is less than P per cent accurate", 0, 100),
    OPTION(
        "audit", 0, OPTION_FLAG, FIELD(audit), NULL,
        "gradient-masking checks on the first 200 images (--limit), with PGD, APGD, Square, noise"),
    OPTION("transfer-from", 0, OPTION_INPUT, FIELD(transfer), "MODEL",
           "--audit: also try adversarial images made on this model, such as the teacher"),
    OPTION("profile", 0, OPTION_FLAG, FIELD(profile), NULL,
           "time by layer: milliseconds, share, GFLOP/s; inference and the attacks' gradients"),
    OPEN_ROWS,
    PRECISION_ROW(FIELD(open.precision), "fp32"),
    OPTION_END};
static const struct eval_settings defaults = {.branch = "both", .open.precision = PRECISION_FP32};

static int check(const struct linnet_options *o)
{
    const struct eval_settings *s = options_values(o);

    if (s->open.data == NULL)
        return fail(ERR_ARG, "give --data SRC, for example --data cifar10:DIR or --data synth:");
    return 0;
}
const struct task eval_task = {TASK, rows, &defaults, sizeof defaults, check, true};

/* One evaluation. */
struct job {
    const struct linnet_listener *l;
    const struct eval_settings *o;
    uint64_t seed;
    const struct model *m;
    struct model_branches names;
    struct dataset *d;
    struct attack_spec *specs;     /* [EVAL_MAX_ATTACKS] */
    struct attack_state *state;    /* NULL without --state */
    struct corrupt_photos *photos; /* NULL without --frost-dir */
    struct eval_result *r;
    struct audit_result *audit; /* [n_audit] by branch, NULL without --audit */
    int32_t n_audit;
    struct profile infer, gradient; /* with --profile */
};

static int on_progress(void *ctx, int64_t done, int64_t all)
{
    struct job *j = ctx;

    listener_progress(j->l, TASK, (double)done / (double)(all > 0 ? all : 1),
                      "%lld of at most %lld passes", (long long)done, (long long)all);
    if (!listener_stops(j->l))
        return 0;
    return fail(ERR_INTERRUPTED, "stopped; %s",
                j->state ? "the same command continues"
                         : "without --state FILE an evaluation starts anew");
}

static int on_load(void *ctx, int branch, int32_t attack, struct attack_progress *p)
{
    const struct job *j = ctx;

    return j->state ? attack_state_load(j->state, branch, attack, p) : 0;
}

static int on_save(void *ctx, int branch, int32_t attack, const struct attack_progress *p)
{
    const struct job *j = ctx;

    return j->state ? attack_state_save(j->state, branch, attack, p) : 0;
}

/* ---- settings ------------------------------------------------------------------------------ */

static bool is_deployed_one(const struct job *j, const struct eval_options *e)
{
    return j->names.deployed >= 0 && e->branch[j->names.deployed];
}

static int choose_branches(const struct job *j, struct eval_options *e)
{
    int branch = 0;

    if (strcmp(j->o->branch, "both") != 0)
        TRY(model_branch(j->m->g, j->o->branch, &branch));
    else
        e->branch[1] = graph_branches(j->m->g) == 2;
    e->branch[branch] = true;
    if (j->o->require_clean > 0 && !is_deployed_one(j, e))
        return fail(
            ERR_ARG,
            "--require-clean guards the deployed branch, 'clean', and '%s' is evaluated alone; name its file, or leave --branch out",
            j->names.name[branch]);
    return 0;
}

static int translate(struct job *j, struct eval_options *e)
{
    const struct eval_settings *o = j->o;
    const bool synth = o->corruptions && strcmp(o->corruptions, "synth") == 0;

    *e = (struct eval_options){.limit = o->limit,
                               .batch = o->batch,
                               .seed = j->seed,
                               .precision = precision_of(o->open.precision, false),
                               .attacks = precision_of(o->open.precision, true),
                               .specs = j->specs,
                               .n_specs = o->attack.n,
                               .flags = o->attack.n > 0,
                               .corruptions = o->corruptions ? (o->types ? o->types : "all") : NULL,
                               .folder = synth ? NULL : o->corruptions,
                               .ctx = j,
                               .progress = on_progress,
                               .attack_load = on_load,
                               .attack_save = on_save};
    TRY(choose_branches(j, e));
    if (o->attack.n > EVAL_MAX_ATTACKS)
        return fail(ERR_ARG, "--attack: at most %d", EVAL_MAX_ATTACKS);
    for (int32_t i = 0; i < o->attack.n; i++)
        TRY(attack_spec_parse(o->attack.v[i], &j->specs[i]));
    return o->severities != NULL ? corrupt_severities(o->severities, &e->severities) : 0;
}

/* What the flags of a state file belong to. */
static json_t *identity(const struct job *j, const struct eval_options *e)
{
    const struct dataset *d = j->d;
    char sha[SHA256_HEX], text[ATTACK_TEXT], norm[NORMALIZE_TEXT];
    json_t *attacks = json_array();

    for (int32_t i = 0; i < e->n_specs; i++)
        for (int32_t s = 0; s < e->specs[i].n_stage; s++)
            json_add(&attacks, json_string(attack_stage_text(&e->specs[i].stage[s], text)));
    return json_pack("{s:s,s:s,s:s,s:o,s:s,s:I,s:I,s:I,s:s,s:o}", "model_sha256",
                     sha256_hex(j->m->sha256, sha), "normalize",
                     normalize_text(&j->m->g->norm, norm), "branch", j->o->branch, "data",
                     json_text(d->source), "split", d->split, "n",
                     (json_int_t)(e->limit > 0 && e->limit < d->n ? e->limit : d->n), "batch",
                     (json_int_t)e->batch, "seed", (json_int_t)e->seed, "precision",
                     exec_precision_name(e->attacks), "attacks", attacks);
}

/* ---- measuring ----------------------------------------------------------------------------- */

static int open_data(struct job *j)
{
    enum data_split split;

    TRY(data_split_parse(j->o->split, &split));
    TRY(source_open_alone(j->o->open.data, &j->o->open.images, split, j->seed, &j->d));
    listener_note(j->l, "%s, split %s", j->d->source, j->d->split);
    return source_check(j->d, j->m->g);
}

static int measure(struct job *j, struct eval_options *e)
{
    const struct eval_settings *o = j->o;
    int rc;

    if (o->frost)
        TRY(source_refusal(corrupt_photos_open(o->frost, &j->photos)));
    e->photos = j->photos;
    if (o->corruptions && !e->folder && !o->types && !o->frost)
        listener_note(j->l, "corruptions: 14 of 15 types, frost needs its photos (--frost-dir)");
    if (o->state)
        TRY(attack_state_open(o->state, identity(j, e), &j->state));
    if (o->profile) {
        TRY(profile_begin(&j->infer, j->m->g));
        TRY(profile_begin(&j->gradient, j->m->g));
        e->infer_profile = &j->infer;
        e->gradient_profile = &j->gradient;
    }
    listener_begin(j->l, TASK);
    rc = eval_run(j->m->g, j->d, e, j->r);
    listener_end(j->l, TASK);
    return rc;
}

/* Every branch: one that was never trained, or pixels of another kind. */
static void warn_chance(const struct job *j)
{
    const int64_t classes = j->m->g->value[j->m->g->output].shape.dim[1];

    for (int32_t i = 0; i < j->r->n_branch; i++)
        normalize_warn_chance(j->l, j->m->path, j->r->branch[i].clean.accuracy,
                              j->r->branch[i].clean.n, classes);
}

static int on_tick(void *ctx, int64_t forwards)
{
    const struct job *j = ctx;

    (void)forwards;
    return listener_stops(j->l) ? fail(ERR_INTERRUPTED, "stopped in the audit") : 0;
}

/* The audit of every branch that was evaluated. */
static int run_audit(struct job *j)
{
    const struct eval_settings *o = j->o;
    const struct open_options as_ours = {.normalize = o->open.normalize};
    struct audit_options a = {.limit = o->limit,
                              .batch = o->batch,
                              .seed = j->seed,
                              .precision = precision_of(o->open.precision, true),
                              .tick = on_tick,
                              .ctx = j};
    SCOPED(model_close) struct model teacher = {0};

    if ((j->audit = mem_array((size_t)j->r->n_branch, sizeof *j->audit)) == NULL)
        return ERR_NOMEM;
    if (o->transfer)
        TRY(model_open(j->l, o->transfer, &as_ours, j->seed, &teacher));
    a.transfer = teacher.g;
    for (int32_t i = 0; i < j->r->n_branch; i++) {
        listener_note(j->l, "audit of branch %s", j->names.name[j->r->branch[i].branch]);
        a.branch = j->r->branch[i].branch;
        TRY(audit_run(j->m->g, j->d, &a, &j->audit[j->n_audit]));
        j->n_audit++;
    }
    return 0;
}

/* ---- the report ---------------------------------------------------------------------------- */

static void print(FILE *out, const void *facts)
{
    const struct job *j = facts;

    eval_report_print(out, j->m->path, j->d->split, &j->names, j->r);
    for (int32_t i = 0; i < j->n_audit; i++)
        audit_report_print(out, j->names.name[j->r->branch[i].branch], &j->audit[i]);
    if (j->infer.node == NULL)
        return;
    profile_report_print(out, "inference", &j->infer);
    profile_report_print(out, "the attacks' gradients", &j->gradient);
}

static void add_audit(json_t **root, int32_t branch, const struct audit_result *a)
{
    json_t *row = json_array_get(json_object_get(*root, "branches"), (size_t)branch);

    if (json_object_set_new(row, "audit", audit_report_json(a)) == 0)
        return;
    json_decref(*root);
    *root = NULL;
}

static json_t *to_json(const struct job *j)
{
    char sha[SHA256_HEX];
    json_t *root = eval_report_json(j->m->path, j->d->split, &j->names, j->r);

    json_put(&root, "model_sha256", json_string(sha256_hex(j->m->sha256, sha)));
    json_put(&root, "data", json_text(j->d->source));
    json_put(&root, "seed", json_integer((json_int_t)j->seed));
    for (int32_t i = 0; i < j->n_audit && root != NULL; i++)
        add_audit(&root, i, &j->audit[i]);
    if (j->infer.node != NULL)
        json_put(&root, "profile",
                 json_pack("{s:o,s:o}", "inference", profile_report_json(&j->infer), "gradients",
                           profile_report_json(&j->gradient)));
    return root;
}

static int check_goal(const struct job *j)
{
    for (int32_t i = 0; i < j->r->n_branch; i++) {
        const double clean = 100 * j->r->branch[i].clean.accuracy;

        if (j->r->branch[i].branch == j->names.deployed && clean < j->o->require_clean)
            return fail(ERR_GOAL,
                        "clean accuracy %.2f %% of the deployed branch is below --require-clean %g",
                        clean, j->o->require_clean);
    }
    return 0;
}

static int evaluate(struct job *j, struct linnet_report **out)
{
    struct eval_options e;

    j->specs = mem_array(EVAL_MAX_ATTACKS, sizeof *j->specs);
    j->r = mem_array(1, sizeof *j->r);
    if (j->specs == NULL || j->r == NULL)
        return ERR_NOMEM;
    TRY(translate(j, &e));
    TRY(open_data(j));
    TRY(measure(j, &e));
    warn_chance(j);
    if (j->o->audit)
        TRY(run_audit(j));
    TRY(report_new(print, j, to_json(j), out));
    return check_goal(j);
}

int linnet_evaluate(struct linnet_model *m, const struct linnet_options *o,
                    const struct linnet_listener *l, struct linnet_report **out)
{
    struct job j = {.l = l, .m = &m->m};
    int rc;

    if (out != NULL)
        *out = NULL;
    TRY(options_read(o, &eval_task, (const void **)&j.o));
    j.seed = options_seed(o);
    j.names = model_branches(m->m.g);
    rc = evaluate(&j, out);
    attack_state_close(j.state);
    corrupt_photos_close(j.photos);
    mem_free(j.audit);
    profile_end(&j.infer);
    profile_end(&j.gradient);
    data_close(j.d);
    mem_free(j.r);
    mem_free(j.specs);
    return rc;
}
