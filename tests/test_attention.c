/* test_attention.c - the attention of a read-out against a brute force: the input of the last layer comes
 * from a model that lacks that layer, and norm, queries, keys and softmax are written again, in double. */
#include "infer/attention.h"
#include "uniperceiver/features.h"
#include "tests/support.h"
#include "uniperceiver/random.h"

#include <math.h>
#include <stdlib.h>

const char *const up_suite_name = "attention";

enum { WIDTH = 16, HEADS = 2, HEAD = WIDTH / HEADS, PROMPTS = 3, MOST = 32 };

typedef struct world {
    up_backend *backend;
    up_model *model, *shorter; /* of three layers, and of the first two */
} world;

static up_config config_of(int layers, int prompts) {
    up_config c;
    UP_ASSERT_OK(up_config_preset("tiny", &c));
    c.layers = layers;
    c.width = WIDTH;
    c.heads = HEADS;
    c.ffn = 24;
    c.text_positions = 12;
    c.image_size = 16;
    c.patch = 8;
    c.prompts = prompts;
    c.prompt_sides = prompts ? 2 : 1;
    return c;
}

static world open_world(const char *backend, int prompts) {
    world w;
    up_config c = config_of(3, prompts), s = config_of(2, prompts);
    UP_ASSERT_OK(up_backend_create(backend, 1, &w.backend));
    UP_ASSERT_OK(up_model_create(w.backend, &c, up_test_seed(), &w.model));
    const up_params *p = up_model_params(w.model);
    up_rng rng = up_rng_make(up_test_seed(), 1, 2, 3);
    for (int i = 0; i < p->count; i++) { /* no weight 0 or 1 */
        size_t n = (size_t)(p->list[i].rows * p->list[i].cols);
        float *values = malloc(n * sizeof *values);
        UP_ASSERT_OK(w.backend->ops->download(w.backend, values, up_model_weight(w.model, i)));
        for (size_t k = 0; k < n; k++) values[k] += (float)(0.3 * up_rng_normal(&rng));
        UP_ASSERT_OK(w.backend->ops->upload(w.backend, up_model_weight(w.model, i), values));
        free(values);
    }
    up_model_changed(w.model);
    UP_ASSERT_OK(up_model_create(w.backend, &s, up_test_seed(), &w.shorter));
    UP_ASSERT_OK(up_model_copy(w.shorter, w.model));
    return w;
}

static void close_world(world *w) {
    up_model_destroy(w->shorter);
    up_model_destroy(w->model);
    up_backend_free(w->backend);
}

/* Two sequences of a picture and a text: the first is not the one that is read out, of the second the leading
 * token or, with `slot`, one of the words' slots. */
static void fill(up_batch *b, const up_config *c, int slot) {
    uint8_t patches[4 * 3 * 8 * 8];
    const int32_t words[] = {320, 500, 1000};
    for (size_t i = 0; i < sizeof patches; i++) patches[i] = (uint8_t)(i * 37 + i / 11);
    UP_ASSERT_OK(up_batch_begin(b, c));
    UP_ASSERT_OK(up_batch_open(b, UP_SIDE_INPUT, 0));
    UP_ASSERT_OK(up_batch_text(b, words, 2, 0, NULL));
    UP_ASSERT_OK(up_batch_close(b));
    UP_ASSERT_OK(up_batch_open(b, UP_SIDE_TARGET, !slot));
    UP_ASSERT_OK(up_batch_image(b, patches, 4));
    if (slot)
        UP_ASSERT_OK(up_batch_words_and_slots(b, words, 3));
    else
        UP_ASSERT_OK(up_batch_text(b, words, 3, 0, NULL));
    UP_ASSERT_OK(up_batch_close(b));
}

static void download(const world *w, up_view v, float *out) {
    UP_ASSERT_OK(w->backend->ops->download(w->backend, out, v));
}

/* y [3 D]: queries, keys and values of one row x [D] of the last layer's input. */
static void project(const world *w, const float *x, double *y) {
    const up_layer_index *l = &up_model_params(w->model)->layers[2];
    static float gain[WIDTH], shift[WIDTH], weight[3 * WIDTH * WIDTH], bias[3 * WIDTH];
    double mean = 0, variance = 0, n[WIDTH];
    download(w, up_model_weight(w->model, l->norm1_weight), gain);
    download(w, up_model_weight(w->model, l->norm1_bias), shift);
    download(w, up_model_weight(w->model, l->qkv_weight), weight);
    download(w, up_model_weight(w->model, l->qkv_bias), bias);
    for (int i = 0; i < WIDTH; i++) mean += (double)x[i] / WIDTH;
    for (int i = 0; i < WIDTH; i++) variance += ((double)x[i] - mean) * ((double)x[i] - mean) / WIDTH;
    for (int i = 0; i < WIDTH; i++)
        n[i] = ((double)x[i] - mean) / sqrt(variance + 1e-5) * (double)gain[i] + (double)shift[i];
    for (int o = 0; o < 3 * WIDTH; o++) {
        y[o] = (double)bias[o];
        for (int i = 0; i < WIDTH; i++) y[o] += (double)weight[o * WIDTH + i] * n[i];
    }
}

/* The last layer's input: prompts of the targets' side, then the rows of the batch. */
static void read_input(const world *w, const up_batch *b, int prompts, float *rows) {
    up_encoder *e;
    up_features f;
    UP_ASSERT_OK(up_encoder_create(w->shorter, &(up_encoder_options){.all_rows = 1}, &e));
    UP_ASSERT_OK(up_features_create(w->shorter, 0, &f));
    UP_ASSERT_OK(up_features_resize(&f, b->readouts));
    UP_ASSERT_OK(up_encoder_stage(e, b, NULL));
    UP_ASSERT_OK(up_encoder_forward(e, f.raw));
    if (prompts) {
        up_view all = up_model_weight(w->model, up_model_params(w->model)->layers[2].prompt);
        download(w, up_view_rows(all, prompts, prompts), rows);
    }
    download(w, up_view_rows(up_encoder_view(e, UP_ENCODER_LAYER, 1), 0, b->tokens), rows + prompts * WIDTH);
    up_features_free(&f);
    up_encoder_free(e);
}

/* The mean over heads of softmax (q . k / sqrt d) over the keys that the mask shows. */
static void brute_force(const world *w, const up_batch *b, int prompts, double *out) {
    static float rows[MOST * WIDTH];
    static double y[MOST][3 * WIDTH];
    const int32_t *s = b->sequence + UP_SEQ_FIELDS;
    int first = s[UP_SEQ_Q_START], own = s[UP_SEQ_K_COUNT], at = b->readout_row[0] - first;
    read_input(w, b, prompts, rows);
    for (int j = 0; j < prompts; j++) project(w, rows + j * WIDTH, y[j]);
    for (int j = 0; j < own; j++) project(w, rows + (prompts + first + j) * WIDTH, y[prompts + j]);
    for (int j = 0; j < own; j++) out[j] = 0;
    for (int h = 0; h < HEADS; h++) {
        double e[MOST], sum = 0;
        for (int j = 0; j < prompts + own; j++) {
            double dot = 0;
            for (int i = h * HEAD; i < (h + 1) * HEAD; i++) dot += y[prompts + at][i] * y[j][WIDTH + i];
            int shown = j < prompts ||
                        up_mask_sees(s[UP_SEQ_KIND], s[UP_SEQ_PREFIX], s[UP_SEQ_WORDS], at, j - prompts);
            e[j] = shown ? exp(dot / sqrt(HEAD)) : 0;
            sum += e[j];
        }
        for (int j = 0; j < own; j++) out[j] += e[prompts + j] / sum / HEADS;
    }
}

static void compare(const char *backend, int prompts, int slot) {
    world w = open_world(backend, prompts);
    up_attention *a;
    up_batch b = {0};
    float got[MOST];
    double want[MOST], sum = 0;
    fill(&b, up_model_config(w.model), slot);
    brute_force(&w, &b, prompts, want);
    UP_ASSERT_OK(up_attention_create(w.model, &a));
    UP_ASSERT_OK(up_attention_read(a, &b, got));
    int own = b.sequence[UP_SEQ_FIELDS + UP_SEQ_K_COUNT];
    CU_ASSERT(up_test_relative_error(got, want, (size_t)own) < 1e-5); /* f32 through two layers */
    for (int j = 0; j < own; j++) sum += (double)got[j];
    if (prompts) CU_ASSERT(sum > 0 && sum < 0.999);
    if (!prompts) CU_ASSERT_DOUBLE_EQUAL(sum, 1, 1e-6);
    up_attention_free(a);
    up_batch_free(&b);
    close_world(&w);
}

static void test_against_brute_force(void) {
    static const char *const backends[] = {"ref", "cpu"};
    for (int b = 0; b < 2; b++)
        for (int prompts = 0; prompts <= PROMPTS; prompts += PROMPTS)
            for (int slot = 0; slot < 2; slot++) compare(backends[b], prompts, slot);
}

static void test_nothing_read_out(void) {
    world w = open_world("ref", 0);
    up_attention *a;
    up_batch b = {0};
    float out[MOST];
    UP_ASSERT_OK(up_attention_create(w.model, &a));
    UP_ASSERT_OK(up_batch_begin(&b, up_model_config(w.model)));
    CU_ASSERT_EQUAL(up_attention_read(a, &b, out), UP_ERR_ARGUMENT);
    up_attention_free(a);
    up_batch_free(&b);
    close_world(&w);
}

const up_test up_tests[] = {{"against_brute_force", test_against_brute_force},
                            {"nothing_read_out", test_nothing_read_out},
                            {NULL, NULL}};
