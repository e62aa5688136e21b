/* check.c - the command check: every sample of a configuration read once. */
#include "cli/commands.h"
#include "cli/job.h"
#include "eval/check.h"

int up_cmd_check(int argc, char **argv) {
    up_arg_list rest = {0};
    up_cli_job job = {0};
    const char *out = NULL;
    int64_t threads = 0;
    int quiet = 0, json = 0;
    size_t broken = 0;
    const up_arg args[] = {{"out", UP_ARG_TEXT, &out, "FILE", "all broken samples as JSON lines", 0, 0, 0},
                           {"json", UP_ARG_SWITCH, &json, NULL, "totals as JSON", 0, 0, 0},
                           {"threads", UP_ARG_WHOLE, &threads, "N",
                            "threads, each with a decoder process; 0, the default, is all cores", 0, 0, 4096},
                           {"quiet", UP_ARG_SWITCH, &quiet, NULL, "no progress on stderr", 0, 0, 0},
                           {0}};
    const up_usage usage = {"check", "CONFIG [key=value...]",
                            "read every sample of a configuration once and tell which are broken", args};
    int code = up_args_read(&usage, argc, argv, &rest);
    if (code == UP_ARGS_GO) code = up_cli_job_read(&usage, &rest, &job);
    if (code == UP_ARGS_GO) {
        const up_check_options options = {.threads = (int)threads,
                                          .quiet = quiet,
                                          .json = json,
                                          .out = out,
                                          .stop = up_cli_stop_on_signal()};
        code = up_cli_end(up_check(job.config, job.overrides, job.count, &options, &broken));
        if (broken) code = 1;
    }
    up_cli_job_free(&job);
    up_arg_list_free(&rest);
    return code;
}
