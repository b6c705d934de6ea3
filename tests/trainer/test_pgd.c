/*
 * PGD: on a linear network the best attack is known in closed form; the boxes hold; the start
 * depends on its key alone; specifications are read strictly.
 */
#include "trainer/attack/pgd.h"

#include <math.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/op/op.h"
#include "tests/tiny_net.h"
#include "trainer/eval/eval.h"
#include "trainer/loss.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

enum { N = 6 };

struct attack {
    struct graph *g;
    struct exec *e;
    struct dataset *d;
    int64_t sample[N];
    float grad[N * TINY_ELEMS], adv[N * TINY_ELEMS];
};

static void attack_init(struct attack *a, struct graph *g)
{
    a->g = g;
    a->d = tiny_data(N, 1);
    for (int i = 0; i < N; i++)
        a->sample[i] = i;
    assert_int_equal(exec_new(g, EXEC_INPUT_GRAD, N, NULL, &a->e), 0);
}

static void attack_run(struct attack *a, const struct pgd_params *p, uint32_t restart)
{
    const struct pgd_target target = {.labels = a->d->labels};
    const struct pgd_key key = {7, RNG_ATTACK, 0, restart, a->sample};

    assert_int_equal(pgd_attack(a->e, a->g, p, &target, &key, a->d->floats, N, 0, a->grad, a->adv),
                     0);
}

static void attack_release(struct attack *a)
{
    exec_free(a->e);
    graph_free(a->g);
    tiny_free(a->d);
}

/* z_k = w_k x + b_k with two classes: the cross-entropy of class y grows along w_(other) - w_y, so
 * the worst point of the box is x + eps sign(w_other - w_y), clipped. */
static void test_linear_network_reaches_the_corner(void **state)
{
    struct pgd_params p = pgd_defaults(40);
    struct attack a;

    (void)state;
    attack_init(&a, tiny_linear(3));
    const int32_t fc = a.g->n_node - 1;
    const float *w = op_in(a.g, &a.g->node[fc], 1)->data;
    float *b = op_in(a.g, &a.g->node[fc], 2)->data;
    b[2] = -1e4f; /* leaves two classes */
    for (int i = 0; i < N; i++)
        ((int32_t *)(uintptr_t)a.d->labels)[i] = i & 1;
    graph_touch(a.g);
    attack_run(&a, &p, 0);
    for (int i = 0; i < N * TINY_ELEMS; i++) {
        const int y = (i / TINY_ELEMS) & 1, j = i % TINY_ELEMS;
        const float up = w[(1 - y) * TINY_ELEMS + j] - w[y * TINY_ELEMS + j];
        const float corner = a.d->floats[i] + (up > 0 ? 1 : -1) * (float)p.eps;
        assert_near(a.adv[i], corner < 0 ? 0 : corner > 1 ? 1 : corner, 1e-6);
    }
    attack_release(&a);
}

static double loss_of(struct attack *a, const float *pixels)
{
    float z[N * TINY_CLASSES];
    struct exec *e;

    assert_int_equal(exec_new(a->g, EXEC_INFER, N, NULL, &e), 0);
    assert_int_equal(exec_infer(e, pixels, N, 0, z), 0);
    exec_free(e);
    return loss_ce(z, a->d->labels, N, TINY_CLASSES, N, 1, NULL);
}

static void test_boxes_hold_and_loss_rises(void **state)
{
    struct pgd_params p = pgd_defaults(10), noise = pgd_defaults(0);
    struct attack a;

    (void)state;
    attack_init(&a, tiny_net(TINY_BN | TINY_MASKED, 3));
    float *x = (float *)(uintptr_t)a.d->floats;
    for (int i = 0; i < TINY_ELEMS; i++) /* the first image touches both ends */
        x[i] = i & 1 ? 1.0f : 0.0f;
    attack_run(&a, &noise, 0);
    const double start = loss_of(&a, a.adv);
    attack_run(&a, &p, 0);
    assert_true(loss_of(&a, a.adv) > start);
    assert_true(loss_of(&a, a.adv) > loss_of(&a, x));
    for (int i = 0; i < N * TINY_ELEMS; i++) {
        assert_true(a.adv[i] >= 0 && a.adv[i] <= 1);
        assert_true(fabs((double)a.adv[i] - (double)x[i]) <= p.eps + 1e-7);
    }
    attack_release(&a);
}

/* KL to given logits: the loss that is maximised is that one. */
static void test_distillation_target(void **state)
{
    struct pgd_params p = pgd_defaults(10);
    float zt[N * TINY_CLASSES] = {0}, z[2][N * TINY_CLASSES];
    const struct pgd_target target = {.teacher = zt, .tau = 4};
    struct attack a;
    struct exec *e;

    (void)state;
    attack_init(&a, tiny_net(TINY_BN, 3));
    const struct pgd_key key = {7, RNG_PGD, 2, 0, a.sample};
    assert_int_equal(exec_new(a.g, EXEC_INFER, N, NULL, &e), 0);
    assert_int_equal(exec_infer(e, a.d->floats, N, 0, zt), 0);
    assert_int_equal(exec_infer(e, a.d->floats, N, 0, z[0]), 0);
    assert_int_equal(pgd_attack(a.e, a.g, &p, &target, &key, a.d->floats, N, 0, a.grad, a.adv), 0);
    assert_int_equal(exec_infer(e, a.adv, N, 0, z[1]), 0);
    assert_near(loss_kl(z[0], zt, N, TINY_CLASSES, 4, N, 1, NULL), 0, 1e-9);
    assert_true(loss_kl(z[1], zt, N, TINY_CLASSES, 4, N, 1, NULL) > 1e-4);
    exec_free(e);
    attack_release(&a);
}

static void test_start_depends_on_its_key_alone(void **state)
{
    struct pgd_params p = pgd_defaults(3);
    float first[N * TINY_ELEMS];
    struct attack a;

    (void)state;
    attack_init(&a, tiny_net(TINY_BN, 3));
    cpu_set_threads(1);
    attack_run(&a, &p, 0);
    memcpy(first, a.adv, sizeof first);
    cpu_set_threads(3);
    attack_run(&a, &p, 0);
    assert_memory_equal(first, a.adv, sizeof first);
    cpu_set_threads(1);
    attack_run(&a, &p, 1);
    assert_memory_not_equal(first, a.adv, sizeof first);
    /* image 4 alone: the same as inside the batch */
    const struct pgd_target target = {.labels = a.d->labels + 4};
    const struct pgd_key key = {7, RNG_ATTACK, 0, 0, a.sample + 4};
    assert_int_equal(
        pgd_attack(a.e, a.g, &p, &target, &key, a.d->floats + 4 * TINY_ELEMS, 1, 0, a.grad, a.adv),
        0);
    assert_memory_equal(a.adv, first + 4 * TINY_ELEMS, TINY_ELEMS * sizeof(float));
    attack_release(&a);
}

/* ---- evaluation ------------------------------------------------------------------------------ */

static struct eval_result *evaluate(struct graph *g, const struct dataset *d, int64_t batch,
                                    const struct pgd_params *attack, int32_t n)
{
    const struct eval_options opt = {
        .batch = batch, .seed = 7, .branch = {true, false}, .attack = attack, .n_attack = n};
    struct eval_result *r = mem_array(1, sizeof *r);

    assert_int_equal(eval_run(g, d, &opt, r), 0);
    return r;
}

/* More restarts break no fewer images; the batch size changes nothing; an image that is wrong when
 * clean is not robust; eps 0 is the clean accuracy. */
static void test_evaluation_counts_the_worst_case(void **state)
{
    struct pgd_params attack[4] = {pgd_defaults(0), pgd_defaults(2), pgd_defaults(2),
                                   pgd_defaults(9)};
    struct graph *g = tiny_net(TINY_BN, 4);
    struct dataset *d = tiny_data(60, 9);

    (void)state;
    attack[0].eps = 0;
    attack[2].restarts = 5;
    attack[3].eps = 0.5;
    attack[3].alpha = 0.2;
    struct eval_result *r = evaluate(g, d, 17, attack, 4), *s = evaluate(g, d, 60, attack, 4);
    const struct eval_branch *b = &r->branch[0];
    assert_int_equal(b->attack[0].score.correct, b->clean.correct);
    assert_true(b->attack[1].score.correct <= b->clean.correct);
    assert_true(b->attack[2].score.correct <= b->attack[1].score.correct);
    assert_true(b->attack[3].score.correct < b->clean.correct);
    assert_true(b->clean.lo < b->clean.accuracy && b->clean.accuracy < b->clean.hi);
    for (int i = 0; i < 4; i++)
        assert_int_equal(b->attack[i].score.correct, s->branch[0].attack[i].score.correct);
    mem_free(r);
    mem_free(s);
    graph_free(g);
    tiny_free(d);
}

/* Images that stand after one start with a step each, and after all of three. */
static void stand_after(struct graph *g, const struct dataset *d, const struct pgd_params *p,
                        int64_t *one, int64_t *three)
{
    enum { MANY = 60 };
    float adv[MANY * TINY_ELEMS], grad[MANY * TINY_ELEMS], z[MANY * TINY_CLASSES];
    bool broken[MANY] = {false};
    int64_t sample[MANY];
    struct exec *e;

    assert_int_equal(exec_new(g, EXEC_INPUT_GRAD, MANY, NULL, &e), 0);
    for (int i = 0; i < MANY; i++)
        sample[i] = i;
    for (uint32_t restart = 0; restart < 3; restart++) {
        const struct pgd_target target = {.labels = d->labels};
        const struct pgd_key key = {7, RNG_ATTACK, 0, restart, sample};
        assert_int_equal(pgd_attack(e, g, p, &target, &key, d->floats, MANY, 0, grad, adv), 0);
        assert_int_equal(exec_input_grad(e, adv, MANY, 0, NULL, NULL, NULL, z), 0);
        *three = 0;
        for (int i = 0; i < MANY; i++) {
            broken[i] |= loss_argmax(z + i * TINY_CLASSES, TINY_CLASSES) != d->labels[i];
            *three += !broken[i];
        }
        *one = restart == 0 ? *three : *one;
    }
    exec_free(e);
}

/* Three restarts break what at least one of three starts breaks, each drawn for itself. */
static void test_restarts_are_starts_of_their_own(void **state)
{
    struct graph *g = tiny_net(TINY_BN, 4);
    struct dataset *d = tiny_data(60, 9);
    bool differ = false;

    (void)state;
    for (int k = 1; k <= 8; k++) {
        struct pgd_params p[2] = {pgd_defaults(1), pgd_defaults(1)};
        int64_t one = 0, three = 0;

        p[0].eps = p[1].eps = 0.04 * k;
        p[0].alpha = p[1].alpha = 0.01 * k;
        p[1].restarts = 3;
        stand_after(g, d, &p[0], &one, &three);
        struct eval_result *r = evaluate(g, d, 60, p, 2);
        const struct eval_attack *a = r->branch[0].attack;
        assert_int_equal(a[0].score.correct, one);
        assert_int_equal(a[1].score.correct, three);
        differ = differ || three < one;
        mem_free(r);
    }
    assert_true(differ);
    graph_free(g);
    tiny_free(d);
}

/* ---- specifications -------------------------------------------------------------------------- */

static void test_specifications(void **state)
{
    const char *bad[] = {
        "fgsm",           "pgdx",          "pgd:steps",      "pgd:eps=",       "pgd:eps=8/0",
        "pgd:eps=2",      "pgd:steps=1.5", "pgd:restarts=0", "pgd:alpha=0",    "pgd:eps=nan",
        "pgd:start=here", "pgd:size=3",    "pgd:eps=8/255,", "pgd:steps=20001"};
    struct pgd_params p, q;
    struct attack_spec spec;
    char text[ATTACK_TEXT];

    (void)state;
    assert_int_equal(pgd_parse("pgd", &p), 0);
    assert_near(p.eps, 8.0 / 255, 1e-15);
    assert_int_equal(p.steps, 20);
    assert_int_equal(pgd_parse("pgd:eps=4/255,alpha=0.01,steps=50,restarts=3,start=clean", &p), 0);
    assert_near(p.eps, 4.0 / 255, 1e-15);
    assert_near(p.alpha, 0.01, 1e-15);
    assert_true(p.steps == 50 && p.restarts == 3 && !p.random_start);
    spec = attack_spec_pgd(&p);
    assert_int_equal(pgd_parse(attack_stage_text(&spec.stage[0], text), &q), 0);
    assert_true(q.steps == 50 && q.restarts == 3 && !q.random_start);
    assert_near(p.eps, q.eps, 1e-10);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(pgd_parse(bad[i], &p), ERR_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_network_reaches_the_corner),
        cmocka_unit_test(test_boxes_hold_and_loss_rises),
        cmocka_unit_test(test_distillation_target),
        cmocka_unit_test(test_start_depends_on_its_key_alone),
        cmocka_unit_test(test_evaluation_counts_the_worst_case),
        cmocka_unit_test(test_restarts_are_starts_of_their_own),
        cmocka_unit_test(test_specifications),
    };
    cpu_set_threads(1); /* tiny work: threads would only wait; the thread tests ask for more */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
