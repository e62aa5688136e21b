/* lists.c - lists whose first line names the columns (TSV, CSV, the tasks of GLUE), and JSON lines. */
#include "data/datasets/reader.h"
#include "files/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- TSV: no quoting, so a cell holds neither tab nor line break ---- */

static size_t start_of(const up_dataset *d) {
    return d->text_bytes >= 3 && !memcmp(d->text, "\xef\xbb\xbf", 3) ? 3 : 0;
}

static size_t line_end(const char *text, size_t at, size_t size) {
    const char *end = memchr(text + at, '\n', size - at);
    return end ? (size_t)(end - text) : size;
}

/* Take a parsed first line, in which each value is a name, for the names of the columns. */
static up_status take_names(up_dataset *d, const up_sample *names) {
    d->column_count = names->count;
    d->columns = malloc((names->count + 1) * sizeof *d->columns);
    d->column_text = malloc(names->used + 1);
    if (!d->columns || !d->column_text)
        return up_fail(UP_ERR_MEMORY, d->options.data, "%zu columns wanted", names->count);
    memcpy(d->column_text, names->memory, names->used);
    for (size_t i = 0; i < names->count; i++) d->columns[i] = d->column_text + names->values[i].text;
    return UP_OK;
}

/* The names that the settings give to a list without a line of them. */
static up_status take_given_names(up_dataset *d) {
    up_sample names = {0};
    up_status status = UP_OK;
    for (const char *name = d->options.columns; status == UP_OK && *name;) {
        name += strspn(name, " ");
        size_t length = strcspn(name, ",");
        status = up_sample_text(&names, "column", name, length);
        name += length + (name[length] == ',');
    }
    if (status == UP_OK) status = take_names(d, &names);
    d->headless = 1;
    up_sample_free(&names);
    return status;
}

static up_status add_cells(const up_dataset *d, const char *line, size_t size, up_sample *out) {
    const char *end = line + size;
    for (size_t i = 0;; i++) {
        const char *tab = memchr(line, '\t', (size_t)(end - line));
        const char *name = !d->columns ? "column" : i < d->column_count ? d->columns[i] : "more";
        UP_TRY(up_sample_text(out, name, line, (size_t)((tab ? tab : end) - line)));
        if (!tab) break;
        line = tab + 1;
    }
    if (!d->columns || out->count == d->column_count) return UP_OK;
    return up_fail(UP_ERR_FORMAT, "list", "%zu cells, the first line names %zu columns", out->count,
                   d->column_count);
}

up_status up_open_tsv(up_dataset *d) {
    up_sample names = {0};
    if (d->options.columns) return take_given_names(d);
    size_t at = start_of(d), end = line_end(d->text, at, d->text_bytes);
    while (end > at && d->text[end - 1] == '\r') end--;
    up_status status = add_cells(d, d->text + at, end - at, &names);
    if (status == UP_OK) status = take_names(d, &names);
    up_sample_free(&names);
    return status;
}

/* 1 where a list of keys names the sample. A broken line stays: whoever reads it is told. */
static up_status is_left_out(const up_dataset *d, const up_sample_index_writer *w, const char *line,
                             size_t size, up_sample *s, int *out) {
    *out = 0;
    if (!w->left_out_count) return UP_OK;
    up_sample_clear(s);
    if (d->reader->parse(d, line, size, s) == UP_ERR_MEMORY) return UP_ERR_MEMORY;
    const up_value *key = up_sample_value(s, "key", 0);
    *out = key && up_sample_index_leaves_out(w, up_value_text(s, key));
    return UP_OK;
}

up_status up_read_tsv(up_dataset *d, up_sample_index_writer *w) {
    up_sample s = {0};
    up_status status = UP_OK;
    int names = !d->headless;
    UP_TRY(up_sample_index_input(w, d->options.data));
    for (size_t at = start_of(d), end; at < d->text_bytes; at = end + 1) {
        int left_out;
        end = line_end(d->text, at, d->text_bytes);
        size_t size = end - at;
        if (size && d->text[at + size - 1] == '\r') size--;
        if (names || !size) {
            names = 0;
            continue;
        }
        UP_GO(is_left_out(d, w, d->text + at, size, &s, &left_out));
        if (!left_out) UP_GO(up_sample_index_line(w, at));
    }
done:
    up_sample_free(&s);
    return status;
}

up_status up_parse_tsv(const up_dataset *d, const char *line, size_t size, up_sample *out) {
    return add_cells(d, line, size, out);
}

/* ---- CSV (RFC 4180): "a cell with , or "" or line breaks" ---- */

/* Read one cell; *at is behind it and its comma. *last 1: it ended the row, *at behind the line break. */
static up_status next_cell(const char *text, size_t size, size_t *at, char *cell, size_t *length, int *last) {
    size_t i = *at, n = 0;
    int quoted = i < size && text[i] == '"';
    for (i += (size_t)quoted; i < size; i++) {
        char c = text[i];
        if (quoted && c == '"' && i + 1 < size && text[i + 1] == '"') {
            i++;
        } else if (quoted && c == '"') {
            quoted = 0;
            continue;
        } else if (!quoted && (c == ',' || c == '\n')) {
            break;
        }
        if (n > UP_VALUE_MOST)
            return up_fail(UP_ERR_FORMAT, "list", "a cell of more than %d bytes; is a quote not closed?",
                           UP_VALUE_MOST);
        if (cell) cell[n] = c;
        n++;
    }
    if (quoted) return up_fail(UP_ERR_FORMAT, "list", "a quote is not closed");
    *last = i >= size || text[i] == '\n';
    if (cell && *last && n && cell[n - 1] == '\r') n--;
    *length = n;
    *at = i + 1;
    return UP_OK;
}

static up_status add_csv(const up_dataset *d, const char *text, size_t size, size_t *at, up_sample *out) {
    char *cell = malloc(UP_VALUE_MOST + 2);
    size_t length = 0;
    int last = 0;
    up_status status = cell ? UP_OK : up_fail(UP_ERR_MEMORY, "list", "no memory for a cell");
    while (status == UP_OK && !last) {
        const char *name = !d->columns                    ? "column"
                           : out->count < d->column_count ? d->columns[out->count]
                                                          : "more";
        status = next_cell(text, size, at, cell, &length, &last);
        if (status == UP_OK) status = up_sample_text(out, name, cell, length);
    }
    free(cell);
    if (status != UP_OK || !d->columns || out->count == d->column_count) return status;
    return up_fail(UP_ERR_FORMAT, "list", "%zu cells, the first line names %zu columns", out->count,
                   d->column_count);
}

up_status up_open_csv(up_dataset *d) {
    up_sample names = {0};
    if (d->options.columns) return take_given_names(d);
    size_t at = start_of(d);
    up_status status = add_csv(d, d->text, d->text_bytes, &at, &names);
    if (status == UP_OK) status = take_names(d, &names);
    up_sample_free(&names);
    return status;
}

up_status up_parse_csv(const up_dataset *d, const char *line, size_t size, up_sample *out) {
    size_t at = 0;
    return add_csv(d, line, size, &at, out);
}

/* The row that begins at `at`: its cells, and where the next one begins. */
static up_status skip_row(const up_dataset *d, size_t *at, size_t *cells) {
    size_t length;
    int last = 0;
    for (*cells = 0; !last; (*cells)++) UP_TRY(next_cell(d->text, d->text_bytes, at, NULL, &length, &last));
    return UP_OK;
}

up_status up_read_csv(up_dataset *d, up_sample_index_writer *w) {
    up_sample s = {0};
    up_status status = UP_OK;
    size_t cells, at = start_of(d);
    UP_TRY(up_sample_index_input(w, d->options.data));
    if (!d->headless) UP_TRY(skip_row(d, &at, &cells)); /* the names */
    while (at < d->text_bytes) {
        size_t first = at;
        int left_out;
        if (skip_row(d, &at, &cells) != UP_OK) at = line_end(d->text, first, d->text_bytes) + 1;
        if (cells == 1 && at - first <= 2) continue; /* an empty line */
        UP_GO(is_left_out(d, w, d->text + first, (at < d->text_bytes ? at : d->text_bytes) - first, &s,
                          &left_out));
        if (!left_out) UP_GO(up_sample_index_line(w, first));
    }
done:
    up_sample_free(&s);
    return status;
}

/* ---- JSON lines ---- */

up_status up_parse_jsonl(const up_dataset *d, const char *line, size_t size, up_sample *out) {
    json_t *object;
    (void)d;
    UP_TRY(up_json_read("sample", line, size, 0, &object));
    up_status status = json_is_object(object) ? up_datasets_add_json(out, object)
                                              : up_fail(UP_ERR_FORMAT, "sample", "wanted a JSON object");
    json_decref(object);
    return status;
}

/* ---- GLUE: columns under the names of each task; CoLA's training file has no line of names ---- */

static char *cola[] = {"source", "label", "star", "text"};

up_status up_open_glue(up_dataset *d) {
    UP_TRY(up_open_tsv(d));
    int named = 0;
    for (size_t i = 0; i < d->column_count; i++)
        named |= strstr(d->columns[i], "sentence") || strstr(d->columns[i], "question") ||
                 strstr(d->columns[i], "String");
    if (named || d->column_count != 4) return UP_OK;
    d->headless = 1;
    memcpy(d->columns, cola, sizeof cola);
    return UP_OK;
}

/* The names that a column of GLUE has here; NULL: it is passed over. */
static const char *glue_name(const char *column) {
    static const char *const names[][2] = {
        {"sentence", "text"},      {"text", "text"},      {"sentence1", "first"},  {"#1 String", "first"},
        {"question1", "first"},    {"question", "first"}, {"sentence2", "second"}, {"#2 String", "second"},
        {"question2", "second"},   {"label", "label"},    {"gold_label", "label"}, {"Quality", "label"},
        {"is_duplicate", "label"}, {"score", "label"},    {"index", "key"},        {"id", "key"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i][0], column)) return names[i][1];
    return NULL;
}

/* A pair of sentences is one text, with a space between. */
static up_status add_pair(up_sample *out) {
    const up_value *first = up_sample_value(out, "first", 0), *second = up_sample_value(out, "second", 0);
    char *joined;
    if (!first || !second) return UP_OK;
    if (asprintf(&joined, "%s %s", up_value_text(out, first), up_value_text(out, second)) < 0)
        return up_fail(UP_ERR_MEMORY, "pair", "no memory for its text");
    up_status status = up_datasets_add(out, "text", joined);
    free(joined);
    return status;
}

up_status up_parse_glue(const up_dataset *d, const char *line, size_t size, up_sample *out) {
    up_sample cells = {0};
    up_status status = UP_OK;
    UP_GO(add_cells(d, line, size, &cells));
    for (size_t i = 0; i < cells.count; i++) {
        const char *name = glue_name(cells.memory + cells.values[i].name);
        if (name && !strcmp(name, "text") && up_sample_count(out, "first")) name = "second"; /* QNLI */
        if (name) UP_GO(up_datasets_add(out, name, up_value_text(&cells, &cells.values[i])));
    }
    UP_GO(add_pair(out));
done:
    up_sample_free(&cells);
    return status;
}
