/*
 * Silent OT extension (ferret.h).
 *
 * A round of a set (k, trees, depth) starts from `base` = k + trees * depth + 128 rows:
 *
 *     [0, k)      the secret of LPN: one vector of blocks a party
 *     depth each  for the trees (cggm.h). Sender: sends (sum of the left nodes of level i) ^ base row.
 *                 Receiver: ^ its own base row gives the sum of the left nodes for a choice bit 0, of
 *                 the right ones for 1. So the hidden leaf's side at level i is 1 ^ that bit: where
 *                 the noise lies is decided by bits that nobody chose, and the receiver sends nothing
 *     128         hide what the check sends
 *
 * Row i of the round is leaf i (of all trees one after another; its lowest bit replaced by the
 * choice: 1 at the hidden leaf of the receiver, else 0) ^ row i of the matrix times the secret
 * (lpn.h). The last trees of a round are the base of the next, the others go to the caller.
 *
 * The first round is one of the smallest set, its base are rows of OT extension; all that follow are
 * rounds of the set in use.
 *
 * Check, before a row is handed out. A sender whose sums are wrong would otherwise learn from what
 * becomes of the rows on which side a leaf lies. With weights chi_lj = a_l(j mod 64) b_l(j div 64) of tree
 * l (a_l, b_l: the stream of SHA-256 over its sums) and rho (the stream of SHA-256 over all sums), V =
 * sum of rho_l chi_lj leaf_lj over GF(2^128):
 *
 *     receiver   X = sum of rho_l chi_l(hidden); sends x' = X ^ choice bits of the 128 rows
 *     sender     sends SHA-256(V ^ sum of (row_i ^ x'_i delta) x^i)
 *     receiver   the same from its own leaves and rows: V differs by X delta, the rows by X delta too
 *
 * Wrong sums survive where a guess about the place was right, so g guessed bits survive with 2^-g; for
 * others the difference of the two V is a polynomial of degree 3 in a, b and rho that is not zero, and the
 * weights, which come after the sums, are a root of it with probability 3 * 2^-128 (Schwartz, Zippel).
 * A receiver that sends another x' gets a hash of an unknown multiple of delta: nothing.
 * Leaves of a round that takes at most 64 MiB are kept from the check to their rows; trees of larger
 * rounds are grown twice.
 *
 * Keys, all of SHA-256(text, sid, instance, round, part): of the matrix ("linnet lpn"), of the trees
 * ("linnet tree"; part: 2^20 hashes under one key).
 */
#include "runtime/crypto/ferret.h"

#include <string.h>

#include "core/base/cpu.h"
#include "core/base/minmax.h"
#include "core/base/sha256.h"
#include "runtime/crypto/cggm.h"
#include "runtime/crypto/gf128.h"
#include "runtime/crypto/lpn.h"

#define CHECK_ROWS 128
#define LOG_HASHES 20                 /* of trees under one key */
#define KEPT_BYTES ((size_t)64 << 20) /* leaves of a round that are kept at most */
#define WAVE 128                      /* trees of which the sums are sent at once */
#define COLUMNS 64                    /* leaves that share a weight b */

/* ---- sets --------------------------------------------------------------------------------- */

/*
 * Estimates, log2 of operations, of the script tests/long/lpn_estimate.py (2026-11-28); for the sets in
 * use, their source states "about 128" against the same attacks, BJMM and AGB 2.0.
 *
 *     set             n         k     t   gauss    isd   perm    agb  hybrid
 *     b10        870400     65536   850   139.6  131.4  153.7  145.2   128.7
 *     b11       2396160    131072  1170   141.7  135.1  157.5  144.5   128.2
 *     b12       6225920    262144  1520   144.2  138.8  161.4  143.9   128.1
 *     b13      15564800    524288  1900   146.8  142.5  165.2  143.5   128.2
 *     ferret-2020  10180608  124000  4971   131.6  129.7  154.1  109.6    92.8
 *     mpz-2024  2048000     69559  2000   141.9  136.1  159.6  130.7   112.3
 *
 * To be looked at again by the end of 2027, or when an attack is published.
 *
 * row_ns: Sapphire Rapids with VAES, 17 million rows, two parties on two cores. Secrets of b12 and b13 do
 * not fit into the second cache (2 MiB). With the AES of OpenSSL a row takes about 1.4 times as long.
 */
#define EMP "emp-ot 1.0.0-alpha.1, tuning.h, 2026"
static const struct ferret_set sets[] = {
    {"b10", 65536, 850, 10, EMP, 128.7, NULL, 15},
    {"b11", 131072, 1170, 11, EMP, 128.2, NULL, 17},
    {"b12", 262144, 1520, 12, EMP, 128.1, NULL, 21},
    {"b13", 524288, 1900, 13, EMP, 128.2, NULL, 28},
    {"ferret-2020", 124000, 4971, 11, "Ferret, eprint 2020/924, 2020", 92.8,
     "the hybrid attack of 2025", 0},
    {"mpz-2024", 69559, 2000, 10, "mpz, ferret/mod.rs, 2024", 112.3, "the hybrid attack of 2025",
     0},
};

/* The set of the first round; a test that has all of this file may bring a smaller one. */
#ifndef FERRET_FIRST
#define FERRET_FIRST (&sets[0])
#endif

const struct ferret_set *ferret_set(int i)
{
    return &sets[i];
}

int ferret_set_find(const char *name, const struct ferret_set **out)
{
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        if (strcmp(sets[i].name, name) != 0)
            continue;
        if (sets[i].withdrawn != NULL)
            return fail(ERR_ARG, "LPN parameter set %s is withdrawn: %s leaves %.0f bits", name,
                        sets[i].withdrawn, sets[i].bits);
        *out = &sets[i];
        return 0;
    }
    return fail(ERR_ARG, "no LPN parameter set is called \"%s\"; there are b10, b11, b12, b13",
                name);
}

static size_t base_rows(const struct ferret_set *s)
{
    return (size_t)s->k + (size_t)(s->trees * s->depth) + CHECK_ROWS;
}

/* Trees of a round of s that make the base of a round of next. */
static size_t refill_trees(const struct ferret_set *s, const struct ferret_set *next)
{
    return (base_rows(next) + ((size_t)1 << s->depth) - 1) >> s->depth;
}

/* Trees for the caller. */
static size_t given_trees(const struct ferret_set *s, const struct ferret_set *next)
{
    return (size_t)s->trees - refill_trees(s, next);
}

static uint64_t sums_bytes(const struct ferret_set *s)
{
    return (uint64_t)s->trees * (uint64_t)s->depth * sizeof(struct block);
}

uint64_t ferret_round_rows(const struct ferret_set *set)
{
    return (uint64_t)given_trees(set, set) << set->depth;
}

uint64_t ferret_bytes(const struct ferret_set *set, uint64_t rows, int from_sender)
{
    const struct ferret_set *first = FERRET_FIRST;
    uint64_t given = (uint64_t)given_trees(first, set) << first->depth, more, sum;

    if (rows == 0)
        return 0;
    sum = from_sender ? sums_bytes(first) + SHA256_SIZE
                      : otext_bytes(base_rows(first), 0) + OTEXT_CHECK + sizeof(struct block);
    if (rows <= given)
        return sum;
    more = (rows - given + ferret_round_rows(set) - 1) / ferret_round_rows(set);
    return sum + more * (from_sender ? sums_bytes(set) + SHA256_SIZE : sizeof(struct block));
}

/* ---- the object --------------------------------------------------------------------------- */

struct lane { /* of one thread */
    struct cggm *tree;
    struct lpn *code;
    struct prg *weights;
    struct sha256 *hash;
    struct block *leaves; /* [2^depth] */
    struct block *chi;    /* of a tree: a [COLUMNS], then b [2^depth / COLUMNS] */
    uint64_t key;         /* 1 + round and part of the key that `tree` has, 0: none */
};
struct ferret {
    struct ferret_id id;
    const struct ferret_set *set, *next; /* of this round, of those after it */
    struct otext_sender *sender;         /* one of them; of the base transfers */
    struct otext_receiver *receiver;
    struct prg *rng;
    struct block delta;
    uint64_t round, taken; /* rounds begun, rows handed out */
    size_t tree;           /* next one of the round */
    size_t held, left;     /* rows in `rest`; those not handed out, at its end */
    struct block *base, *refill;
    struct block *seed, *opened; /* [trees], sender; [trees][depth], receiver */
    struct block *folded, *hit;  /* [trees]: sums of chi * leaf; chi of the hidden leaf */
    struct block *wave;          /* [WAVE][depth]: a message */
    struct block *rest;          /* rows of a tree a thread */
    struct block *kept;          /* leaves of the round; NULL: grown again */
    struct lane *lane;
    int lanes;
    enum cpu_path path;
};

static int lane_open(struct lane *l, size_t leaves)
{
    static const uint8_t none[PRG_SEED];

    TRY(cggm_new(&l->tree));
    TRY(lpn_new(&l->code));
    TRY(prg_new(none, &l->weights));
    TRY(sha256_new(&l->hash));
    if ((l->leaves = secret_array(leaves, sizeof *l->leaves)) == NULL ||
        (l->chi = secret_array(COLUMNS + leaves / COLUMNS, sizeof *l->chi)) == NULL)
        return ERR_NOMEM;
    return 0;
}

static void lane_close(struct lane *l)
{
    cggm_free(l->tree);
    lpn_free(l->code);
    prg_free(l->weights);
    sha256_free(l->hash);
    secret_free(l->leaves);
    secret_free(l->chi);
}

/* Rows of either base: whole trees of the round before. */
static size_t base_room(const struct ferret_set *set)
{
    const struct ferret_set *first = FERRET_FIRST;
    size_t from_first = refill_trees(first, set) << first->depth;
    size_t from_own = refill_trees(set, set) << set->depth;

    return max_size(base_rows(first), max_size(from_first, from_own));
}

static size_t round_leaves(const struct ferret_set *set)
{
    return (size_t)set->trees << set->depth;
}

static int allocate(struct ferret *f, const struct ferret_set *set)
{
    size_t leaves = (size_t)1 << set->depth, trees = (size_t)set->trees, depth = (size_t)set->depth;
    struct block **const array[] = {&f->base,   &f->refill, &f->seed, &f->opened,
                                    &f->folded, &f->hit,    &f->wave, &f->rest};
    const size_t size[] = {base_room(set), base_room(set), trees,        trees * depth,
                           trees,          trees,          WAVE * depth, leaves * (size_t)f->lanes};

    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        if ((*array[i] = secret_array(size[i], sizeof **array[i])) == NULL)
            return ERR_NOMEM;
    if (round_leaves(set) <= KEPT_BYTES / sizeof *f->kept &&
        (f->kept = secret_array(max_size(round_leaves(set), round_leaves(FERRET_FIRST)),
                                sizeof *f->kept)) == NULL)
        return ERR_NOMEM;
    if ((f->lane = secret_array((size_t)f->lanes, sizeof *f->lane)) == NULL)
        return ERR_NOMEM;
    for (int i = 0; i < f->lanes; i++)
        TRY(lane_open(&f->lane[i], leaves));
    return 0;
}

static int ferret_new(const struct ferret_id *id, const struct ferret_set *set, struct ferret **out)
{
    SCOPED(ferret_free_at) struct ferret *f = secret_array(1, sizeof *f);

    if (f == NULL)
        return ERR_NOMEM;
    f->id = *id;
    f->set = FERRET_FIRST;
    f->next = set;
    f->lanes = cpu_threads();
    f->path = cpu_best_path();
    TRY(allocate(f, set));
    *out = mem_hand_on(&f);
    return 0;
}

int ferret_sender_new(const struct ferret_id *id, const struct ferret_set *set,
                      struct otext_sender *base, struct prg *rng, struct ferret **out)
{
    TRY(ferret_new(id, set, out));
    (*out)->sender = base;
    (*out)->delta = otext_delta(base);
    (*out)->rng = rng;
    return 0;
}

int ferret_receiver_new(const struct ferret_id *id, const struct ferret_set *set,
                        struct otext_receiver *base, struct ferret **out)
{
    TRY(ferret_new(id, set, out));
    (*out)->receiver = base;
    return 0;
}

void ferret_free(struct ferret *f)
{
    if (f == NULL)
        return;
    for (int i = 0; f->lane != NULL && i < f->lanes; i++)
        lane_close(&f->lane[i]);
    secret_free(f->lane);
    secret_free(f->base);
    secret_free(f->refill);
    secret_free(f->seed);
    secret_free(f->opened);
    secret_free(f->folded);
    secret_free(f->hit);
    secret_free(f->wave);
    secret_free(f->rest);
    secret_free(f->kept);
    secret_free(f);
}

/* ---- keys and hashes ------------------------------------------------------------------------ */

/* SHA-256(text, sid, instance, round, part, bytes [n]). */
static int digest(const struct ferret *f, struct lane *l, const char *text, uint64_t part,
                  const void *bytes, size_t n, uint8_t out[SHA256_SIZE])
{
    uint64_t numbers[3] = {f->id.instance, f->round, part};

    TRY(sha256_restart(l->hash));
    TRY(sha256_add(l->hash, text, strlen(text)));
    TRY(sha256_add(l->hash, f->id.sid, FERRET_SID));
    TRY(sha256_add(l->hash, numbers, sizeof numbers));
    TRY(sha256_add(l->hash, bytes, n));
    return sha256_end(l->hash, out);
}

/* ---- trees -------------------------------------------------------------------------------- */

static struct block *tree_base(const struct ferret *f, size_t tree)
{
    return f->base + f->set->k + tree * (size_t)f->set->depth;
}

static struct block *check_base(const struct ferret *f)
{
    return tree_base(f, (size_t)f->set->trees);
}

/* Where the receiver's hidden leaf lies. */
static uint32_t hidden_place(const struct ferret *f, size_t tree)
{
    const struct block *base = tree_base(f, tree);
    uint32_t place = 0;

    for (int i = 0; i < f->set->depth; i++)
        place |= (uint32_t)(~base[i].lo & 1) << i;
    return place;
}

static int key_tree(struct ferret *f, struct lane *l, size_t tree)
{
    uint64_t part = tree >> (LOG_HASHES - f->set->depth), key = 1 + (f->round << 32 | part);
    uint8_t hash[SHA256_SIZE];

    if (l->key == key)
        return 0;
    TRY(digest(f, l, "linnet tree", part, NULL, 0, hash));
    cggm_key(l->tree, hash);
    l->key = key;
    return 0;
}

/* Leaves of one tree with the choice in their lowest bit. left [depth]: for the sender. */
static int leaves_of(struct ferret *f, struct lane *l, size_t tree, struct block *leaves,
                     struct block *left)
{
    uint64_t place = UINT64_MAX; /* none */

    TRY(key_tree(f, l, tree));
    if (f->sender != NULL) {
        cggm_grow(l->tree, f->set->depth, f->delta, f->seed[tree], leaves, left);
    } else {
        place = hidden_place(f, tree);
        cggm_fill(l->tree, f->set->depth, (uint32_t)place, f->opened + tree * (size_t)f->set->depth,
                  leaves);
    }
    cggm_mark(l->tree, f->set->depth, place, leaves);
    return 0;
}

/* Rows of one tree. */
static int rows_of(struct ferret *f, struct lane *l, size_t tree, struct block *rows)
{
    struct block left[CGGM_MOST_DEPTH];
    size_t n = (size_t)1 << f->set->depth;
    const struct block *leaves = rows;
    int rc = 0;

    if (f->kept != NULL)
        leaves = f->kept + tree * n;
    else
        rc = leaves_of(f, l, tree, rows, left);
    if (rc == 0)
        lpn_add(l->code, f->base, (uint64_t)tree * n, leaves, rows, n);
    wipe(left, sizeof left);
    return rc;
}

/* Rows of trees first ... first + count - 1. */
static int rows_of_trees(struct ferret *f, size_t first, size_t count, struct block *rows)
{
    int rc = 0;

#pragma omp parallel for num_threads(f->lanes) reduction(min : rc)
    for (size_t k = 0; k < count; k++) {
        int one = rows_of(f, &f->lane[cpu_thread_index()], first + k, rows + (k << f->set->depth));

        rc = one < rc ? one : rc;
    }
    return rc;
}

/* ---- beginning of a round ------------------------------------------------------------------- */

/* The weight of a leaf, whose place decides no address. */
static struct block weight_at(const struct ferret *f, const struct block *chi, uint64_t place)
{
    size_t rows = ((size_t)1 << f->set->depth) / COLUMNS;
    struct block a = {0, 0}, b = {0, 0};

    for (size_t i = 0; i < COLUMNS; i++)
        block_add(&a, chi[i], equal_mask(i, place % COLUMNS));
    for (size_t i = 0; i < rows; i++)
        block_add(&b, chi[COLUMNS + i], equal_mask(i, place / COLUMNS));
    return gf128_dot(f->path, &a, &b, 1);
}

/* What the check needs of one tree, whose sums travelled as `sums`. */
static int fold_tree(struct ferret *f, struct lane *l, size_t tree, const struct block *sums,
                     const struct block *leaves)
{
    size_t rows = ((size_t)1 << f->set->depth) / COLUMNS;
    struct block row[(1 << CGGM_MOST_DEPTH) / COLUMNS];
    uint8_t hash[SHA256_SIZE];

    TRY(digest(f, l, "linnet chi", tree, sums, (size_t)f->set->depth * sizeof *sums, hash));
    prg_restart(l->weights, hash);
    prg_bytes(l->weights, l->chi, (COLUMNS + rows) * sizeof *l->chi);
    for (size_t i = 0; i < rows; i++)
        row[i] = gf128_dot(f->path, leaves + i * COLUMNS, l->chi, COLUMNS);
    f->folded[tree] = gf128_dot(f->path, row, l->chi + COLUMNS, rows);
    if (f->receiver != NULL)
        f->hit[tree] = weight_at(f, l->chi, hidden_place(f, tree));
    wipe(row, rows * sizeof *row);
    return 0;
}

/* Both parties: leaves for the check and, sender, the sums into the wave. */
static int wave_tree(struct ferret *f, struct lane *l, size_t tree, struct block *sums)
{
    size_t depth = (size_t)f->set->depth;
    const struct block *base = tree_base(f, tree);
    struct block *opened = f->opened + tree * depth, left[CGGM_MOST_DEPTH];
    struct block *leaves = f->kept != NULL ? f->kept + (tree << depth) : l->leaves;
    int rc;

    for (size_t i = 0; f->receiver != NULL && i < depth; i++)
        opened[i] = (struct block){sums[i].lo ^ base[i].lo, sums[i].hi ^ base[i].hi};
    rc = leaves_of(f, l, tree, leaves, left);
    for (size_t i = 0; rc == 0 && f->sender != NULL && i < depth; i++)
        sums[i] = (struct block){left[i].lo ^ base[i].lo, left[i].hi ^ base[i].hi};
    if (rc == 0)
        rc = fold_tree(f, l, tree, sums, leaves);
    wipe(left, sizeof left);
    return rc;
}

static int wave(struct ferret *f, struct transport *t, size_t first, size_t count,
                struct sha256 *all)
{
    size_t depth = (size_t)f->set->depth;
    int rc = 0;

    if (f->receiver != NULL)
        TRY(transport_recv(t, f->wave, count * depth * sizeof *f->wave));
#pragma omp parallel for num_threads(f->lanes) reduction(min : rc)
    for (size_t k = 0; k < count; k++) {
        int one = wave_tree(f, &f->lane[cpu_thread_index()], first + k, f->wave + k * depth);

        rc = one < rc ? one : rc;
    }
    if (rc < 0)
        return rc;
    if (f->sender != NULL)
        TRY(transport_send(t, f->wave, count * depth * sizeof *f->wave));
    return sha256_add(all, f->wave, count * depth * sizeof *f->wave);
}

/* Sums of all trees over the line; out: their SHA-256. */
static int exchange_sums(struct ferret *f, struct transport *t, uint8_t out[SHA256_SIZE])
{
    size_t trees = (size_t)f->set->trees;
    SCOPED(sha256_free_at) struct sha256 *all = NULL;

    TRY(sha256_new(&all));
    if (f->sender != NULL)
        prg_bytes(f->rng, f->seed, trees * sizeof *f->seed);
    for (size_t at = 0; at < trees; at += WAVE)
        TRY(wave(f, t, at, trees - at < WAVE ? trees - at : WAVE, all));
    return sha256_end(all, out);
}

/* ---- check -------------------------------------------------------------------------------- */

/* V ^ sum of rows x^i, of the receiver also X. */
static int fold_round(struct ferret *f, const uint8_t sums[SHA256_SIZE], struct block *v,
                      struct block *x)
{
    size_t trees = (size_t)f->set->trees;
    struct block *rho = f->lane[0].leaves; /* at least as many leaves as trees */
    uint8_t hash[SHA256_SIZE];

    TRY(digest(f, &f->lane[0], "linnet rho", 0, sums, SHA256_SIZE, hash));
    prg_restart(f->lane[0].weights, hash);
    prg_bytes(f->lane[0].weights, rho, trees * sizeof *rho);
    *v = gf128_dot(f->path, f->folded, rho, trees);
    *x = gf128_dot(f->path, f->hit, rho, trees);
    return 0;
}

/* Adds sum of row_i x^i, row_i ^ delta where bit i of x is set. */
static void add_rows(const struct ferret *f, struct block x, struct block *v)
{
    const struct block *row = check_base(f);
    struct block monomial[CHECK_ROWS], term[CHECK_ROWS];

    for (int i = 0; i < CHECK_ROWS; i++) {
        uint64_t flip = (uint64_t)0 - ((i < 64 ? x.lo >> i : x.hi >> (i - 64)) & 1);

        monomial[i] =
            (struct block){i < 64 ? (uint64_t)1 << i : 0, i < 64 ? 0 : (uint64_t)1 << (i - 64)};
        term[i] = row[i];
        block_add(&term[i], f->delta, flip);
    }
    block_add(v, gf128_dot(f->path, term, monomial, CHECK_ROWS), UINT64_MAX);
    wipe(term, sizeof term);
}

static int check_sender(struct ferret *f, struct transport *t, struct block v)
{
    uint8_t answer[SHA256_SIZE];
    struct block x;

    TRY(transport_recv(t, &x, sizeof x));
    add_rows(f, x, &v);
    TRY(digest(f, &f->lane[0], "linnet ferret", 0, &v, sizeof v, answer));
    TRY(transport_send(t, answer, sizeof answer));
    return transport_flush(t);
}

static int check_receiver(struct ferret *f, struct transport *t, struct block v, struct block x)
{
    const struct block *row = check_base(f);
    uint8_t want[SHA256_SIZE], answer[SHA256_SIZE];

    for (int i = 0; i < CHECK_ROWS; i++) {
        x.lo ^= i < 64 ? (row[i].lo & 1) << i : 0;
        x.hi ^= i < 64 ? 0 : (row[i].lo & 1) << (i - 64);
    }
    TRY(transport_send(t, &x, sizeof x));
    add_rows(f, x, &v); /* delta is 0 here */
    TRY(digest(f, &f->lane[0], "linnet ferret", 0, &v, sizeof v, want));
    TRY(transport_recv(t, answer, sizeof answer));
    if (memcmp(want, answer, sizeof want) != 0)
        return fail(ERR_PEER, "the trees of the other party's oblivious transfers do not agree");
    return 0;
}

static int check(struct ferret *f, struct transport *t, const uint8_t sums[SHA256_SIZE])
{
    SCOPED(block_wipe) struct block v = {0, 0}, x = {0, 0};

    TRY(fold_round(f, sums, &v, &x));
    return f->sender != NULL ? check_sender(f, t, v) : check_receiver(f, t, v, x);
}

/* ---- rounds ------------------------------------------------------------------------------- */

/* Rows of OT extension, their lowest bit made the choice. */
static int bootstrap(struct ferret *f, struct transport *t)
{
    size_t n = base_rows(f->set);

    if (f->sender != NULL) {
        TRY(otext_send(f->sender, t, n, 0, f->base));
        TRY(otext_verify(f->sender, t));
        for (size_t i = 0; i < n; i++)
            f->base[i].lo &= ~(uint64_t)1;
        return 0;
    }
    SECRET uint64_t *bits = secret_array(n / 64 + 1, sizeof *bits);
    if (bits == NULL)
        return ERR_NOMEM;
    TRY(otext_receive_random(f->receiver, t, n, bits, f->base));
    TRY(otext_prove(f->receiver, t));
    for (size_t i = 0; i < n; i++)
        f->base[i].lo = (f->base[i].lo & ~(uint64_t)1) | (bits[i / 64] >> i % 64 & 1);
    return 0;
}

/* The last trees of the round become the base of the next one. */
static int refill(struct ferret *f)
{
    size_t first = given_trees(f->set, f->next);
    struct block *base = f->base;

    TRY(rows_of_trees(f, first, (size_t)f->set->trees - first, f->refill));
    f->base = f->refill;
    f->refill = base;
    f->set = f->next;
    return 0;
}

/* From a base that is there. */
static int run_round(struct ferret *f, struct transport *t)
{
    uint8_t key[SHA256_SIZE], sums[SHA256_SIZE];

    f->round++;
    f->tree = 0;
    TRY(digest(f, &f->lane[0], "linnet lpn", 0, NULL, 0, key));
    for (int i = 0; i < f->lanes; i++)
        lpn_key(f->lane[i].code, key, (uint32_t)f->set->k);
    TRY(exchange_sums(f, t, sums));
    return check(f, t, sums);
}

static int begin_round(struct ferret *f, struct transport *t)
{
    TRY(f->round == 0 ? bootstrap(f, t) : refill(f));
    return run_round(f, t);
}

/* Rows of the next trees, at most `most_trees`, or of as many as there are. */
static int take_trees(struct ferret *f, size_t most_trees, struct block *rows, size_t *got)
{
    size_t trees = given_trees(f->set, f->next) - f->tree;

    trees = most_trees < trees ? most_trees : trees;
    TRY(rows_of_trees(f, f->tree, trees, rows));
    f->tree += trees;
    *got = trees << f->set->depth;
    return 0;
}

int ferret_rows(struct ferret *f, struct transport *t, size_t n, struct block *rows)
{
    f->taken += n;
    while (n > 0) {
        size_t got = 0, trees = n >> f->set->depth, lanes = (size_t)f->lanes;

        if (f->left > 0) {
            got = n < f->left ? n : f->left;
            memcpy(rows, f->rest + f->held - f->left, got * sizeof *rows);
            f->left -= got;
        } else if (f->round == 0 || f->tree == given_trees(f->set, f->next)) {
            TRY(begin_round(f, t));
        } else if (trees < lanes) {
            TRY(take_trees(f, lanes, f->rest, &f->held));
            f->left = f->held;
        } else {
            TRY(take_trees(f, trees / lanes * lanes, rows, &got));
        }
        rows += got;
        n -= got;
    }
    return 0;
}
