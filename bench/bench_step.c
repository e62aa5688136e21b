/* bench_step.c - whole steps of a model: encoding and training on pictures, tuning the groups of the paper's
 * Table 9, and language modelling against the whole vocabulary in chunks. Prints time, tokens and peak
 * memory; run by hand.
 *
 *     bench_step [WHAT ...] [--preset P] [--backend B] [--threads N] [--dtype f32|bf16|f16] [--batch N]
 * [--repeat N]
 *                [--tokens N] [--entries N]
 *
 * WHAT: encode, train, tune (pictures, `batch` of them), vocabulary (`entries` of it, 512 queries); all by
 * default. */
#include "uniperceiver/random.h"
#include "uniperceiver/uniperceiver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define OK(call)                                                                                             \
    do {                                                                                                     \
        if ((call) != UP_OK) {                                                                               \
            fprintf(stderr, "bench_step: %s\n", up_last_error());                                            \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

enum { QUERIES = 512, MOST_REPEATS = 200 };

typedef struct options {
    const char *preset, *backend;
    up_dtype dtype;
    int threads, batch, repeat, tokens, entries;
} options;

static const char *const dtype_names[] = {[UP_F32] = "f32", [UP_F16] = "f16", [UP_BF16] = "bf16"};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Of all threads: on a shared machine it varies less than the time that passes. */
static double processor(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double peak_mib(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *times, int count) {
    qsort(times, (size_t)count, sizeof *times, ascending);
    return times[count / 2];
}

/* ---- a model and what learns of it ---- */

typedef struct bench {
    const options *o;
    up_backend *backend;
    up_model *model;
    up_gradients *gradients;
    up_optimizer *optimizer;
    up_encoder *encoder;
    up_criterion *criterion;
    up_features features;
} bench;

static bench open_bench(const options *o, const char *what, unsigned groups, int prompts) {
    bench b = {.o = o};
    up_config config;
    up_adamw adamw = {.beta1 = 0.9, .beta2 = 0.98, .eps = 1e-8, .decay = 0.05, .max_norm = 5};
    OK(up_config_preset(o->preset, &config));
    config.prompts = prompts;
    OK(up_backend_create(o->backend, o->threads, &b.backend));
    OK(up_model_create(b.backend, &config, 1, &b.model));
    if (groups || strcmp(what, "encode")) {
        OK(up_gradients_create(b.model, groups, &b.gradients));
        OK(up_optimizer_create(b.gradients, &adamw, &b.optimizer));
        OK(up_criterion_create(b.model, b.gradients, up_optimizer_scale(b.optimizer), &b.criterion));
    }
    up_encoder_options keep = {.dtype = o->dtype, .gradients = b.gradients};
    OK(up_encoder_create(b.model, &keep, &b.encoder));
    OK(up_features_create(b.model, b.gradients != NULL, &b.features));
    return b;
}

static void close_bench(bench *b) {
    up_features_free(&b->features);
    up_criterion_free(b->criterion);
    up_encoder_free(b->encoder);
    up_optimizer_free(b->optimizer);
    up_gradients_free(b->gradients);
    up_model_destroy(b->model);
    up_backend_free(b->backend);
}

/* What all lines begin with, and what a run used in the end. */
static void tell(const bench *b, const char *what, double seconds, double busy, int64_t tokens) {
    printf("%-11s %-6s %-4s %-4s %9.3f s (processor %9.3f s) %10.1f tokens/s", what, b->o->preset,
           b->o->backend, dtype_names[b->o->dtype], seconds, busy, (double)tokens / seconds);
    printf("  activations %7.1f MiB  peak %7.1f MiB", (double)up_encoder_bytes(b->encoder) / 1048576,
           peak_mib());
}

/* ---- pictures ---- */

static void put_pictures(const bench *b, up_batch *batch) {
    const up_config *c = up_model_config(b->model);
    size_t bytes = 3 * (size_t)c->image_size * (size_t)c->image_size;
    uint8_t *pixels = malloc(bytes);
    up_rng rng = up_rng_make(1, 2, 3, 4);
    OK(up_batch_begin(batch, c));
    for (int i = 0; i < b->o->batch; i++) {
        for (size_t k = 0; k < bytes; k++) pixels[k] = (uint8_t)up_rng_u32(&rng);
        OK(up_batch_open(batch, UP_SIDE_INPUT, 1));
        OK(up_batch_image(batch, pixels, up_config_cells(c)));
        OK(up_batch_close(batch));
    }
    free(pixels);
}

/* Random unit targets: what pictures are compared with here costs nothing to encode. */
static void put_targets(const bench *b, up_features *y) {
    up_rng rng = up_rng_make(5, 6, 7, 8);
    OK(up_features_create(b->model, 1, y));
    OK(up_features_resize(y, b->o->batch));
    float *values = malloc((size_t)(y->rows * y->width) * sizeof *values);
    for (int64_t i = 0; i < y->rows * y->width; i++) values[i] = (float)up_rng_normal(&rng);
    OK(b->backend->ops->upload(b->backend, y->raw, values));
    OK(up_features_normalize(y));
    free(values);
}

static void picture_step(bench *b, const up_batch *batch, up_features *y, const up_loss *loss) {
    up_features *x = &b->features;
    OK(up_encoder_stage(b->encoder, batch, NULL));
    OK(up_features_resize(x, batch->readouts));
    OK(up_encoder_forward(b->encoder, x->raw));
    OK(up_features_normalize(x));
    if (!b->gradients) return;
    y->has_dunit = 0;
    OK(up_criterion_compare(b->criterion, x, y, loss));
    OK(up_features_back(x));
    OK(up_encoder_backward(b->encoder, x->draw, up_optimizer_bucket_done, b->optimizer));
    OK(up_optimizer_step(b->optimizer, 1e-4));
}

static void pictures(const options *o, const char *what, unsigned groups, int prompts) {
    bench b = open_bench(o, what, groups, prompts);
    up_batch batch = {0};
    up_features y;
    double times[MOST_REPEATS], busy[MOST_REPEATS];
    int32_t *labels = malloc((size_t)o->batch * sizeof *labels);
    for (int i = 0; i < o->batch; i++) labels[i] = i;
    up_loss loss = {.labels = labels, .weight = 1};
    put_pictures(&b, &batch);
    put_targets(&b, &y);
    for (int i = -1; i < o->repeat; i++) {
        double start = now(), work = processor();
        picture_step(&b, &batch, &y, &loss);
        OK(b.backend->ops->sync(b.backend));
        if (i < 0) continue; /* the first one takes memory */
        times[i] = now() - start;
        busy[i] = processor() - work;
    }
    tell(&b, what, median(times, o->repeat), median(busy, o->repeat), batch.tokens);
    if (b.gradients) {
        int64_t counts[UP_GROUP_COUNT];
        printf("  learns %lld numbers", (long long)up_optimizer_count(b.optimizer, counts));
    }
    printf("\n");
    free(labels);
    up_features_free(&y);
    up_batch_free(&batch);
    close_bench(&b);
}

/* ---- the vocabulary ---- */

/* Texts with masked words: 512 queries in all. */
static void put_texts(const bench *b, up_batch *batch) {
    enum { TEXTS = 32, WORDS = 32 };
    uint8_t read[WORDS] = {0};
    int32_t ids[WORDS];
    up_rng rng = up_rng_make(1, 1, 1, 1);
    for (int i = 0; i < QUERIES / TEXTS; i++) read[2 * i] = 1;
    OK(up_batch_begin(batch, up_model_config(b->model)));
    for (int t = 0; t < TEXTS; t++) {
        for (int i = 0; i < WORDS; i++) ids[i] = read[i] ? UP_ID_SPE : (int32_t)up_rng_below(&rng, 49000);
        OK(up_batch_open(batch, UP_SIDE_INPUT, 0));
        OK(up_batch_text(batch, ids, WORDS, 0, read));
        OK(up_batch_close(batch));
    }
}

static void fill_words(const bench *b, up_target_set *set, int count) {
    const up_config *c = up_model_config(b->model);
    int32_t *ids = malloc((size_t)count * sizeof *ids);
    for (int i = 0; i < count; i++) ids[i] = (int32_t)((int64_t)i * (c->vocabulary - 1) / count);
    OK(up_target_set_fill_words(set, ids, count, UP_TOKEN_END));
    free(ids);
}

typedef struct timing {
    double inputs, forth, loss, back, update;
    double busy; /* processor time of the set, forth and back */
} timing;

/* One step of language modelling; the inputs' gradients go back first, so that chunks can use their encoder.
 */
static timing vocabulary_step(bench *b, const up_batch *texts, up_target_set *set,
                              const up_set_encoders *how) {
    up_features *x = &b->features;
    timing t = {0};
    int32_t labels[QUERIES];
    int64_t entries = up_target_set_count(set);
    for (int i = 0; i < QUERIES; i++) labels[i] = (int32_t)(i * 37 % entries);
    up_loss loss = {.task = 2, .labels = labels, .weight = 1};
    double start = now(), busy;
    OK(up_encoder_stage(b->encoder, texts, NULL));
    OK(up_features_resize(x, texts->readouts));
    OK(up_encoder_forward(b->encoder, x->raw));
    OK(up_features_normalize(x));
    t.inputs = now() - start;
    busy = processor();
    OK(up_target_set_encode(set, how));
    t.busy = processor() - busy;
    t.forth = now() - start - t.inputs;
    double at = now();
    OK(up_criterion_compare(b->criterion, x, up_target_set_features(set), &loss));
    t.loss = now() - at;
    at = now();
    OK(up_features_back(x));
    OK(up_encoder_backward(b->encoder, x->draw, NULL, NULL));
    t.inputs += now() - at;
    at = now();
    busy = processor();
    OK(up_target_set_backward(set, how, up_optimizer_bucket_done, b->optimizer));
    t.busy += processor() - busy;
    t.back = now() - at;
    at = now();
    OK(up_optimizer_step(b->optimizer, 1e-4));
    OK(b->backend->ops->sync(b->backend));
    t.update = now() - at;
    return t;
}

static double total(const timing *t) {
    return t->inputs + t->forth + t->loss + t->back + t->update;
}

static void tell_timing(const char *name, const timing *t) {
    printf(
        "    %-18s inputs %7.2f  set forth %7.2f  loss %6.2f  set back %7.2f  update %5.2f  in all %7.2f s\n",
        name, t->inputs, t->forth, t->loss, t->back, t->update, total(t));
}

/* The whole vocabulary in chunks against what a small set that needs none costs: its time for each entry. */
static void vocabulary(const options *o) {
    bench b = open_bench(o, "vocabulary", 0, 0);
    up_batch texts = {0};
    up_target_set *set = NULL;
    up_encoder *scout = NULL;
    up_set_encoders how = {.whole = b.encoder, .chunk = b.encoder, .tokens = o->tokens};
    OK(up_encoder_create(b.model, &(up_encoder_options){.dtype = o->dtype}, &scout));
    OK(up_target_set_create(b.model, 1, 1, &set));
    how.scout = scout;
    put_texts(&b, &texts);
    int small = o->tokens / 3, most = up_model_config(b.model)->vocabulary - 1;
    int entries = o->entries > 0 && o->entries < most ? o->entries : most;
    /* the small set, kept whole: its own encoder, since the inputs' holds theirs */
    up_encoder *whole = NULL;
    OK(up_encoder_create(b.model, &(up_encoder_options){.dtype = o->dtype, .gradients = b.gradients},
                         &whole));
    up_set_encoders at_once = how;
    at_once.whole = whole;
    double rates[3], busy_rates[3];
    timing t = {0};
    for (int i = 0; i < 3; i++) {
        fill_words(&b, set, small);
        t = vocabulary_step(&b, &texts, set, &at_once);
        rates[i] = (t.forth + t.back) / small;
        busy_rates[i] = t.busy / small;
    }
    double rate = median(rates, 3), busy_rate = median(busy_rates, 3);
    tell_timing("small set, whole", &t);
    up_encoder_free(whole);
    how.whole = NULL; /* nothing is kept from forth to back */
    fill_words(&b, set, entries);
    int64_t before = up_target_set_encoded(set);
    double work = processor();
    t = vocabulary_step(&b, &texts, set, &how);
    tell_timing("in chunks", &t);
    tell(&b, "vocabulary", total(&t), processor() - work, up_target_set_encoded(set) - before);
    printf("\n    %d entries, %d queries, chunks of %d tokens; set forth and back:\n", entries, QUERIES,
           o->tokens);
    printf("    time passed    %8.2f s, at the small set's rate %8.2f s, ratio %.3f\n", t.forth + t.back,
           rate * entries, (t.forth + t.back) / (rate * entries));
    printf("    processor time %8.2f s, at the small set's rate %8.2f s, ratio %.3f\n", t.busy,
           busy_rate * entries, t.busy / (busy_rate * entries));
    up_target_set_free(set);
    up_encoder_free(scout);
    up_batch_free(&texts);
    close_bench(&b);
}

/* ---- */

static int usage(int code) {
    fprintf(code ? stderr : stdout,
            "bench_step [encode] [train] [tune] [vocabulary] [--preset base] [--backend cpu] [--threads 0] "
            "[--dtype f32]\n"
            "           [--batch 8] [--repeat 5] [--tokens 1536] [--entries 0 = all]\n");
    return code;
}

static int read_dtype(const char *name, up_dtype *out) {
    static const up_dtype types[] = {UP_F32, UP_BF16, UP_F16};
    for (int i = 0; i < 3; i++)
        if (!strcmp(name, dtype_names[types[i]])) {
            *out = types[i];
            return 1;
        }
    return 0;
}

static int read_flag(options *o, const char *flag, const char *value) {
    const struct {
        const char *name;
        int *number;
    } numbers[] = {{"--threads", &o->threads},
                   {"--batch", &o->batch},
                   {"--repeat", &o->repeat},
                   {"--tokens", &o->tokens},
                   {"--entries", &o->entries}};
    if (!strcmp(flag, "--preset")) o->preset = value;
    if (!strcmp(flag, "--backend")) o->backend = value;
    if (!strcmp(flag, "--preset") || !strcmp(flag, "--backend")) return 1;
    if (!strcmp(flag, "--dtype")) return read_dtype(value, &o->dtype);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (!strcmp(flag, numbers[i].name)) {
            *numbers[i].number = atoi(value);
            return 1;
        }
    return 0;
}

int main(int argc, char **argv) {
    options o = {.preset = "base", .backend = "cpu", .batch = 8, .repeat = 5, .tokens = 1536};
    const char *what[4] = {"encode", "train", "tune", "vocabulary"};
    int chosen[4] = {0}, any = 0;
    for (int i = 1; i < argc; i++) {
        int k = 0;
        while (k < 4 && strcmp(argv[i], what[k])) k++;
        if (k < 4) any = chosen[k] = 1;
        if (!strcmp(argv[i], "--help")) return usage(0);
        if (k == 4 && (i + 1 >= argc || !read_flag(&o, argv[i], argv[i + 1]))) return usage(2);
        if (k == 4) i++;
    }
    if (o.batch < 1 || o.repeat < 1 || o.repeat > MOST_REPEATS || o.tokens < 3) return usage(2);
    const unsigned table9 = 1u << UP_GROUP_SPE | 1u << UP_GROUP_NORM | 1u << UP_GROUP_PROMPT;
    if (chosen[0] || !any) pictures(&o, "encode", 0, 0);
    if (chosen[1] || !any) pictures(&o, "train", 0, 0);
    if (chosen[2] || !any) pictures(&o, "tune", table9, 10);
    if (chosen[3] || !any) vocabulary(&o);
    return 0;
}
