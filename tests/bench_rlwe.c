/*
 * The rlwe linear provider: seconds and bytes of every linear step, both parties in this process.
 *
 *     build/release/tests/bench_rlwe [DEPTH [LOT]]                 ResNet-18 (32x32) or 50 (224x224), random
 *                                                                  weights; images that go together
 *     build/release/tests/bench_rlwe model.pi model.pi.weights     a description
 *
 * Per step: wall time from the client's first word to its last, bytes each way, largest product. The
 * image's second pass finds transformed weights in the cache (LINEAR_RLWE_CACHE).
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"
#include "runtime/linear/rlwe_party.h"
#include "runtime/crypto/rlwe.h"
#include "runtime/linear/rlwe_layout.h"
#include "tests/resnet_plan.h"

#define IMAGES 2

static void need(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "bench_rlwe: %s: %s\n", what, err_message());
    exit(1);
}

/* ---- two parties -------------------------------------------------------------------------- */

struct side {
    const struct plan *p;
    const struct plan_weights *w;
    struct transport t;
    int64_t lot;
};

static void *server_thread(void *arg)
{
    struct side *y = arg;
    struct linear_party linear = {0};
    struct prg *rng = NULL;

    need(prg_new_random(&rng) == 0 &&
             linear_rlwe_server(y->p, y->w, &y->t, rng, LINEAR_RLWE_CACHE, &linear) == 0,
         "server");
    for (int image = 0; image < IMAGES; image++)
        for (int32_t i = 0; i < y->p->n_step; i++) {
            int64_t n = y->lot * y->p->tensor[y->p->step[i].out].count;
            uint64_t *s;
            if (y->p->step[i].kind != PLAN_CONV && y->p->step[i].kind != PLAN_GEMM)
                continue;
            need((s = mem_array((size_t)n, sizeof *s)) != NULL, "server");
            prg_bytes(rng, s, (size_t)n * sizeof *s);
            need(linear.server(linear.ctx, i, y->lot, s) == 0, "server");
            mem_free(s);
        }
    linear.close(linear.ctx);
    prg_free(rng);
    return NULL;
}

static double one_step(struct side *y, struct linear_party *linear, struct prg *rng, int32_t i)
{
    const struct plan_step *s = &y->p->step[i];
    int64_t n_in = y->lot * y->p->tensor[s->in[0]].count;
    int64_t n_out = y->lot * y->p->tensor[s->out].count;
    uint64_t *r = mem_array((size_t)n_in, sizeof *r), *u = mem_array((size_t)n_out, sizeof *u);

    need(r != NULL && u != NULL, "client");
    prg_bytes(rng, r, (size_t)n_in * sizeof *r);
    double start = cpu_seconds();
    need(linear->client(linear->ctx, i, y->lot, r, u) == 0, "client");
    double seconds = cpu_seconds() - start;
    mem_free(r);
    mem_free(u);
    return seconds;
}

static void print_step(const struct plan *p, int32_t i, int64_t lot, double seconds)
{
    struct rlwe_layout l;

    need(rlwe_layout_of(p, &p->step[i], lot, &l) == 0, "layout");
    printf(
        "%3d %-24s in %4lld x %4lld  images %3lld in %3lld out %3lld  up %4lld  down %4lld  %8.3f MB up %8.3f MB down %8.1f ms\n",
        i, p->step[i].name, (long long)l.channels, (long long)l.axis[0].in, (long long)l.images,
        (long long)l.in_blocks, (long long)l.out_blocks,
        (long long)(l.in_polys * rlwe_layout_bands(&l)),
        (long long)(l.out_polys * rlwe_layout_bands(&l)),
        (double)linear_rlwe_lot_bytes(p, i, lot, 1) / 1e6,
        (double)linear_rlwe_lot_bytes(p, i, lot, 0) / 1e6, seconds * 1e3);
}

static void client(struct side *y)
{
    struct linear_party linear = {0};
    struct prg *rng = NULL;

    need(prg_new_random(&rng) == 0 && linear_rlwe_client(y->p, &y->t, rng, &linear) == 0, "client");
    for (int image = 0; image < IMAGES; image++) {
        double total = 0;
        uint64_t up = 0, down = 0;
        for (int32_t i = 0; i < y->p->n_step; i++) {
            if (y->p->step[i].kind != PLAN_CONV && y->p->step[i].kind != PLAN_GEMM)
                continue;
            double seconds = one_step(y, &linear, rng, i);
            if (image == 0)
                print_step(y->p, i, y->lot, seconds);
            total += seconds;
            up += linear_rlwe_lot_bytes(y->p, i, y->lot, 1);
            down += linear_rlwe_lot_bytes(y->p, i, y->lot, 0);
        }
        double each = 1 / (double)y->lot, mb = each / 1e6;
        printf(
            "lot %d of %lld: %.3f s an image, %.3f MB up, %.3f MB down, %.3f MB in all (threads %d)\n",
            image + 1, (long long)y->lot, total * each, (double)up * mb, (double)down * mb,
            (double)(up + down) * mb, cpu_threads());
    }
    linear.close(linear.ctx);
    prg_free(rng);
}

/* ---- one core ----------------------------------------------------------------------------- */

#define RUNS 20
#define TAPS 84 /* at multiples of 49: 1x1 windows of 7x7 planes */

struct parts { /* seconds of one polynomial, pair, answer: best of RUNS */
    double encrypt, receive, product, answer, open;
};

static void keep(double *best, double start)
{
    double seconds = cpu_seconds() - start;

    if (*best == 0 || seconds < *best)
        *best = seconds;
}

struct one {
    uint64_t c[RLWE_PRIMES][RLWE_N], a[RLWE_PRIMES][RLWE_N], w[RLWE_N], m[RLWE_N];
    uint64_t operand[2][RLWE_N];
    uint8_t bytes[RLWE_POLY_BYTES], half[RLWE_HALF_BYTES], values[RLWE_HALF_BYTES];
    int16_t value[RLWE_N];
    int32_t place[RLWE_N];
};

static void time_parts(struct one *o, struct rlwe *r, struct rlwe_secret *s, struct rlwe_work *k,
                       struct ntt_taps *taps, struct prg *rng, struct parts *best)
{
    static const uint8_t seed[RLWE_SEED] = {1};
    double start = cpu_seconds();
    need(rlwe_random(r, seed, 1, 0, o->a[0]) == 0 &&
             rlwe_encrypt(r, s, o->a[0], o->m, rng, o->c[0]) == 0,
         "encrypt");
    rlwe_pack(o->bytes, o->c[0]);
    keep(&best->encrypt, start);
    start = cpu_seconds();
    need(rlwe_unpack(r, o->c[0], o->bytes) == 0, "unpack");
    need(rlwe_random(r, seed, 1, 0, o->a[0]) == 0, "random half");
    keep(&best->receive, start);
    start = cpu_seconds();
    rlwe_work_start(k, rng);
    for (int i = 0; i < RLWE_PRIMES; i++)
        rlwe_work_close(k, r, i, o->c[i], o->a[i]);
    rlwe_answer(k, r, o->place, o->m, RLWE_N / 4, o->half, o->values);
    keep(&best->answer, start);
    start = cpu_seconds();
    for (int i = 0; i < RLWE_PRIMES; i++) {
        const uint64_t *c = o->operand[0], *a = o->operand[1], *w = o->w;
        ntt_weight(rlwe_prime(r, i), taps, o->value, o->w);
        rlwe_work_add(k, r, i, 1, &c, &a, &w, 0);
    }
    keep(&best->product, start);
    start = cpu_seconds();
    need(rlwe_open(r, s, o->half, o->values, o->place, RLWE_N / 4, o->m) == 0, "open");
    keep(&best->open, start);
}

static void print_parts(void)
{
    struct rlwe *r = NULL;
    struct rlwe_secret *s = NULL;
    struct rlwe_work *k = NULL;
    struct ntt_taps *taps = NULL;
    struct prg *rng = NULL;
    struct parts best = {0};
    struct one *o = mem_aligned(1, sizeof *o);

    need(o != NULL && prg_new_random(&rng) == 0 && rlwe_new(ntt_best_path(), &r) == 0 &&
             rlwe_secret_new(r, rng, &s) == 0 && rlwe_work_new(&k) == 0,
         "parts");
    for (int i = 0; i < TAPS; i++)
        o->place[i] = 49 * i;
    need(ntt_taps_new(o->place, TAPS, 0, &taps) == 0, "parts");
    for (int i = 0; i < RUNS; i++)
        time_parts(o, r, s, k, taps, rng, &best);
    printf("one core, ms: encrypt %.3f  receive %.3f  product %.3f  answer %.3f  open %.3f\n",
           best.encrypt * 1e3, best.receive * 1e3, best.product * 1e3, best.answer * 1e3,
           best.open * 1e3);
    ntt_taps_free(taps);
    rlwe_work_free(k);
    rlwe_secret_free(s);
    rlwe_free(r);
    prg_free(rng);
    mem_free(o);
}

int main(int argc, char **argv)
{
    struct side server = {.lot = 1}, asking = {0};
    struct resnet_plan *net = NULL;
    struct plan *p = NULL;
    struct plan_weights *w = NULL;
    pthread_t thread;

    cpu_set_threads(0);
    if (argc > 2 && strtol(argv[1], NULL, 10) == 0) {
        need(plan_read(argv[1], &p) == 0 && plan_weights_read(p, argv[2], &w) == 0, argv[1]);
        server.p = p;
        server.w = w;
    } else {
        net = resnet_plan(argc > 1 ? (int)strtol(argv[1], NULL, 10) : 18);
        need(net != NULL && resnet_weights(net) == 0, "network");
        server.p = &net->plan;
        server.w = &net->weights;
        server.lot = argc > 2 ? strtol(argv[2], NULL, 10) : 1;
    }
    print_parts();
    asking = (struct side){.p = server.p, .lot = server.lot};
    need(transport_pair(&server.t, &asking.t) == 0, "transport");
    need(pthread_create(&thread, NULL, server_thread, &server) == 0, "thread");
    client(&asking);
    pthread_join(thread, NULL);
    transport_close(&server.t);
    transport_close(&asking.t);
    resnet_free(net);
    plan_weights_free(w);
    plan_free(p);
    return 0;
}
