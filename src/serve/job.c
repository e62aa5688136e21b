/* job.c - the life of a request, and its answer on the way back to the connection. */
#include "serve/job.h"
#include "files/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void up_job_leave(up_job *job) {
    if (!job) return;
    pthread_mutex_lock(&job->lock);
    int left = --job->holders;
    pthread_mutex_unlock(&job->lock);
    if (left) return;
    for (void *block = job->blocks, *next; block; block = next) {
        next = *(void **)block;
        free(block);
    }
    json_decref(job->body);
    free(job->reply);
    pthread_mutex_destroy(&job->lock);
    free(job);
}

int up_job_http_status(up_status status) {
    switch (status) {
    case UP_OK:
        return 200;
    case UP_ERR_ARGUMENT:
    case UP_ERR_FORMAT:
        return 400;
    case UP_ERR_UNSUPPORTED:
        return 415;
    case UP_ERR_MEMORY:
        return 503;
    case UP_ERR_IO:
    case UP_ERR_NUMERIC:
    case UP_ERR_INTERRUPTED:
    case UP_ERR_BACKEND:
        break;
    }
    return 500;
}

/* --- under the lock --- */

static int append(up_job *job, const char *text, size_t size) {
    if (job->size + size > job->room) {
        size_t room = (job->size + size) * 2;
        char *grown = realloc(job->reply, room);
        if (!grown) return 0;
        job->reply = grown;
        job->room = room;
    }
    memcpy(job->reply + job->size, text, size);
    job->size += size;
    return 1;
}

/* All of it or nothing, so that events stay whole. */
static int append_event(up_job *job, const char *event, const char *data, size_t size) {
    char head[64];
    size_t before = job->size;
    int length = snprintf(head, sizeof head, "event: %s\ndata: ", event);
    if (append(job, head, (size_t)length) && append(job, data, size) && append(job, "\n\n", 2)) return 1;
    job->size = before;
    return 0;
}

static void wake(up_job *job) {
    if (job->asleep && job->connection) job->wake(job->connection);
    job->asleep = 0;
}

/* What has begun as a stream stays one: its status was 200, and its last event says how it ended. */
static void finish(up_job *job, int http_status, const char *text, size_t size) {
    int ok = http_status == 200;
    pthread_mutex_lock(&job->lock);
    if (job->stream && (ok || job->size)) {
        append_event(job, ok ? "done" : "error", text, size);
        http_status = 200;
    } else if (!append(job, text, size)) {
        http_status = 503;
    }
    job->done = http_status;
    wake(job);
    pthread_mutex_unlock(&job->lock);
}

/* --- from the owner of the sessions --- */

void up_job_tell(up_job *job, const char *event, const json_t *data) {
    char *text = NULL;
    size_t size = 0;
    if (up_json_write("answer", data, JSON_COMPACT, &text, &size) != UP_OK) return;
    pthread_mutex_lock(&job->lock);
    append_event(job, event, text, size);
    wake(job);
    pthread_mutex_unlock(&job->lock);
    free(text);
}

void up_job_finish(up_job *job, int http_status, const json_t *answer) {
    char *text = NULL;
    size_t size = 0;
    if (up_json_write("answer", answer, JSON_COMPACT | JSON_REAL_PRECISION(9), &text, &size) != UP_OK) {
        finish(job, 503, "{\"error\":\"no memory\"}", 21);
    } else {
        up_json_restore_bytes(text);
        finish(job, http_status, text, size);
    }
    free(text);
}

void up_job_finish_bytes(up_job *job, const char *type, const void *bytes, size_t size) {
    job->type = type;
    finish(job, 200, bytes, size);
}

void up_job_fail(up_job *job, int http_status, const char *message) {
    json_t *error = json_pack("{s:s}", "error", message);
    up_job_finish(job, http_status, error);
    json_decref(error);
}
