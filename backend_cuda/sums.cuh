/* sums.cuh - sums over the rows of a matrix, column by column: the gradients of biases, norms and scales.
 * Rows are cut into chunks by their number alone, each chunk sums in f32, and the chunks are added in order,
 * so a result has the same bits in every run. */
#ifndef UP_SUMS_CUH
#define UP_SUMS_CUH

#include "backend_cuda/device.cuh"

enum { UP_SUM_CHUNKS = 64, UP_SUM_LINES = 8, UP_SUM_MOST = 2 /* sums a column */ };

/* partial [chunks, COUNT, D] = the terms of a chunk's rows; term(v, n, d) gives the COUNT terms of row n,
 * column d. Block: 32 columns by UP_SUM_LINES rows; grid: columns by chunks. */
template <class Term>
__global__ void __launch_bounds__(UP_WARP *UP_SUM_LINES)
    up_sum_chunks(float *partial, Term term, int64_t rows, int cols, int64_t rows_a_chunk) {
    UP_SHARED(bytes);
    float(*room)[Term::COUNT][UP_WARP] = reinterpret_cast<float(*)[Term::COUNT][UP_WARP]>(bytes);
    const int d = blockIdx.x * UP_WARP + threadIdx.x;
    const int64_t first = blockIdx.y * rows_a_chunk,
                  end = first + rows_a_chunk < rows ? first + rows_a_chunk : rows;
    float sum[Term::COUNT] = {};
    for (int64_t n = first + threadIdx.y; n < end && d < cols; n += UP_SUM_LINES) {
        float v[Term::COUNT];
        term(v, n, d);
        for (int i = 0; i < Term::COUNT; i++) sum[i] += v[i];
    }
    for (int i = 0; i < Term::COUNT; i++) room[threadIdx.y][i][threadIdx.x] = sum[i];
    __syncthreads();
    if (threadIdx.y >= Term::COUNT || d >= cols) return;
    float total = 0;
    for (int line = 0; line < UP_SUM_LINES; line++) total += room[line][threadIdx.y][threadIdx.x];
    partial[((int64_t)blockIdx.y * Term::COUNT + threadIdx.y) * cols + d] = total;
}

/* to[d] += the chunks of one of `count` sums. */
static __global__ void up_add_chunks(float *to, const float *partial, int cols, int chunks, int count) {
    const int d = blockIdx.x * blockDim.x + threadIdx.x;
    if (d >= cols) return;
    float total = 0;
    for (int c = 0; c < chunks; c++) total += partial[(int64_t)c * count * cols + d];
    to[d] += total;
}

/* The terms of a plain sum over the rows; with a list, over those whose index lies in least..most. */
template <class T> struct up_plain_terms {
    enum { COUNT = 1 };
    up_matrix<const T> x;
    up_list index;
    int least, most;
    __device__ __forceinline__ void operator()(float (&v)[1], int64_t n, int d) const {
        const bool counts = !index.at || (index[n] >= least && index[n] <= most);
        v[0] = counts ? up_to_float(x(n, d)) : 0.0f;
    }
};

#if UP_HOST_PART
#include "backend_cuda/cuda.h"

static inline size_t up_sums_scratch(int64_t cols) {
    return sizeof(float) * UP_SUM_CHUNKS * UP_SUM_MOST * (size_t)cols + UP_PIECE;
}

/* to[i] [D] += sum i of the terms of all rows; a NULL is not wanted. `partial`: up_sums_scratch bytes. */
template <class Term>
static void up_add_sums(up_backend *b, float *const *to, Term term, int64_t rows, int64_t cols,
                        float *partial) {
    if (rows <= 0 || cols <= 0) return;
    enum { FEWEST = 64 }; /* rows of a chunk */
    int64_t chunks = (rows + FEWEST - 1) / FEWEST;
    if (chunks > UP_SUM_CHUNKS) chunks = UP_SUM_CHUNKS;
    const int64_t each = (rows + chunks - 1) / chunks;
    chunks = (rows + each - 1) / each;
    const size_t shared = sizeof(float) * UP_SUM_LINES * Term::COUNT * UP_WARP;
    up_launch(up_sum_chunks<Term>, dim3(up_blocks(cols, UP_WARP), (unsigned)chunks),
              dim3(UP_WARP, UP_SUM_LINES), shared, up_stream(b), partial, term, rows, (int)cols, each);
    for (int i = 0; i < Term::COUNT; i++)
        if (to[i])
            up_launch(up_add_chunks, up_blocks(cols, 128), 128, 0, up_stream(b), to[i], partial + i * cols,
                      (int)cols, (int)chunks, (int)Term::COUNT);
}

/* sum [D] += the rows of x, all of them or those of an index in least..most. */
static inline void up_add_rows(up_backend *b, up_view sum, up_view x, up_view index, int least, int most,
                               float *partial) {
    if (!up_view_present(sum)) return;
    up_by_type(x.dtype, [&](auto t) {
        typedef typename decltype(t)::type T;
        float *to[] = {up_pointer<float>(sum)};
        up_add_sums(b, to, up_plain_terms<T>{up_as<const T>(x), up_list_of(index), least, most}, x.rows,
                    x.cols, partial);
    });
}
#endif

#endif
