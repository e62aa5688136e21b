/* optimizer.h - AdamW over what learns (paper section 4.2): moments for that alone, one call for all tensors,
 * clipping by the global norm, dynamic loss scale for f16. Rate, count, scale and norm live on the device; a
 * step waits for nothing.
 */
#ifndef UNIPERCEIVER_OPTIMIZER_H
#define UNIPERCEIVER_OPTIMIZER_H

#include "uniperceiver/gradients.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct up_optimizer up_optimizer;

typedef struct up_adamw {
    double beta1, beta2, eps, decay;
    double max_norm;    /* clip the global gradient norm; 0: do not */
    double loss_scale;  /* at the start; 0 counts as 1 */
    int good_steps;     /* the loss scale is doubled after so many, halved on overflow; 0: it stays */
    double min_scale;   /* its floor */
    double layer_decay; /* layer-wise decay d of the rate: what lies behind the encoder learns at the full
                           rate, layer l at d^(L - l) of it, the embeddings at d^(L + 1). 0 counts as 1 */
} up_adamw;

typedef struct up_step_value {
    double gradient_norm; /* before clipping, without the loss scale */
    double loss_scale;    /* that the next step will use */
    int64_t steps;        /* done so far, skipped ones not counted */
    int skipped;          /* 1: the gradient was not finite; weights and moments are untouched */
} up_step_value;

/* Moments start at 0. The gradients (and through them the model) are borrowed. */
UP_API up_status up_optimizer_create(up_gradients *gradients, const up_adamw *adamw, up_optimizer **out);
UP_API void up_optimizer_free(up_optimizer *optimizer); /* NULL is fine */

/* f32 [1, 1] on the device: what losses multiply their gradients by. */
UP_API up_view up_optimizer_scale(const up_optimizer *optimizer);

/* A bucket of the gradients is complete for this step: take its norm while it is in cache; what is added to
 * it later is not in the norm. Of type up_bucket_done, with the optimiser as context. Buckets that nobody
 * reported are taken by the step. */
UP_API up_status up_optimizer_bucket_done(void *optimizer, int bucket);

/* One step at a learning rate; the gradients are 0 afterwards, the model's version is one more. Waits for
 * nothing. */
UP_API up_status up_optimizer_step(up_optimizer *optimizer, double lr);

/* Norm, scale and count of a step. `late` 0: of the latest; 1: of the one before it, whose numbers are on the
 * host already, so that the device is not held up. *known 0: there was no such step, and *value is zero. */
UP_API up_status up_optimizer_value(up_optimizer *optimizer, int late, up_step_value *value, int *known);

/* State, for checkpoints: moments [1, total] of order 1 (m) and 2 (v) in the gradients' layout; the control
 * numbers. */
UP_API up_view up_optimizer_moments(const up_optimizer *optimizer, int order);
UP_API up_view up_optimizer_moment(const up_optimizer *optimizer, int order,
                                   int param); /* absent: does not learn */
typedef struct up_optimizer_state {
    int64_t steps;
    double loss_scale;
    int64_t good_steps; /* since the scale last changed */
} up_optimizer_state;
UP_API up_status up_optimizer_get(up_optimizer *optimizer, up_optimizer_state *state); /* waits */
UP_API up_status up_optimizer_set(up_optimizer *optimizer, const up_optimizer_state *state);
/* Numbers that learn, by group: the optimiser's own count (Table 9). */
UP_API int64_t up_optimizer_count(const up_optimizer *optimizer, int64_t counts[UP_GROUP_COUNT]);

#ifdef __cplusplus
}
#endif
#endif
