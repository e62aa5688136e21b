/* test_base.c - what shows at the size of Base alone: operations of the cpu backend at its shapes against the
 * reference, with the bounds of the case table (cases.h); Table 9 as the optimiser counts it; a step of those
 * groups among 124 million weights. */
#include "tests/cases.h"
#include "tests/support.h"
#include "uniperceiver/optimizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const up_suite_name = "base";

static up_backend *backend_of(const char *name) {
    up_backend *b = NULL;
    UP_ASSERT_OK(up_backend_create(name, 2, &b));
    return b;
}

/* ---- operations ---- */

enum { SIZES = 6 };
typedef struct shape {
    const char *kind;
    int64_t sizes[SIZES]; /* in the order in which the kind asks for them (cases.c) */
    int count;
    int (*wanted)(const up_case *c); /* of the cases that are drawn; NULL: any */
} shape;

/* options[0] of `linear`; without a gradient it is inference. */
static int has_gradient_of_gelu(const up_case *c) {
    int gradients = 0;
    for (int t = 0; t < UP_CASE_TENSORS; t++)
        gradients += c->t[t].name && (!strcmp(c->t[t].name, "dx") || !strcmp(c->t[t].name, "dweight"));
    return c->options[0] == UP_ACT_GELU && gradients == 2 && !c->exact && c->dtype == UP_F32;
}

static int is_rounded(const up_case *c) {
    return !c->exact;
}

static void parity_at(const shape *s, uint64_t first) {
    enum { MOST = 64 };
    const up_case_kind *kind = up_case_kind_named(s->kind);
    up_case *c = NULL;
    void *want[UP_CASE_TENSORS], *got[UP_CASE_TENSORS];
    CU_ASSERT_PTR_NOT_NULL_FATAL(kind);
    for (uint64_t n = 0; n < MOST; n++) {
        c = up_case_make_sized(kind, up_test_seed() + first + n, s->sizes, s->count);
        if (!s->wanted || s->wanted(c)) break;
        up_case_free(c);
        c = NULL;
    }
    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    up_backend *ref = backend_of("ref"), *cpu = backend_of("cpu");
    UP_ASSERT_OK(up_case_run(c, ref, want));
    UP_ASSERT_OK(up_case_run(c, cpu, got));
    up_case_solve(c, 0x1p-24);
    up_status status = up_case_check(c, got, want, 2);
    if (status != UP_OK) fprintf(stderr, "%s %s: %s\n", s->kind, c->shape, up_last_error());
    CU_ASSERT_EQUAL(status, UP_OK);
    up_case_drop(got);
    up_case_drop(want);
    up_case_free(c);
    up_backend_free(cpu);
    up_backend_free(ref);
}

static void test_linear(void) {
    static const shape up = {"linear", {40, 768, 3072}, 3, has_gradient_of_gelu};
    static const shape down = {"linear", {40, 3072, 768}, 3, is_rounded};
    parity_at(&up, 0);
    parity_at(&down, 100);
}

static void test_layernorm(void) {
    static const shape s = {"layernorm", {197, 768}, 2, is_rounded};
    for (uint64_t i = 0; i < 4; i++) parity_at(&s, 100 * i);
}

static int mask_of(const up_case *c) {
    return ((const int32_t *)c->t[0].data)[UP_SEQ_KIND];
}
static int sees_all(const up_case *c) {
    return mask_of(c) == UP_MASK_FULL && c->dtype == UP_F32;
}
static int is_doubled(const up_case *c) {
    return mask_of(c) == UP_MASK_DOUBLED;
}

/* A picture: <SPE> and 196 patches; and 20 words with their slots behind it. */
static void test_attention(void) {
    static const shape picture = {"attention", {1, 12, 64, 197}, 4, sees_all};
    static const shape caption = {"attention", {1, 12, 64, 197, 20}, 5, is_doubled};
    parity_at(&picture, 0);
    parity_at(&caption, 100);
}

/* The vocabulary without <SPE>, in tiles. */
static void test_vocabulary(void) {
    static const shape losses = {"xent", {6, 49410}, 2, NULL};
    static const shape tile = {"logits", {24, 1024, 768}, 3, is_rounded};
    static const shape embedding = {"embed", {600, 24, 49410, 256}, 4, NULL};
    for (uint64_t i = 0; i < 3; i++) parity_at(&losses, 100 * i);
    parity_at(&tile, 0);
    parity_at(&embedding, 0);
}

static void test_adamw(void) {
    static const shape s = {"adamw", {3, 60000, 70000, 50000}, 4, NULL}; /* segments; units of 16 */
    parity_at(&s, 0);
}

/* ---- Table 9 ---- */

enum { TABLE_9 = 1 << UP_GROUP_SPE | 1 << UP_GROUP_NORM | 1 << UP_GROUP_PROMPT | 1 << UP_GROUP_LINEAR_HEAD };

static up_model *tuned_base(up_backend *b, int classes) {
    up_config config;
    up_model *model = NULL;
    UP_ASSERT_OK(up_config_preset("base", &config));
    config.prompts = 10;
    config.classes = classes;
    UP_ASSERT_OK(up_model_create_bare(b, &config, &model));
    return model;
}

/* What the optimiser counts is what the table of parameters counts, but for the head's bias and alpha. */
static void check_counts(const up_model *model, const up_optimizer *o, int64_t table, int64_t beside) {
    int64_t counts[UP_GROUP_COUNT], own[UP_GROUP_COUNT], sum = 0;
    up_params_count(up_model_params(model), counts);
    CU_ASSERT_EQUAL(up_optimizer_count(o, own), table + beside);
    for (int g = 0; g < UP_GROUP_COUNT; g++) {
        int64_t learns = TABLE_9 >> g & 1 ? counts[g] : 0;
        CU_ASSERT_EQUAL(own[g], learns + (g == UP_GROUP_LINEAR_HEAD ? beside : 0));
        sum += learns;
    }
    CU_ASSERT_EQUAL(sum, table);
}

/* Elements of a parameter that are not `value`, to the bit. */
static int64_t count_other(up_model *model, int param, float value) {
    enum { ROWS = 512 };
    up_backend *b = up_model_backend(model);
    up_view all = up_model_weight(model, param);
    float *x = malloc((size_t)(ROWS * all.cols) * sizeof *x);
    int64_t other = 0;
    for (int64_t row = 0; row < all.rows; row += ROWS) {
        int64_t rows = all.rows - row < ROWS ? all.rows - row : ROWS;
        UP_ASSERT_OK(b->ops->download(b, x, up_view_rows(all, row, rows)));
        for (int64_t i = 0; i < rows * all.cols; i++) other += memcmp(&x[i], &value, sizeof value) != 0;
    }
    free(x);
    return other;
}

/* Every weight is one number, every gradient another: after a step, with decay, what learns is something
 * else, and nothing else is. */
static void check_step(up_model *model, up_gradients *g, up_optimizer *o) {
    static const float start = 0.3f;
    up_backend *b = up_model_backend(model);
    const up_params *p = up_model_params(model);
    for (int i = 0; i < p->count; i++)
        UP_ASSERT_OK(b->ops->fill(b, up_model_weight(model, i), (double)start));
    UP_ASSERT_OK(b->ops->fill(b, up_gradients_all(g), 0.01));
    UP_ASSERT_OK(up_optimizer_step(o, 1e-3));
    for (int i = 0; i < p->count; i++) {
        int learns = TABLE_9 >> p->list[i].group & 1;
        CU_ASSERT_EQUAL(count_other(model, i, start), learns ? p->list[i].rows * p->list[i].cols : 0);
    }
}

static void test_table_9(void) {
    static const struct {
        int classes;
        int64_t table, beside;
    } rows[] = {{0, 226560, 0}, {1000, 994560, 1001}};
    static const up_adamw adamw = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .decay = 0.05, .max_norm = 5};
    up_backend *b = backend_of("cpu");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        up_gradients *g = NULL;
        up_optimizer *o = NULL;
        up_model *model = tuned_base(b, rows[i].classes);
        UP_ASSERT_OK(up_gradients_create(model, TABLE_9, &g));
        UP_ASSERT_OK(up_optimizer_create(g, &adamw, &o));
        check_counts(model, o, rows[i].table, rows[i].beside);
        if (rows[i].classes) check_step(model, g, o);
        up_optimizer_free(o);
        up_gradients_free(g);
        up_model_destroy(model);
    }
    up_backend_free(b);
}

const up_test up_tests[] = {
    {"linear", test_linear},
    {"layernorm", test_layernorm},
    {"attention", test_attention},
    {"vocabulary", test_vocabulary},
    {"adamw", test_adamw},
    {"Table 9", test_table_9},
    {NULL, NULL},
};
