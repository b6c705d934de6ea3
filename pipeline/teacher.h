#ifndef PIPELINE_TEACHER_H
#define PIPELINE_TEACHER_H
/* The teacher of a conversion: the network with all its ReLUs, robust. */
#include "pipeline/conversion.h"

/* ERR_UNSUPPORTED if a ReLU of g is masked: the scores need all of them. *total: how many there are. */
int teacher_check_relus(const char *path, const struct graph *g, int64_t *total) MUST_CHECK;
/* With --teacher, that file takes the model's place. */
int teacher_take(struct conversion *c) MUST_CHECK;
/* Adds batch norm where it was folded away, the second branch, and masks of ones. A second branch that
 * the recipe has no use for goes. */
int teacher_prepare(struct conversion *c) MUST_CHECK;
/* The stage "teacher", with its state in DIR/teacher.safetensors; or its result from there. */
int teacher_train(struct conversion *c) MUST_CHECK;
#endif
