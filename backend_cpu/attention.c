/* attention.c - attention over packed sequences: cut into pieces of nearly equal cost, each some heads of
 * some sequences, which owns what it writes. The mathematics is in kernels/attention*.c. */
#include "backend_cpu/cpu.h"

#include <math.h>
#include <string.h>

enum { PIECES = 16 }; /* a thread */

typedef struct call {
    const up_cpu *cpu;
    const up_attention_args *a;
    const up_attention_grad *g; /* NULL: forward */
    int add_keys;               /* sequences share key rows: dk and dv are += */
    float scale;                /* 1 / sqrt(D / H) */
    int64_t heads;              /* of a piece that is some heads of all sequences */
    int32_t *cuts;              /* else: piece p is units cuts[p]..cuts[p + 1]-1; unit s * H + h is a head */
    float *work;
    int64_t work_floats, sums_floats; /* of each thread; sums: of the prompts' gradients */
} call;

static int64_t width_of(const up_attention_args *a) {
    return a->q.cols / a->heads;
}

static const int32_t *sequence_at(const up_attention_args *a, int64_t s) {
    return up_i32(a->sequences) + s * a->sequences.stride;
}

static int is_short(const up_attention_args *a, int64_t s) {
    const int32_t *f = sequence_at(a, s);
    return f[UP_SEQ_Q_COUNT] <= UP_SHORT_QUERIES && f[UP_SEQ_K_COUNT] + a->prompts <= UP_SHORT_KEYS;
}

static up_rows rows_at(up_view v, int64_t row, int64_t col) {
    return up_view_present(v) ? up_rows_from(up_view_cols(v, col, 1), row) : (up_rows){NULL, 0};
}

static up_cells cells_at(up_view v, int64_t row, int64_t col) {
    if (!up_view_present(v)) return (up_cells){NULL, 0};
    return (up_cells){up_bytes_from(up_view_cols(v, col, 1), row), v.stride};
}

/* Heads h..h+count-1 of sequence s. */
static up_cpu_heads heads_of(const call *t, int64_t s, int64_t h, int64_t count) {
    const up_attention_args *a = t->a;
    const int32_t *f = sequence_at(a, s);
    int64_t width = width_of(a), col = h * width, q = f[UP_SEQ_Q_START], k = f[UP_SEQ_K_START];
    int64_t side = a->prompt_sides > 1 ? f[UP_SEQ_SIDE] * (int64_t)a->prompts : 0;
    up_cpu_heads heads = {
        .lq = f[UP_SEQ_Q_COUNT],
        .lk = f[UP_SEQ_K_COUNT],
        .prompts = a->prompts,
        .width = width,
        .heads = count,
        .kind = f[UP_SEQ_KIND],
        .prefix = f[UP_SEQ_PREFIX],
        .words = f[UP_SEQ_WORDS],
        .scale = t->scale,
        .dtype = (int)a->q.dtype,
        .q = cells_at(a->q, q, col),
        .k = cells_at(a->k, k, col),
        .v = cells_at(a->v, k, col),
        .prompt_k = cells_at(a->prompt_k, side, col),
        .prompt_v = cells_at(a->prompt_v, side, col),
        .out = cells_at(a->out, q, col),
        .lse = rows_at(a->lse, q, h),
    };
    if (!t->g) return heads;
    heads.dout = cells_at(t->g->dout, q, col);
    heads.dq = cells_at(t->g->dq, q, col);
    heads.dk = cells_at(t->g->dk, k, col);
    heads.dv = cells_at(t->g->dv, k, col);
    heads.add_keys = t->add_keys;
    return heads;
}

static void run_heads(const call *t, const up_cpu_heads *heads, int thread) {
    float *work = t->work + thread * (t->work_floats + t->sums_floats);
    if (t->g)
        t->cpu->kernels.attention_bwd(heads, work);
    else
        t->cpu->kernels.attention(heads, work);
}

/* Short sequences are over before the processor has found out what comes next: their rows are asked for one
 * sequence ahead. */
static void prefetch_rows(up_view v, int64_t first, int64_t count) {
    enum { LINE = 64 };
    for (int64_t i = first; up_view_present(v) && i < first + count; i++) {
        const char *row = up_bytes_from(v, i);
        for (int64_t at = 0; at < v.cols * (int64_t)up_dtype_size(v.dtype); at += LINE)
            __builtin_prefetch(row + at);
    }
}

static void prefetch_sequence(const call *t, int64_t s) {
    const up_attention_args *a = t->a;
    if (s >= a->sequences.rows || !is_short(a, s)) return;
    const int32_t *f = sequence_at(a, s);
    prefetch_rows(a->q, f[UP_SEQ_Q_START], f[UP_SEQ_Q_COUNT]);
    prefetch_rows(a->k, f[UP_SEQ_K_START], f[UP_SEQ_K_COUNT]);
    prefetch_rows(a->v, f[UP_SEQ_K_START], f[UP_SEQ_K_COUNT]);
    if (t->g) prefetch_rows(t->g->dout, f[UP_SEQ_Q_START], f[UP_SEQ_Q_COUNT]);
}

static void piece_of_units(const void *context, int64_t piece, int thread) {
    const call *t = context;
    int64_t all = t->a->heads;
    for (int64_t u = t->cuts[piece]; u < t->cuts[piece + 1];) {
        int64_t count = up_least(all - u % all, t->cuts[piece + 1] - u);
        up_cpu_heads heads = heads_of(t, u / all, u % all, count);
        prefetch_sequence(t, u / all + 1);
        run_heads(t, &heads, thread);
        u += count;
    }
}

/* ---- how the work is cut ---- */

/* Of one head, in pairs of a query and a key: a row is read and written at the price of some pairs. */
static int64_t cost_of(const up_attention_args *a, int64_t s) {
    enum { ROW = 8 };
    const int32_t *f = sequence_at(a, s);
    int64_t queries = f[UP_SEQ_Q_COUNT], keys = (int64_t)f[UP_SEQ_K_COUNT] + a->prompts;
    return queries * keys + ROW * (queries + keys);
}

/* Cuts the heads of all sequences, in order, where a piece's share of the cost is reached. Short sequences,
 * whose heads are worked on together, are not cut. */
static void cut(call *t, int64_t pieces) {
    const up_attention_args *a = t->a;
    int64_t total = 0, sum = 0, piece = 1;
    for (int64_t s = 0; s < a->sequences.rows; s++) total += a->heads * cost_of(a, s);
    t->cuts[0] = 0;
    for (int64_t s = 0; s < a->sequences.rows; s++) {
        int64_t step = is_short(a, s) ? a->heads : 1, cost = step * cost_of(a, s);
        for (int64_t h = step; h <= a->heads; h += step) {
            sum += cost;
            for (; piece < pieces && (double)sum * (double)pieces >= (double)total * (double)piece; piece++)
                t->cuts[piece] = (int32_t)(s * a->heads + h);
        }
    }
    for (; piece <= pieces; piece++) t->cuts[piece] = (int32_t)(a->sequences.rows * a->heads);
}

static int64_t sums_floats(int64_t keys, int64_t columns) {
    return 2 * 2 * keys * columns; /* of keys and values; of two sides */
}

/* The parts of scratch: cuts, then for each thread its work and its sums. */
static void arrange(call *t, up_view scratch) {
    enum { LINE = 16 };
    const up_attention_args *a = t->a;
    int64_t cuts = (int64_t)t->cpu->threads * PIECES + 1;
    t->cuts = (int32_t *)(void *)up_scratch_of(scratch);
    t->work = up_scratch_of(scratch) + (cuts + LINE - 1) / LINE * LINE;
    t->work_floats = t->cpu->kernels.attention_work(a->max_keys, width_of(a), a->heads, t->g != NULL);
    t->sums_floats = sums_floats(a->prompts, t->heads * width_of(a));
    t->scale = (float)(1 / sqrt((double)width_of(a)));
}

static void run_units(call *t, up_view scratch) {
    int64_t pieces = (int64_t)t->cpu->threads * PIECES;
    arrange(t, scratch);
    cut(t, pieces);
    up_cpu_for(t->cpu, pieces, piece_of_units, t);
}

/* ---- rows of no sequence ---- */

static void zero_rows(up_view v, int64_t first, int64_t end) {
    for (int64_t i = first; up_view_present(v) && i < end; i++)
        memset(up_bytes_from(v, i), 0, (size_t)v.cols * up_dtype_size(v.dtype));
}

/* Rows that belong to no sequence become 0. Sequences that follow one another cover one range, else all rows
 * are cleared first. Returns 1 where no row can be shared. */
static int clear_uncovered(up_view sequences, int start, int count, up_view x, up_view y) {
    int64_t first = 0, end = 0, ordered = 1;
    for (int64_t s = 0; s < sequences.rows; s++) {
        const int32_t *f = up_i32(sequences) + s * sequences.stride;
        if (s == 0) first = end = f[start];
        ordered &= f[start] == end;
        end = (int64_t)f[start] + f[count];
    }
    if (!ordered) first = end = 0;
    zero_rows(x, 0, first);
    zero_rows(x, end, x.rows);
    zero_rows(y, 0, first);
    zero_rows(y, end, y.rows);
    return (int)ordered;
}

up_status up_cpu_attention(up_cpu *cpu, const void *args) {
    const up_attention_args *a = args;
    call t = {.cpu = cpu, .a = a};
    clear_uncovered(a->sequences, UP_SEQ_Q_START, UP_SEQ_Q_COUNT, a->out, a->lse);
    run_units(&t, a->scratch);
    return UP_OK;
}

/* ---- backward where sequences add to the same rows: some heads of all of them are one piece ---- */

static void store_sums(const call *t, const float *sums, up_view to, int64_t col, int64_t cols) {
    for (int64_t i = 0; up_view_present(to) && i < to.rows; i++)
        up_cpu_convert(t->cpu, cols, UP_F32, sums + i * cols, to.dtype, cells_at(to, i, col).p);
}

static void piece_of_heads(const void *context, int64_t piece, int thread) {
    const call *t = context;
    const up_attention_args *a = t->a;
    int64_t h = piece * t->heads, count = up_least(t->heads, a->heads - h), cols = count * width_of(a);
    float *sums_k = t->work + thread * (t->work_floats + t->sums_floats) + t->work_floats;
    float *sums_v = sums_k + t->sums_floats / 2;
    memset(sums_k, 0, (size_t)t->sums_floats * sizeof *sums_k);
    for (int64_t s = 0; s < a->sequences.rows; s++) {
        up_cpu_heads heads = heads_of(t, s, h, count);
        int64_t side = a->prompt_sides > 1 ? sequence_at(a, s)[UP_SEQ_SIDE] * (int64_t)a->prompts : 0;
        heads.dprompt_k = (up_rows){sums_k + side * cols, cols};
        heads.dprompt_v = (up_rows){sums_v + side * cols, cols};
        run_heads(t, &heads, thread);
    }
    store_sums(t, sums_k, t->g->dprompt_k, h * width_of(a), cols);
    store_sums(t, sums_v, t->g->dprompt_v, h * width_of(a), cols);
}

/* One head a piece; where all sequences are short, as many as the threads leave. */
static void run_by_heads(call *t, up_view scratch) {
    int64_t heads = t->a->heads, all_short = 1;
    for (int64_t s = 0; all_short && s < t->a->sequences.rows; s++) all_short = is_short(t->a, s);
    t->heads = all_short ? (heads + t->cpu->threads - 1) / t->cpu->threads : 1;
    if (t->a->prompts > UP_SHORT_KEYS) t->heads = 1; /* no sequence at all: scratch is for one */
    arrange(t, scratch);
    up_cpu_for(t->cpu, (heads + t->heads - 1) / t->heads, piece_of_heads, t);
}

up_status up_cpu_attention_bwd(up_cpu *cpu, const void *args) {
    const up_attention_grad *g = args;
    const up_attention_args *a = &g->forward;
    call t = {.cpu = cpu, .a = a, .g = g};
    clear_uncovered(a->sequences, UP_SEQ_Q_START, UP_SEQ_Q_COUNT, g->dq, (up_view){0});
    t.add_keys = !clear_uncovered(a->sequences, UP_SEQ_K_START, UP_SEQ_K_COUNT, g->dk, g->dv);
    if (t.add_keys || up_view_present(g->dprompt_k) || up_view_present(g->dprompt_v))
        run_by_heads(&t, g->scratch);
    else
        run_units(&t, g->scratch);
    return UP_OK;
}

size_t up_cpu_attention_scratch(const up_cpu *cpu, const up_op_dims *dims) {
    enum { LINE = 64 };
    int64_t heads = up_most(1, dims->heads), width = dims->in / heads;
    int64_t sums =
        up_most(sums_floats(dims->keys, width), sums_floats(up_least(dims->keys, UP_SHORT_KEYS), dims->in));
    int64_t each = cpu->kernels.attention_work(dims->keys, width, heads, 1) + sums;
    size_t cuts = ((size_t)cpu->threads * PIECES + 1) * sizeof(int32_t) + LINE;
    return cuts + (size_t)(cpu->threads * each) * sizeof(float);
}
