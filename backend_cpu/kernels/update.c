/* update.c - AdamW in one pass, and zeroing. Most rows of an embedding table take no part in a step: where
 * gradient and state are zero and there is no decay the result is the input, and nothing is written. Moments
 * that have faded below the normal numbers become 0, so that such rows come to rest. */
#include "backend_cpu/kernels/vector.h"

#include <float.h>

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

UP_INLINE float flushed(float x) {
    return fabsf(x) < FLT_MIN ? 0.0f : x;
}

static void adamw_block(int64_t n, float *restrict w, float *restrict g, float *restrict m, float *restrict v,
                        const up_cpu_rule *a) {
    float factor = a->factor, b1 = a->beta1, b2 = a->beta2, c1 = a->rest1, c2 = a->rest2;
    float eps = a->eps, decay = a->decay, lr = a->lr, r1 = a->scale1, r2 = a->scale2;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        float x = g[j] * factor;
        m[j] = flushed(b1 * m[j] + c1 * x);
        v[j] = flushed(b2 * v[j] + c2 * x * x);
        float step = (m[j] * r1) / (sqrtf(v[j] * r2) + eps);
        w[j] -= lr * (step + decay * w[j]);
        g[j] = 0;
    }
}

static void adamw(int64_t n, float *weight, float *grad, float *m, float *v, const up_cpu_rule *a) {
    for (int64_t j = 0; j < n; j += BLOCK) {
        int64_t count = n - j < BLOCK ? n - j : BLOCK;
        if (a->decay == 0 && all_zero(count, grad + j) && all_zero(count, m + j) && all_zero(count, v + j))
            continue;
        adamw_block(count, weight + j, grad + j, m + j, v + j, a);
    }
}

void UP_K(fill_update)(up_cpu_kernels *k) {
    k->zero = zero;
    k->adamw = adamw;
}
