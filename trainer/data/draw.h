#ifndef TRAINER_DATA_DRAW_H
#define TRAINER_DATA_DRAW_H
/*
 * A random part of an image for training: torchvision's RandomResizedCrop and RandomHorizontalFlip with
 * their defaults. Area 0.08 to 1 of the image, ratio of the sides 3/4 to 4/3 (uniform in its logarithm), ten
 * tries, then the middle; scaled bilinearly with antialiasing as Pillow does; mirrored with probability
 * 1/2. Drawn from (seed, RNG_CROP, epoch, number of the record).
 *
 *     const struct picture_part part = draw_part(&view, record, p.height, p.width);
 *     TRY(picture_take(&p, &part, 224, 224));
 */
#include "trainer/data/data.h"
#include "trainer/data/picture.h"

struct picture_part {
    int32_t top, left, height, width;
    bool flip;
};
struct picture_part draw_part(const struct data_view *view, int64_t record, int32_t height,
                              int32_t width);
/* The part of p, brought to height x width and mirrored, in place. */
int picture_take(struct picture *p, const struct picture_part *part, int32_t height,
                 int32_t width) MUST_CHECK;
#endif
