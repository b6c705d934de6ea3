/* Named streams (share_rng.h). */
#include "runtime/crypto/share_rng.h"

#include <string.h>

#include "core/base/buf.h"
#include "core/base/sha256.h"

static const char seed_name[] = "linnet test seed", share_name[] = "linnet share";

int share_rng_init(struct share_rng *s, int64_t test_seed)
{
    uint8_t text[sizeof seed_name - 1 + 8];
    struct buf_writer w = buf_writer_in(text, sizeof text);
    SCOPED(prg_free_at) struct prg *p = NULL;

    if (test_seed < 0) {
        TRY(prg_new_random(&p));
        prg_bytes(p, s->key, sizeof s->key);
        return 0;
    }
    buf_put_bytes(&w, seed_name, sizeof seed_name - 1);
    buf_put_u64(&w, (uint64_t)test_seed);
    return sha256_bytes(text, sizeof text, s->key);
}

int share_rng_seed(const struct share_rng *s, enum share_kind kind, uint64_t number, uint32_t index,
                   uint8_t seed[PRG_SEED])
{
    uint8_t text[sizeof share_name - 1 + SHARE_KEY + 1 + 8 + 4], digest[SHA256_SIZE];
    struct buf_writer w = buf_writer_in(text, sizeof text);
    int rc;

    buf_put_bytes(&w, share_name, sizeof share_name - 1);
    buf_put_bytes(&w, s->key, SHARE_KEY);
    buf_put_u8(&w, (uint8_t)kind);
    buf_put_u64(&w, number);
    buf_put_u32(&w, index);
    if ((rc = sha256_bytes(text, sizeof text, digest)) == 0)
        memcpy(seed, digest, PRG_SEED);
    wipe(text, sizeof text);
    wipe(digest, sizeof digest);
    return rc;
}

int share_rng_open(const struct share_rng *s, enum share_kind kind, uint64_t number, uint32_t index,
                   struct prg **out)
{
    uint8_t seed[PRG_SEED];
    int rc = share_rng_seed(s, kind, number, index, seed);

    if (rc == 0)
        rc = prg_new(seed, out);
    wipe(seed, sizeof seed);
    return rc;
}

int share_rng_words(const struct share_rng *s, enum share_kind kind, uint64_t number,
                    uint32_t index, uint64_t *out, int64_t n)
{
    SCOPED(prg_free_at) struct prg *p = NULL;

    TRY(share_rng_open(s, kind, number, index, &p));
    prg_bytes(p, out, (size_t)n * sizeof *out);
    return 0;
}
