/* The dealer and the backend that uses its files (dealer.h). */
#include "runtime/linear/dealer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/buf.h"
#include "core/base/sha256.h"
#include "runtime/crypto/share_rng.h"
#include "runtime/crypto/store.h"
#include "runtime/ring/word_conv.h"

#define HEAD 80
#define ID 16
#define PREFIX "correlation-"
#define PIECE ((int64_t)8192) /* words of F that travel at once */
static const char magic[8] = {'l', 'i', 'n', 'n', 'e', 't', 'D', 'C'};

/* What both sides and the dealer know about a program. */
struct shape {
    const struct prepared *m;
    const struct schedule *s;
    int32_t events;  /* linear ones */
    int32_t first;   /* step of the first */
    int64_t outputs; /* words of c */
    int64_t weights; /* words of F */
    int64_t largest; /* inputs or outputs of a step */
    int64_t most;    /* weights of a step */
    size_t scratch;  /* words of word_conv */
};

static int64_t weights_of(const struct ring_conv *c)
{
    return c->out[0] * c->columns;
}

static struct shape shape_of(const struct prepared *m, const struct schedule *s)
{
    struct shape h = {.m = m, .s = s, .first = -1};

    for (int32_t i = 0; i < s->n; i++) {
        const struct event *e = &s->event[i];
        const struct ring_conv *c = &m->conv[e->kind == EVENT_LINEAR ? e->step : 0];
        if (e->kind != EVENT_LINEAR)
            continue;
        h.first = h.first < 0 ? e->step : h.first;
        h.events++;
        h.outputs += e->outputs;
        h.weights += weights_of(c);
        h.most = weights_of(c) > h.most ? weights_of(c) : h.most;
        h.largest = e->inputs > h.largest ? e->inputs : h.largest;
        h.largest = e->outputs > h.largest ? e->outputs : h.largest;
        h.scratch = word_conv_scratch(c) > h.scratch ? word_conv_scratch(c) : h.scratch;
    }
    return h;
}

/* ---- files -------------------------------------------------------------------------------- */

static void make_head(uint8_t head[HEAD], const uint8_t model[32], const uint8_t id[ID],
                      uint64_t index)
{
    struct buf_writer w = buf_writer_in(head, HEAD);

    memset(head, 0, HEAD);
    buf_put_bytes(&w, magic, sizeof magic);
    buf_put_u64(&w, 1); /* version 1, zeros */
    buf_put_bytes(&w, model, 32);
    buf_put_bytes(&w, id, ID);
    buf_put_u64(&w, index);
}

static int check_head(const uint8_t *bytes, const uint8_t model[32], const uint8_t id[ID],
                      uint64_t index, const char *name)
{
    uint8_t head[HEAD];

    make_head(head, model, id, index);
    if (memcmp(bytes, head, HEAD) == 0)
        return 0;
    return fail(ERR_FORMAT, "'%s': %s", name,
                memcmp(bytes + 16, head + 16, 32) == 0 ? "renamed or damaged"
                                                       : "dealt for another model.pi");
}

static void name_once(char name[STORE_NAME], const char *kind, const uint8_t id[ID],
                      const char *side)
{
    char hex[2 * ID + 1];

    snprintf(name, STORE_NAME, "%s-%s.%s", kind, hex_of(id, ID, hex), side);
}

static void name_correlation(char name[STORE_NAME], const uint8_t id[ID], uint64_t index,
                             const char *side)
{
    char hex[2 * ID + 1];

    snprintf(name, STORE_NAME, PREFIX "%s-%08" PRIu64 ".%s", hex_of(id, ID, hex), index, side);
}

/* The reverse, for names that store_next found. */
static int parse_name(const char *name, uint8_t id[ID], uint64_t *index)
{
    const char *at = name + strlen(PREFIX);
    int end = 0;

    for (int i = 0; i < ID; i++, at += 2)
        if (sscanf(at, "%2hhx%n", &id[i], &end) != 1 || end != 2)
            return fail(ERR_FORMAT, "'%s' is not the name of a correlation", name);
    if (sscanf(at, "-%" SCNu64 ".client%n", index, &end) != 1 || at[end] != '\0')
        return fail(ERR_FORMAT, "'%s' is not the name of a correlation", name);
    return 0;
}

/* ---- dealing ------------------------------------------------------------------------------ */

struct deal {
    struct shape h;
    const uint8_t *model;
    uint8_t id[ID];
    struct share_rng rng;
    const char *client_dir, *server_dir;
    uint64_t *a, *rho, *y, *scratch;
};

static int append_seeds(const struct deal *d, struct store_writer *w, enum share_kind kind,
                        uint64_t number)
{
    SECRET uint8_t *seed = secret_array(PRG_SEED, 1);

    if (seed == NULL)
        return ERR_NOMEM;
    for (int32_t i = 0; i < d->h.s->n; i++) {
        if (d->h.s->event[i].kind != EVENT_LINEAR)
            continue;
        TRY(share_rng_seed(&d->rng, kind, number, (uint32_t)i, seed));
        TRY(store_append(w, seed, PRG_SEED));
    }
    return 0;
}

/* A file of seeds; more: what follows them, may be NULL. */
static int write_file(const struct deal *d, const char *dir, const char *name, enum share_kind kind,
                      uint64_t number, const uint64_t *more, int64_t words)
{
    SCOPED(store_abort_at) struct store_writer *w = NULL;
    uint8_t head[HEAD];

    make_head(head, d->model, d->id, number);
    TRY(store_write(dir, name, &w));
    TRY(store_append(w, head, HEAD));
    TRY(append_seeds(d, w, kind, number));
    if (more != NULL)
        TRY(store_append(w, more, (size_t)words * sizeof *more));
    return store_commit(&w);
}

/* c = A rho - s of all events of one image, one after the other. */
static int correlate(struct deal *d, uint64_t number, uint64_t *c)
{
    const struct schedule *s = d->h.s;

    for (int32_t i = 0; i < s->n; i++) {
        const struct event *e = &s->event[i];
        const struct ring_conv *conv = &d->h.m->conv[e->step];
        if (e->kind != EVENT_LINEAR)
            continue;
        TRY(share_rng_words(&d->rng, DEAL_MODEL, 0, (uint32_t)i, d->a, weights_of(conv)));
        TRY(share_rng_words(&d->rng, DEAL_RHO, number, (uint32_t)i, d->rho, e->inputs));
        word_conv(c, d->rho, d->a, conv, d->scratch);
        TRY(share_rng_words(&d->rng, DEAL_OFFSET, number, (uint32_t)i, d->y, e->outputs));
        for (int64_t k = 0; k < e->outputs; k++)
            c[k] -= d->y[k];
        c += e->outputs;
    }
    return 0;
}

static int deal_one(struct deal *d, uint64_t number, uint64_t *c)
{
    char name[STORE_NAME];

    TRY(correlate(d, number, c));
    name_correlation(name, d->id, number, "server");
    TRY(write_file(d, d->server_dir, name, DEAL_OFFSET, number, NULL, 0));
    name_correlation(name, d->id, number, "client");
    return write_file(d, d->client_dir, name, DEAL_RHO, number, c, d->h.outputs);
}

static int deal_all(struct deal *d, int64_t count, void (*progress)(void *, int64_t), void *ctx)
{
    SECRET uint64_t *c = secret_array((size_t)d->h.outputs, sizeof *c);
    char name[STORE_NAME];

    d->a = secret_array((size_t)d->h.most, sizeof *d->a);
    d->rho = secret_array((size_t)d->h.largest, sizeof *d->rho);
    d->y = secret_array((size_t)d->h.largest, sizeof *d->y);
    d->scratch = secret_array(d->h.scratch, sizeof *d->scratch);
    if (c == NULL || d->a == NULL || d->rho == NULL || d->y == NULL || d->scratch == NULL)
        return ERR_NOMEM;
    name_once(name, "deal", d->id, "server");
    TRY(write_file(d, d->server_dir, name, DEAL_MODEL, 0, NULL, 0));
    for (int64_t i = 0; i < count; i++) {
        TRY(deal_one(d, (uint64_t)i, c));
        if (progress != NULL)
            progress(ctx, i + 1);
    }
    return 0;
}

static void deal_release(struct deal *d)
{
    wipe(&d->rng, sizeof d->rng);
    secret_free(d->a);
    secret_free(d->rho);
    secret_free(d->y);
    secret_free(d->scratch);
}

int dealer_deal(const struct plan *p, const uint8_t model[32], int64_t count, int64_t test_seed,
                const char *client_dir, const char *server_dir, void (*progress)(void *, int64_t),
                void *ctx)
{
    SCOPED(deal_release)
    struct deal d = {.model = model, .client_dir = client_dir, .server_dir = server_dir};
    SCOPED(prepared_free_at) struct prepared *m = NULL;
    SCOPED(schedule_free_at) struct schedule *s = NULL;
    SCOPED(prg_free_at) struct prg *rng = NULL;

    TRY(prepared_new(p, NULL, false, &m));
    TRY(schedule_new(p, false, &s));
    TRY(share_rng_init(&d.rng, test_seed));
    TRY(prg_new_random(&rng));
    TRY(store_folder(client_dir));
    TRY(store_folder(server_dir));
    prg_bytes(rng, d.id, ID);
    d.h = shape_of(m, s);
    return deal_all(&d, count, progress, ctx);
}

/* ---- a party ------------------------------------------------------------------------------- */

struct dealer {
    struct shape h;
    uint8_t model[32], id[ID];
    const char *dir;
    bool client;
    struct transport *t;
    uint64_t *f;   /* client: F of all events */
    uint8_t *file; /* the correlation of this image */
    uint64_t *a, *b, *scratch;
    double *products;
};

static void dealer_close(void *ctx)
{
    struct dealer *d = ctx;

    if (d == NULL)
        return;
    secret_free(d->f);
    secret_free(d->file);
    secret_free(d->a);
    secret_free(d->b);
    secret_free(d->scratch);
    secret_free(d->products);
    mem_free(d);
}
FREE_AT(dealer_close, struct dealer)

static size_t file_size(const struct dealer *d)
{
    return HEAD + (size_t)d->h.events * PRG_SEED +
           (d->client ? (size_t)d->h.outputs * sizeof(uint64_t) : 0);
}

/* Place of an event among the linear ones, of its outputs and of its weights. */
struct place {
    int32_t event, ordinal;
    int64_t outputs, weights;
};
static int find(const struct dealer *d, int32_t step, struct place *out)
{
    struct place at = {0};

    for (at.event = 0; at.event < d->h.s->n; at.event++) {
        const struct event *e = &d->h.s->event[at.event];
        if (e->kind != EVENT_LINEAR)
            continue;
        if (e->step == step) {
            *out = at;
            return 0;
        }
        at.ordinal++;
        at.outputs += e->outputs;
        at.weights += weights_of(&d->h.m->conv[e->step]);
    }
    return fail(ERR_ARG, "step %d is not linear", step);
}

static int expand(const uint8_t *bytes, int32_t ordinal, uint64_t *out, int64_t n)
{
    SCOPED(prg_free_at) struct prg *p = NULL;

    TRY(prg_new(bytes + HEAD + (size_t)ordinal * PRG_SEED, &p));
    prg_bytes(p, out, (size_t)n * sizeof *out);
    return 0;
}

/* ---- messages: numbers of eight bytes ------------------------------------------------------- */

static int send_number(struct dealer *d, uint64_t v)
{
    uint8_t bytes[sizeof v] = {0};
    struct buf_writer w = buf_writer_in(bytes, sizeof bytes);

    buf_put_u64(&w, v);
    return transport_send(d->t, bytes, sizeof bytes);
}

static int recv_number(struct dealer *d, uint64_t *v)
{
    uint8_t bytes[sizeof *v] = {0};
    struct buf_reader r = buf_reader_on(bytes, sizeof bytes, "dealer");

    TRY(transport_recv(d->t, bytes, sizeof bytes));
    return buf_get_u64(&r, v);
}

/* ---- one image: both sides take the same correlation -------------------------------------- */

static int client_next(struct dealer *d)
{
    char name[STORE_NAME], prefix[STORE_NAME], hex[2 * ID + 1];
    uint64_t index = 0, refused;
    uint8_t id[ID];
    int rc;

    snprintf(prefix, sizeof prefix, PREFIX "%s-", hex_of(d->id, ID, hex));
    TRY(rc = store_next(d->dir, prefix, ".client", name));
    if (rc == 0)
        return fail(ERR_DATA, "'%s' holds no correlation of this deal any more; deal more", d->dir);
    TRY(parse_name(name, id, &index));
    TRY(store_claim(d->dir, name, file_size(d), &d->file));
    TRY(check_head(d->file, d->model, d->id, index, name));
    TRY(send_number(d, index));
    TRY(recv_number(d, &refused));
    return refused == 0 ? 0 : fail(ERR_PEER, "the server has no such correlation any more");
}

static int server_next(struct dealer *d)
{
    char name[STORE_NAME];
    uint64_t index;
    int rc;

    TRY(recv_number(d, &index));
    name_correlation(name, d->id, index, "server");
    if ((rc = store_claim(d->dir, name, file_size(d), &d->file)) == 0)
        rc = check_head(d->file, d->model, d->id, index, name);
    TRY(send_number(d, rc < 0));
    TRY(transport_flush(d->t));
    return rc == ERR_DATA ? fail(ERR_PEER, "client asked for a correlation that is not there") : rc;
}

/* A step of an image, in order; *at: its place. */
static int begin_step(struct dealer *d, int32_t step, int64_t images, struct place *at)
{
    if (images != 1)
        return fail(ERR_ARG, "a dealer's correlations are for one image at a time");
    TRY(find(d, step, at));
    if (step == d->h.first) {
        secret_free(d->file);
        d->file = NULL;
        return d->client ? client_next(d) : server_next(d);
    }
    return d->file != NULL ? 0 : fail(ERR_ARG, "linear steps are out of order");
}

static int dealer_client(void *ctx, int32_t step, int64_t images, const uint64_t *r, uint64_t *u)
{
    struct dealer *d = ctx;
    struct place at = {0};
    const uint8_t *c;

    TRY(begin_step(d, step, images, &at));
    const struct event *e = &d->h.s->event[at.event];
    TRY(expand(d->file, at.ordinal, d->a, e->inputs));
    for (int64_t i = 0; i < e->inputs; i++)
        d->b[i] = r[i] - d->a[i];
    TRY(transport_send(d->t, d->b, (size_t)e->inputs * sizeof *d->b));
    TRY(transport_flush(d->t));
    word_conv(u, d->a, d->f + at.weights, &d->h.m->conv[step], d->scratch);
    c = d->file + HEAD + (size_t)d->h.events * PRG_SEED + (size_t)at.outputs * sizeof *u;
    memcpy(d->b, c, (size_t)e->outputs * sizeof *u);
    for (int64_t i = 0; i < e->outputs; i++)
        u[i] += d->b[i];
    return 0;
}

static int dealer_server(void *ctx, int32_t step, int64_t images, uint64_t *s)
{
    struct dealer *d = ctx;
    struct place at = {0};

    TRY(begin_step(d, step, images, &at));
    const struct event *e = &d->h.s->event[at.event];
    TRY(transport_recv(d->t, d->a, (size_t)e->inputs * sizeof *d->a));
    prepared_product(d->h.m, step, s, d->a, d->products);
    TRY(expand(d->file, at.ordinal, d->b, e->outputs));
    for (int64_t i = 0; i < e->outputs; i++)
        s[i] += d->b[i];
    return 0;
}

/* ---- opening ------------------------------------------------------------------------------ */

/* F = W - A of one event, in pieces. a: the event's stream of A. */
static int send_masked(struct dealer *d, const struct ring_conv *c, struct prg *a)
{
    uint64_t piece[PIECE];
    int64_t total = weights_of(c);

    for (int64_t at = 0; at < total; at += PIECE) {
        int64_t n = total - at < PIECE ? total - at : PIECE;
        prg_bytes(a, piece, (size_t)n * sizeof *piece);
        for (int64_t i = 0; i < n; i++)
            piece[i] = (uint64_t)(int64_t)c->weight[at + i] - piece[i];
        TRY(transport_send(d->t, piece, (size_t)n * sizeof *piece));
    }
    return 0;
}

static int send_all_masked(struct dealer *d, const uint8_t *deal)
{
    int32_t ordinal = 0;

    for (int32_t i = 0; i < d->h.s->n; i++) {
        const struct event *e = &d->h.s->event[i];
        SCOPED(prg_free_at) struct prg *a = NULL;
        if (e->kind != EVENT_LINEAR)
            continue;
        TRY(prg_new(deal + HEAD + (size_t)ordinal++ * PRG_SEED, &a));
        TRY(send_masked(d, &d->h.m->conv[e->step], a));
    }
    return transport_flush(d->t);
}

/* Client to server: id (16), 1 for F to be sent. Server to client: 0, or 1 for a refusal. */
static int open_server(struct dealer *d)
{
    SECRET uint8_t *deal = NULL;
    uint64_t wants_f;
    size_t size = HEAD + (size_t)d->h.events * PRG_SEED;
    char name[STORE_NAME];
    int rc;

    TRY(transport_recv(d->t, d->id, ID));
    TRY(recv_number(d, &wants_f));
    name_once(name, "deal", d->id, "server");
    if ((rc = store_read(d->dir, name, size, &deal)) == 0)
        rc = check_head(deal, d->model, d->id, 0, name);
    if (send_number(d, rc < 0) < 0 || transport_flush(d->t) < 0)
        rc = rc < 0 ? rc : ERR_NET;
    if (rc == 0 && wants_f != 0)
        rc = send_all_masked(d, deal);
    return rc == ERR_DATA ? fail(ERR_PEER, "client brings correlations of another deal") : rc;
}

static int keep_masked(const struct dealer *d)
{
    SCOPED(store_abort_at) struct store_writer *w = NULL;
    uint8_t head[HEAD];
    char name[STORE_NAME];

    name_once(name, "masked", d->id, "client");
    make_head(head, d->model, d->id, 0);
    TRY(store_write(d->dir, name, &w));
    TRY(store_append(w, head, HEAD));
    TRY(store_append(w, d->f, (size_t)d->h.weights * sizeof *d->f));
    return store_commit(&w);
}

static bool load_masked(struct dealer *d)
{
    size_t size = (size_t)d->h.weights * sizeof *d->f;
    SECRET uint8_t *bytes = NULL;
    char name[STORE_NAME];

    name_once(name, "masked", d->id, "client");
    if (store_read(d->dir, name, HEAD + size, &bytes) < 0 ||
        check_head(bytes, d->model, d->id, 0, name) < 0)
        return false;
    memcpy(d->f, bytes + HEAD, size);
    return true;
}

static int open_client(struct dealer *d)
{
    char name[STORE_NAME];
    uint64_t index, refused;
    bool has_f;
    int rc;

    TRY(rc = store_next(d->dir, PREFIX, ".client", name));
    if (rc == 0)
        return fail(ERR_DATA, "'%s' holds no correlations; linnet-pi deal makes them", d->dir);
    TRY(parse_name(name, d->id, &index));
    if ((d->f = secret_array((size_t)d->h.weights, sizeof *d->f)) == NULL)
        return ERR_NOMEM;
    has_f = load_masked(d);
    TRY(transport_send(d->t, d->id, ID));
    TRY(send_number(d, !has_f));
    TRY(recv_number(d, &refused));
    if (refused != 0)
        return fail(ERR_PEER, "the server has no correlations of this deal");
    if (has_f)
        return 0;
    TRY(transport_recv(d->t, d->f, (size_t)d->h.weights * sizeof *d->f));
    return keep_masked(d);
}

static int dealer_open(const struct linear_setup *o, struct linear_party *out)
{
    SCOPED(dealer_close_at) struct dealer *d = mem_array(1, sizeof *d);

    if (d == NULL)
        return ERR_NOMEM;
    d->h = shape_of(o->prepared, o->schedule);
    memcpy(d->model, o->model, sizeof d->model);
    d->dir = o->dealer;
    d->client = o->client;
    d->t = o->t;
    d->a = secret_array((size_t)d->h.largest, sizeof *d->a);
    d->b = secret_array((size_t)d->h.largest, sizeof *d->b);
    d->scratch = secret_array(o->client ? d->h.scratch : 0, sizeof *d->scratch);
    d->products = secret_array(o->client ? 0 : o->prepared->scratch, sizeof *d->products);
    if (d->a == NULL || d->b == NULL || d->scratch == NULL || d->products == NULL)
        return ERR_NOMEM;
    TRY(o->client ? open_client(d) : open_server(d));
    *out = (struct linear_party){mem_hand_on(&d), dealer_server, dealer_client, dealer_close};
    return 0;
}

int dealer_count(const char *dir, int64_t *n)
{
    return store_count(dir, PREFIX, ".client", n);
}

/* ---- what others ask ---------------------------------------------------------------------- */

/* No step is too large. */
static int dealer_check(const struct plan *p)
{
    (void)p;
    return 0;
}

/* delta. The number of the correlation and F belong to an image and to a model, not to a step. */
static uint64_t dealer_bytes(const struct plan *p, int32_t step, int64_t lot, int from_client)
{
    if (step < 0 || !from_client || !plan_is_linear(&p->step[step]))
        return 0;
    return (uint64_t)(lot * p->tensor[p->step[step].in[0]].count) * sizeof(uint64_t);
}

enum { WORD_MAC, CLAIM, FILE_BYTE };
static const struct linear_constant constants[] = {
    [WORD_MAC] = {"word_mac", 0.086e-9}, /* product of two 64-bit words: F rho */
    [CLAIM] = {"claim", 4e-3},           /* taking a file for good, both parties one */
    [FILE_BYTE] = {"file_byte", 1.9e-9}, /* read from the client's file: c */
    {0}};

/* The client's product and the server's W delta share one machine. */
static int dealer_work(const struct plan *p, int64_t images, struct linear_work *out)
{
    (void)images;
    *out = (struct linear_work){.round_trips = 1, .own = {[CLAIM] = 2}};
    for (int32_t i = 0; i < p->n_step; i++) {
        const struct plan_step *s = &p->step[i];
        int64_t rows, columns;
        if (!plan_is_linear(s))
            continue;
        plan_matrix_size(p, s, &rows, &columns);
        double outputs = (double)p->tensor[s->out].count, macs = (double)columns * outputs;
        out->bytes += (double)dealer_bytes(p, i, 1, 1);
        out->products += macs;
        out->window_entries += (double)(columns * s->u.linear.group) * outputs / (double)rows;
        out->own[WORD_MAC] += macs;
        out->own[FILE_BYTE] += sizeof(uint64_t) * outputs;
    }
    out->moved = out->bytes;
    return 0;
}

const struct linear_backend linear_dealer = {
    .code = 1,
    .name = "dealer",
    .text = "correlations of a third party that must collude with neither side",
    .third_party = true,
    .constant = constants,
    .check = dealer_check,
    .bytes = dealer_bytes,
    .work = dealer_work,
    .open = dealer_open,
};
