/* runtime/relu_gc and relu_ot: both backends over the in-memory pair. */
#include "runtime/relu.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "core/mem.h"
#include "tests/relu_pair.h"

static const char *const names[] = {"gc", "ot"};
#define EACH_BACKEND(k)                                                                            \
    for (const struct relu_backend *k = relu_backend_find(names[0]), *last_ = NULL; k != NULL;     \
         last_ = k, k = last_ == relu_backend_find(names[0]) ? relu_backend_find(names[1]) : NULL)

static void test_backends_by_name(void **state)
{
    (void)state;
    assert_ptr_equal(relu_backend_find("gc"), &relu_gc);
    assert_ptr_equal(relu_backend_find("ot"), &relu_ot);
    assert_null(relu_backend_find("delphi"));
    assert_null(relu_backend_find(""));
}

/* ---- results ------------------------------------------------------------------------------ */

static uint64_t sent(const struct relu_pair *p, int who, enum relu_phase phase)
{
    const struct transport_count *c = p->party[who].count;

    return c[phase].sent - (phase > 0 ? c[phase - 1].sent : 0);
}

static void check_bytes(const struct relu_pair *p)
{
    for (int who = 0; who < 2; who++) {
        uint64_t off = 0, on = 0;

        for (int i = 0; i < p->n_batches; i++) {
            off += p->backend->offline_bytes(&p->batch[i].b, who);
            on += p->backend->online_bytes(&p->batch[i].b, who);
        }
        assert_int_equal(sent(p, who, RELU_SETUP), p->backend->open_bytes(who));
        assert_int_equal(sent(p, who, RELU_OFFLINE), off);
        assert_int_equal(sent(p, who, RELU_ONLINE), on);
    }
}

static void test_all_widths(void **state)
{
    (void)state;
    EACH_BACKEND(k)
    for (int m = 21; m <= 61; m += 4) {
        const struct relu_batch b[] = {
            {.n = 300, .width = m, .payloads = 1, .tweak = 5},
            {.n = 71, .width = m, .payloads = 2, .tweak = 6},
        };
        struct relu_pair p;

        relu_pair_open(&p, k, (uint8_t)m, 2, b);
        relu_pair_run(&p);
        relu_pair_check(&p);
        check_bytes(&p);
        relu_pair_close(&p);
        assert_int_equal(secret_alive(), 0);
    }
}

static void test_batch_sizes(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0,  1,   2,    7,    8,    9,    63,   64,
                                    65, 127, 1023, 1024, 1025, 2048, 3000, 5};
    EACH_BACKEND(k)
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i += 4) {
        struct relu_batch b[4];
        struct relu_pair p;

        for (size_t j = 0; j < 4; j++)
            b[j] = (struct relu_batch){sizes[i + j], j % 2 ? 25 : 33, 1 + (int)j / 2, 100 + j};
        relu_pair_open(&p, k, (uint8_t)i, 4, b);
        relu_pair_run(&p);
        relu_pair_check(&p);
        check_bytes(&p);
        relu_pair_close(&p);
    }
}

/* Every pair of shares of 5 bits, the rest of the words random; several seeds, so that both colours
 * and both values of every random bit come up. */
static void test_narrow_widths_exhaustively(void **state)
{
    (void)state;
    enum { N = 32 * 32 };
    const struct relu_batch b = {.n = N, .width = 5, .payloads = 2, .tweak = 9};

    EACH_BACKEND(k)
    for (uint8_t seed = 0; seed < 4; seed++) {
        struct relu_pair p;

        relu_pair_open(&p, k, seed, 1, &b);
        for (uint64_t i = 0; i < N; i++) {
            p.batch[0].x[i] = (p.batch[0].x[i] & ~(uint64_t)31) | i / 32;
            p.batch[0].u[i] = (p.batch[0].u[i] & ~(uint64_t)31) | i % 32;
        }
        relu_pair_run(&p);
        relu_pair_check(&p);
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
            uint64_t n = (uint64_t)b.n, bits = (uint64_t)m;
            uint64_t on = relu_gc.online_bytes(&b, 0) + relu_gc.online_bytes(&b, 1);
            uint64_t off = relu_gc.offline_bytes(&b, 0) + relu_gc.offline_bytes(&b, 1);

            assert_true(on <= n * (16 * bits + 32));
            assert_true(off <= n * (32 * (bits - 1) + 5 * bits + 32));
            on = relu_ot.online_bytes(&b, 0) + relu_ot.online_bytes(&b, 1);
            off = relu_ot.offline_bytes(&b, 0) + relu_ot.offline_bytes(&b, 1);
            if (m <= 33) { /* what calibrated networks need; wider ones grow with m */
                assert_true(on <= 60 * n);
                assert_true(off <= 250 * n);
            }
        }
}

/* Flips of one batch as both parties count them: whose turn it is changes so often. */
static uint32_t flips(const struct relu_pair *p, enum relu_phase phase)
{
    return p->party[0].count[phase].flips - p->party[0].count[phase - 1].flips;
}

static void test_rounds_do_not_depend_on_size(void **state)
{
    (void)state;
    EACH_BACKEND(k)
    for (int64_t n = 3; n < 5000; n *= 40) {
        const struct relu_batch b = {.n = n, .width = 25, .payloads = 1, .tweak = 1};
        struct relu_pair p;

        relu_pair_open(&p, k, 1, 1, &b);
        relu_pair_run(&p);
        relu_pair_check(&p);
        /* 2 or 6 one-way messages online; the server's first one follows its last offline recv */
        assert_int_equal(flips(&p, RELU_ONLINE), k == &relu_gc ? 2 : 6);
        relu_pair_close(&p);
    }
}

static void test_bad_batches(void **state)
{
    (void)state;
    static const struct relu_batch bad[] = {{-1, 25, 1, 0}, {1, 24, 1, 0}, {1, 65, 1, 0},
                                            {1, 1, 1, 0},   {1, 25, 3, 0}, {1, 25, 0, 0}};
    uint8_t none[8] = {0};
    struct transport t = {0};

    EACH_BACKEND(k)
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(k->online_client(&t, &bad[i], none), ERR_ARG);
        assert_int_equal(k->online_server(&t, &bad[i], none, NULL, NULL), ERR_ARG);
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

/* A transport that keeps what passes, and may spoil what is received. */
struct tap {
    struct transport inner;
    struct histogram sent;
    uint64_t received, spoil_from; /* bytes so far; flips a bit of every 97th byte from there on */
    int keep;
};

static int tap_send(void *ctx, const void *bytes, size_t n)
{
    struct tap *p = ctx;

    if (p->keep)
        add_bytes(&p->sent, bytes, n);
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
    int (*run)(struct transport *t, void *arg);
    void *arg;
};

/* Runs a half through its tap. */
static int run_tapped(struct transport *t, void *arg)
{
    struct tapped *w = arg;

    w->tap.inner = *t;
    struct transport outer = {
        .send = tap_send, .recv = tap_recv, .flush = tap_flush, .close = tap_close, .ctx = &w->tap};
    int rc = w->run(&outer, w->arg);
    *t = w->tap.inner;
    return rc;
}

/* Puts taps between both parties of a prepared pair, after one plain run. */
static void run_through_taps(struct relu_pair *p, struct tapped tapped[2])
{
    for (int i = 0; i < 2; i++) {
        tapped[i].run = p->half[i].run;
        tapped[i].arg = p->half[i].arg;
        p->half[i].run = run_tapped;
        p->half[i].arg = &tapped[i];
    }
    pair_run(p->half);
}

static void keep_online_only(struct relu_pair_party *me, enum relu_phase phase)
{
    struct tap *t = me->hook_arg;

    t->keep = phase == RELU_OFFLINE;
}

/* The same image again and again (x + u fixed, mostly small values): what the server ends up with,
 * and what each party sends online, must look like noise. 8 x 2000 comparisons, fixed seeds. */
static void test_views_are_uniform(void **state)
{
    (void)state;
    enum { N = 2000, RUNS = 8 };
    const struct relu_batch b = {.n = N, .width = 25, .payloads = 1, .tweak = 3};

    EACH_BACKEND(k)
    {
        static struct tapped tapped[2];
        struct histogram z = {0}, messages[2] = {{{0}, 0}, {{0}, 0}};

        for (uint8_t run = 0; run < RUNS; run++) {
            struct relu_pair p;

            relu_pair_open(&p, k, run, 1, &b);
            for (size_t i = 0; i < N; i++) {
                p.batch[0].x[i] = i % 3 - p.batch[0].u[i];
                assert_int_not_equal(p.batch[0].x[i], 0);
            }
            relu_pair_run(&p);
            relu_pair_check(&p);
            memset(tapped, 0, sizeof tapped);
            tapped[0].tap.spoil_from = tapped[1].tap.spoil_from = UINT64_MAX;
            p.party[0].hook = p.party[1].hook = keep_online_only;
            for (int i = 0; i < 2; i++)
                p.party[i].hook_arg = &tapped[i].tap;
            run_through_taps(&p, tapped);
            relu_pair_check(&p);
            add_bytes(&z, p.batch[0].z, N * 8);
            for (int i = 0; i < 2; i++)
                for (int v = 0; v < 256; v++) {
                    messages[i].count[v] += tapped[i].tap.sent.count[v];
                    messages[i].total += tapped[i].tap.sent.count[v];
                }
            relu_pair_close(&p);
        }
        assert_int_equal(messages[0].total, RUNS * k->online_bytes(&b, 0));
        assert_int_equal(messages[1].total, RUNS * k->online_bytes(&b, 1));
        assert_true(chi_square(&z) < CHI2_255_1E6);
        assert_true(chi_square(&messages[0]) < CHI2_255_1E6);
        assert_true(chi_square(&messages[1]) < CHI2_255_1E6);
    }
}

/* ---- hostile peers and failures ------------------------------------------------------------- */

/* Bits of what one party receives are flipped from some byte on. Results are lost, memory is not;
 * where points of the set-up are hit, ERR_PEER. */
static void test_spoiled_messages(void **state)
{
    (void)state;
    const struct relu_batch b[] = {{200, 25, 1, 1}, {9, 33, 2, 2}};

    EACH_BACKEND(k)
    for (int victim = 0; victim < 2; victim++) {
        struct relu_pair p;
        uint64_t spoil[4] = {0};

        relu_pair_open(&p, k, 5, 2, b);
        relu_pair_run(&p);
        spoil[1] = k->open_bytes(!victim);
        spoil[2] = spoil[1] + k->offline_bytes(&b[0], !victim);
        spoil[3] = p.party[victim].count[RELU_OFFLINE].received;
        for (int i = 0; i < 4; i++) {
            static struct tapped tapped[2];

            memset(tapped, 0, sizeof tapped);
            tapped[victim].tap.spoil_from = spoil[i];
            tapped[!victim].tap.spoil_from = UINT64_MAX;
            relu_pair_reset(&p);
            run_through_taps(&p, tapped);
            assert_true(p.half[victim].rc == (i == 0 ? ERR_PEER : 0));
            assert_int_equal(secret_alive(), 0);
        }
        relu_pair_close(&p);
    }
}

/* A party stops after so many bytes: the other one ends with an error, nothing stays. */
static void test_early_ends(void **state)
{
    (void)state;
    const struct relu_batch b = {40, 25, 1, 1};

    EACH_BACKEND(k)
    for (int who = 0; who < 2; who++) {
        struct relu_pair p;
        long total;

        relu_pair_open(&p, k, 6, 1, &b);
        relu_pair_run(&p);
        total = p.half[who].allocations;
        /* set-up allocates 1000 streams: a sample of them, then everything after */
        for (long n = 1; n <= total; n += n > 5 && n < total - 40 ? 149 : 1) {
            p.half[who].fail_at = n;
            pair_run(p.half);
            assert_int_equal(p.half[who].rc, ERR_NOMEM);
            assert_true(p.half[!who].rc == ERR_PEER || p.half[!who].rc == ERR_NET ||
                        p.half[!who].rc == 0);
            assert_int_equal(secret_alive(), 0);
        }
        relu_pair_close(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backends_by_name),
        cmocka_unit_test(test_all_widths),
        cmocka_unit_test(test_batch_sizes),
        cmocka_unit_test(test_narrow_widths_exhaustively),
        cmocka_unit_test(test_byte_budgets),
        cmocka_unit_test(test_rounds_do_not_depend_on_size),
        cmocka_unit_test(test_bad_batches),
        cmocka_unit_test(test_views_are_uniform),
        cmocka_unit_test(test_spoiled_messages),
        cmocka_unit_test(test_early_ends),
    };

    return cmocka_run_group_tests_name("relu", tests, NULL, NULL);
}
