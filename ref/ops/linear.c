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

static void finish(const void *context, int64_t n, int64_t o, double sum) {
    const up_linear_args *a = context;
    double v = sum + (up_view_present(a->bias) ? up_f32(a->bias)[o] : 0);
    if (up_view_present(a->pre)) up_put(a->pre, n, o, v);
    up_put(a->y, n, o, a->activation == UP_ACT_GELU ? gelu(v) : v);
}

up_status up_ref_linear(up_backend *b, const up_linear_args *a) {
    (void)b;
    up_ref_gemm(a->y.rows, a->y.cols, a->x.cols, up_ref_plain(a->x), up_ref_transposed(a->weight), finish, a);
    return UP_OK;
}

up_status up_ref_gelu(up_backend *b, const up_gelu_args *a) {
    (void)b;
    for (int64_t n = 0; n < a->x.rows; n++)
        for (int64_t o = 0; o < a->x.cols; o++) up_put(a->y, n, o, gelu(up_get(a->x, n, o)));
    return UP_OK;
}

up_status up_ref_linear_bwd(up_backend *b, const up_linear_grad *a) {
    (void)b;
    if (a->activation == UP_ACT_GELU) /* y = gelu(pre) */
        for (int64_t n = 0; n < a->dy.rows; n++)
            for (int64_t o = 0; o < a->dy.cols; o++)
                up_put(a->dy, n, o, up_get(a->dy, n, o) * gelu_slope(up_get(a->pre, n, o)));
    /* pre = x W' + b, and dy is now the gradient of pre */
    if (up_view_present(a->dx))
        up_ref_gemm_set(a->dx, a->dy.cols, up_ref_plain(a->dy), up_ref_plain(a->weight));
    if (up_view_present(a->dweight))
        up_ref_gemm_add(a->dweight, a->dy.rows, up_ref_transposed(a->dy), up_ref_plain(a->x));
    if (up_view_present(a->dbias)) up_ref_add_columns(a->dbias, a->dy, (up_view){0}, 0, 0);
    return UP_OK;
}
