/*
 * Task "validate": the private-inference package in a folder against the float ONNX beside it, on the
 * same images. One verdict: labels that agree, accuracy of both, largest logit difference.
 */
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/json.h"
#include "pipeline/model.h"
#include "pipeline/outputs.h"
#include "pipeline/package_check.h"
#include "pipeline/precision.h"
#include "pipeline/report.h"
#include "pipeline/source.h"
#include "pipeline/tasks.h"
#include "trainer/eval/stats.h"

struct validate_settings {
    struct open_options open;
    const char *split;
    int32_t mode;
    int64_t limit;
    double min_agreement, max_loss;
};
#define FIELD(f) offsetof(struct validate_settings, f)
static const struct option_row rows[] = {
    DATA_ROW("images with labels"),
    TEST_ROW,
    IMAGE_ROWS,
    OPTION("split", 0, OPTION_TEXT, FIELD(split), "test|val|train|all",
           "which of them (default test; of one set without parts all)"),
    OPTION("mode", 0, OPTION_CHOICE, FIELD(mode), "fixed|sim2pc",
           "arithmetic: Z_2^64, or the shares of two parties (default fixed)"),
    NUMBER("limit", 0, OPTION_INT, FIELD(limit), "N", "use the first N images only", 1, 1e9),
    NORMALIZE_ROW("of model.onnx: " NORMALIZE_WORDS " (default: what the file says)"),
    NUMBER("min-agreement", 0, OPTION_REAL, FIELD(min_agreement), "P",
           "smallest share of equal labels, in per cent (default 99.5)", 0, 100),
    NUMBER("max-accuracy-change", 0, OPTION_REAL, FIELD(max_loss), "P",
           "largest change of accuracy, in points (default 0.3)", 0, 100),
    PRECISION_ROW(FIELD(open.precision), "fp32; of model.onnx"),
    OPTION_END};
static const struct validate_settings defaults = {
    .open.precision = PRECISION_FP32, .min_agreement = 99.5, .max_loss = 0.3};

static int check(const struct linnet_options *o)
{
    const struct validate_settings *s = options_values(o);

    return s->open.data == NULL ? fail(ERR_ARG, "give --data SRC") : 0;
}
const struct task validate_task = {"validate", rows, &defaults, sizeof defaults, check, true};

/* What came out, in per cent where not said otherwise. */
struct verdict {
    const char *folder, *split, *branch; /* branch: of the package */
    const struct validate_settings *s;
    struct package_check t;
    double agreement, real, fixed;
    bool passed;
};

/* ---- the report ---------------------------------------------------------------------------- */

/* "" where a package does not say: a model without branches */
static json_t *branch_json(const char *name, int64_t correct, int64_t n)
{
    double lo, hi;

    stats_wilson(correct, n, &lo, &hi);
    return json_pack("{s:s,s:b,s:{s:f,s:[f,f],s:I},s:[]}", "name", *name != '\0' ? name : "clean",
                     "deployed", 1, "clean", "accuracy", 100.0 * (double)correct / (double)n,
                     "ci95", 100 * lo, 100 * hi, "n", (json_int_t)n, "attacks");
}

static json_t *to_json(const struct verdict *v)
{
    return json_pack("{s:s,s:s,s:o,s:I,s:s,s:[o],s:f,s:f,s:f,s:b,s:s}", "format", "linnet.eval/1",
                     "precision", exec_precision_name(v->t.precision), "model",
                     json_text(v->folder), "n", (json_int_t)v->t.n, "split", v->split, "branches",
                     branch_json(v->branch, v->t.fixed_correct, v->t.n), "agreement", v->agreement,
                     "max_abs_diff", v->t.max_abs_diff, "float_accuracy", v->real, "passed",
                     v->passed, "mode", v->s->mode == 1 ? "sim2pc" : "fixed");
}

static void print(FILE *out, const void *facts)
{
    const struct verdict *v = facts;

    fprintf(out, "%s on %lld %s images%s%s, model.onnx in %s\n", v->folder, (long long)v->t.n,
            v->split, *v->branch != '\0' ? ", branch " : "", v->branch,
            exec_precision_name(v->t.precision));
    fprintf(out, "  float accuracy          %6.2f %%\n", v->real);
    fprintf(out, "  %-22s  %6.2f %%\n",
            v->s->mode == 1 ? "two-party accuracy" : "fixed-point accuracy", v->fixed);
    fprintf(out, "  equal labels            %6.2f %%   (at least %g)\n", v->agreement,
            v->s->min_agreement);
    fprintf(out, "  largest difference      %.4g of logits up to %.4g\n", v->t.max_abs_diff,
            v->t.max_abs_logit);
    fprintf(out, "%s\n", v->passed ? "PASSED" : "FAILED");
}

static int judge(struct verdict *v, struct linnet_report **out)
{
    const double n = (double)v->t.n;

    v->agreement = 100 * (double)v->t.agree / n;
    v->real = 100 * (double)v->t.float_correct / n;
    v->fixed = 100 * (double)v->t.fixed_correct / n;
    v->passed = v->agreement >= v->s->min_agreement && fabs(v->real - v->fixed) <= v->s->max_loss;
    TRY(report_new(print, v, to_json(v), out));
    if (!v->passed)
        return fail(
            ERR_VERIFY,
            "%.2f %% equal labels (at least %g), accuracy %.2f against %.2f %% (at most %g apart)",
            v->agreement, v->s->min_agreement, v->fixed, v->real, v->s->max_loss);
    return 0;
}

/* ---- the comparison ------------------------------------------------------------------------ */

struct pair { /* what is compared, on what */
    struct model m;
    struct pi_model *pi;
    struct dataset *d;
};

/* The float model that the package was made from, as far as names tell. */
static int float_model(const struct verdict *v, char *path, size_t size)
{
    if (strcmp(v->branch, "adv") == 0) {
        TRY(output_path(v->folder, "model.adv.onnx", path, size));
        if (access(path, F_OK) == 0)
            return 0;
    }
    return output_path(v->folder, "model.onnx", path, size);
}

static int check_branch(const struct verdict *v, const char *plan, const struct model *m)
{
    const char *its = graph_get_meta(m->g, "linnet.branch");

    if (its == NULL || *v->branch == '\0' || strcmp(its, v->branch) == 0)
        return 0;
    return fail(ERR_FORMAT, "'%s' is made from branch '%s', '%s' holds '%s'; export both from one",
                plan, v->branch, m->path, its);
}

static int open_pair(struct verdict *v, uint64_t seed, const struct linnet_listener *l,
                     struct pair *p)
{
    const struct open_options how = {.normalize = v->s->open.normalize};
    char onnx[4096], plan[4096], weights[4096];
    enum data_split split;

    TRY(output_path(v->folder, "model.pi", plan, sizeof plan));
    TRY(output_path(v->folder, "model.pi.weights", weights, sizeof weights));
    TRY(data_split_parse(v->s->split, &split));
    TRY(pi_open(plan, weights, v->s->mode == 1 ? PI_SIM2PC : PI_FIXED, &p->pi));
    v->branch = pi_plan(p->pi)->branch;
    TRY(float_model(v, onnx, sizeof onnx));
    TRY(model_open(l, onnx, &how, seed, &p->m));
    TRY(check_branch(v, plan, &p->m));
    const int64_t k = p->m.g->value[p->m.g->output].shape.dim[1];
    if (pi_classes(p->pi) != k)
        return fail(ERR_FORMAT, "'%s' has %lld outputs, '%s' has %lld", plan,
                    (long long)pi_classes(p->pi), onnx, (long long)k);
    TRY(source_open(v->s->open.data, &v->s->open.images, split, seed, p->m.g, &p->d));
    data_limit(p->d, v->s->limit);
    return 0;
}

static int check_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    struct stat st;

    if (stat(path, &st) < 0 || S_ISDIR(st.st_mode))
        return 0; /* opening its files says what is wrong */
    return fail(ERR_ARG, "'%s' is a file; name its folder, '%.*s'", path,
                slash != NULL ? (int)(slash - path) : 1, slash != NULL ? path : ".");
}

int linnet_validate(const char *folder, const struct linnet_options *o,
                    const struct linnet_listener *l, struct linnet_report **out)
{
    struct verdict v = {.folder = folder};
    struct pair p = {0};
    int rc;

    if (out != NULL)
        *out = NULL;
    TRY(check_folder(folder));
    TRY(options_read(o, &validate_task, (const void **)&v.s));
    if ((rc = open_pair(&v, options_seed(o), l, &p)) == 0 &&
        (rc = package_check_run(l, p.m.g, 0, precision_of(v.s->open.precision, false), p.pi, p.d,
                                p.d->n, &v.t)) == 0) {
        v.split = p.d->split;
        rc = judge(&v, out);
    }
    data_close(p.d);
    pi_close(p.pi);
    model_close(&p.m);
    return rc;
}
