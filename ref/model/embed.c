/* embed.c - tokens -> the encoder's input x [N, D]. Paper section 3.1 and appendix A:
 *     text token   LN_text(E[id] + P_text[position] + T), the leading <SPE>: LN_text(E[<SPE>])
 *     image patch  LN_image(W patch + b + P_space[cell] + V)
 *     video patch  LN_video(W patch + b + P_space[cell] + P_time[frame] + V)
 * Each tokenizer works on its own tokens, dense; then they are scattered to their rows of the packed batch.
 */
#include "ref/model/run.h"

static up_status norm_and_scatter(up_run *r, up_view summed, up_view stats, up_view normed, up_view rows,
                                  int weight, int bias) {
    up_backend *b = r->model->backend;
    UP_TRY(b->ops->layernorm(b, &(up_layernorm_args){.x = summed,
                                                     .weight = up_weight(r, weight),
                                                     .bias = up_weight(r, bias),
                                                     .eps = UP_LAYERNORM_EPS,
                                                     .y = normed,
                                                     .stats = stats}));
    return b->ops->scatter(b, &(up_scatter_args){.x = normed, .rows = rows, .y = r->layers[0].x});
}

static up_status embed_patches(up_run *r, up_patch_state *s, int norm_weight, int norm_bias) {
    const up_params *p = &r->model->params;
    up_backend *b = r->model->backend;
    if (!s->pixels.rows) return UP_OK;
    int timed = up_view_present(s->frames);
    UP_TRY(b->ops->patch_embed(b, &(up_patch_embed_args){.patches = s->pixels,
                                                         .cells = s->cells,
                                                         .frames = s->frames,
                                                         .weight = up_weight(r, p->patch_weight),
                                                         .bias = up_weight(r, p->patch_bias),
                                                         .space = up_weight(r, p->space),
                                                         .time = up_weight(r, timed ? p->time : -1),
                                                         .type = up_weight(r, p->visual_type),
                                                         .y = s->summed}));
    return norm_and_scatter(r, s->summed, s->stats, s->normed, s->rows, norm_weight, norm_bias);
}

up_status up_embed_forward(up_run *r) {
    const up_params *p = &r->model->params;
    up_backend *b = r->model->backend;
    up_text_state *t = &r->text;
    UP_TRY(b->ops->embed(b, &(up_embed_args){.ids = t->ids,
                                             .positions = t->positions,
                                             .token = up_weight(r, p->token),
                                             .position = up_weight(r, p->text_position),
                                             .type = up_weight(r, p->text_type),
                                             .y = t->summed}));
    UP_TRY(
        norm_and_scatter(r, t->summed, t->stats, t->normed, t->rows, p->text_norm_weight, p->text_norm_bias));
    UP_TRY(embed_patches(r, &r->image, p->image_norm_weight, p->image_norm_bias));
    return embed_patches(r, &r->video, p->video_norm_weight, p->video_norm_bias);
}

/* r->grad holds dL/dx [N, D]. `grad` receives the rows of one tokenizer, then what stood before its norm. */
static up_status gather_and_unnorm(up_run *r, up_view summed, up_view stats, up_view rows, int weight,
                                   int bias, up_view grad) {
    up_backend *b = r->model->backend;
    UP_TRY(b->ops->gather(b, &(up_gather_args){.x = r->grad, .rows = rows, .y = grad})); /* undoes scatter */
    return b->ops->layernorm_bwd(b, &(up_layernorm_grad){.x = summed,
                                                         .weight = up_weight(r, weight),
                                                         .stats = stats,
                                                         .dy = grad,
                                                         .dx = grad,
                                                         .dweight = up_grad(r, weight),
                                                         .dbias = up_grad(r, bias),
                                                         .scratch = r->scratch});
}

static up_status unembed_patches(up_run *r, up_patch_state *s, int norm_weight, int norm_bias, up_view grad) {
    const up_params *p = &r->model->params;
    up_backend *b = r->model->backend;
    if (!s->pixels.rows) return UP_OK;
    int timed = up_view_present(s->frames);
    UP_TRY(gather_and_unnorm(r, s->summed, s->stats, s->rows, norm_weight, norm_bias, grad));
    return b->ops->patch_embed_bwd(b, &(up_patch_embed_grad){.patches = s->pixels,
                                                             .cells = s->cells,
                                                             .frames = s->frames,
                                                             .dy = grad,
                                                             .dweight = up_grad(r, p->patch_weight),
                                                             .dbias = up_grad(r, p->patch_bias),
                                                             .dspace = up_grad(r, p->space),
                                                             .dtime = up_grad(r, timed ? p->time : -1),
                                                             .dtype = up_grad(r, p->visual_type),
                                                             .scratch = r->scratch});
}

up_status up_embed_backward(up_run *r) {
    const up_params *p = &r->model->params;
    up_backend *b = r->model->backend;
    up_text_state *t = &r->text;
    UP_TRY(gather_and_unnorm(r, t->summed, t->stats, t->rows, p->text_norm_weight, p->text_norm_bias,
                             r->grad_text));
    UP_TRY(b->ops->embed_bwd(b, &(up_embed_grad){.ids = t->ids,
                                                 .positions = t->positions,
                                                 .dy = r->grad_text,
                                                 .dtoken = up_grad(r, p->token),
                                                 .dposition = up_grad(r, p->text_position),
                                                 .dtype = up_grad(r, p->text_type),
                                                 .scratch = r->scratch}));
    UP_TRY(unembed_patches(r, &r->image, p->image_norm_weight, p->image_norm_bias, r->grad_image));
    return unembed_patches(r, &r->video, p->video_norm_weight, p->video_norm_bias, r->grad_video);
}
