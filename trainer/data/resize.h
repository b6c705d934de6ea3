#ifndef TRAINER_DATA_RESIZE_H
#define TRAINER_DATA_RESIZE_H
/*
 * Scaling images as Pillow's Image.resize does it (version 13), bit for bit: antialiased bilinear and
 * bicubic.
 *
 *     struct picture small = {0};
 *     TRY(picture_resize(&p, 32, 48, RESIZE_BILINEAR, &small));
 *     picture_release(&small);
 */
#include "trainer/data/picture.h"

enum resize_filter { RESIZE_BILINEAR, RESIZE_BICUBIC };

/* out: height x width. ERR_DATA where that is empty or too large. */
int picture_resize(const struct picture *p, int32_t height, int32_t width,
                   enum resize_filter filter, struct picture *out) MUST_CHECK;
/* Scales the shorter side to `side` (the other to floor(long side / short)), as torchvision's
 * Resize(side): in place. */
int picture_shorter_side(struct picture *p, int32_t side, enum resize_filter filter) MUST_CHECK;
/* The height x width pixels from (top, left) on, which are inside, in place. */
void picture_cut(struct picture *p, int32_t top, int32_t left, int32_t height, int32_t width);
/* The middle height x width pixels, in place; the remainder of an odd margin as torchvision's
 * CenterCrop. ERR_DATA where the image is smaller. */
int picture_crop(struct picture *p, int32_t height, int32_t width) MUST_CHECK;
#endif
