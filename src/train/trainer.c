/* trainer.c - opening and closing a training run: settings, samples, vocabulary, model, loader. */
#include "train/trainer.h"
#include "files/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static up_status open_sources(up_trainer *t) {
    const up_settings *s = &t->settings;
    UP_TRY(up_settings_model(s, &t->config));
    t->world.config = &t->config;
    t->world.limits.max_pixels = s->max_pixels;
    UP_TRY(up_tokenizer_create(NULL, &t->world.tokenizer));
    t->sources = calloc(s->task_count, sizeof *t->sources);
    t->sums = calloc(s->task_count, sizeof *t->sums);
    t->latest = calloc(s->task_count, sizeof *t->latest);
    t->taken = calloc(s->task_count, sizeof *t->taken);
    if (!t->sources || !t->sums || !t->latest || !t->taken)
        return up_fail(UP_ERR_MEMORY, "tasks", "%zu wanted", s->task_count);
    for (size_t i = 0; i < s->task_count; i++) {
        UP_TRY(up_source_open(&s->tasks[i], &t->world, &t->sources[i]));
        t->sources[i].number = i;
    }
    return up_world_collect(&t->world, t->sources, s->task_count, s->vocabulary);
}

static up_status open_model(up_trainer *t) {
    UP_TRY(
        up_backend_create(t->options.backend ? t->options.backend : "cpu", t->options.threads, &t->backend));
    UP_TRY(up_comm_none(&t->comm));
    UP_TRY(up_model_create(t->backend, &t->config, (uint64_t)t->settings.seed, &t->model));
    UP_TRY(up_model_set_targets(t->model, t->world.vocabulary, t->world.vocabulary_count));
    UP_TRY(up_stepper_open(&t->settings, t->model, t->comm, &t->stepper));
    for (size_t i = 0; i < t->settings.task_count; i++)
        UP_TRY(up_sets_bind(&t->stepper.sets, &t->sources[i]));
    return UP_OK;
}

/* Where losses of two steps can be under way at a time. */
static up_status open_pending(up_trainer *t) {
    int64_t count = 2 * t->settings.accumulate;
    t->pending = calloc((size_t)count, sizeof *t->pending);
    if (!t->pending) return up_fail(UP_ERR_MEMORY, "losses", "%lld wanted", (long long)count);
    for (int64_t i = 0; i < count; i++) {
        t->pending[i].source = -1;
        UP_TRY(up_loss_read_create(t->model, &t->pending[i].read));
    }
    return UP_OK;
}

/* Two processes must not train in one folder: a lock that ends with the process. */
static up_status lock_folder(up_trainer *t) {
    int folder = open(t->settings.run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return up_fail(UP_ERR_IO, t->settings.run, "%s", strerror(errno));
    t->folder = folder;
    if (flock(folder, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        return up_fail(UP_ERR_IO, t->settings.run, "another process is training in this folder");
    return UP_OK; /* a file system without locks is no reason to refuse */
}

/* The folder must be new, or the run continued: never two runs mixed in one. */
static up_status open_folder(up_trainer *t, const char *metrics_path) {
    UP_TRY(up_make_folders(t->settings.run));
    UP_TRY(lock_folder(t));
    int found = 0;
    if (!t->options.resume) {
        UP_TRY(up_checkpoint_refuse_existing(t));
    } else {
        UP_TRY(up_checkpoint_load(t, &found));
        if (!found && !t->options.quiet)
            fprintf(stderr, "uniperceiver: %s: no checkpoint yet, starting at step 0\n", t->settings.run);
    }
    UP_TRY(up_jsonl_truncate(metrics_path, found ? t->step : -1));
    UP_TRY(up_jsonl_open(metrics_path, &t->metrics));
    t->metrics_open = 1;
    return UP_OK;
}

/* The loader's callback: a pure function of the iteration. */
static up_status build(void *context, int64_t iteration, void *slot) {
    const up_trainer *t = context;
    int64_t place = iteration - t->first_iteration;
    if (place >= (t->settings.steps - t->started_step) * t->settings.accumulate)
        return UP_OK; /* read ahead of the end */
    const up_order_entry *entry = &t->order[place];
    const up_source *source = &t->sources[entry->source];
    int count = (int)source->settings->batch;
    size_t *rows = malloc((size_t)count * sizeof *rows);
    if (!rows) return up_fail(UP_ERR_MEMORY, source->settings->name, "%d rows wanted", count);
    uint64_t seed = (uint64_t)t->settings.seed;
    for (int i = 0; i < count; i++)
        rows[i] = up_order_row(seed, entry->source, &source->data, entry->first + i);
    up_build_options options = {.training = 1, .seed = seed, .first = (uint64_t)entry->first};
    up_work *work = slot;
    up_status status = up_source_build(source, &options, rows, count, work);
    work->iteration = iteration;
    free(rows);
    return status;
}

static up_status start_loader(up_trainer *t) {
    int workers = (int)t->settings.workers, count = up_loader_slots(workers);
    void **slots = malloc((size_t)count * sizeof *slots);
    t->work = calloc((size_t)count, sizeof *t->work);
    if (!slots || !t->work) {
        free(slots);
        return up_fail(UP_ERR_MEMORY, "loader", "%d slots wanted", count);
    }
    t->slots = count;
    for (int i = 0; i < count; i++) slots[i] = &t->work[i];
    up_status status = up_loader_create(build, t, slots, count, workers, t->first_iteration, &t->loader);
    free(slots);
    return status;
}

/* The rest of the order, from where the checkpoint or the beginning has left it. */
static up_status start_order(up_trainer *t) {
    t->settled = t->started_step = t->step;
    t->first_iteration = t->iterations;
    return up_order_make(&t->settings, t->first_iteration,
                         (t->settings.steps - t->step) * t->settings.accumulate, t->taken, &t->order);
}

up_status up_trainer_open(const char *config_path, const char *const *overrides, size_t count,
                          const up_train_options *options, up_trainer *t) {
    up_status status = UP_OK;
    char metrics_path[4096];
    memset(t, 0, sizeof *t);
    if (options) t->options = *options;
    UP_TRY(up_settings_read(config_path, overrides, count, &t->settings));
    snprintf(metrics_path, sizeof metrics_path, "%s/metrics.jsonl", t->settings.run);
    UP_GO(open_sources(t));
    UP_GO(open_model(t));
    UP_GO(open_pending(t));
    UP_GO(open_folder(t, metrics_path));
    UP_GO(start_order(t));
    UP_GO(start_loader(t));
    t->started = t->last_line = up_now();
done:
    if (status != UP_OK) up_trainer_close(t);
    return status;
}

void up_trainer_close(up_trainer *t) {
    up_loader_free(t->loader);
    for (int i = 0; i < t->slots; i++) up_work_free(&t->work[i]);
    free(t->work);
    if (t->metrics_open) up_jsonl_close(&t->metrics);
    if (t->folder) close(t->folder);
    for (int64_t i = 0; t->pending && i < 2 * t->settings.accumulate; i++)
        up_loss_read_free(t->pending[i].read);
    free(t->pending);
    up_stepper_close(&t->stepper);
    up_model_destroy(t->model);
    up_comm_free(t->comm);
    up_backend_free(t->backend);
    for (size_t i = 0; t->sources && i < t->settings.task_count; i++) up_source_close(&t->sources[i]);
    free(t->sources);
    free(t->sums);
    free(t->latest);
    free(t->taken);
    free(t->order);
    up_world_free(&t->world);
    up_tokenizer_free(t->world.tokenizer);
    up_settings_free(&t->settings);
    memset(t, 0, sizeof *t);
}
