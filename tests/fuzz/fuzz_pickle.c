/* Pickles of CIFAR batches: what is accepted lies in the input or in the reader's memory. */
#include "trainer/data/pickle.h"

#include "tests/fuzz/fuzz.h"

static void read_key(const struct pickle *p, const char *key)
{
    const int64_t *v;
    const uint8_t *bytes;
    int64_t n, dim[2];

    if (pickle_integers(p, key, &v, &n) == 0)
        fuzz_touch(v, (size_t)n * sizeof *v);
    if (pickle_bytes(p, key, &bytes, dim) == 0) {
        fuzz_must(dim[0] >= 0 && dim[1] >= 0, "a negative dimension");
        fuzz_touch(bytes, (size_t)(dim[0] * dim[1]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const keys[] = {"data", "labels", "fine_labels", "", "absent"};
    struct pickle *p = NULL;

    if (pickle_read(data, size, "input", &p) < 0) {
        fuzz_must(p == NULL && err_message()[0] != '\0', "an error without a message");
        return 0;
    }
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        read_key(p, keys[k]);
    pickle_free(p);
    return 0;
}
