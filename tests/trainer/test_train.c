/*
 * Training on a tiny network: the loss falls, one step equals the written-out formula, threads and
 * interruptions change no bit, contradictions are refused.
 */
#include "trainer/train/trainer.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/cpu.h"
#include "core/base/file.h"
#include "core/op/op.h"
#include "tests/tiny_net.h"
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

enum { IMAGES = 100, BATCH = 16, PATH_BYTES = 256 };
/* Besides the flags of tiny_net: masks that are trained, by Adam, as in SNL's mask stage. */
#define SOFT (1u << 16)
/* And what came later: averaged weights, trades, smoothed labels, extra images, other teachers. */
#define MORE (1u << 17)

/* What a run needs, and where it may be stopped. */
struct job {
    struct train_config cfg;
    struct graph *student, *teacher, *other;
    struct dataset *train, *val, *extra;
    double score[4]; /* stands for the linearizer's sums: a blob of the hooks */
    int64_t batches, epoch_ends;
    int64_t stop_at, kill_at; /* step, 0: never */
    double first_loss, last_loss;
    char line[1024]; /* last metrics line */
    value_id student_tap, teacher_tap;
};

static int on_batch(void *ctx, const struct train_batch *b)
{
    struct job *j = ctx;

    j->batches++;
    j->score[b->step % 4] += (double)b->student_logits[0];
    if (j->cfg.n_student_taps > 0)
        j->score[3] += (double)exec_tap(b->student, j->cfg.student_taps[0])[0];
    if (j->cfg.n_teacher_taps > 0)
        j->score[3] += (double)exec_tap(b->teacher, j->cfg.teacher_taps[0])[0];
    return 0;
}

/* Moves one kept position of every mask, as a new selection would. */
static int on_epoch_end(void *ctx, int32_t epoch, const struct train_validation *val)
{
    struct job *j = ctx;
    struct graph *g = j->student;

    (void)val;
    j->epoch_ends++;
    j->score[0] = 0;
    if (g->n_masks > 0)
        g->masks[(epoch * 37) % g->n_masks] = epoch & 1 ? 1.0f : 0.0f;
    graph_touch(g);
    return 0;
}

static int on_progress(void *ctx, const struct train_progress *p)
{
    struct job *j = ctx;

    if (p->step == 1)
        j->first_loss = p->loss;
    j->last_loss = p->loss;
    if (j->kill_at > 0 && p->step == j->kill_at)
        raise(SIGKILL);
    j->stop_at = j->stop_at > 0 && p->step == j->stop_at ? -1 : j->stop_at;
    return 0;
}

static int on_metrics(void *ctx, const char *json)
{
    struct job *j = ctx;

    snprintf(j->line, sizeof j->line, "%s", json);
    return 0;
}

static bool on_interrupted(void *ctx)
{
    return ((struct job *)ctx)->stop_at < 0;
}

/* Everything on: three domains, distillation, two branches, hooks, choice of the best epoch. */
static void job_init(struct job *j, unsigned flags)
{
    *j = (struct job){.cfg = train_defaults()};
    j->cfg.stage = "mask";
    j->cfg.epochs = 3;
    j->cfg.batch = BATCH;
    j->cfg.augment = TRAIN_AUGMENT_AUGMIX;
    j->cfg.adversarial = true;
    j->cfg.attack = pgd_defaults(2);
    j->cfg.crop_pad = 1;
    j->cfg.gamma = j->cfg.alpha = 0.5;
    j->cfg.val_attack = pgd_defaults(2);
    j->cfg.val_attack_limit = 10;
    j->cfg.select = TRAIN_SELECT_MEAN;
    j->cfg.seed = 5;
    j->student = tiny_net(flags, 1);
    if (flags & SOFT) {
        soft_switch(j->student, true);
        j->cfg.soft.on = true;
        j->cfg.soft.lambda = 1e-3;
        j->cfg.soft.budget = 10;
        j->cfg.optimizer = OPTIM_ADAM;
        j->cfg.select = TRAIN_SELECT_LAST;
    }
    j->teacher = tiny_net(TINY_BN, 2);
    j->other = tiny_net(TINY_BN | TINY_DUAL, 3);
    j->extra = tiny_data(30, 4);
    if (flags & MORE) {
        j->cfg.ema = 0.8;
        j->cfg.trades = 2;
        j->cfg.label_smoothing = 0.1;
        j->cfg.extra = j->extra;
        j->cfg.extra_share = 0.25;
        j->cfg.signal[TRAIN_ADVERSARIAL] = (struct train_signal){j->other, 1};
    }
    j->train = tiny_data(IMAGES, 1);
    j->val = tiny_data(20, 2);
}

static void job_release(struct job *j)
{
    graph_free(j->student);
    graph_free(j->teacher);
    graph_free(j->other);
    tiny_free(j->extra);
    tiny_free(j->train);
    tiny_free(j->val);
}

static int job_run(struct job *j, struct train_result *result)
{
    const struct train_blob blob = {"score", j->score, sizeof j->score};
    const struct train_hooks hooks = {.ctx = j,
                                      .blobs = &blob,
                                      .n_blobs = 1,
                                      .batch = on_batch,
                                      .epoch_end = on_epoch_end,
                                      .progress = on_progress,
                                      .metrics = on_metrics,
                                      .interrupted = on_interrupted};
    struct trainer *t = NULL;
    int rc = trainer_new(&j->cfg, j->student, j->teacher, j->train, j->val, &hooks, &t);

    if (rc == 0)
        rc = trainer_resume(t);
    if (rc >= 0)
        rc = trainer_run(t, result);
    trainer_free(t);
    return rc;
}

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
    struct job j;

    (void)state;
    job_init(&j, TINY_BN);
    j.cfg.augment = TRAIN_AUGMENT_NONE;
    j.cfg.adversarial = false;
    j.cfg.gamma = 1;
    j.cfg.alpha = 0;
    j.cfg.epochs = 8;
    j.cfg.select = TRAIN_SELECT_LAST;
    assert_ok(job_run(&j, &result));
    assert_int_equal(result.steps, 8 * 6); /* a rest of 4 of 100 images is left out */
    assert_true(result.loss < 0.5 * j.first_loss);
    assert_true(result.val.clean >= 0.95);
    assert_near(result.val.clean, accuracy(j.student, j.val, 0), 0);
    assert_int_equal(j.batches, result.steps);
    assert_int_equal(j.epoch_ends, 8);
    assert_non_null(strstr(j.line, "\"epoch\":8,"));
    job_release(&j);
}

static void test_three_domains_learn_in_both_branches(void **state)
{
    struct train_result result;
    struct job j;

    (void)state;
    job_init(&j, TINY_BN | TINY_DUAL);
    j.cfg.gamma = 1;
    j.cfg.alpha = 0;
    j.cfg.epochs = 12;
    j.cfg.attack.eps = 2.0 / 255;
    assert_ok(job_run(&j, &result));
    assert_true(result.loss < 0.5 * j.first_loss);
    assert_true(accuracy(j.student, j.val, 0) >= 0.9);
    assert_true(accuracy(j.student, j.val, 1) >= 0.9);
    assert_true(result.val.pgd >= 0 && result.val.clean_adv >= 0);
    job_release(&j);
}

/* Corruptions as the augmented domain, in place of AugMix; aligned crops. */
static void test_corrupted_pictures_are_learnt_too(void **state)
{
    struct train_result result;
    struct job j;

    (void)state;
    job_init(&j, TINY_BN);
    j.cfg.augment = TRAIN_AUGMENT_CORRUPT;
    j.cfg.corruptions = "gaussian_noise,brightness,contrast";
    j.cfg.aligned = true;
    j.cfg.adversarial = false;
    j.cfg.gamma = 1;
    j.cfg.alpha = 0;
    j.cfg.epochs = 8;
    assert_ok(job_run(&j, &result));
    assert_true(result.loss < 0.5 * j.first_loss);
    assert_true(accuracy(j.student, j.val, 0) >= 0.95);
    job_release(&j);
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
    struct job j;

    (void)state;
    job_init(&j, 0);
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
    assert_ok(exec_new(g, EXEC_TRAIN, half, NULL, 0, &e));
    assert_ok(exec_new(j.teacher, EXEC_INFER, n, NULL, 0, &teacher));
    assert_ok(exec_infer(teacher, pixels, n, 0, zt));
    for (int part = 0; part < 2; part++) {
        assert_ok(exec_train_forward(e, pixels, half, 0, false, z));
        memset(dz, 0, sizeof dz);
        loss_ce(z, labels, half, k, half, 0.5 * 0.3, dz);
        loss_kl(z, zt, half, k, 4, half, 0.5 * 0.7, dz);
        assert_ok(exec_train_backward(e, dz, grad, NULL, NULL));
    }
    assert_ok(job_run(&j, NULL));
    for (int64_t i = 0; i < g->n_params; i++)
        assert_near(j.student->params[i], g->params[i] - 0.1f * grad[i], 2e-7);
    exec_free(e);
    exec_free(teacher);
    mem_free(grad);
    graph_free(g);
    job_release(&j);
}

/* With beta, at_domains 3 and two passes: beta/2 of AT in each of them on top. */
static void test_attention_step_equals_the_formula(void **state)
{
    const int n = 8, half = 4, k = TINY_CLASSES;
    value_id mine[ATTENTION_MAX_GROUPS], its[ATTENTION_MAX_GROUPS];
    float pixels[8 * TINY_ELEMS], z[8 * TINY_CLASSES], zt[8 * TINY_CLASSES];
    float dz[8 * TINY_CLASSES];
    struct exec *e, *teacher;
    struct job j;

    (void)state;
    job_init(&j, 0);
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
    assert_ok(exec_new(g, EXEC_TRAIN, half, mine, 1, &e));
    assert_ok(exec_new(j.teacher, EXEC_INFER, half, its, 1, &teacher));
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
    assert_ok(job_run(&j, NULL));
    for (int64_t i = 0; i < g->n_params; i++)
        assert_near(j.student->params[i], g->params[i] - 0.1f * grad[i], 1e-6);
    exec_free(e);
    exec_free(teacher);
    mem_free(work);
    mem_free(grad);
    graph_free(g);
    job_release(&j);
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
    struct job j;

    (void)state;
    job_init(&j, 0);
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
    assert_ok(exec_new(g, EXEC_TRAIN, half, NULL, 0, &e));
    assert_ok(exec_new(g, EXEC_INPUT_GRAD, half, NULL, 0, &attack));
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
    assert_ok(job_run(&j, NULL));
    for (int64_t i = 0; i < g->n_params; i++)
        assert_near(j.student->params[i], g->params[i] - 0.1f * grad[i], 1e-6);
    exec_free(e);
    exec_free(attack);
    mem_free(grad);
    graph_free(g);
    job_release(&j);
}

/* Two passes without CE and with two teachers: each half goes to the logits of its own. */
static void test_each_domain_has_its_teacher(void **state)
{
    const int n = 8, half = 4, k = TINY_CLASSES;
    float x[2][4 * TINY_ELEMS], z[4 * TINY_CLASSES], zt[4 * TINY_CLASSES];
    uint32_t order[8];
    struct exec *e, *teacher[2];
    struct job j;

    (void)state;
    job_init(&j, 0);
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
    assert_ok(exec_new(g, EXEC_TRAIN, half, NULL, 0, &e));
    assert_ok(exec_new(j.teacher, EXEC_INFER, half, NULL, 0, &teacher[0]));
    assert_ok(exec_new(j.other, EXEC_INFER, half, NULL, 0, &teacher[1]));
    for (int d = 0; d < 2; d++) {
        float dz[4 * TINY_CLASSES] = {0};
        assert_ok(exec_infer(teacher[d], x[d], half, d, zt));
        assert_ok(exec_train_forward(e, x[d], half, 0, false, z));
        loss_kl(z, zt, half, k, 4, half, 0.5, dz);
        assert_ok(exec_train_backward(e, dz, grad, NULL, NULL));
        exec_free(teacher[d]);
    }
    assert_ok(job_run(&j, NULL));
    for (int64_t i = 0; i < g->n_params; i++)
        assert_near(j.student->params[i], g->params[i] - 0.1f * grad[i], 1e-6);
    exec_free(e);
    mem_free(grad);
    graph_free(g);
    job_release(&j);
}

/* Extra images: every training image once an epoch, a fourth of each batch from the other set. */
static void test_extra_images_have_their_share(void **state)
{
    struct train_result result;
    struct job j;

    (void)state;
    job_init(&j, TINY_BN | TINY_DUAL | MORE);
    data_limit(j.train, 96);
    j.cfg.select = TRAIN_SELECT_LAST;
    assert_ok(job_run(&j, &result));
    assert_int_equal(result.steps, 3 * 8); /* 12 of 16 images are the split's own */
    struct batch b;
    int seen[96] = {0}, others = 0;
    uint32_t order[96];
    batch_order(&j.cfg, j.train, 1, order);
    assert_ok(batch_init(&b, &j.cfg, j.train));
    for (int i = 0; i < 8; i++) {
        assert_ok(batch_load(&b, &j.cfg, j.train, NULL, order, 1, i));
        assert_int_equal(b.n, BATCH);
        int halves[2] = {0};
        for (int k = 0; k < BATCH; k++) {
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
    job_release(&j);
}

/* After one step of ema 1: d = min(1, 1/10), so a tenth of the first weights stays. Its statistics are
 * the plain mean over the epoch's batches: here of one batch in each pass. */
static void test_average_is_kept_with_its_own_statistics(void **state)
{
    struct job plain, averaged;

    (void)state;
    job_init(&plain, TINY_BN);
    job_init(&averaged, TINY_BN);
    for (int i = 0; i < 2; i++) {
        struct job *j = i ? &averaged : &plain;
        data_limit(j->train, BATCH);
        j->cfg.epochs = 1;
        j->cfg.adversarial = false;
        j->cfg.augment = TRAIN_AUGMENT_NONE;
        j->cfg.crop = false;
        j->cfg.select = TRAIN_SELECT_LAST;
        j->cfg.ema = i;
        assert_ok(job_run(j, NULL));
    }
    struct graph *g = tiny_net(TINY_BN, 1);
    for (int64_t i = 0; i < g->n_params; i++)
        assert_near(averaged.student->params[i],
                    0.1f * g->params[i] + 0.9f * plain.student->params[i], 1e-6);
    struct exec *e;
    float x[BATCH * TINY_ELEMS];
    for (int i = 0; i < BATCH; i++)
        assert_int_equal(data_image(averaged.train, i, x + i * TINY_ELEMS), 0);
    memcpy(g->params, averaged.student->params, (size_t)g->n_params * sizeof(float));
    for (int32_t i = 0; i < g->n_node; i++)
        if (g->node[i].op == &op_batchnorm)
            g->node[i].p.batchnorm.momentum = 0;
    graph_touch(g);
    assert_ok(exec_new(g, EXEC_TRAIN, BATCH, NULL, 0, &e));
    assert_ok(exec_train_forward(e, x, BATCH, 0, true, NULL));
    for (int64_t i = 0; i < g->n_buffers; i++)
        assert_near(averaged.student->buffers[i], g->buffers[i], 1e-5);
    for (int32_t i = 0; i < g->n_node; i++) /* what training needs is as it was */
        if (g->node[i].op == &op_batchnorm)
            assert_near(averaged.student->node[i].p.batchnorm.momentum, 0.9f, 0);
    exec_free(e);
    graph_free(g);
    job_release(&plain);
    job_release(&averaged);
}

/* ---- learned masks --------------------------------------------------------------------------- */

/* The penalty drives the masks down until few enough are left, and the stage ends there. */
static void test_soft_masks_end_at_the_budget(void **state)
{
    struct train_result result;
    struct job j;

    (void)state;
    job_init(&j, TINY_BN | TINY_MASKED | SOFT);
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
    assert_ok(job_run(&j, &result));
    assert_true(result.soft.stopped && result.epochs < 200);
    assert_true(result.soft.count <= 30);
    assert_int_equal(result.soft.count, soft_count(j.student, j.cfg.soft.threshold));
    assert_true(result.steps > (result.epochs - 1) * 6 && result.steps <= result.epochs * 6);
    assert_non_null(strstr(j.line, "\"relus\":"));
    job_release(&j);
}

/* The plan holds the mean mask at the budget's share at the end, whatever the losses say. */
static void test_soft_masks_follow_a_plan(void **state)
{
    struct train_result result;
    struct job j;
    double sum = 0;

    (void)state;
    job_init(&j, TINY_BN | TINY_MASKED | SOFT);
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
    assert_ok(job_run(&j, &result));
    for (int64_t i = 0; i < j.student->n_masks; i++) {
        assert_true(j.student->masks[i] >= 0 && j.student->masks[i] <= 1);
        sum += (double)j.student->masks[i];
    }
    assert_true(sum <= (double)j.cfg.soft.budget * 1.05);
    assert_true(sum >= (double)j.cfg.soft.budget * 0.5);
    job_release(&j);
}

/* ---- the same bits --------------------------------------------------------------------------- */

static void checkpoint_path(char path[PATH_BYTES], const char *name)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(path, PATH_BYTES, "%s/linnet-%ld-%s", tmp != NULL ? tmp : "/tmp", (long)getpid(),
             name);
    unlink(path);
}

/* Bytes of the final checkpoint of a run with everything on; taps and hooks too. */
static void final_bytes(struct job *j, const char *path, uint8_t **bytes, size_t *len)
{
    j->student_tap = j->student->node[2].out[0];
    j->teacher_tap = j->teacher->node[2].out[0];
    j->cfg.checkpoint = path;
    j->cfg.config_json = "{\"a\":1}";
    j->cfg.structure = (const uint8_t *)"onnx";
    j->cfg.structure_len = 4;
    j->cfg.student_taps = &j->student_tap;
    j->cfg.teacher_taps = &j->teacher_tap;
    j->cfg.n_student_taps = j->cfg.n_teacher_taps = 1;
    int rc = job_run(j, NULL);
    if (j->stop_at < 0) {
        assert_int_equal(rc, ERR_INTERRUPTED);
        *bytes = NULL;
        return;
    }
    assert_ok(rc);
    assert_ok(file_read(path, 1 << 24, bytes, len));
}

static const unsigned everything[] = {TINY_BN | TINY_DUAL | TINY_MASKED,
                                      TINY_BN | TINY_DUAL | TINY_MASKED | SOFT,
                                      TINY_BN | TINY_DUAL | TINY_MASKED | MORE};
enum { KINDS = sizeof everything / sizeof everything[0] };

static void reference_bytes(const char *path, unsigned flags, uint8_t **bytes, size_t *len)
{
    struct job j;

    job_init(&j, flags);
    final_bytes(&j, path, bytes, len);
    unlink(path);
    job_release(&j);
}

static void test_threads_change_no_bit(void **state)
{
    char path[PATH_BYTES];
    uint8_t *bytes[2];
    size_t len[2];

    (void)state;
    checkpoint_path(path, "threads");
    for (int kind = 0; kind < KINDS; kind++) {
        for (int t = 0; t < 2; t++) {
            cpu_set_threads(1 + 2 * t);
            reference_bytes(path, everything[kind], &bytes[t], &len[t]);
        }
        cpu_set_threads(1);
        assert_int_equal(len[0], len[1]);
        assert_memory_equal(bytes[0], bytes[1], len[0]);
        mem_free(bytes[0]);
        mem_free(bytes[1]);
    }
}

static void assert_continues(const char *path, unsigned flags, const uint8_t *want, size_t want_len)
{
    struct job j;
    uint8_t *got;
    size_t len;

    job_init(&j, flags);
    final_bytes(&j, path, &got, &len);
    assert_int_equal(len, want_len);
    assert_memory_equal(got, want, len);
    mem_free(got);
    job_release(&j);
}

/* 100 images in batches of 16 are 6 steps an epoch: a stop at 6 or 18 falls into a validation. */
static void test_interruption_and_resume_give_the_same_bytes(void **state)
{
    const int64_t stops[] = {1, 6, 8, 18};
    char path[PATH_BYTES];
    uint8_t *want, *none;
    size_t want_len, len;

    (void)state;
    checkpoint_path(path, "resume");
    for (int kind = 0; kind < KINDS; kind += 2) {
        reference_bytes(path, everything[kind], &want, &want_len);
        for (size_t i = 0; i < sizeof stops / sizeof stops[0]; i++) {
            struct job j;
            job_init(&j, everything[kind]);
            j.stop_at = stops[i];
            final_bytes(&j, path, &none, &len);
            assert_null(none);
            job_release(&j);
            assert_continues(path, everything[kind], want, want_len);
            unlink(path);
        }
        mem_free(want);
    }
}

/* The child dies without a word; the parent continues from what it finds. */
static void kill_and_resume(unsigned flags)
{
    const int64_t kills[] = {2, 6, 11};
    char path[PATH_BYTES];
    uint8_t *want, *none;
    size_t want_len, len;
    int status;

    checkpoint_path(path, "kill");
    reference_bytes(path, flags, &want, &want_len);
    for (size_t i = 0; i < sizeof kills / sizeof kills[0]; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct job j;
            job_init(&j, flags);
            j.cfg.checkpoint_steps = 4;
            j.kill_at = kills[i];
            final_bytes(&j, path, &none, &len);
            _exit(1); /* not reached */
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_continues(path, flags, want, want_len);
        unlink(path);
    }
    mem_free(want);
}

static void test_kill_and_resume_give_the_same_bytes(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++)
        kill_and_resume(everything[kind]);
}

static void test_a_finished_run_resumes_to_itself(void **state)
{
    char path[PATH_BYTES];
    uint8_t *want, *again;
    size_t want_len, len;
    struct job j;

    (void)state;
    checkpoint_path(path, "done");
    job_init(&j, TINY_BN | TINY_DUAL | TINY_MASKED);
    final_bytes(&j, path, &want, &want_len);
    job_release(&j);
    job_init(&j, TINY_BN | TINY_DUAL | TINY_MASKED);
    final_bytes(&j, path, &again, &len);
    assert_int_equal(j.batches, 0);
    assert_memory_equal(want, again, len);
    job_release(&j);
    unlink(path);
    mem_free(want);
    mem_free(again);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void test_resume_refuses_another_training(void **state)
{
    char path[PATH_BYTES];
    struct job j;
    uint8_t *none;
    size_t len;

    (void)state;
    checkpoint_path(path, "other");
    job_init(&j, TINY_BN | TINY_DUAL | TINY_MASKED);
    j.stop_at = 2;
    final_bytes(&j, path, &none, &len);
    j.stop_at = 0;
    j.cfg.lr = 0.25;
    assert_int_equal(job_run(&j, NULL), ERR_ARG);
    assert_non_null(strstr(err_message(), "now it is 'lr=0.25'"));
    j.cfg.lr = 0.05;
    j.cfg.stage = "finetune";
    assert_int_equal(job_run(&j, NULL), ERR_ARG);
    j.cfg.stage = "mask";
    j.teacher->params[0] += 1;
    assert_int_equal(job_run(&j, NULL), ERR_ARG);
    assert_non_null(strstr(err_message(), "'teacher="));
    j.teacher->params[0] -= 1;
    j.cfg.options = "score=1";
    assert_int_equal(job_run(&j, NULL), ERR_ARG);
    j.cfg.options = NULL;
    ((int32_t *)(uintptr_t)j.train->labels)[7] ^= 1;
    assert_int_equal(job_run(&j, NULL), ERR_ARG);
    assert_non_null(strstr(err_message(), "'data="));
    ((int32_t *)(uintptr_t)j.train->labels)[7] ^= 1;
    j.student->norm = (struct input_norm){.channels = 1, .mean = {0.5f}, .std = {1}};
    assert_int_equal(job_run(&j, NULL), ERR_ARG);
    assert_non_null(strstr(err_message(), "'normalize="));
    unlink(path);
    job_release(&j);
}

static void test_divergence_is_a_numeric_error(void **state)
{
    struct job j;

    (void)state;
    job_init(&j, 0);
    j.cfg.lr = 1e6;
    j.cfg.weight_decay = 1;
    assert_int_equal(job_run(&j, NULL), ERR_NUMERIC);
    assert_non_null(strstr(err_message(), "stage 'mask': step "));
    job_release(&j);
}

/* Every allocation of construction, resume and the run fails once. */
static void test_every_failed_allocation_is_an_error(void **state)
{
    int rc = ERR_NOMEM;

    (void)state;
    for (long n = 1; rc < 0; n++) {
        struct job j;
        job_init(&j, TINY_BN | TINY_DUAL | TINY_MASKED | MORE);
        j.cfg.epochs = 1;
        data_limit(j.train, 2 * BATCH);
        mem_fail_at(n);
        rc = job_run(&j, NULL);
        mem_fail_at(0);
        assert_true(rc == 0 || rc == ERR_NOMEM);
        job_release(&j);
    }
}

static void refused(struct job *j, int code, const char *word)
{
    const struct train_hooks hooks = {0};
    struct trainer *t = NULL;

    assert_int_equal(trainer_new(&j->cfg, j->student, j->teacher, j->train, j->val, &hooks, &t),
                     code);
    assert_non_null(strstr(err_message(), word));
    j->cfg = train_defaults();
}

static void test_contradictions_are_refused(void **state)
{
    struct job j;

    (void)state;
    job_init(&j, TINY_BN);
    j.cfg = train_defaults();
    j.cfg.clean = false;
    refused(&j, ERR_ARG, "all off");
    j.cfg.batch = 1, j.cfg.adversarial = true;
    refused(&j, ERR_ARG, "split");
    j.cfg.gamma = 0;
    refused(&j, ERR_ARG, "no loss");
    j.cfg.lr = -1;
    refused(&j, ERR_ARG, "lr");
    j.cfg.select = TRAIN_SELECT_PGD;
    refused(&j, ERR_ARG, "attack");
    j.cfg.stage = "A stage";
    refused(&j, ERR_ARG, "stage");
    j.cfg.trades = 1;
    refused(&j, ERR_ARG, "trades");
    j.cfg.extra_share = 0.5;
    refused(&j, ERR_ARG, "extra");
    j.cfg.extra = j.extra, j.cfg.extra_share = 1;
    refused(&j, ERR_ARG, "extra");
    j.cfg.signal[TRAIN_ADVERSARIAL] = (struct train_signal){j.teacher, 1};
    refused(&j, ERR_ARG, "branch 1");
    j.cfg.augment = TRAIN_AUGMENT_CORRUPT, j.cfg.corruptions = "fog,rain";
    refused(&j, ERR_ARG, "rain");
    graph_free(j.teacher);
    j.teacher = NULL;
    j.cfg.alpha = 1;
    refused(&j, ERR_ARG, "teacher");
    j.train->height = 9;
    refused(&j, ERR_DATA, "8");
    job_release(&j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* first: it forks, so there must be no second thread yet */
        cmocka_unit_test(test_kill_and_resume_give_the_same_bytes),
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
        cmocka_unit_test(test_threads_change_no_bit),
        cmocka_unit_test(test_interruption_and_resume_give_the_same_bytes),
        cmocka_unit_test(test_a_finished_run_resumes_to_itself),
        cmocka_unit_test(test_resume_refuses_another_training),
        cmocka_unit_test(test_divergence_is_a_numeric_error),
        cmocka_unit_test(test_every_failed_allocation_is_an_error),
        cmocka_unit_test(test_contradictions_are_refused),
    };
    cpu_set_threads(1); /* tiny work: threads would only wait; the thread tests ask for more */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
