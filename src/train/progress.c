/* progress.c - how a run is doing, on stderr: a line that renews itself on a terminal, now and then a line
 * elsewhere. */
#include "train/trainer.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { BAR = 24, SECONDS_BETWEEN_LINES = 15 };

/* "mlm 3.21 (0.34)  caption 2.80 (0.41)": mean loss and accuracy since the last metrics line. */
static void task_summary(const up_trainer *t, char *out, size_t room) {
    size_t used = 0;
    out[0] = 0;
    for (size_t i = 0; i < t->settings.task_count && used < room; i++) {
        const up_task_sums *s = t->sums[i].iterations ? &t->sums[i] : &t->latest[i];
        if (!s->iterations) continue;
        double n = (double)s->iterations;
        used += (size_t)snprintf(out + used, room - used, " %.14s %.2f (%.2f)", t->settings.tasks[i].name,
                                 s->loss / n, s->accuracy / n);
    }
}

static int terminal_width(void) {
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void up_progress(const up_trainer *t, int last) {
    static double shown; /* of the last line; one training run at a time draws */
    double now = up_now(), elapsed = now - t->started;
    int terminal = isatty(STDERR_FILENO);
    if (t->options.quiet || (!last && now - shown < (terminal ? 0.2 : SECONDS_BETWEEN_LINES))) return;
    shown = now;
    int64_t done = t->step - t->started_step, left = t->settings.steps - t->step;
    double eta = done ? elapsed / (double)done * (double)left : 0;
    int64_t tokens = t->stepper.input_tokens + up_stepper_set_tokens(&t->stepper);
    double speed = elapsed > 0 ? (double)tokens / elapsed : 0;
    char tasks[512], bar[BAR + 1], line[1024];
    task_summary(t, tasks, sizeof tasks);
    if (!terminal) {
        fprintf(stderr, "step %lld/%lld  %.0f s, %.0f s left  %.0f tokens/s  lr %.2e", (long long)t->step,
                (long long)t->settings.steps, elapsed, eta, speed, t->lr);
        if (t->settled > t->started_step) fprintf(stderr, "  norm %.2f", t->value.gradient_norm);
        fprintf(stderr, " %s\n", tasks);
        return;
    }
    int full = (int)(BAR * t->step / t->settings.steps);
    memset(bar, '.', BAR);
    memset(bar, '#', (size_t)full);
    bar[BAR] = 0;
    snprintf(line, sizeof line, "[%s] %lld/%lld  %d:%02d left  %.1fk tok/s %s", bar, (long long)t->step,
             (long long)t->settings.steps, (int)eta / 60, (int)eta % 60, speed / 1000, tasks);
    /* one row: a line that wraps could not be renewed */
    fprintf(stderr, "\r\033[K%.*s%s", terminal_width() - 1, line, last ? "\n" : "");
    fflush(stderr);
}
