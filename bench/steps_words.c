/* steps_words.c - language modelling against the vocabulary: 512 masked words of texts, every entry a target,
 * encoded in chunks forth and once more on the way back (include/uniperceiver/target_set.h). */
#include "bench/steps_own.h"

#include <stdlib.h>

enum { TEXTS = 32, WORDS = 32, READ = 16 };

typedef struct vocabulary {
    up_step step;
    up_encoder *scout;
    up_target_set *set;
    up_set_encoders how;
} vocabulary;

/* Texts of which every second word is masked and read out. */
static void put_texts(up_step *s) {
    uint8_t read[WORDS] = {0};
    int32_t ids[WORDS];
    up_rng rng = up_rng_make(1, 1, 1, 1);
    for (int i = 0; i < READ; i++) read[2 * i] = 1;
    UP_BENCH_OK(up_batch_begin(&s->batch, &s->config));
    for (int t = 0; t < TEXTS; t++) {
        for (int i = 0; i < WORDS; i++) ids[i] = read[i] ? UP_ID_SPE : (int32_t)up_rng_below(&rng, 49000);
        UP_BENCH_OK(up_batch_open(&s->batch, UP_SIDE_INPUT, 0));
        UP_BENCH_OK(up_batch_text(&s->batch, ids, WORDS, 0, read));
        UP_BENCH_OK(up_batch_close(&s->batch));
    }
}

static void fill_set(vocabulary *v, int count) {
    int most = v->step.config.vocabulary - 1;
    if (count == 0 || count > most) count = most;
    int32_t *ids = up_bench_room((size_t)count, sizeof *ids);
    for (int i = 0; i < count; i++) ids[i] = (int32_t)((int64_t)i * most / count);
    UP_BENCH_OK(up_target_set_fill_words(v->set, ids, count, UP_TOKEN_END));
    free(ids);
}

static void *open_vocabulary(const void *options) {
    vocabulary *v = up_bench_room(1, sizeof *v);
    up_step *s = &v->step;
    up_step_open(s, options, UP_STEP_LEARNS, 0, 0);
    UP_BENCH_OK(up_encoder_create(s->model, &(up_encoder_options){.dtype = s->o->dtype}, &v->scout));
    UP_BENCH_OK(up_target_set_create(s->model, 1, 1, &v->set));
    put_texts(s);
    fill_set(v, s->o->entries);
    s->labels = up_bench_room((size_t)s->batch.readouts, sizeof *s->labels);
    for (int i = 0; i < s->batch.readouts; i++)
        s->labels[i] = (int32_t)(i * 37 % up_target_set_count(v->set));
    s->loss = (up_loss){.task = 2, .labels = s->labels, .weight = 1};
    /* the inputs' gradients go back first, so that chunks can use their encoder */
    v->how = (up_set_encoders){.chunk = s->encoder, .scout = v->scout, .tokens = s->o->tokens};
    return v;
}

static void run_vocabulary(void *state) {
    vocabulary *v = state;
    up_step *s = &v->step;
    UP_BENCH_OK(up_encoder_stage(s->encoder, &s->batch, NULL));
    UP_BENCH_OK(up_features_resize(&s->x, s->batch.readouts));
    UP_BENCH_OK(up_encoder_forward(s->encoder, s->x.raw));
    UP_BENCH_OK(up_features_normalize(&s->x));
    UP_BENCH_OK(up_target_set_encode(v->set, &v->how));
    UP_BENCH_OK(up_criterion_compare(s->criterion, &s->x, up_target_set_features(v->set), &s->loss));
    UP_BENCH_OK(up_features_back(&s->x));
    UP_BENCH_OK(up_encoder_backward(s->encoder, s->x.draw, NULL, NULL));
    UP_BENCH_OK(up_target_set_backward(v->set, &v->how, up_optimizer_bucket_done, s->optimizer));
    UP_BENCH_OK(up_optimizer_step(s->optimizer, 1e-4));
    UP_BENCH_OK(s->backend->ops->sync(s->backend));
}

/* All entries are alike: one is counted. */
static up_arithmetic of_entries(const up_step *s, double count) {
    up_batch one = {0};
    UP_BENCH_OK(up_batch_begin(&one, &s->config));
    UP_BENCH_OK(up_batch_open(&one, UP_SIDE_TARGET, 1));
    UP_BENCH_OK(up_batch_text(&one, (int32_t[]){0, UP_TOKEN_END}, 2, 0, NULL));
    UP_BENCH_OK(up_batch_close(&one));
    up_arithmetic a = up_arithmetic_needed(s->model, &one, s->gradients);
    up_batch_free(&one);
    return (up_arithmetic){count * a.forward, count * a.backward};
}

/* Executed: the set is encoded twice, and its cosines with the queries are, too (ref/model/loss.c). */
static void report_vocabulary(void *state, up_report *report) {
    vocabulary *v = state;
    up_step *s = &v->step;
    double count = (double)up_target_set_count(v->set);
    up_arithmetic inputs = up_arithmetic_needed(s->model, &s->batch, s->gradients);
    up_arithmetic set = of_entries(s, count);
    up_arithmetic cosines = up_arithmetic_cosines(&s->config, s->batch.readouts, count);
    *report = s->report;
    report->samples = count;
    report->tokens = (double)s->batch.tokens + (double)up_target_set_tokens(v->set);
    report->needed =
        inputs.forward + inputs.backward + set.forward + set.backward + cosines.forward + cosines.backward;
    report->executed = report->needed + set.forward + cosines.forward;
    report->activations_mib = (double)(up_encoder_bytes(s->encoder) + up_encoder_bytes(v->scout)) / (1 << 20);
}

static void close_vocabulary(void *state) {
    vocabulary *v = state;
    up_target_set_free(v->set);
    up_encoder_free(v->scout);
    up_step_close(&v->step);
    free(v);
}

const up_measure up_measure_vocabulary = {open_vocabulary, NULL, run_vocabulary, report_vocabulary,
                                          close_vocabulary};
