/* attention.c - attention over packed sequences: a piece is some sequences, or one head of one, and owns what
 * it writes. The mathematics of one head is in kernels/attention.c. */
#include "backend_cpu/cpu.h"

#include <math.h>
#include <string.h>

typedef struct call {
    const up_cpu *cpu;
    const up_attention_args *a;
    const up_attention_grad *g; /* NULL: forward */
    int add_keys; /* sequences share key rows: dk and dv are +=, and a piece is one head of all sequences */
    int64_t sequences, heads; /* of a piece */
    float scale;              /* 1 / sqrt(D / H) */
    int64_t work;             /* floats of scratch of each thread */
} call;

static up_rows rows_at(up_view v, int64_t row, int64_t col) {
    return up_view_present(v) ? up_rows_from(up_view_cols(v, col, 1), row) : (up_rows){NULL, 0};
}

static up_cpu_head head_of(const call *t, int64_t s, int64_t h) {
    const up_attention_args *a = t->a;
    const int32_t *f = up_i32(a->sequences) + s * a->sequences.stride;
    int64_t width = a->q.cols / a->heads, col = h * width, q = f[UP_SEQ_Q_START], k = f[UP_SEQ_K_START];
    int64_t side = a->prompt_sides > 1 ? f[UP_SEQ_SIDE] * (int64_t)a->prompts : 0;
    up_cpu_head head = {
        .lq = f[UP_SEQ_Q_COUNT],
        .lk = f[UP_SEQ_K_COUNT],
        .prompts = a->prompts,
        .width = width,
        .kind = f[UP_SEQ_KIND],
        .prefix = f[UP_SEQ_PREFIX],
        .words = f[UP_SEQ_WORDS],
        .scale = t->scale,
        .q = rows_at(a->q, q, col),
        .k = rows_at(a->k, k, col),
        .v = rows_at(a->v, k, col),
        .prompt_k = rows_at(a->prompt_k, side, col),
        .prompt_v = rows_at(a->prompt_v, side, col),
        .out = rows_at(a->out, q, col),
        .lse = rows_at(a->lse, q, h),
    };
    if (!t->g) return head;
    head.dout = rows_at(t->g->dout, q, col);
    head.dq = rows_at(t->g->dq, q, col);
    head.dk = rows_at(t->g->dk, k, col);
    head.dv = rows_at(t->g->dv, k, col);
    head.dprompt_k = rows_at(t->g->dprompt_k, side, col);
    head.dprompt_v = rows_at(t->g->dprompt_v, side, col);
    head.add_keys = t->add_keys;
    return head;
}

/* The same sequence, one head on: its columns follow. */
static void next_head(up_cpu_head *h) {
    up_rows *all[] = {&h->q,    &h->k,  &h->v,  &h->prompt_k, &h->prompt_v,  &h->out,
                      &h->dout, &h->dq, &h->dk, &h->dv,       &h->dprompt_k, &h->dprompt_v};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->p) all[i]->p += h->width;
    h->lse.p++;
}

/* Short sequences are over before the processor has found out what comes next: their rows are asked for one
 * sequence ahead. */
static void prefetch_rows(up_view v, int64_t first, int64_t count) {
    enum { LINE = 16 }; /* floats */
    for (int64_t i = first; up_view_present(v) && i < first + count; i++)
        for (int64_t j = 0; j < v.cols; j += LINE) __builtin_prefetch(up_f32(v) + i * v.stride + j);
}

static void prefetch_sequence(const call *t, int64_t s) {
    enum { SHORT = 8 };
    if (s >= t->a->sequences.rows) return;
    const int32_t *f = up_i32(t->a->sequences) + s * t->a->sequences.stride;
    if (f[UP_SEQ_Q_COUNT] > SHORT || f[UP_SEQ_K_COUNT] > SHORT) return;
    prefetch_rows(t->a->q, f[UP_SEQ_Q_START], f[UP_SEQ_Q_COUNT]);
    prefetch_rows(t->a->k, f[UP_SEQ_K_START], f[UP_SEQ_K_COUNT]);
    prefetch_rows(t->a->v, f[UP_SEQ_K_START], f[UP_SEQ_K_COUNT]);
    prefetch_rows(t->a->out, f[UP_SEQ_Q_START], f[UP_SEQ_Q_COUNT]);
    if (t->g) prefetch_rows(t->g->dout, f[UP_SEQ_Q_START], f[UP_SEQ_Q_COUNT]);
}

static void attention_piece(const void *context, int64_t piece, int thread) {
    const call *t = context;
    const up_attention_args *a = t->a;
    int64_t across = a->heads / t->heads, s0 = piece / across * t->sequences, h0 = piece % across * t->heads;
    float *work = up_scratch_of(t->g ? t->g->scratch : a->scratch) + thread * t->work;
    void (*run)(const up_cpu_head *, float *) =
        t->g ? t->cpu->kernels.attention_bwd : t->cpu->kernels.attention;
    for (int64_t s = s0; s < s0 + t->sequences && s < a->sequences.rows; s++) {
        up_cpu_head head = head_of(t, s, h0);
        prefetch_sequence(t, s + 1);
        for (int64_t h = 0; h < t->heads; h++, next_head(&head)) run(&head, work);
    }
}

static void zero_rows(up_view v, int64_t first, int64_t end) {
    for (int64_t i = first; up_view_present(v) && i < end; i++)
        memset(up_f32(v) + i * v.stride, 0, (size_t)v.cols * sizeof(float));
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

/* Some pieces a thread: many sequences are dealt out in groups, few are cut by heads. */
static void run(call *t, int by_head) {
    int64_t sequences = t->a->sequences.rows, pieces = 16 * (int64_t)t->cpu->threads;
    t->sequences = up_most(1, sequences / pieces);
    t->heads = t->a->heads;
    if (sequences < pieces) t->heads = 1;
    if (by_head) {
        t->sequences = up_most(1, sequences);
        t->heads = 1;
    }
    up_cpu_for(t->cpu, (sequences + t->sequences - 1) / t->sequences * (t->a->heads / t->heads),
               attention_piece, t);
}

up_status up_cpu_attention(up_cpu *cpu, const void *args) {
    const up_attention_args *a = args;
    call t = {.cpu = cpu, .a = a};
    t.scale = (float)(1 / sqrt((double)a->q.cols / a->heads));
    t.work = t.cpu->kernels.attention_work(a->max_keys, a->q.cols / a->heads, 0);
    clear_uncovered(a->sequences, UP_SEQ_Q_START, UP_SEQ_Q_COUNT, a->out, a->lse);
    run(&t, 0);
    return UP_OK;
}

/* With prompts, or rows that sequences share, a piece is one head of all sequences: it alone adds to its
 * columns. */
up_status up_cpu_attention_bwd(up_cpu *cpu, const void *args) {
    const up_attention_grad *g = args;
    const up_attention_args *a = &g->forward;
    call t = {.cpu = cpu, .a = a, .g = g};
    t.scale = (float)(1 / sqrt((double)a->q.cols / a->heads));
    t.work = t.cpu->kernels.attention_work(a->max_keys, a->q.cols / a->heads, 1);
    clear_uncovered(a->sequences, UP_SEQ_Q_START, UP_SEQ_Q_COUNT, g->dq, (up_view){0});
    t.add_keys = !clear_uncovered(a->sequences, UP_SEQ_K_START, UP_SEQ_K_COUNT, g->dk, g->dv);
    zero_rows(g->dprompt_k, 0, g->dprompt_k.rows);
    zero_rows(g->dprompt_v, 0, g->dprompt_v.rows);
    run(&t, t.add_keys || up_view_present(g->dprompt_k) || up_view_present(g->dprompt_v));
    return UP_OK;
}

size_t up_cpu_attention_scratch(const up_cpu *cpu, const up_op_dims *dims) {
    int64_t width = dims->heads ? dims->in / dims->heads : dims->in;
    return (size_t)(cpu->threads * cpu->kernels.attention_work(dims->keys, width, 1)) * sizeof(float);
}
