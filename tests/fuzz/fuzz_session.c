/*
 * Whole sessions with real base OTs, comparisons and ciphertexts. An execution takes up to a tenth of a
 * second, nearly all of it cryptography; the same readers without that: fuzz_message and what it names.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/message_party.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0)
        message_session(data[0], data + 1, size - 1);
    return 0;
}
