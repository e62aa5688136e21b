/* predictions.h - what `eval` keeps of single rows, for people and for reports: the file predictions.jsonl of
 * a run (docs/file-formats.md). Inputs are told as the model saw them: the words of its tokens, the pixels of
 * its patches, and where the read-out looked. */
#ifndef UP_EVAL_PREDICTIONS_H
#define UP_EVAL_PREDICTIONS_H

#include "tasks/source.h"

enum { UP_PREDICTED_ROWS = 6 /* of an evaluation */, UP_CHOICES = 5 /* of a row */ };

typedef struct up_predictions up_predictions;

typedef struct up_choice {
    int64_t target;
    double probability;
} up_choice;
/* The nearest of n targets with their probabilities among all, by logits z; answers how many. */
int up_choose(const float *z, int64_t n, up_choice choices[UP_CHOICES]);

/* One row. Texts are borrowed; what is NULL or 0 is left out. */
typedef struct up_prediction {
    size_t row;
    const up_work *work; /* its batch: this row alone */
    const char *truth, *said;
    double log_probability; /* of what was said */
    const char *choices[UP_CHOICES];
    double probabilities[UP_CHOICES];
    int choice_count;
} up_prediction;

/* The model and the tokenizer are borrowed. */
up_status up_predictions_create(up_model *model, const up_tokenizer *tokenizer, up_predictions **out);
void up_predictions_free(up_predictions *predictions); /* NULL is fine */

/* How often each class was taken for each: labels and best [n]; labels of -1 are left out. */
up_status up_predictions_confusion(up_predictions *p, const up_source *source, const int32_t *labels,
                                   const int32_t *best, int64_t n);
up_status up_predictions_add(up_predictions *p, const up_source *source, const up_prediction *prediction);
/* The words of tokens; hidden ones and slots are left out, or told as "[...]" where the source hides words.
 * malloc'ed. */
up_status up_predictions_words(const up_predictions *p, const int32_t *ids, int count, int hidden,
                               char **text);

up_status up_predictions_write(const up_predictions *p, const char *path);

#endif
