/* decoder.h - words one by one behind an encoded prefix (paper appendix B, at inference): keys and values of
 * the prefix and of the words stay on the backend, a step computes the new words and one slot for each beam.
 * Exact, because in the doubled mask the prefix does not see the words, and no word sees a slot.
 */
#ifndef UNIPERCEIVER_DECODER_H
#define UNIPERCEIVER_DECODER_H

#include "uniperceiver/encoder.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct up_decoder up_decoder;

/* Encode `prefix`, a batch of one sequence of which nothing need be read out, for `beams` continuations of at
 * most `max_words` words. The encoder (made for inference) is borrowed, and free for other use between the
 * calls. */
UP_API up_status up_decoder_create(up_encoder *encoder, const up_batch *prefix, int beams, int max_words,
                                   up_decoder **out);
UP_API void up_decoder_free(up_decoder *decoder); /* NULL is fine */

/* Beam i of `count` continues beam parents[i] of the last step (0 at the first) with words[i * more ... +
 * more - 1]; every beam has the same number of words. features [count, D] f32 on the device: f of a slot
 * behind them, which predicts the next word. After a step that failed inside, no other one is possible. */
UP_API up_status up_decoder_step(up_decoder *decoder, int count, const int *parents, const int32_t *words,
                                 int more, up_view features);

#ifdef __cplusplus
}
#endif
#endif
