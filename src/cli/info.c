/* info.c - the command info: what a model file, a checkpoint's folder, a picture or a video holds. */
#include "cli/args.h"
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/ranking.h"
#include "data/dataset.h"
#include "data/datasets/reader.h"
#include "files/file.h"
#include "files/json.h"
#include "files/safetensors.h"
#include "files/weights.h"
#include "train/checkpoint.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is told of a file: lines "key: text" as they come, or one JSON object of the same keys. */
typedef struct telling {
    json_t *object; /* NULL: lines */
    int failed;
} telling;

/* One more; the value is given away. */
static void __attribute__((format(printf, 4, 5)))
tell(telling *t, const char *key, json_t *value, const char *format, ...) {
    va_list args;
    if (t->object) {
        t->failed |= json_object_set_new_nocheck(t->object, key, value);
        return;
    }
    json_decref(value);
    va_start(args, format);
    printf("%s: ", key);
    vprintf(format, args);
    printf("\n");
    va_end(args);
}

static void tell_text(telling *t, const char *key, const char *text) {
    tell(t, key, up_json_bytes(text), "%s", text);
}

static void tell_number(telling *t, const char *key, int64_t number) {
    tell(t, key, json_integer(number), "%lld", (long long)number);
}

static void tell_size(telling *t, const up_image *image) {
    tell(t, "size", json_pack("[i,i]", image->width, image->height), "%d x %d", image->width, image->height);
}

static void tell_tasks(telling *t, const up_config *c) {
    char names[1024] = "";
    size_t used = 0;
    json_t *list = json_array();
    for (int i = 0; i < c->tasks; i++) {
        t->failed |= json_array_append_new(list, up_json_bytes(c->task_names[i]));
        if (used < sizeof names)
            used +=
                (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? " " : "", c->task_names[i]);
    }
    tell(t, "tasks", list, "%s", names);
}

static void tell_config(telling *t, const up_config *c) {
    tell_text(t, "preset", c->preset);
    tell_number(t, "layers", c->layers);
    tell_number(t, "width", c->width);
    tell_number(t, "heads", c->heads);
    tell_number(t, "ffn", c->ffn);
    tell_number(t, "vocabulary", c->vocabulary);
    tell_number(t, "text positions", c->text_positions);
    tell(t, "image", json_pack("{s:i,s:i}", "size", c->image_size, "patch", c->patch),
         "%d x %d pixels, patches of %d", c->image_size, c->image_size, c->patch);
    tell(t, "clip", json_pack("{s:i,s:i}", "frames", c->frames, "stride", c->video_stride),
         "%d frames at stride %d", c->frames, c->video_stride);
    tell_number(t, "prompts", c->prompts);
    tell_number(t, "classes", c->classes);
    tell_tasks(t, c);
}

/* The header alone: the weights stay in the file. */
static up_status model_info(telling *t, const char *path) {
    up_status status = UP_OK;
    up_safetensors *file = NULL;
    up_config c;
    int64_t values = 0;
    UP_TRY(up_safetensors_open(path, &file));
    const char *config = up_safetensors_metadata(file, "config");
    const char *targets = up_safetensors_metadata(file, "targets");
    const char *base;
    if (!config)
        UP_GO(up_fail(UP_ERR_FORMAT, path, "has no \"config\" in its metadata: not a model of this program"));
    UP_GO(up_config_from_json(path, config, &c));
    UP_GO(up_weights_base(path, file, &base));
    for (size_t i = 0; i < up_safetensors_count(file); i++) values += up_safetensors_at(file, i)->count;
    tell_text(t, "kind", base ? "overlay" : "model");
    if (base) tell(t, "base", up_json_bytes(base), "a model of weights %s", base);
    tell_config(t, &c);
    tell_number(t, "tensors", (int64_t)up_safetensors_count(file));
    tell_number(t, "values", values);
    tell_text(t, "target set", targets ? "restricted" : "whole vocabulary");
done:
    up_safetensors_close(file);
    return status;
}

/* A folder of src/train/checkpoint.c: its counts, then its model. */
static up_status checkpoint_info(telling *t, const char *folder) {
    static const char *const counts[] = {"step", "updates", "skipped"};
    up_status status = UP_OK;
    char state_path[UP_PATH_SIZE], model_path[UP_PATH_SIZE];
    void *text = NULL;
    size_t size;
    json_t *state = NULL;
    UP_GO(up_checkpoint_path(state_path, folder, "state.json"));
    UP_GO(up_checkpoint_path(model_path, folder, "model.safetensors"));
    UP_GO(up_file_read(state_path, &text, &size));
    UP_GO(up_json_read(state_path, text, size, 0, &state));
    if (!json_is_object(state)) UP_GO(up_fail(UP_ERR_FORMAT, state_path, "wanted a JSON object"));
    tell_text(t, "checkpoint", folder);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        tell_number(t, counts[i], json_integer_value(json_object_get(state, counts[i])));
    UP_GO(model_info(t, model_path));
done:
    json_decref(state);
    free(text);
    return status;
}

static up_status image_info(telling *t, const char *path) {
    up_image image = {0};
    UP_TRY(up_image_read(path, NULL, &image));
    tell_text(t, "kind", "picture");
    tell_size(t, &image);
    up_image_free(&image);
    return UP_OK;
}

static up_status video_info(telling *t, const char *path) {
    int64_t frames;
    up_image first = {0};
    const up_video_clip clip = {.frames = 1, .stride = 1, .start = 0, .fraction = -1};
    UP_TRY(up_video_count(path, &frames));
    UP_TRY(up_video_read(path, &clip, NULL, &first));
    tell_text(t, "kind", "video");
    tell_size(t, &first);
    tell_number(t, "frames", frames);
    up_image_free(&first);
    return UP_OK;
}

/* The values of a sample, below the rest. */
static void tell_sample(telling *t, const up_sample *s) {
    enum { SHOWN = 60 };
    json_t *first = json_object();
    for (size_t i = 0; i < s->count; i++) {
        const char *name = s->memory + s->values[i].name, *text = s->memory + s->values[i].text;
        if (t->object)
            t->failed |= json_object_set_new_nocheck(first, name, up_json_bytes(text));
        else
            printf("  %s: %.*s\n", name, SHOWN, text);
    }
    if (t->object)
        t->failed |= json_object_set_new(t->object, "first", first);
    else
        json_decref(first);
}

/* How many samples, what the first one has, and the classes that the format lists. */
static up_status dataset_info(telling *t, const up_dataset_options *options) {
    up_dataset d;
    up_sample s = {0};
    size_t classes = 0;
    UP_TRY(up_dataset_open(options, &d));
    while (up_dataset_class(&d, classes)) classes++;
    tell_text(t, "kind", "dataset");
    tell_text(t, "format", d.reader->name);
    tell_number(t, "samples", (int64_t)d.count);
    if (classes) tell_number(t, "classes", (int64_t)classes);
    up_status status = up_dataset_sample(&d, 0, &s);
    if (status == UP_OK) tell_sample(t, &s);
    up_sample_free(&s);
    up_dataset_close(&d);
    return status;
}

static up_status index_info(telling *t, const char *path) {
    up_index *index;
    UP_TRY(up_index_open(path, &index));
    up_index_about about = up_index_about_of(index);
    char model[20];
    snprintf(model, sizeof model, "%016llx", (unsigned long long)about.model);
    tell_text(t, "kind", "index");
    tell_number(t, "rows", about.count);
    tell_number(t, "width", about.width);
    tell(t, "model", json_string(model), "of weights %s", model);
    up_index_close(index);
    return UP_OK;
}

static int has_file(const char *folder, const char *name, char path[UP_PATH_SIZE]) {
    return up_checkpoint_path(path, folder, name) == UP_OK && !access(path, F_OK);
}

/* A checkpoint, a run (what it ended with, else its newest checkpoint), or a folder of class folders. */
static up_status folder_info(telling *t, const char *folder, const up_dataset_options *options) {
    char path[UP_PATH_SIZE];
    if (has_file(folder, "state.json", path)) return checkpoint_info(t, folder);
    if (has_file(folder, "model.safetensors", path)) return model_info(t, path);
    if (has_file(folder, "tuned.safetensors", path)) return model_info(t, path);
    UP_TRY(up_checkpoint_newest(folder, path));
    return *path ? checkpoint_info(t, path) : dataset_info(t, options);
}

static up_status info(telling *t, const char *path, up_dataset_options options) {
    unsigned char start[16] = {0};
    struct stat about;
    options.data = path;
    int is_folder = !stat(path, &about) && S_ISDIR(about.st_mode);
    if (options.format || (!is_folder && up_dataset_guess(path))) return dataset_info(t, &options);
    if (is_folder) return folder_info(t, path, &options);
    if (up_cli_is_index(path)) return index_info(t, path);
    int file;
    int64_t bytes;
    UP_TRY(up_file_open(path, &file, &bytes));
    ssize_t size = read(file, start, sizeof start);
    int failed = size < 0 ? errno : 0;
    close(file);
    if (failed) return up_fail(UP_ERR_IO, path, "cannot read: %s", strerror(failed));
    if (!size) return up_fail(UP_ERR_FORMAT, path, "is empty");
    switch (up_cli_kind_of(path, start, (size_t)size)) {
    case UP_FILE_MODEL:
        return model_info(t, path);
    case UP_FILE_IMAGE:
        return image_info(t, path);
    case UP_FILE_VIDEO:
    case UP_FILE_OTHER:
        return video_info(t, path);
    }
    return UP_OK;
}

/* Of each file one object, with its name, in `list`; or lines. */
static up_status tell_file(const char *path, up_dataset_options options, json_t *list) {
    telling t = {.object = list ? json_object() : NULL};
    if (list) tell_text(&t, "file", path);
    up_status status = info(&t, path, options);
    if (list) t.failed |= json_array_append_new(list, t.object);
    if (status != UP_OK || !t.failed) return status;
    return up_fail(UP_ERR_MEMORY, path, "no memory for JSON");
}

int up_cmd_info(int argc, char **argv) {
    up_arg_list rest = {0};
    up_dataset_options options = {0};
    int as_json = 0;
    const up_arg args[] = {
        {"format", UP_ARG_TEXT, &options.format, "NAME", "the files are datasets in this format", 0, 0, 0},
        {"index", UP_ARG_TEXT, &options.index, "FILE", "where the dataset's index is, or is made", 0, 0, 0},
        {"json", UP_ARG_SWITCH, &as_json, NULL, "as JSON, an object a file", 0, 0, 0},
        {0}};
    const up_usage usage = {"info", "FILE...",
                            "print what models, checkpoints, datasets, indices, pictures and videos hold",
                            args};
    int code = up_args_read(&usage, argc, argv, &rest);
    if (code == UP_ARGS_GO && !rest.count) code = up_args_wrong(&usage, "no FILE");
    up_status status = UP_OK;
    json_t *list = as_json ? json_array() : NULL;
    for (int i = 0; code == UP_ARGS_GO && status == UP_OK && i < rest.count; i++)
        status = tell_file(rest.items[i].value, options, list);
    if (code == UP_ARGS_GO && status == UP_OK && list) status = up_cli_print_json(list);
    if (code == UP_ARGS_GO) code = up_cli_end(status);
    json_decref(list);
    up_arg_list_free(&rest);
    return code;
}
