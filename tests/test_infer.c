/* test_infer.c - sessions: inputs to features against batches built by hand, the comparison formula, and
 * captions: cached keys and values against the definition, beam search against greedy and exhaustive search
 * written apart. */
#include "files/file.h"
#include "infer/session.h"
#include "tests/support.h"
#include "uniperceiver/random.h"

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
    int prompts, prompt_sides, layer_scale, output_head;
} variant;
static const variant variants[] = {
    {"tiny", 0, 2, 0, 0}, {"tiny", 3, 2, 1, 0}, {"tiny", 0, 1, 0, 1}, {"released-base", 2, 1, 1, 1}};
enum { VARIANTS = sizeof variants / sizeof variants[0] };

static up_session *open_variant(const variant *v, const char *backend_name) {
    up_config c;
    up_backend *backend;
    up_model *model;
    up_session *session;
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
    UP_ASSERT_OK(up_backend_create("ref", 1, &backend));
    UP_ASSERT_OK(up_model_create(backend, &c, up_test_seed(), &model));
    const up_params *p = up_model_params(model);
    up_rng rng = up_rng_make(up_test_seed(), 1, 2, 3);
    for (int i = 0; i < p->count; i++) {
        if (p->list[i].group == UP_GROUP_TEMPERATURE || i == p->token) continue;
        size_t n = (size_t)(p->list[i].rows * p->list[i].cols);
        float *values = malloc(n * sizeof *values);
        UP_ASSERT_OK(backend->ops->download(backend, values, up_model_weight(model, i)));
        for (size_t k = 0; k < n; k++) values[k] += (float)(0.2 * up_rng_normal(&rng));
        UP_ASSERT_OK(backend->ops->upload(backend, up_model_weight(model, i), values));
        free(values);
    }
    UP_ASSERT_OK(up_model_write(model, model_path));
    up_model_destroy(model);
    up_backend_free(backend);
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
            up_run *run;
            UP_ASSERT_OK(up_batch_begin(&b, c));
            UP_ASSERT_OK(up_batch_open(&b, (up_side)side, !slot));
            UP_ASSERT_OK(up_batch_text(&b, ids, 3, 0, NULL));
            UP_ASSERT_OK(up_batch_image(&b, c, patches, 4));
            UP_ASSERT_OK(up_batch_text(&b, more, 2, 3, NULL)); /* positions go on */
            UP_ASSERT_OK(up_batch_video(&b, c, patches, 2, 4, 0));
            if (slot) UP_ASSERT_OK(up_batch_text(&b, (int32_t[]){-1}, 1, 0, (uint8_t[]){1}));
            UP_ASSERT_OK(up_batch_close(&b));
            UP_ASSERT_OK(up_run_create(up_session_model(s), 0, &run));
            UP_ASSERT_OK(up_run_forward(run, &b, NULL));
            UP_ASSERT_OK(up_run_features(run, want));
            UP_ASSERT_OK(up_encode(s, &(up_input){parts, 4, slot}, 1, (up_side)side, got));
            CU_ASSERT(!memcmp(got, want, sizeof want));
            up_run_free(run);
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
        const variant v = {cases[i].preset, 0, 1, 0, 0};
        up_session *s = open_variant(&v, "ref");
        const up_config *c = up_model_config(s->model);
        const up_part part = {.kind = cases[i].kind, .frames = cases[i].frames};
        double scale;
        for (int t = 0; t < c->tasks; t++) {
            float log_scale = (float)log(2.0 + t);
            up_view view = up_model_weight(s->model, up_model_params(s->model)->temperature[t]);
            UP_ASSERT_OK(s->backend->ops->upload(s->backend, view, &log_scale));
        }
        UP_ASSERT_OK(up_input_scale(s, NULL, &(up_input){&part, 1, cases[i].slot}, &scale));
        CU_ASSERT(fabs(scale - 2.0 - up_config_task(c, cases[i].task)) < 1e-4);
        float beyond = 50; /* clamped */
        up_view view = up_model_weight(s->model, up_model_params(s->model)->temperature[0]);
        UP_ASSERT_OK(s->backend->ops->upload(s->backend, view, &beyond));
        UP_ASSERT_OK(up_input_scale(s, c->task_names[0], &(up_input){&part, 1, 0}, &scale));
        CU_ASSERT_EQUAL(scale, UP_MAX_LOGIT_SCALE);
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

/* log P of each vocabulary entry behind a picture and `count` words, from batches built here. */
static void next_word(up_session *s, const float *pixels, const int32_t *words, int count,
                      double log_p[WORDS]) {
    const up_config *c = up_model_config(s->model);
    up_batch b = {0};
    up_run *run;
    int32_t said[STEPS + 1] = {0};
    float patches[PIXELS], features[STEPS + 1 + WORDS][16];
    double sum = 0;
    for (int i = 0; i < count; i++) said[i] = words[i];
    UP_ASSERT_OK(up_image_patches(pixels, 16, 16, 8, patches));
    UP_ASSERT_OK(up_batch_begin(&b, c));
    UP_ASSERT_OK(up_batch_open(&b, UP_SIDE_INPUT, 0));
    UP_ASSERT_OK(up_batch_image(&b, c, patches, 4));
    UP_ASSERT_OK(up_batch_words_and_slots(&b, said, count + 1));
    UP_ASSERT_OK(up_batch_close(&b));
    for (int v = 0; v < WORDS; v++) {
        UP_ASSERT_OK(up_batch_open(&b, UP_SIDE_TARGET, 1));
        UP_ASSERT_OK(up_batch_text(&b, (int32_t[]){vocabulary[v], UP_TOKEN_END}, 2, 0, NULL));
        UP_ASSERT_OK(up_batch_close(&b));
    }
    UP_ASSERT_OK(up_run_create(s->model, 0, &run));
    UP_ASSERT_OK(up_run_forward(run, &b, NULL));
    UP_ASSERT_OK(up_run_features(run, features[0]));
    for (int v = 0; v < WORDS; v++) {
        log_p[v] = 0;
        for (int k = 0; k < 16; k++)
            log_p[v] += (double)features[count][k] * (double)features[count + 1 + v][k] / 0.07;
        sum += exp(log_p[v]);
    }
    for (int v = 0; v < WORDS; v++) log_p[v] -= log(sum);
    up_run_free(run);
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
    o.task = "no_task";
    CU_ASSERT_EQUAL(up_caption_input(s, &(up_input){&eleven, 1, 0}, &o, &c), UP_ERR_ARGUMENT);
    UP_ASSERT_OK(
        up_model_set_targets(s->model, vocabulary, WORDS)); /* the model's own set, and no parts at all */
    UP_ASSERT_OK(up_caption_input(s, &(up_input){NULL, 0, 0}, NULL, &c));
    CU_ASSERT_EQUAL(s->vocabulary_count, WORDS);
    up_caption_free(&c);
    up_session_close(s);
}

static void test_load_errors(void) {
    up_session *s;
    CU_ASSERT_EQUAL(up_model_load("no/such/model", NULL, &s), UP_ERR_IO);
    CU_ASSERT_PTR_NULL(s);
    CU_ASSERT_EQUAL(up_model_load("x", &(up_load_options){.backend = "tpu"}, &s), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_model_load("x", &(up_load_options){.backend = "cuda"}, &s), UP_ERR_UNSUPPORTED);
    up_session_close(NULL);
    CU_ASSERT(strlen(up_version()) >= 5);
}

const up_test up_tests[] = {{"encode_is_the_batch", test_encode_is_the_batch},
                            {"many_inputs", test_many_inputs},
                            {"text_and_picture_files", test_text_and_picture_files},
                            {"wrong_inputs", test_wrong_inputs},
                            {"compare_is_the_formula", test_compare_is_the_formula},
                            {"default_tasks", test_default_tasks},
                            {"cached_is_uncached", test_cached_is_uncached},
                            {"greedy_is_beam_one", test_greedy_is_beam_one},
                            {"wide_beam_is_exhaustive", test_wide_beam_is_exhaustive},
                            {"caption_limits", test_caption_limits},
                            {"load_errors", test_load_errors},
                            {NULL, NULL}};
