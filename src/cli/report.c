/* report.c - the command report: a run's folder as one page of HTML. */
#include "cli/args.h"
#include "cli/commands.h"
#include "report/report.h"

int up_cmd_report(int argc, char **argv) {
    up_arg_list rest = {0};
    const char *out = NULL;
    const up_arg args[] = {{"out", UP_ARG_TEXT, &out, "FILE",
                            "where the page goes (default: report.html in the run's folder)", 0, 0, 0},
                           {0}};
    const up_usage usage = {"report", "RUN", "a run's folder as one page of HTML", args};
    int code = up_args_read(&usage, argc, argv, &rest);
    if (code == UP_ARGS_GO && rest.count != 1) code = up_args_wrong(&usage, "wanted one RUN, a folder");
    if (code == UP_ARGS_GO) code = up_cli_end(up_report_write(rest.items[0].value, out));
    up_arg_list_free(&rest);
    return code;
}
