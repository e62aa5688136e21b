/* gemm.c - the one matrix product of the reference. Blocks of both factors are copied into small arrays of
 * double, so that the inner loops run over consecutive memory whatever the types and strides; every product
 * of two floats is exact in double and K is walked in ascending order, so the result does not depend on the
 * blocking. */
#include "ref/ops/ops.h"

enum { ROWS = 32, COLS = 32, DEPTH = 64, TILE = 4 };

typedef struct block {
    double a[DEPTH][ROWS], b[DEPTH][COLS], c[ROWS][COLS];
} block;

/* What the byte of a patch stands for: its columns are channel by channel. */
static double level(const up_ref_matrix *m, int64_t n, int64_t d) {
    uint8_t byte = up_u8(m->v)[n * m->v.stride + d];
    float x = up_row(m->levels, d / (m->v.cols / 3))[byte];
    return m->dtype == UP_F32 ? x : up_half_value(m->dtype, up_half_nearest(m->dtype, x));
}

static double element(const up_ref_matrix *m, int64_t i, int64_t j) {
    int64_t n = m->transposed ? j : i, d = m->transposed ? i : j;
    return m->v.dtype == UP_U8 ? level(m, n, d) : up_get(m->v, n, d);
}

/* to[k][i] = m[i0 + i, k0 + k], zero beyond the edge. Called with the roles of row and column chosen by the
 * caller. */
static void pack(double (*to)[ROWS], up_ref_matrix m, int64_t i0, int64_t ni, int64_t k0, int64_t nk) {
    for (int64_t k = 0; k < nk; k++)
        for (int64_t i = 0; i < ROWS; i++) to[k][i] = i < ni ? element(&m, i0 + i, k0 + k) : 0.0;
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
    up_ref_matrix bt = b;
    bt.transposed = !b.transposed;
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

void up_ref_gemm(int64_t M, int64_t N, int64_t K, up_ref_matrix a, up_ref_matrix b, up_ref_finish finish,
                 const void *context) {
    block t;
    for (int64_t j0 = 0; j0 < N; j0 += COLS)
        for (int64_t i0 = 0; i0 < M; i0 += ROWS) {
            int64_t ni = M - i0 < ROWS ? M - i0 : ROWS, nj = N - j0 < COLS ? N - j0 : COLS;
            multiply_block(&t, a, b, i0, ni, j0, nj, K);
            for (int64_t i = 0; i < ni; i++)
                for (int64_t j = 0; j < nj; j++) finish(context, i0 + i, j0 + j, t.c[i][j]);
        }
}

static void set(const void *c, int64_t i, int64_t j, double sum) {
    up_put(*(const up_view *)c, i, j, sum);
}

static void add(const void *c, int64_t i, int64_t j, double sum) {
    up_put(*(const up_view *)c, i, j, up_get(*(const up_view *)c, i, j) + sum);
}

void up_ref_gemm_set(up_view c, int64_t K, up_ref_matrix a, up_ref_matrix b) {
    up_ref_gemm(c.rows, c.cols, K, a, b, set, &c);
}

void up_ref_gemm_add(up_view c, int64_t K, up_ref_matrix a, up_ref_matrix b) {
    up_ref_gemm(c.rows, c.cols, K, a, b, add, &c);
}
