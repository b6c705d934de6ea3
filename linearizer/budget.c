/*
 * How many ReLUs each layer keeps (trainer/METHOD.md).
 *
 * Sensitivity: prune all Conv and Gemm weights together by magnitude to a proxy density; a layer
 * whose weights survive less is more sensitive to losing ReLUs, eta = 1 - density. Allocation: capped
 * proportional ("water-filling"), k_l = min(N_l, c eta_l) with sum R, then integers by largest
 * fractional part.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/op/op.h"
#include "linearizer/linearizer.h"

/* ---- sensitivity ------------------------------------------------------------------------- */

static bool is_weighted(const struct node *n)
{
    return !n->frozen && (n->op == &op_conv || n->op == &op_gemm);
}

/* |x| as an integer of the same order: IEEE floats compare like their bits. */
static uint32_t magnitude(float x)
{
    uint32_t u;

    memcpy(&u, &x, sizeof u);
    return u & 0x7fffffffu;
}

/* Counts all weights by the high half of their magnitude, or, where `low`, those whose high half is
 * `high` by their low half. Returns the number of all weights. */
static int64_t histogram(const struct graph *g, bool low, uint32_t high, int64_t *hist)
{
    int64_t total = 0;

    memset(hist, 0, 65536 * sizeof *hist);
    for (int32_t n = 0; n < g->n_node; n++) {
        if (!is_weighted(&g->node[n]))
            continue;
        const struct value *w = op_in(g, &g->node[n], 1);
        const int64_t count = shape_elems(&w->shape);

        for (int64_t i = 0; i < count; i++) {
            const uint32_t m = magnitude(w->data[i]);

            if (!low)
                hist[m >> 16]++;
            else if (m >> 16 == high)
                hist[m & 0xffffu]++;
        }
        total += count;
    }
    return total;
}

/* Largest bin b with sum of hist[b ...] >= want; *above: that sum without bin b. */
static uint32_t find_bin(const int64_t *hist, int64_t want, int64_t *above)
{
    *above = 0;
    for (uint32_t b = 65535; b > 0; b--) {
        if (*above + hist[b] >= want)
            return b;
        *above += hist[b];
    }
    return 0;
}

/* The magnitude that the `density` share of all weights reaches or exceeds. */
static int global_threshold(const struct graph *g, double density, uint32_t *out)
{
    OWNED int64_t *hist = mem_array(65536, sizeof *hist);
    int64_t above, rest;

    if (hist == NULL)
        return ERR_NOMEM;
    const int64_t total = histogram(g, false, 0, hist);
    const int64_t want = (int64_t)ceil(density * (double)total);
    const uint32_t high = find_bin(hist, want, &above);
    histogram(g, true, high, hist);
    *out = high << 16 | find_bin(hist, want - above, &rest);
    return 0;
}

static bool is_pointwise(const struct graph *g, const struct node *n)
{
    const struct shape *w = &op_in(g, n, 1)->shape;

    return n->op == &op_conv && w->dim[2] == 1 && w->dim[3] == 1;
}

/* Marks in seen[] every value that v is computed from without passing a Conv or Gemm. Producers come
 * before their users, so one backward sweep over the nodes is enough. */
static void mark_sources(const struct graph *g, value_id v, bool *seen)
{
    seen[v] = true;
    for (int32_t n = g->n_node - 1; n >= 0; n--) {
        const struct node *x = &g->node[n];

        if (!seen[x->out[0]] || is_weighted(x))
            continue;
        for (int32_t i = 0; i < x->n_in; i++)
            if (x->in[i] != NO_VALUE)
                seen[x->in[i]] = true;
    }
}

/* Conv or Gemm that produces the site's main input: the last one after it that is no 1x1 shortcut,
 * else the last one; -1 if there is none. */
static int32_t main_producer(const struct graph *g, value_id x, bool *seen)
{
    int32_t best = -1;

    memset(seen, 0, (size_t)g->n_value * sizeof *seen);
    mark_sources(g, x, seen);
    for (int32_t n = 0; n < g->n_node; n++) {
        const struct node *c = &g->node[n];

        if (!seen[c->out[0]] || !is_weighted(c))
            continue;
        if (best < 0 || !is_pointwise(g, c) || is_pointwise(g, &g->node[best]))
            best = n;
    }
    return best;
}

static double kept_share(const struct value *w, uint32_t threshold)
{
    const int64_t count = shape_elems(&w->shape);
    int64_t kept = 0;

    for (int64_t i = 0; i < count; i++)
        kept += magnitude(w->data[i]) >= threshold;
    return (double)kept / (double)count;
}

int budget_sensitivity(const struct graph *g, double density, double *eta)
{
    OWNED struct relu_site *sites = NULL;
    OWNED bool *seen = NULL;
    uint32_t threshold;
    int32_t n_sites;

    TRY(relu_sites(g, &sites, &n_sites));
    if ((seen = mem_array((size_t)g->n_value + 1, sizeof *seen)) == NULL)
        return ERR_NOMEM;
    TRY(global_threshold(g, density, &threshold));
    for (int32_t s = 0; s < n_sites; s++) {
        const int32_t n = main_producer(g, sites[s].x, seen);

        eta[s] = n < 0 ? 1 : 1 - kept_share(op_in(g, &g->node[n], 1), threshold);
    }
    return 0;
}

/* ---- allocation -------------------------------------------------------------------------- */

/* c with sum over l of min(N_l, c eta_l) = budget; capped[l] says which layers are full. */
static double water_level(int32_t n, const int64_t *total, const double *eta, double budget,
                          bool *capped)
{
    double c = 0;

    for (bool more = true; more;) {
        double rest = budget, weight = 0;

        more = false;
        for (int32_t l = 0; l < n; l++) {
            rest -= capped[l] ? (double)total[l] : 0;
            weight += capped[l] ? 0 : eta[l];
        }
        c = weight > 0 ? rest / weight : 0;
        for (int32_t l = 0; l < n; l++)
            if (!capped[l] && c * eta[l] > (double)total[l])
                capped[l] = more = true;
    }
    return c;
}

/* Hands out `missing` units, one a layer, to the largest fractional parts (ties: lower index). */
static void largest_remainders(int32_t n, const int64_t *total, double *fraction, int64_t missing,
                               int64_t *kept)
{
    while (missing > 0) {
        int32_t best = -1;

        for (int32_t l = 0; l < n; l++)
            if (kept[l] < total[l] && (best < 0 || fraction[l] > fraction[best]))
                best = l;
        kept[best]++;
        fraction[best] -= 1;
        missing--;
    }
}

int budget_allocate(int32_t n, const int64_t *total, const double *eta, int64_t budget,
                    int64_t *kept)
{
    OWNED bool *capped = NULL;
    OWNED double *fraction = NULL;
    int64_t sum = 0, given = 0;

    for (int32_t l = 0; l < n; l++)
        sum += total[l];
    if (budget < 0 || budget > sum)
        return fail(ERR_ARG, "ReLU budget %lld: must lie in 0 ... %lld, the ReLUs of the network",
                    (long long)budget, (long long)sum);
    capped = mem_array((size_t)n + 1, sizeof *capped);
    fraction = mem_array((size_t)n + 1, sizeof *fraction);
    if (!capped || !fraction)
        return ERR_NOMEM;
    const double c = water_level(n, total, eta, (double)budget, capped);
    for (int32_t l = 0; l < n; l++) {
        const double k = capped[l] ? (double)total[l] : c * eta[l];

        kept[l] = (int64_t)floor(k + 1e-9) < total[l] ? (int64_t)floor(k + 1e-9) : total[l];
        fraction[l] = k - (double)kept[l];
        given += kept[l];
    }
    largest_remainders(n, total, fraction, budget - given, kept);
    return 0;
}

/* What is left of the budget for the free layers, if they can hold exactly that. */
static int rest_of_budget(int32_t n, const int64_t *total, int64_t budget, const int64_t *pinned,
                          int64_t *rest)
{
    int64_t used = 0, room = 0;

    for (int32_t l = 0; l < n; l++) {
        if (pinned[l] > total[l])
            return fail(ERR_ARG, "ReLU layer %d: %lld ReLUs are asked for, it has %lld", l,
                        (long long)pinned[l], (long long)total[l]);
        used += pinned[l] >= 0 ? pinned[l] : 0;
        room += pinned[l] >= 0 ? 0 : total[l];
    }
    *rest = budget - used;
    if (*rest < 0 || *rest > room)
        return fail(
            ERR_ARG,
            "ReLU budget %lld: the layers that are fixed keep %lld, the others have room for 0 to %lld",
            (long long)budget, (long long)used, (long long)room);
    return 0;
}

int budget_allocate_pinned(int32_t n, const int64_t *total, const double *eta, int64_t budget,
                           const int64_t *pinned, int64_t *kept)
{
    OWNED int64_t *free_total = mem_array((size_t)n + 1, sizeof *free_total);
    OWNED double *free_eta = mem_array((size_t)n + 1, sizeof *free_eta);
    int64_t rest = 0;

    if (free_total == NULL || free_eta == NULL)
        return ERR_NOMEM;
    TRY(rest_of_budget(n, total, budget, pinned, &rest));
    for (int32_t l = 0; l < n; l++)
        if (pinned[l] < 0) { /* the others have no ReLUs and no sensitivity here */
            free_total[l] = total[l];
            free_eta[l] = eta[l];
        }
    TRY(budget_allocate(n, free_total, free_eta, rest, kept));
    for (int32_t l = 0; l < n; l++)
        kept[l] = pinned[l] < 0 ? kept[l] : pinned[l];
    return 0;
}

int budget_empty_cheapest(int32_t n, const double *eta, int64_t count, int64_t *pinned)
{
    for (int64_t i = 0; i < count; i++) {
        int32_t cheapest = -1;

        for (int32_t l = 0; l < n; l++)
            if (pinned[l] < 0 && (cheapest < 0 || eta[l] < eta[cheapest]))
                cheapest = l;
        if (cheapest < 0)
            return fail(ERR_ARG, "%lld layers cannot be emptied: only %lld of %d are not fixed",
                        (long long)count, (long long)i, n);
        pinned[cheapest] = 0;
    }
    return 0;
}

/* Is it written as a share of 1? A count has no point. */
static bool is_share(const char *text, const char *end)
{
    return memchr(text, '.', (size_t)(end - text)) != NULL && *end == '\0';
}

int budget_parse(const char *text, int64_t total, int64_t *out)
{
    char *end;
    double v;

    errno = 0;
    v = strtod(text, &end);
    const bool percent = *end == '%', share = is_share(text, end);
    if (end == text || errno || end[percent] != '\0' || !(v >= 0) ||
        (!percent && !share && v != floor(v)))
        return fail(ERR_ARG,
                    "--relus '%s': give a count such as 18841 or a share such as 10%% or 0.1",
                    text);
    if ((percent && v > 100) || (share && v > 1))
        return fail(ERR_ARG, "--relus '%s': is more than all ReLUs; a count has no point", text);
    v *= percent ? (double)total / 100 : share ? (double)total : 1;
    if (v > (double)total)
        return fail(ERR_ARG, "--relus '%s': the network has only %lld ReLUs", text,
                    (long long)total);
    *out = (int64_t)floor(v + 1e-9);
    return 0;
}
