/* released.c - the released models' tensors by name, in the order of their files, and what of them is which
 * tensor here. Both directions go by the one table. */
#include "files/released.h"
#include "files/file.h"
#include "files/resize_grid.h"
#include "files/safetensors.h"
#include "files/torch_file.h"
#include "files/weights.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How a tensor of theirs relates to one of [rows, cols] here. */
typedef enum form {
    MATRIX, /* [rows, cols] */
    VECTOR, /* [cols] */
    PIXELS, /* [rows, 3, patch, patch], the same order of values */
    TOKENS, /* [rows + 1, cols]: the last row is <SPE>, a tensor of its own here */
    TYPES,  /* [2, cols]: the first row is used */
    UNUSED, /* [1, width]: present there, used by neither */
    SCALAR  /* [] */
} form;

typedef struct row {
    const char *own, *released;
    form form;
} row;

static const row outer_rows[] = {
    {"text.token.weight", "token_embed.embeddings.weight", TOKENS},
    {"text.position.weight", "token_embed.embeddings_pos.position_embeddings.weight", MATRIX},
    {"text.type.weight", "token_embed.embeddings_token_type.weight", TYPES},
    {"embed.norm.weight", "token_embed.embeddings_norm.weight", VECTOR},
    {"embed.norm.bias", "token_embed.embeddings_norm.bias", VECTOR},
    {"patch.weight", "video_embed.embeddings.weight", PIXELS},
    {"patch.bias", "video_embed.embeddings.bias", VECTOR},
    {"patch.space.weight", "video_embed.embeddings_st_pos.spatial_pos_embed.weight", MATRIX},
    {"patch.time.weight", "video_embed.embeddings_st_pos.temporal_pos_embed.weight", MATRIX},
    {NULL, "video_embed.embeddings_type.weight", UNUSED},
    {"output.norm.weight", "loss_prepare.ln_post.weight", VECTOR},
    {"output.norm.bias", "loss_prepare.ln_post.bias", VECTOR},
    {"output.proj.weight", "loss_prepare.proj.weight", MATRIX},
    {"output.proj.bias", "loss_prepare.proj.bias", VECTOR},
};
static const row layer_rows[] = {
    {"norm1.weight", "norm1.weight", VECTOR},
    {"norm1.bias", "norm1.bias", VECTOR},
    {"attention.qkv.weight", "self_attn.in_proj_weight", MATRIX},
    {"attention.qkv.bias", "self_attn.in_proj_bias", VECTOR},
    {"attention.out.weight", "self_attn.out_proj.weight", MATRIX},
    {"attention.out.bias", "self_attn.out_proj.bias", VECTOR},
    {"scale1", "gamma_1", VECTOR},
    {"norm2.weight", "norm2.weight", VECTOR},
    {"norm2.bias", "norm2.bias", VECTOR},
    {"ffn.up.weight", "linear1.weight", MATRIX},
    {"ffn.up.bias", "linear1.bias", VECTOR},
    {"ffn.down.weight", "linear2.weight", MATRIX},
    {"ffn.down.bias", "linear2.bias", VECTOR},
    {"scale2", "gamma_2", VECTOR},
};
enum {
    OUTER_ROWS = sizeof outer_rows / sizeof outer_rows[0],
    LAYER_ROWS = sizeof layer_rows / sizeof layer_rows[0],
    NAME_SIZE = 128
};
static const char scale_own[] = "logit_scale.", scale_released[] = "loss_prepare.logit_scale_";

/* --- the table of one configuration --- */

typedef struct entry {
    char released[NAME_SIZE];
    form form;
    int own; /* in up_params.list, -1: none */
    up_safetensor spec;
} entry;

static void set_shape(const up_config *c, const up_param *p, entry *e) {
    static const int dims[] = {
        [MATRIX] = 2, [VECTOR] = 1, [PIXELS] = 4, [TOKENS] = 2, [TYPES] = 2, [UNUSED] = 2, [SCALAR] = 0};
    int64_t rows = p ? p->rows : 1, cols = p ? p->cols : c->width;
    int64_t first = e->form == VECTOR ? cols : e->form == TOKENS ? rows + 1 : e->form == TYPES ? 2 : rows;
    e->spec = (up_safetensor){.type = UP_ST_F32, .ndim = dims[e->form], .shape = {first, cols}};
    if (e->form == PIXELS) memcpy(e->spec.shape + 1, (int64_t[]){3, c->patch, c->patch}, 3 * sizeof(int64_t));
    e->spec.count = 1;
    for (int d = 0; d < e->spec.ndim; d++) e->spec.count *= e->spec.shape[d];
}

static void add_entry(const up_config *c, const up_params *params, entry *e, const row *r,
                      const char *own_prefix, const char *released_prefix) {
    char own[NAME_SIZE];
    snprintf(own, sizeof own, "%s%s", own_prefix, r->own ? r->own : "");
    snprintf(e->released, sizeof e->released, "%s%s", released_prefix, r->released);
    e->form = r->form;
    e->own = r->own ? up_params_find(params, own) : -1;
    set_shape(c, e->own < 0 ? NULL : &params->list[e->own], e);
    e->spec.name = e->released;
}

/* All tensors of a released model of this configuration, malloc'ed. */
static up_status make_entries(const char *path, const up_config *c, const up_params *params, entry **out,
                              size_t *count) {
    entry *e = calloc(OUTER_ROWS + (size_t)c->layers * LAYER_ROWS + (size_t)c->tasks, sizeof *e);
    if (!e) return up_fail(UP_ERR_MEMORY, path, "no memory for its table of tensors");
    *out = e;
    for (int i = 0; i < OUTER_ROWS; i++) add_entry(c, params, e++, &outer_rows[i], "", "");
    for (int l = 0; l < c->layers; l++) {
        char own[32], released[48];
        snprintf(own, sizeof own, "layers.%d.", l);
        snprintf(released, sizeof released, "fused_encoder.layers.%d.", l);
        for (int i = 0; i < LAYER_ROWS; i++) add_entry(c, params, e++, &layer_rows[i], own, released);
    }
    for (int i = 0; i < c->tasks; i++) {
        const row scale = {c->task_names[i], c->task_names[i], SCALAR};
        add_entry(c, params, e++, &scale, scale_own, scale_released);
    }
    *count = (size_t)(e - *out);
    return UP_OK;
}

/* --- import: the file, of either kind --- */

typedef struct archive {
    up_torch_file *torch; /* one of the two */
    up_safetensors *plain;
} archive;

static int is_safetensors(const char *path) {
    static const char ending[] = ".safetensors";
    size_t length = strlen(path), tail = strlen(ending);
    return length >= tail && !strcmp(path + length - tail, ending);
}

static up_status open_archive(const char *path, archive *a) {
    return is_safetensors(path) ? up_safetensors_open(path, &a->plain) : up_torch_open(path, &a->torch);
}

static void close_archive(archive *a) {
    up_torch_close(a->torch);
    up_safetensors_close(a->plain);
}

static size_t tensor_count(const archive *a) {
    return a->plain ? up_safetensors_count(a->plain) : up_torch_count(a->torch);
}

static const up_safetensor *tensor_at(const archive *a, size_t i) {
    return a->plain ? up_safetensors_at(a->plain, i) : up_torch_at(a->torch, i);
}

static const up_safetensor *find_tensor(const archive *a, const char *name) {
    return a->plain ? up_safetensors_find(a->plain, name) : up_torch_find(a->torch, name);
}

/* --- import: the configuration from shapes --- */

/* Size d of a tensor, by which the configuration goes. */
static up_status size_of(const char *path, const archive *file, const char *name, int ndim, int d, int *out) {
    const up_safetensor *t = find_tensor(file, name);
    if (!t) return up_fail(UP_ERR_FORMAT, path, "is no released model: \"%s\" is missing", name);
    if (t->ndim != ndim || t->shape[d] < 1 || t->shape[d] > 1 << 24)
        return up_fail(UP_ERR_FORMAT, path, "\"%s\" has another shape than a released model's", name);
    *out = (int)t->shape[d];
    return UP_OK;
}

static int count_layers(const archive *file) {
    int layers = 0;
    char name[NAME_SIZE];
    do snprintf(name, sizeof name, "fused_encoder.layers.%d.norm1.weight", layers++);
    while (find_tensor(file, name));
    return layers - 1;
}

/* The temperatures that the file has, in its order. */
static up_status find_tasks(const char *path, const archive *file, up_config *c) {
    size_t prefix = strlen(scale_released);
    c->tasks = 0;
    for (size_t i = 0; i < tensor_count(file); i++) {
        const char *name = tensor_at(file, i)->name;
        char shown[4 * UP_NAME_SIZE];
        if (strncmp(name, scale_released, prefix)) continue;
        up_printable(name + prefix, strlen(name + prefix), shown, sizeof shown);
        if (strcmp(shown, name + prefix)) /* names are shown, so model files take no others */
            return up_fail(UP_ERR_FORMAT, path, "a control character in the name \"%s\"", name);
        if (c->tasks == UP_MAX_TASKS || !name[prefix] || strlen(name + prefix) >= UP_NAME_SIZE)
            return up_fail(UP_ERR_FORMAT, path, "\"%s\": wanted at most %d short names of temperatures", name,
                           UP_MAX_TASKS);
        strcpy(c->task_names[c->tasks++], name + prefix);
    }
    return UP_OK;
}

static up_status find_config(const char *path, const archive *file, const up_released_options *options,
                             up_config *c, int *grid) {
    int cells = 0;
    UP_TRY(up_config_preset("released-base", c));
    UP_TRY(size_of(path, file, outer_rows[0].released, 2, 0, &c->vocabulary));
    UP_TRY(size_of(path, file, outer_rows[0].released, 2, 1, &c->width));
    UP_TRY(size_of(path, file, outer_rows[1].released, 2, 0, &c->text_positions));
    UP_TRY(size_of(path, file, "video_embed.embeddings.weight", 4, 2, &c->patch));
    UP_TRY(size_of(path, file, outer_rows[7].released, 2, 0, &cells));
    UP_TRY(size_of(path, file, outer_rows[8].released, 2, 0, &c->frames));
    UP_TRY(size_of(path, file, "fused_encoder.layers.0.linear1.weight", 2, 0, &c->ffn));
    *grid = (int)lround(sqrt(cells));
    if (*grid * *grid != cells || c->patch > 256 || *grid > 8192 / c->patch)
        return up_fail(UP_ERR_FORMAT, path, "its %d cells of %d pixels are no square picture", cells,
                       c->patch);
    c->layers = count_layers(file);
    c->image_size = options->image_size ? options->image_size : *grid * c->patch;
    if (c->image_size != 224) c->image_resize = c->image_size; /* the preset's is for 224 */
    c->video_resize = c->image_size;
    c->heads = options->heads ? options->heads : c->width / 64;
    if (c->heads < 1) c->heads = 1;
    if (c->layers == 24 && c->width == 1024) snprintf(c->preset, sizeof c->preset, "released-large");
    UP_TRY(find_tasks(path, file, c));
    return up_config_check(c);
}

/* --- import: which tensors there are --- */

static int same_shape(const up_safetensor *a, const up_safetensor *b) {
    if (a->ndim != b->ndim) return 0;
    for (int d = 0; d < a->ndim; d++)
        if (a->shape[d] != b->shape[d]) return 0;
    return 1;
}

/* Names for a message of one line. */
typedef struct names {
    char text[256];
    size_t count;
} names;

static void note(names *n, const char *name) {
    size_t used = strlen(n->text);
    if (used + strlen(name) + 8 < sizeof n->text)
        snprintf(n->text + used, sizeof n->text - used, "%s%s", n->count ? ", " : "", name);
    else if (used < 4 || strcmp(n->text + used - 3, "..."))
        snprintf(n->text + used, sizeof n->text - used, "...");
    n->count++;
}

static int is_expected(const entry *entries, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (!strcmp(entries[i].released, name)) return 1;
    return 0;
}

static up_status check_tensors(const char *path, const archive *file, const entry *entries, size_t count) {
    names missing = {"", 0}, unexpected = {"", 0};
    for (size_t i = 0; i < count; i++)
        if (!find_tensor(file, entries[i].released)) note(&missing, entries[i].released);
    for (size_t i = 0; i < tensor_count(file); i++)
        if (!is_expected(entries, count, tensor_at(file, i)->name))
            note(&unexpected, tensor_at(file, i)->name);
    if (missing.count || unexpected.count)
        return up_fail(UP_ERR_FORMAT, path, "is no released model: missing: %zu (%s); unexpected: %zu (%s)",
                       missing.count, missing.text, unexpected.count, unexpected.text);
    for (size_t i = 0; i < count; i++)
        if (!same_shape(&entries[i].spec, find_tensor(file, entries[i].released)))
            return up_fail(UP_ERR_FORMAT, path,
                           "\"%s\" has another shape than its model's other tensors want",
                           entries[i].released);
    return UP_OK;
}

/* --- import: values --- */

typedef struct import {
    const char *from;
    archive file;
    up_config config;
    up_params params;
    entry *entries; /* [count] */
    size_t count;
    int grid; /* cells a side of the file's position table */
    float *values, *resized;
    up_safetensors_writer *writer;
} import;

static up_status put_values(import *m, const entry *e) {
    const up_param *p = &m->params.list[e->own];
    size_t bytes = (size_t)(p->rows * p->cols) * sizeof(float);
    UP_TRY(up_safetensors_put(m->writer, m->values, bytes));
    if (e->form != TOKENS) return UP_OK;
    return up_safetensors_put(m->writer, m->values + p->rows * p->cols, (size_t)p->cols * sizeof(float));
}

static up_status import_entry(import *m, const entry *e) {
    const up_safetensor *t = find_tensor(&m->file, e->released);
    int cells = up_config_cells(&m->config), side = m->config.image_size / m->config.patch;
    if (e->own < 0) return UP_OK;
    if (m->file.torch) UP_TRY(up_torch_check(m->file.torch, t));
    UP_TRY(up_safetensor_to_f32(t, m->values));
    if (m->file.torch) up_torch_release(m->file.torch, t);
    if (e->form == SCALAR && !isfinite(m->values[0]))
        return up_fail(UP_ERR_FORMAT, m->from, "\"%s\" is not finite", e->released);
    if (e->own == m->params.space && side != m->grid) {
        up_resize_grid(m->values, m->grid, m->resized, side, m->config.width);
        memcpy(m->values, m->resized, (size_t)cells * (size_t)m->config.width * sizeof(float));
    }
    return put_values(m, e);
}

/* Tensors here, in the order in which the file's table gives them: <SPE> behind the tokens. */
static up_status begin_model(import *m, const char *to) {
    up_status status = UP_OK;
    char *config = NULL;
    size_t count = 0;
    up_safetensor *specs = calloc((size_t)m->params.count, sizeof *specs);
    if (!specs) UP_GO(up_fail(UP_ERR_MEMORY, to, "no memory for its header"));
    for (size_t i = 0; i < m->count; i++) {
        const entry *e = &m->entries[i];
        if (e->own < 0) continue;
        const up_param *p = &m->params.list[e->own];
        int flat = e->form == VECTOR || e->form == SCALAR;
        specs[count++] = (up_safetensor){.name = p->name,
                                         .ndim = flat ? 1 : 2,
                                         .type = UP_ST_F32,
                                         .shape = {flat ? p->cols : p->rows, p->cols}};
        if (e->form == TOKENS)
            specs[count++] = (up_safetensor){.name = m->params.list[m->params.spe].name,
                                             .ndim = 2,
                                             .type = UP_ST_F32,
                                             .shape = {1, p->cols}};
    }
    UP_GO(up_config_to_json(&m->config, &config));
    const char *metadata[][2] = {{"format", "uniperceiver"}, {"config", config}};
    UP_GO(up_safetensors_begin(to, (const char *const(*)[2])metadata, 2, specs, count, &m->writer));
done:
    free(config);
    free(specs);
    return status;
}

static up_status import_to(import *m, const up_released_options *options, const char *to) {
    int side;
    int64_t most = 0;
    UP_TRY(find_config(m->from, &m->file, options, &m->config, &m->grid));
    UP_TRY(up_params_build(&m->config, &m->params));
    UP_TRY(make_entries(m->from, &m->config, &m->params, &m->entries, &m->count));
    side = m->config.image_size / m->config.patch;
    for (size_t i = 0; i < m->count; i++) {
        entry *e = &m->entries[i];
        if (e->spec.count > most) most = e->spec.count; /* before the file's own grid, which may be smaller */
        if (e->own == m->params.space) e->spec.shape[0] = (int64_t)m->grid * m->grid;
        if (e->own == m->params.space && e->spec.shape[0] * m->config.width > most)
            most = e->spec.shape[0] * m->config.width;
    }
    UP_TRY(check_tensors(m->from, &m->file, m->entries, m->count));
    m->values = malloc((size_t)most * sizeof *m->values);
    m->resized = malloc((size_t)side * (size_t)side * (size_t)m->config.width * sizeof *m->resized);
    if (!m->values || !m->resized) return up_fail(UP_ERR_MEMORY, m->from, "no memory for its largest tensor");
    UP_TRY(begin_model(m, to));
    for (size_t i = 0; i < m->count; i++) UP_TRY(import_entry(m, &m->entries[i]));
    up_safetensors_writer *writer = m->writer;
    m->writer = NULL;
    return up_safetensors_commit(writer);
}

up_status up_released_import(const char *from, const up_released_options *options, const char *to) {
import m = {.from = from };
    UP_TRY(open_archive(from, &m.file));
    up_status status = import_to(&m, options, to);
    up_safetensors_abort(m.writer);
    free(m.values);
    free(m.resized);
    free(m.entries);
    up_params_free(&m.params);
    close_archive(&m.file);
    return status;
}

/* --- export --- */

static up_status check_exportable(const char *to, const up_config *c) {
    if (c->prompts || c->classes)
        return up_fail(UP_ERR_UNSUPPORTED, to, "released models have no prompts and no linear head");
    if (!c->shared_norm || !c->image_time || c->visual_type || !c->output_head || !c->layer_scale)
        return up_fail(
            UP_ERR_UNSUPPORTED, to,
            "the model is not of the released architecture (preset released-base, released-large)");
    return UP_OK;
}

typedef struct sink {
    up_torch_writer *torch; /* one of the two */
    up_safetensors_writer *plain;
} sink;

static up_status open_sink(const char *to, const up_safetensor *specs, size_t count, sink *s) {
    if (is_safetensors(to)) return up_safetensors_begin(to, NULL, 0, specs, count, &s->plain);
    return up_torch_begin(to, specs, count, &s->torch);
}

static up_status commit_sink(sink *s) {
    sink open = *s;
    *s = (sink){0};
    return open.plain ? up_safetensors_commit(open.plain) : up_torch_commit(open.torch);
}

typedef struct export {
    const char *to;
    up_model *model; /* the checked table of its tensors; their values are read from `file` */
    up_safetensors *file;
    entry *entries; /* [count] */
    up_safetensor *specs;
    size_t count;
    float *values;
    sink sink;
}
export;

/* A tensor of theirs; what is not kept here is 0. */
static up_status export_entry(export *x, const entry *e) {
    const up_params *params = up_model_params(x->model);
    size_t bytes = (size_t)e->spec.count * sizeof *x->values;
    memset(x->values, 0, bytes);
    if (e->own >= 0) {
        const up_param *p = &params->list[e->own];
        const up_safetensor *t = up_safetensors_find(x->file, p->name);
        const up_safetensor *spe = up_safetensors_find(x->file, params->list[params->spe].name);
        UP_TRY(up_safetensor_to_f32(t, x->values));
        if (e->form == TOKENS && spe) /* older files have it as the table's last row, as they do there */
            UP_TRY(up_safetensor_to_f32(spe, x->values + p->rows * p->cols));
        up_file_release(t->data, t->bytes);
    }
    return x->sink.plain ? up_safetensors_put(x->sink.plain, x->values, bytes)
                         : up_torch_put(x->sink.torch, x->values, bytes);
}

static up_status export_all(export *x) {
    int64_t most = 0;
    x->specs = calloc(x->count, sizeof *x->specs);
    for (size_t i = 0; x->specs && i < x->count; i++) {
        x->specs[i] = x->entries[i].spec;
        if (x->specs[i].count > most) most = x->specs[i].count;
    }
    x->values = malloc((size_t)most * sizeof *x->values);
    if (!x->specs || !x->values) return up_fail(UP_ERR_MEMORY, x->to, "no memory for its largest tensor");
    UP_TRY(open_sink(x->to, x->specs, x->count, &x->sink));
    for (size_t i = 0; i < x->count; i++) UP_TRY(export_entry(x, &x->entries[i]));
    return commit_sink(&x->sink);
}

up_status up_released_export(const char *from, const char *to) {
    up_status status = UP_OK;
    export x = {.to = to};
    up_backend *backend = NULL;
    UP_GO(up_backend_create("ref", 1, &backend));
    UP_GO(up_model_map(backend, from, &x.model));
    UP_GO(check_exportable(to, up_model_config(x.model)));
    UP_GO(make_entries(to, up_model_config(x.model), up_model_params(x.model), &x.entries, &x.count));
    UP_GO(up_safetensors_open(from, &x.file));
    UP_GO(export_all(&x));
done:
    up_torch_abort(x.sink.torch);
    up_safetensors_abort(x.sink.plain);
    free(x.values);
    free(x.specs);
    free(x.entries);
    up_safetensors_close(x.file);
    up_model_destroy(x.model);
    up_backend_free(backend);
    return status;
}
