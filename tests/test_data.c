/* test_data.c - the data path above the tokenizers: lists, the loader, masking, and the packed batch and the
 * target set of every kind of task, token by token. */
#include "data/corrupt.h"
#include "tests/lab.h"
#include "tests/support.h"
#include "files/file.h"
#include "tasks/classes.h"
#include "tasks/sets.h"
#include "uniperceiver/backend.h"
#include "uniperceiver/encoder.h"
#include "uniperceiver/image.h"
#include "uniperceiver/random.h"
#include "tasks/cut.h"
#include "uniperceiver/video.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *const up_suite_name = "data";

/* Chi-square values that a fair draw exceeds once in a million seeds, by degrees of freedom. */
static const double chi_limit[] = {[1] = 23.9, [2] = 27.6, [7] = 40.5, [9] = 44.8, [22] = 68.9};

static double chi_square(const int64_t *found, const double *wanted, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += ((double)found[i] - wanted[i]) * ((double)found[i] - wanted[i]) / wanted[i];
    return sum;
}

static void expect_fair(const char *what, const int64_t *found, const double *wanted, int n, int freedom) {
    double chi = chi_square(found, wanted, n);
    if (!(chi < chi_limit[freedom]))
        fprintf(stderr, "%s: chi-square %.1f, UP_TEST_SEED=%llu\n", what, chi,
                (unsigned long long)up_test_seed());
    CU_ASSERT(chi < chi_limit[freedom]);
}

static void expect_error(up_status got, up_status want, const char *a, const char *b) {
    CU_ASSERT_EQUAL(got, want);
    const char *said = up_last_error();
    if (!strstr(said, a) || !strstr(said, b)) fprintf(stderr, "\"%s\", \"%s\" not in: %s\n", a, b, said);
    CU_ASSERT(strstr(said, a) && strstr(said, b) && !strchr(said, '\n'));
}

/* ---- lists ---- */

static up_status open_list(const char *path, up_dataset *d) {
    const up_dataset_options options = {.data = path};
    return up_dataset_open(&options, d);
}

static void expect_cell(const up_dataset *d, size_t row, const char *name, const char *want) {
    up_sample s = {0};
    UP_ASSERT_OK(up_dataset_sample(d, row, &s));
    CU_ASSERT_EQUAL_FATAL(up_sample_count(&s, name), 1);
    CU_ASSERT_STRING_EQUAL(up_value_text(&s, up_sample_value(&s, name, 0)), want);
    up_sample_free(&s);
}

static void test_table_cells(void) {
    static const char text[] =
        "\xef\xbb\xbfimage\tname\r\n/abs/a.jpg\tone\r\n\r\nb.jpg\t\n\nsub/c.jpg\tthr ee";
    static const char *const cells[3][2] = {{"/abs/a.jpg", "one"}, {"b.jpg", ""}, {"sub/c.jpg", "thr ee"}};
    static const char *const files[3] = {"/abs/a.jpg", "b.jpg", "sub/c.jpg"};
    up_dataset d;
    up_sample s = {0};
    UP_ASSERT_OK(open_list(up_lab_text("good.tsv", text), &d));
    CU_ASSERT_EQUAL_FATAL(d.count, 3);
    for (size_t r = 0; r < 3; r++) {
        up_media media;
        expect_cell(&d, r, "image", cells[r][0]);
        expect_cell(&d, r, "name", cells[r][1]);
        UP_ASSERT_OK(up_dataset_sample(&d, r, &s));
        UP_ASSERT_OK(up_dataset_media(&d, &s, up_sample_value(&s, "image", 0), NULL, &media));
        CU_ASSERT_STRING_EQUAL(media.name, r ? up_lab_path(files[r]) : files[r]);
        up_media_free(&media);
    }
    CU_ASSERT_PTR_NULL(up_sample_value(&s, "label", 0));
    CU_ASSERT_EQUAL(up_dataset_sample(&d, 3, &s), UP_ERR_ARGUMENT);
    up_sample_free(&s);
    up_dataset_close(&d);
}

/* Open a list and read all of it, which is closed again. */
static up_status read_list(const char *path) {
    up_dataset d;
    up_sample s = {0};
    up_status status = open_list(path, &d);
    for (size_t i = 0; status == UP_OK && i < d.count; i++) status = up_dataset_sample(&d, i, &s);
    up_sample_free(&s);
    up_dataset_close(&d);
    return status;
}

static void test_table_errors(void) {
    static const struct {
        const char *text;
        size_t size;
        const char *why;
    } cases[] = {
        {"a\tb\n1\t2\n1\n", 0, "line 3: list: 1 cells, the first line names 2"},
        {"a\tb\n\n\n1\t2\t3\n", 0, "line 4: list: 3 cells, the first line names 2"},
        {"", 0, "empty"},
        {"a\tb", 0, "no rows"},
        {"a\tb\r\n\r\n", 0, "no rows"},
        {"a\n1\0002\n", 6, "NUL byte"},
        {"a\n1\n\0", 5, "NUL byte"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t size = cases[i].size ? cases[i].size : strlen(cases[i].text);
        expect_error(read_list(up_lab_file("bad.tsv", cases[i].text, size)), UP_ERR_FORMAT, "bad.tsv",
                     cases[i].why);
    }
    expect_error(read_list(up_lab_path("absent.tsv")), UP_ERR_IO, "absent.tsv", "No such file");
    char wide[4001];
    memset(wide, '\t', 2000);
    memset(wide + 2000, '\t', 2000);
    wide[2000] = '\n';
    wide[4000] = 0;
    expect_error(read_list(up_lab_text("bad.tsv", wide)), UP_ERR_FORMAT, "line 2: list: 2000 cells", "2001");
}

static void test_table_long_cells(void) {
    enum { MOST = 1 << 20 };
    char *text = malloc(MOST + 64);
    for (int more = 0; more < 2; more++) {
        size_t n = (size_t)sprintf(text, "a\tb\n1\t2\n3\t");
        memset(text + n, 'x', (size_t)(MOST + more));
        strcpy(text + n + MOST + more, "\n");
        const char *path = up_lab_text("long.tsv", text);
        if (more)
            expect_error(read_list(path), UP_ERR_FORMAT, "long.tsv: line 3",
                         "has 1048577 bytes; wanted at most 1048576");
        else
            UP_ASSERT_OK(read_list(path));
    }
    free(text);
}

/* ---- loader ---- */

typedef struct stream {
    int64_t fails; /* the iteration that fails, -1: none */
    int slow;      /* microseconds at most */
} stream;

static up_status build_number(void *context, int64_t iteration, void *slot) {
    const stream *s = context;
    up_rng rng = up_rng_make(3, (uint64_t)iteration, 0, 0);
    if (s->slow) usleep(up_rng_below(&rng, (uint32_t)s->slow));
    *(int64_t *)slot = iteration * iteration + 7;
    if (iteration == s->fails)
        return up_fail(UP_ERR_FORMAT, "some/file: odd.jpg", "is broken: iteration %d", (int)iteration);
    return UP_OK;
}

static void test_loader_order(void) {
    static const struct {
        int threads, slots, slow;
    } cases[] = {{1, 2, 0}, {2, 3, 200}, {4, 6, 500}, {5, 3, 100}, {3, 2, 0}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        int64_t values[6], first = 5;
        void *slots[6], *slot;
        stream s = {-1, cases[c].slow};
        up_loader *l;
        int wrong = 0;
        double waited = 0;
        for (int i = 0; i < 6; i++) slots[i] = &values[i];
        UP_ASSERT_OK(up_loader_create(build_number, &s, slots, cases[c].slots, cases[c].threads, first, &l));
        for (int64_t i = first; i < first + 60; i++) {
            UP_ASSERT_OK(up_loader_next(l, &slot, &waited));
            wrong += *(int64_t *)slot != i * i + 7;
            if (i % 8 == 0) usleep(300);
            wrong += *(int64_t *)slot != i * i + 7; /* nobody writes into it while it is ours */
        }
        CU_ASSERT_EQUAL(wrong, 0);
        CU_ASSERT(waited >= 0);
        up_loader_free(l);
    }
}

static void test_loader_error(void) {
    int64_t values[4];
    void *slots[4] = {&values[0], &values[1], &values[2], &values[3]}, *slot;
    stream s = {6, 100};
    up_loader *l;
    UP_ASSERT_OK(up_loader_create(build_number, &s, slots, 4, 3, 0, &l));
    for (int i = 0; i < 6; i++) UP_ASSERT_OK(up_loader_next(l, &slot, NULL));
    CU_ASSERT_EQUAL(up_loader_next(l, &slot, NULL), UP_ERR_FORMAT);
    CU_ASSERT_STRING_EQUAL(up_last_error(), "some/file: odd.jpg: is broken: iteration 6");
    UP_ASSERT_OK(up_loader_next(l, &slot, NULL)); /* the stream goes on behind it */
    CU_ASSERT_EQUAL(*(int64_t *)slot, 7 * 7 + 7);
    up_loader_free(l);
    expect_error(up_loader_create(build_number, &s, slots, 1, 1, 0, &l), UP_ERR_ARGUMENT, "loader",
                 "1 slots");
    expect_error(up_loader_create(build_number, &s, slots, 4, 0, 0, &l), UP_ERR_ARGUMENT, "loader",
                 "0 threads");
    up_loader_free(NULL);
}

static void test_loader_freed_early(void) {
    int64_t values[6];
    void *slots[6], *slot;
    for (int i = 0; i < 6; i++) slots[i] = &values[i];
    for (int i = 0; i < 60; i++) {
        stream s = {i % 3 ? -1 : 2, i % 2 ? 2000 : 0};
        up_loader *l;
        UP_ASSERT_OK(up_loader_create(build_number, &s, slots, 2 + i % 5, 1 + i % 4, i, &l));
        for (int taken = 0; taken < i % 4; taken++) up_loader_next(l, &slot, NULL);
        up_loader_free(l); /* a hang here is the failure: ctest ends it */
    }
    CU_ASSERT(1);
}

/* Every one of many workers builds at the same time as all others: none waits for a slot. */
typedef struct meeting {
    pthread_mutex_t lock;
    pthread_cond_t all;
    int present, wanted, late;
} meeting;

static up_status build_together(void *context, int64_t iteration, void *slot) {
    meeting *m = context;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    pthread_mutex_lock(&m->lock);
    if (++m->present == m->wanted) pthread_cond_broadcast(&m->all);
    while (m->present < m->wanted && !m->late)
        m->late = pthread_cond_timedwait(&m->all, &m->lock, &until) != 0;
    pthread_mutex_unlock(&m->lock);
    *(int64_t *)slot = iteration;
    return UP_OK;
}

static void test_loader_works_together(void) {
    enum { MOST = 40 };
    static const int threads[] = {1, 2, 6, 17, 32};
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++) {
        int64_t values[MOST], wrong = 0;
        void *slots[MOST], *slot;
        int count = up_loader_slots(threads[i]);
        meeting m = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, threads[i], 0};
        up_loader *l;
        CU_ASSERT_FATAL(count <= MOST);
        for (int k = 0; k < count; k++) slots[k] = &values[k];
        UP_ASSERT_OK(up_loader_create(build_together, &m, slots, count, threads[i], 0, &l));
        for (int64_t k = 0; k < 100; k++) {
            UP_ASSERT_OK(up_loader_next(l, &slot, NULL));
            wrong += *(int64_t *)slot != k;
        }
        up_loader_free(l);
        CU_ASSERT(!m.late && !wrong);
    }
}

/* ---- a small world: the tokenizer, a configuration of 4 cells and 2 frames ---- */

static up_config config;
static up_world world;
static up_backend *backend;
static up_model *model; /* what target sets are made for */

static void open_world(void) {
    if (world.tokenizer) return;
    UP_ASSERT_OK(up_config_preset("tiny", &config));
    config.layers = 2;
    config.width = 16;
    config.heads = 2;
    config.text_positions = 16;
    config.image_size = 16;
    config.patch = 8;
    config.frames = 2;
    config.video_stride = 1;
    config.image_resize = 20;
    config.video_resize = 16;
    config.drop_path = 0;
    world.config = &config;
    UP_ASSERT_OK(up_tokenizer_create(NULL, &world.tokenizer));
    UP_ASSERT_OK(up_backend_ref(&backend));
    UP_ASSERT_OK(up_model_create(backend, &config, 1, &model));
}

static int tokens_of(const char *text, int32_t *ids, int room) {
    size_t count;
    UP_ASSERT_OK(up_tokenize_closed(world.tokenizer, text, strlen(text), (size_t)room, ids, &count));
    return (int)count;
}

/* ---- masking ---- */

enum { RANDOM_IDS = 8, DRAWS = 20000 };
static const int32_t random_ids[RANDOM_IDS] = {1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007};
typedef enum fate { HIDDEN, REPLACED, KEPT, MIXED } fate;

/* What became of the tokens from..to-1, which are one word. */
static fate fate_of(const int32_t *ids, const int32_t *corrupted, int from, int to) {
    int hidden = 0, replaced = 0, kept = 0;
    for (int i = from; i < to; i++) {
        hidden += corrupted[i] == -1;
        kept += corrupted[i] == ids[i];
        replaced += corrupted[i] >= random_ids[0] && corrupted[i] <= random_ids[RANDOM_IDS - 1];
    }
    int n = to - from;
    return hidden == n ? HIDDEN : replaced == n ? REPLACED : kept == n ? KEPT : MIXED;
}

static void test_masking_statistics(void) {
    enum { WORDS = 10 };
    int32_t ids[40], corrupted[40];
    uint8_t read[40];
    int start[WORDS + 1], words = 0;
    open_world();
    int count = tokens_of(
        "the antidisestablishmentarianism of a quetzalcoatlus was not hidden from xylophonists", ids, 40);
    CU_ASSERT_EQUAL_FATAL(ids[count - 1], UP_TOKEN_END);
    for (int i = 0; i < count - 1; i++) {
        if (i && !up_token_ends_word(world.tokenizer, ids[i - 1])) continue;
        CU_ASSERT_FATAL(words < WORDS);
        start[words++] = i;
    }
    CU_ASSERT_EQUAL_FATAL(words, WORDS);
    CU_ASSERT_FATAL(count > WORDS + 5); /* some words have several tokens */
    start[WORDS] = count - 1;
    const up_masking m = {0.15, random_ids, RANDOM_IDS, 0};
    int64_t chosen[WORDS] = {0}, fates[4] = {0}, drawn[RANDOM_IDS] = {0}, numbers[3] = {0}, total = 0,
            torn = 0;
    for (int draw = 0; draw < DRAWS; draw++) {
        up_rng rng = up_rng_make(up_test_seed(), 40, (uint64_t)draw, 0);
        up_mask_words(world.tokenizer, &m, &rng, ids, count, corrupted, read);
        int here = 0;
        for (int w = 0; w < WORDS; w++) {
            fate f = fate_of(ids, corrupted, start[w], start[w + 1]);
            for (int i = start[w]; i < start[w + 1]; i++) {
                torn += read[i] != read[start[w]] || (!read[i] && corrupted[i] != ids[i]);
                if (f == REPLACED) drawn[corrupted[i] - random_ids[0]]++;
            }
            if (!read[start[w]]) continue;
            chosen[w]++;
            fates[f]++;
            here++;
        }
        torn += read[count - 1] || corrupted[count - 1] != UP_TOKEN_END;
        CU_ASSERT_FATAL(here == 1 || here == 2); /* 0.15 of 10 words */
        numbers[here]++;
        total += here;
    }
    CU_ASSERT_EQUAL(torn, 0);
    CU_ASSERT_EQUAL(fates[MIXED], 0);
    int64_t replacements = 0;
    for (int i = 0; i < RANDOM_IDS; i++) replacements += drawn[i];
    double each[WORDS], uniform[RANDOM_IDS];
    for (int w = 0; w < WORDS; w++) each[w] = (double)total / WORDS;
    for (int i = 0; i < RANDOM_IDS; i++) uniform[i] = (double)replacements / RANDOM_IDS;
    expect_fair("one or two words", numbers + 1, (double[]){DRAWS / 2, DRAWS / 2}, 2, 1);
    expect_fair("which words", chosen, each, WORDS, 9);
    expect_fair("80 / 10 / 10", fates,
                (double[]){0.8 * (double)total, 0.1 * (double)total, 0.1 * (double)total}, 3, 2);
    expect_fair("random tokens", drawn, uniform, RANDOM_IDS, 7);
}

/* 15% of the words on average, whatever their number: of n words 0.15 n, rounded up as often as its fraction
 * says. */
static void test_masking_share(void) {
    enum { MOST = 30 };
    int32_t ids[2 * MOST], corrupted[2 * MOST];
    uint8_t read[2 * MOST];
    char text[8 * MOST] = "";
    open_world();
    for (int words = 1; words <= MOST; words++) {
        const up_masking m = {0.15, random_ids, RANDOM_IDS, 0};
        double share = 0.15 * words, fraction = share - floor(share);
        int64_t numbers[2] = {0};
        strcat(text, words % 2 ? "dog " : "cat ");
        int count = tokens_of(text, ids, 2 * MOST);
        CU_ASSERT_EQUAL_FATAL(count, words + 1); /* a token each, and the end */
        for (int draw = 0; draw < 2000; draw++) {
            up_rng rng = up_rng_make(up_test_seed(), 42, (uint64_t)draw, (uint64_t)words);
            up_mask_words(world.tokenizer, &m, &rng, ids, count, corrupted, read);
            int here = 0;
            for (int i = 0; i < count; i++) here += read[i];
            int more = here - (int)fmax(1, floor(share));
            CU_ASSERT_FATAL(more == 0 || (more == 1 && words > 6));
            numbers[more]++;
        }
        if (words > 6 && fraction > 0.01 && fraction < 0.99)
            expect_fair("share of words", numbers, (double[]){2000 * (1 - fraction), 2000 * fraction}, 2, 1);
    }
}

static void test_masking_corners(void) {
    int32_t ids[16], corrupted[16];
    uint8_t read[16];
    open_world();
    for (int draw = 0; draw < 500; draw++) {
        up_rng rng = up_rng_make(up_test_seed(), 41, (uint64_t)draw, 0);
        const up_masking rare = {0.01, random_ids, RANDOM_IDS, 0}, most = {0.9, random_ids, RANDOM_IDS, 0};
        int count = tokens_of("cat", ids, 16), sum = 0;
        up_mask_words(world.tokenizer, &rare, &rng, ids, count, corrupted, read);
        CU_ASSERT(read[0] && !read[1]); /* at least one word */
        count = tokens_of("a cat and a dog", ids, 16);
        up_mask_words(world.tokenizer, &most, &rng, ids, count, corrupted, read);
        for (int i = 0; i < count; i++) sum += read[i];
        CU_ASSERT(sum == 4 || sum == 5);                           /* 0.9 of 5 words */
        count = tokens_of("antidisestablishmentarianism", ids, 3); /* cut inside its only word */
        CU_ASSERT_EQUAL(count, 3);
        up_mask_words(world.tokenizer, &rare, &rng, ids, count, corrupted, read);
        CU_ASSERT(read[0] && read[1] && !read[2]);
        count = tokens_of("", ids, 16);
        up_mask_words(world.tokenizer, &most, &rng, ids, count, corrupted, read);
        CU_ASSERT(count == 1 && !read[0] && corrupted[0] == UP_TOKEN_END);
        up_mask_words(world.tokenizer, &most, &rng, ids, 0, corrupted, read); /* no memory is touched */
    }
}

/* ---- packed batches, written out ---- */

static char *out;
static size_t out_size;

/* The word of one id; "$" for the end token. */
static void print_word(FILE *f, int32_t id, int32_t position) {
    char *text;
    if (id == -1 && position == -1) {
        fputs("S", f);
        return;
    }
    UP_ASSERT_OK(up_detokenize(world.tokenizer, &id, id >= 0, &text));
    fprintf(f, "%s@%d", id == -1 ? "_" : id == UP_TOKEN_END ? "$" : text, position);
    free(text);
}

static int find(const int32_t *rows, int count, int32_t row) {
    for (int i = 0; i < count; i++)
        if (rows[i] == row) return i;
    return -1;
}

/* labels NULL: a target, marked by * where it is read out. */
static void print_token(FILE *f, const up_batch *b, const int32_t *labels, int32_t row) {
    int text = find(b->text_row, b->text_count, row), image = find(b->image.row, b->image.count, row),
        video = find(b->video.row, b->video.count, row), read = find(b->readout_row, b->readouts, row);
    CU_ASSERT_EQUAL((text >= 0) + (image >= 0) + (video >= 0), 1);
    if (text >= 0) print_word(f, b->text_id[text], b->text_position[text]);
    if (image >= 0) fprintf(f, b->image.frame[image] < 0 ? "i%d" : "i%d of a frame", b->image.cell[image]);
    if (video >= 0) fprintf(f, "v%d.%d", b->video.frame[video], b->video.cell[video]);
    if (read >= 0 && labels) fprintf(f, "=%d", labels[read]);
    if (read >= 0 && !labels) fprintf(f, "*");
}

static void print_batch(FILE *f, const up_batch *b, const int32_t *labels) {
    int next = 0, longest = 0;
    for (int s = 0; s < b->sequences; s++) {
        const int32_t *q = b->sequence + (size_t)s * UP_SEQ_FIELDS;
        int doubled = q[UP_SEQ_KIND] == UP_MASK_DOUBLED;
        CU_ASSERT(q[UP_SEQ_Q_START] == next && q[UP_SEQ_K_START] == next &&
                  q[UP_SEQ_Q_COUNT] == q[UP_SEQ_K_COUNT]);
        CU_ASSERT(doubled || q[UP_SEQ_KIND] == UP_MASK_FULL);
        fputs(q[UP_SEQ_SIDE] ? "y" : "x", f);
        if (doubled) {
            fprintf(f, "x %d+%d", q[UP_SEQ_PREFIX], q[UP_SEQ_WORDS]);
            CU_ASSERT_EQUAL(q[UP_SEQ_PREFIX] + 2 * q[UP_SEQ_WORDS], q[UP_SEQ_K_COUNT]);
        }
        for (int i = 0; i < q[UP_SEQ_Q_COUNT]; i++) {
            fputs(" ", f);
            print_token(f, b, labels, next++);
        }
        fputs("\n", f);
        if (q[UP_SEQ_K_COUNT] > longest) longest = q[UP_SEQ_K_COUNT];
    }
    CU_ASSERT_EQUAL(next, b->tokens);
    CU_ASSERT_EQUAL(longest, b->max_keys);
    UP_ASSERT_OK(up_batch_check(b, &config));
}

/* A task opened on a list and bound to its target set, and the work that it makes. */
typedef struct subject {
    up_task_settings settings;
    up_source source;
    up_sets sets;
    up_work work;
} subject;

static void print_target(FILE *f, const int32_t *ids, int64_t count) {
    fputs("y S*", f);
    for (int64_t i = 0; i < count; i++) {
        fputs(" ", f);
        print_word(f, ids[i], (int32_t)i);
    }
    fputs("\n", f);
}

/* What the bound set was filled with; that it holds these texts is shown by test_target_sets. */
static void print_set(FILE *f, const subject *t) {
    const up_set_entry *e = t->sets.list;
    int64_t count = e->count, tokens = 0;
    CU_ASSERT_FATAL(t->sets.count == 1 && e->set == t->source.set);
    if (t->source.task->targets == UP_TARGETS_WORDS) {
        count = world.vocabulary_count;
        tokens = 3 * count;
        for (int64_t i = 0; i < count; i++)
            print_target(f, (int32_t[]){world.vocabulary[i], UP_TOKEN_END}, 2);
    }
    for (int64_t i = 0; t->source.task->targets == UP_TARGETS_CLASSES && i < count; i++) {
        print_target(f, e->ids + e->starts[i], e->starts[i + 1] - e->starts[i]);
        tokens += 1 + e->starts[i + 1] - e->starts[i];
    }
    CU_ASSERT_EQUAL(up_target_set_count(e->set), count);
    CU_ASSERT_EQUAL(up_target_set_tokens(e->set), tokens);
}

/* One line a sequence: side x or y, or "xx" where words and slots are doubled; tokens: S the leading <SPE>,
 * word@position, _ for <SPE> at a position, $ the end token, iCELL, vFRAME.CELL; =LABEL where it is read out
 * as an input, * as a target. Inputs first, then the targets: the batch's own, or those of the set. */
static const char *describe(const subject *t) {
    free(out);
    FILE *f = open_memstream(&out, &out_size);
    print_batch(f, &t->work.batch, t->work.labels);
    if (t->work.targets.sequences)
        print_batch(f, &t->work.targets, NULL);
    else
        print_set(f, t);
    fclose(f);
    return out;
}

static up_status read_settings(const char *kind, const char *list, const char *more, up_task_settings *t) {
    char yaml[1024];
    int n =
        snprintf(yaml, sizeof yaml, "{kind: %s, data: %s, text_limit: 8%s}", kind, up_lab_path(list), more);
    CU_ASSERT_FATAL(n < (int)sizeof yaml);
    UP_ASSERT_OK(up_config_parse("task", yaml, (size_t)n, &up_task_schema, NULL, 0, t));
    return up_task_settings_fill(t);
}

static void open_task(subject *t, const char *kind, const char *list, const char *more) {
    *t = (subject){.sets = {.model = model}};
    UP_ASSERT_OK(read_settings(kind, list, more, &t->settings));
    UP_ASSERT_OK(up_source_open(&t->settings, &world, &t->source));
    UP_ASSERT_OK(up_sets_bind(&t->sets, &t->source));
}

static void close_task(subject *t) {
    up_work_free(&t->work);
    up_sets_free(&t->sets);
    up_source_close(&t->source);
    up_config_free(&up_task_schema, &t->settings);
}

static const up_build_options still = {0, 1, 1, 0};

static void build(subject *t, const up_build_options *options, const size_t *rows, int count) {
    UP_ASSERT_OK(up_source_build(&t->source, options, rows, count, &t->work));
}

static void expect_open_error(const char *kind, const char *list, const char *more, up_status want,
                              const char *a, const char *b) {
    up_task_settings t;
    up_source s;
    UP_ASSERT_OK(read_settings(kind, list, more, &t));
    expect_error(up_source_open(&t, &world, &s), want, a, b);
    up_config_free(&up_task_schema, &t);
}

static void write_small_lists(void) {
    char text[2048];
    open_world();
    size_t n = (size_t)sprintf(text, "image\tlabel\tname\tanswer\n");
    n += (size_t)sprintf(text + n, "%s\tdog\ta dog\tyes\n", up_lab_golden("image", "jpeg_420.jpg"));
    n += (size_t)sprintf(text + n, "%s\tcat\tcat\tno\n", up_lab_golden("image", "png_rgb8.png"));
    n += (size_t)sprintf(text + n, "%s\t\tdog\tyes\n", up_lab_golden("image", "png_grey8.png"));
    up_lab_text("small.tsv", text);
    n = (size_t)sprintf(text, "video\tlabel\tname\n");
    n += (size_t)sprintf(text + n, "%s\tleft\ta cat\n", up_lab_golden("video", "h264.mp4"));
    sprintf(text + n, "%s\tright\tdog\n", up_lab_golden("video", "mjpeg.avi"));
    up_lab_text("small-clips.tsv", text);
    up_lab_text("small-texts.tsv", "text\tword\ncat\tdog\na dog\tcat\n");
}

/* The words of a list's texts and the end token, in the order of their ids. */
static void take_vocabulary(const char *list, int count) {
    up_task_settings t;
    up_source s;
    up_world_free(&world);
    UP_ASSERT_OK(read_settings("ar", list, "", &t));
    t.text_limit = 16;
    UP_ASSERT_OK(up_source_open(&t, &world, &s));
    UP_ASSERT_OK(up_world_collect(&world, &s, 1, UP_VOCABULARY_AUTO));
    up_source_close(&s);
    up_config_free(&up_task_schema, &t);
    CU_ASSERT_EQUAL_FATAL(world.vocabulary_count, count);
}

/* a, dog, cat and the end token */
static void set_vocabulary(void) {
    take_vocabulary("small-texts.tsv", 4);
}

#define VOCABULARY "y S* a@0 $@1\ny S* dog@0 $@1\ny S* cat@0 $@1\ny S* $@0 $@1\n"
static const struct expectation {
    const char *kind, *list, *more, *batch; /* of rows 0 and 1, evaluation */
    float smoothing;
    int symmetric;
    const char *temperature; /* whose */
} expectations[] = {
    {"image_classification", "small.tsv", ", template: \"a {}\"",
     "x S=0 i0 i1 i2 i3\nx S=1 i0 i1 i2 i3\ny S* a@0 dog@1 $@2\ny S* a@0 cat@1 $@2\n", 0.1f, 0,
     "image_classification"},
    {"video_classification", "small-clips.tsv", "",
     "x S=0 v0.0 v0.1 v0.2 v0.3 v1.0 v1.1 v1.2 v1.3\nx S=1 v0.0 v0.1 v0.2 v0.3 v1.0 v1.1 v1.2 v1.3\n"
     "y S* left@0 $@1\ny S* right@0 $@1\n",
     0.1f, 0, "video_classification"},
    {"ar", "small-texts.tsv", "",
     "xx 1+2 S cat@0 $@1 _@0=2 _@1=3\nxx 1+3 S a@0 dog@1 $@2 _@0=0 _@1=1 _@2=3\n" VOCABULARY, 0, 0, "ar"},
    {"caption", "small.tsv", ", text: name",
     "xx 5+3 S i0 i1 i2 i3 a@0 dog@1 $@2 _@0=0 _@1=1 _@2=3\nxx 5+2 S i0 i1 i2 i3 cat@0 $@1 _@0=2 "
     "_@1=3\n" VOCABULARY,
     0, 0, "caption"},
    {"video_caption", "small-clips.tsv", ", text: name",
     "xx 9+3 S v0.0 v0.1 v0.2 v0.3 v1.0 v1.1 v1.2 v1.3 a@0 cat@1 $@2 _@0=0 _@1=2 _@2=3\n"
     "xx 9+2 S v0.0 v0.1 v0.2 v0.3 v1.0 v1.1 v1.2 v1.3 dog@0 $@1 _@0=1 _@1=3\n" VOCABULARY,
     0, 0, "caption"},
    {"image_text_retrieval", "small.tsv", ", target: name",
     "x S=0 i0 i1 i2 i3\nx S=1 i0 i1 i2 i3\ny S* a@0 dog@1 $@2\ny S* cat@0 $@1\n", 0.1f, 1,
     "image_text_retrieval"},
    {"video_text_retrieval", "small-clips.tsv", ", target: name, smoothing: 0.25",
     "x S=0 v0.0 v0.1 v0.2 v0.3 v1.0 v1.1 v1.2 v1.3\nx S=1 v0.0 v0.1 v0.2 v0.3 v1.0 v1.1 v1.2 v1.3\n"
     "y S* a@0 cat@1 $@2\ny S* dog@0 $@1\n",
     0.25f, 1, "image_text_retrieval"},
    {"text_retrieval", "small-texts.tsv", ", target: word, template: \"a {}\"",
     "x S=0 cat@0 $@1\nx S=1 a@0 dog@1 $@2\ny S* a@0 dog@1 $@2\ny S* a@0 cat@1 $@2\n", 0.1f, 1,
     "text_retrieval"},
    {"text_classification", "small-texts.tsv", ", target: word",
     "x S=0 cat@0 $@1\nx S=1 a@0 dog@1 $@2\ny S* dog@0 $@1\ny S* cat@0 $@1\n", 0.1f, 0, "text_retrieval"},
    {"vqa", "small.tsv", ", question: a cat, target: answer",
     "x S i0 i1 i2 i3 a@0 cat@1 ?@2 $@3 _@0=0\nx S i0 i1 i2 i3 a@0 cat@1 ?@2 $@3 _@0=1\ny S* yes@0 $@1\ny S* "
     "no@0 "
     "$@1\n",
     0.1f, 0, "image_mlm"},
    /* the question of each row, here the names of the classes */
    {"vqa", "small.tsv", ", question_column: name, target: answer",
     "x S i0 i1 i2 i3 a@0 dog@1 ?@2 $@3 _@0=0\nx S i0 i1 i2 i3 cat@0 ?@1 $@2 _@0=1\ny S* yes@0 $@1\ny S* "
     "no@0 "
     "$@1\n",
     0.1f, 0, "image_mlm"},
    /* two sentences, each with its end, positions going on */
    {"text_classification", "small-texts.tsv", ", text_pair: word, target: word",
     "x S=0 cat@0 $@1 dog@2 $@3\nx S=1 a@0 dog@1 $@2 cat@3 $@4\ny S* dog@0 $@1\ny S* cat@0 $@1\n", 0.1f, 0,
     "text_retrieval"},
};

static void expect_loss(const struct expectation *e, const up_work *w) {
    const up_loss *l = &w->loss;
    int texts = w->source->task->targets == UP_TARGETS_TEXTS;
    CU_ASSERT_EQUAL(l->smoothing, e->smoothing);
    CU_ASSERT_EQUAL(l->symmetric, e->symmetric);
    CU_ASSERT_EQUAL(l->task, up_config_task(&config, e->temperature));
    CU_ASSERT(l->weight == 1 && l->labels == w->labels && l->choices <= 1);
    CU_ASSERT(!l->soft && !l->shares && !l->bias && !l->head);
    CU_ASSERT(l->group_x == (texts ? w->groups : NULL) && l->group_y == l->group_x);
    for (int i = 0; i < w->targets.sequences; i++) CU_ASSERT_EQUAL(w->groups[i], i); /* no two are equal */
}

static void expect_batch(const struct expectation *e) {
    static const size_t rows[2] = {0, 1}, many[6] = {1, 0, 1, 1, 0, 0};
    subject t;
    open_task(&t, e->kind, e->list, e->more);
    for (int round = 0; round < 2; round++) { /* on fresh memory, and again after a larger batch */
        build(&t, &still, rows, 2);
        if (strcmp(describe(&t), e->batch))
            fprintf(stderr, "%s: found\n%swanted\n%s", e->kind, out, e->batch);
        CU_ASSERT_STRING_EQUAL(out, e->batch);
        CU_ASSERT_PTR_EQUAL(t.work.source, &t.source);
        expect_loss(e, &t.work);
        if (!round) build(&t, &(up_build_options){1, 1, 1, 0}, many, 6);
    }
    close_task(&t);
}

static void test_batches(void) {
    write_small_lists();
    set_vocabulary();
    for (size_t i = 0; i < sizeof expectations / sizeof expectations[0]; i++)
        if (!up_task_find(expectations[i].kind)->video || up_lab_clips()) expect_batch(&expectations[i]);
}

/* Which of the fates of the single word of a masked text the batch shows; -1: none of them. */
static int fate_shown(const subject *t, const char *head) {
    static const char *const fates[] = {"_", "a", "dog", "cat", "$"}; /* random ones are of the vocabulary */
    describe(t);
    for (int f = 0; f < 5; f++) {
        char want[400];
        snprintf(want, sizeof want, "%s%s@0=2 $@1\n" VOCABULARY, head, fates[f]);
        if (!strcmp(out, want)) return f;
    }
    fprintf(stderr, "%s: found\n%s", t->settings.name, out);
    return -1;
}

/* The three fates of the word of a masked text; whichever it is, the label is the word. */
static void test_masked_batches(void) {
    static const struct {
        const char *kind, *list, *more, *head;
        size_t row; /* a text that is "cat" */
    } kinds[] = {{"mlm", "small-texts.tsv", ", loss_weight: 0.5", "x S ", 0},
                 {"image_mlm", "small.tsv", ", text: name, loss_weight: 0.5", "x S i0 i1 i2 i3 ", 1}};
    write_small_lists();
    set_vocabulary();
    for (int k = 0; k < 2; k++) {
        subject t;
        int found[5] = {0}, none = 0, shown = 0;
        open_task(&t, kinds[k].kind, kinds[k].list, kinds[k].more);
        for (uint64_t sample = 0; sample < 300; sample++) {
            build(&t, &(up_build_options){.training = 1, .seed = up_test_seed(), .first = sample, 0},
                  &kinds[k].row, 1);
            int f = fate_shown(&t, kinds[k].head);
            if (f < 0)
                none++;
            else
                found[f]++;
        }
        CU_ASSERT_EQUAL(none, 0);
        CU_ASSERT(found[0] > 150 && found[3] > 5 && found[1] + found[2] + found[4] > 5);
        CU_ASSERT_EQUAL(t.work.loss.weight, 0.5f);
        for (uint64_t seed = 0; seed < 40; seed++) { /* evaluation shows no word that is asked for */
            build(&t, &(up_build_options){0, seed, seed, 0}, &kinds[k].row, 1);
            shown += fate_shown(&t, kinds[k].head) != 0;
        }
        CU_ASSERT_EQUAL(shown, 0);
        close_task(&t);
    }
}

/* The pictures' first bytes of each sequence, and the targets, as text. */
static char *copy_of(const subject *t) {
    const up_batch *b = &t->work.batch;
    char *copy = NULL;
    size_t size, patch = 3 * (size_t)b->config.patch * (size_t)b->config.patch;
    FILE *f = open_memstream(&copy, &size);
    fputs(describe(t), f);
    for (size_t i = 0; i < (size_t)b->image.count * patch; i++) fprintf(f, " %d", b->image.bytes[i]);
    fclose(f);
    return copy;
}

/* A row that cannot be read, in its picture or behind it, in its text: the batch is that of the rows drawn in
 * its place, to the byte, and each attempt is noted. */
static void test_replacements(void) {
    enum { ROWS = 4, COUNT = 6 };
    static const up_build_options training = {1, 7, 40, 0};
    static const size_t rows[COUNT] = {0, 1, 2, 3, 1, 0};
    size_t readable[COUNT];
    char text[2048];
    subject t;
    open_world();
    size_t n = (size_t)sprintf(text, "image\tname\n%s\tdog\n", up_lab_golden("image", "jpeg_420.jpg"));
    n += (size_t)sprintf(text + n, "absent.jpg\tcat\n");
    n += (size_t)sprintf(text + n, "%s\n", up_lab_golden("image", "png_rgb8.png"));
    sprintf(text + n, "%s\ta dog\n", up_lab_golden("image", "png_rgb8.png"));
    up_lab_text("replaced.tsv", text);
    open_task(&t, "image_text_retrieval", "replaced.tsv", ", target: name, flip: true");
    CU_ASSERT_EQUAL_FATAL(t.source.data.count, ROWS);
    build(&t, &training, rows, COUNT);
    int bad = 0;
    for (int i = 0; i < COUNT; i++) {
        readable[i] = rows[i];
        for (int attempt = 1; readable[i] == 1 || readable[i] == 2; attempt++, bad++) {
            CU_ASSERT_FATAL(bad < t.work.bad_count);
            CU_ASSERT_EQUAL(t.work.bad[bad].row, readable[i]);
            const char *why = readable[i] == 1 ? "absent.jpg: cannot open" : "line 4: list: 1 cells";
            CU_ASSERT_PTR_NOT_NULL(strstr(t.work.bad[bad].reason, why));
            readable[i] = up_source_replacement(&t.source, 7, 40 + (uint64_t)i, attempt);
        }
    }
    CU_ASSERT_EQUAL(bad, t.work.bad_count);
    UP_ASSERT_OK(up_batch_check(&t.work.batch, world.config));
    char *replaced = copy_of(&t);
    build(&t, &training, readable, COUNT);
    CU_ASSERT_EQUAL(t.work.bad_count, 0);
    char *wanted = copy_of(&t);
    CU_ASSERT_STRING_EQUAL(replaced, wanted);
    expect_error(up_source_build(&t.source, &still, rows, COUNT, &t.work), UP_ERR_IO, "absent.jpg",
                 "cannot open"); /* evaluation passes over nothing */
    free(replaced);
    free(wanted);
    close_task(&t);
}

static void test_labels_left_out(void) {
    static const size_t rows[3] = {2, 0, 1};
    subject t;
    write_small_lists();
    set_vocabulary();
    open_task(&t, "image_classification", "small.tsv", "");
    build(&t, &still, rows, 3); /* row 2 has no class */
    CU_ASSERT_STRING_EQUAL(describe(&t), "x S=-1 i0 i1 i2 i3\nx S=0 i0 i1 i2 i3\nx S=1 i0 i1 i2 i3\n"
                                         "y S* dog@0 $@1\ny S* cat@0 $@1\n");
    close_task(&t);
    up_lab_text("other.tsv", "text\ncat house\n");
    open_task(&t, "ar", "other.tsv", ""); /* "house" is not in the target set */
    build(&t, &still, &rows[1], 1);
    CU_ASSERT_STRING_EQUAL(describe(&t), "xx 1+3 S cat@0 house@1 $@2 _@0=2 _@1=-1 _@2=3\n" VOCABULARY);
    close_task(&t);
}

/* ---- target sets ---- */

enum { WIDTH = 16, MOST_TARGETS = 8 };

/* The set holds these texts, in this order: it has the features of a batch of them. */
static void expect_texts(up_target_set *set, const char *const *texts, int count) {
    float want[MOST_TARGETS * WIDTH], found[MOST_TARGETS * WIDTH];
    up_batch batch = {0};
    up_set_encoders how = {0};
    UP_ASSERT_OK(up_batch_begin(&batch, &config));
    for (int i = 0; i < count; i++) {
        int32_t ids[16];
        int n = tokens_of(texts[i], ids, 16);
        UP_ASSERT_OK(up_batch_open(&batch, UP_SIDE_TARGET, 1));
        UP_ASSERT_OK(up_batch_text(&batch, ids, n, 0, NULL));
        UP_ASSERT_OK(up_batch_close(&batch));
    }
    up_lab_encode(model, &batch, want);
    CU_ASSERT_EQUAL_FATAL(up_target_set_count(set), count);
    UP_ASSERT_OK(up_encoder_create(model, NULL, &how.scout));
    UP_ASSERT_OK(up_target_set_encode(set, &how));
    UP_ASSERT_OK(up_features_read(up_target_set_features(set), found));
    CU_ASSERT(!memcmp(found, want, (size_t)count * WIDTH * sizeof(float)));
    up_encoder_free(how.scout);
    up_batch_free(&batch);
}

/* Which sources have which set: equal lists of classes one, all language tasks one, what belongs to a batch
 * one. */
static void test_target_sets(void) {
    static const struct {
        const char *kind, *list, *more;
        int set[2]; /* in evaluation, in training */
    } uses[] = {
        {"image_classification", "small.tsv", ", template: \"a {}\"", {0, 0}},
        {"ar", "small-texts.tsv", "", {1, 1}},
        {"text_classification", "small-texts.tsv", ", target: word", {2, 2}},
        {"text_classification", "small-texts.tsv", ", target: word, template: \"a {}\"", {0, 0}},
        {"text_retrieval", "small-texts.tsv", ", target: word", {3, 3}},
        {"caption", "small.tsv", ", text: name", {1, 1}},
        {"image_text_retrieval", "small.tsv", ", target: name", {3, 3}},
        {"mlm", "small-texts.tsv", ", sampled_targets: 2", {1, 3}},
        {"text_classification", "small-texts.tsv", ", target: text", {4, 4}},
    };
    enum { USES = sizeof uses / sizeof uses[0] };
    static const size_t rows[2] = {0, 1};
    subject t[USES];
    write_small_lists();
    set_vocabulary();
    for (int training = 0; training < 2; training++) {
        up_sets sets = {.model = model, .training = training};
        for (int i = 0; i < USES; i++) {
            open_task(&t[i], uses[i].kind, uses[i].list, uses[i].more);
            UP_ASSERT_OK(up_sets_bind(&sets, &t[i].source));
            CU_ASSERT_PTR_EQUAL(t[i].source.set, sets.list[uses[i].set[training]].set);
        }
        CU_ASSERT_EQUAL_FATAL(sets.count, 5);
        expect_texts(sets.list[0].set, (const char *[]){"a dog", "a cat"}, 2);
        expect_texts(sets.list[1].set, (const char *[]){"a", "dog", "cat", "<|endoftext|>"}, 4);
        expect_texts(sets.list[2].set, (const char *[]){"dog", "cat"}, 2);
        CU_ASSERT_EQUAL(up_target_set_count(sets.list[3].set), 0);
        expect_texts(sets.list[4].set, (const char *[]){"cat", "a dog"}, 2);
        build(&t[6], &still, rows, 2); /* the batch's own */
        UP_ASSERT_OK(up_target_set_fill(t[6].source.set, &t[6].work.targets));
        expect_texts(sets.list[3].set, (const char *[]){"a dog", "cat"}, 2);
        up_sets_free(&sets);
        for (int i = 0; i < USES; i++) close_task(&t[i]);
    }
}

/* ---- lists of classes ---- */

static const char *classes_setting(const char *name) {
    static char more[400];
    snprintf(more, sizeof more, ", classes: %s", up_lab_path(name));
    return more;
}

/* In the file's order, with a class that no row has; empty lines, line ends of both kinds, a byte order mark.
 */
static void test_class_lists(void) {
    static const size_t rows[3] = {0, 1, 2};
    subject t;
    write_small_lists();
    up_lab_text("classes.txt", "\xef\xbb\xbf"
                               "cat\r\n\n\r\na house\ndog");
    open_task(&t, "image_classification", "small.tsv", classes_setting("classes.txt"));
    CU_ASSERT_EQUAL_FATAL(t.source.class_count, 3);
    CU_ASSERT_STRING_EQUAL(t.source.classes[0], "cat");
    CU_ASSERT_STRING_EQUAL(t.source.classes[1], "a house");
    CU_ASSERT_STRING_EQUAL(t.source.classes[2], "dog");
    build(&t, &still, rows, 3);
    CU_ASSERT_STRING_EQUAL(describe(&t), "x S=2 i0 i1 i2 i3\nx S=0 i0 i1 i2 i3\nx S=-1 i0 i1 i2 i3\n"
                                         "y S* cat@0 $@1\ny S* a@0 house@1 $@2\ny S* dog@0 $@1\n");
    close_task(&t);
    up_lab_text("classes.txt", "no\nyes\n"); /* answers are classes too */
    char more[500];
    snprintf(more, sizeof more, ", question: a cat, target: answer%s", classes_setting("classes.txt"));
    open_task(&t, "vqa", "small.tsv", more);
    build(&t, &still, rows, 2);
    CU_ASSERT_STRING_EQUAL(describe(&t), "x S i0 i1 i2 i3 a@0 cat@1 ?@2 $@3 _@0=1\n"
                                         "x S i0 i1 i2 i3 a@0 cat@1 ?@2 $@3 _@0=0\n"
                                         "y S* no@0 $@1\ny S* yes@0 $@1\n");
    close_task(&t);
}

/* What classes are called: the first name in evaluation, one drawn for each batch in training. */
static void test_class_names(void) {
    enum { DRAWS = 400 };
    static const size_t rows[2] = {0, 1};
    subject t;
    int64_t found[2] = {0};
    int other = 0;
    char more[400];
    write_small_lists();
    up_lab_text("names.txt", "cat pet\r\nfox none\ndog hound, old dog\n");
    snprintf(more, sizeof more, ", names: %s", up_lab_path("names.txt"));
    open_task(&t, "image_classification", "small.tsv", more);
    build(&t, &still, rows, 2);
    const char *inputs = "x S=0 i0 i1 i2 i3\nx S=1 i0 i1 i2 i3\n", *pet = "y S* pet@0 $@1\n";
    char want[3][400];
    snprintf(want[0], sizeof want[0], "%sy S* hound@0 $@1\n%s", inputs, pet);
    snprintf(want[1], sizeof want[1], "%sy S* old@0 dog@1 $@2\n%s", inputs, pet);
    CU_ASSERT_STRING_EQUAL(describe(&t), want[0]);
    for (uint64_t first = 0; first < DRAWS; first++) {
        build(&t, &(up_build_options){.training = 1, .seed = up_test_seed(), .first = 2 * first}, rows, 2);
        describe(&t);
        int which = !strcmp(out, want[0]) ? 0 : !strcmp(out, want[1]) ? 1 : -1;
        if (which < 0)
            other++;
        else
            found[which]++;
    }
    CU_ASSERT_EQUAL(other, 0);
    expect_fair("names of a class", found, (double[]){DRAWS / 2, DRAWS / 2}, 2, 1);
    close_task(&t);
    up_lab_text("names.txt", "cat pet\n");
    expect_open_error("image_classification", "small.tsv", more, UP_ERR_FORMAT, "names.txt",
                      "has no name for \"dog\"");
}

/* Several captions of a picture: the first in evaluation, one drawn in training; they are no negatives of
 * each other, and neither are equal ones of other pictures. */
static void test_captions_of_a_picture(void) {
    enum { DRAWS = 400 };
    static const size_t rows[3] = {0, 1, 2};
    const char *image = up_lab_golden("image", "jpeg_420.jpg");
    char json[2048];
    subject t;
    int64_t found[2] = {0};
    open_world();
    snprintf(json, sizeof json,
             "{\"image\": \"%1$s\", \"text\": [\"cat\", \"a dog\"]}\n{\"image\": \"%1$s\", \"text\": "
             "\"a house\"}\n{\"image\": \"./%1$s\", \"text\": \"a mouse\"}\n",
             image);
    up_lab_text("captions.jsonl", json);
    open_task(&t, "image_text_retrieval", "captions.jsonl", ", target: text, images: /");
    build(&t, &still, rows, 3);
    CU_ASSERT_STRING_EQUAL(describe(&t), "x S=0 i0 i1 i2 i3\nx S=1 i0 i1 i2 i3\nx S=2 i0 i1 i2 i3\n"
                                         "y S* cat@0 $@1\ny S* a@0 house@1 $@2\ny S* a@0 mouse@1 $@2\n");
    CU_ASSERT(t.work.groups[0] == 0 && t.work.groups[1] == 0 && t.work.groups[2] == 2);
    CU_ASSERT(t.work.pictures[0] == t.work.pictures[1] && t.work.pictures[0] != t.work.pictures[2]);
    for (uint64_t first = 0; first < DRAWS; first++) {
        build(&t, &(up_build_options){.training = 1, .seed = up_test_seed(), .first = first}, rows, 1);
        found[strstr(describe(&t), "y S* cat@0 $@1\n") == NULL]++;
    }
    expect_fair("captions", found, (double[]){DRAWS / 2, DRAWS / 2}, 2, 1);
    close_task(&t);
}

/* A line of a document is filled from those behind it up to the limit, and not beyond an empty line. */
static void test_documents(void) {
    static const size_t rows[3] = {0, 1, 2};
    subject t;
    open_world();
    up_lab_text("book.txt", "cat\na dog\n\ncat cat cat cat cat cat cat cat cat\n");
    take_vocabulary("book.txt", 4);
    open_task(&t, "ar", "book.txt", "");
    build(&t, &still, rows, 3);
    CU_ASSERT_STRING_EQUAL(describe(&t),
                           "xx 1+4 S cat@0 a@1 dog@2 $@3 _@0=2 _@1=0 _@2=1 _@3=3\n"
                           "xx 1+3 S a@0 dog@1 $@2 _@0=0 _@1=1 _@2=3\n"
                           "xx 1+8 S cat@0 cat@1 cat@2 cat@3 cat@4 cat@5 cat@6 $@7 _@0=2 _@1=2 _@2=2 _@3=2 "
                           "_@4=2 _@5=2 _@6=2 _@7=3\n" VOCABULARY);
    close_task(&t);
}

/* Those of the rows, in the order in which they come first. */
static void test_classes_of_rows(void) {
    enum { ROWS = 3000, CLASSES = 700 };
    char *text = malloc(ROWS * 16), name[16];
    size_t n = (size_t)sprintf(text, "text\tc\n");
    int wrong = 0, next = 0;
    subject t;
    open_world();
    for (int i = 0; i < ROWS; i++) /* every 11th has none */
        n += (size_t)(i % 11 ? sprintf(text + n, "x\tk%d\n", i * 3 % CLASSES) : sprintf(text + n, "x\t\n"));
    up_lab_text("many.tsv", text);
    open_task(&t, "text_classification", "many.tsv", ", target: c");
    CU_ASSERT_EQUAL_FATAL(t.source.class_count, CLASSES);
    for (int i = 0; i < ROWS; i++) {
        sprintf(name, "k%d", i * 3 % CLASSES);
        int found = up_classes_find(&t.source, name);
        wrong += found < 0 || strcmp(t.source.classes[found], name) || (i % 11 && found > next);
        if (i % 11 && found == next) next++;
    }
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT_EQUAL(up_classes_find(&t.source, "k"), -1);
    close_task(&t);
    free(text);
}

static void test_class_errors(void) {
    static const struct {
        const char *classes, *list, *file, *why;
        size_t size;
    } cases[] = {
        {"cat\nhouse\n", "small.tsv", "small.tsv", "line 2: is of class \"dog\"", 0},
        {"Dog\ncat\n", "small.tsv", "small.tsv", "line 2: is of class \"dog\"", 0},
        {"dog\n", "small.tsv", "small.tsv", "line 3: is of class \"cat\"", 0},
        {"dog\ncat\nhouse\ncat\n", "small.tsv", "classes.txt", "names \"cat\" twice", 0},
        {"dog\ncat\n\0house\n", "small.tsv", "classes.txt", "NUL byte", 15},
        {"dog\n", "one.tsv", "classes.txt", "names 1 class(es), dog: wanted two or more", 0},
        {"\n\r\n", "none.tsv", "classes.txt", "names 0 class(es): wanted two or more", 0},
        {"", "none.tsv", "classes.txt", "names 0 class(es): wanted two or more", 0},
    };
    write_small_lists();
    up_lab_text("one.tsv", "image\tlabel\na.jpg\tdog\nb.jpg\t\nc.jpg\tdog\n");
    up_lab_text("none.tsv", "image\tlabel\na.jpg\t\n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t size = cases[i].size ? cases[i].size : strlen(cases[i].classes);
        up_lab_file("classes.txt", cases[i].classes, size);
        expect_open_error("image_classification", cases[i].list, classes_setting("classes.txt"),
                          UP_ERR_FORMAT, cases[i].file, cases[i].why);
    }
    expect_open_error("image_classification", "small.tsv", classes_setting("absent.txt"), UP_ERR_IO,
                      "absent.txt", "No such file");
    expect_open_error("image_classification", "one.tsv", "", UP_ERR_FORMAT, "one.tsv",
                      "names 1 class(es), dog: wanted two or more");
    expect_open_error("image_classification", "none.tsv", "", UP_ERR_FORMAT, "none.tsv",
                      "names 0 class(es): wanted two or more");
    up_task_settings t;
    expect_error(read_settings("caption", "small.tsv", classes_setting("classes.txt"), &t), UP_ERR_ARGUMENT,
                 "caption", "not compared with classes");
    up_config_free(&up_task_schema, &t);
    expect_error(read_settings("vqa", "small.tsv", ", sampled_targets: 3", &t), UP_ERR_ARGUMENT, "vqa",
                 "sampled_targets is for language tasks");
    up_config_free(&up_task_schema, &t);
}

/* ---- texts of a batch that are equal ---- */

static void test_equal_texts(void) {
    enum { FEW = 6, MANY = 400, KINDS = 250 };
    static const int32_t want[FEW] = {0, 1, 0, 3, 1, 0};
    static size_t rows[MANY];
    static int kind[MANY], first[KINDS];
    subject t;
    open_world();
    for (size_t i = 0; i < MANY; i++) rows[i] = i;
    /* equal is what the model sees: after cleaning, and within the limit of 8 tokens */
    up_lab_text("equal.tsv", "text\tword\na\tdog\nb\tcat a b c d e f g\nc\tDog\nd\ta dog\n"
                             "e\tcat a b c d e f h\nf\t dog\n");
    open_task(&t, "text_retrieval", "equal.tsv", ", target: word");
    build(&t, &(up_build_options){1, 1, 0, 0}, rows, FEW);
    for (int i = 0; i < FEW; i++) CU_ASSERT_EQUAL(t.work.groups[i], want[i]);
    for (int i = 0; i < FEW; i++) CU_ASSERT_EQUAL(t.work.labels[i], i);
    close_task(&t);
    char *list = malloc(MANY * 32);
    size_t n = (size_t)sprintf(list, "text\tword\n");
    up_rng rng = up_rng_make(up_test_seed(), 42, 0, 0);
    for (int i = 0; i < MANY; i++) {
        kind[i] = (int)up_rng_below(&rng, KINDS);
        n += (size_t)sprintf(list + n, "a\tnumber %d\n", kind[i]);
    }
    up_lab_text("equal.tsv", list);
    free(list);
    open_task(&t, "text_retrieval", "equal.tsv", ", target: word");
    build(&t, &(up_build_options){1, 1, 0, 0}, rows, MANY);
    int wrong = 0;
    for (int i = MANY - 1; i >= 0; i--) first[kind[i]] = i;
    for (int i = 0; i < MANY; i++) wrong += t.work.groups[i] != first[kind[i]];
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT(t.work.loss.group_x == t.work.groups && t.work.loss.group_y == t.work.groups);
    close_task(&t);
}

/* ---- sampled targets ---- */

enum { LETTERS = 26, WORDS_IN_ALL = LETTERS + 1, OWN = 4, DRAWN = 7 };

/* A vocabulary of the letters, which are words of one token, and the end token; rows 0 and 1 have a, b, c. */
static void write_letters(void) {
    char text[200];
    size_t n = (size_t)sprintf(text, "text\na b\nb c");
    for (int i = 0; i < LETTERS; i++) n += (size_t)sprintf(text + n, i % 13 ? " %c" : "\n%c", 'a' + i);
    open_world();
    up_lab_text("letters.tsv", text);
    take_vocabulary("letters.tsv", WORDS_IN_ALL);
}

/* The word that a target of the batch is, as its place among all words: a to z, the end. */
static int word_of(const up_batch *targets, int sequence) {
    char *text;
    const int32_t *q = targets->sequence + (size_t)sequence * UP_SEQ_FIELDS;
    const int32_t *ids = targets->text_id + q[UP_SEQ_Q_START];
    CU_ASSERT(q[UP_SEQ_Q_COUNT] == 3 && ids[0] == UP_ID_SPE && ids[2] == UP_TOKEN_END);
    if (ids[1] == UP_TOKEN_END) return LETTERS;
    UP_ASSERT_OK(up_detokenize(world.tokenizer, &ids[1], 1, &text));
    int word = text[1] ? -1 : text[0] - 'a';
    free(text);
    CU_ASSERT_FATAL(word >= 0 && word < LETTERS);
    return word;
}

/* The words of the set, each once; their biases by word, NAN for those that are not in it. */
static void take_sampled(const subject *t, float *bias) {
    const up_work *w = &t->work;
    int twice = 0;
    for (int i = 0; i < WORDS_IN_ALL; i++) bias[i] = NAN;
    CU_ASSERT_PTR_EQUAL_FATAL(w->loss.bias, w->bias);
    for (int i = 0; i < w->targets.sequences; i++) {
        int word = word_of(&w->targets, i);
        twice += !isnan(bias[word]);
        bias[word] = w->bias[i];
    }
    CU_ASSERT_EQUAL(twice, 0);
    UP_ASSERT_OK(up_batch_check(&w->targets, &config));
}

/* Slots of "a b" and "b c", each with its end, and the words that are true there. */
static void expect_sampled_labels(const up_work *w) {
    static const int words[6] = {0, 1, LETTERS, 1, 2, LETTERS};
    CU_ASSERT_EQUAL_FATAL(w->batch.readouts, 6);
    for (int i = 0; i < 6; i++) {
        CU_ASSERT_FATAL(w->labels[i] >= 0 && w->labels[i] < w->targets.sequences);
        CU_ASSERT_EQUAL(word_of(&w->targets, w->labels[i]), words[i]);
    }
}

static int is_own(int word) {
    return word <= 2 || word == LETTERS;
}

/* The batch's own words are always there; of the others 7 of 23 each time, each as often as exp(-bias) says.
 */
static void test_sampled_targets(void) {
    enum { OTHERS = WORDS_IN_ALL - OWN, TIMES = 20000 };
    static const size_t rows[2] = {0, 1};
    int64_t found[WORDS_IN_ALL] = {0};
    float bias[WORDS_IN_ALL], correction = NAN;
    subject t;
    write_letters();
    open_task(&t, "ar", "letters.tsv", ", sampled_targets: 7");
    for (uint64_t time = 0; time < TIMES; time++) {
        build(&t, &(up_build_options){.training = 1, .seed = up_test_seed(), .first = 2 * time, 0}, rows, 2);
        CU_ASSERT_EQUAL_FATAL(t.work.targets.sequences, OWN + DRAWN);
        expect_sampled_labels(&t.work);
        take_sampled(&t, bias);
        for (int i = 0; i < WORDS_IN_ALL; i++) {
            found[i] += !isnan(bias[i]);
            if (is_own(i)) CU_ASSERT_EQUAL(bias[i], 0);
            if (is_own(i) || isnan(bias[i])) continue;
            if (isnan(correction)) correction = bias[i];
            CU_ASSERT_EQUAL_FATAL(bias[i], correction);
        }
    }
    close_task(&t);
    double p = exp(-correction), wanted = TIMES * p, sum = 0;
    CU_ASSERT(fabs(p - (double)DRAWN / OTHERS) < 1e-6);
    for (int i = 0; i < WORDS_IN_ALL; i++) {
        double off = (double)found[i] - wanted;
        if (is_own(i)) CU_ASSERT_EQUAL(found[i], TIMES);
        if (!is_own(i)) sum += off * off / (wanted * (1 - p));
    }
    sum *= (OTHERS - 1.0) / OTHERS; /* as drawing without returning varies less */
    if (!(sum < chi_limit[22]))
        fprintf(stderr, "sampled targets: chi-square %.1f, UP_TEST_SEED=%llu\n", sum,
                (unsigned long long)up_test_seed());
    CU_ASSERT(sum < chi_limit[22]);
}

/* Bits of the words that are in the set. */
static uint32_t sampled_words(subject *t, const up_build_options *options) {
    static const size_t rows[2] = {0, 1};
    float bias[WORDS_IN_ALL];
    uint32_t words = 0;
    build(t, options, rows, 2);
    take_sampled(t, bias);
    for (int i = 0; i < WORDS_IN_ALL; i++) words |= (uint32_t)!isnan(bias[i]) << i;
    return words;
}

static void test_sampled_corners(void) {
    static const size_t rows[3] = {0, 1, 0};
    float bias[WORDS_IN_ALL];
    subject t;
    write_letters();
    open_task(&t, "ar", "letters.tsv", ", sampled_targets: 7");
    int same = 0;
    for (uint64_t first = 0; first < 50; first++) { /* one of 245,157 choices each time */
        const up_build_options options = {1, up_test_seed(), first, 0},
                               other = {1, up_test_seed() + 1, first, 0},
                               next = {1, up_test_seed(), first + 2, 0};
        uint32_t words = sampled_words(&t, &options);
        CU_ASSERT_EQUAL(sampled_words(&t, &options), words);
        same += sampled_words(&t, &other) == words;
        same += sampled_words(&t, &next) == words;
        t.source.number = 1;
        same += sampled_words(&t, &options) == words;
        t.source.number = 0;
    }
    CU_ASSERT(same <= 2);
    build(&t, &still, rows, 2); /* evaluation knows no approximation */
    CU_ASSERT(t.work.targets.sequences == 0 && !t.work.loss.bias);
    CU_ASSERT(t.work.labels[0] == world.vocabulary_index[t.work.batch.text_id[1]]);
    close_task(&t);
    open_task(&t, "ar", "letters.tsv", ", sampled_targets: 1000000000"); /* all there are */
    build(&t, &(up_build_options){1, 1, 1, 0}, rows, 2);
    expect_sampled_labels(&t.work);
    CU_ASSERT_EQUAL(t.work.targets.sequences, WORDS_IN_ALL);
    take_sampled(&t, bias);
    for (int i = 0; i < WORDS_IN_ALL; i++) CU_ASSERT_EQUAL(bias[i], 0);
    close_task(&t);
    up_lab_text("other.tsv", "text\na house b\n");
    open_task(&t, "ar", "other.tsv", ", sampled_targets: 2"); /* "house" is not in the vocabulary */
    build(&t, &(up_build_options){1, 1, 1, 0}, rows, 1);
    CU_ASSERT_EQUAL(t.work.labels[1], -1);
    CU_ASSERT_EQUAL(t.work.targets.sequences, 3 + 2);
    CU_ASSERT_EQUAL(word_of(&t.work.targets, t.work.labels[0]), 0);
    CU_ASSERT_EQUAL(word_of(&t.work.targets, t.work.labels[2]), 1);
    CU_ASSERT_EQUAL(word_of(&t.work.targets, t.work.labels[3]), LETTERS);
    close_task(&t);
}

/* ---- pixels, chance and its absence ---- */

enum { SIDE = 16, PATCHES = 3 * SIDE * SIDE };

/* Where a pixel lies in the patches of a picture: 2 x 2 cells of 8 x 8, by channel. */
static int place_of(int c, int y, int x) {
    return ((y / 8 * 2 + x / 8) * 3 + c) * 64 + y % 8 * 8 + x % 8;
}

static int channel_of(int place) {
    return place / 64 % 3;
}

/* The middle of a picture: its bytes in the order of patches, and the values that up_image_normalize makes of
 * them. */
static void square_patches(const up_image *image, int resize, const up_pixel_norm *norm, uint8_t *bytes,
                           float *values) {
    up_image square = {0};
    float pixels[PATCHES];
    UP_ASSERT_OK(up_image_square(image, resize, SIDE, 0.5, 0.5, &square));
    up_image_normalize(&square, norm, pixels);
    UP_ASSERT_OK(up_image_patches(pixels, SIDE, SIDE, 8, values));
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            for (int c = 0; c < 3; c++) bytes[place_of(c, y, x)] = square.data[(y * SIDE + x) * 3 + c];
    up_image_free(&square);
}

/* The bytes are those, and the model sees the values: by its table, and by what it makes of an input of them
 * (`values`, a batch of the same sequence). */
static void expect_pixels(const subject *t, int video, const uint8_t *bytes, const float *values,
                          const up_batch *same) {
    const up_batch *b = &t->work.batch;
    const up_patch_rows *p = video ? &b->video : &b->image;
    float levels[3 * 256], found[WIDTH], want[WIDTH];
    up_model *seer;
    int n = p->count * 3 * 64, other = 0;
    CU_ASSERT_EQUAL_FATAL(n, (video ? 2 : 1) * PATCHES);
    CU_ASSERT(!memcmp(p->bytes, bytes, (size_t)n));
    CU_ASSERT_PTR_NULL(p->values);
    up_pixel_levels(up_config_pixel_norm(&config, video), levels);
    for (int i = 0; i < n; i++) other += levels[channel_of(i) * 256 + p->bytes[i]] != values[i];
    CU_ASSERT_EQUAL(other, 0);
    UP_ASSERT_OK(up_model_create(backend, &config, 2, &seer));
    up_lab_encode(seer, b, found);
    up_lab_encode(seer, same, want);
    CU_ASSERT(!memcmp(found, want, sizeof want));
    up_model_destroy(seer);
}

static void test_pixels(void) {
    uint8_t bytes[PATCHES];
    float values[PATCHES];
    up_image image = {0};
    up_batch same = {0};
    subject t;
    size_t row = 0;
    write_small_lists();
    open_task(&t, "image_classification", "small.tsv", ", resize: 30, flip: true");
    build(&t, &still, &row, 1);
    UP_ASSERT_OK(up_image_read(up_lab_golden("image", "jpeg_420.jpg"), NULL, &image));
    /* the model's resize: the task's is for training */
    square_patches(&image, 20, &up_pixel_norm_image, bytes, values);
    UP_ASSERT_OK(up_batch_begin(&same, &config));
    UP_ASSERT_OK(up_batch_open(&same, UP_SIDE_INPUT, 1));
    UP_ASSERT_OK(up_batch_image_values(&same, values, 4));
    UP_ASSERT_OK(up_batch_close(&same));
    expect_pixels(&t, 0, bytes, values, &same);
    up_image_free(&image);
    up_batch_free(&same);
    close_task(&t);
}

static void test_pixels_of_clips(void) {
    static const up_video_clip clip = {.frames = 2, .stride = 1, .start = -1, .fraction = -1};
    uint8_t bytes[2 * PATCHES];
    float values[2 * PATCHES];
    size_t row = 0;
    write_small_lists();
    for (int as_images = 0; as_images < 2 && up_lab_clips(); as_images++) {
        up_image frames[2] = {{0}, {0}};
        up_batch same = {0};
        subject t;
        config.frames_as_images = as_images;
        open_task(&t, "video_classification", "small-clips.tsv", "");
        build(&t, &still, &row, 1);
        UP_ASSERT_OK(up_video_read(up_lab_golden("video", "h264.mp4"), &clip, NULL, frames));
        for (int f = 0; f < 2; f++) {
            square_patches(&frames[f], 16, as_images ? &up_pixel_norm_image : &up_pixel_norm_video,
                           bytes + f * PATCHES, values + f * PATCHES);
            up_image_free(&frames[f]);
        }
        UP_ASSERT_OK(up_batch_begin(&same, &config));
        UP_ASSERT_OK(up_batch_open(&same, UP_SIDE_INPUT, 1));
        UP_ASSERT_OK(up_batch_video_values(&same, values, 2, 4, 0));
        UP_ASSERT_OK(up_batch_close(&same));
        expect_pixels(&t, 1, bytes, values, &same);
        up_batch_free(&same);
        close_task(&t);
    }
    config.frames_as_images = 0;
}

/* The picture of row 1 as a training or an evaluation sees it. */
static void first_pixels(const char *more, const up_build_options *options, uint64_t source,
                         uint8_t *pixels) {
    subject t;
    size_t row = 1;
    open_task(&t, "image_classification", "small.tsv", more);
    t.source.number = source;
    build(&t, options, &row, 1);
    CU_ASSERT_EQUAL_FATAL(t.work.batch.image.count, 4);
    memcpy(pixels, t.work.batch.image.bytes, PATCHES);
    close_task(&t);
}

static int is_mirror(const uint8_t *a, const uint8_t *b) {
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++)
                if (a[place_of(c, y, x)] != b[place_of(c, y, SIDE - 1 - x)]) return 0;
    return 1;
}

static int is_window(const up_image *image, int left, int top, const uint8_t *pixels) {
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++)
                if (image->data[((top + y) * image->width + left + x) * 3 + c] != pixels[place_of(c, y, x)])
                    return 0;
    return 1;
}

/* 1 where it is cut out of the picture somewhere. */
static int is_cut(const up_image *image, const uint8_t *pixels) {
    for (int top = 0; top + SIDE <= image->height; top++)
        for (int left = 0; left + SIDE <= image->width; left++)
            if (is_window(image, left, top, pixels)) return 1;
    return 0;
}

enum { SAMPLES = 40 };

static void test_chance(void) {
    static uint8_t seen[SAMPLES][PATCHES], again[PATCHES], flipped[PATCHES], fixed[PATCHES];
    int same = 0, mirrored = 0, moved = 0, equal = 0, cut = 0;
    up_image whole = {0}, resized = {0};
    write_small_lists();
    UP_ASSERT_OK(up_image_read(up_lab_golden("image", "png_rgb8.png"), NULL, &whole));
    UP_ASSERT_OK(up_image_resize_short(&whole, 26, &resized));
    for (uint64_t m = 0; m < SAMPLES; m++) {
        const up_build_options training = {1, up_test_seed(), m, 0}, middle = {0, up_test_seed() + m, m, 0};
        first_pixels(", resize: 26", &training, 0, seen[m]);
        first_pixels(", resize: 26", &training, 0, again);
        CU_ASSERT(!memcmp(seen[m], again, sizeof again)); /* a function of (seed, source, sample) */
        cut += is_cut(&resized, seen[m]);
        first_pixels(", resize: 26, flip: true", &training, 0, flipped);
        same += !memcmp(seen[m], flipped, sizeof flipped);
        mirrored += is_mirror(seen[m], flipped);
        for (uint64_t k = 0; k < m; k++) equal += !memcmp(seen[k], seen[m], sizeof again);
        first_pixels("", &middle, m, again);
        if (m == 0) memcpy(fixed, again, sizeof again);
        moved += memcmp(fixed, again, sizeof again) != 0; /* without training none of the three matters */
    }
    CU_ASSERT_EQUAL(moved, 0);
    CU_ASSERT_EQUAL(cut, SAMPLES);
    CU_ASSERT_EQUAL(same + mirrored, SAMPLES);
    CU_ASSERT(same > 5 && mirrored > 5); /* a fair coin gives at most 5 of 40 once in a million seeds */
    /* 21 x 19 pixels become 28 x 26: 13 x 11 places, so 780 / 143 = 5.5 of the 780 pairs agree on average;
     * more than 20 do once in a million seeds (Poisson) */
    CU_ASSERT(equal <= 20);
    up_image_free(&whole);
    up_image_free(&resized);
}

/* Large pictures may be decoded smaller in training where a task says so, and nowhere else. */
static void test_scaled_decoding(void) {
    static uint8_t plain[PATCHES], scaled[PATCHES], exact[2][PATCHES];
    const up_build_options training = {1, up_test_seed(), 0, 0}, middle = {0};
    char text[256];
    int sum = 0;
    write_small_lists();
    snprintf(text, sizeof text, "image\tlabel\nx.jpg\tdog\n%s\tcat\n",
             up_lab_golden("image", "jpeg_large.jpg"));
    up_lab_text("small.tsv", text);
    first_pixels("", &training, 0, plain);
    first_pixels(", scaled_decoding: true", &training, 0, scaled);
    first_pixels("", &middle, 0, exact[0]);
    first_pixels(", scaled_decoding: true", &middle, 0, exact[1]);
    for (int i = 0; i < PATCHES; i++) sum += abs(plain[i] - scaled[i]);
    CU_ASSERT(sum > 0 && sum <= 2 * PATCHES);
    CU_ASSERT(!memcmp(exact[0], exact[1], PATCHES));
}

/* Sample n is cut the same in whichever batch it comes, and otherwise by another seed or source. */
static void test_chance_by_sample(void) {
    static const size_t rows[3] = {1, 1, 1};
    static uint8_t alone[PATCHES], other[PATCHES];
    int equal = 0;
    subject t;
    write_small_lists();
    open_task(&t, "image_classification", "small.tsv", ", resize: 26");
    for (uint64_t first = 0; first < SAMPLES; first += 3) {
        build(&t, &(up_build_options){.training = 1, .seed = up_test_seed(), .first = first, 0}, rows, 3);
        CU_ASSERT_EQUAL_FATAL(t.work.batch.image.count, 12);
        for (uint64_t i = 0; i < 3; i++) {
            const up_build_options single = {1, up_test_seed(), first + i, 0};
            first_pixels(", resize: 26", &single, 0, alone);
            CU_ASSERT(!memcmp(t.work.batch.image.bytes + i * PATCHES, alone, PATCHES));
            first_pixels(", resize: 26", &single, 1, other);
            equal += !memcmp(alone, other, PATCHES);
            first_pixels(", resize: 26", &(up_build_options){1, up_test_seed() + 1, first + i, 0}, 0, other);
            equal += !memcmp(alone, other, PATCHES);
        }
    }
    CU_ASSERT(equal <= 8); /* 84 / 143 = 0.6 on average; more than 8 less than once in a million seeds */
    close_task(&t);
}

/* ---- augmentation ---- */

/* Sample n by seed of a picture of row 1, with `more` settings, alone. */
static void training_pixels(const char *more, uint64_t n, uint8_t *pixels) {
    first_pixels(more, &(up_build_options){.training = 1, .seed = up_test_seed(), .first = n, 0}, 0, pixels);
}

/* The square that is cut out of a picture's patches at (left, top) of it resized, or resized out of a part.
 */
static void expect_patches(const up_image *square, const uint8_t *pixels) {
    uint8_t want[PATCHES];
    CU_ASSERT_FATAL(square->width == SIDE && square->height == SIDE);
    UP_ASSERT_OK(up_image_patch_bytes(square, config.patch, want));
    CU_ASSERT(!memcmp(want, pixels, PATCHES));
}

/* Random resized crop: the part that the sample's stream draws behind place and mirror. */
static void test_resized_crop(void) {
    static uint8_t pixels[PATCHES];
    const up_augmentation how = {.area = 0.08, .ratio = 4.0 / 3};
    up_image whole = {0};
    write_small_lists();
    UP_ASSERT_OK(up_image_read(up_lab_golden("image", "png_rgb8.png"), NULL, &whole));
    for (uint64_t n = 0; n < SAMPLES; n++) {
        up_image part = {0}, square = {0};
        up_rng rng = up_rng_make(up_test_seed(), 0, n, 1);
        for (int i = 0; i < 2; i++) up_rng_uniform(&rng);
        up_rng_u32(&rng);
        up_box box = up_draw_part(&how, &rng, whole.width, whole.height);
        UP_ASSERT_OK(up_image_crop(&whole, box.x, box.y, box.width, box.height, &part));
        UP_ASSERT_OK(up_image_resize(&part, 0, 0, part.width, part.height, SIDE, SIDE, &square));
        training_pixels(", augment: {crop: resized}", n, pixels);
        expect_patches(&square, pixels);
        up_image_free(&part);
        up_image_free(&square);
    }
    up_image_free(&whole);
}

/* A function of (seed, source, sample), in whichever batch; nothing outside training. */
static void test_augmented(void) {
    static const char more[] = ", flip: true, augment: {crop: resized, operations: 2, erase: 0.25}";
    static const size_t rows[3] = {1, 1, 1};
    static uint8_t alone[PATCHES], plain[PATCHES];
    int equal = 0;
    subject t;
    write_small_lists();
    open_task(&t, "image_classification", "small.tsv", more);
    for (uint64_t first = 0; first < SAMPLES; first += 3) {
        build(&t, &(up_build_options){.training = 1, .seed = up_test_seed(), .first = first, 0}, rows, 3);
        for (uint64_t i = 0; i < 3; i++) {
            training_pixels(more, first + i, alone);
            CU_ASSERT(!memcmp(t.work.batch.image.bytes + i * PATCHES, alone, PATCHES));
            training_pixels(", flip: true, augment: {crop: resized}", first + i, plain);
            equal += !memcmp(alone, plain, PATCHES);
        }
    }
    CU_ASSERT(equal > 0 && equal < 30); /* 2 operations at 1/2 and erasing at 1/4 leave 19% of 42 alone */
    first_pixels(more, &still, 0, alone);
    first_pixels("", &still, 0, plain);
    CU_ASSERT(!memcmp(alone, plain, PATCHES));
    close_task(&t);
}

/* Every short side from resize to resize_most comes, and no other. */
static void test_short_sides(void) {
    enum { LEAST = 24, SIDES = 3, TIMES = 3 * SAMPLES };
    static uint8_t pixels[PATCHES];
    int64_t seen[SIDES] = {0};
    up_image whole = {0}, resized[SIDES] = {{0}};
    write_small_lists();
    UP_ASSERT_OK(up_image_read(up_lab_golden("image", "png_rgb8.png"), NULL, &whole));
    for (int i = 0; i < SIDES; i++) UP_ASSERT_OK(up_image_resize_short(&whole, LEAST + i, &resized[i]));
    for (uint64_t n = 0; n < TIMES; n++) {
        training_pixels(", resize: 24, resize_most: 26", n, pixels);
        for (int i = 0; i < SIDES; i++) seen[i] += is_cut(&resized[i], pixels);
    }
    CU_ASSERT_EQUAL(seen[0] + seen[1] + seen[2], TIMES);
    expect_fair("short sides", seen, (double[]){TIMES / 3, TIMES / 3, TIMES / 3}, SIDES, 2);
    for (int i = 0; i < SIDES; i++) up_image_free(&resized[i]);
    up_image_free(&whole);
}

/* Three crops of a wide picture lie at its left, middle and right; of a tall one, above each other. */
static void test_views(void) {
    static const struct {
        const char *file;
        int x, y; /* of the free room of the resized picture: to its end along the longer side, else half */
    } pictures[] = {{"source.png", 2, 1}, {"source_tall.png", 1, 2}};
    char list[600];
    size_t row = 0;
    for (int p = 0; p < 2; p++) {
        up_image whole = {0}, resized = {0};
        subject t;
        open_world();
        snprintf(list, sizeof list, "image\tlabel\n%s\tdog\n%s\tcat\n",
                 up_lab_golden("image", pictures[p].file), up_lab_golden("image", "png_rgb8.png"));
        up_lab_text("views.tsv", list);
        UP_ASSERT_OK(up_image_read(up_lab_golden("image", pictures[p].file), NULL, &whole));
        UP_ASSERT_OK(up_image_resize_short(&whole, 20, &resized));
        open_task(&t, "image_classification", "views.tsv", ", views: 3");
        CU_ASSERT_EQUAL(up_views(&t.settings), 3);
        for (int view = 0; view < 3; view++) {
            int x = (resized.width - SIDE) * (pictures[p].x == 2 ? view : 1) / 2;
            int y = (resized.height - SIDE) * (pictures[p].y == 2 ? view : 1) / 2;
            build(&t, &(up_build_options){.view = view}, &row, 1);
            CU_ASSERT(is_window(&resized, x, y, t.work.batch.image.bytes));
        }
        close_task(&t);
        up_image_free(&whole);
        up_image_free(&resized);
    }
}

/* Clips of other lengths than the model's, and several of one video. */
static void test_clip_settings(void) {
    static const size_t row = 0;
    up_image frame = {0};
    int64_t frames;
    subject t;
    if (!up_lab_clips()) return;
    write_small_lists();
    UP_ASSERT_OK(up_video_count(up_lab_golden("video", "h264.mp4"), &frames));
    open_task(&t, "video_classification", "small-clips.tsv", ", frames: 1, stride: 3, clips: 2, views: 2");
    CU_ASSERT_EQUAL(up_views(&t.settings), 4);
    for (int view = 0; view < 4; view += 2) {
        up_video_clip clip = {.frames = 1, .stride = 1, .start = (view + 1) * frames / 4, .fraction = -1};
        up_image square = {0};
        UP_ASSERT_OK(up_video_read(up_lab_golden("video", "h264.mp4"), &clip, NULL, &frame));
        build(&t, &(up_build_options){.view = view}, &row, 1);
        CU_ASSERT_EQUAL_FATAL(t.work.batch.video.count, 4); /* one frame of four cells */
        double x = frame.width >= frame.height ? 0 : 0.5, y = frame.width >= frame.height ? 0.5 : 0;
        UP_ASSERT_OK(up_image_square(&frame, config.video_resize, SIDE, x, y, &square));
        expect_patches(&square, t.work.batch.video.bytes);
        up_image_free(&frame);
        up_image_free(&square);
    }
    close_task(&t);
    open_task(&t, "video_classification", "small-clips.tsv",
              ", stride: 3, augment: {operations: 2, erase: 1}");
    build(&t, &(up_build_options){.training = 1, .seed = up_test_seed(), .first = 0, 0}, &row, 1);
    CU_ASSERT_EQUAL(t.work.batch.video.count, 8); /* the model's two frames */
    close_task(&t);
    expect_open_error("video_classification", "small-clips.tsv", ", frames: 3", UP_ERR_ARGUMENT,
                      "video_classification: frames 3", "the model's 2");
}

/* Pictures are the mix of those that come without mixing; each has its own label and its partner's. */
static void test_mixing(void) {
    static const size_t rows[5] = {0, 1, 1, 2, 0}; /* row 2 has no class */
    static const char *const more[] = {", augment: {mixup: 0.8}", ", augment: {cutmix: 1}",
                                       ", augment: {mixup: 0.8, cutmix: 1}"};
    int cut = 0, blended = 0;
    subject t, plain;
    write_small_lists();
    open_task(&plain, "image_classification", "small.tsv", "");
    for (uint64_t n = 0; n < 3 * 20; n++) {
        const up_build_options options = {1, up_test_seed(), 5 * n, 0};
        open_task(&t, "image_classification", "small.tsv", more[n % 3]);
        build(&plain, &options, rows, 5);
        build(&t, &options, rows, 5);
        const up_loss *loss = &t.work.loss;
        const uint8_t *from = plain.work.batch.image.bytes;
        CU_ASSERT_FATAL(loss->choices == 2 && loss->labels && loss->shares);
        for (int i = 0; i < 5; i++) {
            const uint8_t *own = from + i * PATCHES, *other = from + (4 - i) * PATCHES;
            const uint8_t *mixed = t.work.batch.image.bytes + i * PATCHES;
            double kept = (double)loss->shares[2 * i];
            int taken = 0, own_bytes = 0, far = 0;
            int32_t a = plain.work.labels[i], b = plain.work.labels[4 - i];
            CU_ASSERT_EQUAL(loss->labels[2 * i], b < 0 ? -1 : a);
            CU_ASSERT(a < 0 || loss->labels[2 * i + 1] == b);
            CU_ASSERT(kept >= 0 && kept <= 1 && fabs(kept + (double)loss->shares[2 * i + 1] - 1) < 1e-6);
            for (int k = 0; k < PATCHES; k++) {
                own_bytes += mixed[k] == own[k];
                taken += mixed[k] == own[k] || mixed[k] == other[k];
                far += fabs(kept * own[k] + (1 - kept) * other[k] - mixed[k]) > 0.51;
            }
            int boxes = taken == PATCHES && own_bytes >= (int)floor(kept * PATCHES);
            CU_ASSERT(n % 3 == 0 ? !far : n % 3 == 1 ? boxes : !far || boxes);
            if (i || n % 3 != 2) continue;
            cut += far != 0;
            blended += !far;
        }
        close_task(&t);
    }
    CU_ASSERT(cut > 0 && blended > 0); /* 20 batches of either kind */
    close_task(&plain);
}

static void test_pixel_settings(void) {
    static const struct {
        const char *kind, *more, *why;
    } wrong[] = {
        {"caption", ", augment: {mixup: 0.8}", "mixup and cutmix are for pictures with classes"},
        {"video_classification", ", augment: {cutmix: 1}", "mixup and cutmix are for pictures with classes"},
        {"image_classification", ", resize_most: 300", "resize_most 300 wants a resize"},
        {"image_classification", ", resize: 301, resize_most: 300", "not 301"},
        {"image_classification", ", scaled_decoding: true, augment: {crop: resized}", "no scaled_decoding"},
        {"image_classification", ", frames: 3", "are for videos"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        up_task_settings t = {0};
        expect_error(read_settings(wrong[i].kind, "small.tsv", wrong[i].more, &t), UP_ERR_ARGUMENT,
                     wrong[i].kind, wrong[i].why);
        up_config_free(&up_task_schema, &t);
    }
}

/* ---- keys and drop path ---- */

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* No two sequences of inputs or texts to retrieve have one key, whatever their sample and source; the seed is
 * not in it, as drop path takes that beside it. */
static void test_keys(void) {
    enum { SOURCES = 3, TIMES = 50, KEYS = SOURCES * TIMES * 4 };
    static const size_t rows[2] = {0, 1}, turned[2] = {1, 0};
    static uint64_t keys[KEYS];
    int n = 0, equal = 0;
    subject t;
    write_small_lists();
    open_task(&t, "text_retrieval", "small-texts.tsv", ", target: word");
    for (uint64_t source = 0; source < SOURCES; source++)
        for (uint64_t time = 0; time < TIMES; time++) {
            uint64_t *here = keys + n;
            t.source.number = source;
            build(&t, &(up_build_options){1, 1, 2 * time, 0}, rows, 2);
            memcpy(here, t.work.batch.key, 2 * sizeof *here);
            memcpy(here + 2, t.work.targets.key, 2 * sizeof *here);
            n += 4;
            build(&t, &(up_build_options){1, 2, 2 * time, 0}, turned, 2); /* another seed, other rows */
            CU_ASSERT(!memcmp(here, t.work.batch.key, 2 * sizeof *here));
            CU_ASSERT(!memcmp(here + 2, t.work.targets.key, 2 * sizeof *here));
            build(&t, &(up_build_options){1, 1, 2 * time + 1, 0}, rows, 1); /* another batch */
            CU_ASSERT_EQUAL(here[1], t.work.batch.key[0]);
        }
    CU_ASSERT_EQUAL_FATAL(n, KEYS);
    qsort(keys, KEYS, sizeof *keys, by_value);
    for (int i = 1; i < KEYS; i++) equal += keys[i] == keys[i - 1];
    CU_ASSERT_EQUAL(equal, 0);
    build(&t, &still, rows, 2); /* in evaluation a sample is its row */
    memcpy(keys, t.work.batch.key, 2 * sizeof *keys);
    build(&t, &(up_build_options){0, 7, 9, 0}, turned, 2);
    CU_ASSERT(t.work.batch.key[0] == keys[1] && t.work.batch.key[1] == keys[0]);
    close_task(&t);
}

/* What the keys of a task's batches are for: factors that differ from sample to sample within one step. */
static void test_drop_path(void) {
    enum { LAYERS = 2, FACTORS = 2 * LAYERS * 2 };
    static const size_t rows[2] = {0, 1};
    float drop[FACTORS], again[FACTORS];
    int64_t found[2] = {0};
    int other = 0;
    subject t;
    write_small_lists();
    set_vocabulary();
    open_task(&t, "ar", "small-texts.tsv", "");
    for (uint64_t m = 0; m < 3000; m++) {
        build(&t, &(up_build_options){1, 1, 2 * m, 0}, rows, 2);
        CU_ASSERT_EQUAL_FATAL(t.work.batch.sequences, 2);
        up_drop_path(0.25, LAYERS, up_test_seed(), 3, &t.work.batch, drop);
        up_drop_path(0.25, LAYERS, up_test_seed(), 3, &t.work.batch, again);
        CU_ASSERT(!memcmp(drop, again, sizeof drop));
        for (int i = 0; i < FACTORS; i++) {
            found[0] += drop[i] == 0;
            found[1] += drop[i] == (float)(1 / 0.75);
            other += drop[i] != 0 && drop[i] != (float)(1 / 0.75);
        }
    }
    CU_ASSERT_EQUAL(other, 0);
    expect_fair("drop path", found, (double[]){6000, 18000}, 2, 1);
    close_task(&t);
}

/* ---- texts ---- */

static void test_templates(void) {
    static const char *const cases[][3] = {{NULL, "cat", "cat"},
                                           {"a photo of a {}.", "cat", "a photo of a cat."},
                                           {"{}", "", ""},
                                           {"{} and {}", "x", "x and x"},
                                           {"{}{}{", "ab", "abab{"},
                                           {"{{}}", "x", "{x}"},
                                           {"{} is {}", "{}", "{} is {}"}, /* a cell is no template */
                                           {"always this", "cat", "always this"},
                                           {"", "cat", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text;
        UP_ASSERT_OK(up_task_target_text(cases[i][0], cases[i][1], &text));
        CU_ASSERT_STRING_EQUAL(text, cases[i][2]);
        free(text);
    }
}

static void test_text_limit(void) {
    subject t;
    size_t row = 0;
    open_world();
    up_lab_text("long.tsv", "text\tword\na cat and a dog and a cat\ta dog and a cat\n");
    open_task(&t, "text_retrieval", "long.tsv", ", target: word");
    t.settings.text_limit = 4;
    build(&t, &still, &row, 1);
    CU_ASSERT_STRING_EQUAL(describe(&t), "x S=0 a@0 cat@1 and@2 $@3\ny S* a@0 dog@1 and@2 $@3\n");
    up_source_close(&t.source);
    t.settings.text_limit = 17;
    expect_error(up_source_open(&t.settings, &world, &t.source), UP_ERR_ARGUMENT,
                 "text_retrieval: text_limit 17", "16 text positions");
    close_task(&t);
}

/* ---- errors ---- */

static void expect_build_error(const char *kind, const char *row, const char *file, const char *why) {
    char list[1200];
    subject t;
    size_t first = 0;
    int clip = strstr(kind, "video") != NULL;
    snprintf(list, sizeof list, "%s\tlabel\n%s\tx\nnone\ty\n", clip ? "video" : "image", row);
    up_lab_text("wrong.tsv", list);
    open_task(&t, kind, "wrong.tsv", "");
    up_status status = up_source_build(&t.source, &(up_build_options){1, 1, 1, 0}, &first, 1, &t.work);
    CU_ASSERT_NOT_EQUAL(status, UP_OK);
    expect_error(status, status, up_lab_path(file), why);
    close_task(&t);
}

static void test_errors_name_the_file(void) {
    write_small_lists();
    up_lab_text("text.jpg", "This is no picture.");
    up_lab_text("text.mp4", "This is no clip.");
    expect_build_error("image_classification", "absent.jpg", "absent.jpg", "No such file");
    world.limits.max_pixels = 100; /* a picture that is well, but larger than was asked for */
    void *bytes = NULL;
    size_t size = 0;
    UP_ASSERT_OK(up_file_read(up_lab_golden("image", "jpeg_420.jpg"), &bytes, &size));
    up_lab_file("large.jpg", bytes, size);
    free(bytes);
    expect_build_error("image_classification", "large.jpg", "large.jpg", "more than the limit of 100");
    world.limits.max_pixels = 0;
    expect_build_error("image_classification", "text.jpg", "text.jpg", "");
    expect_build_error("image_classification", "", "", "folder");
    if (up_lab_clips()) {
        expect_build_error("video_classification", "absent.mp4", "absent.mp4", "No such file");
        expect_build_error("video_classification", "text.mp4", "text.mp4", "");
    }
    expect_open_error("image_classification", "small.tsv", ", target: colour", UP_ERR_FORMAT, "small.tsv",
                      "no column \"colour\"");
    expect_open_error("caption", "small.tsv", "", UP_ERR_FORMAT, "small.tsv", "no column \"text\"");
    expect_open_error("vqa", "small.tsv", ", target: answer", UP_ERR_FORMAT, "small.tsv",
                      "no column \"question\"");
}

/* Not a test of anything: gives back what the others share, so that a leak checker has nothing to say. */
static void test_close(void) {
    up_world_free(&world);
    up_tokenizer_free(world.tokenizer);
    world.tokenizer = NULL;
    up_model_destroy(model);
    up_backend_free(backend);
    free(out);
    out = NULL;
    CU_ASSERT_PTR_NULL(world.vocabulary);
}

/* Words that stand for a class whose name says little; a template goes around them. */
static void test_label_words(void) {
    static const size_t rows[2] = {0, 1};
    char more[500];
    subject t;
    write_small_lists();
    set_vocabulary();
    up_lab_text("words.txt", "no\ta cat\nyes\tdog\nmaybe\n");
    snprintf(more, sizeof more, ", question: a cat, target: answer%s", classes_setting("words.txt"));
    open_task(&t, "vqa", "small.tsv", more);
    build(&t, &still, rows, 2);
    CU_ASSERT_STRING_EQUAL(describe(&t), "x S i0 i1 i2 i3 a@0 cat@1 ?@2 $@3 _@0=1\n"
                                         "x S i0 i1 i2 i3 a@0 cat@1 ?@2 $@3 _@0=0\n"
                                         "y S* a@0 cat@1 $@2\ny S* dog@0 $@1\ny S* maybe@0 $@1\n");
    close_task(&t);
}

/* ---- shares of a list ---- */

enum { SHARE_ROWS = 500, SHARE_CLASSES = 4 };

/* Rows of class c: c in `sizes`; row numbers are their texts. */
static const int share_sizes[SHARE_CLASSES] = {300, 140, 50, 10}; /* tenths are whole numbers */

static void write_share_list(void) {
    char text[16384];
    size_t n = (size_t)sprintf(text, "text\tlabel\n");
    int left[SHARE_CLASSES];
    memcpy(left, share_sizes, sizeof left);
    for (int row = 0, c = 0; row < SHARE_ROWS; row++) {
        do c = (c + 1) % SHARE_CLASSES;
        while (!left[c]);
        left[c]--;
        n += (size_t)sprintf(text + n, "%d\tclass %d\n", row, c);
    }
    up_lab_text("share.tsv", text);
}

/* The rows that a share holds, marked; counted by class, which the source must still tell. */
static void take_share(const char *kind, double fraction, int seed, uint8_t *taken, int *counts) {
    char more[100];
    subject t;
    up_sample sample = {0};
    snprintf(more, sizeof more, ", fraction: %g, fraction_seed: %d", fraction, seed);
    open_task(&t, kind, "share.tsv", more);
    int classes = t.source.task->targets == UP_TARGETS_CLASSES;
    memset(taken, 0, SHARE_ROWS);
    memset(counts, 0, SHARE_CLASSES * sizeof *counts);
    for (size_t i = 0; i < t.source.data.count; i++) {
        UP_ASSERT_OK(up_dataset_sample(&t.source.data, i, &sample));
        const char *label = up_value_text(&sample, up_sample_value(&sample, "label", 0));
        int class, row = atoi(up_value_text(&sample, up_sample_value(&sample, "text", 0)));
        taken[row]++;
        counts[atoi(label + 6)]++;
        if (!classes) continue;
        UP_ASSERT_OK(up_source_class(&t.source, &sample, i, &class));
        CU_ASSERT_STRING_EQUAL(t.source.classes[class], label); /* the classes are those of the whole list */
    }
    if (classes) CU_ASSERT_EQUAL(t.source.class_count, SHARE_CLASSES);
    up_sample_free(&sample);
    close_task(&t);
}

static void test_fractions(void) {
    static const double fractions[] = {0.001, 0.01, 0.1, 0.5};
    uint8_t a[SHARE_ROWS], b[SHARE_ROWS];
    int counts[SHARE_CLASSES];
    open_world();
    write_share_list();
    for (size_t f = 0; f < sizeof fractions / sizeof *fractions; f++) {
        take_share("text_classification", fractions[f], 3, a, counts);
        for (int c = 0; c < SHARE_CLASSES; c++) { /* rounded, but never none */
            int wanted = (int)floor(fractions[f] * share_sizes[c] + 0.5);
            CU_ASSERT_EQUAL(counts[c], wanted ? wanted : 1);
        }
        take_share("text_classification", fractions[f], 3, b, counts);
        CU_ASSERT(!memcmp(a, b, sizeof a)); /* the same rows each time */
    }
    take_share("text_classification", 0.5, 4, b, counts);
    CU_ASSERT(memcmp(a, b, sizeof a) != 0); /* others by another seed */
    set_vocabulary();
    take_share("ar", 0.1, 3, a, counts); /* without classes: of all rows alike */
    CU_ASSERT_EQUAL(counts[0] + counts[1] + counts[2] + counts[3], SHARE_ROWS / 10);
}

/* Each row is as likely as any other of its class: 400 shares of a tenth. */
static void test_fractions_are_fair(void) {
    enum { SHARES = 400 };
    uint8_t a[SHARE_ROWS];
    int counts[SHARE_CLASSES], times[SHARE_ROWS] = {0};
    double chi = 0, expected = SHARES * 0.1;
    open_world();
    write_share_list();
    for (int seed = 0; seed < SHARES; seed++) {
        take_share("text_classification", 0.1, seed, a, counts);
        for (int row = 0; row < SHARE_ROWS; row++) times[row] += a[row];
    }
    for (int row = 0; row < SHARE_ROWS; row++)
        chi += (times[row] - expected) * (times[row] - expected) / (expected * 0.9);
    CU_ASSERT(fabs(chi - SHARE_ROWS) < 5 * sqrt(2.0 * SHARE_ROWS)); /* five deviations of chi squared */
}

const up_test up_tests[] = {
    {"table: cells", test_table_cells},
    {"table: errors", test_table_errors},
    {"table: long cells", test_table_long_cells},
    {"loader: order", test_loader_order},
    {"loader: error", test_loader_error},
    {"loader: freed early", test_loader_freed_early},
    {"loader: works together", test_loader_works_together},
    {"masking: statistics", test_masking_statistics},
    {"masking: share", test_masking_share},
    {"masking: corners", test_masking_corners},
    {"batches", test_batches},
    {"masked batches", test_masked_batches},
    {"replacements", test_replacements},
    {"labels left out", test_labels_left_out},
    {"target sets", test_target_sets},
    {"class lists", test_class_lists},
    {"class names", test_class_names},
    {"captions of a picture", test_captions_of_a_picture},
    {"documents", test_documents},
    {"classes of rows", test_classes_of_rows},
    {"class errors", test_class_errors},
    {"equal texts", test_equal_texts},
    {"sampled targets", test_sampled_targets},
    {"sampled targets: all and none", test_sampled_corners},
    {"pixels", test_pixels},
    {"pixels of clips", test_pixels_of_clips},
    {"chance", test_chance},
    {"scaled decoding", test_scaled_decoding},
    {"chance: by sample", test_chance_by_sample},
    {"random resized crop", test_resized_crop},
    {"augmented samples", test_augmented},
    {"short sides", test_short_sides},
    {"views", test_views},
    {"clips of other lengths", test_clip_settings},
    {"mixing", test_mixing},
    {"settings of pixels", test_pixel_settings},
    {"keys", test_keys},
    {"drop path", test_drop_path},
    {"templates", test_templates},
    {"text limit", test_text_limit},
    {"errors name the file", test_errors_name_the_file},
    {"label words", test_label_words},
    {"fractions", test_fractions},
    {"fractions are fair", test_fractions_are_fair},
    {"close", test_close},
    {NULL, NULL},
};
