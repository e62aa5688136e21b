/* encoder.c - the Transformer encoder f: the layer loop forward and backward. Paper section 3.1 (one
 * modality-agnostic encoder), 4.2 (sizes), 3.3 (prompts); pre-norm layers:
 *     mid = x   + drop g1 Attention(LN1(x))
 *     y   = mid + drop g2 FFN(LN2(mid)),   FFN(v) = W2 GELU(W1 v + b1) + b2
 * LayerScale (g1, g2) and drop path (drop) are absent where the configuration has none. The last layer may be
 * narrow: behind its keys and values it computes the rows that are read out (stage.c). */
#include "ref/model/activations.h"

#include <stdlib.h>

/* Columns or rows of the stacked projection: q, k and v are thirds. */
typedef struct third {
    int64_t first, count;
} third;

static third all_of(const up_encoder *e) {
    return (third){0, 3 * (int64_t)e->model->config.width};
}
static third query_part(const up_encoder *e) {
    return (third){0, e->model->config.width};
}
static third key_value_part(const up_encoder *e) {
    return (third){e->model->config.width, 2 * (int64_t)e->model->config.width};
}

static up_status norm(up_encoder *e, up_view x, int weight, int bias, up_view y, up_view stats) {
    up_backend *b = up_backend_of(e);
    return b->ops->layernorm(b, &(up_layernorm_args){.x = x,
                                                     .weight = up_weight_of(e, weight),
                                                     .bias = up_weight_of(e, bias),
                                                     .eps = UP_LAYERNORM_EPS,
                                                     .y = y,
                                                     .stats = stats});
}

/* Outputs first..first+count-1 of a linear layer. */
static up_status linear(up_encoder *e, up_view x, int weight, int bias, third part, up_view y) {
    up_backend *b = up_backend_of(e);
    return b->ops->linear(
        b,
        &(up_linear_args){.x = x,
                          .weight = up_view_rows(up_weight_of(e, weight), part.first, part.count),
                          .bias = up_view_cols(up_weight_of(e, bias), part.first, part.count),
                          .prepared = up_model_prepared(e->model, weight, part.first, part.count, e->dtype),
                          .y = y,
                          .scratch = e->scratch});
}

static third whole(const up_encoder *e, int weight) {
    return (third){0, e->model->params.list[weight].rows};
}

static up_status linear_gelu(up_encoder *e, up_view x, int weight, int bias, up_view pre, up_view y) {
    up_backend *b = up_backend_of(e);
    third part = whole(e, weight);
    return b->ops->linear(b, &(up_linear_args){.x = x,
                                               .weight = up_weight_of(e, weight),
                                               .bias = up_weight_of(e, bias),
                                               .prepared = up_model_prepared(e->model, weight, part.first,
                                                                             part.count, e->dtype),
                                               .activation = UP_ACT_GELU,
                                               .pre = pre,
                                               .y = y,
                                               .scratch = e->scratch});
}

/* Rows of a narrow layer that are read out. */
static up_status take_read_rows(up_encoder *e, up_view x, up_view y) {
    up_backend *b = up_backend_of(e);
    return b->ops->gather(b, &(up_gather_args){.x = x, .rows = e->in->readout, .y = y});
}

/* Drop-path factors [S, 1] of a branch: 0 attention, 1 FFN. */
static up_view branch_drop(const up_encoder *e, int layer, int branch) {
    if (!e->in->drops) return (up_view){0};
    up_view sequences = e->in->sequence;
    return up_view_rows(e->in->drop, (2 * (int64_t)layer + branch) * e->in->room.sequences, sequences.rows);
}

static up_view owner_of(const up_encoder *e, const up_layer_state *s) {
    if (!e->in->drops) return (up_view){0};
    return s->narrow ? e->in->narrow_owner : e->in->owner;
}

static up_status add_branch(up_encoder *e, int layer, int branch, up_view x, up_view out, int scale,
                            up_view y) {
    up_backend *b = up_backend_of(e);
    return b->ops->residual(b, &(up_residual_args){.x = x,
                                                   .branch = out,
                                                   .scale = up_weight_of(e, scale),
                                                   .drop = branch_drop(e, layer, branch),
                                                   .owner = owner_of(e, &e->layers[layer]),
                                                   .y = y});
}

static up_attention_args attention_args(const up_encoder *e, const up_layer_state *s) {
    const up_config *c = &e->model->config;
    int64_t d = c->width;
    up_attention_args a = {.sequences = s->narrow ? e->in->narrow_sequence : e->in->sequence,
                           .heads = c->heads,
                           .prompts = c->prompts,
                           .prompt_sides = c->prompt_sides,
                           .max_keys = e->in->room.max_keys + c->prompts,
                           .q = s->q,
                           .k = s->k,
                           .v = s->v,
                           .out = s->attended,
                           .lse = s->lse,
                           .scratch = e->scratch};
    if (c->prompts) {
        a.prompt_k = up_view_cols(s->prompt_kv, 0, d);
        a.prompt_v = up_view_cols(s->prompt_kv, d, d);
    }
    return a;
}

static up_status queries_keys_values(up_encoder *e, const up_layer_index *p, const up_layer_state *s) {
    if (!s->narrow) return linear(e, s->normed1, p->qkv_weight, p->qkv_bias, all_of(e), s->qkv);
    UP_TRY(linear(e, s->normed1, p->qkv_weight, p->qkv_bias, key_value_part(e), s->qkv));
    UP_TRY(take_read_rows(e, s->x, s->read_x));
    UP_TRY(take_read_rows(e, s->normed1, s->read_normed1));
    return linear(e, s->read_normed1, p->qkv_weight, p->qkv_bias, query_part(e), s->q);
}

/* Prompts of a layer pass the same norm and projection; they have keys and values alone. */
static up_status prompt_keys_values(up_encoder *e, const up_layer_index *p, const up_layer_state *s) {
    if (p->prompt < 0) return UP_OK;
    UP_TRY(norm(e, up_weight_of(e, p->prompt), p->norm1_weight, p->norm1_bias, s->prompt_normed,
                s->prompt_stats));
    return linear(e, s->prompt_normed, p->qkv_weight, p->qkv_bias, key_value_part(e), s->prompt_kv);
}

static up_status layer_forward(up_encoder *e, int layer) {
    up_backend *b = up_backend_of(e);
    const up_layer_index *p = &e->model->params.layers[layer];
    const up_layer_state *s = &e->layers[layer];
    UP_TRY(norm(e, s->x, p->norm1_weight, p->norm1_bias, s->normed1, s->stats1));
    UP_TRY(queries_keys_values(e, p, s));
    UP_TRY(prompt_keys_values(e, p, s));
    up_attention_args attention = attention_args(e, s);
    if (e->cache) UP_TRY(up_cache_keys(e, layer, &attention));
    UP_TRY(b->ops->attention(b, &attention));
    UP_TRY(linear(e, s->attended, p->out_weight, p->out_bias, whole(e, p->out_weight), s->branch1));
    UP_TRY(add_branch(e, layer, 0, s->narrow ? s->read_x : s->x, s->branch1, p->scale1, s->mid));
    UP_TRY(norm(e, s->mid, p->norm2_weight, p->norm2_bias, s->normed2, s->stats2));
    UP_TRY(linear_gelu(e, s->normed2, p->up_weight, p->up_bias, s->pre, s->hidden));
    UP_TRY(linear(e, s->hidden, p->down_weight, p->down_bias, whole(e, p->down_weight), s->branch2));
    return add_branch(e, layer, 1, s->mid, s->branch2, p->scale2, s->y);
}

up_status up_layers_forward(up_encoder *e) {
    for (int layer = 0; layer < e->model->config.layers; layer++) UP_TRY(layer_forward(e, layer));
    return UP_OK;
}

/* ---- backward: e->grad.stream carries dL/d(residual stream) from the last layer down; its first M rows
 * count ---- */

static up_status linear_bwd(up_encoder *e, up_view x, int weight, int bias, third part, up_view dy,
                            up_view dx) {
    up_backend *b = up_backend_of(e);
    up_view dweight = up_grad_of(e, weight), dbias = up_grad_of(e, bias);
    if (up_view_present(dweight)) dweight = up_view_rows(dweight, part.first, part.count);
    if (up_view_present(dbias)) dbias = up_view_cols(dbias, part.first, part.count);
    return b->ops->linear_bwd(
        b,
        &(up_linear_grad){.x = x,
                          .weight = up_view_rows(up_weight_of(e, weight), part.first, part.count),
                          .prepared = up_model_prepared(e->model, weight, part.first, part.count, e->dtype),
                          .dy = dy,
                          .dx = dx,
                          .dweight = dweight,
                          .dbias = dbias,
                          .scratch = e->scratch});
}

/* Undoes linear_gelu; dy becomes the gradient before the GELU. */
static up_status linear_gelu_bwd(up_encoder *e, up_view x, int weight, int bias, up_view pre, up_view dy,
                                 up_view dx) {
    up_backend *b = up_backend_of(e);
    third part = whole(e, weight);
    return b->ops->linear_bwd(b, &(up_linear_grad){.x = x,
                                                   .weight = up_weight_of(e, weight),
                                                   .prepared = up_model_prepared(e->model, weight, part.first,
                                                                                 part.count, e->dtype),
                                                   .activation = UP_ACT_GELU,
                                                   .pre = pre,
                                                   .dy = dy,
                                                   .dx = dx,
                                                   .dweight = up_grad_of(e, weight),
                                                   .dbias = up_grad_of(e, bias),
                                                   .scratch = e->scratch});
}

/* dx = residual + the gradient through y = LN(x). */
static up_status norm_bwd(up_encoder *e, up_view x, int weight, int bias, up_view stats, up_view dy,
                          up_view residual, up_view dx) {
    up_backend *b = up_backend_of(e);
    return b->ops->layernorm_bwd(b, &(up_layernorm_grad){.x = x,
                                                         .weight = up_weight_of(e, weight),
                                                         .stats = stats,
                                                         .dy = dy,
                                                         .residual = residual,
                                                         .dx = dx,
                                                         .dweight = up_grad_of(e, weight),
                                                         .dbias = up_grad_of(e, bias),
                                                         .scratch = e->scratch});
}

/* Undoes y = x + drop * scale * out for the branch; towards x the gradient is dy itself. */
static up_status branch_bwd(up_encoder *e, int layer, int branch, up_view out, int scale, up_view dy,
                            up_view dout) {
    up_backend *b = up_backend_of(e);
    up_view dscale = up_grad_of(e, scale);
    return b->ops->residual_bwd(b, &(up_residual_grad){.branch = up_view_present(dscale) ? out : (up_view){0},
                                                       .scale = up_weight_of(e, scale),
                                                       .drop = branch_drop(e, layer, branch),
                                                       .owner = owner_of(e, &e->layers[layer]),
                                                       .dy = dy,
                                                       .dbranch = dout,
                                                       .dscale = dscale,
                                                       .scratch = e->scratch});
}

static up_status attention_bwd(up_encoder *e, const up_layer_state *s) {
    up_backend *b = up_backend_of(e);
    up_grad_state *g = &e->grad;
    int64_t d = e->model->config.width;
    up_attention_grad a = {.forward = attention_args(e, s),
                           .dout = up_view_rows(g->attended, 0, s->attended.rows),
                           .dq = s->narrow ? g->q : up_view_cols(g->qkv, 0, d),
                           .dk = s->narrow ? up_view_cols(g->kv, 0, d) : up_view_cols(g->qkv, d, d),
                           .dv = s->narrow ? up_view_cols(g->kv, d, d) : up_view_cols(g->qkv, 2 * d, d),
                           .scratch = e->scratch};
    if (e->model->config.prompts) {
        a.dprompt_k = up_view_cols(g->prompt_kv, 0, d);
        a.dprompt_v = up_view_cols(g->prompt_kv, d, d);
    }
    return b->ops->attention_bwd(b, &a);
}

/* Undoes prompt_keys_values. A parameter's gradient adds up: it is its own residual. */
static up_status prompts_bwd(up_encoder *e, const up_layer_index *p, const up_layer_state *s) {
    if (p->prompt < 0) return UP_OK;
    up_view dprompts = up_grad_of(e, p->prompt);
    UP_TRY(linear_bwd(e, s->prompt_normed, p->qkv_weight, p->qkv_bias, key_value_part(e), e->grad.prompt_kv,
                      e->grad.prompts));
    return norm_bwd(e, up_weight_of(e, p->prompt), p->norm1_weight, p->norm1_bias, s->prompt_stats,
                    e->grad.prompts, dprompts, dprompts);
}

/* Undoes take_read_rows: back to their places among [N, D], zero elsewhere. */
static up_status put_read_rows(up_encoder *e, up_view dy) {
    up_backend *b = up_backend_of(e);
    return b->ops->gather_bwd(b, &(up_gather_grad){.dy = dy, .rows = e->in->readout, .dx = e->grad.spread});
}

/* Undoes queries_keys_values of a narrow layer: dL/d(normed1) in g->branch. */
static up_status narrow_bwd(up_encoder *e, const up_layer_index *p, const up_layer_state *s) {
    up_backend *b = up_backend_of(e);
    up_grad_state *g = &e->grad;
    UP_TRY(linear_bwd(e, s->read_normed1, p->qkv_weight, p->qkv_bias, query_part(e), g->q, g->read_normed1));
    UP_TRY(linear_bwd(e, s->normed1, p->qkv_weight, p->qkv_bias, key_value_part(e), g->kv, g->branch));
    UP_TRY(put_read_rows(e, g->read_normed1));
    return b->ops->residual(b, &(up_residual_args){.x = g->branch, .branch = g->spread, .y = g->branch});
}

/* Undoes queries_keys_values and LN1; `dmid` came past the attention branch [M, D]. Leaves dL/dx in
 * g->stream. */
static up_status input_bwd(up_encoder *e, const up_layer_index *p, const up_layer_state *s, up_view dmid) {
    up_grad_state *g = &e->grad;
    if (!s->narrow) {
        UP_TRY(linear_bwd(e, s->normed1, p->qkv_weight, p->qkv_bias, all_of(e), g->qkv, g->branch));
        return norm_bwd(e, s->x, p->norm1_weight, p->norm1_bias, s->stats1, g->branch, dmid, g->stream);
    }
    UP_TRY(narrow_bwd(e, p, s));
    UP_TRY(put_read_rows(e, dmid));
    return norm_bwd(e, s->x, p->norm1_weight, p->norm1_bias, s->stats1, g->branch, g->spread, g->stream);
}

static up_status layer_backward(up_encoder *e, int layer) {
    const up_layer_index *p = &e->model->params.layers[layer];
    const up_layer_state *s = &e->layers[layer];
    up_grad_state *g = &e->grad;
    int64_t rows = s->y.rows;
    up_view stream = up_view_rows(g->stream, 0, rows), branch = up_view_rows(g->branch, 0, rows);
    up_view wide = up_view_rows(g->wide, 0, rows), attended = up_view_rows(g->attended, 0, rows);
    UP_TRY(branch_bwd(e, layer, 1, s->branch2, p->scale2, stream, branch));
    UP_TRY(linear_bwd(e, s->hidden, p->down_weight, p->down_bias, whole(e, p->down_weight), branch, wide));
    UP_TRY(linear_gelu_bwd(e, s->normed2, p->up_weight, p->up_bias, s->pre, wide, branch));
    UP_TRY(norm_bwd(e, s->mid, p->norm2_weight, p->norm2_bias, s->stats2, branch, stream, stream));

    UP_TRY(branch_bwd(e, layer, 0, s->branch1, p->scale1, stream, branch));
    UP_TRY(linear_bwd(e, s->attended, p->out_weight, p->out_bias, whole(e, p->out_weight), branch, attended));
    UP_TRY(attention_bwd(e, s));
    UP_TRY(prompts_bwd(e, p, s));
    return input_bwd(e, p, s, stream);
}

up_status up_layers_backward(up_encoder *e, up_bucket_done done, void *context) {
    int last = e->model->config.layers - 1;
    for (int layer = last; layer >= e->lowest; layer--) {
        UP_TRY(layer_backward(e, layer));
        if (done) UP_TRY(done(context, 1 + last - layer));
    }
    return UP_OK;
}

/* ---- life and passes ---- */

static up_status want(up_encoder *e, int weight, third part) {
    return up_model_want_prepared(e->model, weight, part.first, part.count, e->dtype, e->gradients != NULL);
}

/* Forms of the weights that the passes above will ask for: queries and keys apart only where a layer can be
 * narrow, keys alone where there are prompts. */
static up_status want_prepared(up_encoder *e) {
    int layers = e->model->config.layers, prompts = e->model->config.prompts;
    for (int layer = 0; layer < layers; layer++) {
        const up_layer_index *p = &e->model->params.layers[layer];
        int narrow = layer == layers - 1 && !e->all_rows;
        UP_TRY(want(e, p->qkv_weight, all_of(e)));
        if (narrow) UP_TRY(want(e, p->qkv_weight, query_part(e)));
        if (narrow || prompts) UP_TRY(want(e, p->qkv_weight, key_value_part(e)));
        UP_TRY(want(e, p->out_weight, whole(e, p->out_weight)));
        UP_TRY(want(e, p->up_weight, whole(e, p->up_weight)));
        UP_TRY(want(e, p->down_weight, whole(e, p->down_weight)));
    }
    return UP_OK;
}

static up_status make_levels(up_encoder *e) {
    up_backend *b = up_backend_of(e);
    float levels[2 * 3 * 256];
    for (int video = 0; video < 2; video++)
        up_pixel_levels(up_config_pixel_norm(&e->model->config, video), levels + video * 3 * 256);
    UP_TRY(b->ops->alloc(b, sizeof levels, &e->levels));
    return b->ops->upload(b, up_view_at(e->levels, UP_F32, 0, 6, 256), levels);
}

up_status up_encoder_create(up_model *model, const up_encoder_options *options, up_encoder **out) {
    static const up_encoder_options defaults = {0};
    const up_encoder_options *o = options ? options : &defaults;
    up_status status = UP_OK;
    *out = NULL;
    if (o->dtype != UP_F32 && o->dtype != UP_BF16 && o->dtype != UP_F16)
        return up_fail(UP_ERR_ARGUMENT, "encoder", "element type %d is none of f32, bf16 and f16", o->dtype);
    if (o->gradients && up_gradients_model(o->gradients) != model)
        return up_fail(UP_ERR_ARGUMENT, "encoder", "the gradients are another model's");
    up_encoder *e = calloc(1, sizeof *e);
    if (!e) return up_fail(UP_ERR_MEMORY, "encoder", "%zu bytes wanted", sizeof *e);
    e->model = model;
    e->gradients = o->gradients;
    e->dtype = o->dtype;
    e->all_rows = o->all_rows;
    e->lowest = o->gradients ? up_gradients_lowest(o->gradients) : model->config.layers;
    if (e->lowest < 0) e->lowest = 0;
    e->layers = calloc((size_t)model->config.layers, sizeof *e->layers);
    if (!e->layers)
        UP_GO(up_fail(UP_ERR_MEMORY, "encoder", "state of %d layers wanted", model->config.layers));
    UP_GO(make_levels(e));
    UP_GO(want_prepared(e));
    *out = e;
    e = NULL;
done:
    up_encoder_free(e);
    return status;
}

void up_encoder_free(up_encoder *e) {
    if (!e) return;
    up_backend *b = up_backend_of(e);
    for (int i = 0; i < 2; i++) {
        b->ops->release(b, e->regions[i].buffer);
        b->ops->release(b, e->regions[i].pixels[0]);
        b->ops->release(b, e->regions[i].pixels[1]);
    }
    b->ops->release(b, e->levels);
    b->ops->release(b, e->arena);
    free(e->layers);
    free(e->host);
    free(e->draws);
    free(e);
}

static up_status begin(up_encoder *e, const char *region) {
    up_backend *b = up_backend_of(e);
    return b->ops->begin ? b->ops->begin(b, region) : UP_OK;
}
/* A region is closed whatever became of what it holds: the next one must not lie inside it. */
static up_status end(up_encoder *e, const char *region, up_status inside) {
    up_backend *b = up_backend_of(e);
    up_status status = b->ops->end ? b->ops->end(b, region) : UP_OK;
    return inside != UP_OK ? inside : status;
}

static up_status check_rows(const up_encoder *e, up_view features) {
    if (features.rows >= e->in->sizes.readouts && features.cols == e->model->config.width) return UP_OK;
    return up_fail(UP_ERR_ARGUMENT, "features", "room for %lld x %lld, the batch has %d x %d",
                   (long long)features.rows, (long long)features.cols, e->in->sizes.readouts,
                   e->model->config.width);
}

static up_status pass_forward(up_encoder *e, up_view features) {
    UP_TRY(up_embed_forward(e));
    UP_TRY(up_layers_forward(e));
    return up_readout_forward(e, up_view_rows(features, 0, e->in->sizes.readouts));
}

/* Passes of all encoders are counted together: a number stands for one pass alone. */
static uint64_t next_pass(void) {
    static _Atomic uint64_t passes;
    return ++passes;
}

up_status up_encoder_forward(up_encoder *e, up_view features) {
    static const char region[] = "encoder forward";
    if (!e->staged) return up_fail(UP_ERR_ARGUMENT, "encoder", "no batch was staged");
    e->in = &e->regions[e->next];
    e->next = 1 - e->next;
    e->staged = e->forwarded = 0;
    UP_TRY(check_rows(e, features));
    UP_TRY(up_plan_activations(e));
    UP_TRY(up_model_prepare(e->model));
    UP_TRY(begin(e, region));
    UP_TRY(end(e, region, pass_forward(e, features)));
    e->forwarded = 1;
    e->pass = next_pass();
    e->encoded += e->in->sizes.tokens;
    return UP_OK;
}

static up_status pass_backward(up_encoder *e, up_view dfeatures, up_bucket_done done, void *context) {
    int embeddings = e->model->config.layers + 1;
    UP_TRY(up_readout_backward(e, up_view_rows(dfeatures, 0, e->in->sizes.readouts)));
    if (done) UP_TRY(done(context, 0));
    UP_TRY(up_layers_backward(e, done, context));
    if (up_gradients_lowest(e->gradients) < 0) UP_TRY(up_embed_backward(e));
    for (int bucket = e->model->config.layers - e->lowest + 1; done && bucket <= embeddings; bucket++)
        UP_TRY(done(context, bucket));
    return UP_OK;
}

up_status up_encoder_backward(up_encoder *e, up_view dfeatures, up_bucket_done done, void *context) {
    static const char region[] = "encoder backward";
    if (!e->gradients) return up_fail(UP_ERR_ARGUMENT, "encoder", "it was made for inference");
    if (!e->forwarded) return up_fail(UP_ERR_ARGUMENT, "encoder", "no forward pass to go back through");
    UP_TRY(check_rows(e, dfeatures));
    e->forwarded = 0; /* gradients of activations take their place: once for each forward pass */
    UP_TRY(begin(e, region));
    return end(e, region, pass_backward(e, dfeatures, done, context));
}

int up_encoder_readouts(const up_encoder *e) {
    return e->regions[e->staged ? e->next : 1 - e->next].sizes.readouts;
}
int64_t up_encoder_tokens(const up_encoder *e) {
    return e->encoded;
}
uint64_t up_encoder_pass(const up_encoder *e) {
    return e->forwarded ? e->pass : 0;
}
up_model *up_encoder_model(const up_encoder *e) {
    return e->model;
}

size_t up_encoder_bytes(const up_encoder *e) {
    size_t bytes = e->arena_bytes;
    for (int i = 0; i < 2; i++)
        bytes += e->regions[i].bytes + e->regions[i].pixel_bytes[0] + e->regions[i].pixel_bytes[1];
    return bytes;
}

size_t up_encoder_token_bytes(const up_encoder *e) {
    const up_config *c = &e->model->config;
    size_t width = (size_t)c->width, ffn = (size_t)c->ffn, layers = (size_t)(c->layers - e->lowest);
    size_t kept = layers * (8 * width + 2 * ffn), passing = 14 * width + 2 * ffn; /* plan.c */
    return (kept + passing) * up_dtype_size(e->dtype);
}

up_view up_encoder_view(const up_encoder *e, up_encoder_tensor tensor, int index) {
    return tensor == UP_ENCODER_EMBEDDING ? e->layers[0].x : e->layers[index].y;
}
