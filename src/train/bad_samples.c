/* bad_samples.c - samples that could not be read and were replaced: known to all ranks, counted by task,
 * listed once each in the run's folder, and the end of a run that has too many of them. They are taken up
 * when the step that they were drawn for is whole, so that neither the loader's threads nor a restart change
 * what is told. */
#include "files/digest.h"
#include "ref/log.h"
#include "train/trainer.h"

#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AT_LEAST = 1000, TOLD = 10 }; /* samples that a share is of; lines on stderr */

/* One on its way to the list: plain bytes, the same on every rank. */
struct up_bad_event {
    int64_t iteration, source;
    int order; /* among those of the iteration */
    up_bad_sample sample;
};

static up_status no_memory(const up_trainer *t) {
    return up_fail(UP_ERR_MEMORY, t->settings.run, "no memory for the samples that cannot be read");
}

static void path_of(const up_trainer *t, char *path, size_t room) {
    snprintf(path, room, "%s/bad-samples.jsonl", t->settings.run);
}

/* ---- what is listed already: digests of task and number ---- */

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* *first 1: it was not there. */
static up_status remember(up_trainer *t, const char *task, uint64_t number, int *first) {
    uint64_t *key = malloc(sizeof *key);
    if (!key) return no_memory(t);
    *key = up_digest(up_digest(0, &number, sizeof number), task, strlen(task));
    uint64_t **found = tsearch(key, &t->bad.listed, compare);
    *first = found && *found == key;
    if (!*first) free(key);
    return found ? UP_OK : no_memory(t);
}

static up_status remember_line(up_trainer *t, const char *line, size_t size) {
    int first;
    json_t *entry = json_loadb(line, size, 0, NULL);
    const char *task = json_string_value(json_object_get(entry, "task"));
    up_status status = UP_OK;
    if (task)
        status = remember(t, task, (uint64_t)json_integer_value(json_object_get(entry, "sample")), &first);
    json_decref(entry);
    return status;
}

static up_status remember_file(up_trainer *t, const char *path) {
    char *line = NULL;
    size_t room = 0;
    ssize_t size;
    up_status status = UP_OK;
    FILE *f = fopen(path, "re");
    while (f && status == UP_OK && (size = getline(&line, &room, f)) > 0)
        status = remember_line(t, line, (size_t)size);
    free(line);
    if (f) fclose(f);
    return status;
}

/* ---- opening and closing ---- */

up_status up_bad_samples_open(up_trainer *t) {
    char path[4096];
    size_t bytes = t->settings.task_count * sizeof(int64_t);
    memcpy(t->bad.before, t->bad.count, bytes);
    memcpy(t->bad.taken_before, t->taken, bytes);
    if (!up_leads(t)) return UP_OK;
    path_of(t, path, sizeof path);
    UP_TRY(up_jsonl_truncate(path, t->step));
    return remember_file(t, path);
}

void up_bad_samples_close(up_trainer *t) {
    if (t->bad.opened) up_jsonl_close(&t->bad.list);
    tdestroy(t->bad.listed, free);
    free(t->bad.count);
    free(t->bad.before);
    free(t->bad.taken_before);
    free(t->bad.events);
    t->bad = (up_bad_samples){0};
}

/* ---- taking them up ---- */

up_status up_bad_samples_note(up_trainer *t, const up_work *work) {
    up_bad_samples *b = &t->bad;
    if (!work->bad_count) return UP_OK;
    UP_TRY(up_work_reserve(&b->events, sizeof *b->events, &b->capacity, b->noted + work->bad_count));
    for (int i = 0; i < work->bad_count; i++)
        b->events[b->noted++] = (up_bad_event){.iteration = work->iteration,
                                               .source = work->source - t->sources,
                                               .order = i,
                                               .sample = work->bad[i]};
    return UP_OK;
}

static int by_iteration(const void *a, const void *b) {
    const up_bad_event *x = a, *y = b;
    if (x->iteration == y->iteration) return x->order - y->order;
    return (x->iteration > y->iteration) - (x->iteration < y->iteration);
}

/* Those of all ranks, in the order of their iterations: what one rank alone would have found. */
static up_status gather(up_trainer *t) {
    up_bad_samples *b = &t->bad;
    int ranks = t->comm->ranks;
    int64_t mine = b->noted, most = 0;
    size_t total = 0;
    up_bad_event *sent = NULL, *all = NULL;
    up_status status = UP_OK;
    int64_t *counts = malloc((size_t)ranks * sizeof *counts);
    if (!counts) return no_memory(t);
    UP_GO(t->comm->ops->share(t->comm, &mine, counts, sizeof mine));
    for (int r = 0; r < ranks; r++) most = counts[r] > most ? counts[r] : most;
    sent = calloc((size_t)most, sizeof *sent);
    all = malloc((size_t)(most * ranks) * sizeof *all);
    if (!sent || !all) UP_GO(no_memory(t));
    if (mine) memcpy(sent, b->events, (size_t)mine * sizeof *sent);
    UP_GO(t->comm->ops->share(t->comm, sent, all, (size_t)most * sizeof *sent));
    for (int r = 0; r < ranks; r++) {
        memmove(all + total, all + r * most, (size_t)counts[r] * sizeof *all);
        total += (size_t)counts[r];
    }
    qsort(all, total, sizeof *all, by_iteration);
    free(b->events);
    b->events = all;
    b->noted = b->capacity = (int)total;
    all = NULL;
done:
    free(counts);
    free(sent);
    free(all);
    return status;
}

static json_t *line_of(const up_trainer *t, const up_bad_event *e, size_t number, uint64_t line) {
    const up_source *s = &t->sources[e->source];
    char data[4096];
    up_printable(s->settings->data, strlen(s->settings->data), data, sizeof data);
    json_t *object =
        json_pack("{s:I, s:s, s:s, s:I, s:s}", "step", (json_int_t)t->step, "task", s->settings->name, "data",
                  data, "sample", (json_int_t)number, "reason", e->sample.reason);
    if (object && line && json_object_set_new(object, "line", json_integer((json_int_t)line))) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static void tell(up_trainer *t, const up_bad_event *e, const char *path) {
    if (t->options.quiet || t->bad.told > TOLD) return;
    if (t->bad.told++ < TOLD)
        up_log(UP_LOG_NOTICE, "%s: a sample cannot be read, another takes its place: %s",
               t->settings.tasks[e->source].name, e->sample.reason);
    else
        up_log(UP_LOG_NOTICE, "more samples cannot be read: all are listed in %s", path);
}

static up_status list(up_trainer *t, const up_bad_event *e) {
    const up_source *s = &t->sources[e->source];
    char path[4096];
    uint64_t line;
    int first;
    size_t number = up_dataset_number(&s->data, e->sample.row, &line);
    UP_TRY(remember(t, s->settings->name, number, &first));
    if (!first) return UP_OK;
    path_of(t, path, sizeof path);
    if (!t->bad.opened) UP_TRY(up_jsonl_open(path, &t->bad.list));
    t->bad.opened = 1;
    json_t *object = line_of(t, e, number, line);
    up_status status = object ? up_jsonl_append(&t->bad.list, object) : no_memory(t);
    json_decref(object);
    tell(t, e, path);
    return status;
}

up_status up_bad_samples_list(up_trainer *t) {
    for (int i = 0; i < t->bad.noted && up_leads(t); i++) UP_TRY(list(t, &t->bad.events[i]));
    return UP_OK;
}

up_status up_bad_samples_take(up_trainer *t) {
    if (t->comm->ranks > 1) UP_TRY(gather(t));
    UP_TRY(up_bad_samples_list(t));
    for (int i = 0; i < t->bad.noted; i++) t->bad.count[t->bad.events[i].source]++;
    t->bad.noted = 0;
    return UP_OK;
}

/* ---- what is counted ---- */

int64_t up_bad_samples_count(const up_trainer *t) {
    int64_t count = 0;
    for (size_t i = 0; i < t->settings.task_count; i++) count += t->bad.count[i];
    return count;
}

/* Of this process alone, so that a run whose data were mended goes on. */
static int64_t bad_of(const up_trainer *t, size_t task) {
    return t->bad.count[task] - t->bad.before[task];
}
static int64_t drawn_of(const up_trainer *t, size_t task) {
    return t->taken[task] - t->bad.taken_before[task] + bad_of(t, task);
}

/* Few samples tell no share: a task is judged as if it had drawn a thousand at the least. */
static int is_too_bad(const up_trainer *t, size_t task) {
    int64_t drawn = drawn_of(t, task) > AT_LEAST ? drawn_of(t, task) : AT_LEAST;
    return (double)bad_of(t, task) > t->settings.bad_samples * (double)drawn;
}

up_status up_bad_samples_check(const up_trainer *t) {
    char path[4096];
    for (size_t i = 0; i < t->settings.task_count; i++) {
        if (!is_too_bad(t, i)) continue;
        path_of(t, path, sizeof path);
        return up_fail(
            UP_ERR_FORMAT, t->settings.tasks[i].name,
            "%lld of %lld samples cannot be read, bad_samples allows %g%%: stopped after step %lld of %lld, "
            "with a checkpoint; %s lists them, \"uniperceiver check\" with the configuration finds all: mend "
            "the data or raise bad_samples, and continue with --resume",
            (long long)bad_of(t, i), (long long)drawn_of(t, i), 100 * t->settings.bad_samples,
            (long long)t->step, (long long)t->settings.steps, path);
    }
    return UP_OK;
}
