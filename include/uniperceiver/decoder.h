/* decoder.h - words one by one behind encoded prefixes (paper appendix B, at inference): keys and values of
 * the prefixes and of the words stay on the backend, a step computes the new words and one slot for each
 * continuation. Exact, because in the doubled mask the prefix does not see the words, and no word sees a
 * slot.
 */
#ifndef UNIPERCEIVER_DECODER_H
#define UNIPERCEIVER_DECODER_H

#include "uniperceiver/encoder.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct up_decoder up_decoder;

/* The encoder (made for inference) is borrowed, and free for other use between the calls. */
UP_API up_status up_decoder_create(up_encoder *encoder, up_decoder **out);
UP_API void up_decoder_free(up_decoder *decoder); /* NULL is fine */

/* Encode `prefixes`, a batch of sequences of any lengths of which nothing need be read out, for at most
 * `beams` continuations of each with at most `max_words` words. What was decoded before is gone; its memory
 * is used again. */
UP_API up_status up_decoder_begin(up_decoder *decoder, const up_batch *prefixes, int beams, int max_words);

/* What a decoder takes of the device for one prefix: keys and values of all layers. */
UP_API size_t up_decoder_bytes(const up_encoder *encoder, int prefix_tokens, int beams, int max_words);

/* Continuation i of `count` goes on behind continuation parents[i] of the step before, at the first step
 * behind prefix parents[i], with the next counts[i] of `words`. Those of one prefix need not stand together;
 * a prefix without any is done with. features [count, D] f32 on the device: f of a slot behind the words,
 * which predicts the next one. After a step that failed inside, no other one is possible. */
UP_API up_status up_decoder_step(up_decoder *decoder, int count, const int *parents, const int *counts,
                                 const int32_t *words, up_view features);

#ifdef __cplusplus
}
#endif
#endif
