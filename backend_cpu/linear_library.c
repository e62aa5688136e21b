/* linear_library.c - y = act(x W' + b) of f32, forward and backward, with a library's products (UP_CPU_GEMM):
 * by pieces of rows, what else is done with a piece beside its product. Formulas in uniperceiver/backend.h.
 */
#include "backend_cpu/cpu.h"

typedef struct forward {
    up_cpu *cpu;
    const up_linear_args *a;
    int64_t rows, cols, across; /* of a piece, pieces side by side */
} forward;

static void forward_piece(const void *context, int64_t piece, int thread) {
    const forward *t = context;
    (void)thread;
    const up_linear_args *a = t->a;
    int64_t i = piece / t->across * t->rows, j = piece % t->across * t->cols;
    int64_t n = up_least(t->rows, a->y.rows - i), d = up_least(t->cols, a->y.cols - j);
    up_rows y = up_rows_from(up_view_cols(a->y, j, d), i), pre = {NULL, 0}, to = y;
    const float *bias = up_view_present(a->bias) ? up_f32(a->bias) + j : NULL;
    int gelu = a->activation == UP_ACT_GELU;
    if (up_view_present(a->pre)) to = pre = up_rows_from(up_view_cols(a->pre, j, d), i);
    up_cpu_product(t->cpu, 0, 1, n, d, a->x.cols, 1, up_rows_from(a->x, i).p, a->x.stride,
                   up_rows_from(a->weight, j).p, a->weight.stride, 0, to);
    if (gelu || bias || pre.p) t->cpu->kernels.bias_act(n, d, gelu, to, bias, pre, y);
}

/* Large weights are packed once a piece by the product's library, so their pieces are longer. */
static int64_t product_rows(const up_cpu *cpu, int64_t rows, up_view weight) {
    int64_t each = (weight.rows * weight.cols > 200000 ? 2 : 4) * (int64_t)cpu->threads;
    return up_least(512, up_most(64, ((rows + each - 1) / each + 15) / 16 * 16));
}

/* Pieces of rows; where there are few rows (decoding), of columns too. */
up_status up_cpu_linear_library(up_cpu *cpu, const up_linear_args *a) {
    forward t = {cpu, a, product_rows(cpu, a->y.rows, a->weight), up_most(1, a->y.cols), 1};
    if (cpu->threads > 1 && a->y.rows <= 64) {
        t.cols = up_most(64, (a->y.cols / (2 * cpu->threads) + 31) / 32 * 32);
        t.across = up_most(1, (a->y.cols + t.cols - 1) / t.cols);
    }
    up_cpu_for(cpu, (a->y.rows + t.rows - 1) / t.rows * t.across, forward_piece, &t);
    return up_cpu_finish(cpu);
}

/* ---- backward ---- */
typedef struct backward {
    up_cpu *cpu;
    const up_linear_grad *a;
    float *parts;            /* [parts, O]; NULL where there is no bias gradient */
    int64_t part_rows, rows; /* of a part; of a piece, which is one part or several */
} backward;

/* dy = dy gelu'(pre);  part = sum of dy */
static void backward_part(const backward *t, int64_t part) {
    const up_linear_grad *a = t->a;
    const up_cpu_kernels *k = &t->cpu->kernels;
    int64_t i = part * t->part_rows, n = up_least(t->part_rows, a->dy.rows - i), d = a->dy.cols;
    up_rows dy = up_rows_from(a->dy, i);
    if (a->activation == UP_ACT_GELU) k->gelu_bwd(n, d, up_rows_from(a->pre, i), dy);
    if (!t->parts) return;
    up_cpu_begin_part(part, d, up_f32(a->dbias), t->parts + part * d);
    k->column_sums(n, d, dy, t->parts + part * d);
}

/* dx = dy W */
static void backward_piece(const void *context, int64_t piece, int thread) {
    const backward *t = context;
    (void)thread;
    const up_linear_grad *a = t->a;
    int64_t i = piece * t->rows, n = up_least(t->rows, a->dy.rows - i);
    if (a->activation == UP_ACT_GELU || t->parts)
        for (int64_t row = i; row < i + n; row += t->part_rows) backward_part(t, row / t->part_rows);
    if (up_view_present(a->dx))
        up_cpu_product(t->cpu, 0, 0, n, a->dx.cols, a->dy.cols, 1, up_rows_from(a->dy, i).p, a->dy.stride,
                       up_f32(a->weight), a->weight.stride, 0, up_rows_from(a->dx, i));
}

up_status up_cpu_linear_library_bwd(up_cpu *cpu, const up_linear_grad *a) {
    backward t = {.cpu = cpu, .a = a, .part_rows = up_cpu_part_rows(a->dy.rows)};
    int64_t rows = a->dy.rows, wanted = product_rows(cpu, rows, a->weight);
    t.rows = (wanted + t.part_rows - 1) / t.part_rows * t.part_rows;
    if (up_view_present(a->dbias)) t.parts = up_scratch_of(a->scratch);
    if (a->activation == UP_ACT_GELU || t.parts || up_view_present(a->dx))
        up_cpu_for(cpu, (rows + t.rows - 1) / t.rows, backward_piece, &t);
    if (t.parts)
        up_cpu_sum_parts(t.parts, (rows + t.part_rows - 1) / t.part_rows, a->dy.cols, a->dy.cols,
                         up_f32(a->dbias));
    if (up_view_present(a->dweight)) /* dW += dy' x */
        up_cpu_matmul(cpu, 1, 0, 1, a->dy, a->x, 1, (up_view){0}, a->dweight);
    return up_cpu_finish(cpu);
}
