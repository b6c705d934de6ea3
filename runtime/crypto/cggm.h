#ifndef RUNTIME_CRYPTO_CGGM_H
#define RUNTIME_CRYPTO_CGGM_H
/*
 * Correlated GGM trees: 2^d leaves of the sender, all of them but one known to the receiver, and
 * for that one the receiver holds leaf ^ delta. So the leaves are 2^d correlated oblivious transfers
 * whose choice bits are 0 except at one place of the receiver's choice (X. Guo et al., "Half-Tree:
 * Halving the Cost of Tree Expansion in COT and DPF", EUROCRYPT 2023).
 *
 *     sender     cggm_grow: leaves, and for each level the exclusive or of its left nodes
 *     between    per level the receiver gets the exclusive or of the side away from its leaf; the
 *                right side's is that of the left side ^ delta, so one correlated transfer does it
 *     receiver   cggm_fill
 *
 * The receiver's place decides no branch and no address. Leaves lie in an order of their own, the
 * same for both: bit i of a place is the side taken at level i.
 */
#include "runtime/crypto/prg.h"

#define CGGM_MOST_DEPTH 16

/* The hash of a tree and its scratch; one a thread. */
struct cggm;
int cggm_new(struct cggm **out) MUST_CHECK;
void cggm_free(struct cggm *); /* wipes; NULL is fine */
FREE_AT(cggm_free, struct cggm)
/* The public key of the trees that follow; needed before the first. */
void cggm_key(struct cggm *, const uint8_t key[16]);
/* leaves [2^depth] and left [depth], written, from a random seed; 1 <= depth <= CGGM_MOST_DEPTH. */
void cggm_grow(struct cggm *, int depth, struct block delta, struct block seed,
               struct block *leaves, struct block *left);
/* place: of the leaf that stays hidden. opened [depth]: the exclusive or of the nodes of level i on
 * side 1 ^ (bit i of place). leaves [2^depth], written: the sender's, leaf `place` ^ delta. */
void cggm_fill(struct cggm *, int depth, uint32_t place, const struct block *opened,
               struct block *leaves);
/* The lowest bit of every leaf becomes 0, that of leaf `place` 1; a place that is no leaf: none. */
void cggm_mark(const struct cggm *, int depth, uint64_t place, struct block *leaves);
#endif
