/* update.c - what goes over all parameters once a step: zeroing, the gradient's norm, AdamW. */
#include "backend_cpu/cpu.h"

#include <math.h>

enum { PIECE = 1 << 16 }; /* elements; a multiple of UP_SEGMENT_UNIT */

typedef struct sweep {
    const up_cpu *cpu;
    up_view x;
    int64_t across, pieces; /* side by side, and in all */
    double *parts;
} sweep;

/* A dense matrix is one long row. */
static up_view flat(up_view v) {
    if (v.stride == v.cols) {
        v.cols *= v.rows;
        v.rows = v.rows > 0;
        v.stride = v.cols;
    }
    return v;
}

static sweep over(const up_cpu *cpu, up_view x) {
    sweep t = {.cpu = cpu, .x = flat(x)};
    t.across = up_most(1, (t.x.cols + PIECE - 1) / PIECE);
    t.pieces = t.across * t.x.rows;
    return t;
}

/* Where a piece's elements begin, and how many they are. */
static float *part(const sweep *t, int64_t piece, int64_t *count) {
    int64_t first = piece % t->across * PIECE;
    *count = up_least(PIECE, t->x.cols - first);
    return up_rows_from(t->x, piece / t->across).p + first;
}

static void zero_piece(const void *context, int64_t piece, int thread) {
    const sweep *t = context;
    int64_t n;
    float *x = part(t, piece, &n);
    (void)thread;
    t->cpu->kernels.zero(n, x);
}

up_status up_cpu_zero(up_cpu *cpu, const void *args) {
    sweep t = over(cpu, *(const up_view *)args);
    up_cpu_for(cpu, t.pieces, zero_piece, &t);
    return UP_OK;
}

static void sqnorm_piece(const void *context, int64_t piece, int thread) {
    const sweep *t = context;
    int64_t n, each = (t->pieces + UP_CPU_PARTS - 1) / UP_CPU_PARTS;
    double sum = 0;
    (void)thread;
    for (int64_t i = piece * each; i < (piece + 1) * each && i < t->pieces; i++) {
        const float *x = part(t, i, &n);
        sum += t->cpu->kernels.dot(n, x, x);
    }
    t->parts[piece] = sum;
}

up_status up_cpu_sqnorm(up_cpu *cpu, const void *args) {
    const up_sqnorm_args *a = args;
    sweep t = over(cpu, a->x);
    double parts[UP_CPU_PARTS] = {0}, sum = 0;
    t.parts = parts;
    up_cpu_for(cpu, UP_CPU_PARTS, sqnorm_piece, &t);
    for (int i = 0; i < UP_CPU_PARTS; i++) sum += parts[i];
    *up_f32(a->out) = (float)sum;
    return UP_OK;
}

/* ---- AdamW: pieces of the state, whatever segments lie in them ---- */
typedef struct update {
    const up_cpu *cpu;
    const up_adamw_args *a;
    up_cpu_rule rule; /* of a segment of rate 1 that decays */
    int64_t segments; /* 0 where the step is skipped */
} update;

/* Field of segment s, in elements. */
static int64_t segment(const up_adamw_args *a, int64_t s, int field) {
    return (int64_t)(up_i32(a->segments) + s * a->segments.stride)[field] * UP_SEGMENT_UNIT;
}

/* The first segment that ends behind this element of the state. */
static int64_t segment_at(const update *t, int64_t element) {
    int64_t low = 0, high = t->segments;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (segment(t->a, middle, UP_SEGMENT_STATE) + segment(t->a, middle, UP_SEGMENT_COUNT) <= element)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Elements first..end-1 of the state, which lie in segment s. */
static void update_part(const update *t, int64_t s, int64_t first, int64_t end) {
    const up_adamw_args *a = t->a;
    int64_t weight = segment(a, s, UP_SEGMENT_WEIGHT) + first - segment(a, s, UP_SEGMENT_STATE);
    up_cpu_rule rule = t->rule;
    if (up_view_present(a->rates)) rule.lr *= *up_rows_from(a->rates, s).p;
    if (!segment(a, s, UP_SEGMENT_DECAY)) rule.decay = 0;
    t->cpu->kernels.adamw(end - first, up_f32(a->weights) + weight, up_f32(a->grad) + first,
                          up_f32(a->m) + first, up_f32(a->v) + first, &rule);
}

/* What no segment covers has a gradient that becomes 0 all the same. */
static void update_piece(const void *context, int64_t piece, int thread) {
    const update *t = context;
    const up_adamw_args *a = t->a;
    int64_t at = piece * PIECE, end = up_least(at + PIECE, a->grad.cols), s = segment_at(t, at);
    (void)thread;
    for (; s < t->segments && segment(a, s, UP_SEGMENT_STATE) < end; s++) {
        int64_t first = up_most(at, segment(a, s, UP_SEGMENT_STATE));
        int64_t last = segment(a, s, UP_SEGMENT_STATE) + segment(a, s, UP_SEGMENT_COUNT);
        t->cpu->kernels.zero(first - at, up_f32(a->grad) + at);
        at = up_least(end, last);
        update_part(t, s, first, at);
    }
    t->cpu->kernels.zero(end - at, up_f32(a->grad) + at);
}

up_status up_cpu_adamw(up_cpu *cpu, const void *args) {
    const up_adamw_args *a = args;
    const float *control = up_f32(a->control);
    double step = (double)control[UP_STEP_COUNT];
    update t = {.cpu = cpu, .a = a, .segments = control[UP_STEP_SKIPPED] != 0 ? 0 : a->segments.rows};
    t.rule = (up_cpu_rule){.factor = control[UP_STEP_FACTOR],
                           .lr = control[UP_STEP_LR],
                           .beta1 = (float)a->beta1,
                           .beta2 = (float)a->beta2,
                           .rest1 = (float)(1 - a->beta1),
                           .rest2 = (float)(1 - a->beta2),
                           .eps = (float)a->eps,
                           .decay = (float)a->decay,
                           .scale1 = (float)(1 / (1 - pow(a->beta1, step))),
                           .scale2 = (float)(1 / (1 - pow(a->beta2, step)))};
    up_cpu_for(cpu, (a->grad.cols + PIECE - 1) / PIECE, update_piece, &t);
    return UP_OK;
}
