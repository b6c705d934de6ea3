/*
 * Sizes of backend "ot" and the choice of its form: digit vectors and tree or one-shot (ot.h).
 *
 * What a digit vector costs depends on how many digits of which size there are, and on which is the
 * lowest: its leaf words are half as long, so it is the largest. So the search goes through the
 * partitions of m-1 into parts of 2 ... 5, a few hundred at most, each as a tree and, where it has few
 * digits, one-shot. It minimises
 *
 *     one-way messages online * half a round trip + bytes / rate + silent rows * ROW_NS
 *
 * with bytes and rows of both phases or, for who prepares ahead, of the online one, in integers, so that
 * both parties find the same form. Digits of fewer bits have shorter leaf words but more products, two
 * rows each: on a link of some Gbit/s the rows are what takes the time. A row takes about 20 ns of a
 * core; it is weighed with less, because rows are made beforehand and by all cores of a party, but leaf
 * words travel online. Rows of OT extension cost their bytes.
 */
#include "runtime/relu/ot.h"

#include "runtime/relu/andtree.h"
#include "runtime/relu/oneshot.h"
#include "runtime/ring/bits.h"

#define WORD 8
#define DEFAULT_BITS 4
#define LEAST_BITS 2
#define LEAST_LOWEST 3 /* whole bytes of one-bit entries */
#define ROW_NS 1       /* a row of silent OT and its hash */

/* ---- sizes -------------------------------------------------------------------------------- */

int ot_check_batch(const struct relu_batch *b)
{
    const struct relu_form *f = &b->form;
    int sum = 0, good = f->digits <= RELU_MOST_DIGITS && f->one_shot <= 1;

    for (int i = 0; good && i < f->digits; i++) {
        good = f->bits[i] >= (i == 0 ? LEAST_LOWEST : LEAST_BITS) && f->bits[i] <= OT_MOST_BITS;
        sum += f->bits[i];
    }
    if (f->digits == 0 ? b->width % DEFAULT_BITS != 1 : sum != b->width - 1)
        good = 0;
    if (f->one_shot && (f->digits == 0 || f->digits > ONESHOT_MOST_DIGITS))
        good = 0;
    TRY(relu_check_batch(b));
    if (!good)
        return fail(ERR_ARG, "%d digits do not make a comparison of %d bits%s", f->digits, b->width,
                    f->one_shot ? " in one message" : "");
    return 0;
}

struct ot_size ot_size_of(const struct relu_batch *b)
{
    const struct relu_form *f = &b->form;
    struct ot_size s = {.n = (size_t)b->n, .m = (size_t)b->width, .p = (size_t)b->payloads};

    s.row = bits_words(s.n);
    s.words = s.n * s.p;
    s.digits = f->digits > 0 ? f->digits : (s.m - 1) / DEFAULT_BITS;
    for (size_t i = 0; i < s.digits; i++)
        s.bits[i] = f->digits > 0 ? f->bits[i] : DEFAULT_BITS;
    s.one_shot = f->one_shot;
    s.for_link = f->digits > 0;
    s.ands = f->one_shot ? 0 : (size_t)andtree_ands((int)s.digits);
    s.terms = f->one_shot ? oneshot_terms((int)s.digits) : 0;
    s.uses = 2 * s.ands + s.terms + 1;
    s.extra = f->one_shot ? s.terms + 1 : 3 * s.ands;
    return s;
}

size_t ot_leaf_bytes(const struct ot_size *s, size_t digit)
{
    return (size_t)1 << (s->bits[digit] - (digit == 0 ? LEAST_LOWEST : LEAST_BITS));
}

static size_t leaf_words(const struct ot_size *s, size_t digit)
{
    return (s->n * ot_leaf_bytes(s, digit) + WORD - 1) / WORD;
}

size_t ot_state_rows(const struct ot_size *s)
{
    return 2 * s->digits + s->extra + 1;
}

size_t ot_state_words(const struct ot_size *s, int is_client)
{
    size_t words = s->row * ot_state_rows(s) + (is_client ? 4 : 3) * s->words;

    for (size_t i = 0; !is_client && i < s->digits; i++)
        words += leaf_words(s, i);
    return words;
}

struct ot_server ot_server_in(const struct ot_size *s, uint64_t *at)
{
    struct ot_server v;

    for (size_t i = 0; i < s->digits; i++) {
        v.leaf[i] = (uint8_t *)at;
        at += leaf_words(s, i);
    }
    v.lt = at;
    v.eq = at += s->digits * s->row;
    v.extra = at += s->digits * s->row;
    v.c2 = at += s->extra * s->row;
    v.a2 = at += s->row;
    v.diff = at += s->words;
    v.a = at + s->words;
    return v;
}

struct ot_client ot_client_in(const struct ot_size *s, uint64_t *at)
{
    struct ot_client v;

    v.u = at;
    v.r = at += s->words;
    v.lt = at += s->words;
    v.eq = at += s->digits * s->row;
    v.extra = at += s->digits * s->row;
    v.c = at += s->extra * s->row;
    v.b2 = at += s->row;
    v.key = at + s->words;
    return v;
}

/* ---- costs -------------------------------------------------------------------------------- */

/* Of one direction's transfers, rounds of silent OT left out: they serve many batches. */
static uint64_t transfer_bytes(size_t chosen, size_t random, int silent)
{
    const struct ferret_set *set = silent ? ferret_set(0) : NULL;

    return cot_bytes(set, chosen, 1) + cot_bytes(set, random, 0) + cot_check_bytes(set);
}

/* Choice planes are sent block by block of whole bytes: only the last one may end within one. */
uint64_t ot_offline_bytes(const struct relu_batch *b, int from_client)
{
    struct ot_size s = ot_size_of(b);

    if (!from_client)
        return transfer_bytes(0, s.n, b->form.silent_up) + bits_packed_size(s.terms, s.n);
    return transfer_bytes((s.m - 1) * s.n, s.uses * s.n, b->form.silent_down) + WORD * s.words;
}

uint64_t ot_online_bytes(const struct relu_batch *b, int from_client)
{
    struct ot_size s = ot_size_of(b);
    uint64_t both = bits_packed_size(1, s.n) + WORD * s.words;

    if (!s.one_shot)
        both += andtree_bytes((int)s.digits, s.n);
    if (from_client)
        return s.one_shot ? both + bits_packed_size(s.terms, s.n) : both;
    for (size_t i = 0; i < s.digits; i++)
        both += s.n * ot_leaf_bytes(&s, i);
    return both;
}

uint64_t ot_silent_rows(const struct relu_batch *b, int up)
{
    struct ot_size s = ot_size_of(b);

    if (up)
        return b->form.silent_up ? s.n : 0;
    return b->form.silent_down ? s.n * (s.m - 1 + s.uses) : 0;
}

/* Leaves, one message a level, one more where their number is odd, multiplexer there and back. */
int32_t ot_online_messages(const struct relu_batch *b)
{
    struct ot_size s = ot_size_of(b);
    int32_t levels = s.one_shot ? 2 : andtree_levels((int)s.digits);

    return levels + levels % 2 + 2;
}

/* ---- choice ------------------------------------------------------------------------------- */

struct search {
    struct relu_batch at, best;
    uint64_t rate, rtt; /* bits per second, ns */
    bool ahead;
    unsigned __int128 least;
};

static void consider(struct search *s)
{
    uint64_t rows = s->ahead ? 0 : ot_silent_rows(&s->at, 0) + ot_silent_rows(&s->at, 1);
    const struct ferret_set *set = ferret_set(FERRET_SETS - 1);
    /* silent rows at the rate of long runs */
    uint64_t bytes = rows * ferret_bytes(set, UINT64_C(1) << 30, 1) >> 30;
    unsigned __int128 cost;

    for (int who = 0; who < 2; who++)
        bytes += (s->ahead ? 0 : ot_offline_bytes(&s->at, who)) + ot_online_bytes(&s->at, who);
    cost = s->rtt;
    cost = cost * s->rate * (unsigned __int128)ot_online_messages(&s->at);
    cost += (unsigned __int128)bytes * UINT64_C(16000000000);
    cost += (unsigned __int128)(2 * ROW_NS * rows) * s->rate;
    if (cost < s->least) {
        s->least = cost;
        s->best = s->at;
    }
}

/* All ways to go on with parts of at most `most` bits, `left` still to be cut. */
static void search_digits(struct search *s, int left, int most)
{
    struct relu_form *f = &s->at.form;

    if (left == 0) {
        f->one_shot = 0;
        consider(s);
        f->one_shot = 1;
        if (f->digits <= ONESHOT_MOST_DIGITS)
            consider(s);
        return;
    }
    for (int bits = left < most ? left : most; bits >= LEAST_BITS && f->digits < RELU_MOST_DIGITS;
         bits--) {
        if (f->digits == 0 && bits < LEAST_LOWEST)
            continue;
        f->bits[f->digits++] = (uint8_t)bits;
        search_digits(s, left - bits, bits);
        f->bits[--f->digits] = 0;
    }
}

void ot_choose(struct relu_batch *b, uint64_t bits_per_second, uint64_t rtt_ns, bool ahead)
{
    struct search s = {.at = *b, .rate = bits_per_second, .rtt = rtt_ns, .ahead = ahead};

    s.least = ~(unsigned __int128)0;
    s.at.form.digits = 0;
    s.best = *b;
    search_digits(&s, b->width - 1, OT_MOST_BITS);
    *b = s.best;
}
