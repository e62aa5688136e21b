/* kernels.h - the single-threaded kernels of the CPU backend, one table for each instruction set. They work
 * on plain pointers and row strides (in elements) and know nothing of views, threads or buffers; the
 * operations do the dividing. */
#ifndef UP_CPU_KERNELS_H
#define UP_CPU_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* A block of rows: element [i, j] is p[i * ld + j]. */
typedef struct up_rows {
    float *p; /* NULL: absent */
    int64_t ld;
} up_rows;

/* The same of activations: f32, f16 or bf16, as what it belongs to says. */
typedef struct up_cells {
    void *p; /* NULL: absent */
    int64_t ld;
} up_cells;

/* Row numbers: p[i * ld]. */
typedef struct up_numbers {
    const int32_t *p; /* NULL: every number is 0 */
    int64_t ld;
} up_numbers;

/* Some heads of one sequence, side by side in the columns. Query i stands at key index i + (lk - lq) of its
 * own keys; prompts are before those. */
typedef struct up_cpu_heads {
    int64_t lq, lk, prompts, width; /* width = D / H */
    int64_t heads;
    int kind; /* up_mask_kind */
    int64_t prefix, words;
    float scale; /* 1 / sqrt(width) */
    int dtype;   /* of up_cells: UP_F32, UP_F16 or UP_BF16 */
    up_cells q, k, v, prompt_k, prompt_v, out;
    up_rows lse;                  /* [lq, heads] */
    up_cells dout, dq, dk, dv;    /* backward */
    up_rows dprompt_k, dprompt_v; /* +=, f32 always: all sequences add to them */
    int add_keys;                 /* dk, dv are += too: sequences share rows */
} up_cpu_heads;

typedef struct up_cpu_rule {
    float factor, lr, beta1, beta2, rest1, rest2; /* rest = 1 - beta, rounded once */
    float eps, decay, scale1, scale2;             /* scale = 1 / (1 - beta^t) */
} up_cpu_rule;

/* Where the gradients of embeddings go, some columns of each table; absent ones are not wanted. */
typedef struct up_cpu_tables {
    up_rows token, spe, position, type;
} up_cpu_tables;

/* What is true for one row of logits, as up_truth, in the columns of a tile. */
typedef struct up_cpu_truth {
    int64_t index[2]; /* in the tile's columns, which they may lie outside of */
    float share[2];
    const float *soft;     /* of the tile's columns, or NULL */
    const int32_t *groups; /* of the tile's columns, groups[j * groups_ld]; NULL: none is left out */
    int64_t groups_ld;
    int32_t group;   /* columns of this group that are no index do not count */
    float smoothing; /* e */
} up_cpu_truth;

/* Lines of elements that follow each other: element i of line j is p[j * ld + i]. */
typedef struct up_cpu_lines {
    const void *p;
    int64_t ld;
    int dtype;           /* UP_F32, UP_F16, UP_BF16, or UP_U8 */
    const float *levels; /* UP_U8: [3][256], the value of a byte in each third of a line */
    int64_t third;       /* UP_U8: elements of a third */
} up_cpu_lines;

/* Panels of packed words, [count / width][words of k][width], the last one filled up with anything. With
 * pairs a word is two bf16 along k, the last of an odd k beside 0. */
typedef struct up_cpu_panels {
    up_cpu_lines from;
    int64_t first, count; /* places: lines, or elements of a line */
    int64_t start, k;     /* along k: elements of a line, or lines */
    int width;            /* tile_rows or tile_cols */
    int pairs;
    float *to; /* where width is no whole vector, one vector more behind the panels may be written */
} up_cpu_panels;

/* C[m, COLS] = alpha A B (+ C): m rows of A in tiles, one panel of B, both packed in words of 32 bits: an
 * f32, or two bf16 that follow each other along k. */
typedef struct up_cpu_tiles {
    int64_t k; /* words */
    float alpha;
    int add;
    const float *a;
    int64_t a_tile;     /* words from tile to tile; a tile is [k][tile_rows] */
    int64_t a_panel;    /* multiply_turned: words from panel to panel of a's */
    const float *b;     /* [k][tile_cols] */
    const float *ahead; /* as much as b, which will be b next */
    float *c;
    int64_t ldc;
    const char *fetch; /* what will be written: `fetch_lines` (or 0) for a tile, fetch_ld bytes apart */
    int64_t fetch_lines, fetch_ld, fetch_step; /* bytes from a tile's to the next one's */
} up_cpu_tiles;

/* Columns that one piece owns where rows are added by index. */
enum { UP_CPU_COLUMNS = 32 };
/* Rows whose sums are taken together there. */
enum { UP_CPU_EMBED_ROWS = 64 };

/* Sequences of no more queries and keys (prompts counted) are worked on across heads. */
enum { UP_SHORT_QUERIES = 8, UP_SHORT_KEYS = 24 };

typedef struct up_cpu_kernels {
    const char *name;

    /* The matrix product (kernels/product.c). k is cut into blocks of at most tile_block words. */
    int tile_rows, tile_cols, tile_block;
    void (*multiply)(int64_t m, const up_cpu_tiles *t);       /* f32 */
    void (*multiply_pairs)(int64_t m, const up_cpu_tiles *t); /* bf16; NULL where the processor cannot */
    /* f32; row i of A is column i of panels [k / tile_cols][rows][tile_cols] as they are made for B */
    void (*multiply_turned)(int64_t m, const up_cpu_tiles *t);

    void (*pack_lines)(const up_cpu_panels *p);    /* a place is a line, k goes along it */
    void (*pack_elements)(const up_cpu_panels *p); /* a place is an element, k goes from line to line */
    /* y[i, j] = x[j, i] in y's type; x holds whole vectors */
    void (*turn)(int64_t n, int64_t d, int dtype, up_rows x, up_cells y);
    /* y[i, j] = act(x[i, j] + bias[j]), pre = x + bias; bias and pre may be absent, x is overwritten */
    void (*finish)(int64_t n, int64_t d, int gelu, up_rows x, const float *bias, int dtype, up_cells pre,
                   up_cells y);
    /* dy *= gelu'(pre), sums += dy where they are wanted */
    void (*unfinish)(int64_t n, int64_t d, int dtype, up_cells pre, up_cells dy, float *sums);

    /* y = act(x + bias); bias and pre may be NULL, pre receives x + bias; x may be y or pre. */
    void (*bias_act)(int64_t n, int64_t d, int gelu, up_rows x, const float *bias, up_rows pre, up_rows y);
    void (*gelu)(int64_t n, int64_t d, up_rows x, up_rows y);
    void (*gelu_bwd)(int64_t n, int64_t d, up_rows pre, up_rows dy); /* dy *= gelu'(pre) */

    /* y = token[ids] + position[positions] + type; a position of -1 leaves the last two out, an id of -1 is
     * spe, -2 a row of 0. type may be NULL. */
    void (*embed)(int64_t n, int64_t d, up_numbers ids, up_numbers positions, up_rows token, const float *spe,
                  up_rows position, const float *type, up_rows y);
    /* += ; d is at most UP_CPU_COLUMNS */
    void (*embed_bwd)(int64_t n, int64_t d, up_numbers ids, up_numbers positions, up_rows dy,
                      up_cpu_tables out);
    /* y[i, j] = levels[channel of j][bytes[i * ld + j]], d / 3 columns a channel */
    void (*look_up)(int64_t n, int64_t d, const uint8_t *bytes, int64_t ld, up_rows levels, float *y);
    /* y += bias + space[cells] + time[frames] + type; y = 0 where the cell is -1. time and type may be
     * absent. */
    void (*place)(int64_t n, int64_t d, up_numbers cells, up_numbers frames, up_rows space, up_rows time,
                  const float *type, const float *bias, up_rows y);
    void (*scatter_add)(int64_t n, int64_t d, up_numbers ids, up_rows x,
                        up_rows out);                                 /* out[ids[i]] += x[i], -1: not */
    void (*column_sums)(int64_t n, int64_t d, up_rows x, float *out); /* out += all rows */

    void (*layernorm)(int64_t n, int64_t d, up_rows x, const float *weight, const float *bias, float eps,
                      up_rows y, up_rows stats);
    /* dweight, dbias: +=, may be NULL */
    void (*layernorm_bwd)(int64_t n, int64_t d, up_rows x, const float *weight, up_rows stats, up_rows dy,
                          up_rows residual, up_rows dx, float *dweight, float *dbias);
    /* The factor of row i is drop[owner[i]], 0 where that is -1, 1 without drop. */
    void (*residual)(int64_t n, int64_t d, up_rows x, up_rows branch, const float *scale, up_rows drop,
                     up_numbers owner, up_rows y);
    void (*residual_bwd)(int64_t n, int64_t d, up_rows branch, const float *scale, up_rows drop,
                         up_numbers owner, up_rows dy, up_rows dbranch, float *dscale);
    void (*l2norm)(int64_t n, int64_t d, up_rows x, up_rows y, up_rows rnorm);
    void (*l2norm_bwd)(int64_t n, int64_t d, up_rows y, up_rows rnorm, up_rows dy, up_rows past, up_rows dx);

    int64_t (*first_largest)(int64_t n, const float *x);
    /* One row of one tile, whose first column is column `first` of all. state: UP_XENT_FIELDS numbers. */
    void (*xent)(int64_t n, int64_t first, const float *z, const up_cpu_truth *t, float *state);
    /* count: how many targets count in the row */
    void (*xent_bwd)(int64_t n, const float *z, const up_cpu_truth *t, float count, float max, float sum,
                     float weight, float *dz);
    double (*dot)(int64_t n, const float *a, const float *b);
    void (*scale)(int64_t n, float factor, const float *x, int add, float *y); /* y = factor x (+ y) */

    /* dtype: UP_F16 or UP_BF16 */
    void (*widen)(int64_t n, int dtype, const uint16_t *x, float *y);
    void (*narrow)(int64_t n, int dtype, const float *x, uint16_t *y);

    /* Floats of work for some heads of a sequence with at most `keys` keys (prompts counted). */
    int64_t (*attention_work)(int64_t keys, int64_t width, int64_t heads, int backward);
    void (*attention)(const up_cpu_heads *h, float *work);
    void (*attention_bwd)(const up_cpu_heads *h, float *work);

    void (*zero)(int64_t n, float *x); /* writes only where it must */
    /* and sets the gradient to 0 */
    void (*adamw)(int64_t n, float *weight, float *grad, float *m, float *v, const up_cpu_rule *a);
} up_cpu_kernels;

void up_cpu_kernels_base(up_cpu_kernels *out);
#ifdef UP_X86
void up_cpu_kernels_avx2(up_cpu_kernels *out);
void up_cpu_kernels_avx512(up_cpu_kernels *out);
void up_cpu_kernels_avx512bf16(up_cpu_kernels *out);
#endif

#endif
