/* log.c - what the library says while it works: to the program's listener, or to stderr. */
#include "ref/log.h"
#include "ref/given.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static up_listener current; /* the whole process's */

up_status up_listen(const up_listener *listener) {
    up_listener taken;
    UP_TRY(up_options_take("listener", listener, UP_BYTES_TO(up_listener, self), &taken, sizeof taken));
    pthread_mutex_lock(&guard);
    current = taken;
    pthread_mutex_unlock(&guard);
    return UP_OK;
}

/* A copy: a listener is called without the lock, so that it may use the library. */
static up_listener listener(void) {
    pthread_mutex_lock(&guard);
    up_listener copy = current;
    pthread_mutex_unlock(&guard);
    return copy;
}

static void add(up_log_line *line, const char *format, va_list args) {
    size_t room = sizeof line->text - line->used;
    int length = vsnprintf(line->text + line->used, room, format, args);
    if (length < 0) return;
    line->used += (size_t)length < room ? (size_t)length : room - 1;
}

void up_log_add(up_log_line *line, const char *format, ...) {
    va_list args;
    va_start(args, format);
    add(line, format, args);
    va_end(args);
}

void up_log(up_log_level level, const char *format, ...) {
    up_log_line line = {.used = 0};
    up_listener to = listener();
    va_list args;
    va_start(args, format);
    add(&line, format, args);
    va_end(args);
    if (to.log)
        to.log(to.self, level, line.text);
    else
        fprintf(stderr, "%s%s\n", level == UP_LOG_NOTICE ? "uniperceiver: " : "", line.text);
}

int up_progress_is_heard(void) {
    return listener().progress != NULL;
}

void up_progress_tell(const up_progress_report *progress) {
    up_listener to = listener();
    if (to.progress) to.progress(to.self, progress);
}
