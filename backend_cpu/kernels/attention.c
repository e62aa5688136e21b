/* attention.c - heads of one sequence, forward and backward (Vaswani et al. 2017), in f32. Queries go in
 * blocks, and scores lie as [keys, queries], so that sums and maxima over the keys run down whole vectors of
 * queries. Keys go in blocks with the softmax kept online (Milakov and Gimelshein 2018); the backward pass
 * computes the probabilities again from the log-sum-exp (Dao et al. 2022): nothing of size L x L is stored,
 * and keys that no query of a block sees are not looked at. 16-bit rows are widened as they are loaded. */
#include "backend_cpu/kernels/attention.h"

enum { QUERIES = UP_ATT_QUERIES, KEYS = UP_ATT_KEYS };

/* The parts of the work space and where the rows lie that the products read: in place where they are of the
 * type wanted, a head is whole vectors wide and there are no prompts, else copied. Dot products read words of
 * 4 bytes: f32, or pairs of bf16 where the processor multiplies those. keys = prompts + lk; wide, words = a
 * row in whole vectors. */
typedef struct space {
    int64_t keys, wide, words;
    int paired;
    up_lanes *lane;
    float *qt, *doutt;        /* a block of queries transposed, [words, QUERIES] */
    up_rows k_words, v_words; /* [keys, words] */
    up_rows k, v, dk, dv;     /* [keys, wide] */
    float *q, *dout, *out;    /* copies of a block of queries, [QUERIES, wide] */
    float *score, *dscore;    /* [block of keys, QUERIES] */
    float *acc;               /* [QUERIES, wide] out or dq */
} space;

static int64_t blocked_work(int64_t keys, int64_t width, int backward) {
    int64_t wide = up_round_up(width, 2 * UP_VW), block = up_fewer(keys, KEYS);
    int64_t part = 3 * QUERIES * wide + 3 * keys * wide + QUERIES * block;
    return UP_LANES_FLOATS + part + (backward ? part : 0) + 32 * UP_VW;
}

/* Rows as words, with 0 behind them. */
static void copy_words(const up_cpu_heads *h, const space *s, int64_t n, up_cells from, float *to) {
    if (!s->paired) {
        up_load_rows(h->dtype, n, h->width, s->words, from, to);
        return;
    }
    for (int64_t i = 0; i < n; i++, to += s->words) {
        memset(to, 0, (size_t)s->words * sizeof *to);
        memcpy(to, up_cells_from(h->dtype, from, i, 0).p, (size_t)h->width * sizeof(uint16_t));
    }
}

static int in_place(const up_cpu_heads *h, const space *s, up_cells x) {
    if (!s->paired) return h->dtype == UP_F32 && h->width == s->words;
    return h->width == 2 * s->words && x.ld % 2 == 0 && (uintptr_t)x.p % sizeof(float) == 0;
}

static up_rows words_of(const up_cpu_heads *h, const space *s, int64_t n, up_cells x, float *buffer) {
    if (in_place(h, s, x)) return (up_rows){x.p, s->paired ? x.ld / 2 : x.ld};
    copy_words(h, s, n, x, buffer);
    return (up_rows){buffer, s->words};
}

/* Prompts and own rows as one matrix. */
static up_rows all_words(const up_cpu_heads *h, const space *s, up_cells own, up_cells prompts,
                         float *buffer) {
    if (!h->prompts) return words_of(h, s, h->lk, own, buffer);
    copy_words(h, s, h->prompts, prompts, buffer);
    copy_words(h, s, h->lk, own, buffer + h->prompts * s->words);
    return (up_rows){buffer, s->words};
}

/* Some rows as f32. */
static up_rows wide_rows(const up_cpu_heads *h, int64_t wide, int64_t n, up_cells x, float *buffer) {
    space f32 = {.words = wide};
    return words_of(h, &f32, n, x, buffer);
}

/* Where a gradient of keys or values is summed: in place, where that is f32 and holds nothing else. */
static up_rows gradient(const up_cpu_heads *h, int64_t wide, up_cells own, float *buffer) {
    int apart = h->prompts || wide != h->width || h->dtype != UP_F32 || h->add_keys || !own.p;
    return apart ? (up_rows){buffer, wide} : (up_rows){own.p, own.ld};
}

/* Keys and values as the products of a pass want them. */
static void arrange_keys(const up_cpu_heads *h, space *s, float **work, int backward) {
    space f32 = {.words = s->wide};
    s->k_words = all_words(h, s, h->k, h->prompt_k, up_take(work, s->keys * s->words));
    if (!s->paired) {
        s->k = s->k_words;
        s->v = s->v_words = all_words(h, s, h->v, h->prompt_v, up_take(work, s->keys * s->words));
    } else if (backward) {
        s->k = all_words(h, &f32, h->k, h->prompt_k, up_take(work, s->keys * s->wide));
        s->v_words = all_words(h, s, h->v, h->prompt_v, up_take(work, s->keys * s->words));
    } else {
        s->v = all_words(h, &f32, h->v, h->prompt_v, up_take(work, s->keys * s->wide));
    }
}

static space arrange(const up_cpu_heads *h, float *work, int backward) {
    space s = {.keys = h->prompts + h->lk, .wide = up_round_up(h->width, UP_VW)};
    int64_t block = up_fewer(s.keys, KEYS);
    s.paired = h->dtype == UP_BF16 && UP_K(has_pairs)();
    s.words = s.paired ? up_round_up(h->width, 2 * UP_VW) / 2 : s.wide;
    s.lane = up_take(&work, UP_LANES_FLOATS);
    arrange_keys(h, &s, &work, backward);
    s.qt = up_take(&work, QUERIES * s.words);
    s.score = up_take(&work, QUERIES * block);
    s.acc = up_take(&work, QUERIES * s.wide);
    s.q = up_take(&work, QUERIES * s.wide);
    if (!backward) return s;
    s.doutt = up_take(&work, QUERIES * s.words);
    s.dk = gradient(h, s.wide, h->dk, up_take(&work, s.keys * s.wide));
    s.dv = gradient(h, s.wide, h->dv, up_take(&work, s.keys * s.wide));
    s.dscore = up_take(&work, QUERIES * block);
    s.dout = up_take(&work, QUERIES * s.wide);
    s.out = up_take(&work, QUERIES * s.wide);
    return s;
}

/* Rows first..first+n-1 of queries as columns, [words, lanes]. */
static void columns(const up_cpu_heads *h, const space *s, up_cells x, int64_t first, int64_t n,
                    float *buffer, float *to) {
    up_rows rows = words_of(h, s, n, up_cells_from(h->dtype, x, first, 0), buffer);
    up_transpose(n, up_round_up(n, UP_VW), s->words, rows, to);
}

/* to[keys, lanes] = alpha x . (a block of queries as columns) */
static void dot_products(const space *s, up_rows x, up_span keys, float alpha, const float *block,
                         int64_t lanes, float *to) {
    x.p += keys.first * x.ld;
    if (s->paired)
        UP_K(pair_products)(keys.count, lanes, s->words, alpha, x, block, to);
    else
        up_tile_block(keys.count, lanes,
                      (up_tile){s->words, alpha, 0, x.p, x.ld, 1, block, lanes, to, lanes});
}

/* One vector of queries: scores become exp(score - largest so far), the sums follow. */
UP_INLINE void softmax_lanes(const int masked, int64_t l, int64_t lanes, up_span keys, up_lanes *t,
                             float *score) {
    float max[UP_VW], sum[UP_VW];
    for (int i = 0; i < UP_VW; i++) {
        max[i] = t->largest[l + i];
        sum[i] = 0;
    }
    const int32_t first = (int32_t)keys.first, count = (int32_t)keys.count;
    for (int32_t j = 0; j < count; j++)
#pragma omp simd
        for (int i = 0; i < UP_VW; i++) {
            float v = score[j * lanes + l + i];
            if (masked) v = up_seen(t, l + i, first + j) ? v : -INFINITY;
            max[i] = v > max[i] ? v : max[i];
        }
    for (int32_t j = 0; j < count; j++)
#pragma omp simd
        for (int i = 0; i < UP_VW; i++) {
            float p = up_exp(score[j * lanes + l + i] - max[i]);
            if (masked) p = up_seen(t, l + i, first + j) ? p : 0.0f;
            score[j * lanes + l + i] = p;
            sum[i] += p;
        }
    up_move_on(t, l, max, sum);
}

static void softmax(int64_t lanes, up_span keys, up_lanes *t, float *score) {
    for (int64_t l = 0; l < lanes; l += UP_VW)
        if (keys.masked)
            softmax_lanes(1, l, lanes, keys, t, score);
        else
            softmax_lanes(0, l, lanes, keys, t, score);
}

static void finish_rows(const up_cpu_heads *h, space *s, int64_t first, int64_t n, int64_t lanes) {
    up_end_lanes(lanes, s->lane);
    for (int64_t i = 0; i < n; i++) {
        float *acc = s->acc + i * s->wide, factor = s->lane->factor[i];
        for (int64_t d = 0; d < s->wide; d++) acc[d] *= factor;
        h->lse.p[(first + i) * h->lse.ld] = s->lane->total[i];
    }
    up_store_rows(h->dtype, n, h->width, (up_rows){s->acc, s->wide},
                  up_cells_from(h->dtype, h->out, first, 0), 0);
}

/* Rows that will be written: a head is a narrow strip of rows that lie far apart, which the processor does
 * not see coming. */
static void prefetch_rows(const up_cpu_heads *h, up_cells x, int64_t first, int64_t n) {
    enum { LINE = 64 };
    int64_t bytes = h->width * up_cell_size(h->dtype);
    for (int64_t i = first; x.p && i < first + n; i++)
        for (int64_t at = 0; at < bytes; at += LINE)
            __builtin_prefetch((const char *)up_cells_from(h->dtype, x, i, 0).p + at, 1);
}

static void blocked(const up_cpu_heads *h, float *work) {
    space s = arrange(h, work, 0);
    for (int64_t i0 = 0; i0 < h->lq; i0 += QUERIES) {
        int64_t n = up_fewer(QUERIES, h->lq - i0), lanes = up_round_up(n, UP_VW);
        prefetch_rows(h, h->out, i0, n);
        columns(h, &s, h->q, i0, n, s.q, s.qt);
        up_sight sight = up_look(h, i0, n, lanes, s.lane);
        up_span keys;
        up_begin_lanes(lanes, s.lane);
        int begun = 0;
        for (; up_next_span(&sight, &keys); begun = 1) {
            const float *v = s.v.p + keys.first * s.v.ld;
            dot_products(&s, s.k_words, keys, h->scale, s.qt, lanes, s.score);
            softmax(lanes, keys, s.lane, s.score);
            for (int64_t i = 0; begun && i < n; i++)
                for (int64_t d = 0; d < s.wide; d++) s.acc[i * s.wide + d] *= s.lane->factor[i];
            up_tile_block(n, s.wide,
                          (up_tile){keys.count, 1, begun, s.score, 1, lanes, v, s.v.ld, s.acc, s.wide});
        }
        if (!begun) memset(s.acc, 0, (size_t)(n * s.wide) * sizeof *s.acc);
        finish_rows(h, &s, i0, n, lanes);
    }
}

/* p = exp(score - lse); ds = scale p (dp - sum_l p_l dp_l), where the sum is dout . out */
UP_INLINE void softmax_bwd_masked(const int masked, int64_t lanes, up_span keys, float scale,
                                  const up_lanes *t, float *score, float *dscore) {
    const int32_t first = (int32_t)keys.first, count = (int32_t)keys.count;
    for (int64_t l = 0; l < lanes; l += UP_VW)
        for (int32_t j = 0; j < count; j++)
#pragma omp simd
            for (int i = 0; i < UP_VW; i++) {
                int64_t at = j * lanes + l + i;
                float p = up_exp(score[at] - t->largest[l + i]), ds = scale * (dscore[at] - t->total[l + i]);
                if (masked) p = up_seen(t, l + i, first + j) ? p : 0.0f;
                score[at] = p;
                dscore[at] = p * ds;
            }
}

static void softmax_bwd(int64_t lanes, up_span keys, float scale, const up_lanes *t, float *score,
                        float *dscore) {
    if (keys.masked)
        softmax_bwd_masked(1, lanes, keys, scale, t, score, dscore);
    else
        softmax_bwd_masked(0, lanes, keys, scale, t, score, dscore);
}

/* lse and dout . out of each query of a block; the lanes beyond them 0 */
static void recall(const up_cpu_heads *h, space *s, int64_t first, int64_t n, int64_t lanes, up_rows dout) {
    up_lanes *t = s->lane;
    up_rows out = wide_rows(h, s->wide, n, up_cells_from(h->dtype, h->out, first, 0), s->out);
    for (int64_t i = n; i < lanes; i++) t->largest[i] = t->total[i] = 0;
    for (int64_t i = 0; i < n; i++) {
        const float *a = dout.p + i * dout.ld, *b = out.p + i * out.ld;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t d = 0; d < h->width; d++) sum += a[d] * b[d];
        t->largest[i] = h->lse.p[(first + i) * h->lse.ld];
        t->total[i] = sum;
    }
}

/* Some keys against a block of queries: p and ds, then dv += p' dout, dk += ds' q, dq += ds k. add: dk and
 * dv, dq hold something already. */
static void span_bwd(const up_cpu_heads *h, space *s, int64_t n, up_rows q, up_rows dout, up_span keys,
                     int add, int add_dq) {
    int64_t count = keys.count, lanes = up_round_up(n, UP_VW);
    const float *k = s->k.p + keys.first * s->k.ld;
    float *dk = s->dk.p + keys.first * s->dk.ld, *dv = s->dv.p + keys.first * s->dv.ld;
    dot_products(s, s->k_words, keys, h->scale, s->qt, lanes, s->score);
    dot_products(s, s->v_words, keys, 1, s->doutt, lanes, s->dscore);
    softmax_bwd(lanes, keys, h->scale, s->lane, s->score, s->dscore);
    up_tile_block(count, s->wide, (up_tile){n, 1, add, s->score, lanes, 1, dout.p, dout.ld, dv, s->dv.ld});
    up_tile_block(count, s->wide, (up_tile){n, 1, add, s->dscore, lanes, 1, q.p, q.ld, dk, s->dk.ld});
    up_tile_block(n, s->wide, (up_tile){count, 1, add_dq, s->dscore, 1, lanes, k, s->k.ld, s->acc, s->wide});
}

static void zero_rows(int64_t n, int64_t width, up_rows x) {
    for (int64_t j = 0; j < n; j++) memset(x.p + j * x.ld, 0, (size_t)width * sizeof *x.p);
}

/* The sums of keys and values go where they belong; the prompts' come first. */
static void give_keys(const up_cpu_heads *h, up_rows sum, up_cells own, up_rows prompts) {
    if (sum.p == own.p) return;
    up_add_rows(h->prompts, h->width, sum, prompts);
    sum.p += h->prompts * sum.ld;
    up_store_rows(h->dtype, h->lk, h->width, sum, own, h->add_keys);
}

static void blocked_bwd(const up_cpu_heads *h, float *work) {
    space s = arrange(h, work, 1);
    int zeroed = h->lq == 0 || h->kind != UP_MASK_FULL; /* some keys may be seen by nobody */
    if (zeroed) {
        zero_rows(s.keys, s.wide, s.dk);
        zero_rows(s.keys, s.wide, s.dv);
    }
    for (int64_t i0 = 0; i0 < h->lq; i0 += QUERIES) {
        int64_t n = up_fewer(QUERIES, h->lq - i0), lanes = up_round_up(n, UP_VW);
        prefetch_rows(h, h->dq, i0, n);
        prefetch_rows(h, h->dk, i0, up_fewer(n, h->lk - i0));
        prefetch_rows(h, h->dv, i0, up_fewer(n, h->lk - i0));
        columns(h, &s, h->q, i0, n, s.q, s.qt);
        columns(h, &s, h->dout, i0, n, s.dout, s.doutt);
        up_rows q = wide_rows(h, s.wide, n, up_cells_from(h->dtype, h->q, i0, 0), s.q),
                dout = wide_rows(h, s.wide, n, up_cells_from(h->dtype, h->dout, i0, 0), s.dout);
        up_sight sight = up_look(h, i0, n, lanes, s.lane);
        up_span keys;
        recall(h, &s, i0, n, lanes, dout);
        int begun = 0;
        for (; up_next_span(&sight, &keys); begun = 1)
            span_bwd(h, &s, n, q, dout, keys, zeroed || i0 > 0, begun);
        if (!begun) memset(s.acc, 0, (size_t)(n * s.wide) * sizeof *s.acc);
        up_store_rows(h->dtype, n, h->width, (up_rows){s.acc, s.wide}, up_cells_from(h->dtype, h->dq, i0, 0),
                      0);
    }
    give_keys(h, s.dk, h->dk, h->dprompt_k);
    give_keys(h, s.dv, h->dv, h->dprompt_v);
}

/* One head of a sequence, and the next one's: its columns follow. */
static void next_head(up_cpu_heads *h) {
    up_cells *all[] = {&h->q,   &h->k,    &h->v,  &h->prompt_k, &h->prompt_v,
                       &h->out, &h->dout, &h->dq, &h->dk,       &h->dv};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        *all[i] = up_cells_from(h->dtype, *all[i], 0, h->width);
    if (h->dprompt_k.p) h->dprompt_k.p += h->width;
    if (h->dprompt_v.p) h->dprompt_v.p += h->width;
    h->lse.p++;
}

static void attention(const up_cpu_heads *h, float *work) {
    up_cpu_heads one = *h;
    if (UP_K(attention_is_short)(h)) {
        UP_K(attention_short)(h, work);
        return;
    }
    for (int64_t i = 0; i < h->heads; i++, next_head(&one)) blocked(&one, work);
}

static void attention_bwd(const up_cpu_heads *h, float *work) {
    up_cpu_heads one = *h;
    if (UP_K(attention_is_short)(h)) {
        UP_K(attention_short_bwd)(h, work);
        return;
    }
    for (int64_t i = 0; i < h->heads; i++, next_head(&one)) blocked_bwd(&one, work);
}

static int64_t attention_work(int64_t keys, int64_t width, int64_t heads, int backward) {
    int64_t most = blocked_work(keys, width, backward), work;
    work = UP_K(attention_short_work)(up_round_up(width, UP_VW), heads, backward);
    return up_round_up(work > most ? work : most, UP_VW);
}

void UP_K(fill_attention)(up_cpu_kernels *k) {
    k->attention_work = attention_work;
    k->attention = attention;
    k->attention_bwd = attention_bwd;
}
