/* Convolution in bf16: taps, packed weights, forward and input gradient (bf16_conv.h). */
#include "core/kernel/bf16_conv.h"

#include <assert.h>

#include "core/base/minmax.h"

#define LIST 64 /* products handed to the kernel at a time */

/* ---- taps */

/* One axis of the node in pixels: out reads in * stride - pad + k. */
struct relation {
    int64_t kernel, stride, pad;
    bool grad;
};

/* Pixel of the source that pixel X of the destination reads through k; false: none. */
static bool source_pixel(const struct relation *r, int64_t x, int64_t k, int64_t *u)
{
    if (!r->grad) {
        *u = x * r->stride - r->pad + k;
        return true;
    }
    *u = (x + r->pad - k) / r->stride;
    return (x + r->pad - k) % r->stride == 0;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

/* The tap that reads tile `at`, made where it is new; taps stay in rising order. NULL: too many. */
static struct bf16_tap *tap_at(struct bf16_taps *t, int64_t at)
{
    int32_t i = 0;

    while (i < t->n && t->tap[i].at < at)
        i++;
    if (i < t->n && t->tap[i].at == at)
        return &t->tap[i];
    if (t->n == BF16_MAX_TAPS)
        return NULL;
    memmove(&t->tap[i + 1], &t->tap[i], (size_t)(t->n - i) * sizeof *t->tap);
    t->n++;
    t->tap[i] = (struct bf16_tap){at, {{-1, -1}, {-1, -1}}};
    return &t->tap[i];
}

/* Taps of phase f. */
static bool make_taps(struct bf16_taps *t, const struct relation *r, int64_t f, int64_t dst_pack,
                      int64_t src_pack)
{
    t->n = 0;
    for (int64_t a = 0; a < dst_pack; a++)
        for (int64_t k = 0; k < r->kernel; k++) {
            int64_t u;

            if (!source_pixel(r, f * dst_pack + a, k, &u))
                continue;
            const int64_t at = floor_div(u, src_pack);
            struct bf16_tap *tap = tap_at(t, at);

            if (tap == NULL)
                return false;
            tap->k[a][u - at * src_pack] = (int8_t)k;
        }
    return true;
}

/* false: does not fit. Phases are as few as make the step a whole number of tiles. */
static bool make_axis(struct bf16_axis *x, const struct relation *r, int64_t dst, int64_t dst_pack,
                      int64_t src, int64_t src_pack)
{
    const int64_t period = r->grad ? r->stride : 1, advance = r->grad ? 1 : r->stride;

    *x = (struct bf16_axis){.src = src, .dst = dst};
    for (int32_t phases = 1; phases <= BF16_MAX_PHASES; phases++) {
        const int64_t pixels = dst_pack * phases;

        if (pixels % period != 0 || pixels / period * advance % src_pack != 0)
            continue;
        x->phases = phases;
        x->step = pixels / period * advance / src_pack;
        for (int32_t f = 0; f < phases; f++)
            if (!make_taps(&x->phase[f], r, f, dst_pack, src_pack))
                return false;
        return true;
    }
    return false;
}

static bool make(struct bf16_conv *c, const struct bf16_node *n, bool grad)
{
    const struct bf16_map in = bf16_map_of(n->in_c, n->in_h, n->in_w);
    const struct bf16_map out = bf16_map_of(n->out_c, n->out_h, n->out_w);
    const struct relation y = {n->kernel[0], n->stride[0], n->pad[0], grad};
    const struct relation x = {n->kernel[1], n->stride[1], n->pad[1], grad};

    *c = (struct bf16_conv){.src = grad ? out : in,
                            .dst = grad ? in : out,
                            .kernel_h = n->kernel[0],
                            .kernel_w = n->kernel[1],
                            .grad = grad};
    return make_axis(&c->y, &y, c->dst.h, 1, c->src.h, 1) &&
           make_axis(&c->x, &x, c->dst.cols, c->dst.pack, c->src.cols, c->src.pack);
}

bool bf16_conv_fits(const struct bf16_node *n)
{
    struct bf16_conv c;

    for (int i = 0; i < 2; i++)
        if (n->kernel[i] > 7 || n->stride[i] > 2 || n->pad[i] >= n->kernel[i])
            return false;
    return n->in_c >= 16 && n->out_c >= 16 && make(&c, n, false) && make(&c, n, true);
}

void bf16_conv_make(struct bf16_conv *c, const struct bf16_node *n, bool grad)
{
    const bool fits = make(c, n, grad);

    assert(fits);
    (void)fits;
}

/* ---- weights */

/* Tiles of weights of one phase pair before channel blocks. */
static int64_t phase_taps(const struct bf16_conv *c, int32_t fy, int32_t fx)
{
    return (int64_t)c->y.phase[fy].n * c->x.phase[fx].n;
}

/* Tiles before phase (fy, fx); all of them for (phases, 0). */
static int64_t phase_start(const struct bf16_conv *c, int32_t fy, int32_t fx)
{
    int64_t taps = 0;

    for (int32_t y = 0; y < c->y.phases; y++)
        for (int32_t x = 0; x < c->x.phases; x++)
            if (y < fy || (y == fy && x < fx))
                taps += phase_taps(c, y, x);
    return taps * c->dst.blocks * c->src.blocks;
}

size_t bf16_conv_packed(const struct bf16_conv *c)
{
    return (size_t)phase_start(c, c->y.phases, 0) * BF16_TILE;
}

struct weights {
    const struct bf16_conv *c;
    const float *w, *scale;
    int64_t o_step, i_step; /* floats from one output, input channel to the next */
};

/* The weight that connects number d of destination block db with number s of source block sb. */
static float weight_at(const struct weights *w, int64_t k_row, const struct bf16_tap *x, int64_t db,
                       int64_t d, int64_t sb, int64_t s)
{
    const struct bf16_conv *c = w->c;
    const int64_t a = c->dst.pack == 2 ? d / 16 : 0, b = c->src.pack == 2 ? s / 16 : 0;
    const int64_t dc = bf16_channel(&c->dst, db, d), sc = bf16_channel(&c->src, sb, s);
    const int64_t o = c->grad ? sc : dc, i = c->grad ? dc : sc, k = x->k[a][b];

    if (dc >= c->dst.c || sc >= c->src.c || k < 0)
        return 0;
    return w->w[o * w->o_step + i * w->i_step + k_row * c->kernel_w + k] *
           (w->scale != NULL ? w->scale[o] : 1);
}

static void pack_tile(const struct weights *w, int64_t k_row, const struct bf16_tap *x, int64_t db,
                      int64_t sb, bf16 *to)
{
    for (int64_t h = 0; h < 2; h++)
        for (int64_t pair = 0; pair < 16; pair++)
            for (int64_t lane = 0; lane < 16; lane++, to += 2) {
                to[0] = bf16_round(weight_at(w, k_row, x, db, h * 16 + lane, sb, 2 * pair));
                to[1] = bf16_round(weight_at(w, k_row, x, db, h * 16 + lane, sb, 2 * pair + 1));
            }
}

/* Destination block db of a phase. */
static void pack_block(const struct weights *w, const struct bf16_taps *y,
                       const struct bf16_taps *x, int64_t db, bf16 *to)
{
    for (int64_t sb = 0; sb < w->c->src.blocks; sb++)
        for (int32_t i = 0; i < y->n; i++)
            for (int32_t j = 0; j < x->n; j++, to += BF16_TILE)
                pack_tile(w, y->tap[i].k[0][0], &x->tap[j], db, sb, to);
}

void bf16_conv_pack(const struct bf16_conv *c, const float *w, const float *scale, int32_t part,
                    int32_t parts, bf16 *packed)
{
    const int64_t taps = c->kernel_h * c->kernel_w, in = c->grad ? c->dst.c : c->src.c;
    const struct weights all = {c, w, scale, in * taps, taps};
    const int64_t end = part_begin(c->dst.blocks, part + 1, parts);

    for (int32_t fy = 0; fy < c->y.phases; fy++)
        for (int32_t fx = 0; fx < c->x.phases; fx++) {
            const int64_t size = phase_taps(c, fy, fx) * c->src.blocks * BF16_TILE;
            bf16 *to = packed + phase_start(c, fy, fx) * BF16_TILE;

            for (int64_t db = part_begin(c->dst.blocks, part, parts); db < end; db++)
                pack_block(&all, &c->y.phase[fy], &c->x.phase[fx], db, to + db * size);
        }
}

/* Which halves of a tap's weights are not zero for certain. */
static int32_t tap_halves(const struct bf16_conv *c, const struct bf16_tap *x)
{
    int32_t halves = 0;

    if (c->dst.pack == 1)
        return 3;
    for (int a = 0; a < 2; a++)
        if (x->k[a][0] >= 0 || x->k[a][1] >= 0)
            halves |= 1 << a;
    return halves;
}

/* ---- one row of the destination */

/* The products of a row that do not depend on the column: a tap row and a source block each. */
struct row {
    const struct bf16_conv *c;
    const struct bf16_kernels *k;
    const struct bf16_run *r;
    int64_t image, rows; /* block of 32 images, and how many of them there are */
    int64_t db, y;
};

/* Taps of a phase with what they do not change from row to row. */
struct products {
    bf16_sums sums;
    struct bf16_product list[LIST];
    int64_t count;
    bool fresh;
};

static void products_flush(struct products *p, const struct bf16_kernels *k, int64_t rows)
{
    k->product(p->sums, p->list, p->count, rows, p->fresh);
    p->fresh = false;
    p->count = 0;
}

static void row_tile(const struct row *w, struct products *p, int64_t x)
{
    const struct bf16_conv *c = w->c;
    const int32_t fy = (int32_t)(w->y % c->y.phases), fx = (int32_t)(x % c->x.phases);
    const struct bf16_taps *ty = &c->y.phase[fy], *tx = &c->x.phase[fx];
    const int64_t sy = w->y / c->y.phases * c->y.step, sx = x / c->x.phases * c->x.step;
    const int64_t taps = phase_taps(c, fy, fx), plane = bf16_plane(&c->src);
    const bf16 *b =
        w->r->packed + (phase_start(c, fy, fx) + w->db * c->src.blocks * taps) * BF16_TILE;
    const bf16 *a = w->r->src + w->image * bf16_tiles(&c->src) * BF16_TILE;

    p->fresh = true;
    p->count = 0;
    for (int64_t sb = 0; sb < c->src.blocks; sb++, a += plane * BF16_TILE)
        for (int32_t i = 0; i < ty->n; i++) {
            const int64_t row = sy + ty->tap[i].at;

            for (int32_t j = 0; j < tx->n; j++, b += BF16_TILE) {
                const int64_t col = sx + tx->tap[j].at;

                if (row < 0 || row >= c->y.src || col < 0 || col >= c->x.src)
                    continue;
                p->list[p->count++] = (struct bf16_product){
                    a + (row * c->src.cols + col) * BF16_TILE, b, tap_halves(c, &tx->tap[j])};
                if (p->count == LIST)
                    products_flush(p, w->k, w->rows);
            }
        }
    if (p->count > 0 || p->fresh)
        products_flush(p, w->k, w->rows);
}

static void run_row(const struct row *w)
{
    const struct bf16_conv *c = w->c;
    const struct bf16_run *r = w->r;
    const int64_t at = w->db * bf16_plane(&c->dst) + w->y * c->dst.cols; /* tile in the map */
    const int64_t block = w->image * bf16_tiles(&c->dst);
    const float *scale = r->scale != NULL ? r->scale + w->db * BF16_CHANNELS : NULL;
    const float *shift = r->scale != NULL ? r->shift + w->db * BF16_CHANNELS : NULL;
    struct products p;

    for (int64_t x = 0; x < c->dst.cols; x++) {
        const int64_t out = (block + at + x) * BF16_TILE;
        struct bf16_tail tail = r->tail;

        row_tile(w, &p, x);
        if (tail.other != NULL)
            tail.other += out;
        if (tail.mask != NULL)
            tail.mask += at + x;
        w->k->finish(r->dst + out, p.sums, scale, shift, &tail, w->rows);
    }
}

/* Rows of all blocks of channels are divided among the parts. Large weights are read once for all
 * images: then blocks of channels are outermost, images innermost. Otherwise it is the source that is large: a
 * row makes all of its blocks of channels while it is in the cache. */
void bf16_conv_run(const struct bf16_conv *c, const struct bf16_kernels *k,
                   const struct bf16_run *r)
{
    const int64_t jobs = c->dst.blocks * c->dst.h, blocks = (r->n + BF16_IMAGES - 1) / BF16_IMAGES;
    const int64_t first = part_begin(jobs, r->part, r->parts),
                  end = part_begin(jobs, r->part + 1, r->parts);
    const bool weights_first = phase_start(c, c->y.phases, 0) > bf16_tiles(&c->src);
    const int64_t count = end - first;

    for (int64_t i = 0; i < count * blocks; i++) {
        const int64_t job = first + (weights_first ? i / blocks : i % count);
        const int64_t image = weights_first ? i % blocks : i / count;
        const struct row w = {.c = c,
                              .k = k,
                              .r = r,
                              .image = image,
                              .rows = min_i64(BF16_IMAGES, r->n - image * BF16_IMAGES),
                              .db = weights_first ? job / c->dst.h : job % c->dst.blocks,
                              .y = weights_first ? job % c->dst.h : job / c->dst.blocks};

        run_row(&w);
    }
}
