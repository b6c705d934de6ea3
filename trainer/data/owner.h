#ifndef TRAINER_DATA_OWNER_H
#define TRAINER_DATA_OWNER_H
/*
 * Between data.c and the loaders: who owns the images. Beside them only trainer/corrupt/set.c, whose
 * data sets are made here too, includes this.
 *
 * A loader fills n, channels, height, width, classes of the data set and the blocks below; what it
 * allocated before a failure stays in the owner and is freed by data_close. Labels are checked by
 * the loader: 0 ... classes-1.
 *
 * Or it leaves the images where they are: with data_owner_records it says how one is read (a record), and
 * fills labels alone. Once the split is known data_owner_settle reads those of the split, or makes a
 * stream where they need more memory than they may have.
 */
#include <stdbool.h>

#include "trainer/data/data.h"
#include "trainer/data/stream.h"
#include "trainer/data/tree.h"

/* What a loader is asked for. A source without parts gives all of it, whatever the part. */
enum data_part {
    DATA_PART_TRAIN,
    DATA_PART_VAL, /* where the source has such a part, else the training part */
    DATA_PART_TEST
};
struct data_owner {
    uint8_t *pixels; /* [n][C][H][W] or NULL */
    float *floats;   /* [n][C][H][W] or NULL */
    int32_t *labels; /* [n] */
    int64_t *record; /* [n] number in `records` of each image; NULL: there are no records */
    struct stream_source records;
    bool records_float;          /* floats, not 8 bits */
    struct stream *stream;       /* owns the source, once the set is settled to be streamed */
    char *identity;              /* data_hash_records; NULL: none */
    char *source;                /* text of dataset.source */
    struct name_list class_name; /* of all classes, or empty */
    bool classes_known;          /* false: classes is only the largest label + 1 */
    bool one_set;                /* the source has no parts */
    bool own_val;                /* it has a validation part of its own */
    bool pictures;               /* from image files, which may be scaled and cropped */
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
/* Tar files: shards.h. */
int data_shards_load(const char *pattern, enum data_part part, const struct data_options *o,
                     struct dataset *d) MUST_CHECK;
/* A folder or an archive: Tiny-ImageNet, train/CLASS and test/CLASS (or val), or CLASS alone. */
int data_imagefolder_load(const char *path, enum data_part part, const struct data_options *o,
                          struct dataset *d) MUST_CHECK;
/* The folder of a part, "" for a set without parts; notes in the owner which parts there are. */
int data_find_part(const struct tree *t, enum data_part part, struct dataset *d,
                   const char **under) MUST_CHECK;
/* Class names alone, of the training part. */
int data_imagefolder_classes(const char *path, struct name_list *classes) MUST_CHECK;
int data_npy_load(const char *images, const char *labels, const struct data_options *o,
                  struct dataset *d) MUST_CHECK;
int data_npz_load(const char *path, enum data_part part, struct dataset *d) MUST_CHECK;
/* n training images, or n / 5 test images. */
int data_synth_load(int64_t n, bool is_test, uint64_t seed, struct dataset *d) MUST_CHECK;
/* An empty data set with its owner; data_close. */
int data_owner_new(struct dataset **out) MUST_CHECK;
/* Records 0 ... n-1, of which a loader fills labels and the sizes of d. Takes the source, also when it
 * fails. */
int data_owner_records(struct dataset *d, int64_t n, bool is_float,
                       const struct stream_source *source) MUST_CHECK;
/* Makes d->owner->identity of its records. */
int data_owner_identify(struct dataset *d) MUST_CHECK;
/* Images that are still records come into memory, or into a stream. */
int data_owner_settle(struct dataset *d, const struct data_options *o) MUST_CHECK;
/* Points the data set at what its owner holds. split: static text. */
void data_owner_publish(struct dataset *d, const char *split);
/* The blocks for n images of 8 bits (or floats) and their labels. */
int data_owner_alloc(struct dataset *d, int64_t n, bool is_float) MUST_CHECK;
/* Adds to the text of the source. */
int data_owner_source(struct dataset *d, const char *fmt, ...) ERR_PRINTF(2, 3) MUST_CHECK;
#endif
