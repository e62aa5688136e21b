/* cuda_fp16.h - IEEE binary16 as CUDA's header names it. Conversions are exact: round to nearest even,
 * denormals kept, a NaN becomes 0x7fff as on the GPU. Sums, products and quotients are those of f32, rounded
 * once more: since 24 bits are at least 2 * 11 + 2, that is the correctly rounded result. */
#ifndef UP_CUDA_HOST_FP16_H
#define UP_CUDA_HOST_FP16_H

#include "cuda_runtime.h"

static inline unsigned short up_cuda_host_to_half(float x) {
    uint32_t bits = __float_as_uint(x);
    const uint32_t sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return 0x7fff;
    if (bits >= 0x47800000u) return (unsigned short)(sign | 0x7c00u); /* 65536 and more, infinity */
    if (bits < 0x38800000u) { /* under 2^-14: the sum's last bit is worth 2^-24 */
        const float sum = __uint_as_float(bits) + 0.5f;
        return (unsigned short)(sign | (__float_as_uint(sum) - 0x3f000000u));
    }
    bits += 0xfffu + (bits >> 13 & 1u);
    return (unsigned short)(sign | (bits - 0x38000000u) >>
                                       13); /* a carry out of the mantissa, up to infinity, is right */
}

static inline float up_cuda_host_from_half(unsigned short h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 31u, mantissa = h & 0x3ffu;
    if (exponent == 31) return __uint_as_float(mantissa ? 0x7fffffffu : sign | 0x7f800000u);
    if (exponent == 0) return __uint_as_float(sign | __float_as_uint((float)mantissa * 0x1p-24f));
    return __uint_as_float(sign | (exponent + 112) << 23 | mantissa << 13);
}

struct alignas(2) __half {
    unsigned short bits;
    __half() = default;
    __half(float x) : bits(up_cuda_host_to_half(x)) {}
    __half(int x) : bits(up_cuda_host_to_half((float)x)) {}
    operator float() const { return up_cuda_host_from_half(bits); }
};
typedef __half half;
struct alignas(4) __half2 {
    __half x, y;
    __half2() = default;
    __half2(__half a, __half b) : x(a), y(b) {}
};
typedef __half2 half2;

static inline __half __ushort_as_half(unsigned short bits) {
    __half h;
    h.bits = bits;
    return h;
}
static inline unsigned short __half_as_ushort(__half h) {
    return h.bits;
}
static inline __half __float2half(float x) {
    return __half(x);
}
static inline __half __float2half_rn(float x) {
    return __half(x);
}
static inline float __half2float(__half h) {
    return (float)h;
}
static inline __half2 __floats2half2_rn(float x, float y) {
    return __half2(__half(x), __half(y));
}
static inline __half2 __float22half2_rn(float2 v) {
    return __floats2half2_rn(v.x, v.y);
}
static inline __half2 __halves2half2(__half x, __half y) {
    return __half2(x, y);
}
static inline __half2 __half2half2(__half x) {
    return __half2(x, x);
}
static inline float2 __half22float2(__half2 v) {
    return make_float2((float)v.x, (float)v.y);
}
static inline float __low2float(__half2 v) {
    return (float)v.x;
}
static inline float __high2float(__half2 v) {
    return (float)v.y;
}
static inline __half operator+(__half a, __half b) {
    return __half((float)a + (float)b);
}
static inline __half operator-(__half a, __half b) {
    return __half((float)a - (float)b);
}
static inline __half operator*(__half a, __half b) {
    return __half((float)a * (float)b);
}
static inline __half operator/(__half a, __half b) {
    return __half((float)a / (float)b);
}
static inline __half operator-(__half a) {
    return __ushort_as_half((unsigned short)(a.bits ^ 0x8000u));
}
static inline bool __hisnan(__half a) {
    return (a.bits & 0x7fffu) > 0x7c00u;
}

#endif
