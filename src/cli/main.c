/* main.c - the program `uniperceiver`: the table of subcommands, and what holds for all of them: results on
 * stdout, errors as one line on stderr, exit 0 done, 1 could not be done, 2 wrong usage. */
#include "cli/args.h"
#include "cli/commands.h"
#include "uniperceiver/uniperceiver.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"tokenize", "texts to token ids", up_cmd_tokenize},
    {"detokenize", "token ids to texts", up_cmd_detokenize},
    {"mask", "who sees whom among a prefix, words and slots", up_cmd_mask},
    {"params", "how many parameters a model has, by group", up_cmd_params},
    {"init", "write a fresh model or overlay", up_cmd_init},
    {"import", "a released PyTorch checkpoint to a model", up_cmd_import},
    {"export", "a model to PyTorch under the released names", up_cmd_export},
    {"info", "what a model, checkpoint, picture or video holds", up_cmd_info},
    {"encode", "texts, pictures and videos to features", up_cmd_encode},
    {"classify", "which label fits", up_cmd_classify},
    {"retrieve", "which of many candidates fit a query", up_cmd_retrieve},
    {"index", "keep features of files for search", up_cmd_index},
    {"search", "the rows of an index that are most similar", up_cmd_search},
    {"caption", "describe a picture or video, or continue a text", up_cmd_caption},
    {"vqa", "answer a question about a picture", up_cmd_vqa},
    {"serve", "a page and a JSON interface over HTTP", up_cmd_serve},
    {"check", "read every sample of a configuration once", up_cmd_check},
    {"train", "train a model as a configuration says", up_cmd_train},
    {"eval", "evaluate a model as a configuration says", up_cmd_eval},
    {"report", "a run as one page of HTML", up_cmd_report},
    {"score", "score predictions in a file by the field's metrics", up_cmd_score},
    {"tables", "results beside the paper's tables", up_cmd_tables},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static int help(void) {
    printf("uniperceiver COMMAND [flags]\n  One Transformer encoder for text, pictures and video.\n\n");
    for (int i = 0; i < COMMANDS; i++) printf("  %-12s %s\n", commands[i].name, commands[i].summary);
    printf("\nuniperceiver help COMMAND lists the flags of a command; uniperceiver --version tells the "
           "version.\n");
    return 0;
}

static int find(const char *name) {
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(name, commands[i].name)) return i;
    return -1;
}

static int unknown(const char *name) {
    const char *near = NULL;
    int best = 0;
    for (int i = 0; i < COMMANDS; i++) up_args_nearer(name, commands[i].name, &best, &near);
    fprintf(stderr, "uniperceiver: unknown command \"%s\"", name);
    if (near) fprintf(stderr, "; did you mean %s?", near);
    fprintf(stderr, " (see uniperceiver --help)\n");
    return 2;
}

/* help COMMAND is COMMAND --help. */
static int help_of(char *name) {
    char flag[] = "--help";
    int command = find(name);
    return command < 0 ? unknown(name) : commands[command].run(2, (char *[]){name, flag, NULL});
}

static int run(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "uniperceiver: no command (see uniperceiver --help)\n");
        return 2;
    }
    if (!strcmp(argv[1], "help") && argc > 2) return help_of(argv[2]);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) return help();
    if (!strcmp(argv[1], "--version")) return printf("uniperceiver %s\n", up_version()) < 0;
    int command = find(argv[1]);
    return command < 0 ? unknown(argv[1]) : commands[command].run(argc - 1, argv + 1);
}

int up_cli_end(up_status status) {
    if (status == UP_OK) return 0;
    fprintf(stderr, "uniperceiver: %s\n", up_last_error());
    return 1;
}

/* Results that did not arrive are a failure: a full disk, or a reader that has gone. */
static int finish(int code) {
    errno = 0;
    if (!fflush(stdout) && !ferror(stdout)) return code;
    if (code == 0)
        fprintf(stderr, "uniperceiver: standard output: cannot write: %s\n",
                errno ? strerror(errno) : "failed");
    return code ? code : 1;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is then a failed write, and is said */
    signal(SIGXFSZ, SIG_IGN); /* so is a file that may not grow any more */
    return finish(run(argc, argv));
}
