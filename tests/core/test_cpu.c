/* core/base/cpu: instruction sets, environment, thread counts, clock, memory. */
#define _DEFAULT_SOURCE /* sigaltstack */
#include "core/base/cpu.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/scratch.h"

static void test_path_follows_the_environment(void **state)
{
    (void)state;
    unsetenv("LINNET_CPU");
    enum cpu_path best = cpu_best_path(), level = cpu_level();
    assert_true(best <= CPU_AVX512 && best <= level);
    assert_int_equal(cpu_check(), 0);
    for (enum cpu_path p = CPU_GENERIC; p <= CPU_AMX; p++) {
        setenv("LINNET_CPU", cpu_path_name(p), 1);
        assert_int_equal(cpu_check(), 0);
        assert_int_equal(cpu_best_path(), p < best ? p : best); /* never above the CPU */
        assert_int_equal(cpu_level(), p < level ? p : level);
    }
    unsetenv("LINNET_CPU");
}

static void test_other_words_are_refused(void **state)
{
    static const char *const words[] = {"quantum", "", "AMX", "avx512 ", "amx,avx2"};
    char message[100];

    (void)state;
    enum cpu_path best = cpu_best_path();
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        setenv("LINNET_CPU", words[i], 1);
        assert_int_equal(cpu_check(), ERR_ARG);
        snprintf(message, sizeof message,
                 "LINNET_CPU=%s: must be generic, avx2, avx512, avx512bf16 or amx", words[i]);
        assert_string_equal(err_message(), message);
        assert_int_equal(cpu_best_path(), best);
    }
    unsetenv("LINNET_CPU");
}

static void missing(struct cpu_amx a, const char *part)
{
    char text[CPU_TEXT];
    const char *why = cpu_amx_missing(a, text);

    if (part == NULL ? why != NULL : why == NULL || strstr(why, part) == NULL)
        fail_msg("'%s' instead of '%s'", why ? why : "usable", part ? part : "usable");
}

static void test_why_there_is_no_amx(void **state)
{
    (void)state;
    missing((struct cpu_amx){true, true, 0}, NULL);
    missing((struct cpu_amx){false, false, 0}, "the CPU does not have it");
    missing((struct cpu_amx){true, false, 0}, "does not save tile registers");
    missing((struct cpu_amx){true, true, ENOSPC}, "signal stack (sigaltstack) that is too small");
    missing((struct cpu_amx){true, true, EINVAL}, "older than 5.16");
    missing((struct cpu_amx){true, true, EPERM}, "no permission: Operation not permitted");
}

/* A signal stack of the old size, set before anybody asked, takes AMX away and nothing else. In a
 * child, because the answer is kept for the life of a process; the first test, for the same reason. */
static void test_a_small_signal_stack_takes_amx_away(void **state)
{
    enum { REFUSED, GRANTED, NO_AMX };
    pid_t child = fork();
    int status;

    (void)state;
    assert_true(child >= 0);
    if (child == 0) {
        static char small[8192];
        const stack_t old = {.ss_sp = small, .ss_size = sizeof small};
        char text[CPU_TEXT];

        if (sigaltstack(&old, NULL) != 0 || cpu_level() == CPU_AMX)
            _exit(GRANTED);
        const bool refused = strstr(cpu_describe(text), "sigaltstack") != NULL;
        _exit(refused && cpu_level() == CPU_AVX512BF16 ? REFUSED : NO_AMX);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) != GRANTED);
    if (WEXITSTATUS(status) == NO_AMX)
        print_message("skipped: this machine has no AMX\n");
}

static void test_the_level_is_described(void **state)
{
    char text[CPU_TEXT], all[CPU_TEXT];

    (void)state;
    cpu_describe(all);
    assert_ptr_equal(strstr(all, cpu_path_name(cpu_level())), all);
    assert_true((cpu_level() == CPU_AMX) == (strstr(all, "; no amx: ") == NULL));
    setenv("LINNET_CPU", "generic", 1);
    cpu_describe(text);
    unsetenv("LINNET_CPU");
    assert_ptr_equal(strstr(text, "generic"), text);
    if (cpu_level() > CPU_GENERIC)
        assert_non_null(strstr(text, "as LINNET_CPU asks; this machine has"));
}

static void test_path_names(void **state)
{
    (void)state;
    assert_string_equal(cpu_path_name(CPU_GENERIC), "generic");
    assert_string_equal(cpu_path_name(CPU_AVX2), "avx2");
    assert_string_equal(cpu_path_name(CPU_AVX512), "avx512");
    assert_string_equal(cpu_path_name(CPU_AVX512BF16), "avx512bf16");
    assert_string_equal(cpu_path_name(CPU_AMX), "amx");
}

static void test_threads_can_be_set(void **state)
{
    (void)state;
    unsetenv("OMP_NUM_THREADS");
    cpu_set_threads(0);
    int usual = cpu_threads();
    assert_true(usual >= 1);
    cpu_set_threads(3);
    assert_int_equal(cpu_threads(), 3);
    cpu_set_threads(-1);
    assert_int_equal(cpu_threads(), usual);
    setenv("OMP_NUM_THREADS", "5,2", 1);
    cpu_set_threads(0);
    assert_int_equal(cpu_threads(), 5);
    setenv("OMP_NUM_THREADS", "nonsense", 1);
    cpu_set_threads(0);
    assert_int_equal(cpu_threads(), usual);
    unsetenv("OMP_NUM_THREADS");
}

static void test_regions_use_what_was_set(void **state)
{
    int seen[4] = {0};

    (void)state;
    assert_int_equal(cpu_thread_index(), 0);
    cpu_set_threads(4);
#pragma omp parallel
#pragma omp atomic
    seen[cpu_thread_index() & 3]++;
    for (int i = 0; i < 4; i++)
        assert_int_equal(seen[i], 1);
    cpu_set_threads(0);
}

static void test_clock_moves_forward(void **state)
{
    (void)state;
    double start = cpu_seconds(), last = start;
    while (last - start < 1e-3) {
        double now = cpu_seconds();
        assert_true(now >= last);
        last = now;
    }
}

/* ---- memory -------------------------------------------------------------------------------- */

static void put(const char *root, const char *name, const char *text)
{
    char path[SCRATCH_TEXT];

    scratch_write(scratch_path(root, name, path), text, strlen(text));
}

static void test_memory_is_what_may_be_taken(void **state)
{
    static const char *const folders[] = {"proc",
                                          "proc/self",
                                          "sys",
                                          "sys/fs",
                                          "sys/fs/cgroup",
                                          "sys/fs/cgroup/a",
                                          "sys/fs/cgroup/a/b"};
    static const char *const files[] = {"proc/meminfo", "proc/self/cgroup",
                                        "sys/fs/cgroup/memory.max", "sys/fs/cgroup/a/memory.max",
                                        "sys/fs/cgroup/a/b/memory.max"};
    const int n = sizeof folders / sizeof *folders;
    char root[SCRATCH_TEXT], path[SCRATCH_TEXT];

    (void)state;
    assert_true(cpu_memory() > 0);
    scratch_open(root);
    assert_int_equal(cpu_memory_at(root), 0); /* nothing is known */
    for (int i = 0; i < n; i++)
        assert_int_equal(mkdir(scratch_path(root, folders[i], path), 0700), 0);
    put(root, "proc/meminfo", "MemTotal:  900 kB\nMemAvailable:    500 kB\nSwapTotal: 7 kB\n");
    assert_int_equal(cpu_memory_at(root), 500 * 1024); /* and no control group */
    put(root, "proc/self/cgroup", "1:name=x:/other\n0::/a/b\n");
    put(root, "sys/fs/cgroup/memory.max", "max\n");
    assert_int_equal(cpu_memory_at(root), 500 * 1024);
    put(root, "sys/fs/cgroup/a/b/memory.max", "400000\n");
    assert_int_equal(cpu_memory_at(root), 400000);
    put(root, "sys/fs/cgroup/a/memory.max", "300000\n"); /* of the group above */
    assert_int_equal(cpu_memory_at(root), 300000);
    put(root, "sys/fs/cgroup/a/memory.max", "700000\n");
    assert_int_equal(cpu_memory_at(root), 400000);
    put(root, "proc/self/cgroup", "0::/\n");
    assert_int_equal(cpu_memory_at(root), 500 * 1024);
    put(root, "sys/fs/cgroup/memory.max", "200000\n"); /* of a container, seen from inside */
    assert_int_equal(cpu_memory_at(root), 200000);
    put(root, "proc/meminfo", "MemAvailable: many kB\n");
    assert_int_equal(cpu_memory_at(root), 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        remove(scratch_path(root, files[i], path));
    for (int i = n; i-- > 0;)
        remove(scratch_path(root, folders[i], path));
    scratch_close(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_small_signal_stack_takes_amx_away), /* first */
        cmocka_unit_test(test_path_follows_the_environment),
        cmocka_unit_test(test_other_words_are_refused),
        cmocka_unit_test(test_why_there_is_no_amx),
        cmocka_unit_test(test_the_level_is_described),
        cmocka_unit_test(test_path_names),
        cmocka_unit_test(test_threads_can_be_set),
        cmocka_unit_test(test_regions_use_what_was_set),
        cmocka_unit_test(test_clock_moves_forward),
        cmocka_unit_test(test_memory_is_what_may_be_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
