/*
 * Base oblivious transfer, in the manner of Chou and Orlandi ("The Simplest Protocol for Oblivious
 * Transfer", LATINCRYPT 2015). G generates P-256, of prime order, so every point but infinity is a
 * generator.
 *
 *     sender     a random             A = aG                          --- A --->
 *     receiver   x_i random, bit c    B_i = x_i G + c A               <-- B_0 ... B_(n-1)
 *     sender     key 0 = hash(i, A, B_i, a B_i), key 1 = hash(i, A, B_i, a (B_i - A))
 *     receiver   key c = hash(i, A, B_i, x_i A)
 *
 * a B = a x G = x A for c = 0, and a (B - A) = x A for c = 1. B_i is uniform whatever c is. The
 * receiver's other key needs a^2 G from A alone (square Diffie-Hellman, as hard as computational
 * Diffie-Hellman), hashed by SHA-256 as a random oracle.
 *
 * Points travel uncompressed (SEC 1: byte 4, x, y big-endian). What is not on the curve, infinity,
 * and B = A (whose second key anybody knows) are refused. OpenSSL's P-256 multiplies in constant
 * time; the receiver computes both candidates of B and selects by mask.
 */
#include "runtime/crypto/baseot.h"

#include <string.h>

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/obj_mac.h>

#include "core/base/sha256.h"

#define POINT 65 /* bytes of one */
#define SCALAR 32

struct curve {
    EC_GROUP *group;
    BN_CTX *scratch;
    BIGNUM *scalar;
    EC_POINT *peer, *shared, *a, *sum; /* what they hold depends on the role */
    uint8_t sent[POINT], mine[POINT], other[POINT], key[POINT];
};

static int openssl_failed(void)
{
    return fail(ERR_NOMEM, "base OT: OpenSSL's P-256 failed");
}

static void curve_free(struct curve *c)
{
    if (c == NULL)
        return;
    EC_POINT_clear_free(c->peer);
    EC_POINT_clear_free(c->shared);
    EC_POINT_clear_free(c->a);
    EC_POINT_clear_free(c->sum);
    BN_clear_free(c->scalar);
    BN_CTX_free(c->scratch);
    EC_GROUP_free(c->group);
    secret_free(c);
}
FREE_AT(curve_free, struct curve)

static int curve_new(struct curve **out)
{
    SCOPED(curve_free_at) struct curve *c = secret_array(1, sizeof *c);

    if (c == NULL)
        return ERR_NOMEM;
    if ((c->group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1)) == NULL ||
        (c->scratch = BN_CTX_new()) == NULL || (c->scalar = BN_new()) == NULL ||
        (c->peer = EC_POINT_new(c->group)) == NULL ||
        (c->shared = EC_POINT_new(c->group)) == NULL || (c->a = EC_POINT_new(c->group)) == NULL ||
        (c->sum = EC_POINT_new(c->group)) == NULL)
        return openssl_failed();
    BN_set_flags(c->scalar, BN_FLG_CONSTTIME);
    *out = mem_hand_on(&c);
    return 0;
}

/* Uniform below the order, not 0, by rejection (2^-32 a draw). */
static int draw_scalar(struct curve *c, struct prg *rng)
{
    uint8_t bytes[SCALAR];
    int ok;

    do {
        prg_bytes(rng, bytes, sizeof bytes);
        ok = BN_bin2bn(bytes, sizeof bytes, c->scalar) != NULL;
    } while (ok &&
             (BN_is_zero(c->scalar) || BN_cmp(c->scalar, EC_GROUP_get0_order(c->group)) >= 0));
    wipe(bytes, sizeof bytes);
    return ok ? 0 : openssl_failed();
}

static int encode(struct curve *c, const EC_POINT *p, uint8_t out[POINT])
{
    if (EC_POINT_point2oct(c->group, p, POINT_CONVERSION_UNCOMPRESSED, out, POINT, c->scratch) !=
        POINT)
        return openssl_failed(); /* infinity: a chance of 2^-256 for points of our own */
    return 0;
}

static int decode(struct curve *c, EC_POINT *p, const uint8_t in[POINT])
{
    if (in[0] != POINT_CONVERSION_UNCOMPRESSED ||
        EC_POINT_oct2point(c->group, p, in, POINT, c->scratch) != 1 ||
        EC_POINT_is_at_infinity(c->group, p) == 1 ||
        EC_POINT_is_on_curve(c->group, p, c->scratch) != 1)
        return fail(ERR_PEER, "base OT: the peer sent something that is no point of P-256");
    return 0;
}

/* p = scalar * base; base NULL: of the generator. */
static int times(struct curve *c, EC_POINT *p, const EC_POINT *base)
{
    int ok = base == NULL ? EC_POINT_mul(c->group, p, c->scalar, NULL, NULL, c->scratch)
                          : EC_POINT_mul(c->group, p, NULL, base, c->scalar, c->scratch);

    return ok == 1 ? 0 : openssl_failed();
}

static int plus(struct curve *c, EC_POINT *sum, const EC_POINT *p, const EC_POINT *q)
{
    return EC_POINT_add(c->group, sum, p, q, c->scratch) == 1 ? 0 : openssl_failed();
}

static int negate(struct curve *c, EC_POINT *p)
{
    return EC_POINT_invert(c->group, p, c->scratch) == 1 ? 0 : openssl_failed();
}

/* First bytes of SHA-256(i as 4 bytes little-endian, A, B, shared point). */
static int derive(struct curve *c, uint32_t i, const uint8_t a[POINT], const uint8_t b[POINT],
                  const EC_POINT *shared, uint8_t key[BASEOT_KEY])
{
    uint8_t text[4 + 3 * POINT], digest[SHA256_SIZE];
    int rc;

    memcpy(text, &i, 4);
    memcpy(text + 4, a, POINT);
    memcpy(text + 4 + POINT, b, POINT);
    if ((rc = encode(c, shared, text + 4 + 2 * POINT)) == 0 &&
        (rc = sha256_bytes(text, sizeof text, digest)) == 0)
        memcpy(key, digest, BASEOT_KEY);
    wipe(text, sizeof text);
    wipe(digest, sizeof digest);
    return rc;
}

uint64_t baseot_bytes(int32_t n, int from_sender)
{
    return (from_sender ? 1 : (uint64_t)n) * POINT;
}

/* ---- sender: scalar a; c->a = -A, c->sum = -aA ------------------------------------------------ */

static int sender_keys(struct curve *c, uint32_t i, const uint8_t b[POINT],
                       uint8_t keys[2][BASEOT_KEY])
{
    TRY(decode(c, c->peer, b));
    if (memcmp(b, c->sent, POINT) == 0)
        return fail(ERR_PEER, "base OT: the peer sent our own point back");
    TRY(times(c, c->shared, c->peer));
    TRY(derive(c, i, c->sent, b, c->shared, keys[0]));
    TRY(plus(c, c->shared, c->shared, c->sum));
    return derive(c, i, c->sent, b, c->shared, keys[1]);
}

static int sender_start(struct curve *c, struct prg *rng)
{
    TRY(draw_scalar(c, rng));
    TRY(times(c, c->a, NULL));
    TRY(encode(c, c->a, c->sent));
    TRY(times(c, c->sum, c->a));
    return negate(c, c->sum);
}

int baseot_send(struct transport *t, struct prg *rng, int32_t n, uint8_t (*keys)[2][BASEOT_KEY])
{
    SCOPED(curve_free_at) struct curve *c = NULL;

    TRY(curve_new(&c));
    TRY(sender_start(c, rng));
    TRY(transport_send(t, c->sent, POINT));
    for (int32_t i = 0; i < n; i++) {
        TRY(transport_recv(t, c->other, POINT));
        TRY(sender_keys(c, (uint32_t)i, c->other, keys[i]));
    }
    return 0;
}

/* ---- receiver: scalar x_i; c->peer = A -------------------------------------------------------- */

/* mine = choice ? other : mine. */
static void choose(uint8_t mine[POINT], const uint8_t other[POINT], uint8_t choice)
{
    uint8_t mask = (uint8_t)-choice;

    for (int k = 0; k < POINT; k++)
        mine[k] ^= (uint8_t)((mine[k] ^ other[k]) & mask);
}

static int receiver_point(struct curve *c, struct prg *rng, uint32_t i, uint8_t choice,
                          uint8_t key[BASEOT_KEY])
{
    TRY(draw_scalar(c, rng));
    TRY(times(c, c->a, NULL));
    TRY(plus(c, c->sum, c->a, c->peer));
    TRY(encode(c, c->a, c->mine));
    TRY(encode(c, c->sum, c->other));
    choose(c->mine, c->other, choice & 1);
    TRY(times(c, c->shared, c->peer));
    return derive(c, i, c->sent, c->mine, c->shared, key);
}

int baseot_receive(struct transport *t, struct prg *rng, int32_t n, const uint8_t *choice,
                   uint8_t (*keys)[BASEOT_KEY])
{
    SCOPED(curve_free_at) struct curve *c = NULL;

    TRY(curve_new(&c));
    TRY(transport_recv(t, c->sent, POINT));
    TRY(decode(c, c->peer, c->sent));
    for (int32_t i = 0; i < n; i++) {
        TRY(receiver_point(c, rng, (uint32_t)i, choice[i], keys[i]));
        TRY(transport_send(t, c->mine, POINT));
    }
    return transport_flush(t);
}
