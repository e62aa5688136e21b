/* residual.c - the residual connection x + drop * scale * branch, with LayerScale (Touvron et al. 2021) and
 * drop path (Huang et al. 2016). Both are optional and both default to 1. */
#include "ref/ops/ops.h"

up_status up_ref_residual(up_backend *b, const up_residual_args *a) {
    (void)b;
    const float *scale = up_f32(a->scale); /* [D] or NULL */
    for (int64_t n = 0; n < a->y.rows; n++) {
        double drop = up_view_present(a->drop) ? up_row(a->drop, n)[0] : 1;
        const float *x = up_row(a->x, n), *branch = up_row(a->branch, n);
        float *y = up_row(a->y, n);
        for (int64_t d = 0; d < a->y.cols; d++)
            y[d] = (float)(x[d] + drop * (scale ? scale[d] : 1) * branch[d]);
    }
    return UP_OK;
}

/* y = x + drop[n] * scale[d] * branch: dscale += sum over n of dy * drop * branch. */
static void add_scale_gradient(const up_residual_grad *a) {
    enum { BLOCK = 64 };
    for (int64_t d0 = 0; d0 < a->dy.cols; d0 += BLOCK) {
        int64_t count = a->dy.cols - d0 < BLOCK ? a->dy.cols - d0 : BLOCK;
        double total[BLOCK] = {0};
        for (int64_t n = 0; n < a->dy.rows; n++) {
            double drop = up_view_present(a->drop) ? up_row(a->drop, n)[0] : 1;
            const float *branch = up_row(a->branch, n) + d0, *dy = up_row(a->dy, n) + d0;
            for (int64_t d = 0; d < count; d++) total[d] += drop * branch[d] * dy[d];
        }
        float *dscale = up_f32(a->dscale) + d0;
        for (int64_t d = 0; d < count; d++) dscale[d] = (float)(dscale[d] + total[d]);
    }
}

/* y = x + drop[n] * scale[d] * branch: dbranch = dy * drop * scale. */
up_status up_ref_residual_bwd(up_backend *b, const up_residual_grad *a) {
    (void)b;
    if (up_view_present(a->dscale)) add_scale_gradient(a); /* before dbranch, which may lie on branch */
    if (!up_view_present(a->dbranch)) return UP_OK;
    const float *scale = up_f32(a->scale); /* [D] or NULL */
    for (int64_t n = 0; n < a->dy.rows; n++) {
        double drop = up_view_present(a->drop) ? up_row(a->drop, n)[0] : 1;
        const float *dy = up_row(a->dy, n);
        float *dbranch = up_row(a->dbranch, n);
        for (int64_t d = 0; d < a->dy.cols; d++) dbranch[d] = (float)(drop * (scale ? scale[d] : 1) * dy[d]);
    }
    return UP_OK;
}
