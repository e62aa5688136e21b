/* records.c - JSON and TSV to one form. */
#include "eval/records.h"
#include "data/table.h"
#include "files/file.h"
#include "files/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static up_status read_table(const char *path, json_t **out) {
    up_table t;
    UP_TRY(up_table_read(path, &t));
    json_t *list = json_array();
    int failed = !list;
    for (size_t row = 0; row < t.rows && !failed; row++) {
        json_t *record = json_object();
        for (size_t i = 0; i < t.columns; i++)
            failed |= json_object_set_new_nocheck(record, t.names[i],
                                                  json_string_nocheck(up_table_cell(&t, row, i)));
        failed |= json_array_append_new(list, record);
    }
    up_table_free(&t);
    if (failed) {
        json_decref(list);
        return up_fail(UP_ERR_MEMORY, path, "no memory for its records");
    }
    *out = list;
    return UP_OK;
}

static up_status check_objects(const char *path, const json_t *list) {
    size_t i;
    json_t *record;
    json_array_foreach(list, i, record) if (!json_is_object(record)) return up_fail(
        UP_ERR_FORMAT, path, "record %zu is not an object", i + 1);
    return UP_OK;
}

up_status up_records_read(const char *path, json_t **out) {
    void *text;
    size_t size;
    json_t *whole = NULL, *list;
    *out = NULL;
    UP_TRY(up_file_read(path, &text, &size));
    size_t first = strspn(text, " \t\r\n");
    char sign = ((const char *)text)[first];
    if (sign != '[' && sign != '{') {
        free(text);
        return read_table(path, out);
    }
    up_status status = up_json_read(path, text, size, 0, &whole);
    free(text);
    UP_TRY(status);
    list = json_is_array(whole) ? whole : json_object_get(whole, "annotations");
    if (!json_is_array(list))
        status =
            up_fail(UP_ERR_FORMAT, path, "is neither an array nor an object with the array \"annotations\"");
    else
        status = check_objects(path, list);
    if (status == UP_OK) *out = json_incref(list);
    json_decref(whole);
    return status;
}

const char *up_record_text(const json_t *record, const char *field, char *room) {
    const json_t *value = json_object_get(record, field);
    if (json_is_string(value)) return json_string_value(value);
    if (!json_is_integer(value)) return NULL;
    snprintf(room, 32, "%lld", (long long)json_integer_value(value));
    return room;
}

up_status up_record_need(const char *path, const json_t *records, size_t place, const char *field, char *room,
                         const char **out) {
    *out = up_record_text(json_array_get(records, place), field, room);
    if (*out) return UP_OK;
    return up_fail(UP_ERR_FORMAT, path, "record %zu has no text or whole number \"%s\"", place + 1, field);
}
