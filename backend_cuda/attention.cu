/* attention.cu - multi-head attention over packed sequences, forward and backward. Scores pass by in tiles
 * with an online softmax (Milakov and Gimelshein 2018; Dao et al. 2022), nothing of N x N is stored.
 * Gradients are sums in a fixed order: queries gather theirs over tiles of keys, keys theirs over tiles of
 * queries, so nothing is added atomically. The mask of a sequence is computed from its kind. */
#include "backend_cuda/attention.cuh"

/* A block has a tile of rows that stay (queries, or keys on the way back) and walks over tiles of the others.
 * Thread (x, y) has rows 4 y .. 4 y + 3 and of the others x and x + 16; the 16 of a y are half a warp. */
enum { UP_TILE = 32, UP_ATTENTION_X = 16, UP_ATTENTION_Y = 8, UP_ROWS = 4, UP_OTHERS = 2 };
enum { UP_ATTENTION_THREADS = UP_ATTENTION_X * UP_ATTENTION_Y };

/* A tile in shared memory: rows of W values and one more, so that a column lies in different banks; 0 beyond.
 */
template <int W> struct up_tile { float at[UP_TILE][W + 1]; };
template <int W, class Row>
UP_DEVICE void up_fill_tile(up_tile<W> &to, int first, int end, int width, Row row) {
    for (int i = threadIdx.x; i < UP_TILE * W; i += UP_ATTENTION_THREADS) {
        const int r = i / W, d = i % W;
        to.at[r][d] = first + r < end && d < width ? up_to_float(row(first + r)[d]) : 0.0f;
    }
}

/* dots[r][o] = the product of row 4 y + r of a and row x + 16 o of b */
template <int W>
UP_DEVICE void up_dots(float (&dots)[UP_ROWS][UP_OTHERS], const up_tile<W> &a, const up_tile<W> &b) {
    const int x = threadIdx.x % UP_ATTENTION_X, y = threadIdx.x / UP_ATTENTION_X;
    for (int r = 0; r < UP_ROWS; r++)
        for (int o = 0; o < UP_OTHERS; o++) dots[r][o] = 0;
#pragma unroll 4
    for (int d = 0; d < W; d++) {
        float u[UP_ROWS], v[UP_OTHERS];
#pragma unroll
        for (int r = 0; r < UP_ROWS; r++) u[r] = a.at[y * UP_ROWS + r][d];
#pragma unroll
        for (int o = 0; o < UP_OTHERS; o++) v[o] = b.at[x + UP_ATTENTION_X * o][d];
#pragma unroll
        for (int r = 0; r < UP_ROWS; r++)
#pragma unroll
            for (int o = 0; o < UP_OTHERS; o++) dots[r][o] += u[r] * v[o];
    }
}

typedef float up_weights[UP_TILE][UP_TILE + 1]; /* of a tile's rows for the others */

/* sum[r][c] += weights of row 4 y + r times column x + 16 c of the others */
template <int W>
UP_DEVICE void up_add_weighted(float (&sum)[UP_ROWS][W / UP_ATTENTION_X], const up_weights &weights,
                               const up_tile<W> &others) {
    const int x = threadIdx.x % UP_ATTENTION_X, y = threadIdx.x / UP_ATTENTION_X;
#pragma unroll 4
    for (int j = 0; j < UP_TILE; j++) {
        float v[W / UP_ATTENTION_X];
#pragma unroll
        for (int c = 0; c < W / UP_ATTENTION_X; c++) v[c] = others.at[j][x + UP_ATTENTION_X * c];
#pragma unroll
        for (int r = 0; r < UP_ROWS; r++) {
            const float w = weights[y * UP_ROWS + r][j];
#pragma unroll
            for (int c = 0; c < W / UP_ATTENTION_X; c++) sum[r][c] += w * v[c];
        }
    }
}

/* The half warp's share of rows of results: row(r) + d = factor[r] sum[r] */
template <int W, class T, class Row>
UP_DEVICE void up_store_rows(const float (&sum)[UP_ROWS][W / UP_ATTENTION_X], const float (&factor)[UP_ROWS],
                             int first, int end, int width, up_matrix<T> to, int col, Row row) {
    const int x = threadIdx.x % UP_ATTENTION_X, y = threadIdx.x / UP_ATTENTION_X;
#pragma unroll
    for (int r = 0; r < UP_ROWS; r++) {
        const int i = first + y * UP_ROWS + r;
        if (i >= end) continue;
#pragma unroll
        for (int c = 0; c < W / UP_ATTENTION_X; c++)
            if (x + UP_ATTENTION_X * c < width)
                to(row(i), col + x + UP_ATTENTION_X * c) = up_from_float<T>(factor[r] * sum[r][c]);
    }
}

/* ---- forward ---- */
template <int W> struct up_forward_room {
    up_tile<W> q, k, v;
    up_weights p;
};

/* Grid: sequences times tiles of queries, heads. */
template <class T, int W>
static __global__ void __launch_bounds__(UP_ATTENTION_THREADS, 4) up_attend(up_attention_call<T> a) {
    UP_SHARED(bytes);
    up_forward_room<W> &room = *reinterpret_cast<up_forward_room<W> *>(bytes);
    const int head = blockIdx.y, x = threadIdx.x % UP_ATTENTION_X, y = threadIdx.x / UP_ATTENTION_X;
    const up_span s = up_span_of(a, blockIdx.x / a.tiles, head);
    const int first = blockIdx.x % a.tiles * UP_TILE, last = min(first + UP_TILE, s.queries);
    if (first >= s.queries) return;
    up_fill_tile(room.q, first, s.queries, a.width, [&](int i) { return a.q.row(s.q_row + i) + s.col; });
    float sum[UP_ROWS][W / UP_ATTENTION_X] = {}, largest[UP_ROWS], total[UP_ROWS] = {};
    for (int r = 0; r < UP_ROWS; r++) largest[r] = -UP_INFINITY;
    const int end = s.end_of_keys(last - 1);
    for (int j0 = 0; j0 < end; j0 += UP_TILE) {
        __syncthreads();
        up_fill_tile(room.k, j0, s.keys, a.width, [&](int j) { return up_key_row(s, a.k, a.prompt_k, j); });
        up_fill_tile(room.v, j0, s.keys, a.width, [&](int j) { return up_key_row(s, a.v, a.prompt_v, j); });
        __syncthreads();
        float dots[UP_ROWS][UP_OTHERS];
        up_dots(dots, room.q, room.k);
#pragma unroll
        for (int r = 0; r < UP_ROWS; r++) {
            const int i = first + y * UP_ROWS + r;
            float most = largest[r], added = 0;
#pragma unroll
            for (int o = 0; o < UP_OTHERS; o++) {
                const int j = j0 + x + UP_ATTENTION_X * o;
                dots[r][o] =
                    i < s.queries && j < s.keys && s.sees(i, j) ? a.scale * dots[r][o] : -UP_INFINITY;
                most = fmaxf(most, dots[r][o]);
            }
            most = up_warp_max<UP_ATTENTION_X>(most);
#pragma unroll
            for (int o = 0; o < UP_OTHERS; o++) {
                const float p = dots[r][o] == -UP_INFINITY ? 0.0f : expf(dots[r][o] - most);
                room.p[y * UP_ROWS + r][x + UP_ATTENTION_X * o] = p;
                added += p;
            }
            const float shrink = largest[r] > -UP_INFINITY ? expf(largest[r] - most) : 0.0f;
            largest[r] = most;
            total[r] = total[r] * shrink + up_warp_sum<UP_ATTENTION_X>(added);
#pragma unroll
            for (int c = 0; c < W / UP_ATTENTION_X; c++) sum[r][c] *= shrink;
        }
        __syncthreads();
        up_add_weighted(sum, room.p, room.v);
    }
    float inverse[UP_ROWS];
    for (int r = 0; r < UP_ROWS; r++) {
        const int i = first + y * UP_ROWS + r;
        inverse[r] = total[r] > 0 ? 1.0f / total[r] : 0.0f; /* 0: the query sees nothing */
        if (x == 0 && i < s.queries) a.lse(s.q_row + i, head) = largest[r] + logf(total[r]);
    }
    up_store_rows<W>(sum, inverse, first, s.queries, a.width, a.out, s.col,
                     [&](int i) { return s.q_row + i; });
}

/* ---- backward ---- */
template <int W> struct up_backward_room {
    up_tile<W> rows, rows2, others, others2; /* q, dout of queries; k, v of keys */
    up_weights p, ds;
};

/* out = sum_j p_j v_j:      dp_j = dout . v_j
 * p = softmax(scores):      ds_j = p_j (dp_j - average),  average = sum_l p_l dp_l
 * score_j = scale q . k_j:  dq = scale sum_j ds_j k_j
 * The average is made first, of the same products: a sum with the rounded `out` would lose digits. */
template <class T, int W>
static __global__ void __launch_bounds__(UP_ATTENTION_THREADS, 4)
    up_attend_bwd_queries(up_attention_call<T> a) {
    UP_SHARED(bytes);
    up_backward_room<W> &room = *reinterpret_cast<up_backward_room<W> *>(bytes);
    const int head = blockIdx.y, x = threadIdx.x % UP_ATTENTION_X, y = threadIdx.x / UP_ATTENTION_X;
    const up_span s = up_span_of(a, blockIdx.x / a.tiles, head);
    const int first = blockIdx.x % a.tiles * UP_TILE, last = min(first + UP_TILE, s.queries);
    if (first >= s.queries) return;
    up_fill_tile(room.rows, first, s.queries, a.width, [&](int i) { return a.q.row(s.q_row + i) + s.col; });
    up_fill_tile(room.rows2, first, s.queries, a.width,
                 [&](int i) { return a.dout.row(s.q_row + i) + s.col; });
    float sum[UP_ROWS][W / UP_ATTENTION_X] = {}, lse[UP_ROWS], average[UP_ROWS] = {};
    for (int r = 0; r < UP_ROWS; r++) {
        const int i = first + y * UP_ROWS + r;
        lse[r] = i < s.queries ? a.lse(s.q_row + i, head) : 0.0f;
    }
    const int end = s.end_of_keys(last - 1);
    for (int pass = 0; pass < 2; pass++) {
        for (int j0 = 0; j0 < end; j0 += UP_TILE) {
            __syncthreads();
            up_fill_tile(room.others, j0, s.keys, a.width,
                         [&](int j) { return up_key_row(s, a.k, a.prompt_k, j); });
            up_fill_tile(room.others2, j0, s.keys, a.width,
                         [&](int j) { return up_key_row(s, a.v, a.prompt_v, j); });
            __syncthreads();
            float scores[UP_ROWS][UP_OTHERS], dp[UP_ROWS][UP_OTHERS];
            up_dots(scores, room.rows, room.others);
            up_dots(dp, room.rows2, room.others2);
#pragma unroll
            for (int r = 0; r < UP_ROWS; r++)
#pragma unroll
                for (int o = 0; o < UP_OTHERS; o++) {
                    const int i = first + y * UP_ROWS + r, j = j0 + x + UP_ATTENTION_X * o;
                    const bool seen = i < s.queries && j < s.keys && s.sees(i, j);
                    const float p = seen ? expf(a.scale * scores[r][o] - lse[r]) : 0.0f;
                    if (pass == 0)
                        average[r] += seen ? p * dp[r][o] : 0.0f;
                    else
                        room.ds[y * UP_ROWS + r][x + UP_ATTENTION_X * o] =
                            seen ? p * (dp[r][o] - average[r]) : 0.0f;
                }
            if (pass == 0) continue;
            __syncthreads();
            up_add_weighted(sum, room.ds, room.others);
        }
        if (pass) break;
        for (int r = 0; r < UP_ROWS; r++) {
            const int i = first + y * UP_ROWS + r;
            average[r] = up_warp_sum<UP_ATTENTION_X>(average[r]);
            if (x == 0 && i < s.queries) a.average[(int64_t)(s.q_row + i) * a.heads + head] = average[r];
        }
    }
    float factor[UP_ROWS];
    for (int r = 0; r < UP_ROWS; r++) factor[r] = a.scale;
    if (a.dq.at)
        up_store_rows<W>(sum, factor, first, s.queries, a.width, a.dq, s.col,
                         [&](int i) { return s.q_row + i; });
}

/* dk_j += scale sum_i ds_ij q_i,  dv_j += sum_i p_ij dout_i, over the queries of one sequence, for the tile
 * of keys in room.rows, room.rows2 that begins at j0. */
template <class T, int W>
UP_DEVICE void up_gather_from_queries(const up_attention_call<T> &a, up_backward_room<W> &room,
                                      const up_span &s, int head, int j0, int end,
                                      float (&dk)[UP_ROWS][W / UP_ATTENTION_X],
                                      float (&dv)[UP_ROWS][W / UP_ATTENTION_X]) {
    const int x = threadIdx.x % UP_ATTENTION_X, y = threadIdx.x / UP_ATTENTION_X;
    for (int i0 = 0; i0 < s.queries; i0 += UP_TILE) {
        if (s.end_of_keys(min(i0 + UP_TILE, s.queries) - 1) <= j0) continue;
        __syncthreads();
        up_fill_tile(room.others, i0, s.queries, a.width,
                     [&](int i) { return a.q.row(s.q_row + i) + s.col; });
        up_fill_tile(room.others2, i0, s.queries, a.width,
                     [&](int i) { return a.dout.row(s.q_row + i) + s.col; });
        __syncthreads();
        float scores[UP_ROWS][UP_OTHERS], dp[UP_ROWS][UP_OTHERS];
        up_dots(scores, room.rows, room.others);
        up_dots(dp, room.rows2, room.others2);
#pragma unroll
        for (int o = 0; o < UP_OTHERS; o++) {
            const int i = i0 + x + UP_ATTENTION_X * o;
            const bool there = i < s.queries;
            const float lse = there ? a.lse(s.q_row + i, head) : 0.0f;
            const float average = there ? a.average[(int64_t)(s.q_row + i) * a.heads + head] : 0.0f;
#pragma unroll
            for (int r = 0; r < UP_ROWS; r++) {
                const int j = j0 + y * UP_ROWS + r;
                const bool seen = there && j < end && s.sees(i, j);
                const float p = seen ? expf(a.scale * scores[r][o] - lse) : 0.0f;
                room.p[y * UP_ROWS + r][x + UP_ATTENTION_X * o] = p;
                room.ds[y * UP_ROWS + r][x + UP_ATTENTION_X * o] = seen ? p * (dp[r][o] - average) : 0.0f;
            }
        }
        __syncthreads();
        up_add_weighted(dk, room.ds, room.others);
        up_add_weighted(dv, room.p, room.others2);
    }
}

/* Grid: sequences times tiles of their own keys, heads. */
template <class T, int W>
static __global__ void __launch_bounds__(UP_ATTENTION_THREADS, 4) up_attend_bwd_keys(up_attention_call<T> a) {
    UP_SHARED(bytes);
    up_backward_room<W> &room = *reinterpret_cast<up_backward_room<W> *>(bytes);
    const up_span s = up_span_of(a, blockIdx.x / a.tiles, blockIdx.y);
    const int first = s.prompts + blockIdx.x % a.tiles * UP_TILE;
    if (first >= s.keys) return;
    up_fill_tile(room.rows, first, s.keys, a.width, [&](int j) { return up_key_row(s, a.k, a.prompt_k, j); });
    up_fill_tile(room.rows2, first, s.keys, a.width,
                 [&](int j) { return up_key_row(s, a.v, a.prompt_v, j); });
    float dk[UP_ROWS][W / UP_ATTENTION_X] = {}, dv[UP_ROWS][W / UP_ATTENTION_X] = {}, scales[UP_ROWS],
                          ones[UP_ROWS];
    up_gather_from_queries(a, room, s, blockIdx.y, first, s.keys, dk, dv);
    for (int r = 0; r < UP_ROWS; r++) {
        scales[r] = a.scale;
        ones[r] = 1;
    }
    const auto row = [&](int j) { return s.k_row + j - s.prompts; };
    if (a.dk.at) up_store_rows<W>(dk, scales, first, s.keys, a.width, a.dk, s.col, row);
    if (a.dv.at) up_store_rows<W>(dv, ones, first, s.keys, a.width, a.dv, s.col, row);
}

/* The same for prompts, over all sequences of a side. Grid: tiles of prompts, heads, sides. */
template <class T, int W>
static __global__ void __launch_bounds__(UP_ATTENTION_THREADS, 4)
    up_attend_bwd_prompts(up_attention_call<T> a) {
    UP_SHARED(bytes);
    up_backward_room<W> &room = *reinterpret_cast<up_backward_room<W> *>(bytes);
    const int first = blockIdx.x * UP_TILE, head = blockIdx.y, side_row = blockIdx.z * a.prompts,
              col = head * a.width;
    up_fill_tile(room.rows, first, a.prompts, a.width,
                 [&](int j) { return a.prompt_k.row(side_row + j) + col; });
    up_fill_tile(room.rows2, first, a.prompts, a.width,
                 [&](int j) { return a.prompt_v.row(side_row + j) + col; });
    float dk[UP_ROWS][W / UP_ATTENTION_X] = {}, dv[UP_ROWS][W / UP_ATTENTION_X] = {}, scales[UP_ROWS],
                          ones[UP_ROWS];
    for (int n = 0; n < a.sequence_count; n++) {
        const up_span s = up_span_of(a, n, head);
        if (s.prompt_row == side_row) up_gather_from_queries(a, room, s, head, first, a.prompts, dk, dv);
    }
    for (int r = 0; r < UP_ROWS; r++) {
        scales[r] = a.scale;
        ones[r] = 1;
    }
    const auto row = [&](int j) { return side_row + j; };
    if (a.dprompt_k.at) up_store_rows<W>(dk, scales, first, a.prompts, a.width, a.dprompt_k, col, row);
    if (a.dprompt_v.at) up_store_rows<W>(dv, ones, first, a.prompts, a.width, a.dprompt_v, col, row);
}

/* ---- few keys: the vocabulary's entries have 3 tokens ---- */
/* One warp has a sequence and a head. Lanes share the columns, keys stay in registers, nothing is shared but
 * sums over the warp. */
enum { UP_FEW = 4 /* keys at most, none of them prompts */, UP_FEW_WARPS = UP_ATTENTION_THREADS / UP_WARP };

/* A lane's columns of a row: lane, lane + 32, ...; 0 beyond. */
template <int C, class T> UP_DEVICE void up_load_lane(float (&to)[C], const T *row, bool there, int width) {
    const int lane = threadIdx.x % UP_WARP;
#pragma unroll
    for (int c = 0; c < C; c++) {
        const int d = lane + UP_WARP * c;
        to[c] = there && d < width ? up_to_float(row[d]) : 0.0f;
    }
}
template <int C, class T>
UP_DEVICE void up_store_lane(T *row, const float (&from)[C], float factor, int width) {
    const int lane = threadIdx.x % UP_WARP;
#pragma unroll
    for (int c = 0; c < C; c++)
        if (lane + UP_WARP * c < width) row[lane + UP_WARP * c] = up_from_float<T>(factor * from[c]);
}
template <int C> UP_DEVICE float up_dot_lanes(const float (&a)[C], const float (&b)[C]) {
    float sum = 0;
#pragma unroll
    for (int c = 0; c < C; c++) sum += a[c] * b[c];
    return up_warp_sum(sum);
}

/* Grid: warps, one for each sequence and head. */
template <class T, int W>
static __global__ void __launch_bounds__(UP_ATTENTION_THREADS) up_attend_few(up_attention_call<T> a) {
    enum { C = W > UP_WARP ? W / UP_WARP : 1 };
    const int64_t warp = (int64_t)blockIdx.x * UP_FEW_WARPS + threadIdx.x / UP_WARP;
    if (warp >= (int64_t)a.sequence_count * a.heads) return;
    const int head = (int)(warp % a.heads);
    const up_span s = up_span_of(a, (int)(warp / a.heads), head);
    float k[UP_FEW][C], v[UP_FEW][C];
#pragma unroll
    for (int j = 0; j < UP_FEW; j++) {
        up_load_lane(k[j], a.k.row(s.k_row + j) + s.col, j < s.keys, a.width);
        up_load_lane(v[j], a.v.row(s.k_row + j) + s.col, j < s.keys, a.width);
    }
    for (int i = 0; i < s.queries; i++) {
        float q[C], p[UP_FEW], sum[C] = {}, largest = -UP_INFINITY, total = 0;
        up_load_lane(q, a.q.row(s.q_row + i) + s.col, true, a.width);
#pragma unroll
        for (int j = 0; j < UP_FEW; j++) {
            p[j] = a.scale * up_dot_lanes(q, k[j]);
            if (j >= s.keys || !s.sees(i, j)) p[j] = -UP_INFINITY;
            largest = fmaxf(largest, p[j]);
        }
#pragma unroll
        for (int j = 0; j < UP_FEW; j++) {
            p[j] = p[j] == -UP_INFINITY ? 0.0f : expf(p[j] - largest);
            total += p[j];
#pragma unroll
            for (int c = 0; c < C; c++) sum[c] += p[j] * v[j][c];
        }
        up_store_lane(a.out.row(s.q_row + i) + s.col, sum, total > 0 ? 1.0f / total : 0.0f, a.width);
        if (threadIdx.x % UP_WARP == 0) a.lse(s.q_row + i, head) = largest + logf(total);
    }
}

/* The formulas of up_attend_bwd_queries; a warp has all that its sequence and head need. Grid as above. */
template <class T, int W>
static __global__ void __launch_bounds__(UP_ATTENTION_THREADS) up_attend_bwd_few(up_attention_call<T> a) {
    enum { C = W > UP_WARP ? W / UP_WARP : 1 };
    const int64_t warp = (int64_t)blockIdx.x * UP_FEW_WARPS + threadIdx.x / UP_WARP;
    if (warp >= (int64_t)a.sequence_count * a.heads) return;
    const int head = (int)(warp % a.heads);
    const up_span s = up_span_of(a, (int)(warp / a.heads), head);
    float k[UP_FEW][C], v[UP_FEW][C], dk[UP_FEW][C] = {}, dv[UP_FEW][C] = {};
#pragma unroll
    for (int j = 0; j < UP_FEW; j++) {
        up_load_lane(k[j], a.k.row(s.k_row + j) + s.col, j < s.keys, a.width);
        up_load_lane(v[j], a.v.row(s.k_row + j) + s.col, j < s.keys, a.width);
    }
    for (int i = 0; i < s.queries; i++) {
        float q[C], dout[C], p[UP_FEW], dp[UP_FEW], dq[C] = {}, average = 0;
        bool seen[UP_FEW];
        up_load_lane(q, a.q.row(s.q_row + i) + s.col, true, a.width);
        up_load_lane(dout, a.dout.row(s.q_row + i) + s.col, true, a.width);
        const float lse = a.lse(s.q_row + i, head);
#pragma unroll
        for (int j = 0; j < UP_FEW; j++) {
            const float score = a.scale * up_dot_lanes(q, k[j]);
            dp[j] = up_dot_lanes(dout, v[j]);
            seen[j] = j < s.keys && s.sees(i, j);
            p[j] = seen[j] ? expf(score - lse) : 0.0f;
            average += seen[j] ? p[j] * dp[j] : 0.0f;
        }
#pragma unroll
        for (int j = 0; j < UP_FEW; j++) {
            const float ds = seen[j] ? p[j] * (dp[j] - average) : 0.0f;
#pragma unroll
            for (int c = 0; c < C; c++) {
                dq[c] += ds * k[j][c];
                dk[j][c] += ds * q[c];
                dv[j][c] += p[j] * dout[c];
            }
        }
        if (a.dq.at) up_store_lane(a.dq.row(s.q_row + i) + s.col, dq, a.scale, a.width);
    }
#pragma unroll
    for (int j = 0; j < UP_FEW; j++) {
        if (j >= s.keys) continue;
        if (a.dk.at) up_store_lane(a.dk.row(s.k_row + j) + s.col, dk[j], a.scale, a.width);
        if (a.dv.at) up_store_lane(a.dv.row(s.k_row + j) + s.col, dv[j], 1.0f, a.width);
    }
}

#if UP_HOST_PART
#include <math.h>

static_assert((int)UP_AT_Q == (int)UP_SEQ_Q_START && (int)UP_AT_QUERIES == (int)UP_SEQ_Q_COUNT &&
                  (int)UP_AT_K == (int)UP_SEQ_K_START && (int)UP_AT_KEYS == (int)UP_SEQ_K_COUNT &&
                  (int)UP_AT_KIND == (int)UP_SEQ_KIND && (int)UP_AT_PREFIX == (int)UP_SEQ_PREFIX &&
                  (int)UP_AT_WORDS == (int)UP_SEQ_WORDS && (int)UP_AT_SIDE == (int)UP_SEQ_SIDE,
              "the sequences of backend.h");
static_assert((int)UP_FULL_MASK == (int)UP_MASK_FULL && (int)UP_DOUBLED_MASK == (int)UP_MASK_DOUBLED &&
                  (int)UP_CAUSAL_MASK == (int)UP_MASK_CAUSAL,
              "the masks of backend.h");

size_t up_attention_scratch(const up_op_dims *d) {
    const size_t of_queries = up_pieces::round(sizeof(float) * (size_t)d->rows * (size_t)d->heads);
    return 2 * of_queries + UP_PIECE;
}

template <class T> static up_attention_call<T> call_of(const up_attention_args *a) {
    up_attention_call<T> c = {};
    c.sequences = up_list_of(a->sequences);
    c.q = up_as<const T>(a->q);
    c.k = up_as<const T>(a->k);
    c.v = up_as<const T>(a->v);
    c.prompt_k = up_as<const T>(a->prompt_k);
    c.prompt_v = up_as<const T>(a->prompt_v);
    c.out = up_as<T>(a->out);
    c.lse = up_as<float>(a->lse);
    c.sequence_count = (int)a->sequences.rows;
    c.heads = a->heads;
    c.width = (int)(a->q.cols / a->heads);
    c.prompts = a->prompts;
    c.sides = a->prompt_sides;
    c.scale = (float)(1 / sqrt((double)c.width));
    c.vectors = c.width % UP_VECTOR == 0 && up_fits(a->q, UP_VECTOR) && up_fits(a->k, UP_VECTOR) &&
                up_fits(a->v, UP_VECTOR) && up_fits(a->prompt_k, UP_VECTOR) &&
                up_fits(a->prompt_v, UP_VECTOR);
    return c;
}

/* ---- one warp for each sequence and head, where every sequence has few keys ---- */
static bool has_few_keys(const up_attention_args *a) {
    return a->max_keys <= UP_FEW && !a->prompts;
}
template <class T, class Kernel>
static void launch_few(up_backend *b, Kernel kernel, const up_attention_call<T> &call) {
    const unsigned blocks = up_blocks((int64_t)call.sequence_count * call.heads, UP_FEW_WARPS);
    up_launch(kernel, blocks, UP_ATTENTION_THREADS, 0, up_stream(b), call);
}
template <class T> static void attend_few(up_backend *b, const up_attention_call<T> &call) {
    up_by_head_width(call.width,
                     [&](auto w) { launch_few<T>(b, up_attend_few<T, decltype(w)::value>, call); });
}
template <class T> static void attend_bwd_few(up_backend *b, const up_attention_call<T> &call) {
    up_by_head_width(call.width,
                     [&](auto w) { launch_few<T>(b, up_attend_bwd_few<T, decltype(w)::value>, call); });
}

/* ---- in tiles on plain cores: f32 ---- */
static int tiles_of(int most) {
    return most > 0 ? (int)up_blocks(most, UP_TILE) : 1;
}
static void attend_tiles(up_backend *b, up_attention_call<float> call, int most) {
    call.tiles = tiles_of(most);
    const dim3 grid((unsigned)(call.sequence_count * call.tiles), (unsigned)call.heads);
    up_by_head_width(call.width, [&](auto w) {
        enum { W = decltype(w)::value };
        up_launch_with_room<float>(b, up_attend<float, W>, grid, UP_ATTENTION_THREADS,
                                   sizeof(up_forward_room<W>), call);
    });
}
static void attend_bwd_tiles(up_backend *b, up_attention_call<float> call, int most) {
    call.tiles = tiles_of(most);
    const dim3 grid((unsigned)(call.sequence_count * call.tiles), (unsigned)call.heads);
    const dim3 all(up_blocks(call.prompts, UP_TILE), (unsigned)call.heads, (unsigned)call.sides);
    const auto launch = [&](void (*kernel)(up_attention_call<float>), dim3 blocks, size_t room) {
        up_launch_with_room<float>(b, kernel, blocks, UP_ATTENTION_THREADS, room, call);
    };
    up_by_head_width(call.width, [&](auto w) {
        enum { W = decltype(w)::value };
        const size_t room = sizeof(up_backward_room<W>);
        launch(up_attend_bwd_queries<float, W>, grid, room);
        if (call.dk.at || call.dv.at) launch(up_attend_bwd_keys<float, W>, grid, room);
        if (up_wants_prompts(call)) launch(up_attend_bwd_prompts<float, W>, all, room);
    });
}

/* ---- slots ---- */
static up_status attention(up_backend *b, const up_attention_args *a) {
    up_cuda_zero(b, a->out); /* rows of no sequence */
    up_cuda_zero(b, a->lse);
    if (a->sequences.rows <= 0 || up_is_empty(a->q)) return up_launched("attention");
    up_by_type(a->q.dtype, [&](auto t) {
        typedef typename decltype(t)::type T;
        const up_attention_call<T> call = call_of<T>(a);
        if (has_few_keys(a))
            attend_few(b, call);
        else if constexpr (sizeof(T) == sizeof(float))
            attend_tiles(b, call, a->max_keys);
        else
            up_tensor_attention(b, call, a->max_keys);
    });
    return up_launched("attention");
}

template <class T> static up_attention_call<T> call_back_of(const up_attention_grad *g) {
    const up_attention_args *a = &g->forward;
    up_attention_call<T> c = call_of<T>(a);
    c.dout = up_as<const T>(g->dout);
    c.dq = up_as<T>(g->dq);
    c.dk = up_as<T>(g->dk);
    c.dv = up_as<T>(g->dv);
    c.dprompt_k = up_as<T>(g->dprompt_k);
    c.dprompt_v = up_as<T>(g->dprompt_v);
    up_pieces pieces(g->scratch);
    c.average = pieces.take<float>((size_t)(a->q.rows * a->heads));
    c.largest = pieces.take<float>((size_t)(a->q.rows * a->heads));
    c.vectors = c.vectors && up_fits(g->dout, UP_VECTOR);
    return c;
}

static up_status attention_bwd(up_backend *b, const up_attention_grad *g) {
    const up_attention_args *a = &g->forward;
    const up_view set[] = {g->dq, g->dk, g->dv, g->dprompt_k, g->dprompt_v};
    for (const up_view &v : set)
        if (up_view_present(v)) up_cuda_zero(b, v);
    if (a->sequences.rows <= 0 || up_is_empty(a->q)) return up_launched("attention_bwd");
    up_by_type(a->q.dtype, [&](auto t) {
        typedef typename decltype(t)::type T;
        const up_attention_call<T> call = call_back_of<T>(g);
        if (has_few_keys(a))
            attend_bwd_few(b, call);
        else if constexpr (sizeof(T) == sizeof(float))
            attend_bwd_tiles(b, call, a->max_keys);
        else
            up_tensor_attention_bwd(b, call, a->max_keys);
    });
    return up_launched("attention_bwd");
}

void up_attention_fill_table(up_backend_ops *ops) {
    ops->attention = attention;
    ops->attention_bwd = attention_bwd;
}
#endif
