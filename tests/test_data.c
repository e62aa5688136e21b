/* test_data.c - the data path above the tokenizers: lists, the loader, masking, and the packed batch of every
 * kind of task, token by token. */
#include "data/corrupt.h"
#include "tests/lab.h"
#include "tests/support.h"
#include "files/file.h"
#include "uniperceiver/image.h"
#include "uniperceiver/random.h"
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
static const double chi_limit[] = {[1] = 23.9, [2] = 27.6, [7] = 40.5, [9] = 44.8};

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

static void test_table_cells(void) {
    static const char text[] =
        "\xef\xbb\xbfimage\tname\r\n/abs/a.jpg\tone\r\n\r\nb.jpg\t\n\nsub/c.jpg\tthr ee";
    up_table t;
    size_t column;
    char *path, wanted[600];
    UP_ASSERT_OK(up_table_read(up_lab_text("good.tsv", text), &t));
    CU_ASSERT_EQUAL_FATAL(t.rows, 3);
    CU_ASSERT_EQUAL_FATAL(t.columns, 2);
    UP_ASSERT_OK(up_table_column(&t, "image", &column));
    CU_ASSERT_EQUAL(column, 0);
    UP_ASSERT_OK(up_table_column(&t, "name", &column));
    CU_ASSERT_EQUAL(column, 1);
    static const char *const cells[3][2] = {{"/abs/a.jpg", "one"}, {"b.jpg", ""}, {"sub/c.jpg", "thr ee"}};
    for (size_t r = 0; r < 3; r++)
        for (size_t c = 0; c < 2; c++) CU_ASSERT_STRING_EQUAL(up_table_cell(&t, r, c), cells[r][c]);
    UP_ASSERT_OK(up_table_file(&t, 0, 0, &path));
    CU_ASSERT_STRING_EQUAL(path, "/abs/a.jpg");
    free(path);
    UP_ASSERT_OK(up_table_file(&t, 2, 0, &path));
    snprintf(wanted, sizeof wanted, "%s", up_lab_path("sub/c.jpg"));
    CU_ASSERT_STRING_EQUAL(path, wanted);
    free(path);
    expect_error(up_table_column(&t, "label", &column), UP_ERR_FORMAT, "good.tsv", "no column \"label\"");
    expect_error(up_table_column(&t, "label", &column), UP_ERR_FORMAT, "good.tsv", "image, name");
    up_table_free(&t);
}

static void test_table_errors(void) {
    static const struct {
        const char *text;
        size_t size;
        const char *why;
    } cases[] = {
        {"a\tb\n1\t2\n1\n", 0, "line 3 has 1 cells, the first line names 2"},
        {"a\tb\n\n\n1\t2\t3\n", 0, "line 4 has 3 cells, the first line names 2"},
        {"", 0, "empty"},
        {"a\tb", 0, "no rows"},
        {"a\tb\r\n\r\n", 0, "no rows"},
        {"a\n1\0002\n", 6, "NUL byte"},
        {"a\n1\n\0", 5, "NUL byte"},
    };
    up_table t;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t size = cases[i].size ? cases[i].size : strlen(cases[i].text);
        expect_error(up_table_read(up_lab_file("bad.tsv", cases[i].text, size), &t), UP_ERR_FORMAT, "bad.tsv",
                     cases[i].why);
        CU_ASSERT_PTR_NULL(t.text);
    }
    expect_error(up_table_read(up_lab_path("absent.tsv"), &t), UP_ERR_IO, "absent.tsv", "No such file");
    expect_error(up_table_read(up_lab_path("."), &t), UP_ERR_IO, "is a folder", "");
    /* more columns than a message names */
    char wide[4001];
    memset(wide, '\t', 2000);
    memset(wide + 2000, '\t', 2000);
    wide[2000] = '\n';
    wide[4000] = 0;
    expect_error(up_table_read(up_lab_text("bad.tsv", wide), &t), UP_ERR_FORMAT, "line 2 has 2000 cells",
                 "2001");
}

static void test_table_long_cells(void) {
    enum { MOST = 1 << 20 };
    up_table t;
    char *text = malloc(MOST + 64);
    for (int more = 0; more < 2; more++) {
        size_t n = (size_t)sprintf(text, "a\tb\n1\t2\n3\t");
        memset(text + n, 'x', (size_t)(MOST + more));
        strcpy(text + n + MOST + more, "\n");
        const char *path = up_lab_text("long.tsv", text);
        if (more)
            expect_error(up_table_read(path, &t), UP_ERR_FORMAT, "long.tsv",
                         "line 3 has a cell of 1048577 bytes; wanted at most 1048576");
        else
            UP_ASSERT_OK(up_table_read(path, &t));
        up_table_free(&t);
    }
    free(text);
}

static void test_classes(void) {
    enum { ROWS = 3000, CLASSES = 700 };
    char *text = malloc(ROWS * 16);
    size_t n = (size_t)sprintf(text, "c\td\n"), count;
    for (int i = 0; i < ROWS; i++) /* every 11th has none */
        n += (size_t)(i % 11 ? sprintf(text + n, "k%d\t\n", i * 3 % CLASSES) : sprintf(text + n, "\t\n"));
    up_table t;
    const char **names;
    int *of_row, wrong = 0, next = 0;
    UP_ASSERT_OK(up_table_read(up_lab_text("classes.tsv", text), &t));
    UP_ASSERT_OK(up_table_classes(&t, 0, &names, &count, &of_row));
    CU_ASSERT_EQUAL(count, CLASSES);
    for (size_t r = 0; r < ROWS; r++) {
        const char *cell = up_table_cell(&t, r, 0);
        wrong += *cell ? of_row[r] < 0 || strcmp(names[of_row[r]], cell) : of_row[r] != -1;
        if (of_row[r] > next) wrong++; /* in the order of first appearance */
        if (of_row[r] == next) next++;
    }
    CU_ASSERT_EQUAL(wrong, 0);
    free(names);
    free(of_row);
    UP_ASSERT_OK(up_table_classes(&t, 1, &names, &count, &of_row)); /* none at all */
    CU_ASSERT_EQUAL(count, 0);
    free(names);
    free(of_row);
    free(text);
    up_table_free(&t);
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

/* `labels` NULL: of targets. */
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

/* One line a sequence: side x or y, or "xx" where words and slots are doubled; tokens: S the leading <SPE>,
 * word@position, _ for <SPE> at a position, $ the end token, iCELL, vFRAME.CELL; =LABEL where it is read out
 * as an input, * as a target. */
static void describe_batch(FILE *f, const up_batch *b, const int32_t *labels) {
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
    if (b->sequences) UP_ASSERT_OK(up_batch_check(b, &config));
}

static const char *describe(const up_work *w) {
    free(out);
    FILE *f = open_memstream(&out, &out_size);
    describe_batch(f, &w->batch, w->labels);
    describe_batch(f, &w->targets, NULL);
    fclose(f);
    return out;
}

static up_task_settings settings_of(const char *kind, const char *list, const char *more) {
    char yaml[1024];
    up_task_settings t;
    int n =
        snprintf(yaml, sizeof yaml, "{kind: %s, data: %s, text_limit: 8%s}", kind, up_lab_path(list), more);
    UP_ASSERT_OK(up_config_parse("task", yaml, (size_t)n, &up_task_schema, NULL, 0, &t));
    UP_ASSERT_OK(up_task_settings_fill(&t));
    return t;
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

/* The vocabulary of the words a, dog, cat and the end token, in the order of their ids. */
static void set_vocabulary(void) {
    up_task_settings t = settings_of("ar", "small-texts.tsv", "");
    up_source s;
    up_world_free(&world);
    UP_ASSERT_OK(up_source_open(&t, &world, &s));
    UP_ASSERT_OK(up_world_collect(&world, &s, 1));
    up_source_close(&s);
    up_config_free(&up_task_schema, &t);
    CU_ASSERT_EQUAL_FATAL(world.vocabulary_count, 4);
}

static const struct expectation {
    const char *kind, *list, *more, *batch; /* of rows 0 and 1, evaluation */
    float smoothing;
    int symmetric;
} expectations[] = {
    {"image_classification", "small.tsv", ", template: \"a {}\"", "x S=0 i0 i1 i2 i3\nx S=1 i0 i1 i2 i3\n",
     0.1f, 0},
    {"video_classification", "small-clips.tsv", "",
     "x S=0 v0.0 v0.1 v0.2 v0.3 v1.0 v1.1 v1.2 v1.3\nx S=1 v0.0 v0.1 v0.2 v0.3 v1.0 v1.1 v1.2 v1.3\n", 0.1f,
     0},
    {"ar", "small-texts.tsv", "",
     "xx 1+2 S cat@0 $@1 _@0=2 _@1=3\nxx 1+3 S a@0 dog@1 $@2 _@0=0 _@1=1 _@2=3\n", 0, 0},
    {"caption", "small.tsv", ", text: name",
     "xx 5+3 S i0 i1 i2 i3 a@0 dog@1 $@2 _@0=0 _@1=1 _@2=3\nxx 5+2 S i0 i1 i2 i3 cat@0 $@1 _@0=2 "
     "_@1=3\n",
     0, 0},
    {"video_caption", "small-clips.tsv", ", text: name",
     "xx 9+3 S v0.0 v0.1 v0.2 v0.3 v1.0 v1.1 v1.2 v1.3 a@0 cat@1 $@2 _@0=0 _@1=2 _@2=3\n"
     "xx 9+2 S v0.0 v0.1 v0.2 v0.3 v1.0 v1.1 v1.2 v1.3 dog@0 $@1 _@0=1 _@1=3\n",
     0, 0},
    {"image_text_retrieval", "small.tsv", ", target: name",
     "x S=0 i0 i1 i2 i3\nx S=1 i0 i1 i2 i3\ny S* a@0 dog@1 $@2\ny S* cat@0 $@1\n", 0.1f, 1},
    {"video_text_retrieval", "small-clips.tsv", ", target: name, smoothing: 0.25",
     "x S=0 v0.0 v0.1 v0.2 v0.3 v1.0 v1.1 v1.2 v1.3\nx S=1 v0.0 v0.1 v0.2 v0.3 v1.0 v1.1 v1.2 v1.3\n"
     "y S* a@0 cat@1 $@2\ny S* dog@0 $@1\n",
     0.25f, 1},
    {"text_retrieval", "small-texts.tsv", ", target: word",
     "x S=0 cat@0 $@1\nx S=1 a@0 dog@1 $@2\ny S* dog@0 $@1\ny S* cat@0 $@1\n", 0.1f, 1},
    {"text_classification", "small-texts.tsv", ", target: word", "x S=0 cat@0 $@1\nx S=1 a@0 dog@1 $@2\n",
     0.1f, 0},
    {"vqa", "small.tsv", ", question: a cat, target: answer",
     "x S i0 i1 i2 i3 a@0 cat@1 $@2 _@0=0\nx S i0 i1 i2 i3 a@0 cat@1 $@2 _@0=1\n", 0.1f, 0},
};

static void expect_batch(const struct expectation *e) {
    static const size_t rows[2] = {0, 1};
    up_task_settings t = settings_of(e->kind, e->list, e->more);
    up_source s;
    up_work w = {0};
    UP_ASSERT_OK(up_source_open(&t, &world, &s));
    for (int round = 0; round < 2; round++) { /* on fresh memory, and again after a larger batch */
        UP_ASSERT_OK(up_source_build(&s, &(up_build_options){0, 1, 1}, rows, 2, &w));
        if (strcmp(describe(&w), e->batch))
            fprintf(stderr, "%s: found\n%swanted\n%s", e->kind, out, e->batch);
        CU_ASSERT_STRING_EQUAL(out, e->batch);
        CU_ASSERT_EQUAL(w.loss.smoothing, e->smoothing);
        CU_ASSERT_EQUAL(w.loss.symmetric, e->symmetric);
        CU_ASSERT(w.loss.weight == 1 && w.loss.labels == w.labels && !w.loss.soft && !w.loss.bias);
        CU_ASSERT_EQUAL(w.loss.task, up_config_task(&config, s.task->novel ? s.task->nearest[0] : e->kind));
        CU_ASSERT_EQUAL(w.loss.group_x != NULL, w.targets.sequences > 0);
        size_t many[6] = {1, 0, 1, 1, 0, 0};
        if (!round) UP_ASSERT_OK(up_source_build(&s, &(up_build_options){1, 1, 1}, many, 6, &w));
    }
    up_work_free(&w);
    up_source_close(&s);
    up_config_free(&up_task_schema, &t);
}

static void test_batches(void) {
    write_small_lists();
    set_vocabulary();
    for (size_t i = 0; i < sizeof expectations / sizeof expectations[0]; i++)
        if (!up_task_find(expectations[i].kind)->video || up_lab_clips()) expect_batch(&expectations[i]);
}

/* The three fates of the word of a masked text; whichever it is, the label is the word. */
static void test_masked_batches(void) {
    static const struct {
        const char *kind, *list, *more, *head;
    } kinds[] = {{"mlm", "small-texts.tsv", ", loss_weight: 0.5", "x S "},
                 {"image_mlm", "small.tsv", ", text: label, loss_weight: 0.5", "x S i0 i1 i2 i3 "}};
    write_small_lists();
    set_vocabulary();
    for (int k = 0; k < 2; k++) {
        static const char *const fates[] = {"_", "a", "dog", "cat",
                                            "$"}; /* random ones are of the vocabulary */
        static const size_t row[2] = {0, 1};      /* a text that is "cat" */
        up_task_settings t = settings_of(kinds[k].kind, kinds[k].list, kinds[k].more);
        up_source s;
        up_work w = {0};
        int found[5] = {0}, none = 0;
        UP_ASSERT_OK(up_source_open(&t, &world, &s));
        for (uint64_t moment = 0; moment < 300; moment++) {
            int known = 0;
            UP_ASSERT_OK(up_source_build(&s, &(up_build_options){1, up_test_seed(), moment}, &row[k], 1, &w));
            describe(&w);
            for (int f = 0; f < 5; f++) {
                char want[400];
                snprintf(want, sizeof want, "%s%s@0=2 $@1\n", kinds[k].head, fates[f]);
                if (!strcmp(out, want)) {
                    found[f]++;
                    known = 1;
                }
            }
            none += !known;
        }
        if (none) fprintf(stderr, "%s: found\n%s", kinds[k].kind, out);
        CU_ASSERT_EQUAL(none, 0);
        CU_ASSERT(found[0] > 150 && found[3] > 5 && found[1] + found[2] + found[4] > 5);
        CU_ASSERT_EQUAL(w.loss.weight, 0.5f);
        up_work_free(&w);
        up_source_close(&s);
        up_config_free(&up_task_schema, &t);
    }
}

static void test_labels_left_out(void) {
    static const size_t rows[3] = {2, 0, 1};
    up_work w = {0};
    up_source s;
    write_small_lists();
    set_vocabulary();
    up_task_settings t = settings_of("image_classification", "small.tsv", "");
    UP_ASSERT_OK(up_source_open(&t, &world, &s));
    UP_ASSERT_OK(up_source_build(&s, &(up_build_options){0, 1, 1}, rows, 3, &w)); /* row 2 has no class */
    CU_ASSERT(w.labels[0] == -1 && w.labels[1] == 0 && w.labels[2] == 1 && s.class_count == 2);
    up_source_close(&s);
    up_config_free(&up_task_schema, &t);
    up_lab_text("other.tsv", "text\ncat house\n");
    t = settings_of("ar", "other.tsv", ""); /* "house" is not in the target set */
    UP_ASSERT_OK(up_source_open(&t, &world, &s));
    UP_ASSERT_OK(up_source_build(&s, &(up_build_options){0, 1, 1}, &rows[1], 1, &w));
    CU_ASSERT_STRING_EQUAL(describe(&w), "xx 1+3 S cat@0 house@1 $@2 _@0=2 _@1=-1 _@2=3\n");
    up_source_close(&s);
    up_config_free(&up_task_schema, &t);
    up_work_free(&w);
}

/* ---- pixels, chance and its absence ---- */

enum { PATCHES = 4 * 3 * 8 * 8 };

static void square_patches(const up_image *image, int resize, uint8_t *patches) {
    up_image square = {0};
    UP_ASSERT_OK(up_image_square(image, resize, 16, 0.5, 0.5, &square));
    UP_ASSERT_OK(up_image_patch_bytes(&square, 8, patches));
    up_image_free(&square);
}

static void test_pixels(void) {
    up_work w = {0};
    up_source s;
    up_image image = {0}, frames[2] = {{0}, {0}};
    uint8_t want[2 * PATCHES];
    size_t row = 0;
    write_small_lists();
    set_vocabulary();
    up_task_settings t = settings_of("image_classification", "small.tsv", ", resize: 30, flip: true");
    UP_ASSERT_OK(up_source_open(&t, &world, &s));
    UP_ASSERT_OK(up_source_build(&s, &(up_build_options){0, 1, 1}, &row, 1, &w));
    UP_ASSERT_OK(up_image_read(up_lab_golden("image", "jpeg_420.jpg"), NULL, &image));
    square_patches(&image, 20, want); /* the model's resize: the task's is for training */
    CU_ASSERT(!w.batch.image.values && !memcmp(w.batch.image.bytes, want, PATCHES));
    up_image_free(&image);
    up_source_close(&s);
    up_config_free(&up_task_schema, &t);
    if (up_lab_clips()) {
        const up_video_clip clip = {.frames = 2, .stride = 1, .start = -1, .fraction = -1};
        t = settings_of("video_classification", "small-clips.tsv", "");
        UP_ASSERT_OK(up_source_open(&t, &world, &s));
        UP_ASSERT_OK(up_source_build(&s, &(up_build_options){0, 1, 1}, &row, 1, &w));
        UP_ASSERT_OK(up_video_read(up_lab_golden("video", "h264.mp4"), &clip, NULL, frames));
        for (int f = 0; f < 2; f++) {
            square_patches(&frames[f], 16, want + f * PATCHES);
            up_image_free(&frames[f]);
        }
        CU_ASSERT(!w.batch.video.values && !memcmp(w.batch.video.bytes, want, 2 * PATCHES));
        up_source_close(&s);
        up_config_free(&up_task_schema, &t);
    }
    up_work_free(&w);
}

static void first_pixels(const char *more, const up_build_options *options, uint8_t *pixels) {
    up_task_settings t = settings_of("image_classification", "small.tsv", more);
    up_source s;
    up_work w = {0};
    size_t row = 1;
    UP_ASSERT_OK(up_source_open(&t, &world, &s));
    UP_ASSERT_OK(up_source_build(&s, options, &row, 1, &w));
    memcpy(pixels, w.batch.image.bytes, PATCHES);
    up_work_free(&w);
    up_source_close(&s);
    up_config_free(&up_task_schema, &t);
}

static int at(const uint8_t *patches, int c, int y, int x) {
    return patches[((y / 8 * 2 + x / 8) * 3 + c) * 64 + y % 8 * 8 + x % 8];
}

static int is_mirror(const uint8_t *a, const uint8_t *b) {
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < 16; y++)
            for (int x = 0; x < 16; x++)
                if (at(a, c, y, x) != at(b, c, y, 15 - x)) return 0;
    return 1;
}

static void test_chance(void) {
    enum { MOMENTS = 40 };
    static uint8_t seen[MOMENTS][PATCHES], again[PATCHES], flipped[PATCHES], fixed[PATCHES];
    int same = 0, mirrored = 0, moved = 0, equal = 0;
    write_small_lists();
    set_vocabulary();
    for (uint64_t m = 0; m < MOMENTS; m++) {
        const up_build_options training = {1, up_test_seed(), m}, still = {0, up_test_seed() + m, m};
        first_pixels(", resize: 26", &training, seen[m]);
        first_pixels(", resize: 26", &training, again);
        CU_ASSERT(!memcmp(seen[m], again, sizeof again)); /* a function of (seed, moment, row) */
        first_pixels(", resize: 26, flip: true", &training, flipped);
        same += !memcmp(seen[m], flipped, sizeof flipped);
        mirrored += is_mirror(seen[m], flipped);
        for (uint64_t k = 0; k < m; k++) equal += !memcmp(seen[k], seen[m], sizeof again);
        first_pixels("", &still, again);
        if (m == 0) memcpy(fixed, again, sizeof again);
        moved +=
            memcmp(fixed, again, sizeof again) != 0; /* without training neither seed nor moment matter */
    }
    CU_ASSERT_EQUAL(moved, 0);
    CU_ASSERT_EQUAL(same + mirrored, MOMENTS);
    CU_ASSERT(same > 5 && mirrored > 5); /* a fair coin gives at most 5 of 40 once in a million seeds */
    /* 21 x 19 pixels become 28 x 26: 13 x 11 places, so 780 / 143 = 5.5 of the 780 pairs agree on average;
     * more than 20 do once in a million seeds (Poisson) */
    CU_ASSERT(equal <= 20);
}

/* Who the sequences of two works are: equal for the same samples of the same source, different else. */
static void test_keys(void) {
    up_work a = {0}, b = {0};
    up_source s;
    size_t rows[2] = {0, 1}, other = 1;
    write_small_lists();
    set_vocabulary();
    up_task_settings t = settings_of("text_retrieval", "small-texts.tsv", ", target: word");
    UP_ASSERT_OK(up_source_open(&t, &world, &s));
    UP_ASSERT_OK(up_source_build(&s, &(up_build_options){1, 7, 40}, rows, 2, &a));
    UP_ASSERT_OK(up_source_build(&s, &(up_build_options){1, 8, 41}, &other, 1, &b));
    CU_ASSERT(b.batch.key[0] == a.batch.key[1] && b.targets.key[0] == a.targets.key[1]);
    CU_ASSERT(a.batch.key[0] != a.batch.key[1] && a.targets.key[0] != a.targets.key[1]);
    CU_ASSERT(a.batch.key[0] != a.targets.key[0]);
    s.number = 1;
    UP_ASSERT_OK(up_source_build(&s, &(up_build_options){1, 7, 40}, rows, 2, &b));
    for (int i = 0; i < 2; i++) CU_ASSERT(a.batch.key[i] != b.batch.key[i]);
    up_work_free(&a);
    up_work_free(&b);
    up_source_close(&s);
    up_config_free(&up_task_schema, &t);
}

/* ---- target sets ---- */

static void test_class_texts(void) {
    static const char *const wanted[] = {"a dog", "a cat"};
    up_source s;
    write_small_lists();
    set_vocabulary();
    up_task_settings t = settings_of("image_classification", "small.tsv", ", template: \"a {}\"");
    UP_ASSERT_OK(up_source_open(&t, &world, &s));
    CU_ASSERT_EQUAL_FATAL(s.class_count, 2);
    for (int i = 0; i < 2; i++) {
        char *text;
        int64_t first = s.class_starts[i], end = s.class_starts[i + 1];
        CU_ASSERT_EQUAL(s.class_ids[end - 1], UP_TOKEN_END);
        UP_ASSERT_OK(up_detokenize(world.tokenizer, s.class_ids + first, (size_t)(end - 1 - first), &text));
        CU_ASSERT_STRING_EQUAL(text, wanted[i]);
        free(text);
    }
    up_source_close(&s);
    up_config_free(&up_task_schema, &t);
}

static void expect_classes(const char *more, up_status want, const char *a, const char *b) {
    up_source s;
    up_task_settings t = settings_of("image_classification", "small.tsv", more);
    expect_error(up_source_open(&t, &world, &s), want, a, b);
    up_config_free(&up_task_schema, &t);
}

/* Classes by a list of their own: also those that no row has; a row must not have others. */
static void test_class_lists(void) {
    char more[600];
    up_source s;
    up_work w = {0};
    size_t rows[3] = {0, 1, 2};
    write_small_lists();
    set_vocabulary();
    snprintf(more, sizeof more, ", classes: %s",
             up_lab_text("names.txt", "\xef\xbb\xbf"
                                      "bird\r\ncat\n\ndog\nfish"));
    up_task_settings t = settings_of("image_classification", "small.tsv", more);
    UP_ASSERT_OK(up_source_open(&t, &world, &s));
    CU_ASSERT_EQUAL_FATAL(s.class_count, 4);
    CU_ASSERT_STRING_EQUAL(s.classes[0], "bird");
    CU_ASSERT_STRING_EQUAL(s.classes[3], "fish");
    UP_ASSERT_OK(up_source_build(&s, &(up_build_options){0, 1, 1}, rows, 3, &w));
    CU_ASSERT(w.labels[0] == 2 && w.labels[1] == 1 && w.labels[2] == -1); /* dog, cat, none */
    up_work_free(&w);
    up_source_close(&s);
    up_config_free(&up_task_schema, &t);
    snprintf(more, sizeof more, ", classes: %s", up_lab_text("few.txt", "bird\ndog\n"));
    expect_classes(more, UP_ERR_FORMAT, "row 2 is of class \"cat\"", "few.txt");
    snprintf(more, sizeof more, ", classes: %s", up_lab_text("twice.txt", "dog\ncat\ndog\n"));
    expect_classes(more, UP_ERR_FORMAT, "twice.txt", "\"dog\" twice");
    expect_classes(", classes: absent.txt", UP_ERR_IO, "absent.txt", "");
    /* one class alone is nothing to choose from */
    up_lab_text("one.tsv", "text\tword\na cat\tyes\na dog\tyes\n");
    t = settings_of("text_classification", "one.tsv", ", target: word");
    expect_error(up_source_open(&t, &world, &s), UP_ERR_FORMAT, "one.tsv", "1 class(es), yes");
    up_config_free(&up_task_schema, &t);
    /* settings that mean nothing for the kind */
    const char wrong[] = "{kind: mlm, data: x, classes: y}",
               sampled[] = "{kind: vqa, data: x, sampled_targets: 4}";
    UP_ASSERT_OK(up_config_parse("task", wrong, sizeof wrong - 1, &up_task_schema, NULL, 0, &t));
    expect_error(up_task_settings_fill(&t), UP_ERR_ARGUMENT, "mlm", "classes");
    up_config_free(&up_task_schema, &t);
    UP_ASSERT_OK(up_config_parse("task", sampled, sizeof sampled - 1, &up_task_schema, NULL, 0, &t));
    expect_error(up_task_settings_fill(&t), UP_ERR_ARGUMENT, "vqa", "sampled_targets");
    up_config_free(&up_task_schema, &t);
}

/* Equal texts of a batch, as the model sees them, are one group. */
static void test_groups(void) {
    static const int32_t wanted[6] = {0, 1, 0, 3, 1, 0};
    static const size_t rows[6] = {0, 1, 2, 3, 4, 5};
    up_source s;
    up_work w = {0};
    open_world();
    up_lab_text("equal.tsv", "text\tword\na\tcat\nb\tdog\nc\tCat \nd\tdog house\ne\tdog\nf\tcat\n");
    up_task_settings t = settings_of("text_retrieval", "equal.tsv", ", target: word");
    UP_ASSERT_OK(up_source_open(&t, &world, &s));
    UP_ASSERT_OK(up_source_build(&s, &(up_build_options){1, 1, 1}, rows, 6, &w));
    CU_ASSERT_FATAL(w.loss.group_x == w.groups && w.loss.group_y == w.groups);
    for (int i = 0; i < 6; i++) CU_ASSERT(w.groups[i] == wanted[i] && w.labels[i] == i);
    up_work_free(&w);
    up_source_close(&s);
    up_config_free(&up_task_schema, &t);
}

/* The vocabulary as a sample: own words for certain, each other one with the same probability, which its bias
 * tells; so the sum of 1 / p over the set is the size of the vocabulary, whatever was drawn. */
static void test_sampled_words(void) {
    enum { WORDS = 12, DRAWN = 3, MOMENTS = 4000 };
    int64_t found[WORDS] = {0};
    double wanted[WORDS];
    int wrong = 0;
    up_source s;
    up_work w = {0};
    size_t row = 0;
    open_world();
    up_lab_text("words.tsv", "text\nred green\none two three four five six seven eight nine\n");
    up_task_settings t = settings_of("ar", "words.tsv", ", sampled_targets: 3");
    t.text_limit = 12;
    up_world_free(&world);
    UP_ASSERT_OK(up_source_open(&t, &world, &s));
    UP_ASSERT_OK(up_world_collect(&world, &s, 1));
    CU_ASSERT_EQUAL_FATAL(world.vocabulary_count, WORDS); /* with the end token */
    for (uint64_t m = 0; m < MOMENTS; m++) {
        UP_ASSERT_OK(up_source_build(&s, &(up_build_options){1, up_test_seed(), m}, &row, 1, &w));
        CU_ASSERT_FATAL(w.targets.sequences == 3 + DRAWN && w.batch.readouts == 3 && w.loss.bias == w.bias);
        int drawn = 0;
        double total = 0;
        for (int i = 0; i < w.targets.sequences; i++) {
            int32_t id = w.targets.text_id[3 * i + 1];
            drawn += w.bias[i] != 0;
            total += exp(w.bias[i]);
            found[world.vocabulary_index[id]]++;
            wrong += w.targets.key[i] != (uint64_t)id || w.targets.text_id[3 * i + 2] != UP_TOKEN_END;
            wrong += i && id <= w.targets.text_id[3 * i - 2];
        }
        wrong += drawn != DRAWN || !(fabs(total - WORDS) < 1e-5);
        for (int i = 0; i < 3; i++) /* red, green and the end: true, and without a bias */
            wrong +=
                w.targets.text_id[3 * w.labels[i] + 1] != w.batch.text_id[1 + i] || w.bias[w.labels[i]] != 0;
    }
    CU_ASSERT_EQUAL(wrong, 0);
    int own = 0, others = 0;
    int64_t of_others[WORDS];
    for (int i = 0; i < WORDS; i++) {
        own += found[i] == MOMENTS;
        if (found[i] == MOMENTS) continue;
        of_others[others] = found[i];
        wanted[others++] = MOMENTS * (double)DRAWN / (WORDS - 3);
    }
    CU_ASSERT(own == 3 && others == WORDS - 3);
    expect_fair("sampled words", of_others, wanted, others, 9); /* without replacement: even more alike */
    UP_ASSERT_OK(up_source_build(&s, &(up_build_options){0, 1, 1}, &row, 1, &w));
    CU_ASSERT(w.targets.sequences == 0 && !w.loss.bias); /* evaluation knows no samples */
    up_work_free(&w);
    up_source_close(&s);
    up_config_free(&up_task_schema, &t);
}

/* ---- texts ---- */

static void test_templates(void) {
    static const char *const cases[][3] = {
        {NULL, "cat", "cat"},   {"a photo of a {}.", "cat", "a photo of a cat."},
        {"{}", "", ""},         {"{} and {}", "x", "x and x"},
        {"{}{}", "{}", "{}{}"}, {"always this", "cat", "always this"},
        {"", "cat", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text;
        UP_ASSERT_OK(up_task_target_text(cases[i][0], cases[i][1], &text));
        CU_ASSERT_STRING_EQUAL(text, cases[i][2]);
        free(text);
    }
}

static void test_text_limit(void) {
    up_work w = {0};
    up_source s;
    size_t row = 0;
    open_world();
    up_lab_text("long.tsv", "text\tword\na cat and a dog and a cat\ta dog and a cat\n");
    up_task_settings t = settings_of("text_retrieval", "long.tsv", ", target: word");
    t.text_limit = 4;
    UP_ASSERT_OK(up_source_open(&t, &world, &s));
    UP_ASSERT_OK(up_source_build(&s, &(up_build_options){0, 1, 1}, &row, 1, &w));
    CU_ASSERT_STRING_EQUAL(describe(&w), "x S=0 a@0 cat@1 and@2 $@3\ny S* a@0 dog@1 and@2 $@3\n");
    up_source_close(&s);
    up_work_free(&w);
    t.text_limit = 17;
    expect_error(up_source_open(&t, &world, &s), UP_ERR_ARGUMENT, "text_retrieval: text_limit 17",
                 "16 text positions");
    up_config_free(&up_task_schema, &t);
}

/* ---- errors ---- */

static void expect_build_error(const char *kind, const char *row, const char *file, const char *why) {
    char list[1200];
    up_source s;
    up_work w = {0};
    size_t first = 0;
    int clip = strstr(kind, "video") != NULL;
    snprintf(list, sizeof list, "%s\tlabel\n%s\tx\nnone\ty\n", clip ? "video" : "image", row);
    up_lab_text("wrong.tsv", list);
    up_task_settings t = settings_of(kind, "wrong.tsv", "");
    UP_ASSERT_OK(up_source_open(&t, &world, &s));
    up_status status = up_source_build(&s, &(up_build_options){1, 1, 1}, &first, 1, &w);
    CU_ASSERT_NOT_EQUAL(status, UP_OK);
    expect_error(status, status, up_lab_path(file), why);
    up_work_free(&w);
    up_source_close(&s);
    up_config_free(&up_task_schema, &t);
}

static void test_errors_name_the_file(void) {
    up_source s;
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
    up_task_settings t = settings_of("image_classification", "small.tsv", ", target: colour");
    expect_error(up_source_open(&t, &world, &s), UP_ERR_FORMAT, "small.tsv", "no column \"colour\"");
    up_config_free(&up_task_schema, &t);
    t = settings_of("caption", "small.tsv", "");
    expect_error(up_source_open(&t, &world, &s), UP_ERR_FORMAT, "small.tsv", "no column \"text\"");
    up_config_free(&up_task_schema, &t);
    t = settings_of("vqa", "small.tsv", ", target: answer");
    expect_error(up_source_open(&t, &world, &s), UP_ERR_ARGUMENT, "vqa", "question");
    up_config_free(&up_task_schema, &t);
}

/* Not a test of anything: gives back what the others share, so that a leak checker has nothing to say. */
static void test_close(void) {
    up_world_free(&world);
    up_tokenizer_free(world.tokenizer);
    world.tokenizer = NULL;
    free(out);
    out = NULL;
    CU_ASSERT_PTR_NULL(world.vocabulary);
}

const up_test up_tests[] = {
    {"table: cells", test_table_cells},
    {"table: errors", test_table_errors},
    {"table: long cells", test_table_long_cells},
    {"classes", test_classes},
    {"loader: order", test_loader_order},
    {"loader: error", test_loader_error},
    {"loader: freed early", test_loader_freed_early},
    {"loader: works together", test_loader_works_together},
    {"masking: statistics", test_masking_statistics},
    {"masking: corners", test_masking_corners},
    {"batches", test_batches},
    {"masked batches", test_masked_batches},
    {"labels left out", test_labels_left_out},
    {"pixels", test_pixels},
    {"chance", test_chance},
    {"keys", test_keys},
    {"class texts", test_class_texts},
    {"class lists", test_class_lists},
    {"groups", test_groups},
    {"sampled words", test_sampled_words},
    {"templates", test_templates},
    {"text limit", test_text_limit},
    {"errors name the file", test_errors_name_the_file},
    {"close", test_close},
    {NULL, NULL},
};
