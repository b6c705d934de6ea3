/*
 * CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in both layouts of their publishers, from a folder or read
 * in place from a tar, tar.gz or zip.
 *
 *     binary     data_batch_1.bin ... data_batch_5.bin, test_batch.bin; train.bin, test.bin
 *                record: 1 byte label, or coarse (0-19) and fine (0-99) label; 1024 R, 1024 G, 1024 B
 *     python     data_batch_1 ... data_batch_5, test_batch; train, test
 *                a pickled dict: data [n,3072] of bytes; labels or fine_labels
 *
 * A file may hold any number of whole records. The fine label of CIFAR-100 is the class.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "trainer/data/archive.h"
#include "trainer/data/owner.h"
#include "trainer/data/pickle.h"
#include "trainer/data/published.h"

#define CIFAR_SIDE 32
#define CIFAR_PIXELS (3 * CIFAR_SIDE * CIFAR_SIDE)
#define CIFAR_MAX_FILES 5
#define CIFAR_COARSE 20
#define PATH_SIZE 4096

struct cifar_layout {
    int k; /* classes */
    bool python;
    size_t n_label; /* binary: label bytes of a record; the last one is the class */
    const char *file[CIFAR_MAX_FILES];
    int n_file;
};

static struct cifar_layout layout_of(int k, bool python, bool is_test)
{
    static const char *const file[2][2][2][CIFAR_MAX_FILES] = {
        /* classes, python, test */
        {{{"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
           "data_batch_5.bin"},
          {"test_batch.bin"}},
         {{"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"},
          {"test_batch"}}},
        {{{"train.bin"}, {"test.bin"}}, {{"train"}, {"test"}}}};
    struct cifar_layout l = {.k = k, .python = python, .n_label = k == 10 ? 1 : 2};

    memcpy(l.file, file[k != 10][python][is_test], sizeof l.file);
    while (l.n_file < CIFAR_MAX_FILES && l.file[l.n_file] != NULL)
        l.n_file++;
    return l;
}

static int join(char path[PATH_SIZE], const char *folder, const char *file)
{
    if (snprintf(path, PATH_SIZE, "%s/%s", folder, file) >= PATH_SIZE)
        return fail(ERR_DATA, "path '%.60s...' is longer than %d bytes", folder, PATH_SIZE);
    return 0;
}

/* ---- bytes of a file, from wherever ---------------------------------------------------------- */

struct place {
    const char *path;                  /* folder or archive */
    const struct archive_files *files; /* NULL: a folder */
};
struct bytes {
    const uint8_t *data;
    size_t len;
    char name[PATH_SIZE];
    struct file_map map;
};

static bool is_file(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static bool place_has(const struct place *p, const char *file)
{
    char path[PATH_SIZE];

    if (p->files != NULL)
        return archive_files_find(p->files, file) != NULL;
    return join(path, p->path, file) == 0 && is_file(path);
}

static int bytes_open(const struct place *p, const char *file, struct bytes *b)
{
    struct stat st;

    *b = (struct bytes){0};
    TRY(join(b->name, p->path, file));
    if (p->files != NULL) {
        const struct archive_file *m = archive_files_find(p->files, file);
        if (m == NULL)
            return fail(ERR_DATA, "'%s': '%s' is missing in it", p->path, file);
        b->data = m->data;
        b->len = m->len;
        return 0;
    }
    if (stat(b->name, &st) != 0)
        return fail(ERR_DATA, "'%s' is missing", b->name);
    if (!S_ISREG(st.st_mode))
        return fail(ERR_DATA, "'%s' is not a regular file", b->name);
    if (file_map_open(b->name, &b->map) < 0)
        return fail_context(ERR_DATA, "data");
    b->data = b->map.data;
    b->len = b->map.len;
    return 0;
}

/* ---- binary ---------------------------------------------------------------------------------- */

static int count_binary(const struct cifar_layout *l, const struct bytes *b, int64_t *n)
{
    const size_t record = l->n_label + CIFAR_PIXELS;

    if (b->len == 0 || b->len % record != 0)
        return fail(ERR_DATA, "'%s': %zu bytes are not a whole number of records of %zu", b->name,
                    b->len, record);
    *n = (int64_t)(b->len / record);
    return 0;
}

static int read_binary(const struct cifar_layout *l, const struct bytes *b, int64_t n,
                       uint8_t *pixels, int32_t *labels)
{
    const size_t record = l->n_label + CIFAR_PIXELS;

    for (int64_t i = 0; i < n; i++) {
        const uint8_t *r = b->data + (size_t)i * record;
        if (l->n_label == 2 && r[0] >= CIFAR_COARSE)
            return fail(ERR_DATA, "'%s': record %" PRId64 " has coarse label %d, at most %d",
                        b->name, i, r[0], CIFAR_COARSE - 1);
        labels[i] = r[l->n_label - 1];
        if (labels[i] >= l->k)
            return fail(ERR_DATA, "'%s': record %" PRId64 " has label %d, at most %d", b->name, i,
                        labels[i], l->k - 1);
        memcpy(pixels + i * CIFAR_PIXELS, r + l->n_label, CIFAR_PIXELS);
    }
    return 0;
}

/* ---- python ---------------------------------------------------------------------------------- */

static int check_shape(const struct bytes *b, const int64_t dim[2], int64_t labels)
{
    if (dim[1] != CIFAR_PIXELS || dim[0] != labels)
        return fail(ERR_DATA,
                    "'%s': data of %" PRId64 "x%" PRId64 " with %" PRId64
                    " labels; expected rows of %d bytes and a label for each",
                    b->name, dim[0], dim[1], labels, CIFAR_PIXELS);
    return 0;
}

static int copy_python(const struct cifar_layout *l, const struct bytes *b, const uint8_t *data,
                       const int64_t *label, int64_t n, uint8_t *pixels, int32_t *labels)
{
    memcpy(pixels, data, (size_t)n * CIFAR_PIXELS);
    for (int64_t i = 0; i < n; i++) {
        if (label[i] < 0 || label[i] >= l->k)
            return fail(ERR_DATA, "'%s': image %" PRId64 " has label %" PRId64 ", at most %d",
                        b->name, i, label[i], l->k - 1);
        labels[i] = (int32_t)label[i];
    }
    return 0;
}

/* Only counts where pixels is NULL. */
static int read_python(const struct cifar_layout *l, const struct bytes *b, int64_t *n,
                       uint8_t *pixels, int32_t *labels)
{
    SCOPED(pickle_free_at) struct pickle *p = NULL;
    const int64_t *label;
    const uint8_t *data;
    int64_t dim[2], count;

    TRY(pickle_read(b->data, b->len, b->name, &p));
    TRY(pickle_bytes(p, "data", &data, dim));
    TRY(pickle_integers(p, l->k == 10 ? "labels" : "fine_labels", &label, &count));
    TRY(check_shape(b, dim, count));
    *n = count;
    return pixels != NULL ? copy_python(l, b, data, label, count, pixels, labels) : 0;
}

/* ---- both ------------------------------------------------------------------------------------ */

static int read_one(const struct cifar_layout *l, const struct place *p, int file, int64_t *n,
                    uint8_t *pixels, int32_t *labels)
{
    struct bytes b;
    int rc = bytes_open(p, l->file[file], &b);

    if (rc == 0 && l->python)
        rc = read_python(l, &b, n, pixels, labels);
    else if (rc == 0)
        rc = pixels == NULL ? count_binary(l, &b, n) : read_binary(l, &b, *n, pixels, labels);
    file_map_close(&b.map);
    return rc;
}

static int load(const struct cifar_layout *l, const struct place *p, struct dataset *d)
{
    int64_t n[CIFAR_MAX_FILES], first = 0;

    for (int i = 0; i < l->n_file; i++) {
        TRY(read_one(l, p, i, &n[i], NULL, NULL));
        d->n += n[i];
    }
    d->channels = 3;
    d->height = d->width = CIFAR_SIDE;
    d->classes = l->k;
    d->owner->classes_known = true;
    TRY(data_owner_alloc(d, d->n, false));
    for (int i = 0; i < l->n_file; i++) {
        TRY(read_one(l, p, i, &n[i], d->owner->pixels + first * CIFAR_PIXELS,
                     d->owner->labels + first));
        first += n[i];
    }
    return 0;
}

/* Which layout the place holds, by its first training or its test file. */
static bool find_layout(const struct place *p, int k, bool is_test, struct cifar_layout *out)
{
    for (int python = 0; python < 2; python++)
        for (int other = 0; other < 2; other++) {
            const struct cifar_layout l = layout_of(k, python, is_test != (other == 1));
            if (place_has(p, l.file[0])) {
                *out = layout_of(k, python, is_test);
                return true;
            }
        }
    return false;
}

bool data_cifar_is(const char *folder, int k)
{
    const struct place p = {folder, NULL};
    struct cifar_layout l;

    return find_layout(&p, k, true, &l);
}

/* Pickles of a folder are single files with published sums: the first that differs is named. */
static int folder_note(const struct cifar_layout *l, const char *folder, char note[PUBLISHED_NOTE])
{
    enum published verdict = PUBLISHED_UNKNOWN;
    char path[PATH_SIZE];

    note[0] = '\0';
    for (int i = 0; l->python && l->k == 10 && i < l->n_file; i++) {
        TRY(join(path, folder, l->file[i]));
        TRY(published_check(path, &verdict, note));
        if (verdict != PUBLISHED_OTHER)
            continue;
        snprintf(note, PUBLISHED_NOTE, " (WARNING: the MD5 of '%s' is not the published one)",
                 l->file[i]);
        return 0;
    }
    return 0;
}

int data_cifar_load(const char *folder, int k, enum data_part part, struct dataset *d)
{
    const bool is_test = part == DATA_PART_TEST;
    struct cifar_layout l = layout_of(k, false, is_test);
    const struct place p = {folder, NULL};
    char note[PUBLISHED_NOTE];

    (void)find_layout(&p, k, is_test, &l); /* nothing found: the message names a binary file */
    TRY(load(&l, &p, d));
    TRY(folder_note(&l, folder, note));
    return data_owner_source(d, "CIFAR-%d %s folder '%s'%s", k, l.python ? "python" : "binary",
                             folder, note);
}

static bool is_of_part(const char *name, bool is_test)
{
    for (int k = 10; k <= 100; k += 90)
        for (int python = 0; python < 2; python++) {
            const struct cifar_layout l = layout_of(k, python, is_test);
            for (int i = 0; i < l.n_file; i++)
                if (strcmp(archive_base(name), l.file[i]) == 0)
                    return true;
        }
    return false;
}

static bool is_wanted(const void *ctx, const char *name)
{
    return is_of_part(name, *(const bool *)ctx);
}

int data_cifar_in_archive(const char *path, bool *found)
{
    SCOPED(archive_files_free_at) struct archive_files *files = NULL;

    *found = false;
    TRY(archive_files_read(path, NULL, NULL, &files));
    for (int32_t i = 0; i < files->n; i++)
        *found |= is_of_part(files->v[i].name, true) || is_of_part(files->v[i].name, false);
    return 0;
}

static const char *twice(const struct archive_files *f)
{
    for (int32_t i = 0; i < f->n; i++)
        if (archive_files_find(f, archive_base(f->v[i].name)) != &f->v[i])
            return f->v[i].name;
    return NULL;
}

int data_cifar_archive(const char *path, int k, enum data_part part, struct dataset *d)
{
    const bool is_test = part == DATA_PART_TEST;
    SCOPED(archive_files_free_at) struct archive_files *files = NULL;
    enum published verdict;
    struct cifar_layout l;
    char note[PUBLISHED_NOTE];

    TRY(archive_files_read(path, is_wanted, &is_test, &files));
    const struct place p = {path, files};
    const bool ten = k != 100 && find_layout(&p, 10, is_test, &l);
    if (twice(files) != NULL)
        return fail(ERR_DATA, "'%s': archive: holds '%s' twice", path, twice(files));
    if (!ten && (k == 10 || !find_layout(&p, 100, is_test, &l)))
        return fail(
            ERR_DATA,
            "'%s': archive: holds neither CIFAR-10 (data_batch_1.bin or data_batch_1) nor CIFAR-100 (train.bin or train) for this split",
            path);
    TRY(load(&l, &p, d));
    TRY(published_check(path, &verdict, note));
    return data_owner_source(d, "CIFAR-%d %s archive '%s'%s", l.k, l.python ? "python" : "binary",
                             path, note);
}
