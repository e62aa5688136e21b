/* test_run.c - the life of a run around its steps: what ends it early, what its checkpoints carry over, which
 * are kept, the average of the weights, validation and its best model, event files, what is said at the end.
 */
#include "files/events.h"
#include "files/file.h"
#include "files/safetensors.h"
#include "tests/lab.h"
#include "tests/support.h"
#include "uniperceiver/log.h"

#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const up_suite_name = "run";

static const char *config; /* of lab.c, with an evaluation */

static void write_config(void) {
    void *text;
    size_t size;
    char *whole;
    UP_ASSERT_OK(up_file_read(up_lab_config(), &text, &size));
    CU_ASSERT_FATAL(
        asprintf(&whole,
                 "%sevaluations:\n"
                 "  - {name: words, kind: text_retrieval, data: %s, target: word, text_limit: 12}\n"
                 "  - {name: kinds, kind: image_classification, data: %s, text_limit: 12}\n",
                 (char *)text, up_lab_path("texts.tsv"), up_lab_path("pictures.tsv")) > 0);
    config = up_lab_text("run.yaml", whole);
    free(whole);
    free(text);
}

enum { MOST = 8 };

/* Train in a folder under some overrides, ended by NULL. */
static up_status train(const char *run, int resume, volatile sig_atomic_t *stop, const char *const *more) {
    char folder[600];
    const char *overrides[MOST + 1] = {folder};
    size_t count = 1;
    snprintf(folder, sizeof folder, "run=%s", run);
    for (; more && *more && count <= MOST; more++) overrides[count++] = *more;
    const up_train_options options = {
        .backend = "ref", .threads = 1, .resume = resume, .quiet = 1, .stop = stop};
    return up_train(config, overrides, count, &options);
}

static const char *in(const char *run, const char *name) {
    static char paths[4][700];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", run, name);
    return path;
}

static int exists(const char *run, const char *name) {
    return !access(in(run, name), F_OK);
}

static int same_files(const char *a, const char *b) {
    void *left, *right;
    size_t m, n;
    UP_ASSERT_OK(up_file_read(a, &left, &m));
    UP_ASSERT_OK(up_file_read(b, &right, &n));
    int same = m == n && !memcmp(left, right, m);
    free(left);
    free(right);
    return same;
}

/* The lines of metrics.jsonl as an array. */
static json_t *read_lines(const char *run) {
    void *text;
    size_t size;
    json_t *lines = json_array();
    UP_ASSERT_OK(up_file_read(in(run, "metrics.jsonl"), &text, &size));
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        json_t *object = json_loadb(line, (size_t)(end - line), 0, NULL);
        CU_ASSERT_PTR_NOT_NULL_FATAL(object);
        json_array_append_new(lines, object);
    }
    free(text);
    return lines;
}

/* The same without what the clock says. */
static json_t *lines_of(const char *run) {
    static const char *const timed[] = {"seconds",           "tokens_per_second", "samples_per_second",
                                        "data_wait_seconds", "memory_mib",        "gflops"};
    json_t *lines = read_lines(run), *line;
    size_t at;
    json_array_foreach(lines, at, line) {
        for (int i = 0; i < 6; i++) json_object_del(line, timed[i]);
    }
    return lines;
}

static double number_of(const json_t *lines, size_t line, const char *key) {
    const json_t *value = json_object_get(json_array_get(lines, line), key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static void expect_same_runs(const char *a, const char *b) {
    json_t *left = lines_of(a), *right = lines_of(b);
    CU_ASSERT(json_equal(left, right));
    CU_ASSERT(same_files(in(a, "model.safetensors"), in(b, "model.safetensors")));
    json_decref(left);
    json_decref(right);
}

/* Stopped after every step, a line over five steps is as if nothing had been. */
static void test_lines_are_whole(void) {
    static const char *const more[] = {"log_every=5", NULL};
    const char *whole = up_lab_path("whole"), *run = up_lab_path("stepwise");
    volatile sig_atomic_t stop = 1;
    int stops = 0;
    UP_ASSERT_OK(train(whole, 0, NULL, more));
    while (train(run, stops > 0, &stop, more) == UP_ERR_INTERRUPTED) stops++;
    CU_ASSERT_EQUAL(stops, 11);
    expect_same_runs(whole, run);
    json_t *lines = lines_of(run);
    CU_ASSERT_EQUAL(json_array_size(lines), 3); /* 5, 10, 12 */
    json_decref(lines);
    json_t *left = read_lines(whole), *right = read_lines(run);
    for (size_t i = 0; i < 3; i++) { /* arithmetic a token, which no clock changes */
        double wanted = number_of(left, i, "gflops") / number_of(left, i, "tokens_per_second");
        double found = number_of(right, i, "gflops") / number_of(right, i, "tokens_per_second");
        CU_ASSERT(wanted > 0 && fabs(found - wanted) < 1e-9 * wanted);
    }
    json_decref(left);
    json_decref(right);
    up_lab_remove(whole);
    up_lab_remove(run);
}

static void test_any_number_of_workers(void) {
    const char *one = up_lab_path("one"), *many = up_lab_path("many");
    UP_ASSERT_OK(train(one, 0, NULL, (const char *const[]){"workers=1", NULL}));
    UP_ASSERT_OK(train(many, 0, NULL, (const char *const[]){"workers=40", NULL}));
    expect_same_runs(one, many);
    up_lab_remove(one);
    up_lab_remove(many);
}

static void test_time_limit(void) {
    static const char *const more[] = {"time_limit=1e-6", NULL};
    const char *whole = up_lab_path("whole"), *run = up_lab_path("limited");
    UP_ASSERT_OK(train(whole, 0, NULL, NULL));
    CU_ASSERT_EQUAL(train(run, 0, NULL, more), UP_ERR_INTERRUPTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "time limit of 1e-06 s: stopped after step 1 of 12"));
    CU_ASSERT(exists(run, "checkpoint-00000001/state.json"));
    UP_ASSERT_OK(train(run, 1, NULL, NULL));
    expect_same_runs(whole, run);
    up_lab_remove(whole);
    up_lab_remove(run);
}

static void copy(const char *from, const char *to) {
    void *bytes;
    size_t size;
    UP_ASSERT_OK(up_file_read(from, &bytes, &size));
    UP_ASSERT_OK(up_file_write(to, bytes, size));
    free(bytes);
}

/* Samples none of which can be read end the run; the failure is told, and the last whole step is saved. */
static void test_failures_leave_a_checkpoint(void) {
    const char *whole = up_lab_path("whole"), *run = up_lab_path("failed");
    const char *away = up_lab_path("away"), *pictures = up_lab_path("there");
    CU_ASSERT_EQUAL(mkdir(pictures, 0777), 0);
    copy(up_lab_golden("image", "jpeg_420.jpg"), up_lab_path("there/one.jpg"));
    copy(up_lab_golden("image", "png_rgb8.png"), up_lab_path("there/two.png"));
    up_lab_text("pictures.tsv",
                "image\tlabel\tname\nthere/one.jpg\tphotograph\tone\nthere/two.png\tdrawing\ttwo\n");
    UP_ASSERT_OK(train(whole, 0, NULL, NULL));

    /* the pictures are gone after the first step: some step later needs them */
    volatile sig_atomic_t stop = 1;
    CU_ASSERT_EQUAL(train(run, 0, &stop, NULL), UP_ERR_INTERRUPTED);
    CU_ASSERT_EQUAL(rename(pictures, away), 0);
    CU_ASSERT_EQUAL(train(run, 1, NULL, (const char *const[]){"checkpoint_every=100", NULL}), UP_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "100 samples drawn one after the other cannot be read"));
    CU_ASSERT_EQUAL(rename(away, pictures), 0);
    UP_ASSERT_OK(train(run, 1, NULL, NULL));
    expect_same_runs(whole, run);
    up_lab_remove(whole);
    up_lab_remove(run);
    up_lab_remove(pictures);
    write_config(); /* the lists as they were */
}

static void test_what_is_kept(void) {
    static const char *const more[] = {"checkpoint_every=2", "keep_last=1", "keep_every=5", NULL};
    static const int kept[] = {5, 10, 12};
    const char *run = up_lab_path("kept");
    UP_ASSERT_OK(train(run, 0, NULL, more));
    for (int step = 1; step <= 12; step++) {
        char name[40];
        int wanted = 0;
        for (int i = 0; i < 3; i++) wanted |= kept[i] == step;
        snprintf(name, sizeof name, "checkpoint-%08d", step);
        CU_ASSERT_EQUAL(exists(run, name), wanted);
    }
    up_lab_remove(run);
}

/* ---- the average ---- */

/* Against the definition, on the lab's own steps; in double, so that f32 costs some units of its own. */
static void test_average(void) {
    static const char *const more[] = {"ema=0.7", "ema_every=2", NULL};
    const char *run = up_lab_path("averaged"), *stopped = up_lab_path("stopped");
    up_backend *backend;
    up_lab lab;
    volatile sig_atomic_t stop = 1;
    UP_ASSERT_OK(train(run, 0, NULL, more));
    UP_ASSERT_OK(up_backend_ref(&backend));
    up_lab_open(&lab, backend, NULL, 0);
    const up_params *params = up_model_params(lab.model);
    double *want = calloc((size_t)params->total, sizeof *want);
    for (int step = 0; step <= 12; step++) {
        if (step) up_lab_step(&lab);
        float *weights = up_lab_download(&lab, UP_LAB_WEIGHTS);
        double share = step ? 1 - pow(fmin(0.7, (1.0 + step) / (10.0 + step)), 2) : 1;
        for (int64_t i = 0; i < params->total && step % 2 == 0; i++)
            want[i] += share * ((double)weights[i] - want[i]);
        free(weights);
    }
    up_safetensors *file;
    UP_ASSERT_OK(up_safetensors_open(in(run, "model-ema.safetensors"), &file));
    float *got = calloc((size_t)params->total, sizeof *got);
    double worst = 0;
    for (int i = 0; i < params->count; i++) {
        const up_param *p = &params->list[i];
        UP_ASSERT_OK(up_safetensor_to_f32(up_safetensors_find(file, p->name), got));
        for (int64_t j = 0; j < p->rows * p->cols; j++) {
            double value = want[p->offset + j],
                   error = fabs((double)got[j] - value) / fmax(fabs(value), 0.01);
            if (!(error <= worst)) worst = error;
        }
    }
    /* six updates of three roundings each, of values up to 1, where the error counts against 0.01 and more */
    CU_ASSERT(worst < 18 * 0x1p-24 * 100);
    CU_ASSERT(!same_files(in(run, "model-ema.safetensors"), in(run, "model.safetensors")));
    up_safetensors_close(file);
    free(got);
    free(want);
    up_lab_close(&lab);
    for (int resume = 0; train(stopped, resume, &stop, more) == UP_ERR_INTERRUPTED;) resume = 1;
    CU_ASSERT(same_files(in(run, "model-ema.safetensors"), in(stopped, "model-ema.safetensors")));
    expect_same_runs(run, stopped);
    up_lab_remove(stopped);
    up_lab_remove(run);
}

/* ---- validation ---- */

static double validated(const json_t *lines, int64_t step, const char *task, const char *metric) {
    for (size_t i = 0; i < json_array_size(lines); i++) {
        const json_t *line = json_array_get(lines, i), *scores = json_object_get(line, "validation");
        if (scores && json_integer_value(json_object_get(line, "step")) == step)
            return json_number_value(json_object_get(json_object_get(scores, task), metric));
    }
    return NAN;
}

/* What `eval` measures of a model file. */
static double evaluated(const char *run, const char *model, const char *task, const char *metric) {
    char folder[600];
    const char *path = up_lab_path("scores.json"), *overrides[] = {folder};
    double value = NAN;
    snprintf(folder, sizeof folder, "run=%s", run);
    fflush(stdout);
    int kept = dup(STDOUT_FILENO);
    CU_ASSERT_PTR_NOT_NULL_FATAL(freopen("/dev/null", "w", stdout));
    const up_train_options options = {.backend = "ref", .threads = 1, .quiet = 1, .cache = "none"};
    up_status status = up_evaluate(config, overrides, 1, &options, model, path);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    UP_ASSERT_OK(status);
    json_t *list = json_load_file(path, 0, NULL);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *score = json_array_get(list, i);
        if (!strcmp(json_string_value(json_object_get(score, "task")), task) &&
            !strcmp(json_string_value(json_object_get(score, "metric")), metric))
            value = json_number_value(json_object_get(score, "value"));
    }
    json_decref(list);
    return value;
}

/* Scores are those that `eval` gives of the same weights, training is not changed by them, and the best is
 * the first of the highest. */
static void test_validation(void) {
    static const char *const more[] = {"validate_every=3",
                                       "validate=[words]",
                                       "checkpoint_every=3",
                                       "keep_last=9",
                                       "best=words/R@1 input to text",
                                       NULL};
    static const char metric[] = "R@1 input to text";
    const char *run = up_lab_path("validated"), *plain = up_lab_path("plain");
    double best = -1;
    int best_step = 0;
    char model[700];
    UP_ASSERT_OK(train(plain, 0, NULL, NULL));
    UP_ASSERT_OK(train(run, 0, NULL, more));
    CU_ASSERT(same_files(in(plain, "model.safetensors"), in(run, "model.safetensors")));
    json_t *lines = lines_of(run);
    for (int step = 3; step <= 12; step += 3) {
        char name[60];
        double score = validated(lines, step, "words", metric);
        snprintf(name, sizeof name, "checkpoint-%08d/model.safetensors", step);
        snprintf(model, sizeof model, "%s", in(run, name));
        CU_ASSERT_DOUBLE_EQUAL(score, evaluated(run, model, "words", metric), 1e-6);
        CU_ASSERT(isnan(validated(lines, step, "kinds", "accuracy")) ||
                  validated(lines, step, "kinds", "accuracy") == 0); /* not chosen */
        if (score > best) best_step = step;
        if (score > best) best = score;
    }
    snprintf(model, sizeof model, "%s/checkpoint-%08d/model.safetensors", run, best_step);
    CU_ASSERT(best_step && same_files(model, in(run, "best.safetensors")));
    json_decref(lines);
    up_lab_remove(plain);
    up_lab_remove(run);
}

static void test_validation_after_a_stop(void) {
    static const char *const more[] = {"validate_every=2", "best=words/R@1 input to text", "ema=0.5",
                                       "ema_every=1", NULL};
    const char *whole = up_lab_path("whole"), *run = up_lab_path("stopped");
    volatile sig_atomic_t stop = 1;
    UP_ASSERT_OK(train(whole, 0, NULL, more));
    for (int resume = 0; train(run, resume, &stop, more) == UP_ERR_INTERRUPTED && !resume;) resume = 1;
    UP_ASSERT_OK(train(run, 1, NULL, more));
    expect_same_runs(whole, run);
    CU_ASSERT(same_files(in(whole, "best.safetensors"), in(run, "best.safetensors")));
    up_lab_remove(whole);
    up_lab_remove(run);
}

static void test_wrong_names(void) {
    static const struct {
        const char *more[3], *words;
    } cases[] = {{{"validate_every=1", "validate=[word]"}, "validate: \"word\": no evaluation has this name"},
                 {{"validate_every=1", "best=words"}, "wanted EVALUATION/METRIC"},
                 {{"validate_every=1", "best=word/R@1"}, "no evaluation has this name"},
                 {{"best=words/R@1"}, "validate_every is 0"},
                 {{"validate_every=1", "evaluations=[]"}, "there are no evaluations"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CU_ASSERT_EQUAL(train(up_lab_path("wrong"), 0, NULL, cases[i].more), UP_ERR_ARGUMENT);
        if (!strstr(up_last_error(), cases[i].words)) fprintf(stderr, "%s\n", up_last_error());
        CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), cases[i].words));
    }
}

/* ---- events ---- */

static uint64_t little(const unsigned char *at, int count) {
    uint64_t value = 0;
    for (int i = count; i-- > 0;) value = value << 8 | at[i];
    return value;
}

/* The one event file of a folder. */
static unsigned char *read_events(const char *folder, size_t *size) {
    glob_t found;
    void *data;
    CU_ASSERT_EQUAL_FATAL(glob(in(folder, "events.out.tfevents.*"), 0, NULL, &found), 0);
    CU_ASSERT_EQUAL_FATAL(found.gl_pathc, 1);
    UP_ASSERT_OK(up_file_read(found.gl_pathv[0], &data, size));
    globfree(&found);
    return data;
}

/* `peak_share` is `gflops` over the key `peak`, in the lines and in what is said at the end; without the key
 * it is absent. */
static void test_share_of_peak(void) {
    const char *run = up_lab_path("share"), *without = up_lab_path("no-share");
    const char *said = up_lab_path("summary");
    char folder[600];
    const char *overrides[] = {folder, "peak=0.25", "log_every=3"};
    const up_train_options options = {.backend = "ref", .threads = 1};
    void *text;
    size_t size;
    snprintf(folder, sizeof folder, "run=%s", run);
    fflush(stderr);
    int kept = dup(STDERR_FILENO);
    CU_ASSERT_PTR_NOT_NULL_FATAL(freopen(said, "w", stderr));
    UP_ASSERT_OK(up_train(config, overrides, 3, &options));
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    json_t *lines = read_lines(run);
    double gflop = 0, before = 0;
    for (size_t i = 0; i < 4; i++) {
        double gflops = number_of(lines, i, "gflops"), share = number_of(lines, i, "peak_share");
        CU_ASSERT(gflops > 0 && fabs(share - gflops / 0.25) < 1e-12 * share);
        gflop += gflops * (number_of(lines, i, "seconds") - before);
        before = number_of(lines, i, "seconds");
    }
    UP_ASSERT_OK(up_file_read(said, &text, &size));
    const char *row = strstr(text, " samples/s, "), *wait = strstr(text, "% of the time waiting for data, ");
    double mean = NAN, share = NAN, most = NAN;
    CU_ASSERT_FATAL(row && wait);
    CU_ASSERT_EQUAL(sscanf(strchr(wait, ',') + 1, "%lf GFLOP/s (%lf%% of the peak), at most %lf MiB", &mean,
                           &share, &most),
                    3);
    CU_ASSERT(fabs(mean - gflop / before) <= 0.051);
    CU_ASSERT(fabs(share - 100 * gflop / before / 0.25) <= 0.051);
    CU_ASSERT(most > 1 && most >= floor(number_of(lines, 3, "memory_mib")));
    free(text);
    json_decref(lines);
    unsigned char *events = read_events(run, &size);
    CU_ASSERT_PTR_NOT_NULL(memmem(events, size, "gflops", 6));
    CU_ASSERT_PTR_NOT_NULL(memmem(events, size, "peak_share", 10));
    free(events);
    UP_ASSERT_OK(train(without, 0, NULL, NULL));
    lines = read_lines(without);
    CU_ASSERT(number_of(lines, 0, "gflops") > 0);
    CU_ASSERT_PTR_NULL(json_object_get(json_array_get(lines, 0), "peak_share"));
    json_decref(lines);
    up_lab_remove(run);
    up_lab_remove(without);
}

/* Byte by byte against the format: the head that TensorFlow's own files begin with, then two scalars. */
static void test_events(void) {
    static const unsigned char first[] = {24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22, 9};
    static const unsigned char version[] = "\x1a\x0d"
                                           "brain.Event:2";
    static const unsigned char summary[] = {0x2a, 26, /* summary */
                                            0x0a, 9,  0x0a, 2, 'l', 'r', 0x15, 0,   0,   0,   0x3f, /* 0.5 */
                                            0x0a, 13, 0x0a, 6, 't', '/', 'l',  'o', 's', 's', 0x15, 0,
                                            0,    0,  0x40}; /* 2 */
    const char *run = up_lab_path("events");
    up_events events;
    size_t size;
    UP_ASSERT_OK(up_make_folders(run));
    UP_ASSERT_OK(up_events_open(run, 6, &events));
    json_t *line = json_pack("{s:i, s:f, s:{s:i}, s:s}", "step", 300, "lr", 0.5, "t", "loss", 2, "x", "y");
    UP_ASSERT_OK(up_events_write(&events, 300, line));
    json_decref(line);
    up_events_close(&events);
    unsigned char *data = read_events(run, &size), *at = data;
    CU_ASSERT(!memcmp(at, first, sizeof first) && !memcmp(at + 21, version, sizeof version - 1));
    at += 12 + 24 + 4;
    CU_ASSERT_EQUAL(little(at, 8), 15); /* time 9, step 2, session 4 */
    CU_ASSERT(!memcmp(at + 12 + 9, "\x10\x06\x3a\x02\x08\x01", 6));
    at += 12 + 15 + 4;
    CU_ASSERT_EQUAL(little(at, 8), 9 + 3 + sizeof summary);
    CU_ASSERT(!memcmp(at + 12 + 9, "\x10\xac\x02", 3) && !memcmp(at + 12 + 12, summary, sizeof summary));
    CU_ASSERT_EQUAL((size_t)(at - data) + 12 + 12 + sizeof summary + 4, size);
    free(data);
    up_lab_remove(run);
}

static void test_no_events(void) {
    static const char *const more[] = {"events=false", "steps=1", NULL};
    const char *run = up_lab_path("quiet");
    glob_t found;
    UP_ASSERT_OK(train(run, 0, NULL, more));
    CU_ASSERT_EQUAL(glob(in(run, "events.out.tfevents.*"), 0, NULL, &found), GLOB_NOMATCH);
    up_lab_remove(run);
}

/* Data that comes too late is told once, when it has been so for a while, and not because of the first line.
 */
static void test_starving(void) {
    const char *said = up_lab_path("said");
    char folder[600];
    const char *overrides[] = {folder};
    const up_train_options options = {.backend = "ref", .threads = 1, .quiet = 1};
    up_trainer t;
    void *text;
    size_t size;
    snprintf(folder, sizeof folder, "run=%s", up_lab_path("starving"));
    UP_ASSERT_OK(up_trainer_open(config, overrides, 1, &options, &t));
    fflush(stderr);
    int kept = dup(STDERR_FILENO);
    CU_ASSERT_PTR_NOT_NULL_FATAL(freopen(said, "w", stderr));
    static const double waits[] = {10, 0.4, 3, 3}; /* of ten seconds */
    for (int i = 0; i < 4; i++) {
        t.waited = waits[i];
        t.last_line = up_now() - 10;
        UP_ASSERT_OK(up_metrics_log(&t));
        fflush(stderr);
        UP_ASSERT_OK(up_file_read(said, &text, &size));
        CU_ASSERT_EQUAL(size > 0, i == 3); /* 3.4 of 20 seconds are few, 6.4 of 30 are not */
        if (i == 3) CU_ASSERT_PTR_NOT_NULL(strstr(text, "21% of the time: workers: 3 would feed it (now 2)"));
        free(text);
    }
    dup2(kept, STDERR_FILENO);
    close(kept);
    up_trainer_close(&t);
    up_lab_remove(up_lab_path("starving"));
}

/* A listener hears of a run what stderr would: its steps, its summary; stderr stays empty. */
typedef struct heard {
    int reports, steps;
    int64_t last, total;
} heard;

static void hear_line(void *self, up_log_level level, const char *line) {
    ((heard *)self)->reports += level == UP_LOG_REPORT && strstr(line, "steps") != NULL;
}

static void hear_progress(void *self, const up_progress_report *progress) {
    heard *h = self;
    CU_ASSERT(progress->done >= h->last && progress->seconds_left >= 0 && *progress->text);
    h->last = progress->done;
    h->total = progress->total;
    h->steps++;
}

static void test_listener(void) {
    char setting[600];
    heard h = {0};
    const char *aside = up_lab_text("said.txt", "");
    snprintf(setting, sizeof setting, "run=%s", up_lab_path("heard"));
    const char *const overrides[] = {setting, "steps=3", "log_every=1"};
    fflush(stderr);
    int kept = dup(STDERR_FILENO);
    CU_ASSERT_PTR_NOT_NULL_FATAL(freopen(aside, "w", stderr));
    UP_ASSERT_OK(up_listen(&(up_listener){.log = hear_line, .progress = hear_progress, .self = &h}));
    up_status status = up_train(config, overrides, 3, &(up_train_options){.backend = "ref", .threads = 1});
    UP_ASSERT_OK(up_listen(NULL));
    CU_ASSERT_EQUAL(ftell(stderr), 0);
    dup2(kept, STDERR_FILENO);
    close(kept);
    UP_ASSERT_OK(status);
    CU_ASSERT(h.steps >= 3);
    CU_ASSERT_EQUAL(h.last, 3);
    CU_ASSERT_EQUAL(h.total, 3);
    CU_ASSERT(h.reports > 0);
    up_lab_remove(up_lab_path("heard"));
}

static void test_prepare(void) {
    write_config();
    CU_ASSERT_PTR_NOT_NULL_FATAL(config);
}

const up_test up_tests[] = {
    {"configuration", test_prepare},       {"lines are whole", test_lines_are_whole},
    {"share of peak", test_share_of_peak}, {"any number of workers", test_any_number_of_workers},
    {"time limit", test_time_limit},       {"failures leave a checkpoint", test_failures_leave_a_checkpoint},
    {"what is kept", test_what_is_kept},   {"average", test_average},
    {"validation", test_validation},       {"validation after a stop", test_validation_after_a_stop},
    {"wrong names", test_wrong_names},     {"events", test_events},
    {"no events", test_no_events},         {"starving", test_starving},
    {"listener", test_listener},           {NULL, NULL},
};
