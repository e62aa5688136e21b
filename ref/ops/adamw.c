/* adamw.c - AdamW with decoupled weight decay (Loshchilov and Hutter 2019) behind clipping by the global norm
 * (Pascanu et al. 2013). A gradient whose norm is not finite changes nothing. */
#include "ref/ops/ops.h"

#include <math.h>

up_status up_ref_sqnorm(up_backend *b, const up_sqnorm_args *a) {
    (void)b;
    double total = up_f32(a->out)[0];
    for (int64_t n = 0; n < a->x.rows; n++)
        for (int64_t d = 0; d < a->x.cols; d++) total += (double)up_row(a->x, n)[d] * up_row(a->x, n)[d];
    up_f32(a->out)[0] = (float)total;
    return UP_OK;
}

up_status up_ref_adamw(up_backend *b, const up_adamw_args *a) {
    (void)b;
    double clip = 1, b1 = a->beta1, b2 = a->beta2;
    if (up_view_present(a->sqnorm)) {
        double square = up_f32(a->sqnorm)[0];
        if (!isfinite(square)) return UP_OK;
        if (a->max_norm > 0) clip = fmin(1, a->max_norm / (sqrt(square) + 1e-6));
    }
    for (int64_t n = 0; n < a->param.rows; n++) {
        float *param = up_row(a->param, n), *m = up_row(a->m, n), *v = up_row(a->v, n);
        const float *grad = up_row(a->grad, n);
        for (int64_t d = 0; d < a->param.cols; d++) {
            double g = clip * grad[d];
            double mean = b1 * m[d] + (1 - b1) * g, square = b2 * v[d] + (1 - b2) * g * g;
            double step = mean / a->correction1 / (sqrt(square / a->correction2) + a->eps);
            param[d] = (float)(param[d] - a->lr * (step + a->decay * param[d]));
            m[d] = (float)mean;
            v[d] = (float)square;
        }
    }
    return UP_OK;
}
