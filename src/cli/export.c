/* export.c - the command export: a model under the names of the released ones, for PyTorch. */
#include "cli/args.h"
#include "cli/commands.h"
#include "files/onnx.h"
#include "files/released.h"

#include <string.h>

/* For which inputs a graph is made; -1: a name that is none. */
static int onnx_input(const char *name) {
    return !strcmp(name, "text") ? UP_ONNX_TEXT : !strcmp(name, "image") ? UP_ONNX_IMAGE : -1;
}

int up_cmd_export(int argc, char **argv) {
    const char *out = NULL, *onnx = NULL;
    up_arg_list rest = {0};
    const up_arg args[] = {
        {"out", UP_ARG_TEXT, &out, "FILE", "F.pth, or F.safetensors with the same names", 1, 0, 0},
        {"onnx", UP_ARG_TEXT, &onnx, "INPUT", "instead: an ONNX graph of the encoder, of text or of image", 0,
         0, 0},
        {0}};
    const up_usage usage = {"export", "MODEL", "a model under the released models' names", args};
    int code = up_args_read(&usage, argc, argv, &rest);
    if (code == UP_ARGS_GO && rest.count != 1) code = up_args_wrong(&usage, "wanted one MODEL");
    if (code == UP_ARGS_GO && onnx && onnx_input(onnx) < 0)
        code = up_args_wrong(&usage, "--onnx %s: wanted text or image", onnx);
    if (code == UP_ARGS_GO)
        code = up_cli_end(onnx ? up_onnx_export(rest.items[0].value, (up_onnx_input)onnx_input(onnx), out)
                               : up_released_export(rest.items[0].value, out));
    up_arg_list_free(&rest);
    return code;
}
