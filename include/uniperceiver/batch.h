/* batch.h - packed batches: sequences of text, image and video tokens laid end to end, no padding anywhere.
 *
 * A batch is plain host memory; an encoder uploads it. Rows (tokens) are numbered 0..N-1 in the order of the
 * sequences. Each token is a text token or a patch; the tokenizers fill dense arrays and say to which row
 * each element belongs. Build: up_batch_begin, then for each sequence up_batch_open, parts, up_batch_close.
 * The parts' order is free, but words with slots come last. To add a modality: an array of its tokens here,
 * its embedding in ref/model/embed.c.
 */
#ifndef UNIPERCEIVER_BATCH_H
#define UNIPERCEIVER_BATCH_H

#include "uniperceiver/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Patches of pictures or of clips: bytes, which the model normalises (up_pixel_levels), or, where a part
 * came as values, values for all. */
typedef struct up_patch_rows {
    int count;
    uint8_t *bytes;              /* [count, 3 * patch * patch]; NULL where `values` is used */
    float *values;               /* [count, 3 * patch * patch] normalised; NULL where `bytes` is used */
    int32_t *cell, *frame, *row; /* [count]; frame -1: no temporal embedding */
    int capacity;                /* private */
} up_patch_rows;

typedef struct up_batch {
    int tokens, sequences;
    int32_t *sequence; /* [S, UP_SEQ_FIELDS] */
    uint64_t *key; /* [S] who a sequence is: what its random choices (drop path) are drawn by. Its place by
                      default */

    int text_count; /* text tokens: id (UP_ID_SPE: <SPE>), position (-1: bare, no position and type), row */
    int32_t *text_id, *text_position, *text_row;
    up_patch_rows image, video;

    int readouts; /* R: rows whose encoder output is wanted, ascending */
    int32_t *readout_row;
    int max_keys; /* longest sequence, cached keys included */
    int cached;   /* 1: sequences stand behind cached keys (up_batch_continue) */

    /* private: capacities and the sequence being built */
    up_config config; /* of the model that it was begun for */
    int capacity_sequences, capacity_text, capacity_readouts, open;
} up_batch;

typedef enum up_side { UP_SIDE_INPUT, UP_SIDE_TARGET } up_side;

/* Start an empty batch for a model; on a used batch its memory is kept. Free with up_batch_free, which leaves
 * a zeroed struct, the state to begin with. */
UP_API up_status up_batch_begin(up_batch *batch, const up_config *config);
UP_API void up_batch_free(up_batch *batch);

/* Start a sequence with the leading bare <SPE>; `read` 1: that token is read out. `side` chooses the prompts.
 */
UP_API up_status up_batch_open(up_batch *batch, up_side side, int read);
/* Start a sequence without a leading token whose `cached` keys stand at rows key_start.. of a cache
 * (decoder.h); its own tokens follow them there and see all before them: UP_MASK_CAUSAL. All sequences of a
 * batch are of this kind, or none. */
UP_API up_status up_batch_continue(up_batch *batch, up_side side, int key_start, int cached);
/* Append text tokens at positions first_position, ...; where read[i] is 1 (may be NULL) the token's row is
 * read out. */
UP_API up_status up_batch_text(up_batch *batch, const int32_t *ids, int count, int first_position,
                               const uint8_t *read);
/* Append an image: patches [cells, 3 * patch * patch] as up_image_patches writes them, bytes or normalised
 * values. */
UP_API up_status up_batch_image(up_batch *batch, const uint8_t *patches, int cells);
UP_API up_status up_batch_image_values(up_batch *batch, const float *patches, int cells);
/* Append a clip: [frames * cells, 3 * patch * patch]; frame f gets temporal row first_frame + f. */
UP_API up_status up_batch_video(up_batch *batch, const uint8_t *patches, int frames, int cells,
                                int first_frame);
UP_API up_status up_batch_video_values(up_batch *batch, const float *patches, int frames, int cells,
                                       int first_frame);
/* Append n words and their n slots (paper appendix B): words at positions 0..n-1, slots are <SPE> at the same
 * positions and are read out, slot i predicting word i. Must be the last part of its sequence; makes its mask
 * kind DOUBLED. */
UP_API up_status up_batch_words_and_slots(up_batch *batch, const int32_t *words, int count);
/* End the sequence; up_batch_close_as also says who it is (`key`). */
UP_API up_status up_batch_close(up_batch *batch);
UP_API up_status up_batch_close_as(up_batch *batch, uint64_t key);

/* Append sequences first..first + count - 1 of another batch of the same model, with their keys. A batch that
 * an appending call failed on is not whole: begin it anew, or keep what was whole. */
UP_API up_status up_batch_append(up_batch *batch, const up_batch *from, int first, int count);

/* Keep the first `sequences` alone, which were closed: those behind them are gone, an open one among them. */
UP_API up_status up_batch_keep(up_batch *batch, int sequences);

/* Everything in it fits the model: ids, positions, cells, frames in their tables, every row one token,
 * sequences inside, nothing open. Whatever was written into the struct, a batch that passes is computed
 * without reading outside any tensor. */
UP_API up_status up_batch_check(const up_batch *batch, const up_config *config);

#ifdef __cplusplus
}
#endif
#endif
