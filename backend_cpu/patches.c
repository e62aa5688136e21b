/* patches.c - y = W patch + b + P_space[cell] + P_time[frame] + V and its backward pass. Pixels that come as
 * bytes become values piece by piece, in scratch. Paper section 3.1; formulas in uniperceiver/backend.h. */
#include "backend_cpu/cpu.h"

/* Rows of bytes that are values at one time: in the forward pass a piece, in the backward pass a lot, for
 * each of which the weight's gradient is gone through once. */
enum { LOT_ROWS = 2048 };

typedef struct patches {
    up_cpu *cpu;
    const up_patch_embed_args *a;
    int64_t rows;
} patches;

/* The values of some rows: where they lie, or looked up. */
static up_rows values_of(const up_cpu *cpu, up_view patches, up_view levels, int64_t first, int64_t count,
                         float *space) {
    if (patches.dtype == UP_F32) return up_rows_from(patches, first);
    cpu->kernels.look_up(count, patches.cols, up_bytes_from(patches, first), patches.stride,
                         up_rows_of(levels), space);
    return (up_rows){space, patches.cols};
}

static void patch_piece(const void *context, int64_t piece, int thread) {
    const patches *t = context;
    const up_patch_embed_args *a = t->a;
    int64_t i = piece * t->rows, n = up_least(t->rows, a->y.rows - i), c = a->patches.cols;
    int timed = up_view_present(a->time) && up_view_present(a->frames);
    float *space = a->patches.dtype == UP_F32 ? NULL : up_scratch_of(a->scratch) + thread * t->rows * c;
    up_rows y = up_rows_from(a->y, i), x = values_of(t->cpu, a->patches, a->levels, i, n, space);
    up_cpu_product(t->cpu, thread, 0, 1, n, a->y.cols, c, 1, x.p, x.ld, up_f32(a->weight), a->weight.stride,
                   0, y);
    t->cpu->kernels.place(n, a->y.cols, up_numbers_from(a->cells, i),
                          timed ? up_numbers_from(a->frames, i) : (up_numbers){NULL, 0}, up_rows_of(a->space),
                          timed ? up_rows_of(a->time) : (up_rows){NULL, 0}, up_f32(a->type), up_f32(a->bias),
                          y);
}

up_status up_cpu_patch_embed(up_cpu *cpu, const void *args) {
    const up_patch_embed_args *a = args;
    patches t = {cpu, a, up_cpu_piece_rows(cpu, a->y.rows)};
    up_cpu_for(cpu, (a->y.rows + t.rows - 1) / t.rows, patch_piece, &t);
    return up_cpu_finish(cpu);
}

/* ---- backward ---- */

/* Every piece owns some columns of all but the weight and goes through all rows. */
static void places_piece(const void *context, int64_t piece, int thread) {
    const up_patch_embed_grad *a = ((const up_cpu_call *)context)->args;
    const up_cpu_kernels *k = &((const up_cpu_call *)context)->cpu->kernels;
    (void)thread;
    int64_t j = piece * UP_CPU_COLUMNS, d = up_least(UP_CPU_COLUMNS, a->dy.cols - j), n = a->dy.rows;
    up_rows dy = up_rows_of(up_view_cols(a->dy, j, d));
    if (up_view_present(a->dspace))
        k->scatter_add(n, d, up_numbers_from(a->cells, 0), dy, up_rows_of(up_view_cols(a->dspace, j, d)));
    if (up_view_present(a->dtime) && up_view_present(a->frames))
        k->scatter_add(n, d, up_numbers_from(a->frames, 0), dy, up_rows_of(up_view_cols(a->dtime, j, d)));
    if (up_view_present(a->dtype)) k->column_sums(n, d, dy, up_f32(a->dtype) + j);
    if (up_view_present(a->dbias)) k->column_sums(n, d, dy, up_f32(a->dbias) + j);
}

typedef struct lot {
    const up_cpu *cpu;
    const up_patch_embed_grad *a;
    int64_t first, count;
} lot;

enum { LOOK_ROWS = 64 };

static void look_piece(const void *context, int64_t piece, int thread) {
    const lot *t = context;
    const up_patch_embed_grad *a = t->a;
    int64_t i = piece * LOOK_ROWS, n = up_least(LOOK_ROWS, t->count - i);
    (void)thread;
    values_of(t->cpu, a->patches, a->levels, t->first + i, n,
              up_scratch_of(a->scratch) + i * a->patches.cols);
}

/* dW += dy' patches, by lots of rows where the patches are bytes */
static void weight_bwd(up_cpu *cpu, const up_patch_embed_grad *a) {
    up_view none = {0}, space = a->scratch;
    if (a->patches.dtype == UP_F32) {
        up_cpu_matmul(cpu, 1, 0, 1, a->dy, a->patches, 1, none, a->dweight);
        return;
    }
    space.offset = space.offset * (int64_t)up_dtype_size(space.dtype) / (int64_t)sizeof(float);
    for (int64_t first = 0; first < a->dy.rows; first += LOT_ROWS) {
        lot t = {cpu, a, first, up_least(LOT_ROWS, a->dy.rows - first)};
        up_cpu_for(cpu, (t.count + LOOK_ROWS - 1) / LOOK_ROWS, look_piece, &t);
        up_cpu_matmul(cpu, 1, 0, 1, up_view_rows(a->dy, first, t.count),
                      up_view_at(space.buffer, UP_F32, space.offset, t.count, a->patches.cols), 1, none,
                      a->dweight);
    }
}

up_status up_cpu_patch_embed_bwd(up_cpu *cpu, const void *args) {
    const up_patch_embed_grad *a = args;
    if (up_view_present(a->dweight)) weight_bwd(cpu, a);
    if (up_view_present(a->dspace) || up_view_present(a->dtime) || up_view_present(a->dtype) ||
        up_view_present(a->dbias))
        up_cpu_for(cpu, (a->dy.cols + UP_CPU_COLUMNS - 1) / UP_CPU_COLUMNS, places_piece,
                   &(up_cpu_call){cpu, a});
    return up_cpu_finish(cpu);
}

size_t up_cpu_patch_embed_scratch(const up_cpu *cpu, const up_op_dims *dims) {
    int64_t forward = up_cpu_piece_rows(cpu, dims->rows) * cpu->threads;
    int64_t backward = up_least(dims->rows, LOT_ROWS);
    return (size_t)(up_most(forward, backward) * dims->in) * sizeof(float);
}
