#ifndef LINNET_H
#define LINNET_H
/*
 * The C API of linnet: read an ONNX classifier, remove most of its ReLUs, keep it accurate and
 * robust, write ONNX and a private-inference package. It is all that the program `linnet` calls.
 *
 *     struct linnet_options *o = NULL;
 *     struct linnet_model *m = NULL;
 *     struct linnet_report *r = NULL;
 *     double robust;
 *     int rc;
 *
 *     if ((rc = linnet_options_new("eval", &o)) < 0 ||
 *         (rc = linnet_options_set(o, "data", "cifar10:/data/cifar10")) < 0 ||
 *         (rc = linnet_options_set(o, "attack", "pgd:eps=8/255,steps=20")) < 0 ||
 *         (rc = linnet_open("resnet20.onnx", o, NULL, &m)) < 0 ||
 *         (rc = linnet_evaluate(m, o, NULL, &r)) < 0 ||
 *         (rc = linnet_report_number(r, "branches/0/attacks/0/accuracy", &robust)) < 0)
 *         fprintf(stderr, "%s\n", linnet_message());
 *     linnet_report_free(r);
 *     linnet_close(m);
 *     linnet_options_free(o);
 *
 * Tasks carry the names of the program's commands, and their options the long names of the command
 * line: `linnet COMMAND --help` and linnet_option_at() describe them, a config.json holds them. New
 * releases add names; a program that does not set them keeps its behaviour.
 *
 * Every function that can fail returns 0 or a negative code of enum linnet_error; linnet_message()
 * is then a sentence that names the thing, the rule and a hint. Nothing is printed, no signal is
 * caught, the process is never ended. Handles belong to the caller, who frees them; NULL is fine
 * there. One handle is used by one thread at a time; different handles by different threads. Work
 * inside a call is spread over OpenMP's threads, and no result depends on how many there are.
 */
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef LINNET_API
#define LINNET_API __attribute__((visibility("default")))
#endif

enum linnet_error {
    LINNET_OK = 0,
    LINNET_NOMEM = -1,       /* out of memory */
    LINNET_IO = -2,          /* the system refused to read or to write */
    LINNET_FORMAT = -3,      /* a model, checkpoint or package is malformed */
    LINNET_LIMIT = -4,       /* ... or larger than what is read */
    LINNET_UNSUPPORTED = -5, /* ... or holds what linnet cannot do */
    LINNET_ARG = -6,         /* an option or argument is wrong */
    LINNET_DATA = -7,        /* the images are refused */
    LINNET_NET = -8,
    LINNET_PEER = -9,
    LINNET_NUMERIC = -10,     /* training left the numbers */
    LINNET_VERIFY = -11,      /* a package differs from its model beyond the tolerance */
    LINNET_GOAL = -12,        /* a goal such as require-clean was missed */
    LINNET_INTERRUPTED = -13, /* by the listener */
};
/* The sentence of this thread's last failure, "" if there was none. Valid until the next one. */
LINNET_API const char *linnet_message(void);
/* "out of memory" for LINNET_NOMEM and so on; never NULL. */
LINNET_API const char *linnet_error_name(int code);
LINNET_API const char *linnet_version(void);

/* ---- hearing what goes on -------------------------------------------------------------------- */

enum linnet_level {
    LINNET_NOTE,   /* a warning, a choice that was made */
    LINNET_DETAIL, /* for whoever asked for more */
};
/* One task of a call that has several. */
struct linnet_stage {
    const char *task; /* as progress names it; a name may come again */
    const char *text; /* what it does, for people */
    double work;      /* its part of the whole, as far as that is known before; any unit */
};
/* Callbacks of long calls, all optional; made from the thread that made the call. */
struct linnet_listener {
    void *ctx;
    void (*message)(void *ctx, enum linnet_level level, const char *text);
    /* A task, "finetune" say, has come so far: done in [0,1]. text says more and may be "". A text
     * that is NULL ends the task. `task` is a constant. */
    void (*progress)(void *ctx, const char *task, double done, const char *text);
    /* Not 0: stop. Asked several times a second; the call returns LINNET_INTERRUPTED, with its state
     * saved where it keeps one. */
    int (*interrupted)(void *ctx);
    /* All tasks of the call in their order, before the first one begins. Some may be left out, because a
     * resumed run has done them. The stages are the library's, until this returns. */
    void (*plan)(void *ctx, const struct linnet_stage *stage, int n);
};

/* ---- options ----------------------------------------------------------------------------------- */

struct linnet_options;
/* task: "open", "inspect", "init", "data", "eval", "train", "linearize", "sweep", "export",
 * "validate", "corrupt" or "lint". All options have their defaults. */
LINNET_API int linnet_options_new(const char *task, struct linnet_options **out);
LINNET_API void linnet_options_free(struct linnet_options *o);
/* The value as on the command line; NULL or "true" for an option without a value, where "false"
 * takes it back. What may be given several times ("attack") is added. Every task takes "seed".
 * LINNET_ARG for an unknown name, or a value that breaks the option's own rule. */
LINNET_API int linnet_options_set(struct linnet_options *o, const char *name, const char *value);

/* What an option's value names. A caller may compare files before the call; the commands of linnet do. */
enum linnet_role {
    LINNET_ROLE_NONE,
    LINNET_ROLE_INPUT,  /* a file or folder that is read */
    LINNET_ROLE_SOURCE, /* images, "cifar10:DIR" */
    LINNET_ROLE_OUTPUT, /* a file that is written */
    LINNET_ROLE_FOLDER, /* a folder that files are written into */
};
struct linnet_option {
    const char *name;
    char letter;       /* of its short form, 0 if none */
    const char *value; /* what the value is: "N", "clean|adv"; NULL: the option takes none */
    const char *help;
    int repeats; /* may be given several times */
    enum linnet_role role;
};
/* Option number `index` of a task, from 0; NULL beyond the last, or where there is no such task. */
LINNET_API const struct linnet_option *linnet_option_at(const char *task, int index);

/* ---- reports ----------------------------------------------------------------------------------- */

struct linnet_report; /* a result: figures, and a text for people */
LINNET_API void linnet_report_free(struct linnet_report *r);
/* Lines for people. */
LINNET_API const char *linnet_report_text(const struct linnet_report *r);
/* JSON with sorted keys and 17 digits; its "format" names the shape. */
LINNET_API const char *linnet_report_json(const struct linnet_report *r);
/* The number, or 0 and 1 for false and true, at a path of keys and indices, "branches/0/clean/n".
 * LINNET_ARG where there is none. */
LINNET_API int linnet_report_number(const struct linnet_report *r, const char *path, double *out);

/* ---- models ------------------------------------------------------------------------------------ */

struct linnet_model;
/* Opens an ONNX file or a checkpoint of linnet (.safetensors). o: NULL, or options of any task: those
 * that say how to read a model are looked at ("normalize", "output-name", "input-shape", "layout", "relu6";
 * "data" where "normalize" is "auto", or neither it nor the file says what the model expects of pixels). */
LINNET_API int linnet_open(const char *path, const struct linnet_options *o,
                           const struct linnet_listener *l, struct linnet_model **out);
LINNET_API void linnet_close(struct linnet_model *m);

struct linnet_info {
    int64_t channels, height, width, classes; /* input [N,C,H,W], output [N,K] */
    int64_t branches; /* batch-norm branches: 2 after robust training, else 1 */
    int64_t parameters, macs, relus_total, relus_kept; /* of one image */
    int64_t
        channels_last; /* 1: the file declares its input as [N,H,W,C]; here it is [N,C,H,W] all the same */
    int64_t relu_evaluations; /* of private inference: a kept ReLU is one, a kept ReLU6 two */
};
LINNET_API const struct linnet_info *linnet_model_info(const struct linnet_model *m);
/* "clean" is 0, "adv" 1, the only one of a file with one branch (clean, adv, single) 0, NULL 0; LINNET_ARG if the model has
 * no such branch. */
LINNET_API int linnet_branch(const struct linnet_model *m, const char *name, int *branch);

/* pixels [n,C,H,W] in [0,1], before normalisation; logits [n,K]. Evaluation mode. */
LINNET_API int linnet_logits(struct linnet_model *m, int branch, const float *pixels, int64_t n,
                             float *logits);
/* What the file computes: the logits, or what a Softmax at its end makes of them. */
LINNET_API int linnet_outputs(struct linnet_model *m, int branch, const float *pixels, int64_t n,
                              float *outputs);
/* gradient [n,C,H,W] := d sum_k upstream[i,k] logits[i,k] / d pixels[i]. logits [n,K] may be NULL.
 * LINNET_UNSUPPORTED: an operator has no gradient. */
LINNET_API int linnet_gradient(struct linnet_model *m, int branch, const float *pixels, int64_t n,
                               const float *upstream, float *gradient, float *logits);

/* ---- work -------------------------------------------------------------------------------------- */
/* Where a report is given back, it is whole. It comes with LINNET_GOAL and LINNET_VERIFY too, and
 * with the refusals of linnet_inspect and linnet_lint; otherwise *out is NULL after a failure. out
 * may be NULL, so may l, and o where a task needs none of its options. */

/* Task "inspect": interface, operators, ReLUs by layer, memory, the cost of private inference, and
 * every reason to refuse the file; returns the refusal. */
LINNET_API int linnet_inspect(const char *path, const struct linnet_options *o,
                              struct linnet_report **out);
/* Task "lint": what the importer of another tool ("for") would refuse; LINNET_UNSUPPORTED if it
 * would. */
LINNET_API int linnet_lint(const char *path, const struct linnet_options *o,
                           struct linnet_report **out);
/* Names of the standard architectures, from 0; NULL beyond the last. */
LINNET_API const char *linnet_architecture(int index);
/* Task "init": writes a standard architecture with random weights to `path`. */
LINNET_API int linnet_init(const char *architecture, const char *path,
                           const struct linnet_options *o, const struct linnet_listener *l);
/* Task "eval": clean accuracy, and that under "attack", "corruptions", "audit". linnet.eval/1. */
LINNET_API int linnet_evaluate(struct linnet_model *m, const struct linnet_options *o,
                               const struct linnet_listener *l, struct linnet_report **out);
/* Task "train": writes "output", a file NAME.onnx, its other branch and its state. linnet.train/1. */
LINNET_API int linnet_train(const char *path, const struct linnet_options *o,
                            const struct linnet_listener *l, struct linnet_report **out);
/* Task "linearize": the whole conversion into the folder "output". linnet.report/1. */
LINNET_API int linnet_linearize(const char *path, const struct linnet_options *o,
                                const struct linnet_listener *l, struct linnet_report **out);
/* Task "sweep": conversions to several budgets from one teacher. linnet.sweep/1. */
LINNET_API int linnet_sweep(const char *path, const struct linnet_options *o,
                            const struct linnet_listener *l, struct linnet_report **out);
/* Task "export": standard ONNX to "output", and a private-inference package (model.pi,
 * model.pi.weights) to the folder "pi". One of both may be left out. */
LINNET_API int linnet_export(const struct linnet_model *m, const struct linnet_options *o,
                             const struct linnet_listener *l);
/* Task "validate": the package in a folder against the model.onnx beside it. linnet.eval/1. */
LINNET_API int linnet_validate(const char *folder, const struct linnet_options *o,
                               const struct linnet_listener *l, struct linnet_report **out);
/* Task "corrupt": images under corruptions, as a CIFAR-10-C style folder. linnet.corrupt/1. */
LINNET_API int linnet_corrupt(const struct linnet_options *o, const struct linnet_listener *l,
                              struct linnet_report **out);

/* Writes one HTML page about n folders that linearize or sweep wrote: accuracies of every file, ReLUs per
 * layer, where they are, training curves, predicted private inference. It needs no network and no
 * scripts; the same folders give the same bytes. */
LINNET_API int linnet_page(const char *const *folder, int n, const char *path);

/* ---- images ------------------------------------------------------------------------------------ */

struct linnet_data;
struct
    linnet_data_info { /* exactly one of pixels and floats is set; both live as long as the data */
    int64_t n, channels, height, width, classes;
    const uint8_t *pixels;          /* [n,C,H,W] */
    const float *floats;            /* [n,C,H,W] in [0,1] */
    const int32_t *labels;          /* [n] */
    const char *const *class_names; /* [classes], or NULL where the source has none */
    const char *source, *split;
};
/* Task "data": a source as "data" takes it, "cifar10:DIR". */
LINNET_API int linnet_data_open(const char *source, const struct linnet_options *o,
                                struct linnet_data **out);
LINNET_API void linnet_data_close(struct linnet_data *d);
LINNET_API const struct linnet_data_info *linnet_data_info(const struct linnet_data *d);
/* Classes, and means and deviations by channel. linnet.data/1. */
LINNET_API int linnet_data_report(const struct linnet_data *d, struct linnet_report **out);

#ifdef __cplusplus
}
#endif
#endif
