/* layers.c - the layers of the Transformer encoder f, forward and backward. Paper section 3.1 (one
 * modality-agnostic encoder), 4.2 (sizes), 3.3 (prompts); pre-norm layers:
 *     mid = x   + drop g1 Attention(LN1(x))
 *     y   = mid + drop g2 FFN(LN2(mid)),   FFN(v) = W2 GELU(W1 v + b1) + b2
 * LayerScale (g1, g2) and drop path (drop) are absent where the configuration has none. The last layer may be
 * narrow: behind its keys and values it computes the rows that are read out (stage.c). */
#include "ref/model/activations.h"

/* The maps of a layer. Queries, keys and values are thirds of one stacked map. */
static up_linear_use stacked(const up_encoder *e, const up_layer_index *p) {
    return up_whole_linear(e, p->qkv_weight, p->qkv_bias);
}
static up_linear_use to_queries(const up_encoder *e, const up_layer_index *p) {
    return (up_linear_use){p->qkv_weight, p->qkv_bias, 0, e->model->config.width, UP_ACT_NONE};
}
static up_linear_use to_keys_values(const up_encoder *e, const up_layer_index *p) {
    int64_t d = e->model->config.width;
    return (up_linear_use){p->qkv_weight, p->qkv_bias, d, 2 * d, UP_ACT_NONE};
}
static up_linear_use outwards(const up_encoder *e, const up_layer_index *p) {
    return up_whole_linear(e, p->out_weight, p->out_bias);
}
static up_linear_use upwards(const up_encoder *e, const up_layer_index *p) {
    up_linear_use use = up_whole_linear(e, p->up_weight, p->up_bias);
    use.activation = UP_ACT_GELU;
    return use;
}
static up_linear_use downwards(const up_encoder *e, const up_layer_index *p) {
    return up_whole_linear(e, p->down_weight, p->down_bias);
}

static const up_view absent = {0};

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

/* y = x + drop * scale * out */
static up_residual_args branch_args(const up_encoder *e, int layer, int branch, up_view x, up_view out,
                                    int scale, up_view y) {
    return (up_residual_args){.x = x,
                              .branch = out,
                              .scale = up_weight_of(e, scale),
                              .drop = branch_drop(e, layer, branch),
                              .owner = owner_of(e, &e->layers[layer]),
                              .y = y};
}

static up_attention_args attention_args(const up_encoder *e, const up_layer_state *s, up_view out) {
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
                           .out = out,
                           .lse = s->lse,
                           .scratch = e->scratch};
    if (c->prompts) {
        a.prompt_k = up_view_cols(s->prompt_kv, 0, d);
        a.prompt_v = up_view_cols(s->prompt_kv, d, d);
    }
    return a;
}

static up_status queries_keys_values(up_encoder *e, const up_layer_index *p, const up_layer_state *s) {
    if (!s->narrow) return up_block_linear(e, stacked(e, p), s->normed1, absent, s->qkv);
    UP_TRY(up_block_linear(e, to_keys_values(e, p), s->normed1, absent, s->qkv));
    UP_TRY(take_read_rows(e, s->x, s->read_x));
    UP_TRY(take_read_rows(e, s->normed1, s->read_normed1));
    return up_block_linear(e, to_queries(e, p), s->read_normed1, absent, s->q);
}

/* Prompts of a layer pass the same norm and projection; they have keys and values alone. */
static up_status prompt_keys_values(up_encoder *e, const up_layer_index *p, const up_layer_state *s) {
    up_view prompts = up_weight_of(e, p->prompt);
    if (p->prompt < 0) return UP_OK;
    UP_TRY(up_block_norm(e, prompts, p->norm1_weight, p->norm1_bias, s->prompt_normed, s->prompt_stats));
    return up_block_linear(e, to_keys_values(e, p), s->prompt_normed, absent, s->prompt_kv);
}

static up_norm_use norm1(const up_layer_index *p, const up_layer_state *s) {
    return (up_norm_use){p->norm1_weight, p->norm1_bias, s->stats1};
}
static up_norm_use norm2(const up_layer_index *p, const up_layer_state *s) {
    return (up_norm_use){p->norm2_weight, p->norm2_bias, s->stats2};
}

/* The second branch joins, and the next layer's first norm is taken with it. */
static up_status end_layer(up_encoder *e, int layer) {
    up_backend *b = up_backend_of(e);
    const up_layer_index *p = &e->model->params.layers[layer];
    const up_layer_state *s = &e->layers[layer];
    up_residual_args add = branch_args(e, layer, 1, s->mid, s->branch2, p->scale2, s->y);
    if (layer == e->model->config.layers - 1) return b->ops->residual(b, &add);
    return up_block_add_norm(e, &add, norm1(p + 1, s + 1), s[1].normed1);
}

/* From LN1 on, which stands in s->normed1. */
static up_status layer_forward(up_encoder *e, int layer) {
    up_backend *b = up_backend_of(e);
    const up_layer_index *p = &e->model->params.layers[layer];
    const up_layer_state *s = &e->layers[layer];
    UP_TRY(queries_keys_values(e, p, s));
    UP_TRY(prompt_keys_values(e, p, s));
    up_attention_args attention = attention_args(e, s, s->attended);
    if (e->cache) UP_TRY(up_cache_keys(e, layer, &attention));
    UP_TRY(b->ops->attention(b, &attention));
    UP_TRY(up_block_linear(e, outwards(e, p), s->attended, absent, s->branch1));
    up_residual_args add =
        branch_args(e, layer, 0, s->narrow ? s->read_x : s->x, s->branch1, p->scale1, s->mid);
    UP_TRY(up_block_add_norm(e, &add, norm2(p, s), s->normed2));
    UP_TRY(up_block_linear(e, upwards(e, p), s->normed2, s->pre, s->hidden));
    UP_TRY(up_block_linear(e, downwards(e, p), s->hidden, absent, s->branch2));
    return end_layer(e, layer);
}

up_status up_layers_forward(up_encoder *e) {
    const up_layer_index *p = e->model->params.layers;
    const up_layer_state *s = e->layers;
    UP_TRY(up_block_norm(e, s->x, p->norm1_weight, p->norm1_bias, s->normed1, s->stats1));
    for (int layer = 0; layer < e->model->config.layers; layer++) UP_TRY(layer_forward(e, layer));
    return UP_OK;
}

/* ---- backward: e->grad.stream carries dL/d(residual stream) from the last layer down; its first M rows
 * count ---- */

/* Neither LayerScale nor drop path: what came to y is the branch's gradient, too. */
static int is_plain(const up_encoder *e, int scale) {
    return scale < 0 && !e->in->drops;
}

/* Undoes y = x + drop * scale * out for a branch of `layer`; towards x the gradient is dy itself, the
 * stream's. */
static up_residual_grad branch_grad(const up_encoder *e, int layer, int branch) {
    const up_layer_index *p = &e->model->params.layers[layer];
    const up_layer_state *s = &e->layers[layer];
    int scale = branch ? p->scale2 : p->scale1;
    up_view dscale = up_grad_of(e, scale);
    return (up_residual_grad){.branch = !up_view_present(dscale) ? absent
                                        : branch                 ? s->branch2
                                                                 : s->branch1,
                              .scale = up_weight_of(e, scale),
                              .drop = branch_drop(e, layer, branch),
                              .owner = owner_of(e, s),
                              .dy = up_view_rows(e->grad.stream, 0, s->y.rows),
                              .dbranch = up_view_rows(e->grad.branch, 0, s->y.rows),
                              .dscale = dscale,
                              .scratch = e->scratch};
}

/* Where the gradient of a layer's branch stands. */
static up_view branch_gradient(const up_encoder *e, const up_layer_state *s, int scale) {
    return up_view_rows(is_plain(e, scale) ? e->grad.stream : e->grad.branch, 0, s->y.rows);
}

/* Undoes a norm whose gradient is in `dy`, into the stream, and what joined the stream before it: a branch of
 * `layer`. */
static up_status norm_and_branch_bwd(up_encoder *e, up_norm_use norm, up_view x, up_view dy, up_view past,
                                     int layer, int branch) {
    const up_layer_index *p = &e->model->params.layers[layer];
    if (layer < e->lowest || is_plain(e, branch ? p->scale2 : p->scale1))
        return up_block_norm_bwd(e, x, norm.weight, norm.bias, norm.stats, dy, past,
                                 up_view_rows(e->grad.stream, 0, x.rows));
    up_residual_grad add = branch_grad(e, layer, branch);
    return up_block_add_norm_bwd(e, norm, x, dy, past, &add);
}

static up_status attention_bwd(up_encoder *e, const up_layer_state *s, up_view out) {
    up_backend *b = up_backend_of(e);
    up_grad_state *g = &e->grad;
    int64_t d = e->model->config.width;
    up_attention_grad a = {.forward = attention_args(e, s, out),
                           .dout = up_view_rows(g->attended, 0, out.rows),
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
    up_view prompts = up_weight_of(e, p->prompt), dprompts = up_grad_of(e, p->prompt);
    if (p->prompt < 0) return UP_OK;
    UP_TRY(up_block_linear_bwd(e, to_keys_values(e, p), s->prompt_normed, absent, e->grad.prompt_kv,
                               e->grad.prompts));
    return up_block_norm_bwd(e, prompts, p->norm1_weight, p->norm1_bias, s->prompt_stats, e->grad.prompts,
                             dprompts, dprompts);
}

/* Undoes take_read_rows: back to their places among [N, D], zero elsewhere. */
static up_status put_read_rows(up_encoder *e, up_view dy) {
    up_backend *b = up_backend_of(e);
    return b->ops->gather_bwd(b, &(up_gather_grad){.dy = dy, .rows = e->in->readout, .dx = e->grad.spread});
}

/* The inputs of a layer's maps are made again right before the products that read them, where the weight
 * learns: a norm of the same input by the same operation gives the same bits; pre was rounded once. */
static up_status make_normed(up_encoder *e, int map, up_view x, up_norm_use norm) {
    if (!up_learns(e->gradients, map)) return UP_OK;
    return up_block_norm(e, x, norm.weight, norm.bias, up_view_rows(e->grad.normed, 0, x.rows), norm.stats);
}
/* Undoes queries_keys_values of a narrow layer: dL/d(normed1) in g->branch. */
static up_status narrow_bwd(up_encoder *e, const up_layer_index *p) {
    up_backend *b = up_backend_of(e);
    up_grad_state *g = &e->grad;
    if (up_learns(e->gradients, p->qkv_weight)) UP_TRY(take_read_rows(e, g->normed, g->read_normed));
    UP_TRY(up_block_linear_bwd(e, to_queries(e, p), g->read_normed, absent, g->q, g->read_normed1));
    UP_TRY(up_block_linear_bwd(e, to_keys_values(e, p), g->normed, absent, g->kv, g->branch));
    UP_TRY(put_read_rows(e, g->read_normed1));
    return b->ops->residual(b, &(up_residual_args){.x = g->branch, .branch = g->spread, .y = g->branch});
}

/* Undoes queries_keys_values, LN1, and the joining of the layer below. Leaves dL/dx in g->stream. */
static up_status input_bwd(up_encoder *e, int layer) {
    const up_layer_index *p = &e->model->params.layers[layer];
    const up_layer_state *s = &e->layers[layer];
    up_grad_state *g = &e->grad;
    up_view past = g->stream;
    UP_TRY(make_normed(e, p->qkv_weight, s->x, norm1(p, s)));
    if (s->narrow) {
        UP_TRY(narrow_bwd(e, p));
        UP_TRY(put_read_rows(e, up_view_rows(g->stream, 0, s->y.rows)));
        past = g->spread;
    } else {
        UP_TRY(up_block_linear_bwd(e, stacked(e, p), g->normed, absent, g->qkv, g->branch));
    }
    return norm_and_branch_bwd(e, norm1(p, s), s->x, g->branch, past, layer - 1, 1);
}

/* Undoes attention and the map behind it. What attention gave is made again where it was not kept, in the
 * place of the norm that comes next. */
static up_status attention_branch_bwd(up_encoder *e, const up_layer_index *p, const up_layer_state *s) {
    up_backend *b = up_backend_of(e);
    int again = up_attends_again(e);
    up_view out = again ? up_view_rows(e->grad.normed, 0, s->y.rows) : s->attended;
    up_attention_args forward = attention_args(e, s, out);
    if (again) UP_TRY(b->ops->attention(b, &forward));
    UP_TRY(up_block_linear_bwd(e, outwards(e, p), out, absent, branch_gradient(e, s, p->scale1),
                               up_view_rows(e->grad.attended, 0, out.rows)));
    return attention_bwd(e, s, out);
}

/* Undoes the second map of the FFN: its input, and then the gradient of that in the same place. */
static up_status downwards_bwd(up_encoder *e, const up_layer_index *p, const up_layer_state *s,
                               up_view wide) {
    up_backend *b = up_backend_of(e);
    up_view dy = branch_gradient(e, s, p->scale2);
    if (up_learns(e->gradients, p->down_weight))
        UP_TRY(b->ops->gelu(b, &(up_gelu_args){.x = s->pre, .y = wide}));
    UP_TRY(up_block_linear_bwd_params(e, downwards(e, p), wide, dy));
    return up_block_linear_bwd_input(e, downwards(e, p), dy, wide);
}

/* From the gradients of the stream behind the layer and of its second branch on. */
static up_status layer_backward(up_encoder *e, int layer) {
    const up_layer_index *p = &e->model->params.layers[layer];
    const up_layer_state *s = &e->layers[layer];
    up_grad_state *g = &e->grad;
    int64_t rows = s->y.rows;
    up_view stream = up_view_rows(g->stream, 0, rows), branch = up_view_rows(g->branch, 0, rows);
    up_view wide = up_view_rows(g->wide, 0, rows), normed = up_view_rows(g->normed, 0, rows);
    UP_TRY(downwards_bwd(e, p, s, wide));
    UP_TRY(make_normed(e, p->up_weight, s->mid, norm2(p, s)));
    UP_TRY(up_block_linear_bwd(e, upwards(e, p), normed, s->pre, wide, branch));
    UP_TRY(norm_and_branch_bwd(e, norm2(p, s), s->mid, branch, stream, layer, 0));

    UP_TRY(attention_branch_bwd(e, p, s));
    UP_TRY(prompts_bwd(e, p, s));
    return input_bwd(e, layer);
}

up_status up_layers_backward(up_encoder *e, up_bucket_done done, void *context) {
    up_backend *b = up_backend_of(e);
    int last = e->model->config.layers - 1;
    if (last >= e->lowest && !is_plain(e, e->model->params.layers[last].scale2)) {
        up_residual_grad joined = branch_grad(e, last, 1);
        UP_TRY(b->ops->residual_bwd(b, &joined));
    }
    for (int layer = last; layer >= e->lowest; layer--) {
        UP_TRY(layer_backward(e, layer));
        if (done) UP_TRY(done(context, 1 + last - layer));
    }
    return UP_OK;
}

static up_status want(up_encoder *e, up_linear_use use) {
    return up_model_want_prepared(e->model, use.weight, use.first, use.count, e->dtype, e->gradients != NULL);
}

/* Queries and keys apart only where a layer can be narrow, keys alone where there are prompts. */
up_status up_layers_want_prepared(up_encoder *e) {
    int layers = e->model->config.layers, prompts = e->model->config.prompts;
    for (int layer = 0; layer < layers; layer++) {
        const up_layer_index *p = &e->model->params.layers[layer];
        int narrow = layer == layers - 1 && !e->all_rows;
        UP_TRY(want(e, stacked(e, p)));
        if (narrow) UP_TRY(want(e, to_queries(e, p)));
        if (narrow || prompts) UP_TRY(want(e, to_keys_values(e, p)));
        UP_TRY(want(e, outwards(e, p)));
        UP_TRY(want(e, upwards(e, p)));
        UP_TRY(want(e, downwards(e, p)));
    }
    return UP_OK;
}
