/* attention_short.c - attention of sequences of a few tokens, such as the entries of a vocabulary: all heads
 * of a sequence at one time. A score is one vector, a head each lane: dot products run along the columns and
 * their vectors are added up together, a vector's worth of heads in one tree. */
#include "backend_cpu/kernels/attention.h"

enum { QUERIES = UP_SHORT_QUERIES, KEYS = UP_SHORT_KEYS };

/* Rows of all heads as f32, prompts before own keys; heads are `wide` = whole vectors apart. */
typedef struct rows {
    const float *q[QUERIES], *dout[QUERIES], *k[KEYS], *v[KEYS];
} rows;

typedef struct space {
    int64_t keys, wide, lanes; /* lanes: heads in whole vectors */
    rows in;
    float *p, *ds;          /* [lq, keys, lanes] */
    float *out[KEYS];       /* rows of a result, [heads * wide] */
    float *buffer;          /* of the rows of `out` that are not in place */
    uint32_t seen[QUERIES]; /* bit j: the query sees key j */
} space;

int UP_K(attention_is_short)(const up_cpu_heads *h) {
    return h->lq <= QUERIES && h->prompts + h->lk <= KEYS;
}

int64_t UP_K(attention_short_work)(int64_t wide, int64_t heads, int backward) {
    int64_t columns = wide * heads, lanes = up_round_up(heads, UP_VW);
    int64_t in = (backward ? 2 : 1) * QUERIES + 2 * KEYS;
    return (in + KEYS) * columns + 2 * QUERIES * KEYS * lanes + 16 * UP_VW;
}

/* Rows of some heads; where they are f32 and whole vectors wide, they are read in place. */
static void load(const up_cpu_heads *h, int64_t wide, int64_t n, up_cells from, const float **rows,
                 float **work) {
    for (int64_t i = 0; i < n; i++) {
        up_cells row = up_cells_from(h->dtype, from, i, 0);
        rows[i] = row.p;
        if (h->dtype == UP_F32 && wide == h->width) continue;
        float *copy = up_take(work, h->heads * wide);
        row.ld = h->width; /* a head each row */
        if (wide == h->width)
            up_load_rows(h->dtype, 1, h->heads * wide, h->heads * wide, row, copy);
        else
            up_load_rows(h->dtype, h->heads, h->width, wide, row, copy);
        rows[i] = copy;
    }
}

/* What each query sees; keys that nobody sees are no work. */
static void look(const up_cpu_heads *h, space *s) {
    up_lanes lanes;
    up_look(h, 0, h->lq, h->lq, &lanes);
    for (int64_t i = 0; i < h->lq; i++) {
        s->seen[i] = 0;
        for (int32_t j = 0; j < s->keys; j++) s->seen[i] |= (uint32_t)up_seen(&lanes, i, j) << j;
    }
}

static space arrange(const up_cpu_heads *h, float *work, int backward) {
    space s = {.keys = h->prompts + h->lk,
               .wide = up_round_up(h->width, UP_VW),
               .lanes = up_round_up(h->heads, UP_VW)};
    s.p = up_take(&work, QUERIES * KEYS * s.lanes);
    s.ds = up_take(&work, QUERIES * KEYS * s.lanes);
    s.buffer = up_take(&work, KEYS * h->heads * s.wide);
    load(h, s.wide, h->lq, h->q, s.in.q, &work);
    load(h, s.wide, h->prompts, h->prompt_k, s.in.k, &work);
    load(h, s.wide, h->lk, h->k, s.in.k + h->prompts, &work);
    load(h, s.wide, h->prompts, h->prompt_v, s.in.v, &work);
    load(h, s.wide, h->lk, h->v, s.in.v + h->prompts, &work);
    if (backward) load(h, s.wide, h->lq, h->dout, s.in.dout, &work);
    look(h, &s);
    return s;
}

/* ---- dot products ---- */

/* to[h] = a . b of each head; lanes of no head repeat the last one. */
UP_INLINE void dots_of(const int64_t wide, int64_t heads, int64_t lanes, const float *a, const float *b,
                       float *to) {
    for (int64_t h0 = 0; h0 < lanes; h0 += UP_VW) {
        up_vec x[UP_VW];
        UP_UNROLL
        for (int i = 0; i < UP_VW; i++) {
            int64_t at = up_fewer(h0 + i, heads - 1) * wide;
            x[i] = *(const up_vec *)(a + at) * *(const up_vec *)(b + at);
            for (int64_t d = UP_VW; d < wide; d += UP_VW)
                x[i] += *(const up_vec *)(a + at + d) * *(const up_vec *)(b + at + d);
        }
        *(up_vec *)(to + h0) = up_sum_of_each(x);
    }
}

static void dots(int64_t wide, int64_t heads, int64_t lanes, const float *a, const float *b, float *to) {
    if (wide == 64)
        dots_of(64, heads, lanes, a, b, to);
    else
        dots_of(wide, heads, lanes, a, b, to);
}

/* For all pairs of a query and a key that it sees. */
static void all_dots(const up_cpu_heads *h, const space *s, const float *const *a, const float *const *b,
                     float *to) {
    for (int64_t i = 0; i < h->lq; i++)
        for (int64_t j = 0; j < s->keys; j++)
            if (s->seen[i] >> j & 1)
                dots(s->wide, h->heads, s->lanes, a[i], b[j], to + (i * s->keys + j) * s->lanes);
}

/* ---- sums of rows ---- */

/* A few vectors of a row: sum over n of factor[c * step] from[c] */
UP_INLINE void sum_vectors(const int vectors, int64_t n, const float *factor, int64_t step,
                           const float *const *from, int64_t at, float *to) {
    up_vec sum[4];
    UP_UNROLL
    for (int i = 0; i < vectors; i++) sum[i] = (up_vec){0};
    for (int64_t c = 0; c < n; c++) {
        const float *x = from[c] + at, f = factor[c * step];
        UP_UNROLL
        for (int i = 0; i < vectors; i++) sum[i] += f * *(const up_vec *)(x + i * UP_VW);
    }
    UP_UNROLL
    for (int i = 0; i < vectors; i++) *(up_vec *)(to + at + i * UP_VW) = sum[i];
}

/* to[r] = sum over n of factor(r, c) from[c], each head with its own; factor: [.., .., lanes] */
static void combine(const up_cpu_heads *h, const space *s, int64_t rows, int64_t row_step, int64_t n,
                    int64_t step, const float *factor, const float *const *from, float *const *to) {
    enum { FOUR = 4 * UP_VW };
    for (int64_t head = 0; head < h->heads; head++)
        for (int64_t r = 0; r < rows; r++) {
            const float *f = factor + r * row_step * s->lanes + head;
            int64_t at = head * s->wide, end = at + s->wide;
            for (; at + FOUR <= end; at += FOUR) sum_vectors(4, n, f, step * s->lanes, from, at, to[r]);
            for (; at < end; at += UP_VW) sum_vectors(1, n, f, step * s->lanes, from, at, to[r]);
        }
}

/* Rows of a result: in place where that can be. */
static void aim(const up_cpu_heads *h, space *s, int64_t first, int64_t n, up_cells to, int in_place) {
    in_place = in_place && to.p && h->dtype == UP_F32 && s->wide == h->width;
    for (int64_t i = 0; i < n; i++)
        s->out[first + i] =
            in_place ? (float *)to.p + i * to.ld : s->buffer + (first + i) * h->heads * s->wide;
}

static void give(const up_cpu_heads *h, const space *s, int64_t first, int64_t n, up_cells to, int add) {
    for (int64_t i = 0; to.p && i < n; i++) {
        up_cells row = up_cells_from(h->dtype, to, i, 0);
        if (s->out[first + i] == row.p) continue;
        row.ld = h->width; /* a head each row */
        up_store_rows(h->dtype, h->heads, h->width, (up_rows){s->out[first + i], s->wide}, row, add);
    }
}

/* ---- forward ---- */

/* Scores [keys, lanes] of one query become probabilities. */
static void softmax_row(const up_cpu_heads *h, const space *s, int64_t i) {
    float *score = s->p + i * s->keys * s->lanes;
    for (int64_t l = 0; l < s->lanes; l += UP_VW) {
        up_lanes t;
        float sum[UP_VW] = {0}, max[UP_VW];
        up_begin_lanes(UP_VW, &t);
        for (int k = 0; k < UP_VW; k++) max[k] = -INFINITY;
        for (int64_t j = 0; j < s->keys; j++)
            for (int k = 0; s->seen[i] >> j & 1 && k < UP_VW; k++) {
                float *x = score + j * s->lanes + l + k;
                *x *= h->scale;
                max[k] = *x > max[k] ? *x : max[k];
            }
        for (int64_t j = 0; j < s->keys; j++) {
            int seen = s->seen[i] >> j & 1;
            float *x = score + j * s->lanes + l;
#pragma omp simd
            for (int k = 0; k < UP_VW; k++) {
                float p = up_exp(x[k] - max[k]);
                x[k] = seen ? p : 0.0f;
                sum[k] += x[k];
            }
        }
        up_move_on(&t, 0, max, sum);
        up_end_lanes(UP_VW, &t);
        for (int64_t j = 0; j < s->keys; j++)
            for (int k = 0; k < UP_VW; k++) score[j * s->lanes + l + k] *= t.factor[k];
        for (int64_t k = 0; k < up_fewer(UP_VW, h->heads - l); k++)
            h->lse.p[i * h->lse.ld + l + k] = t.total[k];
    }
}

void UP_K(attention_short)(const up_cpu_heads *h, float *work) {
    space s = arrange(h, work, 0);
    all_dots(h, &s, s.in.q, s.in.k, s.p);
    for (int64_t i = 0; i < h->lq; i++) softmax_row(h, &s, i);
    aim(h, &s, 0, h->lq, h->out, 1);
    combine(h, &s, h->lq, s.keys, s.keys, 1, s.p, s.in.v, s.out);
    give(h, &s, 0, h->lq, h->out, 0);
}

/* ---- backward ---- */

/* p = exp(score - lse); ds = scale p (dp - sum_l p_l dp_l): of one query, [keys, lanes]. */
static void softmax_row_bwd(const up_cpu_heads *h, const space *s, int64_t i) {
    float *score = s->p + i * s->keys * s->lanes, *dp = s->ds + i * s->keys * s->lanes;
    for (int64_t l = 0; l < s->lanes; l += UP_VW) {
        float sum[UP_VW] = {0}, lse[UP_VW] = {0};
        memcpy(lse, h->lse.p + i * h->lse.ld + l, (size_t)up_fewer(UP_VW, h->heads - l) * sizeof *lse);
        for (int64_t j = 0; j < s->keys; j++) {
            int seen = s->seen[i] >> j & 1;
            float *x = score + j * s->lanes + l, *y = dp + j * s->lanes + l;
#pragma omp simd
            for (int k = 0; k < UP_VW; k++) {
                float p = up_exp(x[k] * h->scale - lse[k]);
                x[k] = seen ? p : 0.0f;
                y[k] = seen ? y[k] : 0.0f;
                sum[k] += x[k] * y[k];
            }
        }
        for (int64_t j = 0; j < s->keys; j++)
            for (int k = 0; k < UP_VW; k++) {
                float *y = dp + j * s->lanes + l + k;
                *y = h->scale * score[j * s->lanes + l + k] * (*y - sum[k]);
            }
    }
}

/* Gradients of keys or values: dv_j = sum_i p_ij dout_i, dk_j = sum_i ds_ij q_i. The prompts' come first. */
static void keys_bwd(const up_cpu_heads *h, space *s, const float *factor, const float *const *from,
                     up_cells own, up_rows prompts) {
    aim(h, s, 0, h->prompts, (up_cells){NULL, 0}, 0);
    aim(h, s, h->prompts, h->lk, own, !h->add_keys);
    combine(h, s, s->keys, 1, h->lq, s->keys, factor, from, s->out);
    give(h, s, h->prompts, h->lk, own, h->add_keys);
    for (int64_t j = 0; prompts.p && j < h->prompts; j++)
        up_add_rows(h->heads, h->width, (up_rows){s->out[j], s->wide},
                    (up_rows){prompts.p + j * prompts.ld, h->width});
}

void UP_K(attention_short_bwd)(const up_cpu_heads *h, float *work) {
    space s = arrange(h, work, 1);
    all_dots(h, &s, s.in.q, s.in.k, s.p);
    all_dots(h, &s, s.in.dout, s.in.v, s.ds);
    for (int64_t i = 0; i < h->lq; i++) softmax_row_bwd(h, &s, i);
    keys_bwd(h, &s, s.p, s.in.dout, h->dv, h->dprompt_v);
    keys_bwd(h, &s, s.ds, s.in.q, h->dk, h->dprompt_k);
    aim(h, &s, 0, h->lq, h->dq, 1);
    combine(h, &s, h->lq, s.keys, s.keys, 1, s.ds, s.in.k, s.out);
    give(h, &s, 0, h->lq, h->dq, 0);
}
