/* index.h - a file of features with their names, for search: exact, whatever the number of rows. The file is
 * used where its mapping has it (docs/file-formats.md). */
#ifndef UP_INFER_INDEX_H
#define UP_INFER_INDEX_H

#include "uniperceiver/status.h"

#include <stdint.h>

typedef struct up_index up_index;

/* What a row is of: a file's name, size and time of change, by which it is known again. */
typedef struct up_index_entry {
    const char *name;
    int64_t size, time; /* bytes; nanoseconds since 1970; 0: no file */
} up_index_entry;

/* What holds for all rows. */
typedef struct up_index_about {
    int64_t count;
    int width;
    uint64_t model; /* up_weights_digest of what encoded them; 0: unknown */
    int precision;  /* up_dtype of the activations then */
} up_index_about;

/* Row `i` of an index that is written: its entry, and its feature [width]. */
typedef up_status (*up_index_source)(void *context, int64_t i, up_index_entry *entry, const float **row);
/* Rows are scaled to length 1. Replaces the file as a whole. */
up_status up_index_write(const char *path, const up_index_about *about, up_index_source source,
                         void *context);

/* The header, the names and all sizes are checked; up_index_check reads the rest too. */
up_status up_index_open(const char *path, up_index **out);
up_status up_index_check(const up_index *index);
void up_index_close(up_index *index); /* NULL is fine */

up_index_about up_index_about_of(const up_index *index);
up_index_entry up_index_entry_at(const up_index *index, int64_t row);
const float *up_index_row(const up_index *index, int64_t row);

typedef struct up_index_hit {
    int64_t row;
    double score; /* the cosine */
} up_index_hit;

/* The min(k, rows) rows of the largest cosine with a query of length 1, best first, equal ones in their
 * order; hits [k], *found of them. The very ones that comparing with every row in double precision finds. */
up_status up_index_search(const up_index *index, const float *query, int k, int threads, up_index_hit *hits,
                          int *found);

#endif
