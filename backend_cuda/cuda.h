/* cuda.h - what the host parts of the CUDA backend share: its state, views as matrices of a kernel, the
 * choice of a kernel by element type, errors. Included behind UP_HOST_PART, after device.cuh. */
#ifndef UP_CUDA_H
#define UP_CUDA_H

#include "uniperceiver/backend.h"

struct up_buffer {
    unsigned char *bytes; /* device memory, on a boundary of 256 bytes */
    size_t size;
};

struct up_blas;    /* product.cu */
struct up_staging; /* memory.cu */

/* Operations of all slots go into one stream, so they take effect in the order of the calls. */
struct up_cuda {
    cudaStream_t stream;
    up_blas *blas;
    up_staging *staging;
    float *scalars; /* device, [UP_SCALARS]: factors of products that are known there alone */
    int capability; /* 80 for 8.0 */
};

static inline up_cuda *up_cuda_of(up_backend *b) {
    return static_cast<up_cuda *>(b->state);
}
static inline cudaStream_t up_stream(up_backend *b) {
    return up_cuda_of(b)->stream;
}

/* UP_OK, or the failure of `what` in the words of CUDA. */
up_status up_cuda_check(cudaError_t error, const char *what);
/* The end of a slot: what its launches say. */
static inline up_status up_launched(const char *operation) {
    return up_cuda_check(cudaGetLastError(), operation);
}

/* ---- views ---- */
static inline bool up_is_empty(up_view v) {
    return v.rows <= 0 || v.cols <= 0;
}
static inline unsigned char *up_bytes_of(up_view v) {
    return v.buffer ? v.buffer->bytes + v.offset * (int64_t)up_dtype_size(v.dtype) : NULL;
}
template <class T> static inline T *up_pointer(up_view v) {
    return reinterpret_cast<T *>(up_bytes_of(v));
}
template <class T> static inline up_matrix<T> up_as(up_view v) {
    return up_matrix<T>{up_pointer<T>(v), v.stride};
}
static inline up_list up_list_of(up_view v) {
    return up_list{up_pointer<const int>(v), v.stride};
}
/* Whether rows can be read `count` elements at a time: all start on such a boundary and have a multiple. */
static inline bool up_fits(up_view v, int count) {
    const uintptr_t bytes = (uintptr_t)count * up_dtype_size(v.dtype);
    return !v.buffer ||
           ((uintptr_t)up_bytes_of(v) % bytes == 0 && v.stride % count == 0 && v.cols % count == 0);
}

/* Pieces of the scratch that a slot got, one behind the other, each on a boundary of 256 bytes. */
struct up_pieces {
    unsigned char *at;
    explicit up_pieces(up_view scratch) : at(up_bytes_of(scratch)) {
        at = reinterpret_cast<unsigned char *>(((uintptr_t)at + 255) / 256 * 256);
    }
    static size_t round(size_t bytes) { return (bytes + 255) / 256 * 256; }
    template <class T> T *take(size_t count) {
        T *piece = reinterpret_cast<T *>(at);
        at += round(count * sizeof(T));
        return piece;
    }
};
enum { UP_PIECE = 256 }; /* bytes that a size of scratch has besides, for its first boundary */

/* ---- the choice of a kernel: f(up_type<T>) with T of the element type ---- */
template <class T> struct up_type { typedef T type; };
template <class F> static inline void up_by_type(up_dtype dtype, F f) {
    if (dtype == UP_F16)
        f(up_type<up_half>());
    else if (dtype == UP_BF16)
        f(up_type<up_bf16>());
    else
        f(up_type<float>());
}
/* f(type, up_count<V>) where rows can be read V = 4 elements at a time, else 1. */
template <int V> struct up_count {
    enum { value = V };
};
template <class F> static inline void up_by_width(bool wide, F f) {
    if (wide)
        f(up_count<4>());
    else
        f(up_count<1>());
}
static inline unsigned up_blocks(int64_t count, int64_t each) {
    return (unsigned)((count + each - 1) / each);
}

/* ---- product.cu: c[m, n] = alpha a b (+ beta c) (+ bias[n]), row by row; sums in f32 ---- */
struct up_product {
    up_dtype in, out; /* of a and b; of c: the same or f32 */
    int64_t m, n, k;
    const void *a, *b;
    void *c;
    int64_t a_stride, b_stride, c_stride;
    bool a_turned, b_turned; /* a lies as [k, m], b as [n, k] */
    float beta;              /* 0 or 1; alpha is 1 */
    const float *factors;    /* on the device: alpha and beta instead; may be NULL */
    const float *bias;       /* f32, with c in f32; may be NULL */
};
up_status up_blas_create(up_blas **out);
void up_blas_free(up_blas *blas);
up_status up_multiply(up_backend *b, const up_product &p);

/* ---- linear.cu ---- */
/* The weight in the activations' type: as it lies, as it was prepared, or cast into scratch. */
up_view up_weight_for(up_backend *b, up_view weight, up_view prepared, up_dtype dtype, up_pieces *pieces,
                      up_buffer *buffer);
/* x W' (+ bias), from some rows of x to f32 or to x's type */
up_product up_product_forward(up_view x, up_view weight, void *c, int64_t stride, up_dtype out,
                              const float *bias);
/* dweight += dy' x */
up_status up_add_weight_gradient(up_backend *b, up_view dweight, up_view dy, up_view x);

/* ---- memory.cu ---- */
up_status up_staging_create(up_staging **out);
void up_staging_free(up_staging *staging);
void up_memory_fill_table(up_backend_ops *ops);
up_status up_cuda_alloc(void **out, size_t bytes);

/* ---- slots ---- */
enum { UP_SCALARS = 8 };
size_t up_embed_scratch(const up_op_dims *d);
size_t up_patch_embed_scratch(const up_op_dims *d);
size_t up_linear_scratch(const up_op_dims *d);
size_t up_rows_scratch(const up_op_dims *d);
size_t up_loss_scratch(const up_op_dims *d);
size_t up_update_scratch(const up_op_dims *d);
size_t up_attention_scratch(const up_op_dims *d);
void up_embed_fill_table(up_backend_ops *ops);
void up_patches_fill_table(up_backend_ops *ops);
void up_linear_fill_table(up_backend_ops *ops);
void up_rows_fill_table(up_backend_ops *ops);
void up_norm_fill_table(up_backend_ops *ops);
void up_loss_fill_table(up_backend_ops *ops);
void up_update_fill_table(up_backend_ops *ops);
void up_attention_fill_table(up_backend_ops *ops);

/* dst = src in dst's type, both f32 or 16 bits (rows.cu). */
void up_cuda_cast(up_backend *b, up_view dst, up_view src);
void up_cuda_zero(up_backend *b, up_view dst);

#endif
