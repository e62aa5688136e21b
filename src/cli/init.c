/* init.c - the command init: a fresh model as a file. */
#include "cli/args.h"
#include "cli/commands.h"
#include "uniperceiver/model.h"

int up_cmd_init(int argc, char **argv) {
    const char *preset = NULL, *path = NULL;
    int64_t seed = 0;
    const up_arg args[] = {{"preset", UP_ARG_TEXT, &preset, "NAME",
                            "base, large, tiny, released-base or released-large", 1, 0, 0},
                           {"seed", UP_ARG_WHOLE, &seed, "S", "chooses the random values", 1, 0, INT64_MAX},
                           {"out", UP_ARG_TEXT, &path, "FILE", "the model to write", 1, 0, 0},
                           {0}};
    const up_usage usage = {"init", "", "write a fresh model as safetensors", args};
    int code = up_args_read(&usage, argc, argv, NULL);
    if (code != UP_ARGS_GO) return code;
    up_status status;
    up_config config;
    up_backend *backend = NULL;
    up_model *model = NULL;
    UP_GO(up_config_preset(preset, &config));
    UP_GO(up_backend_create("ref", 1, &backend));
    UP_GO(up_model_create(backend, &config, (uint64_t)seed, &model));
    UP_GO(up_model_write(model, path));
done:
    up_model_destroy(model);
    up_backend_free(backend);
    return up_cli_end(status);
}
