/*
 * Secrets decide no branch and no address in OT extension, silent OT, garbling, both comparison backends
 * and ring-LWE encryption.
 *
 * How: under valgrind's memcheck all secrets are marked as undefined memory (the idea of ctgrind, A.
 * Langley 2010): a conditional jump or an address that depends on one is then reported. Messages
 * are defined again when they arrive, since the peer may act on what it sees. Without valgrind the
 * program only runs the same calls. tests/long/run.sh ctime runs it under valgrind.
 *
 * Marked: operands, result shares, delta, seeds of all streams, the punctured digits of the trees,
 * choices of base OTs. Not marked: scalars on the curve (OpenSSL's P-256 claims constant time, but
 * its big numbers look at their own length).
 */
/* the whole module: static functions and structs; before cmocka.h, which has a macro fail */
#include "runtime/crypto/otext.h"
int product_verify(struct otext_sender *s, struct transport *t);
int product_verify_message(struct otext_sender *s, const uint8_t message[OTEXT_CHECK]);
#define otext_verify product_verify
#define otext_verify_message product_verify_message
#include "runtime/crypto/otext.c"
#undef otext_verify
#undef otext_verify_message

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "runtime/crypto/cggm.h"
#include "runtime/crypto/lpn.h"
#include "runtime/crypto/rlwe.h"
#include "runtime/relu/relu.h"
#include "runtime/relu/party.h"
#include "tests/hidden.h"
#include "tests/pair.h"
#include "tests/rlwe_product.h"

/* Whether a check passes is public; hide_party makes rows that do not fit, so it cannot. */
int otext_verify_message(struct otext_sender *s, const uint8_t message[OTEXT_CHECK])
{
    int ok;

    TRY(check(s, message, &ok));
    VALGRIND_MAKE_MEM_DEFINED(&ok, sizeof ok);
    return ok == 2 ? ERR_PEER : 0;
}

int otext_verify(struct otext_sender *s, struct transport *t)
{
    uint8_t message[OTEXT_CHECK];

    TRY(transport_recv(t, message, sizeof message));
    return otext_verify_message(s, message);
}

/* ---- parts -------------------------------------------------------------------------------- */

static void test_check_can_fail(void **state)
{
    (void)state;
    volatile uint8_t secret = 1;
    unsigned before = VALGRIND_COUNT_ERRORS, after;

    if (!RUNNING_ON_VALGRIND)
        skip();
    hide((void *)&secret, 1);
    if (secret == 2)
        before++;
    after = VALGRIND_COUNT_ERRORS;
    VALGRIND_MAKE_MEM_DEFINED(&before, sizeof before);
    assert_int_equal(after, 1);
    /* from here on: none more */
}

static unsigned errors_at_start(void)
{
    return RUNNING_ON_VALGRIND ? 1 : 0;
}

static void check_clean(void)
{
    assert_int_equal(VALGRIND_COUNT_ERRORS, errors_at_start());
}

/* Marks pass through OpenSSL: what a stream of a secret seed gives is secret. */
static void test_streams_of_secret_seeds_are_secret(void **state)
{
    (void)state;
    uint8_t bytes[16], marks[16] = {0};
    struct prg *p = NULL;

    if (!RUNNING_ON_VALGRIND)
        skip();
    assert_int_equal(hide_stream(&p), 0);
    prg_bytes(p, bytes, sizeof bytes);
    prg_free(p);
    VALGRIND_GET_VBITS(bytes, marks, sizeof marks);
    for (int i = 0; i < 16; i++)
        assert_int_equal(marks[i], 0xff);
}

enum { N_BASE = 8 };

static int choices_half(struct transport *t, void *arg)
{
    struct transport line = public_line(t);
    uint8_t choice[N_BASE] = {0, 1, 1, 0, 1}, keys[N_BASE][BASEOT_KEY];
    struct prg *rng = NULL;
    int rc;

    (void)arg;
    hide(choice, sizeof choice);
    if ((rc = prg_new_random(&rng)) == 0)
        rc = baseot_receive(&line, rng, N_BASE, choice, keys);
    prg_free(rng);
    return rc;
}

static int keys_half(struct transport *t, void *arg)
{
    struct transport line = public_line(t);
    uint8_t keys[N_BASE][2][BASEOT_KEY];
    struct prg *rng = NULL;
    int rc;

    (void)arg;
    if ((rc = prg_new_random(&rng)) == 0)
        rc = baseot_send(&line, rng, N_BASE, keys);
    prg_free(rng);
    return rc;
}

static void test_base_ot_choices(void **state)
{
    (void)state;
    struct pair_half half[2] = {{.run = choices_half}, {.run = keys_half}};

    pair_run(half);
    assert_int_equal(half[0].rc, 0);
    assert_int_equal(half[1].rc, 0);
    check_clean();
}

static void test_punctured_trees(void **state)
{
    (void)state;
    uint8_t keys[DIGIT][BASEOT_KEY] = {{1}, {2}, {3}, {4}};
    struct block message[DIGIT][2] = {{{5, 6}}}, sum[2] = {{7, 8}}, leaves[LEAVES], places[LEAVES];
    struct block blocks[LEAVES][2];

    for (uint64_t digit = 0; digit < LEAVES; digit += 5) {
        uint64_t secret = digit;

        hide(&secret, sizeof secret);
        hide(keys, sizeof keys);
        assert_int_equal(regrow(secret, keys, message, leaves), 0);
        assert_int_equal(split(leaves, blocks), 0);
        complete_checks(secret, sum, blocks);
        place_seeds(secret, leaves, places);
    }
    check_clean();
}

/* Secret planes and delta, public challenges; by both paths. Whether it fits is public. */
static void test_consistency_checks(void **state)
{
    (void)state;
    struct otext_sender *s = secret_array(1, sizeof *s);
    uint8_t message[OTEXT_CHECK] = {1, 2, 3};
    int ok = 1;

    assert_true(s != NULL && (s->work = work_new()) != NULL);
    for (int path = 0; path < 2; path++) {
        for (int j = 0; j < TREES; j++)
            for (int x = 1; x < LEAVES; x++)
                assert_int_equal(hide_stream(&s->leaf[j][x]), 0);
        s->delta = (struct block){UINT64_MAX, 5};
        hide(&s->delta, sizeof s->delta);
        s->work->path = path == 0 ? CPU_GENERIC : cpu_best_path();
        assert_int_equal(check(s, message, &ok), 0);
        VALGRIND_MAKE_MEM_DEFINED(&ok, sizeof ok);
        assert_int_equal(ok, 0);
    }
    otext_sender_free(s);
    check_clean();
}

/* Silent OT: the trees of both sides, the choice in the lowest bit's mask left to its own users, and rows
 * of the code, whose places are public and whose operand is secret. */
static void test_correlated_trees_and_the_code(void **state)
{
    (void)state;
    enum { DEPTH = 5, NODES = 1 << DEPTH, SECRETS = 64 };
    static const uint8_t key[PRG_SEED] = {9};
    struct block delta = {11, 12}, seed = {13, 14}, left[DEPTH], leaves[NODES], rows[NODES];
    struct block opened[DEPTH] = {{1, 2}, {3, 4}}, secret[SECRETS] = {{5, 6}};
    struct cggm *tree = NULL;
    struct lpn *code = NULL;

    assert_int_equal(cggm_new(&tree), 0);
    assert_int_equal(lpn_new(&code), 0);
    cggm_key(tree, key);
    lpn_key(code, key, SECRETS);
    hide(&delta, sizeof delta);
    hide(&seed, sizeof seed);
    hide(opened, sizeof opened);
    hide(secret, sizeof secret);
    cggm_grow(tree, DEPTH, delta, seed, leaves, left);
    for (uint32_t place = 0; place < NODES; place += 7) {
        uint32_t hidden = place;

        hide(&hidden, sizeof hidden);
        cggm_fill(tree, DEPTH, hidden, opened, rows);
    }
    lpn_add(code, secret, 3, rows, rows, NODES);
    lpn_add(code, secret, 3, leaves, rows, NODES);
    cggm_free(tree);
    lpn_free(code);
    check_clean();
}

/* ---- whole comparisons ------------------------------------------------------------------------ */

struct hidden {
    const struct relu_backend *backend;
    struct relu_batch b;
    int is_client;
};

/* All that a party draws from now on is secret, and so is its delta. Rows no longer fit the peer's,
 * which does not matter here. */
static int hide_party(struct relu_party *p)
{
    TRY(hide_stream(&p->rng));
    hide(&p->sender->delta, sizeof p->sender->delta);
    for (int j = 0; j < TREES; j++)
        for (int x = 0; x < LEAVES; x++) {
            if (x > 0)
                TRY(hide_stream(&p->sender->leaf[j][x]));
            TRY(hide_stream(&p->receiver->leaf[j][x]));
        }
    return 0;
}

static int run_hidden(const struct hidden *w, struct transport *line, struct relu_party *party,
                      uint64_t *first, uint64_t *second, struct tape *state)
{
    const struct relu_backend *k = w->backend;

    if (w->is_client) {
        TRY(k->offline_client(party, &w->b, first, second, state));
        return k->online_client(line, &w->b, state, 0);
    }
    TRY(k->offline_server(party, &w->b, state));
    return k->online_server(line, &w->b, state, 0, first, second);
}

static int hidden_half(struct transport *t, void *arg)
{
    const struct hidden *w = arg;
    const struct relu_backend *k = w->backend;
    size_t bytes = (size_t)w->b.n * (size_t)w->b.payloads * sizeof(uint64_t);
    uint64_t *first = secret_array(bytes, 1), *second = secret_array(bytes, 1);
    struct tape *state = NULL;
    struct transport line = public_line(t);
    struct relu_party *party = NULL;
    struct prg *rng = NULL;
    int rc = first != NULL && second != NULL ? 0 : ERR_NOMEM;

    if (rc < 0 || (rc = prg_new_random(&rng)) < 0 ||
        (rc = tape_memory(k->state_size(&w->b, w->is_client), &state)) < 0 ||
        (rc = k->open(w->is_client, (const uint8_t[HASH_SID]){1}, NULL, &line, rng, &party)) < 0 ||
        (rc = hide_party(party)) < 0)
        goto out;
    rng = party->rng; /* the first one is gone */
    hide(first, bytes);
    hide(second, bytes);
    rc = run_hidden(w, &line, party, first, second, state);
out:
    k->close(party);
    prg_free(rng);
    secret_free(first);
    secret_free(second);
    tape_free(state);
    return rc;
}

static void test_backends(void **state)
{
    (void)state;
    static const char *const names[] = {"gc", "ot", "ot", "gc"};

    for (int i = 0; i < 8; i++) {
        struct hidden w[2] = {{relu_backend_find(names[i / 2]),
                               {.n = 77, .width = 25, .payloads = 1 + i % 2, .tweak = 3},
                               0},
                              {0}};
        w[0].b.form.paired = i >= 6;
        if (i == 4 || i == 5) /* four messages a layer */
            relu_ot.choose(&w[0].b, 1000000000, 1000000000, false);
        assert_int_equal(w[0].b.form.one_shot, i == 4 || i == 5);
        struct pair_half half[2] = {{.run = hidden_half, .arg = &w[0]},
                                    {.run = hidden_half, .arg = &w[1]}};

        w[1] = w[0];
        w[1].is_client = 1;
        pair_run(half);
        assert_int_equal(half[0].rc, 0);
        assert_int_equal(half[1].rc, 0);
        check_clean();
    }
}

/* ---- ring-LWE ----------------------------------------------------------------------------------- */

struct ring {
    struct rlwe *r;
    struct rlwe_secret *secret;
    struct rlwe_work *work;
    struct prg *rng; /* what it gives is secret */
    uint64_t key[RLWE_POLY_WORDS], a[RLWE_POLY_WORDS], c[RLWE_POLY_WORDS];
    uint64_t m[RLWE_N], u[RLWE_N];
    int16_t weight[RLWE_N];
    int32_t place[RLWE_N];
    uint8_t half[RLWE_HALF_BYTES], values[RLWE_HALF_BYTES], bytes[RLWE_POLY_BYTES];
};

/* Keys, an encryption of secret numbers, and their bytes; then what is sent is public. */
static void client_encrypts(struct ring *k)
{
    static const uint8_t seed[RLWE_SEED] = {3};

    assert_int_equal(rlwe_secret_new(k->r, k->rng, &k->secret), 0);
    assert_int_equal(rlwe_random(k->r, seed, 0, 0, k->a), 0);
    assert_int_equal(rlwe_encrypt(k->r, k->secret, k->a, NULL, k->rng, k->key), 0);
    hide(k->m, sizeof k->m);
    assert_int_equal(rlwe_encrypt(k->r, k->secret, k->a, k->m, k->rng, k->c), 0);
    rlwe_pack(k->bytes, k->c);
    VALGRIND_MAKE_MEM_DEFINED(k->key, sizeof k->key);
    VALGRIND_MAKE_MEM_DEFINED(k->c, sizeof k->c);
}

/* Weights, mask and randomness of the answer are secret. */
static void server_answers(struct ring *k)
{
    hide(k->weight, sizeof k->weight);
    hide(k->m, sizeof k->m);
    rlwe_work_start(k->work, k->rng);
    for (int i = 0; i < RLWE_PRIMES; i++) {
        size_t at = (size_t)i * RLWE_N;
        rlwe_product_add(k->work, k->r, i, k->c + at, k->a + at, k->weight, 1);
        rlwe_product_add(k->work, k->r, i, k->c + at, k->a + at, k->weight, 49); /* few taps */
        rlwe_work_close(k->work, k->r, i, k->key + at, k->a + at);
    }
    rlwe_answer(k->work, k->r, k->place, k->m, RLWE_N, k->half, k->values);
    VALGRIND_MAKE_MEM_DEFINED(k->half, sizeof k->half);
    VALGRIND_MAKE_MEM_DEFINED(k->values, sizeof k->values);
}

static void test_ring_lwe(void **state)
{
    (void)state;
    for (int path = NTT_PLAIN; path <= (int)ntt_best_path(); path++) {
        struct ring *k = mem_aligned(1, sizeof *k);

        assert_non_null(k);
        for (int32_t i = 0; i < RLWE_N; i++)
            k->place[i] = i;
        assert_int_equal(hide_stream(&k->rng), 0);
        assert_int_equal(rlwe_new((enum ntt_path)path, &k->r), 0);
        assert_int_equal(rlwe_work_new(&k->work), 0);
        client_encrypts(k);
        server_answers(k);
        assert_int_equal(rlwe_open(k->r, k->secret, k->half, k->values, k->place, RLWE_N, k->u), 0);
        rlwe_work_free(k->work);
        rlwe_secret_free(k->secret);
        rlwe_free(k->r);
        prg_free(k->rng);
        mem_free(k);
        check_clean();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_can_fail),
        cmocka_unit_test(test_streams_of_secret_seeds_are_secret),
        cmocka_unit_test(test_base_ot_choices),
        cmocka_unit_test(test_punctured_trees),
        cmocka_unit_test(test_consistency_checks),
        cmocka_unit_test(test_correlated_trees_and_the_code),
        cmocka_unit_test(test_backends),
        cmocka_unit_test(test_ring_lwe),
    };

    return cmocka_run_group_tests_name("ctime", tests, NULL, NULL);
}
