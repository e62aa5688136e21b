/* logits.c - similarities of inputs and targets over the temperature (paper equation 2): z = scale * a b',
 * where a and b are features of length 1 and scale = 1 / tau = exp(log_scale), at most 100; behind a linear
 * head, alpha times that is added to the head's part (equation 4). */
#include "ref/ops/ops.h"

#include <math.h>

static double clamped_scale(up_view log_scale) {
    return fmin(exp(up_f32(log_scale)[0]), UP_MAX_LOGIT_SCALE);
}

static double alpha_of(up_view alpha) {
    return up_view_present(alpha) ? up_f32(alpha)[0] : 1;
}

/* The result and what multiplies the product. */
typedef struct scaled {
    up_view c, bias;
    double factor;
    int add;
} scaled;

static void finish(const void *context, int64_t i, int64_t j, double sum) {
    const scaled *s = context;
    double v = s->factor * sum;
    if (up_view_present(s->bias)) v += up_f32(s->bias)[j];
    if (s->add) v += up_get(s->c, i, j);
    up_put(s->c, i, j, v);
}

up_status up_ref_logits(up_backend *b, const up_logits_args *a) {
    (void)b;
    scaled s = {a->z, a->bias, alpha_of(a->alpha) * clamped_scale(a->log_scale), a->add};
    up_ref_gemm(a->z.rows, a->z.cols, a->a.cols, up_ref_plain(a->a), up_ref_transposed(a->b), finish, &s);
    return UP_OK;
}

/* z = alpha scale a b': the factor of da is left for the end, so that alpha and log_scale find sum da a. */
up_status up_ref_logits_bwd(up_backend *b, const up_logits_grad *a) {
    (void)b;
    scaled da = {a->da, {0}, 1, a->add_a};
    scaled db = {a->db, {0}, alpha_of(a->alpha) * clamped_scale(a->log_scale), a->add_b};
    if (up_view_present(a->da))
        up_ref_gemm(a->da.rows, a->da.cols, a->dz.cols, up_ref_plain(a->dz), up_ref_plain(a->b), finish, &da);
    if (up_view_present(a->db))
        up_ref_gemm(a->db.rows, a->db.cols, a->dz.rows, up_ref_transposed(a->dz), up_ref_plain(a->a), finish,
                    &db);
    return UP_OK;
}

/* z = alpha exp(log_scale) a b': with s = sum of da a = sum of dz a b', dlog_scale += alpha scale s, and
 * dalpha += scale s; a clamped scale is a constant. */
up_status up_ref_logits_scale_bwd(up_backend *b, const up_logits_scale_grad *a) {
    (void)b;
    double scale = clamped_scale(a->log_scale), alpha = alpha_of(a->alpha), s = 0;
    for (int64_t q = 0; q < a->da.rows; q++)
        for (int64_t d = 0; d < a->da.cols; d++) s += (double)up_row(a->da, q)[d] * up_row(a->a, q)[d];
    if (up_view_present(a->dlog_scale) && exp(up_f32(a->log_scale)[0]) <= UP_MAX_LOGIT_SCALE)
        up_f32(a->dlog_scale)[0] = (float)(up_f32(a->dlog_scale)[0] + alpha * scale * s);
    if (up_view_present(a->dalpha)) up_f32(a->dalpha)[0] = (float)(up_f32(a->dalpha)[0] + scale * s);
    for (int64_t q = 0; q < a->sum.rows && up_view_present(a->sum); q++)
        for (int64_t d = 0; d < a->sum.cols; d++)
            up_put(a->sum, q, d, alpha * scale * up_row(a->da, q)[d] + (a->add ? up_row(a->sum, q)[d] : 0));
    return UP_OK;
}
