/* init.c - the command init: a fresh model as a file, or a fresh overlay on one: a task before it is tuned.
 */
#include "cli/args.h"
#include "cli/commands.h"
#include "uniperceiver/model.h"

typedef struct plan {
    const char *preset, *over;
    int64_t seed, prompts, sides, classes;
} plan;

static up_status write_model(const plan *p, up_backend *backend, const char *path) {
    up_config config;
    up_model *model = NULL;
    UP_TRY(up_config_preset(p->preset, &config));
    config.prompts = (int)p->prompts;
    config.classes = (int)p->classes;
    if (p->sides) config.prompt_sides = (int)p->sides;
    UP_TRY(up_model_create(backend, &config, (uint64_t)p->seed, &model));
    up_status status = up_model_write(model, path);
    up_model_destroy(model);
    return status;
}

static up_status write_overlay(const plan *p, up_backend *backend, const char *path) {
    up_model *base = NULL, *overlay = NULL;
    up_status status = UP_OK;
    UP_GO(up_model_read(backend, p->over, &base));
    int sides = p->sides ? (int)p->sides : up_model_config(base)->prompt_sides;
    UP_GO(up_overlay_create(base, (int)p->prompts, sides, (int)p->classes, (uint64_t)p->seed, &overlay));
    UP_GO(up_model_write(overlay, path));
done:
    up_model_destroy(overlay);
    up_model_destroy(base);
    return status;
}

int up_cmd_init(int argc, char **argv) {
    plan p = {0};
    const char *path = NULL;
    const up_arg args[] = {
        {"preset", UP_ARG_TEXT, &p.preset, "NAME", "base, large, tiny, released-base or released-large,", 0,
         0, 0},
        {"over", UP_ARG_TEXT, &p.over, "FILE", "or the model under an overlay: a task that is to be tuned", 0,
         0, 0},
        {"seed", UP_ARG_WHOLE, &p.seed, "S", "chooses the random values", 1, 0, INT64_MAX},
        {"prompts", UP_ARG_WHOLE, &p.prompts, "P", "prompt tokens a layer and side (default 0)", 0, 0, 4096},
        {"prompt-sides", UP_ARG_WHOLE, &p.sides, "N", "2: inputs and targets have their own; 1: they share",
         0, 1, 2},
        {"classes", UP_ARG_WHOLE, &p.classes, "K", "classes of a linear head (default 0: none)", 0, 0,
         1 << 24},
        {"out", UP_ARG_TEXT, &path, "FILE", "the file to write", 1, 0, 0},
        {0}};
    const up_usage usage = {"init", "", "write a fresh model, or an overlay on one, as safetensors", args};
    int code = up_args_read(&usage, argc, argv, NULL);
    if (code == UP_ARGS_GO && !p.preset == !p.over)
        code = up_args_wrong(&usage, "wanted one of --preset and --over");
    if (code != UP_ARGS_GO) return code;
    up_backend *backend = NULL;
    up_status status = up_backend_create("ref", 1, &backend);
    if (status == UP_OK)
        status = p.preset ? write_model(&p, backend, path) : write_overlay(&p, backend, path);
    up_backend_free(backend);
    return up_cli_end(status);
}
