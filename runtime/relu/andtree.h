#ifndef RUNTIME_RELU_ANDTREE_H
#define RUNTIME_RELU_ANDTREE_H
/*
 * "Less than" of two numbers from their digits, on shared bits. Group g (0 is the lowest digit) has
 * shared bits lt and eq, as rows of n bits; the parties' rows add up by exclusive or. Merging two
 * neighbours:
 *
 *     lt = lt_hi ^ (eq_hi & lt_lo)    eq = eq_hi & eq_lo
 *
 * Level by level, pairs from the bottom, so that the lowest group never needs eq. Each AND uses up
 * a triple, shared random bits with c = a & b, and opens 2 bits of each party.
 */
#include <stddef.h>
#include <stdint.h>

#include "core/base/mem.h"
#include "runtime/net/transport.h"

int andtree_levels(int digits);
/* ANDs of a level (0 is the first) and of all. */
int andtree_level_ands(int digits, int level);
int andtree_ands(int digits);
/* What each party sends for n comparisons. */
uint64_t andtree_bytes(int digits, size_t n);

struct andtree {
    size_t n;
    int digits, is_client;
    uint64_t *lt, *eq;      /* [digits][words of n]; used up, row 0 of lt is the result */
    const uint64_t *triple; /* [ands][a, b, c][words of n] */
};
/*
 * Runs the tree. The server sends level 0 at once, the client waits for it; each further message
 * brings the next two levels. Afterwards it is the server's turn to speak in either case. Result:
 * this party's row of the top lt.
 */
int andtree_run(struct andtree *tree, struct transport *t) MUST_CHECK;
#endif
