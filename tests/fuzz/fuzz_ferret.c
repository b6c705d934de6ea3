/*
 * Messages of silent OT, in rounds of a small set, from a base that is made once. The first byte of an input
 * chooses:
 *
 *     bit 0   the receiver listens (sums of trees, then the sender's answer), else the sender (the
 *             receiver's x', then choices of its rows)
 *     bit 1   the peer says what an honest one says, with the rest of the input added from the place in
 *             bytes 2 and 3 on; else the rest of the input, once
 *     bit 2   rows of two rounds are wanted, else of one
 *
 * No row leaves before the round's check: a refused first round leaves the rows as they were. Of an honest
 * peer's messages every change ends a receiver's round; a sender's rows are the same whatever x' says.
 * (The transfers that begin a session: fuzz_relu.)
 */
#include "runtime/crypto/ferret.h"
static const struct ferret_set small_set = {"small", 64, 8, 7, "none", 0, NULL, 0};
#define FERRET_FIRST (&small_set)
#include "runtime/crypto/ferret.c"

#include "core/base/mem.h"
#include "runtime/crypto/cot.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/script.h"
#include "tests/pair.h"

enum { HEAD = 3, ONE = 700, TWO = 1300, MOST_BYTES = 4096 };
static const struct ferret_id id = {{9}, 1};

static struct half {
    int sender;
    struct prg *rng;
    struct otext_sender *give;
    struct otext_receiver *take;
    struct ferret *f;
    struct block *base;        /* of the first round */
    uint8_t heard[MOST_BYTES]; /* of an honest peer, for two rounds */
    size_t n;
    struct block rows[TWO]; /* then */
} fixture[2];
static bool made;
static long secrets;

/* Keeps what is heard. */
struct ear {
    struct transport *inner;
    struct half *of;
};
static int ear_send(void *ctx, const void *bytes, size_t n)
{
    return transport_send(((struct ear *)ctx)->inner, bytes, n);
}
static int ear_recv(void *ctx, void *bytes, size_t n)
{
    struct ear *e = ctx;

    TRY(transport_recv(e->inner, bytes, n));
    fuzz_must(e->of->n + n <= MOST_BYTES, "room for an honest peer's messages");
    memcpy(e->of->heard + e->of->n, bytes, n);
    e->of->n += n;
    return 0;
}
static int ear_flush(void *ctx)
{
    return transport_flush(((struct ear *)ctx)->inner);
}

/* To the beginning of the first round. */
static void rewind_half(struct half *h)
{
    static const uint8_t seed[PRG_SEED] = {3};

    prg_restart(h->rng, seed);
    h->f->set = h->f->next;
    h->f->round = h->f->taken = 0;
    h->f->tree = h->f->held = h->f->left = 0;
    memcpy(h->f->base, h->base, base_rows(h->f->set) * sizeof *h->base);
}

/* n rows, the receiver's choices sent and the sender's heard. */
static int take_rows(struct half *h, struct transport *t, size_t n, struct block *rows)
{
    static const uint64_t choices[TWO / 64 + 1] = {5, 77, 1234567};
    struct cot_sender give = {.base = h->give, .silent = h->f};
    struct cot_receiver take = {.base = h->take, .silent = h->f};

    TRY(run_round(h->f, t));
    return h->sender ? cot_send(&give, t, n, 1, rows)
                     : cot_receive_chosen(&take, t, n, choices, rows);
}

static int make_half(struct transport *t, void *arg)
{
    struct half *h = arg;
    uint8_t seed[PRG_SEED] = {4, (uint8_t)h->sender};
    struct ear ear = {t, h};
    struct transport line = {.send = ear_send, .recv = ear_recv, .flush = ear_flush, .ctx = &ear};

    cpu_set_threads(1);
    TRY(prg_new(seed, &h->rng));
    if (h->sender) {
        TRY(otext_sender_new(t, h->rng, &h->give));
        TRY(ferret_sender_new(&id, &small_set, h->give, h->rng, &h->f));
    } else {
        TRY(otext_receiver_new(t, h->rng, &h->take));
        TRY(ferret_receiver_new(&id, &small_set, h->take, &h->f));
    }
    TRY(bootstrap(h->f, t));
    TRY(transport_flush(t));
    if ((h->base = secret_array(base_rows(&small_set), sizeof *h->base)) == NULL)
        return ERR_NOMEM;
    memcpy(h->base, h->f->base, base_rows(&small_set) * sizeof *h->base);
    rewind_half(h);
    TRY(take_rows(h, &line, TWO, h->rows));
    return transport_flush(&line);
}

static void prepare(void)
{
    struct pair_half half[2] = {{.run = make_half, .arg = &fixture[0]},
                                {.run = make_half, .arg = &fixture[1]}};

    fixture[0].sender = 1;
    pair_run(half);
    fuzz_must(half[0].rc == 0 && half[1].rc == 0, "no two parties");
    secrets = secret_alive();
    made = true;
}

/* Bytes of the first round that a party hears. */
static size_t round_bytes(const struct half *h)
{
    return h->sender ? sizeof(struct block) : sums_bytes(&small_set) + SHA256_SIZE;
}

enum change { SAME = 0, FIRST = 1, LATER = 2 };

/* The honest peer's bytes with data added; where they changed: the first round's, or what follows. */
static int add_changes(const struct half *h, const uint8_t *data, size_t size, uint8_t *said)
{
    size_t place = (data[1] | (size_t)data[2] << 8) % h->n;
    int changed = SAME;

    memcpy(said, h->heard, h->n);
    for (size_t i = 0; i + HEAD < size && place + i < h->n; i++) {
        said[place + i] ^= data[HEAD + i];
        if (data[HEAD + i] != 0)
            changed |= place + i < round_bytes(h) ? FIRST : LATER;
    }
    return changed;
}

static bool untouched(const struct block *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (rows[i].lo != 1 || rows[i].hi != 2)
            return false;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct block rows[TWO];
    static uint8_t said[MOST_BYTES];
    struct half *h;
    struct script s;
    size_t n;
    bool honest;
    int rc, changed = SAME;

    if (size < HEAD)
        return 0;
    if (!made)
        prepare();
    h = &fixture[data[0] & 1];
    honest = (data[0] & 2) != 0;
    n = data[0] & 4 ? TWO : ONE;
    if (honest)
        changed = add_changes(h, data, size, said);
    script_open(&s, honest ? said : data + HEAD, honest ? h->n : size - HEAD);
    for (size_t i = 0; i < n; i++)
        rows[i] = (struct block){1, 2};
    rewind_half(h);
    rc = take_rows(h, &s.t, n, rows);
    fuzz_must(rc == 0 || rc == ERR_PEER, "an error that is not the peer's");
    fuzz_must(h->f->taken > 0 || untouched(rows, n), "a row of a round that was refused");
    if (honest && !h->sender)
        fuzz_must((h->f->taken > 0) == !(changed & FIRST),
                  "changed sums were taken, or honest ones refused");
    if (honest && !(changed & LATER) && rc == 0 && n == TWO)
        fuzz_must(memcmp(rows, h->rows, sizeof rows) == 0, "other rows");
    fuzz_must(secret_alive() == secrets, "a secret was kept");
    return 0;
}
