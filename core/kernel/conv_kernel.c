/*
 * Convolution kernels for the three code paths; the bodies are in conv_kernel.inc.
 *
 * Tile sizes: 16 sums keep the fused multiply-adds of AVX-512 busy (latency 4, one or two a cycle)
 * and leave registers free; AVX2 has 16 registers, so 6 pixels x 2 registers, 2 weights and a
 * broadcast (weight gradients: 6 terms x 2). Plain C uses 4-wide vectors, which compilers map to SSE or NEON.
 */
#include "core/kernel/conv_kernel.h"

#include "core/kernel/lanes.h"

#if defined __x86_64__
#define PATH(name) name##_avx512
#define TARGET TARGET_avx512
#define GROUPS 4
#define PAIR_GROUPS 3
#define PIXELS 4
#define OUTER_TERMS 16
#include "core/kernel/conv_kernel.inc"

#define PATH(name) name##_avx2
#define TARGET TARGET_avx2
#define GROUPS 3
#define PAIR_GROUPS 0
#define PIXELS 2
#define OUTER_TERMS 6
#include "core/kernel/conv_kernel.inc"
#endif

#define PATH(name) name##_generic
#define TARGET TARGET_generic
#define GROUPS 1
#define PAIR_GROUPS 0
#define PIXELS 2
#define OUTER_TERMS 2
#include "core/kernel/conv_kernel.inc"

const struct conv_kernels *conv_kernels_of(enum cpu_path path)
{
    return CPU_KERNELS(path, kernels);
}
