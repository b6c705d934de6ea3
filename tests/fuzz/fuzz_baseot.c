/*
 * Points of base OTs. The first byte chooses the side that listens (bit 0: the sender) and the number of
 * transfers, 1 to 4; the rest is what the peer says. A point that is taken is one of the curve.
 */
#include "runtime/crypto/baseot.h"

#include "core/base/err.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/script.h"

enum { MOST = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t seed[PRG_SEED] = {5}, choice[MOST] = {0, 1, 1, 0};
    uint8_t both[MOST][2][BASEOT_KEY], mine[MOST][BASEOT_KEY];
    struct script s;
    struct prg *rng = NULL;
    int32_t n;
    int rc;

    if (size == 0)
        return 0;
    n = 1 + (data[0] >> 1 & (MOST - 1));
    fuzz_must(prg_new(seed, &rng) == 0, "no fixture");
    script_open(&s, data + 1, size - 1);
    rc = data[0] & 1 ? baseot_send(&s.t, rng, n, both) : baseot_receive(&s.t, rng, n, choice, mine);
    prg_free(rng);
    fuzz_must(rc == 0 || rc == ERR_PEER, "an error that is not the peer's");
    fuzz_must(rc < 0 || s.left == size - 1 - baseot_bytes(n, !(data[0] & 1)),
              "more or less was read than the description says");
    fuzz_must(secret_alive() == 0, "a secret was kept");
    return 0;
}
