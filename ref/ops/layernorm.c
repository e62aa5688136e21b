/* layernorm.c - layer normalisation (Ba, Kiros and Hinton 2016) of each token; the encoder is pre-norm, so
 * every branch begins with one, and each tokenizer ends with one. */
#include "ref/ops/ops.h"

#include <math.h>

up_status up_ref_layernorm(up_backend *b, const up_layernorm_args *a) {
    (void)b;
    const float *weight = up_f32(a->weight), *bias = up_f32(a->bias); /* [D] */
    int64_t D = a->x.cols;
    for (int64_t n = 0; n < a->x.rows; n++) {
        const float *x = up_row(a->x, n);
        float *y = up_row(a->y, n), *stats = up_row(a->stats, n);
        double mean = 0, variance = 0;
        for (int64_t d = 0; d < D; d++) mean += x[d];
        mean /= (double)D;
        for (int64_t d = 0; d < D; d++) variance += (x[d] - mean) * (x[d] - mean);
        double rstd = 1 / sqrt(variance / (double)D + a->eps);
        for (int64_t d = 0; d < D; d++) y[d] = (float)((x[d] - mean) * rstd * weight[d] + bias[d]);
        stats[0] = (float)mean;
        stats[1] = (float)rstd;
    }
    return UP_OK;
}

/* y = xhat * weight + bias: dweight += sum over n of dy * xhat, xhat = (x - mean) * rstd. */
static void add_weight_gradient(const up_layernorm_grad *a) {
    enum { BLOCK = 64 };
    for (int64_t d0 = 0; d0 < a->x.cols; d0 += BLOCK) {
        int64_t count = a->x.cols - d0 < BLOCK ? a->x.cols - d0 : BLOCK;
        double total[BLOCK] = {0};
        for (int64_t n = 0; n < a->x.rows; n++) {
            const float *x = up_row(a->x, n) + d0, *dy = up_row(a->dy, n) + d0, *stats = up_row(a->stats, n);
            for (int64_t d = 0; d < count; d++) total[d] += dy[d] * ((x[d] - (double)stats[0]) * stats[1]);
        }
        float *dweight = up_f32(a->dweight) + d0;
        for (int64_t d = 0; d < count; d++) dweight[d] = (float)(dweight[d] + total[d]);
    }
}

/* xhat = (x - mean) * rstd: with g = dy * weight, dx = rstd * (g - average(g) - xhat * average(g * xhat)). */
up_status up_ref_layernorm_bwd(up_backend *b, const up_layernorm_grad *a) {
    (void)b;
    up_view none = {0};
    if (up_view_present(a->dweight)) add_weight_gradient(a); /* before dx, which may lie on dy */
    if (up_view_present(a->dbias)) up_ref_add_columns(a->dbias, a->dy, none);
    if (!up_view_present(a->dx)) return UP_OK;
    const float *weight = up_f32(a->weight); /* [D] */
    int64_t D = a->x.cols;
    for (int64_t n = 0; n < a->x.rows; n++) {
        const float *x = up_row(a->x, n), *dy = up_row(a->dy, n);
        const float *past = up_view_present(a->residual) ? up_row(a->residual, n) : NULL;
        float *dx = up_row(a->dx, n);
        double mean = up_row(a->stats, n)[0], rstd = up_row(a->stats, n)[1], g_sum = 0, gx_sum = 0;
        for (int64_t d = 0; d < D; d++) {
            double g = (double)dy[d] * weight[d];
            g_sum += g;
            gx_sum += g * (x[d] - mean) * rstd;
        }
        for (int64_t d = 0; d < D; d++) {
            double g = (double)dy[d] * weight[d], xhat = (x[d] - mean) * rstd;
            dx[d] =
                (float)(rstd * (g - g_sum / (double)D - xhat * gx_sum / (double)D) + (past ? past[d] : 0));
        }
    }
    return UP_OK;
}
