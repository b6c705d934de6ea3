/*
 * Nodes in topological order. ONNX demands it, some tools write another one: each node goes after those
 * whose results it reads, and otherwise the file's order stays.
 *
 * Depth first from each node in the file's order, with a stack of its own. What lies on a circle, and what
 * follows from it, keeps its place; the check of inputs that comes next names it.
 */
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/steps.h"

enum mark { NEW, OPEN, DONE };
struct frame {
    int32_t node;
    size_t next; /* input to look at */
};

/* The node that makes input i of node k, -1 if none does. */
static int32_t maker(const struct import *im, int32_t k, size_t i)
{
    const struct entry *e = names_find(im, im->file->node[k]->input[i]);

    return e != NULL ? e->producer : -1;
}

static bool is_sorted(const struct import *im)
{
    for (size_t k = 0; k < im->file->n_node; k++)
        for (size_t i = 0; i < im->file->node[k]->n_input; i++)
            if (maker(im, (int32_t)k, i) >= (int32_t)k)
                return false;
    return true;
}

/* Appends `root`, after all that it needs, to order[*n]. */
static void visit(const struct import *im, int32_t root, uint8_t *mark, struct frame *stack,
                  int32_t *order, int32_t *n)
{
    int32_t depth = 0;

    stack[0] = (struct frame){root, 0};
    mark[root] = OPEN;
    while (depth >= 0) {
        struct frame *f = &stack[depth];

        if (f->next == im->file->node[f->node]->n_input) {
            mark[f->node] = DONE;
            order[(*n)++] = f->node;
            depth--;
            continue;
        }
        const int32_t from = maker(im, f->node, f->next++);
        if (from < 0 || mark[from] != NEW)
            continue;
        mark[from] = OPEN;
        stack[++depth] = (struct frame){from, 0};
    }
}

/* Nodes, their opsets and the producers of entries are put into the order. */
static int apply(struct import *im, const int32_t *order)
{
    const size_t n = im->file->n_node;
    Onnx__GraphProto *sorted = arena_array(im->arena, 1, sizeof *sorted);
    Onnx__NodeProto **node = arena_array(im->arena, n, sizeof(void *));
    int64_t *opset = arena_array(im->arena, n, sizeof *opset);
    int32_t *place = arena_array(im->arena, n, sizeof *place);

    TRY(arena_status(im->arena));
    for (size_t k = 0; k < n; k++) {
        node[k] = im->file->node[order[k]];
        opset[k] = im->node_opset != NULL ? im->node_opset[order[k]] : im->opset;
        place[order[k]] = (int32_t)k;
    }
    for (int32_t e = 0; e < im->n_entry; e++)
        if (im->entry[e].producer >= 0)
            im->entry[e].producer = place[im->entry[e].producer];
    *sorted = *im->file;
    sorted->node = node;
    im->file = sorted;
    im->node_opset = opset;
    return 0;
}

int sort_nodes(struct import *im)
{
    const size_t n = im->file->n_node;
    int32_t *order, count = 0;
    struct frame *stack;
    uint8_t *mark;

    if (is_sorted(im))
        return 0;
    order = arena_array(im->arena, n, sizeof *order);
    stack = arena_array(im->arena, n, sizeof *stack);
    mark = arena_array(im->arena, n, sizeof *mark);
    TRY(arena_status(im->arena));
    for (size_t k = 0; k < n; k++)
        if (mark[k] == NEW)
            visit(im, (int32_t)k, mark, stack, order, &count);
    TRY(apply(im, order));
    return is_sorted(im)
               ? report_warning(im, "the nodes were not in topological order; they were sorted")
               : 0;
}
