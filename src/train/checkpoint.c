/* checkpoint.c - saving and restoring a run. A checkpoint is a folder <run>/checkpoint-NNNNNNNN with
 *     model.safetensors      weights and configuration
 *     optimizer.safetensors  m.<name> and v.<name> of every tensor that learns
 *     state.json             counts and loss scale (state.c), settings, size and CRC-32 of the two files
 * It is written as "<folder>.partial", every file synced, then renamed and the run's folder synced: a folder
 * without ".partial" is whole, and an older one is never touched before the newer is. */
#include "files/file.h"
#include "files/json.h"
#include "files/safetensors.h"
#include "train/trainer.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { PATH_SIZE = 4096, NAME_DIGITS = 8 };

static const char *const state_files[] = {"model.safetensors", "optimizer.safetensors"};
enum { STATE_FILES = 2 };

static up_status join(char out[PATH_SIZE], const char *folder, const char *name) {
    if (snprintf(out, PATH_SIZE, "%s/%s", folder, name) >= PATH_SIZE)
        return up_fail(UP_ERR_ARGUMENT, folder, "path too long");
    return UP_OK;
}

/* ---- the optimiser's moments as one file ---- */

static up_status write_moments(up_trainer *t, const char *path) {
    const up_params *p = up_model_params(t->model);
    size_t count = 0;
    int64_t most = 0;
    up_status status = UP_OK;
    up_safetensors_writer *writer = NULL;
    up_safetensor *specs = calloc(2 * (size_t)p->count, sizeof *specs);
    char(*names)[UP_TENSOR_NAME_SIZE + 2] = calloc(2 * (size_t)p->count, sizeof *names);
    float *values = NULL;
    if (!specs || !names) UP_GO(up_fail(UP_ERR_MEMORY, path, "%d names wanted", p->count));
    for (int order = 1; order <= 2; order++)
        for (int i = 0; i < p->count; i++) {
            const up_param *q = &p->list[i];
            if (!up_learns(t->stepper.gradients, i)) continue;
            snprintf(names[count], sizeof names[0], "%c.%s", order == 1 ? 'm' : 'v', q->name);
            specs[count] = (up_safetensor){
                .name = names[count], .type = UP_ST_F32, .ndim = 2, .shape = {q->rows, q->cols}};
            count++;
            if (q->rows * q->cols > most) most = q->rows * q->cols;
        }
    values = malloc((size_t)most * sizeof *values);
    if (!values) UP_GO(up_fail(UP_ERR_MEMORY, path, "%lld values wanted", (long long)most));
    UP_GO(up_safetensors_begin(path, NULL, 0, specs, count, &writer));
    for (int order = 1; order <= 2; order++)
        for (int i = 0; i < p->count; i++) {
            if (!up_learns(t->stepper.gradients, i)) continue;
            up_view v = up_optimizer_moment(t->stepper.optimizer, order, i);
            UP_GO(t->backend->ops->download(t->backend, values, v));
            UP_GO(up_safetensors_put(writer, values, (size_t)(v.rows * v.cols) * sizeof *values));
        }
    status = up_safetensors_commit(writer);
    writer = NULL;
done:
    up_safetensors_abort(writer);
    free(specs);
    free(names);
    free(values);
    return status;
}

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

/* ---- state.json ---- */

static up_status checksum(const char *path, json_int_t *size, json_int_t *crc) {
    static const size_t chunk = 1 << 20;
    int file;
    int64_t bytes;
    UP_TRY(up_file_open(path, &file, &bytes));
    up_status status = UP_OK;
    unsigned char *buffer = malloc(chunk);
    if (!buffer) UP_GO(up_fail(UP_ERR_MEMORY, path, "%zu bytes wanted", chunk));
    uLong sum = crc32(0, NULL, 0);
    *size = 0;
    for (ssize_t got; (got = read(file, buffer, chunk)) != 0;) {
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) UP_GO(up_fail(UP_ERR_IO, path, "cannot read: %s", strerror(errno)));
        sum = crc32(sum, buffer, (uInt)got);
        *size += got;
    }
    *crc = (json_int_t)sum;
done:
    free(buffer);
    close(file);
    return status;
}

/* Names, sizes and sums of the files beside it. */
static up_status describe_files(const char *folder, json_t *files) {
    char path[PATH_SIZE];
    for (int i = 0; i < STATE_FILES; i++) {
        json_int_t size, crc;
        UP_TRY(join(path, folder, state_files[i]));
        UP_TRY(checksum(path, &size, &crc));
        json_t *entry = json_pack("{s:I, s:I}", "bytes", size, "crc32", crc);
        if (json_object_set_new(files, state_files[i], entry))
            return up_fail(UP_ERR_MEMORY, path, "no memory to note its checksum");
    }
    return UP_OK;
}

static up_status write_state(up_trainer *t, const char *folder) {
    char path[PATH_SIZE], *settings = NULL, *text = NULL;
    size_t length;
    up_status status = UP_OK;
    up_optimizer_state optimizer;
    json_t *state = NULL, *files = json_object();
    if (!files) UP_GO(up_fail(UP_ERR_MEMORY, folder, "no memory for the state"));
    UP_GO(describe_files(folder, files));
    UP_GO(up_optimizer_get(t->stepper.optimizer, &optimizer));
    UP_GO(up_config_dump(&up_settings_schema, &t->settings, &settings));
    state =
        json_pack("{s:s, s:s, s:O}", "backend", t->backend->ops->name, "settings", settings, "files", files);
    if (!state) UP_GO(up_fail(UP_ERR_MEMORY, folder, "no memory for the state"));
    UP_GO(up_state_put(t, &optimizer, state));
    UP_GO(up_json_write(folder, state, JSON_INDENT(1), &text, &length));
    UP_GO(join(path, folder, "state.json"));
    UP_GO(up_file_write(path, text, length));
done:
    free(text);
    free(settings);
    json_decref(state);
    json_decref(files);
    return status;
}

/* A file of a checkpoint that is not there is damage; one that cannot be opened is not. */
static up_status check_present(const char *path) {
    return access(path, F_OK) && errno == ENOENT ? up_fail(UP_ERR_FORMAT, path, "is missing") : UP_OK;
}

static up_status verify_files(const char *folder, const json_t *state) {
    char path[PATH_SIZE];
    for (int i = 0; i < STATE_FILES; i++) {
        const json_t *entry = json_object_get(json_object_get(state, "files"), state_files[i]);
        json_int_t size, crc;
        UP_TRY(join(path, folder, state_files[i]));
        UP_TRY(check_present(path));
        UP_TRY(checksum(path, &size, &crc));
        if (size != json_integer_value(json_object_get(entry, "bytes")) ||
            crc != json_integer_value(json_object_get(entry, "crc32")))
            return up_fail(UP_ERR_FORMAT, path, "is not the file that was written: size or checksum differ");
    }
    return UP_OK;
}

/* ---- saving ---- */

/* NULL at the end, and with errno set after a failure. */
static struct dirent *next_entry(DIR *d) {
    errno = 0;
    return readdir(d);
}

static void remove_checkpoint(const char *folder) {
    char path[PATH_SIZE];
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.' && join(path, folder, e->d_name) == UP_OK) unlink(path);
    if (d) closedir(d);
    rmdir(folder);
}

static int newest_first(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

static void name_of(int64_t step, const char *ending, char out[64]) {
    snprintf(out, 64, "checkpoint-%0*lld%s", NAME_DIGITS, (long long)step, ending);
}

/* What a name in the run's folder says: 1 and the step of a checkpoint, 2 one left half written, else 0. */
static int kind_of(const char *entry, int64_t *step) {
    long long number;
    char name[64];
    if (sscanf(entry, "checkpoint-%lld", &number) != 1 || number < 0) return 0;
    *step = number;
    name_of(number, "", name);
    if (!strcmp(entry, name)) return 1;
    name_of(number, ".partial", name);
    return strcmp(entry, name) ? 0 : 2;
}

/* Steps of the run's checkpoints (kind 1) or of those left half written (kind 2), newest first; *count of
 * them. */
static up_status list(const char *run, int kind, int64_t **steps, size_t *count) {
    up_status status = UP_OK;
    size_t room = 0;
    *steps = NULL;
    *count = 0;
    DIR *d = opendir(run);
    if (!d) return up_fail(UP_ERR_IO, run, "%s", strerror(errno));
    for (struct dirent *e; (e = next_entry(d));) {
        int64_t step;
        if (kind_of(e->d_name, &step) != kind) continue;
        if (*count == room) {
            room = room ? 2 * room : 16;
            int64_t *grown = realloc(*steps, room * sizeof *grown);
            if (!grown) UP_GO(up_fail(UP_ERR_MEMORY, run, "%zu checkpoints to list", room));
            *steps = grown;
        }
        (*steps)[(*count)++] = step;
    }
    /* half a list would let a run begin at an older checkpoint, or at 0 */
    if (errno) status = up_fail(UP_ERR_IO, run, "cannot be listed: %s", strerror(errno));
    if (*count) qsort(*steps, *count, sizeof **steps, newest_first);
done:
    closedir(d);
    if (status != UP_OK) {
        free(*steps);
        *steps = NULL;
    }
    return status;
}

static up_status folder_of(const up_trainer *t, int64_t step, const char *ending, char out[PATH_SIZE]) {
    char name[64];
    name_of(step, ending, name);
    return join(out, t->settings.run, name);
}

static up_status prune(const up_trainer *t) {
    int64_t *steps;
    size_t count;
    char folder[PATH_SIZE], partial[PATH_SIZE];
    UP_TRY(list(t->settings.run, 1, &steps, &count));
    for (size_t i = (size_t)t->settings.keep; i < count; i++)
        if (folder_of(t, steps[i], "", folder) == UP_OK &&
            folder_of(t, steps[i], ".partial", partial) == UP_OK &&
            !rename(folder, partial)) /* what is removed in part must not look whole */
            remove_checkpoint(partial);
    free(steps);
    return UP_OK;
}

/* What a run that was killed while it saved has left: nobody else writes in this folder (trainer.c locks it).
 */
static up_status remove_partial(const up_trainer *t) {
    int64_t *steps;
    size_t count;
    char partial[PATH_SIZE];
    UP_TRY(list(t->settings.run, 2, &steps, &count));
    for (size_t i = 0; i < count; i++)
        if (folder_of(t, steps[i], ".partial", partial) == UP_OK) remove_checkpoint(partial);
    free(steps);
    return UP_OK;
}

up_status up_checkpoint_save(up_trainer *t) {
    char folder[PATH_SIZE], partial[PATH_SIZE], path[PATH_SIZE];
    UP_TRY(folder_of(t, t->step, "", folder));
    UP_TRY(folder_of(t, t->step, ".partial", partial));
    if (!access(folder, F_OK)) return UP_OK; /* just restored or just saved */
    UP_TRY(remove_partial(t));
    UP_TRY(up_make_folders(partial));
    up_status status = UP_OK;
    UP_GO(join(path, partial, state_files[0]));
    UP_GO(up_model_write(t->model, path));
    UP_GO(join(path, partial, state_files[1]));
    UP_GO(write_moments(t, path));
    UP_GO(write_state(t, partial));
    UP_GO(up_folder_sync(partial));
    if (rename(partial, folder)) UP_GO(up_fail(UP_ERR_IO, folder, "%s", strerror(errno)));
    UP_GO(up_folder_sync(t->settings.run));
    return prune(t);
done:
    remove_checkpoint(partial);
    return status;
}

/* ---- restoring ---- */

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
    char path[PATH_SIZE];
    void *text = NULL;
    size_t size;
    int64_t step, updates, skipped;
    json_t *state = NULL;
    up_status status = UP_OK;
    UP_TRY(join(path, folder, "state.json"));
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
    fprintf(stderr, "uniperceiver: %s: was trained on backend %s, goes on on %s\n", folder, name,
            t->backend->ops->name);
}

static up_status load(up_trainer *t, const char *folder, int64_t number) {
    char path[PATH_SIZE];
    up_status status = UP_OK;
    json_t *state;
    UP_TRY(read_state(folder, number, &state));
    UP_GO(tell_changes(t, folder, json_string_value(json_object_get(state, "settings"))));
    tell_backend(t, folder, json_string_value(json_object_get(state, "backend")));
    UP_GO(join(path, folder, state_files[0]));
    UP_GO(read_weights(t, path));
    UP_GO(join(path, folder, state_files[1]));
    UP_GO(read_moments(t, path));
    UP_GO(join(path, folder, "state.json"));
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
    char from[PATH_SIZE], to[PATH_SIZE];
    UP_TRY(folder_of(t, step, "", from));
    UP_TRY(folder_of(t, step, ".broken", to));
    remove_checkpoint(to);
    return rename(from, to) ? up_fail(UP_ERR_IO, from, "cannot be set aside: %s", strerror(errno)) : UP_OK;
}

up_status up_checkpoint_load(up_trainer *t, int *found) {
    int64_t *steps;
    size_t count, i = 0;
    char folder[PATH_SIZE];
    up_status status = UP_OK;
    *found = 0;
    UP_TRY(remove_partial(t));
    UP_TRY(list(t->settings.run, 1, &steps, &count));
    for (; i < count; i++) {
        UP_GO(folder_of(t, steps[i], "", folder));
        status = load(t, folder, steps[i]);
        *found = status == UP_OK;
        /* a broken checkpoint is passed over, anything else is the user's to solve */
        if (status != UP_ERR_FORMAT || i + 1 == count) break;
        fprintf(stderr, "uniperceiver: %s: trying the checkpoint before it\n", up_last_error());
    }
    while (*found && i > 0) UP_GO(set_aside(t, steps[--i]));
done:
    free(steps);
    return status;
}

up_status up_checkpoint_refuse_existing(const up_trainer *t) {
    int64_t *steps;
    size_t count;
    UP_TRY(remove_partial(t));
    UP_TRY(list(t->settings.run, 1, &steps, &count));
    free(steps);
    if (!count) return UP_OK;
    return up_fail(
        UP_ERR_ARGUMENT, t->settings.run,
        "holds a run already: continue it with --resume, remove the folder, or name another with run=FOLDER");
}
