#ifndef CORE_BASE_MINMAX_H
#define CORE_BASE_MINMAX_H
/* The smaller and the larger of two numbers, each argument evaluated once, their greatest divisor, and parts
 * of a number. */
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
/* Where part `part` of `parts` of `count` things begins; 0 of 0: everything. */
static inline int64_t part_begin(int64_t count, int64_t part, int64_t parts)
{
    return parts == 0 ? (part == 0 ? 0 : count) : count * part / parts;
}
static inline size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}
#endif
