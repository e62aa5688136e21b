/* state.c - what a checkpoint's state.json says beside its files: counts of steps, iterations and samples,
 * and the loss scale. Nothing random has a state, so that this is all that a run needs to go on. */
#include "train/trainer.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

#define UP_STATE_FORMAT "uniperceiver checkpoint 2"

/* No run counts further; up to here sums of counts and of what is added to them stay whole numbers. */
static const json_int_t most = (json_int_t)1 << 53;

int up_state_count(const json_t *object, const char *key, int64_t *out) {
    const json_t *count = json_object_get(object, key);
    *out = json_integer_value(count);
    return json_is_integer(count) && *out >= 0 && *out <= most;
}

static json_t *samples_of(const up_trainer *t) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < t->settings.task_count; i++) {
        json_t *entry = json_pack("{s:s, s:I, s:I}", "task", t->settings.tasks[i].name, "count",
                                  (json_int_t)t->taken[i], "bad", (json_int_t)t->bad.count[i]);
        if (!entry || json_array_append_new(list, entry)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

up_status up_state_put(const up_trainer *t, const up_optimizer_state *optimizer, json_t *state) {
    json_t *samples = samples_of(t), *metrics = up_metrics_state(t);
    json_t *more = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:f, s:I, s:o, s:o, s:I, s:I, s:f}", "format", UP_STATE_FORMAT, "step",
        (json_int_t)t->step, "updates", (json_int_t)optimizer->steps, "skipped", (json_int_t)t->skipped,
        "iterations", (json_int_t)t->iterations, "loss_scale", optimizer->loss_scale, "good_steps",
        (json_int_t)optimizer->good_steps, "samples", samples, "metrics", metrics, "validated",
        (json_int_t)t->validated, "best_step", (json_int_t)t->best_step, "best", t->best);
    int failed = !more || json_object_update(state, more);
    json_decref(more);
    return failed ? up_fail(UP_ERR_MEMORY, t->settings.run, "no memory for the state") : UP_OK;
}

/* The first entry of a name that was not used before, in an array of entries; NULL: none. */
static const json_t *find_samples(const json_t *list, const char *name, char *used) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *task = json_string_value(json_object_get(entry, "task"));
        if (used[i] || !task || strcmp(task, name)) continue;
        used[i] = 1;
        return entry;
    }
    return NULL;
}

/* Samples that each source has given. Tasks are known by their names; of equal names the order counts. A
 * task that is new begins with its first sample. */
static up_status take_samples(up_trainer *t, const char *path, const json_t *list) {
    if (!json_is_array(list)) return up_fail(UP_ERR_FORMAT, path, "no counts of samples");
    char *used = calloc(json_array_size(list) + 1, 1);
    if (!used) return up_fail(UP_ERR_MEMORY, path, "no memory for counts of samples");
    up_status status = UP_OK;
    for (size_t i = 0; i < t->settings.task_count; i++) {
        const char *name = t->settings.tasks[i].name;
        const json_t *entry = find_samples(list, name, used);
        t->taken[i] = t->bad.count[i] = 0; /* whatever a newer checkpoint said that was broken */
        if (entry && !up_state_count(entry, "count", &t->taken[i]))
            UP_GO(up_fail(UP_ERR_FORMAT, path, "no count of samples of %s", name));
        up_state_count(entry, "bad", &t->bad.count[i]); /* newer than the format; 0 where absent */
    }
done:
    free(used);
    return status;
}

/* A checkpoint of another version of the program is whole, and not this one's to judge: it is refused, not
 * passed over. */
up_status up_state_check(const char *path, const json_t *state) {
    static const char family[] = "uniperceiver checkpoint ";
    const char *format = json_string_value(json_object_get(state, "format"));
    if (format && !strcmp(format, UP_STATE_FORMAT)) return UP_OK;
    int ours = format && !strncmp(format, family, sizeof family - 1);
    return up_fail(ours ? UP_ERR_ARGUMENT : UP_ERR_FORMAT, path, "its format is \"%s\", wanted \"%s\"",
                   format ? format : "none", UP_STATE_FORMAT);
}

up_status up_state_take(up_trainer *t, const char *path, const json_t *state) {
    up_optimizer_state optimizer = {.loss_scale = json_number_value(json_object_get(state, "loss_scale"))};
    float scale = optimizer.loss_scale <= FLT_MAX ? (float)optimizer.loss_scale : 0; /* as it is kept */
    if (!(scale > 0) || !up_state_count(state, "good_steps", &optimizer.good_steps))
        return up_fail(UP_ERR_FORMAT, path, "no loss scale, or no count of its good steps");
    if (!up_state_count(state, "step", &t->step) || !up_state_count(state, "updates", &optimizer.steps) ||
        !up_state_count(state, "skipped", &t->skipped) ||
        !up_state_count(state, "iterations", &t->iterations))
        return up_fail(UP_ERR_FORMAT, path, "no count of steps or of iterations");
    UP_TRY(take_samples(t, path, json_object_get(state, "samples")));
    UP_TRY(up_metrics_restore(t, json_object_get(state, "metrics")));
    up_state_count(state, "validated", &t->validated); /* these are newer than the format; 0 where absent */
    up_state_count(state, "best_step", &t->best_step);
    t->best = json_number_value(json_object_get(state, "best"));
    return up_optimizer_set(t->stepper.optimizer, &optimizer);
}
