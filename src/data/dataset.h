/* dataset.h - samples that can be counted and read by number, out of files in the layout in which a dataset
 * is published. What a layout is made of is told by a reader, a row of src/data/datasets/readers.c. Sample i
 * is a pure function of the files and i; an opened dataset is only read, by any number of threads. */
#ifndef UP_DATA_DATASET_H
#define UP_DATA_DATASET_H

#include "data/sample_index.h"
#include "data/media.h"
#include "data/sample.h"

/* What a configuration says of a dataset; all but `data` may be NULL. */
typedef struct up_dataset_options {
    const char *data;        /* file or folder; shards: with {0000..0009} in its name */
    const char *format;      /* name of a reader; NULL: guessed */
    const char *index;       /* file; NULL: beside the data, in memory for files of at most 64 MiB */
    const char *split;       /* which part, where a format has several */
    const char *images;      /* folder that pictures are relative to; NULL: the data's own */
    const char *videos;      /* the same of clips */
    const char *annotations; /* second file of formats that have two */
    const char *columns;     /* lists without a line of names: these, divided by commas */
    const char *leave_out;   /* file of keys, one a line */
} up_dataset_options;

typedef struct up_reader up_reader;
typedef struct up_dataset {
    const up_reader *reader;
    up_dataset_options options; /* borrowed */
    char *folder;               /* of the data, without a final slash */
    up_sample_index index;
    size_t count;     /* samples */
    size_t *kept;     /* [count] their places among those of the files; NULL: all are kept */
    int small;        /* 1: a file of at most 64 MiB: its samples may all be looked at when it is opened */
    const char *text; /* lines: the mapped file */
    size_t text_bytes;
    char **columns; /* lists: names of the columns */
    size_t column_count;
    int headless; /* 1: the first line is a sample, no names of columns */
    char *column_text;
} up_dataset;

/* 1 where the name of a file tells its format. */
int up_dataset_guess(const char *path);

/* `options` must live as long as the dataset. */
up_status up_dataset_open(const up_dataset_options *options, up_dataset *out);
void up_dataset_close(up_dataset *dataset); /* fine on a zeroed struct */

/* Count these samples alone from here on, ascending and distinct: takes `kept`, which was malloc'ed. */
void up_dataset_keep(up_dataset *dataset, size_t *kept, size_t count);

/* Sample i < count. A damaged one is an error that names file and line, or member. */
up_status up_dataset_sample(const up_dataset *dataset, size_t i, up_sample *out);

/* 1 where texts are lines of documents, to be filled from the lines that follow. */
int up_dataset_is_document(const up_dataset *dataset);
/* 1 where the text of sample i goes on in sample i + 1: the lines of a document, both of them kept. */
int up_dataset_goes_on(const up_dataset *dataset, size_t i);

/* The picture or clip that a value names; folder NULL: the data's own. Free with up_media_free. */
up_status up_dataset_media(const up_dataset *dataset, const up_sample *sample, const up_value *value,
                           const char *folder, up_media *out);

/* Which sample it is among those of the files, from 1; *line, where it is one of a list: its number from 1,
 * or 0 far behind in a large file, where counting takes too long. */
size_t up_dataset_number(const up_dataset *dataset, size_t i, uint64_t *line);
/* Fail for sample i: names the file and the line. Returns `code`. */
up_status up_dataset_fail(const up_dataset *dataset, size_t i, up_status code, const char *why);

/* Class names that the format itself lists, in its order; NULL behind the last. */
const char *up_dataset_class(const up_dataset *dataset, size_t i);

/* Which sample comes at `place` of the epoch that `key` stands for. Files that are read at any place are
 * permuted as a whole, and so is a part that was kept; shards are, and then samples inside windows of 8,192,
 * so that reading stays near where it was. A pure function: no state. */
size_t up_dataset_order(const up_dataset *dataset, uint64_t key, uint64_t place);

#endif
