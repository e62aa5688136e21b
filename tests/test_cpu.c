/* test_cpu.c - what the random cases of test_parity do not reach in the CPU backend: sequences of several
 * blocks of keys and queries beside very short ones, large matrices cut into many pieces, results that do not
 * change from run to run or with the order of pieces, every instruction set with every product, and the
 * environment's names. */
#include "tests/support.h"
#include "uniperceiver/backend.h"
#include "uniperceiver/random.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

const char *const up_suite_name = "cpu";

static up_backend *make(const char *name, int threads) {
    up_backend *b = NULL;
    UP_ASSERT_OK(up_backend_create(name, threads, &b));
    return b;
}

static up_buffer *buffer_of(up_backend *b, size_t bytes) {
    up_buffer *buffer = NULL;
    UP_ASSERT_OK(b->ops->alloc(b, bytes, &buffer));
    return buffer;
}

static float *numbers(int64_t count, double scale, uint64_t purpose) {
    up_rng rng = up_rng_make(up_test_seed(), purpose, 0, 0);
    float *x = malloc((size_t)count * sizeof *x);
    CU_ASSERT_PTR_NOT_NULL_FATAL(x);
    for (int64_t i = 0; i < count; i++) x[i] = (float)(scale * up_rng_normal(&rng));
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
    int64_t sizes[] = {QUERIES, KEYS, KEYS, 2 * PROMPTS, 2 * PROMPTS, QUERIES}, inputs = 0,
            total = result_count();
    up_view in[6], out[RESULTS];
    for (int i = 0; i < 6; i++) inputs += sizes[i] * WIDTH;
    float *x = numbers(inputs, 1, 1), *y = malloc((size_t)total * sizeof *y);
    CU_ASSERT_PTR_NOT_NULL_FATAL(y);
    up_op_dims dims = {.rows = KEYS,
                       .in = WIDTH,
                       .out = WIDTH,
                       .keys = MOST + PROMPTS,
                       .heads = HEADS,
                       .sequences = SEQUENCES};
    size_t scratch = b->ops->scratch(b, UP_OP_ATTENTION, &dims);
    up_buffer *buffers[] = {buffer_of(b, sizeof sequences), buffer_of(b, (size_t)inputs * sizeof *x),
                            buffer_of(b, (size_t)total * sizeof *y), buffer_of(b, scratch)};
    up_view table = up_view_at(buffers[0], UP_I32, 0, SEQUENCES, UP_SEQ_FIELDS);
    up_view space = up_view_at(buffers[3], UP_U8, 0, 1, (int64_t)scratch),
            all = up_view_at(buffers[2], UP_F32, 0, 1, total);
    for (int64_t i = 0, at = 0; i < 6; at += sizes[i++] * WIDTH)
        in[i] = up_view_at(buffers[1], UP_F32, at, sizes[i], WIDTH);
    for (int64_t i = 0, at = 0; i < RESULTS; at += results[i][0] * results[i][1], i++)
        out[i] = up_view_at(buffers[2], UP_F32, at, results[i][0], results[i][1]);
    UP_ASSERT_OK(b->ops->upload(b, table, sequences));
    UP_ASSERT_OK(b->ops->upload(b, up_view_at(buffers[1], UP_F32, 0, 1, inputs), x));
    UP_ASSERT_OK(b->ops->fill(b, all, 0)); /* without prompts their gradients are not written */
    up_attention_args f = {table, HEADS, prompts, 2,      MOST + prompts, in[0], in[1],
                           in[2], in[3], in[4],   out[0], out[1],         space};
    if (!prompts) f.prompt_k = f.prompt_v = (up_view){0};
    up_attention_grad g = {f, in[5], out[2], out[3], out[4], out[5], out[6], space};
    if (!prompts) g.dprompt_k = g.dprompt_v = (up_view){0};
    UP_ASSERT_OK(b->ops->attention(b, &f));
    UP_ASSERT_OK(b->ops->attention_bwd(b, &g));
    UP_ASSERT_OK(b->ops->download(b, y, all));
    for (int i = 0; i < 4; i++) b->ops->release(b, buffers[i]);
    free(x);
    return y;
}

/* Sums of at most MOST terms whose roundings are independent: sqrt(MOST) halves of the spacing at 1; twice
 * that. */
static void same_results(const float *got, const float *want) {
    double bound = 2 * sqrt(MOST) * 0x1p-24;
    for (int i = 0; i < RESULTS; i++) {
        double diff = 0, norm = 0;
        for (int64_t k = 0; k < results[i][0] * results[i][1]; k++, got++, want++) {
            diff += ((double)*got - *want) * ((double)*got - *want);
            norm += (double)*want * *want;
        }
        CU_ASSERT(sqrt(diff) <= bound * sqrt(norm));
        if (!(sqrt(diff) <= bound * sqrt(norm)))
            fprintf(stderr, "attention result %d: %g of %g, at most %g\n", i, sqrt(diff), sqrt(norm),
                    bound * sqrt(norm));
    }
}

/* ---- a linear layer with GELU, large enough for many pieces ---- */
enum { ROWS = 700, IN = 90, OUT = 130 };

static float *layer(up_backend *b, int64_t *count) {
    int64_t sizes[][2] = {{ROWS, IN},  {OUT, IN},  {1, OUT},  {ROWS, OUT}, {ROWS, OUT},
                          {ROWS, OUT}, {ROWS, IN}, {OUT, IN}, {1, OUT}};
    int64_t total = 0, i = 0;
    up_view v[9];
    for (i = 0; i < 9; i++) total += sizes[i][0] * sizes[i][1];
    float *x = numbers(total, 0.5, 2);
    size_t scratch = b->ops->scratch(b, UP_OP_LINEAR, &(up_op_dims){.rows = ROWS, .in = IN, .out = OUT});
    up_buffer *data = buffer_of(b, (size_t)total * sizeof *x), *space = buffer_of(b, scratch);
    up_view all = up_view_at(data, UP_F32, 0, 1, total);
    for (int64_t at = i = 0; i < 9; at += sizes[i][0] * sizes[i][1], i++)
        v[i] = up_view_at(data, UP_F32, at, sizes[i][0], sizes[i][1]);
    UP_ASSERT_OK(b->ops->upload(b, all, x));
    UP_ASSERT_OK(b->ops->linear(b, &(up_linear_args){v[0], v[1], v[2], UP_ACT_GELU, v[3], v[4]}));
    UP_ASSERT_OK(
        b->ops->linear_bwd(b, &(up_linear_grad){v[0], v[1], UP_ACT_GELU, v[3], v[5], v[6], v[7], v[8],
                                                up_view_at(space, UP_U8, 0, 1, (int64_t)scratch)}));
    UP_ASSERT_OK(b->ops->download(b, x, all));
    b->ops->release(b, data);
    b->ops->release(b, space);
    *count = total;
    return x;
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
    int64_t count;
    float *want = layer(ref, &count), *got = layer(cpu, &count);
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        diff += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += (double)want[i] * want[i];
    }
    CU_ASSERT(sqrt(diff) <= 2 * sqrt(ROWS) * 0x1p-24 * sqrt(norm));
    free(want);
    free(got);
    up_backend_free(ref);
    up_backend_free(cpu);
}

/* Which thread takes which piece is left to the moment; the bits are not. */
static void test_the_same_bits_each_time(void) {
    up_backend *cpu = make("cpu", 4);
    int64_t count;
    float *first = attend(cpu, PROMPTS), *first_layer = layer(cpu, &count);
    for (int run = 0; run < 10; run++) {
        float *again = attend(cpu, PROMPTS), *again_layer = layer(cpu, &count);
        CU_ASSERT_EQUAL(memcmp(first, again, (size_t)result_count() * sizeof *again), 0);
        CU_ASSERT_EQUAL(memcmp(first_layer, again_layer, (size_t)count * sizeof *again_layer), 0);
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
    static const char *const isas[] = {"base", "avx2", "avx512"}, *const gemms[] = {"plain", "openblas",
                                                                                    "dnnl"};
    char isa[32], gemm[32], ignored[32];
    up_backend *ref = make("ref", 1);
    float *want = attend(ref, PROMPTS);
    int64_t count;
    float *want_layer = layer(ref, &count);
    set("UP_CPU_ISA", NULL, isa);
    set("UP_CPU_GEMM", NULL, gemm);
    for (int i = 0; i < 9; i++) {
        up_backend *b = NULL;
        set("UP_CPU_ISA", isas[i / 3], ignored);
        set("UP_CPU_GEMM", gemms[i % 3], ignored);
        up_status status = up_backend_cpu(2, &b);
        if (status != UP_OK) { /* not this processor, or not in this build: refused, and said so */
            CU_ASSERT(strstr(up_last_error(), isas[i / 3]) || strstr(up_last_error(), gemms[i % 3]));
            fprintf(stderr, "skipped: %s\n", up_last_error());
            continue;
        }
        float *got = attend(b, PROMPTS), *got_layer = layer(b, &count);
        double diff = 0, norm = 0;
        same_results(got, want);
        for (int64_t k = 0; k < count; k++) {
            diff += ((double)got_layer[k] - want_layer[k]) * ((double)got_layer[k] - want_layer[k]);
            norm += (double)want_layer[k] * want_layer[k];
        }
        CU_ASSERT(sqrt(diff) <= 2 * sqrt(ROWS) * 0x1p-24 * sqrt(norm));
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

/* ---- AdamW leaves alone what does not change ---- */
static void test_adamw_of_idle_rows(void) {
    enum { N = 5000, TOUCHED = 4000 };
    up_backend *cpu = make("cpu", 2), *ref = make("ref", 1), *both[] = {ref, cpu};
    float *p = numbers(N, 1, 3), grad[N] = {0}, result[2][4 * N];
    grad[TOUCHED] = 0.25f;
    for (int i = 0; i < 2; i++) {
        up_backend *b = both[i];
        up_buffer *data = buffer_of(b, 4 * N * sizeof *p);
        up_view v[4], all = up_view_at(data, UP_F32, 0, 1, 4 * N);
        for (int k = 0; k < 4; k++) v[k] = up_view_at(data, UP_F32, (int64_t)k * N, N, 1);
        UP_ASSERT_OK(b->ops->fill(b, all, 0));
        UP_ASSERT_OK(b->ops->upload(b, v[0], p));
        UP_ASSERT_OK(b->ops->upload(b, v[1], grad));
        UP_ASSERT_OK(b->ops->adamw(
            b, &(up_adamw_args){v[0], v[1], v[2], v[3], 0.01f, 0.9f, 0.95f, 1e-6f, 0, 0.1f, 0.05f, {0}, 0}));
        UP_ASSERT_OK(b->ops->download(b, result[i], all));
        b->ops->release(b, data);
    }
    for (int k = 0; k < 4 * N; k++) {
        int touched = k % N == TOUCHED; /* one step in f32: a few roundings of the result */
        CU_ASSERT(fabsf(result[1][k] - result[0][k]) <= (touched ? 4 * 0x1p-24f * fabsf(result[0][k]) : 0));
    }
    free(p);
    up_backend_free(cpu);
    up_backend_free(ref);
}

/* A signal may arrive at any moment: a timer, Ctrl-C, a profiler. Generated code of a product library that
 * borrows the stack pointer must not be interrupted by a handler's frame. */
static volatile sig_atomic_t ticks;

static void tick(int number) {
    (void)number;
    ticks++;
}

static void test_signals_at_any_moment(void) {
    const struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART}, before;
    up_backend *cpu = make("cpu", 2);
    int64_t count;
    float *first = layer(cpu, &count);
    sigaction(SIGALRM, &action, &before);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int run = 0; run < 20; run++) {
        float *again = layer(cpu, &count);
        CU_ASSERT_EQUAL(memcmp(first, again, (size_t)count * sizeof *again), 0);
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
    {"every instruction set with every product", test_every_path},
    {"unknown names are errors", test_unknown_names_are_errors},
    {"AdamW of idle rows", test_adamw_of_idle_rows},
    {"signals at any moment", test_signals_at_any_moment},
    {NULL, NULL}};
