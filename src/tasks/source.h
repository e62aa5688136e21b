/* source.h - a task bound to its samples: rows of a list -> packed batch, labels and loss. The middle of the
 * program's one road; the loader calls it ahead of training, evaluation calls it with fixed choices. */
#ifndef UP_TASKS_SOURCE_H
#define UP_TASKS_SOURCE_H

#include "data/table.h"
#include "tasks/settings.h"
#include "tasks/tasks.h"
#include "uniperceiver/image.h"
#include "uniperceiver/run.h"
#include "uniperceiver/text.h"

/* What all tasks share. */
typedef struct up_world {
    const up_config *config;
    up_tokenizer *tokenizer;
    up_image_limits limits; /* of a picture or frame */
    int32_t *vocabulary;    /* target set of the language tasks, ascending */
    int vocabulary_count;
    int32_t *vocabulary_index; /* [config->vocabulary] place of an id in it, or -1 */
} up_world;

typedef struct up_source {
    const up_task *task;
    const up_task_settings *settings; /* borrowed */
    const up_world *world;            /* borrowed */
    int temperature;                  /* index of the task's temperature in the model */
    up_table table;
    size_t image, video, text, target; /* columns; only those the task uses are valid */
    const char **classes;              /* UP_CLASSIFY: names of the target set */
    size_t class_count;
    int *class_of_row;
} up_source;

/* The work of one iteration. */
typedef struct up_work {
    const up_source *source;
    int64_t iteration;
    up_batch batch;
    int32_t *labels; /* [Q] */
    int label_capacity;
    float *drop; /* [2L, S] or NULL when nothing is dropped */
    size_t drop_capacity;
    int dropping;
    up_loss loss;
} up_work;

up_status up_source_open(const up_task_settings *settings, const up_world *world, up_source *out);
void up_source_close(up_source *source);

/* The vocabulary that a corpus has: ids of every text of the language tasks among `sources`, the end token
 * included. */
up_status up_world_collect(up_world *world, const up_source *sources, size_t count);
/* The vocabulary that a model holds; ids NULL: every entry but <SPE>. */
up_status up_world_set_targets(up_world *world, const int32_t *ids, int count);
void up_world_free(up_world *world);

typedef struct up_build_options {
    int training;    /* random crops, drop path; 0: centre crops, nothing dropped */
    uint64_t seed;   /* of every random choice, with `moment` and the row */
    uint64_t moment; /* epoch or iteration */
} up_build_options;

/* Build the work for `count` rows. work->batch and labels are reused from call to call. */
up_status up_source_build(const up_source *source, const up_build_options *options, const size_t *rows,
                          int count, up_work *work);
void up_work_free(up_work *work);

/* The target text of a row or class: the template with {} replaced; malloc'ed. */
up_status up_source_target_text(const up_source *source, const char *cell, char **text);

#endif
