/*
 * APGD and FAB-T written out once more, image by image, from the papers and the authors' code: the same
 * best losses after every step, the same distances. A wrong momentum, checkpoint, bias toward the image
 * or restart still attacks, so bounds on what is broken cannot see it.
 */
#include <math.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/graph/rng.h"
#include "tests/tiny_net.h"
#include "trainer/attack/apgd.h"
#include "trainer/attack/attack.h"
#include "trainer/attack/fab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { N = 12, ELEMS = TINY_ELEMS, K = TINY_CLASSES, STEPS = 100 };
#define SEED 7

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        if ((call) < 0)                                                                            \
            fail_msg("%s", err_message());                                                         \
    } while (0)

/* A network and images whose labels are its own predictions. */
struct scene {
    struct graph *g;
    struct dataset *d;
    struct attack_model *m;
    float adv[N * ELEMS];
    int64_t sample[N];
    uint8_t broken[N];
    struct attack_batch b;
};

static void scene_init(struct scene *s)
{
    float z[N * K];

    *s = (struct scene){.g = tiny_net(TINY_BN | TINY_MASKED, 6), .d = tiny_data(N, 9)};
    assert_ok(attack_model_new(NULL, s->g, 0, EXEC_FP32, N, &s->m));
    assert_ok(attack_logits(s->m, s->d->floats, N, z));
    for (int i = 0; i < N; i++) {
        ((int32_t *)(uintptr_t)s->d->labels)[i] = attack_rank(z + i * K, K, 0);
        s->sample[i] = i;
    }
    s->b =
        (struct attack_batch){N, s->d->floats, s->d->labels, s->sample, 0, SEED, s->adv, s->broken};
}

static void scene_release(struct scene *s)
{
    attack_model_free(s->m);
    graph_free(s->g);
    tiny_free(s->d);
}

static float clip(float v, float lo, float hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

static void start(const struct scene *s, enum attack_id id, int i, int run, float reach, float *x)
{
    const float *clean = s->d->floats + i * ELEMS;
    struct rng r = attack_rng(&s->b, id, i, run);
    float u[ELEMS], most = 0;

    for (int j = 0; j < ELEMS; j++)
        most = fmaxf(most, fabsf(u[j] = rng_range(&r, -1, 1)));
    for (int j = 0; j < ELEMS; j++)
        x[j] = clip(clean[j] + reach * (u[j] / most), 0, 1);
}

/* ---- APGD ------------------------------------------------------------------------------------ */

static double look(struct scene *s, int i, const float *x, float *grad)
{
    double loss;

    assert_ok(attack_loss_grad(s->m, ATTACK_CE, x, 1, s->d->labels + i, NULL, &loss, grad, NULL));
    return loss;
}

static float project(float v, float clean, float eps)
{
    return clip(clip(v, clean - eps, clean + eps), 0, 1);
}

/* Best loss of image i after every step, added to sum[]. Returns how often a step length was halved for
 * the second reason alone: nothing was gained since the last checkpoint at the same length. */
static int apgd_of(struct scene *s, const struct apgd_params *p, int i, double sum[STEPS + 1])
{
    static const int checkpoint[] = {22, 41, 57, 70, 80, 87, 93, 99, -1};
    const float *clean = s->d->floats + i * ELEMS, eps = (float)p->eps;
    float x[ELEMS], old[ELEMS], top[ELEMS], grad[ELEMS], top_grad[ELEMS];
    double history[STEPS] = {0}, best, at_check, eta = 2 * p->eps;
    bool halved = true;
    int next = 0, last = 0, alone = 0;

    start(s, ATTACK_ID_APGD_CE, i, 0, eps, x);
    at_check = best = look(s, i, x, grad);
    memcpy(old, x, sizeof x);
    memcpy(top, x, sizeof x);
    memcpy(top_grad, grad, sizeof grad);
    sum[0] += best;
    for (int t = 0; t < STEPS; t++) {
        const float a = t == 0 ? 1 : 0.75f;
        for (int j = 0; j < ELEMS; j++) {
            const float sign = grad[j] > 0 ? 1 : grad[j] < 0 ? -1 : 0;
            const float z = project(x[j] + (float)eta * sign, clean[j], eps), was = x[j];
            x[j] = project(x[j] + a * (z - x[j]) + (1 - a) * (x[j] - old[j]), clean[j], eps);
            old[j] = was;
        }
        history[t] = look(s, i, x, grad);
        if (history[t] > best) {
            best = history[t];
            memcpy(top, x, sizeof x);
            memcpy(top_grad, grad, sizeof grad);
        }
        sum[t + 1] += best;
        if (t + 1 != checkpoint[next])
            continue;
        int rose = 0;
        for (int k = last; k <= t; k++)
            rose += history[k] > history[k > 0 ? k - 1 : STEPS - 1];
        const bool slow = rose <= p->rho * (t + 1 - last), stuck = !halved && at_check >= best;
        alone += stuck && !slow;
        halved = slow || stuck;
        at_check = best;
        last = checkpoint[next++];
        if (halved) {
            eta /= 2;
            memcpy(x, top, sizeof x);
            memcpy(grad, top_grad, sizeof grad);
        }
    }
    return alone;
}

static void test_apgd_is_its_formula(void **state)
{
    /* With a small rho few steps need to rise: then what is gained since the last checkpoint decides. */
    static const double eps[] = {8.0 / 255, 0.1, 0.3}, rho[] = {0.75, 0.75, 0.2};
    struct scene s;
    int alone = 0;

    (void)state;
    for (size_t e = 0; e < sizeof eps / sizeof eps[0]; e++) {
        struct apgd_params p = apgd_defaults();
        double curve[STEPS + 1], want[STEPS + 1] = {0};

        scene_init(&s);
        p.eps = eps[e];
        p.rho = rho[e];
        assert_ok(apgd_attack(s.m, &p, ATTACK_CE, &s.b, curve));
        for (int i = 0; i < N; i++)
            alone += apgd_of(&s, &p, i, want);
        for (int t = 0; t <= STEPS; t++)
            if (!(fabs(curve[t] - want[t] / N) <= 1e-6 * fabs(curve[t])))
                fail_msg("eps %g, step %d: %.9g, not %.9g", p.eps, t, curve[t], want[t] / N);
        scene_release(&s);
    }
    assert_true(alone > 0); /* both reasons to halve were seen */
}

/* ---- FAB ------------------------------------------------------------------------------------- */

static double longest(const float *d)
{
    double most = 1e-8;

    for (int j = 0; j < ELEMS; j++)
        most = fmax(most, fabs((double)d[j]));
    return most;
}

/* One run toward a target from x; *best: least distance so far. */
static void walk(struct scene *s, const struct fab_params *p, int i, int32_t target, float *x,
                 double *best)
{
    const float *x0 = s->d->floats + i * ELEMS, eta = (float)p->eta, beta = (float)p->beta;
    float w[ELEMS], d1[ELEMS], d2[ELEMS], z[K];
    double f;

    for (int t = 0; t < p->steps; t++) {
        assert_ok(attack_loss_grad(s->m, ATTACK_DIFFERENCE, x, 1, s->d->labels + i, &target, &f, w,
                                   NULL));
        double level = -f;
        for (int j = 0; j < ELEMS; j++)
            level += (double)w[j] * (double)x[j];
        fab_project(x, w, level, ELEMS, d1);
        fab_project(x0, w, level, ELEMS, d2);
        const double r1 = longest(d1), r2 = longest(d2);
        const float a = (float)fmin(r1 / (r1 + r2), p->alpha_max);
        for (int j = 0; j < ELEMS; j++)
            x[j] = clip((1 - a) * (x[j] + eta * d1[j]) + a * (x0[j] + eta * d2[j]), 0, 1);
        assert_ok(attack_logits(s->m, x, 1, z));
        if (!attack_is_wrong(z, K, s->d->labels[i]))
            continue;
        double distance = 0;
        for (int j = 0; j < ELEMS; j++)
            distance = fmax(distance, fabs((double)x[j] - (double)x0[j]));
        *best = fmin(*best, distance);
        for (int j = 0; j < ELEMS; j++)
            x[j] = x0[j] + beta * (x[j] - x0[j]);
    }
}

/* Two targets; restarts after the first begin at half the best distance, or half of eps. */
static double fab_of(struct scene *s, const struct fab_params *p, int i, int restarts)
{
    const float *x0 = s->d->floats + i * ELEMS;
    float x[ELEMS], z[K];
    double best = INFINITY;

    assert_ok(attack_logits(s->m, x0, 1, z));
    for (int rank = 1; rank <= 2; rank++)
        for (int restart = 0; restart < restarts; restart++) {
            if (restart == 0)
                memcpy(x, x0, sizeof x);
            else
                start(s, ATTACK_ID_FAB_T, i, 2 * (rank - 1) + restart,
                      (float)fmin(best, p->eps) / 2, x);
            walk(s, p, i, attack_rank(z, K, rank), x, &best);
        }
    return best;
}

static void test_fab_is_its_formula(void **state)
{
    struct fab_params p = {.eps = 0.05,
                           .steps = 1,
                           .restarts = 2,
                           .targets = 2,
                           .alpha_max = 0.1,
                           .eta = 1.05,
                           .beta = 0.9};
    struct scene s;
    double got[N];
    int gained = 0; /* by the second restart */

    (void)state;
    for (p.steps = 1; p.steps <= 6; p.steps++) { /* few steps: what a restart begins with is seen */
        scene_init(&s);
        p.alpha_max = p.steps % 2 ? 0.1 : 0.01; /* so small that it decides */
        assert_ok(fab_attack(s.m, &p, &s.b, got));
        for (int i = 0; i < N; i++) {
            const double want = fab_of(&s, &p, i, 2);
            if (isinf(want) ? !isinf(got[i]) : !(fabs(got[i] - want) <= 1e-6 * want))
                fail_msg("steps %d, image %d: %.9g, not %.9g", p.steps, i, got[i], want);
            gained += want < fab_of(&s, &p, i, 1);
        }
        scene_release(&s);
    }
    assert_true(gained > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_apgd_is_its_formula),
        cmocka_unit_test(test_fab_is_its_formula),
    };
    cpu_set_threads(1); /* tiny work: threads would only wait */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
