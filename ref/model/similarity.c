/* similarity.c - from the encoder's output to comparable features. A sequence's feature is the output at its
 * read-out <SPE> (paper section 3.1); with output_head it passes a layer norm and a projection (released
 * models); scaled to length 1 its dot product is the cosine of equation 2. */
#include "ref/model/run.h"

up_status up_similarity_forward(up_run *r) {
    up_backend *b = r->model->backend;
    const up_params *p = &r->model->params;
    up_view encoded = r->layers[r->model->config.layers - 1].y;
    UP_TRY(b->ops->gather(b, &(up_gather_args){.x = encoded, .rows = r->readout, .y = r->feature_in}));
    if (r->model->config.output_head) {
        UP_TRY(b->ops->layernorm(b, &(up_layernorm_args){.x = r->feature_in,
                                                         .weight = up_weight(r, p->output_norm_weight),
                                                         .bias = up_weight(r, p->output_norm_bias),
                                                         .eps = UP_LAYERNORM_EPS,
                                                         .y = r->head_normed,
                                                         .stats = r->head_stats}));
        UP_TRY(b->ops->linear(b, &(up_linear_args){.x = r->head_normed,
                                                   .weight = up_weight(r, p->output_weight),
                                                   .bias = up_weight(r, p->output_bias),
                                                   .y = r->features}));
    }
    return b->ops->l2norm(b, &(up_l2norm_args){.x = r->features, .y = r->unit, .rnorm = r->rnorm});
}

/* r->grad_unit holds dL/d(unit features) [R, D]; leaves dL/d(encoder output) in r->grad. */
up_status up_similarity_backward(up_run *r) {
    up_backend *b = r->model->backend;
    const up_params *p = &r->model->params;
    up_view grad = r->grad_unit, encoded = r->layers[r->model->config.layers - 1].y;
    UP_TRY(b->ops->l2norm_bwd(b, &(up_l2norm_grad){.y = r->unit, .rnorm = r->rnorm, .dy = grad, .dx = grad}));
    if (r->model->config.output_head) {
        UP_TRY(b->ops->linear_bwd(b, &(up_linear_grad){.x = r->head_normed,
                                                       .weight = up_weight(r, p->output_weight),
                                                       .dy = grad,
                                                       .dx = r->grad_feature,
                                                       .dweight = up_grad(r, p->output_weight),
                                                       .dbias = up_grad(r, p->output_bias),
                                                       .scratch = r->scratch}));
        grad = r->grad_feature;
        UP_TRY(b->ops->layernorm_bwd(b, &(up_layernorm_grad){.x = r->feature_in,
                                                             .weight = up_weight(r, p->output_norm_weight),
                                                             .stats = r->head_stats,
                                                             .dy = grad,
                                                             .dx = grad,
                                                             .dweight = up_grad(r, p->output_norm_weight),
                                                             .dbias = up_grad(r, p->output_norm_bias),
                                                             .scratch = r->scratch}));
    }
    return b->ops->gather_bwd(
        b, &(up_gather_grad){.dy = grad, .rows = r->readout, .dx = up_view_rows(r->grad, 0, encoded.rows)});
}
