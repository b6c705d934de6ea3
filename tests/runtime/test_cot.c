/* runtime/crypto/cot: both ways of making transfers give the same kind of rows, in the bytes promised. */
#include "runtime/crypto/cot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "runtime/ring/bits.h"
#include "tests/pair.h"

static const struct {
    size_t n;
    int chosen;
} call[] = {{1, 1}, {1000, 0}, {20480, 1}, {9001, 1}, {127, 0}, {64, 1}};
enum { CALLS = sizeof call / sizeof *call, MOST = 20480 };

struct side {
    int sender;
    const struct ferret_set *set;
    struct block delta, rows[CALLS][MOST];
    uint64_t bits[CALLS][MOST / 64];
    uint64_t setup; /* bytes sent in it */
};

static const struct ferret_id id = {{7}, 0};

static int transfer_calls(struct side *s, struct transport *t, struct cot_sender *give,
                          struct cot_receiver *take)
{
    for (int i = 0; i < CALLS; i++) {
        size_t n = call[i].n;

        if (s->sender)
            TRY(cot_send(give, t, n, call[i].chosen, s->rows[i]));
        else if (call[i].chosen)
            TRY(cot_receive_chosen(take, t, n, s->bits[i], s->rows[i]));
        else
            TRY(cot_receive_random(take, t, n, s->bits[i], s->rows[i]));
    }
    TRY(s->sender ? cot_verify(give, t) : cot_prove(take, t));
    return transport_flush(t);
}

static int run_side(struct transport *t, void *arg)
{
    struct side *s = arg;
    uint8_t seed[PRG_SEED] = {3, (uint8_t)s->sender};
    struct otext_sender *base_give = NULL;
    struct otext_receiver *base_take = NULL;
    struct cot_sender give = {0};
    struct cot_receiver take = {0};
    struct prg *rng = NULL;
    int rc = prg_new(seed, &rng);

    if (rc == 0)
        rc = s->sender ? otext_sender_new(t, rng, &base_give)
                       : otext_receiver_new(t, rng, &base_take);
    s->setup = t->count.sent;
    if (rc == 0 && s->sender) {
        s->delta = otext_delta(base_give);
        rc = cot_sender_open(&give, base_give, s->set, &id, rng);
    } else if (rc == 0) {
        rc = cot_receiver_open(&take, base_take, s->set, &id);
    }
    if (rc == 0)
        rc = transfer_calls(s, t, &give, &take);
    cot_sender_close(&give);
    cot_receiver_close(&take);
    otext_sender_free(base_give);
    otext_receiver_free(base_take);
    prg_free(rng);
    return rc;
}

static void check_rows(const struct side *give, const struct side *take, int i)
{
    for (size_t k = 0; k < call[i].n; k++) {
        uint64_t b = bits_mask(take->bits[i], k);
        struct block q = give->rows[i][k], t = take->rows[i][k];

        if (q.lo != (t.lo ^ (b & give->delta.lo)) || q.hi != (t.hi ^ (b & give->delta.hi)))
            fail_msg("call %d, transfer %zu", i, k);
    }
}

static void run_way(const struct ferret_set *set)
{
    struct side *side = mem_array(2, sizeof *side);
    uint64_t want = cot_check_bytes(set), rows = 0, bits[CALLS][MOST / 64];
    struct prg *p = NULL;

    assert_non_null(side);
    assert_int_equal(prg_new((const uint8_t[PRG_SEED]){8}, &p), 0);
    prg_bytes(p, bits, sizeof bits);
    prg_free(p);
    for (int i = 0; i < 2; i++) {
        side[i].sender = i == 0;
        side[i].set = set;
        memcpy(side[i].bits, bits, sizeof bits);
    }
    struct pair_half half[2] = {{.run = run_side, .arg = &side[0]},
                                {.run = run_side, .arg = &side[1]}};
    pair_run(half);
    assert_int_equal(half[0].rc, 0);
    assert_int_equal(half[1].rc, 0);
    for (int i = 0; i < CALLS; i++) {
        check_rows(&side[0], &side[1], i);
        if (call[i].chosen)
            assert_memory_equal(side[1].bits[i], bits[i], sizeof bits[i]);
        want += cot_bytes(set, call[i].n, call[i].chosen);
        rows += call[i].n;
    }
    if (set != NULL)
        want += ferret_bytes(set, rows, 0);
    assert_int_equal(half[1].count.sent - side[1].setup, want);
    assert_int_equal(half[0].count.sent - side[0].setup,
                     set != NULL ? ferret_bytes(set, rows, 1) : 0);
    assert_int_equal(secret_alive(), 0);
    mem_free(side);
}

/* Few rows want small rounds, a slow line with many the fewest bytes and round trips. */
static void test_set_for_a_link(void **state)
{
    (void)state;
    assert_ptr_equal(cot_set(1, 3e9, 3e-4), ferret_set(0));
    assert_ptr_equal(cot_set(1000, 1e6, 0.3), ferret_set(0));
    assert_ptr_equal(cot_set(1000000000, 1e6, 0.3), ferret_set(FERRET_SETS - 1));
    assert_true(cot_set(17000000, 1e11, 1e-5)->k < ferret_set(FERRET_SETS - 1)->k);
    for (uint64_t n = 1000; n < 400000000; n += n / 5)
        for (int i = 0; i < FERRET_SETS; i++)
            assert_true(cot_seconds(cot_set(n, 1e8, 0.02), n, 1e8, 0.02) <=
                        cot_seconds(ferret_set(i), n, 1e8, 0.02));
}

static void test_extension_alone(void **state)
{
    (void)state;
    run_way(NULL);
}

static void test_silent(void **state)
{
    (void)state;
    run_way(ferret_set(0));
    run_way(ferret_set(2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_for_a_link),
        cmocka_unit_test(test_extension_alone),
        cmocka_unit_test(test_silent),
    };

    return cmocka_run_group_tests_name("cot", tests, NULL, NULL);
}
