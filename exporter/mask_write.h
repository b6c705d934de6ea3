#ifndef EXPORTER_MASK_WRITE_H
#define EXPORTER_MASK_WRITE_H
/* A masked ReLU in standard operators; the forms are shown in mask_write.c. */
#include "exporter/options.h"
#include "exporter/onnx_write.h"

/* Writes the nodes and tensors of one hard MaskedRelu, of which some positions are kept and some
 * are not. Its input has been written before; its output keeps its name. */
void mask_write(struct onnx_writer *w, const struct graph *g, const struct node *site,
                enum mask_form form);
/* ERR_ARG if the form cannot say the masks of g: MASK_CHANNEL has whole channels only, and lines are
 * written in MASK_WHERE alone. */
int mask_check_form(const struct graph *g, enum mask_form form) MUST_CHECK;
#endif
