#ifndef CORE_EXEC_PLAN_H
#define CORE_EXEC_PLAN_H
/*
 * The executor's memory plan: where every activation and every gradient lives, so that tensors whose
 * lifetimes do not overlap share memory. Offsets are floats per image; the executor multiplies them
 * by the number of images that its memory holds.
 */
#include "core/exec/fuse.h"

struct exec_plan {
    int64_t *act, *grad; /* per value; -1: has none (constants; inside a step; taps outside) */
    int64_t floats;      /* per image */
    bool *live;          /* per node: the output depends on it */
    struct exec_step *step;
    int32_t n_step;
};
/* tap[v]: the caller reads v after the forward pass. taps_outside: taps have memory of their own. */
int exec_plan_make(const struct graph *g, enum exec_mode mode, const bool *tap, bool taps_outside,
                   struct exec_plan *out) MUST_CHECK;
void exec_plan_release(struct exec_plan *p);
#endif
