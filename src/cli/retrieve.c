/* retrieve.c - the command retrieve: which of many pictures, videos or texts fit a query (paper section 3.2).
 */
#include "cli/bulk.h"
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/items.h"
#include "cli/ranking.h"

#include <stdlib.h>
#include <string.h>

/* Their features, and the list of those that can be read. */
static up_status make_candidates(up_bulk *bulk, up_arg_list *read, up_candidates **out) {
    up_status status = UP_OK;
    up_bulk_features features = {0};
    UP_GO(up_bulk_encode(bulk, UP_SIDE_TARGET, &features));
    for (int i = 0; i < features.count; i++) {
        const up_arg_item *item = &bulk->items->items[features.places[i]];
        if (up_arg_list_add(read, item->flag, item->value))
            UP_GO(up_fail(UP_ERR_MEMORY, "candidates", "no memory for %d", features.count));
    }
    UP_GO(up_candidates_create_features(bulk->session, features.rows, features.count, out));
done:
    up_bulk_features_free(&features);
    return status;
}

/* The rows of an index, and the list of their names. *texts: none of them is a file. */
static up_status index_candidates(const up_index *index, up_session *session, up_arg_list *read, int *texts,
                                  up_candidates **out) {
    int64_t count = up_index_about_of(index).count;
    *texts = 1;
    if (count > INT32_MAX) return up_fail(UP_ERR_ARGUMENT, "candidates", "too many: %lld", (long long)count);
    for (int64_t i = 0; i < count; i++) {
        up_index_entry entry = up_index_entry_at(index, i);
        *texts &= !entry.size && !entry.time;
        if (up_arg_list_add(read, "path", entry.name))
            return up_fail(UP_ERR_MEMORY, "candidates", "no memory for %lld", (long long)count);
    }
    return up_candidates_create_features(session, up_index_row(index, 0), (int)count, out);
}

static up_status tell(up_candidates *candidates, const up_arg_item *query, const up_arg_list *items,
                      int texts, int top, json_t *list) {
    int n = items->count, crossing = !(texts && !strcmp(query->flag, "query-text"));
    const char *task = crossing ? "image_text_retrieval" : "text_retrieval";
    up_status status = UP_OK;
    up_cli_parts parts;
    const char **names = malloc((size_t)n * sizeof *names);
    float *probabilities = malloc((size_t)n * sizeof *probabilities);
    UP_GO(up_cli_parts_read(query, 1, &parts));
    if (!names || !probabilities) UP_GO(up_fail(UP_ERR_MEMORY, "candidates", "no memory for %d", n));
    for (int i = 0; i < n; i++) names[i] = items->items[i].value;
    UP_GO(up_candidates_compare(candidates, task, &(up_input){parts.list, 1, 0}, 1, probabilities));
    UP_GO(up_ranking_tell(
        &(up_ranking){list ? query->value : NULL, "candidate", names, probabilities, n, top}, list));
done:
    up_cli_parts_free(&parts);
    free(names);
    free(probabilities);
    return status;
}

int up_cmd_retrieve(int argc, char **argv) {
    up_cli_model model = {0};
    up_arg_list query = {0}, among = {0}, read = {0};
    up_items items = {0};
    up_bulk bulk = {.what = "candidates"};
    const char *texts_file = NULL;
    int64_t top = 10;
    int as_json = 0, texts;
    const up_arg args[] = {
        UP_CLI_MODEL_ROWS(model),
        {"query-text", UP_ARG_EACH, &query, "TEXT", "the query: a text,", 0, 0, 0},
        {"query-image", UP_ARG_EACH, &query, "FILE", "or a picture,", 0, 0, 0},
        {"query-video", UP_ARG_EACH, &query, "FILE", "or a video", 0, 0, 0},
        {"among", UP_ARG_MANY, &among, "PATH", "the candidates: pictures, videos, folders of them, an index,",
         0, 0, 0},
        {"list", UP_ARG_EACH, &among, "FILE[:COLUMN]", "or their names, one a line; -: stdin,", 0, 0, 0},
        {"among-texts", UP_ARG_TEXT, &texts_file, "FILE[:COLUMN]", "or texts, one a line", 0, 0, 0},
        UP_CLI_STRICT_ROW(bulk.strict),
        {"top", UP_ARG_WHOLE, &top, "K", "the best K (default 10)", 0, 1, INT32_MAX},
        {"json", UP_ARG_SWITCH, &as_json, NULL, "as JSON", 0, 0, 0},
        {0}};
    const up_usage usage = {"retrieve", "",
                            "print the candidates that fit a query and their probability, best first", args};
    up_status status = UP_OK;
    up_candidates *candidates = NULL;
    up_index *index = NULL;
    json_t *list = NULL;
    int code = up_args_read(&usage, argc, argv, NULL);
    if (code == UP_ARGS_GO && query.count != 1)
        code = up_args_wrong(&usage, "%d queries; wanted one of --query-text, --query-image, --query-video",
                             query.count);
    if (code == UP_ARGS_GO && !among.count == !texts_file)
        code = up_args_wrong(&usage, "wanted one of --among and --among-texts");
    if (code != UP_ARGS_GO) goto end;
    if (texts_file && up_arg_list_add(&among, "texts", texts_file))
        UP_GO(up_fail(UP_ERR_MEMORY, "candidates", "no memory"));
    texts = texts_file != NULL;
    UP_GO(up_cli_open(&model, &bulk.session));
    if (among.count == 1 && !texts && up_cli_is_index(among.items[0].value)) {
        UP_GO(up_cli_index_open(among.items[0].value, bulk.session, &index));
        UP_GO(index_candidates(index, bulk.session, &read, &texts, &candidates));
    } else {
        UP_GO(up_items_open(&among, &items));
        bulk.items = &items.list;
        UP_GO(make_candidates(&bulk, &read, &candidates));
    }
    if (as_json) list = json_array();
    UP_GO(tell(candidates, query.items, &read, texts, (int)top, list));
    if (as_json) UP_GO(up_cli_print_json(json_array_get(list, 0)));
done:
    code = up_bulk_end(&bulk, status);
end:
    json_decref(list);
    up_candidates_free(candidates);
    up_index_close(index);
    up_session_close(bulk.session);
    up_arg_list_free(&query);
    up_arg_list_free(&among);
    up_arg_list_free(&read);
    up_items_free(&items);
    return code;
}
