/*
 * Batches of images in one pass, and the lanes they travel in (net/lanes.h): the results of one by one, both
 * backends, fresh and with bundles, in the messages of a single image; random networks over sockets.
 */
#include "runtime/party/party.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/graph/rng.h"
#include "runtime/net/lanes.h"
#include "runtime/net/tcp.h"
#include "tests/pair.h"
#include "tests/plan_sample.h"
#include "tests/two_parties.h"

/* ---- lanes -------------------------------------------------------------------------------- */

#define LANES 7
#define TURNS 5

struct talk {
    bool client;
    int64_t fails; /* the lane that fails; -1: none */
    bool stream;
    uint32_t heard[LANES][TURNS];
};

/* Words there and back; a message of a lane has two pieces. */
static int chat(void *arg, int64_t lane, struct transport *t)
{
    struct talk *k = arg;

    for (uint32_t i = 0; i < TURNS; i++) {
        uint32_t out[2] = {(uint32_t)lane * 100 + i + (k->client ? 50 : 0), 7}, in[2];
        if (lane == k->fails && i == 2)
            return ERR_NUMERIC;
        for (int turn = 0; turn < 2; turn++)
            for (int piece = 0; piece < 2; piece++)
                if ((turn == 0) == k->client)
                    TRY(transport_send(t, &out[piece], sizeof *out));
                else
                    TRY(transport_recv(t, &in[piece], sizeof *in));
        k->heard[lane][i] = in[0];
    }
    return 0;
}

static int talk(struct transport *t, void *arg)
{
    const struct talk *k = arg;

    return lanes_run(t, LANES, k->stream, chat, arg);
}

static void check_lanes(bool stream)
{
    struct talk side[2] = {{.fails = -1, .stream = stream},
                           {.client = true, .fails = -1, .stream = stream}};
    struct pair_half half[2] = {{.run = talk, .arg = &side[0]}, {.run = talk, .arg = &side[1]}};

    pair_run(half);
    for (int who = 0; who < 2; who++) {
        assert_int_equal(half[who].rc, 0);
        assert_int_equal(half[who].count.flips, 2 * TURNS - 1);
        for (uint32_t lane = 0; lane < LANES; lane++)
            for (uint32_t i = 0; i < TURNS; i++)
                assert_int_equal(side[who].heard[lane][i], lane * 100 + i + (who ? 0 : 50));
    }
    for (int64_t lane = 0; lane < LANES; lane += 3) { /* one failure ends all, on both sides */
        side[1].fails = lane;
        pair_run(half);
        assert_int_equal(half[1].rc, ERR_NUMERIC);
        assert_true(half[0].rc < 0);
    }
}

static void test_lanes(void **state)
{
    (void)state;
    check_lanes(false);
    check_lanes(true);
}

/* In a stream the first lane has its answer before the last one has spoken. */
static int converse(void *arg, int64_t lane, struct transport *t)
{
    const bool *client = arg;
    uint8_t byte = (uint8_t)lane;

    if (!*client) {
        TRY(transport_send(t, &byte, 1));
        return transport_recv(t, &byte, 1);
    }
    TRY(transport_recv(t, &byte, 1));
    TRY(transport_send(t, &byte, 1));
    return lane == 0 ? transport_flush(t) : 0;
}

/* A transport that notes where it went which way. */
struct watched {
    struct transport inner;
    char path[4 * LANES + 1];
    size_t n;
};

static int watched_send(void *ctx, const void *bytes, size_t n)
{
    struct watched *w = ctx;

    w->path[w->n++] = 's';
    return transport_send(&w->inner, bytes, n);
}

static int watched_recv(void *ctx, void *bytes, size_t n)
{
    struct watched *w = ctx;

    w->path[w->n++] = 'r';
    return transport_recv(&w->inner, bytes, n);
}

static int watched_flush(void *ctx)
{
    return transport_flush(&((struct watched *)ctx)->inner);
}

static int stream_of(struct transport *t, void *arg)
{
    bool client = arg != NULL;
    struct watched w = {.inner = *t};
    struct transport outer = {
        .send = watched_send, .recv = watched_recv, .flush = watched_flush, .ctx = &w};
    int rc = lanes_run(&outer, 3, true, converse, &client);

    *t = w.inner;
    if (rc == 0 && strcmp(w.path, client ? "rsrsrs" : "sssrrr") != 0)
        return ERR_VERIFY;
    return rc == 0 && outer.count.flips != 1 ? ERR_VERIFY : rc;
}

static void test_a_stream_answers_at_once(void **state)
{
    int client;
    struct pair_half half[2] = {{.run = stream_of}, {.run = stream_of, .arg = &client}};

    (void)state;
    pair_run(half);
    assert_int_equal(half[0].rc, 0);
    assert_int_equal(half[1].rc, 0);
}

/* ---- both parties ------------------------------------------------------------------------- */

struct session {
    struct parties b;
    struct served server;
    struct party_options o;
    struct transport t;
    struct tcp_listener *listener;
    struct party *p;
};

/* Over sockets of this machine. */
static void connect(struct session *s)
{
    struct tcp_address at;
    struct tcp *client = NULL, *server = NULL;

    assert_int_equal(tcp_address_parse("127.0.0.1:0", &at), 0);
    if (s->listener == NULL)
        assert_int_equal(tcp_listen(&at, &s->listener), 0);
    snprintf(at.port, sizeof at.port, "%d", tcp_listener_port(s->listener));
    assert_int_equal(tcp_connect(&at, 600, &client), 0);
    assert_int_equal(tcp_accept(s->listener, 600, NULL, NULL, &server), 0);
    tcp_transport(client, &s->t);
    tcp_transport(server, &s->server.t);
    served_start(&s->server);
    s->p = NULL;
    assert_int_equal(party_open(&s->o, &s->t, &s->p), 0);
}

static void hang_up(struct session *s)
{
    party_close(s->p);
    transport_close(&s->t);
    served_join(&s->server);
    if (s->server.rc != 0)
        fail_msg("server: %s", s->server.message);
}

static uint64_t online_flips(const struct party *p)
{
    return party_account(p)->phase[PHASE_ONLINE].flips;
}

static void close_session(struct session *s)
{
    tcp_listener_close(s->listener);
    parties_close(&s->b);
}

/* ---- the sample --------------------------------------------------------------------------- */

static void ask(struct session *s, int first, int images, bool label,
                int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES])
{
    uint64_t x[PARTIES_IMAGES * PARTIES_INPUTS] = {0}, y[PARTIES_IMAGES * PARTIES_CLASSES];
    float real[PARTIES_INPUTS];

    for (int i = 0; i < images; i++)
        parties_image(first + i, real, x + i * PARTIES_INPUTS);
    assert_int_equal(party_query_batch(s->p, images, x, y), 0);
    for (int i = 0; i < images; i++)
        if (label)
            assert_int_equal(y[i], expected[first + i][0]);
        else
            assert_memory_equal(y + i * PARTIES_CLASSES, expected[first + i],
                                PARTIES_CLASSES * sizeof *y);
}

static int64_t one_label(struct session *s, int image)
{
    uint64_t x[PARTIES_INPUTS], y[PARTIES_CLASSES];
    float real[PARTIES_INPUTS];

    parties_image(image, real, x);
    assert_int_equal(party_query(s->p, x, y), 0);
    return (int64_t)y[0];
}

static void check_sample(const struct relu_backend *relu, bool label)
{
    int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES];
    struct session s = {.listener = NULL};
    uint64_t flips;

    parties_open(&s.b, 8, 0, 3);
    parties_expect(&s.b, expected);
    s.server.o = parties_options(&s.b, relu, false);
    s.server.o.label = label;
    s.o = parties_options(&s.b, NULL, true);
    if (label) { /* those of one by one */
        connect(&s);
        for (int i = 0; i < PARTIES_IMAGES; i++)
            expected[i][0] = one_label(&s, i);
        hang_up(&s);
    }
    connect(&s); /* fresh: 1, 4 and 1 */
    ask(&s, 0, 1, label, expected);
    flips = online_flips(s.p);
    ask(&s, 1, 4, label, expected);
    assert_int_equal(online_flips(s.p), 2 * flips);
    ask(&s, 5, 1, label, expected);
    assert_int_equal(party_account(s.p)->queries, 6);
    hang_up(&s);
    s.o.bundles = s.b.bundles_client;
    s.server.o.bundles = s.b.bundles_server;
    connect(&s); /* bundles of two lots: 5 and 1 */
    assert_int_equal(party_prepare(s.p, 4), 0);
    assert_int_equal(party_prepare(s.p, 2), 0);
    ask(&s, 0, 5, label, expected);
    assert_in_range(online_flips(s.p), flips - 1, flips + 1); /* who spoke last before it */
    ask(&s, 5, 1, label, expected);
    hang_up(&s);
    close_session(&s);
}

static void test_batches(void **state)
{
    (void)state;
    check_sample(&relu_gc, false);
    check_sample(&relu_ot, false);
}

static void test_batches_with_labels(void **state)
{
    (void)state;
    check_sample(&relu_gc, true);
    check_sample(&relu_ot, true);
}

/* More images than there are bundles: those that are there stay. */
static void test_too_few_bundles(void **state)
{
    struct session s = {.listener = NULL};
    uint64_t x[3 * PARTIES_INPUTS] = {0}, y[3 * PARTIES_CLASSES];
    int64_t n;

    (void)state;
    parties_open(&s.b, 8, 0, 3);
    s.server.o = parties_options(&s.b, &relu_gc, false);
    s.o = parties_options(&s.b, NULL, true);
    s.o.bundles = s.b.bundles_client;
    s.server.o.bundles = s.b.bundles_server;
    connect(&s);
    assert_int_equal(party_prepare(s.p, 2), 0);
    assert_int_equal(party_query_batch(s.p, 3, x, y), ERR_DATA);
    assert_int_equal(bundle_count(s.b.bundles_client, true, &n), 0);
    assert_int_equal(n, 2);
    party_close(s.p);
    transport_close(&s.t);
    served_join(&s.server);
    connect(&s);
    assert_int_equal(party_query_batch(s.p, 0, x, y), ERR_ARG);
    party_close(s.p);
    transport_close(&s.t);
    served_join(&s.server);
    connect(&s);
    assert_int_equal(party_query_batch(s.p, 2, x, y), 0);
    hang_up(&s);
    close_session(&s);
}

/* ---- random networks ---------------------------------------------------------------------- */

#define NETS 5
#define IMAGES 3

static int32_t below(struct rng *r, int32_t n)
{
    return (int32_t)rng_below(r, (uint32_t)n);
}

/* A convolution with odd strides, pads, dilation and groups on tensor id; its output becomes the next. */
static void add_conv(struct plan *p, struct rng *r, int32_t id)
{
    struct plan_step *s = &p->step[p->n_step++];
    const int64_t *in = p->tensor[id].dim;
    int64_t group = in[0] % 2 == 0 && below(r, 2) ? (below(r, 2) ? in[0] : 2) : 1;
    int64_t out[3] = {group * (1 + below(r, 3)), 0, 0};

    *s = (struct plan_step){
        .kind = PLAN_CONV, .name = "conv", .in = {id}, .n_in = 1, .out = id + 1, .shift = 12};
    s->u.linear.group = group;
    s->u.linear.weight_scale = 12;
    for (int k = 0; k < 2; k++) {
        struct plan_linear *l = &s->u.linear;
        l->kernel[k] = 1 + below(r, 4);
        l->stride[k] = 1 + below(r, 3);
        l->dilation[k] = 1 + below(r, 2);
        if (l->dilation[k] * (l->kernel[k] - 1) + 1 > in[k + 1])
            l->kernel[k] = l->dilation[k] = 1;
        int64_t window = l->dilation[k] * (l->kernel[k] - 1) + 1;
        l->pad[k] = below(r, window < 3 ? (int32_t)window : 3);
        l->pad[k + 2] = below(r, window < 3 ? (int32_t)window : 3);
        int64_t room = in[k + 1] + l->pad[k] + l->pad[k + 2] - window;
        out[k + 1] = room / l->stride[k] + 1;
    }
    plan_sample_tensor(p, id + 1, 3, out[0], out[1], out[2], 12, 5);
}

static void add_relu(struct plan *p, struct rng *r, int32_t id)
{
    struct plan_step *s = &p->step[p->n_step++];
    int64_t total = p->tensor[id].count, kept = 0;
    uint32_t *index = arena_array(p->arena, (size_t)total, sizeof *index);

    assert_non_null(index);
    for (int64_t i = 0; i < total; i++)
        if (below(r, 3) == 0)
            index[kept++] = (uint32_t)i;
    *s =
        (struct plan_step){.kind = PLAN_RELU, .name = "relu", .in = {id}, .n_in = 1, .out = id + 1};
    s->u.relu = (struct plan_relu){.total = total, .kept = kept, .index = index, .width = 25};
    p->tensor[id + 1] = p->tensor[id];
}

static struct plan *random_plan(uint64_t seed)
{
    struct rng r = rng_at(seed, RNG_TEST, 1, 0);
    struct plan *p = NULL;
    int32_t id = 0;

    assert_int_equal(plan_new(&p), 0);
    p->tensor = arena_array(p->arena, 16, sizeof *p->tensor);
    p->step = arena_array(p->arena, 16, sizeof *p->step);
    assert_true(p->tensor != NULL && p->step != NULL);
    plan_sample_tensor(p, 0, 3, 2, 7 + below(&r, 4), 7 + below(&r, 4), 12, 2);
    for (int i = 0; i < 3; i++) {
        add_conv(p, &r, id++);
        add_relu(p, &r, id++);
    }
    p->step[p->n_step++] = (struct plan_step){
        .kind = PLAN_FLATTEN, .name = "flatten", .in = {id}, .n_in = 1, .out = id + 1};
    plan_sample_tensor(p, id + 1, 1, p->tensor[id].count, 1, 1, 12, 5);
    id++;
    p->step[p->n_step] = (struct plan_step){
        .kind = PLAN_GEMM, .name = "gemm", .in = {id}, .n_in = 1, .out = id + 1, .shift = 12};
    p->step[p->n_step++].u.linear =
        (struct plan_linear){{1, 1}, {1, 1}, {0, 0, 0, 0}, {1, 1}, 1, 12};
    plan_sample_tensor(p, id + 1, 1, 4, 1, 1, 12, 6);
    p->n_tensor = id + 2;
    p->scale = 12;
    p->input.std[0] = p->input.std[1] = 1;
    p->input.high = 255;
    p->input.name = "image";
    p->input.normalize = "none";
    p->model_id = "0123456789abcdef";
    p->producer = "test";
    plan_complete(p);
    if (plan_check(p) < 0)
        fail_msg("%s", err_message());
    return p;
}

/* ring-LWE, both backends: bit for bit what sim2pc says with that backend's own errors, one by one and all
 * in a lot and one pass. */
static void check_random(uint64_t seed, const struct relu_backend *relu, bool batch)
{
    struct session s = {.listener = NULL};
    struct rng r = rng_at(seed, RNG_TEST, 2, 0);

    parties_open_plan(&s.b, random_plan(seed), 0, seed);
    pi_simulate(s.b.sim, PARTIES_SEED, &linear_rlwe, batch ? IMAGES : 1);
    const int64_t n = s.b.plan->tensor[0].count, k = 4;
    float *real = mem_array((size_t)(IMAGES * n), sizeof *real);
    uint64_t *x = mem_array((size_t)(IMAGES * n), sizeof *x), y[IMAGES * 4];
    int64_t expected[IMAGES * 4];

    assert_true(real != NULL && x != NULL);
    for (int64_t i = 0; i < IMAGES * n; i++) {
        int32_t v = below(&r, 8192) - 4096;
        real[i] = (float)v / 4096;
        x[i] = (uint64_t)(int64_t)v;
    }
    assert_int_equal(pi_run_fixed(s.b.sim, PI_NORMALIZED, real, IMAGES, expected), 0);
    s.server.o = parties_options(&s.b, relu, false);
    s.o = parties_options(&s.b, NULL, true);
    s.o.linear = s.server.o.linear = &linear_rlwe;
    connect(&s);
    if (batch)
        assert_int_equal(party_query_batch(s.p, IMAGES, x, y), 0);
    for (int i = 0; i < IMAGES && !batch; i++)
        assert_int_equal(party_query(s.p, x + i * n, y + i * k), 0);
    hang_up(&s);
    assert_memory_equal(y, expected, sizeof y);
    mem_free(real);
    mem_free(x);
    close_session(&s);
}

static void test_random_networks(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= NETS; seed++)
        for (int batch = 0; batch < 2; batch++) {
            check_random(seed, &relu_gc, batch == 1);
            check_random(seed, &relu_ot, batch == 1);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lanes),           cmocka_unit_test(test_a_stream_answers_at_once),
        cmocka_unit_test(test_batches),         cmocka_unit_test(test_batches_with_labels),
        cmocka_unit_test(test_too_few_bundles), cmocka_unit_test(test_random_networks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
