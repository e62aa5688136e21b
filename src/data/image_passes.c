/* image_passes.c - the inner loops of resizing and patches in portable C: what the vector code must equal. */
#include "data/image_passes.h"

static uint8_t rounded(int32_t sum) {
    sum >>= UP_RESIZE_FRACTION;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static void across_row(const up_resize_taps *k, const uint8_t *in, uint8_t *out) {
    for (int x = 0; x < k->n; x++, out += 3) {
        const uint8_t *pixel = in + (size_t)k->first[x] * 3;
        const int32_t *weight = k->weights + (size_t)x * (size_t)k->taps;
        int32_t r = 1 << (UP_RESIZE_FRACTION - 1), g = r, b = r;
        for (int t = 0; t < k->count[x]; t++, pixel += 3) {
            r += pixel[0] * weight[t];
            g += pixel[1] * weight[t];
            b += pixel[2] * weight[t];
        }
        out[0] = rounded(r);
        out[1] = rounded(g);
        out[2] = rounded(b);
    }
}

static void across(const up_resize_taps *k, const uint8_t *const in[UP_RESIZE_ROWS],
                   uint8_t *const out[UP_RESIZE_ROWS]) {
    for (int row = 0; row < UP_RESIZE_ROWS; row++) across_row(k, in[row], out[row]);
}

/* In pieces whose sums stay in the nearest cache. */
static void down(const up_resize_taps *k, int i, const uint8_t *rows, size_t stride, size_t n, uint8_t *out) {
    enum { PIECE = 512 };
    int32_t sums[PIECE];
    const int32_t *weights = k->weights + (size_t)i * (size_t)k->taps;
    for (size_t at = 0; at < n; at += PIECE) {
        size_t some = n - at < PIECE ? n - at : PIECE;
        for (size_t x = 0; x < some; x++) sums[x] = 1 << (UP_RESIZE_FRACTION - 1);
        for (int t = 0; t < k->count[i]; t++) {
            const uint8_t *row = rows + (size_t)t * stride + at;
            for (size_t x = 0; x < some; x++) sums[x] += row[x] * weights[t];
        }
        for (size_t x = 0; x < some; x++) out[at + x] = rounded(sums[x]);
    }
}

static void split(const uint8_t *in, int n, uint8_t *out, size_t plane) {
    for (int i = 0; i < n; i++, in += 3, out++) {
        out[0] = in[0];
        out[plane] = in[1];
        out[2 * plane] = in[2];
    }
}

const up_image_passes up_image_passes_base = {NULL, across, down, split};

const up_image_passes *up_image_passes_of(up_isa isa) {
    switch (isa) {
#ifdef UP_IMAGE_PASSES_X86
    case UP_ISA_AVX512:
        return &up_image_passes_avx512;
    case UP_ISA_AVX2:
        return &up_image_passes_avx2;
#endif
    case UP_ISA_BASE:
        return &up_image_passes_base;
    default:
        return NULL;
    }
}

const up_image_passes *up_image_passes_here(void) {
    return up_image_passes_of(up_isa_here());
}
