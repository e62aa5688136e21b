/* jsonl.h - metrics: a file of one JSON object a line, appended to while a run goes on, shortened when it
 * resumes. */
#ifndef UP_FILES_JSONL_H
#define UP_FILES_JSONL_H

#include "uniperceiver/status.h"
#include <jansson.h>
#include <stdint.h>

typedef struct up_jsonl {
    int file;
    char *path;
} up_jsonl;

/* Open for appending; the file is made if it is missing. */
up_status up_jsonl_open(const char *path, up_jsonl *log);

/* Append one object as one line; it is in the file (not yet synced) on return. A failed write leaves no half
 * line. The object stays the caller's. */
up_status up_jsonl_append(up_jsonl *log, const json_t *object);

/* Sync and close; frees also when it fails. */
up_status up_jsonl_close(up_jsonl *log);

/* Drop the lines whose "step" is above last_step, and a torn last line; lines without a step stay. The file
 * is replaced as a whole or not at all; a missing file is fine. */
up_status up_jsonl_truncate(const char *path, int64_t last_step);

#endif
