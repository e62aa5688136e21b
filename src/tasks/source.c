/* source.c - opening a task's list, its classes, and the vocabulary of the language tasks. */
#include "tasks/source.h"
#include "files/digest.h"
#include "tasks/classes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const up_vocabulary_names[] = {"auto", "corpus", "whole", NULL};

up_status up_source_lacks(const up_source *s, size_t row, const up_sample *sample, const char *name) {
    char known[256], why[512];
    up_sample_names(sample, known, sizeof known);
    snprintf(why, sizeof why, "no column \"%s\"; there are %s", name, known);
    return up_dataset_fail(&s->data, row, UP_ERR_FORMAT, why);
}

/* The value that is the picture or clip of a sample, and the folder that such files are in. */
static const up_value *media_of(const up_source *s, const up_sample *sample, const char **name,
                                const char **folder) {
    *name = s->task->video ? s->settings->video : s->settings->image;
    *folder = s->task->video ? s->settings->videos : s->settings->images;
    return up_sample_value(sample, *name, 0);
}

up_status up_source_media(const up_source *s, const up_sample *sample, size_t row, up_media *out) {
    const char *name, *folder;
    const up_value *value = media_of(s, sample, &name, &folder);
    return value ? up_dataset_media(&s->data, sample, value, folder, out)
                 : up_source_lacks(s, row, sample, name);
}

uint64_t up_source_picture(const up_source *s, const up_sample *sample) {
    const char *name, *folder;
    const up_value *value = s->task->image || s->task->video ? media_of(s, sample, &name, &folder) : NULL;
    if (!value) return 0;
    const char *text = up_value_text(sample, value);
    uint64_t place[2] = {(uint64_t)value->shard, value->offset};
    uint64_t digest = up_digest(up_digest(0, place, sizeof place), text, strlen(text));
    return digest ? digest : 1;
}

up_status up_source_class(const up_source *s, const up_sample *sample, size_t row, int *class) {
    const up_value *v;
    const char *name = "", *target = s->settings->target;
    *class = -1;
    for (size_t k = 0; *class < 0 && (v = up_sample_value(sample, target, k)); k++) {
        name = up_value_text(sample, v);
        *class = up_classes_find(s, name);
    }
    if (*class < 0 && *name && up_sample_count(sample, target) == 1) return up_classes_unknown(s, row, name);
    return UP_OK;
}

up_status up_source_is_labelled(const up_source *s, size_t row, int *yes) {
    up_sample sample = {0};
    int class = 0;
    up_status status = UP_OK;
    if (s->task->targets == UP_TARGETS_CLASSES) {
        UP_GO(up_dataset_sample(&s->data, row, &sample));
        UP_GO(up_source_class(s, &sample, row, &class));
    }
done:
    up_sample_free(&sample);
    *yes = class >= 0;
    return status;
}

/* The first sample that can be read; where the first hundred cannot, why the first cannot. */
static up_status find_readable(const up_source *s, up_sample *sample, size_t *row) {
    up_status status = UP_ERR_FORMAT;
    for (*row = 0; *row < s->data.count && *row < UP_ATTEMPTS; ++*row) {
        status = up_dataset_sample(&s->data, *row, sample);
        if (!up_is_of_sample(status)) return status;
    }
    *row = 0;
    return up_dataset_sample(&s->data, 0, sample);
}

/* That sample tells whether the values that the task takes are there. */
static up_status check_names(const up_source *s) {
    const up_task *t = s->task;
    const up_task_settings *c = s->settings;
    const char *const question = c->question ? NULL : c->question_column;
    const char *const wanted[] = {t->image ? c->image : NULL, t->video ? c->video : NULL,
                                  t->text ? t->text->asked ? question : c->text : NULL, c->text_pair,
                                  t->targets != UP_TARGETS_WORDS ? c->target : NULL};
    up_sample sample = {0};
    size_t row;
    up_status status = find_readable(s, &sample, &row);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted && status == UP_OK; i++)
        if (wanted[i] && !up_sample_count(&sample, wanted[i]))
            status = up_source_lacks(s, row, &sample, wanted[i]);
    up_sample_free(&sample);
    return status;
}

static up_dataset_options options_of(const up_task_settings *t) {
    return (up_dataset_options){.data = t->data,
                                .format = t->format,
                                .index = t->index,
                                .split = t->split,
                                .images = t->images,
                                .videos = t->videos,
                                .annotations = t->annotations,
                                .columns = t->columns,
                                .leave_out = t->leave_out};
}

static up_status check(const up_source *s) {
    const up_task_settings *settings = s->settings;
    const up_config *c = s->world->config;
    if (c->vocabulary < UP_VOCAB_SIZE)
        return up_fail(UP_ERR_ARGUMENT, settings->name,
                       "the model's vocabulary of %d is smaller than the tokenizer's %d", c->vocabulary,
                       UP_VOCAB_SIZE);
    if (settings->frames > c->frames)
        return up_fail(UP_ERR_ARGUMENT, settings->name, "frames %lld are more than the model's %d",
                       (long long)settings->frames, c->frames);
    if (settings->text_limit > c->text_positions)
        return up_fail(UP_ERR_ARGUMENT, settings->name,
                       "text_limit %lld is more than the model's %d text positions",
                       (long long)settings->text_limit, c->text_positions);
    return UP_OK;
}

up_status up_source_open(const up_task_settings *settings, const up_world *world, up_source *s) {
    up_status status = UP_OK;
    *s = (up_source){.task = &up_tasks_table[settings->kind], .settings = settings, .world = world};
    s->temperature = up_task_temperature(world->config, s->task->name);
    UP_GO(check(s));
    const up_dataset_options options = options_of(settings);
    UP_GO(up_dataset_open(&options, &s->data));
    UP_GO(check_names(s));
    if (s->task->targets == UP_TARGETS_CLASSES) UP_GO(up_classes_open(s));
    if (settings->fraction > 0 && settings->fraction < 1) UP_GO(up_source_thin(s));
done:
    if (status != UP_OK) up_source_close(s);
    return status;
}

void up_source_close(up_source *s) {
    up_dataset_close(&s->data);
    up_classes_close(s);
    memset(s, 0, sizeof *s);
}

static up_status mark_texts(up_world *w, const up_source *s, uint8_t *seen) {
    size_t limit = (size_t)s->settings->text_limit, count;
    int32_t *ids = malloc(limit * sizeof *ids);
    if (!ids) return up_fail(UP_ERR_MEMORY, s->settings->name, "%zu ids wanted", limit);
    up_sample sample = {0};
    up_status status = UP_OK;
    for (size_t row = 0; row < s->data.count && status == UP_OK; row++) {
        const up_value *v;
        status = up_dataset_sample(&s->data, row, &sample);
        if (up_is_of_sample(status)) {
            status = UP_OK; /* one that training passes over */
            continue;
        }
        for (size_t k = 0; status == UP_OK && (v = up_sample_value(&sample, s->settings->text, k)); k++) {
            const char *text = up_value_text(&sample, v);
            status = up_tokenize_closed(w->tokenizer, text, strlen(text), limit, ids, &count);
            for (size_t i = 0; i < count && status == UP_OK; i++) seen[ids[i]] = 1;
        }
    }
    up_sample_free(&sample);
    free(ids);
    return status;
}

static up_status index_vocabulary(up_world *w) {
    w->vocabulary_index = malloc((size_t)w->config->vocabulary * sizeof *w->vocabulary_index);
    if (!w->vocabulary_index)
        return up_fail(UP_ERR_MEMORY, "target set", "%d places wanted", w->config->vocabulary);
    for (int i = 0; i < w->config->vocabulary; i++) w->vocabulary_index[i] = -1;
    for (int i = 0; i < w->vocabulary_count; i++) w->vocabulary_index[w->vocabulary[i]] = i;
    return UP_OK;
}

up_status up_world_set_targets(up_world *w, const int32_t *ids, int count) {
    int all = !ids;
    if (all) count = w->config->vocabulary - 1; /* every entry but <SPE> */
    w->vocabulary = malloc((size_t)(count ? count : 1) * sizeof *w->vocabulary);
    if (!w->vocabulary) return up_fail(UP_ERR_MEMORY, "target set", "%d ids wanted", count);
    for (int i = 0; i < count; i++) w->vocabulary[i] = all ? i : ids[i];
    w->vocabulary_count = count;
    return index_vocabulary(w);
}

static int is_too_large(const up_source *s) {
    return s->task->targets == UP_TARGETS_WORDS && !s->data.small;
}

up_status up_world_collect(up_world *w, const up_source *sources, size_t count, up_vocabulary_choice choice) {
    for (size_t i = 0; i < count && choice == UP_VOCABULARY_AUTO; i++)
        if (is_too_large(&sources[i])) choice = UP_VOCABULARY_WHOLE;
    if (choice == UP_VOCABULARY_WHOLE) return up_world_set_targets(w, NULL, 0);
    uint8_t *seen = calloc((size_t)w->config->vocabulary, 1);
    int32_t *ids = malloc((size_t)w->config->vocabulary * sizeof *ids);
    up_status status = seen && ids ? UP_OK : up_fail(UP_ERR_MEMORY, "target set", "no memory to collect it");
    int found = 0;
    for (size_t i = 0; i < count && status == UP_OK; i++)
        if (sources[i].task->targets == UP_TARGETS_WORDS) status = mark_texts(w, &sources[i], seen);
    for (int i = 0; status == UP_OK && i < w->config->vocabulary; i++)
        if (seen[i]) ids[found++] = i;
    if (status == UP_OK) status = up_world_set_targets(w, ids, found);
    free(seen);
    free(ids);
    return status;
}

up_status up_world_join(up_world *w, const int32_t *ids, int count) {
    uint8_t *seen = calloc((size_t)w->config->vocabulary, 1);
    int32_t *both = malloc((size_t)w->config->vocabulary * sizeof *both);
    up_status status = seen && both ? UP_OK : up_fail(UP_ERR_MEMORY, "target set", "no memory to join it");
    int found = 0;
    for (int i = 0; status == UP_OK && i < count; i++) seen[ids[i]] = 1;
    for (int i = 0; status == UP_OK && i < w->vocabulary_count; i++) seen[w->vocabulary[i]] = 1;
    for (int i = 0; status == UP_OK && i < w->config->vocabulary; i++)
        if (seen[i]) both[found++] = i;
    up_world_free(w);
    if (status == UP_OK) status = up_world_set_targets(w, ids ? both : NULL, found);
    free(seen);
    free(both);
    return status;
}

void up_world_free(up_world *w) {
    free(w->vocabulary);
    free(w->vocabulary_index);
    w->vocabulary = w->vocabulary_index = NULL;
    w->vocabulary_count = 0;
}
