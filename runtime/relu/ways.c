/* Choosing what a connection's parties agree on (ways.h). */
#include "runtime/relu/ways.h"

#include "runtime/crypto/cot.h"

void relu_shape(const struct relu_backend *k, const struct relu_ways *w, struct relu_batch *b)
{
    b->form = (struct relu_form){0};
    b->tagged = w->tagged;
    if (k->silent_rows != NULL) {
        b->form.silent_down = w->down != NULL;
        b->form.silent_up = w->up != NULL;
    }
    if (w->bits_per_second > 0 && k->choose != NULL)
        k->choose(b, w->bits_per_second, w->rtt_ns, w->ahead);
}

/* Transfers of one image in one direction, if all were silent. */
static uint64_t rows_of(const struct relu_backend *k, const struct relu_ways *link,
                        const struct schedule *s, int up)
{
    const struct relu_ways silent = {.down = ferret_set(0),
                                     .up = ferret_set(0),
                                     .bits_per_second = link->bits_per_second,
                                     .rtt_ns = link->rtt_ns,
                                     .ahead = link->ahead};
    uint64_t rows = 0;

    for (int32_t i = 0; i < s->n; i++) {
        struct relu_batch b = s->event[i].batch;

        if (s->event[i].kind != EVENT_SELECT)
            continue;
        relu_shape(k, &silent, &b);
        rows += k->silent_rows(&b, up);
    }
    return rows;
}

static const struct ferret_set *choose_set(enum relu_transfers how, const struct link *link,
                                           uint64_t rows, int up)
{
    const struct ferret_set *set = cot_set(rows, link->bits_per_second, link->rtt);
    uint64_t bytes = ferret_bytes(set, rows, 0) + ferret_bytes(set, rows, 1);

    if (rows == 0)
        return NULL;
    if (how == RELU_TRANSFERS_FERRET)
        return !up || bytes < otext_bytes(rows, 0) ? set : NULL;
    return cot_seconds(set, rows, link->bits_per_second, link->rtt) <
                   cot_seconds(NULL, rows, link->bits_per_second, link->rtt)
               ? set
               : NULL;
}

void relu_ways_choose(const struct relu_backend *k, enum relu_transfers how,
                      const struct link *link, const struct schedule *s, int64_t images, bool ahead,
                      struct relu_ways *out)
{
    uint64_t times = images < 1 ? 1 : (uint64_t)images;

    *out = (struct relu_ways){.ahead = ahead};
    if (link != NULL && link->bits_per_second > (double)RELU_MOST_RATE)
        link = NULL;
    if (link != NULL) {
        out->bits_per_second = (uint64_t)link->bits_per_second;
        out->rtt_ns = (uint64_t)(link->rtt * 1e9);
    }
    if (how == RELU_TRANSFERS_SOFTSPOKEN || k->silent_rows == NULL)
        return;
    link = link == NULL ? link_list() : link;
    for (int up = 0; up < 2; up++) {
        const struct ferret_set *set = choose_set(how, link, times * rows_of(k, out, s, up), up);

        if (up)
            out->up = set;
        else
            out->down = set;
    }
}

void relu_ways_offer(const struct relu_backend *k, enum relu_transfers how, const struct link *link,
                     const struct schedule *s, const struct relu_wish *wish, bool tagged,
                     struct relu_ways *out)
{
    int64_t images = wish->images < RELU_SHARED ? wish->images : RELU_SHARED;

    relu_ways_choose(k, how, link, s, images, wish->ahead, out);
    out->tagged = tagged;
}
