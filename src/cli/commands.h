/* commands.h - the subcommands, one file each: read flags, call the library, print. Each answers its exit
 * code. */
#ifndef UP_CLI_COMMANDS_H
#define UP_CLI_COMMANDS_H

#include "uniperceiver/status.h"

int up_cmd_tokenize(int argc, char **argv);
int up_cmd_detokenize(int argc, char **argv);
int up_cmd_mask(int argc, char **argv);
int up_cmd_params(int argc, char **argv);
int up_cmd_init(int argc, char **argv);
int up_cmd_import(int argc, char **argv);
int up_cmd_export(int argc, char **argv);
int up_cmd_info(int argc, char **argv);
int up_cmd_encode(int argc, char **argv);
int up_cmd_classify(int argc, char **argv);
int up_cmd_retrieve(int argc, char **argv);
int up_cmd_caption(int argc, char **argv);
int up_cmd_vqa(int argc, char **argv);
int up_cmd_check(int argc, char **argv);
int up_cmd_train(int argc, char **argv);
int up_cmd_eval(int argc, char **argv);
int up_cmd_report(int argc, char **argv);
int up_cmd_score(int argc, char **argv);
int up_cmd_tables(int argc, char **argv);
int up_cmd_serve(int argc, char **argv);
int up_cmd_index(int argc, char **argv);
int up_cmd_search(int argc, char **argv);

/* Exit code of a status; a failure's message goes to stderr. */
int up_cli_end(up_status status);

#endif
