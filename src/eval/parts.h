/* parts.h - what an evaluation has done so far, in a file, so that one that was interrupted goes on from
 * there: a file for each evaluation, named by a digest of all that its numbers depend on, with a record for
 * each batch of rows. The files are removed when all evaluations are done. Nothing that goes wrong with them
 * is an error: then the work is done again. Format: docs/file-formats.md. */
#ifndef UP_EVAL_PARTS_H
#define UP_EVAL_PARTS_H

#include "eval/eval.h"

/* *out is NULL where e->parts_folder is, or where the file cannot be used. Another process that has it open
 * keeps it for itself. */
up_status up_parts_open(const up_evaluation *e, const up_source *source, up_parts **out);
void up_parts_close(up_parts *parts); /* NULL is fine */

/* The record of the batch that begins with row `first`, valid until the next call; NULL: there is none, and
 * from here on there are none. */
const void *up_parts_take(up_parts *parts, size_t first, size_t *size);
void up_parts_put(up_parts *parts, size_t first, const void *data, size_t size);

/* All of a folder, and the folder. */
void up_parts_remove(const char *folder);

#endif
