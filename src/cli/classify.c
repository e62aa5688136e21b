/* classify.c - the command classify: labels as candidate texts (paper section 3.2), for one or more inputs.
 */
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/ranking.h"
#include "infer/session.h"

#include <stdlib.h>
#include <string.h>

/* "a photo of a {}" with a label in place of every {}; malloc'ed. */
static char *fill_template(const char *form, const char *label) {
    size_t length = strlen(form) + 1;
    for (const char *c = form; (c = strstr(c, "{}")); c += 2) length += strlen(label);
    char *out = malloc(length), *at = out;
    for (const char *c = form; out && *c;)
        if (!strncmp(c, "{}", 2)) {
            at = stpcpy(at, label);
            c += 2;
        } else {
            *at++ = *c++;
        }
    if (out) *at = 0;
    return out;
}

/* Features of the labels: a malloc'ed [n, D]. */
static up_status encode_labels(up_session *session, const up_cli_lines *labels, const char *form,
                               float **out) {
    up_status status = UP_OK;
    char **texts = calloc((size_t)labels->count, sizeof *texts);
    up_arg_list items = {0, calloc((size_t)labels->count, sizeof *items.items)};
    if (!texts || !items.items) UP_GO(up_fail(UP_ERR_MEMORY, "labels", "no memory for %d", labels->count));
    for (; items.count < labels->count; items.count++) {
        texts[items.count] = fill_template(form, labels->list[items.count]);
        if (!texts[items.count]) UP_GO(up_fail(UP_ERR_MEMORY, "labels", "no memory for the template"));
        items.items[items.count] = (up_arg_item){"text", texts[items.count]};
    }
    UP_GO(up_cli_encode(session, &items, 0, UP_SIDE_TARGET, out));
done:
    for (int i = 0; texts && i < labels->count; i++) free(texts[i]);
    free(texts);
    up_arg_list_free(&items);
    return status;
}

/* The kind of an input, which chooses the temperature. */
static up_part_kind kind_of(const char *flag) {
    return !strcmp(flag, "image") ? UP_PART_IMAGE : !strcmp(flag, "video") ? UP_PART_VIDEO : UP_PART_TEXT;
}

static up_status tell_all(up_session *session, const up_arg_list *inputs, const float *x,
                          const up_cli_lines *labels, const float *y, int top, json_t *list) {
    int width = up_session_width(session);
    up_status status = UP_OK;
    float *probabilities = malloc((size_t)labels->count * sizeof *probabilities);
    if (!probabilities) return up_fail(UP_ERR_MEMORY, "labels", "no memory for %d", labels->count);
    for (int i = 0; i < inputs->count; i++) {
        double scale;
        const up_part part = {.kind = kind_of(inputs->items[i].flag)};
        UP_GO(up_input_scale(session, NULL, &(up_input){&part, 1, 0}, &scale));
        up_softmax(x + (size_t)i * (size_t)width, y, labels->count, width, scale, probabilities);
        UP_GO(up_ranking_tell(
            &(up_ranking){inputs->items[i].value, "label", labels->list, probabilities, labels->count, top},
            list));
    }
done:
    free(probabilities);
    return status;
}

int up_cmd_classify(int argc, char **argv) {
    up_cli_model model = {0};
    up_arg_list inputs = {0};
    const char *labels_text = NULL, *labels_file = NULL, *form = "{}";
    int64_t top = 0;
    int as_json = 0;
    const up_arg args[] = {
        UP_CLI_MODEL_ROWS(model),
        UP_CLI_PART_ROWS(inputs),
        {"labels", UP_ARG_TEXT, &labels_text, "A,B,C", "the labels", 0, 0, 0},
        {"labels-file", UP_ARG_TEXT, &labels_file, "FILE", "the labels, one a line", 0, 0, 0},
        {"template", UP_ARG_TEXT, &form, "TEXT", "text in which {} stands for the label", 0, 0, 0},
        {"top", UP_ARG_WHOLE, &top, "K", "only the best K", 0, 1, INT32_MAX},
        {"json", UP_ARG_SWITCH, &as_json, NULL, "as JSON", 0, 0, 0},
        {0}};
    const up_usage usage = {"classify", "", "print label and probability for each input, best first", args};
    up_status status = UP_OK;
    up_session *session = NULL;
    up_cli_lines labels = {0};
    float *x = NULL, *y = NULL;
    json_t *list = NULL;
    int code = up_args_read(&usage, argc, argv, NULL);
    if (code == UP_ARGS_GO && !inputs.count) code = up_args_wrong(&usage, "no --text, --image or --video");
    if (code == UP_ARGS_GO && !labels_text == !labels_file)
        code = up_args_wrong(&usage, "wanted one of --labels and --labels-file");
    if (code != UP_ARGS_GO) goto end;
    UP_GO(labels_file ? up_cli_lines_read(labels_file, &labels) : up_cli_split(labels_text, &labels));
    UP_GO(up_cli_open(&model, &session));
    UP_GO(up_cli_encode(session, &inputs, 0, UP_SIDE_INPUT, &x));
    UP_GO(encode_labels(session, &labels, form, &y));
    if (as_json) list = json_array();
    UP_GO(tell_all(session, &inputs, x, &labels, y, (int)top, list));
    if (as_json) UP_GO(up_cli_print_json(list));
done:
    code = up_cli_end(status);
end:
    json_decref(list);
    free(x);
    free(y);
    up_cli_lines_free(&labels);
    up_session_close(session);
    up_arg_list_free(&inputs);
    return code;
}
