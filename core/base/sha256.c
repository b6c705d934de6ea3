/*
 * SHA-256 through OpenSSL's EVP interface, which picks the fastest code for this CPU.
 */
#include "core/base/sha256.h"

#include <stdbool.h>

#include <openssl/evp.h>

#include "core/base/file.h"
#include "core/base/mem.h"

struct sha256 {
    EVP_MD_CTX *ctx;
};

static int fail_openssl(void)
{
    return fail(ERR_NOMEM, "SHA-256: OpenSSL failed");
}

int sha256_new(struct sha256 **out)
{
    struct sha256 *h = mem_array(1, sizeof *h);

    if (h == NULL)
        return ERR_NOMEM;
    h->ctx = EVP_MD_CTX_new();
    if (h->ctx == NULL || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1) {
        sha256_free(h);
        return fail_openssl();
    }
    *out = h;
    return 0;
}

int sha256_restart(struct sha256 *h)
{
    return EVP_DigestInit_ex(h->ctx, NULL, NULL) == 1 ? 0 : fail_openssl();
}

int sha256_add(struct sha256 *h, const void *data, size_t len)
{
    return EVP_DigestUpdate(h->ctx, data, len) == 1 ? 0 : fail_openssl();
}

int sha256_peek(const struct sha256 *h, uint8_t out[SHA256_SIZE])
{
    EVP_MD_CTX *copy = EVP_MD_CTX_new();
    bool ok = copy != NULL && EVP_MD_CTX_copy_ex(copy, h->ctx) == 1 &&
              EVP_DigestFinal_ex(copy, out, NULL) == 1;

    EVP_MD_CTX_free(copy);
    return ok ? 0 : fail_openssl();
}

int sha256_end(struct sha256 *h, uint8_t out[SHA256_SIZE])
{
    return EVP_DigestFinal_ex(h->ctx, out, NULL) == 1 ? 0 : fail_openssl();
}

void sha256_free(struct sha256 *h)
{
    if (h == NULL)
        return;
    EVP_MD_CTX_free(h->ctx);
    mem_free(h);
}

int sha256_bytes(const void *data, size_t len, uint8_t out[SHA256_SIZE])
{
    return EVP_Digest(data, len, out, NULL, EVP_sha256(), NULL) == 1 ? 0 : fail_openssl();
}

int sha256_file(const char *path, uint8_t out[SHA256_SIZE])
{
    SCOPED(file_map_close) struct file_map map = {0};

    TRY(file_map_open(path, &map));
    return sha256_bytes(map.data, map.len, out);
}

const char *hex_of(const uint8_t *bytes, size_t n, char *text)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * n] = '\0';
    return text;
}

const char *sha256_hex(const uint8_t digest[SHA256_SIZE], char text[SHA256_HEX])
{
    return hex_of(digest, SHA256_SIZE, text);
}

/* The value of a hexadecimal digit, -1 for anything else. */
static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int sha256_parse(const char *text, uint8_t out[SHA256_SIZE])
{
    uint8_t digest[SHA256_SIZE];

    for (size_t i = 0; i < SHA256_SIZE; i++) {
        int high = digit(text[2 * i]), low = high < 0 ? -1 : digit(text[2 * i + 1]);
        if (low < 0)
            return fail(ERR_FORMAT, "a SHA-256 has 64 hexadecimal digits, this one stops at %zu",
                        2 * i + (high >= 0));
        digest[i] = (uint8_t)(high << 4 | low);
    }
    if (text[SHA256_HEX - 1] != '\0')
        return fail(ERR_FORMAT, "a SHA-256 has 64 hexadecimal digits, this one has more");
    for (size_t i = 0; i < SHA256_SIZE; i++)
        out[i] = digest[i];
    return 0;
}
