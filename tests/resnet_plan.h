#ifndef TESTS_RESNET_PLAN_H
#define TESTS_RESNET_PLAN_H
/* The linear steps of ResNets, one after another, without what lies between: for tests and benches of
 * linear layers. */
#include "runtime/plan/plan.h"

#define RESNET_STEPS 64

struct resnet_plan {
    struct plan plan;
    struct plan_tensor tensor[2 * RESNET_STEPS]; /* input and output of each step */
    struct plan_step step[RESNET_STEPS];
    struct plan_weights weights; /* random, |w| <= 200; NULL pointers without resnet_weights */
    struct plan_matrix matrix[RESNET_STEPS];
};
/* NULL without memory. depth: 18 (32x32 pixels, 10 classes) or 50 (224x224, 1000 classes). */
struct resnet_plan *resnet_plan(int depth);
int resnet_weights(struct resnet_plan *n) MUST_CHECK;
void resnet_free(struct resnet_plan *n); /* NULL is fine */
#endif
