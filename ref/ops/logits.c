/* logits.c - similarities of inputs and targets over the temperature (paper equation 2): z = scale * a b',
 * where a and b are features of length 1 and scale = 1 / tau = exp(log_scale), at most 100. */
#include "ref/ops/ops.h"

#include <math.h>

static double clamped_scale(up_view log_scale) {
    return fmin(exp(up_f32(log_scale)[0]), UP_MAX_LOGIT_SCALE);
}

up_status up_ref_logits(up_backend *b, const up_logits_args *a) {
    (void)b;
    up_view none = {0};
    up_ref_gemm(a->a.cols, clamped_scale(a->log_scale), up_ref_plain(a->a), up_ref_transposed(a->b), NULL,
                none, a->z);
    return UP_OK;
}

/* z = scale * a b' */
up_status up_ref_logits_bwd(up_backend *b, const up_logits_grad *a) {
    (void)b;
    up_view none = {0};
    double scale = clamped_scale(a->log_scale);
    if (up_view_present(a->da))
        up_ref_gemm(a->dz.cols, scale, up_ref_plain(a->dz), up_ref_plain(a->b), NULL, none, a->da);
    if (up_view_present(a->db))
        up_ref_gemm(a->dz.rows, scale, up_ref_transposed(a->dz), up_ref_plain(a->a), NULL, none, a->db);
    /* scale = exp(log_scale): dz/dlog_scale = z; a clamped scale is a constant */
    if (!up_view_present(a->dlog_scale) || exp(up_f32(a->log_scale)[0]) > UP_MAX_LOGIT_SCALE) return UP_OK;
    double total = 0; /* sum of dz z, with z = scale a b' made again: dz may lie where z was */
    for (int64_t q = 0; q < a->dz.rows; q++)
        for (int64_t v = 0; v < a->dz.cols; v++) {
            double cosine = 0;
            for (int64_t d = 0; d < a->a.cols; d++) cosine += (double)up_row(a->a, q)[d] * up_row(a->b, v)[d];
            total += scale * up_row(a->dz, q)[v] * cosine;
        }
    up_f32(a->dlog_scale)[0] = (float)(up_f32(a->dlog_scale)[0] + total);
    return UP_OK;
}
