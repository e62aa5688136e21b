/* residual.c - the residual connection x + drop * scale * branch, with LayerScale (Touvron et al. 2021) and
 * drop path (Huang et al. 2016). Both are optional and both default to 1. */
#include "ref/ops/ops.h"

/* What drop path makes of row n: the factor of its sequence, 0 where it belongs to none. */
static double factor(up_view drop, up_view owner, int64_t n) {
    if (!up_view_present(drop)) return 1;
    int64_t sequence = up_index(owner, n);
    return sequence < 0 ? 0 : up_row(drop, sequence)[0];
}

up_status up_ref_residual(up_backend *b, const up_residual_args *a) {
    (void)b;
    const float *scale = up_f32(a->scale); /* [D] or NULL */
    for (int64_t n = 0; n < a->y.rows; n++) {
        double drop = factor(a->drop, a->owner, n);
        for (int64_t d = 0; d < a->y.cols; d++)
            up_put(a->y, n, d, up_get(a->x, n, d) + drop * (scale ? scale[d] : 1) * up_get(a->branch, n, d));
    }
    return UP_OK;
}

/* y = x + drop * scale[d] * branch: dscale += sum over n of dy * drop * branch. */
static void add_scale_gradient(const up_residual_grad *a) {
    for (int64_t d = 0; d < a->dy.cols; d++) {
        double total = up_f32(a->dscale)[d];
        for (int64_t n = 0; n < a->dy.rows; n++)
            total += factor(a->drop, a->owner, n) * up_get(a->branch, n, d) * up_get(a->dy, n, d);
        up_f32(a->dscale)[d] = (float)total;
    }
}

/* y = x + drop * scale[d] * branch: dbranch = dy * drop * scale. */
up_status up_ref_residual_bwd(up_backend *b, const up_residual_grad *a) {
    (void)b;
    if (up_view_present(a->dscale)) add_scale_gradient(a); /* before dbranch, which may lie on branch */
    if (!up_view_present(a->dbranch)) return UP_OK;
    const float *scale = up_f32(a->scale); /* [D] or NULL */
    for (int64_t n = 0; n < a->dy.rows; n++) {
        double drop = factor(a->drop, a->owner, n);
        for (int64_t d = 0; d < a->dy.cols; d++)
            up_put(a->dbranch, n, d, drop * (scale ? scale[d] : 1) * up_get(a->dy, n, d));
    }
    return UP_OK;
}
