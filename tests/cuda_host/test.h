/* test.h - what the executor's two test programs share. */
#ifndef UP_CUDA_HOST_TEST_H
#define UP_CUDA_HOST_TEST_H

#include "backend_cuda/device.cuh"
#include "tests/cuda_host/cuda_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

static int failures;
#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                                   \
            failures++;                                                                                      \
        }                                                                                                    \
    } while (0)
#define OK(call) CHECK((call) == cudaSuccess)

/* Device memory with a host's copy. */
template <class T> struct array {
    T *at = nullptr;
    std::vector<T> host;
    explicit array(size_t n) : host(n) { OK(cudaMalloc(&at, n * sizeof(T))); }
    array(const array &) = delete;
    array &operator=(const array &) = delete;
    ~array() { OK(cudaFree(at)); }
    size_t bytes() const { return host.size() * sizeof(T); }
    void up() { OK(cudaMemcpy(at, host.data(), bytes(), cudaMemcpyHostToDevice)); }
    void down() { OK(cudaMemcpy(host.data(), at, bytes(), cudaMemcpyDeviceToHost)); }
};

/* Pinned memory of the host. */
template <class T> struct staging {
    T *at = nullptr;
    explicit staging(size_t n) { OK(cudaMallocHost(&at, n * sizeof(T))); }
    staging(const staging &) = delete;
    staging &operator=(const staging &) = delete;
    ~staging() { OK(cudaFreeHost(at)); }
};

/* Numbers in -1..1 that are the same everywhere. */
static inline float draw() {
    static unsigned state = 1;
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / (float)(1 << 23) - 1.0f;
}

#endif
