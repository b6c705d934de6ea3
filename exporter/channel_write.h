#ifndef EXPORTER_CHANNEL_WRITE_H
#define EXPORTER_CHANNEL_WRITE_H
/* The channel form of a masked ReLU; channel_write.c shows it. */
#include "exporter/onnx_write.h"

/* Puts the channels that a mask keeps in front, where the layers before and after it can take the
 * new order into their weights. The function of g stays the same. */
int channel_sort(struct graph *g) MUST_CHECK;
/* The layer is written by channel_write, as two. */
bool channel_is_split(const struct graph *g, const struct node *layer);
/* Like mask_write; the mask is constant over each channel. */
void channel_write(struct onnx_writer *w, const struct graph *g, const struct node *site);
#endif
