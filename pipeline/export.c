/* Task "export": a model or a checkpoint as standard ONNX, and as a private-inference package. */
#include "core/base/file.h"
#include "exporter/lower/lower.h"
#include "pipeline/listener.h"
#include "pipeline/network.h"
#include "pipeline/outputs.h"
#include "pipeline/precision.h"
#include "pipeline/source.h"
#include "pipeline/tasks.h"

struct export_settings {
    struct open_options open;
    const char *out, *branch, *pi, *salt;
    int32_t form, target, precision;
    int64_t opset, calib;
    double max_failure;
    bool fold_bn, strip_softmax, external_data, publish_slopes;
};
#define FIELD(f) offsetof(struct export_settings, f)
static const struct option_row rows[] = {
    OPTION("output", 'o', OPTION_OUTPUT, FIELD(out), "y.onnx", "the ONNX file"),
    OPTION("branch", 0, OPTION_TEXT, FIELD(branch), BRANCH_WORDS,
           "batch-norm branch (default: the deployed one; of a file with one branch, that)"),
    OPTION(
        "masked-relu", 0, OPTION_CHOICE, FIELD(form), "where|prelu|gather|channel",
        "how a masked ReLU is written; gather and channel fix the batch at 1 (default where, or what the tool of --for reads)"),
    NUMBER("opset", 0, OPTION_INT, FIELD(opset), "N", "13 to 21 (default 17)", 13, 21),
    OPTION("fold-bn", 0, OPTION_FLAG, FIELD(fold_bn), NULL,
           "also fold the batch norm that the file came with"),
    OPTION("for", 0, OPTION_CHOICE, FIELD(target), "crypten|ezpc|onnxruntime",
           "write a form that this tool can import, and check it"),
    OPTION("strip-softmax", 0, OPTION_FLAG, FIELD(strip_softmax), NULL,
           "write the logits even if the file ends in a Softmax"),
    OPTION("external-data", 0, OPTION_FLAG, FIELD(external_data), NULL,
           "weights in a second file y.onnx.data (always above 1.9 GB)"),
    OPTION("pi", 0, OPTION_FOLDER, FIELD(pi), "DIR",
           "also write DIR/model.pi and DIR/model.pi.weights"),
    OPTION("publish-slopes", 0, OPTION_FLAG, FIELD(publish_slopes), NULL,
           "--pi: allow the slopes of removed ReLUs (--removed line) in model.pi, which is public"),
    DATA_ROW("calibration images for --pi (training split)"),
    IMAGE_ROWS,
    NUMBER("calib", 0, OPTION_INT, FIELD(calib), "N", "number of calibration images (default 2000)",
           1, 1e7),
    OPTION("precision", 0, OPTION_CHOICE, FIELD(precision), "auto|fp32|bf16",
           "what calibration computes in: fp32, also for auto; bf16 is refused (default fp32)"),
    NUMBER(
        "max-failure", 0, OPTION_REAL, FIELD(max_failure), "X",
        "--pi: largest chance of a garbage answer; weights get fewer bits for it (default 1/256)",
        1e-15, 1),
    NORMALIZE_ROW(NORMALIZE_AUTO_HELP),
    OPTION("salt", 0, OPTION_TEXT, FIELD(salt), "HEX",
           "fixed salt of the weights file; for tests only"),
    OPEN_ROWS,
    OPTION_END};
static const struct export_settings defaults = {.calib = 2000,
                                                .target = -1,
                                                .form = -1,
                                                .max_failure = LOWER_MAX_FAILURE,
                                                .precision = PRECISION_FP32};

static int check(const struct linnet_options *o)
{
    const struct export_settings *s = options_values(o);
    uint8_t salt[SHA256_SIZE];

    if (s->out == NULL && s->pi == NULL)
        return fail(ERR_ARG, "give -o y.onnx");
    if (s->salt && sha256_parse(s->salt, salt) < 0)
        return fail(ERR_ARG, "--salt: must be 64 hexadecimal digits");
    if (s->salt && !s->pi)
        return fail(ERR_ARG, "--salt: belongs to --pi DIR");
    if (s->precision == PRECISION_BF16)
        return fail(
            ERR_ARG,
            "--precision bf16: calibration computes in fp32, so that fixed-point ranges hold what exact inference reaches; leave the option out");
    if (s->publish_slopes && !s->pi)
        return fail(ERR_ARG, "--publish-slopes: belongs to --pi DIR");
    if (s->pi && !s->open.data)
        return fail(ERR_ARG,
                    "--pi needs --data SRC: images to calibrate the fixed-point ranges on");
    return 0;
}
const struct task export_task = {"export", rows, &defaults, sizeof defaults, check, true};

enum target { FOR_CRYPTEN, FOR_EZPC, FOR_ONNXRUNTIME }; /* as --for lists them */

/* The tools for private inference get logits in a form that they know; exporter/lint.c checks it. */
static int translate(const struct export_settings *o, struct export_options *e)
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

static int package(const struct linnet_listener *l, const struct export_settings *s, uint64_t seed,
                   const struct model *m, int which, struct graph **branch)
{
    struct output_private how = {.network = m->g,
                                 .branch = which,
                                 .n = s->calib,
                                 .publish_slopes = s->publish_slopes,
                                 .salt = s->salt,
                                 .max_failure = s->max_failure};
    SCOPED(data_close_at) struct dataset *d = NULL;

    TRY(source_open(s->open.data, &s->open.images, DATA_TRAIN, seed, *branch, &d));
    how.calib = d;
    return output_pi(l, m, branch, &how, s->pi);
}

static int write_onnx(const struct linnet_listener *l, const struct export_settings *s,
                      const struct export_options *opt, const struct graph *branch)
{
    TRY(onnx_export(branch, opt, s->out));
    listener_note(l, "%s: written%s", s->out,
                  opt->form == MASK_GATHER || opt->form == MASK_CHANNEL
                      ? " for one image at a time: this form fixes the batch at 1"
                      : "");
    return 0;
}

int linnet_export(const struct linnet_model *model, const struct linnet_options *o,
                  const struct linnet_listener *l)
{
    const struct model *m = &model->m;
    const struct export_settings *s;
    struct export_options opt;
    SCOPED(graph_free_at) struct graph *chosen = NULL;
    SCOPED(lock_release_at) struct lock *lock = NULL;
    int branch;

    TRY(options_read(o, &export_task, (const void **)&s));
    if (s->out)
        TRY(file_is_new(s->out, (const char *[]){m->path}, 1));
    TRY(translate(s, &opt));
    branch = model_branches(m->g).deployed > 0;
    if (s->branch != NULL)
        TRY(model_branch(m->g, s->branch, &branch));
    TRY(output_branch(m, m->g, branch, NULL, &chosen));
    if (s->pi) /* -o DIR/model.onnx --pi DIR */
        TRY(output_claim(s->pi, &lock));
    if (s->out)
        TRY(write_onnx(l, s, &opt, chosen));
    return s->pi ? package(l, s, options_seed(o), m, branch, &chosen) : 0;
}
