/* mma.h - nvcuda::wmma for products of 16 x 16 x 16 of f16 or bf16 with f32 sums. A lane owns 8 elements of
 * each fragment, of half a row: element i of lane l is (l / 2, 8 (l % 2) + i). CUDA leaves open which they
 * are, and so must kernels: what works for every owner (scaling, adding, converting all of fragment.x) works
 * here. */
#ifndef UP_CUDA_HOST_MMA_H
#define UP_CUDA_HOST_MMA_H

#include "cuda_bf16.h"
#include "cuda_fp16.h"

namespace nvcuda {
namespace wmma {
struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment {
    static_assert(M == 16 && N == 16 && K == 16, "the executor knows 16 x 16 x 16");
    typedef T element_type;
    typedef T storage_element_type;
    enum { num_elements = 8, num_storage_elements = 8 };
    T x[8];
};
} // namespace wmma
} // namespace nvcuda

/* Each lane of a warp hands over its own; see mma.cpp. */
struct up_cuda_host_product {
    float *d;
    const float *c;
    const void *a, *b; /* 8 elements of 16 bits */
    bool bf16;
};
void up_cuda_host_mma(up_cuda_host_product *mine, const char *file, int line);
/* All lanes name the same matrix; aligned to 32 bytes, the leading dimension a multiple of 16 bytes, as CUDA
 * wants it. */
void up_cuda_host_mma_meet(const char *what, const void *matrix, unsigned stride, size_t size,
                           const char *file, int line);

namespace nvcuda {
namespace wmma {
static inline unsigned up_lane() {
    return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
}
static inline size_t up_index(unsigned i, unsigned stride, bool columns) {
    const unsigned lane = up_lane(), row = lane / 2, col = lane % 2 * 8 + i;
    return columns ? (size_t)col * stride + row : (size_t)row * stride + col;
}

template <class F, class V> static inline void fill_fragment(F &f, V value) {
    for (int i = 0; i < 8; i++) f.x[i] = value;
}
template <class Use, class T, class Layout>
static inline void load_matrix_sync(fragment<Use, 16, 16, 16, T, Layout> &f, const T *from, unsigned stride,
                                    UP_HERE) {
    up_cuda_host_mma_meet("load_matrix_sync", from, stride, sizeof(T), file, line);
    for (unsigned i = 0; i < 8; i++)
        f.x[i] = from[up_index(i, stride, std::is_same<Layout, col_major>::value)];
}
template <class T>
static inline void load_matrix_sync(fragment<accumulator, 16, 16, 16, T> &f, const T *from, unsigned stride,
                                    layout_t layout, UP_HERE) {
    up_cuda_host_mma_meet("load_matrix_sync", from, stride, sizeof(T), file, line);
    for (unsigned i = 0; i < 8; i++) f.x[i] = from[up_index(i, stride, layout == mem_col_major)];
}
template <class T>
static inline void store_matrix_sync(T *to, const fragment<accumulator, 16, 16, 16, T> &f, unsigned stride,
                                     layout_t layout, UP_HERE) {
    up_cuda_host_mma_meet("store_matrix_sync", to, stride, sizeof(T), file, line);
    for (unsigned i = 0; i < 8; i++) to[up_index(i, stride, layout == mem_col_major)] = f.x[i];
}
template <class T, class LayoutA, class LayoutB>
static inline void mma_sync(fragment<accumulator, 16, 16, 16, float> &d,
                            const fragment<matrix_a, 16, 16, 16, T, LayoutA> &a,
                            const fragment<matrix_b, 16, 16, 16, T, LayoutB> &b,
                            const fragment<accumulator, 16, 16, 16, float> &c, UP_HERE) {
    up_cuda_host_product mine = {d.x, c.x, a.x, b.x, std::is_same<T, __nv_bfloat16>::value};
    up_cuda_host_mma(&mine, file, line);
}
} // namespace wmma
} // namespace nvcuda

#endif
