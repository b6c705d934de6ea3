#ifndef RUNTIME_CRYPTO_VOLE_H
#define RUNTIME_CRYPTO_VOLE_H
/*
 * Correlated words for tags: vector oblivious linear evaluation over the integers mod 2^104.
 *
 * The verifier holds alpha (40 bits, fixed for its life). For every word w of the prover the parties get
 *
 *     t = k + alpha w  (mod 2^104)        prover: t       verifier: k
 *
 * A prover that shows another word w + d must name the tag t + alpha d: for d != 0 mod 2^64 it has to guess
 * 40 bits (d = 2^v times an odd number, v < 64, and alpha is free mod 2^(104 - v)).
 *
 * 65 bytes a word, of the prover. Nothing here checks that a prover sends the same word for every digit
 * of alpha; a deviation shows when the tag is compared, or where all of the prover's randomness is opened.
 */
#include "runtime/crypto/prg.h"
#include "runtime/net/transport.h"

__extension__ typedef unsigned __int128 vole_word;
#define VOLE_BITS 104 /* of a word */
#define VOLE_BYTES 13 /* the same, on the wire */
#define VOLE_ALPHA 40 /* bits of alpha: so many transfers */
#define VOLE_MASK ((((vole_word)1) << VOLE_BITS) - 1)
#define VOLE_WORD_BYTES 65                /* sent for a word */
#define VOLE_SETUP_BYTES (5 * 8 * 2 * 16) /* of the prover, once */

struct vole_prover;
struct vole_verifier;
/* keys: of VOLE_ALPHA transfers, both of each; choices of the verifier: the bits of alpha, the lowest
 * first, and of each transfer the key they chose. */
int vole_prover_new(struct transport *t, struct prg *rng, struct block keys[VOLE_ALPHA][2],
                    struct vole_prover **out) MUST_CHECK;
int vole_verifier_new(struct transport *t, uint64_t alpha, const struct block keys[VOLE_ALPHA],
                      struct vole_verifier **out) MUST_CHECK;
void vole_prover_free(struct vole_prover *p); /* wipe; NULL is fine */
FREE_AT(vole_prover_free, struct vole_prover)
void vole_verifier_free(struct vole_verifier *v);
FREE_AT(vole_verifier_free, struct vole_verifier)
uint64_t vole_alpha(const struct vole_verifier *v);
/* w [n], below 2^104; tag [n] and k [n], written. Errors: memory, and those of the transport. */
int vole_give(struct vole_prover *p, struct transport *t, size_t n, const vole_word *w,
              vole_word *tag) MUST_CHECK;
int vole_take(struct vole_verifier *v, struct transport *t, size_t n, vole_word *k) MUST_CHECK;

/* Words on the wire: 13 bytes, little-endian. */
void vole_pack(uint8_t *bytes, const vole_word *w, size_t n);
void vole_unpack(vole_word *w, const uint8_t *bytes, size_t n);
#endif
