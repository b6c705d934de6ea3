/* Reading ahead: the same images whatever the threads, the buffer and the hints; the bound is kept. */
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "core/base/mem.h"
#include "core/graph/rng.h"
#include "trainer/data/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define BYTES 64
#define RECORDS 500
#define BAD 77

struct fake {
    atomic_int reads, released, wrong; /* wrong: records that there are not */
    int slow;                          /* microseconds of a read */
};

static void image_of(int64_t record, const struct data_view *view, uint8_t out[BYTES])
{
    for (int i = 0; i < BYTES; i++)
        out[i] = (uint8_t)(record * 7 + i * 3 + (view->random ? 101 + view->epoch * 13 : 0));
}

static int fake_read(const void *ctx, int64_t record, const struct data_view *view, void *out)
{
    struct fake *f = (struct fake *)(uintptr_t)ctx;
    const struct timespec t = {0, f->slow * 1000L};

    atomic_fetch_add(&f->reads, 1);
    atomic_fetch_add(&f->wrong, record < 0 || record >= RECORDS);
    if (f->slow > 0)
        nanosleep(&t, NULL);
    if (record == BAD)
        return (fail)(ERR_DATA, "record %d is bad", BAD);
    image_of(record, view, out);
    return 0;
}

static int fake_identify(const void *ctx, int64_t record, struct sha256 *h)
{
    (void)ctx;
    return sha256_add(h, &record, sizeof record);
}

static void fake_release(void *ctx)
{
    atomic_fetch_add(&((struct fake *)ctx)->released, 1);
}

static struct stream *made(struct fake *f, size_t memory, int threads)
{
    const struct stream_source source = {f, fake_read, fake_identify, fake_release};
    struct stream *s = NULL;

    *f = (struct fake){0};
    assert_int_equal(stream_new(&source, BYTES, memory, threads, &s), 0);
    return s;
}

static void closed(struct stream *s, struct fake *f)
{
    stream_free(s);
    assert_int_equal(f->released, 1);
    assert_int_equal(f->wrong, 0);
}

static void check(struct stream *s, int64_t record, const struct data_view *view)
{
    uint8_t want[BYTES], got[BYTES];

    image_of(record, view, want);
    assert_int_equal(stream_read(s, record, view, got), 0);
    assert_memory_equal(got, want, BYTES);
}

/* An epoch in batches: hints of three batches, then the images of one by several threads. */
static void epoch(struct stream *s, int32_t number, int64_t batch)
{
    const struct data_view view = {true, 5, number};
    uint32_t order[RECORDS];
    int64_t record[RECORDS];
    struct rng r = rng_at(5, RNG_SHUFFLE, (uint32_t)number, 0);
    int wrong = 0;

    rng_permutation(&r, order, RECORDS);
    for (int64_t i = 0; i < RECORDS; i++)
        record[i] = order[i] == BAD ? 0 : order[i];
    for (int64_t first = 0; first < RECORDS; first += batch) {
        const int64_t left = RECORDS - first, n = left < batch ? left : batch;
        stream_ahead(s, &view, record + first, left < 3 * batch ? left : 3 * batch);
#pragma omp parallel for reduction(+ : wrong) num_threads(4)
        for (int64_t i = first; i < first + n; i++) {
            uint8_t want[BYTES], got[BYTES];
            image_of(record[i], &view, want);
            wrong += stream_read(s, record[i], &view, got) < 0 || memcmp(got, want, BYTES) != 0;
        }
    }
    assert_int_equal(wrong, 0);
}

static void test_any_threads_and_memory(void **state)
{
    static const int threads[] = {1, 2, 8};
    static const size_t images[] = {0, 1, 3, 40, 100000};
    struct fake f;

    (void)state;
    for (size_t k = 0; k < 3; k++)
        for (size_t m = 0; m < sizeof images / sizeof *images; m++) {
            struct stream *s = made(&f, images[m] * BYTES + BYTES / 2, threads[k]);
            for (int32_t e = 0; e < 3; e++)
                epoch(s, e, 32);
            assert_true(stream_most_held(s) <= images[m] * BYTES);
            assert_true(stream_capacity(s) <= DATA_AHEAD_MOST);
            closed(s, &f);
        }
}

static void wait_for_reads(const struct fake *f, int n)
{
    const struct timespec t = {0, 1000000};

    for (int i = 0; i < 5000 && f->reads < n; i++)
        nanosleep(&t, NULL);
    assert_true(f->reads >= n);
}

/* Threads fill the buffer, stop there, and what they decoded is what is read: nothing twice. */
static void test_bound(void **state)
{
    const struct data_view view = {false, 0, 0};
    int64_t record[40];
    struct fake f;
    struct stream *s = made(&f, 10 * BYTES, 4);
    const struct timespec t = {0, 30000000};

    (void)state;
    for (int i = 0; i < 40; i++)
        record[i] = i;
    stream_ahead(s, &view, record, 40);
    wait_for_reads(&f, 10);
    nanosleep(&t, NULL);
    assert_int_equal(f.reads, 10);
    assert_int_equal(stream_most_held(s), 10 * BYTES);
    for (int i = 0; i < 10; i++)
        check(s, i, &view);
    assert_int_equal(stream_hits(s), 10);
    assert_int_equal(f.reads, 10); /* a list is cut at the capacity: nothing else was wanted */
    check(s, 39, &view);
    assert_int_equal(stream_hits(s), 10);
    assert_int_equal(stream_most_held(s), 10 * BYTES);
    closed(s, &f);
}

/* What was read ahead and is not in the next list makes room for what is. */
static void test_forgotten(void **state)
{
    const struct data_view view = {false, 0, 0};
    const int64_t first[] = {1, 2, 3, 4}, second[] = {3, 5, 6, 7};
    struct fake f;
    struct stream *s = made(&f, 4 * BYTES, 2);

    (void)state;
    stream_ahead(s, &view, first, 4);
    wait_for_reads(&f, 4);
    check(s, 3, &view); /* all four are ready once one of the last is, or soon */
    check(s, 4, &view);
    stream_ahead(s, &view, first, 2);
    stream_ahead(s, &view, second, 4);
    wait_for_reads(&f, 8);
    for (int i = 0; i < 4; i++)
        check(s, second[i], &view);
    assert_int_equal(stream_hits(s), 6);
    closed(s, &f);
}

static void test_views_are_told_apart(void **state)
{
    const struct data_view plain = {false, 0, 0}, one = {true, 5, 1}, two = {true, 5, 2};
    const int64_t record[] = {9, 10};
    struct fake f;
    struct stream *s = made(&f, 8 * BYTES, 2);

    (void)state;
    stream_ahead(s, &one, record, 2);
    wait_for_reads(&f, 2);
    check(s, 9, &two);
    check(s, 9, &plain);
    check(s, 9, &one);
    assert_int_equal(stream_hits(s), 1);
    closed(s, &f);
}

static void test_failure(void **state)
{
    const struct data_view view = {false, 0, 0};
    const int64_t record[] = {1, BAD, 2};
    uint8_t got[BYTES];
    struct fake f;
    struct stream *s = made(&f, 8 * BYTES, 1);

    (void)state;
    stream_ahead(s, &view, record, 3);
    wait_for_reads(&f, 3);
    assert_int_equal((fail)(ERR_ARG, "something else"), ERR_ARG);
    assert_int_equal(stream_read(s, BAD, &view, got), ERR_DATA);
    assert_non_null(strstr(err_message(), "record 77 is bad"));
    check(s, 1, &view);
    check(s, 2, &view);
    closed(s, &f);
}

/* Freed while threads are in the middle of their work. */
static void test_freed_at_work(void **state)
{
    const struct data_view view = {false, 0, 0};
    int64_t record[100];
    struct fake f;

    (void)state;
    for (int i = 0; i < 100; i++)
        record[i] = i;
    for (int k = 0; k < 20; k++) {
        struct stream *s = made(&f, 100 * BYTES, 3);
        f.slow = 500;
        stream_ahead(s, &view, record, 100);
        wait_for_reads(&f, k);
        closed(s, &f);
    }
}

static void test_no_memory(void **state)
{
    const struct stream_source source = {NULL, fake_read, fake_identify, fake_release};
    struct stream *s = NULL;
    struct fake f = {0};

    (void)state;
    for (long n = 1;; n++) {
        struct stream_source mine = source;
        mine.ctx = &f;
        f.released = 0;
        mem_fail_at(n);
        const int rc = stream_new(&mine, BYTES, 4 * BYTES, 2, &s);
        mem_fail_at(0);
        if (rc == 0)
            break;
        assert_int_equal(rc, ERR_NOMEM);
        assert_int_equal(f.released, 1);
    }
    stream_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_threads_and_memory),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_forgotten),
        cmocka_unit_test(test_views_are_told_apart),
        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_freed_at_work),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
