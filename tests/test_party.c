/*
 * Two parties over the in-memory pair against sim2pc: bit for bit, with the dealer, for logits and
 * labels, with bundles; what is counted; what is refused. Comparisons are open here (plain_relu.h);
 * tests of the real backends have their own files.
 */
#include "runtime/party.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "plain_relu.h"
#include "plan_sample.h"
#include "runtime/dealer.h"
#include "runtime/store.h"
#include "scratch.h"

#define IMAGES 6
#define INPUTS 32
#define SEED 42

struct bench {
    struct plan *plan;
    struct plan_weights *weights;
    struct pi_model *sim, *server, *client;
    uint8_t hash[32];
    char dir[SCRATCH_TEXT], dealt_client[SCRATCH_TEXT], dealt_server[SCRATCH_TEXT];
    char bundles_client[SCRATCH_TEXT], bundles_server[SCRATCH_TEXT];
};

static void bench_open(struct bench *b, int kept)
{
    b->plan = plan_sample(kept);
    b->weights = plan_sample_weights(b->plan, 3);
    assert_int_equal(pi_prepare(b->plan, b->weights, PI_SIM2PC, &b->sim), 0);
    assert_int_equal(pi_model_new(b->plan, b->weights, PI_FIXED, &b->server), 0);
    assert_int_equal(pi_model_new(b->plan, NULL, PI_FIXED, &b->client), 0);
    pi_simulate(b->sim, SEED, true);
    memset(b->hash, 0x5a, sizeof b->hash);
    scratch_open(b->dir);
    scratch_path(b->dir, "dealt-client", b->dealt_client);
    scratch_path(b->dir, "dealt-server", b->dealt_server);
    scratch_path(b->dir, "client", b->bundles_client);
    scratch_path(b->dir, "server", b->bundles_server);
    assert_int_equal(store_folder(b->bundles_client), 0);
    assert_int_equal(store_folder(b->bundles_server), 0);
    assert_int_equal(
        dealer_deal(b->plan, b->hash, IMAGES, SEED, b->dealt_client, b->dealt_server, NULL, NULL),
        0);
}

static void bench_close(struct bench *b)
{
    static const char *const folders[] = {"dealt-client", "dealt-server", "client", "server"};
    char path[SCRATCH_TEXT];

    pi_close(b->sim);
    pi_close(b->server);
    pi_close(b->client);
    plan_weights_free(b->weights);
    plan_free(b->plan);
    for (int i = 0; i < 4; i++)
        scratch_close(scratch_path(b->dir, folders[i], path));
    scratch_close(b->dir);
    assert_int_equal(secret_alive(), 0);
}

static struct party_options options_of(const struct bench *b, bool client)
{
    return (struct party_options){.model = client ? b->client : b->server,
                                  .hash = {0},
                                  .client = client,
                                  .known = {NULL, &plain_relu, NULL},
                                  .dealer = client ? b->dealt_client : b->dealt_server,
                                  .test_seed = SEED,
                                  .backend = &plain_relu};
}

/* ---- the server, in a thread -------------------------------------------------------------- */

struct served {
    struct party_options o;
    struct transport t;
    int rc;
    struct cost_count phase[PHASES];
    char message[256];
};

static void *serve(void *arg)
{
    struct served *s = arg;
    struct party *p = NULL;

    if ((s->rc = party_open(&s->o, &s->t, &p)) == 0) {
        while ((s->rc = party_answer(p, NULL, NULL)) > 0)
            ;
        memcpy(s->phase, party_account(p)->phase, sizeof s->phase);
    }
    party_close(p);
    transport_close(&s->t);
    snprintf(s->message, sizeof s->message, "%s", s->rc < 0 ? err_message() : "");
    return NULL;
}

struct session {
    struct served server;
    struct party_options o;
    struct transport t;
    pthread_t thread;
};

static void session_start(struct session *s, const struct bench *b)
{
    memcpy(s->server.o.hash, b->hash, 32);
    memcpy(s->o.hash, b->hash, 32);
    assert_int_equal(transport_pair(&s->t, &s->server.t), 0);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, &s->server), 0);
}

static void session_end(struct session *s)
{
    transport_close(&s->t);
    pthread_join(s->thread, NULL);
}

static struct session session_of(const struct bench *b)
{
    struct session s = {.server = {.o = options_of(b, false)}, .o = options_of(b, true)};

    return s;
}

/* ---- images ------------------------------------------------------------------------------- */

static void image_of(int i, float image[INPUTS], uint64_t x[INPUTS])
{
    for (int k = 0; k < INPUTS; k++) {
        image[k] = (float)((i * 37 + k * 11) % 64 - 32) / 16;
        x[k] = (uint64_t)(int64_t)(image[k] * 4096);
    }
}

static void expect_all(struct bench *b, int64_t y[IMAGES][3])
{
    float image[IMAGES][INPUTS];
    uint64_t x[INPUTS];

    for (int i = 0; i < IMAGES; i++)
        image_of(i, image[i], x);
    assert_int_equal(pi_run_fixed(b->sim, PI_NORMALIZED, image, IMAGES, *y), 0);
}

static int best(const int64_t *y)
{
    int top = 0;

    for (int i = 1; i < 3; i++)
        top = y[i] > y[top] ? i : top;
    return top;
}

static void ask_all(struct party *p, int first, int64_t expected[IMAGES][3], bool label)
{
    for (int i = first; i < IMAGES; i++) {
        float image[INPUTS];
        uint64_t x[INPUTS], y[3];
        image_of(i, image, x);
        assert_int_equal(party_query(p, x, y), 0);
        if (label)
            assert_int_equal(y[0], best(expected[i]));
        else
            assert_memory_equal(y, expected[i], sizeof y);
    }
}

/* ---- tests -------------------------------------------------------------------------------- */

static void check_run(int kept, bool label)
{
    struct bench b;
    int64_t expected[IMAGES][3];
    struct session s;
    struct party *p = NULL;

    bench_open(&b, kept);
    expect_all(&b, expected);
    s = session_of(&b);
    s.server.o.label = label;
    session_start(&s, &b);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    ask_all(p, 0, expected, label);
    party_close(p);
    session_end(&s);
    assert_int_equal(s.server.rc, 0);
    bench_close(&b);
}

static void test_network_run_equals_simulation(void **state)
{
    (void)state;
    check_run(64, false);
    check_run(1, false);
}

static void test_label_is_the_argmax(void **state)
{
    (void)state;
    check_run(16, true);
}

static void test_counters_follow_from_the_plan(void **state)
{
    struct bench b;
    struct session s;
    struct party *p = NULL;
    uint64_t x[INPUTS] = {0}, y[3], up = 8 * INPUTS, down = 8 * 3;
    const struct account *a;

    (void)state;
    bench_open(&b, 16);
    s = session_of(&b);
    session_start(&s, &b);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_query(p, x, y), 0);
    a = party_account(p);
    for (int32_t i = 0; i < party_schedule(p)->n; i++) {
        const struct event *e = &party_schedule(p)->event[i];
        uint64_t claim = i == 0 ? 8 : 0;
        if (e->kind == EVENT_LINEAR) {
            assert_int_equal(a->online[i].sent + a->online[i].received + a->online[i].flips, 0);
            assert_int_equal(a->offline[i].sent, 8 * (uint64_t)e->inputs + claim);
            assert_int_equal(a->offline[i].received, claim);
        } else {
            assert_int_equal(a->online[i].sent, plain_relu.online_bytes(&e->batch, 1));
            assert_int_equal(a->online[i].received, plain_relu.online_bytes(&e->batch, 0));
            assert_int_equal(a->online[i].flips, 2);
            up += a->online[i].sent;
            down += a->online[i].received;
        }
    }
    assert_int_equal(a->phase[PHASE_ONLINE].sent, up);
    assert_int_equal(a->phase[PHASE_ONLINE].received, down);
    party_close(p);
    session_end(&s);
    assert_int_equal(s.server.phase[PHASE_ONLINE].sent, down);
    assert_int_equal(s.server.phase[PHASE_ONLINE].received, up);
    bench_close(&b);
}

static void test_bundles_serve_once(void **state)
{
    struct bench b;
    int64_t expected[IMAGES][3], n;
    struct session s;
    struct party *p = NULL;
    uint64_t x[INPUTS] = {0}, y[3];

    (void)state;
    bench_open(&b, 16);
    expect_all(&b, expected);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s, &b);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    for (int i = 0; i < IMAGES; i++)
        assert_int_equal(party_prepare(p), 0);
    party_close(p);
    session_end(&s);
    assert_int_equal(s.server.rc, 0);
    assert_int_equal(bundle_count(b.bundles_client, true, &n), 0);
    assert_int_equal(n, IMAGES);

    /* another connection, another process: the answers are those of the prepared shares */
    session_start(&s, &b);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    ask_all(p, 0, expected, false);
    assert_int_equal(party_query(p, x, y), ERR_DATA);
    party_close(p);
    session_end(&s);
    assert_int_equal(scratch_entries(b.bundles_client), 0);
    assert_int_equal(scratch_entries(b.bundles_server), 0);
    bench_close(&b);
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
    struct bench b;
    struct session s;
    struct party *p = NULL;
    uint64_t x[INPUTS] = {0}, y[3];
    char name[STORE_NAME], other[STORE_NAME], path[SCRATCH_TEXT], used[SCRATCH_TEXT];

    (void)state;
    bench_open(&b, 16);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s, &b);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_prepare(p), 0);
    assert_int_equal(party_prepare(p), 0);
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
    session_start(&s, &b);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_query(p, x, y), ERR_PEER);
    party_close(p);
    session_end(&s);
    assert_int_equal(store_sweep(b.bundles_server), 0);
    assert_int_equal(scratch_entries(b.bundles_server), 0);
    remove(scratch_path(b.dir, "copy", path));
    bench_close(&b);
}

static void check_refused(const char *part, void (*change)(struct session *))
{
    struct bench b;
    struct session s;
    struct party *p = NULL;

    bench_open(&b, 16);
    s = session_of(&b);
    memcpy(s.o.hash, b.hash, 32);
    assert_int_equal(transport_pair(&s.t, &s.server.t), 0);
    memcpy(s.server.o.hash, b.hash, 32);
    change(&s);
    assert_int_equal(pthread_create(&s.thread, NULL, serve, &s.server), 0);
    assert_int_equal(party_open(&s.o, &s.t, &p), ERR_PEER);
    assert_non_null(strstr(err_message(), part));
    session_end(&s);
    assert_int_equal(s.server.rc, ERR_PEER);
    assert_non_null(strstr(s.server.message, part));
    bench_close(&b);
}

static void change_hash(struct session *s)
{
    s->o.hash[5] ^= 1;
}
static void change_provider(struct session *s)
{
    s->o.dealer = NULL;
}
static void change_seed(struct session *s)
{
    s->server.o.test_seed = -1;
}

static void test_disagreement_is_named_on_both_sides(void **state)
{
    (void)state;
    check_refused("another model.pi", change_hash);
    check_refused("another provider", change_provider);
    check_refused("another setting of --test-seed", change_seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_network_run_equals_simulation),
        cmocka_unit_test(test_label_is_the_argmax),
        cmocka_unit_test(test_counters_follow_from_the_plan),
        cmocka_unit_test(test_bundles_serve_once),
        cmocka_unit_test(test_a_replayed_bundle_is_refused),
        cmocka_unit_test(test_disagreement_is_named_on_both_sides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
