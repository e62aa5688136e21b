/* config.c - reads a configuration in four steps: YAML text (libyaml) to a small tree whose nodes know their
 * line, that tree laid over the one of its base, command-line overrides applied to it, then the tree checked
 * against the schema while the struct is filled. Aliases are expanded into the tree, under a limit on its
 * nodes and depth. */
#include "files/config.h"
#include "ref/given.h"
#include "files/file.h"
#include "files/number.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum {
    MAX_BYTES = 256 * 1024,
    MAX_EXPANDED = 16 * MAX_BYTES, /* text and 16 bytes a value, aliases expanded */
    MAX_DEPTH = 32,
    MAX_BASES = 8,
    FROM_COMMAND_LINE = 0, /* instead of a line */
    FROM_SCHEMA = -1       /* the schema's own fallback text */
};

typedef struct node {
    yaml_node_type_t kind;
    long line; /* from 1, or FROM_... */
    bool plain;
    char *text;          /* of a scalar */
    size_t count;        /* of items */
    struct node **items; /* of a list; of a map: key, value, key, value... */
    struct node *next;   /* all nodes of a reader form one chain */
} node;

typedef struct reader {
    const char *name; /* of the file */
    node *nodes;
    size_t expanded;
} reader;

/* A path like tasks.0.weight, as a chain from the leaf to the root on the stack. */
typedef struct place {
    const struct place *up;
    const char *key; /* NULL: an element of a list */
    size_t index;
} place;

static size_t print_place(const place *at, char *text, size_t room) {
    size_t length = at->up ? print_place(at->up, text, room) : 0;
    if (!at->key && !at->up) return 0; /* the root has no name */
    const char *dot = length ? "." : "";
    int more = at->key ? snprintf(text + length, room - length, "%s%.80s", dot, at->key)
                       : snprintf(text + length, room - length, "%s%zu", dot, at->index);
    length += (size_t)more;
    return length < room ? length : room - 1;
}

UP_PRINTF(4, 5)
static up_status wrong(const reader *r, long line, const place *at, const char *format, ...) {
    char what[700], path[300] = "", why[300];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    print_place(at, path, sizeof path);
    const char *colon = *path ? ": " : "";
    if (line == FROM_COMMAND_LINE)
        snprintf(what, sizeof what, "command line%s%s", colon, path);
    else if (line == FROM_SCHEMA)
        snprintf(what, sizeof what, "default of %s", path);
    else
        snprintf(what, sizeof what, "%s:%ld%s%s", r->name, line, colon, path);
    return up_fail(line == FROM_COMMAND_LINE ? UP_ERR_ARGUMENT : UP_ERR_FORMAT, what, "%s", why);
}

/* --- YAML text to a tree --- */

static node *new_node(reader *r, yaml_node_type_t kind, long line, const char *text, size_t length) {
    node *n = calloc(1, sizeof *n);
    if (!n) return NULL;
    n->kind = kind;
    n->line = line;
    n->next = r->nodes;
    r->nodes = n;
    r->expanded += length + 16;
    if (text && !(n->text = strndup(text, length))) return NULL;
    return n;
}

static void free_nodes(reader *r) {
    while (r->nodes) {
        node *n = r->nodes;
        r->nodes = n->next;
        free(n->text);
        free(n->items);
        free(n);
    }
}

static up_status no_memory(const reader *r) {
    return up_fail(UP_ERR_MEMORY, r->name, "no memory to read it");
}

static up_status add_item(const reader *r, node *to, node *item) {
    node **items = realloc(to->items, (to->count + 1) * sizeof(node *));
    if (!items) return no_memory(r);
    items[to->count++] = item;
    to->items = items;
    return UP_OK;
}

/* line: FROM_..., or 1 where the marks of the document count. */
static up_status convert(reader *r, yaml_document_t *document, int id, const place *at, long line, int depth,
                         node **out) {
    const yaml_node_t *from = yaml_document_get_node(document, id);
    long here = line > 0 ? (long)from->start_mark.line + 1 : line;
    const char *text = from->type == YAML_SCALAR_NODE ? (const char *)from->data.scalar.value : NULL;
    size_t length = text ? from->data.scalar.length : 0;
    if (r->expanded > MAX_EXPANDED)
        return wrong(r, here, at, "too large: its aliases expand to more than %d bytes", MAX_EXPANDED);
    if (depth > MAX_DEPTH)
        return wrong(r, here, at, "nested deeper than %d, or an alias inside itself", MAX_DEPTH);
    if (text && strlen(text) != length) return wrong(r, here, at, "a NUL character");
    node *n = *out = new_node(r, from->type, here, text, length);
    if (!n) return no_memory(r);
    n->plain = text && from->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node *item;
    if (from->type == YAML_SEQUENCE_NODE)
        for (int *i = from->data.sequence.items.start; i < from->data.sequence.items.top; i++) {
            UP_TRY(convert(r, document, *i, at, line, depth + 1, &item));
            UP_TRY(add_item(r, n, item));
        }
    if (from->type == YAML_MAPPING_NODE)
        for (yaml_node_pair_t *pair = from->data.mapping.pairs.start; pair < from->data.mapping.pairs.top;
             pair++) {
            UP_TRY(convert(r, document, pair->key, at, line, depth + 1, &item));
            if (item->kind != YAML_SCALAR_NODE) return wrong(r, item->line, at, "a key that is not a word");
            UP_TRY(add_item(r, n, item));
            UP_TRY(convert(r, document, pair->value, at, line, depth + 1, &item));
            UP_TRY(add_item(r, n, item));
        }
    return UP_OK;
}

/* libyaml takes quadratic time over brackets inside brackets, so hopeless texts do not get that far. Brackets
 * in comments and quotes are counted too, which only an odd text of a thousand unclosed ones could notice. */
static bool hopeless(const char *text, size_t size) {
    int depth = 0;
    for (size_t i = 0; i < size && depth < 1000; i++)
        depth += (text[i] == '[' || text[i] == '{') - (text[i] == ']' || text[i] == '}');
    return depth == 1000;
}

/* *out = NULL when there is nothing but comments. */
static up_status parse(reader *r, const char *text, size_t size, const place *at, long line, node **out) {
    up_status status = UP_OK;
    yaml_parser_t parser;
    yaml_document_t document, second;
    *out = NULL;
    if (!yaml_parser_initialize(&parser)) return no_memory(r);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    if (!yaml_parser_load(&parser, &document)) {
        status = wrong(r, line > 0 ? (long)parser.problem_mark.line + 1 : line, at, "not YAML: %s",
                       parser.problem ? parser.problem : "no memory");
        yaml_parser_delete(&parser);
        return status;
    }
    if (yaml_document_get_root_node(&document)) status = convert(r, &document, 1, at, line, 0, out);
    if (status == UP_OK && *out) {
        if (!yaml_parser_load(&parser, &second))
            status = wrong(r, line > 0 ? (long)parser.problem_mark.line + 1 : line, at, "not YAML: %s",
                           parser.problem ? parser.problem : "no memory");
        else if (yaml_document_get_root_node(&second))
            status = wrong(r, line > 0 ? (long)second.start_mark.line + 1 : line, at, "a second document");
        yaml_document_delete(&second);
    }
    yaml_document_delete(&document);
    yaml_parser_delete(&parser);
    return status;
}

/* --- overrides --- */

static bool is_null(const node *n) {
    return !n ||
           (n->kind == YAML_SCALAR_NODE && n->plain && (!strcmp(n->text, "null") || !strcmp(n->text, "~")));
}

/* The value behind a key, or NULL. */
static node **look_up(const node *map, const char *key) {
    for (size_t i = 0; map->kind == YAML_MAPPING_NODE && i < map->count; i += 2)
        if (!strcmp(map->items[i]->text, key)) return &map->items[i + 1];
    return NULL;
}

/* An element of a list by its number or by the name that it has as a map. */
static node **look_up_element(const node *list, const char *key) {
    char *end;
    errno = 0;
    unsigned long index = strtoul(key, &end, 10);
    if (*key >= '0' && *key <= '9' && !*end && !errno)
        return index < list->count ? &list->items[index] : NULL;
    for (size_t i = 0; i < list->count; i++) {
        node **name = look_up(list->items[i], "name");
        if (name && (*name)->kind == YAML_SCALAR_NODE && !strcmp((*name)->text, key)) return &list->items[i];
    }
    return NULL;
}

/* One step down; maps that are not there are made, elements of lists are not. */
static up_status step_down(reader *r, const place *at, const char *key, node ***slot) {
    node *here = **slot;
    if (is_null(here) && !(here = **slot = new_node(r, YAML_MAPPING_NODE, FROM_COMMAND_LINE, NULL, 0)))
        return no_memory(r);
    if (here->kind == YAML_SEQUENCE_NODE) {
        *slot = look_up_element(here, key);
        if (*slot) return UP_OK;
        return wrong(r, FROM_COMMAND_LINE, at, "no element \"%.80s\" in a list of %zu", key, here->count);
    }
    if (here->kind != YAML_MAPPING_NODE)
        return wrong(r, FROM_COMMAND_LINE, at, "\"%.80s\" is wanted inside \"%.80s\", which is not a map",
                     key, here->text);
    *slot = look_up(here, key);
    if (*slot) return UP_OK;
    node *name = new_node(r, YAML_SCALAR_NODE, FROM_COMMAND_LINE, key, strlen(key));
    if (!name) return no_memory(r);
    UP_TRY(add_item(r, here, name));
    UP_TRY(add_item(r, here, NULL)); /* filled by the next step or by the value */
    *slot = &here->items[here->count - 1];
    return UP_OK;
}

static up_status apply(reader *r, const char *override, node **root) {
    up_status status = UP_OK;
    const char *equals = strchr(override, '=');
    if (!equals || equals == override)
        return up_fail(UP_ERR_ARGUMENT, "command line", "\"%.200s\" is not key=value", override);
    size_t length = (size_t)(equals - override);
    char *path = strndup(override, length), *split = strndup(override, length), *rest = split, *key;
    const place top = {0}, at = {&top, path, 0};
    node **slot = root;
    node *value;
    if (!path || !split) UP_GO(no_memory(r));
    while ((key = strsep(&rest, "."))) UP_GO(step_down(r, &at, key, &slot));
    UP_GO(parse(r, equals + 1, strlen(equals + 1), &at, FROM_COMMAND_LINE, &value));
    if (!value && !(value = new_node(r, YAML_SCALAR_NODE, FROM_COMMAND_LINE, "", 0))) UP_GO(no_memory(r));
    *slot = value;
done:
    free(path);
    free(split);
    return status;
}

/* --- the check, which fills the struct --- */

static const struct {
    const char *wanted;
    size_t size;
} kinds[] = {
    /* of a map's struct its schema knows the size */
    [UP_CONFIG_INT] = {"a whole number", sizeof(int64_t)}, [UP_CONFIG_REAL] = {"a number", sizeof(double)},
    [UP_CONFIG_BOOL] = {"true or false", sizeof(bool)},    [UP_CONFIG_STRING] = {"text", sizeof(char *)},
    [UP_CONFIG_CHOICE] = {"a choice", sizeof(int)},        [UP_CONFIG_MAP] = {"a map", 0},
};

size_t up_config_size_of(const up_config_row *row) {
    return row->type == UP_CONFIG_MAP ? row->map->size : kinds[row->type].size;
}

const char *up_config_wanted(const up_config_row *row) {
    return kinds[row->type].wanted;
}

static up_status read_map(reader *r, const place *at, const node *map, long line,
                          const up_config_schema *schema, char *out);

/* Letters to insert, delete or replace to make b of a; names of up to 31 letters. */
static int edit_distance(const char *a, const char *b) {
    int row[32], n = (int)strlen(b);
    if (n > 31) return n;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 0; a[i]; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int j = 0; j < n; j++) {
            int best = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (diagonal + 1 < best) best = diagonal + 1;
            row[j + 1] = best;
        }
    }
    return row[n];
}

/* A known key that the unknown one probably means: the closest within two letters. */
static const char *nearest(const up_config_row *rows, const char *key) {
    const char *best = NULL;
    int best_distance = strlen(key) > 80 || strlen(key) < 3 ? 0 : strlen(key) < 5 ? 2 : 3;
    for (; rows->key && best_distance; rows++) {
        int distance = edit_distance(key, rows->key);
        if (distance < best_distance) {
            best = rows->key;
            best_distance = distance;
        }
    }
    return best;
}

/* Or one that begins alike, for three quarters of the shorter of the two. */
static const char *alike(const up_config_row *rows, const char *key) {
    for (; rows->key; rows++) {
        size_t same = 0, length = strlen(rows->key);
        while (key[same] && key[same] == rows->key[same]) same++;
        if (same >= 3 && 4 * same >= 3 * (strlen(key) < length ? strlen(key) : length)) return rows->key;
    }
    return NULL;
}

static up_status unknown_key(const reader *r, long line, const place *at, const up_config_row *rows) {
    const char *meant = nearest(rows, at->key);
    if (!meant) meant = alike(rows, at->key);
    if (meant) return wrong(r, line, at, "unknown key (did you mean \"%s\"?)", meant);
    char known[200] = "";
    for (size_t length = 0; rows->key && length < sizeof known; rows++)
        length +=
            (size_t)snprintf(known + length, sizeof known - length, "%s%s", length ? ", " : "", rows->key);
    return wrong(r, line, at, "unknown key (known here: %s)", known);
}

static up_status out_of_range(const reader *r, const node *n, const place *at, const up_config_row *row) {
    if (row->max == INFINITY)
        return wrong(r, n->line, at, "%.80s is out of range; wanted at least %.15g", n->text, row->min);
    if (row->min == -INFINITY)
        return wrong(r, n->line, at, "%.80s is out of range; wanted at most %.15g", n->text, row->max);
    return wrong(r, n->line, at, "%.80s is out of range; wanted %.15g to %.15g", n->text, row->min, row->max);
}

/* A value of another kind, or none. */
static up_status not_a(const reader *r, const node *n, const place *at, const char *wanted) {
    if (n->kind == YAML_SCALAR_NODE && *n->text)
        return wrong(r, n->line, at, "\"%.80s\"; wanted %s", n->text, wanted);
    const char *found = n->kind == YAML_SCALAR_NODE    ? "no value"
                        : n->kind == YAML_MAPPING_NODE ? "a map"
                                                       : "a list";
    return wrong(r, n->line, at, "%s; wanted %s", found, wanted);
}

static bool outside(const up_config_row *row, double value) {
    return (row->min != 0 || row->max != 0) && !(value >= row->min && value <= row->max);
}

static up_status read_number(const reader *r, const node *n, const place *at, const up_config_row *row,
                             void *out) {
    bool whole = row->type == UP_CONFIG_INT;
    char *end;
    errno = 0;
    /* strtoll and up_number_read take more than YAML's decimal numbers: spaces, hexadecimal, inf, nan */
    bool sound = n->plain && n->text[strspn(n->text, whole ? "+-0123456789" : "+-.eE0123456789")] == 0;
    long long integer = whole && sound ? strtoll(n->text, &end, 10) : 0;
    double real = sound && !whole ? up_number_read(n->text, &end) : (double)integer;
    if (!sound || *end || end == n->text)
        return wrong(r, n->line, at, "\"%.80s\" is not %s", n->text, up_config_wanted(row));
    if ((whole && errno == ERANGE) || !isfinite(real))
        return wrong(r, n->line, at, "%.80s is too large", n->text);
    if (outside(row, real)) return out_of_range(r, n, at, row);
    if (whole)
        *(int64_t *)out = integer;
    else
        *(double *)out = real;
    return UP_OK;
}

static up_status read_choice(const reader *r, const node *n, const place *at, const up_config_row *row,
                             void *out) {
    char names[200] = "";
    size_t length = 0;
    for (int i = 0; up_config_choice(row, i); i++) {
        if (!strcmp(up_config_choice(row, i), n->text)) {
            *(int *)out = i;
            return UP_OK;
        }
        if (length < sizeof names)
            length += (size_t)snprintf(names + length, sizeof names - length, "%s%s", i ? ", " : "",
                                       up_config_choice(row, i));
    }
    return wrong(r, n->line, at, "\"%.80s\" is not one of %s", n->text, names);
}

/* Texts are shown as they are, and go into names of files: nothing in them may steer a terminal. Line breaks
 * and tabs may stand in a long text. (libyaml lets nothing pass that is not UTF-8.) */
static bool steers(const char *text) {
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        if ((*c < ' ' && *c != '\n' && *c != '\t') || *c == 0x7f || (*c == 0xc2 && c[1] < 0xa0)) return true;
    return false;
}

static up_status read_one(reader *r, const node *n, const place *at, const up_config_row *row, void *out) {
    if (row->type == UP_CONFIG_MAP) return read_map(r, at, n, n->line, row->map, out);
    if (n->kind != YAML_SCALAR_NODE || (n->plain && !*n->text)) return not_a(r, n, at, up_config_wanted(row));
    switch (row->type) {
    case UP_CONFIG_INT:
    case UP_CONFIG_REAL:
        return read_number(r, n, at, row, out);
    case UP_CONFIG_CHOICE:
        return read_choice(r, n, at, row, out);
    case UP_CONFIG_BOOL:
        if (!n->plain || (strcmp(n->text, "true") && strcmp(n->text, "false")))
            return wrong(r, n->line, at, "\"%.80s\" is not true or false", n->text);
        *(bool *)out = n->text[0] == 't';
        return UP_OK;
    case UP_CONFIG_STRING:
        if (steers(n->text)) return wrong(r, n->line, at, "a control character in \"%.80s\"", n->text);
        *(char **)out = strdup(n->text);
        return *(char **)out ? UP_OK : no_memory(r);
    case UP_CONFIG_MAP:
        break;
    }
    return wrong(r, n->line, at, "the schema has a row of unknown type");
}

static up_status read_list(reader *r, const node *n, const place *at, const up_config_row *row, char *out) {
    if (n->kind != YAML_SEQUENCE_NODE) return not_a(r, n, at, "a list");
    if (n->count < row->at_least || (row->at_most && n->count > row->at_most))
        return wrong(r, n->line, at, "a list of %zu; wanted %s %zu", n->count,
                     n->count < row->at_least ? "at least" : "at most",
                     n->count < row->at_least ? row->at_least : row->at_most);
    if (!n->count) return UP_OK;
    size_t size = up_config_size_of(row);
    char *items = calloc(n->count, size);
    if (!items) return no_memory(r);
    memcpy(out + row->offset, &items, sizeof items); /* known to up_config_free from here on */
    memcpy(out + row->count_offset, &n->count, sizeof n->count);
    for (size_t i = 0; i < n->count; i++) {
        const place element = {at, NULL, i};
        UP_TRY(read_one(r, n->items[i], &element, row, items + i * size));
    }
    return UP_OK;
}

static up_status check_once(const reader *r, const place *at, const node *map, size_t i) {
    for (size_t j = 0; j < i; j += 2)
        if (!strcmp(map->items[j]->text, map->items[i]->text))
            return wrong(r, map->items[i]->line, at, "given twice, first in line %ld", map->items[j]->line);
    return UP_OK;
}

static up_status check_keys(const reader *r, const place *at, const node *map, const up_config_row *rows) {
    for (size_t i = 0; i < map->count; i += 2) {
        const node *key = map->items[i];
        const place here = {at, key->text, 0};
        const up_config_row *row = rows;
        while (row->key && strcmp(row->key, key->text)) row++;
        if (!row->key) return unknown_key(r, key->line, &here, rows);
        UP_TRY(check_once(r, &here, map, i));
    }
    return UP_OK;
}

/* map: NULL takes every default; line: where keys that are missing would have been. */
static up_status read_map(reader *r, const place *at, const node *map, long line,
                          const up_config_schema *schema, char *out) {
    if (map && map->kind != YAML_MAPPING_NODE) return not_a(r, map, at, "a map");
    if (map) UP_TRY(check_keys(r, at, map, schema->rows));
    for (const up_config_row *row = schema->rows; row->key; row++) {
        const place here = {at, row->key, 0};
        node **found = map ? look_up(map, row->key) : NULL;
        node *value = found && !is_null(*found) ? *found : NULL;
        if (!value && row->required)
            return wrong(r, line, &here, "missing; wanted %s%s", row->list ? "a list of " : "",
                         up_config_wanted(row));
        if (!value && row->fallback)
            UP_TRY(parse(r, row->fallback, strlen(row->fallback), &here, FROM_SCHEMA, &value));
        if (value && row->list)
            UP_TRY(read_list(r, value, &here, row, out));
        else if (value)
            UP_TRY(read_one(r, value, &here, row, out + row->offset));
        else if (row->type == UP_CONFIG_MAP && !row->list)
            UP_TRY(read_map(r, &here, NULL, line, row->map, out + row->offset));
    }
    return UP_OK;
}

/* --- a base, over which a file lays its keys --- */

static up_status load(reader *r, const char *text, size_t size, const up_config_schema *schema, int bases,
                      node **root);

static const char base_key[] = "base"; /* of the outermost map, in whatever schema */

/* Maps go over maps key by key, and over lists by number or name of an element; all else is replaced. */
static up_status lay_over(const reader *r, const place *at, const node *over, node **under) {
    for (size_t i = 0; i < over->count; i += 2) {
        node *key = over->items[i], *value = over->items[i + 1];
        const place here = {at, key->text, 0};
        int list = (*under)->kind == YAML_SEQUENCE_NODE;
        node **slot = list ? look_up_element(*under, key->text) : look_up(*under, key->text);
        UP_TRY(check_once(r, &here, over, i));
        if (!at->up && !strcmp(key->text, base_key)) continue;
        if (!slot && list)
            return wrong(r, key->line, at, "no element \"%.80s\" in the base's list of %zu", key->text,
                         (*under)->count);
        if (!slot) {
            UP_TRY(add_item(r, *under, key));
            UP_TRY(add_item(r, *under, value));
        } else if (value->kind == YAML_MAPPING_NODE && (*slot)->kind != YAML_SCALAR_NODE) {
            UP_TRY(lay_over(r, &here, value, slot));
        } else {
            *slot = value;
        }
    }
    return UP_OK;
}

/* A base is sound alone: what is found wrong later is in the file that has it, whose lines are told. */
static up_status check_alone(reader *r, const node *root, const up_config_schema *schema) {
    const place top = {0};
    void *config = calloc(1, schema->size);
    if (!config) return no_memory(r);
    up_status status = read_map(r, &top, root, root->line, schema, config);
    up_config_free(schema, config);
    free(config);
    return status;
}

/* The base of the file that the reader names, which lies beside it. */
static up_status load_base(reader *r, const char *base, const up_config_schema *schema, int bases,
                           node **root) {
    up_status status = UP_OK;
    const char *name = r->name, *slash = strrchr(name, '/');
    char *path = NULL;
    void *text = NULL;
    size_t size;
    if (asprintf(&path, "%.*s%s", slash ? (int)(slash - name) + 1 : 0, name, base) < 0) return no_memory(r);
    r->name = path;
    UP_GO(up_file_read(path, &text, &size));
    UP_GO(load(r, text, size, schema, bases, root));
    UP_GO(check_alone(r, *root, schema));
done:
    r->name = name;
    free(text);
    free(path);
    return status;
}

/* Where *root has the key `base`, it becomes the tree of both. */
static up_status add_base(reader *r, const up_config_schema *schema, int bases, node **root) {
    const place top = {0}, at = {&top, base_key, 0};
    node *over = *root;
    node **found = look_up(over, base_key);
    if (!found) return UP_OK;
    const node *base = *found;
    if (base->kind != YAML_SCALAR_NODE || !*base->text || strchr(base->text, '/'))
        return not_a(r, base, &at, "the name of a file in the same folder");
    if (bases == MAX_BASES)
        return wrong(r, base->line, &at, "more than %d bases, or a file that is its own", MAX_BASES);
    UP_TRY(load_base(r, base->text, schema, bases + 1, root));
    (*root)->line = over->line;
    return lay_over(r, &top, over, root);
}

/* A text as a tree, laid over its base. */
static up_status load(reader *r, const char *text, size_t size, const up_config_schema *schema, int bases,
                      node **root) {
    const place top = {0};
    if (size > MAX_BYTES)
        return up_fail(UP_ERR_FORMAT, r->name, "%zu bytes; wanted at most %d", size, MAX_BYTES);
    if (hopeless(text, size)) return up_fail(UP_ERR_FORMAT, r->name, "nested deeper than %d", MAX_DEPTH);
    UP_TRY(parse(r, text, size, &top, 1, root));
    if (!*root) return up_fail(UP_ERR_FORMAT, r->name, "is empty; wanted a map of keys");
    return add_base(r, schema, bases, root);
}

up_status up_config_parse(const char *name, const char *text, size_t size, const up_config_schema *schema,
                          const char *const *overrides, size_t count, void *config) {
    up_status status = UP_OK;
    reader r = {.name = name};
    const place top = {0};
    node *root;
    memset(config, 0, schema->size);
    UP_GO(load(&r, text, size, schema, 0, &root));
    for (size_t i = 0; i < count; i++) UP_GO(up_given(overrides[i], "an override"));
    for (size_t i = 0; i < count; i++) UP_GO(apply(&r, overrides[i], &root));
    UP_GO(read_map(&r, &top, root, root->line, schema, config));
done:
    free_nodes(&r);
    if (status != UP_OK) up_config_free(schema, config);
    return status;
}

up_status up_config_read(const char *path, const up_config_schema *schema, const char *const *overrides,
                         size_t count, void *config) {
    void *text;
    size_t size;
    memset(config, 0, schema->size);
    UP_TRY(up_file_read(path, &text, &size));
    up_status status = up_config_parse(path, text, size, schema, overrides, count, config);
    free(text);
    return status;
}

static void free_one(const up_config_row *row, char *item) {
    if (row->type == UP_CONFIG_STRING) free(*(char **)item);
    if (row->type == UP_CONFIG_MAP) up_config_free(row->map, item);
}

void up_config_free(const up_config_schema *schema, void *config) {
    for (const up_config_row *row = schema->rows; row->key; row++) {
        char *field = (char *)config + row->offset;
        if (!row->list) {
            free_one(row, field);
            continue;
        }
        size_t count;
        char *items;
        memcpy(&count, (char *)config + row->count_offset, sizeof count);
        memcpy(&items, field, sizeof items);
        for (size_t i = 0; i < count; i++) free_one(row, items + i * up_config_size_of(row));
        free(items);
    }
    memset(config, 0, schema->size);
}
