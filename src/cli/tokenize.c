/* tokenize.c - the commands tokenize and detokenize: one line each for every argument, or every line of
 * stdin. */
#include "cli/commands.h"
#include "cli/inputs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef up_status (*line_work)(up_tokenizer *tokenizer, const char *line, size_t length);

static up_status print_ids(up_tokenizer *tokenizer, const char *line, size_t length) {
    int32_t *ids = NULL;
    size_t count;
    UP_TRY(up_tokenize(tokenizer, line, length, &ids, &count));
    for (size_t i = 0; i < count; i++) printf("%s%d", i ? " " : "", (int)ids[i]);
    putchar('\n');
    free(ids);
    return UP_OK;
}

static up_status print_text(up_tokenizer *tokenizer, const char *line, size_t length) {
    int32_t *ids = NULL;
    size_t count;
    char *text = NULL;
    (void)length;
    up_status status = up_cli_ids_read("ids", line, &ids, &count);
    if (status == UP_OK) status = up_detokenize(tokenizer, ids, count, &text);
    if (status == UP_OK) puts(text);
    free(ids);
    free(text);
    return status;
}

static up_status each_line(up_tokenizer *tokenizer, line_work work) {
    up_status status = UP_OK;
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    while (status == UP_OK && (length = getline(&line, &room, stdin)) >= 0) {
        if (length && line[length - 1] == '\n') line[--length] = 0;
        status = work(tokenizer, line, (size_t)length);
        if (ferror(stdout)) break; /* nobody reads on; main says it */
    }
    if (status == UP_OK && ferror(stdin))
        status = up_fail(UP_ERR_IO, "standard input", "cannot read: %s", strerror(errno));
    free(line);
    return status;
}

static int run(const char *command, const char *rest_name, const char *summary, line_work work, int argc,
               char **argv) {
    const char *vocabulary = NULL;
    up_arg_list rest = {0};
    const up_arg args[] = {{"vocab", UP_ARG_TEXT, &vocabulary, "FILE",
                            "merges in CLIP's format instead of the built-in ones", 0, 0, 0},
                           {0}};
    const up_usage usage = {command, rest_name, summary, args};
    up_status status = UP_OK;
    up_tokenizer *tokenizer = NULL;
    int code = up_args_read(&usage, argc, argv, &rest);
    if (code != UP_ARGS_GO) goto end;
    UP_GO(up_tokenizer_create(vocabulary, &tokenizer));
    for (int i = 0; i < rest.count; i++)
        UP_GO(work(tokenizer, rest.items[i].value, strlen(rest.items[i].value)));
    if (!rest.count) UP_GO(each_line(tokenizer, work));
done:
    up_tokenizer_free(tokenizer);
    code = up_cli_end(status);
end:
    up_arg_list_free(&rest);
    return code;
}

int up_cmd_tokenize(int argc, char **argv) {
    return run("tokenize", "[TEXT...]", "token ids of each TEXT, or of each line of standard input",
               print_ids, argc, argv);
}

int up_cmd_detokenize(int argc, char **argv) {
    return run("detokenize", "[IDS...]",
               "texts of each argument's ids, or of those in each line of standard input", print_text, argc,
               argv);
}
