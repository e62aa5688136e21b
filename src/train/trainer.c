/* trainer.c - opening and closing a training run: settings, samples, vocabulary, model, loader. */
#include "train/trainer.h"
#include "data/video_module.h"
#include "files/file.h"
#include "ref/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* The model of the run: fresh, or begun with another, which is read into t->start (start.c). */
static up_status open_config(up_trainer *t) {
    const up_settings *s = &t->settings;
    return s->init_from ? up_start_read(t) : up_settings_model(s, &t->config);
}

/* Processes that decode beside this one, one for each of the loader's threads. That no video can be decoded
 * is no fault of the videos, so it is known now. */
static up_status open_decoders(up_trainer *t) {
    const up_settings *s = &t->settings;
    int wanted = 0;
    for (size_t i = 0; i < s->task_count; i++) {
        const up_task *task = &up_tasks_table[s->tasks[i].kind];
        if (task->video) UP_TRY(up_video_require(s->tasks[i].name, "video"));
        wanted |= task->image || task->video;
    }
    if (!wanted || s->isolate == UP_ISOLATE_OFF) return UP_OK;
    up_status status = up_decoders_open((int)s->workers, s->decode_seconds, &t->world.decoders);
    return s->isolate == UP_ISOLATE_AUTO && status == UP_ERR_UNSUPPORTED ? UP_OK : status;
}

static up_status open_sources(up_trainer *t) {
    const up_settings *s = &t->settings;
    t->world.config = &t->config;
    t->world.limits.max_pixels = s->max_pixels;
    UP_TRY(up_tokenizer_create(NULL, &t->world.tokenizer));
    t->sources = calloc(s->task_count, sizeof *t->sources);
    t->sums = calloc(s->task_count, sizeof *t->sums);
    t->latest = calloc(s->task_count, sizeof *t->latest);
    t->taken = calloc(s->task_count, sizeof *t->taken);
    t->temperatures = calloc(s->task_count, sizeof *t->temperatures);
    t->losses = calloc(s->task_count, sizeof *t->losses);
    t->whole_taken = calloc(s->task_count, sizeof *t->whole_taken);
    t->bad.count = calloc(s->task_count, sizeof *t->bad.count);
    t->bad.before = calloc(s->task_count, sizeof *t->bad.before);
    t->bad.taken_before = calloc(s->task_count, sizeof *t->bad.taken_before);
    if (!t->bad.count || !t->bad.before || !t->bad.taken_before)
        return up_fail(UP_ERR_MEMORY, "tasks", "%zu wanted", s->task_count);
    if (!t->sources || !t->sums || !t->latest || !t->taken || !t->losses || !t->temperatures ||
        !t->whole_taken)
        return up_fail(UP_ERR_MEMORY, "tasks", "%zu wanted", s->task_count);
    for (size_t i = 0; i < s->task_count; i++) {
        UP_TRY(up_source_open(&s->tasks[i], &t->world, &t->sources[i]));
        t->sources[i].number = i;
    }
    UP_TRY(up_start_head(t));
    return up_world_collect(&t->world, t->sources, s->task_count, s->vocabulary);
}

static void tell_what_learns(const up_trainer *t) {
    int64_t counts[UP_GROUP_COUNT], all[UP_GROUP_COUNT], total = 0;
    int64_t learns = up_optimizer_count(t->stepper.optimizer, counts);
    up_params_count(up_model_params(t->model), all);
    for (int g = 0; g < UP_GROUP_COUNT; g++) total += all[g];
    up_log_line line = {.used = 0};
    for (int g = 0; g < UP_GROUP_COUNT; g++)
        if (counts[g])
            up_log_add(&line, " %s %lld", up_param_group_name((up_param_group)g), (long long)counts[g]);
    up_log(UP_LOG_NOTICE, "%lld of %lld parameters learn (%.2f%%):%s", (long long)learns, (long long)total,
           100 * (double)learns / (double)total, line.text);
}

static up_status open_model(up_trainer *t) {
    if (t->settings.init_from) {
        UP_TRY(up_start_model(t));
    } else {
        UP_TRY(up_model_create(t->backend, &t->config, (uint64_t)t->settings.seed, &t->model));
        UP_TRY(up_start_name_classes(t));
        UP_TRY(up_model_set_targets(t->model, t->world.vocabulary, t->world.vocabulary_count));
    }
    UP_TRY(up_stepper_open(&t->settings, t->model, t->comm, &t->stepper));
    for (size_t i = 0; i < t->settings.task_count; i++)
        UP_TRY(up_sets_bind(&t->stepper.sets, &t->sources[i]));
    up_stepper_divide(&t->stepper);
    up_ranks_tell_sets(t);
    if (t->settings.init_from && !t->options.quiet) tell_what_learns(t);
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

/* What rank 0 finds there, the others learn from it. */
static up_status restore(up_trainer *t, int *found) {
    *found = 0;
    if (!t->options.resume) return up_leads(t) ? up_checkpoint_refuse_existing(t) : UP_OK;
    if (up_leads(t)) UP_TRY(up_checkpoint_load(t, found));
    UP_TRY(up_ranks_restored(t, found));
    if (!*found && !t->options.quiet)
        up_log(UP_LOG_NOTICE, "%s: no checkpoint yet, starting at step 0", t->settings.run);
    return UP_OK;
}

/* The folder must be new, or the run continued: never two runs mixed in one. One rank writes in it. */
static up_status open_folder(up_trainer *t, const char *metrics_path) {
    int found;
    if (!up_leads(t)) {
        UP_TRY(restore(t, &found));
        return up_bad_samples_open(t);
    }
    UP_TRY(up_make_folders(t->settings.run));
    UP_TRY(lock_folder(t));
    UP_TRY(restore(t, &found));
    UP_TRY(up_bad_samples_open(t));
    UP_TRY(up_jsonl_truncate(metrics_path, found ? t->step : -1));
    UP_TRY(up_jsonl_open(metrics_path, &t->metrics));
    t->metrics_open = 1;
    return t->settings.events ? up_events_open(t->settings.run, found ? t->step + 1 : 0, &t->events) : UP_OK;
}

/* The loader's callback: a pure function of the iteration, counted from where this process began. */
static up_status build(void *context, int64_t place, void *slot) {
    const up_trainer *t = context;
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
    work->iteration = t->rounds.first + place * t->rounds.ranks + t->rounds.rank;
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
    up_status status = up_loader_create(build, t, slots, count, workers, 0, &t->loader);
    free(slots);
    return status;
}

/* The rest of the order, from where the checkpoint or the beginning has left it. */
static up_status start_order(up_trainer *t) {
    t->settled = t->started_step = t->step;
    t->rounds = (up_rounds){t->iterations, t->step, t->comm->rank, t->comm->ranks};
    t->started_samples = up_metrics_samples(t);
    return up_order_make(&t->settings, &t->rounds, (t->settings.steps - t->step) * t->settings.accumulate,
                         t->taken, &t->order);
}

up_status up_trainer_open(const char *config_path, const char *const *overrides, size_t count,
                          const up_train_options *options, up_trainer *t) {
    up_status status = UP_OK;
    char metrics_path[4096];
    memset(t, 0, sizeof *t);
    t->opened = up_now();
    if (options) t->options = *options;
    UP_TRY(up_settings_read(config_path, overrides, count, &t->settings));
    UP_GO(up_validation_check(&t->settings));
    snprintf(metrics_path, sizeof metrics_path, "%s/metrics.jsonl", t->settings.run);
    UP_GO(up_ranks_open(t));
    UP_GO(open_config(t));
    UP_GO(open_sources(t));
    UP_GO(open_model(t));
    if (up_leads(t)) UP_GO(up_average_open(&t->settings, t->model, t->stepper.gradients, &t->average));
    UP_GO(open_pending(t));
    UP_GO(open_folder(t, metrics_path));
    UP_GO(start_order(t));
    UP_GO(open_decoders(t));
    UP_GO(start_loader(t));
    t->started = up_now();
    t->last_line = t->started - t->carried;
done:
    if (status != UP_OK) {
        up_ranks_abandon(t);
        up_trainer_close(t);
    }
    return status;
}

void up_trainer_close(up_trainer *t) {
    up_checkpoint_wait(t); /* after a failure; its own has been said, or nobody waits for it */
    up_loader_free(t->loader);
    up_decoders_close(t->world.decoders);
    for (int i = 0; i < t->slots; i++) up_work_free(&t->work[i]);
    free(t->work);
    up_bad_samples_close(t);
    if (t->metrics_open) up_jsonl_close(&t->metrics);
    up_events_close(&t->events);
    up_average_close(&t->average);
    if (t->folder) close(t->folder);
    for (int64_t i = 0; t->pending && i < 2 * t->settings.accumulate; i++)
        up_loss_read_free(t->pending[i].read);
    free(t->pending);
    up_stepper_close(&t->stepper);
    up_model_destroy(t->start);
    up_model_destroy(t->model);
    up_model_destroy(t->base);
    up_comm_free(t->comm);
    up_backend_free(t->backend);
    for (size_t i = 0; t->sources && i < t->settings.task_count; i++) up_source_close(&t->sources[i]);
    free(t->sources);
    free(t->sums);
    free(t->latest);
    free(t->taken);
    free(t->losses);
    free(t->temperatures);
    free(t->whole_taken);
    free(t->order);
    up_world_free(&t->world);
    up_tokenizer_free(t->world.tokenizer);
    up_settings_free(&t->settings);
    memset(t, 0, sizeof *t);
}
