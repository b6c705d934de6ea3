/*
 * Rows of the local linear code (lpn.h). The places are public, so they may be addresses.
 *
 * One path for all CPUs: an access takes 16 bytes, which every vector unit loads at once, and ten
 * independent ones a row keep the memory busy. Gathers of eight 64-bit lanes (AVX-512) give the
 * same rows in 1.25 to 1.6 times the time, prefetching a few rows ahead changes nothing (Sapphire
 * Rapids, k = 2^16 ... 2^19).
 */
#include "runtime/crypto/lpn.h"

#include <string.h>

#define WORDS 4   /* of the stream a row */
#define PIECE 256 /* rows whose places are drawn at once: 8 KiB */
#define PLACE_BITS 21
_Static_assert((LPN_WEIGHT + 2) / 3 <= WORDS && LPN_MOST_K <= 1 << PLACE_BITS,
               "three places a word");

typedef uint64_t lanes __attribute__((vector_size(16)));

struct lpn {
    struct prg *stream;
    uint64_t mask;
    uint64_t word[PIECE][WORDS];
};

int lpn_new(struct lpn **out)
{
    static const uint8_t none[PRG_SEED];
    struct lpn *l = secret_array(1, sizeof *l);
    int rc;

    if (l == NULL)
        return ERR_NOMEM;
    if ((rc = prg_new(none, &l->stream)) < 0) {
        lpn_free(l);
        return rc;
    }
    *out = l;
    return 0;
}

void lpn_free(struct lpn *l)
{
    if (l == NULL)
        return;
    prg_free(l->stream);
    secret_free(l);
}

void lpn_key(struct lpn *l, const uint8_t key[PRG_SEED], uint32_t k)
{
    prg_restart(l->stream, key);
    l->mask = k - 1;
}

static inline uint64_t place(const uint64_t word[WORDS], int j, uint64_t mask)
{
    return word[j / 3] >> PLACE_BITS * (j % 3) & mask;
}

static void add_rows(const struct lpn *l, const struct block *secret, struct block *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        lanes sum, v;

        memcpy(&sum, &rows[i], sizeof sum);
        for (int j = 0; j < LPN_WEIGHT; j++) {
            memcpy(&v, &secret[place(l->word[i], j, l->mask)], sizeof v);
            sum ^= v;
        }
        memcpy(&rows[i], &sum, sizeof sum);
    }
}

void lpn_add(struct lpn *l, const struct block *secret, uint64_t first, struct block *rows,
             size_t n)
{
    prg_seek(l->stream, first * WORDS * sizeof(uint64_t) / sizeof(struct block));
    for (size_t at = 0; at < n; at += PIECE) {
        size_t piece = n - at < PIECE ? n - at : PIECE;

        prg_bytes(l->stream, l->word, piece * sizeof *l->word);
        add_rows(l, secret, rows + at, piece);
    }
}
