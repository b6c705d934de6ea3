/* Helpers of the fuzz targets. Files are memfds: no folder, no cleaning up, as fast as memory. */
#define _GNU_SOURCE
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/err.h"

enum { SLOTS = 4, PATH_BYTES = 32 };

void fuzz_must(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "fuzz: %s (last message: %s)\n", what, err_message());
    abort();
}

const char *fuzz_file(int slot, const void *data, size_t size)
{
    static int fd[SLOTS];
    static char path[SLOTS][PATH_BYTES];

    if (fd[slot] == 0) {
        fd[slot] = memfd_create("fuzz", MFD_CLOEXEC);
        fuzz_must(fd[slot] > 0, "memfd_create");
        snprintf(path[slot], PATH_BYTES, "/proc/self/fd/%d", fd[slot]);
    }
    fuzz_must(ftruncate(fd[slot], 0) == 0, "ftruncate");
    fuzz_must(size == 0 || pwrite(fd[slot], data, size, 0) == (ssize_t)size, "pwrite");
    return path[slot];
}

void fuzz_split(const uint8_t *data, size_t size, const uint8_t *part[2], size_t len[2])
{
    size_t first = 0, head = size < 4 ? size : 4;

    for (size_t k = 0; k < head; k++)
        first |= (size_t)data[k] << 8 * k;
    if (first > size - head)
        first = size - head;
    part[0] = data + head;
    len[0] = first;
    part[1] = data + head + first;
    len[1] = size - head - first;
}

void fuzz_touch(const void *data, size_t size)
{
    const uint8_t *p = data;
    volatile uint8_t sum = 0;

    for (size_t k = 0; k < size; k++)
        sum = (uint8_t)(sum + p[k]);
}
