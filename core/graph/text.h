#ifndef CORE_GRAPH_TEXT_H
#define CORE_GRAPH_TEXT_H
/*
 * A graph as text, for people and for diff: what is the same function in the same form is the same text.
 *
 *     input x [N,3,32,32]
 *     conv1: a = Conv(x, conv1.w [16,3,3,3], conv1.b [16]) strides=1,1 pads=1,1,1,1 ... -> [N,16,32,32]
 *     relu1: b = MaskedRelu(a, kept 64 of 16384) soft=0 -> [N,16,32,32]
 *     output y [N,10]
 *
 * A line a node in the order of the graph; weights by name and shape, not by their numbers; every
 * attribute. "frozen" marks preprocessing that came with the file.
 */
#include "core/base/buf.h"
#include "core/graph/graph.h"

/* Appends the text; buf_status(w) tells whether all of it is there. */
void graph_text(const struct graph *g, struct buf_writer *w);
#endif
