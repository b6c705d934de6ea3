#ifndef PIPELINE_MODEL_H
#define PIPELINE_MODEL_H
/*
 * What users mean by MODEL: an ONNX file or a checkpoint of linnet, opened to a graph with its
 * normalisation set.
 *
 * A checkpoint holds the ONNX file that training started from, the numbers, and a note on what
 * training added to the structure ("network" in its config):
 *
 *     {"bn_inserted": true, "banks": 2, "masked": true, "normalize": "imagenet"}
 *
 * and "removed": "half" or "line" where removed ReLUs have lines, and, after --as-published,
 * "shared_shortcuts" or "dropped_skips", and "deploy": "adv" or "single" where not the clean branch is
 * deployed, so opening one means: import, insert batch norm and masks again, read the numbers.
 */
#include <jansson.h>

#include "core/graph/graph.h"
#include "trainer/data/normalize.h"
#include "core/base/sha256.h"
#include "importer/importer.h"
#include "pipeline/options.h"
#include "pipeline/source.h"

enum model_deploy { /* which network of a conversion is deployed */
                    DEPLOY_CLEAN,
                    DEPLOY_ADV,
                    DEPLOY_SINGLE, /* one network with one branch */
                    DEPLOYS
};
struct model_form { /* what training added to the file's structure */
    bool bn_inserted, masked;
    int32_t removed;  /* enum removed_kind */
    int32_t branches; /* as graph_branches */
    int32_t deploy;   /* enum model_deploy */
    /* linearizer/published.h */
    bool shared_shortcuts; /* one BN for both branches on the 1x1 shortcuts */
    bool dropped_skips;    /* identity skips are gone */
};
struct model {
    char *path;
    struct graph *g;
    struct model_form form;
    uint8_t *file; /* ONNX of the graph in one file: what a checkpoint embeds */
    size_t file_len;
    uint8_t sha256[SHA256_SIZE]; /* of `path` */
    bool is_checkpoint;
    bool normalize_known; /* by option or metadata; otherwise pixels go in as they are */
    char *config;         /* config JSON of a checkpoint, NULL for ONNX */
};
/* Where there are images and nothing says what the model expects of pixels. */
enum normalize_guess {
    GUESS_BEST,  /* takes the best preset and tells */
    GUESS_SURE,  /* refuses where it is not clear: what is trained stays wrong */
    GUESS_NEVER, /* another file is asked first */
};
/* How to read a file: what the options of every task that opens models begin with. */
struct open_options {
    const char *output_name, *input_shape;
    int32_t layout;    /* enum import_layout */
    int32_t relu6;     /* 1: as Relu */
    int32_t precision; /* enum precision_choice; of the tasks that have PRECISION_ROW */
    const char
        *normalize;   /* preset, NULL for what the file says, "auto" for the best on the training
                            * images of `data` */
    const char *data; /* source of images, NULL if there is none */
    struct source_options images; /* beside it */
    enum normalize_guess guess;
};
/* Rows that say how a file is read, for a task's table. */
#define OPEN_ROWS                                                                                  \
    OPTION("output-name", 0, OPTION_TEXT, offsetof(struct open_options, output_name), "NAME",      \
           "which value of the ONNX file holds the logits, where it has several outputs"),         \
        OPTION("input-shape", 0, OPTION_TEXT, offsetof(struct open_options, input_shape),          \
               "NAME:1,C,H,W", "sizes that the ONNX file leaves open"),                            \
        OPTION("layout", 0, OPTION_CHOICE, offsetof(struct open_options, layout),                  \
               "auto|nchw|nhwc", "layout of the file's input, kept on export (default auto)"),     \
        OPTION(                                                                                    \
            "relu6", 0, OPTION_CHOICE, offsetof(struct open_options, relu6), "keep|as-relu",       \
            "as-relu imports ReLU6 as ReLU: another function, so train it before use (default keep)")
#define NORMALIZE_ROW(help)                                                                        \
    OPTION("normalize", 0, OPTION_TEXT, offsetof(struct open_options, normalize), "P", help)
#define DATA_ROW(help)                                                                             \
    OPTION("data", 'd', OPTION_SOURCE, offsetof(struct open_options, data), "SRC", help)
/* What the images of --data may be changed by, for a task's table. */
#define IMAGE_ROWS                                                                                 \
    SOURCE_SIZE_ROWS(struct open_options, images), SOURCE_MEMORY_ROWS(struct open_options, images)
#define RANDOM_ROW SOURCE_RANDOM_ROW(struct open_options, images)
#define TEST_ROW SOURCE_TEST_ROW(struct open_options, images)
#define VAL_ROW SOURCE_VAL_ROW(struct open_options, images)
#define DATA_HELP                                                                                  \
    "folder or archive, or cifar10:PATH, cifar100:PATH, imagefolder:PATH, shards:PATTERN, npy:X,Y, synth:[N]"
/* Tasks with images take `auto` too. */
#define NORMALIZE_HELP                                                                             \
    "what the model expects of pixels: " NORMALIZE_WORDS                                           \
    " (default: what the file says, otherwise pixels in [0,1] as they are)"
#define NORMALIZE_AUTO_HELP                                                                        \
    "what the model expects of pixels: auto, " NORMALIZE_WORDS                                     \
    " (default: what the file says, otherwise the best preset on images of --data)"

#define MODEL_NAME 1024 /* bytes of a value's name */
/* The normalisation that the file's own metadata name, if they do. ERR_FORMAT where they are damaged: it
 * is not the user who said it. */
int model_normalize_by_file(const char *path, struct graph *g) MUST_CHECK;
/* name: where out->input may point. */
int model_import_options(const struct open_options *o, char name[MODEL_NAME],
                         struct import_options *out) MUST_CHECK;
/* o: NULL for none of it. seed: of the images of "auto". Close in every case. */
int model_open(const struct linnet_listener *l, const char *path, const struct open_options *o,
               uint64_t seed, struct model *out) MUST_CHECK;
/* Of a model that is not trained, no checkpoint embeds the file: as many bytes as its weights. */
void model_drop_file(struct model *m);
void model_close(struct model *m);
/* New reference: the "network" object of the form and the graph's normalisation. */
json_t *model_form_json(const struct model_form *form, const struct graph *g);
/* Turns a freshly imported graph into the form: BN with neutral numbers, second branch, masks of ones. */
int model_apply_form(struct graph *g, const struct model_form *form) MUST_CHECK;
bool model_is_safetensors(const char *path); /* by its name */
/* A file that could be read but is not taken. */
bool model_refuses(int rc);
/* "clean", "adv", "single": also the name of the branch that is deployed. */
const char *model_deploy_name(int32_t deploy);
/* What the batch-norm branches of a model are called. A file of one branch tells which of the two it was,
 * or that it is `single` (linnet.branch); one that tells nothing has the clean one. */
#define BRANCH_WORDS "clean|adv|single"
struct model_branches {
    const char *name[2]; /* by branch */
    int deployed;        /* branch of the branch that model.pi is made from, -1: not here */
};
struct model_branches model_branches(const struct graph *g);
/* Name -> branch, NULL -> the first; ERR_ARG if the model has no such branch. */
int model_branch(const struct graph *g, const char *name, int *branch) MUST_CHECK;
/* "clean" or "adv", of a model with two branches */
const char *model_branch_name(int branch);
#endif
