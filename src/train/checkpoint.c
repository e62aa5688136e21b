/* checkpoint.c - restoring a run from its newest checkpoint that is whole. */
#include "files/file.h"
#include "files/json.h"
#include "train/checkpoint.h"
#include "ref/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static up_status read_moment(up_trainer *t, const up_safetensors *st, const char *path, int order,
                             int param) {
    const up_param *p = &up_model_params(t->model)->list[param];
    char name[UP_TENSOR_NAME_SIZE + 2];
    snprintf(name, sizeof name, "%c.%s", order == 1 ? 'm' : 'v', p->name);
    const up_safetensor *tensor = up_safetensors_find(st, name);
    if (!tensor)
        return up_fail(UP_ERR_ARGUMENT, path, "tensor %s is missing: did `learn` leave it out?", name);
    if (tensor->count != p->rows * p->cols)
        return up_fail(UP_ERR_FORMAT, path, "tensor %s has %lld values, wanted %lld", name,
                       (long long)tensor->count, (long long)(p->rows * p->cols));
    float *values = malloc((size_t)tensor->count * sizeof *values);
    if (!values) return up_fail(UP_ERR_MEMORY, path, "%lld values wanted", (long long)tensor->count);
    up_status status = up_safetensor_to_f32(tensor, values);
    if (status == UP_OK)
        status = t->backend->ops->upload(t->backend, up_optimizer_moment(t->stepper.optimizer, order, param),
                                         values);
    free(values);
    return status;
}

static up_status read_moments(up_trainer *t, const char *path) {
    up_safetensors *st = NULL;
    const up_params *p = up_model_params(t->model);
    UP_TRY(up_safetensors_open(path, &st));
    up_status status = UP_OK;
    for (int order = 1; order <= 2; order++)
        for (int i = 0; i < p->count && status == UP_OK; i++)
            if (up_learns(t->stepper.gradients, i)) status = read_moment(t, st, path, order, i);
    up_safetensors_close(st);
    return status;
}

/* The saved model must be the configured one: the same tensors, and as many heads, which no shape shows. */
static up_status check_same(const char *path, const up_model *saved, const up_model *wanted) {
    const up_params *a = up_model_params(saved), *b = up_model_params(wanted);
    int heads = up_model_config(saved)->heads, wanted_heads = up_model_config(wanted)->heads;
    for (int i = 0; i < a->count || i < b->count; i++) {
        const up_param *p = i < a->count ? &a->list[i] : NULL, *q = i < b->count ? &b->list[i] : NULL;
        if (!p || !q || strcmp(p->name, q->name))
            return up_fail(UP_ERR_ARGUMENT, path, "holds %s where the configuration has %s",
                           p ? p->name : "no tensor", q ? q->name : "none");
        if (p->rows != q->rows || p->cols != q->cols)
            return up_fail(UP_ERR_ARGUMENT, path, "tensor %s is %lld x %lld, the configuration's %lld x %lld",
                           p->name, (long long)p->rows, (long long)p->cols, (long long)q->rows,
                           (long long)q->cols);
    }
    if (heads != wanted_heads)
        return up_fail(UP_ERR_ARGUMENT, path, "its model has %d heads, the configuration's %d", heads,
                       wanted_heads);
    return UP_OK;
}

/* The vocabulary that language tasks compare with comes from the lists: another one would be another task. */
static up_status check_targets(const char *path, const up_model *saved, const up_model *model) {
    int then, now;
    const int32_t *old_ids = up_model_targets(saved, &then), *new_ids = up_model_targets(model, &now);
    if (then == now && (!now || !memcmp(old_ids, new_ids, (size_t)now * sizeof *new_ids))) return UP_OK;
    return up_fail(UP_ERR_ARGUMENT, path,
                   "was trained with another vocabulary: the lists of the language tasks have changed");
}

/* Copy the weights of a model file into the run's own model. */
static up_status read_weights(up_trainer *t, const char *path) {
    up_model *saved = NULL,
             *base = up_model_base(t->model); /* of a tuned task it is but what the task owns */
    UP_TRY(base ? up_overlay_read(base, path, &saved) : up_model_read(t->backend, path, &saved));
    up_status status = check_same(path, saved, t->model);
    if (status == UP_OK) status = check_targets(path, saved, t->model);
    if (status == UP_OK) status = up_model_copy(t->model, saved);
    up_model_destroy(saved);
    return status;
}

/* A file of a checkpoint that is not there is damage; one that cannot be opened is not. */
static up_status check_present(const char *path) {
    return access(path, F_OK) && errno == ENOENT ? up_fail(UP_ERR_FORMAT, path, "is missing") : UP_OK;
}

static up_status verify_files(const char *folder, const json_t *state) {
    char path[UP_PATH_SIZE];
    for (int i = 0; i < UP_CHECKPOINT_FILES; i++) {
        const json_t *entry = json_object_get(json_object_get(state, "files"), up_checkpoint_files[i]);
        if (i == UP_CHECKPOINT_AVERAGE && !entry) continue;
        json_int_t size, crc;
        UP_TRY(up_checkpoint_path(path, folder, up_checkpoint_files[i]));
        UP_TRY(check_present(path));
        UP_TRY(up_checkpoint_sum(path, &size, &crc));
        if (size != json_integer_value(json_object_get(entry, "bytes")) ||
            crc != json_integer_value(json_object_get(entry, "crc32")))
            return up_fail(UP_ERR_FORMAT, path, "is not the file that was written: size or checksum differ");
    }
    return UP_OK;
}

/* The configuration may be another than the checkpoint was trained with: allowed, but never unnoticed. */
static up_status tell_changes(const up_trainer *t, const char *folder, const char *then) {
    char *now = NULL;
    UP_TRY(up_config_dump(&up_settings_schema, &t->settings, &now));
    up_status status = up_changes_tell(folder, then ? then : "", now);
    free(now);
    return status;
}

/* state.json, read and compared with its folder and the files beside it. */
static up_status read_state(const char *folder, int64_t number, json_t **out) {
    char path[UP_PATH_SIZE];
    void *text = NULL;
    size_t size;
    int64_t step, updates, skipped;
    json_t *state = NULL;
    up_status status = UP_OK;
    UP_TRY(up_checkpoint_path(path, folder, "state.json"));
    UP_TRY(check_present(path));
    UP_TRY(up_file_read(path, &text, &size));
    UP_GO(up_json_read(path, text, size, 0, &state));
    UP_GO(up_state_check(path, state));
    if (!up_state_count(state, "step", &step) || !up_state_count(state, "updates", &updates) ||
        !up_state_count(state, "skipped", &skipped))
        UP_GO(up_fail(UP_ERR_FORMAT, path, "no step counts"));
    if (step != number || updates + skipped != step)
        UP_GO(up_fail(UP_ERR_FORMAT, path,
                      "step %lld = %lld updates + %lld skipped ones: not those of its folder",
                      (long long)step, (long long)updates, (long long)skipped));
    UP_GO(verify_files(folder, state));
    *out = state;
    state = NULL;
done:
    json_decref(state);
    free(text);
    return status;
}

static void tell_backend(const up_trainer *t, const char *folder, const char *then) {
    char name[100];
    if (!then || !strcmp(then, t->backend->ops->name)) return;
    up_printable(then, strlen(then), name, sizeof name);
    up_log(UP_LOG_NOTICE, "%s: was trained on backend %s, goes on on %s", folder, name,
           t->backend->ops->name);
}

/* A run that averages from here on begins with the weights that the checkpoint has. */
static up_status read_average(up_trainer *t, const char *path) {
    int found;
    UP_TRY(up_average_read(&t->average, path, &found));
    if (!found) up_log(UP_LOG_NOTICE, "%s: is missing: the average begins now", path);
    return UP_OK;
}

static up_status load(up_trainer *t, const char *folder, int64_t number) {
    char path[UP_PATH_SIZE];
    up_status status = UP_OK;
    json_t *state;
    UP_TRY(read_state(folder, number, &state));
    UP_GO(tell_changes(t, folder, json_string_value(json_object_get(state, "settings"))));
    tell_backend(t, folder, json_string_value(json_object_get(state, "backend")));
    UP_GO(up_checkpoint_path(path, folder, up_checkpoint_files[UP_CHECKPOINT_MODEL]));
    UP_GO(read_weights(t, path));
    UP_GO(up_checkpoint_path(path, folder, up_checkpoint_files[UP_CHECKPOINT_OPTIMIZER]));
    UP_GO(read_moments(t, path));
    UP_GO(up_checkpoint_path(path, folder, up_checkpoint_files[UP_CHECKPOINT_AVERAGE]));
    if (t->average.values) UP_GO(read_average(t, path));
    UP_GO(up_checkpoint_path(path, folder, "state.json"));
    UP_GO(up_state_take(t, path, state));
    if (t->step > t->settings.steps)
        UP_GO(up_fail(UP_ERR_ARGUMENT, folder, "is at step %lld, the configuration ends at %lld",
                      (long long)t->step, (long long)t->settings.steps));
done:
    json_decref(state);
    return status;
}

/* A broken checkpoint that was passed over must not count among those kept, nor stand where the run will save
 * again. */
static up_status set_aside(const up_trainer *t, int64_t step) {
    char from[UP_PATH_SIZE], to[UP_PATH_SIZE];
    UP_TRY(up_checkpoint_folder(t, step, "", from));
    UP_TRY(up_checkpoint_folder(t, step, ".broken", to));
    up_checkpoint_remove(to);
    return rename(from, to) ? up_fail(UP_ERR_IO, from, "cannot be set aside: %s", strerror(errno)) : UP_OK;
}

up_status up_checkpoint_load(up_trainer *t, int *found) {
    int64_t *steps;
    size_t count, i = 0;
    char folder[UP_PATH_SIZE];
    up_status status = UP_OK;
    *found = 0;
    UP_TRY(up_checkpoint_remove_partial(t));
    UP_TRY(up_checkpoint_list(t->settings.run, 1, &steps, &count));
    for (; i < count; i++) {
        UP_GO(up_checkpoint_folder(t, steps[i], "", folder));
        status = load(t, folder, steps[i]);
        *found = status == UP_OK;
        /* a broken checkpoint is passed over, anything else is the user's to solve */
        if (status != UP_ERR_FORMAT || i + 1 == count) break;
        up_log(UP_LOG_NOTICE, "%s: trying the checkpoint before it", up_last_error());
    }
    while (*found && i > 0) UP_GO(set_aside(t, steps[--i]));
done:
    free(steps);
    return status;
}

up_status up_checkpoint_refuse_existing(const up_trainer *t) {
    int64_t *steps;
    size_t count;
    UP_TRY(up_checkpoint_remove_partial(t));
    UP_TRY(up_checkpoint_list(t->settings.run, 1, &steps, &count));
    free(steps);
    if (!count) return UP_OK;
    return up_fail(
        UP_ERR_ARGUMENT, t->settings.run,
        "holds a run already: continue it with --resume, remove the folder, or name another with run=FOLDER");
}
