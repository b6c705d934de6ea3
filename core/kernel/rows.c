/*
 * Passes over rows for the three code paths; the bodies are in rows.inc. Plain loops that the
 * compiler vectorises for the path's instructions; only the sums in double are written with
 * vectors, because there compilers leave the sums in memory.
 */
#include "core/kernel/rows.h"

#include <string.h>

typedef double eight_doubles __attribute__((vector_size(64)));
typedef float eight_floats __attribute__((vector_size(32)));

/* to = p[0] ... p[7]; by address, because the widest vectors have no agreed way to be returned. */
#define WIDEN(path, target)                                                                        \
    static inline __attribute__((always_inline))                                                   \
    target void widen_##path(eight_doubles *to, const float *p)                                    \
    {                                                                                              \
        eight_floats v;                                                                            \
                                                                                                   \
        memcpy(&v, p, sizeof v);                                                                   \
        *to = __builtin_convertvector(v, eight_doubles);                                           \
    }

#if defined __x86_64__
#define TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,fma")))
#define PATH(name) name##_avx512
WIDEN(avx512, TARGET)
#include "core/kernel/rows.inc"

#define TARGET __attribute__((target("avx2,fma")))
#define PATH(name) name##_avx2
WIDEN(avx2, TARGET)
#include "core/kernel/rows.inc"
#endif

#define TARGET
#define PATH(name) name##_generic
WIDEN(generic, TARGET)
#include "core/kernel/rows.inc"

const struct rows_kernels *rows_kernels_of(enum cpu_path path)
{
    return CPU_KERNELS(path, rows);
}
