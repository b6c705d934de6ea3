/*
 * Training on a tiny network: the loss falls, one step equals the written-out formula, learned masks end at their
 * budget. What interrupts a run, and what is refused: test_train_resume.c.
 */
#include "trainer/train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/op/op.h"
#include "tests/train_job.h"
#include "trainer/train/attention.h"
#include "trainer/eval/eval.h"
#include "trainer/loss.h"
#include "trainer/train/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))
#define assert_ok(call)                                                                            \
    do {                                                                                           \
        if ((call) < 0) {                                                                          \
            print_error("%s\n", err_message());                                                    \
            assert_true(0);                                                                        \
        }                                                                                          \
    } while (0)

/* ---- it learns ------------------------------------------------------------------------------- */

static double accuracy(struct graph *g, const struct dataset *d, int branch)
{
    const struct eval_options opt = {.branch = {branch == 0, branch == 1}};
    struct eval_result *r = mem_array(1, sizeof *r);

    assert_ok(eval_run(g, d, &opt, r));
    const double a = r->branch[0].clean.accuracy;
    mem_free(r);
    return a;
}

static void test_clean_training_learns(void **state)
{
    struct train_result result;
    struct train_job j;

    (void)state;
    train_job_init(&j, TINY_BN);
    j.cfg.augment = TRAIN_AUGMENT_NONE;
    j.cfg.adversarial = false;
    j.cfg.gamma = 1;
    j.cfg.alpha = 0;
    j.cfg.epochs = 8;
    j.cfg.select = TRAIN_SELECT_LAST;
    assert_ok(train_job_run(&j, &result));
    assert_int_equal(result.steps, 8 * 6); /* a rest of 4 of 100 images is left out */
    assert_true(result.loss < 0.5 * j.first_loss);
    assert_true(result.val.clean >= 0.95);
    assert_near(result.val.clean, accuracy(j.student, j.val, 0), 0);
    assert_int_equal(j.batches, result.steps);
    assert_int_equal(j.epoch_ends, 8);
    assert_non_null(strstr(j.line, "\"epoch\":8,"));
    train_job_release(&j);
}

static void test_three_domains_learn_in_both_branches(void **state)
{
    struct train_result result;
    struct train_job j;

    (void)state;
    train_job_init(&j, TINY_BN | TINY_DUAL);
    j.cfg.gamma = 1;
    j.cfg.alpha = 0;
    j.cfg.epochs = 12;
    j.cfg.attack.eps = 2.0 / 255;
    assert_ok(train_job_run(&j, &result));
    assert_true(result.loss < 0.5 * j.first_loss);
    assert_true(accuracy(j.student, j.val, 0) >= 0.9);
    assert_true(accuracy(j.student, j.val, 1) >= 0.9);
    assert_true(result.val.pgd >= 0 && result.val.clean_adv >= 0);
    train_job_release(&j);
}

/* Corruptions as the augmented domain, in place of AugMix; aligned crops. */
static void test_corrupted_pictures_are_learnt_too(void **state)
{
    struct train_result result;
    struct train_job j;

    (void)state;
    train_job_init(&j, TINY_BN);
    j.cfg.augment = TRAIN_AUGMENT_CORRUPT;
    j.cfg.corruptions = "gaussian_noise,brightness,contrast";
    j.cfg.aligned = true;
    j.cfg.adversarial = false;
    j.cfg.gamma = 1;
    j.cfg.alpha = 0;
    j.cfg.epochs = 8;
    assert_ok(train_job_run(&j, &result));
    assert_true(result.loss < 0.5 * j.first_loss);
    assert_true(accuracy(j.student, j.val, 0) >= 0.95);
    train_job_release(&j);
}

/* ---- one step is the formula ----------------------------------------------------------------- */

/* Without batch norm the branches are equal, and nothing is random with crop off and an attack of
 * no steps from the image itself; so the gradient is that of
 * 1/2 [ gamma CE + alpha KL ](first half) + 1/2 [ the same ](second half). */
static void test_one_step_equals_the_formula(void **state)
{
    const int n = 8, half = 4, k = TINY_CLASSES;
    struct exec *e, *teacher;
    float zt[8 * TINY_CLASSES], z[8 * TINY_CLASSES], dz[8 * TINY_CLASSES] = {0};
    float pixels[8 * TINY_ELEMS];
    int32_t labels[8];
    struct train_job j;

    (void)state;
    train_job_init(&j, 0);
    data_limit(j.train, n);
    j.cfg.batch = n;
    j.cfg.epochs = 1;
    j.cfg.augment = TRAIN_AUGMENT_NONE;
    j.cfg.crop = false;
    j.cfg.attack = pgd_defaults(0);
    j.cfg.attack.random_start = false;
    j.cfg.gamma = 0.3;
    j.cfg.alpha = 0.7;
    j.cfg.momentum = 0;
    j.cfg.weight_decay = 0;
    j.cfg.lr = 0.1;
    j.cfg.select = TRAIN_SELECT_LAST;
    /* the same image everywhere: the order of the epoch does not matter */
    float *all = (void *)(uintptr_t)j.train->floats;
    int32_t *label = (void *)(uintptr_t)j.train->labels;
    for (int i = 0; i < n; i++) {
        memcpy(all + i * TINY_ELEMS, all, sizeof pixels / 8);
        memcpy(pixels + i * TINY_ELEMS, all, sizeof pixels / 8);
        labels[i] = label[i] = label[0];
    }
    struct graph *g = tiny_net(0, 1);
    float *grad = mem_aligned((size_t)g->n_params, sizeof *grad);
    assert_ok(exec_new(g, EXEC_TRAIN, half, NULL, &e));
    assert_ok(exec_new(j.teacher, EXEC_INFER, n, NULL, &teacher));
    assert_ok(exec_infer(teacher, pixels, n, 0, zt));
    for (int part = 0; part < 2; part++) {
        assert_ok(exec_train_forward(e, pixels, half, 0, false, z));
        memset(dz, 0, sizeof dz);
        loss_ce(z, labels, half, k, half, 0.5 * 0.3, dz);
        loss_kl(z, zt, half, k, 4, half, 0.5 * 0.7, dz);
        assert_ok(exec_train_backward(e, dz, grad, NULL, NULL));
    }
    assert_ok(train_job_run(&j, NULL));
    for (int64_t i = 0; i < g->n_params; i++)
        assert_near(j.student->params[i], g->params[i] - 0.1f * grad[i], 2e-7);
    exec_free(e);
    exec_free(teacher);
    mem_free(grad);
    graph_free(g);
    train_job_release(&j);
}

/* With beta, at_domains 3 and two passes: beta/2 of AT in each of them on top. */
static void test_attention_step_equals_the_formula(void **state)
{
    const int n = 8, half = 4, k = TINY_CLASSES;
    value_id mine[ATTENTION_MAX_GROUPS], its[ATTENTION_MAX_GROUPS];
    float pixels[8 * TINY_ELEMS], z[8 * TINY_CLASSES], zt[8 * TINY_CLASSES];
    float dz[8 * TINY_CLASSES];
    struct exec *e, *teacher;
    struct train_job j;

    (void)state;
    train_job_init(&j, 0);
    data_limit(j.train, n);
    j.cfg.batch = n;
    j.cfg.epochs = 1;
    j.cfg.augment = TRAIN_AUGMENT_NONE;
    j.cfg.crop = false;
    j.cfg.attack = pgd_defaults(0);
    j.cfg.attack.random_start = false;
    j.cfg.gamma = 0;
    j.cfg.alpha = 1;
    j.cfg.beta = 50;
    j.cfg.at_domains = 3;
    j.cfg.momentum = j.cfg.weight_decay = 0;
    j.cfg.lr = 0.1;
    j.cfg.select = TRAIN_SELECT_LAST;
    j.cfg.n_at = attention_groups(j.student, mine);
    assert_int_equal(attention_groups(j.teacher, its), j.cfg.n_at);
    assert_int_equal(j.cfg.n_at, 1); /* the residual sum's ReLU */
    j.cfg.at_student = mine;
    j.cfg.at_teacher = its;
    float *all = (void *)(uintptr_t)j.train->floats;
    for (int i = 0; i < n; i++) {
        memcpy(all + i * TINY_ELEMS, all, sizeof pixels / 8);
        memcpy(pixels + i * TINY_ELEMS, all, sizeof pixels / 8);
    }
    struct graph *g = tiny_net(0, 1);
    const struct shape *s = &g->value[mine[0]].shape;
    double *work = mem_array(attention_work(n, s->dim[2] * s->dim[3]), sizeof *work);
    float *grad = mem_aligned((size_t)g->n_params, sizeof *grad);
    assert_ok(exec_new(g, EXEC_TRAIN, half, &(struct exec_opts){.taps = mine, .n_taps = 1}, &e));
    assert_ok(exec_new(j.teacher, EXEC_INFER, half, &(struct exec_opts){.taps = its, .n_taps = 1},
                       &teacher));
    assert_ok(exec_infer(teacher, pixels, half, 0, zt));
    for (int part = 0; part < 2; part++) {
        assert_ok(exec_train_forward(e, pixels, half, 0, false, z));
        memset(dz, 0, sizeof dz);
        loss_kl(z, zt, half, k, 4, half, 0.5, dz);
        const struct attention_maps m = {exec_tap(e, mine[0]),
                                         exec_tap(teacher, its[0]),
                                         exec_tap_grad(e, mine[0]),
                                         half,
                                         s->dim[2] * s->dim[3],
                                         s->dim[1],
                                         half};
        double each[4];

        attention_loss(&m, 25, work, each);
        assert_true(each[0] > 0);
        assert_ok(exec_train_backward(e, dz, grad, NULL, NULL));
    }
    assert_ok(train_job_run(&j, NULL));
    for (int64_t i = 0; i < g->n_params; i++)
        assert_near(j.student->params[i], g->params[i] - 0.1f * grad[i], 1e-6);
    exec_free(e);
    exec_free(teacher);
    mem_free(work);
    mem_free(grad);
    graph_free(g);
    train_job_release(&j);
}

/* Trades with random starts alone: z of the image and z' of the noisy one are two forward passes, and
 * the gradient of gamma CE(z) + trades KL(z, z') goes back through both. The adversarial images are the
 * second half of the epoch's order. */
static void test_trades_step_equals_the_formula(void **state)
{
    const int n = 8, half = 4, k = TINY_CLASSES;
    float natural[4 * TINY_ELEMS], noisy[4 * TINY_ELEMS], clean[4 * TINY_ELEMS];
    float z[4 * TINY_CLASSES], zn[4 * TINY_CLASSES];
    float dz[4 * TINY_CLASSES] = {0}, dzn[4 * TINY_CLASSES] = {0}, dzc[4 * TINY_CLASSES] = {0};
    int32_t labels[8];
    int64_t sample[4];
    uint32_t order[8];
    struct exec *e, *attack;
    struct train_job j;

    (void)state;
    train_job_init(&j, 0);
    data_limit(j.train, n);
    j.cfg.batch = n;
    j.cfg.epochs = 1;
    j.cfg.augment = TRAIN_AUGMENT_NONE;
    j.cfg.crop = false;
    j.cfg.attack = pgd_defaults(0);
    j.cfg.alpha = 0;
    j.cfg.gamma = 0.5;
    j.cfg.trades = 3;
    j.cfg.label_smoothing = 0.2;
    j.cfg.adversarial_share = 0.75;
    j.cfg.momentum = j.cfg.weight_decay = 0;
    j.cfg.lr = 0.1;
    j.cfg.select = TRAIN_SELECT_LAST;
    struct rng r = rng_at(j.cfg.seed, RNG_SHUFFLE, 0, 0);
    rng_permutation(&r, order, (uint32_t)n);
    for (int i = 0; i < half; i++) {
        sample[i] = order[half + i];
        labels[i] = j.train->labels[order[i]];
        labels[half + i] = j.train->labels[sample[i]];
        assert_int_equal(data_image(j.train, order[i], clean + i * TINY_ELEMS), 0);
        assert_int_equal(data_image(j.train, sample[i], natural + i * TINY_ELEMS), 0);
    }
    struct graph *g = tiny_net(0, 1);
    float *grad = mem_aligned((size_t)g->n_params, sizeof *grad);
    const struct pgd_key key = {j.cfg.seed, RNG_PGD, 0, 0, sample};
    const struct pgd_target target = {.labels = labels + half};
    assert_ok(exec_new(g, EXEC_TRAIN, half, NULL, &e));
    assert_ok(exec_new(g, EXEC_INPUT_GRAD, half, NULL, &attack));
    assert_ok(pgd_attack(attack, g, &j.cfg.attack, &target, &key, natural, half, 0, noisy, noisy));
    assert_ok(exec_train_forward(e, clean, half, 0, false, z));
    loss_ce_smooth(z, labels, half, k, 0.2, half, 0.25 * 0.5, dzc);
    assert_ok(exec_train_backward(e, dzc, grad, NULL, NULL));
    assert_ok(exec_train_forward(e, natural, half, 0, false, zn));
    assert_ok(exec_train_forward(e, noisy, half, 0, false, z));
    loss_kl_both(z, zn, half, k, 1, half, 0.75 * 3, dz, dzn);
    loss_ce_smooth(zn, labels + half, half, k, 0.2, half, 0.75 * 0.5, dzn);
    assert_ok(exec_train_backward(e, dz, grad, NULL, NULL));
    assert_ok(exec_train_forward(e, natural, half, 0, false, zn));
    assert_ok(exec_train_backward(e, dzn, grad, NULL, NULL));
    assert_ok(train_job_run(&j, NULL));
    for (int64_t i = 0; i < g->n_params; i++)
        assert_near(j.student->params[i], g->params[i] - 0.1f * grad[i], 1e-6);
    exec_free(e);
    exec_free(attack);
    mem_free(grad);
    graph_free(g);
    train_job_release(&j);
}

/* Two passes without CE and with two teachers: each half goes to the logits of its own. */
static void test_each_domain_has_its_teacher(void **state)
{
    const int n = 8, half = 4, k = TINY_CLASSES;
    float x[2][4 * TINY_ELEMS], z[4 * TINY_CLASSES], zt[4 * TINY_CLASSES];
    uint32_t order[8];
    struct exec *e, *teacher[2];
    struct train_job j;

    (void)state;
    train_job_init(&j, 0);
    data_limit(j.train, n);
    j.cfg.batch = n;
    j.cfg.epochs = 1;
    j.cfg.augment = TRAIN_AUGMENT_NONE;
    j.cfg.crop = false;
    j.cfg.attack = pgd_defaults(0);
    j.cfg.attack.random_start = false;
    j.cfg.gamma = 0;
    j.cfg.alpha = 1;
    j.cfg.momentum = j.cfg.weight_decay = 0;
    j.cfg.lr = 0.1;
    j.cfg.select = TRAIN_SELECT_LAST;
    for (int64_t i = 0; i < j.other->n_params; i++) /* the branches were made as copies */
        j.other->params[i] *= 1 + 0.1f * (float)(i % 7);
    graph_touch(j.other);
    j.cfg.signal[TRAIN_ADVERSARIAL] = (struct train_signal){j.other, 1};
    struct rng r = rng_at(j.cfg.seed, RNG_SHUFFLE, 0, 0);
    rng_permutation(&r, order, (uint32_t)n);
    for (int i = 0; i < n; i++)
        assert_int_equal(data_image(j.train, order[i], x[i / half] + i % half * TINY_ELEMS), 0);
    struct graph *g = tiny_net(0, 1);
    float *grad = mem_aligned((size_t)g->n_params, sizeof *grad);
    assert_ok(exec_new(g, EXEC_TRAIN, half, NULL, &e));
    assert_ok(exec_new(j.teacher, EXEC_INFER, half, NULL, &teacher[0]));
    assert_ok(exec_new(j.other, EXEC_INFER, half, NULL, &teacher[1]));
    for (int d = 0; d < 2; d++) {
        float dz[4 * TINY_CLASSES] = {0};
        assert_ok(exec_infer(teacher[d], x[d], half, d, zt));
        assert_ok(exec_train_forward(e, x[d], half, 0, false, z));
        loss_kl(z, zt, half, k, 4, half, 0.5, dz);
        assert_ok(exec_train_backward(e, dz, grad, NULL, NULL));
        exec_free(teacher[d]);
    }
    assert_ok(train_job_run(&j, NULL));
    for (int64_t i = 0; i < g->n_params; i++)
        assert_near(j.student->params[i], g->params[i] - 0.1f * grad[i], 1e-6);
    exec_free(e);
    mem_free(grad);
    graph_free(g);
    train_job_release(&j);
}

/* Extra images: every training image once an epoch, a fourth of each batch from the other set. */
static void test_extra_images_have_their_share(void **state)
{
    struct train_result result;
    struct train_job j;

    (void)state;
    train_job_init(&j, TINY_BN | TINY_DUAL | JOB_MORE);
    data_limit(j.train, 96);
    j.cfg.select = TRAIN_SELECT_LAST;
    assert_ok(train_job_run(&j, &result));
    assert_int_equal(result.steps, 3 * 8); /* 12 of 16 images are the split's own */
    struct batch b;
    int seen[96] = {0}, others = 0;
    uint32_t order[96];
    batch_order(&j.cfg, j.train, 1, order);
    assert_ok(batch_init(&b, &j.cfg, j.train));
    for (int i = 0; i < 8; i++) {
        assert_ok(batch_load(&b, &j.cfg, j.train, NULL, order, 1, i));
        assert_int_equal(b.n, JOB_BATCH);
        int halves[2] = {0};
        for (int k = 0; k < JOB_BATCH; k++) {
            const int64_t s = b.sample[k];
            const struct dataset *d = s < 96 ? j.train : j.extra;
            assert_true(s >= 0 && s < 96 + 30);
            assert_int_equal(b.labels[k], d->labels[s < 96 ? s : s - 96]);
            if (s < 96)
                seen[s]++;
            halves[k / 8] += s >= 96;
        }
        assert_int_equal(halves[0], 2);
        assert_int_equal(halves[1], 2);
        others += halves[0] + halves[1];
    }
    for (int i = 0; i < 96; i++)
        assert_int_equal(seen[i], 1);
    assert_int_equal(others, 32);
    batch_release(&b);
    train_job_release(&j);
}

/* After one step of ema 1: d = min(1, 1/10), so a tenth of the first weights stays. Its statistics are
 * the plain mean over the epoch's batches: here of one batch in each pass. */
static void test_average_is_kept_with_its_own_statistics(void **state)
{
    struct train_job plain, averaged;

    (void)state;
    train_job_init(&plain, TINY_BN);
    train_job_init(&averaged, TINY_BN);
    for (int i = 0; i < 2; i++) {
        struct train_job *j = i ? &averaged : &plain;
        data_limit(j->train, JOB_BATCH);
        j->cfg.epochs = 1;
        j->cfg.adversarial = false;
        j->cfg.augment = TRAIN_AUGMENT_NONE;
        j->cfg.crop = false;
        j->cfg.select = TRAIN_SELECT_LAST;
        j->cfg.ema = i;
        assert_ok(train_job_run(j, NULL));
    }
    struct graph *g = tiny_net(TINY_BN, 1);
    for (int64_t i = 0; i < g->n_params; i++)
        assert_near(averaged.student->params[i],
                    0.1f * g->params[i] + 0.9f * plain.student->params[i], 1e-6);
    struct exec *e;
    float x[JOB_BATCH * TINY_ELEMS];
    for (int i = 0; i < JOB_BATCH; i++)
        assert_int_equal(data_image(averaged.train, i, x + i * TINY_ELEMS), 0);
    memcpy(g->params, averaged.student->params, (size_t)g->n_params * sizeof(float));
    for (int32_t i = 0; i < g->n_node; i++)
        if (g->node[i].op == &op_batchnorm)
            g->node[i].p.batchnorm.momentum = 0;
    graph_touch(g);
    assert_ok(exec_new(g, EXEC_TRAIN, JOB_BATCH, NULL, &e));
    assert_ok(exec_train_forward(e, x, JOB_BATCH, 0, true, NULL));
    for (int64_t i = 0; i < g->n_buffers; i++)
        assert_near(averaged.student->buffers[i], g->buffers[i], 1e-5);
    for (int32_t i = 0; i < g->n_node; i++) /* what training needs is as it was */
        if (g->node[i].op == &op_batchnorm)
            assert_near(averaged.student->node[i].p.batchnorm.momentum, 0.9f, 0);
    exec_free(e);
    graph_free(g);
    train_job_release(&plain);
    train_job_release(&averaged);
}

/* ---- learned masks --------------------------------------------------------------------------- */

/* The penalty drives the masks down until few enough are left, and the stage ends there. */
static void test_soft_masks_end_at_the_budget(void **state)
{
    struct train_result result;
    struct train_job j;

    (void)state;
    train_job_init(&j, TINY_BN | TINY_MASKED | JOB_SOFT);
    j.cfg.adversarial = false;
    j.cfg.augment = TRAIN_AUGMENT_NONE;
    j.cfg.epochs = 200;
    j.cfg.lr = 0.02;
    j.cfg.soft.lambda = 0.01;
    j.cfg.soft.patience = 0;
    j.cfg.soft.budget = 30;
    for (int64_t i = 0; i < j.student->n_masks; i++)
        j.student->masks[i] = 1;
    graph_touch(j.student);
    assert_ok(train_job_run(&j, &result));
    assert_true(result.soft.stopped && result.epochs < 200);
    assert_true(result.soft.count <= 30);
    assert_int_equal(result.soft.count, soft_count(j.student, j.cfg.soft.threshold));
    assert_true(result.steps > (result.epochs - 1) * 6 && result.steps <= result.epochs * 6);
    assert_non_null(strstr(j.line, "\"relus\":"));
    train_job_release(&j);
}

/* The plan holds the mean mask at the budget's share at the end, whatever the losses say. */
static void test_soft_masks_follow_a_plan(void **state)
{
    struct train_result result;
    struct train_job j;
    double sum = 0;

    (void)state;
    train_job_init(&j, TINY_BN | TINY_MASKED | JOB_SOFT);
    j.cfg.adversarial = false;
    j.cfg.augment = TRAIN_AUGMENT_NONE;
    j.cfg.epochs = 20;
    j.cfg.soft.rule = SOFT_PLAN;
    j.cfg.lr = 0.002;
    j.cfg.soft.rate = 10;
    j.cfg.soft.budget = j.student->n_masks / 5;
    for (int64_t i = 0; i < j.student->n_masks; i++)
        j.student->masks[i] = 1;
    graph_touch(j.student);
    assert_ok(train_job_run(&j, &result));
    for (int64_t i = 0; i < j.student->n_masks; i++) {
        assert_true(j.student->masks[i] >= 0 && j.student->masks[i] <= 1);
        sum += (double)j.student->masks[i];
    }
    assert_true(sum <= (double)j.cfg.soft.budget * 1.05);
    assert_true(sum >= (double)j.cfg.soft.budget * 0.5);
    train_job_release(&j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean_training_learns),
        cmocka_unit_test(test_three_domains_learn_in_both_branches),
        cmocka_unit_test(test_corrupted_pictures_are_learnt_too),
        cmocka_unit_test(test_one_step_equals_the_formula),
        cmocka_unit_test(test_attention_step_equals_the_formula),
        cmocka_unit_test(test_trades_step_equals_the_formula),
        cmocka_unit_test(test_each_domain_has_its_teacher),
        cmocka_unit_test(test_extra_images_have_their_share),
        cmocka_unit_test(test_average_is_kept_with_its_own_statistics),
        cmocka_unit_test(test_soft_masks_end_at_the_budget),
        cmocka_unit_test(test_soft_masks_follow_a_plan),
    };
    cpu_set_threads(1); /* tiny work: threads would only wait; the thread tests ask for more */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
