/* device.cuh - what kernels need so that one source compiles with nvcc (sm_70 and later), with NVRTC (kernels
 * alone) and with a C++ compiler for the host executor (tests/cuda_host): the launch, dynamic shared memory,
 * conversions, vector loads and reductions over a warp and over a block.
 *
 * A .cu file has its kernels first; what runs on the host stands behind `#if UP_HOST_PART`. Rules for
 * kernels:
 *  - shared memory only by UP_SHARED, one use a kernel: the executor poisons it and watches it;
 *  - warp operations with full masks and by full warps; a block is a multiple of 32 threads;
 *  - no __device__ variables; constants by __constant__ or as arguments (at most 4 KiB, trivially copyable).
 */
#ifndef UP_DEVICE_CUH
#define UP_DEVICE_CUH

#ifdef __CUDACC_RTC__
#define UP_HOST_PART 0
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#define UP_HOST_PART 1
#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>
#endif
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define UP_DEVICE   static __device__ __forceinline__ /* a function for kernels */
#define UP_WARP     32
#define UP_FULL     0xffffffffu                /* the mask of a whole warp */
#define UP_INFINITY __int_as_float(0x7f800000) /* NVRTC has no math.h */

typedef __half up_half;
typedef __nv_bfloat16 up_bf16;

/* UP_SHARED(bytes): `unsigned char *bytes` is the block's dynamic shared memory, on a boundary of 128 bytes.
 */
#ifdef UP_CUDA_HOST
#define UP_SHARED(name) unsigned char *const name = (unsigned char *)up_cuda_host_shared()
#else
extern __shared__ __align__(128) unsigned char up_shared_bytes[];
#define UP_SHARED(name) unsigned char *const name = up_shared_bytes
#endif

/* up_launch(kernel, grid, block, shared bytes, stream, arguments...): the launch, in stream order. Its error
 * is that of cudaGetLastError; the arguments are converted to the kernel's parameters. */
#if UP_HOST_PART
#ifdef UP_CUDA_HOST
template <class... P, class... A>
static inline void up_launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                             A... arguments) {
    up_cuda_host_call<P...> call{kernel, {static_cast<P>(arguments)...}};
    up_cuda_host_launch(reinterpret_cast<const void *>(kernel), up_cuda_host_call<P...>::run, &call,
                        sizeof call, grid, block, shared, stream);
}
#elif defined(__CUDACC__)
template <class... P, class... A>
static inline void up_launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                             A... arguments) {
    kernel<<<grid, block, shared, stream>>>(static_cast<P>(arguments)...);
}
#endif
#endif

/* ---- conversions: up_to_float(v), up_from_float<T>(x) rounds to nearest even ---- */
UP_DEVICE float up_to_float(float v) {
    return v;
}
UP_DEVICE float up_to_float(up_half v) {
    return __half2float(v);
}
UP_DEVICE float up_to_float(up_bf16 v) {
    return __bfloat162float(v);
}
template <class T> UP_DEVICE T up_from_float(float x);
template <> __device__ __forceinline__ float up_from_float<float>(float x) {
    return x;
}
template <> __device__ __forceinline__ up_half up_from_float<up_half>(float x) {
    return __float2half_rn(x);
}
template <> __device__ __forceinline__ up_bf16 up_from_float<up_bf16>(float x) {
    return __float2bfloat16_rn(x);
}

/* ---- vectors: COUNT elements of T in one access of COUNT * sizeof(T) bytes (2, 4, 8 or 16), which is their
 * alignment ---- */
template <class T, int COUNT> struct alignas(sizeof(T) * COUNT) up_vector { T at[COUNT]; };
template <int COUNT, class T> UP_DEVICE void up_load(float (&to)[COUNT], const T *from) {
    const up_vector<T, COUNT> v = *reinterpret_cast<const up_vector<T, COUNT> *>(from);
#pragma unroll
    for (int i = 0; i < COUNT; i++) to[i] = up_to_float(v.at[i]);
}
template <int COUNT, class T> UP_DEVICE void up_store(T *to, const float (&from)[COUNT]) {
    up_vector<T, COUNT> v;
#pragma unroll
    for (int i = 0; i < COUNT; i++) v.at[i] = up_from_float<T>(from[i]);
    *reinterpret_cast<up_vector<T, COUNT> *>(to) = v;
}

/* ---- arguments of kernels: a matrix by rows, a list of indices; `at` NULL: absent ---- */
template <class T> struct up_matrix {
    T *at;
    int64_t stride;
    __device__ __forceinline__ T *row(int64_t n) const { return at + n * stride; }
    __device__ __forceinline__ T &operator()(int64_t n, int64_t d) const { return at[n * stride + d]; }
};
struct up_list {
    const int *at;
    int64_t stride;
    __device__ __forceinline__ int operator[](int64_t n) const { return at[n * stride]; }
};

/* ---- reductions; every lane gets the result ---- */
/* Over groups of WIDTH neighbouring lanes (a power of two). */
template <int WIDTH = UP_WARP> UP_DEVICE float up_warp_sum(float x) {
#pragma unroll
    for (int i = WIDTH / 2; i > 0; i /= 2) x += __shfl_xor_sync(UP_FULL, x, i);
    return x;
}
template <int WIDTH = UP_WARP> UP_DEVICE float up_warp_max(float x) {
#pragma unroll
    for (int i = WIDTH / 2; i > 0; i /= 2) x = fmaxf(x, __shfl_xor_sync(UP_FULL, x, i));
    return x;
}
/* Over a block of one dimension, in a fixed order. `room`: shared, a float for each warp; free again when all
 * return. */
template <class Combine> UP_DEVICE float up_block_reduce(float x, float *room, float start, Combine combine) {
    const int lane = threadIdx.x % UP_WARP, warp = threadIdx.x / UP_WARP, warps = blockDim.x / UP_WARP;
    for (int i = UP_WARP / 2; i > 0; i /= 2) x = combine(x, __shfl_xor_sync(UP_FULL, x, i));
    if (lane == 0) room[warp] = x;
    __syncthreads();
    x = lane < warps ? room[lane] : start;
    for (int i = UP_WARP / 2; i > 0; i /= 2) x = combine(x, __shfl_xor_sync(UP_FULL, x, i));
    __syncthreads();
    return x;
}
struct up_add {
    __device__ __forceinline__ float operator()(float a, float b) const { return a + b; }
};
struct up_larger {
    __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
UP_DEVICE float up_block_sum(float x, float *room) {
    return up_block_reduce(x, room, 0.0f, up_add());
}
UP_DEVICE float up_block_max(float x, float *room) {
    return up_block_reduce(x, room, -UP_INFINITY, up_larger());
}

#endif
