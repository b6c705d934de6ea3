#ifndef TRAINER_DATA_OWNER_H
#define TRAINER_DATA_OWNER_H
/*
 * Between data.c and the loaders data_*.c: who owns the pictures. Nobody else includes this.
 *
 * A loader fills n, channels, height, width, classes of the data set and the blocks below; what it
 * allocated before a failure stays in the owner and is freed by data_close. Labels are checked by
 * the loader: 0 ... classes-1.
 */
#include <stdbool.h>

#include "trainer/data/data.h"

struct data_owner {
    uint8_t *pixels;    /* [n][C][H][W] or NULL */
    float *floats;      /* [n][C][H][W] or NULL */
    int32_t *labels;    /* [n] */
    char *source;       /* text of dataset.source */
    bool classes_known; /* false: classes is only the largest label + 1 */
    bool one_split;     /* the source has no train and test part: every split is all of it */
};

/* Either layout in a folder: the training files (is_test false) or the test file. k is 10 or 100. */
int data_cifar_load(const char *folder, int k, bool is_test, struct dataset *d) MUST_CHECK;
/* The same from a tar, tar.gz or zip; k 0: whichever it holds. */
int data_cifar_archive(const char *path, int k, bool is_test, struct dataset *d) MUST_CHECK;
/* Does the folder hold files of that set? */
bool data_cifar_is(const char *folder, int k);
/* Class folders below root; every split is all of it. */
int data_folder_load(const char *root, struct dataset *d) MUST_CHECK;
/* root/train/CLASS and root/test or root/val; or root/CLASS. */
int data_imagefolder_load(const char *root, bool is_test, struct dataset *d) MUST_CHECK;
int data_tiny_load(const char *root, bool is_test, struct dataset *d) MUST_CHECK;
int data_npy_load(const char *images, const char *labels, struct dataset *d) MUST_CHECK;
int data_npz_load(const char *path, bool is_test, struct dataset *d) MUST_CHECK;
/* n training pictures, or n / 5 test pictures. */
int data_synth_load(int64_t n, bool is_test, uint64_t seed, struct dataset *d) MUST_CHECK;
/* An empty data set with its owner; data_close. */
int data_owner_new(struct dataset **out) MUST_CHECK;
/* Points the data set at what its owner holds. split: static text. */
void data_owner_publish(struct dataset *d, const char *split);
/* The blocks for n images of 8 bits (or floats) and their labels. */
int data_owner_alloc(struct dataset *d, int64_t n, bool is_float) MUST_CHECK;
/* Stores "text" as the source; keeps the first text it is given. */
int data_owner_source(struct dataset *d, const char *fmt, ...) ERR_PRINTF(2, 3) MUST_CHECK;
#endif
