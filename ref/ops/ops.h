/* ops.h - what the operations of the reference share: the prototypes of its slots, access to rows, the matrix
 * product and two sums. Storage is f32, every sum is in double. What a slot computes is defined in
 * uniperceiver/backend.h.
 *
 * Reading order: cast, residual, layernorm, linear (gemm), embed (sums), patch_embed, attention, rows,
 * l2norm, logits, xent, adamw, and backend for the table and the memory. */
#ifndef UP_REF_OPS_H
#define UP_REF_OPS_H

#include "uniperceiver/backend_host.h"

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

/* A matrix read by strides: element [i, j] is p[i * row + j * col]. */
typedef struct up_ref_matrix {
    const float *p;
    int64_t row, col;
} up_ref_matrix;

static inline up_ref_matrix up_ref_plain(up_view v) {
    return (up_ref_matrix){up_f32(v), v.stride, 1};
}
static inline up_ref_matrix up_ref_transposed(up_view v) {
    return (up_ref_matrix){up_f32(v), 1, v.stride};
}

/* c[M, N] = alpha * a[M, K] b[K, N] + bias[N] + add[M, N], rounded once; bias and add may be NULL / absent,
 * add may be c itself. */
void up_ref_gemm(int64_t K, double alpha, up_ref_matrix a, up_ref_matrix b, const float *bias, up_view add,
                 up_view c);

/* sum[1, D] += the rows of x[N, D]; rows whose index is negative are left out where `keep` [N, 1] is present.
 */
void up_ref_add_columns(up_view sum, up_view x, up_view keep);

/* table[index[n], D] += x[n, D] for every n whose index is not negative. Scratch: N int64. */
void up_ref_add_by_index(up_view table, up_view index, up_view x, up_view scratch);

void up_ref_zero(up_view v); /* f32 */

float up_ref_from_f16(uint16_t h);
float up_ref_from_bf16(uint16_t h);
uint16_t up_ref_to_f16(float x); /* round to nearest, ties to even */
uint16_t up_ref_to_bf16(float x);

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
up_status up_ref_xent(up_backend *b, const up_xent_args *a);
up_status up_ref_xent_bwd(up_backend *b, const up_xent_grad *a);
up_status up_ref_sqnorm(up_backend *b, const up_sqnorm_args *a);
up_status up_ref_adamw(up_backend *b, const up_adamw_args *a);
up_status up_ref_cast(up_backend *b, const up_cast_args *a);

/* Bytes of scratch of the attention, forward and backward, at these dims. */
size_t up_ref_attention_scratch(const up_op_dims *dims);

#endif
