/* rows.c - the operations that go row by row: token embeddings, layer norm, residual, GELU, l2 norm.
 *
 * The kernels are f32. A piece is worked on in lots of a few rows that stay in the first cache: rows of 16
 * bits are widened there before a kernel and rounded behind it, and where one operation follows another (a
 * residual connection and its norm) both do a lot before the next one is begun. */
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

/* ---- lots ---- */

/* Rows first..first + count - 1 of all tensors of a piece, and this thread's space for widened ones. */
typedef struct lot {
    const up_cpu *cpu;
    int64_t first, count, end; /* end: of the piece */
    int64_t rows;              /* at most */
    float *space;              /* what is left of it */
    int thread;
} lot;

enum {
    LOT = 2048
}; /* floats of one tensor: 8 KiB; six of them stay in a first cache of 48, four in one of 32 */

static int is_half(up_view v) {
    return v.dtype != UP_F32;
}

/* The lots of a piece: of a few rows where they stay in the cache between two kernels (`several`), else one.
 */
static lot lots_of(const work *w, int64_t piece, int thread, int64_t cols, int several) {
    int64_t n, i = part_of(w, piece, &n), rows = several ? up_most(1, LOT / up_most(1, cols)) : n;
    return (lot){w->cpu, i, 0, i + n, rows, NULL, thread};
}

static int next_lot(lot *l) {
    l->first += l->count;
    l->count = up_least(l->rows, l->end - l->first);
    l->space = up_cpu_spare(l->cpu, l->thread);
    return l->count > 0;
}

/* Where a kernel writes rows of v: there, or in space until `round_off`. */
static up_rows rows_to(lot *l, up_view v) {
    if (!up_view_present(v) || v.dtype == UP_F32) return up_rows_from(v, l->first);
    up_rows rows = {l->space, v.cols};
    l->space += l->count * v.cols;
    return rows;
}

static void widen(const lot *l, up_view v, up_rows to) {
    for (int64_t i = 0; v.dtype != UP_F32 && i < l->count; i++)
        l->cpu->kernels.widen(v.cols, v.dtype, up_bytes_from(v, l->first + i), to.p + i * to.ld);
}

/* Rows of v as f32. */
static up_rows rows_as_f32(lot *l, up_view v) {
    up_rows rows = rows_to(l, v);
    if (up_view_present(v)) widen(l, v, rows);
    return rows;
}

static void round_off(const lot *l, up_rows from, up_view v) {
    for (int64_t i = 0; up_view_present(v) && v.dtype != UP_F32 && i < l->count; i++)
        l->cpu->kernels.narrow(v.cols, v.dtype, from.p + i * from.ld, up_bytes_from(v, l->first + i));
}

/* ---- token embeddings ---- */
static void embed_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_embed_args *a = w->args;
    for (lot l = lots_of(w, piece, thread, a->y.cols, is_half(a->y)); next_lot(&l);) {
        up_rows y = rows_to(&l, a->y);
        w->cpu->kernels.embed(l.count, a->y.cols, up_numbers_from(a->ids, l.first),
                              up_numbers_from(a->positions, l.first), up_rows_of(a->token), up_f32(a->spe),
                              up_rows_of(a->position), up_f32(a->type), y);
        round_off(&l, y, a->y);
    }
}

up_status up_cpu_embed(up_cpu *cpu, const void *args) {
    return by_rows(cpu, args, ((const up_embed_args *)args)->y.rows, embed_piece);
}

static up_rows columns_of(up_view v, int64_t first, int64_t count) {
    return up_rows_of(up_view_cols(v, first, count));
}

/* Every piece owns some columns of the tables and goes through all rows in order; where those are of 16 bits,
 * block by block of the kernel's. */
static void embed_bwd_piece(const void *context, int64_t piece, int thread) {
    const up_cpu *cpu = ((const up_cpu_call *)context)->cpu;
    const up_embed_grad *a = ((const up_cpu_call *)context)->args;
    int64_t j = piece * UP_CPU_COLUMNS, d = up_least(UP_CPU_COLUMNS, a->dy.cols - j);
    up_view dy = up_view_cols(a->dy, j, d);
    up_cpu_tables out = {.token = columns_of(a->dtoken, j, d),
                         .spe = columns_of(a->dspe, j, d),
                         .position = columns_of(a->dposition, j, d),
                         .type = columns_of(a->dtype, j, d)};
    lot l = {cpu, 0, 0, dy.rows, dy.dtype == UP_F32 ? dy.rows : UP_CPU_EMBED_ROWS, NULL, thread};
    while (next_lot(&l)) {
        up_rows g = rows_as_f32(&l, dy);
        cpu->kernels.embed_bwd(l.count, d, up_numbers_from(a->ids, l.first),
                               up_numbers_from(a->positions, l.first), g, out);
    }
}

up_status up_cpu_embed_bwd(up_cpu *cpu, const void *args) {
    const up_embed_grad *a = args;
    up_cpu_for(cpu, (a->dy.cols + UP_CPU_COLUMNS - 1) / UP_CPU_COLUMNS, embed_bwd_piece,
               &(up_cpu_call){cpu, a});
    return UP_OK;
}

/* ---- layer norm ---- */
static up_rows layernorm_lot(lot *l, const up_layernorm_args *a, up_rows x) {
    up_rows y = rows_to(l, a->y);
    l->cpu->kernels.layernorm(l->count, a->y.cols, x, up_f32(a->weight), up_f32(a->bias), a->eps, y,
                              up_rows_from(a->stats, l->first));
    round_off(l, y, a->y);
    return y;
}

static void layernorm_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_layernorm_args *a = w->args;
    for (lot l = lots_of(w, piece, thread, a->x.cols, is_half(a->x) || is_half(a->y)); next_lot(&l);)
        layernorm_lot(&l, a, rows_as_f32(&l, a->x));
}

up_status up_cpu_layernorm(up_cpu *cpu, const void *args) {
    const up_layernorm_args *a = args;
    return by_rows(cpu, a, a->x.rows, layernorm_piece);
}

/* Partial sums of a piece: of dweight and dbias, or NULL. */
typedef struct norm_sums {
    float *dweight, *dbias;
} norm_sums;

static norm_sums begin_norm_sums(const work *w, const up_layernorm_grad *a, int64_t piece) {
    int64_t d = a->x.cols;
    norm_sums s = {NULL, NULL};
    if (up_view_present(a->dweight)) s.dweight = w->parts + piece * w->ld;
    if (up_view_present(a->dbias)) s.dbias = w->parts + piece * w->ld + d;
    if (s.dweight) up_cpu_begin_part(piece, d, up_f32(a->dweight), s.dweight);
    if (s.dbias) up_cpu_begin_part(piece, d, up_f32(a->dbias), s.dbias);
    return s;
}

static void end_norm_sums(const work *w, const up_layernorm_grad *a) {
    int64_t d = a->x.cols;
    if (up_view_present(a->dweight)) up_cpu_sum_parts(w->parts, pieces_of(w), w->ld, d, up_f32(a->dweight));
    if (up_view_present(a->dbias)) up_cpu_sum_parts(w->parts + d, pieces_of(w), w->ld, d, up_f32(a->dbias));
}

/* Returns the rows of dx. */
static up_rows layernorm_bwd_lot(lot *l, const up_layernorm_grad *a, norm_sums sums) {
    up_rows x = rows_as_f32(l, a->x), dy = rows_as_f32(l, a->dy), past = rows_as_f32(l, a->residual);
    up_rows dx = rows_to(l, a->dx);
    l->cpu->kernels.layernorm_bwd(l->count, a->x.cols, x, up_f32(a->weight), up_rows_from(a->stats, l->first),
                                  dy, past, dx, sums.dweight, sums.dbias);
    round_off(l, dx, a->dx);
    return dx;
}

static void layernorm_bwd_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_layernorm_grad *a = w->args;
    norm_sums sums = begin_norm_sums(w, a, piece);
    for (lot l = lots_of(w, piece, thread, a->x.cols, is_half(a->x) || is_half(a->dy)); next_lot(&l);)
        layernorm_bwd_lot(&l, a, sums);
}

up_status up_cpu_layernorm_bwd(up_cpu *cpu, const void *args) {
    const up_layernorm_grad *a = args;
    work w = by_parts(cpu, a, a->x.rows, a->scratch, 2 * a->x.cols, layernorm_bwd_piece);
    end_norm_sums(&w, a);
    return UP_OK;
}

/* ---- residual ---- */
static up_numbers owner_from(up_view owner, int64_t row) {
    return up_view_present(owner) ? up_numbers_from(owner, row) : (up_numbers){NULL, 0};
}

/* Returns the rows of y. */
static up_rows residual_lot(lot *l, const up_residual_args *a) {
    up_rows x = rows_as_f32(l, a->x), branch = rows_as_f32(l, a->branch), y = rows_to(l, a->y);
    l->cpu->kernels.residual(l->count, a->y.cols, x, branch, up_f32(a->scale), up_rows_of(a->drop),
                             owner_from(a->owner, l->first), y);
    round_off(l, y, a->y);
    return y;
}

static void residual_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_residual_args *a = w->args;
    for (lot l = lots_of(w, piece, thread, a->y.cols, is_half(a->y)); next_lot(&l);) residual_lot(&l, a);
}

up_status up_cpu_residual(up_cpu *cpu, const void *args) {
    const up_residual_args *a = args;
    return by_rows(cpu, a, a->y.rows, residual_piece);
}

static float *begin_scale_sum(const work *w, const up_residual_grad *a, int64_t piece, int64_t at) {
    if (!up_view_present(a->dscale)) return NULL;
    float *sum = w->parts + piece * w->ld + at;
    up_cpu_begin_part(piece, a->dy.cols, up_f32(a->dscale), sum);
    return sum;
}

static void end_scale_sum(const work *w, const up_residual_grad *a, int64_t at) {
    if (up_view_present(a->dscale))
        up_cpu_sum_parts(w->parts + at, pieces_of(w), w->ld, a->dy.cols, up_f32(a->dscale));
}

static void residual_bwd_lot(lot *l, const up_residual_grad *a, up_rows dy, float *dscale) {
    up_rows branch = rows_as_f32(l, a->branch), dbranch = rows_to(l, a->dbranch);
    l->cpu->kernels.residual_bwd(l->count, a->dy.cols, branch, up_f32(a->scale), up_rows_of(a->drop),
                                 owner_from(a->owner, l->first), dy, dbranch, dscale);
    round_off(l, dbranch, a->dbranch);
}

static void residual_bwd_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_residual_grad *a = w->args;
    float *dscale = begin_scale_sum(w, a, piece, 0);
    for (lot l = lots_of(w, piece, thread, a->dy.cols, is_half(a->dy)); next_lot(&l);)
        residual_bwd_lot(&l, a, rows_as_f32(&l, a->dy), dscale);
}

up_status up_cpu_residual_bwd(up_cpu *cpu, const void *args) {
    const up_residual_grad *a = args;
    work w = by_parts(cpu, a, a->dy.rows, a->scratch, a->dy.cols, residual_bwd_piece);
    end_scale_sum(&w, a, 0);
    return UP_OK;
}

/* ---- both, lot by lot; what one has stored and the other reads is widened again, since it was rounded ----
 */
static void add_layernorm_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_add_layernorm_args *a = w->args;
    for (lot l = lots_of(w, piece, thread, a->add.y.cols, 1); next_lot(&l);) {
        up_rows y = residual_lot(&l, &a->add);
        widen(&l, a->add.y, y);
        layernorm_lot(&l, &a->norm, y);
    }
}

up_status up_cpu_add_layernorm(up_cpu *cpu, const void *args) {
    const up_add_layernorm_args *a = args;
    return by_rows(cpu, a, a->add.y.rows, add_layernorm_piece);
}

static void add_layernorm_bwd_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_add_layernorm_grad *a = w->args;
    int64_t d = a->norm.x.cols;
    norm_sums sums = begin_norm_sums(w, &a->norm, piece);
    float *dscale = begin_scale_sum(w, &a->add, piece, 2 * d);
    for (lot l = lots_of(w, piece, thread, d, 1); next_lot(&l);) {
        up_rows dx = layernorm_bwd_lot(&l, &a->norm, sums);
        widen(&l, a->norm.dx, dx);
        residual_bwd_lot(&l, &a->add, dx, dscale);
    }
}

up_status up_cpu_add_layernorm_bwd(up_cpu *cpu, const void *args) {
    const up_add_layernorm_grad *a = args;
    int64_t d = a->norm.x.cols;
    work w = by_parts(cpu, a, a->norm.x.rows, a->norm.scratch, 3 * d, add_layernorm_bwd_piece);
    end_norm_sums(&w, &a->norm);
    end_scale_sum(&w, &a->add, 2 * d);
    return UP_OK;
}

/* ---- gelu ---- */
static void gelu_piece(const void *context, int64_t piece, int thread) {
    const work *w = context;
    const up_gelu_args *a = w->args;
    for (lot l = lots_of(w, piece, thread, a->x.cols, is_half(a->x)); next_lot(&l);) {
        up_rows x = rows_as_f32(&l, a->x), y = rows_to(&l, a->y);
        w->cpu->kernels.gelu(l.count, a->x.cols, x, y);
        round_off(&l, y, a->y);
    }
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
