/*
 * Fixed-point kernels (ring.h).
 *
 * A convolution walks over tiles of output positions: the window of every position becomes a
 * column of a [k, tile] matrix of doubles, one product gives [o, tile] exact integers, which are
 * added into the ring. The limbs of x lie side by side in one matrix. 1x1 convolutions with
 * stride 1 use x itself as the matrix. One input channel per group (the per-channel factors of a
 * batch normalisation that could not be folded) is a plain loop: a product with one row is none.
 */
#include "runtime/ring/ring.h"

#include <math.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/base/gemm.h"
#include "runtime/ring/product.h"

#define EXACT 9007199254740992.0 /* 2^53 */
#define LIMB_MAX 53
#define MAX_LIMBS 3                     /* row_l1 < 2^31 allows 23 bits */
#define TILE_DOUBLES ((int64_t)1 << 16) /* of a [k, tile] matrix: stays in cache */
#define TILE_MIN 32

struct ring_conv ring_conv_of(const struct plan *p, const struct plan_step *s)
{
    struct ring_conv c = {.linear = s->u.linear, .threads = cpu_threads()};
    int64_t rows;

    memcpy(c.in, p->tensor[s->in[0]].dim, sizeof c.in);
    memcpy(c.out, p->tensor[s->out].dim, sizeof c.out);
    plan_matrix_size(p, s, &rows, &c.columns);
    return c;
}

/* ---- windows ------------------------------------------------------------------------------ */

static bool is_plain(const struct ring_conv *c)
{
    const struct plan_linear *l = &c->linear;

    return l->kernel[0] * l->kernel[1] == 1 && l->stride[0] == 1 && l->stride[1] == 1 &&
           l->pad[0] + l->pad[1] + l->pad[2] + l->pad[3] == 0;
}

static bool is_depthwise(const struct ring_conv *c)
{
    return c->linear.group == c->in[0] && c->linear.group > 1;
}

static int64_t plane(const int64_t dim[3])
{
    return dim[1] * dim[2];
}

/* Output rows of a tile when `limbs` images share it. */
static int64_t tile_rows(const struct ring_conv *c, int limbs)
{
    int64_t rows = TILE_DOUBLES / (c->columns * c->out[2] * limbs);
    int64_t least = (TILE_MIN + c->out[2] - 1) / c->out[2];

    rows = rows < least ? least : rows;
    return rows > c->out[1] ? c->out[1] : rows;
}

/* Positions of a tile, of all limbs together. */
static int64_t tile_positions(const struct ring_conv *c, int limbs)
{
    return is_plain(c) ? plane(c->out) : tile_rows(c, limbs) * c->out[2] * limbs;
}

/* Doubles of a thread: columns of a tile, products of a tile, panels. */
static int64_t tile_scratch(const struct ring_conv *c)
{
    int64_t most = 0;

    for (int limbs = 1; limbs <= MAX_LIMBS; limbs++) {
        int64_t tile = tile_positions(c, limbs);
        int64_t need = (is_plain(c) ? c->out[0] : c->out[0] + c->columns) * tile +
                       (int64_t)ring_product_scratch(tile, c->columns);
        most = need > most ? need : most;
    }
    return (most + 7) / 8 * 8;
}

static int threads_of(const struct ring_conv *c)
{
    return c->threads < 1 ? 1 : c->threads;
}

/* rest of x, limbs as doubles, and what each thread needs */
size_t ring_conv_scratch(const struct ring_conv *c)
{
    return (size_t)((1 + MAX_LIMBS) * c->in[0] * plane(c->in) + threads_of(c) * tile_scratch(c));
}

/* Outputs j in [*from, *to) of a row read inside [0, size) at start + j * stride. */
static void inside(int64_t start, int64_t stride, int64_t size, int64_t n, int64_t *from,
                   int64_t *to)
{
    *from = start < 0 ? (-start + stride - 1) / stride : 0;
    *to = start < size ? (size - 1 - start) / stride + 1 : 0;
    *to = *to > n ? n : *to;
    *from = *from > *to ? *to : *from;
}

/* Tap (kh, kw) of plane x for output rows [first, first + rows): rows of the column matrix. */
static void fill_tap(double *to, const double *x, const struct ring_conv *c, int64_t kh, int64_t kw,
                     int64_t first, int64_t rows)
{
    const struct plan_linear *l = &c->linear;
    int64_t ow = c->out[2], stride = l->stride[1], at = kw * l->dilation[1] - l->pad[1];
    int64_t left, right;

    inside(at, stride, c->in[2], ow, &left, &right);
    for (int64_t i = first; i < first + rows; i++, to += ow) {
        int64_t y = i * l->stride[0] - l->pad[0] + kh * l->dilation[0];
        const double *row;
        memset(to, 0, (size_t)ow * sizeof *to);
        if (y < 0 || y >= c->in[1] || left == right)
            continue;
        row = x + y * c->in[2] + (at + left * stride);
        for (int64_t j = left; j < right; j++)
            to[j] = row[(j - left) * stride];
    }
}

/* Columns of one limb: rows of the matrix are `stride` apart. */
static void fill_columns(double *to, const double *x, const struct ring_conv *c, int64_t first,
                         int64_t rows, int64_t stride)
{
    int64_t channels = c->in[0] / c->linear.group;

    for (int64_t ch = 0; ch < channels; ch++)
        for (int64_t kh = 0; kh < c->linear.kernel[0]; kh++)
            for (int64_t kw = 0; kw < c->linear.kernel[1]; kw++, to += stride)
                fill_tap(to, x + ch * plane(c->in), c, kh, kw, first, rows);
}

/* ring_product's arguments */
typedef void multiply_fn(double *c, const double *a, const double *b, int64_t m, int64_t n,
                         int64_t k, double *scratch);
/* Images of a convolution, one after the other: limbs of x, or x itself. */
struct images {
    const double *x;
    int n, shift; /* shift: bits between two limbs */
    multiply_fn *multiply;
};
/* What is done with a tile: y at channel row * plane + offset takes n products. */
typedef void tile_sink(void *y, int64_t at, const double *product, int64_t n, int shift);

/* A piece of a convolution: of a group, output rows [first, first + rows), of its channels [from, to). */
struct piece {
    int64_t group, first, rows, from, to;
};

/* One product for all images, so that the weights are read once. */
static void window_tile(void *y, const struct images *im, const struct ring_conv *c,
                        const struct piece *p, double *scratch, tile_sink *sink)
{
    int64_t n = p->rows * c->out[2], all = n * im->n, o = c->out[0] / c->linear.group;
    int64_t size = c->in[0] * plane(c->in), channels = p->to - p->from;
    int64_t top = p->group * o + p->from;
    const double *x = im->x + p->group * (c->in[0] / c->linear.group) * plane(c->in);
    double *columns = scratch, *product = columns + c->columns * all;
    double *rest = product + channels * all;

    for (int i = 0; i < im->n; i++)
        fill_columns(columns + i * n, x + i * size, c, p->first, p->rows, all);
    im->multiply(product, c->weight + top * c->columns, columns, channels, all, c->columns, rest);
    for (int64_t r = 0; r < channels; r++)
        for (int i = 0; i < im->n; i++)
            sink(y, (top + r) * plane(c->out) + p->first * c->out[2], product + r * all + i * n, n,
                 i * im->shift);
}

/* 1x1, stride 1: the image is the matrix. */
static void plain_tile(void *y, const struct images *im, const struct ring_conv *c,
                       const struct piece *p, double *scratch, tile_sink *sink)
{
    int64_t n = plane(c->out), o = c->out[0] / c->linear.group, channels = p->to - p->from;
    int64_t size = c->in[0] * n, top = p->group * o + p->from;
    double *product = scratch, *rest = product + channels * n;
    const double *x = im->x + p->group * (c->in[0] / c->linear.group) * n;

    for (int i = 0; i < im->n; i++) {
        im->multiply(product, c->weight + top * c->columns, x + i * size, channels, n, c->columns,
                     rest);
        for (int64_t r = 0; r < channels; r++)
            sink(y, (top + r) * n, product + r * n, n, i * im->shift);
    }
}

/* Piece k of a convolution cut into tiles of `step` rows and `parts` of the channels. */
static struct piece piece_of(const struct ring_conv *c, int64_t k, int64_t step, int64_t parts)
{
    int64_t o = c->out[0] / c->linear.group, tiles = (c->out[1] + step - 1) / step;
    int64_t part = k % parts, first = k / parts % tiles * step;

    return (struct piece){k / parts / tiles, first,
                          first + step > c->out[1] ? c->out[1] - first : step, part * o / parts,
                          (part + 1) * o / parts};
}

/* Pieces write to places of their own, so that no result depends on the threads. Where there are few
 * tiles, which is where they are deep, the channels are shared out too. */
static void each_tile(void *y, const struct images *im, const struct ring_conv *c, double *scratch,
                      tile_sink *sink)
{
    int64_t step = is_plain(c) ? c->out[1] : tile_rows(c, im->n), o = c->out[0] / c->linear.group;
    int64_t tiles = c->linear.group * ((c->out[1] + step - 1) / step), own = tile_scratch(c);
    int threads = threads_of(c);
    int64_t parts = tiles >= 4 * threads ? 1 : o < threads ? o : threads;

#pragma omp parallel for schedule(dynamic) num_threads(threads) if (tiles * parts > 1)
    for (int64_t k = 0; k < tiles * parts; k++) {
        struct piece p = piece_of(c, k, step, parts);
        double *mine = scratch + cpu_thread_index() * own;

        if (is_plain(c))
            plain_tile(y, im, c, &p, mine, sink);
        else
            window_tile(y, im, c, &p, mine, sink);
    }
}

static void add_integers(void *y, int64_t at, const double *product, int64_t n, int shift)
{
    uint64_t *to = (uint64_t *)y + at;

    for (int64_t j = 0; j < n; j++)
        to[j] += (uint64_t)(int64_t)product[j] << shift;
}

static void add_reals(void *y, int64_t at, const double *product, int64_t n, int shift)
{
    double *to = (double *)y + at;

    (void)shift;
    for (int64_t j = 0; j < n; j++)
        to[j] += product[j];
}

/* ---- one input channel per group ---------------------------------------------------------- */

/* Adds weight * x over one tap to one output plane. */
static void tap_plane(uint64_t *y, const uint64_t *x, const struct ring_conv *c, uint64_t weight,
                      int64_t kh, int64_t kw)
{
    const struct plan_linear *l = &c->linear;

    for (int64_t i = 0; i < c->out[1]; i++) {
        int64_t row = i * l->stride[0] - l->pad[0] + kh * l->dilation[0];
        if (row < 0 || row >= c->in[1])
            continue;
        for (int64_t j = 0; j < c->out[2]; j++) {
            int64_t col = j * l->stride[1] - l->pad[1] + kw * l->dilation[1];
            if (col >= 0 && col < c->in[2])
                y[i * c->out[2] + j] += weight * x[row * c->in[2] + col];
        }
    }
}

static void depthwise(uint64_t *y, const uint64_t *x, const struct ring_conv *c)
{
    int64_t per_group = c->out[0] / c->linear.group;

    for (int64_t o = 0; o < c->out[0]; o++)
        for (int64_t t = 0; t < c->columns; t++)
            tap_plane(y + o * plane(c->out), x + o / per_group * plane(c->in), c,
                      (uint64_t)(int64_t)c->weight[o * c->columns + t], t / c->linear.kernel[1],
                      t % c->linear.kernel[1]);
}

/* ---- convolution -------------------------------------------------------------------------- */

static void fill_bias(uint64_t *y, const struct ring_conv *c)
{
    for (int64_t o = 0; o < c->out[0]; o++)
        for (int64_t i = 0; i < plane(c->out); i++)
            y[o * plane(c->out) + i] = (uint64_t)c->bias[o];
}

/* Bits of the widest x in two's complement, sign included. */
static int signed_bits(const uint64_t *x, int64_t n)
{
    uint64_t all = 0;

    for (int64_t i = 0; i < n; i++)
        all |= x[i] ^ (0 - (x[i] >> 63)); /* x or -x-1 */
    return all == 0 ? 1 : 65 - __builtin_clzll(all);
}

/* Most bits of a signed limb: 2^(bits-1) * row_l1 <= 2^53. */
static int limb_bits(double row_l1)
{
    int bits = LIMB_MAX;

    while (bits > 1 && ldexp(row_l1, bits - 1) > EXACT)
        bits--;
    return bits;
}

/* One limb of every x: the low bits as a signed number; rest keeps what is above, carry included. */
static void take_limb(double *image, uint64_t *rest, int64_t n, int bits)
{
    uint64_t half = (uint64_t)1 << (bits - 1), mask = (half << 1) - 1;

    for (int64_t i = 0; i < n; i++) {
        uint64_t low = ((rest[i] & mask) ^ half) - half;
        image[i] = (double)(int64_t)low;
        rest[i] -= low;
    }
    ring_truncate(rest, n, bits);
}

/* The highest limb is all of it: no wider than the others, but for a carry of one. */
static void take_last(double *image, const uint64_t *rest, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        image[i] = (double)(int64_t)rest[i];
}

void ring_conv(uint64_t *y, const uint64_t *x, const struct ring_conv *c, double *scratch)
{
    int64_t n = c->in[0] * plane(c->in);
    uint64_t *rest = (uint64_t *)(void *)scratch;
    double *image = scratch + n;
    int width = signed_bits(x, n), bits = limb_bits(c->row_l1), limbs = (width + bits - 1) / bits;

    fill_bias(y, c);
    if (is_depthwise(c)) {
        depthwise(y, x, c);
        return;
    }
    bits = (width + limbs - 1) / limbs;
    memcpy(rest, x, (size_t)n * sizeof *x);
    for (int limb = 0; limb < limbs - 1; limb++)
        take_limb(image + limb * n, rest, n, bits);
    take_last(image + (limbs - 1) * n, rest, n);
    each_tile(y, &(struct images){image, limbs, bits, ring_product}, c,
              scratch + (1 + MAX_LIMBS) * n, add_integers);
}

/* Reals are summed in OpenBLAS's order on every CPU. */
static void multiply_reals(double *c, const double *a, const double *b, int64_t m, int64_t n,
                           int64_t k, double *scratch)
{
    (void)scratch;
    gemm_f64(false, false, m, n, k, 1, a, k, b, n, 0, c, n);
}

void real_conv(double *y, const double *x, const struct ring_conv *c, double *scratch)
{
    for (int64_t o = 0; o < c->out[0]; o++)
        for (int64_t i = 0; i < plane(c->out); i++)
            y[o * plane(c->out) + i] = c->real_bias[o];
    each_tile(y, &(struct images){x, 1, 0, multiply_reals}, c, scratch, add_reals);
}

/* ---- element by element ------------------------------------------------------------------- */

void ring_truncate(uint64_t *y, int64_t n, int bits)
{
    uint64_t sign = (uint64_t)1 << (63 - bits);

    for (int64_t i = 0; i < n; i++) /* arithmetic shift, written so that C defines it */
        y[i] = ((y[i] >> bits) ^ sign) - sign;
}

void ring_add(uint64_t *y, const uint64_t *a, int shift_a, const uint64_t *b, int shift_b,
              int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (a[i] << shift_a) + (b[i] << shift_b);
}

static uint64_t positive(uint64_t v, int bit)
{
    return v & ((v >> bit & 1) - 1);
}

void ring_relu(uint64_t *y, const struct plan_relu *r)
{
    const int bit = r->width - 1;

    for (int64_t i = 0; i < r->kept; i++) {
        const uint64_t v = y[r->index[i]];

        y[r->index[i]] = positive(v, bit);
        if (r->cap > 0)
            y[r->index[i]] -= positive(v - (uint64_t)r->cap, bit);
    }
}

static uint64_t shifted(uint64_t v, int bits, enum ring_part part)
{
    const uint64_t sign = (uint64_t)1 << (63 - bits);

    if (part == RING_CLIENT)
        return 0 - ((0 - v) >> bits);
    return part == RING_SERVER ? v >> bits : ((v >> bits) ^ sign) - sign;
}

void ring_line(uint64_t *y, const struct plan_relu *r, int64_t channels, const int64_t *offset,
               enum ring_part part)
{
    const int64_t per = r->total / channels;
    int64_t next = 0; /* of the kept positions */

    for (int64_t i = 0; r->line_shift > 0 && i < r->total; i++) {
        if (next < r->kept && r->index[next] == i) {
            next++;
            continue;
        }
        const uint64_t slope = r->slope != NULL ? (uint64_t)(int64_t)r->slope[i / per] : 1;
        const uint64_t b = offset != NULL ? (uint64_t)offset[i / per] : 0;

        y[i] = shifted(slope * y[i], r->line_shift, part) + b;
    }
}

void real_add(double *y, const double *a, const double *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

void real_relu(double *y, const struct plan_relu *r, int32_t scale)
{
    const double top = r->cap > 0 ? ldexp((double)r->cap, -scale) : INFINITY;

    for (int64_t i = 0; i < r->kept; i++)
        if (y[r->index[i]] < 0)
            y[r->index[i]] = 0;
        else if (y[r->index[i]] > top)
            y[r->index[i]] = top;
}

void real_line(double *y, const struct plan_relu *r, int64_t channels, const int64_t *offset,
               int32_t scale)
{
    const int64_t per = r->total / channels;
    int64_t next = 0;

    for (int64_t i = 0; r->line_shift > 0 && i < r->total; i++) {
        if (next < r->kept && r->index[next] == i) {
            next++;
            continue;
        }
        const int32_t slope = r->slope != NULL ? r->slope[i / per] : 1;

        y[i] = ldexp(slope * y[i], -r->line_shift) + ldexp((double)offset[i / per], -scale);
    }
}

/* ---- pools -------------------------------------------------------------------------------- */

/* Part of a window that lies inside [0, size). */
static void clip(int64_t at, int64_t kernel, int64_t size, int64_t *from, int64_t *to)
{
    *from = at < 0 ? 0 : at;
    *to = at + kernel > size ? size : at + kernel;
}

struct area {
    int64_t y0, y1, x0, x1;
};
static struct area pool_area(const struct plan_pool *p, const int64_t in[3], int64_t i, int64_t j)
{
    struct area a;

    clip(i * p->stride[0] - p->pad[0], p->kernel[0], in[1], &a.y0, &a.y1);
    clip(j * p->stride[1] - p->pad[1], p->kernel[1], in[2], &a.x0, &a.x1);
    return a;
}

/* value := what the window of output (c, i, j) gives, starting from its first element. */
#define POOL(type, combine)                                                                        \
    for (int64_t c = 0; c < out[0]; c++)                                                           \
        for (int64_t i = 0; i < out[1]; i++)                                                       \
            for (int64_t j = 0; j < out[2]; j++) {                                                 \
                struct area a = pool_area(p, in, i, j);                                            \
                const type *from = x + c * plane(in);                                              \
                type value = from[a.y0 * in[2] + a.x0];                                            \
                for (int64_t v = a.y0; v < a.y1; v++)                                              \
                    for (int64_t u = a.x0 + (v == a.y0); u < a.x1; u++) {                          \
                        type next = from[v * in[2] + u];                                           \
                        value = (combine);                                                         \
                    }                                                                              \
                y[(c * out[1] + i) * out[2] + j] = value;                                          \
            }

void ring_sum_pool(uint64_t *y, const uint64_t *x, const struct plan_pool *p, const int64_t in[3],
                   const int64_t out[3])
{
    POOL(uint64_t, value + next)
}

void ring_max_pool(uint64_t *y, const uint64_t *x, const struct plan_pool *p, const int64_t in[3],
                   const int64_t out[3])
{
    POOL(uint64_t, (int64_t)(next) > (int64_t)value ? next : value)
}

void real_sum_pool(double *y, const double *x, const struct plan_pool *p, const int64_t in[3],
                   const int64_t out[3])
{
    POOL(double, value + next)
}

void real_max_pool(double *y, const double *x, const struct plan_pool *p, const int64_t in[3],
                   const int64_t out[3])
{
    POOL(double, next > value ? next : value)
}

/* ---- words -------------------------------------------------------------------------------- */

void word_pad(void *y, const void *x, const struct plan_pad *p, const int64_t in[3],
              const int64_t out[3])
{
    uint64_t *to = y;
    const uint64_t *from = x;

    memset(to, 0, (size_t)(out[0] * plane(out)) * sizeof *to);
    for (int64_t c = 0; c < in[0]; c++)
        for (int64_t i = 0; i < in[1]; i++)
            memcpy(to + ((c + p->begin[0]) * out[1] + i + p->begin[1]) * out[2] + p->begin[2],
                   from + (c * in[1] + i) * in[2], (size_t)in[2] * sizeof *to);
}

void word_slice(void *y, const void *x, const struct plan_slice *s, const int64_t in[3],
                const int64_t out[3])
{
    uint64_t *to = y;
    const uint64_t *from = x;

    for (int64_t c = 0; c < out[0]; c++)
        for (int64_t i = 0; i < out[1]; i++)
            for (int64_t j = 0; j < out[2]; j++)
                *to++ =
                    from[((s->start[0] + c * s->step[0]) * in[1] + s->start[1] + i * s->step[1]) *
                             in[2] +
                         s->start[2] + j * s->step[2]];
}
