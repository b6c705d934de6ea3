/* Scores and masks: sums against naive loops in double, exact counts, ties, distances. */
#include <math.h>

#include "core/op/op.h"
#include "core/graph/rng.h"
#include "linearizer/linearizer.h"
#include "tests/tiny_net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

enum { N = 3 };

struct fixture {
    struct graph *g;
    struct relu_site *site;
    int32_t n;
    int64_t positions;
};

static void setup(struct fixture *f)
{
    f->g = tiny_net(TINY_BN | TINY_MASKED, 1);
    f->positions = 0;
    assert_int_equal(relu_sites(f->g, &f->site, &f->n), 0);
    for (int32_t s = 0; s < f->n; s++)
        f->positions += f->site[s].total;
    assert_int_equal(f->positions, f->g->n_masks);
}

static void teardown(struct fixture *f)
{
    mem_free(f->site);
    graph_free(f->g);
}

static float *noise(int64_t n, uint64_t key)
{
    struct rng r = rng_at(1, RNG_TEST, 3, key);
    float *x = mem_array((size_t)n, sizeof *x);

    for (int64_t i = 0; i < n; i++)
        x[i] = rng_normal(&r);
    return x;
}

/* Element of image i at [c,h,w] index p, in executor storage. */
static int64_t stored(const struct fixture *f, const struct relu_site *s, int64_t i, int64_t p)
{
    const struct shape *x = &f->g->value[s->y].shape;
    const int64_t c = x->dim[1], hw = x->dim[2] * x->dim[3];

    return (i * hw + p % hw) * c + p / hw;
}

static void check_sums(bool relu6)
{
    struct fixture f;

    setup(&f);
    struct relu_site *s = &f.site[1];
    s->relu6 = relu6;
    const size_t all = (size_t)f.positions;
    float *a = noise(N * s->total, 1), *b = noise(N * s->total, 2);
    double *score = mem_array(all, sizeof *score);
    struct score_taylor sums = {mem_array(all, sizeof(double)), mem_array(all, sizeof(double)),
                                mem_array(all, sizeof(double)), mem_array(all, sizeof(double))};

    for (int64_t p = 0; p < s->total; p += 2) /* a zero belongs to the images with z <= 0 */
        a[stored(&f, s, 0, p)] = 0;
    for (int64_t p = 1; relu6 && p < N * s->total; p += 3)
        a[p] *= 8;
    score_add(f.g, s, N, a, b, score);
    for (int64_t p = 0; p < s->total; p++) {
        double want = 0;
        for (int i = 0; i < N; i++)
            want += fabs((double)a[stored(&f, s, i, p)] - b[stored(&f, s, i, p)]);
        assert_near(score[p], want, 1e-12);
    }
    score_taylor_add(f.g, s, N, a, b, 2.5, &sums);
    score_taylor_read(&sums, f.positions, N, score);
    for (int64_t p = 0; p < s->total; p++) {
        double gd = 0, gg = 0, dd = 0, below = 0;
        for (int i = 0; i < N; i++) {
            const double z = a[stored(&f, s, i, p)], g = 2.5 * b[stored(&f, s, i, p)];
            const double d = fmin(fmax(z, 0), relu6 ? 6 : INFINITY) - z;
            gd += g * d / N;
            gg += g * g / N;
            dd += d * d / N;
            below += z <= 0 || (relu6 && z >= 6) ? 1.0 / N : 0;
        }
        assert_near(score[s->offset + p], (fabs(gd) + gg * dd / 2) * below, 1e-12);
    }
    assert_true(score[0] == 0); /* another site's position */
    mem_free(a);
    mem_free(b);
    mem_free(score);
    mem_free(sums.first);
    mem_free(sums.grad);
    mem_free(sums.square);
    mem_free(sums.negative);
    teardown(&f);
}

static void test_differences_and_taylor_equal_naive_sums(void **state)
{
    (void)state;
    check_sums(false);
    check_sums(true);
}

static int64_t kept(const struct fixture *f, const struct relu_site *s)
{
    const float *mask = f->g->value[s->mask].data;
    int64_t n = 0;

    for (int64_t i = 0; i < s->total; i++)
        n += mask[i] == 1;
    return n;
}

static void test_select_keeps_exactly_k_and_the_first_of_ties(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    double *score = mem_array((size_t)f.site[0].total, sizeof *score);
    score[7] = 2;
    score[9] = NAN; /* the worst */
    assert_int_equal(mask_select(f.g, &f.site[0], score, 4), 0);
    const float *mask = f.g->value[f.site[0].mask].data;
    assert_int_equal(kept(&f, &f.site[0]), 4);
    assert_true(mask[7] == 1 && mask[0] == 1 && mask[1] == 1 && mask[2] == 1);
    assert_int_equal(mask_select(f.g, &f.site[0], score, f.site[0].total), 0);
    assert_int_equal(kept(&f, &f.site[0]), f.site[0].total);
    assert_int_equal(mask_select(f.g, &f.site[0], score, 0), 0);
    assert_int_equal(kept(&f, &f.site[0]), 0);
    assert_int_equal(mask_select(f.g, &f.site[0], score, f.site[0].total + 1), ERR_ARG);
    mem_free(score);
    teardown(&f);
}

/* The k largest over all layers, whatever layer they are in. */
static void test_harden_is_one_ranking_over_all_layers(void **state)
{
    struct fixture f;
    int64_t total = 0;

    (void)state;
    setup(&f);
    for (int64_t i = 0; i < f.g->n_masks; i++)
        f.g->masks[i] = 0.25f;
    f.g->value[f.site[2].mask].data[3] = 0.75f;
    f.g->value[f.site[1].mask].data[5] = 0.5f;
    assert_int_equal(mask_select_pooled(f.g, f.n, f.site, NULL, 3), 0);
    assert_true(f.g->value[f.site[2].mask].data[3] == 1);
    assert_true(f.g->value[f.site[1].mask].data[5] == 1);
    assert_true(f.g->value[f.site[0].mask].data[0] == 1); /* first of the ties */
    for (int32_t s = 0; s < f.n; s++)
        total += kept(&f, &f.site[s]);
    assert_int_equal(total, 3);
    assert_int_equal(mask_select_pooled(f.g, f.n, f.site, NULL, f.positions + 1), ERR_ARG);
    teardown(&f);
}

static void test_random_mask_is_one_map_for_all_channels(void **state)
{
    struct fixture f;
    int64_t k[8];

    (void)state;
    setup(&f);
    const struct shape *x = &f.g->value[f.site[0].y].shape;
    const int64_t c = x->dim[1], hw = x->dim[2] * x->dim[3];
    for (int32_t s = 0; s < f.n; s++)
        k[s] = s == 0 ? c * (hw / 4) : 5;
    assert_int_equal(mask_random(f.g, f.n, f.site, 1, k), 0);
    const float *mask = f.g->value[f.site[0].mask].data;
    for (int64_t i = hw; i < f.site[0].total; i++)
        assert_true(mask[i] == mask[i - hw]);
    for (int32_t s = 0; s < f.n; s++)
        assert_int_equal(kept(&f, &f.site[s]), k[s]);
    teardown(&f);
}

/* Three layers; in the second one 2 of the 8 kept positions are replaced. */
static void test_distance_and_turnover(void **state)
{
    struct fixture f;
    double nhd, turnover;

    (void)state;
    setup(&f);
    assert_int_equal(f.n, 3);
    float *before = mem_array((size_t)f.g->n_masks, sizeof *before);
    for (int32_t s = 0; s < f.n; s++) {
        const int64_t at = f.g->value[f.site[s].mask].offset;
        for (int64_t i = 0; i < f.site[s].total; i++)
            before[at + i] = f.g->masks[at + i] = i < 8 ? 1 : 0;
    }
    float *second = f.g->value[f.site[1].mask].data;
    second[0] = second[1] = 0;
    second[20] = second[21] = 1;
    mask_distance(f.n, f.site, f.g, before, f.g->masks, &nhd, &turnover);
    assert_near(nhd, 4.0 / (double)f.site[1].total / 3, 1e-15);
    assert_near(turnover, 0.25 / 3, 1e-15);
    mem_free(before);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_differences_and_taylor_equal_naive_sums),
        cmocka_unit_test(test_select_keeps_exactly_k_and_the_first_of_ties),
        cmocka_unit_test(test_harden_is_one_ranking_over_all_layers),
        cmocka_unit_test(test_random_mask_is_one_map_for_all_channels),
        cmocka_unit_test(test_distance_and_turnover),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
