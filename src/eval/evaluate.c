/* evaluate.c - all evaluations of a configuration on one model, without any tuning. */
#include "eval/eval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static up_status open_evaluation(up_evaluation *e, const char *model_path) {
    char path[4096];
    snprintf(path, sizeof path, "%s/model.safetensors", e->settings.run);
    up_load_options options = {
        .backend = e->options.backend, .threads = e->options.threads, .max_pixels = e->settings.max_pixels};
    UP_TRY(up_model_load(model_path ? model_path : path, &options, &e->session));
    up_model *model = up_session_model(e->session);
    UP_TRY(up_run_create(model, 0, &e->run));
    int count;
    const int32_t *targets = up_model_targets(model, &count);
    e->world.limits.max_pixels = e->settings.max_pixels;
    e->world.config = up_model_config(model);
    e->world.tokenizer = up_session_tokenizer(e->session);
    return up_world_set_targets(&e->world, targets, count);
}

static void close_evaluation(up_evaluation *e) {
    up_work_free(&e->work);
    up_world_free(&e->world);
    up_run_free(e->run);
    up_session_close(e->session);
    up_settings_free(&e->settings);
    free(e->scores.list);
    free(e);
}

static int is_trained(const up_evaluation *e, const up_task *task) {
    return up_config_task(e->world.config, task->name) >= 0;
}

static int generates(const up_task *task) {
    return task->objective == UP_AR && (task->image || task->video);
}

static up_status evaluate_one(up_evaluation *e, const up_task_settings *settings) {
    up_source source;
    UP_TRY(up_source_open(settings, &e->world, &source));
    if (!e->options.quiet) fprintf(stderr, "evaluating %s: %zu rows\n", settings->name, source.table.rows);
    int trained = is_trained(e, source.task);
    up_status status =
        generates(source.task) ? up_measure_captions(e, &source, trained) : up_measure(e, &source, trained);
    up_source_close(&source);
    return status;
}

/* Examples in words of the first captioning and the first retrieval. */
static up_status show_examples(up_evaluation *e) {
    int captions = 0, retrievals = 0;
    for (size_t i = 0; i < e->settings.evaluation_count; i++) {
        up_source source;
        UP_TRY(up_source_open(&e->settings.evaluations[i], &e->world, &source));
        up_status status = UP_OK;
        if (generates(source.task) && !captions++)
            status = up_show_captions(e, &source);
        else if (source.task->objective == UP_RETRIEVE && !retrievals++)
            status = up_show_retrievals(e, &source);
        up_source_close(&source);
        UP_TRY(status);
    }
    return UP_OK;
}

up_status up_evaluate(const char *config_path, const char *const *overrides, size_t count,
                      const up_train_options *options, const char *model_path, const char *json_path) {
    char path[4096];
    up_evaluation *e = calloc(1, sizeof *e);
    if (!e) return up_fail(UP_ERR_MEMORY, "evaluation", "%zu bytes wanted", sizeof *e);
    if (options) e->options = *options;
    up_status status = up_settings_read(config_path, overrides, count, &e->settings);
    if (status != UP_OK) {
        free(e);
        return status;
    }
    if (!e->settings.evaluation_count) UP_GO(up_fail(UP_ERR_ARGUMENT, config_path, "lists no evaluations"));
    UP_GO(open_evaluation(e, model_path));
    for (size_t i = 0; i < e->settings.evaluation_count; i++)
        UP_GO(evaluate_one(e, &e->settings.evaluations[i]));
    UP_GO(show_examples(e));
    up_report_table(&e->scores);
    snprintf(path, sizeof path, "%s/metrics.json", e->settings.run);
    UP_GO(up_report_json(&e->scores, json_path ? json_path : path));
done:
    close_evaluation(e);
    return status;
}
