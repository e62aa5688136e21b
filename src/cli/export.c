/* export.c - the command export: a model under the names of the released ones, for PyTorch. */
#include "cli/args.h"
#include "cli/commands.h"
#include "files/released.h"

static up_status export_model(const char *path, const char *out) {
    up_status status = UP_OK;
    up_backend *backend = NULL;
    up_model *model = NULL;
    UP_GO(up_backend_create("ref", 1, &backend));
    UP_GO(up_model_map(backend, path, &model));
    UP_GO(up_released_export(model, out));
done:
    up_model_destroy(model);
    up_backend_free(backend);
    return status;
}

int up_cmd_export(int argc, char **argv) {
    const char *out = NULL;
    up_arg_list rest = {0};
    const up_arg args[] = {
        {"out", UP_ARG_TEXT, &out, "FILE", "F.pth, or F.safetensors with the same names", 1, 0, 0}, {0}};
    const up_usage usage = {"export", "MODEL", "a model under the released models' names", args};
    int code = up_args_read(&usage, argc, argv, &rest);
    if (code == UP_ARGS_GO && rest.count != 1) code = up_args_wrong(&usage, "wanted one MODEL");
    if (code == UP_ARGS_GO) code = up_cli_end(export_model(rest.items[0].value, out));
    up_arg_list_free(&rest);
    return code;
}
