/* records.c - JSON and TSV to one form. */
#include "eval/records.h"
#include "data/dataset.h"
#include "files/file.h"
#include "files/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A row as an object of its cells. */
static up_status add_row(const up_sample *row, json_t *list) {
    json_t *record = json_object();
    int failed = !record;
    for (size_t i = 0; i < row->count && !failed; i++)
        failed = json_object_set_new_nocheck(record, row->memory + row->values[i].name,
                                             json_string_nocheck(up_value_text(row, &row->values[i])));
    if (!failed) failed = json_array_append(list, record);
    json_decref(record);
    return failed ? up_fail(UP_ERR_MEMORY, "records", "no memory for a row") : UP_OK;
}

static up_status read_table(const char *path, json_t **out) {
    const up_dataset_options options = {.data = path, .format = "tsv"};
    up_dataset table;
    up_sample row = {0};
    json_t *list = json_array();
    up_status status = list ? UP_OK : up_fail(UP_ERR_MEMORY, path, "no memory for its records");
    if (status == UP_OK) status = up_dataset_open(&options, &table);
    if (status != UP_OK) {
        json_decref(list);
        return status;
    }
    for (size_t i = 0; i < table.count && status == UP_OK; i++) {
        status = up_dataset_sample(&table, i, &row);
        if (status == UP_OK) status = add_row(&row, list);
    }
    up_sample_free(&row);
    up_dataset_close(&table);
    if (status == UP_OK)
        *out = list;
    else
        json_decref(list);
    return status;
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
