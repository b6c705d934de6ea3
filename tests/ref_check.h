#ifndef TESTS_REF_CHECK_H
#define TESTS_REF_CHECK_H
/*
 * Holds the executor against the double-precision reference (ref_double.h), with cmocka
 * assertions that name the tensor. Loss: sum of a fixed random matrix times the logits.
 */
#include "core/exec/exec.h"

/* Largest ||a - b|| / ||b|| accepted for a tensor; seen: about 1e-6. */
#define REF_TOLERANCE 1e-4

/* n random numbers in [lo, hi), the same for the same seed. */
void ref_random(float *to, int64_t n, double lo, double hi, uint64_t seed);
/* Uniform in [-1, 1): element i of a tensor called `name`, by a formula that the Python scripts in
 * tests/vec have too; both round it to float. */
double ref_formula(const char *name, int64_t i);
/* All of the following, for n random images in [0,1] and this branch; returns the worst error:
 *   training mode   logits, running statistics, gradients of every PARAM and soft MASK, pixels
 *   evaluation mode logits and pixel gradients; n images equal n times one image
 *   both            one and two threads give the same bytes
 *   both            20 random directional derivatives of the reference against our gradient */
double ref_check(struct graph *g, int64_t n, int branch, uint64_t seed);
#endif
