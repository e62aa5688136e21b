/* table.h - a list of samples: a TSV file whose first line names the columns. Cells are texts, class names,
 * or paths of picture and video files relative to the list's own folder. */
#ifndef UP_DATA_TABLE_H
#define UP_DATA_TABLE_H

#include "uniperceiver/status.h"
#include <stddef.h>

typedef struct up_table {
    char *path, *folder; /* of the list; folder without a final slash */
    char *text;          /* the file's content; cells point into it */
    const char **names;  /* [columns] */
    const char **cells;  /* [rows, columns] */
    size_t rows, columns;
} up_table;

/* Read a list. A row with another number of cells than the first line, or with a cell of more than 1 MiB, is
 * an error that names the line. */
up_status up_table_read(const char *path, up_table *out);
void up_table_free(up_table *table); /* fine on a zeroed struct */

/* A column by name; an unknown name is an error that lists the columns there are. */
up_status up_table_column(const up_table *table, const char *name, size_t *column);

static inline const char *up_table_cell(const up_table *t, size_t row, size_t column) {
    return t->cells[row * t->columns + column];
}

/* The path that a cell names: malloc'ed. */
up_status up_table_file(const up_table *table, size_t row, size_t column, char **path);

/* The distinct values of a column in order of first appearance, and for each row the index of its value, -1
 * where the cell is empty. Both malloc'ed; the strings point into the table. */
up_status up_table_classes(const up_table *table, size_t column, const char ***names, size_t *count,
                           int **of_row);

/* Keep these rows alone: ascending and distinct. */
void up_table_keep(up_table *table, const size_t *rows, size_t count);

#endif
