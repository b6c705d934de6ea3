/*
 * Random streams and the fixed-key hashes (prg.h).
 *
 *     stream   AES-128-CTR of zeros, key = seed, counter from 0 (big-endian, NIST SP 800-38A)
 *     hash     H(x,i) = p(p(x) ^ i) ^ p(x), p = AES-128 under a public key: tweakable circular
 *              correlation robust if p is an ideal permutation (Guo, Katz, Wang, Yu, "Efficient and
 *              Secure Multiparty Computation from Fixed-Key Block Ciphers", S&P 2020, section 7.4)
 *     its key  SHA-256("linnet hash 2", sid, batch, part), 8 bytes little-endian each, first 16 bytes.
 *              A secret difference that C hashes under one key hide is found with work 2^128 / C, for
 *              all users of that key together (Guo, Katz, Wang, Weng, Yu, "Better Concrete Security for
 *              Half-Gates Garbling", CRYPTO 2020): so no key serves more than 2^20 of them
 *
 * AES is that of aes.h where the CPU encrypts several blocks an instruction, else OpenSSL's. Both are
 * fast on long buffers only, so short requests are served from a buffer. After set-up the ciphers of
 * OpenSSL cannot fail; if one ever did, going on would send secrets in the clear, so the process
 * stops at once.
 */
#include "runtime/crypto/prg.h"

#include <stdbool.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "core/base/buf.h"
#include "core/base/sha256.h"
#include "runtime/crypto/aes.h"

#define STREAM_BUFFER 512
#define EVP_MOST ((size_t)1 << 30) /* bytes of one call: its length is an int */
#define HASH_PIECE 512             /* blocks in flight: two buffers of 8 KiB */

/* ---- ciphers -------------------------------------------------------------------------------- */

struct cipher {
    EVP_CIPHER_CTX *evp; /* NULL: aes is used */
    struct aes aes;
};

static int cipher_new(struct cipher *c, const EVP_CIPHER *kind, const uint8_t key[16])
{
    static const uint8_t zero[16];

    if (aes_open(&c->aes)) {
        aes_key(&c->aes, key);
        return 0;
    }
    c->evp = EVP_CIPHER_CTX_new();
    if (c->evp == NULL || EVP_EncryptInit_ex(c->evp, kind, NULL, key, zero) != 1 ||
        EVP_CIPHER_CTX_set_padding(c->evp, 0) != 1)
        return fail(ERR_NOMEM, "AES-128 of OpenSSL is not available");
    return 0;
}

/* key NULL: the one it has; counter NULL: none. */
static void cipher_restart(struct cipher *c, const uint8_t *key, const uint8_t counter[16])
{
    if (c->evp != NULL) {
        if (EVP_EncryptInit_ex(c->evp, NULL, NULL, key, counter) != 1)
            __builtin_trap();
    } else if (key != NULL) {
        aes_key(&c->aes, key);
    }
}

/* out may be in. ECB: n is a multiple of 16. Only with evp. */
static void cipher_run(struct cipher *c, void *out, const void *in, size_t n)
{
    for (size_t at = 0; at < n;) {
        size_t piece = n - at < EVP_MOST ? n - at : EVP_MOST;
        int len = 0;

        if (EVP_EncryptUpdate(c->evp, (uint8_t *)out + at, &len, (const uint8_t *)in + at,
                              (int)piece) != 1 ||
            (size_t)len != piece)
            __builtin_trap();
        at += piece;
    }
}

/* ---- streams -------------------------------------------------------------------------------- */

struct prg {
    struct cipher cipher;
    uint64_t next; /* block of the stream, without those in buffer */
    size_t left;   /* unused bytes at the end of buffer */
    uint8_t buffer[STREAM_BUFFER];
};

int prg_new(const uint8_t seed[PRG_SEED], struct prg **out)
{
    SCOPED(prg_free_at) struct prg *p = secret_array(1, sizeof *p);

    if (p == NULL)
        return ERR_NOMEM;
    TRY(cipher_new(&p->cipher, EVP_aes_128_ctr(), seed));
    *out = mem_hand_on(&p);
    return 0;
}

int prg_new_random(struct prg **out)
{
    uint8_t seed[PRG_SEED];
    int rc;

    if (RAND_priv_bytes(seed, sizeof seed) != 1)
        return fail(ERR_IO, "the system's random generator gives nothing");
    rc = prg_new(seed, out);
    wipe(seed, sizeof seed);
    return rc;
}

void prg_free(struct prg *p)
{
    if (p == NULL)
        return;
    EVP_CIPHER_CTX_free(p->cipher.evp); /* wipes its key */
    secret_free(p);
}

/* n: a multiple of 16. */
static void stream(struct prg *p, void *out, size_t n)
{
    if (p->cipher.evp == NULL) {
        aes_stream(&p->cipher.aes, p->next, out, n / sizeof(struct block));
    } else {
        memset(out, 0, n);
        cipher_run(&p->cipher, out, out, n);
    }
    p->next += n / sizeof(struct block);
}

static void take_buffered(struct prg *p, uint8_t *out, size_t n)
{
    uint8_t *from = p->buffer + STREAM_BUFFER - p->left;

    memcpy(out, from, n);
    memset(from, 0, n);
    p->left -= n;
}

void prg_bytes(struct prg *p, void *out, size_t n)
{
    uint8_t *to = out;
    size_t head = n < p->left ? n : p->left, body;

    take_buffered(p, to, head);
    to += head;
    n -= head;
    if (n == 0)
        return;
    body = n / STREAM_BUFFER * STREAM_BUFFER;
    stream(p, to, body);
    if (n > body) {
        stream(p, p->buffer, STREAM_BUFFER);
        p->left = STREAM_BUFFER;
        take_buffered(p, to + body, n - body);
    }
}

/* key NULL: the one it has. */
static void stream_at(struct prg *p, const uint8_t *key, uint64_t block)
{
    uint8_t counter[16] = {0};

    for (int i = 0; i < 8; i++)
        counter[15 - i] = (uint8_t)(block >> 8 * i);
    cipher_restart(&p->cipher, key, counter);
    p->next = block;
    wipe(p->buffer, sizeof p->buffer);
    p->left = 0;
}

void prg_restart(struct prg *p, const uint8_t seed[PRG_SEED])
{
    stream_at(p, seed, 0);
}

void prg_seek(struct prg *p, uint64_t block)
{
    stream_at(p, NULL, block);
}

int prg_fork(struct prg *p, struct prg **out)
{
    uint8_t seed[PRG_SEED];
    int rc;

    prg_bytes(p, seed, sizeof seed);
    rc = prg_new(seed, out);
    wipe(seed, sizeof seed);
    return rc;
}

/* ---- hash ----------------------------------------------------------------------------------- */

struct hasher {
    struct cipher cipher;
    uint8_t place[HASH_SID + 16]; /* of the key in use: sid, batch, part */
    bool keyed;
    struct block once[HASH_PIECE], twice[HASH_PIECE];
};

int hasher_new(struct hasher **out)
{
    SCOPED(hasher_free_at) struct hasher *h = secret_array(1, sizeof *h);

    if (h == NULL)
        return ERR_NOMEM;
    TRY(cipher_new(&h->cipher, EVP_aes_128_ecb(), h->place));
    *out = mem_hand_on(&h);
    return 0;
}

void hasher_free(struct hasher *h)
{
    if (h == NULL)
        return;
    EVP_CIPHER_CTX_free(h->cipher.evp);
    secret_free(h);
}

int hasher_key(struct hasher *h, const uint8_t sid[HASH_SID], uint64_t batch, uint64_t part)
{
    static const char name[] = "linnet hash 2";
    uint8_t text[sizeof name - 1 + sizeof h->place], *place = text + sizeof name - 1;
    uint8_t digest[SHA256_SIZE];
    struct buf_writer w = buf_writer_in(text, sizeof text);

    buf_put_bytes(&w, name, sizeof name - 1);
    buf_put_bytes(&w, sid, HASH_SID);
    buf_put_u64(&w, batch);
    buf_put_u64(&w, part);
    if (h->keyed && memcmp(h->place, place, sizeof h->place) == 0)
        return 0;
    TRY(sha256_bytes(text, sizeof text, digest));
    cipher_restart(&h->cipher, digest, NULL);
    memcpy(h->place, place, sizeof h->place);
    h->keyed = true;
    return 0;
}

typedef uint64_t lanes __attribute__((vector_size(16))); /* a block as the CPU likes it */

static void hash_piece(struct hasher *h, struct block *out, const struct block *in, size_t n,
                       struct block tweak)
{
    lanes i = {tweak.lo, tweak.hi}, step = {1, 0}, v;

    cipher_run(&h->cipher, h->once, in, n * sizeof *in);
    for (size_t k = 0; k < n; k++, i += step) {
        memcpy(&v, &h->once[k], sizeof v);
        v ^= i;
        memcpy(&h->twice[k], &v, sizeof v);
    }
    cipher_run(&h->cipher, h->twice, h->twice, n * sizeof *in);
    for (size_t k = 0; k < n; k++) {
        out[k].lo = h->once[k].lo ^ h->twice[k].lo;
        out[k].hi = h->once[k].hi ^ h->twice[k].hi;
    }
}

void hash_blocks(struct hasher *h, struct block *out, const struct block *in, size_t n,
                 struct block tweak)
{
    if (!h->keyed)
        __builtin_trap(); /* a key that all the world shares */
    if (h->cipher.evp == NULL) {
        aes_hash(&h->cipher.aes, out, in, n, tweak);
        return;
    }
    for (size_t at = 0; at < n; at += HASH_PIECE) {
        size_t piece = n - at < HASH_PIECE ? n - at : HASH_PIECE;

        hash_piece(h, out + at, in + at, piece, tweak);
        tweak.lo += piece;
    }
}

/* ---- permutation ------------------------------------------------------------------------------ */

struct permutation {
    struct cipher cipher;
    lanes mixed[HASH_PIECE];
};

int permutation_new(struct permutation **out)
{
    static const uint8_t none[16];
    SCOPED(permutation_free_at) struct permutation *p = secret_array(1, sizeof *p);

    if (p == NULL)
        return ERR_NOMEM;
    TRY(cipher_new(&p->cipher, EVP_aes_128_ecb(), none));
    *out = mem_hand_on(&p);
    return 0;
}

void permutation_free(struct permutation *p)
{
    if (p == NULL)
        return;
    EVP_CIPHER_CTX_free(p->cipher.evp);
    secret_free(p);
}

void permutation_key(struct permutation *p, const uint8_t key[16])
{
    cipher_restart(&p->cipher, key, NULL);
}

static void circular_piece(struct permutation *p, struct block *out, const struct block *in,
                           size_t n)
{
    for (size_t k = 0; k < n; k++)
        p->mixed[k] = (lanes){in[k].hi, in[k].lo ^ in[k].hi};
    cipher_run(&p->cipher, out, p->mixed, n * sizeof *out);
    for (size_t k = 0; k < n; k++) {
        out[k].lo ^= p->mixed[k][0];
        out[k].hi ^= p->mixed[k][1];
    }
}

void permutation_hash(struct permutation *p, struct block *out, const struct block *in, size_t n)
{
    if (p->cipher.evp == NULL) {
        aes_hash_circular(&p->cipher.aes, out, in, n);
        return;
    }
    for (size_t at = 0; at < n; at += HASH_PIECE)
        circular_piece(p, out + at, in + at, n - at < HASH_PIECE ? n - at : HASH_PIECE);
}
