/* MD5 by RFC 1321, and the sums that the publishers of CIFAR and its corruptions state. */
#include "trainer/data/md5.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define BLOCK 64

static const struct {
    const char *file, *md5;
} published[] = {
    {"cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"},
    {"cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"},
    {"cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"},
    {"cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"},
    {"CIFAR-10-C.tar", "56bf5dcef84df0e2308c6dcbcbbd8499"},
    {"CIFAR-100-C.tar", "11f0ed0f1191edbf9fa23466ae6021d3"},
    {"tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"},
    {"data_batch_1", "c99cafc152244af753f735de768cd75f"},
    {"data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"},
    {"data_batch_3", "54ebc095f3ab1f0389bbae665268c751"},
    {"data_batch_4", "634d18415352ddfa80567beed471001a"},
    {"data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"},
    {"test_batch", "40351d587109b95175f43aff81a1287e"},
};

const char *md5_published(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;

    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++)
        if (strcmp(name, published[i].file) == 0)
            return published[i].md5;
    return NULL;
}

static uint32_t turn(uint32_t v, int by)
{
    return v << by | v >> (32 - by);
}

/* sine [64]: floor(2^32 |sin(i + 1)|) */
static void add_block(uint32_t state[4], const uint32_t sine[64], const uint8_t block[BLOCK])
{
    static const int by[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];

    for (uint32_t i = 0; i < 64; i++) {
        const uint32_t place[4] = {i, 5 * i + 1, 3 * i + 5, 7 * i};
        const uint32_t mix[4] = {(b & c) | (~b & d), (d & b) | (~d & c), b ^ c ^ d, c ^ (b | ~d)};
        const uint8_t *w = block + place[i / 16] % 16 * 4;
        const uint32_t word =
            w[0] | (uint32_t)w[1] << 8 | (uint32_t)w[2] << 16 | (uint32_t)w[3] << 24;
        const uint32_t next = b + turn(a + mix[i / 16] + word + sine[i], by[i / 16][i % 4]);
        a = d;
        d = c;
        c = b;
        b = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
}

/* The rest, a bit 1, zeros and the length in bits. */
static void finish(uint32_t state[4], const uint32_t sine[64], const uint8_t *rest, size_t n,
                   uint64_t bytes)
{
    uint8_t last[2 * BLOCK] = {0};
    const size_t len = n < BLOCK - 8 ? BLOCK : 2 * BLOCK;

    memcpy(last, rest, n);
    last[n] = 0x80;
    for (int i = 0; i < 8; i++)
        last[len - 8 + (size_t)i] = (uint8_t)(bytes * 8 >> (8 * i));
    for (size_t i = 0; i < len; i += BLOCK)
        add_block(state, sine, last + i);
}

int md5_file(const char *path, char text[MD5_TEXT])
{
    uint32_t state[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    uint32_t sine[64];
    uint8_t block[BLOCK];
    uint64_t bytes = 0;
    size_t n;
    FILE *f = fopen(path, "rb");

    if (f == NULL)
        return fail(ERR_IO, "'%s' cannot be opened", path);
    for (int i = 0; i < 64; i++)
        sine[i] = (uint32_t)(fabs(sin(i + 1.0)) * 4294967296.0);
    while ((n = fread(block, 1, BLOCK, f)) == BLOCK) {
        add_block(state, sine, block);
        bytes += BLOCK;
    }
    const int failed = ferror(f);
    fclose(f);
    if (failed)
        return fail(ERR_IO, "'%s' cannot be read", path);
    finish(state, sine, block, n, bytes + n);
    for (int i = 0; i < 16; i++)
        snprintf(text + 2 * i, 3, "%02x", (unsigned)(state[i / 4] >> (8 * (i % 4)) & 255));
    return 0;
}
