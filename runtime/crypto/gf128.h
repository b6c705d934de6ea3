#ifndef RUNTIME_CRYPTO_GF128_H
#define RUNTIME_CRYPTO_GF128_H
/*
 * The field of 2^128 elements, GF(2)[x] modulo x^128 + x^7 + x^2 + x + 1. Bit i of a block is the
 * coefficient of x^i, addition is exclusive or. For the consistency checks of oblivious transfers:
 * no branch or address depends on an element.
 */
#include <stddef.h>
#include <stdint.h>

#include "core/base/cpu.h"
#include "runtime/crypto/prg.h"

struct block gf128_mul(struct block a, struct block b);
/* Sum of a[i] * b[i], i < n; 0 for n = 0. path as in bits.h: above CPU_GENERIC with the carry-less
 * products of the CPU where it has them. Every path gives the same element. */
struct block gf128_dot(enum cpu_path path, const struct block *a, const struct block *b, size_t n);
#endif
