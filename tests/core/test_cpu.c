/* core/cpu: environment, thread counts, clock. */
#include "core/base/cpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_path_follows_the_environment(void **state)
{
    (void)state;
    unsetenv("LINNET_CPU");
    enum cpu_path best = cpu_best_path();
    for (enum cpu_path p = CPU_GENERIC; p <= CPU_AVX512; p++) {
        setenv("LINNET_CPU", cpu_path_name(p), 1);
        assert_int_equal(cpu_best_path(), p < best ? p : best); /* never above the CPU */
    }
    setenv("LINNET_CPU", "quantum", 1);
    assert_int_equal(cpu_best_path(), best);
    unsetenv("LINNET_CPU");
}

static void test_path_names(void **state)
{
    (void)state;
    assert_string_equal(cpu_path_name(CPU_GENERIC), "generic");
    assert_string_equal(cpu_path_name(CPU_AVX2), "avx2");
    assert_string_equal(cpu_path_name(CPU_AVX512), "avx512");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path_follows_the_environment),
        cmocka_unit_test(test_path_names),
        cmocka_unit_test(test_threads_can_be_set),
        cmocka_unit_test(test_regions_use_what_was_set),
        cmocka_unit_test(test_clock_moves_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
