/*
 * Data sources: recognising them, and the one place where images are split.
 *
 *     validation   for each class c with n_c training images, a random permutation of their positions,
 *                  drawn from (seed, RNG_SPLIT, c, 0), gives the (n_c + 5) / 10 validation images
 *     test         of one set without parts: the same from (seed, RNG_SPLIT, c, 1), before that
 *
 * The images of a split are moved to the front of the loaded block in file order, so no second
 * copy is held. Of images that are still in their files only the records are moved.
 */
#include "trainer/data/data.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"
#include "core/base/ranks.h"
#include "core/graph/rng.h"
#include "trainer/data/archive.h"
#include "trainer/data/owner.h"
#include "trainer/data/scaled.h"

#define SYNTH_DEFAULT 10000
#define SYNTH_MOST 10000000
#define MOST_SIDE 16384
#define LEAST_MEMORY ((size_t)1 << 30) /* where the system does not say how much there is */

static const char *const split_name[] = {
    [DATA_TRAIN] = "train",         [DATA_VAL] = "val", [DATA_TEST] = "test",
    [DATA_TRAIN_ALL] = "train+val", [DATA_ALL] = "all",
};
#define N_SPLIT ((int)(sizeof split_name / sizeof split_name[0]))

const char *data_split_name(enum data_split split)
{
    return split_name[split == DATA_EVAL ? DATA_TEST : split];
}

int data_split_parse(const char *text, enum data_split *out)
{
    if (text == NULL) {
        *out = DATA_EVAL;
        return 0;
    }
    for (int i = 0; i < N_SPLIT; i++)
        if (strcmp(text, split_name[i]) == 0) {
            *out = (enum data_split)i;
            return 0;
        }
    return fail(ERR_ARG, "split '%s' is not one of train, val, test, train+val, all", text);
}

/* ---- blocks ------------------------------------------------------------------ */

static int alloc_images(struct dataset *d, int64_t n, bool is_float)
{
    struct data_owner *own = d->owner;
    const size_t count = (size_t)n * data_image_size(d);

    if (is_float)
        own->floats = mem_aligned(count, sizeof *own->floats);
    else
        own->pixels = mem_aligned(count, sizeof *own->pixels);
    return own->floats == NULL && own->pixels == NULL ? ERR_NOMEM : 0;
}

int data_owner_alloc(struct dataset *d, int64_t n, bool is_float)
{
    struct data_owner *own = d->owner;

    if ((size_t)n > SIZE_MAX / data_image_size(d))
        return fail(ERR_LIMIT, "%" PRId64 " images of %zu values do not fit into memory", n,
                    data_image_size(d));
    if ((own->labels = mem_array((size_t)n, sizeof *own->labels)) == NULL)
        return ERR_NOMEM;
    return alloc_images(d, n, is_float);
}

static void release_records(struct data_owner *own)
{
    if (own->records.release != NULL)
        own->records.release(own->records.ctx);
    own->records = (struct stream_source){0};
}

int data_owner_records(struct dataset *d, int64_t n, bool is_float,
                       const struct stream_source *source)
{
    struct data_owner *own = d->owner;

    own->records = *source;
    own->records_float = is_float;
    own->labels = mem_array((size_t)n, sizeof *own->labels);
    own->record = mem_array((size_t)n, sizeof *own->record);
    if (own->labels == NULL || own->record == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < n; i++)
        own->record[i] = i;
    d->n = n;
    return 0;
}

static size_t record_bytes(const struct dataset *d)
{
    return data_image_size(d) * (d->owner->records_float ? sizeof(float) : 1);
}

static int read_record(const struct dataset *d, int64_t i)
{
    static const struct data_view whole;
    struct data_owner *own = d->owner;
    uint8_t *to = own->records_float ? (uint8_t *)own->floats : own->pixels;

    return own->records.read(own->records.ctx, own->record[i], &whole,
                             to + (size_t)i * record_bytes(d));
}

/* All images into memory; the first one, by index, that fails gives the message. */
static int read_records(struct dataset *d)
{
    struct data_owner *own = d->owner;
    int64_t bad = d->n;

    TRY(alloc_images(d, d->n, own->records_float));
#pragma omp parallel for schedule(dynamic, 64) reduction(min : bad)
    for (int64_t i = 0; i < d->n; i++)
        if (read_record(d, i) < 0)
            bad = i < bad ? i : bad;
    if (bad < d->n) {
        /* Once more, for its message on this thread; what has gone meanwhile was a lack of memory. */
        TRY(read_record(d, bad));
        return fail(ERR_NOMEM, "out of memory");
    }
    release_records(own);
    return 0;
}

int data_owner_settle(struct dataset *d, const struct data_options *o)
{
    struct data_owner *own = d->owner;
    const struct stream_source source = own->records;

    if (own->record == NULL || d->n == 0)
        return 0;
    d->draws = o->random && own->pictures;
    if ((size_t)d->n > SIZE_MAX / record_bytes(d))
        return fail(ERR_LIMIT, "%" PRId64 " images of %zu bytes are too many", d->n,
                    record_bytes(d));
    TRY(data_owner_identify(d));
    if (!d->draws && (o->memory == 0 || (size_t)d->n <= o->memory / record_bytes(d)))
        return read_records(d);
    own->records = (struct stream_source){0};
    TRY(stream_new(&source, record_bytes(d), o->memory > 0 ? o->memory : SIZE_MAX,
                   o->threads > 0 ? o->threads : cpu_threads(), &own->stream));
    return data_owner_source(d, ", streamed");
}

int data_owner_new(struct dataset **out)
{
    SCOPED(data_close_at) struct dataset *d = mem_array(1, sizeof *d);

    if (d == NULL || (d->owner = mem_array(1, sizeof *d->owner)) == NULL)
        return ERR_NOMEM;
    *out = mem_hand_on(&d);
    return 0;
}

void data_owner_publish(struct dataset *d, const char *split)
{
    d->pixels = d->owner->pixels;
    d->floats = d->owner->floats;
    d->labels = d->owner->labels;
    d->class_name = (const char *const *)d->owner->class_name.v;
    d->source = d->owner->source;
    d->split = split;
}

int data_owner_source(struct dataset *d, const char *fmt, ...)
{
    const char *before = d->owner->source != NULL ? d->owner->source : "";
    char text[1024];
    char *whole;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if ((whole = mem_array(strlen(before) + strlen(text) + 1, 1)) == NULL)
        return ERR_NOMEM;
    strcpy(whole, before);
    strcat(whole, text);
    mem_free(d->owner->source);
    d->owner->source = whole;
    return 0;
}

void data_close(struct dataset *d)
{
    if (d == NULL)
        return;
    if (d->owner != NULL) {
        mem_free(d->owner->pixels);
        mem_free(d->owner->floats);
        mem_free(d->owner->labels);
        mem_free(d->owner->record);
        mem_free(d->owner->identity);
        stream_free(d->owner->stream);
        release_records(d->owner);
        mem_free(d->owner->source);
        name_list_release(&d->owner->class_name);
        mem_free(d->owner);
    }
    mem_free(d);
}

/* ---- the split --------------------------------------------------------------- */

enum role { ROLE_TRAIN, ROLE_VAL, ROLE_TEST };

/* Gives `role` to the first tenth of a random permutation of the positions of one class. order holds
 * n entries. */
static void mark_class(struct rng r, const uint32_t *position, uint32_t n, uint32_t *order,
                       enum role role, uint8_t *roles)
{
    rng_permutation(&r, order, n);
    for (uint32_t i = 0; i < (n + 5) / 10; i++)
        roles[position[order[i]]] = (uint8_t)role;
}

/* A tenth of the images of each class that still have ROLE_TRAIN. */
static int mark_tenth(const struct dataset *d, uint64_t seed, enum role role, uint8_t *roles)
{
    const uint64_t draw = role == ROLE_TEST ? 1 : 0;
    OWNED uint32_t *position = mem_array((size_t)d->n, sizeof *position);
    OWNED uint32_t *order = mem_array((size_t)d->n, sizeof *order);

    if (position == NULL || order == NULL)
        return ERR_NOMEM;
    for (int32_t c = 0; c < d->classes; c++) {
        uint32_t n = 0;
        for (int64_t i = 0; i < d->n; i++)
            if (d->owner->labels[i] == c && roles[i] == ROLE_TRAIN)
                position[n++] = (uint32_t)i;
        mark_class(rng_at(seed, RNG_SPLIT, (uint32_t)c, draw), position, n, order, role, roles);
    }
    return 0;
}

static void move_image(struct dataset *d, int64_t to, int64_t from)
{
    const size_t size = data_image_size(d), at = (size_t)to * size, of = (size_t)from * size;
    struct data_owner *own = d->owner;

    own->labels[to] = own->labels[from];
    if (own->record != NULL)
        own->record[to] = own->record[from];
    else if (own->pixels != NULL)
        memmove(own->pixels + at, own->pixels + of, size);
    else
        memmove(own->floats + at, own->floats + of, size * sizeof *own->floats);
}

static bool is_kept(uint8_t role, enum data_split split)
{
    switch (split) {
    case DATA_TRAIN:
        return role == ROLE_TRAIN;
    case DATA_VAL:
        return role == ROLE_VAL;
    case DATA_TEST:
        return role == ROLE_TEST;
    default:
        return role != ROLE_TEST;
    }
}

/* Which tenths are cut off what was loaded. */
struct cut {
    bool test, val;
};

/* Keeps the images of `split`, in file order. */
static int keep_split(struct dataset *d, struct cut cut, enum data_split split, uint64_t seed)
{
    OWNED uint8_t *roles = NULL;
    int64_t kept = 0;

    if (d->n > UINT32_MAX)
        return fail(ERR_LIMIT, "%s: %" PRId64 " images, at most %" PRIu32, d->owner->source, d->n,
                    UINT32_MAX);
    if ((roles = mem_array((size_t)d->n, 1)) == NULL)
        return ERR_NOMEM;
    if (cut.test)
        TRY(mark_tenth(d, seed, ROLE_TEST, roles));
    if (cut.val)
        TRY(mark_tenth(d, seed, ROLE_VAL, roles));
    for (int64_t i = 0; i < d->n; i++)
        if (is_kept(roles[i], split))
            move_image(d, kept++, i);
    d->n = kept;
    return 0;
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

/* The folder of a publisher's archive that was unpacked here. */
static int open_inner_cifar(const char *path, enum data_part part, struct dataset *d, bool *found)
{
    static const struct {
        const char *name;
        int k;
    } inner[] = {{"cifar-10-batches-py", 10},
                 {"cifar-10-batches-bin", 10},
                 {"cifar-100-python", 100},
                 {"cifar-100-binary", 100}};
    char folder[4096];

    for (size_t i = 0; i < sizeof inner / sizeof inner[0]; i++) {
        *found = exists(path, inner[i].name, true);
        if (!*found)
            continue;
        if (snprintf(folder, sizeof folder, "%s/%s", path, inner[i].name) >= (int)sizeof folder)
            return fail(ERR_DATA, "path '%.60s...' is too long", path);
        return data_cifar_load(folder, inner[i].k, part, d);
    }
    return 0;
}

static int detect_folder(const char *path, enum data_part part, const struct data_options *o,
                         struct dataset *d)
{
    bool found = false;

    if (data_cifar_is(path, 10))
        return data_cifar_load(path, 10, part, d);
    if (exists(path, "wnids.txt", false))
        return data_imagefolder_load(path, part, o, d);
    if (exists(path, "labels.npy", false))
        return fail(
            ERR_DATA,
            "'%s' is a folder of corrupted images (labels.npy): `eval --corruptions %s` reads it, and npy:%s/TYPE.npy,%s/labels.npy one type",
            path, path, path, path);
    if (exists(path, "train", true))
        return data_imagefolder_load(path, part, o, d);
    if (data_cifar_is(path, 100))
        return data_cifar_load(path, 100, part, d);
    TRY(open_inner_cifar(path, part, d, &found));
    if (found)
        return 0;
    return fail(
        ERR_DATA,
        "'%s' holds no layout that is known: data_batch_1..5 and test_batch (CIFAR-10, .bin or python), train and test (CIFAR-100, .bin or python), wnids.txt (Tiny-ImageNet), train/CLASS/ with images; imagefolder:%s takes CLASS/ alone",
        path, path);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static int open_file(const char *path, enum data_part part, const struct data_options *o,
                     struct dataset *d)
{
    bool is_cifar = false;

    if (archive_is_name(path)) {
        TRY(data_cifar_in_archive(path, &is_cifar));
        return is_cifar ? data_cifar_archive(path, 0, part, d)
                        : data_imagefolder_load(path, part, o, d);
    }
    if (ends_with(path, ".npz"))
        return data_npz_load(path, part, d);
    if (ends_with(path, ".npy"))
        return fail(ERR_DATA, "'%s': arrays are given in pairs, as npy:%s,LABELS.npy", path, path);
    return fail(
        ERR_DATA,
        "'%s' is a file; a data source is a folder, an archive (.tar, .tar.gz, .tar.xz, .zip, .npz) or KIND:PATH",
        path);
}

/* cifar10:PATH and cifar100:PATH: a folder or an archive. */
static int open_cifar(const char *path, int k, enum data_part part, struct dataset *d)
{
    struct stat st;

    if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
        return data_cifar_archive(path, k, part, d);
    return data_cifar_load(path, k, part, d);
}

/* "npz:x.npz": what follows the colon is there, but the word before it says nothing. */
static int refuse_path(const char *path)
{
    const char *colon = strchr(path, ':');
    struct stat st;

    if (colon == NULL || stat(colon + 1, &st) != 0)
        return fail(ERR_DATA, "'%s': there is no such folder or file", path);
    return fail(
        ERR_DATA,
        "'%s': '%.*s:' is none of cifar10:, cifar100:, imagefolder:, shards:, npy:, synth:; give '%s' alone to have its kind found",
        path, (int)(colon - path), path, colon + 1);
}

static int open_path(const char *path, enum data_part part, const struct data_options *o,
                     struct dataset *d)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return refuse_path(path);
    if (S_ISDIR(st.st_mode))
        return detect_folder(path, part, o, d);
    if (!S_ISREG(st.st_mode))
        return fail(ERR_DATA, "'%s' is neither a folder nor a regular file", path);
    return open_file(path, part, o, d);
}

static int open_npy(const char *text, const struct data_options *o, struct dataset *d)
{
    const char *comma = strchr(text, ',');
    OWNED char *images = NULL;

    if (comma == NULL || comma == text || comma[1] == '\0' || strchr(comma + 1, ',') != NULL)
        return fail(ERR_DATA, "'npy:%s' is not npy:IMAGES.npy,LABELS.npy", text);
    if ((images = mem_strdup(text)) == NULL)
        return ERR_NOMEM;
    images[comma - text] = '\0';
    return data_npy_load(images, comma + 1, o, d);
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

/* The rest of spec after "kind:", NULL if it starts otherwise. */
static const char *after_kind(const char *spec, const char *kind)
{
    size_t n = strlen(kind);
    return strncmp(spec, kind, n) == 0 && spec[n] == ':' ? spec + n + 1 : NULL;
}

static int load_spec(const char *spec, enum data_part part, const struct data_options *o,
                     uint64_t seed, struct dataset *d)
{
    const bool is_test = part == DATA_PART_TEST;
    const char *rest;

    if ((rest = after_kind(spec, "cifar10")) != NULL)
        return open_cifar(rest, 10, part, d);
    if ((rest = after_kind(spec, "cifar100")) != NULL)
        return open_cifar(rest, 100, part, d);
    if ((rest = after_kind(spec, "npy")) != NULL)
        return open_npy(rest, o, d);
    if ((rest = after_kind(spec, "synth")) != NULL)
        return open_synth(rest, is_test, seed, d);
    if (strcmp(spec, "synth") == 0)
        return open_synth("", is_test, seed, d);
    if ((rest = after_kind(spec, "imagefolder")) != NULL)
        return data_imagefolder_load(rest, part, o, d);
    if ((rest = after_kind(spec, "shards")) != NULL)
        return data_shards_load(rest, part, o, d);
    return open_path(spec, part, o, d);
}

static int open_spec(const char *spec, enum data_part part, const struct data_options *o,
                     uint64_t seed, struct dataset *d)
{
    TRY(load_spec(spec, part, o, seed, d));
    if ((o->resize > 0 || o->crop_height > 0 || o->random) && !d->owner->pictures)
        return data_scaled(o, d);
    return 0;
}

/* ---- a source beside the main one ---------------------------------------------------------- */

/* The path of a source of class folders; NULL for other sources. */
static const char *tree_path(const char *spec)
{
    const char *rest = after_kind(spec, "imagefolder");
    struct stat st;

    if (rest != NULL)
        return rest;
    if (stat(spec, &st) != 0 || !S_ISDIR(st.st_mode))
        return archive_is_name(spec) ? spec : NULL;
    return exists(spec, "wnids.txt", false) ||
                   (exists(spec, "train", true) && !data_cifar_is(spec, 10))
               ? spec
               : NULL;
}

/* Numbers the classes of d as the main source does, by name. */
static int renumber(struct dataset *d, const struct name_list *classes)
{
    struct data_owner *own = d->owner;
    const int32_t n = (int32_t)classes->n;
    OWNED int32_t *to = mem_array((size_t)d->classes, sizeof *to);

    if (to == NULL)
        return ERR_NOMEM;
    for (int32_t c = 0; c < d->classes; c++) {
        for (to[c] = 0; to[c] < n && strcmp(classes->v[to[c]], own->class_name.v[c]) != 0;)
            to[c]++;
        if (to[c] == n)
            return fail(ERR_DATA, "%s: '%s' is no class of the training images", own->source,
                        own->class_name.v[c]);
    }
    if (d->classes != n)
        return fail(ERR_DATA, "%s: %d classes, the training images have %d", own->source,
                    d->classes, n);
    for (int64_t i = 0; i < d->n; i++)
        own->labels[i] = to[own->labels[i]];
    return 0;
}

static int match_classes(const char *spec, struct dataset *d)
{
    const char *path = tree_path(spec);
    SCOPED(name_list_release) struct name_list classes = {0};

    if (path == NULL || d->owner->class_name.n == 0)
        return 0;
    TRY(data_imagefolder_classes(path, &classes));
    if (classes.n == 0)
        return 0;
    TRY(renumber(d, &classes));
    name_list_release(&d->owner->class_name);
    d->owner->class_name = classes;
    classes = (struct name_list){0};
    return 0;
}

/* --val-data or --test-data: one set, or that part of a source with parts. */
static int open_beside(const char *spec, const char *beside, enum data_part part,
                       const struct data_options *o, uint64_t seed, struct dataset *d)
{
    TRY(open_spec(beside, part, o, seed, d));
    if (part == DATA_PART_VAL && !d->owner->one_set && !d->owner->own_val)
        return fail(
            ERR_DATA,
            "%s: has training and test images, no validation images: name one set (npy:X,Y or a folder of class folders)",
            d->owner->source);
    return match_classes(spec, d);
}

/* ---- public ------------------------------------------------------------------ */

/* Loads the images of a split from the main source and cuts off what is not of it. */
static int open_main(const char *spec, const struct data_options *o, enum data_split *split,
                     uint64_t seed, struct dataset *d)
{
    const enum data_part part = *split == DATA_TEST || *split == DATA_EVAL ? DATA_PART_TEST
                                : *split == DATA_VAL                       ? DATA_PART_VAL
                                                                           : DATA_PART_TRAIN;
    TRY(open_spec(spec, part, o, seed, d));
    const bool one_set = d->owner->one_set;
    if (*split == DATA_ALL && !one_set)
        return fail(ERR_DATA, "%s: has parts; 'all' is for one set without them", d->owner->source);
    if (*split == DATA_EVAL)
        *split = one_set ? DATA_ALL : DATA_TEST;
    if (*split == DATA_ALL)
        return data_owner_source(d, "; one set, all of it");
    if (!one_set && *split == DATA_TEST)
        return 0;
    if (!one_set && d->owner->own_val)
        return 0;
    const struct cut cut = {one_set && o->test == NULL, o->val == NULL};
    if (one_set)
        TRY(data_owner_source(d, "; one set, cut by class with seed %" PRIu64 ": %s%s", seed,
                              cut.test ? "a tenth for testing" : "no test images",
                              cut.val ? ", a tenth of the rest for validation" : ""));
    return keep_split(d, cut, *split, seed);
}

int data_open(const char *spec, const struct data_options *options, enum data_split split,
              uint64_t seed, struct dataset **out)
{
    const struct data_options none = {0}, *o = options != NULL ? options : &none;
    struct dataset *d = NULL;
    int rc;

    TRY(data_owner_new(&d));
    if ((split == DATA_TEST || split == DATA_EVAL) && o->test != NULL) {
        split = DATA_TEST;
        rc = open_beside(spec, o->test, DATA_PART_TEST, o, seed, d);
    } else if (split == DATA_VAL && o->val != NULL) {
        rc = open_beside(spec, o->val, DATA_PART_VAL, o, seed, d);
    } else {
        rc = open_main(spec, o, &split, seed, d);
    }
    if (rc == 0 && d->n == 0)
        rc = fail(ERR_DATA, "%s: split '%s' holds no image", d->owner->source,
                  data_split_name(split));
    if (rc == 0)
        rc = data_owner_settle(d, o);
    if (rc == 0) {
        data_owner_publish(d, data_split_name(split));
        *out = d;
        d = NULL;
    }
    data_close(d);
    return rc;
}

void data_limit(struct dataset *d, int64_t n)
{
    if (n > 0 && n < d->n)
        d->n = n;
}

int data_check(const struct dataset *d, int64_t channels, int64_t height, int64_t width,
               int64_t classes)
{
    if (d->channels != channels || d->height != height || d->width != width) {
        char hint[96] = "";
        if (d->channels == 3 && channels == 3 && d->floats == NULL)
            snprintf(hint, sizeof hint,
                     "; --resize %" PRId64 " --crop %" PRId64 "x%" PRId64 " scales them",
                     height > width ? height : width, height, width);
        return fail(ERR_DATA,
                    "%s: images are %dx%dx%d (channels, height, width), the model takes %" PRId64
                    "x%" PRId64 "x%" PRId64 "%s",
                    d->source, d->channels, d->height, d->width, channels, height, width, hint);
    }
    const bool known = d->owner == NULL || d->owner->classes_known; /* NULL: made by the caller */
    if (known ? d->classes != classes : d->classes > classes)
        return fail(ERR_DATA, "%s: %s%d classes, the model has %" PRId64 " outputs", d->source,
                    known ? "" : "labels of at least ", d->classes, classes);
    return 0;
}

/* ---- sizes of images ------------------------------------------------------- */

/* Digits of a number from 1 to MOST_SIDE; what stands after them in *end. */
static int parse_side(const char *text, const char **end, int32_t *out)
{
    char *after;
    const long v = strtol(text, &after, 10);

    *end = after;
    *out = (int32_t)v;
    return *text >= '1' && *text <= '9' && v <= MOST_SIDE ? 0 : ERR_ARG;
}

int data_resize_parse(const char *text, struct data_options *o)
{
    const char *end;

    if (parse_side(text, &end, &o->resize) == 0) {
        o->bicubic = strcmp(end, ",bicubic") == 0;
        if (*end == '\0' || o->bicubic || strcmp(end, ",bilinear") == 0)
            return 0;
    }
    return fail(ERR_ARG,
                "'%s' is not a side in pixels, 1 to %d, with ,bilinear or ,bicubic after it", text,
                MOST_SIDE);
}

int data_crop_parse(const char *text, struct data_options *o)
{
    const char *end;

    if (parse_side(text, &end, &o->crop_height) == 0 && *end == 'x' &&
        parse_side(end + 1, &end, &o->crop_width) == 0 && *end == '\0')
        return 0;
    return fail(ERR_ARG, "'%s' is not HEIGHTxWIDTH in pixels, such as 224x224", text);
}

/* Of what this process may take, also in a job or a container that has less than the machine. */
static size_t quarter_of_memory(void)
{
    const uint64_t all = cpu_memory();

    return (size_t)(all > 0 ? all : LEAST_MEMORY) / 4 / (size_t)ranks_count();
}

int data_memory_parse(const char *text, size_t *out)
{
    static const char unit[] = "KMGT";
    char *end;

    *out = strcmp(text, "quarter") == 0 ? quarter_of_memory() : 0;
    if (*out > 0 || strcmp(text, "all") == 0)
        return 0;
    const unsigned long long v = *text >= '1' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    const char *u = v > 0 && *end != '\0' ? strchr(unit, *end) : NULL;
    const int shift = u != NULL ? 10 * (int)(u - unit + 1) : 0;
    if (v == 0 || (u == NULL && *end != '\0') || (u != NULL && end[1] != '\0') ||
        v > (SIZE_MAX >> 1) >> shift)
        return fail(ERR_ARG, "'%s' is not a number of bytes such as 500M or 8G, nor 'all'", text);
    *out = (size_t)v << shift;
    return 0;
}
