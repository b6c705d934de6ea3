/*
 * Secrets decide no branch and no address where covert clients' results are tagged: alpha and the verifier's
 * keys, the prover's words, both parties' states of a tagged batch, the operands. How: test_ctime.c.
 *
 * Whether a layer's tags fit is public, so the last comparison is left out here.
 */
/* the whole module: static functions and structs; before cmocka.h, which has a macro fail */
#include "runtime/relu/gc_tag.h"
int product_tag_check(struct transport *t, const struct gc_tag_server *s, size_t results,
                      uint64_t *z);
#define gc_tag_check product_tag_check
#include "runtime/relu/gc_tag.c"
#undef gc_tag_check

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "runtime/relu/relu.h"
#include "runtime/relu/ways.h"
#include "tests/hidden.h"
#include "tests/pair.h"

#define N 77
#define WIDTH 25
#define WORDS 300 /* more than a piece of vole.c */

int gc_tag_check(struct transport *t, const struct gc_tag_server *s, size_t results, uint64_t *z)
{
    uint8_t mine[SHA256_SIZE], theirs[SHA256_SIZE];
    struct digest *d = NULL;
    int rc = digest_new(&d);

    if (rc == 0 && (rc = receive_results(t, s, results, d, z)) == 0 &&
        (rc = sha256_end(d->hash, mine)) == 0)
        rc = transport_recv(t, theirs, sizeof theirs);
    digest_free(d);
    return rc;
}

static void check_clean(void)
{
    assert_int_equal(VALGRIND_COUNT_ERRORS, 0);
}

/* ---- words -------------------------------------------------------------------------------- */

static int hidden_verifier(struct transport *t, void *arg)
{
    struct transport line = public_line(t);
    struct block keys[VOLE_ALPHA] = {{1, 2}};
    struct vole_verifier *v = NULL;
    vole_word *key = secret_array(WORDS, sizeof *key);
    uint64_t alpha = UINT64_C(0x80ff017f05);
    int rc = key == NULL ? ERR_NOMEM : 0;

    (void)arg;
    hide(&alpha, sizeof alpha);
    hide(keys, sizeof keys);
    if (rc == 0 && (rc = vole_verifier_new(&line, alpha, keys, &v)) == 0)
        rc = vole_take(v, &line, WORDS, key);
    vole_verifier_free(v);
    secret_free(key);
    return rc;
}

static int hidden_prover(struct transport *t, void *arg)
{
    struct transport line = public_line(t);
    struct block keys[VOLE_ALPHA][2] = {{{1, 2}}};
    struct vole_prover *p = NULL;
    struct prg *rng = NULL;
    vole_word *word = secret_array(2 * WORDS, sizeof *word);
    int rc = word == NULL ? ERR_NOMEM : hide_stream(&rng);

    (void)arg;
    hide(keys, sizeof keys);
    if (rc == 0)
        hide(word, WORDS * sizeof *word);
    if (rc == 0 && (rc = vole_prover_new(&line, rng, keys, &p)) == 0)
        rc = vole_give(p, &line, WORDS, word, word + WORDS);
    vole_prover_free(p);
    prg_free(rng);
    secret_free(word);
    return rc;
}

static void test_words(void **state)
{
    struct pair_half half[2] = {{.run = hidden_verifier}, {.run = hidden_prover}};

    (void)state;
    pair_run(half);
    assert_int_equal(half[0].rc, 0);
    assert_int_equal(half[1].rc, 0);
    check_clean();
}

/* ---- a tagged batch ----------------------------------------------------------------------- */

struct hidden {
    struct relu_batch b;
    int is_client;
};

/* Operands are secret offline, and from then on all that is left of that phase. */
static int run_hidden(const struct hidden *h, struct transport *line, struct relu_party *party,
                      uint64_t *first, uint64_t *second, struct tape *state)
{
    const size_t bytes = relu_gc.state_size(&h->b, h->is_client);

    if (h->is_client) {
        TRY(relu_gc.offline_client(party, &h->b, first, second, state));
        hide(tape_bytes(state), bytes);
        return relu_gc.online_client(line, &h->b, state, 0);
    }
    TRY(relu_gc.offline_server(party, &h->b, state));
    hide(tape_bytes(state), bytes);
    return relu_gc.online_server(line, &h->b, state, 0, first, second);
}

static int hidden_half(struct transport *t, void *arg)
{
    static const struct relu_ways ways = {.tagged = true};
    const struct hidden *h = arg;
    const size_t bytes = (size_t)h->b.n * (size_t)h->b.payloads * sizeof(uint64_t);
    uint64_t *first = secret_array(bytes, 1), *second = secret_array(bytes, 1);
    struct transport line = public_line(t);
    struct relu_party *party = NULL;
    struct tape *state = NULL;
    struct prg *rng = NULL;
    int rc = first != NULL && second != NULL ? prg_new_random(&rng) : ERR_NOMEM;

    if (rc == 0 && (rc = tape_memory(relu_gc.state_size(&h->b, h->is_client), &state)) == 0 &&
        (rc = relu_gc.open(h->is_client, (const uint8_t[HASH_SID]){1}, &ways, &line, rng,
                           &party)) == 0) {
        hide(first, bytes);
        hide(second, bytes);
        rc = run_hidden(h, &line, party, first, second, state);
    }
    relu_gc.close(party);
    prg_free(rng);
    secret_free(first);
    secret_free(second);
    tape_free(state);
    return rc;
}

static void test_tagged_batches(void **state)
{
    (void)state;
    for (int payloads = 1; payloads <= 2; payloads++) {
        struct hidden h[2] = {{.b = {.n = N, .width = WIDTH, .payloads = payloads, .tweak = 3}}};
        struct pair_half half[2] = {{.run = hidden_half, .arg = &h[0]},
                                    {.run = hidden_half, .arg = &h[1]}};

        h[0].b.tagged = true;
        h[1] = h[0];
        h[1].is_client = 1;
        pair_run(half);
        assert_int_equal(half[0].rc, 0);
        assert_int_equal(half[1].rc, 0);
        check_clean();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_tagged_batches),
    };

    return cmocka_run_group_tests_name("ctime of tags", tests, NULL, NULL);
}
