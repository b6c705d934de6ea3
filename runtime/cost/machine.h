#ifndef RUNTIME_COST_MACHINE_H
#define RUNTIME_COST_MACHINE_H
/*
 * Constants of the cost model for one machine: seconds of one unit of work, wall clock of the client,
 * both parties on that machine. The backends of the registries bring their own with their default
 * values; products and sockets are here.
 *
 * File ("machine.txt"): lines "key = value", '#' begins a comment. name, date, cpu and revision are texts;
 * every other key is a constant: "gc.online_batch", "rlwe.upload", "mac". What a file does not name
 * keeps its built-in value.
 */
#include "runtime/linear/linear.h"
#include "runtime/relu/relu.h"

struct cost_machine {
    char name[64], date[32], cpu[96], revision[32];
    struct relu_seconds relu[RELU_MAX_BACKENDS];              /* in the order of the registry */
    double linear[LINEAR_MAX_BACKENDS][LINEAR_MAX_CONSTANTS]; /* the same */
    double byte;                                              /* moved by sockets */
    double silent_row;   /* of silent OT with its first set; other sets in proportion (ferret.h) */
    double mac;          /* a product in a convolution of shares by weights */
    double window_entry; /* of the matrix of windows that it reads */
    double element;      /* local arithmetic on a tensor element */
};
/* Measured by `linnet-pi bench` on two cores of an AMD EPYC with AVX-512 (Zen 4), November 2026. */
struct cost_machine cost_machine_default(void);
/* The constants of a backend of the registry. */
const struct relu_seconds *cost_machine_relu(const struct cost_machine *m,
                                             const struct relu_backend *r);
const double *cost_machine_linear(const struct cost_machine *m, const struct linear_backend *l);

/* Every constant with its key, in the order of the file. */
typedef void cost_constant_fn(void *ctx, const char *key, double *seconds);
void cost_machine_each(struct cost_machine *m, cost_constant_fn *visit, void *ctx);
/* NULL: no constant of that name. */
double *cost_machine_constant(struct cost_machine *m, const char *key);

/* ERR_FORMAT names the line. */
int cost_machine_read(const char *path, struct cost_machine *out) MUST_CHECK;
int cost_machine_write(struct cost_machine *m, const char *path) MUST_CHECK;
/* machine.txt of the user ($XDG_CONFIG_HOME/linnet, ~/.config/linnet), else built in. */
int cost_machine_find(struct cost_machine *out) MUST_CHECK;
#endif
