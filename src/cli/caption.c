/* caption.c - the command caption: describe pictures and videos, or go on with a text (paper appendix B). */
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/ranking.h"

#include <stdio.h>

static up_status tell_json(const up_caption *caption) {
    json_t *ids = json_array();
    for (int i = 0; i < caption->words; i++) json_array_append_new(ids, json_integer(caption->ids[i]));
    json_t *object = json_pack("{s:s, s:f, s:o}", "text", caption->text, "log_probability",
                               caption->log_probability, "ids", ids);
    up_status status = up_cli_print_json(object);
    json_decref(object);
    return status;
}

int up_cmd_caption(int argc, char **argv) {
    up_cli_model model = {0};
    up_arg_list items = {0};
    int64_t beam = 0, words = 0;
    int uncached = 0, as_json = 0;
    const up_arg args[] = {
        UP_CLI_MODEL_ROWS(model),
        UP_CLI_PART_ROWS(items),
        {"cache", UP_ARG_TEXT, &model.cache, "FOLDER", UP_CLI_CACHE_HELP, 0, 0, 0},
        {"beam", UP_ARG_WHOLE, &beam, "N", "hypotheses kept at a time (default 5; 1 is greedy)", 0, 1, 1024},
        {"max-words", UP_ARG_WHOLE, &words, "N", "tokens, the end included (default 20)", 0, 1, INT32_MAX},
        {"uncached", UP_ARG_SWITCH, &uncached, NULL, "encode everything anew for every word (slow)", 0, 0, 0},
        {"json", UP_ARG_SWITCH, &as_json, NULL, "as JSON, with token ids and log-probability", 0, 0, 0},
        {0}};
    const up_usage usage = {"caption", "",
                            "print the caption of a picture or video, or the continuation of a text", args};
    up_status status = UP_OK;
    up_session *session = NULL;
    up_cli_parts parts = {0};
    up_caption caption = {0};
    int code = up_args_read(&usage, argc, argv, NULL);
    if (code == UP_ARGS_GO && !items.count) code = up_args_wrong(&usage, "no --text, --image or --video");
    if (code != UP_ARGS_GO) goto end;
    const up_caption_options options = {.beam = (int)beam, .max_words = (int)words, .uncached = uncached};
    UP_GO(up_cli_open(&model, &session));
    UP_GO(up_cli_parts_read(items.items, items.count, &parts));
    UP_GO(up_caption_input(session, &(up_input){parts.list, parts.count, 0}, &options, &caption));
    if (as_json)
        UP_GO(tell_json(&caption));
    else
        puts(caption.text);
done:
    code = up_cli_end(status);
end:
    up_caption_free(&caption);
    up_cli_parts_free(&parts);
    up_session_close(session);
    up_arg_list_free(&items);
    return code;
}
