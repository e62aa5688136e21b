/* vqa.c - the command vqa: [<SPE>, picture, question, <SPE>] read out at the last <SPE>, answers as candidate
 * texts (paper appendix D). */
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/ranking.h"
#include "tasks/tasks.h"

#include <stdlib.h>

/* The answers' probabilities. */
static up_status ask(up_session *session, const up_arg_item items[2], const up_cli_lines *answers,
                     float *out) {
    up_status status = UP_OK;
    up_cli_parts question;
    up_candidates *candidates = NULL;
    UP_GO(up_cli_parts_read(items, 2, &question));
    UP_GO(up_candidates_create_texts(session, answers->list, answers->count, &candidates));
    UP_GO(up_candidates_compare(candidates, NULL, &(up_input){question.list, 2, 1}, 1, out));
done:
    up_cli_parts_free(&question);
    up_candidates_free(candidates);
    return status;
}

int up_cmd_vqa(int argc, char **argv) {
    up_cli_model model = {0};
    const char *image = NULL, *question = NULL, *answers_text = NULL;
    int as_json = 0;
    const up_arg args[] = {UP_CLI_MODEL_ROWS(model),
                           {"image", UP_ARG_TEXT, &image, "FILE", "the picture", 1, 0, 0},
                           {"question", UP_ARG_TEXT, &question, "TEXT",
                            "the question; a ? is put behind it if it has none", 1, 0, 0},
                           {"answers", UP_ARG_TEXT, &answers_text, "A,B,C", "the possible answers", 1, 0, 0},
                           {"json", UP_ARG_SWITCH, &as_json, NULL, "as JSON", 0, 0, 0},
                           {0}};
    const up_usage usage = {"vqa", "", "print the possible answers and their probability, best first", args};
    up_status status = UP_OK;
    up_session *session = NULL;
    up_cli_lines answers = {0};
    float *probabilities = NULL;
    char *asked = NULL;
    json_t *list = NULL;
    int code = up_args_read(&usage, argc, argv, NULL);
    if (code != UP_ARGS_GO) return code;
    UP_GO(up_cli_split(answers_text, &answers));
    UP_GO(up_cli_lines_distinct("answers", &answers));
    UP_GO(up_cli_open(&model, &session));
    probabilities = malloc((size_t)answers.count * sizeof *probabilities);
    if (!probabilities) UP_GO(up_fail(UP_ERR_MEMORY, "answers", "no memory for %d", answers.count));
    UP_GO(up_task_question(question, &asked));
    UP_GO(ask(session, (up_arg_item[]){{"image", image}, {"text", asked}}, &answers, probabilities));
    if (as_json) list = json_array();
    UP_GO(up_ranking_tell(
        &(up_ranking){as_json ? asked : NULL, "answer", answers.list, probabilities, answers.count, 0},
        list));
    if (as_json) UP_GO(up_cli_print_json(json_array_get(list, 0)));
done:
    code = up_cli_end(status);
    json_decref(list);
    free(probabilities);
    free(asked);
    up_cli_lines_free(&answers);
    up_session_close(session);
    return code;
}
