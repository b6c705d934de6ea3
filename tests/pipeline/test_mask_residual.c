/* What the score `residual` is measured on: sums of a batch-normalised site and of the last one against what
 * follows from their formulas; bits for threads and cuts into passes; how many ReLUs each choice of the mask
 * stage leaves. */
#include "pipeline/mask_residual.h"

#include <math.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"
#include "core/base/ranks.h"
#include "core/graph/rng.h"
#include "core/op/op.h"
#include "pipeline/mask_stage.h"
#include "tests/tiny_net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

enum { N = 20, SEED = 3, POSITIONS = 6 * 64 + 6 * 64 + 8 * 16 };

static void measure(struct graph *g, const struct dataset *d, int64_t batch, double *sums)
{
    struct relu_site *site = NULL;
    struct ranks_chain *chain = NULL;
    int64_t images = 0;
    int32_t n;

    assert_int_equal(relu_sites(g, &site, &n), 0);
    assert_int_equal(ranks_chain_new(&chain), 0);
    const struct residual_measure m = {.g = g,
                                       .site = site,
                                       .n_site = n,
                                       .data = d,
                                       .images = 1000,
                                       .batch = batch,
                                       .seed = SEED,
                                       .chain = chain};
    assert_int_equal(residual_measure(&m, sums, &images), 0);
    assert_int_equal(images, N); /* all there are */
    ranks_chain_free(chain);
    mem_free(site);
}

/* Site 0 is gamma zhat + beta of batch statistics: mean beta, variance gamma^2 v / (v + eps). */
static void check_first(const struct graph *g, const double *sums)
{
    const struct node *bn = &g->node[g->value[g->node[2].in[0]].producer];

    assert_true(bn->op == &op_batchnorm);
    for (int64_t c = 0; c < 6; c++) {
        const double gamma = (double)op_in(g, bn, 1)->data[c],
                     beta = (double)op_in(g, bn, 2)->data[c];
        double z = 0, zz = 0, r = 0, rr = 0, zr = 0;

        for (int64_t p = 0; p < 64; p++) {
            const double *m = sums + (c * 64 + p) * RESIDUAL_SUMS;
            z += m[0], zz += m[1], r += m[2], rr += m[3], zr += m[4];
        }
        assert_near(z / (N * 64), beta, 1e-4);
        assert_near(zz / (N * 64), beta * beta + gamma * gamma, 0.01);
        assert_near(rr, zr, 1e-6 * rr); /* max(z, 0)^2 = z max(z, 0) */
        assert_true(r > z);
    }
}

/* Behind the last site come a mean over 16 pixels and a linear layer: g = sum over j of v_j W_jc / 16. */
static void check_last(const struct graph *g, const double *sums)
{
    const struct node *fc = &g->node[g->value[g->output].producer];
    const float *w = op_in(g, fc, 1)->data;

    for (int64_t c = 0; c < 8; c++) {
        double want = 0;

        for (uint64_t i = 0; i < N; i++) {
            struct rng r = rng_at(SEED, RNG_MASK, 1, i);
            double slope = 0;
            for (int j = 0; j < TINY_CLASSES; j++)
                slope += (double)rng_normal(&r) * (double)w[j * 8 + c] / 16;
            want += slope * slope;
        }
        for (int64_t p = 0; p < 16; p++)
            assert_near(sums[(768 + c * 16 + p) * RESIDUAL_SUMS + 5], want, 1e-5 * want);
    }
}

static void test_sums_are_those_of_the_formulas(void **state)
{
    struct graph *g = tiny_net(TINY_BN | TINY_MASKED, 1);
    struct dataset *d = tiny_data(N, 1);
    double *sums = mem_array(POSITIONS * RESIDUAL_SUMS, sizeof *sums);

    (void)state;
    measure(g, d, 64, sums);
    check_first(g, sums);
    check_last(g, sums);
    mem_free(sums);
    tiny_free(d);
    graph_free(g);
}

/* The running statistics and weights stay; v is that of the image, whatever pass it comes in. */
static void test_threads_change_no_bit_and_nothing_moves(void **state)
{
    struct graph *g = tiny_net(TINY_BN | TINY_MASKED, 1),
                 *fresh = tiny_net(TINY_BN | TINY_MASKED, 1);
    struct dataset *d = tiny_data(N, 1);
    const size_t n = POSITIONS * RESIDUAL_SUMS;
    double *one = mem_array(n, sizeof *one), *three = mem_array(n, sizeof *three);

    (void)state;
    cpu_set_threads(1);
    measure(g, d, 7, one);
    check_last(g, one);
    cpu_set_threads(3);
    measure(g, d, 7, three);
    assert_memory_equal(one, three, n * sizeof *one);
    for (value_id v = 0; v < g->n_value; v++)
        if (g->value[v].data)
            assert_memory_equal(g->value[v].data, fresh->value[v].data,
                                (size_t)shape_elems(&g->value[v].shape) * sizeof(float));
    mem_free(one);
    mem_free(three);
    tiny_free(d);
    graph_free(g);
    graph_free(fresh);
}

static int64_t kept_in_all(const struct graph *g)
{
    int64_t kept = 0;

    for (int64_t i = 0; i < g->n_masks; i++)
        kept += g->masks[i] == 1;
    return kept;
}

static void check_choices(bool pooled, int64_t epochs)
{
    struct graph *student = tiny_net(TINY_BN | TINY_MASKED, 1), *teacher = tiny_net(TINY_BN, 1);
    struct dataset *d = tiny_data(N, 1);
    const int64_t kept[] = {24, 96, 32}; /* 1/16, 1/4 and 1/4 */
    struct recipe r = recipe_of(RECIPE_SENET, PRESET_QUICK);
    struct mask_stage m;

    for (int64_t i = 0; i < student->n_masks; i++)
        student->masks[i] = 1;
    r.score = SCORE_RESIDUAL;
    r.removed = REMOVED_LINE;
    r.freeze = FREEZE_TURNOVER;
    r.freeze_below = 1.1; /* at once, if it may */
    r.stage[STAGE_MASK].epochs = epochs;
    r.stage[STAGE_MASK].min_steps = 0;
    assert_int_equal(line_insert(student, REMOVED_LINE), 0);
    assert_int_equal(mask_stage_init(&m, student, teacher, kept, &r), 0);
    m.pooled = pooled;
    assert_int_equal(mask_stage_first(&m, d, SEED), 0);
    for (int choice = 1; choice <= 1 + epochs; choice++) {
        int64_t sum = 0;

        for (int32_t s = 0; s < 3; s++) {
            const double n = (double)m.site[s].total, x = choice / (1.0 + (double)epochs);
            const int64_t want = (int64_t)(n * pow((double)kept[s] / n, x) + 0.5);
            int64_t have = 0;

            for (int64_t i = 0; i < m.site[s].total; i++)
                have += student->masks[m.site[s].offset + i] == 1;
            assert_true(pooled || have == want);
            sum += want;
        }
        assert_int_equal(kept_in_all(student), sum);
        assert_int_equal(m.state.frozen_epoch > 0, epochs > 0 && choice == 1 + epochs);
        if (choice <= epochs)
            assert_int_equal(mask_stage_select(&m, choice - 1), 0);
    }
    mask_stage_release(&m);
    tiny_free(d);
    graph_free(student);
    graph_free(teacher);
}

static void test_every_choice_leaves_what_the_schedule_says(void **state)
{
    (void)state;
    for (int how = 0; how < 4; how++)
        check_choices(how % 2, how > 1 ? 3 : 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums_are_those_of_the_formulas),
        cmocka_unit_test(test_threads_change_no_bit_and_nothing_moves),
        cmocka_unit_test(test_every_choice_leaves_what_the_schedule_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
