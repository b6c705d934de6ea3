/* Evaluation: clean and corrupted accuracy against plain loops, walks, limits, refusals. */
#include "trainer/eval/eval.h"

#include <math.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/graph/arch.h"
#include "core/op/op.h"
#include "tests/tiny_net.h"
#include "trainer/eval/stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { N = 50, K = TINY_CLASSES };

static struct eval_result *evaluate(struct graph *g, const struct dataset *d,
                                    const struct eval_options *opt)
{
    struct eval_result *r = mem_array(1, sizeof *r);

    if (eval_run(g, d, opt, r) < 0)
        print_error("%s\n", err_message());
    return r;
}

/* Images whose prediction is the label, one executor call each. */
static int64_t correct_by_hand(struct graph *g, const float *pixels, const int32_t *labels,
                               int64_t n, int branch)
{
    struct exec *e;
    int64_t correct = 0;
    float z[K];

    assert_int_equal(exec_new(g, EXEC_INFER, 1, NULL, &e), 0);
    for (int64_t i = 0; i < n; i++) {
        assert_int_equal(exec_infer(e, pixels + i * TINY_ELEMS, 1, branch, z), 0);
        int best = 0;
        for (int k = 1; k < K; k++)
            best = z[k] > z[best] ? k : best;
        correct += best == labels[i];
    }
    exec_free(e);
    return correct;
}

static void test_clean_accuracy_of_both_branches(void **state)
{
    const struct eval_options opt = {.batch = 7, .limit = N - 1, .branch = {true, true}};
    struct graph *g = tiny_net(TINY_BN | TINY_DUAL, 5);
    struct dataset *d = tiny_data(N, 3);
    double lo, hi;

    (void)state;
    for (int64_t i = g->n_params - 6; i < g->n_params; i++)
        g->params[i] += 0.5f; /* the last values are the second branch's: now the branches differ */
    graph_touch(g);
    struct eval_result *r = evaluate(g, d, &opt);
    assert_int_equal(r->n, N - 1);
    assert_int_equal(r->n_branch, 2);
    for (int branch = 0; branch < 2; branch++) {
        const struct eval_score *s = &r->branch[branch].clean;
        assert_int_equal(r->branch[branch].branch, branch);
        assert_int_equal(s->correct, correct_by_hand(g, d->floats, d->labels, N - 1, branch));
        stats_wilson(s->correct, s->n, &lo, &hi);
        assert_true(s->lo == lo && s->hi == hi);
    }
    mem_free(r);
    graph_free(g);
    tiny_free(d);
}

/* What the evaluator must have seen for one type and severity. */
static int64_t corrupted_by_hand(struct graph *g, const struct dataset *d, enum corrupt_type type,
                                 int severity)
{
    float pixels[N * TINY_ELEMS];
    uint8_t from[TINY_ELEMS], to[TINY_ELEMS];

    for (int64_t i = 0; i < N; i++) {
        struct rng r =
            rng_at(11, RNG_CORRUPT, (uint32_t)type * 8 + (uint32_t)severity, (uint64_t)i);
        assert_int_equal(data_image_u8(d, i, from), 0);
        assert_int_equal(corrupt_apply(type, severity, from, TINY_SIDE, TINY_SIDE, &r, to), 0);
        for (int j = 0; j < TINY_ELEMS; j++)
            pixels[i * TINY_ELEMS + j] = (float)to[j] / 255;
    }
    return correct_by_hand(g, pixels, d->labels, N, 0);
}

static void test_corruptions_equal_plain_loops(void **state)
{
    const struct eval_options opt = {.batch = 16,
                                     .seed = 11,
                                     .branch = {true, false},
                                     .corruptions = "gaussian_noise,contrast",
                                     .severities = 1 << 0 | 1 << 4};
    const enum corrupt_type type[] = {CORRUPT_GAUSSIAN_NOISE, CORRUPT_CONTRAST};
    struct graph *g = tiny_net(TINY_BN, 5);
    struct dataset *d = tiny_data(N, 3);
    double sum = 0;

    (void)state;
    struct eval_result *r = evaluate(g, d, &opt);
    const struct eval_branch *b = &r->branch[0];
    assert_int_equal(b->n_corruption, 2);
    for (int t = 0; t < 2; t++) {
        assert_string_equal(b->corruption[t].type, corrupt_name(type[t]));
        assert_int_equal(b->corruption[t].score[2].n, 0);
        for (int s = 1; s <= 5; s += 4) {
            const struct eval_score *score = &b->corruption[t].score[s - 1];
            assert_int_equal(score->correct, corrupted_by_hand(g, d, type[t], s));
            sum += score->accuracy;
        }
    }
    assert_true(fabs(b->corruption_mean.accuracy - sum / 4) < 1e-12);
    assert_int_equal(b->corruption_mean.n, N);
    assert_true(b->corruption_mean.lo < sum / 4 && sum / 4 < b->corruption_mean.hi);
    mem_free(r);
    graph_free(g);
    tiny_free(d);
}

struct walk {
    const struct graph *g;
    value_id tap;
    int64_t seen, calls;
    double sum;
    float *z; /* [N][K] */
};

static int on_walk(void *ctx, const struct exec *e, int64_t first, int64_t n, const float *logits,
                   const int32_t *labels)
{
    struct walk *w = ctx;

    memcpy(w->z + first * K, logits, (size_t)(n * K) * sizeof *logits);
    assert_true(first == w->seen && labels[0] >= 0);
    for (int64_t i = 0; i < n * shape_elems(&w->g->value[w->tap].shape); i++)
        w->sum += (double)exec_tap(e, w->tap)[i];
    w->seen += n;
    w->calls++;
    return 0;
}

static void test_walks_and_logits(void **state)
{
    struct graph *g = tiny_net(TINY_BN, 5);
    struct dataset *d = tiny_data(N, 3);
    float z[N * K], one[K];
    struct walk a = {.g = g, .tap = g->node[2].out[0], .z = z}, b = a;
    struct exec *e;

    (void)state;
    assert_int_equal(eval_walk(g, d, 20, 8, 0, &a.tap, 1, on_walk, &a), 0);
    assert_int_equal(eval_walk(g, d, 20, 20, 0, &b.tap, 1, on_walk, &b), 0);
    assert_true(a.seen == 20 && a.calls == 3 && b.calls == 1);
    assert_true(fabs(a.sum - b.sum) < 1e-3 && a.sum > 0);
    assert_int_equal(exec_new(g, EXEC_INFER, 1, NULL, &e), 0);
    assert_int_equal(exec_infer(e, d->floats + 19 * TINY_ELEMS, 1, 0, one), 0);
    for (int k = 0; k < K; k++)
        assert_true(fabs((double)(one[k] - z[19 * K + k])) < 1e-5);
    exec_free(e);
    graph_free(g);
    tiny_free(d);
}

static int stop_at_once(void *ctx, int64_t done, int64_t all)
{
    *(int64_t *)ctx = all;
    assert_true(done <= all);
    return ERR_INTERRUPTED;
}

static int result_of(struct graph *g, const struct dataset *d, const struct eval_options *opt)
{
    struct eval_result *r = mem_array(1, sizeof *r);
    int rc = eval_run(g, d, opt, r);

    mem_free(r);
    return rc;
}

static void test_refusals_and_interruption(void **state)
{
    struct pgd_params attack = pgd_defaults(2);
    struct graph *g = tiny_net(TINY_BN, 5);
    struct dataset *d = tiny_data(N, 3);
    int64_t all = 0;
    struct eval_options opt = {.branch = {true, false}, .attack = &attack, .n_attack = 1};

    (void)state;
    opt.progress = stop_at_once;
    opt.ctx = &all;
    assert_int_equal(result_of(g, d, &opt), ERR_INTERRUPTED);
    assert_int_equal(all, N * (1 + 3 * 2 + 1)); /* a gradient counts three */
    opt = (struct eval_options){.branch = {false, true}};
    assert_int_equal(result_of(g, d, &opt), ERR_ARG);
    opt = (struct eval_options){0};
    assert_int_equal(result_of(g, d, &opt), ERR_ARG);
    opt = (struct eval_options){.branch = {true, false}, .corruptions = "rain"};
    assert_int_equal(result_of(g, d, &opt), ERR_ARG);
    d->classes = 4;
    opt = (struct eval_options){.branch = {true, false}};
    assert_int_equal(result_of(g, d, &opt), ERR_DATA);
    graph_free(g);
    tiny_free(d);
}

/* ---- how many images come ---------------------------------------------------------------------- */

/* Kernels and precision do not depend on it: three images are in bf16 as forty are, with the same logits. */
static void test_few_images_are_evaluated_like_many(void **state)
{
    const struct eval_options opt = {.limit = 3, .precision = EXEC_BF16, .branch = {true}};
    struct graph *g = NULL;
    struct dataset *d = NULL;
    float many[40 * 10], few[3 * 10], *x = mem_aligned(40 * 3072, sizeof *x);
    struct attack_model *m;

    (void)state;
    assert_int_equal(arch_build("resnet8", 10, 32, 32, 1, &g), 0);
    assert_int_equal(data_open("synth:", NULL, DATA_TEST, 1, &d), 0);
    struct eval_result *r = evaluate(g, d, &opt);
    assert_int_equal(r->n, 3);
    assert_int_equal(r->precision, EXEC_BF16);
    for (int64_t i = 0; i < d->n && i < 40; i++)
        assert_int_equal(data_image(d, i, x + i * 3072), 0);
    assert_int_equal(attack_model_new(NULL, g, 0, EXEC_BF16, 40, &m), 0);
    assert_int_equal(attack_logits(m, x, 40, many), 0);
    attack_model_free(m);
    assert_int_equal(attack_model_new(NULL, g, 0, EXEC_BF16, 3, &m), 0);
    assert_int_equal(attack_logits(m, x, 3, few), 0);
    attack_model_free(m);
    assert_memory_equal(many, few, sizeof few);
    mem_free(r);
    mem_free(x);
    data_close(d);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean_accuracy_of_both_branches),
        cmocka_unit_test(test_corruptions_equal_plain_loops),
        cmocka_unit_test(test_walks_and_logits),
        cmocka_unit_test(test_refusals_and_interruption),
        cmocka_unit_test(test_few_images_are_evaluated_like_many),
    };
    cpu_set_threads(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
