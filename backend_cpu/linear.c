/* linear.c - y = act(x W' + b), forward and backward, on our own products. Formulas in
 * uniperceiver/backend.h.
 *
 * A prepared weight is its panels for x W'. In f32 the same panels serve dy W: there their words are
 * broadcast and the rows of dy lie in vectors. In pairs of bf16, which run along k, dy W has panels of its
 * own behind them. Where a weight comes unprepared, or without the panels that are wanted, they are made in
 * scratch. */
#include "backend_cpu/cpu.h"

/* ---- prepared weights ---- */
static int64_t forward_floats(const up_cpu *cpu, int64_t in, int64_t out, int pairs) {
    return up_cpu_panel_floats(cpu, out, in, pairs);
}

static int64_t backward_floats(const up_cpu *cpu, int64_t in, int64_t out, int pairs) {
    return pairs ? up_cpu_panel_floats(cpu, in, out, pairs) : 0;
}

static int by_library(const up_cpu *cpu, up_dtype dtype) {
    return cpu->gemm && dtype == UP_F32;
}

size_t up_cpu_prepared_size(const up_cpu *cpu, const up_op_dims *d, int backward) {
    int pairs = up_cpu_pairs(cpu, d->dtype);
    int64_t floats = forward_floats(cpu, d->in, d->out, pairs);
    if (by_library(cpu, d->dtype)) return 0;
    if (backward) floats += backward_floats(cpu, d->in, d->out, pairs);
    return (size_t)floats * sizeof(float);
}

static void make_forward(const up_cpu *cpu, up_view weight, int pairs, float *to) {
    up_cpu_operand w = up_cpu_operand_of(weight, 0);
    up_cpu_make_panels(cpu, &w, weight.rows, weight.cols, pairs, to);
}

static void make_backward(const up_cpu *cpu, up_view weight, int pairs, float *to) {
    up_cpu_operand w = up_cpu_operand_of(weight, 1);
    up_cpu_make_panels(cpu, &w, weight.cols, weight.rows, pairs, to);
}

up_status up_cpu_prepare(up_cpu *cpu, const void *args) {
    const up_prepare_args *a = args;
    int pairs = up_cpu_pairs(cpu, a->dtype);
    float *to = up_bytes_from(a->prepared, 0);
    make_forward(cpu, a->weight, pairs, to);
    if (a->backward && pairs)
        make_backward(cpu, a->weight, pairs, to + forward_floats(cpu, a->weight.cols, a->weight.rows, pairs));
    return UP_OK;
}

/* ---- scratch: sums of dy by pieces, panels of an unprepared weight or of x, the packed rows of each thread
 * ---- */
typedef struct space {
    float *parts, *panels, *packed;
    int64_t floats;
} space;

enum { ALIGN = 16 }; /* floats */

static int64_t aligned(int64_t floats) {
    return (floats + ALIGN - 1) / ALIGN * ALIGN;
}

static space cut_space(const up_cpu *cpu, float *at, int64_t rows, int64_t in, int64_t out, int pairs) {
    int64_t pieces = up_cpu_most_pieces(cpu, rows);
    space s = {.parts = at};
    s.floats = aligned(pieces * out);
    s.panels = at + s.floats;
    int64_t panels = up_most(forward_floats(cpu, in, out, pairs), backward_floats(cpu, in, out, pairs));
    s.floats += aligned(up_most(panels, up_cpu_sum_floats(cpu, in)));
    s.packed = at + s.floats;
    s.floats += cpu->threads * up_cpu_rows_floats(cpu, rows, up_most(in, out), pairs);
    return s;
}

size_t up_cpu_linear_scratch(const up_cpu *cpu, const up_op_dims *d) {
    static float start[1];
    int pairs = up_cpu_pairs(cpu, d->dtype);
    return (size_t)cut_space(cpu, start, d->rows, d->in, d->out, pairs).floats * sizeof(float);
}

/* ---- forward ---- */
static void finish_forward(const up_cpu_rows_product *t, int64_t row, int64_t n, int64_t col, int64_t d,
                           up_rows sums) {
    const up_linear_args *a = t->context;
    t->cpu->kernels.finish(n, d, a->activation == UP_ACT_GELU, sums,
                           up_view_present(a->bias) ? up_f32(a->bias) + col : NULL, (int)a->y.dtype,
                           up_cells_from(a->pre, row, col), up_cells_from(a->y, row, col));
}

up_status up_cpu_linear(up_cpu *cpu, const void *args) {
    const up_linear_args *a = args;
    int pairs = up_cpu_pairs(cpu, a->y.dtype);
    int64_t in = a->x.cols, out = a->y.cols, rows = a->y.rows;
    if (by_library(cpu, a->y.dtype)) return up_cpu_linear_library(cpu, a);
    space s = cut_space(cpu, up_scratch_of(a->scratch), rows, in, out, pairs);
    const float *panels = up_scratch_of(a->prepared);
    if (!panels && rows > 0) {
        make_forward(cpu, a->weight, pairs, s.panels);
        panels = s.panels;
    }
    up_cpu_rows_run(&(up_cpu_rows_product){.cpu = cpu,
                                           .cut = up_cpu_cut_rows(cpu, rows, out),
                                           .x = up_cpu_operand_of(a->x, 0),
                                           .cols = out,
                                           .k = in,
                                           .pairs = pairs,
                                           .panels = panels,
                                           .space = s.packed,
                                           .to = a->y,
                                           .context = a,
                                           .finish = finish_forward});
    return UP_OK;
}

/* ---- backward ---- */
typedef struct backward {
    up_cpu *cpu;
    const up_linear_grad *a;
    up_cpu_cut cut;
    float *parts; /* [pieces, O]; NULL where there is no bias gradient */
} backward;

/* dy = dy gelu'(pre), and the sums of dy over some rows */
static void begin_backward(const up_cpu_rows_product *t, int64_t piece, int64_t row, int64_t n) {
    const backward *b = t->context;
    const up_linear_grad *a = b->a;
    int64_t out = a->dy.cols;
    int gelu = a->activation == UP_ACT_GELU;
    float *sums = b->parts ? b->parts + piece * out : NULL;
    if (sums) up_cpu_begin_part(piece, out, up_f32(a->dbias), sums);
    if (sums || gelu)
        t->cpu->kernels.unfinish(n, out, (int)a->dy.dtype,
                                 gelu ? up_cells_from(a->pre, row, 0) : (up_cells){0},
                                 up_cells_from(a->dy, row, 0), sums);
}

static void finish_backward(const up_cpu_rows_product *t, int64_t row, int64_t n, int64_t col, int64_t d,
                            up_rows sums) {
    up_view dx = ((const backward *)t->context)->a->dx;
    up_cells to = up_cells_from(dx, row, col);
    if (t->turned)
        t->cpu->kernels.turn(n, d, (int)dx.dtype, sums, to);
    else
        t->cpu->kernels.finish(n, d, 0, sums, NULL, (int)dx.dtype, (up_cells){0}, to);
}

static void begin_piece(const void *context, int64_t piece, int thread) {
    const up_cpu_rows_product *t = context;
    int64_t row = up_cpu_cut_row(&t->cut, piece);
    (void)thread;
    begin_backward(t, piece, row, up_cpu_cut_row(&t->cut, piece + 1) - row);
}

/* The panels for dy W: the prepared ones, or made in scratch. */
static const float *backward_panels(const up_cpu *cpu, const up_linear_grad *a, int pairs, float *space) {
    int64_t in = a->weight.cols, out = a->weight.rows, before = forward_floats(cpu, in, out, pairs);
    int64_t whole = pairs ? before + backward_floats(cpu, in, out, pairs) : before;
    if (up_view_present(a->prepared) && a->prepared.cols >= whole * (int64_t)sizeof(float))
        return up_scratch_of(a->prepared) + (pairs ? before : 0);
    if (pairs)
        make_backward(cpu, a->weight, pairs, space);
    else
        make_forward(cpu, a->weight, pairs, space);
    return space;
}

/* dx = dy W, after what `begin_backward` does to dy */
static void input_bwd(const backward *b, space s) {
    const up_linear_grad *a = b->a;
    int pairs = up_cpu_pairs(b->cpu, a->dy.dtype), wanted = up_view_present(a->dx) && a->dy.rows > 0;
    up_cpu_rows_product t = {.cpu = b->cpu,
                             .cut = b->cut,
                             .x = up_cpu_operand_of(a->dy, 0),
                             .cols = a->x.cols,
                             .k = a->dy.cols,
                             .pairs = pairs,
                             .turned = !pairs,
                             .panels = wanted ? backward_panels(b->cpu, a, pairs, s.panels) : NULL,
                             .space = s.packed,
                             .to = a->dx,
                             .context = b,
                             .begin = begin_backward,
                             .finish = finish_backward};
    if (!wanted || t.cut.across > 1) {
        up_cpu_for(b->cpu, t.cut.count, begin_piece, &t);
        t.begin = NULL;
    }
    if (wanted) up_cpu_rows_run(&t);
}

up_status up_cpu_linear_bwd(up_cpu *cpu, const void *args) {
    const up_linear_grad *a = args;
    int pairs = up_cpu_pairs(cpu, a->dy.dtype);
    int64_t in = a->x.cols, out = a->dy.cols, rows = a->dy.rows;
    if (by_library(cpu, a->dy.dtype)) return up_cpu_linear_library_bwd(cpu, a);
    space s = cut_space(cpu, up_scratch_of(a->scratch), rows, in, out, pairs);
    backward b = {.cpu = cpu,
                  .a = a,
                  .cut = up_cpu_cut_rows(cpu, rows, in),
                  .parts = up_view_present(a->dbias) ? s.parts : NULL};
    if (rows > 0) input_bwd(&b, s);
    if (b.parts && rows > 0) up_cpu_sum_parts(b.parts, b.cut.count, out, out, up_f32(a->dbias));
    if (up_view_present(a->dweight) && rows > 0) /* dW += dy' x */
        up_cpu_sums(cpu, &(up_cpu_sum){.m = out,
                                       .n = in,
                                       .k = rows,
                                       .a = up_cpu_operand_of(a->dy, 1),
                                       .b = up_cpu_operand_of(a->x, 1),
                                       .pairs = pairs,
                                       .alpha = 1,
                                       .add = 1,
                                       .c = up_rows_of(a->dweight),
                                       .space = s.panels});
    return UP_OK;
}
