/* l2norm.c - features of length 1, so that their product is the cosine of paper equation 2. */
#include "ref/ops/ops.h"

#include <math.h>

static const double shortest = 1e-12; /* below this length a row counts as that long */

up_status up_ref_l2norm(up_backend *b, const up_l2norm_args *a) {
    (void)b;
    for (int64_t n = 0; n < a->x.rows; n++) {
        const float *x = up_row(a->x, n);
        float *y = up_row(a->y, n);
        double square = 0;
        for (int64_t d = 0; d < a->x.cols; d++) square += (double)x[d] * x[d];
        double rnorm = 1 / fmax(sqrt(square), shortest);
        for (int64_t d = 0; d < a->x.cols; d++) y[d] = (float)(x[d] * rnorm);
        up_row(a->rnorm, n)[0] = (float)rnorm;
    }
    return UP_OK;
}

/* y = x / |x|: dx = (dy - y (y . dy)) / |x|; where the length was clamped it is a constant and the projection
 * falls out. What reached x another way is added. */
up_status up_ref_l2norm_bwd(up_backend *b, const up_l2norm_grad *a) {
    (void)b;
    for (int64_t n = 0; n < a->y.rows; n++) {
        const float *y = up_row(a->y, n), *dy = up_row(a->dy, n);
        const float *past = up_view_present(a->past) ? up_row(a->past, n) : NULL;
        float *dx = up_row(a->dx, n), rnorm = up_row(a->rnorm, n)[0];
        double along = 0;
        if (rnorm < (float)(1 / shortest))
            for (int64_t d = 0; d < a->y.cols; d++) along += (double)y[d] * dy[d];
        for (int64_t d = 0; d < a->y.cols; d++)
            dx[d] = (float)((dy[d] - y[d] * along) * rnorm + (past ? past[d] : 0));
    }
    return UP_OK;
}
