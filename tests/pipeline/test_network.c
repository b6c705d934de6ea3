/* Models through the C API: facts, logits, outputs, gradients, evaluation; what goes wrong is said. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/exec/exec.h"
#include "core/graph/rng.h"
#include "exporter/exporter.h"
#include "tests/scratch.h"
#include "tests/tiny_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { N = TINY_IMAGES, K = TINY_CLASSES };

static void open_files(struct tiny_files *t, unsigned flags, struct linnet_model **m)
{
    tiny_files_open(t, flags);
    if (linnet_open(t->model, NULL, NULL, m) < 0)
        fail_msg("%s", linnet_message());
}

static void test_facts(void **state)
{
    struct tiny_files t;
    struct linnet_model *m;
    int branch = 5;

    (void)state;
    open_files(&t, TINY_BN, &m);
    const struct linnet_info *i = linnet_model_info(m);
    assert_int_equal(i->channels, 3);
    assert_int_equal(i->height, TINY_SIDE);
    assert_int_equal(i->width, TINY_SIDE);
    assert_int_equal(i->classes, K);
    assert_int_equal(i->branches, 1);
    assert_int_equal(i->relus_total, 6 * 64 + 6 * 64 + 8 * 16);
    assert_int_equal(i->relus_kept, i->relus_total);
    assert_int_equal(i->relu_evaluations, i->relus_total);
    assert_true(i->parameters > 0 && i->macs > 0);
    assert_int_equal(linnet_branch(m, "clean", &branch), 0);
    assert_int_equal(branch, 0);
    assert_int_equal(linnet_branch(m, "adv", &branch), LINNET_ARG);
    assert_int_equal(linnet_branch(m, "other", &branch), LINNET_ARG);
    linnet_close(m);
    linnet_close(NULL);
    tiny_files_close(&t);
}

/* The graph that the file was made from, one image at a time. */
static void logits_by_hand(const float *pixels, int64_t n, float *z)
{
    struct graph *g = tiny_net(TINY_BN, 1);
    struct exec *e;

    assert_int_equal(exec_new(g, EXEC_INFER, 1, NULL, &e), 0);
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(exec_infer(e, pixels + i * TINY_ELEMS, 1, 0, z + i * K), 0);
    exec_free(e);
    graph_free(g);
}

/* A ReLU6 is one ReLU of the budget and two ReLU evaluations. */
static void test_facts_of_relu6(void **state)
{
    struct linnet_model *m;
    char path[SCRATCH_TEXT];

    (void)state;
    if (scratch_shared("models/resnet32_cifar100_relu6.onnx", path) == NULL)
        skip();
    assert_int_equal(linnet_open(path, NULL, NULL, &m), 0);
    assert_int_equal(linnet_model_info(m)->relus_kept, 303104);
    assert_int_equal(linnet_model_info(m)->relu_evaluations, 606208);
    linnet_close(m);
}

static void test_logits_are_those_of_the_network(void **state)
{
    struct tiny_files t;
    struct linnet_model *m;
    float got[N * K], want[N * K], out[K];

    (void)state;
    open_files(&t, TINY_BN, &m);
    assert_int_equal(linnet_logits(m, 0, t.d->floats, N, got), 0);
    logits_by_hand(t.d->floats, N, want);
    for (int i = 0; i < N * K; i++)
        assert_float_equal(got[i], want[i], 1e-5);
    assert_int_equal(linnet_outputs(m, 0, t.d->floats, 1, out), 0);
    assert_memory_equal(out, got, sizeof out);
    assert_int_equal(linnet_logits(m, 0, t.d->floats, 0, got), 0);
    assert_int_equal(linnet_logits(m, 1, t.d->floats, 1, got), LINNET_ARG);
    assert_non_null(strstr(linnet_message(), "has no branch 1"));
    assert_int_equal(linnet_logits(m, 0, t.d->floats, -1, got), LINNET_ARG);
    linnet_close(m);
    tiny_files_close(&t);
}

static void test_outputs_are_what_the_file_computes(void **state)
{
    const struct export_options opt = {.form = MASK_WHERE};
    struct tiny_files t;
    struct linnet_model *m;
    struct graph *g = tiny_net(TINY_BN, 1);
    float z[K], p[K];
    double sum = 0;

    (void)state;
    tiny_files_open(&t, TINY_BN);
    g->tail = TAIL_SOFTMAX;
    g->tail_node = "softmax";
    g->tail_output = "probabilities";
    assert_int_equal(onnx_export(g, &opt, t.model), 0);
    graph_free(g);
    assert_int_equal(linnet_open(t.model, NULL, NULL, &m), 0);
    assert_int_equal(linnet_logits(m, 0, t.d->floats, 1, z), 0);
    assert_int_equal(linnet_outputs(m, 0, t.d->floats, 1, p), 0);
    for (int k = 0; k < K; k++)
        sum += exp((double)z[k]);
    for (int k = 0; k < K; k++)
        assert_float_equal(p[k], (float)(exp((double)z[k]) / sum), 1e-6);
    linnet_close(m);
    tiny_files_close(&t);
}

/* sum_k u[k] logits[k] of one image */
static double functional(struct linnet_model *m, const float *x, const float *u)
{
    float z[K];
    double sum = 0;

    assert_int_equal(linnet_logits(m, 0, x, 1, z), 0);
    for (int k = 0; k < K; k++)
        sum += (double)u[k] * (double)z[k];
    return sum;
}

/* Along a random direction the difference quotient is the scalar product with the gradient. A kink of
 * a ReLU may lie between the two points: few images may be off. */
static void test_gradients_are_difference_quotients(void **state)
{
    struct tiny_files t;
    struct linnet_model *m;
    float u[N * K], z[N * K], same[N * K],
        *grad = mem_aligned((size_t)N * TINY_ELEMS, sizeof *grad);
    struct rng r = rng_at(3, RNG_TEST, 0, 0);
    int off = 0;

    (void)state;
    open_files(&t, TINY_BN, &m);
    for (int i = 0; i < N * K; i++)
        u[i] = (float)rng_normal(&r);
    assert_int_equal(linnet_gradient(m, 0, t.d->floats, N, u, grad, z), 0);
    assert_int_equal(linnet_logits(m, 0, t.d->floats, N, same), 0);
    for (int i = 0; i < N * K; i++)
        assert_float_equal(z[i], same[i], 1e-5);
    for (int i = 0; i < N; i++) {
        const float step = 2e-4f, *x = t.d->floats + i * TINY_ELEMS;
        float above[TINY_ELEMS], below[TINY_ELEMS];
        double slope = 0, size = 0;

        for (int p = 0; p < TINY_ELEMS; p++) {
            const float v = (float)rng_normal(&r);

            above[p] = x[p] + step * v;
            below[p] = x[p] - step * v;
            slope += (double)v * (double)grad[i * TINY_ELEMS + p];
            size += fabs((double)grad[i * TINY_ELEMS + p]);
        }
        const double quotient =
            (functional(m, above, u + i * K) - functional(m, below, u + i * K)) /
            (2 * (double)step);
        off += fabs(quotient - slope) > 0.005 * size;
    }
    if (off > N / 10)
        fail_msg("%d of %d images are off", off, N);
    assert_int_equal(linnet_gradient(m, 0, t.d->floats, N, u, grad, NULL), 0);
    mem_free(grad);
    linnet_close(m);
    tiny_files_close(&t);
}

/* ---- evaluation ------------------------------------------------------------------------------ */

/* Per cent of the images of a class. */
static double class_accuracy(struct linnet_model *m, const struct dataset *d, int32_t k)
{
    double n = 0, correct = 0;
    float z[N * K];

    assert_int_equal(linnet_logits(m, 0, d->floats, N, z), 0);
    for (int i = 0; i < N; i++) {
        int best = 0;

        for (int j = 1; j < K; j++)
            best = z[i * K + j] > z[i * K + best] ? j : best;
        n += d->labels[i] == k;
        correct += d->labels[i] == k && best == k;
    }
    return 100 * correct / n;
}

static int64_t count_correct(struct linnet_model *m, const struct dataset *d)
{
    int64_t correct = 0;
    float z[N * K];

    assert_int_equal(linnet_logits(m, 0, d->floats, N, z), 0);
    for (int i = 0; i < N; i++) {
        int best = 0;

        for (int k = 1; k < K; k++)
            best = z[i * K + k] > z[i * K + best] ? k : best;
        correct += best == d->labels[i];
    }
    return correct;
}

struct heard {
    char first[512], message[512]; /* of the messages: the last one */
    int messages, begun, ended, asked, stop_at;
};

static void on_message(void *ctx, enum linnet_level level, const char *text)
{
    struct heard *h = ctx;

    assert_true(level == LINNET_NOTE || level == LINNET_DETAIL);
    if (h->messages == 0)
        strncpy(h->first, text, sizeof h->first - 1);
    strncpy(h->message, text, sizeof h->message - 1);
    h->messages++;
}

static void on_progress(void *ctx, const char *task, double done, const char *text)
{
    struct heard *h = ctx;

    assert_string_equal(task, "eval");
    assert_true(done >= 0 && done <= 1);
    h->begun += done <= 0 && text != NULL && *text == '\0';
    h->ended += text == NULL;
}

static int on_interrupted(void *ctx)
{
    struct heard *h = ctx;

    return ++h->asked == h->stop_at;
}

static void test_evaluation_reports_what_is_so(void **state)
{
    struct heard h = {.stop_at = -1};
    const struct linnet_listener l = {&h, on_message, on_progress, on_interrupted, NULL};
    struct tiny_files t;
    struct linnet_model *m;
    struct linnet_report *r;

    (void)state;
    open_files(&t, TINY_BN, &m);
    struct linnet_options *o = tiny_options(
        "eval", (const char *const[]){"data", t.data, "attack", "pgd:eps=8/255,steps=5", "attack",
                                      "square:eps=8/255,steps=10", NULL});
    const double clean = 100.0 * (double)count_correct(m, t.d) / N;
    assert_int_equal(linnet_evaluate(m, o, &l, &r), 0);
    assert_float_equal(tiny_number(r, "branches/0/clean/accuracy"), clean, 1e-9);
    assert_true(tiny_number(r, "branches/0/clean/n") == N && tiny_number(r, "n") == N);
    assert_true(tiny_number(r, "branches/0/deployed") == 1);
    for (int k = 0; k < K; k++) {
        char path[64];

        snprintf(path, sizeof path, "branches/0/clean/per_class/%d", k);
        assert_float_equal(tiny_number(r, path), class_accuracy(m, t.d, k), 1e-9);
    }
    for (int a = 0; a < 2; a++) {
        char path[64];

        snprintf(path, sizeof path, "branches/0/attacks/%d/accuracy", a);
        assert_true(tiny_number(r, path) <= clean);
    }
    double nothing;
    assert_int_equal(linnet_report_number(r, "branches/1/clean/n", &nothing), LINNET_ARG);
    assert_int_equal(linnet_report_number(r, "branches/0x/clean/n", &nothing), LINNET_ARG);
    assert_int_equal(linnet_report_number(r, "branches", &nothing), LINNET_ARG);
    assert_int_equal(linnet_report_number(r, "", &nothing), LINNET_ARG);
    assert_non_null(strstr(linnet_report_text(r), "branch clean (deployed)\n"));
    assert_non_null(strstr(linnet_report_json(r), "\"format\": \"linnet.eval/1\""));
    assert_true(h.begun == 1 && h.ended == 1 && h.messages == 2 && h.asked > 2);
    assert_non_null(strstr(h.first, ", split all"));
    assert_non_null(strstr(h.message, "guessing one of")); /* it was never trained */
    linnet_report_free(r);
    linnet_report_free(NULL);

    h = (struct heard){.stop_at = 2};
    assert_int_equal(linnet_evaluate(m, o, &l, &r), LINNET_INTERRUPTED);
    assert_null(r);
    assert_true(h.asked == 2 && h.ended == 1);
    linnet_options_free(o);
    linnet_close(m);
    tiny_files_close(&t);
}

static void test_missed_goals_come_with_the_report(void **state)
{
    struct tiny_files t;
    struct linnet_model *m;
    struct linnet_report *r;

    (void)state;
    open_files(&t, TINY_BN, &m);
    struct linnet_options *o = tiny_options(
        "eval", (const char *const[]){"data", t.data, "require-clean", "100", "limit", "20", NULL});
    assert_int_equal(linnet_evaluate(m, o, NULL, &r), LINNET_GOAL);
    assert_non_null(strstr(linnet_message(), "below --require-clean 100"));
    assert_true(tiny_number(r, "n") == 20);
    linnet_report_free(r);
    assert_int_equal(linnet_evaluate(m, o, NULL, NULL), LINNET_GOAL); /* nobody wants it */
    assert_int_equal(linnet_options_set(o, "data", "npy:none.npy,none.npy"), 0);
    assert_int_equal(linnet_evaluate(m, o, NULL, &r), LINNET_DATA);
    assert_null(r);
    linnet_options_free(o);
    linnet_close(m);
    tiny_files_close(&t);
}

/* Opens and evaluates; the n-th allocation fails. */
static int try_with_failure(const struct tiny_files *t, const struct linnet_options *o, long n)
{
    struct linnet_model *m = NULL;
    struct linnet_report *r = NULL;

    mem_fail_at(n);
    int rc = linnet_open(t->model, o, NULL, &m);
    if (rc == 0)
        rc = linnet_evaluate(m, o, NULL, &r);
    mem_fail_at(0);
    assert_true((rc == 0) == (r != NULL));
    linnet_report_free(r);
    linnet_close(m);
    return rc;
}

static void test_memory_may_run_out(void **state)
{
    struct tiny_files t;
    long n = 1;
    int rc;

    (void)state;
    tiny_files_open(&t, TINY_BN);
    struct linnet_options *o = tiny_options(
        "eval", (const char *const[]){"data", t.data, "limit", "2", "attack", "pgd:steps=1", NULL});
    while ((rc = try_with_failure(&t, o, n)) == LINNET_NOMEM)
        n += 1 + n / 50;
    if (rc != 0)
        fail_msg("allocation %ld: %s, %s", n, linnet_error_name(rc), linnet_message());
    assert_true(n > 100);
    linnet_options_free(o);
    tiny_files_close(&t);
}

/* ---- other ways to look at a file ------------------------------------------------------------- */

static void test_inspection_tells_a_refusal_too(void **state)
{
    struct tiny_files t;
    struct linnet_report *r;
    struct linnet_options *o = tiny_options("inspect", (const char *const[]){NULL});

    (void)state;
    tiny_files_open(&t, TINY_BN);
    assert_int_equal(linnet_inspect(t.model, o, &r), 0);
    assert_true(tiny_number(r, "relus_total") == 6 * 64 + 6 * 64 + 8 * 16);
    assert_non_null(strstr(linnet_report_text(r), "problems: none"));
    linnet_report_free(r);
    scratch_write(t.model, "no model", 8);
    assert_int_equal(linnet_inspect(t.model, o, &r), LINNET_FORMAT);
    assert_non_null(r);
    assert_null(strstr(linnet_report_text(r), "problems: none"));
    linnet_report_free(r);
    assert_int_equal(linnet_inspect("no such file", o, &r), LINNET_IO);
    assert_null(r);
    linnet_options_free(o);
    tiny_files_close(&t);
}

static void test_images_come_as_they_are(void **state)
{
    struct tiny_files t;
    struct linnet_data *d;
    struct linnet_report *r;
    struct linnet_options *o = tiny_options("data", (const char *const[]){"limit", "7", NULL});

    (void)state;
    tiny_files_open(&t, TINY_BN);
    assert_int_equal(linnet_data_open(t.data, o, &d), 0);
    const struct linnet_data_info *i = linnet_data_info(d);
    assert_true(i->n == 7 && i->channels == 3 && i->height == TINY_SIDE && i->pixels == NULL);
    assert_memory_equal(i->floats, t.d->floats, 7 * TINY_ELEMS * sizeof(float));
    assert_memory_equal(i->labels, t.d->labels, 7 * sizeof(int32_t));
    assert_int_equal(linnet_data_report(d, &r), 0);
    assert_true(tiny_number(r, "n") == 7);
    linnet_report_free(r);
    linnet_data_close(d);
    linnet_data_close(NULL);
    assert_int_equal(linnet_data_open("npy:none.npy,none.npy", o, &d), LINNET_DATA);
    assert_null(d);
    linnet_options_free(o);
    tiny_files_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_facts_of_relu6),
        cmocka_unit_test(test_logits_are_those_of_the_network),
        cmocka_unit_test(test_outputs_are_what_the_file_computes),
        cmocka_unit_test(test_gradients_are_difference_quotients),
        cmocka_unit_test(test_evaluation_reports_what_is_so),
        cmocka_unit_test(test_missed_goals_come_with_the_report),
        cmocka_unit_test(test_memory_may_run_out),
        cmocka_unit_test(test_inspection_tells_a_refusal_too),
        cmocka_unit_test(test_images_come_as_they_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
