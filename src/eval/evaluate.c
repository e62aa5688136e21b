/* evaluate.c - all evaluations of a configuration on one model, without any tuning. */
#include "eval/eval.h"
#include "data/lexicon.h"
#include "eval/parts.h"
#include "files/digest.h"
#include "infer/session.h"
#include "ref/given.h"
#include "ref/log.h"
#include "tasks/classes.h"

#include <stdlib.h>
#include <string.h>

/* What was tuned of the model, and with how much: the run's own one, or an overlay, as the settings say; a
 * model that is given is taken as it is. */
static void tell_tuning(up_evaluation *e, int given) {
    static const char *const names[] = {
        [UP_TUNE_ALL] = "all", [UP_TUNE_PROMPTS] = "prompts", [UP_TUNE_HEAD] = "head"};
    const up_settings *s = &e->settings;
    int overlay = e->options.tuned || (!given && s->tune != UP_TUNE_ALL), whole = !given && s->init_from;
    e->scores.tune = "none";
    e->scores.fraction = 1;
    if (!overlay && !whole) return;
    e->scores.tune = overlay && s->tune == UP_TUNE_ALL ? "prompts" : names[s->tune];
    e->scores.fraction = s->tasks[0].fraction;
}

up_status up_evaluation_open(up_evaluation *e, const char *model_path) {
    char path[4096], result[4096];
    const up_settings *s = &e->settings;
    const char *tuned = e->options.tuned;
    tell_tuning(e, model_path != NULL);
    UP_TRY(up_settings_result_path(s, result, sizeof result));
    if (!model_path && s->tune != UP_TUNE_ALL) { /* what the run tuned, over what it began with */
        UP_TRY(up_settings_init_path(s, path, sizeof path));
        model_path = path;
        if (!tuned) tuned = result;
    }
    const up_load_options options = {.backend = e->options.backend,
                                     .threads = e->options.threads,
                                     .max_pixels = e->settings.max_pixels,
                                     .precision = up_settings_dtype(&e->settings),
                                     .overlay = tuned,
                                     .cache = e->options.cache};
    UP_TRY(up_model_load(model_path ? model_path : result, &options, &e->session));
    return up_evaluation_prepare(e);
}

up_status up_evaluation_prepare(up_evaluation *e) {
    up_model *model = up_session_model(e->session);
    const up_encoder_options inference = {.dtype = up_settings_dtype(&e->settings)};
    UP_TRY(up_encoder_create(model, &inference, &e->encoder));
    UP_TRY(up_encoder_create(model, &inference, &e->scout));
    UP_TRY(up_cosines_create(up_model_backend(model), &e->cosines));
    e->sets.model = model;
    e->examples = open_memstream(&e->examples_text, &e->examples_size);
    if (!e->examples) return up_fail(UP_ERR_MEMORY, "examples", "no memory for their text");
    int count;
    const int32_t *targets = up_model_targets(model, &count);
    e->world.limits.max_pixels = e->settings.max_pixels;
    e->world.config = up_model_config(model);
    e->world.tokenizer = up_session_tokenizer(e->session);
    return up_world_set_targets(&e->world, targets, count);
}

void up_evaluation_close(up_evaluation *e) {
    up_predictions_free(e->predictions);
    up_work_free(&e->work);
    up_sets_free(&e->sets);
    up_world_free(&e->world);
    up_cosines_free(e->cosines);
    up_encoder_free(e->scout);
    up_encoder_free(e->encoder);
    up_session_close(e->session);
    up_settings_free(&e->settings);
    if (e->examples) fclose(e->examples);
    free(e->examples_text);
    free(e->parts_folder);
    free(e->scores.list);
    *e = (up_evaluation){0};
}

size_t up_evaluation_rows(const up_source *s) {
    size_t limit = (size_t)s->settings->limit;
    return limit && limit < s->data.count ? limit : s->data.count;
}

up_status up_evaluation_pictures(const up_source *s, int32_t *picture, int32_t *count) {
    size_t n = up_evaluation_rows(s);
    up_lexicon pictures = {0};
    up_sample sample = {0};
    char key[24];
    up_status status = UP_OK;
    int has = s->task->image || s->task->video;
    for (size_t i = 0; i < n; i++) {
        uint64_t own = i;
        if (has) UP_GO(up_dataset_sample(&s->data, i, &sample));
        if (has) own = up_source_picture(s, &sample);
        up_digest_text(own, key);
        UP_GO(up_lexicon_add(&pictures, key, strlen(key), &picture[i]));
    }
    *count = (int32_t)pictures.count;
done:
    up_lexicon_free(&pictures);
    up_sample_free(&sample);
    return status;
}

up_status up_evaluation_encode_set(up_evaluation *e, const up_source *s, uint64_t content) {
    if (up_set_file_read(e->session, s->set, content)) return UP_OK;
    UP_TRY(up_target_set_encode(s->set, &(up_set_encoders){.scout = e->scout}));
    up_set_file_write(e->session, s->set, content);
    return UP_OK;
}

up_status up_evaluation_goes_on(const up_evaluation *e, const up_source *s) {
    if (!up_asked_to_stop(&e->options)) return UP_OK;
    return up_fail(UP_ERR_INTERRUPTED, s->settings->name, "evaluation stopped");
}

size_t up_shown_row(size_t n, int i) {
    return (size_t)(2 * i + 1) * n / (2 * UP_SHOWN);
}

/* In the model's training, or in the tuning that gave what is evaluated. */
static int is_trained(const up_evaluation *e, const up_task *task) {
    if (up_config_task(e->world.config, task->name) >= 0) return 1;
    if (!e->scores.tune || !strcmp(e->scores.tune, "none")) return 0;
    for (size_t i = 0; i < e->settings.task_count; i++)
        if (&up_tasks_table[e->settings.tasks[i].kind] == task) return 1;
    return 0;
}

up_status up_score_add(up_evaluation *e, const up_source *source, const char *metric, up_metric number) {
    up_scores *s = &e->scores;
    if (s->count == s->capacity) {
        size_t room = s->capacity ? 2 * s->capacity : 16;
        up_score *grown = realloc(s->list, room * sizeof *grown);
        if (!grown) return up_fail(UP_ERR_MEMORY, "scores", "%zu wanted", room);
        s->list = grown;
        s->capacity = room;
    }
    s->list[s->count++] = (up_score){.task = source->settings->name,
                                     .metric = metric,
                                     .trained = is_trained(e, source->task),
                                     .number = number};
    return UP_OK;
}

up_tokens up_evaluation_tokens(const up_evaluation *e) {
    up_tokens t;
    up_session_tokens(e->session, &t.inputs, &t.targets);
    t.inputs += up_encoder_tokens(e->encoder) + e->restored;
    t.targets += up_encoder_tokens(e->scout);
    return t;
}

/* What measures each metric of the table of tasks. */
static up_status (*const measures[])(up_evaluation *, const up_source *) = {
    [UP_METRIC_ACCURACY] = up_measure_accuracy,
    [UP_METRIC_WORDS] = up_measure_accuracy,
    [UP_METRIC_RECALL] = up_measure_recall,
    [UP_METRIC_CAPTIONS] = up_measure_captions,
};

/* Add the features of all classes in one template to sum [classes, D]. */
static up_status add_template(up_evaluation *e, const up_source *s, const char *form, float *one,
                              float *sum) {
    up_status status = UP_OK;
    int64_t *starts = NULL, values = (int64_t)s->class_count * e->world.config->width;
    int32_t *ids = NULL;
    UP_GO(up_classes_tokenize(s, form, &ids, &starts));
    UP_GO(up_target_set_fill_texts(e->averaged, ids, starts, (int64_t)s->class_count));
    UP_GO(up_target_set_encode(e->averaged, &(up_set_encoders){.scout = e->scout}));
    UP_GO(up_features_read(up_target_set_features(e->averaged), one));
    for (int64_t i = 0; i < values; i++) sum[i] += one[i];
done:
    free(ids);
    free(starts);
    return status;
}

/* Classes whose features are the mean over several templates: of length 1 each, and the mean again. */
static up_status average_templates(up_evaluation *e, up_source *s) {
    size_t values = s->class_count * (size_t)e->world.config->width;
    float *one = malloc(values * sizeof *one), *sum = calloc(values, sizeof *sum);
    up_status status = UP_OK;
    if (!one || !sum)
        UP_GO(up_fail(UP_ERR_MEMORY, s->settings->name, "features of %zu classes wanted", s->class_count));
    UP_GO(up_target_set_create(up_session_model(e->session), 0, 0, &e->averaged));
    for (size_t i = 0; i < s->settings->template_count; i++)
        UP_GO(add_template(e, s, s->settings->templates[i], one, sum));
    UP_GO(up_target_set_restore(e->averaged, sum));
    s->set = e->averaged;
done:
    free(one);
    free(sum);
    return status;
}

/* The words are the session's set, which its captions choose from, too; others are shared by their content.
 */
static up_status choose_set(up_evaluation *e, up_source *source) {
    const up_world *w = &e->world;
    if (source->settings->template_count) return average_templates(e, source);
    if (source->task->targets != UP_TARGETS_WORDS) return up_sets_bind(&e->sets, source);
    return up_session_words(e->session, w->vocabulary, w->vocabulary_count, &source->set);
}

static up_status evaluate_source(up_evaluation *e, up_source *source) {
    size_t first = e->scores.count;
    up_tokens before = up_evaluation_tokens(e);
    UP_TRY(choose_set(e, source));
    UP_TRY(measures[source->task->metric](e, source));
    up_tokens after = up_evaluation_tokens(e);
    up_tokens used = {after.inputs - before.inputs, after.targets - before.targets};
    for (size_t i = first; i < e->scores.count; i++) e->scores.list[i].tokens = used;
    if (!e->options.quiet)
        up_log(UP_LOG_REPORT, "  %lld tokens of inputs encoded, %lld of targets", (long long)used.inputs,
               (long long)used.targets);
    return UP_OK;
}

up_status up_evaluate_all(up_evaluation *e) {
    for (size_t i = 0; i < e->settings.evaluation_count; i++) {
        up_source source;
        UP_TRY(up_source_open(&e->settings.evaluations[i], &e->world, &source));
        if (!e->options.quiet)
            up_log(UP_LOG_REPORT, "evaluating %s: %zu rows", source.settings->name,
                   up_evaluation_rows(&source));
        up_status status = evaluate_source(e, &source);
        up_source_close(&source);
        up_target_set_free(e->averaged);
        e->averaged = NULL;
        UP_TRY(status);
    }
    return UP_OK;
}

static up_status report(up_evaluation *e, const char *json_path) {
    char path[4096];
    if (fflush(e->examples)) return up_fail(UP_ERR_MEMORY, "examples", "no memory for their text");
    fputs(e->examples_text, stdout);
    up_report_table(&e->scores);
    if (json_path) return up_report_json(&e->scores, json_path);
    snprintf(path, sizeof path, "%s/metrics.json", e->settings.run);
    UP_TRY(up_report_json(&e->scores, path));
    snprintf(path, sizeof path, "%s/predictions.jsonl", e->settings.run);
    return up_predictions_write(e->predictions, path);
}

/* Beside the numbers: PATH.parts. */
static up_status choose_parts(up_evaluation *e, const char *json_path) {
    int length = json_path ? asprintf(&e->parts_folder, "%s.parts", json_path)
                           : asprintf(&e->parts_folder, "%s/metrics.json.parts", e->settings.run);
    if (length >= 0) return UP_OK;
    e->parts_folder = NULL;
    return up_fail(UP_ERR_MEMORY, "evaluation", "no memory for a path");
}

up_status up_evaluation_read(up_evaluation *e, const char *config_path, const char *const *overrides,
                             size_t count, const up_train_options *options) {
    if (!config_path) return up_fail(UP_ERR_ARGUMENT, "configuration", "its path is NULL");
    if (count && !overrides) return up_fail(UP_ERR_ARGUMENT, "overrides", "%zu of them and no list", count);
    UP_TRY(up_options_take("options", options, UP_BYTES_TO(up_train_options, cache), &e->options,
                           sizeof e->options));
    UP_TRY(up_settings_read(config_path, overrides, count, &e->settings));
    return e->settings.evaluation_count ? UP_OK
                                        : up_fail(UP_ERR_ARGUMENT, config_path, "lists no evaluations");
}

up_status up_evaluate(const char *config_path, const char *const *overrides, size_t count,
                      const up_train_options *options, const char *model_path, const char *json_path) {
    up_evaluation e = {0};
    up_status status = UP_OK;
    UP_GO(up_evaluation_read(&e, config_path, overrides, count, options));
    UP_GO(up_evaluation_open(&e, model_path));
    if (!json_path)
        UP_GO(up_predictions_create(up_session_model(e.session), e.world.tokenizer, &e.predictions));
    UP_GO(choose_parts(&e, json_path));
    UP_GO(up_evaluate_all(&e));
    UP_GO(report(&e, json_path));
    up_parts_remove(e.parts_folder);
done:
    up_evaluation_close(&e);
    return status;
}
