/*
 * Reading ahead in a sealed file: every piece comes as it was sealed, in any order; those after the reader's are
 * opened before they are asked for, and no more of them than stated; what is wrong in a file is met where it
 * is asked for, by the message that a reader without a thread gives.
 */
#define _GNU_SOURCE /* pthread_setattr_default_np */
#include "runtime/crypto/pieces.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "tests/scratch.h"

#define PIECES 60
#define SIZE ((PIECES - 1) * SEAL_PIECE + 77)
#define ORIGIN 11
#define SEALED (SEAL_PIECE + SEAL_TAG)

struct file {
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    int fd;
    struct seal *seal;
    struct pieces *p;
};

static uint8_t value(uint64_t i, uint64_t k)
{
    return (uint8_t)(i * 37 + k * 5 + (k >> 8));
}

static void write_pieces(struct file *f, uint64_t size)
{
    static uint8_t text[SEAL_PIECE], sealed[SEALED];

    assert_int_equal(pwrite(f->fd, "before them", ORIGIN, 0), ORIGIN);
    for (uint64_t i = 0; i * SEAL_PIECE < size; i++) {
        size_t n = seal_piece_bytes(size, i);
        for (size_t k = 0; k < n; k++)
            text[k] = value(i, k);
        assert_int_equal(seal_close(f->seal, i, seal_is_last(size, i), text, n, sealed), 0);
        assert_int_equal(pwrite(f->fd, sealed, n + SEAL_TAG, (off_t)(ORIGIN + i * SEALED)),
                         n + SEAL_TAG);
    }
}

static void open_pieces(struct file *f, bool check, uint64_t size)
{
    const struct pieces_file of = {f->fd, ORIGIN, size, f->seal, check, "the file"};

    assert_int_equal(pieces_open(&of, &f->p), 0);
}

static void make_file(struct file *f, uint64_t size)
{
    static const uint8_t key[SEAL_KEY] = {3}, salt[SEAL_SALT] = {4};

    *f = (struct file){.fd = -1};
    scratch_open(f->dir);
    f->fd = open(scratch_path(f->dir, "pieces", f->path), O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(f->fd >= 0);
    assert_int_equal(seal_new(key, salt, "head", 4, &f->seal), 0);
    write_pieces(f, size);
}

static void remove_file(struct file *f)
{
    pieces_close(f->p);
    seal_free(f->seal);
    close(f->fd);
    remove(f->path);
    scratch_close(f->dir);
    assert_int_equal(secret_alive(), 0);
}

static int ask(struct pieces *p, uint64_t size, uint64_t i)
{
    const uint8_t *bytes;

    TRY(pieces_at(p, i, &bytes));
    for (size_t k = 0; k < seal_piece_bytes(size, i); k++)
        if (bytes[k] != value(i, k))
            return ERR_VERIFY;
    return 0;
}

/* Until piece i is opened ahead. */
static void wait_for(struct pieces *p, uint64_t i)
{
    const struct timespec a_moment = {0, 1000000};

    for (int k = 0; pieces_ahead(p, i) != 1; k++) {
        assert_true(k < 20000);
        nanosleep(&a_moment, NULL);
    }
}

/* ---- what comes ---------------------------------------------------------------------------- */

static void test_two_lines(void **state)
{
    const uint64_t half = PIECES / 2;
    struct file f;

    (void)state;
    make_file(&f, SIZE);
    for (int pause = 0; pause < 2; pause++) {
        open_pieces(&f, false, SIZE);
        for (uint64_t i = 0; i < half; i++) {
            assert_int_equal(ask(f.p, SIZE, i), 0);
            assert_int_equal(ask(f.p, SIZE, half + i), 0);
            assert_int_equal(ask(f.p, SIZE, i), 0);
            if (pause && i == 0)
                wait_for(f.p, half + PIECES_AHEAD);
        }
        pieces_close(f.p);
    }
    f.p = NULL;
    remove_file(&f);
}

static void test_any_order(void **state)
{
    struct file f;
    uint64_t at = 1;

    (void)state;
    make_file(&f, SIZE);
    open_pieces(&f, false, SIZE);
    for (int i = 0; i < 400; i++, at = (at * 29 + 7) % 10007)
        assert_int_equal(ask(f.p, SIZE, at % PIECES), 0);
    for (uint64_t i = PIECES; i-- > 0;)
        assert_int_equal(ask(f.p, SIZE, i), 0);
    for (uint64_t i = 0; i < PIECES; i += 5) /* a line that jumps */
        assert_int_equal(ask(f.p, SIZE, i), 0);
    remove_file(&f);
}

/* One line, then the other, then back where the first one was: no piece is opened twice. */
static void test_a_line_keeps_its_piece(void **state)
{
    struct file f;

    (void)state;
    make_file(&f, SIZE);
    open_pieces(&f, false, SIZE);
    assert_int_equal(ask(f.p, SIZE, 0), 0);
    assert_int_equal(ask(f.p, SIZE, 40), 0);
    assert_int_equal(ask(f.p, SIZE, 0), 0);
    assert_int_equal(ask(f.p, SIZE, 1), 0); /* after 0, not in the place of 40 */
    wait_for(f.p, PIECES_AHEAD);
    wait_for(f.p, 40 + PIECES_AHEAD);
    assert_int_equal(ftruncate(f.fd, 0), 0);
    assert_int_equal(ask(f.p, SIZE, 40), 0);
    remove_file(&f);
}

/* What is there when the file goes was opened ahead: so many pieces and no more. */
static void test_it_is_ahead(void **state)
{
    struct file f;

    (void)state;
    make_file(&f, SIZE);
    open_pieces(&f, false, SIZE);
    assert_int_equal(pieces_ahead(f.p, 0), 0);
    assert_int_equal(ask(f.p, SIZE, 3), 0);
    wait_for(f.p, 3 + PIECES_AHEAD);
    assert_int_equal(ftruncate(f.fd, 0), 0);
    for (uint64_t i = 4; i < 4 + PIECES_AHEAD; i++)
        assert_int_equal(ask(f.p, SIZE, i), 0);
    assert_int_equal(ask(f.p, SIZE, 4 + PIECES_AHEAD), ERR_FORMAT);
    assert_string_equal(err_message(), "'the file': shorter than it must be");
    remove_file(&f);
}

/* A line that goes back begins anew. */
static void test_it_is_ahead_after_a_way_back(void **state)
{
    struct file f;

    (void)state;
    make_file(&f, SIZE);
    open_pieces(&f, false, SIZE);
    assert_int_equal(ask(f.p, SIZE, 30), 0);
    wait_for(f.p, 30 + PIECES_AHEAD);
    assert_int_equal(ask(f.p, SIZE, PIECES - 1), 0);
    assert_int_equal(ask(f.p, SIZE, 3), 0);
    wait_for(f.p, 3 + PIECES_AHEAD);
    assert_int_equal(ftruncate(f.fd, 0), 0);
    for (uint64_t i = 4; i < 4 + PIECES_AHEAD; i++)
        assert_int_equal(ask(f.p, SIZE, i), 0);
    remove_file(&f);
}

static void test_few_pieces(void **state)
{
    static const uint64_t sizes[] = {1, SEAL_PIECE, 2 * SEAL_PIECE, 2 * SEAL_PIECE + 1};
    struct file f;

    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        make_file(&f, sizes[s]);
        open_pieces(&f, false, sizes[s]);
        assert_true((pieces_ahead(f.p, 0) < 0) == (sizes[s] <= 2 * SEAL_PIECE));
        for (uint64_t i = 0; i * SEAL_PIECE < sizes[s]; i++)
            assert_int_equal(ask(f.p, sizes[s], i), 0);
        remove_file(&f);
    }
}

/* ---- what goes wrong ------------------------------------------------------------------------ */

enum { BAD = 9 };

/* All other pieces come, also those that the thread opens after it. */
static void check_one_bad_piece(struct file *f, bool check, bool thread)
{
    open_pieces(f, check, SIZE);
    assert_true((pieces_ahead(f->p, 0) >= 0) == thread);
    assert_int_equal(ask(f->p, SIZE, BAD - 2), 0);
    if (thread)
        wait_for(f->p, BAD - 2 + PIECES_AHEAD);
    assert_int_equal(ask(f->p, SIZE, BAD - 1), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ask(f->p, SIZE, BAD), ERR_FORMAT);
        assert_string_equal(err_message(),
                            check ? "'the file': damaged: wrong checksum"
                                  : "'the file': sealed under another key, or changed");
    }
    for (uint64_t i = BAD + 1; i < PIECES; i++)
        assert_int_equal(ask(f->p, SIZE, i), 0);
    pieces_close(f->p);
    f->p = NULL;
}

static void change(struct file *f, off_t at)
{
    uint8_t b;

    assert_int_equal(pread(f->fd, &b, 1, at), 1);
    b ^= 1;
    assert_int_equal(pwrite(f->fd, &b, 1, at), 1);
}

/* The system gives no thread whose stack does not fit into the address space. */
static void without_threads(bool on)
{
    static pthread_attr_t usual;
    pthread_attr_t huge;

    if (!on) {
        assert_int_equal(pthread_setattr_default_np(&usual), 0);
        return;
    }
    assert_int_equal(pthread_getattr_default_np(&usual), 0);
    assert_int_equal(pthread_getattr_default_np(&huge), 0);
    assert_int_equal(pthread_attr_setstacksize(&huge, (size_t)1 << 52), 0);
    assert_int_equal(pthread_setattr_default_np(&huge), 0);
    pthread_attr_destroy(&huge);
}

static void test_a_changed_piece(void **state)
{
    static const off_t places[] = {0, SEAL_PIECE / 2, SEALED - 1}; /* its text, its tag */
    struct file f;

    (void)state;
    make_file(&f, SIZE);
    for (size_t k = 0; k < sizeof places / sizeof *places; k++) {
        change(&f, ORIGIN + BAD * (off_t)SEALED + places[k]);
        for (int i = 0; i < 4; i++) {
            without_threads(i & 1);
            check_one_bad_piece(&f, i & 2, !(i & 1));
            if (i & 1)
                without_threads(false);
        }
        change(&f, ORIGIN + BAD * (off_t)SEALED + places[k]);
    }
    remove_file(&f);
}

static void test_a_file_that_was_cut(void **state)
{
    struct file f;

    (void)state;
    for (int i = 0; i < 2; i++) {
        make_file(&f, SIZE);
        assert_int_equal(ftruncate(f.fd, ORIGIN + (BAD + 1) * (off_t)SEALED - 1), 0);
        if (i)
            without_threads(true);
        open_pieces(&f, false, SIZE);
        if (i)
            without_threads(false);
        for (uint64_t k = 0; k < BAD; k++)
            assert_int_equal(ask(f.p, SIZE, k), 0);
        assert_int_equal(ask(f.p, SIZE, BAD), ERR_FORMAT);
        assert_string_equal(err_message(), "'the file': shorter than it must be");
        assert_int_equal(ask(f.p, SIZE, BAD + 1), ERR_FORMAT);
        remove_file(&f);
    }
}

static void test_it_does_without_a_thread(void **state)
{
    struct file f;

    (void)state;
    make_file(&f, SIZE);
    without_threads(true);
    open_pieces(&f, false, SIZE);
    without_threads(false);
    assert_int_equal(pieces_ahead(f.p, 0), -1);
    for (uint64_t i = 0; i < PIECES; i++)
        assert_int_equal(ask(f.p, SIZE, i), 0);
    remove_file(&f);
}

static void test_memory_runs_out(void **state)
{
    const uint64_t sizes[] = {SIZE, SEAL_PIECE};
    struct file f;

    (void)state;
    for (int s = 0; s < 2; s++) {
        make_file(&f, sizes[s]);
        const struct pieces_file of = {f.fd, ORIGIN, sizes[s], f.seal, false, "the file"};
        int rc = ERR_NOMEM, n = 0;

        while (rc < 0) {
            mem_fail_at(++n);
            rc = pieces_open(&of, &f.p);
            mem_fail_at(0);
            assert_true(rc == 0 || rc == ERR_NOMEM);
        }
        assert_true(n > 4);
        remove_file(&f);
    }
}

/* Whatever the thread is at. */
static void test_closing_in_the_middle(void **state)
{
    struct file f;

    (void)state;
    make_file(&f, SIZE);
    for (uint64_t i = 0; i < 100; i++) {
        open_pieces(&f, false, SIZE);
        for (uint64_t k = 0; k < i % 4; k++)
            assert_int_equal(ask(f.p, SIZE, 7 * k), 0);
        pieces_close(f.p);
    }
    f.p = NULL;
    remove_file(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_lines),
        cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_a_line_keeps_its_piece),
        cmocka_unit_test(test_it_is_ahead),
        cmocka_unit_test(test_it_is_ahead_after_a_way_back),
        cmocka_unit_test(test_few_pieces),
        cmocka_unit_test(test_a_changed_piece),
        cmocka_unit_test(test_a_file_that_was_cut),
        cmocka_unit_test(test_it_does_without_a_thread),
        cmocka_unit_test(test_memory_runs_out),
        cmocka_unit_test(test_closing_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
