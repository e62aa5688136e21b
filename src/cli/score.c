/* score.c - the command score: predictions in a file against what is true in another, by the field's metrics.
 */
#include "cli/args.h"
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/ranking.h"
#include "eval/ptb.h"
#include "eval/scores.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static up_status tell(const char *metrics, const char *candidates, const char *references,
                      const up_score_options *options, int as_json) {
    up_score_list list = {0};
    json_t *object = NULL;
    up_status status = UP_OK;
    UP_GO(up_score_files(metrics, candidates, references, options, &list));
    for (size_t i = 0; i < list.count && !as_json; i++)
        printf("%-24s %.6f\n", list.scores[i].name, list.scores[i].value);
    for (size_t i = 0; i < list.note_count; i++) fprintf(stderr, "uniperceiver: %s\n", list.notes[i]);
    if (as_json) {
        UP_GO(up_score_list_json(&list, &object));
        UP_GO(up_cli_print_json(object));
    }
done:
    json_decref(object);
    up_score_list_free(&list);
    return status;
}

/* One line of words for each line of a file. */
static up_status tell_words(const char *path) {
    up_cli_lines lines = {0};
    char *words = NULL;
    up_status status = UP_OK;
    UP_GO(up_cli_lines_read(path, &lines));
    for (int i = 0; i < lines.count; i++) {
        UP_GO(up_ptb_tokenize(lines.list[i], strlen(lines.list[i]), &words));
        puts(words);
        free(words);
    }
done:
    up_cli_lines_free(&lines);
    return status;
}

int up_cmd_score(int argc, char **argv) {
    up_arg_list rest = {0};
    up_score_options options = {0};
    const char *metrics = "captions", *words = NULL;
    int as_json = 0;
    const up_arg args[] = {
        {"metric", UP_ARG_TEXT, &metrics, "NAMES",
         "bleu, meteor, rouge, cider, cider_d, spice, captions (all of these; default), vqa, accuracy, f1, "
         "matthews; several with commas between them",
         0, 0, 0},
        {"tokenized", UP_ARG_SWITCH, &options.tokenized, NULL, "captions are words between spaces already", 0,
         0, 0},
        {"wordnet", UP_ARG_TEXT, &options.wordnet, "FOLDER", "of WordNet (default: " UP_WORDNET_FOLDER ")", 0,
         0, 0},
        {"each", UP_ARG_SWITCH, &options.each, NULL,
         "with --json: the scores of every picture or question, too", 0, 0, 0},
        {"words", UP_ARG_TEXT, &words, "FILE", "no scores: the words of each line, as captions are compared",
         0, 0, 0},
        {"json", UP_ARG_SWITCH, &as_json, NULL, "as JSON", 0, 0, 0},
        {0}};
    const up_usage usage = {"score", "CANDIDATES REFERENCES",
                            "score predictions; both files are JSON of COCO or VQA, or TSV", args};
    int code = up_args_read(&usage, argc, argv, &rest);
    if (code == UP_ARGS_GO && rest.count != (words ? 0 : 2))
        code = up_args_wrong(&usage, "%d files; wanted CANDIDATES and REFERENCES", rest.count);
    if (code == UP_ARGS_GO && words) code = up_cli_end(tell_words(words));
    if (code == UP_ARGS_GO)
        code = up_cli_end(tell(metrics, rest.items[0].value, rest.items[1].value, &options, as_json));
    up_arg_list_free(&rest);
    return code;
}
