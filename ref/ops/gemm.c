/* gemm.c - the one matrix product of the reference. Blocks of both factors are copied into small arrays of
 * double, so that the inner loops run over consecutive memory whatever the strides; every product of two
 * floats is exact in double and K is walked in ascending order, so the result does not depend on the
 * blocking. */
#include "ref/ops/ops.h"

enum { ROWS = 32, COLS = 32, DEPTH = 64, TILE = 4 };

typedef struct block {
    double a[DEPTH][ROWS], b[DEPTH][COLS], c[ROWS][COLS];
} block;

/* to[k][i] = m[i0 + i, k0 + k], zero beyond the edge. Called with the roles of row and column chosen by the
 * caller. */
static void pack(double (*to)[ROWS], up_ref_matrix m, int64_t i0, int64_t ni, int64_t k0, int64_t nk) {
    for (int64_t k = 0; k < nk; k++)
        for (int64_t i = 0; i < ROWS; i++) to[k][i] = i < ni ? m.p[(i0 + i) * m.row + (k0 + k) * m.col] : 0.0;
}

/* c[TILE, TILE] += a' b over nk steps, held in registers. */
static void tile(block *t, int i0, int j0, int64_t nk) {
    double sum[TILE][TILE] = {{0}};
    for (int64_t k = 0; k < nk; k++)
        for (int i = 0; i < TILE; i++)
            for (int j = 0; j < TILE; j++) sum[i][j] += t->a[k][i0 + i] * t->b[k][j0 + j];
    for (int i = 0; i < TILE; i++)
        for (int j = 0; j < TILE; j++) t->c[i0 + i][j0 + j] += sum[i][j];
}

static void multiply_block(block *t, up_ref_matrix a, up_ref_matrix b, int64_t i0, int64_t ni, int64_t j0,
                           int64_t nj, int64_t K) {
    up_ref_matrix bt = {b.p, b.col, b.row};
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++) t->c[i][j] = 0;
    for (int64_t k0 = 0; k0 < K; k0 += DEPTH) {
        int64_t nk = K - k0 < DEPTH ? K - k0 : DEPTH;
        pack(t->a, a, i0, ni, k0, nk);
        pack(t->b, bt, j0, nj, k0, nk);
        for (int i = 0; i < ni; i += TILE)
            for (int j = 0; j < nj; j += TILE) tile(t, i, j, nk);
    }
}

void up_ref_gemm(int64_t K, double alpha, up_ref_matrix a, up_ref_matrix b, const float *bias, up_view add,
                 up_view c) {
    block t;
    for (int64_t j0 = 0; j0 < c.cols; j0 += COLS)
        for (int64_t i0 = 0; i0 < c.rows; i0 += ROWS) {
            int64_t ni = c.rows - i0 < ROWS ? c.rows - i0 : ROWS,
                    nj = c.cols - j0 < COLS ? c.cols - j0 : COLS;
            multiply_block(&t, a, b, i0, ni, j0, nj, K);
            for (int64_t i = 0; i < ni; i++) {
                float *out = up_row(c, i0 + i) + j0;
                const float *old = up_view_present(add) ? up_row(add, i0 + i) + j0 : NULL;
                for (int64_t j = 0; j < nj; j++)
                    out[j] = (float)(alpha * t.c[i][j] + (bias ? bias[j0 + j] : 0.0) + (old ? old[j] : 0.0));
            }
        }
}
