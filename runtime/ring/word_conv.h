#ifndef RUNTIME_RING_WORD_CONV_H
#define RUNTIME_RING_WORD_CONV_H
/*
 * y = M x mod 2^64 where both are 64 bits wide: the client's and the dealer's product of stage A.
 * (Products with small weights go through doubles: ring.h.) c gives the geometry; m [o,k].
 */
#include "runtime/ring/ring.h"

/* Words of scratch. */
size_t word_conv_scratch(const struct ring_conv *c);
void word_conv(uint64_t *y, const uint64_t *x, const uint64_t *m, const struct ring_conv *c,
               uint64_t *scratch);
#endif
