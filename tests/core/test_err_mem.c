/* core/err and core/mem: messages, zeroed memory, arenas, the failure hook. */
#include "core/base/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#undef fail /* cmocka's macro; ours is under test */

static void test_fail_stores_message_and_code(void **state)
{
    (void)state;
    errno = 7;
    assert_int_equal(fail(ERR_LIMIT, "node '%s': %d inputs", "conv", 9), ERR_LIMIT);
    assert_string_equal(err_message(), "node 'conv': 9 inputs");
    assert_int_equal(errno, 7);
    assert_int_equal(fail(ERR_IO, "again: %s", err_message()), ERR_IO);
    assert_string_equal(err_message(), "again: node 'conv': 9 inputs");
}

static void test_fail_context_goes_in_front(void **state)
{
    (void)state;
    fail(ERR_IO, "no such file");
    assert_int_equal(fail_context(ERR_IO, "model '%s'", "a"), ERR_IO);
    assert_string_equal(err_message(), "model 'a': no such file");
}

static void test_long_messages_are_cut(void **state)
{
    char text[3000];

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    fail(ERR_IO, "%s", text);
    assert_int_equal(strlen(err_message()), 1023);
    fail_context(ERR_IO, "front");
    assert_int_equal(strlen(err_message()), 1023);
    assert_memory_equal(err_message(), "front: xxx", 10);
    fail_context(ERR_IO, "%s", text);
    assert_int_equal(strlen(err_message()), 1023);
    fail(ERR_IO, "short");
    for (size_t n = 1010; n < 1030; n++) { /* every place where the cut may fall */
        fail(ERR_IO, "short");
        fail_context(ERR_IO, "%.*s", (int)n, text);
        assert_in_range(strlen(err_message()), 1017, 1023);
    }
}

/* A name out of a file must not clear the screen, nor begin a line of its own. */
static void test_messages_hold_no_control_characters(void **state)
{
    char text[] = "a\tb\x7f\xc2\x9b \xc3\xa9\xc2";

    (void)state;
    fail(ERR_DATA, "'%s': no class", "x\033[2J\nlinnet: all is well");
    assert_string_equal(err_message(), "'x?[2J?linnet: all is well': no class");
    fail_context(ERR_DATA, "shard '%s'", "\r\a");
    assert_string_equal(err_message(), "shard '?"
                                       "?': 'x?[2J?linnet: all is well': no class");
    err_plain(text);
    assert_string_equal(text, "a?b?"
                              "?? \xc3\xa9\xc2");
}

static void test_err_name_is_total(void **state)
{
    (void)state;
    assert_string_equal(err_name(0), "no error");
    assert_string_equal(err_name(ERR_NOMEM), "out of memory");
    assert_string_equal(err_name(ERR_INTERRUPTED), "interrupted");
    for (int code = -100; code <= 100; code++)
        assert_non_null(err_name(code));
    assert_string_equal(err_name(1), "unknown error");
    assert_string_equal(err_name(-99), "unknown error");
}

static void test_messages_are_per_thread(void **state)
{
    (void)state;
    fail(ERR_IO, "mine");
#pragma omp parallel num_threads(2)
    {
#pragma omp barrier
        fail(ERR_IO, "thread");
#pragma omp barrier
        fail_context(ERR_IO, "one");
        if (strcmp(err_message(), "one: thread") != 0)
            fail(ERR_IO, "mixed up");
    }
    assert_string_equal(err_message(), "one: thread");
}

static int all_zero(const void *p, size_t n)
{
    const unsigned char *b = p;

    for (size_t i = 0; i < n; i++)
        if (b[i] != 0)
            return 0;
    return 1;
}

static void test_memory_is_zeroed_and_aligned(void **state)
{
    (void)state;
    for (size_t n = 0; n < 200; n += 7) {
        char *a = mem_array(n, 3), *b = mem_aligned(n, 4);
        assert_non_null(a);
        assert_non_null(b);
        assert_true(all_zero(a, 3 * n) && all_zero(b, 4 * n));
        assert_int_equal((uintptr_t)b % 64, 0);
        mem_free(a);
        mem_free(b);
    }
}

static void test_overflow_is_a_limit(void **state)
{
    (void)state;
    assert_null(mem_array(SIZE_MAX / 2, 3));
    assert_non_null(strstr(err_message(), "address space"));
    assert_null(mem_array(SIZE_MAX, 1));
    assert_null(mem_aligned((size_t)1 << 62, 4));
    assert_null(mem_resize(NULL, SIZE_MAX, 2));
}

/* Sanitizers end the program instead of returning NULL. */
static void test_absurd_sizes_are_out_of_memory(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip();
#else
    const size_t huge = (size_t)1 << 60;
    void *p = mem_array(1, 1);
    assert_null(mem_array(huge, 1));
    assert_string_equal(err_message(), "out of memory (1152921504606846976 bytes)");
    assert_null(mem_aligned(huge, 1));
    assert_null(mem_resize(p, huge, 1));
    mem_free(p);
    struct arena *a = NULL;
    assert_int_equal(arena_new(0, &a), 0);
    assert_null(arena_array(a, huge, 1));
    assert_int_equal(arena_used(a), 0);
    arena_free(a);
#endif
}

static void test_resize_keeps_content(void **state)
{
    (void)state;
    char *p = mem_strdup("linnet");
    assert_string_equal(p, "linnet");
    p = mem_resize(p, 100, 1);
    assert_string_equal(p, "linnet");
    mem_fail_at(1);
    assert_null(mem_resize(p, 200, 1));
    mem_fail_at(0);
    assert_string_equal(p, "linnet");
    mem_free(p);
    mem_free(mem_resize(NULL, 0, 8));
    mem_free(NULL);
}

/* Up to where large blocks grow in place, and beyond. */
static void test_an_aligned_block_grows(void **state)
{
    const size_t most = (size_t)80 << 20;
    unsigned char *p = NULL;
    void *block = NULL;

    (void)state;
    for (size_t used = 0, n = 1000; n < most; used = n, n *= 3) {
        assert_int_equal(mem_aligned_grow(&block, used, n, 1), 0);
        assert_int_equal((uintptr_t)block % 64, 0);
        p = block;
        for (size_t k = used; k < n; k++)
            p[k] = (unsigned char)(k % 251);
        for (size_t k = 0; k < n; k += 7)
            assert_true(p[k] == k % 251);
    }
    mem_fail_at(1);
    assert_int_equal(mem_aligned_grow(&block, most / 2, most, 1), ERR_NOMEM);
    mem_fail_at(0);
    assert_ptr_equal(block, p);
    assert_int_equal(mem_aligned_grow(&block, 10, SIZE_MAX, 2), ERR_NOMEM);
    assert_int_equal(p[9], 9);
    mem_free(block);
}

static void test_hook_fails_the_nth(void **state)
{
    (void)state;
    mem_fail_at(3);
    void *a = mem_array(1, 1), *b = mem_aligned(1, 1);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(mem_strdup("x"));
    assert_non_null(strstr(err_message(), "refused by the test"));
    assert_int_equal(mem_count(), 3);
    void *c = mem_array(1, 1); /* only the third fails */
    assert_non_null(c);
    mem_fail_at(0);
    assert_int_equal(mem_count(), 0);
    mem_free(a);
    mem_free(b);
    mem_free(c);
}

/* VmFlags of the mapping that holds p, as /proc tells; "" where it tells nothing. */
static void flags_of(const void *p, char flags[512])
{
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[512];
    unsigned long from, to;
    bool inside = false;

    *flags = '\0';
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = (unsigned long)(uintptr_t)p >= from && (unsigned long)(uintptr_t)p < to;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            strcpy(flags, line);
    }
    if (f != NULL)
        fclose(f);
}

static void test_secrets_stay_out_of_dumps(void **state)
{
    const size_t n = 64 << 10;
    char *p = secret_array(n, 1), *plain = mem_aligned(n, 1), flags[512];
    long unlocked = secret_unlocked();

    (void)state;
    assert_true(p != NULL && plain != NULL);
    flags_of(plain + n / 2, flags);
    if (*flags == '\0') {
        print_message("skipped: no flags in /proc/self/smaps\n");
    } else {
        assert_null(strstr(flags, " dd"));
        flags_of(p + n / 2, flags);
        assert_non_null(strstr(flags, " dd"));
#ifndef __SANITIZE_ADDRESS__ /* it does not lock */
        if (unlocked == 0)
            assert_non_null(strstr(flags, " lo"));
#endif
    }
    secret_free(p);
    mem_free(plain);
    p = secret_array(64, 1); /* too small for a page of its own */
    assert_non_null(p);
    assert_int_equal(secret_unlocked(), unlocked);
    secret_free(p);
}

static void release_count(int *n)
{
    ++*n;
}

/* Leaves by TRY or at its end, with a secret that it keeps or hands on. */
static int use_scoped(int rc, bool keep, uint8_t **out, int *released)
{
    OWNED char *text = mem_strdup("text");
    SECRET uint8_t *secret = secret_array(8, 1);
    SECRET uint8_t *none = NULL;
    SCOPED(release_count) int n = *released;

    *out = keep ? mem_hand_on(&secret) : NULL;
    TRY(rc);
    *released = n + (text != NULL && none == NULL);
    return 0;
}

static void test_scoped_memory_goes_on_every_way(void **state)
{
    uint8_t *kept;
    int released = 0;

    (void)state;
    assert_int_equal(use_scoped(ERR_IO, false, &kept, &released), ERR_IO);
    assert_int_equal(secret_alive(), 0);
    assert_int_equal(use_scoped(0, true, &kept, &released), 0);
    assert_int_equal(secret_alive(), 1);
    assert_int_equal(released, 1);
    secret_free(kept);
    assert_int_equal(secret_alive(), 0);
}

static void test_arena_gives_disjoint_zeroed_aligned_pieces(void **state)
{
    enum { N = 400 };
    unsigned char *piece[N];
    size_t size[N], total = 0;
    struct arena *a = NULL;

    (void)state;
    assert_int_equal(arena_new(0, &a), 0);
    for (size_t i = 0; i < N; i++) {
        size[i] = i % 50 == 49 ? 100000 : (i * 37) % 300;
        piece[i] = arena_array(a, size[i], 1);
        assert_non_null(piece[i]);
        assert_int_equal((uintptr_t)piece[i] % (size[i] >= 64 ? 64 : 16), 0);
        assert_true(all_zero(piece[i], size[i]));
        memset(piece[i], (int)(i & 0xff), size[i]);
        total += size[i];
    }
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < size[i]; k++)
            assert_int_equal(piece[i][k], i & 0xff);
    assert_in_range(arena_used(a), total, total + N * 64);
    arena_free(a);
    arena_free(NULL);
}

static void test_arena_limit(void **state)
{
    struct arena *a = NULL;

    (void)state;
    assert_int_equal(arena_new(1024, &a), 0);
    assert_non_null(arena_array(a, 1000, 1));
    assert_int_equal(arena_used(a), 1024);
    assert_null(arena_array(a, 0, 1)); /* even nothing takes a place */
    assert_string_equal(err_message(),
                        "0 bytes more exceed the memory limit of 1024 bytes (1024 in use)");
    assert_null(arena_array(a, 2000, 1));
    assert_null(arena_array(a, SIZE_MAX, 2));
    arena_free(a);
}

static void test_arena_text(void **state)
{
    struct arena *a = NULL;

    (void)state;
    assert_int_equal(arena_new(0, &a), 0);
    assert_string_equal(arena_strdup(a, "abc"), "abc");
    assert_string_equal(arena_printf(a, "%s-%d", "x", 42), "x-42");
    assert_string_equal(arena_printf(a, "%s", ""), "");
    mem_fail_at(1);
    assert_null(arena_strdup(a, "abc"));
    mem_fail_at(1);
    assert_null(arena_printf(a, "%d", 1));
    mem_fail_at(0);
    arena_free(a);
    mem_fail_at(1);
    assert_int_equal(arena_new(0, &a), ERR_NOMEM);
    mem_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fail_stores_message_and_code),
        cmocka_unit_test(test_fail_context_goes_in_front),
        cmocka_unit_test(test_long_messages_are_cut),
        cmocka_unit_test(test_messages_hold_no_control_characters),
        cmocka_unit_test(test_err_name_is_total),
        cmocka_unit_test(test_messages_are_per_thread),
        cmocka_unit_test(test_memory_is_zeroed_and_aligned),
        cmocka_unit_test(test_overflow_is_a_limit),
        cmocka_unit_test(test_absurd_sizes_are_out_of_memory),
        cmocka_unit_test(test_resize_keeps_content),
        cmocka_unit_test(test_an_aligned_block_grows),
        cmocka_unit_test(test_hook_fails_the_nth),
        cmocka_unit_test(test_secrets_stay_out_of_dumps),
        cmocka_unit_test(test_scoped_memory_goes_on_every_way),
        cmocka_unit_test(test_arena_gives_disjoint_zeroed_aligned_pieces),
        cmocka_unit_test(test_arena_limit),
        cmocka_unit_test(test_arena_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
