/* product.c - the matrix product on the backend's own kernels: how C is cut into pieces, what is packed when.
 *
 * Two ways. `up_cpu_rows_product` meets a weight whose panels are prepared: a piece is some rows of C; they
 * are packed once, and every panel goes over them while they are in the second cache. `up_cpu_sums` adds to
 * an f32 C what two plain operands give: a piece packs a block of A and one panel of B at a time.
 *
 * An element of C is a chain of multiply-adds along k inside a block of k, and the sum of the blocks in
 * order. Where the blocks end depends on k alone, so the bits depend neither on the number of rows nor on the
 * cut. */
#include "backend_cpu/cpu.h"

#include <string.h>

enum {
    PIECE_ROWS = 160, /* most rows of a piece: with a block of k, half of a second cache of 512 KiB */
    FEWEST_ROWS = 48, /* where each thread has as many, pieces are not cut across */
    CHUNK = 256,      /* columns whose sums are held in f32 at one time */
    PREPARED = 4,     /* panels that a piece of preparation makes */
    SUMS_COLS = 768   /* most columns of a piece of `up_cpu_sums` */
};

static int64_t round_up(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

static int64_t parts_of(int64_t n, int64_t size) {
    return (n + size - 1) / size;
}

int up_cpu_pairs(const up_cpu *cpu, up_dtype dtype) {
    return dtype == UP_BF16 && cpu->kernels.multiply_pairs != NULL;
}

static int64_t words_of(int64_t k, int pairs) {
    return pairs ? (k + 1) / 2 : k;
}

/* Words of a block of k: blocks of about the same size, whole panels where k goes over panels. */
static int64_t block_of(const up_cpu_kernels *k, int64_t words) {
    int64_t blocks = up_most(1, parts_of(words, k->tile_block));
    return up_most(k->tile_cols, round_up(parts_of(words, blocks), k->tile_cols));
}

up_cpu_operand up_cpu_operand_of(up_view v, int turned) {
    up_cpu_lines lines = {
        .p = up_view_present(v) ? up_bytes_from(v, 0) : NULL, .ld = v.stride, .dtype = (int)v.dtype};
    return (up_cpu_operand){lines, turned};
}

static void pack(const up_cpu_kernels *kernels, const up_cpu_operand *x, up_cpu_panels panels) {
    panels.from = x->lines;
    if (x->turned)
        kernels->pack_elements(&panels);
    else
        kernels->pack_lines(&panels);
}

/* ---- panels of a whole operand ---- */
typedef struct panels {
    const up_cpu *cpu;
    const up_cpu_operand *x;
    int64_t places, k;
    int pairs;
    float *to;
} panels;

static void panels_piece(const void *context, int64_t piece, int thread) {
    const panels *t = context;
    const up_cpu_kernels *kernels = &t->cpu->kernels;
    int64_t each = PREPARED * kernels->tile_cols, first = piece * each;
    (void)thread;
    pack(kernels, t->x,
         (up_cpu_panels){.first = first,
                         .count = up_least(each, t->places - first),
                         .k = t->k,
                         .width = kernels->tile_cols,
                         .pairs = t->pairs,
                         .to = t->to + first * words_of(t->k, t->pairs)});
}

void up_cpu_make_panels(const up_cpu *cpu, const up_cpu_operand *x, int64_t places, int64_t k, int pairs,
                        float *to) {
    panels t = {cpu, x, places, k, pairs, to};
    up_cpu_for(cpu, parts_of(places, PREPARED * cpu->kernels.tile_cols), panels_piece, &t);
}

int64_t up_cpu_panel_floats(const up_cpu *cpu, int64_t places, int64_t k, int pairs) {
    return round_up(places, cpu->kernels.tile_cols) * words_of(k, pairs);
}

/* ---- some rows against prepared panels ---- */
up_cpu_cut up_cpu_cut_rows(const up_cpu *cpu, int64_t rows, int64_t cols) {
    int64_t unit = cpu->kernels.tile_cols, threads = cpu->threads;
    up_cpu_cut cut = {rows, cols, up_most(1, parts_of(rows, PIECE_ROWS)), 1, unit};
    if (rows >= threads * FEWEST_ROWS)
        cut.count = round_up(cut.count, threads);
    else if (threads > 1)
        cut.across = up_most(1, up_least(parts_of(cols, 2 * unit), parts_of(2 * threads, cut.count)));
    return cut;
}

int64_t up_cpu_most_pieces(const up_cpu *cpu, int64_t rows) {
    return parts_of(rows, PIECE_ROWS) + cpu->threads;
}

/* Units from `piece` of `count` equal parts on; nearly the same number each. */
static int64_t border(int64_t n, int64_t unit, int64_t piece, int64_t count) {
    return up_least(n, parts_of(n, unit) * piece / count * unit);
}

int64_t up_cpu_cut_row(const up_cpu_cut *cut, int64_t piece) {
    return border(cut->rows, cut->unit, piece, cut->count);
}

/* A piece of rows fills whole panels, or tiles, which may be one row higher than they are filled. */
int64_t up_cpu_rows_floats(const up_cpu *cpu, int64_t rows, int64_t k, int pairs) {
    const up_cpu_kernels *kernels = &cpu->kernels;
    int64_t most = up_least(PIECE_ROWS, round_up(rows, kernels->tile_cols)) + kernels->tile_cols;
    return round_up(most * words_of(k, pairs) + 64, 16);
}

typedef struct part {
    const up_cpu_rows_product *t;
    int64_t row, n, col, end; /* rows, and columns col..end-1 */
    float *packed, *sums;
} part;

/* Where the block lies that follows block k of panel j: the next panel's, or the next block of the first. */
static int64_t next_panel(const part *p, int64_t col, int64_t j, int64_t k, int64_t block) {
    int64_t words = words_of(p->t->k, p->t->pairs), cols = p->t->cpu->kernels.tile_cols, end = col + CHUNK;
    if (j + cols < up_least(end, p->end)) return (j + cols) * words + k * cols;
    return k + block < words ? col * words + (k + block) * cols : (j + cols) * words;
}

/* x B', B in panels: one chunk of columns. */
static void multiply_chunk(const part *p, int64_t col, int64_t end) {
    const up_cpu_rows_product *t = p->t;
    const up_cpu_kernels *kernels = &t->cpu->kernels;
    int64_t words = words_of(t->k, t->pairs), block = block_of(kernels, words), cols = kernels->tile_cols;
    for (int64_t k = 0; k < words || k == 0; k += block)
        for (int64_t j = col; j < end; j += cols) {
            up_cpu_tiles tiles = {.k = up_least(block, words - k),
                                  .alpha = 1,
                                  .add = k > 0,
                                  .a = p->packed + k * kernels->tile_rows,
                                  .a_tile = words * kernels->tile_rows,
                                  .b = t->panels + j * words + k * cols,
                                  .ahead = t->panels + next_panel(p, col, j, k, block),
                                  .c = p->sums + (j - col) * p->n,
                                  .ldc = cols};
            if (k + block >= words) {
                tiles.fetch = up_cells_from(t->to, p->row, j).p;
                tiles.fetch_ld = t->to.stride * (int64_t)up_dtype_size(t->to.dtype);
                tiles.fetch_lines = kernels->tile_rows;
                tiles.fetch_step = tiles.fetch_lines * tiles.fetch_ld;
            }
            (t->pairs ? kernels->multiply_pairs : kernels->multiply)(p->n, &tiles);
            if (k + block >= words)
                t->finish(t, p->row, p->n, j, up_least(cols, end - j), (up_rows){tiles.c, cols});
        }
}

static void multiply_rows(const part *p) {
    const up_cpu_rows_product *t = p->t;
    pack(&t->cpu->kernels, &t->x,
         (up_cpu_panels){.first = p->row,
                         .count = p->n,
                         .k = t->k,
                         .width = t->cpu->kernels.tile_rows,
                         .pairs = t->pairs,
                         .to = p->packed});
    for (int64_t j = p->col; j < p->end; j += CHUNK) multiply_chunk(p, j, up_least(p->end, j + CHUNK));
}

/* x B, B' in panels: C' = B' x', with the panels' columns broadcast and the rows of x in vectors. */
static void multiply_chunk_turned(const part *p, int64_t col, int64_t end) {
    const up_cpu_rows_product *t = p->t;
    const up_cpu_kernels *kernels = &t->cpu->kernels;
    int64_t block = block_of(kernels, t->k), cols = kernels->tile_cols;
    for (int64_t k = 0; k < t->k || k == 0; k += block)
        for (int64_t i = 0; i < p->n; i += cols) {
            up_cpu_tiles tiles = {.k = up_least(block, t->k - k),
                                  .alpha = 1,
                                  .add = k > 0,
                                  .a = t->panels + k * t->cols + col * cols,
                                  .a_panel = t->cols * cols,
                                  .b = p->packed + i * t->k + k * cols,
                                  .c = p->sums + i * (end - col),
                                  .ldc = cols};
            if (k + block >= t->k) {
                tiles.fetch = up_cells_from(t->to, p->row + i, col).p;
                tiles.fetch_ld = t->to.stride * (int64_t)up_dtype_size(t->to.dtype);
                tiles.fetch_lines = up_least(cols, p->n - i);
                tiles.fetch_step = kernels->tile_rows * (int64_t)up_dtype_size(t->to.dtype);
            }
            kernels->multiply_turned(end - col, &tiles);
            if (k + block >= t->k)
                t->finish(t, p->row + i, up_least(cols, p->n - i), col, end - col, (up_rows){tiles.c, cols});
        }
}

static void multiply_rows_turned(const part *p) {
    const up_cpu_rows_product *t = p->t;
    int64_t cols = t->cpu->kernels.tile_cols, chunk = CHUNK / t->cpu->kernels.tile_rows;
    chunk *= t->cpu->kernels.tile_rows;
    pack(&t->cpu->kernels, &t->x,
         (up_cpu_panels){.first = p->row, .count = p->n, .k = t->k, .width = (int)cols, .to = p->packed});
    for (int64_t j = p->col; j < p->end; j += chunk) multiply_chunk_turned(p, j, up_least(p->end, j + chunk));
}

static void rows_piece(const void *context, int64_t piece, int thread) {
    const up_cpu_rows_product *t = context;
    int64_t row = piece / t->cut.across, col = piece % t->cut.across;
    part p = {.t = t,
              .row = up_cpu_cut_row(&t->cut, row),
              .col = border(t->cols, t->cut.unit, col, t->cut.across),
              .end = border(t->cols, t->cut.unit, col + 1, t->cut.across),
              .packed = t->space + thread * up_cpu_rows_floats(t->cpu, t->cut.rows, t->k, t->pairs),
              .sums = up_cpu_work(t->cpu, thread)};
    p.n = up_cpu_cut_row(&t->cut, row + 1) - p.row;
    if (p.n == 0) return;
    if (t->begin) t->begin(t, row, p.row, p.n);
    if (t->turned)
        multiply_rows_turned(&p);
    else
        multiply_rows(&p);
}

void up_cpu_rows_run(const up_cpu_rows_product *t) {
    up_cpu_for(t->cpu, t->cut.count * t->cut.across, rows_piece, t);
}

/* ---- sums of plain operands ---- */
typedef struct sums {
    up_cpu *cpu;
    const up_cpu_sum *s;
    int64_t rows, cols, across; /* of a piece, pieces side by side */
    up_cpu_panels k;            /* with space: the block of k that B's panels there are of */
} sums;

/* The last columns of C, narrower than a panel: through a block as wide as one, so that the chain of
 * multiply-adds stays the same. */
static void multiply_narrow(const sums *t, int64_t m, int64_t width, up_cpu_tiles tiles, float *block) {
    const up_cpu_kernels *kernels = &t->cpu->kernels;
    float *c = tiles.c;
    int64_t ldc = tiles.ldc, cols = kernels->tile_cols;
    for (int64_t i = 0; tiles.add && i < m; i++)
        memcpy(block + i * cols, c + i * ldc, (size_t)width * sizeof *c);
    tiles.c = block;
    tiles.ldc = cols;
    (t->s->pairs ? kernels->multiply_pairs : kernels->multiply)(m, &tiles);
    for (int64_t i = 0; i < m; i++) memcpy(c + i * ldc, block + i * cols, (size_t)width * sizeof *c);
}

/* Rows of the block of A of a piece. */
static int64_t sums_rows(const up_cpu_kernels *k) {
    return k->tile_block > 256 ? 30 * k->tile_rows : 192; /* with AVX-512 a second cache of 1 MiB or more */
}

/* A block of A, a chunk of B and the narrow block; or the sums of a chunk of `up_cpu_rows_product`. */
int64_t up_cpu_work_floats(const up_cpu_kernels *k) {
    int64_t rows = sums_rows(k), cols = k->tile_cols;
    int64_t with_sums = (rows + CHUNK) * k->tile_block + rows * cols + 2 * 64;
    return round_up(up_most(with_sums, (PIECE_ROWS + cols) * CHUNK), 64);
}

/* Some places of a block of k. */
static void pack_block(const up_cpu_kernels *kernels, const up_cpu_operand *x, up_cpu_panels k, int64_t first,
                       int64_t count, int width, float *to) {
    k.first = first;
    k.count = count;
    k.width = width;
    k.to = to;
    pack(kernels, x, k);
}

/* One panel of B, of `width` columns. */
static void sum_panel(const sums *t, int64_t m, int64_t width, const up_cpu_tiles *tiles, float *block) {
    const up_cpu_kernels *kernels = &t->cpu->kernels;
    if (width < kernels->tile_cols)
        multiply_narrow(t, m, width, *tiles, block);
    else
        (t->s->pairs ? kernels->multiply_pairs : kernels->multiply)(m, tiles);
}

/* One block of k of a piece of C, with B's panels in space or, some at a time, in the thread's own work. */
static void sum_block(const sums *t, up_cpu_panels k, int64_t row, int64_t m, int64_t col, int64_t n,
                      float *work) {
    const up_cpu_kernels *kernels = &t->cpu->kernels;
    const up_cpu_sum *s = t->s;
    int64_t words = words_of(k.k, k.pairs), cols = kernels->tile_cols, size = (int64_t)sizeof(float);
    float *own = work + sums_rows(kernels) * kernels->tile_block + 64,
          *block = own + CHUNK * kernels->tile_block + 64;
    pack_block(kernels, &s->a, k, row, m, kernels->tile_rows, work);
    for (int64_t j = 0; j < n; j += cols) {
        if (!s->space && j % CHUNK == 0)
            pack_block(kernels, &s->b, k, col + j, up_least(CHUNK, n - j), kernels->tile_cols, own);
        const float *b = s->space ? s->space + (col + j) * words : own + j % CHUNK * words;
        float *c = s->c.p + row * s->c.ld + col + j;
        up_cpu_tiles tiles = {.k = words,
                              .alpha = s->alpha,
                              .add = s->add || k.start > 0,
                              .a = work,
                              .a_tile = words * kernels->tile_rows,
                              .b = b,
                              .ahead = s->space ? b + words * cols : NULL,
                              .c = c,
                              .ldc = s->c.ld,
                              .fetch = (const char *)c,
                              .fetch_lines = kernels->tile_rows,
                              .fetch_ld = s->c.ld * size,
                              .fetch_step = kernels->tile_rows * s->c.ld * size};
        sum_panel(t, m, up_least(cols, n - j), &tiles, block);
    }
}

static void sum_piece(const sums *t, int64_t piece, up_cpu_panels k, int thread) {
    const up_cpu_sum *s = t->s;
    int64_t row = piece / t->across * t->rows, col = piece % t->across * t->cols;
    int64_t m = up_least(t->rows, s->m - row), n = up_least(t->cols, s->n - col);
    up_rows c = {s->c.p + row * s->c.ld + col, s->c.ld};
    sum_block(t, k, row, m, col, n, up_cpu_work(t->cpu, thread));
    if (s->bias && k.start + k.k >= s->k)
        t->cpu->kernels.bias_act(m, n, 0, c, s->bias + col, (up_rows){NULL, 0}, c);
}

static up_cpu_panels block_from(const sums *t, int64_t start) {
    const up_cpu_sum *s = t->s;
    int64_t block = block_of(&t->cpu->kernels, words_of(s->k, s->pairs)) * (s->pairs ? 2 : 1);
    return (up_cpu_panels){.start = start, .k = up_least(block, s->k - start), .pairs = s->pairs};
}

static void whole_piece(const void *context, int64_t piece, int thread) {
    const sums *t = context;
    up_cpu_panels k = block_from(t, 0);
    do {
        sum_piece(t, piece, k, thread);
        k = block_from(t, k.start + k.k);
    } while (k.k > 0);
}

static void block_piece(const void *context, int64_t piece, int thread) {
    const sums *t = context;
    sum_piece(t, piece, t->k, thread);
}

/* CHUNK columns of B's panels in space. */
static void space_piece(const void *context, int64_t piece, int thread) {
    const sums *t = context;
    int64_t col = piece * CHUNK;
    (void)thread;
    pack_block(&t->cpu->kernels, &t->s->b, t->k, col, up_least(CHUNK, t->s->n - col),
               t->cpu->kernels.tile_cols, t->s->space + col * words_of(t->k.k, t->k.pairs));
}

int64_t up_cpu_sum_floats(const up_cpu *cpu, int64_t n) {
    return round_up(n, cpu->kernels.tile_cols) * cpu->kernels.tile_block;
}

/* As few pieces as fit, then more, where C is longer, until every thread has as many as the others. */
void up_cpu_sums(up_cpu *cpu, const up_cpu_sum *s) {
    const up_cpu_kernels *k = &cpu->kernels;
    int64_t down = parts_of(s->m, sums_rows(k)), across = s->space ? 1 : parts_of(s->n, SUMS_COLS),
            threads = cpu->threads;
    if (s->m <= 0 || s->n <= 0) return;
    for (int64_t tries = 2 * threads; tries > 0 && down * across % threads; tries--) {
        if (s->m / down > s->n / across)
            down++;
        else
            across++;
    }
    sums t = {.cpu = cpu,
              .s = s,
              .rows = round_up(parts_of(s->m, down), k->tile_rows),
              .cols = round_up(parts_of(s->n, across), k->tile_cols)};
    t.across = parts_of(s->n, t.cols);
    int64_t pieces = parts_of(s->m, t.rows) * t.across;
    if (!s->space) {
        up_cpu_for(cpu, pieces, whole_piece, &t);
        return;
    }
    for (t.k = block_from(&t, 0); t.k.k > 0; t.k = block_from(&t, t.k.start + t.k.k)) {
        up_cpu_for(cpu, parts_of(s->n, CHUNK), space_piece, &t);
        up_cpu_for(cpu, pieces, block_piece, &t);
    }
}
