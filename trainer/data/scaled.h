#ifndef TRAINER_DATA_SCALED_H
#define TRAINER_DATA_SCALED_H
/* Images that are not files (arrays, CIFAR, synth:) at another size: as image files are scaled, cropped and
 * drawn from. */
#include "trainer/data/owner.h"

/* Puts records that scale in the place of d's images, which become theirs. ERR_DATA where they are not
 * 8-bit RGB or the crop is larger than they are. */
int data_scaled(const struct data_options *o, struct dataset *d) MUST_CHECK;
#endif
