/* text.c - plain text, a sample a line; and what readers of lines share. */
#include "data/datasets/reader.h"
#include "files/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int is_empty(const char *line, size_t size) {
    return !size || (size == 1 && *line == '\r');
}

/* Where the line that begins at `at` ends: its line break, or the end of the text. */
static size_t end_of(const up_dataset *d, size_t at) {
    const char *end = memchr(d->text + at, '\n', d->text_bytes - at);
    return end ? (size_t)(end - d->text) : d->text_bytes;
}

/* What a list of keys leaves out is asked for here; without one no line is parsed. */
static up_status keeps(const up_dataset *d, up_sample_index_writer *w, size_t at, size_t end, up_sample *s,
                       int *keep) {
    *keep = 1;
    if (!w->left_out_count) return UP_OK;
    while (end > at && d->text[end - 1] == '\r') end--;
    up_sample_clear(s);
    UP_TRY(d->reader->parse(d, d->text + at, end - at, s));
    const up_value *key = up_sample_value(s, "key", 0);
    *keep = !key || !up_sample_index_leaves_out(w, up_value_text(s, key));
    return UP_OK;
}

up_status up_read_lines(up_dataset *d, up_sample_index_writer *w) {
    up_sample s = {0};
    up_status status = UP_OK;
    UP_TRY(up_sample_index_input(w, d->options.data));
    size_t at = d->text_bytes >= 3 && !memcmp(d->text, "\xef\xbb\xbf", 3) ? 3 : 0;
    for (size_t end; at < d->text_bytes; at = end + 1) {
        int keep;
        end = end_of(d, at);
        if (is_empty(d->text + at, end - at)) continue;
        UP_GO(keeps(d, w, at, end, &s, &keep));
        if (keep) UP_GO(up_sample_index_line(w, at));
    }
done:
    up_sample_free(&s);
    return status;
}

up_status up_parse_line(const up_dataset *d, const char *line, size_t size, up_sample *out) {
    (void)d;
    return up_sample_text(out, "text", line, size);
}

up_status up_datasets_each_line(const char *path, up_each_line each, void *context) {
    void *text;
    size_t size, number = 0;
    UP_TRY(up_file_read(path, &text, &size));
    up_status status = UP_OK;
    char *rest = text;
    if (memchr(text, 0, size)) UP_GO(up_fail(UP_ERR_FORMAT, path, "holds a NUL byte: not a text"));
    if (!strncmp(rest, "\xef\xbb\xbf", 3)) rest += 3;
    for (char *line; (line = strsep(&rest, "\n"));) {
        number++;
        line[strcspn(line, "\r")] = 0;
        if (*line) UP_GO(each(context, line, number));
    }
done:
    free(text);
    return status;
}

up_status up_datasets_join(const char *folder, const char *name, char **out) {
    int absolute = !folder || *name == '/';
    if (asprintf(out, "%s%s%s", absolute ? "" : folder, absolute ? "" : "/", name) >= 0) return UP_OK;
    *out = NULL;
    return up_fail(UP_ERR_MEMORY, name, "no memory for a file's name");
}

up_status up_datasets_add(up_sample *s, const char *name, const char *text) {
    return text ? up_sample_text(s, name, text, strlen(text)) : UP_OK;
}

/* 7 as "7", 0.5 as "0.5", true as "true". */
static up_status add_json_value(up_sample *s, const char *name, const json_t *value) {
    char number[40];
    if (json_is_string(value))
        return up_sample_text(s, name, json_string_value(value), json_string_length(value));
    if (json_is_integer(value))
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        snprintf(number, sizeof number, "%.17g", json_real_value(value));
    else if (json_is_boolean(value))
        snprintf(number, sizeof number, "%s", json_is_true(value) ? "true" : "false");
    else
        return UP_OK; /* null, and maps, which are no values of a sample */
    return up_datasets_add(s, name, number);
}

up_status up_datasets_add_json(up_sample *s, const json_t *object) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value) {
        if (!json_is_array(value)) UP_TRY(add_json_value(s, name, value));
        for (size_t i = 0; json_is_array(value) && i < json_array_size(value); i++)
            UP_TRY(add_json_value(s, name, json_array_get(value, i)));
    }
    return UP_OK;
}
