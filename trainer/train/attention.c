/*
 * Attention transfer: maps, their distance, its gradient; stage outputs of a graph.
 *
 * With d = Mhat_S - Mhat_T, g = 2 d / (n P) (P pixels) and r = max(|M_S|, eps):
 *
 *     d at / d M_S[q]   = (g[q] - Mhat_S[q] sum_p g[p] Mhat_S[p]) / r      (g[q] / eps below eps)
 *     d at / d f[q][c]  = 2 f[q][c] / C * d at / d M_S[q]
 *
 * Work space of an image: both maps.
 */
#include "trainer/train/attention.h"

#include <math.h>
#include <string.h>

#include "core/op/op.h"

#define SMALLEST_NORM 1e-12

/* ---- stage outputs --------------------------------------------------------------------------- */

static bool is_image(const struct graph *g, value_id v)
{
    return v != NO_VALUE && value_is_activation(&g->value[v]) && g->value[v].shape.rank == 4;
}

/* x + y of two activations: the end of a residual block. */
static bool is_residual(const struct graph *g, const struct node *n)
{
    return n->op == &op_add && is_image(g, n->in[0]) && is_image(g, n->in[1]);
}

static bool same_side(const struct graph *g, value_id a, value_id b)
{
    const struct shape *x = &g->value[a].shape, *y = &g->value[b].shape;

    return x->dim[2] == y->dim[2] && x->dim[3] == y->dim[3];
}

/* The ReLU after an addition, where nothing else reads the sum. */
static value_id behind_relu(const struct graph *g, value_id v)
{
    const int32_t user = graph_single_user(g, v);

    if (user < 0 || !(g->node[user].op->flags & OP_RELU))
        return v;
    return g->node[user].out[0];
}

int32_t attention_groups(const struct graph *g, value_id out[ATTENTION_MAX_GROUPS])
{
    bool residual = false;
    int32_t count = 0;

    for (int32_t n = 0; n < g->n_node; n++)
        residual = residual || is_residual(g, &g->node[n]);
    for (int32_t n = 0; n < g->n_node; n++) {
        const struct node *x = &g->node[n];
        const bool end = residual ? is_residual(g, x) : (x->op->flags & OP_RELU) != 0;

        if (!end || !is_image(g, x->out[0]) || x->out[0] == g->output)
            continue;
        for (int32_t i = 0; i < count; i++) /* the last of its size counts */
            if (same_side(g, out[i], x->out[0])) {
                memmove(out + i, out + i + 1, (size_t)(--count - i) * sizeof *out);
                break;
            }
        if (count == ATTENTION_MAX_GROUPS)
            memmove(out, out + 1, (size_t)--count * sizeof *out);
        out[count++] = behind_relu(g, x->out[0]);
    }
    return count;
}

/* ---- loss ------------------------------------------------------------------------------------ */

size_t attention_work(int64_t n, int64_t positions)
{
    return (size_t)(n * 2 * positions);
}

/* map [P] := Mhat of f [P][C]; returns max(|M|, eps). */
static double normalised_map(const float *f, int64_t positions, int64_t channels, double *map)
{
    double norm = 0;

    for (int64_t p = 0; p < positions; p++) {
        double sum = 0;

        for (int64_t c = 0; c < channels; c++)
            sum += (double)f[p * channels + c] * f[p * channels + c];
        map[p] = sum / (double)channels;
        norm += map[p] * map[p];
    }
    norm = fmax(sqrt(norm), SMALLEST_NORM);
    for (int64_t p = 0; p < positions; p++)
        map[p] /= norm;
    return norm;
}

/* Adds the image's gradient; diff and map [P], scale = weight * 2 / (n P). */
static void image_gradient(const float *f, const double *map, const double *other,
                           int64_t positions, int64_t channels, double norm, double scale,
                           float *grad)
{
    double along = 0; /* what normalising takes away */

    for (int64_t p = 0; norm > SMALLEST_NORM && p < positions; p++)
        along += (map[p] - other[p]) * map[p];
    for (int64_t p = 0; p < positions; p++) {
        const double dm = scale * (map[p] - other[p] - map[p] * along) / norm;
        const float k = (float)(2 * dm / (double)channels);

        for (int64_t c = 0; c < channels; c++)
            grad[p * channels + c] += k * f[p * channels + c];
    }
}

static double image_loss(const struct attention_maps *m, int64_t i, double weight, double *work)
{
    const int64_t positions = m->positions, size = positions * m->channels;
    const double count = (double)m->of * (double)positions;
    double *map = work, *other = work + positions, sum = 0;

    const double norm = normalised_map(m->student + i * size, positions, m->channels, map);
    normalised_map(m->teacher + i * size, positions, m->channels, other);
    for (int64_t p = 0; p < positions; p++)
        sum += (map[p] - other[p]) * (map[p] - other[p]);
    if (m->grad != NULL)
        image_gradient(m->student + i * size, map, other, positions, m->channels, norm,
                       2 * weight / count, m->grad + i * size);
    return sum / count;
}

void attention_loss(const struct attention_maps *m, double weight, double *work, double *each)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < m->n; i++)
        each[i] = image_loss(m, i, weight, work + i * 2 * m->positions);
}
