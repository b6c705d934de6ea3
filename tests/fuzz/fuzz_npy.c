/* .npy files, alone and (fuzz_split) as images and labels of a data set. */
#include "core/base/npy.h"

#include <stdio.h>

#include "tests/fuzz/fuzz.h"
#include "trainer/data/data.h"

#define MAX_PICTURES 4

static void read_alone(const uint8_t *data, size_t size)
{
    struct npy x;

    if (npy_from_bytes(data, size, "input", &x) < 0) {
        fuzz_must(err_message()[0] != '\0', "an error without a message");
        return;
    }
    const size_t bytes = (size_t)(npy_type_name(x.type)[2] - '0'); /* "<f4" */
    fuzz_must((uintptr_t)x.data % bytes == 0, "numbers are not aligned");
    fuzz_touch(x.data, x.count * bytes);
    npy_release(&x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static float chw[1 << 20];
    struct dataset *d = NULL;
    const uint8_t *part[2];
    char spec[128];
    size_t len[2];

    read_alone(data, size);
    fuzz_split(data, size, part, len);
    read_alone(part[0], len[0]);
    snprintf(spec, sizeof spec, "npy:%s,%s", fuzz_file(0, part[0], len[0]),
             fuzz_file(1, part[1], len[1]));
    if (data_open(spec, NULL, DATA_ALL, 1, &d) < 0)
        return 0;
    const int64_t pixels = (int64_t)d->channels * d->height * d->width;
    for (int64_t i = 0; i < d->n; i++) {
        fuzz_must(d->labels[i] >= 0 && d->labels[i] < d->classes, "a label outside of the classes");
        if (i < MAX_PICTURES && pixels <= (int64_t)(sizeof chw / sizeof *chw))
            fuzz_must(data_image(d, i, chw) == 0, "an image in memory cannot be read");
    }
    data_close(d);
    return 0;
}
