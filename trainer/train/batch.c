/*
 * The images of one iteration, read ahead where they are streamed.
 *
 * Crop: the image is padded with `crop_pad` black pixels on each side and a window of its own
 * size is taken at a random place; then it is mirrored with probability 1/2. The augmented copy is
 * made in 8 bits, as its operations are defined there: AugMix at severity 3, or one corruption of
 * the list at a severity from 1 to 5. A set that draws its parts (draw.h) has cropped and mirrored the
 * image already; then the augmented copy is made of the same part.
 */
#include "trainer/train/batch.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

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
    const size_t cap = (size_t)cfg->batch, floats = cap * (size_t)elems;

    *b = (struct batch){.cap = cfg->batch, .elems = elems};
    if (cfg->augment == TRAIN_AUGMENT_CORRUPT)
        TRY(corrupt_types(cfg->corruptions, false, true, b->types, &b->n_types));
    TRY(arena_new(0, &b->arena));
    b->pixels = arena_array(b->arena, floats, sizeof *b->pixels);
    b->whole = arena_array(b->arena, floats, sizeof *b->whole);
    b->labels = arena_array(b->arena, cap, sizeof *b->labels);
    b->sample = arena_array(b->arena, cap, sizeof *b->sample);
    b->refused = arena_array(b->arena, cap, sizeof *b->refused);
    b->own = arena_array(b->arena, cap, sizeof *b->own);
    b->later = arena_array(b->arena, cap, sizeof *b->later);
    b->later_own = arena_array(b->arena, cap, sizeof *b->later_own);
    if (cfg->augment != TRAIN_AUGMENT_NONE) {
        b->augmented = arena_array(b->arena, floats, sizeof *b->augmented);
        b->bytes = arena_array(b->arena, 2 * floats, sizeof *b->bytes);
    }
    return arena_status(b->arena);
}

void batch_release(struct batch *b)
{
    arena_free(b->arena);
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

static struct crop draw_crop(const struct train_config *cfg, const struct dataset *of,
                             struct rng *r)
{
    const uint32_t places = 2 * (uint32_t)cfg->crop_pad + 1;
    struct crop c = {0};

    if (!cfg->crop || of->draws)
        return c;
    c.dy = (int64_t)rng_below(r, places) - cfg->crop_pad;
    c.dx = (int64_t)rng_below(r, places) - cfg->crop_pad;
    c.flip = rng_u32(r) & 1;
    return c;
}

static bool inside(int64_t v, int64_t n)
{
    return v >= 0 && v < n;
}

/* Pixels of `size` bytes, black where the image ends before. */
static inline void crop(const struct crop *c, const struct dataset *d, size_t size,
                        const void *from, void *to)
{
    const int64_t h = d->height, w = d->width;
    const char *pixel = from;
    char *at = to;

    for (int64_t row = 0; row < d->channels * h; row++) {
        const int64_t plane = row / h, y = row % h + c->dy;
        for (int64_t x = 0; x < w; x++, at += size) {
            const int64_t s = (c->flip ? w - 1 - x : x) + c->dx;
            if (inside(y, h) && inside(s, w))
                memcpy(at, pixel + (size_t)((plane * h + y) * w + s) * size, size);
            else
                memset(at, 0, size);
        }
    }
}

/* ---- augmented copies ------------------------------------------------------------------------ */

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

/* One corruption of the list on chw; the result replaces `work`. */
static int corrupt_copy(const struct batch *b, const struct train_config *cfg,
                        const struct dataset *d, int64_t sample, const uint8_t *chw, struct rng *r,
                        uint8_t *work, float *out)
{
    const enum corrupt_type type = b->types[rng_below(r, (uint32_t)b->n_types)];
    const int severity = 1 + (int)rng_below(r, CORRUPT_SEVERITIES);

    if (corrupt_apply(type, severity, chw, d->height, d->width, r, work) < 0)
        return fail(ERR_DATA, "image %" PRId64 " of %s: %dx%d pixels cannot be corrupted",
                    index_of(d, sample), source_of(cfg, d, sample)->source, d->height, d->width);
    for (int64_t j = 0; j < b->elems; j++)
        out[j] = (float)work[j] / 255;
    return 0;
}

static int augment_image(const struct batch *b, const struct train_config *cfg,
                         const struct dataset *d, int32_t epoch, int64_t i, struct crop clean)
{
    const int64_t sample = b->sample[i];
    struct rng r = rng_at(cfg->seed, RNG_AUGMIX, (uint32_t)epoch, (uint64_t)sample);
    const struct crop c = cfg->aligned ? clean : draw_crop(cfg, source_of(cfg, d, sample), &r);
    const struct augmix_config mix = augmix_defaults();
    const float *pixels = b->whole + i * b->elems;
    uint8_t *whole = b->bytes + 2 * i * b->elems, *cropped = whole + b->elems;
    float *out = b->augmented + i * b->elems;

    for (int64_t j = 0; j < b->elems; j++) /* as data_image_u8 */
        whole[j] = (uint8_t)(pixels[j] * 255.0f + 0.5f);
    crop(&c, d, 1, whole, cropped);
    if (cfg->augment == TRAIN_AUGMENT_CORRUPT)
        return corrupt_copy(b, cfg, d, sample, cropped, &r, whole, out);
    augmix(&mix, cropped, d->channels, d->height, d->width, &r, out);
    return 0;
}

static int load_image(const struct batch *b, const struct train_config *cfg,
                      const struct dataset *d, int32_t epoch, int64_t i)
{
    const int64_t sample = b->sample[i];
    const struct dataset *of = source_of(cfg, d, sample);
    const struct data_view view = {of->draws, cfg->seed, epoch};
    struct rng r = rng_at(cfg->seed, RNG_CROP, (uint32_t)epoch, (uint64_t)sample);
    const struct crop c = draw_crop(cfg, of, &r);
    float *whole = b->whole + i * b->elems;

    TRY(data_image_seen(of, index_of(d, sample), &view, whole));
    crop(&c, d, sizeof *whole, whole, b->pixels + i * b->elems);
    return b->augmented != NULL && i < b->n_clean ? augment_image(b, cfg, d, epoch, i, c) : 0;
}

/* ---- which images ---------------------------------------------------------------------------- */

/* Extra image number `place` of an epoch. */
static int64_t draw_extra(const struct train_config *cfg, const struct dataset *d, int32_t epoch,
                          int64_t place)
{
    struct rng r = rng_at(cfg->seed, RNG_EXTRA, (uint32_t)epoch, (uint64_t)place);

    return d->n + rng_below(&r, (uint32_t)cfg->extra->n);
}

/* Images of iteration `index`: those of the order, and among them extra ones. Returns how many. */
static int64_t choose_images(const struct train_config *cfg, const struct dataset *d,
                             const uint32_t *order, int32_t epoch, int64_t index, int64_t *sample)
{
    const int64_t own = own_count(cfg), first = index * own;
    const int64_t left = min_i64(d->n - first, own), n = left * cfg->batch / own, extra = n - left;
    int64_t mine = 0;

    for (int64_t i = 0; i < n; i++) {
        const bool other = (i + 1) * extra / n > i * extra / n;

        sample[i] = other ? draw_extra(cfg, d, epoch, index * cfg->batch + i)
                          : (int64_t)order[first + mine++];
    }
    return n;
}

/* own: of n images those in which e has a share; the others are not loaded. */
static void mark_own(const struct train_config *cfg, const struct exec *e, int64_t n, bool *own)
{
    const int64_t n_clean = batch_clean_count(cfg, n), n_adv = batch_adv_count(cfg, n);
    const int64_t at[] = {0, n - n_adv}, of[] = {n_clean, n_adv};

    for (int64_t i = 0; i < n; i++)
        own[i] = e == NULL;
    for (int half = 0; e != NULL && half < 2; half++) {
        int64_t first, count;

        exec_share(e, of[half], &first, &count);
        for (int64_t i = 0; i < count; i++)
            own[at[half] + first + i] = true;
    }
}

/* Own images of this iteration and of those after it, of d or of the extra ones, to be read ahead. */
static void read_ahead(struct batch *b, const struct train_config *cfg, const struct dataset *d,
                       const struct dataset *of, const struct exec *e, const uint32_t *order,
                       int32_t epoch, int64_t index)
{
    const int64_t most = of != NULL ? min_i64(data_ahead_most(of), DATA_AHEAD_MOST) : 0;
    const int64_t end = batch_per_epoch(cfg, d->n);
    const struct data_view view = {most > 0 && of->draws, cfg->seed, epoch};
    int64_t list[DATA_AHEAD_MOST], n = 0;

    for (; index < end && n < most; index++) {
        const int64_t count = choose_images(cfg, d, order, epoch, index, b->later);

        mark_own(cfg, e, count, b->later_own);
        for (int64_t i = 0; i < count && n < most; i++)
            if (b->later_own[i] && source_of(cfg, d, b->later[i]) == of)
                list[n++] = index_of(d, b->later[i]);
    }
    if (n > 0)
        data_ahead(of, &view, list, n);
}

int batch_load(struct batch *b, const struct train_config *cfg, const struct dataset *d,
               const struct exec *e, const uint32_t *order, int32_t epoch, int64_t index)
{
    read_ahead(b, cfg, d, d, e, order, epoch, index);
    read_ahead(b, cfg, d, cfg->extra, e, order, epoch, index);
    b->n = choose_images(cfg, d, order, epoch, index, b->sample);
    for (int64_t i = 0; i < b->n; i++)
        b->labels[i] = source_of(cfg, d, b->sample[i])->labels[index_of(d, b->sample[i])];
    b->n_clean = batch_clean_count(cfg, b->n);
    b->n_adv = batch_adv_count(cfg, b->n);
    mark_own(cfg, e, b->n, b->own);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < b->n; i++)
        b->refused[i] = b->own[i] && load_image(b, cfg, d, epoch, i) < 0;
    for (int64_t i = 0; i < b->n; i++)
        if (b->refused[i]) {
            TRY(load_image(b, cfg, d, epoch, i)); /* once more, for its message on this thread */
            return fail(ERR_NOMEM, "out of memory");
        }
    return 0;
}
