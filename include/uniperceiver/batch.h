/* batch.h - packed batches: sequences of text, image and video tokens laid end to end, no padding anywhere.
 *
 * A batch is plain host memory; the model uploads it. Rows (tokens) are numbered 0..N-1 in the order of the
 * sequences. Each token is a text token or a patch; the tokenizers fill dense arrays and say to which row
 * each element belongs. Build: up_batch_begin, then for each sequence up_batch_open, parts, up_batch_close.
 */
#ifndef UNIPERCEIVER_BATCH_H
#define UNIPERCEIVER_BATCH_H

#include "uniperceiver/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct up_patch_rows {
    int count;
    float *pixels;               /* [count, 3 * patch * patch] */
    int32_t *cell, *frame, *row; /* [count]; frame -1: no temporal embedding */
} up_patch_rows;

typedef struct up_batch {
    int tokens, sequences;
    int32_t *sequence; /* [S, UP_SEQ_FIELDS] */

    int text_count; /* text tokens: id (-1: <SPE>), position (-1: bare, no position and type), row */
    int32_t *text_id, *text_position, *text_row;
    up_patch_rows image, video;

    int queries, targets; /* rows read out as inputs x (Q) and as targets y (V) */
    int32_t *query_row, *target_row;
    int max_keys; /* longest sequence */

    /* private: capacities and the sequence being built */
    int patch_values, capacity_tokens, capacity_sequences, capacity_text, capacity_image, capacity_video;
    int capacity_queries, capacity_targets, open;
} up_batch;

typedef enum up_side { UP_SIDE_INPUT, UP_SIDE_TARGET } up_side;

/* Start an empty batch for a model; on a used batch its memory is kept. Free with up_batch_free. */
UP_API up_status up_batch_begin(up_batch *batch, const up_config *config);
UP_API void up_batch_free(up_batch *batch);

/* Start a sequence with the leading bare <SPE>; `read` 1: that token is read out on the sequence's side. */
UP_API up_status up_batch_open(up_batch *batch, up_side side, int read);
/* Append text tokens at positions first_position, ... ; where read[i] is 1 (may be NULL) the token's row is
 * read out. */
UP_API up_status up_batch_text(up_batch *batch, const int32_t *ids, int count, int first_position,
                               const uint8_t *read);
/* Append an image: patches [cells, 3 * patch * patch] as up_image_patches writes them. */
UP_API up_status up_batch_image(up_batch *batch, const up_config *config, const float *patches, int cells);
/* Append a clip: [frames * cells, 3 * patch * patch]; frame f gets temporal row first_frame + f. */
UP_API up_status up_batch_video(up_batch *batch, const up_config *config, const float *patches, int frames,
                                int cells, int first_frame);
/* Append n words and their n slots (paper appendix B): words at positions 0..n-1, slots are <SPE> at the same
 * positions and are read out, slot i predicting word i. Must be the last part of its sequence; makes its mask
 * kind DOUBLED. */
UP_API up_status up_batch_words_and_slots(up_batch *batch, const int32_t *words, int count);
/* End the sequence. */
UP_API up_status up_batch_close(up_batch *batch);

#ifdef __cplusplus
}
#endif
#endif
