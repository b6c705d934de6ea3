#ifndef TRAINER_DATA_DATA_H
#define TRAINER_DATA_DATA_H
/*
 * Labelled images: one source in memory, as training and evaluation read it.
 *
 *     struct dataset *d = NULL;
 *     TRY(data_open("cifar10:/data/cifar10", NULL, DATA_TRAIN, seed, &d));
 *     if ((rc = data_check(d, 3, 32, 32, 10)) < 0)
 *         goto out;                       // class count or size does not fit the model
 *     for (int64_t i = 0; i < d->n; i++)
 *         data_image(d, i, chw);          // [C,H,W] in [0,1]
 *     data_close(d);
 *
 * Sources (SPEC):
 *     FOLDER           layout detected: any of those below, Tiny-ImageNet-200 (wnids.txt), or a folder
 *                      that holds the CIFAR folder of its publisher (cifar-10-batches-py, ...)
 *     FILE             .tar, .tar.gz, .tgz, .tar.xz, .zip of either CIFAR or of class folders, read
 *                      in place; .npz
 *     cifar10:PATH     data_batch_1..5 and test_batch, binary (.bin, 3073 bytes a record) or pickled
 *     cifar100:PATH    train and test, binary (.bin, 3074 bytes a record) or pickled; fine labels
 *     imagefolder:P    a folder or archive with images (.jpg, .jpeg, .png) in train/CLASS and
 *                      test/CLASS (or val/CLASS; with both, val is the validation split), or in CLASS
 *                      alone. Classes are numbered by the sorted names of the training part, for all
 *                      parts; other files are skipped, counted and named in `source`
 *     npy:X,Y          images: pixels 0 ... 255 of any integer type, or floats in [0,1], [N,H,W,C],
 *                      [N,C,H,W] or [N,H,W]; labels [N], [N,1] or one-hot [N,K]
 *     synth:[N]        synthetic images (synth.h), N training images (10,000 where not said)
 *
 * Splits. A source with a test part keeps it, and a tenth of its training images, by class and seed,
 * is for validation. One set without parts (npy:, CLASS folders alone, an .npz with one pair of
 * arrays) is cut by class and seed into a tenth for testing, a tenth of the rest for validation and
 * the rest for training, and `source` says so. val and test of struct data_options replace either.
 *
 * A file of records may hold any whole number of them. Every complaint about a source is ERR_DATA
 * and names file, rule and sizes. Not here: augmentation, normalisation, batches.
 */
#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

enum data_split {
    DATA_TRAIN,     /* what is left of the training images */
    DATA_VAL,       /* every choice is made on these */
    DATA_TEST,      /* read by the final evaluation only */
    DATA_TRAIN_ALL, /* train and val in file order; without val where that is a source of its own */
    DATA_ALL,       /* all of one set that has no parts; ERR_DATA for other sources */
    DATA_EVAL,      /* DATA_TEST, or DATA_ALL of one set without a --test-data beside it */
};

/* How a source is read beyond its text; zeroed: as it is. */
struct data_options {
    const char *val, *test; /* sources of the validation and test images: one set, or that part */
    int32_t resize; /* image folders: shorter side in pixels after scaling; 0: as they are */
    bool bicubic;   /* filter of that; bilinear otherwise */
    int32_t crop_height, crop_width; /* image folders: middle part that is kept; 0: all */
};

struct data_owner; /* what the pointers below point into */

struct dataset { /* exactly one of pixels and floats is set */
    int64_t n;
    int32_t channels, height, width, classes;
    const uint8_t *pixels;         /* [n][C][H][W] */
    const float *floats;           /* [n][C][H][W] in [0,1] */
    const int32_t *labels;         /* [n], 0 ... classes-1 */
    const char *const *class_name; /* [classes], NULL where the source has none */
    const char *source;            /* what was found, for people: "CIFAR-10 binary folder '...'" */
    const char *split;             /* "train", "val", "test", "train+val" or "all" */
    struct data_owner *owner;
};

/* Loads one split. `seed` fixes the membership of train and val and the images of synth:; images
 * keep the order of the files. o may be NULL. ERR_DATA, ERR_NOMEM. Close with data_close. */
int data_open(const char *spec, const struct data_options *o, enum data_split split, uint64_t seed,
              struct dataset **out) MUST_CHECK;
void data_close(struct dataset *d); /* NULL is fine */
/* Image i as floats in [0,1], chw [C,H,W]. 0 <= i < n. Thread safe. */
void data_image(const struct dataset *d, int64_t i, float *chw);
/* The same as 8 bits (floats are rounded to the nearest of 255 steps). */
void data_image_u8(const struct dataset *d, int64_t i, uint8_t *chw);
/* Keeps the first n images; n <= 0 or n >= d->n changes nothing. */
void data_limit(struct dataset *d, int64_t n);
/* Does the source fit a model with this input and `classes` outputs? ERR_DATA says what differs. A
 * source may have fewer classes than the model only where it does not know their number (npy:). */
int data_check(const struct dataset *d, int64_t channels, int64_t height, int64_t width,
               int64_t classes) MUST_CHECK;
/* How many images of b are, pixel for pixel, images of a: test images that were trained on. */
int data_common(const struct dataset *a, const struct dataset *b, int64_t *n) MUST_CHECK;
/* "256", "256,bilinear" or "256,bicubic"; "224x224" (height, width). ERR_ARG says what is wrong. */
int data_resize_parse(const char *text, struct data_options *o) MUST_CHECK;
int data_crop_parse(const char *text, struct data_options *o) MUST_CHECK;
/* "train", "val", "test", "train+val", "all" and back (ERR_ARG for another word); NULL text is
 * DATA_EVAL. */
const char *data_split_name(enum data_split split);
int data_split_parse(const char *text, enum data_split *out) MUST_CHECK;
#endif
