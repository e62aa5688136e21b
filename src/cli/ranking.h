/* ranking.h - printing what classify, retrieve and vqa find: candidates by probability, as lines or as JSON.
 */
#ifndef UP_CLI_RANKING_H
#define UP_CLI_RANKING_H

#include "uniperceiver/status.h"

#include <jansson.h>

typedef struct up_ranking {
    const char *input;             /* what was asked, or NULL */
    const char *word;              /* the JSON key of a candidate: "label", "answer", ... */
    const char *const *candidates; /* [n] */
    const float *probabilities;    /* [n] */
    int n, top;                    /* the best `top` are told; 0: all */
} up_ranking;

/* Lines "candidate <tab> probability", best first, with "input <tab>" before them where there is an input;
 * or, with `list`, one more object {"input", "answers": [{word, "probability"}]} in that JSON array. */
up_status up_ranking_tell(const up_ranking *ranking, json_t *list);

/* Print JSON and a line break. */
up_status up_cli_print_json(const json_t *value);

#endif
