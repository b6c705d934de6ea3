/*
 * Training by several ranks (core/base/ranks.h): who works on which images, and how what is summed over
 * images comes together with the bits that one rank gives.
 *
 *   images       of a pass are cut into EXEC_BLOCKS blocks; a rank has consecutive ones. Its memory
 *                holds their activations alone.
 *   statistics   of a batch norm, and its parameter gradients, which its input gradient reads: the
 *                blocks' sums go to all ranks, each adds them in order. Small, but waited for. Not so where
 *                each shard (exec.h) lies in one rank: the sums for running statistics go round once, after
 *                the pass, and parameter gradients are chains as the others.
 *   by blocks    other parameter gradients go round as a chain: the sum of the blocks before, in
 *                order, to which a rank adds its own. They travel while the backward pass goes on.
 *   by channels  where the weights are large (exec_splits) a gradient is one sum over all images. Its
 *                operands go to all ranks, which divide the channels as threads do; then a chain again.
 */
#include "core/exec/run.h"

#include <string.h>

#include "core/base/minmax.h"
#include "core/base/ranks.h"

#define PIECE (256 * 1024) /* floats of a chain's link: the next rank can begin with the first */

_Static_assert(EXEC_SHARDS_MOST == EXEC_BLOCKS, "a shard is some whole blocks");

static int64_t unit(enum exec_precision p)
{
    return p == EXEC_BF16 ? BF16_IMAGES : 1;
}

static int64_t unit_of(const struct exec *e)
{
    return unit(e->precision);
}

static int64_t units_of(const struct exec *e, int64_t n)
{
    return (n + unit_of(e) - 1) / unit_of(e);
}

/* Units of the images of a pass that ranks below r have; r = ranks_count(): all. */
static int64_t units_before(const struct exec *e, int64_t n, int r)
{
    return units_of(e, n) * ranks_first(EXEC_BLOCKS, r) / EXEC_BLOCKS;
}

static int64_t images_before(const struct exec *e, int64_t n, int r)
{
    return min_i64(units_before(e, n, r) * unit_of(e), n);
}

void exec_share(const struct exec *e, int64_t n, int64_t *first, int64_t *count)
{
    const int r = ranks_index();

    *first = images_before(e, n, r);
    *count = images_before(e, n, r + 1) - *first;
}

void exec_gather(const struct exec *e, int64_t n, void *rows, size_t bytes)
{
    int64_t first[RANKS_MOST + 1];

    for (int r = 0; r <= ranks_count(); r++)
        first[r] = images_before(e, n, r);
    ranks_gather(rows, bytes, first);
}

int64_t exec_most_images(const struct exec *e, int64_t n)
{
    int64_t most = 1;

    for (int r = 0; r < ranks_count(); r++)
        most = max_i64(most, images_before(e, n, r + 1) - images_before(e, n, r));
    return most;
}

/* ---- blocks that all ranks get */

void exec_gather_blocks(void *blocks, size_t bytes)
{
    int64_t first[RANKS_MOST + 1];

    for (int r = 0; r <= ranks_count(); r++)
        first[r] = ranks_first(EXEC_BLOCKS, r);
    ranks_gather(blocks, bytes, first);
}

bool exec_owns_block(int32_t b)
{
    return b >= ranks_first(EXEC_BLOCKS, ranks_index()) &&
           b < ranks_first(EXEC_BLOCKS, ranks_index() + 1);
}

/* ---- shards */

/* The first image of shard k of `shards`; k = shards: n. As exec_block cuts. */
static int64_t shard_first(enum exec_precision p, int64_t n, int32_t k, int32_t shards)
{
    const int64_t units = (n + unit(p) - 1) / unit(p);

    return min_i64(units * (k * (EXEC_BLOCKS / shards)) / EXEC_BLOCKS * unit(p), n);
}

int32_t exec_shards(enum exec_precision p, int64_t n, int32_t wanted)
{
    int64_t least = n;

    for (int32_t k = 0; k < wanted; k++)
        least = min_i64(least, shard_first(p, n, k + 1, wanted) - shard_first(p, n, k, wanted));
    return wanted == 1 || least >= EXEC_SHARD_LEAST ? wanted : exec_shards(p, n, wanted / 2);
}

int64_t exec_shard_images(const struct exec *e, int32_t k)
{
    return shard_first(e->precision, e->n_train, k + 1, e->shards) -
           shard_first(e->precision, e->n_train, k, e->shards);
}

bool exec_shares_stats(const struct exec *e)
{
    return e->shards % ranks_count() != 0;
}

void exec_own_shards(const struct exec *e, int32_t *first, int32_t *end)
{
    const bool all = exec_shares_stats(e);

    *first = all ? 0 : (int32_t)ranks_first(e->shards, ranks_index());
    *end = all ? e->shards : (int32_t)ranks_first(e->shards, ranks_index() + 1);
}

void exec_gather_shards(struct exec *e)
{
    int64_t first[RANKS_MOST + 1];

    for (int r = 0; r <= ranks_count() && !exec_shares_stats(e); r++)
        first[r] = ranks_first(e->shards, r);
    if (!exec_shares_stats(e))
        ranks_gather(e->pooled, e->n_pooled * sizeof *e->pooled, first);
}

/* ---- chains */

struct exec_piece { /* of the gradients of a step */
    const struct exec *e;
    int32_t s;
    int64_t at, n;
};

static int32_t own_blocks(void)
{
    return (int32_t)(ranks_first(EXEC_BLOCKS, ranks_index() + 1) -
                     ranks_first(EXEC_BLOCKS, ranks_index()));
}

static int64_t step_params(const struct exec *e, int32_t s)
{
    return exec_node_params(e->g, &e->g->node[e->plan.step[s].node]);
}

/* The sum, then the parts that this rank adds. */
float *exec_chain_part(const struct exec *e, int32_t s, int32_t part)
{
    return e->own[s] + (1 + part) * step_params(e, s);
}

float *exec_chain_block(const struct exec *e, int32_t s, int32_t b)
{
    return exec_chain_part(e, s, b - (int32_t)ranks_first(EXEC_BLOCKS, ranks_index()));
}

static void add_parts(void *ctx, void *data)
{
    const struct exec_piece *p = ctx;
    const struct exec *e = p->e;
    const int64_t size = step_params(e, p->s);
    const int32_t parts = exec_splits(e, p->s, e->n_train) ? 1 : own_blocks();
    const float *own = exec_chain_part(e, p->s, 0) + p->at;
    float *sum = data;

#pragma omp parallel for schedule(static) num_threads(exec_threads(e))
    for (int64_t i = 0; i < p->n; i++) {
        float v = sum[i];

        for (int32_t b = 0; b < parts; b++)
            v += own[b * size + i];
        sum[i] = v;
    }
}

int exec_chain_put(struct exec *e, int32_t s)
{
    const int64_t size = step_params(e, s);
    float *sum = e->own[s];

    if (ranks_index() == 0)
        memset(sum, 0, (size_t)size * sizeof *sum);
    for (struct exec_piece *p = e->piece; p < e->piece + e->n_piece; p++)
        if (p->s == s)
            TRY(ranks_chain_put(e->chain, sum + p->at, (size_t)p->n * sizeof *sum, add_parts, p));
    return 0;
}

/* ---- steps that are cut by channels */

/* Does its gradient read all images in this rank? */
static bool reads_all(const struct exec *e, int32_t s)
{
    return exec_splits(e, s, e->batch) && step_params(e, s) > 0;
}

static const float *gather_value(const struct exec *e, value_id v, const float *mine, float *all)
{
    const int64_t unit = unit_of(e) * exec_floats(e, v);
    int64_t first[RANKS_MOST + 1];

    for (int r = 0; r <= ranks_count(); r++)
        first[r] = units_before(e, e->n_train, r);
    const int64_t from = first[ranks_index()], n = first[ranks_index() + 1] - from;

    if (n > 0)
        memcpy(all + from * unit, mine, (size_t)(n * unit) * sizeof *all);
    ranks_gather(all, (size_t)unit * sizeof *all, first);
    return all;
}

void exec_gather_operands(const struct exec *e, int32_t s, struct op_call *c)
{
    const struct exec_step *step = &e->plan.step[s];

    c->n = e->n_train;
    c->in[0] = gather_value(e, e->g->node[step->node].in[0], c->in[0], e->all_in);
    c->dout = gather_value(e, step->out, c->dout, e->all_out);
}

/* ---- construction */

/* Floats of a value in all images of the largest batch of which step s is cut by channels. */
static int64_t whole_floats(const struct exec *e, int32_t s, value_id v)
{
    return units_of(e, exec_most_split(e, s)) * unit_of(e) * exec_floats(e, v);
}

static int new_pieces(struct exec *e)
{
    int32_t n = 0;

    for (int32_t s = 0; s < e->plan.n_step; s++)
        n += (int32_t)((step_params(e, s) + PIECE - 1) / PIECE);
    if ((e->piece = exec_list(e, n, sizeof *e->piece)) == NULL)
        return ERR_NOMEM;
    for (int32_t s = 0; s < e->plan.n_step; s++)
        for (int64_t at = 0, size = step_params(e, s); at < size; at += PIECE)
            e->piece[e->n_piece++] = (struct exec_piece){e, s, at, min_i64(PIECE, size - at)};
    return 0;
}

int exec_new_chains(struct exec *e)
{
    int64_t in = 0, out = 0;

    if (ranks_count() == 1)
        return 0;
    TRY(ranks_chain_new(&e->chain));
    TRY(new_pieces(e));
    if ((e->own = exec_list(e, e->plan.n_step, sizeof *e->own)) == NULL)
        return ERR_NOMEM;
    for (int32_t s = 0; s < e->plan.n_step; s++) {
        const int64_t parts = 1 + (reads_all(e, s) ? 1 : own_blocks());

        e->own[s] = exec_floats_new(e, (size_t)(parts * step_params(e, s)));
        if (step_params(e, s) == 0)
            continue;
        in = max_i64(in, whole_floats(e, s, e->g->node[e->plan.step[s].node].in[0]));
        out = max_i64(out, whole_floats(e, s, e->plan.step[s].out));
    }
    e->all_in = exec_floats_new(e, (size_t)in);
    e->all_out = exec_floats_new(e, (size_t)out);
    return arena_status(e->arena);
}
