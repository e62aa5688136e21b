/* weights.c - models as safetensors files: one tensor for each row of the parameter table
 * (ref/model/params.c), the configuration and the target set as JSON in the metadata. */
#include "files/weights.h"
#include "files/safetensors.h"
#include "ref/model/run.h"

#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* --- configuration <-> JSON --- */

enum field_type { TEXT, WHOLE, REAL };
typedef struct field {
    const char *name;
    size_t offset;
    enum field_type type;
    int optional; /* 1: it has a fallback, see fill_in */
} field;

#define FIELD(name, type, optional)                                                                          \
    { #name, offsetof(up_config, name), type, optional }
static const field fields[] = {
    FIELD(preset, TEXT, 0),
    FIELD(layers, WHOLE, 0),
    FIELD(width, WHOLE, 0),
    FIELD(heads, WHOLE, 0),
    FIELD(ffn, WHOLE, 0),
    FIELD(vocabulary, WHOLE, 0),
    FIELD(text_positions, WHOLE, 0),
    FIELD(image_size, WHOLE, 0),
    FIELD(patch, WHOLE, 0),
    FIELD(frames, WHOLE, 0),
    FIELD(image_resize, WHOLE, 1),
    FIELD(video_resize, WHOLE, 1),
    FIELD(video_stride, WHOLE, 1),
    FIELD(frames_as_images, WHOLE, 1),
    FIELD(shared_norm, WHOLE, 0),
    FIELD(image_time, WHOLE, 0),
    FIELD(visual_type, WHOLE, 0),
    FIELD(fixed_space, WHOLE, 0),
    FIELD(output_head, WHOLE, 0),
    FIELD(layer_scale, WHOLE, 0),
    FIELD(layer_scale_init, REAL, 0),
    FIELD(patch_position_init, REAL, 1),
    FIELD(branch_init, REAL, 1),
    FIELD(drop_path, REAL, 0),
    FIELD(prompts, WHOLE, 0),
    FIELD(prompt_sides, WHOLE, 0),
    FIELD(classes, WHOLE, 0),
    FIELD(initial_temperature, REAL, 0),
};
enum { FIELDS = sizeof fields / sizeof fields[0] };
static const char task_key[] = "tasks";

static const void *at(const up_config *config, const field *f) {
    return (const char *)config + f->offset;
}

static json_t *field_to_json(const up_config *config, const field *f) {
    switch (f->type) {
    case TEXT:
        return json_string(at(config, f));
    case WHOLE:
        return json_integer(*(const int *)at(config, f));
    case REAL:
        return json_real(*(const double *)at(config, f));
    }
    return NULL;
}

up_status up_config_to_json(const up_config *config, char **text) {
    int failed = 0;
    json_t *object = json_object(), *tasks = json_array();
    for (int i = 0; i < FIELDS; i++)
        failed |= json_object_set_new(object, fields[i].name, field_to_json(config, &fields[i]));
    for (int i = 0; i < config->tasks; i++)
        failed |= json_array_append_new(tasks, json_string(config->task_names[i]));
    failed |= json_object_set_new(object, task_key, tasks);
    *text = failed ? NULL : json_dumps(object, JSON_COMPACT);
    json_decref(object);
    return *text ? UP_OK
                 : up_fail(UP_ERR_MEMORY, "configuration", "no memory for its text, or a name is not UTF-8");
}

static up_status read_name(const char *what, const char *key, const json_t *value, char *out) {
    const char *name = json_string_value(value);
    if (!name || !*name || strlen(name) >= UP_NAME_SIZE)
        return up_fail(UP_ERR_FORMAT, what, "%s: wanted a name of 1 to %d bytes", key, UP_NAME_SIZE - 1);
    strcpy(out, name);
    return UP_OK;
}

static up_status read_field(const char *what, const json_t *object, const field *f, up_config *config) {
    const json_t *value = json_object_get(object, f->name);
    void *to = (char *)config + f->offset;
    if (!value && f->optional) return UP_OK;
    if (!value) return up_fail(UP_ERR_FORMAT, what, "%s is missing", f->name);
    switch (f->type) {
    case TEXT:
        return read_name(what, f->name, value, to);
    case WHOLE:
        if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > INT_MAX)
            return up_fail(UP_ERR_FORMAT, what, "%s: wanted a whole number from 0", f->name);
        *(int *)to = (int)json_integer_value(value);
        return UP_OK;
    case REAL:
        if (!json_is_number(value)) return up_fail(UP_ERR_FORMAT, what, "%s: wanted a number", f->name);
        *(double *)to = json_number_value(value);
        return UP_OK;
    }
    return UP_OK;
}

static up_status read_tasks(const char *what, const json_t *tasks, up_config *config) {
    size_t count = json_array_size(tasks);
    if (!json_is_array(tasks) || !count || count > UP_MAX_TASKS)
        return up_fail(UP_ERR_FORMAT, what, "%s: wanted a list of 1 to %d names", task_key, UP_MAX_TASKS);
    for (; config->tasks < (int)count; config->tasks++) {
        char *name = config->task_names[config->tasks];
        UP_TRY(read_name(what, task_key, json_array_get(tasks, (size_t)config->tasks), name));
        if (up_config_task(config, name) >= 0) return up_fail(UP_ERR_FORMAT, what, "task \"%s\" twice", name);
    }
    return UP_OK;
}

static up_status refuse_unknown(const char *what, json_t *object) {
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        int i = 0;
        while (i < FIELDS && strcmp(fields[i].name, key)) i++;
        if (i == FIELDS && strcmp(key, task_key))
            return up_fail(UP_ERR_FORMAT, what, "unknown field \"%.60s\"", key);
    }
    return UP_OK;
}

/* Pixels that are not cut and frames that are not skipped. */
static void fill_in(up_config *config) {
    if (!config->image_resize) config->image_resize = config->image_size;
    if (!config->video_resize) config->video_resize = config->image_size;
    if (!config->video_stride) config->video_stride = 1;
}

up_status up_config_from_json(const char *name, const char *text, up_config *out) {
    up_status status = UP_OK;
    char what[512];
    json_error_t error;
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    snprintf(what, sizeof what, "%s: configuration", name);
    memset(out, 0, sizeof *out);
    if (!json_is_object(object))
        UP_GO(up_fail(UP_ERR_FORMAT, what, "%s", object ? "wanted an object" : error.text));
    UP_GO(refuse_unknown(what, object));
    for (int i = 0; i < FIELDS; i++) UP_GO(read_field(what, object, &fields[i], out));
    UP_GO(read_tasks(what, json_object_get(object, task_key), out));
    fill_in(out);
    if (up_config_check(out) != UP_OK) UP_GO(up_fail(UP_ERR_FORMAT, what, "%s", up_last_error()));
done:
    json_decref(object);
    return status;
}

/* --- target set <-> JSON --- */

static up_status targets_to_json(const up_model *model, char **text) {
    int failed = 0;
    json_t *list = json_array();
    for (int i = 0; i < model->target_count; i++)
        failed |= json_array_append_new(list, json_integer(model->targets[i]));
    *text = failed ? NULL : json_dumps(list, JSON_COMPACT);
    json_decref(list);
    return *text ? UP_OK : up_fail(UP_ERR_MEMORY, "target set", "no memory for its text");
}

static up_status read_targets(const char *path, const char *text, up_model *model) {
    up_status status = UP_OK;
    char what[512];
    int32_t *ids = NULL;
    json_t *list = json_loads(text, 0, NULL);
    size_t count = json_array_size(list);
    snprintf(what, sizeof what, "%s: target set", path);
    if (!json_is_array(list) || !count || count > (size_t)model->config.vocabulary)
        UP_GO(up_fail(UP_ERR_FORMAT, what, "wanted a list of 1 to %d ids", model->config.vocabulary));
    ids = malloc(count * sizeof *ids);
    if (!ids) UP_GO(up_fail(UP_ERR_MEMORY, what, "%zu ids wanted", count));
    for (size_t i = 0; i < count; i++) {
        json_int_t id =
            json_is_integer(json_array_get(list, i)) ? json_integer_value(json_array_get(list, i)) : -1;
        ids[i] = id < 0 || id >= model->config.vocabulary ? -1 : (int32_t)id; /* -1 is refused below */
    }
    if (up_model_set_targets(model, ids, (int)count) != UP_OK)
        UP_GO(up_fail(UP_ERR_FORMAT, path, "%s", up_last_error()));
done:
    free(ids);
    json_decref(list);
    return status;
}

/* --- tensors --- */

/* Vectors are stored as [n], but tables of one embedding as [1, n]. */
static int stored_as_vector(const up_param *p) {
    size_t length = strlen(p->name), ending = strlen(".type.weight");
    return p->rows == 1 && !(length >= ending && !strcmp(p->name + length - ending, ".type.weight"));
}

static up_status check_tensor(const char *path, const up_param *p, const up_safetensor *t) {
    char what[512];
    snprintf(what, sizeof what, "%s: %s", path, p->name);
    if (!t) return up_fail(UP_ERR_FORMAT, what, "is missing");
    int fits = t->ndim == 2 ? t->shape[0] == p->rows && t->shape[1] == p->cols
                            : t->ndim == 1 && p->rows == 1 && t->shape[0] == p->cols;
    if (!fits) {
        char shape[160] = "";
        for (int d = 0; d < t->ndim; d++)
            snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%lld", d ? ", " : "",
                     (long long)t->shape[d]);
        return up_fail(UP_ERR_FORMAT, what, "has shape [%s]; wanted [%lld, %lld]", shape, (long long)p->rows,
                       (long long)p->cols);
    }
    if (t->type != UP_ST_F32 && t->type != UP_ST_F16 && t->type != UP_ST_BF16 && t->type != UP_ST_F64)
        return up_fail(UP_ERR_FORMAT, what, "holds %s; wanted F32, F16, BF16 or F64",
                       up_safetensors_type_name(t->type));
    return UP_OK;
}

/* Every parameter once, nothing else: before any memory for the model is taken. */
static up_status check_tensors(const char *path, const up_safetensors *file, const up_params *params) {
    for (int i = 0; i < params->count; i++)
        UP_TRY(check_tensor(path, &params->list[i], up_safetensors_find(file, params->list[i].name)));
    for (size_t i = 0; i < up_safetensors_count(file); i++) {
        const char *name = up_safetensors_at(file, i)->name;
        if (up_params_find(params, name) < 0)
            return up_fail(UP_ERR_FORMAT, path, "tensor \"%.200s\" is not of this model", name);
    }
    return UP_OK;
}

static int64_t largest(const up_params *params) {
    int64_t most = 0;
    for (int i = 0; i < params->count; i++) {
        int64_t count = params->list[i].rows * params->list[i].cols;
        if (count > most) most = count;
    }
    return most;
}

/* From the map to the backend: f32 directly, other types through `room`, memory for one tensor. */
static up_status upload_tensors(up_model *model, const up_safetensors *file) {
    up_status status = UP_OK;
    up_backend *b = model->backend;
    float *room = NULL;
    for (int i = 0; i < model->params.count; i++) {
        const up_safetensor *t = up_safetensors_find(file, model->params.list[i].name);
        const void *data = t->data;
        if (t->type != UP_ST_F32 || (uintptr_t)data % sizeof(float)) {
            if (!room) room = malloc((size_t)largest(&model->params) * sizeof *room);
            if (!room) UP_GO(up_fail(UP_ERR_MEMORY, t->name, "%zu bytes wanted to convert it", t->bytes));
            UP_GO(up_safetensor_to_f32(t, room));
            data = room;
        }
        UP_GO(b->ops->upload(b, up_model_weight(model, i), data));
    }
done:
    free(room);
    return status;
}

static up_status choose_config(const char *path, const up_safetensors *file, const up_config *given,
                               up_config *out) {
    const char *text = up_safetensors_metadata(file, "config");
    if (given) {
        *out = *given;
        return up_config_check(out);
    }
    if (!text)
        return up_fail(UP_ERR_FORMAT, path, "has no \"config\" in its metadata: not a model of this program");
    return up_config_from_json(path, text, out);
}

up_status up_model_read_with(up_backend *backend, const char *path, const up_config *config, up_model **out) {
    up_status status = UP_OK;
    up_safetensors *file = NULL;
    up_model *model = calloc(1, sizeof *model);
    *out = NULL;
    if (!model) return up_fail(UP_ERR_MEMORY, path, "no memory for a model");
    model->backend = backend;
    UP_GO(up_safetensors_open(path, &file));
    UP_GO(choose_config(path, file, config, &model->config));
    UP_GO(up_params_build(&model->config, &model->params));
    UP_GO(check_tensors(path, file, &model->params));
    UP_GO(backend->ops->alloc(backend, (size_t)model->params.total * sizeof(float), &model->weights));
    UP_GO(backend->ops->fill(backend, up_view_at(model->weights, UP_F32, 0, 1, model->params.total),
                             0)); /* padding */
    UP_GO(upload_tensors(model, file));
    const char *targets = up_safetensors_metadata(file, "targets");
    if (targets) UP_GO(read_targets(path, targets, model));
    *out = model;
    model = NULL;
done:
    up_safetensors_close(file);
    up_model_destroy(model);
    return status;
}

up_status up_model_read(up_backend *backend, const char *path, up_model **out) {
    return up_model_read_with(backend, path, NULL, out);
}

static up_status put_tensors(up_model *model, up_safetensors_writer *writer) {
    up_status status = UP_OK;
    up_backend *b = model->backend;
    float *room = malloc((size_t)largest(&model->params) * sizeof *room);
    if (!room) return up_fail(UP_ERR_MEMORY, "model", "no memory for its largest tensor");
    for (int i = 0; i < model->params.count; i++) {
        const up_param *p = &model->params.list[i];
        UP_GO(b->ops->download(b, room, up_model_weight(model, i)));
        UP_GO(up_safetensors_put(writer, room, (size_t)(p->rows * p->cols) * sizeof *room));
    }
done:
    free(room);
    return status;
}

up_status up_model_write(up_model *model, const char *path) {
    up_status status = UP_OK;
    char *config = NULL, *targets = NULL;
    up_safetensors_writer *writer = NULL;
    const up_params *params = &model->params;
    up_safetensor *specs = calloc((size_t)params->count, sizeof *specs);
    if (!specs) return up_fail(UP_ERR_MEMORY, path, "no memory for its header");
    for (int i = 0; i < params->count; i++) {
        const up_param *p = &params->list[i];
        int vector = stored_as_vector(p);
        specs[i] = (up_safetensor){.name = p->name,
                                   .type = UP_ST_F32,
                                   .ndim = vector ? 1 : 2,
                                   .shape = {vector ? p->cols : p->rows, p->cols}};
    }
    UP_GO(up_config_to_json(&model->config, &config));
    UP_GO(targets_to_json(model, &targets));
    const char *const metadata[][2] = {{"format", "uniperceiver"}, {"config", config}, {"targets", targets}};
    UP_GO(up_safetensors_begin(path, metadata, model->target_count ? 3 : 2, specs, (size_t)params->count,
                               &writer));
    UP_GO(put_tensors(model, writer));
    status = up_safetensors_commit(writer);
    writer = NULL;
done:
    up_safetensors_abort(writer);
    free(specs);
    free(config);
    free(targets);
    return status;
}
