/* sample_index.h - where the samples of a dataset lie, made once by one pass over its files: an offset a
 * sample, into the file of lines itself or into records that the index holds. It is mapped, so that it costs
 * no memory, and used only while all files it was made from are as they were (size, time of change, a digest
 * of both ends). */
#ifndef UP_DATA_SAMPLE_INDEX_H
#define UP_DATA_SAMPLE_INDEX_H

#include "data/sample.h"
#include <jansson.h>
#include <stdio.h>

/* ---- made by a reader ---- */

typedef struct up_sample_index_writer {
    const char *what;      /* named in messages: the data */
    char *path;            /* of the index to be; NULL: it stays in memory */
    char *partial;         /* written aside */
    FILE *records, *lines; /* what is written: header and records; offsets */
    uint64_t count, bytes; /* samples; bytes of records */
    json_t *inputs, *shards, *starts, *classes;
    char **left_out; /* keys of samples to leave out, ascending */
    size_t left_out_count;
    char *left_out_text;
} up_sample_index_writer;

/* A file or folder whose content the index depends on. */
up_status up_sample_index_input(up_sample_index_writer *writer, const char *path);
/* A sample that lies in the data file from `offset` on. */
up_status up_sample_index_line(up_sample_index_writer *writer, uint64_t offset);
/* A sample with its values; left out where its "key" is among those to leave out. */
up_status up_sample_index_record(up_sample_index_writer *writer, const up_sample *sample);
/* Members of the samples behind lie in this file; *number tells it from others. */
up_status up_sample_index_shard(up_sample_index_writer *writer, const char *path, int *number);
/* A class name, where the format itself has a list of them. */
up_status up_sample_index_class(up_sample_index_writer *writer, const char *name);
/* 1: the sample of this key is left out. */
int up_sample_index_leaves_out(const up_sample_index_writer *writer, const char *key);

/* ---- used by a dataset ---- */

typedef struct up_sample_index {
    const uint8_t *map; /* the whole of it */
    size_t size;
    const uint64_t *offsets; /* [count + 1] */
    const uint8_t *records;
    uint64_t count, bytes; /* samples; bytes of records: 0 where offsets point into the data */
    json_t *about;         /* inputs, shards, starts (first sample of each shard), classes */
} up_sample_index;

/* Open the index at `path` where there is one and it fits `kind`, a digest of all that it depends on beside
 * the files. *found 0: it must be made. */
up_status up_sample_index_open(const char *path, uint64_t kind, up_sample_index *out, int *found);

/* Begin one at `path` (NULL: in memory); end it and open what was made; abort throws it away. */
up_status up_sample_index_begin(const char *what, const char *path, const char *leave_out,
                                up_sample_index_writer *writer);
up_status up_sample_index_end(up_sample_index_writer *writer, uint64_t kind, uint64_t last,
                              up_sample_index *out);
void up_sample_index_abort(up_sample_index_writer *writer);
void up_sample_index_close(up_sample_index *index);

/* Read record i. A damaged one is an error. */
up_status up_sample_index_read(const up_sample_index *index, const char *what, uint64_t i, up_sample *out);

#endif
