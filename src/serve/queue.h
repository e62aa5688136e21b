/* queue.h - requests wait here for the thread that owns the sessions, which answers some at a time. */
#ifndef UP_SERVE_QUEUE_H
#define UP_SERVE_QUEUE_H

#include "serve/job.h"

typedef struct up_queue up_queue;

typedef struct up_queue_counts {
    int waiting, largest; /* now; jobs of the largest batch */
    int64_t answered, batches;
} up_queue_counts;

up_status up_queue_start(const up_serve_options *options, up_queue **out);
/* The queue holds the job too, until it is answered. 0: there is no room, or the queue is stopping. */
int up_queue_push(up_queue *queue, up_job *job);
void up_queue_counted(up_queue *queue, up_queue_counts *out);
/* Answers what waits and ends the thread; nothing is taken any more. */
void up_queue_stop(up_queue *queue);
void up_queue_free(up_queue *queue); /* stops it first; NULL is fine */

#endif
