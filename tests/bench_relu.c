/*
 * Timings of the comparison backends and what they are made of, on one thread a party: nanoseconds
 * per hash, per garbled and evaluated comparison, per OT; microseconds per comparison of a whole
 * batch between two parties on the in-memory pair, as the work (CPU time of both halves) and as the
 * clock on the wall.
 *
 *     build/release/tests/bench_relu [COMPARISONS [WIDTH]]      default 65536 25
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"
#include "runtime/crypto/baseot.h"
#include "runtime/ring/bits.h"
#include "runtime/crypto/ferret.h"
#include "runtime/crypto/garble.h"
#include "runtime/crypto/otext.h"
#include "runtime/relu/relu.h"
#include "tests/pair.h"

static double cpu_clock(clockid_t which)
{
    struct timespec t;

    clock_gettime(which, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "bench_relu: %s: %s\n", what, err_message());
    exit(1);
}

static void *need(void *p)
{
    if (p == NULL)
        die("memory");
    return p;
}

/* ---- parts -------------------------------------------------------------------------------- */

enum { LOOPS = 20 };

static void bench_hash(struct hasher *h)
{
    size_t n = 16384;
    struct block *b = need(secret_array(n, sizeof *b));
    double start = cpu_seconds();

    for (int i = 0; i < 10 * LOOPS; i++)
        hash_blocks(h, b, b, n, (struct block){0, 0});
    printf("hash                     %8.2f ns\n",
           1e9 * (cpu_seconds() - start) / (10.0 * LOOPS * (double)n));
    secret_free(b);
}

static void bench_transpose(void)
{
    size_t n = 16384;
    struct block *rows = need(secret_array(n, sizeof *rows));
    uint8_t *planes = need(secret_array(128, n / 8));
    double start = cpu_seconds();

    for (int i = 0; i < 10 * LOOPS; i++)
        bits_transpose(cpu_best_path(), rows, planes, n / 8, n);
    printf("transposed row           %8.2f ns\n",
           1e9 * (cpu_seconds() - start) / (10.0 * LOOPS * (double)n));
    secret_free(rows);
    secret_free(planes);
}

static void bench_garble(struct hasher *h, int m)
{
    size_t n = GARBLE_BLOCK, labels = n * (size_t)m;
    struct block *a = need(secret_array(labels, sizeof *a)), *b = need(secret_array(labels, 16));
    struct block *tables = need(secret_array(2 * labels, 16)), *out = need(secret_array(n, 16));
    struct block *scratch = need(secret_array(garble_scratch(n), 16)), d = {1, 2};
    double start = cpu_seconds(), middle;

    for (int i = 0; i < LOOPS; i++) {
        if (hasher_key(h, (const uint8_t[HASH_SID]){1}, (uint64_t)i, 0) < 0)
            die("hash");
        garble_sign(h, n, m, d, 1, 0, a, b, tables, out, scratch);
    }
    middle = cpu_seconds();
    for (int i = 0; i < LOOPS; i++)
        for (size_t g = 0; g + 1 < (size_t)m; g++)
            garble_evaluate_gate(h, n, (int)g, 1, 0, a + g * n, b + g * n, tables + 2 * g * n, out,
                                 scratch);
    printf("garbled comparison       %8.2f ns\n", 1e9 * (middle - start) / (LOOPS * (double)n));
    printf("evaluated comparison     %8.2f ns\n",
           1e9 * (cpu_seconds() - middle) / (LOOPS * (double)n));
    secret_free(a);
    secret_free(b);
    secret_free(tables);
    secret_free(out);
    secret_free(scratch);
}

/* ---- OT extension --------------------------------------------------------------------------- */

struct transfers {
    size_t n;
    double seconds[3]; /* set-up, chosen, random; this half's CPU time */
};

static int ot_sender(struct transport *t, void *arg)
{
    struct transfers *x = arg;
    struct otext_sender *s = NULL;
    struct prg *rng = NULL;
    struct block *q = need(secret_array(x->n, sizeof *q));
    double at[4];
    int rc;

    at[0] = cpu_clock(CLOCK_THREAD_CPUTIME_ID);
    if ((rc = prg_new_random(&rng)) < 0 || (rc = otext_sender_new(t, rng, &s)) < 0)
        goto out;
    at[1] = cpu_clock(CLOCK_THREAD_CPUTIME_ID);
    rc = otext_send(s, t, x->n, 1, q);
    at[2] = cpu_clock(CLOCK_THREAD_CPUTIME_ID);
    if (rc == 0)
        rc = otext_send(s, t, x->n, 0, q);
    if (rc == 0)
        rc = otext_verify(s, t);
    at[3] = cpu_clock(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < 3; i++)
        x->seconds[i] = at[i + 1] - at[i];
out:
    otext_sender_free(s);
    prg_free(rng);
    secret_free(q);
    return rc;
}

static int ot_receiver(struct transport *t, void *arg)
{
    struct transfers *x = arg;
    struct otext_receiver *r = NULL;
    struct prg *rng = NULL;
    struct block *rows = need(secret_array(x->n, sizeof *rows));
    uint64_t *bits = need(secret_array(bits_words(x->n), sizeof *bits));
    double at[4];
    int rc;

    at[0] = cpu_clock(CLOCK_THREAD_CPUTIME_ID);
    if ((rc = prg_new_random(&rng)) < 0 || (rc = otext_receiver_new(t, rng, &r)) < 0)
        goto out;
    at[1] = cpu_clock(CLOCK_THREAD_CPUTIME_ID);
    rc = otext_receive_chosen(r, t, x->n, bits, rows);
    at[2] = cpu_clock(CLOCK_THREAD_CPUTIME_ID);
    if (rc == 0)
        rc = otext_receive_random(r, t, x->n, bits, rows);
    if (rc == 0)
        rc = otext_prove(r, t);
    if (rc == 0)
        rc = transport_flush(t);
    at[3] = cpu_clock(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < 3; i++)
        x->seconds[i] = at[i + 1] - at[i];
out:
    otext_receiver_free(r);
    prg_free(rng);
    secret_free(rows);
    secret_free(bits);
    return rc;
}

static void bench_transfers(void)
{
    struct transfers x[2] = {{.n = 2000000}, {.n = 2000000}};
    struct pair_half half[2] = {{.run = ot_sender, .arg = &x[0]},
                                {.run = ot_receiver, .arg = &x[1]}};

    pair_run(half);
    if (half[0].rc < 0 || half[1].rc < 0)
        die("OT extension");
    for (int who = 0; who < 2; who++) {
        const char *name = who == 0 ? "sender  " : "receiver";

        printf("OT %s set-up       %8.2f ms\n", name, 1e3 * x[who].seconds[0]);
        printf("OT %s chosen       %8.2f ns\n", name, 1e9 * x[who].seconds[1] / (double)x[who].n);
        printf("OT %s random       %8.2f ns\n", name, 1e9 * x[who].seconds[2] / (double)x[who].n);
    }
}

/* ---- silent OT ------------------------------------------------------------------------------ */

enum { SILENT_ROWS = 1 << 24, SILENT_CALL = 1 << 14 };

struct silent {
    const struct ferret_set *set;
    int is_sender;
    double cpu, wall; /* without the rounds of set-up */
};

static int silent_rows(struct transport *t, struct silent *x, struct ferret *f, struct block *rows)
{
    double cpu, wall;

    TRY(ferret_rows(f, t, SILENT_CALL, rows));
    TRY(ferret_rows(f, t, (size_t)ferret_round_rows(ferret_set(0)), rows));
    cpu = cpu_clock(CLOCK_THREAD_CPUTIME_ID);
    wall = cpu_seconds();
    for (size_t at = 0; at < SILENT_ROWS; at += SILENT_CALL)
        TRY(ferret_rows(f, t, SILENT_CALL, rows));
    x->cpu = cpu_clock(CLOCK_THREAD_CPUTIME_ID) - cpu;
    x->wall = cpu_seconds() - wall;
    return 0;
}

static int silent_side(struct transport *t, void *arg)
{
    static const struct ferret_id id = {{1}, 0};
    struct silent *x = arg;
    struct otext_sender *sender = NULL;
    struct otext_receiver *receiver = NULL;
    struct ferret *f = NULL;
    struct prg *rng = NULL;
    struct block *rows = need(secret_array((size_t)ferret_round_rows(ferret_set(0)), sizeof *rows));
    int rc;

    if ((rc = prg_new_random(&rng)) == 0)
        rc = x->is_sender ? otext_sender_new(t, rng, &sender)
                          : otext_receiver_new(t, rng, &receiver);
    if (rc == 0)
        rc = x->is_sender ? ferret_sender_new(&id, x->set, sender, rng, &f)
                          : ferret_receiver_new(&id, x->set, receiver, &f);
    if (rc == 0)
        rc = silent_rows(t, x, f, rows);
    if (rc == 0)
        rc = transport_flush(t);
    ferret_free(f);
    otext_sender_free(sender);
    otext_receiver_free(receiver);
    prg_free(rng);
    secret_free(rows);
    return rc;
}

/* Whole rounds are in the mean: a round of the largest set gives about as many rows as are taken. */
static void bench_silent(const struct ferret_set *set)
{
    struct silent x[2] = {{.set = set, .is_sender = 1}, {.set = set}};
    struct pair_half half[2] = {{.run = silent_side, .arg = &x[0]},
                                {.run = silent_side, .arg = &x[1]}};

    pair_run(half);
    if (half[0].rc < 0 || half[1].rc < 0)
        die("silent OT");
    printf("silent OT %s row: sender %6.2f ns, receiver %6.2f ns, wall %6.2f ns\n", set->name,
           1e9 * x[0].cpu / SILENT_ROWS, 1e9 * x[1].cpu / SILENT_ROWS,
           1e9 * x[0].wall / SILENT_ROWS);
}

/* ---- whole batches -------------------------------------------------------------------------- */

struct side {
    const struct relu_backend *backend;
    struct relu_batch b;
    int is_client;
    uint64_t *first, *second; /* x and z, or u and r */
    double cpu[2], wall[3];   /* offline, online; time stamps */
};

static int batch_phases(struct transport *t, struct side *s, struct relu_party *party,
                        struct tape *state)
{
    const struct relu_backend *k = s->backend;
    double at[3];

    at[0] = cpu_clock(CLOCK_THREAD_CPUTIME_ID);
    s->wall[0] = cpu_seconds();
    TRY(s->is_client ? k->offline_client(party, &s->b, s->first, s->second, state)
                     : k->offline_server(party, &s->b, state));
    at[1] = cpu_clock(CLOCK_THREAD_CPUTIME_ID);
    s->wall[1] = cpu_seconds();
    TRY(s->is_client ? k->online_client(t, &s->b, state, 0)
                     : k->online_server(t, &s->b, state, 0, s->first, s->second));
    at[2] = cpu_clock(CLOCK_THREAD_CPUTIME_ID);
    s->wall[2] = cpu_seconds();
    s->cpu[0] = at[1] - at[0];
    s->cpu[1] = at[2] - at[1];
    return 0;
}

static int batch_side(struct transport *t, void *arg)
{
    struct side *s = arg;
    struct tape *state = NULL;
    struct relu_party *party = NULL;
    struct prg *rng = NULL;
    int rc;

    if ((rc = tape_memory(s->backend->state_size(&s->b, s->is_client), &state)) == 0 &&
        (rc = prg_new_random(&rng)) == 0 &&
        (rc = s->backend->open(s->is_client, (const uint8_t[HASH_SID]){1}, NULL, t, rng, &party)) ==
            0)
        rc = batch_phases(t, s, party, state);
    s->backend->close(party);
    prg_free(rng);
    tape_free(state);
    return rc;
}

static void bench_backend(const char *name, int64_t n, int m)
{
    const struct relu_backend *k = relu_backend_find(name);
    const struct relu_batch b = {.n = n, .width = m, .payloads = 1, .tweak = 1};
    struct side s[2] = {{.backend = k, .b = b}, {.backend = k, .b = b}};
    struct pair_half half[2] = {{.run = batch_side, .arg = &s[0]},
                                {.run = batch_side, .arg = &s[1]}};
    static const char *const phase[] = {"offline", "online "};

    s[1].is_client = 1;
    for (int i = 0; i < 2; i++) {
        s[i].first = need(mem_array((size_t)n, 8));
        s[i].second = need(mem_array((size_t)n, 8));
    }
    pair_run(half);
    if (half[0].rc < 0 || half[1].rc < 0)
        die(name);
    for (int i = 0; i < 2; i++) {
        uint64_t bytes = i == 0 ? k->offline_bytes(&s[0].b, 0) + k->offline_bytes(&s[0].b, 1)
                                : k->online_bytes(&s[0].b, 0) + k->online_bytes(&s[0].b, 1);
        double start = s[0].wall[i] > s[1].wall[i] ? s[0].wall[i] : s[1].wall[i];
        double end = s[0].wall[i + 1] > s[1].wall[i + 1] ? s[0].wall[i + 1] : s[1].wall[i + 1];

        printf(
            "%s %s per comparison: server %6.3f us, client %6.3f us, wall %6.3f us, %7.2f bytes\n",
            name, phase[i], 1e6 * s[0].cpu[i] / (double)n, 1e6 * s[1].cpu[i] / (double)n,
            1e6 * (end - start) / (double)n, (double)bytes / (double)n);
    }
    for (int i = 0; i < 2; i++) {
        mem_free(s[i].first);
        mem_free(s[i].second);
    }
}

int main(int argc, char **argv)
{
    int64_t n = argc > 1 ? atoll(argv[1]) : 65536;
    int m = argc > 2 ? atoi(argv[2]) : 25;
    struct hasher *h = NULL;

    if (hasher_new(&h) < 0 || hasher_key(h, (const uint8_t[HASH_SID]){1}, 0, 0) < 0)
        die("hash");
    bench_hash(h);
    bench_transpose();
    bench_garble(h, m);
    hasher_free(h);
    bench_transfers();
    for (int i = 0; i < FERRET_SETS; i++)
        bench_silent(ferret_set(i));
    bench_backend("gc", n, m);
    bench_backend("ot", n, m);
    return 0;
}
