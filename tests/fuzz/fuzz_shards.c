/*
 * Tar shards, in memory and streamed. Checksums would keep a fuzzer out, so they are made right:
 *
 *     byte 0    bit 0: blocks that say "ustar" get a right checksum; bit 1: streamed, with a buffer;
 *               bit 2: parts are drawn
 *     then      the file
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "trainer/data/data.h"

enum { BLOCK = 512, MOST = 1 << 16, PATH_BYTES = 128, MOST_IMAGES = 4, SIDE = 16 };

static char folder[PATH_BYTES], path[2 * PATH_BYTES];

/* DIR/x.tar, a link to the file in memory. */
static void make_path(void)
{
    const char *base = getenv("TMPDIR");

    snprintf(folder, sizeof folder, "%s/linnet-fuzz-XXXXXX", base != NULL ? base : "/tmp");
    fuzz_must(mkdtemp(folder) != NULL, "mkdtemp");
    snprintf(path, sizeof path, "%s/x.tar", folder);
}

static void remove_path(void)
{
    unlink(path);
    rmdir(folder);
}

static void mend(uint8_t *h)
{
    unsigned sum = 0;

    if (memcmp(h + 257, "ustar", 5) != 0)
        return;
    memset(h + 148, ' ', 8);
    for (int i = 0; i < BLOCK; i++)
        sum += h[i];
    snprintf((char *)h + 148, 8, "%06o", sum);
}

static void read_images(const struct dataset *d, bool random)
{
    static float chw[3 * SIDE * SIDE];
    static const int64_t list[MOST_IMAGES] = {0, 1, 2, 3};
    const struct data_view view = {random, 1, 2};

    data_ahead(d, &view, list, d->n < MOST_IMAGES ? d->n : MOST_IMAGES);
    for (int64_t i = 0; i < d->n; i++) {
        fuzz_must(d->labels[i] >= 0 && d->labels[i] < d->classes, "a label outside of the classes");
        if (i < MOST_IMAGES && data_image_seen(d, i, &view, chw) < 0)
            fuzz_must(err_message()[0] != '\0', "an error without a message");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t file[MOST];
    struct data_options o = {.resize = SIDE, .crop_height = SIDE, .crop_width = SIDE};
    struct dataset *d = NULL;
    char spec[2 * PATH_BYTES + 16];

    if (size < 1 || size - 1 > sizeof file)
        return 0;
    if (folder[0] == '\0') {
        make_path();
        atexit(remove_path);
    }
    memcpy(file, data + 1, size - 1);
    for (size_t at = 0; (data[0] & 1) != 0 && at + BLOCK <= size - 1; at += BLOCK)
        mend(file + at);
    unlink(path);
    fuzz_must(symlink(fuzz_file(0, file, size - 1), path) == 0, "symlink");
    o.memory = (data[0] & 2) != 0 ? 3 * SIDE * SIDE : 0;
    o.threads = 1;
    o.random = (data[0] & 4) != 0;
    snprintf(spec, sizeof spec, "shards:%s", path);
    if (data_open(spec, &o, DATA_ALL, 7, &d) < 0) {
        fuzz_must(err_message()[0] != '\0', "an error without a message");
        return 0;
    }
    read_images(d, o.random);
    data_close(d);
    return 0;
}
