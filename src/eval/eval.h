/* eval.h - what the files of src/eval share: one evaluation's context and its scores. evaluate.c opens and
 * dispatches, measure.c computes the metrics from features, captions.c generates and scores texts, report.c
 * prints and writes. */
#ifndef UP_EVAL_EVAL_H
#define UP_EVAL_EVAL_H

#include "tasks/source.h"
#include "train/settings.h"
#include "uniperceiver/uniperceiver.h"

typedef struct up_score {
    const char *task;            /* name of the evaluation, borrowed from the settings */
    const char *metric;          /* constant */
    int trained;                 /* the model was trained on this kind of task */
    double value, chance, error; /* error: standard error of the value */
    int64_t n;
} up_score;

typedef struct up_scores {
    up_score *list;
    size_t count, capacity;
} up_scores;

/* Features of all rows of a source: queries [n, D] and targets [v, D], length 1. */
typedef struct up_features {
    float *queries, *targets;
    int32_t *labels; /* [n] index of the true target, -1: left out */
    int64_t n, v;
    int width;
} up_features;

typedef struct up_evaluation {
    up_settings settings;
    up_train_options options;
    up_session *session;
    up_run *run;
    up_world world;
    up_work work;
    up_scores scores;
} up_evaluation;

up_status up_scores_add(up_scores *scores, up_score score);

/* Encode rows of a source in batches. Shared target sets (classes, vocabulary) are encoded once; retrieval
 * has one a row. */
up_status up_measure_features(up_evaluation *e, const up_source *source, up_features *out);
void up_features_free(up_features *features);
/* The metrics of a source's objective, added to e->scores. */
up_status up_measure(up_evaluation *e, const up_source *source, int trained);
/* Generate a text for each row and compare its words with the row's own text and with the others'. */
up_status up_measure_captions(up_evaluation *e, const up_source *source, int trained);
/* A few captions and retrievals in words, on stdout. */
up_status up_show_captions(up_evaluation *e, const up_source *source);
up_status up_show_retrievals(up_evaluation *e, const up_source *source);

void up_report_table(const up_scores *scores);
up_status up_report_json(const up_scores *scores, const char *path);

#endif
