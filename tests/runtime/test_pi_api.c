/* runtime/pi.h: packages, and both sides of sessions over sockets and callbacks of the caller. */
#include "runtime/pi.h"
#include "tests/plan_sample.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/scratch.h"

enum { INPUTS = 32, CLASSES = 3, SEED = 7 };

struct fixture {
    char dir[SCRATCH_TEXT], pi[SCRATCH_TEXT], weights[SCRATCH_TEXT];
    char mine[SCRATCH_TEXT], theirs[SCRATCH_TEXT];
    struct linnet_pi_package *client, *server;
};

static void open_fixture(struct fixture *f)
{
    static const char *labels[] = {"cat", "dog", "ship"};
    struct plan *p = plan_sample(16);
    struct plan_weights *w = plan_sample_weights(p, 3);

    p->label = labels;
    p->n_label = 3;
    p->branch = "clean";
    scratch_open(f->dir);
    scratch_path(f->dir, "model.pi", f->pi);
    scratch_path(f->dir, "model.pi.weights", f->weights);
    scratch_path(f->dir, "mine", f->mine);
    scratch_path(f->dir, "theirs", f->theirs);
    assert_int_equal(plan_write(p, w, f->pi, f->weights), 0);
    plan_weights_free(w);
    plan_free(p);
    assert_int_equal(linnet_pi_open(f->pi, NULL, &f->client), 0);
    assert_int_equal(linnet_pi_open(f->pi, f->weights, &f->server), 0);
}

static void close_fixture(struct fixture *f)
{
    char list[SCRATCH_TEXT];

    linnet_pi_close(f->client);
    linnet_pi_close(f->server);
    (void)remove(scratch_path(f->mine, "used-ids", list));
    (void)remove(scratch_path(f->theirs, "used-ids", list));
    (void)rmdir(f->mine);
    (void)rmdir(f->theirs);
    scratch_close(f->dir);
    assert_int_equal(secret_alive(), 0);
}

static void image_of(int i, uint8_t image[INPUTS])
{
    for (int k = 0; k < INPUTS; k++)
        image[k] = (uint8_t)(i * 37 + k * 11);
}

/* ---- a server in a thread ----------------------------------------------------------------- */

struct served {
    const struct fixture *f;
    struct linnet_pi_options *o;
    struct linnet_pi_stream stream;
    pthread_t thread;
    int rc, answered;
    char why[512];
};

static void *serve(void *arg)
{
    struct served *s = arg;
    struct linnet_pi_session *session = NULL;

    if ((s->rc = linnet_pi_server(s->f->server, s->o, &s->stream, &session)) == 0)
        while ((s->rc = linnet_pi_answer(session)) > 0)
            s->answered++;
    snprintf(s->why, sizeof s->why, "%s", linnet_pi_message());
    linnet_pi_end(session);
    return NULL;
}

static struct linnet_pi_options *options(const char *const *words)
{
    struct linnet_pi_options *o = NULL;
    char seed[16];

    snprintf(seed, sizeof seed, "%d", SEED);
    assert_int_equal(linnet_pi_options_new(&o), 0);
    assert_int_equal(linnet_pi_options_set(o, "test-seed", seed), 0);
    for (; words != NULL && *words != NULL; words += 2)
        assert_int_equal(linnet_pi_options_set(o, words[0], words[1]), 0);
    return o;
}

/* A pair of sockets whose flags must stay as they are. */
static void open_pair(int fd[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
}

static void close_pair(int fd[2])
{
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fcntl(fd[i], F_GETFL) & O_NONBLOCK, 0);
        assert_int_equal(close(fd[i]), 0); /* still the caller's */
    }
}

/* ---- one process -------------------------------------------------------------------------- */

static void test_packages(void **state)
{
    const struct linnet_pi_info *i;
    struct linnet_pi_package *p = NULL;
    struct fixture f;
    float logits[CLASSES], fixed[CLASSES];
    uint8_t image[INPUTS];

    (void)state;
    open_fixture(&f);
    i = linnet_pi_package_info(f.client);
    assert_int_equal(i->channels * i->height * i->width, INPUTS);
    assert_int_equal(i->classes, CLASSES);
    assert_int_equal(i->relus_kept, 16);
    assert_string_equal(i->branch, "clean");
    assert_int_equal(strlen(i->identity), 64);
    assert_string_equal(linnet_pi_label(f.client, 2), "ship");
    assert_null(linnet_pi_label(f.client, 3));
    assert_null(linnet_pi_label(f.client, -1));
    assert_int_equal(linnet_pi_image_size(f.client, LINNET_PI_U8_NHWC), INPUTS);
    assert_int_equal(linnet_pi_image_size(f.client, LINNET_PI_PIXELS), 4 * INPUTS);
    image_of(1, image);
    assert_int_equal(
        linnet_pi_run(f.server, LINNET_PI_FLOAT, 0, LINNET_PI_U8_NCHW, image, 1, logits), 0);
    assert_int_equal(
        linnet_pi_run(f.server, LINNET_PI_FIXED, 0, LINNET_PI_U8_NCHW, image, 1, fixed), 0);
    for (int k = 0; k < CLASSES; k++)
        assert_true(fabsf(logits[k] - fixed[k]) < 0.01f);
    assert_int_equal(
        linnet_pi_run(f.client, LINNET_PI_FIXED, 0, LINNET_PI_U8_NCHW, image, 1, fixed),
        LINNET_PI_ARG);
    assert_non_null(strstr(linnet_pi_message(), "without its weights"));
    assert_int_equal(linnet_pi_open(f.weights, NULL, &p), LINNET_PI_FORMAT);
    assert_int_equal(linnet_pi_open("no such file", NULL, &p), LINNET_PI_IO);
    linnet_pi_close(NULL);
    close_fixture(&f);
}

static void test_options(void **state)
{
    struct linnet_pi_options *o = NULL;
    const char *text = NULL;

    (void)state;
    assert_int_equal(linnet_pi_options_new(&o), 0);
    assert_int_equal(linnet_pi_options_set(o, "relu", "yao"), LINNET_PI_ARG);
    assert_non_null(strstr(linnet_pi_message(), "'yao'"));
    assert_int_equal(linnet_pi_options_set(o, "reveal", "all"), LINNET_PI_ARG);
    assert_int_equal(linnet_pi_options_set(o, "max-bundles", "-1"), LINNET_PI_ARG);
    assert_int_equal(linnet_pi_options_set(o, "max-bundles", "3x"), LINNET_PI_ARG);
    assert_int_equal(linnet_pi_options_set(o, "bundles", NULL), LINNET_PI_ARG);
    assert_int_equal(linnet_pi_options_set(o, "colour", "red"), LINNET_PI_ARG);
    assert_non_null(strstr(linnet_pi_message(), "'colour'"));
    assert_int_equal(linnet_pi_options_set(o, "relu", "auto"), 0);
    for (int i = 0; linnet_pi_relu_at(i, &text) != NULL; i++) {
        assert_non_null(text);
        assert_int_equal(linnet_pi_options_set(o, "relu", linnet_pi_relu_at(i, NULL)), 0);
    }
    assert_string_equal(linnet_pi_relu_at(0, NULL), "gc");
    assert_null(linnet_pi_relu_at(-1, NULL));
    assert_string_equal(linnet_pi_linear_at(0, NULL), "rlwe");
    linnet_pi_options_free(o);
    linnet_pi_options_free(NULL);
}

/* ---- sessions ----------------------------------------------------------------------------- */

/* The same images as sim2pc sees them, and the class of each. */
static void ask_and_compare(struct linnet_pi_session *s, struct fixture *f, int n)
{
    float expected[4][CLASSES], logits[CLASSES];
    uint8_t image[4][INPUTS] = {{0}};
    int64_t label;

    for (int i = 0; i < n; i++)
        image_of(i, image[i]);
    assert_int_equal(
        linnet_pi_run(f->server, LINNET_PI_SIM2PC, SEED, LINNET_PI_U8_NCHW, image, n, *expected),
        0);
    for (int i = 0; i < n; i++) {
        int best = 0;
        if (linnet_pi_query(s, LINNET_PI_U8_NCHW, image[i], logits, &label) < 0)
            fail_msg("%s", linnet_pi_message());
        for (int k = 0; k < CLASSES; k++)
            best = expected[i][k] > expected[i][best] ? k : best;
        assert_int_equal(label, best);
        if (!linnet_pi_label_only(s))
            assert_memory_equal(logits, expected[i], sizeof logits);
    }
}

static void check_socket(const char *const *words, bool label_only)
{
    struct fixture f;
    struct served server = {.f = &f, .o = options(words)};
    struct linnet_pi_options *mine = options(NULL);
    struct linnet_pi_session *s = NULL;
    struct linnet_pi_stream stream = {0};
    int fd[2];

    open_fixture(&f);
    open_pair(fd);
    stream.fd = fd[0];
    server.stream.fd = fd[1];
    pthread_create(&server.thread, NULL, serve, &server);
    assert_int_equal(linnet_pi_client(f.client, mine, &stream, &s), 0);
    linnet_pi_options_free(mine); /* a session keeps its own */
    assert_int_equal(linnet_pi_label_only(s), label_only);
    ask_and_compare(s, &f, 3);
    assert_true(linnet_pi_counted(s, LINNET_PI_ONLINE).received > 0);
    assert_true(linnet_pi_counted(s, LINNET_PI_OFFLINE_LINEAR).sent > 0);
    assert_int_equal(linnet_pi_answer(s), LINNET_PI_ARG);
    linnet_pi_end(s);
    pthread_join(server.thread, NULL);
    assert_int_equal(server.rc, 0);
    assert_int_equal(server.answered, 3);
    linnet_pi_options_free(server.o);
    close_pair(fd);
    close_fixture(&f);
}

static void test_sockets(void **state)
{
    (void)state;
    check_socket(NULL, false);
    check_socket((const char *const[]){"relu", "gc", NULL}, false);
    check_socket((const char *const[]){"relu", "ot", "reveal", "label", NULL}, true);
}

static int pipe_send(void *ctx, const void *bytes, size_t n)
{
    return send(*(int *)ctx, bytes, n, MSG_NOSIGNAL) == (ssize_t)n ? 0 : -1;
}

static int pipe_recv(void *ctx, void *bytes, size_t n)
{
    return recv(*(int *)ctx, bytes, n, MSG_WAITALL) == (ssize_t)n ? 0 : -1;
}

/* Callbacks on one side, the socket on the other; then an end in the middle. */
static void test_callbacks(void **state)
{
    struct fixture f;
    struct served server = {.f = &f, .o = options(NULL)};
    struct linnet_pi_options *mine = options(NULL);
    struct linnet_pi_session *s = NULL;
    struct linnet_pi_stream stream = {.send = pipe_send, .recv = pipe_recv};
    uint8_t image[INPUTS] = {0};
    int fd[2];

    (void)state;
    open_fixture(&f);
    open_pair(fd);
    stream.ctx = &fd[0];
    server.stream.fd = fd[1];
    pthread_create(&server.thread, NULL, serve, &server);
    assert_int_equal(linnet_pi_client(f.client, mine, &stream, &s), 0);
    ask_and_compare(s, &f, 1);
    shutdown(fd[0], SHUT_RDWR);
    assert_true(linnet_pi_query(s, LINNET_PI_U8_NCHW, image, NULL, NULL) < 0);
    assert_non_null(strstr(linnet_pi_message(), "caller's stream"));
    linnet_pi_end(s);
    pthread_join(server.thread, NULL);
    assert_true(server.rc < 0);
    stream.recv = NULL;
    assert_int_equal(linnet_pi_client(f.client, mine, &stream, &s), LINNET_PI_ARG);
    linnet_pi_options_free(mine);
    linnet_pi_options_free(server.o);
    close_pair(fd);
    close_fixture(&f);
}

static void run_bundles(struct fixture *f, struct linnet_pi_options *mine,
                        struct linnet_pi_options *theirs, int prepare, int query, int *last)
{
    struct served server = {.f = f, .o = theirs};
    struct linnet_pi_session *s = NULL;
    struct linnet_pi_stream stream = {0};
    uint8_t image[INPUTS];
    int64_t label;
    int fd[2];

    open_pair(fd);
    stream.fd = fd[0];
    server.stream.fd = fd[1];
    pthread_create(&server.thread, NULL, serve, &server);
    assert_int_equal(linnet_pi_client(f->client, mine, &stream, &s), 0);
    *last = 0;
    for (int i = 0; i < prepare && *last == 0; i++)
        *last = linnet_pi_prepare(s, 1);
    for (int i = 0; i < query && *last == 0; i++) {
        image_of(i, image);
        *last = linnet_pi_query(s, LINNET_PI_U8_NCHW, image, NULL, &label);
    }
    linnet_pi_end(s);
    pthread_join(server.thread, NULL);
    close_pair(fd);
}

static void test_bundles(void **state)
{
    struct fixture f;
    struct linnet_pi_options *mine, *theirs;
    int last;

    (void)state;
    open_fixture(&f);
    mine = options((const char *const[]){"bundles", f.mine, NULL});
    theirs = options((const char *const[]){"bundles", f.theirs, "max-bundles", "2", NULL});
    run_bundles(&f, mine, theirs, 2, 0, &last);
    assert_int_equal(last, 0);
    run_bundles(&f, mine, theirs, 1, 0, &last);
    assert_int_equal(last, LINNET_PI_PEER); /* the server's folder is full */
    run_bundles(&f, mine, theirs, 0, 2, &last);
    assert_int_equal(last, 0);
    run_bundles(&f, mine, theirs, 0, 1, &last);
    assert_int_equal(last, LINNET_PI_DATA); /* each served once */
    linnet_pi_options_free(mine);
    linnet_pi_options_free(theirs);
    close_fixture(&f);
}

static void test_other_packages_are_refused(void **state)
{
    struct fixture f;
    struct served server = {.f = &f, .o = options(NULL)};
    struct linnet_pi_options *mine = options(NULL);
    struct linnet_pi_session *s = NULL;
    struct linnet_pi_stream stream = {0};
    struct linnet_pi_package *other = NULL;
    struct plan *p = plan_sample(32);
    char path[SCRATCH_TEXT], weights[SCRATCH_TEXT];
    struct plan_weights *w = plan_sample_weights(p, 3);
    int fd[2];

    (void)state;
    open_fixture(&f);
    scratch_path(f.dir, "other.pi", path);
    scratch_path(f.dir, "other.weights", weights);
    assert_int_equal(plan_write(p, w, path, weights), 0);
    assert_int_equal(linnet_pi_open(path, NULL, &other), 0);
    open_pair(fd);
    stream.fd = fd[0];
    server.stream.fd = fd[1];
    assert_int_equal(linnet_pi_server(f.client, NULL, &stream, &s), LINNET_PI_ARG);
    pthread_create(&server.thread, NULL, serve, &server);
    assert_int_equal(linnet_pi_client(other, mine, &stream, &s), LINNET_PI_PEER);
    assert_non_null(strstr(linnet_pi_message(), "another model.pi"));
    pthread_join(server.thread, NULL);
    assert_int_equal(server.rc, LINNET_PI_PEER);
    assert_non_null(strstr(server.why, "another model.pi"));
    linnet_pi_close(other);
    plan_weights_free(w);
    plan_free(p);
    linnet_pi_options_free(mine);
    linnet_pi_options_free(server.o);
    close_pair(fd);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packages), cmocka_unit_test(test_options),
        cmocka_unit_test(test_sockets),  cmocka_unit_test(test_callbacks),
        cmocka_unit_test(test_bundles),  cmocka_unit_test(test_other_packages_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
