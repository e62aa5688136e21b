/* source.c - opening a task's list, its classes, and the vocabulary of the language tasks. */
#include "tasks/source.h"
#include "tasks/classes.h"

#include <stdlib.h>
#include <string.h>

static up_status open_columns(up_source *s) {
    const up_task *t = s->task;
    const up_task_settings *c = s->settings;
    if (t->image) UP_TRY(up_table_column(&s->table, c->image, &s->image));
    if (t->video) UP_TRY(up_table_column(&s->table, c->video, &s->video));
    if (t->text && !t->text->asked) UP_TRY(up_table_column(&s->table, c->text, &s->text));
    if (c->text_pair) UP_TRY(up_table_column(&s->table, c->text_pair, &s->pair));
    if (c->question_column) UP_TRY(up_table_column(&s->table, c->question_column, &s->question));
    if (t->targets != UP_TARGETS_WORDS) UP_TRY(up_table_column(&s->table, c->target, &s->target));
    return UP_OK;
}

static up_status check(const up_source *s) {
    const up_task_settings *settings = s->settings;
    const up_config *c = s->world->config;
    if (s->task->text && s->task->text->asked && !settings->question == !settings->question_column)
        return up_fail(UP_ERR_ARGUMENT, settings->name, "wants a question, or a question_column");
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
    UP_GO(up_table_read(settings->data, &s->table));
    UP_GO(open_columns(s));
    if (s->task->targets == UP_TARGETS_CLASSES) UP_GO(up_classes_open(s));
    if (settings->fraction > 0 && settings->fraction < 1) UP_GO(up_source_thin(s));
done:
    if (status != UP_OK) up_source_close(s);
    return status;
}

void up_source_close(up_source *s) {
    up_table_free(&s->table);
    up_classes_close(s);
    memset(s, 0, sizeof *s);
}

static up_status mark_texts(up_world *w, const up_source *s, uint8_t *seen) {
    size_t limit = (size_t)s->settings->text_limit, count;
    int32_t *ids = malloc(limit * sizeof *ids);
    if (!ids) return up_fail(UP_ERR_MEMORY, s->settings->name, "%zu ids wanted", limit);
    up_status status = UP_OK;
    for (size_t row = 0; row < s->table.rows && status == UP_OK; row++) {
        const char *text = up_table_cell(&s->table, row, s->text);
        status = up_tokenize_closed(w->tokenizer, text, strlen(text), limit, ids, &count);
        for (size_t i = 0; i < count && status == UP_OK; i++) seen[ids[i]] = 1;
    }
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

up_status up_world_collect(up_world *w, const up_source *sources, size_t count) {
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
