/* linnet export: a model or a checkpoint as standard ONNX, and as a private-inference package. */
#include "cli/cli.h"
#include "cli/commands.h"
#include "pipeline/model.h"
#include "pipeline/outputs.h"

struct options {
    const char *out, *branch, *pi, *data, *normalize, *salt;
    int32_t form, target;
    int64_t opset, calib;
    bool fold_bn, strip_softmax, external_data;
    struct model_source source;
};
#define FIELD(f) offsetof(struct options, f)
static const struct cli_option options[] = {
    {"output", 'o', CLI_TEXT, FIELD(out), "y.onnx", "the ONNX file", 0, 0},
    {"branch", 0, CLI_TEXT, FIELD(branch), "clean|adv", "batch-norm branch (default clean)", 0, 0},
    {"masked-relu", 0, CLI_CHOICE, FIELD(form), "where|prelu|gather|channel",
     "how a masked ReLU is written (default where; with --for what the tool can read)", 0, 0},
    {"opset", 0, CLI_INT, FIELD(opset), "N", "13 to 21 (default 17)", 13, 21},
    {"fold-bn", 0, CLI_FLAG, FIELD(fold_bn), NULL, "fold batch norm that came with the file too", 0,
     0},
    {"for", 0, CLI_CHOICE, FIELD(target), "crypten|ezpc|onnxruntime",
     "write what this importer can read, and check that it can", 0, 0},
    {"strip-softmax", 0, CLI_FLAG, FIELD(strip_softmax), NULL,
     "the output is the logits even if the file ends in a Softmax", 0, 0},
    {"external-data", 0, CLI_FLAG, FIELD(external_data), NULL,
     "weights in a second file y.onnx.data (always above 1.9 GB)", 0, 0},
    {"pi", 0, CLI_TEXT, FIELD(pi), "DIR", "also write DIR/model.pi and DIR/model.pi.weights", 0, 0},
    {"data", 'd', CLI_TEXT, FIELD(data), "SRC", "calibration images for --pi (training split)", 0,
     0},
    {"calib", 0, CLI_INT, FIELD(calib), "N", "how many of them (default 2000)", 1, 1e7},
    {"normalize", 0, CLI_TEXT, FIELD(normalize), "P", NORMALIZE_AUTO_HELP, 0, 0},
    {"salt", 0, CLI_TEXT, FIELD(salt), "HEX", "fixes the weights file's salt; for tests only", 0,
     0},
    MODEL_OPTIONS(struct options),
    {0}};
static const struct cli_spec spec = {
    "MODEL|CHECKPOINT",
    1,
    1,
    "Writes standard ONNX and a private-inference package.",
    "linnet export out/checkpoint.safetensors --branch adv -o robust.onnx",
    options};

static int package(const struct cli_common *c, const struct options *o, const struct model *m,
                   const struct graph *branch)
{
    const struct shape *in = &branch->value[branch->input].shape;
    struct dataset *d = NULL;
    int64_t n = o->calib;
    float *x = NULL;
    int rc;

    if ((rc = cli_as_data(data_open(o->data, DATA_TRAIN, (uint64_t)c->seed, &d))) < 0 ||
        (rc = data_check(d, in->dim[1], in->dim[2], in->dim[3],
                         branch->value[branch->output].shape.dim[1])) < 0 ||
        (rc = output_calibration(d, &n, &x)) < 0)
        goto out;
    rc = output_pi(c, m, branch, x, n, o->salt, o->pi);
out:
    data_close(d);
    mem_free(x);
    return rc;
}

enum target { FOR_CRYPTEN, FOR_EZPC, FOR_ONNXRUNTIME }; /* as --for lists them */

/* The tools for private inference get logits in a form that they know; exporter/lint.c checks it. */
static int translate(const struct options *o, struct export_options *e)
{
    static const enum export_target target[] = {EXPORT_CRYPTEN, EXPORT_EZPC, EXPORT_ANY};
    static const enum mask_form form[] = {MASK_GATHER, MASK_CHANNEL, MASK_WHERE};
    const bool private = o->target == FOR_CRYPTEN || o->target == FOR_EZPC;

    *e = (struct export_options){.form = o->target >= 0 ? form[o->target] : MASK_WHERE,
                                 .opset = o->opset,
                                 .fold_bn = o->fold_bn,
                                 .strip_softmax = o->strip_softmax || private,
                                 .external_data = o->external_data,
                                 .target = o->target >= 0 ? target[o->target] : EXPORT_ANY};
    if (o->form >= 0)
        e->form = (enum mask_form)o->form;
    if (private && e->form != MASK_GATHER && e->form != MASK_CHANNEL)
        return fail(ERR_ARG, "--for %s reads --masked-relu gather or channel only",
                    o->target == FOR_CRYPTEN ? "crypten" : "ezpc");
    return 0;
}

static int export_model(const struct cli_common *c, const struct options *o, struct model *m)
{
    struct export_options opt;
    struct graph *branch = NULL;
    int bank, rc;

    if ((rc = translate(o, &opt)) < 0 || (rc = model_branch(m->g, o->branch, &bank)) < 0 ||
        (rc = output_branch(m, m->g, bank, NULL, &branch)) < 0 ||
        (o->pi && (rc = output_folder(o->pi)) < 0) || /* -o DIR/model.onnx --pi DIR */
        (rc = onnx_export(branch, &opt, o->out)) < 0)
        goto out;
    cli_note(c, "%s: written", o->out);
    if (o->pi)
        rc = package(c, o, m, branch);
out:
    graph_free(branch);
    return rc;
}

static int check_salt(const struct options *o)
{
    uint8_t salt[SHA256_SIZE];

    if (o->salt && sha256_parse(o->salt, salt) < 0)
        return fail(ERR_ARG, "--salt: must be 64 hexadecimal digits");
    return o->salt && !o->pi ? fail(ERR_ARG, "--salt: belongs to --pi DIR") : 0;
}

int cmd_export(int argc, char **argv)
{
    struct options o = {.branch = "clean", .calib = 2000, .target = -1, .form = -1};
    struct cli_common c;
    struct model m = {0};
    int rc = cli_parse(&spec, argc, argv, &c, &o);

    if (rc == 0 && !o.out)
        rc = fail(ERR_ARG, "give -o y.onnx");
    if (rc == 0)
        rc = check_salt(&o);
    if (rc == 0 && o.pi && !o.data)
        rc = fail(ERR_ARG, "--pi needs --data SRC: images to calibrate the fixed-point ranges on");
    if (rc == 0 && (rc = output_is_new(o.out, (const char *[]){c.arg[0]}, 1)) == 0 &&
        (rc = model_open_from(&c, c.arg[0], &o.source, o.normalize, o.data, &m)) == 0)
        rc = export_model(&c, &o, &m);
    model_close(&m);
    cli_release(&c);
    return rc;
}
