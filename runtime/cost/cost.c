/* The cost formulas of private inference (cost.h). */
#include "runtime/cost/cost.h"

#include <math.h>

static double transfer(double bytes, const struct link *l)
{
    return 8 * bytes / l->bits_per_second;
}

/* ---- ReLUs -------------------------------------------------------------------------------- */

static uint64_t online_bytes(const struct relu_backend *r, const struct relu_batch *b)
{
    return r->online_bytes(b, 0) + r->online_bytes(b, 1);
}

static uint64_t offline_bytes(const struct relu_backend *r, const struct relu_batch *b)
{
    return r->offline_bytes(b, 0) + r->offline_bytes(b, 1);
}

static void add_batch(struct cost *c, const struct cost_case *k, int64_t n, int32_t width)
{
    const struct relu_seconds *t = cost_machine_relu(k->machine, k->relu);
    const struct relu_batch batch = {.n = n, .width = width, .payloads = 1, .tagged = k->tagged};
    const struct relu_batch usual = {.n = n, .width = RELU_COST_WIDTH, .payloads = 1};
    double on = (double)online_bytes(k->relu, &batch), off = (double)offline_bytes(k->relu, &batch);
    double wide_on = on / (double)online_bytes(k->relu, &usual);
    double wide_off = off / (double)offline_bytes(k->relu, &usual);
    int32_t messages = k->relu->online_messages(&batch);

    c->online_bytes += (uint64_t)on;
    c->offline_relu_bytes += (uint64_t)off;
    c->online_messages += messages;
    c->online_seconds += t->online_batch + messages * k->link->rtt / 2 +
                         fmax(transfer(on, k->link), (double)n * wide_on * t->online);
    c->offline_relu_seconds += t->offline_batch + k->link->rtt +
                               fmax(transfer(off, k->link), (double)n * wide_off * t->offline);
}

/* ---- local arithmetic --------------------------------------------------------------------- */

static void add_product(struct cost *c, const struct cost_case *k, const struct plan *p,
                        const struct plan_step *s)
{
    double outputs = (double)p->tensor[s->out].count;
    int64_t rows, columns;

    plan_matrix_size(p, s, &rows, &columns);
    c->online_seconds += (double)columns * outputs * k->machine->mac;
    c->online_seconds +=
        (double)(columns * s->u.linear.group) * outputs / (double)rows * k->machine->window_entry;
}

/* ---- the whole ---------------------------------------------------------------------------- */

static void add_step(struct cost *c, const struct cost_case *k, const struct plan *p,
                     const struct plan_step *s)
{
    int64_t outputs = p->tensor[s->out].count, left;

    c->online_seconds += (double)outputs * k->machine->element;
    switch (s->kind) {
    case PLAN_CONV:
    case PLAN_GEMM:
        add_product(c, k, p, s);
        break;
    case PLAN_RELU:
        if (s->u.relu.kept > 0)
            add_batch(c, k, plan_evaluations(&s->u.relu), s->u.relu.width);
        break;
    case PLAN_MAX_POOL:
        for (left = s->u.pool.kernel[0] * s->u.pool.kernel[1]; left > 1; left -= left / 2)
            add_batch(c, k, left / 2 * outputs, s->u.pool.width);
        break;
    default:
        break;
    }
}

static int add_linear(struct cost *c, const struct cost_case *k, const struct plan *p)
{
    const struct linear_constant *own = k->linear->constant;
    const double *t = cost_machine_linear(k->machine, k->linear);
    struct linear_work w;

    TRY(k->linear->work(p, k->images, &w));
    c->offline_linear_bytes = (uint64_t)w.bytes;
    c->offline_linear_seconds =
        w.round_trips * k->link->rtt + transfer(w.bytes, k->link) + w.products * k->machine->mac +
        w.window_entries * k->machine->window_entry + w.moved * k->machine->byte;
    for (int i = 0; own[i].name != NULL; i++)
        c->offline_linear_seconds += w.own[i] * t[i];
    return 0;
}

/* The first backend without a third party that takes the plan; if there is none, any that does. */
static int first_linear(const struct plan *p, const struct linear_backend **out)
{
    const struct linear_backend *const *all = linear_backends();

    for (int third = 0; third < 2; third++)
        for (int i = 0; all[i] != NULL; i++)
            if (all[i]->third_party == (third == 1) && all[i]->check(p) == 0) {
                *out = all[i];
                return 0;
            }
    return fail(ERR_UNSUPPORTED, "no linear backend takes this plan");
}

int cost_estimate(const struct plan *p, const struct cost_case *k, struct cost *out)
{
    struct cost_machine built_in;
    struct cost_case full = *k;
    struct cost c;

    if (full.machine == NULL) {
        built_in = cost_machine_default();
        full.machine = &built_in;
    }
    if (full.relu == NULL)
        full.relu = relu_backends()[0];
    if (full.linear == NULL)
        TRY(first_linear(p, &full.linear));
    if (full.link == NULL)
        full.link = link_list();
    if (full.images < 1)
        full.images = 1;
    c = (struct cost){.relu = full.relu, .linear = full.linear, .link = full.link};
    c.online_seconds = full.link->rtt; /* image there, result back */
    for (int32_t i = 0; i < p->n_step; i++)
        add_step(&c, &full, p, &p->step[i]);
    TRY(add_linear(&c, &full, p));
    *out = c;
    return 0;
}

int cost_fastest_relu(const struct plan *p, const struct cost_case *k,
                      const struct relu_backend **out)
{
    struct cost_case one = *k;
    double best = 0;

    *out = NULL;
    for (const struct relu_backend *const *r = relu_backends(); *r != NULL; r++) {
        struct cost c;
        one.relu = *r;
        TRY(cost_estimate(p, &one, &c));
        if (*out == NULL || c.online_seconds < best) {
            *out = *r;
            best = c.online_seconds;
        }
    }
    return 0;
}
