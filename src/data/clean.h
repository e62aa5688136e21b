/* clean.h - a text as the tokenizer reads it, piece by piece: plain lines as they stand, others repaired. */
#ifndef UP_DATA_CLEAN_H
#define UP_DATA_CLEAN_H

#include "data/codes.h"
#include "data/repair.h"
#include "uniperceiver/status.h"

/* No rule of cleaning reaches over a line feed, but one: from the first line with a '<' on, the repair reads
 * no character references. So lines are cleaned one at a time, and those of plain ASCII not at all. */
typedef struct up_cleaner {
    const char *text;
    size_t size, at; /* pieces before `at` are done */
    size_t searched; /* for a '<', up to here */
    int references;  /* no '<' so far */
    up_repairer repairer;
    up_codes codes, next; /* the line at work */
    char *line;           /* as UTF-8 */
    size_t room;
} up_cleaner;

up_cleaner up_cleaner_make(const char *text, size_t size);
void up_cleaner_free(up_cleaner *cleaner);

/* The next piece: whole lines, cleaned but for three things that do not change words: ASCII capitals, white
 * space at either end and runs of it may still be there. It ends at a line's end, or at the text's, and is
 * good until the next call. *piece is NULL behind the last one. Fails when memory runs out. */
up_status up_cleaner_next(up_cleaner *cleaner, const char **piece, size_t *size);

/* Fails on a text that is NULL or too long for the tokenizer's 32-bit positions. */
up_status up_check_text(const char *text, size_t length);

#endif
