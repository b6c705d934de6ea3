/*
 * AES-128 as FIPS 197 defines it: S-box from inversion in GF(2^8) and the affine map, state in
 * columns. A test oracle; branches and tables depend on secrets.
 */
#include "tests/ref_aes.h"

#include <string.h>

static uint8_t times(uint8_t a, uint8_t b)
{
    unsigned sum = 0, power = a;

    for (int i = 0; i < 8; i++, power = power << 1 ^ (power & 0x80 ? 0x11b : 0))
        sum ^= b >> i & 1 ? power : 0;
    return (uint8_t)sum;
}

static uint8_t sbox(uint8_t v)
{
    unsigned inverse = 0, out = 0x63;

    for (unsigned c = 1; c < 256; c++)
        if (times(v, (uint8_t)c) == 1)
            inverse = c;
    for (int i = 0; i < 5; i++)
        out ^= inverse << i | inverse >> (8 - i);
    return (uint8_t)out;
}

/* key [11][16] from key[0]. */
static void expand(uint8_t key[11][16])
{
    uint8_t round = 1;

    for (int r = 1; r < 11; r++, round = times(round, 2)) {
        for (int i = 0; i < 4; i++)
            key[r][i] = key[r - 1][i] ^ sbox(key[r - 1][12 + (i + 1) % 4]);
        key[r][0] ^= round;
        for (int i = 4; i < 16; i++)
            key[r][i] = key[r - 1][i] ^ key[r][i - 4];
    }
}

static void substitute_and_shift(uint8_t s[16])
{
    uint8_t t[16];

    for (int c = 0; c < 4; c++)
        for (int r = 0; r < 4; r++)
            t[4 * c + r] = sbox(s[4 * ((c + r) % 4) + r]);
    memcpy(s, t, 16);
}

static void mix_columns(uint8_t s[16])
{
    for (uint8_t *c = s; c < s + 16; c += 4) {
        uint8_t a[4];

        memcpy(a, c, 4);
        for (int r = 0; r < 4; r++)
            c[r] = times(a[r], 2) ^ times(a[(r + 1) % 4], 3) ^ a[(r + 2) % 4] ^ a[(r + 3) % 4];
    }
}

void ref_aes128(const uint8_t key[16], const uint8_t in[16], uint8_t out[16])
{
    uint8_t k[11][16], s[16];

    memcpy(k[0], key, 16);
    expand(k);
    for (int i = 0; i < 16; i++)
        s[i] = in[i] ^ k[0][i];
    for (int r = 1; r < 11; r++) {
        substitute_and_shift(s);
        if (r < 10)
            mix_columns(s);
        for (int i = 0; i < 16; i++)
            s[i] ^= k[r][i];
    }
    memcpy(out, s, 16);
}
