/* linear.c - y = act(x W' + b): the projections of attention, the feed-forward network, the output
 * projection. The GELU is the exact one of Hendrycks and Gimpel 2016, v Phi(v) with Phi the normal
 * distribution function. */
#include "ref/ops/ops.h"

#include <math.h>

static double gelu(double v) {
    return 0.5 * v * (1 + erf(v * 0.7071067811865476));
}

/* d/dv v Phi(v) = Phi(v) + v phi(v), phi(v) = exp(-v^2 / 2) / sqrt(2 pi). */
static double gelu_slope(double v) {
    return 0.5 * (1 + erf(v * 0.7071067811865476)) + v * 0.3989422804014327 * exp(-0.5 * v * v);
}

up_status up_ref_linear(up_backend *b, const up_linear_args *a) {
    (void)b;
    up_view none = {0}, pre = up_view_present(a->pre) ? a->pre : a->y; /* [N, O] */
    up_ref_gemm(a->x.cols, 1, up_ref_plain(a->x), up_ref_transposed(a->weight), up_f32(a->bias), none, pre);
    for (int64_t n = 0; n < a->y.rows; n++) {
        const float *v = up_row(pre, n);
        float *y = up_row(a->y, n);
        for (int64_t o = 0; o < a->y.cols; o++)
            y[o] = a->activation == UP_ACT_GELU ? (float)gelu(v[o]) : v[o];
    }
    return UP_OK;
}

up_status up_ref_linear_bwd(up_backend *b, const up_linear_grad *a) {
    (void)b;
    up_view none = {0};
    if (a->activation == UP_ACT_GELU) /* y = gelu(pre) */
        for (int64_t n = 0; n < a->dy.rows; n++)
            for (int64_t o = 0; o < a->dy.cols; o++)
                up_row(a->dy, n)[o] = (float)(up_row(a->dy, n)[o] * gelu_slope(up_row(a->pre, n)[o]));
    /* pre = x W' + b, and dy is now the gradient of pre */
    if (up_view_present(a->dx))
        up_ref_gemm(a->dy.cols, 1, up_ref_plain(a->dy), up_ref_plain(a->weight), NULL, none, a->dx);
    if (up_view_present(a->dweight))
        up_ref_gemm(a->dy.rows, 1, up_ref_transposed(a->dy), up_ref_plain(a->x), NULL, a->dweight,
                    a->dweight);
    if (up_view_present(a->dbias)) up_ref_add_columns(a->dbias, a->dy, none);
    return UP_OK;
}
