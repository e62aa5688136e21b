/* search.c - the command search: the rows of an index that are most similar to texts, pictures and videos. */
#include "backend_cpu/cpu.h"
#include "cli/bulk.h"
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/items.h"
#include "cli/ranking.h"
#include "files/json.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct searching {
    up_bulk bulk;
    up_index *index;
    int top, threads, several;
    up_index_hit *hits; /* [top] */
    json_t *list;       /* NULL: lines */
} searching;

static up_status tell_json(const searching *s, const char *query, int found) {
    json_t *results = json_array();
    int failed = 0;
    for (int i = 0; i < found; i++) {
        json_t *name = up_json_bytes(up_index_entry_at(s->index, s->hits[i].row).name);
        failed |=
            json_array_append_new(results, json_pack("{s:o, s:f}", "name", name, "score", s->hits[i].score));
    }
    json_t *query_name = up_json_bytes(query);
    failed |=
        json_array_append_new(s->list, json_pack("{s:o, s:o}", "query", query_name, "results", results));
    return failed ? up_fail(UP_ERR_MEMORY, "search", "no memory for JSON") : UP_OK;
}

static up_status tell(searching *s, const char *query, const float *feature) {
    int found;
    UP_TRY(up_index_search(s->index, feature, s->top, s->threads, s->hits, &found));
    if (s->list) return tell_json(s, query, found);
    for (int i = 0; i < found; i++)
        printf("%s%s%s\t%.6f\n", s->several ? query : "", s->several ? "\t" : "",
               up_index_entry_at(s->index, s->hits[i].row).name, s->hits[i].score);
    return UP_OK;
}

static up_status search_each(searching *s) {
    up_status status = UP_OK;
    up_bulk_features features = {0};
    int width = up_session_width(s->bulk.session);
    UP_GO(up_bulk_encode(&s->bulk, UP_SIDE_INPUT, &features));
    for (int i = 0; i < features.count; i++)
        UP_GO(tell(s, s->bulk.items->items[features.places[i]].value,
                   features.rows + (size_t)i * (size_t)width));
done:
    up_bulk_features_free(&features);
    return status;
}

/* One query of all parts. */
static up_status search_joined(searching *s) {
    const up_arg_list *items = s->bulk.items;
    up_status status = UP_OK;
    up_cli_parts parts = {0};
    float *feature = malloc((size_t)up_session_width(s->bulk.session) * sizeof *feature);
    UP_GO(up_cli_parts_read(items->items, items->count, &parts));
    if (!feature) UP_GO(up_fail(UP_ERR_MEMORY, "query", "no memory for its feature"));
    UP_GO(up_encode(s->bulk.session, &(up_input){parts.list, parts.count, 0}, 1, UP_SIDE_INPUT, feature));
    s->several = 0;
    UP_GO(tell(s, items->items[0].value, feature));
done:
    up_cli_parts_free(&parts);
    free(feature);
    return status;
}

static up_status open_index(searching *s, const char *path) {
    UP_TRY(up_cli_index_open(path, s->bulk.session, &s->index));
    int64_t count = up_index_about_of(s->index).count;
    if (s->top > count) s->top = (int)count;
    s->hits = malloc((size_t)s->top * sizeof *s->hits);
    return s->hits ? UP_OK : up_fail(UP_ERR_MEMORY, path, "no memory for the best %d", s->top);
}

/* The index, and texts as queries behind it. */
static int divide(const up_usage *usage, const up_arg_list *rest, up_arg_list *given, const char **path) {
    if (!rest->count) return up_args_wrong(usage, "no INDEX");
    *path = rest->items[0].value;
    for (int i = 1; i < rest->count; i++)
        if (up_arg_list_add(given, "text", rest->items[i].value)) return up_args_wrong(usage, "no memory");
    return given->count ? UP_ARGS_GO : up_args_wrong(usage, "no QUERY, --text, --image or --video");
}

int up_cmd_search(int argc, char **argv) {
    up_cli_model model = {0};
    up_arg_list given = {0}, rest = {0};
    up_items items = {0};
    searching s = {.bulk = {.what = "queries"}};
    const char *path = NULL;
    int64_t top = 10;
    int as_json = 0, join = 0;
    const up_arg args[] = {
        UP_CLI_MODEL_ROWS(model),
        UP_CLI_ITEM_ROWS(given),
        {"join", UP_ARG_SWITCH, &join, NULL, "one query of all parts instead of one each", 0, 0, 0},
        UP_CLI_STRICT_ROW(s.bulk.strict),
        {"top", UP_ARG_WHOLE, &top, "K", "the best K (default 10)", 0, 1, INT32_MAX},
        {"json", UP_ARG_SWITCH, &as_json, NULL, "as JSON", 0, 0, 0},
        {0}};
    const up_usage usage = {"search", "INDEX [TEXT...]",
                            "print the rows of an index that are most similar, with the cosine", args};
    up_status status = UP_OK;
    int code = up_args_read(&usage, argc, argv, &rest);
    if (code == UP_ARGS_GO) code = divide(&usage, &rest, &given, &path);
    if (code != UP_ARGS_GO) goto end;
    UP_GO(up_items_open(&given, &items));
    UP_GO(up_cli_open(&model, &s.bulk.session));
    s.bulk.items = &items.list;
    s.top = (int)top;
    s.threads = up_cpu_threads((int)model.threads);
    s.several = items.list.count > 1;
    UP_GO(open_index(&s, path));
    if (as_json) s.list = json_array();
    UP_GO(join ? search_joined(&s) : search_each(&s));
    if (as_json) UP_GO(up_cli_print_json(s.list));
done:
    code = up_bulk_end(&s.bulk, status);
end:
    json_decref(s.list);
    free(s.hits);
    up_index_close(s.index);
    up_session_close(s.bulk.session);
    up_items_free(&items);
    up_arg_list_free(&given);
    up_arg_list_free(&rest);
    return code;
}
