/*
 * A whole ResNet-8 with both BN branches against the double-precision reference: every
 * gradient, training and evaluation mode; plain, with hard masks and with soft masks. Then ten
 * steps of SGD against a loss curve that another framework computed (vec/resnet8_sgd.py).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/graph/arch.h"
#include "core/op/op.h"
#include "core/graph/pass.h"
#include "tests/ref_check.h"

#include <cmocka.h> /* last: it defines fail() */

#include "tests/vec/resnet8_sgd.inc"

/* ---- gradients ----------------------------------------------------------------------------- */

/* Moves everything that starts as 0 or 1 away from there, so that the branches differ. */
static void randomise(struct graph *g)
{
    for (value_id v = 0; v < g->n_value; v++) {
        struct value *x = &g->value[v];
        if (x->shape.rank == 1 && x->kind == VALUE_PARAM)
            ref_random(x->data, shape_elems(&x->shape), 0.4, 1.2, 100 + (uint64_t)v);
        if (x->kind == VALUE_BUFFER)
            ref_random(x->data, shape_elems(&x->shape), 0.3, 1.5, 100 + (uint64_t)v);
    }
    graph_touch(g);
}

static struct graph *make_resnet8(int64_t side)
{
    struct graph *g;

    assert_int_equal(arch_build("resnet8", 10, side, side, 3, &g), 0);
    assert_true(pass_dual_branch(g) > 0);
    assert_int_equal(graph_branches(g), 2);
    g->norm = (struct input_norm){3, {.4914F, .4822F, .4465F}, {.2023F, .1994F, .2010F}};
    randomise(g);
    return g;
}

static void mask_relu(struct graph *g, int32_t i, bool soft)
{
    struct shape s = g->value[g->node[i].in[0]].shape;
    struct shape chw = shape_make(3, s.dim[1], s.dim[2], s.dim[3]);
    value_id m;

    assert_int_equal(graph_add_value(g, "mask", VALUE_MASK, &chw, NULL, &m), 0);
    int64_t n = shape_elems(&chw);
    float *mask = g->value[m].data;
    ref_random(mask, n, 0, 1, 500 + (uint64_t)i);
    for (int64_t k = 0; k < n && !soft; k++)
        mask[k] = mask[k] > 0.6F;
    g->node[i].op = &op_masked_relu;
    g->node[i].in[1] = m;
    g->node[i].n_in = 2;
    g->node[i].p.masked_relu.soft = soft;
}

static struct graph *make_masked(int64_t side, bool soft)
{
    struct graph *g = make_resnet8(side);

    for (int32_t i = 0; i < g->n_node; i++) {
        if (g->node[i].op == &op_relu)
            mask_relu(g, i, soft);
    }
    graph_touch(g);
    return g;
}

static void check_branches(struct graph *g, int64_t n)
{
    for (int branch = 0; branch < 2; branch++)
        print_message("    branch %d: worst relative error %.2g\n", branch,
                      ref_check(g, n, branch, 9));
    graph_free(g);
}

static void test_plain_network(void **state)
{
    (void)state;
    check_branches(make_resnet8(12), 3);
}

static void test_network_with_hard_masks(void **state)
{
    (void)state;
    check_branches(make_masked(8, false), 7);
}

static void test_network_with_soft_masks(void **state)
{
    (void)state;
    check_branches(make_masked(8, true), 3);
}

/* ---- ten steps of SGD ---------------------------------------------------------------------- */

static void set_by_formula(struct value *v)
{
    int64_t n = shape_elems(&v->shape);
    double scale = 0.1, base = 0;

    if (v->shape.rank == 4)
        scale = sqrt(6.0 / (double)(v->shape.dim[0] * v->shape.dim[2] * v->shape.dim[3]));
    if (v->shape.rank == 1 && strstr(v->name, "weight") != NULL)
        base = 1;
    for (int64_t i = 0; i < n; i++)
        v->data[i] = (float)(base + scale * ref_formula(v->name, i));
}

static struct graph *make_formula_resnet8(void)
{
    struct graph *g;

    assert_int_equal(arch_build("resnet8", SGD_CLASSES, SGD_SIDE, SGD_SIDE, 0, &g), 0);
    for (value_id v = 0; v < g->n_value; v++) {
        if (g->value[v].kind == VALUE_PARAM)
            set_by_formula(&g->value[v]);
    }
    g->norm = (struct input_norm){3, {.4914F, .4822F, .4465F}, {.2023F, .1994F, .2010F}};
    graph_touch(g);
    return g;
}

static int label(int64_t i)
{
    return (int)(i * 7 % SGD_CLASSES);
}

/* Mean cross-entropy of the batch and its gradient. */
static double cross_entropy(const float *logits, float *dlogits)
{
    double loss = 0;

    for (int64_t i = 0; i < SGD_BATCH; i++) {
        const float *z = logits + i * SGD_CLASSES;
        double sum = 0;
        for (int k = 0; k < SGD_CLASSES; k++)
            sum += exp((double)z[k]);
        for (int k = 0; k < SGD_CLASSES; k++)
            dlogits[i * SGD_CLASSES + k] =
                (float)((exp((double)z[k]) / sum - (k == label(i) ? 1 : 0)) / SGD_BATCH);
        loss += (log(sum) - (double)z[label(i)]) / SGD_BATCH;
    }
    return loss;
}

static void sgd_step(struct graph *g, const float *gradient, float *momentum)
{
    for (int64_t i = 0; i < g->n_params; i++) {
        momentum[i] = 0.9F * momentum[i] + (gradient[i] + 5e-4F * g->params[i]);
        g->params[i] -= (float)SGD_RATE * momentum[i];
    }
    graph_touch(g);
}

static double norm_of(const struct graph *g, const char *name)
{
    value_id v = graph_find_value(g, name);
    double sum = 0;

    if (v == NO_VALUE)
        fail_msg("no value '%s'", name);
    for (int64_t i = 0; i < shape_elems(&g->value[v].shape); i++)
        sum += pow((double)g->value[v].data[i], 2);
    return sqrt(sum);
}

static void near(const char *what, double have, double want)
{
    if (!(fabs(have - want) <= 1e-4 * fabs(want)))
        fail_msg("%s: %.9g, the other framework has %.9g", what, have, want);
}

static void check_after_training(struct graph *g, const float *pixels)
{
    float logits[SGD_BATCH * SGD_CLASSES];
    struct exec *e;
    double size = 0;

    for (size_t i = 0; i < sizeof sgd_norm / sizeof *sgd_norm; i++)
        near(sgd_norm[i].name, norm_of(g, sgd_norm[i].name), sgd_norm[i].norm);
    assert_int_equal(exec_new(g, EXEC_INFER, SGD_BATCH, NULL, &e), 0);
    assert_int_equal(exec_infer(e, pixels, SGD_BATCH, 0, logits), 0);
    exec_free(e);
    for (int i = 0; i < SGD_BATCH * SGD_CLASSES; i++)
        size += pow((double)logits[i], 2);
    near("norm of the logits in evaluation mode", sqrt(size), sgd_logits_norm);
}

static void test_sgd_loss_curve(void **state)
{
    struct graph *g = make_formula_resnet8();
    static float pixels[SGD_BATCH * 3 * SGD_SIDE * SGD_SIDE];
    float logits[SGD_BATCH * SGD_CLASSES], dlogits[SGD_BATCH * SGD_CLASSES];
    float *gradient = calloc((size_t)g->n_params, sizeof *gradient);
    float *momentum = calloc((size_t)g->n_params, sizeof *momentum);
    double worst = 0;
    struct exec *e;

    (void)state;
    assert_true(gradient != NULL && momentum != NULL);
    assert_int_equal(exec_new(g, EXEC_TRAIN, SGD_BATCH, NULL, &e), 0);
    for (int step = 0; step < SGD_STEPS; step++) {
        char name[32];
        snprintf(name, sizeof name, "images %d", step % 2);
        for (int64_t i = 0; i < (int64_t)(sizeof pixels / sizeof *pixels); i++)
            pixels[i] = (float)(0.5 + 0.5 * ref_formula(name, i));
        assert_int_equal(exec_train_forward(e, pixels, SGD_BATCH, 0, true, logits), 0);
        double loss = cross_entropy(logits, dlogits);
        worst = fmax(worst, fabs(loss - sgd_loss[step]) / sgd_loss[step]);
        near("loss", loss, sgd_loss[step]);
        memset(gradient, 0, (size_t)g->n_params * sizeof *gradient);
        assert_int_equal(exec_train_backward(e, dlogits, gradient, NULL, NULL), 0);
        sgd_step(g, gradient, momentum);
    }
    print_message("    worst relative error of the loss %.2g\n", worst);
    exec_free(e);
    check_after_training(g, pixels);
    free(gradient);
    free(momentum);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_network),
        cmocka_unit_test(test_network_with_hard_masks),
        cmocka_unit_test(test_network_with_soft_masks),
        cmocka_unit_test(test_sgd_loss_curve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
