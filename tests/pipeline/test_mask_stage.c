/* The end of a mask-choosing epoch: smoothed scores, the positions that stay, how far they moved and
 * when they freeze, against the formulas written out here. */
#include "pipeline/mask_stage.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/graph/rng.h"
#include "tests/tiny_net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

enum { IMAGES = 4 };

struct fixture {
    struct graph *student, *teacher;
    struct recipe r;
    struct mask_stage m;
    int64_t kept[3];
};

static void fixture_open(struct fixture *f)
{
    f->student = tiny_net(TINY_BN | TINY_MASKED, 1);
    f->teacher = tiny_net(TINY_BN, 1);
    f->r = recipe_of(RECIPE_RLNET, PRESET_SHORT);
    f->r.score = SCORE_DIFF0;
    f->r.smoothing = 0.7; /* not a half: then new and old are told apart */
    f->kept[0] = 100, f->kept[1] = 1, f->kept[2] = 64;
    assert_int_equal(mask_stage_init(&f->m, f->student, f->teacher, f->kept, &f->r), 0);
    assert_int_equal(f->m.n_site, 3);
}

static void fixture_close(struct fixture *f)
{
    mask_stage_release(&f->m);
    graph_free(f->student);
    graph_free(f->teacher);
}

/* Scores before and sums of the epoch with many ties: whole numbers below 20. */
static void draw(struct fixture *f, double *old, double *sum)
{
    struct rng r = rng_at(9, RNG_SYNTH, 0, 0);

    for (int64_t i = 0; i < f->m.positions; i++) {
        f->m.score[i] = old[i] = (double)rng_below(&r, 20);
        f->m.sum[i] = sum[i] = (double)(IMAGES * rng_below(&r, 20));
    }
    f->m.state.images = IMAGES;
}

/* Does position i stay: are there fewer than `kept` that are better, or equal and earlier? */
static bool stays(const double *score, int64_t n, int64_t i, int64_t kept)
{
    int64_t before = 0;

    for (int64_t j = 0; j < n; j++)
        before += score[j] > score[i] || (score[j] == score[i] && j < i);
    return before < kept;
}

static void test_scores_are_smoothed_and_the_best_stay(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f);
    const size_t n = (size_t)f.m.positions;
    double *old = mem_array(n, sizeof *old), *sum = mem_array(n, sizeof *sum);
    double *want = mem_array(n, sizeof *want), nhd = 0, turnover = 0;
    float *before = mem_array(n, sizeof *before);

    draw(&f, old, sum);
    for (size_t i = 0; i < n; i++)
        want[i] = 0.7 * old[i] + 0.3 * (sum[i] / IMAGES);
    memcpy(before, f.student->masks, n * sizeof *before);
    assert_int_equal(mask_stage_select(&f.m, 0), 0);
    for (size_t i = 0; i < n; i++) {
        assert_near(f.m.score[i], want[i], 1e-12);
        assert_true(f.m.sum[i] == 0);
    }
    for (int32_t s = 0; s < 3; s++) {
        const struct relu_site *site = &f.m.site[s];
        const float *mask = f.student->masks + site->offset, *was = before + site->offset;
        int64_t changed = 0;
        for (int64_t i = 0; i < site->total; i++) {
            if ((mask[i] != 0) != stays(f.m.score + site->offset, site->total, i, f.kept[s]))
                fail_msg("site %d, position %lld", s, (long long)i);
            changed += (mask[i] != 0) != (was[i] != 0);
        }
        nhd += (double)changed / (double)site->total / 3;
        turnover += (double)changed / (double)(2 * f.kept[s]) / 3;
    }
    assert_near(f.m.state.nhd, nhd, 1e-12);
    assert_near(f.m.state.turnover, turnover, 1e-12);
    assert_int_equal(f.m.state.selections, 1);
    assert_int_equal(f.m.state.images, 0);
    assert_int_equal(f.m.state.frozen_epoch, 0);
    mem_free(old);
    mem_free(sum);
    mem_free(want);
    mem_free(before);
    fixture_close(&f);
}

/* Equal scores choose equal masks: nothing moves, so either rule freezes; the rule that is off does
 * not. */
static void test_masks_that_rest_freeze(void **state)
{
    static const int32_t rules[] = {FREEZE_NHD, FREEZE_TURNOVER};

    (void)state;
    for (int k = 0; k < 2; k++) {
        struct fixture f;
        fixture_open(&f);
        const size_t n = (size_t)f.m.positions;
        double *old = mem_array(n, sizeof *old), *sum = mem_array(n, sizeof *sum);
        f.r.freeze = rules[k];
        f.r.freeze_epoch = 0;
        draw(&f, old, sum);
        assert_int_equal(mask_stage_select(&f.m, 0), 0);
        assert_int_equal(f.m.state.frozen_epoch, 0);
        assert_int_equal(mask_stage_select(&f.m, 1), 0); /* no images: the scores stay */
        assert_true(f.m.state.nhd == 0 && f.m.state.turnover == 0);
        assert_int_equal(f.m.state.frozen_epoch, 2);
        mem_free(old);
        mem_free(sum);
        fixture_close(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores_are_smoothed_and_the_best_stay),
        cmocka_unit_test(test_masks_that_rest_freeze),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
