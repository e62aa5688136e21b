/* train.c - the command train: pre-training and tuning as a configuration file says. */
#include "cli/commands.h"
#include "cli/job.h"
#include "uniperceiver/train.h"

int up_cmd_train(int argc, char **argv) {
    up_arg_list rest = {0};
    up_cli_job job = {0};
    const char *backend = NULL, *steps = NULL;
    int64_t threads = 0, time_limit = 0;
    int resume = 0, quiet = 0;
    const up_arg args[] = {
        {"backend", UP_ARG_TEXT, &backend, "NAME", "ref, cpu (default) or cuda", 0, 0, 0},
        {"threads", UP_ARG_WHOLE, &threads, "N", "threads; 0, the default, is all cores", 0, 0, 4096},
        {"steps", UP_ARG_TEXT, &steps, "N", "optimiser steps (default: the configuration's)", 0, 0, 0},
        {"resume", UP_ARG_SWITCH, &resume, NULL, "go on from the run's last checkpoint", 0, 0, 0},
        {"time-limit", UP_ARG_WHOLE, &time_limit, "SECONDS", "end within this time, with a checkpoint", 0, 1,
         1000000000},
        {"quiet", UP_ARG_SWITCH, &quiet, NULL, "no progress on stderr", 0, 0, 0},
        {0}};
    const up_usage usage = {"train", "CONFIG [key=value...]",
                            "train a model; SIGINT and SIGTERM end it with a checkpoint", args};
    int code = up_args_read(&usage, argc, argv, &rest);
    if (code == UP_ARGS_GO) code = up_cli_job_read(&usage, &rest, &job);
    if (code == UP_ARGS_GO && steps && up_cli_job_set(&job, "steps", steps) != UP_OK)
        code = up_cli_end(UP_ERR_MEMORY);
    if (code == UP_ARGS_GO) {
        const up_train_options options = {.backend = backend,
                                          .threads = (int)threads,
                                          .resume = resume,
                                          .quiet = quiet,
                                          .time_limit = (double)time_limit,
                                          .stop = up_cli_stop_on_signal()};
        code = up_cli_end(up_train(job.config, job.overrides, job.count, &options));
    }
    up_cli_job_free(&job);
    up_arg_list_free(&rest);
    return code;
}
