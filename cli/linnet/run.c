/* linnet run: outputs of a model for the images of a .npy file. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/linnet/front.h"
#include "core/base/json.h"
#include "core/base/npy.h"

#define ROUNDING 1e-5F /* what a pixel may miss [0,1] by; it is put back */

static const struct cli_option own[] = {
    {"input", 0, CLI_INPUT, 0, "x.npy",
     "images: uint8 [N,C,H,W] or [N,H,W,C] pixels, or float32 [N,C,H,W], or [N,H,W,C] where the file declares that",
     0, 0},
    {"input-kind", 0, CLI_TEXT, 0, "pixels|normalized",
     "meaning of float images: pixels in [0,1], or already normalised (default pixels)", 0, 0},
    {"output", 'o', CLI_OUTPUT, 0, "y.npy", "outputs of the file, float32 [N,K]", 0, 0},
    {"strip-softmax", 0, CLI_FLAG, 0, NULL, "logits, even if the file ends in a Softmax", 0, 0},
    {"branch", 0, CLI_TEXT, 0, "clean|adv|single",
     "batch-norm branch of a checkpoint (default clean; of a file the one in it)", 0, 0},
    {0}};
static const struct cli_spec spec = {
    "MODEL", "Computes the outputs of an ONNX model or a checkpoint.",
    "linnet run resnet20.onnx --normalize imagenet --input x.npy --output y.npy", own};

/* [N,H,W,C] or [N,C,H,W], uint8 or float32 -> float [N,C,H,W], bytes in [0,1] */
static void convert(const struct npy *a, bool last, const struct linnet_info *in, float *x)
{
    const int64_t c = in->channels, hw = in->height * in->width;

    for (int64_t n = 0; n < a->dim[0]; n++)
        for (int64_t k = 0; k < c; k++)
            for (int64_t i = 0; i < hw; i++) {
                const int64_t from = last ? (n * hw + i) * c + k : (n * c + k) * hw + i;

                x[(n * c + k) * hw + i] = a->type == NPY_U8
                                              ? (float)((const uint8_t *)a->data)[from] / 255
                                              : ((const float *)a->data)[from];
            }
}

/* *last: the array is [N,H,W,C]. Where both orders fit, it is what the file declares. */
static bool fits(const struct npy *a, const struct linnet_info *in, bool *last)
{
    const int64_t *d = a->dim;
    const bool first = d[1] == in->channels && d[2] == in->height && d[3] == in->width;

    *last = d[3] == in->channels && d[1] == in->height && d[2] == in->width &&
            (!first || in->channels_last != 0);
    if (a->rank != 4 || d[0] < 1)
        return false;
    return (a->type == NPY_U8 && (first || *last)) ||
           (a->type == NPY_F32 && (first || (*last && in->channels_last != 0)));
}

/* NaN breaks it too. */
static int check_pixels(const char *path, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!(x[i] >= -ROUNDING && x[i] <= 1 + ROUNDING))
            return fail(
                ERR_DATA,
                "'%s': %g is no pixel in [0,1]; divide 0..255 by 255, or say that the values are normalised already (--input-kind normalized)",
                path, (double)x[i]);
        x[i] = fminf(1, fmaxf(0, x[i]));
    }
    return 0;
}

static int check_finite(const char *path, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return fail(ERR_DATA, "'%s': %g is no number that a network can take", path,
                        (double)x[i]);
    return 0;
}

/* A network with huge weights may leave the numbers. */
static int check_outputs(const float *y, int64_t n, int64_t k)
{
    for (int64_t i = 0; i < n * k; i++)
        if (!isfinite(y[i]))
            return fail(ERR_NUMERIC, "image %" PRId64 ": output %" PRId64 " is %g", i / k, i % k,
                        (double)y[i]);
    return 0;
}

/* x [n,C,H,W] (mem_free) */
static int read_images(const char *path, bool normalized, const struct linnet_info *in, float **x,
                       int64_t *n)
{
    SCOPED(npy_release) struct npy a = {0};
    bool last = false;

    TRY(cli_as_data(npy_open(path, &a)));
    if (!fits(&a, in, &last))
        return fail(ERR_DATA,
                    "'%s': %s of rank %d does not fit the model's input [N,%" PRId64 ",%" PRId64
                    ",%" PRId64 "]",
                    path, npy_type_name(a.type), a.rank, in->channels, in->height, in->width);
    if (normalized && a.type == NPY_U8)
        return fail(ERR_DATA, "'%s': uint8 pixels are not normalised; leave --input-kind out",
                    path);
    if ((*x = mem_aligned(a.count, sizeof **x)) == NULL)
        return ERR_NOMEM;
    convert(&a, last, in, *x);
    *n = a.dim[0];
    return normalized ? check_finite(path, *x, a.count) : check_pixels(path, *x, a.count);
}

static json_t *result_json(const struct front *f, const float *y, int64_t n, int64_t k)
{
    json_t *labels = json_array();

    for (int64_t i = 0; i < n; i++) {
        int64_t best = 0;

        for (int64_t j = 1; j < k; j++)
            best = y[i * k + j] > y[i * k + best] ? j : best;
        json_add(&labels, json_integer(best));
    }
    return json_pack("{s:s,s:o,s:o,s:o,s:I,s:I,s:o}", "format", "linnet.run/1", "model",
                     json_text(f->c.arg[0]), "input", json_text(front_text(f, "input")), "output",
                     json_text(front_text(f, "output")), "n", (json_int_t)n, "classes",
                     (json_int_t)k, "labels", labels);
}

static int compute(const struct front *f, struct linnet_model *m, bool normalized, int branch)
{
    const char *output = front_text(f, "output");
    const int64_t k = linnet_model_info(m)->classes;
    OWNED float *x = NULL, *y = NULL;
    int64_t n = 0;

    TRY(read_images(front_text(f, "input"), normalized, linnet_model_info(m), &x, &n));
    if ((y = mem_aligned((size_t)(n * k), sizeof *y)) == NULL)
        return ERR_NOMEM;
    TRY((front_flag(f, "strip-softmax") ? linnet_logits : linnet_outputs)(m, branch, x, n, y));
    TRY(check_outputs(y, n, k));
    TRY(npy_write(output, NPY_F32, 2, (int64_t[]){n, k}, y));
    cli_note(&f->c, "%lld x %lld outputs in %s", (long long)n, (long long)k, output);
    return f->c.json != NULL ? cli_json_write(&f->c, result_json(f, y, n, k)) : 0;
}

/* Whoever has normalised already feeds the network as it is, without the step before it. */
static int read_kind(const struct front *f, bool *normalized)
{
    const char *kind = front_text(f, "input-kind");

    *normalized = kind != NULL && strcmp(kind, "normalized") == 0;
    if (kind != NULL && !*normalized && strcmp(kind, "pixels") != 0)
        return fail(ERR_ARG, "option '--input-kind': '%s' is not one of pixels|normalized", kind);
    if (!*normalized)
        return 0;
    if (front_text(f, "normalize") != NULL)
        return fail(ERR_ARG, "--normalize has nothing to do with --input-kind normalized");
    return linnet_options_set(f->o, "normalize", "none");
}

static int run(const struct front *f, struct linnet_model **m)
{
    const char *input = front_text(f, "input"), *output = front_text(f, "output");
    const char *branch = front_text(f, "branch");
    bool normalized;
    int index;

    if (input == NULL || output == NULL)
        return fail(ERR_ARG, "give --input x.npy and --output y.npy");
    TRY(read_kind(f, &normalized));
    TRY(linnet_open(f->c.arg[0], f->o, &f->listener, m));
    TRY(linnet_branch(*m, branch, &index));
    return compute(f, *m, normalized, index);
}

int cmd_run(int argc, char **argv)
{
    struct front f;
    struct linnet_model *m = NULL;
    int rc = front_begin(&f, &spec, "open", argc, argv);

    if (rc == 0)
        rc = run(&f, &m);
    linnet_close(m);
    return front_end(&f, rc, NULL);
}
