#ifndef CORE_GRAPH_NAMESET_H
#define CORE_GRAPH_NAMESET_H
/* A set of strings that stay owned by the caller: which names of a graph are taken. */
#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

struct nameset { /* {0} is the empty set; nameset_release frees */
    const char **slot;
    uint32_t cap, used, live; /* cap: power of two or 0; used counts tombstones too */
};
void nameset_release(struct nameset *s);
bool nameset_has(const struct nameset *s, const char *name);
/* The string must outlive the set or be removed before it dies. */
int nameset_add(struct nameset *s, const char *name) MUST_CHECK;
void nameset_remove(struct nameset *s, const char *name);
#endif
