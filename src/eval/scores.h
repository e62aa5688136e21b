/* scores.h - predictions in a file against what is true in another: which scores a metric's name stands for,
 * and the two files read. Used by the command score. */
#ifndef UP_EVAL_SCORES_H
#define UP_EVAL_SCORES_H

#include "eval/wordnet.h"

#include <jansson.h>

typedef struct up_score_options {
    int tokenized;       /* captions are words between single spaces already */
    int each;            /* keep the scores of every picture or question */
    const char *wordnet; /* folder; NULL: UP_WORDNET_FOLDER */
} up_score_options;

enum { UP_SCORES_MOST = 32 };

typedef struct up_named_score {
    char name[64];
    double value;
    double *own; /* [keys] of each picture or question, or NULL */
} up_named_score;

typedef struct up_score_list {
    up_named_score scores[UP_SCORES_MOST];
    size_t count;
    char **keys; /* [key_count] of pictures or questions, where options.each */
    size_t key_count;
    char notes[4][256]; /* what was left out, and why */
    size_t note_count;
} up_score_list;

/* `metrics`: names with commas between them (up_score_files answers an unknown one with the list). A metric
 * that lacks WordNet's files is left out with a note where "captions" asked for it, and an error where its
 * own name did. */
up_status up_score_files(const char *metrics, const char *candidates, const char *references,
                         const up_score_options *options, up_score_list *out);
up_status up_score_list_json(const up_score_list *list, json_t **out);
void up_score_list_free(up_score_list *list);

/* Append a score; own [key_count] is taken over, also by a failure. */
up_status up_score_list_add(up_score_list *list, const char *name, double value, double *own);

#endif
