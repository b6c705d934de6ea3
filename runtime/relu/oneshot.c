/*
 * The terms of oneshot.h. With a_i, b_i the client's bits of lt_i, eq_i and A_i, B_i the server's, the
 * result is the sum over i of (a_i ^ A_i) times the product over j > i of (b_j ^ B_j). Multiplied
 * out, by what the client knows (T: a set of digits above i, or above 0):
 *
 *     b_T          times the sum over i below all of T of A_i times B of the digits above i not in T
 *     a_i * b_T    times B of the digits above i that are not in T
 *
 * Order: the first kind by T = 1, 2, ... as a number whose bit j-1 stands for digit j; then the second
 * kind by i, and T as a number whose bit 0 stands for digit i+1. T = nothing in the first kind is the
 * server's own; T = all digits above i in the second kind is the client's own.
 */
#include "runtime/relu/oneshot.h"

#define MOST_SETS (1 << (ONESHOT_MOST_DIGITS - 1))

size_t oneshot_terms(int digits)
{
    size_t sets = (size_t)1 << (digits - 1);

    return 3 * sets - 2 - (size_t)digits;
}

/* Products of e [digits], digit 0 left out, over every set of digits. */
static void products(int digits, const uint64_t *e, uint64_t product[MOST_SETS])
{
    product[0] = UINT64_MAX;
    for (unsigned set = 1; set < 1u << (digits - 1); set++) {
        unsigned low = (unsigned)__builtin_ctz(set);

        product[set] = product[set & (set - 1)] & e[low + 1];
    }
}

/* The terms of 64 comparisons; lt, eq [digits]. */
static void client_word(int digits, const uint64_t *lt, const uint64_t *eq, uint64_t *factor,
                        uint64_t *alone)
{
    uint64_t product[MOST_SETS];

    products(digits, eq, product);
    *alone = 0;
    for (unsigned set = 1; set < 1u << (digits - 1); set++)
        *factor++ = product[set];
    for (int i = 0; i < digits; i++) {
        unsigned all = (1u << (digits - 1 - i)) - 1;

        for (unsigned set = 0; set < all; set++)
            *factor++ = lt[i] & product[set << i];
        *alone ^= lt[i] & product[all << i];
    }
}

static void server_word(int digits, const uint64_t *lt, const uint64_t *eq, uint64_t *factor,
                        uint64_t *alone)
{
    uint64_t product[MOST_SETS];
    unsigned digits_above_0 = (1u << (digits - 1)) - 1;

    products(digits, eq, product);
    for (unsigned set = 0; set <= digits_above_0; set++) {
        int below =
            set == 0 ? digits : __builtin_ctz(set) + 1; /* digits less than all of the set */
        uint64_t sum = 0;

        for (int i = 0; i < below; i++)
            sum ^= lt[i] & product[(digits_above_0 & ~set) >> i << i];
        if (set == 0)
            *alone = sum;
        else
            *factor++ = sum;
    }
    for (int i = 0; i < digits; i++) {
        unsigned all = (1u << (digits - 1 - i)) - 1;

        for (unsigned set = 0; set < all; set++)
            *factor++ = product[(all & ~set) << i];
    }
}

static void each_word(int digits, size_t words, const uint64_t *lt, const uint64_t *eq,
                      uint64_t *factor, uint64_t *alone,
                      void (*one)(int, const uint64_t *, const uint64_t *, uint64_t *, uint64_t *))
{
    size_t terms = oneshot_terms(digits);
    uint64_t l[ONESHOT_MOST_DIGITS], e[ONESHOT_MOST_DIGITS], term[3 * MOST_SETS];

    for (size_t w = 0; w < words; w++) {
        for (size_t i = 0; i < (size_t)digits; i++) {
            l[i] = lt[i * words + w];
            e[i] = eq[i * words + w];
        }
        one(digits, l, e, term, &alone[w]);
        for (size_t k = 0; k < terms; k++)
            factor[k * words + w] = term[k];
    }
}

void oneshot_server(int digits, size_t words, const uint64_t *lt, const uint64_t *eq,
                    uint64_t *factor, uint64_t *alone)
{
    each_word(digits, words, lt, eq, factor, alone, server_word);
}

void oneshot_client(int digits, size_t words, const uint64_t *lt, const uint64_t *eq,
                    uint64_t *factor, uint64_t *alone)
{
    each_word(digits, words, lt, eq, factor, alone, client_word);
}
