/* readout.c - from the encoder's output to features: the rows that are read out (the leading <SPE>, masked
 * words, slots; paper section 3.1), and in released models a layer norm and a projection behind them.
 * Features are f32 whatever the activations are. */
#include "ref/model/activations.h"

static up_view encoded(const up_encoder *e) {
    return e->layers[e->model->config.layers - 1].y;
}

/* Where the rows that are read out are among the last layer's. */
static up_view places(const up_encoder *e) {
    return up_view_rows(e->in->places, 0, e->in->sizes.readouts);
}

up_status up_readout_forward(up_encoder *e, up_view features) {
    up_backend *b = up_backend_of(e);
    const up_params *p = &e->model->params;
    int head = e->model->config.output_head;
    up_view gathered = head ? e->gathered : features;
    UP_TRY(b->ops->gather(b, &(up_gather_args){.x = encoded(e), .rows = places(e), .y = gathered}));
    if (!head) return UP_OK;
    UP_TRY(up_block_norm(e, gathered, p->output_norm_weight, p->output_norm_bias, e->head_normed,
                         e->head_stats));
    return up_block_linear(e, up_whole_linear(e, p->output_weight, p->output_bias), e->head_normed,
                           (up_view){0}, features);
}

/* Undoes the projection and the norm of an output head: dL/d(gathered rows) in e->grad.head. */
static up_status head_backward(up_encoder *e, up_view dfeatures) {
    const up_params *p = &e->model->params;
    up_linear_use projection = up_whole_linear(e, p->output_weight, p->output_bias);
    UP_TRY(up_block_linear_bwd(e, projection, e->head_normed, (up_view){0}, dfeatures, e->grad.head));
    return up_block_norm_bwd(e, e->gathered, p->output_norm_weight, p->output_norm_bias, e->head_stats,
                             e->grad.head, (up_view){0}, e->grad.head);
}

/* Leaves dL/d(encoder output) in the first M rows of e->grad.stream. */
up_status up_readout_backward(up_encoder *e, up_view dfeatures) {
    up_backend *b = up_backend_of(e);
    int head = e->model->config.output_head;
    if (head) UP_TRY(head_backward(e, dfeatures));
    return b->ops->gather_bwd(b, &(up_gather_grad){.dy = head ? e->grad.head : dfeatures,
                                                   .rows = places(e),
                                                   .dx = up_view_rows(e->grad.stream, 0, encoded(e).rows)});
}
