#ifndef TRAINER_DATA_SEE_H
#define TRAINER_DATA_SEE_H
/* From the bytes of an image file to the image that a view of the data set has: decoded, scaled and
 * cropped as the options say, or a random part of it. */
#include "trainer/data/data.h"
#include "trainer/data/picture.h"

/* name: of the file, for messages. record: what random parts are drawn from. */
int picture_see(const uint8_t *data, size_t len, const char *name, const struct data_options *o,
                const struct data_view *view, int64_t record, struct picture *out) MUST_CHECK;
/* The second half of that, in place, for an image that is no file. */
int picture_view(const struct data_options *o, const struct data_view *view, int64_t record,
                 struct picture *p) MUST_CHECK;
/* [h][w][3] to [3][h][w], and back. */
void picture_planes(const struct picture *p, uint8_t *chw);
void picture_from_planes(const uint8_t *chw, struct picture *p);
#endif
