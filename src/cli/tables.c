/* tables.c - the command tables: results of runs in the form of the paper's Tables 2 to 8, beside the paper's
 * own numbers and those of the released models. */
#include "cli/args.h"
#include "cli/commands.h"
#include "cli/ranking.h"
#include "eval/paper.h"
#include "files/file.h"
#include "files/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* --- results: the numbers of all runs, one after the other --- */

static up_status read_numbers(const char *path, json_t *all) {
    char *file, *text = NULL;
    size_t size;
    struct stat s;
    json_t *list = NULL;
    int is_folder = !stat(path, &s) && S_ISDIR(s.st_mode);
    if (asprintf(&file, "%s%s", path, is_folder ? "/metrics.json" : "") < 0)
        return up_fail(UP_ERR_MEMORY, path, "no memory for its name");
    up_status status = UP_OK;
    UP_GO(up_file_read(file, (void **)&text, &size));
    UP_GO(up_json_read(file, text, size, 0, &list));
    if (!json_is_array(list))
        UP_GO(up_fail(UP_ERR_FORMAT, file, "is no list of numbers, as eval writes them"));
    if (json_array_extend(all, list)) UP_GO(up_fail(UP_ERR_MEMORY, file, "no memory for its numbers"));
done:
    json_decref(list);
    free(text);
    free(file);
    return status;
}

static int is_text(const json_t *object, const char *key, const char *wanted) {
    const char *text = json_string_value(json_object_get(object, key));
    return text && !strcmp(text, wanted);
}

/* The number of a cell in percent; of several runs' the last. NAN: no run has it. */
static double find_number(const json_t *all, const up_paper_column *column, const up_paper_row *row) {
    double found = NAN;
    size_t i;
    const json_t *one;
    json_array_foreach(all, i, one) {
        double fraction = json_number_value(json_object_get(one, "fraction"));
        const json_t *value = json_object_get(one, "value");
        if (!is_text(one, "task", column->evaluation) || !is_text(one, "metric", column->metric)) continue;
        if (!is_text(one, "tune", row->tune) || !json_is_number(value)) continue;
        if (strcmp(row->tune, "none") && fabs(fraction - row->fraction) > 1e-6 * row->fraction) continue;
        found = 100 * json_number_value(value);
    }
    return found;
}

/* --- rows as they are shown: behind the paper's and the released models' ones of a setting stands ours ---
 */

typedef struct shown {
    const up_paper_table *table;
    const char *label, *source;
    double values[UP_PAPER_COLUMNS]; /* NAN: none */
} shown;

typedef void (*show_row)(const shown *row, void *context);

static void each_row(const up_paper_table *t, const json_t *all, show_row show, void *context) {
    for (const up_paper_row *r = t->rows; r->label; r++) {
        shown row = {.table = t, .label = r->label, .source = r->source};
        for (int i = 0; i < t->column_count; i++) row.values[i] = r->values[i] > 0 ? r->values[i] : NAN;
        show(&row, context);
        if (!r->tune || (r[1].label && !strcmp(r[1].label, r->label))) continue;
        row.source = "here";
        for (int i = 0; i < t->column_count; i++) row.values[i] = find_number(all, &t->columns[i], r);
        show(&row, context);
    }
}

/* --- as text --- */

enum { LABEL = 26, SOURCE = 9 };

/* Of a cell: room for the names of single columns where there are few. */
static int cell_width(const up_paper_table *t) {
    return t->column_count > 6 ? 7 : 14;
}

static void text_row(const shown *row, void *context) {
    (void)context;
    printf("%-*s%-*s", LABEL, row->label, SOURCE, row->source);
    for (int i = 0; i < row->table->column_count; i++)
        isnan(row->values[i]) ? printf("%*s", cell_width(row->table), "-")
                              : printf("%*.1f", cell_width(row->table), row->values[i]);
    printf("\n");
}

/* Columns that follow one another in a group have its name once. */
static int group_width(const up_paper_table *t, int first) {
    int n = 1;
    while (first + n < t->column_count && !strcmp(t->columns[first].group, t->columns[first + n].group)) n++;
    return n;
}

static void text_table(const up_paper_table *t, const json_t *all) {
    printf("%sTable %d. %s\n", t == up_paper_tables ? "" : "\n", t->number, t->title);
    printf("%*s", LABEL + SOURCE, "");
    for (int i = 0, n; i < t->column_count; i += n) {
        n = group_width(t, i);
        printf("%*s", cell_width(t) * n, t->columns[i].group);
    }
    printf("\n%*s", LABEL + SOURCE, "");
    for (int i = 0; i < t->column_count; i++) printf("%*s", cell_width(t), t->columns[i].head);
    printf("\n");
    each_row(t, all, text_row, NULL);
}

/* --- as Markdown --- */

static void markdown_row(const shown *row, void *context) {
    (void)context;
    printf("| %s | %s |", row->label, row->source);
    for (int i = 0; i < row->table->column_count; i++)
        isnan(row->values[i]) ? printf(" - |") : printf(" %.1f |", row->values[i]);
    printf("\n");
}

static void markdown_table(const up_paper_table *t, const json_t *all) {
    printf("%s**Table %d. %s**\n\n| | |", t == up_paper_tables ? "" : "\n", t->number, t->title);
    for (int i = 0; i < t->column_count; i++) printf(" %s %s |", t->columns[i].group, t->columns[i].head);
    printf("\n|---|---|");
    for (int i = 0; i < t->column_count; i++) printf("---|");
    printf("\n");
    each_row(t, all, markdown_row, NULL);
}

/* --- as JSON --- */

static void json_row(const shown *row, void *context) {
    json_t *values = json_array();
    for (int i = 0; i < row->table->column_count; i++)
        json_array_append_new(values, isnan(row->values[i]) ? json_null() : json_real(row->values[i]));
    json_array_append_new(context, json_pack("{s:s, s:s, s:o}", "setting", row->label, "source", row->source,
                                             "values", values));
}

static json_t *json_table(const up_paper_table *t, const json_t *all) {
    json_t *columns = json_array(), *rows = json_array();
    for (int i = 0; i < t->column_count; i++) {
        const up_paper_column *c = &t->columns[i];
        json_array_append_new(columns, json_pack("{s:s, s:s, s:s, s:s}", "group", c->group, "head", c->head,
                                                 "evaluation", c->evaluation, "metric", c->metric));
    }
    each_row(t, all, json_row, rows);
    return json_pack("{s:i, s:s, s:o, s:o}", "table", t->number, "title", t->title, "columns", columns,
                     "rows", rows);
}

static up_status print_json(const json_t *all) {
    json_t *tables = json_array();
    for (const up_paper_table *t = up_paper_tables; t->number; t++)
        json_array_append_new(tables, json_table(t, all));
    up_status status = up_cli_print_json(tables);
    json_decref(tables);
    return status;
}

static up_status print_tables(const up_arg_list *runs, int as_json, int as_markdown) {
    json_t *all = json_array();
    up_status status = UP_OK;
    if (!all) return up_fail(UP_ERR_MEMORY, "tables", "no memory for their numbers");
    for (int i = 0; i < runs->count; i++) UP_GO(read_numbers(runs->items[i].value, all));
    if (as_json) UP_GO(print_json(all));
    for (const up_paper_table *t = up_paper_tables; t->number && !as_json; t++)
        as_markdown ? markdown_table(t, all) : text_table(t, all);
done:
    json_decref(all);
    return status;
}

int up_cmd_tables(int argc, char **argv) {
    up_arg_list runs = {0};
    int as_json = 0, as_markdown = 0;
    const up_arg args[] = {{"json", UP_ARG_SWITCH, &as_json, NULL, "as JSON", 0, 0, 0},
                           {"markdown", UP_ARG_SWITCH, &as_markdown, NULL, "as Markdown", 0, 0, 0},
                           {0}};
    const up_usage usage = {
        "tables", "[RUN...]",
        "results beside the paper's Tables 2 to 8; RUN is a folder with metrics.json, or such "
        "a file. Of two numbers for one place the last counts",
        args};
    int code = up_args_read(&usage, argc, argv, &runs);
    if (code == UP_ARGS_GO && as_json && as_markdown)
        code = up_args_wrong(&usage, "--json and --markdown exclude each other");
    if (code == UP_ARGS_GO) code = up_cli_end(print_tables(&runs, as_json, as_markdown));
    up_arg_list_free(&runs);
    return code;
}
