/*
 * Ciphertexts of the rlwe provider. The first byte of an input chooses (bit 0) residues of an upload, as
 * the server reads them, or an answer, as the client opens it; the next two the first residue, or how
 * many numbers the answer holds.
 *
 * Residues: what follows, as many as there are. An answer is stretched to its length, and because it costs
 * a dozen transforms, which do not read messages, only one input of 64 is opened, chosen by a sum of
 * its bytes. Tables and key are made once. (Headers and lengths: fuzz_session.)
 */
#include "runtime/crypto/rlwe.h"

#include <string.h>

#include "core/base/err.h"
#include "tests/fuzz/fuzz.h"

enum { HEAD = 3, ONE_OF = 64, MOST_PLACES = 255 };

static struct {
    struct rlwe *rlwe;
    struct rlwe_secret *secret;
    uint64_t residue[RLWE_POLY_WORDS];
    uint8_t half[RLWE_HALF_BYTES], values[MOST_PLACES * RLWE_ANSWER_BYTES];
    uint64_t u[MOST_PLACES];
    int32_t place[MOST_PLACES];
} fixture;

static void prepare(void)
{
    static const uint8_t seed[PRG_SEED] = {1};
    struct prg *rng = NULL;

    fuzz_must(prg_new(seed, &rng) == 0 && rlwe_new(ntt_best_path(), &fixture.rlwe) == 0 &&
                  rlwe_secret_new(fixture.rlwe, rng, &fixture.secret) == 0,
              "no fixture");
    prg_free(rng);
    for (int32_t i = 0; i < MOST_PLACES; i++)
        fixture.place[i] = RLWE_N - 1 - i;
}

/* What is accepted is in range and the number that the bytes say; what is refused is out of range. */
static void unpack(size_t first, const uint8_t *data, size_t size)
{
    size_t n = size / RLWE_RESIDUE_BYTES;
    bool in_range = true;
    int rc;

    first %= RLWE_POLY_WORDS;
    n = n < RLWE_POLY_WORDS - first ? n : RLWE_POLY_WORDS - first;
    rc = rlwe_unpack_part(fixture.rlwe, first, n, fixture.residue, data);
    fuzz_must(rc == 0 || rc == ERR_PEER, "an error that is not the peer's");
    for (size_t i = 0; i < n && in_range; i++) {
        uint64_t v = 0;
        memcpy(&v, data + i * RLWE_RESIDUE_BYTES, RLWE_RESIDUE_BYTES);
        fuzz_must(v == fixture.residue[i], "another number");
        in_range = v < ntt_prime(rlwe_prime(fixture.rlwe, (int)((first + i) / RLWE_N)));
    }
    fuzz_must(in_range == (rc == 0), "a residue out of range, or one in range refused");
}

static void stretch(uint8_t *to, size_t length, const uint8_t *data, size_t size)
{
    for (size_t at = 0; at < length; at += size)
        memcpy(to + at, data, size < length - at ? size : length - at);
}

/* Every answer opens to something. */
static void open_answer(int64_t n, const uint8_t *data, size_t size)
{
    stretch(fixture.half, sizeof fixture.half, data, size);
    stretch(fixture.values, sizeof fixture.values, data + size / 2, size - size / 2);
    fuzz_must(rlwe_open(fixture.rlwe, fixture.secret, fixture.half, fixture.values, fixture.place,
                        n, fixture.u) == 0,
              "an answer was refused");
}

static bool chosen(const uint8_t *data, size_t size)
{
    unsigned sum = 0;

    for (size_t i = 0; i < size; i++)
        sum += data[i];
    return sum % ONE_OF == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size <= HEAD)
        return 0;
    if (fixture.rlwe == NULL)
        prepare();
    long alive = secret_alive();
    if (!(data[0] & 1))
        unpack((size_t)data[1] << 8 | data[2], data + HEAD, size - HEAD);
    else if (chosen(data, size))
        open_answer(data[1], data + HEAD, size - HEAD);
    fuzz_must(secret_alive() == alive, "a secret was kept");
    return 0;
}
