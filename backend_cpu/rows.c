/* rows.c - the operations that go row by row: token embeddings, layer norm, residual, l2 norm. */
#include "backend_cpu/cpu.h"

/* A row operation's context: its arguments, the rows of a piece, and partial sums where it has them. */
typedef struct work {
    const up_cpu *cpu;
    const void *args;
    int64_t total, rows;
    float *parts; /* [parts, ld] */
    int64_t ld;
} work;

static int64_t pieces_of(const work *w) {
    return (w->total + w->rows - 1) / w->rows;
}

static up_status by_rows(const up_cpu *cpu, const void *args, int64_t rows, up_cpu_body body) {
    work w = {cpu, args, rows, up_cpu_piece_rows(cpu, rows), NULL, 0};
    up_cpu_for(w.cpu, pieces_of(&w), body, &w);
    return UP_OK;
}

/* Where sums over rows are wanted the pieces are the parts: [parts, ld] in scratch, set to 0 by each piece.
 */
static work by_parts(const up_cpu *cpu, const void *args, int64_t rows, up_view scratch, int64_t ld,
                     up_cpu_body body) {
    work w = {cpu, args, rows, up_cpu_part_rows(rows), up_scratch_of(scratch), ld};
    up_cpu_for(w.cpu, pieces_of(&w), body, &w);
    return w;
}

static int64_t part_of(const work *w, int64_t piece, int64_t *count) {
    *count = up_least(w->rows, w->total - piece * w->rows);
    return piece * w->rows;
}

/* ---- token embeddings ---- */
static void embed_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_embed_args *a = w->args;
    (void)thread;
    int64_t n, i = part_of(w, piece, &n);
    w->cpu->kernels.embed(n, a->y.cols, up_numbers_from(a->ids, i), up_numbers_from(a->positions, i),
                          up_rows_of(a->token), up_f32(a->spe), up_rows_of(a->position), up_f32(a->type),
                          up_rows_from(a->y, i));
}

up_status up_cpu_embed(up_cpu *cpu, const void *args) {
    return by_rows(cpu, args, ((const up_embed_args *)args)->y.rows, embed_piece);
}

static up_rows columns_of(up_view v, int64_t first, int64_t count) {
    return up_rows_of(up_view_cols(v, first, count));
}

/* Every piece owns some columns of the tables and goes through all rows in order. */
static void embed_bwd_piece(const void *context, int64_t piece, int thread) {
    const up_embed_grad *a = ((const up_cpu_call *)context)->args;
    (void)thread;
    int64_t j = piece * UP_CPU_COLUMNS, d = up_least(UP_CPU_COLUMNS, a->dy.cols - j);
    up_cpu_tables out = {.token = columns_of(a->dtoken, j, d),
                         .spe = columns_of(a->dspe, j, d),
                         .position = columns_of(a->dposition, j, d),
                         .type = columns_of(a->dtype, j, d)};
    ((const up_cpu_call *)context)
        ->cpu->kernels.embed_bwd(a->dy.rows, d, up_numbers_from(a->ids, 0), up_numbers_from(a->positions, 0),
                                 columns_of(a->dy, j, d), out);
}

up_status up_cpu_embed_bwd(up_cpu *cpu, const void *args) {
    const up_embed_grad *a = args;
    up_cpu_for(cpu, (a->dy.cols + UP_CPU_COLUMNS - 1) / UP_CPU_COLUMNS, embed_bwd_piece,
               &(up_cpu_call){cpu, a});
    return UP_OK;
}

/* ---- layer norm ---- */
static void layernorm_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_layernorm_args *a = w->args;
    (void)thread;
    int64_t n, i = part_of(w, piece, &n);
    w->cpu->kernels.layernorm(n, a->x.cols, up_rows_from(a->x, i), up_f32(a->weight), up_f32(a->bias), a->eps,
                              up_rows_from(a->y, i), up_rows_from(a->stats, i));
}

up_status up_cpu_layernorm(up_cpu *cpu, const void *args) {
    const up_layernorm_args *a = args;
    return by_rows(cpu, a, a->x.rows, layernorm_piece);
}

static void layernorm_bwd_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_layernorm_grad *a = w->args;
    (void)thread;
    int64_t n, i = part_of(w, piece, &n), d = a->x.cols;
    float *dweight = up_view_present(a->dweight) ? w->parts + piece * w->ld : NULL;
    float *dbias = up_view_present(a->dbias) ? w->parts + piece * w->ld + d : NULL;
    if (dweight) up_cpu_begin_part(piece, d, up_f32(a->dweight), dweight);
    if (dbias) up_cpu_begin_part(piece, d, up_f32(a->dbias), dbias);
    w->cpu->kernels.layernorm_bwd(n, d, up_rows_from(a->x, i), up_f32(a->weight), up_rows_from(a->stats, i),
                                  up_rows_from(a->dy, i), up_rows_from(a->residual, i),
                                  up_rows_from(a->dx, i), dweight, dbias);
}

up_status up_cpu_layernorm_bwd(up_cpu *cpu, const void *args) {
    const up_layernorm_grad *a = args;
    int64_t d = a->x.cols;
    work w = by_parts(cpu, a, a->x.rows, a->scratch, 2 * d, layernorm_bwd_piece);
    if (up_view_present(a->dweight)) up_cpu_sum_parts(w.parts, pieces_of(&w), w.ld, d, up_f32(a->dweight));
    if (up_view_present(a->dbias)) up_cpu_sum_parts(w.parts + d, pieces_of(&w), w.ld, d, up_f32(a->dbias));
    return UP_OK;
}

/* ---- residual ---- */
static up_numbers owner_from(up_view owner, int64_t row) {
    return up_view_present(owner) ? up_numbers_from(owner, row) : (up_numbers){NULL, 0};
}

static void residual_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_residual_args *a = w->args;
    (void)thread;
    int64_t n, i = part_of(w, piece, &n);
    w->cpu->kernels.residual(n, a->y.cols, up_rows_from(a->x, i), up_rows_from(a->branch, i),
                             up_f32(a->scale), up_rows_of(a->drop), owner_from(a->owner, i),
                             up_rows_from(a->y, i));
}

up_status up_cpu_residual(up_cpu *cpu, const void *args) {
    const up_residual_args *a = args;
    return by_rows(cpu, a, a->y.rows, residual_piece);
}

static void residual_bwd_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_residual_grad *a = w->args;
    (void)thread;
    int64_t n, i = part_of(w, piece, &n), d = a->dy.cols;
    float *dscale = up_view_present(a->dscale) ? w->parts + piece * w->ld : NULL;
    if (dscale) up_cpu_begin_part(piece, d, up_f32(a->dscale), dscale);
    w->cpu->kernels.residual_bwd(n, d, up_rows_from(a->branch, i), up_f32(a->scale), up_rows_of(a->drop),
                                 owner_from(a->owner, i), up_rows_from(a->dy, i), up_rows_from(a->dbranch, i),
                                 dscale);
}

up_status up_cpu_residual_bwd(up_cpu *cpu, const void *args) {
    const up_residual_grad *a = args;
    work w = by_parts(cpu, a, a->dy.rows, a->scratch, a->dy.cols, residual_bwd_piece);
    if (up_view_present(a->dscale)) up_cpu_sum_parts(w.parts, pieces_of(&w), w.ld, w.ld, up_f32(a->dscale));
    return UP_OK;
}

/* ---- gelu ---- */
static void gelu_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_gelu_args *a = w->args;
    (void)thread;
    int64_t n, i = part_of(w, piece, &n);
    w->cpu->kernels.gelu(n, a->x.cols, up_rows_from(a->x, i), up_rows_from(a->y, i));
}

up_status up_cpu_gelu(up_cpu *cpu, const void *args) {
    return by_rows(cpu, args, ((const up_gelu_args *)args)->x.rows, gelu_piece);
}

/* ---- l2 norm ---- */
static void l2norm_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_l2norm_args *a = w->args;
    (void)thread;
    int64_t n, i = part_of(w, piece, &n);
    w->cpu->kernels.l2norm(n, a->x.cols, up_rows_from(a->x, i), up_rows_from(a->y, i),
                           up_rows_from(a->rnorm, i));
}

up_status up_cpu_l2norm(up_cpu *cpu, const void *args) {
    const up_l2norm_args *a = args;
    return by_rows(cpu, a, a->x.rows, l2norm_piece);
}

static void l2norm_bwd_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_l2norm_grad *a = w->args;
    (void)thread;
    int64_t n, i = part_of(w, piece, &n);
    w->cpu->kernels.l2norm_bwd(n, a->y.cols, up_rows_from(a->y, i), up_rows_from(a->rnorm, i),
                               up_rows_from(a->dy, i), up_rows_from(a->past, i), up_rows_from(a->dx, i));
}

up_status up_cpu_l2norm_bwd(up_cpu *cpu, const void *args) {
    const up_l2norm_grad *a = args;
    return by_rows(cpu, a, a->y.rows, l2norm_bwd_piece);
}
