/* adamw.c - the end of a step: the gradient's norm, clipping by it (Pascanu et al. 2013) and the loss scale
 * (Micikevicius et al. 2018), and AdamW with decoupled weight decay (Loshchilov and Hutter 2019). A gradient
 * whose norm is not finite changes no weight. */
#include "ref/ops/ops.h"

#include <math.h>

up_status up_ref_sqnorm(up_backend *b, const up_sqnorm_args *a) {
    (void)b;
    double total = 0;
    for (int64_t n = 0; n < a->x.rows; n++)
        for (int64_t d = 0; d < a->x.cols; d++) total += (double)up_row(a->x, n)[d] * up_row(a->x, n)[d];
    up_f32(a->out)[0] = (float)total;
    return UP_OK;
}

/* The scale grows after so many good steps, and halves where it was too large. */
static void adapt_scale(const up_step_args *a, float *control) {
    if (control[UP_STEP_SKIPPED] != 0) {
        control[UP_STEP_GOOD] = 0;
        if (a->good_steps > 0)
            control[UP_STEP_SCALE] = (float)fmax(control[UP_STEP_SCALE] / 2.0, a->min_scale);
        return;
    }
    control[UP_STEP_GOOD] += 1;
    if (a->good_steps == 0 || control[UP_STEP_GOOD] < (float)a->good_steps) return;
    control[UP_STEP_SCALE] *= 2;
    control[UP_STEP_GOOD] = 0;
}

up_status up_ref_step(up_backend *b, const up_step_args *a) {
    (void)b;
    float *control = up_f32(a->control);
    double square = 0, scale = control[UP_STEP_SCALE];
    for (int64_t i = 0; i < a->sqnorms.cols; i++) square += up_f32(a->sqnorms)[i];
    double norm = sqrt(square) / scale;
    double clip = a->max_norm > 0 ? fmin(1, a->max_norm / (norm + 1e-6)) : 1;
    int finite = isfinite(norm);
    control[UP_STEP_NORM] = (float)norm;
    control[UP_STEP_SKIPPED] = !finite;
    control[UP_STEP_FACTOR] = finite ? (float)(clip / scale) : 0;
    control[UP_STEP_COUNT] += (float)finite;
    adapt_scale(a, control);
    return UP_OK;
}

/* What all weights of one segment share. */
typedef struct rule {
    double factor, rate, decay, correction1, correction2; /* 1 - beta^t */
} rule;

static void update(const up_adamw_args *a, const rule *r, int64_t weight, int64_t state) {
    float *w = up_f32(a->weights) + weight, *m = up_f32(a->m) + state, *v = up_f32(a->v) + state;
    double g = r->factor * up_f32(a->grad)[state];
    double mean = a->beta1 * *m + (1 - a->beta1) * g, square = a->beta2 * *v + (1 - a->beta2) * g * g;
    double step = mean / r->correction1 / (sqrt(square / r->correction2) + a->eps);
    *w = (float)(*w - r->rate * (step + r->decay * *w));
    *m = (float)mean;
    *v = (float)square;
}

static void update_segment(const up_adamw_args *a, int64_t s) {
    const int32_t *f = up_i32(a->segments) + s * a->segments.stride;
    const float *control = up_f32(a->control);
    int64_t weight = (int64_t)f[UP_SEGMENT_WEIGHT] * UP_SEGMENT_UNIT;
    int64_t state = (int64_t)f[UP_SEGMENT_STATE] * UP_SEGMENT_UNIT;
    int64_t count = (int64_t)f[UP_SEGMENT_COUNT] * UP_SEGMENT_UNIT;
    double t = control[UP_STEP_COUNT], rate = up_view_present(a->rates) ? up_row(a->rates, s)[0] : 1;
    rule r = {.factor = control[UP_STEP_FACTOR],
              .rate = rate * control[UP_STEP_LR],
              .decay = f[UP_SEGMENT_DECAY] ? a->decay : 0,
              .correction1 = 1 - pow(a->beta1, t),
              .correction2 = 1 - pow(a->beta2, t)};
    for (int64_t k = 0; k < count; k++) update(a, &r, weight + k, state + k);
}

up_status up_ref_adamw(up_backend *b, const up_adamw_args *a) {
    (void)b;
    int skipped = up_f32(a->control)[UP_STEP_SKIPPED] != 0;
    for (int64_t s = 0; s < a->segments.rows && !skipped; s++) update_segment(a, s);
    up_ref_zero(a->grad);
    return UP_OK;
}
