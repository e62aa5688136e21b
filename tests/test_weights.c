/* test_weights.c - models as files: what is written is read back, and what is wrong with a file is said by
 * name. */
#include "files/file.h"
#include "files/safetensors.h"
#include "files/weights.h"
#include "tests/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const up_suite_name = "weights";

static const char *const path = "test_weights.safetensors", *const changed =
                                                                "test_weights_changed.safetensors";

static up_config small(void) {
    up_config c;
    UP_ASSERT_OK(
        up_config_preset("released-base", &c)); /* it has every optional tensor but prompts and head */
    c.layers = 2;
    c.width = 8;
    c.heads = 2;
    c.ffn = 12;
    c.vocabulary = 20;
    c.text_positions = 6;
    c.image_size = c.image_resize = c.video_resize = 8;
    c.patch = 4;
    c.frames = 2;
    c.prompts = 2;
    c.classes = 3;
    c.visual_type = 1;
    c.initial_temperature = 0.1;
    return c;
}

static up_backend *backend;
static up_model *fresh(void) {
    up_config c = small();
    up_model *model;
    UP_ASSERT_OK(up_backend_create("ref", 1, &backend));
    UP_ASSERT_OK(up_model_create(backend, &c, up_test_seed(), &model));
    return model;
}

static float *all_weights(up_model *model) {
    const up_params *p = up_model_params(model);
    float *out = malloc((size_t)p->total * sizeof *out);
    up_view view = up_model_weight(model, 0);
    UP_ASSERT_OK(backend->ops->download(backend, out, up_view_at(view.buffer, UP_F32, 0, 1, p->total)));
    return out;
}

static void test_round_trip(void) {
    const int32_t targets[] = {1, 5, 18};
    up_model *model = fresh(), *back;
    int count;
    UP_ASSERT_OK(up_model_set_targets(model, targets, 3));
    UP_ASSERT_OK(up_model_write(model, path));
    UP_ASSERT_OK(up_model_read(backend, path, &back));
    CU_ASSERT(!memcmp(up_model_config(model), up_model_config(back), sizeof(up_config)));
    float *a = all_weights(model), *b = all_weights(back);
    CU_ASSERT(!memcmp(a, b, (size_t)up_model_params(model)->total * sizeof *a)); /* padding too */
    const int32_t *ids = up_model_targets(back, &count);
    CU_ASSERT_EQUAL_FATAL(count, 3);
    CU_ASSERT(!memcmp(ids, targets, sizeof targets));
    free(a);
    free(b);
    up_model_destroy(model);
    up_model_destroy(back);
    up_backend_free(backend);
}

static void test_stored_shapes(void) {
    up_safetensors *file;
    up_model *model = fresh();
    UP_ASSERT_OK(up_model_write(model, path));
    UP_ASSERT_OK(up_safetensors_open(path, &file));
    CU_ASSERT_EQUAL(up_safetensors_find(file, "text.type.weight")->ndim, 2);
    CU_ASSERT_EQUAL(up_safetensors_find(file, "text.spe.weight")->ndim, 2);
    CU_ASSERT_EQUAL(up_safetensors_find(file, "text.spe.weight")->shape[0], 1);
    CU_ASSERT_EQUAL(up_safetensors_find(file, "text.token.weight")->shape[0], 19); /* <SPE> is not in it */
    CU_ASSERT_PTR_NULL(up_safetensors_metadata(file, "base"));
    CU_ASSERT_EQUAL(up_safetensors_find(file, "patch.type.weight")->ndim, 2);
    CU_ASSERT_EQUAL(up_safetensors_find(file, "embed.norm.weight")->ndim, 1);
    CU_ASSERT_EQUAL(up_safetensors_find(file, "patch.bias")->ndim, 1);
    CU_ASSERT_EQUAL(up_safetensors_find(file, "patch.weight")->ndim, 2);
    CU_ASSERT_STRING_EQUAL(up_safetensors_metadata(file, "format"), "uniperceiver");
    CU_ASSERT_PTR_NULL(up_safetensors_metadata(file, "targets"));
    up_safetensors_close(file);
    up_model_destroy(model);
    up_backend_free(backend);
}

/* One change of a good file; the message must name `says` and the file. */
typedef struct change {
    const char *tensor;       /* the one to change; NULL: none */
    const char *name;         /* its new name; "" drops it */
    int flat;                 /* 1: its shape becomes [count], 2: [1, count] */
    up_safetensors_type type; /* F32: unchanged */
    const char *key, *value;  /* metadata to replace; value NULL: leave out */
    up_status status;
    const char *says;
} change;

static const change changes[] = {
    {.tensor = "layers.1.ffn.up.bias",
     .name = "",
     .status = UP_ERR_FORMAT,
     .says = "layers.1.ffn.up.bias: is missing"},
    {.tensor = "scale",
     .status = UP_ERR_FORMAT,
     .says = "tensor \"scale\" is not of this model"}, /* one more */
    {.tensor = "patch.weight",
     .flat = 1,
     .status = UP_ERR_FORMAT,
     .says = "patch.weight: has shape [384]; wanted [8, 48]"},
    {.tensor = "text.spe.weight",
     .name = "",
     .status = UP_ERR_FORMAT,
     .says =
         "text.token.weight: has shape [19, 8]; wanted [20, 8]"}, /* then it would be the table's last row */
    {.tensor = "text.token.weight",
     .name = "",
     .status = UP_ERR_FORMAT,
     .says = "text.token.weight: is missing"},
    {.key = "base", .value = "0123456789abcdef", .status = UP_ERR_FORMAT, .says = "is an overlay"},
    {.key = "base", .value = "\x1b[2J", .status = UP_ERR_FORMAT, .says = "wanted 16 hexadecimal digits"},
    {.tensor = "patch.bias", .flat = 2, .status = UP_OK},
    {.tensor = "text.type.weight", .flat = 1, .status = UP_OK},
    {.tensor = "patch.bias", .type = UP_ST_I32, .status = UP_ERR_FORMAT, .says = "patch.bias: holds I32"},
    {.key = "config", .status = UP_ERR_FORMAT, .says = "no \"config\""},
    {.key = "config", .value = "[]", .status = UP_ERR_FORMAT, .says = "wanted an object"},
    {.key = "config", .value = "{\"layers\":2}", .status = UP_ERR_FORMAT, .says = "preset is missing"},
    {.key = "config", .value = "{\"layer\":2}", .status = UP_ERR_FORMAT, .says = "unknown field \"layer\""},
    {.key = "config", .value = "{\"layers", .status = UP_ERR_FORMAT, .says = "configuration"},
    {.key = "targets", .value = "[3, 2]", .status = UP_ERR_FORMAT, .says = "target set"},
    {.key = "targets", .value = "[\"a\"]", .status = UP_ERR_FORMAT, .says = "target set"},
    {.key = "targets", .value = "[20]", .status = UP_ERR_FORMAT, .says = "target set"},
    {.key = "targets", .value = "[99999999999999999999]", .status = UP_ERR_FORMAT, .says = "target set"},
    {.key = "targets", .value = "[2, 3]", .status = UP_OK},
};

static void rewrite(const change *c) {
    enum { ROOM = 256 };
    static up_safetensor specs[ROOM];
    const float extra = 0;
    up_safetensors *file;
    up_safetensors_writer *writer;
    size_t count = 0, pairs = 0;
    UP_ASSERT_OK(up_safetensors_open(path, &file));
    const char *metadata[3][2] = {{"config", up_safetensors_metadata(file, "config")}};
    if (c->key && strcmp(c->key, "config")) pairs = 1;
    if (!c->key) pairs = 1;
    if (c->value) {
        metadata[pairs][0] = c->key;
        metadata[pairs++][1] = c->value;
    }
    for (size_t i = 0; i < up_safetensors_count(file); i++) {
        up_safetensor t = *up_safetensors_at(file, i);
        if (c->tensor && !strcmp(t.name, c->tensor)) {
            if (c->name && !*c->name) continue;
            if (c->flat == 1) {
                t.ndim = 1;
                t.shape[0] = t.count;
            }
            if (c->flat == 2) {
                t.ndim = 2;
                t.shape[0] = 1;
                t.shape[1] = t.count;
            }
            if (c->type) t.type = c->type;
        }
        specs[count++] = t;
    }
    if (c->tensor && !up_safetensors_find(file, c->tensor))
        specs[count++] = (up_safetensor){
            .name = c->tensor, .type = UP_ST_F32, .ndim = 1, .shape = {1}, .bytes = 4, .data = &extra};
    UP_ASSERT_OK(
        up_safetensors_begin(changed, (const char *const(*)[2])metadata, pairs, specs, count, &writer));
    for (size_t i = 0; i < count; i++)
        UP_ASSERT_OK(up_safetensors_put(writer, specs[i].data, specs[i].bytes));
    UP_ASSERT_OK(up_safetensors_commit(writer));
    up_safetensors_close(file);
}

static void test_wrong_files(void) {
    up_model *model = fresh(), *back;
    UP_ASSERT_OK(up_model_write(model, path));
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        change c = changes[i];
        if (c.type == 0) c.type = UP_ST_F32;
        rewrite(&c);
        up_status status = up_model_read(backend, changed, &back);
        CU_ASSERT_EQUAL(status, c.status);
        if (status != UP_OK) {
            int said = strstr(up_last_error(), c.says) && strstr(up_last_error(), changed);
            if (!said) fprintf(stderr, "change %zu: %s\n", i, up_last_error());
            CU_ASSERT(said);
            CU_ASSERT_PTR_NULL(back);
        }
        up_model_destroy(back);
    }
    CU_ASSERT_EQUAL(up_model_read(backend, "no/such/file", &back), UP_ERR_IO);
    CU_ASSERT_EQUAL(up_model_write(model, "no/such/folder/file"), UP_ERR_IO);
    up_model_destroy(model);
    up_backend_free(backend);
    unlink(path);
    unlink(changed);
}

/* Files of before <SPE> was a tensor of its own: it was the last row of the token table. */
static void test_old_table(void) {
    enum { ROOM = 256 };
    static up_safetensor specs[ROOM];
    up_model *model = fresh(), *back;
    up_safetensors *file;
    up_safetensors_writer *writer;
    size_t count = 0;
    float table[20 * 8];
    UP_ASSERT_OK(up_model_write(model, path));
    UP_ASSERT_OK(up_safetensors_open(path, &file));
    const up_safetensor *token = up_safetensors_find(file, "text.token.weight");
    const up_safetensor *spe = up_safetensors_find(file, "text.spe.weight");
    memcpy(table, token->data, token->bytes);
    memcpy(table + 19 * 8, spe->data, spe->bytes);
    for (size_t i = 0; i < up_safetensors_count(file); i++) {
        up_safetensor t = *up_safetensors_at(file, i);
        if (!strcmp(t.name, "text.spe.weight")) continue;
        if (!strcmp(t.name, "text.token.weight")) {
            t.shape[0] = 20;
            t.bytes = sizeof table;
            t.data = table;
        }
        specs[count++] = t;
    }
    const char *const metadata[][2] = {{"config", up_safetensors_metadata(file, "config")}};
    UP_ASSERT_OK(up_safetensors_begin(changed, metadata, 1, specs, count, &writer));
    for (size_t i = 0; i < count; i++)
        UP_ASSERT_OK(up_safetensors_put(writer, specs[i].data, specs[i].bytes));
    UP_ASSERT_OK(up_safetensors_commit(writer));
    up_safetensors_close(file);
    UP_ASSERT_OK(up_model_read(backend, changed, &back));
    float *a = all_weights(model), *b = all_weights(back);
    CU_ASSERT(!memcmp(a, b, (size_t)up_model_params(model)->total * sizeof *a));
    free(a);
    free(b);
    up_model_destroy(back);
    up_model_destroy(model);
    up_backend_free(backend);
    unlink(path);
    unlink(changed);
}

/* --- overlays --- */

/* One parameter on the host, malloc'ed. */
static float *weight_of(up_model *model, int param, size_t *bytes) {
    const up_param *p = &up_model_params(model)->list[param];
    *bytes = (size_t)(p->rows * p->cols) * sizeof(float);
    float *values = malloc(*bytes);
    UP_ASSERT_OK(backend->ops->download(backend, values, up_model_weight(model, param)));
    return values;
}

static void add_one(up_model *model, int param) {
    size_t bytes;
    float *values = weight_of(model, param, &bytes);
    for (size_t i = 0; i < bytes / sizeof *values; i++) values[i] += 1;
    UP_ASSERT_OK(backend->ops->upload(backend, up_model_weight(model, param), values));
    up_model_changed(model);
    free(values);
}

static void test_overlay_round_trip(void) {
    const int32_t targets[] = {2, 7};
    up_model *base = fresh(), *overlay, *back;
    up_safetensors *file;
    int count, own = 0;
    UP_ASSERT_OK(up_overlay_create(base, 3, 1, 5, up_test_seed(), &overlay));
    const up_params *p = up_model_params(overlay);
    for (int i = 0; i < p->count; i++) own += up_model_owns(overlay, i);
    for (int i = 0; i < p->count; i++)
        if (up_model_owns(overlay, i)) add_one(overlay, i);
    UP_ASSERT_OK(up_model_set_targets(overlay, targets, 2));
    UP_ASSERT_OK(up_model_write(overlay, path));
    UP_ASSERT_OK(up_safetensors_open(path, &file));
    CU_ASSERT_EQUAL(up_safetensors_count(file), (size_t)own); /* and nothing of the base */
    CU_ASSERT_PTR_NULL(up_safetensors_find(file, "text.token.weight"));
    CU_ASSERT_PTR_NOT_NULL(up_safetensors_find(file, "text.spe.weight"));
    CU_ASSERT_PTR_NOT_NULL(up_safetensors_metadata(file, "base"));
    up_safetensors_close(file);
    UP_ASSERT_OK(up_overlay_read(base, path, &back));
    CU_ASSERT_PTR_EQUAL(up_model_base(back), base);
    CU_ASSERT(!memcmp(up_model_config(overlay), up_model_config(back), sizeof(up_config)));
    for (int i = 0; i < p->count; i++) {
        size_t bytes, same;
        float *a = weight_of(overlay, i, &bytes), *b = weight_of(back, i, &same);
        CU_ASSERT(bytes == same && !memcmp(a, b, bytes));
        free(a);
        free(b);
    }
    const int32_t *ids = up_model_targets(back, &count);
    CU_ASSERT(count == 2 && !memcmp(ids, targets, sizeof targets));
    up_model_destroy(back);
    up_model_destroy(overlay);
    up_model_destroy(base);
    up_backend_free(backend);
    unlink(path);
}

static int says(const char *text) {
    int right = strstr(up_last_error(), text) != NULL;
    if (!right) fprintf(stderr, "wanted \"%s\": %s\n", text, up_last_error());
    return right;
}

static void test_overlay_of_another_base(void) {
    up_model *base = fresh(), *overlay, *back, *wide;
    const up_params *p = up_model_params(base);
    UP_ASSERT_OK(up_overlay_create(base, 2, 2, 0, up_test_seed(), &overlay));
    UP_ASSERT_OK(up_model_write(overlay, path));
    CU_ASSERT_EQUAL(up_model_read(backend, path, &back), UP_ERR_FORMAT); /* it is no model of its own */
    CU_ASSERT(says("is an overlay"));
    add_one(base, p->text_norm_weight); /* what the overlay has itself may differ */
    add_one(base, p->temperature[0]);
    UP_ASSERT_OK(up_overlay_read(base, path, &back));
    up_model_destroy(back);
    add_one(base, p->layers[1].down_bias); /* what it shares may not */
    CU_ASSERT_EQUAL(up_overlay_read(base, path, &back), UP_ERR_ARGUMENT);
    CU_ASSERT(says("belongs to another model: to one of weights"));
    CU_ASSERT_PTR_NULL(back);
    up_config c = *up_model_config(base);
    c.ffn = 16;
    UP_ASSERT_OK(up_model_create(backend, &c, up_test_seed(), &wide));
    CU_ASSERT_EQUAL(up_overlay_read(wide, path, &back), UP_ERR_ARGUMENT);
    CU_ASSERT(says("belongs to another model: its ffn"));
    UP_ASSERT_OK(up_model_write(base, path));
    CU_ASSERT_EQUAL(up_overlay_read(base, path, &back), UP_ERR_FORMAT);
    CU_ASSERT(says("is a whole model"));
    up_model_destroy(wide);
    up_model_destroy(overlay);
    up_model_destroy(base);
    up_backend_free(backend);
    unlink(path);
}

static void test_null_arguments(void) {
    up_model *model = fresh(), *out;
    CU_ASSERT_EQUAL(up_model_read(backend, NULL, &out), UP_ERR_ARGUMENT);
    CU_ASSERT_PTR_NULL(out);
    CU_ASSERT_EQUAL(up_model_read(NULL, path, &out), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_model_read(backend, path, NULL), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_model_write(NULL, path), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_model_write(model, NULL), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_overlay_read(NULL, path, &out), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_overlay_read(model, NULL, &out), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_overlay_read(model, path, NULL), UP_ERR_ARGUMENT);
    up_model_destroy(model);
    up_backend_free(backend);
}

static void test_configuration_text(void) {
    up_config c = small(), back;
    char *text;
    UP_ASSERT_OK(up_config_to_json(&c, &text));
    UP_ASSERT_OK(up_config_from_json("test", text, &back));
    CU_ASSERT(!memcmp(&c, &back, sizeof c));
    free(text);
    c.heads = 3; /* does not divide the width */
    UP_ASSERT_OK(up_config_to_json(&c, &text));
    CU_ASSERT_EQUAL(up_config_from_json("file.json", text, &back), UP_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "file.json: configuration: width"));
    free(text);
}

const up_test up_tests[] = {{"round_trip", test_round_trip},
                            {"stored_shapes", test_stored_shapes},
                            {"wrong_files", test_wrong_files},
                            {"old_table", test_old_table},
                            {"overlay_round_trip", test_overlay_round_trip},
                            {"overlay_of_another_base", test_overlay_of_another_base},
                            {"null_arguments", test_null_arguments},
                            {"configuration_text", test_configuration_text},
                            {NULL, NULL}};
