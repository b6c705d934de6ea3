/* Tags on the client's results (gc_tag.h). */
#include "runtime/relu/gc_tag.h"

#include "core/base/mem.h"
#include "core/base/sha256.h"
#include "runtime/crypto/garble.h"

#define WORD sizeof(vole_word)
#define HIGH_BITS (VOLE_BITS - 64)
#define PIECE ((size_t)1024) /* words packed at a time */

/* ---- states ------------------------------------------------------------------------------- */

size_t gc_tag_state(size_t results, int is_client)
{
    return is_client ? results * 2 * (WORD + sizeof(uint64_t))
                     : sizeof(uint64_t) + results * 3 * WORD;
}

int gc_tag_server_new(size_t results, struct gc_tag_server *s, vole_word **memory)
{
    vole_word *w = secret_array(3 * results, WORD);

    if (w == NULL)
        return ERR_NOMEM;
    *s = (struct gc_tag_server){.key = w, .cover = {w + results, w + 2 * results}};
    *memory = w;
    return 0;
}

int gc_tag_client_new(size_t results, struct gc_tag_client *c, vole_word **memory)
{
    vole_word *w = secret_array(3 * results, WORD);

    if (w == NULL)
        return ERR_NOMEM;
    *c = (struct gc_tag_client){.tag = {w, w + results}};
    c->high[0] = (uint64_t *)(void *)(w + 2 * results);
    c->high[1] = c->high[0] + results;
    *memory = w;
    return 0;
}

void gc_tag_server_save(const struct gc_tag_server *s, size_t results, struct tape *state)
{
    tape_put(state, &s->alpha, sizeof s->alpha);
    tape_put(state, s->key, 3 * results * WORD);
}

int gc_tag_server_load(struct gc_tag_server *s, size_t results, struct tape *state, uint64_t at)
{
    TRY(tape_take(state, at, &s->alpha, sizeof s->alpha));
    return tape_take(state, at + sizeof s->alpha, s->key, 3 * results * WORD);
}

void gc_tag_client_save(const struct gc_tag_client *c, size_t results, struct tape *state)
{
    tape_put(state, c->tag[0], gc_tag_state(results, 1));
}

int gc_tag_client_load(struct gc_tag_client *c, size_t results, struct tape *state, uint64_t at)
{
    return tape_take(state, at, c->tag[0], gc_tag_state(results, 1));
}

/* ---- offline ------------------------------------------------------------------------------ */

static void draw_words(struct prg *rng, vole_word *w, size_t n)
{
    prg_bytes(rng, w, n * sizeof *w);
    for (size_t i = 0; i < n; i++)
        w[i] &= VOLE_MASK;
}

int gc_tag_take(struct relu_party *p, size_t results, struct gc_tag_server *s)
{
    SECRET vole_word *k = secret_array(2 * results, sizeof *k);

    if (k == NULL)
        return ERR_NOMEM;
    TRY(vole_take(p->verifier, p->t, 2 * results, k));
    s->alpha = vole_alpha(p->verifier);
    draw_words(p->rng, s->key, results);
    for (size_t i = 0; i < results; i++)
        for (size_t l = 0; l < 2; l++)
            s->cover[l][i] = (s->cover[l][i] + s->key[i] - k[l * results + i]) & VOLE_MASK;
    return 0;
}

int gc_tag_give(struct relu_party *p, size_t results, const uint64_t *u, const uint64_t *uc,
                const uint64_t *r, struct gc_tag_client *c)
{
    SECRET vole_word *w = secret_array(2 * results, sizeof *w);

    if (w == NULL)
        return ERR_NOMEM;
    prg_bytes(p->rng, c->high[0], 2 * results * sizeof(uint64_t));
    for (size_t i = 0; i < 2 * results; i++)
        c->high[0][i] >>= 64 - HIGH_BITS;
    for (size_t i = 0; i < results; i++) {
        w[i] = (vole_word)c->high[0][i] << 64 | (uc[i] - r[i]);
        w[results + i] = (vole_word)c->high[1][i] << 64 | (u[i] - uc[i] - r[i]);
    }
    return vole_give(p->prover, p->t, 2 * results, w, c->tag[0]);
}

/* ---- online ------------------------------------------------------------------------------- */

void gc_tag_pads(struct hasher *h, const struct relu_batch *b, int32_t payload, size_t first,
                 size_t n, struct block *label, vole_word *pad)
{
    hash_blocks(h, label, label, n,
                garble_tweak(b->tweak, RELU_SLOT_TAG + (uint64_t)payload, first));
    for (size_t k = 0; k < n; k++)
        pad[k] = ((vole_word)label[k].hi << 64 | label[k].lo) & VOLE_MASK;
}

vole_word gc_tag_word(const struct gc_tag_server *s, int lambda, size_t i, uint64_t m)
{
    return (s->cover[lambda][i] + (vole_word)s->alpha * m) & VOLE_MASK;
}

/* SHA-256 of all tags, packed. */
struct digest {
    struct sha256 *hash;
    vole_word word[64];
    uint8_t packed[PIECE * VOLE_BYTES];
};

static int add_tags(struct digest *d, const vole_word *tag, size_t n)
{
    vole_pack(d->packed, tag, n);
    return sha256_add(d->hash, d->packed, n * VOLE_BYTES);
}

static void digest_free(struct digest *d)
{
    if (d != NULL)
        sha256_free(d->hash);
    secret_free(d);
}
FREE_AT(digest_free, struct digest)

static int digest_new(struct digest **out)
{
    static const char name[] = "linnet tag";

    if ((*out = secret_array(1, sizeof **out)) == NULL)
        return ERR_NOMEM;
    TRY(sha256_new(&(*out)->hash));
    return sha256_add((*out)->hash, name, sizeof name - 1);
}

static int receive_results(struct transport *t, const struct gc_tag_server *s, size_t results,
                           struct digest *d, uint64_t *z)
{
    vole_word *word = d->word;

    for (size_t at = 0, n; at < results; at += n) {
        n = results - at < 64 ? results - at : 64;
        TRY(transport_recv(t, d->packed, n * VOLE_BYTES));
        vole_unpack(word, d->packed, n);
        for (size_t i = 0; i < n; i++) {
            z[at + i] = (uint64_t)word[i];
            word[i] = (s->key[at + i] + (vole_word)s->alpha * word[i]) & VOLE_MASK;
        }
        TRY(add_tags(d, word, n));
    }
    return 0;
}

static int compare(struct transport *t, struct digest *d)
{
    uint8_t mine[SHA256_SIZE], theirs[SHA256_SIZE], differ = 0;

    TRY(sha256_end(d->hash, mine));
    TRY(transport_recv(t, theirs, sizeof theirs));
    for (int i = 0; i < SHA256_SIZE; i++)
        differ |= mine[i] ^ theirs[i];
    return differ == 0 ? 0
                       : fail(ERR_PEER,
                              "the client's results of a layer are not those that it had to send");
}

int gc_tag_check(struct transport *t, const struct gc_tag_server *s, size_t results, uint64_t *z)
{
    SCOPED(digest_free_at) struct digest *d = NULL;

    TRY(digest_new(&d));
    TRY(receive_results(t, s, results, d, z));
    return compare(t, d);
}

int gc_tag_send(struct transport *t, size_t results, const vole_word *word, const vole_word *tag)
{
    SCOPED(digest_free_at) struct digest *d = NULL;
    uint8_t digest[SHA256_SIZE];

    TRY(digest_new(&d));
    for (size_t at = 0, n; at < results; at += n) {
        n = results - at < PIECE ? results - at : PIECE;
        TRY(add_tags(d, tag + at, n));
        vole_pack(d->packed, word + at, n);
        TRY(transport_send(t, d->packed, n * VOLE_BYTES));
    }
    TRY(sha256_end(d->hash, digest));
    return transport_send(t, digest, sizeof digest);
}
