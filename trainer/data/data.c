/*
 * Data sources: recognising them, and the one place where the training images are split.
 *
 * The split: for each class c with n_c training images, a random permutation of
 * their positions, drawn from (seed, RNG_SPLIT, epoch c), gives the (n_c + 5) / 10 validation
 * images; the rest is for training. The pictures of a split are moved to the front of the loaded
 * block in file order, so no second copy is held.
 *
 * Limits: everything is in memory.
 */
#include "trainer/data/data.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/mem.h"
#include "core/graph/rng.h"
#include "trainer/data/owner.h"

#define SYNTH_DEFAULT 10000
#define SYNTH_MOST 10000000

static const char *const split_name[] = {
    [DATA_TRAIN] = "train",
    [DATA_VAL] = "val",
    [DATA_TEST] = "test",
    [DATA_TRAIN_ALL] = "train+val",
};
#define N_SPLIT ((int)(sizeof split_name / sizeof split_name[0]))

const char *data_split_name(enum data_split split)
{
    return split_name[split];
}

int data_split_parse(const char *text, enum data_split *out)
{
    for (int i = 0; i < N_SPLIT; i++)
        if (strcmp(text, split_name[i]) == 0) {
            *out = (enum data_split)i;
            return 0;
        }
    return fail(ERR_ARG, "split '%s' is not one of train, val, test, train+val", text);
}

/* ---- blocks ------------------------------------------------------------------ */

static size_t image_size(const struct dataset *d)
{
    return (size_t)d->channels * (size_t)d->height * (size_t)d->width;
}

int data_owner_alloc(struct dataset *d, int64_t n, bool is_float)
{
    struct data_owner *own = d->owner;
    size_t count = (size_t)n;

    if (count > SIZE_MAX / image_size(d))
        return fail(ERR_LIMIT, "%" PRId64 " images of %zu values do not fit into memory", n,
                    image_size(d));
    if ((own->labels = mem_array(count, sizeof *own->labels)) == NULL)
        return ERR_NOMEM;
    if (is_float)
        own->floats = mem_aligned(count * image_size(d), sizeof *own->floats);
    else
        own->pixels = mem_aligned(count * image_size(d), sizeof *own->pixels);
    return own->floats == NULL && own->pixels == NULL ? ERR_NOMEM : 0;
}

int data_owner_new(struct dataset **out)
{
    struct dataset *d = mem_array(1, sizeof *d);

    if (d == NULL || (d->owner = mem_array(1, sizeof *d->owner)) == NULL) {
        mem_free(d);
        return ERR_NOMEM;
    }
    *out = d;
    return 0;
}

void data_owner_publish(struct dataset *d, const char *split)
{
    d->pixels = d->owner->pixels;
    d->floats = d->owner->floats;
    d->labels = d->owner->labels;
    d->source = d->owner->source;
    d->split = split;
}

int data_owner_source(struct dataset *d, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    if (d->owner->source != NULL)
        return 0;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    d->owner->source = mem_strdup(text);
    return d->owner->source == NULL ? ERR_NOMEM : 0;
}

void data_close(struct dataset *d)
{
    if (d == NULL)
        return;
    if (d->owner != NULL) {
        mem_free(d->owner->pixels);
        mem_free(d->owner->floats);
        mem_free(d->owner->labels);
        mem_free(d->owner->source);
        mem_free(d->owner);
    }
    mem_free(d);
}

/* ---- the split --------------------------------------------------------------- */

/* Marks the validation images of one class: is_val[position[p]] for the first tenth of a random
 * permutation p. position and order hold n entries. */
static void mark_class(struct rng r, const uint32_t *position, uint32_t n, uint32_t *order,
                       uint8_t *is_val)
{
    rng_permutation(&r, order, n);
    for (uint32_t i = 0; i < (n + 5) / 10; i++)
        is_val[position[order[i]]] = 1;
}

/* is_val[i] = 1 for the validation images among the n training images. */
static int mark_validation(const struct dataset *d, uint64_t seed, uint8_t *is_val)
{
    uint32_t *position, *order;
    int rc = 0;

    position = mem_array((size_t)d->n, sizeof *position);
    order = mem_array((size_t)d->n, sizeof *order);
    if (position == NULL || order == NULL)
        rc = ERR_NOMEM;
    for (int32_t c = 0; rc == 0 && c < d->classes; c++) {
        uint32_t n = 0;
        for (int64_t i = 0; i < d->n; i++)
            if (d->owner->labels[i] == c)
                position[n++] = (uint32_t)i;
        mark_class(rng_at(seed, RNG_SPLIT, (uint32_t)c, 0), position, n, order, is_val);
    }
    mem_free(position);
    mem_free(order);
    return rc;
}

static void move_image(struct dataset *d, int64_t to, int64_t from)
{
    size_t size = image_size(d);
    struct data_owner *own = d->owner;

    own->labels[to] = own->labels[from];
    memmove(own->pixels + (size_t)to * size, own->pixels + (size_t)from * size, size);
}

/* Keeps the images of `split`, in file order. Only sources of 8 bits have a split. */
static int keep_split(struct dataset *d, enum data_split split, uint64_t seed)
{
    uint8_t *is_val;
    int64_t kept = 0;
    int rc;

    if (d->n > UINT32_MAX)
        return fail(ERR_LIMIT, "%s: %" PRId64 " images, at most %" PRIu32, d->owner->source, d->n,
                    UINT32_MAX);
    if ((is_val = mem_array((size_t)d->n, 1)) == NULL)
        return ERR_NOMEM;
    if ((rc = mark_validation(d, seed, is_val)) == 0) {
        for (int64_t i = 0; i < d->n; i++)
            if (is_val[i] == (split == DATA_VAL))
                move_image(d, kept++, i);
        d->n = kept;
    }
    mem_free(is_val);
    return rc;
}

/* ---- recognising a source ---------------------------------------------------- */

static bool exists(const char *folder, const char *file, bool is_folder)
{
    char path[4096];
    struct stat st;

    if (snprintf(path, sizeof path, "%s/%s", folder, file) >= (int)sizeof path)
        return false;
    return stat(path, &st) == 0 && (is_folder ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode));
}

static int detect_folder(const char *path, bool is_test, struct dataset *d)
{
    if (data_cifar_is(path, 10))
        return data_cifar_load(path, 10, is_test, d);
    if (exists(path, "wnids.txt", false))
        return data_tiny_load(path, is_test, d);
    if (exists(path, "labels.npy", false))
        return fail(
            ERR_DATA,
            "'%s' is a folder of corrupted images (labels.npy): `eval --corruptions %s` reads it, and npy:%s/TYPE.npy,%s/labels.npy one type",
            path, path, path, path);
    if (exists(path, "train", true))
        return data_imagefolder_load(path, is_test, d);
    if (data_cifar_is(path, 100))
        return data_cifar_load(path, 100, is_test, d);
    return fail(
        ERR_DATA,
        "'%s' holds no layout that is known: data_batch_1..5 and test_batch (CIFAR-10, .bin or python), train and test (CIFAR-100, .bin or python), wnids.txt (Tiny-ImageNet), train/CLASS/ with pictures; imagefolder:%s takes CLASS/ alone",
        path, path);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static int open_file(const char *path, bool is_test, struct dataset *d)
{
    static const char *const archive[] = {".tar", ".tar.gz", ".tgz", ".tar.xz", ".zip"};

    for (size_t i = 0; i < sizeof archive / sizeof archive[0]; i++)
        if (ends_with(path, archive[i]))
            return data_cifar_archive(path, 0, is_test, d);
    if (ends_with(path, ".npz"))
        return data_npz_load(path, is_test, d);
    if (ends_with(path, ".npy"))
        return fail(ERR_DATA, "'%s': arrays are given in pairs, as npy:%s,LABELS.npy", path, path);
    return fail(
        ERR_DATA,
        "'%s' is a file; a data source is a folder, an archive (.tar, .tar.gz, .zip, .npz) or KIND:PATH",
        path);
}

/* cifar10:PATH and cifar100:PATH: a folder or an archive. */
static int open_cifar(const char *path, int k, bool is_test, struct dataset *d)
{
    struct stat st;

    if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
        return data_cifar_archive(path, k, is_test, d);
    return data_cifar_load(path, k, is_test, d);
}

static int open_path(const char *path, bool is_test, struct dataset *d)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return fail(ERR_DATA, "'%s': there is no such folder or file", path);
    return S_ISDIR(st.st_mode) ? detect_folder(path, is_test, d) : open_file(path, is_test, d);
}

static int open_npy(const char *text, struct dataset *d)
{
    const char *comma = strchr(text, ',');
    char *images;
    int rc;

    if (comma == NULL || comma == text || comma[1] == '\0' || strchr(comma + 1, ',') != NULL)
        return fail(ERR_DATA, "'npy:%s' is not npy:IMAGES.npy,LABELS.npy", text);
    if ((images = mem_strdup(text)) == NULL)
        return ERR_NOMEM;
    images[comma - text] = '\0';
    rc = data_npy_load(images, comma + 1, d);
    mem_free(images);
    return rc;
}

static int open_synth(const char *text, bool is_test, uint64_t seed, struct dataset *d)
{
    char *end;
    long n = SYNTH_DEFAULT;

    if (*text != '\0') {
        n = strtol(text, &end, 10);
        if (*end != '\0' || n < 10 || n > SYNTH_MOST)
            return fail(ERR_DATA, "'synth:%s' is not synth: or synth:N with N from 10 to %d", text,
                        SYNTH_MOST);
    }
    return data_synth_load(n, is_test, seed, d);
}

/* The rest of spec behind "kind:", NULL if it starts otherwise. */
static const char *after_kind(const char *spec, const char *kind)
{
    size_t n = strlen(kind);
    return strncmp(spec, kind, n) == 0 && spec[n] == ':' ? spec + n + 1 : NULL;
}

static int open_spec(const char *spec, bool is_test, uint64_t seed, struct dataset *d)
{
    const char *rest;

    if ((rest = after_kind(spec, "cifar10")) != NULL)
        return open_cifar(rest, 10, is_test, d);
    if ((rest = after_kind(spec, "cifar100")) != NULL)
        return open_cifar(rest, 100, is_test, d);
    if ((rest = after_kind(spec, "npy")) != NULL)
        return open_npy(rest, d);
    if ((rest = after_kind(spec, "synth")) != NULL)
        return open_synth(rest, is_test, seed, d);
    if (strcmp(spec, "synth") == 0)
        return open_synth("", is_test, seed, d);
    if ((rest = after_kind(spec, "imagefolder")) != NULL)
        return data_imagefolder_load(rest, is_test, d);
    return open_path(spec, is_test, d);
}

/* ---- public ------------------------------------------------------------------ */

int data_open(const char *spec, enum data_split split, uint64_t seed, struct dataset **out)
{
    struct dataset *d = NULL;
    int rc;

    TRY(data_owner_new(&d));
    if ((rc = open_spec(spec, split == DATA_TEST, seed, d)) < 0)
        goto out;
    if (!d->owner->one_split && (split == DATA_TRAIN || split == DATA_VAL) &&
        (rc = keep_split(d, split, seed)) < 0)
        goto out;
    if (d->n == 0) {
        rc = fail(ERR_DATA, "%s: split '%s' holds no image", d->owner->source,
                  data_split_name(split));
        goto out;
    }
    data_owner_publish(d, data_split_name(split));
    *out = d;
    d = NULL;
out:
    data_close(d);
    return rc;
}

void data_image(const struct dataset *d, int64_t i, float *chw)
{
    size_t size = image_size(d), first = (size_t)i * size;

    if (d->floats != NULL) {
        memcpy(chw, d->floats + first, size * sizeof *chw);
        return;
    }
    for (size_t j = 0; j < size; j++)
        chw[j] = (float)d->pixels[first + j] / 255.0f;
}

void data_image_u8(const struct dataset *d, int64_t i, uint8_t *chw)
{
    size_t size = image_size(d), first = (size_t)i * size;

    if (d->pixels != NULL) {
        memcpy(chw, d->pixels + first, size);
        return;
    }
    for (size_t j = 0; j < size; j++)
        chw[j] = (uint8_t)(d->floats[first + j] * 255.0f + 0.5f);
}

void data_limit(struct dataset *d, int64_t n)
{
    if (n > 0 && n < d->n)
        d->n = n;
}

int data_check(const struct dataset *d, int64_t channels, int64_t height, int64_t width,
               int64_t classes)
{
    if (d->channels != channels || d->height != height || d->width != width)
        return fail(ERR_DATA,
                    "%s: images are %dx%dx%d (channels, height, width), the model takes %" PRId64
                    "x%" PRId64 "x%" PRId64,
                    d->source, d->channels, d->height, d->width, channels, height, width);
    const bool known = d->owner == NULL || d->owner->classes_known; /* NULL: made by the caller */
    if (known ? d->classes != classes : d->classes > classes)
        return fail(ERR_DATA, "%s: %s%d classes, the model has %" PRId64 " outputs", d->source,
                    known ? "" : "labels of at least ", d->classes, classes);
    return 0;
}
