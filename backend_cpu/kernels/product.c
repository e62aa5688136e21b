/* product.c - the inner part of the matrix product: tiles of C in registers, from operands that lie packed in
 * panels (pack.c; the scheme of Goto and van de Geijn, TOMS 2008). Panels hold words of 32 bits: one f32, or,
 * where the processor multiplies bf16, two bf16 that follow each other along k.
 *
 * Every element of C is the same chain of multiply-adds over k, whatever the tile's height and whichever
 * operand is broadcast: its bits do not depend on its neighbours. */
#include "backend_cpu/kernels/vector.h"
#ifdef __AVX2__
#include <immintrin.h>
#endif

typedef float vec __attribute__((vector_size(4 * UP_VW), aligned(4), may_alias));

enum { COLS = 2 * UP_VW, LINE = 16 /* words of a cache line */ };
#if defined(__AVX512F__)
enum { BLOCK = 416 }; /* of a panel: 52 KiB */
#else
enum { BLOCK = 256 }; /* 16 KiB with AVX2 */
#endif
enum { ROWS = UP_TILE_HEIGHT };

/* Which operands: f32; bf16; f32 where the tile's rows are the columns of panels as wide as COLS, so that
 * a word's neighbours along k are next to it. */
typedef enum form { PACKED, PAIRS, TURNED } form;

/* acc + a b, rounded once where the processor can: asked for by name, since a compiler that is left to join
 * the two may do so for tiles of one height and not for another's. */
UP_INLINE vec fused(vec acc, vec a, vec b) {
#if defined(__AVX512F__)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)acc);
#elif defined(__AVX2__)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)acc);
#else
    return acc + a * b;
#endif
}

UP_INLINE vec multiply_add(const form form, vec acc, float a, vec b) {
#ifdef __AVX512BF16__
    if (form == PAIRS) {
        __m512 all = _mm512_set1_ps(a);
        return (vec)_mm512_dpbf16_ps((__m512)acc, (__m512bh)all, (__m512bh)b);
    }
#endif
    (void)form;
    return fused(acc, a - (vec){0}, b);
}

/* k words into the accumulators. rows is a constant at every call. */
UP_INLINE void run(const form form, const int rows, int64_t k, const float *a, const float *b,
                   const float *ahead, int64_t step, vec acc[ROWS][2]) {
    const int64_t a_row = form == TURNED ? COLS : 1, a_step = form == TURNED ? 1 : ROWS;
    for (; k > 0; k--, b += COLS, a += a_step, ahead += step) {
        __builtin_prefetch(ahead, 0, 2);
        vec b0 = *(const vec *)b, b1 = *(const vec *)(b + UP_VW);
        UP_UNROLL
        for (int i = 0; i < rows; i++) {
            float x = a[i * a_row];
            acc[i][0] = multiply_add(form, acc[i][0], x, b0);
            acc[i][1] = multiply_add(form, acc[i][1], x, b1);
        }
    }
}

UP_INLINE void tile(const form form, const int rows, const up_cpu_tiles *t, const float *a, float *c,
                    const float *ahead, int64_t step) {
    vec acc[ROWS][2];
    UP_UNROLL
    for (int i = 0; i < rows; i++) acc[i][0] = acc[i][1] = (vec){0};
    if (form == TURNED) {
        const float *b = t->b;
        for (int64_t k = 0; k < t->k; k += COLS, a += t->a_panel, b += COLS * COLS)
            run(form, rows, t->k - k < COLS ? t->k - k : COLS, a, b, a + ROWS * COLS, LINE, acc);
    } else {
        run(form, rows, t->k, a, t->b, ahead, step, acc);
    }
    const vec alpha = t->alpha - (vec){0};
    UP_UNROLL
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < 2; j++) {
            vec *to = (vec *)(c + i * t->ldc + j * UP_VW);
            if (t->add)
                *to = fused(*to, alpha, acc[i][j]);
            else
                *to = alpha * acc[i][j];
        }
}

UP_INLINE void tile_of(const form form, int rows, const up_cpu_tiles *t, const float *a, float *c,
                       const float *ahead, int64_t step) {
    switch (rows) {
#define CASE(r)                                                                                              \
    case r:                                                                                                  \
        tile(form, r, t, a, c, ahead, step);                                                                 \
        break
        CASE(1);
        CASE(2);
        CASE(3);
        CASE(4);
#if defined(__AVX2__)
        CASE(5);
        CASE(6);
#endif
#if defined(__AVX512F__)
        CASE(7);
        CASE(8);
        CASE(9);
        CASE(10);
        CASE(11);
        CASE(12);
        CASE(13);
        CASE(14);
#endif
#undef CASE
    default:
        break;
    }
}

/* m rows of C over one panel of B. The first tiles fetch the panel that comes next. */
UP_INLINE void tiles(const form form, int64_t m, const up_cpu_tiles *t) {
    const float *a = t->a, *ahead = t->ahead ? t->ahead : t->b, *end = ahead + t->k * COLS;
    const char *fetch = t->fetch;
    float *c = t->c;
    for (; m > 0; m -= ROWS) {
        int64_t step = t->ahead && ahead < end ? LINE : 0;
        for (int64_t i = 0; i < t->fetch_lines; i++) {
            __builtin_prefetch(fetch + i * t->fetch_ld, 1);
            __builtin_prefetch(fetch + i * t->fetch_ld + 4 * LINE, 1);
        }
        if (fetch) fetch += t->fetch_step;
        tile_of(form, m < ROWS ? (int)m : ROWS, t, a, c, ahead, step);
        ahead += step * t->k;
        a += form == TURNED ? ROWS * COLS : t->a_tile;
        c += ROWS * t->ldc;
    }
}

static void packed(int64_t m, const up_cpu_tiles *t) {
    tiles(PACKED, m, t);
}
static void turned(int64_t m, const up_cpu_tiles *t) {
    tiles(TURNED, m, t);
}
#ifdef __AVX512BF16__
static void pairs(int64_t m, const up_cpu_tiles *t) {
    tiles(PAIRS, m, t);
}
#endif

void UP_K(fill_product)(up_cpu_kernels *k) {
    k->tile_rows = ROWS;
    k->tile_cols = COLS;
    k->tile_block = BLOCK;
    k->multiply = packed;
    k->multiply_turned = turned;
#ifdef __AVX512BF16__
    k->multiply_pairs = pairs;
#else
    k->multiply_pairs = NULL;
#endif
}
