/* test_infer.c - sessions: inputs to features against batches built by hand, the comparison formula, and
 * captions: cached keys and values against the definition, beam search against greedy and exhaustive search
 * written apart. */
#include "files/file.h"
#include "infer/beam.h"
#include "infer/session.h"
#include "tests/lab.h"
#include "tests/support.h"
#include "uniperceiver/random.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const up_suite_name = "infer";

static const char *const model_path = "test_infer.safetensors";

/* A small model with every weight shaken, so that features differ and no flag is without effect. */
typedef struct variant {
    const char *preset;
    int prompts, prompt_sides, layer_scale, output_head, classes;
} variant;
static const variant variants[] = {{"tiny", 0, 2, 0, 0, 0},
                                   {"tiny", 3, 2, 1, 0, 0},
                                   {"tiny", 0, 1, 0, 1, 0},
                                   {"released-base", 2, 1, 1, 1, 0}};
enum { VARIANTS = sizeof variants / sizeof variants[0] };

static up_config variant_config(const variant *v) {
    up_config c;
    UP_ASSERT_OK(up_config_preset(v->preset, &c));
    c.layers = 2;
    c.width = 16;
    c.heads = 2;
    c.ffn = 24;
    c.text_positions = 12;
    c.image_size = 16;
    c.patch = 8;
    c.image_resize = 18;
    c.video_resize = 16;
    c.video_stride = 1;
    c.frames = 2;
    c.prompts = v->prompts;
    c.prompt_sides = v->prompt_sides;
    c.layer_scale = v->layer_scale;
    c.output_head = v->output_head;
    c.classes = v->classes;
    return c;
}

/* Every weight that the model owns but temperatures and words. */
static void shake(up_model *model, uint64_t key) {
    const up_params *p = up_model_params(model);
    up_backend *backend = up_model_backend(model);
    up_rng rng = up_rng_make(up_test_seed(), key, 2, 3);
    for (int i = 0; i < p->count; i++) {
        if (p->list[i].group == UP_GROUP_TEMPERATURE || i == p->token || !up_model_owns(model, i)) continue;
        size_t n = (size_t)(p->list[i].rows * p->list[i].cols);
        float *values = malloc(n * sizeof *values);
        UP_ASSERT_OK(backend->ops->download(backend, values, up_model_weight(model, i)));
        for (size_t k = 0; k < n; k++) values[k] += (float)(0.2 * up_rng_normal(&rng));
        UP_ASSERT_OK(backend->ops->upload(backend, up_model_weight(model, i), values));
        free(values);
    }
    up_model_changed(model);
}

static void write_variant(const variant *v, const char *path) {
    up_config c = variant_config(v);
    up_backend *backend;
    up_model *model;
    UP_ASSERT_OK(up_backend_create("ref", 1, &backend));
    UP_ASSERT_OK(up_model_create(backend, &c, up_test_seed(), &model));
    shake(model, 1);
    UP_ASSERT_OK(up_model_write(model, path));
    up_model_destroy(model);
    up_backend_free(backend);
}

static up_session *open_variant(const variant *v, const char *backend_name) {
    up_session *session;
    write_variant(v, model_path);
    UP_ASSERT_OK(
        up_model_load(model_path, &(up_load_options){.backend = backend_name, .threads = 1}, &session));
    unlink(model_path);
    return session;
}

enum { PIXELS = 3 * 16 * 16 };
static void random_pixels(uint64_t key, int n, float *out) {
    up_rng rng = up_rng_make(up_test_seed(), key, 0, 0);
    for (int i = 0; i < n; i++) out[i] = (float)up_rng_normal(&rng);
}

static int close_to(const float *a, const float *b, int n, double bound) {
    for (int i = 0; i < n; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= bound)) return 0;
    return 1;
}

/* --- inputs --- */

static void test_encode_is_the_batch(void) {
    up_session *s = open_variant(&variants[1], "ref");
    const up_config *c = up_model_config(up_session_model(s));
    float pixels[2 * PIXELS], patches[2 * PIXELS], got[16], want[16];
    const int32_t ids[] = {5, 6, 7}, more[] = {8, 9};
    random_pixels(1, 2 * PIXELS, pixels);
    for (int f = 0; f < 2; f++)
        UP_ASSERT_OK(up_image_patches(pixels + f * PIXELS, 16, 16, 8, patches + f * PIXELS));
    const up_part parts[] = {{UP_PART_IDS, ids, 3, 0, NULL},
                             {UP_PART_PIXELS, pixels, PIXELS, 0, NULL},
                             {UP_PART_IDS, more, 2, 0, NULL},
                             {UP_PART_PIXELS, pixels, 2 * PIXELS, 2, NULL}};
    for (int slot = 0; slot < 2; slot++)
        for (int side = 0; side < 2; side++) {
            up_batch b = {0};
            UP_ASSERT_OK(up_batch_begin(&b, c));
            UP_ASSERT_OK(up_batch_open(&b, (up_side)side, !slot));
            UP_ASSERT_OK(up_batch_text(&b, ids, 3, 0, NULL));
            UP_ASSERT_OK(up_batch_image_values(&b, patches, 4));
            UP_ASSERT_OK(up_batch_text(&b, more, 2, 3, NULL)); /* positions go on */
            UP_ASSERT_OK(up_batch_video_values(&b, patches, 2, 4, 0));
            if (slot) UP_ASSERT_OK(up_batch_text(&b, (int32_t[]){UP_ID_SPE}, 1, 0, (uint8_t[]){1}));
            UP_ASSERT_OK(up_batch_close(&b));
            up_lab_encode(up_session_model(s), &b, want);
            UP_ASSERT_OK(up_encode(s, &(up_input){parts, 4, slot}, 1, (up_side)side, got));
            CU_ASSERT(!memcmp(got, want, sizeof want));
            up_batch_free(&b);
        }
    up_session_close(s);
}

static void test_many_inputs(void) { /* more tokens than one batch takes: the same as one by one */
    enum { N = 700 };
    static float all[N][16];
    static up_part parts[N];
    static up_input inputs[N];
    static int32_t ids[N][4];
    float one[16];
    int wrong = 0;
    up_session *s = open_variant(&variants[0], "ref");
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < 4; k++) ids[i][k] = 7 * i + k;
        parts[i] = (up_part){.kind = UP_PART_IDS, .data = ids[i], .size = (size_t)(i % 5)};
        inputs[i] = (up_input){&parts[i], 1, 0};
    }
    UP_ASSERT_OK(up_encode(s, inputs, N, UP_SIDE_INPUT, all[0]));
    for (int i = 0; i < N; i += 23) {
        UP_ASSERT_OK(up_encode(s, &inputs[i], 1, UP_SIDE_INPUT, one));
        wrong += !close_to(one, all[i], 16, 1e-6);
    }
    CU_ASSERT_EQUAL(wrong, 0);
    UP_ASSERT_OK(up_encode(s, NULL, 0, UP_SIDE_INPUT, one)); /* nothing in, nothing out */
    up_session_close(s);
}

static void test_text_and_picture_files(void) {
    up_session *s = open_variant(&variants[0], "ref");
    const up_config *c = up_model_config(up_session_model(s));
    float got[16], want[16], pixels[PIXELS];
    int32_t *ids, closed[12];
    size_t count;
    void *bytes;
    UP_ASSERT_OK(up_tokenize(up_session_tokenizer(s), "A red car", 9, &ids, &count));
    memcpy(closed, ids, count * sizeof *ids);
    closed[count] = UP_TOKEN_END;
    const up_part text = {.kind = UP_PART_TEXT, .data = "A red car", .size = 9};
    const up_part as_ids = {.kind = UP_PART_IDS, .data = closed, .size = count + 1};
    UP_ASSERT_OK(up_encode(s, &(up_input){&text, 1, 0}, 1, UP_SIDE_INPUT, got));
    UP_ASSERT_OK(up_encode(s, &(up_input){&as_ids, 1, 0}, 1, UP_SIDE_INPUT, want));
    CU_ASSERT(!memcmp(got, want, sizeof want));
    free(ids);

    const char *path = up_test_path("golden/image/jpeg_420.jpg");
    up_image image, square;
    UP_ASSERT_OK(up_file_read(path, &bytes, &count));
    UP_ASSERT_OK(up_image_read(path, NULL, &image));
    UP_ASSERT_OK(up_image_square(&image, c->image_resize, c->image_size, 0.5, 0.5, &square));
    up_image_normalize(&square, &up_pixel_norm_image, pixels);
    const up_part file = {.kind = UP_PART_IMAGE, .data = bytes, .size = count, .name = path};
    const up_part raw = {.kind = UP_PART_PIXELS, .data = pixels, .size = PIXELS};
    UP_ASSERT_OK(up_encode(s, &(up_input){&file, 1, 0}, 1, UP_SIDE_INPUT, got));
    UP_ASSERT_OK(up_encode(s, &(up_input){&raw, 1, 0}, 1, UP_SIDE_INPUT, want));
    CU_ASSERT(!memcmp(got, want, sizeof want));
    up_image_free(&image);
    up_image_free(&square);
    free(bytes);
    up_session_close(s);
}

static void test_wrong_inputs(void) {
    static const int32_t long_ids[13] = {0}, high[] = {49411}, low[] = {-1};
    static float pixels[3 * PIXELS];
    static const struct {
        up_part part;
        const char *says;
    } cases[] = {
        {{UP_PART_IDS, long_ids, 13, 0, "thirteen"}, "thirteen: 13 tokens; the model has room for 12"},
        {{UP_PART_IDS, high, 1, 0, NULL}, "token id 49411"},
        {{UP_PART_IDS, low, 1, 0, NULL}, "token id -1"},
        {{UP_PART_IDS, NULL, 1, 0, NULL}, "no data"},
        {{UP_PART_PIXELS, pixels, PIXELS - 1, 0, "p"}, "p: 767 values; wanted 768"},
        {{UP_PART_PIXELS, pixels, 3 * PIXELS, 3, "p"}, "p: 3 frames"},
        {{UP_PART_PIXELS, pixels, PIXELS, -1, "p"}, "p: -1 frames"},
        {{UP_PART_IMAGE, "x", 1, 0, "x.jpg"}, "x.jpg"},
        {{UP_PART_IMAGE, "", 0, 0, "empty.jpg"}, "empty.jpg"},
        {{UP_PART_VIDEO, "x", 1, 0, "x.mp4"}, "x.mp4"},
        {{(up_part_kind)9, "x", 1, 0, NULL}, "unknown kind of part: 9"},
    };
    up_session *s = open_variant(&variants[0], "ref");
    float out[16];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CU_ASSERT_NOT_EQUAL(up_encode(s, &(up_input){&cases[i].part, 1, 0}, 1, UP_SIDE_INPUT, out), UP_OK);
        if (!strstr(up_last_error(), cases[i].says)) fprintf(stderr, "case %zu: %s\n", i, up_last_error());
        CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), cases[i].says));
    }
    pixels[0] = NAN;
    const up_part bad = {UP_PART_PIXELS, pixels, PIXELS, 0, NULL}, good = {UP_PART_IDS, long_ids, 3, 0, NULL};
    CU_ASSERT_EQUAL(up_encode(s, &(up_input){&bad, 1, 0}, 1, UP_SIDE_INPUT, out), UP_ERR_NUMERIC);
    UP_ASSERT_OK(up_encode(s, &(up_input){&good, 1, 0}, 1, UP_SIDE_INPUT, out)); /* the session goes on */
    pixels[0] = 0;
    up_session_close(s);
}

/* --- comparison --- */

static void test_compare_is_the_formula(void) {
    const char *const labels[] = {"cat", "dog", "a red car"};
    const variant *v = &variants[1]; /* inputs and targets have prompts of their own */
    up_session *s = open_variant(v, "ref");
    float x[16], y[3][16], pixels[PIXELS], p[3], q[3];
    double z[3], sum = 0;
    random_pixels(3, PIXELS, pixels);
    const up_part picture = {.kind = UP_PART_PIXELS, .data = pixels, .size = PIXELS};
    const up_input input = {&picture, 1, 0};
    up_part parts[3];
    up_input candidates[3];
    for (int i = 0; i < 3; i++) {
        parts[i] = (up_part){.kind = UP_PART_TEXT, .data = labels[i], .size = strlen(labels[i])};
        candidates[i] = (up_input){&parts[i], 1, 0};
    }
    UP_ASSERT_OK(up_encode(s, &input, 1, UP_SIDE_INPUT, x));
    UP_ASSERT_OK(up_encode(s, candidates, 3, UP_SIDE_TARGET, y[0]));
    for (int i = 0; i < 3; i++) {
        double dot = 0;
        for (int k = 0; k < 16; k++) dot += (double)x[k] * (double)y[i][k];
        sum += z[i] = exp(dot / 0.07);
    }
    UP_ASSERT_OK(up_compare(s, "caption", &input, candidates, 3, p));
    UP_ASSERT_OK(up_classify(s, &input, labels, 3, q));
    for (int i = 0; i < 3; i++) {
        CU_ASSERT(fabs((double)p[i] - z[i] / sum) < 1e-5);
        CU_ASSERT(p[i] == q[i]); /* all temperatures are equal in a fresh model */
    }
    CU_ASSERT_EQUAL(up_compare(s, "caption", &input, candidates, 0, p), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_compare(s, "no_task", &input, candidates, 3, p), UP_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "image_classification"));
    up_session_close(s);
}

/* Which temperature is taken when none is named: each task of a preset gets its own, and the softmax tells
 * which. */
static void test_default_tasks(void) {
    static const struct {
        const char *preset;
        up_part_kind kind;
        int frames, slot;
        const char *task;
    } cases[] = {
        {"tiny", UP_PART_PIXELS, 0, 0, "image_classification"},
        {"tiny", UP_PART_PIXELS, 1, 0, "video_classification"},
        {"tiny", UP_PART_IDS, 0, 0, "text_retrieval"},
        {"tiny", UP_PART_PIXELS, 0, 1, "image_mlm"},
        {"tiny", UP_PART_IDS, 0, 1, "mlm"},
        {"released-base", UP_PART_PIXELS, 0, 0, "img_cls"},
        {"released-base", UP_PART_PIXELS, 1, 0, "video_cls"},
        {"released-base", UP_PART_IDS, 0, 0, "retrieve"},
        {"released-base", UP_PART_PIXELS, 0, 1, "mlm"},
        {"released-base", UP_PART_IDS, 0, 1, "text_mlm"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const variant v = {cases[i].preset, 0, 1, 0, 0, 0};
        up_session *s = open_variant(&v, "ref");
        const up_config *c = up_model_config(s->model);
        const up_part part = {.kind = cases[i].kind, .frames = cases[i].frames};
        double scale;
        for (int t = 0; t < c->tasks; t++) {
            float log_scale = (float)log(2.0 + t);
            up_view view = up_model_weight(s->model, up_model_params(s->model)->temperature[t]);
            UP_ASSERT_OK(s->backend->ops->upload(s->backend, view, &log_scale));
        }
        UP_ASSERT_OK(up_task_scale(s, up_input_kind(&(up_input){&part, 1, cases[i].slot}), &scale));
        CU_ASSERT(fabs(scale - 2.0 - up_config_task(c, cases[i].task)) < 1e-4);
        float beyond = 50; /* clamped */
        up_view view = up_model_weight(s->model, up_model_params(s->model)->temperature[0]);
        UP_ASSERT_OK(s->backend->ops->upload(s->backend, view, &beyond));
        UP_ASSERT_OK(up_task_scale(s, c->task_names[0], &scale));
        CU_ASSERT_EQUAL(scale, UP_MAX_LOGIT_SCALE);
        for (int t = 0; t < c->tasks; t++) { /* each name of the model's own is that one */
            UP_ASSERT_OK(up_task_scale(s, c->task_names[t], &scale));
            CU_ASSERT(t == 0 || fabs(scale - 2.0 - t) < 1e-4);
        }
        up_session_close(s);
    }
}

/* --- captions --- */

enum { WORDS = 9, STEPS = 5 };
static const int32_t vocabulary[WORDS] = {320, 500, 1000, 2000, 3000, 4000, 5000, 6000, UP_TOKEN_END};

static up_caption_options caption_options(int beam, int uncached) {
    return (up_caption_options){.beam = beam,
                                .max_words = STEPS,
                                .uncached = uncached,
                                .vocabulary = vocabulary,
                                .vocabulary_count = WORDS};
}

/* Inputs of three kinds: a picture, a clip behind a text (which is closed, and in the prefix), a text begun.
 */
static int caption_input(int kind, const float *pixels, up_part parts[2]) {
    static const int32_t begun[] = {320, 777, 888};
    if (kind == 0) parts[0] = (up_part){.kind = UP_PART_PIXELS, .data = pixels, .size = PIXELS};
    if (kind == 1) {
        parts[0] = (up_part){.kind = UP_PART_TEXT, .data = "so", .size = 2};
        parts[1] = (up_part){.kind = UP_PART_PIXELS, .data = pixels, .size = 2 * PIXELS, .frames = 2};
    }
    if (kind == 2) parts[0] = (up_part){.kind = UP_PART_IDS, .data = begun, .size = 3};
    if (kind == 3) {
        parts[0] = (up_part){.kind = UP_PART_PIXELS, .data = pixels, .size = PIXELS};
        parts[1] = (up_part){.kind = UP_PART_IDS, .data = begun, .size = 3};
    }
    return kind == 1 || kind == 3 ? 2 : 1;
}

static void compare_captions(up_session *s, const char *backend_name, int v) {
    float pixels[2 * PIXELS];
    random_pixels(4, 2 * PIXELS, pixels);
    for (int kind = 0; kind < 4; kind++)
        for (int beam = 1; beam <= 4; beam++) {
            up_part parts[2];
            const up_input input = {parts, caption_input(kind, pixels, parts), 0};
            up_caption a, b;
            up_caption_options o = caption_options(beam, 0), u = caption_options(beam, 1);
            UP_ASSERT_OK(up_caption_input(s, &input, &o, &a));
            UP_ASSERT_OK(up_caption_input(s, &input, &u, &b));
            int same = a.words == b.words && !memcmp(a.ids, b.ids, (size_t)a.words * sizeof *a.ids) &&
                       !strcmp(a.text, b.text) && fabs(a.log_probability - b.log_probability) <= 1e-4;
            if (!same)
                fprintf(stderr, "%s, variant %d, input %d, beam %d: %g, %g\n", backend_name, v, kind, beam,
                        a.log_probability, b.log_probability);
            CU_ASSERT(same);
            up_caption_free(&a);
            up_caption_free(&b);
        }
}

static void test_cached_is_uncached(void) {
    static const char *const backends[] = {"ref", "cpu"};
    for (int b = 0; b < 2; b++)
        for (int v = 0; v < VARIANTS; v++) {
            up_session *s = open_variant(&variants[v], backends[b]);
            compare_captions(s, backends[b], v);
            up_session_close(s);
        }
}

/* Many inputs at once, of all kinds and in a mixed order, against the definition one by one. */
static void compare_groups(up_session *s, int beam) {
    enum { N = 11 };
    static float pixels[N][2 * PIXELS];
    up_part parts[N][2];
    up_input inputs[N];
    up_caption made[N], one;
    up_caption_options o = caption_options(beam, 0), u = caption_options(beam, 1);
    for (int i = 0; i < N; i++) {
        random_pixels((uint64_t)(50 + i), 2 * PIXELS, pixels[i]);
        inputs[i] = (up_input){parts[i], caption_input(i % 5 % 4, pixels[i], parts[i]), 0};
    }
    UP_ASSERT_OK(up_caption_inputs(s, inputs, N, &o, made));
    for (int i = 0; i < N; i++) {
        UP_ASSERT_OK(up_caption_input(s, &inputs[i], &u, &one));
        int same = one.words == made[i].words && !strcmp(one.text, made[i].text) &&
                   !memcmp(one.ids, made[i].ids, (size_t)one.words * sizeof *one.ids) &&
                   fabs(one.log_probability - made[i].log_probability) <= 1e-4;
        if (!same)
            fprintf(stderr, "input %d, beam %d: %g, %g\n", i, beam, one.log_probability,
                    made[i].log_probability);
        CU_ASSERT(same);
        up_caption_free(&one);
        up_caption_free(&made[i]);
    }
}

static void test_several_at_once(void) {
    static const char *const backends[] = {"ref", "cpu"};
    static const int beams[] = {1, 2, 5};
    for (int b = 0; b < 2; b++)
        for (int v = 0; v < VARIANTS; v++) {
            up_session *s = open_variant(&variants[v], backends[b]);
            for (int i = 0; i < 3; i++) compare_groups(s, beams[i]);
            up_session_close(s);
        }
}

/* One input that is wrong: no caption at all, and the session goes on. */
static void test_one_of_several_is_wrong(void) {
    static const int32_t ids[] = {320, 500}, high[] = {49411};
    const up_part parts[] = {{UP_PART_IDS, ids, 2, 0, NULL}, {UP_PART_IDS, high, 1, 0, "third"}};
    const up_input inputs[] = {{&parts[0], 1, 0}, {&parts[0], 1, 0}, {&parts[1], 1, 0}};
    const up_caption_options o = caption_options(2, 0);
    up_session *s = open_variant(&variants[0], "ref");
    up_caption made[3];
    memset(made, 0xff, sizeof made);
    CU_ASSERT_EQUAL(up_caption_inputs(s, inputs, 3, &o, made), UP_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "third"));
    for (int i = 0; i < 3; i++) CU_ASSERT(!made[i].text && !made[i].ids);
    UP_ASSERT_OK(up_caption_inputs(s, inputs, 0, &o, NULL));
    UP_ASSERT_OK(up_caption_inputs(s, inputs, 2, &o, made));
    CU_ASSERT_STRING_EQUAL(made[0].text, made[1].text);
    for (int i = 0; i < 2; i++) up_caption_free(&made[i]);
    up_session_close(s);
}

/* log P of each vocabulary entry behind a picture and `count` words, from batches built here. */
static void next_word(up_session *s, const float *pixels, const int32_t *words, int count,
                      double log_p[WORDS]) {
    const up_config *c = up_model_config(s->model);
    up_batch b = {0};
    int32_t said[STEPS + 1] = {0};
    float patches[PIXELS], features[STEPS + 1 + WORDS][16];
    double sum = 0;
    for (int i = 0; i < count; i++) said[i] = words[i];
    UP_ASSERT_OK(up_image_patches(pixels, 16, 16, 8, patches));
    UP_ASSERT_OK(up_batch_begin(&b, c));
    UP_ASSERT_OK(up_batch_open(&b, UP_SIDE_INPUT, 0));
    UP_ASSERT_OK(up_batch_image_values(&b, patches, 4));
    UP_ASSERT_OK(up_batch_words_and_slots(&b, said, count + 1));
    UP_ASSERT_OK(up_batch_close(&b));
    for (int v = 0; v < WORDS; v++) {
        UP_ASSERT_OK(up_batch_open(&b, UP_SIDE_TARGET, 1));
        UP_ASSERT_OK(up_batch_text(&b, (int32_t[]){vocabulary[v], UP_TOKEN_END}, 2, 0, NULL));
        UP_ASSERT_OK(up_batch_close(&b));
    }
    up_lab_encode(up_session_model(s), &b, features[0]);
    for (int v = 0; v < WORDS; v++) {
        log_p[v] = 0;
        for (int k = 0; k < 16; k++)
            log_p[v] += (double)features[count][k] * (double)features[count + 1 + v][k] / 0.07;
        sum += exp(log_p[v]);
    }
    for (int v = 0; v < WORDS; v++) log_p[v] -= log(sum);
    up_batch_free(&b);
}

static void test_greedy_is_beam_one(void) {
    for (int v = 0; v < VARIANTS; v++) {
        up_session *s = open_variant(&variants[v], "ref");
        float pixels[PIXELS];
        int32_t words[STEPS];
        int count = 0, ended = 0;
        double total = 0, log_p[WORDS];
        random_pixels(5, PIXELS, pixels);
        while (count < STEPS && !ended) {
            int best = 0;
            next_word(s, pixels, words, count, log_p);
            for (int w = 1; w < WORDS; w++)
                if (log_p[w] > log_p[best]) best = w;
            total += log_p[best];
            ended = vocabulary[best] == UP_TOKEN_END;
            if (!ended) words[count++] = vocabulary[best];
        }
        const up_part part = {.kind = UP_PART_PIXELS, .data = pixels, .size = PIXELS};
        const up_caption_options o = caption_options(1, 0);
        up_caption c;
        UP_ASSERT_OK(up_caption_input(s, &(up_input){&part, 1, 0}, &o, &c));
        CU_ASSERT_EQUAL(c.words, count);
        CU_ASSERT(c.words == count && !memcmp(c.ids, words, (size_t)count * sizeof *words));
        CU_ASSERT(fabs(c.log_probability - total) <= 1e-4);
        up_caption_free(&c);
        up_session_close(s);
    }
}

/* A beam as wide as all hypotheses finds the best of all: here of at most two words. */
static void test_wide_beam_is_exhaustive(void) {
    up_session *s = open_variant(&variants[0], "ref");
    float pixels[PIXELS];
    double first[WORDS], second[WORDS], best = -INFINITY;
    random_pixels(6, PIXELS, pixels);
    next_word(s, pixels, NULL, 0, first);
    for (int a = 0; a < WORDS; a++) {
        if (vocabulary[a] == UP_TOKEN_END) {
            best = fmax(best, first[a]);
            continue;
        }
        next_word(s, pixels, &vocabulary[a], 1, second);
        for (int b = 0; b < WORDS; b++) best = fmax(best, first[a] + second[b]);
    }
    const up_part part = {.kind = UP_PART_PIXELS, .data = pixels, .size = PIXELS};
    up_caption_options o = caption_options(WORDS * WORDS, 0);
    o.max_words = 2;
    up_caption c;
    UP_ASSERT_OK(up_caption_input(s, &(up_input){&part, 1, 0}, &o, &c));
    CU_ASSERT(fabs(c.log_probability - best) <= 1e-4);
    up_caption_free(&c);
    up_session_close(s);
}

/* The same with a minimum of words, and with the best of all by length: every text of at most two words is
 * looked at here. Scores are divided by (words + 1)^p. */
static void test_minimum_and_penalty(void) {
    up_session *s = open_variant(&variants[0], "ref");
    float pixels[PIXELS];
    double first[WORDS], second[WORDS];
    random_pixels(6, PIXELS, pixels);
    next_word(s, pixels, NULL, 0, first);
    const up_part part = {.kind = UP_PART_PIXELS, .data = pixels, .size = PIXELS};
    static const double penalties[] = {0, 0.5, 1, 3};
    for (int minimum = 0; minimum <= 2; minimum++)
        for (int k = 0; k < 4; k++) {
            double best = -INFINITY, found = 0, p = penalties[k];
            for (int a = 0; a < WORDS; a++) {
                int end = vocabulary[a] == UP_TOKEN_END;
                if (end && minimum == 0) best = fmax(best, first[a]);
                if (end) continue;
                next_word(s, pixels, &vocabulary[a], 1, second);
                for (int b = 0; b < WORDS; b++) {
                    int words = 1 + (vocabulary[b] != UP_TOKEN_END);
                    if (words < minimum) continue;
                    best = fmax(best, (first[a] + second[b]) / pow(words + 1, p));
                }
            }
            up_caption_options o = caption_options(WORDS * WORDS, 0);
            o.max_words = 2;
            o.min_words = minimum;
            o.length_penalty = p;
            up_caption c;
            UP_ASSERT_OK(up_caption_input(s, &(up_input){&part, 1, 0}, &o, &c));
            found = c.log_probability / pow(c.words + 1, p);
            CU_ASSERT(c.words >= minimum);
            CU_ASSERT(fabs(found - best) <= 1e-4);
            up_caption_free(&c);
        }
    up_session_close(s);
}

/* The choice of extensions against sorting all of them; many are equal, and the earlier ones win. */
typedef struct choice {
    double log_probability;
    int from, entry;
} choice;
static int better_first(const void *a, const void *b) {
    const choice *x = a, *y = b;
    if (x->log_probability != y->log_probability) return x->log_probability < y->log_probability ? 1 : -1;
    if (x->from != y->from) return x->from < y->from ? -1 : 1;
    return x->entry < y->entry ? -1 : 1;
}

static void test_extensions_are_the_best(void) {
    enum { V = 700, BEAM = 7, ROUNDS = 12 };
    static int32_t ids[V];
    static float logits[BEAM * V], lse[BEAM];
    static choice all[BEAM * V + BEAM];
    up_rng rng = up_rng_make(up_test_seed(), 77, 0, 0);
    up_beam b;
    for (int v = 0; v < V; v++) ids[v] = v == 300 ? UP_TOKEN_END : v;
    UP_ASSERT_OK(up_beam_start(&(up_beam_options){BEAM, ROUNDS + 1, 2, 0, ids, V}, &b));
    for (int round = 0; round < ROUNDS; round++) {
        int n = 0, live = 0;
        for (int i = 0; i < BEAM * V; i++) /* few values: many are equal */
            logits[i] = (float)floor(4 * up_rng_normal(&rng)) + (i % V == 300 ? 8 : 0);
        for (int i = 0; i < BEAM; i++) lse[i] = 20;
        for (int i = 0; i < b.count; i++) {
            if (b.now[i].ended) {
                all[n++] = (choice){b.now[i].log_probability, i, -1};
                continue;
            }
            for (int v = 0; v < V; v++)
                if (round >= 2 || v != 300)
                    all[n++] = (choice){b.now[i].log_probability - 20 + (double)logits[live * V + v], i, v};
            live++;
        }
        qsort(all, (size_t)n, sizeof *all, better_first);
        UP_ASSERT_OK(up_beam_extend(&b, logits, lse));
        CU_ASSERT_EQUAL(b.count, BEAM);
        for (int k = 0; k < BEAM; k++) {
            int word = b.now[k].count ? b.now[k].words[b.now[k].count - 1] : -1;
            CU_ASSERT(b.now[k].log_probability == all[k].log_probability);
            CU_ASSERT(all[k].entry < 0 ? b.now[k].ended : word == ids[all[k].entry]);
        }
    }
    if (b.live) {
        logits[b.live * V - 1] = NAN;
        CU_ASSERT_EQUAL(up_beam_extend(&b, logits, lse), UP_ERR_NUMERIC);
    }
    up_beam_free(&b);
}

static void test_caption_limits(void) {
    static const int32_t full[12] = {0}, wrong[] = {49411};
    up_session *s = open_variant(&variants[0], "ref");
    up_caption c;
    const up_part eleven = {.kind = UP_PART_IDS, .data = full, .size = 11},
                  twelve = {.kind = UP_PART_IDS, .data = full, .size = 12};
    up_caption_options o = caption_options(2, 0);
    o.max_words = 1000; /* more than the model has positions */
    UP_ASSERT_OK(up_caption_input(s, &(up_input){&eleven, 1, 0}, &o, &c));
    CU_ASSERT(c.words <= 1);
    up_caption_free(&c);
    CU_ASSERT_EQUAL(up_caption_input(s, &(up_input){&twelve, 1, 0}, &o, &c), UP_ERR_ARGUMENT);
    CU_ASSERT_PTR_NULL(c.text);
    o.vocabulary = wrong;
    o.vocabulary_count = 1;
    CU_ASSERT_EQUAL(up_caption_input(s, &(up_input){&eleven, 1, 0}, &o, &c), UP_ERR_ARGUMENT);
    o = caption_options(-1, 0);
    CU_ASSERT_EQUAL(up_caption_input(s, &(up_input){&eleven, 1, 0}, &o, &c), UP_ERR_ARGUMENT);
    o = caption_options(1, 0);
    o.min_words = -1;
    CU_ASSERT_EQUAL(up_caption_input(s, &(up_input){&eleven, 1, 0}, &o, &c), UP_ERR_ARGUMENT);
    o = caption_options(1, 0);
    o.length_penalty = NAN;
    CU_ASSERT_EQUAL(up_caption_input(s, &(up_input){&eleven, 1, 0}, &o, &c), UP_ERR_ARGUMENT);
    o = caption_options(1, 0);
    o.min_words = 1; /* and no word but the end token */
    o.vocabulary = &vocabulary[WORDS - 1];
    o.vocabulary_count = 1;
    CU_ASSERT_EQUAL(up_caption_input(s, &(up_input){&eleven, 1, 0}, &o, &c), UP_ERR_ARGUMENT);
    o = caption_options(1, 0);
    o.task = "no_task";
    CU_ASSERT_EQUAL(up_caption_input(s, &(up_input){&eleven, 1, 0}, &o, &c), UP_ERR_ARGUMENT);
    UP_ASSERT_OK(
        up_model_set_targets(s->model, vocabulary, WORDS)); /* the model's own set, and no parts at all */
    UP_ASSERT_OK(up_caption_input(s, &(up_input){NULL, 0, 0}, NULL, &c));
    up_target_set *words;
    UP_ASSERT_OK(up_session_words(s, NULL, 0, &words));
    CU_ASSERT_EQUAL(up_target_set_count(words), WORDS);
    up_caption_free(&c);
    up_session_close(s);
}

static void test_load_errors(void) {
    up_session *s;
    CU_ASSERT_EQUAL(up_model_load("no/such/model", NULL, &s), UP_ERR_IO);
    CU_ASSERT_PTR_NULL(s);
    CU_ASSERT_EQUAL(up_model_load("x", &(up_load_options){.backend = "tpu"}, &s), UP_ERR_ARGUMENT);
    up_status cuda = up_model_load("x", &(up_load_options){.backend = "cuda"}, &s);
    CU_ASSERT(cuda == UP_ERR_UNSUPPORTED || cuda == UP_ERR_IO); /* with a GPU it is the file that fails */
    up_session_close(NULL);
    CU_ASSERT(strlen(up_version()) >= 5);
}

static int64_t target_tokens(const up_session *s) {
    int64_t inputs, targets;
    up_session_tokens(s, &inputs, &targets);
    return targets;
}

/* --- features of the vocabulary in a file --- */

enum { MANY = 1200 };

typedef struct kept {
    char folder[64];
    const char *overlay;
    up_dtype precision;
    int32_t ids[MANY];
    float features[MANY][16];
    int64_t encoded; /* tokens of targets */
} kept;

/* Features of 1,200 words by a session of its own. */
static void ask_for_words(kept *k, const char *cache) {
    up_session *s;
    up_target_set *set;
    const up_load_options o = {
        .backend = "ref", .cache = cache, .overlay = k->overlay, .precision = k->precision};
    UP_ASSERT_OK(up_model_load(model_path, &o, &s));
    UP_ASSERT_OK(up_session_words(s, k->ids, MANY, &set));
    UP_ASSERT_OK(up_features_read(up_target_set_features(set), k->features[0]));
    k->encoded = target_tokens(s);
    up_session_close(s);
}

/* The one file of features in a folder; 0: there is none. */
static int find_kept(const char *folder, char path[512]) {
    int found = 0;
    struct dirent *entry;
    DIR *list = opendir(folder);
    while (list && (entry = readdir(list))) {
        size_t length = strlen(entry->d_name);
        if (length < 9 || strcmp(entry->d_name + length - 9, ".features")) continue;
        snprintf(path, 512, "%s/%s", folder, entry->d_name);
        found++;
    }
    if (list) closedir(list);
    return found;
}

/* Whether the next session encodes them (1) or takes them from the file; they are those of `want` each time.
 */
static int encodes(kept *k, const kept *want, const char *cache) {
    memset(k->features, 0xff, sizeof k->features);
    ask_for_words(k, cache);
    CU_ASSERT(!memcmp(k->features, want->features, sizeof k->features));
    return k->encoded > 0;
}

static void begin_kept(kept *k) {
    memset(k, 0, sizeof *k);
    strcpy(k->folder, "test_infer_XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(k->folder));
    for (int i = 0; i < MANY; i++) k->ids[i] = 40 * i;
    write_variant(&variants[0], model_path);
}

static void test_words_are_kept(void) {
    static kept k, want;
    char path[512];
    begin_kept(&k);
    want = k;
    ask_for_words(&want, "none");
    CU_ASSERT_EQUAL(find_kept(k.folder, path), 0);
    CU_ASSERT_EQUAL(want.encoded, 3 * MANY);
    CU_ASSERT(encodes(&k, &want, k.folder));
    CU_ASSERT_EQUAL(find_kept(k.folder, path), 1);
    CU_ASSERT(!encodes(&k, &want, k.folder));
    CU_ASSERT(encodes(&k, &want, "none"));

    k.ids[7]++; /* another word: another file */
    want = k;
    ask_for_words(&want, "none");
    CU_ASSERT(encodes(&k, &want, k.folder));
    CU_ASSERT_EQUAL(find_kept(k.folder, path), 2);
    CU_ASSERT(!encodes(&k, &want, k.folder));
    k.precision = want.precision = UP_BF16;
    ask_for_words(&want, "none");
    CU_ASSERT(encodes(&k, &want, k.folder));
    CU_ASSERT(!encodes(&k, &want, k.folder));
    k.precision = want.precision = UP_F32;

    write_variant(&variants[1], model_path); /* other weights in the file of the same name: stale */
    ask_for_words(&want, "none");
    CU_ASSERT(encodes(&k, &want, k.folder));
    CU_ASSERT(!encodes(&k, &want, k.folder));
    CU_ASSERT_EQUAL(find_kept(k.folder, path), 3);
    unlink(model_path);
    up_lab_remove(k.folder);
}

/* A bit anywhere, and every length: no error, and made anew. */
static void test_kept_words_are_checked(void) {
    static kept k, want;
    char path[512];
    void *bytes;
    size_t size;
    begin_kept(&k);
    want = k;
    ask_for_words(&want, k.folder);
    CU_ASSERT_EQUAL_FATAL(find_kept(k.folder, path), 1);
    UP_ASSERT_OK(up_file_read(path, &bytes, &size));
    up_rng rng = up_rng_make(up_test_seed(), 21, 0, 0);
    for (int round = 0; round < 24; round++) {
        size_t at = up_rng_below(&rng, round < 12 ? 600 : (uint32_t)size);
        unsigned char *byte = (unsigned char *)bytes + at;
        unsigned char before = *byte;
        *byte ^= (unsigned char)(1 << round % 8);
        UP_ASSERT_OK(up_file_write(path, bytes, size));
        CU_ASSERT(encodes(&k, &want, k.folder));
        CU_ASSERT(!encodes(&k, &want, k.folder));
        *byte = before;
    }
    for (size_t length = 0; length < size; length += size / 5) {
        UP_ASSERT_OK(up_file_write(path, bytes, length));
        CU_ASSERT(encodes(&k, &want, k.folder));
    }
    free(bytes);
    unlink(model_path);
    up_lab_remove(k.folder);
}

/* A folder that cannot be made, features of weights that no file has, and a tuned task's own. */
static void test_words_that_are_not_kept(void) {
    static const char *const overlay_path = "test_infer_overlay.safetensors";
    static kept k, want;
    char path[512], below[600];
    up_session *s;
    up_target_set *set;
    up_model *overlay;
    begin_kept(&k);
    want = k;
    ask_for_words(&want, "none");
    snprintf(below, sizeof below, "%s/folder", model_path); /* the model is a file, not a folder */
    CU_ASSERT(encodes(&k, &want, below));
    const up_load_options o = {.backend = "ref", .cache = k.folder};
    UP_ASSERT_OK(up_model_load(model_path, &o, &s));
    shake(up_session_model(s), 3);
    UP_ASSERT_OK(up_session_words(s, k.ids, MANY, &set));
    CU_ASSERT_EQUAL(target_tokens(s), 3 * MANY);
    CU_ASSERT_EQUAL(find_kept(k.folder, path), 0);
    UP_ASSERT_OK(up_session_words(s, k.ids, MANY, &set)); /* fresh */
    CU_ASSERT_EQUAL(target_tokens(s), 3 * MANY);
    UP_ASSERT_OK(up_session_words(s, k.ids, 10, &set)); /* too few to be worth a file */
    CU_ASSERT_EQUAL(find_kept(k.folder, path), 0);
    up_session_close(s);

    CU_ASSERT(encodes(&k, &want, k.folder));
    UP_ASSERT_OK(up_model_load(model_path, &o, &s));
    UP_ASSERT_OK(up_overlay_create(up_session_model(s), 3, 2, 0, up_test_seed(), &overlay));
    shake(overlay, 5);
    UP_ASSERT_OK(up_model_write(overlay, overlay_path));
    up_model_destroy(overlay);
    up_session_close(s);
    k.overlay = want.overlay = overlay_path;
    ask_for_words(&want, "none");
    CU_ASSERT(encodes(&k, &want, k.folder));
    CU_ASSERT_EQUAL(find_kept(k.folder, path), 2);
    CU_ASSERT(!encodes(&k, &want, k.folder));
    unlink(model_path);
    unlink(overlay_path);
    up_lab_remove(k.folder);
}

/* --- candidates that are kept --- */

/* Picture, clip, text and joined parts as classes: what up_encode says of them, compared by hand; encoded
 * once until the weights change. */
static void test_candidates(void) {
    enum { N = 4, Q = 3 };
    up_session *s = open_variant(&variants[1], "ref");
    float pixels[2 * PIXELS], x[Q][16], y[N][16], p[Q][N], again[Q][N];
    static const int32_t ids[] = {320, 500, 1000};
    random_pixels(7, 2 * PIXELS, pixels);
    const up_part parts[] = {{UP_PART_PIXELS, pixels, PIXELS, 0, NULL},
                             {UP_PART_PIXELS, pixels, 2 * PIXELS, 2, NULL},
                             {UP_PART_IDS, ids, 3, 0, NULL},
                             {UP_PART_PIXELS, pixels + PIXELS, PIXELS, 0, NULL},
                             {UP_PART_TEXT, "dog", 3, 0, NULL}};
    const up_input inputs[N] = {{&parts[0], 1, 0}, {&parts[1], 1, 0}, {&parts[2], 1, 0}, {&parts[3], 2, 0}};
    up_candidates *c;
    UP_ASSERT_OK(up_encode(s, inputs, Q, UP_SIDE_INPUT, x[0]));
    UP_ASSERT_OK(up_encode(s, inputs, N, UP_SIDE_TARGET, y[0]));
    UP_ASSERT_OK(up_candidates_create(s, inputs, N, &c));
    CU_ASSERT_EQUAL(up_candidates_count(c), N);
    int64_t before = target_tokens(s);
    UP_ASSERT_OK(up_candidates_compare(c, NULL, inputs, Q, p[0]));
    int64_t once = target_tokens(s) - before;
    CU_ASSERT_EQUAL(once,
                    (1 + 4) + (1 + 8) + (1 + 3) + (1 + 4 + 2)); /* <SPE>, patches, words and their end */
    for (int i = 0; i < Q; i++) {
        double z[N], sum = 0;
        for (int j = 0; j < N; j++) {
            double dot = 0;
            for (int k = 0; k < 16; k++) dot += (double)x[i][k] * (double)y[j][k];
            z[j] = exp(dot / 0.07);
            sum += z[j];
        }
        for (int j = 0; j < N; j++) CU_ASSERT(fabs((double)p[i][j] - z[j] / sum) < 1e-5);
    }
    UP_ASSERT_OK(up_candidates_compare(c, "image_text_retrieval", inputs, Q, again[0]));
    CU_ASSERT(!memcmp(p, again, sizeof p));
    CU_ASSERT_EQUAL(target_tokens(s) - before, once); /* a second use costs nothing */
    shake(up_session_model(s), 9);
    UP_ASSERT_OK(up_candidates_compare(c, NULL, inputs, Q, again[0]));
    CU_ASSERT_EQUAL(target_tokens(s) - before, 2 * once); /* other weights: made fresh */
    CU_ASSERT(memcmp(p, again, sizeof p));
    UP_ASSERT_OK(up_compare(s, NULL, &inputs[1], inputs, N, p[0]));
    CU_ASSERT(close_to(p[0], again[1], N, 1e-6));
    up_candidates_free(c);
    up_session_close(s);
}

/* Features that were kept are the same candidates. */
static void test_candidates_of_features(void) {
    const char *const labels[] = {"cat", "dog", "a red car"};
    up_session *s = open_variant(&variants[1], "ref");
    float y[3][16], p[3], q[3];
    up_part parts[3];
    up_input inputs[3];
    up_candidates *kept, *texts;
    for (int i = 0; i < 3; i++) {
        parts[i] = (up_part){.kind = UP_PART_TEXT, .data = labels[i], .size = strlen(labels[i])};
        inputs[i] = (up_input){&parts[i], 1, 0};
    }
    UP_ASSERT_OK(up_encode(s, inputs, 3, UP_SIDE_TARGET, y[0]));
    UP_ASSERT_OK(up_candidates_create_features(s, y[0], 3, &kept));
    UP_ASSERT_OK(up_candidates_create_texts(s, labels, 3, &texts));
    UP_ASSERT_OK(up_candidates_compare(kept, NULL, inputs, 1, p));
    UP_ASSERT_OK(up_candidates_compare(texts, NULL, inputs, 1, q));
    CU_ASSERT(close_to(p, q, 3, 1e-6));
    y[1][3] = NAN;
    up_candidates_free(kept);
    CU_ASSERT_EQUAL(up_candidates_create_features(s, y[0], 3, &kept), UP_ERR_NUMERIC);
    CU_ASSERT_PTR_NULL(kept);
    up_candidates_free(texts);
    up_session_close(s);
}

/* Equation 4: alpha cos / tau + w f(x) + b, where f is not scaled to length 1. */
static void test_candidates_with_head(void) {
    enum { N = 3 };
    static const int32_t ids[N][2] = {{320, 500}, {1000, 2000}, {3000, 4000}};
    const variant v = {"tiny", 0, 2, 0, 0, N};
    up_session *s = open_variant(&v, "ref");
    up_model *model = up_session_model(s);
    const up_params *params = up_model_params(model);
    up_backend *b = up_model_backend(model);
    float x[16], y[N][16], raw[16], w[N][16], bias[N], alpha, p[N], pixels[PIXELS];
    double z[N], sum = 0;
    random_pixels(8, PIXELS, pixels);
    const up_part picture = {.kind = UP_PART_PIXELS, .data = pixels, .size = PIXELS};
    const up_input input = {&picture, 1, 0};
    up_part parts[N];
    up_input inputs[N];
    up_candidates *c;
    for (int i = 0; i < N; i++) {
        parts[i] = (up_part){.kind = UP_PART_IDS, .data = ids[i], .size = 2};
        inputs[i] = (up_input){&parts[i], 1, 0};
    }
    UP_ASSERT_OK(up_encode(s, inputs, N, UP_SIDE_TARGET, y[0]));
    UP_ASSERT_OK(up_encode(s, &input, 1, UP_SIDE_INPUT, x));
    UP_ASSERT_OK(b->ops->download(b, raw, s->features.raw));
    UP_ASSERT_OK(b->ops->download(b, w, up_model_weight(model, params->head_weight)));
    UP_ASSERT_OK(b->ops->download(b, bias, up_model_weight(model, params->head_bias)));
    UP_ASSERT_OK(b->ops->download(b, &alpha, up_model_weight(model, params->head_alpha)));
    for (int i = 0; i < N; i++) {
        double dot = 0, head = (double)bias[i];
        for (int k = 0; k < 16; k++) {
            dot += (double)x[k] * (double)y[i][k];
            head += (double)raw[k] * (double)w[i][k];
        }
        z[i] = exp((double)alpha * dot / 0.07 + head);
        sum += z[i];
    }
    UP_ASSERT_OK(up_candidates_create(s, inputs, N, &c));
    UP_ASSERT_OK(up_candidates_use_head(c, 1));
    UP_ASSERT_OK(up_candidates_compare(c, NULL, &input, 1, p));
    for (int i = 0; i < N; i++) CU_ASSERT(fabs((double)p[i] - z[i] / sum) < 1e-5);
    up_candidates_free(c);
    UP_ASSERT_OK(up_candidates_create(s, inputs, 2, &c));
    CU_ASSERT_EQUAL(up_candidates_use_head(c, 1), UP_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "3 classes"));
    up_candidates_free(c);
    up_session_close(s);
}

/* A tuned task over a model, from their two files. */
static void test_overlay_session(void) {
    static const char *const overlay_path = "test_infer_overlay.safetensors";
    static const int32_t ids[] = {320, 500};
    const up_part part = {.kind = UP_PART_IDS, .data = ids, .size = 2};
    const up_input input = {&part, 1, 0};
    const up_load_options alone = {.backend = "ref"}, over = {.backend = "ref", .overlay = overlay_path};
    up_session *base, *tuned;
    up_model *overlay;
    float x[16], y[16], z[16];
    write_variant(&variants[0], model_path);
    UP_ASSERT_OK(up_model_load(model_path, &alone, &base));
    UP_ASSERT_OK(up_overlay_create(up_session_model(base), 3, 2, 0, up_test_seed(), &overlay));
    shake(overlay, 5);
    UP_ASSERT_OK(up_model_write(overlay, overlay_path));
    up_model_destroy(overlay);
    UP_ASSERT_OK(up_model_load(model_path, &over, &tuned));
    UP_ASSERT_OK(up_encode(base, &input, 1, UP_SIDE_INPUT, x));
    UP_ASSERT_OK(up_encode(tuned, &input, 1, UP_SIDE_INPUT, y));
    UP_ASSERT_OK(up_encode(tuned, &input, 1, UP_SIDE_TARGET, z));
    CU_ASSERT(memcmp(x, y, sizeof x)); /* its own norms and prompts */
    CU_ASSERT(memcmp(y, z, sizeof x)); /* prompts of each side */
    CU_ASSERT_EQUAL(up_model_config(up_session_model(tuned))->prompts, 3);
    up_session_close(tuned);
    up_session_close(base);
    write_variant(&variants[1], model_path); /* another model */
    CU_ASSERT_EQUAL(up_model_load(model_path, &over, &tuned), UP_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "belongs to another model"));
    CU_ASSERT_PTR_NULL(tuned);
    unlink(model_path);
    unlink(overlay_path);
}

/* An overlay over the model of model_path as a file. */
static void write_overlay(const char *path, int prompts, int classes, uint64_t key) {
    up_session *s;
    up_model *overlay;
    UP_ASSERT_OK(up_model_load(model_path, &(up_load_options){.backend = "ref"}, &s));
    UP_ASSERT_OK(up_overlay_create(up_session_model(s), prompts, 2, classes, up_test_seed(), &overlay));
    shake(overlay, key);
    UP_ASSERT_OK(up_model_write(overlay, path));
    up_model_destroy(overlay);
    up_session_close(s);
}

/* Two tuned tasks and the model itself, on one set of weights: what each answers in a mixed batch is, to the
 * bit, what it answers alone, and what a session answers that has it alone. */
static void several_tuned(const char *backend) {
    enum { TASKS = 3, N = 12, TARGETS = 2 };
    static const char *const paths[TASKS] = {NULL, "test_infer_a.safetensors", "test_infer_b.safetensors"};
    static const int32_t ids[TARGETS][2] = {{320, 500}, {1000, 2000}};
    float pixels[N][PIXELS], got[N][TARGETS], want[TARGETS];
    up_part parts[N], words[TARGETS];
    up_input targets[TARGETS];
    up_session *sessions[TASKS];
    up_candidates *candidates[TASKS];
    up_request requests[N];
    write_variant(&variants[0], model_path);
    write_overlay(paths[1], 3, 0, 5);
    write_overlay(paths[2], 1, TARGETS, 6);
    for (int i = 0; i < TARGETS; i++) {
        words[i] = (up_part){.kind = UP_PART_IDS, .data = ids[i], .size = 2};
        targets[i] = (up_input){&words[i], 1, 0};
    }
    UP_ASSERT_OK(
        up_model_load(model_path, &(up_load_options){.backend = backend, .threads = 2}, &sessions[0]));
    UP_ASSERT_OK(up_session_add_tuned(sessions[0], paths[1], &sessions[1]));
    UP_ASSERT_OK(up_session_add_tuned(sessions[1], paths[2], &sessions[2])); /* over the same model */
    for (int t = 0; t < TASKS; t++) {
        UP_ASSERT_OK(up_candidates_create(sessions[t], targets, TARGETS, &candidates[t]));
        UP_ASSERT_OK(up_candidates_use_head(candidates[t], t == 2));
    }
    for (int i = 0; i < N; i++) {
        random_pixels(40 + (uint64_t)i, PIXELS, pixels[i]);
        parts[i] = (up_part){.kind = UP_PART_PIXELS, .data = pixels[i], .size = PIXELS};
        requests[i] = (up_request){candidates[i * 7 % TASKS], NULL, {&parts[i], 1, 0}, got[i]};
    }
    UP_ASSERT_OK(up_compare_requests(requests, N));
    for (int i = 0; i < N; i++) {
        const up_request *r = &requests[i];
        int task = i * 7 % TASKS;
        const up_load_options alone = {.backend = backend, .threads = 2, .overlay = paths[task]};
        up_session *s;
        up_candidates *c;
        UP_ASSERT_OK(up_candidates_compare(r->candidates, NULL, &r->input, 1, want));
        CU_ASSERT(!memcmp(got[i], want, sizeof want));
        UP_ASSERT_OK(up_model_load(model_path, &alone, &s));
        UP_ASSERT_OK(up_candidates_create(s, targets, TARGETS, &c));
        UP_ASSERT_OK(up_candidates_use_head(c, task == 2));
        UP_ASSERT_OK(up_candidates_compare(c, NULL, &r->input, 1, want));
        CU_ASSERT(!memcmp(got[i], want, sizeof want));
        UP_ASSERT_OK(up_candidates_compare(candidates[(task + 1) % TASKS], NULL, &r->input, 1, want));
        CU_ASSERT(memcmp(got[i], want, sizeof want) != 0); /* each task is another model */
        up_candidates_free(c);
        up_session_close(s);
    }
    for (int t = TASKS - 1; t >= 0; t--) {
        up_candidates_free(candidates[t]);
        up_session_close(sessions[t]);
        if (paths[t]) unlink(paths[t]);
    }
    unlink(model_path);
}

static void test_several_tuned_tasks(void) {
    up_session *s, *more = NULL;
    several_tuned("ref");
    several_tuned("cpu");
    s = open_variant(&variants[0], "ref");
    CU_ASSERT_EQUAL(up_session_add_tuned(s, NULL, &more), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_session_add_tuned(NULL, "x", &more), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_session_add_tuned(s, "no such file", &more), UP_ERR_IO);
    CU_ASSERT_PTR_NULL(more);
    CU_ASSERT_EQUAL(up_compare_requests(NULL, 1), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_compare_requests(&(up_request){0}, 1), UP_ERR_ARGUMENT);
    UP_ASSERT_OK(up_compare_requests(NULL, 0));
    up_session_close(s);
}

/* Weights in the file's mapping: the same bits as a copy of them; what is written into them stays in this
 * process; nothing steps on them. */
static void test_mapped_weights(void) {
    static const char *const backends[] = {"ref", "cpu"};
    float pixels[PIXELS], want[16], got[16];
    void *before, *after;
    size_t size, again;
    random_pixels(10, PIXELS, pixels);
    const up_part picture = {.kind = UP_PART_PIXELS, .data = pixels, .size = PIXELS};
    const up_input input = {&picture, 1, 0};
    for (int v = 0; v < VARIANTS; v++)
        for (int b = 0; b < 2; b++) {
            up_session *s;
            const up_load_options copied = {.backend = backends[b], .threads = 1};
            const up_load_options mapped = {.backend = backends[b], .threads = 1, .map = 1};
            write_variant(&variants[v], model_path);
            UP_ASSERT_OK(up_file_read(model_path, &before, &size));
            UP_ASSERT_OK(up_model_load(model_path, &copied, &s));
            UP_ASSERT_OK(up_encode(s, &input, 1, UP_SIDE_INPUT, want));
            up_session_close(s);
            UP_ASSERT_OK(up_model_load(model_path, &mapped, &s));
            UP_ASSERT_OK(up_encode(s, &input, 1, UP_SIDE_INPUT, got));
            CU_ASSERT(!memcmp(got, want, sizeof want));
            shake(up_session_model(s), 5);
            UP_ASSERT_OK(up_encode(s, &input, 1, UP_SIDE_INPUT, got));
            CU_ASSERT(memcmp(got, want, sizeof want));
            up_gradients *g;
            up_optimizer *o;
            const up_adamw adamw = {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8};
            UP_ASSERT_OK(up_gradients_create(up_session_model(s), 0, &g));
            CU_ASSERT_EQUAL(up_optimizer_create(g, &adamw, &o), UP_ERR_ARGUMENT);
            up_gradients_free(g);
            up_session_close(s);
            UP_ASSERT_OK(up_file_read(model_path, &after, &again));
            CU_ASSERT(size == again && !memcmp(before, after, size));
            free(before);
            free(after);
        }
    unlink(model_path);
}

static void count_let_go(void *calls) {
    ++*(int *)calls;
}

/* Memory that a model does not fit into, and a backend that cannot use any. */
static void test_memory_for_weights(void) {
    up_config c = variant_config(&variants[0]);
    up_params params;
    up_backend *b;
    up_model *model;
    int let_go_calls = 0;
    UP_ASSERT_OK(up_backend_create("ref", 1, &b));
    UP_ASSERT_OK(up_params_build(&c, &params));
    size_t bytes = (size_t)params.total * sizeof(float);
    float *memory = malloc(bytes);
    int64_t *offsets = malloc((size_t)params.count * sizeof *offsets);
    UP_ASSERT_OK(up_params_init(&c, &params, 3, memory));
    for (int i = 0; i < params.count; i++) offsets[i] = params.list[i].offset * (int64_t)sizeof(float);
    UP_ASSERT_OK(up_model_create_over(b, &c, memory, bytes, offsets, count_let_go, &let_go_calls, &model));
    float first;
    UP_ASSERT_OK(b->ops->download(b, &first, up_view_at(up_model_weight(model, 0).buffer, UP_F32, 0, 1, 1)));
    CU_ASSERT(first == memory[0]);
    up_model_destroy(model);
    CU_ASSERT_EQUAL(let_go_calls, 1);
    CU_ASSERT_EQUAL(
        up_model_create_over(b, &c, memory, bytes - 4 * 64, offsets, count_let_go, &let_go_calls, &model),
        UP_ERR_ARGUMENT);
    CU_ASSERT_PTR_NULL(model);
    offsets[1] += 2;
    CU_ASSERT_EQUAL(up_model_create_over(b, &c, memory, bytes, offsets, count_let_go, &let_go_calls, &model),
                    UP_ERR_ARGUMENT);
    up_backend_ops table = *b->ops;
    table.wrap = NULL;
    up_backend cannot = {&table, NULL};
    CU_ASSERT_EQUAL(
        up_model_create_over(&cannot, &c, memory, bytes, offsets, count_let_go, &let_go_calls, &model),
        UP_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(let_go_calls, 1); /* not after a failure */
    free(offsets);
    free(memory);
    up_params_free(&params);
    up_backend_free(b);
}

/* Activations of 16 bits: the same answer but for their rounding, and not the same bits. */
static void test_precision(void) {
    static const struct {
        up_dtype dtype;
        double unit; /* half the spacing of numbers at 1 */
    } types[] = {{UP_BF16, 0x1p-9}, {UP_F16, 0x1p-12}};
    static const char *const backends[] = {"ref", "cpu"};
    float pixels[PIXELS], want[16], got[16];
    random_pixels(9, PIXELS, pixels);
    const up_part picture = {.kind = UP_PART_PIXELS, .data = pixels, .size = PIXELS};
    const up_input input = {&picture, 1, 0};
    up_session *s = open_variant(&variants[0], "ref");
    UP_ASSERT_OK(up_encode(s, &input, 1, UP_SIDE_INPUT, want));
    up_session_close(s);
    write_variant(&variants[0], model_path);
    for (int b = 0; b < 2; b++)
        for (int i = 0; i < 2; i++) {
            const up_load_options o = {.backend = backends[b], .threads = 1, .precision = types[i].dtype};
            UP_ASSERT_OK(up_model_load(model_path, &o, &s));
            UP_ASSERT_OK(up_encode(s, &input, 1, UP_SIDE_INPUT, got));
            CU_ASSERT(close_to(got, want, 16, 32 * types[i].unit)); /* some thirty roundings on the way */
            CU_ASSERT(memcmp(got, want, sizeof want));
            up_session_close(s);
        }
    CU_ASSERT_EQUAL(up_model_load(model_path, &(up_load_options){.precision = UP_I32}, &s), UP_ERR_ARGUMENT);
    unlink(model_path);
}

/* --- what a caller may do wrong --- */

static int refused(up_status status, const char *says) {
    int right = status == UP_ERR_ARGUMENT && strstr(up_last_error(), says);
    if (!right) fprintf(stderr, "status %d, wanted \"%s\": %s\n", (int)status, says, up_last_error());
    return right;
}

static void test_null_and_negative(void) {
    static const int32_t ids[] = {320};
    const up_part part = {.kind = UP_PART_IDS, .data = ids, .size = 1};
    const up_input input = {&part, 1, 0}, negative = {&part, -1, 0}, none = {NULL, 1, 0};
    const char *const labels[] = {"a", NULL};
    float out[2 * 16];
    up_caption caption;
    up_candidates *c;
    up_target_set *set;
    up_session *s;
    CU_ASSERT(refused(up_model_load(NULL, NULL, &s), "model: is NULL"));
    CU_ASSERT_PTR_NULL(s);
    CU_ASSERT(refused(up_model_load("x", NULL, NULL), "session: is NULL"));
    s = open_variant(&variants[0], "ref");
    CU_ASSERT(refused(up_encode(NULL, &input, 1, UP_SIDE_INPUT, out), "session: is NULL"));
    CU_ASSERT(refused(up_encode(s, NULL, 1, UP_SIDE_INPUT, out), "inputs: is NULL"));
    CU_ASSERT(refused(up_encode(s, &input, 1, UP_SIDE_INPUT, NULL), "features: is NULL"));
    CU_ASSERT(refused(up_encode(s, &input, -1, UP_SIDE_INPUT, out), "inputs: -1 of them"));
    CU_ASSERT(refused(up_encode(s, &input, 1, (up_side)2, out), "side: 2"));
    CU_ASSERT(refused(up_encode(s, &negative, 1, UP_SIDE_INPUT, out), "input: -1 parts"));
    CU_ASSERT(refused(up_encode(s, &none, 1, UP_SIDE_INPUT, out), "input: 1 parts and no list"));
    const up_part endless = {.kind = UP_PART_IDS, .data = ids, .size = SIZE_MAX};
    CU_ASSERT(refused(up_encode(s, &(up_input){&endless, 1, 0}, 1, UP_SIDE_INPUT, out), "has room for"));
    CU_ASSERT(refused(up_compare(NULL, NULL, &input, &input, 1, out), "session: is NULL"));
    CU_ASSERT(refused(up_compare(s, NULL, NULL, &input, 1, out), "input: is NULL"));
    CU_ASSERT(refused(up_compare(s, NULL, &input, NULL, 1, out), "candidates: is NULL"));
    CU_ASSERT(refused(up_compare(s, NULL, &input, &input, -1, out), "candidates: -1 of them"));
    CU_ASSERT(refused(up_compare(s, NULL, &input, &input, 1, NULL), "probabilities: is NULL"));
    CU_ASSERT(refused(up_compare(s, NULL, &negative, &input, 1, out), "input: -1 parts"));
    CU_ASSERT(refused(up_classify(s, &input, NULL, 1, out), "texts: is NULL"));
    CU_ASSERT(refused(up_classify(s, &input, labels, 2, out), "texts: number 1 is NULL"));
    CU_ASSERT(refused(up_classify(s, &input, labels, -1, out), "candidates: -1 of them"));
    CU_ASSERT(refused(up_classify(NULL, &input, labels, 1, out), "session: is NULL"));
    CU_ASSERT(refused(up_candidates_create(s, &input, 1, NULL), "candidates: is NULL"));
    CU_ASSERT(refused(up_candidates_create_features(s, NULL, 1, &c), "features: is NULL"));
    CU_ASSERT_PTR_NULL(c);
    UP_ASSERT_OK(up_candidates_create(s, &input, 1, &c));
    CU_ASSERT(refused(up_candidates_compare(NULL, NULL, &input, 1, out), "candidates: is NULL"));
    CU_ASSERT(refused(up_candidates_compare(c, NULL, NULL, 1, out), "inputs: is NULL"));
    CU_ASSERT(refused(up_candidates_compare(c, NULL, &input, -2, out), "inputs: -2 of them"));
    UP_ASSERT_OK(up_candidates_compare(c, NULL, NULL, 0, NULL));
    CU_ASSERT(refused(up_candidates_use_head(NULL, 1), "candidates: is NULL"));
    up_candidates_free(c);
    CU_ASSERT(refused(up_caption_input(NULL, &input, NULL, &caption), "session: is NULL"));
    CU_ASSERT(refused(up_caption_input(s, NULL, NULL, &caption), "input: is NULL"));
    CU_ASSERT(refused(up_caption_input(s, &input, NULL, NULL), "caption: is NULL"));
    CU_ASSERT(refused(up_caption_input(s, &negative, NULL, &caption), "input: -1 parts"));
    CU_ASSERT(refused(up_session_words(s, ids, -1, &set), "vocabulary: -1 words"));
    CU_ASSERT(refused(up_session_words(s, ids, 1, NULL), "words: is NULL"));
    CU_ASSERT(refused(up_session_words(NULL, ids, 1, &set), "session: is NULL"));
    CU_ASSERT_PTR_NULL(up_session_model(NULL));
    CU_ASSERT_PTR_NULL(up_session_tokenizer(NULL));
    CU_ASSERT_EQUAL(up_session_width(NULL), 0);
    CU_ASSERT_EQUAL(up_candidates_count(NULL), 0);
    up_caption_free(NULL);
    up_candidates_free(NULL);
    UP_ASSERT_OK(up_encode(s, &input, 1, UP_SIDE_INPUT, out)); /* the session goes on */
    up_session_close(s);
}

const up_test up_tests[] = {{"encode_is_the_batch", test_encode_is_the_batch},
                            {"many_inputs", test_many_inputs},
                            {"text_and_picture_files", test_text_and_picture_files},
                            {"wrong_inputs", test_wrong_inputs},
                            {"compare_is_the_formula", test_compare_is_the_formula},
                            {"default_tasks", test_default_tasks},
                            {"cached_is_uncached", test_cached_is_uncached},
                            {"several_at_once", test_several_at_once},
                            {"one_of_several_is_wrong", test_one_of_several_is_wrong},
                            {"greedy_is_beam_one", test_greedy_is_beam_one},
                            {"wide_beam_is_exhaustive", test_wide_beam_is_exhaustive},
                            {"minimum_and_penalty", test_minimum_and_penalty},
                            {"extensions_are_the_best", test_extensions_are_the_best},
                            {"caption_limits", test_caption_limits},
                            {"words_are_kept", test_words_are_kept},
                            {"kept_words_are_checked", test_kept_words_are_checked},
                            {"words_that_are_not_kept", test_words_that_are_not_kept},
                            {"candidates", test_candidates},
                            {"candidates_of_features", test_candidates_of_features},
                            {"candidates_with_head", test_candidates_with_head},
                            {"overlay_session", test_overlay_session},
                            {"several_tuned_tasks", test_several_tuned_tasks},
                            {"mapped_weights", test_mapped_weights},
                            {"memory_for_weights", test_memory_for_weights},
                            {"precision", test_precision},
                            {"null_and_negative", test_null_and_negative},
                            {"load_errors", test_load_errors},
                            {NULL, NULL}};
