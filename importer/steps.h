#ifndef IMPORTER_STEPS_H
#define IMPORTER_STEPS_H
/* What happens to a file before its nodes are walked over, in this order; importer.c calls it. */
#include "importer/base/import.h"

/* header.c: refuses (E1001 to E1006) what is no ONNX file by its first bytes, or too large. */
int header_sniff(struct import *im, const uint8_t *bytes, size_t len) MUST_CHECK;
/* Versions and size of im->model; sets im->opset and the report's versions. Refusals E1001 to E1012. */
int header_check(struct import *im) MUST_CHECK;
bool header_is_standard(const char *domain); /* of ONNX itself */

/* inline.c: im->file and im->node_opset become the model's graph with all calls of its functions
 * replaced. */
int inline_functions(struct import *im) MUST_CHECK;

/* sort.c: the nodes of im->file in topological order, as far as there is one; a warning if they were not.
 * All names must have been entered. */
int sort_nodes(struct import *im) MUST_CHECK;

/* input.c: the image input v becomes the graph's, and e its entry. */
int input_enter(struct import *im, const Onnx__ValueInfoProto *v, struct entry *e) MUST_CHECK;
#endif
