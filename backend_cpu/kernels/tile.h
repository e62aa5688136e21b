/* tile.h - C[m, n] = alpha A B (+ C) in registers: the inner part of attention. A may
 * lie in any strides; rows of B and C are contiguous and n is a multiple of the vector width. */
#ifndef UP_CPU_TILE_H
#define UP_CPU_TILE_H

#include "backend_cpu/kernels/vector.h"

typedef float up_vec __attribute__((vector_size(4 * UP_VW), aligned(4), may_alias));

#if defined(__AVX512F__)
enum { UP_TILE_ROWS = 12 }; /* 24 accumulators of 32 registers */
#elif defined(__AVX2__)
enum { UP_TILE_ROWS = 6 }; /* 12 of 16 */
#else
enum { UP_TILE_ROWS = 4 }; /* 8 of 16, as multiply and add are apart */
#endif
/* An address that the compiler shall not compute anew from another one. */
#define UP_KEEP(p) __asm__("" : "+r"(p))
enum { UP_TILE_COLS = 2 * UP_VW };

typedef struct up_tile {
    int64_t k;
    float alpha;
    int add;
    const float *a;
    int64_t a_row, a_col;
    const float *b;
    int64_t ldb;
    float *c;
    int64_t ldc;
} up_tile;

/* rows and vectors are constants at every call, so that the accumulators become registers. Three bases, four
 * rows from each, keep the addresses in registers too. */
UP_INLINE void up_tile_fixed(const int rows, const int vectors, const up_tile *t, const float *a0,
                             const float *b, float *c0) {
    up_vec acc[UP_TILE_ROWS][2];
    UP_UNROLL
    for (int i = 0; i < rows; i++) acc[i][0] = acc[i][1] = (up_vec){0};
    const int64_t a_row = t->a_row, a_col = t->a_col, ldb = t->ldb;
    const float *a[3] = {a0, rows > 4 ? a0 + 4 * a_row : a0, rows > 8 ? a0 + 8 * a_row : a0};
    for (int64_t k = t->k; k > 0; k--, b += ldb) {
        up_vec b0 = *(const up_vec *)b, b1 = b0;
        if (vectors == 2) b1 = *(const up_vec *)(b + UP_VW);
        UP_UNROLL
        for (int i = 0; i < rows; i++) {
            float x = a[i / 4][i % 4 * a_row];
            acc[i][0] += x * b0;
            if (vectors == 2) acc[i][1] += x * b1;
        }
        UP_UNROLL
        for (int i = 0; i < (rows + 3) / 4; i++) {
            a[i] += a_col;
            UP_KEEP(a[i]);
        }
    }
    UP_UNROLL
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < vectors; j++) {
            up_vec *c = (up_vec *)(c0 + i * t->ldc + j * UP_VW);
            if (t->add)
                *c += t->alpha * acc[i][j];
            else
                *c = t->alpha * acc[i][j];
        }
    }
}

UP_INLINE void up_tile_rows(int rows, const int vectors, const up_tile *t, const float *a, const float *b,
                            float *c) {
    switch (rows) {
#define UP_TILE_CASE(r)                                                                                      \
    case r:                                                                                                  \
        up_tile_fixed(r, vectors, t, a, b, c);                                                               \
        break
        UP_TILE_CASE(1);
        UP_TILE_CASE(2);
        UP_TILE_CASE(3);
        UP_TILE_CASE(4);
#if defined(__AVX2__)
        UP_TILE_CASE(5);
        UP_TILE_CASE(6);
#endif
#if defined(__AVX512F__)
        UP_TILE_CASE(7);
        UP_TILE_CASE(8);
        UP_TILE_CASE(9);
        UP_TILE_CASE(10);
        UP_TILE_CASE(11);
        UP_TILE_CASE(12);
#endif
#undef UP_TILE_CASE
    default:
        break;
    }
}

/* Rows 0..m-1 of one or two vectors' width from column j on, in tiles of nearly equal height. */
static void up_tile_column(int64_t m, int vectors, const up_tile *t, int64_t j) {
    const float *a = t->a, *b = t->b + j;
    float *c = t->c + j;
    for (int64_t tiles = (m + UP_TILE_ROWS - 1) / UP_TILE_ROWS; tiles > 0; tiles--) {
        int rows = (int)((m + tiles - 1) / tiles);
        if (vectors == 2)
            up_tile_rows(rows, 2, t, a, b, c);
        else
            up_tile_rows(rows, 1, t, a, b, c);
        a += rows * t->a_row;
        c += rows * t->ldc;
        m -= rows;
    }
}

/* n is a multiple of UP_VW. */
static inline void up_tile_block(int64_t m, int64_t n, up_tile t) {
    for (int64_t j = 0; j < n; j += UP_TILE_COLS) up_tile_column(m, n - j >= UP_TILE_COLS ? 2 : 1, &t, j);
}

#endif
