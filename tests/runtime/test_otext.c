/* runtime/baseot and otext: both parties agree, bad points are refused, no secret is left behind. */
#include "runtime/crypto/otext.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "runtime/crypto/baseot.h"
#include "runtime/ring/bits.h"
#include "tests/pair.h"

static int random_source(uint8_t what, struct prg **out)
{
    uint8_t seed[PRG_SEED] = {what};

    return prg_new(seed, out);
}

/* ---- base OT ------------------------------------------------------------------------------ */

enum { N_BASE = 40 };
struct base {
    uint8_t keys[N_BASE][2][BASEOT_KEY], got[N_BASE][BASEOT_KEY], choice[N_BASE];
};

static int base_sender(struct transport *t, void *arg)
{
    struct base *b = arg;
    struct prg *rng = NULL;
    int rc;

    if ((rc = random_source(1, &rng)) == 0)
        rc = baseot_send(t, rng, N_BASE, b->keys);
    prg_free(rng);
    return rc;
}

static int base_receiver(struct transport *t, void *arg)
{
    struct base *b = arg;
    struct prg *rng = NULL;
    int rc;

    if ((rc = random_source(2, &rng)) == 0)
        rc = baseot_receive(t, rng, N_BASE, b->choice, b->got);
    prg_free(rng);
    return rc;
}

static void test_base_ot_keys_agree(void **state)
{
    (void)state;
    static struct base b;
    struct pair_half half[2] = {{.run = base_sender, .arg = &b}, {.run = base_receiver, .arg = &b}};

    for (int i = 0; i < N_BASE; i++)
        b.choice[i] = (uint8_t)(i * 7 % 3 == 0);
    pair_run(half);
    assert_int_equal(half[0].rc, 0);
    assert_int_equal(half[1].rc, 0);
    assert_int_equal(half[0].count.sent, baseot_bytes(N_BASE, 1));
    assert_int_equal(half[1].count.sent, baseot_bytes(N_BASE, 0));
    for (int i = 0; i < N_BASE; i++) {
        assert_memory_equal(b.got[i], b.keys[i][b.choice[i]], BASEOT_KEY);
        assert_memory_not_equal(b.got[i], b.keys[i][!b.choice[i]], BASEOT_KEY);
        for (int k = 0; k < i; k++)
            assert_memory_not_equal(b.keys[i], b.keys[k], BASEOT_KEY);
    }
    assert_int_equal(secret_alive(), 0);
}

enum { OFF_CURVE, INFINITY_65, COMPRESSED, TOO_LARGE, NOTHING, ECHO, BAD_POINTS };
static const uint8_t generator[65] = {
    0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5,
    0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4,
    0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96, 0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a,
    0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33,
    0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5};

static void bad_point(int kind, uint8_t p[65])
{
    memcpy(p, generator, 65);
    if (kind == OFF_CURVE)
        p[64] ^= 1;
    else if (kind == INFINITY_65)
        memset(p, 0, 65);
    else if (kind == COMPRESSED)
        p[0] = 3;
    else if (kind == TOO_LARGE)
        memset(p + 1, 0xff, 32);
    else
        memset(p + 1, 0, 64);
}

/* Sends points of the kind in either role; the good half must answer ERR_PEER. */
struct liar {
    int kind, as_sender;
};

static int lie(struct transport *t, void *arg)
{
    struct liar *l = arg;
    uint8_t p[65];

    bad_point(l->kind, p);
    if (!l->as_sender) {
        uint8_t theirs[65];

        TRY(transport_recv(t, theirs, sizeof theirs));
        if (l->kind == ECHO)
            memcpy(p, theirs, sizeof p);
    }
    TRY(transport_send(t, p, sizeof p));
    return transport_flush(t);
}

static void test_base_ot_refuses_points(void **state)
{
    (void)state;
    static struct base b;

    for (int kind = 0; kind < BAD_POINTS; kind++)
        for (int as_sender = 0; as_sender < 2; as_sender++) {
            struct liar l = {kind, as_sender};
            struct pair_half half[2] = {{.run = as_sender ? base_receiver : base_sender, .arg = &b},
                                        {.run = lie, .arg = &l}};

            if (kind == ECHO && as_sender)
                continue;
            pair_run(half);
            assert_int_equal(half[0].rc, ERR_PEER);
            assert_int_equal(half[1].rc, 0);
            assert_int_equal(secret_alive(), 0);
        }
}

/* ---- extension ---------------------------------------------------------------------------- */

struct call {
    size_t n;
    int chosen;
};
#define MOST 40000
static const struct call calls[] = {{1, 1},   {7, 0},   {128, 1},   {200, 0},   {16384, 0},
                                    {333, 1}, {129, 0}, {16512, 1}, {40000, 1}, {39999, 0}};
enum { CALLS = sizeof calls / sizeof *calls };
struct extension {
    uint8_t seed;
    const struct call *call;
    int n_calls;
    struct block delta, *q[CALLS], *t[CALLS];
    uint64_t *bits[CALLS];
};

static int run_sender(struct transport *t, void *arg)
{
    struct extension *e = arg;
    struct otext_sender *s = NULL;
    struct prg *rng = NULL;
    int rc;

    if ((rc = random_source(e->seed, &rng)) < 0 || (rc = otext_sender_new(t, rng, &s)) < 0)
        goto out;
    e->delta = otext_delta(s);
    for (int i = 0; i < e->n_calls && rc == 0; i++)
        if ((rc = otext_send(s, t, e->call[i].n, e->call[i].chosen, e->q[i])) == 0 && i % 3 == 2)
            rc = otext_verify(s, t);
    if (rc == 0)
        rc = otext_verify(s, t);
out:
    otext_sender_free(s);
    prg_free(rng);
    return rc;
}

static int run_receiver(struct transport *t, void *arg)
{
    struct extension *e = arg;
    struct otext_receiver *r = NULL;
    struct prg *rng = NULL;
    int rc;

    if ((rc = random_source((uint8_t)(e->seed + 100), &rng)) < 0 ||
        (rc = otext_receiver_new(t, rng, &r)) < 0)
        goto out;
    for (int i = 0; i < e->n_calls && rc == 0; i++) {
        const struct call *c = &e->call[i];

        rc = c->chosen ? otext_receive_chosen(r, t, c->n, e->bits[i], e->t[i])
                       : otext_receive_random(r, t, c->n, e->bits[i], e->t[i]);
        if (rc == 0 && i % 3 == 2)
            rc = otext_prove(r, t);
    }
    if (rc == 0 && (rc = otext_prove(r, t)) == 0)
        rc = transport_flush(t);
out:
    otext_receiver_free(r);
    prg_free(rng);
    return rc;
}

static void extension_open(struct extension *e, uint8_t seed)
{
    struct prg *p = NULL;

    *e = (struct extension){.seed = seed, .call = calls, .n_calls = CALLS};
    assert_int_equal(random_source((uint8_t)(seed + 50), &p), 0);
    for (int i = 0; i < CALLS; i++) {
        e->q[i] = mem_array(MOST, sizeof(struct block));
        e->t[i] = mem_array(MOST, sizeof(struct block));
        e->bits[i] = mem_array(MOST / 64 + 1, 8);
        assert_true(e->q[i] != NULL && e->t[i] != NULL && e->bits[i] != NULL);
        prg_bytes(p, e->bits[i], MOST / 8);
    }
    prg_free(p);
}

static void extension_close(struct extension *e)
{
    for (int i = 0; i < CALLS; i++) {
        mem_free(e->q[i]);
        mem_free(e->t[i]);
        mem_free(e->bits[i]);
    }
}

static uint64_t mask_of(const uint64_t *bits, size_t k)
{
    return (uint64_t)0 - (bits[k / 64] >> k % 64 & 1);
}

static void test_rows_are_correlated(void **state)
{
    (void)state;
    struct extension e;
    uint64_t want = otext_setup_bytes(0), ones = 0, total = 0;

    extension_open(&e, 3);
    struct pair_half half[2] = {{.run = run_sender, .arg = &e}, {.run = run_receiver, .arg = &e}};
    pair_run(half);
    assert_int_equal(half[0].rc, 0);
    assert_int_equal(half[1].rc, 0);
    assert_int_equal(e.delta.lo & 1, 1);
    for (int i = 0; i < CALLS; i++) {
        want += otext_bytes(calls[i].n, calls[i].chosen);
        assert_int_equal(otext_bytes(calls[i].n, calls[i].chosen),
                         (calls[i].n * (calls[i].chosen ? 32 : 31) + 7) / 8);
        for (size_t k = 0; k < calls[i].n; k++) {
            uint64_t b = mask_of(e.bits[i], k);

            if (e.q[i][k].lo != (e.t[i][k].lo ^ (b & e.delta.lo)) ||
                e.q[i][k].hi != (e.t[i][k].hi ^ (b & e.delta.hi)))
                fail_msg("call %d, transfer %zu", i, k);
            if (!calls[i].chosen) {
                ones += b & 1;
                total++;
            }
        }
    }
    want += (uint64_t)(CALLS / 3 + 1) * OTEXT_CHECK;
    assert_int_equal(half[0].count.sent, otext_setup_bytes(1));
    assert_int_equal(half[1].count.sent, want);
    /* random bits are balanced: six standard deviations */
    double off = (double)ones - (double)total / 2;
    assert_true(off * off < 36 * (double)total / 4);
    assert_int_equal(secret_alive(), 0);
    extension_close(&e);
}

/* Rows never repeat, and delta differs with the seed. */
static void test_rows_are_fresh(void **state)
{
    (void)state;
    struct extension e, f;

    extension_open(&e, 3);
    extension_open(&f, 4);
    struct pair_half first[2] = {{.run = run_sender, .arg = &e}, {.run = run_receiver, .arg = &e}};
    struct pair_half second[2] = {{.run = run_sender, .arg = &f}, {.run = run_receiver, .arg = &f}};
    pair_run(first);
    pair_run(second);
    assert_memory_not_equal(&e.delta, &f.delta, sizeof e.delta);
    for (size_t k = 1; k < 300; k++)
        for (size_t i = 0; i < k; i++)
            assert_memory_not_equal(&e.t[7][k], &e.t[7][i], sizeof(struct block));
    for (size_t k = 0; k < 333; k++)
        assert_memory_not_equal(&e.t[5][k], &f.t[5][k], sizeof(struct block));
    extension_close(&e);
    extension_close(&f);
}

/* Every allocation of either half fails once; the other half ends too and nothing stays. */
static void test_allocation_failures(void **state)
{
    (void)state;
    static const struct call small[] = {{130, 1}, {5, 0}};
    struct extension e;
    long counts[2];

    extension_open(&e, 5);
    e.call = small;
    e.n_calls = 2;
    struct pair_half half[2] = {{.run = run_sender, .arg = &e}, {.run = run_receiver, .arg = &e}};
    pair_run(half);
    counts[0] = half[0].allocations;
    counts[1] = half[1].allocations;
    for (int who = 0; who < 2; who++)
        for (long n = 1; n <= counts[who]; n += n < 8 || n > counts[who] - 3 ? 1 : 211) {
            half[who].fail_at = n;
            half[!who].fail_at = 0;
            pair_run(half);
            assert_int_equal(half[who].rc, ERR_NOMEM);
            assert_int_equal(secret_alive(), 0);
        }
    extension_close(&e);
}

/* A peer that sends noise instead of trees and planes is refused, and nothing else happens. */
static int noise(struct transport *t, void *arg)
{
    struct base *b = arg;
    struct prg *rng = NULL;
    uint8_t junk[2048];
    int rc;

    TRY(random_source(9, &rng));
    if ((rc = baseot_send(t, rng, N_BASE, b->keys)) == 0)
        for (uint64_t left = 88 * 65; left > 0 && rc == 0; left -= 65)
            rc = transport_recv(t, junk, 65);
    for (int i = 0; i < 40 && rc == 0; i++) {
        prg_bytes(rng, junk, sizeof junk);
        rc = transport_send(t, junk, sizeof junk);
    }
    if (rc == 0)
        rc = transport_flush(t);
    prg_free(rng);
    return rc;
}

static void test_noise_is_harmless(void **state)
{
    (void)state;
    static struct base b;
    struct extension e;

    extension_open(&e, 6);
    struct pair_half half[2] = {{.run = run_sender, .arg = &e}, {.run = noise, .arg = &b}};
    pair_run(half);
    assert_int_equal(half[0].rc, ERR_PEER);
    assert_int_equal(secret_alive(), 0);
    extension_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base_ot_keys_agree),  cmocka_unit_test(test_base_ot_refuses_points),
        cmocka_unit_test(test_rows_are_correlated), cmocka_unit_test(test_rows_are_fresh),
        cmocka_unit_test(test_allocation_failures), cmocka_unit_test(test_noise_is_harmless),
    };

    return cmocka_run_group_tests_name("otext", tests, NULL, NULL);
}
