/*
 * bf16 beside fp32: which values of a bf16 executor are stored in bf16, which nodes compute on that
 * storage, and the conversion for all others.
 *
 * In bf16 are the maps: rank 4, more than one pixel, at least 16 channels. The input and the logits,
 * vectors, pooled features, few channels and everything that is no activation stay fp32. A network
 * whose input or output is such a map itself stays fp32 as a whole, and so does evaluation of fewer than
 * BF16_MIN_IMAGES images a call: a tile holds 32, and one image would cost as much as all of them.
 *
 * A node without hooks for bf16 that reads or writes such a value runs on EDGE_IMAGES images at a time:
 * they are widened into scratch, its fp32 hook is called, results are rounded back. So the stem computes
 * in fp32, on pixels in fp32, and rounds its result once, behind the tail. Hooks look at an image alone,
 * so the cut into EDGE_IMAGES changes no bit.
 */
#include "core/exec/run.h"

#include <assert.h>

#include "core/base/cpu.h"
#include "core/base/minmax.h"
#include "core/op/image.h"

#define EDGE_IMAGES 4
#define BF16_MIN_IMAGES 16
#define BF16_MIN_CHANNELS 16

static bool is_map(const struct value *v)
{
    const struct shape *s = &v->shape;

    return value_is_activation(v) && s->rank == 4 && s->dim[1] >= BF16_MIN_CHANNELS &&
           s->dim[2] * s->dim[3] > 1;
}

static bool all_in_bf16(const struct exec *e, const struct node *x)
{
    for (int32_t i = 0; i < x->n_in; i++)
        if (x->in[i] != NO_VALUE && value_is_activation(op_in(e->g, x, i)) && !e->half[x->in[i]])
            return false;
    return e->half[x->out[0]];
}

int exec_choose_storage(struct exec *e, enum exec_precision wanted)
{
    const struct graph *g = e->g;

    e->half = exec_list(e, g->n_value, sizeof *e->half);
    e->native = exec_list(e, g->n_node, sizeof *e->native);
    TRY(arena_status(e->arena));
    if (wanted != EXEC_BF16 || (e->mode != EXEC_TRAIN && e->batch < BF16_MIN_IMAGES) ||
        is_map(&g->value[g->input]) || is_map(&g->value[g->output]))
        return 0;
    for (value_id v = 0; v < g->n_value; v++) {
        e->half[v] = is_map(&g->value[v]);
        e->precision = e->half[v] ? EXEC_BF16 : e->precision;
    }
    for (int32_t n = 0; n < g->n_node; n++) {
        const struct op_hooks *h = g->node[n].op->hooks;

        e->native[n] = h->bf16 != NULL && all_in_bf16(e, &g->node[n]) &&
                       (h->bf16_fits == NULL || h->bf16_fits(g, &g->node[n]));
    }
    return 0;
}

const char *exec_precision_name(enum exec_precision p)
{
    return p == EXEC_BF16 ? "bf16" : "fp32";
}

enum exec_precision exec_precision_of(const struct exec *e)
{
    return e->precision;
}

const struct op_hooks *exec_hooks(const struct exec *e, int32_t n)
{
    const struct op_hooks *h = e->g->node[n].op->hooks;

    return e->native[n] ? h->bf16 : h;
}

static struct bf16_map map_of(const struct exec *e, value_id v)
{
    return image_map(image_of(&e->g->value[v].shape));
}

int64_t exec_floats(const struct exec *e, value_id v)
{
    if (!e->half[v])
        return exec_elems(e, v);
    const struct bf16_map m = map_of(e, v);

    return bf16_tiles(&m) * BF16_TILE / BF16_IMAGES / 2;
}

/* ---- single images */

/* The block of 32 images that image i of a value lies in. */
static float *block_of(const struct exec *e, value_id v, float *base, int64_t i)
{
    return base + i / BF16_IMAGES * BF16_IMAGES * exec_floats(e, v);
}

/* x [n][h][w][c] = images [first, first + n) of a value in bf16 at `base`. */
static void widen(const struct exec *e, value_id v, float *base, int64_t first, int64_t n, float *x)
{
    const struct bf16_map m = map_of(e, v);
    const struct bf16_kernels *k = bf16_kernels_of(cpu_level());

    for (int64_t i = 0; i < n; i++)
        k->load(&m, x + i * exec_elems(e, v), op_bf16(block_of(e, v, base, first + i)),
                (first + i) % BF16_IMAGES, false);
}

/* The other way round, y = tail(x); tail->other begins with the value's first image. */
static void narrow(const struct exec *e, value_id v, float *base, int64_t first, int64_t n,
                   const float *x, const struct bf16_tail *tail)
{
    const struct bf16_map m = map_of(e, v);
    const struct bf16_state s = bf16_begin();

    for (int64_t i = first; i < first + n; i++) {
        const int64_t block = i / BF16_IMAGES * bf16_tiles(&m) * BF16_TILE;
        struct bf16_tail t = *tail;

        if (t.other != NULL)
            t.other += block;
        s.k->store(&m, op_bf16(base) + block, i % BF16_IMAGES, x + (i - first) * exec_elems(e, v),
                   &t);
    }
    bf16_end(s);
}

/* ---- nodes that compute in fp32 */

bool exec_converts(const struct exec *e, int32_t s)
{
    const struct exec_step *step = &e->plan.step[s];
    const struct node *x = &e->g->node[step->node];
    bool any = e->half[step->out];

    for (int32_t i = 0; i < x->n_in; i++)
        any = any || (x->in[i] != NO_VALUE && e->half[x->in[i]]);
    return any && !e->native[step->node];
}

size_t exec_edge_scratch(const struct exec *e, int32_t s)
{
    const struct exec_step *step = &e->plan.step[s];
    const struct node *x = &e->g->node[step->node];
    int64_t floats = 0;

    if (!exec_converts(e, s))
        return 0;
    for (int32_t i = 0; i < x->n_in; i++)
        if (x->in[i] != NO_VALUE && e->half[x->in[i]])
            floats += 2 * exec_elems(e, x->in[i]);
    floats += 2 * exec_elems(e, step->out);
    return (size_t)(floats * EDGE_IMAGES) + e->edge_scratch;
}

size_t exec_hook_scratch(const struct exec *e, int32_t n, int64_t images)
{
    const struct op_hooks *h = exec_hooks(e, n);

    return h->scratch_size ? h->scratch_size(e->g, &e->g->node[n], images) : 0;
}

int64_t exec_edge_images(const struct exec *e)
{
    return e->precision == EXEC_BF16 ? EDGE_IMAGES : 0;
}

/* A call of a hook for some images of a larger call. */
struct edge {
    const struct exec *e;
    const struct exec_step *step;
    const struct op_call *all;
    float *free; /* scratch not yet used */
    int64_t first, n;
};

static float *take(struct edge *b, value_id v)
{
    float *got = b->free;

    b->free += EDGE_IMAGES * exec_elems(b->e, v);
    return got;
}

/* Where the hook finds what lies at `base` of the whole call; read: with its contents. */
static float *inside(struct edge *b, value_id v, const float *base, bool read)
{
    float *from = (float *)(uintptr_t)base, *to;

    if (base == NULL || !b->e->half[v])
        return base == NULL ? NULL : from + b->first * exec_elems(b->e, v);
    to = take(b, v);
    if (read)
        widen(b->e, v, from, b->first, b->n, to);
    return to;
}

/* Rounds the gradients of the operands back, adding where the call says so. */
static void give_back(struct edge *b, const struct op_call *c)
{
    const struct node *x = b->all->node;

    for (int32_t i = 0; i < x->n_in; i++) {
        if (c->din[i] == NULL || !value_is_activation(op_in(b->e->g, x, i)) ||
            !b->e->half[x->in[i]])
            continue;
        const struct bf16_tail tail = {.other = b->all->add[i] ? op_bf16(b->all->din[i]) : NULL};

        narrow(b->e, x->in[i], b->all->din[i], b->first, b->n, c->din[i], &tail);
    }
}

/* The operands of a piece of a call, in fp32. */
static struct op_call piece(struct edge *b, bool read_in, bool read_out)
{
    const struct node *x = b->all->node;
    struct op_call c = *b->all;

    c.n = b->n;
    for (int32_t i = 0; i < x->n_in; i++) {
        if (x->in[i] == NO_VALUE || !value_is_activation(op_in(b->e->g, x, i)))
            continue;
        const bool half = b->e->half[x->in[i]];

        c.in[i] = inside(b, x->in[i], c.in[i], read_in);
        c.din[i] = inside(b, x->in[i], c.din[i], false);
        c.add[i] = c.add[i] && !half;
    }
    c.out = inside(b, b->step->out, c.out, read_out);
    c.dout = inside(b, b->step->out, c.dout, c.dout != NULL);
    if (c.tail.other != NULL)
        c.tail.other += b->first * exec_elems(b->e, b->step->out);
    if (b->e->half[b->step->out])
        c.tail = (struct rows_tail){.relu = false};
    return c;
}

void exec_run_converted(const struct exec *e, int32_t s, const struct op_call *all,
                        void (*hook)(const struct op_call *))
{
    const struct exec_step *step = &e->plan.step[s];
    const bool forward = all->dout == NULL;
    const unsigned flags = all->node->op->flags;
    struct edge b = {.e = e, .step = step, .all = all};

    for (b.first = 0; b.first < all->n; b.first += EDGE_IMAGES) {
        b.n = min_i64(EDGE_IMAGES, all->n - b.first);
        b.free = all->scratch + e->edge_scratch;
        const struct op_call c = piece(&b, forward || (flags & (OP_KEEP_X | OP_KEEP_X_TRAIN)),
                                       !forward && (flags & OP_KEEP_Y));

        hook(&c);
        if (forward && e->half[step->out])
            narrow(e, step->out, all->out, b.first, b.n, c.out, &all->bf16_tail);
        if (!forward)
            give_back(&b, &c);
    }
}

/* ---- the tail's gradient, and taps */

void exec_add_gradient(const struct exec *e, value_id v, float *to, const float *from, int64_t n,
                       bool add)
{
    const struct bf16_map m = map_of(e, v);
    const int64_t tiles = (n + BF16_IMAGES - 1) / BF16_IMAGES * bf16_tiles(&m);
    float one[BF16_CHANNELS];
    const struct bf16_state s = bf16_begin();

    floats_fill(one, BF16_CHANNELS, 1);
    s.k->scale(op_bf16(to), op_bf16_in(from), one, tiles, add);
    bf16_end(s);
}

void exec_fill_tap(const struct exec *e, const struct window *w, value_id v)
{
    if (e->tap[v] && e->half[v])
        widen(e, v, exec_activation(e, w, v), 0, w->n,
              e->tap_memory[v] + w->whole * exec_elems(e, v));
}

void exec_merge_tap_gradient(const struct exec *e, const struct window *w, value_id v)
{
    const struct bf16_tail none = {.relu = false};
    const struct bf16_map m = map_of(e, v);
    float *grad = exec_gradient(e, w, v), *tap = e->tap_grad[v] + w->whole * exec_elems(e, v);

    for (int64_t i = 0; i < w->n; i++)
        bf16_kernels_of(cpu_level())
            ->load(&m, tap + i * exec_elems(e, v), op_bf16(block_of(e, v, grad, i)),
                   i % BF16_IMAGES, true);
    narrow(e, v, grad, 0, w->n, tap, &none);
}
