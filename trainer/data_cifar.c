/*
 * CIFAR-10 and CIFAR-100 in their publishers' binary layout (Krizhevsky 2009).
 *
 *     CIFAR-10    data_batch_1.bin ... data_batch_5.bin, test_batch.bin
 *                 record: 1 byte label (0-9), 1024 R, 1024 G, 1024 B; rows from the top
 *     CIFAR-100   train.bin, test.bin
 *                 record: 1 byte coarse label (0-19), 1 byte fine label (0-99), pixels as above
 *
 * A file may hold any whole number of records. The fine label of CIFAR-100 is the class.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/mem.h"
#include "trainer/data_owner.h"

#define CIFAR_SIDE 32
#define CIFAR_PIXELS (3 * CIFAR_SIDE * CIFAR_SIDE)
#define CIFAR_MAX_FILES 5
#define CIFAR_COARSE 20
#define PATH_SIZE 4096

static const char *const cifar10_train[] = {"data_batch_1.bin", "data_batch_2.bin",
                                            "data_batch_3.bin", "data_batch_4.bin",
                                            "data_batch_5.bin"};
static const char *const cifar10_test[] = {"test_batch.bin"};
static const char *const cifar100_train[] = {"train.bin"};
static const char *const cifar100_test[] = {"test.bin"};

struct cifar_layout {
    int k;          /* classes */
    size_t n_label; /* label bytes of a record; the last one is the class */
    const char *const *file;
    int n_file;
};

static struct cifar_layout layout_of(int k, bool is_test)
{
    if (k == 10)
        return (struct cifar_layout){10, 1, is_test ? cifar10_test : cifar10_train,
                                     is_test ? 1 : CIFAR_MAX_FILES};
    return (struct cifar_layout){100, 2, is_test ? cifar100_test : cifar100_train, 1};
}

static int join(char path[PATH_SIZE], const char *folder, const char *file)
{
    if (snprintf(path, PATH_SIZE, "%s/%s", folder, file) >= PATH_SIZE)
        return fail(ERR_DATA, "path '%.60s...' is longer than %d bytes", folder, PATH_SIZE);
    return 0;
}

bool data_cifar_is(const char *folder, int k)
{
    char path[PATH_SIZE];
    struct stat st;

    for (int is_test = 0; is_test < 2; is_test++)
        if (join(path, folder, layout_of(k, is_test).file[0]) == 0 && stat(path, &st) == 0 &&
            S_ISREG(st.st_mode))
            return true;
    return false;
}

/* Number of records of a file, from its size. */
static int count_records(const char *path, size_t record, int64_t *out)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return fail(ERR_DATA, "'%s' is missing", path);
    if (!S_ISREG(st.st_mode))
        return fail(ERR_DATA, "'%s' is not a regular file", path);
    if (st.st_size == 0 || st.st_size % (int64_t)record != 0)
        return fail(ERR_DATA, "'%s': %" PRId64 " bytes are not a whole number of records of %zu",
                    path, (int64_t)st.st_size, record);
    *out = st.st_size / (int64_t)record;
    return 0;
}

static int check_labels(const char *path, int64_t i, const struct cifar_layout *l,
                        const uint8_t *label)
{
    if (l->n_label == 2 && label[0] >= CIFAR_COARSE)
        return fail(ERR_DATA, "'%s': record %" PRId64 " has coarse label %d, at most %d", path, i,
                    label[0], CIFAR_COARSE - 1);
    if (label[l->n_label - 1] >= l->k)
        return fail(ERR_DATA, "'%s': record %" PRId64 " has label %d, at most %d", path, i,
                    label[l->n_label - 1], l->k - 1);
    return 0;
}

static int read_records(FILE *f, const char *path, const struct cifar_layout *l, int64_t n,
                        uint8_t *pixels, int32_t *labels)
{
    uint8_t label[2];

    for (int64_t i = 0; i < n; i++) {
        if (fread(label, 1, l->n_label, f) != l->n_label ||
            fread(pixels + i * CIFAR_PIXELS, 1, CIFAR_PIXELS, f) != CIFAR_PIXELS)
            return fail(ERR_DATA, "'%s': record %" PRId64 " of %" PRId64 " cannot be read", path, i,
                        n);
        TRY(check_labels(path, i, l, label));
        labels[i] = label[l->n_label - 1];
    }
    return 0;
}

static int read_file(const char *path, const struct cifar_layout *l, int64_t n, uint8_t *pixels,
                     int32_t *labels)
{
    FILE *f = fopen(path, "rb");
    int rc;

    if (f == NULL)
        return fail(ERR_DATA, "'%s' cannot be opened", path);
    rc = read_records(f, path, l, n, pixels, labels);
    fclose(f);
    return rc;
}

int data_cifar_load(const char *folder, int k, bool is_test, struct dataset *d)
{
    struct cifar_layout l = layout_of(k, is_test);
    size_t record = l.n_label + CIFAR_PIXELS;
    int64_t n[CIFAR_MAX_FILES], first = 0;
    char path[PATH_SIZE];

    for (int i = 0; i < l.n_file; i++) {
        TRY(join(path, folder, l.file[i]));
        TRY(count_records(path, record, &n[i]));
        d->n += n[i];
    }
    d->channels = 3;
    d->height = d->width = CIFAR_SIDE;
    d->classes = k;
    d->owner->classes_known = true;
    TRY(data_owner_alloc(d, d->n, false));
    for (int i = 0; i < l.n_file; i++) {
        TRY(join(path, folder, l.file[i]));
        TRY(read_file(path, &l, n[i], d->owner->pixels + first * CIFAR_PIXELS,
                      d->owner->labels + first));
        first += n[i];
    }
    return data_owner_source(d, "CIFAR-%d binary folder '%s'", k, folder);
}
