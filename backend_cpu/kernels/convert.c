/* convert.c - rows of IEEE 754 binary16 and bfloat16 to f32 and back, as ref/ops/cast.c defines it: to
 * nearest, ties to even; overflow gives infinity, NaN stays NaN. Nothing here computes with a denormal f32,
 * so the floating point mode does not matter. */
#include "backend_cpu/kernels/vector.h"
#include "uniperceiver/tensor.h"

UP_INLINE uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
UP_INLINE float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* A binary16 below its normal numbers is a count of 2^-24: put under the exponent of 2^-14, which is then
 * taken off again. */
UP_INLINE float from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;
    uint32_t normal = rest + (112u << 23), special = rest | 0x7f800000u;
    uint32_t small = bits_of(float_of(rest + (113u << 23)) - 0x1p-14f);
    uint32_t bits = rest < 1u << 23 ? small : rest >= 31u << 23 ? special : normal;
    return float_of(sign | bits);
}

/* Below 2^-14 the sum with 1/2 rounds to a count of 2^-24; above, half of the 13 bits that are cut is added,
 * less one where the last one that stays is even. */
UP_INLINE uint16_t to_f16(float x) {
    uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    uint32_t small = bits_of(float_of(rest < 113u << 23 ? rest : 0) + 0.5f) - bits_of(0.5f);
    uint32_t normal = (rest - (112u << 23) + 0xfff + (rest >> 13 & 1)) >> 13;
    uint32_t half = rest < 113u << 23 ? small : normal;
    half = rest >= 0x477ff000u ? 0x7c00 : half; /* 65520: half way between 65504 and the next step */
    half = rest > 0x7f800000u ? 0x7e00 : half;
    return (uint16_t)(sign | half);
}

UP_INLINE uint16_t to_bf16(float x) {
    uint32_t bits = bits_of(x), rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000u ? bits >> 16 | 0x40 : rounded);
}

void UP_K(widen)(int64_t n, int dtype, const uint16_t *restrict x, float *restrict y) {
    if (dtype == UP_F16) {
#pragma omp simd
        for (int64_t j = 0; j < n; j++) y[j] = from_f16(x[j]);
    } else {
#pragma omp simd
        for (int64_t j = 0; j < n; j++) y[j] = float_of((uint32_t)x[j] << 16);
    }
}

void UP_K(narrow)(int64_t n, int dtype, const float *restrict x, uint16_t *restrict y) {
    if (dtype == UP_F16) {
#pragma omp simd
        for (int64_t j = 0; j < n; j++) y[j] = to_f16(x[j]);
    } else {
#pragma omp simd
        for (int64_t j = 0; j < n; j++) y[j] = to_bf16(x[j]);
    }
}

void UP_K(fill_convert)(up_cpu_kernels *k) {
    k->widen = UP_K(widen);
    k->narrow = UP_K(narrow);
}
