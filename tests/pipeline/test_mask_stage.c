/* The end of a mask-choosing epoch: smoothed scores, the positions that stay, how far they moved and
 * when they freeze, against the formulas written out here; first scores; the last epoch that chooses. */
#include "pipeline/mask_stage.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/exec/exec.h"
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

/* The rule that counts epochs: the second selection is the last where two are asked for. */
static void test_masks_freeze_after_so_many_epochs(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f);
    f.r.freeze = FREEZE_NONE;
    f.r.freeze_epoch = 2;
    assert_int_equal(mask_stage_select(&f.m, 0), 0);
    assert_int_equal(f.m.state.frozen_epoch, 0);
    assert_int_equal(mask_stage_select(&f.m, 1), 0);
    assert_int_equal(f.m.state.frozen_epoch, 2);
    fixture_close(&f);
}

/* Where nothing trains after this stage, the last epoch trains under masks that stay. */
static void test_the_last_epoch_keeps_its_masks(void **state)
{
    (void)state;
    for (int finetunes = 0; finetunes < 2; finetunes++) {
        struct run run = {0};
        struct stage stage = {.cfg = {.epochs = 4}};
        struct fixture f;

        fixture_open(&f);
        f.r.freeze = FREEZE_NONE;
        f.r.freeze_epoch = 0;
        mask_stage_hook(&f.m, &run, finetunes, &stage);
        for (int32_t epoch = 0; epoch < 4; epoch++)
            assert_int_equal(stage.hooks.epoch_end(stage.hooks.ctx, epoch, NULL), 0);
        assert_int_equal(f.m.state.selections, 3 + finetunes);
        fixture_close(&f);
    }
}

/* ---- first scores ---------------------------------------------------------------------------- */

/* Mean over images of |y - x| at every ReLU of g, in ONNX order. */
static void mean_difference(struct graph *g, const struct mask_stage *m, const struct dataset *d,
                            double *score)
{
    value_id taps[6];
    float z[TINY_CLASSES];
    struct exec *e;

    for (int32_t s = 0; s < m->n_site; s++) {
        taps[s] = m->site[s].x;
        taps[m->n_site + s] = m->site[s].y;
    }
    memset(score, 0, (size_t)m->positions * sizeof *score);
    assert_int_equal(
        exec_new(g, EXEC_INFER, 1, &(struct exec_opts){.taps = taps, .n_taps = 2 * m->n_site}, &e),
        0);
    for (int64_t i = 0; i < d->n; i++) {
        assert_int_equal(exec_infer(e, d->floats + i * TINY_ELEMS, 1, 0, z), 0);
        for (int32_t s = 0; s < m->n_site; s++) {
            const float *x = exec_tap(e, taps[s]), *y = exec_tap(e, taps[m->n_site + s]);
            const struct shape *shape = &g->value[taps[s]].shape;
            const int64_t c = shape->dim[1], hw = shape->dim[2] * shape->dim[3];
            for (int64_t k = 0; k < c * hw; k++)
                score[m->site[s].offset + k % c * hw + k / c] +=
                    fabs((double)y[k] - (double)x[k]) / (double)d->n;
        }
    }
    exec_free(e);
}

/* Means per image, as those of an epoch are. Masks from elsewhere stay, and their scores are those of the
 * network with all ReLUs. */
static void test_first_scores_are_means(void **state)
{
    struct dataset *d = tiny_data(10, 3);

    (void)state;
    for (int adopt = 0; adopt < 2; adopt++) {
        struct graph *g = tiny_net(TINY_BN | TINY_MASKED, 1);
        struct fixture f;

        fixture_open(&f);
        double *want = mem_array((size_t)f.m.positions, sizeof *want);
        for (int64_t i = 0; adopt && i < g->n_masks; i++)
            g->masks[i] = 1;
        graph_touch(g);
        mean_difference(g, &f.m, d, want);
        assert_int_equal(adopt ? mask_stage_adopt(&f.m, d, 1) : mask_stage_first(&f.m, d, 1), 0);
        for (int64_t i = 0; i < f.m.positions; i++)
            assert_near(f.m.score[i], want[i], 1e-6 * (1 + want[i]));
        graph_free(g);
        g = tiny_net(TINY_BN | TINY_MASKED, 1);
        if (adopt)
            assert_memory_equal(f.student->masks, g->masks, (size_t)g->n_masks * sizeof(float));
        mem_free(want);
        graph_free(g);
        fixture_close(&f);
    }
    tiny_free(d);
}

/* Taylor scores are of another size than the first ones: the first epoch's replace them, later ones are
 * smoothed. One image: |first| + grad square / 2, times negative. */
static void test_taylor_scores_begin_anew(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f);
    mask_stage_release(&f.m);
    f.r.score = SCORE_TAYLOR;
    assert_int_equal(mask_stage_init(&f.m, f.student, f.teacher, f.kept, &f.r), 0);
    for (int epoch = 0; epoch < 2; epoch++) {
        const double want[] = {2 + 3 * 4 / 2.0, 0.7 * 8 + 0.3 * (5 + 3 * 4 / 2.0)};
        f.m.score[7] = epoch == 0 ? 1000 : f.m.score[7];
        f.m.taylor.first[7] = epoch == 0 ? -2 : 5;
        f.m.taylor.grad[7] = 3;
        f.m.taylor.square[7] = 4;
        f.m.taylor.negative[7] = 1;
        f.m.state.images = 1;
        assert_int_equal(mask_stage_select(&f.m, epoch), 0);
        assert_near(f.m.score[7], want[epoch], 1e-12);
        assert_true(f.m.taylor.first[7] == 0 && f.m.taylor.negative[7] == 0);
    }
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks_freeze_after_so_many_epochs),
        cmocka_unit_test(test_the_last_epoch_keeps_its_masks),
        cmocka_unit_test(test_first_scores_are_means),
        cmocka_unit_test(test_taylor_scores_begin_anew),
        cmocka_unit_test(test_scores_are_smoothed_and_the_best_stay),
        cmocka_unit_test(test_masks_that_rest_freeze),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
