/* runtime/ring: every kernel against a plain uint64 loop, on random and extreme numbers. */
#include "runtime/ring/ring.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "core/graph/rng.h"

/* ---- numbers ------------------------------------------------------------------------------ */

enum range { SMALL, SHARES, EDGES };

static uint64_t draw(struct rng *r, enum range range)
{
    static const uint64_t edge[] = {0,
                                    1,
                                    UINT64_MAX,
                                    (uint64_t)1 << 63,
                                    ((uint64_t)1 << 63) - 1,
                                    ((uint64_t)1 << 43) - 1,
                                    ((uint64_t)1 << 22) - 1,
                                    (uint64_t)-1 << 53,
                                    (uint64_t)1 << 53};
    uint64_t v = (uint64_t)rng_u32(r) << 32;

    v |= rng_u32(r);
    if (range == SMALL)
        return (uint64_t)((int64_t)(v % (1u << 20)) - (1 << 19));
    return range == SHARES ? v : edge[v % (sizeof edge / sizeof edge[0])];
}

static uint64_t *draw_words(struct rng *r, int64_t n, enum range range)
{
    uint64_t *v = mem_array((size_t)n, sizeof *v);

    assert_non_null(v);
    for (int64_t i = 0; i < n; i++)
        v[i] = draw(r, range);
    return v;
}

/* ---- convolution -------------------------------------------------------------------------- */

struct shape_case {
    int64_t in[3], o, kernel[2], stride[2], pad[4], dilation[2], group;
};
static const struct shape_case cases[] = {
    {{3, 9, 7}, 5, {3, 3}, {1, 1}, {1, 1, 1, 1}, {1, 1}, 1},
    {{4, 8, 8}, 6, {3, 3}, {2, 2}, {0, 0, 1, 1}, {1, 1}, 1},
    {{4, 8, 8}, 6, {1, 1}, {1, 1}, {0, 0, 0, 0}, {1, 1}, 1},
    {{4, 8, 8}, 6, {1, 1}, {2, 2}, {0, 0, 0, 0}, {1, 1}, 2},
    {{4, 5, 6}, 4, {1, 1}, {1, 1}, {0, 0, 0, 0}, {1, 1}, 4},
    {{4, 9, 9}, 8, {3, 2}, {1, 2}, {2, 0, 1, 1}, {1, 1}, 4},
    {{6, 11, 12}, 4, {3, 3}, {2, 1}, {2, 2, 2, 2}, {2, 3}, 2},
    {{2, 3, 3}, 3, {5, 5}, {1, 1}, {4, 2, 2, 4}, {1, 1}, 1},
    {{700, 1, 1}, 10, {1, 1}, {1, 1}, {0, 0, 0, 0}, {1, 1}, 1},
    {{65, 40, 40}, 3, {5, 5}, {1, 1}, {2, 2, 2, 2}, {1, 1}, 1}, /* several tiles */
};

static struct ring_conv conv_of(const struct shape_case *k)
{
    struct ring_conv c = {.linear = {.group = k->group}};

    memcpy(c.in, k->in, sizeof c.in);
    memcpy(c.linear.kernel, k->kernel, sizeof k->kernel);
    memcpy(c.linear.stride, k->stride, sizeof k->stride);
    memcpy(c.linear.pad, k->pad, sizeof k->pad);
    memcpy(c.linear.dilation, k->dilation, sizeof k->dilation);
    c.out[0] = k->o;
    for (int i = 0; i < 2; i++)
        c.out[i + 1] =
            (k->in[i + 1] + k->pad[i] + k->pad[i + 2] - k->dilation[i] * (k->kernel[i] - 1) - 1) /
                k->stride[i] +
            1;
    c.columns = k->in[0] / k->group * k->kernel[0] * k->kernel[1];
    return c;
}

/* The definition, mod 2^64. */
static uint64_t naive_at(const struct ring_conv *c, const uint64_t *x, const int16_t *w, int64_t o,
                         int64_t i, int64_t j)
{
    const struct plan_linear *l = &c->linear;
    int64_t per = c->in[0] / l->group, g = o / (c->out[0] / l->group);
    uint64_t sum = (uint64_t)c->bias[o];

    for (int64_t ch = 0; ch < per; ch++)
        for (int64_t a = 0; a < l->kernel[0]; a++)
            for (int64_t b = 0; b < l->kernel[1]; b++) {
                int64_t y = i * l->stride[0] - l->pad[0] + a * l->dilation[0];
                int64_t z = j * l->stride[1] - l->pad[1] + b * l->dilation[1];
                if (y < 0 || z < 0 || y >= c->in[1] || z >= c->in[2])
                    continue;
                sum += x[((g * per + ch) * c->in[1] + y) * c->in[2] + z] *
                       (uint64_t)w[o * c->columns + (ch * l->kernel[0] + a) * l->kernel[1] + b];
            }
    return sum;
}

struct conv_data {
    int16_t *w;
    double *weight, *real_bias, *scratch;
    int64_t *bias;
};

static void fill_data(struct ring_conv *c, struct conv_data *d, struct rng *r, bool extreme)
{
    int64_t n = c->out[0] * c->columns;

    d->w = mem_array((size_t)n, sizeof *d->w);
    d->weight = mem_array((size_t)n, sizeof *d->weight);
    d->real_bias = mem_array((size_t)c->out[0], sizeof *d->real_bias);
    d->bias = mem_array((size_t)c->out[0], sizeof *d->bias);
    d->scratch = mem_aligned(ring_conv_scratch(c), sizeof *d->scratch);
    assert_true(d->w && d->weight && d->real_bias && d->bias && d->scratch);
    for (int64_t o = 0; o < c->out[0]; o++) {
        double l1 = 0;
        for (int64_t k = o * c->columns; k < (o + 1) * c->columns; k++) {
            uint32_t v = rng_u32(r);
            d->w[k] = extreme ? (v & 1 ? INT16_MIN : INT16_MAX) : (int16_t)(v % 65536 - 32768);
            d->weight[k] = d->w[k];
            l1 += fabs(d->weight[k]);
        }
        d->bias[o] = (int64_t)draw(r, SMALL);
        d->real_bias[o] = (double)d->bias[o];
        c->row_l1 = l1 > c->row_l1 ? l1 : c->row_l1;
    }
    c->weight = d->weight;
    c->bias = d->bias;
    c->real_bias = d->real_bias;
}

static void free_data(struct conv_data *d)
{
    mem_free(d->w);
    mem_free(d->weight);
    mem_free(d->real_bias);
    mem_free(d->bias);
    mem_free(d->scratch);
}

static void check_conv(const struct shape_case *k, enum range range, bool extreme, int threads,
                       struct rng *r)
{
    struct ring_conv c = conv_of(k);
    struct conv_data d;
    int64_t n_out = c.out[0] * c.out[1] * c.out[2], n_in = c.in[0] * c.in[1] * c.in[2];
    uint64_t *x = draw_words(r, n_in, range), *y = draw_words(r, n_out, SHARES);

    c.threads = threads;
    fill_data(&c, &d, r, extreme);
    ring_conv(y, x, &c, d.scratch);
    for (int64_t o = 0, at = 0; o < c.out[0]; o++)
        for (int64_t i = 0; i < c.out[1]; i++)
            for (int64_t j = 0; j < c.out[2]; j++, at++)
                if (y[at] != naive_at(&c, x, d.w, o, i, j))
                    fail_msg("case %lldx%lldx%lld range %d: output %lld", (long long)k->in[0],
                             (long long)k->in[1], (long long)k->in[2], (int)range, (long long)at);
    free_data(&d);
    mem_free(x);
    mem_free(y);
}

static void test_conv_equals_plain_loop(void **state)
{
    struct rng r = rng_at(1, RNG_TEST, 0, 0);

    (void)state;
    for (int threads = 1; threads <= 5; threads += threads == 1 ? 1 : 3)
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            check_conv(&cases[i], SMALL, false, threads, &r);
            check_conv(&cases[i], SHARES, false, threads, &r);
            check_conv(&cases[i], EDGES, true, threads, &r);
        }
}

/* Sums at both sides of the one-pass limit, with all partial sums as large as they can be. */
static void test_conv_is_exact_around_one_pass_limit(void **state)
{
    struct shape_case k = {{4096, 1, 1}, 2, {1, 1}, {1, 1}, {0}, {1, 1}, 1};
    struct ring_conv c = conv_of(&k);
    struct conv_data d;
    struct rng r = rng_at(2, RNG_TEST, 0, 0);
    uint64_t *x = draw_words(&r, 4096, SMALL), y[2];

    (void)state;
    fill_data(&c, &d, &r, true);
    for (int bits = 24; bits < 30; bits++)
        for (int low = -1; low < 2; low++) {
            for (int64_t i = 0; i < 4096; i++) {
                uint64_t v = ((uint64_t)1 << bits) + (uint64_t)low;
                x[i] = d.w[i] < 0 ? 0 - v : v;
            }
            ring_conv(y, x, &c, d.scratch);
            assert_int_equal(y[0], naive_at(&c, x, d.w, 0, 0, 0));
            assert_int_equal(y[1], naive_at(&c, x, d.w, 1, 0, 0));
        }
    free_data(&d);
    mem_free(x);
}

static void test_longest_sum_is_exact(void **state)
{
    struct shape_case k = {{PLAN_MAX_WINDOW, 1, 1}, 1, {1, 1}, {1, 1}, {0}, {1, 1}, 1};
    struct ring_conv c = conv_of(&k);
    struct conv_data d;
    struct rng r = rng_at(3, RNG_TEST, 0, 0);
    uint64_t *x = draw_words(&r, PLAN_MAX_WINDOW, SMALL), y;

    (void)state;
    fill_data(&c, &d, &r, true);
    for (int64_t i = 0; i < PLAN_MAX_WINDOW; i++) {
        x[i] = UINT64_MAX;
        d.w[i] = INT16_MIN;
        d.weight[i] = INT16_MIN;
    }
    c.row_l1 = 32768.0 * PLAN_MAX_WINDOW;
    ring_conv(&y, x, &c, d.scratch);
    assert_int_equal(y, naive_at(&c, x, d.w, 0, 0, 0));
    free_data(&d);
    mem_free(x);
}

static void test_real_conv_equals_integers(void **state)
{
    struct rng r = rng_at(4, RNG_TEST, 0, 0);

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ring_conv c = conv_of(&cases[i]);
        struct conv_data d;
        int64_t n_in = c.in[0] * c.in[1] * c.in[2], n_out = c.out[0] * c.out[1] * c.out[2];
        uint64_t *x = draw_words(&r, n_in, SMALL), *y = draw_words(&r, n_out, SHARES);
        double *xr = mem_array((size_t)n_in, sizeof *xr),
               *yr = mem_array((size_t)n_out, sizeof *yr);
        fill_data(&c, &d, &r, false);
        for (int64_t k = 0; k < n_in; k++)
            xr[k] = (double)(int64_t)x[k];
        ring_conv(y, x, &c, d.scratch);
        real_conv(yr, xr, &c, d.scratch);
        for (int64_t k = 0; k < n_out; k++)
            assert_true(yr[k] == (double)(int64_t)y[k]);
        free_data(&d);
        mem_free(x);
        mem_free(y);
        mem_free(xr);
        mem_free(yr);
    }
}

/* ---- element by element ------------------------------------------------------------------- */

static void test_truncation_is_floor(void **state)
{
    static const int64_t value[] = {0,     1,     -1,    4095,      4096,
                                    -4095, -4096, -4097, INT64_MAX, INT64_MIN};
    struct rng r = rng_at(5, RNG_TEST, 0, 0);

    (void)state;
    for (int bits = 1; bits < 40; bits++)
        for (int i = 0; i < 1000; i++) {
            int64_t v = i < 10 ? value[i] : (int64_t)draw(&r, SHARES), unit = (int64_t)1 << bits;
            int64_t floor_ = v / unit - (v % unit < 0);
            uint64_t y = (uint64_t)v;
            ring_truncate(&y, 1, bits);
            assert_int_equal((int64_t)y, floor_);
        }
}

static void test_add_shifts_both(void **state)
{
    uint64_t a[3] = {1, UINT64_MAX, (uint64_t)1 << 60}, b[3] = {5, 7, 9}, y[3];

    (void)state;
    ring_add(y, a, 12, b, 0, 3);
    assert_int_equal(y[0], 4096 + 5);
    assert_int_equal(y[1], (uint64_t)-4096 + 7);
    assert_int_equal(y[2], 9);
    ring_add(a, a, 0, b, 3, 3);
    assert_int_equal(a[0], 41);
}

/* Two channels of three; whole numbers, then shares whose sum is the same or one more. */
static void test_lines_touch_removed_positions_only(void **state)
{
    static uint32_t index[] = {1, 4};
    static int32_t slope[] = {-3, 5};
    static const int64_t x[6] = {7, -9, -8, 1000, -3, -1001}, offset[2] = {10, -20};
    static const int64_t half[6] = {13, -9, 6, 480, -3, -521};   /* floor(x / 2) + b */
    static const int64_t line[6] = {4, -9, 16, 1230, -3, -1272}; /* floor(k x / 4) + b */

    (void)state;
    for (int any = 0; any < 2; any++) {
        const struct plan_relu r = {.total = 6,
                                    .kept = 2,
                                    .index = index,
                                    .line_shift = 1 + any,
                                    .n_slope = 2 * any,
                                    .slope = any ? slope : NULL};
        const int64_t *want = any ? line : half;
        uint64_t whole[6];
        double real[6];
        struct rng rng = rng_at(1, RNG_TEST, 0, 9);

        for (int i = 0; i < 6; i++) {
            whole[i] = (uint64_t)x[i];
            real[i] = (double)x[i];
        }
        ring_line(whole, &r, 2, offset, RING_WHOLE);
        real_line(real, &r, 2, offset, 0);
        for (int i = 0; i < 6; i++) {
            assert_int_equal(whole[i], (uint64_t)want[i]);
            assert_true(floor(real[i]) == (double)want[i]);
        }
        for (int run = 0; run < 1000; run++) {
            uint64_t server[6], client[6];

            for (int i = 0; i < 6; i++) {
                client[i] = (uint64_t)rng_u32(&rng) << 32 | rng_u32(&rng);
                server[i] = (uint64_t)x[i] - client[i];
            }
            ring_line(server, &r, 2, offset, RING_SERVER);
            ring_line(client, &r, 2, NULL, RING_CLIENT);
            for (int i = 0; i < 6; i++) {
                const uint64_t error = server[i] + client[i] - (uint64_t)want[i];

                assert_in_range(error, 0, i != 1 && i != 4);
            }
        }
    }
}

static void test_relu_touches_kept_positions_only(void **state)
{
    uint32_t index[] = {1, 2, 4};
    struct plan_relu r = {.total = 5, .kept = 3, .index = index, .width = 21};
    uint64_t y[5] = {(uint64_t)-5, (uint64_t)-5, 7, (uint64_t)-9, ((uint64_t)1 << 20) - 1};

    (void)state;
    ring_relu(y, &r);
    assert_int_equal(y[0], (uint64_t)-5);
    assert_int_equal(y[1], 0);
    assert_int_equal(y[2], 7);
    assert_int_equal(y[3], (uint64_t)-9);
    assert_int_equal(y[4], ((uint64_t)1 << 20) - 1);
    y[4] = (uint64_t)1 << 20; /* beyond m bits: looks negative, as in the two-party run */
    ring_relu(y, &r);
    assert_int_equal(y[4], 0);
}

/* min(max(x, 0), cap), and beyond the range what the two comparisons see. */
static void test_relu_with_a_cap(void **state)
{
    uint32_t index[] = {0, 1, 2, 3, 5, 6};
    struct plan_relu r = {.total = 7, .kept = 6, .index = index, .width = 21, .cap = 100};
    uint64_t y[7] = {(uint64_t)-5, 0, 99, 100, 5000, 5000, (1 << 20) + 3};
    const uint64_t want[7] = {0, 0, 99, 100, 5000, 100, (uint64_t) - ((1 << 20) - 97)};
    double real[5] = {-0.5, 0.25, 6.5, 7, 12};
    struct plan_relu q = {.total = 5, .kept = 4, .index = (uint32_t[]){0, 1, 2, 4}, .cap = 13};

    (void)state;
    ring_relu(y, &r);
    assert_memory_equal(y, want, sizeof y);
    real_relu(real, &q, 1);
    assert_true(real[0] == 0 && real[1] == 0.25 && real[2] == 6.5 && real[3] == 7 &&
                real[4] == 6.5);
}

/* ---- pools and movement ------------------------------------------------------------------- */

static void test_pools_equal_plain_loop(void **state)
{
    struct plan_pool p = {{3, 2}, {2, 2}, {1, 0, 1, 1}, 0};
    int64_t in[3] = {3, 7, 6}, out[3] = {3, 4, 3};
    struct rng r = rng_at(6, RNG_TEST, 0, 0);
    uint64_t *x = draw_words(&r, 3 * 7 * 6, SMALL), sum[36], max[36];
    double xr[126], sum_r[36], max_r[36];

    (void)state;
    for (int i = 0; i < 126; i++)
        xr[i] = (double)(int64_t)x[i];
    ring_sum_pool(sum, x, &p, in, out);
    ring_max_pool(max, x, &p, in, out);
    real_sum_pool(sum_r, xr, &p, in, out);
    real_max_pool(max_r, xr, &p, in, out);
    for (int64_t c = 0, at = 0; c < 3; c++)
        for (int64_t i = 0; i < 4; i++)
            for (int64_t j = 0; j < 3; j++, at++) {
                int64_t s = 0, m = INT64_MIN;
                for (int64_t a = i * 2 - 1; a < i * 2 + 2; a++)
                    for (int64_t b = j * 2; b < j * 2 + 2; b++) {
                        if (a < 0 || a >= 7 || b < 0 || b >= 6)
                            continue;
                        int64_t v = (int64_t)x[(c * 7 + a) * 6 + b];
                        s += v;
                        m = v > m ? v : m;
                    }
                assert_int_equal((int64_t)sum[at], s);
                assert_int_equal((int64_t)max[at], m);
                assert_true(sum_r[at] == (double)s && max_r[at] == (double)m);
            }
    mem_free(x);
}

static void test_pad_and_slice_move_words(void **state)
{
    struct plan_pad p = {{1, 0, 2}, {1, 1, 0}};
    struct plan_slice s = {{0, 1, 0}, {1, 2, 3}};
    int64_t in[3] = {2, 4, 5}, padded[3] = {4, 5, 7}, cut[3] = {2, 2, 2};
    uint64_t x[40], y[140], z[8];

    (void)state;
    for (uint64_t i = 0; i < 40; i++)
        x[i] = i + 1;
    word_pad(y, x, &p, in, padded);
    for (int64_t c = 0; c < 4; c++)
        for (int64_t i = 0; i < 5; i++)
            for (int64_t j = 0; j < 7; j++) {
                bool inside = c >= 1 && c < 3 && i < 4 && j >= 2;
                assert_int_equal(y[(c * 5 + i) * 7 + j],
                                 inside ? x[((c - 1) * 4 + i) * 5 + j - 2] : 0);
            }
    word_slice(z, x, &s, in, cut);
    for (int64_t c = 0, at = 0; c < 2; c++)
        for (int64_t i = 0; i < 2; i++)
            for (int64_t j = 0; j < 2; j++, at++)
                assert_int_equal(z[at], x[(c * 4 + 1 + 2 * i) * 5 + 3 * j]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv_equals_plain_loop),
        cmocka_unit_test(test_conv_is_exact_around_one_pass_limit),
        cmocka_unit_test(test_longest_sum_is_exact),
        cmocka_unit_test(test_real_conv_equals_integers),
        cmocka_unit_test(test_truncation_is_floor),
        cmocka_unit_test(test_add_shifts_both),
        cmocka_unit_test(test_lines_touch_removed_positions_only),
        cmocka_unit_test(test_relu_touches_kept_positions_only),
        cmocka_unit_test(test_relu_with_a_cap),
        cmocka_unit_test(test_pools_equal_plain_loop),
        cmocka_unit_test(test_pad_and_slice_move_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
