/* encode.c - the command encode: features of inputs as a NumPy array, JSON lines or TSV. */
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/items.h"
#include "cli/rows.h"
#include "files/digest.h"
#include "files/weights.h"

#include <stdlib.h>
#include <string.h>

enum { WORTH_KEEPING = 256 }; /* of fewer items the work is not kept when it is broken off */

typedef struct encoding {
    up_bulk bulk;
    up_rows rows;
    up_side side;
    float *features;
    size_t room; /* rows of features */
} encoding;

/* What makes the rows what they are: work goes on only where all of it is the same. */
static up_status key_of(const encoding *e, up_dtype precision, uint64_t *key) {
    const up_arg_list *items = e->bulk.items;
    const int settings[] = {(int)precision, (int)e->side, e->bulk.slot, (int)e->rows.form};
    *key = 0;
    if (items->count < WORTH_KEEPING || !strcmp(e->rows.path, "-")) return UP_OK;
    UP_TRY(up_weights_digest(up_session_model(e->bulk.session), key));
    *key = up_digest(*key, settings, sizeof settings);
    for (int i = 0; i < items->count; i++) {
        *key = up_digest(*key, items->items[i].flag, strlen(items->items[i].flag));
        *key = up_digest(*key, items->items[i].value, strlen(items->items[i].value));
    }
    *key |= 1; /* 0 stands for none */
    return UP_OK;
}

static up_status make_room(encoding *e, size_t rows) {
    if (rows <= e->room) return UP_OK;
    free(e->features);
    e->features = malloc(rows * (size_t)e->rows.width * sizeof *e->features);
    e->room = e->features ? rows : 0;
    return e->features ? UP_OK : up_fail(UP_ERR_MEMORY, "inputs", "features of %zu wanted", rows);
}

static up_status take(void *context, const up_input *inputs, const int *places, int count, int next) {
    encoding *e = context;
    UP_TRY(make_room(e, (size_t)count));
    UP_TRY(up_encode(e->bulk.session, inputs, count, e->side, e->features));
    return up_rows_put(&e->rows, e->features, places, count, next);
}

static up_status encode_each(encoding *e, up_dtype precision) {
    uint64_t key;
    UP_TRY(key_of(e, precision, &key));
    UP_TRY(up_rows_open(&e->rows, key));
    e->bulk.first = e->rows.done;
    for (int i = 0; i < e->rows.done; i++) e->bulk.skipped += e->rows.left[i];
    UP_TRY(up_bulk_run(&e->bulk, take, e));
    return up_rows_close(&e->rows);
}

/* One sequence of all parts, named after the first. */
static up_status encode_joined(encoding *e) {
    const up_arg_list *items = e->bulk.items;
    up_arg_list one = {.count = 1, .items = items->items};
    up_status status = UP_OK;
    up_cli_parts parts = {0};
    e->rows.items = &one;
    UP_GO(up_cli_parts_read(items->items, items->count, &parts));
    UP_GO(make_room(e, 1));
    UP_GO(up_encode(e->bulk.session, &(up_input){parts.list, parts.count, e->bulk.slot}, 1, e->side,
                    e->features));
    UP_GO(up_rows_open(&e->rows, 0));
    UP_GO(up_rows_put(&e->rows, e->features, (int[]){0}, 1, 1));
    UP_GO(up_rows_close(&e->rows));
done:
    up_cli_parts_free(&parts);
    return status;
}

int up_cmd_encode(int argc, char **argv) {
    up_cli_model model = {0};
    up_arg_list given = {0};
    up_items items = {0};
    up_dtype precision;
    encoding e = {.bulk = {.what = "inputs"}};
    const char *side_name = "input", *path = NULL, *form = NULL;
    int join = 0;
    const up_arg args[] = {
        UP_CLI_MODEL_ROWS(model),
        UP_CLI_ITEM_ROWS(given),
        {"ids", UP_ARG_EACH, &given, "\"1 2 3\"", "a text as token ids", 0, 0, 0},
        {"join", UP_ARG_SWITCH, &join, NULL, "one sequence of all parts instead of one each", 0, 0, 0},
        {"slot", UP_ARG_SWITCH, &e.bulk.slot, NULL,
         "read out a <SPE> appended at the end, not the leading one", 0, 0, 0},
        {"side", UP_ARG_TEXT, &side_name, "SIDE", "input (default) or target: whose prompts are used", 0, 0,
         0},
        UP_CLI_STRICT_ROW(e.bulk.strict),
        {"out", UP_ARG_TEXT, &path, "FILE", "where to: .npy (names go to .names), .jsonl or .tsv; -: stdout",
         1, 0, 0},
        {"format", UP_ARG_TEXT, &form, "NAME", "npy, jsonl or tsv, whatever the file is called", 0, 0, 0},
        {0}};
    const up_usage usage = {"encode", "[PATH...]",
                            "encode texts, pictures and videos, a row each; when it was broken off, the same "
                            "command goes on",
                            args};
    up_status status = UP_OK;
    int code = up_args_read(&usage, argc, argv, &given);
    e.side = strcmp(side_name, "target") ? UP_SIDE_INPUT : UP_SIDE_TARGET;
    if (code == UP_ARGS_GO && !given.count)
        code = up_args_wrong(&usage, "no --text, --image, --video, --ids, --list or PATH");
    if (code == UP_ARGS_GO && e.side == UP_SIDE_INPUT && strcmp(side_name, "input"))
        code = up_args_wrong(&usage, "--side: \"%s\"; wanted input or target", side_name);
    if (code != UP_ARGS_GO) goto end;
    UP_GO(up_rows_form_of(path, form, &e.rows.form));
    UP_GO(up_items_open(&given, &items));
    UP_GO(up_cli_precision(model.precision, &precision));
    UP_GO(up_cli_open(&model, &e.bulk.session));
    e.bulk.items = e.rows.items = &items.list;
    e.rows.path = path;
    e.rows.width = up_session_width(e.bulk.session);
    UP_GO(join ? encode_joined(&e) : encode_each(&e, precision));
done:
    code = up_bulk_end(&e.bulk, status);
end:
    up_rows_end(&e.rows);
    free(e.features);
    up_session_close(e.bulk.session);
    up_items_free(&items);
    up_arg_list_free(&given);
    return code;
}
