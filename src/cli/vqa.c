/* vqa.c - the command vqa: [<SPE>, picture, question, <SPE>] read out at the last <SPE>, answers as candidate
 * texts (paper appendix D). */
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/ranking.h"
#include "tasks/tasks.h"

#include <stdlib.h>

typedef struct asking {
    up_session *session;
    const char *question;
    up_candidates *candidates;
    const up_cli_lines *answers;
    float *probabilities; /* [answers] */
    json_t *list;         /* NULL: lines */
    int several;          /* pictures: each answer stands behind its own */
} asking;

static up_status ask(asking *a, const char *image) {
    const up_arg_item items[] = {{"image", image}, {"text", a->question}};
    const char *input = a->several ? image : a->list ? a->question : NULL;
    up_status status = UP_OK;
    up_cli_parts parts;
    UP_GO(up_cli_parts_read(items, 2, &parts));
    UP_GO(up_candidates_compare(a->candidates, NULL, &(up_input){parts.list, 2, 1}, 1, a->probabilities));
    UP_GO(up_ranking_tell(
        &(up_ranking){input, "answer", a->answers->list, a->probabilities, a->answers->count, 0}, a->list));
done:
    up_cli_parts_free(&parts);
    return status;
}

static up_status ask_all(asking *a, const up_arg_list *images) {
    int n = a->answers->count;
    a->several = images->count > 1;
    a->probabilities = malloc((size_t)n * sizeof *a->probabilities);
    if (!a->probabilities) return up_fail(UP_ERR_MEMORY, "answers", "no memory for %d", n);
    UP_TRY(up_candidates_create_texts(a->session, a->answers->list, n, &a->candidates));
    for (int i = 0; i < images->count; i++) UP_TRY(ask(a, images->items[i].value));
    return UP_OK;
}

int up_cmd_vqa(int argc, char **argv) {
    up_cli_model model = {0};
    up_arg_list images = {0};
    const char *question = NULL, *answers_text = NULL;
    int as_json = 0;
    const up_arg args[] = {
        UP_CLI_MODEL_ROWS(model),
        {"image", UP_ARG_EACH, &images, "FILE", "the picture; of several each is asked about", 1, 0, 0},
        {"question", UP_ARG_TEXT, &question, "TEXT", "the question; a ? is put behind it if it has none", 1,
         0, 0},
        {"answers", UP_ARG_TEXT, &answers_text, "A,B,C", "the possible answers", 1, 0, 0},
        {"json", UP_ARG_SWITCH, &as_json, NULL, "as JSON; of several pictures a list", 0, 0, 0},
        {0}};
    const up_usage usage = {"vqa", "", "print the possible answers and their probability, best first", args};
    up_status status = UP_OK;
    up_cli_lines answers = {0};
    asking a = {.answers = &answers};
    char *asked = NULL;
    int code = up_args_read(&usage, argc, argv, NULL);
    if (code != UP_ARGS_GO) goto end;
    UP_GO(up_cli_split(answers_text, &answers));
    UP_GO(up_cli_lines_distinct("answers", &answers));
    UP_GO(up_cli_open(&model, &a.session));
    UP_GO(up_task_question(question, &asked));
    a.question = asked;
    if (as_json) a.list = json_array();
    UP_GO(ask_all(&a, &images));
    if (as_json) UP_GO(up_cli_print_json(a.several ? a.list : json_array_get(a.list, 0)));
done:
    code = up_cli_end(status);
end:
    json_decref(a.list);
    free(a.probabilities);
    free(asked);
    up_cli_lines_free(&answers);
    up_candidates_free(a.candidates);
    up_session_close(a.session);
    up_arg_list_free(&images);
    return code;
}
