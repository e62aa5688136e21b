/* ops.h - what the operations of the reference share: the prototypes of its slots, access to elements of any
 * float type, the matrix product and two sums. Every sum is in double and is rounded once, to the type of the
 * view that takes it. What a slot computes is defined in uniperceiver/backend.h.
 *
 * Reading order: cast, residual, layernorm, linear (gemm), embed (sums), patch_embed, attention, rows,
 * l2norm, logits, xent, adamw, and backend for the table and the memory. */
#ifndef UP_REF_OPS_H
#define UP_REF_OPS_H

#include "uniperceiver/backend_host.h"

/* Element [n, d] of a view of any float type, and its store: with up_half_nearest the place that knows the
 * types. */
static inline double up_get(up_view v, int64_t n, int64_t d) {
    int64_t at = n * v.stride + d;
    return v.dtype == UP_F32 ? up_f32(v)[at] : up_half_value(v.dtype, up_half(v)[at]);
}
static inline void up_put(up_view v, int64_t n, int64_t d, double x) {
    int64_t at = n * v.stride + d;
    if (v.dtype == UP_F32)
        up_f32(v)[at] = (float)x;
    else
        up_half(v)[at] = up_half_nearest(v.dtype, x);
}

/* Row n of an f32 view that is present. */
static inline float *up_row(up_view v, int64_t n) {
    return up_f32(v) + n * v.stride;
}

/* Index n of an i32 [N, 1] view. */
static inline int64_t up_index(up_view v, int64_t n) {
    return up_i32(v)[n * v.stride];
}

static inline void *up_ref_scratch(up_view v) {
    return v.buffer->bytes + v.offset * (int64_t)up_dtype_size(v.dtype);
}

/* A factor of a product: a view of any float type, as it lies or transposed; or bytes, which stand for
 * levels[channel, byte] rounded to `dtype`. */
typedef struct up_ref_matrix {
    up_view v;
    int transposed;
    up_view levels; /* absent: v has values */
    up_dtype dtype;
} up_ref_matrix;

static inline up_ref_matrix up_ref_plain(up_view v) {
    return (up_ref_matrix){.v = v};
}
static inline up_ref_matrix up_ref_transposed(up_view v) {
    return (up_ref_matrix){.v = v, .transposed = 1};
}

/* Takes element [i, j] of a product, once, before any rounding. */
typedef void (*up_ref_finish)(const void *context, int64_t i, int64_t j, double sum);

/* a[M, K] b[K, N], element by element to `finish`. */
void up_ref_gemm(int64_t M, int64_t N, int64_t K, up_ref_matrix a, up_ref_matrix b, up_ref_finish finish,
                 const void *context);

/* c = a b, and c += a b, for a view c [M, N]. */
void up_ref_gemm_set(up_view c, int64_t K, up_ref_matrix a, up_ref_matrix b);
void up_ref_gemm_add(up_view c, int64_t K, up_ref_matrix a, up_ref_matrix b);

/* sum[1, D] += the rows of x[N, D]; where `index` [N, 1] is present, only of those whose index is in
 * least..most. */
void up_ref_add_columns(up_view sum, up_view x, up_view index, int64_t least, int64_t most);

/* table[index[n], D] += x[n, D] for every n whose index is not negative. Scratch: N int64. */
void up_ref_add_by_index(up_view table, up_view index, up_view x, up_view scratch);

void up_ref_zero(up_view v); /* of any float type */

up_status up_ref_embed(up_backend *b, const up_embed_args *a);
up_status up_ref_embed_bwd(up_backend *b, const up_embed_grad *a);
up_status up_ref_patch_embed(up_backend *b, const up_patch_embed_args *a);
up_status up_ref_patch_embed_bwd(up_backend *b, const up_patch_embed_grad *a);
up_status up_ref_linear(up_backend *b, const up_linear_args *a);
up_status up_ref_linear_bwd(up_backend *b, const up_linear_grad *a);
up_status up_ref_layernorm(up_backend *b, const up_layernorm_args *a);
up_status up_ref_layernorm_bwd(up_backend *b, const up_layernorm_grad *a);
up_status up_ref_attention(up_backend *b, const up_attention_args *a);
up_status up_ref_attention_bwd(up_backend *b, const up_attention_grad *a);
up_status up_ref_residual(up_backend *b, const up_residual_args *a);
up_status up_ref_residual_bwd(up_backend *b, const up_residual_grad *a);
up_status up_ref_gather(up_backend *b, const up_gather_args *a);
up_status up_ref_gather_bwd(up_backend *b, const up_gather_grad *a);
up_status up_ref_scatter(up_backend *b, const up_scatter_args *a);
up_status up_ref_l2norm(up_backend *b, const up_l2norm_args *a);
up_status up_ref_l2norm_bwd(up_backend *b, const up_l2norm_grad *a);
up_status up_ref_logits(up_backend *b, const up_logits_args *a);
up_status up_ref_logits_bwd(up_backend *b, const up_logits_grad *a);
up_status up_ref_logits_scale_bwd(up_backend *b, const up_logits_scale_grad *a);
up_status up_ref_xent(up_backend *b, const up_xent_args *a);
up_status up_ref_xent_bwd(up_backend *b, const up_xent_grad *a);
up_status up_ref_sqnorm(up_backend *b, const up_sqnorm_args *a);
up_status up_ref_step(up_backend *b, const up_step_args *a);
up_status up_ref_adamw(up_backend *b, const up_adamw_args *a);
up_status up_ref_cast(up_backend *b, const up_cast_args *a);
up_status up_ref_gelu(up_backend *b, const up_gelu_args *a);

/* Bytes of scratch of the attention, forward and backward, at these dims. */
size_t up_ref_attention_scratch(const up_op_dims *dims);

#endif
