/* classes.c - classes from a list of their own, one a line, with the words that stand for it behind a tab
 * where its name says little ("0\tterrible", appendix D), or else those that the rows have. A row that names
 * none (an empty cell) is left out; one that names a class which the list lacks is an error. */
#include "tasks/classes.h"
#include "files/file.h"

#include <stdlib.h>
#include <string.h>

typedef struct named {
    const char *name;
    int index;
} named;

static int by_name(const void *a, const void *b) {
    return strcmp(((const named *)a)->name, ((const named *)b)->name);
}

/* Cut the file into its lines; empty ones are passed over. */
static up_status split_lines(up_source *s, const char *path) {
    size_t lines = 1;
    for (const char *c = s->class_file; *c; c++) lines += *c == '\n';
    s->classes = malloc(lines * sizeof *s->classes);
    s->class_texts = malloc(lines * sizeof *s->class_texts);
    if (!s->classes || !s->class_texts) return up_fail(UP_ERR_MEMORY, path, "%zu classes wanted", lines);
    char *next = s->class_file;
    if (!strncmp(next, "\xef\xbb\xbf", 3)) next += 3; /* a byte order mark is no part of the first name */
    while (next) {
        char *line = next, *end = strchr(line, '\n');
        next = end ? end + 1 : NULL;
        if (end) *end = 0;
        line[strcspn(line, "\r")] = 0;
        char *tab = strchr(line, '\t');
        if (tab) *tab = 0;
        if (!*line) continue;
        s->class_texts[s->class_count] = tab ? tab + 1 : line;
        s->classes[s->class_count++] = line;
    }
    return UP_OK;
}

/* The classes in the order of their names; equal ones are an error. */
static up_status sort_names(const up_source *s, const char *path, named **out) {
    named *list = malloc((s->class_count ? s->class_count : 1) * sizeof *list);
    if (!list) return up_fail(UP_ERR_MEMORY, path, "%zu classes wanted", s->class_count);
    for (size_t i = 0; i < s->class_count; i++) list[i] = (named){s->classes[i], (int)i};
    qsort(list, s->class_count, sizeof *list, by_name);
    *out = list;
    for (size_t i = 1; i < s->class_count; i++)
        if (!strcmp(list[i - 1].name, list[i].name))
            return up_fail(UP_ERR_FORMAT, path, "names \"%s\" twice", list[i].name);
    return UP_OK;
}

static up_status find_rows(up_source *s, const char *path, const named *list) {
    s->class_of_row = malloc(s->table.rows * sizeof *s->class_of_row);
    if (!s->class_of_row) return up_fail(UP_ERR_MEMORY, path, "classes of %zu rows wanted", s->table.rows);
    for (size_t row = 0; row < s->table.rows; row++) {
        named cell = {up_table_cell(&s->table, row, s->target), -1};
        const named *found = bsearch(&cell, list, s->class_count, sizeof *list, by_name);
        s->class_of_row[row] = found ? found->index : -1;
        if (!found && *cell.name)
            return up_fail(UP_ERR_FORMAT, s->table.path, "row %zu is of class \"%s\", which %s does not list",
                           row + 1, cell.name, path);
    }
    return UP_OK;
}

static up_status read_list(up_source *s, const char *path) {
    void *text = NULL;
    size_t size;
    named *list = NULL;
    up_status status = UP_OK;
    UP_TRY(up_file_read(path, &text, &size));
    s->class_file = text;
    if (memchr(text, 0, size)) UP_GO(up_fail(UP_ERR_FORMAT, path, "holds a NUL byte: not a list of names"));
    UP_GO(split_lines(s, path));
    UP_GO(sort_names(s, path, &list));
    UP_GO(find_rows(s, path, list));
done:
    free(list);
    return status;
}

up_status up_classes_tokenize(const up_source *s, const char *form, int32_t **ids, int64_t **starts) {
    size_t limit = (size_t)s->settings->text_limit;
    *ids = malloc(s->class_count * limit * sizeof **ids);
    *starts = malloc((s->class_count + 1) * sizeof **starts);
    if (!*ids || !*starts)
        return up_fail(UP_ERR_MEMORY, s->settings->name, "%zu class texts wanted", s->class_count);
    **starts = 0;
    for (size_t i = 0; i < s->class_count; i++) {
        char *text = NULL;
        size_t count = 0;
        UP_TRY(up_task_target_text(form, s->class_texts ? s->class_texts[i] : s->classes[i], &text));
        up_status status =
            up_tokenize_closed(s->world->tokenizer, text, strlen(text), limit, *ids + (*starts)[i], &count);
        free(text);
        if (status != UP_OK) return status;
        (*starts)[i + 1] = (*starts)[i] + (int64_t)count;
    }
    return UP_OK;
}

up_status up_classes_open(up_source *s) {
    const char *list = s->settings->classes;
    UP_TRY(list ? read_list(s, list)
                : up_table_classes(&s->table, s->target, &s->classes, &s->class_count, &s->class_of_row));
    if (s->class_count < 2)
        return up_fail(
            UP_ERR_FORMAT, list ? list : s->table.path,
            "names %zu class(es)%s%s: wanted two or more to choose from; `classes` can name a list",
            s->class_count, s->class_count ? ", " : "", s->class_count ? s->classes[0] : "");
    return up_classes_tokenize(s, s->settings->template_text, &s->class_ids, &s->class_starts);
}

void up_classes_close(up_source *s) {
    free(s->classes);
    free(s->class_texts);
    free(s->class_of_row);
    free(s->class_file);
    free(s->class_ids);
    free(s->class_starts);
}
