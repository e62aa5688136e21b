/* operations.c - the table of measured operations. What each computes stands in uniperceiver/backend.h. */
#include "bench/operations.h"
#include "bench/common.h"
#include "uniperceiver/random.h"

#include <stdlib.h>

static up_view tensor(up_operation_state *s, up_dtype dtype, int64_t rows, int64_t cols, const void *data) {
    up_buffer **buffer = &s->buffer[s->used];
    UP_BENCH_OK(s->b->ops->alloc(s->b, (size_t)(rows * cols) * up_dtype_size(dtype), buffer));
    up_view v = up_view_at(*buffer, dtype, 0, rows, cols);
    UP_BENCH_OK(s->b->ops->upload(s->b, v, data));
    return s->t[s->used++] = v;
}

/* Normal numbers of size `scale`, or zeros. */
static up_view random_tensor(up_operation_state *s, int64_t rows, int64_t cols, double scale) {
    up_rng rng = up_rng_make(7, (uint64_t)s->used, 0, 0);
    float *x = up_bench_room((size_t)(rows * cols), sizeof *x);
    for (int64_t k = 0; k < rows * cols; k++)
        x[k] = scale == 0 ? 0 : (float)(scale * (2 * up_rng_uniform(&rng) - 1));
    up_view v = tensor(s, UP_F32, rows, cols, x);
    free(x);
    return v;
}

/* The same as activations: in the type that is measured. */
static up_view activation(up_operation_state *s, int64_t rows, int64_t cols, double scale) {
    up_view x = random_tensor(s, rows, cols, scale);
    if (s->dtype == UP_F32) return x;
    up_buffer *half;
    UP_BENCH_OK(s->b->ops->alloc(s->b, (size_t)(rows * cols) * up_dtype_size(s->dtype), &half));
    up_view y = up_view_at(half, s->dtype, 0, rows, cols);
    UP_BENCH_OK(s->b->ops->cast(s->b, &(up_cast_args){x, y}));
    UP_BENCH_OK(s->b->ops->sync(s->b));
    s->b->ops->release(s->b, x.buffer);
    s->buffer[s->used - 1] = half;
    return s->t[s->used - 1] = y;
}

static up_view random_index(up_operation_state *s, int64_t rows, int64_t below) {
    up_rng rng = up_rng_make(8, (uint64_t)s->used, 0, 0);
    int32_t *x = up_bench_room((size_t)rows, sizeof *x);
    for (int64_t k = 0; k < rows; k++) x[k] = (int32_t)up_rng_below(&rng, (uint32_t)below);
    up_view v = tensor(s, UP_I32, rows, 1, x);
    free(x);
    return v;
}

/* ---- linear: x w bias pre y dy dx dw db ---- */
static void linear_tensors(up_operation_state *s, int64_t n, int64_t i, int64_t o) {
    activation(s, n, i, 1);
    random_tensor(s, o, i, 0.1);
    random_tensor(s, 1, o, 0.1);
    activation(s, n, o, 1);
    activation(s, n, o, 1);
    activation(s, n, o, 1);
    activation(s, n, i, 1);
    random_tensor(s, o, i, 0);
    random_tensor(s, 1, o, 0);
    double size = (double)up_dtype_size(s->dtype);
    s->flop = 2.0 * (double)(n * i * o);
    s->bytes = size * (double)(n * i + n * o) + 4.0 * (double)(i * o);
}
static void linear_bwd_tensors(up_operation_state *s, int64_t n, int64_t i, int64_t o) {
    linear_tensors(s, n, i, o);
    s->flop *= 2;
    s->bytes *= 2;
}

/* The weight in the form that the backend likes, where it has one: made once, as before a step. */
static up_view prepared(up_operation_state *s, int backward) {
    up_op_dims dims = {.dtype = s->dtype, .rows = s->row->n, .in = s->row->i, .out = s->row->o};
    if (s->prepared || !s->b->ops->prepare) return s->prepared_view;
    size_t size = s->b->ops->prepared_size(s->b, &dims, backward);
    if (size == 0) return s->prepared_view;
    UP_BENCH_OK(s->b->ops->alloc(s->b, size, &s->prepared));
    s->prepared_view = up_view_at(s->prepared, UP_U8, 0, 1, (int64_t)size);
    UP_BENCH_OK(s->b->ops->prepare(s->b, &(up_prepare_args){s->t[1], s->dtype, backward, s->prepared_view}));
    return s->prepared_view;
}
static up_status linear(up_operation_state *s, up_activation activation) {
    up_linear_args a = {.x = s->t[0],
                        .weight = s->t[1],
                        .bias = s->t[2],
                        .prepared = prepared(s, 0),
                        .activation = activation,
                        .pre = activation == UP_ACT_GELU ? s->t[3] : (up_view){0},
                        .y = s->t[4],
                        .scratch = s->scratch};
    return s->b->ops->linear(s->b, &a);
}
static up_status linear_bwd(up_operation_state *s, up_activation activation) {
    up_linear_grad g = {.x = s->t[0],
                        .weight = s->t[1],
                        .prepared = prepared(s, 1),
                        .activation = activation,
                        .pre = activation == UP_ACT_GELU ? s->t[3] : (up_view){0},
                        .dy = s->t[5],
                        .dx = s->t[6],
                        .dweight = s->t[7],
                        .dbias = s->t[8],
                        .scratch = s->scratch};
    return s->b->ops->linear_bwd(s->b, &g);
}
static up_status run_linear(up_operation_state *s) {
    return linear(s, UP_ACT_NONE);
}
static up_status run_linear_gelu(up_operation_state *s) {
    return linear(s, UP_ACT_GELU);
}
static up_status run_linear_bwd(up_operation_state *s) {
    return linear_bwd(s, UP_ACT_NONE);
}
static up_status run_linear_gelu_bwd(up_operation_state *s) {
    return linear_bwd(s, UP_ACT_GELU);
}

/* ---- attention: sequences of i tokens, 32 or 64 columns a head; qkv out lse dout dqkv ---- */
static void attention_tensors(up_operation_state *s, int64_t n, int64_t i, int64_t o) {
    int64_t count = n / i;
    int32_t *f = up_bench_room((size_t)(count * UP_SEQ_FIELDS), sizeof *f);
    for (int64_t k = 0; k < count; k++) {
        int32_t *q = f + k * UP_SEQ_FIELDS;
        q[UP_SEQ_Q_START] = q[UP_SEQ_K_START] = (int32_t)(k * i);
        q[UP_SEQ_Q_COUNT] = q[UP_SEQ_K_COUNT] = (int32_t)i;
    }
    tensor(s, UP_I32, count, UP_SEQ_FIELDS, f);
    free(f);
    activation(s, count * i, 3 * o, 1);
    activation(s, count * i, o, 1);
    random_tensor(s, count * i, o / (o >= 768 ? 64 : 32), 1);
    activation(s, count * i, o, 1);
    activation(s, count * i, 3 * o, 1);
    s->max_keys = (int)i;
    s->flop = 4.0 * (double)(count * i * i * o);
    s->bytes = (double)up_dtype_size(s->dtype) * (double)(count * i * 4 * o);
}
static void attention_bwd_tensors(up_operation_state *s, int64_t n, int64_t i, int64_t o) {
    attention_tensors(s, n, i, o);
    s->flop *= 2.5;
    s->bytes *= 2.25;
}
static up_attention_args attention_args(up_operation_state *s) {
    int64_t d = s->row->o;
    return (up_attention_args){.sequences = s->t[0],
                               .heads = (int)s->t[3].cols,
                               .prompt_sides = 1,
                               .max_keys = s->max_keys,
                               .q = up_view_cols(s->t[1], 0, d),
                               .k = up_view_cols(s->t[1], d, d),
                               .v = up_view_cols(s->t[1], 2 * d, d),
                               .out = s->t[2],
                               .lse = s->t[3],
                               .scratch = s->scratch};
}
static up_status run_attention(up_operation_state *s) {
    up_attention_args a = attention_args(s);
    return s->b->ops->attention(s->b, &a);
}
static up_status run_attention_bwd(up_operation_state *s) {
    int64_t d = s->row->o;
    return s->b->ops->attention_bwd(s->b, &(up_attention_grad){.forward = attention_args(s),
                                                               .dout = s->t[4],
                                                               .dq = up_view_cols(s->t[5], 0, d),
                                                               .dk = up_view_cols(s->t[5], d, d),
                                                               .dv = up_view_cols(s->t[5], 2 * d, d),
                                                               .scratch = s->scratch});
}

/* ---- rows: x w b y stats dy residual dx dw db ---- */
static void rows_tensors(up_operation_state *s, int64_t n, int64_t i, int64_t o) {
    (void)o;
    activation(s, n, i, 1);
    random_tensor(s, 1, i, 1);
    random_tensor(s, 1, i, 1);
    activation(s, n, i, 1);
    random_tensor(s, n, 2, 1);
    activation(s, n, i, 1);
    activation(s, n, i, 1);
    activation(s, n, i, 1);
    random_tensor(s, 1, i, 0);
    random_tensor(s, 1, i, 0);
    s->flop = 8.0 * (double)(n * i);
    s->bytes = 2.0 * (double)up_dtype_size(s->dtype) * (double)(n * i);
}
static void rows_bwd_tensors(up_operation_state *s, int64_t n, int64_t i, int64_t o) {
    rows_tensors(s, n, i, o);
    s->flop *= 2;
    s->bytes *= 2;
}
static up_status run_layernorm(up_operation_state *s) {
    return s->b->ops->layernorm(s->b,
                                &(up_layernorm_args){s->t[0], s->t[1], s->t[2], 1e-5f, s->t[3], s->t[4]});
}
static up_status run_layernorm_bwd(up_operation_state *s) {
    return s->b->ops->layernorm_bwd(s->b, &(up_layernorm_grad){s->t[0], s->t[1], s->t[4], s->t[5], s->t[6],
                                                               s->t[7], s->t[8], s->t[9], s->scratch});
}
static up_status run_residual(up_operation_state *s) {
    return s->b->ops->residual(s->b, &(up_residual_args){.x = s->t[0], .branch = s->t[3], .y = s->t[0]});
}

/* A residual connection and the norm of its y, and both undone: in one pass where the backend has it. */
static void pair_tensors(up_operation_state *s, int64_t n, int64_t i, int64_t o) {
    rows_tensors(s, n, i, o);
    activation(s, n, i, 1);
    s->bytes *= 2; /* x and branch, y and normed; past, dnormed and y, dx */
}
static up_status run_pair(up_operation_state *s) {
    up_add_layernorm_args a = {{.x = s->t[0], .branch = s->t[3], .y = s->t[0]},
                               {s->t[0], s->t[1], s->t[2], 1e-5f, s->t[5], s->t[4]}};
    if (s->b->ops->add_layernorm) return s->b->ops->add_layernorm(s->b, &a);
    UP_BENCH_OK(s->b->ops->residual(s->b, &a.add));
    return s->b->ops->layernorm(s->b, &a.norm);
}
static up_status run_pair_bwd(up_operation_state *s) {
    up_add_layernorm_grad a = {
        {s->t[0], s->t[1], s->t[4], s->t[5], s->t[6], s->t[6], s->t[8], s->t[9], s->scratch},
        {.scale = s->t[1], .dy = s->t[6], .dbranch = s->t[7], .scratch = s->scratch}};
    if (s->b->ops->add_layernorm_bwd) return s->b->ops->add_layernorm_bwd(s->b, &a);
    UP_BENCH_OK(s->b->ops->layernorm_bwd(s->b, &a.norm));
    return s->b->ops->residual_bwd(s->b, &a.add);
}
static up_status run_gelu(up_operation_state *s) {
    return s->b->ops->gelu(s->b, &(up_gelu_args){s->t[0], s->t[3]});
}

/* ---- tables of o rows: table y ids dtable ---- */
static void table_tensors(up_operation_state *s, int64_t n, int64_t i, int64_t o) {
    random_tensor(s, o, i, 1);
    activation(s, n, i, 1);
    random_index(s, n, o);
    random_tensor(s, o, i, 0);
    random_index(s, n, 80);
    s->flop = (double)(n * i);
    s->bytes = (4.0 + (double)up_dtype_size(s->dtype)) * (double)(n * i);
}
static up_status run_embed(up_operation_state *s) {
    up_embed_args a = {.ids = s->t[2],
                       .positions = s->t[4],
                       .token = s->t[0],
                       .spe = s->t[0],
                       .position = s->t[0],
                       .y = s->t[1]};
    return s->b->ops->embed(s->b, &a);
}
static up_status run_embed_bwd(up_operation_state *s) {
    up_embed_grad g = {.ids = s->t[2],
                       .positions = s->t[4],
                       .dy = s->t[1],
                       .dtoken = s->t[3],
                       .dposition = s->t[3],
                       .scratch = s->scratch};
    return s->b->ops->embed_bwd(s->b, &g);
}

/* ---- losses: a b scale z index loss lse correct da db dscale state; n rows, o targets ---- */
static void loss_tensors(up_operation_state *s, int64_t n, int64_t i, int64_t o) {
    random_tensor(s, n, i, 0.1);
    random_tensor(s, o, i, 0.1);
    random_tensor(s, 1, 1, 1);
    random_tensor(s, n, o, 1);
    random_index(s, n, o);
    random_tensor(s, n, 1, 1);
    random_tensor(s, n, 1, 1);
    random_tensor(s, n, 1, 1);
    random_tensor(s, n, i, 1);
    random_tensor(s, o, i, 1);
    random_tensor(s, 1, 1, 0);
    random_tensor(s, n, UP_XENT_FIELDS, 0);
    s->flop = 2.0 * (double)(n * i * o);
    s->bytes = 4.0 * (double)(n * o);
}
static void loss_bwd_tensors(up_operation_state *s, int64_t n, int64_t i, int64_t o) {
    loss_tensors(s, n, i, o);
    s->flop *= 2;
    s->bytes *= 2;
}
static up_status run_logits(up_operation_state *s) {
    return s->b->ops->logits(
        s->b, &(up_logits_args){.a = s->t[0], .b = s->t[1], .log_scale = s->t[2], .z = s->t[3]});
}
static up_status run_logits_bwd(up_operation_state *s) {
    up_logits_grad g = {.a = s->t[0],
                        .b = s->t[1],
                        .log_scale = s->t[2],
                        .dz = s->t[3],
                        .da = s->t[8],
                        .db = s->t[9],
                        .scratch = s->scratch};
    return s->b->ops->logits_bwd(s->b, &g);
}
static up_status run_xent(up_operation_state *s) {
    up_xent_args a = {.z = s->t[3],
                      .begin = 1,
                      .end = 1,
                      .truth = {.index = s->t[4], .smoothing = 0.1f},
                      .state = s->t[11],
                      .loss = s->t[5],
                      .lse = s->t[6],
                      .correct = s->t[7]};
    return s->b->ops->xent(s->b, &a);
}
static up_status run_xent_bwd(up_operation_state *s) { /* in place: what z becomes does not change the time */
    up_xent_grad g = {.z = s->t[3],
                      .truth = {.index = s->t[4], .smoothing = 0.1f},
                      .state = s->t[11],
                      .weight = 1,
                      .dz = s->t[3]};
    return s->b->ops->xent_bwd(s->b, &g);
}

/* ---- updates of n parameters, with a gradient of 0 as every call leaves it: w g m v norm control
 * segments ---- */
static void update_tensors(up_operation_state *s, int64_t n, int64_t i, int64_t o) {
    (void)i;
    (void)o;
    const float control[UP_STEP_FIELDS] = {
        [UP_STEP_LR] = 1e-4f, [UP_STEP_SCALE] = 1, [UP_STEP_COUNT] = 3, [UP_STEP_FACTOR] = 1};
    const int32_t segment[UP_SEGMENT_FIELDS] = {
        [UP_SEGMENT_COUNT] = (int32_t)(n / UP_SEGMENT_UNIT), [UP_SEGMENT_DECAY] = 1};
    random_tensor(s, 1, n, 1);
    for (int k = 0; k < 3; k++) random_tensor(s, 1, n, 0);
    random_tensor(s, 1, 1, 1);
    tensor(s, UP_F32, 1, UP_STEP_FIELDS, control);
    tensor(s, UP_I32, 1, UP_SEGMENT_FIELDS, segment);
    UP_BENCH_OK(s->b->ops->fill(s->b, s->t[2], 1e-3)); /* moments of use, no denormals */
    UP_BENCH_OK(s->b->ops->fill(s->b, s->t[3], 1e-3));
    s->flop = 12.0 * (double)n;
    s->bytes = 4.0 * 8 * (double)n; /* w, g, m and v, read and written */
}
static void read_tensors(up_operation_state *s, int64_t n, int64_t i, int64_t o) {
    update_tensors(s, n, i, o);
    s->flop = 2.0 * (double)n;
    s->bytes = 4.0 * (double)n;
}
static up_status run_adamw(up_operation_state *s) {
    up_adamw_args a = {.segments = s->t[6],
                       .weights = s->t[0],
                       .grad = s->t[1],
                       .m = s->t[2],
                       .v = s->t[3],
                       .control = s->t[5],
                       .beta1 = 0.9,
                       .beta2 = 0.95,
                       .eps = 1e-6,
                       .decay = 0.05};
    return s->b->ops->adamw(s->b, &a);
}
static up_status run_sqnorm(up_operation_state *s) {
    return s->b->ops->sqnorm(s->b, &(up_sqnorm_args){s->t[0], s->t[4], s->scratch});
}
static up_status run_zero(up_operation_state *s) {
    return s->b->ops->fill(s->b, s->t[1], 0);
}

const up_operation up_operations[] = {
    {"demo qkv", UP_OP_LINEAR, linear_tensors, run_linear, 4000, 128, 384},
    {"demo qkv bwd", UP_OP_LINEAR, linear_bwd_tensors, run_linear_bwd, 4000, 128, 384},
    {"demo projection", UP_OP_LINEAR, linear_tensors, run_linear, 4000, 128, 128},
    {"demo projection bwd", UP_OP_LINEAR, linear_bwd_tensors, run_linear_bwd, 4000, 128, 128},
    {"demo ffn1 gelu", UP_OP_LINEAR, linear_tensors, run_linear_gelu, 4000, 128, 512},
    {"demo ffn1 gelu bwd", UP_OP_LINEAR, linear_bwd_tensors, run_linear_gelu_bwd, 4000, 128, 512},
    {"demo ffn2", UP_OP_LINEAR, linear_tensors, run_linear, 4000, 512, 128},
    {"demo ffn2 bwd", UP_OP_LINEAR, linear_bwd_tensors, run_linear_bwd, 4000, 512, 128},
    {"demo attention 3", UP_OP_ATTENTION, attention_tensors, run_attention, 4000, 3, 128},
    {"demo attention 3 bwd", UP_OP_ATTENTION, attention_bwd_tensors, run_attention_bwd, 4000, 3, 128},
    {"demo attention 17", UP_OP_ATTENTION, attention_tensors, run_attention, 4000, 17, 128},
    {"demo attention 17 bwd", UP_OP_ATTENTION, attention_bwd_tensors, run_attention_bwd, 4000, 17, 128},
    {"demo attention 50", UP_OP_ATTENTION, attention_tensors, run_attention, 4000, 50, 128},
    {"demo attention 50 bwd", UP_OP_ATTENTION, attention_bwd_tensors, run_attention_bwd, 4000, 50, 128},
    {"demo layernorm", UP_OP_LAYERNORM, rows_tensors, run_layernorm, 4000, 128, 0},
    {"demo layernorm bwd", UP_OP_LAYERNORM, rows_bwd_tensors, run_layernorm_bwd, 4000, 128, 0},
    {"demo residual", UP_OP_RESIDUAL, rows_tensors, run_residual, 4000, 128, 0},
    {"demo residual + layernorm", UP_OP_LAYERNORM, pair_tensors, run_pair, 4000, 128, 0},
    {"demo both bwd", UP_OP_LAYERNORM, pair_tensors, run_pair_bwd, 4000, 128, 0},
    {"demo gelu", UP_OP_GELU, rows_tensors, run_gelu, 4000, 512, 0},
    {"demo embed", UP_OP_EMBED, table_tensors, run_embed, 4000, 128, 49411},
    {"demo embed bwd", UP_OP_EMBED, table_tensors, run_embed_bwd, 4000, 128, 49411},
    {"demo logits", UP_OP_LOGITS, loss_tensors, run_logits, 256, 128, 4000},
    {"demo logits bwd", UP_OP_LOGITS, loss_bwd_tensors, run_logits_bwd, 256, 128, 4000},
    {"demo xent", UP_OP_XENT, loss_tensors, run_xent, 256, 128, 4000},
    {"demo xent bwd", UP_OP_XENT, loss_tensors, run_xent_bwd, 256, 128, 4000},
    {"demo adamw 7M", UP_OP_ADAMW, update_tensors, run_adamw, 7000000, 0, 0},
    {"demo sqnorm 7M", UP_OP_SQNORM, read_tensors, run_sqnorm, 7000000, 0, 0},
    {"demo zero 7M", UP_OP_SQNORM, read_tensors, run_zero, 7000000, 0, 0},
    {"base qkv", UP_OP_LINEAR, linear_tensors, run_linear, 1576, 768, 2304},
    {"base qkv bwd", UP_OP_LINEAR, linear_bwd_tensors, run_linear_bwd, 1576, 768, 2304},
    {"base projection", UP_OP_LINEAR, linear_tensors, run_linear, 1576, 768, 768},
    {"base projection bwd", UP_OP_LINEAR, linear_bwd_tensors, run_linear_bwd, 1576, 768, 768},
    {"base ffn1 gelu", UP_OP_LINEAR, linear_tensors, run_linear_gelu, 1576, 768, 3072},
    {"base ffn1 gelu bwd", UP_OP_LINEAR, linear_bwd_tensors, run_linear_gelu_bwd, 1576, 768, 3072},
    {"base ffn2", UP_OP_LINEAR, linear_tensors, run_linear, 1576, 3072, 768},
    {"base ffn2 bwd", UP_OP_LINEAR, linear_bwd_tensors, run_linear_bwd, 1576, 3072, 768},
    {"base attention 3", UP_OP_ATTENTION, attention_tensors, run_attention, 3000, 3, 768},
    {"base attention 3 bwd", UP_OP_ATTENTION, attention_bwd_tensors, run_attention_bwd, 3000, 3, 768},
    {"base attention 197", UP_OP_ATTENTION, attention_tensors, run_attention, 1576, 197, 768},
    {"base attention 197 bwd", UP_OP_ATTENTION, attention_bwd_tensors, run_attention_bwd, 1576, 197, 768},
    {"base attention 1568", UP_OP_ATTENTION, attention_tensors, run_attention, 1568, 1568, 768},
    {"base attention 1568 bwd", UP_OP_ATTENTION, attention_bwd_tensors, run_attention_bwd, 1568, 1568, 768},
    {"base layernorm", UP_OP_LAYERNORM, rows_tensors, run_layernorm, 1576, 768, 0},
    {"base layernorm bwd", UP_OP_LAYERNORM, rows_bwd_tensors, run_layernorm_bwd, 1576, 768, 0},
    {"base residual", UP_OP_RESIDUAL, rows_tensors, run_residual, 1576, 768, 0},
    {"base residual + layernorm", UP_OP_LAYERNORM, pair_tensors, run_pair, 1576, 768, 0},
    {"base both bwd", UP_OP_LAYERNORM, pair_tensors, run_pair_bwd, 1576, 768, 0},
    {"base gelu", UP_OP_GELU, rows_tensors, run_gelu, 1576, 3072, 0},
    {"base adamw 20M", UP_OP_ADAMW, update_tensors, run_adamw, 20000000, 0, 0},
    {0}};

int up_operation_computes(const up_operation *row) {
    return row->op == UP_OP_LINEAR || row->op == UP_OP_ATTENTION || row->op == UP_OP_LOGITS;
}

void up_operation_open(const up_operation *row, up_backend *b, up_dtype dtype, up_operation_state *s) {
    *s = (up_operation_state){.b = b, .row = row, .dtype = dtype};
    row->prepare(s, row->n, row->i, row->o);
    up_op_dims dims = {.dtype = dtype,
                       .rows = row->n,
                       .in = row->op == UP_OP_ATTENTION ? row->o : row->i,
                       .out = row->o ? row->o : row->i,
                       .keys = s->max_keys,
                       .heads = row->op == UP_OP_ATTENTION ? s->t[3].cols : 0};
    size_t scratch = b->ops->scratch(b, row->op, &dims);
    UP_BENCH_OK(b->ops->alloc(b, scratch, &s->buffer[s->used]));
    s->scratch = up_view_at(s->buffer[s->used], UP_U8, 0, 1, (int64_t)scratch);
}

void up_operation_close(up_operation_state *s) {
    for (int k = 0; k <= s->used; k++) s->b->ops->release(s->b, s->buffer[k]);
    s->b->ops->release(s->b, s->prepared);
}
