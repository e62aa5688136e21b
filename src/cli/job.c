/* job.c - arguments and signals of long work. */
#include "cli/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int up_cli_job_read(const up_usage *usage, const up_arg_list *rest, up_cli_job *out) {
    *out = (up_cli_job){0};
    if (!rest->count) return up_args_wrong(usage, "no CONFIG");
    for (int i = 1; i < rest->count; i++)
        if (!strchr(rest->items[i].value, '='))
            return up_args_wrong(usage, "\"%s\"; wanted key=value", rest->items[i].value);
    out->config = rest->items[0].value;
    out->overrides = malloc(((size_t)rest->count + UP_CLI_SET) * sizeof *out->overrides);
    if (!out->overrides) return up_args_wrong(usage, "no memory");
    for (int i = 1; i < rest->count; i++) out->overrides[out->count++] = rest->items[i].value;
    return UP_ARGS_GO;
}

up_status up_cli_job_set(up_cli_job *job, const char *key, const char *value) {
    char *text = NULL;
    if (job->set_count == UP_CLI_SET || asprintf(&text, "%s=%s", key, value) < 0)
        return up_fail(UP_ERR_MEMORY, key, "no memory for its value");
    job->set[job->set_count++] = text;
    job->overrides[job->count++] = text;
    return UP_OK;
}

void up_cli_job_free(up_cli_job *job) {
    while (job->set_count) free(job->set[--job->set_count]);
    free(job->overrides);
    *job = (up_cli_job){0};
}

static volatile sig_atomic_t stop;

static void set_stop(int signal_number) {
    (void)signal_number;
    stop = 1;
}

volatile sig_atomic_t *up_cli_stop_on_signal(void) {
    struct sigaction action = {.sa_handler = set_stop, .sa_flags = (int)(SA_RESETHAND | SA_RESTART)};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL); /* what mpirun passes on to all ranks */
    return &stop;
}
