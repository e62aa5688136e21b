/* info.c - the command info: what a model file, a checkpoint's folder, a picture or a video holds. */
#include "cli/args.h"
#include "cli/commands.h"
#include "cli/inputs.h"
#include "data/dataset.h"
#include "data/datasets/reader.h"
#include "files/file.h"
#include "files/json.h"
#include "files/safetensors.h"
#include "files/weights.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void print_config(const up_config *c) {
    printf("preset: %s\n", c->preset);
    printf("layers: %d\nwidth: %d\nheads: %d\nffn: %d\n", c->layers, c->width, c->heads, c->ffn);
    printf("vocabulary: %d\ntext positions: %d\n", c->vocabulary, c->text_positions);
    printf("image: %d x %d pixels, patches of %d\nclip: %d frames at stride %d\n", c->image_size,
           c->image_size, c->patch, c->frames, c->video_stride);
    printf("prompts: %d\nclasses: %d\ntasks:", c->prompts, c->classes);
    for (int i = 0; i < c->tasks; i++) printf(" %s", c->task_names[i]);
    printf("\n");
}

/* The header alone: the weights stay in the file. */
static up_status model_info(const char *path) {
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
    if (base) printf("kind: overlay\nbase: a model of weights %s\n", base);
    if (!base) printf("kind: model\n");
    print_config(&c);
    printf("tensors: %zu\nvalues: %lld\ntarget set: %s\n", up_safetensors_count(file), (long long)values,
           targets ? "restricted" : "whole vocabulary");
done:
    up_safetensors_close(file);
    return status;
}

/* "folder/name", malloc'ed. */
static up_status path_in(const char *folder, const char *name, char **out) {
    size_t room = strlen(folder) + strlen(name) + 2;
    *out = malloc(room);
    if (!*out) return up_fail(UP_ERR_MEMORY, folder, "no memory for its files' names");
    snprintf(*out, room, "%s/%s", folder, name);
    return UP_OK;
}

/* A folder of src/train/checkpoint.c: its counts, then its model. */
static up_status checkpoint_info(const char *folder) {
    static const char *const counts[] = {"step", "updates", "skipped"};
    up_status status = UP_OK;
    char *state_path = NULL, *model_path = NULL;
    void *text = NULL;
    size_t size;
    json_t *state = NULL;
    UP_GO(path_in(folder, "state.json", &state_path));
    UP_GO(path_in(folder, "model.safetensors", &model_path));
    UP_GO(up_file_read(state_path, &text, &size));
    UP_GO(up_json_read(state_path, text, size, 0, &state));
    if (!json_is_object(state)) UP_GO(up_fail(UP_ERR_FORMAT, state_path, "wanted a JSON object"));
    printf("checkpoint: %s\n", folder);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        printf("%s: %lld\n", counts[i], (long long)json_integer_value(json_object_get(state, counts[i])));
    UP_GO(model_info(model_path));
done:
    json_decref(state);
    free(text);
    free(state_path);
    free(model_path);
    return status;
}

static up_status image_info(const char *path) {
    up_image image = {0};
    UP_TRY(up_image_read(path, NULL, &image));
    printf("kind: picture\nsize: %d x %d\n", image.width, image.height);
    up_image_free(&image);
    return UP_OK;
}

static up_status video_info(const char *path) {
    int64_t frames;
    up_image first = {0};
    const up_video_clip clip = {.frames = 1, .stride = 1, .start = 0, .fraction = -1};
    UP_TRY(up_video_count(path, &frames));
    UP_TRY(up_video_read(path, &clip, NULL, &first));
    printf("kind: video\nsize: %d x %d\nframes: %lld\n", first.width, first.height, (long long)frames);
    up_image_free(&first);
    return UP_OK;
}

/* How many samples, what the first one has, and the classes that the format lists. */
static up_status dataset_info(const up_dataset_options *options) {
    enum { SHOWN = 60 };
    up_dataset d;
    up_sample s = {0};
    size_t classes = 0;
    UP_TRY(up_dataset_open(options, &d));
    while (up_dataset_class(&d, classes)) classes++;
    printf("kind: dataset\nformat: %s\nsamples: %zu\n", d.reader->name, d.count);
    if (classes) printf("classes: %zu\n", classes);
    up_status status = up_dataset_sample(&d, 0, &s);
    for (size_t i = 0; status == UP_OK && i < s.count; i++)
        printf("  %s: %.*s\n", s.memory + s.values[i].name, SHOWN, s.memory + s.values[i].text);
    up_sample_free(&s);
    up_dataset_close(&d);
    return status;
}

static up_status info(const char *path, up_dataset_options options) {
    unsigned char start[16] = {0};
    struct stat about;
    options.data = path;
    int is_folder = !stat(path, &about) && S_ISDIR(about.st_mode);
    if (options.format || (!is_folder && up_dataset_guess(path))) return dataset_info(&options);
    if (is_folder) return checkpoint_info(path);
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
        return model_info(path);
    case UP_FILE_IMAGE:
        return image_info(path);
    case UP_FILE_VIDEO:
    case UP_FILE_OTHER:
        return video_info(path);
    }
    return UP_OK;
}

int up_cmd_info(int argc, char **argv) {
    up_arg_list rest = {0};
    up_dataset_options options = {0};
    const up_arg args[] = {
        {"format", UP_ARG_TEXT, &options.format, "NAME", "the files are datasets in this format", 0, 0, 0},
        {"index", UP_ARG_TEXT, &options.index, "FILE", "where the dataset's index is, or is made", 0, 0, 0},
        {0}};
    const up_usage usage = {"info", "FILE...",
                            "print what models, checkpoints, datasets, pictures and videos hold", args};
    int code = up_args_read(&usage, argc, argv, &rest);
    if (code == UP_ARGS_GO && !rest.count) code = up_args_wrong(&usage, "no FILE");
    up_status status = UP_OK;
    for (int i = 0; code == UP_ARGS_GO && status == UP_OK && i < rest.count; i++)
        status = info(rest.items[i].value, options);
    if (code == UP_ARGS_GO) code = up_cli_end(status);
    up_arg_list_free(&rest);
    return code;
}
