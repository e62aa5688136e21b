/* head.h - the linear head of a tuned task (paper equation 4) in an evaluation: the logit of a class is
 * alpha cos / tau + w'f + b. */
#ifndef UP_EVAL_HEAD_H
#define UP_EVAL_HEAD_H

#include "eval/eval.h"

typedef struct up_head {
    int *row_of_class;    /* [classes] of the head; NULL: it takes no part */
    size_t classes, rows; /* of the source; of the head */
    double scale;         /* alpha / tau */
    float *bias;          /* [rows] */
    float *cosines, *z;   /* [inputs, classes], [inputs, rows]: of the inputs that were read last */
} up_head;

/* The model's head, where the source's classes are among its own and the settings leave it in. At most
 * `inputs` are read at a time. Close it also after a failure. */
up_status up_head_open(up_evaluation *e, const up_source *source, size_t inputs, up_head *out);
up_status up_head_read(up_evaluation *e, const up_source *source, const up_features *inputs, up_head *head);
void up_head_close(up_head *head);

/* Of an input that was read. */
static inline double up_head_logit(const up_head *h, size_t input, size_t class) {
    size_t row = (size_t)h->row_of_class[class];
    return h->scale * (double)h->cosines[input * h->classes + class] + (double)h->z[input * h->rows + row] +
           (double)h->bias[row];
}

#endif
