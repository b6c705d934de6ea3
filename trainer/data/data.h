#ifndef TRAINER_DATA_DATA_H
#define TRAINER_DATA_DATA_H
/*
 * Labelled pictures: one source in memory, as training and evaluation read it.
 *
 *     struct dataset *d = NULL;
 *     TRY(data_open("cifar10:/data/cifar10", DATA_TRAIN, seed, &d));
 *     if ((rc = data_check(d, 3, 32, 32, 10)) < 0)
 *         goto out;                       // class count or size does not fit the model
 *     for (int64_t i = 0; i < d->n; i++)
 *         data_image(d, i, chw);          // [C,H,W] in [0,1]
 *     data_close(d);
 *
 * Sources (SPEC):
 *     FOLDER           layout detected: any of those below, or Tiny-ImageNet-200 (wnids.txt)
 *     FILE             .tar, .tar.gz, .tgz, .tar.xz, .zip of either CIFAR, read in place; .npz
 *     cifar10:PATH     data_batch_1..5 and test_batch, binary (.bin, 3073 bytes a record) or pickled
 *     cifar100:PATH    train and test, binary (.bin, 3074 bytes a record) or pickled; fine labels
 *     imagefolder:DIR  pictures (.jpg, .jpeg, .png) in DIR/train/CLASS and DIR/test/CLASS (or val), or
 *                      in DIR/CLASS alone
 *     npy:X,Y          uint8 [N,H,W,C] or [N,C,H,W], or float32 [N,C,H,W] in [0,1]; labels [N] of
 *                      any integer type. There is no split in it: every split is all of it.
 *     synth:[N]        drawn pictures (synth.h), N training images (10,000 where not said)
 *
 * A file of records may hold any whole number of them. Every complaint about a source is ERR_DATA
 * and names file, rule and sizes. Not here: augmentation, normalisation, batches.
 */
#include <stdint.h>

#include "core/base/err.h"

enum data_split {
    DATA_TRAIN,     /* 90 % of the training images of each class */
    DATA_VAL,       /* the other 10 %: every choice is made on these */
    DATA_TEST,      /* read by the final evaluation only */
    DATA_TRAIN_ALL, /* both parts of the training images, in file order */
};

struct data_owner; /* what the pointers below point into */

struct dataset { /* exactly one of pixels and floats is set */
    int64_t n;
    int32_t channels, height, width, classes;
    const uint8_t *pixels; /* [n][C][H][W] */
    const float *floats;   /* [n][C][H][W] in [0,1] */
    const int32_t *labels; /* [n], 0 ... classes-1 */
    const char *source;    /* what was found, for people: "CIFAR-10 binary folder '...'" */
    const char *split;     /* "train", "val", "test" or "train+val" */
    struct data_owner *owner;
};

/* Loads one split. `seed` fixes the membership of train and val and the pictures of synth:; images
 * keep the order of the files. ERR_DATA, ERR_NOMEM. Close with data_close. */
int data_open(const char *spec, enum data_split split, uint64_t seed,
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
/* "train", "val", "test", "train+val" and back (ERR_ARG for another word). */
const char *data_split_name(enum data_split split);
int data_split_parse(const char *text, enum data_split *out) MUST_CHECK;
#endif
