/* rows.c - the operations that go row by row: embeddings, layer norm, residual, gather and scatter, l2 norm.
 */
#include "backend_cpu/cpu.h"

#include <string.h>

enum { COLUMNS = 32 }; /* columns that one piece owns where rows are added by index */

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

static up_status by_rows(up_backend *b, const void *args, int64_t rows, up_cpu_body body) {
    work w = {up_cpu_of(b), args, rows, up_cpu_piece_rows(up_cpu_of(b), rows), NULL, 0};
    up_cpu_for(w.cpu, pieces_of(&w), body, &w);
    return UP_OK;
}

/* Where sums over rows are wanted the pieces are the parts: [parts, ld] in scratch, set to 0 by each piece.
 */
static work by_parts(up_backend *b, const void *args, int64_t rows, up_view scratch, int64_t ld,
                     up_cpu_body body) {
    work w = {up_cpu_of(b), args, rows, up_cpu_part_rows(rows), up_scratch_of(scratch), ld};
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
                          up_rows_of(a->token), up_rows_of(a->position), up_f32(a->type),
                          up_rows_from(a->y, i));
}

static up_status embed(up_backend *b, const up_embed_args *a) {
    return by_rows(b, a, a->y.rows, embed_piece);
}

/* Every piece owns some columns of the tables and goes through all rows in order. */
static void embed_bwd_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_embed_grad *a = w->args;
    const up_cpu_kernels *k = &w->cpu->kernels;
    (void)thread;
    int64_t j = piece * COLUMNS, d = up_least(COLUMNS, a->dy.cols - j), n = a->dy.rows;
    up_rows dy = up_rows_of(up_view_cols(a->dy, j, d));
    up_numbers ids = up_numbers_from(a->ids, 0), positions = up_numbers_from(a->positions, 0);
    if (up_view_present(a->dtoken)) k->scatter_add(n, d, ids, dy, up_rows_of(up_view_cols(a->dtoken, j, d)));
    if (up_view_present(a->dposition))
        k->scatter_add(n, d, positions, dy, up_rows_of(up_view_cols(a->dposition, j, d)));
    if (up_view_present(a->dtype)) k->column_sums(n, d, positions, dy, up_f32(a->dtype) + j);
}

static up_status embed_bwd(up_backend *b, const up_embed_grad *a) {
    work w = {.cpu = up_cpu_of(b), .args = a};
    up_cpu_for(w.cpu, (a->dy.cols + COLUMNS - 1) / COLUMNS, embed_bwd_piece, &w);
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

static up_status layernorm(up_backend *b, const up_layernorm_args *a) {
    return by_rows(b, a, a->x.rows, layernorm_piece);
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

static up_status layernorm_bwd(up_backend *b, const up_layernorm_grad *a) {
    int64_t d = a->x.cols;
    work w = by_parts(b, a, a->x.rows, a->scratch, 2 * d, layernorm_bwd_piece);
    if (up_view_present(a->dweight)) up_cpu_sum_parts(w.parts, pieces_of(&w), w.ld, d, up_f32(a->dweight));
    if (up_view_present(a->dbias)) up_cpu_sum_parts(w.parts + d, pieces_of(&w), w.ld, d, up_f32(a->dbias));
    return UP_OK;
}

/* ---- residual ---- */
static void residual_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_residual_args *a = w->args;
    (void)thread;
    int64_t n, i = part_of(w, piece, &n);
    w->cpu->kernels.residual(n, a->y.cols, up_rows_from(a->x, i), up_rows_from(a->branch, i),
                             up_f32(a->scale), up_rows_from(a->drop, i), up_rows_from(a->y, i));
}

static up_status residual(up_backend *b, const up_residual_args *a) {
    return by_rows(b, a, a->y.rows, residual_piece);
}

static void residual_bwd_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_residual_grad *a = w->args;
    (void)thread;
    int64_t n, i = part_of(w, piece, &n), d = a->dy.cols;
    float *dscale = up_view_present(a->dscale) ? w->parts + piece * w->ld : NULL;
    if (dscale) up_cpu_begin_part(piece, d, up_f32(a->dscale), dscale);
    w->cpu->kernels.residual_bwd(n, d, up_rows_from(a->branch, i), up_f32(a->scale), up_rows_from(a->drop, i),
                                 up_rows_from(a->dy, i), up_rows_from(a->dbranch, i), dscale);
}

static up_status residual_bwd(up_backend *b, const up_residual_grad *a) {
    work w = by_parts(b, a, a->dy.rows, a->scratch, a->dy.cols, residual_bwd_piece);
    if (up_view_present(a->dscale)) up_cpu_sum_parts(w.parts, pieces_of(&w), w.ld, w.ld, up_f32(a->dscale));
    return UP_OK;
}

/* ---- gather and scatter ---- */
static void gather_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_gather_args *a = w->args;
    (void)thread;
    int64_t n, i = part_of(w, piece, &n);
    for (up_numbers rows = up_numbers_from(a->rows, 0); n > 0; n--, i++)
        memcpy(up_rows_from(a->y, i).p, up_rows_from(a->x, rows.p[i * rows.ld]).p,
               (size_t)a->y.cols * sizeof(float));
}

static up_status gather(up_backend *b, const up_gather_args *a) {
    return by_rows(b, a, a->y.rows, gather_piece);
}

static void gather_bwd_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_gather_grad *a = w->args;
    (void)thread;
    int64_t j = piece * COLUMNS, d = up_least(COLUMNS, a->dx.cols - j);
    up_rows dx = up_rows_of(up_view_cols(a->dx, j, d)), dy = up_rows_of(up_view_cols(a->dy, j, d));
    for (int64_t i = 0; i < a->dx.rows; i++) memset(dx.p + i * dx.ld, 0, (size_t)d * sizeof *dx.p);
    w->cpu->kernels.scatter_add(a->dy.rows, d, up_numbers_from(a->rows, 0), dy, dx);
}

static up_status gather_bwd(up_backend *b, const up_gather_grad *a) {
    work w = {.cpu = up_cpu_of(b), .args = a};
    up_cpu_for(w.cpu, (a->dx.cols + COLUMNS - 1) / COLUMNS, gather_bwd_piece, &w);
    return UP_OK;
}

static void scatter_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_scatter_args *a = w->args;
    (void)thread;
    int64_t n, i = part_of(w, piece, &n);
    for (up_numbers rows = up_numbers_from(a->rows, 0); n > 0; n--, i++)
        memcpy(up_rows_from(a->y, rows.p[i * rows.ld]).p, up_rows_from(a->x, i).p,
               (size_t)a->x.cols * sizeof(float));
}

static up_status scatter(up_backend *b, const up_scatter_args *a) {
    return by_rows(b, a, a->x.rows, scatter_piece);
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

static up_status l2norm(up_backend *b, const up_l2norm_args *a) {
    return by_rows(b, a, a->x.rows, l2norm_piece);
}

static void l2norm_bwd_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_l2norm_grad *a = w->args;
    (void)thread;
    int64_t n, i = part_of(w, piece, &n);
    w->cpu->kernels.l2norm_bwd(n, a->y.cols, up_rows_from(a->y, i), up_rows_from(a->rnorm, i),
                               up_rows_from(a->dy, i), up_rows_from(a->dx, i));
}

static up_status l2norm_bwd(up_backend *b, const up_l2norm_grad *a) {
    return by_rows(b, a, a->y.rows, l2norm_bwd_piece);
}

void up_cpu_fill_rows(up_backend_ops *ops) {
    ops->embed = embed;
    ops->embed_bwd = embed_bwd;
    ops->layernorm = layernorm;
    ops->layernorm_bwd = layernorm_bwd;
    ops->residual = residual;
    ops->residual_bwd = residual_bwd;
    ops->gather = gather;
    ops->gather_bwd = gather_bwd;
    ops->scatter = scatter;
    ops->l2norm = l2norm;
    ops->l2norm_bwd = l2norm_bwd;
}
