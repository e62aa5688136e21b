/* mojibake.h - text that was written in UTF-8 and read in another encoding ("nÃºmero"), set right as the ftfy
 * library (6.3, fix_encoding) does it: where unlikely neighbours tell that something is wrong, the text goes
 * back to bytes by one of ten encodings, if they then are UTF-8. */
#ifndef UP_DATA_MOJIBAKE_H
#define UP_DATA_MOJIBAKE_H

#include "data/codes.h"

/* Set `text` right, in place. */
void up_ungarble(up_codes *text);

/* Whether the text has unlikely neighbours. */
int up_is_garbled(const uint32_t *text, size_t count);

/* --- tables (mojibake_tables.c) --- */

/* Bits of sets of characters: those that no table lists, and those of UTF-8 that was read in an encoding. */
enum {
    UP_GARBLE_WORD = 0,        /* letters, numbers, '_' */
    UP_GARBLE_NOT_LATIN = 1,   /* all but A-Z and a-z */
    UP_GARBLE_NOT_NEWLINE = 2, /* all but that */
    UP_GARBLE_FIRST_OF_2 = 20, /* of a sequence of two bytes; of 3 and 4 are the next bits */
    UP_GARBLE_CONTINUATION = 23,
    UP_GARBLE_CONTINUATION_STRICT = 24, /* those that seldom are anything else */
    UP_GARBLE_PARTS = 7
};

/* Neighbours that are unlikely: the sets that each may be of; 0 behind the last one. */
typedef struct up_garble_rule {
    int at_start; /* of the text alone */
    uint64_t parts[UP_GARBLE_PARTS];
} up_garble_rule;
extern const up_garble_rule up_garble_rules[];
extern const uint64_t up_garble_any_second; /* bits of the rules that any character may go on with */

/* The sets of the code points first..last, and bits of the rules of which they fit the first part, the
 * second. Sorted. */
typedef struct up_char_sets {
    uint32_t first, last;
    uint64_t sets, as_first, as_second;
} up_char_sets;
extern const up_char_sets up_garble_sets[];
extern const size_t up_garble_set_count;

/* An encoding of one byte a character: what 0x80..0xFF stand for, ASCII below. */
typedef struct up_charmap {
    const char *name;
    int sloppy; /* byte 0x1A stands for U+FFFD */
    uint16_t codes[128];
} up_charmap;
extern const up_charmap up_charmaps[]; /* in the order in which they are tried; the first is Latin-1 */
extern const size_t up_charmap_count;

#endif
