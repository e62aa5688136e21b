/* label_scores.h - predicted labels against true ones, both numbers from 0. */
#ifndef UP_EVAL_LABEL_SCORES_H
#define UP_EVAL_LABEL_SCORES_H

#include <stddef.h>
#include <stdint.h>

/* Of two labels, of which 1 is the positive one (MRPC, QQP): 2 tp / (2 tp + fp + fn), 0 where that is 0 / 0.
 */
double up_f1(const int32_t *predicted, const int32_t *labels, size_t n);

/* Matthews' correlation (CoLA), of any number of labels (Gorodkin 2004, R_K); 0 where one side is constant.
 * counts [2, classes]: memory. */
double up_matthews(const int32_t *predicted, const int32_t *labels, size_t n, int32_t classes,
                   int64_t *counts);

#endif
