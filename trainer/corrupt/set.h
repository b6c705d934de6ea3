#ifndef TRAINER_CORRUPT_SET_H
#define TRAINER_CORRUPT_SET_H
/*
 * A data set under one corruption: drawn by us, or read from a folder of corrupted images.
 *
 * Folders, either of
 *     CIFAR-10-C style   NAME.npy, uint8 [5 n,H,W,3], severity-major, and labels.npy [5 n]: the labels
 *                        of the n images five times; a file severities.txt ("1 3") where it holds
 *                        other than all five
 *     image files        NAME/SEVERITY/CLASS with images in it
 *
 * Image i of type t at severity s draws from (seed, RNG_CORRUPT, 8 t + s, i), whoever asks: so an
 * evaluation of drawn corruptions and one of the folder that was written agree bit for bit.
 */
#include "trainer/corrupt/corrupt.h"
#include "trainer/data/data.h"

struct corrupt_set {
    const struct dataset *d;
    const struct corrupt_photos *photos; /* NULL: no frost */
    uint64_t seed;
};
/* Image i: chw [C,H,W]. work: as large. */
int corrupt_set_image(const struct corrupt_set *s, enum corrupt_type type, int severity, int64_t i,
                      uint8_t *work, uint8_t *chw) MUST_CHECK;
/* Images 0 ... n-1 as [n][H][W][3], in parallel. */
int corrupt_set_images(const struct corrupt_set *s, enum corrupt_type type, int severity, int64_t n,
                       uint8_t *hwc) MUST_CHECK;

/* "all" or NULL: the standard types that `photos` allow (14, or 15 with frost); else words with commas
 * between. ERR_ARG names an unknown word, or frost without photos where need_photos. */
int corrupt_types(const char *list, bool photos, bool need_photos,
                  enum corrupt_type types[CORRUPT_N], int32_t *n) MUST_CHECK;
/* "1-5", "3", "1,4": bit s-1 for severity s. NULL: all five. */
int corrupt_severities(const char *text, int32_t *mask) MUST_CHECK;

/* Does the folder hold that type? */
bool corrupt_folder_has(const char *folder, enum corrupt_type type);
/* Which severities of that type it holds: bit s-1 for severity s. */
int corrupt_folder_severities(const char *folder, enum corrupt_type type, int32_t *mask) MUST_CHECK;
/* The images of one type and severity as a data set; close with data_close. ERR_DATA. */
int corrupt_folder_open(const char *folder, enum corrupt_type type, int severity,
                        struct dataset **out) MUST_CHECK;
#endif
