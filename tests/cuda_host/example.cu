/* example.cu - how a file of CUDA sources looks that nvcc, NVRTC and the host executor compile: kernels
 * first, then what runs on the host. y = (x - mean) / sqrt(variance + eps) of each row, a warp a row. */
#include "backend_cuda/device.cuh"

enum { ROWS_A_BLOCK = 4 };

/* x, y [N, D], D a multiple of 4 */
template <class T>
__global__ void __launch_bounds__(ROWS_A_BLOCK *UP_WARP)
    up_example_normalise(T *y, const T *x, int n, int d) {
    UP_SHARED(bytes);
    const int lane = threadIdx.x % UP_WARP, warp = threadIdx.x / UP_WARP,
              row = blockIdx.x * ROWS_A_BLOCK + warp;
    float *kept = reinterpret_cast<float *>(bytes) + warp * d; /* [D] of this warp's row */
    if (row >= n) return;                                      /* all lanes of the warp */
    float sum = 0, squares = 0;
    for (int i = lane * 4; i < d; i += UP_WARP * 4) {
        float v[4];
        up_load(v, x + (int64_t)row * d + i);
        for (int j = 0; j < 4; j++) {
            kept[i + j] = v[j];
            sum += v[j];
        }
    }
    const float mean = up_warp_sum(sum) / (float)d;
    for (int i = lane * 4; i < d; i += UP_WARP * 4)
        for (int j = 0; j < 4; j++) squares += (kept[i + j] - mean) * (kept[i + j] - mean);
    const float factor = rsqrtf(up_warp_sum(squares) / (float)d + 1e-5f);
    for (int i = lane * 4; i < d; i += UP_WARP * 4) {
        float v[4];
        for (int j = 0; j < 4; j++) v[j] = (kept[i + j] - mean) * factor;
        up_store(y + (int64_t)row * d + i, v);
    }
}

#if UP_HOST_PART
template <class T> static void normalise(void *y, const void *x, int n, int d, cudaStream_t stream) {
    const size_t shared = (size_t)ROWS_A_BLOCK * d * sizeof(float);
    up_launch(up_example_normalise<T>, (n + ROWS_A_BLOCK - 1) / ROWS_A_BLOCK, ROWS_A_BLOCK * UP_WARP, shared,
              stream, static_cast<T *>(y), static_cast<const T *>(x), n, d);
}

/* type: 0 f32, 1 f16, 2 bf16 */
void up_example(int type, void *y, const void *x, int n, int d, cudaStream_t stream) {
    if (type == 0) normalise<float>(y, x, n, d, stream);
    if (type == 1) normalise<up_half>(y, x, n, d, stream);
    if (type == 2) normalise<up_bf16>(y, x, n, d, stream);
}
#endif
