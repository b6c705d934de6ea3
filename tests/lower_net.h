#ifndef TESTS_LOWER_NET_H
#define TESTS_LOWER_NET_H
/*
 * A small network, images and its plan: what the tests of exporter/lower share. Everything that fails fails the test.
 */
#include "core/graph/graph.h"
#include "linearizer/linearizer.h"
#include "runtime/model.h"

enum { NET_IMAGES = 12, NET_OUTPUTS = 64 /* most of a network */ };

/* Two residual blocks, the second with a projection; text of onnx_make.h. */
extern const char net_residual[];
struct graph *net_import(const char *text);
/* net_residual with masks, of every third position (kind 1) or empty (0); and with lines at the removed positions. */
struct graph *net_masked(int kind);
struct graph *net_lined(enum removed_kind removed, bool keeps);

/* A case: a graph, images, its plan. */
struct net {
    struct graph *g;
    float *pixels; /* of NET_IMAGES images, random */
    struct plan *p;
    struct plan_weights *w;
    int64_t k; /* outputs */
};
extern const uint8_t net_salt[PLAN_SALT];

/* Lowers g, which the case takes over. */
void net_lower(struct net *t, struct graph *g);
void net_release(struct net *t);
/* The images through the executor, of g, and through the plan: y [NET_IMAGES][k]. */
void net_exec(const struct net *t, struct graph *g, float *y);
void net_pi(const struct net *t, enum pi_mode mode, float *y);
/* tol: of the largest of a. */
void net_assert_close(const char *what, const float *a, const float *b, int64_t n, double tol);
/* The plan in Z_2^64 gives the integers of the naive interpreter (plan_naive.h). */
void net_assert_exact(const struct net *t);
#endif
