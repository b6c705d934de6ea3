/* runtime/cost and cost_fit: every constant counts what it says, and measuring gives usable ones. */
#include "runtime/cost/fit.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "runtime/linear/rlwe_party.h"
#include "tests/plan_sample.h"
#include "tests/scratch.h"

enum { KEPT = 16, BATCHES = 3, LINEAR = 3 }; /* of the sample: a ReLU, two levels of a max pool */

static struct plan_cost estimate(struct cost_case k, const struct cost_machine *m)
{
    struct plan *p = plan_sample(KEPT);
    struct plan_cost c;

    k.machine = m;
    if (k.link == NULL)
        k.link = cost_loopback();
    cost_estimate(p, &k, &c);
    plan_free(p);
    return c;
}

static void assert_close(double got, double want)
{
    if (fabs(got - want) > 1e-6 * (1 + fabs(want)))
        fail_msg("%g, not %g", got, want);
}

/* ---- constants ---------------------------------------------------------------------------- */

static void test_batches_and_comparisons(void **state)
{
    struct cost_machine batch = {0}, each = {0};
    struct plan_cost c;

    (void)state;
    batch.comparison[COST_OT] = (struct cost_comparison){.online_batch = 1, .offline_batch = 10};
    c = estimate((struct cost_case){.backend = COST_OT}, &batch);
    assert_close(c.online_seconds, BATCHES);
    assert_close(c.offline_relu_seconds, 10 * BATCHES);
    c = estimate((struct cost_case){.backend = COST_GC}, &batch);
    assert_close(c.online_seconds, 0);
    each.comparison[COST_GC] = (struct cost_comparison){.online = 1, .offline = 10};
    c = estimate((struct cost_case){.backend = COST_GC}, &each);
    assert_close(c.online_seconds, (KEPT + 3 * 16) * 360.0 / 424); /* 21 bits, not 25 */
    assert_close(c.offline_relu_seconds, (KEPT + 3 * 16) * 7360.0 / 880);
}

static void test_link(void **state)
{
    static const struct cost_link slow = {"slow", 1e15, 1}, narrow = {"narrow", 8, 0};
    struct cost_machine none = {0};
    struct plan_cost c = estimate((struct cost_case){.link = &slow}, &none);

    (void)state;
    assert_string_equal(c.link, "slow");
    assert_close(c.online_seconds, 1 + BATCHES);
    assert_close(c.offline_relu_seconds, BATCHES);
    assert_close(c.offline_linear_seconds, LINEAR);
    c = estimate((struct cost_case){.link = &narrow}, &none);
    assert_close(c.online_seconds, (double)c.online_bytes);
    assert_close(c.offline_relu_seconds, (double)c.offline_relu_bytes);
    assert_close(c.offline_linear_seconds, (double)c.offline_linear_bytes);
}

static void test_arithmetic(void **state)
{
    struct cost_machine mac = {.mac = 1}, word = {.word_mac = 1}, byte = {.byte = 1},
                        claim = {.claim = 1};
    struct cost_case dealer = {.provider = COST_DEALER};
    struct plan *p = plan_sample(KEPT);
    struct plan_cost c;

    (void)state;
    assert_close(estimate((struct cost_case){0}, &mac).online_seconds, (double)p->macs);
    assert_close(estimate(dealer, &mac).offline_linear_seconds, (double)p->macs);
    assert_close(estimate(dealer, &word).offline_linear_seconds, (double)p->macs);
    assert_close(estimate((struct cost_case){0}, &word).offline_linear_seconds, 0);
    c = estimate(dealer, &byte);
    assert_close(c.offline_linear_seconds, (double)c.offline_linear_bytes);
    assert_close(estimate(dealer, &claim).offline_linear_seconds, 2); /* one a party */
    plan_free(p);
}

static void test_ciphertexts(void **state)
{
    struct cost_machine upload = {.upload = 1}, answer = {.answer = 1}, product = {.product = 1};
    struct cost_machine transform = {.transform = 1};
    struct linear_rlwe_count n, all = {0};
    struct plan *p = plan_sample(KEPT);

    (void)state;
    for (int32_t i = 0; i < p->n_step; i++) {
        if (p->step[i].kind != PLAN_CONV && p->step[i].kind != PLAN_GEMM)
            continue;
        assert_int_equal(linear_rlwe_count(p, i, 1, &n), 0);
        all.uploads += n.uploads;
        all.answers += n.answers;
        all.products += n.products;
        all.weights += n.weights;
    }
    assert_close(estimate((struct cost_case){0}, &upload).offline_linear_seconds,
                 (double)all.uploads);
    assert_close(estimate((struct cost_case){0}, &answer).offline_linear_seconds,
                 (double)all.answers);
    assert_close(estimate((struct cost_case){0}, &product).offline_linear_seconds,
                 (double)all.products);
    assert_close(estimate((struct cost_case){.images = 4}, &transform).offline_linear_seconds,
                 (double)all.weights / 4);
    plan_free(p);
}

/* ---- measuring ---------------------------------------------------------------------------- */

static void test_fit(void **state)
{
    char dir[SCRATCH_TEXT];
    struct cost_machine m;
    const double *constant = (const double *)(const void *)&m;
    struct plan_cost c;

    (void)state;
    scratch_open(dir);
    assert_int_equal(cost_fit(dir, &m), 0);
    assert_int_equal(rmdir(dir), 0); /* empty again */
    for (size_t i = 0; i < sizeof m / sizeof *constant; i++)
        assert_true(constant[i] >= 0 && constant[i] < 10);
    assert_int_equal(secret_alive(), 0);
    c = estimate((struct cost_case){0}, &m);
    assert_true(c.online_seconds > 0 && c.offline_relu_seconds > 0 && c.offline_linear_seconds > 0);
    assert_memory_equal(&m.comparison[COST_DELPHI_GC],
                        &cost_machine_default()->comparison[COST_DELPHI_GC], sizeof *m.comparison);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches_and_comparisons),
        cmocka_unit_test(test_link),
        cmocka_unit_test(test_arithmetic),
        cmocka_unit_test(test_ciphertexts),
        cmocka_unit_test(test_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
