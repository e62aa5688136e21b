/* decode.h - words one by one behind an encoded prefix (paper appendix B, at inference): keys and values of
 * the prefix and of the words stay on the backend, a step computes the new words and one slot for each beam.
 * Exact, because in the doubled mask the prefix does not see the words, and no word sees a slot. */
#ifndef UP_REF_MODEL_DECODE_H
#define UP_REF_MODEL_DECODE_H

#include "uniperceiver/run.h"

/* Where a run keeps keys and values between forward passes; encoder.c hands it every layer's. */
typedef struct up_cache {
    up_view
        kept; /* [L * rows, 2D]: keys in columns 0..D-1, values behind them; rows = beams * room of a beam */
    up_view place; /* i32 [N, 1]: row, inside a layer's part, of each token of the batch */
} up_cache;

/* Put the batch's keys and values of one layer into the cache, and let the attention look there. */
up_status up_cache_layer(up_run *run, int layer, up_attention_args *attention);

typedef struct up_decoder up_decoder;

/* Encode `prefix`, a batch of one sequence of which nothing need be read out, for `beams` continuations of at
 * most `max_words` words. The run is borrowed, and free for other use between the calls. */
up_status up_decoder_create(up_run *run, const up_batch *prefix, int beams, int max_words, up_decoder **out);
void up_decoder_free(up_decoder *decoder);

/* Beam i of `count` continues beam parents[i] of the last step (0 at the first) with words[i * more ... +
 * more - 1]; every beam has the same number of words. out [count, D]: unit features of a slot behind them,
 * which predict the next word. */
up_status up_decoder_step(up_decoder *decoder, int count, const int *parents, const int32_t *words, int more,
                          float *out);

#endif
