/* table.c - TSV lists in memory: one read, cells point into it. */
#include "data/table.h"
#include "files/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of a cell: texts, and names of files. A longer one is no sample, and its tokens would take minutes.
 */
enum { CELL_MOST = 1 << 20 };

static size_t count_char(const char *s, char c) {
    size_t n = 0;
    for (; *s; s++) n += *s == c;
    return n;
}

/* Split a line in place at tabs into at most `room` cells; returns how many there were, and in *longest the
 * bytes of the longest one. */
static size_t split(char *line, const char **cells, size_t room, size_t *longest) {
    size_t n = 0;
    *longest = 0;
    for (char *cell = line; cell; n++) {
        size_t length = strcspn(cell, "\t");
        char *next = cell[length] ? cell + length + 1 : NULL;
        cell[length] = 0;
        if (length > *longest) *longest = length;
        if (n < room) cells[n] = cell;
        cell = next;
    }
    return n;
}

/* The next line, its end replaced by NUL; NULL at the end of the text. */
static char *next_line(char **cursor) {
    char *line = *cursor, *end = strchr(line, '\n');
    if (!*line) return NULL;
    *cursor = end ? end + 1 : line + strlen(line);
    if (end) *end = 0;
    size_t length = strlen(line);
    if (length && line[length - 1] == '\r') line[length - 1] = 0;
    return line;
}

static up_status parse(up_table *t) {
    char *cursor = t->text;
    if (!strncmp(cursor, "\xef\xbb\xbf", 3)) cursor += 3; /* a byte order mark is no part of the first name */
    char *header = next_line(&cursor);
    if (!header) return up_fail(UP_ERR_FORMAT, t->path, "empty: wanted a line of column names");
    t->columns = count_char(header, '\t') + 1;
    size_t lines = count_char(cursor, '\n') + 1;
    t->names = calloc(t->columns, sizeof *t->names);
    t->cells = calloc(lines * t->columns, sizeof *t->cells);
    if (!t->names || !t->cells)
        return up_fail(UP_ERR_MEMORY, t->path, "%zu rows of %zu cells wanted", lines, t->columns);
    size_t number = 1, longest;
    split(header, t->names, t->columns, &longest);
    for (char *line; (line = next_line(&cursor));) {
        number++;
        if (!*line) continue;
        size_t found = split(line, t->cells + t->rows * t->columns, t->columns, &longest);
        if (longest > CELL_MOST)
            return up_fail(UP_ERR_FORMAT, t->path, "line %zu has a cell of %zu bytes; wanted at most %d",
                           number, longest, CELL_MOST);
        if (found != t->columns)
            return up_fail(UP_ERR_FORMAT, t->path, "line %zu has %zu cells, the first line names %zu columns",
                           number, found, t->columns);
        t->rows++;
    }
    if (!t->rows) return up_fail(UP_ERR_FORMAT, t->path, "no rows below the column names");
    return UP_OK;
}

up_status up_table_read(const char *path, up_table *t) {
    memset(t, 0, sizeof *t);
    void *data = NULL;
    size_t size = 0;
    up_status status = UP_OK;
    UP_TRY(up_file_read(path, &data, &size));
    t->text = data;
    const char *slash = strrchr(path, '/');
    t->path = strdup(path);
    t->folder = slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
    if (!t->path || !t->folder) UP_GO(up_fail(UP_ERR_MEMORY, path, "no memory for its name"));
    if (memchr(data, 0, size)) UP_GO(up_fail(UP_ERR_FORMAT, path, "holds a NUL byte: not a text list"));
    UP_GO(parse(t));
done:
    if (status != UP_OK) up_table_free(t);
    return status;
}

void up_table_free(up_table *t) {
    free(t->path);
    free(t->folder);
    free(t->text);
    free(t->names);
    free(t->cells);
    memset(t, 0, sizeof *t);
}

up_status up_table_column(const up_table *t, const char *name, size_t *column) {
    char known[256] = "";
    for (size_t i = 0; i < t->columns; i++) {
        if (!strcmp(t->names[i], name)) {
            *column = i;
            return UP_OK;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", t->names[i]);
    }
    return up_fail(UP_ERR_FORMAT, t->path, "no column \"%s\"; there are %s", name, known);
}

up_status up_table_file(const up_table *t, size_t row, size_t column, char **path) {
    const char *cell = up_table_cell(t, row, column);
    int absolute = cell[0] == '/';
    size_t room = strlen(t->folder) + strlen(cell) + 2;
    *path = malloc(room);
    if (!*path) return up_fail(UP_ERR_MEMORY, t->path, "no memory for a file's name");
    snprintf(*path, room, "%s%s%s", absolute ? "" : t->folder, absolute ? "" : "/", cell);
    return UP_OK;
}

up_status up_table_classes(const up_table *t, size_t column, const char ***names, size_t *count,
                           int **of_row) {
    /* open addressing over the row's value: slots hold class number + 1 */
    size_t slots = 16;
    while (slots < 2 * t->rows) slots *= 2;
    int *table = calloc(slots, sizeof *table);
    *names = malloc(t->rows * sizeof **names);
    *of_row = malloc(t->rows * sizeof **of_row);
    *count = 0;
    if (!table || !*names || !*of_row) {
        free(table);
        free(*names);
        free(*of_row);
        *names = NULL;
        *of_row = NULL;
        return up_fail(UP_ERR_MEMORY, t->path, "classes of %zu rows wanted", t->rows);
    }
    for (size_t row = 0; row < t->rows; row++) {
        const char *value = up_table_cell(t, row, column);
        (*of_row)[row] = -1;
        if (!*value) continue;
        size_t h = 5381;
        for (const char *c = value; *c; c++) h = h * 33 + (unsigned char)*c;
        size_t slot = h & (slots - 1);
        while (table[slot] && strcmp((*names)[table[slot] - 1], value)) slot = (slot + 1) & (slots - 1);
        if (!table[slot]) {
            (*names)[(*count)++] = value;
            table[slot] = (int)*count;
        }
        (*of_row)[row] = table[slot] - 1;
    }
    free(table);
    return UP_OK;
}

void up_table_keep(up_table *t, const size_t *rows, size_t count) {
    for (size_t i = 0; i < count; i++)
        memmove(t->cells + i * t->columns, t->cells + rows[i] * t->columns, t->columns * sizeof *t->cells);
    t->rows = count;
}
