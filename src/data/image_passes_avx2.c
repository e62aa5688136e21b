/* image_passes_avx2.c - the passes of image_passes.c with AVX2, byte for byte. A weight is its lower 15 bits
 * and the signed rest; vpmaddwd multiplies two pixels by the same half of two weights and adds, all in 32
 * bits. Sums wrap like int32_t, so the halves' sums put together are the plain sum. */
#include "data/image_passes.h"

#ifdef UP_IMAGE_PASSES_X86
#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2")))

enum { LANES = 32, LOW_BITS = 15 };

/* [4 weights] -> [2 lower halves, 2 upper halves] of the first two and of the last two, 16 bits each. */
static void pack(int32_t weights[UP_RESIZE_GROUP]) {
    int16_t halves[2][2][2];
    for (int t = 0; t < UP_RESIZE_GROUP; t++) {
        halves[t / 2][0][t % 2] = (int16_t)(weights[t] & ((1 << LOW_BITS) - 1));
        halves[t / 2][1][t % 2] = (int16_t)(weights[t] >> LOW_BITS);
    }
    memcpy(weights, halves, sizeof halves);
}

typedef struct sums {
    __m256i low, high;
} sums;

static inline AVX2 sums begin(void) {
    return (sums){_mm256_set1_epi32(1 << (UP_RESIZE_FRACTION - 1)), _mm256_setzero_si256()};
}

/* `pixels`: two of 16 bits in each lane of 32; `two`: the halves of their weights. */
static inline AVX2 void add(sums *s, __m256i pixels, const int32_t two[2]) {
    s->low = _mm256_add_epi32(s->low, _mm256_madd_epi16(pixels, _mm256_set1_epi32(two[0])));
    s->high = _mm256_add_epi32(s->high, _mm256_madd_epi16(pixels, _mm256_set1_epi32(two[1])));
}

static inline AVX2 __m256i whole(const sums *s) {
    __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(s->high, LOW_BITS), s->low);
    return _mm256_srai_epi32(sum, UP_RESIZE_FRACTION);
}

/* 4 x 8 numbers to bytes between 0 and 255; the 16 of a lane come from the four vectors in turn. */
static inline AVX2 __m256i bytes_of(__m256i a, __m256i b, __m256i c, __m256i d) {
    return _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
}

static inline AVX2 __m128i load(const uint8_t *at) {
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

static inline AVX2 void store(uint8_t *to, __m128i bytes) {
    _mm_storeu_si128((__m128i *)(void *)to, bytes);
}

static inline AVX2 __m256i both_lanes(__m128i x) {
    return _mm256_broadcastsi128_si256(x);
}

/* One output pixel of each of two rows, a row in each lane: [R, G, B, nothing]. */
static inline AVX2 __m256i pixel(const up_resize_taps *k, int x, const uint8_t *above, const uint8_t *below) {
    const __m256i first_two =
        both_lanes(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m256i last_two =
        both_lanes(_mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
    const int32_t *group = k->weights + (size_t)x * (size_t)k->taps;
    size_t at = (size_t)k->first[x] * 3;
    sums s = begin();
    for (int left = k->count[x]; left > 0; left -= UP_RESIZE_GROUP) {
        __m256i pixels =
            _mm256_inserti128_si256(_mm256_castsi128_si256(load(above + at)), load(below + at), 1);
        add(&s, _mm256_shuffle_epi8(pixels, first_two), group);
        add(&s, _mm256_shuffle_epi8(pixels, last_two), group + 2);
        group += UP_RESIZE_GROUP;
        at += 3 * UP_RESIZE_GROUP;
    }
    return whole(&s);
}

/* Four output pixels of two rows at a time; behind the last one it is done again. */
static AVX2 void across_two(const up_resize_taps *k, const uint8_t *const in[2], uint8_t *const out[2]) {
    const __m256i close_up = both_lanes(
        _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1)); /* [R G B -] to [R G B] */
    int last = k->n - 1;
    for (int x = 0; x < k->n; x += 4) {
        __m256i a = pixel(k, x, in[0], in[1]);
        __m256i b = pixel(k, x + 1 < last ? x + 1 : last, in[0], in[1]);
        __m256i c = pixel(k, x + 2 < last ? x + 2 : last, in[0], in[1]);
        __m256i d = pixel(k, x + 3 < last ? x + 3 : last, in[0], in[1]);
        __m256i four = _mm256_shuffle_epi8(bytes_of(a, b, c, d), close_up);
        store(out[0] + (size_t)x * 3, _mm256_castsi256_si128(four));
        store(out[1] + (size_t)x * 3, _mm256_extracti128_si256(four, 1));
    }
}

static AVX2 void across(const up_resize_taps *k, const uint8_t *const in[UP_RESIZE_ROWS],
                        uint8_t *const out[UP_RESIZE_ROWS]) {
    for (int row = 0; row < UP_RESIZE_ROWS; row += 2) across_two(k, in + row, out + row);
}

/* 32 columns of one output row. Two rows are interleaved, so that a lane of 32 bits is a column. */
static inline AVX2 __m256i columns(const int32_t *group, int count, const uint8_t *rows, size_t stride) {
    const __m256i zero = _mm256_setzero_si256();
    sums s[4] = {begin(), begin(), begin(), begin()};
    for (int t = 0; t < count; t += 2, group += 2) {
        const uint8_t *first = rows + (size_t)t * stride;
        const uint8_t *second =
            first + (t + 1 < count ? stride : 0); /* behind the last one its weight is 0 */
        __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)first);
        __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)second);
        __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
        add(&s[0], _mm256_unpacklo_epi8(low, zero), group);
        add(&s[1], _mm256_unpackhi_epi8(low, zero), group);
        add(&s[2], _mm256_unpacklo_epi8(high, zero), group);
        add(&s[3], _mm256_unpackhi_epi8(high, zero), group);
    }
    return bytes_of(whole(&s[0]), whole(&s[1]), whole(&s[2]), whole(&s[3]));
}

static AVX2 void down(const up_resize_taps *k, int i, const uint8_t *rows, size_t stride, size_t n,
                      uint8_t *out) {
    const int32_t *weights = k->weights + (size_t)i * (size_t)k->taps;
    for (size_t at = 0; at < n; at += LANES) {
        uint8_t last[LANES];
        int cut = n - at < LANES;
        __m256i bytes = columns(weights, k->count[i], rows + at, stride);
        _mm256_storeu_si256((__m256i *)(void *)(cut ? last : out + at), bytes);
        if (cut) memcpy(out + at, last, n - at);
    }
}

/* Three times 16 bytes hold 16 pixels; where each channel's lie in each of them, -1: elsewhere. */
static AVX2 void split(const uint8_t *in, int n, uint8_t *out, size_t plane) {
    enum { STEP = 16 };
    static const int8_t place[3][3][STEP] = {
        {
            {0, 3, 6, 9, 12, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1},
            {-1, -1, -1, -1, -1, -1, 2, 5, 8, 11, 14, -1, -1, -1, -1, -1},
            {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 1, 4, 7, 10, 13},
        },
        {
            {1, 4, 7, 10, 13, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1},
            {-1, -1, -1, -1, -1, 0, 3, 6, 9, 12, 15, -1, -1, -1, -1, -1},
            {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 2, 5, 8, 11, 14},
        },
        {
            {2, 5, 8, 11, 14, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1},
            {-1, -1, -1, -1, -1, 1, 4, 7, 10, 13, -1, -1, -1, -1, -1, -1},
            {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 3, 6, 9, 12, 15},
        },
    };
    for (; n >= STEP; n -= STEP, in += 3 * STEP, out += STEP)
        for (int c = 0; c < 3; c++) {
            __m128i channel = _mm_setzero_si128();
            for (int part = 0; part < 3; part++)
                channel = _mm_or_si128(
                    channel, _mm_shuffle_epi8(load(in + STEP * part), load((const uint8_t *)place[c][part])));
            store(out + (size_t)c * plane, channel);
        }
    up_image_passes_base.split(in, n, out, plane);
}

const up_image_passes up_image_passes_avx2 = {pack, across, down, split};
#endif
