/* rows.h - features as they are written: a .npy with the inputs' names beside it, JSON lines or TSV. Work
 * that was broken off goes on behind the rows that are written. */
#ifndef UP_CLI_ROWS_H
#define UP_CLI_ROWS_H

#include "cli/bulk.h"
#include "files/file.h"

typedef enum up_rows_form { UP_ROWS_NPY, UP_ROWS_JSON, UP_ROWS_TSV } up_rows_form;

typedef struct up_rows {
    const char *path; /* -: standard output */
    up_rows_form form;
    int width;
    const up_arg_list *items;
    up_file_writer file;
    FILE *stream;  /* of the file, or standard output */
    FILE *journal; /* PATH.journal: how far the work has come; NULL: it is not kept */
    char *journal_path;
    unsigned char *left; /* [items] 1: could not be read */
    int done;            /* items that are written or left out */
    int64_t count;       /* rows */
} up_rows;

/* By the ending of the path: .npy, .jsonl, .tsv; - is JSON lines. `wanted`: the name of one, or NULL. */
up_status up_rows_form_of(const char *path, const char *wanted, up_rows_form *out);

/* Begin, or go on where a journal of the same `key` lies: rows->done items are done with then. A key of 0
 * keeps none. */
up_status up_rows_open(up_rows *rows, uint64_t key);
/* Features [count, width] of items[places[i]]; all before `next` are done with. */
up_status up_rows_put(up_rows *rows, const float *features, const int *places, int count, int next);
/* The file is whole: put it in its place, its names beside it. */
up_status up_rows_close(up_rows *rows);
/* After either: what is written stays for the next process if there is a journal. */
void up_rows_end(up_rows *rows);

#endif
