/* config.h - YAML configuration read into a plain C struct under the control of a schema table, and written
 * back.
 *
 * A schema is a table of rows, one for each key of a map, ended by a row without a key:
 *
 *     typedef struct demo { int64_t steps; double lr; char **names; size_t name_count; struct model model; }
 * demo; static const up_config_row demo_rows[] = {
 *         {"steps", UP_CONFIG_INT, UP_CONFIG_AT(demo, steps), .required = true, .min = 1, .max = 1e9,
 *          .help = "optimiser steps"},
 *         {"lr", UP_CONFIG_REAL, UP_CONFIG_AT(demo, lr), .fallback = "1e-3", .help = "peak learning rate"},
 *         {"names", UP_CONFIG_STRING, UP_CONFIG_LIST(demo, names, name_count), .fallback = "[a, b]", .help =
 * "..."},
 *         {"model", UP_CONFIG_MAP, UP_CONFIG_AT(demo, model), .map = &model_schema, .help = "..."},
 *         {.key = NULL}};
 *     static const up_config_schema demo_schema = {demo_rows, sizeof(demo)};
 *
 * Every error is one line that names the place, the value found and the value wanted:
 *     configs/demo.yaml:12: train.step_count: unknown key (did you mean "steps"?)
 *     command line: train.steps: "abc" is not a whole number
 */
#ifndef UP_FILES_CONFIG_H
#define UP_FILES_CONFIG_H

#include "uniperceiver/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What the struct holds at a row's offset. */
typedef enum up_config_type {
    UP_CONFIG_INT,    /* int64_t */
    UP_CONFIG_REAL,   /* double, finite */
    UP_CONFIG_BOOL,   /* bool: true or false */
    UP_CONFIG_STRING, /* char *, malloc'ed; NULL when not given and without fallback */
    UP_CONFIG_CHOICE, /* int (or enum): index into choices */
    UP_CONFIG_MAP     /* the sub-schema's struct itself */
} up_config_type;

typedef struct up_config_schema up_config_schema;

typedef struct up_config_row {
    const char *key;
    up_config_type type;
    size_t offset;
    bool list;                  /* the struct holds a pointer to malloc'ed elements instead, NULL for none */
    size_t count_offset;        /* list: of their count, a size_t */
    double min, max;            /* INT, REAL: inclusive bounds, none when both are 0 */
    size_t at_least, at_most;   /* list: how many elements; at_most 0 = any number */
    const char *const *choices; /* CHOICE: names, ended by NULL */
    size_t choice_stride; /* CHOICE: bytes from one name to the next, where they stand in the rows of a table;
                             0: side by side */
    const up_config_schema *map; /* MAP */
    bool required;
    const char *fallback; /* YAML text of a value not given; NULL = zero, empty, or a map of defaults */
    const char *help;     /* one line */
} up_config_row;

/* CHOICE: the name of choice i, NULL behind the last one. */
static inline const char *up_config_choice(const up_config_row *row, int i) {
    size_t stride = row->choice_stride ? row->choice_stride : sizeof *row->choices;
    return *(const char *const *)(const void *)((const char *)row->choices + (size_t)i * stride);
}

struct up_config_schema {
    const up_config_row *rows;
    size_t size; /* of the struct */
};

#define UP_CONFIG_AT(type, field) .offset = offsetof(type, field)
#define UP_CONFIG_LIST(type, field, count)                                                                   \
    .offset = offsetof(type, field), .list = true, .count_offset = offsetof(type, count)

/* Read a file over `config` (zeroed first) and check it. Overrides are "dotted.path=value", value in YAML,
 * applied in order before the check; elements of a list are named by number or, if they are maps, by their
 * "name". A key that is `null` counts as not given. `base: FILE` names a file in the same folder, sound
 * alone, over whose keys those of this file go before the overrides: maps over maps key by key, a map over a
 * list by number or name of its elements, all else replaces. Free with up_config_free, also fine after a
 * failure. */
up_status up_config_read(const char *path, const up_config_schema *schema, const char *const *overrides,
                         size_t count, void *config);

/* The same from memory; `name` stands for the file in messages. */
up_status up_config_parse(const char *name, const char *text, size_t size, const up_config_schema *schema,
                          const char *const *overrides, size_t count, void *config);

void up_config_free(const up_config_schema *schema, void *config);

/* The effective configuration as YAML (malloc'ed, ends in NUL) that reads back bit for bit. */
up_status up_config_dump(const up_config_schema *schema, const void *config, char **text);

/* Of one row: bytes of one value (of an element, for a list), and what is wanted in words. */
size_t up_config_size_of(const up_config_row *row);
const char *up_config_wanted(const up_config_row *row);

/* Print one line for each key: its path, kind, default and help. */
void up_config_describe(const up_config_schema *schema, FILE *out);

#endif
