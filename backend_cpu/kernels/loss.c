/* loss.c - softmax cross-entropy of one row of a tile of logits (paper eq. 3), the log-sum-exp carried on
 * from tile to tile (Milakov and Gimelshein 2018); the sums beside it. */
#include "backend_cpu/kernels/vector.h"
#include "uniperceiver/backend.h"

enum { BLOCK = 1024 }; /* sums are f32 inside a block, double over the blocks */

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

static double sum_exp(int64_t n, const float *z, float max, double *sum_z) {
    double exps = 0, all = 0;
    for (int64_t j0 = 0; j0 < n; j0 += BLOCK) {
        int64_t end = n - j0 < BLOCK ? n : j0 + BLOCK;
        float e = 0, s = 0;
#pragma omp simd reduction(+ : e, s)
        for (int64_t j = j0; j < end; j++) {
            e += up_exp(z[j] - max);
            s += z[j];
        }
        exps += (double)e;
        all += (double)s;
    }
    *sum_z = all;
    return exps;
}

/* More columns that all count. Returns which of them is the first of a new largest value, or -1. */
static int64_t take(int64_t n, const float *z, float *state) {
    float before = state[UP_XENT_MAX], max = largest(n, z);
    int newest = n > 0 && (max > before || state[UP_XENT_COUNT] == 0);
    double all, exps;
    max = newest ? max : before;
    exps = sum_exp(n, z, max, &all);
    if (max != -INFINITY) {
        double old = before == -INFINITY ? 0 : (double)state[UP_XENT_SUM] * exp((double)before - (double)max);
        state[UP_XENT_SUM] = (float)(old + exps);
    }
    state[UP_XENT_MAX] = max;
    state[UP_XENT_TOTAL] = (float)((double)state[UP_XENT_TOTAL] + all);
    state[UP_XENT_COUNT] += (float)n;
    return newest ? first_largest(n, z) : -1;
}

UP_INLINE int is_index(const up_cpu_truth *t, int64_t j) {
    return j == t->index[0] || j == t->index[1];
}

/* As `take`, without the columns of the row's group: those that count are put together first. */
static void take_counted(int64_t n, int64_t first, const float *z, const up_cpu_truth *t, float *state) {
    float kept[BLOCK];
    int64_t where[BLOCK];
    for (int64_t j0 = 0; j0 < n; j0 += BLOCK) {
        int64_t count = 0;
        for (int64_t j = j0; j < n && j < j0 + BLOCK; j++) {
            kept[count] = z[j];
            where[count] = j;
            count += t->groups[j * t->groups_ld] != t->group || is_index(t, j);
        }
        int64_t best = take(count, kept, state);
        if (best >= 0 && best < count) state[UP_XENT_BEST] = (float)(first + where[best]);
    }
}

/* sum of p z; an impossible column may have a logit of -infinity */
static double sum_soft(int64_t n, const float *z, const float *p) {
    double total = 0;
    for (int64_t j0 = 0; j0 < n; j0 += BLOCK) {
        int64_t end = n - j0 < BLOCK ? n : j0 + BLOCK;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = j0; j < end; j++) sum += p[j] != 0 ? p[j] * z[j] : 0;
        total += (double)sum;
    }
    return total;
}

static void xent(int64_t n, int64_t first, const float *z, const up_cpu_truth *t, float *state) {
    double right = (double)state[UP_XENT_TRUE];
    for (int k = 0; k < 2; k++)
        if (t->share[k] != 0 && t->index[k] >= 0 && t->index[k] < n)
            right += (double)t->share[k] * (double)z[t->index[k]];
    if (t->soft) right += sum_soft(n, z, t->soft);
    state[UP_XENT_TRUE] = (float)right;
    if (t->groups) {
        take_counted(n, first, z, t, state);
    } else {
        int64_t best = take(n, z, state);
        if (best >= 0 && best < n) state[UP_XENT_BEST] = (float)(first + best);
    }
}

/* dz = weight (P - q), P = exp(z - max) / sum: the log-sum-exp, rounded, would shift every P of a row */
static void xent_bwd(int64_t n, const float *z, const up_cpu_truth *t, float count, float max, float sum,
                     float weight, float *dz) {
    float even = count > 0 ? t->smoothing / count : 0, sure = 1.0f - t->smoothing, part = 1 / sum,
          own[2] = {0};
    int has[2];
    for (int k = 0; k < 2; k++) {
        has[k] = t->index[k] >= 0 && t->index[k] < n;
        if (has[k]) own[k] = z[t->index[k]]; /* dz may lie on z */
    }
    if (t->soft) {
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            dz[j] = weight * (up_exp(z[j] - max) * part - (sure * t->soft[j] + even));
    } else if (t->groups) {
        for (int64_t j = 0; j < n; j++) {
            float d = weight * (up_exp(z[j] - max) * part - even);
            dz[j] = t->groups[j * t->groups_ld] == t->group ? 0.0f : d;
        }
    } else {
#pragma omp simd
        for (int64_t j = 0; j < n; j++) dz[j] = weight * (up_exp(z[j] - max) * part - even);
    }
    for (int k = 0; k < 2; k++)
        if (has[k]) dz[t->index[k]] = weight * (up_exp(own[k] - max) * part - even);
    for (int k = 0; k < 2; k++)
        if (has[k]) dz[t->index[k]] -= weight * (sure * t->share[k]);
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

static void scale(int64_t n, float factor, const float *x, int add, float *y) {
    if (add) {
#pragma omp simd
        for (int64_t j = 0; j < n; j++) y[j] += factor * x[j];
    } else {
#pragma omp simd
        for (int64_t j = 0; j < n; j++) y[j] = factor * x[j];
    }
}

void UP_K(fill_loss)(up_cpu_kernels *k) {
    k->xent = xent;
    k->xent_bwd = xent_bwd;
    k->dot = dot;
    k->scale = scale;
    k->first_largest = first_largest;
}
