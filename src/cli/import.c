/* import.c - the command import: a released model's checkpoint as a model of this program. */
#include "cli/args.h"
#include "cli/commands.h"
#include "files/released.h"

int up_cmd_import(int argc, char **argv) {
    int64_t image_size = 0, heads = 0;
    const char *out = NULL;
    up_arg_list rest = {0};
    const up_arg args[] = {
        {"image-size", UP_ARG_WHOLE, &image_size, "N", "pixels a side (default: of the file's grid)", 0, 1,
         8192},
        {"heads", UP_ARG_WHOLE, &heads, "N", "attention heads (default: width / 64)", 0, 1, 1024},
        {"out", UP_ARG_TEXT, &out, "FILE", "the safetensors file to write", 1, 0, 0},
        {0}};
    const up_usage usage = {"import", "FILE", "a released model (.pth or .safetensors) as a model file",
                            args};
    int code = up_args_read(&usage, argc, argv, &rest);
    if (code == UP_ARGS_GO && rest.count != 1) code = up_args_wrong(&usage, "wanted one FILE");
    if (code == UP_ARGS_GO) {
        const up_released_options options = {.image_size = (int)image_size, .heads = (int)heads};
        code = up_cli_end(up_released_import(rest.items[0].value, &options, out));
    }
    up_arg_list_free(&rest);
    return code;
}
