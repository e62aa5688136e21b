/* backend_host.h - for backends whose buffers lie in host memory (ref, cpu, the tests' guard): what an
 * up_buffer is there, and how an operation turns a view into a pointer. Nothing above the backends includes
 * this. */
#ifndef UNIPERCEIVER_BACKEND_HOST_H
#define UNIPERCEIVER_BACKEND_HOST_H

#include "uniperceiver/backend.h"

struct up_buffer {
    unsigned char *bytes; /* 64-byte aligned */
    size_t size;
};

static inline float *up_f32(up_view v) {
    return v.buffer ? (float *)(void *)v.buffer->bytes + v.offset : NULL;
}
static inline int32_t *up_i32(up_view v) {
    return v.buffer ? (int32_t *)(void *)v.buffer->bytes + v.offset : NULL;
}

#endif
