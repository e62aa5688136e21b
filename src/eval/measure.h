/* measure.h - the rows of a source as features, some at a time: what measure.c (one set of targets for all
 * rows) and recall.c (the rows' own texts) share. */
#ifndef UP_EVAL_MEASURE_H
#define UP_EVAL_MEASURE_H

#include "eval/head.h"
#include "eval/parts.h"

enum { UP_ROWS_AT_ONCE = 64 };

/* Read-outs of a source's rows. A row may have several (words; several cuts of one picture), which is why
 * each says whose it is. */
typedef struct up_readouts {
    const uint8_t *left_out; /* [rows] borrowed: 1: is not looked at. NULL: rows that have no label are not */
    up_features x;           /* those at hand */
    int here;                /* how many they are, behind the first `count` */
    int64_t count, room;
    int32_t *labels, *best; /* [count] the true target, -1: left out; the nearest one */
    size_t *row;            /* [count] row of the list */
    int32_t *targets;       /* [V] 0, 1, ...: where the best five are counted */
    int64_t among_five, ranked;
    const size_t *rows; /* [row_count] rows at hand */
    int row_count;
    up_features view; /* several views: of the one at hand */
    float *sum;       /* [2, view.rows, D] the mean of the unit features of the views, and those of one */
    up_head *head;    /* classes: what takes part beside the cosines; NULL: nothing */
    up_parts *parts;  /* what an interrupted evaluation has left; NULL: nothing is kept */
} up_readouts;

void up_readouts_free(up_readouts *r);

/* What is done with each batch of inputs: their features are in r->x, not yet of length 1. */
typedef up_status (*up_take_batch)(up_evaluation *e, const up_source *s, up_readouts *r);
up_status up_each_batch(up_evaluation *e, const up_source *s, up_readouts *r, up_take_batch take);

/* What the j-th target of a list is called: malloc'ed. */
typedef up_status (*up_name_target)(const up_evaluation *e, const up_source *s, const void *names, int64_t j,
                                    char **name);

/* Rows for predictions.jsonl, spread over the list, each at its first read-out. What is true of it is the
 * target of its label. */
up_status up_keep_rows(up_evaluation *e, const up_source *s, up_readouts *r, up_name_target name,
                       const void *names);

#endif
