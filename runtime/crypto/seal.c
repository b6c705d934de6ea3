/* AES-256-GCM by OpenSSL (seal.h). */
#include "runtime/crypto/seal.h"

#include <openssl/evp.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/sha256.h"

#define NONCE 12

struct seal {
    EVP_CIPHER_CTX *c;
    uint8_t key[SEAL_KEY];
};

static int derive(struct seal *s, const uint8_t key[SEAL_KEY], const uint8_t salt[SEAL_SALT],
                  const void *head, size_t n)
{
    SCOPED(sha256_free_at) struct sha256 *h = NULL;

    TRY(sha256_new(&h));
    TRY(sha256_add(h, "linnet seal", 11));
    TRY(sha256_add(h, key, SEAL_KEY));
    TRY(sha256_add(h, salt, SEAL_SALT));
    TRY(sha256_add(h, head, n));
    return sha256_end(h, s->key);
}

static struct seal *new_seal(void)
{
    struct seal *s = secret_array(1, sizeof *s);

    if (s != NULL && (s->c = EVP_CIPHER_CTX_new()) != NULL)
        return s;
    secret_free(s);
    fail(ERR_NOMEM, "seal: out of memory");
    return NULL;
}

int seal_new(const uint8_t key[SEAL_KEY], const uint8_t salt[SEAL_SALT], const void *head, size_t n,
             struct seal **out)
{
    SCOPED(seal_free_at) struct seal *s = new_seal();

    if (s == NULL)
        return ERR_NOMEM;
    TRY(derive(s, key, salt, head, n));
    *out = mem_hand_on(&s);
    return 0;
}

int seal_copy(const struct seal *s, struct seal **out)
{
    struct seal *copy = new_seal();

    if (copy == NULL)
        return ERR_NOMEM;
    memcpy(copy->key, s->key, sizeof copy->key);
    *out = copy;
    return 0;
}

void seal_free(struct seal *s)
{
    if (s == NULL)
        return;
    EVP_CIPHER_CTX_free(s->c);
    secret_free(s);
}

size_t seal_size(size_t n)
{
    return n + (n + SEAL_PIECE - 1) / SEAL_PIECE * SEAL_TAG;
}

size_t seal_piece_bytes(uint64_t size, uint64_t i)
{
    uint64_t left = size - i * SEAL_PIECE;

    return left < SEAL_PIECE ? (size_t)left : SEAL_PIECE;
}

bool seal_is_last(uint64_t size, uint64_t i)
{
    return (i + 1) * SEAL_PIECE >= size;
}

static bool begin(struct seal *s, uint64_t i, bool last, int encrypt)
{
    uint8_t nonce[NONCE] = {0};

    for (int k = 0; k < 8; k++)
        nonce[k] = (uint8_t)(i >> 8 * k);
    nonce[8] = last;
    return EVP_CipherInit_ex(s->c, EVP_aes_256_gcm(), NULL, s->key, nonce, encrypt) == 1;
}

int seal_close(struct seal *s, uint64_t i, bool last, const uint8_t *in, size_t n, uint8_t *out)
{
    int put = 0, more = 0;

    if (!begin(s, i, last, 1) || EVP_CipherUpdate(s->c, out, &put, in, (int)n) != 1 ||
        EVP_CipherFinal_ex(s->c, out + put, &more) != 1 || (size_t)(put + more) != n ||
        EVP_CIPHER_CTX_ctrl(s->c, EVP_CTRL_GCM_GET_TAG, SEAL_TAG, out + n) != 1)
        return fail(ERR_NOMEM, "seal: encryption failed");
    return 0;
}

int seal_open(struct seal *s, uint64_t i, bool last, const uint8_t *in, size_t n, uint8_t *out)
{
    uint8_t tag[SEAL_TAG];
    int put = 0, more = 0;

    memcpy(tag, in + n, sizeof tag);
    if (!begin(s, i, last, 0) || EVP_CipherUpdate(s->c, out, &put, in, (int)n) != 1 ||
        EVP_CIPHER_CTX_ctrl(s->c, EVP_CTRL_GCM_SET_TAG, SEAL_TAG, tag) != 1 ||
        EVP_CipherFinal_ex(s->c, out + put, &more) != 1 || (size_t)(put + more) != n)
        return fail(ERR_FORMAT, "sealed under another key, or changed");
    return 0;
}

int seal_key_read(const char *path, uint8_t key[SEAL_KEY])
{
    uint8_t *bytes = NULL;
    size_t n;
    int rc = 0;

    TRY(file_read(path, 256, &bytes, &n));
    if (n == SEAL_KEY) {
        memcpy(key, bytes, SEAL_KEY);
    } else {
        bytes[strcspn((const char *)bytes, "\r\n")] = '\0';
        rc = sha256_parse((const char *)bytes, key);
    }
    wipe(bytes, n);
    mem_free(bytes);
    return rc < 0 ? fail(ERR_FORMAT, "'%s': a key is 32 bytes or 64 hexadecimal digits", path) : 0;
}
