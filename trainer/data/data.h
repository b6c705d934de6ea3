#ifndef TRAINER_DATA_DATA_H
#define TRAINER_DATA_DATA_H
/*
 * Labelled images: one source as training and evaluation read it, in memory or, where it is larger than
 * the memory it may have, image by image from its files.
 *
 *     struct dataset *d = NULL;
 *     TRY(data_open("cifar10:/data/cifar10", NULL, DATA_TRAIN, seed, &d));
 *     if ((rc = data_check(d, 3, 32, 32, 10)) < 0)
 *         goto out;                       // class count or size does not fit the model
 *     for (int64_t i = 0; rc == 0 && i < d->n; i++)
 *         rc = data_image(d, i, chw);     // [C,H,W] in [0,1]
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
 *     shards:P         tar files in the layout of WebDataset (shards.h): one, those of a brace pattern
 *                      (train-{000..127}.tar), those of a folder, or of its folders train and test or val
 *     synth:[N]        synthetic images (synth.h), N training images (10,000 where not said)
 *
 * Splits. A source with a test part keeps it, and a tenth of its training images, by class and seed,
 * is for validation. One set without parts (npy:, CLASS folders alone, an .npz with one pair of
 * arrays) is cut by class and seed into a tenth for testing, a tenth of the rest for validation and
 * the rest for training, and `source` says so. val and test of struct data_options replace either.
 *
 * Memory. Image folders, shards and npy: whose images need more than data_options.memory are streamed:
 * labels and places are in memory, images are read when they are asked for, and ahead of that as far as
 * data_ahead says and the buffer goes. Nothing but time depends on it.
 *
 * A file of records may hold any whole number of them. Every complaint about a source is ERR_DATA
 * and names file, rule and sizes. Not here: augmentation, normalisation, batches.
 */
#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/sha256.h"

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
    int32_t resize;         /* 8-bit RGB: shorter side in pixels after scaling; 0: as they are */
    bool bicubic;           /* filter of that; bilinear otherwise */
    int32_t crop_height, crop_width; /* 8-bit RGB: middle part that is kept; 0: all */
    bool random;   /* 8-bit RGB: data_view.random draws parts (draw.h) of that size */
    size_t memory; /* bytes that the images of the split may take; 0: any */
    int threads;   /* that decode ahead; 0: as many as there are */
};

/* How images are looked at: as they are, or a random part for training. */
struct data_view {
    bool random; /* of sets that draw; epoch and seed say which part */
    uint64_t seed;
    int32_t epoch;
};

#define DATA_AHEAD_MOST 512 /* images that are read ahead */

struct data_owner; /* what the pointers below point into */

struct dataset { /* exactly one of pixels and floats is set, neither where images are streamed */
    int64_t n;
    int32_t channels, height, width, classes;
    const uint8_t *pixels;         /* [n][C][H][W] */
    const float *floats;           /* [n][C][H][W] in [0,1] */
    const int32_t *labels;         /* [n], 0 ... classes-1 */
    const char *const *class_name; /* [classes], NULL where the source has none */
    const char *source;            /* what was found, for people: "CIFAR-10 binary folder '...'" */
    const char *split;             /* "train", "val", "test", "train+val" or "all" */
    bool draws;                    /* data_view.random means something */
    struct data_owner *owner;
};

static inline size_t data_image_size(const struct dataset *d) /* numbers */
{
    return (size_t)d->channels * (size_t)d->height * (size_t)d->width;
}

/* Loads one split. `seed` fixes the membership of train and val and the images of synth:; images
 * keep the order of the files. o may be NULL. ERR_DATA, ERR_NOMEM. Close with data_close. */
int data_open(const char *spec, const struct data_options *o, enum data_split split, uint64_t seed,
              struct dataset **out) MUST_CHECK;
void data_close(struct dataset *d); /* NULL is fine */
FREE_AT(data_close, struct dataset)
/* Image i as floats in [0,1], chw [C,H,W]. 0 <= i < n. Thread safe. An image that is streamed may fail:
 * ERR_DATA names it. */
int data_image(const struct dataset *d, int64_t i, float *chw) MUST_CHECK;
/* The same as 8 bits (floats are rounded to the nearest of 255 steps). */
int data_image_u8(const struct dataset *d, int64_t i, uint8_t *chw) MUST_CHECK;
/* Images first ... first + n - 1 by all threads; then n from `next` on are read ahead. */
int data_images(const struct dataset *d, int64_t first, int64_t n, int64_t next,
                float *chw) MUST_CHECK;
/* Image i as the view has it. */
int data_image_seen(const struct dataset *d, int64_t i, const struct data_view *view,
                    float *chw) MUST_CHECK;
/* Says which images will be read next, in this order; what was read ahead and is not among them is
 * forgotten. Changes nothing but time. */
void data_ahead(const struct dataset *d, const struct data_view *view, const int64_t *i, int64_t n);
/* Images that data_ahead can have decoded in advance; 0 where they are in memory. */
int64_t data_ahead_most(const struct dataset *d);
/* Keeps the first n images; n <= 0 or n >= d->n changes nothing. */
void data_limit(struct dataset *d, int64_t n);
/* Does the source fit a model with this input and `classes` outputs? ERR_DATA says what differs. A
 * source may have fewer classes than the model only where it does not know their number (npy:). */
int data_check(const struct dataset *d, int64_t channels, int64_t height, int64_t width,
               int64_t classes) MUST_CHECK;
/* How many images of b are, pixel for pixel, images of a: test images that were trained on. -1: nobody
 * knows, one of them is streamed. */
int data_common(const struct dataset *a, const struct dataset *b, int64_t *n) MUST_CHECK;
/* A hash that tells one set from another: over labels and pixels, or over labels and what names the
 * records of a set from image folders, shards or large npy (other sets have none: "none"). */
int data_hash_pixels(const struct dataset *d, char text[SHA256_HEX]) MUST_CHECK;
int data_hash_records(const struct dataset *d, char text[SHA256_HEX]) MUST_CHECK;
bool data_is_streamed(const struct dataset *d);
/* "256", "256,bilinear" or "256,bicubic"; "224x224" (height, width). ERR_ARG says what is wrong. */
int data_resize_parse(const char *text, struct data_options *o) MUST_CHECK;
int data_crop_parse(const char *text, struct data_options *o) MUST_CHECK;
/* "800000", "500M", "8G", "all" (0), or "quarter": of this machine's memory, shared by the ranks. */
int data_memory_parse(const char *text, size_t *out) MUST_CHECK;
/* "train", "val", "test", "train+val", "all" and back (ERR_ARG for another word); NULL text is
 * DATA_EVAL. */
const char *data_split_name(enum data_split split);
int data_split_parse(const char *text, enum data_split *out) MUST_CHECK;
#endif
