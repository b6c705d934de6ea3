/* .npy files, alone and (fuzz_split) as images and labels of a data set, in memory and streamed: then the
 * images are the same. */
#include "core/base/npy.h"

#include <stdio.h>
#include <string.h>

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

/* What opens in memory opens as a stream and has the same images. */
static void read_streamed(const char *spec, const struct dataset *d)
{
    static float a[1 << 20], b[1 << 20];
    const struct data_options o = {.memory = 1, .threads = 1};
    struct dataset *s = NULL;

    if (data_open(spec, &o, DATA_ALL, 1, &s) < 0) {
        fuzz_must(d == NULL, "a file opens in memory, but not as a stream");
        return;
    }
    const int64_t pixels = (int64_t)s->channels * s->height * s->width;
    for (int64_t i = 0; i < s->n && i < MAX_PICTURES && pixels <= (int64_t)(sizeof a / sizeof *a);
         i++) {
        const int rc = data_image(s, i, a);
        fuzz_must(rc == 0 || d == NULL, "an image in memory that the stream refuses");
        if (d == NULL)
            continue;
        fuzz_must(d->n == s->n && data_image(d, i, b) == 0 &&
                      memcmp(a, b, (size_t)pixels * sizeof *a) == 0,
                  "an image that differs in memory and streamed");
    }
    data_close(s);
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
    if (data_open(spec, NULL, DATA_ALL, 1, &d) < 0) {
        read_streamed(spec, NULL);
        return 0;
    }
    read_streamed(spec, d);
    const int64_t pixels = (int64_t)d->channels * d->height * d->width;
    for (int64_t i = 0; i < d->n; i++) {
        fuzz_must(d->labels[i] >= 0 && d->labels[i] < d->classes, "a label outside of the classes");
        if (i < MAX_PICTURES && pixels <= (int64_t)(sizeof chw / sizeof *chw))
            fuzz_must(data_image(d, i, chw) == 0, "an image in memory cannot be read");
    }
    data_close(d);
    return 0;
}
