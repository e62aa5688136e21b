/* loss.c - softmax cross-entropy of one row of logits (paper eq. 3), with label smoothing or a soft target.
 */
#include "backend_cpu/kernels/vector.h"

enum { BLOCK = 1024 }; /* sums are f32 inside a block, double over the blocks */

static double sum_exp(int64_t n, const float *z, float max) {
    double total = 0;
    for (int64_t j0 = 0; j0 < n; j0 += BLOCK) {
        int64_t end = n - j0 < BLOCK ? n : j0 + BLOCK;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = j0; j < end; j++) sum += up_exp(z[j] - max);
        total += (double)sum;
    }
    return total;
}

/* sum of p (z - max), p = 1 where it is NULL; *mass = sum of p */
static double sum_weighted(int64_t n, const float *z, float max, const float *p, double *mass) {
    double total = 0, weight = 0;
    for (int64_t j0 = 0; j0 < n; j0 += BLOCK) {
        int64_t end = n - j0 < BLOCK ? n : j0 + BLOCK;
        float sum = 0, m = 0;
        if (p) {
#pragma omp simd reduction(+ : sum, m)
            for (int64_t j = j0; j < end; j++) {
                sum += p[j] != 0 ? p[j] * (z[j] - max) : 0;
                m += p[j];
            }
        } else {
#pragma omp simd reduction(+ : sum)
            for (int64_t j = j0; j < end; j++) sum += z[j] - max;
        }
        total += (double)sum;
        weight += (double)m;
    }
    *mass = p ? weight : (double)n;
    return total;
}

static float largest(int64_t n, const float *x) {
    float lane[UP_VW], max = -INFINITY;
    int64_t whole = n - n % UP_VW;
    for (int i = 0; i < UP_VW; i++) lane[i] = max;
    for (int64_t j = 0; j < whole; j += UP_VW)
#pragma omp simd
        for (int i = 0; i < UP_VW; i++) lane[i] = x[j + i] > lane[i] ? x[j + i] : lane[i];
    for (int i = 0; i < UP_VW; i++) max = lane[i] > max ? lane[i] : max;
    for (int64_t j = whole; j < n; j++) max = x[j] > max ? x[j] : max;
    return max;
}

static int64_t first_largest(int64_t n, const float *x) {
    float max = largest(n, x);
    int64_t j = 0;
    while (j < n && x[j] != max) j++;
    return j;
}

static void xent(int64_t v, const float *z, int32_t target, const float *soft, float smoothing, float *loss,
                 float *lse, float *correct) {
    float max = largest(v, z);
    double mass, log_sum = max == -INFINITY ? 0 : log(sum_exp(v, z, max)), value = 0;
    *lse = (float)((double)max + log_sum);
    if (target < 0) {
        value = 0;
    } else if (soft) {
        value = -sum_weighted(v, z, max, soft, &mass);
        value += mass * log_sum;
    } else {
        value = log_sum - (1.0 - (double)smoothing) * ((double)z[target] - (double)max);
        if (smoothing != 0) value -= (double)smoothing * sum_weighted(v, z, max, NULL, &mass) / (double)v;
    }
    *loss = (float)value;
    if (correct) *correct = target >= 0 && first_largest(v, z) == target;
}

/* dz = weight (softmax(z) - target) */
static void xent_bwd(int64_t v, const float *z, int32_t target, const float *soft, float smoothing, float lse,
                     float weight, float *dz) {
    if (target < 0) {
        memset(dz, 0, (size_t)v * sizeof *dz);
    } else if (soft) {
#pragma omp simd
        for (int64_t j = 0; j < v; j++) dz[j] = weight * (up_exp(z[j] - lse) - soft[j]);
    } else {
        float even = smoothing / (float)v;
#pragma omp simd
        for (int64_t j = 0; j < v; j++) dz[j] = weight * (up_exp(z[j] - lse) - even);
        dz[target] -= weight * (1.0f - smoothing);
    }
}

static double dot(int64_t n, const float *a, const float *b) {
    double total = 0;
    for (int64_t j0 = 0; j0 < n; j0 += BLOCK) {
        int64_t end = n - j0 < BLOCK ? n : j0 + BLOCK;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = j0; j < end; j++) sum += a[j] * b[j];
        total += (double)sum;
    }
    return total;
}

void UP_K(fill_loss)(up_cpu_kernels *k) {
    k->xent = xent;
    k->xent_bwd = xent_bwd;
    k->dot = dot;
    k->first_largest = first_largest;
}
