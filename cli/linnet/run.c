/* linnet run: outputs of a model for the images of a .npy file. */
#include <math.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "pipeline/model.h"
#include "pipeline/outputs.h"
#include "core/exec/exec.h"
#include "core/base/npy.h"

struct options {
    const char *input, *output, *normalize, *branch;
    bool strip_softmax;
    struct model_source source;
};
static const struct cli_option options[] = {
    {"input", 0, CLI_TEXT, offsetof(struct options, input), "x.npy",
     "images: uint8 [N,C,H,W] or [N,H,W,C] pixels, or float32 [N,C,H,W]", 0, 0},
    {"output", 'o', CLI_TEXT, offsetof(struct options, output), "y.npy",
     "outputs of the file, float32 [N,K]", 0, 0},
    {"strip-softmax", 0, CLI_FLAG, offsetof(struct options, strip_softmax), NULL,
     "logits, even if the file ends in a Softmax", 0, 0},
    {"normalize", 0, CLI_TEXT, offsetof(struct options, normalize), "P", NORMALIZE_HELP, 0, 0},
    {"branch", 0, CLI_TEXT, offsetof(struct options, branch), "clean|adv",
     "batch-norm branch of a checkpoint (default clean)", 0, 0},
    MODEL_OPTIONS(struct options),
    {0}};
static const struct cli_spec spec = {
    "MODEL",
    1,
    1,
    "Computes the outputs of an ONNX model or a checkpoint.",
    "linnet run resnet20.onnx --normalize imagenet --input x.npy --output y.npy",
    options};

/* uint8 [N,H,W,C] or [N,C,H,W] -> float [N,C,H,W] in [0,1] */
static int from_bytes(const struct npy *a, const struct shape *in, float *x)
{
    const int64_t c = in->dim[1], hw = in->dim[2] * in->dim[3];
    const uint8_t *p = a->data;

    for (int64_t n = 0; n < a->dim[0]; n++)
        for (int64_t k = 0; k < c; k++)
            for (int64_t i = 0; i < hw; i++) {
                const int64_t from = a->dim[1] == c ? (n * c + k) * hw + i : (n * hw + i) * c + k;

                x[(n * c + k) * hw + i] = (float)p[from] / 255;
            }
    return 0;
}

static bool fits(const struct npy *a, const struct shape *in)
{
    const bool first =
        a->dim[1] == in->dim[1] && a->dim[2] == in->dim[2] && a->dim[3] == in->dim[3];
    const bool last = a->dim[3] == in->dim[1] && a->dim[1] == in->dim[2] && a->dim[2] == in->dim[3];

    return first || (last && a->type == NPY_U8);
}

static int read_images(const char *path, const struct graph *g, float **out, int64_t *n)
{
    const struct shape *in = &g->value[g->input].shape;
    char want[SHAPE_TEXT];
    struct npy a = {0};
    float *x = NULL;
    int rc;

    if ((rc = cli_as_data(npy_open(path, &a))) < 0)
        return rc;
    if (in->rank != 4 || a.rank != 4 || a.dim[0] < 1 || !fits(&a, in) ||
        (a.type != NPY_U8 && a.type != NPY_F32)) {
        rc = fail(ERR_DATA, "'%s': %s of rank %d does not fit the model's input %s", path,
                  npy_type_name(a.type), a.rank, shape_text(in, want));
        goto out;
    }
    if ((x = mem_aligned((size_t)(a.dim[0] * shape_elems(in)), sizeof *x)) == NULL) {
        rc = ERR_NOMEM;
        goto out;
    }
    if (a.type == NPY_U8)
        rc = from_bytes(&a, in, x);
    else
        memcpy(x, a.data, a.count * sizeof *x);
    *n = a.dim[0];
    *out = x;
    x = NULL;
out:
    npy_release(&a);
    mem_free(x);
    return rc;
}

/* What the file does to a row of logits. */
static void apply_tail(enum graph_tail tail, float *z, int64_t k)
{
    double top = z[0], sum = 0;

    for (int64_t i = 1; i < k; i++)
        top = z[i] > top ? z[i] : top;
    for (int64_t i = 0; i < k; i++)
        sum += exp(z[i] - top);
    for (int64_t i = 0; i < k; i++)
        z[i] = (float)(tail == TAIL_SOFTMAX ? exp(z[i] - top) / sum : z[i] - top - log(sum));
}

static int outputs(const struct cli_common *c, const struct options *o, struct graph *g, int bank)
{
    const int64_t k = shape_elems(&g->value[g->output].shape);
    struct exec *e = NULL;
    float *x = NULL, *y = NULL;
    int64_t n = 0;
    int rc;

    if ((rc = read_images(o->input, g, &x, &n)) < 0)
        goto out;
    if ((y = mem_aligned((size_t)(n * k), sizeof *y)) == NULL) {
        rc = ERR_NOMEM;
        goto out;
    }
    if ((rc = exec_new(g, EXEC_INFER, 64, NULL, 0, &e)) < 0 ||
        (rc = exec_infer(e, x, n, bank, y)) < 0)
        goto out;
    for (int64_t i = 0; i < n && g->tail != TAIL_NONE && !o->strip_softmax; i++)
        apply_tail(g->tail, y + i * k, k);
    if ((rc = npy_write(o->output, NPY_F32, 2, (int64_t[]){n, k}, y)) < 0)
        goto out;
    cli_note(c, "%lld x %lld outputs in %s", (long long)n, (long long)k, o->output);
out:
    exec_free(e);
    mem_free(x);
    mem_free(y);
    return rc;
}

int cmd_run(int argc, char **argv)
{
    struct options o = {.branch = "clean"};
    struct cli_common c;
    struct model m = {0};
    int bank, rc = cli_parse(&spec, argc, argv, &c, &o);

    if (rc == 0 && (!o.input || !o.output))
        rc = fail(ERR_ARG, "give --input x.npy and --output y.npy");
    if (rc == 0 && (rc = output_is_new(o.output, (const char *[]){c.arg[0], o.input}, 2)) == 0 &&
        (rc = model_open_from(&c, c.arg[0], &o.source, o.normalize, NULL, &m)) == 0 &&
        (rc = model_branch(m.g, o.branch, &bank)) == 0)
        rc = outputs(&c, &o, m.g, bank);
    model_close(&m);
    cli_release(&c);
    return rc;
}
