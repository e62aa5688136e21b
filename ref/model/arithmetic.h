/* arithmetic.h - how many floating-point operations a result needs, whatever the program does for it. */
#ifndef UP_REF_ARITHMETIC_H
#define UP_REF_ARITHMETIC_H

#include "uniperceiver/batch.h"
#include "uniperceiver/gradients.h"

typedef struct up_arithmetic {
    double forward, backward; /* FLOP; a multiply-add is 2 */
} up_arithmetic;

/* What the features of a batch, and the gradients of what learns, need: the products of linear layers, of
 * attention (pairs that the mask allows), of patches and of an output head; nothing else is counted. The last
 * layer needs keys and values of every token, but its queries, its projection and its FFN at rows that are
 * read out alone. Backward, a linear layer has one product towards its input and one towards its weight if
 * that learns, attention four where it had two (softmax is kept, not made again), patches none towards
 * pixels; below the lowest layer in which anything learns there is nothing. Branches that drop path leaves
 * out count as if they were there. `gradients` NULL: forward alone. */
up_arithmetic up_arithmetic_needed(const up_model *model, const up_batch *batch,
                                   const up_gradients *gradients);

/* Cosines of `queries` rows with `targets` rows, and their gradients towards both. */
up_arithmetic up_arithmetic_cosines(const up_config *config, double queries, double targets);

#endif
