/*
 * Budgets and their file: what a client was told it may begin is what the file says it has begun, whenever
 * the process is killed; a file that somebody changed is refused.
 */
#include "runtime/serve/ledger.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "tests/scratch.h"

#define NOON (20000 * 86400.0 + 43200)
#define DAY 86400.0

static const uint8_t ann[LEDGER_ID] = {1}, bob[LEDGER_ID] = {2};

static struct ledger *open_ledger(const char *path, struct ledger_rules rules, double now)
{
    struct ledger *l = NULL;

    assert_int_equal(ledger_open(path, &rules, now, &l), 0);
    return l;
}

static enum ledger_verdict try_begin(struct ledger *l, const uint8_t id[LEDGER_ID], int64_t images,
                                     double now)
{
    enum ledger_verdict v;
    double wait;

    assert_int_equal(ledger_begin(l, id, LEDGER_BEGIN_QUERY, images, now, &v, &wait), 0);
    return v;
}

static void test_a_budget_is_a_clients_own(void **state)
{
    struct ledger *l = open_ledger(NULL, (struct ledger_rules){3, 0, 0}, NOON);

    (void)state;
    assert_int_equal(try_begin(l, ann, 2, NOON), LEDGER_GO);
    assert_int_equal(try_begin(l, ann, 2, NOON), LEDGER_SPENT);
    assert_int_equal(try_begin(l, bob, 3, NOON), LEDGER_GO);
    assert_int_equal(try_begin(l, ann, 1, NOON), LEDGER_GO);
    assert_int_equal(try_begin(l, ann, 1, NOON + 43199), LEDGER_SPENT);
    assert_int_equal(try_begin(l, ann, 3, NOON + 43200), LEDGER_GO); /* midnight */
    assert_int_equal(ledger_begun(l, bob, NOON), 3);
    ledger_close(l);
}

static void test_rate(void **state)
{
    struct ledger *l = open_ledger(NULL, (struct ledger_rules){-1, 2, 0}, NOON);
    enum ledger_verdict v;
    double wait, now = NOON;
    int64_t begun = 0;

    (void)state;
    for (; now < NOON + 100; now += 0.01)
        begun += try_begin(l, ann, 1, now) == LEDGER_GO;
    assert_in_range(begun, 200, 202);
    assert_int_equal(ledger_begin(l, ann, LEDGER_BEGIN_PREPARE, 16, now + 5, &v, &wait), 0);
    assert_int_equal(v, LEDGER_GO); /* a lot runs into debt */
    assert_int_equal(ledger_begin(l, ann, LEDGER_BEGIN_QUERY, 1, now + 5, &v, &wait), 0);
    assert_int_equal(v, LEDGER_WAIT);
    assert_true(wait > 7.4 && wait < 7.6);
    assert_int_equal(try_begin(l, ann, 1, now + 12.4), LEDGER_WAIT);
    assert_int_equal(try_begin(l, ann, 1, now + 12.6), LEDGER_GO);
    assert_int_equal(try_begin(l, bob, 1, now), LEDGER_GO);
    ledger_close(l);
}

static void test_strikes_ban_for_ever(void **state)
{
    const struct ledger_rules rules = {-1, 0, 3};
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    struct ledger *l;

    (void)state;
    scratch_open(dir);
    scratch_path(dir, "ledger", path);
    for (int i = 0; i < 3; i++) {
        l = open_ledger(path, rules, NOON + i * DAY);
        assert_false(ledger_banned(l, ann));
        assert_int_equal(ledger_add(l, ann, LEDGER_STRIKE, 1, NOON + i * DAY), 0);
        ledger_close(l);
    }
    l = open_ledger(path, rules, NOON + 1000 * DAY);
    assert_true(ledger_banned(l, ann));
    assert_false(ledger_banned(l, bob));
    assert_int_equal(try_begin(l, ann, 1, NOON + 1000 * DAY), LEDGER_BANNED);
    ledger_close(l);
    scratch_close(dir);
}

/* A strike that the disk has no room for is a strike: the server that saw it does not forget it. */
static void test_a_full_disk_forgives_nothing(void **state)
{
    const struct ledger_rules rules = {-1, 0, 1};
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    struct rlimit before, none;
    struct stat st;

    (void)state;
    scratch_open(dir);
    struct ledger *l = open_ledger(scratch_path(dir, "ledger", path), rules, NOON);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    none = (struct rlimit){(rlim_t)st.st_size, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    int rc = ledger_add(l, ann, LEDGER_STRIKE, 1, NOON);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(rc, ERR_IO);
    assert_true(ledger_banned(l, ann));
    assert_int_equal(try_begin(l, ann, 1, NOON), LEDGER_BANNED);
    ledger_close(l);
    scratch_close(dir);
}

static void test_one_server_at_a_time(void **state)
{
    const struct ledger_rules rules = {-1, 0, 0};
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    struct ledger *l, *second = NULL;

    (void)state;
    scratch_open(dir);
    l = open_ledger(scratch_path(dir, "ledger", path), rules, NOON);
    assert_int_equal(ledger_open(path, &rules, NOON, &second), ERR_IO);
    assert_non_null(strstr(err_message(), "another server"));
    ledger_close(l);
    ledger_close(open_ledger(path, rules, NOON));
    scratch_close(dir);
}

/* ---- the file ----------------------------------------------------------------------------- */

struct text {
    char path[SCRATCH_TEXT];
    uint8_t *bytes;
    size_t n;
};

static void refused(const struct text *t, size_t n, const char *why)
{
    const struct ledger_rules rules = {10, 0, 0};
    struct ledger *l = NULL;

    scratch_write(t->path, t->bytes, n);
    assert_int_equal(ledger_open(t->path, &rules, NOON, &l), ERR_FORMAT);
    assert_non_null(strstr(err_message(), why));
}

static void test_a_changed_file_is_refused(void **state)
{
    const struct ledger_rules rules = {10, 0, 0};
    char dir[SCRATCH_TEXT];
    struct text t;
    struct ledger *l;
    size_t second, third;

    (void)state;
    scratch_open(dir);
    scratch_path(dir, "ledger", t.path);
    l = open_ledger(t.path, rules, NOON);
    for (int i = 1; i < 4; i++)
        assert_int_equal(try_begin(l, i == 2 ? bob : ann, i, NOON), LEDGER_GO);
    ledger_close(l);
    assert_int_equal(file_read(t.path, 1 << 16, &t.bytes, &t.n), 0);
    second = (size_t)((uint8_t *)memchr(t.bytes + 17, '\n', t.n) - t.bytes) + 1;
    third = (size_t)((uint8_t *)memchr(t.bytes + second, '\n', t.n) - t.bytes) + 1;

    /* every byte of it counts */
    for (size_t i = 0; i < t.n; i++) {
        t.bytes[i] ^= 1;
        refused(&t, t.n - (t.bytes[t.n - 1] == '\n' ? 0 : 1), "line");
        t.bytes[i] ^= 1;
        if (i + 2 == t.n) /* without its end the last line never was */
            break;
    }
    /* a line that is missing, or there twice */
    memmove(t.bytes + second, t.bytes + third, t.n - third);
    refused(&t, t.n - (third - second), "line 3: its check is wrong");
    mem_free(t.bytes);
    scratch_close(dir);
}

/* A line that was being written when the machine stopped was nobody's leave yet. */
static void test_a_torn_line_is_cut(void **state)
{
    const struct ledger_rules rules = {10, 0, 0};
    char dir[SCRATCH_TEXT];
    struct text t;
    struct ledger *l;
    size_t second;

    (void)state;
    scratch_open(dir);
    scratch_path(dir, "ledger", t.path);
    l = open_ledger(t.path, rules, NOON);
    assert_int_equal(try_begin(l, ann, 1, NOON), LEDGER_GO);
    assert_int_equal(try_begin(l, ann, 4, NOON), LEDGER_GO);
    ledger_close(l);
    assert_int_equal(file_read(t.path, 1 << 16, &t.bytes, &t.n), 0);
    second = (size_t)((uint8_t *)memchr(t.bytes + 17, '\n', t.n) - t.bytes) + 1;
    for (size_t n = second; n < t.n; n++) {
        scratch_write(t.path, t.bytes, n);
        l = open_ledger(t.path, rules, NOON);
        assert_int_equal(ledger_begun(l, ann, NOON), 1);
        assert_int_equal(try_begin(l, ann, 4, NOON), LEDGER_GO); /* as if it had never been */
        ledger_close(l);
        assert_true(scratch_holds(t.path, t.bytes, t.n));
    }
    mem_free(t.bytes);
    scratch_close(dir);
}

static void test_a_long_file_is_summed_up(void **state)
{
    const struct ledger_rules rules = {10, 0, 2};
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    uint8_t *bytes;
    size_t n;
    struct ledger *l;

    (void)state;
    scratch_open(dir);
    l = open_ledger(scratch_path(dir, "ledger", path), rules, NOON);
    assert_int_equal(try_begin(l, bob, 7, NOON - DAY), LEDGER_GO);
    assert_int_equal(try_begin(l, ann, 7, NOON), LEDGER_GO);
    assert_int_equal(ledger_add(l, ann, LEDGER_STRIKE, 1, NOON), 0);
    assert_int_equal(ledger_add(l, bob, LEDGER_STRIKE, 2, NOON), 0);
    for (size_t i = 0; i < LEDGER_COMPACT / 100; i++)
        assert_int_equal(ledger_add(l, ann, LEDGER_ANSWERED, 1, NOON), 0);
    ledger_close(l);
    for (int i = 0; i < 2; i++) {
        l = open_ledger(path, rules, NOON + 60);
        assert_int_equal(ledger_begun(l, ann, NOON), 7 + 3 * i);
        assert_int_equal(ledger_begun(l, bob, NOON), 0);
        assert_int_equal(ledger_strikes(l, ann), 1);
        assert_true(ledger_banned(l, bob));
        assert_int_equal(try_begin(l, ann, 4, NOON), LEDGER_SPENT);
        assert_int_equal(try_begin(l, ann, 3, NOON), i == 0 ? LEDGER_GO : LEDGER_SPENT);
        ledger_close(l);
    }
    assert_int_equal(file_read(path, 1 << 16, &bytes, &n), 0);
    assert_true(n < 1000);
    mem_free(bytes);
    scratch_close(dir);
}

/* ---- kill -9 ------------------------------------------------------------------------------ */

#define BUDGET 100

/* Begins as often as it may; says so, a byte each time, after it was told to go on. */
static void begin_until_killed(const char *path, int out)
{
    const struct ledger_rules rules = {BUDGET, 0, 0};
    struct ledger *l = open_ledger(path, rules, NOON);

    while (try_begin(l, ann, 1, NOON) == LEDGER_GO)
        if (write(out, "", 1) != 1)
            _exit(1);
    _exit(0);
}

/* How often a client of servers that are killed all the time is told to go on; *ended: the last server
 * found the budget spent. */
static int begun_in_a_life(const char *path, long us, bool *ended)
{
    char byte;
    int line[2], told = 0, status;
    pid_t child;

    assert_int_equal(pipe(line), 0);
    if ((child = fork()) == 0)
        begin_until_killed(path, line[1]);
    close(line[1]);
    nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL);
    kill(child, SIGKILL);
    while (read(line[0], &byte, 1) == 1)
        told++;
    assert_int_equal(waitpid(child, &status, 0), child);
    *ended = WIFEXITED(status);
    close(line[0]);
    return told;
}

static void test_kill_does_not_give_budget_back(void **state)
{
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    int told = 0, lives = 0;
    bool ended = false;

    (void)state;
    scratch_open(dir);
    scratch_path(dir, "ledger", path);
    for (; !ended && lives < 2000; lives++) {
        struct ledger *l;
        int64_t begun;
        told += begun_in_a_life(path, 2000 + 731 * (lives % 50), &ended);
        l = open_ledger(path, (struct ledger_rules){BUDGET, 0, 0}, NOON);
        begun = ledger_begun(l, ann, NOON);
        ledger_close(l);
        assert_true(told <= begun &&
                    begun <= told + lives + 1); /* charged, killed before it was told */
    }
    assert_true(ended && told <= BUDGET);
    printf("%d lives, told to begin %d times of %d\n", lives, told, BUDGET);
    scratch_close(dir);

    /* What the file is for: without it every life begins anew. */
    for (told = 0, lives = 0; told <= BUDGET && lives < 100; lives++)
        told += begun_in_a_life(NULL, 20000, &ended);
    assert_true(told > BUDGET);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_budget_is_a_clients_own),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_strikes_ban_for_ever),
        cmocka_unit_test(test_a_full_disk_forgives_nothing),
        cmocka_unit_test(test_one_server_at_a_time),
        cmocka_unit_test(test_a_changed_file_is_refused),
        cmocka_unit_test(test_a_torn_line_is_cut),
        cmocka_unit_test(test_a_long_file_is_summed_up),
        cmocka_unit_test(test_kill_does_not_give_budget_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
