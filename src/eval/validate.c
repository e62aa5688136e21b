/* validate.c - training with validation: up_train, and how a run's evaluations are measured on the model that
 * it trains. Their lists are opened for each validation and closed behind it. */
#include "eval/eval.h"
#include "infer/session.h"
#include "train/trainer.h"

#include <stdlib.h>
#include <string.h>

static int is_chosen(const up_settings *s, const char *name) {
    for (size_t i = 0; i < s->validate_count; i++)
        if (!strcmp(s->validate[i], name)) return 1;
    return !s->validate_count;
}

static up_status add_score(json_t *scores, const up_score *score) {
    json_t *entry = json_object_get(scores, score->task);
    int failed = 0;
    if (!entry) {
        entry = json_object();
        failed = json_object_set_new(scores, score->task, entry);
    }
    if (failed || json_object_set_new(entry, score->metric, json_real(score->number.value)))
        return up_fail(UP_ERR_MEMORY, score->task, "no memory for its score");
    return UP_OK;
}

static up_status measure(up_evaluation *e, up_trainer *t, json_t *scores) {
    UP_TRY(up_session_over(t->model, up_settings_dtype(&t->settings), &e->session));
    UP_TRY(up_evaluation_prepare(e));
    UP_TRY(up_evaluate_all(e));
    for (size_t i = 0; i < e->scores.count; i++) UP_TRY(add_score(scores, &e->scores.list[i]));
    return UP_OK;
}

/* An up_validator. */
static up_status validate(up_trainer *t, json_t **out) {
    up_evaluation e = {.settings = t->settings, .options = t->options};
    up_task_settings *chosen = calloc(t->settings.evaluation_count + 1, sizeof *chosen);
    json_t *scores = json_object();
    up_status status = UP_OK;
    if (!chosen || !scores) UP_GO(up_fail(UP_ERR_MEMORY, "validation", "no memory for its scores"));
    e.settings.evaluations = chosen; /* the rest is the trainer's, as their contents are */
    e.settings.evaluation_count = 0;
    e.options.quiet = 1;
    for (size_t i = 0; i < t->settings.evaluation_count; i++)
        if (is_chosen(&t->settings, t->settings.evaluations[i].name))
            chosen[e.settings.evaluation_count++] = t->settings.evaluations[i];
    UP_GO(measure(&e, t, scores));
    *out = scores;
    scores = NULL;
done:
    memset(&e.settings, 0, sizeof e.settings);
    up_evaluation_close(&e);
    json_decref(scores);
    free(chosen);
    return status;
}

up_status up_train(const char *config_path, const char *const *overrides, size_t count,
                   const up_train_options *options) {
    return up_train_run(config_path, overrides, count, options, validate);
}
