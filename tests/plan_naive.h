#ifndef TESTS_PLAN_NAIVE_H
#define TESTS_PLAN_NAIVE_H
/*
 * A plan interpreted naively, one element after the other in 64-bit integers: what pi_run_fixed must give. Memory
 * failure aborts: tests only.
 */
#include "runtime/plan/plan.h"

/* One image: pixels as floats in the plan's order -> y, the elements of the last step's tensor. */
void plan_naive(const struct plan *p, const struct plan_weights *w, const float *pixels,
                int64_t *y);
#endif
