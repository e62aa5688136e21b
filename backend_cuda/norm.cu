/* norm.cu - layer normalisation (Ba, Kiros and Hinton 2016), a warp a row: mean and variance in two passes
 * over a row that stays in the cache. */
#include "backend_cuda/sums.cuh"

enum { UP_NORM_ROWS = 4 /* a block */, UP_NORM_THREADS = UP_NORM_ROWS * UP_WARP };

template <class X, class T, int V>
static __global__ void __launch_bounds__(UP_NORM_THREADS)
    up_layernorm(up_matrix<T> y, up_matrix<float> stats, up_matrix<const X> x, const float *weight,
                 const float *bias, float eps, int64_t rows, int cols) {
    const int lane = threadIdx.x % UP_WARP;
    const int64_t n = (int64_t)blockIdx.x * UP_NORM_ROWS + threadIdx.x / UP_WARP;
    if (n >= rows) return; /* a whole warp */
    float sum = 0, squares = 0;
    for (int d = lane * V; d < cols; d += UP_WARP * V) {
        float v[V];
        up_load(v, x.row(n) + d);
        for (int i = 0; i < V; i++) sum += v[i];
    }
    const float mean = up_warp_sum(sum) / (float)cols;
    for (int d = lane * V; d < cols; d += UP_WARP * V) {
        float v[V];
        up_load(v, x.row(n) + d);
        for (int i = 0; i < V; i++) squares += (v[i] - mean) * (v[i] - mean);
    }
    const float rstd = 1.0f / sqrtf(up_warp_sum(squares) / (float)cols + eps);
    for (int d = lane * V; d < cols; d += UP_WARP * V) {
        float v[V];
        up_load(v, x.row(n) + d);
        for (int i = 0; i < V; i++) v[i] = (v[i] - mean) * rstd * weight[d + i] + bias[d + i];
        up_store(y.row(n) + d, v);
    }
    if (lane == 0) {
        stats(n, 0) = mean;
        stats(n, 1) = rstd;
    }
}

/* xhat = (x - mean) rstd, g = dy weight: dx = rstd (g - average(g) - xhat average(g xhat)) + residual */
template <class X, class T, int V>
static __global__ void __launch_bounds__(UP_NORM_THREADS)
    up_layernorm_bwd(up_matrix<X> dx, up_matrix<const X> residual, up_matrix<const X> x,
                     up_matrix<const T> dy, up_matrix<const float> stats, const float *weight, int64_t rows,
                     int cols) {
    const int lane = threadIdx.x % UP_WARP;
    const int64_t n = (int64_t)blockIdx.x * UP_NORM_ROWS + threadIdx.x / UP_WARP;
    if (n >= rows) return;
    const float mean = stats(n, 0), rstd = stats(n, 1);
    float g_sum = 0, gx_sum = 0;
    for (int d = lane * V; d < cols; d += UP_WARP * V) {
        float v[V], g[V];
        up_load(v, x.row(n) + d);
        up_load(g, dy.row(n) + d);
        for (int i = 0; i < V; i++) {
            g[i] *= weight[d + i];
            g_sum += g[i];
            gx_sum += g[i] * (v[i] - mean) * rstd;
        }
    }
    const float g_average = up_warp_sum(g_sum) / (float)cols, gx_average = up_warp_sum(gx_sum) / (float)cols;
    for (int d = lane * V; d < cols; d += UP_WARP * V) {
        float v[V], g[V], past[V] = {};
        up_load(v, x.row(n) + d);
        up_load(g, dy.row(n) + d);
        if (residual.at) up_load(past, residual.row(n) + d);
        for (int i = 0; i < V; i++)
            v[i] = rstd * (g[i] * weight[d + i] - g_average - (v[i] - mean) * rstd * gx_average) + past[i];
        up_store(dx.row(n) + d, v);
    }
}

/* dweight[d] += sum over n of dy xhat, dbias[d] += sum over n of dy */
template <class X, class T> struct up_norm_terms {
    enum { COUNT = 2 };
    up_matrix<const X> x;
    up_matrix<const T> dy;
    up_matrix<const float> stats;
    __device__ __forceinline__ void operator()(float (&v)[2], int64_t n, int d) const {
        v[1] = up_to_float(dy(n, d));
        v[0] = v[1] * ((up_to_float(x(n, d)) - stats(n, 0)) * stats(n, 1));
    }
};

#if UP_HOST_PART
#include "backend_cuda/cuda.h"

/* f(x's type, the other type): both are the activations', or x is f32. */
template <class F> static void by_types(up_dtype x, up_dtype other, F f) {
    up_by_type(other, [&](auto t) {
        if (x == other)
            f(t, t);
        else
            f(up_type<float>(), t);
    });
}

static up_status layernorm(up_backend *b, const up_layernorm_args *a) {
    if (up_is_empty(a->x)) return UP_OK;
    by_types(a->x.dtype, a->y.dtype, [&](auto s, auto t) {
        typedef typename decltype(s)::type X;
        typedef typename decltype(t)::type T;
        up_by_width(up_fits(a->x, 4) && up_fits(a->y, 4), [&](auto v) {
            up_launch(up_layernorm<X, T, decltype(v)::value>, up_blocks(a->x.rows, UP_NORM_ROWS),
                      UP_NORM_THREADS, 0, up_stream(b), up_as<T>(a->y), up_as<float>(a->stats),
                      up_as<const X>(a->x), up_pointer<const float>(a->weight),
                      up_pointer<const float>(a->bias), a->eps, a->x.rows, (int)a->x.cols);
        });
    });
    return up_launched("layernorm");
}

static up_status layernorm_bwd(up_backend *b, const up_layernorm_grad *a) {
    if (up_is_empty(a->x)) return UP_OK;
    up_pieces pieces(a->scratch);
    by_types(a->x.dtype, a->dy.dtype, [&](auto s, auto t) {
        typedef typename decltype(s)::type X;
        typedef typename decltype(t)::type T;
        float *to[] = {up_pointer<float>(a->dweight), up_pointer<float>(a->dbias)};
        if (to[0] || to[1]) /* before dx, which may lie on dy */
            up_add_sums(b, to,
                        up_norm_terms<X, T>{up_as<const X>(a->x), up_as<const T>(a->dy),
                                            up_as<const float>(a->stats)},
                        a->x.rows, a->x.cols, pieces.take<float>(0));
        if (!up_view_present(a->dx)) return;
        const bool wide =
            up_fits(a->x, 4) && up_fits(a->dy, 4) && up_fits(a->dx, 4) && up_fits(a->residual, 4);
        up_by_width(wide, [&](auto v) {
            up_launch(up_layernorm_bwd<X, T, decltype(v)::value>, up_blocks(a->x.rows, UP_NORM_ROWS),
                      UP_NORM_THREADS, 0, up_stream(b), up_as<X>(a->dx), up_as<const X>(a->residual),
                      up_as<const X>(a->x), up_as<const T>(a->dy), up_as<const float>(a->stats),
                      up_pointer<const float>(a->weight), a->x.rows, (int)a->x.cols);
        });
    });
    return up_launched("layernorm_bwd");
}

void up_norm_fill_table(up_backend_ops *ops) {
    ops->layernorm = layernorm;
    ops->layernorm_bwd = layernorm_bwd;
}
#endif
