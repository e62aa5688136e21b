/* update.c - what goes over all parameters once a step: zeroing, the gradient's norm, AdamW. */
#include "backend_cpu/cpu.h"

#include <math.h>
#include <stdlib.h>

enum { PIECE = 1 << 16 }; /* elements */

typedef struct sweep {
    const up_cpu *cpu;
    up_view x[4];
    int64_t cols, across; /* of a piece, pieces side by side */
    up_cpu_adamw adamw;
    double *parts;
    int64_t pieces;
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

static sweep over(up_backend *b, up_view x) {
    sweep t = {.cpu = up_cpu_of(b), .x = {flat(x)}};
    t.across = up_most(1, (t.x[0].cols + PIECE - 1) / PIECE);
    t.pieces = t.across * t.x[0].rows;
    return t;
}

/* Where piece's elements of x[index] begin, and how many they are. */
static float *part(const sweep *t, int64_t piece, int index, int64_t *count) {
    int64_t first = piece % t->across * PIECE;
    *count = up_least(PIECE, t->x[index].cols - first);
    return up_rows_from(t->x[index], piece / t->across).p + first;
}

static void zero_piece(const void *context, int64_t piece, int thread) {
    const sweep *t = context;
    int64_t n;
    float *x = part(t, piece, 0, &n);
    (void)thread;
    t->cpu->kernels.zero(n, x);
}

/* Zeroing f32 is what happens each step; all else is the reference's. */
static up_status fill(up_backend *b, up_view dst, double value) {
    if (value != 0 || dst.dtype != UP_F32) return up_ref_ops()->fill(b, dst, value);
    sweep t = over(b, dst);
    up_cpu_for(t.cpu, t.pieces, zero_piece, &t);
    return UP_OK;
}

static void sqnorm_piece(const void *context, int64_t piece, int thread) {
    const sweep *t = context;
    int64_t n, each = (t->pieces + UP_CPU_PARTS - 1) / UP_CPU_PARTS;
    double sum = 0;
    (void)thread;
    for (int64_t i = piece * each; i < (piece + 1) * each && i < t->pieces; i++) {
        const float *x = part(t, i, 0, &n);
        sum += t->cpu->kernels.dot(n, x, x);
    }
    t->parts[piece] = sum;
}

static up_status sqnorm(up_backend *b, const up_sqnorm_args *a) {
    sweep t = over(b, a->x);
    double parts[UP_CPU_PARTS] = {0}, sum = (double)up_f32(a->out)[0];
    t.parts = parts;
    up_cpu_for(t.cpu, UP_CPU_PARTS, sqnorm_piece, &t);
    for (int i = 0; i < UP_CPU_PARTS; i++) sum += parts[i];
    up_f32(a->out)[0] = (float)sum;
    return UP_OK;
}

static void adamw_piece(const void *context, int64_t piece, int thread) {
    const sweep *t = context;
    int64_t n;
    float *x[4];
    (void)thread;
    for (int i = 0; i < 4; i++) x[i] = part(t, piece, i, &n);
    t->cpu->kernels.adamw(n, x[0], x[1], x[2], x[3], &t->adamw);
}

static up_status adamw(up_backend *b, const up_adamw_args *a) {
    double clip = 1;
    if (up_view_present(a->sqnorm)) {
        double square = (double)up_f32(a->sqnorm)[0];
        if (!isfinite(square)) return UP_OK; /* the step is skipped */
        if (a->max_norm > 0) clip = fmin(1, a->max_norm / (sqrt(square) + 1e-6));
    }
    sweep t = over(b, a->param);
    up_view all[] = {a->param, a->grad, a->m, a->v};
    int dense = 1;
    for (int i = 0; i < 4; i++) dense &= all[i].stride == all[i].cols;
    for (int i = 0; i < 4; i++) t.x[i] = dense ? flat(all[i]) : all[i];
    t.across = up_most(1, (t.x[0].cols + PIECE - 1) / PIECE);
    t.pieces = t.across * t.x[0].rows;
    t.adamw = (up_cpu_adamw){.clip = (float)clip,
                             .lr = (float)a->lr,
                             .beta1 = (float)a->beta1,
                             .beta2 = (float)a->beta2,
                             .rest1 = (float)(1 - a->beta1),
                             .rest2 = (float)(1 - a->beta2),
                             .eps = (float)a->eps,
                             .decay = (float)a->decay,
                             .scale1 = (float)(1 / a->correction1),
                             .scale2 = (float)(1 / a->correction2)};
    up_cpu_for(t.cpu, t.pieces, adamw_piece, &t);
    return UP_OK;
}

void up_cpu_fill_update(up_backend_ops *ops) {
    ops->fill = fill;
    ops->sqnorm = sqnorm;
    ops->adamw = adamw;
}
