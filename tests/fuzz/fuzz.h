#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H
/*
 * What the fuzz targets share. A target is one file fuzz_NAME.c with LLVMFuzzerTestOneInput; linked
 * with clang's libFuzzer it is a fuzzer (`make fuzz`), linked with replay.c it is the test program
 * test_fuzz_NAME, which runs the inputs of tests/fuzz/corpus/NAME (`make check`).
 *
 * A target refuses nothing by assertion but what must never happen: fuzz_must() aborts.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Path of a file in memory that holds these bytes, until the next call with the same slot. For
 * readers that take a path. Slots are 0 to 3. */
const char *fuzz_file(int slot, const void *data, size_t size);
/* Cuts an input in two: a 4-byte little-endian length, that many bytes (or what is there), the rest. */
void fuzz_split(const uint8_t *data, size_t size, const uint8_t *part[2], size_t len[2]);
/* Reads every byte, so that a sanitizer sees a range that is not there. */
void fuzz_touch(const void *data, size_t size);
/* Aborts with the text if it does not hold. */
void fuzz_must(bool holds, const char *what);
#endif
