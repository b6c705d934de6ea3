#ifndef TRAINER_DATA_NORMALIZE_H
#define TRAINER_DATA_NORMALIZE_H
/*
 * Normalisation presets: text <-> struct input_norm (robustness.md section 1).
 *
 *     cifar10  cifar10-b  cifar100  half  imagenet  none  255  or  "m,m,m/s,s,s"
 *
 * `auto` is the caller's business (it needs the model's metadata).
 */
#include <stddef.h>

#include "core/graph/graph.h"

/* "none" gives channels 0 (identity); "255" gives std 1/255 for 3 channels. A custom text has one
 * mean and one std a channel, 1 to 16 channels, std > 0. ERR_ARG names the text and the presets. */
int normalize_parse(const char *text, struct input_norm *out) MUST_CHECK;
/* Canonical text for metadata: the preset's name where the values are those of a preset, otherwise
 * "m,m,m/s,s,s" in the shortest digits that read back exactly. Returns buf. */
#define NORMALIZE_TEXT (GRAPH_MAX_CHANNELS_NORM * 2 * 16 + 2)
const char *normalize_text(const struct input_norm *norm, char buf[NORMALIZE_TEXT]);
#endif
