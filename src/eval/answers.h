/* answers.h - what an evaluation says of questions that several people have answered: VQA's accuracy. */
#ifndef UP_EVAL_ANSWERS_H
#define UP_EVAL_ANSWERS_H

#include "eval/eval.h"

/* 1 where the source's task asks questions and its samples say what each person answered. */
int up_has_answers(const up_source *source);

/* Add VQA accuracy, over all and of each type of answer that the samples tell. best [n]: the class that is
 * said of row[i]. Chance: each answer against what people said to the next question. */
up_status up_score_answers(up_evaluation *e, const up_source *source, const size_t *row, const int32_t *best,
                           int64_t n);

#endif
