/* attention.h - what the kernels of attention share: rows of activations in and out of f32, and which keys a
 * block of queries looks at. */
#ifndef UP_CPU_ATTENTION_H
#define UP_CPU_ATTENTION_H

#include "backend_cpu/kernels/tile.h"
#include "uniperceiver/backend.h"

/* Queries of a block, and keys of which scores are held at one time. */
enum { UP_ATT_QUERIES = 64, UP_ATT_KEYS = 256 };

/* pairs.c: to[m, lanes] = alpha x y, sums in f32: rows of x are `words` pairs of bf16 (ld: words), y is
 * [words, lanes] pairs. Only where the processor multiplies pairs. */
int UP_K(has_pairs)(void);
void UP_K(pair_products)(int64_t m, int64_t lanes, int64_t words, float alpha, up_rows x, const float *y,
                         float *to);

/* attention_short.c */
int UP_K(attention_is_short)(const up_cpu_heads *h);
int64_t UP_K(attention_short_work)(int64_t columns, int64_t heads, int backward);
void UP_K(attention_short)(const up_cpu_heads *h, float *work);
void UP_K(attention_short_bwd)(const up_cpu_heads *h, float *work);

static inline int64_t up_fewer(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Space that is handed out from its beginning, in whole vectors. */
static inline void *up_take(float **work, int64_t floats) {
    float *p = *work;
    *work += up_round_up(floats, UP_VW);
    return p;
}

static inline int64_t up_cell_size(int dtype) {
    return dtype == UP_F32 ? (int64_t)sizeof(float) : (int64_t)sizeof(uint16_t);
}

static inline up_cells up_cells_from(int dtype, up_cells x, int64_t row, int64_t col) {
    if (x.p) x.p = (char *)x.p + (row * x.ld + col) * up_cell_size(dtype);
    return x;
}

/* Rows as f32, with columns of 0 up to `wide`. */
static inline void up_load_rows(int dtype, int64_t n, int64_t width, int64_t wide, up_cells from, float *to) {
    for (int64_t i = 0; i < n; i++, to += wide) {
        const void *row = up_cells_from(dtype, from, i, 0).p;
        if (dtype == UP_F32)
            memcpy(to, row, (size_t)width * sizeof *to);
        else
            UP_K(widen)(width, dtype, row, to);
        for (int64_t j = width; j < wide; j++) to[j] = 0;
    }
}

/* to = from, or to += from; `to` may be absent. */
static inline void up_store_rows(int dtype, int64_t n, int64_t width, up_rows from, up_cells to, int add) {
    enum { PART = 64 };
    for (int64_t i = 0; to.p && i < n; i++)
        for (int64_t j0 = 0; j0 < width; j0 += PART) {
            int64_t count = up_fewer(PART, width - j0);
            const float *x = from.p + i * from.ld + j0;
            void *y = up_cells_from(dtype, to, i, j0).p;
            float sum[PART];
            if (add) {
                up_load_rows(dtype, 1, count, count, (up_cells){y, 0}, sum);
                for (int64_t j = 0; j < count; j++) sum[j] += x[j];
                x = sum;
            }
            if (dtype == UP_F32)
                memcpy(y, x, (size_t)count * sizeof *x);
            else
                UP_K(narrow)(count, dtype, x, y);
        }
}

static inline void up_add_rows(int64_t n, int64_t width, up_rows from, up_rows to) {
    for (int64_t i = 0; to.p && i < n; i++)
#pragma omp simd
        for (int64_t j = 0; j < width; j++) to.p[i * to.ld + j] += from.p[i * from.ld + j];
}

/* ---- squares of vectors ---- */

/* Two vectors a and c in a step of bit b. UP_LOW: lanes without the bit, of a where lane i has not the bit,
 * of c where it has; UP_HIGH: lanes with the bit alike. A step for every bit exchanges rows and lanes. */
#define UP_LOW(i, b)        (((i) & ~(b)) + ((i) & (b) ? UP_VW : 0))
#define UP_HIGH(i, b)       (((i) | (b)) + ((i) & (b) ? UP_VW : 0))
#define UP_LANES_4(f, i, b) f((i), b), f((i) + 1, b), f((i) + 2, b), f((i) + 3, b)
#define UP_LANES_8(f, i, b) UP_LANES_4(f, i, b), UP_LANES_4(f, (i) + 4, b)
#if defined(__AVX512F__)
#define UP_LANES(f, b) UP_LANES_8(f, 0, b), UP_LANES_8(f, 8, b)
#elif defined(__AVX2__)
#define UP_LANES(f, b) UP_LANES_8(f, 0, b)
#else
#define UP_LANES(f, b) UP_LANES_4(f, 0, b)
#endif

/* One step over the vectors x[0..UP_VW-1]: `pair` says what becomes of two. */
#define UP_STEP(b, pair)                                                                                     \
    UP_UNROLL                                                                                                \
    for (int i = 0; i < UP_VW; i++)                                                                          \
        if (!(i & (b))) {                                                                                    \
            up_vec low = __builtin_shufflevector(x[i], x[i | (b)], UP_LANES(UP_LOW, b));                     \
            up_vec high = __builtin_shufflevector(x[i], x[i | (b)], UP_LANES(UP_HIGH, b));                   \
            pair(x, i, b);                                                                                   \
        }
#if defined(__AVX512F__)
#define UP_STEPS(pair) UP_STEP(8, pair) UP_STEP(4, pair) UP_STEP(2, pair) UP_STEP(1, pair)
#elif defined(__AVX2__)
#define UP_STEPS(pair) UP_STEP(4, pair) UP_STEP(2, pair) UP_STEP(1, pair)
#else
#define UP_STEPS(pair) UP_STEP(2, pair) UP_STEP(1, pair)
#endif

/* Lane i is the sum of vector i. */
UP_INLINE up_vec up_sum_of_each(up_vec x[UP_VW]) {
#define UP_ADD(x, i, b) x[i] = low + high
    UP_STEPS(UP_ADD)
#undef UP_ADD
    return x[0];
}

/* Lane j of vector i and lane i of vector j change places. */
UP_INLINE void up_exchange(up_vec x[UP_VW]) {
#define UP_BOTH(x, i, b)                                                                                     \
    x[i] = low;                                                                                              \
    x[i | (b)] = high
    UP_STEPS(UP_BOTH)
#undef UP_BOTH
}

/* n rows of `words` words of 4 bytes as [words, lanes]; the lanes beyond them are 0. Both words and lanes are
 * whole vectors. */
static inline void up_transpose(int64_t n, int64_t lanes, int64_t words, up_rows from, float *to) {
    for (int64_t i0 = 0; i0 < lanes; i0 += UP_VW)
        for (int64_t d = 0; d < words; d += UP_VW) {
            up_vec x[UP_VW];
            UP_UNROLL
            for (int i = 0; i < UP_VW; i++)
                x[i] = i0 + i < n ? *(const up_vec *)(from.p + (i0 + i) * from.ld + d) : (up_vec){0};
            up_exchange(x);
            UP_UNROLL
            for (int i = 0; i < UP_VW; i++) *(up_vec *)(to + (d + i) * lanes + i0) = x[i];
        }
}

/* What query i of a block sees: the keys 0..limit-1 and `extra` (-1: none), prompts counted; as up_mask_sees.
 * And of its softmax so far: the largest score, the sum of exp(score - largest), and by how much the last
 * block of keys made what was summed before smaller; backward: log-sum-exp and dout . out. */
typedef struct up_lanes {
    int32_t limit[UP_ATT_QUERIES], extra[UP_ATT_QUERIES];
    float largest[UP_ATT_QUERIES], total[UP_ATT_QUERIES], factor[UP_ATT_QUERIES];
} up_lanes;
enum { UP_LANES_FLOATS = sizeof(up_lanes) / sizeof(float) };

UP_INLINE int up_seen(const up_lanes *t, int64_t i, int32_t j) {
    return (j < t->limit[i]) | (j == t->extra[i]);
}

/* Keys first..first+count-1, which some queries of a block see; not masked: all of them see all. */
typedef struct up_span {
    int64_t first, count;
    int masked;
} up_span;

/* The keys that a block of queries looks at: from the first on, and slots that look at themselves. Runs begin
 * at even keys. */
typedef struct up_sight {
    int64_t all, most;        /* keys that every query sees, and that one sees, from the first on */
    int64_t slots, slots_end; /* the same block's slots */
    int64_t next;
} up_sight;

static inline up_sight up_look(const up_cpu_heads *h, int64_t first, int64_t n, int64_t lanes, up_lanes *t) {
    int64_t keys = h->prompts + h->lk;
    up_sight s = {keys, 0, keys, 0, 0};
    for (int64_t i = 0; i < n; i++) {
        int64_t at = first + i + h->lk - h->lq, limit = h->lk, extra = -1;
        if (h->kind == UP_MASK_CAUSAL) limit = at + 1;
        if (h->kind == UP_MASK_DOUBLED) {
            limit = at < h->prefix ? h->prefix : at + 1;
            if (at >= h->prefix + h->words) {
                limit = at - h->words;
                extra = at + h->prompts;
                s.slots = up_fewer(s.slots, extra);
                s.slots_end = extra + 1;
            }
        }
        limit = up_fewer(limit < 0 ? h->prompts : limit + h->prompts, keys);
        s.all = up_fewer(s.all, limit);
        if (limit > s.most) s.most = limit;
        t->limit[i] = (int32_t)limit;
        t->extra[i] = (int32_t)extra;
    }
    for (int64_t i = n; i < lanes; i++) { /* lanes of no query: nothing is taken from them */
        t->limit[i] = (int32_t)keys;
        t->extra[i] = -1;
    }
    return s;
}

/* The next keys that are looked at, at most UP_ATT_KEYS; 0: there are no more. */
static inline int up_next_span(up_sight *s, up_span *out) {
    if (s->next == s->most && s->slots > s->next) s->next = s->slots;
    int64_t end = s->next < s->most ? s->most : s->slots_end;
    if (s->next >= end) return 0;
    out->first = s->next;
    out->count = up_fewer(UP_ATT_KEYS, end - s->next);
    s->next += out->count;
    out->masked = s->next > s->all;
    return 1;
}

static inline void up_begin_lanes(int64_t lanes, up_lanes *t) {
    for (int64_t i = 0; i < lanes; i++) {
        t->largest[i] = -INFINITY;
        t->total[i] = 0;
    }
}

/* A vector of queries, from l on, after some keys of which `max` is the largest score and `sum` the sum of
 * exp(score - max): the online softmax. */
UP_INLINE void up_move_on(up_lanes *t, int64_t l, const float *max, const float *sum) {
#pragma omp simd
    for (int i = 0; i < UP_VW; i++) {
        float before = t->largest[l + i], factor = up_exp(before - max[i]);
        factor = before == -INFINITY ? 0.0f : factor;
        t->factor[l + i] = factor;
        t->largest[l + i] = max[i];
        t->total[l + i] = t->total[l + i] * factor + sum[i];
    }
}

/* factor = 1 / sum of exp, total = log-sum-exp; a query that sees nothing has 0 and -infinity. */
static inline void up_end_lanes(int64_t lanes, up_lanes *t) {
    for (int64_t l = 0; l < lanes; l += UP_VW)
#pragma omp simd
        for (int i = 0; i < UP_VW; i++) {
            float total = t->total[l + i];
            t->factor[l + i] = total > 0 ? 1.0f / total : total; /* 0: sees nothing; NaN stays */
            t->total[l + i] = t->largest[l + i] + up_log(total);
        }
}

#endif
