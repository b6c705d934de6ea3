#ifndef TESTS_PAIR_H
#define TESTS_PAIR_H
/*
 * Two parties in one test: the client's half runs in a thread of its own over transport_pair, the
 * server's half in the caller. Each closes its end when its half returns, so that a failure of one
 * ends the other.
 */
#include <stdint.h>

#include "runtime/net/transport.h"

struct pair_half {
    int (*run)(struct transport *t, void *arg);
    void *arg;
    long fail_at;                 /* set before: the allocation that fails, 0 for none */
    int rc;                       /* set after */
    long allocations;             /* counted in this half */
    struct transport_count count; /* of its end */
};
/* half[0] the server's, half[1] the client's. */
void pair_run(struct pair_half half[2]);
#endif
