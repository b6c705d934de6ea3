/*
 * CIFAR-10 and CIFAR-100 folders. A record has 3 KB of pixels that nobody looks at, so inputs are
 * written in short:
 *
 *     byte 0    bit 0: CIFAR-100; bits 1-2: pixels of a record in front
 *     byte 1    bytes that are missing at the end of the file
 *     then      label bytes, one record for each (two bytes for CIFAR-100)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "tests/fuzz/fuzz.h"
#include "trainer/data/data.h"

enum { PIXELS = 3072, MAX_RECORDS = 8, PATH_BYTES = 128 };

/* A folder with both layouts' names, all links to one file in memory. */
static const char *folder(int is_100)
{
    static char dir[2][PATH_BYTES];
    static const char *const file[2][6] = {{"data_batch_1.bin", "data_batch_2.bin",
                                            "data_batch_3.bin", "data_batch_4.bin",
                                            "data_batch_5.bin", "test_batch.bin"},
                                           {"train.bin", "test.bin"}};
    const char *base = getenv("TMPDIR");
    char path[2 * PATH_BYTES];

    if (dir[is_100][0] != '\0')
        return dir[is_100];
    snprintf(dir[is_100], PATH_BYTES, "%s/linnet-fuzz-XXXXXX", base != NULL ? base : "/tmp");
    fuzz_must(mkdtemp(dir[is_100]) != NULL, "mkdtemp");
    for (int k = 0; k < 6 && file[is_100][k] != NULL; k++) {
        snprintf(path, sizeof path, "%s/%s", dir[is_100], file[is_100][k]);
        fuzz_must(symlink(fuzz_file(0, "", 0), path) == 0, "symlink");
    }
    return dir[is_100];
}

static void remove_folders(void)
{
    static const char *const file[] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                       "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin",
                                       "train.bin",        "test.bin"};
    char path[2 * PATH_BYTES];

    for (int is_100 = 0; is_100 < 2; is_100++) {
        for (size_t k = 0; k < sizeof file / sizeof *file; k++) {
            snprintf(path, sizeof path, "%s/%s", folder(is_100), file[k]);
            unlink(path);
        }
        rmdir(folder(is_100));
    }
}

static size_t expand(const uint8_t *data, size_t size, uint8_t *out)
{
    const size_t n_label = data[0] & 1 ? 2 : 1;
    size_t n = 0;

    if (data[0] & 6)
        n += PIXELS / (size_t)(data[0] & 6);
    for (size_t at = 2; at + n_label <= size && at < 2 + n_label * MAX_RECORDS; at += n_label) {
        memcpy(out + n, data + at, n_label);
        memset(out + n + n_label, data[at], PIXELS);
        n += n_label + PIXELS;
    }
    return n > data[1] ? n - data[1] : 0;
}

static void open_split(const char *spec, enum data_split split)
{
    static float chw[PIXELS];
    struct dataset *d = NULL;

    if (data_open(spec, NULL, split, 7, &d) < 0) {
        fuzz_must(err_message()[0] != '\0', "an error without a message");
        return;
    }
    for (int64_t i = 0; i < d->n; i++)
        fuzz_must(d->labels[i] >= 0 && d->labels[i] < d->classes, "a label outside of the classes");
    if (d->n > 0) { /* the last lies next to the end of the memory; all would be most of the time */
        fuzz_must(data_image(d, d->n - 1, chw) == 0, "an image in memory cannot be read");
        fuzz_must(chw[0] >= 0 && chw[PIXELS - 1] <= 1, "a pixel outside of [0,1]");
    }
    data_close(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[(MAX_RECORDS + 1) * (PIXELS + 2)];
    static bool is_ready;
    char spec[PATH_BYTES + 16];

    if (size < 2)
        return 0;
    if (!is_ready)
        atexit(remove_folders);
    is_ready = true;
    const int is_100 = data[0] & 1;
    snprintf(spec, sizeof spec, "%s%s", is_100 ? "cifar100:" : "cifar10:", folder(is_100));
    fuzz_file(0, bytes, expand(data, size, bytes));
    open_split(spec, DATA_TEST);
    open_split(spec, DATA_TRAIN);
    return 0;
}
