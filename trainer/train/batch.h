#ifndef TRAINER_TRAIN_BATCH_H
#define TRAINER_TRAIN_BATCH_H
/*
 * The images of one iteration: shuffled order, random crop and flip, augmented copies.
 *
 * Crop and flip of image s in epoch e are drawn from (seed, RNG_CROP, e, s). The augmented copy draws
 * its own crop, flip and operations from (seed, RNG_AUGMIX, e, s); with `aligned` it takes the crop
 * of the clean image. The order of an epoch is a permutation from (seed, RNG_SHUFFLE, e, 0).
 *
 * Extra images (cfg->extra) lie evenly among those of the training split, so that every pass has its
 * share; each is drawn by itself from (seed, RNG_EXTRA, e, its place in the epoch).
 */
#include "trainer/corrupt/corrupt.h"
#include "trainer/train/trainer.h"

struct batch {           /* of at most `cap` images; the images are [.][C,H,W] in [0,1] */
    struct arena *arena; /* of all blocks */
    int64_t cap, elems;
    int64_t n;           /* images */
    int64_t n_clean;     /* this many, the first, go through the clean and the augmented pass */
    int64_t n_adv;       /* this many, the last, go through the adversarial pass */
    float *pixels;       /* [n] cropped and flipped */
    float *augmented;    /* [n_clean], NULL without augmentation */
    uint8_t *bytes;      /* [cap][2][C,H,W] work space, NULL without augmentation */
    bool *refused, *own; /* [cap] work space, as are */
    int64_t *later;      /* the same of a later iteration */
    bool *later_own;
    enum corrupt_type types[CORRUPT_N]; /* to choose from, for TRAIN_AUGMENT_CORRUPT */
    int32_t n_types;
    float *whole;    /* [cap][C,H,W] work space */
    int32_t *labels; /* [n] */
    int64_t *sample; /* [n] index in the data set; from its end on in the extra images */
};
int batch_init(struct batch *b, const struct train_config *cfg, const struct dataset *d) MUST_CHECK;
void batch_release(struct batch *b); /* after a failure of batch_init too */
/* Images that the clean and augmented passes take of n, and those of the adversarial pass. */
int64_t batch_clean_count(const struct train_config *cfg, int64_t n);
int64_t batch_adv_count(const struct train_config *cfg, int64_t n);
/* Extra images among n: the share of a batch, rounded, and in proportion in a smaller one. */
int64_t batch_extra_count(const struct train_config *cfg, int64_t n);
/* Iterations of an epoch. A rest of fewer than 8 images is left out, for batch norm's sake; it is
 * other images each epoch. */
int64_t batch_per_epoch(const struct train_config *cfg, int64_t images);
/* order [d->n] := the order of an epoch. */
void batch_order(const struct train_config *cfg, const struct dataset *d, int32_t epoch,
                 uint32_t *order);
/* Fills b with iteration `index` of the epoch; of the pixels only those of the images in which e has a
 * share, in either half (exec_share); of all where e is NULL. */
int batch_load(struct batch *b, const struct train_config *cfg, const struct dataset *d,
               const struct exec *e, const uint32_t *order, int32_t epoch,
               int64_t index) MUST_CHECK;
#endif
