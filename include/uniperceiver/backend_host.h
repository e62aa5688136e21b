/* backend_host.h - for backends whose buffers lie in host memory (ref, cpu, the tests' guard): what an
 * up_buffer is there, how an operation turns a view into a pointer, and what the 16 bits of a half mean.
 * Nothing above the backends includes this. */
#ifndef UNIPERCEIVER_BACKEND_HOST_H
#define UNIPERCEIVER_BACKEND_HOST_H

#include "uniperceiver/backend.h"

struct up_buffer {
    unsigned char *bytes; /* 64-byte aligned */
    size_t size;
};

/* The first element of a view; NULL where it is absent. */
static inline float *up_f32(up_view v) {
    return v.buffer ? (float *)(void *)v.buffer->bytes + v.offset : NULL;
}
static inline int32_t *up_i32(up_view v) {
    return v.buffer ? (int32_t *)(void *)v.buffer->bytes + v.offset : NULL;
}
static inline uint16_t *up_half(up_view v) { /* f16 and bf16 */
    return v.buffer ? (uint16_t *)(void *)v.buffer->bytes + v.offset : NULL;
}
static inline uint8_t *up_u8(up_view v) {
    return v.buffer ? v.buffer->bytes + v.offset : NULL;
}

/* The value of an f16 or bf16, and the one nearest to x: ties to even, overflow to infinity, NaN stays NaN.
 */
float up_half_value(up_dtype dtype, uint16_t half);
uint16_t up_half_nearest(up_dtype dtype, double x);

#endif
