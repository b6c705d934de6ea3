#ifndef RUNTIME_CRYPTO_PRG_H
#define RUNTIME_CRYPTO_PRG_H
/*
 * Randomness of the protocols: AES-128-CTR streams from 16-byte seeds, fixed-key AES hash of blocks. The only place where the runtime draws randomness from the system.
 *
 *     SCOPED(prg_free_at) struct prg *p = NULL;
 *     TRY(prg_new_random(&p));                    or prg_new(seed, &p) for reproducible shares
 *     prg_bytes(p, r, n * sizeof *r);
 */
#include <stddef.h>
#include <stdint.h>

#include "core/base/mem.h"
#include "runtime/ring/bits.h"

#define PRG_SEED 16

/* For SCOPED. */
static inline void block_wipe(struct block *b)
{
    wipe(b, sizeof *b);
}

struct prg;
int prg_new(const uint8_t seed[PRG_SEED], struct prg **out) MUST_CHECK;
int prg_new_random(struct prg **out) MUST_CHECK; /* seed from the system */
void prg_free(struct prg *p);                    /* wipes; NULL is fine */
FREE_AT(prg_free, struct prg)
/* The next n bytes of the stream. Pieces do not matter: two calls of 8 equal one of 16. */
void prg_bytes(struct prg *p, void *out, size_t n);
/* The same as a new generator of that seed, in the place of p. */
void prg_restart(struct prg *p, const uint8_t seed[PRG_SEED]);
/* Goes on at block number `block` (16 bytes each) of the stream, wherever it stood. */
void prg_seek(struct prg *p, uint64_t block);
/* A generator keyed by the next 16 bytes of p, for a part of the protocol of its own. */
int prg_fork(struct prg *p, struct prg **out) MUST_CHECK;

/* Hash of blocks under one-time tweaks; H(x,i) = p(p(x) ^ i) ^ p(x) for AES-128 under a public key that
 * belongs to a session and a part of its work. Holds no secret of its own between calls. */
#define HASH_SID 32
struct hasher;
int hasher_new(struct hasher **out) MUST_CHECK;
void hasher_free(struct hasher *h); /* wipes; NULL is fine */
FREE_AT(hasher_free, struct hasher)
/* The key of a part of a batch of session sid; before the first hash, and whenever one of them changes. */
int hasher_key(struct hasher *h, const uint8_t sid[HASH_SID], uint64_t batch,
               uint64_t part) MUST_CHECK;
/* out[k] = H(in[k], {tweak.lo + k, tweak.hi}), k < n; out may be in. */
void hash_blocks(struct hasher *h, struct block *out, const struct block *in, size_t n,
                 struct block tweak);

/* A hash without tweaks under a public key, for trees whose nodes differ by a secret (cggm.h): H(x) =
 * p(s(x)) ^ s(x), s(hi, lo) = (hi ^ lo, hi). Holds no secret between calls; has no key before
 * permutation_key. */
struct permutation;
int permutation_new(struct permutation **out) MUST_CHECK;
void permutation_free(struct permutation *p); /* NULL is fine */
FREE_AT(permutation_free, struct permutation)
void permutation_key(struct permutation *p, const uint8_t key[16]);
/* out [n]; out may be in. */
void permutation_hash(struct permutation *p, struct block *out, const struct block *in, size_t n);
#endif
