/* Vectors of floats as wide as the instruction set allows, in GCC's portable vector extension.
 *
 * VARIANT names the instruction set this file is compiled for; every exported symbol ends in it.
 */
#ifndef CHARRNN_VECTOR_H
#define CHARRNN_VECTOR_H

#include <stdint.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#else /* one thread: the pragmas are nothing then */
static inline int omp_get_thread_num(void) { return 0; }
static inline int omp_get_num_threads(void) { return 1; }
#endif

#if defined(__AVX512F__)
#include <immintrin.h>
#define WIDTH 16    /* floats in a vector */
#define REGISTERS 32 /* vectors the processor holds */
#elif defined(__AVX2__)
#include <immintrin.h>
#define WIDTH 8
#define REGISTERS 16
#else
#define WIDTH 4
#define REGISTERS 16
#endif

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define EXPORT(name) __attribute__((visibility("default"))) int JOIN(charrnn_##name, VARIANT)
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef float vec_anywhere __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t ints __attribute__((vector_size(4 * WIDTH)));
typedef uint32_t uints __attribute__((vector_size(4 * WIDTH)));
INLINE vec splat(float x) { return x - (vec){}; }
INLINE vec load(const float *p) { return *(const vec_anywhere *)p; }
INLINE void store(float *p, vec v) { *(vec_anywhere *)p = v; }

INLINE ints splat_ints(int32_t x) { return x - (ints){}; }

/* Two numbers of 8 bits for every lane, as two of 16; compilers convert such short vectors one by one. */
INLINE ints load_pairs(const int8_t *p) {
#if defined(__AVX512BW__)
    return (ints)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
#elif defined(__AVX2__)
    return (ints)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
#else
    ints v;
    for (int i = 0; i < WIDTH; i++) v[i] = (p[2 * i] & 0xffff) | p[2 * i + 1] * 65536;
    return v;
#endif
}

/* The inner product of two pairs of 16 bits in every lane. */
INLINE ints multiply_pairs(ints a, ints b) {
#if defined(__AVX512BW__)
    return (ints)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
    return ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}

INLINE void store_shorts(int16_t *p, ints v) {
#if defined(__AVX512F__)
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16((__m512i)v));
#else
    for (int i = 0; i < WIDTH; i++) p[i] = (int16_t)v[i];
#endif
}

/* The first n floats, the others zero; a row may end inside a vector. */
INLINE vec load_part(const float *p, int n) {
    if (n >= WIDTH) return load(p);
    vec v = {};
    memcpy(&v, p, (size_t)n * sizeof(float));
    return v;
}

INLINE void store_part(float *p, vec v, int n) {
    if (n >= WIDTH) store(p, v);
    else memcpy(p, &v, (size_t)n * sizeof(float));
}

/* Not-a-number stays what it is: a diverged network must not look alive. */
INLINE vec clamp(vec x, float low, float high) {
#if defined(__AVX512F__)
    return (vec)_mm512_max_ps(_mm512_set1_ps(low), _mm512_min_ps(_mm512_set1_ps(high), (__m512)x));
#elif defined(__AVX2__)
    return (vec)_mm256_max_ps(_mm256_set1_ps(low), _mm256_min_ps(_mm256_set1_ps(high), (__m256)x));
#else
    for (int i = 0; i < WIDTH; i++) x[i] = x[i] > high ? high : x[i] < low ? low : x[i];
    return x;
#endif
}

/* 1 / x to the last bit or two: an estimate of 12 or 14 bits and Newton's steps beat a division. */
INLINE vec reciprocal(vec x) {
#if defined(__AVX512F__)
    vec y = (vec)_mm512_rcp14_ps((__m512)x);
    return y * (2.0f - x * y);
#elif defined(__AVX2__)
    vec y = (vec)_mm256_rcp_ps((__m256)x);
    y = y * (2.0f - x * y);
    return y * (2.0f - x * y);
#else
    return 1.0f / x;
#endif
}

/* e^x with a relative error below 2e-7, for |x| <= 87; larger arguments are cut off there.
 * x = n ln 2 + r, |r| <= ln(2) / 2; e^r by a minimax polynomial (the coefficients are those of Cephes' expf). */
INLINE vec exponential(vec x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
    x = clamp(x, -87.0f, 87.0f);
    vec n = x * 1.44269504088896341f + magic;
    ints power = (ints)n << 23; /* the magic number's own low bits are zero */
    n -= magic;
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return (vec)((ints)p + power);
}

INLINE vec sigmoid(vec x) { return reciprocal(1.0f + exponential(-x)); }
INLINE vec hyperbolic_tangent(vec x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }
INLINE vec rectifier(vec x) { return (vec)((ints)x & ~(x < 0)); }

#endif
