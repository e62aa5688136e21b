/* serve.c - the command serve: a model, and tuned tasks over it, behind HTTP (src/serve/). */
#include "backend_cpu/cpu.h"
#include "cli/commands.h"
#include "cli/inputs.h"
#include "serve/serve.h"

#include <stdlib.h>
#include <string.h>

/* What is served beside the model. */
typedef struct served_files {
    up_arg_list tuned; /* NAME=FILE */
    const char *index;
} served_files;

#ifdef UP_WITH_SERVE
/* "NAME=FILE" as a session over the first one. The name is the flag's own text, cut at the "=". */
static up_status open_tuned(char *value, up_served *models, int *count) {
    char *equals = strchr(value, '=');
    if (!equals || equals == value)
        return up_fail(UP_ERR_ARGUMENT, "--tuned", "\"%.60s\": wanted NAME=FILE", value);
    *equals = 0;
    for (int i = 1; i < *count; i++)
        if (!strcmp(models[i].name, value))
            return up_fail(UP_ERR_ARGUMENT, "--tuned", "two tasks of the name \"%.60s\"", value);
    UP_TRY(up_session_add_tuned(models[0].session, equals + 1, &models[*count].session));
    models[(*count)++].name = value;
    return UP_OK;
}

/* The index, and which of the models made it. */
static up_status open_index(const char *path, const up_served *models, int count, up_index **index,
                            up_session **session) {
    up_status status = UP_OK;
    for (int i = 0; i < count; i++) {
        *session = models[i].session;
        status = up_cli_index_open(path, *session, index);
        if (status != UP_ERR_ARGUMENT) break; /* else of another model */
    }
    return status;
}

static up_status serve(const up_cli_model *model, const served_files *files, up_serve_options *options) {
    const up_arg_list *tuned = &files->tuned;
    up_status status = UP_OK;
    up_index *index = NULL;
    int count = 0;
    up_served *models = calloc((size_t)tuned->count + 1, sizeof *models);
    char **values = calloc((size_t)tuned->count + 1, sizeof *values);
    if (!models || !values) UP_GO(up_fail(UP_ERR_MEMORY, "--tuned", "no memory"));
    UP_GO(up_cli_open(model, &models[0].session));
    models[count++].name = "";
    for (int i = 0; i < tuned->count; i++) {
        values[i] = strdup(tuned->items[i].value);
        if (!values[i]) UP_GO(up_fail(UP_ERR_MEMORY, "--tuned", "no memory"));
        UP_GO(open_tuned(values[i], models, &count));
    }
    if (files->index) {
        UP_GO(open_index(files->index, models, count, &index, &options->search.session));
        options->search.index = index;
        options->search.threads = up_cpu_threads((int)model->threads);
        options->search.pixels_most = options->pixels_most;
    }
    UP_GO(up_serve(models, count, options));
done:
    up_index_close(index);
    while (models && count-- > 0) up_session_close(models[count].session);
    for (int i = 0; values && i < tuned->count; i++) free(values[i]);
    free(values);
    free(models);
    return status;
}
#else
int up_serve_is_loopback(const char *address) {
    (void)address;
    return 1;
}

static up_status serve(const up_cli_model *model, const served_files *files, up_serve_options *options) {
    (void)model;
    (void)files;
    (void)options;
    return up_fail(UP_ERR_UNSUPPORTED, "serve",
                   "this program was built without libmicrohttpd (package libmicrohttpd-dev)");
}
#endif

int up_cmd_serve(int argc, char **argv) {
    up_cli_model model = {.cache = "none"}; /* nothing is written unless a folder is named */
    up_arg_list rest = {0};
    served_files files = {0};
    const char *address = NULL, *token = NULL;
    int64_t port = 8080, body = 32, pixels = 50000000, seconds = 30, waiting = 256, batch = 32, wait_ms = 2;
    const up_arg args[] = {
        {"tuned", UP_ARG_EACH, &files.tuned, "NAME=FILE", "a tuned task that requests may name", 0, 0, 0},
        {"index", UP_ARG_TEXT, &files.index, "FILE", "an index of this model to search in", 0, 0, 0},
        {"port", UP_ARG_WHOLE, &port, "N", "port (default 8080; 0 is any that is free)", 0, 0, 65535},
        {"listen", UP_ARG_TEXT, &address, "ADDRESS", "others may ask, at this address; wants --token", 0, 0,
         0},
        {"token", UP_ARG_TEXT, &token, "TEXT", "wanted of every request as a bearer token", 0, 0, 0},
        {"backend", UP_ARG_TEXT, &model.backend, "NAME", "ref, cpu (default) or cuda", 0, 0, 0},
        {"threads", UP_ARG_WHOLE, &model.threads, "N", "threads; 0, the default, is all cores", 0, 0, 4096},
        {"precision", UP_ARG_TEXT, &model.precision, "TYPE", UP_CLI_PRECISION_HELP, 0, 0, 0},
        {"vocab", UP_ARG_TEXT, &model.vocabulary, "FILE", "merges instead of the built-in ones", 0, 0, 0},
        {"cache", UP_ARG_TEXT, &model.cache, "FOLDER",
         "where the vocabulary's features are kept (default: nowhere)", 0, 0, 0},
        {"max-body", UP_ARG_WHOLE, &body, "MIB", "refuse larger requests (default 32)", 0, 1, 1024},
        {"max-pixels", UP_ARG_WHOLE, &pixels, "N", "refuse larger pictures (default 50000000)", 0, 1,
         INT64_MAX},
        {"max-seconds", UP_ARG_WHOLE, &seconds, "N", "for a request to arrive, and to wait (default 30)", 0,
         1, 3600},
        {"max-waiting", UP_ARG_WHOLE, &waiting, "N", "requests that may wait (default 256)", 0, 1, 100000},
        {"batch", UP_ARG_WHOLE, &batch, "N", "requests answered together (default 32)", 0, 1, 64},
        {"batch-wait", UP_ARG_WHOLE, &wait_ms, "MS", "how long one waits for others (default 2)", 0, 0, 1000},
        {0}};
    const up_usage usage = {"serve", "MODEL", "a page and a JSON interface over HTTP", args};
    int code = up_args_read(&usage, argc, argv, &rest);
    if (code == UP_ARGS_GO && rest.count != 1) code = up_args_wrong(&usage, "wanted one MODEL");
    if (code == UP_ARGS_GO && address && !up_serve_is_loopback(address) && !token)
        code = up_args_wrong(&usage, "--listen %s wants a --token", address);
    if (code == UP_ARGS_GO && token && !*token) code = up_args_wrong(&usage, "--token is empty");
    if (code == UP_ARGS_GO) {
        model.path = rest.items[0].value;
        model.max_pixels = pixels;
        up_serve_options options = {.address = address ? address : "127.0.0.1",
                                    .port = (int)port,
                                    .token = token,
                                    .body_most = (size_t)body << 20,
                                    .pixels_most = pixels,
                                    .seconds = (int)seconds,
                                    .waiting_most = (int)waiting,
                                    .batch_most = (int)batch,
                                    .batch_ms = (int)wait_ms};
        code = up_cli_end(serve(&model, &files, &options));
    }
    up_arg_list_free(&files.tuned);
    up_arg_list_free(&rest);
    return code;
}
