/* validate.c - scores while a run trains: every `validate_every` steps and at the end, of the weights, or of
 * their average where there is one. What measures comes from outside (up_validator). */
#include "train/trainer.h"

#include <stdio.h>
#include <string.h>

static int is_evaluation(const up_settings *s, const char *name, size_t length) {
    for (size_t i = 0; i < s->evaluation_count; i++) {
        const char *other = s->evaluations[i].name;
        if (strlen(other) == length && !memcmp(other, name, length)) return 1;
    }
    return 0;
}

static up_status check_best(const up_settings *s) {
    const char *slash = strrchr(s->best, '/');
    if (!s->validate_every) return up_fail(UP_ERR_ARGUMENT, "best", "%s, but validate_every is 0", s->best);
    if (!slash || !slash[1])
        return up_fail(UP_ERR_ARGUMENT, "best", "\"%s\"; wanted EVALUATION/METRIC", s->best);
    if (!is_evaluation(s, s->best, (size_t)(slash - s->best)))
        return up_fail(UP_ERR_ARGUMENT, "best", "\"%s\": no evaluation has this name", s->best);
    return UP_OK;
}

up_status up_validation_check(const up_settings *s) {
    if (s->validate_every && !s->evaluation_count)
        return up_fail(UP_ERR_ARGUMENT, "validate_every", "%lld, but there are no evaluations",
                       (long long)s->validate_every);
    for (size_t i = 0; i < s->validate_count; i++)
        if (!is_evaluation(s, s->validate[i], strlen(s->validate[i])))
            return up_fail(UP_ERR_ARGUMENT, "validate", "\"%s\": no evaluation has this name",
                           s->validate[i]);
    return s->best ? check_best(s) : UP_OK;
}

int up_validation_due(const up_trainer *t) {
    int64_t every = t->settings.validate_every;
    if (!every || t->validated >= t->step) return 0;
    return t->step % every == 0 || t->step == t->settings.steps;
}

/* The score that `best` names. */
static up_status score_of(const up_settings *s, const json_t *scores, double *out) {
    char name[256];
    const char *metric = strrchr(s->best, '/') + 1;
    snprintf(name, sizeof name, "%.*s", (int)(metric - 1 - s->best), s->best);
    const json_t *value = json_object_get(json_object_get(scores, name), metric);
    *out = json_number_value(value);
    return json_is_number(value)
               ? UP_OK
               : up_fail(UP_ERR_ARGUMENT, "best", "\"%s\": %s was not measured", s->best, metric);
}

static up_status take_scores(up_trainer *t, json_t *scores, int *better) {
    double score = 0;
    if (t->settings.best) {
        UP_TRY(score_of(&t->settings, scores, &score));
        *better = !t->best_step || score > t->best;
    }
    json_t *line = json_pack("{s:I, s:O}", "step", (json_int_t)t->step, "validation", scores);
    up_status status = up_metrics_write(t, line);
    json_decref(line);
    UP_TRY(status);
    t->validated = t->step;
    if (!*better) return UP_OK;
    t->best = score;
    t->best_step = t->step;
    return UP_OK;
}

up_status up_validation_run(up_trainer *t, int *better) {
    json_t *scores = NULL;
    double begun = up_now();
    *better = 0;
    UP_TRY(up_average_swap(&t->average));
    up_status status = t->validator(t, &scores);
    UP_TRY(up_average_swap(&t->average));
    if (status == UP_OK) status = take_scores(t, scores, better);
    json_decref(scores);
    t->last_line += up_now() - begun; /* no part of training's rates */
    return status;
}
