/* caption.c - the command caption: describe pictures and videos, or go on with a text (paper appendix B). */
#include "cli/bulk.h"
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/items.h"
#include "cli/ranking.h"
#include "files/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AT_ONCE = 16 }; /* files that are read, captioned and told before the next */

typedef struct job {
    up_bulk bulk;
    up_caption_options options;
    up_arg_list files, texts; /* what is described; what is said behind each already */
    json_t *list;             /* NULL: lines */
} job;

static json_t *as_object(const char *input, const up_caption *caption) {
    json_t *ids = json_array();
    for (int i = 0; i < caption->words; i++) json_array_append_new(ids, json_integer(caption->ids[i]));
    json_t *object = json_pack("{s:s, s:f, s:o}", "text", caption->text, "log_probability",
                               caption->log_probability, "ids", ids);
    if (input) json_object_set_new_nocheck(object, "input", up_json_bytes(input));
    return object;
}

/* --- one input of all parts --- */

static up_status caption_joined(up_session *session, const up_arg_list *items, const up_caption_options *o,
                                int as_json) {
    up_status status = UP_OK;
    up_cli_parts parts = {0};
    up_caption caption = {0};
    json_t *object = NULL;
    UP_GO(up_cli_parts_read(items->items, items->count, &parts));
    UP_GO(up_caption_input(session, &(up_input){parts.list, parts.count, 0}, o, &caption));
    if (as_json) {
        object = as_object(NULL, &caption);
        UP_GO(up_cli_print_json(object));
    } else {
        puts(caption.text);
    }
done:
    json_decref(object);
    up_caption_free(&caption);
    up_cli_parts_free(&parts);
    return status;
}

/* --- an input for each file --- */

static up_status tell(job *j, const up_arg_item *file, const up_caption *caption) {
    if (!j->list) {
        printf("%s\t%s\n", file->value, caption->text);
        return UP_OK;
    }
    if (!json_array_append_new(j->list, as_object(file->value, caption))) return UP_OK;
    return up_fail(UP_ERR_MEMORY, "caption", "no memory for JSON");
}

static up_status caption_some(void *context, const up_input *pictures, const int *places, int count,
                              int next) {
    job *j = context;
    up_status status = UP_OK;
    up_cli_parts texts = {0};
    up_caption captions[AT_ONCE] = {0};
    up_input inputs[AT_ONCE];
    int each = 1 + j->texts.count;
    up_part *parts = calloc((size_t)(count * each) + 1, sizeof *parts);
    (void)next;
    if (!parts) UP_GO(up_fail(UP_ERR_MEMORY, "inputs", "no memory for %d", count));
    UP_GO(up_cli_parts_read(j->texts.items, j->texts.count, &texts));
    for (int i = 0; i < count; i++) {
        parts[i * each] = pictures[i].parts[0];
        for (int k = 1; k < each; k++) parts[i * each + k] = texts.list[k - 1];
        inputs[i] = (up_input){&parts[i * each], each, 0};
    }
    UP_GO(up_caption_inputs(j->bulk.session, inputs, count, &j->options, captions));
    for (int i = 0; i < count; i++) UP_GO(tell(j, &j->bulk.items->items[places[i]], &captions[i]));
done:
    for (int i = 0; i < AT_ONCE; i++) up_caption_free(&captions[i]);
    up_cli_parts_free(&texts);
    free(parts);
    return status;
}

static up_status caption_each(job *j, int as_json) {
    up_status status = UP_OK;
    j->bulk.items = &j->files;
    if (as_json) j->list = json_array();
    UP_GO(up_bulk_run(&j->bulk, caption_some, j));
    if (as_json) UP_GO(up_cli_print_json(j->list));
done:
    json_decref(j->list);
    return status;
}

/* Pictures and videos apart from texts, each in their order. */
static up_status divide(const up_arg_list *items, job *j) {
    size_t room = (size_t)items->count + 1;
    j->files.items = calloc(room, sizeof *j->files.items);
    j->texts.items = calloc(room, sizeof *j->texts.items);
    if (!j->files.items || !j->texts.items)
        return up_fail(UP_ERR_MEMORY, "inputs", "no memory for %d", items->count);
    for (int i = 0; i < items->count; i++) {
        up_arg_list *to = strcmp(items->items[i].flag, "text") ? &j->files : &j->texts;
        to->items[to->count++] = items->items[i];
    }
    return UP_OK;
}

int up_cmd_caption(int argc, char **argv) {
    up_cli_model model = {0};
    up_arg_list given = {0};
    up_items items = {0};
    job j = {.bulk = {.what = "captions", .most = AT_ONCE}};
    int64_t beam = 0, words = 0, least = 0;
    int uncached = 0, as_json = 0, join = 0;
    const up_arg args[] = {
        UP_CLI_MODEL_ROWS(model),
        UP_CLI_ITEM_ROWS(given),
        {"join", UP_ARG_SWITCH, &join, NULL, "one caption of all parts instead of one of each file", 0, 0, 0},
        UP_CLI_STRICT_ROW(j.bulk.strict),
        {"beam", UP_ARG_WHOLE, &beam, "N", "hypotheses kept at a time (default 5; 1 is greedy)", 0, 1, 1024},
        {"max-words", UP_ARG_WHOLE, &words, "N", "tokens, the end included (default 20)", 0, 1, INT32_MAX},
        {"min-words", UP_ARG_WHOLE, &least, "N", "tokens before the end (default 0)", 0, 0, INT32_MAX},
        {"cache", UP_ARG_TEXT, &model.cache, "FOLDER", UP_CLI_CACHE_HELP, 0, 0, 0},
        {"uncached", UP_ARG_SWITCH, &uncached, NULL, "encode everything anew for every word (slow)", 0, 0, 0},
        {"json", UP_ARG_SWITCH, &as_json, NULL, "as JSON, with token ids and log-probability", 0, 0, 0},
        {0}};
    const up_usage usage = {"caption", "[PATH...]",
                            "print the captions of pictures and videos, or the continuation of a text", args};
    up_status status = UP_OK;
    int code = up_args_read(&usage, argc, argv, &given);
    if (code == UP_ARGS_GO && !given.count)
        code = up_args_wrong(&usage, "no --text, --image, --video, --list or PATH");
    if (code != UP_ARGS_GO) goto end;
    j.options = (up_caption_options){
        .beam = (int)beam, .max_words = (int)words, .min_words = (int)least, .uncached = uncached};
    UP_GO(up_items_open(&given, &items));
    UP_GO(divide(&items.list, &j));
    UP_GO(up_cli_open(&model, &j.bulk.session));
    UP_GO(join || j.files.count < 2 ? caption_joined(j.bulk.session, &items.list, &j.options, as_json)
                                    : caption_each(&j, as_json));
done:
    code = up_bulk_end(&j.bulk, status);
end:
    up_session_close(j.bulk.session);
    up_arg_list_free(&j.files);
    up_arg_list_free(&j.texts);
    up_items_free(&items);
    up_arg_list_free(&given);
    return code;
}
