/*
 * What goes over the wire under fixed seeds: bytes and SHA-256 of each direction, for every primitive and
 * for whole queries, against tests/vec/wire.txt. A line that changes is a change of the protocol, or a
 * random number that is drawn elsewhere. Threads and the CPU's paths must change none: each case runs
 * with both. Where buffers end inside a direction is not seen, on purpose: only its bytes count.
 *
 * LINNET_WIRE=FILE writes the lines instead of comparing them. The id of a request is always random and counts
 * as zeros.
 */
#include "tests/two_parties.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/cpu.h"
#include "core/base/sha256.h"
#include "runtime/crypto/baseot.h"
#include "runtime/crypto/cot.h"
#include "runtime/linear/rlwe_party.h"
#include "runtime/ring/bits.h"
#include "tests/relu_pair.h"

#define VECTORS "tests/vec/wire.txt"
enum { LINES = 64, TEXT = 160 };

/* ---- lines -------------------------------------------------------------------------------- */

static char line[LINES][TEXT];
static int lines;

static void add_line(const char *name, const char *from, uint64_t bytes,
                     const uint8_t digest[SHA256_SIZE])
{
    char hex[SHA256_HEX];

    assert_true(lines < LINES);
    snprintf(line[lines++], TEXT, "%s %s %llu %s\n", name, from, (unsigned long long)bytes,
             sha256_hex(digest, hex));
}

/* A transport that hashes what this end sends. */
struct tap {
    struct transport inner;
    struct sha256 *h;
    uint64_t sent;
    bool requests; /* the ids of 32-byte messages count as zeros */
};

static int tap_send(void *ctx, const void *bytes, size_t n)
{
    struct tap *t = ctx;
    uint8_t copy[32];

    if (t->requests && n == sizeof copy) {
        memcpy(copy, bytes, n);
        memset(copy + 16, 0, 16);
        TRY(sha256_add(t->h, copy, n));
    } else {
        TRY(sha256_add(t->h, bytes, n));
    }
    t->sent += n;
    return transport_send(&t->inner, bytes, n);
}

static int tap_recv(void *ctx, void *bytes, size_t n)
{
    return transport_recv(&((struct tap *)ctx)->inner, bytes, n);
}

static int tap_flush(void *ctx)
{
    return transport_flush(&((struct tap *)ctx)->inner);
}

static void tap_close(void *ctx)
{
    transport_close(&((struct tap *)ctx)->inner);
}

static void tap_open(struct tap *t, struct transport *line_)
{
    *t = (struct tap){.inner = *line_};
    assert_int_equal(sha256_new(&t->h), 0);
    *line_ = (struct transport){tap_send, tap_recv, tap_flush, tap_close, NULL, t, {0}, 0, 0};
}

static void tap_end(struct tap *t, const char *name, const char *from)
{
    uint8_t digest[SHA256_SIZE];

    assert_int_equal(sha256_end(t->h, digest), 0);
    add_line(name, from, t->sent, digest);
    sha256_free(t->h);
}

/* One half of a primitive, behind a tap. */
struct half {
    int (*run)(struct transport *t, void *arg, struct prg *rng);
    void *arg;
    uint8_t seed;
    struct tap tap;
};

static int run_half(struct transport *t, void *arg)
{
    struct half *h = arg;
    uint8_t seed[PRG_SEED] = {h->seed, 12};
    struct transport tapped = *t;
    struct prg *rng = NULL;
    int rc;

    tap_open(&h->tap, &tapped);
    if ((rc = prg_new(seed, &rng)) == 0 && (rc = h->run(&tapped, h->arg, rng)) == 0)
        rc = transport_flush(&tapped);
    prg_free(rng);
    *t = h->tap.inner;
    return rc;
}

/* first and second: who speaks, as the lines name them. */
static void run_primitive(const char *name, const char *const who[2],
                          int (*const run[2])(struct transport *, void *, struct prg *), void *arg)
{
    struct half h[2] = {{.run = run[0], .arg = arg, .seed = 1},
                        {.run = run[1], .arg = arg, .seed = 2}};
    struct pair_half half[2] = {{.run = run_half, .arg = &h[0]}, {.run = run_half, .arg = &h[1]}};

    pair_run(half);
    assert_int_equal(half[0].rc, 0);
    assert_int_equal(half[1].rc, 0);
    for (int i = 0; i < 2; i++)
        tap_end(&h[i].tap, name, who[i]);
}

/* ---- oblivious transfers ------------------------------------------------------------------ */

enum { BASE = 40, ROWS = 40000 };
static const char *const ends[2] = {"sender", "receiver"};

static int base_send(struct transport *t, void *arg, struct prg *rng)
{
    uint8_t keys[BASE][2][BASEOT_KEY];

    (void)arg;
    return baseot_send(t, rng, BASE, keys);
}

static int base_receive(struct transport *t, void *arg, struct prg *rng)
{
    uint8_t keys[BASE][BASEOT_KEY], choice[BASE];

    (void)arg;
    for (int i = 0; i < BASE; i++)
        choice[i] = i % 3 == 0;
    return baseot_receive(t, rng, BASE, choice, keys);
}

struct transfers {
    const struct ferret_set *set;
    int chosen;
};
static const struct ferret_id id = {{5}, 1};

static int rows_send(struct transport *t, void *arg, struct prg *rng)
{
    const struct transfers *x = arg;
    struct block *q = secret_array(ROWS, sizeof *q);
    struct otext_sender *s = NULL;
    struct cot_sender c = {0};
    int rc = q == NULL ? ERR_NOMEM : otext_sender_new(t, rng, &s);

    if (rc == 0 && (rc = cot_sender_open(&c, s, x->set, &id, rng)) == 0 &&
        (rc = cot_send(&c, t, ROWS, x->chosen, q)) == 0)
        rc = cot_verify(&c, t);
    cot_sender_close(&c);
    otext_sender_free(s);
    secret_free(q);
    return rc;
}

static int rows_receive(struct transport *t, void *arg, struct prg *rng)
{
    const struct transfers *x = arg;
    struct block *rows = secret_array(ROWS, sizeof *rows);
    uint64_t *bits = secret_array(bits_words(ROWS), sizeof *bits);
    struct otext_receiver *r = NULL;
    struct cot_receiver c = {0};
    int rc = rows == NULL || bits == NULL ? ERR_NOMEM : otext_receiver_new(t, rng, &r);

    if (rc == 0 && (rc = cot_receiver_open(&c, r, x->set, &id)) == 0) {
        bits[3] = 0x123456789abcdef;
        rc = x->chosen ? cot_receive_chosen(&c, t, ROWS, bits, rows)
                       : cot_receive_random(&c, t, ROWS, bits, rows);
    }
    if (rc == 0)
        rc = cot_prove(&c, t);
    cot_receiver_close(&c);
    otext_receiver_free(r);
    secret_free(rows);
    secret_free(bits);
    return rc;
}

static void transfers(void)
{
    static int (*const base[2])(struct transport *, void *, struct prg *) = {base_send,
                                                                             base_receive};
    static int (*const rows[2])(struct transport *, void *, struct prg *) = {rows_send,
                                                                             rows_receive};
    struct transfers chosen = {NULL, 1}, random = {NULL, 0}, silent = {NULL, 0};

    run_primitive("base-ot", ends, base, NULL);
    run_primitive("softspoken-chosen", ends, rows, &chosen);
    run_primitive("softspoken-random", ends, rows, &random);
    silent.set = ferret_set(0);
    run_primitive("ferret-b10", ends, rows, &silent);
}

/* ---- ReLUs -------------------------------------------------------------------------------- */

static struct tap relu_tap[2];
static int (*relu_run)(struct transport *t, void *arg);

static int run_relu(struct transport *t, void *arg)
{
    struct relu_pair_party *me = arg;
    struct transport tapped = *t;
    int rc;

    tap_open(&relu_tap[me->is_client], &tapped);
    rc = relu_run(&tapped, arg);
    *t = relu_tap[me->is_client].inner;
    return rc;
}

static void relu_phase(struct relu_pair *p, const char *backend, const char *phase)
{
    char name[32];

    struct pair_half *half = p->half;

    relu_run = half[0].run;
    half[0].run = half[1].run = run_relu;
    pair_run(half);
    assert_int_equal(half[0].rc, 0);
    assert_int_equal(half[1].rc, 0);
    snprintf(name, sizeof name, "%s-%s", backend, phase);
    tap_end(&relu_tap[0], name, "server");
    tap_end(&relu_tap[1], name, "client");
}

static void relus_of(const struct relu_backend *k, const char *name, const struct relu_form *form,
                     const struct relu_ways *ways)
{
    struct relu_batch batch[] = {{.n = 2100, .width = 21, .payloads = 1, .tweak = 1},
                                 {.n = 77, .width = 33, .payloads = 2, .tweak = 2}};
    struct relu_pair p;

    if (form != NULL)
        batch[0].form = *form;
    relu_pair_open(&p, k, 11, form == NULL ? 2 : 1, batch);
    p.ways = *ways;
    relu_pair_offline(&p);
    relu_phase(&p, name, "offline");
    relu_pair_online(&p);
    relu_phase(&p, name, "online");
    relu_pair_check(&p);
    relu_pair_close(&p);
}

static void relus(void)
{
    static const struct relu_form shot = {
        .one_shot = 1, .silent_down = 1, .digits = 5, .bits = {5, 4, 4, 4, 3}};
    static const struct relu_ways extension;
    const struct relu_ways down = {.down = ferret_set(0)};

    relus_of(&relu_gc, "gc", NULL, &extension);
    relus_of(&relu_ot, "ot", NULL, &extension);
    relus_of(&relu_ot, "ot-one-shot-silent", &shot, &down);
}

/* ---- linear steps, whole queries ---------------------------------------------------------- */

static int rlwe_server(struct transport *t, void *arg, struct prg *rng)
{
    const struct parties *b = arg;
    struct linear_party l = {0};
    uint64_t s[64] = {1, 2, 3};
    int rc = linear_rlwe_server(b->plan, b->weights, t, rng, LINEAR_RLWE_CACHE, &l);

    if (rc == 0)
        rc = l.server(l.ctx, 0, 1, s);
    if (l.close != NULL)
        l.close(l.ctx);
    return rc;
}

static int rlwe_client(struct transport *t, void *arg, struct prg *rng)
{
    const struct parties *b = arg;
    struct linear_party l = {0};
    uint64_t r[PARTIES_INPUTS] = {5, 6, 7}, u[64];
    int rc = linear_rlwe_client(b->plan, t, rng, &l);

    if (rc == 0)
        rc = l.client(l.ctx, 0, 1, r, u);
    if (l.close != NULL)
        l.close(l.ctx);
    return rc;
}

/* Two queries of one connection. */
static void query(struct parties *b, const struct relu_backend *k, bool label, const char *name)
{
    struct served server = {.o = parties_options(b, k, false)};
    struct party_options o = parties_options(b, k, true);
    struct transport t;
    struct tap tap[2];
    struct party *p = NULL;

    server.o.linear = o.linear = &linear_rlwe;
    server.o.label = label;
    assert_int_equal(transport_pair(&t, &server.t), 0);
    tap_open(&tap[0], &server.t);
    tap_open(&tap[1], &t);
    tap[1].requests = true;
    served_start(&server);
    assert_int_equal(party_open(&o, &t, &p), 0);
    for (int i = 0; i < 2; i++) {
        float image[PARTIES_INPUTS];
        uint64_t x[PARTIES_INPUTS], y[PARTIES_CLASSES];

        parties_image(i, image, x);
        assert_int_equal(party_query(p, x, y), 0);
    }
    party_close(p);
    transport_close(&t);
    served_join(&server);
    assert_int_equal(server.rc, 0);
    tap_end(&tap[0], name, "server");
    tap_end(&tap[1], name, "client");
}

static void queries(void)
{
    static const char *const who[2] = {"server", "client"};
    static int (*const rlwe[2])(struct transport *, void *, struct prg *) = {rlwe_server,
                                                                             rlwe_client};
    struct parties b;

    parties_open(&b, 16, 0, 3);
    run_primitive("rlwe-step", who, rlwe, &b);
    query(&b, &relu_gc, false, "query-gc-logits");
    query(&b, &relu_ot, false, "query-ot-logits");
    query(&b, &relu_ot, true, "query-ot-label");
    parties_close(&b);
}

/* ---- the file ----------------------------------------------------------------------------- */

static void all_lines(void)
{
    lines = 0;
    transfers();
    relus();
    queries();
}

static void compare_lines(const char *what)
{
    FILE *f = fopen(VECTORS, "r");
    char want[TEXT];
    int i = 0;

    assert_non_null(f);
    while (fgets(want, sizeof want, f) != NULL) {
        if (want[0] == '#')
            continue;
        if (i >= lines || strcmp(want, line[i]) != 0)
            fail_msg("%s: the file has %s, this is %s", what, want,
                     i < lines ? line[i] : "nothing\n");
        i++;
    }
    fclose(f);
    assert_int_equal(i, lines);
}

static void test_the_wire_is_as_it_was(void **state)
{
    const char *out = getenv("LINNET_WIRE");

    (void)state;
    cpu_set_threads(1);
    all_lines();
    if (out != NULL) {
        FILE *f = fopen(out, "w");

        assert_non_null(f);
        fputs(
            "# What goes over the wire under fixed seeds (tests/runtime/test_wire_trace.c): case, sender, bytes, SHA-256.\n",
            f);
        for (int i = 0; i < lines; i++)
            fputs(line[i], f);
        assert_int_equal(fclose(f), 0);
        skip();
    }
    compare_lines("one thread");
    cpu_set_threads(3);
    all_lines();
    compare_lines("three threads");
    cpu_set_threads(0);
}

/* The plain paths of planes, fields and transforms. */
static void test_the_path_changes_nothing(void **state)
{
    const char *was = getenv("LINNET_CPU");

    (void)state;
    if (was != NULL)
        skip(); /* the caller has chosen */
    assert_int_equal(setenv("LINNET_CPU", "generic", 1), 0);
    all_lines();
    compare_lines("generic path");
    assert_int_equal(setenv("LINNET_CPU", "avx2", 1), 0);
    all_lines();
    compare_lines("avx2 path");
    assert_int_equal(unsetenv("LINNET_CPU"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_wire_is_as_it_was),
        cmocka_unit_test(test_the_path_changes_nothing),
    };

    return cmocka_run_group_tests_name("wire_trace", tests, NULL, NULL);
}
