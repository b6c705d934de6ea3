/* linnet export: a model or a checkpoint as standard ONNX, and as a private-inference package. */
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/model.h"
#include "cli/outputs.h"

struct options {
    const char *out, *branch, *pi, *data, *normalize, *salt;
    int32_t form, target;
    int64_t opset, calib;
    bool fold_bn;
};
#define FIELD(f) offsetof(struct options, f)
static const struct cli_option options[] = {
    {"output", 'o', CLI_TEXT, FIELD(out), "y.onnx", "the ONNX file", 0, 0},
    {"branch", 0, CLI_TEXT, FIELD(branch), "clean|adv", "batch-norm branch (default clean)", 0, 0},
    {"masked-relu", 0, CLI_CHOICE, FIELD(form), "where|prelu|gather|channel",
     "how a masked ReLU is written (default where)", 0, 0},
    {"opset", 0, CLI_INT, FIELD(opset), "N", "13 to 21 (default 17)", 13, 21},
    {"fold-bn", 0, CLI_FLAG, FIELD(fold_bn), NULL, "fold batch norm that came with the file too", 0,
     0},
    {"for", 0, CLI_CHOICE, FIELD(target), "crypten|ezpc|onnxruntime",
     "what a downstream importer needs", 0, 0},
    {"pi", 0, CLI_TEXT, FIELD(pi), "DIR", "also write DIR/model.pi and DIR/model.pi.weights", 0, 0},
    {"data", 'd', CLI_TEXT, FIELD(data), "SRC", "calibration images for --pi (training split)", 0,
     0},
    {"calib", 0, CLI_INT, FIELD(calib), "N", "how many of them (default 2000)", 1, 1e7},
    {"normalize", 0, CLI_TEXT, FIELD(normalize), "P",
     "preset or m,m,m/s,s,s (default: what the file says)", 0, 0},
    {"salt", 0, CLI_TEXT, FIELD(salt), "HEX", "fixes the weights file's salt; for tests only", 0,
     0},
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

static int export_model(const struct cli_common *c, const struct options *o, struct model *m)
{
    const struct export_options opt = {
        .form = (enum mask_form)o->form, .opset = o->opset, .fold_bn = o->fold_bn};
    struct graph *branch = NULL;
    int bank, rc;

    if ((rc = model_branch(m->g, o->branch, &bank)) < 0 ||
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

int cmd_export(int argc, char **argv)
{
    struct options o = {.branch = "clean", .calib = 2000, .target = -1};
    struct cli_common c;
    struct model m = {0};
    int rc = cli_parse(&spec, argc, argv, &c, &o);

    if (rc == 0 && !o.out)
        rc = fail(ERR_ARG, "give -o y.onnx");
    if (rc == 0 && o.target >= 0)
        rc = fail(ERR_ARG, "--for: not in this version");
    if (rc == 0 && o.pi && !o.data)
        rc = fail(ERR_ARG, "--pi needs --data SRC: images to calibrate the fixed-point ranges on");
    if (rc == 0 && (rc = model_open(&c, c.arg[0], o.normalize, &m)) == 0)
        rc = export_model(&c, &o, &m);
    model_close(&m);
    cli_release(&c);
    return rc;
}
