/* corrupt.h - what language modelling hides: BERT's masking by whole words (paper section 3.2). */
#ifndef UP_DATA_CORRUPT_H
#define UP_DATA_CORRUPT_H

#include "uniperceiver/backend.h"
#include "uniperceiver/random.h"
#include "uniperceiver/text.h"

typedef struct up_masking {
    double share;          /* of the words, at least one */
    const int32_t *random; /* ids that a random replacement is drawn from */
    int random_count;
    int always; /* 1: every chosen word is hidden: evaluation must not be able to copy */
} up_masking;

/* Choose share of the words of a closed text (the end token is no word). Of the chosen words 80% become <SPE>
 * (UP_ID_SPE) in every sub-token, 10% random tokens, 10% stay; read[i] is 1 at every token of a chosen word,
 * corrupted[i] what the model sees. A text without a word gets no read. */
void up_mask_words(const up_tokenizer *tokenizer, const up_masking *masking, up_rng *rng, const int32_t *ids,
                   int count, int32_t *corrupted, uint8_t *read);

#endif
