/* update.c - AdamW in one pass, and zeroing. Most rows of an embedding table take no part in a step: where
 * gradient and state are zero and there is no decay the result is the input, and nothing is written. */
#include "backend_cpu/kernels/vector.h"

enum { BLOCK = 512 }; /* elements looked at together: 2 KiB of each array */

static int all_zero(int64_t n, const float *x) {
    uint32_t any = 0, bits;
#pragma omp simd reduction(| : any) private(bits)
    for (int64_t j = 0; j < n; j++) {
        memcpy(&bits, x + j, 4);
        any |= bits;
    }
    return any == 0;
}

static void zero(int64_t n, float *x) {
    for (int64_t j = 0; j < n; j += BLOCK) {
        int64_t count = n - j < BLOCK ? n - j : BLOCK;
        if (!all_zero(count, x + j)) memset(x + j, 0, (size_t)count * sizeof *x);
    }
}

static void adamw_block(int64_t n, float *restrict p, const float *restrict g, float *restrict m,
                        float *restrict v, const up_cpu_adamw *a) {
    float clip = a->clip, b1 = a->beta1, b2 = a->beta2, c1 = a->rest1, c2 = a->rest2;
    float eps = a->eps, decay = a->decay, lr = a->lr, r1 = a->scale1, r2 = a->scale2;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        float x = g[j] * clip;
        m[j] = b1 * m[j] + c1 * x;
        v[j] = b2 * v[j] + c2 * x * x;
        float step = (m[j] * r1) / (sqrtf(v[j] * r2) + eps);
        p[j] -= lr * (step + decay * p[j]);
    }
}

static void adamw(int64_t n, float *param, const float *grad, float *m, float *v, const up_cpu_adamw *a) {
    for (int64_t j = 0; j < n; j += BLOCK) {
        int64_t count = n - j < BLOCK ? n - j : BLOCK;
        if (a->decay == 0 && all_zero(count, grad + j) && all_zero(count, m + j) && all_zero(count, v + j))
            continue;
        adamw_block(count, param + j, grad + j, m + j, v + j, a);
    }
}

void UP_K(fill_update)(up_cpu_kernels *k) {
    k->zero = zero;
    k->adamw = adamw;
}
