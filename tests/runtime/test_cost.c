/* runtime/cost and cost_fit: every constant counts what it says, and measuring gives usable ones. */
#include "runtime/cost/fit.h"
#include "runtime/cost/cost.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "runtime/linear/rlwe_party.h"
#include "tests/plan_sample.h"
#include "tests/scratch.h"

enum { KEPT = 16, BATCHES = 3, LINEAR = 3 }; /* of the sample: a ReLU, two levels of a max pool */

static struct cost estimate(struct cost_case k, const struct cost_machine *m)
{
    struct plan *p = plan_sample(KEPT);
    struct cost c;

    k.machine = m;
    if (k.link == NULL)
        k.link = link_loopback();
    assert_int_equal(cost_estimate(p, &k, &c), 0);
    plan_free(p);
    return c;
}

/* All constants 0 but one. */
static struct cost_machine only(const char *key)
{
    struct cost_machine m = {0};

    assert_non_null(cost_machine_constant(&m, key));
    *cost_machine_constant(&m, key) = 1;
    return m;
}

static void assert_close(double got, double want)
{
    if (fabs(got - want) > 1e-6 * (1 + fabs(want)))
        fail_msg("%g, not %g", got, want);
}

/* ---- constants ---------------------------------------------------------------------------- */

static void test_batches_and_comparisons(void **state)
{
    struct cost_machine m = only("ot.online_batch");
    struct cost c = estimate((struct cost_case){.relu = &relu_ot}, &m);

    (void)state;
    assert_close(c.online_seconds, BATCHES);
    assert_close(estimate((struct cost_case){.relu = &relu_gc}, &m).online_seconds, 0);
    m = only("ot.offline_batch");
    assert_close(estimate((struct cost_case){.relu = &relu_ot}, &m).offline_relu_seconds, BATCHES);
    m = only("gc.online"); /* comparisons of 21 bits, not 25 */
    c = estimate((struct cost_case){.relu = &relu_gc}, &m);
    assert_close(c.online_seconds, (KEPT + 3 * 16) * 360.0 / 424);
    m = only("gc.offline");
    c = estimate((struct cost_case){.relu = &relu_gc}, &m);
    assert_true(c.offline_relu_seconds > (KEPT + 3 * 16) * 736.0 / 880 &&
                c.offline_relu_seconds < KEPT + 3 * 16); /* what a batch takes once is not wider */
}

/* Bytes and messages are those of the backends, batch by batch of the schedule; test_ways compares other forms
 * with what two parties send. */
static void compare_with_schedule(bool label)
{
    struct plan *p = plan_sample(KEPT);
    struct schedule *s = NULL;
    struct cost c;

    assert_int_equal(schedule_new(p, label, &s), 0);
    for (const struct relu_backend *const *r = relu_backends(); *r != NULL; r++) {
        const struct cost_case k = {.relu = *r, .expected = link_loopback(), .label = label};
        uint64_t on = 0, off = 0;
        int32_t messages = 0;
        for (int32_t i = 0; i < s->n; i++) {
            const struct relu_batch *b = &s->event[i].batch;
            if (s->event[i].kind != EVENT_SELECT)
                continue;
            on += (*r)->online_bytes(b, 0) + (*r)->online_bytes(b, 1);
            off += (*r)->offline_bytes(b, 0) + (*r)->offline_bytes(b, 1);
            messages += (*r)->online_messages(b);
        }
        assert_int_equal(cost_estimate(p, &k, &c), 0);
        assert_int_equal(c.online_bytes, on);
        assert_int_equal(c.offline_relu_bytes, off);
        assert_int_equal(c.online_messages, messages);
    }
    schedule_free(s);
    plan_free(p);
}

static void test_bytes_follow_the_schedule(void **state)
{
    (void)state;
    compare_with_schedule(false);
    compare_with_schedule(true);
}

static uint64_t bytes_of(const struct relu_backend *r, int64_t n, int32_t width, bool online)
{
    const struct relu_batch b = {.n = n, .width = width, .payloads = 1};

    return online ? r->online_bytes(&b, 0) + r->online_bytes(&b, 1)
                  : r->offline_bytes(&b, 0) + r->offline_bytes(&b, 1);
}

/* Of one comparison more, without what a batch takes once. */
static uint64_t bytes_each(const struct relu_backend *r, int32_t width, bool online)
{
    return (bytes_of(r, 128, width, online) - bytes_of(r, 64, width, online)) / 64;
}

static void test_bytes_equal_the_published_figures(void **state)
{
    (void)state;
    assert_int_equal(bytes_each(&relu_gc, 21, true), 360);
    assert_int_equal(bytes_each(&relu_gc, 25, true), 424);
    assert_int_equal(bytes_each(&relu_gc, 33, true), 552);
    assert_int_equal(bytes_each(&relu_gc, 25, false), 880);
    assert_int_equal(bytes_each(&relu_ot, 25, true), 41); /* 330 bits */
    assert_int_equal(bytes_each(&relu_ot, 25, false), 166);
}

/* Many ReLUs on a slow line: transfers are silent, a set-up's images share their rounds, and the machine's
 * constant counts them. */
static void test_rounds_of_silent_transfers(void **state)
{
    static const struct link narrow = {"narrow", 1e6, 0.01};
    struct cost_machine none = {0}, row = only("silent_row");
    struct cost one, shared, extended, slow;
    struct cost_case k = {.relu = &relu_ot, .link = &narrow, .transfers = RELU_TRANSFERS_FERRET};
    const double rows = 1 / (1e-9 * ferret_set(0)->row_ns);

    (void)state;
    one = estimate(k, &none);
    slow = estimate(k, &row);
    k.images = RELU_SHARED;
    shared = estimate(k, &none);
    k.images = 1000 * RELU_SHARED;
    assert_close(estimate(k, &none).offline_relu_seconds, shared.offline_relu_seconds);
    k.transfers = RELU_TRANSFERS_SOFTSPOKEN;
    extended = estimate(k, &none);
    assert_true(one.offline_relu_messages == 2 * BATCHES + 4); /* a round, down */
    assert_close(shared.offline_relu_messages, 2 * BATCHES + 4.0 / RELU_SHARED);
    assert_true(extended.offline_relu_messages == 2 * BATCHES);
    assert_true(shared.offline_relu_bytes < one.offline_relu_bytes / 8);
    assert_true(shared.offline_relu_seconds < one.offline_relu_seconds / 8);
    /* a round of the first set at one second a row */
    assert_true(slow.offline_relu_seconds - one.offline_relu_seconds > rows * 1e-3);
}

static void test_linearised_positions_cost_nothing(void **state)
{
    struct plan *p = plan_sample(KEPT);
    struct cost c;

    (void)state;
    assert_int_equal(cost_estimate(p, &(struct cost_case){.relu = &relu_gc}, &c), 0);
    assert_int_equal(c.online_bytes, (KEPT + 3 * 16) * 360);
    assert_int_equal(c.online_messages, 2 + 2 * 2);
    p->step[RELU].u.relu.kept = 0;
    assert_int_equal(cost_estimate(p, &(struct cost_case){.relu = &relu_gc}, &c), 0);
    assert_int_equal(c.online_bytes, 3 * 16 * 360);
    assert_int_equal(c.online_messages, 4);
    plan_free(p);
}

static void test_link(void **state)
{
    static const struct link slow = {"slow", 1e15, 1}, narrow = {"narrow", 8, 0};
    struct cost_machine none = {0};
    struct cost c = estimate((struct cost_case){.link = &slow}, &none);

    (void)state;
    assert_ptr_equal(c.link, &slow);
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
    const struct cost_case rlwe = {.linear = &linear_rlwe}, dealer = {.linear = &linear_dealer};
    const struct cost_machine mac = only("mac"), word = only("dealer.word_mac");
    const struct cost_machine byte = only("byte"), claim = only("dealer.claim");
    struct plan *p = plan_sample(KEPT);
    struct cost c;

    (void)state;
    assert_close(estimate(rlwe, &mac).online_seconds, (double)p->macs);
    assert_close(estimate(dealer, &mac).offline_linear_seconds, (double)p->macs);
    assert_close(estimate(dealer, &word).offline_linear_seconds, (double)p->macs);
    assert_close(estimate(rlwe, &word).offline_linear_seconds, 0);
    c = estimate(dealer, &byte);
    assert_close(c.offline_linear_seconds, (double)c.offline_linear_bytes);
    assert_close(estimate(dealer, &claim).offline_linear_seconds, 2); /* one a party */
    assert_ptr_equal(estimate((struct cost_case){0}, &mac).linear, &linear_rlwe);
    plan_free(p);
}

static void test_ciphertexts(void **state)
{
    const struct cost_machine upload = only("rlwe.upload"), answer = only("rlwe.answer");
    const struct cost_machine product = only("rlwe.product"), transform = only("rlwe.transform");
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
        all.transforms += n.transforms;
    }
    assert_close(estimate((struct cost_case){0}, &upload).offline_linear_seconds,
                 (double)all.uploads);
    assert_close(estimate((struct cost_case){0}, &answer).offline_linear_seconds,
                 (double)all.answers);
    assert_close(estimate((struct cost_case){0}, &product).offline_linear_seconds,
                 (double)all.products);
    assert_true(all.transforms > 0);
    assert_close(estimate((struct cost_case){0}, &transform).offline_linear_seconds,
                 (double)all.transforms);
    assert_close(estimate((struct cost_case){.images = 4}, &transform).offline_linear_seconds,
                 (double)(all.transforms + all.weights) / 4);
    plan_free(p);
}

/* ---- measuring ---------------------------------------------------------------------------- */

static void assert_usable(void *ctx, const char *key, double *seconds)
{
    (void)ctx;
    if (!(*seconds >= 0 && *seconds < 10))
        fail_msg("%s is %g s", key, *seconds);
}

static void test_fit(void **state)
{
    char dir[SCRATCH_TEXT];
    struct cost_machine m;
    struct cost c;

    (void)state;
    scratch_open(dir);
    assert_int_equal(cost_fit(dir, &m), 0);
    assert_int_equal(rmdir(dir), 0); /* empty again */
    cost_machine_each(&m, assert_usable, NULL);
    assert_int_equal(secret_alive(), 0);
    c = estimate((struct cost_case){0}, &m);
    assert_true(c.online_seconds > 0 && c.offline_relu_seconds > 0 && c.offline_linear_seconds > 0);
}

/* ---- machine.txt -------------------------------------------------------------------------- */

static void test_constants_have_keys_of_their_own(void **state)
{
    struct cost_machine m = cost_machine_default();

    (void)state;
    *cost_machine_constant(&m, "ot.offline") = 5;
    *cost_machine_constant(&m, "dealer.claim") = 6;
    assert_true(cost_machine_relu(&m, &relu_ot)->offline == 5);
    assert_true(cost_machine_relu(&m, &relu_gc)->offline == relu_gc.seconds.offline);
    assert_true(cost_machine_linear(&m, &linear_dealer)[1] == 6);
    assert_null(cost_machine_constant(&m, "delphi-gc.online"));
    assert_null(cost_machine_constant(&m, "gc"));
}

static void refused(const char *path, const char *text, const char *part)
{
    struct cost_machine m;

    scratch_write(path, (const uint8_t *)text, strlen(text));
    assert_int_equal(cost_machine_read(path, &m), ERR_FORMAT);
    if (strstr(err_message(), part) == NULL)
        fail_msg("'%s' does not hold '%s'", err_message(), part);
}

static void test_machine_files(void **state)
{
    static const char some[] = "# mine\r\nname = box\n\n  rlwe.upload=0.25 \n";
    struct cost_machine m = cost_machine_default(), back;
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];

    (void)state;
    scratch_open(dir);
    scratch_path(dir, "machine.txt", path);
    snprintf(m.name, sizeof m.name, "a box");
    snprintf(m.cpu, sizeof m.cpu, "a = b");
    m.mac = 0.5;
    *cost_machine_constant(&m, "gc.online") = 0.125;
    assert_int_equal(cost_machine_write(&m, path), 0);
    assert_int_equal(cost_machine_read(path, &back), 0);
    assert_string_equal(back.name, "a box");
    assert_string_equal(back.cpu, "a = b");
    assert_true(back.mac == 0.5 && back.relu[0].online == 0.125);
    scratch_write(path, (const uint8_t *)some, sizeof some - 1);
    assert_int_equal(cost_machine_read(path, &back), 0);
    assert_string_equal(back.name, "box");
    assert_true(*cost_machine_constant(&back, "rlwe.upload") == 0.25);
    assert_true(back.element == cost_machine_default().element);
    refused(path, "mac = 1\nnonsense\n", "line 2");
    refused(path, "gcc.online = 1\n", "'gcc.online'");
    refused(path, "mac = -1\n", "no number of seconds");
    refused(path, "mac = 1 2\n", "no number of seconds");
    refused(path, "mac = nan\n", "no number of seconds");
    scratch_close(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches_and_comparisons),
        cmocka_unit_test(test_bytes_follow_the_schedule),
        cmocka_unit_test(test_bytes_equal_the_published_figures),
        cmocka_unit_test(test_rounds_of_silent_transfers),
        cmocka_unit_test(test_linearised_positions_cost_nothing),
        cmocka_unit_test(test_constants_have_keys_of_their_own),
        cmocka_unit_test(test_machine_files),
        cmocka_unit_test(test_link),
        cmocka_unit_test(test_arithmetic),
        cmocka_unit_test(test_ciphertexts),
        cmocka_unit_test(test_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
