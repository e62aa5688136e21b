/* finish.c - what is done with the elements of a linear layer's product while they are in the first cache:
 * bias, GELU, rounding to the activations' type, and the gradients of these. Formulas in
 * uniperceiver/backend.h. */
#include "backend_cpu/kernels/vector.h"
#include "uniperceiver/tensor.h"

enum { WIDTH = 2 * UP_VW }; /* columns of a panel: what is finished at one time */

static void *cell_row(up_cells x, int dtype, int64_t i) {
    return x.p ? (char *)x.p + i * x.ld * (dtype == UP_F32 ? 4 : 2) : NULL;
}

static void store(int64_t d, int dtype, const float *x, void *y) {
    if (dtype == UP_F32)
        memcpy(y, x, (size_t)d * sizeof *x);
    else
        UP_K(narrow)(d, dtype, x, y);
}

UP_INLINE void gelu_of(int64_t d, float *x) {
#pragma omp simd
    for (int64_t j = 0; j < d; j++) {
        float density;
        x[j] *= up_phi(x[j], &density);
    }
}

UP_INLINE void finish_row(const int64_t d, int gelu, float *x, const float *bias, int dtype, void *pre,
                          void *y) {
    if (bias) {
#pragma omp simd
        for (int64_t j = 0; j < d; j++) x[j] += bias[j];
    }
    if (pre) store(d, dtype, x, pre);
    if (gelu) gelu_of(d, x);
    store(d, dtype, x, y);
}

static void finish(int64_t n, int64_t d, int gelu, up_rows x, const float *bias, int dtype, up_cells pre,
                   up_cells y) {
    for (int64_t i = 0; i < n; i++) {
        float *from = x.p + i * x.ld;
        void *keep = cell_row(pre, dtype, i), *to = cell_row(y, dtype, i);
        if (d == WIDTH)
            finish_row(WIDTH, gelu, from, bias, dtype, keep, to);
        else
            finish_row(d, gelu, from, bias, dtype, keep, to);
    }
}

/* y = v Phi(v): dv = dy (Phi(v) + v phi(v)) */
UP_INLINE void slope(int64_t d, const float *v, float *g) {
#pragma omp simd
    for (int64_t j = 0; j < d; j++) {
        float density, phi = up_phi(v[j], &density);
        g[j] *= phi + v[j] * density;
    }
}

/* Some columns of one row, in f32: where they lie, or in space. */
static float *load(int64_t d, int dtype, void *x, int64_t first, float *space) {
    if (dtype == UP_F32) return (float *)x + first;
    UP_K(widen)(d, dtype, (const uint16_t *)x + first, space);
    return space;
}

static void unfinish(int64_t n, int64_t d, int dtype, up_cells pre, up_cells dy, float *sums) {
    enum { PART = 512 };
    float space[2][PART];
    for (int64_t j0 = 0; j0 < d; j0 += PART)
        for (int64_t i = 0; i < n; i++) {
            int64_t count = d - j0 < PART ? d - j0 : PART;
            void *row = cell_row(dy, dtype, i);
            float *g = load(count, dtype, row, j0, space[0]);
            if (pre.p) {
                slope(count, load(count, dtype, cell_row(pre, dtype, i), j0, space[1]), g);
                if (dtype != UP_F32) {
                    UP_K(narrow)(count, dtype, g, (uint16_t *)row + j0);
                    UP_K(widen)(count, dtype, (uint16_t *)row + j0, g);
                }
            }
            if (!sums) continue;
#pragma omp simd
            for (int64_t j = 0; j < count; j++) sums[j0 + j] += g[j];
        }
}

void UP_K(fill_finish)(up_cpu_kernels *k) {
    k->finish = finish;
    k->unfinish = unfinish;
}
