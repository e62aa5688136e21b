/* classify.c - the command classify: labels as candidate texts (paper section 3.2), for one or more inputs.
 */
#include "cli/bulk.h"
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/items.h"
#include "cli/ranking.h"
#include "tasks/tasks.h"

#include <stdlib.h>
#include <string.h>

/* The labels in a template. Free with free_texts. */
static up_status make_texts(const up_cli_lines *labels, const char *form, char ***out) {
    *out = calloc((size_t)labels->count + 1, sizeof **out);
    if (!*out) return up_fail(UP_ERR_MEMORY, "labels", "no memory for %d", labels->count);
    for (int i = 0; i < labels->count; i++) UP_TRY(up_task_target_text(form, labels->list[i], &(*out)[i]));
    return UP_OK;
}

static void free_texts(char **texts) {
    for (int i = 0; texts && texts[i]; i++) free(texts[i]);
    free(texts);
}

/* Add the features of the labels in one template to sum [labels, D]. */
static up_status add_template(up_session *session, const up_cli_lines *labels, const char *form, float *sum) {
    size_t n = (size_t)labels->count, values = n * (size_t)up_session_width(session);
    up_part *parts = calloc(n, sizeof *parts);
    up_input *inputs = calloc(n, sizeof *inputs);
    float *one = malloc(values * sizeof *one);
    char **texts = NULL;
    up_status status = UP_OK;
    if (!parts || !inputs || !one) UP_GO(up_fail(UP_ERR_MEMORY, "labels", "no memory for %zu", n));
    UP_GO(make_texts(labels, form, &texts));
    for (size_t i = 0; i < n; i++) {
        parts[i] =
            (up_part){.kind = UP_PART_TEXT, .data = texts[i], .size = strlen(texts[i]), .name = "label"};
        inputs[i] = (up_input){&parts[i], 1, 0};
    }
    UP_GO(up_encode(session, inputs, (int)n, UP_SIDE_TARGET, one));
    for (size_t i = 0; i < values; i++) sum[i] += one[i];
done:
    free_texts(texts);
    free(one);
    free(inputs);
    free(parts);
    return status;
}

/* The labels as candidates: in their one template, or the mean of their features in several. */
static up_status make_candidates(up_session *session, const up_cli_lines *labels, const up_arg_list *forms,
                                 up_candidates **out) {
    up_status status = UP_OK;
    char **texts = NULL;
    float *sum = NULL;
    if (forms->count <= 1) {
        UP_GO(make_texts(labels, forms->count ? forms->items[0].value : NULL, &texts));
        UP_GO(up_candidates_create_texts(session, (const char *const *)texts, labels->count, out));
        goto done;
    }
    sum = calloc((size_t)labels->count * (size_t)up_session_width(session), sizeof *sum);
    if (!sum) UP_GO(up_fail(UP_ERR_MEMORY, "labels", "no memory for %d", labels->count));
    for (int i = 0; i < forms->count; i++) UP_GO(add_template(session, labels, forms->items[i].value, sum));
    UP_GO(up_candidates_create_features(session, sum, labels->count, out));
done:
    free_texts(texts);
    free(sum);
    return status;
}

typedef struct telling {
    up_bulk bulk;
    up_candidates *candidates;
    const up_cli_lines *labels;
    int top;
    float *probabilities; /* [UP_CLI_AT_ONCE, labels] */
    json_t *list;
} telling;

static up_status tell_some(void *context, const up_input *inputs, const int *places, int count, int next) {
    telling *t = context;
    int n = t->labels->count;
    (void)next;
    UP_TRY(up_candidates_compare(t->candidates, NULL, inputs, count, t->probabilities));
    for (int i = 0; i < count; i++) {
        const float *row = t->probabilities + (size_t)i * (size_t)n;
        const char *input = t->bulk.items->items[places[i]].value;
        UP_TRY(up_ranking_tell(&(up_ranking){input, "label", t->labels->list, row, n, t->top}, t->list));
    }
    return UP_OK;
}

/* One answer for a sequence of all parts. */
static up_status tell_joined(telling *t) {
    const up_arg_list *items = t->bulk.items;
    up_status status = UP_OK;
    up_cli_parts parts = {0};
    UP_GO(up_cli_parts_read(items->items, items->count, &parts));
    UP_GO(tell_some(t, &(up_input){parts.list, parts.count, 0}, (int[]){0}, 1, items->count));
done:
    up_cli_parts_free(&parts);
    return status;
}

static up_status tell_all(telling *t, int join) {
    size_t most = (size_t)UP_CLI_AT_ONCE, n = (size_t)t->labels->count;
    t->bulk.most = UP_CLI_AT_ONCE;
    t->probabilities = malloc(most * n * sizeof *t->probabilities);
    if (!t->probabilities) return up_fail(UP_ERR_MEMORY, "labels", "no memory for %zu", n);
    return join ? tell_joined(t) : up_bulk_run(&t->bulk, tell_some, t);
}

/* Whether a list has this name. */
static int lists(const char *const *names, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (!strcmp(names[i], name)) return 1;
    return 0;
}

/* The model's own classes in its head's order where no labels are given, or the same ones in any order: then
 * its linear head takes part. Other labels are compared by similarity alone. */
static up_status choose_labels(up_session *session, up_cli_lines *labels, int *head) {
    int count, same;
    const char *const *names = up_model_classes(up_session_model(session), &count);
    *head = 0;
    if (!names && !labels->count)
        return up_fail(UP_ERR_ARGUMENT, "labels",
                       "the model has no classes of its own: wanted --labels or --labels-file");
    same = names && (!labels->count || labels->count == count);
    for (int i = 0; same && labels->count && i < count; i++)
        same = lists(labels->list, labels->count, names[i]);
    if (!same) return UP_OK;
    const char **own = malloc((size_t)count * sizeof *own);
    if (!own) return up_fail(UP_ERR_MEMORY, "labels", "no memory for %d", count);
    memcpy(own, names, (size_t)count * sizeof *own);
    free(labels->list);
    labels->list = own;
    labels->count = count;
    *head = 1;
    return UP_OK;
}

int up_cmd_classify(int argc, char **argv) {
    up_cli_model model = {0};
    up_arg_list given = {0}, forms = {0};
    up_items items = {0};
    telling t = {.bulk = {.what = "inputs"}};
    const char *labels_text = NULL, *labels_file = NULL;
    int64_t top = 0;
    int as_json = 0, head = 0, join = 0;
    const up_arg args[] = {
        UP_CLI_MODEL_ROWS(model),
        UP_CLI_ITEM_ROWS(given),
        {"join", UP_ARG_SWITCH, &join, NULL, "one answer for a sequence of all parts", 0, 0, 0},
        UP_CLI_STRICT_ROW(t.bulk.strict),
        {"labels", UP_ARG_TEXT, &labels_text, "A,B,C", "the labels (default: the tuned task's own classes)",
         0, 0, 0},
        {"labels-file", UP_ARG_TEXT, &labels_file, "FILE", "the labels, one a line", 0, 0, 0},
        {"template", UP_ARG_EACH, &forms, "TEXT",
         "text in which {} stands for the label; of several the mean", 0, 0, 0},
        {"top", UP_ARG_WHOLE, &top, "K", "only the best K", 0, 1, INT32_MAX},
        {"json", UP_ARG_SWITCH, &as_json, NULL, "as JSON", 0, 0, 0},
        {0}};
    const up_usage usage = {"classify", "[PATH...]", "print label and probability for each input, best first",
                            args};
    up_status status = UP_OK;
    up_cli_lines labels = {0};
    int code = up_args_read(&usage, argc, argv, &given);
    if (code == UP_ARGS_GO && !given.count)
        code = up_args_wrong(&usage, "no --text, --image, --video, --list or PATH");
    if (code == UP_ARGS_GO && labels_text && labels_file)
        code = up_args_wrong(&usage, "wanted one of --labels and --labels-file");
    if (code != UP_ARGS_GO) goto end;
    if (labels_file) UP_GO(up_cli_lines_read(labels_file, &labels));
    if (labels_text) UP_GO(up_cli_split(labels_text, &labels));
    if (labels.count) UP_GO(up_cli_lines_distinct("labels", &labels));
    for (int i = 0; i < forms.count; i++)
        if (!strstr(forms.items[i].value, "{}"))
            UP_GO(up_fail(UP_ERR_ARGUMENT, "--template", "\"%.80s\" has no {} for the label",
                          forms.items[i].value));
    UP_GO(up_items_open(&given, &items));
    UP_GO(up_cli_open(&model, &t.bulk.session));
    t.bulk.items = &items.list;
    t.labels = &labels;
    t.top = (int)top;
    UP_GO(choose_labels(t.bulk.session, &labels, &head));
    UP_GO(make_candidates(t.bulk.session, &labels, &forms, &t.candidates));
    UP_GO(up_candidates_use_head(t.candidates, head));
    if (as_json) t.list = json_array();
    UP_GO(tell_all(&t, join));
    if (as_json) UP_GO(up_cli_print_json(t.list));
done:
    code = up_bulk_end(&t.bulk, status);
end:
    json_decref(t.list);
    free(t.probabilities);
    up_candidates_free(t.candidates);
    up_cli_lines_free(&labels);
    up_session_close(t.bulk.session);
    up_items_free(&items);
    up_arg_list_free(&given);
    up_arg_list_free(&forms);
    return code;
}
