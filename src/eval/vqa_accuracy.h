/* vqa_accuracy.h - an answer against those of ten people (Antol et al. 2015), as the official VQA tools
 * count. */
#ifndef UP_EVAL_VQA_ACCURACY_H
#define UP_EVAL_VQA_ACCURACY_H

#include "uniperceiver/status.h"

#include <stddef.h>

/* The mean over people, each left out in turn, of min(1, how many of the others said so / 3). The answer is
 * compared without punctuation, articles, number words and with its apostrophes; theirs without punctuation,
 * unless all of them said the same. */
up_status up_vqa_accuracy(const char *answer, const char *const *said, size_t count, double *out);

/* An answer as it is compared: malloc'ed. */
up_status up_vqa_normalize(const char *answer, char **out);

#endif
