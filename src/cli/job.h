/* job.h - what train and eval share: "CONFIG key=value...", and being stopped by a signal. */
#ifndef UP_CLI_JOB_H
#define UP_CLI_JOB_H

#include "cli/args.h"
#include "uniperceiver/status.h"

#include <signal.h>
#include <stddef.h>

enum { UP_CLI_SET = 4 };

typedef struct up_cli_job {
    const char *config, **overrides;
    size_t count;
    char *set[UP_CLI_SET]; /* of the overrides, those that flags made */
    size_t set_count;
} up_cli_job;

/* From the arguments behind the flags: UP_ARGS_GO, or the exit code to end with. Free with up_cli_job_free.
 */
int up_cli_job_read(const up_usage *usage, const up_arg_list *rest, up_cli_job *out);
/* A flag that is short for key=value, behind what else is given; UP_CLI_SET of them at most. */
up_status up_cli_job_set(up_cli_job *job, const char *key, const char *value);
void up_cli_job_free(up_cli_job *job);

/* A flag that the first SIGINT or SIGTERM sets, so that the work ends at a safe point; a second one ends the
 * program. */
volatile sig_atomic_t *up_cli_stop_on_signal(void);

#endif
