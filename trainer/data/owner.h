#ifndef TRAINER_DATA_OWNER_H
#define TRAINER_DATA_OWNER_H
/*
 * Between data.c and the loaders: who owns the images. Beside them only trainer/corrupt/set.c, whose
 * data sets are made here too, includes this.
 *
 * A loader fills n, channels, height, width, classes of the data set and the blocks below; what it
 * allocated before a failure stays in the owner and is freed by data_close. Labels are checked by
 * the loader: 0 ... classes-1.
 */
#include <stdbool.h>

#include "trainer/data/data.h"

/* What a loader is asked for. A source without parts gives all of it, whatever the part. */
enum data_part {
    DATA_PART_TRAIN,
    DATA_PART_VAL, /* where the source has such a part, else the training part */
    DATA_PART_TEST
};
struct data_owner {
    uint8_t *pixels;   /* [n][C][H][W] or NULL */
    float *floats;     /* [n][C][H][W] or NULL */
    int32_t *labels;   /* [n] */
    char *source;      /* text of dataset.source */
    char **class_name; /* [classes], or NULL */
    int32_t n_class_name;
    bool classes_known; /* false: classes is only the largest label + 1 */
    bool one_set;       /* the source has no parts */
    bool own_val;       /* it has a validation part of its own */
    bool pictures;      /* from image files, which may be scaled and cropped */
};

/* Either layout in a folder: the training files or the test file. k is 10 or 100. */
int data_cifar_load(const char *folder, int k, enum data_part part, struct dataset *d) MUST_CHECK;
/* The same from a tar, tar.gz or zip; k 0: whichever it holds. */
int data_cifar_archive(const char *path, int k, enum data_part part, struct dataset *d) MUST_CHECK;
/* Does the folder, or the archive, hold files of that set? */
bool data_cifar_is(const char *folder, int k);
int data_cifar_in_archive(const char *path, bool *found) MUST_CHECK;
/* Class folders below root, without parts. */
int data_folder_load(const char *root, struct dataset *d) MUST_CHECK;
/* A folder or an archive: Tiny-ImageNet, train/CLASS and test/CLASS (or val), or CLASS alone. */
int data_imagefolder_load(const char *path, enum data_part part, const struct data_options *o,
                          struct dataset *d) MUST_CHECK;
/* Class names alone, of the training part; the caller frees each of them and the list. */
int data_imagefolder_classes(const char *path, char ***name, int32_t *n) MUST_CHECK;
int data_npy_load(const char *images, const char *labels, struct dataset *d) MUST_CHECK;
int data_npz_load(const char *path, enum data_part part, struct dataset *d) MUST_CHECK;
/* n training images, or n / 5 test images. */
int data_synth_load(int64_t n, bool is_test, uint64_t seed, struct dataset *d) MUST_CHECK;
/* An empty data set with its owner; data_close. */
int data_owner_new(struct dataset **out) MUST_CHECK;
/* Points the data set at what its owner holds. split: static text. */
void data_owner_publish(struct dataset *d, const char *split);
/* The blocks for n images of 8 bits (or floats) and their labels. */
int data_owner_alloc(struct dataset *d, int64_t n, bool is_float) MUST_CHECK;
/* Adds to the text of the source. */
int data_owner_source(struct dataset *d, const char *fmt, ...) ERR_PRINTF(2, 3) MUST_CHECK;
/* Copies the names of all d->classes classes. */
int data_owner_names(struct dataset *d, const char *const *name) MUST_CHECK;
#endif
