/* Training, conversion, sweep, export and validation through the C API: what they write, that they
 * stop when they are told and go on where they were, and what they refuse. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "tests/tiny_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* ---- who listens ------------------------------------------------------------------------------ */

struct heard {
    char tasks[256]; /* "teacher mask finetune ", in the order they began */
    const char *stop_in;
    const char *running;
    double first; /* what was done after the first step that was heard of */
    double last;  /* of the task that runs */
    bool stops;
};

static void on_progress(void *ctx, const char *task, double done, const char *text)
{
    struct heard *h = ctx;
    const size_t used = strlen(h->tasks);

    if (h->running == NULL)
        snprintf(h->tasks + used, sizeof h->tasks - used, "%s ", task);
    else
        assert_string_equal(h->running, task);
    if (text != NULL && done < h->last) /* the time that is left is reckoned from it */
        fail_msg("%s: %g after %g", task, done, h->last);
    h->last = text != NULL ? done : 0;
    h->running = text != NULL ? task : NULL;
    if (h->first <= 0)
        h->first = done;
    /* after a first step, so that there is something to save */
    h->stops = text != NULL && done > 0.3 && h->stop_in != NULL && strcmp(task, h->stop_in) == 0;
}

static int on_interrupted(void *ctx)
{
    const struct heard *h = ctx;

    return h->stops;
}

static struct linnet_listener listen_with(struct heard *h)
{
    return (struct linnet_listener){h, NULL, on_progress, on_interrupted, NULL};
}

static void assert_same_files(const char *a, const char *b)
{
    uint8_t *data = NULL;
    size_t len;

    assert_int_equal(file_read(a, (size_t)1 << 26, &data, &len), 0);
    if (!scratch_holds(b, data, len))
        fail_msg("%s and %s differ", a, b);
    mem_free(data);
}

static bool exists(const char *dir, const char *name)
{
    char path[SCRATCH_TEXT];

    return access(scratch_path(dir, name, path), F_OK) == 0;
}

/* ---- training --------------------------------------------------------------------------------- */

static struct linnet_options *train_options(const struct tiny_files *t, const char *out)
{
    return tiny_options("train", (const char *const[]){"data", t->data, "normalize", "none",
                                                       "output", out, "epochs", "3", "batch", "20",
                                                       "no-crop", "", "adversarial", "pgd:steps=1",
                                                       "dual-bn", "", "lr", "0.0625", NULL});
}

static void test_training_stops_and_goes_on(void **state)
{
    struct heard h = {.stop_in = "train"}, again = {.stop_in = NULL};
    const struct linnet_listener l = listen_with(&h), l_again = listen_with(&again);
    struct tiny_files t;
    struct linnet_report *r;
    struct linnet_options *o;
    char whole[SCRATCH_TEXT], part[SCRATCH_TEXT];

    (void)state;
    tiny_files_open(&t, TINY_BN);
    scratch_path(t.dir, "whole.onnx", whole);
    scratch_path(t.dir, "part.onnx", part);
    o = train_options(&t, whole);
    assert_int_equal(linnet_train(t.model, o, NULL, &r), 0);
    assert_true(tiny_number(r, "epochs") == 3 && tiny_number(r, "steps") == 9);
    assert_in_range(tiny_number(r, "validation/n"), 1, TINY_IMAGES / 5); /* a part of the set */
    assert_non_null(strstr(linnet_report_text(r), "whole.onnx: fp32, epoch 3 of 3 kept"));
    assert_true(exists(t.dir, "whole.adv.onnx") && exists(t.dir, "whole.safetensors"));
    linnet_report_free(r);
    linnet_options_free(o);

    o = train_options(&t, part);
    assert_int_equal(linnet_train(t.model, o, &l, &r), LINNET_INTERRUPTED);
    assert_null(r);
    assert_string_equal(h.tasks, "train ");
    assert_null(h.running);
    assert_false(exists(t.dir, "part.onnx"));
    assert_int_equal(linnet_options_set(o, "resume", NULL), 0);
    assert_int_equal(linnet_train(t.model, o, &l_again, NULL), 0);
    assert_true(h.first < 0.2 && again.first > 0.4); /* not from the beginning */
    assert_same_files(whole, part);
    linnet_options_free(o);
    tiny_files_close(&t);
}

static void test_training_refuses(void **state)
{
    struct tiny_files t;
    struct linnet_options *o;
    char out[SCRATCH_TEXT];

    (void)state;
    tiny_files_open(&t, TINY_BN);
    o = tiny_options("train", (const char *const[]){"data", t.data, NULL});
    assert_int_equal(linnet_train(t.model, o, NULL, NULL), LINNET_ARG);
    assert_string_equal(linnet_message(), "give --data SRC and -o Y.onnx");
    assert_int_equal(linnet_options_set(o, "output", t.model), 0);
    assert_int_equal(linnet_train(t.model, o, NULL, NULL), LINNET_ARG);
    assert_non_null(strstr(linnet_message(), "is an input and would be overwritten"));
    assert_int_equal(linnet_options_set(o, "output", scratch_path(t.dir, "y.onnx", out)), 0);
    assert_int_equal(linnet_options_set(o, "dual-bn", NULL), 0);
    assert_int_equal(linnet_train(t.model, o, NULL, NULL), LINNET_ARG);
    assert_int_equal(linnet_options_set(o, "dual-bn", "false"), 0);
    assert_int_equal(linnet_options_set(o, "data", "synth:50"), 0);
    assert_int_equal(linnet_train(t.model, o, NULL, NULL), LINNET_DATA); /* 32x32, not 8x8 */
    linnet_options_free(o);
    tiny_files_close(&t);
}

/* ---- conversion ------------------------------------------------------------------------------- */

static struct linnet_options *convert_options(const struct tiny_files *t, const char *task,
                                              const char *relus, const char *out)
{
    return tiny_options(task, (const char *const[]){"data",
                                                    t->data,
                                                    "normalize",
                                                    "none",
                                                    "relus",
                                                    relus,
                                                    "output",
                                                    out,
                                                    "preset",
                                                    "quick",
                                                    "teacher-epochs",
                                                    "1",
                                                    "mask-epochs",
                                                    "2",
                                                    "finetune-epochs",
                                                    "2",
                                                    "batch",
                                                    "20",
                                                    "eval-corrupt-images",
                                                    "0",
                                                    "eval-attack-images",
                                                    "10",
                                                    "attack-steps",
                                                    "1",
                                                    "augment",
                                                    "none",
                                                    NULL});
}

/* A folder without folders in it. */
static void remove_all(const char *dir)
{
    char path[SCRATCH_TEXT];
    struct dirent *e;
    DIR *d = opendir(dir);

    while (d != NULL && (e = readdir(d)) != NULL)
        if (e->d_name[0] != '.')
            unlink(scratch_path(dir, e->d_name, path));
    if (d != NULL)
        closedir(d);
    rmdir(dir);
}

static void check_report(const struct linnet_report *r)
{
    double kept = 0;

    assert_true(tiny_number(r, "budget/total") == 6 * 64 + 6 * 64 + 8 * 16);
    assert_true(tiny_number(r, "budget/kept") == 448);
    for (int s = 0; s < 3; s++) {
        char path[64];

        snprintf(path, sizeof path, "budget/layers/%d/kept", s);
        kept += tiny_number(r, path);
    }
    assert_true(kept == 448);
    assert_true(tiny_number(r, "result/relus") == 448);
    assert_true(tiny_number(r, "stages/2/epochs") == 2);
    assert_non_null(strstr(linnet_report_text(r), "private inference, online s (estimate)"));
}

static void test_a_conversion_stops_and_goes_on(void **state)
{
    struct heard h = {.stop_in = NULL}, stopped = {.stop_in = "mask"};
    const struct linnet_listener l = listen_with(&h), stopping = listen_with(&stopped);
    struct tiny_files t;
    struct linnet_report *r;
    char whole[SCRATCH_TEXT], part[SCRATCH_TEXT], a[SCRATCH_TEXT], b[SCRATCH_TEXT];

    (void)state;
    tiny_files_open(&t, TINY_BN);
    scratch_path(t.dir, "whole", whole);
    scratch_path(t.dir, "part", part);
    struct linnet_options *o = convert_options(&t, "linearize", "50%", whole);
    if (linnet_linearize(t.model, o, &l, &r) < 0)
        fail_msg("%s", linnet_message());
    check_report(r);
    assert_string_equal(h.tasks,
                        "given validate teacher mask finetune teacher validate result validate ");
    linnet_report_free(r);
    assert_int_equal(linnet_linearize(t.model, o, NULL, &r), LINNET_ARG);
    assert_non_null(strstr(linnet_message(), "is the state of an earlier run"));
    linnet_options_free(o);

    o = convert_options(&t, "linearize", "448", part);
    assert_int_equal(linnet_linearize(t.model, o, &stopping, &r), LINNET_INTERRUPTED);
    assert_null(r);
    assert_false(exists(part, "model.onnx"));
    assert_int_equal(linnet_options_set(o, "resume", NULL), 0);
    assert_int_equal(linnet_options_set(o, "max-relus", "447"), 0);
    assert_int_equal(linnet_linearize(t.model, o, NULL, &r), LINNET_GOAL);
    check_report(r);
    linnet_report_free(r);
    assert_same_files(scratch_path(whole, "model.onnx", a), scratch_path(part, "model.onnx", b));
    assert_same_files(scratch_path(whole, "model.adv.onnx", a),
                      scratch_path(part, "model.adv.onnx", b));
    linnet_options_free(o);
    remove_all(whole);
    remove_all(part);
    tiny_files_close(&t);
}

/* A conversion into a new folder; the n-th allocation fails. */
static int convert_with_failure(const struct tiny_files *t, long n)
{
    struct linnet_report *r = NULL;
    char dir[SCRATCH_TEXT];
    struct linnet_options *o;

    scratch_path(t->dir, "walk", dir);
    o = convert_options(t, "linearize", "50%", dir);
    assert_int_equal(linnet_options_set(o, "mask-epochs", "1"), 0);
    assert_int_equal(linnet_options_set(o, "finetune-epochs", "1"), 0);
    mem_fail_at(n);
    int rc = linnet_linearize(t->model, o, NULL, &r);
    mem_fail_at(0);
    assert_true((rc == 0) == (r != NULL));
    linnet_report_free(r);
    linnet_options_free(o);
    remove_all(dir);
    return rc;
}

static void test_memory_may_run_out(void **state)
{
    struct tiny_files t;
    long n = 1;
    int rc;

    (void)state;
    tiny_files_open(&t, TINY_BN);
    while ((rc = convert_with_failure(&t, n)) == LINNET_NOMEM)
        n += 1 + n / 20;
    if (rc != 0)
        fail_msg("allocation %ld: %s, %s", n, linnet_error_name(rc), linnet_message());
    assert_true(n > 1000);
    tiny_files_close(&t);
}

static void test_packages_agree_with_their_models(void **state)
{
    struct tiny_files t;
    struct linnet_report *r;
    struct linnet_model *m;
    struct linnet_options *o;
    char dir[SCRATCH_TEXT], out[SCRATCH_TEXT];

    (void)state;
    tiny_files_open(&t, TINY_BN | TINY_MASKED);
    assert_int_equal(linnet_open(t.model, NULL, NULL, &m), 0);
    scratch_path(t.dir, "pi", dir);
    scratch_path(dir, "model.onnx", out);
    o = tiny_options("export",
                     (const char *const[]){"output", out, "pi", dir, "data", t.data, NULL});
    if (linnet_export(m, o, NULL) < 0)
        fail_msg("%s", linnet_message());
    assert_true(exists(dir, "model.pi") && exists(dir, "model.pi.weights"));
    assert_int_equal(linnet_options_set(o, "output", t.model), 0);
    assert_int_equal(linnet_export(m, o, NULL), LINNET_ARG);
    linnet_options_free(o);
    o = tiny_options("export", (const char *const[]){"salt", "00", NULL});
    assert_int_equal(linnet_export(m, o, NULL), LINNET_ARG);
    linnet_options_free(o);
    linnet_close(m);

    o = tiny_options("validate", (const char *const[]){"data", t.data, NULL});
    assert_int_equal(linnet_validate(dir, o, NULL, &r), 0);
    assert_true(tiny_number(r, "agreement") >= 99.5 && tiny_number(r, "passed") == 1);
    linnet_report_free(r);
    linnet_options_free(o);
    remove_all(dir);
    tiny_files_close(&t);
}

static void test_a_package_of_another_model_fails(void **state)
{
    struct tiny_files t, other;
    struct linnet_report *r;
    struct linnet_model *m;
    struct linnet_options *o;
    char dir[SCRATCH_TEXT], out[SCRATCH_TEXT];

    (void)state;
    tiny_files_open(&t, TINY_BN);
    tiny_files_open(&other, TINY_BN | TINY_MASKED);
    scratch_path(t.dir, "pi", dir);
    assert_int_equal(linnet_open(t.model, NULL, NULL, &m), 0);
    o = tiny_options("export", (const char *const[]){"pi", dir, "data", t.data, NULL});
    assert_int_equal(linnet_export(m, o, NULL), 0); /* the package alone */
    linnet_options_free(o);
    linnet_close(m);
    assert_int_equal(rename(other.model, scratch_path(dir, "model.onnx", out)), 0);
    o = tiny_options("validate",
                     (const char *const[]){"data", t.data, "min-agreement", "100", NULL});
    assert_int_equal(linnet_validate(dir, o, NULL, &r), LINNET_VERIFY);
    assert_true(tiny_number(r, "passed") == 0 && tiny_number(r, "agreement") < 100);
    assert_non_null(strstr(linnet_report_text(r), "FAILED\n"));
    linnet_report_free(r);
    linnet_options_free(o);
    remove_all(dir);
    tiny_files_close(&other);
    tiny_files_close(&t);
}

static void test_a_sweep_has_a_row_for_each_budget(void **state)
{
    static const char *const part[] = {"teacher", "relus-50p", "relus-100"};
    struct tiny_files t;
    struct linnet_report *r;
    char dir[SCRATCH_TEXT], sub[SCRATCH_TEXT];

    (void)state;
    tiny_files_open(&t, TINY_BN);
    scratch_path(t.dir, "sweep", dir);
    struct linnet_options *o = convert_options(&t, "sweep", "50%,100", dir);
    if (linnet_sweep(t.model, o, NULL, &r) < 0)
        fail_msg("%s", linnet_message());
    assert_true(tiny_number(r, "budgets/0/result/relus") == 448);
    assert_true(tiny_number(r, "budgets/1/result/relus") == 100);
    assert_non_null(strstr(linnet_report_text(r), "\n100 "));
    linnet_report_free(r);
    assert_int_equal(linnet_options_set(o, "relus", "50%,50%"), 0);
    assert_int_equal(linnet_sweep(t.model, o, NULL, &r), LINNET_ARG);
    assert_null(r);
    linnet_options_free(o);
    for (int i = 0; i < 3; i++)
        remove_all(scratch_path(dir, part[i], sub));
    remove_all(dir);
    tiny_files_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training_stops_and_goes_on),
        cmocka_unit_test(test_training_refuses),
        cmocka_unit_test(test_a_conversion_stops_and_goes_on),
        cmocka_unit_test(test_memory_may_run_out),
        cmocka_unit_test(test_packages_agree_with_their_models),
        cmocka_unit_test(test_a_package_of_another_model_fails),
        cmocka_unit_test(test_a_sweep_has_a_row_for_each_budget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
