/*
 * linnet-pi eval: runs model.pi on images of a .npy file, in one process.
 *
 * Images: as images.h says. Results: logits float32 [N,K] (--output), their SHA-256, accuracy where --labels is
 * given. --expect compares with other logits: exit code 5 if one differs by more than --atol.
 */
#include <math.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/pi/images.h"
#include "cli/pi/net.h"
#include "core/base/json.h"
#include "core/base/npy.h"
#include "core/base/sha256.h"
#include "runtime/report.h"

enum { MODE_FLOAT, MODE_FIXED, MODE_SIM2PC };
struct options {
    const char *weights, *input, *labels, *output, *expect;
    double atol;
    int64_t test_seed, lot;
    int32_t mode, linear, floats;
};
#define AT(field) offsetof(struct options, field)
static const struct cli_option options[] = {
    {"weights", 'w', CLI_INPUT, AT(weights), "FILE", "model.pi.weights", 0, 0},
    {"mode", 'm', CLI_CHOICE, AT(mode), "float|fixed|sim2pc", "arithmetic (default fixed)", 0, 0},
    {"test-seed", 0, CLI_INT, AT(test_seed), "N",
     "sim2pc: shares of the run to predict (default 0)", 0, 1e15},
    {"linear", 0, CLI_CHOICE, AT(linear), "exact", "any without the small errors of its results", 0,
     0},
    {"lot", 0, CLI_INT, AT(lot), "L", "sim2pc: images that were prepared together (default 1)", 1,
     1e6},
    {"input", 'i', CLI_INPUT, AT(input), "X.npy", "images", 0, 0},
    PI_INPUT_KIND_ROW(AT(floats)),
    {"labels", 'l', CLI_INPUT, AT(labels), "Y.npy", "their classes", 0, 0},
    {"output", 'o', CLI_OUTPUT, AT(output), "Z.npy", "write the logits", 0, 0},
    {"expect", 'e', CLI_INPUT, AT(expect), "Z.npy", "logits to compare with", 0, 0},
    {"atol", 0, CLI_REAL, AT(atol), "X", "allowed difference (default 0)", 0, 1e30},
    {0},
};
static const struct cli_spec spec = {
    "MODEL.pi",
    "Runs model.pi in one process: float on real numbers, fixed in Z_2^64, bit for bit the same on every machine, sim2pc on the shares of two parties: what serve and query give with the same --test-seed.",
    "linnet-pi eval out/model.pi -w out/model.pi.weights --mode fixed -i x.npy -l y.npy", options};

struct run {
    const struct options *o;
    struct pi_model *model;
    struct npy input, labels, expect;
    int64_t n, classes, right;
    float *logits;
    double max_abs_diff;
    char sha256[SHA256_HEX];
};

/* ---- input -------------------------------------------------------------------------------- */

static int open_labels(struct run *r)
{
    TRY(cli_as_data(npy_open(r->o->labels, &r->labels)));
    if (r->labels.rank != 1 || r->labels.dim[0] != r->n)
        return fail(ERR_DATA, "'%s': %zu labels for %lld images", r->o->labels, r->labels.count,
                    (long long)r->n);
    for (size_t i = 0; i < r->labels.count; i++) {
        int64_t v;
        TRY(npy_int(&r->labels, i, &v));
        if (v < 0 || v >= r->classes)
            return fail(ERR_DATA, "'%s': label %lld of image %zu; the model has %lld classes",
                        r->o->labels, (long long)v, i, (long long)r->classes);
    }
    return 0;
}

static int open_expect(struct run *r)
{
    TRY(cli_as_data(npy_open(r->o->expect, &r->expect)));
    if (r->expect.rank != 2 || r->expect.dim[0] != r->n || r->expect.dim[1] != r->classes)
        return fail(ERR_DATA, "'%s' does not hold [%lld,%lld] logits", r->o->expect,
                    (long long)r->n, (long long)r->classes);
    return 0;
}

/* ---- results ------------------------------------------------------------------------------ */

static int count_right(struct run *r)
{
    for (int64_t i = 0; i < r->n; i++) {
        int64_t label;
        TRY(npy_int(&r->labels, (size_t)i, &label));
        r->right += label == pi_best(r->logits + i * r->classes, r->classes);
    }
    return 0;
}

static void compare(struct run *r)
{
    for (int64_t i = 0; i < r->n * r->classes; i++) {
        double d = fabs((double)r->logits[i] - npy_double(&r->expect, (size_t)i));
        if (!(d <= r->max_abs_diff))
            r->max_abs_diff = isnan(d) ? INFINITY : d;
    }
}

static int finish(struct run *r)
{
    int64_t dims[2] = {r->n, r->classes};
    uint8_t digest[SHA256_SIZE];

    TRY(sha256_bytes(r->logits, (size_t)(r->n * r->classes) * sizeof *r->logits, digest));
    sha256_hex(digest, r->sha256);
    if (r->o->labels != NULL)
        TRY(count_right(r));
    if (r->o->expect != NULL)
        compare(r);
    if (r->o->output != NULL)
        TRY(npy_write(r->o->output, NPY_F32, 2, dims, r->logits));
    return 0;
}

/* 95 % Wilson interval, in percent. */
static void interval(int64_t right, int64_t n, double *lo, double *hi)
{
    double z = 1.959963984540054, nd = (double)n, p = (double)right / nd;
    double centre = p + z * z / (2 * nd);
    double half = z * sqrt(p * (1 - p) / nd + z * z / (4 * nd * nd)), scale = 1 + z * z / nd;

    *lo = 100 * fmax(0, (centre - half) / scale);
    *hi = 100 * fmin(1, (centre + half) / scale);
}

static json_t *result_json(const struct run *r, const struct cli_common *c)
{
    static const char *const modes[] = {"float", "fixed", "sim2pc"};
    const char *name = pi_plan(r->model)->branch;
    json_t *branch = json_pack("{s:s, s:b, s:[]}", "name", *name != '\0' ? name : "clean",
                               "deployed", 1, "attacks"),
           *o;
    double lo, hi, sigma;
    int64_t largest;

    if (r->o->labels != NULL) {
        interval(r->right, r->n, &lo, &hi);
        json_put(&branch, "clean",
                 json_pack("{s:f, s:[f,f]}", "accuracy", 100.0 * (double)r->right / (double)r->n,
                           "ci95", lo, hi));
    }
    o = json_pack("{s:s, s:o, s:s, s:I, s:s, s:[o], s:s}", "format", "linnet.eval/1", "model",
                  json_text(c->arg[0]), "mode", modes[r->o->mode], "n", (json_int_t)r->n, "split",
                  "npy", "branches", branch, "logits_sha256", r->sha256);
    pi_linear_error(r->model, &largest, &sigma);
    if (largest > 0)
        json_put(&o, "linear_error",
                 json_pack("{s:f, s:I}", "sigma", sigma, "largest", (json_int_t)largest));
    if (r->o->expect != NULL)
        json_put(&o, "max_abs_diff", json_finite(r->max_abs_diff));
    return o;
}

static void print_result(FILE *f, const struct run *r)
{
    int64_t largest;
    double sigma;

    fprintf(f, "%lld images\n", (long long)r->n);
    if (r->o->labels != NULL)
        fprintf(f, "accuracy        %.2f %%\n", 100.0 * (double)r->right / (double)r->n);
    if (r->o->expect != NULL)
        fprintf(f, "max difference  %g (allowed %g)\n", r->max_abs_diff, r->o->atol);
    pi_linear_error(r->model, &largest, &sigma);
    if (largest > 0)
        fprintf(f, "linear error    sigma %.1f, largest %lld, in units before truncation\n", sigma,
                (long long)largest);
    fprintf(f, "logits SHA-256  %s\n", r->sha256);
}

/* ---- the command -------------------------------------------------------------------------- */

static int run_model(struct run *r, const char *path)
{
    enum pi_input kind = PI_U8_NCHW;
    static const enum pi_mode modes[] = {PI_FLOAT, PI_FIXED, PI_SIM2PC};

    TRY(pi_open(path, r->o->weights, modes[r->o->mode], &r->model));
    pi_simulate(r->model, (uint64_t)r->o->test_seed, linear_backends()[r->o->linear], r->o->lot);
    TRY(pi_images_open(r->o->input, pi_plan(r->model), (enum pi_floats)r->o->floats, &r->input,
                       &kind));
    r->n = r->input.dim[0];
    r->classes = pi_classes(r->model);
    if (r->o->labels != NULL)
        TRY(open_labels(r));
    if (r->o->expect != NULL)
        TRY(open_expect(r));
    if ((r->logits = mem_array((size_t)(r->n * r->classes), sizeof *r->logits)) == NULL)
        return ERR_NOMEM;
    TRY(pi_run(r->model, kind, r->input.data, r->n, r->logits));
    return finish(r);
}

static void run_release(struct run *r)
{
    npy_release(&r->input);
    npy_release(&r->labels);
    npy_release(&r->expect);
    pi_close(r->model);
    mem_free(r->logits);
}

static int report(struct run *r, const struct cli_common *c)
{
    print_result(cli_out(c), r);
    if (c->json != NULL)
        TRY(cli_json_write(c, result_json(r, c)));
    if (r->o->expect != NULL && !(r->max_abs_diff <= r->o->atol))
        return fail(ERR_VERIFY, "logits differ by %g from '%s', allowed %g", r->max_abs_diff,
                    r->o->expect, r->o->atol);
    return 0;
}

int pi_cmd_eval(int argc, char **argv)
{
    struct options o = {.mode = MODE_FIXED, .lot = 1};
    SCOPED(cli_release) struct cli_common c = {0};
    SCOPED(run_release) struct run r = {.o = &o};
    struct pi_choices words;
    const struct cli_spec with = pi_with_backends(&spec, &words);

    TRY(cli_parse(&with, argc, argv, &c, &o));
    if (o.weights == NULL || o.input == NULL)
        return fail(ERR_ARG, "option '--%s' is required", o.weights == NULL ? "weights" : "input");
    TRY(run_model(&r, c.arg[0]));
    return report(&r, &c);
}
