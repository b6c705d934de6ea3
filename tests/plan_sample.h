#ifndef TESTS_PLAN_SAMPLE_H
#define TESTS_PLAN_SAMPLE_H
/*
 * A small program with every kind of step, on an image of 2x4x4 (t0):
 *
 *   0 conv  3x3 -> t1 4x4x4   1 relu -> t2      2 conv 3x3 -> t3, not truncated
 *   3 slice of t2, every second row and column -> t4 4x2x2
 *   4 pad -> t5 4x4x4         5 add t3 + t5 -> t6   6 max_pool 2x2 -> t7 4x2x2
 *   7 sum_pool 2x2 -> t8 4x1x1   8 flatten -> t9 4   9 gemm -> t10 3
 */
#include "runtime/plan/plan.h"

enum { CONV, RELU, CONV2, SLICE, PAD, ADD, MAXPOOL, SUMPOOL, FLATTEN, GEMM, STEPS, TENSORS };

void plan_sample_tensor(struct plan *p, int32_t id, int32_t rank, int64_t c, int64_t h, int64_t w,
                        int32_t scale, int32_t max_log2);
/* The removed positions of the ReLU become x / 2 + b, or lines with public slopes. Before the weights. */
void plan_sample_lines(struct plan *p, bool slopes);
/* The kept positions of the ReLU become min(max(x, 0), cap / 2^12). */
void plan_sample_cap(struct plan *p, int64_t cap);
/* kept: ReLUs of 64, evenly spread. */
struct plan *plan_sample(int kept);
struct plan_weights *plan_sample_weights(const struct plan *p, uint64_t seed);
#endif
