/* checkpoint_save.c - saving a run. A checkpoint is a folder <run>/checkpoint-NNNNNNNN with
 *     model.safetensors      weights and configuration
 *     optimizer.safetensors  m.<name> and v.<name> of every tensor that learns
 *     model-ema.safetensors  the average of the weights, where the run has one
 *     state.json             counts and loss scale (state.c), settings, size and CRC-32 of the files
 * At the end of a step all of it is copied (snapshot.c); a thread writes the copy as "<folder>.partial",
 * every file synced, renames it and syncs the run's folder, while training goes on. There is one copy at a
 * time: a second save waits for the first. */
#include "files/file.h"
#include "files/json.h"
#include "train/checkpoint.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

struct up_save {
    pthread_t thread;
    int threaded;        /* 0: the system gave no thread, and it was written at once */
    int finished;        /* set by the thread at its end */
    const up_trainer *t; /* its settings alone, and what does not change */
    int checkpoint, best;
    int64_t step;
    double begun, seconds; /* until it was written */
    up_snapshot snapshot;
    json_t *state; /* but for its files */
    up_status status;
    char message[1024];
};

up_status up_checkpoint_sum(const char *path, json_int_t *size, json_int_t *crc) {
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

/* Names, sizes and sums of the files beside state.json. */
static up_status describe_files(const up_snapshot *s, const char *folder, json_t *files) {
    char path[UP_PATH_SIZE];
    for (int i = 0; i < UP_CHECKPOINT_FILES; i++) {
        json_int_t size, crc;
        if (i == UP_CHECKPOINT_AVERAGE && !s->average) continue;
        UP_TRY(up_checkpoint_path(path, folder, up_checkpoint_files[i]));
        UP_TRY(up_checkpoint_sum(path, &size, &crc));
        json_t *entry = json_pack("{s:I, s:I}", "bytes", size, "crc32", crc);
        if (json_object_set_new(files, up_checkpoint_files[i], entry))
            return up_fail(UP_ERR_MEMORY, path, "no memory to note its checksum");
    }
    return UP_OK;
}

static up_status take_state(up_trainer *t, json_t **out) {
    char *settings = NULL;
    up_status status = UP_OK;
    up_optimizer_state optimizer;
    json_t *state = NULL;
    UP_GO(up_optimizer_get(t->stepper.optimizer, &optimizer));
    UP_GO(up_config_dump(&up_settings_schema, &t->settings, &settings));
    state = json_pack("{s:s, s:s}", "backend", t->backend->ops->name, "settings", settings);
    if (!state) UP_GO(up_fail(UP_ERR_MEMORY, t->settings.run, "no memory for the state"));
    UP_GO(up_state_put(t, &optimizer, state));
    *out = state;
    state = NULL;
done:
    free(settings);
    json_decref(state);
    return status;
}

static up_status write_state(up_save *s, const char *folder) {
    char path[UP_PATH_SIZE], *text = NULL;
    size_t length;
    up_status status = UP_OK;
    json_t *files = json_object();
    if (!files) UP_GO(up_fail(UP_ERR_MEMORY, folder, "no memory for the state"));
    UP_GO(describe_files(&s->snapshot, folder, files));
    if (json_object_set(s->state, "files", files))
        UP_GO(up_fail(UP_ERR_MEMORY, folder, "no memory for the state"));
    UP_GO(up_json_write(folder, s->state, JSON_INDENT(1), &text, &length));
    UP_GO(up_checkpoint_path(path, folder, "state.json"));
    UP_GO(up_file_write(path, text, length));
done:
    free(text);
    json_decref(files);
    return status;
}

static up_status write_checkpoint(up_save *s) {
    char folder[UP_PATH_SIZE], partial[UP_PATH_SIZE];
    UP_TRY(up_checkpoint_folder(s->t, s->step, "", folder));
    UP_TRY(up_checkpoint_folder(s->t, s->step, ".partial", partial));
    UP_TRY(up_checkpoint_remove_partial(s->t));
    UP_TRY(up_make_folders(partial));
    up_status status = UP_OK;
    UP_GO(up_snapshot_write(&s->snapshot, partial));
    UP_GO(write_state(s, partial));
    UP_GO(up_folder_sync(partial));
    if (rename(partial, folder)) UP_GO(up_fail(UP_ERR_IO, folder, "%s", strerror(errno)));
    UP_GO(up_folder_sync(s->t->settings.run));
    return up_checkpoint_prune(s->t);
done:
    up_checkpoint_remove(partial);
    return status;
}

/* The weights that were validated. */
static up_status write_best(up_save *s) {
    char path[UP_PATH_SIZE];
    UP_TRY(up_checkpoint_path(path, s->t->settings.run, "best.safetensors"));
    return up_weights_put(s->snapshot.average ? s->snapshot.average : s->snapshot.model, path);
}

static void *write_all(void *argument) {
    up_save *s = argument;
    if (s->best) s->status = write_best(s);
    if (s->checkpoint && s->status == UP_OK) s->status = write_checkpoint(s);
    if (s->status != UP_OK) snprintf(s->message, sizeof s->message, "%s", up_last_error());
    s->seconds = up_now() - s->begun;
    __atomic_store_n(&s->finished, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void save_free(up_save *s) {
    if (!s) return;
    up_snapshot_free(&s->snapshot);
    json_decref(s->state);
    free(s);
}

up_status up_checkpoint_wait(up_trainer *t) {
    up_save *s = t->save;
    if (!s) return UP_OK;
    if (s->threaded) pthread_join(s->thread, NULL);
    t->save = NULL;
    t->slowest_save = fmax(t->slowest_save, s->seconds);
    up_status status = s->status == UP_OK ? UP_OK : up_fail_again(s->status, s->message);
    save_free(s);
    return status;
}

up_status up_checkpoint_poll(up_trainer *t) {
    if (!t->save || !__atomic_load_n(&t->save->finished, __ATOMIC_ACQUIRE)) return UP_OK;
    return up_checkpoint_wait(t);
}

up_status up_checkpoint_begin(up_trainer *t, int checkpoint, int best) {
    char folder[UP_PATH_SIZE];
    up_status status = UP_OK;
    UP_TRY(up_checkpoint_wait(t));
    UP_TRY(up_checkpoint_folder(t, t->step, "", folder));
    if (!access(folder, F_OK)) checkpoint = 0; /* just restored or just saved */
    if (!checkpoint && !best) return UP_OK;
    up_save *s = calloc(1, sizeof *s);
    if (!s) return up_fail(UP_ERR_MEMORY, folder, "no memory to save it");
    s->t = t;
    s->step = t->step;
    s->begun = up_now();
    s->checkpoint = checkpoint;
    s->best = best;
    UP_GO(up_snapshot_take(t, checkpoint, &s->snapshot));
    if (checkpoint) UP_GO(take_state(t, &s->state));
    s->threaded = !pthread_create(&s->thread, NULL, write_all, s);
    if (!s->threaded) write_all(s);
    t->save = s;
    s = NULL;
done:
    save_free(s);
    return status;
}

up_status up_checkpoint_save(up_trainer *t) {
    UP_TRY(up_checkpoint_begin(t, 1, 0));
    return up_checkpoint_wait(t);
}
