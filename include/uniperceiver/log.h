/* log.h - what the library says while it works, and how far it is. Both go to stderr unless the program asks
 * for them here. Failures are not said: they are returned (status.h). */
#ifndef UNIPERCEIVER_LOG_H
#define UNIPERCEIVER_LOG_H

#include "uniperceiver/status.h"
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum up_log_level {
    UP_LOG_REPORT, /* a line of what was done: counts, tables. None where the call's options say `quiet` */
    UP_LOG_NOTICE  /* something that the user should look at; on stderr it begins with "uniperceiver: " */
} up_log_level;

typedef struct up_progress_report {
    const char *what; /* e.g. "captions", or the name of a run */
    int64_t done, total;
    double seconds_left; /* by what those before took */
    const char *text;    /* numbers in words: of a training its losses and rates; else "" */
} up_progress_report;

/* Who is told. Either function may be NULL: then that part goes to stderr as before. They are called by the
 * threads that work, several at a time where several work, and what they are given is theirs until they
 * return. */
typedef struct up_listener {
    size_t size;                                                      /* sizeof(up_listener) */
    void (*log)(void *self, up_log_level level, const char *line);    /* no line break at its end */
    void (*progress)(void *self, const up_progress_report *progress); /* at most a few times a second */
    void *self;
} up_listener;

/* From now on, for the whole process: this listener (copied), NULL: stderr again. A call that is under way in
 * another thread may still reach the one before. */
UP_API up_status up_listen(const up_listener *listener);

#ifdef __cplusplus
}
#endif
#endif
