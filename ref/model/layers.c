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

static up_status layer_forward(up_encoder *e, int layer) {
    up_backend *b = up_backend_of(e);
    const up_layer_index *p = &e->model->params.layers[layer];
    const up_layer_state *s = &e->layers[layer];
    UP_TRY(up_block_norm(e, s->x, p->norm1_weight, p->norm1_bias, s->normed1, s->stats1));
    UP_TRY(queries_keys_values(e, p, s));
    UP_TRY(prompt_keys_values(e, p, s));
    up_attention_args attention = attention_args(e, s);
    if (e->cache) UP_TRY(up_cache_keys(e, layer, &attention));
    UP_TRY(b->ops->attention(b, &attention));
    UP_TRY(up_block_linear(e, outwards(e, p), s->attended, absent, s->branch1));
    UP_TRY(add_branch(e, layer, 0, s->narrow ? s->read_x : s->x, s->branch1, p->scale1, s->mid));
    UP_TRY(up_block_norm(e, s->mid, p->norm2_weight, p->norm2_bias, s->normed2, s->stats2));
    UP_TRY(up_block_linear(e, upwards(e, p), s->normed2, s->pre, s->hidden));
    UP_TRY(up_block_linear(e, downwards(e, p), s->hidden, absent, s->branch2));
    return add_branch(e, layer, 1, s->mid, s->branch2, p->scale2, s->y);
}

up_status up_layers_forward(up_encoder *e) {
    for (int layer = 0; layer < e->model->config.layers; layer++) UP_TRY(layer_forward(e, layer));
    return UP_OK;
}

/* ---- backward: e->grad.stream carries dL/d(residual stream) from the last layer down; its first M rows
 * count ---- */

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
static up_status make_normed(up_encoder *e, int map, up_view x, int weight, int bias, up_view stats) {
    if (!up_learns(e->gradients, map)) return UP_OK;
    return up_block_norm(e, x, weight, bias, up_view_rows(e->grad.normed, 0, x.rows), stats);
}
static up_status make_hidden(up_encoder *e, int map, up_view pre) {
    up_backend *b = up_backend_of(e);
    if (!up_learns(e->gradients, map)) return UP_OK;
    return b->ops->gelu(b, &(up_gelu_args){.x = pre, .y = up_view_rows(e->grad.hidden, 0, pre.rows)});
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

/* Undoes queries_keys_values and LN1; `dmid` came past the attention branch [M, D]. Leaves dL/dx in
 * g->stream. */
static up_status input_bwd(up_encoder *e, const up_layer_index *p, const up_layer_state *s, up_view dmid) {
    up_grad_state *g = &e->grad;
    UP_TRY(make_normed(e, p->qkv_weight, s->x, p->norm1_weight, p->norm1_bias, s->stats1));
    if (!s->narrow) {
        UP_TRY(up_block_linear_bwd(e, stacked(e, p), g->normed, absent, g->qkv, g->branch));
        return up_block_norm_bwd(e, s->x, p->norm1_weight, p->norm1_bias, s->stats1, g->branch, dmid,
                                 g->stream);
    }
    UP_TRY(narrow_bwd(e, p));
    UP_TRY(put_read_rows(e, dmid));
    return up_block_norm_bwd(e, s->x, p->norm1_weight, p->norm1_bias, s->stats1, g->branch, g->spread,
                             g->stream);
}

static up_status layer_backward(up_encoder *e, int layer) {
    const up_layer_index *p = &e->model->params.layers[layer];
    const up_layer_state *s = &e->layers[layer];
    up_grad_state *g = &e->grad;
    int64_t rows = s->y.rows;
    up_view stream = up_view_rows(g->stream, 0, rows), branch = up_view_rows(g->branch, 0, rows);
    up_view wide = up_view_rows(g->wide, 0, rows), attended = up_view_rows(g->attended, 0, rows);
    up_view hidden = up_view_rows(g->hidden, 0, rows), normed = up_view_rows(g->normed, 0, rows);
    UP_TRY(branch_bwd(e, layer, 1, s->branch2, p->scale2, stream, branch));
    UP_TRY(make_hidden(e, p->down_weight, s->pre));
    UP_TRY(up_block_linear_bwd(e, downwards(e, p), hidden, absent, branch, wide));
    UP_TRY(make_normed(e, p->up_weight, s->mid, p->norm2_weight, p->norm2_bias, s->stats2));
    UP_TRY(up_block_linear_bwd(e, upwards(e, p), normed, s->pre, wide, branch));
    UP_TRY(up_block_norm_bwd(e, s->mid, p->norm2_weight, p->norm2_bias, s->stats2, branch, stream, stream));

    UP_TRY(branch_bwd(e, layer, 0, s->branch1, p->scale1, stream, branch));
    UP_TRY(up_block_linear_bwd(e, outwards(e, p), s->attended, absent, branch, attended));
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
