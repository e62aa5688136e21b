/* classes.c - classes from a list of their own, one a line; else those that the format lists; else those that
 * the rows have. A row that names none (an empty cell) is left out; one that names a class which the list
 * lacks is an error. What stands for a class whose name says little is the text behind a tab in its line of
 * the list ("0\tterrible", appendix D), or the first of its names in a file of names. */
#include "tasks/classes.h"
#include "files/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the list of them ---- */

int up_classes_find(const up_source *s, const char *name) {
    return up_lexicon_find(&s->names, name, strlen(name));
}

static up_status reserve_texts(up_source *s) {
    if (s->names.room <= s->text_room) return UP_OK;
    char **texts = realloc(s->class_texts, s->names.room * sizeof *texts);
    if (!texts) return up_fail(UP_ERR_MEMORY, s->settings->name, "%zu classes wanted", s->names.room);
    s->class_texts = texts;
    s->text_room = s->names.room;
    return UP_OK;
}

/* A class, and what it is called. Nothing where there is one of that name. */
static up_status add(up_source *s, const char *name, const char *text) {
    int32_t number;
    UP_TRY(up_lexicon_add(&s->names, name, strlen(name), &number));
    s->classes = s->names.words;
    if ((size_t)number < s->class_count) return UP_OK;
    UP_TRY(reserve_texts(s));
    s->class_texts[s->class_count] = strdup(text);
    if (!s->class_texts[s->class_count])
        return up_fail(UP_ERR_MEMORY, s->settings->name, "no memory for a class");
    s->class_count++;
    return UP_OK;
}

/* ---- where they come from ---- */

/* The lines of a file that are not empty, cut in place; *text is malloc'ed, *next stands behind the first. */
static up_status open_lines(const char *path, char **text, char **next) {
    void *bytes;
    size_t size;
    *text = NULL;
    UP_TRY(up_file_read(path, &bytes, &size));
    *text = *next = bytes;
    if (memchr(bytes, 0, size)) return up_fail(UP_ERR_FORMAT, path, "holds a NUL byte: not a list of names");
    if (!strncmp(*next, "\xef\xbb\xbf", 3)) *next += 3; /* a byte order mark is no part of the first name */
    return UP_OK;
}

static char *next_line(char **next) {
    for (char *line; (line = strsep(next, "\n"));) {
        line[strcspn(line, "\r")] = 0;
        if (*line) return line;
    }
    return NULL;
}

static up_status read_list(up_source *s, const char *path) {
    char *lines, *next;
    up_status status = UP_OK;
    UP_GO(open_lines(path, &lines, &next));
    for (char *line; (line = next_line(&next));) {
        char *text = strchr(line, '\t');
        if (text) *text++ = 0;
        if (!*line) continue;
        if (up_classes_find(s, line) >= 0) UP_GO(up_fail(UP_ERR_FORMAT, path, "names \"%s\" twice", line));
        UP_GO(add(s, line, text ? text : line));
    }
done:
    free(lines);
    return status;
}

up_status up_classes_unknown(const up_source *s, size_t row, const char *name) {
    char why[512];
    const char *list = s->settings->classes ? s->settings->classes : "its format";
    snprintf(why, sizeof why, "is of class \"%.200s\", which %.200s does not list", name, list);
    return up_dataset_fail(&s->data, row, UP_ERR_FORMAT, why);
}

/* The classes of all rows that can be read: to find them, or to see that they are known. */
static up_status each_row(up_source *s, int known) {
    up_sample sample = {0};
    up_status status = UP_OK;
    const up_value *v;
    int class;
    for (size_t row = 0; row < s->data.count; row++) {
        status = up_dataset_sample(&s->data, row, &sample);
        if (up_is_of_sample(status)) continue;
        UP_GO(status);
        if (known) UP_GO(up_source_class(s, &sample, row, &class));
        for (size_t k = 0; !known && (v = up_sample_value(&sample, s->settings->target, k)); k++) {
            const char *name = up_value_text(&sample, v);
            if (*name) UP_GO(add(s, name, name));
        }
    }
    status = UP_OK;
done:
    up_sample_free(&sample);
    return status;
}

static up_status find_classes(up_source *s) {
    const char *list = s->settings->classes, *name;
    UP_TRY(list ? read_list(s, list) : UP_OK);
    for (size_t i = 0; !list && (name = up_dataset_class(&s->data, i)); i++) UP_TRY(add(s, name, name));
    if (!list && !s->class_count) return each_row(s, 0);
    return s->data.small && !s->world->later ? each_row(s, 1) : UP_OK; /* else when a row is used */
}

/* ---- what they are called ---- */

/* A class's line of a file of names, behind the class itself; NULL: it has none. */
static up_status read_names(up_source *s, const char *path, char **text, char ***names) {
    char *next;
    *names = calloc(s->class_count, sizeof **names);
    if (!*names) return up_fail(UP_ERR_MEMORY, path, "names of %zu classes wanted", s->class_count);
    UP_TRY(open_lines(path, text, &next));
    for (char *line; (line = next_line(&next));) {
        char *rest = line + strcspn(line, " \t");
        if (*rest) *rest++ = 0;
        int class = up_classes_find(s, line);
        rest += strspn(rest, " \t");
        if (!*rest) return up_fail(UP_ERR_FORMAT, path, "\"%s\" has no name behind it", line);
        if (class >= 0) (*names)[class] = rest;
    }
    for (size_t i = 0; i < s->class_count; i++)
        if (!(*names)[i]) return up_fail(UP_ERR_FORMAT, path, "has no name for \"%s\"", s->classes[i]);
    return UP_OK;
}

/* Names of a line, "tench, Tinca tinca": 2. */
static size_t count_names(const char *line) {
    size_t n = 1;
    for (; *line; line++) n += *line == ',';
    return n;
}

/* A text of the target set behind those in `ids`. */
static up_status tokenize(const up_source *s, const char *form, const char *name, int32_t *ids,
                          int64_t *starts) {
    char *text = NULL;
    size_t count = 0;
    UP_TRY(up_task_target_text(form, name, &text));
    up_status status = up_tokenize_closed(s->world->tokenizer, text, strlen(text),
                                          (size_t)s->settings->text_limit, ids + starts[0], &count);
    free(text);
    starts[1] = starts[0] + (int64_t)count;
    return status;
}

up_status up_classes_tokenize(const up_source *s, const char *form, int32_t **ids, int64_t **starts) {
    size_t limit = (size_t)s->settings->text_limit;
    *ids = malloc(s->class_count * limit * sizeof **ids);
    *starts = malloc((s->class_count + 1) * sizeof **starts);
    if (!*ids || !*starts)
        return up_fail(UP_ERR_MEMORY, s->settings->name, "%zu class texts wanted", s->class_count);
    **starts = 0;
    for (size_t i = 0; i < s->class_count; i++)
        UP_TRY(tokenize(s, form, s->class_texts[i], *ids, *starts + i));
    return UP_OK;
}

/* The first names become the classes' texts. */
static up_status take_first_names(up_source *s, char *const *names) {
    for (size_t i = 0; i < s->class_count; i++) {
        char *first = strndup(names[i], strcspn(names[i], ","));
        if (!first) return up_fail(UP_ERR_MEMORY, s->settings->name, "no memory for a name");
        free(s->class_texts[i]);
        s->class_texts[i] = first;
    }
    return UP_OK;
}

/* All names, where a class has several: cuts `names` into its parts. */
static up_status tokenize_names(up_source *s, char *const *names) {
    size_t total = 0, k = 0, limit = (size_t)s->settings->text_limit;
    for (size_t i = 0; i < s->class_count; i++) total += count_names(names[i]);
    if (total == s->class_count) return UP_OK;
    s->name_starts = malloc((s->class_count + 1) * sizeof *s->name_starts);
    s->name_ids = malloc(total * limit * sizeof *s->name_ids);
    s->name_at = malloc((total + 1) * sizeof *s->name_at);
    if (!s->name_starts || !s->name_ids || !s->name_at)
        return up_fail(UP_ERR_MEMORY, s->settings->name, "%zu names wanted", total);
    s->name_at[0] = 0;
    for (size_t i = 0; i < s->class_count; i++) {
        char *rest = names[i];
        s->name_starts[i] = k;
        for (char *name; (name = strsep(&rest, ",")); k++)
            UP_TRY(tokenize(s, s->settings->template_text, name + strspn(name, " "), s->name_ids,
                            &s->name_at[k]));
    }
    s->name_starts[s->class_count] = k;
    return UP_OK;
}

static up_status put_names(up_source *s) {
    char *text = NULL, **names = NULL;
    up_status status = UP_OK;
    UP_GO(read_names(s, s->settings->names, &text, &names));
    UP_GO(take_first_names(s, names));
    UP_GO(tokenize_names(s, names));
done:
    free(text);
    free(names);
    return status;
}

up_status up_classes_open(up_source *s) {
    const char *list = s->settings->classes;
    UP_TRY(find_classes(s));
    if (s->class_count < 2)
        return up_fail(
            UP_ERR_FORMAT, list ? list : s->data.options.data,
            "names %zu class(es)%s%s: wanted two or more to choose from; `classes` can name a list",
            s->class_count, s->class_count ? ", " : "", s->class_count ? s->classes[0] : "");
    if (s->settings->names) UP_TRY(put_names(s));
    return up_classes_tokenize(s, s->settings->template_text, &s->class_ids, &s->class_starts);
}

void up_classes_close(up_source *s) {
    for (size_t i = 0; i < s->class_count; i++) free(s->class_texts[i]);
    up_lexicon_free(&s->names);
    free(s->class_texts);
    free(s->class_ids);
    free(s->class_starts);
    free(s->name_starts);
    free(s->name_ids);
    free(s->name_at);
}
