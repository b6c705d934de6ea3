/* ReLUs by layer; see quota.h. */
#include "pipeline/quota.h"

#include "pipeline/layer_budget.h"

int quota_count(struct quota *q, const struct graph *g, const char *relus)
{
    TRY(relu_sites(g, &q->site, &q->n_site));
    for (int32_t s = 0; s < q->n_site; s++)
        q->total += q->site[s].total;
    q->want = q->total;
    if (q->n_site == 0)
        return fail(ERR_UNSUPPORTED, "the model has no ReLU to remove");
    return relus ? budget_parse(relus, q->total, &q->want) : 0;
}

static int share(struct quota *q, const struct graph *g, const struct quota_rules *rules,
                 int64_t *total, int64_t *pinned)
{
    bool all = true;
    int64_t sum = 0;

    for (int32_t s = 0; s < q->n_site; s++) {
        total[s] = q->site[s].total;
        pinned[s] = -1;
    }
    if (rules->layers)
        TRY(layer_budget_read(rules->layers, g, q->n_site, q->site, pinned));
    for (int32_t s = 0; s < q->n_site; s++) {
        all = all && pinned[s] >= 0;
        sum += pinned[s] >= 0 ? pinned[s] : 0;
    }
    if (all && !rules->relus)
        q->want = sum;
    TRY(budget_sensitivity(g, rules->density, q->eta));
    TRY(budget_empty_cheapest(q->n_site, q->eta, rules->empty_cheapest, pinned));
    return budget_allocate_pinned(q->n_site, total, q->eta, q->want, pinned, q->kept);
}

int quota_share(struct quota *q, const struct graph *g, const struct quota_rules *rules)
{
    const size_t n = (size_t)q->n_site + 1;
    OWNED int64_t *total = mem_array(n, sizeof *total), *pinned = mem_array(n, sizeof *pinned);

    q->eta = mem_array(n, sizeof *q->eta);
    q->kept = mem_array(n, sizeof *q->kept);
    if (total == NULL || pinned == NULL || q->eta == NULL || q->kept == NULL)
        return ERR_NOMEM;
    return share(q, g, rules, total, pinned);
}

int quota_recount(struct quota *q, const struct graph *g)
{
    OWNED struct relu_site *site = NULL;
    int32_t n = 0;

    TRY(relu_sites(g, &site, &n));
    for (int32_t s = 0; s < n; s++)
        q->kept[s] = site[s].kept;
    return 0;
}

int64_t quota_kept(const struct quota *q)
{
    int64_t sum = 0;

    for (int32_t s = 0; s < q->n_site; s++)
        sum += q->kept[s];
    return sum;
}

void quota_release(struct quota *q)
{
    mem_free(q->site);
    mem_free(q->eta);
    mem_free(q->kept);
}
