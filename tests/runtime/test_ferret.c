/*
 * runtime/crypto/ferret, cggm, lpn: rows are correlated and equal to a slow reference, sizes are
 * those promised, a sender that lies is refused, and neither threads nor pieces change a byte.
 */
/* the whole module: its structs, for the reference and for liars; before cmocka.h, which has a macro
 * fail */
#include "runtime/crypto/ferret.c"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "tests/pair.h"
#include "tests/ref_aes.h"

static const struct ferret_id id = {{1, 2, 3}, 1};

/* ---- two parties ---------------------------------------------------------------------------- */

struct side {
    int sender, threads;
    const struct ferret_set *set;
    const size_t *call; /* rows of each, 0 at the end */
    struct block *rows; /* of all calls */
    struct block delta;
    uint8_t line[SHA256_SIZE]; /* what it sent after set-up, hashed */
    uint64_t sent;             /* after set-up */
    /* liars and readers: called once the first round is there, and at each wave of sums sent */
    void (*look)(struct ferret *f, void *arg);
    void *arg;
};

struct tap { /* hashes what passes */
    struct transport *inner;
    struct sha256 *hash;
};

static int tap_send(void *ctx, const void *bytes, size_t n)
{
    struct tap *p = ctx;

    TRY(sha256_add(p->hash, bytes, n));
    return transport_send(p->inner, bytes, n);
}

static int tap_recv(void *ctx, void *bytes, size_t n)
{
    return transport_recv(((struct tap *)ctx)->inner, bytes, n);
}

static int tap_flush(void *ctx)
{
    return transport_flush(((struct tap *)ctx)->inner);
}

static int open_side(struct side *s, struct transport *t, struct prg **rng,
                     struct otext_sender **give, struct otext_receiver **take, struct ferret **f)
{
    uint8_t seed[PRG_SEED] = {40, (uint8_t)s->sender};

    TRY(prg_new(seed, rng));
    if (s->sender) {
        TRY(otext_sender_new(t, *rng, give));
        s->delta = otext_delta(*give);
        return ferret_sender_new(&id, s->set, *give, *rng, f);
    }
    TRY(otext_receiver_new(t, *rng, take));
    return ferret_receiver_new(&id, s->set, *take, f);
}

static int run_side(struct transport *t, void *arg)
{
    struct side *s = arg;
    struct otext_sender *give = NULL;
    struct otext_receiver *take = NULL;
    struct prg *rng = NULL;
    struct ferret *f = NULL;
    struct tap tap = {.inner = t};
    struct transport line = {.send = tap_send, .recv = tap_recv, .flush = tap_flush, .ctx = &tap};
    size_t at = 0;
    int rc;

    if (s->threads > 0)
        cpu_set_threads(s->threads);
    if ((rc = open_side(s, t, &rng, &give, &take, &f)) < 0 || (rc = sha256_new(&tap.hash)) < 0)
        goto out;
    for (int i = 0; s->call[i] > 0 && rc == 0; i++) {
        rc = ferret_rows(f, &line, s->call[i], s->rows + at);
        at += s->call[i];
        if (rc == 0 && i == 0 && s->look != NULL)
            s->look(f, s->arg);
    }
    if (rc == 0 && (rc = transport_flush(&line)) == 0)
        rc = sha256_end(tap.hash, s->line);
    s->sent = line.count.sent;
out:
    sha256_free(tap.hash);
    ferret_free(f);
    otext_sender_free(give);
    otext_receiver_free(take);
    prg_free(rng);
    return rc;
}

static size_t total(const size_t *call)
{
    size_t sum = 0;

    while (*call > 0)
        sum += *call++;
    return sum;
}

static void open_both(struct side side[2], const struct ferret_set *set, const size_t *call)
{
    for (int i = 0; i < 2; i++) {
        side[i] = (struct side){.sender = i == 0, .set = set, .call = call};
        side[i].rows = mem_array(total(call), sizeof(struct block));
        assert_non_null(side[i].rows);
    }
}

static void close_both(struct side side[2])
{
    mem_free(side[0].rows);
    mem_free(side[1].rows);
    assert_int_equal(secret_alive(), 0);
}

static void run_both(struct side side[2])
{
    struct pair_half half[2] = {{.run = run_side, .arg = &side[0]},
                                {.run = run_side, .arg = &side[1]}};

    pair_run(half);
    assert_int_equal(half[0].rc, 0);
    assert_int_equal(half[1].rc, 0);
}

static void check_correlation(const struct side side[2], size_t n)
{
    struct block delta = side[0].delta;

    for (size_t k = 0; k < n; k++) {
        uint64_t b = (uint64_t)0 - (side[1].rows[k].lo & 1);

        if (side[0].rows[k].lo != (side[1].rows[k].lo ^ (b & delta.lo)) ||
            side[0].rows[k].hi != (side[1].rows[k].hi ^ (b & delta.hi)) || side[0].rows[k].lo & 1)
            fail_msg("row %zu", k);
    }
}

static void check_bytes(const struct side side[2], size_t n)
{
    assert_int_equal(side[0].sent, ferret_bytes(side[0].set, n, 1));
    assert_int_equal(side[1].sent, ferret_bytes(side[0].set, n, 0));
}

/* ---- sets --------------------------------------------------------------------------------- */

static void test_sets(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t base, rows, sums;
    } want[FERRET_SETS] = {{"b10", 74164, 795648, 136000},
                           {"b11", 144070, 2250752, 205920},
                           {"b12", 280512, 5943296, 291840},
                           {"b13", 549116, 15007744, 395200}};
    const struct ferret_set *s = NULL;

    for (int i = 0; i < FERRET_SETS; i++) {
        assert_int_equal(ferret_set_find(want[i].name, &s), 0);
        assert_ptr_equal(s, ferret_set(i));
        assert_int_equal(base_rows(s), want[i].base);
        assert_int_equal(ferret_round_rows(s), want[i].rows);
        assert_int_equal(sums_bytes(s), want[i].sums);
        assert_true(s->bits >= 128 && s->withdrawn == NULL);
        assert_true(s->trees <= 1 << s->depth); /* the check's scratch */
        /* one small round gives the base of any other */
        assert_true(refill_trees(&sets[0], s) < (size_t)sets[0].trees);
    }
    assert_int_equal(ferret_set_find("ferret-2020", &s), ERR_ARG);
    assert_non_null(strstr(err_message(), "withdrawn"));
    assert_int_equal(ferret_set_find("b14", &s), ERR_ARG);
}

/* ---- rows --------------------------------------------------------------------------------- */

/* All sets start with a small round; the second one is theirs. */
static void test_rows_are_correlated(void **state)
{
    (void)state;
    static const size_t small[] = {1, 700, 1024, 5000, 795648, 800000, 3, 0};
    static const size_t large[] = {20000, 850 * 1024, 20000, 0};

    for (int i = 0; i < FERRET_SETS; i++) {
        const size_t *call = i == 0 ? small : large;
        struct side side[2];

        open_both(side, ferret_set(i), call);
        run_both(side);
        check_correlation(side, total(call));
        check_bytes(side, total(call));
        close_both(side);
    }
}

/* Choices: ones, and equal neighbours, within six standard deviations; every column of rows too. */
static void test_rows_look_random(void **state)
{
    (void)state;
    static const size_t call[] = {700000, 0};
    struct side side[2];
    size_t n = call[0], ones = 0, equal = 0, column[128] = {0};

    open_both(side, ferret_set(0), call);
    run_both(side);
    for (size_t k = 0; k < n; k++) {
        struct block r = side[1].rows[k];

        ones += r.lo & 1;
        equal += k > 0 && ((r.lo ^ side[1].rows[k - 1].lo) & 1) == 0;
        for (int i = 0; i < 128; i++)
            column[i] += (i < 64 ? r.lo >> i : r.hi >> (i - 64)) & 1;
    }
    double limit = 6 * sqrt((double)n) / 2;
    assert_true(fabs((double)ones - (double)n / 2) < limit);
    assert_true(fabs((double)equal - (double)n / 2) < limit);
    for (int i = 0; i < 128; i++)
        assert_true(fabs((double)column[i] - (double)n / 2) < limit);
    for (size_t k = 1; k < 2000; k++)
        for (size_t i = 0; i < k; i++)
            assert_memory_not_equal(&side[0].rows[k], &side[0].rows[i], sizeof(struct block));
    close_both(side);
}

static void test_threads_and_pieces_change_nothing(void **state)
{
    (void)state;
    static const size_t at_once[] = {850000, 0}, pieces[] = {1, 1023, 5, 100000, 700000, 48971, 0};
    struct side one[2], other[2];

    assert_int_equal(total(at_once), total(pieces));
    open_both(one, ferret_set(0), at_once);
    run_both(one);
    for (int k = 0; k < 3; k++) {
        open_both(other, ferret_set(0), k == 0 ? pieces : at_once);
        other[0].threads = k == 1 ? 1 : 3;
        other[1].threads = k == 1 ? 3 : 1;
        if (k == 2)
            setenv("LINNET_CPU", "generic", 1);
        run_both(other);
        unsetenv("LINNET_CPU");
        for (int i = 0; i < 2; i++) {
            assert_memory_equal(one[i].rows, other[i].rows, total(at_once) * sizeof(struct block));
            assert_memory_equal(one[i].line, other[i].line, SHA256_SIZE);
        }
        close_both(other);
    }
    cpu_set_threads(0);
    mem_free(one[0].rows);
    mem_free(one[1].rows);
}

/* ---- the slow reference --------------------------------------------------------------------- */

struct snapshot { /* of the sender in its first round */
    struct block delta, *base, *seed;
};

static void remember(struct ferret *f, void *arg)
{
    struct snapshot *s = arg;
    size_t base = base_rows(f->set), trees = (size_t)f->set->trees;

    s->delta = f->delta;
    s->base = mem_array(base, sizeof *s->base);
    s->seed = mem_array(trees, sizeof *s->seed);
    memcpy(s->base, f->base, base * sizeof *s->base);
    memcpy(s->seed, f->seed, trees * sizeof *s->seed);
}

static void slow_key(const char *text, uint64_t part, uint8_t key[SHA256_SIZE])
{
    uint8_t all[100];
    uint64_t round = 1;
    size_t n = strlen(text);

    memcpy(all, text, n);
    memcpy(all + n, id.sid, 32);
    memcpy(all + n + 32, &id.instance, 8);
    memcpy(all + n + 40, &round, 8);
    memcpy(all + n + 48, &part, 8);
    assert_int_equal(sha256_bytes(all, n + 56, key), 0);
}

/* Node of a tree of `depth` levels at a place whose bit i is the side taken at level i. */
static struct block slow_node(const uint8_t key[16], struct block seed, struct block delta,
                              int depth, uint32_t place)
{
    struct block x = seed;

    if (place & 1)
        x = (struct block){seed.lo ^ delta.lo, seed.hi ^ delta.hi};
    for (int i = 1; i < depth; i++) {
        struct block s = {x.hi, x.hi ^ x.lo}, h;

        ref_aes128(key, (uint8_t *)&s, (uint8_t *)&h);
        h = (struct block){h.lo ^ s.lo, h.hi ^ s.hi};
        x = place >> i & 1 ? (struct block){x.lo ^ h.lo, x.hi ^ h.hi} : h;
    }
    return x;
}

static struct block slow_row(const struct snapshot *s, const struct ferret_set *set, uint64_t row)
{
    uint8_t tree_key[SHA256_SIZE], lpn_key_[SHA256_SIZE];
    uint64_t tree = row >> set->depth, word[4];
    struct block sum;

    slow_key("linnet tree", tree >> (20 - set->depth), tree_key);
    slow_key("linnet lpn", 0, lpn_key_);
    sum = slow_node(tree_key, s->seed[tree], s->delta, set->depth,
                    (uint32_t)(row & ((1u << set->depth) - 1)));
    sum.lo &= ~(uint64_t)1;
    for (uint64_t half = 0; half < 2; half++) {
        uint8_t counter[16] = {0};

        for (int i = 0; i < 8; i++)
            counter[15 - i] = (uint8_t)((2 * row + half) >> 8 * i);
        ref_aes128(lpn_key_, counter, (uint8_t *)&word[2 * half]);
    }
    for (int j = 0; j < 10; j++) {
        uint64_t place = (word[j / 3] >> 21 * (j % 3)) % (uint64_t)set->k;

        sum.lo ^= s->base[place].lo;
        sum.hi ^= s->base[place].hi;
    }
    return sum;
}

static void test_rows_equal_the_reference(void **state)
{
    (void)state;
    static const size_t call[] = {700000, 0};
    struct snapshot s = {0};
    struct side side[2];

    open_both(side, ferret_set(0), call);
    side[0].look = remember;
    side[0].arg = &s;
    run_both(side);
    for (uint64_t k = 0; k < call[0]; k += k < 200 ? 1 : 9973) {
        struct block want = slow_row(&s, ferret_set(0), k);

        assert_memory_equal(&side[0].rows[k], &want, sizeof want);
    }
    mem_free(s.base);
    mem_free(s.seed);
    close_both(side);
}

/* Every hole of every small tree: all leaves but one are the sender's, that one ^ delta. */
static void check_trees(struct cggm *c, const uint8_t key[16], int depth)
{
    struct block delta = {11, 12}, seed = {13, 14}, want[128], leaves[128], got[128], left[7],
                 opened[7];

    for (uint32_t k = 0; k < 1u << depth; k++)
        want[k] = slow_node(key, seed, delta, depth, k);
    for (uint32_t hole = 0; hole < 1u << depth; hole++) {
        cggm_grow(c, depth, delta, seed, leaves, left);
        for (int i = 0; i < depth; i++) {
            uint64_t right = hole >> i & 1 ? 0 : UINT64_MAX;

            opened[i] =
                (struct block){left[i].lo ^ (delta.lo & right), left[i].hi ^ (delta.hi & right)};
        }
        cggm_fill(c, depth, hole, opened, got);
        got[hole].lo ^= delta.lo;
        got[hole].hi ^= delta.hi;
        assert_memory_equal(leaves, want, sizeof *want << depth);
        assert_memory_equal(got, want, sizeof *want << depth);
        cggm_mark(c, depth, hole, got);
        cggm_mark(c, depth, UINT64_MAX, leaves);
        for (uint32_t k = 0; k < 1u << depth; k++) {
            assert_int_equal(got[k].lo, (want[k].lo & ~(uint64_t)1) | (k == hole));
            assert_int_equal(leaves[k].lo, want[k].lo & ~(uint64_t)1);
            assert_int_equal(got[k].hi, want[k].hi);
        }
    }
}

/* By the kernels of every width. */
static void test_trees_of_every_hole(void **state)
{
    (void)state;
    static const char *const path[] = {"generic", "avx2", "avx512"};
    const char *was = getenv("LINNET_CPU");
    uint8_t key[16] = {9};
    struct cggm *c = NULL;

    for (size_t i = 0; i < sizeof path / sizeof *path; i++) {
        if (was == NULL)
            setenv("LINNET_CPU", path[i], 1);
        assert_int_equal(cggm_new(&c), 0);
        cggm_key(c, key);
        for (int depth = 1; depth <= 7; depth++)
            check_trees(c, key, depth);
        cggm_free(c);
    }
    if (was == NULL)
        unsetenv("LINNET_CPU");
}

/* ---- liars -------------------------------------------------------------------------------- */

/* Flips bits of what passes: message number `which` of a direction, byte `at`. */
struct flip {
    struct transport *inner;
    int which, seen;
    size_t at;
};

static int flip_send(void *ctx, const void *bytes, size_t n)
{
    struct flip *p = ctx;
    uint8_t copy[WAVE * 10 * sizeof(struct block)];

    if (p->seen++ != p->which)
        return transport_send(p->inner, bytes, n);
    assert_true(n <= sizeof copy && p->at < n);
    memcpy(copy, bytes, n);
    copy[p->at] ^= 4;
    return transport_send(p->inner, copy, n);
}

static int flip_recv(void *ctx, void *bytes, size_t n)
{
    return transport_recv(((struct flip *)ctx)->inner, bytes, n);
}

static int flip_flush(void *ctx)
{
    return transport_flush(((struct flip *)ctx)->inner);
}

struct liar {
    int sender, which;
    size_t at;
    struct block row;
};

static int run_liar(struct transport *t, void *arg)
{
    struct liar *l = arg;
    struct side s = {.sender = l->sender, .set = ferret_set(0)};
    struct otext_sender *give = NULL;
    struct otext_receiver *take = NULL;
    struct prg *rng = NULL;
    struct ferret *f = NULL;
    struct flip flip = {.inner = t, .which = l->which, .at = l->at};
    struct transport line = {
        .send = flip_send, .recv = flip_recv, .flush = flip_flush, .ctx = &flip};
    int rc = open_side(&s, t, &rng, &give, &take, &f);

    if (rc == 0)
        rc = ferret_rows(f, &line, 1, &l->row);
    ferret_free(f);
    otext_sender_free(give);
    otext_receiver_free(take);
    prg_free(rng);
    return rc;
}

/* One bit of any sum, or of the answer: the receiver ends before it has a row. */
static void test_lying_sender_is_refused(void **state)
{
    (void)state;
    static const struct {
        int which;
        size_t at;
    } lie[] = {{0, 0}, {0, 15}, {0, 9 * 16 + 3}, {3, 127 * 160}, {6, 81 * 160 + 159},
               {7, 5}, {99, 0}};

    for (size_t i = 0; i < sizeof lie / sizeof *lie; i++) {
        struct liar both[2] = {{1, lie[i].which, lie[i].at, {0, 0}}, {0, -1, 0, {0, 0}}};
        struct pair_half half[2] = {{.run = run_liar, .arg = &both[0]},
                                    {.run = run_liar, .arg = &both[1]}};
        int honest = lie[i].which == 99;

        pair_run(half);
        assert_int_equal(half[0].rc, 0);
        assert_int_equal(half[1].rc, honest ? 0 : ERR_PEER);
        assert_int_equal(both[1].row.lo != 0, honest);
        assert_int_equal(secret_alive(), 0);
    }
}

/* Which leaf is hidden, told to the sender by the test: what an attacker would have to guess. */
struct guess {
    struct ferret *sender;
    uint32_t place, right; /* guessed, true */
    int told;
};

/*
 * The best lie: the sum of the last level of tree 0 is wrong by e. Of the receiver's leaves the hidden
 * one and its neighbour are then wrong by e, so a sender that knows the place answers with
 * V ^ e rho (chi_place ^ chi_neighbour) and is not found out.
 */
static int lie_and_answer(struct ferret *f, struct transport *t, uint32_t place)
{
    struct block e = {8, 0}, *chi = f->lane[1 % f->lanes].chi, v, x, turn;
    uint8_t hash[SHA256_SIZE], sums[SHA256_SIZE], key[SHA256_SIZE];
    size_t depth = (size_t)f->set->depth, trees = (size_t)f->set->trees;
    struct block *all = mem_array(trees * depth, sizeof *all), left[CGGM_MOST_DEPTH];

    TRY(bootstrap(f, t));
    f->round = 1;
    TRY(digest(f, &f->lane[0], "linnet lpn", 0, NULL, 0, key));
    lpn_key(f->lane[0].code, key, (uint32_t)f->set->k);
    prg_bytes(f->rng, f->seed, trees * sizeof *f->seed);
    for (size_t k = 0; k < trees; k++) {
        const struct block *base = tree_base(f, k);

        TRY(leaves_of(f, &f->lane[0], k, f->lane[0].leaves, left));
        for (size_t i = 0; i < depth; i++)
            all[k * depth + i] = (struct block){left[i].lo ^ base[i].lo, left[i].hi ^ base[i].hi};
        if (k == 0)
            all[depth - 1].lo ^= e.lo;
        TRY(fold_tree(f, &f->lane[0], k, all + k * depth, f->lane[0].leaves));
    }
    TRY(transport_send(t, all, trees * depth * sizeof *all));
    TRY(sha256_bytes(all, trees * depth * sizeof *all, sums));
    /* what its own leaves of tree 0 would be */
    TRY(digest(f, &f->lane[0], "linnet chi", 0, all, depth * sizeof *all, hash));
    prg_restart(f->lane[0].weights, hash);
    prg_bytes(f->lane[0].weights, chi, (64 + ((size_t)1 << depth) / 64) * sizeof *chi);
    uint32_t beside = place ^ 1u << (depth - 1);
    struct block there = gf128_mul(chi[place % 64], chi[64 + place / 64]);
    struct block next = gf128_mul(chi[beside % 64], chi[64 + beside / 64]);
    turn = gf128_mul(e, (struct block){there.lo ^ next.lo, there.hi ^ next.hi});
    f->folded[0].lo ^= turn.lo;
    f->folded[0].hi ^= turn.hi;
    mem_free(all);
    TRY(fold_round(f, sums, &v, &x));
    return check_sender(f, t, v);
}

static int run_guesser(struct transport *t, void *arg)
{
    struct guess *g = arg;
    struct side s = {.sender = 1, .set = ferret_set(0)};
    struct otext_sender *give = NULL;
    struct prg *rng = NULL;
    struct ferret *f = NULL;
    int rc = open_side(&s, t, &rng, &give, NULL, &f);

    if (rc == 0)
        rc = lie_and_answer(f, t, g->place);
    ferret_free(f);
    otext_sender_free(give);
    prg_free(rng);
    return rc;
}

static void note_place(struct ferret *f, void *arg)
{
    *(uint32_t *)arg = hidden_place(f, 0);
}

static void test_only_a_right_guess_survives(void **state)
{
    (void)state;
    static const size_t call[] = {3000, 0};
    struct side side[2];
    struct guess g = {0};
    uint32_t truth = 0, seen = 0;

    open_both(side, ferret_set(0), call);
    side[1].look = note_place;
    side[1].arg = &truth;
    run_both(side); /* the same seeds below: the same places */
    for (int k = 0; k < 6; k++) {
        struct pair_half half[2] = {{.run = run_guesser, .arg = &g},
                                    {.run = run_side, .arg = &side[1]}};

        g.place = k == 0 ? truth : (truth + 85u * (unsigned)k) % 1024;
        side[1].arg = &seen;
        pair_run(half);
        assert_int_equal(half[0].rc, 0);
        assert_int_equal(half[1].rc, k == 0 ? 0 : ERR_PEER);
        assert_int_equal(k > 0 || seen == truth, 1);
        if (k > 0)
            continue;
        /* the lie was one: two rows of tree 0 are not correlated any more */
        int wrong = 0;
        for (size_t i = 0; i < call[0]; i++) {
            uint64_t b = (uint64_t)0 - (side[1].rows[i].lo & 1);
            int off = side[0].rows[i].lo != (side[1].rows[i].lo ^ (b & side[0].delta.lo));

            assert_true(!off || i == truth || i == (truth ^ 512));
            wrong += off;
        }
        assert_int_equal(wrong, 2);
    }
    close_both(side);
}

/* A receiver that lies in the check only harms itself: the answer does not fit what it knows. */
static void test_lying_receiver_learns_nothing(void **state)
{
    (void)state;
    size_t pieces = (74164 + 32767) / 32768 + 2; /* base transfers and their check come first */
    struct liar both[2] = {{1, -1, 0, {0, 0}}, {0, (int)pieces, 3, {0, 0}}};
    struct pair_half half[2] = {{.run = run_liar, .arg = &both[0]},
                                {.run = run_liar, .arg = &both[1]}};

    pair_run(half);
    assert_int_equal(half[0].rc, 0);
    assert_int_equal(half[1].rc, ERR_PEER);
    assert_int_equal(secret_alive(), 0);
}

/* Every allocation of either half fails once; the other half ends too and nothing stays. */
static void test_allocation_failures(void **state)
{
    (void)state;
    static const size_t call[] = {100, 0};
    struct side side[2];
    long counts[2];

    open_both(side, ferret_set(0), call);
    struct pair_half half[2] = {{.run = run_side, .arg = &side[0]},
                                {.run = run_side, .arg = &side[1]}};
    for (int i = 0; i < 2; i++)
        side[i].threads = 1;
    pair_run(half);
    counts[0] = half[0].allocations;
    counts[1] = half[1].allocations;
    for (int who = 0; who < 2; who++)
        for (long n = counts[who] - 60 + who; n <= counts[who]; n += 5) {
            half[who].fail_at = n;
            half[!who].fail_at = 0;
            pair_run(half);
            assert_int_equal(half[who].rc, ERR_NOMEM);
            assert_int_equal(secret_alive(), 0);
        }
    cpu_set_threads(0);
    close_both(side);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_trees_of_every_hole),
        cmocka_unit_test(test_rows_are_correlated),
        cmocka_unit_test(test_rows_look_random),
        cmocka_unit_test(test_threads_and_pieces_change_nothing),
        cmocka_unit_test(test_rows_equal_the_reference),
        cmocka_unit_test(test_lying_sender_is_refused),
        cmocka_unit_test(test_only_a_right_guess_survives),
        cmocka_unit_test(test_lying_receiver_learns_nothing),
        cmocka_unit_test(test_allocation_failures),
    };

    return cmocka_run_group_tests_name("ferret", tests, NULL, NULL);
}
