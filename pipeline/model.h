#ifndef PIPELINE_MODEL_H
#define PIPELINE_MODEL_H
/*
 * What commands mean by MODEL: an ONNX file or a checkpoint of linnet, opened to a graph with its
 * normalisation set.
 *
 * A checkpoint holds the ONNX file that training started from, the numbers, and a note on what
 * training added to the structure ("network" in its config):
 *
 *     {"bn_inserted": true, "banks": 2, "masked": true, "normalize": "imagenet"}
 *
 * and, after --as-published, "shared_shortcuts" or "dropped_skips",
 * so opening one means: import, insert batch norm and masks again, read the numbers.
 */
#include <jansson.h>

#include "cli/cli.h"
#include "core/graph/graph.h"
#include "trainer/data/normalize.h"
#include "core/base/sha256.h"
#include "importer/importer.h"

struct model_form { /* what training added to the file's structure */
    bool bn_inserted, masked;
    int32_t banks; /* as graph_banks */
    /* linearizer/published.h */
    bool shared_shortcuts; /* one BN for both branches on the 1x1 shortcuts */
    bool dropped_skips;    /* identity skips are gone */
};
struct model {
    struct graph *g;
    struct model_form form;
    uint8_t *file; /* ONNX of the graph in one file: what a checkpoint embeds */
    size_t file_len;
    uint8_t sha256[SHA256_SIZE]; /* of `path` */
    bool is_checkpoint;
    bool normalize_known; /* by option or metadata; otherwise pixels go in as they are */
    char *config;         /* config JSON of a checkpoint, NULL for ONNX */
};
struct model_source { /* how to read the file, from the command line */
    const char *output_name, *input_shape;
    int32_t layout; /* enum import_layout */
};
/* The options that fill it, for the table of a command: a field `source` of its struct. */
#define MODEL_OPTIONS(type)                                                                        \
    {"output-name",                                                                                \
     0,                                                                                            \
     CLI_TEXT,                                                                                     \
     offsetof(type, source.output_name),                                                           \
     "NAME",                                                                                       \
     "which value of the ONNX file holds the logits, where it has several outputs",                \
     0,                                                                                            \
     0},                                                                                           \
        {"input-shape",                                                                            \
         0,                                                                                        \
         CLI_TEXT,                                                                                 \
         offsetof(type, source.input_shape),                                                       \
         "NAME:1,C,H,W",                                                                           \
         "sizes that the ONNX file leaves open",                                                   \
         0,                                                                                        \
         0},                                                                                       \
    {                                                                                              \
        "layout", 0, CLI_CHOICE, offsetof(type, source.layout), "auto|nchw|nhwc",                  \
            "order of the file's input; stays as it is on export (default auto)", 0, 0             \
    }

/* What --normalize takes, for --help; commands with --data take `auto` too. */
#define NORMALIZE_HELP                                                                             \
    "what the model expects of pixels: " NORMALIZE_WORDS " (default: what the file says)"
#define NORMALIZE_AUTO_HELP                                                                        \
    "what the model expects of pixels: auto, " NORMALIZE_WORDS " (default: what the file says)"

/* What --data takes, for --help. */
#define DATA_HELP                                                                                  \
    "folder or archive, or cifar10:PATH, cifar100:PATH, imagefolder:PATH, npy:X,Y, synth:[N]"

#define MODEL_NAME 1024 /* bytes of a value's name */
/* name: where out->input may point. */
int model_import_options(const struct model_source *source, char name[MODEL_NAME],
                         struct import_options *out) MUST_CHECK;
/* normalize: preset, NULL for what the file says, "auto" for the best on the training images of
 * `data` (SRC of --data, else NULL). Warnings go to stderr. Close in every case. */
int model_open_from(const struct cli_common *c, const char *path, const struct model_source *source,
                    const char *normalize, const char *data, struct model *out) MUST_CHECK;
/* The same with nothing asked and no images. */
int model_open(const struct cli_common *c, const char *path, const char *normalize,
               struct model *out) MUST_CHECK;
void model_close(struct model *m);
/* New reference: the "network" object of the form and the graph's normalisation. */
json_t *model_form_json(const struct model_form *form, const struct graph *g);
/* Turns a freshly imported graph into the form: BN with neutral numbers, second bank, masks of ones. */
int model_apply_form(struct graph *g, const struct model_form *form) MUST_CHECK;
/* Sets g->norm and the metadata linnet.normalize. ERR_ARG for a bad text or a wrong channel count. */
int model_set_normalize(struct graph *g, const char *text) MUST_CHECK;
/* "clean" -> 0, "adv" -> 1; ERR_ARG if the graph has no such branch. */
int model_branch(const struct graph *g, const char *name, int *bank) MUST_CHECK;
#endif
