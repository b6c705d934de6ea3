#ifndef TESTS_FUZZ_MESSAGE_PARTY_H
#define TESTS_FUZZ_MESSAGE_PARTY_H
/*
 * One party of a session on the sample program, with choices from one byte:
 *
 *     bit 0     the client, else the server        bit 3     only the label is revealed
 *     bits 1-2  comparisons: open, gc, ot          bit 4     the rlwe provider, else an open one
 *
 * Its own randomness is fixed, so that what a peer said once fits again.
 */
#include <stdint.h>

#include "runtime/transport.h"

/* Runs the session to its end or first error; returns the code. Closes t. */
int message_party(uint8_t choice, struct transport *t);
#endif
