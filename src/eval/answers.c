/* answers.c - VQA's accuracy of an evaluation (vqa_accuracy.c), as the official tools print it. */
#include "eval/answers.h"
#include "eval/vqa_accuracy.h"

#include <stdlib.h>
#include <string.h>

enum { PEOPLE_MOST = 100 };

static const char answer[] = "answer", answer_type[] = "answer_type"; /* values of a sample of VQA */

/* The types that VQA has; the first row is all of them together. */
static const struct {
    const char *type, *metric;
} kinds[] = {{NULL, "VQA accuracy"},
             {"yes/no", "VQA accuracy, yes/no"},
             {"number", "VQA accuracy, number"},
             {"other", "VQA accuracy, other"}};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* A single answer to a question is its class: nobody agrees or disagrees with it. */
int up_has_answers(const up_source *s) {
    up_sample sample = {0};
    int asked = s->task->text && s->task->text->asked && s->task->targets == UP_TARGETS_CLASSES;
    int has =
        asked && up_dataset_sample(&s->data, 0, &sample) == UP_OK && up_sample_count(&sample, answer) > 1;
    up_sample_free(&sample);
    return has;
}

/* The accuracy of two classes as answers to one question. */
static up_status score_question(const up_source *s, const up_sample *sample, int32_t own, int32_t other,
                                double *score, double *chance) {
    const char *said[PEOPLE_MOST];
    size_t count = up_sample_count(sample, answer);
    *score = *chance = 0;
    if (!count) return UP_OK;
    if (count > PEOPLE_MOST) count = PEOPLE_MOST;
    for (size_t k = 0; k < count; k++) said[k] = up_value_text(sample, up_sample_value(sample, answer, k));
    UP_TRY(up_vqa_accuracy(s->classes[own], said, count, score));
    return up_vqa_accuracy(s->classes[other], said, count, chance);
}

static int kind_of(const up_sample *sample) {
    const up_value *type = up_sample_value(sample, answer_type, 0);
    for (int k = 1; type && k < KINDS; k++)
        if (!strcmp(kinds[k].type, up_value_text(sample, type))) return k;
    return 0;
}

/* The mean over the questions of a kind. */
static up_status add_kind(up_evaluation *e, const up_source *s, int kind, const int *kinds_of,
                          const double *scores, const double *chances, int64_t n) {
    double *own = malloc(((size_t)n + 1) * sizeof *own), chance = 0;
    int64_t count = 0;
    if (!own) return up_fail(UP_ERR_MEMORY, s->settings->name, "%lld scores wanted", (long long)n);
    for (int64_t i = 0; i < n; i++) {
        if (kind && kinds_of[i] != kind) continue;
        chance += chances[i];
        own[count++] = scores[i];
    }
    up_metric number = up_mean(own, count, count ? chance / (double)count : 0);
    free(own);
    return count || !kind ? up_score_add(e, s, kinds[kind].metric, number) : UP_OK;
}

up_status up_score_answers(up_evaluation *e, const up_source *s, const size_t *row, const int32_t *best,
                           int64_t n) {
    double *scores = malloc((size_t)n * sizeof *scores + 1),
           *chances = malloc((size_t)n * sizeof *chances + 1);
    int *kinds_of = malloc((size_t)n * sizeof *kinds_of + 1);
    up_sample sample = {0};
    up_status status = UP_OK;
    if (!scores || !chances || !kinds_of)
        UP_GO(up_fail(UP_ERR_MEMORY, s->settings->name, "%lld scores wanted", (long long)n));
    for (int64_t i = 0; i < n; i++) {
        UP_GO(up_dataset_sample(&s->data, row[i], &sample));
        UP_GO(score_question(s, &sample, best[i], best[i ? i - 1 : n - 1], &scores[i], &chances[i]));
        kinds_of[i] = kind_of(&sample);
    }
    for (int k = 0; k < KINDS; k++) UP_GO(add_kind(e, s, k, kinds_of, scores, chances, n));
done:
    up_sample_free(&sample);
    free(scores);
    free(chances);
    free(kinds_of);
    return status;
}
