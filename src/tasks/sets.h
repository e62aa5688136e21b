/* sets.h - the distinct target sets of some sources, each made once: the vocabulary for all language tasks,
 * one for each list of classes, and one that is filled anew with what belongs to a batch. Training has one
 * up_sets, an evaluation another. */
#ifndef UP_TASKS_SETS_H
#define UP_TASKS_SETS_H

#include "tasks/source.h"

typedef struct up_set_entry {
    up_target_set *set;
    uint64_t key; /* of its content; 0: filled anew for each batch */
    int32_t *ids; /* UP_TARGETS_CLASSES: its texts, to know an equal list by */
    int64_t *starts, count;
    int used; /* training: some rank compares with it in this step (train/step.c) */
} up_set_entry;

typedef struct up_sets {
    up_model *model; /* borrowed */
    int training;    /* 1: gradients come back, and sampled sets are used */
    up_set_entry *list;
    int count;
} up_sets;

/* Set source->set, making and filling the set where none is equal. The world's vocabulary must be known. */
up_status up_sets_bind(up_sets *sets, up_source *source);
void up_sets_free(up_sets *sets);

#endif
