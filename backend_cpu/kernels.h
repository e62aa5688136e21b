/* kernels.h - the single-threaded kernels of the CPU backend, one table for each instruction set. They work
 * on plain pointers and row strides (in elements) and know nothing of views, threads or buffers; the
 * operations do the dividing. */
#ifndef UP_CPU_KERNELS_H
#define UP_CPU_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* A block of rows: element [i, j] is p[i * ld + j]. */
typedef struct up_rows {
    float *p; /* NULL: absent */
    int64_t ld;
} up_rows;

/* Row numbers: p[i * ld]. */
typedef struct up_numbers {
    const int32_t *p; /* NULL: every number is 0 */
    int64_t ld;
} up_numbers;

/* One head of one sequence. Query i stands at key index i + (lk - lq) of its own keys; prompts are before
 * those. */
typedef struct up_cpu_head {
    int64_t lq, lk, prompts, width; /* width = D / H */
    int kind;                       /* up_mask_kind */
    int64_t prefix, words;
    float scale; /* 1 / sqrt(width) */
    up_rows q, k, v, prompt_k, prompt_v, out;
    up_rows lse;                                    /* [lq, 1] */
    up_rows dout, dq, dk, dv, dprompt_k, dprompt_v; /* backward; the prompts' are +=, the others = */
    int add_keys;                                   /* dk, dv are += too: sequences share rows */
} up_cpu_head;

typedef struct up_cpu_adamw {
    float clip, lr, beta1, beta2, rest1, rest2; /* rest = 1 - beta, rounded once */
    float eps, decay, scale1, scale2;           /* scale = 1 / correction */
} up_cpu_adamw;

/* The most queries and keys of a block of attention. */
enum { UP_ATT_QUERIES = 64, UP_ATT_KEYS = 256 };

typedef struct up_cpu_kernels {
    const char *name;

    /* C[m, n] = alpha op(A) op(B) (+ C where add). op(A)[i, k] = a[i * a_row + k * a_col], op(B) alike.
     * work: gemm_work floats. */
    void (*gemm)(int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t a_row, int64_t a_col,
                 const float *b, int64_t b_row, int64_t b_col, int add, float *c, int64_t ldc, float *work);
    int64_t gemm_work;

    /* y = act(x + bias); bias and pre may be NULL, pre receives x + bias; x may be y or pre. */
    void (*bias_act)(int64_t n, int64_t d, int gelu, up_rows x, const float *bias, up_rows pre, up_rows y);
    void (*gelu_bwd)(int64_t n, int64_t d, up_rows pre, up_rows dy); /* dy *= gelu'(pre) */

    /* y = token[ids] + position[positions] + type; a position of -1 leaves the two out. type may be NULL. */
    void (*embed)(int64_t n, int64_t d, up_numbers ids, up_numbers positions, up_rows token, up_rows position,
                  const float *type, up_rows y);
    /* y += bias + space[cells] + time[frames] + type; time and type may be absent. */
    void (*place)(int64_t n, int64_t d, up_numbers cells, up_numbers frames, up_rows space, up_rows time,
                  const float *type, const float *bias, up_rows y);
    void (*scatter_add)(int64_t n, int64_t d, up_numbers ids, up_rows x,
                        up_rows out); /* out[ids[i]] += x[i], -1: not */
    void (*column_sums)(int64_t n, int64_t d, up_numbers where, up_rows x,
                        float *out); /* out += rows of where >= 0 */

    void (*layernorm)(int64_t n, int64_t d, up_rows x, const float *weight, const float *bias, float eps,
                      up_rows y, up_rows stats);
    /* dweight, dbias: +=, may be NULL */
    void (*layernorm_bwd)(int64_t n, int64_t d, up_rows x, const float *weight, up_rows stats, up_rows dy,
                          up_rows residual, up_rows dx, float *dweight, float *dbias);
    void (*residual)(int64_t n, int64_t d, up_rows x, up_rows branch, const float *scale, up_rows drop,
                     up_rows y);
    void (*residual_bwd)(int64_t n, int64_t d, up_rows branch, const float *scale, up_rows drop, up_rows dy,
                         up_rows dbranch, float *dscale);
    void (*l2norm)(int64_t n, int64_t d, up_rows x, up_rows y, up_rows rnorm);
    void (*l2norm_bwd)(int64_t n, int64_t d, up_rows y, up_rows rnorm, up_rows dy, up_rows dx);

    int64_t (*first_largest)(int64_t n, const float *x);
    /* One row. target -1: left out. soft: a row of probabilities that stands for the target's index, or NULL.
     */
    void (*xent)(int64_t v, const float *z, int32_t target, const float *soft, float smoothing, float *loss,
                 float *lse, float *correct);
    void (*xent_bwd)(int64_t v, const float *z, int32_t target, const float *soft, float smoothing, float lse,
                     float weight, float *dz);
    double (*dot)(int64_t n, const float *a, const float *b);

    /* Floats of work for one head with at most `keys` keys (prompts included). */
    int64_t (*attention_work)(int64_t keys, int64_t width, int backward);
    void (*attention)(const up_cpu_head *h, float *work);
    void (*attention_bwd)(const up_cpu_head *h, float *work);

    void (*zero)(int64_t n, float *x); /* writes only where it must */
    void (*adamw)(int64_t n, float *param, const float *grad, float *m, float *v, const up_cpu_adamw *a);
} up_cpu_kernels;

void up_cpu_kernels_base(up_cpu_kernels *out);
#ifdef UP_X86
void up_cpu_kernels_avx2(up_cpu_kernels *out);
void up_cpu_kernels_avx512(up_cpu_kernels *out);
#endif

#endif
