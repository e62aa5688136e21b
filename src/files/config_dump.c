/* config_dump.c - the way back: a filled struct as YAML under the same schema, and the schema itself in
 * words. */
#include "files/config.h"
#include "files/number.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* Node numbers of libyaml are positive; 0 is its failure (no memory, or text that is not UTF-8). */
static int dump_map(yaml_document_t *document, const up_config_schema *schema, const char *config);

static int add_text(yaml_document_t *document, const char *text, yaml_scalar_style_t style) {
    return yaml_document_add_scalar(document, NULL, (const yaml_char_t *)text, (int)strlen(text), style);
}

static int add_real(yaml_document_t *document, double value) {
    char text[UP_NUMBER_ROOM];
    up_number_write(value, text);
    return add_text(document, text, YAML_PLAIN_SCALAR_STYLE);
}

static int add_one(yaml_document_t *document, const up_config_row *row, const char *item) {
    char text[40];
    switch (row->type) {
    case UP_CONFIG_INT:
        snprintf(text, sizeof text, "%" PRId64, *(const int64_t *)item);
        return add_text(document, text, YAML_PLAIN_SCALAR_STYLE);
    case UP_CONFIG_REAL:
        return add_real(document, *(const double *)item);
    case UP_CONFIG_BOOL:
        return add_text(document, *(const bool *)item ? "true" : "false", YAML_PLAIN_SCALAR_STYLE);
    case UP_CONFIG_STRING:
        return add_text(document, *(char *const *)item, YAML_DOUBLE_QUOTED_SCALAR_STYLE);
    case UP_CONFIG_CHOICE:
        return add_text(document, up_config_choice(row, *(const int *)item), YAML_PLAIN_SCALAR_STYLE);
    case UP_CONFIG_MAP:
        return dump_map(document, row->map, item);
    }
    return 0;
}

static int add_list(yaml_document_t *document, const up_config_row *row, const char *config) {
    size_t count;
    const char *items;
    memcpy(&count, config + row->count_offset, sizeof count);
    memcpy(&items, config + row->offset, sizeof items);
    bool block = row->type == UP_CONFIG_MAP && count;
    int list = yaml_document_add_sequence(document, NULL,
                                          block ? YAML_BLOCK_SEQUENCE_STYLE : YAML_FLOW_SEQUENCE_STYLE);
    for (size_t i = 0; list && i < count; i++) {
        int item = add_one(document, row, items + i * up_config_size_of(row));
        if (!item || !yaml_document_append_sequence_item(document, list, item)) return 0;
    }
    return list;
}

static int dump_map(yaml_document_t *document, const up_config_schema *schema, const char *config) {
    int map = yaml_document_add_mapping(document, NULL, YAML_BLOCK_MAPPING_STYLE);
    for (const up_config_row *row = schema->rows; map && row->key; row++) {
        const char *field = config + row->offset;
        if (row->type == UP_CONFIG_STRING && !row->list && !*(char *const *)field) continue; /* not given */
        int key = add_text(document, row->key, YAML_PLAIN_SCALAR_STYLE);
        int value = row->list ? add_list(document, row, config) : add_one(document, row, field);
        if (!key || !value || !yaml_document_append_mapping_pair(document, map, key, value)) return 0;
    }
    return map;
}

static int emit(yaml_document_t *document, FILE *out) {
    yaml_emitter_t emitter;
    int done = yaml_emitter_initialize(&emitter);
    if (!done) {
        yaml_document_delete(document);
        return 0;
    }
    yaml_emitter_set_output_file(&emitter, out);
    yaml_emitter_set_unicode(&emitter, 1);
    yaml_emitter_set_width(&emitter, -1);
    done =
        yaml_emitter_dump(&emitter, document) && yaml_emitter_close(&emitter); /* dump deletes the document */
    yaml_emitter_delete(&emitter);
    return done;
}

up_status up_config_dump(const up_config_schema *schema, const void *config, char **text) {
    yaml_document_t document;
    size_t size;
    *text = NULL;
    FILE *out = open_memstream(text, &size);
    if (!out || !yaml_document_initialize(&document, NULL, NULL, NULL, 1, 1)) {
        if (out) fclose(out);
        free(*text);
        *text = NULL;
        return up_fail(UP_ERR_MEMORY, "configuration", "no memory to write it");
    }
    int done = dump_map(&document, schema, config);
    if (done)
        done = emit(&document, out);
    else
        yaml_document_delete(&document);
    if (fclose(out) == 0 && done) return UP_OK;
    free(*text);
    *text = NULL;
    return up_fail(UP_ERR_ARGUMENT, "configuration", "cannot write it: no memory, or a text is not UTF-8");
}

static void describe(const up_config_schema *schema, const char *prefix, FILE *out) {
    for (const up_config_row *row = schema->rows; row->key; row++) {
        char path[200];
        snprintf(path, sizeof path, "%s%s%s", prefix, row->key,
                 row->list && row->type == UP_CONFIG_MAP ? ".N" : "");
        if (row->type != UP_CONFIG_MAP) {
            fprintf(out, "%s: %s%s", path, row->list ? "list of " : "", up_config_wanted(row));
            for (int i = 0; row->type == UP_CONFIG_CHOICE && up_config_choice(row, i); i++)
                fprintf(out, "%s%s", i ? ", " : " of ", up_config_choice(row, i));
            fprintf(out, "; %s%s; %s\n",
                    row->required   ? "required"
                    : row->fallback ? "default "
                                    : "optional",
                    !row->required && row->fallback ? row->fallback : "", row->help ? row->help : "");
            continue;
        }
        fprintf(out, "%s: %s; %s\n", path, row->list ? "list of maps" : "map", row->help ? row->help : "");
        strncat(path, ".", sizeof path - strlen(path) - 1);
        describe(row->map, path, out);
    }
}

void up_config_describe(const up_config_schema *schema, FILE *out) {
    describe(schema, "", out);
}
