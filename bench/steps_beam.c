/* steps_beam.c - captions of a picture by beam search: 5 hypotheses of 20 words, with cached keys and values,
 * and by the definition, which encodes the whole sequences at each word. The end token is no candidate, so
 * that all captions have their 20 words. The vocabulary's features are made once, before the first turn. */
#include "bench/steps_own.h"

#include <stdlib.h>
#include <unistd.h>

enum { BEAM = 5, WORDS = 20 };

typedef struct beam {
    up_session *session;
    up_caption_options options;
    int32_t *vocabulary;
    float *pixels; /* [3, S, S] */
    up_part part;
    int tokens;
} beam;

/* A session is opened from a file: a fresh model's, which is gone when it is open. */
static void open_session(beam *b, const up_step_options *o, up_config *config) {
    char path[] = "/tmp/up-bench-XXXXXX";
    up_backend *backend = NULL;
    up_model *model = NULL;
    up_isa_force(o->isa);
    int file = mkstemp(path);
    if (file < 0) up_bench_die("/tmp: no file could be made");
    close(file);
    UP_BENCH_OK(up_config_preset(o->preset, config));
    UP_BENCH_OK(up_backend_create(o->backend, o->threads, &backend));
    UP_BENCH_OK(up_model_create(backend, config, 1, &model));
    up_status written = up_model_write(model, path);
    up_model_destroy(model);
    up_backend_free(backend);
    up_load_options load = {.backend = o->backend, .threads = o->threads, .precision = o->dtype};
    up_status loaded = written == UP_OK ? up_model_load(path, &load, &b->session) : written;
    unlink(path);
    UP_BENCH_OK(loaded);
}

static void *open_beam(const void *options) {
    const up_step_options *o = options;
    beam *b = up_bench_room(1, sizeof *b);
    up_config config;
    open_session(b, o, &config);
    size_t count = 3 * (size_t)config.image_size * (size_t)config.image_size;
    up_rng rng = up_rng_make(9, 9, 9, 9);
    b->pixels = up_bench_room(count, sizeof *b->pixels);
    for (size_t i = 0; i < count; i++) b->pixels[i] = (float)up_rng_normal(&rng);
    b->part = (up_part){.kind = UP_PART_PIXELS, .data = b->pixels, .size = count, .name = "noise"};
    int entries = o->entries && o->entries < UP_TOKEN_START ? o->entries : UP_TOKEN_START;
    b->vocabulary = up_bench_room((size_t)entries, sizeof *b->vocabulary);
    for (int i = 0; i < entries; i++) b->vocabulary[i] = i;
    b->options = (up_caption_options){
        .beam = BEAM, .max_words = WORDS, .vocabulary = b->vocabulary, .vocabulary_count = entries};
    b->tokens = 1 + up_config_cells(&config);
    return b;
}

static void *open_beam_whole(const void *options) {
    beam *b = open_beam(options);
    b->options.uncached = 1;
    return b;
}

static void run_beam(void *state) {
    beam *b = state;
    up_caption caption;
    UP_BENCH_OK(
        up_caption_input(b->session, &(up_input){.parts = &b->part, .count = 1}, &b->options, &caption));
    int words = caption.words;
    up_caption_free(&caption);
    if (words != WORDS) up_bench_die("a caption has not its 20 words");
}

/* Tokens: prefix and words of a caption. Its arithmetic is not counted: of the few rows of a step the weights
 * are the cost, which are read from memory. */
static void report_beam(void *state, up_report *report) {
    const beam *b = state;
    report->samples = 1;
    report->tokens = b->tokens + WORDS;
}

static void close_beam(void *state) {
    beam *b = state;
    up_session_close(b->session);
    free(b->vocabulary);
    free(b->pixels);
    free(b);
}

const up_measure up_measure_beam = {open_beam, NULL, run_beam, report_beam, close_beam};
const up_measure up_measure_beam_whole = {open_beam_whole, NULL, run_beam, report_beam, close_beam};
