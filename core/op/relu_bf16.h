#ifndef CORE_OP_RELU_BF16_H
#define CORE_OP_RELU_BF16_H
/* Relu and MaskedRelu on bf16 storage (relu_bf16.c). */
#include "core/op/image.h"

extern const struct op_hooks relu_bf16_hooks, masked_relu_bf16_hooks;
/* Hard masks of ReLUs without lines; the others are done in fp32. */
bool masked_relu_bf16_fits(const struct graph *g, const struct node *node);
#endif
