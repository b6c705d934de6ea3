#ifndef PIPELINE_SOURCE_H
#define PIPELINE_SOURCE_H
/* Images for a model: what options say about them, opened, checked against its input and classes. */
#include "core/graph/graph.h"
#include "pipeline/options.h"
#include "trainer/data/data.h"

/* Beside --data; NULL where not given. */
struct source_options {
    const char *test, *val, *resize, *crop;
    const char *memory; /* NULL: a quarter of what there is */
    int64_t threads;
    bool random;
};
/* Rows for a task whose struct `type` has a struct source_options `member`. */
#define SOURCE_TEST_ROW(type, member)                                                              \
    OPTION("test-data", 0, OPTION_SOURCE, offsetof(type, member.test), "SRC",                      \
           "test images: one set, or the test part of a source (default: those of --data)")
#define SOURCE_VAL_ROW(type, member)                                                               \
    OPTION("val-data", 0, OPTION_SOURCE, offsetof(type, member.val), "SRC",                        \
           "validation images, one set (default: a tenth of the training images of --data)")
#define SOURCE_SIZE_ROWS(type, member)                                                             \
    OPTION("resize", 0, OPTION_TEXT, offsetof(type, member.resize), "N[,bicubic]",                 \
           "RGB images of 8 bits: scales the shorter side to N pixels, antialiased bilinear"),     \
        OPTION("crop", 0, OPTION_TEXT, offsetof(type, member.crop), "HxW",                         \
               "RGB images of 8 bits: keeps the middle HxW pixels")
/* Tasks without these rows that need all images in memory say so in their defaults: .memory = "all". */
#define SOURCE_MEMORY_ROWS(type, member)                                                            \
    OPTION(                                                                                         \
        "data-memory", 0, OPTION_TEXT, offsetof(type, member.memory), "SIZE",                       \
        "image folders, shards, npy: images of a split that need more are streamed from their "     \
        "files, with so much read ahead; 500M, 8G, all (default: a quarter of what is available)"), \
        NUMBER("data-threads", 0, OPTION_INT, offsetof(type, member.threads), "N",                  \
               "threads that decode streamed images (default: as many as --threads)", 1, 1024)
#define SOURCE_RANDOM_ROW(type, member)                                                            \
    OPTION("random-crop", 0, OPTION_FLAG, offsetof(type, member.random), NULL,                     \
           "RGB images of 8 bits: trains on random parts, 8 to 100 % of the image, ratio 3/4 to "  \
           "4/3, scaled to --crop and flipped")
/* The options of the trainer; texts stay borrowed. ERR_ARG for a bad size. */
int source_data_options(const struct source_options *s, struct data_options *out) MUST_CHECK;

/* Refusals of a data set are ERR_DATA, whatever made them. */
int source_refusal(int rc);
/* Do they fit the model? As data_check. */
int source_check(const struct dataset *d, const struct graph *g) MUST_CHECK;
/* Close with data_close, also after a failure. */
int source_open(const char *spec, const struct source_options *s, enum data_split split,
                uint64_t seed, const struct graph *g, struct dataset **out) MUST_CHECK;
/* The same without a model. */
int source_open_alone(const char *spec, const struct source_options *s, enum data_split split,
                      uint64_t seed, struct dataset **out) MUST_CHECK;
/* ERR_DATA where more than one in a hundred images of `other` are, pixel for pixel, training images;
 * fewer are counted in *n. what: "test" or "validation". */
int source_apart(const struct dataset *train, const struct dataset *other, const char *what,
                 int64_t *n) MUST_CHECK;
/* The first *n images of d as floats [n,C,H,W] (mem_free); *n is reduced to what there is. */
int source_floats(const struct dataset *d, int64_t *n, float **out) MUST_CHECK;
/* Images first ... first + n - 1 of the dataset `images`; for lower_options.read. */
int source_read(const void *images, int64_t first, int64_t n, float *out) MUST_CHECK;
#endif
