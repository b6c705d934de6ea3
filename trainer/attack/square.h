#ifndef TRAINER_ATTACK_SQUARE_H
#define TRAINER_ATTACK_SQUARE_H
/*
 * Square, L-infinity (Andriushchenko et al., ECCV 2020, arXiv 1912.00049): random search
 * with squares of shrinking size. It asks for logits only, so it sees through masked gradients.
 */
#include "trainer/attack/attack.h"

#define SQUARE_MAX_QUERIES 100000

struct square_params {
    double eps;                /* pixel units */
    int32_t queries, restarts; /* 5000, 1 */
    double p_init;             /* 0.8: share of the pixels in the first squares */
    bool per_image;            /* false, as published: one square and sign for the whole batch a
                                * query. true: drawn per image, so the batch does not matter */
};
/* Side of the square of query i (from 0) on images of h x w. */
int32_t square_side(double p_init, int32_t i, int64_t h, int64_t w);

int square_attack(struct attack_model *m, const struct square_params *p,
                  struct attack_batch *b) MUST_CHECK;
#endif
