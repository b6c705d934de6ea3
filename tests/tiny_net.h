#ifndef TESTS_TINY_NET_H
#define TESTS_TINY_NET_H
/*
 * A residual network of 1,400 weights on images of 3x8x8, and images of three classes that it can
 * learn in a few steps. Memory failure aborts: tests only.
 */
#include "core/graph/graph.h"
#include "trainer/data/data.h"

enum { TINY_SIDE = 8, TINY_ELEMS = 3 * TINY_SIDE * TINY_SIDE, TINY_CLASSES = 3 };
enum tiny_flags {
    TINY_BN = 1,     /* batch norm behind each convolution, else biases */
    TINY_MASKED = 2, /* masked ReLUs, about half of the positions kept */
    TINY_DUAL = 4,   /* two BN branches */
};
/* conv - relu - conv - (+ skip) - relu - conv/2 - relu - mean - linear */
struct graph *tiny_net(unsigned flags, uint64_t seed);
/* y = W x + b on the flattened image: one Gemm, TINY_CLASSES outputs. */
struct graph *tiny_linear(uint64_t seed);

/* n images: class c has channel c brighter in one corner, noise everywhere. Free with tiny_free. */
struct dataset *tiny_data(int64_t n, uint64_t seed);
void tiny_free(struct dataset *d);
#endif
