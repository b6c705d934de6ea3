/*
 * Images and labels from two .npy files, or from one .npz.
 *
 *     images   [N,H,W,C], [N,C,H,W] or [N,H,W]; integers 0 ... 255, or floats in [0,1]
 *     labels   [N], [N,1] or one-hot [N,K]; whole numbers of any type
 *
 * The side of the channels is found by its size: an image has 1 or 3 of them. Where both sides
 * could be meant ([N,3,H,3]) the file is refused. Floats may miss [0,1] by rounding and are put back
 * to its border. The number of classes is in the files only with one-hot labels; otherwise the
 * largest label + 1 is what is known.
 *
 * An .npz tells its parts apart by the words train, val (or valid) and test in the names of its
 * arrays: x_train, y_train, x_test, y_test of Keras, train_images, train_labels, val_images ... of
 * MedMNIST. Arrays of rank 3 and more are images, others labels; names do not matter where there is
 * one of each.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/npy.h"
#include "trainer/data/archive.h"
#include "trainer/data/owner.h"

#define NPY_MOST_SIDE 16384 /* pixels of a side; keeps every product far inside int64 */
#define NPY_MOST_CLASSES 1000000
#define ROUNDING 1e-5 /* what a float may miss [0,1] by */
#define ROWS_HASHED 256

/* ---- images ---------------------------------------------------------------------------------- */

static bool may_be_channels(int64_t dim)
{
    return dim == 1 || dim == 3;
}

static bool is_float(const struct npy *a)
{
    return a->type == NPY_F32 || a->type == NPY_F64;
}

/* Sets n, channels, height, width of d and whether the file holds [N,H,W,C]. a needs no data. */
static int find_layout(const struct npy *a, const char *path, struct dataset *d,
                       bool *channels_last)
{
    const bool flat = a->rank == 3; /* [N,H,W]: one channel */
    bool first, last;
    int64_t h, w;

    if (a->rank != 4 && !flat)
        return fail(ERR_DATA, "'%s': rank %d; images are [N,H,W,C], [N,C,H,W] or [N,H,W]", path,
                    a->rank);
    first = flat || may_be_channels(a->dim[1]);
    last = !flat && may_be_channels(a->dim[3]);
    if (first == last)
        return fail(ERR_DATA,
                    "'%s': shape [%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64
                    "] is not clearly [N,C,H,W] or [N,H,W,C] with 1 or 3 channels",
                    path, a->dim[0], a->dim[1], a->dim[2], a->dim[3]);
    h = a->dim[last || flat ? 1 : 2];
    w = a->dim[last || flat ? 2 : 3];
    if (a->dim[0] < 1 || h < 1 || w < 1 || h > NPY_MOST_SIDE || w > NPY_MOST_SIDE)
        return fail(ERR_DATA, "'%s': %" PRId64 " images of %" PRId64 "x%" PRId64 " pixels", path,
                    a->dim[0], h, w);
    d->n = a->dim[0];
    d->channels = flat ? 1 : (int32_t)a->dim[last ? 3 : 1];
    d->height = (int32_t)h;
    d->width = (int32_t)w;
    *channels_last = last;
    return 0;
}

struct array { /* images of a file, or some of them */
    const char *path;
    size_t first; /* index of its first element in the file, for messages */
    int32_t channels, height, width;
    bool channels_last;
};

/* Element i of [N,H,W,C] as a place in [N,C,H,W]. */
static size_t place_of(const struct array *f, size_t i)
{
    const size_t c = (size_t)f->channels, hw = (size_t)f->height * (size_t)f->width;

    return f->channels_last ? i / (c * hw) * c * hw + i % c * hw + i / c % hw : i;
}

static int copy_pixels(const struct npy *a, const struct array *f, uint8_t *out)
{
    const uint8_t *bytes = a->type == NPY_U8 ? a->data : NULL;
    int64_t v = 0;

    for (size_t i = 0; i < a->count; i++) {
        if (bytes != NULL)
            v = bytes[i];
        else
            TRY(npy_int(a, i, &v));
        if (v < 0 || v > 255)
            return fail(ERR_DATA, "'%s': value %" PRId64 " at index %zu; pixels are 0 ... 255",
                        f->path, v, f->first + i);
        out[place_of(f, i)] = (uint8_t)v;
    }
    return 0;
}

static int copy_floats(const struct npy *a, const struct array *f, float *out)
{
    for (size_t i = 0; i < a->count; i++) {
        const double v = npy_double(a, i);
        if (!(v >= -ROUNDING && v <= 1 + ROUNDING))
            return fail(
                ERR_DATA,
                "'%s': value %g at index %zu; floats must lie in [0,1]: divide pixels by 255, or save them as uint8",
                f->path, v, f->first + i);
        out[place_of(f, i)] = (float)fmin(fmax(v, 0), 1);
    }
    return 0;
}

static struct array array_of(const struct dataset *d, const char *path, bool channels_last)
{
    return (struct array){path, 0, d->channels, d->height, d->width, channels_last};
}

static int copy_images(const struct npy *a, const char *path, struct dataset *d)
{
    bool channels_last = false;

    TRY(find_layout(a, path, d, &channels_last));
    TRY(data_owner_alloc(d, d->n, is_float(a)));
    const struct array f = array_of(d, path, channels_last);
    return is_float(a) ? copy_floats(a, &f, d->owner->floats)
                       : copy_pixels(a, &f, d->owner->pixels);
}

/* ---- images that stay in their file ---------------------------------------------------------- */

struct rows {
    struct npy_rows *file;
    char *path;
    struct array images;
};

static void rows_release(void *ctx)
{
    struct rows *r = ctx;

    npy_rows_close(r->file);
    mem_free(r->path);
    mem_free(r);
}

static int rows_read(const void *ctx, int64_t record, const struct data_view *view, void *out)
{
    const struct rows *r = ctx;
    struct array f = r->images;
    SCOPED(npy_release) struct npy a = {0};
    int rc = npy_rows_read(r->file, record, 1, &a);

    (void)view;
    f.first = (size_t)record * a.count;
    if (rc == 0)
        rc = is_float(&a) ? copy_floats(&a, &f, out) : copy_pixels(&a, &f, out);
    return rc < 0 && rc != ERR_NOMEM ? ERR_DATA : rc;
}

/* Reading all of a file that is larger than memory would take long: some rows stand for it. */
static int rows_identify(const void *ctx, int64_t record, struct sha256 *h)
{
    const struct rows *r = ctx;
    const struct npy *shape = npy_rows_shape(r->file);
    SCOPED(npy_release) struct npy a = {0};

    if (record % (shape->dim[0] / ROWS_HASHED + 1) != 0)
        return 0;
    TRY(npy_rows_read(r->file, record, 1, &a));
    return sha256_add(h, a.data, a.count * npy_type_size(a.type));
}

static int leave_in_file(struct rows *r, struct dataset *d)
{
    const struct npy *a = npy_rows_shape(r->file);
    const struct stream_source source = {r, rows_read, rows_identify, rows_release};

    r->images.path = r->path;
    return data_owner_records(d, a->dim[0], is_float(a), &source);
}

/* Opens the images by rows; *out stays NULL for a file that must come into memory, or may. */
static int open_rows(const char *path, size_t memory, struct dataset *d, struct rows **out)
{
    struct rows *r = memory > 0 ? mem_array(1, sizeof *r) : NULL;
    bool channels_last = false;
    int rc;

    if (r == NULL)
        return memory > 0 ? ERR_NOMEM : 0;
    if ((rc = npy_rows_open(path, &r->file)) == 0) {
        const struct npy *a = npy_rows_shape(r->file);
        const size_t bytes = is_float(a) ? sizeof(float) : 1;

        if (a->count > memory / bytes && (rc = find_layout(a, path, d, &channels_last)) == 0) {
            r->images = array_of(d, path, channels_last);
            if ((r->path = mem_strdup(path)) != NULL) {
                *out = r;
                return 0;
            }
            rc = ERR_NOMEM;
        }
    }
    rows_release(r);
    return rc == ERR_UNSUPPORTED || rc == 0 ? 0 : rc; /* Fortran order: as a whole */
}

/* ---- labels ---------------------------------------------------------------------------------- */

static int refuse_labels(const struct npy *a, const char *path, const struct dataset *d)
{
    return fail(ERR_DATA,
                "'%s': rank %d with %" PRId64
                " rows; labels are [N], [N,1] or one-hot [N,K], a row for each of %" PRId64
                " images",
                path, a->rank, a->rank > 0 ? a->dim[0] : 1, d->n);
}

static int copy_numbers(const struct npy *a, const char *path, struct dataset *d)
{
    int64_t v, most = 0;

    for (size_t i = 0; i < a->count; i++) {
        if (npy_int(a, i, &v) < 0)
            return fail_context(ERR_DATA, "'%s'", path);
        if (v < 0 || v >= NPY_MOST_CLASSES)
            return fail(ERR_DATA, "'%s': label %" PRId64 " at index %zu is not in 0 ... %d", path,
                        v, i, NPY_MOST_CLASSES - 1);
        d->owner->labels[i] = (int32_t)v;
        most = v > most ? v : most;
    }
    d->classes = (int32_t)most + 1;
    return 0;
}

/* Rows with a single 1 among zeros. */
static int copy_one_hot(const struct npy *a, const char *path, struct dataset *d)
{
    const size_t k = (size_t)a->dim[1];

    for (size_t i = 0; i < (size_t)d->n; i++) {
        int32_t label = -1;
        bool ok = true;
        for (size_t c = 0; c < k; c++) {
            const double v = npy_double(a, i * k + c);
            ok = ok && (v == 0 || (v == 1 && label < 0));
            if (v == 1)
                label = (int32_t)c;
        }
        if (!ok || label < 0)
            return fail(ERR_DATA,
                        "'%s': row %zu of [%" PRId64
                        ",%zu] is not one-hot: a 1 for the class, 0 elsewhere",
                        path, i, d->n, k);
        d->owner->labels[i] = label;
    }
    d->classes = (int32_t)k;
    d->owner->classes_known = true;
    return 0;
}

static int copy_labels(const struct npy *a, const char *path, struct dataset *d)
{
    if (a->rank < 1 || a->rank > 2 || a->dim[0] != d->n)
        return refuse_labels(a, path, d);
    if (a->rank == 1 || a->dim[1] == 1)
        return copy_numbers(a, path, d);
    if (a->dim[1] < 1 || a->dim[1] > NPY_MOST_CLASSES)
        return refuse_labels(a, path, d);
    return copy_one_hot(a, path, d);
}

/* ---- two files ------------------------------------------------------------------------------- */

/* Opens a file; what is wrong with it is a matter of the data. */
static int open_array(const char *path, struct npy *out)
{
    int rc = npy_open(path, out);
    return rc < 0 && rc != ERR_NOMEM ? fail_context(ERR_DATA, "data") : rc;
}

int data_npy_load(const char *images, const char *labels, const struct data_options *o,
                  struct dataset *d)
{
    SCOPED(npy_release) struct npy x = {0}, y = {0};
    struct rows *rows = NULL;
    const int rc = open_rows(images, o->memory, d, &rows);

    d->owner->one_set = true;
    if (rc < 0)
        return rc == ERR_NOMEM ? rc : fail_context(ERR_DATA, "data");
    if (rows != NULL) {
        x.type = npy_rows_shape(rows->file)->type;
        TRY(leave_in_file(rows, d));
    } else {
        TRY(open_array(images, &x));
        TRY(copy_images(&x, images, d));
    }
    TRY(open_array(labels, &y));
    TRY(copy_labels(&y, labels, d));
    return data_owner_source(
        d, "arrays '%s' (%s, %s) and '%s'", images, npy_type_name(x.type),
        d->owner->floats != NULL || d->owner->records_float ? "values in [0,1]" : "pixels", labels);
}

/* ---- npz ------------------------------------------------------------------------------------- */

static bool is_array(const void *ctx, const char *name)
{
    const size_t n = strlen(name);

    (void)ctx;
    return n > 4 && strcmp(name + n - 4, ".npy") == 0;
}

#define NO_PART (-1)

/* The part that a name speaks of. */
static int part_of(const char *name)
{
    return strstr(name, "train") != NULL  ? DATA_PART_TRAIN
           : strstr(name, "test") != NULL ? DATA_PART_TEST
           : strstr(name, "val") != NULL  ? DATA_PART_VAL
                                          : NO_PART;
}

struct members {
    const struct archive_files *files;
    const char *path;
};

static int rank_of(const struct archive_file *f, int32_t *rank)
{
    SCOPED(npy_release) struct npy a = {0};

    TRY(npy_from_bytes(f->data, f->len, f->name, &a));
    *rank = a.rank;
    return 0;
}

/* The only array of images, or of labels, that belongs to `part` (NO_PART: that names none). */
static int choose(const struct members *m, int part, bool images, const struct archive_file **out)
{
    int32_t found = 0, rank;

    for (int32_t i = 0; i < m->files->n; i++) {
        const struct archive_file *f = &m->files->v[i];
        if (part_of(f->name) != part)
            continue;
        TRY(rank_of(f, &rank));
        if ((rank >= 3) != images || rank == 0)
            continue;
        *out = f;
        found++;
    }
    if (found == 1)
        return 0;
    return fail(
        ERR_DATA,
        "'%s': holds %s array of %s for this split; an .npz has one of each, or x_train, y_train, x_test, y_test, or train_images, train_labels, val_images ...",
        m->path, found == 0 ? "no" : "more than one", images ? "images" : "labels");
}

static int load_members(const struct members *m, int part, struct dataset *d)
{
    const struct archive_file *images = NULL, *labels = NULL;
    SCOPED(npy_release) struct npy x = {0}, y = {0};

    TRY(choose(m, part, true, &images));
    TRY(choose(m, part, false, &labels));
    TRY(npy_from_bytes(images->data, images->len, images->name, &x));
    TRY(npy_from_bytes(labels->data, labels->len, labels->name, &y));
    TRY(copy_images(&x, images->name, d));
    TRY(copy_labels(&y, labels->name, d));
    return data_owner_source(d, "'%s' with arrays %s and %s", m->path, images->name, labels->name);
}

int data_npz_load(const char *path, enum data_part part, struct dataset *d)
{
    SCOPED(archive_files_free_at) struct archive_files *f = NULL;
    int32_t n[3] = {0};

    TRY(archive_files_read(path, is_array, NULL, &f));
    for (int32_t i = 0; i < f->n; i++)
        if (part_of(f->v[i].name) != NO_PART)
            n[part_of(f->v[i].name)]++;
    d->owner->one_set = n[0] + n[1] + n[2] == 0;
    d->owner->own_val = n[DATA_PART_VAL] > 0;
    if (part == DATA_PART_VAL && n[DATA_PART_VAL] == 0)
        part = DATA_PART_TRAIN;
    const struct members m = {f, path};
    const int rc = load_members(&m, d->owner->one_set ? NO_PART : (int)part, d);
    return rc < 0 && rc != ERR_NOMEM ? ERR_DATA : rc;
}
