/* patches.c - y = W patch + b + P_space[cell] + P_time[frame] + V and its backward pass. Pixels that come as
 * bytes become values while they are packed. Paper section 3.1; formulas in uniperceiver/backend.h. */
#include "backend_cpu/cpu.h"

enum { LEVELS = 3 * 256 };

/* Patches as an operand; the values of bytes, rounded to the activations' type, go to `levels`. */
static up_cpu_operand patches_of(const up_cpu *cpu, up_view patches, up_view levels, up_dtype dtype,
                                 int turned, float *values) {
    up_cpu_operand x = up_cpu_operand_of(patches, turned);
    if (patches.dtype != UP_U8) return x;
    for (int64_t i = 0; i < LEVELS; i += 256) {
        uint16_t rounded[256];
        const float *from = up_rows_from(levels, i / 256).p;
        up_cpu_convert(cpu, 256, UP_F32, from, dtype, dtype == UP_F32 ? (void *)(values + i) : rounded);
        if (dtype != UP_F32) up_cpu_convert(cpu, 256, dtype, rounded, UP_F32, values + i);
    }
    x.lines.levels = values;
    x.lines.third = patches.cols / 3;
    return x;
}

/* Values of another type than the activations' are multiplied as they are. */
static int pairs_of(const up_cpu *cpu, up_view patches, up_dtype dtype) {
    return up_cpu_pairs(cpu, dtype) && (patches.dtype == UP_U8 || patches.dtype == dtype);
}

static void finish_patches(const up_cpu_rows_product *t, int64_t row, int64_t n, int64_t col, int64_t d,
                           up_rows sums) {
    const up_patch_embed_args *a = t->context;
    int timed = up_view_present(a->time) && up_view_present(a->frames);
    up_rows none = {NULL, 0};
    t->cpu->kernels.place(
        n, d, up_numbers_from(a->cells, row), timed ? up_numbers_from(a->frames, row) : (up_numbers){NULL, 0},
        up_rows_of(up_view_cols(a->space, col, d)), timed ? up_rows_of(up_view_cols(a->time, col, d)) : none,
        up_view_present(a->type) ? up_f32(a->type) + col : NULL,
        up_view_present(a->bias) ? up_f32(a->bias) + col : NULL, sums);
    t->cpu->kernels.finish(n, d, 0, sums, NULL, (int)a->y.dtype, (up_cells){NULL, 0},
                           up_cells_from(a->y, row, col));
}

up_status up_cpu_patch_embed(up_cpu *cpu, const void *args) {
    const up_patch_embed_args *a = args;
    int pairs = pairs_of(cpu, a->patches, a->y.dtype);
    int64_t in = a->patches.cols, out = a->y.cols;
    float *levels = up_scratch_of(a->scratch), *panels = levels + LEVELS;
    if (a->y.rows == 0) return UP_OK;
    up_cpu_operand weight = up_cpu_operand_of(a->weight, 0);
    up_cpu_make_panels(cpu, &weight, out, in, pairs, panels);
    up_cpu_rows_run(&(up_cpu_rows_product){.cpu = cpu,
                                           .cut = up_cpu_cut_rows(cpu, a->y.rows, out),
                                           .x = patches_of(cpu, a->patches, a->levels, a->y.dtype, 0, levels),
                                           .cols = out,
                                           .k = in,
                                           .pairs = pairs,
                                           .panels = panels,
                                           .space = panels + up_cpu_panel_floats(cpu, out, in, pairs),
                                           .to = a->y,
                                           .context = a,
                                           .finish = finish_patches});
    return UP_OK;
}

/* ---- backward ---- */

/* Some rows of some columns of dy, as f32. */
static void add_places(const up_cpu *cpu, const up_patch_embed_grad *a, int64_t row, int64_t n, int64_t col,
                       up_rows dy) {
    const up_cpu_kernels *k = &cpu->kernels;
    int64_t d = up_least(UP_CPU_COLUMNS, a->dy.cols - col);
    if (up_view_present(a->dspace))
        k->scatter_add(n, d, up_numbers_from(a->cells, row), dy, up_rows_of(up_view_cols(a->dspace, col, d)));
    if (up_view_present(a->dtime) && up_view_present(a->frames))
        k->scatter_add(n, d, up_numbers_from(a->frames, row), dy, up_rows_of(up_view_cols(a->dtime, col, d)));
    if (up_view_present(a->dtype)) k->column_sums(n, d, dy, up_f32(a->dtype) + col);
    if (up_view_present(a->dbias)) k->column_sums(n, d, dy, up_f32(a->dbias) + col);
}

/* Every piece owns some columns of all but the weight and goes through all rows. */
static void places_piece(const void *context, int64_t piece, int thread) {
    enum { ROWS = 256 };
    const up_patch_embed_grad *a = ((const up_cpu_call *)context)->args;
    const up_cpu *cpu = ((const up_cpu_call *)context)->cpu;
    int64_t col = piece * UP_CPU_COLUMNS, d = up_least(UP_CPU_COLUMNS, a->dy.cols - col);
    up_rows wide = {up_cpu_work(cpu, thread), UP_CPU_COLUMNS};
    if (a->dy.dtype == UP_F32) {
        add_places(cpu, a, 0, a->dy.rows, col, up_rows_of(up_view_cols(a->dy, col, d)));
        return;
    }
    for (int64_t row = 0; row < a->dy.rows; row += ROWS) {
        int64_t n = up_least(ROWS, a->dy.rows - row);
        for (int64_t i = 0; i < n; i++)
            up_cpu_convert(cpu, d, a->dy.dtype, up_cells_from(a->dy, row + i, col).p, UP_F32,
                           wide.p + i * wide.ld);
        add_places(cpu, a, row, n, col, wide);
    }
}

/* dW += dy' patches */
static void weight_bwd(up_cpu *cpu, const up_patch_embed_grad *a) {
    float *levels = up_scratch_of(a->scratch);
    up_cpu_sums(cpu, &(up_cpu_sum){.m = a->dy.cols,
                                   .n = a->patches.cols,
                                   .k = a->dy.rows,
                                   .a = up_cpu_operand_of(a->dy, 1),
                                   .b = patches_of(cpu, a->patches, a->levels, a->dy.dtype, 1, levels),
                                   .pairs = pairs_of(cpu, a->patches, a->dy.dtype),
                                   .alpha = 1,
                                   .add = 1,
                                   .c = up_rows_of(a->dweight),
                                   .space = levels + LEVELS});
}

up_status up_cpu_patch_embed_bwd(up_cpu *cpu, const void *args) {
    const up_patch_embed_grad *a = args;
    if (a->dy.rows == 0) return UP_OK;
    if (up_view_present(a->dweight)) weight_bwd(cpu, a);
    if (up_view_present(a->dspace) || up_view_present(a->dtime) || up_view_present(a->dtype) ||
        up_view_present(a->dbias))
        up_cpu_for(cpu, (a->dy.cols + UP_CPU_COLUMNS - 1) / UP_CPU_COLUMNS, places_piece,
                   &(up_cpu_call){cpu, a});
    return UP_OK;
}

/* In f32: pairs take no more. */
size_t up_cpu_patch_embed_scratch(const up_cpu *cpu, const up_op_dims *d) {
    int64_t panels = up_most(up_cpu_panel_floats(cpu, d->out, d->in, 0), up_cpu_sum_floats(cpu, d->in));
    int64_t packed = cpu->threads * up_cpu_rows_floats(cpu, d->rows, d->in, 0);
    return (size_t)(LEVELS + panels + packed) * sizeof(float);
}
