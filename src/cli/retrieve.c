/* retrieve.c - the command retrieve: which of many pictures, videos or texts fit a query (paper section 3.2).
 */
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/ranking.h"

#include <stdlib.h>
#include <string.h>

/* Candidates as a list of items: the files given, or the lines of a file. */
static up_status candidates_of(const up_arg_list *among, const char *texts_file, up_cli_lines *lines,
                               up_arg_list *out) {
    if (texts_file) UP_TRY(up_cli_lines_read(texts_file, lines));
    int count = texts_file ? lines->count : among->count;
    out->items = calloc((size_t)count, sizeof *out->items);
    if (!out->items) return up_fail(UP_ERR_MEMORY, "candidates", "no memory for %d", count);
    for (; out->count < count; out->count++)
        out->items[out->count] =
            texts_file ? (up_arg_item){"text", lines->list[out->count]} : among->items[out->count];
    return UP_OK;
}

/* Their features are made a few files at a time, so that no more than these and the features are held. */
static up_status make_candidates(up_session *session, const up_arg_list *items, up_candidates **out) {
    float *features = NULL;
    up_status status = up_cli_encode(session, items, 0, UP_SIDE_TARGET, &features);
    if (status == UP_OK) status = up_candidates_create_features(session, features, items->count, out);
    free(features);
    return status;
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
    up_arg_list query = {0}, among = {0}, items = {0};
    const char *texts_file = NULL;
    int64_t top = 10;
    int as_json = 0;
    const up_arg args[] = {
        UP_CLI_MODEL_ROWS(model),
        {"query-text", UP_ARG_EACH, &query, "TEXT", "the query: a text,", 0, 0, 0},
        {"query-image", UP_ARG_EACH, &query, "FILE", "or a picture,", 0, 0, 0},
        {"query-video", UP_ARG_EACH, &query, "FILE", "or a video", 0, 0, 0},
        {"among", UP_ARG_MANY, &among, "FILE", "the candidates: pictures and videos,", 0, 0, 0},
        {"among-texts", UP_ARG_TEXT, &texts_file, "FILE", "or texts, one a line", 0, 0, 0},
        {"top", UP_ARG_WHOLE, &top, "K", "the best K (default 10)", 0, 1, INT32_MAX},
        {"json", UP_ARG_SWITCH, &as_json, NULL, "as JSON", 0, 0, 0},
        {0}};
    const up_usage usage = {"retrieve", "",
                            "print the candidates that fit a query and their probability, best first", args};
    up_status status = UP_OK;
    up_session *session = NULL;
    up_cli_lines lines = {0};
    up_candidates *candidates = NULL;
    json_t *list = NULL;
    int code = up_args_read(&usage, argc, argv, NULL);
    if (code == UP_ARGS_GO && query.count != 1)
        code = up_args_wrong(&usage, "%d queries; wanted one of --query-text, --query-image, --query-video",
                             query.count);
    if (code == UP_ARGS_GO && !among.count == !texts_file)
        code = up_args_wrong(&usage, "wanted one of --among and --among-texts");
    if (code != UP_ARGS_GO) goto end;
    UP_GO(candidates_of(&among, texts_file, &lines, &items));
    UP_GO(up_cli_open(&model, &session));
    UP_GO(make_candidates(session, &items, &candidates));
    if (as_json) list = json_array();
    UP_GO(tell(candidates, query.items, &items, texts_file != NULL, (int)top, list));
    if (as_json) UP_GO(up_cli_print_json(json_array_get(list, 0)));
done:
    code = up_cli_end(status);
end:
    json_decref(list);
    up_candidates_free(candidates);
    up_cli_lines_free(&lines);
    up_session_close(session);
    up_arg_list_free(&query);
    up_arg_list_free(&among);
    up_arg_list_free(&items);
    return code;
}
