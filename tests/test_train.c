/* test_train.c - training as a whole: stopped, killed, damaged, starved of disk and fed with NaN, it ends at
 * the same bytes or says why not; gradients against differences, backends against each other. */
#include "tests/guard.h"
#include "tests/lab.h"
#include "tests/support.h"
#include "files/file.h"
#include "files/safetensors.h"
#include "uniperceiver/random.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

const char *const up_suite_name = "train";

enum { STEPS = 12 }; /* of lab.c's configuration */

/* ---- runs and what they leave ---- */

typedef struct launch {
    const char *run, *backend;
    int resume, workers, every; /* every: steps a checkpoint */
    const char *more;           /* one more override, or NULL */
    volatile sig_atomic_t *stop;
} launch;

static up_status train(const launch *l) {
    char run[600], workers[32], every[40];
    snprintf(run, sizeof run, "run=%s", l->run);
    snprintf(workers, sizeof workers, "workers=%d", l->workers ? l->workers : 2);
    snprintf(every, sizeof every, "checkpoint_every=%d", l->every ? l->every : 4);
    const char *overrides[] = {run, workers, every, l->more};
    const up_train_options options = {.backend = l->backend ? l->backend : "ref",
                                      .threads = 2,
                                      .resume = l->resume,
                                      .quiet = 1,
                                      .stop = l->stop};
    return up_train(up_lab_path("train.yaml"), overrides, l->more ? 4 : 3, &options);
}

/* What must be the same however a run came to its end: the model's bytes, and step, losses and norm of each
 * line. */
typedef struct outcome {
    void *model;
    size_t size;
    char *lines;
} outcome;

static char *loss_lines(const char *run) {
    char path[600];
    void *data;
    size_t size, length;
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    UP_ASSERT_OK(up_file_read(path, &data, &size));
    char *text = NULL;
    FILE *out = open_memstream(&text, &length);
    for (char *line = data, *end; (end = strchr(line, '\n')); line = end + 1) {
        json_t *object = json_loadb(line, (size_t)(end - line), 0, NULL);
        CU_ASSERT_PTR_NOT_NULL_FATAL(object);
        static const char *const timed[] = {"seconds", "tokens_per_second", "data_wait_seconds"};
        for (int i = 0; i < 3; i++) json_object_del(object, timed[i]);
        char *kept = json_dumps(object, JSON_SORT_KEYS);
        fprintf(out, "%s\n", kept);
        free(kept);
        json_decref(object);
    }
    fclose(out);
    free(data);
    return text;
}

static outcome outcome_of(const char *run) {
    char path[600];
    outcome o = {.lines = loss_lines(run)};
    snprintf(path, sizeof path, "%s/model.safetensors", run);
    UP_ASSERT_OK(up_file_read(path, &o.model, &o.size));
    return o;
}

static void outcome_free(outcome *o) {
    free(o->model);
    free(o->lines);
}

static void expect_same(const char *run, const outcome *want) {
    outcome got = outcome_of(run);
    CU_ASSERT(got.size == want->size && !memcmp(got.model, want->model, want->size));
    CU_ASSERT_STRING_EQUAL(got.lines, want->lines);
    outcome_free(&got);
}

/* An uninterrupted run of each backend, made once. */
static const outcome *reference(const char *backend) {
    static outcome made[2];
    static const char *const names[] = {"ref", "cpu"};
    int i = strcmp(backend, names[0]) != 0;
    if (made[i].model) return &made[i];
    const char *run = up_lab_path(i ? "whole-cpu" : "whole-ref");
    up_lab_config();
    UP_ASSERT_OK(train(&(launch){.run = run, .backend = backend}));
    made[i] = outcome_of(run);
    return &made[i];
}

static uint32_t below(uint32_t n) { /* of the tests' own random choices */
    static uint64_t calls;
    up_rng rng = up_rng_make(up_test_seed(), 17, calls++, 0);
    return up_rng_below(&rng, n);
}

static int exists(const char *run, const char *name) {
    char path[700];
    snprintf(path, sizeof path, "%s/%s", run, name);
    return !access(path, F_OK);
}

static void expect_error(up_status got, up_status want, const char *const *words, size_t count) {
    CU_ASSERT_EQUAL(got, want);
    for (size_t i = 0; i < count; i++) {
        if (!strstr(up_last_error(), words[i]))
            fprintf(stderr, "\"%s\" not in: %s\n", words[i], up_last_error());
        CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), words[i]));
    }
    CU_ASSERT_PTR_NULL(strchr(up_last_error(), '\n'));
}
#define EXPECT_ERROR(got, want, ...)                                                                         \
    do {                                                                                                     \
        const char *const words_[] = {__VA_ARGS__};                                                          \
        expect_error(got, want, words_, sizeof words_ / sizeof words_[0]);                                   \
    } while (0)

/* stderr goes into a file meanwhile: what the program said is part of the contract. */
static int hear(const char *path) {
    fflush(stderr);
    int kept = dup(STDERR_FILENO);
    CU_ASSERT_PTR_NOT_NULL_FATAL(freopen(path, "w", stderr));
    return kept;
}
static char *heard(const char *path, int kept) {
    void *text;
    size_t size;
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    UP_ASSERT_OK(up_file_read(path, &text, &size));
    return text;
}

/* ---- stopping and resuming ---- */

typedef struct watcher {
    char path[600];
    int lines; /* how many there are when the run shall stop */
    volatile sig_atomic_t stop;
    int ended; /* atomic */
} watcher;

static int count_lines(const char *path) {
    FILE *f = fopen(path, "r");
    int lines = 0;
    for (int c; f && (c = getc(f)) != EOF;) lines += c == '\n';
    if (f) fclose(f);
    return lines;
}

static void *watch(void *argument) {
    watcher *w = argument;
    while (!__atomic_load_n(&w->ended, __ATOMIC_ACQUIRE) && count_lines(w->path) < w->lines) usleep(500);
    w->stop = 1;
    return NULL;
}

static up_status train_until(const char *run, const char *backend, int resume, int workers, int lines) {
    watcher w = {.lines = lines};
    pthread_t thread;
    snprintf(w.path, sizeof w.path, "%s/metrics.jsonl", run);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, watch, &w), 0);
    up_status status = train(
        &(launch){.run = run, .backend = backend, .resume = resume, .workers = workers, .stop = &w.stop});
    __atomic_store_n(&w.ended, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    return status;
}

static void stop_and_resume(const char *backend) {
    const outcome *want = reference(backend);
    const char *run = up_lab_path("stopped");
    int first = 1 + (int)below(4), second = first + 1 + (int)below(4), stops = 0;
    printf("[seed %llu: stops after %d and %d] ", (unsigned long long)up_test_seed(), first, second);
    up_status status = train_until(run, backend, 0, 1, first);
    stops += status == UP_ERR_INTERRUPTED;
    if (status == UP_ERR_INTERRUPTED) {
        EXPECT_ERROR(status, UP_ERR_INTERRUPTED, "stopped after step", "--resume", run);
        CU_ASSERT(!exists(run, "model.safetensors"));
        status = train_until(run, backend, 1, 4, second);
        stops += status == UP_ERR_INTERRUPTED;
    }
    if (status == UP_ERR_INTERRUPTED)
        status = train(&(launch){.run = run, .backend = backend, .resume = 1, .workers = 3});
    UP_ASSERT_OK(status);
    CU_ASSERT(stops > 0);
    expect_same(run, want);
    UP_ASSERT_OK(
        train(&(launch){.run = run, .backend = backend, .resume = 1})); /* at its end: nothing changes */
    expect_same(run, want);
    up_lab_remove(run);
}

static void test_stop_and_resume_ref(void) {
    stop_and_resume("ref");
}
static void test_stop_and_resume_cpu(void) {
    stop_and_resume("cpu");
}

static void test_stop_after_each_step(void) { /* the flag is up from the start: one step a call */
    const outcome *want = reference("ref");
    const char *run = up_lab_path("stepwise");
    volatile sig_atomic_t stop = 1;
    launch l = {.run = run, .stop = &stop, .every = 1};
    for (int step = 1; step <= 4; step++, l.resume = 1) {
        char said[40];
        snprintf(said, sizeof said, "stopped after step %d of %d", step, STEPS);
        EXPECT_ERROR(train(&l), UP_ERR_INTERRUPTED, said);
    }
    stop = 0;
    UP_ASSERT_OK(train(&l));
    expect_same(run, want);
    up_lab_remove(run);
}

/* ---- killing ---- */

static pid_t fork_training(const launch *l) {
    fflush(stdout);
    fflush(stderr);
    pid_t pid = fork();
    CU_ASSERT_FATAL(pid >= 0);
    if (pid) return pid;
    up_status status = train(l);
    if (status != UP_OK) fprintf(stderr, "%s\n", up_last_error());
    _exit(status);
}

/* SIGKILL up to 0.2 s after the run's next line of metrics; 1 if it was still running then. */
static int kill_soon(pid_t pid, const char *run) {
    char metrics[600];
    int status = 0;
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", run);
    for (int lines = count_lines(metrics); count_lines(metrics) <= lines;) {
        siginfo_t ended = {0};
        if (waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOHANG | WNOWAIT) || ended.si_pid) break;
        usleep(1000);
    }
    usleep((useconds_t)below(200000));
    kill(pid, SIGKILL); /* a child that has ended but was not waited for is still ours */
    CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status)) CU_ASSERT_EQUAL(WEXITSTATUS(status), 0);
    return WIFSIGNALED(status);
}

static void test_killed_at_any_moment(void) {
    const outcome *want = reference("ref");
    const char *run = up_lab_path("killed");
    launch l = {.run = run, .every = 1};
    int kills = 0;
    for (int alive = 1; alive && kills < 4; l.resume = 1) kills += alive = kill_soon(fork_training(&l), run);
    printf("[seed %llu: %d kills] ", (unsigned long long)up_test_seed(), kills);
    CU_ASSERT(kills > 0);
    UP_ASSERT_OK(train(&l));
    expect_same(run, want);
    up_lab_remove(run);
}

/* ---- damage ---- */

static void path_in(char *out, size_t room, const char *run, int step, const char *file) {
    snprintf(out, room, "%s/checkpoint-%08d/%s", run, step, file);
}

static void flip(const char *path, size_t at) {
    FILE *f = fopen(path, "r+b");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fseek(f, (long)at, SEEK_SET);
    int c = getc(f);
    fseek(f, (long)at, SEEK_SET);
    putc(c ^ 1, f);
    fclose(f);
}

typedef enum damage { TRUNCATED, FLIPPED, MISSING, DAMAGES } damage;

static void damage_file(const char *path, damage d) {
    struct stat about;
    CU_ASSERT_EQUAL_FATAL(stat(path, &about), 0);
    if (d == TRUNCATED) CU_ASSERT_EQUAL(truncate(path, about.st_size / 2), 0);
    if (d == FLIPPED) flip(path, below((uint32_t)about.st_size));
    if (d == MISSING) CU_ASSERT_EQUAL(unlink(path), 0);
}

/* Stopped after each step, so that there are checkpoints k and k - 1; k is damaged, k - 1 serves, k is saved
 * again. */
static void test_damaged_checkpoints(void) {
    static const char *const files[] = {"model.safetensors", "optimizer.safetensors", "state.json"};
    const outcome *want = reference("ref");
    const char *run = up_lab_path("damaged"), *words = up_lab_path("stderr");
    char path[700];
    volatile sig_atomic_t stop = 1;
    launch l = {.run = run, .stop = &stop};
    for (; l.resume < 2; l.resume++) CU_ASSERT_EQUAL_FATAL(train(&l), UP_ERR_INTERRUPTED);
    printf("[seed %llu] ", (unsigned long long)up_test_seed());
    for (int i = 0; i < 3 * DAMAGES; i++) {
        if (i == 2 * DAMAGES + FLIPPED) continue; /* see test_false_counts */
        path_in(path, sizeof path, run, 2, files[i / DAMAGES]);
        damage_file(path, (damage)(i % DAMAGES));
        int kept = hear(words);
        up_status status = train(&l);
        char *said = heard(words, kept);
        EXPECT_ERROR(status, UP_ERR_INTERRUPTED, "stopped after step 2");
        CU_ASSERT_PTR_NOT_NULL(strstr(said, path));
        CU_ASSERT_PTR_NOT_NULL(strstr(said, "trying the checkpoint before it"));
        CU_ASSERT(exists(run, "checkpoint-00000002.broken"));
        CU_ASSERT(exists(run, "checkpoint-00000001") && exists(run, "checkpoint-00000002"));
        free(said);
    }
    l.stop = NULL;
    UP_ASSERT_OK(train(&l));
    expect_same(run, want);
    up_lab_remove(run);
}

/* A count in state.json that is off by one. */
static void test_false_counts(void) {
    static const char *const counts[] = {"step", "updates", "skipped"};
    const char *run = up_lab_path("miscounted");
    char path[700];
    volatile sig_atomic_t stop = 1;
    up_lab_config();
    CU_ASSERT_EQUAL_FATAL(train(&(launch){.run = run, .stop = &stop}), UP_ERR_INTERRUPTED);
    path_in(path, sizeof path, run, 1, "state.json");
    for (int i = 0; i < 3; i++) {
        json_t *state = json_load_file(path, 0, NULL), *whole = json_deep_copy(state);
        json_int_t count = json_integer_value(json_object_get(state, counts[i]));
        json_object_set_new(state, counts[i], json_integer(count + 1));
        CU_ASSERT_EQUAL(json_dump_file(state, path, 0), 0);
        EXPECT_ERROR(train(&(launch){.run = run, .resume = 1}), UP_ERR_FORMAT, path,
                     "not those of its folder");
        CU_ASSERT_EQUAL(json_dump_file(whole, path, 0), 0);
        json_decref(state);
        json_decref(whole);
    }
    CU_ASSERT_EQUAL(train(&(launch){.run = run, .resume = 1, .stop = &stop}), UP_ERR_INTERRUPTED);
    up_lab_remove(run);
}

static void test_nothing_whole_is_left(void) {
    const char *run = up_lab_path("ruined");
    volatile sig_atomic_t stop = 1;
    char path[700];
    up_lab_config();
    CU_ASSERT_EQUAL_FATAL(train(&(launch){.run = run, .stop = &stop}), UP_ERR_INTERRUPTED);
    path_in(path, sizeof path, run, 1, "model.safetensors");
    damage_file(path, TRUNCATED);
    EXPECT_ERROR(train(&(launch){.run = run, .resume = 1}), UP_ERR_FORMAT, path, "size or checksum differ");
    up_lab_remove(run);
}

/* ---- folders ---- */

static void test_refusals(void) {
    const char *run = up_lab_path("refused"), *file = up_lab_text("a-file", "x");
    char below_file[600];
    volatile sig_atomic_t stop = 1;
    up_lab_config();
    CU_ASSERT_EQUAL_FATAL(train(&(launch){.run = run, .stop = &stop}), UP_ERR_INTERRUPTED);
    EXPECT_ERROR(train(&(launch){.run = run}), UP_ERR_ARGUMENT, run, "holds a run already", "--resume");
    EXPECT_ERROR(train(&(launch){.run = run, .resume = 1, .more = "model.width=8"}), UP_ERR_ARGUMENT,
                 "checkpoint-00000001/model.safetensors", "text.token.weight", "49411 x 16", "49411 x 8");
    EXPECT_ERROR(train(&(launch){.run = run, .resume = 1, .more = "model.heads=4"}), UP_ERR_ARGUMENT,
                 "checkpoint-00000001/model.safetensors", "2 heads", "4");
    EXPECT_ERROR(train(&(launch){.run = run, .resume = 1, .more = "model.layers=1"}), UP_ERR_ARGUMENT,
                 "checkpoint-00000001/model.safetensors", "layers.1.");
    EXPECT_ERROR(train(&(launch){.run = file}), UP_ERR_IO, file, "wanted a folder");
    snprintf(below_file, sizeof below_file, "%s/deeper", file);
    EXPECT_ERROR(train(&(launch){.run = below_file}), UP_ERR_IO, file);
    EXPECT_ERROR(train(&(launch){.run = "/proc/uniperceiver"}), UP_ERR_IO, "/proc/uniperceiver");
    EXPECT_ERROR(train(&(launch){.run = run, .backend = "none"}), UP_ERR_ARGUMENT, "none");
    int other = open(run, O_RDONLY | O_DIRECTORY); /* as if another process were at work */
    CU_ASSERT(other >= 0 && flock(other, LOCK_EX | LOCK_NB) == 0);
    EXPECT_ERROR(train(&(launch){.run = run, .resume = 1}), UP_ERR_IO, run, "another process is training");
    close(other);
    up_lab_remove(run);
}

/* A disk that fills up: files may not grow over `limit` bytes. Returns the message of the run's failure. */
static up_status train_with_limit(const launch *l, size_t limit, char message[512]) {
    int ends[2], status;
    CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
    fflush(stdout);
    fflush(stderr);
    pid_t pid = fork();
    CU_ASSERT_FATAL(pid >= 0);
    if (!pid) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, limit});
        up_status result = train(l);
        if (write(ends[1], up_last_error(), strlen(up_last_error())) < 0) _exit(100);
        _exit(result);
    }
    close(ends[1]);
    ssize_t got = read(ends[0], message, 511);
    message[got > 0 ? got : 0] = 0;
    close(ends[0]);
    CU_ASSERT_EQUAL_FATAL(waitpid(pid, &status, 0), pid);
    CU_ASSERT_FATAL(WIFEXITED(status));
    return (up_status)WEXITSTATUS(status);
}

static void test_full_disk(void) {
    /* 49411 x 16 floats are 3.2 MB of weights, the moments twice that */
    static const struct {
        size_t limit;
        const char *file;
    } cases[] = {{1 << 20, "model.safetensors"}, {5 << 20, "optimizer.safetensors"}, {900, "metrics.jsonl"}};
    const outcome *want = reference("ref");
    const char *run = up_lab_path("full");
    char message[512];
    volatile sig_atomic_t stop = 1;
    CU_ASSERT_EQUAL_FATAL(train(&(launch){.run = run, .stop = &stop, .every = 1}), UP_ERR_INTERRUPTED);
    for (int i = 0; i < 3; i++) {
        /* metrics.jsonl fills only where no checkpoint comes before */
        up_status status = train_with_limit(&(launch){.run = run, .resume = 1, .every = i == 2 ? 100 : 1},
                                            cases[i].limit, message);
        CU_ASSERT_EQUAL(status, UP_ERR_IO);
        if (!strstr(message, cases[i].file)) fprintf(stderr, "%s not in: %s\n", cases[i].file, message);
        CU_ASSERT_PTR_NOT_NULL(strstr(message, cases[i].file));
        CU_ASSERT_PTR_NOT_NULL(strstr(message, "File too large"));
        CU_ASSERT(exists(run, "checkpoint-00000001") && !exists(run, "checkpoint-00000002"));
        CU_ASSERT(!exists(run, "checkpoint-00000002.partial"));
    }
    UP_ASSERT_OK(train(&(launch){.run = run, .resume = 1}));
    expect_same(run, want);
    up_lab_remove(run);
}

/* ---- what is not finite ---- */

/* Bytes of weights and moments before and after. */
typedef struct state {
    float *part[3];
} state;
static const up_lab_state parts[] = {UP_LAB_WEIGHTS, UP_LAB_MEANS, UP_LAB_SQUARES};

static state state_of(up_lab *lab) {
    state s;
    for (int i = 0; i < 3; i++) s.part[i] = up_lab_download(lab, parts[i]);
    return s;
}
static int same_state(up_lab *lab, const state *before) {
    size_t bytes = (size_t)up_model_params(lab->model)->total * sizeof(float);
    int same = 1;
    for (int i = 0; i < 3; i++) {
        float *now = up_lab_download(lab, parts[i]);
        same = same && !memcmp(now, before->part[i], bytes);
        free(now);
    }
    return same;
}
static void state_free(state *s) {
    for (int i = 0; i < 3; i++) free(s->part[i]);
}

static up_backend *backend_of(const char *name) {
    up_backend *b = NULL;
    UP_ASSERT_OK(!strcmp(name, "guard") ? up_backend_guard(&b) : up_backend_create(name, 2, &b));
    return b;
}

static void not_finite_is_skipped(const char *backend) {
    static const float bad[] = {NAN, INFINITY, -INFINITY, 3e38f};
    up_lab lab;
    up_lab_open(&lab, backend_of(backend), NULL, 0);
    up_lab_step(&lab);
    up_lab_step(&lab);
    const up_params *p = up_model_params(lab.model);
    int param = p->layers[1].qkv_weight;
    int64_t at =
        p->list[param].offset + (int64_t)below((uint32_t)(p->list[param].rows * p->list[param].cols));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        float *weights = up_lab_download(&lab, UP_LAB_WEIGHTS), good = weights[at];
        weights[at] = bad[i];
        up_lab_upload_weights(&lab, weights);
        state before = state_of(&lab);
        int64_t steps = up_run_steps(lab.run), place = lab.step;
        up_step_value value = up_lab_step(&lab);
        /* a huge weight may or may not overflow; what is not skipped must be finite */
        if (i < 3) CU_ASSERT(value.skipped);
        CU_ASSERT(value.skipped || isfinite(value.gradient_norm));
        if (value.skipped) {
            CU_ASSERT(same_state(&lab, &before));
            CU_ASSERT_EQUAL(up_run_steps(lab.run), steps);
        }
        state_free(&before);
        weights[at] = good;
        up_lab_upload_weights(&lab, weights);
        free(weights);
        lab.step = place;
        value = up_lab_step(&lab);
        CU_ASSERT(!value.skipped && isfinite(value.gradient_norm) && value.gradient_norm > 0);
    }
    /* the loss is finite, the squares of its gradient are not */
    state before = state_of(&lab);
    int64_t steps = up_run_steps(lab.run);
    up_step_value value;
    UP_ASSERT_OK(up_run_zero_gradients(lab.run));
    up_lab_build(&lab, 0);
    CU_ASSERT(isfinite(up_lab_gradients(&lab, 1e30).loss));
    UP_ASSERT_OK(up_run_step(lab.run, &(up_adamw){1e-3, 0.9, 0.999, 1e-8, 0.1, 1}, &value));
    CU_ASSERT(value.skipped && same_state(&lab, &before));
    CU_ASSERT_EQUAL(up_run_steps(lab.run), steps);
    state_free(&before);
    CU_ASSERT(!up_lab_step(&lab).skipped);
    up_lab_close(&lab);
}

static void test_not_finite_ref(void) {
    not_finite_is_skipped("ref");
}
static void test_not_finite_cpu(void) {
    not_finite_is_skipped("cpu");
}

/* Put NaN into a checkpoint's weights, with a checksum that fits. */
static void poison_checkpoint(const char *run, int step) {
    char path[700];
    void *data;
    size_t size;
    path_in(path, sizeof path, run, step, "model.safetensors");
    UP_ASSERT_OK(up_file_read(path, &data, &size));
    up_safetensors *st;
    UP_ASSERT_OK(up_safetensors_open(path, &st));
    const up_safetensor *t = up_safetensors_find(st, "layers.0.ffn.up.weight");
    size_t at = size - 0;
    for (size_t i = 0; i < up_safetensors_count(st); i++) at -= up_safetensors_at(st, i)->bytes; /* header */
    for (size_t i = 0; up_safetensors_at(st, i) != t; i++) at += up_safetensors_at(st, i)->bytes;
    float bad = NAN;
    memcpy((char *)data + at, &bad, sizeof bad);
    up_safetensors_close(st);
    UP_ASSERT_OK(up_file_write(path, data, size));
    json_int_t crc = (json_int_t)crc32(crc32(0, NULL, 0), data, (uInt)size);
    free(data);
    path_in(path, sizeof path, run, step, "state.json");
    json_t *state = json_load_file(path, 0, NULL);
    json_object_set_new(json_object_get(json_object_get(state, "files"), "model.safetensors"), "crc32",
                        json_integer(crc));
    CU_ASSERT_EQUAL(json_dump_file(state, path, 0), 0);
    json_decref(state);
}

static void test_skipped_steps_are_told(void) {
    const char *run = up_lab_path("poisoned"), *words = up_lab_path("stderr");
    volatile sig_atomic_t stop = 1;
    up_lab_config();
    CU_ASSERT_EQUAL_FATAL(train(&(launch){.run = run, .stop = &stop}), UP_ERR_INTERRUPTED);
    poison_checkpoint(run, 1);
    int kept = hear(words);
    up_status status = train(&(launch){.run = run, .resume = 1, .more = "steps=4"});
    char *said = heard(words, kept), *lines = loss_lines(run);
    UP_ASSERT_OK(status);
    for (int step = 2; step <= 4; step++) {
        char line[64];
        snprintf(line, sizeof line, "step %d: loss or gradient is not finite: step skipped", step);
        CU_ASSERT_PTR_NOT_NULL(strstr(said, line));
    }
    CU_ASSERT_PTR_NOT_NULL(strstr(lines, "\"skipped\": 3"));
    UP_ASSERT_OK(
        train(&(launch){.run = run, .resume = 1, .more = "steps=4"})); /* such a checkpoint loads, too */
    free(said);
    free(lines);
    up_lab_remove(run);
}

/* ---- one backend against another ---- */

static void test_whole_steps_behind_guard(void) {
    enum { N = 6 };
    up_lab ref, guard;
    up_lab_open(&ref, backend_of("ref"), NULL, 0);
    up_lab_open(&guard, backend_of("guard"), NULL, 0);
    int different = 0;
    for (int i = 0; i < N; i++) {
        up_step_value a = up_lab_step(&ref), b = up_lab_step(&guard);
        different += a.gradient_norm != b.gradient_norm || ref.losses[0] != guard.losses[0] ||
                     ref.losses[1] != guard.losses[1];
    }
    CU_ASSERT_EQUAL(different, 0);
    state want = state_of(&ref);
    CU_ASSERT(same_state(&guard, &want));
    state_free(&want);
    up_lab_close(&ref);
    up_lab_close(&guard);
}

static void test_the_loop_is_the_lab(void) { /* up_train against the steps spelled out in lab.c */
    const outcome *want = reference("ref");
    up_lab lab;
    void *got;
    size_t size;
    up_lab_open(&lab, backend_of("ref"), NULL, 0);
    for (int i = 0; i < STEPS; i++) CU_ASSERT(!up_lab_step(&lab).skipped);
    UP_ASSERT_OK(up_model_write(lab.model, up_lab_path("lab.safetensors")));
    UP_ASSERT_OK(up_file_read(up_lab_path("lab.safetensors"), &got, &size));
    CU_ASSERT(size == want->size && !memcmp(got, want->model, size));
    free(got);
    up_lab_close(&lab);
}

/* What one rounding of every operand does to training: f32 sums of up to n = 512 terms (tokens of a batch,
 * values of a patch) are off by about sqrt(n) 2^-24 of their operands, like weights that are off by as much.
 */
static void shake(up_lab *lab, uint64_t key) {
    const up_params *p = up_model_params(lab->model);
    float *weights = up_lab_download(lab, UP_LAB_WEIGHTS);
    double amplitude = sqrt(512) * 0x1p-24;
    up_rng rng = up_rng_make(up_test_seed(), key, (uint64_t)lab->step, 3);
    for (int64_t i = p->list[p->token].rows * p->list[p->token].cols; i < p->total; i++)
        weights[i] = (float)(weights[i] * (1 + amplitude * (2 * up_rng_uniform(&rng) - 1)));
    up_lab_upload_weights(lab, weights);
    free(weights);
}

static void test_cpu_follows_ref(void) {
    enum { N = 20, SHAKEN = 3, LABS = 2 + SHAKEN };
    static const char *const more[] = {"steps=20"};
    up_lab labs[LABS]; /* ref, cpu, ref shaken */
    double spread = 0, furthest = 0, furthest_share = 0;
    int outside = 0;
    for (int i = 0; i < LABS; i++) up_lab_open(&labs[i], backend_of(i == 1 ? "cpu" : "ref"), more, 1);
    CU_ASSERT_EQUAL(up_model_params(labs[0].model)->token,
                    0); /* shake leaves it out: its rows are only read */
    for (int step = 0; step < N; step++) {
        for (int i = 2; i < LABS; i++) shake(&labs[i], (uint64_t)i);
        for (int i = 0; i < LABS; i++) CU_ASSERT(!up_lab_step(&labs[i]).skipped);
        for (int k = 0; k < 2; k++) {
            for (int i = 2; i < LABS; i++) spread = fmax(spread, fabs(labs[i].losses[k] - labs[0].losses[k]));
            double off = fabs(labs[1].losses[k] - labs[0].losses[k]);
            outside += !(off <= 2 * spread);
            furthest = fmax(furthest, off);
            furthest_share = fmax(furthest_share, off / spread);
        }
    }
    printf("[seed %llu: off by %.1e, %.2f of an honest spread] ", (unsigned long long)up_test_seed(),
           furthest, furthest_share);
    CU_ASSERT_EQUAL(outside, 0);
    for (int i = 0; i < LABS; i++) up_lab_close(&labs[i]);
}

/* ---- gradients ---- */

static double loss_at(up_lab *lab, const float *weights) {
    up_loss_value value;
    up_lab_upload_weights(lab, weights);
    UP_ASSERT_OK(up_run_forward(lab->run, &lab->work.batch, NULL));
    UP_ASSERT_OK(up_run_loss(lab->run, &lab->work.loss, &value));
    return value.loss;
}

/* (f(w + h d) - f(w - h d)) against g . ((w + h d) - (w - h d)), both over 2 h: the weights are rounded to
 * f32, the difference that was really taken is used. */
static void central(up_lab *lab, const float *w, const double *d, const float *g, double h, double *slope,
                    double *expected) {
    size_t n = (size_t)up_model_params(lab->model)->total;
    float *up = malloc(n * sizeof *up), *down = malloc(n * sizeof *down);
    *expected = 0;
    for (size_t i = 0; i < n; i++) {
        up[i] = (float)(w[i] + h * d[i]);
        down[i] = (float)(w[i] - h * d[i]);
        *expected += (double)g[i] * ((double)up[i] - down[i]) / (2 * h);
    }
    *slope = (loss_at(lab, up) - loss_at(lab, down)) / (2 * h);
    free(up);
    free(down);
}

/* Each tensor's part: its gradient scaled to a random length of either sign, and as much of random direction.
 * So a gradient that is wrong in any tensor, in size or direction, changes the product. *scale: the tensors'
 * parts of the product without their signs. */
static double *direction(const up_params *p, const float *g, uint64_t key, double *scale) {
    double *d = calloc((size_t)p->total, sizeof *d);
    up_rng rng = up_rng_make(up_test_seed(), key, 5, 5);
    *scale = 0;
    for (int i = 0; i < p->count; i++) {
        const up_param *q = &p->list[i];
        int64_t n = q->rows * q->cols;
        double norm = 0, length = 0.5 + up_rng_uniform(&rng);
        if (up_rng_u32(&rng) & 1) length = -length;
        for (int64_t k = q->offset; k < q->offset + n; k++) norm += (double)g[k] * g[k];
        norm = sqrt(norm);
        *scale += fabs(length) * norm;
        for (int64_t k = q->offset; norm > 0 && k < q->offset + n; k++)
            if (g[k] != 0 || i != p->token)
                d[k] = length * g[k] / norm + 0.5 * up_rng_normal(&rng) / sqrt((double)n);
    }
    return d;
}

static void test_gradient_is_the_slope(void) {
    static const char *const more[] = {"model.drop_path=0", "model.layer_scale=true"};
    up_lab lab;
    size_t rows[3] = {0, 1, 2};
    double worst = 0;
    up_lab_open(&lab, backend_of("ref"), more, 2);
    const up_params *p = up_model_params(lab.model);
    float *w = up_lab_download(&lab, UP_LAB_WEIGHTS);
    up_rng rng = up_rng_make(up_test_seed(), 3, 3, 3); /* away from the start, where all features are alike */
    for (int i = 0; i < p->count; i++)
        for (int64_t k = 0; p->list[i].group != UP_GROUP_TEMPERATURE && k < p->list[i].rows * p->list[i].cols;
             k++)
            w[p->list[i].offset + k] += (float)(0.2 * up_rng_normal(&rng));
    for (size_t s = 0; s < lab.settings.task_count; s++) {
        UP_ASSERT_OK(up_source_build(&lab.sources[s], &(up_build_options){1, 5, s}, rows, 3, &lab.work));
        up_lab_upload_weights(&lab, w);
        UP_ASSERT_OK(up_run_zero_gradients(lab.run));
        up_lab_gradients(&lab, 1);
        float *g = up_lab_download(&lab, UP_LAB_GRADIENTS);
        for (uint64_t key = 0; key < 2; key++) {
            double scale, *d = direction(p, g, 2 * s + key, &scale), h = 1e-2, wide, narrow, expected;
            central(&lab, w, d, g, h, &wide, &expected);
            central(&lab, w, d, g, h / 2, &narrow, &expected);
            /* f's own rounding: logits up to 1 / tau = 14.3, behind them a chain of 2 layers with 9
             * operations, 3 of the embedding and 3 of the loss, each storing f32: sqrt(24) 2^-24 of them on
             * average, at either end of the narrow step, whose length is h. The third derivative's part falls
             * by 4 when h is halved: what the narrow one has left is (wide - narrow) / 3. Twice their sum. */
            double noise = M_SQRT2 * sqrt(24) * 0x1p-24 * 14.3 / h, truncation = fabs(wide - narrow) / 3;
            double bound = 2 * (noise + truncation), off = fabs(narrow - expected);
            if (!(off <= bound) || !(bound < 0.05 * scale))
                fprintf(stderr, "%s: slope %.8g, gradient %.8g, off %.2e, bound %.2e (UP_TEST_SEED=%llu)\n",
                        lab.sources[s].task->name, narrow, expected, off, bound,
                        (unsigned long long)up_test_seed());
            CU_ASSERT(off <= bound);
            CU_ASSERT(bound < 0.05 * scale); /* else it would say nothing */
            worst = fmax(worst, off / scale);
            free(d);
        }
        free(g);
    }
    printf("[seed %llu: worst relative difference %.1e] ", (unsigned long long)up_test_seed(), worst);
    free(w);
    up_lab_close(&lab);
}

static void test_halves_make_the_whole(void) {
    up_lab lab;
    static const size_t rows[6] = {0, 1, 2, 3, 4, 5};
    up_lab_open(&lab, backend_of("ref"), NULL, 0);
    up_source *s = up_lab_source(&lab, "image_classification");
    const up_build_options still = {0, 1, 1}; /* no random crops */
    int64_t n = up_model_params(lab.model)->total;
    float *g[3]; /* whole, first half, both halves */
    double losses[3];
    UP_ASSERT_OK(up_run_zero_gradients(lab.run));
    UP_ASSERT_OK(up_source_build(s, &still, rows, 6, &lab.work));
    losses[0] = up_lab_gradients(&lab, 1).loss;
    g[0] = up_lab_download(&lab, UP_LAB_GRADIENTS);
    UP_ASSERT_OK(up_run_zero_gradients(lab.run));
    for (int half = 0; half < 2; half++) {
        UP_ASSERT_OK(up_source_build(s, &still, rows + 3 * half, 3, &lab.work));
        losses[1 + half] = up_lab_gradients(&lab, 0.5).loss;
        g[1 + half] = up_lab_download(&lab, UP_LAB_GRADIENTS);
    }
    double difference = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        double second = (double)g[2][i] - g[1][i], off = (double)g[2][i] - g[0][i];
        difference += off * off;
        size += (double)g[1][i] * g[1][i] + second * second;
    }
    /* both ways store about 50 tensors on the way down and up: 50 roundings of at most 2^-24 each way, of the
     * parts */
    CU_ASSERT(sqrt(difference) <= 2 * 50 * 0x1p-24 * sqrt(size));
    CU_ASSERT(size > 0 && fabs(losses[1] + losses[2] - losses[0]) <= 50 * 0x1p-24 * 14.3);
    for (int i = 0; i < 3; i++) free(g[i]);
    up_lab_close(&lab);
}

static double logit_gradient(up_lab *lab, int param, float log_scale, double *loss) {
    float gradient;
    up_backend *b = lab->backend;
    UP_ASSERT_OK(b->ops->upload(b, up_model_weight(lab->model, param), &log_scale));
    UP_ASSERT_OK(up_run_zero_gradients(lab->run));
    *loss = up_lab_gradients(lab, 1).loss;
    UP_ASSERT_OK(b->ops->download(b, &gradient, up_run_gradient(lab->run, param)));
    return gradient;
}

static void temperature_is_clamped(const char *backend) {
    up_lab lab;
    double at, above, below_it, far;
    size_t rows[3] = {0, 1, 2};
    up_lab_open(&lab, backend_of(backend), NULL, 0);
    for (int i = 0; i < 4; i++) up_lab_step(&lab);
    up_source *s = up_lab_source(&lab, "image_text_retrieval");
    UP_ASSERT_OK(up_source_build(s, &(up_build_options){0, 1, 1}, rows, 3, &lab.work));
    int param = up_model_params(lab.model)->temperature[s->temperature];
    float limit = (float)log(UP_MAX_LOGIT_SCALE);
    CU_ASSERT(logit_gradient(&lab, param, limit - 0.01f, &below_it) != 0);
    logit_gradient(&lab, param, limit, &at);
    CU_ASSERT_EQUAL(logit_gradient(&lab, param, limit + 0.01f, &above), 0);
    CU_ASSERT_EQUAL(logit_gradient(&lab, param, 80, &far), 0);
    CU_ASSERT_EQUAL(above, far);
    CU_ASSERT(fabs(at - above) <= 1e-5 * fabs(at)); /* exp((float)ln 100) is 100 within 2^-22 */
    CU_ASSERT(below_it != above);
    up_lab_close(&lab);
}

static void test_temperature_clamp(void) {
    temperature_is_clamped("ref");
    temperature_is_clamped("cpu");
}

/* ---- schedule and order ---- */

static void test_learning_rate(void) {
    const up_optimizer_settings o = {.lr = 1e-3, .min_lr = 1e-5, .warmup = 10},
                                cold = {.lr = 1e-3, .warmup = 0};
    CU_ASSERT_DOUBLE_EQUAL(up_learning_rate(&o, 0, 100), 1e-4, 1e-18);
    CU_ASSERT_DOUBLE_EQUAL(up_learning_rate(&o, 9, 100), 1e-3, 1e-18);  /* end of the rise */
    CU_ASSERT_DOUBLE_EQUAL(up_learning_rate(&o, 10, 100), 1e-3, 1e-18); /* start of the fall */
    CU_ASSERT_DOUBLE_EQUAL(up_learning_rate(&o, 99, 100), 1e-5, 1e-18); /* last step */
    CU_ASSERT_DOUBLE_EQUAL(up_learning_rate(&o, 10 + 44, 99), (1e-3 + 1e-5) / 2,
                           1e-15);                                       /* half way: 10..98 */
    CU_ASSERT_DOUBLE_EQUAL(up_learning_rate(&o, 500, 100), 1e-5, 1e-18); /* behind the end */
    CU_ASSERT_DOUBLE_EQUAL(up_learning_rate(&o, 4, 5), 5e-4, 1e-18);     /* all of it warm-up */
    CU_ASSERT_DOUBLE_EQUAL(up_learning_rate(&o, 10, 11), 1e-3, 1e-18);
    CU_ASSERT_DOUBLE_EQUAL(up_learning_rate(&cold, 0, 100), 1e-3, 1e-18);
    CU_ASSERT_DOUBLE_EQUAL(up_learning_rate(&cold, 0, 1), 1e-3, 1e-18);
    CU_ASSERT_DOUBLE_EQUAL(up_learning_rate(&cold, 1, 2), 0, 1e-18);
    for (int step = 11; step < 100; step++)
        CU_ASSERT(up_learning_rate(&o, step, 100) < up_learning_rate(&o, step - 1, 100));
}

static void test_order_of_tasks(void) {
    enum { N = 40000, TASKS = 4 };
    up_task_settings tasks[TASKS] = {{.weight = 1, .batch = 3},
                                     {.weight = 0, .batch = 5},
                                     {.weight = 2.5, .batch = 7},
                                     {.weight = 0.5, .batch = 1}};
    up_settings s = {.seed = (int64_t)up_test_seed(),
                     .steps = N / 4,
                     .accumulate = 4,
                     .tasks = tasks,
                     .task_count = TASKS};
    up_order_entry *order, *again;
    UP_ASSERT_OK(up_order_make(&s, &order));
    UP_ASSERT_OK(up_order_make(&s, &again));
    CU_ASSERT(!memcmp(order, again, N * sizeof *order));
    free(again);
    int64_t drawn[TASKS] = {0};
    int gaps = 0;
    for (int i = 0; i < N; i++) {
        CU_ASSERT_FATAL(order[i].source >= 0 && order[i].source < TASKS);
        gaps += order[i].first != drawn[order[i].source] * tasks[order[i].source].batch;
        drawn[order[i].source]++;
    }
    CU_ASSERT_EQUAL(gaps, 0);
    CU_ASSERT_EQUAL(drawn[1], 0);
    double chi = 0;
    for (int t = 0; t < TASKS; t++) {
        double wanted = N * tasks[t].weight / 4;
        if (wanted > 0) chi += ((double)drawn[t] - wanted) * ((double)drawn[t] - wanted) / wanted;
    }
    if (!(chi < 27.6))
        fprintf(stderr, "chi-square %.1f, UP_TEST_SEED=%llu\n", chi, (unsigned long long)up_test_seed());
    CU_ASSERT(chi < 27.6); /* 2 degrees of freedom: exceeded once in a million seeds */
    free(order);
}

static void test_epochs_are_permutations(void) {
    static const size_t sizes[] = {1, 2, 3, 7, 64, 1000};
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        size_t n = sizes[k], moved = 0, apart = 0;
        int *seen = calloc(n, sizeof *seen), wrong = 0;
        for (int epoch = 0; epoch < 3; epoch++) {
            for (size_t i = 0; i < n; i++) {
                size_t row = up_order_row(up_test_seed(), 2, n, (int64_t)(epoch * n + i));
                CU_ASSERT_FATAL(row < n);
                wrong += seen[row]++ != epoch;
                moved += row != up_order_row(up_test_seed(), 2, n, (int64_t)i);
                apart += row != up_order_row(up_test_seed(), 3, n, (int64_t)(epoch * n + i));
            }
        }
        CU_ASSERT_EQUAL(wrong, 0);
        if (n >= 64) CU_ASSERT(moved > n && apart > n); /* epochs and sources have orders of their own */
        free(seen);
    }
}

static void test_task_table(void) {
    int count = 0;
    for (; up_tasks_table[count].name; count++) {
        const up_task *t = &up_tasks_table[count];
        CU_ASSERT_PTR_NOT_NULL_FATAL(up_task_names[count]);
        CU_ASSERT_STRING_EQUAL(t->name, up_task_names[count]);
        CU_ASSERT_PTR_EQUAL(up_task_find(t->name), t);
        CU_ASSERT(t->image || t->video || t->text);
        CU_ASSERT(t->smoothing >= 0 && t->smoothing < 1);
        if (!t->temperature) continue;
        const up_task *lender = up_task_find(t->temperature);
        CU_ASSERT(lender &&
                  !lender->temperature); /* a borrowed temperature belongs to a task that is trained */
    }
    CU_ASSERT_PTR_NULL(up_task_names[count]);
    CU_ASSERT_PTR_NULL(up_task_find("no such task"));
    up_config c; /* the paper's preset has a temperature for each task that can be trained, and no other */
    UP_ASSERT_OK(up_config_preset("base", &c));
    for (int i = 0; i < count; i++)
        CU_ASSERT_EQUAL(up_config_task(&c, up_tasks_table[i].name) >= 0, !up_tasks_table[i].temperature);
}

const up_test up_tests[] = {
    {"learning rate", test_learning_rate},
    {"order of tasks", test_order_of_tasks},
    {"epochs are permutations", test_epochs_are_permutations},
    {"task table", test_task_table},
    {"gradient is the slope", test_gradient_is_the_slope},
    {"halves make the whole", test_halves_make_the_whole},
    {"temperature clamp", test_temperature_clamp},
    {"whole steps behind guard", test_whole_steps_behind_guard},
    {"the loop is the lab", test_the_loop_is_the_lab},
    {"cpu follows ref", test_cpu_follows_ref},
    {"not finite: ref", test_not_finite_ref},
    {"not finite: cpu", test_not_finite_cpu},
    {"skipped steps are told", test_skipped_steps_are_told},
    {"stop and resume: ref", test_stop_and_resume_ref},
    {"stop and resume: cpu", test_stop_and_resume_cpu},
    {"stop after each step", test_stop_after_each_step},
    {"killed at any moment", test_killed_at_any_moment},
    {"damaged checkpoints", test_damaged_checkpoints},
    {"false counts", test_false_counts},
    {"nothing whole is left", test_nothing_whole_is_left},
    {"refusals", test_refusals},
    {"full disk", test_full_disk},
    {NULL, NULL},
};
