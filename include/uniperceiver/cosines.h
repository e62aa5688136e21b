/* cosines.h - how alike features are, as numbers on the host: the dot products of unit features, paper
 * equation 2 before the temperature. Answers and metrics come from these; losses (loss.h) never see them.
 */
#ifndef UNIPERCEIVER_COSINES_H
#define UNIPERCEIVER_COSINES_H

#include "uniperceiver/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct up_cosines up_cosines; /* working memory for one backend, which is borrowed */

UP_API up_status up_cosines_create(up_backend *backend, up_cosines **out);
UP_API void up_cosines_free(up_cosines *cosines); /* NULL is fine */

/* out [Q, V], dense: product of each row of x [Q, D] with each row of y [V, D], both f32; of rows of length 1
 * their cosine. Waits.
 * As much memory as `out` is taken on the device: give large sets in tiles of rows (up_view_rows). */
UP_API up_status up_cosines_read(up_cosines *cosines, up_view x, up_view y, float *out);

/* The same times `scale`, as logits of a softmax over the rows of y: log P(row j of y | row i of x) is
 * logits[i, j] - lse[i]. logits [Q, V], lse [Q]. */
UP_API up_status up_cosines_logits(up_cosines *cosines, up_view x, up_view y, double scale, float *logits,
                                   float *lse);

#ifdef __cplusplus
}
#endif
#endif
