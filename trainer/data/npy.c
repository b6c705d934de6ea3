/*
 * Pictures and labels from two .npy files, or from one .npz.
 *
 *     images   uint8 [N,H,W,C] or [N,C,H,W], or float32 [N,C,H,W] with values in [0,1]
 *     labels   [N], integers of any type that npy.h reads
 *
 * The side of the channels is found by its size: a picture has 1 or 3 of them. Where both sides
 * could be meant ([N,3,H,3]) the file is refused. The number of classes is not in the files: the
 * largest label + 1 is what is known.
 */
#include <inttypes.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/npy.h"
#include "trainer/data/archive.h"
#include "trainer/data/owner.h"

#define NPY_MOST_SIDE 16384 /* pixels of a side; keeps every product far inside int64 */
#define NPY_MOST_CLASSES 1000000

static bool may_be_channels(int64_t dim)
{
    return dim == 1 || dim == 3;
}

/* Sets n, channels, height, width of d and whether the file holds [N,H,W,C]. */
static int find_layout(const struct npy *a, const char *path, struct dataset *d,
                       bool *channels_last)
{
    bool first, last;
    int64_t h, w;

    if (a->rank != 4 || (a->type != NPY_U8 && a->type != NPY_F32))
        return fail(ERR_DATA, "'%s': %s of rank %d; images are |u1 or <f4 of rank 4", path,
                    npy_type_name(a->type), a->rank);
    first = may_be_channels(a->dim[1]);
    last = may_be_channels(a->dim[3]);
    if (first == last || (a->type == NPY_F32 && last))
        return fail(ERR_DATA,
                    "'%s': shape [%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64
                    "] is not %s with 1 or 3 channels",
                    path, a->dim[0], a->dim[1], a->dim[2], a->dim[3],
                    a->type == NPY_F32 ? "[N,C,H,W]" : "clearly [N,C,H,W] or [N,H,W,C]");
    h = a->dim[last ? 1 : 2];
    w = a->dim[last ? 2 : 3];
    if (a->dim[0] < 1 || h < 1 || w < 1 || h > NPY_MOST_SIDE || w > NPY_MOST_SIDE)
        return fail(ERR_DATA, "'%s': %" PRId64 " images of %" PRId64 "x%" PRId64 " pixels", path,
                    a->dim[0], h, w);
    d->n = a->dim[0];
    d->channels = (int32_t)a->dim[last ? 3 : 1];
    d->height = (int32_t)h;
    d->width = (int32_t)w;
    *channels_last = last;
    return 0;
}

/* [H*W][C] -> [C][H*W] */
static void planes(uint8_t *out, const uint8_t *in, size_t hw, size_t channels)
{
    for (size_t i = 0; i < hw; i++)
        for (size_t c = 0; c < channels; c++)
            out[c * hw + i] = in[i * channels + c];
}

static void copy_pixels(const struct npy *a, bool channels_last, struct dataset *d)
{
    size_t hw = (size_t)d->height * (size_t)d->width, c = (size_t)d->channels;
    const uint8_t *in = a->data;

    if (!channels_last) {
        memcpy(d->owner->pixels, in, a->count);
        return;
    }
    for (size_t i = 0; i < (size_t)d->n; i++)
        planes(d->owner->pixels + i * c * hw, in + i * c * hw, hw, c);
}

static int copy_floats(const struct npy *a, const char *path, struct dataset *d)
{
    const float *in = a->data;

    for (size_t i = 0; i < a->count; i++)
        if (!(in[i] >= 0 && in[i] <= 1))
            return fail(ERR_DATA, "'%s': value %g at index %zu; floats must lie in [0,1]", path,
                        (double)in[i], i);
    memcpy(d->owner->floats, in, a->count * sizeof *in);
    return 0;
}

static int copy_images(const struct npy *a, const char *path, struct dataset *d)
{
    bool channels_last = false;

    TRY(find_layout(a, path, d, &channels_last));
    TRY(data_owner_alloc(d, d->n, a->type == NPY_F32));
    if (a->type == NPY_F32)
        return copy_floats(a, path, d);
    copy_pixels(a, channels_last, d);
    return 0;
}

static int copy_labels(const struct npy *a, const char *path, struct dataset *d)
{
    int64_t v, most = 0;

    if (a->rank != 1 || a->dim[0] != d->n)
        return fail(ERR_DATA,
                    "'%s': rank %d with %" PRId64
                    " entries; labels are [N], one for each of %" PRId64 " images",
                    path, a->rank, a->rank > 0 ? a->dim[0] : 1, d->n);
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

/* Opens a file; what is wrong with it is a matter of the data. */
static int open_array(const char *path, struct npy *out)
{
    int rc = npy_open(path, out);
    return rc < 0 && rc != ERR_NOMEM ? fail_context(ERR_DATA, "data") : rc;
}

/* Both arrays into d. */
static int take_arrays(const struct npy *x, const char *images, const struct npy *y,
                       const char *labels, struct dataset *d)
{
    TRY(copy_images(x, images, d));
    TRY(copy_labels(y, labels, d));
    d->owner->one_split = true;
    return data_owner_source(d, "arrays '%s' (%s, %s) and '%s'", images, npy_type_name(x->type),
                             d->owner->floats != NULL ? "values in [0,1]" : "pixels", labels);
}

int data_npy_load(const char *images, const char *labels, struct dataset *d)
{
    struct npy x = {0}, y = {0};
    int rc;

    if ((rc = open_array(images, &x)) == 0 && (rc = open_array(labels, &y)) == 0)
        rc = take_arrays(&x, images, &y, labels, d);
    npy_release(&x);
    npy_release(&y);
    return rc;
}

/* ---- npz ------------------------------------------------------------------------------------- */

static bool is_array(const char *name)
{
    const size_t n = strlen(name);

    return n > 4 && strcmp(name + n - 4, ".npy") == 0;
}

/* Does the name speak of the other part? */
static bool is_other_part(const char *name, bool is_test)
{
    return strstr(name, is_test ? "train" : "test") != NULL;
}

/* The only array of that rank, by preference one that does not speak of the other part. */
static int choose_array(const char *path, const struct archive_files *f, int32_t rank, bool is_test,
                        const struct archive_file **out, struct npy *a)
{
    int found = 0, only = 0;

    for (int32_t i = 0; i < f->n; i++) {
        struct npy one = {0};
        TRY(npy_from_bytes(f->v[i].data, f->v[i].len, f->v[i].name, &one));
        const bool fits = one.rank == rank;
        npy_release(&one);
        if (!fits || (is_other_part(f->v[i].name, is_test) && found > 0))
            continue;
        only = *out != NULL && !is_other_part((*out)->name, is_test) ? only + 1 : 1;
        found++;
        *out = &f->v[i];
    }
    if (only != 1)
        return fail(
            ERR_DATA,
            "'%s': holds %s array of rank %d for this split; an .npz has one of images (rank 4) and one of labels (rank 1), or x_train, y_train, x_test, y_test",
            path, found == 0 ? "no" : "more than one", (int)rank);
    return npy_from_bytes((*out)->data, (*out)->len, (*out)->name, a);
}

int data_npz_load(const char *path, bool is_test, struct dataset *d)
{
    const struct archive_file *images = NULL, *labels = NULL;
    struct archive_files *f = NULL;
    struct npy x = {0}, y = {0};
    int rc;

    TRY(archive_files_read(path, is_array, &f));
    if ((rc = choose_array(path, f, 4, is_test, &images, &x)) == 0 &&
        (rc = choose_array(path, f, 1, is_test, &labels, &y)) == 0 &&
        (rc = data_owner_source(d, "'%s' with arrays %s and %s", path, images->name,
                                labels->name)) == 0)
        rc = take_arrays(&x, images->name, &y, labels->name, d);
    if (rc == 0) /* with both parts inside, train and val are cut from the training one */
        d->owner->one_split = d->owner->pixels == NULL || (strstr(images->name, "train") == NULL &&
                                                           strstr(images->name, "test") == NULL);
    npy_release(&x);
    npy_release(&y);
    archive_files_free(f);
    return rc < 0 && rc != ERR_NOMEM ? ERR_DATA : rc;
}
