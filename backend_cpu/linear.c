/* linear.c - y = act(x W' + b) and the patch projection: products by pieces of rows, the epilogue on each
 * piece while it is in the cache. Paper section 3.1; formulas in uniperceiver/backend.h. */
#include "backend_cpu/cpu.h"

#include <string.h>

typedef struct forward {
    up_cpu *cpu;
    const up_linear_args *a;
    int64_t rows, cols, across; /* of a piece, pieces side by side */
} forward;

static void forward_piece(const void *context, int64_t piece, int thread) {
    const forward *t = context;
    const up_linear_args *a = t->a;
    int64_t i = piece / t->across * t->rows, j = piece % t->across * t->cols;
    int64_t n = up_least(t->rows, a->y.rows - i), d = up_least(t->cols, a->y.cols - j);
    up_rows y = up_rows_from(up_view_cols(a->y, j, d), i), pre = {NULL, 0}, to = y;
    const float *bias = up_view_present(a->bias) ? up_f32(a->bias) + j : NULL;
    int gelu = a->activation == UP_ACT_GELU;
    if (up_view_present(a->pre)) to = pre = up_rows_from(up_view_cols(a->pre, j, d), i);
    up_cpu_product(t->cpu, thread, 0, 1, n, d, a->x.cols, 1, up_rows_from(a->x, i).p, a->x.stride,
                   up_rows_from(a->weight, j).p, a->weight.stride, 0, to);
    if (gelu || bias || pre.p) t->cpu->kernels.bias_act(n, d, gelu, to, bias, pre, y);
}

/* Pieces of rows; where there are few rows (decoding), of columns too. Large weights are packed once a piece
 * by the library, so their pieces are longer. */
static up_status linear(up_backend *b, const up_linear_args *a) {
    forward t = {up_cpu_of(b), a, 0, up_most(1, a->y.cols), 1};
    int64_t threads = t.cpu->threads, each = a->y.cols * a->x.cols > 200000 ? 2 : 4;
    int64_t even = (a->y.rows + each * threads - 1) / (each * threads);
    t.rows = up_least(512, up_most(64, (even + 15) / 16 * 16));
    if (threads > 1 && a->y.rows <= 64) {
        t.cols = up_most(64, (a->y.cols / (2 * threads) + 31) / 32 * 32);
        t.across = up_most(1, (a->y.cols + t.cols - 1) / t.cols);
    }
    up_cpu_for(t.cpu, (a->y.rows + t.rows - 1) / t.rows * t.across, forward_piece, &t);
    return up_cpu_finish(t.cpu);
}

/* ---- backward ---- */
typedef struct backward {
    up_cpu *cpu;
    up_view x, weight, pre, dy, dx;
    int gelu;
    float *dbias, *parts; /* [O], [parts, O]; parts is NULL where there is no bias gradient */
    int64_t rows;
} backward;

/* dy = dy gelu'(pre);  part = sum of dy;  dx = dy W */
static void backward_piece(const void *context, int64_t piece, int thread) {
    const backward *t = context;
    const up_cpu_kernels *k = &t->cpu->kernels;
    int64_t i = piece * t->rows, n = up_least(t->rows, t->dy.rows - i), d = t->dy.cols;
    up_rows dy = up_rows_from(t->dy, i);
    if (t->gelu) k->gelu_bwd(n, d, up_rows_from(t->pre, i), dy);
    if (t->parts) {
        up_cpu_begin_part(piece, d, t->dbias, t->parts + piece * d);
        k->column_sums(n, d, (up_numbers){NULL, 0}, dy, t->parts + piece * d);
    }
    if (up_view_present(t->dx))
        up_cpu_product(t->cpu, thread, 0, 0, n, t->dx.cols, d, 1, dy.p, dy.ld, up_f32(t->weight),
                       t->weight.stride, 0, up_rows_from(t->dx, i));
}

static void products_bwd(backward *t, up_view dweight, up_view dbias, up_view scratch) {
    int64_t rows = t->dy.rows, pieces;
    t->rows = up_cpu_part_rows(rows);
    pieces = (rows + t->rows - 1) / t->rows;
    t->dbias = up_f32(dbias);
    t->parts = t->dbias ? up_scratch_of(scratch) : NULL;
    if (t->gelu || t->parts || up_view_present(t->dx)) up_cpu_for(t->cpu, pieces, backward_piece, t);
    if (t->parts) up_cpu_sum_parts(t->parts, pieces, t->dy.cols, t->dy.cols, t->dbias);
    if (up_view_present(dweight)) up_cpu_matmul(t->cpu, 1, 0, 1, t->dy, t->x, 1, dweight); /* dW += dy' x */
}

static up_status linear_bwd(up_backend *b, const up_linear_grad *a) {
    backward t = {.cpu = up_cpu_of(b),
                  .x = a->x,
                  .weight = a->weight,
                  .pre = a->pre,
                  .dy = a->dy,
                  .dx = a->dx,
                  .gelu = a->activation == UP_ACT_GELU};
    products_bwd(&t, a->dweight, a->dbias, a->scratch);
    return up_cpu_finish(t.cpu);
}

/* ---- patches: y = W patch + b + P_space[cell] + P_time[frame] + V ---- */
typedef struct patches {
    up_cpu *cpu;
    const up_patch_embed_args *a;
    int64_t rows;
} patches;

static void patch_piece(const void *context, int64_t piece, int thread) {
    const patches *t = context;
    const up_patch_embed_args *a = t->a;
    int64_t i = piece * t->rows, n = up_least(t->rows, a->y.rows - i);
    int timed = up_view_present(a->time) && up_view_present(a->frames);
    up_rows y = up_rows_from(a->y, i);
    up_cpu_product(t->cpu, thread, 0, 1, n, a->y.cols, a->patches.cols, 1, up_rows_from(a->patches, i).p,
                   a->patches.stride, up_f32(a->weight), a->weight.stride, 0, y);
    t->cpu->kernels.place(n, a->y.cols, up_numbers_from(a->cells, i),
                          timed ? up_numbers_from(a->frames, i) : (up_numbers){NULL, 0}, up_rows_of(a->space),
                          timed ? up_rows_of(a->time) : (up_rows){NULL, 0}, up_f32(a->type), up_f32(a->bias),
                          y);
}

static up_status patch_embed(up_backend *b, const up_patch_embed_args *a) {
    patches t = {up_cpu_of(b), a, 0};
    t.rows = up_cpu_piece_rows(t.cpu, a->y.rows);
    up_cpu_for(t.cpu, (a->y.rows + t.rows - 1) / t.rows, patch_piece, &t);
    return up_cpu_finish(t.cpu);
}

/* The tables' gradients: every piece owns some columns and goes through all rows. */
enum { COLUMNS = 32 };

typedef struct places {
    const up_cpu *cpu;
    const up_patch_embed_grad *a;
} places;

static void places_piece(const void *context, int64_t piece, int thread) {
    const places *t = context;
    const up_patch_embed_grad *a = t->a;
    (void)thread;
    int64_t j = piece * COLUMNS, d = up_least(COLUMNS, a->dy.cols - j), n = a->dy.rows;
    up_rows dy = up_rows_of(up_view_cols(a->dy, j, d));
    const up_cpu_kernels *k = &t->cpu->kernels;
    if (up_view_present(a->dspace))
        k->scatter_add(n, d, up_numbers_from(a->cells, 0), dy, up_rows_of(up_view_cols(a->dspace, j, d)));
    if (up_view_present(a->dtime) && up_view_present(a->frames))
        k->scatter_add(n, d, up_numbers_from(a->frames, 0), dy, up_rows_of(up_view_cols(a->dtime, j, d)));
    if (up_view_present(a->dtype)) k->column_sums(n, d, (up_numbers){NULL, 0}, dy, up_f32(a->dtype) + j);
}

static up_status patch_embed_bwd(up_backend *b, const up_patch_embed_grad *a) {
    backward t = {.cpu = up_cpu_of(b), .x = a->patches, .dy = a->dy};
    products_bwd(&t, a->dweight, a->dbias, a->scratch);
    if (up_view_present(a->dspace) || up_view_present(a->dtime) || up_view_present(a->dtype))
        up_cpu_for(t.cpu, (a->dy.cols + COLUMNS - 1) / COLUMNS, places_piece, &(places){t.cpu, a});
    return up_cpu_finish(t.cpu);
}

void up_cpu_fill_linear(up_backend_ops *ops) {
    ops->linear = linear;
    ops->linear_bwd = linear_bwd;
    ops->patch_embed = patch_embed;
    ops->patch_embed_bwd = patch_embed_bwd;
}
