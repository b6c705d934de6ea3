/*
 * Rows of the local linear code (lpn.h). The places are public, so they may be addresses.
 *
 * An access takes 16 bytes, which every vector unit loads at once; ten independent ones a row keep the
 * memory busy. The secret is larger than the first cache, so what bounds a row is the transfer of ten
 * cache lines: 7.4 ns where k = 2^17, 3.6 ns where the secret fits into the first cache (Zen 3). Fewer
 * instructions a place let more rows be on their way: the mask and the rotations below give offsets in
 * bytes, and with BMI2 a rotation needs no copy of its word (the older code, with shifts: 8.0 ns, and 13 to
 * 15 for 10.5 while others used the same core).
 *
 * Prefetching a few rows ahead, places drawn out beforehand and two rows at a time take longer (Zen 3);
 * gathers of eight 64-bit lanes (AVX-512) take 1.25 to 1.6 times as long (Sapphire Rapids, k = 2^16
 * ... 2^19).
 */
#include "runtime/crypto/lpn.h"

#include <stdbool.h>
#include <string.h>

#include "core/base/cpu.h"

#define WORDS 4   /* of the stream a row */
#define PIECE 256 /* rows whose places are drawn at once: 8 KiB */
#define PLACE_BITS 21
_Static_assert((LPN_WEIGHT + 2) / 3 <= WORDS && LPN_MOST_K <= 1 << PLACE_BITS,
               "three places a word");

typedef uint64_t lanes __attribute__((vector_size(16)));

struct lpn {
    struct prg *stream;
    uint64_t mask; /* of the offset of a place, in bytes */
    bool short_code;
    uint64_t word[PIECE][WORDS];
};

int lpn_new(struct lpn **out)
{
    static const uint8_t none[PRG_SEED];
    SCOPED(lpn_free_at) struct lpn *l = secret_array(1, sizeof *l);

    if (l == NULL)
        return ERR_NOMEM;
    TRY(prg_new(none, &l->stream));
    l->short_code = cpu_best_path() >= CPU_AVX2;
    *out = mem_hand_on(&l);
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
    l->mask = (k - 1) * sizeof(struct block);
}

/* Of place j: its bits brought to 4 ... */
static inline uint64_t offset(const uint64_t word[WORDS], int j, uint64_t mask)
{
    int right = (PLACE_BITS * (j % 3) + 60) % 64;

    return (word[j / 3] >> right | word[j / 3] << (64 - right)) & mask;
}

static inline __attribute__((always_inline)) void add_rows(const struct lpn *l,
                                                           const struct block *secret,
                                                           const struct block *from,
                                                           struct block *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        lanes sum, v;

        memcpy(&sum, &from[i], sizeof sum);
        for (int j = 0; j < LPN_WEIGHT; j++) {
            memcpy(&v, (const uint8_t *)secret + offset(l->word[i], j, l->mask), sizeof v);
            sum ^= v;
        }
        memcpy(&rows[i], &sum, sizeof sum);
    }
}

#if defined __x86_64__
#define SHORT_CODE __attribute__((target("avx2,bmi2")))
#else
#define SHORT_CODE
#endif
SHORT_CODE static void add_rows_short(const struct lpn *l, const struct block *secret,
                                      const struct block *from, struct block *rows, size_t n)
{
    add_rows(l, secret, from, rows, n);
}

void lpn_add(struct lpn *l, const struct block *secret, uint64_t first, const struct block *from,
             struct block *rows, size_t n)
{
    prg_seek(l->stream, first * WORDS * sizeof(uint64_t) / sizeof(struct block));
    for (size_t at = 0; at < n; at += PIECE) {
        size_t piece = n - at < PIECE ? n - at : PIECE;

        prg_bytes(l->stream, l->word, piece * sizeof *l->word);
        if (l->short_code)
            add_rows_short(l, secret, from + at, rows + at, piece);
        else
            add_rows(l, secret, from + at, rows + at, piece);
    }
}
