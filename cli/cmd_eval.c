/* linnet eval: clean, attacked and corrupted accuracy of a model or a checkpoint. */
#include <string.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/eval_report.h"
#include "cli/model.h"
#include "trainer/data.h"
#include "trainer/eval.h"

struct options {
    const char *data, *split, *normalize, *branch, *corruptions, *types, *severities;
    struct cli_texts attack;
    bool audit, profile;
    int64_t limit;
    double require_clean;
};
#define FIELD(f) offsetof(struct options, f)
static const struct cli_option options[] = {
    {"data", 'd', CLI_TEXT, FIELD(data), "SRC",
     "folder, cifar10:PATH, cifar100:PATH, npy:X,Y or synth:[N]", 0, 0},
    {"split", 0, CLI_TEXT, FIELD(split), "test|val|train", "which images (default test)", 0, 0},
    {"normalize", 0, CLI_TEXT, FIELD(normalize), "P",
     "preset or m,m,m/s,s,s (default: what the file says)", 0, 0},
    {"branch", 0, CLI_TEXT, FIELD(branch), "clean|adv|both", "batch-norm branches (default both)",
     0, 0},
    {"attack", 'a', CLI_TEXTS, FIELD(attack), "SPEC",
     "pgd:eps=8/255,alpha=2/255,steps=20,restarts=1; may be repeated", 0, 0},
    {"corruptions", 0, CLI_TEXT, FIELD(corruptions), "synth|DIR", "evaluate under corruptions", 0,
     0},
    {"types", 0, CLI_TEXT, FIELD(types), "T,T,...", "corruption types (default: all)", 0, 0},
    {"severities", 0, CLI_TEXT, FIELD(severities), "1,2,...",
     "corruption severities (default: all five)", 0, 0},
    {"limit", 0, CLI_INT, FIELD(limit), "N", "the first N images", 1, 1e9},
    {"require-clean", 0, CLI_REAL, FIELD(require_clean), "P",
     "exit 6 if the deployed branch stays below P per cent", 0, 100},
    {"audit", 0, CLI_FLAG, FIELD(audit), NULL, "gradient-masking checks", 0, 0},
    {"profile", 0, CLI_FLAG, FIELD(profile), NULL, "time per layer", 0, 0},
    {0}};
static const struct cli_spec spec = {
    "MODEL|CHECKPOINT",
    1,
    1,
    "Accuracies with 95 % Wilson intervals.",
    "linnet eval resnet20.onnx --data cifar10:DIR --normalize imagenet --attack pgd:steps=20",
    options};

static int read_severities(const char *text, int32_t *mask)
{
    *mask = 0;
    for (const char *p = text; p && *p; p++) {
        if (*p < '1' || *p > '5' || (p[1] != ',' && p[1] != '\0'))
            return fail(ERR_ARG, "--severities %s: numbers from 1 to 5 with commas between", text);
        *mask |= 1 << (*p - '1');
        p += p[1] == ',';
    }
    return 0;
}

static int not_yet(const struct options *o)
{
    if (o->audit || o->profile)
        return fail(ERR_ARG, "--%s: not in this version", o->audit ? "audit" : "profile");
    if (o->corruptions && strcmp(o->corruptions, "synth") != 0)
        return fail(ERR_ARG, "--corruptions %s: folders are not in this version; use synth",
                    o->corruptions);
    for (int32_t i = 0; i < o->attack.n; i++)
        if (strncmp(o->attack.v[i], "pgd", 3) != 0)
            return fail(ERR_ARG, "--attack %s: not in this version; pgd:... is", o->attack.v[i]);
    return 0;
}

/* Translates the options; attack[] has room for EVAL_MAX_ATTACKS. */
static int eval_setup(const struct options *o, const struct cli_common *c, const struct graph *g,
                      struct pgd_params *attack, struct eval_options *e)
{
    const bool both = strcmp(o->branch, "both") == 0;
    int bank = 0;

    TRY(not_yet(o));
    if (!both)
        TRY(model_branch(g, o->branch, &bank));
    *e =
        (struct eval_options){.limit = o->limit,
                              .seed = (uint64_t)c->seed,
                              .attack = attack,
                              .n_attack = o->attack.n,
                              .corruptions = o->corruptions ? (o->types ? o->types : "all") : NULL};
    e->bank[bank] = true;
    if (both && graph_banks(g) == 2)
        e->bank[1] = true;
    if (o->attack.n > EVAL_MAX_ATTACKS)
        return fail(ERR_ARG, "--attack: at most %d", EVAL_MAX_ATTACKS);
    for (int32_t i = 0; i < o->attack.n; i++)
        TRY(pgd_parse(o->attack.v[i], &attack[i]));
    return read_severities(o->severities, &e->severities);
}

static int on_progress(void *ctx, int64_t done, int64_t all)
{
    cli_progress_at(ctx, (double)done / (double)(all > 0 ? all : 1), "%lld/%lld images",
                    (long long)done, (long long)all);
    return cli_interrupted() ? fail(ERR_INTERRUPTED, "stopped; an evaluation keeps no state") : 0;
}

static int check_goal(const struct options *o, const struct eval_result *r)
{
    const double clean = 100 * r->branch[0].clean.accuracy;

    if (clean < o->require_clean)
        return fail(ERR_GOAL, "clean accuracy %.2f %% is below --require-clean %g", clean,
                    o->require_clean);
    return 0;
}

static int evaluate(const struct cli_common *c, const struct options *o, struct model *m)
{
    const struct shape *in = &m->g->value[m->g->input].shape;
    struct pgd_params attack[EVAL_MAX_ATTACKS];
    struct dataset *d = NULL;
    struct cli_progress p;
    struct eval_options e;
    struct eval_result *r = mem_array(1, sizeof *r);
    enum data_split split;
    int rc = ERR_NOMEM;

    if (r == NULL || (rc = eval_setup(o, c, m->g, attack, &e)) < 0 ||
        (rc = data_split_parse(o->split, &split)) < 0 ||
        (rc = cli_as_data(data_open(o->data, split, (uint64_t)c->seed, &d))) < 0 ||
        (rc = data_check(d, in->dim[1], in->dim[2], in->dim[3],
                         m->g->value[m->g->output].shape.dim[1])) < 0)
        goto out;
    cli_note(c, "%s, split %s", d->source, d->split);
    cli_progress_begin(&p, c, "eval");
    e.ctx = &p;
    e.progress = on_progress;
    rc = eval_run(m->g, d, &e, r);
    cli_progress_end(&p);
    if (rc < 0)
        goto out;
    eval_report_print(cli_out(c), c->arg[0], d->split, r->branch[0].bank, r);
    if ((rc = cli_json_write(c, eval_report_json(c->arg[0], d->split, r->branch[0].bank, r))) == 0)
        rc = check_goal(o, r);
out:
    data_close(d);
    mem_free(r);
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
    if (rc == 0 && (rc = model_open(&c, c.arg[0], o.normalize, &m)) == 0) {
        cli_catch_signals();
        rc = evaluate(&c, &o, &m);
    }
    model_close(&m);
    cli_release(&c);
    return rc;
}
