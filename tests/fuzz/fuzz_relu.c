/*
 * Messages of both comparison backends, offline and online. Base OTs and valid states are made once; an
 * input is what one party's peer says in one phase of one batch. The first byte chooses:
 *
 *     bit 0   the client, else the server      bit 2   online, else offline
 *     bit 1   backend ot, else gc              bit 3   two payloads, else one
 *     bit 4   the rest of the input is said again and again, else once
 *     bit 5   gc with paired labels
 *
 * No input would pass the consistency check of the OT extension; here it is computed and counts as passed,
 * so that what comes after it is reached. The target has all of otext.c for that.
 */
#include "runtime/crypto/otext.h"
int product_verify(struct otext_sender *s, struct transport *t);
int product_verify_message(struct otext_sender *s, const uint8_t message[OTEXT_CHECK]);
#define otext_verify product_verify
#define otext_verify_message product_verify_message
#include "runtime/crypto/otext.c"
#undef otext_verify
#undef otext_verify_message

#include <string.h>

#include "core/base/err.h"
#include "runtime/relu/party.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/script.h"
#include "tests/relu_pair.h"

enum { N = 9, WIDTH = 21, MOST_BYTES = 16384 };

static struct {
    bool made;
    struct relu_pair
        pair[3]; /* gc, ot, gc with pairs: states of the batches with one and two payloads */
    struct relu_party *party[2]; /* server, client */
    struct prg *rng[2];
    long secrets;
} fixture;

int otext_verify_message(struct otext_sender *s, const uint8_t message[OTEXT_CHECK])
{
    int ok;

    return check(s, message, &ok);
}

int otext_verify(struct otext_sender *s, struct transport *t)
{
    uint8_t message[OTEXT_CHECK];

    TRY(transport_recv(t, message, sizeof message));
    return otext_verify_message(s, message);
}

static int open_party(struct transport *t, void *arg)
{
    int is_client = *(int *)arg;
    static const uint8_t sid[HASH_SID] = {6};
    uint8_t seed[PRG_SEED] = {6, (uint8_t)is_client};

    TRY(prg_new(seed, &fixture.rng[is_client]));
    return relu_party_open(is_client, sid, NULL, t, fixture.rng[is_client],
                           &fixture.party[is_client]);
}

static void prepare(void)
{
    struct relu_batch batch[2] = {{.n = N, .width = WIDTH, .payloads = 1, .tweak = 1},
                                  {.n = N, .width = WIDTH, .payloads = 2, .tweak = 2}};
    int who[2] = {0, 1};
    struct pair_half half[2] = {{.run = open_party, .arg = &who[0]},
                                {.run = open_party, .arg = &who[1]}};

    pair_run(half);
    fuzz_must(half[0].rc == 0 && half[1].rc == 0, "no parties");
    for (int k = 0; k < 3; k++) {
        struct relu_pair *p = &fixture.pair[k];
        batch[0].form.paired = batch[1].form.paired = k == 2;
        relu_pair_open(p, k == 1 ? &relu_ot : &relu_gc, 7, 2, batch);
        relu_pair_offline(p);
        pair_run(p->half);
        fuzz_must(p->half[0].rc == 0 && p->half[1].rc == 0, "no states");
    }
    fixture.secrets = secret_alive();
    fixture.made = true;
}

/* One phase of one batch from a copy of the state that is used up. */
static int hear(const struct relu_pair *p, int which, int client, bool online, struct transport *t)
{
    const struct relu_backend *k = p->backend;
    const struct relu_pair_batch *b = &p->batch[which];
    size_t size = k->state_size(&b->b, client);
    struct tape *state = NULL;
    int rc;

    fuzz_must(tape_memory(size, &state) == 0, "memory");
    if (online)
        tape_put(state, tape_bytes(p->party[client].state[which]), size);
    fixture.party[client]->t = t;
    if (online)
        rc = client ? k->online_client(t, &b->b, state, 0)
                    : k->online_server(t, &b->b, state, 0, b->x, b->z);
    else
        rc = client ? k->offline_client(fixture.party[1], &b->b, b->u, b->r, state)
                    : k->offline_server(fixture.party[0], &b->b, state);
    tape_free(state);
    return rc;
}

static size_t stretch(uint8_t *to, const uint8_t *data, size_t size)
{
    for (size_t at = 0; at < MOST_BYTES && size > 0; at += size)
        memcpy(to + at, data, size < MOST_BYTES - at ? size : MOST_BYTES - at);
    return size > 0 ? MOST_BYTES : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t repeated[MOST_BYTES];
    struct script s;
    int rc, which;

    if (size == 0)
        return 0;
    if (!fixture.made)
        prepare();
    if (data[0] & 16)
        script_open(&s, repeated, stretch(repeated, data + 1, size - 1));
    else
        script_open(&s, data + 1, size - 1);
    which = data[0] & 2 ? 1 : data[0] & 32 ? 2 : 0;
    rc = hear(&fixture.pair[which], data[0] >> 3 & 1, data[0] & 1, data[0] & 4, &s.t);
    fuzz_must(rc == 0 || rc == ERR_PEER, "an error that is not the peer's");
    fuzz_must(secret_alive() == fixture.secrets, "a secret was kept");
    return 0;
}
