/* attention_tensor.cu - attention of 16-bit activations on tensor cores (nvcuda::wmma: sm_70 for f16, sm_80
 * for bf16), as FlashAttention-2 (Dao 2023) walks: a warp has 16 rows that stay and passes over tiles of the
 * others. Products of stored numbers are exact in f32. Weights p and ds are no stored numbers: each goes into
 * a product as the sum of two of 16 bits, so that nothing is lost against attention.cu beyond 2^-17 of an
 * element. Which elements of a fragment a lane owns is left open by CUDA, and nothing here asks. */
#include "backend_cuda/attention.cuh"

#include <mma.h>

namespace wmma = nvcuda::wmma;

/* A strip: the 16 rows of a warp. A tile: UP_PASSING rows of the others, keys for queries and queries for
 * keys. STRIPS warps make a block; wide heads have two, for the shared memory of an sm_75. */
enum { UP_EDGE = 16, UP_PASSING = 32 };
template <int W> struct up_block_of {
    enum { STRIPS = W > 64 ? 2 : 4, ROWS = STRIPS * UP_EDGE, THREADS = STRIPS * UP_WARP };
    enum { AT_ONCE = W > 64 ? 1 : 3 }; /* blocks that an SM shall hold: bounds registers */
};

/* Rows in shared memory have a few elements more, so that a column lies in different banks. */
template <class T, int W> using up_wide_row = T[W + UP_VECTOR];
typedef float up_score_row[UP_PASSING + 4];
template <class T> using up_weight_row = T[UP_PASSING + UP_VECTOR];

/* What tensor cores take for T. bf16 only from sm_80 on: code for an older one must compile, and is never
 * launched. */
template <class T> struct up_core { typedef T type; };
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
template <> struct up_core<up_bf16> { typedef up_half type; };
#endif
template <class T> UP_DEVICE const typename up_core<T>::type *up_for_core(const T *at) {
    return reinterpret_cast<const typename up_core<T>::type *>(at);
}

typedef wmma::fragment<wmma::accumulator, UP_EDGE, UP_EDGE, UP_EDGE, float> up_sums;
template <class T>
using up_left =
    wmma::fragment<wmma::matrix_a, UP_EDGE, UP_EDGE, UP_EDGE, typename up_core<T>::type, wmma::row_major>;
template <class T, class Layout>
using up_right = wmma::fragment<wmma::matrix_b, UP_EDGE, UP_EDGE, UP_EDGE, typename up_core<T>::type, Layout>;

/* What a warp needs for itself. Two lanes have a row: lane 2 r + h the columns h, h + 2, ... of row r. */
enum { UP_MINE = UP_PASSING / 2 };
template <class T> struct alignas(128) up_strip {
    up_score_row scores[UP_EDGE], dp[UP_EDGE];
    up_weight_row<T> high[UP_EDGE], low[UP_EDGE]; /* weights: high + low */
    float factor[UP_EDGE];                        /* of each row */
};
UP_DEVICE int up_lane_row() {
    return threadIdx.x % UP_WARP / 2;
}
UP_DEVICE int up_lane_col(int n) {
    return threadIdx.x % 2 + 2 * n;
}

/* `count` rows from `first` on into shared memory; 0 beyond `end` and beyond the head's width. */
template <int W, class T, class Row>
UP_DEVICE void up_fill_rows(up_wide_row<T, W> *to, int count, int first, int end,
                            const up_attention_call<T> &a, Row row) {
    typedef up_vector<T, UP_VECTOR> vector;
    if (a.vectors) {
        for (int i = threadIdx.x; i < count * (W / UP_VECTOR); i += blockDim.x) {
            const int r = i / (W / UP_VECTOR), d = i % (W / UP_VECTOR) * UP_VECTOR;
            vector v = {};
            if (first + r < end && d < a.width) v = *reinterpret_cast<const vector *>(row(first + r) + d);
            *reinterpret_cast<vector *>(&to[r][d]) = v;
        }
        return;
    }
    for (int i = threadIdx.x; i < count * W; i += blockDim.x) {
        const int r = i / W, d = i % W;
        to[r][d] = first + r < end && d < a.width ? row(first + r)[d] : up_from_float<T>(0.0f);
    }
}

/* dots[r][o] = row r of the strip times row o of the others */
template <int W, class T>
UP_DEVICE void up_strip_dots(up_score_row *dots, const up_wide_row<T, W> *strip,
                             const up_wide_row<T, W> *others) {
#pragma unroll
    for (int o = 0; o < UP_PASSING; o += UP_EDGE) {
        up_sums sums;
        wmma::fill_fragment(sums, 0.0f);
#pragma unroll
        for (int d = 0; d < W; d += UP_EDGE) {
            up_left<T> left;
            up_right<T, wmma::col_major> right;
            wmma::load_matrix_sync(left, up_for_core(&strip[0][d]), W + UP_VECTOR);
            wmma::load_matrix_sync(right, up_for_core(&others[o][d]), W + UP_VECTOR);
            wmma::mma_sync(sums, left, right, sums);
        }
        wmma::store_matrix_sync(&dots[0][o], sums, sizeof(up_score_row) / sizeof(float), wmma::mem_row_major);
    }
}

template <int W> struct up_strip_sums { up_sums at[W / UP_EDGE]; };
template <int W> UP_DEVICE void up_clear(up_strip_sums<W> &sums) {
#pragma unroll
    for (int c = 0; c < W / UP_EDGE; c++) wmma::fill_fragment(sums.at[c], 0.0f);
}

/* sums += (high + low) times the others */
template <int W, class T>
UP_DEVICE void up_add_weighted(up_strip_sums<W> &sums, const up_strip<T> &strip,
                               const up_wide_row<T, W> *others) {
    enum { STRIDE = UP_PASSING + UP_VECTOR };
#pragma unroll 1
    for (int o = 0; o < UP_PASSING; o += UP_EDGE) {
        up_left<T> high, low;
        wmma::load_matrix_sync(high, up_for_core(&strip.high[0][o]), STRIDE);
        wmma::load_matrix_sync(low, up_for_core(&strip.low[0][o]), STRIDE);
#pragma unroll
        for (int c = 0; c < W / UP_EDGE; c++) {
            up_right<T, wmma::row_major> right;
            wmma::load_matrix_sync(right, up_for_core(&others[o][c * UP_EDGE]), W + UP_VECTOR);
            wmma::mma_sync(sums.at[c], high, right, sums.at[c]);
            wmma::mma_sync(sums.at[c], low, right, sums.at[c]);
        }
    }
}

/* `scale` times the lane's weights, as two numbers of 16 bits each. Nobody may still read those before. */
template <class T>
UP_DEVICE void up_put_weights(up_strip<T> &strip, const float (&weights)[UP_MINE], float scale) {
    const int r = up_lane_row();
#pragma unroll
    for (int n = 0; n < UP_MINE; n++) {
        const float weight = scale * weights[n];
        const T high = up_from_float<T>(weight);
        strip.high[r][up_lane_col(n)] = high;
        strip.low[r][up_lane_col(n)] = up_from_float<T>(weight - up_to_float(high));
    }
}

/* f16 has few exponents: weights are taken times a power of two that brings the largest of them near 2^14. */
enum { UP_TOP_EXPONENT = 14, UP_TOP = 1 << UP_TOP_EXPONENT };
UP_DEVICE float up_scale_for(float largest) {
    int exponent = 0;
    if (!(largest > 0) || largest == UP_INFINITY) return 1.0f;
    frexpf(largest, &exponent);
    return ldexpf(1.0f, min(UP_TOP_EXPONENT - exponent, 100));
}

/* rows[i]: the row of the strip that element i of this lane's sums belongs to */
template <class T> UP_DEVICE void up_find_rows(int (&rows)[up_sums::num_elements], up_strip<T> &strip) {
    const int r = up_lane_row();
#pragma unroll
    for (int n = 0; n < UP_MINE; n++) strip.scores[r][up_lane_col(n)] = (float)r;
    __syncwarp();
    up_sums owners;
    wmma::load_matrix_sync(owners, &strip.scores[0][0], sizeof(up_score_row) / sizeof(float),
                           wmma::mem_row_major);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < up_sums::num_elements; i++) rows[i] = (int)owners.x[i];
}

/* row(i) + d = strip.factor of the row times the sums, for rows first ... of the strip below `end` */
template <int W, class T, class Row>
UP_DEVICE void up_store_strip(const up_strip_sums<W> &sums, up_strip<T> &strip, int first, int end, int width,
                              up_matrix<T> to, int col, Row row) {
    const int lane_row = up_lane_row(), half = threadIdx.x % 2 * UP_VECTOR, i = first + lane_row;
    for (int c = 0; c < W / UP_EDGE; c++) {
        __syncwarp();
        wmma::store_matrix_sync(&strip.scores[0][0], sums.at[c], sizeof(up_score_row) / sizeof(float),
                                wmma::mem_row_major);
        __syncwarp();
        if (i >= end) continue;
#pragma unroll
        for (int n = 0; n < UP_VECTOR; n++) {
            const int d = c * UP_EDGE + half + n;
            if (d < width)
                to(row(i), col + d) =
                    up_from_float<T>(strip.factor[lane_row] * strip.scores[lane_row][half + n]);
        }
    }
}

/* ---- forward ---- */
template <class T, int W> struct alignas(128) up_tensor_forward {
    up_wide_row<T, W> q[up_block_of<W>::ROWS], k[UP_PASSING], v[UP_PASSING];
    up_strip<T> strip[up_block_of<W>::STRIPS];
};

/* Softmax as far as the keys from j0 on: the lane's weights; what came before is worth strip.factor of
 * itself. */
template <class T>
UP_DEVICE void up_online_softmax(up_strip<T> &strip, const up_span &s, float scale, int i, int j0,
                                 float &largest, float &total) {
    const int r = up_lane_row();
    float weights[UP_MINE], most = largest, added = 0;
#pragma unroll
    for (int n = 0; n < UP_MINE; n++) {
        const int j = j0 + up_lane_col(n);
        const bool seen = i < s.queries && j < s.keys && s.sees(i, j);
        weights[n] = seen ? scale * strip.scores[r][up_lane_col(n)] : -UP_INFINITY;
        most = fmaxf(most, weights[n]);
    }
    most = up_warp_max<2>(most);
#pragma unroll
    for (int n = 0; n < UP_MINE; n++) {
        weights[n] = weights[n] == -UP_INFINITY ? 0.0f : expf(weights[n] - most);
        added += weights[n];
    }
    up_put_weights(strip, weights, 1.0f);
    const float shrink = largest > -UP_INFINITY ? expf(largest - most) : 0.0f;
    if (threadIdx.x % 2 == 0) strip.factor[r] = shrink;
    total = total * shrink + up_warp_sum<2>(added);
    largest = most;
}

/* Grid: sequences times tiles of queries, heads. */
template <class T, int W>
static __global__ void __launch_bounds__(up_block_of<W>::THREADS, up_block_of<W>::AT_ONCE)
    up_attend_tensor(up_attention_call<T> a) {
    UP_SHARED(bytes);
    up_tensor_forward<T, W> &room = *reinterpret_cast<up_tensor_forward<T, W> *>(bytes);
    const int head = blockIdx.y, warp = threadIdx.x / UP_WARP;
    const up_span s = up_span_of(a, blockIdx.x / a.tiles, head);
    const int first = blockIdx.x % a.tiles * up_block_of<W>::ROWS;
    if (first >= s.queries) return;
    const int last = min(first + up_block_of<W>::ROWS, s.queries), strip_first = first + warp * UP_EDGE,
              i = strip_first + up_lane_row();
    up_strip<T> &strip = room.strip[warp];
    const auto queries = [&](int n) { return a.q.row(s.q_row + n) + s.col; };
    up_fill_rows<W>(room.q, up_block_of<W>::ROWS, first, s.queries, a, queries);
    int rows[up_sums::num_elements];
    up_find_rows(rows, strip);
    up_strip_sums<W> sums;
    up_clear(sums);
    float largest = -UP_INFINITY, total = 0;
    const int end = s.end_of_keys(last - 1);
    for (int j0 = 0; j0 < end; j0 += UP_PASSING) {
        __syncthreads();
        up_fill_rows<W>(room.k, UP_PASSING, j0, s.keys, a,
                        [&](int j) { return up_key_row(s, a.k, a.prompt_k, j); });
        up_fill_rows<W>(room.v, UP_PASSING, j0, s.keys, a,
                        [&](int j) { return up_key_row(s, a.v, a.prompt_v, j); });
        __syncthreads();
        up_strip_dots<W, T>(strip.scores, &room.q[warp * UP_EDGE], room.k);
        __syncwarp();
        up_online_softmax(strip, s, a.scale, i, j0, largest, total);
        __syncwarp();
#pragma unroll
        for (int c = 0; c < W / UP_EDGE; c++)
#pragma unroll
            for (int e = 0; e < up_sums::num_elements; e++) sums.at[c].x[e] *= strip.factor[rows[e]];
        up_add_weighted<W, T>(sums, strip, room.v);
    }
    __syncwarp();
    if (threadIdx.x % 2 == 0) {
        strip.factor[up_lane_row()] = total > 0 ? 1.0f / total : 0.0f; /* 0: the query sees nothing */
        if (i < s.queries) a.lse(s.q_row + i, head) = largest + logf(total);
    }
    up_store_strip<W>(sums, strip, strip_first, s.queries, a.width, a.out, s.col,
                      [&](int n) { return s.q_row + n; });
}

/* ---- backward: the formulas of attention.cu ---- */
template <class T, int W> struct alignas(128) up_tensor_backward {
    up_wide_row<T, W> rows[up_block_of<W>::ROWS], rows2[up_block_of<W>::ROWS]; /* q, dout; or k, v */
    up_wide_row<T, W> others[UP_PASSING], others2[UP_PASSING];                 /* k, v; or q, dout */
    float lse[UP_PASSING], average[UP_PASSING];                                /* of passing queries */
    up_strip<T> strip[up_block_of<W>::STRIPS];
};

template <int W, class T> UP_DEVICE void up_both_dots(up_tensor_backward<T, W> &room, int warp) {
    up_strip<T> &strip = room.strip[warp];
    up_strip_dots<W, T>(strip.scores, &room.rows[warp * UP_EDGE], room.others);
    up_strip_dots<W, T>(strip.dp, &room.rows2[warp * UP_EDGE], room.others2);
    __syncwarp();
}

/* The factor of the lane's row. */
template <class T> UP_DEVICE void up_set_factor(up_strip<T> &strip, float factor) {
    __syncwarp();
    if (threadIdx.x % 2 == 0) strip.factor[up_lane_row()] = factor;
}

/* Keys from j0 on as the others of a block of queries. */
template <int W, class T>
UP_DEVICE void up_pass_keys(const up_attention_call<T> &a, const up_span &s, up_tensor_backward<T, W> &room,
                            int j0) {
    __syncthreads();
    up_fill_rows<W>(room.others, UP_PASSING, j0, s.keys, a,
                    [&](int j) { return up_key_row(s, a.k, a.prompt_k, j); });
    up_fill_rows<W>(room.others2, UP_PASSING, j0, s.keys, a,
                    [&](int j) { return up_key_row(s, a.v, a.prompt_v, j); });
    __syncthreads();
}

/* Grid: sequences times tiles of queries, heads. */
template <class T, int W>
static __global__ void __launch_bounds__(up_block_of<W>::THREADS, up_block_of<W>::AT_ONCE)
    up_attend_tensor_bwd_queries(up_attention_call<T> a) {
    UP_SHARED(bytes);
    up_tensor_backward<T, W> &room = *reinterpret_cast<up_tensor_backward<T, W> *>(bytes);
    const int head = blockIdx.y, warp = threadIdx.x / UP_WARP, r = up_lane_row();
    const up_span s = up_span_of(a, blockIdx.x / a.tiles, head);
    const int first = blockIdx.x % a.tiles * up_block_of<W>::ROWS;
    if (first >= s.queries) return;
    const int last = min(first + up_block_of<W>::ROWS, s.queries), strip_first = first + warp * UP_EDGE,
              i = strip_first + r;
    up_strip<T> &strip = room.strip[warp];
    up_fill_rows<W>(room.rows, up_block_of<W>::ROWS, first, s.queries, a,
                    [&](int n) { return a.q.row(s.q_row + n) + s.col; });
    up_fill_rows<W>(room.rows2, up_block_of<W>::ROWS, first, s.queries, a,
                    [&](int n) { return a.dout.row(s.q_row + n) + s.col; });
    const float lse = i < s.queries ? a.lse(s.q_row + i, head) : 0.0f;
    const int end = s.end_of_keys(last - 1);
    float average = 0, largest = 0;
    for (int j0 = 0; j0 < end; j0 += UP_PASSING) {
        up_pass_keys(a, s, room, j0);
        up_both_dots(room, warp);
#pragma unroll
        for (int n = 0; n < UP_MINE; n++) {
            const int o = up_lane_col(n), j = j0 + o;
            const bool seen = i < s.queries && j < s.keys && s.sees(i, j);
            const float part = seen ? expf(a.scale * strip.scores[r][o] - lse) * strip.dp[r][o] : 0.0f;
            average += part;
            largest = fmaxf(largest, fabsf(part));
        }
    }
    average = up_warp_sum<2>(average);
    largest = up_warp_max<2>(largest) + fabsf(average);
    if (threadIdx.x % 2 == 0 && i < s.queries) {
        a.average[(int64_t)(s.q_row + i) * a.heads + head] = average;
        a.largest[(int64_t)(s.q_row + i) * a.heads + head] = largest;
    }
    if (!a.dq.at) return;
    const float scale = up_scale_for(largest);
    up_strip_sums<W> sums;
    up_clear(sums);
    for (int j0 = 0; j0 < end; j0 += UP_PASSING) {
        up_pass_keys(a, s, room, j0);
        up_both_dots(room, warp);
        float ds[UP_MINE];
#pragma unroll
        for (int n = 0; n < UP_MINE; n++) {
            const int o = up_lane_col(n), j = j0 + o;
            const bool seen = i < s.queries && j < s.keys && s.sees(i, j);
            const float p = seen ? expf(a.scale * strip.scores[r][o] - lse) : 0.0f;
            ds[n] = seen ? p * (strip.dp[r][o] - average) : 0.0f;
        }
        up_put_weights(strip, ds, scale);
        __syncwarp();
        up_add_weighted<W, T>(sums, strip, room.others);
    }
    up_set_factor(strip, a.scale / scale);
    up_store_strip<W>(sums, strip, strip_first, s.queries, a.width, a.dq, s.col,
                      [&](int n) { return s.q_row + n; });
}

/* Of the queries of one sequence; every lane of the warp gets it. */
template <class T> UP_DEVICE float up_largest_of(const up_attention_call<T> &a, const up_span &s, int head) {
    float largest = 0;
    for (int i = threadIdx.x % UP_WARP; i < s.queries; i += UP_WARP)
        largest = fmaxf(largest, a.largest[(int64_t)(s.q_row + i) * a.heads + head]);
    return up_warp_max(largest);
}

/* dk += scale sum_i ds_ij q_i,  dv += 2^14 sum_i p_ij dout_i, over the queries of one sequence, for the keys
 * in room.rows, room.rows2, the first of which is j0; their end is `end`. */
template <class T, int W>
UP_DEVICE void up_gather_queries(const up_attention_call<T> &a, up_tensor_backward<T, W> &room,
                                 const up_span &s, int head, int j0, int end, float scale,
                                 up_strip_sums<W> &dk, up_strip_sums<W> &dv) {
    const int warp = threadIdx.x / UP_WARP, r = up_lane_row(), j = j0 + warp * UP_EDGE + r;
    up_strip<T> &strip = room.strip[warp];
    for (int i0 = 0; i0 < s.queries; i0 += UP_PASSING) {
        if (s.end_of_keys(min(i0 + UP_PASSING, s.queries) - 1) <= j0) continue;
        __syncthreads();
        up_fill_rows<W>(room.others, UP_PASSING, i0, s.queries, a,
                        [&](int n) { return a.q.row(s.q_row + n) + s.col; });
        up_fill_rows<W>(room.others2, UP_PASSING, i0, s.queries, a,
                        [&](int n) { return a.dout.row(s.q_row + n) + s.col; });
        for (int n = threadIdx.x; n < UP_PASSING; n += blockDim.x) {
            const bool there = i0 + n < s.queries;
            room.lse[n] = there ? a.lse(s.q_row + i0 + n, head) : 0.0f;
            room.average[n] = there ? a.average[(int64_t)(s.q_row + i0 + n) * a.heads + head] : 0.0f;
        }
        __syncthreads();
        up_both_dots(room, warp);
        float p[UP_MINE], ds[UP_MINE];
#pragma unroll
        for (int n = 0; n < UP_MINE; n++) {
            const int o = up_lane_col(n), i = i0 + o;
            const bool seen = i < s.queries && j < end && s.sees(i, j);
            p[n] = seen ? expf(a.scale * strip.scores[r][o] - room.lse[o]) : 0.0f;
            ds[n] = seen ? p[n] * (strip.dp[r][o] - room.average[o]) : 0.0f;
        }
        up_put_weights(strip, ds, scale);
        __syncwarp();
        up_add_weighted<W, T>(dk, strip, room.others);
        __syncwarp();
        up_put_weights(strip, p, UP_TOP);
        __syncwarp();
        up_add_weighted<W, T>(dv, strip, room.others2);
    }
}

/* The warp's sums as rows of dk and dv, where they are wanted. */
template <class T, int W, class Row>
UP_DEVICE void up_store_keys(const up_attention_call<T> &a, up_strip<T> &strip, float scale,
                             const up_strip_sums<W> &dk, const up_strip_sums<W> &dv, up_matrix<T> to_k,
                             up_matrix<T> to_v, int first, int end, int col, Row row) {
    const int strip_first = first + threadIdx.x / UP_WARP * UP_EDGE;
    up_set_factor(strip, a.scale / scale);
    if (to_k.at) up_store_strip<W>(dk, strip, strip_first, end, a.width, to_k, col, row);
    up_set_factor(strip, 1.0f / UP_TOP);
    if (to_v.at) up_store_strip<W>(dv, strip, strip_first, end, a.width, to_v, col, row);
}

/* Grid: sequences times tiles of their own keys, heads. */
template <class T, int W>
static __global__ void __launch_bounds__(up_block_of<W>::THREADS, up_block_of<W>::AT_ONCE)
    up_attend_tensor_bwd_keys(up_attention_call<T> a) {
    UP_SHARED(bytes);
    up_tensor_backward<T, W> &room = *reinterpret_cast<up_tensor_backward<T, W> *>(bytes);
    const up_span s = up_span_of(a, blockIdx.x / a.tiles, blockIdx.y);
    const int first = s.prompts + blockIdx.x % a.tiles * up_block_of<W>::ROWS;
    if (first >= s.keys) return;
    up_fill_rows<W>(room.rows, up_block_of<W>::ROWS, first, s.keys, a,
                    [&](int j) { return up_key_row(s, a.k, a.prompt_k, j); });
    up_fill_rows<W>(room.rows2, up_block_of<W>::ROWS, first, s.keys, a,
                    [&](int j) { return up_key_row(s, a.v, a.prompt_v, j); });
    const float scale = up_scale_for(up_largest_of(a, s, blockIdx.y));
    up_strip_sums<W> dk, dv;
    up_clear(dk);
    up_clear(dv);
    up_gather_queries(a, room, s, blockIdx.y, first, s.keys, scale, dk, dv);
    up_store_keys(a, room.strip[threadIdx.x / UP_WARP], scale, dk, dv, a.dk, a.dv, first, s.keys, s.col,
                  [&](int j) { return s.k_row + j - s.prompts; });
}

/* The same for prompts, over all sequences of a side. Grid: tiles of prompts, heads, sides. */
template <class T, int W>
static __global__ void __launch_bounds__(up_block_of<W>::THREADS, up_block_of<W>::AT_ONCE)
    up_attend_tensor_bwd_prompts(up_attention_call<T> a) {
    UP_SHARED(bytes);
    up_tensor_backward<T, W> &room = *reinterpret_cast<up_tensor_backward<T, W> *>(bytes);
    const int first = blockIdx.x * up_block_of<W>::ROWS, head = blockIdx.y, side_row = blockIdx.z * a.prompts,
              col = head * a.width;
    up_fill_rows<W>(room.rows, up_block_of<W>::ROWS, first, a.prompts, a,
                    [&](int j) { return a.prompt_k.row(side_row + j) + col; });
    up_fill_rows<W>(room.rows2, up_block_of<W>::ROWS, first, a.prompts, a,
                    [&](int j) { return a.prompt_v.row(side_row + j) + col; });
    float largest = 0;
    for (int n = 0; n < a.sequence_count; n++) {
        const up_span s = up_span_of(a, n, head);
        if (s.prompt_row == side_row) largest = fmaxf(largest, up_largest_of(a, s, head));
    }
    const float scale = up_scale_for(largest);
    up_strip_sums<W> dk, dv;
    up_clear(dk);
    up_clear(dv);
    for (int n = 0; n < a.sequence_count; n++) {
        const up_span s = up_span_of(a, n, head);
        if (s.prompt_row == side_row) up_gather_queries(a, room, s, head, first, a.prompts, scale, dk, dv);
    }
    up_store_keys(a, room.strip[threadIdx.x / UP_WARP], scale, dk, dv, a.dprompt_k, a.dprompt_v, first,
                  a.prompts, col, [&](int j) { return side_row + j; });
}

#if UP_HOST_PART
/* Blocks of queries, or of keys, that the longest sequence has. */
template <int W, class T> static up_attention_call<T> tiled(up_attention_call<T> call, int most) {
    call.tiles = most > 0 ? (int)up_blocks(most, up_block_of<W>::ROWS) : 1;
    return call;
}

template <class T> void up_tensor_attention(up_backend *b, const up_attention_call<T> &call, int most) {
    up_by_head_width(call.width, [&](auto w) {
        enum { W = decltype(w)::value };
        const up_attention_call<T> mine = tiled<W>(call, most);
        const dim3 grid((unsigned)(mine.sequence_count * mine.tiles), (unsigned)mine.heads);
        up_launch_with_room<T>(b, up_attend_tensor<T, W>, grid, up_block_of<W>::THREADS,
                               sizeof(up_tensor_forward<T, W>), mine);
    });
}

template <class T> void up_tensor_attention_bwd(up_backend *b, const up_attention_call<T> &call, int most) {
    up_by_head_width(call.width, [&](auto w) {
        enum { W = decltype(w)::value, THREADS = up_block_of<W>::THREADS };
        const up_attention_call<T> mine = tiled<W>(call, most);
        const dim3 grid((unsigned)(mine.sequence_count * mine.tiles), (unsigned)mine.heads);
        const size_t room = sizeof(up_tensor_backward<T, W>);
        up_launch_with_room<T>(b, up_attend_tensor_bwd_queries<T, W>, grid, THREADS, room, mine);
        if (mine.dk.at || mine.dv.at)
            up_launch_with_room<T>(b, up_attend_tensor_bwd_keys<T, W>, grid, THREADS, room, mine);
        if (!up_wants_prompts(mine)) return;
        const dim3 all(up_blocks(mine.prompts, up_block_of<W>::ROWS), (unsigned)mine.heads,
                       (unsigned)mine.sides);
        up_launch_with_room<T>(b, up_attend_tensor_bwd_prompts<T, W>, all, THREADS, room, mine);
    });
}

template void up_tensor_attention(up_backend *b, const up_attention_call<up_half> &call, int most);
template void up_tensor_attention(up_backend *b, const up_attention_call<up_bf16> &call, int most);
template void up_tensor_attention_bwd(up_backend *b, const up_attention_call<up_half> &call, int most);
template void up_tensor_attention_bwd(up_backend *b, const up_attention_call<up_bf16> &call, int most);
#endif
