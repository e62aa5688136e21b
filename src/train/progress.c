/* progress.c - how a run is doing: a renewed row of at most 100 columns on a terminal, elsewhere a line with
 * each line of metrics; and a summary at the end. */
#include "files/progress.h"
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { BAR = 4, COLUMNS = 100, FIELDS = 12, FIELD_SIZE = 64, TASK_SIZE = 8 };

/* What a row shows, the most wanted first: a terminal that is too narrow loses the last ones. */
typedef struct row {
    char field[FIELDS][FIELD_SIZE];
    int count;
} row;

static char *next_field(row *r) {
    return r->field[r->count++];
}

static void put_bar(row *r, const up_trainer *t) {
    int full = (int)(BAR * t->step / t->settings.steps);
    char *bar = next_field(r);
    memset(bar, '.', BAR + 2);
    memset(bar + 1, '#', (size_t)full);
    bar[0] = '[';
    bar[BAR + 1] = ']';
    bar[BAR + 2] = 0;
}

/* "3:20" or "12h03". */
static void write_time(char *out, size_t room, double seconds) {
    int minutes = (int)(seconds / 60);
    if (minutes < 60)
        snprintf(out, room, "%d:%02d", minutes, (int)seconds % 60);
    else
        snprintf(out, room, "%dh%02d", minutes / 60, minutes % 60);
}

static void put_time_left(row *r, const up_trainer *t, double elapsed) {
    char left[24];
    int64_t done = t->step - t->started_step;
    write_time(left, sizeof left, done ? elapsed / (double)done * (double)(t->settings.steps - t->step) : 0);
    snprintf(next_field(r), FIELD_SIZE, "%lld/%lld %s", (long long)t->step, (long long)t->settings.steps,
             left);
}

/* Mean loss and accuracy of task i since the last metrics line, or of that line, and its temperature then; 0:
 * it was not drawn. */
static int task_text(const up_trainer *t, size_t i, char *out, size_t room) {
    const up_task_sums *s = t->sums[i].iterations ? &t->sums[i] : &t->latest[i];
    if (!s->iterations) return 0;
    double n = (double)s->iterations;
    int used = snprintf(out, room, "%.*s %.2f %.0f%%", TASK_SIZE, t->settings.tasks[i].name, s->loss / n,
                        100 * s->accuracy / n);
    if (t->temperatures[i] > 0 && used > 0 && (size_t)used < room)
        snprintf(out + used, room - (size_t)used, " t%.3f", t->temperatures[i]);
    return 1;
}

/* The tasks take turns. */
static void put_a_task(row *r, const up_trainer *t) {
    static size_t turn; /* one run at a time draws */
    char text[FIELD_SIZE];
    for (size_t tries = 0; tries < t->settings.task_count; tries++)
        if (task_text(t, turn++ % t->settings.task_count, text, sizeof text)) {
            strcpy(next_field(r), text);
            return;
        }
}

/* "9876/s" and "12.3kt/s": samples, and tokens, by the second. */
static void put_rate(row *r, double rate, const char *unit) {
    if (rate < 10000)
        snprintf(next_field(r), FIELD_SIZE, "%.0f%s", rate, unit);
    else
        snprintf(next_field(r), FIELD_SIZE, "%.1fk%s", rate / 1000, unit);
}

static void put_numbers(row *r, const up_trainer *t, double elapsed) {
    double over = fmax(elapsed, 1e-9);
    int64_t tokens = t->stepper.input_tokens + up_stepper_set_tokens(&t->stepper);
    put_rate(r, (double)tokens / over, "t/s");
    put_rate(r, (double)(up_metrics_samples(t) - t->started_samples) / over, "/s");
    if (t->settled > t->started_step)
        snprintf(next_field(r), FIELD_SIZE, "norm %.1f", t->value.gradient_norm);
    snprintf(next_field(r), FIELD_SIZE, "lr %.0e", t->lr);
    if (t->skipped) snprintf(next_field(r), FIELD_SIZE, "skip %lld", (long long)t->skipped);
    int64_t bad = up_bad_samples_count(t);
    if (bad) snprintf(next_field(r), FIELD_SIZE, "bad %lld", (long long)bad);
    snprintf(next_field(r), FIELD_SIZE, "wait %.0f%%", 100 * up_metrics_waiting(t));
    snprintf(next_field(r), FIELD_SIZE, "%.0fM", up_metrics_memory());
}

/* As many fields as there is room for. */
static void show_row(const row *r, int last) {
    char line[COLUMNS + 1] = "";
    int width = up_progress_width();
    size_t room = (size_t)(width < COLUMNS ? width : COLUMNS), used = 0;
    for (int i = 0; i < r->count; i++) {
        size_t wanted = strlen(r->field[i]) + (i > 0);
        if (used + wanted > room) break;
        used += (size_t)sprintf(line + used, "%s%s", i ? " " : "", r->field[i]);
    }
    up_progress_row(line, last);
}

static void show_line(const row *r, const up_trainer *t) {
    char task[FIELD_SIZE];
    for (int i = 0; i < r->count; i++) fprintf(stderr, "%s%s", i ? "  " : "step ", r->field[i]);
    for (size_t i = 0; i < t->settings.task_count; i++)
        if (task_text(t, i, task, sizeof task)) fprintf(stderr, "  %s", task);
    fprintf(stderr, "\n");
}

void up_progress(const up_trainer *t, int line, int last) {
    static double shown; /* of the last row */
    double elapsed = up_now() - t->started;
    int terminal = up_progress_on_terminal();
    row r = {.count = 0};
    if (t->options.quiet || !(line || last || (terminal && up_progress_due(&shown)))) return;
    if (terminal) put_bar(&r, t);
    put_time_left(&r, t, elapsed);
    if (terminal) put_a_task(&r, t);
    put_numbers(&r, t, elapsed);
    if (terminal)
        show_row(&r, last);
    else
        show_line(&r, t);
}

/* Of this process, until its last metrics line, which is of its last step. */
static void show_rates(const up_trainer *t) {
    double seconds = fmax(t->last_line - t->started, 1e-9), gflops = t->done.needed / seconds / 1e9;
    char share[48] = "";
    if (t->settings.peak > 0)
        snprintf(share, sizeof share, " (%.1f%% of the peak)", 100 * gflops / t->settings.peak);
    fprintf(stderr,
            "  %.1f samples/s, %.0f tokens/s, %.0f%% of the time waiting for data, %.1f GFLOP/s%s, at most "
            "%.0f MiB of memory\n",
            (double)(up_metrics_samples(t) - t->started_samples) / seconds, t->done.tokens / seconds,
            100 * t->done.waited / seconds, gflops, share, up_metrics_memory());
}

void up_progress_summary(const up_trainer *t) {
    const char *run = t->settings.run;
    char took[24];
    if (t->options.quiet) return;
    write_time(took, sizeof took, up_now() - t->started);
    fprintf(stderr, "%s: %lld steps, %lld of them in this process in %s; %lld skipped\n", t->settings.name,
            (long long)t->step, (long long)(t->step - t->started_step), took, (long long)t->skipped);
    show_rates(t);
    fprintf(stderr, "  %-28s %12s %11s %11s\n", "task", "samples", "first loss", "last loss");
    for (size_t i = 0; i < t->settings.task_count; i++)
        if (t->losses[i].known)
            fprintf(stderr, "  %-28s %12lld %11.3f %11.3f\n", t->settings.tasks[i].name,
                    (long long)t->taken[i], t->losses[i].first, t->losses[i].last);
    if (up_bad_samples_count(t))
        fprintf(stderr,
                "  %lld samples could not be read and were replaced: %s/bad-samples.jsonl lists them\n",
                (long long)up_bad_samples_count(t), run);
    if (t->best_step)
        fprintf(stderr, "  best %s: %.4f at step %lld: %s/best.safetensors\n", t->settings.best, t->best,
                (long long)t->best_step, run);
    fprintf(stderr, "  in %s: model.safetensors%s, checkpoints, metrics.jsonl%s\n", run,
            t->average.values ? ", model-ema.safetensors" : "",
            t->settings.events ? ", events for tensorboard --logdir" : "");
}
