/*
 * APGD, FAB and Square (trainer/ROBUSTNESS.md): values, checkpoints and squares in closed form; on a
 * linear network the distance is known exactly; no attack leaves its box; interrupted runs and other
 * thread counts give the same flags.
 */
#include "trainer/attack/attack.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/op/op.h"
#include "tests/tiny_net.h"
#include "trainer/attack/apgd.h"
#include "trainer/attack/audit.h"
#include "trainer/attack/autoattack.h"
#include "trainer/eval/eval.h"
#include "trainer/attack/fab.h"
#include "trainer/attack/square.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

/* ---- closed forms ---------------------------------------------------------------------------- */

static void test_checkpoints(void **state)
{
    static const int32_t want[] = {22, 41, 57, 70, 80, 87, 93, 99};
    int32_t n = 0;

    (void)state;
    for (int32_t k = apgd_interval(100, 0), at = k; at <= 100; k = apgd_interval(100, k), at += k)
        assert_int_equal(at, want[n++]);
    assert_int_equal(n, 8);
    assert_int_equal(apgd_interval(1, 0), 1);
}

static void test_square_sides(void **state)
{
    static const int32_t query[] = {0, 10, 11, 51, 201, 501, 1001, 2001, 4001, 4999};
    static const int32_t side[] = {29, 29, 20, 14, 10, 7, 5, 4, 3, 3};

    (void)state;
    for (size_t i = 0; i < sizeof side / sizeof side[0]; i++)
        assert_int_equal(square_side(0.8, query[i], 32, 32), side[i]);
    assert_int_equal(square_side(1, 0, 8, 32), 8);
    assert_int_equal(square_side(0.001, 9000, 8, 8), 1);
}

static void test_loss_values(void **state)
{
    const float z[] = {1, 4, 3, -2, 0.5f};

    (void)state;
    /* label 1 is largest: margin to 3; 4 - 1 below */
    assert_near(attack_loss_row(ATTACK_DLR, z, 5, 1, 0, NULL), -(4 - 3) / 3.0, 1e-6);
    assert_near(attack_loss_row(ATTACK_DLR, z, 5, 0, 0, NULL), -(1 - 4) / 3.0, 1e-6);
    assert_near(attack_loss_row(ATTACK_DLR_TARGETED, z, 5, 1, 3, NULL), -(4 + 2) / (4 - 0.75),
                1e-6);
    assert_near(attack_loss_row(ATTACK_DIFFERENCE, z, 5, 1, 3, NULL), -6, 1e-6);
    assert_near(attack_loss_row(ATTACK_CE, z, 5, 1, 0, NULL),
                log(exp(1) + exp(4) + exp(3) + exp(-2) + exp(0.5)) - 4, 1e-6);
    assert_int_equal(attack_rank(z, 5, 0), 1);
    assert_int_equal(attack_rank(z, 5, 4), 3);
}

static void test_loss_gradients(void **state)
{
    const enum attack_loss kind[] = {ATTACK_CE, ATTACK_DLR, ATTACK_DLR_TARGETED, ATTACK_DIFFERENCE};

    (void)state;
    for (int k = 0; k < 4; k++)
        for (int32_t y = 0; y < 5; y++) {
            float z[] = {1, 4, 3, -2, 0.5f}, dz[5];
            attack_loss_row(kind[k], z, 5, y, (y + 2) % 5, dz);
            for (int i = 0; i < 5; i++) {
                const float at = z[i];
                z[i] = at + 1.0f / 256;
                const double up = attack_loss_row(kind[k], z, 5, y, (y + 2) % 5, NULL);
                z[i] = at - 1.0f / 256;
                const double down = attack_loss_row(kind[k], z, 5, y, (y + 2) % 5, NULL);
                z[i] = at;
                assert_near((up - down) * 128, dz[i], 1e-4);
            }
        }
}

/* Against plain bisection on tau. */
static void test_projection(void **state)
{
    enum { DIM = 60 };
    struct rng r = rng_at(5, RNG_TEST, 0, 0);

    (void)state;
    for (int trial = 0; trial < 200; trial++) {
        float v[DIM], w[DIM], d[DIM];
        double dot = 0, level, reach = 0, moved = 0, most = 0;
        for (int i = 0; i < DIM; i++) {
            v[i] = trial % 3 == 0 ? (float)rng_below(&r, 2) : rng_uniform(&r);
            w[i] = rng_below(&r, 8) == 0 ? 0 : rng_normal(&r);
            dot += (double)w[i] * (double)v[i];
        }
        level = dot + (trial % 2 ? 1 : -1) * (trial % 5 == 0 ? 1000 : 3 * rng_uniform_double(&r));
        fab_project(v, w, level, DIM, d);
        const double sign = dot - level >= 0 ? 1 : -1;
        double lo = 0, hi = 1;
        for (int k = 0; k < 60; k++) {
            const double tau = (lo + hi) / 2;
            double sum = 0;
            for (int i = 0; i < DIM; i++) {
                const double wi = sign * (double)w[i];
                sum += fabs(wi) * fmin(tau, wi > 0 ? v[i] : 1 - v[i]);
            }
            *(sum < fabs(dot - level) ? &lo : &hi) = tau;
        }
        for (int i = 0; i < DIM; i++) {
            assert_true((double)(v[i] + d[i]) > -1e-6 && (double)(v[i] + d[i]) < 1 + 1e-6);
            assert_true(w[i] != 0 || d[i] == 0);
            moved += (double)w[i] * (double)d[i];
            most = fmax(most, fabs((double)d[i]));
            reach +=
                fabs((double)w[i]) * (sign * (double)w[i] > 0 ? (double)v[i] : 1 - (double)v[i]);
        }
        assert_near(moved, -sign * fmin(fabs(dot - level), reach), 1e-4);
        if (fabs(dot - level) < reach)
            assert_near(most, hi, 1e-5);
    }
}

/* ---- the linear network ---------------------------------------------------------------------- */

enum { N = 12 };

struct linear {
    struct graph *g;
    struct dataset *d;
    struct attack_model *m;
    double distance[N]; /* exact, to the nearest other class */
    float adv[N * TINY_ELEMS];
    int64_t sample[N];
    uint8_t broken[N];
    struct attack_batch b;
};

/* Two classes (the third is out of reach), images far from 0 and 1, labels as predicted: the exact
 * distance is (z_y - z_k) / ||w_k - w_y||_1. */
static void linear_init(struct linear *l)
{
    l->g = tiny_linear(3);
    l->d = tiny_data(N, 4);
    float *x = (float *)(uintptr_t)l->d->floats;
    for (int i = 0; i < N * TINY_ELEMS; i++)
        x[i] = 0.4f + 0.2f * x[i];
    assert_int_equal(attack_model_new(NULL, l->g, 0, EXEC_FP32, N, &l->m), 0);
    const struct node *fc = &l->g->node[l->g->n_node - 1];
    const float *w = op_in(l->g, fc, 1)->data;
    float z[N * TINY_CLASSES];
    op_in(l->g, fc, 2)->data[2] = -1e4f;
    graph_touch(l->g);
    assert_int_equal(attack_logits(l->m, x, N, z), 0);
    for (int i = 0; i < N; i++) {
        const float *row = z + i * TINY_CLASSES;
        const int32_t y = attack_rank(row, TINY_CLASSES, 0);
        ((int32_t *)(uintptr_t)l->d->labels)[i] = y;
        double norm = 0;
        for (int j = 0; j < TINY_ELEMS; j++)
            norm += fabs((double)w[j] - (double)w[TINY_ELEMS + j]);
        l->distance[i] = ((double)row[y] - (double)row[1 - y]) / norm;
        assert_true(l->distance[i] < 0.3);
        l->sample[i] = i;
    }
    l->b = (struct attack_batch){N, x, l->d->labels, l->sample, 0, 7, l->adv, l->broken};
}

static void linear_release(struct linear *l)
{
    attack_model_free(l->m);
    graph_free(l->g);
    tiny_free(l->d);
}

static const struct fab_params fab_standard = {8 / 255.0, 100, 1, 9, 0.1, 1.05, 0.9};

/* The last step crosses the plane by eta - 1 of the tenth that the walk has stepped back. */
static void test_fab_finds_the_exact_distance(void **state)
{
    struct fab_params p = fab_standard;
    double distance[N];
    struct linear l;

    (void)state;
    linear_init(&l);
    for (int round = 0; round < 2; round++) {
        p.eta = round == 0 ? 1.05 : 1.001;
        memset(l.broken, 0, sizeof l.broken);
        assert_int_equal(fab_attack(l.m, &p, &l.b, distance), 0);
        for (int i = 0; i < N; i++) {
            assert_true(distance[i] >= l.distance[i] * 0.9999);
            assert_true(distance[i] <= l.distance[i] * (1 + 0.11 * (p.eta - 1) + 1e-4));
            assert_int_equal(l.broken[i], distance[i] <= p.eps);
        }
    }
    linear_release(&l);
}

/* Just above the exact distance every attack with gradients breaks the image, just below none does. */
static void test_attacks_break_at_the_exact_distance(void **state)
{
    struct linear l;

    (void)state;
    linear_init(&l);
    for (int i = 0; i < N; i++) {
        for (int above = 0; above < 2; above++)
            for (int kind = 0; kind < 3; kind++) {
                struct attack_batch b = {
                    1,       l.b.pixels + i * TINY_ELEMS, l.b.label + i, l.sample + i, 0, 7, l.adv,
                    l.broken};
                const double eps = l.distance[i] * (above ? 1.002 : 0.998);
                struct apgd_params a = apgd_defaults();
                struct fab_params f = fab_standard;
                a.eps = f.eps = eps;
                f.eta = 1.001;
                l.broken[0] = 0;
                if (kind == 0)
                    assert_int_equal(apgd_attack(l.m, &a, ATTACK_CE, &b, NULL), 0);
                else if (kind == 1)
                    assert_int_equal(apgd_attack(l.m, &a, ATTACK_DLR, &b, NULL), 0);
                else
                    assert_int_equal(fab_attack(l.m, &f, &b, NULL), 0);
                assert_int_equal(l.broken[0], above);
            }
    }
    linear_release(&l);
}

static void test_square_breaks_well_above_the_distance(void **state)
{
    struct square_params p = {.queries = 5000, .restarts = 1, .p_init = 0.8};
    struct linear l;

    (void)state;
    linear_init(&l);
    for (int i = 0; i < N; i++)
        for (int above = 0; above < 2; above++) {
            struct attack_batch b = {
                1, l.b.pixels + i * TINY_ELEMS, l.b.label + i, l.sample + i, 0, 7, l.adv, l.broken};
            p.eps = l.distance[i] * (above ? 1.8 : 0.999);
            p.per_image = i % 2;
            l.broken[0] = 0;
            assert_int_equal(square_attack(l.m, &p, &b), 0);
            assert_int_equal(l.broken[0], above);
        }
    linear_release(&l);
}

/* ---- the driver ------------------------------------------------------------------------------ */

static struct eval_result *evaluate(struct graph *g, const struct dataset *d,
                                    const struct eval_options *opt)
{
    struct eval_result *r = mem_array(1, sizeof *r);

    if (eval_run(g, d, opt, r) < 0)
        fail_msg("%s", err_message());
    return r;
}

static struct attack_spec parsed(const char *text)
{
    struct attack_spec s;

    if (attack_spec_parse(text, &s) < 0)
        fail_msg("%s: %s", text, err_message());
    return s;
}

/* A network whose classes are close, so that eps decides: labels are its own predictions. */
static struct graph *fragile(struct dataset *d)
{
    struct graph *g = tiny_net(TINY_BN | TINY_MASKED, 6);
    float *z = mem_array((size_t)d->n * TINY_CLASSES, sizeof *z);
    struct exec *e = NULL;

    assert_int_equal(exec_new(g, EXEC_INFER, d->n, NULL, &e), 0);
    assert_int_equal(exec_infer(e, d->floats, d->n, 0, z), 0);
    exec_free(e);
    for (int64_t i = 0; i < d->n; i++)
        ((int32_t *)(uintptr_t)d->labels)[i] = attack_rank(z + i * TINY_CLASSES, TINY_CLASSES, 0);
    mem_free(z);
    return g;
}

static void test_autoattack_is_at_or_below_pgd(void **state)
{
    struct dataset *d = tiny_data(60, 9);
    struct graph *g = fragile(d);
    const char *eps[] = {"0.01", "0.03", "0.06"};
    int64_t seen = 0;

    (void)state;
    for (int i = 0; i < 3; i++) {
        char text[2][64];
        snprintf(text[0], 64, "pgd:steps=50,alpha=0.005,eps=%s", eps[i]);
        snprintf(text[1], 64, "autoattack:eps=%s", eps[i]);
        struct attack_spec spec[2] = {parsed(text[0]), parsed(text[1])};
        attack_stage_set(&spec[1].stage[3], "steps", 200);
        const struct eval_options opt = {
            .seed = 7, .branch = {true}, .specs = spec, .n_specs = 2, .flags = true};
        struct eval_result *r = evaluate(g, d, &opt);
        const struct eval_branch *b = &r->branch[0];
        assert_int_equal(b->clean.correct, 60);
        assert_true(b->attack[1].score.correct <= b->attack[0].score.correct);
        for (int s = 1; s < 4; s++)
            assert_true(b->attack[1].robust_after[s] <= b->attack[1].robust_after[s - 1]);
        assert_int_equal(b->attack[1].robust_after[3], b->attack[1].score.correct);
        assert_true(b->flags.n == 60 && !b->flags.randomised && !b->flags.probabilities);
        assert_true(b->flags.no_targeted_dlr && !b->flags.no_dlr);
        seen |= b->attack[1].score.correct > 0 && b->attack[1].score.correct < 60;
        mem_free(r);
    }
    assert_true(seen);
    graph_free(g);
    tiny_free(d);
}

struct store { /* the last saved progress, and an end after so many saves */
    struct attack_progress p;
    uint8_t robust[64];
    int left;
    bool have;
};

static int store_save(void *ctx, int branch, int32_t attack, const struct attack_progress *p)
{
    struct store *s = ctx;

    assert_true(branch == 0 && attack == 0);
    memcpy(s->robust, p->robust, (size_t)p->n);
    s->p = *p;
    s->have = true;
    return --s->left == 0 ? ERR_INTERRUPTED : 0;
}

static int store_load(void *ctx, int branch, int32_t attack, struct attack_progress *p)
{
    struct store *s = ctx;

    (void)branch;
    (void)attack;
    if (!s->have)
        return 0;
    p->stage = s->p.stage;
    p->next = s->p.next;
    memcpy(p->robust, s->robust, (size_t)p->n);
    memcpy(p->robust_after, s->p.robust_after, sizeof p->robust_after);
    return 1;
}

static void test_interrupted_runs_end_alike(void **state)
{
    struct dataset *d = tiny_data(60, 9);
    struct graph *g = fragile(d);
    struct attack_spec spec = parsed("autoattack:eps=0.02");
    struct store s = {.left = 1};
    int starts = 0, rc;

    (void)state;
    spec.stage[1] = attack_stage_defaults(ATTACK_APGD_DLR); /* three classes: no targeted DLR */
    spec.stage[1].eps = spec.stage[0].eps;
    attack_stage_set(&spec.stage[3], "steps", 60);
    struct eval_options opt = {
        .seed = 7, .batch = 16, .branch = {true}, .specs = &spec, .n_specs = 1};
    cpu_set_threads(1);
    struct eval_result *whole = evaluate(g, d, &opt), *r = mem_array(1, sizeof *r);
    cpu_set_threads(3);
    opt.ctx = &s;
    opt.attack_load = store_load;
    opt.attack_save = store_save;
    do {
        s.left = 1; /* each run does one batch */
        rc = eval_run(g, d, &opt, r);
        starts++;
    } while (rc == ERR_INTERRUPTED && starts < 100);
    cpu_set_threads(1);
    assert_int_equal(rc, 0);
    assert_int_equal(starts, 4 * 4 + 1);
    assert_memory_equal(whole->branch[0].attack[0].robust_after,
                        r->branch[0].attack[0].robust_after,
                        sizeof r->branch[0].attack[0].robust_after);
    mem_free(whole);
    mem_free(r);
    graph_free(g);
    tiny_free(d);
}

static void test_curve_rises(void **state)
{
    struct dataset *d = tiny_data(20, 9);
    struct graph *g = fragile(d);
    struct apgd_params p = apgd_defaults();
    float adv[20 * TINY_ELEMS];
    int64_t sample[20];
    uint8_t broken[20] = {0};
    double curve[101];
    struct attack_model *m;

    (void)state;
    for (int i = 0; i < 20; i++)
        sample[i] = i;
    struct attack_batch b = {20, d->floats, d->labels, sample, 0, 7, adv, broken};
    assert_int_equal(attack_model_new(NULL, g, 0, EXEC_FP32, 20, &m), 0);
    assert_int_equal(apgd_attack(m, &p, ATTACK_CE, &b, curve), 0);
    for (int i = 1; i <= 100; i++)
        assert_true(curve[i] >= curve[i - 1]);
    assert_true(curve[100] > curve[0]);
    assert_true(m->forwards > 20 * 3 * 100);
    attack_model_free(m);
    graph_free(g);
    tiny_free(d);
}

/* ---- flags ----------------------------------------------------------------------------------- */

/* A network that answers otherwise at every pass, by a hundredth of a logit. */
static int drift(void *ctx, int64_t forwards)
{
    struct graph *g = ctx;

    (void)forwards;
    g->params[g->n_params - 1] += 0.01f;
    graph_touch(g);
    return 0;
}

static void test_flags_see_outputs_that_change(void **state)
{
    struct dataset *d = tiny_data(20, 9);
    struct graph *g = fragile(d);
    struct attack_model *m;
    struct attack_flags f;

    (void)state;
    assert_int_equal(attack_model_new(NULL, g, 0, EXEC_FP32, 20, &m), 0);
    assert_int_equal(autoattack_flags(m, d, 20, 7, &f), 0);
    assert_false(f.randomised || f.probabilities);
    m->tick = drift;
    m->ctx = g;
    assert_int_equal(autoattack_flags(m, d, 20, 7, &f), 0);
    assert_true(f.randomised);
    attack_model_free(m);
    graph_free(g);
    tiny_free(d);
}

/* ---- the audit ------------------------------------------------------------------------------- */

static struct audit_result *audited(struct graph *g, const struct dataset *d,
                                    struct graph *transfer)
{
    const struct audit_options opt = {
        .limit = 30, .batch = 13, .seed = 7, .eps = 0.01, .queries = 100, .transfer = transfer};
    struct audit_result *r = mem_array(1, sizeof *r);

    if (audit_run(g, d, &opt, r) < 0)
        fail_msg("%s", err_message());
    return r;
}

/* Logits a million times as large: the cross-entropy has no gradient left, and the audit says so. */
static void test_audit_sees_masked_gradients(void **state)
{
    struct dataset *d = tiny_data(40, 9);
    struct graph *g = fragile(d);
    struct audit_result *open = audited(g, d, g);

    (void)state;
    assert_true(open->n == 30 && open->clean == 30 && open->room == 1);
    assert_true(open->check[5].pass && open->check[6].pass && open->check[4].pass);
    assert_true(open->transfer >= 0 && open->transfer <= open->clean);
    const struct node *fc = &g->node[g->n_node - 1];
    for (int in = 1; in < 3; in++)
        for (int64_t i = 0; i < shape_elems(&op_in(g, fc, in)->shape); i++)
            op_in(g, fc, in)->data[i] *= 1e6f;
    graph_touch(g);
    struct audit_result *masked = audited(g, d, NULL);
    assert_int_equal(masked->clean, 30);
    assert_int_equal(masked->transfer, -1);
    assert_true(masked->by_steps[5] >= open->by_steps[5]);
    assert_false(masked->check[5].pass); /* the loss does not rise */
    mem_free(open);
    mem_free(masked);
    graph_free(g);
    tiny_free(d);
}

/* ---- specifications -------------------------------------------------------------------------- */

static void test_specifications(void **state)
{
    const char *good[] = {"pgd",
                          "pgd:eps=2/255,alpha=0.001,steps=7,restarts=3,start=clean",
                          "apgd-ce:steps=20",
                          "apgd-dlr:rho=0.5",
                          "apgd-t:targets=3,eps=0.1",
                          "fab-t:eta=1.1,beta=0.8,alpha_max=0.2",
                          "square:draws=image,p_init=0.3,steps=100000"};
    const char *bad[] = {"",
                         "fgsm",
                         "autoattack:slow",
                         "autoattack:steps=3",
                         "apgd-ce:x",
                         "apgd-ce:alpha=1",
                         "square:draws=both",
                         "fab-t:steps=0",
                         "apgd-t:steps=10001",
                         "autoattack:eps=9",
                         "square:steps=1.5"};
    struct attack_spec s, t;
    char text[ATTACK_TEXT];

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        s = parsed(good[i]);
        t = parsed(attack_stage_text(&s.stage[0], text));
        assert_string_equal(s.name, t.name);
        assert_near(s.stage[0].eps, t.stage[0].eps, 1e-9);
        for (int k = 0; k < ATTACK_MAX_KEYS; k++)
            assert_near(s.stage[0].value[k], t.stage[0].value[k], 1e-9);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(attack_spec_parse(bad[i], &s), ERR_ARG);
    s = parsed("autoattack:fast,eps=2/255");
    assert_true(s.n_stage == 2 && s.stage[1].kind == ATTACK_APGD_T);
    assert_near(s.stage[1].eps, 2.0 / 255, 1e-12);
    s = parsed("autoattack");
    assert_true(s.n_stage == 4 && attack_stage_get(&s.stage[3], "steps") == 5000 &&
                attack_stage_get(&s.stage[2], "targets") == 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checkpoints),
        cmocka_unit_test(test_square_sides),
        cmocka_unit_test(test_loss_values),
        cmocka_unit_test(test_loss_gradients),
        cmocka_unit_test(test_projection),
        cmocka_unit_test(test_fab_finds_the_exact_distance),
        cmocka_unit_test(test_attacks_break_at_the_exact_distance),
        cmocka_unit_test(test_square_breaks_well_above_the_distance),
        cmocka_unit_test(test_autoattack_is_at_or_below_pgd),
        cmocka_unit_test(test_interrupted_runs_end_alike),
        cmocka_unit_test(test_curve_rises),
        cmocka_unit_test(test_flags_see_outputs_that_change),
        cmocka_unit_test(test_audit_sees_masked_gradients),
        cmocka_unit_test(test_specifications),
    };
    cpu_set_threads(1); /* tiny work: threads would only wait */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
