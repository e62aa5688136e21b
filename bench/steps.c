/* steps.c - the table of measured steps, and those that are one batch: stage, encode and, where something
 * learns, compare, back, AdamW. What the batch is compared with is random and costs nothing to encode. */
#include "bench/steps_own.h"

#include <math.h>
#include <stdlib.h>

/* ---- a model and what learns of it ---- */

void up_step_open(up_step *s, const up_step_options *o, int learns, unsigned groups, int prompts) {
    up_adamw adamw = {.beta1 = 0.9, .beta2 = 0.98, .eps = 1e-8, .decay = 0.05, .max_norm = 5};
    *s = (up_step){.o = o};
    up_isa_force(o->isa);
    UP_BENCH_OK(up_config_preset(o->preset, &s->config));
    s->config.prompts = prompts;
    UP_BENCH_OK(up_backend_create(o->backend, o->threads, &s->backend));
    UP_BENCH_OK(up_model_create(s->backend, &s->config, 1, &s->model));
    if (learns) {
        int64_t counts[UP_GROUP_COUNT];
        UP_BENCH_OK(up_gradients_create(s->model, groups, &s->gradients));
        UP_BENCH_OK(up_optimizer_create(s->gradients, &adamw, &s->optimizer));
        UP_BENCH_OK(
            up_criterion_create(s->model, s->gradients, up_optimizer_scale(s->optimizer), &s->criterion));
        s->report.learns = (double)up_optimizer_count(s->optimizer, counts);
    }
    up_encoder_options keep = {.dtype = o->dtype, .gradients = s->gradients};
    UP_BENCH_OK(up_encoder_create(s->model, &keep, &s->encoder));
    UP_BENCH_OK(up_features_create(s->model, learns, &s->x));
    UP_BENCH_OK(up_features_create(s->model, learns, &s->y));
}

void up_step_close(up_step *s) {
    up_batch_free(&s->batch);
    up_features_free(&s->x);
    up_features_free(&s->y);
    up_criterion_free(s->criterion);
    up_encoder_free(s->encoder);
    up_optimizer_free(s->optimizer);
    up_gradients_free(s->gradients);
    up_model_destroy(s->model);
    up_backend_free(s->backend);
    free(s->labels);
}

/* ---- batches ---- */

uint8_t *up_step_pixels(const up_step *s, uint64_t seed) {
    size_t bytes = 3 * (size_t)s->config.image_size * (size_t)s->config.image_size;
    uint8_t *pixels = up_bench_room(bytes, 1);
    up_rng rng = up_rng_make(1, seed, 3, 4);
    for (size_t k = 0; k < bytes; k++) pixels[k] = (uint8_t)up_rng_u32(&rng);
    return pixels;
}

static void put_picture(up_step *s, uint64_t seed) {
    uint8_t *pixels = up_step_pixels(s, seed);
    UP_BENCH_OK(up_batch_image(&s->batch, pixels, up_config_cells(&s->config)));
    free(pixels);
}

static void put_pictures(up_step *s) {
    UP_BENCH_OK(up_batch_begin(&s->batch, &s->config));
    for (int i = 0; i < s->o->pictures; i++) {
        UP_BENCH_OK(up_batch_open(&s->batch, UP_SIDE_INPUT, 1));
        put_picture(s, (uint64_t)i);
        UP_BENCH_OK(up_batch_close(&s->batch));
    }
}

void up_step_lengths(int count, int *lengths) {
    const double variance = log(1 + 8.0 * 8.0 / (15.0 * 15.0));
    up_rng rng = up_rng_make(2, 0, 0, 0);
    for (int i = 0; i < count; i++) {
        double length = exp(log(15) - variance / 2 + sqrt(variance) * up_rng_normal(&rng));
        lengths[i] = (int)fmin(fmax(round(length), 3), 77);
    }
}

/* Words that a text may hold. */
static void draw_words(const up_step *s, uint64_t seed, int count, int32_t *ids) {
    up_rng rng = up_rng_make(3, seed, 0, 0);
    for (int i = 0; i < count; i++) ids[i] = (int32_t)up_rng_below(&rng, (uint32_t)s->config.vocabulary - 1);
}

/* Sequences of natural lengths, laid end to end: texts that are read out at their <SPE>, or pictures with a
 * caption whose every word is predicted at a slot of its own. */
static void put_captions(up_step *s, int with_picture) {
    int count = with_picture ? s->o->pictures : s->o->texts;
    int *lengths = up_bench_room((size_t)count, sizeof *lengths);
    up_step_lengths(count, lengths);
    UP_BENCH_OK(up_batch_begin(&s->batch, &s->config));
    for (int i = 0; i < count; i++) {
        int32_t ids[77];
        int length = lengths[i] < s->config.text_positions ? lengths[i] : s->config.text_positions;
        draw_words(s, (uint64_t)i, length, ids);
        UP_BENCH_OK(up_batch_open(&s->batch, UP_SIDE_INPUT, !with_picture));
        if (with_picture) {
            put_picture(s, (uint64_t)i);
            UP_BENCH_OK(up_batch_words_and_slots(&s->batch, ids, length));
        } else
            UP_BENCH_OK(up_batch_text(&s->batch, ids, length, 0, NULL));
        UP_BENCH_OK(up_batch_close(&s->batch));
    }
    free(lengths);
}

/* One random target for each row that is read out. */
static void put_targets(up_step *s) {
    up_rng rng = up_rng_make(5, 6, 7, 8);
    UP_BENCH_OK(up_features_resize(&s->y, s->batch.readouts));
    int64_t count = s->y.rows * s->y.width;
    float *values = up_bench_room((size_t)count, sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = (float)up_rng_normal(&rng);
    UP_BENCH_OK(s->backend->ops->upload(s->backend, s->y.raw, values));
    UP_BENCH_OK(up_features_normalize(&s->y));
    free(values);
    s->labels = up_bench_room((size_t)s->batch.readouts, sizeof *s->labels);
    for (int i = 0; i < s->batch.readouts; i++) s->labels[i] = i;
    s->loss = (up_loss){.labels = s->labels, .weight = 1};
}

/* ---- a turn ---- */

static void run_batch(void *state) {
    up_step *s = state;
    UP_BENCH_OK(up_encoder_stage(s->encoder, &s->batch, NULL));
    UP_BENCH_OK(up_features_resize(&s->x, s->batch.readouts));
    UP_BENCH_OK(up_encoder_forward(s->encoder, s->x.raw));
    UP_BENCH_OK(up_features_normalize(&s->x));
    if (s->gradients) {
        s->y.has_dunit = 0; /* nobody is behind the targets */
        UP_BENCH_OK(up_criterion_compare(s->criterion, &s->x, &s->y, &s->loss));
        UP_BENCH_OK(up_features_back(&s->x));
        UP_BENCH_OK(up_encoder_backward(s->encoder, s->x.draw, up_optimizer_bucket_done, s->optimizer));
        UP_BENCH_OK(up_optimizer_step(s->optimizer, 1e-4));
    }
    UP_BENCH_OK(s->backend->ops->sync(s->backend));
}

static void report_batch(void *state, up_report *report) {
    up_step *s = state;
    up_arithmetic a = up_arithmetic_needed(s->model, &s->batch, s->gradients);
    *report = s->report;
    report->samples = s->batch.sequences;
    report->tokens = s->batch.tokens;
    report->needed = report->executed = a.forward + a.backward;
    report->activations_mib = (double)up_encoder_bytes(s->encoder) / (1 << 20);
}

static void close_batch(void *state) {
    up_step_close(state);
    free(state);
}

static up_step *open_batch(const void *options, int learns, unsigned groups, int prompts) {
    up_step *s = up_bench_room(1, sizeof *s);
    up_step_open(s, options, learns, groups, prompts);
    return s;
}

static void *open_encode(const void *options) {
    up_step *s = open_batch(options, UP_STEP_ENCODES, 0, 0);
    put_pictures(s);
    return s;
}

static void *open_train(const void *options) {
    up_step *s = open_batch(options, UP_STEP_LEARNS, 0, 0);
    put_pictures(s);
    put_targets(s);
    return s;
}

static void *open_texts(const void *options) {
    up_step *s = open_batch(options, UP_STEP_LEARNS, 0, 0);
    put_captions(s, 0);
    put_targets(s);
    return s;
}

static void *open_captions(const void *options) {
    up_step *s = open_batch(options, UP_STEP_LEARNS, 0, 0);
    put_captions(s, 1);
    put_targets(s);
    return s;
}

/* The groups of the paper's Table 9, ten prompts a layer and side. */
static void *open_tune(const void *options) {
    const unsigned groups = 1u << UP_GROUP_SPE | 1u << UP_GROUP_NORM | 1u << UP_GROUP_PROMPT;
    up_step *s = open_batch(options, UP_STEP_LEARNS, groups, 10);
    put_pictures(s);
    put_targets(s);
    return s;
}

static const up_measure encode = {open_encode, NULL, run_batch, report_batch, close_batch};
static const up_measure train = {open_train, NULL, run_batch, report_batch, close_batch};
static const up_measure texts = {open_texts, NULL, run_batch, report_batch, close_batch};
static const up_measure captions = {open_captions, NULL, run_batch, report_batch, close_batch};
static const up_measure tune = {open_tune, NULL, run_batch, report_batch, close_batch};

const up_step_case up_step_cases[] = {
    {"encode", "pictures", "features of pictures", &encode},
    {"train", "pictures", "training step on pictures, AdamW", &train},
    {"texts", "texts", "training step on texts of natural lengths, AdamW", &texts},
    {"captions", "captions", "training step on pictures with captions, each word at its slot, AdamW",
     &captions},
    {"tune", "pictures", "prompt tuning on pictures, AdamW", &tune},
    {"vocabulary", "entries", "masked words against the vocabulary in chunks, AdamW", &up_measure_vocabulary},
    {"beam", "captions", "caption of a picture, beam 5, 20 words, cached keys", &up_measure_beam},
    {"beam_whole", "captions", "the same, the whole sequence encoded at each word", &up_measure_beam_whole},
    {0}};
