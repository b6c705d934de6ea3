#ifndef CORE_EXEC_PROFILE_H
#define CORE_EXEC_PROFILE_H
/*
 * Where the time of a network goes, layer by layer. The executor runs the BN, Add and ReLU after a
 * convolution together with it, so a row stands for those nodes too.
 *
 *     struct profile p = {0};
 *     TRY(profile_begin(&p, g));
 *     profile_add(&p, e, images);        // once for each executor of g, before it is freed
 *     profile_print(stdout, &p, 1000);   // milliseconds per 1,000 images
 *     profile_end(&p);
 */
#include <stdio.h>

#include "core/exec/exec.h"

struct profile {
    const struct graph *g;
    int64_t images;            /* that went through the executors */
    struct exec_profile *node; /* [g->n_node] thread seconds */
};
/* g is borrowed. ERR_NOMEM. */
int profile_begin(struct profile *p, const struct graph *g) MUST_CHECK;
void profile_end(struct profile *p);
/* Adds what e has measured since exec_new or the last call, for `images` images. */
void profile_add(struct profile *p, const struct exec *e, int64_t images);
/* Thread seconds of all nodes, in all directions. */
double profile_seconds(const struct profile *p);
/* Floating point operations of a node for one image in one direction: twice the products of a
 * convolution, counted as direct whatever the algorithm; 0 for other nodes. */
double profile_flops(const struct graph *g, const struct node *x);
/* A row for each node that took time: thread milliseconds per `per` images, share of all, and
 * GFLOP/s of one thread, forward, to the input and to the parameters, as far as they ran. */
void profile_print(FILE *out, const struct profile *p, int64_t per);
#endif
