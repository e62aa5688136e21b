/* features.h - features of sequences on the device: as the encoder gives them, scaled to length 1 for the
 * cosine of paper equation 2, and the sum of the gradients that losses send back. Inputs and target sets hold
 * theirs alike.
 */
#ifndef UNIPERCEIVER_FEATURES_H
#define UNIPERCEIVER_FEATURES_H

#include "uniperceiver/gradients.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct up_features {
    up_backend *backend;     /* borrowed */
    int64_t rows, width;     /* R, D */
    up_view raw;             /* f32 [R, D] f */
    up_view unit;            /* f32 [R, D] u = f / max(|f|, 1e-12) */
    up_view rnorm;           /* f32 [R, 1] */
    up_view dunit, draw;     /* f32 [R, D] sums of gradients; absent without `gradients` */
    int has_dunit, has_draw; /* 0: nothing came yet, the next gradient sets (=), later ones add */

    up_buffer *buffer; /* private */
    int64_t capacity;
    int with_gradients, with_head;
} up_features;

/* Empty features for a model's width. Free with up_features_free (fine on a zeroed struct). */
UP_API up_status up_features_create(up_model *model, int with_gradients, up_features *out);
UP_API void up_features_free(up_features *features);
/* Make room for R rows; what was there is gone, gradients too. */
UP_API up_status up_features_resize(up_features *features, int64_t rows);
/* raw -> unit, rnorm. */
UP_API up_status up_features_normalize(up_features *features);
/* The sums of gradients -> draw, the gradient of raw; they count as empty afterwards. Where no loss sent any:
 * 0. */
UP_API up_status up_features_back(up_features *features);
/* unit [R, D] to the host; waits. Not finite: UP_ERR_NUMERIC. */
UP_API up_status up_features_read(const up_features *features, float *out);

#ifdef __cplusplus
}
#endif
#endif
