/* patches.cu - picture and video tokens: y = W patch + b + P_space[cell] + P_time[frame] + V. Bytes become
 * normalised values of the activations' type in scratch, some rows at a time. */
#include "backend_cuda/index_sums.cuh"
#include "backend_cuda/sums.cuh"

enum { UP_PATCH_THREADS = 128 };

/* to[n, d] = levels[channel of d, byte] */
template <class T>
static __global__ void __launch_bounds__(UP_PATCH_THREADS)
    up_pixels(up_matrix<T> to, up_matrix<const unsigned char> bytes, up_matrix<const float> levels,
              int cols) {
    const int64_t n = blockIdx.x;
    for (int d = threadIdx.x; d < cols; d += UP_PATCH_THREADS)
        to(n, d) = up_from_float<T>(levels(d / (cols / 3), bytes(n, d)));
}

struct up_patch_places {
    const float *bias;
    up_list cells, frames;
    up_matrix<const float> space, time;
    const float *type;
};

template <class T>
static __global__ void __launch_bounds__(UP_PATCH_THREADS)
    up_finish_patches(up_matrix<T> y, up_matrix<const float> sum, up_patch_places p, int64_t first,
                      int cols) {
    const int64_t n = first + blockIdx.x;
    const int cell = p.cells[n], frame = cell >= 0 && p.time.at && p.frames.at ? p.frames[n] : -1;
    for (int d = threadIdx.x; d < cols; d += UP_PATCH_THREADS) {
        float v = 0;
        if (cell >= 0) {
            float places = p.space(cell, d);
            if (frame >= 0) places += p.time(frame, d);
            if (p.type) places += p.type[d];
            v = sum(blockIdx.x, d) + p.bias[d] + places;
        }
        y(n, d) = up_from_float<T>(v);
    }
}

#if UP_HOST_PART
#include "backend_cuda/cuda.h"

/* Values of a row of pixels in scratch: each row on a boundary of 16 bytes. */
static int64_t pixel_stride(int64_t cols) {
    return (cols + 7) / 8 * 8;
}
static int64_t rows_at_once(int64_t rows, int64_t in, int64_t out) {
    const int64_t bytes = 32 << 20, fewest = 128;
    const int64_t most = bytes / (4 * (in + out)) > fewest ? bytes / (4 * (in + out)) : fewest;
    return rows < most ? rows : most;
}

/* Forward: the weight in 16 bits, pixels and f32 results of some rows. Backward: pixels and gradients of some
 * rows, or sums. */
size_t up_patch_embed_scratch(const up_op_dims *d) {
    const int64_t rows = rows_at_once(d->rows, d->in, d->out);
    const size_t weight = up_pieces::round(2 * (size_t)d->in * (size_t)d->out);
    const size_t pixels = up_pieces::round(4 * (size_t)rows * (size_t)pixel_stride(d->in));
    const size_t results = up_pieces::round(4 * (size_t)rows * (size_t)d->out);
    const size_t index = up_index_sums_scratch(d->rows, d->out), sums = up_sums_scratch(d->out);
    const size_t products = weight + pixels + results, most = products > index ? products : index;
    return (most > sums ? most : sums) + UP_PIECE;
}

/* The type that a product is computed in: values in f32 keep their digits beside activations of 16 bits. */
static up_dtype type_of_product(up_view patches, up_dtype activations) {
    return patches.dtype == UP_F32 ? UP_F32 : activations;
}

/* Rows first.. of the patches as values of `dtype`: as they lie, or made in `memory`. */
static up_view values_of(up_backend *b, up_view patches, up_view levels, up_dtype dtype, int64_t first,
                         int64_t rows, void *memory, up_buffer *buffer) {
    const up_view some = up_view_rows(patches, first, rows);
    if (patches.dtype == dtype) return some;
    buffer->bytes = static_cast<unsigned char *>(memory);
    buffer->size = up_dtype_size(dtype) * (size_t)(rows * pixel_stride(patches.cols));
    up_view to = up_view_at(buffer, dtype, 0, rows, patches.cols);
    to.stride = pixel_stride(patches.cols);
    if (patches.dtype != UP_U8)
        up_cuda_cast(b, to, some);
    else
        up_by_type(dtype, [&](auto t) {
            typedef typename decltype(t)::type T;
            up_launch(up_pixels<T>, (unsigned)rows, UP_PATCH_THREADS, 0, up_stream(b), up_as<T>(to),
                      up_as<const unsigned char>(some), up_as<const float>(levels), (int)some.cols);
        });
    return to;
}

static up_status patch_embed(up_backend *b, const up_patch_embed_args *a) {
    if (up_is_empty(a->y)) return UP_OK;
    up_pieces pieces(a->scratch);
    up_buffer weight_buffer, pixel_buffer;
    const up_dtype dtype = type_of_product(a->patches, a->y.dtype);
    const up_view weight = up_weight_for(b, a->weight, {}, dtype, &pieces, &weight_buffer);
    const int64_t each = rows_at_once(a->y.rows, a->patches.cols, a->y.cols);
    float *pixels = pieces.take<float>((size_t)(each * pixel_stride(a->patches.cols)));
    float *sum = pieces.take<float>((size_t)(each * a->y.cols));
    const up_patch_places places = {
        up_pointer<const float>(a->bias), up_list_of(a->cells),        up_list_of(a->frames),
        up_as<const float>(a->space),     up_as<const float>(a->time), up_pointer<const float>(a->type)};
    for (int64_t first = 0; first < a->y.rows; first += each) {
        const int64_t rows = a->y.rows - first < each ? a->y.rows - first : each;
        const up_view x = values_of(b, a->patches, a->levels, dtype, first, rows, pixels, &pixel_buffer);
        UP_TRY(up_multiply(b, up_product_forward(x, weight, sum, weight.rows, UP_F32, NULL)));
        up_by_type(a->y.dtype, [&](auto t) {
            typedef typename decltype(t)::type T;
            up_launch(up_finish_patches<T>, (unsigned)rows, UP_PATCH_THREADS, 0, up_stream(b), up_as<T>(a->y),
                      up_matrix<const float>{sum, a->y.cols}, places, first, (int)a->y.cols);
        });
    }
    return up_launched("patch_embed");
}

/* Rows of dy in the type of the product: as they lie, or made in `memory`. */
static up_view gradient_in_type(up_backend *b, up_view dy, up_dtype dtype, void *memory, up_buffer *buffer) {
    if (dy.dtype == dtype) return dy;
    buffer->bytes = static_cast<unsigned char *>(memory);
    buffer->size = up_dtype_size(dtype) * (size_t)(dy.rows * dy.cols);
    const up_view to = up_view_at(buffer, dtype, 0, dy.rows, dy.cols);
    up_cuda_cast(b, to, dy);
    return to;
}

static up_status weight_gradient(up_backend *b, const up_patch_embed_grad *a, up_pieces pieces) {
    up_buffer pixel_buffer, gradient_buffer;
    const up_dtype dtype = type_of_product(a->patches, a->dy.dtype);
    const int64_t each = rows_at_once(a->dy.rows, a->patches.cols, a->dy.cols);
    float *pixels = pieces.take<float>((size_t)(each * pixel_stride(a->patches.cols)));
    float *gradient = pieces.take<float>((size_t)(each * a->dy.cols));
    for (int64_t first = 0; first < a->dy.rows; first += each) {
        const int64_t rows = a->dy.rows - first < each ? a->dy.rows - first : each;
        const up_view dy =
            gradient_in_type(b, up_view_rows(a->dy, first, rows), dtype, gradient, &gradient_buffer);
        const up_view x = values_of(b, a->patches, a->levels, dtype, first, rows, pixels, &pixel_buffer);
        UP_TRY(up_add_weight_gradient(b, a->dweight, dy, x));
    }
    return UP_OK;
}

/* dy of an unused row is 0 */
static up_status patch_embed_bwd(up_backend *b, const up_patch_embed_grad *a) {
    if (up_is_empty(a->dy)) return UP_OK;
    const up_view all = {};
    const up_pieces pieces(a->scratch);
    float *piece = up_pieces(pieces).take<float>(0);
    if (up_view_present(a->dweight)) UP_TRY(weight_gradient(b, a, pieces));
    up_add_rows(b, a->dbias, a->dy, all, 0, 0, piece);
    up_add_rows(b, a->dtype, a->dy, all, 0, 0, piece);
    up_add_by_index(b, a->dspace, a->cells, a->dy, pieces);
    if (up_view_present(a->frames)) up_add_by_index(b, a->dtime, a->frames, a->dy, pieces);
    return up_launched("patch_embed_bwd");
}

void up_patches_fill_table(up_backend_ops *ops) {
    ops->patch_embed = patch_embed;
    ops->patch_embed_bwd = patch_embed_bwd;
}
#endif
