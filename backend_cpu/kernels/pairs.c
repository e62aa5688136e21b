/* pairs.c - C[m, n] = alpha A B of bf16 with f32 sums, where the processor multiplies pairs of them: as
 * tile.h, but an element of A and B is a word of two bf16, neighbours along the dimension that is summed
 * over. Rows of B and C are contiguous and n is a multiple of the vector width. */
#include "backend_cpu/kernels/attention.h"

#ifdef __AVX512BF16__
#include <immintrin.h>

typedef uint32_t word __attribute__((may_alias));

typedef struct pairs {
    int64_t k; /* words */
    float alpha;
    const word *a;
    int64_t lda;
    const word *b;
    int64_t ldb;
    float *c;
    int64_t ldc;
} pairs;

/* rows and vectors are constants at every call, as in up_tile_fixed. */
UP_INLINE void pairs_fixed(const int rows, const int vectors, const pairs *t, const word *a0, const word *b,
                           float *c0) {
    __m512 acc[UP_TILE_ROWS][2];
    UP_UNROLL
    for (int i = 0; i < rows; i++) acc[i][0] = acc[i][1] = _mm512_setzero_ps();
    const int64_t lda = t->lda, ldb = t->ldb;
    const word *a[3] = {a0, rows > 4 ? a0 + 4 * lda : a0, rows > 8 ? a0 + 8 * lda : a0};
    for (int64_t k = t->k; k > 0; k--, b += ldb) {
        __m512bh b0 = (__m512bh)_mm512_loadu_si512(b), b1 = b0;
        if (vectors == 2) b1 = (__m512bh)_mm512_loadu_si512(b + UP_VW);
        UP_UNROLL
        for (int i = 0; i < rows; i++) {
            __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[i / 4][i % 4 * lda]);
            acc[i][0] = _mm512_dpbf16_ps(acc[i][0], b0, x);
            if (vectors == 2) acc[i][1] = _mm512_dpbf16_ps(acc[i][1], b1, x);
        }
        UP_UNROLL
        for (int i = 0; i < (rows + 3) / 4; i++) {
            a[i]++;
            UP_KEEP(a[i]);
        }
    }
    UP_UNROLL
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < vectors; j++)
            *(up_vec *)(c0 + i * t->ldc + j * UP_VW) = t->alpha * (up_vec)acc[i][j];
    }
}

UP_INLINE void pairs_rows(int rows, const int vectors, const pairs *t, const word *a, const word *b,
                          float *c) {
    switch (rows) {
#define PAIRS_CASE(r)                                                                                        \
    case r:                                                                                                  \
        pairs_fixed(r, vectors, t, a, b, c);                                                                 \
        break
        PAIRS_CASE(1);
        PAIRS_CASE(2);
        PAIRS_CASE(3);
        PAIRS_CASE(4);
        PAIRS_CASE(5);
        PAIRS_CASE(6);
        PAIRS_CASE(7);
        PAIRS_CASE(8);
        PAIRS_CASE(9);
        PAIRS_CASE(10);
        PAIRS_CASE(11);
        PAIRS_CASE(12);
#undef PAIRS_CASE
    default:
        break;
    }
}

/* Rows 0..m-1 of one or two vectors' width from column j on, in tiles of nearly equal height. */
static void pairs_column(int64_t m, int vectors, const pairs *t, int64_t j) {
    const word *a = t->a, *b = t->b + j;
    float *c = t->c + j;
    for (int64_t tiles = (m + UP_TILE_ROWS - 1) / UP_TILE_ROWS; tiles > 0; tiles--) {
        int rows = (int)((m + tiles - 1) / tiles);
        if (vectors == 2)
            pairs_rows(rows, 2, t, a, b, c);
        else
            pairs_rows(rows, 1, t, a, b, c);
        a += rows * t->lda;
        c += rows * t->ldc;
        m -= rows;
    }
}

/* n is a multiple of UP_VW. */
static inline void pairs_block(int64_t m, int64_t n, pairs t) {
    for (int64_t j = 0; j < n; j += UP_TILE_COLS) pairs_column(m, n - j >= UP_TILE_COLS ? 2 : 1, &t, j);
}

int UP_K(has_pairs)(void) {
    return 1;
}

void UP_K(pair_products)(int64_t m, int64_t lanes, int64_t words, float alpha, up_rows x, const float *y,
                         float *to) {
    pairs_block(m, lanes, (pairs){words, alpha, (const word *)x.p, x.ld, (const word *)y, lanes, to, lanes});
}

#else

int UP_K(has_pairs)(void) {
    return 0;
}

void UP_K(pair_products)(int64_t m, int64_t lanes, int64_t words, float alpha, up_rows x, const float *y,
                         float *to) {
    (void)m;
    (void)lanes;
    (void)words;
    (void)alpha;
    (void)x;
    (void)y;
    (void)to;
}
#endif
