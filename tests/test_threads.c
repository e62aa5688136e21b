/* test_threads.c - what several threads may do at once: use one tokenizer, take from a ring of work, keep a
 * session each, train in a folder each, make backends. Whatever they do, each gets what it would get alone.
 * The runs are small, for ./test.sh --thread, where ThreadSanitizer watches every access; UP_TEST_ROUNDS=N
 * does all of it N times. */
#include "data/loader.h"
#include "files/file.h"
#include "tests/lab.h"
#include "tests/support.h"
#include "uniperceiver/uniperceiver.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const up_suite_name = "threads";

enum { THREADS = 8 };

/* Everything in `body` begins at the same moment in all threads; a body counts what is wrong and asserts
 * nothing: CUnit is one thread's. */
typedef struct crew {
    void (*body)(struct crew *crew, int thread, size_t *wrong);
    void *shared;
    pthread_barrier_t start;
} crew;

typedef struct member {
    crew *crew;
    int number;
    size_t wrong;
    pthread_t thread;
} member;

static void *begin(void *argument) {
    member *m = argument;
    pthread_barrier_wait(&m->crew->start);
    m->crew->body(m->crew, m->number, &m->wrong);
    return NULL;
}

static void together(void (*body)(crew *, int, size_t *), void *shared) {
    crew c = {.body = body, .shared = shared};
    member members[THREADS];
    CU_ASSERT_EQUAL_FATAL(pthread_barrier_init(&c.start, NULL, THREADS), 0);
    for (int i = 0; i < THREADS; i++) {
        members[i] = (member){.crew = &c, .number = i};
        CU_ASSERT_EQUAL_FATAL(pthread_create(&members[i].thread, NULL, begin, &members[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(members[i].thread, NULL);
        CU_ASSERT_EQUAL(members[i].wrong, 0);
    }
    pthread_barrier_destroy(&c.start);
}

static int rounds(int usual) {
    const char *text = getenv("UP_TEST_ROUNDS");
    return text && atoi(text) > 0 ? usual * atoi(text) : usual;
}

/* In a thread: 1, with the message, where something failed. */
static int failed(up_status status) {
    if (status != UP_OK) fprintf(stderr, "%s\n", up_last_error());
    return status != UP_OK;
}

/* ---- one tokenizer ---- */

enum { WORDS = 600, WORD_TOKENS = 16 };

typedef struct spelling {
    int32_t ids[WORD_TOKENS];
    size_t count;
} spelling;

typedef struct dictionary {
    up_tokenizer *tokenizer; /* that all threads fill at the same time */
    spelling want[WORDS];    /* as another tokenizer has it, used by one thread */
} dictionary;

/* Words of two kinds in turn: short ones, and ones of letters that share their first tokens. */
static int word(int number, char *out) {
    static const char *const ends[] = {"ing", "ed", "s", "ness", "ology"};
    return sprintf(out, "%c%c%s%d", 'a' + number % 26, 'a' + number / 26 % 26, ends[number % 5], number);
}

static up_status spell(up_tokenizer *tokenizer, int number, spelling *out) {
    char text[32];
    int length = word(number, text);
    return up_tokenize_closed(tokenizer, text, (size_t)length, WORD_TOKENS, out->ids, &out->count);
}

static void read_words(crew *c, int thread, size_t *wrong) {
    const dictionary *d = c->shared;
    for (int pass = 0; pass < 2; pass++) /* puts into the cache, then takes out of it */
        for (int i = 0; i < WORDS; i++) {
            int number = thread % 2 ? WORDS - 1 - i : i; /* two meet at each word, two come from the end */
            spelling got;
            const spelling *want = &d->want[number];
            *wrong += (size_t)failed(spell(d->tokenizer, number, &got));
            *wrong += got.count != want->count || memcmp(got.ids, want->ids, got.count * sizeof *got.ids);
        }
}

static void test_tokenizer_cache(void) {
    dictionary *d = malloc(sizeof *d);
    CU_ASSERT_PTR_NOT_NULL_FATAL(d);
    UP_ASSERT_OK(up_tokenizer_create(NULL, &d->tokenizer));
    for (int i = 0; i < WORDS; i++) UP_ASSERT_OK(spell(d->tokenizer, i, &d->want[i]));
    up_tokenizer_free(d->tokenizer);
    for (int round = 0; round < rounds(3); round++) {
        UP_ASSERT_OK(up_tokenizer_create(NULL, &d->tokenizer));
        together(read_words, d);
        up_tokenizer_free(d->tokenizer);
    }
    free(d);
}

/* ---- a message a thread ---- */

static void fail_alone(crew *c, int thread, size_t *wrong) {
    char want[64];
    (void)c;
    snprintf(want, sizeof want, "thread %d: failed", thread);
    for (int i = 0; i < 200; i++) {
        char what[32];
        snprintf(what, sizeof what, "thread %d", thread);
        up_fail(UP_ERR_FORMAT, what, "failed");
        *wrong += strcmp(up_last_error(), want) != 0;
    }
}

static void test_messages(void) {
    together(fail_alone, NULL);
}

/* ---- the loader's ring: a slot is its consumer's until the next is asked for ---- */

enum { CELLS = 512, ITERATIONS = 120, BROKEN = 50 };

static int64_t cell_of(int64_t iteration, int cell) {
    return iteration * 1000 + cell;
}

static up_status build_cells(void *context, int64_t iteration, void *slot) {
    int64_t *cells = slot;
    (void)context;
    for (int i = 0; i < CELLS; i++) cells[i] = cell_of(iteration, i);
    return iteration == BROKEN ? up_fail(UP_ERR_FORMAT, "cells", "of iteration %d", BROKEN) : UP_OK;
}

/* All cells are what was built, and what is written into them stays. */
static size_t use_cells(int64_t *cells, int64_t iteration) {
    size_t wrong = 0;
    for (int i = 0; i < CELLS; i++) wrong += cells[i] != cell_of(iteration, i);
    for (int i = 0; i < CELLS; i++) cells[i] = -iteration - i;
    for (int i = 0; i < CELLS; i++) wrong += cells[i] != -iteration - i;
    return wrong;
}

static void take_all(crew *c, int thread, size_t *wrong) {
    enum { MOST = 16 };
    int workers = 1 + thread, count = up_loader_slots(workers);
    void *slots[MOST], *slot;
    up_loader *loader;
    (void)c;
    for (int i = 0; i < count; i++) slots[i] = calloc(CELLS, sizeof(int64_t));
    int lacking = failed(up_loader_create(build_cells, NULL, slots, count, workers, 0, &loader));
    *wrong += (size_t)lacking;
    for (int64_t i = 0; i < ITERATIONS && !lacking; i++) {
        up_status status = up_loader_next(loader, &slot, NULL);
        *wrong += status != (i == BROKEN ? UP_ERR_FORMAT : UP_OK);
        if (i == BROKEN) *wrong += strcmp(up_last_error(), "cells: of iteration 50") != 0;
        *wrong += use_cells(slot, i);
    }
    up_loader_free(loader); /* while its workers are ahead */
    for (int i = 0; i < count; i++) free(slots[i]);
}

static void test_rings(void) {
    for (int round = 0; round < rounds(2); round++) together(take_all, NULL);
}

/* ---- backends that come and go ---- */

enum { ROWS = 70, WIDTH = 40 };

/* Multiples of 1/4: every sum of products below is exact, in any order. */
static void quarters(float *out, int count) {
    for (int i = 0; i < count; i++) out[i] = (float)(i * 7 % 17 - 8) / 4;
}

static float product_at(const float *x, const float *w, int row, int col) {
    float sum = 0;
    for (int k = 0; k < WIDTH; k++) sum += x[row * WIDTH + k] * w[col * WIDTH + k];
    return sum;
}

static up_status product(up_backend *b, const float *x, const float *w, float *y) {
    const int64_t rows[] = {ROWS, WIDTH, ROWS};
    const up_op_dims dims = {.dtype = UP_F32, .rows = ROWS, .in = WIDTH, .out = WIDTH};
    up_buffer *buffer[4] = {NULL};
    up_view view[3];
    up_status status = UP_OK;
    for (int i = 0; i < 3; i++) {
        UP_GO(b->ops->alloc(b, (size_t)rows[i] * WIDTH * sizeof(float), &buffer[i]));
        view[i] = up_view_at(buffer[i], UP_F32, 0, rows[i], WIDTH);
    }
    UP_GO(b->ops->upload(b, view[0], x));
    UP_GO(b->ops->upload(b, view[1], w));
    size_t bytes = b->ops->scratch(b, UP_OP_LINEAR, &dims);
    UP_GO(b->ops->alloc(b, bytes, &buffer[3]));
    up_view scratch = up_view_at(buffer[3], UP_U8, 0, 1, (int64_t)bytes);
    UP_GO(b->ops->linear(
        b, &(up_linear_args){.x = view[0], .weight = view[1], .y = view[2], .scratch = scratch}));
    UP_GO(b->ops->download(b, y, view[2]));
done:
    for (int i = 0; i < 4; i++)
        if (buffer[i]) b->ops->release(b, buffer[i]);
    return status;
}

static void come_and_go(crew *c, int thread, size_t *wrong) {
    float x[ROWS * WIDTH], w[WIDTH * WIDTH], y[ROWS * WIDTH];
    (void)c;
    quarters(x, ROWS * WIDTH);
    quarters(w, WIDTH * WIDTH);
    for (int i = 0; i < 6; i++) {
        up_backend *b;
        int lacking = failed(up_backend_create("cpu", 1 + (thread + i) % 4, &b));
        *wrong += (size_t)lacking;
        if (lacking) return;
        for (int k = 0; k < i; k++) { /* the first one goes without having worked */
            *wrong += (size_t)failed(product(b, x, w, y));
            for (int e = 0; e < ROWS * WIDTH; e++) *wrong += y[e] != product_at(x, w, e / WIDTH, e % WIDTH);
        }
        up_backend_free(b);
    }
}

static void test_backends(void) {
    for (int round = 0; round < rounds(1); round++) together(come_and_go, NULL);
}

/* ---- a session a thread ---- */

enum { LABELS = 3, INPUTS = 2, FEATURES = 64 };

typedef struct answer {
    float features[INPUTS * FEATURES], probabilities[LABELS];
    char caption[400];
} answer;

typedef struct desk {
    const char *model;
    void *picture; /* bytes of a file */
    size_t picture_size;
    answer want[2]; /* of ref and cpu, alone */
} desk;

static up_status ask(const desk *d, const char *backend, answer *out) {
    static const char *const labels[LABELS] = {"cat", "dog", "a red car"};
    const up_part picture = {UP_PART_IMAGE, d->picture, d->picture_size, 0, "picture"};
    const up_part text = {UP_PART_TEXT, "what is seen here", 17, 0, NULL};
    const up_input inputs[INPUTS] = {{&picture, 1, 0}, {&text, 1, 0}};
    const up_load_options options = {.backend = backend, .threads = 2};
    static const int32_t words[] = {320, 500, 1929, 2368, 49407};
    const up_caption_options few = {.beam = 2, .max_words = 3, .vocabulary = words, .vocabulary_count = 5};
    up_session *s = NULL;
    up_caption caption = {0};
    up_status status = UP_OK;
    memset(out, 0, sizeof *out);
    UP_GO(up_model_load(d->model, &options, &s));
    UP_GO(up_encode(s, inputs, INPUTS, UP_SIDE_INPUT, out->features));
    UP_GO(up_classify(s, &inputs[0], labels, LABELS, out->probabilities));
    UP_GO(up_caption_input(s, &inputs[0], &few, &caption));
    snprintf(out->caption, sizeof out->caption, "%s %a", caption.text, caption.log_probability);
done:
    up_caption_free(&caption);
    up_session_close(s);
    return status;
}

static void ask_again(crew *c, int thread, size_t *wrong) {
    const desk *d = c->shared;
    for (int i = 0; i < 2; i++) {
        answer got;
        int kind = (thread + i) % 2;
        *wrong += (size_t)failed(ask(d, kind ? "cpu" : "ref", &got));
        *wrong += memcmp(&got, &d->want[kind], sizeof got) != 0;
    }
}

/* The laboratory's tiny model, as a file. */
static const char *write_model(void) {
    const char *path = up_lab_path("threads.safetensors");
    up_backend *backend;
    up_lab lab;
    UP_ASSERT_OK(up_backend_create("ref", 1, &backend));
    up_lab_open(&lab, backend, NULL, 0);
    CU_ASSERT_FATAL(lab.config.width <= FEATURES);
    UP_ASSERT_OK(up_model_write(lab.model, path));
    up_lab_close(&lab);
    return path;
}

static void test_sessions(void) {
    desk *d = calloc(1, sizeof *d);
    CU_ASSERT_PTR_NOT_NULL_FATAL(d);
    d->model = write_model();
    UP_ASSERT_OK(up_file_read(up_lab_golden("image", "jpeg_420.jpg"), &d->picture, &d->picture_size));
    UP_ASSERT_OK(ask(d, "ref", &d->want[0]));
    UP_ASSERT_OK(ask(d, "cpu", &d->want[1]));
    CU_ASSERT(d->want[0].features[0] != 0 && d->want[0].probabilities[0] > 0 &&
              strlen(d->want[0].caption) > 4);
    for (int round = 0; round < rounds(1); round++) together(ask_again, d);
    free(d->picture);
    free(d);
}

/* ---- trainings at the same time ---- */

static const char *const run_names[THREADS] = {"together-0", "together-1", "together-2", "together-3",
                                               "together-4", "together-5", "together-6", "together-7"};

static up_status train(const char *run, const char *backend) {
    char setting[600];
    snprintf(setting, sizeof setting, "run=%s", run);
    const char *const overrides[] = {setting, "steps=3", "workers=3", "checkpoint_every=2"};
    const up_train_options options = {.backend = backend, .threads = 2, .quiet = 1};
    return up_train(up_lab_path("train.yaml"), overrides, 4, &options);
}

static const char *backend_of(int thread) {
    return thread % 2 ? "cpu" : "ref";
}

static void train_apart(crew *c, int thread, size_t *wrong) {
    const char *const *runs = c->shared;
    *wrong += (size_t)failed(train(runs[thread], backend_of(thread)));
}

static void read_model(const char *run, void **bytes, size_t *size) {
    char path[700];
    snprintf(path, sizeof path, "%s/model.safetensors", run);
    UP_ASSERT_OK(up_file_read(path, bytes, size));
}

static void same_model(const char *run, const char *other) {
    void *a, *b;
    size_t a_size, b_size;
    read_model(run, &a, &a_size);
    read_model(other, &b, &b_size);
    CU_ASSERT(a_size == b_size && !memcmp(a, b, a_size));
    free(a);
    free(b);
}

static void test_trainings(void) {
    const char *runs[THREADS], *alone[2] = {up_lab_path("alone-ref"), up_lab_path("alone-cpu")};
    for (int i = 0; i < THREADS; i++) runs[i] = up_lab_path(run_names[i]);
    up_lab_config();
    for (int i = 0; i < 2; i++) UP_ASSERT_OK(train(alone[i], backend_of(i)));
    for (int round = 0; round < rounds(1); round++) {
        together(train_apart, runs);
        for (int i = 0; i < THREADS; i++) {
            same_model(runs[i], alone[i % 2]);
            up_lab_remove(runs[i]);
        }
    }
    for (int i = 0; i < 2; i++) up_lab_remove(alone[i]);
}

/* Any number of workers gives the same model, and each has a slot to work in. */
static void test_many_workers(void) {
    const char *runs[2] = {up_lab_path("one"), up_lab_path("many")};
    for (int i = 0; i < 2; i++) {
        char run[600];
        snprintf(run, sizeof run, "run=%s", runs[i]);
        const char *const overrides[] = {run, i ? "workers=13" : "workers=1", "steps=3"};
        const up_train_options options = {.backend = "ref", .threads = 1, .quiet = 1};
        up_trainer t;
        UP_ASSERT_OK(up_trainer_open(up_lab_config(), overrides, 3, &options, &t));
        CU_ASSERT(t.slots > (i ? 13 : 1) + 1);
        up_trainer_close(&t);
        UP_ASSERT_OK(up_train(up_lab_config(), overrides, 3, &options));
    }
    same_model(runs[0], runs[1]);
    for (int i = 0; i < 2; i++) up_lab_remove(runs[i]);
}

/* One folder: the first to lock it trains, the others are told so or find its checkpoints. */
typedef struct contest {
    const char *run;
    int won[THREADS];
} contest;

static void train_in_one_folder(crew *c, int thread, size_t *wrong) {
    contest *all = c->shared;
    up_status status = train(all->run, "ref");
    all->won[thread] = status == UP_OK;
    if (status != UP_OK)
        *wrong += !strstr(up_last_error(), "another process is training in this folder") &&
                  !strstr(up_last_error(), "holds a run already");
}

static void test_one_folder(void) {
    contest all = {.run = up_lab_path("contest")};
    int won = 0;
    up_lab_config();
    together(train_in_one_folder, &all);
    for (int i = 0; i < THREADS; i++) won += all.won[i];
    CU_ASSERT_EQUAL(won, 1);
    UP_ASSERT_OK(train(up_lab_path("alone"), "ref"));
    same_model(all.run, up_lab_path("alone"));
    up_lab_remove(all.run);
    up_lab_remove(up_lab_path("alone"));
}

const up_test up_tests[] = {
    {"tokenizer's cache", test_tokenizer_cache},
    {"a message a thread", test_messages},
    {"rings", test_rings},
    {"backends", test_backends},
    {"sessions", test_sessions},
    {"trainings", test_trainings},
    {"many workers", test_many_workers},
    {"one folder", test_one_folder},
    {NULL, NULL},
};
