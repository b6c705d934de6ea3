/* linnet eval: clean, attacked and corrupted accuracy of a model or a checkpoint. */
#include <string.h>

#include "pipeline/attack_state.h"
#include "cli/linnet/audit_report.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/linnet/eval_report.h"
#include "pipeline/model.h"
#include "cli/linnet/profile_report.h"
#include "trainer/corrupt/set.h"
#include "trainer/data/data.h"
#include "trainer/eval/eval.h"
#include "trainer/data/normalize.h"

struct options {
    const char *data, *split, *normalize, *branch, *corruptions, *types, *severities, *state,
        *frost, *transfer;
    struct cli_texts attack;
    bool audit, profile;
    int64_t limit, batch;
    double require_clean;
    struct model_source source;
};
#define FIELD(f) offsetof(struct options, f)
static const struct cli_option options[] = {
    {"data", 'd', CLI_TEXT, FIELD(data), "SRC", DATA_HELP, 0, 0},
    {"split", 0, CLI_TEXT, FIELD(split), "test|val|train", "which images (default test)", 0, 0},
    {"normalize", 0, CLI_TEXT, FIELD(normalize), "P", NORMALIZE_AUTO_HELP, 0, 0},
    {"branch", 0, CLI_TEXT, FIELD(branch), "clean|adv|both", "batch-norm branches (default both)",
     0, 0},
    {"attack", 'a', CLI_TEXTS, FIELD(attack), "SPEC",
     "NAME[:KEY=VALUE,...], such as pgd:eps=8/255,alpha=2/255,steps=20,restarts=1 or autoattack:fast,eps=4/255; one of " ATTACK_WORDS
     "; may be repeated",
     0, 0},
    {"state", 0, CLI_TEXT, FIELD(state), "FILE",
     "keeps the progress of attacks here; an existing one is continued", 0, 0},
    {"corruptions", 0, CLI_TEXT, FIELD(corruptions), "synth|DIR",
     "evaluate under corruptions: drawn here, or the files of a CIFAR-10-C style folder", 0, 0},
    {"types", 0, CLI_TEXT, FIELD(types), "T,T,...",
     "corruption types (default: the standard ones that are there):" CORRUPT_WORDS, 0, 0},
    {"severities", 0, CLI_TEXT, FIELD(severities), "1,2,...",
     "corruption severities, as in 1-5 or 1,3 (default: all five)", 0, 0},
    {"frost-dir", 0, CLI_TEXT, FIELD(frost), "DIR",
     "frost1.png ... frost5.jpg: corruptions drawn here then include frost", 0, 0},
    {"limit", 0, CLI_INT, FIELD(limit), "N", "the first N images", 1, 1e9},
    {"batch", 0, CLI_INT, FIELD(batch), "N", "images at a time (default 256, attacks 250)", 1,
     65536},
    {"require-clean", 0, CLI_REAL, FIELD(require_clean), "P",
     "exit 6 if the deployed branch stays below P per cent", 0, 100},
    {"audit", 0, CLI_FLAG, FIELD(audit), NULL,
     "gradient-masking checks on the first 200 images (--limit), with PGD, APGD, Square, noise", 0,
     0},
    {"transfer-from", 0, CLI_TEXT, FIELD(transfer), "MODEL",
     "--audit: also tries this model's PGD pictures (a teacher's)", 0, 0},
    {"profile", 0, CLI_FLAG, FIELD(profile), NULL,
     "time by layer: milliseconds, share, GFLOP/s; inference and the attacks' gradients", 0, 0},
    MODEL_OPTIONS(struct options),
    {0}};
static const struct cli_spec spec = {
    "MODEL|CHECKPOINT",
    1,
    1,
    "Accuracies with 95 % Wilson intervals.",
    "linnet eval resnet20.onnx --data cifar10:DIR --normalize imagenet --attack pgd:steps=20",
    options};

/* What runs, for the callbacks. */
struct job {
    const struct cli_common *c;
    struct cli_progress progress;
    struct attack_state *state;    /* NULL without --state */
    struct corrupt_photos *photos; /* NULL without --frost-dir */
    struct audit_result *audit;    /* [n_audit] by branch, NULL without --audit */
    int32_t n_audit;
    struct profile infer, gradient; /* with --profile */
};

static int on_progress(void *ctx, int64_t done, int64_t all)
{
    struct job *j = ctx;

    cli_progress_at(&j->progress, (double)done / (double)(all > 0 ? all : 1),
                    "%lld of at most %lld passes", (long long)done, (long long)all);
    if (!cli_interrupted())
        return 0;
    return fail(ERR_INTERRUPTED, "stopped; %s",
                j->state ? "the same command continues"
                         : "without --state FILE an evaluation starts anew");
}

static int on_load(void *ctx, int bank, int32_t attack, struct attack_progress *p)
{
    const struct job *j = ctx;

    return j->state ? attack_state_load(j->state, bank, attack, p) : 0;
}

static int on_save(void *ctx, int bank, int32_t attack, const struct attack_progress *p)
{
    const struct job *j = ctx;

    return j->state ? attack_state_save(j->state, bank, attack, p) : 0;
}

static int choose_branches(const struct options *o, const struct graph *g, struct eval_options *e)
{
    int bank = 0;

    if (strcmp(o->branch, "both") != 0)
        TRY(model_branch(g, o->branch, &bank));
    else
        e->bank[1] = graph_banks(g) == 2;
    e->bank[bank] = true;
    return 0;
}

/* Translates the options; specs[] has room for EVAL_MAX_ATTACKS. */
static int eval_setup(const struct options *o, const struct cli_common *c, const struct graph *g,
                      struct attack_spec *specs, struct eval_options *e)
{
    const bool synth = o->corruptions && strcmp(o->corruptions, "synth") == 0;

    *e = (struct eval_options){.limit = o->limit,
                               .batch = o->batch,
                               .seed = (uint64_t)c->seed,
                               .specs = specs,
                               .n_specs = o->attack.n,
                               .flags = o->attack.n > 0,
                               .corruptions = o->corruptions ? (o->types ? o->types : "all") : NULL,
                               .folder = synth ? NULL : o->corruptions};
    TRY(choose_branches(o, g, e));
    if (o->attack.n > EVAL_MAX_ATTACKS)
        return fail(ERR_ARG, "--attack: at most %d", EVAL_MAX_ATTACKS);
    for (int32_t i = 0; i < o->attack.n; i++)
        TRY(attack_spec_parse(o->attack.v[i], &specs[i]));
    return corrupt_severities(o->severities, &e->severities);
}

/* What the flags of a state file belong to. */
static json_t *identity(const struct options *o, const struct eval_options *e,
                        const struct model *m, const struct dataset *d)
{
    char sha[SHA256_HEX], text[ATTACK_TEXT], norm[NORMALIZE_TEXT];
    json_t *attacks = json_array();

    for (int32_t i = 0; i < e->n_specs; i++)
        for (int32_t s = 0; s < e->specs[i].n_stage; s++)
            json_array_append_new(attacks,
                                  json_string(attack_stage_text(&e->specs[i].stage[s], text)));
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:o}", "model_sha256",
                     sha256_hex(m->sha256, sha), "normalize", normalize_text(&m->g->norm, norm),
                     "branch", o->branch, "data", d->source, "split", d->split, "n",
                     (json_int_t)(e->limit > 0 && e->limit < d->n ? e->limit : d->n), "batch",
                     (json_int_t)e->batch, "seed", (json_int_t)e->seed, "attacks", attacks);
}

static int check_goal(const struct options *o, const struct eval_result *r)
{
    const double clean = 100 * r->branch[0].clean.accuracy;

    if (clean < o->require_clean)
        return fail(ERR_GOAL, "clean accuracy %.2f %% is below --require-clean %g", clean,
                    o->require_clean);
    return 0;
}

static int open_data(const struct cli_common *c, const struct options *o, const struct graph *g,
                     struct dataset **out)
{
    const struct shape *in = &g->value[g->input].shape;
    enum data_split split;

    TRY(data_split_parse(o->split, &split));
    TRY(cli_as_data(data_open(o->data, split, (uint64_t)c->seed, out)));
    cli_note(c, "%s, split %s", (*out)->source, (*out)->split);
    return data_check(*out, in->dim[1], in->dim[2], in->dim[3], g->value[g->output].shape.dim[1]);
}

static int run(struct job *j, const struct options *o, struct model *m, struct eval_options *e,
               const struct dataset *d, struct eval_result *r)
{
    int rc;

    if (o->frost)
        TRY(cli_as_data(corrupt_photos_open(o->frost, &j->photos)));
    e->photos = j->photos;
    if (o->corruptions && !e->folder && !o->types && !o->frost)
        cli_note(j->c, "corruptions: 14 of 15 types, frost needs its photos (--frost-dir)");
    if (o->state)
        TRY(attack_state_open(o->state, identity(o, e, m, d), &j->state));
    e->ctx = j;
    e->progress = on_progress;
    e->attack_load = on_load;
    e->attack_save = on_save;
    if (o->profile) {
        TRY(profile_begin(&j->infer, m->g));
        TRY(profile_begin(&j->gradient, m->g));
        e->infer_profile = &j->infer;
        e->gradient_profile = &j->gradient;
    }
    cli_progress_begin(&j->progress, j->c, "eval");
    rc = eval_run(m->g, d, e, r);
    cli_progress_end(&j->progress);
    return rc;
}

static int on_tick(void *ctx, int64_t forwards)
{
    (void)forwards;
    (void)ctx;
    return cli_interrupted() ? fail(ERR_INTERRUPTED, "stopped in the audit") : 0;
}

/* The audit of every branch that was evaluated. */
static int run_audit(struct job *j, const struct options *o, const struct model *m,
                     const struct dataset *d, const struct eval_result *r)
{
    struct audit_options a = {.limit = o->limit,
                              .batch = o->batch,
                              .seed = (uint64_t)j->c->seed,
                              .tick = on_tick,
                              .ctx = j};
    struct model teacher = {0};
    int rc = 0;

    if ((j->audit = mem_array((size_t)r->n_branch, sizeof *j->audit)) == NULL)
        return ERR_NOMEM;
    if (o->transfer)
        rc = model_open(j->c, o->transfer, o->normalize, &teacher);
    a.transfer = teacher.g;
    for (int32_t i = 0; rc == 0 && i < r->n_branch; i++) {
        cli_note(j->c, "audit of branch %s", eval_report_branch(r->branch[i].bank));
        a.bank = r->branch[i].bank;
        rc = audit_run(m->g, d, &a, &j->audit[j->n_audit]);
        j->n_audit += rc == 0;
    }
    model_close(&teacher);
    return rc;
}

static void report_profile(const struct job *j, json_t *root)
{
    profile_report_print(cli_out(j->c), "inference", &j->infer);
    profile_report_print(cli_out(j->c), "the attacks' gradients", &j->gradient);
    json_object_set_new(root, "profile",
                        json_pack("{s:o,s:o}", "inference", profile_report_json(&j->infer),
                                  "gradients", profile_report_json(&j->gradient)));
}

static int report(const struct job *j, const struct model *m, const struct dataset *d,
                  const struct eval_result *r)
{
    char sha[SHA256_HEX];
    const char *model = j->c->arg[0];
    json_t *root = eval_report_json(model, d->split, r->branch[0].bank, r);

    eval_report_print(cli_out(j->c), model, d->split, r->branch[0].bank, r);
    json_object_set_new(root, "model_sha256", json_string(sha256_hex(m->sha256, sha)));
    json_object_set_new(root, "data", json_string(d->source));
    json_object_set_new(root, "seed", json_integer((json_int_t)j->c->seed));
    for (int32_t i = 0; i < j->n_audit; i++) {
        audit_report_print(cli_out(j->c), eval_report_branch(r->branch[i].bank), &j->audit[i]);
        json_object_set_new(json_array_get(json_object_get(root, "branches"), (size_t)i), "audit",
                            audit_report_json(&j->audit[i]));
    }
    if (j->infer.node != NULL)
        report_profile(j, root);
    return cli_json_write(j->c, root);
}

static int evaluate(const struct cli_common *c, const struct options *o, struct model *m)
{
    struct attack_spec *specs = mem_array(EVAL_MAX_ATTACKS, sizeof *specs);
    struct eval_result *r = mem_array(1, sizeof *r);
    struct job j = {.c = c};
    struct dataset *d = NULL;
    struct eval_options e;
    int rc = ERR_NOMEM;

    if (r == NULL || specs == NULL || (rc = eval_setup(o, c, m->g, specs, &e)) < 0 ||
        (rc = open_data(c, o, m->g, &d)) < 0 || (rc = run(&j, o, m, &e, d, r)) < 0)
        goto out;
    if (o->audit && (rc = run_audit(&j, o, m, d, r)) < 0)
        goto out;
    if ((rc = report(&j, m, d, r)) == 0)
        rc = check_goal(o, r);
out:
    attack_state_close(j.state);
    corrupt_photos_close(j.photos);
    mem_free(j.audit);
    profile_end(&j.infer);
    profile_end(&j.gradient);
    data_close(d);
    mem_free(r);
    mem_free(specs);
    return rc;
}

int cmd_eval(int argc, char **argv)
{
    struct options o = {.split = "test", .branch = "both"};
    struct cli_common c;
    struct model m = {0};
    int rc = cli_parse(&spec, argc, argv, &c, &o);

    if (rc == 0 && !o.data)
        rc = fail(ERR_ARG, "give --data SRC, for example --data cifar10:DIR or --data synth:");
    if (rc == 0 && (rc = model_open_from(&c, c.arg[0], &o.source, o.normalize, o.data, &m)) == 0) {
        cli_catch_signals();
        rc = evaluate(&c, &o, &m);
    }
    model_close(&m);
    cli_release(&c);
    return rc;
}
