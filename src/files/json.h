/* json.h - JSON in and out through jansson, with what it leaves out: running out of memory is told apart from
 * bad text, and a text is whole or not there. */
#ifndef UP_FILES_JSON_H
#define UP_FILES_JSON_H

#include "uniperceiver/status.h"
#include <jansson.h>
#include <stddef.h>

/* `what` is named in messages; flags as for json_loadb. "not sound JSON: why" is UP_ERR_FORMAT. */
up_status up_json_read(const char *what, const char *text, size_t size, size_t flags, json_t **out);

/* malloc'ed, `length` bytes and one NUL; flags as for json_dumpb. value NULL counts as out of memory. */
up_status up_json_write(const char *what, const json_t *value, size_t flags, char **text, size_t *length);

/* A file's name, which may be any bytes. Those that are no UTF-8 are written as U+DC80 to U+DCFF, as Python
 * does, which no json_t can hold: they stand in it as pairs of noncharacters (U+FDD0 to U+FDEF) until
 * up_json_restore_bytes puts the escapes in their place, in a text that has been written. */
json_t *up_json_bytes(const char *name);
void up_json_restore_bytes(char *text);

#endif
