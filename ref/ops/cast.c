/* cast.c - conversion between element types: the definition of how values are rounded to IEEE 754 binary16
 * and to bfloat16 (the upper half of a float): to nearest, ties to even; overflow gives infinity, NaN stays
 * NaN. */
#include "ref/ops/ops.h"

#include <math.h>
#include <string.h>

static uint32_t bits_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float float_of(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

float up_ref_from_bf16(uint16_t h) {
    return float_of((uint32_t)h << 16);
}

uint16_t up_ref_to_bf16(float x) {
    uint32_t u = bits_of(x);
    if (isnan(x))
        return (uint16_t)(u >> 16 | 0x40); /* stay quiet: the payload's low half alone may become 0 */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float up_ref_from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
    if (!exponent) { /* subnormal: a count of the smallest step, exact in f32 */
        float magnitude = (float)fraction * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    return float_of(sign | (exponent == 31 ? 255 : exponent + 127 - 15) << 23 | fraction << 13);
}

uint16_t up_ref_to_f16(float x) {
    uint16_t sign = (uint16_t)(bits_of(x) >> 16 & 0x8000);
    if (isnan(x)) return (uint16_t)(sign | 0x7e00);
    float magnitude = fabsf(x);
    if (magnitude >= 65520.0f)
        return (uint16_t)(sign | 0x7c00); /* half way between 65504 and the next step */
    int step = -24; /* the spacing of halves is 2^step: constant below 2^-14, then 11 bits of the number */
    if (magnitude >= 0x1p-14f) step = ilogbf(magnitude) - 10;
    /* 1024..2048 steps where the number is normal: the hidden bit, and a carry, walk into the exponent. */
    uint32_t count = (uint32_t)nearbyintf(ldexpf(magnitude, -step));
    return (uint16_t)(sign | (((uint32_t)(step + 24) << 10) + count));
}

static float load(up_view v, int64_t n, int64_t d) {
    int64_t at = v.offset + n * v.stride + d;
    const uint16_t *half = (const uint16_t *)(const void *)v.buffer->bytes;
    return v.dtype == UP_F32   ? up_row(v, n)[d]
           : v.dtype == UP_F16 ? up_ref_from_f16(half[at])
                               : up_ref_from_bf16(half[at]);
}

static void store(up_view v, int64_t n, int64_t d, float x) {
    int64_t at = v.offset + n * v.stride + d;
    uint16_t *half = (uint16_t *)(void *)v.buffer->bytes;
    if (v.dtype == UP_F32)
        up_row(v, n)[d] = x;
    else
        half[at] = v.dtype == UP_F16 ? up_ref_to_f16(x) : up_ref_to_bf16(x);
}

up_status up_ref_cast(up_backend *b, const up_cast_args *a) {
    (void)b;
    for (int64_t n = 0; n < a->x.rows; n++)
        for (int64_t d = 0; d < a->x.cols; d++) store(a->y, n, d, load(a->x, n, d));
    return UP_OK;
}
