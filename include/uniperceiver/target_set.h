/* target_set.h - the candidate targets Y of a task as one thing with one owner: sequences (class names,
 * vocabulary entries, answers, texts of a batch, example pictures or clips), their features, and the sum of
 * the gradients that losses send back. Paper section 3.1; "data parallel for vocabulary and class labels" of
 * appendix E is why sets are chunked.
 *
 * A set is encoded once per state of the weights, however many queries and losses use it; its gradient goes
 * back once. Whole sets of up to a budget of tokens keep their activations until then; larger ones are
 * encoded in chunks without keeping any, and each chunk a second time, with activations, on the way back.
 * Both are exact, and equal: all random choices belong to (set key, entry, step).
 */
#ifndef UNIPERCEIVER_TARGET_SET_H
#define UNIPERCEIVER_TARGET_SET_H

#include "uniperceiver/comm.h"
#include "uniperceiver/encoder.h"
#include "uniperceiver/features.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct up_target_set up_target_set;

/* An empty set for a model. `key` tells sets apart where random choices are drawn (drop path). */
UP_API up_status up_target_set_create(up_model *model, uint64_t key, int with_gradients, up_target_set **out);
UP_API void up_target_set_free(up_target_set *set); /* NULL is fine */

/* The sequences: TAKEN from the batch, which is left empty but usable. One read-out a sequence: target i is
 * sequence i. What was in the set before is gone, with the gradients that it owed; where the batch is
 * refused, it stays. */
UP_API up_status up_target_set_fill(up_target_set *set, up_batch *sequences);
/* Text targets from token ids: one sequence [<SPE>, ids] each; starts [n + 1] are offsets into ids. A
 * failure, here and below, leaves the set empty. */
UP_API up_status up_target_set_fill_texts(up_target_set *set, const int32_t *ids, const int64_t *starts,
                                          int64_t n);
/* Vocabulary entries: [<SPE>, v, <|endoftext|>] for each id, with `end` the id of the end token; keys are the
 * ids. */
UP_API up_status up_target_set_fill_words(up_target_set *set, const int32_t *ids, int64_t n, int32_t end);
UP_API int64_t up_target_set_count(const up_target_set *set);
UP_API int64_t up_target_set_tokens(const up_target_set *set); /* of its sequences */

/* From now on its sequences are divided over the ranks of a communicator (borrowed), in runs of about as many
 * tokens: each rank encodes its own, features are gathered, and the sum over the ranks of what all losses
 * sent back goes back where they were encoded. So encoding and going back are exchanges, made by every rank
 * alike, those that owe nothing too. One rank: nothing changes. */
UP_API void up_target_set_divide(up_target_set *set, up_comm *comm);
UP_API int up_target_set_divided(const up_target_set *set);
/* Sequences that this rank encodes: all of them where the set is not divided. */
UP_API int64_t up_target_set_own(const up_target_set *set);

/* How sets are encoded. */
typedef struct up_set_encoders {
    up_encoder *whole; /* made with gradients: for sets that fit; NULL in inference */
    up_encoder *chunk; /* made with gradients: for chunks on the way back (may be the inputs' own, when that
                          is done) */
    up_encoder *scout; /* made without: for chunks on the way forth */
    int tokens; /* of a chunk: few enough to stay in the caches, many enough for wide products; 0: 1536 */
    size_t whole_bytes; /* sets whose activations take no more are kept whole, too; 0: those of one chunk
                           alone */
    double drop_path;   /* probability; 0: nothing is dropped */
    uint64_t seed, step;
} up_set_encoders;

/* Make the features fresh: nothing happens where the weights (up_model_version), the sequences and the draws
 * of drop path (probability, seed, step) are those of the last time. Refused while the set owes gradients. */
UP_API up_status up_target_set_encode(up_target_set *set, const up_set_encoders *how);
/* Features `raw` [V, D] that an encoding of the same sequences with the present weights gave, and that were
 * kept: they count as fresh, and none is encoded. Refused while the set owes gradients. */
UP_API up_status up_target_set_restore(up_target_set *set, const float *raw);
/* Its features: raw and unit [V, D]; valid until it is encoded again. */
UP_API up_features *up_target_set_features(up_target_set *set);
/* Whether a loss sent gradients that have not gone back yet. */
UP_API int up_target_set_owes(const up_target_set *set);
/* Send the sum of its gradients back through the encoder, with the draws that it was encoded with. `done`: as
 * in up_encoder_backward, called in the last chunk. */
UP_API up_status up_target_set_backward(up_target_set *set, const up_set_encoders *how, up_bucket_done done,
                                        void *context);

/* Tokens that went through the encoder for it, forth and back, since it was made. */
UP_API int64_t up_target_set_encoded(const up_target_set *set);
/* Floating-point operations that its features and the gradients behind them needed since it was made (this
 * rank's where it is divided): chunks that went forth twice count once. */
UP_API double up_target_set_needed(const up_target_set *set);

#ifdef __cplusplus
}
#endif
#endif
