/* progress.c - how a run is doing, as a line of progress (src/files/progress.h). */
#include "files/progress.h"
#include "train/trainer.h"

#include <stdio.h>
#include <string.h>

enum { BAR = 24 };

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

void up_progress(const up_trainer *t, int line, int last) {
    (void)line;
    static double shown; /* of the last line; one training run at a time draws */
    double elapsed = up_now() - t->started;
    if (t->options.quiet || !(up_progress_due(&shown) || last)) return;
    int64_t done = t->step - t->started_step, left = t->settings.steps - t->step;
    double eta = done ? elapsed / (double)done * (double)left : 0;
    int64_t tokens = t->stepper.input_tokens + up_stepper_set_tokens(&t->stepper);
    double speed = elapsed > 0 ? (double)tokens / elapsed : 0;
    char tasks[512], bar[BAR + 1], row[1024];
    task_summary(t, tasks, sizeof tasks);
    if (!up_progress_on_terminal()) {
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
    snprintf(row, sizeof row, "[%s] %lld/%lld  %d:%02d left  %.1fk tok/s %s", bar, (long long)t->step,
             (long long)t->settings.steps, (int)eta / 60, (int)eta % 60, speed / 1000, tasks);
    up_progress_row(row, last);
}

void up_progress_summary(const up_trainer *t) {
    (void)t;
}
