/* tasks.h - every task as a row of one table: what an input is made of, what the target set is, where the
 * answer is read. Paper section 3.2 (pre-training tasks) and 4.4 with appendix D (novel tasks). Training and
 * evaluation read the same rows. */
#ifndef UP_TASKS_TASKS_H
#define UP_TASKS_TASKS_H

typedef enum up_objective {
    UP_CLASSIFY, /* target set: the class names; read at the leading <SPE> */
    UP_MLM,      /* target set: the vocabulary; read at masked words */
    UP_AR,       /* target set: the vocabulary; read at slots behind the words (appendix B) */
    UP_RETRIEVE, /* target set: the other samples' texts, both directions; read at the leading <SPE> */
    UP_ANSWER    /* target set: candidate answers; read at a <SPE> behind the question (appendix D) */
} up_objective;

typedef struct up_task {
    const char *name;
    int image, video, text; /* parts of an input, in this order behind the leading <SPE> */
    up_objective objective;
    double smoothing;        /* default label smoothing (appendix E: 0.1 except for language modelling) */
    const char *temperature; /* whose temperature an untrained task borrows: the nearest trained one; its own
                                name if NULL */
} up_task;

extern const up_task up_tasks_table[]; /* ended by a row without a name */
/* The names alone, ended by NULL, in the same order: the choices of a configuration's `kind`. */
extern const char *const up_task_names[];

/* A row by name, or NULL. */
const up_task *up_task_find(const char *name);

#endif
