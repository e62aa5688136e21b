/* metrics.c - what a run has measured, as a line of metrics.jsonl and as scalars of the event file; and what
 * is summed up for the line to come, which a checkpoint carries over. */
#include "train/trainer.h"
#include "ref/log.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

int64_t up_metrics_samples(const up_trainer *t) {
    int64_t samples = 0;
    for (size_t i = 0; i < t->settings.task_count; i++) samples += t->taken[i];
    return samples;
}

double up_metrics_memory(void) {
    struct rusage used;
    return getrusage(RUSAGE_SELF, &used) ? 0 : (double)used.ru_maxrss / 1024;
}

double up_metrics_waiting(const up_trainer *t) {
    double seconds = up_now() - t->last_line + t->watched;
    return seconds > 0 ? (t->waited + t->starved) / seconds : 0;
}

/* JSON has no infinity. */
static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

/* The temperature that a task divides its cosines by. */
static up_status temperature_of(up_trainer *t, size_t task, double *out) {
    int place = t->sources[task].temperature;
    float logit_scale = 0;
    if (place >= 0) {
        int param = up_model_params(t->model)->temperature[place];
        UP_TRY(t->backend->ops->download(t->backend, &logit_scale, up_model_weight(t->model, param)));
    }
    *out = 1 / fmin(exp((double)logit_scale), 100);
    return UP_OK;
}

static up_status add_task(up_trainer *t, size_t i, json_t *tasks) {
    const up_task_sums *s = &t->sums[i];
    const char *name = t->settings.tasks[i].name;
    double n = (double)s->iterations;
    UP_TRY(temperature_of(t, i, &t->temperatures[i]));
    json_t *entry = json_pack("{s:f, s:I, s:o}", "accuracy", s->accuracy / n, "iterations",
                              (json_int_t)s->iterations, "temperature", number(t->temperatures[i]));
    int failed = !entry;
    if (!failed && isfinite(s->loss)) failed = json_object_set_new(entry, "loss", json_real(s->loss / n));
    if (failed) json_decref(entry);
    if (failed || json_object_set_new(tasks, name, entry))
        return up_fail(UP_ERR_MEMORY, name, "no memory for its metrics");
    return UP_OK;
}

/* The tasks that were drawn since the last line; the sums begin anew. */
static up_status add_tasks(up_trainer *t, json_t *tasks) {
    for (size_t i = 0; i < t->settings.task_count; i++) {
        up_task_sums *s = &t->sums[i];
        up_task_losses *losses = &t->losses[i];
        if (!s->iterations) continue;
        UP_TRY(add_task(t, i, tasks));
        losses->last = s->loss / (double)s->iterations;
        if (!losses->known) losses->first = losses->last;
        losses->known = 1;
        t->latest[i] = *s;
        *s = (up_task_sums){0};
    }
    return UP_OK;
}

/* Training that waits for its data is told so once, with the cure, when it has been so for a while. The first
 * line, which has the loader's start in it, does not count. */
static void tell_starving(up_trainer *t, double seconds) {
    static const double most = 0.2, long_enough = 5; /* of the time; seconds */
    if (!t->lines++) return;
    t->watched += seconds;
    t->starved += t->waited;
    double share = t->starved / t->watched;
    if (t->starving_told || t->watched < long_enough || !(share > most)) return;
    int64_t workers = t->settings.workers;
    t->starving_told = 1;
    up_log(UP_LOG_NOTICE,
           "training waits for its data %.0f%% of the time: workers: %lld would feed it (now %lld)",
           100 * share, (long long)ceil((double)workers / fmax(1 - share, 0.05)), (long long)workers);
}

up_status up_metrics_write(up_trainer *t, const json_t *line) {
    if (!line) return up_fail(UP_ERR_MEMORY, "metrics", "no memory for a line");
    UP_TRY(up_jsonl_append(&t->metrics, line));
    return t->events.path ? up_events_write(&t->events, t->step, line) : UP_OK;
}

static double rate(double count, double seconds) {
    return seconds > 0 ? count / seconds : 0;
}

static json_t *make_line(const up_trainer *t, double now, json_t *tasks) {
    double seconds = now - t->last_line;
    int64_t inputs = t->stepper.input_tokens - t->line_inputs;
    int64_t sets = up_stepper_set_tokens(&t->stepper) - t->line_sets;
    double gflops = rate(up_stepper_needed(&t->stepper) - t->line_needed, seconds) / 1e9;
    json_t *line = json_pack(
        "{s:I, s:f, s:I, s:I, s:f, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:O}", "step", (json_int_t)t->step,
        "lr", t->lr, "skipped", (json_int_t)t->skipped, "bad_samples", (json_int_t)up_bad_samples_count(t),
        "seconds", now - t->started, "input_tokens", (json_int_t)inputs, "target_tokens", (json_int_t)sets,
        "samples_per_second", rate((double)(up_metrics_samples(t) - t->line_samples), seconds),
        "tokens_per_second", rate((double)(inputs + sets), seconds), "data_wait_seconds", t->waited,
        "memory_mib", up_metrics_memory(), "gflops", gflops, "tasks", tasks);
    int failed = !line;
    if (!failed && t->settings.peak > 0)
        failed = json_object_set_new(line, "peak_share", json_real(gflops / t->settings.peak));
    if (!failed && t->comm->ranks > 1)
        failed = json_object_set_new(line, "ranks", json_integer(t->comm->ranks)) ||
                 json_object_set_new(line, "sent_bytes",
                                     json_integer((json_int_t)(t->comm->bytes - t->line_bytes)));
    if (!failed && !t->value.skipped)
        failed = json_object_set_new(line, "gradient_norm", number(t->value.gradient_norm));
    if (!failed && t->value.loss_scale != 1)
        failed = json_object_set_new(line, "loss_scale", json_real(t->value.loss_scale));
    if (!failed) return line;
    json_decref(line);
    return NULL;
}

/* The next line begins. */
static void begin_line(up_trainer *t, double now) {
    int64_t inputs = t->stepper.input_tokens, sets = up_stepper_set_tokens(&t->stepper);
    double needed = up_stepper_needed(&t->stepper);
    t->done.tokens += (double)(inputs - t->line_inputs + sets - t->line_sets);
    t->done.needed += needed - t->line_needed;
    t->done.waited += t->waited;
    t->last_line = now;
    t->line_inputs = inputs;
    t->line_sets = sets;
    t->line_needed = needed;
    t->line_samples = up_metrics_samples(t);
    t->line_bytes = t->comm->bytes;
    t->waited = 0;
}

up_status up_metrics_log(up_trainer *t) {
    double now = up_now();
    json_t *tasks = json_object(), *line = NULL;
    up_status status = UP_OK;
    if (!tasks) return up_fail(UP_ERR_MEMORY, "metrics", "no memory for a line");
    UP_GO(add_tasks(t, tasks));
    line = make_line(t, now, tasks);
    tell_starving(t, now - t->last_line);
    begin_line(t, now);
    UP_GO(up_metrics_write(t, line));
done:
    json_decref(tasks);
    json_decref(line);
    return status;
}

/* ---- in a checkpoint ---- */

static json_t *task_state(const up_trainer *t) {
    json_t *tasks = json_array();
    for (size_t i = 0; tasks && i < t->settings.task_count; i++) {
        const up_task_sums *s = &t->sums[i];
        const up_task_losses *l = &t->losses[i];
        json_t *entry =
            json_pack("{s:s, s:o, s:f, s:I}", "task", t->settings.tasks[i].name, "loss", number(s->loss),
                      "accuracy", s->accuracy, "iterations", (json_int_t)s->iterations);
        int failed = !entry;
        if (!failed && l->known)
            failed = json_object_set_new(entry, "first", number(l->first)) ||
                     json_object_set_new(entry, "last", number(l->last));
        if (failed) json_decref(entry);
        if (failed || json_array_append_new(tasks, entry)) {
            json_decref(tasks);
            return NULL;
        }
    }
    return tasks;
}

json_t *up_metrics_state(const up_trainer *t) {
    return json_pack(
        "{s:I, s:I, s:I, s:f, s:f, s:f, s:o}", "input_tokens", (json_int_t)(t->whole_inputs - t->line_inputs),
        "target_tokens", (json_int_t)(t->whole_sets - t->line_sets), "samples",
        (json_int_t)(up_metrics_samples(t) - t->line_samples), "seconds", up_now() - t->last_line, "waited",
        t->waited, "needed", t->whole_needed - t->line_needed, "tasks", task_state(t));
}

static double real_of(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static void restore_task(up_trainer *t, size_t i, const json_t *entry) {
    const char *name = json_string_value(json_object_get(entry, "task"));
    if (!name || strcmp(name, t->settings.tasks[i].name)) return; /* the tasks have changed */
    t->sums[i] = (up_task_sums){.loss = real_of(entry, "loss"),
                                .accuracy = real_of(entry, "accuracy"),
                                .iterations = json_integer_value(json_object_get(entry, "iterations"))};
    t->losses[i] = (up_task_losses){.first = real_of(entry, "first"),
                                    .last = real_of(entry, "last"),
                                    .known = json_object_get(entry, "first") != NULL};
}

/* What other processes did for the line at hand is not done by this one. */
static void restore_line(up_trainer *t, const json_t *state) {
    int64_t inputs = json_integer_value(json_object_get(state, "input_tokens"));
    int64_t sets = json_integer_value(json_object_get(state, "target_tokens"));
    double needed = json_number_value(json_object_get(state, "needed")); /* absent in older ones: 0 */
    t->line_inputs = t->stepper.input_tokens - inputs;
    t->line_sets = up_stepper_set_tokens(&t->stepper) - sets;
    t->line_needed = up_stepper_needed(&t->stepper) - needed;
    t->line_samples = up_metrics_samples(t) - json_integer_value(json_object_get(state, "samples"));
    t->carried = json_number_value(json_object_get(state, "seconds"));
    t->waited = json_number_value(json_object_get(state, "waited"));
    t->done = (up_done){-(double)(inputs + sets), -needed, -t->waited};
}

up_status up_metrics_restore(up_trainer *t, const json_t *state) {
    const json_t *tasks = json_object_get(state, "tasks");
    memset(t->sums, 0, t->settings.task_count * sizeof *t->sums); /* of a newer checkpoint that was broken */
    memset(t->losses, 0, t->settings.task_count * sizeof *t->losses);
    for (size_t i = 0; i < t->settings.task_count; i++) restore_task(t, i, json_array_get(tasks, i));
    restore_line(t, state);
    return UP_OK;
}
