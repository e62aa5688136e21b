/* entities.h - the tables of named character references and what replaces them in a text. */
#ifndef UP_DATA_ENTITIES_H
#define UP_DATA_ENTITIES_H

#include "data/codes.h"

typedef struct up_entity {
    const char *name, *value; /* "eacute;", UTF-8 */
} up_entity;

/* Both sorted by the bytes of the name. */
extern const up_entity up_html5_entities[], up_upper_entities[];
extern const size_t up_html5_entities_count, up_upper_entities_count;

/* Append `text` with every reference replaced as HTML5 does it (Python's html.unescape). */
void up_unescape(const uint32_t *text, size_t count, up_codes *out);

/* The stricter rule of ftfy, for text that may not be HTML at all: only references of at most 24 letters or
 * digits and a semicolon, but the upper-case spellings too. `text` stands at a '&' and has `count` code
 * points left. Returns how many it consumed and appends their replacement, or 0. */
size_t up_unescape_strict(const uint32_t *text, size_t count, up_codes *out);

/* What windows-1252 has at a C1 control (U+0080..U+009F); five of them are unassigned there and stay. */
uint32_t up_windows_1252(uint32_t control);

#endif
