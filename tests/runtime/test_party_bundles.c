/*
 * Bundles of two parties over the in-memory pair: they serve once, alone or as a lot, from memory or from files; one
 * that is given back, replayed, taken by another client, made with a seed or beyond the folder's limit is treated as
 * PROTOCOL.md says.
 */
#include "runtime/party/party.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/party_session.h"
#include "tests/plain_relu.h"
#include "tests/plan_sample.h"
#include "runtime/crypto/store.h"
#include "runtime/party/phases.h"

/* Files of the folder, without its list of ids. */
static int64_t bundles_in(const char *dir)
{
    int64_t n, lists;

    assert_int_equal(store_count(dir, STORE_LIST, "", &lists), 0);
    n = (int64_t)scratch_entries(dir);
    return n - lists;
}

static void test_bundles_serve_once(void **state)
{
    struct parties b;
    int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES], n;
    struct session s;
    struct party *p = NULL;
    uint64_t x[PARTIES_INPUTS] = {0}, y[PARTIES_CLASSES];

    (void)state;
    parties_open(&b, 16, PARTIES_IMAGES, 3);
    parties_expect(&b, expected);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    for (int i = 0; i < PARTIES_IMAGES; i++)
        assert_int_equal(party_prepare(p, 1), 0);
    party_close(p);
    session_end(&s);
    assert_int_equal(s.server.rc, 0);
    assert_int_equal(bundle_count(b.bundles_client, true, &n), 0);
    assert_int_equal(n, PARTIES_IMAGES);

    /* another connection, another process: the answers are those of the prepared shares */
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    session_ask_all(p, 0, expected, false);
    assert_int_equal(party_query(p, x, y), ERR_DATA);
    party_close(p);
    session_end(&s);
    assert_int_equal(bundles_in(b.bundles_client), 0);
    assert_int_equal(bundles_in(b.bundles_server), 0);
    parties_close(&b);
}

/* Prepared together or one by one: each image gets its own shares, so the same answers. */
static void test_a_lot_is_its_bundles(void **state)
{
    struct parties b;
    int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES], n;
    struct session s;
    struct party *p = NULL;

    (void)state;
    parties_open(&b, 16, 0, 3);
    parties_expect(&b, expected);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_prepare(p, 0), ERR_ARG);
    assert_int_equal(party_prepare(p, PARTY_LOT + 1), ERR_ARG);
    assert_int_equal(party_prepare(p, PARTIES_IMAGES - 1), 0);
    assert_int_equal(party_prepare(p, 1), 0);
    assert_int_equal(bundle_count(b.bundles_client, true, &n), 0);
    assert_int_equal(n, PARTIES_IMAGES);
    session_ask_all(p, 0, expected, false);
    party_close(p);
    session_end(&s);
    assert_int_equal(s.server.rc, 0);
    assert_int_equal(bundles_in(b.bundles_client), 0);
    assert_int_equal(bundles_in(b.bundles_server), 0);
    parties_close(&b);
}

static void change_middle(const char *dir, const char *name)
{
    char path[SCRATCH_TEXT];
    FILE *f = fopen(scratch_path(dir, name, path), "r+b");
    int byte;

    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    assert_int_equal(fseek(f, ftell(f) / 2, SEEK_SET), 0);
    byte = fgetc(f);
    assert_int_equal(fseek(f, -1, SEEK_CUR), 0);
    fputc(byte ^ 1, f);
    assert_int_equal(fclose(f), 0);
}

/* Nothing of what is prepared stays in memory, on either side: through spools, and through files that are
 * read piece by piece, in a lot and a batch. The answers are the same; and a changed byte in the middle of
 * a file is found when it is its turn. */
static void run_from_files(const struct relu_backend *relu)
{
    struct plan *plan = plan_sample(64);
    struct parties b;
    int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES];
    uint64_t x[2 * PARTIES_INPUTS], y[2 * PARTIES_CLASSES];
    float image[PARTIES_INPUTS];
    struct session s;
    struct party *p = NULL;
    char name[STORE_NAME];

    plan_sample_cap(plan, 4096); /* twice as many: more pieces of gc's file than are open at once */
    parties_open_plan(&b, plan, 0, 3);
    parties_expect(&b, expected);
    s = session_of(&b);
    s.o.relu = s.server.o.relu = relu;
    s.o.memory = s.server.o.memory = 1;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    session_ask_all(p, 0, expected, false);
    party_close(p);
    session_end(&s);
    assert_int_equal(s.server.rc, 0);

    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_prepare(p, PARTIES_IMAGES), 0);
    for (int i = 0; i < 2; i++)
        parties_image(i, image, x + (size_t)i * PARTIES_INPUTS);
    assert_int_equal(party_query_batch(p, 2, x, y), 0);
    assert_memory_equal(y, expected, sizeof y);
    session_ask_all(p, 2, expected, false);
    assert_int_equal(party_prepare(p, 1), 0);
    assert_int_equal(store_next(b.bundles_client, BUNDLE_PREFIX, BUNDLE_CLIENT, name), 1);
    change_middle(b.bundles_client, name);
    assert_int_equal(party_query(p, x, y), ERR_FORMAT);
    assert_non_null(strstr(err_message(), "damaged"));
    party_close(p);
    session_end(&s);
    assert_int_equal(bundles_in(b.bundles_client), 0);
    assert_int_equal(bundles_in(b.bundles_server), 0);
    parties_close(&b);
}

static void test_from_files(void **state)
{
    (void)state;
    run_from_files(&relu_gc);
    run_from_files(&relu_ot);
}

/* A client whose backend would wait for a file has a share of the machine's memory, within bounds. */
static void test_memory_of_bundles(void **state)
{
    const uint64_t mb = 1 << 20;

    (void)state;
    assert_int_equal(bundle_memory(&relu_gc, true, 0), BUNDLE_MEMORY); /* unknown */
    assert_int_equal(bundle_memory(&relu_gc, true, 500 * mb), BUNDLE_MEMORY);
    assert_int_equal(bundle_memory(&relu_gc, true, 2800 * mb), 700 * mb);
    assert_int_equal(bundle_memory(&relu_gc, true, 100000 * mb), BUNDLE_MEMORY_MOST);
    assert_int_equal(bundle_memory(&relu_gc, false, 100000 * mb), BUNDLE_MEMORY);
    assert_int_equal(bundle_memory(&relu_ot, true, 100000 * mb), BUNDLE_MEMORY);
}

/* One that is given back is there again, and its place in memory or in the file does not matter; a sweep of
 * another process leaves one that is claimed. */
static void test_a_claim_is_given_back(void **state)
{
    struct parties b;
    struct session s;
    struct party *p = NULL;
    struct bundle *own = NULL;
    struct schedule *schedule = NULL;
    struct bundle_key k;
    static const struct relu_ways none;
    int64_t n;

    (void)state;
    parties_open(&b, 16, 0, 3);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_prepare(p, 1), 0);
    k = party_key(p);
    assert_int_equal(schedule_new(s.o.model->plan, false, &schedule), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(bundle_new(schedule, &plain_relu, true, &none, &own), 0);
        assert_int_equal(bundle_begin(own, BUNDLE_HERE, i & 1 ? BUNDLE_MEMORY : 0, &k, b.dir), 0);
        assert_true((tape_bytes(own->tape) != NULL) == (i & 1)); /* only where there is room */
        tape_free(own->tape);
        assert_int_equal(bundle_claim(own, i & 1 ? BUNDLE_MEMORY : 0, &k, b.bundles_client), 0);
        assert_true((tape_bytes(own->tape) != NULL) == (i & 1));
        assert_int_equal(bundle_count(b.bundles_client, true, &n), 0);
        assert_int_equal(n, 0);
        assert_int_equal(store_sweep(b.bundles_client), 0);
        if (i < 2)
            assert_int_equal(bundle_unclaim(own), 0);
        bundle_free(own);
        assert_int_equal(bundle_count(b.bundles_client, true, &n), 0);
        assert_int_equal(n, i < 2);
    } /* the last one neither given back nor used: lost */
    assert_int_equal(bundles_in(b.bundles_client), 0);
    schedule_free(schedule);
    party_close(p);
    session_end(&s);
    parties_close(&b);
}

/* Room is that of the whole lot; a dealer's correlations are for one image. */
static void test_lots_that_are_refused(void **state)
{
    struct parties b;
    struct session s;
    struct party *p = NULL;

    (void)state;
    parties_open(&b, 16, 0, 3);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    s.server.o.max_bundles = 2;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_prepare(p, 3), ERR_PEER);
    assert_non_null(strstr(err_message(), "no room for another bundle"));
    party_close(p);
    session_end(&s);
    assert_int_equal(bundles_in(b.bundles_server), 0);
    parties_close(&b);

    parties_open(&b, 16, PARTIES_IMAGES, 3);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_prepare(p, 2), ERR_ARG);
    party_close(p);
    session_end(&s);
    parties_close(&b);
}

/* Whatever a client asks for, the server's folder has an end; queries make room again. */
static void test_bundles_have_a_limit(void **state)
{
    struct parties b;
    struct session s;
    struct party *p = NULL;
    uint64_t x[PARTIES_INPUTS] = {0}, y[PARTIES_CLASSES];

    (void)state;
    parties_open(&b, 16, PARTIES_IMAGES, 3);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    s.server.o.max_bundles = 2;
    for (int i = 0; i < 2; i++) { /* full, one used, full again */
        session_start(&s);
        assert_int_equal(party_open(&s.o, &s.t, &p), 0);
        while (bundles_in(b.bundles_server) < 2)
            assert_int_equal(party_prepare(p, 1), 0);
        assert_int_equal(party_prepare(p, 1), ERR_PEER);
        assert_non_null(strstr(err_message(), "no room for another bundle"));
        party_close(p);
        session_end(&s);
        assert_int_equal(s.server.rc, ERR_PEER);
        assert_non_null(strstr(s.server.message, "holds at most 2 (--max-bundles)"));
        assert_int_equal(bundles_in(b.bundles_server), 2);
        assert_int_equal(bundles_in(b.bundles_client), 2);

        session_start(&s);
        assert_int_equal(party_open(&s.o, &s.t, &p), 0);
        assert_int_equal(party_query(p, x, y), 0);
        party_close(p);
        session_end(&s);
    }
    parties_close(&b);
}

/* A client that knows the id of another one's bundle cannot replace it. */
static void test_a_taken_id_is_refused(void **state)
{
    struct parties b;
    struct session s;
    struct party *p = NULL;
    uint8_t request[32] = {2, 0, 0, 0, 1},
            answer[8]; /* prepare one, number 1, the id of the bundle that is there */
    char name[STORE_NAME], path[SCRATCH_TEXT];
    uint8_t *before, *after;
    size_t len[2];

    (void)state;
    parties_open(&b, 16, PARTIES_IMAGES, 3);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_prepare(p, 1), 0);
    assert_int_equal(store_next(b.bundles_server, "bundle-", ".server", name), 1);
    for (int i = 0; i < 16; i++) {
        unsigned byte;

        assert_int_equal(sscanf(name + 7 + 2 * i, "%2x", &byte), 1);
        request[16 + i] = (uint8_t)byte;
    }
    request[8] = 1;
    scratch_path(b.bundles_server, name, path);
    assert_int_equal(file_read(path, 1 << 20, &before, &len[0]), 0);
    assert_int_equal(transport_send(&s.t, request, sizeof request), 0);
    assert_int_equal(transport_recv(&s.t, answer, sizeof answer), 0);
    assert_int_equal(answer[0], 11);
    transport_close(&s.t);
    party_close(p);
    served_join(&s.server);
    assert_int_equal(s.server.rc, ERR_PEER);
    assert_int_equal(file_read(path, 1 << 20, &after, &len[1]), 0);
    assert_int_equal(len[0], len[1]);
    assert_memory_equal(before, after, len[0]);
    mem_free(before);
    mem_free(after);
    parties_close(&b);
}

static void copy_file(const char *from_dir, const char *from, const char *to_dir, const char *to)
{
    char a[SCRATCH_TEXT], z[SCRATCH_TEXT];
    uint8_t *bytes;
    size_t len;

    assert_int_equal(file_read(scratch_path(from_dir, from, a), 1 << 20, &bytes, &len), 0);
    scratch_write(scratch_path(to_dir, to, z), bytes, len);
    mem_free(bytes);
}

/* A client that keeps a copy of its half and plays it again is refused, and so is one whose server
 * died between claiming its half and the first byte. */
static void test_a_replayed_bundle_is_refused(void **state)
{
    struct parties b;
    struct session s;
    struct party *p = NULL;
    uint64_t x[PARTIES_INPUTS] = {0}, y[PARTIES_CLASSES];
    char name[STORE_NAME], other[STORE_NAME], path[SCRATCH_TEXT], used[SCRATCH_TEXT];

    (void)state;
    parties_open(&b, 16, PARTIES_IMAGES, 3);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_prepare(p, 1), 0);
    assert_int_equal(party_prepare(p, 1), 0);
    assert_int_equal(store_next(b.bundles_client, "bundle-", ".client", name), 1);
    copy_file(b.bundles_client, name, b.dir, "copy");
    assert_int_equal(party_query(p, x, y), 0);
    copy_file(b.dir, "copy", b.bundles_client, name);
    assert_int_equal(party_query(p, x, y), ERR_PEER);
    assert_non_null(strstr(err_message(), "used before"));
    party_close(p);
    session_end(&s);
    assert_int_equal(s.server.rc, ERR_PEER);

    assert_int_equal(store_next(b.bundles_server, "bundle-", ".server", other), 1);
    scratch_path(b.bundles_server, other, path);
    snprintf(used, sizeof used, "%.500s.used", path);
    assert_int_equal(rename(path, used), 0);
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_query(p, x, y), ERR_PEER);
    party_close(p);
    session_end(&s);
    assert_int_equal(store_sweep(b.bundles_server), 0);
    assert_int_equal(bundles_in(b.bundles_server), 0);
    remove(scratch_path(b.dir, "copy", path));
    parties_close(&b);
}

/* Shares of a test seed are known to anyone: such bundles stay with runs that have a seed. */
static void test_a_seeded_bundle_needs_a_seed(void **state)
{
    struct parties b;
    struct session s;
    struct party *p = NULL;
    uint64_t x[PARTIES_INPUTS] = {0}, y[PARTIES_CLASSES];

    (void)state;
    parties_open(&b, 16, PARTIES_IMAGES, 3);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_prepare(p, 1), 0);
    party_close(p);
    session_end(&s);
    s.o.test_seed = s.server.o.test_seed = -1;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_query(p, x, y), ERR_FORMAT);
    assert_non_null(strstr(err_message(), "--test-seed"));
    party_close(p);
    session_end(&s);
    parties_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bundles_serve_once),
        cmocka_unit_test(test_a_lot_is_its_bundles),
        cmocka_unit_test(test_from_files),
        cmocka_unit_test(test_memory_of_bundles),
        cmocka_unit_test(test_a_claim_is_given_back),
        cmocka_unit_test(test_lots_that_are_refused),
        cmocka_unit_test(test_bundles_have_a_limit),
        cmocka_unit_test(test_a_replayed_bundle_is_refused),
        cmocka_unit_test(test_a_taken_id_is_refused),
        cmocka_unit_test(test_a_seeded_bundle_needs_a_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
