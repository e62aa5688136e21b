/* progress.h - how work is doing, for the program's listener (log.h) or on stderr: a line that renews itself
 * on a terminal, now and then a line elsewhere. */
#ifndef UP_FILES_PROGRESS_H
#define UP_FILES_PROGRESS_H

#include <stdint.h>

/* Whether rows are shown: stderr is a terminal, and nobody else listens. */
int up_progress_on_terminal(void);

/* Whether it is time for another line; *shown is when the last one was, or when the work began. */
int up_progress_due(double *shown);

/* Columns that a row may have. */
int up_progress_width(void);

/* Show a line of a terminal's renewed row; `last`: the next output begins a new one. */
void up_progress_row(const char *line, int last);

/* A line where no row is renewed: for the listener, or on stderr. */
void up_progress_line(const char *what, int64_t done, int64_t total, double seconds_left, const char *text);

/* So many of so many, with the time that is left by what those before took. */
typedef struct up_counter {
    const char *what; /* e.g. "captions" */
    int64_t total;
    int quiet; /* 1: nothing is shown */
    double started, shown;
} up_counter;
up_counter up_counter_start(const char *what, int64_t total, int quiet);
void up_counter_show(up_counter *counter, int64_t done);

#endif
