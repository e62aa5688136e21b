/* mma.cpp - the product of a warp's fragments (include/mma.h): whoever of the warp comes last computes it for
 * all lanes. */
#include "mma.h"
#include "executor.h"

/* Lane l owns the elements (l / 2, 8 (l % 2) + i): all fragments together, in order of lanes, are the matrix
 * by rows. */
static void collect(void **lanes, bool second, float *matrix) {
    for (int l = 0; l < 32; l++) {
        const auto *p = static_cast<const up_cuda_host_product *>(lanes[l]);
        const auto *bits = static_cast<const unsigned short *>(second ? p->b : p->a);
        for (int i = 0; i < 8; i++)
            matrix[l * 8 + i] =
                p->bf16 ? __uint_as_float((uint32_t)bits[i] << 16) : up_cuda_host_from_half(bits[i]);
    }
}

static void multiply(void **lanes) {
    float a[256], b[256];
    collect(lanes, false, a);
    collect(lanes, true, b);
    for (int l = 0; l < 32; l++) {
        const auto *p = static_cast<const up_cuda_host_product *>(lanes[l]);
        float sums[8];
        memcpy(sums, p->c, sizeof sums);
        const float *row = a + l / 2 * 16, *cols = b + l % 2 * 8;
        for (int k = 0; k < 16; k++)
            for (int i = 0; i < 8; i++) sums[i] += row[k] * cols[k * 16 + i];
        memcpy(p->d, sums, sizeof sums);
    }
}

void up_cuda_host_mma(up_cuda_host_product *mine, const char *file, int line) {
    up_warp_together("mma_sync", mine, multiply, file, line);
}

namespace {
struct matrix {
    const char *what;
    const void *at;
    unsigned stride;
};
} // namespace

static void compare(void **lanes) {
    const auto *first = static_cast<const matrix *>(lanes[0]);
    for (int l = 1; l < 32; l++) {
        const auto *m = static_cast<const matrix *>(lanes[l]);
        if (m->at != first->at || m->stride != first->stride)
            up_report("%s: lanes of a warp name different matrices", m->what);
    }
}

void up_cuda_host_mma_meet(const char *what, const void *at, unsigned stride, size_t size, const char *file,
                           int line) {
    if ((uintptr_t)at % 32)
        up_report("%s at %s:%d: the matrix is not on a boundary of 32 bytes", what, file, line);
    if (stride * size % 16)
        up_report("%s at %s:%d: a leading dimension of %u is no multiple of 16 bytes", what, file, line,
                  stride);
    matrix mine = {what, at, stride};
    up_warp_together(what, &mine, compare, file, line);
}
