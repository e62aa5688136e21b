/* index_dots.c - rows of an index in 8 bits, and their dot products. Integers alone, so every set of
 * instructions gives the same sums; with each of them the speed is that of memory. */
#include "files/isa.h"
#include "infer/index_file.h"

#include <math.h>
#include <string.h>

#if defined __x86_64__ && defined __GNUC__
#define UP_INDEX_X86
#include <immintrin.h>
#endif

up_index_coarse up_index_quantize(const float *x, int width, size_t stride, int8_t *out) {
    float largest = 0;
    double rest = 0;
    up_index_coarse coarse = {0};
    memset(out, 0, stride);
    for (int i = 0; i < width; i++) largest = fmaxf(largest, fabsf(x[i]));
    coarse.scale = largest / 127;
    for (int i = 0; i < width && coarse.scale > 0; i++) {
        double value = fmin(127, fmax(-127, nearbyint((double)x[i] / (double)coarse.scale)));
        double left = (double)x[i] - (double)coarse.scale * value;
        out[i] = (int8_t)value;
        coarse.sum += out[i];
        rest += left * left;
    }
    coarse.error = nextafterf((float)sqrt(rest), INFINITY); /* a bound: never rounded down */
    return coarse;
}

static void dots_base(const int8_t *rows, size_t stride, int count, const uint8_t *query, int32_t *sums) {
    for (int r = 0; r < count; r++, rows += stride) {
        int32_t sum = 0;
        for (size_t i = 0; i < stride; i++) sum += (int32_t)rows[i] * (int32_t)query[i];
        sums[r] = sum;
    }
}

#ifdef UP_INDEX_X86
/* 16 bits by 16 bits, as vpmaddubsw would saturate. */
__attribute__((target("avx2"))) static void dots_avx2(const int8_t *rows, size_t stride, int count,
                                                      const uint8_t *query, int32_t *sums) {
    for (int r = 0; r < count; r++, rows += stride) {
        __m256i sum = _mm256_setzero_si256();
        for (size_t i = 0; i < stride; i += 16) {
            __m256i row = _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)(rows + i)));
            __m256i by = _mm256_cvtepu8_epi16(_mm_load_si128((const __m128i *)(query + i)));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(row, by));
        }
        __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
        half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
        half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
        sums[r] = _mm_cvtsi128_si32(half);
    }
}

__attribute__((target("avx512f,avx512vnni"))) static void
dots_avx512(const int8_t *rows, size_t stride, int count, const uint8_t *query, int32_t *sums) {
    for (int r = 0; r < count; r++, rows += stride) {
        __m512i sum = _mm512_setzero_si512();
        for (size_t i = 0; i < stride; i += 64)
            sum = _mm512_dpbusd_epi32(sum, _mm512_load_si512(query + i), _mm512_load_si512(rows + i));
        sums[r] = _mm512_reduce_add_epi32(sum);
    }
}
#endif

void up_index_dots(const int8_t *rows, size_t stride, int count, const uint8_t *query, int32_t *sums) {
#ifdef UP_INDEX_X86
    if (up_isa_here() == UP_ISA_AVX512) {
        dots_avx512(rows, stride, count, query, sums);
        return;
    }
    if (up_isa_here() == UP_ISA_AVX2) {
        dots_avx2(rows, stride, count, query, sums);
        return;
    }
#endif
    dots_base(rows, stride, count, query, sums);
}
