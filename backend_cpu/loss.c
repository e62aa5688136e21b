/* loss.c - similarities over the temperature and softmax cross-entropy (paper equations 2 to 4), by tiles of
 * targets. */
#include "backend_cpu/cpu.h"

#include <math.h>
#include <string.h>

/* alpha min(exp(log_scale), 100) */
static double factor_of(up_view log_scale, up_view alpha) {
    return up_scalar(alpha, 1) * fmin(exp(up_scalar(log_scale, 0)), UP_MAX_LOGIT_SCALE);
}

up_status up_cpu_logits(up_cpu *cpu, const void *args) {
    const up_logits_args *a = args;
    float factor = (float)factor_of(a->log_scale, a->alpha);
    up_cpu_matmul(cpu, 0, 1, factor, a->a, a->b, a->add, a->bias, a->z);
    return up_cpu_finish(cpu);
}

/* z = alpha scale a b': the factor of da is left for the end, so that alpha and log_scale find sum da a. */
up_status up_cpu_logits_bwd(up_cpu *cpu, const void *args) {
    const up_logits_grad *a = args;
    float factor = (float)factor_of(a->log_scale, a->alpha);
    up_view none = {0};
    if (up_view_present(a->da)) up_cpu_matmul(cpu, 0, 0, 1, a->dz, a->b, a->add_a, none, a->da);
    if (up_view_present(a->db)) up_cpu_matmul(cpu, 1, 0, factor, a->dz, a->a, a->add_b, none, a->db);
    return up_cpu_finish(cpu);
}

/* Some rows, and one sum of each piece. */
typedef struct rows {
    const up_cpu *cpu;
    const void *args;
    int64_t rows;
    double parts[UP_CPU_PARTS];
    float factor;
} rows;

/* part = sum of da a;  sum (+)= factor da */
static void scale_piece(const void *context, int64_t piece, int thread) {
    rows *t = (rows *)context; /* every piece has its part */
    const up_logits_scale_grad *a = t->args;
    const up_cpu_kernels *k = &t->cpu->kernels;
    (void)thread;
    double part = 0;
    for (int64_t q = piece * t->rows; q < (piece + 1) * t->rows && q < a->da.rows; q++) {
        const float *da = up_rows_from(a->da, q).p;
        part += k->dot(a->da.cols, up_rows_from(a->a, q).p, da);
        if (up_view_present(a->sum)) k->scale(a->da.cols, t->factor, da, a->add, up_rows_from(a->sum, q).p);
    }
    t->parts[piece] = part;
}

/* With s = sum of da a: dlog_scale += alpha scale s, unless the scale is clamped, and dalpha += scale s. */
up_status up_cpu_logits_scale_bwd(up_cpu *cpu, const void *args) {
    const up_logits_scale_grad *a = args;
    double alpha = up_scalar(a->alpha, 1), scale = factor_of(a->log_scale, (up_view){0}), s = 0;
    rows t = {.cpu = cpu, .args = a, .rows = up_cpu_part_rows(a->da.rows), .factor = (float)(alpha * scale)};
    int64_t count = (a->da.rows + t.rows - 1) / t.rows;
    up_cpu_for(cpu, count, scale_piece, &t);
    for (int64_t i = 0; i < count; i++) s += t.parts[i];
    if (up_view_present(a->dlog_scale) && exp(up_scalar(a->log_scale, 0)) <= UP_MAX_LOGIT_SCALE)
        *up_f32(a->dlog_scale) = (float)(up_scalar(a->dlog_scale, 0) + alpha * scale * s);
    if (up_view_present(a->dalpha)) *up_f32(a->dalpha) = (float)(up_scalar(a->dalpha, 0) + scale * s);
    return UP_OK;
}

/* ---- cross-entropy ---- */
enum { ROWS = 8 }; /* of a piece */

/* Row q of what is true in the columns first..first + *n - 1 of a tile; those behind *n do not count. */
static up_cpu_truth truth_of(const up_truth *t, int64_t q, int64_t first, int64_t *n) {
    up_cpu_truth row = {.index = {-1, -1}, .smoothing = t->smoothing};
    int64_t pairs = up_view_present(t->index) && !up_view_present(t->soft) ? t->index.cols : 0;
    if (up_view_present(t->columns)) *n = up_least(*n, up_most(0, up_i32(t->columns)[0] - first));
    for (int64_t k = 0; k < pairs; k++) {
        row.index[k] = (up_i32(t->index) + q * t->index.stride)[k] - first;
        row.share[k] = up_view_present(t->share) ? up_rows_from(t->share, q).p[k] : 1;
    }
    if (up_view_present(t->soft)) row.soft = up_rows_from(t->soft, q).p + first;
    if (up_view_present(t->group_x) && up_view_present(t->group_y)) {
        row.group = *up_numbers_from(t->group_x, q).p;
        row.groups_ld = t->group_y.stride;
        if (row.group >= 0) row.groups = up_numbers_from(t->group_y, first).p;
    }
    return row;
}

static int left_out(const up_truth *t, int64_t q) {
    return up_view_present(t->index) && up_i32(t->index)[q * t->index.stride] < 0;
}

/* The target that a right answer names. */
static int64_t answer(const up_cpu *cpu, const up_truth *t, int64_t q) {
    if (!up_view_present(t->soft)) return up_i32(t->index)[q * t->index.stride];
    int64_t n = t->soft.cols;
    if (up_view_present(t->columns)) n = up_least(n, up_i32(t->columns)[0]);
    return cpu->kernels.first_largest(n, up_rows_from(t->soft, q).p);
}

/* loss = lse - sum over j of ((1 - e) share[j] + e / C) z[j] */
static void finish_row(const up_cpu *cpu, const up_xent_args *a, int64_t q, const float *state) {
    double e = (double)a->truth.smoothing, log_sum = log((double)state[UP_XENT_SUM]);
    double max = (double)state[UP_XENT_MAX], right = (double)state[UP_XENT_TRUE];
    double loss = max + log_sum - (1 - e) * right;
    if (e != 0) loss -= e / (double)state[UP_XENT_COUNT] * (double)state[UP_XENT_TOTAL];
    *up_rows_from(a->loss, q).p = left_out(&a->truth, q) ? 0 : (float)loss;
    *up_rows_from(a->lse, q).p = (float)(max + log_sum);
    if (up_view_present(a->correct))
        *up_rows_from(a->correct, q).p =
            !left_out(&a->truth, q) && state[UP_XENT_BEST] == (float)answer(cpu, &a->truth, q);
}

static void xent_piece(const void *context, int64_t piece, int thread) {
    static const float start[UP_XENT_FIELDS] = {[UP_XENT_MAX] = -INFINITY, [UP_XENT_BEST] = -1};
    const up_cpu *cpu = ((const up_cpu_call *)context)->cpu;
    const up_xent_args *a = ((const up_cpu_call *)context)->args;
    (void)thread;
    for (int64_t q = piece * ROWS; q < (piece + 1) * ROWS && q < a->z.rows; q++) {
        int64_t n = a->z.cols;
        up_cpu_truth truth = truth_of(&a->truth, q, a->first, &n);
        float *state = up_rows_from(a->state, q).p;
        for (int i = 0; a->begin && i < UP_XENT_FIELDS; i++) state[i] = start[i];
        cpu->kernels.xent(n, a->first, up_rows_from(a->z, q).p, &truth, state);
        if (a->end) finish_row(cpu, a, q, state);
    }
}

up_status up_cpu_xent(up_cpu *cpu, const void *args) {
    const up_xent_args *a = args;
    up_cpu_for(cpu, (a->z.rows + ROWS - 1) / ROWS, xent_piece, &(up_cpu_call){cpu, a});
    return UP_OK;
}

/* dz = weight (P - q), 0 for what does not count */
static void xent_bwd_piece(const void *context, int64_t piece, int thread) {
    const up_cpu *cpu = ((const up_cpu_call *)context)->cpu;
    const up_xent_grad *a = ((const up_cpu_call *)context)->args;
    float weight = (float)((double)a->weight * up_scalar(a->scale, 1));
    (void)thread;
    for (int64_t q = piece * ROWS; q < (piece + 1) * ROWS && q < a->z.rows; q++) {
        int64_t n = a->z.cols;
        up_cpu_truth truth = truth_of(&a->truth, q, a->first, &n);
        float *dz = up_rows_from(a->dz, q).p;
        if (left_out(&a->truth, q)) n = 0;
        const float *state = up_rows_from(a->state, q).p;
        cpu->kernels.xent_bwd(n, up_rows_from(a->z, q).p, &truth, state[UP_XENT_COUNT], state[UP_XENT_MAX],
                              state[UP_XENT_SUM], weight, dz);
        memset(dz + n, 0, (size_t)(a->z.cols - n) * sizeof *dz);
    }
}

up_status up_cpu_xent_bwd(up_cpu *cpu, const void *args) {
    const up_xent_grad *a = args;
    up_cpu_for(cpu, (a->z.rows + ROWS - 1) / ROWS, xent_bwd_piece, &(up_cpu_call){cpu, a});
    return UP_OK;
}
