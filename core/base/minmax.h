#ifndef CORE_BASE_MINMAX_H
#define CORE_BASE_MINMAX_H
/* The smaller and the larger of two numbers, each argument evaluated once, and their greatest divisor. */
#include <stddef.h>
#include <stdint.h>

static inline int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static inline int64_t max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}
static inline int64_t gcd_i64(int64_t a, int64_t b)
{
    while (b != 0) {
        int64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}
static inline size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}
#endif
