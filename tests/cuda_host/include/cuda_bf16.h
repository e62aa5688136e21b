/* cuda_bf16.h - bfloat16 as CUDA's header names it: f32 cut to 16 bits, rounded to nearest even, a NaN
 * becomes 0x7fff as on the GPU. Sums, products and quotients are those of f32, rounded once more, which is
 * the correctly rounded result. */
#ifndef UP_CUDA_HOST_BF16_H
#define UP_CUDA_HOST_BF16_H

#include "cuda_runtime.h"

static inline unsigned short up_cuda_host_to_bf16(float x) {
    const uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

struct alignas(2) __nv_bfloat16 {
    unsigned short bits;
    __nv_bfloat16() = default;
    __nv_bfloat16(float x) : bits(up_cuda_host_to_bf16(x)) {}
    __nv_bfloat16(int x) : bits(up_cuda_host_to_bf16((float)x)) {}
    operator float() const { return __uint_as_float((uint32_t)bits << 16); }
};
typedef __nv_bfloat16 nv_bfloat16;
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
    __nv_bfloat162() = default;
    __nv_bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) : x(a), y(b) {}
};
typedef __nv_bfloat162 nv_bfloat162;

static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
    __nv_bfloat16 h;
    h.bits = bits;
    return h;
}
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 h) {
    return h.bits;
}
static inline __nv_bfloat16 __float2bfloat16(float x) {
    return __nv_bfloat16(x);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    return __nv_bfloat16(x);
}
static inline float __bfloat162float(__nv_bfloat16 h) {
    return (float)h;
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
    return __nv_bfloat162(__nv_bfloat16(x), __nv_bfloat16(y));
}
static inline __nv_bfloat162 __float22bfloat162_rn(float2 v) {
    return __floats2bfloat162_rn(v.x, v.y);
}
static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) {
    return __nv_bfloat162(x, y);
}
static inline float2 __bfloat1622float2(__nv_bfloat162 v) {
    return make_float2((float)v.x, (float)v.y);
}
static inline float __low2float(__nv_bfloat162 v) {
    return (float)v.x;
}
static inline float __high2float(__nv_bfloat162 v) {
    return (float)v.y;
}
static inline __nv_bfloat16 operator+(__nv_bfloat16 a, __nv_bfloat16 b) {
    return __nv_bfloat16((float)a + (float)b);
}
static inline __nv_bfloat16 operator-(__nv_bfloat16 a, __nv_bfloat16 b) {
    return __nv_bfloat16((float)a - (float)b);
}
static inline __nv_bfloat16 operator*(__nv_bfloat16 a, __nv_bfloat16 b) {
    return __nv_bfloat16((float)a * (float)b);
}
static inline __nv_bfloat16 operator/(__nv_bfloat16 a, __nv_bfloat16 b) {
    return __nv_bfloat16((float)a / (float)b);
}
static inline __nv_bfloat16 operator-(__nv_bfloat16 a) {
    return __ushort_as_bfloat16((unsigned short)(a.bits ^ 0x8000u));
}
static inline bool __hisnan(__nv_bfloat16 a) {
    return (a.bits & 0x7fffu) > 0x7f80u;
}

#endif
