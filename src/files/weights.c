/* weights.c - models as safetensors files: one tensor for each row of the parameter table
 * (ref/model/params.c), the configuration and the target set as JSON in the metadata. An overlay's file has
 * its own tensors alone, and the fingerprint of the base's, which it cannot do without. */
#include "files/weights.h"
#include "files/digest.h"
#include "files/json.h"
#include "files/safetensors.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- configuration <-> JSON --- */

static const char task_key[] = "tasks";

static const void *at(const up_config *config, const up_config_field *f) {
    return (const char *)config + f->offset;
}

static int same_field(const up_config_field *f, const up_config *a, const up_config *b) {
    switch (f->type) {
    case UP_FIELD_NAME:
        return !strcmp(at(a, f), at(b, f));
    case UP_FIELD_WHOLE:
        return *(const int *)at(a, f) == *(const int *)at(b, f);
    case UP_FIELD_REAL:
        return *(const double *)at(a, f) == *(const double *)at(b, f);
    }
    return 0;
}

static json_t *field_to_json(const up_config *config, const up_config_field *f) {
    switch (f->type) {
    case UP_FIELD_NAME:
        return json_string(at(config, f));
    case UP_FIELD_WHOLE:
        return json_integer(*(const int *)at(config, f));
    case UP_FIELD_REAL:
        return json_real(*(const double *)at(config, f));
    }
    return NULL;
}

up_status up_config_to_json(const up_config *config, char **text) {
    int failed = 0;
    json_t *object = json_object(), *tasks = json_array();
    for (const up_config_field *f = up_config_fields; f->name; f++)
        failed |= json_object_set_new(object, f->name, field_to_json(config, f));
    for (int i = 0; i < config->tasks; i++)
        failed |= json_array_append_new(tasks, json_string(config->task_names[i]));
    failed |= json_object_set_new(object, task_key, tasks);
    *text = NULL;
    size_t length;
    up_status status =
        failed ? up_fail(UP_ERR_MEMORY, "configuration", "no memory for its text, or a name is not UTF-8")
               : up_json_write("configuration", object, JSON_COMPACT, text, &length);
    json_decref(object);
    return status;
}

/* Names are shown: what would steer a terminal is no part of one. */
static int is_plain(const char *name) {
    char shown[4 * UP_NAME_SIZE];
    return up_printable(name, strlen(name), shown, sizeof shown) == strlen(name) && !strcmp(shown, name);
}

static up_status read_name(const char *what, const char *key, const json_t *value, char *out) {
    const char *name = json_string_value(value);
    if (!name || !*name || strlen(name) >= UP_NAME_SIZE)
        return up_fail(UP_ERR_FORMAT, what, "%s: wanted a name of 1 to %d bytes", key, UP_NAME_SIZE - 1);
    if (!is_plain(name)) return up_fail(UP_ERR_FORMAT, what, "%s: a control character in \"%s\"", key, name);
    strcpy(out, name);
    return UP_OK;
}

static up_status read_field(const char *what, const json_t *object, const up_config_field *f,
                            up_config *config) {
    const json_t *value = json_object_get(object, f->name);
    void *to = (char *)config + f->offset;
    if (!value && f->newer) return UP_OK;
    if (!value) return up_fail(UP_ERR_FORMAT, what, "%s is missing", f->name);
    switch (f->type) {
    case UP_FIELD_NAME:
        return read_name(what, f->name, value, to);
    case UP_FIELD_WHOLE:
        if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > INT_MAX)
            return up_fail(UP_ERR_FORMAT, what, "%s: wanted a whole number from 0", f->name);
        *(int *)to = (int)json_integer_value(value);
        return UP_OK;
    case UP_FIELD_REAL:
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
        if (!up_config_field_named(key) && strcmp(key, task_key))
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
    json_t *object;
    snprintf(what, sizeof what, "%s: configuration", name);
    memset(out, 0, sizeof *out);
    UP_TRY(up_json_read(what, text, strlen(text), JSON_REJECT_DUPLICATES, &object));
    if (!json_is_object(object)) UP_GO(up_fail(UP_ERR_FORMAT, what, "wanted an object"));
    UP_GO(refuse_unknown(what, object));
    for (const up_config_field *f = up_config_fields; f->name; f++) UP_GO(read_field(what, object, f, out));
    UP_GO(read_tasks(what, json_object_get(object, task_key), out));
    fill_in(out);
    if (up_config_check(out) != UP_OK) UP_GO(up_fail(UP_ERR_FORMAT, what, "%s", up_last_error()));
done:
    json_decref(object);
    return status;
}

/* --- target set <-> JSON --- */

static up_status targets_to_json(const up_model *model, char **text) {
    int failed = 0, count;
    const int32_t *ids = up_model_targets(model, &count);
    json_t *list = json_array();
    for (int i = 0; i < count; i++) failed |= json_array_append_new(list, json_integer(ids[i]));
    *text = NULL;
    size_t length;
    up_status status = failed ? up_fail(UP_ERR_MEMORY, "target set", "no memory for its text")
                              : up_json_write("target set", list, JSON_COMPACT, text, &length);
    json_decref(list);
    return status;
}

static up_status read_targets(const char *path, const char *text, up_model *model) {
    up_status status = UP_OK;
    char what[512];
    int vocabulary = up_model_config(model)->vocabulary;
    int32_t *ids = NULL;
    json_t *list;
    snprintf(what, sizeof what, "%s: target set", path);
    UP_TRY(up_json_read(what, text, strlen(text), 0, &list));
    size_t count = json_array_size(list);
    if (!json_is_array(list) || !count || count > (size_t)vocabulary)
        UP_GO(up_fail(UP_ERR_FORMAT, what, "wanted a list of 1 to %d ids", vocabulary));
    ids = malloc(count * sizeof *ids);
    if (!ids) UP_GO(up_fail(UP_ERR_MEMORY, what, "%zu ids wanted", count));
    for (size_t i = 0; i < count; i++) {
        json_int_t id =
            json_is_integer(json_array_get(list, i)) ? json_integer_value(json_array_get(list, i)) : -1;
        ids[i] = id < 0 || id >= vocabulary ? -1 : (int32_t)id; /* -1 is refused below */
    }
    status = up_model_set_targets(model, ids, (int)count);
    if (status == UP_ERR_ARGUMENT) /* it is the file that is wrong, not the caller */
        UP_GO(up_fail(UP_ERR_FORMAT, path, "%s", up_last_error()));
done:
    free(ids);
    json_decref(list);
    return status;
}

/* --- names of classes <-> JSON --- */

/* NULL where the model has none. */
static up_status classes_to_json(const up_model *model, char **text) {
    int failed = 0, count;
    const char *const *names = up_model_classes(model, &count);
    *text = NULL;
    if (!names) return UP_OK;
    json_t *list = json_array();
    for (int i = 0; i < count; i++) failed |= json_array_append_new(list, json_string(names[i]));
    size_t length;
    up_status status =
        failed ? up_fail(UP_ERR_MEMORY, "classes", "no memory for their text, or one is not UTF-8")
               : up_json_write("classes", list, JSON_COMPACT, text, &length);
    json_decref(list);
    return status;
}

static up_status read_classes(const char *path, const char *text, up_model *model) {
    up_status status = UP_OK;
    char what[512];
    size_t wanted = (size_t)up_model_config(model)->classes;
    const char **names = NULL;
    json_t *list;
    snprintf(what, sizeof what, "%s: classes", path);
    UP_TRY(up_json_read(what, text, strlen(text), 0, &list));
    if (!json_is_array(list) || json_array_size(list) != wanted)
        UP_GO(up_fail(UP_ERR_FORMAT, what, "wanted a list of %zu names", wanted));
    names = calloc(wanted + 1, sizeof *names);
    if (!names) UP_GO(up_fail(UP_ERR_MEMORY, what, "%zu names wanted", wanted));
    for (size_t i = 0; i < wanted; i++) {
        names[i] = json_string_value(json_array_get(list, i));
        if (!names[i]) UP_GO(up_fail(UP_ERR_FORMAT, what, "number %zu is no name", i));
    }
    status = up_model_set_classes(model, names, (int)wanted);
done:
    free(names);
    json_decref(list);
    return status;
}

/* --- tensors --- */

/* Vectors are stored as [n], but tables of one embedding as [1, n]. */
static int stored_as_vector(const up_param *p) {
    static const char *const tables[] = {".type.weight", ".spe.weight"};
    size_t length = strlen(p->name);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        size_t ending = strlen(tables[i]);
        if (length >= ending && !strcmp(p->name + length - ending, tables[i])) return 0;
    }
    return p->rows == 1;
}

static up_status wrong_shape(const char *what, const up_safetensor *t, int64_t rows, int64_t cols) {
    char shape[160] = "";
    for (int d = 0; d < t->ndim; d++)
        snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%lld", d ? ", " : "",
                 (long long)t->shape[d]);
    return up_fail(UP_ERR_FORMAT, what, "has shape [%s]; wanted [%lld, %lld]", shape, (long long)rows,
                   (long long)cols);
}

/* The tensor of a file for a parameter of `rows` rows. */
static up_status check_tensor(const char *path, const up_param *p, int64_t rows, const up_safetensor *t) {
    char what[512];
    snprintf(what, sizeof what, "%s: %s", path, p->name);
    if (!t) return up_fail(UP_ERR_FORMAT, what, "is missing");
    int fits = t->ndim == 2 ? t->shape[0] == rows && t->shape[1] == p->cols
                            : t->ndim == 1 && rows == 1 && t->shape[0] == p->cols;
    if (!fits) return wrong_shape(what, t, rows, p->cols);
    if (t->type != UP_ST_F32 && t->type != UP_ST_F16 && t->type != UP_ST_BF16 && t->type != UP_ST_F64)
        return up_fail(UP_ERR_FORMAT, what, "holds %s; wanted F32, F16, BF16 or F64",
                       up_safetensors_type_name(t->type));
    return UP_OK;
}

/* Files of before <SPE> was a tensor of its own have it as the last row of the token table. */
static int spe_in_table(const up_safetensors *file, const up_params *params) {
    return !up_safetensors_find(file, params->list[params->spe].name) &&
           up_safetensors_find(file, params->list[params->token].name);
}

/* Every parameter that the model owns once, nothing else. `model` NULL: all of them, before any memory for
 * the model is taken. */
static up_status check_tensors(const char *path, const up_safetensors *file, const up_params *params,
                               const up_model *model) {
    int old = !model && spe_in_table(file, params);
    for (int i = 0; i < params->count; i++) {
        const up_param *p = &params->list[i];
        if ((model && !up_model_owns(model, i)) || (old && i == params->spe)) continue;
        UP_TRY(
            check_tensor(path, p, p->rows + (old && i == params->token), up_safetensors_find(file, p->name)));
    }
    for (size_t i = 0; i < up_safetensors_count(file); i++) {
        const char *name = up_safetensors_at(file, i)->name;
        int param = up_params_find(params, name);
        if (param < 0 || (model && !up_model_owns(model, param)))
            return up_fail(UP_ERR_FORMAT, path, "tensor \"%.200s\" is not of this %s", name,
                           model ? "overlay" : "model");
    }
    return UP_OK;
}

static int64_t largest(const up_model *model) {
    const up_params *params = up_model_params(model);
    int64_t most = 0;
    for (int i = 0; i < params->count; i++) {
        int64_t count = params->list[i].rows * params->list[i].cols;
        if (up_model_owns(model, i) && count > most) most = count;
    }
    return most;
}

/* ln(1 / tau): tau must be a number above 0 and below infinity, or every answer is NaN. */
static up_status check_temperature(const char *path, const up_param *p, const up_safetensor *t) {
    char what[512];
    float value;
    UP_TRY(up_safetensor_to_f32(t, &value));
    snprintf(what, sizeof what, "%s: %s", path, p->name);
    if (isfinite(value)) return UP_OK;
    return up_fail(UP_ERR_FORMAT, what, "is %f; wanted a finite ln(1 / temperature)", (double)value);
}

/* A parameter from rows first.. of a tensor: f32 directly, other types through *room, memory for the largest
 * parameter that is taken when it is needed. */
static up_status upload_rows(up_model *model, int param, const up_safetensor *t, int64_t first,
                             float **room) {
    up_backend *b = up_model_backend(model);
    const up_param *p = &up_model_params(model)->list[param];
    up_safetensor part = *t;
    size_t size = up_safetensors_type_size(t->type);
    part.count = p->rows * p->cols;
    part.bytes = (size_t)part.count * size;
    part.data = (const char *)t->data + (size_t)(first * p->cols) * size;
    if (part.type == UP_ST_F32 && (uintptr_t)part.data % sizeof(float) == 0)
        return b->ops->upload(b, up_model_weight(model, param), part.data);
    if (!*room) *room = malloc((size_t)largest(model) * sizeof **room);
    if (!*room) return up_fail(UP_ERR_MEMORY, t->name, "%zu bytes wanted to convert it", t->bytes);
    UP_TRY(up_safetensor_to_f32(&part, *room));
    return b->ops->upload(b, up_model_weight(model, param), *room);
}

static up_status check_temperatures(const char *path, const up_model *model, const up_safetensors *file) {
    const up_params *params = up_model_params(model);
    for (int i = 0; i < params->count; i++) {
        const up_param *p = &params->list[i];
        if (p->group != UP_GROUP_TEMPERATURE || !up_model_owns(model, i)) continue;
        UP_TRY(check_temperature(path, p, up_safetensors_find(file, p->name)));
    }
    return UP_OK;
}

static up_status upload_tensors(const char *path, up_model *model, const up_safetensors *file) {
    const up_params *params = up_model_params(model);
    int old = !up_model_base(model) && spe_in_table(file, params);
    up_status status = UP_OK;
    float *room = NULL;
    UP_GO(check_temperatures(path, model, file));
    for (int i = 0; i < params->count; i++) {
        int from = old && i == params->spe ? params->token : i;
        int64_t first = from == i ? 0 : params->list[from].rows;
        if (!up_model_owns(model, i)) continue;
        UP_GO(upload_rows(model, i, up_safetensors_find(file, params->list[from].name), first, &room));
    }
done:
    free(room);
    up_model_changed(model);
    return status;
}

/* --- which base an overlay stands on --- */

static const char base_key[] = "base"; /* metadata of an overlay: the fingerprint of what it stands on */
enum { DIGITS = 16 };

/* One more value into a hash of 64 bits: multiply, and fold the upper half down. */
static uint64_t mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 32);
}

static uint64_t hash_values(uint64_t hash, const float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        hash = mix(hash, bits);
    }
    return hash;
}

/* Of the tensors that an overlay shares with its base, names, shapes and every bit; kept with the base until
 * its weights change. */
static up_status fingerprint(up_model *overlay, uint64_t *out) {
    up_model *base = up_model_base(overlay);
    up_backend *b = up_model_backend(base);
    const up_params *params = up_model_params(base);
    up_status status = UP_OK;
    uint64_t hash = 1;
    *out = up_model_fingerprint(base);
    if (*out) return UP_OK;
    float *room = malloc((size_t)largest(base) * sizeof *room);
    if (!room) return up_fail(UP_ERR_MEMORY, "model", "no memory for its largest tensor");
    for (int i = 0; i < params->count; i++) {
        const up_param *p = &params->list[i];
        int own = up_params_find(up_model_params(overlay), p->name);
        if (own < 0 || up_model_owns(overlay, own)) continue;
        UP_GO(b->ops->download(b, room, up_model_weight(base, i)));
        for (const char *c = p->name; *c; c++) hash = mix(hash, (unsigned char)*c);
        hash = mix(mix(hash, (uint64_t)p->rows), (uint64_t)p->cols);
        hash = hash_values(hash, room, p->rows * p->cols);
    }
    *out = hash ? hash : 1;
    up_model_set_fingerprint(base, *out);
done:
    free(room);
    return status;
}

static up_status fingerprint_text(up_model *overlay, char text[24]) {
    uint64_t hash;
    UP_TRY(fingerprint(overlay, &hash));
    snprintf(text, 24, "%0*" PRIx64, DIGITS, hash);
    return UP_OK;
}

up_status up_weights_base(const char *path, const up_safetensors *file, const char **out) {
    *out = up_safetensors_metadata(file, base_key);
    if (!*out || (strlen(*out) == DIGITS && strspn(*out, "0123456789abcdef") == DIGITS)) return UP_OK;
    *out = NULL;
    return up_fail(UP_ERR_FORMAT, path, "\"%s\" in its metadata: wanted %d hexadecimal digits", base_key,
                   DIGITS);
}

static up_status digest_tensor(up_model *model, int param, float *room, int64_t room_rows, uint64_t *digest) {
    up_backend *b = up_model_backend(model);
    const up_param *p = &up_model_params(model)->list[param];
    up_view weight = up_model_weight(model, param);
    *digest = up_digest(*digest, p->name, strlen(p->name));
    *digest = up_digest(*digest, (int64_t[]){p->rows, p->cols}, 2 * sizeof(int64_t));
    for (int64_t row = 0; row < p->rows; row += room_rows) {
        int64_t rows = p->rows - row < room_rows ? p->rows - row : room_rows;
        UP_TRY(b->ops->download(b, room, up_view_rows(weight, row, rows)));
        *digest = up_digest(*digest, room, (size_t)(rows * p->cols) * sizeof *room);
    }
    return UP_OK;
}

/* A piece of a tensor at a time, small enough to be hashed in the cache that it was copied to. */
up_status up_weights_digest(up_model *model, uint64_t *out) {
    enum { AT_ONCE = 1 << 16 };
    const up_params *params = up_model_params(model);
    up_status status = UP_OK;
    char *config = NULL;
    float *room = NULL;
    int64_t widest = 1;
    for (int i = 0; i < params->count; i++)
        if (params->list[i].cols > widest) widest = params->list[i].cols;
    int64_t values = widest > AT_ONCE ? widest : AT_ONCE;
    UP_GO(up_config_to_json(up_model_config(model), &config));
    room = malloc((size_t)values * sizeof *room);
    if (!room) UP_GO(up_fail(UP_ERR_MEMORY, "model", "%lld values wanted", (long long)values));
    *out = up_digest(0, config, strlen(config));
    for (int i = 0; i < params->count; i++)
        UP_GO(digest_tensor(model, i, room, values / params->list[i].cols, out));
done:
    free(room);
    free(config);
    return status;
}

/* The overlay's configuration must be the base's but for what a tuned task has of its own. */
static up_status check_base_config(const char *path, const up_config *overlay, const up_config *base) {
    up_config c = *overlay;
    c.prompts = base->prompts;
    c.prompt_sides = base->prompt_sides;
    c.classes = base->classes;
    memcpy(c.preset, base->preset, sizeof c.preset);
    for (const up_config_field *f = up_config_fields; f->name; f++)
        if (!same_field(f, &c, base))
            return up_fail(UP_ERR_ARGUMENT, path, "belongs to another model: its %s is not this one's",
                           f->name);
    int same = c.tasks == base->tasks;
    for (int i = 0; same && i < c.tasks; i++) same = !strcmp(c.task_names[i], base->task_names[i]);
    return same ? UP_OK
                : up_fail(UP_ERR_ARGUMENT, path, "belongs to another model: its tasks are not this one's");
}

/* --- reading --- */

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

static up_status check_given(const char *what, const void *pointer, const char *name) {
    return pointer ? UP_OK : up_fail(UP_ERR_ARGUMENT, what, "%s is NULL", name);
}

/* Bytes of the file before each parameter's tensor; 0: not all of them can be used as they lie there. */
static int find_in_place(const up_safetensors *file, const up_params *params, int64_t *offsets) {
    size_t size;
    const unsigned char *map = up_safetensors_map(file, &size);
    for (int i = 0; i < params->count; i++) {
        const up_safetensor *t = up_safetensors_find(file, params->list[i].name);
        if (!t || t->type != UP_ST_F32 || (uintptr_t)t->data % sizeof(float)) return 0;
        offsets[i] = (const unsigned char *)t->data - map;
    }
    return 1;
}

/* Whether there is room for a copy, which is not made: a model that just fits would leave none for what is
 * computed with it, and libraries of products end the program where they find none. */
static up_status check_space(const char *path, size_t bytes) {
    void *volatile room = malloc(bytes); /* volatile: a compiler may leave out what nobody looks at */
    int there = room != NULL;
    free(room);
    return there ? UP_OK : up_fail(UP_ERR_MEMORY, path, "%zu bytes wanted", bytes);
}

static void close_file(void *file) {
    up_safetensors_close(file);
}

/* A model over the file's mapping, which is the model's then: *file becomes NULL. *model stays NULL where
 * that cannot be. */
static up_status map_tensors(const char *path, up_safetensors **file, const up_config *config,
                             const up_params *params, up_backend *backend, up_model **model) {
    size_t size;
    void *map = up_safetensors_map(*file, &size);
    int64_t *offsets = malloc(((size_t)params->count + 1) * sizeof *offsets);
    if (!offsets) return up_fail(UP_ERR_MEMORY, path, "no memory for %d offsets", params->count);
    up_status status = check_space(path, size);
    if (status == UP_OK && backend->ops->wrap && !spe_in_table(*file, params) &&
        find_in_place(*file, params, offsets))
        status = up_model_create_over(backend, config, map, size, offsets, close_file, *file, model);
    free(offsets);
    if (status != UP_OK || !*model) return status;
    status = check_temperatures(path, *model, *file);
    *file = NULL;
    return status;
}

static up_status read_whole(const char *path, up_safetensors **file, const up_config *given, int in_place,
                            up_backend *backend, up_model **model) {
    up_status status = UP_OK;
    up_config config;
    up_params params = {0};
    const char *base;
    char *targets = NULL, *classes = NULL;
    UP_TRY(choose_config(path, *file, given, &config));
    UP_TRY(up_weights_base(path, *file, &base));
    if (base) return up_fail(UP_ERR_FORMAT, path, "is an overlay: it wants the model that it belongs to");
    const char *listed = up_safetensors_metadata(*file, "targets");
    UP_GO(up_params_build(&config, &params));
    UP_GO(check_tensors(path, *file, &params, NULL));
    targets = listed ? strdup(listed) : NULL;
    if (listed && !targets) UP_GO(up_fail(UP_ERR_MEMORY, path, "no memory for its target set"));
    const char *named = up_safetensors_metadata(*file, "classes");
    classes = named ? strdup(named) : NULL;
    if (named && !classes) UP_GO(up_fail(UP_ERR_MEMORY, path, "no memory for the names of its classes"));
    if (in_place) UP_GO(map_tensors(path, file, &config, &params, backend, model));
    if (!*model) {
        UP_GO(up_model_create_bare(backend, &config, model));
        UP_GO(upload_tensors(path, *model, *file));
    }
    if (targets) UP_GO(read_targets(path, targets, *model));
    if (classes) UP_GO(read_classes(path, classes, *model));
done:
    free(targets);
    free(classes);
    up_params_free(&params);
    return status;
}

static up_status read_model(up_backend *backend, const char *path, const up_config *config, int in_place,
                            up_model **out) {
    up_safetensors *file = NULL;
    up_model *model = NULL;
    UP_TRY(check_given("model", out, "the place for it"));
    *out = NULL;
    UP_TRY(check_given("model", path, "its path"));
    UP_TRY(check_given(path, backend, "the backend"));
    UP_TRY(up_safetensors_open(path, &file));
    up_status status = read_whole(path, &file, config, in_place, backend, &model);
    up_safetensors_close(file);
    if (status == UP_OK)
        *out = model;
    else
        up_model_destroy(model);
    return status;
}

up_status up_model_read_with(up_backend *backend, const char *path, const up_config *config, up_model **out) {
    return read_model(backend, path, config, 0, out);
}

up_status up_model_read(up_backend *backend, const char *path, up_model **out) {
    return read_model(backend, path, NULL, 0, out);
}

up_status up_model_map(up_backend *backend, const char *path, up_model **out) {
    return read_model(backend, path, NULL, 1, out);
}

/* --- writing --- */

static up_status put_tensors(up_model *model, up_safetensors_writer *writer) {
    const up_params *params = up_model_params(model);
    up_backend *b = up_model_backend(model);
    up_status status = UP_OK;
    float *room = malloc((size_t)largest(model) * sizeof *room);
    if (!room) return up_fail(UP_ERR_MEMORY, "model", "no memory for its largest tensor");
    for (int i = 0; i < params->count; i++) {
        const up_param *p = &params->list[i];
        if (!up_model_owns(model, i)) continue;
        UP_GO(b->ops->download(b, room, up_model_weight(model, i)));
        UP_GO(up_safetensors_put(writer, room, (size_t)(p->rows * p->cols) * sizeof *room));
    }
done:
    free(room);
    return status;
}

/* Names and shapes of what the model owns: malloc'ed. */
static up_status make_specs(const char *path, const up_model *model, up_safetensor **specs, size_t *count) {
    const up_params *params = up_model_params(model);
    *count = 0;
    *specs = calloc((size_t)params->count, sizeof **specs);
    if (!*specs) return up_fail(UP_ERR_MEMORY, path, "no memory for its header");
    for (int i = 0; i < params->count; i++) {
        const up_param *p = &params->list[i];
        int vector = stored_as_vector(p);
        if (!up_model_owns(model, i)) continue;
        (*specs)[(*count)++] = (up_safetensor){.name = p->name,
                                               .type = UP_ST_F32,
                                               .ndim = vector ? 1 : 2,
                                               .shape = {vector ? p->cols : p->rows, p->cols}};
    }
    return UP_OK;
}

/* What stands before the data of a model's file. */
typedef struct header {
    char *config, *targets, *classes, base[24];
    const char *metadata[5][2];
    size_t pairs;
    up_safetensor *specs; /* [count], their names in the model's parameters */
    size_t count;
} header;

static void header_free(header *h) {
    free(h->specs);
    free(h->config);
    free(h->targets);
    free(h->classes);
}

static void add_pair(header *h, const char *key, const char *value) {
    h->metadata[h->pairs][0] = key;
    h->metadata[h->pairs++][1] = value;
}

/* Free also after a failure. */
static up_status header_make(const char *path, up_model *model, header *h) {
    int restricted;
    *h = (header){0};
    up_model_targets(model, &restricted);
    UP_TRY(make_specs(path, model, &h->specs, &h->count));
    UP_TRY(up_config_to_json(up_model_config(model), &h->config));
    UP_TRY(targets_to_json(model, &h->targets));
    UP_TRY(classes_to_json(model, &h->classes));
    add_pair(h, "format", "uniperceiver");
    add_pair(h, "config", h->config);
    if (up_model_base(model)) {
        UP_TRY(fingerprint_text(model, h->base));
        add_pair(h, base_key, h->base);
    }
    if (restricted) add_pair(h, "targets", h->targets);
    if (h->classes) add_pair(h, "classes", h->classes);
    return UP_OK;
}

static up_status begin(const char *path, const header *h, up_safetensors_writer **out) {
    return up_safetensors_begin(path, (const char *const(*)[2])h->metadata, h->pairs, h->specs, h->count,
                                out);
}

up_status up_model_write(up_model *model, const char *path) {
    up_status status = UP_OK;
    header h = {0};
    up_safetensors_writer *writer = NULL;
    UP_TRY(check_given("model", path, "its path"));
    UP_TRY(check_given(path, model, "the model"));
    UP_GO(header_make(path, model, &h));
    UP_GO(begin(path, &h, &writer));
    UP_GO(put_tensors(model, writer));
    status = up_safetensors_commit(writer);
    writer = NULL;
done:
    up_safetensors_abort(writer);
    header_free(&h);
    return status;
}

/* --- a file of a later moment: what it would hold now, in memory --- */

struct up_weights_image {
    up_model *model; /* borrowed; its table of parameters alone is read later */
    header header;
    float *values; /* [params.total] */
};

up_status up_weights_take(up_model *model, const char *name, up_weights_image **out) {
    const up_params *params = up_model_params(model);
    up_backend *b = up_model_backend(model);
    up_status status = UP_OK;
    up_weights_image *image = calloc(1, sizeof *image);
    *out = NULL;
    if (!image) return up_fail(UP_ERR_MEMORY, name, "no memory for a copy of the model");
    image->model = model;
    image->values = malloc((size_t)params->total * sizeof *image->values);
    if (!image->values)
        UP_GO(up_fail(UP_ERR_MEMORY, name, "no memory for a copy of %lld weights", (long long)params->total));
    UP_GO(header_make(name, model, &image->header));
    for (int i = 0; i < params->count; i++)
        if (up_model_owns(model, i))
            UP_GO(b->ops->download(b, up_weights_taken(image, i), up_model_weight(model, i)));
    *out = image;
    image = NULL;
done:
    up_weights_image_free(image);
    return status;
}

float *up_weights_taken(up_weights_image *image, int param) {
    return image->values + up_model_params(image->model)->list[param].offset;
}

up_status up_weights_put(up_weights_image *image, const char *path) {
    const up_params *params = up_model_params(image->model);
    up_status status = UP_OK;
    up_safetensors_writer *writer = NULL;
    UP_GO(begin(path, &image->header, &writer));
    for (int i = 0; i < params->count; i++) {
        const up_param *p = &params->list[i];
        if (up_model_owns(image->model, i))
            UP_GO(up_safetensors_put(writer, up_weights_taken(image, i),
                                     (size_t)(p->rows * p->cols) * sizeof(float)));
    }
    status = up_safetensors_commit(writer);
    writer = NULL;
done:
    up_safetensors_abort(writer);
    return status;
}

void up_weights_image_free(up_weights_image *image) {
    if (!image) return;
    header_free(&image->header);
    free(image->values);
    free(image);
}

/* --- overlays --- */

/* Everything of an overlay's file that can be wrong, before weights are touched. */
static up_status check_overlay(const char *path, const up_safetensors *file, const char *wanted,
                               up_model *model) {
    char found[24];
    UP_TRY(check_tensors(path, file, up_model_params(model), model));
    UP_TRY(fingerprint_text(model, found));
    if (!strcmp(wanted, found)) return UP_OK;
    return up_fail(UP_ERR_ARGUMENT, path, "belongs to another model: to one of weights %s; these are %s",
                   wanted, found);
}

static up_status read_overlay(const char *path, const up_safetensors *file, up_model *base, up_model **out) {
    up_config c;
    const char *wanted;
    UP_TRY(choose_config(path, file, NULL, &c));
    UP_TRY(up_weights_base(path, file, &wanted));
    if (!wanted) return up_fail(UP_ERR_FORMAT, path, "is a whole model; wanted an overlay of one");
    UP_TRY(check_base_config(path, &c, up_model_config(base)));
    UP_TRY(up_overlay_create(base, c.prompts, c.prompt_sides, c.classes, 0, out));
    UP_TRY(check_overlay(path, file, wanted, *out));
    UP_TRY(upload_tensors(path, *out, file));
    const char *targets = up_safetensors_metadata(file, "targets");
    const char *classes = up_safetensors_metadata(file, "classes");
    if (targets) UP_TRY(read_targets(path, targets, *out));
    return classes ? read_classes(path, classes, *out) : UP_OK;
}

up_status up_overlay_read(up_model *base, const char *path, up_model **out) {
    up_safetensors *file = NULL;
    up_model *model = NULL;
    UP_TRY(check_given("overlay", out, "the place for it"));
    *out = NULL;
    UP_TRY(check_given("overlay", path, "its path"));
    UP_TRY(check_given(path, base, "the model under it"));
    UP_TRY(up_safetensors_open(path, &file));
    up_status status = read_overlay(path, file, base, &model);
    up_safetensors_close(file);
    if (status == UP_OK)
        *out = model;
    else
        up_model_destroy(model);
    return status;
}
