/*
 * Convolution kernels for the three code paths; the bodies are in conv_kernel.inc.
 *
 * Tile sizes: 16 sums keep the fused multiply-adds of AVX-512 busy (latency 4, one or two a cycle)
 * and leave registers free; AVX2 has 16 registers, so 4 pixels x 2 registers, 2 weights and a
 * broadcast. Plain C uses 4-wide vectors, which compilers map to SSE or NEON.
 */
#include "core/conv_kernel.h"

#include <string.h>

#if defined __x86_64__
#include <immintrin.h>

#define PATH(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,fma")))
#define GROUPS 4
#define PIXELS 4
#define OUTER_TERMS 16
#define LANES __m512
static inline __attribute__((always_inline)) TARGET LANES zero_avx512(void)
{
    return _mm512_setzero_ps();
}
static inline __attribute__((always_inline)) TARGET LANES load_avx512(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline __attribute__((always_inline)) TARGET void store_avx512(float *p, LANES v)
{
    _mm512_storeu_ps(p, v);
}
static inline __attribute__((always_inline)) TARGET LANES sum_avx512(LANES a, LANES b)
{
    return _mm512_add_ps(a, b);
}
static inline __attribute__((always_inline)) TARGET LANES fma_lanes_avx512(LANES sum,
                                                                           const float *x, LANES w)
{
    return _mm512_fmadd_ps(_mm512_set1_ps(*x), w, sum);
}
#include "core/conv_kernel.inc"
#undef PATH
#undef TARGET
#undef GROUPS
#undef PIXELS
#undef OUTER_TERMS
#undef LANES

#define PATH(name) name##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define GROUPS 1
#define PIXELS 4
#define OUTER_TERMS 4
struct lanes_avx2 {
    __m256 a, b;
};
#define LANES struct lanes_avx2
static inline __attribute__((always_inline)) TARGET LANES zero_avx2(void)
{
    return (LANES){_mm256_setzero_ps(), _mm256_setzero_ps()};
}
static inline __attribute__((always_inline)) TARGET LANES load_avx2(const float *p)
{
    return (LANES){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
static inline __attribute__((always_inline)) TARGET void store_avx2(float *p, LANES v)
{
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}
static inline __attribute__((always_inline)) TARGET LANES sum_avx2(LANES a, LANES b)
{
    return (LANES){_mm256_add_ps(a.a, b.a), _mm256_add_ps(a.b, b.b)};
}
static inline __attribute__((always_inline)) TARGET LANES fma_lanes_avx2(LANES sum, const float *x,
                                                                         LANES w)
{
    __m256 v = _mm256_broadcast_ss(x);
    return (LANES){_mm256_fmadd_ps(v, w.a, sum.a), _mm256_fmadd_ps(v, w.b, sum.b)};
}
#include "core/conv_kernel.inc"
#undef PATH
#undef TARGET
#undef GROUPS
#undef PIXELS
#undef OUTER_TERMS
#undef LANES
#endif

#define PATH(name) name##_generic
#define TARGET
#define GROUPS 1
#define PIXELS 2
#define OUTER_TERMS 2
typedef float quad __attribute__((vector_size(16)));
struct lanes_generic {
    quad a, b, c, d;
};
#define LANES struct lanes_generic
static inline __attribute__((always_inline)) LANES zero_generic(void)
{
    return (LANES){{0}, {0}, {0}, {0}};
}
static inline __attribute__((always_inline)) LANES load_generic(const float *p)
{
    LANES v;
    memcpy(&v.a, p, sizeof v.a);
    memcpy(&v.b, p + 4, sizeof v.b);
    memcpy(&v.c, p + 8, sizeof v.c);
    memcpy(&v.d, p + 12, sizeof v.d);
    return v;
}
static inline __attribute__((always_inline)) void store_generic(float *p, LANES v)
{
    memcpy(p, &v.a, sizeof v.a);
    memcpy(p + 4, &v.b, sizeof v.b);
    memcpy(p + 8, &v.c, sizeof v.c);
    memcpy(p + 12, &v.d, sizeof v.d);
}
static inline __attribute__((always_inline)) LANES sum_generic(LANES a, LANES b)
{
    return (LANES){a.a + b.a, a.b + b.b, a.c + b.c, a.d + b.d};
}
static inline __attribute__((always_inline)) LANES fma_lanes_generic(LANES sum, const float *x,
                                                                     LANES w)
{
    quad v = {*x, *x, *x, *x};
    return (LANES){v * w.a + sum.a, v * w.b + sum.b, v * w.c + sum.c, v * w.d + sum.d};
}
#include "core/conv_kernel.inc"

const struct conv_kernels *conv_kernels_of(enum cpu_path path)
{
#if defined __x86_64__
    if (path == CPU_AVX512)
        return &kernels_avx512;
    if (path == CPU_AVX2)
        return &kernels_avx2;
#else
    (void)path;
#endif
    return &kernels_generic;
}
