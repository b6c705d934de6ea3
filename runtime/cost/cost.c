/* The cost formulas of private inference (cost.h). */
#include "runtime/cost/cost.h"

#include <math.h>

#include "runtime/crypto/cot.h"

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

static uint64_t silent_rows(const struct relu_backend *r, const struct relu_batch *b, int up)
{
    return r->silent_rows != NULL ? r->silent_rows(b, up) : 0;
}

/* Seconds that OT extension would take for the rows that are silent. */
static double extension(const struct cost_case *k, const struct relu_batch *b)
{
    uint64_t rows = silent_rows(k->relu, b, 0) + silent_rows(k->relu, b, 1);

    return cot_seconds(NULL, rows, link_loopback()->bits_per_second, 0);
}

/* Compared with a batch of usual width and default form. */
static void add_batch(struct cost *c, const struct cost_case *k, const struct relu_batch *b)
{
    const struct relu_seconds *t = cost_machine_relu(k->machine, k->relu);
    const struct relu_batch usual = {.n = b->n, .width = RELU_COST_WIDTH, .payloads = 1};
    struct relu_batch extended = *b; /* the same with transfers as `usual` has them */
    double on = (double)online_bytes(k->relu, b), off = (double)offline_bytes(k->relu, b);
    double wide_on = on / (double)online_bytes(k->relu, &usual), wide_off;
    int32_t messages = k->relu->online_messages(b);

    extended.form.silent_down = extended.form.silent_up = 0;
    wide_off = (double)offline_bytes(k->relu, &extended) / (double)offline_bytes(k->relu, &usual);
    c->online_bytes += (uint64_t)on;
    c->offline_relu_bytes += (uint64_t)off;
    c->online_messages += messages;
    c->offline_relu_messages += 2;
    c->online_seconds += t->online_batch + messages * k->link->rtt / 2 +
                         fmax(transfer(on, k->link), (double)b->n * wide_on * t->online);
    c->offline_relu_seconds +=
        t->offline_batch + k->link->rtt +
        fmax(transfer(off, k->link), (double)b->n * wide_off * t->offline - extension(k, b));
}

/* Silent OT's rounds in one direction, for rows of an image: those of a set-up's images, an image's share. */
static void add_rounds(struct cost *c, const struct cost_case *k, const struct ferret_set *set,
                       uint64_t rows)
{
    const struct link *here = link_loopback();
    double images = (double)(k->images < RELU_SHARED ? k->images : RELU_SHARED);
    uint64_t all = rows * (uint64_t)images;
    double slower = k->machine->silent_row / (1e-9 * ferret_set(0)->row_ns), computed;

    if (set == NULL || rows == 0)
        return;
    computed = cot_seconds(set, all, here->bits_per_second, here->rtt);
    c->offline_relu_bytes +=
        (uint64_t)((double)(ferret_bytes(set, all, 0) + ferret_bytes(set, all, 1)) / images);
    c->offline_relu_messages += 4 * cot_rounds(set, all) / images;
    c->offline_relu_seconds +=
        (cot_seconds(set, all, k->link->bits_per_second, k->link->rtt) + (slower - 1) * computed) /
        images;
}

/* As the two parties find them from the plan and the link. */
static int add_batches(struct cost *c, const struct cost_case *k, const struct plan *p)
{
    struct schedule *s = NULL;
    const struct relu_wish wish = {k->images, k->ahead};
    struct relu_ways ways;
    uint64_t rows[2] = {0, 0};

    TRY(schedule_new(p, k->label, &s));
    relu_ways_offer(k->relu, k->transfers, k->expected, s, &wish, k->tagged, &ways);
    for (int32_t i = 0; i < s->n; i++) {
        struct relu_batch b = s->event[i].batch;
        if (s->event[i].kind != EVENT_SELECT)
            continue;
        relu_shape(k->relu, &ways, &b);
        add_batch(c, k, &b);
        for (int up = 0; up < 2; up++)
            rows[up] += silent_rows(k->relu, &b, up);
    }
    add_rounds(c, k, ways.down, rows[0]);
    add_rounds(c, k, ways.up, rows[1]);
    schedule_free(s);
    return 0;
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
    c->online_seconds += (double)p->tensor[s->out].count * k->machine->element;
    if (s->kind == PLAN_CONV || s->kind == PLAN_GEMM)
        add_product(c, k, p, s);
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
    if (full.expected == NULL)
        full.expected = full.link;
    if (full.images < 1)
        full.images = 1;
    c = (struct cost){.relu = full.relu, .linear = full.linear, .link = full.link};
    c.online_seconds = full.link->rtt; /* image there, result back */
    for (int32_t i = 0; i < p->n_step; i++)
        add_step(&c, &full, p, &p->step[i]);
    if (p->n_step > 0)
        TRY(add_batches(&c, &full, p));
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
