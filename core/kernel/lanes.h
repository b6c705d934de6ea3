#ifndef CORE_KERNEL_LANES_H
#define CORE_KERNEL_LANES_H
/*
 * LANES_N floats in registers, one set of types and functions a code path:
 *
 *     lanes_P                     the type, P in avx512, avx2, generic
 *     zero_P()  set_P(v)          all lanes 0, all lanes v
 *     load_P(p) store_P(p, v)     unaligned
 *     add_P(a, b) sub_P(a, b) mul_P(a, b)
 *     fma_P(a, b, c)              a * b + c
 *     fnma_P(a, b, c)             c - a * b
 *     fma_lanes_P(sum, p, w)      sum + *p * w
 *     relu_P(v)                   0 where v <= 0, else v
 *     relu_where_P(v, m)          0 where v <= 0 and m > 1/2, else v
 *
 * The vector paths round products and sums of fma once, the generic one twice, whatever the
 * compiler: results are the same bits on one path and differ between paths.
 *
 * A file that includes this includes its own template (.inc) once a path.
 */
#include <string.h>

#define LANES_N 16

#if defined __x86_64__
#include <immintrin.h>

#define TARGET_avx512 __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,fma")))
#define INLINE_avx512 static inline __attribute__((always_inline)) TARGET_avx512
typedef __m512 lanes_avx512;
INLINE_avx512 lanes_avx512 zero_avx512(void)
{
    return _mm512_setzero_ps();
}
INLINE_avx512 lanes_avx512 set_avx512(float v)
{
    return _mm512_set1_ps(v);
}
INLINE_avx512 lanes_avx512 load_avx512(const float *p)
{
    return _mm512_loadu_ps(p);
}
INLINE_avx512 void store_avx512(float *p, lanes_avx512 v)
{
    _mm512_storeu_ps(p, v);
}
INLINE_avx512 lanes_avx512 add_avx512(lanes_avx512 a, lanes_avx512 b)
{
    return _mm512_add_ps(a, b);
}
INLINE_avx512 lanes_avx512 sub_avx512(lanes_avx512 a, lanes_avx512 b)
{
    return _mm512_sub_ps(a, b);
}
INLINE_avx512 lanes_avx512 mul_avx512(lanes_avx512 a, lanes_avx512 b)
{
    return _mm512_mul_ps(a, b);
}
INLINE_avx512 lanes_avx512 fma_avx512(lanes_avx512 a, lanes_avx512 b, lanes_avx512 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
INLINE_avx512 lanes_avx512 fnma_avx512(lanes_avx512 a, lanes_avx512 b, lanes_avx512 c)
{
    return _mm512_fnmadd_ps(a, b, c);
}
INLINE_avx512 lanes_avx512 fma_lanes_avx512(lanes_avx512 sum, const float *x, lanes_avx512 w)
{
    return _mm512_fmadd_ps(_mm512_set1_ps(*x), w, sum);
}
INLINE_avx512 lanes_avx512 relu_avx512(lanes_avx512 v)
{
    __mmask16 low = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_LE_OQ);

    return _mm512_maskz_mov_ps((__mmask16)~low, v);
}
INLINE_avx512 lanes_avx512 relu_where_avx512(lanes_avx512 v, lanes_avx512 m)
{
    __mmask16 low = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_LE_OQ);
    __mmask16 on = _mm512_cmp_ps_mask(m, _mm512_set1_ps(0.5F), _CMP_GT_OQ);

    return _mm512_maskz_mov_ps((__mmask16) ~(low & on), v);
}

#define TARGET_avx2 __attribute__((target("avx2,fma")))
#define INLINE_avx2 static inline __attribute__((always_inline)) TARGET_avx2
typedef struct {
    __m256 a, b;
} lanes_avx2;
INLINE_avx2 lanes_avx2 zero_avx2(void)
{
    return (lanes_avx2){_mm256_setzero_ps(), _mm256_setzero_ps()};
}
INLINE_avx2 lanes_avx2 set_avx2(float v)
{
    return (lanes_avx2){_mm256_set1_ps(v), _mm256_set1_ps(v)};
}
INLINE_avx2 lanes_avx2 load_avx2(const float *p)
{
    return (lanes_avx2){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
INLINE_avx2 void store_avx2(float *p, lanes_avx2 v)
{
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}
INLINE_avx2 lanes_avx2 add_avx2(lanes_avx2 a, lanes_avx2 b)
{
    return (lanes_avx2){_mm256_add_ps(a.a, b.a), _mm256_add_ps(a.b, b.b)};
}
INLINE_avx2 lanes_avx2 sub_avx2(lanes_avx2 a, lanes_avx2 b)
{
    return (lanes_avx2){_mm256_sub_ps(a.a, b.a), _mm256_sub_ps(a.b, b.b)};
}
INLINE_avx2 lanes_avx2 mul_avx2(lanes_avx2 a, lanes_avx2 b)
{
    return (lanes_avx2){_mm256_mul_ps(a.a, b.a), _mm256_mul_ps(a.b, b.b)};
}
INLINE_avx2 lanes_avx2 fma_avx2(lanes_avx2 a, lanes_avx2 b, lanes_avx2 c)
{
    return (lanes_avx2){_mm256_fmadd_ps(a.a, b.a, c.a), _mm256_fmadd_ps(a.b, b.b, c.b)};
}
INLINE_avx2 lanes_avx2 fnma_avx2(lanes_avx2 a, lanes_avx2 b, lanes_avx2 c)
{
    return (lanes_avx2){_mm256_fnmadd_ps(a.a, b.a, c.a), _mm256_fnmadd_ps(a.b, b.b, c.b)};
}
INLINE_avx2 lanes_avx2 fma_lanes_avx2(lanes_avx2 sum, const float *x, lanes_avx2 w)
{
    __m256 v = _mm256_broadcast_ss(x);

    return (lanes_avx2){_mm256_fmadd_ps(v, w.a, sum.a), _mm256_fmadd_ps(v, w.b, sum.b)};
}
INLINE_avx2 lanes_avx2 relu_avx2(lanes_avx2 v)
{
    const __m256 zero = _mm256_setzero_ps();

    return (lanes_avx2){_mm256_andnot_ps(_mm256_cmp_ps(v.a, zero, _CMP_LE_OQ), v.a),
                        _mm256_andnot_ps(_mm256_cmp_ps(v.b, zero, _CMP_LE_OQ), v.b)};
}
INLINE_avx2 __m256 relu_half_avx2(__m256 v, __m256 m)
{
    __m256 low = _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_LE_OQ);
    __m256 on = _mm256_cmp_ps(m, _mm256_set1_ps(0.5F), _CMP_GT_OQ);

    return _mm256_andnot_ps(_mm256_and_ps(low, on), v);
}
INLINE_avx2 lanes_avx2 relu_where_avx2(lanes_avx2 v, lanes_avx2 m)
{
    return (lanes_avx2){relu_half_avx2(v.a, m.a), relu_half_avx2(v.b, m.b)};
}
#endif

#define TARGET_generic
#define INLINE_generic static inline __attribute__((always_inline))
typedef float quad_generic __attribute__((vector_size(16)));
typedef struct {
    quad_generic q[4];
} lanes_generic;
INLINE_generic lanes_generic zero_generic(void)
{
    return (lanes_generic){{{0}, {0}, {0}, {0}}};
}
INLINE_generic lanes_generic set_generic(float v)
{
    quad_generic q = {v, v, v, v};

    return (lanes_generic){{q, q, q, q}};
}
INLINE_generic lanes_generic load_generic(const float *p)
{
    lanes_generic v;

    memcpy(&v, p, sizeof v);
    return v;
}
INLINE_generic void store_generic(float *p, lanes_generic v)
{
    memcpy(p, &v, sizeof v);
}
INLINE_generic lanes_generic add_generic(lanes_generic a, lanes_generic b)
{
    return (lanes_generic){{a.q[0] + b.q[0], a.q[1] + b.q[1], a.q[2] + b.q[2], a.q[3] + b.q[3]}};
}
INLINE_generic lanes_generic sub_generic(lanes_generic a, lanes_generic b)
{
    return (lanes_generic){{a.q[0] - b.q[0], a.q[1] - b.q[1], a.q[2] - b.q[2], a.q[3] - b.q[3]}};
}
INLINE_generic lanes_generic mul_generic(lanes_generic a, lanes_generic b)
{
    return (lanes_generic){{a.q[0] * b.q[0], a.q[1] * b.q[1], a.q[2] * b.q[2], a.q[3] * b.q[3]}};
}
INLINE_generic lanes_generic fma_generic(lanes_generic a, lanes_generic b, lanes_generic c)
{
    return (lanes_generic){{a.q[0] * b.q[0] + c.q[0], a.q[1] * b.q[1] + c.q[1],
                            a.q[2] * b.q[2] + c.q[2], a.q[3] * b.q[3] + c.q[3]}};
}
INLINE_generic lanes_generic fnma_generic(lanes_generic a, lanes_generic b, lanes_generic c)
{
    return (lanes_generic){{c.q[0] - a.q[0] * b.q[0], c.q[1] - a.q[1] * b.q[1],
                            c.q[2] - a.q[2] * b.q[2], c.q[3] - a.q[3] * b.q[3]}};
}
INLINE_generic lanes_generic fma_lanes_generic(lanes_generic sum, const float *x, lanes_generic w)
{
    quad_generic v = {*x, *x, *x, *x};

    return (lanes_generic){{v * w.q[0] + sum.q[0], v * w.q[1] + sum.q[1], v * w.q[2] + sum.q[2],
                            v * w.q[3] + sum.q[3]}};
}
typedef int quad_bits __attribute__((vector_size(16)));
INLINE_generic lanes_generic relu_generic(lanes_generic v)
{
    for (int i = 0; i < 4; i++)
        v.q[i] = (quad_generic)((quad_bits)v.q[i] & ~(v.q[i] <= 0));
    return v;
}
INLINE_generic lanes_generic relu_where_generic(lanes_generic v, lanes_generic m)
{
    for (int i = 0; i < 4; i++)
        v.q[i] = (quad_generic)((quad_bits)v.q[i] & ~((v.q[i] <= 0) & (m.q[i] > 0.5F)));
    return v;
}
#endif
