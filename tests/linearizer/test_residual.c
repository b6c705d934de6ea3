/* The score `residual`: the choice against the search written out image by image (least squares lines of the
 * removed positions, then the largest mean (r - s z - b)^2 mean g^2, in turn), per layer and over all layers,
 * for each kind of removed ReLU, for ReLU6, and where a line was trained since its fit. */
#include <math.h>
#include <string.h>

#include "core/graph/rng.h"
#include "core/op/op.h"
#include "linearizer/linearizer.h"
#include "tests/tiny_net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { N = 5, ROUNDS = 4 };

struct fixture {
    struct graph *g;
    struct relu_site *site;
    int32_t n;
    int64_t positions;
    float *z[3], *grad[3]; /* per site, [N][h][w][c] */
    double *sums;
    int64_t kept[3];
    bool *removed, *before, *all; /* [positions], of the search below */
    double *score;
};

static float *noise(int64_t n, uint64_t key, float mean)
{
    struct rng r = rng_at(1, RNG_TEST, 9, key);
    float *x = mem_array((size_t)n, sizeof *x);

    for (int64_t i = 0; i < n; i++)
        x[i] = mean + 3 * rng_normal(&r);
    return x;
}

static void setup(struct fixture *f, enum removed_kind kind, bool relu6)
{
    *f = (struct fixture){.g = tiny_net(TINY_BN | TINY_MASKED, 1), .kept = {40, 0, 7}};
    assert_int_equal(line_insert(f->g, kind), 0);
    assert_int_equal(relu_sites(f->g, &f->site, &f->n), 0);
    assert_int_equal(f->n, 3);
    for (int32_t s = 0; s < f->n; s++)
        f->positions += f->site[s].total;
    f->sums = mem_array((size_t)f->positions * RESIDUAL_SUMS, sizeof *f->sums);
    f->removed = mem_array((size_t)f->positions, sizeof *f->removed);
    f->before = mem_array((size_t)f->positions, sizeof *f->before);
    f->all = mem_array((size_t)f->positions, sizeof *f->all);
    f->score = mem_array((size_t)f->positions, sizeof *f->score);
    for (int32_t s = 0; s < f->n; s++) {
        struct relu_site *site = &f->site[s];

        site->relu6 = relu6;
        f->z[s] = noise(N * site->total, (uint64_t)s, 0.5f);
        f->grad[s] = noise(N * site->total, (uint64_t)(10 + s), 0);
        residual_add(f->g, site, 2, f->z[s], f->grad[s], 0.5, f->sums);
        residual_add(f->g, site, N - 2, f->z[s] + 2 * site->total, f->grad[s] + 2 * site->total,
                     0.5, f->sums);
    }
}

static void teardown(struct fixture *f)
{
    for (int32_t s = 0; s < f->n; s++) {
        mem_free(f->z[s]);
        mem_free(f->grad[s]);
    }
    mem_free(f->sums);
    mem_free(f->removed);
    mem_free(f->before);
    mem_free(f->all);
    mem_free(f->score);
    mem_free(f->site);
    graph_free(f->g);
}

static void set_masks(struct fixture *f, int64_t every)
{
    for (int64_t i = 0; i < f->g->n_masks; i++)
        f->g->masks[i] = every == 0 || i % every == 0;
}

/* ---- the search, written out ----------------------------------------------------------------- */

static double value_at(const struct fixture *f, const float *x, int32_t s, int64_t i, int64_t p)
{
    const struct shape *shape = &f->g->value[f->site[s].y].shape;
    const int64_t channels = shape->dim[1], hw = shape->dim[2] * shape->dim[3];

    return x[(i * hw + p % hw) * channels + p / hw];
}

static double relu_of(const struct fixture *f, int32_t s, double z)
{
    return fmin(fmax(z, 0), f->site[s].relu6 ? 6 : INFINITY);
}

/* Least squares over the positions of channel c that `which` marks; false: there are none. */
static bool fit(const struct fixture *f, int32_t s, int64_t c, const bool *which, bool fixed,
                double *k, double *b)
{
    const struct shape *shape = &f->g->value[f->site[s].y].shape;
    const int64_t hw = shape->dim[2] * shape->dim[3];
    double n = 0, mz = 0, mr = 0, zz = 0, zr = 0;

    for (int64_t p = c * hw; p < (c + 1) * hw; p++)
        for (int64_t i = 0; i < N && which[f->site[s].offset + p]; i++) {
            n++;
            mz += value_at(f, f->z[s], s, i, p);
            mr += relu_of(f, s, value_at(f, f->z[s], s, i, p));
        }
    if (n == 0)
        return false;
    mz /= n, mr /= n;
    for (int64_t p = c * hw; p < (c + 1) * hw; p++)
        for (int64_t i = 0; i < N && which[f->site[s].offset + p]; i++) {
            const double z = value_at(f, f->z[s], s, i, p);
            zz += (z - mz) * (z - mz);
            zr += (z - mz) * (relu_of(f, s, z) - mr);
        }
    *k = fixed ? *k : zr / zz;
    *b = mr - *k * mz;
    return true;
}

static void line_now(struct fixture *f, int32_t s, int64_t c, double *k, double *b)
{
    const struct node *x = &f->g->node[f->site[s].node];
    const struct shape *shape = &f->g->value[f->site[s].y].shape;
    const int64_t hw = shape->dim[2] * shape->dim[3];
    bool none = true;
    double k_old, b_old;

    *k = 1, *b = 0;
    if (x->n_in < 4)
        return;
    const bool fixed = op_in(f->g, x, 2)->kind == VALUE_CONST;
    const double k0 = (double)op_in(f->g, x, 2)->data[c], b0 = (double)op_in(f->g, x, 3)->data[c];

    *k = k_old = k0;
    for (int64_t i = 0; i < f->positions; i++)
        if (i >= f->site[s].offset + c * hw && i < f->site[s].offset + (c + 1) * hw)
            none = none && !f->removed[i];
    for (int64_t i = 0; i < f->positions; i++)
        f->all[i] = none || f->removed[i];
    assert_true(fit(f, s, c, f->all, fixed, k, b));
    if (fit(f, s, c, f->before, fixed, &k_old, &b_old)) {
        *k = fixed ? *k : k0 + *k - k_old;
        *b = b0 + *b - b_old;
    }
}

static void naive_scores(struct fixture *f)
{
    for (int32_t s = 0; s < f->n; s++) {
        const struct shape *shape = &f->g->value[f->site[s].y].shape;
        const int64_t hw = shape->dim[2] * shape->dim[3];

        for (int64_t p = 0; p < f->site[s].total; p++) {
            double k, b, square = 0, gain = 0;

            line_now(f, s, p / hw, &k, &b);
            for (int64_t i = 0; i < N; i++) {
                const double z = value_at(f, f->z[s], s, i, p);
                square += pow(relu_of(f, s, z) - k * z - b, 2) / N;
                gain += pow(0.5 * value_at(f, f->grad[s], s, i, p), 2) / N;
            }
            f->score[f->site[s].offset + p] = square * gain;
        }
    }
}

/* Keeps the `k` best of positions [first, first + n). */
static void naive_best(struct fixture *f, int64_t first, int64_t n, int64_t k)
{
    for (int64_t i = first; i < first + n; i++) {
        int64_t better = 0;

        for (int64_t j = first; j < first + n; j++)
            better += f->score[j] > f->score[i] || (f->score[j] == f->score[i] && j < i);
        f->removed[i] = better >= k;
    }
}

static void check(struct fixture *f, bool pooled)
{
    int64_t wrong = 0;

    for (int64_t i = 0; i < f->positions; i++)
        f->before[i] = f->removed[i] = f->g->masks[i] <= 0.5f;
    for (int round = 0; round < ROUNDS; round++) {
        naive_scores(f);
        if (pooled)
            naive_best(f, 0, f->positions, f->kept[0] + f->kept[1] + f->kept[2]);
        for (int32_t s = 0; s < f->n && !pooled; s++)
            naive_best(f, f->site[s].offset, f->site[s].total, f->kept[s]);
    }
    assert_int_equal(residual_select(f->g, f->n, f->site, f->sums, N, f->kept, pooled), 0);
    for (int64_t i = 0; i < f->positions; i++)
        wrong += (f->g->masks[i] <= 0.5f) != f->removed[i];
    assert_int_equal(wrong, 0);
}

static void test_the_choice_is_that_of_the_search_written_out(void **state)
{
    struct fixture f;

    (void)state;
    for (int kind = REMOVED_IDENTITY; kind <= REMOVED_LINE; kind++)
        for (int how = 0; how < 4; how++) {
            setup(&f, (enum removed_kind)kind, how > 1);
            set_masks(&f, 0); /* all ReLUs are there */
            check(&f, how % 2);
            set_masks(&f, 3); /* lines of the others are in use, and as they were made */
            check(&f, how % 2);
            teardown(&f);
        }
}

/* A line that was trained keeps what training made of it. */
static void test_a_trained_line_counts(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, REMOVED_LINE, false);
    set_masks(&f, 3);
    for (int32_t s = 0; s < f.n; s++) {
        const struct node *x = &f.g->node[f.site[s].node];

        for (int64_t c = 0; c < op_in(f.g, x, 2)->shape.dim[0]; c++) {
            op_in(f.g, x, 2)->data[c] = (float)(c % 3) - 1;
            op_in(f.g, x, 3)->data[c] = (float)(c % 2);
        }
    }
    check(&f, true);
    set_masks(&f, 3);
    check(&f, false);
    teardown(&f);
}

static void test_more_than_there_are_is_refused(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, REMOVED_LINE, false);
    f.kept[1] = f.site[1].total + 1;
    assert_int_equal(residual_select(f.g, f.n, f.site, f.sums, N, f.kept, false), ERR_ARG);
    f.kept[1] = f.positions;
    assert_int_equal(residual_select(f.g, f.n, f.site, f.sums, N, f.kept, true), ERR_ARG);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_choice_is_that_of_the_search_written_out),
        cmocka_unit_test(test_a_trained_line_counts),
        cmocka_unit_test(test_more_than_there_are_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
