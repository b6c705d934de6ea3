/* Whole comparisons between two parties of one process (relu_pair.h). */
#include "tests/relu_pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"
#include "runtime/net/lanes.h"

static void drop_states(struct relu_pair_party *me)
{
    for (int i = 0; i < RELU_PAIR_BATCHES; i++) {
        tape_free(me->state[i]);
        me->state[i] = NULL;
    }
}

static int prepare(struct relu_pair_party *me, struct relu_party *party)
{
    const struct relu_backend *k = me->pair->backend;

    for (int i = 0; i < me->pair->n_batches; i++) {
        const struct relu_pair_batch *b = &me->pair->batch[i];

        TRY(tape_memory(k->state_size(&b->b, me->is_client), &me->state[i]));
        TRY(me->is_client ? k->offline_client(party, &b->b, b->u, b->r, me->state[i])
                          : k->offline_server(party, &b->b, me->state[i]));
    }
    return 0;
}

static int run_offline(struct transport *t, void *arg)
{
    struct relu_pair_party *me = arg;
    const struct relu_backend *k = me->pair->backend;
    uint8_t seed[PRG_SEED] = {me->pair->seed, (uint8_t)me->is_client, 77};
    uint8_t sid[HASH_SID] = {me->pair->seed};
    struct relu_party *party = NULL;
    struct prg *rng = NULL;
    int rc;

    drop_states(me);
    me->seconds[0] = cpu_seconds();
    if ((rc = prg_new(seed, &rng)) < 0 ||
        (rc = k->open(me->is_client, sid, &me->pair->ways, t, rng, &party)) < 0)
        goto out;
    me->setup = t->count;
    me->seconds[1] = cpu_seconds();
    rc = prepare(me, party);
    me->seconds[2] = cpu_seconds();
out:
    k->close(party);
    prg_free(rng);
    return rc;
}

static int online_batch(struct relu_pair_party *me, struct transport *t, int i)
{
    const struct relu_backend *k = me->pair->backend;
    const struct relu_pair_batch *b = &me->pair->batch[i];
    size_t size = k->state_size(&b->b, me->is_client);
    struct tape *copy = NULL;
    int rc;

    /* one byte off, as a state in the middle of a file may lie */
    TRY(tape_memory(size + 1, &copy));
    tape_put(copy, "", 1);
    tape_put(copy, tape_bytes(me->state[i]), size);
    rc = me->is_client ? k->online_client(t, &b->b, copy, 1)
                       : k->online_server(t, &b->b, copy, 1, b->x, b->z);
    for (size_t at = 0; at < size && rc == 0; at++)
        if (tape_bytes(copy)[1 + at] != 0)
            rc = ERR_VERIFY; /* a used state is wiped */
    tape_free(copy);
    return rc;
}

static int online_lane(void *arg, int64_t lane, struct transport *t)
{
    return online_batch(arg, t, (int)lane);
}

static int run_online(struct transport *t, void *arg)
{
    struct relu_pair_party *me = arg;

    me->seconds[0] = cpu_seconds();
    if (me->pair->lanes > 0)
        TRY(lanes_run(t, me->pair->lanes, false, online_lane, me));
    for (int i = (int)me->pair->lanes; i < me->pair->n_batches; i++)
        TRY(online_batch(me, t, i));
    me->seconds[2] = cpu_seconds();
    return 0;
}

/* ---- values ------------------------------------------------------------------------------- */

static uint64_t edge_value(size_t k, int m)
{
    uint64_t top = (uint64_t)1 << (m - 1);
    const uint64_t edge[] = {0, UINT64_MAX, top - 1, 1 - top, 1, top / 2, 0 - top / 2, 2};

    return edge[k % 8];
}

static void draw_values(struct prg *p, struct relu_pair_batch *v)
{
    size_t n = (size_t)v->b.n, words = n * (size_t)v->b.payloads;
    int m = v->b.width;

    prg_bytes(p, v->u, words * 8);
    prg_bytes(p, v->r, words * 8);
    prg_bytes(p, v->x, words * 8);
    for (size_t k = 0; k < n; k++) {
        uint64_t value = (uint64_t)((int64_t)(v->x[k] << (64 - m)) >> (64 - m));

        if (value == (uint64_t)0 - ((uint64_t)1 << (m - 1)))
            value = 1;
        v->x[k] = (k < 8 ? edge_value(k, m) : value) - v->u[k];
    }
}

static uint64_t *words_of(const struct relu_batch *b)
{
    uint64_t *w = mem_array((size_t)b->n * (size_t)b->payloads, sizeof *w);

    assert_non_null(w);
    return w;
}

void relu_pair_open(struct relu_pair *p, const struct relu_backend *backend, uint8_t seed,
                    int n_batches, const struct relu_batch *batches)
{
    uint8_t key[PRG_SEED] = {seed, 3, 3};
    struct prg *source = NULL;

    memset(p, 0, sizeof *p);
    p->backend = backend;
    p->seed = seed;
    p->n_batches = n_batches;
    p->party[1].is_client = 1;
    p->party[0].pair = p->party[1].pair = p;
    assert_true(n_batches <= RELU_PAIR_BATCHES);
    assert_int_equal(prg_new(key, &source), 0);
    for (int i = 0; i < n_batches; i++) {
        struct relu_pair_batch *v = &p->batch[i];

        v->b = batches[i];
        v->x = words_of(&v->b);
        v->u = words_of(&v->b);
        v->r = words_of(&v->b);
        v->z = words_of(&v->b);
        draw_values(source, v);
    }
    prg_free(source);
}

void relu_pair_close(struct relu_pair *p)
{
    for (int i = 0; i < p->n_batches; i++) {
        mem_free(p->batch[i].x);
        mem_free(p->batch[i].u);
        mem_free(p->batch[i].r);
        mem_free(p->batch[i].z);
    }
    drop_states(&p->party[0]);
    drop_states(&p->party[1]);
}

static void set_halves(struct relu_pair *p, int (*run)(struct transport *t, void *arg))
{
    for (int i = 0; i < 2; i++)
        p->half[i] = (struct pair_half){.run = run, .arg = &p->party[i]};
}

void relu_pair_offline(struct relu_pair *p)
{
    set_halves(p, run_offline);
}

void relu_pair_online(struct relu_pair *p)
{
    set_halves(p, run_online);
}

void relu_pair_run(struct relu_pair *p)
{
    relu_pair_offline(p);
    pair_run(p->half);
    assert_int_equal(p->half[0].rc, 0);
    assert_int_equal(p->half[1].rc, 0);
    relu_pair_online(p);
    pair_run(p->half);
    relu_pair_check(p);
}

void relu_pair_check(const struct relu_pair *p)
{
    assert_int_equal(p->half[0].rc, 0);
    assert_int_equal(p->half[1].rc, 0);
    for (int i = 0; i < p->n_batches; i++) {
        const struct relu_pair_batch *v = &p->batch[i];
        size_t n = (size_t)v->b.n;

        for (size_t j = 0; j < (size_t)v->b.payloads; j++)
            for (size_t k = 0; k < n; k++) {
                size_t at = j * n + k;
                uint64_t negative = (v->x[k] + v->u[k]) >> (v->b.width - 1) & 1;
                uint64_t want = negative ? 0 : v->x[at] + v->u[at];

                if (v->z[at] + v->r[at] != want)
                    fail_msg("%s, m = %d, batch %d, payload %zu, comparison %zu: %llx, not %llx",
                             p->backend->name, v->b.width, i, j, k,
                             (unsigned long long)(v->z[at] + v->r[at]), (unsigned long long)want);
            }
    }
}
