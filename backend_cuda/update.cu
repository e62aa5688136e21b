/* update.cu - the end of a step: the gradient's norm, clipping by it, the loss scale, and AdamW over
 * everything that learns in one launch. Rate, scale, count and norm stay on the device. */
#include "backend_cuda/device.cuh"

enum { UP_UPDATE_THREADS = 256, UP_UPDATE_BLOCKS = 1024 };

/* partial[block] = the sum of squares of its part of x */
static __global__ void __launch_bounds__(UP_UPDATE_THREADS)
    up_square(float *partial, up_matrix<const float> x, int64_t rows, int64_t cols) {
    UP_SHARED(bytes);
    const int64_t step = (int64_t)gridDim.x * UP_UPDATE_THREADS;
    float sum = 0;
    for (int64_t n = 0; n < rows; n++)
        for (int64_t d = (int64_t)blockIdx.x * UP_UPDATE_THREADS + threadIdx.x; d < cols; d += step)
            sum += x(n, d) * x(n, d);
    sum = up_block_sum(sum, reinterpret_cast<float *>(bytes));
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

static __global__ void __launch_bounds__(UP_UPDATE_THREADS)
    up_add_up(float *out, const float *partial, int count) {
    UP_SHARED(bytes);
    float sum = 0;
    for (int i = threadIdx.x; i < count; i += UP_UPDATE_THREADS) sum += partial[i];
    sum = up_block_sum(sum, reinterpret_cast<float *>(bytes));
    if (threadIdx.x == 0) *out = sum;
}

/* The places of the control numbers: UP_STEP_LR and so on. */
enum { UP_AT_LR, UP_AT_SCALE, UP_AT_COUNT, UP_AT_GOOD, UP_AT_NORM, UP_AT_SKIPPED, UP_AT_FACTOR };

/* One thread. The scale grows after so many good steps, and halves where it was too large. */
static __global__ void up_open_step(float *control, const float *sqnorms, int count, double max_norm,
                                    int good_steps, double min_scale) {
    if (threadIdx.x) return;
    double square = 0;
    const double scale = control[UP_AT_SCALE];
    for (int i = 0; i < count; i++) square += sqnorms[i];
    const double norm = sqrt(square) / scale;
    const bool finite = norm - norm == 0;
    const double clip = max_norm > 0 ? fmin(1.0, max_norm / (norm + 1e-6)) : 1.0;
    control[UP_AT_NORM] = (float)norm;
    control[UP_AT_SKIPPED] = finite ? 0.0f : 1.0f;
    control[UP_AT_FACTOR] = finite ? (float)(clip / scale) : 0.0f;
    if (!finite) {
        control[UP_AT_GOOD] = 0;
        if (good_steps > 0) control[UP_AT_SCALE] = (float)fmax(scale / 2, min_scale);
        return;
    }
    control[UP_AT_COUNT] += 1;
    control[UP_AT_GOOD] += 1;
    if (good_steps == 0 || control[UP_AT_GOOD] < (float)good_steps) return;
    control[UP_AT_SCALE] *= 2;
    control[UP_AT_GOOD] = 0;
}

struct up_adamw_state {
    float *weights, *grad, *m, *v;
    const int *segments; /* [count, 4]: weight, state, count in units of 16; decays */
    int64_t segment_stride;
    up_matrix<const float> rates;
    const float *control;
    int count;
    double beta1, beta2, eps, decay;
};

/* The last segment that begins at or before this unit of the state; -1: none. */
UP_DEVICE int up_segment_of(const up_adamw_state &a, int unit) {
    int low = -1, high = a.count;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (a.segments[middle * a.segment_stride + 1] <= unit)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* A thread takes 4 elements; 16 of them, a unit, lie in one segment or in none. */
static __global__ void __launch_bounds__(UP_UPDATE_THREADS) up_adamw(up_adamw_state a, int64_t total) {
    UP_SHARED(bytes);
    float *corrections = reinterpret_cast<float *>(bytes); /* 1 - beta^t */
    if (threadIdx.x < 2)
        corrections[threadIdx.x] =
            (float)(1.0 - pow(threadIdx.x ? a.beta2 : a.beta1, (double)a.control[UP_AT_COUNT]));
    __syncthreads();
    const int64_t at = ((int64_t)blockIdx.x * UP_UPDATE_THREADS + threadIdx.x) * 4;
    if (at >= total) return;
    const int s = a.control[UP_AT_SKIPPED] != 0 ? -1 : up_segment_of(a, (int)(at / 16));
    const int *f = a.segments + (s < 0 ? 0 : s) * a.segment_stride;
    if (s >= 0 && at / 16 < (int64_t)f[1] + f[2]) {
        const float factor = a.control[UP_AT_FACTOR],
                    rate = a.control[UP_AT_LR] * (a.rates.at ? a.rates(s, 0) : 1.0f);
        const float b1 = (float)a.beta1, b2 = (float)a.beta2, c1 = (float)(1.0 - a.beta1),
                    c2 = (float)(1.0 - a.beta2);
        const float decay = f[3] ? (float)a.decay : 0.0f, eps = (float)a.eps;
        float *weight = a.weights + ((int64_t)f[0] * 16 + at - (int64_t)f[1] * 16);
        for (int i = 0; i < 4 && at + i < total; i++) {
            const float g = factor * a.grad[at + i];
            const float mean = b1 * a.m[at + i] + c1 * g, square = b2 * a.v[at + i] + c2 * g * g;
            const float step = mean / corrections[0] / (sqrtf(square / corrections[1]) + eps);
            weight[i] = weight[i] - rate * (step + decay * weight[i]);
            a.m[at + i] = mean;
            a.v[at + i] = square;
        }
    }
    for (int i = 0; i < 4 && at + i < total; i++) a.grad[at + i] = 0;
}

#if UP_HOST_PART
#include "backend_cuda/cuda.h"

static_assert((int)UP_AT_LR == (int)UP_STEP_LR && (int)UP_AT_SCALE == (int)UP_STEP_SCALE &&
                  (int)UP_AT_COUNT == (int)UP_STEP_COUNT && (int)UP_AT_GOOD == (int)UP_STEP_GOOD &&
                  (int)UP_AT_NORM == (int)UP_STEP_NORM && (int)UP_AT_SKIPPED == (int)UP_STEP_SKIPPED &&
                  (int)UP_AT_FACTOR == (int)UP_STEP_FACTOR,
              "the control numbers of backend.h");
static_assert(UP_SEGMENT_WEIGHT == 0 && UP_SEGMENT_STATE == 1 && UP_SEGMENT_COUNT == 2 &&
                  UP_SEGMENT_DECAY == 3 && (int)UP_SEGMENT_UNIT == 16,
              "the segments of backend.h");

enum { ROOM = sizeof(float) * UP_WARP };

size_t up_update_scratch(const up_op_dims *d) {
    (void)d;
    return sizeof(float) * UP_UPDATE_BLOCKS + UP_PIECE;
}

static up_status sqnorm(up_backend *b, const up_sqnorm_args *a) {
    float *out = up_pointer<float>(a->out);
    if (up_is_empty(a->x)) {
        up_cuda_zero(b, a->out);
        return up_launched("sqnorm");
    }
    float *partial = up_pieces(a->scratch).take<float>(UP_UPDATE_BLOCKS);
    const unsigned wanted = up_blocks(a->x.cols, 4 * UP_UPDATE_THREADS), most = UP_UPDATE_BLOCKS;
    const unsigned blocks = wanted < most ? wanted : most;
    up_launch(up_square, blocks, UP_UPDATE_THREADS, ROOM, up_stream(b), partial, up_as<const float>(a->x),
              a->x.rows, a->x.cols);
    up_launch(up_add_up, 1, UP_UPDATE_THREADS, ROOM, up_stream(b), out, partial, (int)blocks);
    return up_launched("sqnorm");
}

static up_status step(up_backend *b, const up_step_args *a) {
    up_launch(up_open_step, 1, UP_WARP, 0, up_stream(b), up_pointer<float>(a->control),
              up_pointer<const float>(a->sqnorms), (int)a->sqnorms.cols, a->max_norm, a->good_steps,
              a->min_scale);
    return up_launched("step");
}

static up_status adamw(up_backend *b, const up_adamw_args *a) {
    if (up_is_empty(a->grad)) return UP_OK;
    const up_adamw_state state = {up_pointer<float>(a->weights),
                                  up_pointer<float>(a->grad),
                                  up_pointer<float>(a->m),
                                  up_pointer<float>(a->v),
                                  up_pointer<const int>(a->segments),
                                  a->segments.stride,
                                  up_as<const float>(a->rates),
                                  up_pointer<const float>(a->control),
                                  (int)a->segments.rows,
                                  a->beta1,
                                  a->beta2,
                                  a->eps,
                                  a->decay};
    up_launch(up_adamw, up_blocks(a->grad.cols, 4 * UP_UPDATE_THREADS), UP_UPDATE_THREADS, ROOM, up_stream(b),
              state, a->grad.cols);
    return up_launched("adamw");
}

void up_update_fill_table(up_backend_ops *ops) {
    ops->sqnorm = sqnorm;
    ops->step = step;
    ops->adamw = adamw;
}
#endif
