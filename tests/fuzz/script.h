#ifndef TESTS_FUZZ_SCRIPT_H
#define TESTS_FUZZ_SCRIPT_H
/* A peer that says the bytes of an input, whatever it is told, and then closes the connection. */
#include "runtime/net/transport.h"

struct script {
    const uint8_t *at;
    size_t left;
    struct transport t; /* for the party that listens */
};
/* Borrows the bytes; s must stay where it is. */
void script_open(struct script *s, const uint8_t *bytes, size_t n);
#endif
