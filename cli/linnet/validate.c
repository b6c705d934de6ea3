/*
 * linnet validate: the private-inference package in DIR against the float ONNX beside it, on the same
 * images. One verdict: labels that agree, accuracy of both, largest logit difference.
 */
#include <math.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/linnet/eval_report.h"
#include "pipeline/model.h"
#include "pipeline/outputs.h"
#include "pipeline/package_check.h"
#include "trainer/eval/stats.h"

struct options {
    const char *data, *split, *normalize;
    int32_t mode;
    int64_t limit;
    double min_agreement, max_loss;
};
#define FIELD(f) offsetof(struct options, f)
static const struct cli_option options[] = {
    {"data", 'd', CLI_TEXT, FIELD(data), "SRC", "images with labels", 0, 0},
    {"split", 0, CLI_TEXT, FIELD(split), "test|val|train", "which of them (default test)", 0, 0},
    {"mode", 0, CLI_CHOICE, FIELD(mode), "fixed|sim2pc",
     "what runs: Z_2^64, or two parties' shares (default fixed)", 0, 0},
    {"limit", 0, CLI_INT, FIELD(limit), "N", "the first N images", 1, 1e9},
    {"normalize", 0, CLI_TEXT, FIELD(normalize), "P", "of model.onnx (default: what the file says)",
     0, 0},
    {"min-agreement", 0, CLI_REAL, FIELD(min_agreement), "P",
     "per cent of equal labels (default 99.5)", 0, 100},
    {"max-accuracy-change", 0, CLI_REAL, FIELD(max_loss), "P", "points of accuracy (default 0.3)",
     0, 100},
    {0}};
static const struct cli_spec spec = {
    "DIR",
    1,
    1,
    "Runs DIR/model.pi in the bundled runtime against DIR/model.onnx.",
    "linnet validate out --data cifar10:DIR",
    options};

static json_t *branch_json(const char *name, int64_t correct, int64_t n)
{
    double lo, hi;

    stats_wilson(correct, n, &lo, &hi);
    return json_pack("{s:s,s:b,s:{s:f,s:[f,f],s:I},s:[]}", "name", name, "deployed", 1, "clean",
                     "accuracy", 100.0 * (double)correct / (double)n, "ci95", 100 * lo, 100 * hi,
                     "n", (json_int_t)n, "attacks");
}

static int report(const struct cli_common *c, const struct options *o, const struct dataset *d,
                  const struct package_check *t)
{
    const double n = (double)t->n, agreement = 100 * (double)t->agree / n;
    const double real = 100 * (double)t->float_correct / n,
                 fixed = 100 * (double)t->fixed_correct / n;
    const bool passed = agreement >= o->min_agreement && fabs(real - fixed) <= o->max_loss;
    FILE *out = cli_out(c);
    json_t *root =
        json_pack("{s:s,s:s,s:I,s:s,s:[o],s:f,s:f,s:f,s:b,s:s}", "format", "linnet.eval/1", "model",
                  c->arg[0], "n", (json_int_t)t->n, "split", d->split, "branches",
                  branch_json("clean", t->fixed_correct, t->n), "agreement", agreement,
                  "max_abs_diff", t->max_abs_diff, "float_accuracy", real, "passed", passed, "mode",
                  o->mode == 1 ? "sim2pc" : "fixed");

    fprintf(out, "%s on %lld %s images\n", c->arg[0], (long long)t->n, d->split);
    fprintf(out, "  float accuracy          %6.2f %%\n", real);
    fprintf(out, "  %-22s  %6.2f %%\n",
            o->mode == 1 ? "two-party accuracy" : "fixed-point accuracy", fixed);
    fprintf(out, "  equal labels            %6.2f %%   (at least %g)\n", agreement,
            o->min_agreement);
    fprintf(out, "  largest difference      %.4g of logits up to %.4g\n", t->max_abs_diff,
            t->max_abs_logit);
    fprintf(out, "%s\n", passed ? "PASSED" : "FAILED");
    TRY(cli_json_write(c, root));
    if (!passed)
        return fail(
            ERR_VERIFY,
            "%.2f %% equal labels (at least %g), accuracy %.2f against %.2f %% (at most %g apart)",
            agreement, o->min_agreement, fixed, real, o->max_loss);
    return 0;
}

static int validate(const struct cli_common *c, const struct options *o)
{
    char onnx[4096], pi_path[4096], weights[4096];
    const char *dir = c->arg[0];
    struct model m = {0};
    struct pi_model *pi = NULL;
    struct dataset *d = NULL;
    struct package_check t = {0};
    enum data_split split;
    int64_t k;
    int rc;

    if ((rc = output_path(dir, "model.onnx", onnx, sizeof onnx)) < 0 ||
        (rc = output_path(dir, "model.pi", pi_path, sizeof pi_path)) < 0 ||
        (rc = output_path(dir, "model.pi.weights", weights, sizeof weights)) < 0 ||
        (rc = data_split_parse(o->split, &split)) < 0 ||
        (rc = pi_open(pi_path, weights, o->mode == 1 ? PI_SIM2PC : PI_FIXED, &pi)) < 0 ||
        (rc = model_open(c, onnx, o->normalize, &m)) < 0)
        goto out;
    const struct shape *in = &m.g->value[m.g->input].shape;
    k = m.g->value[m.g->output].shape.dim[1];
    if (pi_classes(pi) != k) {
        rc = fail(ERR_FORMAT, "'%s' has %lld outputs, '%s' has %lld", pi_path,
                  (long long)pi_classes(pi), onnx, (long long)k);
        goto out;
    }
    if ((rc = cli_as_data(data_open(o->data, split, (uint64_t)c->seed, &d))) < 0 ||
        (rc = data_check(d, in->dim[1], in->dim[2], in->dim[3], k)) < 0)
        goto out;
    data_limit(d, o->limit);
    if ((rc = package_check_run(c, m.g, pi, d, d->n, &t)) == 0)
        rc = report(c, o, d, &t);
out:
    data_close(d);
    pi_close(pi);
    model_close(&m);
    return rc;
}

int cmd_validate(int argc, char **argv)
{
    struct options o = {.split = "test", .min_agreement = 99.5, .max_loss = 0.3};
    struct cli_common c;
    int rc = cli_parse(&spec, argc, argv, &c, &o);

    if (rc == 0 && !o.data)
        rc = fail(ERR_ARG, "give --data SRC");
    if (rc == 0) {
        cli_catch_signals();
        rc = validate(&c, &o);
    }
    cli_release(&c);
    return rc;
}
