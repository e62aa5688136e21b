/* attention.c - multi-head attention (Vaswani et al. 2017) over packed sequences. The mask of a sequence is
 * computed from its kind (paper appendix B, figure 4) by up_mask_sees; nothing of size N x N is stored.
 * Prompts are extra keys and values before the sequence's own, seen by every query (paper appendix C). */
#include "ref/ops/ops.h"

#include <math.h>

/* One sequence and one head: d = D / H, K keys of which the first P are prompts. */
typedef struct span {
    int64_t queries, keys, prompts, width; /* rows, K, P, d */
    int64_t q_row, k_row, prompt_row;      /* first rows in q, k, prompt_k */
    int64_t col;                           /* first column of the head */
    int kind, prefix, words;
    double scale; /* 1 / sqrt(d) */
} span;

static span span_of(const up_attention_args *a, int64_t s, int64_t h) {
    const int32_t *f = up_i32(a->sequences) + s * a->sequences.stride;
    int64_t d = a->q.cols / a->heads;
    int side = a->prompt_sides > 1 ? f[UP_SEQ_SIDE] : 0;
    return (span){.queries = f[UP_SEQ_Q_COUNT],
                  .keys = a->prompts + f[UP_SEQ_K_COUNT],
                  .prompts = a->prompts,
                  .width = d,
                  .q_row = f[UP_SEQ_Q_START],
                  .k_row = f[UP_SEQ_K_START],
                  .prompt_row = (int64_t)side * a->prompts,
                  .col = h * d,
                  .kind = f[UP_SEQ_KIND],
                  .prefix = f[UP_SEQ_PREFIX],
                  .words = f[UP_SEQ_WORDS],
                  .scale = 1 / sqrt((double)d)};
}

/* The head's part of row n. [1, d] */
static up_view part(const span *s, up_view v, int64_t n) {
    return up_view_cols(up_view_rows(v, n, 1), s->col, s->width);
}

/* Row j of the keys (or values) that the sequence sees: prompts first, then its own. [1, d] */
static up_view key_row(const span *s, up_view own, up_view prompt, int64_t j) {
    return j < s->prompts ? part(s, prompt, s->prompt_row + j) : part(s, own, s->k_row + j - s->prompts);
}

static int sees(const span *s, int64_t i, int64_t j) {
    int64_t own = s->keys - s->prompts;
    return j < s->prompts ||
           up_mask_sees(s->kind, s->prefix, s->words, (int)(i + own - s->queries), (int)(j - s->prompts));
}

static double dot(up_view a, up_view b) {
    double sum = 0;
    for (int64_t d = 0; d < a.cols; d++) sum += up_get(a, 0, d) * up_get(b, 0, d);
    return sum;
}

/* to[d] += factor * row[1, d], and the store of a sum: row = from. */
static void add_row(double *to, double factor, up_view row) {
    for (int64_t d = 0; d < row.cols; d++) to[d] += factor * up_get(row, 0, d);
}

static void put_row(up_view row, const double *from) {
    for (int64_t d = 0; d < row.cols; d++) up_put(row, 0, d, from[d]);
}

/* p[K] = softmax over the keys that query i sees of scale * q . k; 0 elsewhere. Returns
 * log(sum(exp(scores))). */
static double probabilities(const span *s, const up_attention_args *a, int64_t i, double *p) {
    up_view q = part(s, a->q, s->q_row + i);
    double largest = -INFINITY, sum = 0;
    for (int64_t j = 0; j < s->keys; j++) {
        p[j] = sees(s, i, j) ? s->scale * dot(q, key_row(s, a->k, a->prompt_k, j)) : -INFINITY;
        largest = fmax(largest, p[j]);
    }
    for (int64_t j = 0; j < s->keys; j++) sum += p[j] = p[j] == -INFINITY ? 0 : exp(p[j] - largest);
    for (int64_t j = 0; j < s->keys && sum != 0; j++) p[j] /= sum; /* 0: the query sees nothing */
    return largest + log(sum);
}

/* Scratch, in doubles: p and ds [K], one row [d], and gradients of keys and values,
 * each [sides * P + own keys, d]: no more than 2 K rows. */
static int64_t scratch_doubles(int64_t keys, int64_t width) {
    return 2 * keys + width + 2 * 2 * keys * width;
}

size_t up_ref_attention_scratch(const up_op_dims *dims) {
    return (size_t)scratch_doubles(dims->keys, dims->in / (dims->heads ? dims->heads : 1)) * sizeof(double);
}

/* out = sum over j of p_j v_j, for every query of every sequence; rows of no sequence become 0. */
up_status up_ref_attention(up_backend *b, const up_attention_args *a) {
    (void)b;
    up_ref_zero(a->out);
    up_ref_zero(a->lse);
    for (int64_t s = 0; s < a->sequences.rows; s++)
        for (int64_t h = 0; h < a->heads; h++) {
            span t = span_of(a, s, h);
            double *p = up_ref_scratch(a->scratch), *sum = p + t.keys; /* [K], [d] */
            for (int64_t i = 0; i < t.queries; i++) {
                up_row(a->lse, t.q_row + i)[h] = (float)probabilities(&t, a, i, p);
                for (int64_t d = 0; d < t.width; d++) sum[d] = 0;
                for (int64_t j = 0; j < t.keys; j++)
                    if (p[j] != 0) add_row(sum, p[j], key_row(&t, a->v, a->prompt_v, j));
                put_row(part(&t, a->out, t.q_row + i), sum);
            }
        }
    return UP_OK;
}

/* Sums of gradients of one head in double. Prompt rows of both sides come first and gather over all
 * sequences; the own keys of the present sequence follow. */
typedef struct sums {
    double *p, *ds;  /* [K] */
    double *dq;      /* [d] */
    double *dk, *dv; /* [sides * P + own keys, d] */
} sums;

static int64_t sum_row(const up_attention_args *a, const span *s, int64_t j) {
    return j < s->prompts ? s->prompt_row + j : (int64_t)a->prompt_sides * s->prompts + j - s->prompts;
}

/* One query. out = sum_j p_j v_j:      dv_j += p_j dout,  dp_j = dout . v_j
 *            p = softmax(scores):      ds_j = p_j (dp_j - sum_l p_l dp_l)
 *            score_j = scale q . k_j:  dq += scale ds_j k_j,  dk_j += scale ds_j q
 * p is computed again in double rather than from the stored f32 log-sum-exp. */
static void query_backward(const up_attention_grad *g, const span *s, int64_t i, sums *t) {
    const up_attention_args *a = &g->forward;
    up_view q = part(s, a->q, s->q_row + i), dout = part(s, g->dout, s->q_row + i);
    double average = 0;
    probabilities(s, a, i, t->p);
    for (int64_t j = 0; j < s->keys; j++) {
        t->ds[j] = t->p[j] == 0 ? 0 : dot(dout, key_row(s, a->v, a->prompt_v, j));
        average += t->p[j] * t->ds[j];
    }
    for (int64_t d = 0; d < s->width; d++) t->dq[d] = 0;
    for (int64_t j = 0; j < s->keys; j++) {
        if (t->p[j] == 0) continue;
        double ds = s->scale * t->p[j] * (t->ds[j] - average);
        add_row(t->dq, ds, key_row(s, a->k, a->prompt_k, j));
        add_row(t->dk + sum_row(a, s, j) * s->width, ds, q);
        add_row(t->dv + sum_row(a, s, j) * s->width, t->p[j], dout);
    }
    if (up_view_present(g->dq)) put_row(part(s, g->dq, s->q_row + i), t->dq);
}

/* Columns col..col+d-1 of rows first..first+count-1 take sum [count, d]; a row may belong to several
 * sequences. */
static void add_sums(up_view to, int64_t first, int64_t count, int64_t col, int64_t width,
                     const double *sum) {
    if (!up_view_present(to)) return;
    for (int64_t j = 0; j < count; j++)
        for (int64_t d = 0; d < width; d++)
            up_put(to, first + j, col + d, up_get(to, first + j, col + d) + sum[j * width + d]);
}

static void sequence_backward(const up_attention_grad *g, const span *s, sums *t) {
    const up_attention_args *a = &g->forward;
    int64_t first = (int64_t)a->prompt_sides * s->prompts * s->width, own = s->keys - s->prompts;
    for (int64_t i = 0; i < own * s->width; i++) t->dk[first + i] = t->dv[first + i] = 0;
    for (int64_t i = 0; i < s->queries; i++) query_backward(g, s, i, t);
    add_sums(g->dk, s->k_row, own, s->col, s->width, t->dk + first);
    add_sums(g->dv, s->k_row, own, s->col, s->width, t->dv + first);
}

up_status up_ref_attention_bwd(up_backend *b, const up_attention_grad *g) {
    (void)b;
    const up_attention_args *a = &g->forward;
    up_view set[] = {g->dq, g->dk, g->dv, g->dprompt_k, g->dprompt_v};
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        if (up_view_present(set[i])) up_ref_zero(set[i]);
    if (a->sequences.rows == 0) return UP_OK;
    int64_t width = a->q.cols / a->heads, keys = a->max_keys,
            prompt_rows = (int64_t)a->prompt_sides * a->prompts;
    double *p = up_ref_scratch(g->scratch);
    sums t = {p, p + keys, p + 2 * keys, p + 2 * keys + width, p + 2 * keys + width + 2 * keys * width};
    for (int64_t h = 0; h < a->heads; h++) {
        for (int64_t i = 0; i < prompt_rows * width; i++) t.dk[i] = t.dv[i] = 0;
        for (int64_t s = 0; s < a->sequences.rows; s++) {
            span one = span_of(a, s, h);
            sequence_backward(g, &one, &t);
        }
        add_sums(g->dprompt_k, 0, prompt_rows, h * width, width, t.dk);
        add_sums(g->dprompt_v, 0, prompt_rows, h * width, width, t.dv);
    }
    return UP_OK;
}
