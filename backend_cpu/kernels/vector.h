/* vector.h - what the kernels share: the names' suffix, the vector width, exp and the normal distribution
 * function. Loops are left to the compiler; only the multiply tiles (tile.h) spell their vectors. */
#ifndef UP_CPU_VECTOR_H
#define UP_CPU_VECTOR_H

#include "backend_cpu/kernels.h"

#include <math.h>
#include <string.h>

#define UP_JOIN_(a, b) a##_##b
#define UP_JOIN(a, b)  UP_JOIN_(a, b)
#define UP_K(name)     UP_JOIN(up_cpu_##name, UP_ISA) /* up_cpu_gemm_avx2, ... */

/* Each kernel file fills its part of the table. */
void UP_K(fill_product)(up_cpu_kernels *k);
void UP_K(fill_pack)(up_cpu_kernels *k);
void UP_K(fill_finish)(up_cpu_kernels *k);
void UP_K(fill_rows)(up_cpu_kernels *k);
void UP_K(fill_convert)(up_cpu_kernels *k);
void UP_K(fill_loss)(up_cpu_kernels *k);
void UP_K(fill_update)(up_cpu_kernels *k);
void UP_K(fill_attention)(up_cpu_kernels *k);

/* convert.c: n elements of UP_F16 or UP_BF16 to f32 and back. */
void UP_K(widen)(int64_t n, int dtype, const uint16_t *restrict x, float *restrict y);
void UP_K(narrow)(int64_t n, int dtype, const float *restrict x, uint16_t *restrict y);

/* Floats of a vector; rows of a tile of the matrix product, of two vectors each. */
#if defined(__AVX512F__)
enum { UP_VW = 16, UP_TILE_HEIGHT = 14 }; /* 28 accumulators of 32 registers */
#elif defined(__AVX2__)
enum { UP_VW = 8, UP_TILE_HEIGHT = 6 }; /* 12 of 16 */
#else
enum { UP_VW = 4, UP_TILE_HEIGHT = 4 }; /* 8 of 16, as multiply and add are apart */
#endif

#if defined(__clang__)
#define UP_UNROLL _Pragma("clang loop unroll(full)")
#else
#define UP_UNROLL _Pragma("GCC unroll 16")
#endif
#define UP_INLINE static inline __attribute__((always_inline))

/* e^x for x <= 88, at most 1 ulp from the true value for x >= -87; below that it stays at e^-87 = 1.6e-38.
 * x = n ln 2 + r, |r| <= ln 2 / 2; e^r = 1 + r + r^2 p(r), p a minimax fit of relative error 3.1e-9. */
UP_INLINE float up_exp(float x) {
    x = x < -87.0f ? -87.0f : x;
    float shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the integer lands in the low bits */
    float n = shifted - 12582912.0f;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f; /* ln 2 in two parts, the first exact times n */
    float p = 0.00138145985f;
    p = p * r + 0.00836871689f;
    p = p * r + 0.041668388f;
    p = p * r + 0.166665206f;
    p = p * r + 0.499999934f;
    p = (p * r) * r + r + 1.0f;
    int32_t bits;
    memcpy(&bits, &shifted, 4);
    uint32_t power = ((uint32_t)bits + 127u) << 23; /* 2^n: the constant's own bits fall off */
    float factor;
    memcpy(&factor, &power, 4);
    return p * factor;
}

/* Phi(v), the standard normal distribution function, and its density: Phi(-t) = exp(-t^2 / 2) R(t), R smooth,
 * fitted in s = 1 / (1 + 0.35 t) to a relative error of 3.2e-8. No cancellation in the lower tail, unlike 1 +
 * erf. */
UP_INLINE float up_phi(float v, float *density) {
    float t = fabsf(v);
    t = t > 13.0f ? 13.0f : t;
    float s = 1.0f / (1.0f + 0.35f * t), e = up_exp(-0.5f * t * t);
    float p = -0.029120683f;
    p = p * s + 0.143846529f;
    p = p * s - 0.255450326f;
    p = p * s + 0.158865893f;
    p = p * s - 0.0228923772f;
    p = p * s + 0.105413455f;
    p = p * s + 0.119857524f;
    p = p * s + 0.139858356f;
    p = p * s + 0.139621613f;
    float tail = e * (p * s);
    *density = 0.398942280f * e;
    return v < 0.0f ? tail : 1.0f - tail;
}

/* ln x for normal x > 0 (any finite number for x <= 0, NaN for NaN): x = 2^e (1 + t), |t| < 0.42;
 * ln(1 + t) = t - t^2 / 2 + t^3 p(t), p a minimax fit of relative error 3.2e-8. */
UP_INLINE float up_log(float x) {
    int32_t bits;
    memcpy(&bits, &x, 4);
    int32_t e = (bits - 0x3f3504f3) >> 23; /* from sqrt(1/2) on */
    int32_t mantissa = (int32_t)((uint32_t)bits - ((uint32_t)e << 23));
    float m, n = (float)e;
    memcpy(&m, &mantissa, 4);
    float t = m - 1.0f, p = 0.0869925037f;
    p = p * t - 0.142681717f;
    p = p * t + 0.149154177f;
    p = p * t - 0.165775287f;
    p = p * t + 0.199630049f;
    p = p * t - 0.250013379f;
    p = p * t + 0.33333912f;
    p = (p * t - 0.5f) * (t * t) + n * -2.12194440e-4f;
    p = n * 0.693359375f + (t + p);
    return x == x ? p : x;
}

UP_INLINE int64_t up_round_up(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

#endif
