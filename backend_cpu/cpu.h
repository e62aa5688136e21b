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

/* A library's product: C[m, n] = alpha op(A) op(B) (+ C where add), row-major, op = transposed where asked;
 * one thread. 0 is success. */
typedef int (*up_cpu_gemm_fn)(int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                              int64_t lda, const float *b, int64_t ldb, int add, float *c, int64_t ldc);

struct up_cpu {
    up_backend_ops ops;
    int threads;
    struct up_cpu_pool *pool; /* threads - 1 besides the caller */
    up_cpu_kernels kernels;
    up_cpu_gemm_fn gemm; /* of a library, for f32; NULL: our own kernels, which do all else always */
    const char *gemm_name;
    float *work;        /* threads * up_cpu_work_floats, for the product */
    up_buffer spare;    /* threads * UP_CPU_SPARE floats, where rows are widened */
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
static inline up_cells up_cells_from(up_view v, int64_t row, int64_t col) {
    return (up_cells){v.buffer ? up_bytes_from(up_view_cols(v, col, 1), row) : NULL, v.stride};
}
static inline int64_t up_least(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t up_most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* dispatch.c: the kernels of this processor, or those that UP_CPU_ISA names. */
up_status up_cpu_choose_kernels(up_cpu_kernels *out);

/* gemm.c: our own kernels, or the library that UP_CPU_GEMM names. */
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

/* gemm.c: a library's product in one piece; a refusal is counted and reported at the operation's end. */
void up_cpu_product(up_cpu *cpu, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                    int64_t lda, const float *b, int64_t ldb, int add, up_rows c);
up_status up_cpu_finish(up_cpu *cpu); /* UP_OK, or the refusal */

/* C = alpha op(A) op(B) (+ C) (+ bias in every row, where it is present) on all threads, cut over C; of f32,
 * by the library or our own kernels. */
void up_cpu_matmul(up_cpu *cpu, int ta, int tb, float alpha, up_view a, up_view b, int add, up_view bias,
                   up_view c);

/* ---- product.c: the product on our own kernels ---- */

/* An operand's element [place, k] is element k of line `place`, or, turned, element `place` of line k. Places
 * are rows of C for the left operand and columns of C for the right one. */
typedef struct up_cpu_operand {
    up_cpu_lines lines;
    int turned;
} up_cpu_operand;
up_cpu_operand up_cpu_operand_of(up_view v, int turned);

/* 1 where two activations of this type are multiplied as they are, in pairs along k; else they are widened as
 * they are packed. */
int up_cpu_pairs(const up_cpu *cpu, up_dtype dtype);

/* A right operand in panels [places / tile_cols][words of k][tile_cols]. */
int64_t up_cpu_panel_floats(const up_cpu *cpu, int64_t places, int64_t k, int pairs);
void up_cpu_make_panels(const up_cpu *cpu, const up_cpu_operand *x, int64_t places, int64_t k, int pairs,
                        float *to);

/* How rows of C are cut: `count` pieces of nearly as many units each, and `across` pieces side by side where
 * there are few rows. */
typedef struct up_cpu_cut {
    int64_t rows, cols, count, across, unit;
} up_cpu_cut;
up_cpu_cut up_cpu_cut_rows(const up_cpu *cpu, int64_t rows, int64_t cols);
int64_t up_cpu_cut_row(const up_cpu_cut *cut, int64_t piece); /* its first row */
int64_t up_cpu_most_pieces(const up_cpu *cpu, int64_t rows);  /* `count` for as many rows or fewer */

/* C[rows, cols] = x B by pieces of rows, B in panels. `begin` is called with each piece before its rows are
 * packed (NULL: nothing is to be done), `finish` with the sums of some of its rows and columns:
 * sums[i * ld + j], or, turned, sums[j * ld + i]. */
typedef struct up_cpu_rows_product up_cpu_rows_product;
struct up_cpu_rows_product {
    up_cpu *cpu;
    up_cpu_cut cut;
    up_cpu_operand x; /* [rows, k] */
    int64_t cols, k;
    int pairs;
    int turned;          /* the panels are those of B', made for the other direction; of f32 alone */
    const float *panels; /* places are columns of C, or, turned, k */
    float *space;        /* threads * up_cpu_rows_floats */
    up_view to;          /* C, which `finish` writes */
    const void *context;
    void (*begin)(const up_cpu_rows_product *t, int64_t piece, int64_t row, int64_t n);
    void (*finish)(const up_cpu_rows_product *t, int64_t row, int64_t n, int64_t col, int64_t d,
                   up_rows sums);
};
int64_t up_cpu_rows_floats(const up_cpu *cpu, int64_t rows, int64_t k, int pairs);
void up_cpu_rows_run(const up_cpu_rows_product *t);

/* C[m, n] = alpha A B (+ C) (+ bias), C of f32. */
typedef struct up_cpu_sum {
    int64_t m, n, k;
    up_cpu_operand a, b;
    int pairs;
    float alpha;
    int add;
    const float *bias; /* [n] or NULL */
    up_rows c;
    float *space; /* up_cpu_sum_floats, in which all threads find B packed; NULL: each packs what it needs.
                   * Then k is not 0. */
} up_cpu_sum;
int64_t up_cpu_sum_floats(const up_cpu *cpu, int64_t n);
void up_cpu_sums(up_cpu *cpu, const up_cpu_sum *s);

int64_t up_cpu_work_floats(const up_cpu_kernels *kernels);
static inline float *up_cpu_work(const up_cpu *cpu, int thread) {
    return cpu->work + thread * up_cpu_work_floats(&cpu->kernels);
}

/* linear.c */
size_t up_cpu_linear_scratch(const up_cpu *cpu, const up_op_dims *dims);
size_t up_cpu_prepared_size(const up_cpu *cpu, const up_op_dims *dims, int backward);
up_status up_cpu_prepare(up_cpu *cpu, const void *args);
/* linear_library.c: the same of f32, products by a library. */
up_status up_cpu_linear_library(up_cpu *cpu, const up_linear_args *args);
up_status up_cpu_linear_library_bwd(up_cpu *cpu, const up_linear_grad *args);

/* Sums over rows go through at most UP_CPU_PARTS partial sums in scratch, [parts, width]. The first begins
 * with the gradient that is added to, the others with 0; at the end the gradient is their sum in order. */
enum { UP_CPU_PARTS = 32 };
int64_t up_cpu_part_rows(int64_t rows); /* rows of one part */
void up_cpu_begin_part(int64_t part, int64_t width, const float *gradient, float *sums);
void up_cpu_sum_parts(const float *parts, int64_t count, int64_t ld, int64_t width, float *gradient);

/* Rows that a piece of a row by row operation takes. */
int64_t up_cpu_piece_rows(const up_cpu *cpu, int64_t rows);

/* What a slot computes, with its arguments' struct; slots.c names them all. */
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

/* slots.c: the table of operations. */
void up_cpu_fill_slots(up_backend_ops *ops);

/* Bytes of scratch at f32. */
size_t up_cpu_attention_scratch(const up_cpu *cpu, const up_op_dims *dims);
size_t up_cpu_patch_embed_scratch(const up_cpu *cpu, const up_op_dims *dims);

#endif
