/* encode.c - the command encode: features of inputs as a NumPy array. */
#include "cli/commands.h"
#include "cli/inputs.h"
#include "files/npy.h"

#include <stdlib.h>
#include <string.h>

static up_status encode_joined(up_session *session, const up_arg_list *items, int slot, up_side side,
                               float **out) {
    up_status status = UP_OK;
    up_cli_parts parts;
    UP_GO(up_cli_parts_read(items->items, items->count, &parts));
    *out = malloc((size_t)up_session_width(session) * sizeof **out);
    if (!*out) UP_GO(up_fail(UP_ERR_MEMORY, "inputs", "no memory for a feature"));
    UP_GO(up_encode(session, &(up_input){parts.list, parts.count, slot}, 1, side, *out));
done:
    up_cli_parts_free(&parts);
    return status;
}

int up_cmd_encode(int argc, char **argv) {
    up_cli_model model = {0};
    up_arg_list items = {0};
    const char *side_name = "input", *path = NULL;
    int join = 0, slot = 0;
    const up_arg args[] = {
        UP_CLI_MODEL_ROWS(model),
        UP_CLI_PART_ROWS(items),
        {"ids", UP_ARG_EACH, &items, "\"1 2 3\"", "a text as token ids", 0, 0, 0},
        {"join", UP_ARG_SWITCH, &join, NULL, "one sequence of all parts instead of one each", 0, 0, 0},
        {"slot", UP_ARG_SWITCH, &slot, NULL, "read out a <SPE> appended at the end, not the leading one", 0,
         0, 0},
        {"side", UP_ARG_TEXT, &side_name, "SIDE", "input (default) or target: whose prompts are used", 0, 0,
         0},
        {"out", UP_ARG_TEXT, &path, "F.npy", "the array to write, a row a sequence", 1, 0, 0},
        {0}};
    const up_usage usage = {"encode", "", "encode texts, pictures and videos", args};
    up_status status = UP_OK;
    up_session *session = NULL;
    float *features = NULL;
    int code = up_args_read(&usage, argc, argv, NULL);
    up_side side = strcmp(side_name, "target") ? UP_SIDE_INPUT : UP_SIDE_TARGET;
    if (code == UP_ARGS_GO && !items.count)
        code = up_args_wrong(&usage, "no --text, --image, --video or --ids");
    if (code == UP_ARGS_GO && side == UP_SIDE_INPUT && strcmp(side_name, "input"))
        code = up_args_wrong(&usage, "--side: \"%s\"; wanted input or target", side_name);
    if (code != UP_ARGS_GO) goto end;
    UP_GO(up_cli_open(&model, &session));
    UP_GO(join ? encode_joined(session, &items, slot, side, &features)
               : up_cli_encode(session, &items, slot, side, &features));
    UP_GO(up_npy_write(path, UP_NPY_F32, 2, (int64_t[]){join ? 1 : items.count, up_session_width(session)},
                       features));
done:
    code = up_cli_end(status);
end:
    free(features);
    up_session_close(session);
    up_arg_list_free(&items);
    return code;
}
