/*
 * Coefficient packing of convolutions (rlwe_layout.h), after Huang, Lu, Hong and Ding, "Cheetah: Lean
 * and Fast Secure Two-Party Deep Neural Network Inference" (USENIX Security 2022), section 3, with
 * strides by phases and shared padding.
 *
 * Strides. Output (i,j) with tap (a,b) reads row i * stride + a * dilation - pad: row i + offset of
 * phase (a * dilation - pad) mod stride. Each phase of each channel is a plane of its own, and on
 * planes the stride is 1. Phases that no tap reads (a 1x1 convolution with stride 2) are not sent.
 *
 * Input polynomial: in_blocks planes, each a block of pitch_y * pitch_x coefficients.
 *
 *     place of (plane p, row i, column j) = (lead_y + i) * pitch_x + lead_x + j + p * block
 *
 * pitch_x >= length + padding of the wider side, likewise rows: the zeros after a row are also those
 * before the next one. Weights, for out_blocks outputs at a time (reach: largest distance of a tap
 * within a block, first = (in_blocks - 1) * block + reach):
 *
 *     place of (output m, plane p, tap) = m * in_blocks * block + first - p * block - distance(tap)
 *
 * so the product holds output (m, i, j) at m * in_blocks * block + first + i * pitch_x + j. Planes of
 * other m are at least one polynomial's support away, and what wraps around X^4096 + 1 falls below
 * the places that are read as long as out_blocks * in_blocks * block + overhang <= 4096, overhang
 * being what the last windows read after their block. The same holds for planes of other groups:
 * their weights are zero.
 *
 * Several images: with the weights of output m at m * images * in_blocks * block and image g after g *
 * in_blocks blocks, everything above holds with (m * images + g) in place of m: an output of one image
 * gets nothing from planes of another one, which are at least in_blocks blocks off. So the room of a
 * polynomial is shared between planes, outputs and images, and where an image's plane and output take
 * one block each, no coefficient is left over on either way.
 *
 * Sums over input polynomials are taken on ciphertexts, so a band costs in_polys uploads and out_polys
 * answers. Images that do not fit are cut into bands of rows (and columns), which then carry
 * their own halo instead of padding. All cuts are tried; fewest bytes win.
 */
#include "runtime/linear/rlwe_layout.h"

#include <stdbool.h>
#include <string.h>

#include "core/base/minmax.h"
#include "runtime/crypto/rlwe.h"

static int64_t floor_div(int64_t a, int64_t b) /* b > 0 */
{
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

static int64_t ceil_div(int64_t a, int64_t b) /* a >= 0, b > 0 */
{
    return (a + b - 1) / b;
}

/* ---- one axis ----------------------------------------------------------------------------- */

/* First position of the operand that belongs to the phase of tap k < phases. */
static int64_t phase_start(const struct rlwe_axis *x, int64_t k)
{
    int64_t at = k * x->dilation - x->pad;

    return at - floor_div(at, x->stride) * x->stride;
}

static int64_t tap_offset(const struct rlwe_axis *x, int64_t k)
{
    return floor_div(k * x->dilation - x->pad, x->stride);
}

/* Distance of tap k from the first position that the windows of a block read. */
static int64_t tap_distance(const struct rlwe_axis *x, int64_t k)
{
    return tap_offset(x, k) + (x->bands == 1 ? x->lead : -x->low);
}

/* Position of a phase that is first in a block of a band. */
static int64_t band_start(const struct rlwe_axis *x, int64_t band)
{
    return x->bands == 1 ? 0 : band * x->band + x->low;
}

static int64_t phase_length(const struct rlwe_axis *x, int64_t k)
{
    int64_t start = phase_start(x, k);

    return start < x->in ? ceil_div(x->in - start, x->stride) : 0;
}

static struct rlwe_axis axis_of(const struct plan_linear *l, int i, int64_t in, int64_t out)
{
    struct rlwe_axis x = {.in = in,
                          .out = out,
                          .kernel = l->kernel[i],
                          .stride = l->stride[i],
                          .dilation = l->dilation[i],
                          .pad = l->pad[i]};

    x.period = x.stride / gcd_i64(x.stride, x.dilation);
    x.phases = min_i64(x.kernel, x.period);
    x.low = tap_offset(&x, 0);
    x.high = tap_offset(&x, x.kernel - 1);
    return x;
}

static void cut(struct rlwe_axis *x, int64_t bands)
{
    int64_t end = x->out + x->high, longest = 0;

    x->bands = bands;
    x->band = ceil_div(x->out, bands);
    x->lead = 0;
    if (bands > 1) {
        x->bands = ceil_div(x->out, x->band);
        x->length = x->pitch = x->band + x->high - x->low;
        return;
    }
    for (int64_t k = 0; k < x->phases; k++)
        longest = max_i64(longest, phase_length(x, k));
    x->length = max_i64(1, min_i64(longest, end));
    x->lead = max_i64(0, -x->low);
    x->pitch = x->length + max_i64(x->lead, end - x->length);
}

/* ---- choice ------------------------------------------------------------------------------- */

static int64_t window_end(const struct rlwe_axis *x) /* last position read, in a block */
{
    return x->band - 1 + tap_distance(x, x->kernel - 1);
}

/* Bytes of a step's polynomials, -1 where a block does not fit. Fills what depends on the two. */
static int64_t try_blocks(struct rlwe_layout *l, int64_t images, int64_t in_blocks)
{
    const struct rlwe_axis *y = &l->axis[0], *x = &l->axis[1];
    int64_t overhang = max_i64(0, window_end(y) * x->pitch + window_end(x) + 1 - l->block);
    int64_t room = RLWE_N - overhang;

    if (images * in_blocks > room / l->block)
        return -1;
    l->images = images;
    l->in_blocks = in_blocks;
    l->out_blocks = min_i64(l->outputs, room / (images * in_blocks * l->block));
    l->in_polys = ceil_div(l->planes, in_blocks);
    l->out_polys = ceil_div(l->outputs, l->out_blocks);
    if (l->in_polys > RLWE_MOST_TERMS)
        return -1;
    l->first = (in_blocks - 1) * l->block + tap_distance(y, y->kernel - 1) * x->pitch +
               tap_distance(x, x->kernel - 1);
    return rlwe_layout_bands(l) *
           (l->in_polys * (int64_t)RLWE_POLY_BYTES + l->out_polys * (int64_t)RLWE_HALF_BYTES);
}

/* Best numbers of images and blocks for the axes as they are cut; bytes or -1. */
static int64_t choose_blocks(struct rlwe_layout *l)
{
    int64_t best = -1, blocks = 0, images = 0;

    if (l->axis[0].pitch > RLWE_N || l->axis[1].pitch > RLWE_N)
        return -1;
    l->block = l->axis[0].pitch * l->axis[1].pitch;
    for (int64_t g = 1; g <= l->lot && g <= RLWE_N / l->block; g++)
        for (int64_t n = 1; n <= l->planes && n <= RLWE_N / (g * l->block); n++) {
            int64_t bytes = try_blocks(l, g, n);
            if (bytes >= 0 && (best < 0 || bytes < best)) {
                best = bytes;
                blocks = n;
                images = g;
            }
        }
    return best < 0 ? -1 : try_blocks(l, images, blocks);
}

/* All cuts into bands of rows for one cut of the columns. */
static int64_t choose_rows(struct rlwe_layout *l)
{
    struct rlwe_layout best = {0};
    int64_t bytes = -1, band = 0;

    for (int64_t bands = 1; bands <= l->axis[0].out; bands++) {
        if (bands > 1 && ceil_div(l->axis[0].out, bands) == band)
            continue; /* one more band of the same height */
        cut(&l->axis[0], bands);
        band = l->axis[0].band;
        int64_t now = choose_blocks(l);
        if (now >= 0 && (bytes < 0 || now < bytes)) {
            bytes = now;
            best = *l;
        }
    }
    if (bytes >= 0)
        *l = best;
    return bytes;
}

int rlwe_layout_of(const struct plan *p, const struct plan_step *s, int64_t lot,
                   struct rlwe_layout *out)
{
    static const struct plan_linear no_window = {
        .kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .group = 1};
    const struct plan_linear *linear = s->kind == PLAN_GEMM ? &no_window : &s->u.linear;
    const struct plan_tensor *in = &p->tensor[s->in[0]], *to = &p->tensor[s->out];
    struct rlwe_layout l = {
        .channels = in->dim[0], .outputs = to->dim[0], .group = linear->group, .lot = lot};
    int64_t rows;

    plan_matrix_size(p, s, &rows, &l.columns);
    for (int i = 0; i < 2; i++)
        l.axis[i] = axis_of(linear, i, in->dim[i + 1], to->dim[i + 1]);
    l.planes = l.channels * l.axis[0].phases * l.axis[1].phases;
    for (int64_t bands = 1; bands < 2 * l.axis[1].out; bands *= 2) {
        cut(&l.axis[1], min_i64(bands, l.axis[1].out));
        if (choose_rows(&l) >= 0) {
            *out = l;
            return 0;
        }
    }
    return fail(ERR_UNSUPPORTED,
                "step '%s': a window of %lldx%lld does not fit into %d coefficients", s->name,
                (long long)l.axis[0].kernel, (long long)l.axis[1].kernel, RLWE_N);
}

static int64_t area_bands(const struct rlwe_layout *l) /* of one group of images */
{
    return l->axis[0].bands * l->axis[1].bands;
}

/* A band of a group of images. */
struct band {
    int64_t first, images; /* of the lot */
    int64_t at[2];         /* of the rows, of the columns */
};

static struct band band_of(const struct rlwe_layout *l, int64_t band)
{
    int64_t first = band / area_bands(l) * l->images, place = band % area_bands(l);

    return (struct band){first,
                         min_i64(l->images, l->lot - first),
                         {place / l->axis[1].bands, place % l->axis[1].bands}};
}

int64_t rlwe_layout_bands(const struct rlwe_layout *l)
{
    return ceil_div(l->lot, l->images) * area_bands(l);
}

/* ---- contents ----------------------------------------------------------------------------- */

struct plane {
    int64_t channel, phase[2];
};

static struct plane plane_of(const struct rlwe_layout *l, int64_t p)
{
    int64_t per_channel = l->axis[0].phases * l->axis[1].phases, f = p % per_channel;

    return (struct plane){p / per_channel, {f / l->axis[1].phases, f % l->axis[1].phases}};
}

/* Row `i` of the block that holds phase k of a band, or -1 outside the operand. */
static int64_t source(const struct rlwe_axis *x, int64_t band, int64_t k, int64_t i)
{
    int64_t at = band_start(x, band) + i;

    return at < 0 || at >= phase_length(x, k) ? -1 : phase_start(x, k) + at * x->stride;
}

static void fill_block(const struct rlwe_layout *l, const int64_t band[2], struct plane p,
                       const uint64_t *r, uint64_t *m)
{
    const struct rlwe_axis *y = &l->axis[0], *x = &l->axis[1];

    r += p.channel * y->in * x->in;
    for (int64_t i = 0; i < y->length; i++) {
        int64_t row = source(y, band[0], p.phase[0], i);
        uint64_t *to = m + (y->lead + i) * x->pitch + x->lead;
        for (int64_t j = 0; row >= 0 && j < x->length; j++) {
            int64_t column = source(x, band[1], p.phase[1], j);
            if (column >= 0)
                to[j] = r[row * x->in + column];
        }
    }
}

void rlwe_layout_input(const struct rlwe_layout *l, int64_t band, int64_t poly, const uint64_t *r,
                       uint64_t *m)
{
    struct band at = band_of(l, band);
    int64_t inputs = l->channels * l->axis[0].in * l->axis[1].in;

    memset(m, 0, RLWE_N * sizeof *m);
    for (int64_t g = 0; g < at.images; g++)
        for (int64_t b = 0; b < l->in_blocks && poly * l->in_blocks + b < l->planes; b++)
            fill_block(l, at.at, plane_of(l, poly * l->in_blocks + b), r + (at.first + g) * inputs,
                       m + (g * l->in_blocks + b) * l->block);
}

int rlwe_layout_constant(const struct rlwe_layout *l)
{
    return l->in_blocks == 1 && l->out_blocks == 1 && l->first == 0 && l->axis[0].kernel == 1 &&
           l->axis[1].kernel == 1;
}

int rlwe_layout_reads(const struct rlwe_layout *l, int64_t in, int64_t out)
{
    int64_t per_channel = l->axis[0].phases * l->axis[1].phases;
    int64_t per_group = l->channels / l->group, outs = l->outputs / l->group;
    int64_t end = min_i64((in + 1) * l->in_blocks, l->planes);
    int64_t last = min_i64((out + 1) * l->out_blocks, l->outputs) - 1;
    int64_t low = in * l->in_blocks / per_channel / per_group;
    int64_t high = (end - 1) / per_channel / per_group;

    return low <= last / outs && out * l->out_blocks / outs <= high;
}

/* Phases of a channel: input polynomials that begin with the same one are of one kind. */
int64_t rlwe_layout_kinds(const struct rlwe_layout *l)
{
    return l->axis[0].phases * l->axis[1].phases;
}

int64_t rlwe_layout_kind(const struct rlwe_layout *l, int64_t in)
{
    return in * l->in_blocks % rlwe_layout_kinds(l);
}

struct taps { /* being listed */
    int64_t n, room;
    int32_t *place; /* NULL: values alone */
    int16_t *value;
};

/* Taps of one output and one plane; w NULL: zeros. */
static void list_taps(const struct rlwe_layout *l, struct plane p, const int16_t *w, int64_t last,
                      struct taps *t)
{
    const struct rlwe_axis *y = &l->axis[0], *x = &l->axis[1];

    for (int64_t a = p.phase[0]; a < y->kernel; a += y->period)
        for (int64_t b = p.phase[1]; b < x->kernel; b += x->period, t->n++) {
            if (t->n >= t->room)
                continue;
            if (t->place != NULL)
                t->place[t->n] =
                    (int32_t)(last - tap_distance(y, a) * x->pitch - tap_distance(x, b));
            t->value[t->n] = w != NULL ? w[a * x->kernel + b] : 0;
        }
}

int64_t rlwe_layout_taps(const struct rlwe_layout *l, const int16_t *w, int64_t in, int64_t out,
                         int64_t room, int32_t *place, int16_t *value)
{
    int64_t per_group = l->channels / l->group, outs = l->outputs / l->group;
    int64_t window = l->axis[0].kernel * l->axis[1].kernel;
    struct taps t = {0, room, place, value};

    for (int64_t b = 0; b < l->in_blocks; b++) {
        int64_t plane = in * l->in_blocks + b, end = 0; /* outputs from `first` to `end` read it */
        struct plane p = plane_of(l, plane);
        int64_t first = p.channel / per_group * outs, at = p.channel % per_group * window;

        if (w != NULL && plane < l->planes)
            end = first + outs;
        for (int64_t m = 0; m < l->out_blocks; m++) {
            int64_t o = out * l->out_blocks + m;
            list_taps(l, p, o >= first && o < end ? w + o * l->columns + at : NULL,
                      (m * l->images * l->in_blocks - b) * l->block + l->first, &t);
        }
    }
    return t.n;
}

/* First row and column of a band's outputs, and how many there are. */
static void extent(const struct rlwe_layout *l, const struct band *b, int64_t start[2],
                   int64_t length[2])
{
    for (int i = 0; i < 2; i++) {
        start[i] = b->at[i] * l->axis[i].band;
        length[i] = min_i64(l->axis[i].band, l->axis[i].out - start[i]);
    }
}

int64_t rlwe_layout_count(const struct rlwe_layout *l, int64_t band, int64_t out)
{
    struct band b = band_of(l, band);
    int64_t start[2], length[2];

    extent(l, &b, start, length);
    return b.images * min_i64(l->out_blocks, l->outputs - out * l->out_blocks) * length[0] *
           length[1];
}

int64_t rlwe_layout_outputs(const struct rlwe_layout *l, int64_t band, int64_t out, int32_t *place,
                            int64_t *element)
{
    const struct rlwe_axis *y = &l->axis[0], *x = &l->axis[1];
    struct band b = band_of(l, band);
    int64_t start[2], length[2], n = 0, first = out * l->out_blocks;

    extent(l, &b, start, length);
    for (int64_t g = 0; g < b.images; g++)
        for (int64_t m = 0; m < l->out_blocks && first + m < l->outputs; m++) {
            int64_t block = (m * l->images + g) * l->in_blocks * l->block + l->first;
            int64_t channel = (b.first + g) * l->outputs + first + m;
            for (int64_t i = 0; i < length[0]; i++)
                for (int64_t j = 0; j < length[1]; j++, n++) {
                    place[n] = (int32_t)(block + i * x->pitch + j);
                    element[n] = (channel * y->out + start[0] + i) * x->out + start[1] + j;
                }
        }
    return n;
}
