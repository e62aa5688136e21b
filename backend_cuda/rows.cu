/* rows.cu - operations on rows: residual connection with LayerScale and drop path, gather and scatter,
 * features of length 1, casts. */
#include "backend_cuda/sums.cuh"

enum { UP_ROW_THREADS = 128 };

/* ---- residual: y = x + drop[owner[n]] scale[d] branch ---- */
struct up_factor { /* of row n */
    up_matrix<const float> drop;
    up_list owner;
    __device__ __forceinline__ float operator()(int64_t n) const {
        if (!drop.at) return 1.0f;
        const int sequence = owner[n];
        return sequence < 0 ? 0.0f : drop(sequence, 0);
    }
};

template <class T, int V>
static __global__ void __launch_bounds__(UP_ROW_THREADS)
    up_residual(up_matrix<T> y, up_matrix<const T> x, up_matrix<const T> branch, const float *scale,
                up_factor factor, int cols) {
    const int64_t n = blockIdx.x;
    const float drop = factor(n);
    for (int d = threadIdx.x * V; d < cols; d += UP_ROW_THREADS * V) {
        float sum[V], add[V];
        up_load(sum, x.row(n) + d);
        up_load(add, branch.row(n) + d);
        for (int i = 0; i < V; i++) sum[i] += drop * (scale ? scale[d + i] : 1.0f) * add[i];
        up_store(y.row(n) + d, sum);
    }
}

template <class T, int V>
static __global__ void __launch_bounds__(UP_ROW_THREADS)
    up_residual_bwd(up_matrix<T> dbranch, up_matrix<const T> dy, const float *scale, up_factor factor,
                    int cols) {
    const int64_t n = blockIdx.x;
    const float drop = factor(n);
    for (int d = threadIdx.x * V; d < cols; d += UP_ROW_THREADS * V) {
        float v[V];
        up_load(v, dy.row(n) + d);
        for (int i = 0; i < V; i++) v[i] *= drop * (scale ? scale[d + i] : 1.0f);
        up_store(dbranch.row(n) + d, v);
    }
}

/* dscale[d] += sum over n of dy drop branch */
template <class T> struct up_scale_terms {
    enum { COUNT = 1 };
    up_matrix<const T> dy, branch;
    up_factor factor;
    __device__ __forceinline__ void operator()(float (&v)[1], int64_t n, int d) const {
        v[0] = factor(n) * up_to_float(branch(n, d)) * up_to_float(dy(n, d));
    }
};

/* ---- gather, scatter, cast: rows of one type to rows of another ---- */
template <class To, class From> UP_DEVICE void up_copy_row(To *to, const From *from, int cols) {
    for (int d = threadIdx.x; d < cols; d += UP_ROW_THREADS)
        to[d] = up_from_float<To>(from ? up_to_float(from[d]) : 0.0f);
}

/* y[i] = x[rows[i]]; without a list x[i] */
template <class To, class From>
static __global__ void __launch_bounds__(UP_ROW_THREADS)
    up_gather(up_matrix<To> y, up_matrix<const From> x, up_list rows, int cols) {
    const int64_t i = blockIdx.x, row = rows.at ? rows[i] : i;
    up_copy_row(y.row(i), row < 0 ? (const From *)0 : x.row(row), cols);
}

/* y[rows[i]] = x[i] */
template <class To, class From>
static __global__ void __launch_bounds__(UP_ROW_THREADS)
    up_scatter(up_matrix<To> y, up_matrix<const From> x, up_list rows, int cols) {
    const int row = rows[blockIdx.x];
    if (row >= 0) up_copy_row(y.row(row), x.row(blockIdx.x), cols);
}

/* dx[rows[i]] = the sum of dy[k] over all k with that row, in ascending order, by the block of the first of
 * them. Rows seldom repeat, so a block looks through the list for others: no scratch, and one rounding. */
template <class To, class From>
static __global__ void __launch_bounds__(UP_ROW_THREADS)
    up_gather_bwd(up_matrix<To> dx, up_matrix<const From> dy, up_list rows, int count, int cols) {
    const int i = blockIdx.x, row = rows[i];
    if (row < 0) return;
    int earlier = 0, last = i;
    for (int k = threadIdx.x; k < count; k += UP_ROW_THREADS) {
        if (rows[k] != row) continue;
        if (k < i) earlier = 1;
        if (k > last) last = k;
    }
    if (__syncthreads_or(earlier)) return;
    UP_SHARED(bytes);
    last = (int)up_block_max((float)(last - i), reinterpret_cast<float *>(bytes)) + i; /* exact below 2^24 */
    for (int d = threadIdx.x; d < cols; d += UP_ROW_THREADS) {
        float total = 0;
        for (int k = i; k <= last; k++)
            if (rows[k] == row) total += up_to_float(dy(k, d));
        dx(row, d) = up_from_float<To>(total);
    }
}

/* ---- l2norm ---- */
#define UP_SHORTEST 1e-12f /* below this length a row counts as that long */

static __global__ void __launch_bounds__(UP_ROW_THREADS)
    up_l2norm(up_matrix<float> y, up_matrix<const float> x, up_matrix<float> rnorm, int cols) {
    UP_SHARED(bytes);
    const int64_t n = blockIdx.x;
    float square = 0;
    for (int d = threadIdx.x; d < cols; d += UP_ROW_THREADS) square += x(n, d) * x(n, d);
    square = up_block_sum(square, reinterpret_cast<float *>(bytes));
    const float r = 1.0f / fmaxf(sqrtf(square), UP_SHORTEST);
    for (int d = threadIdx.x; d < cols; d += UP_ROW_THREADS) y(n, d) = x(n, d) * r;
    if (threadIdx.x == 0) rnorm(n, 0) = r;
}

static __global__ void __launch_bounds__(UP_ROW_THREADS)
    up_l2norm_bwd(up_matrix<float> dx, up_matrix<const float> y, up_matrix<const float> rnorm,
                  up_matrix<const float> dy, up_matrix<const float> past, int cols) {
    UP_SHARED(bytes);
    const int64_t n = blockIdx.x;
    const float r = rnorm(n, 0);
    float along = 0;
    for (int d = threadIdx.x; d < cols; d += UP_ROW_THREADS) along += y(n, d) * dy(n, d);
    along = up_block_sum(along, reinterpret_cast<float *>(bytes));
    if (!(r < 1.0f / UP_SHORTEST)) along = 0; /* a clamped length is a constant */
    for (int d = threadIdx.x; d < cols; d += UP_ROW_THREADS)
        dx(n, d) = (dy(n, d) - y(n, d) * along) * r + (past.at ? past(n, d) : 0.0f);
}

#if UP_HOST_PART
#include "backend_cuda/cuda.h"

enum { ROOM = sizeof(float) * UP_WARP }; /* shared, for a sum over a block */

static up_factor factor_of(up_view drop, up_view owner) {
    return up_factor{up_as<const float>(drop), up_list_of(owner)};
}

size_t up_rows_scratch(const up_op_dims *d) {
    return up_sums_scratch(d->in);
}

static up_status residual(up_backend *b, const up_residual_args *a) {
    if (up_is_empty(a->y)) return UP_OK;
    up_by_type(a->y.dtype, [&](auto t) {
        typedef typename decltype(t)::type T;
        up_by_width(up_fits(a->y, 4) && up_fits(a->x, 4) && up_fits(a->branch, 4), [&](auto v) {
            up_launch(up_residual<T, decltype(v)::value>, (unsigned)a->y.rows, UP_ROW_THREADS, 0,
                      up_stream(b), up_as<T>(a->y), up_as<const T>(a->x), up_as<const T>(a->branch),
                      up_pointer<const float>(a->scale), factor_of(a->drop, a->owner), (int)a->y.cols);
        });
    });
    return up_launched("residual");
}

static up_status residual_bwd(up_backend *b, const up_residual_grad *a) {
    if (up_is_empty(a->dy)) return UP_OK;
    const up_factor factor = factor_of(a->drop, a->owner);
    up_pieces pieces(a->scratch);
    up_by_type(a->dy.dtype, [&](auto t) {
        typedef typename decltype(t)::type T;
        float *to[] = {up_pointer<float>(a->dscale)};
        if (to[0]) /* before dbranch, which may lie on branch */
            up_add_sums(b, to, up_scale_terms<T>{up_as<const T>(a->dy), up_as<const T>(a->branch), factor},
                        a->dy.rows, a->dy.cols, pieces.take<float>(0));
        if (!up_view_present(a->dbranch)) return;
        up_by_width(up_fits(a->dbranch, 4) && up_fits(a->dy, 4), [&](auto v) {
            up_launch(up_residual_bwd<T, decltype(v)::value>, (unsigned)a->dy.rows, UP_ROW_THREADS, 0,
                      up_stream(b), up_as<T>(a->dbranch), up_as<const T>(a->dy),
                      up_pointer<const float>(a->scale), factor, (int)a->dy.cols);
        });
    });
    return up_launched("residual_bwd");
}

/* f(to, from) with both element types */
template <class F> static void by_types(up_dtype to, up_dtype from, F f) {
    up_by_type(to, [&](auto t) { up_by_type(from, [&](auto s) { f(t, s); }); });
}

static void gather_rows(up_backend *b, up_view y, up_view x, up_view rows) {
    if (up_is_empty(y)) return;
    by_types(y.dtype, x.dtype, [&](auto t, auto s) {
        typedef typename decltype(t)::type To;
        typedef typename decltype(s)::type From;
        up_launch(up_gather<To, From>, (unsigned)y.rows, UP_ROW_THREADS, 0, up_stream(b), up_as<To>(y),
                  up_as<const From>(x), up_list_of(rows), (int)y.cols);
    });
}

static up_status gather(up_backend *b, const up_gather_args *a) {
    gather_rows(b, a->y, a->x, a->rows);
    return up_launched("gather");
}

void up_cuda_cast(up_backend *b, up_view dst, up_view src) {
    const up_view all = {};
    gather_rows(b, dst, src, all);
}

static up_status cast(up_backend *b, const up_cast_args *a) {
    up_cuda_cast(b, a->y, a->x);
    return up_launched("cast");
}

static up_status scatter(up_backend *b, const up_scatter_args *a) {
    if (up_is_empty(a->x)) return UP_OK;
    by_types(a->y.dtype, a->x.dtype, [&](auto t, auto s) {
        typedef typename decltype(t)::type To;
        typedef typename decltype(s)::type From;
        up_launch(up_scatter<To, From>, (unsigned)a->x.rows, UP_ROW_THREADS, 0, up_stream(b), up_as<To>(a->y),
                  up_as<const From>(a->x), up_list_of(a->rows), (int)a->x.cols);
    });
    return up_launched("scatter");
}

static up_status gather_bwd(up_backend *b, const up_gather_grad *a) {
    up_cuda_zero(b, a->dx);
    if (up_is_empty(a->dy)) return up_launched("gather_bwd");
    by_types(a->dx.dtype, a->dy.dtype, [&](auto t, auto s) {
        typedef typename decltype(t)::type To;
        typedef typename decltype(s)::type From;
        up_launch(up_gather_bwd<To, From>, (unsigned)a->dy.rows, UP_ROW_THREADS, ROOM, up_stream(b),
                  up_as<To>(a->dx), up_as<const From>(a->dy), up_list_of(a->rows), (int)a->dy.rows,
                  (int)a->dy.cols);
    });
    return up_launched("gather_bwd");
}

static up_status l2norm(up_backend *b, const up_l2norm_args *a) {
    if (a->x.rows <= 0) return UP_OK;
    up_launch(up_l2norm, (unsigned)a->x.rows, UP_ROW_THREADS, ROOM, up_stream(b), up_as<float>(a->y),
              up_as<const float>(a->x), up_as<float>(a->rnorm), (int)a->x.cols);
    return up_launched("l2norm");
}

static up_status l2norm_bwd(up_backend *b, const up_l2norm_grad *a) {
    if (a->y.rows <= 0) return UP_OK;
    up_launch(up_l2norm_bwd, (unsigned)a->y.rows, UP_ROW_THREADS, ROOM, up_stream(b), up_as<float>(a->dx),
              up_as<const float>(a->y), up_as<const float>(a->rnorm), up_as<const float>(a->dy),
              up_as<const float>(a->past), (int)a->y.cols);
    return up_launched("l2norm_bwd");
}

void up_rows_fill_table(up_backend_ops *ops) {
    ops->residual = residual;
    ops->residual_bwd = residual_bwd;
    ops->gather = gather;
    ops->gather_bwd = gather_bwd;
    ops->scatter = scatter;
    ops->l2norm = l2norm;
    ops->l2norm_bwd = l2norm_bwd;
    ops->cast = cast;
}
#endif
