/* gemm.c - the plain matrix product, for builds without oneDNN and OpenBLAS and for the tests: B is packed
 * into panels of one tile's width in blocks that stay in the caches (the scheme of Goto and van de Geijn,
 * TOMS 2008), A is read in place. */
#include "backend_cpu/kernels/tile.h"

enum { GEMM_K = 256, GEMM_N = 256 };

/* panels[j / cols][k][j % cols], the last panel filled with zeros. */
static void pack(int64_t k, int64_t n, const float *b, int64_t b_row, int64_t b_col, float *panels) {
    for (int64_t j0 = 0; j0 < n; j0 += UP_TILE_COLS, panels += k * UP_TILE_COLS) {
        int64_t width = n - j0 < UP_TILE_COLS ? n - j0 : UP_TILE_COLS;
        if (width < UP_TILE_COLS) memset(panels, 0, (size_t)k * UP_TILE_COLS * sizeof *panels);
        if (b_col == 1)
            for (int64_t i = 0; i < k; i++)
                memcpy(panels + i * UP_TILE_COLS, b + i * b_row + j0, (size_t)width * sizeof *b);
        else
            for (int64_t j = 0; j < width; j++)
                for (int64_t i = 0; i < k; i++)
                    panels[i * UP_TILE_COLS + j] = b[i * b_row + (j0 + j) * b_col];
    }
}

/* The last columns, narrower than a tile: through a small block of their own. */
static void narrow(int64_t m, int64_t width, up_tile t, float *block) {
    float *c = t.c;
    int64_t ldc = t.ldc;
    int add = t.add;
    t.c = block;
    t.ldc = UP_TILE_COLS;
    t.add = 0;
    for (int64_t i0 = 0; i0 < m; i0 += UP_TILE_ROWS) {
        int64_t rows = m - i0 < UP_TILE_ROWS ? m - i0 : UP_TILE_ROWS;
        up_tile_column(rows, 2, &t, 0);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < width; j++) {
                float *at = c + (i0 + i) * ldc + j, value = block[i * UP_TILE_COLS + j];
                *at = add ? *at + value : value;
            }
        t.a += UP_TILE_ROWS * t.a_row;
    }
}

static void gemm(int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t a_row, int64_t a_col,
                 const float *b, int64_t b_row, int64_t b_col, int add, float *c, int64_t ldc, float *work) {
    float *edge = work + GEMM_K * GEMM_N;
    for (int64_t j0 = 0; j0 < n; j0 += GEMM_N)
        for (int64_t k0 = 0; k0 < k; k0 += GEMM_K) {
            int64_t nb = n - j0 < GEMM_N ? n - j0 : GEMM_N, kb = k - k0 < GEMM_K ? k - k0 : GEMM_K;
            pack(kb, nb, b + k0 * b_row + j0 * b_col, b_row, b_col, work);
            up_tile t = {kb,    alpha, add || k0 > 0, a + k0 * a_col, a_row,
                         a_col, work,  UP_TILE_COLS,  c + j0,         ldc};
            for (int64_t j = 0; j < nb; j += UP_TILE_COLS) {
                if (nb - j >= UP_TILE_COLS)
                    up_tile_column(m, 2, &t, 0);
                else
                    narrow(m, nb - j, t, edge);
                t.b += kb * UP_TILE_COLS;
                t.c += UP_TILE_COLS;
            }
        }
}

void UP_K(fill_gemm)(up_cpu_kernels *k) {
    k->gemm = gemm;
    k->gemm_work = GEMM_K * GEMM_N + UP_TILE_ROWS * UP_TILE_COLS;
}
