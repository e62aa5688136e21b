/* test_executor_faults.cpp - a planted fault of each kind, each in a child process, which must end with the
 * right message. Compiled twice: some are found without the checks of every access, too. */
#include "tests/cuda_host/test.h"

#include <cublasLt.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

/* ---- kernels ---- */
__global__ void reverse(float *x, bool barrier) {
    UP_SHARED(bytes);
    float *tile = reinterpret_cast<float *>(bytes);
    tile[threadIdx.x] = 0;
    __syncthreads();
    tile[threadIdx.x] = x[threadIdx.x];
    if (barrier) __syncthreads();
    x[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}
__global__ void write_at(float *x, long i) {
    x[i] = 1;
}
struct sixteen {
    float at[16];
};
__global__ void copy_at(sixteen *to, const sixteen *from, long i) {
    to[threadIdx.x] = from[i];
}
__global__ void read_at(float *y, const float *x, long i) {
    y[threadIdx.x] = x[i];
}
__global__ void write_shared(long i) {
    UP_SHARED(bytes);
    bytes[i] = 1;
}
__global__ void read_shared(float *x) {
    UP_SHARED(bytes);
    x[0] = reinterpret_cast<float *>(bytes)[3];
}
__global__ void fill(float *x, int n) {
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) x[i] = 1;
}
__global__ void same_place(float *x) {
    if (threadIdx.x == 0) x[0] = (float)blockIdx.x;
}
__global__ void other_block(float *x) {
    x[blockIdx.x + gridDim.x] = x[blockIdx.x];
}
__global__ void read_next(float *x) {
    x[blockIdx.x] += x[(blockIdx.x + 1) % gridDim.x];
}
__global__ void leave_early(int stay) {
    if ((int)threadIdx.x >= stay) return;
    __syncthreads();
}
__global__ void two_barriers() {
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}
__global__ void some_lanes(float *x, int lanes, unsigned mask) {
    float v = (float)threadIdx.x;
    if ((int)threadIdx.x < lanes) v = __shfl_xor_sync(mask, v, 1);
    __syncthreads();
    x[threadIdx.x] = v;
}
__global__ void missing_source(float *x) {
    if (threadIdx.x < 16) x[threadIdx.x] = __shfl_sync(0xffffu, 1.0f, 20);
}
__global__ void two_operations(float *x) {
    if (threadIdx.x < 16)
        x[threadIdx.x] = __shfl_sync(UP_FULL, 1.0f, 0);
    else
        x[threadIdx.x] = (float)__any_sync(UP_FULL, 1);
}
__global__ void lanes_without_barrier(int *out) {
    UP_SHARED(bytes);
    int *room = reinterpret_cast<int *>(bytes);
    room[threadIdx.x] = 0;
    __syncwarp();
    room[threadIdx.x] = (int)threadIdx.x;
    out[threadIdx.x] = room[threadIdx.x ^ 1];
}
__global__ void half_atomic(int *x) {
    if (threadIdx.x % 2)
        atomicAdd(x, 1);
    else
        x[0] += 1;
}
__device__ void deep(float *x, int depth) {
    volatile float room[1000];
    for (int i = 0; i < 1000; i++) room[i] = x[i % 2] + (float)depth;
    x[0] = room[depth % 1000];
    if (depth > 0) deep(x, depth - 1);
    x[1] = room[(depth + 1) % 1000];
}
__global__ void endless(float *x, int depth) {
    deep(x, depth);
}

/* ---- the faults ---- */
static void missing_barrier() {
    array<float> x(64);
    x.up();
    up_launch(reverse, 1, 64, 64 * sizeof(float), 0, x.at, false);
    OK(cudaDeviceSynchronize());
}
static void just_behind() {
    array<float> x(100);
    up_launch(write_at, 1, 1, 0, 0, x.at, 100L);
    OK(cudaDeviceSynchronize());
}
static void just_before() {
    array<float> x(100);
    up_launch(write_at, 1, 1, 0, 0, x.at, -1L);
    OK(cudaDeviceSynchronize());
}
static void far_behind() {
    array<float> x(100), y(100);
    up_launch(read_at, 1, 1, 0, 0, y.at, x.at, 200L);
    OK(cudaDeviceSynchronize());
}
static void struct_over_the_end() {
    array<sixteen> y(1);
    array<float> x(24);
    x.up();
    up_launch(copy_at, 1, 1, 0, 0, y.at, reinterpret_cast<const sixteen *>(x.at), 1L);
    OK(cudaDeviceSynchronize());
}
static void use_after_free() {
    array<float> y(1);
    float *x;
    OK(cudaMalloc(&x, 400));
    OK(cudaMemset(x, 0, 400));
    OK(cudaFree(x));
    up_launch(read_at, 1, 1, 0, 0, y.at, x, 0L);
    OK(cudaDeviceSynchronize());
}
static void behind_shared() {
    up_launch(write_shared, 1, 1, 256, 0, 256L);
    OK(cudaDeviceSynchronize());
}
static void never_written() {
    array<float> y(1), x(4);
    up_launch(read_at, 1, 1, 0, 0, y.at, x.at, 2L);
    OK(cudaDeviceSynchronize());
}
static void never_written_shared() {
    array<float> x(1);
    up_launch(read_shared, 1, 1, 16, 0, x.at);
    OK(cudaDeviceSynchronize());
}
static void unwritten_output() { /* what a test of an operation asks */
    array<float> x(100);
    up_launch(fill, 4, 32, 0, 0, x.at, 97);
    const size_t left = up_cuda_host_is_poison(x.at, x.bytes());
    if (left == 6) fprintf(stderr, "3 of 100 elements were never written\n");
    if (left) abort();
}
static void kernel_reads_host() {
    array<float> y(1);
    static float x[1];
    up_launch(read_at, 1, 1, 0, 0, y.at, x, 0L);
    OK(cudaDeviceSynchronize());
}
static void kernel_reads_null() {
    array<float> y(1);
    up_launch(read_at, 1, 1, 0, 0, y.at, (const float *)NULL, 2L);
    OK(cudaDeviceSynchronize());
}
static void host_reads_device() {
    array<float> x(10);
    x.up();
    if (*(volatile float *)(x.at + 3) == 1) puts("one");
}
static void host_writes_device() {
    array<float> x(10);
    memset(x.at, 0, x.bytes());
}
static void early_reuse() {
    cudaStream_t stream;
    array<float> x(10);
    staging<float> from(10);
    for (int i = 0; i < 10; i++) from.at[i] = 1;
    OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    OK(cudaMemcpyAsync(x.at, from.at, x.bytes(), cudaMemcpyHostToDevice, stream));
    for (int i = 0; i < 10; i++) from.at[i] = 2;
    OK(cudaStreamSynchronize(stream));
}
static void missing_event(bool reading) {
    cudaStream_t a, b;
    array<float> x(64), y(64), z(64);
    OK(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
    x.up();
    y.up();
    up_launch(read_at, 1, 64, 0, a, y.at, x.at, 0L);
    if (reading)
        up_launch(read_at, 1, 64, 0, b, z.at, y.at, 0L);
    else
        OK(cudaMemsetAsync(x.at, 0, x.bytes(), b));
    OK(cudaStreamSynchronize(a));
    OK(cudaStreamSynchronize(b));
}
static void missing_event_read() {
    missing_event(true);
}
static void missing_event_overwrite() {
    missing_event(false);
}
static void missing_join_in_graph() {
    cudaStream_t a, b;
    cudaEvent_t fork, join;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    array<float> x(64), y(64);
    OK(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
    OK(cudaEventCreate(&fork));
    OK(cudaEventCreate(&join));
    x.up();
    OK(cudaStreamBeginCapture(a, cudaStreamCaptureModeRelaxed));
    OK(cudaEventRecord(fork, a));
    OK(cudaStreamWaitEvent(b, fork, 0));
    up_launch(read_at, 1, 64, 0, b, y.at, x.at, 0L);
    OK(cudaMemsetAsync(y.at, 0, y.bytes(), a)); /* at the same time */
    OK(cudaEventRecord(join, b));
    OK(cudaStreamWaitEvent(a, join, 0));
    OK(cudaStreamEndCapture(a, &graph));
    OK(cudaGraphInstantiateWithFlags(&executable, graph, 0));
    OK(cudaGraphLaunch(executable, a));
    OK(cudaStreamSynchronize(a));
}
static void blocks_write_one_place() {
    array<float> x(1);
    up_launch(same_place, 3, 32, 0, 0, x.at);
    OK(cudaDeviceSynchronize());
}
static void block_reads_another() {
    array<float> x(4);
    x.up();
    up_launch(read_next, 4, 1, 0, 0, x.at);
    OK(cudaDeviceSynchronize());
}
static void blocks_apart() { /* no fault */
    array<float> x(8);
    x.up();
    up_launch(other_block, 4, 1, 0, 0, x.at);
    OK(cudaDeviceSynchronize());
}
static void divergent_barrier() {
    up_launch(leave_early, 2, 64, 0, 0, 40);
    OK(cudaDeviceSynchronize());
}
static void different_barriers() {
    up_launch(two_barriers, 1, 64, 0, 0);
    OK(cudaDeviceSynchronize());
}
static void missing_lanes() {
    array<float> x(32);
    up_launch(some_lanes, 1, 32, 0, 0, x.at, 16, UP_FULL);
    OK(cudaDeviceSynchronize());
}
static void lane_not_in_mask() {
    array<float> x(32);
    up_launch(some_lanes, 1, 32, 0, 0, x.at, 32, 0xffffu);
    OK(cudaDeviceSynchronize());
}
static void part_of_a_warp() {
    array<float> x(16);
    up_launch(some_lanes, 1, 16, 0, 0, x.at, 16, UP_FULL);
    OK(cudaDeviceSynchronize());
}
static void source_not_in_mask() {
    array<float> x(32);
    up_launch(missing_source, 1, 32, 0, 0, x.at);
    OK(cudaDeviceSynchronize());
}
static void different_operations() {
    array<float> x(32);
    up_launch(two_operations, 1, 32, 0, 0, x.at);
    OK(cudaDeviceSynchronize());
}
static void lanes_race() {
    array<int> x(32);
    up_launch(lanes_without_barrier, 1, 32, 32 * sizeof(int), 0, x.at);
    OK(cudaDeviceSynchronize());
}
static void atomic_and_not() {
    array<int> x(1);
    x.up();
    up_launch(half_atomic, 1, 32, 0, 0, x.at);
    OK(cudaDeviceSynchronize());
}
static void full_stack() {
    array<float> x(2);
    x.up();
    up_launch(endless, 1, 1, 0, 0, x.at, 100);
    OK(cudaDeviceSynchronize());
}
static void product_too_large() {
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t matmul;
    cublasLtMatrixLayout_t layout;
    const float one = 1, zero = 0;
    array<float> a(64), b(63), c(64);
    a.up();
    b.up();
    cublasLtCreate(&handle);
    cublasLtMatmulDescCreate(&matmul, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatrixLayoutCreate(&layout, CUDA_R_32F, 8, 8, 8);
    cublasLtMatmul(handle, matmul, &one, a.at, layout, b.at, layout, &zero, c.at, layout, c.at, layout, NULL,
                   NULL, 0, 0);
    OK(cudaDeviceSynchronize());
}
static void leak() {
    void *x, *y;
    OK(cudaMalloc(&x, 1000));
    OK(cudaMalloc(&y, 500));
    OK(cudaFree(x));
    OK(cudaMalloc(&x, 24));
    exit(0);
}

/* ---- each in a child; what it says and how it ends ---- */
static std::string run_child(void (*run)(), int *status) {
    int ends[2];
    char text[4096];
    std::string said;
    fflush(stdout);
    if (pipe(ends)) abort();
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        run();
        exit(failures != 0);
    }
    close(ends[1]);
    for (ssize_t n; (n = read(ends[0], text, sizeof text)) > 0;) said.append(text, (size_t)n);
    close(ends[0]);
    waitpid(child, status, 0);
    return said;
}

enum { ABORTS, EXITS, ENDS_WELL };
static const struct {
    const char *name;
    void (*run)();
    int end;
    const char *message, *message_fast; /* fast: without checks of every access; NULL: not found there */
} faults[] = {
    {"missing_barrier", missing_barrier, ABORTS, "with no barrier between", NULL},
    {"just_behind", just_behind, ABORTS,
     "writes byte 400 of device allocation 1 of 400 bytes: behind its end",
     "something wrote to byte 400 of device allocation 1 of 400 bytes: behind its end"},
    {"just_before", just_before, ABORTS, "writes 4 bytes before the start of a device allocation",
     "something wrote to 4 bytes before the start of a device allocation"},
    {"far_behind", far_behind, ABORTS, "byte 800 of device allocation 1 of 400 bytes: behind its end",
     "kernel read_at, block (0,0,0), thread (0,0,0): touches byte 800 of device allocation 1 of 400 bytes: "
     "behind its end"},
    {"struct_over_the_end", struct_over_the_end, ABORTS,
     "byte 96 of device allocation 2 of 96 bytes: behind its end", NULL},
    {"use_after_free", use_after_free, ABORTS, "of device memory that is not allocated, or was freed",
     "of device memory that is not allocated, or was freed"},
    {"behind_shared", behind_shared, ABORTS, "byte 256 of shared memory, of which the block has 256",
     "touches shared memory behind its 256 bytes"},
    {"never_written", never_written, ABORTS,
     "reads byte 8 of device allocation 2 of 16 bytes, which nobody has written", NULL},
    {"never_written_shared", never_written_shared, ABORTS,
     "reads byte 12 of shared memory, which nobody has written", NULL},
    {"unwritten_output", unwritten_output, ABORTS, "3 of 100 elements were never written",
     "3 of 100 elements were never written"},
    {"kernel_reads_host", kernel_reads_host, ABORTS, "which is no device memory", NULL},
    {"kernel_reads_null", kernel_reads_null, ABORTS, "address 0x8, which is no device memory",
     "touches address 0x8, which is no device memory"},
    {"host_reads_device", host_reads_device, ABORTS,
     "code of the host touches device memory: byte 12 of device allocation 1 of 40 bytes",
     "code of the host touches device memory: byte 12 of device allocation 1 of 40 bytes"},
    {"host_writes_device", host_writes_device, ABORTS, "code of the host touches device memory",
     "code of the host touches device memory"},
    {"early_reuse", early_reuse, ABORTS, "the host has changed the pinned memory",
     "the host has changed the pinned memory"},
    {"missing_event_read", missing_event_read, ABORTS, "and no event or wait orders the two", NULL},
    {"missing_event_overwrite", missing_event_overwrite, ABORTS, "and no event or wait orders the two", NULL},
    {"missing_join_in_graph", missing_join_in_graph, ABORTS, "and no event or wait orders the two", NULL},
    {"blocks_write_one_place", blocks_write_one_place, ABORTS, "which another block of the kernel wrote",
     NULL},
    {"block_reads_another", block_reads_another, ABORTS, "another block", NULL},
    {"blocks_apart", blocks_apart, ENDS_WELL, "", ""},
    {"divergent_barrier", divergent_barrier, ABORTS, "is not reached by all threads: thread (", "has ended"},
    {"different_barriers", different_barriers, ABORTS, "threads of a block are at different barriers",
     "threads of a block are at different barriers"},
    {"missing_lanes", missing_lanes, ABORTS, "__shfl_xor_sync with mask 0xffffffff at ",
     "a lane of the mask is missing"},
    {"lane_not_in_mask", lane_not_in_mask, ABORTS, "the mask 0xffff lacks the caller's lane",
     "lacks the caller's lane"},
    {"part_of_a_warp", part_of_a_warp, ABORTS, "lane 16 does not exist", "lane 16 does not exist"},
    {"source_not_in_mask", source_not_in_mask, ABORTS, "reads lane 20, which is missing in the mask 0xffff",
     "reads lane 20, which is missing in the mask 0xffff"},
    {"different_operations", different_operations, ABORTS, "lanes of one mask are at different operations",
     "lanes of one mask are at different operations"},
    {"lanes_race", lanes_race, ABORTS, "with no barrier between", NULL},
    {"atomic_and_not", atomic_and_not, ABORTS, "race: ", NULL},
    {"full_stack", full_stack, ABORTS, "the stack of a thread is full", "the stack of a thread is full"},
    {"product_too_large", product_too_large, ABORTS,
     "cublasLtMatmul: B, 256 bytes, is not all inside an allocation",
     "cublasLtMatmul: B, 256 bytes, is not all inside an allocation"},
    {"leak", leak, EXITS, "leak: 2 allocations of device memory, 524 bytes, were not freed",
     "leak: 2 allocations of device memory, 524 bytes, were not freed"},
};

int main(int count, char **names) {
    for (const auto &fault : faults) {
        if (count > 1 && strcmp(names[1], fault.name) != 0) continue;
        const char *message = up_cuda_host_checked() ? fault.message : fault.message_fast;
        if (!message) {
            printf("%s: skipped: found only where every access is checked\n", fault.name);
            continue;
        }
        int status = 0;
        const std::string said = run_child(fault.run, &status);
        const bool ended = fault.end == ABORTS
                               ? WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT
                               : WIFEXITED(status) && WEXITSTATUS(status) == (fault.end == EXITS);
        const bool right = ended && said.find(message) != std::string::npos && (*message || said.empty());
        printf("%s: %s: %s%s", fault.name, right ? (*message ? "found" : "no fault, none found") : "FAILED",
               said.c_str(), said.empty() ? "\n" : "");
        if (!right) printf("    wanted: %s (status 0x%x)\n", message, status);
        failures += !right;
    }
    printf("test_executor_faults: %s, %d failures\n",
           up_cuda_host_checked() ? "every access checked" : "fast", failures);
    return failures != 0;
}
