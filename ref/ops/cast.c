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

static uint16_t to_bf16(float x) {
    uint32_t u = bits_of(x);
    if (isnan(x))
        return (uint16_t)(u >> 16 | 0x40); /* stay quiet: the payload's low half alone may become 0 */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static float from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
    if (exponent == 31) return float_of(sign | 0x7f800000 | fraction << 13);
    if (exponent) return float_of(sign | (exponent + 112) << 23 | fraction << 13);
    float magnitude = (float)fraction * 0x1p-24f;
    return sign ? -magnitude : magnitude;
}

static uint16_t to_f16(float x) {
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

/* The float below |x| with its last bit set where x is no float ("round to odd"): rounding that to a half
 * gives what rounding x itself would give, though it is the second rounding (Boldo and Melquiond 2008). */
static float to_odd(double x) {
    float f = (float)x;
    if (f == x || isnan(x) || isinf(f)) return f;
    if (fabs(f) > fabs(x)) f = nextafterf(f, 0);
    return float_of(bits_of(f) | 1);
}

float up_half_value(up_dtype dtype, uint16_t half) {
    return dtype == UP_F16 ? from_f16(half) : float_of((uint32_t)half << 16);
}

uint16_t up_half_nearest(up_dtype dtype, double x) {
    return dtype == UP_F16 ? to_f16(to_odd(x)) : to_bf16(to_odd(x));
}

up_status up_ref_cast(up_backend *b, const up_cast_args *a) {
    (void)b;
    for (int64_t n = 0; n < a->x.rows; n++)
        for (int64_t d = 0; d < a->x.cols; d++) up_put(a->y, n, d, up_get(a->x, n, d));
    return UP_OK;
}
