#ifndef CORE_OP_CONV_BF16_H
#define CORE_OP_CONV_BF16_H
/* Conv on bf16 storage (conv_bf16.c). */
#include "core/op/image.h"

extern const struct op_hooks conv_bf16_hooks;
/* Is this node within the limits of core/kernel/bf16_conv.h? The others are done in fp32. */
bool conv_bf16_fits(const struct graph *g, const struct node *node);
#endif
