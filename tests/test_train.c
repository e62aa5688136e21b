/* test_train.c - training as a whole: stopped, killed, damaged, starved of disk and fed with NaN, it ends at
 * the same bytes or says why not. */
#include "tests/lab.h"
#include "tests/support.h"
#include "files/file.h"
#include "files/released.h"
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
    const char *more, *also;    /* more overrides, or NULL */
    volatile sig_atomic_t *stop;
} launch;

static up_status train(const launch *l) {
    char run[600], workers[32], every[40];
    snprintf(run, sizeof run, "run=%s", l->run);
    snprintf(workers, sizeof workers, "workers=%d", l->workers ? l->workers : 2);
    snprintf(every, sizeof every, "checkpoint_every=%d", l->every ? l->every : 4);
    const char *overrides[5] = {run, workers, every};
    size_t count = 3;
    if (l->more) overrides[count++] = l->more;
    if (l->also) overrides[count++] = l->also;
    const up_train_options options = {.backend = l->backend ? l->backend : "ref",
                                      .threads = 2,
                                      .resume = l->resume,
                                      .quiet = 1,
                                      .stop = l->stop};
    return up_train(up_lab_path("train.yaml"), overrides, count, &options);
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
        static const char *const timed[] = {"seconds",           "tokens_per_second", "samples_per_second",
                                            "data_wait_seconds", "memory_mib",        "gflops"};
        for (int i = 0; i < 6; i++) json_object_del(object, timed[i]);
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

/* An uninterrupted run of each backend at each precision, made once. */
static const outcome *reference_at(const char *backend, const char *precision) {
    enum { KINDS = 4 };
    static struct {
        char name[40];
        outcome outcome;
    } made[KINDS];
    char name[40], setting[40];
    int i = 0;
    snprintf(name, sizeof name, "whole-%s-%s", backend, precision);
    snprintf(setting, sizeof setting, "precision=%s", precision);
    while (i < KINDS && *made[i].name && strcmp(made[i].name, name)) i++;
    CU_ASSERT_FATAL(i < KINDS);
    if (*made[i].name) return &made[i].outcome;
    up_lab_config();
    UP_ASSERT_OK(train(&(launch){.run = up_lab_path(name), .backend = backend, .more = setting}));
    strcpy(made[i].name, name);
    made[i].outcome = outcome_of(up_lab_path(name));
    return &made[i].outcome;
}

static const outcome *reference(const char *backend) {
    return reference_at(backend, "f32");
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
    __atomic_store_n(&w->stop, 1, __ATOMIC_RELAXED);
    return NULL;
}

static up_status train_until(const launch *l, int lines) {
    watcher w = {.lines = lines};
    pthread_t thread;
    launch watched = *l;
    watched.stop = &w.stop;
    snprintf(w.path, sizeof w.path, "%s/metrics.jsonl", l->run);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, watch, &w), 0);
    up_status status = train(&watched);
    __atomic_store_n(&w.ended, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    return status;
}

static void stop_and_resume(const char *backend, const char *precision) {
    const outcome *want = reference_at(backend, precision);
    int first = 1 + (int)below(4), second = first + 1 + (int)below(4), stops = 0;
    char setting[40];
    snprintf(setting, sizeof setting, "precision=%s", precision);
    launch l = {.run = up_lab_path("stopped"), .backend = backend, .workers = 1, .more = setting};
    printf("[seed %llu: stops after %d and %d] ", (unsigned long long)up_test_seed(), first, second);
    up_status status = train_until(&l, first);
    stops += status == UP_ERR_INTERRUPTED;
    l.resume = 1;
    if (status == UP_ERR_INTERRUPTED) {
        EXPECT_ERROR(status, UP_ERR_INTERRUPTED, "stopped after step", "--resume", l.run);
        CU_ASSERT(!exists(l.run, "model.safetensors"));
        l.workers = 4;
        status = train_until(&l, second);
        stops += status == UP_ERR_INTERRUPTED;
    }
    l.workers = 3;
    if (status == UP_ERR_INTERRUPTED) status = train(&l);
    UP_ASSERT_OK(status);
    CU_ASSERT(stops > 0);
    expect_same(l.run, want);
    UP_ASSERT_OK(train(&l)); /* at its end: nothing changes */
    expect_same(l.run, want);
    up_lab_remove(l.run);
}

static void test_stop_and_resume_ref(void) {
    stop_and_resume("ref", "f32");
}
static void test_stop_and_resume_cpu(void) {
    stop_and_resume("cpu", "f32");
}
static void test_stop_and_resume_bf16(void) {
    stop_and_resume("ref", "bf16");
}
/* The loss scale begins so high that some steps overflow: it and its count of good steps go on, too. */
static void test_stop_and_resume_f16(void) {
    stop_and_resume("ref", "f16");
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

/* ---- other settings from a checkpoint on ---- */

static json_t *state_at(const char *run, int step) {
    char path[700];
    snprintf(path, sizeof path, "%s/checkpoint-%08d/state.json", run, step);
    json_t *state = json_load_file(path, 0, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(state);
    return state;
}

static int64_t count_in(const json_t *state, const char *name) {
    return (int64_t)json_integer_value(json_object_get(state, name));
}

/* Samples of task i that were used. */
static int64_t samples_in(const json_t *state, size_t i) {
    return count_in(json_array_get(json_object_get(state, "samples"), i), "count");
}

/* Neither repeats nor skips a sample: the counts go on from those of the checkpoint, in steps of the new
 * batch; and every line that has changed is told. */
static void test_resume_with_other_settings(void) {
    const char *run = up_lab_path("changed"), *words = up_lab_path("stderr");
    volatile sig_atomic_t stop = 1;
    int64_t drawn = 0;
    up_lab_config();
    CU_ASSERT_EQUAL_FATAL(train(&(launch){.run = run, .stop = &stop}), UP_ERR_INTERRUPTED);
    CU_ASSERT_EQUAL_FATAL(train(&(launch){.run = run, .stop = &stop, .resume = 1}), UP_ERR_INTERRUPTED);
    json_t *before = state_at(run, 2);
    int kept = hear(words);
    up_status status =
        train(&(launch){.run = run, .resume = 1, .more = "accumulate=3", .also = "tasks.0.batch=5"});
    char *said = heard(words, kept);
    UP_ASSERT_OK(status);
    json_t *after = state_at(run, STEPS);
    size_t tasks = json_array_size(json_object_get(before, "samples"));
    CU_ASSERT_EQUAL(count_in(before, "iterations"), 2 * 2);
    CU_ASSERT_EQUAL(count_in(after, "iterations"), 2 * 2 + (STEPS - 2) * 3);
    CU_ASSERT_EQUAL(tasks, json_array_size(json_object_get(after, "samples")));
    for (size_t i = 0; i < tasks; i++) {
        int64_t more = samples_in(after, i) - samples_in(before, i), batch = i ? 3 : 5;
        CU_ASSERT(more >= 0 && more % batch == 0);
        drawn += more / batch;
    }
    CU_ASSERT_EQUAL(drawn, (STEPS - 2) * 3);
    CU_ASSERT_PTR_NOT_NULL(strstr(said, "was \"accumulate: 2\", is \"accumulate: 3\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(said, "  batch: 3\", is \""));
    CU_ASSERT_PTR_NOT_NULL(strstr(said, "  batch: 5\""));
    json_decref(before);
    json_decref(after);
    free(said);
    up_lab_remove(run);
}

/* Lines that came, went and changed, told one by one. */
static void test_changes_are_told(void) {
    static const struct {
        const char *then, *now, *told[4];
    } cases[] = {
        {"a: 1\nb: 2\n", "a: 1\nb: 2\n", {NULL}},
        {"a: 1\nb: 2\nc: 3\n",
         "a: 7\nb: 2\nc: 4\n",
         {"was \"a: 1\", is \"a: 7\"", "was \"c: 3\", is \"c: 4\""}},
        {"a: 1\nb: 2\nc: 3\n", "a: 1\nc: 3\nd: 4\n", {"was \"b: 2\", is \"\"", "was \"\", is \"d: 4\""}},
        {"", "a: 1\nb: 2", {"was \"\", is \"a: 1\"", "was \"\", is \"b: 2\""}},
        {"x\ny\n", "", {"was \"x\", is \"\"", "was \"y\", is \"\""}},
    };
    const char *words = up_lab_path("stderr");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int wanted = 0, lines = 0;
        int kept = hear(words);
        up_status status = up_changes_tell("F", cases[i].then, cases[i].now);
        char *said = heard(words, kept);
        UP_ASSERT_OK(status);
        for (; cases[i].told[wanted]; wanted++) CU_ASSERT_PTR_NOT_NULL(strstr(said, cases[i].told[wanted]));
        for (const char *c = said; *c; c++) lines += *c == '\n';
        CU_ASSERT_EQUAL(lines, wanted);
        free(said);
    }
}

/* Tensors that did not learn have no moments: a run cannot go on with them. */
static void test_resume_with_other_groups(void) {
    const char *run = up_lab_path("regrouped");
    volatile sig_atomic_t stop = 1;
    launch l = {.run = run, .stop = &stop, .more = "learn=[spe, norm]"};
    up_lab_config();
    CU_ASSERT_EQUAL_FATAL(train(&l), UP_ERR_INTERRUPTED);
    l.resume = 1;
    CU_ASSERT_EQUAL(train(&l), UP_ERR_INTERRUPTED);
    l.more = NULL;
    EXPECT_ERROR(train(&l), UP_ERR_ARGUMENT, "checkpoint-00000002/optimizer.safetensors", "learn");
    CU_ASSERT(exists(run, "checkpoint-00000002"));
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
    const struct {
        const char *key;
        json_t *value;
    } beyond[] = {{"updates", json_integer(INT64_MAX)},    {"skipped", json_integer(-1)},
                  {"iterations", json_integer(INT64_MAX)}, {"good_steps", json_integer(-1)},
                  {"loss_scale", json_real(1e308)},        {"loss_scale", json_real(1e-320)}};
    for (size_t i = 0; i < sizeof beyond / sizeof beyond[0]; i++) {
        json_t *whole = json_load_file(path, 0, NULL), *changed = json_deep_copy(whole);
        json_object_set_new(changed, beyond[i].key, beyond[i].value);
        CU_ASSERT_EQUAL(json_dump_file(changed, path, 0), 0);
        EXPECT_ERROR(train(&(launch){.run = run, .resume = 1}), UP_ERR_FORMAT, path, "no ");
        CU_ASSERT_EQUAL(json_dump_file(whole, path, 0), 0);
        json_decref(whole);
        json_decref(changed);
    }
    json_t *state = json_load_file(path, 0, NULL), *old = json_deep_copy(state);
    json_object_set_new(old, "format", json_string("uniperceiver checkpoint 1"));
    CU_ASSERT_EQUAL(json_dump_file(old, path, 0), 0);
    EXPECT_ERROR(train(&(launch){.run = run, .resume = 1}), UP_ERR_ARGUMENT, path,
                 "uniperceiver checkpoint 1");
    json_object_del(old, "samples");
    json_object_set(old, "format", json_object_get(state, "format"));
    CU_ASSERT_EQUAL(json_dump_file(old, path, 0), 0);
    EXPECT_ERROR(train(&(launch){.run = run, .resume = 1}), UP_ERR_FORMAT, path, "no counts of samples");
    CU_ASSERT_EQUAL(json_dump_file(state, path, 0), 0);
    json_decref(state);
    json_decref(old);
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
                 "checkpoint-00000001/model.safetensors", "text.token.weight", "49410 x 16", "49410 x 8");
    EXPECT_ERROR(train(&(launch){.run = run, .resume = 1, .more = "model.heads=4"}), UP_ERR_ARGUMENT,
                 "checkpoint-00000001/model.safetensors", "2 heads", "4");
    EXPECT_ERROR(train(&(launch){.run = run, .resume = 1, .more = "model.layers=1"}), UP_ERR_ARGUMENT,
                 "checkpoint-00000001/model.safetensors", "layers.1.");
    EXPECT_ERROR(train(&(launch){.run = file}), UP_ERR_IO, file, "wanted a folder");
    snprintf(below_file, sizeof below_file, "%s/deeper", file);
    EXPECT_ERROR(train(&(launch){.run = below_file}), UP_ERR_IO, file);
    EXPECT_ERROR(train(&(launch){.run = "/proc/uniperceiver"}), UP_ERR_IO, "/proc/uniperceiver");
    EXPECT_ERROR(up_train(NULL, NULL, 0, NULL), UP_ERR_ARGUMENT, "NULL");
    EXPECT_ERROR(up_train(up_lab_path("train.yaml"), NULL, 1, NULL), UP_ERR_ARGUMENT, "no list");
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
    /* 49410 x 16 floats are 3.2 MB of weights, the moments twice that */
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

/* ---- the loop ---- */

/* A number of each line, added up. */
static int64_t total_of(const char *lines, const char *name) {
    int64_t total = 0;
    for (const char *line = lines, *end; (end = strchr(line, '\n')); line = end + 1) {
        json_t *object = json_loadb(line, (size_t)(end - line), 0, NULL);
        total += (int64_t)json_integer_value(json_object_get(object, name));
        json_decref(object);
    }
    return total;
}

static void test_the_loop_is_the_lab(void) { /* up_train against the steps spelled out in lab.c */
    const outcome *want = reference("ref");
    up_lab lab;
    void *got;
    size_t size;
    up_backend *backend;
    UP_ASSERT_OK(up_backend_ref(&backend));
    up_lab_open(&lab, backend, NULL, 0);
    for (int i = 0; i < STEPS; i++) CU_ASSERT(!up_lab_step(&lab).skipped);
    UP_ASSERT_OK(up_model_write(lab.model, up_lab_path("lab.safetensors")));
    UP_ASSERT_OK(up_file_read(up_lab_path("lab.safetensors"), &got, &size));
    CU_ASSERT(size == want->size && !memcmp(got, want->model, size));
    CU_ASSERT_EQUAL(total_of(want->lines, "input_tokens"), lab.stepper.input_tokens);
    CU_ASSERT_EQUAL(total_of(want->lines, "target_tokens"), up_stepper_set_tokens(&lab.stepper));
    CU_ASSERT(lab.stepper.input_tokens > 0 && up_stepper_set_tokens(&lab.stepper) > 0);
    free(got);
    up_lab_close(&lab);
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

static int same_order(const up_order_entry *a, const up_order_entry *b, int n) {
    int same = 0;
    for (int i = 0; i < n; i++) same += a[i].source == b[i].source && a[i].first == b[i].first;
    return same == n;
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
                     .mixed = true,
                     .tasks = tasks,
                     .task_count = TASKS};
    up_order_entry *order, *again;
    const up_rounds alone = {.ranks = 1}, middle = {.first = N / 2, .step = N / 8, .ranks = 1};
    UP_ASSERT_OK(up_order_make(&s, &alone, N, NULL, &order));
    UP_ASSERT_OK(up_order_make(&s, &alone, N, NULL, &again));
    CU_ASSERT(same_order(order, again, N));
    free(again);
    int64_t taken[TASKS] = {0}; /* up to the middle; from there on it is the same order */
    for (int i = 0; i < N / 2; i++) taken[order[i].source] += tasks[order[i].source].batch;
    UP_ASSERT_OK(up_order_make(&s, &middle, N / 2, taken, &again));
    CU_ASSERT(same_order(order + N / 2, again, N / 2));
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
        const up_dataset data = {.count = n};
        int *seen = calloc(n, sizeof *seen), wrong = 0;
        for (int epoch = 0; epoch < 3; epoch++) {
            for (size_t i = 0; i < n; i++) {
                size_t row = up_order_row(up_test_seed(), 2, &data, (int64_t)(epoch * n + i));
                CU_ASSERT_FATAL(row < n);
                wrong += seen[row]++ != epoch;
                moved += row != up_order_row(up_test_seed(), 2, &data, (int64_t)i);
                apart += row != up_order_row(up_test_seed(), 3, &data, (int64_t)(epoch * n + i));
            }
        }
        CU_ASSERT_EQUAL(wrong, 0);
        if (n >= 64) CU_ASSERT(moved > n && apart > n); /* epochs and sources have orders of their own */
        free(seen);
    }
}

static void test_task_table(void) {
    int count = 0;
    up_config c;
    UP_ASSERT_OK(up_config_preset("base", &c));
    for (const up_task *t = up_tasks_table; t->name; t++, count++) {
        CU_ASSERT_PTR_EQUAL(up_task_find(t->name), t);
        CU_ASSERT(t->image || t->video || t->text);
        CU_ASSERT(t->smoothing >= 0 && t->smoothing < 1);
        CU_ASSERT(!t->text || t->text->put);
        CU_ASSERT(!t->head || t->targets == UP_TARGETS_CLASSES);
        CU_ASSERT_EQUAL(t->metric == UP_METRIC_RECALL, t->targets == UP_TARGETS_TEXTS);
        CU_ASSERT_EQUAL(t->metric == UP_METRIC_ACCURACY, t->targets == UP_TARGETS_CLASSES);
        /* a task of which the paper's preset has no temperature borrows one of those that it has */
        int own = up_config_task(&c, t->name), temperature = up_task_temperature(&c, t->name), lenders = 0;
        CU_ASSERT_FATAL(temperature >= 0 && temperature < c.tasks);
        CU_ASSERT(own < 0 || temperature == own);
        for (int i = 0; i < UP_TASK_NEAREST && t->nearest[i]; i++)
            lenders += up_config_task(&c, t->nearest[i]) >= 0;
        CU_ASSERT(own >= 0 || lenders > 0);
    }
    CU_ASSERT_EQUAL(count, 12);
    CU_ASSERT_PTR_NULL(up_task_find("no such task"));
    CU_ASSERT_EQUAL(up_task_temperature(&c, "no such task"), -1);
    CU_ASSERT_EQUAL(up_task_temperature(&c, "text_mlm"), up_config_task(&c, "mlm"));
    CU_ASSERT_EQUAL(up_task_temperature(&c, "vqa"), up_config_task(&c, "image_mlm"));
    UP_ASSERT_OK(up_config_preset("released-base", &c));
    CU_ASSERT_EQUAL(up_task_temperature(&c, "image_text_retrieval"), up_config_task(&c, "retrieve"));
    CU_ASSERT_EQUAL(up_task_temperature(&c, "image_mlm"), up_config_task(&c, "mlm"));
}

/* ---- runs that begin with a model ---- */

enum { TUNED_LAYERS = 2, TUNED_WIDTH = 16, TUNED_CLASSES = 3 };

/* A classification of pictures, tuned on the model that the lab's run ends with. */
static const char *tune_config(void) {
    char yaml[1024];
    reference("ref");
    snprintf(yaml, sizeof yaml,
             "run: %s\nseed: 5\nsteps: %d\nlog_every: 1\ncheckpoint_every: 4\nworkers: 2\ninit_from: %s\n"
             "tune: prompts\noptimizer: {lr: 1e-2}\ntasks:\n"
             "  - {kind: image_classification, data: %s, batch: 3, text_limit: 12}\n",
             up_lab_path("tuning"), STEPS, up_lab_path("whole-ref-f32"), up_lab_path("pictures.tsv"));
    return up_lab_text("tune.yaml", yaml);
}

static up_status tune(const char *run, int resume, volatile sig_atomic_t *stop, const char *more) {
    char setting[600];
    snprintf(setting, sizeof setting, "run=%s", run);
    const char *overrides[2] = {setting, more};
    const up_train_options options = {
        .backend = "ref", .threads = 2, .resume = resume, .quiet = 1, .stop = stop};
    return up_train(tune_config(), overrides, more ? 2 : 1, &options);
}

static void *read_in(const char *run, const char *name, size_t *size) {
    char path[700];
    void *bytes = NULL;
    snprintf(path, sizeof path, "%s/%s", run, name);
    UP_ASSERT_OK(up_file_read(path, &bytes, size));
    return bytes;
}

/* What a tuned task's file holds, number by number: Table 9 at this size, the head's bias and alpha, and the
 * temperatures. */
static void expect_tuned_file(const char *run, const char *name, int temperatures) {
    char path[700];
    int64_t values = 0, prompts = 0;
    up_safetensors *file;
    snprintf(path, sizeof path, "%s/%s", run, name);
    UP_ASSERT_OK(up_safetensors_open(path, &file));
    for (size_t i = 0; i < up_safetensors_count(file); i++) {
        const up_safetensor *t = up_safetensors_at(file, i);
        values += t->count;
        if (strstr(t->name, ".prompts")) prompts += t->count;
    }
    CU_ASSERT_PTR_NOT_NULL(up_safetensors_metadata(file, "base"));
    CU_ASSERT_STRING_EQUAL(up_safetensors_metadata(file, "classes"),
                           "[\"photograph\",\"drawing\",\"chart\"]");
    up_safetensors_close(file);
    CU_ASSERT_EQUAL(prompts, TUNED_LAYERS * 10 * 2 * TUNED_WIDTH);
    int64_t norms = (2 * TUNED_LAYERS + 3) * 2 * TUNED_WIDTH,
            head = TUNED_CLASSES * TUNED_WIDTH + TUNED_CLASSES + 1;
    CU_ASSERT_EQUAL(values, TUNED_WIDTH + norms + prompts + head + temperatures);
}

/* Stopped and resumed at each step, a tuning run ends at the same bytes; its checkpoints hold a tuned task,
 * and the model under it keeps every byte. */
static void test_tuning_resumes(void) {
    const char *whole = up_lab_path("tuned-whole"), *run = up_lab_path("tuned-stopped");
    volatile sig_atomic_t stop = 1;
    size_t before_size, after_size, want_size, got_size;
    UP_ASSERT_OK(tune(whole, 0, NULL, NULL));
    void *before = read_in(up_lab_path("whole-ref-f32"), "model.safetensors", &before_size);
    for (int step = 1; step <= 5; step++) {
        char said[40];
        snprintf(said, sizeof said, "stopped after step %d of %d", step, STEPS);
        EXPECT_ERROR(tune(run, step > 1, &stop, NULL), UP_ERR_INTERRUPTED, said);
    }
    CU_ASSERT(!exists(run, "tuned.safetensors"));
    UP_ASSERT_OK(tune(run, 1, NULL, NULL));
    void *want = read_in(whole, "tuned.safetensors", &want_size);
    void *got = read_in(run, "tuned.safetensors", &got_size);
    void *after = read_in(up_lab_path("whole-ref-f32"), "model.safetensors", &after_size);
    CU_ASSERT(want_size == got_size && !memcmp(want, got, want_size));
    CU_ASSERT(before_size == after_size && !memcmp(before, after, before_size));
    CU_ASSERT(!exists(run, "model.safetensors"));
    int temperatures = up_lab_clips() ? 8 : 7;
    expect_tuned_file(run, "tuned.safetensors", temperatures);
    expect_tuned_file(run, "checkpoint-00000012/model.safetensors", temperatures);
    free(before);
    free(want);
    free(got);
    free(after);
    up_lab_remove(whole);
    up_lab_remove(run);
}

/* Exactly four groups have moved from where they began: <SPE>, norms, prompts, head. */
static void test_tuning_moves_four_groups(void) {
    const char *run = up_lab_path("tuned-groups");
    char path[700];
    up_backend *b = NULL;
    up_model *base, *tuned, *fresh;
    UP_ASSERT_OK(tune(run, 0, NULL, NULL));
    UP_ASSERT_OK(up_backend_create("ref", 1, &b));
    snprintf(path, sizeof path, "%s/model.safetensors", up_lab_path("whole-ref-f32"));
    UP_ASSERT_OK(up_model_read(b, path, &base));
    snprintf(path, sizeof path, "%s/tuned.safetensors", run);
    UP_ASSERT_OK(up_overlay_read(base, path, &tuned));
    UP_ASSERT_OK(up_overlay_create(base, 10, 2, TUNED_CLASSES, 5, &fresh)); /* the run's seed */
    const up_params *p = up_model_params(tuned);
    for (int i = 0; i < p->count; i++) {
        up_view was = up_model_weight(fresh, i), is = up_model_weight(tuned, i);
        size_t bytes = (size_t)(is.rows * is.cols) * sizeof(float);
        float *x = malloc(bytes), *y = malloc(bytes);
        UP_ASSERT_OK(b->ops->download(b, x, was));
        UP_ASSERT_OK(b->ops->download(b, y, is));
        up_param_group g = p->list[i].group;
        int learns =
            g == UP_GROUP_SPE || g == UP_GROUP_NORM || g == UP_GROUP_PROMPT || g == UP_GROUP_LINEAR_HEAD;
        int video = !strncmp(p->list[i].name, "video.norm", 10); /* no clip was seen */
        CU_ASSERT_EQUAL(memcmp(x, y, bytes) != 0, learns && !video);
        free(x);
        free(y);
    }
    up_model_destroy(tuned);
    up_model_destroy(fresh);
    up_model_destroy(base);
    up_backend_free(b);
    up_lab_remove(run);
}

/* Everything: a model of its own, from weights, from a checkpoint, and from a tuned task over a model. */
static void test_fine_tuning(void) {
    const char *run = up_lab_path("fine"), *tuned = up_lab_path("fine-tuned");
    char from[700], over[700];
    up_backend *b = NULL;
    up_model *m;
    float alpha;
    UP_ASSERT_OK(up_backend_create("ref", 1, &b));
    UP_ASSERT_OK(tune(tuned, 0, NULL, NULL));
    UP_ASSERT_OK(tune(run, 0, NULL, "tune=all"));
    CU_ASSERT(exists(run, "model.safetensors") && !exists(run, "tuned.safetensors"));
    up_lab_remove(run);
    snprintf(from, sizeof from, "init_from=%s/checkpoint-%08d", up_lab_path("whole-ref-f32"), STEPS);
    const char *checkpoint[] = {from, "tune=all", "tasks.0.head=linear", NULL};
    snprintf(over, sizeof over, "tuned=%s/tuned.safetensors", tuned);
    const char *began[] = {over, "tune=all", "tasks.0.head=joint", NULL};
    const char *const *cases[] = {checkpoint, began};
    for (int i = 0; i < 2; i++) {
        char setting[600], path[700];
        int count;
        snprintf(setting, sizeof setting, "run=%s", run);
        const char *overrides[] = {setting, cases[i][0], cases[i][1], cases[i][2]};
        UP_ASSERT_OK(
            up_train(tune_config(), overrides, 4, &(up_train_options){.backend = "ref", .quiet = 1}));
        snprintf(path, sizeof path, "%s/model.safetensors", run);
        UP_ASSERT_OK(up_model_read(b, path, &m));
        CU_ASSERT_PTR_NOT_NULL(up_model_classes(m, &count));
        CU_ASSERT_EQUAL(count, TUNED_CLASSES);
        CU_ASSERT_EQUAL(up_model_config(m)->prompts, i ? 10 : 0);
        UP_ASSERT_OK(b->ops->download(b, &alpha, up_model_weight(m, up_model_params(m)->head_alpha)));
        CU_ASSERT_EQUAL(alpha == 0, !i); /* a feature extractor's similarity takes no part */
        up_model_destroy(m);
        up_lab_remove(run);
    }
    up_backend_free(b);
    EXPECT_ERROR(tune(run, 0, NULL, "learn=[encoder]"), UP_ERR_ARGUMENT, "no other group can learn");
    EXPECT_ERROR(tune(run, 0, NULL, "model.width=32"), UP_ERR_ARGUMENT,
                 "its width is 16, the configuration's 32");
    EXPECT_ERROR(tune(run, 0, NULL, "tasks.0.head=linear"), UP_ERR_ARGUMENT, "head: linear wants tune: all");
    EXPECT_ERROR(tune(run, 0, NULL, "init_from=null"), UP_ERR_ARGUMENT, "tune: prompts wants init_from");
    up_lab_remove(tuned);
}

/* A small model of the released architecture, for pictures of 2 x 2 patches, and what `import` makes of it
 * for others of 3 x 3. */
static void make_stages(const char *first, const char *imported) {
    const up_released_options larger = {.heads = 2, .image_size = 24};
    const char *released = up_lab_path("stage.pth");
    up_config c;
    up_backend *b;
    up_model *m;
    UP_ASSERT_OK(up_config_preset("released-base", &c));
    c.layers = c.heads = 2;
    c.width = c.text_positions = 16;
    c.ffn = 64;
    c.patch = 8;
    c.frames = 2;
    c.image_size = c.image_resize = c.video_resize = 16;
    UP_ASSERT_OK(up_backend_create("ref", 1, &b));
    UP_ASSERT_OK(up_model_create(b, &c, 7, &m));
    UP_ASSERT_OK(up_model_write(m, first));
    up_model_destroy(m);
    up_backend_free(b);
    UP_ASSERT_OK(up_released_export(first, released));
    UP_ASSERT_OK(up_released_import(released, &larger, imported));
}

/* Pre-training in two stages: a run over larger pictures begins with the table of positions that `import`
 * would have made, and with all other tensors as they were. A rate of 0 shows what it begins with. */
static void test_second_stage(void) {
    const char *run = up_lab_path("stage-2"), *first = up_lab_path("stage-1.safetensors");
    const char *imported = up_lab_path("stage-imported.safetensors");
    char from[700], to[700], path[700];
    up_safetensors *was, *want, *got;
    make_stages(first, imported);
    snprintf(from, sizeof from, "init_from=%s", first);
    snprintf(to, sizeof to, "run=%s", run);
    const char *stage[] = {from, to, "model.image_size=24", "tune=all", "optimizer.lr=0", "steps=2"};
    const up_train_options options = {.backend = "ref", .quiet = 1};
    UP_ASSERT_OK(up_train(tune_config(), stage, 6, &options));
    snprintf(path, sizeof path, "%s/model.safetensors", run);
    UP_ASSERT_OK(up_safetensors_open(first, &was));
    UP_ASSERT_OK(up_safetensors_open(imported, &want));
    UP_ASSERT_OK(up_safetensors_open(path, &got));
    CU_ASSERT(up_safetensors_count(got) > up_safetensors_count(want)); /* a temperature more */
    for (size_t i = 0; i < up_safetensors_count(want); i++) {
        const up_safetensor *w = up_safetensors_at(want, i), *g = up_safetensors_find(got, w->name);
        const up_safetensor *before = up_safetensors_find(was, w->name);
        CU_ASSERT_FATAL(g && before && g->bytes == w->bytes);
        CU_ASSERT(!memcmp(g->data, w->data, w->bytes));
        CU_ASSERT_EQUAL(g->bytes != before->bytes, !strcmp(w->name, "patch.space.weight"));
        if (g->bytes == before->bytes) CU_ASSERT(!memcmp(g->data, before->data, g->bytes));
    }
    up_safetensors_close(was);
    up_safetensors_close(want);
    up_safetensors_close(got);
    up_lab_remove(run);
    for (int i = 0; i < 2; i++) { /* an overlay has the tensors of what it shares */
        stage[3] = i ? "tune=head" : "tune=prompts";
        EXPECT_ERROR(up_train(tune_config(), stage, 6, &options), UP_ERR_ARGUMENT,
                     "its image_size is 16, the configuration's 24");
    }
}

const up_test up_tests[] = {
    {"learning rate", test_learning_rate},
    {"order of tasks", test_order_of_tasks},
    {"epochs are permutations", test_epochs_are_permutations},
    {"task table", test_task_table},
    {"the loop is the lab", test_the_loop_is_the_lab},
    {"skipped steps are told", test_skipped_steps_are_told},
    {"stop and resume: ref", test_stop_and_resume_ref},
    {"stop and resume: cpu", test_stop_and_resume_cpu},
    {"stop and resume: bf16", test_stop_and_resume_bf16},
    {"stop and resume: f16", test_stop_and_resume_f16},
    {"resume with other settings", test_resume_with_other_settings},
    {"resume with other groups", test_resume_with_other_groups},
    {"changes are told", test_changes_are_told},
    {"stop after each step", test_stop_after_each_step},
    {"killed at any moment", test_killed_at_any_moment},
    {"damaged checkpoints", test_damaged_checkpoints},
    {"false counts", test_false_counts},
    {"nothing whole is left", test_nothing_whole_is_left},
    {"refusals", test_refusals},
    {"tuning resumes", test_tuning_resumes},
    {"tuning moves four groups", test_tuning_moves_four_groups},
    {"fine-tuning", test_fine_tuning},
    {"second stage", test_second_stage},
    {"full disk", test_full_disk},
    {NULL, NULL},
};
