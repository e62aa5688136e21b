/* job.h - one request on its way: read from JSON (job.c), queued (queue.c), answered (answer.c) and told to
 * the connection that waits for it (server.c). */
#ifndef UP_SERVE_JOB_H
#define UP_SERVE_JOB_H

#include "serve/serve.h"

#include <jansson.h>
#include <pthread.h>

typedef enum up_job_kind {
    UP_JOB_ENCODE,
    UP_JOB_CLASSIFY,
    UP_JOB_RETRIEVE,
    UP_JOB_CAPTION,
    UP_JOB_VQA,
    UP_JOB_SEARCH,
    UP_JOB_THUMBNAIL
} up_job_kind;

/* Bounds on what one request may ask for; /model tells them. */
enum {
    UP_JOB_INPUTS = 64,       /* sequences of encode */
    UP_JOB_CANDIDATES = 1024, /* labels, answers, candidates */
    UP_JOB_PARTS = 16,        /* of a sequence */
    UP_JOB_BEAM = 16,
    UP_JOB_WORDS = 128,
    UP_JOB_RESULTS = 100, /* of a search; 10 where it does not say */
    UP_JOB_THUMBNAIL_SIDE = 256
};

typedef struct up_job {
    up_job_kind kind;
    up_session *session;

    /* what is asked */
    up_input *inputs; /* [count]; all kinds but ENCODE have one */
    int count;
    up_side side;         /* ENCODE */
    const char **names;   /* [candidate_count] of CLASSIFY and VQA, as they are told */
    up_input *candidates; /* [candidate_count] of CLASSIFY, RETRIEVE and VQA */
    int candidate_count, head, top;
    up_caption_options caption;
    int stream;                    /* CAPTION: each word is told as it comes */
    const up_served_index *search; /* SEARCH and THUMBNAIL */
    int row;                       /* THUMBNAIL: of the index */
    json_t *body;                  /* texts point into it */
    void *blocks;                  /* other memory, freed with the job */

    /* the queue's */
    struct up_job *next;
    double arrived;

    /* the answer: written by the owner of the sessions, under the lock */
    pthread_mutex_t lock;
    int done;         /* the HTTP status; 0: not yet */
    const char *type; /* of the answer; NULL: JSON */
    char *reply;      /* of a stream: the events so far */
    size_t size, room;
    int asleep; /* the connection waits until it is woken */
    void (*wake)(void *connection);
    void *connection;
    int holders; /* connection and queue; the last one frees */
} up_job;

/* What requests may ask. */
typedef struct up_job_world {
    const up_served *models; /* [count] */
    int count;
    const up_served_index *search;
} up_job_world;

/* Read a request's body. Free with up_job_leave. What is wrong is an error that names the field. */
up_status up_job_read(up_job_kind kind, const up_job_world *world, const char *body, size_t size,
                      up_job **out);
/* One holder less. */
void up_job_leave(up_job *job);

/* More of a stream's events, and the end of a job: status 200 and its JSON or other bytes, or another and its
 * message; the connection is woken. A stream that has begun gets a last event "done" or "error". */
void up_job_tell(up_job *job, const char *event, const json_t *data);
void up_job_finish(up_job *job, int http_status, const json_t *answer);
void up_job_finish_bytes(up_job *job, const char *type, const void *bytes, size_t size);
void up_job_fail(up_job *job, int http_status, const char *message);

/* The HTTP status that fits a failure. */
int up_job_http_status(up_status status);

#endif
