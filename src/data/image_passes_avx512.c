/* image_passes_avx512.c - the passes of image_passes.c with AVX-512 and VNNI, byte for byte. A weight is
 * three signed digits to the base 256; vpdpbusd multiplies four pixels by the same digit of four weights and
 * adds, all in 32 bits. Sums wrap like int32_t, so the digits' sums put together are the plain sum. */
#include "data/image_passes.h"

#ifdef UP_IMAGE_PASSES_X86
#include <immintrin.h>
#include <string.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")))

enum { LANES = 64 };

/* [4 weights] -> [4 lowest digits, 4 middle ones, 4 highest ones, nothing], a byte each. No weight reaches
 * two (2^23), so the highest digit fits. */
static void pack(int32_t weights[UP_RESIZE_GROUP]) {
    int8_t digits[4][UP_RESIZE_GROUP] = {{0}};
    for (int t = 0; t < UP_RESIZE_GROUP; t++) {
        int32_t left = weights[t];
        for (int d = 0; d < 3; d++) {
            digits[d][t] = (int8_t)(left & 0xff);
            left = (left - digits[d][t]) / 256;
        }
    }
    memcpy(weights, digits, sizeof digits);
}

typedef struct sums {
    __m512i low, middle, high;
} sums;

static inline AVX512 sums begin(void) {
    return (sums){_mm512_set1_epi32(1 << (UP_RESIZE_FRACTION - 1)), _mm512_setzero_si512(),
                  _mm512_setzero_si512()};
}

static inline AVX512 void add(sums *s, __m512i pixels, const int32_t group[UP_RESIZE_GROUP]) {
    s->low = _mm512_dpbusd_epi32(s->low, pixels, _mm512_set1_epi32(group[0]));
    s->middle = _mm512_dpbusd_epi32(s->middle, pixels, _mm512_set1_epi32(group[1]));
    s->high = _mm512_dpbusd_epi32(s->high, pixels, _mm512_set1_epi32(group[2]));
}

static inline AVX512 __m512i whole(const sums *s) {
    __m512i upper = _mm512_add_epi32(_mm512_slli_epi32(s->high, 8), s->middle);
    __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(upper, 8), s->low);
    return _mm512_srai_epi32(sum, UP_RESIZE_FRACTION);
}

/* 4 x 16 numbers to bytes between 0 and 255; the 16 of a lane come from the four vectors in turn. */
static inline AVX512 __m512i bytes_of(__m512i a, __m512i b, __m512i c, __m512i d) {
    return _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
}

static inline AVX512 __m128i load(const uint8_t *at) {
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

/* One output pixel of each of four rows, a row in each lane: [R, G, B, nothing]. */
static inline AVX512 __m512i pixel(const up_resize_taps *k, int x, const uint8_t *const in[UP_RESIZE_ROWS]) {
    const __m512i by_channel = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1)); /* four pixels */
    const int32_t *group = k->weights + (size_t)x * (size_t)k->taps;
    size_t at = (size_t)k->first[x] * 3;
    sums s = begin();
    for (int left = k->count[x]; left > 0; left -= UP_RESIZE_GROUP) {
        __m512i pixels = _mm512_castsi128_si512(load(in[0] + at));
        pixels = _mm512_inserti32x4(pixels, load(in[1] + at), 1);
        pixels = _mm512_inserti32x4(pixels, load(in[2] + at), 2);
        pixels = _mm512_inserti32x4(pixels, load(in[3] + at), 3);
        add(&s, _mm512_shuffle_epi8(pixels, by_channel), group);
        group += UP_RESIZE_GROUP;
        at += 3 * UP_RESIZE_GROUP;
    }
    return whole(&s);
}

static inline AVX512 void store(uint8_t *to, __m128i bytes) {
    _mm_storeu_si128((__m128i *)(void *)to, bytes);
}

/* Four output pixels of each row at a time; behind the last one it is done again. */
static AVX512 void across(const up_resize_taps *k, const uint8_t *const in[UP_RESIZE_ROWS],
                          uint8_t *const out[UP_RESIZE_ROWS]) {
    const __m512i close_up = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1)); /* [R G B -] to [R G B] */
    int last = k->n - 1;
    for (int x = 0; x < k->n; x += 4) {
        __m512i a = pixel(k, x, in);
        __m512i b = pixel(k, x + 1 < last ? x + 1 : last, in);
        __m512i c = pixel(k, x + 2 < last ? x + 2 : last, in);
        __m512i d = pixel(k, x + 3 < last ? x + 3 : last, in);
        __m512i four = _mm512_shuffle_epi8(bytes_of(a, b, c, d), close_up);
        size_t at = (size_t)x * 3;
        store(out[0] + at, _mm512_castsi512_si128(four));
        store(out[1] + at, _mm512_extracti32x4_epi32(four, 1));
        store(out[2] + at, _mm512_extracti32x4_epi32(four, 2));
        store(out[3] + at, _mm512_extracti32x4_epi32(four, 3));
    }
}

/* 64 columns of one output row. Four rows are interleaved byte by byte, so that a lane of 32 bits is a
 * column. */
static inline AVX512 __m512i columns(const int32_t *group, int count, const uint8_t *rows, size_t stride) {
    sums s[4] = {begin(), begin(), begin(), begin()};
    for (int t = 0; t < count; t += UP_RESIZE_GROUP, group += UP_RESIZE_GROUP) {
        __m512i row[UP_RESIZE_GROUP];
        for (int i = 0; i < UP_RESIZE_GROUP; i++) /* behind the last one its weights are 0 */
            row[i] = _mm512_loadu_si512(rows + (size_t)(t + i < count ? t + i : count - 1) * stride);
        __m512i front_low = _mm512_unpacklo_epi8(row[0], row[1]),
                front_high = _mm512_unpackhi_epi8(row[0], row[1]),
                back_low = _mm512_unpacklo_epi8(row[2], row[3]),
                back_high = _mm512_unpackhi_epi8(row[2], row[3]);
        add(&s[0], _mm512_unpacklo_epi16(front_low, back_low), group);
        add(&s[1], _mm512_unpackhi_epi16(front_low, back_low), group);
        add(&s[2], _mm512_unpacklo_epi16(front_high, back_high), group);
        add(&s[3], _mm512_unpackhi_epi16(front_high, back_high), group);
    }
    return bytes_of(whole(&s[0]), whole(&s[1]), whole(&s[2]), whole(&s[3]));
}

static AVX512 void down(const up_resize_taps *k, int i, const uint8_t *rows, size_t stride, size_t n,
                        uint8_t *out) {
    const int32_t *weights = k->weights + (size_t)i * (size_t)k->taps;
    for (size_t at = 0; at < n; at += LANES) {
        __m512i bytes = columns(weights, k->count[i], rows + at, stride);
        __mmask64 wanted = n - at < LANES ? ((__mmask64)1 << (n - at)) - 1 : ~(__mmask64)0;
        _mm512_mask_storeu_epi8(out + at, wanted, bytes);
    }
}

/* 16 pixels: one permutation of their 48 bytes. */
static AVX512 void split(const uint8_t *in, int n, uint8_t *out, size_t plane) {
    enum { STEP = 16 };
    static const uint8_t by_channel[LANES] = {
        0, 3, 6, 9,  12, 15, 18, 21, 24, 27, 30, 33, 36, 39, 42, 45, /* red */
        1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 37, 40, 43, 46, /* green */
        2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 32, 35, 38, 41, 44, 47, /* blue */
    };
    const __mmask64 three = ((__mmask64)1 << (3 * STEP)) - 1;
    const __m512i order = _mm512_loadu_si512(by_channel);
    for (; n >= STEP; n -= STEP, in += 3 * STEP, out += STEP) {
        __m512i planes = _mm512_permutexvar_epi8(order, _mm512_maskz_loadu_epi8(three, in));
        store(out, _mm512_castsi512_si128(planes));
        store(out + plane, _mm512_extracti32x4_epi32(planes, 1));
        store(out + 2 * plane, _mm512_extracti32x4_epi32(planes, 2));
    }
    up_image_passes_base.split(in, n, out, plane);
}

const up_image_passes up_image_passes_avx512 = {pack, across, down, split};
#endif
