/* cpu.h - what the files of the CPU backend share: its state, the loop over threads, the matrix product.
 *
 * Work is cut into pieces whose borders depend on the shapes and the thread count alone. Any thread may take
 * any piece, and no piece adds to what another one writes, so results are the same bit for bit from run to
 * run. */
#ifndef UP_CPU_H
#define UP_CPU_H

#include "backend_cpu/kernels.h"
#include "uniperceiver/backend_host.h"

#include <sched.h>
#include <stdatomic.h>

typedef struct up_cpu up_cpu;

/* C[m, n] = alpha op(A) op(B) (+ C where add), row-major, op = transposed where asked; one thread. 0 is
 * success. */
typedef int (*up_cpu_gemm_fn)(const up_cpu *cpu, int thread, int ta, int tb, int64_t m, int64_t n, int64_t k,
                              float alpha, const float *a, int64_t lda, const float *b, int64_t ldb, int add,
                              float *c, int64_t ldc);

struct up_cpu {
    up_backend_ops ops;
    int threads;
    struct up_cpu_pool *pool; /* threads - 1 besides the caller */
    up_cpu_kernels kernels;
    up_cpu_gemm_fn gemm;
    const char *gemm_name;
    float *work;        /* threads * kernels.gemm_work, for the plain product */
    up_buffer spare;    /* threads * UP_CPU_SPARE floats, where an operation without scratch converts */
    atomic_int refused; /* products that the library refused, since the operation began */
};

enum { UP_CPU_SPARE = 1 << 18 };
static inline float *up_cpu_spare(const up_cpu *cpu, int thread) {
    return (float *)(void *)cpu->spare.bytes + (int64_t)thread * UP_CPU_SPARE;
}
static inline up_cpu *up_cpu_of(up_backend *b) {
    return b->state;
}
static inline up_rows up_rows_of(up_view v) {
    return (up_rows){up_f32(v), v.stride};
}
static inline up_rows up_rows_from(up_view v, int64_t row) {
    return (up_rows){v.buffer ? up_f32(v) + row * v.stride : NULL, v.stride};
}
static inline up_numbers up_numbers_from(up_view v, int64_t row) {
    return (up_numbers){v.buffer ? up_i32(v) + row * v.stride : NULL, v.stride};
}
/* Element [row, 0] of a view of any type. */
static inline void *up_bytes_from(up_view v, int64_t row) {
    return v.buffer->bytes + (v.offset + row * v.stride) * (int64_t)up_dtype_size(v.dtype);
}
/* Scratch may be a view of any type. */
static inline float *up_scratch_of(up_view v) {
    return v.buffer ? up_bytes_from(v, 0) : NULL;
}
/* Element [0, 0] of an f32 tensor that may be absent. */
static inline double up_scalar(up_view v, double absent) {
    return v.buffer ? (double)*up_f32(v) : absent;
}
static inline int64_t up_least(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t up_most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* dispatch.c: the kernels of this processor, or those that UP_CPU_ISA names. */
up_status up_cpu_choose_kernels(up_cpu_kernels *out);

/* gemm.c: oneDNN, OpenBLAS or the plain kernels, or what UP_CPU_GEMM names. */
up_status up_cpu_choose_gemm(up_cpu *cpu);

/* mode.c: sets this thread's floating point mode for an operation; what it was before, to be given back. */
unsigned up_cpu_enter(void);
void up_cpu_leave(unsigned before);

/* pool.c: body(context, piece, thread) for every piece, on all threads; the caller is thread 0. */
typedef struct up_cpu_pool up_cpu_pool;
typedef void (*up_cpu_body)(const void *context, int64_t piece, int thread);
void up_cpu_for(const up_cpu *cpu, int64_t pieces, up_cpu_body body, const void *context);
up_status up_cpu_pool_start(int threads, up_cpu_pool **out);
void up_cpu_pool_stop(up_cpu_pool *pool); /* NULL is fine */

/* quota.c: processors that the scheduler allows this process, however many the machine has; affinity:
 * sched_getaffinity, or a test's. */
typedef int (*up_affinity)(pid_t process, size_t bytes, cpu_set_t *set);
int up_cpu_allowed(up_affinity affinity);
/* Threads to use; wanted 0 = the processors that this process may use and has a quota for. */
int up_cpu_threads(int wanted);
/* Processors that the control groups listed in `groups` (as /proc/self/cgroup), whose trees lie under
 * `mount`, leave to this process, rounded up; 0 = no limit. */
int up_cpu_quota(const char *groups, const char *mount);

/* The context of a body that needs no more. */
typedef struct up_cpu_call {
    const up_cpu *cpu;
    const void *args;
} up_cpu_call;

/* A product in one piece; a refusal is counted and reported at the operation's end. */
void up_cpu_product(up_cpu *cpu, int thread, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha,
                    const float *a, int64_t lda, const float *b, int64_t ldb, int add, up_rows c);
up_status up_cpu_finish(up_cpu *cpu); /* UP_OK, or the refusal */

/* C = alpha op(A) op(B) (+ C) (+ bias in every row, where it is present) on all threads, cut over C. */
void up_cpu_matmul(up_cpu *cpu, int ta, int tb, float alpha, up_view a, up_view b, int add, up_view bias,
                   up_view c);

/* Sums over rows go through at most UP_CPU_PARTS partial sums in scratch, [parts, width]. The first begins
 * with the gradient that is added to, the others with 0; at the end the gradient is their sum in order. */
enum { UP_CPU_PARTS = 32 };
int64_t up_cpu_part_rows(int64_t rows); /* rows of one part */
void up_cpu_begin_part(int64_t part, int64_t width, const float *gradient, float *sums);
void up_cpu_sum_parts(const float *parts, int64_t count, int64_t ld, int64_t width, float *gradient);

/* Rows that a piece of a row by row operation takes. */
int64_t up_cpu_piece_rows(const up_cpu *cpu, int64_t rows);

/* What a slot computes in f32, with its arguments' struct; slots.c names them all. */
typedef up_status (*up_cpu_op)(up_cpu *cpu, const void *args);
up_status up_cpu_embed(up_cpu *cpu, const void *args);
up_status up_cpu_embed_bwd(up_cpu *cpu, const void *args);
up_status up_cpu_patch_embed(up_cpu *cpu, const void *args);
up_status up_cpu_patch_embed_bwd(up_cpu *cpu, const void *args);
up_status up_cpu_linear(up_cpu *cpu, const void *args);
up_status up_cpu_linear_bwd(up_cpu *cpu, const void *args);
up_status up_cpu_layernorm(up_cpu *cpu, const void *args);
up_status up_cpu_layernorm_bwd(up_cpu *cpu, const void *args);
up_status up_cpu_attention(up_cpu *cpu, const void *args);
up_status up_cpu_attention_bwd(up_cpu *cpu, const void *args);
up_status up_cpu_residual(up_cpu *cpu, const void *args);
up_status up_cpu_residual_bwd(up_cpu *cpu, const void *args);
up_status up_cpu_add_layernorm(up_cpu *cpu, const void *args);
up_status up_cpu_add_layernorm_bwd(up_cpu *cpu, const void *args);
up_status up_cpu_gelu(up_cpu *cpu, const void *args);
up_status up_cpu_gather(up_cpu *cpu, const void *args);
up_status up_cpu_gather_bwd(up_cpu *cpu, const void *args);
up_status up_cpu_scatter(up_cpu *cpu, const void *args);
up_status up_cpu_l2norm(up_cpu *cpu, const void *args);
up_status up_cpu_l2norm_bwd(up_cpu *cpu, const void *args);
up_status up_cpu_logits(up_cpu *cpu, const void *args);
up_status up_cpu_logits_bwd(up_cpu *cpu, const void *args);
up_status up_cpu_logits_scale_bwd(up_cpu *cpu, const void *args);
up_status up_cpu_xent(up_cpu *cpu, const void *args);
up_status up_cpu_xent_bwd(up_cpu *cpu, const void *args);
up_status up_cpu_zero(up_cpu *cpu, const void *view);  /* f32, dense at best */
up_status up_cpu_clear(up_cpu *cpu, const void *view); /* any type, by rows */
up_status up_cpu_sqnorm(up_cpu *cpu, const void *args);
up_status up_cpu_adamw(up_cpu *cpu, const void *args);
up_status up_cpu_cast(up_cpu *cpu, const void *args);

/* move.c: n elements of any float type to any other. */
void up_cpu_convert(const up_cpu *cpu, int64_t n, up_dtype from, const void *x, up_dtype to, void *y);

/* slots.c: the table of operations, and the bytes of scratch in which they keep f32 copies of activations. */
void up_cpu_fill_slots(up_backend_ops *ops);
size_t up_cpu_half_scratch(up_op op, const up_op_dims *dims);

/* Bytes of scratch at f32. */
size_t up_cpu_attention_scratch(const up_cpu *cpu, const up_op_dims *dims);
size_t up_cpu_patch_embed_scratch(const up_cpu *cpu, const up_op_dims *dims);

#endif
