/* Safetensors files: every tensor that is accepted lies in the input. */
#include "core/base/safetensors.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct st_reader *r = NULL;

    if (st_reader_bytes(data, size, "input", &r) < 0) {
        fuzz_must(r == NULL && err_message()[0] != '\0', "an error without a message");
        return 0;
    }
    for (size_t k = 0; k < st_count(r); k++) {
        const struct st_tensor *t = st_at(r, k);
        const uint8_t *p = t->data;
        const void *found;

        const size_t one = t->count > 0 ? t->bytes / t->count : 1;

        fuzz_must(one >= 1 && one <= 8 && t->bytes == t->count * one,
                  "bytes and elements disagree");
        fuzz_must((uintptr_t)p % one == 0, "numbers are not aligned");
        fuzz_touch(p, t->bytes);
        fuzz_must(st_find(r, t->name) == t, "a tensor is not found by its name");
        fuzz_must(st_need(r, t->name, t->dtype, t->rank, t->dim, &found) == 0, "st_need");
        fuzz_must(k == 0 || strcmp(st_at(r, k - 1)->name, t->name) < 0, "names are not sorted");
    }
    for (const char *const *key = (const char *const[]){"format", "a", "", NULL}; *key != NULL;
         key++)
        if (st_meta(r, *key) != NULL)
            fuzz_touch(st_meta(r, *key), strlen(st_meta(r, *key)));
    st_reader_close(r);
    return 0;
}
