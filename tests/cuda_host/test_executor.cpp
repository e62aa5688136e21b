/* test_executor.cpp - the host executor of the CUDA model: small kernels that use each of its features,
 * compared with plain C. Compiled twice, with and without the checks of every access; and it is sound CUDA:
 * nvcc compiles it, too. */
#include "tests/cuda_host/test.h"

#include <cublasLt.h>
#include <math.h>
#include <mma.h>

/* ---- one thread an element, arguments of all kinds, a grid in three dimensions ---- */
struct scaling {
    float by;
    short plus;
};
__constant__ float table[4];
template <class T> __global__ void scale(T *y, const T *__restrict__ x, scaling s, int n) {
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) y[i] = up_from_float<T>(s.by * up_to_float(__ldg(&x[i])) + (float)s.plus + table[i % 4]);
}
__global__ void indices(int *out) {
    const dim3 at(blockIdx.x * blockDim.x + threadIdx.x, blockIdx.y * blockDim.y + threadIdx.y,
                  blockIdx.z * blockDim.z + threadIdx.z);
    const unsigned i = (at.z * gridDim.y * blockDim.y + at.y) * gridDim.x * blockDim.x + at.x;
    out[i] = (int)(at.x + 100 * at.y + 10000 * at.z);
}

template <class T> static void check_scale() {
    const int n = 1000;
    const float constants[4] = {0, 1, 2, 3};
    array<T> x(n), y(n);
    for (int i = 0; i < n; i++) x.host[i] = up_from_float<T>((float)i / 16);
    x.up();
    OK(cudaMemcpyToSymbol(table, constants, sizeof constants));
    up_launch(scale<T>, (n + 127) / 128, 128, 0, 0, y.at, x.at, scaling{2.0f, -3}, n);
    OK(cudaGetLastError());
    y.down();
    for (int i = 0; i < n; i++)
        CHECK(up_to_float(y.host[i]) ==
              up_to_float(up_from_float<T>(2 * up_to_float(x.host[i]) - 3 + (float)(i % 4))));
}

static void test_elements() {
    check_scale<float>();
    check_scale<up_half>();
    check_scale<up_bf16>();
}

static void test_indices() {
    array<int> out(6 * 10 * 12);
    up_launch(indices, dim3(2, 2, 3), dim3(3, 5, 4), 0, 0, out.at);
    out.down();
    for (int z = 0; z < 12; z++)
        for (int y = 0; y < 10; y++)
            for (int x = 0; x < 6; x++) CHECK(out.host[(z * 10 + y) * 6 + x] == x + 100 * y + 10000 * z);
}

/* ---- barriers and shared memory ---- */
__global__ void reverse(float *x, int *counts) {
    UP_SHARED(bytes);
    float *tile = reinterpret_cast<float *>(bytes);
    const unsigned t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    tile[t] = x[i];
    const int odd = __syncthreads_count(t % 2 == 1);
    x[i] = tile[blockDim.x - 1 - t];
    const int any = __syncthreads_or(t == 7), all = __syncthreads_and(t != 7), every = __syncthreads_and(1);
    if (t == 0) counts[blockIdx.x] = odd * 1000 + any * 100 + all * 10 + every;
}

static void test_barriers() {
    const int block = 512, blocks = 3;
    array<float> x(block * blocks);
    array<int> counts(blocks);
    for (int i = 0; i < block * blocks; i++) x.host[i] = (float)i;
    x.up();
    up_launch(reverse, blocks, block, block * sizeof(float), 0, x.at, counts.at);
    x.down();
    counts.down();
    for (int i = 0; i < block * blocks; i++)
        CHECK(x.host[i] == (float)(i / block * block + block - 1 - i % block));
    for (int b = 0; b < blocks; b++) CHECK(counts.host[b] == block / 2 * 1000 + 101);
}

/* ---- warps ---- */
enum { WARP_RESULTS = 12 };
__global__ void warps(int *out) {
    const int lane = (int)(threadIdx.x % 32), value = 100 * (int)(threadIdx.x / 32) + lane;
    int *to = out + threadIdx.x * WARP_RESULTS;
    to[0] = __shfl_sync(UP_FULL, value, 5);
    to[1] = __shfl_sync(UP_FULL, value, lane + 1, 8);
    to[2] = __shfl_up_sync(UP_FULL, value, 3, 16);
    to[3] = __shfl_down_sync(UP_FULL, value, 3, 16);
    to[4] = __shfl_xor_sync(UP_FULL, value, 9);
    to[5] = (int)__ballot_sync(UP_FULL, lane % 3 == 0);
    to[6] = __any_sync(UP_FULL, lane == 31) * 10 + __all_sync(UP_FULL, lane == 31);
    to[7] = (int)up_warp_sum((float)value);
    to[8] = (int)up_warp_max<8>((float)value);
    to[9] = lane < 16 ? __shfl_sync(0xffffu, value, 15 - lane) : 0; /* half a warp alone */
    to[10] = (int)__shfl_xor_sync(UP_FULL, (double)value, 1);
    to[11] = (int)(__activemask() >> lane & 1);
}

static void test_warps() {
    const int threads = 96;
    array<int> out(threads * WARP_RESULTS);
    up_launch(warps, 1, threads, 0, 0, out.at);
    out.down();
    for (int t = 0; t < threads; t++) {
        const int lane = t % 32, base = t / 32 * 100, *got = &out.host[t * WARP_RESULTS];
        const int want[WARP_RESULTS] = {base + 5,
                                        base + lane / 8 * 8 + (lane + 1) % 8,
                                        base + (lane % 16 < 3 ? lane : lane - 3),
                                        base + (lane % 16 > 12 ? lane : lane + 3),
                                        base + (lane ^ 9),
                                        0x49249249,
                                        10,
                                        32 * base + 496,
                                        base + lane / 8 * 8 + 7,
                                        lane < 16 ? base + 15 - lane : 0,
                                        base + (lane ^ 1),
                                        1};
        for (int i = 0; i < WARP_RESULTS; i++) CHECK(got[i] == want[i]);
    }
}

/* Lanes hand values on through shared memory, with no barrier but their warp's. */
__global__ void neighbours(int *out) {
    UP_SHARED(bytes);
    int *room = reinterpret_cast<int *>(bytes);
    const unsigned t = threadIdx.x;
    for (int round = 0; round < 3; round++) {
        room[t] = (int)t * 10 + round;
        __syncwarp();
        out[round * blockDim.x + t] = room[t ^ 1];
        __syncwarp();
    }
}

static void test_warp_barriers() {
    const int threads = 128;
    array<int> out(3 * threads);
    up_launch(neighbours, 1, threads, threads * sizeof(int), 0, out.at);
    out.down();
    for (int i = 0; i < 3 * threads; i++) CHECK(out.host[i] == (i % threads ^ 1) * 10 + i / threads);
}

/* ---- whole structs, and loops that a compiler makes calls of memcpy and memset of ---- */
struct sixteen {
    float at[16];
};
__global__ void copy_structs(sixteen *to, const sixteen *from, float *zeros) {
    UP_SHARED(bytes);
    sixteen *room = reinterpret_cast<sixteen *>(bytes);
    room[threadIdx.x] = from[threadIdx.x];
    for (int i = 0; i < 64; i++) zeros[threadIdx.x * 64 + i] = 0;
    __syncthreads();
    to[threadIdx.x] = room[threadIdx.x ^ 1];
    zeros[threadIdx.x * 64] = zeros[threadIdx.x * 64 + 1] + room[threadIdx.x].at[0];
}

static void test_structs() {
    const int threads = 64;
    array<sixteen> from(threads), to(threads);
    array<float> zeros(threads * 64);
    for (int i = 0; i < threads * 16; i++) from.host[i / 16].at[i % 16] = (float)i;
    from.up();
    up_launch(copy_structs, 1, threads, threads * sizeof(sixteen), 0, to.at, from.at, zeros.at);
    to.down();
    zeros.down();
    for (int i = 0; i < threads * 16; i++) CHECK(to.host[i / 16].at[i % 16] == (float)(i ^ 16));
    for (int i = 0; i < threads * 64; i++) CHECK(zeros.host[i] == (i % 64 ? 0.0f : (float)(i / 64 * 16)));
}

/* ---- reductions of device.cuh, vector access ---- */
template <class T> __global__ void row_sums(const T *x, float *sums, float *largest, T *doubled, int n) {
    UP_SHARED(bytes);
    float *room = reinterpret_cast<float *>(bytes), sum = 0, most = -INFINITY;
    x += (size_t)blockIdx.x * n;
    doubled += (size_t)blockIdx.x * n;
    for (int i = (int)threadIdx.x * 4; i < n; i += (int)blockDim.x * 4) {
        float v[4];
        up_load(v, x + i);
        for (float &e : v) {
            sum += e;
            most = fmaxf(most, e);
            e *= 2;
        }
        up_store(doubled + i, v);
    }
    sum = up_block_sum(sum, room);
    most = up_block_max(most, room);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
    if (threadIdx.x == 0) largest[blockIdx.x] = most;
}

template <class T> static void check_reductions() {
    const int rows = 5, n = 900;
    array<T> x(rows * n), doubled(rows * n);
    array<float> sums(rows), largest(rows);
    for (T &e : x.host) e = up_from_float<T>((float)(int)(draw() * 64));
    x.up();
    up_launch(row_sums<T>, rows, 128, 32 * sizeof(float), 0, x.at, sums.at, largest.at, doubled.at, n);
    sums.down();
    largest.down();
    doubled.down();
    for (int r = 0; r < rows; r++) {
        float sum = 0, most = -INFINITY;
        for (int i = 0; i < n; i++) {
            const float e = up_to_float(x.host[r * n + i]);
            sum += e;
            most = e > most ? e : most;
            CHECK(up_to_float(doubled.host[r * n + i]) == 2 * e);
        }
        CHECK(sums.host[r] == sum); /* whole numbers: exact in any order */
        CHECK(largest.host[r] == most);
    }
}

static void test_reductions() {
    check_reductions<float>();
    check_reductions<up_half>();
    check_reductions<up_bf16>();
}

/* ---- atomics ---- */
__global__ void count(int *ints, float *sum, unsigned *most, unsigned *turns) {
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    atomicAdd(&ints[i % 7], 1);
    atomicAdd(sum, 0.5f);
    atomicMax(most, (unsigned)i);
    unsigned seen = 0, old;
    while ((old = atomicCAS(turns, seen, seen + 2)) != seen) seen = old;
}

static void test_atomics() {
    array<int> ints(7);
    array<float> sum(1);
    array<unsigned> two(2);
    OK(cudaMemset(ints.at, 0, ints.bytes()));
    OK(cudaMemset(sum.at, 0, sum.bytes()));
    OK(cudaMemset(two.at, 0, two.bytes()));
    up_launch(count, 10, 70, 0, 0, ints.at, sum.at, two.at, two.at + 1);
    ints.down();
    sum.down();
    two.down();
    for (int i = 0; i < 7; i++) CHECK(ints.host[i] == 100);
    CHECK(sum.host[0] == 350.0f);
    CHECK(two.host[0] == 699 && two.host[1] == 1400);
}

/* ---- element types: every value of 16 bits there and back, and rounding against a search in the table of
 * values ---- */
#ifdef UP_CUDA_HOST
static unsigned bits_of(up_half h) {
    return __half_as_ushort(h);
}
static unsigned bits_of(up_bf16 h) {
    return __bfloat16_as_ushort(h);
}
static void from_bits(up_half *h, unsigned bits) {
    *h = __ushort_as_half((unsigned short)bits);
}
static void from_bits(up_bf16 *h, unsigned bits) {
    *h = __ushort_as_bfloat16((unsigned short)bits);
}

/* Finite positive values ascend with their bits: the nearest one, the even one of two, infinity where the
 * next value would be nearer than the largest. */
template <class T> static unsigned nearest(float x, unsigned infinity) {
    const double want = fabs((double)x);
    unsigned low = 0, high = infinity;
    T value;
    from_bits(&value, infinity - 1);
    const double largest = up_to_float(value);
    from_bits(&value, infinity - 2);
    const double past = 2 * largest - up_to_float(value); /* what would follow the largest */
    while (high - low > 1) {
        from_bits(&value, (low + high) / 2);
        *((double)up_to_float(value) <= want ? &low : &high) = (low + high) / 2;
    }
    from_bits(&value, low);
    const double below = up_to_float(value);
    from_bits(&value, high);
    const double above = high == infinity ? past : (double)up_to_float(value);
    const bool up = want - below > above - want || (want - below == above - want && low % 2 == 1);
    return (up ? high : low) | (signbit(x) ? 0x8000u : 0);
}

template <class T> static void check_type(unsigned infinity) {
    for (unsigned bits = 0; bits < 65536; bits++) {
        T value;
        from_bits(&value, bits);
        const bool nan = (bits & 0x7fff) > infinity;
        if (nan) CHECK(isnan(up_to_float(value)));
        CHECK(bits_of(up_from_float<T>(up_to_float(value))) == (nan ? 0x7fffu : bits));
    }
    unsigned pattern = 12345;
    for (int i = 0; i < 200000; i++) {
        float x;
        pattern = pattern * 1664525u + 1013904223u;
        const unsigned bits =
            i % 2 ? pattern : (pattern & 0xffff0000u) | (pattern & 0x8000u ? 0x1000u : 0); /* ties, too */
        memcpy(&x, &bits, sizeof x);
        if (isfinite(x)) CHECK(bits_of(up_from_float<T>(x)) == nearest<T>(x, infinity));
    }
}

static void test_types() {
    check_type<up_half>(0x7c00);
    check_type<up_bf16>(0x7f80);
    CHECK(bits_of(up_half(65519.0f)) == 0x7bff && bits_of(up_half(65520.0f)) == 0x7c00);
    CHECK(bits_of(up_half(-0x1p-25f)) == 0x8000 && bits_of(up_half(0x1.8p-25f)) == 1);
    CHECK(bits_of(up_half(1.0f) + up_half(0x1p-11f)) == 0x3c00 &&
          bits_of(up_bf16(3.0f) * up_bf16(-2.0f)) == 0xc0c0);
}
#else
static void test_types() {}
#endif

/* ---- memory ---- */
static void test_memory() {
    size_t before, after, total, bytes;
    const size_t count = up_cuda_host_allocations(&bytes);
    OK(cudaMemGetInfo(&before, &total));
    {
        array<float> x(1000);
        OK(cudaMemGetInfo(&after, &total));
        CHECK(before - after == 4000 && up_cuda_host_allocations(NULL) == count + 1);
        CHECK((size_t)x.at % 256 == 0);
        CHECK(up_cuda_host_is_poison(x.at, 4000) == 2000);
        OK(cudaMemset(x.at + 10, 0, 80));
        CHECK(up_cuda_host_is_poison(x.at, 4000) == 1960);
        CHECK(cudaMemcpy(x.at, x.host.data(), 4004, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
        CHECK(cudaMemcpy(x.at, x.host.data(), 4000, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
        CHECK(cudaGetLastError() == cudaErrorInvalidValue && cudaGetLastError() == cudaSuccess);
    }
    OK(cudaMemGetInfo(&after, &total));
    CHECK(before == after);
    void *much = &total;
    CHECK(cudaMalloc(&much, total + 1) == cudaErrorMemoryAllocation &&
          cudaGetLastError() == cudaErrorMemoryAllocation);
    CHECK(cudaFree(&total) == cudaErrorInvalidValue && cudaGetLastError() == cudaErrorInvalidValue);
    CHECK(strcmp(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory") == 0);
}

static void test_2d() {
    array<int> x(40);
    int window[6] = {1, 2, 3, 4, 5, 6}, back[6];
    OK(cudaMemset(x.at, 0, x.bytes()));
    OK(cudaMemcpy2D(x.at + 11, 10 * sizeof(int), window, 3 * sizeof(int), 3 * sizeof(int), 2,
                    cudaMemcpyHostToDevice));
    OK(cudaMemcpy2D(back, 3 * sizeof(int), x.at + 11, 10 * sizeof(int), 3 * sizeof(int), 2,
                    cudaMemcpyDeviceToHost));
    CHECK(memcmp(window, back, sizeof window) == 0);
    x.down();
    for (int i = 0; i < 40; i++)
        CHECK(x.host[i] == (i >= 11 && i < 14 ? i - 10 : i >= 21 && i < 24 ? i - 17 : 0));
}

/* ---- streams ---- */
__global__ void add(float *y, const float *x, int n) {
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) y[i] += x[i];
}

/* Two staging buffers in turn, a copy stream and a compute stream, events both ways: the pattern of a
 * training loop. */
static void test_pipeline() {
    const int n = 300, steps = 12;
    cudaStream_t copy, compute;
    cudaEvent_t arrived[2], used[2];
    array<float> sum(n), in0(n), in1(n);
    staging<float> host0(n), host1(n), result(n);
    float *const in[2] = {in0.at, in1.at}, *const host[2] = {host0.at, host1.at};
    OK(cudaStreamCreateWithFlags(&copy, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&compute, cudaStreamNonBlocking));
    for (int s = 0; s < 2; s++) OK(cudaEventCreateWithFlags(&arrived[s], cudaEventDisableTiming));
    for (int s = 0; s < 2; s++) OK(cudaEventCreateWithFlags(&used[s], cudaEventDisableTiming));
    OK(cudaMemsetAsync(sum.at, 0, sum.bytes(), compute));
    for (int step = 0; step < steps; step++) {
        const int s = step % 2;
        OK(cudaEventSynchronize(arrived[s])); /* the staging buffer is free */
        for (int i = 0; i < n; i++) host[s][i] = (float)(step + i);
        OK(cudaStreamWaitEvent(copy, used[s], 0)); /* the device's buffer is free */
        OK(cudaMemcpyAsync(in[s], host[s], sum.bytes(), cudaMemcpyHostToDevice, copy));
        OK(cudaEventRecord(arrived[s], copy));
        OK(cudaStreamWaitEvent(compute, arrived[s], 0));
        up_launch(add, (n + 63) / 64, 64, 0, compute, sum.at, in[s], n);
        OK(cudaEventRecord(used[s], compute));
    }
    OK(cudaMemcpyAsync(result.at, sum.at, sum.bytes(), cudaMemcpyDeviceToHost, compute));
    OK(cudaStreamSynchronize(compute));
    for (int i = 0; i < n; i++) CHECK(result.at[i] == (float)(steps * (steps - 1) / 2 + steps * i));
    for (int s = 0; s < 2; s++) OK(cudaEventDestroy(arrived[s]));
    for (int s = 0; s < 2; s++) OK(cudaEventDestroy(used[s]));
    OK(cudaStreamDestroy(copy));
    OK(cudaStreamDestroy(compute));
}

static void test_lateness() {
    cudaStream_t stream;
    cudaEvent_t begin, end;
    array<int> x(1);
    staging<int> to(1);
    float time = -1;
    int pageable = 1, queries = 0;
    OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    OK(cudaEventCreate(&begin));
    OK(cudaEventCreate(&end));
    OK(cudaEventRecord(begin, stream));
    OK(cudaMemcpyAsync(x.at, &pageable, sizeof(int), cudaMemcpyHostToDevice, stream));
    pageable = 2; /* was taken at once */
    to.at[0] = 3;
    OK(cudaMemcpyAsync(to.at, x.at, sizeof(int), cudaMemcpyDeviceToHost, stream));
    OK(cudaEventRecord(end, stream));
#ifdef UP_CUDA_HOST
    CHECK(to.at[0] != 1 && to.at[0] != 3); /* not there yet, and no longer what it was */
    CHECK(cudaStreamQuery(stream) == cudaErrorNotReady &&
          cudaEventElapsedTime(&time, begin, end) == cudaErrorNotReady);
#endif
    while (cudaEventQuery(end) == cudaErrorNotReady && queries < 1000) queries++;
    CHECK(to.at[0] == 1 && queries < 1000 && cudaStreamQuery(stream) == cudaSuccess);
    OK(cudaEventElapsedTime(&time, begin, end));
    CHECK(time >= 0);
    OK(cudaMemcpyAsync(&pageable, x.at, sizeof(int), cudaMemcpyDeviceToHost, stream)); /* waits */
    CHECK(pageable == 1);
    OK(cudaEventDestroy(begin));
    OK(cudaEventDestroy(end));
    OK(cudaStreamDestroy(stream));
}

/* The default stream comes after and before all that block with it. */
static void test_default_stream() {
    cudaStream_t a, b;
    array<float> x(64), y(64);
    OK(cudaStreamCreate(&a));
    OK(cudaStreamCreate(&b));
    for (int round = 0; round < 20; round++) {
        for (float &e : x.host) e = 1;
        OK(cudaMemcpyAsync(x.at, x.host.data(), x.bytes(), cudaMemcpyHostToDevice, a));
        OK(cudaMemsetAsync(y.at, 0, y.bytes(), 0));
        up_launch(add, 1, 64, 0, b, y.at, x.at, 64);
        up_launch(add, 1, 64, 0, 0, y.at, y.at, 64);
        y.down();
        for (const float e : y.host) CHECK(e == 2);
    }
    OK(cudaStreamDestroy(a));
    OK(cudaStreamDestroy(b));
}

/* ---- graphs ---- */
static void test_graph() {
    cudaStream_t first, second;
    cudaEvent_t fork, join;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    array<float> x(64), y(64), z(64);
    staging<float> in(64);
    OK(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
    OK(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
    OK(cudaEventCreateWithFlags(&join, cudaEventDisableTiming));
    OK(cudaMemset(x.at, 0, x.bytes()));
    OK(cudaMemset(z.at, 0, z.bytes()));
    OK(cudaDeviceSynchronize()); /* streams that do not block do not wait for the default one */
    OK(cudaStreamBeginCapture(first, cudaStreamCaptureModeThreadLocal));
    OK(cudaMemcpyAsync(y.at, in.at, y.bytes(), cudaMemcpyHostToDevice, first));
    OK(cudaEventRecord(fork, first));
    OK(cudaStreamWaitEvent(second, fork, 0));
    up_launch(add, 1, 64, 0, first, x.at, y.at, 64);
    up_launch(add, 1, 64, 0, second, z.at, y.at, 64);
    OK(cudaEventRecord(join, second));
    OK(cudaStreamWaitEvent(first, join, 0));
    up_launch(add, 1, 64, 0, first, x.at, z.at, 64);
    OK(cudaStreamEndCapture(first, &graph));
    OK(cudaGraphInstantiateWithFlags(&executable, graph, 0));
    OK(cudaGraphDestroy(graph));
    float want_x = 0, want_z = 0;
    for (int round = 1; round <= 5; round++) {
        for (int i = 0; i < 64; i++) in.at[i] = (float)round;
        OK(cudaGraphLaunch(executable, first));
        OK(cudaStreamSynchronize(first));
        want_z += (float)round;
        want_x += (float)round + want_z;
    }
    x.down();
    z.down();
    for (int i = 0; i < 64; i++) CHECK(x.host[i] == want_x && z.host[i] == want_z);
    OK(cudaGraphExecDestroy(executable));
    OK(cudaEventDestroy(fork));
    OK(cudaEventDestroy(join));
    OK(cudaStreamDestroy(first));
    OK(cudaStreamDestroy(second));
}

static void test_capture_rules() {
    cudaStream_t first, second;
    cudaEvent_t event;
    cudaGraph_t graph;
    cudaStreamCaptureStatus status;
    array<int> x(1);
    int value = 0;
    OK(cudaStreamCreate(&first));
    OK(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
    OK(cudaEventCreate(&event));
    CHECK(cudaStreamBeginCapture(0, cudaStreamCaptureModeRelaxed) == cudaErrorStreamCaptureUnsupported);
    OK(cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal)); /* the host waits */
    CHECK(cudaStreamSynchronize(first) == cudaErrorStreamCaptureUnsupported);
    OK(cudaStreamIsCapturing(first, &status));
    CHECK(status == cudaStreamCaptureStatusInvalidated);
    CHECK(cudaStreamEndCapture(first, &graph) == cudaErrorStreamCaptureInvalidated);
    OK(cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal)); /* a blocking copy */
    CHECK(cudaMemcpy(&value, x.at, sizeof value, cudaMemcpyDeviceToHost) ==
              cudaErrorStreamCaptureUnsupported ||
          cudaPeekAtLastError() == cudaErrorStreamCaptureImplicit);
    CHECK(cudaStreamEndCapture(first, &graph) != cudaSuccess);
    OK(cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal)); /* a branch that does not come back */
    OK(cudaEventRecord(event, first));
    OK(cudaStreamWaitEvent(second, event, 0));
    OK(cudaMemsetAsync(x.at, 0, x.bytes(), second));
    CHECK(cudaEventSynchronize(event) == cudaErrorCapturedEvent);
    CHECK(cudaStreamEndCapture(first, &graph) == cudaErrorStreamCaptureUnjoined);
    CHECK(cudaStreamEndCapture(first, &graph) != cudaSuccess);
    OK(cudaStreamSynchronize(first));
    (void)cudaGetLastError();
    OK(cudaEventDestroy(event));
    OK(cudaStreamDestroy(first));
    OK(cudaStreamDestroy(second));
}

/* ---- launches ---- */
static void test_launches() {
    array<float> x(4);
    cudaDeviceProp properties;
    int value = 0;
    OK(cudaGetDeviceProperties(&properties, 0));
    OK(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    CHECK((size_t)value == properties.sharedMemPerBlockOptin && value >= 64 << 10);
    up_launch(add, 1, 1025, 0, 0, x.at, x.at, 0);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    up_launch(add, 0, 32, 0, 0, x.at, x.at, 0);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    up_launch(add, 1, 32, 60 << 10, 0, x.at, x.at, 0);
    CHECK(cudaGetLastError() == cudaErrorInvalidValue);
    OK(cudaFuncSetAttribute(add, cudaFuncAttributeMaxDynamicSharedMemorySize, 60 << 10));
    up_launch(add, 1, 32, 60 << 10, 0, x.at, x.at, 0);
    OK(cudaGetLastError());
    OK(cudaDeviceSynchronize());
    CHECK(cudaFuncSetAttribute(add, cudaFuncAttributeMaxDynamicSharedMemorySize, 1 << 20) ==
          cudaErrorInvalidValue);
    OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&value, add, 256, 0));
    CHECK(value >= 1 && value <= 8);
    (void)cudaGetLastError();
}

/* ---- wmma: a warp a tile, half of one more than the product ---- */
template <class Layout> UP_DEVICE bool is_row_major(const Layout *) {
    return false;
}
template <> __device__ __forceinline__ bool is_row_major(const nvcuda::wmma::row_major *) {
    return true;
}
template <class T, class LayoutA, class LayoutB>
__global__ void tiles(const T *a, const T *b, float *c, int k, bool columns) {
    using namespace nvcuda::wmma;
    fragment<matrix_a, 16, 16, 16, T, LayoutA> fa;
    fragment<matrix_b, 16, 16, 16, T, LayoutB> fb;
    fragment<accumulator, 16, 16, 16, float> fc;
    const bool a_rows = is_row_major((const LayoutA *)0), b_rows = is_row_major((const LayoutB *)0);
    fill_fragment(fc, 1.0f);
    for (int i = 0; i < k; i += 16) {
        load_matrix_sync(fa, a_rows ? a + i : a + i * 16, a_rows ? (unsigned)k : 16u);
        load_matrix_sync(fb, b_rows ? b + i * 16 : b + i, b_rows ? 16u : (unsigned)k);
        mma_sync(fc, fa, fb, fc);
    }
    for (int i = 0; i < fc.num_elements; i++) fc.x[i] *= 0.5f;
    store_matrix_sync(c, fc, 16, columns ? mem_col_major : mem_row_major);
}

template <class T, class LayoutA, class LayoutB>
static void check_tiles(bool a_rows, bool b_rows, bool columns) {
    const int k = 64;
    array<T> a(16 * k), b(16 * k);
    array<float> c(256);
    for (T &e : a.host) e = up_from_float<T>((float)(int)(draw() * 8));
    for (T &e : b.host) e = up_from_float<T>((float)(int)(draw() * 8));
    a.up();
    b.up();
    up_launch(tiles<T, LayoutA, LayoutB>, 1, 32, 0, 0, a.at, b.at, c.at, k, columns);
    c.down();
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) {
            float sum = 1;
            for (int t = 0; t < k; t++)
                sum += up_to_float(a.host[a_rows ? i * k + t : t * 16 + i]) *
                       up_to_float(b.host[b_rows ? t * 16 + j : j * k + t]);
            CHECK(c.host[columns ? j * 16 + i : i * 16 + j] == sum / 2); /* whole numbers: exact */
        }
}

static void test_tiles() {
    using nvcuda::wmma::col_major;
    using nvcuda::wmma::row_major;
    check_tiles<up_half, row_major, col_major>(true, false, false);
    check_tiles<up_half, col_major, row_major>(false, true, true);
    check_tiles<up_bf16, row_major, row_major>(true, true, false);
}

/* ---- cuBLASLt ---- */
#define LT(call) CHECK((call) == CUBLAS_STATUS_SUCCESS)
struct product_case {
    int m, n, k, batch;
    bool trans_a, trans_b, rows, device;
    float alpha, beta;
    cublasLtEpilogue_t epilogue;
};
template <class T> static cudaDataType type_of();
template <> cudaDataType type_of<float>() {
    return CUDA_R_32F;
}
template <> cudaDataType type_of<up_half>() {
    return CUDA_R_16F;
}
template <> cudaDataType type_of<up_bf16>() {
    return CUDA_R_16BF;
}

static cublasLtMatrixLayout_t make_layout(cudaDataType type, int rows, int cols, int spare,
                                          const product_case &p) {
    cublasLtMatrixLayout_t layout;
    const int order = p.rows ? CUBLASLT_ORDER_ROW : CUBLASLT_ORDER_COL;
    const int64_t ld = (p.rows ? cols : rows) + spare, stride = ld * (p.rows ? rows : cols);
    LT(cublasLtMatrixLayoutCreate(&layout, type, (uint64_t)rows, (uint64_t)cols, ld));
    LT(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof order));
    LT(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &p.batch,
                                        sizeof p.batch));
    LT(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                        sizeof stride));
    return layout;
}

/* Where element (i, j) of a matrix [rows, cols] lies, batch by batch. */
static size_t place(const product_case &p, int batch, int rows, int cols, int spare, int i, int j) {
    const size_t ld = (size_t)((p.rows ? cols : rows) + spare), lines = (size_t)(p.rows ? rows : cols);
    return (size_t)batch * ld * lines + (size_t)(p.rows ? i : j) * ld + (size_t)(p.rows ? j : i);
}

template <class T, class D> static void check_product(const product_case &p) {
    const int am = p.trans_a ? p.k : p.m, ak = p.trans_a ? p.m : p.k, bk = p.trans_b ? p.n : p.k,
              bn = p.trans_b ? p.k : p.n;
    const size_t most =
        (size_t)p.batch * 3 * (size_t)(p.m + p.n + p.k + 8) * (size_t)(p.m + p.n + p.k + 8) / 4;
    array<T> a(most), b(most);
    array<D> d(most), bias((size_t)(p.m + p.n));
    array<float> scalars(2);
    for (T &e : a.host) e = up_from_float<T>(draw());
    for (T &e : b.host) e = up_from_float<T>(draw());
    for (D &e : d.host) e = up_from_float<D>(draw());
    for (D &e : bias.host) e = up_from_float<D>(draw());
    scalars.host = {p.alpha, p.beta};
    const std::vector<D> c = d.host;
    a.up();
    b.up();
    d.up();
    bias.up();
    scalars.up();
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t matmul;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t result;
    int found = 0;
    const size_t room = 1 << 20;
    const cublasOperation_t ta = p.trans_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                            tb = p.trans_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtPointerMode_t mode = p.device ? CUBLASLT_POINTER_MODE_DEVICE : CUBLASLT_POINTER_MODE_HOST;
    array<char> workspace(room);
    LT(cublasLtCreate(&handle));
    LT(cublasLtMatmulDescCreate(&matmul, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    LT(cublasLtMatmulDescSetAttribute(matmul, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta));
    LT(cublasLtMatmulDescSetAttribute(matmul, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb));
    LT(cublasLtMatmulDescSetAttribute(matmul, CUBLASLT_MATMUL_DESC_POINTER_MODE, &mode, sizeof mode));
    LT(cublasLtMatmulDescSetAttribute(matmul, CUBLASLT_MATMUL_DESC_EPILOGUE, &p.epilogue, sizeof p.epilogue));
    LT(cublasLtMatmulDescSetAttribute(matmul, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias.at, sizeof bias.at));
    LT(cublasLtMatmulPreferenceCreate(&preference));
    LT(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room,
                                            sizeof room));
    const cublasLtMatrixLayout_t la = make_layout(type_of<T>(), am, ak, 1, p),
                                 lb = make_layout(type_of<T>(), bk, bn, 2, p),
                                 ld = make_layout(type_of<D>(), p.m, p.n, 3, p);
    LT(cublasLtMatmulAlgoGetHeuristic(handle, matmul, la, lb, ld, ld, preference, 1, &result, &found));
    CHECK(found == 1);
    const float *alpha = p.device ? scalars.at : &p.alpha, *beta = p.device ? scalars.at + 1 : &p.beta;
    LT(cublasLtMatmul(handle, matmul, alpha, a.at, la, b.at, lb, beta, d.at, ld, d.at, ld, &result.algo,
                      workspace.at, room, 0));
    d.down();
    bias.down();
    double worst = 0;
    std::vector<char> written(most);
    for (int batch = 0; batch < p.batch; batch++)
        for (int i = 0; i < p.m; i++)
            for (int j = 0; j < p.n; j++) {
                const size_t at = place(p, batch, p.m, p.n, 3, i, j);
                double sum = 0, scale = 0;
                for (int t = 0; t < p.k; t++) {
                    const double x = up_to_float(a.host[p.trans_a ? place(p, batch, am, ak, 1, t, i)
                                                                  : place(p, batch, am, ak, 1, i, t)]);
                    const double y = up_to_float(b.host[p.trans_b ? place(p, batch, bk, bn, 2, j, t)
                                                                  : place(p, batch, bk, bn, 2, t, j)]);
                    sum += x * y;
                    scale += fabs(x * y);
                }
                sum = p.alpha * sum + (p.beta != 0 ? (double)p.beta * up_to_float(c[at]) : 0);
                if (p.epilogue == CUBLASLT_EPILOGUE_BIAS) sum += up_to_float(bias.host[i]);
                written[at] = 1;
                const double store = sizeof(D) == 4 ? 0x1p-24 : type_of<D>() == CUDA_R_16F ? 0x1p-11 : 0x1p-8;
                const double bound = (scale + 3) * (p.k + 4) * 0x1p-24 + fabs(sum) * store;
                const double error = fabs(up_to_float(d.host[at]) - sum) / bound;
                worst = error > worst || error != error ? error : worst;
            }
    CHECK(worst <= 1);
    for (size_t i = 0; i < most; i++) CHECK(written[i] || memcmp(&c[i], &d.host[i], sizeof(D)) == 0);
    for (int i = 0; p.epilogue == CUBLASLT_EPILOGUE_BGRADA && i < p.m; i++) {
        double sum = 0;
        for (int t = 0; t < p.k; t++)
            sum +=
                up_to_float(a.host[p.trans_a ? place(p, 0, am, ak, 1, t, i) : place(p, 0, am, ak, 1, i, t)]);
        CHECK(fabs(up_to_float(bias.host[i]) - sum) <= fabs(sum) * 0x1p-8 + p.k * 0x1p-23);
    }
    LT(cublasLtMatrixLayoutDestroy(la));
    LT(cublasLtMatrixLayoutDestroy(lb));
    LT(cublasLtMatrixLayoutDestroy(ld));
    LT(cublasLtMatmulPreferenceDestroy(preference));
    LT(cublasLtMatmulDescDestroy(matmul));
    LT(cublasLtDestroy(handle));
}

static void test_products() {
    const product_case cases[] = {
        {1, 1, 1, 1, false, false, false, false, 1, 0, CUBLASLT_EPILOGUE_DEFAULT},
        {17, 33, 40, 1, true, false, false, false, 1, 0, CUBLASLT_EPILOGUE_BIAS},
        {17, 33, 300, 1, false, true, false, true, 0.5f, 1, CUBLASLT_EPILOGUE_DEFAULT},
        {5, 70, 23, 3, false, false, true, false, 2, 0.25f, CUBLASLT_EPILOGUE_DEFAULT},
        {31, 6, 16, 2, true, true, true, true, 1, 0, CUBLASLT_EPILOGUE_DEFAULT},
        {12, 16, 50, 1, false, false, false, false, 1, 0, CUBLASLT_EPILOGUE_BGRADA},
    };
    for (const product_case &p : cases) {
        check_product<float, float>(p);
        check_product<up_half, up_half>(p);
        check_product<up_bf16, up_bf16>(p);
        check_product<up_bf16, float>(p);
    }
}

/* ---- a .cu file ---- */
void up_example(int type, void *y, const void *x, int n, int d, cudaStream_t stream); /* example.cu */

template <class T> static void check_example(int type, double unit) {
    const int n = 7, d = 200;
    array<T> x(n * d), y(n * d);
    for (T &e : x.host) e = up_from_float<T>(draw());
    x.up();
    up_example(type, y.at, x.at, n, d, 0);
    OK(cudaGetLastError());
    y.down();
    for (int r = 0; r < n; r++) {
        const T *row = &x.host[r * d];
        double mean = 0, variance = 0;
        for (int i = 0; i < d; i++) mean += up_to_float(row[i]) / d;
        for (int i = 0; i < d; i++) variance += pow(up_to_float(row[i]) - mean, 2) / d;
        for (int i = 0; i < d; i++) {
            const double want = (up_to_float(row[i]) - mean) / sqrt(variance + 1e-5);
            CHECK(fabs(up_to_float(y.host[r * d + i]) - want) <= fabs(want) * unit + 1e-5);
        }
    }
}

static void test_example() {
    check_example<float>(0, 0x1p-24);
    check_example<up_half>(1, 0x1p-11);
    check_example<up_bf16>(2, 0x1p-8);
}

int main(int count, char **names) {
    const struct {
        const char *name;
        void (*run)();
    } tests[] = {
        {"elements", test_elements},
        {"indices", test_indices},
        {"barriers", test_barriers},
        {"warps", test_warps},
        {"warp_barriers", test_warp_barriers},
        {"structs", test_structs},
        {"reductions", test_reductions},
        {"atomics", test_atomics},
        {"types", test_types},
        {"memory", test_memory},
        {"2d", test_2d},
        {"pipeline", test_pipeline},
        {"lateness", test_lateness},
        {"default_stream", test_default_stream},
        {"graph", test_graph},
        {"capture_rules", test_capture_rules},
        {"launches", test_launches},
        {"tiles", test_tiles},
        {"products", test_products},
        {"example", test_example},
    };
    for (const auto &test : tests) {
        if (count > 1 && strcmp(names[1], test.name) != 0) continue;
        const int before = failures;
        test.run();
        CHECK(cudaPeekAtLastError() == cudaSuccess);
        printf("%s: %s\n", test.name, failures == before ? "passed" : "FAILED");
    }
    printf("test_executor: %s, %zu kernels, %d failures\n",
           up_cuda_host_checked() ? "every access checked" : "fast", up_cuda_host_kernels(), failures);
    return failures != 0;
}
