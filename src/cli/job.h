/* job.h - what train and eval share: "CONFIG key=value...", and being stopped by a signal. */
#ifndef UP_CLI_JOB_H
#define UP_CLI_JOB_H

#include "cli/args.h"

#include <signal.h>
#include <stddef.h>

typedef struct up_cli_job {
    const char *config, **overrides;
    size_t count;
} up_cli_job;

/* From the arguments behind the flags: UP_ARGS_GO, or the exit code to end with. Free `overrides`. */
int up_cli_job_read(const up_usage *usage, const up_arg_list *rest, up_cli_job *out);

/* A flag that the first SIGINT or SIGTERM sets, so that the work ends at a safe point; a second one ends the
 * program. */
volatile sig_atomic_t *up_cli_stop_on_signal(void);

#endif
