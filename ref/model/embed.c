/* embed.c - tokens -> the encoder's input x [N, D]. Paper section 3.1 and appendix A:
 *     text token   LN_text(E[id] + P_text[position] + T), the leading <SPE>: LN_text(E[<SPE>])
 *     image patch  LN_image(W patch + b + P_space[cell] + V)
 *     video patch  LN_video(W patch + b + P_space[cell] + P_time[frame] + V)
 * Each tokenizer works on its own tokens, dense; then every row takes its token. To add a modality: its
 * summed tokens and their norm here, forward and backward, and their list in stage.c and plan.c. */
#include "ref/model/activations.h"

static up_status embed_text(up_encoder *e) {
    const up_params *p = &e->model->params;
    up_backend *b = up_backend_of(e);
    if (!e->text.rows) return UP_OK;
    UP_TRY(b->ops->embed(b, &(up_embed_args){.ids = e->in->ids,
                                             .positions = e->in->positions,
                                             .token = up_weight_of(e, p->token),
                                             .spe = up_weight_of(e, p->spe),
                                             .position = up_weight_of(e, p->text_position),
                                             .type = up_weight_of(e, p->text_type),
                                             .y = e->text_summed}));
    return up_block_norm(e, e->text_summed, p->text_norm_weight, p->text_norm_bias, e->text, e->text_stats);
}

static up_status embed_patches(up_encoder *e, const up_patch_input *in, up_view summed) {
    const up_params *p = &e->model->params;
    up_backend *b = up_backend_of(e);
    int timed = up_view_present(in->frames);
    return b->ops->patch_embed(b, &(up_patch_embed_args){.patches = in->pixels,
                                                         .levels = in->levels,
                                                         .cells = in->cells,
                                                         .frames = in->frames,
                                                         .weight = up_weight_of(e, p->patch_weight),
                                                         .bias = up_weight_of(e, p->patch_bias),
                                                         .space = up_weight_of(e, p->space),
                                                         .time = up_weight_of(e, timed ? p->time : -1),
                                                         .type = up_weight_of(e, p->visual_type),
                                                         .y = summed,
                                                         .scratch = e->scratch});
}

up_status up_embed_forward(up_encoder *e) {
    const up_params *p = &e->model->params;
    up_backend *b = up_backend_of(e);
    UP_TRY(embed_text(e));
    if (e->image.rows) {
        UP_TRY(embed_patches(e, &e->in->image, e->image_summed));
        UP_TRY(up_block_norm(e, e->image_summed, p->image_norm_weight, p->image_norm_bias, e->image,
                             e->image_stats));
    }
    if (e->video.rows) {
        UP_TRY(embed_patches(e, &e->in->video, e->video_summed));
        UP_TRY(up_block_norm(e, e->video_summed, p->video_norm_weight, p->video_norm_bias, e->video,
                             e->video_stats));
    }
    return b->ops->gather(b, &(up_gather_args){.x = e->tokens, .rows = e->in->order, .y = e->layers[0].x});
}

/* ---- backward: e->grad.stream holds dL/dx [N, D] ---- */

/* The rows of one tokenizer, then what stood before its norm, into `grad`. */
static up_status take_back(up_encoder *e, up_view rows, up_view summed, up_view stats, up_view grad,
                           int weight, int bias) {
    up_backend *b = up_backend_of(e);
    UP_TRY(b->ops->gather(b, &(up_gather_args){.x = e->grad.stream, .rows = rows, .y = grad}));
    return up_block_norm_bwd(e, summed, weight, bias, stats, grad, (up_view){0}, grad);
}

static up_status text_backward(up_encoder *e) {
    const up_params *p = &e->model->params;
    up_backend *b = up_backend_of(e);
    if (!e->text.rows) return UP_OK;
    UP_TRY(take_back(e, e->in->text_rows, e->text_summed, e->text_stats, e->grad.text, p->text_norm_weight,
                     p->text_norm_bias));
    return b->ops->embed_bwd(b, &(up_embed_grad){.ids = e->in->ids,
                                                 .positions = e->in->positions,
                                                 .dy = e->grad.text,
                                                 .dtoken = up_grad_of(e, p->token),
                                                 .dspe = up_grad_of(e, p->spe),
                                                 .dposition = up_grad_of(e, p->text_position),
                                                 .dtype = up_grad_of(e, p->text_type),
                                                 .scratch = e->scratch});
}

static up_status patches_backward(up_encoder *e, const up_patch_input *in, up_view grad) {
    const up_params *p = &e->model->params;
    up_backend *b = up_backend_of(e);
    int timed = up_view_present(in->frames);
    return b->ops->patch_embed_bwd(b, &(up_patch_embed_grad){.patches = in->pixels,
                                                             .levels = in->levels,
                                                             .cells = in->cells,
                                                             .frames = in->frames,
                                                             .dy = grad,
                                                             .dweight = up_grad_of(e, p->patch_weight),
                                                             .dbias = up_grad_of(e, p->patch_bias),
                                                             .dspace = up_grad_of(e, p->space),
                                                             .dtime = up_grad_of(e, timed ? p->time : -1),
                                                             .dtype = up_grad_of(e, p->visual_type),
                                                             .scratch = e->scratch});
}

up_status up_embed_backward(up_encoder *e) {
    const up_params *p = &e->model->params;
    UP_TRY(text_backward(e));
    if (e->image.rows) {
        UP_TRY(take_back(e, e->in->image_rows, e->image_summed, e->image_stats, e->grad.image,
                         p->image_norm_weight, p->image_norm_bias));
        UP_TRY(patches_backward(e, &e->in->image, e->grad.image));
    }
    if (e->video.rows) {
        UP_TRY(take_back(e, e->in->video_rows, e->video_summed, e->video_stats, e->grad.video,
                         p->video_norm_weight, p->video_norm_bias));
        UP_TRY(patches_backward(e, &e->in->video, e->grad.video));
    }
    return UP_OK;
}
