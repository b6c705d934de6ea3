/*
 * Receivers of the OT extension that deviate to read the sender's delta: other bits in some trees for
 * some transfers, or trees that do not hang together.
 *
 * Before there were checks (revision 290443b) this read all of delta: a transfer in which tree j alone
 * used another bit gives the sender the row t ^ (digit j of delta, in its place), and what the sender says
 * next, hashed rows, tells which of 16 rows it is. Here "what the sender says next" is the hash of each
 * row, as if it sent a known text under key 0. Against a sender that does not verify, the attack must
 * succeed, or the test could not see it.
 *
 * The test has all of otext.c. The evil receiver changes the planes as they are packed; `powers` turns the
 * challenges of the planes into powers of X, as published code has it.
 */
#include "runtime/crypto/prg.h"
#include "runtime/ring/bits.h"
static void evil_pack(uint8_t *out, const uint8_t *planes, size_t stride, size_t count, size_t n);
static void evil_bytes(struct prg *p, void *out, size_t n);
#define bits_pack evil_pack
#define prg_bytes evil_bytes
#include "runtime/crypto/otext.c"
#undef bits_pack
#undef prg_bytes

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "runtime/relu/party.h"
#include "tests/relu_pair.h"

/* ---- the evil receiver -------------------------------------------------------------------- */

/* Of this thread's receiver: the bits it uses otherwise, by tree; in message number `message`, counted
 * from 0. whole: all bits of the trees marked. */
struct cheat {
    bool on, whole;
    int message;
    struct block other[TREES];
};
static _Thread_local struct cheat cheat;
static bool powers;

static void evil_pack(uint8_t *out, const uint8_t *planes, size_t stride, size_t count, size_t n)
{
    uint8_t *plane = (uint8_t *)(uintptr_t)planes;

    for (size_t j = TREES - count; cheat.on && cheat.message == 0 && j < TREES;
         j++, plane += stride)
        if (cheat.whole && cheat.other[j].lo != 0)
            for (size_t k = 0; k < (n + 7) / 8; k++)
                plane[k] ^= 0xff;
        else
            for (size_t k = 0; k < sizeof(struct block) && k < (n + 7) / 8; k++)
                plane[k] ^= ((const uint8_t *)&cheat.other[j])[k];
    cheat.message -= cheat.on;
    bits_pack(out, planes, stride, count, n);
}

/* The coefficients that one challenge would give: 1, x, x^2, ... */
static void powers_of_two(struct block out[BASE_OTS])
{
    struct block power = {1, 0};

    for (int i = 0; i < BASE_OTS; i++, power = gf128_mul(power, (struct block){2, 0}))
        out[i] = power;
}

static void evil_bytes(struct prg *p, void *out, size_t n)
{
    prg_bytes(p, out, n);
    if (powers && n == (1 + BASE_OTS) * sizeof(struct block))
        powers_of_two((struct block *)out + 1);
}

/* ---- both sides in one thread ------------------------------------------------------------- */

struct lab {
    struct otext_sender *s;
    struct otext_receiver *r;
    struct transport to, from; /* receiver -> sender; the sender says nothing */
    struct prg *rng;
    struct setup *mine, *theirs; /* receiver's, sender's */
    struct hasher *hash;
};

static struct prg *seeded(uint32_t number)
{
    uint8_t seed[PRG_SEED] = {81};
    struct prg *p = NULL;

    memcpy(seed + 4, &number, sizeof number);
    assert_int_equal(prg_new(seed, &p), 0);
    return p;
}

/* Base OTs without a curve. spoil: changes the receiver's trees. *ok: the tree check. */
static void lab_open(struct lab *l, uint32_t seed, void (*spoil)(struct trees *), int *ok)
{
    memset(l, 0, sizeof *l);
    memset(&cheat, 0, sizeof cheat);
    l->rng = seeded(seed);
    l->s = secret_array(1, sizeof *l->s);
    l->r = secret_array(1, sizeof *l->r);
    l->mine = secret_array(1, sizeof *l->mine);
    l->theirs = secret_array(1, sizeof *l->theirs);
    l->s->work = work_new();
    l->r->work = work_new();
    assert_int_equal(hasher_new(&l->hash), 0);
    assert_int_equal(hasher_key(l->hash, (const uint8_t[HASH_SID]){1}, 0, 0), 0);
    assert_int_equal(transport_pair(&l->to, &l->from), 0);
    draw_delta(l->s, l->rng, l->theirs->choice);
    prg_bytes(l->rng, l->mine->both, sizeof l->mine->both);
    for (int i = 0; i < BASE_OTS; i++)
        memcpy(l->theirs->mine[i], l->mine->both[i][l->theirs->choice[i]], BASEOT_KEY);
    assert_int_equal(make_trees(l->r, l->rng, l->mine), 0);
    if (spoil != NULL)
        spoil(&l->mine->message);
    l->theirs->message = l->mine->message;
    assert_int_equal(open_trees(l->s, l->theirs, ok), 0);
    assert_int_equal(start_transcript(l->s->work, &l->theirs->message), 0);
    assert_int_equal(start_transcript(l->r->work, &l->mine->message), 0);
}

static void lab_close(struct lab *l)
{
    otext_sender_free(l->s);
    otext_receiver_free(l->r);
    secret_free(l->mine);
    secret_free(l->theirs);
    hasher_free(l->hash);
    prg_free(l->rng);
    transport_close(&l->to);
    transport_close(&l->from);
}

/* n transfers with bits 0; the receiver cheats as set. */
static void transfer(struct lab *l, size_t n, struct block *q, struct block *t)
{
    uint64_t *bits = mem_array(bits_words(n), sizeof *bits);

    cheat.on = true;
    assert_int_equal(otext_receive_chosen(l->r, &l->to, n, bits, t), 0);
    cheat.on = false;
    assert_int_equal(otext_send(l->s, &l->from, n, 1, q), 0);
    mem_free(bits);
}

/* The receiver's check message. */
static void prove(struct lab *l, uint8_t message[OTEXT_CHECK])
{
    assert_int_equal(otext_prove(l->r, &l->to), 0);
    assert_int_equal(transport_recv(&l->from, message, OTEXT_CHECK), 0);
}

static void add_to_t(uint8_t message[OTEXT_CHECK], struct block v)
{
    struct block t;

    memcpy(&t, message + OTEXT_CHECK - sizeof t, sizeof t);
    block_add(&t, v, UINT64_MAX);
    memcpy(message + OTEXT_CHECK - sizeof t, &t, sizeof t);
}

static struct block row_hash(struct lab *l, struct block row)
{
    struct block h;

    hash_blocks(l->hash, &h, &row, 1, (struct block){5, 6});
    return h;
}

/* The row of digit d of tree j. */
static struct block at_tree(int j, uint64_t d)
{
    return j < TREES / 2 ? (struct block){d << DIGIT * j, 0}
                         : (struct block){0, d << DIGIT * (j - TREES / 2)};
}

/* Digit j of delta from the sender's hash of a row that holds it. 16: none fits. */
static uint64_t read_digit(struct lab *l, int j, struct block t, struct block heard)
{
    for (uint64_t d = 0; d < LEAVES; d++) {
        struct block row = at_tree(j, d), h;

        block_add(&row, t, UINT64_MAX);
        h = row_hash(l, row);
        if (h.lo == heard.lo && h.hi == heard.hi)
            return d;
    }
    return LEAVES;
}

/* ---- R2: other bits ----------------------------------------------------------------------- */

/* Transfer 124 - 4j of tree j. */
static void one_transfer_a_tree(void)
{
    for (int j = 0; j < TREES; j++) {
        int k = 124 - DIGIT * j;
        cheat.other[j] =
            (struct block){k < 64 ? (uint64_t)1 << k : 0, k < 64 ? 0 : (uint64_t)1 << (k - 64)};
    }
}

/* Digits of delta read right, of 32. */
static int digits_read(struct lab *l, const struct block *q, const struct block *t)
{
    int right = 0;

    for (int j = 0; j < TREES; j++) {
        int k = 124 - DIGIT * j;
        right += read_digit(l, j, t[k], row_hash(l, q[k])) == digit_of(l->s->delta, j);
    }
    return right;
}

static void test_without_a_check_delta_is_read(void **state)
{
    struct block q[128], t[128];
    struct lab l;
    int ok;

    (void)state;
    lab_open(&l, 1, NULL, &ok);
    one_transfer_a_tree();
    transfer(&l, 128, q, t);
    assert_int_equal(digits_read(&l, q, t), TREES);
    lab_close(&l);
}

/* Whether all digits of these trees are 0; then closes the lab. */
static bool no_digit(struct lab *l, uint64_t trees)
{
    for (int j = 0; j < TREES; j++)
        if ((trees >> j & 1) && digit_of(l->s->delta, j) != 0)
            return false;
    lab_close(l);
    return true;
}

static void check_refused(size_t n, bool whole, uint64_t trees, uint32_t seed)
{
    struct block *q = mem_array(n, sizeof *q), *t = mem_array(n, sizeof *t);
    uint8_t message[OTEXT_CHECK];
    struct lab l;
    int ok;

    do { /* a digit 0 makes no use of the tree's bits */
        lab_open(&l, seed, NULL, &ok);
        assert_int_equal(ok, 1);
        seed += 100;
    } while (no_digit(&l, trees));
    cheat.whole = whole;
    for (int j = 0; j < TREES; j++)
        cheat.other[j].lo = trees >> j & 1;
    transfer(&l, n, q, t);
    prove(&l, message);
    assert_int_equal(otext_verify_message(l.s, message), ERR_PEER);
    assert_non_null(
        strstr(err_message(), "OT extension: the peer's transfers fail the consistency"));
    assert_true(l.s->delta.lo == 0 && l.s->delta.hi == 0); /* thrown away */
    for (int j = 0; j < TREES; j++)
        for (int x = 0; x < LEAVES; x++)
            assert_null(l.s->leaf[j][x]);
    lab_close(&l);
    mem_free(q);
    mem_free(t);
    assert_int_equal(secret_alive(), 0);
}

static void test_other_bits_are_refused(void **state)
{
    (void)state;
    for (uint32_t j = 0; j < TREES; j++)
        check_refused(1, false, (uint64_t)1 << j, 10 + j); /* one tree, one transfer */
    check_refused(200, false, 3, 50);                      /* two trees */
    check_refused(CHUNK, true, 1u << 7, 51);               /* a whole chunk of one tree */
    check_refused(CHUNK + 5, true, 0xffff, 52);            /* half of the trees, all of a chunk */
    check_refused(1, false, 0xfffffffe, 53);               /* all but one: that one */
}

/* Who does not cheat passes, again and again; every part of the check message counts. */
static void test_an_honest_receiver_passes(void **state)
{
    struct block q[200], t[200];
    uint8_t message[OTEXT_CHECK];
    struct lab l;
    int ok;

    (void)state;
    lab_open(&l, 3, NULL, &ok);
    for (int round = 0; round < 3; round++) { /* the transcript goes on */
        transfer(&l, 200, q, t);
        prove(&l, message);
        assert_int_equal(otext_verify_message(l.s, message), 0);
    }
    transfer(&l, 200, q, t); /* every byte of the check message counts */
    prove(&l, message);
    for (int at = 0; at < OTEXT_CHECK; at += 31) {
        struct lab other;

        lab_open(&other, 3, NULL, &ok);
        for (int round = 0; round < 4; round++) {
            transfer(&other, 200, q, t);
            prove(&other, message);
            message[at] ^= round == 3;
            assert_int_equal(otext_verify_message(other.s, message), round == 3 ? ERR_PEER : 0);
        }
        lab_close(&other);
    }
    lab_close(&l);
}

/* T for a guess of the digits of some trees, which used another bit in transfer 0. */
static void guess(struct lab *l, struct block chi, const int *trees, int n, const uint64_t *digits,
                  uint8_t message[OTEXT_CHECK])
{
    const struct block *psi = l->r->work->challenge + 1;

    for (int i = 0; i < n; i++)
        for (int b = 0; b < DIGIT; b++)
            if (digits[i] >> b & 1)
                add_to_t(message, gf128_mul(chi, psi[DIGIT * trees[i] + b]));
}

/* Cheats in these trees and guesses their digits: passes if and only if the guess is right, each time, hence
 * with 2^-bits, which a few passes show. */
static void check_survival(const int *trees, int n, int bits, uint32_t seed)
{
    int trials = 8 << bits, passed = 0, ok;
    double expected = 8, sigma = sqrt(expected * (1 - pow(2, -bits)));
    struct lab l;

    lab_open(&l, seed, NULL, &ok);
    for (int i = 0; i < trials; i++) {
        struct block q, t, chi;
        uint64_t digits[2];
        uint8_t message[OTEXT_CHECK], fresh[8];
        bool right = true;

        if (i % 64 == 0) { /* another delta */
            lab_close(&l);
            lab_open(&l, seed + (uint32_t)i, NULL, &ok);
            for (int k = 0; k < n; k++)
                cheat.other[trees[k]].lo = 1;
        }
        cheat.message = 0;
        transfer(&l, 1, &q, &t);
        chi = l.r->work->challenge[0];
        prove(&l, message);
        prg_bytes(l.rng, fresh, sizeof fresh);
        for (int k = 0; k < n; k++) {
            digits[k] = trees[k] == 0 ? fresh[k] % LEAVES | 1 : fresh[k] % LEAVES;
            right = right && digits[k] == digit_of(l.s->delta, trees[k]);
        }
        guess(&l, chi, trees, n, digits, message);
        assert_int_equal(check(l.s, message, &ok), 0);
        assert_int_equal(ok, right);
        memcpy(l.s->work->transcript, l.r->work->transcript, SHA256_SIZE); /* on to the next one */
        passed += ok;
    }
    lab_close(&l);
    print_message("%d trees, %d bits guessed: %d of %d passed, expected %.0f +- %.1f\n", n, bits,
                  passed, trials, expected, sigma);
    assert_true(fabs(passed - expected) <= 3 * sigma);
}

static void test_a_guess_survives_as_often_as_it_is_right(void **state)
{
    (void)state;
    check_survival((const int[]){0}, 1, 3, 1000);
    check_survival((const int[]){9}, 1, 4, 2000);
    check_survival((const int[]){0, 21}, 2, 7, 3000);
}

/* Every tree cheats in a transfer of its own, so placed that under powers of X all 32 errors share one
 * factor: one of 16 guesses passes, and all of delta is read. */
static int shared_guess(bool with_powers, int *read)
{
    int passed = 0;

    for (uint64_t g = 0; g < LEAVES; g++) {
        struct block q[128], t[128], x124 = {0, (uint64_t)1 << 60}, chi;
        uint8_t message[OTEXT_CHECK];
        struct lab l;
        int ok;

        lab_open(&l, 7, NULL, &ok);
        one_transfer_a_tree();
        powers = with_powers;
        transfer(&l, 128, q, t);
        chi = l.r->work->challenge[0];
        prove(&l, message);
        add_to_t(message, gf128_mul(gf128_mul(chi, x124), (struct block){g, 0}));
        assert_int_equal(check(l.s, message, &ok), 0);
        powers = false;
        passed += ok;
        if (ok)
            *read = digits_read(&l, q, t);
        lab_close(&l);
    }
    return passed;
}

static void test_planes_need_challenges_of_their_own(void **state)
{
    int read = 0;

    (void)state;
    assert_int_equal(shared_guess(true, &read), 1);
    assert_int_equal(read, TREES);
    assert_int_equal(shared_guess(false, &read), 0);
}

/* ---- whole batches ------------------------------------------------------------------------ */

struct evil_half {
    struct pair_half inner;
    int message;
};

static int run_evil(struct transport *t, void *arg)
{
    struct evil_half *e = arg;
    int rc;

    cheat = (struct cheat){.on = true, .message = e->message, .other = {[3] = {1, 0}}};
    rc = e->inner.run(t, e->inner.arg);
    cheat.on = false;
    return rc;
}

/* One party cheats in its n-th message of transfers: the other one sends so much and no more. */
static void check_batch(const struct relu_backend *k, int evil, int message, uint64_t sent)
{
    const struct relu_batch b = {.n = 2100, .width = 21, .payloads = 1, .tweak = 1};
    struct relu_pair p;
    struct evil_half e;

    relu_pair_open(&p, k, 9, 1, &b);
    relu_pair_offline(&p);
    e = (struct evil_half){p.half[evil], message};
    p.half[evil].run = run_evil;
    p.half[evil].arg = &e;
    pair_run(p.half);
    assert_int_equal(p.half[!evil].rc, ERR_PEER);
    assert_int_equal(p.half[!evil].count.sent, k->open_bytes(!evil, false) + sent);
    relu_pair_close(&p);
}

static void test_nothing_leaves_before_the_check(void **state)
{
    const struct relu_batch b = {.n = 2100, .width = 21, .payloads = 1, .tweak = 1};
    uint64_t f = 8 * 2100, tables = (uint64_t)20 * 2 * 16;

    (void)state;
    /* gc: the tables of the blocks before; the client's second message is f */
    check_batch(&relu_gc, 1, 0, 0);
    check_batch(&relu_gc, 1, 4, 2 * 1024 * tables); /* messages 1, 3, 5 are those of checks */
    check_batch(&relu_gc, 0, 0, relu_gc.offline_bytes(&b, 1) - f);
    /* ot: 3 messages of leaves, then 3 of triples, one check; one message up */
    check_batch(&relu_ot, 1, 0, 0);
    check_batch(&relu_ot, 1, 6, 0);
    check_batch(&relu_ot, 0, 0, relu_ot.offline_bytes(&b, 1) - f);
}

/* ---- R3: trees ---------------------------------------------------------------------------- */

/* A wrong seed on side 0 of a level: a sender whose path takes side 0 there never opens it. */
static void spoil_one(struct trees *m)
{
    m->opening[6][1][0].lo ^= 1;
}
static void spoil_two(struct trees *m)
{
    spoil_one(m);
    m->opening[30][3][0].hi ^= 4;
}
static void spoil_both_sides(struct trees *m)
{
    m->opening[6][1][0].lo ^= 1;
    m->opening[6][1][1].lo ^= 1;
}
static void spoil_sum(struct trees *m)
{
    m->sum[31][1].hi ^= 1;
}
static void spoil_hash(struct trees *m)
{
    m->hash[9] ^= 1;
}

/* Bits of delta that decide whether the sender sees it. */
static bool sees(const struct lab *l, int bits)
{
    return (digit_of(l->s->delta, 6) >> 2 & 1) || (bits == 2 && (digit_of(l->s->delta, 30) & 1));
}

static void check_trees(void (*spoil)(struct trees *), int bits, uint32_t seed)
{
    enum { TRIALS = 64 };
    int passed = 0;
    double rate = pow(2, -bits), expected = TRIALS * rate;
    double sigma = sqrt(expected * (1 - rate));

    for (uint32_t i = 0; i < TRIALS; i++) {
        struct block q[64], t[64];
        struct lab l;
        int ok, equal = 1;

        lab_open(&l, seed + i, spoil, &ok);
        assert_int_equal(ok, !sees(&l, bits));
        passed += ok;
        /* a sender that does not look goes on, and its next message tells the bits */
        transfer(&l, 64, q, t);
        for (int k = 0; k < 64; k++) {
            struct block h[2] = {row_hash(&l, q[k]), row_hash(&l, t[k])};
            equal = equal && memcmp(&h[0], &h[1], sizeof h[0]) == 0;
        }
        assert_int_equal(equal, ok);
        lab_close(&l);
    }
    print_message("%d bits: %d of %d trees passed, expected %.0f +- %.1f\n", bits, passed, TRIALS,
                  expected, sigma);
    assert_true(fabs(passed - expected) <= 3 * sigma);
}

static void test_trees_that_do_not_hang_together(void **state)
{
    static void (*const certain[])(struct trees *) = {spoil_both_sides, spoil_sum, spoil_hash};

    (void)state;
    check_trees(spoil_one, 1, 5000);
    check_trees(spoil_two, 2, 6000);
    for (int i = 0; i < 3; i++)
        for (uint32_t seed = 0; seed < 8; seed++) {
            struct lab l;
            int ok;

            lab_open(&l, 7000 + seed, certain[i], &ok);
            assert_int_equal(ok, 0);
            lab_close(&l);
        }
}

/* The same through the set-up itself. */
static int evil_setup(struct transport *t, void *arg)
{
    struct prg *rng = seeded(8000);
    struct otext_receiver *r = secret_array(1, sizeof *r);
    struct setup *w = secret_array(1, sizeof *w);
    int rc = ERR_NOMEM;

    (void)arg;
    if (r != NULL && w != NULL && (rc = baseot_send(t, rng, BASE_OTS, w->both)) == 0 &&
        (rc = make_trees(r, rng, w)) == 0) {
        spoil_both_sides(&w->message);
        rc = transport_send(t, &w->message, sizeof w->message);
    }
    if (rc == 0)
        rc = transport_flush(t);
    otext_receiver_free(r);
    secret_free(w);
    prg_free(rng);
    return rc;
}

static int good_setup(struct transport *t, void *arg)
{
    struct prg *rng = seeded(8001);
    struct otext_sender *s = NULL;
    int rc = otext_sender_new(t, rng, &s);

    *(bool *)arg = strstr(err_message(), "OT extension: the peer's trees fail") != NULL;
    otext_sender_free(s);
    prg_free(rng);
    return rc;
}

static void test_set_up_refuses_trees(void **state)
{
    bool named = false;
    struct pair_half half[2] = {{.run = good_setup, .arg = &named}, {.run = evil_setup}};

    (void)state;
    pair_run(half);
    assert_int_equal(half[0].rc, ERR_PEER);
    assert_true(named);
    assert_int_equal(half[1].rc, 0);
    assert_int_equal(secret_alive(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_check_delta_is_read),
        cmocka_unit_test(test_other_bits_are_refused),
        cmocka_unit_test(test_an_honest_receiver_passes),
        cmocka_unit_test(test_a_guess_survives_as_often_as_it_is_right),
        cmocka_unit_test(test_planes_need_challenges_of_their_own),
        cmocka_unit_test(test_nothing_leaves_before_the_check),
        cmocka_unit_test(test_trees_that_do_not_hang_together),
        cmocka_unit_test(test_set_up_refuses_trees),
    };

    return cmocka_run_group_tests_name("otext_evil", tests, NULL, NULL);
}
