/*
 * The rlwe linear provider: seconds and bytes of every linear step, both parties in this process.
 *
 *     build/release/tests/bench_rlwe                               ResNet-18, 32x32, random weights
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
#include "core/graph/rng.h"
#include "runtime/linear/rlwe_party.h"
#include "runtime/crypto/rlwe.h"
#include "runtime/linear/rlwe_layout.h"

#define IMAGES 2
#define MAX_STEPS 64

static void need(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "bench_rlwe: %s: %s\n", what, err_message());
    exit(1);
}

/* ---- ResNet-18 for 32x32 images ----------------------------------------------------------- */

struct net {
    struct plan plan;
    struct plan_tensor tensor[2 * MAX_STEPS];
    struct plan_step step[MAX_STEPS];
    struct plan_weights weights;
    struct plan_matrix matrix[MAX_STEPS];
};

static void add_conv(struct net *n, int64_t in, int64_t out, int64_t size, int64_t kernel,
                     int64_t stride)
{
    int32_t i = n->plan.n_step++, t = 2 * i;
    int64_t pad = kernel / 2, to = (size + 2 * pad - kernel) / stride + 1;
    struct plan_linear *l = &n->step[i].u.linear;

    n->tensor[t] =
        (struct plan_tensor){.rank = 3, .dim = {in, size, size}, .count = in * size * size};
    n->tensor[t + 1] =
        (struct plan_tensor){.rank = 3, .dim = {out, to, to}, .count = out * to * to};
    n->step[i] = (struct plan_step){
        .kind = PLAN_CONV, .name = kernel == 1 ? "1x1" : "3x3", .in = {t}, .n_in = 1, .out = t + 1};
    *l = (struct plan_linear){.kernel = {kernel, kernel},
                              .stride = {stride, stride},
                              .pad = {pad, pad, pad, pad},
                              .dilation = {1, 1},
                              .group = 1};
}

static void fill_weights(struct net *n)
{
    struct rng g = rng_at(1, RNG_TEST, 0, 0);

    for (int32_t i = 0; i < n->plan.n_step; i++) {
        struct plan_matrix *m = &n->matrix[i];
        plan_matrix_size(&n->plan, &n->step[i], &m->rows, &m->columns);
        m->weight = mem_array((size_t)(m->rows * m->columns), sizeof *m->weight);
        need(m->weight != NULL, "weights");
        for (int64_t k = 0; k < m->rows * m->columns; k++)
            m->weight[k] = (int16_t)((int)rng_below(&g, 401) - 200);
    }
}

static struct net *resnet18(void)
{
    struct net *n = mem_array(1, sizeof *n);

    need(n != NULL, "network");
    n->plan = (struct plan){.tensor = n->tensor, .n_tensor = 2 * MAX_STEPS, .step = n->step};
    n->weights = (struct plan_weights){.matrix = n->matrix, .n_matrix = MAX_STEPS};
    add_conv(n, 3, 64, 32, 3, 1);
    for (int64_t stage = 0, c = 64, size = 32; stage < 4; stage++) {
        int64_t to = stage == 0 ? 64 : 2 * c, stride = stage == 0 ? 1 : 2;
        add_conv(n, c, to, size, 3, stride);
        size /= stride;
        for (int k = 0; k < 3; k++)
            add_conv(n, to, to, size, 3, 1);
        if (stage > 0)
            add_conv(n, c, to, size * stride, 1, 2);
        c = to;
    }
    add_conv(n, 512, 10, 1, 1, 1);
    fill_weights(n);
    return n;
}

/* ---- two parties -------------------------------------------------------------------------- */

struct side {
    const struct plan *p;
    const struct plan_weights *w;
    struct transport t;
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
            int64_t n = y->p->tensor[y->p->step[i].out].count;
            uint64_t *s;
            if (y->p->step[i].kind != PLAN_CONV && y->p->step[i].kind != PLAN_GEMM)
                continue;
            need((s = mem_array((size_t)n, sizeof *s)) != NULL, "server");
            prg_bytes(rng, s, (size_t)n * sizeof *s);
            need(linear.server(linear.ctx, i, s) == 0, "server");
            mem_free(s);
        }
    linear.close(linear.ctx);
    prg_free(rng);
    return NULL;
}

static double one_step(struct side *y, struct linear_party *linear, struct prg *rng, int32_t i)
{
    const struct plan_step *s = &y->p->step[i];
    int64_t n_in = y->p->tensor[s->in[0]].count, n_out = y->p->tensor[s->out].count;
    uint64_t *r = mem_array((size_t)n_in, sizeof *r), *u = mem_array((size_t)n_out, sizeof *u);

    need(r != NULL && u != NULL, "client");
    prg_bytes(rng, r, (size_t)n_in * sizeof *r);
    double start = cpu_seconds();
    need(linear->client(linear->ctx, i, r, u) == 0, "client");
    double seconds = cpu_seconds() - start;
    mem_free(r);
    mem_free(u);
    return seconds;
}

static void print_step(const struct plan *p, int32_t i, double seconds)
{
    struct rlwe_layout l;

    need(rlwe_layout_of(p, &p->step[i], &l) == 0, "layout");
    printf("%3d %-24s in %4lld x %4lld  up %4lld  down %4lld  %8.3f MB up %8.3f MB down %8.1f ms\n",
           i, p->step[i].name, (long long)l.channels, (long long)l.axis[0].in,
           (long long)(l.in_polys * rlwe_layout_bands(&l)),
           (long long)(l.out_polys * rlwe_layout_bands(&l)),
           (double)linear_rlwe_bytes(p, i, 1) / 1e6, (double)linear_rlwe_bytes(p, i, 0) / 1e6,
           seconds * 1e3);
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
                print_step(y->p, i, seconds);
            total += seconds;
            up += linear_rlwe_bytes(y->p, i, 1);
            down += linear_rlwe_bytes(y->p, i, 0);
        }
        printf("image %d: %.2f s, %.3f MB up, %.3f MB down, %.3f MB in all (threads %d)\n",
               image + 1, total, (double)up / 1e6, (double)down / 1e6, (double)(up + down) / 1e6,
               cpu_threads());
    }
    linear.close(linear.ctx);
    prg_free(rng);
}

/* ---- one core ----------------------------------------------------------------------------- */

#define RUNS 20

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
    uint8_t bytes[RLWE_POLY_BYTES], half[RLWE_HALF_BYTES], values[RLWE_HALF_BYTES];
    int16_t coefficient[RLWE_N];
    int32_t place[RLWE_N];
};

static void time_parts(struct one *o, struct rlwe *r, struct rlwe_secret *s, struct rlwe_work *k,
                       struct prg *rng, struct parts *best)
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
        rlwe_weight(r, i, o->coefficient, o->w);
        rlwe_work_add(k, r, i, o->c[i], o->a[i], o->w);
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
    struct prg *rng = NULL;
    struct parts best = {0};
    struct one *o = mem_aligned(1, sizeof *o);

    need(o != NULL && prg_new_random(&rng) == 0 && rlwe_new(ntt_best_path(), &r) == 0 &&
             rlwe_secret_new(r, rng, &s) == 0 && rlwe_work_new(&k) == 0,
         "parts");
    for (int i = 0; i < RUNS; i++)
        time_parts(o, r, s, k, rng, &best);
    printf("one core, ms: encrypt %.3f  receive %.3f  product %.3f  answer %.3f  open %.3f\n",
           best.encrypt * 1e3, best.receive * 1e3, best.product * 1e3, best.answer * 1e3,
           best.open * 1e3);
    rlwe_work_free(k);
    rlwe_secret_free(s);
    rlwe_free(r);
    prg_free(rng);
    mem_free(o);
}

int main(int argc, char **argv)
{
    struct side server = {0}, asking = {0};
    struct plan *p = NULL;
    struct plan_weights *w = NULL;
    pthread_t thread;

    cpu_set_threads(0);
    if (argc > 2) {
        need(plan_read(argv[1], &p) == 0 && plan_weights_read(p, argv[2], &w) == 0, argv[1]);
        server.p = p;
        server.w = w;
    } else {
        struct net *n = resnet18();
        server.p = &n->plan;
        server.w = &n->weights;
    }
    print_parts();
    asking.p = server.p;
    need(transport_pair(&server.t, &asking.t) == 0, "transport");
    need(pthread_create(&thread, NULL, server_thread, &server) == 0, "thread");
    client(&asking);
    pthread_join(thread, NULL);
    transport_close(&server.t);
    transport_close(&asking.t);
    return 0;
}
