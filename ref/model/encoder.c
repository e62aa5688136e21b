/* encoder.c - the Transformer encoder f: the layer loop forward and backward. Paper section 3.1 (one
 * modality-agnostic encoder), 4.2 (sizes), 3.3 (prompts); pre-norm layers: mid = x + drop * g1 *
 * Attention(LN1(x)) y   = mid + drop * g2 * FFN(LN2(mid)),   FFN(v) = W2 GELU(W1 v + b1) + b2 g1, g2
 * (LayerScale) and drop (drop path) are absent where the configuration has none. The last layer may be
 * narrow: behind its keys and values it computes the rows that are read out (narrow.c). */
#include "ref/model/decode.h"
#include "ref/model/run.h"

static up_status norm(up_run *r, up_view x, int weight, int bias, up_view y, up_view stats) {
    up_backend *b = r->model->backend;
    return b->ops->layernorm(b, &(up_layernorm_args){.x = x,
                                                     .weight = up_weight(r, weight),
                                                     .bias = up_weight(r, bias),
                                                     .eps = UP_LAYERNORM_EPS,
                                                     .y = y,
                                                     .stats = stats});
}

static up_status linear(up_run *r, up_view x, int weight, int bias, up_activation act, up_view pre,
                        up_view y) {
    up_backend *b = r->model->backend;
    return b->ops->linear(b, &(up_linear_args){.x = x,
                                               .weight = up_weight(r, weight),
                                               .bias = up_weight(r, bias),
                                               .activation = act,
                                               .pre = pre,
                                               .y = y});
}

/* Outputs first..first+count-1 of a projection: a part of the stacked q, k, v. */
static up_status linear_part(up_run *r, up_view x, int weight, int bias, int64_t first, int64_t count,
                             up_view y) {
    up_backend *b = r->model->backend;
    return b->ops->linear(b, &(up_linear_args){.x = x,
                                               .weight = up_view_rows(up_weight(r, weight), first, count),
                                               .bias = up_view_cols(up_weight(r, bias), first, count),
                                               .y = y});
}

static int is_narrow(const up_layer_state *s) {
    return s->kept_x.rows > 0;
}

static up_status gather_kept(up_run *r, up_view x, up_view y) {
    up_backend *b = r->model->backend;
    return b->ops->gather(b, &(up_gather_args){.x = x, .rows = r->kept_rows, .y = y});
}

/* Drop-path factors [M, 1] of a branch: 0 attention, 1 FFN. */
static up_view branch_drop(const up_run *r, int layer, int branch) {
    int64_t first = 2 * (int64_t)layer * r->tokens + (int64_t)branch * r->layers[layer].rows;
    return up_view_present(r->drop) ? up_view_rows(r->drop, first, r->layers[layer].rows) : (up_view){0};
}

static up_attention_args attention_args(const up_run *r, const up_layer_state *s) {
    const up_config *c = &r->model->config;
    int64_t d = c->width;
    up_attention_args a = {.sequences = r->sequence,
                           .heads = c->heads,
                           .prompts = c->prompts,
                           .prompt_sides = c->prompt_sides,
                           .max_keys = r->max_keys + c->prompts,
                           .q = up_view_cols(s->qkv, 0, d),
                           .k = up_view_cols(s->qkv, d, d),
                           .v = up_view_cols(s->qkv, 2 * d, d),
                           .out = s->attended,
                           .lse = s->lse,
                           .scratch = r->scratch};
    if (is_narrow(s)) {
        a.sequences = r->kept_sequence;
        a.q = s->kept_q;
        a.k = up_view_cols(s->qkv, 0, d);
        a.v = up_view_cols(s->qkv, d, d);
    }
    if (c->prompts) {
        a.prompt_k = up_view_cols(s->prompt_qkv, d, d);
        a.prompt_v = up_view_cols(s->prompt_qkv, 2 * d, d);
    }
    return a;
}

static up_status queries_keys_values(up_run *r, const up_layer_index *p, const up_layer_state *s) {
    int64_t d = r->model->config.width;
    if (!is_narrow(s))
        return linear(r, s->normed1, p->qkv_weight, p->qkv_bias, UP_ACT_NONE, (up_view){0}, s->qkv);
    UP_TRY(linear_part(r, s->normed1, p->qkv_weight, p->qkv_bias, d, 2 * d, s->qkv));
    UP_TRY(gather_kept(r, s->x, s->kept_x));
    UP_TRY(gather_kept(r, s->normed1, s->kept_normed1));
    return linear_part(r, s->kept_normed1, p->qkv_weight, p->qkv_bias, 0, d, s->kept_q);
}

static up_status layer_forward(up_run *r, int layer) {
    up_backend *b = r->model->backend;
    const up_layer_index *p = &r->model->params.layers[layer];
    up_layer_state *s = &r->layers[layer];
    UP_TRY(norm(r, s->x, p->norm1_weight, p->norm1_bias, s->normed1, s->stats1));
    UP_TRY(queries_keys_values(r, p, s));
    if (p->prompt >=
        0) { /* prompts of this layer: through the same norm and projection; only k and v are used */
        UP_TRY(norm(r, up_weight(r, p->prompt), p->norm1_weight, p->norm1_bias, s->prompt_normed,
                    s->prompt_stats));
        UP_TRY(linear(r, s->prompt_normed, p->qkv_weight, p->qkv_bias, UP_ACT_NONE, (up_view){0},
                      s->prompt_qkv));
    }
    up_attention_args attention = attention_args(r, s);
    if (r->cache) UP_TRY(up_cache_layer(r, layer, &attention));
    UP_TRY(b->ops->attention(b, &attention));
    UP_TRY(linear(r, s->attended, p->out_weight, p->out_bias, UP_ACT_NONE, (up_view){0}, s->branch1));
    UP_TRY(b->ops->residual(b, &(up_residual_args){.x = is_narrow(s) ? s->kept_x : s->x,
                                                   .branch = s->branch1,
                                                   .scale = up_weight(r, p->scale1),
                                                   .drop = branch_drop(r, layer, 0),
                                                   .y = s->mid}));
    UP_TRY(norm(r, s->mid, p->norm2_weight, p->norm2_bias, s->normed2, s->stats2));
    UP_TRY(linear(r, s->normed2, p->up_weight, p->up_bias, UP_ACT_GELU, s->pre, s->hidden));
    UP_TRY(linear(r, s->hidden, p->down_weight, p->down_bias, UP_ACT_NONE, (up_view){0}, s->branch2));
    return b->ops->residual(b, &(up_residual_args){.x = s->mid,
                                                   .branch = s->branch2,
                                                   .scale = up_weight(r, p->scale2),
                                                   .drop = branch_drop(r, layer, 1),
                                                   .y = s->y});
}

up_status up_encoder_forward(up_run *r) {
    for (int layer = 0; layer < r->model->config.layers; layer++) UP_TRY(layer_forward(r, layer));
    return UP_OK;
}

/* ---- backward: r->grad carries dL/d(residual stream) from the last layer to the first; its first M rows
 * count ---- */

static up_status linear_bwd(up_run *r, up_view x, int weight, int bias, up_activation act, up_view pre,
                            up_view dy, up_view dx) {
    up_backend *b = r->model->backend;
    return b->ops->linear_bwd(b, &(up_linear_grad){.x = x,
                                                   .weight = up_weight(r, weight),
                                                   .activation = act,
                                                   .pre = pre,
                                                   .dy = dy,
                                                   .dx = dx,
                                                   .dweight = up_grad(r, weight),
                                                   .dbias = up_grad(r, bias),
                                                   .scratch = r->scratch});
}

/* dx = residual + the gradient through y = LN(x). */
static up_status norm_bwd(up_run *r, up_view x, int weight, int bias, up_view stats, up_view dy,
                          up_view residual, up_view dx) {
    up_backend *b = r->model->backend;
    return b->ops->layernorm_bwd(b, &(up_layernorm_grad){.x = x,
                                                         .weight = up_weight(r, weight),
                                                         .stats = stats,
                                                         .dy = dy,
                                                         .residual = residual,
                                                         .dx = dx,
                                                         .dweight = up_grad(r, weight),
                                                         .dbias = up_grad(r, bias),
                                                         .scratch = r->scratch});
}

/* Undoes y = x + drop * scale * branch for the branch; towards x the gradient is dy itself. */
static up_status residual_bwd(up_run *r, up_view branch, int scale, up_view drop, up_view dy,
                              up_view dbranch) {
    up_backend *b = r->model->backend;
    return b->ops->residual_bwd(b, &(up_residual_grad){.branch = branch,
                                                       .scale = up_weight(r, scale),
                                                       .drop = drop,
                                                       .dy = dy,
                                                       .dbranch = dbranch,
                                                       .dscale = up_grad(r, scale),
                                                       .scratch = r->scratch});
}

/* Space of r->grad_qkv as the dense [N, 2D] of a narrow layer. */
static up_view keys_values_grad(const up_run *r) {
    up_view v = r->grad_qkv;
    return up_view_at(v.buffer, v.dtype, v.offset, v.rows, v.cols / 3 * 2);
}

static up_status attention_bwd(up_run *r, const up_layer_state *s, up_view dattended) {
    up_backend *b = r->model->backend;
    const up_config *c = &r->model->config;
    int64_t d = c->width;
    up_attention_grad a = {.forward = attention_args(r, s),
                           .dout = dattended,
                           .dq = up_view_cols(r->grad_qkv, 0, d),
                           .dk = up_view_cols(r->grad_qkv, d, d),
                           .dv = up_view_cols(r->grad_qkv, 2 * d, d),
                           .scratch = r->scratch};
    if (is_narrow(s)) {
        up_view dkv = keys_values_grad(r);
        a.dq = r->grad_q;
        a.dk = up_view_cols(dkv, 0, d);
        a.dv = up_view_cols(dkv, d, d);
    }
    if (c->prompts) {
        a.dprompt_k = up_view_cols(r->grad_prompt_qkv, d, d);
        a.dprompt_v = up_view_cols(r->grad_prompt_qkv, 2 * d, d);
    }
    return b->ops->attention_bwd(b, &a);
}

/* k, v = qkv(LN1(prompts)): the gradient arrives in the k and v columns; no query was used. */
static up_status prompts_bwd(up_run *r, const up_layer_index *p, const up_layer_state *s) {
    up_backend *b = r->model->backend;
    up_view prompts = up_weight(r, p->prompt), dprompts = up_grad(r, p->prompt);
    UP_TRY(b->ops->fill(b, up_view_cols(r->grad_prompt_qkv, 0, r->model->config.width), 0));
    UP_TRY(linear_bwd(r, s->prompt_normed, p->qkv_weight, p->qkv_bias, UP_ACT_NONE, (up_view){0},
                      r->grad_prompt_qkv, r->grad_prompt));
    /* a parameter's gradient adds up: it is its own residual */
    return norm_bwd(r, prompts, p->norm1_weight, p->norm1_bias, s->prompt_stats, r->grad_prompt, dprompts,
                    dprompts);
}

static up_status linear_part_bwd(up_run *r, up_view x, int weight, int bias, int64_t first, int64_t count,
                                 up_view dy, up_view dx) {
    up_backend *b = r->model->backend;
    up_view dweight = up_grad(r, weight), dbias = up_grad(r, bias);
    if (up_view_present(dweight)) dweight = up_view_rows(dweight, first, count);
    if (up_view_present(dbias)) dbias = up_view_cols(dbias, first, count);
    return b->ops->linear_bwd(b, &(up_linear_grad){.x = x,
                                                   .weight = up_view_rows(up_weight(r, weight), first, count),
                                                   .dy = dy,
                                                   .dx = dx,
                                                   .dweight = dweight,
                                                   .dbias = dbias,
                                                   .scratch = r->scratch});
}

/* Undoes gather_kept: [K, D] back to its rows of [N, D], zero elsewhere. */
static up_status spread_kept(up_run *r, up_view dy) {
    up_backend *b = r->model->backend;
    return b->ops->gather_bwd(b, &(up_gather_grad){.dy = dy, .rows = r->kept_rows, .dx = r->grad_spread});
}

/* Undoes queries_keys_values and the norm before it. `dmid`: the gradient that came past the attention branch
 * [M, D]. Leaves dL/dx in r->grad. */
static up_status queries_keys_values_bwd(up_run *r, const up_layer_index *p, const up_layer_state *s,
                                         up_view dmid) {
    up_backend *b = r->model->backend;
    int64_t d = r->model->config.width;
    if (!is_narrow(s)) {
        UP_TRY(linear_bwd(r, s->normed1, p->qkv_weight, p->qkv_bias, UP_ACT_NONE, (up_view){0}, r->grad_qkv,
                          r->grad_branch));
        return norm_bwd(r, s->x, p->norm1_weight, p->norm1_bias, s->stats1, r->grad_branch, dmid, r->grad);
    }
    UP_TRY(linear_part_bwd(r, s->kept_normed1, p->qkv_weight, p->qkv_bias, 0, d, r->grad_q, s->kept_q));
    UP_TRY(linear_part_bwd(r, s->normed1, p->qkv_weight, p->qkv_bias, d, 2 * d, keys_values_grad(r),
                           r->grad_branch));
    UP_TRY(spread_kept(r, s->kept_q)); /* kept_q now holds d(kept_normed1) */
    UP_TRY(b->ops->residual(
        b, &(up_residual_args){.x = r->grad_branch, .branch = r->grad_spread, .y = r->grad_branch}));
    UP_TRY(spread_kept(r, dmid));
    return norm_bwd(r, s->x, p->norm1_weight, p->norm1_bias, s->stats1, r->grad_branch, r->grad_spread,
                    r->grad);
}

static up_status layer_backward(up_run *r, int layer) {
    const up_layer_index *p = &r->model->params.layers[layer];
    const up_layer_state *s = &r->layers[layer];
    up_view grad = up_view_rows(r->grad, 0, s->rows), branch = up_view_rows(r->grad_branch, 0, s->rows);
    up_view wide = up_view_rows(r->grad_wide, 0, s->rows);
    UP_TRY(residual_bwd(r, s->branch2, p->scale2, branch_drop(r, layer, 1), grad, branch));
    UP_TRY(linear_bwd(r, s->hidden, p->down_weight, p->down_bias, UP_ACT_NONE, (up_view){0}, branch, wide));
    UP_TRY(linear_bwd(r, s->normed2, p->up_weight, p->up_bias, UP_ACT_GELU, s->pre, wide, branch));
    UP_TRY(norm_bwd(r, s->mid, p->norm2_weight, p->norm2_bias, s->stats2, branch, grad, grad));

    UP_TRY(residual_bwd(r, s->branch1, p->scale1, branch_drop(r, layer, 0), grad, branch));
    /* s->attended is still needed by the attention's own backward pass; branch1 is not: its space takes
     * d(attended) */
    UP_TRY(linear_bwd(r, s->attended, p->out_weight, p->out_bias, UP_ACT_NONE, (up_view){0}, branch,
                      s->branch1));
    UP_TRY(attention_bwd(r, s, s->branch1));
    if (p->prompt >= 0) UP_TRY(prompts_bwd(r, p, s));
    return queries_keys_values_bwd(r, p, s, grad);
}

up_status up_encoder_backward(up_run *r, up_layer_done layer_done, void *context) {
    for (int layer = r->model->config.layers - 1; layer >= 0; layer--) {
        UP_TRY(layer_backward(r, layer));
        if (layer_done) layer_done(context, layer);
    }
    return UP_OK;
}
