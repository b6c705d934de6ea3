/*
 * Which branch, which teacher, which images: what a training that goes wrong in one of them still learns.
 *
 * One step of the trades loss through the second of two branches that differ, attention transfer from a
 * teacher of two branches, the images of averaged statistics, extra images from batch to batch, the rest
 * of an epoch. Reference: the same passes by hand on an executor of this file.
 */
#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/exec/exec.h"
#include "core/op/op.h"
#include "tests/tiny_net.h"
#include "trainer/loss.h"
#include "trainer/train/attention.h"
#include "trainer/train/batch.h"
#include "trainer/train/trainer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        if ((call) < 0)                                                                            \
            fail_msg("%s", err_message());                                                         \
    } while (0)

enum { N = 8, HALF = 4, K = TINY_CLASSES, ELEMS = TINY_ELEMS };
#define SEED 5
#define RATE 0.1f
#define DUAL (TINY_BN | TINY_DUAL)

/* Two branches that differ: they are made as copies. */
static struct graph *two_branches(uint64_t seed)
{
    struct graph *g = tiny_net(DUAL, seed);

    for (int64_t i = 0; i < g->n_params; i++)
        g->params[i] *= 1 + 0.1f * (float)(i % 7);
    for (int64_t i = 0; i < g->n_buffers; i++)
        g->buffers[i] *= 1 + 0.1f * (float)(i % 5);
    graph_touch(g);
    return g;
}

/* One step on N images as they are, half of them adversarial. */
static struct train_config one_step(void)
{
    struct train_config c = train_defaults();

    c.stage = "mask";
    c.seed = SEED;
    c.epochs = 1;
    c.batch = N;
    c.schedule = OPTIM_CONSTANT;
    c.lr = (double)RATE;
    c.momentum = c.weight_decay = 0;
    c.crop = false;
    c.adversarial = true;
    c.attack = pgd_defaults(0);
    c.attack.random_start = false;
    c.val_every = 0;
    c.select = TRAIN_SELECT_LAST;
    return c;
}

static void train(const struct train_config *c, struct graph *student, struct graph *teacher,
                  const struct dataset *d)
{
    struct trainer *t = NULL;

    assert_ok(trainer_new(c, student, teacher, d, NULL, NULL, &t));
    assert_ok(trainer_run(t, NULL));
    trainer_free(t);
}

/* The images of the first epoch in its order. */
struct images {
    float x[N * ELEMS];
    int32_t label[N];
    int64_t sample[N];
};

static void draw(const struct dataset *d, struct images *im)
{
    struct rng r = rng_at(SEED, RNG_SHUFFLE, 0, 0);
    uint32_t order[N];

    rng_permutation(&r, order, N);
    for (int i = 0; i < N; i++) {
        im->sample[i] = order[i];
        im->label[i] = d->labels[order[i]];
        assert_int_equal(data_image(d, order[i], im->x + i * ELEMS), 0);
    }
}

static void descend(struct graph *g, const float *grad)
{
    for (int64_t i = 0; i < g->n_params; i++)
        g->params[i] -= RATE * grad[i];
    graph_touch(g);
}

static void expect_equal(const struct graph *got, const struct graph *want, double most)
{
    for (int64_t i = 0; i < want->n_params; i++)
        if (!(fabs((double)got->params[i] - (double)want->params[i]) <= most))
            fail_msg("weight %lld: %.9g, not %.9g", (long long)i, (double)got->params[i],
                     (double)want->params[i]);
    for (int64_t i = 0; i < want->n_buffers; i++)
        if (!(fabs((double)got->buffers[i] - (double)want->buffers[i]) <= most))
            fail_msg("statistic %lld: %.9g, not %.9g", (long long)i, (double)got->buffers[i],
                     (double)want->buffers[i]);
}

/* ---- trades ---------------------------------------------------------------------------------- */

/* d/dz of the divergence of softmax(z) from the target's. */
static void divergence(void *ctx, int64_t first, int64_t count, const float *z, float *dz)
{
    const float *target = ctx;

    memset(dz, 0, (size_t)(count * K) * sizeof *dz);
    loss_kl(z, target + first * K, count, K, 1, 1, 1, dz);
}

/* Two steps that maximise the divergence from the branch's own logits, in evaluation mode. */
static void attack(struct graph *g, const struct images *im, const struct pgd_params *p, float *adv)
{
    const float *x = im->x + HALF * ELEMS, eps = (float)p->eps, step = (float)p->alpha;
    float own[HALF * K], grad[HALF * ELEMS];
    struct exec *e;

    assert_ok(exec_new(g, EXEC_INPUT_GRAD, HALF, NULL, &e));
    assert_ok(exec_input_grad(e, x, HALF, 1, NULL, NULL, NULL, own));
    for (int i = 0; i < HALF; i++) {
        struct rng r = rng_at(SEED, RNG_PGD, 0, (uint64_t)im->sample[HALF + i]);
        for (int j = i * ELEMS; j < (i + 1) * ELEMS; j++)
            adv[j] = fminf(1, fmaxf(0, x[j] + rng_range(&r, -eps, eps)));
    }
    for (int t = 0; t < p->steps; t++) {
        assert_ok(exec_input_grad(e, adv, HALF, 1, divergence, own, grad, NULL));
        for (int j = 0; j < HALF * ELEMS; j++) {
            const float v = adv[j] + (grad[j] > 0 ? step : grad[j] < 0 ? -step : 0);
            adv[j] = fminf(1, fmaxf(0, fminf(x[j] + eps, fmaxf(x[j] - eps, v))));
        }
    }
    exec_free(e);
}

/* Attack and both passes go through branch 1; its statistics see each image once as it is and once
 * attacked. */
static void test_trades_keeps_to_its_branch(void **state)
{
    struct graph *student = two_branches(1), *g = two_branches(1);
    struct dataset *d = tiny_data(N, 3);
    struct train_config c = one_step();
    struct images im;
    float adv[HALF * ELEMS], z[HALF * K], zn[HALF * K];
    float dzc[HALF * K] = {0}, dz[HALF * K] = {0}, dzn[HALF * K] = {0};
    float *grad = mem_aligned((size_t)g->n_params, sizeof *grad);
    struct exec *e;

    (void)state;
    c.attack = pgd_defaults(2);
    c.gamma = 0.5;
    c.trades = 3;
    c.adversarial_share = 0.75;
    draw(d, &im);
    assert_ok(exec_new(g, EXEC_TRAIN, HALF, NULL, &e));
    assert_ok(exec_train_forward(e, im.x, HALF, 0, true, z));
    loss_ce(z, im.label, HALF, K, HALF, 0.25 * 0.5, dzc);
    assert_ok(exec_train_backward(e, dzc, grad, NULL, NULL));
    attack(g, &im, &c.attack, adv);
    assert_ok(exec_train_forward(e, im.x + HALF * ELEMS, HALF, 1, false, zn));
    assert_ok(exec_train_forward(e, adv, HALF, 1, true, z));
    loss_kl_both(z, zn, HALF, K, 1, HALF, 0.75 * 3, dz, dzn);
    loss_ce(zn, im.label + HALF, HALF, K, HALF, 0.75 * 0.5, dzn);
    assert_ok(exec_train_backward(e, dz, grad, NULL, NULL));
    assert_ok(exec_train_forward(e, im.x + HALF * ELEMS, HALF, 1, true, zn));
    assert_ok(exec_train_backward(e, dzn, grad, NULL, NULL));
    descend(g, grad);
    train(&c, student, NULL, d);
    expect_equal(student, g, 2e-6);
    exec_free(e);
    mem_free(grad);
    graph_free(student);
    graph_free(g);
    tiny_free(d);
}

/* ---- attention transfer ---------------------------------------------------------------------- */

/* KL to the teacher's logits and attention to its maps; `weight` of each. Targets are those of branch 0,
 * maps those of the domain's own branch. */
static void add_pass(struct exec *e, struct exec *teacher, const float *x, int branch,
                     const value_id maps[2], const struct shape *s, float *grad)
{
    double *work = mem_array(attention_work(HALF, s->dim[2] * s->dim[3]), sizeof *work);
    float target[HALF * K], z[HALF * K], dz[HALF * K] = {0};
    double each[HALF];

    assert_ok(exec_infer(teacher, x, HALF, 0, target));
    if (branch > 0)
        assert_ok(exec_infer(teacher, x, HALF, branch, NULL));
    assert_ok(exec_train_forward(e, x, HALF, branch, true, z));
    loss_kl(z, target, HALF, K, 4, HALF, 0.5, dz);
    const struct attention_maps m = {.student = exec_tap(e, maps[0]),
                                     .teacher = exec_tap(teacher, maps[1]),
                                     .grad = exec_tap_grad(e, maps[0]),
                                     .n = HALF,
                                     .positions = s->dim[2] * s->dim[3],
                                     .channels = s->dim[1],
                                     .of = HALF};
    attention_loss(&m, 500, work, each);
    assert_ok(exec_train_backward(e, dz, grad, NULL, NULL));
    mem_free(work);
}

static void test_attention_looks_into_the_branch_of_its_images(void **state)
{
    struct graph *student = two_branches(1), *g = two_branches(1), *teacher = two_branches(2);
    struct dataset *d = tiny_data(N, 3);
    struct train_config c = one_step();
    value_id mine[ATTENTION_MAX_GROUPS], its[ATTENTION_MAX_GROUPS];
    struct images im;
    float *grad = mem_aligned((size_t)g->n_params, sizeof *grad);
    struct exec *e, *t;

    (void)state;
    c.gamma = 0;
    c.alpha = 1;
    c.beta = 1000;
    c.at_domains = 3;
    c.n_at = attention_groups(student, mine);
    assert_int_equal(c.n_at, attention_groups(teacher, its));
    assert_int_equal(c.n_at, 1);
    c.at_student = mine;
    c.at_teacher = its;
    draw(d, &im);
    assert_ok(exec_new(g, EXEC_TRAIN, HALF, &(struct exec_opts){.taps = mine, .n_taps = 1}, &e));
    assert_ok(
        exec_new(teacher, EXEC_INFER, HALF, &(struct exec_opts){.taps = its, .n_taps = 1}, &t));
    for (int branch = 0; branch < 2; branch++)
        add_pass(e, t, im.x + branch * HALF * ELEMS, branch, (const value_id[]){mine[0], its[0]},
                 &g->value[mine[0]].shape, grad);
    descend(g, grad);
    train(&c, student, teacher, d);
    expect_equal(student, g, 2e-6);
    exec_free(e);
    exec_free(t);
    mem_free(grad);
    graph_free(student);
    graph_free(g);
    graph_free(teacher);
    tiny_free(d);
}

/* ---- averaged weights ------------------------------------------------------------------------ */

/* Statistics of the averaged weights are the plain mean over what each branch sees: clean and augmented
 * images in the first, adversarial ones in the second. */
static void test_averaged_statistics_see_every_pass(void **state)
{
    struct graph *student = two_branches(1), *g = two_branches(1);
    struct dataset *d = tiny_data(N, 3);
    struct train_config c = one_step();
    struct batch b;
    uint32_t order[N];
    struct exec *e;

    (void)state;
    c.augment = TRAIN_AUGMENT_AUGMIX;
    c.ema = 1;
    train(&c, student, NULL, d);
    batch_order(&c, d, 0, order);
    assert_ok(batch_init(&b, &c, d));
    assert_ok(batch_load(&b, &c, d, NULL, order, 0, 0));
    memcpy(g->params, student->params, (size_t)g->n_params * sizeof *g->params);
    graph_touch(g);
    assert_ok(exec_new(g, EXEC_TRAIN, HALF, NULL, &e));
    const float *const pass[3] = {b.pixels, b.augmented, b.pixels + HALF * ELEMS};
    const float momentum[3] = {0, 0.5f, 0};
    for (int p = 0; p < 3; p++) {
        for (int32_t i = 0; i < g->n_node; i++)
            if (g->node[i].op == &op_batchnorm)
                g->node[i].p.batchnorm.momentum = momentum[p];
        assert_ok(exec_train_forward(e, pass[p], HALF, p == 2, true, NULL));
    }
    expect_equal(student, g, 1e-5);
    exec_free(e);
    batch_release(&b);
    graph_free(student);
    graph_free(g);
    tiny_free(d);
}

/* ---- images of an epoch ---------------------------------------------------------------------- */

/* 40 draws of 30 give 22 different ones on average; a batch has 4. */
static void test_extra_images_change_from_batch_to_batch(void **state)
{
    struct dataset *d = tiny_data(120, 1), *extra = tiny_data(30, 2);
    struct train_config c = one_step();
    int seen[30] = {0}, different = 0;
    uint32_t order[120];
    struct batch b;

    (void)state;
    c.batch = 16;
    c.extra = extra;
    c.extra_share = 0.25;
    batch_order(&c, d, 0, order);
    assert_ok(batch_init(&b, &c, d));
    for (int i = 0; i < 10; i++) {
        assert_ok(batch_load(&b, &c, d, NULL, order, 0, i));
        for (int k = 0; k < 16; k++)
            if (b.sample[k] >= 120)
                different += seen[b.sample[k] - 120]++ == 0;
    }
    assert_in_range(different, 15, 30);
    batch_release(&b);
    tiny_free(d);
    tiny_free(extra);
}

/* A rest of 8 images is a batch, fewer are left out, unless there is no other. */
static void test_the_rest_of_an_epoch(void **state)
{
    struct train_config c = one_step();

    (void)state;
    c.batch = 16;
    assert_int_equal(batch_per_epoch(&c, 96), 6);
    assert_int_equal(batch_per_epoch(&c, 103), 6);
    assert_int_equal(batch_per_epoch(&c, 104), 7);
    assert_int_equal(batch_per_epoch(&c, 1), 1);
    assert_int_equal(batch_per_epoch(&c, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trades_keeps_to_its_branch),
        cmocka_unit_test(test_attention_looks_into_the_branch_of_its_images),
        cmocka_unit_test(test_averaged_statistics_see_every_pass),
        cmocka_unit_test(test_extra_images_change_from_batch_to_batch),
        cmocka_unit_test(test_the_rest_of_an_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
