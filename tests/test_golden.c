/* test_golden.c - the model against golden/model: an independent float64 implementation
 * (golden/make_model.py). Layout and masks exactly; forward values, losses, every gradient and three AdamW
 * steps within bounds of the arithmetic.
 *
 * Bounds. `ref`: 1e-6 forward and in losses, 1e-5 in gradients, relative in the norm of each tensor. `cpu`:
 * twice what honest float32 runs of the same implementation lose (f32.forward, f32.loss, f32.gradient in
 * the fixtures).
 *  - The gradient of a temperature is a sum over all logits of dz z that mostly cancels: it may lose what its
 * terms do.
 *  - A row of a gradient that is exactly zero there (an unused token, a clamped temperature) must be so here.
 *  - A weight may be off by what Adam makes of the gradient's measured difference: see update_bound. */
#include "tests/support.h"
#include "files/file.h"
#include "files/safetensors.h"
#include "files/weights.h"
#include "uniperceiver/run.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BATCHES = 8, ROW_FIELDS = 5, SEQUENCE_FIELDS = 6 };
enum { ROW_TEXT, ROW_IMAGE, ROW_VIDEO }; /* first field of a row of the expected `rows` tables */

typedef struct golden {
    const char *name, *backend_name;
    json_t *kase;
    up_config config;
    up_safetensors *inputs, *expected;
    up_backend *backend;
    up_model *model;
    up_run *run;
    int keep_all, batches;
    up_batch batch[MAX_BATCHES];
    up_adamw adamw;
    double forward_bound, loss_bound, gradient_bound;
    double worst_forward, worst_loss, worst_gradient, worst_update, worst_of_bound;
    /* [params->total] each: weights at the start, the run's last gradient, and for update_bound the expected
     * second moment, the largest difference of a clipped gradient so far, and how far a weight may be off by
     * now */
    double *start, *gradient, *second, *difference, *bound;
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

/* ---- batches ---- */

static int32_t *integers_of(const json_t *array) { /* malloc'ed; one more than needed */
    size_t n = json_array_size(array);
    int32_t *out = must(calloc(n + 1, sizeof *out));
    for (size_t i = 0; i < n; i++) out[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return out;
}

static void add_part(golden *g, up_batch *batch, const json_t *part) {
    const char *kind = string(part, "part");
    int cells = up_config_cells(&g->config);
    if (!strcmp(kind, "image") || !strcmp(kind, "video")) {
        float *patches = floats(find(g->inputs, UP_ST_F32, "%s", string(part, "patches")));
        if (!strcmp(kind, "image"))
            UP_ASSERT_OK(up_batch_image(batch, &g->config, patches, cells));
        else
            UP_ASSERT_OK(up_batch_video(batch, &g->config, patches, number(part, "frames"), cells,
                                        number(part, "first_frame")));
        free(patches);
        return;
    }
    const json_t *list = json_object_get(part, "ids"), *marks = json_object_get(part, "read");
    int count = (int)json_array_size(list);
    int32_t *ids = integers_of(list), *marked = integers_of(marks);
    uint8_t *read = must(calloc((size_t)count + 1, 1));
    for (int i = 0; i < count && json_is_array(marks); i++) read[i] = (uint8_t)marked[i];
    if (!strcmp(kind, "text"))
        UP_ASSERT_OK(up_batch_text(batch, ids, count, number(part, "first_position"),
                                   json_is_array(marks) ? read : NULL));
    else
        UP_ASSERT_OK(up_batch_words_and_slots(batch, ids, count));
    free(ids);
    free(marked);
    free(read);
}

static void build_batch(golden *g, int index, const json_t *description) {
    up_batch *batch = &g->batch[index];
    size_t s, p;
    json_t *sequence, *part;
    UP_ASSERT_OK(up_batch_begin(batch, &g->config));
    json_array_foreach(json_object_get(description, "sequences"), s, sequence) {
        up_side side = number(sequence, "side") ? UP_SIDE_TARGET : UP_SIDE_INPUT;
        UP_ASSERT_OK(up_batch_open(batch, side, number(sequence, "read")));
        json_array_foreach(json_object_get(sequence, "parts"), p, part) add_part(g, batch, part);
        UP_ASSERT_OK(up_batch_close(batch));
    }
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

static void check_rows(golden *g, int index) {
    const up_batch *b = &g->batch[index];
    const up_safetensor *rows = find(g->expected, UP_ST_I32, "batch%d.rows", index);
    CU_ASSERT_EQUAL_FATAL(b->tokens, rows->shape[0]);
    int32_t *table = must(calloc((size_t)b->tokens * ROW_FIELDS, sizeof *table));
    int *seen = must(calloc((size_t)b->tokens, sizeof *seen));
    for (int i = 0; i < b->text_count; i++) {
        CU_ASSERT_FATAL(b->text_row[i] >= 0 && b->text_row[i] < b->tokens);
        int32_t id =
            b->text_id[i] < 0 ? g->config.vocabulary - 1 : b->text_id[i]; /* -1: the model's own <SPE> */
        int32_t row[ROW_FIELDS] = {ROW_TEXT, id, b->text_position[i], -1, -1};
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

static void check_masks(golden *g, int index) {
    const up_batch *b = &g->batch[index];
    const up_safetensor *sequences = find(g->expected, UP_ST_I32, "batch%d.sequences", index);
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
        const up_safetensor *mask = find(g->expected, UP_ST_U8, "batch%d.mask%d", index, s);
        const uint8_t *sees = mask->data;
        int n = want[1], wrong = 0;
        CU_ASSERT_EQUAL_FATAL(mask->count, (int64_t)n * n);
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++)
                wrong +=
                    sees[i * n + j] != up_mask_sees(f[UP_SEQ_KIND], f[UP_SEQ_PREFIX], f[UP_SEQ_WORDS], i, j);
        CU_ASSERT_EQUAL(wrong, 0);
        if (n > longest) longest = n;
    }
    CU_ASSERT_EQUAL(b->max_keys, longest);
}

static void check_readout(golden *g, int index) {
    const up_batch *b = &g->batch[index];
    const up_safetensor *query = find(g->expected, UP_ST_I32, "batch%d.queries", index);
    const up_safetensor *target = find(g->expected, UP_ST_I32, "batch%d.targets", index);
    CU_ASSERT_FATAL(b->queries == query->count && b->targets == target->count);
    CU_ASSERT_EQUAL(memcmp(b->query_row, query->data, query->bytes), 0);
    CU_ASSERT_EQUAL(memcmp(b->target_row, target->data, target->bytes), 0);
}

/* ---- a model and its run ---- */

static float *download(golden *g, up_view view) { /* malloc'ed, dense */
    CU_ASSERT_FATAL(up_view_present(view));
    float *out = must(malloc((size_t)(view.rows * view.cols) * sizeof *out + 1));
    UP_ASSERT_OK(g->backend->ops->download(g->backend, out, view));
    return out;
}

/* config.json says the same as the metadata of weights.safetensors. */
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

/* The model holds exactly the numbers of the file; they are kept in `start`. */
static void check_weights_read(golden *g) {
    up_safetensors *file = load_tensors(g->name, "weights");
    const up_params *params = up_model_params(g->model);
    for (int p = 0; p < params->count; p++) {
        const up_safetensor *t = find(file, UP_ST_F32, "%s", params->list[p].name);
        float *want = floats(t), *got = download(g, up_model_weight(g->model, p));
        CU_ASSERT_EQUAL(memcmp(got, want, t->bytes), 0);
        for (int64_t i = 0; i < t->count; i++) g->start[params->list[p].offset + i] = want[i];
        free(want);
        free(got);
    }
    up_safetensors_close(file);
}

static void open_golden(golden *g, const char *name, const char *backend, int keep_all) {
    char path[256];
    *g = (golden){.name = name, .backend_name = backend, .keep_all = keep_all};
    g->kase = load_json(name, "case.json");
    g->inputs = load_tensors(name, "inputs");
    g->expected = load_tensors(name, "expected");
    const json_t *o = json_object_get(g->kase, "optimizer");
    g->adamw = (up_adamw){real(o, "lr"),  real(o, "beta1"), real(o, "beta2"),
                          real(o, "eps"), real(o, "decay"), real(o, "max_norm")};
    g->forward_bound = g->loss_bound = 1e-6;
    g->gradient_bound = 1e-5;
    if (strcmp(backend, "ref")) {
        g->forward_bound = 2 * value(find(g->expected, UP_ST_F64, "f32.forward"), 0);
        g->loss_bound = 2 * value(find(g->expected, UP_ST_F64, "f32.loss"), 0);
        g->gradient_bound = 2 * value(find(g->expected, UP_ST_F64, "f32.gradient"), 0);
    }
    UP_ASSERT_OK(up_backend_create(backend, 1, &g->backend));
    snprintf(path, sizeof path, "golden/model/%s/weights.safetensors", name);
    UP_ASSERT_OK(up_model_read(g->backend, up_test_path(path), &g->model));
    g->config = *up_model_config(g->model);
    check_config(g);
    size_t total = (size_t)up_model_params(g->model)->total;
    double **arrays[] = {&g->start, &g->gradient, &g->second, &g->difference, &g->bound};
    for (int i = 0; i < 5; i++) *arrays[i] = must(calloc(total, sizeof(double)));
    check_weights_read(g);
    UP_ASSERT_OK(up_run_create(g->model, 1, &g->run));
    up_run_keep_all_rows(g->run, g->keep_all);
    const json_t *batches = json_object_get(g->kase, "batches");
    g->batches = (int)json_array_size(batches);
    CU_ASSERT_FATAL(g->batches > 0 && g->batches <= MAX_BATCHES);
    for (int i = 0; i < g->batches; i++) build_batch(g, i, json_array_get(batches, (size_t)i));
}

static void close_golden(golden *g) {
    for (int i = 0; i < g->batches; i++) up_batch_free(&g->batch[i]);
    up_run_free(g->run);
    up_model_destroy(g->model);
    up_backend_free(g->backend);
    up_safetensors_close(g->inputs);
    up_safetensors_close(g->expected);
    free(g->start);
    free(g->gradient);
    free(g->second);
    free(g->difference);
    free(g->bound);
    json_decref(g->kase);
}

/* ---- comparisons: written so that a NaN fails ---- */

static double norm_of(const up_safetensor *want) {
    double sum = 0;
    for (int64_t i = 0; i < want->count; i++) sum += value(want, i) * value(want, i);
    return sqrt(sum);
}

/* |got - want| in norm; infinite where a row that is all zero in `want` is not so in `got`, if `zeros`. */
static double distance(const float *got, const up_safetensor *want, int zeros) {
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
    int good = error <= bound;
    if (!good)
        fprintf(stderr, "%s on %s, step %d: %s is off by %.3e, bound %.3e\n", g->name, g->backend_name, step,
                what, error, bound);
    CU_ASSERT(good);
}

static void keep_worst(double *worst, double error) {
    if (!(error <= *worst)) *worst = error;
}

static void check_tensor(golden *g, up_view view, int batch, const char *what, int index) {
    char name[64];
    if (index < 0)
        snprintf(name, sizeof name, "batch%d.%s", batch, what);
    else
        snprintf(name, sizeof name, "batch%d.%s%d", batch, what, index);
    const up_safetensor *want = find(g->expected, UP_ST_F64, "%s", name);
    CU_ASSERT_EQUAL_FATAL(view.rows * view.cols, want->count);
    float *got = download(g, view);
    double error = distance(got, want, 1) / norm_of(want);
    int is_loss = !strcmp(what, "row_loss");
    keep_worst(is_loss ? &g->worst_loss : &g->worst_forward, error);
    within(g, error, is_loss ? g->loss_bound : g->forward_bound, name, 0);
    free(got);
}

static void check_forward(golden *g, int batch) {
    check_tensor(g, up_run_view(g->run, UP_RUN_EMBEDDING, 0), batch, "embedding", -1);
    for (int l = 0; l < g->config.layers - !g->keep_all; l++)
        check_tensor(g, up_run_view(g->run, UP_RUN_LAYER, l), batch, "layer", l);
    check_tensor(g, up_run_view(g->run, UP_RUN_FEATURES, 0), batch, "features", -1);
    check_tensor(g, up_run_view(g->run, UP_RUN_UNIT, 0), batch, "unit", -1);
}

/* ---- losses ---- */

static void check_loss(golden *g, int batch, int step, const up_loss *loss, const up_loss_value *got) {
    double want = value(find(g->expected, UP_ST_F64, "batch%d.loss", batch), step);
    double error = fabs(got->loss - want) / fabs(want);
    keep_worst(&g->worst_loss, error);
    within(g, error, g->loss_bound, "the loss", step);
    if (step) return;
    check_tensor(g, up_run_view(g->run, UP_RUN_LOGITS, 0), batch, "logits", -1);
    check_tensor(g, up_run_view(g->run, UP_RUN_LOSS, 0), batch, "row_loss", -1);
    if (loss->soft || loss->symmetric) return;
    const up_safetensor *accuracy = find(g->expected, UP_ST_F64, "batch%d.accuracy", batch);
    CU_ASSERT_DOUBLE_EQUAL(got->accuracy, value(accuracy, 0), 1e-6);
    CU_ASSERT_EQUAL(got->rows, (int)value(accuracy, 1));
}

/* Forward, loss and backward of one batch; the gradients add up. */
static void run_batch(golden *g, int batch, int step) {
    const json_t *b = json_array_get(json_object_get(g->kase, "batches"), (size_t)batch);
    const json_t *l = json_object_get(b, "loss"), *list = json_object_get(l, "labels");
    float *drop = number(b, "drop") ? floats(find(g->inputs, UP_ST_F32, "%s", string(b, "drop_name"))) : NULL;
    float *soft = number(l, "soft") ? floats(find(g->inputs, UP_ST_F32, "%s", string(l, "soft_name"))) : NULL;
    int32_t *labels = integers_of(list);
    up_loss loss = {up_config_task(&g->config, string(l, "task")),
                    soft ? NULL : labels,
                    soft,
                    number(l, "symmetric"),
                    (float)real(l, "smoothing"),
                    (float)real(l, "weight")};
    up_loss_value got = {0};
    CU_ASSERT_FATAL(loss.task >= 0);
    UP_ASSERT_OK(up_run_forward(g->run, &g->batch[batch], drop));
    if (!step) check_forward(g, batch);
    UP_ASSERT_OK(up_run_loss(g->run, &loss, &got));
    check_loss(g, batch, step, &loss, &got);
    UP_ASSERT_OK(up_run_backward(g->run, NULL, NULL));
    free(drop);
    free(soft);
    free(labels);
}

/* ---- gradients and steps ---- */

/* What clipping leaves of a gradient of this norm. */
static double clip(const golden *g, double norm) {
    return g->adamw.max_norm > 0 ? fmin(1, g->adamw.max_norm / (norm + 1e-6)) : 1;
}

static void check_gradient(golden *g, int step, int p) {
    const up_param *param = &up_model_params(g->model)->list[p];
    up_view view = up_run_gradient(g->run, p);
    CU_ASSERT_EQUAL_FATAL(up_view_present(view), param->trainable);
    if (!param->trainable) {
        char name[128];
        snprintf(name, sizeof name, "step%d.gradient.%s", step, param->name);
        CU_ASSERT_PTR_NULL(up_safetensors_find(g->expected, name));
        return;
    }
    const up_safetensor *want = find(g->expected, UP_ST_F64, "step%d.gradient.%s", step, param->name);
    float *got = download(g, view);
    double error = distance(got, want, 1), norm = norm_of(want), bound = g->gradient_bound * norm;
    if (param->group == UP_GROUP_TEMPERATURE)
        bound +=
            g->forward_bound *
            value(find(g->expected, UP_ST_F64, "step%d.terms.%s", step, strchr(param->name, '.') + 1), 0);
    else if (norm > 0)
        keep_worst(&g->worst_gradient, error / norm);
    within(g, error, bound, param->name, step);
    for (int64_t i = 0; i < want->count; i++) g->gradient[param->offset + i] = got[i];
    free(got);
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
        const up_param *param = &params->list[p];
        if (!param->trainable) continue;
        const up_safetensor *want = find(g->expected, UP_ST_F64, "step%d.gradient.%s", step, param->name);
        for (int64_t i = 0; i < want->count; i++) {
            int64_t k = param->offset + i;
            double expected = value(want, i) * clip(g, expected_norm);
            g->difference[k] = fmax(g->difference[k], fabs(g->gradient[k] * clip(g, norm) - expected));
            g->second[k] = g->adamw.beta2 * g->second[k] + (1 - g->adamw.beta2) * expected * expected;
        }
    }
}

/* Element by element; *off and *moved add up squares of the error and of the way from the start. */
static void check_weights(golden *g, int step, int p, double *off, double *moved) {
    const up_param *param = &up_model_params(g->model)->list[p];
    float *got = download(g, up_model_weight(g->model, p));
    const up_safetensor *want = NULL;
    if (param->trainable) want = find(g->expected, UP_ST_F64, "step%d.weight.%s", step, param->name);
    double worst = 0;
    for (int64_t i = 0; i < param->rows * param->cols; i++) {
        int64_t k = param->offset + i;
        double target = want ? value(want, i) : g->start[k], d = fabs(got[i] - target);
        if (want) {
            double s = sqrt(g->second[k] / (1 - pow(g->adamw.beta2, step + 1)));
            g->bound[k] +=
                g->adamw.lr * update_bound(&g->adamw, g->difference[k], s) + 3 * ldexp(fabs(target), -24);
        }
        if (d != 0) keep_worst(&worst, d / g->bound[k]); /* frozen: the bound is 0 */
        *off += d * d;
        *moved += (target - g->start[k]) * (target - g->start[k]);
    }
    keep_worst(&g->worst_of_bound, worst);
    within(g, worst, 1, param->name, step);
    free(got);
}

static void check_step(golden *g, int step) {
    int params = up_model_params(g->model)->count;
    double norm = value(find(g->expected, UP_ST_F64, "step%d.norm", step), 0), off = 0, moved = 0;
    up_step_value got = {0};
    UP_ASSERT_OK(up_run_zero_gradients(g->run));
    for (int b = 0; b < g->batches; b++) run_batch(g, b, step);
    for (int p = 0; p < params; p++) check_gradient(g, step, p);
    UP_ASSERT_OK(up_run_step(g->run, &g->adamw, &got));
    CU_ASSERT(!got.skipped && up_run_steps(g->run) == step + 1);
    within(g, fabs(got.gradient_norm - norm), g->gradient_bound * norm, "the gradient's norm", step);
    follow_moments(g, step, got.gradient_norm, norm);
    for (int p = 0; p < params; p++) check_weights(g, step, p, &off, &moved);
    keep_worst(&g->worst_update, sqrt(off / moved));
}

/* A run without gradients gives the same features; it knows no drop path. */
static void check_inference(golden *g) {
    up_run *run = NULL;
    UP_ASSERT_OK(up_run_create(g->model, 0, &run));
    up_run_keep_all_rows(run, g->keep_all);
    for (int b = 0; b < g->batches; b++) {
        if (number(json_array_get(json_object_get(g->kase, "batches"), (size_t)b), "drop")) continue;
        const up_safetensor *want = find(g->expected, UP_ST_F64, "batch%d.unit", b);
        float *features = must(malloc((size_t)want->count * sizeof *features));
        UP_ASSERT_OK(up_run_forward(run, &g->batch[b], NULL));
        UP_ASSERT_OK(up_run_features(run, features));
        within(g, distance(features, want, 0) / norm_of(want), g->forward_bound, "a feature at inference", 0);
        free(features);
    }
    up_run_free(run);
}

/* ---- the tests ---- */

/* keep_all 1: the last layer computes every row, and its whole output is compared too. */
static void check_configuration(const char *name, const char *backend, int keep_all) {
    golden g;
    open_golden(&g, name, backend, keep_all);
    for (int b = 0; b < g.batches; b++) check_rows(&g, b), check_masks(&g, b), check_readout(&g, b);
    check_inference(&g);
    int steps = number(g.kase, "steps");
    for (int step = 0; step < steps; step++) check_step(&g, step);
    printf("\n    %s on %s%s: forward %.1e (bound %.1e), losses %.1e (bound %.1e), gradients %.1e (bound "
           "%.1e), updates "
           "%.1e (%.2f of the "
           "bound) ",
           name, backend, keep_all ? ", all rows" : "", g.worst_forward, g.forward_bound, g.worst_loss,
           g.loss_bound, g.worst_gradient, g.gradient_bound, g.worst_update, g.worst_of_bound);
    close_golden(&g);
}

static void check_all(const char *backend) {
    static const char *const names[] = {"paper", "released", "prompts", "prompts-released", "text", "mixed"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        check_configuration(names[i], backend, 1);
        check_configuration(names[i], backend, 0);
    }
}

static void test_ref(void) {
    check_all("ref");
}
static void test_cpu(void) {
    check_all("cpu");
}

const char *const up_suite_name = "golden";
const up_test up_tests[] = {{"ref", test_ref}, {"cpu", test_cpu}, {NULL, NULL}};
