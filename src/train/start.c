/* start.c - runs that begin with a model: fine-tuning makes a model of its own of it, prompt tuning an
 * overlay that shares its weights (paper section 3.3, appendix C). */
#include "files/resize_grid.h"
#include "train/trainer.h"

#include <stdio.h>
#include <stdlib.h>

/* What the run's weights begin as: the tuned task where there is one, else the model. */
static up_model *start_of(const up_trainer *t) {
    return t->start ? t->start : t->base;
}

up_status up_start_read(up_trainer *t) {
    char path[4096];
    const up_settings *s = &t->settings;
    UP_TRY(up_settings_init_path(s, path, sizeof path));
    UP_TRY(up_model_read(t->backend, path, &t->base));
    if (s->tuned) UP_TRY(up_overlay_read(t->base, s->tuned, &t->start));
    return up_settings_model_over(s, up_model_config(start_of(t)), &t->config);
}

/* Whether a source's classes are those of the head. */
static int wants_head(const up_trainer *t, const up_source *s) {
    if (s->settings->head != UP_HEAD_AUTO) return s->settings->head != UP_HEAD_NONE;
    return t->settings.tune != UP_TUNE_ALL && s->task->head;
}

static const up_source *source_of_head(const up_trainer *t) {
    for (size_t i = 0; i < t->settings.task_count; i++)
        if (t->sources[i].head) return &t->sources[i];
    return NULL;
}

up_status up_start_head(up_trainer *t) {
    t->config.classes = t->config.head_only = 0;
    for (size_t i = 0; i < t->settings.task_count; i++) {
        up_source *s = &t->sources[i];
        if (!wants_head(t, s)) continue;
        const up_source *other = source_of_head(t);
        if (other)
            return up_fail(UP_ERR_ARGUMENT, s->settings->name,
                           "%s has the model's linear head already: head: none?", other->settings->name);
        s->head = 1;
        t->config.classes = (int)s->class_count;
        t->config.head_only = s->settings->head == UP_HEAD_LINEAR;
        if (t->config.head_only && t->settings.tune != UP_TUNE_ALL)
            return up_fail(UP_ERR_ARGUMENT, s->settings->name, "head: linear wants tune: all");
    }
    return up_config_check(&t->config);
}

/* A temperature that the model begun with has not starts as that of the nearest task. */
static up_status start_temperatures(const up_trainer *t) {
    const up_model *from = start_of(t);
    const up_config *had = up_model_config(from);
    for (int i = 0; i < t->config.tasks; i++) {
        const char *name = t->config.task_names[i];
        int nearest = up_task_temperature(had, name);
        if (up_config_task(had, name) >= 0 || nearest < 0) continue;
        up_view to = up_model_weight(t->model, up_model_params(t->model)->temperature[i]);
        up_view weight = up_model_weight(from, up_model_params(from)->temperature[nearest]);
        UP_TRY(t->backend->ops->copy(t->backend, to, weight));
    }
    return UP_OK;
}

/* A model for pictures of another size begins with the table of patches' positions resized. */
static up_status start_positions(const up_trainer *t) {
    const up_model *from = start_of(t);
    const up_config *had = up_model_config(from);
    const up_backend_ops *ops = t->backend->ops;
    if (had->image_size == t->config.image_size) return UP_OK;
    up_status status = UP_OK;
    up_view was = up_model_weight(from, up_model_params(from)->space);
    up_view is = up_model_weight(t->model, up_model_params(t->model)->space);
    float *values = malloc((size_t)(was.rows * was.cols) * sizeof *values);
    float *resized = malloc((size_t)(is.rows * is.cols) * sizeof *resized);
    if (!values || !resized)
        UP_GO(up_fail(UP_ERR_MEMORY, t->settings.init_from, "no memory to resize its table of positions"));
    UP_GO(ops->download(t->backend, values, was));
    up_resize_grid(values, had->image_size / had->patch, resized, t->config.image_size / t->config.patch,
                   is.cols);
    UP_GO(ops->upload(t->backend, is, resized));
done:
    free(values);
    free(resized);
    return status;
}

/* Words that the model has, and those of the run's own texts. */
static up_status start_targets(up_trainer *t) {
    int count;
    const int32_t *ids = up_model_targets(start_of(t), &count);
    UP_TRY(up_world_join(&t->world, ids, count));
    return ids ? up_model_set_targets(t->model, t->world.vocabulary, t->world.vocabulary_count)
               : up_model_set_targets(t->model, NULL, 0);
}

up_status up_start_model(up_trainer *t) {
    const up_config *c = &t->config;
    uint64_t seed = (uint64_t)t->settings.seed;
    int whole = t->settings.tune == UP_TUNE_ALL;
    UP_TRY(whole ? up_model_create(t->backend, c, seed, &t->model)
                 : up_overlay_create(t->base, c->prompts, c->prompt_sides, c->classes, seed, &t->model));
    UP_TRY(up_start_name_classes(t));
    UP_TRY(up_model_copy(t->model, start_of(t)));
    UP_TRY(start_positions(t));
    UP_TRY(start_temperatures(t));
    UP_TRY(start_targets(t));
    up_model_destroy(t->start);
    t->start = NULL;
    if (!whole) return UP_OK;
    up_model_destroy(t->base);
    t->base = NULL;
    return UP_OK;
}

up_status up_start_name_classes(up_trainer *t) {
    const up_source *s = source_of_head(t);
    return s ? up_model_set_classes(t->model, (const char *const *)s->classes, (int)s->class_count) : UP_OK;
}
