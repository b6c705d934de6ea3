/*
 * Every use of the hash in whole comparisons is recorded: which tweak, under which key.
 *
 * A tweak that is used twice with one secret difference gives the difference away, so all must differ: between
 * images, layers, purposes and elements. Each is seen three times, twice at the party that holds both keys
 * and once at the other one. Tweaks are compared alone, without the key: that batches have keys of their
 * own must not hide that, say, the image number is missing.
 *
 * The test has all of prg.c, so that the hash of both parties goes through it.
 */
#include "runtime/crypto/prg.h"
void product_hash_blocks(struct hasher *h, struct block *out, const struct block *in, size_t n,
                         struct block tweak);
#define hash_blocks product_hash_blocks
#include "runtime/crypto/prg.c"
#undef hash_blocks

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/party/bundle.h"
#include "runtime/relu/party.h"
#include "tests/plan_sample.h"
#include "tests/relu_pair.h"

/* ---- the record --------------------------------------------------------------------------- */

enum { MOST_KEYS = 64 };
struct key_use { /* of one party */
    const struct hasher *hasher;
    uint8_t place[HASH_SID + 16];
    uint64_t hashes;
};
static struct {
    pthread_mutex_t lock;
    struct block *tweak;
    size_t n, room;
    struct key_use key[MOST_KEYS];
    int keys;
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void forget(size_t room)
{
    mem_free(seen.tweak);
    seen.tweak = mem_array(room, sizeof *seen.tweak);
    assert_non_null(seen.tweak);
    seen.n = 0;
    seen.room = room;
    seen.keys = 0;
}

static void note_key(const struct hasher *h, size_t n)
{
    int i = 0;

    while (i < seen.keys &&
           (seen.key[i].hasher != h || memcmp(seen.key[i].place, h->place, sizeof h->place) != 0))
        i++;
    if (i == MOST_KEYS)
        abort();
    if (i == seen.keys) {
        seen.key[i] = (struct key_use){.hasher = h};
        memcpy(seen.key[i].place, h->place, sizeof h->place);
        seen.keys++;
    }
    seen.key[i].hashes += n;
}

void hash_blocks(struct hasher *h, struct block *out, const struct block *in, size_t n,
                 struct block tweak)
{
    pthread_mutex_lock(&seen.lock);
    note_key(h, n);
    for (size_t k = 0; k < n && seen.n < seen.room; k++)
        seen.tweak[seen.n++] = (struct block){tweak.lo + k, tweak.hi};
    pthread_mutex_unlock(&seen.lock);
    product_hash_blocks(h, out, in, n, tweak);
}

static int compare(const void *a, const void *b)
{
    const struct block *x = a, *y = b;

    if (x->hi != y->hi)
        return x->hi < y->hi ? -1 : 1;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

/* How many different tweaks there were, each three times. */
static size_t distinct_tweaks(void)
{
    assert_true(seen.n < seen.room && seen.n % 3 == 0);
    qsort(seen.tweak, seen.n, sizeof *seen.tweak, compare);
    for (size_t i = 0; i < seen.n; i += 3) {
        assert_int_equal(compare(&seen.tweak[i], &seen.tweak[i + 2]), 0);
        if (i > 0 && compare(&seen.tweak[i], &seen.tweak[i - 1]) == 0)
            fail_msg("tweak {%llx, %llx} more than three times",
                     (unsigned long long)seen.tweak[i].lo, (unsigned long long)seen.tweak[i].hi);
    }
    return seen.n / 3;
}

/* ---- tests -------------------------------------------------------------------------------- */

enum { IMAGES = 2, LAYERS = 2, KEPT = 2100, WIDTH = 21 };

/* Batches of two images and two layers as a bundle numbers them, but larger. */
static void number_batches(const struct relu_backend *k, struct relu_batch batch[IMAGES * LAYERS])
{
    struct plan *plan = plan_sample(64);
    struct schedule *schedule = NULL;
    struct bundle *b = NULL;
    int n = 0;

    assert_int_equal(schedule_new(plan, false, &schedule), 0);
    assert_int_equal(bundle_new(schedule, k, true, &(struct relu_ways){0}, &b), 0);
    for (uint64_t image = 0; image < IMAGES; image++) {
        int layer = 0;

        b->number = image;
        for (int32_t e = 0; e < schedule->n && layer < LAYERS; e++) {
            if (schedule->event[e].kind != EVENT_SELECT)
                continue;
            batch[n] = bundle_batch(b, e);
            batch[n].n = KEPT;
            batch[n].width = WIDTH;
            batch[n++].payloads = 1 + layer++ % 2;
        }
        assert_int_equal(layer, LAYERS);
    }
    bundle_free(b);
    schedule_free(schedule);
    plan_free(plan);
}

/* per: tweaks a comparison uses. */
static void check_tweaks(const struct relu_backend *k, size_t per)
{
    struct relu_batch batch[IMAGES * LAYERS];
    struct relu_pair p;

    forget((size_t)4 << 20);
    number_batches(k, batch);
    relu_pair_open(&p, k, 3, IMAGES * LAYERS, batch);
    relu_pair_run(&p);
    relu_pair_close(&p);
    assert_int_equal(distinct_tweaks(), (size_t)IMAGES * LAYERS * KEPT * per);
    forget(1);
}

static void test_every_tweak_is_new(void **state)
{
    (void)state;
    check_tweaks(&relu_gc, 2 * (WIDTH - 1) + 2);       /* gates, output, selection */
    check_tweaks(&relu_ot, WIDTH - 1 + 2 * 5 + 1 + 1); /* leaves, 2 an AND, mux, selection */
}

/* The widest comparisons, one more than a part of them. */
static void check_keys(const struct relu_backend *k)
{
    const struct relu_batch batch = {
        .n = (int64_t)RELU_PART + 1, .width = 61, .payloads = 2, .tweak = 7};
    struct relu_pair p;
    uint64_t most = 0;

    forget(1);
    relu_pair_open(&p, k, 4, 1, &batch);
    relu_pair_run(&p);
    relu_pair_close(&p);
    for (int i = 0; i < seen.keys; i++)
        most = seen.key[i].hashes > most ? seen.key[i].hashes : most;
    print_message("%s: at most %llu hashes under a key\n", k->name, (unsigned long long)most);
    assert_true(most <= (uint64_t)1 << 20 && most > (uint64_t)1 << 18);
    for (int i = 0; i < seen.keys; i++) { /* the session's id, the batch, part 0 or 1 */
        assert_int_equal(seen.key[i].place[0], 4);
        assert_int_equal(seen.key[i].place[HASH_SID], 7);
        assert_true(seen.key[i].place[HASH_SID + 8] <= 1);
    }
    mem_free(seen.tweak);
    seen.tweak = NULL;
}

static void test_hashes_under_a_key(void **state)
{
    (void)state;
    check_keys(&relu_gc);
    check_keys(&relu_ot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_tweak_is_new),
        cmocka_unit_test(test_hashes_under_a_key),
    };

    return cmocka_run_group_tests_name("tweaks", tests, NULL, NULL);
}
