#ifndef TRAINER_DATA_NORMALIZE_H
#define TRAINER_DATA_NORMALIZE_H
/*
 * Normalisation presets: text <-> struct input_norm. Every list of them (messages, --help, what
 * `auto` tries) is made from the table below; a new preset is one row.
 *
 * `auto` itself is pipeline/auto_normalize.h: it needs a model and images.
 */
#include <stddef.h>

#include "core/graph/graph.h"

/* X(name, channels, means, standard deviations) in the order in which `auto` tries them. 0 channels:
 * pixels in [0,1] go in as they are, whatever their number of channels. */
#define NORMALIZE_LIST(...)                                                                        \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define NORMALIZE_TABLE(X)                                                                         \
    X("none", 0, NORMALIZE_LIST(0), NORMALIZE_LIST(0))                                             \
    X("imagenet", 3, NORMALIZE_LIST(.485f, .456f, .406f), NORMALIZE_LIST(.229f, .224f, .225f))     \
    X("cifar10", 3, NORMALIZE_LIST(.4914f, .4822f, .4465f),                                        \
      NORMALIZE_LIST(.2023f, .1994f, .2010f))                                                      \
    X("cifar10-b", 3, NORMALIZE_LIST(.4914f, .4822f, .4465f),                                      \
      NORMALIZE_LIST(.2471f, .2435f, .2616f))                                                      \
    X("cifar100", 3, NORMALIZE_LIST(.5071f, .4867f, .4408f),                                       \
      NORMALIZE_LIST(.2675f, .2565f, .2761f))                                                      \
    X("half", 3, NORMALIZE_LIST(.5f, .5f, .5f), NORMALIZE_LIST(.5f, .5f, .5f))                     \
    X("255", 3, NORMALIZE_LIST(0, 0, 0), NORMALIZE_LIST(1 / 255.f, 1 / 255.f, 1 / 255.f))

/* "none, imagenet, ..., 255 or m,m,m/s,s,s" for messages and --help. */
#define NORMALIZE_NAME(name, channels, mean, std) name ", "
#define NORMALIZE_WORDS NORMALIZE_TABLE(NORMALIZE_NAME) "or m,m,m/s,s,s"

struct normalize_preset {
    const char *name;
    struct input_norm norm;
};
#define NORMALIZE_ONE(name, channels, mean, std) +1
#define NORMALIZE_PRESETS (0 NORMALIZE_TABLE(NORMALIZE_ONE))
extern const struct normalize_preset normalize_preset[NORMALIZE_PRESETS];

/* Reads a preset's name or a custom text: one mean and one standard deviation a channel, 1 to 16
 * channels, deviations above 0. ERR_ARG names the text and the presets. */
int normalize_parse(const char *text, struct input_norm *out) MUST_CHECK;
/* Canonical text for metadata: the preset's name where the values are those of a preset, otherwise
 * "m,m,m/s,s,s" in the shortest digits that read back exactly. Returns buf. */
#define NORMALIZE_TEXT (GRAPH_MAX_CHANNELS_NORM * 2 * 16 + 2)
const char *normalize_text(const struct input_norm *norm, char buf[NORMALIZE_TEXT]);
#endif
