/* runtime/linear_rlwe: both parties in two threads; u + s is the plain product mod 2^64 and an error
 * within its bound. */
#include "runtime/linear/rlwe_party.h"

#include <pthread.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"
#include "core/graph/rng.h"
#include "runtime/crypto/rlwe.h"
#include "runtime/linear/rlwe_direct.h"
#include "runtime/linear/rlwe_layout.h"
#include "runtime/ring/byte_product.h"

#define SEED 20261126

/* ---- a plan of one step ------------------------------------------------------------------- */

struct shape {
    int64_t in[3], outputs, kernel[2], stride[2], pad[4], dilation[2], group;
};
struct network {
    struct plan plan;
    struct plan_tensor tensor[2];
    struct plan_step step[1];
    struct plan_weights weights;
    struct plan_matrix matrix[1];
    int64_t lot;                /* images */
    uint64_t *r, *s, *u, *want; /* of all of them */
};

static int64_t outputs_of(const struct shape *k, int i)
{
    return (k->in[i + 1] + k->pad[i] + k->pad[i + 2] - k->dilation[i] * (k->kernel[i] - 1) - 1) /
               k->stride[i] +
           1;
}

static struct plan_tensor tensor_of(int64_t c, int64_t h, int64_t w)
{
    return (struct plan_tensor){.rank = 3, .dim = {c, h, w}, .count = c * h * w};
}

static uint64_t draw(struct rng *g, int extreme)
{
    static const uint64_t edge[] = {0, 1, UINT64_MAX, (uint64_t)1 << 63, ((uint64_t)1 << 63) - 1};
    uint64_t v = (uint64_t)rng_u32(g) << 32;

    v |= rng_u32(g);
    return extreme ? edge[v % (sizeof edge / sizeof edge[0])] : v;
}

/* The definition. r: of one image. */
static uint64_t plain(const struct network *n, const uint64_t *r, int64_t o, int64_t i, int64_t j)
{
    const struct plan_linear *l = &n->step[0].u.linear;
    const int64_t *in = n->tensor[0].dim;
    int64_t per = in[0] / l->group, g = o / (n->tensor[1].dim[0] / l->group);
    const int16_t *w = n->matrix[0].weight + o * n->matrix[0].columns;
    uint64_t sum = 0;

    for (int64_t c = 0; c < per; c++)
        for (int64_t a = 0; a < l->kernel[0]; a++)
            for (int64_t b = 0; b < l->kernel[1]; b++, w++) {
                int64_t y = i * l->stride[0] - l->pad[0] + a * l->dilation[0];
                int64_t x = j * l->stride[1] - l->pad[1] + b * l->dilation[1];
                if (y >= 0 && x >= 0 && y < in[1] && x < in[2])
                    sum += (uint64_t)(int64_t)*w * r[((g * per + c) * in[1] + y) * in[2] + x];
            }
    return sum;
}

static void fill_want(struct network *n)
{
    const int64_t *d = n->tensor[1].dim;

    for (int64_t k = 0; k < n->lot * d[0]; k++)
        for (int64_t i = 0; i < d[1]; i++)
            for (int64_t j = 0; j < d[2]; j++)
                n->want[(k * d[1] + i) * d[2] + j] =
                    plain(n, n->r + k / d[0] * n->tensor[0].count, k % d[0], i, j);
}

static void fill_numbers(struct network *n, int extreme)
{
    struct rng g = rng_at(SEED, RNG_TEST, (uint32_t)extreme, (uint64_t)n->tensor[0].count);
    struct plan_matrix *m = &n->matrix[0];

    for (int64_t i = 0; i < m->rows * m->columns; i++)
        m->weight[i] = extreme ? (int16_t)(rng_u32(&g) & 1 ? INT16_MIN : INT16_MAX)
                               : (int16_t)((int)rng_below(&g, 4001) - 2000);
    for (int64_t i = 0; i < n->lot * n->tensor[0].count; i++)
        n->r[i] = draw(&g, extreme);
    for (int64_t i = 0; i < n->lot * n->tensor[1].count; i++)
        n->s[i] = draw(&g, 0);
    fill_want(n);
}

static struct network *network_lot(const struct shape *k, int extreme, int64_t lot)
{
    struct network *n = mem_array(1, sizeof *n);
    struct plan_linear *l = &n->step[0].u.linear;

    n->plan = (struct plan){.tensor = n->tensor, .n_tensor = 2, .step = n->step, .n_step = 1};
    n->tensor[0] = tensor_of(k->in[0], k->in[1], k->in[2]);
    n->tensor[1] = tensor_of(k->outputs, outputs_of(k, 0), outputs_of(k, 1));
    n->step[0] = (struct plan_step){.kind = PLAN_CONV, .name = "conv", .n_in = 1, .out = 1};
    *l = (struct plan_linear){.group = k->group};
    memcpy(l->kernel, k->kernel, sizeof k->kernel);
    memcpy(l->stride, k->stride, sizeof k->stride);
    memcpy(l->pad, k->pad, sizeof k->pad);
    memcpy(l->dilation, k->dilation, sizeof k->dilation);
    n->weights = (struct plan_weights){.matrix = n->matrix, .n_matrix = 1};
    plan_matrix_size(&n->plan, &n->step[0], &n->matrix[0].rows, &n->matrix[0].columns);
    n->matrix[0].weight = mem_array((size_t)(n->matrix[0].rows * n->matrix[0].columns), 2);
    n->lot = lot;
    n->r = mem_array((size_t)(lot * n->tensor[0].count), 8);
    n->s = mem_array((size_t)(lot * n->tensor[1].count), 8);
    n->u = mem_array((size_t)(lot * n->tensor[1].count), 8);
    n->want = mem_array((size_t)(lot * n->tensor[1].count), 8);
    fill_numbers(n, extreme);
    return n;
}

static struct network *network_new(const struct shape *k, int extreme)
{
    return network_lot(k, extreme, 1);
}

static void network_free(struct network *n)
{
    mem_free(n->matrix[0].weight);
    mem_free(n->r);
    mem_free(n->s);
    mem_free(n->u);
    mem_free(n->want);
    mem_free(n);
}

/* ---- two parties -------------------------------------------------------------------------- */

struct run {
    struct network *n;
    struct transport t[2];
    size_t cache;
    int images, rc[2];
    long fail_at, allocations; /* of the server's thread */
};

static struct prg *seeded(uint8_t number)
{
    const uint8_t seed[PRG_SEED] = {number};
    struct prg *p = NULL;

    assert_int_equal(prg_new(seed, &p), 0);
    return p;
}

static int serve(struct run *r, struct prg *rng)
{
    struct linear_party y = {0};
    int rc = linear_rlwe_server(&r->n->plan, &r->n->weights, &r->t[0], rng, r->cache, &y);

    for (int i = 0; rc == 0 && i < r->images; i++)
        rc = y.server(y.ctx, 0, r->n->lot, r->n->s);
    if (y.close != NULL)
        y.close(y.ctx);
    return rc;
}

static void *server_thread(void *arg)
{
    struct run *r = arg;
    struct prg *rng = seeded(1);

    mem_fail_at(r->fail_at);
    r->rc[0] = serve(r, rng);
    r->allocations = mem_count();
    mem_fail_at(0);
    prg_free(rng);
    transport_close(&r->t[0]);
    return NULL;
}

static int ask(struct run *r, struct prg *rng)
{
    struct linear_party y = {0};
    int rc = linear_rlwe_client(&r->n->plan, &r->t[1], rng, &y);

    for (int i = 0; rc == 0 && i < r->images; i++) {
        memset(r->n->u, 0, (size_t)(r->n->lot * r->n->tensor[1].count) * 8);
        rc = y.client(y.ctx, 0, r->n->lot, r->n->r, r->n->u);
    }
    if (y.close != NULL)
        y.close(y.ctx);
    return rc;
}

static void run_both(struct run *r)
{
    pthread_t thread;
    struct prg *rng = seeded(2);

    assert_int_equal(transport_pair(&r->t[0], &r->t[1]), 0);
    assert_int_equal(pthread_create(&thread, NULL, server_thread, r), 0);
    r->rc[1] = ask(r, rng);
    struct transport_count count = r->t[1].count;
    transport_close(&r->t[1]);
    pthread_join(thread, NULL);
    prg_free(rng);
    if (r->rc[0] < 0 || r->rc[1] < 0)
        return;
    assert_int_equal(count.sent,
                     linear_rlwe_bytes(&r->n->plan, -1, 1) +
                         (uint64_t)r->images * linear_rlwe_lot_bytes(&r->n->plan, 0, r->n->lot, 1));
    assert_int_equal(count.received,
                     linear_rlwe_bytes(&r->n->plan, -1, 0) +
                         (uint64_t)r->images * linear_rlwe_lot_bytes(&r->n->plan, 0, r->n->lot, 0));
}

/* For the largest of the rows. */
static double error_bound(const struct network *n)
{
    const struct plan_matrix *m = n->matrix;
    double bound = 0;

    for (int64_t i = 0; i < m->rows; i++) {
        double l1 = 0, squares = 0;
        for (int64_t k = 0; k < m->columns; k++) {
            double w = m->weight[i * m->columns + k];
            l1 += fabs(w);
            squares += w * w;
        }
        bound = fmax(bound, rlwe_error(l1, sqrt(squares)));
    }
    return bound;
}

static void check_lot(const struct shape *k, int64_t lot, int extreme, size_t cache, int images)
{
    struct network *n = network_lot(k, extreme, lot);
    struct run r = {.n = n, .cache = cache, .images = images};

    run_both(&r);
    assert_int_equal(r.rc[0], 0);
    assert_int_equal(r.rc[1], 0);
    for (int64_t i = 0; i < lot * n->tensor[1].count; i++) {
        int64_t error = (int64_t)(n->u[i] + n->s[i] - n->want[i]);
        assert_true((double)llabs(error) <= error_bound(n));
    }
    network_free(n);
    assert_int_equal(secret_alive(), 0);
}

static void check_shape(const struct shape *k, int extreme, size_t cache, int images)
{
    check_lot(k, 1, extreme, cache, images);
}

static const struct shape shapes[] = {
    {{3, 32, 32}, 8, {3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, 1},
    {{5, 16, 16}, 6, {3, 3}, {2, 2}, {1, 1, 1, 1}, {1, 1}, 1},
    {{8, 8, 8}, 6, {3, 3}, {2, 2}, {0, 0, 1, 1}, {1, 1}, 1},     /* as TensorFlow pads */
    {{16, 16, 16}, 32, {1, 1}, {2, 2}, {0, 0, 0, 0}, {1, 1}, 1}, /* shortcut */
    {{4, 8, 8}, 6, {1, 1}, {1, 1}, {0, 0, 0, 0}, {1, 1}, 2},     /* groups */
    {{9, 6, 5}, 9, {3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, 9},     /* one channel a group */
    {{4, 9, 9}, 8, {3, 2}, {1, 2}, {2, 0, 1, 1}, {1, 1}, 4},     /* asymmetric */
    {{6, 11, 12}, 4, {3, 3}, {2, 1}, {2, 2, 2, 2}, {2, 3}, 2},   /* dilated */
    {{2, 3, 3}, 3, {5, 5}, {1, 1}, {4, 2, 2, 4}, {1, 1}, 1},     /* window larger than the image */
    {{3, 7, 9}, 2, {2, 4}, {3, 5}, {1, 0, 2, 3}, {1, 1}, 1},     /* stride larger than the window */
    {{2, 40, 41}, 3, {7, 7}, {2, 2}, {3, 3, 3, 3}, {1, 1}, 1},   /* stem of ImageNet networks */
    {{1, 130, 128}, 2, {3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, 1}, /* bands of rows */
    {{1, 3, 9001}, 1, {3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, 1},  /* and of columns */
    {{9000, 1, 1}, 3, {1, 1}, {1, 1}, {0, 0, 0, 0}, {1, 1}, 1},  /* gemm, two uploads */
    {{64, 1, 1}, 300, {1, 1}, {1, 1}, {0, 0, 0, 0}, {1, 1}, 1},  /* gemm, several answers */
};
#define N_SHAPES (sizeof shapes / sizeof shapes[0])

static void test_shares_add_up_to_the_product(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++)
        check_shape(&shapes[i], 0, 0, 1);
}

static const struct shape pointwise = {{6, 30, 30}, 5, {1, 1}, {1, 1}, {0, 0, 0, 0}, {1, 1}, 1};

/* Its weights in a lot are constants, whose transforms are themselves; alone they are not. */
static void check_constants(void)
{
    struct network *n = network_new(&pointwise, 0);
    struct rlwe_layout l;

    assert_int_equal(rlwe_layout_of(&n->plan, n->step, 9, &l), 0);
    assert_true(rlwe_layout_constant(&l));
    assert_int_equal(rlwe_layout_of(&n->plan, n->step, 1, &l), 0);
    assert_false(rlwe_layout_constant(&l));
    network_free(n);
}

/* Images of a lot share polynomials: whole groups of them and rests. */
static void test_lots_are_the_product_of_every_image(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++)
        check_lot(&shapes[i], shapes[i].in[0] > 1000 ? 9 : 5, 0, i % 2 ? (size_t)1 << 28 : 0, 2);
    check_lot(&shapes[0], 16, 1, 0, 1);
    check_lot(&pointwise, 9, 0, 0, 1);
    check_constants();
}

/* The smallest layout of a lot moves at most as much as its images one by one. */
static void test_lots_move_fewer_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++) {
        struct network *n = network_new(&shapes[i], 0);
        uint64_t one = linear_rlwe_bytes(&n->plan, 0, 0) + linear_rlwe_bytes(&n->plan, 0, 1);
        assert_true(linear_rlwe_lot_bytes(&n->plan, 0, 7, 0) +
                        linear_rlwe_lot_bytes(&n->plan, 0, 7, 1) <=
                    7 * one);
        network_free(n);
    }
}

/* Largest weights, shares at the edges of the ring. */
static void test_extreme_numbers(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SHAPES; i += 3)
        check_shape(&shapes[i], 1, 0, 1);
}

static void test_cache_and_several_images(void **state)
{
    (void)state;
    check_shape(&shapes[1], 0, (size_t)1 << 28, 3);
    check_shape(&shapes[1], 0, 1000, 2); /* too small: as none */
}

/* Polynomials are worked on in groups, by several threads: their number changes no bit. */
static void test_threads_change_no_bit(void **state)
{
    static const struct shape wide = {{130, 30, 30}, 40, {3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, 1};
    struct network *a = network_new(&wide, 0), *b = network_new(&wide, 0);
    struct run one = {.n = a, .images = 1}, four = {.n = b, .images = 1};

    (void)state;
    cpu_set_threads(1);
    run_both(&one);
    cpu_set_threads(4);
    run_both(&four);
    cpu_set_threads(0);
    assert_int_equal(one.rc[0] | one.rc[1] | four.rc[0] | four.rc[1], 0);
    assert_memory_equal(a->u, b->u, (size_t)a->tensor[1].count * 8);
    for (int64_t i = 0; i < a->tensor[1].count; i++)
        assert_true((double)llabs((int64_t)(a->u[i] + a->s[i] - a->want[i])) <= error_bound(a));
    network_free(a);
    network_free(b);
}

/* Whether a server of this machine makes a step's products without transforms. */
static bool goes_direct(const struct network *n)
{
    struct rlwe *r = NULL;
    struct rlwe_layout l;
    struct rlwe_direct *d = NULL;
    bool direct;

    assert_int_equal(rlwe_new(ntt_best_path(), &r), 0);
    assert_int_equal(rlwe_layout_of(&n->plan, n->step, n->lot, &l), 0);
    assert_int_equal(rlwe_direct_new(r, &l, n->matrix[0].weight, &d), 0);
    direct = d != NULL;
    rlwe_direct_free(d);
    rlwe_free(r);
    return direct;
}

/* Products in the coefficients and by transforms: the same answers, bit for bit. */
static void test_the_way_of_products_changes_no_bit(void **state)
{
    static const struct {
        struct shape shape;
        int64_t lot;
    } way[] = {
        {{{6, 30, 30}, 5, {1, 1}, {1, 1}, {0, 0, 0, 0}, {1, 1}, 1}, 9},  /* one tap */
        {{{7, 8, 8}, 9, {3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, 1}, 50},   /* 9 taps, 7 uploads */
        {{{6, 16, 16}, 5, {3, 3}, {2, 2}, {1, 1, 1, 1}, {1, 1}, 1}, 49}, /* phases */
        {{{9, 4, 4}, 8, {3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, 1}, 64},   /* blocks share */
    };

    (void)state;
    for (size_t i = 0; i < sizeof way / sizeof *way; i++)
        for (int extreme = 0; extreme < 2; extreme++) {
            struct network *a = network_lot(&way[i].shape, 0, way[i].lot);
            struct network *b = network_lot(&way[i].shape, 0, way[i].lot);
            struct run direct = {.n = a, .images = 2}, transforms = {.n = b, .images = 2};

            /* digits of the smallest weight; INT16_MAX has none, so that a step goes without them */
            for (int64_t k = 0; k < a->matrix[0].rows * a->matrix[0].columns && extreme; k += 2)
                a->matrix[0].weight[k] = b->matrix[0].weight[k] = k % 3 ? INT16_MIN : 32639;
            assert_int_equal(goes_direct(a), byte_product_fast());
            run_both(&direct);
            setenv("LINNET_CPU", "generic", 1);
            assert_false(goes_direct(b));
            run_both(&transforms);
            unsetenv("LINNET_CPU");
            assert_int_equal(direct.rc[0] | direct.rc[1] | transforms.rc[0] | transforms.rc[1], 0);
            assert_memory_equal(a->u, b->u, (size_t)(a->lot * a->tensor[1].count) * 8);
            network_free(a);
            network_free(b);
        }
    if (!byte_product_fast())
        print_message("no AVX512-VNNI: products without transforms are not tested\n");
}

/* A weight that has no two digits keeps its step from going without transforms. */
static void test_a_weight_without_digits(void **state)
{
    struct network *n = network_lot(&pointwise, 0, 9);

    (void)state;
    n->matrix[0].weight[3] = 32640;
    assert_false(goes_direct(n));
    network_free(n);
}

/* Weights whose products could add more than a quarter of an ulp are the server's to refuse. */
static void test_weights_too_large_for_their_number_are_refused(void **state)
{
    static const struct shape all = {{3946, 1, 1}, 1, {1, 1}, {1, 1}, {0, 0, 0, 0}, {1, 1}, 1};
    static const struct shape more = {{4000, 1, 1}, 1, {1, 1}, {1, 1}, {0, 0, 0, 0}, {1, 1}, 1};
    struct linear_party y = {0};
    struct network *n = network_new(&more, 1);

    (void)state;
    assert_int_equal(linear_rlwe_server(&n->plan, &n->weights, NULL, NULL, 0, &y), ERR_UNSUPPORTED);
    assert_non_null(strstr(err_message(), "by up to 1029 units"));
    network_free(n);
    check_shape(&all, 1, 0, 1);
    check_shape(&more, 0, 0, 1);
}

/* ---- what a peer may do ------------------------------------------------------------------- */

enum lie { HEADER_STEP, HEADER_COUNT, RESIDUE, KEY_RESIDUE, CLOSES_EARLY, LIES };

static const struct shape small = {{3, 8, 8}, 4, {3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, 1};

static void send_zeros(struct transport *t, size_t n)
{
    uint8_t *bytes = mem_array(n, 1);

    assert_int_equal(transport_send(t, bytes, n), 0);
    mem_free(bytes);
}

static void lie_to_server(struct transport *t, enum lie lie)
{
    uint8_t header[8] = {lie == HEADER_STEP, 0, 0, 0, (uint8_t)(lie == HEADER_COUNT ? 2 : 1)};
    static const uint8_t large[RLWE_RESIDUE_BYTES] = {255, 255, 255, 255, 255};

    uint8_t nonce[PRG_SEED];

    assert_int_equal(transport_recv(t, nonce, sizeof nonce), 0);
    send_zeros(t, PRG_SEED);
    if (lie == KEY_RESIDUE) {
        send_zeros(t, RLWE_POLY_BYTES - sizeof large);
        assert_int_equal(transport_send(t, large, sizeof large), 0);
        return;
    }
    send_zeros(t, RLWE_POLY_BYTES);
    assert_int_equal(transport_send(t, header, sizeof header), 0);
    if (lie == RESIDUE) {
        assert_int_equal(transport_send(t, large, sizeof large), 0);
        send_zeros(t, RLWE_POLY_BYTES - sizeof large);
    }
    if (lie == CLOSES_EARLY)
        send_zeros(t, RLWE_POLY_BYTES - 1);
}

static void test_lying_clients_are_refused(void **state)
{
    (void)state;
    for (int lie = 0; lie < LIES; lie++) {
        struct network *n = network_new(&small, 0);
        struct run r = {.n = n, .images = 1};
        pthread_t thread;

        assert_int_equal(transport_pair(&r.t[0], &r.t[1]), 0);
        assert_int_equal(pthread_create(&thread, NULL, server_thread, &r), 0);
        lie_to_server(&r.t[1], (enum lie)lie);
        if (lie == CLOSES_EARLY)
            assert_int_equal(transport_flush(&r.t[1]), 0);
        transport_close(&r.t[1]);
        pthread_join(thread, NULL);
        assert_int_equal(r.rc[0], ERR_PEER);
        network_free(n);
        assert_int_equal(secret_alive(), 0);
    }
}

struct liar {
    struct transport t;
    uint8_t header[8], nonce[PRG_SEED];
    size_t up, down;
};

static void *lying_server(void *arg)
{
    struct liar *y = arg;
    uint8_t *bytes = mem_array(y->up, 1);

    assert_int_equal(transport_send(&y->t, y->nonce, sizeof y->nonce), 0);
    if (transport_recv(&y->t, bytes, y->up) == 0) {
        assert_int_equal(transport_send(&y->t, y->header, sizeof y->header), 0);
        send_zeros(&y->t, y->down);
        assert_int_equal(transport_flush(&y->t), 0);
    }
    mem_free(bytes);
    transport_close(&y->t);
    return NULL;
}

static void test_lying_servers_are_refused(void **state)
{
    static const uint8_t headers[3][8] = {{1, 0, 0, 0, 1}, {0, 0, 0, 0, 2}, {0, 0, 0, 0, 1}};

    (void)state;
    for (int i = 0; i < 3; i++) { /* other step, other count, closes within an answer */
        struct network *n = network_new(&small, 0);
        struct run r = {.n = n, .images = 1};
        struct prg *rng = seeded(3);
        struct liar liar = {.up = linear_rlwe_bytes(&n->plan, -1, 1) +
                                  linear_rlwe_bytes(&n->plan, 0, 1),
                            .down = i == 2 ? 1000 : 0};
        pthread_t thread;

        memcpy(liar.header, headers[i], 8);
        assert_int_equal(transport_pair(&liar.t, &r.t[1]), 0);
        assert_int_equal(pthread_create(&thread, NULL, lying_server, &liar), 0);
        assert_int_equal(ask(&r, rng), ERR_PEER);
        transport_close(&r.t[1]);
        pthread_join(thread, NULL);
        prg_free(rng);
        network_free(n);
        assert_int_equal(secret_alive(), 0);
    }
}

struct client {
    struct run *run;
    struct prg *rng;
    int rc;
};

static void *client_thread(void *arg)
{
    struct client *c = arg;

    c->rc = ask(c->run, c->rng);
    return NULL;
}

/* What a client of a fixed seed sends as its key to a server with this nonce. */
static void key_under(uint8_t nonce, uint8_t *bytes, size_t n)
{
    struct network *net = network_new(&small, 0);
    struct run r = {.n = net, .images = 1};
    struct prg *rng = seeded(5);
    struct client c = {.run = &r, .rng = rng};
    struct transport server;
    uint8_t sent[PRG_SEED] = {nonce};
    pthread_t thread;

    assert_int_equal(transport_pair(&server, &r.t[1]), 0);
    assert_int_equal(transport_send(&server, sent, sizeof sent), 0);
    assert_int_equal(pthread_create(&thread, NULL, client_thread, &c), 0);
    assert_int_equal(transport_recv(&server, bytes, n), 0);
    transport_close(&server);
    pthread_join(thread, NULL);
    transport_close(&r.t[1]);
    assert_true(c.rc == ERR_PEER || c.rc == ERR_NET);
    prg_free(rng);
    network_free(net);
}

/* The random halves of key and uploads hide the second half of every answer: a client that always takes
 * the same seed still gets others from every server. */
static void test_the_client_does_not_choose_the_random_halves(void **state)
{
    size_t n = PRG_SEED + RLWE_POLY_BYTES;
    uint8_t *a = mem_array(n, 1), *b = mem_array(n, 1);

    (void)state;
    assert_true(a != NULL && b != NULL);
    key_under(1, a, n);
    key_under(1, b, n);
    assert_memory_equal(a, b, n);
    key_under(2, b, n);
    assert_memory_equal(a, b, PRG_SEED); /* the same secret, errors and seed, another stream */
    assert_memory_not_equal(a + PRG_SEED, b + PRG_SEED, n - PRG_SEED);
    mem_free(a);
    mem_free(b);
}

/* ---- memory ------------------------------------------------------------------------------- */

/* Each allocation of the server fails once; without its cache it does without. */
static void test_server_survives_allocation_failures(void **state)
{
    struct network *n = network_new(&small, 0);
    int failures = 0, successes = 0;

    (void)state;
    for (long at = 1; successes == 0 || at < 60; at++) {
        struct run r = {.n = n, .images = 1, .fail_at = at, .cache = (size_t)1 << 24};
        run_both(&r);
        if (r.rc[0] == ERR_NOMEM) {
            failures++;
            assert_true(r.rc[1] == ERR_PEER || r.rc[1] == ERR_NET);
        } else {
            assert_int_equal(r.rc[0], 0);
            successes++;
        }
        assert_int_equal(secret_alive(), 0);
    }
    assert_true(failures > 15);
    network_free(n);
}

static void test_client_survives_allocation_failures(void **state)
{
    struct network *n = network_new(&small, 0);
    int rc = ERR_NOMEM, failures = 0;

    (void)state;
    for (long at = 1; rc < 0; at++) {
        struct run r = {.n = n, .images = 1};
        struct prg *rng = seeded(4);
        pthread_t thread;

        assert_int_equal(transport_pair(&r.t[0], &r.t[1]), 0);
        assert_int_equal(pthread_create(&thread, NULL, server_thread, &r), 0);
        mem_fail_at(at);
        rc = ask(&r, rng);
        mem_fail_at(0);
        transport_close(&r.t[1]);
        pthread_join(thread, NULL);
        prg_free(rng);
        assert_true(rc == 0 || rc == ERR_NOMEM);
        failures += rc < 0;
        assert_int_equal(secret_alive(), 0);
    }
    assert_true(failures > 10);
    network_free(n);
}

/* ---- refusals ----------------------------------------------------------------------------- */

static void test_windows_beyond_a_polynomial_are_refused(void **state)
{
    static const struct shape wide = {{49000, 1, 1}, 1, {1, 1}, {1, 1}, {0, 0, 0, 0}, {1, 1}, 1};
    static const struct shape tall = {{1, 9000, 9000}, 1, {8999, 8999}, {1, 1}, {0, 0, 0, 0},
                                      {1, 1},          1};
    struct network *n = network_new(&wide, 0);
    struct linear_party y = {0};

    (void)state;
    assert_int_equal(linear_rlwe_check(&n->plan),
                     0); /* noise sets no limit that a plan can reach */
    n->tensor[0] = tensor_of(1, tall.in[1], tall.in[2]);
    n->tensor[1] = tensor_of(1, 2, 2);
    memcpy(n->step[0].u.linear.kernel, tall.kernel, sizeof tall.kernel);
    assert_int_equal(linear_rlwe_check(&n->plan), ERR_UNSUPPORTED);
    assert_int_equal(linear_rlwe_server(&n->plan, &n->weights, NULL, NULL, 0, &y), ERR_UNSUPPORTED);
    assert_int_equal(linear_rlwe_client(&n->plan, NULL, NULL, &y), ERR_UNSUPPORTED);
    assert_null(y.ctx);
    network_free(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares_add_up_to_the_product),
        cmocka_unit_test(test_lots_are_the_product_of_every_image),
        cmocka_unit_test(test_lots_move_fewer_bytes),
        cmocka_unit_test(test_extreme_numbers),
        cmocka_unit_test(test_cache_and_several_images),
        cmocka_unit_test(test_threads_change_no_bit),
        cmocka_unit_test(test_the_way_of_products_changes_no_bit),
        cmocka_unit_test(test_a_weight_without_digits),
        cmocka_unit_test(test_weights_too_large_for_their_number_are_refused),
        cmocka_unit_test(test_lying_clients_are_refused),
        cmocka_unit_test(test_lying_servers_are_refused),
        cmocka_unit_test(test_the_client_does_not_choose_the_random_halves),
        cmocka_unit_test(test_server_survives_allocation_failures),
        cmocka_unit_test(test_client_survives_allocation_failures),
        cmocka_unit_test(test_windows_beyond_a_polynomial_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
