/* lexicon.h - words as numbers: equal words have the same, counted from 0 in order of first appearance. */
#ifndef UP_DATA_LEXICON_H
#define UP_DATA_LEXICON_H

#include "uniperceiver/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct up_lexicon {
    char **words; /* [count] each ends with a NUL */
    size_t count, room;
    int32_t *slots; /* [slot_count], a power of two: number + 1, 0: free */
    size_t slot_count;
} up_lexicon;

/* A zeroed lexicon is empty. */
int32_t up_lexicon_find(const up_lexicon *lexicon, const char *word, size_t size); /* -1: it lacks the word */
up_status up_lexicon_add(up_lexicon *lexicon, const char *word, size_t size, int32_t *number);
void up_lexicon_free(up_lexicon *lexicon);

#endif
