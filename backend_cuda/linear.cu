/* linear.cu - y = act(x W' + b). In f32 the product adds the bias itself. In 16 bits the product of some rows
 * goes to f32 scratch that stays in the second cache, and one pass adds the bias, takes the exact GELU and
 * rounds: cuBLASLt has neither that GELU nor a bias in f32 beside results of 16 bits. */
#include "backend_cuda/sums.cuh"

enum { UP_LINEAR_THREADS = 256 };

UP_DEVICE float up_gelu_of(float v) {
    return 0.5f * v * (1.0f + erff(v * 0.70710678f));
}
/* d/dv v Phi(v) = Phi(v) + v phi(v) */
UP_DEVICE float up_gelu_slope(float v) {
    return 0.5f * (1.0f + erff(v * 0.70710678f)) + v * 0.39894228f * expf(-0.5f * v * v);
}

/* pre = sum + bias, y = act(pre); pre and bias may be absent, y may be pre or sum. Grid: columns by rows. */
template <class T, int V>
static __global__ void __launch_bounds__(UP_LINEAR_THREADS)
    up_finish_linear(up_matrix<T> y, up_matrix<T> pre, up_matrix<const float> sum, const float *bias,
                     int gelu, int64_t rows, int cols) {
    const int d = (blockIdx.x * UP_LINEAR_THREADS + threadIdx.x) * V;
    if (d >= cols) return;
    for (int64_t n = blockIdx.y; n < rows; n += gridDim.y) {
        float v[V];
        up_load(v, sum.row(n) + d);
        if (bias)
            for (int i = 0; i < V; i++) v[i] += bias[d + i];
        if (pre.at) up_store(pre.row(n) + d, v);
        if (gelu)
            for (int i = 0; i < V; i++) v[i] = up_gelu_of(v[i]);
        up_store(y.row(n) + d, v);
    }
}

/* y = gelu(x); with dy: dy gelu'(x) */
template <class T, int V>
static __global__ void __launch_bounds__(UP_LINEAR_THREADS)
    up_gelu(up_matrix<T> y, up_matrix<const T> x, up_matrix<const T> dy, int64_t rows, int cols) {
    const int d = (blockIdx.x * UP_LINEAR_THREADS + threadIdx.x) * V;
    if (d >= cols) return;
    for (int64_t n = blockIdx.y; n < rows; n += gridDim.y) {
        float v[V], g[V];
        up_load(v, x.row(n) + d);
        if (dy.at) up_load(g, dy.row(n) + d);
        for (int i = 0; i < V; i++) v[i] = dy.at ? g[i] * up_gelu_slope(v[i]) : up_gelu_of(v[i]);
        up_store(y.row(n) + d, v);
    }
}

#if UP_HOST_PART
#include "backend_cuda/cuda.h"

static dim3 grid_of(int64_t rows, int64_t cols, int width) {
    const int64_t most = 1 << 15;
    return dim3(up_blocks(cols, (int64_t)UP_LINEAR_THREADS * width), (unsigned)(rows < most ? rows : most));
}

/* Rows of f32 results at a time: what fits into a second cache beside the operands. */
static int64_t rows_at_once(int64_t rows, int64_t cols) {
    const int64_t bytes = 16 << 20, fewest = 128;
    const int64_t most = bytes / (4 * cols) > fewest ? bytes / (4 * cols) : fewest;
    return rows < most ? rows : most;
}

/* The weight in 16 bits, f32 results of some rows, sums of the bias's gradient. */
size_t up_linear_scratch(const up_op_dims *d) {
    const size_t sums = up_sums_scratch(d->out);
    if (d->dtype == UP_F32) return sums;
    const size_t weight = up_pieces::round(2 * (size_t)d->in * (size_t)d->out);
    const size_t results = up_pieces::round(4 * (size_t)rows_at_once(d->rows, d->out) * (size_t)d->out);
    return weight + (results > sums ? results : sums) + UP_PIECE;
}

static size_t prepared_size(up_backend *b, const up_op_dims *d, int backward) {
    (void)b;
    (void)backward;
    return d->dtype == UP_F32 ? 0 : 2 * (size_t)d->in * (size_t)d->out;
}

/* The weight as it is in f32, a view of memory of the backend's in `dtype`. */
static up_view in_type(up_view weight, up_dtype dtype, void *memory, up_buffer *buffer) {
    buffer->bytes = static_cast<unsigned char *>(memory);
    buffer->size = up_dtype_size(dtype) * (size_t)(weight.rows * weight.cols);
    return up_view_at(buffer, dtype, 0, weight.rows, weight.cols);
}

static up_status prepare(up_backend *b, const up_prepare_args *a) {
    up_buffer buffer;
    up_cuda_cast(b, in_type(a->weight, a->dtype, up_bytes_of(a->prepared), &buffer), a->weight);
    return up_launched("prepare");
}

up_view up_weight_for(up_backend *b, up_view weight, up_view prepared, up_dtype dtype, up_pieces *pieces,
                      up_buffer *buffer) {
    if (dtype == UP_F32) return weight;
    if (up_view_present(prepared)) return in_type(weight, dtype, up_bytes_of(prepared), buffer);
    const up_view cast =
        in_type(weight, dtype, pieces->take<up_half>((size_t)(weight.rows * weight.cols)), buffer);
    up_cuda_cast(b, cast, weight);
    return cast;
}

up_product up_product_forward(up_view x, up_view weight, void *c, int64_t stride, up_dtype out,
                              const float *bias) {
    up_product p = {};
    p.in = x.dtype;
    p.out = out;
    p.m = x.rows;
    p.n = weight.rows;
    p.k = x.cols;
    p.a = up_bytes_of(x);
    p.a_stride = x.stride;
    p.b = up_bytes_of(weight);
    p.b_stride = weight.stride;
    p.b_turned = true;
    p.c = c;
    p.c_stride = stride;
    p.bias = bias;
    return p;
}

static void finish(up_backend *b, const up_linear_args *a, int64_t first, int64_t rows,
                   up_matrix<const float> sum, const float *bias, bool wide) {
    const up_view y = up_view_rows(a->y, first, rows),
                  pre = up_view_present(a->pre) ? up_view_rows(a->pre, first, rows) : a->pre;
    up_by_type(y.dtype, [&](auto t) {
        typedef typename decltype(t)::type T;
        up_by_width(wide && up_fits(y, 4) && up_fits(pre, 4), [&](auto v) {
            up_launch(up_finish_linear<T, decltype(v)::value>, grid_of(rows, y.cols, decltype(v)::value),
                      UP_LINEAR_THREADS, 0, up_stream(b), up_as<T>(y), up_as<T>(pre), sum, bias,
                      (int)(a->activation == UP_ACT_GELU), rows, (int)y.cols);
        });
    });
}

static up_status linear_f32(up_backend *b, const up_linear_args *a) {
    const float *bias = up_pointer<const float>(a->bias), *first = NULL, *then = bias;
    if ((uintptr_t)bias % 16 == 0) { /* cuBLASLt reads it by vectors */
        first = bias;
        then = NULL;
    }
    UP_TRY(
        up_multiply(b, up_product_forward(a->x, a->weight, up_bytes_of(a->y), a->y.stride, UP_F32, first)));
    if (a->activation == UP_ACT_GELU || up_view_present(a->pre) || then)
        finish(b, a, 0, a->y.rows, up_as<const float>(a->y), then, up_fits(a->y, 4));
    return up_launched("linear");
}

static up_status linear(up_backend *b, const up_linear_args *a) {
    if (up_is_empty(a->y)) return UP_OK;
    if (a->y.dtype == UP_F32) return linear_f32(b, a);
    up_pieces pieces(a->scratch);
    up_buffer buffer;
    const up_view weight = up_weight_for(b, a->weight, a->prepared, a->y.dtype, &pieces, &buffer);
    if (a->activation == UP_ACT_NONE && !up_view_present(a->bias) && !up_view_present(a->pre))
        return up_multiply(
            b, up_product_forward(a->x, weight, up_bytes_of(a->y), a->y.stride, a->y.dtype, NULL));
    const int64_t each = rows_at_once(a->y.rows, a->y.cols);
    float *sum = pieces.take<float>((size_t)(each * a->y.cols));
    for (int64_t first = 0; first < a->y.rows; first += each) {
        const int64_t rows = a->y.rows - first < each ? a->y.rows - first : each;
        UP_TRY(up_multiply(
            b, up_product_forward(up_view_rows(a->x, first, rows), weight, sum, a->y.cols, UP_F32, NULL)));
        finish(b, a, first, rows, up_matrix<const float>{sum, a->y.cols}, up_pointer<const float>(a->bias),
               a->y.cols % 4 == 0);
    }
    return up_launched("linear");
}

static void gelu_of(up_backend *b, up_view y, up_view x, up_view dy) {
    up_by_type(y.dtype, [&](auto t) {
        typedef typename decltype(t)::type T;
        up_by_width(up_fits(y, 4) && up_fits(x, 4) && up_fits(dy, 4), [&](auto v) {
            up_launch(up_gelu<T, decltype(v)::value>, grid_of(y.rows, y.cols, decltype(v)::value),
                      UP_LINEAR_THREADS, 0, up_stream(b), up_as<T>(y), up_as<const T>(x), up_as<const T>(dy),
                      y.rows, (int)y.cols);
        });
    });
}

static up_status gelu(up_backend *b, const up_gelu_args *a) {
    const up_view none = {};
    if (!up_is_empty(a->x)) gelu_of(b, a->y, a->x, none);
    return up_launched("gelu");
}

/* dx = dy W */
static up_status input_gradient(up_backend *b, const up_linear_grad *a, up_view weight) {
    up_product p = up_product_forward(a->dy, weight, up_bytes_of(a->dx), a->dx.stride, a->dx.dtype, NULL);
    p.n = weight.cols;
    p.b_turned = false;
    return up_multiply(b, p);
}

up_status up_add_weight_gradient(up_backend *b, up_view dweight, up_view dy, up_view x) {
    up_product p = {};
    p.in = dy.dtype;
    p.out = UP_F32;
    p.m = dweight.rows;
    p.n = dweight.cols;
    p.k = dy.rows;
    p.a = up_bytes_of(dy);
    p.a_stride = dy.stride;
    p.a_turned = true;
    p.b = up_bytes_of(x);
    p.b_stride = x.stride;
    p.c = up_bytes_of(dweight);
    p.c_stride = dweight.stride;
    p.beta = 1;
    return up_multiply(b, p);
}

static up_status linear_bwd(up_backend *b, const up_linear_grad *a) {
    if (up_is_empty(a->dy)) return UP_OK;
    up_pieces pieces(a->scratch);
    up_buffer buffer;
    const up_view all = {};
    if (a->activation == UP_ACT_GELU) gelu_of(b, a->dy, a->pre, a->dy);
    if (up_view_present(a->dx))
        UP_TRY(input_gradient(b, a, up_weight_for(b, a->weight, a->prepared, a->dy.dtype, &pieces, &buffer)));
    if (up_view_present(a->dweight)) UP_TRY(up_add_weight_gradient(b, a->dweight, a->dy, a->x));
    up_add_rows(b, a->dbias, a->dy, all, 0, 0, pieces.take<float>(0));
    return up_launched("linear_bwd");
}

void up_linear_fill_table(up_backend_ops *ops) {
    ops->prepared_size = prepared_size;
    ops->prepare = prepare;
    ops->linear = linear;
    ops->linear_bwd = linear_bwd;
    ops->gelu = gelu;
}
#endif
