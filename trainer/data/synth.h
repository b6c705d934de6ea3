#ifndef TRAINER_DATA_SYNTH_H
#define TRAINER_DATA_SYNTH_H
/*
 * Synthetic images with labels: the data set that linnet can always make.
 *
 * 32x32 RGB, 8 bits, ten classes (synth_class_name). Image i of a part depends on nothing but
 * (seed, part, i); its label is i modulo 10, so every first n are balanced.
 */
#include <stdint.h>

#include "core/base/err.h"

#define SYNTH_SIDE 32
#define SYNTH_CHANNELS 3
#define SYNTH_BYTES (SYNTH_CHANNELS * SYNTH_SIDE * SYNTH_SIDE)
#define SYNTH_CLASSES 10

enum synth_part { SYNTH_TRAIN, SYNTH_TEST };

/* One image [3][32][32] and its label. */
void synth_image(uint64_t seed, enum synth_part part, int64_t i, uint8_t *chw, int32_t *label);
/* Images 0 ... n-1 of a part; in parallel, the same bytes for any number of threads. */
void synth_images(uint64_t seed, enum synth_part part, int64_t n, uint8_t *pixels, int32_t *labels);
/* "disc", "ring", ... for 0 ... 9 */
const char *synth_class_name(int32_t label);
#endif
