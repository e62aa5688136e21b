/* records.h - predictions and what is true, as records: JSON or TSV, told apart by the first sign. */
#ifndef UP_EVAL_RECORDS_H
#define UP_EVAL_RECORDS_H

#include "uniperceiver/status.h"

#include <jansson.h>

/* A JSON array of objects. From JSON: the file's array, or the array "annotations" of its object. From TSV
 * (its first line names the fields): every cell a string, of any bytes. */
up_status up_records_read(const char *path, json_t **out);

/* A field as text; a whole number is written out in `room` [32]. NULL: the record lacks it. */
const char *up_record_text(const json_t *record, const char *field, char *room);
/* The same, where a missing field is an error that names the file and the record's place. */
up_status up_record_need(const char *path, const json_t *records, size_t place, const char *field, char *room,
                         const char **out);

#endif
