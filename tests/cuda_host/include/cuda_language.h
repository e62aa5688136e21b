/* cuda_language.h - the subset of CUDA C++ that kernels use, for a C++17 compiler: qualifiers, vector types,
 * the index of a thread, barriers, warp operations, atomics, intrinsics. What the GPU does by hardware is in
 * block.cpp.
 * `__shared__` is missing on purpose: shared memory comes by UP_SHARED (backend_cuda/device.cuh). */
#ifndef UP_CUDA_HOST_LANGUAGE_H
#define UP_CUDA_HOST_LANGUAGE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tuple>
#include <type_traits>
#include <utility>

#define UP_CUDA_HOST 1
#define __global__   __attribute__((noinline))
#define __device__
#define __host__
#define __forceinline__  inline __attribute__((always_inline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __constant__     __attribute__((section("up_constant"), used))
#define __launch_bounds__(...)
#define __grid_constant__

/* ---- vector types ---- */
#define UP_VECTOR2(name, type, bytes)                                                                        \
    struct alignas(bytes) name {                                                                             \
        type x, y;                                                                                           \
    };                                                                                                       \
    static inline name make_##name(type x, type y) {                                                         \
        return name{x, y};                                                                                   \
    }
#define UP_VECTOR3(name, type)                                                                               \
    struct name {                                                                                            \
        type x, y, z;                                                                                        \
    };                                                                                                       \
    static inline name make_##name(type x, type y, type z) {                                                 \
        return name{x, y, z};                                                                                \
    }
#define UP_VECTOR4(name, type, bytes)                                                                        \
    struct alignas(bytes) name {                                                                             \
        type x, y, z, w;                                                                                     \
    };                                                                                                       \
    static inline name make_##name(type x, type y, type z, type w) {                                         \
        return name{x, y, z, w};                                                                             \
    }
UP_VECTOR2(char2, signed char, 2)
UP_VECTOR4(char4, signed char, 4)
UP_VECTOR2(uchar2, unsigned char, 2)
UP_VECTOR4(uchar4, unsigned char, 4)
UP_VECTOR2(short2, short, 4)
UP_VECTOR4(short4, short, 8)
UP_VECTOR2(ushort2, unsigned short, 4)
UP_VECTOR4(ushort4, unsigned short, 8)
UP_VECTOR2(int2, int, 8)
UP_VECTOR3(int3, int)
UP_VECTOR4(int4, int, 16)
UP_VECTOR2(uint2, unsigned, 8)
UP_VECTOR3(uint3, unsigned)
UP_VECTOR4(uint4, unsigned, 16)
UP_VECTOR2(longlong2, long long, 16)
UP_VECTOR2(float2, float, 8)
UP_VECTOR3(float3, float)
UP_VECTOR4(float4, float, 16)
UP_VECTOR2(double2, double, 16)
#undef UP_VECTOR2
#undef UP_VECTOR3
#undef UP_VECTOR4

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
extern uint3 threadIdx, blockIdx; /* of the fibre that runs; set at each switch */
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

/* ---- launches (up_launch of device.cuh) and shared memory ---- */
void *up_cuda_host_shared();
template <class... P> struct up_cuda_host_call {
    static_assert((std::is_trivially_copyable<P>::value && ...),
                  "arguments of a kernel are copied byte by byte");
    void (*kernel)(P...);
    std::tuple<P...> arguments;
    static void run(const void *call) {
        const auto *c = static_cast<const up_cuda_host_call *>(call);
        std::apply(c->kernel, c->arguments);
    }
};

/* ---- barriers and warp operations; the place of the call is part of what is checked and reported ---- */
#define UP_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()
void __syncthreads(UP_HERE);
int __syncthreads_or(int value, UP_HERE);
int __syncthreads_and(int value, UP_HERE);
int __syncthreads_count(int value, UP_HERE);
void __syncwarp(unsigned mask = 0xffffffffu, UP_HERE);
int __any_sync(unsigned mask, int value, UP_HERE);
int __all_sync(unsigned mask, int value, UP_HERE);
unsigned __ballot_sync(unsigned mask, int value, UP_HERE);
unsigned
__activemask(); /* the caller's lane alone: a set that CUDA allows, and the least that code may rely on */

enum up_cuda_host_shuffle { UP_SHUFFLE_INDEX, UP_SHUFFLE_UP, UP_SHUFFLE_DOWN, UP_SHUFFLE_XOR };
uint64_t up_cuda_host_exchange(up_cuda_host_shuffle kind, unsigned mask, uint64_t value, int lane, int width,
                               const char *file, int line);
template <class T>
static inline T up_cuda_host_shuffled(up_cuda_host_shuffle kind, unsigned mask, T value, int lane, int width,
                                      const char *file, int line) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = up_cuda_host_exchange(kind, mask, bits, lane, width, file, line);
    memcpy(&value, &bits, sizeof value);
    return value;
}
#define UP_SHUFFLE(name, kind)                                                                               \
    template <class T> static inline T name(unsigned mask, T value, int lane, int width = 32, UP_HERE) {     \
        return up_cuda_host_shuffled(kind, mask, value, lane, width, file, line);                            \
    }
UP_SHUFFLE(__shfl_sync, UP_SHUFFLE_INDEX)
UP_SHUFFLE(__shfl_up_sync, UP_SHUFFLE_UP)
UP_SHUFFLE(__shfl_down_sync, UP_SHUFFLE_DOWN)
UP_SHUFFLE(__shfl_xor_sync, UP_SHUFFLE_XOR)
#undef UP_SHUFFLE

/* ---- atomics and fences ---- */
#define UP_ATOMIC(name, type) type name(type *address, type value);
UP_ATOMIC(atomicAdd, int)
UP_ATOMIC(atomicAdd, unsigned)
UP_ATOMIC(atomicAdd, unsigned long long)
UP_ATOMIC(atomicAdd, float)
UP_ATOMIC(atomicAdd, double)
UP_ATOMIC(atomicMax, int)
UP_ATOMIC(atomicMax, unsigned)
UP_ATOMIC(atomicMin, int)
UP_ATOMIC(atomicMin, unsigned)
UP_ATOMIC(atomicOr, unsigned)
UP_ATOMIC(atomicAnd, unsigned)
UP_ATOMIC(atomicExch, int)
UP_ATOMIC(atomicExch, unsigned)
UP_ATOMIC(atomicExch, float)
#undef UP_ATOMIC
int atomicCAS(int *address, int compare, int value);
unsigned atomicCAS(unsigned *address, unsigned compare, unsigned value);
unsigned long long atomicCAS(unsigned long long *address, unsigned long long compare,
                             unsigned long long value);
static inline void __threadfence() {}
static inline void __threadfence_block() {}

/* ---- loads and stores with a hint for the caches ---- */
template <class T> static inline T __ldg(const T *p) {
    return *p;
}
template <class T> static inline T __ldcs(const T *p) {
    return *p;
}
template <class T> static inline T __ldcg(const T *p) {
    return *p;
}
template <class T> static inline void __stcs(T *p, T value) {
    *p = value;
}
template <class T> static inline void __stcg(T *p, T value) {
    *p = value;
}

/* ---- bits ---- */
template <class To, class From> static inline To up_cuda_host_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
static inline int __float_as_int(float x) {
    return up_cuda_host_bits<int>(x);
}
static inline unsigned __float_as_uint(float x) {
    return up_cuda_host_bits<unsigned>(x);
}
static inline float __int_as_float(int x) {
    return up_cuda_host_bits<float>(x);
}
static inline float __uint_as_float(unsigned x) {
    return up_cuda_host_bits<float>(x);
}
static inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
static inline int __popcll(unsigned long long x) {
    return __builtin_popcountll(x);
}
static inline int __clz(int x) {
    return x ? __builtin_clz((unsigned)x) : 32;
}
static inline int __ffs(int x) {
    return __builtin_ffs(x);
}
static inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)((uint64_t)a * b >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}

/* ---- arithmetic: the fast forms are as exact as the others here ---- */
#define UP_SMALLER_LARGER(type)                                                                              \
    static inline type min(type a, type b) {                                                                 \
        return a < b ? a : b;                                                                                \
    }                                                                                                        \
    static inline type max(type a, type b) {                                                                 \
        return a > b ? a : b;                                                                                \
    }
UP_SMALLER_LARGER(int)
UP_SMALLER_LARGER(unsigned)
UP_SMALLER_LARGER(long)
UP_SMALLER_LARGER(unsigned long)
UP_SMALLER_LARGER(long long)
UP_SMALLER_LARGER(unsigned long long)
#undef UP_SMALLER_LARGER
static inline float min(float a, float b) {
    return fminf(a, b);
}
static inline float max(float a, float b) {
    return fmaxf(a, b);
}
static inline double min(double a, double b) {
    return fmin(a, b);
}
static inline double max(double a, double b) {
    return fmax(a, b);
}
static inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}
static inline double rsqrt(double x) {
    return 1.0 / sqrt(x);
}
static inline float normcdff(float x) {
    return 0.5f * erfcf(x * -0.70710678f);
}
#define __expf(x)    expf(x) /* glibc has declared the name */
#define __exp10f(x)  powf(10.0f, x)
#define __logf(x)    logf(x)
#define __log2f(x)   log2f(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x)    sinf(x)
#define __cosf(x)    cosf(x)
#define __tanf(x)    tanf(x)
static inline float __fdividef(float x, float y) {
    return x / y;
}
static inline float fdividef(float x, float y) {
    return x / y;
}
static inline float __saturatef(float x) {
    return fminf(fmaxf(x, 0.0f), 1.0f);
}
static inline float __fadd_rn(float x, float y) {
    return x + y;
}
static inline float __fmul_rn(float x, float y) {
    return x * y;
}
static inline float __fdiv_rn(float x, float y) {
    return x / y;
}
static inline float __fmaf_rn(float x, float y, float z) {
    return fmaf(x, y, z);
}
static inline float __frcp_rn(float x) {
    return 1.0f / x;
}
static inline float __fsqrt_rn(float x) {
    return sqrtf(x);
}
static inline float __frsqrt_rn(float x) {
    return (float)(1.0 / sqrt((double)x));
}
static inline float __int2float_rn(int x) {
    return (float)x;
}
static inline float __uint2float_rn(unsigned x) {
    return (float)x;
}
static inline float __double2float_rn(double x) {
    return (float)x;
}
static inline int __float2int_rn(float x) {
    return (int)nearbyintf(x);
}
static inline int __float2int_rz(float x) {
    return (int)x;
}

#endif
