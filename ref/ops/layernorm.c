/* layernorm.c - layer normalisation (Ba, Kiros and Hinton 2016) of each token; the encoder is pre-norm, so
 * every branch begins with one, and each tokenizer ends with one. */
#include "ref/ops/ops.h"

#include <math.h>

up_status up_ref_layernorm(up_backend *b, const up_layernorm_args *a) {
    (void)b;
    const float *weight = up_f32(a->weight), *bias = up_f32(a->bias); /* [D] */
    int64_t D = a->x.cols;
    for (int64_t n = 0; n < a->x.rows; n++) {
        double mean = 0, variance = 0;
        for (int64_t d = 0; d < D; d++) mean += up_get(a->x, n, d);
        mean /= (double)D;
        for (int64_t d = 0; d < D; d++) {
            double x = up_get(a->x, n, d) - mean;
            variance += x * x;
        }
        double rstd = 1 / sqrt(variance / (double)D + a->eps);
        for (int64_t d = 0; d < D; d++)
            up_put(a->y, n, d, (up_get(a->x, n, d) - mean) * rstd * weight[d] + bias[d]);
        up_row(a->stats, n)[0] = (float)mean;
        up_row(a->stats, n)[1] = (float)rstd;
    }
    return UP_OK;
}

/* y = xhat * weight + bias: dweight += sum over n of dy * xhat, xhat = (x - mean) * rstd. */
static void add_weight_gradient(const up_layernorm_grad *a) {
    for (int64_t d = 0; d < a->x.cols; d++) {
        double total = up_f32(a->dweight)[d];
        for (int64_t n = 0; n < a->x.rows; n++) {
            const float *stats = up_row(a->stats, n);
            total += up_get(a->dy, n, d) * ((up_get(a->x, n, d) - stats[0]) * stats[1]);
        }
        up_f32(a->dweight)[d] = (float)total;
    }
}

/* xhat = (x - mean) * rstd: with g = dy * weight, dx = rstd * (g - average(g) - xhat * average(g * xhat)). */
static void row_backward(const up_layernorm_grad *a, int64_t n) {
    const float *weight = up_f32(a->weight); /* [D] */
    int64_t D = a->x.cols;
    double mean = up_row(a->stats, n)[0], rstd = up_row(a->stats, n)[1], g_sum = 0, gx_sum = 0;
    for (int64_t d = 0; d < D; d++) {
        double g = up_get(a->dy, n, d) * weight[d];
        g_sum += g;
        gx_sum += g * (up_get(a->x, n, d) - mean) * rstd;
    }
    for (int64_t d = 0; d < D; d++) {
        double g = up_get(a->dy, n, d) * weight[d], xhat = (up_get(a->x, n, d) - mean) * rstd;
        double past = up_view_present(a->residual) ? up_get(a->residual, n, d) : 0;
        up_put(a->dx, n, d, rstd * (g - g_sum / (double)D - xhat * gx_sum / (double)D) + past);
    }
}

up_status up_ref_layernorm_bwd(up_backend *b, const up_layernorm_grad *a) {
    (void)b;
    if (up_view_present(a->dweight)) add_weight_gradient(a); /* before dx, which may lie on dy */
    if (up_view_present(a->dbias)) up_ref_add_columns(a->dbias, a->dy, (up_view){0}, 0, 0);
    for (int64_t n = 0; n < a->x.rows && up_view_present(a->dx); n++) row_backward(a, n);
    return UP_OK;
}
