/* blocks.c - what embed.c, layers.c and readout.c are made of: layer norms and linear maps with a model's own
 * parameters, forward and backward. A linear map may be a part of a stacked one: outputs
 * first..first+count-1. */
#include "ref/model/activations.h"

static up_layernorm_args norm_args(const up_encoder *e, up_view x, int weight, int bias, up_view y,
                                   up_view stats) {
    return (up_layernorm_args){.x = x,
                               .weight = up_weight_of(e, weight),
                               .bias = up_weight_of(e, bias),
                               .eps = UP_LAYERNORM_EPS,
                               .y = y,
                               .stats = stats};
}

static up_layernorm_grad norm_grad(const up_encoder *e, up_view x, int weight, int bias, up_view stats,
                                   up_view dy, up_view residual, up_view dx) {
    return (up_layernorm_grad){.x = x,
                               .weight = up_weight_of(e, weight),
                               .stats = stats,
                               .dy = dy,
                               .residual = residual,
                               .dx = dx,
                               .dweight = up_grad_of(e, weight),
                               .dbias = up_grad_of(e, bias),
                               .scratch = e->scratch};
}

up_status up_block_norm(up_encoder *e, up_view x, int weight, int bias, up_view y, up_view stats) {
    up_backend *b = up_backend_of(e);
    up_layernorm_args a = norm_args(e, x, weight, bias, y, stats);
    return b->ops->layernorm(b, &a);
}

up_status up_block_norm_bwd(up_encoder *e, up_view x, int weight, int bias, up_view stats, up_view dy,
                            up_view residual, up_view dx) {
    up_backend *b = up_backend_of(e);
    up_layernorm_grad a = norm_grad(e, x, weight, bias, stats, dy, residual, dx);
    return b->ops->layernorm_bwd(b, &a);
}

up_status up_block_add_norm(up_encoder *e, const up_residual_args *add, up_norm_use norm, up_view y) {
    up_backend *b = up_backend_of(e);
    up_add_layernorm_args a = {*add, norm_args(e, add->y, norm.weight, norm.bias, y, norm.stats)};
    if (b->ops->add_layernorm) return b->ops->add_layernorm(b, &a);
    UP_TRY(b->ops->residual(b, &a.add));
    return b->ops->layernorm(b, &a.norm);
}

up_status up_block_add_norm_bwd(up_encoder *e, up_norm_use norm, up_view x, up_view dy, up_view residual,
                                const up_residual_grad *add) {
    up_backend *b = up_backend_of(e);
    up_add_layernorm_grad a = {norm_grad(e, x, norm.weight, norm.bias, norm.stats, dy, residual, add->dy),
                               *add};
    if (b->ops->add_layernorm_bwd) return b->ops->add_layernorm_bwd(b, &a);
    UP_TRY(b->ops->layernorm_bwd(b, &a.norm));
    return b->ops->residual_bwd(b, &a.add);
}

up_linear_use up_whole_linear(const up_encoder *e, int weight, int bias) {
    return (up_linear_use){.weight = weight, .bias = bias, .count = e->model->params.list[weight].rows};
}

up_status up_block_linear(up_encoder *e, up_linear_use use, up_view x, up_view pre, up_view y) {
    up_backend *b = up_backend_of(e);
    return b->ops->linear(
        b,
        &(up_linear_args){.x = x,
                          .weight = up_view_rows(up_weight_of(e, use.weight), use.first, use.count),
                          .bias = up_view_cols(up_weight_of(e, use.bias), use.first, use.count),
                          .prepared = up_model_prepared(e->model, use.weight, use.first, use.count, y.dtype),
                          .activation = use.activation,
                          .pre = pre,
                          .y = y,
                          .scratch = e->scratch});
}

static up_linear_grad linear_grad(const up_encoder *e, up_linear_use use, up_view dy) {
    return (up_linear_grad){.weight = up_view_rows(up_weight_of(e, use.weight), use.first, use.count),
                            .prepared =
                                up_model_prepared(e->model, use.weight, use.first, use.count, dy.dtype),
                            .activation = use.activation,
                            .dy = dy,
                            .scratch = e->scratch};
}

static void add_params(const up_encoder *e, up_linear_use use, up_linear_grad *a) {
    up_view dweight = up_grad_of(e, use.weight), dbias = up_grad_of(e, use.bias);
    if (up_view_present(dweight)) a->dweight = up_view_rows(dweight, use.first, use.count);
    if (up_view_present(dbias)) a->dbias = up_view_cols(dbias, use.first, use.count);
}

up_status up_block_linear_bwd(up_encoder *e, up_linear_use use, up_view x, up_view pre, up_view dy,
                              up_view dx) {
    up_backend *b = up_backend_of(e);
    up_linear_grad a = linear_grad(e, use, dy);
    add_params(e, use, &a);
    a.x = x;
    a.pre = pre;
    a.dx = dx;
    return b->ops->linear_bwd(b, &a);
}

up_status up_block_linear_bwd_params(up_encoder *e, up_linear_use use, up_view x, up_view dy) {
    up_backend *b = up_backend_of(e);
    up_linear_grad a = linear_grad(e, use, dy);
    add_params(e, use, &a);
    a.x = x;
    return up_view_present(a.dweight) || up_view_present(a.dbias) ? b->ops->linear_bwd(b, &a) : UP_OK;
}

up_status up_block_linear_bwd_input(up_encoder *e, up_linear_use use, up_view dy, up_view dx) {
    up_backend *b = up_backend_of(e);
    up_linear_grad a = linear_grad(e, use, dy);
    a.x = a.dx = dx; /* x is read for the parameters' sake alone */
    return b->ops->linear_bwd(b, &a);
}
