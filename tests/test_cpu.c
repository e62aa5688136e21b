/* test_cpu.c - what the random cases of test_parity do not reach in the CPU backend: sequences of several
 * blocks of keys and queries beside very short ones, large matrices cut into many pieces, more rows than are
 * converted at one time, results that do not change from run to run, with the order of pieces, with the batch
 * or with the caller's floating point mode, every instruction set with every product, and the environment's
 * names. */
#include "tests/support.h"
#include "uniperceiver/backend.h"
#include "uniperceiver/random.h"

#include <fenv.h>
#include <float.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

const char *const up_suite_name = "cpu";

static up_backend *make(const char *name, int threads) {
    up_backend *b = NULL;
    UP_ASSERT_OK(up_backend_create(name, threads, &b));
    return b;
}

/* Tensors of one test on one backend. */
typedef struct desk {
    up_backend *b;
    up_buffer *buffer[24];
    int used;
} desk;

static up_buffer *buffer_of(desk *d, size_t bytes) {
    CU_ASSERT_FATAL(d->used < 24);
    UP_ASSERT_OK(d->b->ops->alloc(d->b, bytes, &d->buffer[d->used]));
    return d->buffer[d->used++];
}

/* A tensor with this content, or 0 everywhere. */
static up_view put(desk *d, up_dtype dtype, int64_t rows, int64_t cols, const void *data) {
    up_view v = up_view_at(buffer_of(d, (size_t)(rows * cols) * up_dtype_size(dtype)), dtype, 0, rows, cols);
    if (data)
        UP_ASSERT_OK(d->b->ops->upload(d->b, v, data));
    else
        UP_ASSERT_OK(d->b->ops->fill(d->b, v, 0));
    return v;
}

static up_view scratch_of(desk *d, up_op op, up_op_dims dims) {
    size_t bytes = d->b->ops->scratch(d->b, op, &dims);
    return up_view_at(buffer_of(d, bytes), UP_U8, 0, 1, (int64_t)bytes);
}

static void clear(desk *d) {
    while (d->used > 0) d->b->ops->release(d->b, d->buffer[--d->used]);
}

static void *content(const desk *d, up_view v) {
    void *x = malloc((size_t)(v.rows * v.cols) * up_dtype_size(v.dtype));
    CU_ASSERT_PTR_NOT_NULL_FATAL(x);
    UP_ASSERT_OK(d->b->ops->download(d->b, x, v));
    return x;
}

/* |got - want| <= bound |want|, of vectors */
static void near_in_norm(const char *what, const float *got, const float *want, int64_t count, double bound) {
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        diff += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += (double)want[i] * want[i];
    }
    CU_ASSERT(sqrt(diff) <= bound * sqrt(norm));
    if (!(sqrt(diff) <= bound * sqrt(norm)))
        fprintf(stderr, "%s: %g of %g, at most %g\n", what, sqrt(diff), sqrt(norm), bound * sqrt(norm));
}

static void same_bits(const desk *d, up_view a, up_view b) {
    void *x = content(d, a), *y = content(d, b);
    CU_ASSERT(a.rows == b.rows && a.cols == b.cols && a.dtype == b.dtype);
    CU_ASSERT_EQUAL(memcmp(x, y, (size_t)(a.rows * a.cols) * up_dtype_size(a.dtype)), 0);
    free(x);
    free(y);
}

/* Whatever the rounding is that a test has set. */
static float *numbers(int64_t count, double scale, uint64_t purpose) {
    int rounding = fegetround();
    up_rng rng = up_rng_make(up_test_seed(), purpose, 0, 0);
    float *x = malloc((size_t)count * sizeof *x);
    CU_ASSERT_PTR_NOT_NULL_FATAL(x);
    fesetround(FE_TONEAREST);
    for (int64_t i = 0; i < count; i++) x[i] = (float)(scale * up_rng_normal(&rng));
    fesetround(rounding);
    return x;
}

/* ---- attention: long and short sequences in one call ---- */
enum { HEADS = 2, WIDTH = 40, PROMPTS = 3 }; /* 20 a head: no multiple of a vector */

static const int32_t sequences[][UP_SEQ_FIELDS] = {
    /* q start, count, k start, count, kind, prefix, words, side */
    {0, 300, 0, 300, UP_MASK_FULL, 0, 0, 0},     {300, 1, 300, 1, UP_MASK_FULL, 0, 0, 1},
    {301, 3, 301, 3, UP_MASK_FULL, 0, 0, 0},     {304, 520, 304, 520, UP_MASK_DOUBLED, 200, 160, 1},
    {824, 9, 824, 700, UP_MASK_CAUSAL, 0, 0, 0}, {833, 64, 1524, 64, UP_MASK_CAUSAL, 0, 0, 1},
    {897, 3, 1588, 3, UP_MASK_DOUBLED, 1, 1, 0},
};
enum { SEQUENCES = sizeof sequences / sizeof *sequences, QUERIES = 900, KEYS = 1591, MOST = 700 };

/* out, lse, dq, dk, dv, dprompt_k, dprompt_v one after the other */
static const int64_t results[][2] = {{QUERIES, WIDTH},    {QUERIES, HEADS}, {QUERIES, WIDTH},
                                     {KEYS, WIDTH},       {KEYS, WIDTH},    {2 * PROMPTS, WIDTH},
                                     {2 * PROMPTS, WIDTH}};
enum { RESULTS = sizeof results / sizeof *results };

static int64_t result_count(void) {
    int64_t count = 0;
    for (int i = 0; i < RESULTS; i++) count += results[i][0] * results[i][1];
    return count;
}

static float *attend(up_backend *b, int prompts) {
    int64_t sizes[] = {QUERIES, KEYS, KEYS, 2 * PROMPTS, 2 * PROMPTS, QUERIES};
    desk d = {.b = b};
    up_view in[6], out[RESULTS],
        all = put(&d, UP_F32, 1, result_count(), NULL); /* without prompts their
                                                          gradients are not written */
    up_view table = put(&d, UP_I32, SEQUENCES, UP_SEQ_FIELDS, sequences), none = {0};
    up_view space = scratch_of(&d, UP_OP_ATTENTION,
                               (up_op_dims){.rows = KEYS,
                                            .in = WIDTH,
                                            .out = WIDTH,
                                            .keys = MOST + PROMPTS,
                                            .heads = HEADS,
                                            .sequences = SEQUENCES});
    for (int i = 0; i < 6; i++) {
        float *x = numbers(sizes[i] * WIDTH, 1, 100 + (uint64_t)i);
        in[i] = put(&d, UP_F32, sizes[i], WIDTH, x);
        free(x);
    }
    for (int64_t i = 0, at = 0; i < RESULTS; i++) {
        out[i] = up_view_at(all.buffer, UP_F32, at, results[i][0], results[i][1]);
        at += results[i][0] * results[i][1];
    }
    up_attention_args f = {.sequences = table,
                           .heads = HEADS,
                           .prompts = prompts,
                           .prompt_sides = 2,
                           .max_keys = MOST + prompts,
                           .q = in[0],
                           .k = in[1],
                           .v = in[2],
                           .prompt_k = prompts ? in[3] : none,
                           .prompt_v = prompts ? in[4] : none,
                           .out = out[0],
                           .lse = out[1],
                           .scratch = space};
    up_attention_grad g = {.forward = f,
                           .dout = in[5],
                           .dq = out[2],
                           .dk = out[3],
                           .dv = out[4],
                           .dprompt_k = prompts ? out[5] : none,
                           .dprompt_v = prompts ? out[6] : none,
                           .scratch = space};
    UP_ASSERT_OK(b->ops->attention(b, &f));
    UP_ASSERT_OK(b->ops->attention_bwd(b, &g));
    float *y = content(&d, all);
    clear(&d);
    return y;
}

/* Sums of at most MOST terms whose roundings are independent: sqrt(MOST) halves of the spacing at 1; twice
 * that. */
static void same_results(const float *got, const float *want) {
    for (int i = 0; i < RESULTS; i++) {
        int64_t count = results[i][0] * results[i][1];
        near_in_norm("attention", got, want, count, 2 * sqrt(MOST) * 0x1p-24);
        got += count;
        want += count;
    }
}

/* ---- a linear layer with GELU, large enough for many pieces ---- */
enum { ROWS = 700, IN = 300, OUT = 430 }; /* in each product, more than one block of k */

/* pre, y, dy, dx, dweight, dbias one after the other */
static const int64_t parts[][2] = {{ROWS, OUT}, {ROWS, OUT}, {ROWS, OUT}, {ROWS, IN}, {OUT, IN}, {1, OUT}};
enum { PARTS = sizeof parts / sizeof *parts, LAYER = 3 * ROWS * OUT + ROWS * IN + OUT * IN + OUT };

static float *layer(up_backend *b) {
    desk d = {.b = b};
    float *x = numbers(ROWS * IN, 0.5, 2), *w = numbers(OUT * IN, 0.5, 3), *bias = numbers(OUT, 0.5, 4);
    float *start = numbers(LAYER, 0.5, 5);
    up_view all = put(&d, UP_F32, 1, LAYER, start), v[PARTS], in = put(&d, UP_F32, ROWS, IN, x);
    up_view weight = put(&d, UP_F32, OUT, IN, w);
    up_view space = scratch_of(&d, UP_OP_LINEAR, (up_op_dims){.rows = ROWS, .in = IN, .out = OUT});
    for (int64_t i = 0, at = 0; i < PARTS; i++) {
        v[i] = up_view_at(all.buffer, UP_F32, at, parts[i][0], parts[i][1]);
        at += parts[i][0] * parts[i][1];
    }
    UP_ASSERT_OK(b->ops->linear(b, &(up_linear_args){.x = in,
                                                     .weight = weight,
                                                     .bias = put(&d, UP_F32, 1, OUT, bias),
                                                     .activation = UP_ACT_GELU,
                                                     .pre = v[0],
                                                     .y = v[1],
                                                     .scratch = space}));
    UP_ASSERT_OK(b->ops->linear_bwd(b, &(up_linear_grad){.x = in,
                                                         .weight = weight,
                                                         .activation = UP_ACT_GELU,
                                                         .pre = v[0],
                                                         .dy = v[2],
                                                         .dx = v[3],
                                                         .dweight = v[4],
                                                         .dbias = v[5],
                                                         .scratch = space}));
    float *result = content(&d, all);
    clear(&d);
    free(x);
    free(w);
    free(bias);
    free(start);
    return result;
}

static void test_attention_of_many_blocks(void) {
    up_backend *ref = make("ref", 1), *cpu = make("cpu", 3);
    for (int prompts = 0; prompts <= PROMPTS; prompts += PROMPTS) {
        float *want = attend(ref, prompts), *got = attend(cpu, prompts);
        same_results(got, want);
        free(want);
        free(got);
    }
    up_backend_free(ref);
    up_backend_free(cpu);
}

static void test_layer_of_many_pieces(void) {
    up_backend *ref = make("ref", 1), *cpu = make("cpu", 3);
    float *want = layer(ref), *got = layer(cpu);
    near_in_norm("layer", got, want, LAYER, 2 * sqrt(ROWS) * 0x1p-24);
    free(want);
    free(got);
    up_backend_free(ref);
    up_backend_free(cpu);
}

/* Which thread takes which piece is left to the moment; the bits are not. */
static void test_the_same_bits_each_time(void) {
    up_backend *cpu = make("cpu", 4);
    float *first = attend(cpu, PROMPTS), *first_layer = layer(cpu);
    for (int run = 0; run < 10; run++) {
        float *again = attend(cpu, PROMPTS), *again_layer = layer(cpu);
        CU_ASSERT_EQUAL(memcmp(first, again, (size_t)result_count() * sizeof *again), 0);
        CU_ASSERT_EQUAL(memcmp(first_layer, again_layer, LAYER * sizeof *again_layer), 0);
        free(again);
        free(again_layer);
    }
    free(first);
    free(first_layer);
    up_backend_free(cpu);
}

/* Attention does not use the product's library and has no sum over threads: one thread gives the bits of
 * four. */
static void test_attention_is_the_same_for_any_threads(void) {
    up_backend *one = make("cpu", 1), *four = make("cpu", 4);
    float *a = attend(one, PROMPTS), *b = attend(four, PROMPTS);
    CU_ASSERT_EQUAL(memcmp(a, b, (size_t)result_count() * sizeof *a), 0);
    free(a);
    free(b);
    up_backend_free(one);
    up_backend_free(four);
}

/* ---- the environment ---- */

/* Sets or clears a variable; the old value goes to `before`. */
static void set(const char *name, const char *value, char before[32]) {
    const char *old = getenv(name);
    snprintf(before, 32, "%s", old ? old : "");
    if (value && *value)
        setenv(name, value, 1);
    else
        unsetenv(name);
}

static void test_every_path(void) {
    static const char *const isas[] = {"base", "avx2", "avx512", "avx512bf16"}, *const gemms[] = {"own",
                                                                                                  "openblas",
                                                                                                  "dnnl"};
    char isa[32], gemm[32], ignored[32];
    up_backend *ref = make("ref", 1);
    float *want = attend(ref, PROMPTS);
    float *want_layer = layer(ref);
    set("UP_CPU_ISA", NULL, isa);
    set("UP_CPU_GEMM", NULL, gemm);
    for (int i = 0; i < 12; i++) {
        up_backend *b = NULL;
        set("UP_CPU_ISA", isas[i / 3], ignored);
        set("UP_CPU_GEMM", gemms[i % 3], ignored);
        up_status status = up_backend_cpu(2, &b);
        if (status != UP_OK) { /* not this processor, or not in this build: refused, and said so */
            CU_ASSERT(strstr(up_last_error(), isas[i / 3]) || strstr(up_last_error(), gemms[i % 3]));
            fprintf(stderr, "skipped: %s\n", up_last_error());
            continue;
        }
        float *got = attend(b, PROMPTS), *got_layer = layer(b);
        same_results(got, want);
        near_in_norm("layer", got_layer, want_layer, LAYER, 2 * sqrt(ROWS) * 0x1p-24);
        free(got);
        free(got_layer);
        up_backend_free(b);
    }
    set("UP_CPU_ISA", isa, ignored);
    set("UP_CPU_GEMM", gemm, ignored);
    free(want);
    free(want_layer);
    up_backend_free(ref);
}

/* ---- attention: a sequence's results are its own ---- */
enum { MIX_HEADS = 3, MIX_WIDTH = MIX_HEADS * 64, MIXED = 7, MIX_PARTS = 3, MIX_PROMPTS = 4 };

/* tokens, kind, prefix, words */
static const int32_t mixed[MIXED][4] = {{197, UP_MASK_FULL, 0, 0},      {3, UP_MASK_FULL, 0, 0},
                                        {70, UP_MASK_DOUBLED, 30, 20},  {300, UP_MASK_FULL, 0, 0},
                                        {1, UP_MASK_FULL, 0, 0},        {8, UP_MASK_CAUSAL, 0, 0},
                                        {231, UP_MASK_DOUBLED, 211, 10}};

typedef struct part {
    void *bytes[MIX_PARTS]; /* out, lse, and the gradients of q, k, v side by side */
} part;

/* Rows of activations that are those of each sequence wherever it stands. */
static up_view put_mixed(desk *d, up_dtype dtype, int64_t cols, const int *order, int count,
                         uint64_t purpose) {
    int64_t rows = 0, at = 0;
    for (int i = 0; i < count; i++) rows += mixed[order[i]][0];
    up_view f32 = put(d, UP_F32, rows, cols, NULL), act = put(d, dtype, rows, cols, NULL);
    for (int i = 0; i < count; i++) {
        int64_t tokens = mixed[order[i]][0];
        float *x = numbers(tokens * cols, 1, purpose + (uint64_t)order[i]);
        UP_ASSERT_OK(d->b->ops->upload(d->b, up_view_rows(f32, at, tokens), x));
        at += tokens;
        free(x);
    }
    UP_ASSERT_OK(d->b->ops->cast(d->b, &(up_cast_args){f32, act}));
    return act;
}

static up_view put_mixed_table(desk *d, const int *order, int count) {
    int32_t f[MIXED][UP_SEQ_FIELDS] = {{0}}, at = 0;
    for (int i = 0; i < count; i++) {
        const int32_t *m = mixed[order[i]];
        f[i][UP_SEQ_Q_START] = f[i][UP_SEQ_K_START] = at;
        f[i][UP_SEQ_Q_COUNT] = f[i][UP_SEQ_K_COUNT] = m[0];
        f[i][UP_SEQ_KIND] = m[1];
        f[i][UP_SEQ_PREFIX] = m[2];
        f[i][UP_SEQ_WORDS] = m[3];
        at += m[0];
    }
    return put(d, UP_I32, count, UP_SEQ_FIELDS, f);
}

/* The results of each sequence of a batch, in the order of the batch. */
static void attend_mixed(up_backend *b, up_dtype dtype, int prompts, const int *order, int count,
                         part *results) {
    desk d = {.b = b};
    up_view none = {0}, qkv = put_mixed(&d, dtype, 3 * MIX_WIDTH, order, count, 300);
    up_view dout = put_mixed(&d, dtype, MIX_WIDTH, order, count, 320);
    int one = 0; /* the first rows of some sequence are prompts as good as any */
    up_view prompt = up_view_rows(put_mixed(&d, dtype, 4 * MIX_WIDTH, &one, 1, 340), 0, MIX_PROMPTS);
    up_view dprompt = up_view_rows(put_mixed(&d, dtype, 2 * MIX_WIDTH, &one, 1, 340), 0, MIX_PROMPTS);
    up_view all[MIX_PARTS] = {put(&d, dtype, qkv.rows, MIX_WIDTH, NULL),
                              put(&d, UP_F32, qkv.rows, MIX_HEADS, NULL),
                              put(&d, dtype, qkv.rows, 3 * MIX_WIDTH, NULL)};
    up_op_dims dims = {.dtype = dtype,
                       .rows = qkv.rows,
                       .in = MIX_WIDTH,
                       .out = MIX_WIDTH,
                       .keys = 300 + prompts,
                       .heads = MIX_HEADS,
                       .sequences = count};
    up_attention_args f = {.sequences = put_mixed_table(&d, order, count),
                           .heads = MIX_HEADS,
                           .prompts = prompts,
                           .prompt_sides = 1,
                           .max_keys = 300 + prompts,
                           .q = up_view_cols(qkv, 0, MIX_WIDTH),
                           .k = up_view_cols(qkv, MIX_WIDTH, MIX_WIDTH),
                           .v = up_view_cols(qkv, 2 * MIX_WIDTH, MIX_WIDTH),
                           .prompt_k = prompts ? up_view_cols(prompt, 0, MIX_WIDTH) : none,
                           .prompt_v = prompts ? up_view_cols(prompt, MIX_WIDTH, MIX_WIDTH) : none,
                           .out = all[0],
                           .lse = all[1],
                           .scratch = scratch_of(&d, UP_OP_ATTENTION, dims)};
    UP_ASSERT_OK(b->ops->attention(b, &f));
    UP_ASSERT_OK(b->ops->attention_bwd(
        b, &(up_attention_grad){.forward = f,
                                .dout = dout,
                                .dq = up_view_cols(all[2], 0, MIX_WIDTH),
                                .dk = up_view_cols(all[2], MIX_WIDTH, MIX_WIDTH),
                                .dv = up_view_cols(all[2], 2 * MIX_WIDTH, MIX_WIDTH),
                                .dprompt_k = prompts ? up_view_cols(dprompt, 0, MIX_WIDTH) : none,
                                .dprompt_v = prompts ? up_view_cols(dprompt, MIX_WIDTH, MIX_WIDTH) : none,
                                .scratch = f.scratch}));
    int64_t at = 0;
    for (int i = 0; i < count; at += mixed[order[i++]][0])
        for (int k = 0; k < MIX_PARTS; k++)
            results[i].bytes[k] = content(&d, up_view_rows(all[k], at, mixed[order[i]][0]));
    clear(&d);
}

static size_t part_size(int sequence, int k, up_dtype dtype) {
    static const size_t cols[] = {MIX_WIDTH, MIX_HEADS, 3 * MIX_WIDTH};
    return (size_t)mixed[sequence][0] * cols[k] * (k == 1 ? sizeof(float) : up_dtype_size(dtype));
}

static void free_parts(part *parts, int count) {
    for (int i = 0; i < count; i++)
        for (int k = 0; k < MIX_PARTS; k++) free(parts[i].bytes[k]);
}

static void same_wherever(up_backend *one, up_backend *three, up_dtype dtype, int prompts) {
    static const int orders[][MIXED] = {{0, 1, 2, 3, 4, 5, 6}, {6, 4, 5, 0, 3, 1, 2}, {1, 6, 1, 2, 1, 3, 3}};
    part alone[MIXED], batch[MIXED];
    for (int s = 0; s < MIXED; s++) attend_mixed(one, dtype, prompts, &s, 1, &alone[s]);
    for (int o = 0; o < 6; o++) {
        const int *order = orders[o / 2];
        attend_mixed(o % 2 ? one : three, dtype, prompts, order, MIXED, batch);
        for (int i = 0; i < MIXED; i++)
            for (int k = 0; k < MIX_PARTS; k++)
                CU_ASSERT_EQUAL(
                    memcmp(batch[i].bytes[k], alone[order[i]].bytes[k], part_size(order[i], k, dtype)), 0);
        free_parts(batch, MIXED);
    }
    free_parts(alone, MIXED);
}

/* Alone, in any batch, at any place in it and with any number of threads, to the bit. */
static void test_a_sequence_is_the_same_in_any_batch(void) {
    static const up_dtype types[] = {UP_F32, UP_BF16, UP_F16};
    static const char *const isas[] = {NULL, "base", "avx2", "avx512"};
    char before[32], ignored[32];
    set("UP_CPU_ISA", NULL, before);
    for (int i = 0; i < 4; i++) {
        up_backend *one = NULL, *three = NULL;
        set("UP_CPU_ISA", isas[i], ignored);
        if (up_backend_cpu(1, &one) != UP_OK) {
            fprintf(stderr, "skipped: %s\n", up_last_error());
            continue;
        }
        UP_ASSERT_OK(up_backend_cpu(3, &three));
        for (int t = 0; t < 3; t++) {
            same_wherever(one, three, types[t], 0);
            same_wherever(one, three, types[t], MIX_PROMPTS);
        }
        up_backend_free(one);
        up_backend_free(three);
    }
    set("UP_CPU_ISA", before, ignored);
}

static void test_unknown_names_are_errors(void) {
    char before[32], ignored[32];
    up_backend *b = NULL;
    set("UP_CPU_ISA", "avx1024", before);
    CU_ASSERT_EQUAL(up_backend_cpu(1, &b), UP_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "avx1024"));
    set("UP_CPU_ISA", before, ignored);
    set("UP_CPU_GEMM", "abacus", before);
    CU_ASSERT_EQUAL(up_backend_cpu(1, &b), UP_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "abacus"));
    set("UP_CPU_GEMM", before, ignored);
    CU_ASSERT_EQUAL(up_backend_cpu(-1, &b), UP_ERR_ARGUMENT);
}

/* ---- AdamW: two segments, the second one does not decay, with a gap before and between ---- */
enum { STATE = 70000 * 16, WEIGHTS = STATE + 64 };
static const int32_t segments[][UP_SEGMENT_FIELDS] = {{4, 2, 30000, 1}, {30010, 40000, 29000, 0}};
static const int64_t touched = 40000 * 16 + 100; /* the one gradient of the second segment */

/* weights, grad, m, v after one step */
static float *update(up_backend *b, const float *start, float count, float skipped) {
    desk d = {.b = b};
    float control[UP_STEP_FIELDS] = {
        [UP_STEP_LR] = 0.01f, [UP_STEP_COUNT] = count, [UP_STEP_SKIPPED] = skipped, [UP_STEP_FACTOR] = 0.5f};
    up_view all = put(&d, UP_F32, 1, WEIGHTS + 3 * STATE, start), part[3];
    for (int i = 0; i < 3; i++) part[i] = up_view_cols(all, WEIGHTS + (int64_t)i * STATE, STATE);
    UP_ASSERT_OK(
        b->ops->adamw(b, &(up_adamw_args){.segments = put(&d, UP_I32, 2, UP_SEGMENT_FIELDS, segments),
                                          .weights = up_view_cols(all, 0, WEIGHTS),
                                          .grad = part[0],
                                          .m = part[1],
                                          .v = part[2],
                                          .control = put(&d, UP_F32, 1, UP_STEP_FIELDS, control),
                                          .beta1 = 0.9,
                                          .beta2 = 0.95,
                                          .eps = 1e-6,
                                          .decay = 0.05}));
    float *result = content(&d, all);
    clear(&d);
    return result;
}

/* weights; gradients everywhere but in the second segment, which has one; moments 0 but in the first */
static float *update_start(void) {
    float *x = numbers(WEIGHTS + 3 * STATE, 1, 6), *grad = x + WEIGHTS, *m = grad + STATE, *v = m + STATE;
    for (int64_t i = 0; i < STATE; i++) {
        if (i >= 40000 * 16) grad[i] = m[i] = v[i] = 0;
        v[i] = fabsf(v[i]);
    }
    grad[touched] = 0.25f;
    return x;
}

static int64_t differences(const float *a, const float *b, int64_t count) {
    int64_t differ = 0;
    for (int64_t i = 0; i < count; i++) differ += b ? a[i] != b[i] : a[i] != 0;
    return differ;
}

static void test_adamw_of_segments(void) {
    up_backend *cpu = make("cpu", 2), *ref = make("ref", 1);
    float *start = update_start(), *want = update(ref, start, 3, 0), *got = update(cpu, start, 3, 0);
    int64_t idle = 30010 * 16; /* the second segment's first weight */
    near_in_norm("weights", got, want, WEIGHTS, 4 * 0x1p-24);
    near_in_norm("moments", got + WEIGHTS + STATE, want + WEIGHTS + STATE, 2 * STATE, 4 * 0x1p-24);
    CU_ASSERT_EQUAL(differences(got + WEIGHTS, NULL, STATE), 0);
    CU_ASSERT_EQUAL(differences(got + idle, start + idle, 29000 * 16), 1);
    CU_ASSERT(got[idle + touched - 40000 * 16] != start[idle + touched - 40000 * 16]);
    free(got);
    got = update(cpu, start, 3, 1); /* skipped: all but the gradient keep every bit */
    CU_ASSERT_EQUAL(memcmp(got, start, WEIGHTS * sizeof *got), 0);
    CU_ASSERT_EQUAL(memcmp(got + WEIGHTS + STATE, start + WEIGHTS + STATE, 2 * STATE * sizeof *got), 0);
    CU_ASSERT_EQUAL(differences(got + WEIGHTS, NULL, STATE), 0);
    free(start);
    free(want);
    free(got);
    up_backend_free(cpu);
    up_backend_free(ref);
}

/* Moments without a gradient come to 0, so that AdamW of such weights has nothing to do any more. */
static void test_faded_moments_become_zero(void) {
    up_backend *cpu = make("cpu", 1);
    float *x = calloc(WEIGHTS + 3 * STATE, sizeof *x), *m = x + WEIGHTS + STATE + touched, *v = m + STATE;
    CU_ASSERT_PTR_NOT_NULL_FATAL(x);
    *m = 1.05f * FLT_MIN;
    *v = 1.01f * FLT_MIN;
    float *got = update(cpu, x, 9, 0);
    CU_ASSERT_EQUAL(got[m - x], 0);
    CU_ASSERT_EQUAL(got[v - x], 0);
    free(x);
    free(got);
    up_backend_free(cpu);
}

/* ---- the floating point mode ---- */
typedef struct everything {
    float *layer, *attention, *update;
} everything;

static everything compute(up_backend *b, const float *start) {
    return (everything){layer(b), attend(b, PROMPTS), update(b, start, 3, 0)};
}

static void same_and_free(everything e, const everything *want) {
    CU_ASSERT_EQUAL(memcmp(e.layer, want->layer, LAYER * sizeof *e.layer), 0);
    CU_ASSERT_EQUAL(memcmp(e.attention, want->attention, (size_t)result_count() * sizeof *e.attention), 0);
    CU_ASSERT_EQUAL(memcmp(e.update, want->update, (WEIGHTS + 3 * STATE) * sizeof *e.update), 0);
    free(e.layer);
    free(e.attention);
    free(e.update);
}

static int has_denormals(void) {
    volatile float small = FLT_MIN;
    return small / 2 != 0;
}

/* What the caller had set decides nothing, and the caller has it again afterwards. */
static void test_the_mode_stays_inside(void) {
    static const int roundings[] = {FE_TONEAREST, FE_UPWARD, FE_TOWARDZERO};
    float *start = update_start();
    start[WEIGHTS + STATE + touched] = 1.05f * FLT_MIN;
    up_backend *cpu = make("cpu", 2);
    everything want = compute(cpu, start);
    CU_ASSERT(has_denormals());
    for (int i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL(fesetround(roundings[i]), 0);
        up_backend *inherits = make("cpu", 2); /* its threads begin with what this one has */
        everything again = compute(cpu, start), third = compute(inherits, start);
        CU_ASSERT_EQUAL(fegetround(), roundings[i]);
        CU_ASSERT(has_denormals());
        fesetround(FE_TONEAREST);
        same_and_free(again, &want);
        same_and_free(third, &want);
        up_backend_free(inherits);
    }
#ifdef __SSE__
    enum { FLUSH = 0x8040 }; /* and denormal inputs are 0 */
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | FLUSH);
    same_and_free(compute(cpu, start), &want);
    CU_ASSERT_EQUAL(_mm_getcsr() & FLUSH, FLUSH);
    _mm_setcsr(before);
#endif
    free(want.layer);
    free(want.attention);
    free(want.update);
    free(start);
    up_backend_free(cpu);
}

/* ---- 16-bit activations: more rows than are converted at one time ---- */
enum { TALL = 900, BROAD = 600 };

/* The same operation on activations of this type, and on f32 copies of them with the result rounded. */
static void test_rows_in_blocks(void) {
    static const up_dtype types[] = {UP_BF16, UP_F16};
    up_backend *cpu = make("cpu", 1);
    const up_backend_ops *ops = cpu->ops;
    float *x = numbers(TALL * BROAD, 1, 7), *w = numbers(BROAD, 1, 8);
    int32_t rows[TALL];
    for (int i = 0; i < TALL; i++) rows[i] = i % 7 == 3 ? -1 : (i * 31) % 800;
    for (int i = 0; i < 2; i++) {
        desk d = {.b = cpu};
        up_view wide = put(&d, UP_F32, TALL, BROAD, x), weight = put(&d, UP_F32, 1, BROAD, w);
        up_view half = put(&d, types[i], TALL, BROAD, NULL), result[2], stats[2], rounded, index;
        index = put(&d, UP_I32, TALL, 1, rows);
        UP_ASSERT_OK(ops->cast(cpu, &(up_cast_args){wide, half}));
        UP_ASSERT_OK(ops->cast(cpu, &(up_cast_args){half, wide}));
        for (int k = 0; k < 2; k++) {
            result[k] = put(&d, k ? UP_F32 : types[i], TALL, BROAD, NULL);
            stats[k] = put(&d, UP_F32, TALL, 2, NULL);
        }
        rounded = put(&d, types[i], TALL, BROAD, NULL);
        for (int k = 0; k < 2; k++)
            UP_ASSERT_OK(ops->layernorm(
                cpu, &(up_layernorm_args){k ? wide : half, weight, weight, 1e-5f, result[k], stats[k]}));
        UP_ASSERT_OK(ops->cast(cpu, &(up_cast_args){result[1], rounded}));
        same_bits(&d, result[0], rounded);
        same_bits(&d, stats[0], stats[1]);
        for (int k = 0; k < 2; k++)
            UP_ASSERT_OK(ops->gather_bwd(cpu, &(up_gather_grad){k ? wide : half, index, result[k]}));
        UP_ASSERT_OK(ops->cast(cpu, &(up_cast_args){result[1], rounded}));
        same_bits(&d, result[0], rounded);
        clear(&d);
    }
    free(x);
    free(w);
    up_backend_free(cpu);
}

/* ---- rows know nothing of their neighbours ---- */
enum { CROWD = 301, ODD = 77 /* columns: rows begin at any place of a cache line */ };
enum { OF_NORM, OF_NORM_BACK, OF_SUM, OF_BOTH, OF_BOTH_BACK, OF_BRANCH, OF_GELU, OF_LENGTH, ROW_RESULTS };

/* Everything that is computed of these rows of x and y, row by row; f32 results have the rows of x, too. */
static void compute_rows(up_backend *b, up_view x, up_view y, up_view w, up_view scratch,
                         up_view result[ROW_RESULTS]) {
    const up_backend_ops *ops = b->ops;
    desk d = {.b = b};
    up_view stats = put(&d, UP_F32, x.rows, 2, NULL), sum = put(&d, x.dtype, x.rows, x.cols, NULL);
    up_view f32 = put(&d, UP_F32, x.rows, x.cols, NULL);
    up_residual_args add = {.x = x, .branch = y, .scale = w, .y = result[OF_SUM]};
    up_layernorm_args norm = {x, w, w, 1e-5f, result[OF_NORM], stats};
    up_layernorm_grad back = {
        .x = x, .weight = w, .stats = stats, .dy = y, .residual = x, .dx = result[OF_NORM_BACK]};
    UP_ASSERT_OK(ops->layernorm(b, &norm));
    UP_ASSERT_OK(ops->layernorm_bwd(b, &back));
    UP_ASSERT_OK(ops->residual(b, &add));
    add.y = norm.x = sum;
    norm.y = result[OF_BOTH];
    UP_ASSERT_OK(ops->add_layernorm(b, &(up_add_layernorm_args){add, norm}));
    back.x = sum;
    back.dx = result[OF_BOTH_BACK];
    back.scratch = scratch;
    up_residual_grad branch = {.scale = w, .dy = back.dx, .dbranch = result[OF_BRANCH], .scratch = scratch};
    UP_ASSERT_OK(ops->add_layernorm_bwd(b, &(up_add_layernorm_grad){back, branch}));
    UP_ASSERT_OK(ops->gelu(b, &(up_gelu_args){x, result[OF_GELU]}));
    UP_ASSERT_OK(ops->cast(b, &(up_cast_args){x, f32}));
    UP_ASSERT_OK(ops->l2norm(b, &(up_l2norm_args){f32, f32, up_view_cols(stats, 0, 1)}));
    UP_ASSERT_OK(ops->cast(b, &(up_cast_args){f32, result[OF_LENGTH]}));
    clear(&d);
}

/* Rows first..first + count - 1 alone, in tensors of their own: the bits that they have among all. */
static void alone_as_among_all(desk *d, up_view x, up_view y, up_view w, up_view scratch, int64_t first,
                               int64_t count, const up_view *all) {
    desk own = {.b = d->b};
    up_view part[2], result[ROW_RESULTS];
    for (int i = 0; i < 2; i++) {
        part[i] = put(&own, x.dtype, count, ODD, NULL);
        UP_ASSERT_OK(d->b->ops->copy(d->b, part[i], up_view_rows(i ? y : x, first, count)));
    }
    for (int i = 0; i < ROW_RESULTS; i++) result[i] = put(&own, x.dtype, count, ODD, NULL);
    compute_rows(d->b, part[0], part[1], w, scratch, result);
    for (int i = 0; i < ROW_RESULTS; i++) same_bits(d, result[i], up_view_rows(all[i], first, count));
    clear(&own);
}

static void check_rows_alone(up_backend *cpu, up_dtype dtype) {
    desk d = {.b = cpu};
    float *noise = numbers(CROWD * ODD, 1, 21), *weight = numbers(ODD, 1, 22);
    up_view wide = put(&d, UP_F32, CROWD, ODD, noise), w = put(&d, UP_F32, 1, ODD, weight);
    up_view x = put(&d, dtype, CROWD, ODD, NULL), y = put(&d, dtype, CROWD, ODD, NULL), all[ROW_RESULTS];
    up_view scratch = scratch_of(&d, UP_OP_LAYERNORM, (up_op_dims){.rows = CROWD, .in = ODD, .out = ODD});
    UP_ASSERT_OK(cpu->ops->cast(cpu, &(up_cast_args){wide, x}));
    UP_ASSERT_OK(cpu->ops->gather(cpu, &(up_gather_args){wide, put(&d, UP_I32, CROWD, 1, NULL),
                                                         y})); /* all the first row, then noise */
    UP_ASSERT_OK(cpu->ops->copy(cpu, up_view_rows(y, 1, CROWD - 1), up_view_rows(x, 0, CROWD - 1)));
    for (int i = 0; i < ROW_RESULTS; i++) all[i] = put(&d, dtype, CROWD, ODD, NULL);
    compute_rows(cpu, x, y, w, scratch, all);
    static const int64_t parts[][2] = {{0, 1}, {7, 1}, {CROWD - 1, 1}, {100, 3}, {33, 130}};
    for (int i = 0; i < 5; i++) alone_as_among_all(&d, x, y, w, scratch, parts[i][0], parts[i][1], all);
    clear(&d);
    free(noise);
    free(weight);
}

static void test_rows_alone(void) {
    static const char *const isas[] = {"base", "avx2", "avx512"};
    static const up_dtype types[] = {UP_F32, UP_BF16, UP_F16};
    char isa[32], ignored[32];
    set("UP_CPU_ISA", NULL, isa);
    for (int i = 0; i < 9; i++) {
        up_backend *b = NULL;
        set("UP_CPU_ISA", isas[i / 3], ignored);
        if (up_backend_cpu(2, &b) == UP_OK)
            check_rows_alone(b, types[i % 3]);
        else
            fprintf(stderr, "skipped: %s\n", up_last_error());
        up_backend_free(b);
    }
    set("UP_CPU_ISA", isa, ignored);
}

/* One pass for two gives the bits of two. */
static void test_residual_and_norm_in_one_pass(void) {
    static const up_dtype types[] = {UP_F32, UP_BF16, UP_F16};
    up_backend *cpu = make("cpu", 2);
    const up_backend_ops *ops = cpu->ops;
    float *noise = numbers(TALL * BROAD, 1, 23);
    for (int i = 0; i < 3; i++) {
        desk d = {.b = cpu};
        up_view wide = put(&d, UP_F32, TALL, BROAD, noise), w = up_view_rows(wide, 5, 1), t[2][4], s[2][4];
        up_view x = put(&d, types[i], TALL, BROAD, NULL);
        up_view scratch =
            scratch_of(&d, UP_OP_LAYERNORM, (up_op_dims){.rows = TALL, .in = BROAD, .out = BROAD});
        UP_ASSERT_OK(ops->cast(cpu, &(up_cast_args){wide, x}));
        for (int k = 0; k < 2; k++) {
            for (int j = 0; j < 4; j++) t[k][j] = put(&d, types[i], TALL, BROAD, NULL);
            s[k][3] = put(&d, UP_F32, TALL, 2, NULL);
            for (int j = 0; j < 3; j++) s[k][j] = put(&d, UP_F32, 1, BROAD, NULL);
            up_add_layernorm_args a = {{.x = x, .branch = x, .scale = w, .y = t[k][0]},
                                       {t[k][0], w, w, 1e-5f, t[k][1], s[k][3]}};
            up_add_layernorm_grad g = {{t[k][0], w, s[k][3], x, x, t[k][2], s[k][0], s[k][1], scratch},
                                       {.branch = x,
                                        .scale = w,
                                        .dy = t[k][2],
                                        .dbranch = t[k][3],
                                        .dscale = s[k][2],
                                        .scratch = scratch}};
            UP_ASSERT_OK(k ? ops->add_layernorm(cpu, &a) : ops->residual(cpu, &a.add));
            if (!k) UP_ASSERT_OK(ops->layernorm(cpu, &a.norm));
            UP_ASSERT_OK(k ? ops->add_layernorm_bwd(cpu, &g) : ops->layernorm_bwd(cpu, &g.norm));
            if (!k) UP_ASSERT_OK(ops->residual_bwd(cpu, &g.add));
        }
        for (int j = 0; j < 4; j++) {
            same_bits(&d, t[0][j], t[1][j]);
            same_bits(&d, s[0][j], s[1][j]);
        }
        clear(&d);
    }
    free(noise);
    up_backend_free(cpu);
}

/* ---- parts of a matrix, of any element type ---- */
enum { HIGH = 300, BREADTH = 40 };

/* The matrix after some columns became 0 and others were copied. */
static unsigned char *parts_of(up_backend *b, up_dtype dtype, const float *noise) {
    desk d = {.b = b};
    up_view all = put(&d, dtype, HIGH, BREADTH, noise), inner = up_view_rows(all, 3, HIGH - 5);
    UP_ASSERT_OK(b->ops->fill(b, up_view_cols(inner, 7, 11), 0));
    UP_ASSERT_OK(b->ops->copy(b, up_view_cols(inner, 1, 5), up_view_cols(inner, 20, 5)));
    unsigned char *result = content(&d, all);
    clear(&d);
    return result;
}

static void test_parts_of_a_matrix(void) {
    static const up_dtype types[] = {UP_F32, UP_F16, UP_BF16, UP_I32, UP_U8};
    up_backend *cpu = make("cpu", 2), *ref = make("ref", 1);
    float *noise = numbers(HIGH * BREADTH, 1, 14);
    for (int i = 0; i < 5; i++) {
        unsigned char *want = parts_of(ref, types[i], noise), *got = parts_of(cpu, types[i], noise);
        CU_ASSERT_EQUAL(memcmp(got, want, HIGH * BREADTH * up_dtype_size(types[i])), 0);
        free(want);
        free(got);
    }
    free(noise);
    up_backend_free(cpu);
    up_backend_free(ref);
}

/* ---- a linear layer's rows are the same bits alone and in any batch ---- */
enum { BATCH = 333, DEEP = 900, BREADTHS = 77 }; /* more than one block of k, and no whole panels or tiles */

typedef struct inputs {
    const float *x, *weight, *bias, *dy; /* dy: [BATCH, BREADTHS] */
} inputs;

static up_view rounded_rows(desk *d, up_dtype dtype, const float *x, int64_t first, int64_t rows,
                            int64_t cols) {
    up_view wide = put(d, UP_F32, rows, cols, x + first * cols), half = put(d, dtype, rows, cols, NULL);
    UP_ASSERT_OK(d->b->ops->cast(d->b, &(up_cast_args){wide, half}));
    return half;
}

static up_view prepared_of(desk *d, up_view weight, up_dtype dtype) {
    up_op_dims dims = {.dtype = dtype, .rows = BATCH, .in = weight.cols, .out = weight.rows};
    size_t bytes = d->b->ops->prepared_size(d->b, &dims, 1);
    if (bytes == 0) return (up_view){0};
    up_view prepared = up_view_at(buffer_of(d, bytes), UP_U8, 0, 1, (int64_t)bytes);
    UP_ASSERT_OK(d->b->ops->prepare(d->b, &(up_prepare_args){weight, dtype, 1, prepared}));
    return prepared;
}

/* y and dx of some rows, as f32. */
static void run_rows(up_backend *b, up_dtype dtype, int prepare, const inputs *in, int64_t first,
                     int64_t rows, float *y, float *dx) {
    desk d = {.b = b};
    up_view x = rounded_rows(&d, dtype, in->x, first, rows, DEEP), none = {0};
    up_view dy = rounded_rows(&d, dtype, in->dy, first, rows, BREADTHS);
    up_view weight = put(&d, UP_F32, BREADTHS, DEEP, in->weight), pre = put(&d, dtype, rows, BREADTHS, NULL);
    up_view prepared = prepare ? prepared_of(&d, weight, dtype) : none;
    up_view out = put(&d, dtype, rows, BREADTHS, NULL), back = put(&d, dtype, rows, DEEP, NULL);
    up_view wide[2] = {put(&d, UP_F32, rows, BREADTHS, NULL), put(&d, UP_F32, rows, DEEP, NULL)};
    up_view space =
        scratch_of(&d, UP_OP_LINEAR, (up_op_dims){.dtype = dtype, .rows = rows, .in = DEEP, .out = BREADTHS});
    UP_ASSERT_OK(b->ops->linear(b, &(up_linear_args){.x = x,
                                                     .weight = weight,
                                                     .bias = put(&d, UP_F32, 1, BREADTHS, in->bias),
                                                     .prepared = prepared,
                                                     .activation = UP_ACT_GELU,
                                                     .pre = pre,
                                                     .y = out,
                                                     .scratch = space}));
    UP_ASSERT_OK(b->ops->linear_bwd(b, &(up_linear_grad){.x = x,
                                                         .weight = weight,
                                                         .prepared = prepared,
                                                         .activation = UP_ACT_GELU,
                                                         .pre = pre,
                                                         .dy = dy,
                                                         .dx = back,
                                                         .scratch = space}));
    UP_ASSERT_OK(b->ops->cast(b, &(up_cast_args){out, wide[0]}));
    UP_ASSERT_OK(b->ops->cast(b, &(up_cast_args){back, wide[1]}));
    UP_ASSERT_OK(b->ops->download(b, y, wide[0]));
    UP_ASSERT_OK(b->ops->download(b, dx, wide[1]));
    clear(&d);
}

static void same_rows(up_backend *whole, up_backend *part, up_dtype dtype, int prepare, const inputs *in) {
    static const int64_t runs[][2] = {{0, 1}, {5, 1}, {BATCH - 1, 1}, {17, 30}, {100, 200}, {1, BATCH - 1}};
    static float y[2][BATCH * BREADTHS], dx[2][BATCH * DEEP];
    run_rows(whole, dtype, 1, in, 0, BATCH, y[0], dx[0]);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        int64_t first = runs[i][0], rows = runs[i][1];
        run_rows(part, dtype, prepare, in, first, rows, y[1], dx[1]);
        CU_ASSERT_EQUAL(memcmp(y[1], y[0] + first * BREADTHS, (size_t)(rows * BREADTHS) * sizeof(float)), 0);
        CU_ASSERT_EQUAL(memcmp(dx[1], dx[0] + first * DEEP, (size_t)(rows * DEEP) * sizeof(float)), 0);
    }
}

/* Nor do they depend on the number of threads, or on whether the weight is prepared. */
static void test_rows_alone_and_in_a_batch(void) {
    static const up_dtype types[] = {UP_F32, UP_BF16, UP_F16};
    static const char *const isas[] = {"base", "avx2", "avx512", "avx512bf16"};
    float *x = numbers(BATCH * DEEP, 1, 20), *weight = numbers(BREADTHS * DEEP, 0.1, 21);
    float *bias = numbers(BREADTHS, 1, 22), *dy = numbers(BATCH * BREADTHS, 1, 23);
    inputs in = {x, weight, bias, dy};
    char isa[32], gemm[32], ignored[32];
    set("UP_CPU_ISA", NULL, isa);
    set("UP_CPU_GEMM", "own", gemm);
    for (int i = 0; i < 4; i++) {
        up_backend *b[3] = {NULL};
        set("UP_CPU_ISA", isas[i], ignored);
        for (int k = 0; k < 3; k++)
            if (up_backend_cpu(k + 1, &b[k])) fprintf(stderr, "skipped: %s\n", up_last_error());
        for (int type = 0; b[0] && b[1] && b[2] && type < 3; type++)
            for (int k = 0; k < 3; k++) same_rows(b[1], b[k], types[type], k != 2, &in);
        for (int k = 0; k < 3; k++)
            if (b[k]) up_backend_free(b[k]);
    }
    set("UP_CPU_ISA", isa, ignored);
    set("UP_CPU_GEMM", gemm, ignored);
    free(x);
    free(weight);
    free(bias);
    free(dy);
}

/* ---- patches as bytes, in more than one lot, and as values ---- */
enum { PATCHES = 2500, PIXELS = 27, PATCH_WIDTH = 48, CELLS = 9 };

/* y and dW of pixels that lie in this tensor */
static void embed_patches(desk *d, up_view pixels, up_view levels, float *result[2]) {
    const up_backend_ops *ops = d->b->ops;
    int32_t cells[PATCHES];
    for (int i = 0; i < PATCHES; i++) cells[i] = i % CELLS;
    float *w = numbers(PATCH_WIDTH * PIXELS, 1, 11), *g = numbers(PATCHES * PATCH_WIDTH, 1, 12);
    up_view space =
        scratch_of(d, UP_OP_PATCH_EMBED, (up_op_dims){.rows = PATCHES, .in = PIXELS, .out = PATCH_WIDTH});
    up_patch_embed_args a = {.patches = pixels,
                             .levels = levels,
                             .cells = put(d, UP_I32, PATCHES, 1, cells),
                             .weight = put(d, UP_F32, PATCH_WIDTH, PIXELS, w),
                             .bias = put(d, UP_F32, 1, PATCH_WIDTH, w),
                             .space = put(d, UP_F32, CELLS, PATCH_WIDTH, w),
                             .y = put(d, UP_F32, PATCHES, PATCH_WIDTH, NULL),
                             .scratch = space};
    up_patch_embed_grad back = {.patches = pixels,
                                .levels = levels,
                                .cells = a.cells,
                                .dy = put(d, UP_F32, PATCHES, PATCH_WIDTH, g),
                                .dweight = put(d, UP_F32, PATCH_WIDTH, PIXELS, NULL),
                                .scratch = space};
    UP_ASSERT_OK(ops->patch_embed(d->b, &a));
    UP_ASSERT_OK(ops->patch_embed_bwd(d->b, &back));
    result[0] = content(d, a.y);
    result[1] = content(d, back.dweight);
    free(w);
    free(g);
}

static void test_patches_as_bytes(void) {
    desk d = {.b = make("cpu", 3)};
    static uint8_t bytes[PATCHES][PIXELS];
    static float values[PATCHES][PIXELS];
    up_rng rng = up_rng_make(up_test_seed(), 9, 0, 0);
    float *levels = numbers(3 * 256, 1, 10), *want[2], *got[2];
    for (int i = 0; i < PATCHES; i++)
        for (int j = 0; j < PIXELS; j++) {
            bytes[i][j] = (uint8_t)up_rng_below(&rng, 256);
            values[i][j] = levels[j / (PIXELS / 3) * 256 + bytes[i][j]];
        }
    embed_patches(&d, put(&d, UP_F32, PATCHES, PIXELS, values), (up_view){0}, want);
    embed_patches(&d, put(&d, UP_U8, PATCHES, PIXELS, bytes), put(&d, UP_F32, 3, 256, levels), got);
    near_in_norm("patches", got[0], want[0], PATCHES * PATCH_WIDTH, 2 * sqrt(PIXELS) * 0x1p-24);
    near_in_norm("patch weight", got[1], want[1], PATCH_WIDTH * PIXELS, 2 * sqrt(PATCHES) * 0x1p-24);
    for (int k = 0; k < 2; k++) {
        free(want[k]);
        free(got[k]);
    }
    clear(&d);
    up_backend_free(d.b);
    free(levels);
}

/* ---- cross-entropy over more targets than a block of sums, with groups, in uneven tiles ---- */
enum { QUESTIONS = 20, TARGETS = 3001 };

/* loss, lse, correct, and dz */
static void losses(up_backend *b, const float *z, const int32_t *groups, int64_t tile, float *loss,
                   float *dz) {
    desk d = {.b = b};
    int32_t index[QUESTIONS];
    for (int i = 0; i < QUESTIONS; i++) index[i] = i == 3 ? -1 : i * 149 % TARGETS;
    up_view logits = put(&d, UP_F32, QUESTIONS, TARGETS, z), end = put(&d, UP_F32, 3, QUESTIONS, NULL), v[3];
    up_view state = put(&d, UP_F32, QUESTIONS, UP_XENT_FIELDS, NULL);
    up_truth truth = {.index = put(&d, UP_I32, QUESTIONS, 1, index),
                      .group_x = put(&d, UP_I32, QUESTIONS, 1, groups),
                      .group_y = put(&d, UP_I32, TARGETS, 1, groups),
                      .smoothing = 0.1f};
    for (int i = 0; i < 3; i++) v[i] = up_view_at(end.buffer, UP_F32, i * QUESTIONS, QUESTIONS, 1);
    for (int64_t first = 0; first < TARGETS; first += tile) {
        int64_t n = TARGETS - first < tile ? TARGETS - first : tile;
        UP_ASSERT_OK(b->ops->xent(b, &(up_xent_args){.z = up_view_cols(logits, first, n),
                                                     .first = first,
                                                     .begin = first == 0,
                                                     .end = first + n == TARGETS,
                                                     .truth = truth,
                                                     .state = state,
                                                     .loss = v[0],
                                                     .lse = v[1],
                                                     .correct = v[2]}));
    }
    for (int64_t first = 0; first < TARGETS; first += tile) {
        up_view part = up_view_cols(logits, first, TARGETS - first < tile ? TARGETS - first : tile);
        UP_ASSERT_OK(b->ops->xent_bwd(
            b, &(up_xent_grad){
                   .z = part, .first = first, .truth = truth, .state = state, .weight = 0.05f, .dz = part}));
    }
    UP_ASSERT_OK(b->ops->download(b, loss, end));
    UP_ASSERT_OK(b->ops->download(b, dz, logits));
    clear(&d);
}

static void test_loss_over_many_targets(void) {
    up_backend *cpu = make("cpu", 2), *ref = make("ref", 1);
    static float dz[2][QUESTIONS * TARGETS], loss[2][3 * QUESTIONS];
    static const int64_t tiles[] = {TARGETS, 1000, 1700};
    int32_t groups[TARGETS];
    float *z = numbers(QUESTIONS * TARGETS, 3, 13);
    for (int i = 0; i < TARGETS; i++) groups[i] = i % 5 - 1;
    losses(ref, z, groups, TARGETS, loss[0], dz[0]);
    for (int i = 0; i < 3; i++) {
        losses(cpu, z, groups, tiles[i], loss[1], dz[1]);
        near_in_norm("losses", loss[1], loss[0], 3 * QUESTIONS, 8 * 0x1p-24);
        near_in_norm("their gradient", dz[1], dz[0], QUESTIONS * TARGETS, 32 * 0x1p-24);
    }
    free(z);
    up_backend_free(cpu);
    up_backend_free(ref);
}

/* A signal may arrive at any moment: a timer, Ctrl-C, a profiler. Generated code of a product library that
 * borrows the stack pointer must not be interrupted by a handler's frame. */
static atomic_int ticks; /* any thread may be the one that is interrupted */

static void tick(int number) {
    (void)number;
    atomic_fetch_add(&ticks, 1);
}

static void test_signals_at_any_moment(void) {
    const struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART}, before;
    up_backend *cpu = make("cpu", 2);
    float *first = layer(cpu);
    sigaction(SIGALRM, &action, &before);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int run = 0; run < 20; run++) {
        float *again = layer(cpu);
        CU_ASSERT_EQUAL(memcmp(first, again, LAYER * sizeof *again), 0);
        free(again);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &before, NULL);
    CU_ASSERT(ticks > 20);
    free(first);
    up_backend_free(cpu);
}

const up_test up_tests[] = {
    {"attention of many blocks", test_attention_of_many_blocks},
    {"a layer of many pieces", test_layer_of_many_pieces},
    {"the same bits each time", test_the_same_bits_each_time},
    {"attention is the same for any number of threads", test_attention_is_the_same_for_any_threads},
    {"a sequence is the same in any batch", test_a_sequence_is_the_same_in_any_batch},
    {"every instruction set with every product", test_every_path},
    {"unknown names are errors", test_unknown_names_are_errors},
    {"AdamW of segments", test_adamw_of_segments},
    {"faded moments become 0", test_faded_moments_become_zero},
    {"the floating point mode stays inside", test_the_mode_stays_inside},
    {"16-bit rows in blocks", test_rows_in_blocks},
    {"rows alone as among others", test_rows_alone},
    {"residual and norm in one pass", test_residual_and_norm_in_one_pass},
    {"parts of a matrix", test_parts_of_a_matrix},
    {"rows alone and in a batch", test_rows_alone_and_in_a_batch},
    {"patches as bytes", test_patches_as_bytes},
    {"loss over many targets", test_loss_over_many_targets},
    {"signals at any moment", test_signals_at_any_moment},
    {NULL, NULL}};
