/*
 * Messages of the two-party session itself: greeting, requests, answers, sizes of all messages, with an
 * open backend and an open provider, so that an execution takes microseconds. What the real ones read:
 * fuzz_relu, fuzz_baseot, fuzz_rlwe; whole sessions with them: fuzz_session.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/message_party.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0)
        message_session(data[0] & (MESSAGE_CLIENT | MESSAGE_LABEL), data + 1, size - 1);
    return 0;
}
