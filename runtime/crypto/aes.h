#ifndef RUNTIME_CRYPTO_AES_H
#define RUNTIME_CRYPTO_AES_H
/*
 * AES-128 of many blocks at once, on CPUs that encrypt several blocks an instruction: four (VAES with
 * AVX-512) or two (VAES with AVX2, as Zen 3). Everywhere else prg.c takes OpenSSL's, which gives the same bytes.
 *
 * Constant time: no table, no branch and no address depends on a key or on a block.
 */
#include <stdbool.h>

#include "core/base/cpu.h"
#include "runtime/crypto/prg.h"

#define AES_ROUNDS 10
struct aes { /* the owner wipes it */
    uint8_t round_key[AES_ROUNDS + 1][16];
    enum cpu_path path; /* of its vectors */
};
/* Before all else. false: this process must not call the functions below. */
bool aes_open(struct aes *a);
void aes_key(struct aes *a, const uint8_t key[16]);
/* out [n] = blocks first, first + 1 ... of the CTR stream that prg.h describes. */
void aes_stream(const struct aes *a, uint64_t first, struct block *out, size_t n);
/* The hashes of prg.h under the key of a; out may be in. */
void aes_hash(const struct aes *a, struct block *out, const struct block *in, size_t n,
              struct block tweak);
void aes_hash_circular(const struct aes *a, struct block *out, const struct block *in, size_t n);
#endif
