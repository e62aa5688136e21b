/* queue.c - a bounded list and one thread. A batch is what waits when the thread is free, or comes within the
 * few milliseconds that its first request can be kept waiting: under load it fills by itself. */
#include "serve/queue.h"
#include "files/clock.h"
#include "serve/answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct up_queue {
    const up_serve_options *options;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    up_job *first, **last;
    int stopping;
    up_queue_counts counts;
    up_answers answers; /* the thread's own */
};

/* Under the lock: wait until there is a batch's worth of jobs, or its first has waited long enough. */
static void wait_for_more(up_queue *q) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    long nanoseconds = until.tv_nsec + (long)q->options->batch_ms * 1000000;
    until.tv_sec += nanoseconds / 1000000000;
    until.tv_nsec = nanoseconds % 1000000000;
    while (!q->stopping && q->counts.waiting < q->options->batch_most)
        if (pthread_cond_timedwait(&q->changed, &q->lock, &until) == ETIMEDOUT) return;
}

/* The next jobs, 0 of them at the end. */
static int take(up_queue *q, up_job **jobs) {
    int n = 0;
    pthread_mutex_lock(&q->lock);
    while (!q->first && !q->stopping) pthread_cond_wait(&q->changed, &q->lock);
    if (q->first) wait_for_more(q);
    while (q->first && n < q->options->batch_most) {
        jobs[n] = q->first;
        q->first = jobs[n++]->next;
    }
    if (!q->first) q->last = &q->first;
    q->counts.waiting -= n;
    pthread_mutex_unlock(&q->lock);
    return n;
}

/* Those that waited too long are told so; the others are answered. */
static void answer(up_queue *q, up_job **jobs, int n) {
    up_job *batch[UP_ANSWER_LISTS];
    double now = up_now();
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (now - jobs[i]->arrived <= q->options->seconds)
            batch[count++] = jobs[i];
        else
            up_job_fail(jobs[i], 503, "request: its turn did not come in time: too many are asking");
    }
    if (count) up_answer_batch(&q->answers, batch, count);
    pthread_mutex_lock(&q->lock);
    q->counts.answered += count;
    q->counts.batches += count > 0;
    if (count > q->counts.largest) q->counts.largest = count;
    pthread_mutex_unlock(&q->lock);
    for (int i = 0; i < n; i++) up_job_leave(jobs[i]);
}

static void *run(void *queue) {
    up_job *jobs[UP_ANSWER_LISTS];
    for (int n = take(queue, jobs); n; n = take(queue, jobs)) answer(queue, jobs, n);
    return NULL;
}

static void init(up_queue *q, const up_serve_options *options) {
    pthread_condattr_t monotonic;
    q->options = options;
    q->last = &q->first;
    pthread_mutex_init(&q->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&q->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static void release(up_queue *q) {
    up_answers_free(&q->answers);
    pthread_cond_destroy(&q->changed);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

up_status up_queue_start(const up_serve_options *options, up_queue **out) {
    *out = NULL;
    if (options->batch_most < 1 || options->batch_most > UP_ANSWER_LISTS)
        return up_fail(UP_ERR_ARGUMENT, "batch", "%d requests; wanted 1 to %d", options->batch_most,
                       UP_ANSWER_LISTS);
    up_queue *q = calloc(1, sizeof *q);
    if (!q) return up_fail(UP_ERR_MEMORY, "queue", "no memory");
    init(q, options);
    int error = pthread_create(&q->thread, NULL, run, q);
    if (error) {
        release(q);
        return up_fail(UP_ERR_IO, "queue", "no thread: %s", strerror(error));
    }
    *out = q;
    return UP_OK;
}

int up_queue_push(up_queue *q, up_job *job) {
    job->arrived = up_now();
    pthread_mutex_lock(&q->lock);
    int taken = !q->stopping && q->counts.waiting < q->options->waiting_most;
    if (taken) {
        job->holders++; /* nobody else knows the job yet */
        *q->last = job;
        q->last = &job->next;
        q->counts.waiting++;
        pthread_cond_signal(&q->changed);
    }
    pthread_mutex_unlock(&q->lock);
    return taken;
}

void up_queue_counted(up_queue *q, up_queue_counts *out) {
    pthread_mutex_lock(&q->lock);
    *out = q->counts;
    pthread_mutex_unlock(&q->lock);
}

void up_queue_stop(up_queue *q) {
    pthread_mutex_lock(&q->lock);
    int stopped = q->stopping;
    q->stopping = 1;
    pthread_cond_signal(&q->changed);
    pthread_mutex_unlock(&q->lock);
    if (!stopped) pthread_join(q->thread, NULL);
}

void up_queue_free(up_queue *q) {
    if (!q) return;
    up_queue_stop(q);
    release(q);
}
