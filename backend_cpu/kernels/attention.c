/* attention.c - one head of one sequence, forward and backward (Vaswani et al. 2017). Queries go in blocks of
 * UP_ATT_QUERIES rows, keys in blocks of UP_ATT_KEYS with the softmax kept online (Milakov and Gimelshein
 * 2018), the backward pass computes the probabilities again from the log-sum-exp (Dao et al. 2022): nothing
 * of size L x L is stored. */
#include "backend_cpu/kernels/tile.h"
#include "uniperceiver/backend.h"

enum { QUERIES = UP_ATT_QUERIES, KEYS = UP_ATT_KEYS };

/* The parts of the work space and where the rows lie that the products read: in place where a head is whole
 * vectors wide and there are no prompts, else copied. keys = prompts + lk; wide and long = width and keys in
 * whole vectors. */
typedef struct space {
    int64_t keys, wide;
    int64_t step;           /* queries of a block */
    float *kt, *vt;         /* blocks of keys, each [width, block] */
    up_rows k, v, dk, dv;   /* [keys, wide] */
    float *q, *dout;        /* copies of a block of queries, [QUERIES, wide] */
    float *score, *dscore;  /* [QUERIES, block] */
    float *acc;             /* [QUERIES, wide] out or dq */
    float *largest, *total; /* [QUERIES] of the scores so far, and the sum of exp(score - largest) */
} space;

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t attention_work(int64_t keys, int64_t width, int backward) {
    int64_t wide = up_round_up(width, UP_VW), lengthy = up_round_up(keys, UP_VW);
    int64_t floats = lengthy * width + 2 * lengthy * wide + QUERIES * (least(lengthy, KEYS) + wide + 2);
    if (backward)
        floats += lengthy * width + 2 * lengthy * wide + QUERIES * (least(lengthy, KEYS) + 2 * wide);
    return up_round_up(floats, UP_VW) + 16 * UP_VW;
}

static float *take(float **work, int64_t floats) {
    float *p = *work;
    *work += up_round_up(floats, UP_VW);
    return p;
}

static void copy_rows(int64_t n, int64_t width, int64_t wide, const float *from, int64_t ld, float *to) {
    for (int64_t i = 0; i < n; i++) {
        memcpy(to + i * wide, from + i * ld, (size_t)width * sizeof *to);
        for (int64_t j = width; j < wide; j++) to[i * wide + j] = 0;
    }
}

/* Prompts and own rows as one matrix of whole vectors. */
static up_rows gathered(const up_cpu_head *h, int64_t wide, up_rows own, up_rows prompts, float *buffer) {
    if (!h->prompts && wide == h->width) return own;
    copy_rows(h->prompts, h->width, wide, prompts.p, prompts.ld, buffer);
    copy_rows(h->lk, h->width, wide, own.p, own.ld, buffer + h->prompts * wide);
    return (up_rows){buffer, wide};
}

/* Blocks of [width, block], the last block filled up with zeros. */
static void transpose(int64_t n, int64_t width, up_rows from, float *to) {
    for (int64_t j0 = 0; j0 < n; j0 += KEYS) {
        int64_t count = least(KEYS, n - j0), ld = up_round_up(count, UP_VW);
        if (count < ld) memset(to, 0, (size_t)(ld * width) * sizeof *to);
        for (int64_t j = 0; j < count; j++)
            for (int64_t d = 0; d < width; d++) to[d * ld + j] = from.p[(j0 + j) * from.ld + d];
        to += ld * width;
    }
}

/* Where a gradient of keys or values is summed: in place, where that holds nothing else. */
static up_rows gradient(const up_cpu_head *h, int64_t wide, up_rows own, float *buffer) {
    int apart = h->prompts || wide != h->width || h->add_keys || !own.p;
    return apart ? (up_rows){buffer, wide} : own;
}

static space arrange(const up_cpu_head *h, float *work, int backward) {
    space s = {.keys = h->prompts + h->lk, .wide = up_round_up(h->width, UP_VW)};
    int64_t lengthy = up_round_up(s.keys, UP_VW), block = least(lengthy, KEYS);
    int64_t blocks = (h->lq + QUERIES - 1) / QUERIES;
    s.step = blocks ? (h->lq + blocks - 1) / blocks : QUERIES;
    s.kt = take(&work, lengthy * h->width);
    s.k = gathered(h, s.wide, h->k, h->prompt_k, take(&work, lengthy * s.wide));
    s.v = gathered(h, s.wide, h->v, h->prompt_v, take(&work, lengthy * s.wide));
    s.score = take(&work, QUERIES * block), s.acc = take(&work, QUERIES * s.wide);
    s.largest = take(&work, QUERIES), s.total = take(&work, QUERIES);
    transpose(s.keys, h->width, s.k, s.kt);
    if (!backward) return s;
    s.vt = take(&work, lengthy * h->width);
    s.dk = gradient(h, s.wide, h->dk, take(&work, lengthy * s.wide));
    s.dv = gradient(h, s.wide, h->dv, take(&work, lengthy * s.wide));
    s.dscore = take(&work, QUERIES * block);
    s.q = take(&work, QUERIES * s.wide), s.dout = take(&work, QUERIES * s.wide);
    transpose(s.keys, h->width, s.v, s.vt);
    return s;
}

/* The keys that query i sees are 0..limit-1 and `extra`, counted from key `first`; -1: none. As up_mask_sees.
 */
typedef struct sight {
    int32_t limit, extra;
} sight;

static sight sight_of(const up_cpu_head *h, int64_t i, int64_t first) {
    int64_t at = i + h->lk - h->lq, limit = h->lk, extra = -1;
    if (h->kind == UP_MASK_CAUSAL) limit = at + 1;
    if (h->kind == UP_MASK_DOUBLED) {
        limit = at < h->prefix ? h->prefix : at + 1;
        if (at >= h->prefix + h->words) limit = at - h->words, extra = at;
    }
    limit += h->prompts - first;
    extra += extra < 0 ? 0 : h->prompts - first;
    return (sight){(int32_t)limit, (int32_t)(extra < 0 ? -1 : extra)};
}

/* score[n, block] = alpha * rows . keys of one block */
static void scores(int64_t n, int64_t width, float alpha, up_rows rows, const float *transposed,
                   int64_t first, int64_t block, float *score) {
    up_tile_block(
        n, block,
        (up_tile){width, alpha, 0, rows.p, rows.ld, 1, transposed + first * width, block, score, block});
}

/* One row of scores becomes exp(score - largest); the sums and the row of outputs so far follow a larger
 * largest. */
static void softmax_row(int32_t block, sight see, float *score, float *largest, float *total, int64_t wide,
                        float *acc) {
    float max = *largest, sum = 0;
    block &= -UP_VW; /* whole vectors: told to the compiler */
#pragma omp simd reduction(max : max)
    for (int32_t j = 0; j < block; j++) {
        float v = (j < see.limit) | (j == see.extra) ? score[j] : -INFINITY;
        max = v > max ? v : max;
    }
    if (max == -INFINITY) { /* nothing seen yet */
        memset(score, 0, (size_t)block * sizeof *score);
        return;
    }
#pragma omp simd reduction(+ : sum)
    for (int32_t j = 0; j < block; j++) {
        float p = up_exp(score[j] - max);
        p = (j < see.limit) | (j == see.extra) ? p : 0.0f;
        score[j] = p, sum += p;
    }
    float factor = *largest == -INFINITY ? 0.0f : up_exp(*largest - max);
    *largest = max, *total = *total * factor + sum;
    for (int64_t d = 0; acc && d < wide; d++) acc[d] *= factor;
}

static void finish_rows(const up_cpu_head *h, space *s, int64_t first, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float *out = h->out.p + (first + i) * h->out.ld, total = s->total[i];
        float inverse = total > 0 ? 1.0f / total : total; /* 0: sees nothing; NaN stays */
        for (int64_t d = 0; d < h->width; d++) out[d] = s->acc[i * s->wide + d] * inverse;
    }
#pragma omp simd
    for (int64_t i = 0; i < QUERIES; i++) s->total[i] = s->largest[i] + up_log(s->total[i]);
    for (int64_t i = 0; i < n; i++) h->lse.p[(first + i) * h->lse.ld] = s->total[i];
}

static void attention(const up_cpu_head *h, float *work) {
    space s = arrange(h, work, 0);
    for (int64_t i0 = 0; i0 < h->lq; i0 += s.step) {
        int64_t n = least(s.step, h->lq - i0);
        up_rows q = {h->q.p + i0 * h->q.ld, h->q.ld};
        for (int64_t i = 0; i < QUERIES; i++) s.largest[i] = -INFINITY, s.total[i] = 0;
        memset(s.acc, 0, s.keys ? 0 : (size_t)(n * s.wide) * sizeof *s.acc);
        for (int64_t j0 = 0; j0 < s.keys; j0 += KEYS) {
            int64_t count = least(KEYS, s.keys - j0), block = up_round_up(count, UP_VW);
            scores(n, h->width, h->scale, q, s.kt, j0, block, s.score);
            for (int64_t i = 0; i < n; i++)
                softmax_row((int32_t)block, sight_of(h, i0 + i, j0), s.score + i * block, s.largest + i,
                            s.total + i, s.wide, j0 ? s.acc + i * s.wide : NULL);
            up_tile_block(
                n, s.wide,
                (up_tile){count, 1, j0 > 0, s.score, block, 1, s.v.p + j0 * s.v.ld, s.v.ld, s.acc, s.wide});
        }
        finish_rows(h, &s, i0, n);
    }
}

/* p = exp(score - lse); ds = scale p (dp - sum_l p_l dp_l), where the sum is dout . out */
static void softmax_bwd_row(int32_t block, sight see, float scale, float lse, float along, float *score,
                            float *dscore) {
    block &= -UP_VW;
#pragma omp simd
    for (int32_t j = 0; j < block; j++) {
        float p = up_exp(score[j] - lse), ds = scale * (dscore[j] - along);
        int seen = (j < see.limit) | (j == see.extra);
        score[j] = seen ? p : 0.0f;
        dscore[j] = seen ? p * ds : 0.0f;
    }
}

static float along_out(const up_cpu_head *h, int64_t i) {
    const float *a = h->dout.p + i * h->dout.ld, *b = h->out.p + i * h->out.ld;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t d = 0; d < h->width; d++) sum += a[d] * b[d];
    return sum;
}

static up_rows whole_rows(const up_cpu_head *h, int64_t wide, up_rows from, int64_t first, int64_t n,
                          float *buffer) {
    from.p += first * from.ld;
    if (wide == h->width) return from;
    copy_rows(n, h->width, wide, from.p, from.ld, buffer);
    return (up_rows){buffer, wide};
}

static void store(int64_t n, int64_t width, up_rows from, up_rows to, int add) {
    for (int64_t i = 0; to.p && i < n; i++) {
        const float *a = from.p + i * from.ld;
        float *b = to.p + i * to.ld;
        if (add)
            for (int64_t d = 0; d < width; d++) b[d] += a[d];
        else
            memcpy(b, a, (size_t)width * sizeof *b);
    }
}

/* One block of queries against one block of keys: p and ds, then dv += p' dout, dk += ds' q, dq += ds k */
static void block_bwd(const up_cpu_head *h, space *s, int64_t i0, int64_t n, up_rows q, up_rows dout,
                      int64_t j0) {
    int64_t count = least(KEYS, s->keys - j0), block = up_round_up(count, UP_VW);
    scores(n, h->width, h->scale, q, s->kt, j0, block, s->score);
    scores(n, h->width, 1, dout, s->vt, j0, block, s->dscore);
    for (int64_t i = 0; i < n; i++)
        softmax_bwd_row((int32_t)block, sight_of(h, i0 + i, j0), h->scale, h->lse.p[(i0 + i) * h->lse.ld],
                        s->total[i], s->score + i * block, s->dscore + i * block);
    up_tile dv = {n, 1, i0 > 0, s->score, 1, block, dout.p, dout.ld, s->dv.p + j0 * s->dv.ld, s->dv.ld};
    up_tile dk = {n, 1, i0 > 0, s->dscore, 1, block, q.p, q.ld, s->dk.p + j0 * s->dk.ld, s->dk.ld};
    up_tile dq = {count, 1, j0 > 0, s->dscore, block, 1, s->k.p + j0 * s->k.ld, s->k.ld, s->acc, s->wide};
    up_tile_block(count, s->wide, dv);
    up_tile_block(count, s->wide, dk);
    up_tile_block(n, s->wide, dq);
}

static void attention_bwd(const up_cpu_head *h, float *work) {
    space s = arrange(h, work, 1);
    for (int64_t i0 = 0; i0 < h->lq; i0 += s.step) {
        int64_t n = least(s.step, h->lq - i0);
        up_rows q = whole_rows(h, s.wide, h->q, i0, n, s.q),
                dout = whole_rows(h, s.wide, h->dout, i0, n, s.dout);
        for (int64_t i = 0; i < n; i++) s.total[i] = along_out(h, i0 + i);
        memset(s.acc, 0, s.keys ? 0 : (size_t)(n * s.wide) * sizeof *s.acc);
        for (int64_t j0 = 0; j0 < s.keys; j0 += KEYS) block_bwd(h, &s, i0, n, q, dout, j0);
        if (h->dq.p)
            store(n, h->width, (up_rows){s.acc, s.wide}, (up_rows){h->dq.p + i0 * h->dq.ld, h->dq.ld}, 0);
    }
    if (!h->lq) return; /* no query: nothing flows back, and the driver has set the gradients to 0 */
    store(h->prompts, h->width, s.dk, h->dprompt_k, 1);
    store(h->prompts, h->width, s.dv, h->dprompt_v, 1);
    s.dk.p += h->prompts * s.wide, s.dv.p += h->prompts * s.wide;
    if (s.dk.p != h->dk.p) store(h->lk, h->width, s.dk, h->dk, h->add_keys);
    if (s.dv.p != h->dv.p) store(h->lk, h->width, s.dv, h->dv, h->add_keys);
}

void UP_K(fill_attention)(up_cpu_kernels *k) {
    k->attention_work = attention_work, k->attention = attention, k->attention_bwd = attention_bwd;
}
