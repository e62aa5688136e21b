/* answer.h - a batch of requests to the sessions. Only the thread that owns the sessions calls this. */
#ifndef UP_SERVE_ANSWER_H
#define UP_SERVE_ANSWER_H

#include "serve/job.h"

/* What is kept from batch to batch: the features of lists of candidates. Zeroed at first. */
enum { UP_ANSWER_LISTS = 64 };
typedef struct up_answers {
    struct up_answer_list {
        char *key; /* the session and the texts */
        size_t size;
        up_candidates *candidates;
        uint64_t used; /* when, in batches */
    } lists[UP_ANSWER_LISTS];
    uint64_t batches;
} up_answers;

/* Answer n jobs; each is finished on return. */
void up_answer_batch(up_answers *answers, up_job **jobs, int n);
void up_answers_free(up_answers *answers);

#endif
