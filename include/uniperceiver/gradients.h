/* gradients.h - what learns in a run, and its gradients: one f32 buffer over the learning parameters alone,
 * in buckets that are complete one after the other as a backward pass goes down. Which parameters learn
 * belongs to the run, not to the model: all of them, or groups (the paper's Table 9 for prompt tuning).
 */
#ifndef UNIPERCEIVER_GRADIENTS_H
#define UNIPERCEIVER_GRADIENTS_H

#include "uniperceiver/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct up_gradients up_gradients;

/* `groups`: bits 1 << up_param_group of the groups that learn; 0: everything that can. Of an overlay only its
 * own tensors can learn. Gradients start at 0. The model is borrowed. */
UP_API up_status up_gradients_create(up_model *model, unsigned groups, up_gradients **out);
UP_API void up_gradients_free(up_gradients *gradients); /* NULL is fine */

/* The gradient of a parameter; absent where it does not learn (or is -1, or `gradients` is NULL). */
UP_API up_view up_gradient(const up_gradients *gradients, int param);
UP_API int up_learns(const up_gradients *gradients, int param);
/* All of them, f32 [1, total], padding 0; and how many numbers learn, by group, padding not counted. */
UP_API up_view up_gradients_all(const up_gradients *gradients);
UP_API int64_t up_gradients_count(const up_gradients *gradients, int64_t counts[UP_GROUP_COUNT]);
/* Where a parameter's numbers begin in that view (and in the optimiser's moments); -1: it does not learn. */
UP_API int64_t up_gradients_place(const up_gradients *gradients, int param);

/* Buckets are neighbours in that view, in the order in which a backward pass completes them: what lies behind
 * the encoder, layers L-1 .. 0, then the embeddings. */
UP_API int up_gradients_buckets(const up_gradients *gradients);
UP_API up_view up_gradients_bucket(const up_gradients *gradients,
                                   int bucket); /* 0 columns where nothing learns in it */
/* The lowest layer that a backward pass must reach: 0..L-1, -1 for the embeddings, L where nothing below the
 * features learns. */
UP_API int up_gradients_lowest(const up_gradients *gradients);

UP_API up_model *up_gradients_model(const up_gradients *gradients);

#ifdef __cplusplus
}
#endif
#endif
