/* eval.h - what the files of src/eval share: one evaluation's context and its scores. evaluate.c opens and
 * dispatches, measure.c encodes rows and their target set (head.c where a linear head takes part, answers.c
 * where people answered questions), recall.c retrieval, metrics.c computes scores from features, captions.c
 * generates and scores texts, parts.c keeps what an interrupted evaluation has done, predictions.c single
 * rows, report.c prints and writes, validate.c measures while a run trains.
 */
#ifndef UP_EVAL_EVAL_H
#define UP_EVAL_EVAL_H

#include "eval/metrics.h"
#include "eval/predictions.h"
#include "tasks/sets.h"
#include "train/settings.h"
#include "uniperceiver/train.h"
#include "uniperceiver/uniperceiver.h"

#include <stdio.h>

/* Tokens that went through the encoder. */
typedef struct up_tokens {
    int64_t inputs, targets;
} up_tokens;

typedef struct up_score {
    const char *task;   /* name of the evaluation, borrowed from the settings */
    const char *metric; /* constant */
    int trained;        /* the model was trained on this kind of task */
    up_metric number;
    up_tokens tokens; /* of the evaluation that it is from */
} up_score;

typedef struct up_scores {
    up_score *list;
    size_t count, capacity;
    const char *tune; /* what the model is: none, prompts, head, all; constant */
    double fraction;  /* of the data that it was tuned with */
} up_scores;

typedef struct up_parts up_parts;

typedef struct up_evaluation {
    up_settings settings;
    up_train_options options;
    up_session *session; /* captions */
    up_encoder *encoder; /* of inputs */
    up_encoder *scout;   /* of target sets */
    up_cosines *cosines;
    up_world world;
    up_sets sets;
    up_target_set *averaged; /* of the source at hand, where its classes have several templates */
    up_work work;
    up_scores scores;
    FILE *examples; /* in words, for the end; kept in memory */
    char *examples_text;
    size_t examples_size;
    int captions_shown, retrievals_shown;
    up_predictions *predictions; /* NULL: single rows are not kept */
    char *parts_folder;          /* of what is kept until all is done (parts.h); NULL: nothing is */
    int64_t restored;            /* tokens of inputs that were encoded before an interruption */
} up_evaluation;

/* Add a metric of a source. */
up_status up_score_add(up_evaluation *e, const up_source *source, const char *metric, up_metric number);

/* Encode the rows of a source and, once, its target set; add the metrics that the task has. */
up_status up_measure_accuracy(up_evaluation *e, const up_source *source);
up_status up_measure_recall(up_evaluation *e, const up_source *source);
/* Generate a text for each row and compare its words with the row's own text and with the others'. */
up_status up_measure_captions(up_evaluation *e, const up_source *source);

/* Rows of a source that are evaluated. */
size_t up_evaluation_rows(const up_source *source);
/* Of everything so far: of the evaluation's own encoders, and of the session's. */
up_tokens up_evaluation_tokens(const up_evaluation *e);
/* picture [rows]: which picture or clip a row has, numbered in the order of their first rows; of a task
 * without one each row is its own. *count: how many there are. */
up_status up_evaluation_pictures(const up_source *source, int32_t *picture, int32_t *count);
/* Make the features of a source's set fresh, out of the folder of kept features where it has them: `content`
 * is a digest of its texts. */
up_status up_evaluation_encode_set(up_evaluation *e, const up_source *source, uint64_t content);
/* UP_ERR_INTERRUPTED where the user wants no more. */
up_status up_evaluation_goes_on(const up_evaluation *e, const up_source *source);
/* The i-th of UP_SHOWN rows that are spread over n. */
enum { UP_SHOWN = 3 };
size_t up_shown_row(size_t n, int i);

/* The evaluations of settings that are open, on a model that is: scores in e->scores. */
up_status up_evaluate_all(up_evaluation *e);
/* What was asked for: options and settings, which list evaluations. Close also after a failure. */
up_status up_evaluation_read(up_evaluation *e, const char *config_path, const char *const *overrides,
                             size_t count, const up_train_options *options);
up_status up_evaluation_open(up_evaluation *e, const char *model_path);
/* The part of opening that follows the session's: what measures its model. */
up_status up_evaluation_prepare(up_evaluation *e);
void up_evaluation_close(up_evaluation *e);

void up_report_table(const up_scores *scores);
up_status up_report_json(const up_scores *scores, const char *path);

#endif
