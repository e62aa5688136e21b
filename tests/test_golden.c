/* test_golden.c - the model against golden/model: an independent float64 implementation
 * (golden/make_model.py). Layout and masks exactly; forward values, losses, every gradient and three AdamW
 * steps within bounds of the arithmetic, at each element type of the activations.
 *
 * Bounds, relative in the norm of each tensor. `ref` at f32: 1e-6 forward, 1e-5 in gradients, and in losses
 * 1e-6 or, where a logit is scaled so much that rounding moves it further, what storing tensors as f32 loses.
 * All else: twice what honest runs of the same implementation lose at that type (in the fixtures).
 *  - The gradient of a temperature, or of alpha, is a sum over all logits that mostly cancels: it may lose a
 * part of the sum of its terms.
 *  - A row of a gradient that is exactly zero there (an unused token, a clamped temperature) must be so here.
 *  - A weight may be off by what Adam makes of the gradient's measured difference: see update_bound. */
#include "tests/support.h"
#include "files/file.h"
#include "files/safetensors.h"
#include "files/weights.h"
#include "uniperceiver/loss.h"
#include "uniperceiver/optimizer.h"
#include "uniperceiver/target_set.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BATCHES = 8, ROW_FIELDS = 5, SEQUENCE_FIELDS = 6, CHUNK_TOKENS = 7, LOSS_SCALE_F16 = 1024 };
enum { ROW_TEXT, ROW_IMAGE, ROW_VIDEO }; /* first field of a row of the expected `rows` tables */

/* One way to compute a case. */
typedef struct variant {
    const char *backend;
    up_dtype dtype;
    int all_rows;    /* 1: the last layer computes every row, and its whole output is compared too */
    int chunked;     /* 1: target sets are encoded in chunks of CHUNK_TOKENS */
    unsigned groups; /* groups that learn; 0: as the case says */
} variant;

/* How far a tensor may be off, relative to its norm. */
typedef struct bounds {
    double forward, gradient, all; /* a tensor; one gradient; all gradients together */
    double factor;                 /* the gradient of a temperature, relative to its terms */
    double features[MAX_BATCHES], loss[MAX_BATCHES];
} bounds;

/* One batch of a case: inputs, and the target set that it is compared with. Both may be those of an earlier
 * batch, the owner. */
typedef struct pair {
    const json_t *description;
    up_batch x, y;
    float *x_drop, *y_drop;    /* factors of drop path, or NULL */
    up_features inputs, drawn; /* `drawn`: features of targets with given drop factors */
    up_target_set *set;        /* NULL: that of batch y_owner, or the targets have drop factors */
    int x_owner, y_owner;
} pair;

typedef struct golden {
    const char *name;
    variant how;
    json_t *kase;
    up_config config;
    up_safetensors *inputs, *expected;
    up_backend *backend;
    up_model *base, *model; /* the same where it is no tuned task */
    int owns_base;
    int subset, idle; /* fewer parameters learn than in the fixtures; none of them */
    up_gradients *gradients;
    up_optimizer *optimizer;
    up_encoder *x, *y, *scout; /* of inputs; of targets, with gradients and without */
    up_criterion *criterion;
    up_set_encoders sets;
    int batches, late; /* late: sets go back at the end of a step, else after the inputs */
    pair pairs[MAX_BATCHES];
    up_adamw adamw;
    double lr, scale; /* scale: of the loss */
    bounds bound;
    double worst_forward, worst_loss, worst_gradient, worst_all, worst_update; /* parts of the bounds */
    /* By place[p] + i for element i of parameter p: weights at the start, the latest gradient, and for
     * update_bound the expected second moment, the largest difference of a clipped gradient so far, and how
     * far a weight may be off by now. */
    int64_t *place, total;
    double *start, *gradient, *second, *difference, *way;
} golden;

/* ---- reading fixtures ---- */

static const up_safetensor *find(up_safetensors *file, up_safetensors_type type, const char *format, ...)
    UP_PRINTF(3, 4);
static const up_safetensor *find(up_safetensors *file, up_safetensors_type type, const char *format, ...) {
    char name[128];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const up_safetensor *tensor = up_safetensors_find(file, name);
    if (!tensor || tensor->type != type)
        fprintf(stderr, "golden: tensor %s is missing or of another type\n", name);
    CU_ASSERT_FATAL(tensor && tensor->type == type);
    return tensor;
}

static double value(const up_safetensor *t, int64_t i) { /* of an F64 tensor; the map may be unaligned */
    double v;
    memcpy(&v, (const char *)t->data + (size_t)i * sizeof v, sizeof v);
    return v;
}

static int32_t integer(const up_safetensor *t, int64_t i) {
    int32_t v;
    memcpy(&v, (const char *)t->data + (size_t)i * sizeof v, sizeof v);
    return v;
}

static void *must(void *memory) {
    CU_ASSERT_PTR_NOT_NULL_FATAL(memory);
    return memory;
}

static float *floats(const up_safetensor *t) { /* malloc'ed */
    float *out = must(malloc((size_t)t->count * sizeof *out + 1));
    UP_ASSERT_OK(up_safetensor_to_f32(t, out));
    return out;
}

static json_t *load_json(const char *name, const char *file) {
    char path[256];
    json_error_t error;
    snprintf(path, sizeof path, "golden/model/%s/%s", name, file);
    json_t *root = json_load_file(up_test_path(path), 0, &error);
    if (!root) fprintf(stderr, "%s: %s\n", path, error.text);
    return must(root);
}

static up_safetensors *load_tensors(const char *name, const char *file) {
    char path[256];
    up_safetensors *out = NULL;
    snprintf(path, sizeof path, "golden/model/%s/%s.safetensors", name, file);
    UP_ASSERT_OK(up_safetensors_open(up_test_path(path), &out));
    return out;
}

static int number(const json_t *object, const char *key) {
    return (int)json_integer_value(json_object_get(object, key));
}
static double real(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}
static const char *string(const json_t *object, const char *key) {
    return must((void *)(uintptr_t)json_string_value(json_object_get(object, key)));
}

static int32_t *integers_of(const json_t *array) { /* malloc'ed; one more than needed */
    size_t n = json_array_size(array);
    int32_t *out = must(calloc(n + 1, sizeof *out));
    for (size_t i = 0; i < n; i++) out[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return out;
}

/* The array of inputs.safetensors that `key` names; NULL where it names none. */
static float *named_floats(golden *g, const json_t *object, const char *key) {
    const char *name = json_string_value(json_object_get(object, key));
    return name ? floats(find(g->inputs, UP_ST_F32, "%s", name)) : NULL;
}

static float *drop_factors(golden *g, const json_t *batch, int side) {
    const char *name = json_string_value(json_array_get(json_object_get(batch, "drop_names"), (size_t)side));
    CU_ASSERT_PTR_NOT_NULL_FATAL(name);
    return *name ? floats(find(g->inputs, UP_ST_F32, "%s", name)) : NULL;
}

/* ---- batches ---- */

static void add_patches(golden *g, up_batch *batch, const json_t *part) {
    int cells = up_config_cells(&g->config), frames = number(part, "frames");
    int clip = !strcmp(string(part, "part"), "video"), first = number(part, "first_frame");
    if (number(part, "bytes")) {
        const uint8_t *bytes = find(g->inputs, UP_ST_U8, "%s", string(part, "patches"))->data;
        UP_ASSERT_OK(clip ? up_batch_video(batch, bytes, frames, cells, first)
                          : up_batch_image(batch, bytes, cells));
        return;
    }
    float *values = named_floats(g, part, "patches");
    UP_ASSERT_OK(clip ? up_batch_video_values(batch, values, frames, cells, first)
                      : up_batch_image_values(batch, values, cells));
    free(values);
}

static void add_words(up_batch *batch, const json_t *part) {
    const json_t *list = json_object_get(part, "ids"), *marks = json_object_get(part, "read");
    int count = (int)json_array_size(list);
    int32_t *ids = integers_of(list), *marked = integers_of(marks);
    uint8_t *read = must(calloc((size_t)count + 1, 1));
    for (int i = 0; i < count && json_is_array(marks); i++) read[i] = (uint8_t)marked[i];
    if (!strcmp(string(part, "part"), "text"))
        UP_ASSERT_OK(up_batch_text(batch, ids, count, number(part, "first_position"),
                                   json_is_array(marks) ? read : NULL));
    else
        UP_ASSERT_OK(up_batch_words_and_slots(batch, ids, count));
    free(ids);
    free(marked);
    free(read);
}

/* The sequences of one side of a description. */
static void build_side(golden *g, up_batch *batch, const json_t *description, up_side side) {
    size_t s, p;
    json_t *sequence, *part;
    UP_ASSERT_OK(up_batch_begin(batch, &g->config));
    json_array_foreach(json_object_get(description, "sequences"), s, sequence) {
        if (number(sequence, "side") != (int)side) continue;
        UP_ASSERT_OK(up_batch_open(batch, side, number(sequence, "read")));
        json_array_foreach(json_object_get(sequence, "parts"), p, part) {
            int patches = json_object_get(part, "patches") != NULL;
            if (patches)
                add_patches(g, batch, part);
            else
                add_words(batch, part);
        }
        UP_ASSERT_OK(up_batch_close(batch));
    }
    UP_ASSERT_OK(up_batch_check(batch, &g->config));
}

/* Write the patches of one modality into the [N, ROW_FIELDS] table and count them in `seen`. */
static void lay_patches(const up_patch_rows *p, int kind, int tokens, int32_t *table, int *seen) {
    for (int i = 0; i < p->count; i++) {
        CU_ASSERT_FATAL(p->row[i] >= 0 && p->row[i] < tokens);
        int32_t row[ROW_FIELDS] = {kind, -1, -1, p->cell[i], p->frame[i]};
        memcpy(table + (size_t)p->row[i] * ROW_FIELDS, row, sizeof row);
        seen[p->row[i]]++;
    }
}

static void check_rows(golden *g, const up_batch *b, int index, char side) {
    const up_safetensor *rows = find(g->expected, UP_ST_I32, "batch%d.%c.rows", index, side);
    CU_ASSERT_EQUAL_FATAL(b->tokens, rows->shape[0]);
    int32_t *table = must(calloc((size_t)b->tokens * ROW_FIELDS, sizeof *table));
    int *seen = must(calloc((size_t)b->tokens, sizeof *seen));
    for (int i = 0; i < b->text_count; i++) {
        CU_ASSERT_FATAL(b->text_row[i] >= 0 && b->text_row[i] < b->tokens);
        int32_t row[ROW_FIELDS] = {ROW_TEXT, b->text_id[i], b->text_position[i], -1, -1};
        memcpy(table + (size_t)b->text_row[i] * ROW_FIELDS, row, sizeof row);
        seen[b->text_row[i]]++;
    }
    lay_patches(&b->image, ROW_IMAGE, b->tokens, table, seen);
    lay_patches(&b->video, ROW_VIDEO, b->tokens, table, seen);
    for (int i = 0; i < b->tokens; i++) CU_ASSERT_EQUAL(seen[i], 1);
    CU_ASSERT_EQUAL(memcmp(table, rows->data, rows->bytes), 0);
    free(table);
    free(seen);
}

static void check_mask(const up_safetensor *mask, const int32_t *f, int n) {
    const uint8_t *sees = mask->data;
    int wrong = 0;
    CU_ASSERT_EQUAL_FATAL(mask->count, (int64_t)n * n);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            wrong += sees[i * n + j] != up_mask_sees(f[UP_SEQ_KIND], f[UP_SEQ_PREFIX], f[UP_SEQ_WORDS], i, j);
    CU_ASSERT_EQUAL(wrong, 0);
}

static void check_sequences(golden *g, const up_batch *b, int index, char side) {
    const up_safetensor *sequences = find(g->expected, UP_ST_I32, "batch%d.%c.sequences", index, side);
    CU_ASSERT_EQUAL_FATAL(b->sequences, sequences->shape[0]);
    int longest = 0;
    for (int s = 0; s < b->sequences; s++) {
        const int32_t *f = b->sequence + (size_t)s * UP_SEQ_FIELDS;
        int32_t want[SEQUENCE_FIELDS]; /* start, count, kind, prefix, words, side */
        for (int i = 0; i < SEQUENCE_FIELDS; i++) want[i] = integer(sequences, s * SEQUENCE_FIELDS + i);
        CU_ASSERT_FATAL(f[UP_SEQ_Q_START] == want[0] && f[UP_SEQ_Q_COUNT] == want[1]);
        CU_ASSERT(f[UP_SEQ_K_START] == want[0] && f[UP_SEQ_K_COUNT] == want[1]);
        CU_ASSERT(f[UP_SEQ_KIND] == (want[2] ? UP_MASK_DOUBLED : UP_MASK_FULL) && f[UP_SEQ_SIDE] == want[5]);
        CU_ASSERT(!want[2] || (f[UP_SEQ_PREFIX] == want[3] && f[UP_SEQ_WORDS] == want[4]));
        check_mask(find(g->expected, UP_ST_U8, "batch%d.%c.mask%d", index, side, s), f, want[1]);
        if (want[1] > longest) longest = want[1];
    }
    CU_ASSERT_EQUAL(b->max_keys, longest);
}

static void check_layout(golden *g, const up_batch *b, int index, char side) {
    const up_safetensor *rows = find(g->expected, UP_ST_I32, "batch%d.%c.readouts", index, side);
    check_rows(g, b, index, side);
    check_sequences(g, b, index, side);
    CU_ASSERT_FATAL(b->readouts == rows->count);
    CU_ASSERT_EQUAL(memcmp(b->readout_row, rows->data, rows->bytes), 0);
}

/* ---- target sets ---- */

/* All targets are plain texts of at least one token: their ids end to end, with starts [n + 1]. */
typedef struct texts {
    int32_t *ids;
    int64_t *starts, n;
} texts;

static int read_texts(const json_t *description, texts *t) {
    const json_t *sequences = json_object_get(description, "sequences");
    size_t s, i;
    json_t *sequence, *id;
    t->n = 0;
    t->ids = must(calloc(json_array_size(sequences) * 256, sizeof *t->ids));
    t->starts = must(calloc(json_array_size(sequences) + 1, sizeof *t->starts));
    json_array_foreach(sequences, s, sequence) {
        const json_t *parts = json_object_get(sequence, "parts"), *part = json_array_get(parts, 0);
        const json_t *ids = json_object_get(part, "ids");
        if (!number(sequence, "side")) continue;
        if (json_array_size(parts) != 1 || !json_array_size(ids) || number(part, "first_position")) return 0;
        int64_t at = t->starts[t->n];
        json_array_foreach(ids, i, id) t->ids[at++] = (int32_t)json_integer_value(id);
        t->starts[++t->n] = at;
    }
    return 1;
}

/* Vocabulary entries: two tokens each, the second the same in all. */
static int are_words(const texts *t) {
    for (int64_t i = 0; i < t->n; i++)
        if (t->starts[i + 1] != 2 * (i + 1) || t->ids[2 * i + 1] != t->ids[1]) return 0;
    return 1;
}

/* From sequences, or (`short_way`) from ids where they are all that the targets are. */
static void fill_set(golden *g, up_target_set *set, const json_t *description, int short_way) {
    texts t;
    int plain = read_texts(description, &t);
    if (short_way && plain && are_words(&t)) {
        int32_t end = t.ids[1];
        for (int64_t i = 0; i < t.n; i++) t.ids[i] = t.ids[2 * i];
        UP_ASSERT_OK(up_target_set_fill_words(set, t.ids, t.n, end));
    } else if (short_way && plain) {
        UP_ASSERT_OK(up_target_set_fill_texts(set, t.ids, t.starts, t.n));
    } else {
        up_batch batch = {0};
        build_side(g, &batch, description, UP_SIDE_TARGET);
        UP_ASSERT_OK(up_target_set_fill(set, &batch));
        up_batch_free(&batch);
    }
    free(t.ids);
    free(t.starts);
}

/* ---- a case on a backend ---- */

static float half_value(uint16_t bits) { /* IEEE binary16 */
    int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    float magnitude =
        exponent ? ldexpf((float)(1024 + mantissa), exponent - 25) : ldexpf((float)mantissa, -24);
    if (exponent == 31) magnitude = mantissa ? NAN : INFINITY;
    return bits >> 15 ? -magnitude : magnitude;
}

static float brain_value(uint16_t bits) { /* bfloat16: the upper half of an f32 */
    uint32_t wide = (uint32_t)bits << 16;
    float out;
    memcpy(&out, &wide, sizeof out);
    return out;
}

/* Dense values of a float tensor of any type, over `scale`; malloc'ed. */
static double *download(golden *g, up_view view, double scale) {
    CU_ASSERT_FATAL(up_view_present(view));
    size_t n = (size_t)(view.rows * view.cols);
    void *raw = must(malloc(n * up_dtype_size(view.dtype) + 1));
    double *out = must(malloc(n * sizeof *out + 1));
    UP_ASSERT_OK(g->backend->ops->download(g->backend, raw, view));
    for (size_t i = 0; i < n; i++) {
        if (view.dtype == UP_F32)
            out[i] = ((float *)raw)[i];
        else if (view.dtype == UP_BF16)
            out[i] = brain_value(((uint16_t *)raw)[i]);
        else
            out[i] = half_value(((uint16_t *)raw)[i]);
        out[i] /= scale;
    }
    free(raw);
    return out;
}

/* config.json says the same as the model. */
static void check_config(const golden *g) {
    char path[256], *read = NULL, *kept = NULL;
    void *text = NULL;
    size_t size;
    up_config config;
    snprintf(path, sizeof path, "golden/model/%s/config.json", g->name);
    UP_ASSERT_OK(up_file_read(up_test_path(path), &text, &size));
    UP_ASSERT_OK(up_config_from_json(path, text, &config));
    UP_ASSERT_OK(up_config_to_json(&config, &read));
    UP_ASSERT_OK(up_config_to_json(&g->config, &kept));
    CU_ASSERT_STRING_EQUAL(read, kept);
    free(text);
    free(read);
    free(kept);
}

/* The tensors that a tuned task has of its own are those of its file; they become its values. */
static void upload_own(golden *g) {
    up_safetensors *file = load_tensors(g->name, "weights");
    const up_params *params = up_model_params(g->model);
    size_t owned = 0;
    for (int p = 0; p < params->count; p++) {
        if (!up_model_owns(g->model, p)) continue;
        float *values = floats(find(file, UP_ST_F32, "%s", params->list[p].name));
        UP_ASSERT_OK(g->backend->ops->upload(g->backend, up_model_weight(g->model, p), values));
        free(values);
        owned++;
    }
    CU_ASSERT_EQUAL(owned, up_safetensors_count(file));
    up_model_changed(g->model);
    up_safetensors_close(file);
}

/* The model holds exactly the numbers of the files, its base's where they are not its own; kept in `start`.
 */
static void check_weights_read(golden *g) {
    const char *base = json_string_value(json_object_get(g->kase, "base"));
    up_safetensors *own = load_tensors(g->name, "weights"),
                   *shared = base ? load_tensors(base, "weights") : NULL;
    const up_params *params = up_model_params(g->model);
    for (int p = 0; p < params->count; p++) {
        up_safetensors *file = up_model_owns(g->model, p) ? own : shared;
        CU_ASSERT_PTR_NOT_NULL_FATAL(file);
        const up_safetensor *t = find(file, UP_ST_F32, "%s", params->list[p].name);
        float *want = floats(t);
        double *got = download(g, up_model_weight(g->model, p), 1);
        for (int64_t i = 0; i < t->count; i++) {
            CU_ASSERT(got[i] == want[i]);
            g->start[g->place[p] + i] = want[i];
        }
        free(want);
        free(got);
    }
    up_safetensors_close(own);
    up_safetensors_close(shared);
}

/* The model of the case: read, or a tuned task over `base` (over one that is read here, where that is NULL).
 */
static void open_model(golden *g, up_model *base) {
    char path[256];
    const char *name = json_string_value(json_object_get(g->kase, "base"));
    g->owns_base = !base;
    g->base = base;
    snprintf(path, sizeof path, "golden/model/%s/weights.safetensors", name ? name : g->name);
    if (!base) UP_ASSERT_OK(up_model_read(g->backend, up_test_path(path), &g->base));
    g->model = g->base;
    if (!name) return;
    json_t *config = load_json(g->name, "config.json");
    UP_ASSERT_OK(up_overlay_create(g->base, number(config, "prompts"), number(config, "prompt_sides"),
                                   number(config, "classes"), 1, &g->model));
    CU_ASSERT_PTR_EQUAL(up_model_base(g->model), g->base);
    upload_own(g);
    json_decref(config);
}

static void open_memory(golden *g) {
    const up_params *params = up_model_params(g->model);
    g->place = must(calloc((size_t)params->count + 1, sizeof *g->place));
    for (int p = 0; p < params->count; p++) {
        g->place[p] = g->total;
        g->total += params->list[p].rows * params->list[p].cols;
    }
    double **arrays[] = {&g->start, &g->gradient, &g->second, &g->difference, &g->way};
    for (int i = 0; i < 5; i++) *arrays[i] = must(calloc((size_t)g->total, sizeof(double)));
}

static double lost(golden *g, const char *kind, const char *what, int i) {
    const up_safetensor *t = find(g->expected, UP_ST_F64, "%s.%s", kind, what);
    CU_ASSERT_FATAL(i < t->count);
    return 2 * value(t, i);
}

static void set_bounds(golden *g) {
    static const char *const kinds[] = {[UP_F32] = "f32", [UP_BF16] = "bf16", [UP_F16] = "f16"};
    const char *kind = kinds[g->how.dtype];
    bounds *b = &g->bound;
    int exact = !strcmp(g->how.backend, "ref") && g->how.dtype == UP_F32;
    b->forward = exact ? 1e-6 : lost(g, kind, "forward", 0);
    b->gradient = exact ? 1e-5 : lost(g, kind, "gradient", 0);
    b->all = exact ? 1e-5 : lost(g, kind, "all", 0);
    b->factor = exact ? 1e-6 : lost(g, kind, "factor", 0);
    for (int i = 0; i < g->batches; i++) {
        b->features[i] = exact ? 1e-5 : lost(g, kind, "features", i);
        b->loss[i] = exact ? fmax(1e-6, lost(g, "stored", "loss", i) / 2) : lost(g, kind, "loss", i);
    }
}

/* The groups that learn: those of the variant, else those of the case; 0: all. */
static unsigned learning_groups(golden *g) {
    size_t i;
    json_t *name;
    const up_params *params = up_model_params(g->model);
    unsigned groups = 0;
    if (g->how.groups) return g->how.groups;
    json_array_foreach(json_object_get(g->kase, "learns"), i, name) {
        int p = up_params_find(params, json_string_value(name));
        CU_ASSERT_FATAL(p >= 0);
        groups |= 1u << params->list[p].group;
    }
    return groups;
}

/* Whether any parameter of these groups has a gradient in the fixtures. */
static int any_learns(golden *g, unsigned groups) {
    const up_params *params = up_model_params(g->model);
    char name[128];
    for (int p = 0; p < params->count; p++) {
        snprintf(name, sizeof name, "step0.gradient.%s", params->list[p].name);
        if ((groups >> params->list[p].group & 1) && up_safetensors_find(g->expected, name)) return 1;
    }
    return 0;
}

static void open_run(golden *g) {
    const json_t *o = json_object_get(g->kase, "optimizer");
    g->lr = real(o, "lr");
    g->scale = g->how.dtype == UP_F16 ? LOSS_SCALE_F16 : 1;
    g->adamw = (up_adamw){.beta1 = real(o, "beta1"),
                          .beta2 = real(o, "beta2"),
                          .eps = real(o, "eps"),
                          .decay = real(o, "decay"),
                          .max_norm = real(o, "max_norm"),
                          .loss_scale = g->scale};
    g->idle = g->subset && !any_learns(g, g->how.groups);
    if (g->idle) {
        CU_ASSERT_EQUAL(up_gradients_create(g->model, g->how.groups, &g->gradients), UP_ERR_ARGUMENT);
        return;
    }
    UP_ASSERT_OK(up_gradients_create(g->model, learning_groups(g), &g->gradients));
    UP_ASSERT_OK(up_optimizer_create(g->gradients, &g->adamw, &g->optimizer));
    up_encoder_options options = {g->how.dtype, g->gradients, g->how.all_rows};
    UP_ASSERT_OK(up_encoder_create(g->model, &options, &g->x));
    UP_ASSERT_OK(up_encoder_create(g->model, &options, &g->y));
    options.gradients = NULL;
    UP_ASSERT_OK(up_encoder_create(g->model, &options, &g->scout));
    UP_ASSERT_OK(
        up_criterion_create(g->model, g->gradients, up_optimizer_scale(g->optimizer), &g->criterion));
    g->sets = (up_set_encoders){
        .whole = g->y, .chunk = g->x, .scout = g->scout, .tokens = g->how.chunked ? CHUNK_TOKENS : 0};
}

static void open_pair(golden *g, int index) {
    pair *p = &g->pairs[index];
    p->description = json_array_get(json_object_get(g->kase, "batches"), (size_t)index);
    build_side(g, &p->x, p->description, UP_SIDE_INPUT);
    build_side(g, &p->y, p->description, UP_SIDE_TARGET);
    check_layout(g, &p->x, index, 'x');
    check_layout(g, &p->y, index, 'y');
    p->x_drop = drop_factors(g, p->description, 0);
    p->y_drop = drop_factors(g, p->description, 1);
    UP_ASSERT_OK(up_features_create(g->model, 1, &p->inputs));
    UP_ASSERT_OK(up_features_create(g->model, 1, &p->drawn));
    int set_of = number(p->description, "set_of"), x_of = number(p->description, "x_of");
    CU_ASSERT_FATAL(set_of < index && x_of < index);
    p->y_owner = set_of < 0 ? index : set_of;
    p->x_owner = x_of < 0 ? index : x_of;
    if (p->y_drop || p->y_owner != index) return;
    UP_ASSERT_OK(up_target_set_create(g->model, (uint64_t)index, 1, &p->set));
    fill_set(g, p->set, p->description, !g->how.all_rows);
    CU_ASSERT_EQUAL(up_target_set_count(p->set), p->y.sequences);
    CU_ASSERT_EQUAL(up_target_set_tokens(p->set), p->y.tokens);
}

/* On `backend` over `base`, or on its own where they are NULL. */
static void open_golden(golden *g, const char *name, variant how, up_backend *backend, up_model *base) {
    *g = (golden){.name = name, .how = how, .backend = backend, .subset = how.groups != 0};
    g->late = how.all_rows != how.chunked;
    g->kase = load_json(name, "case.json");
    g->inputs = load_tensors(name, "inputs");
    g->expected = load_tensors(name, "expected");
    g->batches = (int)json_array_size(json_object_get(g->kase, "batches"));
    CU_ASSERT_FATAL(g->batches > 0 && g->batches <= MAX_BATCHES);
    set_bounds(g);
    if (!backend) UP_ASSERT_OK(up_backend_create(how.backend, 1, &g->backend));
    open_model(g, base);
    g->config = *up_model_config(g->model);
    check_config(g);
    open_memory(g);
    check_weights_read(g);
    open_run(g);
    for (int i = 0; i < g->batches && !g->idle; i++) open_pair(g, i);
}

static void close_run(golden *g) {
    up_criterion_free(g->criterion);
    up_encoder_free(g->x);
    up_encoder_free(g->y);
    up_encoder_free(g->scout);
    up_optimizer_free(g->optimizer);
    up_gradients_free(g->gradients);
}

static void close_pair(pair *p) {
    up_batch_free(&p->x);
    up_batch_free(&p->y);
    free(p->x_drop);
    free(p->y_drop);
    up_features_free(&p->inputs);
    up_features_free(&p->drawn);
    up_target_set_free(p->set);
}

static void close_golden(golden *g, int owns_backend) {
    for (int i = 0; i < g->batches; i++) close_pair(&g->pairs[i]);
    close_run(g);
    if (g->model != g->base) up_model_destroy(g->model);
    if (g->owns_base) up_model_destroy(g->base);
    if (owns_backend) up_backend_free(g->backend);
    up_safetensors_close(g->inputs);
    up_safetensors_close(g->expected);
    free(g->place);
    free(g->start);
    free(g->gradient);
    free(g->second);
    free(g->difference);
    free(g->way);
    json_decref(g->kase);
}

/* ---- comparisons: written so that a NaN fails ---- */

static double norm_of(const up_safetensor *want) {
    double sum = 0;
    for (int64_t i = 0; i < want->count; i++) sum += value(want, i) * value(want, i);
    return sqrt(sum);
}

/* |got - want| in norm; infinite where a row that is all zero in `want` is not so in `got`, if `zeros`. */
static double distance(const double *got, const up_safetensor *want, int zeros) {
    int64_t cols = want->ndim ? want->shape[want->ndim - 1] : 1;
    double sum = 0;
    for (int64_t r = 0; cols && r < want->count / cols; r++) {
        double off = 0, norm = 0;
        for (int64_t i = r * cols; i < (r + 1) * cols; i++) {
            off += (got[i] - value(want, i)) * (got[i] - value(want, i));
            norm += value(want, i) * value(want, i);
        }
        if (zeros && norm == 0 && off != 0) return INFINITY;
        sum += off;
    }
    return sqrt(sum);
}

static void within(golden *g, double error, double bound, const char *what, int step) {
    static const char *const types[] = {[UP_F32] = "f32", [UP_BF16] = "bf16", [UP_F16] = "f16"};
    int good = error <= bound;
    if (!good)
        fprintf(stderr, "%s on %s, %s, %s rows, %s sets, groups %x, step %d: %s is off by %.3e, bound %.3e\n",
                g->name, g->how.backend, types[g->how.dtype], g->how.all_rows ? "all" : "read",
                g->how.chunked ? "chunked" : "whole", g->how.groups, step, what, error, bound);
    CU_ASSERT(good);
}

static void keep_worst(double *worst, double part) {
    if (!(part <= *worst)) *worst = part;
}

/* A tensor of a batch, relative to its norm; values are `scale` times too large. */
static void check_tensor(golden *g, up_view view, double scale, const char *name, double bound,
                         double *worst) {
    const up_safetensor *want = find(g->expected, UP_ST_F64, "%s", name);
    if (g->backend->ops->static_shapes && want->count / view.cols < view.rows)
        view.rows = want->count / view.cols; /* unused rows follow */
    CU_ASSERT_EQUAL_FATAL(view.rows * view.cols, want->count);
    double *got = download(g, view, scale);
    double error = distance(got, want, 1) / norm_of(want);
    keep_worst(worst, error / bound);
    within(g, error, bound, name, 0);
    free(got);
}

static void check_value(golden *g, up_view view, int batch, char side, const char *what) {
    char name[64];
    snprintf(name, sizeof name, "batch%d.%c.%s", batch, side, what);
    check_tensor(g, view, 1, name, g->bound.forward, &g->worst_forward);
}

/* Where all learns, an encoder keeps every layer. */
static void check_layers(golden *g, const up_encoder *encoder, int batch, char side) {
    char what[16];
    if (g->subset) return;
    check_value(g, up_encoder_view(encoder, UP_ENCODER_EMBEDDING, 0), batch, side, "embedding");
    for (int l = 0; l < g->config.layers - !g->how.all_rows; l++) {
        snprintf(what, sizeof what, "layer%d", l);
        check_value(g, up_encoder_view(encoder, UP_ENCODER_LAYER, l), batch, side, what);
    }
}

static void check_features(golden *g, const up_features *f, int batch, char side) {
    check_value(g, f->raw, batch, side, "features");
    check_value(g, f->unit, batch, side, "unit");
}

/* ---- one batch: encode, compare, back ---- */

static void encode(up_encoder *encoder, const up_batch *batch, const float *drop, up_features *out) {
    UP_ASSERT_OK(up_encoder_stage(encoder, batch, drop));
    UP_ASSERT_OK(up_features_resize(out, up_encoder_readouts(encoder)));
    UP_ASSERT_OK(up_encoder_forward(encoder, out->raw));
    UP_ASSERT_OK(up_features_normalize(out));
}

static up_target_set *set_of(golden *g, int batch) { /* NULL: the targets have drop factors */
    return g->pairs[g->pairs[batch].y_owner].set;
}

/* Features of a batch's targets. Where a set is fresh, making it so again costs nothing. */
static up_features *encode_targets(golden *g, int batch) {
    pair *p = &g->pairs[batch];
    up_target_set *set = set_of(g, batch);
    if (!set) {
        encode(g->y, &p->y, p->y_drop, &p->drawn);
        return &p->drawn;
    }
    int64_t before = up_target_set_encoded(set);
    UP_ASSERT_OK(up_target_set_encode(set, &g->sets));
    int64_t after = up_target_set_encoded(set);
    CU_ASSERT(after == before + (p->y_owner == batch ? up_target_set_tokens(set) : 0));
    UP_ASSERT_OK(up_target_set_encode(set, &g->sets));
    CU_ASSERT_EQUAL(up_target_set_encoded(set), after);
    return up_target_set_features(set);
}

static int32_t *side_groups(const json_t *loss, size_t side) {
    const json_t *groups = json_object_get(loss, "groups");
    return json_is_array(groups) ? integers_of(json_array_get(groups, side)) : NULL;
}

/* Labels, an index or a pair a query; NULL with soft targets. */
static int32_t *labels_of(const json_t *loss, int *choices) {
    const json_t *list = json_object_get(loss, "labels");
    size_t n = json_array_size(list), i;
    json_t *label;
    if (!json_is_array(list)) return NULL;
    *choices = json_is_array(json_array_get(list, 0)) ? 2 : 1;
    if (*choices == 1) return integers_of(list);
    int32_t *out = must(calloc(2 * n, sizeof *out));
    json_array_foreach(list, i, label) {
        int32_t *two = integers_of(label);
        memcpy(out + 2 * i, two, 2 * sizeof *two);
        free(two);
    }
    return out;
}

static up_loss describe_loss(golden *g, const json_t *l) { /* free with forget_loss */
    up_loss loss = {.task = up_config_task(&g->config, string(l, "task")),
                    .shares = named_floats(g, l, "shares"),
                    .soft = named_floats(g, l, "soft"),
                    .bias = named_floats(g, l, "bias"),
                    .group_x = side_groups(l, 0),
                    .group_y = side_groups(l, 1),
                    .symmetric = number(l, "symmetric"),
                    .head = number(l, "head"),
                    .smoothing = (float)real(l, "smoothing"),
                    .weight = (float)real(l, "weight")};
    loss.labels = labels_of(l, &loss.choices);
    CU_ASSERT_FATAL(loss.task >= 0);
    return loss;
}

static void forget_loss(up_loss *loss) {
    const void *arrays[] = {loss->labels, loss->shares, loss->soft, loss->bias, loss->group_x, loss->group_y};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free((void *)(uintptr_t)arrays[i]);
}

static void check_loss(golden *g, int batch, int step, const up_loss *loss) {
    char name[64];
    up_loss_value got = {0};
    UP_ASSERT_OK(up_criterion_value(g->criterion, &got));
    double want = value(find(g->expected, UP_ST_F64, "batch%d.loss", batch), step);
    double error = fabs(got.loss - want) / fabs(want), bound = g->bound.loss[batch];
    keep_worst(&g->worst_loss, error / bound);
    within(g, error, bound, "the loss", step);
    if (step) return;
    snprintf(name, sizeof name, "batch%d.row_loss", batch);
    check_tensor(g, up_criterion_rows(g->criterion), 1, name, bound, &g->worst_loss);
    if (loss->soft || loss->symmetric) return;
    const up_safetensor *accuracy = find(g->expected, UP_ST_F64, "batch%d.accuracy", batch);
    CU_ASSERT_EQUAL(got.rows, (int)value(accuracy, 1));
    if (g->how.dtype == UP_F32) /* two logits may come close to each other */
        CU_ASSERT_DOUBLE_EQUAL(got.accuracy, value(accuracy, 0), 1e-6);
}

/* The gradient of features: what the losses have sent since it last went back, from batch `first` on. */
static void check_feature_gradient(golden *g, up_view view, int first, int batch, char side,
                                   const char *what) {
    const up_safetensor *last = find(g->expected, UP_ST_F64, "batch%d.%c.%s", batch, side, what);
    CU_ASSERT_EQUAL_FATAL(view.rows * view.cols, last->count);
    double *got = download(g, view, g->scale), bound = 0;
    for (int b = first; b <= batch; b++) {
        const pair *one = &g->pairs[b], *all = &g->pairs[batch];
        if (side == 'x' ? one->x_owner != all->x_owner : one->y_owner != all->y_owner) continue;
        const up_safetensor *part = find(g->expected, UP_ST_F64, "batch%d.%c.%s", b, side, what);
        bound += g->bound.features[b] * norm_of(part);
        for (int64_t i = 0; i < part->count && b != batch; i++) got[i] -= value(part, i);
    }
    double error = distance(got, last, first == batch);
    keep_worst(&g->worst_gradient, error / bound);
    within(g, error, bound, what, 0);
    free(got);
}

/* The batch whose losses are the first that have not gone back yet. */
static int first_unsent(golden *g, int batch) {
    return g->late ? 0 : g->pairs[batch].x_owner;
}

static void compare(golden *g, int batch, int step, up_features *x, up_features *y) {
    pair *p = &g->pairs[batch];
    up_loss loss = describe_loss(g, json_object_get(p->description, "loss"));
    UP_ASSERT_OK(up_criterion_compare(g->criterion, x, y, &loss));
    CU_ASSERT(!set_of(g, batch) || up_target_set_owes(set_of(g, batch)));
    check_loss(g, batch, step, &loss);
    if (!step) {
        check_feature_gradient(g, x->dunit, p->x_owner, batch, 'x', "dunit");
        check_feature_gradient(g, y->dunit, first_unsent(g, batch), batch, 'y', "dunit");
    }
    forget_loss(&loss);
}

/* From the gradient of features, sent by batches first..batch, to that of the parameters. */
static void go_back(golden *g, up_encoder *encoder, up_features *f, int first, int batch, int step,
                    char side) {
    UP_ASSERT_OK(up_features_back(f));
    if (!step) check_feature_gradient(g, f->draw, first, batch, side, "dfeatures");
    UP_ASSERT_OK(up_encoder_backward(encoder, f->draw, NULL, NULL));
}

/* All sets that owe. `last`: nothing follows in this step, so that buckets are complete. */
static void sets_back(golden *g, int last) {
    int final = -1;
    for (int b = 0; b < g->batches; b++)
        if (g->pairs[b].set && up_target_set_owes(g->pairs[b].set)) final = b;
    for (int b = 0; b <= final; b++) {
        up_target_set *set = g->pairs[b].set;
        if (!set || !up_target_set_owes(set)) continue;
        up_bucket_done done = last && b == final ? up_optimizer_bucket_done : NULL;
        UP_ASSERT_OK(up_target_set_backward(set, &g->sets, done, g->optimizer));
        CU_ASSERT(!up_target_set_owes(set));
    }
}

/* Values of targets, encoded with their drop factors. */
static void check_targets(golden *g, int batch) {
    pair *p = &g->pairs[batch];
    encode(g->y, &p->y, p->y_drop, &p->drawn);
    check_layers(g, g->y, batch, 'y');
    check_features(g, &p->drawn, batch, 'y');
}

static up_features *encode_inputs(golden *g, int batch, int step) {
    pair *p = &g->pairs[batch];
    up_features *x = &g->pairs[p->x_owner].inputs;
    if (p->x_owner == batch) encode(g->x, &p->x, p->x_drop, x);
    if (step) return x;
    check_layers(g, g->x, batch, 'x');
    check_features(g, x, batch, 'x');
    return x;
}

/* The gradients add up. Values are looked at in the first step. Inputs go back after their last loss. */
static void run_batch(golden *g, int batch, int step) {
    pair *p = &g->pairs[batch];
    int more = batch + 1 < g->batches && g->pairs[batch + 1].x_owner == p->x_owner;
    if (!step) check_targets(g, batch);
    up_features *x = encode_inputs(g, batch, step), *y = encode_targets(g, batch);
    if (!step) check_features(g, y, batch, 'y');
    compare(g, batch, step, x, y);
    if (!more) go_back(g, g->x, x, p->x_owner, batch, step, 'x');
    if (!set_of(g, batch)) go_back(g, g->y, y, batch, batch, step, 'y');
    if (!g->late && !more) sets_back(g, batch + 1 == g->batches);
}

static void run_batches(golden *g, int step) {
    for (int b = 0; b < g->batches; b++) run_batch(g, b, step);
    if (g->late) sets_back(g, 1);
    for (int b = 0; b < g->batches; b++) CU_ASSERT(!g->pairs[b].set || !up_target_set_owes(g->pairs[b].set));
}

/* ---- gradients and steps ---- */

/* What clipping leaves of a gradient of this norm. */
static double clip(const golden *g, double norm) {
    return g->adamw.max_norm > 0 ? fmin(1, g->adamw.max_norm / (norm + 1e-6)) : 1;
}

/* The sum of terms that cancel in the gradient of a temperature or of alpha; -1: another parameter. */
static double terms_of(golden *g, int step, int p) {
    const up_params *params = up_model_params(g->model);
    const up_param *param = &params->list[p];
    const char *name = param->name;
    if (param->group == UP_GROUP_TEMPERATURE)
        name = strchr(name, '.') + 1;
    else if (p != params->head_alpha)
        return -1;
    return value(find(g->expected, UP_ST_F64, "step%d.terms.%s", step, name), 0);
}

/* What learns is what has a gradient in the fixtures, or the part of it that the variant asks for. */
static void check_learns(golden *g, int step, int p) {
    const up_param *param = &up_model_params(g->model)->list[p];
    char name[128];
    snprintf(name, sizeof name, "step%d.gradient.%s", step, param->name);
    int learns = up_safetensors_find(g->expected, name) != NULL;
    if (g->subset) learns = learns && (g->how.groups >> param->group & 1);
    CU_ASSERT_EQUAL_FATAL(up_learns(g->gradients, p), learns);
    CU_ASSERT_EQUAL_FATAL(up_view_present(up_gradient(g->gradients, p)), learns);
}

/* *off, *norm and *slack add up squares: of all errors, of all gradients, of what cancelling sums may lose.
 */
static void check_gradient(golden *g, int step, int p, double *off, double *norm, double *slack) {
    const up_param *param = &up_model_params(g->model)->list[p];
    check_learns(g, step, p);
    if (!up_learns(g->gradients, p)) return;
    const up_safetensor *want = find(g->expected, UP_ST_F64, "step%d.gradient.%s", step, param->name);
    CU_ASSERT_EQUAL_FATAL(want->count, param->rows * param->cols);
    double *got = download(g, up_gradient(g->gradients, p), g->scale);
    double error = distance(got, want, 1), length = norm_of(want), terms = terms_of(g, step, p);
    double bound = terms < 0 ? g->bound.gradient * length : g->bound.factor * terms;
    if (terms >= 0 && g->bound.forward == 1e-6) bound += g->bound.gradient * length; /* `ref` at f32 */
    if (bound > 0) keep_worst(&g->worst_gradient, error / bound);
    within(g, error, bound, param->name, step);
    *off += error * error;
    *norm += length * length;
    if (terms >= 0) *slack += bound * bound;
    for (int64_t i = 0; i < want->count; i++) g->gradient[g->place[p] + i] = got[i];
    free(got);
}

/* Every gradient, and all of them as one vector. Returns the norm that is expected. */
static double check_gradients(golden *g, int step) {
    double off = 0, norm = 0, slack = 0;
    for (int p = 0; p < up_model_params(g->model)->count; p++)
        check_gradient(g, step, p, &off, &norm, &slack);
    double bound = sqrt(g->bound.all * g->bound.all * norm + slack);
    if (bound > 0) keep_worst(&g->worst_all, sqrt(off) / bound);
    within(g, sqrt(off), bound, "the whole gradient", step);
    if (!g->subset) {
        double kept = value(find(g->expected, UP_ST_F64, "step%d.norm", step), 0);
        CU_ASSERT(fabs(kept - sqrt(norm)) <= 1e-12 * kept);
    }
    return sqrt(norm);
}

/* How far one element of Adam's step may be off, in units of the learning rate. With m and s^2 the corrected
 * moments, the step m / (s + eps) has |m| <= R s, R = 1.01 (Cauchy-Schwarz on the weights of at most three
 * steps at beta1 = 0.9), so gradients that differ by at most d move it by at most (1 + R) d / (s - d + eps),
 * and never by more than 2 R. A dozen operations of the step itself round at f32. */
static double update_bound(const up_adamw *a, double d, double s) {
    const double r = 1.01, rounding = ldexp(12, -24);
    return fmin(2 * r, (1 + r) * d / (fmax(s - d, 0) + a->eps)) + rounding;
}

/* The inputs of update_bound after the backward passes of a step; the two norms are before clipping. */
static void follow_moments(golden *g, int step, double norm, double expected_norm) {
    const up_params *params = up_model_params(g->model);
    for (int p = 0; p < params->count; p++) {
        if (!up_learns(g->gradients, p)) continue;
        const up_safetensor *want =
            find(g->expected, UP_ST_F64, "step%d.gradient.%s", step, params->list[p].name);
        for (int64_t i = 0; i < want->count; i++) {
            int64_t k = g->place[p] + i;
            double expected = value(want, i) * clip(g, expected_norm);
            g->difference[k] = fmax(g->difference[k], fabs(g->gradient[k] * clip(g, norm) - expected));
            g->second[k] = g->adamw.beta2 * g->second[k] + (1 - g->adamw.beta2) * expected * expected;
        }
    }
}

/* Element by element; what does not learn keeps every bit. */
static void check_weights(golden *g, int step, int p) {
    const up_param *param = &up_model_params(g->model)->list[p];
    double *got = download(g, up_model_weight(g->model, p), 1), worst = 0;
    const up_safetensor *want = NULL;
    int learns = up_learns(g->gradients, p);
    if (learns) want = find(g->expected, UP_ST_F64, "step%d.weight.%s", step, param->name);
    for (int64_t i = 0; i < param->rows * param->cols; i++) {
        int64_t k = g->place[p] + i;
        double target = want ? value(want, i) : g->start[k], d = fabs(got[i] - target);
        double s = sqrt(g->second[k] / (1 - pow(g->adamw.beta2, step + 1)));
        if (want)
            g->way[k] += g->lr * update_bound(&g->adamw, g->difference[k], s) + 3 * ldexp(fabs(target), -24);
        if (d != 0) keep_worst(&worst, d / g->way[k]); /* frozen: the bound is 0 */
    }
    keep_worst(&g->worst_update, worst);
    within(g, worst, 1, param->name, step);
    free(got);
}

/* Weights that do not learn, or (`all`) all of them, are those of the start. */
static void check_untouched(golden *g, int all) {
    const up_params *params = up_model_params(g->model);
    int wrong = 0;
    for (int p = 0; p < params->count; p++) {
        if (!all && up_learns(g->gradients, p)) continue;
        double *got = download(g, up_model_weight(g->model, p), 1);
        for (int64_t i = 0; i < params->list[p].rows * params->list[p].cols; i++)
            wrong += !(got[i] == g->start[g->place[p] + i]);
        free(got);
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

/* Weights are compared where the fixtures have them: at f32, where all learns that can. */
static void check_step(golden *g, int step) {
    up_step_value got = {0};
    int known = 0;
    uint64_t version = up_model_version(g->model);
    run_batches(g, step);
    double norm = check_gradients(g, step);
    UP_ASSERT_OK(up_optimizer_step(g->optimizer, g->lr));
    UP_ASSERT_OK(up_optimizer_value(g->optimizer, 0, &got, &known));
    CU_ASSERT(known && !got.skipped && got.steps == step + 1 && got.loss_scale == g->scale);
    CU_ASSERT(up_model_version(g->model) > version);
    within(g, fabs(got.gradient_norm - norm), g->bound.gradient * norm, "the gradient's norm", step);
    check_untouched(g, 0);
    if (g->subset || g->how.dtype != UP_F32) return;
    follow_moments(g, step, got.gradient_norm, norm);
    for (int p = 0; p < up_model_params(g->model)->count; p++) check_weights(g, step, p);
}

static void check_read(golden *g, up_features *f, int batch, char side) {
    const up_safetensor *want = find(g->expected, UP_ST_F64, "batch%d.%c.unit", batch, side);
    CU_ASSERT_EQUAL_FATAL(f->rows * f->width, want->count);
    float *features = must(malloc((size_t)want->count * sizeof *features));
    double *wide = must(calloc((size_t)want->count + 1, sizeof *wide));
    UP_ASSERT_OK(up_features_read(f, features));
    for (int64_t i = 0; i < want->count; i++) wide[i] = features[i];
    double error = distance(wide, want, 0) / norm_of(want);
    within(g, error, g->bound.forward, "a feature at inference", 0);
    free(features);
    free(wide);
}

/* Without gradients the features are the same; there is no drop path. */
static void check_inference(golden *g) {
    up_features features;
    up_set_encoders how = {.scout = g->scout, .tokens = g->sets.tokens};
    UP_ASSERT_OK(up_features_create(g->model, 0, &features));
    for (int b = 0; b < g->batches; b++) {
        pair *p = &g->pairs[b];
        up_target_set *set = NULL;
        UP_ASSERT_OK(up_target_set_create(g->model, (uint64_t)b, 0, &set));
        fill_set(g, set, p->description, g->how.all_rows);
        UP_ASSERT_OK(up_target_set_encode(set, &how));
        CU_ASSERT(!up_target_set_owes(set));
        if (!p->y_drop) check_read(g, up_target_set_features(set), b, 'y');
        if (!p->x_drop) {
            encode(g->scout, &p->x, NULL, &features);
            check_read(g, &features, b, 'x');
        }
        up_target_set_free(set);
    }
    up_features_free(&features);
}

/* ---- the tests ---- */

static const char *const cases[] = {"paper", "released", "prompts", "prompts-released", "text",
                                    "mixed", "losses",   "head",    "tuned-pictures",   "tuned-table9"};
enum { CASES = sizeof cases / sizeof cases[0] };

/* Parts of the bounds that were used, the worst of all ways to compute a case. */
static void note(const golden *g, double worst[5]) {
    const double parts[5] = {g->worst_forward, g->worst_loss, g->worst_gradient, g->worst_all,
                             g->worst_update};
    for (int i = 0; i < 5; i++) keep_worst(&worst[i], parts[i]);
}

static void check_variant(const char *name, variant how, double worst[5]) {
    golden g;
    open_golden(&g, name, how, NULL, NULL);
    int steps = how.dtype == UP_F32 && !g.subset ? number(g.kase, "steps") : !g.idle;
    if (!g.idle) check_inference(&g);
    for (int step = 0; step < steps; step++) check_step(&g, step);
    note(&g, worst);
    close_golden(&g, 1);
}

static void check_all(const char *backend, up_dtype dtype) {
    for (int i = 0; i < CASES; i++) {
        double worst[5] = {0};
        for (int rows = 0; rows < 2; rows++)
            for (int chunked = 0; chunked < 2; chunked++)
                check_variant(cases[i], (variant){backend, dtype, rows, chunked, 0}, worst);
        printf("\n    %s: of the bounds were used, at most: forward %.2f, losses %.2f, a gradient %.2f, the "
               "whole %.2f",
               cases[i], worst[0], worst[1], worst[2], worst[3]);
        if (dtype == UP_F32) printf(", updates %.2f", worst[4]);
    }
    printf(" ");
}

static void test_ref_f32(void) {
    check_all("ref", UP_F32);
}
static void test_ref_bf16(void) {
    check_all("ref", UP_BF16);
}
static void test_ref_f16(void) {
    check_all("ref", UP_F16);
}
static void test_cpu_f32(void) {
    check_all("cpu", UP_F32);
}
static void test_cpu_bf16(void) {
    check_all("cpu", UP_BF16);
}
static void test_cpu_f16(void) {
    check_all("cpu", UP_F16);
}
#ifdef UP_TEST_CUDA
static void test_cuda_f32(void) {
    check_all("cuda", UP_F32);
}
static void test_cuda_bf16(void) {
    check_all("cuda", UP_BF16);
}
static void test_cuda_f16(void) {
    check_all("cuda", UP_F16);
}
#endif

/* Some groups learn: their gradients are what they are when all learns, and nothing else moves. */
static void test_groups(void) {
    static const unsigned groups[] = {1u << UP_GROUP_SPE,
                                      1u << UP_GROUP_NORM | 1u << UP_GROUP_PROMPT,
                                      1u << UP_GROUP_EMBEDDING,
                                      1u << UP_GROUP_ENCODER,
                                      1u << UP_GROUP_OUTPUT | 1u << UP_GROUP_LINEAR_HEAD,
                                      1u << UP_GROUP_TEMPERATURE};
    double worst[5] = {0};
    for (size_t k = 0; k < sizeof groups / sizeof *groups; k++)
        for (int i = 0; i < CASES; i++) {
            /* the fixtures of this one hold no gradients of temperatures, though they could learn */
            if (!strcmp(cases[i], "tuned-table9") && groups[k] == 1u << UP_GROUP_TEMPERATURE) continue;
            for (int chunked = 0; chunked < 2; chunked++)
                check_variant(cases[i], (variant){"ref", UP_F32, !chunked, chunked, groups[k]}, worst);
        }
}

/* Two tuned tasks over one model in memory: each learns without touching the other or the model, which then
 * learns as if it were alone. */
static void test_together(void) {
    golden base, pictures, table9;
    variant how = {"ref", UP_F32, 0, 0, 0};
    open_golden(&base, "paper", how, NULL, NULL);
    open_golden(&pictures, "tuned-pictures", how, base.backend, base.model);
    open_golden(&table9, "tuned-table9", how, base.backend, base.model);
    for (int step = 0; step < number(base.kase, "steps"); step++) {
        check_step(&pictures, step);
        check_step(&table9, step);
        check_untouched(&base, 1);
    }
    close_golden(&table9, 0);
    close_golden(&pictures, 0);
    for (int step = 0; step < number(base.kase, "steps"); step++) check_step(&base, step);
    close_golden(&base, 1);
}

const char *const up_suite_name = "golden";
const up_test up_tests[] = {
    {"ref_f32", test_ref_f32},   {"ref_bf16", test_ref_bf16},   {"ref_f16", test_ref_f16},
    {"cpu_f32", test_cpu_f32},   {"cpu_bf16", test_cpu_bf16},   {"cpu_f16", test_cpu_f16},
#ifdef UP_TEST_CUDA
    {"cuda_f32", test_cuda_f32}, {"cuda_bf16", test_cuda_bf16}, {"cuda_f16", test_cuda_f16},
#endif
    {"groups", test_groups},     {"together", test_together},   {NULL, NULL}};
