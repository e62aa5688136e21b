/* move.c - rows from one place to another and from one element type to another: gather, scatter, cast; and
 * rows of 0. */
#include "backend_cpu/cpu.h"

#include <string.h>

enum { CHUNK = 256 };

/* `count` elements from one view to another, at these rows. */
static void move_row(const up_cpu *cpu, up_view from, int64_t from_row, up_view to, int64_t to_row) {
    up_cpu_convert(cpu, from.cols, from.dtype, up_bytes_from(from, from_row), to.dtype,
                   up_bytes_from(to, to_row));
}

void up_cpu_convert(const up_cpu *cpu, int64_t n, up_dtype from, const void *x, up_dtype to, void *y) {
    if (from == to) {
        memmove(y, x, (size_t)n * up_dtype_size(to));
    } else if (from == UP_F32) {
        cpu->kernels.narrow(n, to, x, y);
    } else if (to == UP_F32) {
        cpu->kernels.widen(n, from, x, y);
    } else {
        float middle[CHUNK];
        for (int64_t j = 0; j < n; j += CHUNK) {
            int64_t count = up_least(CHUNK, n - j);
            cpu->kernels.widen(count, from, (const uint16_t *)x + j, middle);
            cpu->kernels.narrow(count, to, middle, (uint16_t *)y + j);
        }
    }
}

typedef struct move {
    const up_cpu *cpu;
    const void *args;
    int64_t rows; /* of a piece */
} move;

static up_status by_rows(const up_cpu *cpu, const void *args, int64_t rows, up_cpu_body body) {
    move t = {cpu, args, up_cpu_piece_rows(cpu, rows)};
    up_cpu_for(cpu, (rows + t.rows - 1) / t.rows, body, &t);
    return UP_OK;
}

static void cast_piece(const void *context, int64_t piece, int thread) {
    const move *t = context;
    const up_cast_args *a = t->args;
    (void)thread;
    for (int64_t i = piece * t->rows; i < (piece + 1) * t->rows && i < a->x.rows; i++)
        move_row(t->cpu, a->x, i, a->y, i);
}

up_status up_cpu_cast(up_cpu *cpu, const void *args) {
    return by_rows(cpu, args, ((const up_cast_args *)args)->x.rows, cast_piece);
}

static void zero_row(up_view v, int64_t row) {
    memset(up_bytes_from(v, row), 0, (size_t)v.cols * up_dtype_size(v.dtype));
}

static void clear_piece(const void *context, int64_t piece, int thread) {
    const move *t = context;
    const up_view *v = t->args;
    (void)thread;
    for (int64_t i = piece * t->rows; i < (piece + 1) * t->rows && i < v->rows; i++) zero_row(*v, i);
}

up_status up_cpu_clear(up_cpu *cpu, const void *args) {
    return by_rows(cpu, args, ((const up_view *)args)->rows, clear_piece);
}

static void gather_piece(const void *context, int64_t piece, int thread) {
    const move *t = context;
    const up_gather_args *a = t->args;
    (void)thread;
    for (int64_t i = piece * t->rows; i < (piece + 1) * t->rows && i < a->y.rows; i++) {
        int32_t row = *up_numbers_from(a->rows, i).p;
        if (row < 0)
            zero_row(a->y, i);
        else
            move_row(t->cpu, a->x, row, a->y, i);
    }
}

up_status up_cpu_gather(up_cpu *cpu, const void *args) {
    return by_rows(cpu, args, ((const up_gather_args *)args)->y.rows, gather_piece);
}

static void scatter_piece(const void *context, int64_t piece, int thread) {
    const move *t = context;
    const up_scatter_args *a = t->args;
    (void)thread;
    for (int64_t i = piece * t->rows; i < (piece + 1) * t->rows && i < a->x.rows; i++) {
        int32_t row = *up_numbers_from(a->rows, i).p;
        if (row >= 0) move_row(t->cpu, a->x, i, a->y, row);
    }
}

up_status up_cpu_scatter(up_cpu *cpu, const void *args) {
    return by_rows(cpu, args, ((const up_scatter_args *)args)->x.rows, scatter_piece);
}

/* y[i] = x[rows[i]]: dx[rows[i]] += dy[i]. A piece is some rows of dx: it looks for those of dy that belong
 * to them, sums in f32 (where dx is that, in place) and stores. */
static void gather_bwd_piece(const void *context, int64_t piece, int thread) {
    const move *t = context;
    const up_gather_grad *a = t->args;
    const up_cpu *cpu = t->cpu;
    int64_t first = piece * t->rows, n = up_least(t->rows, a->dx.rows - first), d = a->dx.cols;
    int in_place = a->dx.dtype == UP_F32;
    float *spare = up_cpu_spare(cpu, thread), *row = spare + t->rows * d; /* sums [n, d], one row [d] */
    up_rows sum = in_place ? up_rows_from(a->dx, first) : (up_rows){spare, d};
    for (int64_t i = 0; i < n; i++) memset(sum.p + i * sum.ld, 0, (size_t)d * sizeof *sum.p);
    for (int64_t i = 0; i < a->dy.rows; i++) {
        int64_t to = *up_numbers_from(a->rows, i).p - first;
        const float *dy = row;
        if (to < 0 || to >= n) continue;
        if (a->dy.dtype == UP_F32)
            dy = up_rows_from(a->dy, i).p;
        else
            cpu->kernels.widen(d, a->dy.dtype, up_bytes_from(a->dy, i), row);
        cpu->kernels.scale(d, 1, dy, 1, sum.p + to * sum.ld);
    }
    for (int64_t i = 0; !in_place && i < n; i++)
        cpu->kernels.narrow(d, a->dx.dtype, spare + i * d, up_bytes_from(a->dx, first + i));
}

up_status up_cpu_gather_bwd(up_cpu *cpu, const void *args) {
    const up_gather_grad *a = args;
    int64_t even = (a->dx.rows + 4 * cpu->threads - 1) / (4 * cpu->threads);
    move t = {cpu, a, up_most(16, even)};
    if (a->dx.dtype != UP_F32 || a->dy.dtype != UP_F32)
        t.rows = up_most(1, up_least(t.rows, UP_CPU_SPARE / up_most(1, a->dx.cols) - 1));
    up_cpu_for(cpu, (a->dx.rows + t.rows - 1) / t.rows, gather_bwd_piece, &t);
    return UP_OK;
}
