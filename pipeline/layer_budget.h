#ifndef PIPELINE_LAYER_BUDGET_H
#define PIPELINE_LAYER_BUDGET_H
/*
 * --layer-budgets FILE: how many ReLUs single layers keep. JSON, one of
 *
 *     [634, 2051, ...]                          a list with one value a ReLU layer, in node order
 *     {"/layer1/relu": 3000, "/relu": "5%"}     layers by the name of their ReLU node; the others
 *                                               share what --relus leaves, by sensitivity
 *
 * A whole number is a count, a number with a decimal point from 0.0 to 1.0 a share of the layer, a
 * text "P%" the same in per cent; shares are rounded down.
 */
#include "linearizer/linearizer.h"

/* pinned [n] := ReLUs of a layer, -1 where the file does not say. ERR_ARG names file and entry. */
int layer_budget_read(const char *path, const struct graph *g, int32_t n,
                      const struct relu_site *site, int64_t *pinned) MUST_CHECK;
#endif
