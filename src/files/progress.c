/* progress.c - lines of progress on stderr. */
#include "files/progress.h"
#include "files/clock.h"
#include "ref/log.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const double between_rows = 0.2, between_lines = 15; /* seconds */

int up_progress_on_terminal(void) {
    return !up_progress_is_heard() && isatty(STDERR_FILENO);
}

int up_progress_due(double *shown) {
    double now = up_now();
    if (now - *shown < (up_progress_on_terminal() || up_progress_is_heard() ? between_rows : between_lines))
        return 0;
    *shown = now;
    return 1;
}

/* One column less than there are: in the last one some terminals begin a new row. */
int up_progress_width(void) {
    struct winsize size;
    return (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80) - 1;
}

void up_progress_line(const char *what, int64_t done, int64_t total, double seconds_left, const char *text) {
    if (up_progress_is_heard())
        up_progress_tell(&(up_progress_report){what, done, total, seconds_left, text});
    else
        fprintf(stderr, "%s\n", text);
}

/* One row: a line that wraps could not be renewed. */
void up_progress_row(const char *line, int last) {
    fprintf(stderr, "\r\033[K%.*s%s", up_progress_width(), line, last ? "\n" : "");
    fflush(stderr);
}

up_counter up_counter_start(const char *what, int64_t total, int quiet) {
    double now = up_now();
    return (up_counter){.what = what, .total = total, .quiet = quiet, .started = now, .shown = now};
}

/* Work that is over before a line was due shows none. */
void up_counter_show(up_counter *c, int64_t done) {
    char line[160];
    double elapsed = up_now() - c->started;
    int last = done == c->total, begun = c->shown > c->started;
    if (c->quiet || done < 1 || !(up_progress_due(&c->shown) || (last && begun))) return;
    double seconds = elapsed / (double)done * (double)(c->total - done);
    int left = (int)seconds;
    snprintf(line, sizeof line, "%s %lld/%lld  %d:%02d left", c->what, (long long)done, (long long)c->total,
             left / 60, left % 60);
    if (up_progress_on_terminal())
        up_progress_row(line, last);
    else
        up_progress_line(c->what, done, c->total, seconds, line);
}
