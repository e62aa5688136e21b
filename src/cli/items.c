/* items.c - files, folders, lists and standard input, as a list of single things. */
#include "cli/items.h"
#include "cli/inputs.h"

#include <errno.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What goes into the list from now on is of this kind. */
typedef struct filling {
    up_items *items;
    const char *flag;
    int pictures, videos; /* which files of a folder are taken */
} filling;

static up_status no_memory(void) {
    return up_fail(UP_ERR_MEMORY, "inputs", "no memory for their names");
}

static up_status own(up_items *items, char *text) {
    size_t n = items->owned;
    if (!text) return no_memory();
    if (!(n & (n - 1))) {
        char **grown = realloc(items->memory, (n ? 2 * n : 1) * sizeof *grown);
        if (!grown) {
            free(text);
            return no_memory();
        }
        items->memory = grown;
    }
    items->memory[items->owned++] = text;
    return UP_OK;
}

static up_status add(up_items *items, const char *flag, const char *value) {
    if (items->list.count == INT32_MAX) return up_fail(UP_ERR_ARGUMENT, "inputs", "too many");
    return up_arg_list_add(&items->list, flag, value) ? no_memory() : UP_OK;
}

static up_status add_owned(up_items *items, const char *flag, char *value) {
    UP_TRY(own(items, value));
    return add(items, flag, value);
}

/* --- folders --- */

static int by_name(const FTSENT **a, const FTSENT **b) {
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static up_status take_file(filling *f, const char *path) {
    up_cli_kind kind = up_cli_kind_named(path);
    if ((kind == UP_FILE_IMAGE && f->pictures) || (kind == UP_FILE_VIDEO && f->videos))
        return add_owned(f->items, f->flag, strdup(path));
    f->items->passed++;
    return UP_OK;
}

static up_status take_entry(filling *f, FTS *tree, FTSENT *entry) {
    if (entry->fts_level > 0 && entry->fts_name[0] == '.') {
        if (entry->fts_info == FTS_D) fts_set(tree, entry, FTS_SKIP);
        return UP_OK;
    }
    switch (entry->fts_info) {
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        return up_fail(UP_ERR_IO, entry->fts_path, "cannot read: %s", strerror(entry->fts_errno));
    case FTS_F:
        return take_file(f, entry->fts_path);
    default: /* folders on their way, links to nothing, folders that hold themselves */
        return UP_OK;
    }
}

static up_status open_folder(filling *f, const char *path) {
    up_status status = UP_OK;
    int before = f->items->list.count;
    char *root = strdup(path);
    size_t length = strlen(path);
    FTS *tree = NULL;
    if (!root) return no_memory();
    while (length > 1 && root[length - 1] == '/') root[--length] = 0;
    tree = fts_open((char *[]){root, NULL}, FTS_LOGICAL | FTS_NOCHDIR, by_name);
    if (!tree) UP_GO(up_fail(UP_ERR_IO, path, "cannot read: %s", strerror(errno)));
    errno = 0;
    for (FTSENT *entry; (entry = fts_read(tree)); errno = 0) UP_GO(take_entry(f, tree, entry));
    if (errno) UP_GO(up_fail(UP_ERR_IO, path, "cannot read: %s", strerror(errno)));
    if (f->items->list.count == before)
        UP_GO(up_fail(UP_ERR_ARGUMENT, path, "no %s in this folder",
                      !f->videos     ? "picture"
                      : !f->pictures ? "video"
                                     : "picture or video"));
done:
    if (tree) fts_close(tree);
    free(root);
    return status;
}

/* --- lists --- */

/* "FILE:COLUMN" where there is no file of the whole name; *column NULL: lines. */
static up_status name_and_column(const char *value, char **path, const char **column) {
    struct stat about;
    char *colon;
    *path = strdup(value);
    *column = NULL;
    if (!*path) return no_memory();
    colon = strrchr(*path, ':');
    if (!colon || !stat(value, &about)) return UP_OK;
    *colon = 0;
    *column = colon + 1;
    return UP_OK;
}

/* Cell `index` of a row, ended in place; NULL: the row is shorter. */
static char *cell_of(char *row, int index) {
    for (; index && row; index--) {
        row = strchr(row, '\t');
        if (row) row++;
    }
    if (row) row[strcspn(row, "\t")] = 0;
    return row;
}

static int find_column(const char *head, const char *name) {
    size_t length = strlen(name);
    for (int index = 0;; index++) {
        size_t here = strcspn(head, "\t");
        if (here == length && !memcmp(head, name, length)) return index;
        if (!head[here]) return -1;
        head += here + 1;
    }
}

/* The name in a list's cell, from where the program runs. */
static char *beside(const char *list, const char *name) {
    const char *slash = strrchr(list, '/');
    char *path = NULL;
    if (*name == '/' || !slash) return strdup(name);
    return asprintf(&path, "%.*s/%s", (int)(slash - list), list, name) < 0 ? NULL : path;
}

static up_status add_column(filling *f, const char *path, const char *column, const up_cli_lines *lines) {
    int index = find_column(lines->list[0], column), texts = !strcmp(f->flag, "text");
    if (index < 0) return up_fail(UP_ERR_FORMAT, path, "no column \"%s\" in its first line", column);
    for (int i = 1; i < lines->count; i++) {
        char *cell = cell_of((char *)lines->list[i], index);
        if (!cell) return up_fail(UP_ERR_FORMAT, path, "row %d has no column \"%s\"", i, column);
        UP_TRY(add_owned(f->items, f->flag, texts ? strdup(cell) : beside(path, cell)));
    }
    return UP_OK;
}

static up_status open_list(filling *f, const char *value) {
    up_status status = UP_OK;
    char *path = NULL;
    const char *column;
    up_cli_lines lines = {0};
    UP_GO(name_and_column(value, &path, &column));
    UP_GO(up_cli_lines_read(path, &lines));
    if (column) UP_GO(add_column(f, path, column, &lines));
    for (int i = 0; !column && i < lines.count; i++)
        UP_GO(add_owned(f->items, f->flag, strdup(lines.list[i])));
done:
    up_cli_lines_free(&lines);
    free(path);
    return status;
}

/* --- all of them --- */

static up_status take(filling *f, const char *flag, const char *value) {
    struct stat about;
    f->flag = flag;
    if (!strcmp(flag, "texts") || (!strcmp(flag, "text") && !strcmp(value, "-"))) {
        f->flag = "text";
        return open_list(f, value);
    }
    if (!strcmp(flag, "text") || !strcmp(flag, "ids")) return add(f->items, flag, value);
    if (!strcmp(flag, "list") || (!strcmp(flag, "path") && !strcmp(value, "-"))) {
        f->flag = "path";
        return open_list(f, value);
    }
    f->pictures = strcmp(flag, "video") != 0;
    f->videos = strcmp(flag, "image") != 0;
    if (!stat(value, &about) && S_ISDIR(about.st_mode)) return open_folder(f, value);
    return add(f->items, flag, value);
}

up_status up_items_open(const up_arg_list *given, up_items *out) {
    filling f = {.items = out};
    int from_input = 0;
    *out = (up_items){0};
    for (int i = 0; i < given->count; i++) from_input += !strcmp(given->items[i].value, "-");
    if (from_input > 1) return up_fail(UP_ERR_ARGUMENT, "-", "standard input can be read once");
    for (int i = 0; i < given->count; i++) {
        const up_arg_item *item = &given->items[i];
        UP_TRY(take(&f, item->flag && strcmp(item->flag, "among") ? item->flag : "path", item->value));
    }
    return UP_OK;
}

void up_items_free(up_items *items) {
    up_arg_list_free(&items->list);
    for (size_t i = 0; i < items->owned; i++) free(items->memory[i]);
    free(items->memory);
    *items = (up_items){0};
}
