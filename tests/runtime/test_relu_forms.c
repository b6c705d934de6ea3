/*
 * The forms of backend "ot" (relu.h): every digit vector, as a tree and one-shot, with transfers of
 * either extension, gives the same results; sizes and messages are those stated; the choice of a form
 * is the least of all.
 */
#include "runtime/relu/relu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "tests/relu_pair.h"

/* ---- digit vectors -------------------------------------------------------------------------- */

struct forms {
    struct relu_form *form;
    int n, room;
};

static void keep(struct forms *all, const struct relu_form *f, int one_shot)
{
    if (all->n == all->room) {
        all->room = all->room == 0 ? 64 : 2 * all->room;
        all->form = mem_resize(all->form, (size_t)all->room, sizeof *all->form);
        assert_non_null(all->form);
    }
    all->form[all->n] = *f;
    all->form[all->n++].one_shot = (uint8_t)one_shot;
}

/* All ways to cut `left` more bits; every one as a tree and, up to six digits, one-shot. */
static void cut(struct forms *all, struct relu_form *f, int left)
{
    if (left == 0) {
        keep(all, f, 0);
        if (f->digits <= 6)
            keep(all, f, 1);
    }
    for (int bits = f->digits == 0 ? 3 : 2; bits <= 5 && bits <= left; bits++) {
        f->bits[f->digits++] = (uint8_t)bits;
        cut(all, f, left - bits);
        f->bits[--f->digits] = 0;
    }
}

static struct forms forms_of(int width)
{
    struct forms all = {0};
    struct relu_form f = {0};

    cut(&all, &f, width - 1);
    return all;
}

/* ---- results ------------------------------------------------------------------------------ */

/* Batches of one pair through both phases; bytes of both are those stated. */
static void run_and_count(struct relu_pair *p)
{
    uint64_t off[2], on[2], rows[2] = {0, 0};

    for (int who = 0; who < 2; who++) {
        off[who] = relu_ot.open_bytes(who, false);
        on[who] = 0;
        for (int i = 0; i < p->n_batches; i++) {
            off[who] += relu_ot.offline_bytes(&p->batch[i].b, who);
            on[who] += relu_ot.online_bytes(&p->batch[i].b, who);
            rows[who] += relu_ot.silent_rows(&p->batch[i].b, who);
        }
    }
    for (int who = 0; who < 2; who++) {
        if (p->ways.down != NULL)
            off[who] += ferret_bytes(p->ways.down, rows[0], !who);
        if (p->ways.up != NULL)
            off[who] += ferret_bytes(p->ways.up, rows[1], who);
    }
    relu_pair_offline(p);
    pair_run(p->half);
    for (int who = 0; who < 2; who++) {
        assert_int_equal(p->half[who].rc, 0);
        assert_int_equal(p->half[who].count.sent, off[who]);
    }
    relu_pair_online(p);
    pair_run(p->half);
    relu_pair_check(p);
    for (int who = 0; who < 2; who++)
        assert_int_equal(p->half[who].count.sent, on[who]);
}

/* Forms first ... of a list at one width, a batch each. */
static void run_forms(const struct forms *all, int first, int width, int64_t n, int payloads)
{
    struct relu_batch b[RELU_PAIR_BATCHES];
    struct relu_pair p;
    int count = all->n - first < RELU_PAIR_BATCHES ? all->n - first : RELU_PAIR_BATCHES;

    for (int i = 0; i < count; i++)
        b[i] = (struct relu_batch){.n = n,
                                   .width = width,
                                   .payloads = payloads,
                                   .tweak = (uint64_t)(first + i),
                                   .form = all->form[first + i]};
    relu_pair_open(&p, &relu_ot, (uint8_t)width, count, b);
    run_and_count(&p);
    relu_pair_close(&p);
}

static void test_every_digit_vector(void **state)
{
    (void)state;
    for (int width = 5; width <= 13; width++) {
        struct forms all = forms_of(width);

        for (int first = 0; first < all.n; first += RELU_PAIR_BATCHES)
            run_forms(&all, first, width, 301, 1 + first / RELU_PAIR_BATCHES % 2);
        assert_true(width < 13 || all.n > 60);
        mem_free(all.form);
    }
}

/* Every pair of shares of a width, for every digit vector of it. */
static void exhaust(int width)
{
    struct forms all = forms_of(width);
    uint64_t values = (uint64_t)1 << width, mask = values - 1;

    for (int f = 0; f < all.n; f++) {
        const struct relu_batch b = {
            .n = (int64_t)(values * values), .width = width, .payloads = 1, .form = all.form[f]};
        struct relu_pair p;

        relu_pair_open(&p, &relu_ot, 3, 1, &b);
        for (uint64_t i = 0; i < values * values; i++) {
            p.batch[0].x[i] = (p.batch[0].x[i] & ~mask) | i / values;
            p.batch[0].u[i] = (p.batch[0].u[i] & ~mask) | i % values;
        }
        relu_pair_run(&p);
        relu_pair_close(&p);
    }
    mem_free(all.form);
}

static void test_small_domains_exhaustively(void **state)
{
    (void)state;
    for (int width = 5; width <= 8; width++)
        exhaust(width);
}

/* Some of the many vectors of wide comparisons. */
static void test_wide_vectors(void **state)
{
    (void)state;
    static const int width[] = {17, 21, 23, 25, 33, 41};
    uint32_t draw = 12345;

    for (size_t w = 0; w < sizeof width / sizeof *width; w++) {
        struct forms some = {0};

        while (some.n < 16) {
            struct relu_form f = {0};
            int left = width[w] - 1;

            while (left > 0 && f.digits < RELU_MOST_DIGITS) {
                int bits;

                draw = draw * 1664525 + 1013904223;
                bits = (int)(draw >> 30);
                bits = (f.digits == 0 || left < 6) && bits == 0 ? 3 : bits + 2;
                bits = bits > left || left - bits == 1 ? left : bits;
                if (bits > 5)
                    bits = 3;
                f.bits[f.digits++] = (uint8_t)bits;
                left -= bits;
            }
            if (left == 0)
                keep(&some, &f, some.n % 2 == 1 && f.digits <= 6);
        }
        run_forms(&some, 0, width[w], 200, 1);
        mem_free(some.form);
    }
}

/* ---- parts -------------------------------------------------------------------------------- */

/* Batches that go in parts, whole and uneven ones, and just below: bytes and turns are those of one run. */
static void test_large_batches_go_in_parts(void **state)
{
    static const int64_t sizes[] = {16383, 16384, 20011, 90001};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (uint8_t one_shot = 0; one_shot < 2; one_shot++) {
            struct relu_batch b = {.n = sizes[i], .width = 21, .payloads = 1};
            struct relu_pair p;

            b.form =
                (struct relu_form){.one_shot = one_shot, .digits = 6, .bits = {5, 3, 3, 3, 3, 3}};
            relu_pair_open(&p, &relu_ot, 9, 1, &b);
            run_and_count(&p);
            for (int who = 0; who < 2; who++)
                assert_int_equal(p.half[who].count.flips + 1, relu_ot.online_messages(&b));
            relu_pair_close(&p);
        }
}

/* Beside one another they go whole: parts of one would not wait for those of the next. */
static void test_large_batches_in_lanes(void **state)
{
    struct relu_batch b[3];
    struct relu_pair p;

    (void)state;
    for (int i = 0; i < 3; i++)
        b[i] = (struct relu_batch){.n = 16384,
                                   .width = 21,
                                   .payloads = 1,
                                   .tweak = (uint64_t)i,
                                   .form = {.digits = 4, .bits = {5, 5, 5, 5}}};
    relu_pair_open(&p, &relu_ot, 10, 3, b);
    p.lanes = 3;
    run_and_count(&p);
    relu_pair_close(&p);
}

/* ---- silent ------------------------------------------------------------------------------- */

static void test_silent_transfers(void **state)
{
    (void)state;
    struct relu_batch b[4];
    struct relu_pair p;

    for (int i = 0; i < 4; i++) {
        b[i] = (struct relu_batch){
            .n = 1500 - 499 * i, .width = 21, .payloads = 1 + i % 2, .tweak = (uint64_t)i};
        b[i].form = (struct relu_form){.one_shot = i > 1, .digits = 5, .bits = {4, 4, 4, 4, 4}};
        b[i].form.silent_down = b[i].form.silent_up = 1;
    }
    relu_pair_open(&p, &relu_ot, 9, 4, b);
    p.ways = (struct relu_ways){.down = ferret_set(0), .up = ferret_set(0)};
    run_and_count(&p);
    relu_pair_close(&p);
    for (int i = 0; i < 4; i++)
        b[i].form.silent_up = 0;
    relu_pair_open(&p, &relu_ot, 9, 4, b);
    p.ways = (struct relu_ways){.down = ferret_set(1)};
    run_and_count(&p);
    relu_pair_close(&p);
    assert_int_equal(secret_alive(), 0);
}

/* ---- sizes -------------------------------------------------------------------------------- */

static uint64_t both(uint64_t (*bytes)(const struct relu_batch *, int), const struct relu_batch *b)
{
    return bytes(b, 0) + bytes(b, 1);
}

/* Bytes a comparison with all transfers silent and rounds of the largest set in the long run. */
static double steady(const struct relu_batch *b)
{
    const struct ferret_set *set = ferret_set(FERRET_SETS - 1);
    uint64_t many = UINT64_C(1) << 40;
    double row = (double)(ferret_bytes(set, many, 0) + ferret_bytes(set, many, 1)) / (double)many;
    double rows = (double)(relu_ot.silent_rows(b, 0) + relu_ot.silent_rows(b, 1));

    return ((double)both(relu_ot.offline_bytes, b) + rows * row) / (double)b->n;
}

static struct relu_batch batch_of(int64_t n, int one_shot)
{
    return (struct relu_batch){.n = n,
                               .width = 21,
                               .payloads = 1,
                               .form = {.one_shot = (uint8_t)one_shot,
                                        .silent_down = 1,
                                        .silent_up = 1,
                                        .digits = 5,
                                        .bits = {4, 4, 4, 4, 4}}};
}

/* Figures of the design at 21 bits; that they are those of the lines is what run_and_count sees. */
static void test_bytes_a_comparison(void **state)
{
    (void)state;
    struct relu_batch tree = batch_of(1 << 20, 0), shot = batch_of(1 << 20, 1), old = {0};
    double n = 1 << 20;

    assert_true(steady(&tree) <= 11.45 && steady(&tree) > 11.3);
    assert_true((double)both(relu_ot.online_bytes, &tree) / n <= 36.76);
    assert_int_equal(relu_ot.online_messages(&tree), 6);
    assert_true(steady(&shot) <= 17.4 && steady(&shot) > 17);
    assert_true((double)both(relu_ot.online_bytes, &shot) / n <= 39.4);
    assert_int_equal(relu_ot.online_messages(&shot), 4);
    /* OT extension alone, digits of 4 bits */
    old.n = 1 << 20;
    old.width = 21;
    old.payloads = 1;
    assert_true((double)both(relu_ot.offline_bytes, &old) / n < 134.6);
}

/* The first image of a connection with 50,000 ReLUs: set-up, base transfers and rounds included. */
static void test_first_image(void **state)
{
    (void)state;
    struct relu_batch b = batch_of(50000, 0);
    struct relu_pair p;
    uint64_t sent;

    b.form.silent_up = 0;
    relu_pair_open(&p, &relu_ot, 4, 1, &b);
    p.ways.down = ferret_set(0);
    relu_pair_offline(&p);
    pair_run(p.half);
    assert_int_equal(p.half[0].rc, 0);
    assert_int_equal(p.half[1].rc, 0);
    sent = p.half[0].count.sent + p.half[1].count.sent;
    assert_true(sent <= 27 * 50000);
    relu_pair_online(&p);
    pair_run(p.half);
    relu_pair_check(&p);
    relu_pair_close(&p);
}

/* ---- choice ------------------------------------------------------------------------------- */

static double cost_of(const struct relu_batch *b, double rate, double rtt)
{
    double rows = (double)(relu_ot.silent_rows(b, 0) + relu_ot.silent_rows(b, 1));

    return relu_ot.online_messages(b) * rtt / 2 + 8 * (double)b->n * steady(b) / rate +
           8 * (double)both(relu_ot.online_bytes, b) / rate + 1e-9 * rows;
}

static void test_choice_is_the_least(void **state)
{
    (void)state;
    static const struct {
        double rate, rtt;
        int64_t n;
    } link[] = {{400e6, 0.04, 50000},
                {400e6, 0.04, 5},
                {3e9, 0.0003, 65536},
                {1e6, 0.001, 65536},
                {1e8, 0, 1000}};
    struct forms all = forms_of(17);

    for (size_t i = 0; i < sizeof link / sizeof *link; i++) {
        struct relu_batch b = {.n = link[i].n, .width = 17, .payloads = 1}, c;
        double chosen;

        b.form.silent_down = b.form.silent_up = 1;
        relu_ot.choose(&b, (uint64_t)link[i].rate, (uint64_t)(link[i].rtt * 1e9), false);
        chosen = cost_of(&b, link[i].rate, link[i].rtt);
        for (int f = 0; f < all.n; f++) {
            c = b;
            c.form = all.form[f];
            c.form.silent_down = c.form.silent_up = 1;
            if (chosen > cost_of(&c, link[i].rate, link[i].rtt) * (1 + 1e-9) + 16 / link[i].rate)
                fail_msg("link %zu: form %d of %d is better", i, f, all.n);
        }
    }
    mem_free(all.form);
}

static void test_choice_follows_the_link(void **state)
{
    (void)state;
    struct relu_batch b = batch_of(6000, 0);
    uint64_t rows;

    relu_ot.choose(&b, 400000000, 40000000, false);
    assert_int_equal(relu_ot.online_messages(&b), 4);
    /* the faster the link, the fewer rows */
    b = batch_of(600000, 0);
    relu_ot.choose(&b, 3000000000, 300000, false);
    rows = relu_ot.silent_rows(&b, 0);
    relu_ot.choose(&b, 1000000, 1000, false);
    assert_true(relu_ot.silent_rows(&b, 0) > rows * 6 / 5);
    assert_int_equal(b.form.one_shot, 0);
    assert_int_equal(b.form.silent_down, 1);
    b.width = 61; /* the widest there is */
    relu_ot.choose(&b, 400000000, 40000000, false);
    assert_true(b.form.digits > 0 && b.form.digits <= RELU_MOST_DIGITS);
}

static double online_cost(const struct relu_batch *b, double rate, double rtt)
{
    return relu_ot.online_messages(b) * rtt / 2 + 8 * (double)both(relu_ot.online_bytes, b) / rate;
}

/* Ahead, bytes before do not count: no form has less online. */
static void test_choice_for_the_online_phase(void **state)
{
    const double rate = 400e6, rtt = 0.04;
    struct forms all = forms_of(17);

    (void)state;
    for (int silent = 0; silent < 2; silent++) {
        struct relu_batch b = {.n = 600000, .width = 17, .payloads = 1}, c, total;

        b.form.silent_down = b.form.silent_up = (uint8_t)silent;
        total = c = b;
        relu_ot.choose(&b, (uint64_t)rate, (uint64_t)(rtt * 1e9), true);
        relu_ot.choose(&total, (uint64_t)rate, (uint64_t)(rtt * 1e9), false);
        assert_true(online_cost(&b, rate, rtt) < online_cost(&total, rate, rtt));
        for (int f = 0; f < all.n; f++) {
            c.form = all.form[f];
            assert_true(online_cost(&b, rate, rtt) <= online_cost(&c, rate, rtt) * (1 + 1e-9));
        }
    }
    mem_free(all.form);
}

static void test_bad_forms(void **state)
{
    (void)state;
    static const struct relu_form bad[] = {
        {.digits = 5, .bits = {4, 4, 4, 4, 3}},
        {.digits = 5, .bits = {4, 4, 4, 4, 5}},
        {.digits = 6, .bits = {2, 4, 4, 4, 4, 2}}, /* the lowest is too small */
        {.digits = 4, .bits = {6, 5, 5, 4}},
        {.digits = 6, .bits = {4, 4, 4, 4, 3, 1}},
        {.one_shot = 1}, /* without digits */
        {.one_shot = 1, .digits = 7, .bits = {3, 3, 3, 3, 3, 3, 2}},
        {.one_shot = 2, .digits = 5, .bits = {4, 4, 4, 4, 4}},
        {.digits = 255, .bits = {4, 4, 4, 4, 4}},
    };
    struct transport t = {0};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct relu_batch b = {.n = 1, .width = 21, .payloads = 1, .form = bad[i]};

        assert_int_equal(relu_ot.online_client(&t, &b, NULL, 0), ERR_ARG);
        assert_int_equal(relu_ot.online_server(&t, &b, NULL, 0, NULL, NULL), ERR_ARG);
        assert_int_equal(relu_ot.offline_client(NULL, &b, NULL, NULL, NULL), ERR_ARG);
        assert_int_equal(relu_ot.offline_server(NULL, &b, NULL), ERR_ARG);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_digit_vector),
        cmocka_unit_test(test_small_domains_exhaustively),
        cmocka_unit_test(test_wide_vectors),
        cmocka_unit_test(test_large_batches_go_in_parts),
        cmocka_unit_test(test_large_batches_in_lanes),
        cmocka_unit_test(test_silent_transfers),
        cmocka_unit_test(test_bytes_a_comparison),
        cmocka_unit_test(test_first_image),
        cmocka_unit_test(test_choice_is_the_least),
        cmocka_unit_test(test_choice_follows_the_link),
        cmocka_unit_test(test_choice_for_the_online_phase),
        cmocka_unit_test(test_bad_forms),
    };

    return cmocka_run_group_tests_name("relu_forms", tests, NULL, NULL);
}
