/*
 * A training run gives the same bytes for any number of threads, and when it is stopped or killed anywhere and goes on;
 * another training does not go on with it, contradictions are refused.
 */
#include "trainer/train/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/cpu.h"
#include "core/base/file.h"
#include "tests/train_job.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { PATH_BYTES = 256 };

/* ---- the same bits --------------------------------------------------------------------------- */

static void checkpoint_path(char path[PATH_BYTES], const char *name)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(path, PATH_BYTES, "%s/linnet-%ld-%s", tmp != NULL ? tmp : "/tmp", (long)getpid(),
             name);
    unlink(path);
}

/* Bytes of the final checkpoint of a run with everything on; taps and hooks too. */
static void final_bytes(struct train_job *j, const char *path, uint8_t **bytes, size_t *len)
{
    j->student_tap = j->student->node[2].out[0];
    j->teacher_tap = j->teacher->node[2].out[0];
    j->cfg.checkpoint = path;
    j->cfg.config_json = "{\"a\":1}";
    j->cfg.structure = (const uint8_t *)"onnx";
    j->cfg.structure_len = 4;
    j->cfg.student_taps = &j->student_tap;
    j->cfg.teacher_taps = &j->teacher_tap;
    j->cfg.n_student_taps = j->cfg.n_teacher_taps = 1;
    int rc = train_job_run(j, NULL);
    if (j->stop_at < 0) {
        assert_int_equal(rc, ERR_INTERRUPTED);
        *bytes = NULL;
        return;
    }
    if (rc < 0 || file_read(path, 1 << 24, bytes, len) < 0)
        fail_msg("%s", err_message());
}

static const unsigned everything[] = {TINY_BN | TINY_DUAL | TINY_MASKED,
                                      TINY_BN | TINY_DUAL | TINY_MASKED | JOB_SOFT,
                                      TINY_BN | TINY_DUAL | TINY_MASKED | JOB_MORE};
enum { KINDS = sizeof everything / sizeof everything[0] };

static void reference_bytes(const char *path, unsigned flags, uint8_t **bytes, size_t *len)
{
    struct train_job j;

    train_job_init(&j, flags);
    final_bytes(&j, path, bytes, len);
    unlink(path);
    train_job_release(&j);
}

static void test_threads_change_no_bit(void **state)
{
    char path[PATH_BYTES];
    uint8_t *bytes[2];
    size_t len[2];

    (void)state;
    checkpoint_path(path, "threads");
    for (int kind = 0; kind < KINDS; kind++) {
        for (int t = 0; t < 2; t++) {
            cpu_set_threads(1 + 2 * t);
            reference_bytes(path, everything[kind], &bytes[t], &len[t]);
        }
        cpu_set_threads(1);
        assert_int_equal(len[0], len[1]);
        assert_memory_equal(bytes[0], bytes[1], len[0]);
        mem_free(bytes[0]);
        mem_free(bytes[1]);
    }
}

static void assert_continues(const char *path, unsigned flags, const uint8_t *want, size_t want_len)
{
    struct train_job j;
    uint8_t *got;
    size_t len;

    train_job_init(&j, flags);
    final_bytes(&j, path, &got, &len);
    assert_int_equal(len, want_len);
    assert_memory_equal(got, want, len);
    mem_free(got);
    train_job_release(&j);
}

/* 100 images in batches of 16 are 6 steps an epoch: a stop at 6 or 18 falls into a validation. */
static void test_interruption_and_resume_give_the_same_bytes(void **state)
{
    const int64_t stops[] = {1, 6, 8, 18};
    char path[PATH_BYTES];
    uint8_t *want, *none;
    size_t want_len, len;

    (void)state;
    checkpoint_path(path, "resume");
    for (int kind = 0; kind < KINDS; kind += 2) {
        reference_bytes(path, everything[kind], &want, &want_len);
        for (size_t i = 0; i < sizeof stops / sizeof stops[0]; i++) {
            struct train_job j;
            train_job_init(&j, everything[kind]);
            j.stop_at = stops[i];
            final_bytes(&j, path, &none, &len);
            assert_null(none);
            train_job_release(&j);
            assert_continues(path, everything[kind], want, want_len);
            unlink(path);
        }
        mem_free(want);
    }
}

/* The child dies without a word; the parent continues from what it finds. */
static void kill_and_resume(unsigned flags)
{
    const int64_t kills[] = {2, 6, 11};
    char path[PATH_BYTES];
    uint8_t *want, *none;
    size_t want_len, len;
    int status;

    checkpoint_path(path, "kill");
    reference_bytes(path, flags, &want, &want_len);
    for (size_t i = 0; i < sizeof kills / sizeof kills[0]; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct train_job j;
            train_job_init(&j, flags);
            j.cfg.checkpoint_steps = 4;
            j.kill_at = kills[i];
            final_bytes(&j, path, &none, &len);
            _exit(1); /* not reached */
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_continues(path, flags, want, want_len);
        unlink(path);
    }
    mem_free(want);
}

static void test_kill_and_resume_give_the_same_bytes(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++)
        kill_and_resume(everything[kind]);
}

static void test_a_finished_run_resumes_to_itself(void **state)
{
    char path[PATH_BYTES];
    uint8_t *want, *again;
    size_t want_len, len;
    struct train_job j;

    (void)state;
    checkpoint_path(path, "done");
    train_job_init(&j, TINY_BN | TINY_DUAL | TINY_MASKED);
    final_bytes(&j, path, &want, &want_len);
    train_job_release(&j);
    train_job_init(&j, TINY_BN | TINY_DUAL | TINY_MASKED);
    final_bytes(&j, path, &again, &len);
    assert_int_equal(j.batches, 0);
    assert_memory_equal(want, again, len);
    train_job_release(&j);
    unlink(path);
    mem_free(want);
    mem_free(again);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void test_resume_refuses_another_training(void **state)
{
    char path[PATH_BYTES];
    struct train_job j;
    uint8_t *none;
    size_t len;

    (void)state;
    checkpoint_path(path, "other");
    train_job_init(&j, TINY_BN | TINY_DUAL | TINY_MASKED);
    j.stop_at = 2;
    final_bytes(&j, path, &none, &len);
    j.stop_at = 0;
    j.cfg.lr = 0.25;
    assert_int_equal(train_job_run(&j, NULL), ERR_ARG);
    assert_non_null(strstr(err_message(), "now it is 'lr=0.25'"));
    j.cfg.lr = 0.05;
    j.cfg.stage = "finetune";
    assert_int_equal(train_job_run(&j, NULL), ERR_ARG);
    j.cfg.stage = "mask";
    j.teacher->params[0] += 1;
    assert_int_equal(train_job_run(&j, NULL), ERR_ARG);
    assert_non_null(strstr(err_message(), "'teacher="));
    j.teacher->params[0] -= 1;
    j.cfg.options = "score=1";
    assert_int_equal(train_job_run(&j, NULL), ERR_ARG);
    j.cfg.options = NULL;
    ((int32_t *)(uintptr_t)j.train->labels)[7] ^= 1;
    assert_int_equal(train_job_run(&j, NULL), ERR_ARG);
    assert_non_null(strstr(err_message(), "'data="));
    ((int32_t *)(uintptr_t)j.train->labels)[7] ^= 1;
    j.student->norm = (struct input_norm){.channels = 1, .mean = {0.5f}, .std = {1}};
    assert_int_equal(train_job_run(&j, NULL), ERR_ARG);
    assert_non_null(strstr(err_message(), "'normalize="));
    unlink(path);
    train_job_release(&j);
}

static void test_divergence_is_a_numeric_error(void **state)
{
    struct train_job j;

    (void)state;
    train_job_init(&j, 0);
    j.cfg.lr = 1e6;
    j.cfg.weight_decay = 1;
    assert_int_equal(train_job_run(&j, NULL), ERR_NUMERIC);
    assert_non_null(strstr(err_message(), "stage 'mask': step "));
    train_job_release(&j);
}

/* Every allocation of construction, resume and the run fails once. */
static void test_every_failed_allocation_is_an_error(void **state)
{
    int rc = ERR_NOMEM;

    (void)state;
    for (long n = 1; rc < 0; n++) {
        struct train_job j;
        train_job_init(&j, TINY_BN | TINY_DUAL | TINY_MASKED | JOB_MORE);
        j.cfg.epochs = 1;
        data_limit(j.train, 2 * JOB_BATCH);
        mem_fail_at(n);
        rc = train_job_run(&j, NULL);
        mem_fail_at(0);
        assert_true(rc == 0 || rc == ERR_NOMEM);
        train_job_release(&j);
    }
}

static void refused(struct train_job *j, int code, const char *word)
{
    const struct train_hooks hooks = {0};
    struct trainer *t = NULL;

    assert_int_equal(trainer_new(&j->cfg, j->student, j->teacher, j->train, j->val, &hooks, &t),
                     code);
    assert_non_null(strstr(err_message(), word));
    j->cfg = train_defaults();
}

static void test_contradictions_are_refused(void **state)
{
    struct train_job j;

    (void)state;
    train_job_init(&j, TINY_BN);
    j.cfg = train_defaults();
    j.cfg.clean = false;
    refused(&j, ERR_ARG, "all off");
    j.cfg.batch = 1, j.cfg.adversarial = true;
    refused(&j, ERR_ARG, "split");
    j.cfg.gamma = 0;
    refused(&j, ERR_ARG, "no loss");
    j.cfg.lr = -1;
    refused(&j, ERR_ARG, "lr");
    j.cfg.select = TRAIN_SELECT_PGD;
    refused(&j, ERR_ARG, "attack");
    j.cfg.stage = "A stage";
    refused(&j, ERR_ARG, "stage");
    j.cfg.trades = 1;
    refused(&j, ERR_ARG, "trades");
    j.cfg.bn_shards = 3;
    refused(&j, ERR_ARG, "divide 16");
    j.cfg.bn_shards = 16, j.cfg.batch = 31;
    refused(&j, ERR_ARG, "16 shards of batch norm need 2 images");
    j.cfg.bn_shards = 8, j.cfg.adversarial = true, j.cfg.batch = 30;
    refused(&j, ERR_ARG, "a pass has 15");
    j.cfg.extra_share = 0.5;
    refused(&j, ERR_ARG, "extra");
    j.cfg.extra = j.extra, j.cfg.extra_share = 1;
    refused(&j, ERR_ARG, "extra");
    j.cfg.signal[TRAIN_ADVERSARIAL] = (struct train_signal){j.teacher, 1};
    refused(&j, ERR_ARG, "branch 1");
    j.cfg.augment = TRAIN_AUGMENT_CORRUPT, j.cfg.corruptions = "fog,rain";
    refused(&j, ERR_ARG, "rain");
    graph_free(j.teacher);
    j.teacher = NULL;
    j.cfg.alpha = 1;
    refused(&j, ERR_ARG, "teacher");
    j.train->height = 9;
    refused(&j, ERR_DATA, "8");
    train_job_release(&j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* first: it forks, so there must be no second thread yet */
        cmocka_unit_test(test_kill_and_resume_give_the_same_bytes),
        cmocka_unit_test(test_threads_change_no_bit),
        cmocka_unit_test(test_interruption_and_resume_give_the_same_bytes),
        cmocka_unit_test(test_a_finished_run_resumes_to_itself),
        cmocka_unit_test(test_resume_refuses_another_training),
        cmocka_unit_test(test_divergence_is_a_numeric_error),
        cmocka_unit_test(test_every_failed_allocation_is_an_error),
        cmocka_unit_test(test_contradictions_are_refused),
    };
    cpu_set_threads(1); /* tiny work: threads would only wait; the thread tests ask for more */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
