/* eval.c - the command eval: the evaluations of a configuration file on one model. */
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/job.h"
#include "uniperceiver/train.h"

/* The flag is short for precision=TYPE. */
static int override_precision(up_cli_job *job, const char *precision) {
    up_dtype dtype;
    up_status status = up_cli_precision(precision, &dtype);
    if (status == UP_OK) status = up_cli_job_set(job, "precision", precision);
    return status == UP_OK ? UP_ARGS_GO : up_cli_end(status);
}

int up_cmd_eval(int argc, char **argv) {
    up_arg_list rest = {0};
    up_cli_job job = {0};
    const char *backend = NULL, *model = NULL, *tuned = NULL, *json = NULL, *precision = NULL, *cache = NULL;
    int64_t threads = 0;
    int quiet = 0;
    const up_arg args[] = {
        {"model", UP_ARG_TEXT, &model, "FILE", "model to evaluate (default: what the run made)", 0, 0, 0},
        {"tuned", UP_ARG_TEXT, &tuned, "FILE", "a tuned task to lay over the model", 0, 0, 0},
        {"json", UP_ARG_TEXT, &json, "FILE", "where the numbers go (default: the run's metrics.json)", 0, 0,
         0},
        {"backend", UP_ARG_TEXT, &backend, "NAME", "ref, cpu (default) or cuda", 0, 0, 0},
        {"threads", UP_ARG_WHOLE, &threads, "N", "threads; 0, the default, is all cores", 0, 0, 4096},
        {"precision", UP_ARG_TEXT, &precision, "TYPE",
         "of the activations: f32, bf16 or f16 (default: the configuration's)", 0, 0, 0},
        {"cache", UP_ARG_TEXT, &cache, "FOLDER", UP_CLI_CACHE_HELP, 0, 0, 0},
        {"quiet", UP_ARG_SWITCH, &quiet, NULL, "no progress on stderr", 0, 0, 0},
        {0}};
    const up_usage usage = {"eval", "CONFIG [key=value...]", "evaluate a model, as a table", args};
    int code = up_args_read(&usage, argc, argv, &rest);
    if (code == UP_ARGS_GO) code = up_cli_job_read(&usage, &rest, &job);
    if (code == UP_ARGS_GO && precision) code = override_precision(&job, precision);
    if (code == UP_ARGS_GO) {
        const up_train_options options = {.backend = backend,
                                          .threads = (int)threads,
                                          .quiet = quiet,
                                          .stop = up_cli_stop_on_signal(),
                                          .tuned = tuned,
                                          .cache = cache};
        code = up_cli_end(up_evaluate(job.config, job.overrides, job.count, &options, model, json));
    }
    up_cli_job_free(&job);
    up_arg_list_free(&rest);
    return code;
}
