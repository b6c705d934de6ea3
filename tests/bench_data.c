/*
 * Images a second that a source gives: read, decoded, cut and made floats, by threads that decode ahead
 * and one that takes them.
 *
 *     build/release/tests/bench_data SRC HxW [IMAGES [THREADS [center]]]     default 2000 2, random parts
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"
#include "trainer/data/data.h"

#define BATCH 64

static int read_all(const struct dataset *d, int64_t n, const struct data_view *view, float *chw)
{
    const int64_t size = (int64_t)d->channels * d->height * d->width;
    int64_t list[4 * BATCH];
    int rc = 0;

    for (int64_t first = 0; rc == 0 && first < n; first += BATCH) {
        int64_t ahead = 0;

        for (; ahead < 4 * BATCH && first + ahead < n; ahead++)
            list[ahead] = (first + ahead) % d->n;
        data_ahead(d, view, list, ahead);
        for (int64_t i = 0; rc == 0 && i < BATCH && i < ahead; i++)
            rc = data_image_seen(d, list[i], view, chw + i * size);
    }
    return rc;
}

int main(int argc, char **argv)
{
    const int64_t n = argc > 3 ? atoll(argv[3]) : 2000;
    const bool center = argc > 5 && strcmp(argv[5], "center") == 0;
    const struct data_view view = {!center, 1, 0};
    struct data_options o = {.memory = (size_t)256 << 20, .random = !center};
    struct dataset *d = NULL;
    float *chw = NULL;
    int rc;

    if (argc < 3) {
        fprintf(stderr, "usage: bench_data SRC HxW [IMAGES [THREADS [center]]]\n");
        return 2;
    }
    o.threads = argc > 4 ? atoi(argv[4]) : 2;
    if ((rc = data_crop_parse(argv[2], &o)) == 0) {
        o.resize = o.crop_height < o.crop_width ? o.crop_width : o.crop_height;
        rc = data_open(argv[1], &o, DATA_TRAIN_ALL, 1, &d);
    }
    if (rc == 0) {
        chw = mem_aligned(BATCH * 3 * (size_t)d->height * (size_t)d->width, sizeof *chw);
        const double start = cpu_seconds();
        rc = chw != NULL ? read_all(d, n, &view, chw) : ERR_NOMEM;
        const double s = cpu_seconds() - start;
        if (rc == 0)
            printf("%s: %lld images of %dx%d, %d threads: %.0f images/s\n", d->source, (long long)n,
                   d->height, d->width, o.threads, (double)n / s);
    }
    if (rc < 0)
        fprintf(stderr, "bench_data: %s\n", err_message());
    mem_free(chw);
    data_close(d);
    return rc < 0;
}
