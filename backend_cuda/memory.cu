/* memory.cu - buffers, copies between host and device, results that are read later. Copies to the device go
 * through pinned memory of the backend's own, so that their source is free again on return and nothing waits.
 */
#include "backend_cuda/device.cuh"

template <class T> static __global__ void up_fill(up_matrix<T> to, T value, int64_t rows, int64_t cols) {
    const int64_t count = rows * cols, step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step)
        to(i / cols, i % cols) = value;
}

#if UP_HOST_PART
#include "backend_cuda/cuda.h"

#include <stdlib.h>
#include <string.h>

static const char WHAT[] = "backend cuda";

up_status up_cuda_check(cudaError_t error, const char *what) {
    if (error == cudaSuccess) return UP_OK;
    return up_fail(UP_ERR_BACKEND, WHAT, "%s: %s (%s)", what, cudaGetErrorString(error),
                   cudaGetErrorName(error));
}

up_status up_cuda_alloc(void **out, size_t bytes) {
    size_t unused = 0, total = 0;
    const cudaError_t error = cudaMalloc(out, bytes ? bytes : 1);
    if (error == cudaSuccess) return UP_OK;
    if (error != cudaErrorMemoryAllocation) return up_cuda_check(error, "cudaMalloc");
    cudaGetLastError(); /* it is told here and not by the next launch */
    if (cudaMemGetInfo(&unused, &total) != cudaSuccess) cudaGetLastError();
    return up_fail(UP_ERR_MEMORY, WHAT, "out of memory: %zu bytes wanted, %zu of %zu are free", bytes, unused,
                   total);
}

static up_status alloc_buffer(up_backend *b, size_t bytes, up_buffer **out) {
    (void)b;
    up_buffer *buffer = static_cast<up_buffer *>(malloc(sizeof *buffer));
    if (!buffer) return up_fail(UP_ERR_MEMORY, WHAT, "out of memory: %zu bytes wanted", sizeof *buffer);
    void *memory = NULL;
    const up_status status = up_cuda_alloc(&memory, bytes);
    if (status != UP_OK) {
        free(buffer);
        return status;
    }
    buffer->bytes = static_cast<unsigned char *>(memory);
    buffer->size = bytes;
    *out = buffer;
    return UP_OK;
}

static void release(up_backend *b, up_buffer *buffer) {
    (void)b;
    if (buffer) cudaFree(buffer->bytes); /* waits for what is at work on it */
    free(buffer);
}

/* ---- pinned memory for uploads: blocks that are taken when no copy reads them any more ---- */
enum { STAGES = 64, SMALLEST_STAGE = 64 << 10 };
typedef struct stage {
    void *memory;
    size_t size;
    cudaEvent_t copied;
} stage;
struct up_staging {
    stage stages[STAGES];
};

up_status up_staging_create(up_staging **out) {
    *out = static_cast<up_staging *>(calloc(1, sizeof **out));
    return *out ? UP_OK : up_fail(UP_ERR_MEMORY, WHAT, "out of memory: %zu bytes wanted", sizeof **out);
}

static void free_stage(stage *s) {
    if (s->copied) cudaEventDestroy(s->copied);
    if (s->memory) cudaFreeHost(s->memory);
    memset(s, 0, sizeof *s);
}

void up_staging_free(up_staging *staging) {
    for (int i = 0; staging && i < STAGES; i++) free_stage(&staging->stages[i]);
    free(staging);
}

static up_status make_stage(stage *s, size_t bytes) {
    size_t size = SMALLEST_STAGE;
    while (size < bytes) size *= 2;
    if (cudaHostAlloc(&s->memory, size, cudaHostAllocDefault) != cudaSuccess) {
        cudaGetLastError();
        s->memory = NULL;
        return up_fail(UP_ERR_MEMORY, WHAT, "out of pinned memory: %zu bytes wanted", size);
    }
    s->size = size;
    return up_cuda_check(cudaEventCreateWithFlags(&s->copied, cudaEventDisableTiming), "cudaEventCreate");
}

/* The smallest free block that is large enough, or a new one; with none left, the first to be copied. */
static up_status find_stage(up_staging *staging, size_t bytes, stage **out) {
    stage *best = NULL, *unused = NULL, *busy = NULL;
    for (int i = 0; i < STAGES; i++) {
        stage *s = &staging->stages[i];
        if (!s->memory)
            unused = s;
        else if (cudaEventQuery(s->copied) != cudaSuccess)
            busy = busy ? busy : s;
        else if (s->size >= bytes && (!best || s->size < best->size))
            best = s;
        else if (s->size < bytes && !unused)
            unused = s; /* too small: it may be made again */
    }
    if (best) {
        *out = best;
        return UP_OK;
    }
    if (!unused) UP_TRY(up_cuda_check(cudaEventSynchronize(busy->copied), "cudaEventSynchronize"));
    *out = unused ? unused : busy;
    if ((*out)->size >= bytes) return UP_OK;
    free_stage(*out);
    return make_stage(*out, bytes);
}

static size_t row_bytes(up_view v) {
    return (size_t)v.cols * up_dtype_size(v.dtype);
}
static size_t pitch(up_view v) {
    const size_t bytes = (size_t)v.stride * up_dtype_size(v.dtype);
    return bytes < row_bytes(v) ? row_bytes(v) : bytes; /* a single row may say anything */
}

static up_status upload(up_backend *b, up_view dst, const void *src) {
    if (up_is_empty(dst)) return UP_OK;
    stage *s = NULL;
    const size_t width = row_bytes(dst), bytes = width * (size_t)dst.rows;
    UP_TRY(find_stage(up_cuda_of(b)->staging, bytes, &s));
    memcpy(s->memory, src, bytes);
    UP_TRY(up_cuda_check(cudaMemcpy2DAsync(up_bytes_of(dst), pitch(dst), s->memory, width, width,
                                           (size_t)dst.rows, cudaMemcpyHostToDevice, up_stream(b)),
                         "upload"));
    return up_cuda_check(cudaEventRecord(s->copied, up_stream(b)), "upload");
}

static up_status download(up_backend *b, void *dst, up_view src) {
    if (!up_is_empty(src))
        UP_TRY(
            up_cuda_check(cudaMemcpy2DAsync(dst, row_bytes(src), up_bytes_of(src), pitch(src), row_bytes(src),
                                            (size_t)src.rows, cudaMemcpyDeviceToHost, up_stream(b)),
                          "download"));
    return up_cuda_check(cudaStreamSynchronize(up_stream(b)), "download");
}

static up_status copy(up_backend *b, up_view dst, up_view src) {
    if (up_is_empty(dst)) return UP_OK;
    return up_cuda_check(cudaMemcpy2DAsync(up_bytes_of(dst), pitch(dst), up_bytes_of(src), pitch(src),
                                           row_bytes(dst), (size_t)dst.rows, cudaMemcpyDeviceToDevice,
                                           up_stream(b)),
                         "copy");
}

static up_status sync(up_backend *b) {
    return up_cuda_check(cudaStreamSynchronize(up_stream(b)), "sync");
}

static void set_bytes(up_backend *b, up_view dst, unsigned char value) {
    cudaMemset2DAsync(up_bytes_of(dst), pitch(dst), value, row_bytes(dst), (size_t)dst.rows, up_stream(b));
}

template <class T> static void fill_with(up_backend *b, up_view dst, T value) {
    const unsigned threads = 256, most = 1 << 16, blocks = up_blocks(dst.rows * dst.cols, threads);
    up_launch(up_fill<T>, blocks < most ? blocks : most, threads, 0, up_stream(b), up_as<T>(dst), value,
              dst.rows, dst.cols);
}

static up_status fill(up_backend *b, up_view dst, double value) {
    if (up_is_empty(dst)) return UP_OK;
    if (dst.dtype == UP_U8)
        set_bytes(b, dst, (unsigned char)value);
    else if (dst.dtype == UP_I32)
        fill_with<int>(b, dst, (int)value);
    else
        up_by_type(dst.dtype, [&](auto t) {
            typedef typename decltype(t)::type T;
            fill_with<T>(b, dst, T((float)value));
        });
    return up_launched("fill");
}

void up_cuda_zero(up_backend *b, up_view dst) {
    if (!up_is_empty(dst)) set_bytes(b, dst, 0);
}

/* ---- results that are read later ---- */
struct up_fetch {
    void *memory; /* pinned */
    size_t capacity, size;
    cudaEvent_t copied;
};

static void fetch_free(up_backend *b, up_fetch *fetch) {
    (void)b;
    if (!fetch) return;
    if (fetch->copied) {
        cudaEventSynchronize(fetch->copied);
        cudaEventDestroy(fetch->copied);
    }
    if (fetch->memory) cudaFreeHost(fetch->memory);
    free(fetch);
}

static up_status fetch_create(up_backend *b, size_t bytes, up_fetch **out) {
    up_fetch *fetch = static_cast<up_fetch *>(calloc(1, sizeof *fetch));
    if (!fetch) return up_fail(UP_ERR_MEMORY, WHAT, "out of memory: %zu bytes wanted", sizeof *fetch);
    fetch->capacity = bytes;
    if (cudaHostAlloc(&fetch->memory, bytes ? bytes : 1, cudaHostAllocDefault) != cudaSuccess) {
        cudaGetLastError();
        free(fetch);
        return up_fail(UP_ERR_MEMORY, WHAT, "out of pinned memory: %zu bytes wanted", bytes);
    }
    const up_status status =
        up_cuda_check(cudaEventCreateWithFlags(&fetch->copied, cudaEventDisableTiming), "cudaEventCreate");
    if (status == UP_OK)
        *out = fetch;
    else
        fetch_free(b, fetch);
    return status;
}

static up_status fetch_begin(up_backend *b, up_fetch *fetch, up_view src) {
    const size_t width = row_bytes(src), size = up_is_empty(src) ? 0 : (size_t)src.rows * width;
    if (size > fetch->capacity)
        return up_fail(UP_ERR_ARGUMENT, WHAT, "a fetch of %zu bytes was made for %zu", size, fetch->capacity);
    fetch->size = size;
    if (size)
        UP_TRY(up_cuda_check(cudaMemcpy2DAsync(fetch->memory, width, up_bytes_of(src), pitch(src), width,
                                               (size_t)src.rows, cudaMemcpyDeviceToHost, up_stream(b)),
                             "fetch"));
    return up_cuda_check(cudaEventRecord(fetch->copied, up_stream(b)), "fetch");
}

static up_status fetch_end(up_backend *b, up_fetch *fetch, void *dst) {
    (void)b;
    UP_TRY(up_cuda_check(cudaEventSynchronize(fetch->copied), "fetch"));
    memcpy(dst, fetch->memory, fetch->size);
    return UP_OK;
}

void up_memory_fill_table(up_backend_ops *ops) {
    ops->alloc = alloc_buffer;
    ops->release = release;
    ops->upload = upload;
    ops->download = download;
    ops->fill = fill;
    ops->copy = copy;
    ops->sync = sync;
    ops->fetch_create = fetch_create;
    ops->fetch_free = fetch_free;
    ops->fetch_begin = fetch_begin;
    ops->fetch_end = fetch_end;
}
#endif
