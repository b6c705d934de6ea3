/*
 * bf16 convolutions against plain loops in double precision on the rounded operands, every code path
 * against the plain C one bit by bit, and the conversions. AMX is tested where the machine has it, its source
 * on tiles in memory everywhere.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/graph/rng.h"
#include "core/kernel/bf16_conv.h"
#include "tests/bf16_tiles.h"

#include <cmocka.h>

/* Errors of sums in fp32, relative in the Euclidean norm; a result stored in bf16 is rounded once. */
#define SUM_BOUND 3e-7
#define STORED_BOUND 2.2e-3 /* 1.6e-3 over many numbers */

#if defined __SANITIZE_ADDRESS__ /* the same code, many times slower */
#define ZOO_STEP 16
#else
#define ZOO_STEP 1
#endif

static void *room(int64_t n, size_t size)
{
    void *p = mem_aligned((size_t)n, size);

    assert_non_null(p);
    memset(p, 0, (size_t)n * size);
    return p;
}

static const struct bf16_kernels *emulation(void)
{
    return bf16_kernels_of(cpu_best_path());
}

static float rounded(float v)
{
    return bf16_float(bf16_round(v));
}

/* Uniform in [-1, 1), as bf16 holds it. */
static float *random_floats(int64_t n, uint64_t seed)
{
    float *v = room(n, sizeof *v);
    struct rng r = rng_at(seed, RNG_TEST, 0, 0);

    for (int64_t i = 0; i < n; i++)
        v[i] = rounded(rng_range(&r, -1, 1));
    return v;
}

/* One convolution and all of its operands, [n][h][w][c] and [O][I][kh][kw]. */
struct job {
    struct bf16_node node;
    int64_t n, nx, ny, nw;
    float *x, *dy, *w;
    double *y, *dx, *dw;
};

static void convolve(struct job *j)
{
    const struct bf16_node *m = &j->node;
    const int64_t taps = m->kernel[0] * m->kernel[1];

    for (int64_t at = 0; at < j->n * m->out_h * m->out_w; at++)
        for (int64_t tap = 0; tap < taps; tap++) {
            const int64_t image = at / (m->out_h * m->out_w);
            const int64_t h =
                at / m->out_w % m->out_h * m->stride[0] - m->pad[0] + tap / m->kernel[1];
            const int64_t v = at % m->out_w * m->stride[1] - m->pad[1] + tap % m->kernel[1];

            if (h < 0 || h >= m->in_h || v < 0 || v >= m->in_w)
                continue;
            const int64_t in = ((image * m->in_h + h) * m->in_w + v) * m->in_c;

            for (int64_t o = 0; o < m->out_c; o++)
                for (int64_t c = 0; c < m->in_c; c++) {
                    const int64_t k = (o * m->in_c + c) * taps + tap, out = at * m->out_c + o;

                    j->y[out] += (double)j->x[in + c] * (double)j->w[k];
                    j->dx[in + c] += (double)j->dy[out] * (double)j->w[k];
                    j->dw[k] += (double)j->dy[out] * (double)j->x[in + c];
                }
        }
}

static void job_of(struct job *j, int64_t n, const struct bf16_node *node)
{
    const int64_t in_c = node->in_c, out_c = node->out_c, h = node->in_h, w = node->in_w;
    const int64_t kernel = node->kernel[0];

    *j = (struct job){.n = n, .node = *node};
    j->nx = n * in_c * h * w;
    j->ny = n * out_c * j->node.out_h * j->node.out_w;
    j->nw = out_c * in_c * kernel * kernel;
    j->x = random_floats(j->nx, 1);
    j->dy = random_floats(j->ny, 2);
    j->w = random_floats(j->nw, 3);
    j->y = room(j->ny, sizeof(double));
    j->dx = room(j->nx, sizeof(double));
    j->dw = room(j->nw, sizeof(double));
    convolve(j);
}

static void job_begin(struct job *j, int64_t n, int64_t in_c, int64_t out_c, int64_t h, int64_t w,
                      int64_t kernel, int64_t stride)
{
    const int64_t pad = kernel / 2;

    job_of(j, n,
           &(const struct bf16_node){in_c,
                                     h,
                                     w,
                                     out_c,
                                     (h + 2 * pad - kernel) / stride + 1,
                                     (w + 2 * pad - kernel) / stride + 1,
                                     {kernel, kernel},
                                     {stride, stride},
                                     {pad, pad}});
}

static void job_end(struct job *j)
{
    mem_free(j->x);
    mem_free(j->dy);
    mem_free(j->w);
    mem_free(j->y);
    mem_free(j->dx);
    mem_free(j->dw);
}

static int64_t stored_size(const struct bf16_map *m, int64_t n)
{
    return (n + BF16_IMAGES - 1) / BF16_IMAGES * bf16_tiles(m) * BF16_TILE;
}

/* Images behind the last one hold NaN: nothing may come of them. */
static bf16 *stored(const struct bf16_map *m, const float *x, int64_t n)
{
    const int64_t size = stored_size(m, n), image = m->c * m->h * m->w;
    const struct bf16_tail none = {.relu = false};
    bf16 *t = room(size, sizeof *t);

    for (int64_t i = 0; i < size; i++)
        t[i] = 0x7fc0;
    for (int64_t i = 0; i < n; i++)
        emulation()->store(m, t + i / BF16_IMAGES * bf16_tiles(m) * BF16_TILE, i % BF16_IMAGES,
                           x + i * image, &none);
    return t;
}

static float *loaded(const struct bf16_map *m, const bf16 *t, int64_t n)
{
    const int64_t image = m->c * m->h * m->w;
    float *x = room(n * image, sizeof *x);

    for (int64_t i = 0; i < n; i++)
        emulation()->load(m, x + i * image, t + i / BF16_IMAGES * bf16_tiles(m) * BF16_TILE,
                          i % BF16_IMAGES, false);
    return x;
}

static double relative_error(const float *got, const double *want, int64_t n)
{
    double error = 0, size = 0;

    for (int64_t i = 0; i < n; i++) {
        const double d = (double)got[i] - want[i];

        error += d * d;
        size += want[i] * want[i];
    }
    return size > 0 ? sqrt(error / size) : 0;
}

/* What one path makes of a job. */
struct result {
    float *y, *dx, *dw;
};

static float *run(const struct job *j, const struct bf16_kernels *k, bool grad, int32_t parts)
{
    struct bf16_conv c;

    bf16_conv_make(&c, &j->node, grad);
    bf16 *src = stored(&c.src, grad ? j->dy : j->x, j->n);
    bf16 *dst = room(stored_size(&c.dst, j->n), sizeof *dst);
    bf16 *packed = room((int64_t)bf16_conv_packed(&c), sizeof *packed);

    for (int32_t p = 0; p < parts; p++)
        bf16_conv_pack(&c, j->w, NULL, p, parts, packed);
    k->begin();
    for (int32_t p = 0; p < parts; p++) {
        const struct bf16_run r = {
            .n = j->n, .src = src, .packed = packed, .dst = dst, .part = p, .parts = parts};

        bf16_conv_run(&c, k, &r);
    }
    k->end();
    float *got = loaded(&c.dst, dst, j->n);
    mem_free(src);
    mem_free(dst);
    mem_free(packed);
    return got;
}

static float *run_weights(const struct job *j, const struct bf16_kernels *k, int32_t parts)
{
    struct bf16_conv c;

    bf16_conv_make(&c, &j->node, false);
    bf16 *x = stored(&c.src, j->x, j->n), *dy = stored(&c.dst, j->dy, j->n);
    float *scratch = room((int64_t)bf16_grad_scratch(&c), sizeof *scratch);
    float *dw = room(j->nw, sizeof *dw);

    k->begin();
    for (int32_t p = 0; p < parts; p++)
        bf16_grad_weights(&c, k, j->n, x, dy, dw, p, parts, scratch);
    k->end();
    mem_free(x);
    mem_free(dy);
    mem_free(scratch);
    return dw;
}

static struct result run_all(const struct job *j, const struct bf16_kernels *k, int32_t parts)
{
    return (struct result){run(j, k, false, parts), run(j, k, true, parts),
                           run_weights(j, k, parts)};
}

static void result_end(struct result *r)
{
    mem_free(r->y);
    mem_free(r->dx);
    mem_free(r->dw);
}

static void assert_same(const struct job *j, const struct result *a, const struct result *b)
{
    assert_memory_equal(a->y, b->y, (size_t)j->ny * sizeof(float));
    assert_memory_equal(a->dx, b->dx, (size_t)j->nx * sizeof(float));
    assert_memory_equal(a->dw, b->dw, (size_t)j->nw * sizeof(float));
}

/* Plain C against doubles; the others, cut into 2, 4 and more parts as threads cut them, against it. */
static void check(const struct job *j)
{
    static const enum cpu_path paths[] = {CPU_GENERIC, CPU_AVX2, CPU_AVX512, CPU_AVX512BF16,
                                          CPU_AMX};
    struct result first = run_all(j, bf16_kernels_of(CPU_GENERIC), 1);

    const double y = relative_error(first.y, j->y, j->ny);
    const double dx = relative_error(first.dx, j->dx, j->nx);
    const double dw = relative_error(first.dw, j->dw, j->nw);
    if (!(y < STORED_BOUND && dx < STORED_BOUND && dw < SUM_BOUND))
        fail_msg("%lld -> %lld, %lld x %lld, kernel %lld, stride %lld: %g, %g, %g",
                 (long long)j->node.in_c, (long long)j->node.out_c, (long long)j->node.in_h,
                 (long long)j->node.in_w, (long long)j->node.kernel[0],
                 (long long)j->node.stride[0], y, dx, dw);
    for (size_t i = 1; i < sizeof paths / sizeof *paths; i++) {
        if (paths[i] > cpu_level())
            continue;
        struct result other = run_all(j, bf16_kernels_of(paths[i]), 1 << i);

        assert_same(j, &first, &other);
        result_end(&other);
    }
    struct result tiles = run_all(j, bf16_kernels_on_tiles(), 3);

    assert_same(j, &first, &tiles);
    result_end(&tiles);
    result_end(&first);
}

/* Channels, size, kernel, stride: packed pixels on one side or both, odd widths, missing channels. */
static void test_convolutions(void **state)
{
    static const int64_t shape[][7] = {
        {3, 16, 16, 4, 6, 3, 1},   {2, 16, 32, 6, 8, 3, 2},  {2, 32, 16, 5, 4, 3, 1},
        {2, 16, 16, 4, 5, 3, 1},   {2, 32, 16, 8, 8, 3, 2},  {2, 16, 16, 8, 8, 3, 2},
        {2, 32, 32, 4, 4, 3, 1},   {2, 64, 96, 3, 5, 3, 1},  {2, 40, 24, 5, 6, 3, 2},
        {2, 64, 32, 4, 4, 1, 1},   {2, 16, 64, 8, 8, 1, 2},  {2, 32, 64, 7, 7, 1, 2},
        {33, 16, 16, 2, 4, 3, 1},  {35, 32, 32, 2, 2, 3, 1}, {1, 32, 32, 9, 7, 5, 2},
        {1, 32, 16, 12, 12, 7, 2},
    };

    (void)state;
    if (cpu_level() < CPU_AMX)
        print_message("AMX skipped: no AMX; its source runs on tiles in memory\n");
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        const int64_t *s = shape[i];
        struct job j;

        job_begin(&j, s[0], s[1], s[2], s[3], s[4], s[5], s[6]);
        assert_true(bf16_conv_fits(&j.node));
        check(&j);
        job_end(&j);
    }
}

/*
 * Every layer of the zoo's networks (tests/zoo, and those of LINNET_SHARED) that bf16 computes: 408 of 610 different
 * convolutions; 92 are grouped, 68 have fewer than 16 channels (stems), 9 are dilated, and stay fp32, 33 have no fixed
 * size. Their kinds: input and output channels, size, kernel, stride, leading and trailing pad. Sizes are cut to the
 * smallest map of the same parity that has both borders and an inside, channels above 160 to 160 or, where they are no
 * multiple of 32, to 128 and the rest: neither changes which tiles, halves and borders there are. The last two are
 * whole, with longer lists than one call of a kernel takes.
 */
static void test_zoo(void **state)
{
    static const uint8_t kind[][7] = {
        {16, 16, 2, 1, 1, 0, 0},   {16, 16, 4, 3, 1, 1, 1},   {16, 32, 2, 1, 1, 0, 0},
        {16, 32, 4, 1, 2, 0, 0},   {16, 32, 4, 3, 1, 1, 1},   {16, 32, 4, 3, 2, 0, 1},
        {16, 32, 4, 3, 2, 1, 1},   {16, 48, 2, 1, 1, 0, 0},   {16, 64, 3, 1, 1, 0, 0},
        {16, 64, 5, 3, 1, 1, 1},   {16, 72, 2, 1, 1, 0, 0},   {16, 96, 2, 1, 1, 0, 0},
        {16, 128, 1, 1, 1, 0, 0},  {16, 160, 1, 1, 1, 0, 0},  {24, 16, 2, 1, 1, 0, 0},
        {24, 24, 2, 1, 1, 0, 0},   {24, 32, 4, 3, 1, 1, 1},   {24, 72, 2, 1, 1, 0, 0},
        {24, 88, 2, 1, 1, 0, 0},   {24, 96, 1, 1, 1, 0, 0},   {24, 96, 2, 1, 1, 0, 0},
        {24, 144, 2, 1, 1, 0, 0},  {32, 16, 2, 1, 1, 0, 0},   {32, 32, 2, 1, 1, 0, 0},
        {32, 32, 4, 3, 1, 1, 1},   {32, 64, 2, 1, 1, 0, 0},   {32, 64, 4, 1, 2, 0, 0},
        {32, 64, 4, 3, 1, 1, 1},   {32, 64, 4, 3, 2, 1, 1},   {32, 120, 1, 1, 1, 0, 0},
        {32, 128, 1, 1, 1, 0, 0},  {32, 128, 3, 1, 1, 0, 0},  {32, 128, 4, 3, 2, 1, 1},
        {32, 128, 5, 3, 1, 1, 1},  {32, 160, 1, 1, 1, 0, 0},  {32, 160, 2, 1, 1, 0, 0},
        {40, 120, 2, 1, 1, 0, 0},  {40, 144, 1, 1, 1, 0, 0},  {40, 144, 2, 1, 1, 0, 0},
        {48, 16, 2, 1, 1, 0, 0},   {48, 24, 2, 1, 1, 0, 0},   {48, 144, 2, 1, 1, 0, 0},
        {48, 160, 2, 1, 1, 0, 0},  {48, 160, 3, 1, 1, 0, 0},  {48, 160, 5, 3, 1, 1, 1},
        {56, 144, 2, 1, 1, 0, 0},  {64, 16, 1, 1, 1, 0, 0},   {64, 16, 3, 1, 1, 0, 0},
        {64, 64, 2, 1, 1, 0, 0},   {64, 64, 4, 3, 1, 1, 1},   {64, 64, 4, 3, 2, 1, 1},
        {64, 128, 2, 1, 1, 0, 0},  {64, 128, 4, 1, 2, 0, 0},  {64, 128, 4, 3, 1, 1, 1},
        {64, 128, 4, 3, 2, 1, 1},  {64, 144, 1, 1, 1, 0, 0},  {64, 160, 1, 1, 1, 0, 0},
        {64, 160, 2, 1, 1, 0, 0},  {64, 160, 3, 1, 1, 0, 0},  {64, 160, 4, 3, 2, 1, 1},
        {64, 160, 5, 3, 1, 1, 1},  {72, 24, 2, 1, 1, 0, 0},   {72, 160, 1, 1, 1, 0, 0},
        {88, 24, 2, 1, 1, 0, 0},   {96, 16, 2, 1, 1, 0, 0},   {96, 24, 1, 1, 1, 0, 0},
        {96, 24, 2, 1, 1, 0, 0},   {96, 40, 2, 1, 1, 0, 0},   {96, 128, 2, 1, 1, 0, 0},
        {96, 160, 2, 1, 1, 0, 0},  {96, 160, 3, 1, 1, 0, 0},  {112, 160, 2, 1, 1, 0, 0},
        {120, 32, 1, 1, 1, 0, 0},  {120, 48, 2, 1, 1, 0, 0},  {128, 16, 1, 1, 1, 0, 0},
        {128, 16, 3, 1, 1, 0, 0},  {128, 32, 3, 1, 1, 0, 0},  {128, 32, 4, 3, 1, 1, 1},
        {128, 32, 5, 3, 1, 1, 1},  {128, 64, 2, 1, 1, 0, 0},  {128, 128, 2, 1, 1, 0, 0},
        {128, 128, 2, 3, 1, 1, 1}, {128, 128, 4, 3, 1, 1, 1}, {128, 128, 4, 3, 2, 1, 1},
        {128, 160, 1, 1, 1, 0, 0}, {128, 160, 2, 1, 1, 0, 0}, {128, 160, 4, 1, 2, 0, 0},
        {128, 160, 4, 3, 1, 1, 1}, {128, 160, 4, 3, 2, 1, 1}, {144, 24, 2, 1, 1, 0, 0},
        {144, 32, 2, 1, 1, 0, 0},  {144, 40, 1, 1, 1, 0, 0},  {144, 40, 2, 1, 1, 0, 0},
        {144, 48, 2, 1, 1, 0, 0},  {144, 56, 2, 1, 1, 0, 0},  {144, 64, 1, 1, 1, 0, 0},
        {144, 112, 2, 1, 1, 0, 0}, {144, 160, 1, 1, 1, 0, 0}, {160, 16, 1, 1, 1, 0, 0},
        {160, 32, 1, 1, 1, 0, 0},  {160, 32, 2, 1, 1, 0, 0},  {160, 32, 3, 1, 1, 0, 0},
        {160, 48, 2, 1, 1, 0, 0},  {160, 48, 3, 1, 1, 0, 0},  {160, 56, 2, 1, 1, 0, 0},
        {160, 64, 1, 1, 1, 0, 0},  {160, 64, 2, 1, 1, 0, 0},  {160, 64, 3, 1, 1, 0, 0},
        {160, 72, 1, 1, 1, 0, 0},  {160, 96, 2, 1, 1, 0, 0},  {160, 96, 3, 1, 1, 0, 0},
        {160, 128, 1, 1, 1, 0, 0}, {160, 128, 2, 1, 1, 0, 0}, {160, 128, 3, 1, 1, 0, 0},
        {160, 128, 4, 1, 2, 0, 0}, {160, 136, 1, 1, 1, 0, 0}, {160, 136, 3, 1, 1, 0, 0},
        {160, 144, 1, 1, 1, 0, 0}, {160, 160, 1, 1, 1, 0, 0}, {160, 160, 2, 1, 1, 0, 0},
        {160, 160, 2, 3, 1, 1, 1}, {160, 160, 3, 1, 1, 0, 0}, {160, 160, 4, 1, 2, 0, 0},
        {160, 160, 4, 3, 1, 1, 1}, {160, 160, 4, 3, 2, 1, 1}, {160, 160, 5, 3, 1, 1, 1},
        {160, 160, 5, 3, 2, 1, 1}};
    static const int64_t whole[][7] = {{512, 512, 2, 3, 1, 1, 1}, {2048, 512, 1, 1, 1, 0, 0}};
    const size_t kinds = sizeof kind / sizeof *kind, all = kinds + 2;

    (void)state;
    for (size_t i = 0; i < all; i += ZOO_STEP) {
        int64_t s[7];
        struct job j;

        for (int k = 0; k < 7; k++)
            s[k] = i < kinds ? kind[i][k] : whole[i - kinds][k];
        const int64_t out = (s[2] + s[5] + s[6] - s[3]) / s[4] + 1;

        job_of(&j, 2,
               &(const struct bf16_node){
                   s[0], s[2], s[2], s[1], out, out, {s[3], s[3]}, {s[4], s[4]}, {s[5], s[5]}});
        assert_true(bf16_conv_fits(&j.node));
        check(&j);
        job_end(&j);
    }
}

/* Scale, shift, another operand, a ReLU at some positions: as the four steps in fp32. */
static void test_tail(void **state)
{
    struct job j;
    struct bf16_conv c;

    (void)state;
    job_begin(&j, 3, 32, 32, 4, 4, 3, 1);
    bf16_conv_make(&c, &j.node, false);
    const struct bf16_kernels *k = emulation();
    bf16 *src = stored(&c.src, j.x, j.n), *other = stored(&c.dst, j.dy, j.n);
    bf16 *dst = room(stored_size(&c.dst, j.n), sizeof *dst);
    bf16 *packed = room((int64_t)bf16_conv_packed(&c), sizeof *packed);
    float *scale = random_floats(32, 7), *shift = random_floats(32, 8);
    uint32_t mask[16];

    for (uint32_t i = 0; i < 16; i++)
        mask[i] = 0x9e3779b9u * (i + 1);
    bf16_conv_pack(&c, j.w, NULL, 0, 0, packed);
    k->begin();
    bf16_conv_run(&c, k,
                  &(const struct bf16_run){.n = j.n,
                                           .src = src,
                                           .packed = packed,
                                           .scale = scale,
                                           .shift = shift,
                                           .tail = {other, mask, true},
                                           .dst = dst});
    k->end();
    float *got = loaded(&c.dst, dst, j.n);

    for (int64_t i = 0; i < j.ny; i++) {
        const int64_t o = i % 32, pixel = i / 32 % 16;
        double v = j.y[i] * (double)scale[o] + (double)shift[o] + (double)j.dy[i];

        if ((mask[pixel] >> o & 1) && v <= 0)
            v = 0;
        assert_true(fabs((double)got[i] - v) <= 1e-5 + fabs(v) / 256);
    }
    mem_free(src);
    mem_free(other);
    mem_free(dst);
    mem_free(packed);
    mem_free(scale);
    mem_free(shift);
    mem_free(got);
    job_end(&j);
}

/* Images beside it do not change an image. */
static void test_neighbours(void **state)
{
    struct job many, one;

    (void)state;
    job_begin(&many, 33, 16, 32, 4, 4, 3, 2);
    job_begin(&one, 1, 16, 32, 4, 4, 3, 2);
    memcpy(one.x, many.x + 32 * one.nx, (size_t)one.nx * sizeof(float));
    float *all = run(&many, emulation(), false, 1), *alone = run(&one, emulation(), false, 3);

    assert_memory_equal(all + 32 * one.ny, alone, (size_t)one.ny * sizeof(float));
    mem_free(all);
    mem_free(alone);
    job_end(&many);
    job_end(&one);
}

static void test_rounding(void **state)
{
    (void)state;
    assert_int_equal(bf16_round(1), 0x3f80);
    assert_int_equal(bf16_round(1 + 0x1p-8F), 0x3f80);      /* half way, to even */
    assert_int_equal(bf16_round(1 + 0x1.8p-7F), 0x3f82);    /* half way, to even */
    assert_int_equal(bf16_round(1 + 0x1.01p-8F), 0x3f81);   /* above half */
    assert_int_equal(bf16_round(-0x1p-130F), 0x8000);       /* denormal */
    assert_int_equal(bf16_round(0x1.fffffep+127F), 0x7f80); /* up to infinity */
    assert_true(isnan(bf16_float(bf16_round(NAN))));
}

/* Products whose chains run through denormals: the same on all paths. */
static void test_denormals(void **state)
{
    struct job j;

    (void)state;
    job_begin(&j, 2, 32, 32, 2, 2, 3, 1);
    for (int64_t i = 0; i < j.nx; i++)
        j.x[i] = rounded(j.x[i] * 0x1p-70F);
    for (int64_t i = 0; i < j.ny; i++)
        j.dy[i] = rounded(j.dy[i] * 0x1p-62F);
    for (int64_t i = 0; i < j.nw; i++)
        j.w[i] = rounded(j.w[i] * 0x1p-56F);
    struct result a = run_all(&j, bf16_kernels_of(CPU_GENERIC), 1);
    struct result b = run_all(&j, bf16_kernels_of(cpu_level()), 1);

    assert_same(&j, &a, &b);
    result_end(&a);
    result_end(&b);
    job_end(&j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convolutions), cmocka_unit_test(test_zoo),
        cmocka_unit_test(test_tail),         cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_rounding),     cmocka_unit_test(test_denormals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
