#ifndef TESTS_FUZZ_MESSAGE_PARTY_H
#define TESTS_FUZZ_MESSAGE_PARTY_H
/*
 * One party of a session on the sample program, with choices from one byte:
 *
 *     bit 0     the client, else the server        bit 3     only the label is revealed
 *     bits 1-2  comparisons: open, gc, ot          bit 4     the linear backend rlwe, else an open one
 *
 * Its own randomness is fixed, so that what a peer said once fits again.
 */
#include <stddef.h>
#include <stdint.h>

enum { MESSAGE_CLIENT = 1, MESSAGE_LABEL = 8 };

/* The party hears `bytes` from its peer. Whatever they are, it ends with an answer or with an error of
 * the peer's, and keeps no secret: aborts otherwise. */
void message_session(uint8_t choice, const uint8_t *bytes, size_t n);
#endif
