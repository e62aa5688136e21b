/* loss.cu - similarities over the temperature (paper equations 2 and 4) and the cross-entropy of their
 * softmax (equation 3), tile by tile of the targets, with the log-sum-exp carried on (Milakov and Gimelshein
 * 2018). The factor of the similarities is made on the device, where temperature and alpha lie. */
#include "backend_cuda/device.cuh"

enum { UP_LOSS_THREADS = 128, UP_LOSS_BLOCKS = 128 };

/* ---- similarities ---- */
UP_DEVICE double up_clamped_scale(const float *log_scale) {
    return fmin(exp((double)*log_scale), 100.0); /* UP_MAX_LOGIT_SCALE */
}

/* to[0] = alpha scale, to[1] = beta. One warp, one thread of it. */
static __global__ void up_make_factor(float *to, const float *log_scale, const float *alpha, float beta) {
    if (threadIdx.x) return;
    to[0] = (float)((alpha ? (double)*alpha : 1.0) * up_clamped_scale(log_scale));
    to[1] = beta;
}

static __global__ void up_add_bias(up_matrix<float> z, const float *bias, int cols) {
    for (int d = threadIdx.x; d < cols; d += blockDim.x) z(blockIdx.x, d) += bias[d];
}

/* partial[block] = the sum of a part of da a */
static __global__ void __launch_bounds__(UP_LOSS_THREADS)
    up_dot(float *partial, up_matrix<const float> da, up_matrix<const float> a, int64_t rows, int cols) {
    UP_SHARED(bytes);
    float sum = 0;
    for (int64_t n = blockIdx.x; n < rows; n += gridDim.x)
        for (int d = threadIdx.x; d < cols; d += UP_LOSS_THREADS) sum += da(n, d) * a(n, d);
    sum = up_block_sum(sum, reinterpret_cast<float *>(bytes));
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

/* With s = sum of da a:  dlog_scale += alpha scale s unless clamped,  dalpha += scale s;  factor = alpha
 * scale. */
static __global__ void __launch_bounds__(UP_LOSS_THREADS)
    up_scale_gradients(float *factor, float *dlog_scale, float *dalpha, const float *partial, int count,
                       const float *log_scale, const float *alpha) {
    UP_SHARED(bytes);
    const float s = up_block_sum((int)threadIdx.x < count ? partial[threadIdx.x] : 0.0f,
                                 reinterpret_cast<float *>(bytes));
    if (threadIdx.x) return;
    const double scale = up_clamped_scale(log_scale), a = alpha ? (double)*alpha : 1.0;
    if (dlog_scale && exp((double)*log_scale) <= 100.0) *dlog_scale = (float)(*dlog_scale + a * scale * s);
    if (dalpha) *dalpha = (float)(*dalpha + scale * s);
    *factor = (float)(a * scale);
}

/* sum = factor da (+ sum) */
static __global__ void up_scale_rows(up_matrix<float> sum, up_matrix<const float> da, const float *factor,
                                     int add, int cols) {
    const int64_t n = blockIdx.x;
    for (int d = threadIdx.x; d < cols; d += blockDim.x) {
        const float v = *factor * da(n, d);
        sum(n, d) = add ? v + sum(n, d) : v;
    }
}

/* ---- cross-entropy ---- */
struct up_true { /* up_truth on the device */
    up_list index;
    up_matrix<const float> share, soft;
    up_list group_x, group_y;
    const int *columns;
    int kinds, targets; /* K; V of soft */
    float smoothing;
};
struct up_true_row { /* of one query */
    const int *index;
    const float *share, *soft;
    int kinds, columns, group;
    up_list group_y;
};

UP_DEVICE up_true_row up_row_of(const up_true &t, int64_t q) {
    up_true_row r;
    r.index = t.index.at ? t.index.at + q * t.index.stride : (const int *)0;
    r.share = t.share.at ? t.share.row(q) : (const float *)0;
    r.soft = t.soft.at ? t.soft.row(q) : (const float *)0;
    r.kinds = t.kinds;
    r.columns = t.columns ? *t.columns : 0x7fffffff;
    r.group = t.group_x.at && t.group_y.at ? t.group_x[q] : -1;
    r.group_y = t.group_y;
    return r;
}
UP_DEVICE bool up_left_out(const up_true_row &r) {
    return r.index && r.index[0] < 0;
}

/* Whether target j counts in this row, and its share before smoothing. */
UP_DEVICE bool up_counts(const up_true_row &r, int j, float *share) {
    bool named = false;
    *share = 0;
    if (j >= r.columns) return false;
    if (r.soft)
        *share = r.soft[j];
    else
        for (int k = 0; k < r.kinds; k++)
            if (r.index[k] == j) {
                *share += r.share ? r.share[k] : 1.0f;
                named = true;
            }
    return named || r.group < 0 || r.group_y[j] != r.group;
}

struct up_best { /* the first largest value */
    float value;
    int at; /* 0x7fffffff: none */
};
UP_DEVICE up_best up_better(up_best a, up_best b) {
    const bool second = b.at != 0x7fffffff &&
                        (a.at == 0x7fffffff || b.value > a.value || (b.value == a.value && b.at < a.at));
    return second ? b : a;
}
UP_DEVICE up_best up_block_best(up_best x, up_best *room) {
    const int lane = threadIdx.x % UP_WARP, warp = threadIdx.x / UP_WARP, warps = blockDim.x / UP_WARP;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = UP_WARP / 2; i > 0; i /= 2) {
            up_best other;
            other.value = __shfl_xor_sync(UP_FULL, x.value, i);
            other.at = __shfl_xor_sync(UP_FULL, x.at, i);
            x = up_better(x, other);
        }
        if (pass) break;
        if (lane == 0) room[warp] = x;
        __syncthreads();
        x.value = lane < warps ? room[lane].value : -UP_INFINITY;
        x.at = lane < warps ? room[lane].at : 0x7fffffff;
    }
    __syncthreads();
    return x;
}

/* The places of the state: UP_XENT_MAX and so on. */
enum { UP_AT_MAX, UP_AT_SUM, UP_AT_TRUE, UP_AT_TOTAL, UP_AT_NUMBER, UP_AT_BEST };

struct up_xent_tile {
    up_matrix<const float> z;
    up_matrix<float> state, loss, lse, correct;
    up_true truth;
    int cols, first, begin, end;
};

/* loss = lse - sum over j of ((1 - e) share[j] + e / C) z[j]. `wanted`: the target that counts as correct. */
UP_DEVICE void up_finish_xent(const up_xent_tile &a, const up_true_row &r, int64_t q, const float *state,
                              int wanted) {
    const float lse = state[UP_AT_MAX] + logf(state[UP_AT_SUM]), e = a.truth.smoothing;
    float loss = lse - (1.0f - e) * state[UP_AT_TRUE];
    if (e != 0) loss -= e / state[UP_AT_NUMBER] * state[UP_AT_TOTAL];
    a.loss(q, 0) = up_left_out(r) ? 0.0f : loss;
    a.lse(q, 0) = lse;
    if (a.correct.at) a.correct(q, 0) = !up_left_out(r) && state[UP_AT_BEST] == (float)wanted ? 1.0f : 0.0f;
}

/* A block a query. */
static __global__ void __launch_bounds__(UP_LOSS_THREADS, 8) up_xent(up_xent_tile a) {
    UP_SHARED(bytes);
    float *room = reinterpret_cast<float *>(bytes);
    const int64_t q = blockIdx.x;
    const up_true_row r = up_row_of(a.truth, q);
    const float *z = a.z.row(q);
    float state[6] = {-UP_INFINITY, 0, 0, 0, 0, -1}, share, right = 0, total = 0, number = 0;
    if (!a.begin)
        for (int i = 0; i < 6; i++) state[i] = a.state(q, i);
    up_best best = {-UP_INFINITY, 0x7fffffff};
    for (int v = threadIdx.x; v < a.cols; v += UP_LOSS_THREADS) {
        if (!up_counts(r, a.first + v, &share)) continue;
        best = up_better(best, up_best{z[v] > -UP_INFINITY ? z[v] : -UP_INFINITY, a.first + v});
        if (share != 0) right += share * z[v]; /* an impossible target may have a logit of -infinity */
        total += z[v];
        number += 1;
    }
    best = up_block_best(best, reinterpret_cast<up_best *>(bytes));
    const float largest = fmaxf(state[UP_AT_MAX], best.value);
    float sum = 0;
    for (int v = threadIdx.x; v < a.cols; v += UP_LOSS_THREADS)
        if (up_counts(r, a.first + v, &share) && !(z[v] == -UP_INFINITY)) sum += expf(z[v] - largest);
    sum = up_block_sum(sum, room);
    right = up_block_sum(right, room);
    total = up_block_sum(total, room);
    number = up_block_sum(number, room);
    int wanted = r.index ? r.index[0] : 0;
    if (a.end && r.soft) { /* the first largest probability */
        up_best likely = {-UP_INFINITY, 0x7fffffff};
        for (int j = threadIdx.x; j < a.truth.targets && j < r.columns; j += UP_LOSS_THREADS)
            likely = up_better(likely, up_best{r.soft[j], j});
        wanted = up_block_best(likely, reinterpret_cast<up_best *>(bytes)).at;
    }
    if (threadIdx.x) return;
    if (best.at != 0x7fffffff && (state[UP_AT_BEST] < 0 || best.value > state[UP_AT_MAX]))
        state[UP_AT_BEST] = (float)best.at;
    if (largest > -UP_INFINITY) state[UP_AT_SUM] *= expf(state[UP_AT_MAX] - largest);
    state[UP_AT_MAX] = largest;
    state[UP_AT_SUM] += sum;
    state[UP_AT_TRUE] += right;
    state[UP_AT_TOTAL] += total;
    state[UP_AT_NUMBER] += number;
    for (int i = 0; i < 6; i++) a.state(q, i) = state[i];
    if (a.end) up_finish_xent(a, r, q, state, wanted);
}

/* dz_j = weight (P_j - q_j). P_j is exp(z_j - largest) over the sum: a log-sum-exp rounded to f32 would shift
 * every P_j of a row. */
static __global__ void __launch_bounds__(UP_LOSS_THREADS)
    up_xent_bwd(up_matrix<float> dz, up_matrix<const float> z, up_matrix<const float> state, up_true truth,
                int cols, int first, float weight, const float *scale) {
    const int64_t q = blockIdx.x;
    const up_true_row r = up_row_of(truth, q);
    const float factor = weight * (scale ? *scale : 1.0f), e = truth.smoothing;
    const float largest = state(q, UP_AT_MAX), sum = state(q, UP_AT_SUM);
    const float everywhere = e != 0 ? e / state(q, UP_AT_NUMBER) : 0.0f;
    const bool out = up_left_out(r);
    for (int v = threadIdx.x; v < cols; v += UP_LOSS_THREADS) {
        float share, d = 0;
        if (!out && up_counts(r, first + v, &share))
            d = factor * (expf(z(q, v) - largest) / sum - ((1.0f - e) * share + everywhere));
        dz(q, v) = d;
    }
}

#if UP_HOST_PART
#include "backend_cuda/cuda.h"

static_assert((int)UP_AT_MAX == (int)UP_XENT_MAX && (int)UP_AT_SUM == (int)UP_XENT_SUM &&
                  (int)UP_AT_TRUE == (int)UP_XENT_TRUE && (int)UP_AT_TOTAL == (int)UP_XENT_TOTAL &&
                  (int)UP_AT_NUMBER == (int)UP_XENT_COUNT && (int)UP_AT_BEST == (int)UP_XENT_BEST &&
                  UP_XENT_FIELDS == 6,
              "the state of backend.h");

enum {
    ROOM = 2 * sizeof(float) * UP_WARP,
    ROW_THREADS = 128,
    FORWARD = 0,
    BACKWARD = 2,
    AFTER = 4 /* scalars */
};

size_t up_loss_scratch(const up_op_dims *d) {
    (void)d;
    return sizeof(float) * UP_LOSS_BLOCKS + UP_PIECE;
}

/* Two scalars: the factor of the similarities, and what multiplies the result that is there. */
static const float *make_factor(up_backend *b, int at, up_view log_scale, up_view alpha, int add) {
    float *to = up_cuda_of(b)->scalars + at;
    up_launch(up_make_factor, 1, UP_WARP, 0, up_stream(b), to, up_pointer<const float>(log_scale),
              up_pointer<const float>(alpha), add ? 1.0f : 0.0f);
    return to;
}

static up_product product_of(up_view c, up_view a, up_view b, int64_t k) {
    up_product p = {};
    p.in = UP_F32;
    p.out = UP_F32;
    p.m = c.rows;
    p.n = c.cols;
    p.k = k;
    p.a = up_bytes_of(a);
    p.a_stride = a.stride;
    p.b = up_bytes_of(b);
    p.b_stride = b.stride;
    p.c = up_bytes_of(c);
    p.c_stride = c.stride;
    return p;
}

static up_status logits(up_backend *b, const up_logits_args *a) {
    if (up_is_empty(a->z)) return UP_OK;
    const float *bias = up_pointer<const float>(a->bias);
    const bool together = (uintptr_t)bias % 16 == 0; /* cuBLASLt reads it by vectors */
    up_product p = product_of(a->z, a->a, a->b, a->a.cols);
    p.b_turned = true;
    p.factors = make_factor(b, FORWARD, a->log_scale, a->alpha, a->add);
    p.beta = a->add ? 1.0f : 0.0f;
    p.bias = together ? bias : NULL;
    UP_TRY(up_multiply(b, p));
    if (!together)
        up_launch(up_add_bias, (unsigned)a->z.rows, ROW_THREADS, 0, up_stream(b), up_as<float>(a->z), bias,
                  (int)a->z.cols);
    return up_launched("logits");
}

static up_status logits_bwd(up_backend *b, const up_logits_grad *a) {
    if (up_view_present(a->da)) {
        if (up_is_empty(a->dz) && !a->add_a) up_cuda_zero(b, a->da);
        up_product p = product_of(a->da, a->dz, a->b, a->dz.cols);
        p.beta = a->add_a ? 1.0f : 0.0f;
        UP_TRY(up_multiply(b, p));
    }
    if (up_view_present(a->db)) {
        if (up_is_empty(a->dz) && !a->add_b) up_cuda_zero(b, a->db);
        up_product p = product_of(a->db, a->dz, a->a, a->dz.rows);
        p.a_turned = true;
        p.factors = make_factor(b, BACKWARD, a->log_scale, a->alpha, a->add_b);
        p.beta = a->add_b ? 1.0f : 0.0f;
        UP_TRY(up_multiply(b, p));
    }
    return up_launched("logits_bwd");
}

static up_status logits_scale_bwd(up_backend *b, const up_logits_scale_grad *a) {
    float *partial = up_pieces(a->scratch).take<float>(UP_LOSS_BLOCKS),
          *factor = up_cuda_of(b)->scalars + AFTER;
    const unsigned blocks = a->da.rows < UP_LOSS_BLOCKS ? (unsigned)a->da.rows : (unsigned)UP_LOSS_BLOCKS;
    if (blocks)
        up_launch(up_dot, blocks, UP_LOSS_THREADS, ROOM, up_stream(b), partial, up_as<const float>(a->da),
                  up_as<const float>(a->a), a->da.rows, (int)a->da.cols);
    up_launch(up_scale_gradients, 1, UP_LOSS_THREADS, ROOM, up_stream(b), factor,
              up_pointer<float>(a->dlog_scale), up_pointer<float>(a->dalpha), partial, (int)blocks,
              up_pointer<const float>(a->log_scale), up_pointer<const float>(a->alpha));
    if (up_view_present(a->sum) && !up_is_empty(a->sum))
        up_launch(up_scale_rows, (unsigned)a->sum.rows, ROW_THREADS, 0, up_stream(b), up_as<float>(a->sum),
                  up_as<const float>(a->da), factor, a->add, (int)a->sum.cols);
    return up_launched("logits_scale_bwd");
}

static up_true truth_of(const up_truth &t) {
    up_true r = {};
    r.index = up_list_of(t.index);
    r.share = up_as<const float>(t.share);
    r.soft = up_as<const float>(t.soft);
    r.group_x = up_list_of(t.group_x);
    r.group_y = up_list_of(t.group_y);
    r.columns = up_pointer<const int>(t.columns);
    r.kinds = (int)t.index.cols;
    r.targets = (int)t.soft.cols;
    r.smoothing = t.smoothing;
    return r;
}

static up_status xent(up_backend *b, const up_xent_args *a) {
    if (a->z.rows <= 0) return UP_OK;
    const up_xent_tile tile = {up_as<const float>(a->z),
                               up_as<float>(a->state),
                               up_as<float>(a->loss),
                               up_as<float>(a->lse),
                               up_as<float>(a->correct),
                               truth_of(a->truth),
                               (int)a->z.cols,
                               (int)a->first,
                               a->begin,
                               a->end};
    up_launch(up_xent, (unsigned)a->z.rows, UP_LOSS_THREADS, ROOM, up_stream(b), tile);
    return up_launched("xent");
}

static up_status xent_bwd(up_backend *b, const up_xent_grad *a) {
    if (up_is_empty(a->z)) return UP_OK;
    up_launch(up_xent_bwd, (unsigned)a->z.rows, UP_LOSS_THREADS, 0, up_stream(b), up_as<float>(a->dz),
              up_as<const float>(a->z), up_as<const float>(a->state), truth_of(a->truth), (int)a->z.cols,
              (int)a->first, a->weight, up_pointer<const float>(a->scale));
    return up_launched("xent_bwd");
}

void up_loss_fill_table(up_backend_ops *ops) {
    ops->logits = logits;
    ops->logits_bwd = logits_bwd;
    ops->logits_scale_bwd = logits_scale_bwd;
    ops->xent = xent;
    ops->xent_bwd = xent_bwd;
}
#endif
