/* attention.c - one head of one sequence, forward and backward (Vaswani et al. 2017). Queries go in blocks,
 * and scores lie as [keys, queries], so that sums and maxima over the keys run down whole vectors of queries.
 * Keys go in blocks with the softmax kept online (Milakov and Gimelshein 2018); the backward pass computes
 * the probabilities again from the log-sum-exp (Dao et al. 2022): nothing of size L x L is stored. */
#include "backend_cpu/kernels/tile.h"
#include "uniperceiver/backend.h"

enum { QUERIES = UP_ATT_QUERIES, KEYS = UP_ATT_KEYS };

/* What query i of a block sees: the keys 0..limit-1 and `extra` (-1: none), prompts counted. As up_mask_sees.
 */
typedef struct lane {
    int32_t limit[QUERIES], extra[QUERIES];
    float largest[QUERIES], total[QUERIES],
        factor[QUERIES]; /* of the online softmax; backward: lse, dout . out, - */
} lane;

/* The parts of the work space and where the rows lie that the products read: in place where a head is whole
 * vectors wide and there are no prompts, else copied. keys = prompts + lk; wide = width in whole vectors. */
typedef struct space {
    int64_t keys, wide;
    lane *lane;
    float *qt, *doutt;     /* a block of queries transposed, [width, QUERIES] */
    up_rows k, v, dk, dv;  /* [keys, wide] */
    float *q, *dout;       /* copies of a block of queries, [QUERIES, wide] */
    float *score, *dscore; /* [block of keys, QUERIES] */
    float *acc;            /* [QUERIES, wide] out or dq */
} space;

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static float *take(float **work, int64_t floats) {
    float *p = *work;
    *work += up_round_up(floats, UP_VW);
    return p;
}

static int64_t attention_work(int64_t keys, int64_t width, int backward) {
    int64_t wide = up_round_up(width, UP_VW), lane_floats = (int64_t)(sizeof(lane) / sizeof(float));
    int64_t part = QUERIES * width + 2 * keys * wide + QUERIES * least(keys, KEYS) + QUERIES * wide;
    return up_round_up(lane_floats + part + (backward ? part + QUERIES * wide : 0) + 16 * UP_VW, UP_VW);
}

static void copy_rows(int64_t n, int64_t width, int64_t wide, up_rows from, float *to) {
    for (int64_t i = 0; i < n; i++) {
        memcpy(to + i * wide, from.p + i * from.ld, (size_t)width * sizeof *to);
        for (int64_t j = width; j < wide; j++) to[i * wide + j] = 0;
    }
}

/* Prompts and own rows as one matrix of whole vectors. */
static up_rows gathered(const up_cpu_head *h, int64_t wide, up_rows own, up_rows prompts, float *buffer) {
    if (!h->prompts && wide == h->width) return own;
    copy_rows(h->prompts, h->width, wide, prompts, buffer);
    copy_rows(h->lk, h->width, wide, own, buffer + h->prompts * wide);
    return (up_rows){buffer, wide};
}

/* Where a gradient of keys or values is summed: in place, where that holds nothing else. */
static up_rows gradient(const up_cpu_head *h, int64_t wide, up_rows own, float *buffer) {
    int apart = h->prompts || wide != h->width || h->add_keys || !own.p;
    return apart ? (up_rows){buffer, wide} : own;
}

static space arrange(const up_cpu_head *h, float *work, int backward) {
    space s = {.keys = h->prompts + h->lk, .wide = up_round_up(h->width, UP_VW)};
    int64_t block = least(s.keys, KEYS);
    s.lane = (lane *)(void *)take(&work, (int64_t)(sizeof(lane) / sizeof(float)));
    s.qt = take(&work, QUERIES * h->width);
    s.k = gathered(h, s.wide, h->k, h->prompt_k, take(&work, s.keys * s.wide));
    s.v = gathered(h, s.wide, h->v, h->prompt_v, take(&work, s.keys * s.wide));
    s.score = take(&work, QUERIES * block);
    s.acc = take(&work, QUERIES * s.wide);
    if (!backward) return s;
    s.doutt = take(&work, QUERIES * h->width);
    s.dk = gradient(h, s.wide, h->dk, take(&work, s.keys * s.wide));
    s.dv = gradient(h, s.wide, h->dv, take(&work, s.keys * s.wide));
    s.dscore = take(&work, QUERIES * block);
    s.q = take(&work, QUERIES * s.wide);
    s.dout = take(&work, QUERIES * s.wide);
    return s;
}

/* A few rows as one vector for each column, put together in a register: whole vectors are read soon after,
 * and would wait for every smaller store into them. */
static void transpose_few(int64_t n, int64_t width, up_rows from, float *to) {
    typedef int32_t bits __attribute__((vector_size(4 * UP_VW), aligned(4), may_alias));
    const float *row = from.p;
    int32_t only[2 * UP_VW] = {0};
    only[UP_VW] = -1; /* read from UP_VW - i on: the mask of lane i */
    for (int64_t d = 0; d < width; d++) {
        bits all = {0};
        for (int64_t i = 0; i < n; i++) {
            int32_t value;
            memcpy(&value, row + i * from.ld + d, sizeof value);
            all |= value & *(const bits *)(only + UP_VW - i);
        }
        *(bits *)(to + d * UP_VW) = all;
    }
}

/* Rows of a block of queries as [width, lanes]; the lanes beyond them are 0. */
static void transpose(int64_t n, int64_t lanes, int64_t width, up_rows from, float *to) {
    enum { FEW = 4 };
    if (n <= FEW && lanes == UP_VW) {
        transpose_few(n, width, from, to);
        return;
    }
    if (n < lanes) memset(to, 0, (size_t)(lanes * width) * sizeof *to);
    for (int64_t i = 0; i < n; i++)
        for (int64_t d = 0; d < width; d++) to[d * lanes + i] = from.p[i * from.ld + d];
}

static void look(const up_cpu_head *h, int64_t first, int64_t n, int64_t lanes, lane *t) {
    for (int64_t i = 0; i < lanes; i++) {
        int64_t at = first + i + h->lk - h->lq, limit = h->lk, extra = -1;
        if (h->kind == UP_MASK_CAUSAL) limit = at + 1;
        if (h->kind == UP_MASK_DOUBLED) {
            limit = at < h->prefix ? h->prefix : at + 1;
            if (at >= h->prefix + h->words) {
                limit = at - h->words;
                extra = at + h->prompts;
            }
        }
        t->limit[i] = i < n ? (int32_t)(limit + h->prompts) : 0; /* lanes of no query see nothing */
        t->extra[i] = i < n ? (int32_t)extra : -1;
    }
}

UP_INLINE int seen(const lane *t, int64_t i, int32_t j) {
    return (j < t->limit[i]) | (j == t->extra[i]);
}

/* One vector of queries: scores become exp(score - largest so far), the sums follow. factor: by how much what
 * was summed before has shrunk. */
static void softmax_lanes(int64_t l, int64_t lanes, int32_t first, int32_t count, lane *t, float *score) {
    float max[UP_VW], sum[UP_VW];
    for (int i = 0; i < UP_VW; i++) {
        max[i] = t->largest[l + i];
        sum[i] = 0;
    }
    for (int32_t j = 0; j < count; j++)
#pragma omp simd
        for (int i = 0; i < UP_VW; i++) {
            float v = seen(t, l + i, first + j) ? score[j * lanes + l + i] : -INFINITY;
            max[i] = v > max[i] ? v : max[i];
        }
    for (int32_t j = 0; j < count; j++)
#pragma omp simd
        for (int i = 0; i < UP_VW; i++) {
            float p = up_exp(score[j * lanes + l + i] - max[i]);
            p = seen(t, l + i, first + j) ? p : 0.0f;
            score[j * lanes + l + i] = p;
            sum[i] += p;
        }
#pragma omp simd
    for (int i = 0; i < UP_VW; i++) {
        float factor = up_exp(t->largest[l + i] - max[i]);
        factor = t->largest[l + i] == -INFINITY ? 0.0f : factor;
        t->factor[l + i] = factor;
        t->largest[l + i] = max[i];
        t->total[l + i] = t->total[l + i] * factor + sum[i];
    }
}

static void finish_rows(const up_cpu_head *h, space *s, int64_t first, int64_t n, int64_t lanes) {
    lane *t = s->lane;
    for (int64_t l = 0; l < lanes; l += UP_VW)
#pragma omp simd
        for (int i = 0; i < UP_VW; i++) {
            float total = t->total[l + i];
            t->factor[l + i] = total > 0 ? 1.0f / total : total; /* 0: sees nothing; NaN stays */
            t->total[l + i] = t->largest[l + i] + up_log(total);
        }
    for (int64_t i = 0; i < n; i++) {
        float *out = h->out.p + (first + i) * h->out.ld, *acc = s->acc + i * s->wide;
        for (int64_t d = 0; d < h->width; d++) out[d] = acc[d] * t->factor[i];
        h->lse.p[(first + i) * h->lse.ld] = t->total[i];
    }
}

static void attention(const up_cpu_head *h, float *work) {
    space s = arrange(h, work, 0);
    for (int64_t i0 = 0; i0 < h->lq; i0 += QUERIES) {
        int64_t n = least(QUERIES, h->lq - i0), lanes = up_round_up(n, UP_VW);
        transpose(n, lanes, h->width, (up_rows){h->q.p + i0 * h->q.ld, h->q.ld}, s.qt);
        look(h, i0, n, lanes, s.lane);
        for (int64_t i = 0; i < lanes; i++) {
            s.lane->largest[i] = -INFINITY;
            s.lane->total[i] = 0;
        }
        if (!s.keys) memset(s.acc, 0, (size_t)(n * s.wide) * sizeof *s.acc);
        for (int64_t j0 = 0; j0 < s.keys; j0 += KEYS) {
            int64_t count = least(KEYS, s.keys - j0);
            const float *k = s.k.p + j0 * s.k.ld, *v = s.v.p + j0 * s.v.ld;
            up_tile_block(count, lanes,
                          (up_tile){h->width, h->scale, 0, k, s.k.ld, 1, s.qt, lanes, s.score, lanes});
            for (int64_t l = 0; l < lanes; l += UP_VW)
                softmax_lanes(l, lanes, (int32_t)j0, (int32_t)count, s.lane, s.score);
            for (int64_t i = 0; j0 && i < n; i++)
                for (int64_t d = 0; d < s.wide; d++) s.acc[i * s.wide + d] *= s.lane->factor[i];
            up_tile_block(n, s.wide,
                          (up_tile){count, 1, j0 > 0, s.score, 1, lanes, v, s.v.ld, s.acc, s.wide});
        }
        finish_rows(h, &s, i0, n, lanes);
    }
}

/* p = exp(score - lse); ds = scale p (dp - sum_l p_l dp_l), where the sum is dout . out */
static void softmax_bwd(int64_t lanes, int32_t first, int32_t count, float scale, const lane *t, float *score,
                        float *dscore) {
    for (int32_t j = 0; j < count; j++)
        for (int64_t l = 0; l < lanes; l += UP_VW)
#pragma omp simd
            for (int i = 0; i < UP_VW; i++) {
                int64_t at = j * lanes + l + i;
                float p = up_exp(score[at] - t->largest[l + i]), ds = scale * (dscore[at] - t->total[l + i]);
                p = seen(t, l + i, first + j) ? p : 0.0f;
                score[at] = p;
                dscore[at] = p * ds;
            }
}

/* lse and dout . out of each query of a block; the lanes beyond them 0 */
static void recall(const up_cpu_head *h, int64_t first, int64_t n, int64_t lanes, lane *t) {
    for (int64_t i = n; i < lanes; i++) t->largest[i] = t->total[i] = 0;
    for (int64_t i = 0; i < n; i++) {
        const float *a = h->dout.p + (first + i) * h->dout.ld, *b = h->out.p + (first + i) * h->out.ld;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t d = 0; d < h->width; d++) sum += a[d] * b[d];
        t->largest[i] = h->lse.p[(first + i) * h->lse.ld];
        t->total[i] = sum;
    }
}

static up_rows whole_rows(const up_cpu_head *h, int64_t wide, up_rows from, int64_t first, int64_t n,
                          float *buffer) {
    from.p += first * from.ld;
    if (wide == h->width) return from;
    copy_rows(n, h->width, wide, from, buffer);
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

/* A block of queries against a block of keys: p and ds, then dv += p' dout, dk += ds' q, dq += ds k */
static void block_bwd(const up_cpu_head *h, space *s, int64_t i0, int64_t n, up_rows q, up_rows dout,
                      int64_t j0) {
    int64_t count = least(KEYS, s->keys - j0), lanes = up_round_up(n, UP_VW);
    const float *k = s->k.p + j0 * s->k.ld, *v = s->v.p + j0 * s->v.ld;
    float *dk = s->dk.p + j0 * s->dk.ld, *dv = s->dv.p + j0 * s->dv.ld;
    up_tile_block(count, lanes,
                  (up_tile){h->width, h->scale, 0, k, s->k.ld, 1, s->qt, lanes, s->score, lanes});
    up_tile_block(count, lanes, (up_tile){h->width, 1, 0, v, s->v.ld, 1, s->doutt, lanes, s->dscore, lanes});
    softmax_bwd(lanes, (int32_t)j0, (int32_t)count, h->scale, s->lane, s->score, s->dscore);
    up_tile_block(count, s->wide, (up_tile){n, 1, i0 > 0, s->score, lanes, 1, dout.p, dout.ld, dv, s->dv.ld});
    up_tile_block(count, s->wide, (up_tile){n, 1, i0 > 0, s->dscore, lanes, 1, q.p, q.ld, dk, s->dk.ld});
    up_tile_block(n, s->wide, (up_tile){count, 1, j0 > 0, s->dscore, 1, lanes, k, s->k.ld, s->acc, s->wide});
}

static void attention_bwd(const up_cpu_head *h, float *work) {
    space s = arrange(h, work, 1);
    for (int64_t j = 0; !h->lq && j < s.keys; j++) { /* nothing flows back */
        memset(s.dk.p + j * s.dk.ld, 0, (size_t)h->width * sizeof *s.dk.p);
        memset(s.dv.p + j * s.dv.ld, 0, (size_t)h->width * sizeof *s.dv.p);
    }
    for (int64_t i0 = 0; i0 < h->lq; i0 += QUERIES) {
        int64_t n = least(QUERIES, h->lq - i0), lanes = up_round_up(n, UP_VW);
        up_rows q = whole_rows(h, s.wide, h->q, i0, n, s.q),
                dout = whole_rows(h, s.wide, h->dout, i0, n, s.dout);
        transpose(n, lanes, h->width, q, s.qt);
        transpose(n, lanes, h->width, dout, s.doutt);
        look(h, i0, n, lanes, s.lane);
        recall(h, i0, n, lanes, s.lane);
        if (!s.keys) memset(s.acc, 0, (size_t)(n * s.wide) * sizeof *s.acc);
        for (int64_t j0 = 0; j0 < s.keys; j0 += KEYS) block_bwd(h, &s, i0, n, q, dout, j0);
        if (h->dq.p)
            store(n, h->width, (up_rows){s.acc, s.wide}, (up_rows){h->dq.p + i0 * h->dq.ld, h->dq.ld}, 0);
    }
    store(h->prompts, h->width, s.dk, h->dprompt_k, 1);
    store(h->prompts, h->width, s.dv, h->dprompt_v, 1);
    s.dk.p += h->prompts * s.wide;
    s.dv.p += h->prompts * s.wide;
    if (s.dk.p != h->dk.p) store(h->lk, h->width, s.dk, h->dk, h->add_keys);
    if (s.dv.p != h->dv.p) store(h->lk, h->width, s.dv, h->dv, h->add_keys);
}

void UP_K(fill_attention)(up_cpu_kernels *k) {
    k->attention_work = attention_work;
    k->attention = attention;
    k->attention_bwd = attention_bwd;
}
