/*
 * Ciphertexts of the rlwe provider, as the server reads uploads and as the client opens answers. An
 * input is stretched to the length of a message: its first byte chooses, the rest is repeated. Tables
 * and key are made once. (Headers and lengths: fuzz_message.)
 */
#include "runtime/rlwe.h"

#include <string.h>

#include "core/err.h"
#include "tests/fuzz/fuzz.h"

static struct {
    struct rlwe *rlwe;
    struct rlwe_secret *secret;
    uint64_t poly[RLWE_POLY_WORDS];
    uint8_t bytes[RLWE_POLY_BYTES], again[RLWE_POLY_BYTES];
    uint64_t u[RLWE_N];
    int64_t noise[RLWE_N];
    int32_t place[RLWE_N];
} fixture;

static void prepare(void)
{
    static const uint8_t seed[PRG_SEED] = {1};
    struct prg *rng = NULL;

    fuzz_must(prg_new(seed, &rng) == 0 && rlwe_new(ntt_best_path(), &fixture.rlwe) == 0 &&
                  rlwe_secret_new(fixture.rlwe, rng, &fixture.secret) == 0,
              "no fixture");
    prg_free(rng);
    for (int32_t i = 0; i < RLWE_N; i++)
        fixture.place[i] = RLWE_N - 1 - i;
}

static void stretch(const uint8_t *data, size_t size, size_t to)
{
    for (size_t at = 0; at < to; at += size)
        memcpy(fixture.bytes + at, data, size < to - at ? size : to - at);
}

/* What is accepted is in range and the same bytes again. */
static void unpack(void)
{
    int rc = rlwe_unpack(fixture.rlwe, fixture.poly, fixture.bytes);

    fuzz_must(rc == 0 || rc == ERR_PEER, "an error that is not the peer's");
    if (rc < 0)
        return;
    for (size_t i = 0; i < RLWE_POLY_WORDS; i++)
        fuzz_must(fixture.poly[i] < ntt_prime(rlwe_prime(fixture.rlwe, (int)(i / RLWE_N))),
                  "a residue out of range");
    rlwe_pack(fixture.again, fixture.poly);
    fuzz_must(memcmp(fixture.again, fixture.bytes, RLWE_POLY_BYTES) == 0, "other bytes");
}

/* Every answer opens to something; a value's low half moves the noise and nothing else. */
static void open_answer(uint8_t count)
{
    int64_t n = count;

    fuzz_must(rlwe_open(fixture.rlwe, fixture.secret, fixture.bytes, fixture.bytes + 1,
                        fixture.place, n, fixture.u, fixture.noise) == 0,
              "an answer was refused");
    for (int64_t i = 0; i < n; i++)
        fuzz_must(fixture.noise[i] >= INT32_MIN && fixture.noise[i] <= INT32_MAX, "noise");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    if (fixture.rlwe == NULL)
        prepare();
    long alive = secret_alive();
    stretch(data + 1, size - 1, RLWE_POLY_BYTES);
    if (data[0] & 1)
        open_answer(data[0]);
    else
        unpack();
    fuzz_must(secret_alive() == alive, "a secret was kept");
    return 0;
}
