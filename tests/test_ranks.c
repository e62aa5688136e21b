/* test_ranks.c - several processes under mpirun: the same training as one process with the same global batch;
 * divided target sets; a rank that dies, hangs or is told to stop; going on with another number of ranks. */
#include "files/clock.h"
#include "files/file.h"
#include "files/safetensors.h"
#include "tests/lab.h"
#include "tests/support.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

const char *const up_suite_name = "ranks";

enum { MOST_ARGUMENTS = 40, STEPS = 20 };

const char *up_suite_lacks(void) {
    const char *mpirun = getenv("UP_MPIRUN"), *program = getenv("UP_BINARY");
    if (!mpirun || access(mpirun, X_OK)) return "there is no mpirun, or the program was built without MPI";
    return program && !access(program, X_OK) ? NULL : "there is no program (UP_BINARY)";
}

/* ---- runs ---- */

/* A run in a folder of its own: "run" under the laboratory's. */
typedef struct job {
    char folder[512], log[600];
    pid_t process;
    double begun;
} job;

static void put(const char **arguments, int *count, const char *argument) {
    CU_ASSERT_FATAL(*count < MOST_ARGUMENTS - 1);
    arguments[(*count)++] = argument;
    arguments[*count] = NULL;
}

/* Begin `uniperceiver train`; ranks 0: without mpirun. `more` ends with NULL; NAME=value in capitals goes
 * into the environment. */
static job start(const char *name, int ranks, const char *const *more) {
    const char *arguments[MOST_ARGUMENTS];
    char number[16], run[600];
    int count = 0;
    job j = {.begun = up_now()};
    snprintf(j.folder, sizeof j.folder, "%s", up_lab_path(name));
    snprintf(j.log, sizeof j.log, "%s.log", j.folder);
    snprintf(number, sizeof number, "%d", ranks);
    snprintf(run, sizeof run, "run=%s", j.folder);
    if (ranks) {
        put(arguments, &count, getenv("UP_MPIRUN"));
        put(arguments, &count, "-n");
        put(arguments, &count, number);
    }
    put(arguments, &count, getenv("UP_BINARY"));
    put(arguments, &count, "train");
    put(arguments, &count, up_lab_config());
    put(arguments, &count, run);
    for (int i = 0; more[i]; i++)
        if (!isupper((unsigned char)more[i][0])) put(arguments, &count, more[i]);
    j.process = fork();
    if (j.process) return j;
    int log = open(j.log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(log, 1);
    dup2(log, 2);
    for (int i = 0; more[i]; i++)
        if (isupper((unsigned char)more[i][0])) putenv((char *)(uintptr_t)more[i]);
    execv(arguments[0], (char *const *)(uintptr_t)arguments);
    _exit(127);
}

/* Its exit code; -1 and killed where it takes longer than `seconds`. */
static int finish(const job *j, double seconds) {
    int status = 0;
    for (double begun = up_now(); up_now() - begun < seconds; usleep(10000))
        if (waitpid(j->process, &status, WNOHANG) == j->process)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    kill(j->process, SIGKILL);
    waitpid(j->process, &status, 0);
    return -1;
}

static char *log_of(const job *j) {
    void *text = NULL;
    size_t size;
    UP_ASSERT_OK(up_file_read(j->log, &text, &size));
    char *end = realloc(text, size + 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(end);
    end[size] = 0;
    return end;
}

static int said(const job *j, const char *words) {
    char *text = log_of(j);
    int found = strstr(text, words) != NULL;
    if (!found) fprintf(stderr, "wanted \"%s\" in:\n%s\n", words, text);
    free(text);
    return found;
}

static job run_to_end(const char *name, int ranks, const char *const *more) {
    job j = start(name, ranks, more);
    int code = finish(&j, 120);
    if (code) CU_ASSERT(said(&j, "nothing at all")); /* shows what was said */
    CU_ASSERT_EQUAL_FATAL(code, 0);
    return j;
}

/* ---- what they gave ---- */

/* A number of a metrics line. */
static double metric(const job *j, int line, const char *key) {
    char path[600], *text = NULL;
    size_t room = 0;
    double value = NAN;
    snprintf(path, sizeof path, "%s/metrics.jsonl", j->folder);
    FILE *file = fopen(path, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    for (int i = 0; i <= line && getline(&text, &room, file) > 0; i++) {
        json_t *object = i == line ? json_loads(text, 0, NULL) : NULL;
        const json_t *number = json_object_get(object, key);
        if (json_is_number(number)) value = json_number_value(number);
        json_decref(object);
    }
    free(text);
    fclose(file);
    return value;
}

/* Needed arithmetic over tokens, whatever time they took. */
static double gflop_a_token(const job *j, int line) {
    return metric(j, line, "gflops") / metric(j, line, "tokens_per_second");
}

/* Mean loss of a line's iterations over all tasks. */
static double loss(const job *j, int line) {
    char path[600], *text = NULL;
    size_t room = 0;
    double sum = 0, count = 0;
    snprintf(path, sizeof path, "%s/metrics.jsonl", j->folder);
    FILE *file = fopen(path, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    for (int i = 0; i <= line && getline(&text, &room, file) > 0; i++) {
        json_t *object = i == line ? json_loads(text, 0, NULL) : NULL, *task;
        const char *name;
        json_object_foreach(json_object_get(object, "tasks"), name, task) {
            double n = json_number_value(json_object_get(task, "iterations"));
            sum += n * json_number_value(json_object_get(task, "loss"));
            count += n;
        }
        json_decref(object);
    }
    free(text);
    fclose(file);
    return sum / count;
}

/* ||a - b|| / ||b|| over all tensors of two files whose names begin alike. */
static double distance(const char *a, const char *b, const char *prefix) {
    up_safetensors *x, *y;
    double off = 0, all = 0;
    UP_ASSERT_OK(up_safetensors_open(a, &x));
    UP_ASSERT_OK(up_safetensors_open(b, &y));
    for (size_t i = 0; i < up_safetensors_count(y); i++) {
        const up_safetensor *q = up_safetensors_at(y, i), *p = up_safetensors_find(x, q->name);
        if (strncmp(q->name, prefix, strlen(prefix))) continue;
        CU_ASSERT_FATAL(p && p->count == q->count);
        float *u = malloc((size_t)q->count * sizeof *u), *v = malloc((size_t)q->count * sizeof *v);
        UP_ASSERT_OK(up_safetensor_to_f32(p, u));
        UP_ASSERT_OK(up_safetensor_to_f32(q, v));
        for (int64_t k = 0; k < q->count; k++) {
            off += ((double)u[k] - v[k]) * ((double)u[k] - v[k]);
            all += (double)v[k] * v[k];
        }
        free(u);
        free(v);
    }
    up_safetensors_close(x);
    up_safetensors_close(y);
    return sqrt(off / all);
}

/* How far a run is from another: in its losses, gradient norms, weights, and first moments, which after one
 * step are the gradients but for a factor. */
typedef struct apart {
    double of[4];
} apart;

static apart compare(const job *a, const job *b, int steps) {
    apart r = {{0}};
    char x[700], y[700];
    for (int i = 0; i < steps; i++) {
        r.of[0] = fmax(r.of[0], fabs(loss(a, i) - loss(b, i)));
        double norm = metric(b, i, "gradient_norm");
        r.of[1] = fmax(r.of[1], fabs(metric(a, i, "gradient_norm") - norm) / norm);
    }
    for (int i = 0; i < 2; i++) {
        const char *file = i ? "optimizer" : "model";
        snprintf(x, sizeof x, "%s/checkpoint-%08d/%s.safetensors", a->folder, steps, file);
        snprintf(y, sizeof y, "%s/checkpoint-%08d/%s.safetensors", b->folder, steps, file);
        r.of[2 + i] = distance(x, y, i ? "m." : "");
    }
    return r;
}

/* Runs of one process whose sums are in other orders: what rounding alone does. */
static apart honest(const job *one, const char *const *more, int steps) {
    static const char *const others[][4] = {{"UP_CPU_ISA=base", NULL},
                                            {"set_tokens=60", "set_memory=0", NULL},
                                            {"UP_CPU_ISA=base", "set_tokens=30", "set_memory=0", NULL},
                                            {"--backend", "ref", NULL}};
    apart most = {{0x1p-22, 0x1p-23}}; /* losses of 2 to 4 and norms are f32: a unit in the last place */
    for (int i = 0; i < 4; i++) {
        const char *arguments[MOST_ARGUMENTS];
        int count = 0;
        for (int k = 0; more[k]; k++) put(arguments, &count, more[k]);
        for (int k = 0; others[i][k]; k++) put(arguments, &count, others[i][k]);
        job other = run_to_end("other", 0, arguments);
        apart off = compare(&other, one, steps);
        for (int k = 0; k < 4; k++) most.of[k] = fmax(most.of[k], off.of[k]);
        up_lab_remove(other.folder);
    }
    return most;
}

static void expect_within(const apart *off, const apart *spread) {
    for (int k = 0; k < 4; k++) CU_ASSERT(off->of[k] <= 2 * spread->of[k]);
    printf("[off by %.1e %.1e %.1e %.1e, spread %.1e %.1e %.1e %.1e] ", off->of[0], off->of[1], off->of[2],
           off->of[3], spread->of[0], spread->of[1], spread->of[2], spread->of[3]);
}

/* Ranks 2 and 4 against one process, which accumulates what they do side by side. */
static void same_as_one(int steps, const char *const *more) {
    static const char *const accumulate[] = {"accumulate=4", "accumulate=2", "accumulate=1"};
    const char *arguments[MOST_ARGUMENTS];
    int count = 1;
    char length[32];
    snprintf(length, sizeof length, "steps=%d", steps);
    arguments[0] = accumulate[0];
    put(arguments, &count, length);
    put(arguments, &count, "checkpoint_every=1000");
    for (int i = 0; more[i]; i++) put(arguments, &count, more[i]);
    job one = run_to_end("one", 0, arguments);
    apart spread = honest(&one, arguments, steps);
    for (int ranks = 2; ranks <= 4; ranks += 2) {
        arguments[0] = accumulate[ranks / 2];
        job several = run_to_end("several", ranks, arguments);
        apart off = compare(&several, &one, steps);
        expect_within(&off, &spread);
        CU_ASSERT_EQUAL(metric(&several, 0, "ranks"), ranks);
        CU_ASSERT(metric(&several, 0, "sent_bytes") > 0);
        CU_ASSERT_EQUAL(metric(&several, 0, "input_tokens"), metric(&one, 0, "input_tokens"));
        if (metric(&several, 0, "target_tokens") == metric(&one, 0, "target_tokens")) {
            double wanted = gflop_a_token(&one, 0);
            CU_ASSERT(wanted > 0 && fabs(gflop_a_token(&several, 0) - wanted) < 1e-9 * wanted);
        }
        up_lab_remove(several.folder);
    }
    up_lab_remove(one.folder);
}

static void test_same_as_one(void) {
    static const char *const more[] = {NULL};
    same_as_one(STEPS, more);
}

/* Weights of 0 for all tasks of the laboratory but those of some kinds. */
static int tasks_alone(const char *const *kinds, char off[8][32], const char **more) {
    up_settings settings;
    int count = 0;
    UP_ASSERT_OK(up_settings_read(up_lab_config(), NULL, 0, &settings));
    for (size_t i = 0; i < settings.task_count && i < 8; i++) {
        const char *name = up_tasks_table[settings.tasks[i].kind].name;
        int wanted = 0;
        for (int k = 0; kinds[k]; k++) wanted |= !strcmp(name, kinds[k]);
        if (wanted) continue;
        snprintf(off[i], sizeof off[i], "tasks.%zu.weight=0", i);
        put(more, &count, off[i]);
    }
    up_settings_free(&settings);
    return count;
}

/* One task for all ranks of a step, retrieval both ways: negatives are those of a rank's own batch. */
static void test_unmixed_retrieval(void) {
    static const char *const kinds[] = {"image_text_retrieval", "text_retrieval", NULL};
    char off[8][32];
    const char *more[MOST_ARGUMENTS] = {NULL};
    int count = tasks_alone(kinds, off, more);
    put(more, &count, "mixed=false");
    same_as_one(STEPS, more);
}

/* Masked language modelling alone: every gradient but the inputs' goes through the vocabulary. */
static void test_divided_vocabulary(void) {
    static const char *const kinds[] = {"mlm", NULL};
    char off[8][32];
    const char *more[MOST_ARGUMENTS] = {NULL};
    int count = tasks_alone(kinds, off, more);
    same_as_one(1, more);
    /* each entry is encoded by one rank, and once */
    put(more, &count, "steps=1");
    put(more, &count, "accumulate=1");
    job one = run_to_end("one", 0, more), two = run_to_end("two", 2, more);
    CU_ASSERT(metric(&one, 0, "target_tokens") > 0);
    CU_ASSERT_EQUAL(metric(&one, 0, "target_tokens"), metric(&two, 0, "target_tokens"));
    up_lab_remove(one.folder);
    up_lab_remove(two.folder);
}

/* ---- ranks that are missing ---- */

/* Whether a process is this rank of that run, by its environment and its arguments. */
static int is_rank(const char *process, int rank, const job *j) {
    char path[300];
    int found = 0;
    char wanted[2][40];
    snprintf(wanted[0], sizeof wanted[0], "OMPI_COMM_WORLD_RANK=%d", rank);
    snprintf(wanted[1], sizeof wanted[1], "PMI_RANK=%d", rank);
    snprintf(path, sizeof path, "/proc/%s/environ", process);
    FILE *file = fopen(path, "r");
    char *entry = NULL;
    size_t room = 0;
    while (file && getdelim(&entry, &room, 0, file) > 0)
        found |= !strcmp(entry, wanted[0]) || !strcmp(entry, wanted[1]);
    if (file) fclose(file);
    snprintf(path, sizeof path, "/proc/%s/cmdline", process);
    int ours = 0;
    file = found ? fopen(path, "r") : NULL;
    while (file && getdelim(&entry, &room, 0, file) > 0) ours |= strstr(entry, j->folder) != NULL;
    if (file) fclose(file);
    free(entry);
    return found && ours;
}

static pid_t process_of(const job *j, int rank) {
    pid_t found = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *e; d && (e = readdir(d));)
        if (isdigit((unsigned char)e->d_name[0]) && is_rank(e->d_name, rank, j))
            found = (pid_t)atoi(e->d_name);
    if (d) closedir(d);
    return found;
}

static int has_a_line(const job *j) {
    char path[700];
    struct stat metrics;
    snprintf(path, sizeof path, "%s/metrics.jsonl", j->folder);
    return !stat(path, &metrics) && metrics.st_size > 0;
}

/* A run that would go on for long, at work. */
static job start_long(const char *name, int ranks) {
    static const char *const more[] = {"steps=100000", "checkpoint_every=1000000", "log_every=2",
                                       "comm_deadline=4", NULL};
    job j = start(name, ranks, more);
    for (double begun = up_now(); !has_a_line(&j) && up_now() - begun < 100;) usleep(10000);
    if (has_a_line(&j)) return j;
    kill(j.process, SIGTERM); /* mpirun ends its ranks */
    finish(&j, 10);
    CU_FAIL_FATAL("a run has made no step in 100 seconds");
    return j;
}

/* A signal to one rank; the job must end by itself. */
static void strike(int ranks, int rank, int signal, const char *words) {
    enum { DEADLINE = 4, SLACK = 8 };
    job j = start_long("struck", ranks);
    pid_t process = process_of(&j, rank);
    CU_ASSERT_FATAL(process > 0);
    kill(process, signal);
    double begun = up_now();
    int code = finish(&j, 2 * DEADLINE + 2 * SLACK);
    double seconds = up_now() - begun;
    CU_ASSERT(code > 0);
    CU_ASSERT(seconds < DEADLINE + SLACK);
    CU_ASSERT(said(&j, words));
    printf("[ended after %.1f s] ", seconds);
    if (process_of(&j, rank) == process) kill(process, SIGKILL);
    up_lab_remove(j.folder);
}

static void test_killed(void) {
    strike(2, 1, SIGKILL, "signal 9");
    strike(4, 0, SIGKILL, "signal 9");
}

static void test_stopped(void) {
    strike(2, 1, SIGSTOP, "rank 1 (process");
    strike(4, 2, SIGSTOP, "rank 2 (process");
    strike(2, 0, SIGSTOP, "rank 0 (process");
}

/* The run is over and its model written; then a rank is lost in MPI_Finalize. */
static void lose_at_the_end(int ranks, int rank, int signal, const char *words) {
    enum { DEADLINE = 3, SLACK = 8 };
    char wish[40], preload[600], model[600];
    const char *const more[] = {wish, preload, "steps=1", "comm_deadline=3", NULL};
    snprintf(wish, sizeof wish, "UP_AT_THE_END=%d %d", rank, signal);
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", getenv("UP_LOST_AT_THE_END"));
    job j = start("end", ranks, more);
    snprintf(model, sizeof model, "%s/model.safetensors", j.folder);
    for (double begun = up_now(); access(model, R_OK) && up_now() - begun < 60;) usleep(10000);
    double begun = up_now();
    CU_ASSERT(finish(&j, 2 * DEADLINE + 2 * SLACK) > 0);
    double seconds = up_now() - begun;
    CU_ASSERT(seconds < DEADLINE + SLACK);
    CU_ASSERT(said(&j, words));
    CU_ASSERT_EQUAL(access(model, R_OK), 0);
    printf("[ended after %.1f s] ", seconds);
    up_lab_remove(j.folder);
}

static void test_lost_at_the_end(void) {
    if (!getenv("UP_LOST_AT_THE_END")) {
        printf("(nothing is preloaded under a sanitizer) ");
        return;
    }
    lose_at_the_end(2, 1, SIGSTOP, "MPI_Finalize has not come back");
    lose_at_the_end(4, 0, SIGSTOP, "MPI_Finalize has not come back");
    lose_at_the_end(2, 1, SIGKILL, "signal 9");
}

/* SIGTERM at one, or SIGUSR1 at mpirun: all end after the same step, with its checkpoint. */
static void test_asked_to_stop(void) {
    for (int launcher = 0; launcher < 2; launcher++) {
        job j = start_long("asked", 2);
        kill(launcher ? j.process : process_of(&j, 1), launcher ? SIGUSR1 : SIGTERM);
        CU_ASSERT_EQUAL(finish(&j, 30), 1);
        CU_ASSERT(said(&j, "stopped after step"));
        up_lab_remove(j.folder);
    }
}

/* ---- another number of ranks ---- */

static json_t *state_of(const job *j, int step) {
    char path[700];
    snprintf(path, sizeof path, "%s/checkpoint-%08d/state.json", j->folder, step);
    json_t *state = json_load_file(path, 0, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(state);
    return state;
}

/* At a constant rate, so that the number of steps changes nothing: 4 ranks, then 2, then 1 are one run of the
 * same samples. */
static void test_other_numbers_of_ranks(void) {
#define CONSTANT "optimizer.min_lr=2e-3", "optimizer.warmup=0", "checkpoint_every=6"
    static const char *const whole[] = {CONSTANT, "steps=18", "accumulate=4", NULL};
    static const char *const parts[][7] = {
        {CONSTANT, "steps=6", "accumulate=1", NULL},
        {CONSTANT, "steps=12", "accumulate=2", "--resume", NULL},
        {CONSTANT, "steps=18", "accumulate=4", "--resume", NULL},
    };
    static const int ranks[] = {4, 2, 1};
    job one = run_to_end("whole", 0, whole), last = one;
    apart spread = honest(&one, whole, 18);
    for (int i = 0; i < 3; i++) last = run_to_end("parts", ranks[i], parts[i]);
    apart off = compare(&last, &one, 18);
    expect_within(&off, &spread);
    json_t *a = state_of(&one, 18), *b = state_of(&last, 18);
    CU_ASSERT(json_equal(json_object_get(a, "samples"), json_object_get(b, "samples")));
    CU_ASSERT(json_equal(json_object_get(a, "iterations"), json_object_get(b, "iterations")));
    json_decref(a);
    json_decref(b);
    up_lab_remove(one.folder);
    up_lab_remove(last.folder);
}

/* The same layout gives the same bits. */
static void test_repeats(void) {
    static const char *const more[] = {"steps=6", "checkpoint_every=1000", NULL};
    job a = run_to_end("first", 4, more), b = run_to_end("second", 4, more);
    apart off = compare(&a, &b, 6);
    for (int k = 0; k < 4; k++) CU_ASSERT_EQUAL(off.of[k], 0);
    up_lab_remove(a.folder);
    up_lab_remove(b.folder);
}

/* One rank cannot go on: all end, with what it says. */
static void test_error_of_one(void) {
    static const char *const more[] = {"steps=1", NULL};
    job j = run_to_end("error", 2, more);
    j = start("error", 2, more); /* the folder holds a run: only rank 0 looks */
    CU_ASSERT(finish(&j, 30) > 0);
    CU_ASSERT(said(&j, "rank 0: ") && said(&j, "holds a run already"));
    up_lab_remove(j.folder);
}

/* A step draws one task for all its iterations. */
static void test_unmixed_order(void) {
    enum { TASKS = 3, ROUNDS = 200, RANKS = 4 };
    up_task_settings tasks[TASKS] = {
        {.weight = 1, .batch = 2}, {.weight = 1, .batch = 3}, {.weight = 1, .batch = 5}};
    up_settings s = {.seed = 3, .steps = ROUNDS / 2, .accumulate = 2, .tasks = tasks, .task_count = TASKS};
    up_order_entry *order[RANKS];
    int64_t next[TASKS] = {0}, drawn[TASKS] = {0};
    for (int r = 0; r < RANKS; r++)
        UP_ASSERT_OK(up_order_make(&s, &(up_rounds){.rank = r, .ranks = RANKS}, ROUNDS, NULL, &order[r]));
    for (int i = 0; i < ROUNDS; i++)
        for (int r = 0; r < RANKS; r++) {
            int source = order[r][i].source;
            CU_ASSERT_EQUAL(source, order[0][i - i % 2].source);
            CU_ASSERT_EQUAL(order[r][i].first, next[source]); /* none twice, none left out */
            next[source] += tasks[source].batch;
            drawn[source]++;
        }
    for (int t = 0; t < TASKS; t++) CU_ASSERT(drawn[t] > 0);
    for (int r = 0; r < RANKS; r++) free(order[r]);
}

/* A communicator of two, of which the other says what `state` points to, or the same as this one. */
static up_status share_with_other(up_comm *c, const void *mine, void *all, size_t bytes) {
    memcpy(all, mine, bytes);
    memcpy((char *)all + bytes, c->state ? c->state : mine, bytes);
    return UP_OK;
}

static void test_other_weights(void) {
    static const up_comm_ops ops = {.share = share_with_other};
    uint64_t other = 1;
    up_comm two = {.ops = &ops, .ranks = 2};
    up_trainer t = {.comm = &two, .step = 7};
    UP_ASSERT_OK(up_config_preset("tiny", &t.config));
    UP_ASSERT_OK(up_backend_create("ref", 1, &t.backend));
    UP_ASSERT_OK(up_model_create(t.backend, &t.config, 1, &t.model));
    UP_ASSERT_OK(up_ranks_check(&t));
    two.state = &other;
    CU_ASSERT_EQUAL(up_ranks_check(&t), UP_ERR_NUMERIC);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "after step 7 rank 1 has other weights"));
    up_model_destroy(t.model);
    up_backend_free(t.backend);
}

const up_test up_tests[] = {
    {"other weights", test_other_weights},
    {"unmixed order", test_unmixed_order},
    {"same as one", test_same_as_one},
    {"unmixed retrieval", test_unmixed_retrieval},
    {"divided vocabulary", test_divided_vocabulary},
    {"repeats", test_repeats},
    {"other numbers of ranks", test_other_numbers_of_ranks},
    {"error of one", test_error_of_one},
    {"asked to stop", test_asked_to_stop},
    {"killed", test_killed},
    {"stopped", test_stopped},
    {"lost at the end", test_lost_at_the_end},
    {NULL, NULL},
};
