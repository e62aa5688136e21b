/* attention.h - where a read-out looked: the probabilities of the last layer's attention, for reports. */
#ifndef UP_INFER_ATTENTION_H
#define UP_INFER_ATTENTION_H

#include "uniperceiver/encoder.h"

typedef struct up_attention up_attention; /* an encoder that keeps its queries and keys, in f32 */

/* The model is borrowed. */
up_status up_attention_create(up_model *model, up_attention **out);
void up_attention_free(up_attention *attention); /* NULL is fine */

/* Of the first read-out of a batch: out [tokens of its sequence], the mean over the heads of
 *     softmax over the keys it sees of q . k / sqrt(d),
 * in the order of the tokens. What prompts take of it has no token, so that with prompts the sum is less
 * than 1. */
up_status up_attention_read(up_attention *attention, const up_batch *batch, float *out);

#endif
