/* index_sums.cuh - sums of the rows that share an index: the gradients of embedding tables. The pairs (index,
 * row) are sorted by a bitonic network (Batcher 1968), so that equal indices stand together in ascending
 * order of their rows, whatever runs first. Each chunk of the sorted list is summed; what reaches over a
 * border is joined in order. */
#ifndef UP_INDEX_SUMS_CUH
#define UP_INDEX_SUMS_CUH

#include "backend_cuda/device.cuh"

enum {
    UP_SORT_BLOCK = 1024, /* keys in the shared memory of a block */
    UP_SORT_LEAST = 64,   /* keys at all: a warp of pairs */
    UP_RUN_CHUNK = 32,    /* keys of a chunk */
    UP_RUN_THREADS = 128
};
#define UP_NO_KEY 0xffffffffffffffffull /* sorts last */

static __global__ void up_make_keys(unsigned long long *keys, up_list index, int64_t rows, int64_t size) {
    const int64_t n = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= size) return;
    const int at = n < rows ? index[n] : -1;
    keys[n] = at < 0 ? UP_NO_KEY : (unsigned long long)at << 32 | (unsigned long long)n;
}

UP_DEVICE void up_order(unsigned long long *a, unsigned long long *b, bool ascending) {
    const unsigned long long x = *a, y = *b;
    if ((x > y) != ascending) return;
    *a = y;
    *b = x;
}

/* The steps of the network inside blocks of `size` keys, for the merges of lengths from..to. */
static __global__ void __launch_bounds__(UP_SORT_BLOCK / 2)
    up_sort_blocks(unsigned long long *keys, int size, int64_t from, int64_t to) {
    UP_SHARED(bytes);
    unsigned long long *mine = reinterpret_cast<unsigned long long *>(bytes);
    const int64_t base = (int64_t)blockIdx.x * size;
    for (int i = threadIdx.x; i < size; i += blockDim.x) mine[i] = keys[base + i];
    __syncthreads();
    for (int64_t length = from; length <= to; length *= 2)
        for (int step = length / 2 < size / 2 ? (int)(length / 2) : size / 2; step > 0; step /= 2) {
            const int i = threadIdx.x, low = i / step * 2 * step + i % step;
            up_order(mine + low, mine + low + step, ((base + low) & length) == 0);
            __syncthreads();
        }
    for (int i = threadIdx.x; i < size; i += blockDim.x) keys[base + i] = mine[i];
}

/* One step over distances that no block holds. */
static __global__ void up_sort_step(unsigned long long *keys, int64_t pairs, int64_t length, int64_t step) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, low = i / step * 2 * step + i % step;
    if (i < pairs) up_order(keys + low, keys + low + step, (low & length) == 0);
}

UP_DEVICE bool up_same_run(const unsigned long long *keys, int64_t a, int64_t b, int64_t size) {
    return a >= 0 && b < size && keys[a] >> 32 == keys[b] >> 32;
}

/* Grid: chunks by columns. table[index] += runs that lie inside the chunk; border [chunk][2][D] takes the sum
 * of the run that came from the chunk before (0) and of the one that goes on in the next (1). */
template <class T>
__global__ void __launch_bounds__(UP_RUN_THREADS)
    up_sum_runs(up_matrix<float> table, float *border, up_matrix<const T> x, const unsigned long long *keys,
                int64_t size, int cols) {
    const int d = blockIdx.y * UP_RUN_THREADS + threadIdx.x;
    if (d >= cols) return;
    const int64_t first = (int64_t)blockIdx.x * UP_RUN_CHUNK, end = first + UP_RUN_CHUNK;
    float *mine = border + (int64_t)blockIdx.x * 2 * cols + d;
    bool came = up_same_run(keys, first - 1, first, size);
    float total = 0;
    for (int64_t i = first; i < end && keys[i] != UP_NO_KEY; i++) {
        total += up_to_float(x((int64_t)(keys[i] & 0xffffffffu), d));
        const bool on = up_same_run(keys, i, i + 1, size);
        if (on && i + 1 < end) continue;
        if (came)
            mine[0] = total;
        else if (on)
            mine[cols] = total;
        else
            table((int64_t)(keys[i] >> 32), d) += total;
        total = 0;
        came = false;
    }
}

/* The runs that begin in this chunk and go on behind it. */
static __global__ void __launch_bounds__(UP_RUN_THREADS)
    up_join_runs(up_matrix<float> table, const float *border, const unsigned long long *keys, int64_t size,
                 int cols) {
    const int d = blockIdx.y * UP_RUN_THREADS + threadIdx.x;
    const int64_t first = (int64_t)blockIdx.x * UP_RUN_CHUNK, last = first + UP_RUN_CHUNK - 1;
    if (d >= cols || keys[last] == UP_NO_KEY || !up_same_run(keys, last, last + 1, size)) return;
    if (up_same_run(keys, first - 1, last, size)) return; /* it began earlier */
    float total = border[((int64_t)blockIdx.x * 2 + 1) * cols + d];
    for (int64_t c = blockIdx.x + 1;
         c * UP_RUN_CHUNK < size && up_same_run(keys, last, c * UP_RUN_CHUNK, size); c++)
        total += border[c * 2 * cols + d];
    table((int64_t)(keys[last] >> 32), d) += total;
}

#if UP_HOST_PART
#include "backend_cuda/cuda.h"

static inline int64_t up_keys_of(int64_t rows) {
    int64_t size = UP_SORT_LEAST;
    while (size < rows) size *= 2;
    return size;
}
static inline size_t up_index_sums_scratch(int64_t rows, int64_t cols) {
    const size_t keys = up_pieces::round(sizeof(uint64_t) * (size_t)up_keys_of(rows));
    const int64_t chunks = up_keys_of(rows) / UP_RUN_CHUNK;
    return keys + up_pieces::round(sizeof(float) * 2 * (size_t)chunks * (size_t)cols) + UP_PIECE;
}

static inline void up_sort(up_backend *b, unsigned long long *keys, int64_t size) {
    const int block = size < UP_SORT_BLOCK ? (int)size : UP_SORT_BLOCK;
    const size_t shared = sizeof *keys * (size_t)block;
    const cudaStream_t stream = up_stream(b);
    up_launch(up_sort_blocks, (unsigned)(size / block), block / 2, shared, stream, keys, block, 2, block);
    for (int64_t length = 2 * (int64_t)block; length <= size; length *= 2) {
        for (int64_t step = length / 2; step >= block; step /= 2)
            up_launch(up_sort_step, up_blocks(size / 2, 256), 256, 0, stream, keys, size / 2, length, step);
        up_launch(up_sort_blocks, (unsigned)(size / block), block / 2, shared, stream, keys, block, length,
                  length);
    }
}

/* table[index[n]] += x[n] for every n whose index is not negative. */
static inline void up_add_by_index(up_backend *b, up_view table, up_view index, up_view x, up_pieces pieces) {
    if (!up_view_present(table) || up_is_empty(x)) return;
    const int64_t size = up_keys_of(x.rows), chunks = size / UP_RUN_CHUNK;
    unsigned long long *keys = pieces.take<unsigned long long>((size_t)size);
    float *border = pieces.take<float>((size_t)(2 * chunks * x.cols));
    const dim3 grid((unsigned)chunks, up_blocks(x.cols, UP_RUN_THREADS));
    up_launch(up_make_keys, up_blocks(size, 256), 256, 0, up_stream(b), keys, up_list_of(index), x.rows,
              size);
    up_sort(b, keys, size);
    up_by_type(x.dtype, [&](auto t) {
        typedef typename decltype(t)::type T;
        up_launch(up_sum_runs<T>, grid, UP_RUN_THREADS, 0, up_stream(b), up_as<float>(table), border,
                  up_as<const T>(x), keys, size, (int)x.cols);
    });
    up_launch(up_join_runs, grid, UP_RUN_THREADS, 0, up_stream(b), up_as<float>(table), border, keys, size,
              (int)x.cols);
}
#endif

#endif
