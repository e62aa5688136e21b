/* tasks.h - every task as a row of one table: what an input is made of, what it is compared with, where the
 * answer is read, whose temperature it takes. Paper section 3.2 (pre-training tasks) and 4.4 with appendix D
 * (novel tasks). Training, evaluation, the C interface and the command line read the same rows. */
#ifndef UP_TASKS_TASKS_H
#define UP_TASKS_TASKS_H

#include "uniperceiver/model.h"

/* How the text of a sample enters its input sequence; build.c has the four ways. */
typedef struct up_builder up_builder;
typedef struct up_text_form {
    up_status (*put)(up_builder *builder, size_t row);
    int leading; /* 1: the answer is read at the leading <SPE>; 0: where `put` reads out */
    int asked;   /* 1: the text is a question; 0: a column of the list */
    int written; /* 1: the answer is the text itself, word by word: the task can write one */
} up_text_form;
extern const up_text_form up_text_whole;    /* as it is */
extern const up_text_form up_text_masked;   /* words hidden and read out where they stood (section 3.2) */
extern const up_text_form up_text_slots;    /* words, and a slot that predicts each (appendix B) */
extern const up_text_form up_text_question; /* then one slot (appendix D) */

/* The candidates that an input is compared with. */
typedef enum up_targets {
    UP_TARGETS_WORDS,   /* the vocabulary: one set for all tasks of a run */
    UP_TARGETS_CLASSES, /* class names or answers: a set for each list of them */
    UP_TARGETS_TEXTS    /* the texts of the batch's own samples: another set each time */
} up_targets;

/* What an evaluation measures; src/eval/evaluate.c has a function for each. */
typedef enum up_task_metric {
    UP_METRIC_ACCURACY, /* the nearest target is the true one */
    UP_METRIC_WORDS,    /* the same of hidden words, where a constant answer is chance */
    UP_METRIC_RECALL,   /* at 1 and 5, in both directions */
    UP_METRIC_CAPTIONS  /* texts that are written, against the true ones */
} up_task_metric;

enum { UP_TASK_NEAREST = 3 };

typedef struct up_task {
    const char *name;
    int image, video;         /* parts of an input, in this order behind the leading <SPE> */
    const up_text_form *text; /* and its text; NULL: none */
    up_targets targets;
    int both;         /* 1: targets are compared with the inputs too: retrieval in both directions */
    double smoothing; /* default label smoothing (appendix E: 0.1 except for language modelling) */
    up_task_metric metric;
    int head; /* 1: a tuned task has the linear head of equation 4, unless the settings say otherwise */
    /* Whose temperature it takes in a model that has none of its name, nearest first: the released models'
     * names, and other tasks'. */
    const char *nearest[UP_TASK_NEAREST];
} up_task;

extern const up_task up_tasks_table[]; /* ended by a row without a name */

/* A row by name, or NULL. */
const up_task *up_task_find(const char *name);

/* 1 where the answer is read at the leading <SPE>. */
static inline int up_task_leads(const up_task *task) {
    return !task->text || task->text->leading;
}

/* Index among a model's temperatures for a task by name: the model's own of that name; else that of the
 * nearest task that it has, or its first one, where `name` is a row of the table or a released model's name
 * for one. -1: unknown. */
int up_task_temperature(const up_config *config, const char *name);

/* A question as it is asked: with a "?" behind it, where it has none (appendix D). malloc'ed. */
up_status up_task_question(const char *question, char **text);

/* The target text of a class or cell: `form` with every {} replaced by it; NULL counts as "{}". malloc'ed. */
up_status up_task_target_text(const char *form, const char *cell, char **text);

#endif
