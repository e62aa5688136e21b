/* loss.c - similarities over the temperature and softmax cross-entropy (paper equations 2 and 3). */
#include "backend_cpu/cpu.h"

#include <math.h>

static double clamped(up_view log_scale) {
    return fmin(exp((double)up_f32(log_scale)[0]), UP_MAX_LOGIT_SCALE);
}

static up_status logits(up_backend *b, const up_logits_args *a) {
    up_cpu_matmul(up_cpu_of(b), 0, 1, (float)clamped(a->log_scale), a->a, a->b, 0, a->z);
    return up_cpu_finish(up_cpu_of(b));
}

/* Some rows of a loss, and for the gradient of the temperature one sum each. */
typedef struct rows {
    const up_cpu *cpu;
    const void *args;
    int64_t rows;
    double *parts;
} rows;

static void scale_piece(const void *context, int64_t piece, int thread) {
    const rows *t = context;
    const up_logits_grad *a = t->args;
    (void)thread;
    double sum = 0;
    for (int64_t q = piece * t->rows; q < (piece + 1) * t->rows && q < a->a.rows; q++)
        sum += t->cpu->kernels.dot(a->a.cols, up_rows_from(a->a, q).p, up_rows_from(a->da, q).p);
    t->parts[piece] = sum;
}

/* z = scale a b', scale = exp(log_scale): da = scale dz b, db = scale dz' a, dlog_scale += sum of dz z
 * = sum of da a, unless clamped */
static up_status logits_bwd(up_backend *b, const up_logits_grad *a) {
    up_cpu *cpu = up_cpu_of(b);
    float scale = (float)clamped(a->log_scale);
    if (up_view_present(a->da)) up_cpu_matmul(cpu, 0, 0, scale, a->dz, a->b, 0, a->da);
    if (up_view_present(a->db)) up_cpu_matmul(cpu, 1, 0, scale, a->dz, a->a, 0, a->db);
    if (up_view_present(a->dlog_scale) && exp((double)up_f32(a->log_scale)[0]) <= UP_MAX_LOGIT_SCALE) {
        double parts[UP_CPU_PARTS];
        rows t = {cpu, a, up_cpu_part_rows(a->a.rows), parts};
        int64_t count = (a->a.rows + t.rows - 1) / t.rows;
        double sum = (double)up_f32(a->dlog_scale)[0];
        up_cpu_for(cpu, count, scale_piece, &t);
        for (int64_t i = 0; i < count; i++) sum += parts[i];
        up_f32(a->dlog_scale)[0] = (float)sum;
    }
    return up_cpu_finish(cpu);
}

/* The index of row q's target, and *soft where it is a row of probabilities. */
static int32_t target_of(const up_cpu *cpu, up_view targets, up_view soft, int64_t q, const float **row) {
    int32_t index = up_view_present(targets) ? *up_numbers_from(targets, q).p : -1;
    *row = up_view_present(soft) ? up_rows_from(soft, q).p : NULL;
    if (*row && !up_view_present(targets)) index = (int32_t)cpu->kernels.first_largest(soft.cols, *row);
    return index;
}

static void xent_piece(const void *context, int64_t piece, int thread) {
    const rows *t = context;
    const up_xent_args *a = t->args;
    (void)thread;
    for (int64_t q = piece * t->rows; q < (piece + 1) * t->rows && q < a->z.rows; q++) {
        const float *soft;
        int32_t target = target_of(t->cpu, a->targets, a->soft, q, &soft);
        t->cpu->kernels.xent(a->z.cols, up_rows_from(a->z, q).p, target, soft, a->smoothing,
                             up_rows_from(a->loss, q).p, up_rows_from(a->lse, q).p,
                             up_rows_from(a->correct, q).p);
    }
}

static void xent_bwd_piece(const void *context, int64_t piece, int thread) {
    const rows *t = context;
    const up_xent_grad *a = t->args;
    (void)thread;
    for (int64_t q = piece * t->rows; q < (piece + 1) * t->rows && q < a->z.rows; q++) {
        const float *soft;
        int32_t target = target_of(t->cpu, a->targets, a->soft, q, &soft);
        t->cpu->kernels.xent_bwd(a->z.cols, up_rows_from(a->z, q).p, target, soft, a->smoothing,
                                 *up_rows_from(a->lse, q).p, a->weight, up_rows_from(a->dz, q).p);
    }
}

static up_status by_rows(up_backend *b, const void *args, int64_t total, up_cpu_body body) {
    rows t = {up_cpu_of(b), args, 8, NULL};
    up_cpu_for(t.cpu, (total + t.rows - 1) / t.rows, body, &t);
    return UP_OK;
}

static up_status xent(up_backend *b, const up_xent_args *a) {
    return by_rows(b, a, a->z.rows, xent_piece);
}

static up_status xent_bwd(up_backend *b, const up_xent_grad *a) {
    return by_rows(b, a, a->z.rows, xent_bwd_piece);
}

void up_cpu_fill_loss(up_backend_ops *ops) {
    ops->logits = logits;
    ops->logits_bwd = logits_bwd;
    ops->xent = xent;
    ops->xent_bwd = xent_bwd;
}
