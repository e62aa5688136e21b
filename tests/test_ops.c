/* test_ops.c - the reference's operations: against exact values computed apart from them (cases.c), against
 * finite differences, against cases done by hand, and for the properties that backend.h promises. */
#include "tests/cases.h"
#include "tests/support.h"
#include "uniperceiver/backend_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const up_suite_name = "ops";

static up_backend *ref(void) {
    static up_backend b;
    b.ops = up_ref_ops();
    return &b;
}

/* ---- every kind: exact values, then finite differences ---- */

/* The reference sums in double, so only the roundings of what it stores are allowed. */
static void against_exact_values(const up_case_kind *kind, uint64_t seed) {
    up_case *c = up_case_make(kind, seed, kind->limit / 2, 0);
    void *got[UP_CASE_TENSORS];
    up_status status = up_case_run(c, ref(), got);
    up_case_solve(c, 0x1p-53);
    if (status == UP_OK) status = up_case_check(c, got, NULL, 1);
    if (status != UP_OK) up_case_report(c, "test_ops", "ref", up_last_error());
    CU_ASSERT_EQUAL(status, UP_OK);
    up_case_drop(got);
    up_case_free(c);
}

/* The largest input: an output may be the difference of numbers as large. */
static double largest_input(const up_case *c) {
    double largest = 0;
    for (int i = 0; i < UP_CASE_TENSORS; i++) {
        const up_case_tensor *t = &c->t[i];
        const float *x = t->role >= UP_ROLE_IN && t->dtype == UP_F32 ? t->data : NULL;
        for (int64_t k = 0; x && k < t->rows * t->cols; k++) largest = fmax(largest, fabsf(x[k]));
    }
    return largest;
}

/* sum of upstream * output over all outputs, in double; *size: of the numbers that were added on the way. */
static double loss_of(up_case *c, double *size) {
    double largest = largest_input(c);
    double loss = 0;
    c->kind->oracle(c, 0);
    *size = 0;
    for (int i = 0; i < UP_CASE_TENSORS; i++) {
        const up_case_tensor *t = &c->t[i];
        const float *upstream = t->upstream < 0 || !t->role ? NULL : c->t[t->upstream].data;
        if (!upstream && t->upstream_all == 0) continue;
        for (int64_t k = 0; k < t->rows * t->cols; k++) {
            double factor = upstream ? upstream[k] : t->upstream_all;
            loss += factor * t->num[k].v;
            *size += fabs(factor) * (fabs(t->num[k].v) + largest);
        }
    }
    return loss;
}

/* d loss / d x by central differences with steps h and h / 2, extrapolated. *error: their difference bounds
 * the error of the series, and the rounding of the loss is divided by the step. */
static double difference(up_case *c, up_num *x, double *error) {
    const double h = 0x1p-12, at = x->v;
    double slope[2], size = 0;
    for (int i = 0; i < 2; i++) {
        double step = i ? h / 2 : h;
        x->v = at + step;
        slope[i] = loss_of(c, &size);
        x->v = at - step;
        slope[i] = (slope[i] - loss_of(c, &size)) / (2 * step);
    }
    x->v = at;
    *error = fabs(slope[1] - slope[0]) + 0x1p-50 * size / h;
    return (4 * slope[1] - slope[0]) / 3;
}

static up_status gradient_is_slope(up_case *c, const up_case_tensor *input, void *const *got) {
    const up_case_tensor *grad = &c->t[input->grad];
    const float *before = grad->data, *after = got[input->grad];
    for (int64_t k = 0; k < input->rows * input->cols; k++) {
        double error, bound = grad->num[k].e,
                      want = difference(c, &input->num[k], &error) + (before ? before[k] : 0);
        if (!(fabs(after[k] - want) <= bound + error))
            return up_fail(UP_ERR_NUMERIC, grad->name,
                           "[%ld] is %.9g, the finite difference %.9g within %.3g", (long)k, after[k], want,
                           bound + error);
    }
    return UP_OK;
}

static void against_differences(const up_case_kind *kind, uint64_t seed) {
    up_case *c = up_case_make(kind, seed, 4, 1);
    void *got[UP_CASE_TENSORS];
    up_status status = up_case_run(c, ref(), got);
    up_case_solve(c, 0x1p-53);
    for (int t = 0; t < UP_CASE_TENSORS && status == UP_OK; t++)
        if (c->t[t].role && c->t[t].grad >= 0) status = gradient_is_slope(c, &c->t[t], got);
    if (status != UP_OK) up_case_report(c, "test_ops", "ref", up_last_error());
    CU_ASSERT_EQUAL(status, UP_OK);
    up_case_drop(got);
    up_case_free(c);
}

static void all_of(const char *name) {
    const up_case_kind *kind = up_case_kind_named(name);
    CU_ASSERT_PTR_NOT_NULL_FATAL(kind);
    for (uint64_t i = 0; i < 200; i++) against_exact_values(kind, up_test_seed() + i);
    for (uint64_t i = 0; i < 100; i++) against_differences(kind, up_test_seed() + i);
}

static void test_embed(void) {
    all_of("embed");
}
static void test_patch_embed(void) {
    all_of("patch_embed");
}
static void test_linear(void) {
    all_of("linear");
}
static void test_layernorm(void) {
    all_of("layernorm");
}
static void test_attention(void) {
    all_of("attention");
}
static void test_residual(void) {
    all_of("residual");
}
static void test_add_layernorm(void) {
    all_of("add_layernorm");
}
static void test_gather(void) {
    all_of("gather");
}
static void test_scatter(void) {
    all_of("scatter");
}
static void test_l2norm(void) {
    all_of("l2norm");
}
static void test_logits(void) {
    all_of("logits");
}
static void test_xent(void) {
    all_of("xent");
}
static void test_sqnorm(void) {
    all_of("sqnorm");
}
static void test_gelu(void) {
    all_of("gelu");
}
static void test_step(void) {
    all_of("step");
}
static void test_adamw(void) {
    all_of("adamw");
}

/* ---- by hand ---- */

/* A view of an array of the test: the reference's buffers are host memory. */
static up_view over(void *array, up_dtype dtype, int64_t rows, int64_t cols) {
    static up_buffer buffers[32];
    static int next;
    up_buffer *buffer = &buffers[next++ % 32];
    *buffer = (up_buffer){array, (size_t)(rows * cols) * up_dtype_size(dtype)};
    return up_view_at(buffer, dtype, 0, rows, cols);
}
static up_view f32(float *array, int64_t rows, int64_t cols) {
    return over(array, UP_F32, rows, cols);
}
static up_view i32(int32_t *array, int64_t rows, int64_t cols) {
    return over(array, UP_I32, rows, cols);
}

/* Paper figure 4 for two prefix tokens and three words: rows look, columns are looked at. */
static void mask_is_figure_4(void) {
    static const char *const figure[] = {
        "11000000", /* <SPE> */
        "11000000", /* picture */
        "11100000", /* word 1 */
        "11110000", /* word 2 */
        "11111000", /* word 3 */
        "11000100", /* slot 1: the prefix and itself */
        "11100010", /* slot 2: and word 1 */
        "11110001", /* slot 3: and words 1, 2 */
    };
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++) {
            CU_ASSERT_EQUAL(up_mask_sees(UP_MASK_DOUBLED, 2, 3, i, j), figure[i][j] == '1');
            CU_ASSERT_EQUAL(up_mask_sees(UP_MASK_FULL, 0, 0, i, j), 1);
            CU_ASSERT_EQUAL(up_mask_sees(UP_MASK_CAUSAL, 0, 0, i, j), j <= i);
        }
}

/* Equal scores: the output is the mean of the values that are seen, and lse = log(their number). */
static void attention_averages(void) {
    int32_t sequence[UP_SEQ_FIELDS] = {0, 5, 0, 5, UP_MASK_DOUBLED, 1, 2, 0};
    float q[5] = {0}, k[5] = {1, 2, 3, 4, 5}, v[5] = {1, 2, 4, 8, 16}, out[5], lse[5];
    double scratch[64];
    up_attention_args a = {.sequences = i32(sequence, 1, UP_SEQ_FIELDS),
                           .heads = 1,
                           .prompt_sides = 1,
                           .max_keys = 5,
                           .q = f32(q, 5, 1),
                           .k = f32(k, 5, 1),
                           .v = f32(v, 5, 1),
                           .out = f32(out, 5, 1),
                           .lse = f32(lse, 5, 1),
                           .scratch = over(scratch, UP_U8, 1, sizeof scratch)};
    UP_ASSERT_OK(ref()->ops->attention(ref(), &a));
    /* prefix; words 1, 2; slots 1, 2 */
    const double want[5] = {1, 1.5, 7 / 3.0, 4.5, 19 / 3.0}, seen[5] = {1, 2, 3, 2, 3};
    for (int i = 0; i < 5; i++) {
        CU_ASSERT_EQUAL(out[i], (float)want[i]);
        CU_ASSERT_EQUAL(lse[i], (float)log(seen[i]));
    }
    sequence[UP_SEQ_KIND] = UP_MASK_CAUSAL;
    sequence[UP_SEQ_Q_COUNT] = 2;
    sequence[UP_SEQ_K_COUNT] = 0;
    UP_ASSERT_OK(ref()->ops->attention(ref(), &a)); /* queries without a key, rows without a sequence */
    for (int i = 0; i < 5; i++) CU_ASSERT_EQUAL(out[i], 0);
    CU_ASSERT_EQUAL(lse[0], -INFINITY);
    CU_ASSERT_EQUAL(lse[4], 0);
}

static void linear_by_hand(void) {
    float x[] = {1, 2, 3, -1, 0, 1}, w[] = {1, 0, 2, -1, 1, 0}, b[] = {10, 20}, y[4], dw[6] = {100};
    float dy[] = {1, 2, 3, 4}, dx[6];
    UP_ASSERT_OK(ref()->ops->linear(
        ref(), &(up_linear_args){
                   .x = f32(x, 2, 3), .weight = f32(w, 2, 3), .bias = f32(b, 1, 2), .y = f32(y, 2, 2)}));
    const float want[] = {17, 21, 11, 21}, want_dx[] = {-1, 2, 2, -1, 4, 6},
                want_dw[] = {98, 2, 6, -2, 4, 10};
    UP_ASSERT_OK(ref()->ops->linear_bwd(ref(), &(up_linear_grad){.x = f32(x, 2, 3),
                                                                 .weight = f32(w, 2, 3),
                                                                 .dy = f32(dy, 2, 2),
                                                                 .dx = f32(dx, 2, 3),
                                                                 .dweight = f32(dw, 2, 3)}));
    CU_ASSERT(!memcmp(y, want, sizeof y));
    CU_ASSERT(!memcmp(dx, want_dx, sizeof dx));
    CU_ASSERT(!memcmp(dw, want_dw, sizeof dw));
}

static void gelu_by_hand(void) { /* Phi(1) = 0.8413447460685429 */
    float one = 1, x[] = {-1, 0, 1, 40}, y[4];
    UP_ASSERT_OK(ref()->ops->linear(ref(), &(up_linear_args){.x = f32(x, 4, 1),
                                                             .weight = f32(&one, 1, 1),
                                                             .activation = UP_ACT_GELU,
                                                             .y = f32(y, 4, 1)}));
    const float want[] = {(float)-0.15865525393145707, 0, (float)0.8413447460685429, 40};
    CU_ASSERT(!memcmp(y, want, sizeof y));
}

/* Four equal logits: loss log 4; smoothing moves the target to 0.9 + 0.1 / 4. */
static void xent_by_hand(void) {
    float z[8] = {0}, loss[2], lse[2], correct[2], dz[8], state[2 * UP_XENT_FIELDS];
    int32_t targets[2] = {2, -1};
    up_xent_args a = {.z = f32(z, 2, 4),
                      .begin = 1,
                      .end = 1,
                      .truth = {.index = i32(targets, 2, 1)},
                      .state = f32(state, 2, UP_XENT_FIELDS),
                      .loss = f32(loss, 2, 1),
                      .lse = f32(lse, 2, 1),
                      .correct = f32(correct, 2, 1)};
    UP_ASSERT_OK(ref()->ops->xent(ref(), &a));
    CU_ASSERT_EQUAL(loss[0], (float)log(4));
    CU_ASSERT_EQUAL(loss[1], 0);
    CU_ASSERT_EQUAL(correct[0], 0); /* the first of equals is entry 0 */
    targets[0] = 0;
    UP_ASSERT_OK(ref()->ops->xent(ref(), &a));
    CU_ASSERT_EQUAL(correct[0], 1);
    CU_ASSERT_EQUAL(correct[1], 0);
    UP_ASSERT_OK(
        ref()->ops->xent_bwd(ref(), &(up_xent_grad){.z = f32(z, 2, 4),
                                                    .truth = {.index = i32(targets, 2, 1), .smoothing = 0.5f},
                                                    .state = f32(state, 2, UP_XENT_FIELDS),
                                                    .weight = 8,
                                                    .dz = f32(dz, 2, 4)}));
    const double want[8] = {8 * (0.25 - 0.625), 1, 1, 1};
    for (int i = 0; i < 8; i++) CU_ASSERT(fabs(dz[i] - want[i]) <= 8 * 0x1p-24);
    for (int i = 4; i < 8; i++) CU_ASSERT_EQUAL(dz[i], 0);
    z[3] = -INFINITY; /* an entry that cannot be: no loss where it is not the target */
    UP_ASSERT_OK(ref()->ops->xent(ref(), &a));
    CU_ASSERT_EQUAL(loss[0], (float)log(3));
}

/* Two captions of one picture, and a place that is not filled: of five targets, three count. */
static void xent_groups_by_hand(void) {
    float z[5] = {0, 7, 0, 0, 50}, loss, lse, correct, dz[5], state[UP_XENT_FIELDS];
    int32_t index = 0, group_x = 3, group_y[5] = {3, 3, -1, 4, -1}, columns = 4;
    up_xent_args a = {.z = f32(z, 1, 5),
                      .begin = 1,
                      .end = 1,
                      .truth = {.index = i32(&index, 1, 1),
                                .group_x = i32(&group_x, 1, 1),
                                .group_y = i32(group_y, 5, 1),
                                .columns = i32(&columns, 1, 1)},
                      .state = f32(state, 1, UP_XENT_FIELDS),
                      .loss = f32(&loss, 1, 1),
                      .lse = f32(&lse, 1, 1),
                      .correct = f32(&correct, 1, 1)};
    UP_ASSERT_OK(ref()->ops->xent(ref(), &a));
    CU_ASSERT_DOUBLE_EQUAL(loss, log(3), 1e-7);
    CU_ASSERT_EQUAL(correct, 1);
    CU_ASSERT_EQUAL(state[UP_XENT_COUNT], 3);
    UP_ASSERT_OK(ref()->ops->xent_bwd(
        ref(),
        &(up_xent_grad){.z = a.z, .truth = a.truth, .state = a.state, .weight = 3, .dz = f32(dz, 1, 5)}));
    const double want[5] = {-2, 0, 1, 1, 0};
    for (int i = 0; i < 5; i++) CU_ASSERT_DOUBLE_EQUAL(dz[i], want[i], 1e-6);
}

/* The first step of Adam moves every weight by lr against the sign of its gradient; decay by lr * decay *
 * weight. */
static void adamw_first_step(void) {
    enum { N = UP_SEGMENT_UNIT };
    float weights[N] = {1, 1, 1}, grad[N] = {3, -0.5f, 0}, m[N] = {0}, v[N] = {0};
    float control[UP_STEP_FIELDS] = {[UP_STEP_LR] = 0.5f, [UP_STEP_COUNT] = 1, [UP_STEP_SKIPPED] = 1};
    int32_t segment[UP_SEGMENT_FIELDS] = {[UP_SEGMENT_COUNT] = 1, [UP_SEGMENT_DECAY] = 1};
    up_adamw_args a = {.segments = i32(segment, 1, UP_SEGMENT_FIELDS),
                       .weights = f32(weights, 1, N),
                       .grad = f32(grad, 1, N),
                       .m = f32(m, 1, N),
                       .v = f32(v, 1, N),
                       .control = f32(control, 1, UP_STEP_FIELDS),
                       .beta1 = 0.9,
                       .beta2 = 0.999,
                       .eps = 1e-30,
                       .decay = 0.25};
    UP_ASSERT_OK(ref()->ops->adamw(ref(), &a)); /* skipped: only the gradient is emptied */
    CU_ASSERT(weights[0] == 1 && m[0] == 0 && v[0] == 0);
    CU_ASSERT(grad[0] == 0 && grad[1] == 0);
    control[UP_STEP_SKIPPED] = 0;
    control[UP_STEP_FACTOR] = 0.125f; /* of the gradient alone: the step of Adam does not know its size */
    grad[0] = 3;
    grad[1] = -0.5f;
    UP_ASSERT_OK(ref()->ops->adamw(ref(), &a));
    CU_ASSERT_DOUBLE_EQUAL(weights[0], 1 - 0.125 - 0.5, 1e-6);
    CU_ASSERT_DOUBLE_EQUAL(weights[1], 1 - 0.125 + 0.5, 1e-6);
    CU_ASSERT_EQUAL(weights[2], 1 - 0.125f);
    CU_ASSERT(grad[0] == 0 && grad[1] == 0);
}

/* A scale of 8 that doubles after two good steps, halves after an overflow, and has a floor. */
static void step_by_hand(void) {
    float squares[2] = {36 * 64, 64 * 64}, control[UP_STEP_FIELDS] = {[UP_STEP_SCALE] = 8};
    up_step_args a = {.sqnorms = f32(squares, 1, 2),
                      .control = f32(control, 1, UP_STEP_FIELDS),
                      .max_norm = 5,
                      .good_steps = 2,
                      .min_scale = 4};
    UP_ASSERT_OK(ref()->ops->step(ref(), &a));
    CU_ASSERT_EQUAL(control[UP_STEP_NORM], 10);
    CU_ASSERT_DOUBLE_EQUAL(control[UP_STEP_FACTOR], 0.5 / 8, 1e-7);
    CU_ASSERT(control[UP_STEP_COUNT] == 1 && control[UP_STEP_GOOD] == 1 && control[UP_STEP_SCALE] == 8);
    UP_ASSERT_OK(ref()->ops->step(ref(), &a));
    CU_ASSERT_DOUBLE_EQUAL(control[UP_STEP_FACTOR], 0.5 / 8, 1e-7); /* by the scale that the gradient has */
    CU_ASSERT(control[UP_STEP_COUNT] == 2 && control[UP_STEP_GOOD] == 0 && control[UP_STEP_SCALE] == 16);
    squares[1] = INFINITY;
    for (int i = 0; i < 3; i++) UP_ASSERT_OK(ref()->ops->step(ref(), &a));
    CU_ASSERT(control[UP_STEP_COUNT] == 2 && control[UP_STEP_SKIPPED] == 1 && control[UP_STEP_FACTOR] == 0);
    CU_ASSERT_EQUAL(control[UP_STEP_SCALE], 4);
    squares[1] = 0;
    a.max_norm = 0;
    a.good_steps = 0;
    UP_ASSERT_OK(ref()->ops->step(ref(), &a));
    CU_ASSERT(control[UP_STEP_SKIPPED] == 0 && control[UP_STEP_FACTOR] == 0.25f);
    CU_ASSERT_EQUAL(control[UP_STEP_SCALE], 4);
}

static void sums_are_double(void) {
    enum { N = 4096 };
    static float x[N];
    float y, w[N], out = 0;
    for (int i = 0; i < N; i++) {
        x[i] = i ? 0x1p-12f : 0x1p12f;
        w[i] = 1;
    }
    /* 4096 and 4095 times 2^-12: in f32 every one of them would be lost */
    UP_ASSERT_OK(ref()->ops->linear(
        ref(), &(up_linear_args){.x = f32(x, 1, N), .weight = f32(w, 1, N), .y = f32(&y, 1, 1)}));
    CU_ASSERT_EQUAL(y, (float)(4096 + 4095 * 0x1p-12));
    x[0] = 4096; /* 2^24 + 4095 */
    for (int i = 1; i < N; i++) x[i] = 1;
    UP_ASSERT_OK(ref()->ops->sqnorm(ref(), &(up_sqnorm_args){.x = f32(x, 1, N), .out = f32(&out, 1, 1)}));
    CU_ASSERT_EQUAL(out, (float)(0x1p24 + 4095));
    int32_t ids[N] = {0}, positions[N];
    int64_t scratch[N];
    for (int i = 0; i < N; i++) positions[i] = -1;
    x[0] = 0x1p24f;
    y = 0;
    UP_ASSERT_OK(
        ref()->ops->embed_bwd(ref(), &(up_embed_grad){.ids = i32(ids, N, 1),
                                                      .positions = i32(positions, N, 1),
                                                      .dy = f32(x, N, 1),
                                                      .dtoken = f32(&y, 1, 1),
                                                      .scratch = over(scratch, UP_U8, 1, sizeof scratch)}));
    CU_ASSERT_EQUAL(y, (float)(0x1p24 + 4095));
}

/* A sum that is stored as a half is rounded once: 1 + 2^-11 + 2^-40 lies above the middle of two f16, but in
 * f32 it is the middle, whose even neighbour is 1. */
static void sums_are_rounded_once(void) {
    static const struct {
        up_dtype dtype;
        float middle;
        uint16_t want;
    } rows[] = {{UP_F16, 0x1p-11f, 0x3c01}, {UP_BF16, 0x1p-8f, 0x3f81}};
    for (int i = 0; i < 2; i++) {
        float token = 1, position = rows[i].middle, type = 0x1p-40f;
        int32_t zero = 0;
        uint16_t y;
        up_embed_args a = {.ids = i32(&zero, 1, 1),
                           .positions = i32(&zero, 1, 1),
                           .token = f32(&token, 1, 1),
                           .position = f32(&position, 1, 1),
                           .type = f32(&type, 1, 1),
                           .y = over(&y, rows[i].dtype, 1, 1)};
        UP_ASSERT_OK(ref()->ops->embed(ref(), &a));
        CU_ASSERT_EQUAL(y, rows[i].want);
    }
}

/* ---- halves: all of them, the points between them, and what lies beyond ---- */

static uint16_t cast_one(float x, up_dtype dtype) {
    uint16_t half;
    UP_ASSERT_OK(ref()->ops->cast(ref(), &(up_cast_args){f32(&x, 1, 1), over(&half, dtype, 1, 1)}));
    return half;
}

static float cast_back(uint16_t half, up_dtype dtype) {
    float x;
    UP_ASSERT_OK(ref()->ops->cast(ref(), &(up_cast_args){over(&half, dtype, 1, 1), f32(&x, 1, 1)}));
    return x;
}

static void halves(up_dtype dtype, uint16_t infinity) {
    int wrong = 0;
    for (uint32_t h = 0; h < infinity; h++) {
        float x = cast_back((uint16_t)h, dtype), next = cast_back((uint16_t)(h + 1), dtype);
        wrong += cast_one(x, dtype) != h || cast_one(-x, dtype) != (h | 0x8000);
        wrong += !(x < next) || (h + 1 == infinity) != (isinf(next) != 0);
        if (isinf(next)) continue;
        float middle = (float)(((double)x + next) / 2); /* exact: one bit more than a half has */
        wrong += cast_one(middle, dtype) != (h & 1 ? h + 1 : h);
        wrong += cast_one(nextafterf(middle, INFINITY), dtype) != h + 1;
        wrong += cast_one(nextafterf(middle, 0), dtype) != h;
    }
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_EQUAL(cast_one(INFINITY, dtype), infinity);
    CU_ASSERT_EQUAL(cast_one(3.39e38f, dtype) == infinity, dtype == UP_F16);
    CU_ASSERT_EQUAL(cast_one(__FLT_MAX__, dtype), infinity);
    CU_ASSERT(isnan(cast_back(cast_one(NAN, dtype), dtype)));
}

static void test_cast(void) {
    halves(UP_F16, 0x7c00);
    halves(UP_BF16, 0x7f80);
    CU_ASSERT_EQUAL(cast_one(65519.996f, UP_F16), 0x7bff);
    CU_ASSERT_EQUAL(cast_one(65520.0f, UP_F16), 0x7c00);
    CU_ASSERT_EQUAL(cast_one(1.0f, UP_F16), 0x3c00);
    CU_ASSERT_EQUAL(cast_one(1.0f, UP_BF16), 0x3f80);
    CU_ASSERT(isnan(cast_back(cast_one(-__builtin_nanf("1"), UP_BF16), UP_BF16)));
}

/* ---- memory and the table ---- */

static void memory(void) {
    up_backend *b;
    up_buffer *buffer;
    UP_ASSERT_OK(up_backend_ref(&b));
    UP_ASSERT_OK(b->ops->alloc(b, 0, &buffer));
    b->ops->release(b, buffer);
    b->ops->release(b, NULL);
    UP_ASSERT_OK(b->ops->alloc(b, 4 * 6 * 4, &buffer));
    CU_ASSERT_EQUAL((uintptr_t)buffer->bytes % 64, 0);
    up_view whole = up_view_at(buffer, UP_F32, 0, 4, 6), part = up_view_cols(up_view_rows(whole, 1, 2), 2, 3);
    float in[6] = {1, 2, 3, 4, 5, 6}, out[24];
    UP_ASSERT_OK(b->ops->fill(b, whole, -1));
    UP_ASSERT_OK(b->ops->upload(b, part, in));
    UP_ASSERT_OK(b->ops->copy(b, up_view_rows(whole, 3, 1), up_view_rows(whole, 1, 1)));
    UP_ASSERT_OK(b->ops->download(b, out, whole));
    UP_ASSERT_OK(b->ops->sync(b));
    const float want[24] = {-1, -1, -1, -1, -1, -1, -1, -1, 1, 2, 3, -1,
                            -1, -1, 4,  5,  6,  -1, -1, -1, 1, 2, 3, -1};
    CU_ASSERT(!memcmp(out, want, sizeof want));
    UP_ASSERT_OK(b->ops->fill(b, up_view_at(buffer, UP_I32, 0, 1, 3), -7));
    UP_ASSERT_OK(b->ops->fill(b, up_view_at(buffer, UP_BF16, 6, 1, 1), 1));
    UP_ASSERT_OK(b->ops->fill(b, up_view_at(buffer, UP_F16, 7, 1, 1), 1));
    UP_ASSERT_OK(b->ops->fill(b, up_view_at(buffer, UP_U8, 16, 1, 2), 200));
    static const unsigned char bytes[] = {0xf9, 0xff, 0xff, 0xff, 0x80, 0x3f, 0, 0x3c, 200, 200};
    CU_ASSERT(!memcmp(buffer->bytes + 8, bytes, sizeof bytes));
    b->ops->release(b, buffer);
    CU_ASSERT_EQUAL(b->ops->alloc(b, SIZE_MAX - 5, &buffer), UP_ERR_MEMORY);
    CU_ASSERT_STRING_EQUAL(up_last_error(), "backend ref: out of memory: 18446744073709551610 bytes wanted");
    b->ops->destroy(b);
}

/* What is begun is what the source held then; it is read whenever, and in any order. */
static void fetches(void) {
    float x[6] = {1, 2, 3, 4, 5, 6}, got[4] = {0}, other = 0;
    up_view part = up_view_cols(f32(x, 2, 3), 1, 2);
    up_fetch *first = NULL, *second = NULL;
    UP_ASSERT_OK(ref()->ops->fetch_create(ref(), sizeof got, &first));
    UP_ASSERT_OK(ref()->ops->fetch_create(ref(), sizeof other, &second));
    UP_ASSERT_OK(ref()->ops->fetch_begin(ref(), first, part));
    x[1] = -1;
    UP_ASSERT_OK(ref()->ops->fetch_begin(ref(), second, up_view_cols(up_view_rows(part, 0, 1), 0, 1)));
    UP_ASSERT_OK(ref()->ops->fetch_end(ref(), second, &other));
    UP_ASSERT_OK(ref()->ops->fetch_end(ref(), first, got));
    const float want[4] = {2, 3, 5, 6};
    CU_ASSERT(!memcmp(got, want, sizeof want));
    CU_ASSERT_EQUAL(other, -1);
    CU_ASSERT_EQUAL(ref()->ops->fetch_begin(ref(), second, part), UP_ERR_ARGUMENT);
    CU_ASSERT_STRING_EQUAL(up_last_error(), "backend ref: a fetch of 16 bytes was made for 4");
    ref()->ops->fetch_free(ref(), first);
    ref()->ops->fetch_free(ref(), second);
    ref()->ops->fetch_free(ref(), NULL);
}

/* The table is whole, and a table that is not would be noticed. */
static void table_is_full(void) {
    up_backend_ops ops = *up_ref_ops();
    CU_ASSERT_PTR_NULL(up_table_fault(&ops));
    CU_ASSERT_STRING_EQUAL(ops.name, "ref");
    CU_ASSERT(!ops.static_shapes && !ops.begin && !ops.end && !ops.prepared_size && !ops.prepare);
    ops.version = 1;
    CU_ASSERT_STRING_EQUAL(up_table_fault(&ops), "the version is another one");
    ops = *up_ref_ops();
    ops.size -= (uint32_t)sizeof ops.add_layernorm_bwd;
    CU_ASSERT_STRING_EQUAL(up_table_fault(&ops), "the size is not that of the header's table");
    ops = *up_ref_ops();
    ops.gelu = NULL; /* the last of them */
    CU_ASSERT_STRING_EQUAL(up_table_fault(&ops), "a slot that is not optional is empty");
    ops = *up_ref_ops();
    ops.destroy = NULL; /* the first one */
    CU_ASSERT_STRING_EQUAL(up_table_fault(&ops), "a slot that is not optional is empty");
}

static void refusals_have_reasons(void) {
    const char *why = NULL;
    up_op_dims dims = {.in = 10, .heads = 3};
    static const up_dtype types[] = {UP_F32, UP_F16, UP_BF16};
    for (int i = 0; i < 3; i++)
        for (int op = 0; op < UP_OP_COUNT; op++) {
            up_op_dims fine = {.dtype = types[i], .in = 12, .heads = 3};
            CU_ASSERT_EQUAL(ref()->ops->supports(ref(), (up_op)op, &fine, &why), 1);
        }
    CU_ASSERT_PTR_NULL(why);
    CU_ASSERT_EQUAL(ref()->ops->supports(ref(), UP_OP_ATTENTION, &dims, &why), 0);
    CU_ASSERT_STRING_EQUAL(why, "the width is no multiple of the heads");
    CU_ASSERT_EQUAL(ref()->ops->supports(ref(), UP_OP_COUNT, &dims, &why), 0);
    dims.dtype = UP_I32;
    CU_ASSERT_EQUAL(ref()->ops->supports(ref(), UP_OP_LINEAR, &dims, &why), 0);
    CU_ASSERT_STRING_EQUAL(why, "activations are f32, f16 or bf16");
    CU_ASSERT_EQUAL(ref()->ops->supports(ref(), UP_OP_LINEAR, &dims, NULL), 0);
}

/* ---- random numbers: the published answers, and a cursor that walks through whole blocks ---- */

static void random_words(void) {
    uint32_t w[4];
    static const uint32_t zeros[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    static const uint32_t ones[4] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    up_philox(0, 0, 0, w);
    CU_ASSERT(!memcmp(w, zeros, sizeof w));
    up_philox(UINT64_MAX, UINT64_MAX, UINT64_MAX, w);
    CU_ASSERT(!memcmp(w, ones, sizeof w));
    up_rng rng = up_rng_make(up_test_seed(), 1, 2, 3), fork = rng;
    for (uint64_t i = 0; i < 100; i++) {
        up_philox(rng.key, i / 4, rng.stream, w);
        CU_ASSERT_EQUAL(up_rng_u32(&rng), w[i % 4]);
        if (i == 50) fork = rng; /* in the middle of a block */
    }
    for (uint64_t i = 51; i < 100; i++) {
        up_philox(rng.key, i / 4, rng.stream, w);
        CU_ASSERT_EQUAL(up_rng_u32(&fork), w[i % 4]);
    }
}

const up_test up_tests[] = {
    {"mask", mask_is_figure_4},
    {"random", random_words},
    {"fetches", fetches},
    {"memory", memory},
    {"table", table_is_full},
    {"refusals", refusals_have_reasons},
    {"linear_by_hand", linear_by_hand},
    {"gelu_by_hand", gelu_by_hand},
    {"sums_are_double", sums_are_double},
    {"sums_are_rounded_once", sums_are_rounded_once},
    {"cast", test_cast},
    {"linear", test_linear},
    {"gelu", test_gelu},
    {"embed", test_embed},
    {"patch_embed", test_patch_embed},
    {"layernorm", test_layernorm},
    {"attention_averages", attention_averages},
    {"attention", test_attention},
    {"residual", test_residual},
    {"add_layernorm", test_add_layernorm},
    {"gather", test_gather},
    {"scatter", test_scatter},
    {"l2norm", test_l2norm},
    {"logits", test_logits},
    {"xent_by_hand", xent_by_hand},
    {"xent_groups_by_hand", xent_groups_by_hand},
    {"xent", test_xent},
    {"sqnorm", test_sqnorm},
    {"step_by_hand", step_by_hand},
    {"step", test_step},
    {"adamw_first_step", adamw_first_step},
    {"adamw", test_adamw},
    {NULL, NULL},
};
