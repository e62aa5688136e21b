/* beam.h - beam search over words, apart from where their scores come from: hypotheses of one caption, and
 * the choice of their best extensions. As in the released models: a hypothesis' score is the sum of its
 * words' log-probabilities, one that has ended stays as it is, and words may repeat. */
#ifndef UP_INFER_BEAM_H
#define UP_INFER_BEAM_H

#include "uniperceiver/status.h"

#include <stdint.h>

typedef struct up_beam_options {
    int beam, limit;           /* hypotheses kept; words at most, the end token included */
    int minimum;               /* words that stand before an end token at least */
    double length_penalty;     /* p: the best at the end is that of the largest score / (words + 1)^p */
    const int32_t *vocabulary; /* [vocabulary_count] candidate ids, borrowed */
    int vocabulary_count;
} up_beam_options;

typedef struct up_hypothesis {
    int32_t *words; /* [count], the end token included */
    int count, ended;
    int parent; /* of the one that it extends: its place among those that were live a step before */
    double log_probability;
} up_hypothesis;

typedef struct up_extension { /* of hypothesis `from` by entry `entry`; -1: it has ended and stays */
    int from, entry;
    double log_probability;
} up_extension;

typedef struct up_beam {
    up_beam_options options;
    up_hypothesis *now, *next; /* [beam] best first; `next` is work space */
    int count, live;           /* hypotheses in `now`, and those of them that have not ended */
    up_extension *best;        /* [beam] work space */
    int kept;
    int32_t *memory; /* their words */
} up_beam;

/* One empty hypothesis. Free with up_beam_free (fine on a zeroed struct, and after a failure). */
up_status up_beam_start(const up_beam_options *options, up_beam *out);
void up_beam_free(up_beam *beam);

/* Whether another word can change the answer. */
int up_beam_goes_on(const up_beam *beam);

/* Extend every live hypothesis by every word and keep the best, of equal ones the earlier. The logarithm of
 * entry v's probability behind the i-th live one is logits[i, v] - lse[i]: logits [live, vocabulary_count].
 */
up_status up_beam_extend(up_beam *beam, const float *logits, const float *lse);

const up_hypothesis *up_beam_best(const up_beam *beam);

#endif
