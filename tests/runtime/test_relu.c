/* runtime/relu_gc and relu_ot: both backends over the in-memory pair. */
#include "runtime/crypto/otext.h"
#include "runtime/relu/relu.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "runtime/relu/ways.h"
#include "tests/relu_pair.h"

#define BATCH(n_, width_, payloads_, tweak_)                                                       \
    {                                                                                              \
        .n = (n_), .width = (width_), .payloads = (payloads_), .tweak = (tweak_)                   \
    }

#define EACH_BACKEND(k)                                                                            \
    for (const struct relu_backend *const *at_ = relu_backends(), *k; (k = *at_) != NULL; at_++)

static void test_backends_by_name(void **state)
{
    (void)state;
    assert_ptr_equal(relu_backend_find("gc"), &relu_gc);
    assert_ptr_equal(relu_backend_find("ot"), &relu_ot);
    assert_ptr_equal(relu_backend_coded(1), &relu_gc);
    assert_ptr_equal(relu_backend_coded(2), &relu_ot);
    assert_null(relu_backend_coded(0));
    assert_null(relu_backend_coded(3));
    assert_null(relu_backend_find("delphi"));
    assert_null(relu_backend_find(""));
}

/* ---- results ------------------------------------------------------------------------------ */

/* All batches of a pair, through both phases; sizes of all messages. */
static void run_and_count(struct relu_pair *p)
{
    uint64_t off[2], on[2];

    for (int who = 0; who < 2; who++) {
        off[who] = p->backend->open_bytes(who, false);
        on[who] = 0;
        for (int i = 0; i < p->n_batches; i++) {
            off[who] += p->backend->offline_bytes(&p->batch[i].b, who);
            on[who] += p->backend->online_bytes(&p->batch[i].b, who);
        }
    }
    relu_pair_offline(p);
    pair_run(p->half);
    for (int who = 0; who < 2; who++) {
        assert_int_equal(p->half[who].rc, 0);
        assert_int_equal(p->half[who].count.sent, off[who]);
        assert_int_equal(p->half[who].count.received, off[!who]);
        assert_int_equal(p->party[who].setup.sent, p->backend->open_bytes(who, false));
    }
    relu_pair_online(p);
    pair_run(p->half);
    relu_pair_check(p);
    for (int who = 0; who < 2; who++) {
        assert_int_equal(p->half[who].count.sent, on[who]);
        assert_int_equal(p->half[who].count.received, on[!who]);
    }
}

static void test_all_widths(void **state)
{
    (void)state;
    EACH_BACKEND(k)
    {
        struct relu_batch b[22];
        struct relu_pair p;

        for (int i = 0; i < 22; i++)
            b[i] = (struct relu_batch)BATCH(300 - 229 * (i % 2), 21 + 4 * (i / 2), 1 + i % 2,
                                            5 + (uint64_t)i);
        relu_pair_open(&p, k, 1, 22, b);
        run_and_count(&p);
        relu_pair_close(&p);
        assert_int_equal(secret_alive(), 0);
    }
}

/* Even and odd widths, sizes beside those of blocks. */
static void test_paired_labels(void **state)
{
    static const int64_t sizes[] = {1, 300, 1024, 1025, 3000, 0};
    struct relu_batch b[18];
    struct relu_pair p;

    (void)state;
    for (int i = 0; i < 18; i++) {
        b[i] = (struct relu_batch)BATCH(sizes[i % 6], 20 + i + 4 * (i / 17), 1 + i % 2,
                                        7 + (uint64_t)i);
        b[i].form.paired = 1;
    }
    relu_pair_open(&p, &relu_gc, 4, 18, b);
    run_and_count(&p);
    relu_pair_close(&p);
    assert_int_equal(secret_alive(), 0);
}

/* 16 bytes less for two bits online, 48 more before; only where that is wished and pays. */
static void test_pairs_are_chosen_for_the_online_phase(void **state)
{
    static const struct relu_ways wan = {.bits_per_second = 400000000, .rtt_ns = 40000000};
    const struct relu_batch plain = BATCH(1000, 21, 1, 0);
    struct relu_batch b = plain;
    struct relu_ways w = wan;

    (void)state;
    relu_shape(&relu_gc, &w, &b);
    assert_memory_equal(&b.form, &plain.form, sizeof b.form);
    w.ahead = true;
    relu_shape(&relu_gc, &w, &b);
    assert_int_equal(b.form.paired, 1);
    assert_int_equal(relu_gc.online_bytes(&plain, 0) - relu_gc.online_bytes(&b, 0), 160 * 1000);
    assert_int_equal(relu_gc.offline_bytes(&b, 0) - relu_gc.offline_bytes(&plain, 0), 480 * 1000);
    b.width = 45; /* too many hashes for a key */
    relu_shape(&relu_gc, &w, &b);
    assert_int_equal(b.form.paired, 0);
    b.width = 41;
    w.bits_per_second = 100000000000;
    relu_shape(&relu_gc, &w, &b);
    assert_int_equal(b.form.paired, 0);
}

static void test_batch_sizes(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0,  1,   2,    7,    8,    9,    63,   64,
                                    65, 127, 1023, 1024, 1025, 2048, 3000, 5};
    EACH_BACKEND(k)
    {
        struct relu_batch b[16];
        struct relu_pair p;

        for (size_t i = 0; i < 16; i++)
            b[i] = (struct relu_batch)BATCH(sizes[i], i % 2 ? 25 : 33, 1 + (int)i / 2 % 2, 100 + i);
        relu_pair_open(&p, k, 2, 16, b);
        run_and_count(&p);
        relu_pair_close(&p);
    }
}

/* Every pair of shares of 5 bits, the rest of the words random; several batches, so that both
 * colours and both values of every random bit come up. */
static void test_narrow_widths_exhaustively(void **state)
{
    (void)state;
    enum { N = 32 * 32, TIMES = 6 };

    EACH_BACKEND(k)
    {
        struct relu_batch b[TIMES];
        struct relu_pair p;

        for (int i = 0; i < TIMES; i++)
            b[i] = (struct relu_batch)BATCH(N, 5, 2, (uint64_t)i);
        relu_pair_open(&p, k, 3, TIMES, b);
        for (uint64_t i = 0; i < N * TIMES; i++) {
            uint64_t *x = &p.batch[i / N].x[i % N], *u = &p.batch[i / N].u[i % N];

            *x = (*x & ~(uint64_t)31) | i % N / 32;
            *u = (*u & ~(uint64_t)31) | i % 32;
        }
        relu_pair_run(&p);
        relu_pair_close(&p);
    }
}

/* ---- sizes -------------------------------------------------------------------------------- */

static void test_byte_budgets(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 2, 3, 10, 100, 1000, 65536};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int m = 21; m <= 61; m += 4) {
            const struct relu_batch b = {.n = sizes[i], .width = m, .payloads = 1};
            uint64_t n = (uint64_t)b.n, bits = (uint64_t)m, blocks = (n + 1023) / 1024;
            uint64_t on = relu_gc.online_bytes(&b, 0) + relu_gc.online_bytes(&b, 1);
            uint64_t off = relu_gc.offline_bytes(&b, 0) + relu_gc.offline_bytes(&b, 1);

            assert_true(on <= n * (16 * bits + 32));
            assert_true(off <= n * (32 * (bits - 1) + 5 * bits + 32) + (blocks + 1) * OTEXT_CHECK);
            on = relu_ot.online_bytes(&b, 0) + relu_ot.online_bytes(&b, 1);
            off = relu_ot.offline_bytes(&b, 0) + relu_ot.offline_bytes(&b, 1);
            if (m <= 33) { /* what calibrated networks need; wider ones grow with m */
                assert_true(on <= 60 * n);
                assert_true(off <= 250 * n + 2 * OTEXT_CHECK);
            }
        }
}

static void test_rounds(void **state)
{
    (void)state;
    static const struct {
        int width;
        uint32_t gc, ot; /* one-way messages */
    } want[] = {{5, 2, 2}, {9, 2, 4}, {13, 2, 4}, {25, 2, 6}, {33, 2, 6}, {61, 2, 6}};

    EACH_BACKEND(k)
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const struct relu_batch b = BATCH(1 + 700 * (int64_t)i, want[i].width, 1, 1);
        struct relu_pair p;

        relu_pair_open(&p, k, 1, 1, &b);
        relu_pair_run(&p);
        for (int who = 0; who < 2; who++)
            assert_int_equal(p.half[who].count.flips + 1, k == &relu_gc ? want[i].gc : want[i].ot);
        assert_int_equal(k->online_messages(&b), p.half[0].count.flips + 1);
        relu_pair_close(&p);
    }
}

static void test_bad_batches(void **state)
{
    (void)state;
    static const struct relu_batch bad[] = {BATCH(-1, 25, 1, 0), BATCH(1, 4, 1, 0),
                                            BATCH(1, 65, 1, 0),  BATCH(1, 1, 1, 0),
                                            BATCH(1, 25, 3, 0),  BATCH(1, 25, 0, 0)};
    struct relu_batch paired = BATCH(1, 45, 1, 0);
    struct transport t = {0};

    paired.form.paired = 1;
    assert_int_equal(relu_gc.online_client(&t, &paired, NULL, 0), ERR_ARG);
    assert_int_equal(relu_gc.online_server(&t, &paired, NULL, 0, NULL, NULL), ERR_ARG);
    EACH_BACKEND(k)
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(k->online_client(&t, &bad[i], NULL, 0), ERR_ARG);
        assert_int_equal(k->online_server(&t, &bad[i], NULL, 0, NULL, NULL), ERR_ARG);
    }
}

/* ---- statistics --------------------------------------------------------------------------- */

/* 255 degrees of freedom: exceeded with probability 1e-6 (Wilson-Hilferty: 377.2). */
#define CHI2_255_1E6 377.2

struct histogram {
    uint64_t count[256], total;
};

static void add_bytes(struct histogram *h, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h->count[((const uint8_t *)bytes)[i]]++;
    h->total += n;
}

static double chi_square(const struct histogram *h)
{
    double want = (double)h->total / 256, sum = 0;

    for (int i = 0; i < 256; i++)
        sum += ((double)h->count[i] - want) * ((double)h->count[i] - want) / want;
    return sum;
}

/* A transport that counts bytes by value, and may spoil what is received. */
struct tap {
    struct transport inner;
    struct histogram sent; /* of all bytes but the first `skip` */
    uint64_t skip;
    uint64_t received, spoil_from; /* bytes so far; flips a bit of every 97th byte from there on */
};

static int tap_send(void *ctx, const void *bytes, size_t n)
{
    struct tap *p = ctx;
    size_t skip = n < p->skip ? n : (size_t)p->skip;

    add_bytes(&p->sent, (const uint8_t *)bytes + skip, n - skip);
    p->skip -= skip;
    return transport_send(&p->inner, bytes, n);
}

static int tap_recv(void *ctx, void *bytes, size_t n)
{
    struct tap *p = ctx;

    TRY(transport_recv(&p->inner, bytes, n));
    for (size_t i = 0; i < n; i++, p->received++)
        if (p->received >= p->spoil_from && p->received % 97 == 0)
            ((uint8_t *)bytes)[i] ^= (uint8_t)(1 << p->received % 8);
    return 0;
}

static int tap_flush(void *ctx)
{
    return transport_flush(&((struct tap *)ctx)->inner);
}

static void tap_close(void *ctx)
{
    transport_close(&((struct tap *)ctx)->inner);
}

struct tapped {
    struct tap tap;
    struct pair_half plain;
};

/* Runs a half through its tap. */
static int run_tapped(struct transport *t, void *arg)
{
    struct tapped *w = arg;

    w->tap.inner = *t;
    struct transport outer = {
        .send = tap_send, .recv = tap_recv, .flush = tap_flush, .close = tap_close, .ctx = &w->tap};
    int rc = w->plain.run(&outer, w->plain.arg);
    *t = w->tap.inner;
    return rc;
}

/* pair_run with a tap around both parties. */
static void run_through_taps(struct relu_pair *p, struct tapped tapped[2])
{
    for (int i = 0; i < 2; i++) {
        tapped[i].plain = p->half[i];
        p->half[i].run = run_tapped;
        p->half[i].arg = &tapped[i];
    }
    pair_run(p->half);
}

/* What both parties send is noise; where bytes are the first `skip`, they are left out. */
static void check_noise(struct relu_pair *p, const uint64_t skip[2], const uint64_t want[2])
{
    static struct tapped tapped[2];

    memset(tapped, 0, sizeof tapped);
    for (int who = 0; who < 2; who++) {
        tapped[who].tap.spoil_from = UINT64_MAX;
        tapped[who].tap.skip = skip[who];
    }
    run_through_taps(p, tapped);
    for (int who = 0; who < 2; who++) {
        assert_int_equal(p->half[who].rc, 0);
        assert_int_equal(tapped[who].tap.sent.total, want[who]);
        assert_true(chi_square(&tapped[who].tap.sent) < CHI2_255_1E6);
    }
}

/* The same three values again and again, all of it the server's in half of the batches, all of it
 * the client's in the others: what the server ends up with, and what each party sends, must look
 * like noise (the points of set-up excepted). 4 x 4000 comparisons, fixed seed. */
static void check_views(const struct relu_backend *k, uint8_t paired)
{
    enum { N = 4000, TIMES = 4 };
    struct histogram z = {0};
    struct relu_batch b[TIMES];
    struct relu_pair p;
    uint64_t setup[2], none[2] = {0, 0}, off[2], on[2];

    for (int i = 0; i < TIMES; i++) {
        b[i] = (struct relu_batch)BATCH(N, 25, 1, 3 + (uint64_t)i);
        b[i].form.paired = paired;
    }
    for (int who = 0; who < 2; who++) {
        setup[who] = k->open_bytes(who, false);
        off[who] = TIMES * k->offline_bytes(&b[0], who);
        on[who] = TIMES * k->online_bytes(&b[0], who);
    }
    relu_pair_open(&p, k, 7, TIMES, b);
    for (size_t i = 0; i < N * TIMES; i++) {
        p.batch[i / N].x[i % N] = i / N % 2 ? i % 3 : 0;
        p.batch[i / N].u[i % N] = i / N % 2 ? 0 : i % 3;
    }
    relu_pair_offline(&p);
    check_noise(&p, setup, off);
    relu_pair_online(&p);
    check_noise(&p, none, on);
    relu_pair_check(&p);
    for (int i = 0; i < TIMES; i++)
        add_bytes(&z, p.batch[i].z, N * sizeof *p.batch[i].z);
    assert_true(chi_square(&z) < CHI2_255_1E6);
    relu_pair_close(&p);
}

static void test_views_are_uniform(void **state)
{
    (void)state;
    EACH_BACKEND(k)
    check_views(k, 0);
    check_views(&relu_gc, 1);
}

/* ---- hostile peers and failures ------------------------------------------------------------- */

/* Runs the prepared halves with bits of what `victim` receives flipped from some byte on. */
static int spoil(struct relu_pair *p, int victim, uint64_t from)
{
    static struct tapped tapped[2];

    memset(tapped, 0, sizeof tapped);
    tapped[victim].tap.spoil_from = from;
    tapped[!victim].tap.spoil_from = UINT64_MAX;
    run_through_taps(p, tapped);
    return p->half[victim].rc;
}

/* Offline the checks of the set-up and of the transfers end it; online results are lost, memory is not. */
static void test_spoiled_messages(void **state)
{
    (void)state;
    static const struct relu_batch b[] = {BATCH(200, 25, 1, 1), BATCH(9, 33, 2, 2)};

    EACH_BACKEND(k)
    for (int victim = 0; victim < 2; victim++) {
        struct relu_pair p;
        uint64_t setup = k->open_bytes(!victim, false);

        relu_pair_open(&p, k, 5, 2, b);
        relu_pair_offline(&p);
        assert_int_equal(spoil(&p, victim, 0), ERR_PEER);
        relu_pair_offline(&p);
        assert_int_equal(spoil(&p, victim, setup), ERR_PEER);
        relu_pair_offline(&p);
        assert_int_equal(spoil(&p, victim, setup + k->offline_bytes(&b[0], !victim)), ERR_PEER);
        relu_pair_offline(&p);
        pair_run(p.half);
        relu_pair_online(&p);
        assert_int_equal(spoil(&p, victim, 0), 0);
        relu_pair_online(&p);
        assert_int_equal(spoil(&p, victim, k->online_bytes(&b[0], !victim) / 2), 0);
        relu_pair_close(&p);
        assert_int_equal(secret_alive(), 0);
    }
}

/* The n-th allocation of one party fails, from `first` on; the other party ends as well. */
static void fail_each(struct relu_pair *p, int who, void (*set)(struct relu_pair *), long first,
                      long step)
{
    long alive, total;

    set(p);
    pair_run(p->half);
    total = p->half[who].allocations;
    alive = secret_alive();
    for (long n = first < 0 ? total + first : first; n <= total; n += step) {
        set(p);
        p->half[who].fail_at = n;
        pair_run(p->half);
        assert_int_equal(p->half[who].rc, ERR_NOMEM);
        assert_true(p->half[!who].rc == ERR_PEER || p->half[!who].rc == ERR_NET ||
                    p->half[!who].rc == 0);
        assert_true(secret_alive() <= alive); /* states that were not made are missing */
    }
}

static void test_allocation_failures(void **state)
{
    (void)state;
    static const struct relu_batch b = BATCH(40, 25, 1, 1);

    EACH_BACKEND(k)
    for (int who = 0; who < 2; who++) {
        struct relu_pair p;

        relu_pair_open(&p, k, 6, 1, &b);
        fail_each(&p, who, relu_pair_offline, 1, 900); /* set-up makes 2000 streams */
        fail_each(&p, who, relu_pair_offline, -9, 1);
        relu_pair_offline(&p);
        pair_run(p.half);
        fail_each(&p, who, relu_pair_online, 1, 1);
        relu_pair_close(&p);
        assert_int_equal(secret_alive(), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backends_by_name),
        cmocka_unit_test(test_all_widths),
        cmocka_unit_test(test_paired_labels),
        cmocka_unit_test(test_pairs_are_chosen_for_the_online_phase),
        cmocka_unit_test(test_batch_sizes),
        cmocka_unit_test(test_narrow_widths_exhaustively),
        cmocka_unit_test(test_byte_budgets),
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_bad_batches),
        cmocka_unit_test(test_views_are_uniform),
        cmocka_unit_test(test_spoiled_messages),
        cmocka_unit_test(test_allocation_failures),
    };

    return cmocka_run_group_tests_name("relu", tests, NULL, NULL);
}
