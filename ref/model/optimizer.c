/* optimizer.c - one AdamW step over the table of parameters (paper section 4.2: AdamW, weight decay, clipping
 * by the global norm). The norm stays on the device for the step itself; the host reads it afterwards, for
 * the metrics and the count. */
#include "ref/model/run.h"

#include <math.h>

up_status up_run_zero_gradients(up_run *r) {
    up_backend *b = r->model->backend;
    return b->ops->fill(b, up_run_gradients(r), 0);
}

static up_status update(up_run *r, const up_adamw *o, up_view sqnorm) {
    up_backend *b = r->model->backend;
    const up_params *p = &r->model->params;
    double t = (double)(r->steps + 1);
    for (int i = 0; i < p->count; i++) {
        if (!p->list[i].trainable) continue;
        up_adamw_args a = {.param = up_weight(r, i),
                           .grad = up_grad(r, i),
                           .m = up_run_moment(r, 1, i),
                           .v = up_run_moment(r, 2, i),
                           .lr = o->lr,
                           .beta1 = o->beta1,
                           .beta2 = o->beta2,
                           .eps = o->eps,
                           .decay = p->list[i].decay ? o->decay : 0,
                           .correction1 = 1 - pow(o->beta1, t),
                           .correction2 = 1 - pow(o->beta2, t),
                           .sqnorm = sqnorm,
                           .max_norm = o->max_norm};
        UP_TRY(b->ops->adamw(b, &a));
    }
    return UP_OK;
}

up_status up_run_step(up_run *r, const up_adamw *o, up_step_value *value) {
    up_backend *b = r->model->backend;
    if (!r->training) return up_fail(UP_ERR_ARGUMENT, "step", "this run was made for inference");
    up_view sqnorm = up_view_at(r->scalars, UP_F32, 0, 1, 1);
    float squared = NAN;
    if (!r->bad_loss) {
        UP_TRY(b->ops->fill(b, sqnorm, 0));
        UP_TRY(b->ops->sqnorm(
            b, &(up_sqnorm_args){.x = up_run_gradients(r), .out = sqnorm, .scratch = r->scratch}));
        UP_TRY(update(r, o, sqnorm)); /* writes nothing where the norm is not finite */
        UP_TRY(b->ops->download(b, &squared, sqnorm));
    }
    int skipped = !isfinite(squared);
    r->bad_loss = 0;
    if (!skipped) r->steps++;
    if (value) *value = (up_step_value){.gradient_norm = sqrt(squared), .skipped = skipped};
    return UP_OK;
}

int64_t up_run_steps(const up_run *r) {
    return r->steps;
}
void up_run_set_steps(up_run *r, int64_t steps) {
    r->steps = steps;
}
