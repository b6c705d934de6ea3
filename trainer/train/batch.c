/*
 * The images of one iteration.
 *
 * Crop: the image is padded with `crop_pad` black pixels on each side and a window of its own
 * size is taken at a random place; then it is mirrored with probability 1/2. The augmented copy is
 * made in 8 bits, as its operations are defined there: AugMix at severity 3, or one corruption of
 * the list at a severity from 1 to 5.
 */
#include "trainer/train/batch.h"

#include <inttypes.h>
#include <math.h>

#include "core/base/minmax.h"
#include "trainer/corrupt/augmix.h"
#include "trainer/corrupt/set.h"

#define MIN_REST 8

int64_t batch_clean_count(const struct train_config *cfg, int64_t n)
{
    if (!cfg->clean && cfg->augment == TRAIN_AUGMENT_NONE)
        return 0;
    return cfg->adversarial ? n / 2 : n;
}

int64_t batch_adv_count(const struct train_config *cfg, int64_t n)
{
    return cfg->adversarial ? n - batch_clean_count(cfg, n) : 0;
}

int64_t batch_extra_count(const struct train_config *cfg, int64_t n)
{
    const int64_t of_batch = llround(cfg->extra_share * cfg->batch);

    return cfg->extra != NULL ? of_batch * n / cfg->batch : 0;
}

/* Images of the training split in a whole batch. */
static int64_t own_count(const struct train_config *cfg)
{
    return cfg->batch - batch_extra_count(cfg, cfg->batch);
}

int64_t batch_per_epoch(const struct train_config *cfg, int64_t images)
{
    const int64_t own = own_count(cfg), whole = images / own, rest = images % own;

    return whole + (rest >= MIN_REST || (whole == 0 && rest > 0));
}

int batch_init(struct batch *b, const struct train_config *cfg, const struct dataset *d)
{
    const int64_t elems = (int64_t)d->channels * d->height * d->width;
    const bool augment = cfg->augment != TRAIN_AUGMENT_NONE;
    const size_t cap = (size_t)cfg->batch, floats = cap * (size_t)elems;

    *b = (struct batch){.cap = cfg->batch, .elems = elems};
    if (cfg->augment == TRAIN_AUGMENT_CORRUPT)
        TRY(corrupt_types(cfg->corruptions, false, true, b->types, &b->n_types));
    b->pixels = mem_aligned(floats, sizeof *b->pixels);
    b->whole = mem_aligned(floats, sizeof *b->whole);
    b->labels = mem_array(cap, sizeof *b->labels);
    b->sample = mem_array(cap, sizeof *b->sample);
    b->refused = mem_array(cap, sizeof *b->refused);
    b->own = mem_array(cap, sizeof *b->own);
    if (augment) {
        b->augmented = mem_aligned(floats, sizeof *b->augmented);
        b->bytes = mem_array(2 * floats, sizeof *b->bytes);
    }
    if (!b->pixels || !b->whole || !b->labels || !b->sample || !b->refused || !b->own ||
        (augment && (!b->augmented || !b->bytes))) {
        batch_release(b);
        return ERR_NOMEM;
    }
    return 0;
}

void batch_release(struct batch *b)
{
    mem_free(b->pixels);
    mem_free(b->augmented);
    mem_free(b->bytes);
    mem_free(b->whole);
    mem_free(b->labels);
    mem_free(b->sample);
    mem_free(b->refused);
    mem_free(b->own);
    *b = (struct batch){0};
}

void batch_order(const struct train_config *cfg, const struct dataset *d, int32_t epoch,
                 uint32_t *order)
{
    struct rng r = rng_at(cfg->seed, RNG_SHUFFLE, (uint32_t)epoch, 0);

    rng_permutation(&r, order, (uint32_t)d->n);
}

/* ---- crop and flip --------------------------------------------------------------------------- */

struct crop {
    int64_t dy, dx; /* of the window against the image, -pad ... pad */
    bool flip;
};

static struct crop draw_crop(const struct train_config *cfg, struct rng *r)
{
    const uint32_t places = 2 * (uint32_t)cfg->crop_pad + 1;
    struct crop c = {0};

    if (!cfg->crop)
        return c;
    c.dy = (int64_t)rng_below(r, places) - cfg->crop_pad;
    c.dx = (int64_t)rng_below(r, places) - cfg->crop_pad;
    c.flip = rng_u32(r) & 1;
    return c;
}

/* Column of the image that lands in column x of the window. */
static int64_t source_column(const struct crop *c, int64_t x, int64_t w)
{
    return (c->flip ? w - 1 - x : x) + c->dx;
}

static bool inside(int64_t v, int64_t n)
{
    return v >= 0 && v < n;
}

static void crop_floats(const struct crop *c, const struct dataset *d, const float *from, float *to)
{
    const int64_t h = d->height, w = d->width;

    for (int64_t row = 0; row < d->channels * h; row++) {
        const int64_t plane = row / h, y = row % h + c->dy;
        for (int64_t x = 0; x < w; x++) {
            const int64_t s = source_column(c, x, w);
            to[row * w + x] = inside(y, h) && inside(s, w) ? from[(plane * h + y) * w + s] : 0;
        }
    }
}

static void crop_bytes(const struct crop *c, const struct dataset *d, const uint8_t *from,
                       uint8_t *to)
{
    const int64_t h = d->height, w = d->width;

    for (int64_t row = 0; row < d->channels * h; row++) {
        const int64_t plane = row / h, y = row % h + c->dy;
        for (int64_t x = 0; x < w; x++) {
            const int64_t s = source_column(c, x, w);
            to[row * w + x] = inside(y, h) && inside(s, w) ? from[(plane * h + y) * w + s] : 0;
        }
    }
}

/* ---- augmented copies ------------------------------------------------------------------------ */

/* One corruption of the list on chw; the result replaces `work`. */
static bool corrupt_copy(const struct batch *b, const struct dataset *d, const uint8_t *chw,
                         struct rng *r, uint8_t *work, float *out)
{
    const enum corrupt_type type = b->types[rng_below(r, (uint32_t)b->n_types)];
    const int severity = 1 + (int)rng_below(r, CORRUPT_SEVERITIES);

    if (corrupt_apply(type, severity, chw, d->height, d->width, r, work) < 0)
        return false;
    for (int64_t j = 0; j < b->elems; j++)
        out[j] = (float)work[j] / 255;
    return true;
}

/* The set that an image of the batch is of, and its index there. */
static const struct dataset *source_of(const struct train_config *cfg, const struct dataset *d,
                                       int64_t sample)
{
    return sample < d->n ? d : cfg->extra;
}

static int64_t index_of(const struct dataset *d, int64_t sample)
{
    return sample < d->n ? sample : sample - d->n;
}

static bool augment_image(const struct batch *b, const struct train_config *cfg,
                          const struct dataset *d, int32_t epoch, int64_t i, struct crop clean)
{
    const int64_t sample = b->sample[i];
    struct rng r = rng_at(cfg->seed, RNG_AUGMIX, (uint32_t)epoch, (uint64_t)sample);
    const struct crop c = cfg->aligned ? clean : draw_crop(cfg, &r);
    const struct augmix_config mix = augmix_defaults();
    uint8_t *whole = b->bytes + 2 * i * b->elems, *cropped = whole + b->elems;
    float *out = b->augmented + i * b->elems;

    data_image_u8(source_of(cfg, d, sample), index_of(d, sample), whole);
    crop_bytes(&c, d, whole, cropped);
    if (cfg->augment == TRAIN_AUGMENT_CORRUPT)
        return corrupt_copy(b, d, cropped, &r, whole, out);
    augmix(&mix, cropped, d->channels, d->height, d->width, &r, out);
    return true;
}

/* False where a corruption refused the image. */
static bool load_image(const struct batch *b, const struct train_config *cfg,
                       const struct dataset *d, int32_t epoch, int64_t i)
{
    const int64_t sample = b->sample[i];
    struct rng r = rng_at(cfg->seed, RNG_CROP, (uint32_t)epoch, (uint64_t)sample);
    const struct crop c = draw_crop(cfg, &r);
    float *whole = b->whole + i * b->elems;

    data_image(source_of(cfg, d, sample), index_of(d, sample), whole);
    crop_floats(&c, d, whole, b->pixels + i * b->elems);
    if (b->augmented == NULL || i >= b->n_clean)
        return true;
    return augment_image(b, cfg, d, epoch, i, c);
}

/* Extra image number `place` of an epoch. */
static int64_t draw_extra(const struct train_config *cfg, const struct dataset *d, int32_t epoch,
                          int64_t place)
{
    struct rng r = rng_at(cfg->seed, RNG_EXTRA, (uint32_t)epoch, (uint64_t)place);

    return d->n + rng_below(&r, (uint32_t)cfg->extra->n);
}

/* Which images: those of the order, and among them extra ones. */
static void choose_images(struct batch *b, const struct train_config *cfg, const struct dataset *d,
                          const uint32_t *order, int32_t epoch, int64_t index)
{
    const int64_t own = own_count(cfg), first = index * own;
    const int64_t left = min_i64(d->n - first, own);
    int64_t mine = 0, extra;

    b->n = left * b->cap / own;
    extra = b->n - left;
    for (int64_t i = 0; i < b->n; i++) {
        const bool other = (i + 1) * extra / b->n > i * extra / b->n;
        const int64_t sample =
            other ? draw_extra(cfg, d, epoch, index * b->cap + i) : order[first + mine++];

        b->sample[i] = sample;
        b->labels[i] = source_of(cfg, d, sample)->labels[index_of(d, sample)];
    }
}

/* own: the images in which e has a share; the others are not loaded. */
static void mark_own(struct batch *b, const struct exec *e)
{
    const int64_t at[] = {0, b->n - b->n_adv}, n[] = {b->n_clean, b->n_adv};

    for (int64_t i = 0; i < b->n; i++)
        b->own[i] = e == NULL;
    for (int half = 0; e != NULL && half < 2; half++) {
        int64_t first, count;

        exec_share(e, n[half], &first, &count);
        for (int64_t i = 0; i < count; i++)
            b->own[at[half] + first + i] = true;
    }
}

int batch_load(struct batch *b, const struct train_config *cfg, const struct dataset *d,
               const struct exec *e, const uint32_t *order, int32_t epoch, int64_t index)
{
    choose_images(b, cfg, d, order, epoch, index);
    b->n_clean = batch_clean_count(cfg, b->n);
    b->n_adv = batch_adv_count(cfg, b->n);
    mark_own(b, e);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < b->n; i++)
        b->refused[i] = b->own[i] && !load_image(b, cfg, d, epoch, i);
    for (int64_t i = 0; i < b->n; i++)
        if (b->refused[i])
            return fail(ERR_DATA, "image %" PRId64 " of %s: %dx%d pixels cannot be corrupted",
                        index_of(d, b->sample[i]), source_of(cfg, d, b->sample[i])->source,
                        d->height, d->width);
    return 0;
}
