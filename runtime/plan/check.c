/*
 * The rules of a valid plan, and what follows from its steps: totals and failure bound. Reader and exporter both end here, so a file we write is a file we read.
 *
 * Bounds: a tensor has at most 2^26 elements and a window at most 2^16 terms, so counts and
 * products of two of them stay inside int64; dims are checked before they are multiplied.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/plan/plan.h"

#define MAX_EDGE ((int64_t)1 << 20) /* pads, strides, kernels, dilations */

const char *plan_kind_name(enum plan_kind k)
{
    static const char *const names[] = {
        [PLAN_CONV] = "conv",         [PLAN_GEMM] = "gemm",         [PLAN_ADD] = "add",
        [PLAN_RELU] = "relu_partial", [PLAN_SUM_POOL] = "sum_pool", [PLAN_MAX_POOL] = "max_pool",
        [PLAN_PAD] = "pad",           [PLAN_SLICE] = "slice",       [PLAN_FLATTEN] = "flatten"};

    return k >= PLAN_CONV && k <= PLAN_FLATTEN ? names[k] : "unknown";
}

static int step_fail(const struct plan_step *s, const char *rule)
{
    return fail(ERR_FORMAT, "step '%s' (%s): %s", s->name, plan_kind_name(s->kind), rule);
}

/* ---- tensors ------------------------------------------------------------------------------ */

static int check_tensor(const struct plan *p, int32_t id)
{
    const struct plan_tensor *t = &p->tensor[id];
    int64_t count = 1;

    if (t->rank != 1 && t->rank != 3)
        return fail(ERR_FORMAT, "tensor %d: rank %d is neither 1 nor 3", id, t->rank);
    for (int32_t i = 0; i < 3; i++) {
        if (t->dim[i] < 1 || t->dim[i] > PLAN_MAX_ELEMENTS / count ||
            (i >= t->rank && t->dim[i] != 1))
            return fail(ERR_LIMIT, "tensor %d: bad size, or more than %lld elements", id,
                        (long long)PLAN_MAX_ELEMENTS);
        count *= t->dim[i];
    }
    if (t->count != count)
        return fail(ERR_FORMAT, "tensor %d: count is not the product of its sizes", id);
    if (t->scale < 0 || t->scale > PLAN_VALUE_BITS || t->max_log2 < -PLAN_VALUE_BITS ||
        t->scale + t->max_log2 > PLAN_VALUE_BITS)
        return fail(ERR_LIMIT, "tensor %d: 2^%d at scale %d does not fit into %d bits", id,
                    t->max_log2, t->scale, PLAN_VALUE_BITS);
    return 0;
}

static int check_tensors(const struct plan *p)
{
    int64_t total = 0;

    if (p->n_tensor < 2 || p->n_tensor > PLAN_MAX_TENSORS || p->n_step != p->n_tensor - 1)
        return fail(ERR_FORMAT, "%d steps cannot make %d tensors: one a step, and the input",
                    p->n_step, p->n_tensor);
    for (int32_t i = 0; i < p->n_tensor; i++) {
        TRY(check_tensor(p, i));
        total += p->tensor[i].count;
        if (total > PLAN_MAX_TOTAL)
            return fail(ERR_LIMIT, "the tensors have more than %lld elements together",
                        (long long)PLAN_MAX_TOTAL);
    }
    return 0;
}

/* Every tensor made once and before it is read; all but the last read. state: bit 0 made, 1 read */
static int check_flow(const struct plan *p, uint8_t *state)
{
    state[0] = 1;
    for (int32_t i = 0; i < p->n_step; i++) {
        const struct plan_step *s = &p->step[i];
        int32_t want = s->kind == PLAN_ADD ? 2 : 1;
        if (s->name == NULL || s->name[0] == '\0')
            return fail(ERR_FORMAT, "step %d has no name", i);
        if (s->kind < PLAN_CONV || s->kind > PLAN_FLATTEN)
            return fail(ERR_UNSUPPORTED, "step '%s': kind %d is not known here", s->name, s->kind);
        if (s->n_in != want)
            return step_fail(s, "wrong number of operands");
        for (int32_t k = 0; k < s->n_in; k++) {
            if (s->in[k] < 0 || s->in[k] >= p->n_tensor || !(state[s->in[k]] & 1))
                return step_fail(s, "an operand is not the result of an earlier step");
            state[s->in[k]] |= 2;
        }
        if (s->out < 0 || s->out >= p->n_tensor || (state[s->out] & 1))
            return step_fail(s, "its result is no tensor, or was made before");
        state[s->out] = 1;
    }
    for (int32_t i = 0; i < p->n_tensor; i++)
        if ((state[i] & 2) == (i == p->step[p->n_step - 1].out ? 2 : 0))
            return fail(ERR_FORMAT, "tensor %d: %s", i,
                        state[i] & 2 ? "the output is read by a step" : "nobody reads it");
    return 0;
}

/* ---- shapes ------------------------------------------------------------------------------- */

static bool between(int64_t v, int64_t lo, int64_t hi)
{
    return v >= lo && v <= hi;
}

/* Positions of a window along one axis; 0 if it does not fit. All arguments up to MAX_EDGE. */
static int64_t window_count(int64_t in, int64_t before, int64_t after, int64_t kernel,
                            int64_t dilation, int64_t stride)
{
    int64_t room = in + before + after - dilation * (kernel - 1) - 1;

    return room < 0 ? 0 : room / stride + 1;
}

static int check_window(const struct plan_step *s, const struct plan_tensor *in,
                        const struct plan_tensor *out, const int64_t kernel[2],
                        const int64_t stride[2], const int64_t pad[4], const int64_t dilation[2])
{
    if (in->rank != 3 || out->rank != 3)
        return step_fail(s, "needs [C,H,W] operands");
    for (int i = 0; i < 2; i++) {
        if (!between(kernel[i], 1, MAX_EDGE) || !between(stride[i], 1, MAX_EDGE) ||
            !between(dilation[i], 1, MAX_EDGE) || !between(pad[i], 0, MAX_EDGE) ||
            !between(pad[i + 2], 0, MAX_EDGE))
            return step_fail(s, "window attributes out of range");
        if (pad[i] >= dilation[i] * kernel[i] || pad[i + 2] >= dilation[i] * kernel[i])
            return step_fail(s, "padding is larger than the window");
        if (out->dim[i + 1] !=
            window_count(in->dim[i + 1], pad[i], pad[i + 2], kernel[i], dilation[i], stride[i]))
            return step_fail(s, "the shape of its result does not follow from its attributes");
    }
    return 0;
}

static int check_linear(const struct plan *p, const struct plan_step *s)
{
    const struct plan_tensor *in = &p->tensor[s->in[0]], *out = &p->tensor[s->out];
    const struct plan_linear *l = &s->u.linear;
    int64_t rows, columns;

    if (s->kind == PLAN_GEMM) {
        if (in->rank != 1 || out->rank != 1 || l->group != 1 || l->kernel[0] != 1 ||
            l->kernel[1] != 1)
            return step_fail(s, "needs [K] operands and no window");
    } else {
        TRY(check_window(s, in, out, l->kernel, l->stride, l->pad, l->dilation));
        if (l->group < 1 || in->dim[0] % l->group != 0 || out->dim[0] % l->group != 0)
            return step_fail(s, "its groups do not divide the channels");
    }
    if (!between(l->kernel[0] * l->kernel[1], 1, PLAN_MAX_WINDOW))
        return step_fail(s, "its window has too many terms");
    plan_matrix_size(p, s, &rows, &columns);
    if (columns > PLAN_MAX_WINDOW)
        return fail(ERR_LIMIT, "step '%s': sums of %lld terms, at most %d", s->name,
                    (long long)columns, PLAN_MAX_WINDOW);
    if (rows * columns > PLAN_MAX_ELEMENTS)
        return fail(ERR_LIMIT, "step '%s': %lld weights", s->name, (long long)(rows * columns));
    if (!between(l->weight_scale, 0, PLAN_MAX_WEIGHT_SCALE))
        return step_fail(s, "weight scale out of range");
    return 0;
}

static bool same_shape(const struct plan_tensor *a, const struct plan_tensor *b)
{
    return a->rank == b->rank && memcmp(a->dim, b->dim, sizeof a->dim) == 0;
}

static int check_pool(const struct plan *p, const struct plan_step *s)
{
    static const int64_t dilation[2] = {1, 1};
    const struct plan_tensor *in = &p->tensor[s->in[0]], *out = &p->tensor[s->out];
    const struct plan_pool *q = &s->u.pool;

    TRY(check_window(s, in, out, q->kernel, q->stride, q->pad, dilation));
    if (in->dim[0] != out->dim[0])
        return step_fail(s, "it changes the number of channels");
    if (q->kernel[0] * q->kernel[1] > PLAN_MAX_WINDOW)
        return step_fail(s, "its window has too many terms");
    return 0;
}

static int check_pad(const struct plan *p, const struct plan_step *s)
{
    const struct plan_tensor *in = &p->tensor[s->in[0]], *out = &p->tensor[s->out];
    const struct plan_pad *q = &s->u.pad;

    for (int i = 0; i < 3; i++)
        if (in->rank != out->rank || in->rank != 3 || !between(q->begin[i], 0, MAX_EDGE) ||
            !between(q->end[i], 0, MAX_EDGE) || out->dim[i] != in->dim[i] + q->begin[i] + q->end[i])
            return step_fail(s, "the shape of its result does not follow from its attributes");
    return 0;
}

static int check_slice(const struct plan *p, const struct plan_step *s)
{
    const struct plan_tensor *in = &p->tensor[s->in[0]], *out = &p->tensor[s->out];
    const struct plan_slice *q = &s->u.slice;

    for (int i = 0; i < 3; i++)
        if (in->rank != out->rank || in->rank != 3 || !between(q->start[i], 0, in->dim[i] - 1) ||
            !between(q->step[i], 1, MAX_EDGE) ||
            q->start[i] + (out->dim[i] - 1) * q->step[i] >= in->dim[i])
            return step_fail(s, "it reaches outside its operand");
    return 0;
}

int32_t plan_slope_log2(const struct plan_step *s)
{
    int32_t log2 = 0;

    for (int32_t c = 0; c < s->u.relu.n_slope; c++)
        while (log2 < 31 && llabs((long long)s->u.relu.slope[c]) > 1LL << log2)
            log2++;
    return log2;
}

static int check_lines(const struct plan *p, const struct plan_step *s)
{
    const struct plan_relu *r = &s->u.relu;
    const struct plan_tensor *in = &p->tensor[s->in[0]];

    if (!between(r->line_shift, 0, PLAN_MAX_LINE_SHIFT) || (r->line_shift == 0 && r->n_slope > 0))
        return step_fail(s, "its lines have no shift, or too large a one");
    if (r->n_slope != 0 && r->n_slope != in->dim[0])
        return fail(ERR_FORMAT, "step '%s': %d slopes for %lld channels", s->name, r->n_slope,
                    (long long)in->dim[0]);
    for (int32_t c = 0; c < r->n_slope; c++)
        if (!between(r->slope[c], -PLAN_MAX_SLOPE, PLAN_MAX_SLOPE))
            return fail(ERR_FORMAT, "step '%s': slope %d of channel %d is out of range", s->name,
                        r->slope[c], c);
    if (in->scale + in->max_log2 + plan_slope_log2(s) > PLAN_VALUE_BITS)
        return step_fail(s, "its lines do not fit before truncation");
    return 0;
}

int32_t plan_relu_width(int32_t scale, int32_t max_log2, int64_t cap)
{
    int32_t bits = scale + max_log2;

    while (cap > 0 && bits < PLAN_VALUE_BITS &&
           ldexp(1, scale + max_log2) + (double)cap > ldexp(1, bits))
        bits++;
    return bits + 1 + PLAN_MARGIN_BITS;
}

int64_t plan_all_evaluations(const struct plan *p)
{
    int64_t n = 0;

    for (int32_t i = 0; i < p->n_step; i++)
        n += p->step[i].kind == PLAN_RELU ? plan_evaluations(&p->step[i].u.relu) : 0;
    return n;
}

static int check_relu(const struct plan *p, const struct plan_step *s)
{
    const struct plan_relu *r = &s->u.relu;
    int64_t last = -1;

    if (!same_shape(&p->tensor[s->in[0]], &p->tensor[s->out]))
        return step_fail(s, "it changes the shape");
    if (r->total != p->tensor[s->in[0]].count || !between(r->kept, 0, r->total))
        return step_fail(s, "its counts do not fit its operand");
    for (int64_t i = 0; i < r->kept; i++) {
        if (r->index[i] <= last || r->index[i] >= r->total)
            return fail(ERR_FORMAT, "step '%s': kept position %u is out of order or range", s->name,
                        r->index[i]);
        last = r->index[i];
    }
    if (!between(r->cap, 0, ((int64_t)1 << PLAN_VALUE_BITS) - 1))
        return step_fail(s, "its upper bound is out of range");
    return check_lines(p, s);
}

static int check_shape(const struct plan *p, const struct plan_step *s)
{
    const struct plan_tensor *in = &p->tensor[s->in[0]], *out = &p->tensor[s->out];

    switch (s->kind) {
    case PLAN_CONV:
    case PLAN_GEMM:
        return check_linear(p, s);
    case PLAN_ADD:
        if (!same_shape(in, out) || !same_shape(&p->tensor[s->in[1]], out))
            return step_fail(s, "its operands and its result differ in shape");
        return 0;
    case PLAN_RELU:
        return check_relu(p, s);
    case PLAN_SUM_POOL:
    case PLAN_MAX_POOL:
        return check_pool(p, s);
    case PLAN_PAD:
        return check_pad(p, s);
    case PLAN_SLICE:
        return check_slice(p, s);
    case PLAN_FLATTEN:
        return in->count == out->count && out->rank == 1
                   ? 0
                   : step_fail(s, "its result is not the operand as one row");
    }
    return step_fail(s, "kind is not known here");
}

/* ---- scales ------------------------------------------------------------------------------- */

static int check_scale(const struct plan *p, const struct plan_step *s)
{
    const struct plan_tensor *in = &p->tensor[s->in[0]], *out = &p->tensor[s->out];
    bool linear = plan_is_linear(s);
    int64_t scale = in->scale;

    if (!between(s->shift, 0, PLAN_VALUE_BITS) || !between(s->input_shift[0], 0, PLAN_VALUE_BITS) ||
        !between(s->input_shift[1], 0, PLAN_VALUE_BITS))
        return step_fail(s, "shift out of range");
    if (s->kind == PLAN_ADD) {
        scale += s->input_shift[0];
        if (scale != p->tensor[s->in[1]].scale + s->input_shift[1])
            return step_fail(s, "its operands have different scales");
    } else if (s->input_shift[0] != 0 || s->input_shift[1] != 0 || (s->shift != 0 && !linear)) {
        return step_fail(s, "it must not shift");
    }
    if (linear)
        scale += s->u.linear.weight_scale;
    if ((linear || s->kind == PLAN_RELU || s->kind == PLAN_MAX_POOL) && in->scale != p->scale)
        return step_fail(s, "its operand does not have the scale of activations");
    if (out->scale != scale - s->shift)
        return step_fail(s, "the scale of its result does not follow");
    if (scale + out->max_log2 > PLAN_VALUE_BITS)
        return step_fail(s, "its result does not fit before truncation");
    return 0;
}

/* m bits cover the operand's range; the difference of two values in a max pool needs one more. */
static int check_width(const struct plan *p, const struct plan_step *s)
{
    const struct plan_tensor *in = &p->tensor[s->in[0]];
    bool pool = s->kind == PLAN_MAX_POOL;
    int32_t m = pool ? s->u.pool.width : s->kind == PLAN_RELU ? s->u.relu.width : 0;

    if (s->kind == PLAN_SUM_POOL && s->u.pool.width != 0)
        return step_fail(s, "a sum compares nothing");
    if (s->kind != PLAN_RELU && !pool)
        return 0;
    if (!between(m, PLAN_MIN_WIDTH, PLAN_MAX_WIDTH) || m % 4 != 1)
        return fail(ERR_FORMAT, "step '%s': comparison width %d is not 21, 25, ... %d", s->name, m,
                    PLAN_MAX_WIDTH);
    if (m < plan_relu_width(p->scale, in->max_log2 + pool, pool ? 0 : s->u.relu.cap))
        return fail(ERR_FORMAT, "step '%s': %d bits do not cover values up to 2^%d", s->name, m,
                    in->max_log2);
    return 0;
}

/* ---- what follows from the program -------------------------------------------------------- */

struct derived {
    int64_t relus, relus_kept, macs;
    int32_t relu_layers, linear_layers, failure_log2;
};

/* One of them fails with chance |value| / 2^64 exactly, the shares being uniform. The bound takes the power of
 * two above the largest value, and one bit for inputs that go beyond the calibrated ones. */
static double truncation_failure(int64_t elements, int32_t scale, int32_t max_log2,
                                 const double *max)
{
    return max == NULL ? ldexp((double)elements, scale + max_log2 + 1 - PLAN_RING_BITS)
                       : ldexp((double)elements * *max, scale - PLAN_RING_BITS);
}

double plan_step_failure(const struct plan *p, int32_t step, const double *max)
{
    const struct plan_step *s = &p->step[step];
    const struct plan_tensor *t = &p->tensor[s->out], *in = &p->tensor[s->in[0]];
    double sum = 0;

    if (plan_has_lines(s))
        sum += truncation_failure(s->u.relu.total - s->u.relu.kept, in->scale + plan_slope_log2(s),
                                  in->max_log2, max == NULL ? NULL : &max[s->in[0]]);
    if (s->shift > 0)
        sum += truncation_failure(t->count, t->scale + s->shift, t->max_log2,
                                  max == NULL ? NULL : &max[s->out]);
    return sum;
}

double plan_failure(const struct plan *p, const double *max)
{
    double sum = 0;

    for (int32_t i = 0; i < p->n_step; i++)
        sum += plan_step_failure(p, i, max);
    return sum;
}

/* The power of two above it. */
static int32_t failure_log2(const struct plan *p)
{
    double sum = plan_failure(p, NULL);
    int exponent;

    if (sum <= 0)
        return -PLAN_RING_BITS;
    frexp(sum, &exponent);
    return exponent;
}

static struct derived derive(const struct plan *p)
{
    struct derived d = {0};

    for (int32_t i = 0; i < p->n_step; i++) {
        const struct plan_step *s = &p->step[i];
        int64_t rows, columns;
        if (s->kind == PLAN_RELU) {
            d.relus += s->u.relu.total;
            d.relus_kept += s->u.relu.kept;
            d.relu_layers += s->u.relu.kept > 0;
        } else if (plan_is_linear(s)) {
            plan_matrix_size(p, s, &rows, &columns);
            d.macs += p->tensor[s->out].count * columns;
            d.linear_layers++;
        }
    }
    d.failure_log2 = failure_log2(p);
    return d;
}

static int check_totals(const struct plan *p)
{
    struct derived d = derive(p);

    if (d.relus != p->relus || d.relus_kept != p->relus_kept || d.macs != p->macs ||
        d.relu_layers != p->relu_layers || d.linear_layers != p->linear_layers)
        return fail(ERR_FORMAT, "the totals are not those of the program");
    if (d.failure_log2 != p->failure_log2)
        return fail(ERR_FORMAT, "failure bound 2^%d is not 2^%d, which follows from the program",
                    p->failure_log2, d.failure_log2);
    return 0;
}

void plan_complete(struct plan *p)
{
    struct derived d = derive(p);

    p->relus = d.relus;
    p->relus_kept = d.relus_kept;
    p->macs = d.macs;
    p->relu_layers = d.relu_layers;
    p->linear_layers = d.linear_layers;
    p->failure_log2 = d.failure_log2;
}

/* ---- the whole ---------------------------------------------------------------------------- */

static int check_input(const struct plan *p)
{
    const struct plan_tensor *t = &p->tensor[0];

    if (t->rank != 3 || t->dim[0] > PLAN_MAX_CHANNELS)
        return fail(ERR_FORMAT, "the input is not an image of at most %d channels",
                    PLAN_MAX_CHANNELS);
    if (!between(p->scale, PLAN_MIN_SCALE, PLAN_MAX_SCALE) || t->scale != p->scale)
        return fail(ERR_FORMAT, "activations of scale %d; %d ... %d are possible", p->scale,
                    PLAN_MIN_SCALE, PLAN_MAX_SCALE);
    if (!between(p->input.low, 0, 255) || !between(p->input.high, p->input.low + 1, 255))
        return fail(ERR_FORMAT, "the range of uint8 pixels is %d ... %d", p->input.low,
                    p->input.high);
    for (int64_t c = 0; c < t->dim[0]; c++) {
        double low = -p->input.mean[c] / p->input.std[c];
        double high = (1 - p->input.mean[c]) / p->input.std[c];
        if (!(p->input.std[c] > 0) || !isfinite(low) || !isfinite(high))
            return fail(ERR_FORMAT, "input channel %lld: mean or std is no usable number",
                        (long long)c);
        if (fmax(fabs(low), fabs(high)) > ldexp(1, t->max_log2))
            return fail(ERR_FORMAT, "input channel %lld leaves the stated range 2^%d", (long long)c,
                        t->max_log2);
    }
    return 0;
}

static int check_texts(const struct plan *p)
{
    int64_t classes = p->tensor[p->step[p->n_step - 1].out].count;

    if (p->n_label != 0 && p->n_label != classes)
        return fail(ERR_FORMAT, "%d labels for %lld classes", p->n_label, (long long)classes);
    for (int32_t i = 0; i < p->n_claim; i++)
        if (!(p->claim[i].percent >= 0 && p->claim[i].percent <= 100))
            return fail(ERR_FORMAT, "claim '%s' is no percentage", p->claim[i].metric);
    return 0;
}

int plan_check(const struct plan *p)
{
    TRY(check_tensors(p));
    OWNED uint8_t *state = mem_array((size_t)p->n_tensor, 1);
    if (state == NULL)
        return ERR_NOMEM;
    TRY(check_flow(p, state));
    TRY(check_input(p));
    for (int32_t i = 0; i < p->n_step; i++) {
        TRY(check_shape(p, &p->step[i]));
        TRY(check_scale(p, &p->step[i]));
        TRY(check_width(p, &p->step[i]));
    }
    if (p->tensor[p->step[p->n_step - 1].out].rank != 1 ||
        p->tensor[p->step[p->n_step - 1].out].scale != p->scale)
        return fail(ERR_FORMAT, "the output is not a row of numbers at scale %d", p->scale);
    TRY(check_totals(p));
    return check_texts(p);
}
