/* test_eval.c - evaluation: every metric against an oracle that is written another way, from features made by
 * hand; then whole evaluations of a tiny model over the golden pictures and clips against a brute force over
 * the features of single inputs. Target sets are encoded once, and counted. */
#include "eval/caption_metrics.h"
#include "eval/eval.h"
#include "eval/vqa_accuracy.h"
#include "files/file.h"
#include "tasks/cut.h"
#include "tests/lab.h"
#include "tests/support.h"
#include "uniperceiver/random.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const up_suite_name = "eval";

static int near_to(double a, double b) {
    int near = fabs(a - b) <= 1e-12;
    if (!near) fprintf(stderr, "%.17g, wanted %.17g\n", a, b);
    return near;
}

/* ---- metrics from features made by hand ---- */

/* Features of small whole numbers: every product is exact in any order, and many are equal. */
enum { WIDTH = 4, MOST = 300 };
typedef struct hand_made {
    up_backend *backend;
    up_cosines *cosines;
    up_buffer *memory;
    up_view x, y;
    float on_x[MOST][WIDTH], on_y[MOST][WIDTH];
} hand_made;

static void fill_small(up_rng *rng, int n, float out[][WIDTH]) {
    for (int i = 0; i < n; i++)
        for (int k = 0; k < WIDTH; k++) out[i][k] = (float)((int)(up_rng_u32(rng) % 5) - 2);
}

static void hand_make(hand_made *h, const char *backend, int q, int v, uint64_t key) {
    up_rng rng = up_rng_make(up_test_seed(), key, 0, 0);
    UP_ASSERT_OK(up_backend_create(backend, 2, &h->backend));
    UP_ASSERT_OK(up_cosines_create(h->backend, &h->cosines));
    fill_small(&rng, q, h->on_x);
    fill_small(&rng, v, h->on_y);
    UP_ASSERT_OK(h->backend->ops->alloc(h->backend, (size_t)(q + v) * WIDTH * sizeof(float), &h->memory));
    h->x = up_view_at(h->memory, UP_F32, 0, q, WIDTH);
    h->y = up_view_at(h->memory, UP_F32, (int64_t)q * WIDTH, v, WIDTH);
    UP_ASSERT_OK(h->backend->ops->upload(h->backend, h->x, h->on_x));
    UP_ASSERT_OK(h->backend->ops->upload(h->backend, h->y, h->on_y));
}

static void hand_free(hand_made *h) {
    h->backend->ops->release(h->backend, h->memory);
    up_cosines_free(h->cosines);
    up_backend_free(h->backend);
}

static double dot(const float *a, const float *b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Targets of a query in order: the nearest first; of equal ones those that are not its own, then by place. */
typedef struct placed {
    double cosine;
    int own, place;
} placed;

static int by_rank(const void *a, const void *b) {
    const placed *x = a, *y = b;
    if (x->cosine != y->cosine) return x->cosine < y->cosine ? 1 : -1;
    if (x->own != y->own) return x->own - y->own;
    return x->place - y->place;
}

static void test_nearest(void) {
    static const int sizes[][2] = {{1, 1}, {3, 7}, {300, 300}, {257, 2}, {0, 5}};
    static const char *const backends[] = {"ref", "cpu"};
    static hand_made h;
    int32_t best[MOST];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int b = 0; b < 2; b++) {
            int q = sizes[i][0], v = sizes[i][1], wrong = 0;
            placed order[MOST];
            hand_make(&h, backends[b], q, v, i);
            UP_ASSERT_OK(up_nearest(h.cosines, h.x, h.y, best));
            for (int k = 0; k < q; k++) {
                for (int j = 0; j < v; j++) order[j] = (placed){dot(h.on_x[k], h.on_y[j], WIDTH), 0, j};
                qsort(order, (size_t)v, sizeof *order, by_rank);
                wrong += best[k] != order[0].place;
            }
            CU_ASSERT_EQUAL(wrong, 0);
            hand_free(&h);
        }
}

/* More targets than a tile has columns: the first best of all tiles. */
static void test_nearest_over_tiles(void) {
    enum { V = 9000 };
    up_backend *b;
    up_cosines *c;
    up_buffer *memory;
    static float y[V];
    int32_t best;
    UP_ASSERT_OK(up_backend_create("ref", 1, &b));
    UP_ASSERT_OK(up_cosines_create(b, &c));
    UP_ASSERT_OK(b->ops->alloc(b, (V + 1) * sizeof(float), &memory));
    up_view x = up_view_at(memory, UP_F32, 0, 1, 1), all = up_view_at(memory, UP_F32, 1, V, 1);
    UP_ASSERT_OK(b->ops->fill(b, x, 1));
    static const int places[] = {0, 4095, 4096, 8192, V - 1};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        memset(y, 0, sizeof y);
        for (size_t k = i; k < sizeof places / sizeof *places; k++)
            y[places[k]] = 0.5f; /* equal ones behind */
        UP_ASSERT_OK(b->ops->upload(b, all, y));
        UP_ASSERT_OK(up_nearest(c, x, all, &best));
        CU_ASSERT_EQUAL(best, places[i]);
    }
    y[5000] = NAN;
    UP_ASSERT_OK(b->ops->upload(b, all, y));
    CU_ASSERT_EQUAL(up_nearest(c, x, all, &best), UP_ERR_NUMERIC);
    CU_ASSERT_EQUAL(up_nearest(c, x, up_view_rows(all, 0, 0), &best), UP_ERR_ARGUMENT);
    b->ops->release(b, memory);
    up_cosines_free(c);
    up_backend_free(b);
}

/* Share of the k-subsets of n places that hold one of the first `own`: all of them are looked at. */
static double chance_by_counting(int own, int n, int k) {
    int64_t hits = 0, all = 0;
    for (uint32_t set = 0; set < 1u << n; set++) {
        if (__builtin_popcount(set) != (k < n ? k : n)) continue;
        all++;
        hits += (set & ((1u << own) - 1)) != 0;
    }
    return all ? (double)hits / (double)all : 0;
}

/* Recall by putting the targets of each query in order. */
static up_metric recall_by_order(const hand_made *h, int q, const int32_t *gx, int v, const int32_t *gy,
                                 int k) {
    double hits = 0, chance = 0, spread = 0;
    for (int i = 0; i < q; i++) {
        placed order[MOST];
        int own = 0, found = 0, passed = 0;
        for (int j = 0; j < v; j++) {
            order[j] = (placed){dot(h->on_x[i], h->on_y[j], WIDTH), gy[j] == gx[i], j};
            own += gy[j] == gx[i];
        }
        qsort(order, (size_t)v, sizeof *order, by_rank);
        for (int j = 0; j < v && !found && passed < k; j++) {
            found = order[j].own;
            passed++;
        }
        hits += found;
        chance += chance_by_counting(own, v, k);
    }
    double mean = hits / q;
    for (int i = 0; i < q; i++) spread += i < hits ? (1 - mean) * (1 - mean) : mean * mean;
    return (up_metric){mean, chance / q, sqrt(spread / q / q), q};
}

static void test_recall(void) {
    enum { Q = 9, V = 8 };
    /* group 0 twice among the targets, group 5 not at all, groups 6 and 7 only there */
    static const int32_t gx[Q] = {0, 1, 2, 3, 4, 0, 1, 5, 2}, gy[V] = {0, 1, 2, 0, 3, 4, 6, 7};
    static const int64_t cuts[] = {1, 2, 5, 20};
    static hand_made h;
    int64_t rank[Q];
    for (uint64_t key = 0; key < 20; key++) {
        hand_make(&h, key % 2 ? "cpu" : "ref", Q, V, 100 + key);
        UP_ASSERT_OK(up_ranks(h.cosines, h.x, h.y, gx, gy, rank));
        for (size_t c = 0; c < sizeof cuts / sizeof *cuts; c++) {
            up_metric got, want = recall_by_order(&h, Q, gx, V, gy, (int)cuts[c]);
            UP_ASSERT_OK(up_recall(rank, gx, Q, gy, V, cuts[c], &got));
            CU_ASSERT(near_to(got.value, want.value));
            CU_ASSERT(near_to(got.chance, want.chance));
            CU_ASSERT(near_to(got.error, want.error));
            CU_ASSERT_EQUAL(got.n, Q);
        }
        CU_ASSERT_EQUAL(rank[7], V); /* nothing of its own is there */
        hand_free(&h);
    }
}

/* By hand: a tie with another text counts against the query, one with an equal text does not. */
static void test_recall_of_ties(void) {
    static hand_made h;
    static const int32_t groups[4] = {0, 1, 0, 3}; /* rows 0 and 2 have one text */
    static const float features[4][WIDTH] = {{1, 0, 0, 0}, {1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}};
    int64_t rank[4];
    up_metric number;
    hand_make(&h, "ref", 4, 4, 0);
    UP_ASSERT_OK(h.backend->ops->upload(h.backend, h.x, features));
    UP_ASSERT_OK(h.backend->ops->upload(h.backend, h.y, features));
    UP_ASSERT_OK(up_ranks(h.cosines, h.x, h.y, groups, groups, rank));
    CU_ASSERT_EQUAL(rank[0], 1); /* target 1 is as near as its own */
    CU_ASSERT_EQUAL(rank[1], 1);
    CU_ASSERT_EQUAL(rank[2], 0);
    CU_ASSERT_EQUAL(rank[3], 0);
    UP_ASSERT_OK(up_recall(rank, groups, 4, groups, 4, 1, &number));
    CU_ASSERT(near_to(number.value, 0.5));
    CU_ASSERT(near_to(number.chance, (0.5 + 0.25 + 0.5 + 0.25) / 4));
    UP_ASSERT_OK(up_recall(rank, groups, 4, groups, 4, 5, &number));
    CU_ASSERT(near_to(number.value, 1) && near_to(number.chance, 1) && number.error == 0);
    hand_free(&h);
}

static void test_accuracy(void) {
    static const int32_t labels[] = {2, -1, 0, 2, 2, 1, -1, 0}, best[] = {2, 2, 1, 2, 0, 1, 0, 0};
    /* counted: 2 2 hit, 0 1 miss, 2 2 hit, 2 0 miss, 1 1 hit, 0 0 hit */
    up_metric m = up_accuracy(best, labels, 8, 3), w;
    CU_ASSERT_EQUAL(m.n, 6);
    CU_ASSERT(near_to(m.value, 4.0 / 6));
    CU_ASSERT(near_to(m.chance, 1.0 / 3));
    double spread = 4 * pow(1 - 4.0 / 6, 2) + 2 * pow(4.0 / 6, 2);
    CU_ASSERT(near_to(m.error, sqrt(spread / 6 / 6)));
    UP_ASSERT_OK(up_word_accuracy(best, labels, 8, 3, &w));
    CU_ASSERT(near_to(w.value, m.value) && near_to(w.error, m.error) && w.n == 6);
    CU_ASSERT(near_to(w.chance, 3.0 / 6)); /* label 2, the most frequent */
    UP_ASSERT_OK(up_word_accuracy(best, (int32_t[]){-1, -1}, 2, 3, &w));
    CU_ASSERT(w.n == 0 && w.value == 0 && w.chance == 0 && w.error == 0);
}

static int by_id(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Both sorted, then walked along together. */
static double f1_by_sorting(const int32_t *a, size_t m, const int32_t *b, size_t n) {
    int32_t x[MOST], y[MOST];
    size_t shared = 0;
    memcpy(x, a, m * sizeof *a);
    memcpy(y, b, n * sizeof *b);
    qsort(x, m, sizeof *x, by_id);
    qsort(y, n, sizeof *y, by_id);
    for (size_t i = 0, j = 0; i < m && j < n;) {
        if (x[i] == y[j]) {
            shared++;
            i++;
            j++;
        } else if (x[i] < y[j]) {
            i++;
        } else {
            j++;
        }
    }
    if (!shared) return 0;
    double precision = (double)shared / (double)m, recall = (double)shared / (double)n;
    return 2 * precision * recall / (precision + recall);
}

static void test_word_f1(void) {
    up_rng rng = up_rng_make(up_test_seed(), 77, 0, 0);
    static const size_t sizes[][2] = {{0, 0}, {0, 3}, {4, 0}, {1, 1}, {5, 9}, {30, 7}, {290, 300}};
    for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++)
        for (int times = 0; times < 10; times++) {
            int32_t a[MOST], b[MOST];
            for (size_t i = 0; i < sizes[c][0]; i++) a[i] = (int32_t)(up_rng_u32(&rng) % 12);
            for (size_t i = 0; i < sizes[c][1]; i++) b[i] = (int32_t)(up_rng_u32(&rng) % 12);
            CU_ASSERT(near_to(up_bag_f1(a, sizes[c][0], b, sizes[c][1]),
                              f1_by_sorting(a, sizes[c][0], b, sizes[c][1])));
        }
    static const double own[] = {0.25, 1, 0, 0.5};
    up_metric m = up_mean(own, 4, 0.125);
    double spread = 0;
    for (int i = 0; i < 4; i++) spread += (own[i] - 0.4375) * (own[i] - 0.4375);
    CU_ASSERT(near_to(m.value, 0.4375) && near_to(m.chance, 0.125) && near_to(m.error, sqrt(spread / 4 / 4)));
    CU_ASSERT_EQUAL(m.n, 4);
}

/* ---- whole evaluations of a tiny model ---- */

static const char *const pictures[][3] = {
    {"jpeg_420.jpg", "photograph", "a small photograph"},
    {"png_rgb8.png", "drawing", "a drawing in red"},
    {"png_grey8.png", "drawing", "a grey drawing"},
    {"jpeg_444.jpg", "photograph", "a small photograph"},
    {"png_palette8.png", "chart", "a chart"},
    {"png_rgba8.png", "", "a see-through chart"},
    {"jpeg_grey.jpg", "photograph", "an old one"},
};
enum { PICTURES = sizeof pictures / sizeof *pictures, MANY = 70 /* rows: more than are built at once */ };
static const char *const clips[][2] = {{"h264.mp4", "left"}, {"mjpeg.avi", "right"}, {"short.mp4", "left"}};
enum { CLIPS = sizeof clips / sizeof *clips };
static const char *const texts[][2] = {{"a large cat of the mountains", "snow leopard"},
                                       {"what remains of a fire", "ash"},
                                       {"one who bakes bread", "baker"},
                                       {"who makes bread", "baker"},
                                       {"not wet", "dry"}};
enum { TEXTS = sizeof texts / sizeof *texts };

static void write_lists(void) {
    char text[32768];
    size_t n = (size_t)sprintf(text, "image\tlabel\tname\n");
    for (int i = 0; i < MANY; i++) {
        const char *const *p = pictures[i % PICTURES];
        n += (size_t)snprintf(text + n, sizeof text - n, "%s\t%s\t%s\n", up_lab_golden("image", p[0]), p[1],
                              p[2]);
    }
    up_lab_text("pictures.tsv", text);
    n = (size_t)sprintf(text, "video\tlabel\n");
    for (int i = 0; i < CLIPS; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s\t%s\n", up_lab_golden("video", clips[i][0]),
                              clips[i][1]);
    up_lab_text("clips.tsv", text);
    n = (size_t)sprintf(text, "text\tword\n");
    for (int i = 0; i < TEXTS; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s\t%s\n", texts[i][0], texts[i][1]);
    up_lab_text("texts.tsv", text);
    up_lab_text("kinds.txt", "chart\nmap\ndrawing\nphotograph\n");
}

/* Evaluations as lines of YAML behind a fixed head. */
static const char *write_config(const char *evaluations) {
    char yaml[8192];
    write_lists();
    snprintf(yaml, sizeof yaml,
             "run: %s\nseed: 3\nsteps: 1\n"
             "model: {preset: tiny, layers: 2, width: 16, heads: 2, ffn: 64, text_positions: 16,\n"
             "        image_size: 16, image_resize: 20, patch: 8, frames: 2, video_stride: 1}\n"
             "tasks:\n"
             "  - {kind: image_classification, data: %s}\n"
             "  - {kind: text_retrieval, data: %s, target: word}\n"
             "  - {kind: mlm, data: %s}\n"
             "  - {kind: caption, data: %s, text: name}\n"
             "evaluations:\n%s",
             up_lab_path("run"), up_lab_path("pictures.tsv"), up_lab_path("texts.tsv"),
             up_lab_path("texts.tsv"), up_lab_path("pictures.tsv"), evaluations);
    return up_lab_text("eval.yaml", yaml);
}

/* Ids of words that the texts and names have, the end included; ascending. */
static const int32_t *word_targets(up_tokenizer *tokenizer, int *count) {
    static int32_t list[256];
    static uint8_t seen[UP_VOCAB_SIZE];
    memset(seen, 0, sizeof seen);
    seen[UP_TOKEN_END] = 1;
    for (int i = 0; i < TEXTS + PICTURES; i++) {
        const char *text = i < TEXTS ? texts[i][0] : pictures[i - TEXTS][2];
        int32_t *ids;
        size_t n;
        UP_ASSERT_OK(up_tokenize(tokenizer, text, strlen(text), &ids, &n));
        for (size_t k = 0; k < n; k++) seen[ids[k]] = 1;
        free(ids);
    }
    *count = 0;
    for (int id = 0; id < UP_VOCAB_SIZE; id++)
        if (seen[id] && id != 2368)
            list[(*count)++] = id; /* without "cat": a word that the model cannot say */
    return list;
}

/* The model of the configuration, every weight shaken so that features differ. */
static void write_model(const char *config, const char *path) {
    up_settings settings;
    up_config c;
    up_backend *b;
    up_model *model;
    up_tokenizer *tokenizer;
    int count;
    UP_ASSERT_OK(up_settings_read(config, NULL, 0, &settings));
    UP_ASSERT_OK(up_settings_model(&settings, &c));
    UP_ASSERT_OK(up_backend_create("ref", 1, &b));
    UP_ASSERT_OK(up_model_create(b, &c, up_test_seed(), &model));
    const up_params *p = up_model_params(model);
    up_rng rng = up_rng_make(up_test_seed(), 5, 5, 5);
    for (int i = 0; i < p->count; i++) {
        if (p->list[i].group == UP_GROUP_TEMPERATURE) continue;
        size_t n = (size_t)(p->list[i].rows * p->list[i].cols);
        float *values = malloc(n * sizeof *values);
        UP_ASSERT_OK(b->ops->download(b, values, up_model_weight(model, i)));
        for (size_t k = 0; k < n; k++) values[k] += (float)(0.2 * up_rng_normal(&rng));
        UP_ASSERT_OK(b->ops->upload(b, up_model_weight(model, i), values));
        free(values);
    }
    up_model_changed(model);
    UP_ASSERT_OK(up_tokenizer_create(NULL, &tokenizer));
    const int32_t *targets = word_targets(tokenizer, &count);
    UP_ASSERT_OK(up_model_set_targets(model, targets, count));
    UP_ASSERT_OK(up_model_write(model, path));
    up_tokenizer_free(tokenizer);
    up_model_destroy(model);
    up_backend_free(b);
    up_settings_free(&settings);
}

/* All evaluations of the lines, done, with a session on the same model beside. */
typedef struct evaluated {
    up_evaluation e;
    up_session *session;
    int width;
} evaluated;

static void evaluate_tuned(evaluated *v, const char *evaluations, const char *tuned) {
    const char *config = write_config(evaluations), *model = up_lab_path("eval.safetensors");
    *v = (evaluated){.e.options = {.backend = "ref", .quiet = 1, .tuned = tuned}};
    write_model(config, model);
    UP_ASSERT_OK(up_settings_read(config, NULL, 0, &v->e.settings));
    UP_ASSERT_OK(up_evaluation_open(&v->e, model));
    UP_ASSERT_OK(up_evaluate_all(&v->e));
    UP_ASSERT_OK(up_model_load(model, &(up_load_options){.backend = "ref"}, &v->session));
    v->width = up_session_width(v->session);
}

static void evaluate(evaluated *v, const char *evaluations) {
    evaluate_tuned(v, evaluations, NULL);
}

static void evaluated_free(evaluated *v) {
    up_session_close(v->session);
    up_evaluation_close(&v->e);
}

static const up_score *score_of(const evaluated *v, const char *task, const char *metric) {
    for (size_t i = 0; i < v->e.scores.count; i++) {
        const up_score *s = &v->e.scores.list[i];
        if (!strcmp(s->task, task) && !strcmp(s->metric, metric)) return s;
    }
    fprintf(stderr, "no score %s of %s\n", metric, task);
    CU_FAIL_FATAL("a score is missing");
    return NULL;
}

static void check_number(const evaluated *v, const char *task, const char *metric, up_metric want) {
    const up_metric *got = &score_of(v, task, metric)->number;
    int right = near_to(got->value, want.value) && near_to(got->chance, want.chance) &&
                near_to(got->error, want.error) && got->n == want.n;
    if (!right) fprintf(stderr, "in %s of %s\n", metric, task);
    CU_ASSERT(right);
}

static void encode_text(evaluated *v, const char *text, up_side side, float *out) {
    const up_part part = {.kind = UP_PART_TEXT, .data = text, .size = strlen(text)};
    UP_ASSERT_OK(up_encode(v->session, &(up_input){&part, 1, 0}, 1, side, out));
}

/* A picture or clip alone, or before a question with a slot behind. */
static void encode_file(evaluated *v, up_part_kind kind, const char *path, const char *question, float *out) {
    void *bytes;
    size_t size;
    UP_ASSERT_OK(up_file_read(path, &bytes, &size));
    up_part parts[2] = {{.kind = kind, .data = bytes, .size = size, .name = path}};
    if (question) parts[1] = (up_part){.kind = UP_PART_TEXT, .data = question, .size = strlen(question)};
    const up_input input = {parts, question ? 2 : 1, question != NULL};
    UP_ASSERT_OK(up_encode(v->session, &input, 1, UP_SIDE_INPUT, out));
    free(bytes);
}

static int nearest_of(const float *x, const float *y, int n, int width) {
    int best = 0;
    for (int j = 1; j < n; j++)
        if (dot(x, y + j * width, width) > dot(x, y + best * width, width)) best = j;
    return best;
}

/* A share with the error of its zeros and ones. */
static up_metric share_of(int hits, int n, double chance) {
    double p = (double)hits / n, spread = hits * (1 - p) * (1 - p) + (n - hits) * p * p;
    return (up_metric){p, chance, sqrt(spread / n / n), n};
}

static void test_classification(void) {
    static const char *const own[] = {"photograph", "drawing", "chart"}, /* as they come in the rows */
        *const listed[] = {"chart", "map", "drawing", "photograph"};
    evaluated v;
    char lines[2048];
    float x[16], y[2][4][16], z[4][16];
    int hits[3] = {0}, counted = 0;
    snprintf(lines, sizeof lines,
             "  - {name: own, kind: image_classification, data: %1$s, text_limit: 12}\n"
             "  - {name: listed, kind: image_classification, data: %1$s, text_limit: 12, classes: %2$s,\n"
             "     template: 'this is a {}, a {}'}\n"
             "  - {name: asked, kind: vqa, data: %1$s, text_limit: 12, question: 'what is it?', limit: 20}\n",
             up_lab_path("pictures.tsv"), up_lab_path("kinds.txt"));
    evaluate(&v, lines);
    for (int i = 0; i < 4; i++) {
        char text[128];
        snprintf(text, sizeof text, "this is a %s, a %s", listed[i], listed[i]);
        encode_text(&v, text, UP_SIDE_TARGET, y[1][i]);
        if (i < 3) encode_text(&v, own[i], UP_SIDE_TARGET, y[0][i]);
    }
    memcpy(z, y[0], sizeof z);
    int asked = 0;
    for (int row = 0; row < MANY; row++) {
        const char *const *p = pictures[row % PICTURES];
        if (!*p[1]) continue; /* no label: left out */
        encode_file(&v, UP_PART_IMAGE, up_lab_golden("image", p[0]), NULL, x);
        counted++;
        hits[0] += !strcmp(own[nearest_of(x, y[0][0], 3, 16)], p[1]);
        hits[1] += !strcmp(listed[nearest_of(x, y[1][0], 4, 16)], p[1]);
        if (row >= 20) continue;
        encode_file(&v, UP_PART_IMAGE, up_lab_golden("image", p[0]), "what is it?", x);
        asked++;
        hits[2] += !strcmp(own[nearest_of(x, z[0], 3, 16)], p[1]);
    }
    check_number(&v, "own", "accuracy", share_of(hits[0], counted, 1.0 / 3));
    check_number(&v, "listed", "accuracy", share_of(hits[1], counted, 1.0 / 4));
    check_number(&v, "asked", "accuracy", share_of(hits[2], asked, 1.0 / 3));
    CU_ASSERT(score_of(&v, "own", "accuracy")->trained);
    CU_ASSERT(!score_of(&v, "asked", "accuracy")->trained);
    evaluated_free(&v);
}

/* Of seven classes: at most four others are at least as near as the true one. */
static void test_top_five(void) {
    enum { V = 7 };
    static const char *const listed[V] = {"map", "chart", "door", "drawing", "sea", "photograph", "list"};
    evaluated v;
    char lines[1024], text[128] = "", path[512];
    float x[16], y[V][16];
    int hits = 0, counted = 0;
    for (int i = 0; i < V; i++) snprintf(text + strlen(text), sizeof text - strlen(text), "%s\n", listed[i]);
    snprintf(path, sizeof path, "%s", up_lab_path("seven.txt"));
    UP_ASSERT_OK(up_file_write(path, text, strlen(text)));
    snprintf(lines, sizeof lines,
             "  - {name: seven, kind: image_classification, data: %s, text_limit: 12, classes: %s}\n",
             up_lab_path("pictures.tsv"), path);
    evaluate(&v, lines);
    for (int i = 0; i < V; i++) encode_text(&v, listed[i], UP_SIDE_TARGET, y[i]);
    for (int row = 0; row < MANY; row++) {
        const char *const *p = pictures[row % PICTURES];
        int own = 0, nearer = 0;
        if (!*p[1]) continue;
        encode_file(&v, UP_PART_IMAGE, up_lab_golden("image", p[0]), NULL, x);
        while (strcmp(listed[own], p[1])) own++;
        for (int i = 0; i < V; i++) nearer += i != own && dot(x, y[i], 16) >= dot(x, y[own], 16);
        counted++;
        hits += nearer < 5;
    }
    check_number(&v, "seven", "top-5 accuracy", share_of(hits, counted, 5.0 / V));
    evaluated_free(&v);
}

/* Classes in several templates: the mean of their features. */
static void test_templates(void) {
    static const char *const own[] = {"photograph", "drawing", "chart"}, *const forms[] = {
                                                                             "a %s", "this is a %s", "%s"};
    evaluated v;
    char lines[1024];
    float x[16], y[3][16] = {{0}}, one[16];
    int hits = 0, counted = 0;
    snprintf(lines, sizeof lines,
             "  - {name: mean, kind: image_classification, data: %1$s, text_limit: 12,\n"
             "     templates: ['a {}', 'this is a {}', '{}']}\n"
             "  - {name: plain, kind: image_classification, data: %1$s, text_limit: 12}\n",
             up_lab_path("pictures.tsv"));
    evaluate(&v, lines);
    for (int i = 0; i < 3; i++)
        for (int f = 0; f < 3; f++) {
            char text[64];
            snprintf(text, sizeof text, forms[f], own[i]);
            encode_text(&v, text, UP_SIDE_TARGET, one);
            for (int k = 0; k < 16; k++) y[i][k] += one[k];
        }
    for (int i = 0; i < 3; i++) {
        double length = sqrt(dot(y[i], y[i], 16));
        for (int k = 0; k < 16; k++) y[i][k] = (float)((double)y[i][k] / length);
    }
    for (int row = 0; row < MANY; row++) {
        const char *const *p = pictures[row % PICTURES];
        if (!*p[1]) continue;
        encode_file(&v, UP_PART_IMAGE, up_lab_golden("image", p[0]), NULL, x);
        counted++;
        hits += !strcmp(own[nearest_of(x, y[0], 3, 16)], p[1]);
    }
    check_number(&v, "mean", "accuracy", share_of(hits, counted, 1.0 / 3));
    CU_ASSERT(score_of(&v, "mean", "accuracy")->tokens.targets >
              3 * score_of(&v, "plain", "accuracy")->tokens.targets);
    evaluated_free(&v);
}

/* A tuned task with a head of four classes, of which the rows have three, in another order: equation 4 as
 * up_candidates_compare computes it, among those three. */
static void test_head(void) {
    static const char *const names[] = {"chart", "map", "drawing", "photograph"};
    const char *path = up_lab_path("eval-tuned.safetensors");
    evaluated v, plain;
    char lines[1024];
    up_session *s;
    up_candidates *c;
    int hits = 0, counted = 0, others = 0;
    float p[4], x[16], y[4][16];
    snprintf(lines, sizeof lines,
             "  - {name: head, kind: image_classification, data: %1$s, text_limit: 12}\n"
             "  - {name: none, kind: image_classification, data: %1$s, text_limit: 12, head: none}\n",
             up_lab_path("pictures.tsv"));
    evaluate(&plain, lines);
    up_model *overlay, *base = up_session_model(plain.session);
    up_backend *b = up_model_backend(base);
    UP_ASSERT_OK(up_overlay_create(base, 2, 2, 4, 3, &overlay));
    UP_ASSERT_OK(up_model_set_classes(overlay, names, 4));
    up_view weight = up_model_weight(overlay, up_model_params(overlay)->head_weight);
    float *values = malloc((size_t)(weight.rows * weight.cols) * sizeof *values);
    up_rng rng = up_rng_make(up_test_seed(), 6, 6, 6);
    for (int64_t i = 0; i < weight.rows * weight.cols; i++) values[i] = (float)(3 * up_rng_normal(&rng));
    UP_ASSERT_OK(b->ops->upload(b, weight, values));
    UP_ASSERT_OK(b->ops->upload(b, up_model_weight(overlay, up_model_params(overlay)->head_bias),
                                (float[]){0.1f, 50, -0.1f, 0.2f}));
    UP_ASSERT_OK(up_model_write(overlay, path));
    up_model_destroy(overlay);
    evaluate_tuned(&v, lines, path);
    const up_load_options over = {.backend = "ref", .overlay = path};
    UP_ASSERT_OK(up_model_load(up_lab_path("eval.safetensors"), &over, &s));
    UP_ASSERT_OK(up_candidates_create_texts(s, names, 4, &c));
    UP_ASSERT_OK(up_candidates_use_head(c, 1));
    for (int i = 0; i < 4; i++) {
        const up_part text = {.kind = UP_PART_TEXT, .data = names[i], .size = strlen(names[i])};
        UP_ASSERT_OK(up_encode(s, &(up_input){&text, 1, 0}, 1, UP_SIDE_TARGET, y[i]));
    }
    for (int row = 0; row < MANY; row++) {
        const char *const *picture = pictures[row % PICTURES];
        void *bytes;
        size_t size;
        if (!*picture[1]) continue;
        UP_ASSERT_OK(up_file_read(up_lab_golden("image", picture[0]), &bytes, &size));
        const up_part part = {.kind = UP_PART_IMAGE, .data = bytes, .size = size};
        const up_input input = {&part, 1, 0};
        UP_ASSERT_OK(up_candidates_compare(c, NULL, &input, 1, p));
        UP_ASSERT_OK(up_encode(s, &input, 1, UP_SIDE_INPUT, x));
        free(bytes);
        int best = 0, alone = 0; /* "map" is no class of the rows, however probable it is */
        for (int i = 2; i < 4; i++) {
            if (p[i] > p[best]) best = i;
            if (dot(x, y[i], 16) > dot(x, y[alone], 16)) alone = i;
        }
        counted++;
        hits += !strcmp(names[best], picture[1]);
        others += !strcmp(names[alone], picture[1]);
    }
    check_number(&v, "head", "accuracy", share_of(hits, counted, 1.0 / 3));
    check_number(&v, "none", "accuracy", share_of(others, counted, 1.0 / 3));
    free(values);
    up_candidates_free(c);
    up_session_close(s);
    evaluated_free(&v);
    evaluated_free(&plain);
}

static void test_clips(void) {
    static const char *const names[] = {"left", "right"};
    evaluated v;
    char lines[512];
    float x[16], y[2][16];
    int hits = 0;
    if (!up_lab_clips()) {
        CU_PASS("no clips without FFmpeg");
        return;
    }
    snprintf(lines, sizeof lines, "  - {name: clips, kind: video_classification, data: %s, text_limit: 12}\n",
             up_lab_path("clips.tsv"));
    evaluate(&v, lines);
    for (int i = 0; i < 2; i++) encode_text(&v, names[i], UP_SIDE_TARGET, y[i]);
    for (int row = 0; row < CLIPS; row++) {
        encode_file(&v, UP_PART_VIDEO, up_lab_golden("video", clips[row][0]), NULL, x);
        hits += !strcmp(names[nearest_of(x, y[0], 2, 16)], clips[row][1]);
    }
    check_number(&v, "clips", "accuracy", share_of(hits, CLIPS, 0.5));
    evaluated_free(&v);
}

/* Two classes called 0 and 1: F1 of the 1 and Matthews' correlation, by the formulas of their four counts; a
 * row without a label is left out. */
static void test_label_scores(void) {
    enum { ROWS = 12 };
    static const char *const rows[ROWS][2] = {{"dog", "1"}, {"cat", "0"}, {"house", "1"}, {"red", "1"},
                                              {"ten", "0"}, {"two", ""},  {"a dog", "0"}, {"six", "1"},
                                              {"one", "0"}, {"big", "1"}, {"small", "1"}, {"a cat", "0"}};
    evaluated v;
    char list[512], lines[1024];
    float x[16], y[2][16];
    double counts[2][2] = {{0}};
    size_t n = (size_t)sprintf(list, "text\tlabel\n");
    for (int i = 0; i < ROWS; i++) n += (size_t)sprintf(list + n, "%s\t%s\n", rows[i][0], rows[i][1]);
    snprintf(lines, sizeof lines,
             "  - {name: pairs, kind: text_classification, data: %s, text_limit: 12, classes: %s}\n",
             up_lab_text("labels.tsv", list), up_lab_text("labels.txt", "0\tsmall\n1\tbread\n"));
    evaluate(&v, lines);
    encode_text(&v, "small", UP_SIDE_TARGET, y[0]);
    encode_text(&v, "bread", UP_SIDE_TARGET, y[1]);
    for (int i = 0; i < ROWS; i++) {
        encode_text(&v, rows[i][0], UP_SIDE_INPUT, x);
        if (*rows[i][1]) counts[*rows[i][1] - '0'][nearest_of(x, y[0], 2, 16)]++;
    }
    double tn = counts[0][0], fp = counts[0][1], fn = counts[1][0], tp = counts[1][1];
    double below = sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn));
    const up_metric *f1 = &score_of(&v, "pairs", "F1")->number;
    const up_metric *matthews = &score_of(&v, "pairs", "Matthews correlation")->number;
    CU_ASSERT(near_to(f1->value, 2 * tp / (2 * tp + fp + fn)));
    CU_ASSERT(near_to(f1->chance, 2 * 6.0 / (11 + 6))); /* always 1: all of six, and five too many */
    CU_ASSERT(near_to(matthews->value, below > 0 ? (tp * tn - fp * fn) / below : 0));
    CU_ASSERT(f1->n == ROWS - 1 && matthews->n == ROWS - 1);
    evaluated_free(&v);
}

/* The error of F1 is the spread of F1 over lists that are drawn again and again. */
static void test_f1_error(void) {
    enum { N = 400, DRAWS = 2000 };
    int32_t said[N], labels[N], error_said[N], error_labels[N];
    double sum = 0, squares = 0;
    up_rng rng = up_rng_make(up_test_seed(), 8, 1, 1);
    for (int i = 0; i < N; i++) {
        labels[i] = i % 3 == 0;
        said[i] = up_rng_below(&rng, 4) ? labels[i] : !labels[i];
    }
    for (int d = 0; d < DRAWS; d++) {
        for (int i = 0; i < N; i++) {
            uint32_t k = up_rng_below(&rng, N);
            error_said[i] = said[k];
            error_labels[i] = labels[k];
        }
        double value = up_f1_metric(error_said, error_labels, N).value;
        sum += value;
        squares += value * value;
    }
    double spread = sqrt(squares / DRAWS - sum / DRAWS * (sum / DRAWS));
    up_metric got = up_f1_metric(said, labels, N);
    CU_ASSERT(fabs(got.error - spread) <
              0.1 * spread); /* of a deviation over 2,000 draws 1.6% is one sigma */
    CU_ASSERT(up_f1_metric(said, labels, 0).n == 0);
}

/* Answers of several people: the official accuracy of the nearest candidate, of all questions and of each
 * type; one whose answers are no candidates counts, too. */
static void test_answers(void) {
    enum { ROWS = 4 };
    static const struct {
        const char *question, *type, *answers[5];
    } rows[ROWS] = {{"what is it", "other", {"dog", "a dog", "dog", "cat"}},
                    {"how many?", "number", {"two", "2", "2", "ten"}},
                    {"is it red?", "yes/no", {"no", "no", "yes", "no"}},
                    {"who?", "other", {"nobody", "someone", "nobody", "nobody"}}};
    static const char *const names[] = {"dog", "cat", "2", "yes", "no", "ten"};
    evaluated v;
    char list[4096], lines[1024];
    float x[16], y[6][16];
    double all = 0, other = 0, number = 0;
    size_t n = 0;
    for (int i = 0; i < ROWS; i++) {
        n += (size_t)sprintf(
            list + n, "{\"image\": \"%s\", \"question\": \"%s\", \"answer_type\": \"%s\", \"answer\": [",
            up_lab_golden("image", pictures[i][0]), rows[i].question, rows[i].type);
        for (int k = 0; k < 4; k++)
            n += (size_t)sprintf(list + n, "%s\"%s\"", k ? ", " : "", rows[i].answers[k]);
        n += (size_t)sprintf(list + n, "]}\n");
    }
    snprintf(lines, sizeof lines,
             "  - {name: asked, kind: vqa, data: %s, target: answer, text_limit: 12, classes: %s}\n",
             up_lab_text("asked.jsonl", list), up_lab_text("answers.txt", "dog\ncat\n2\nyes\nno\nten\n"));
    evaluate(&v, lines);
    for (int i = 0; i < 6; i++) encode_text(&v, names[i], UP_SIDE_TARGET, y[i]);
    for (int i = 0; i < ROWS; i++) {
        double score;
        encode_file(&v, UP_PART_IMAGE, up_lab_golden("image", pictures[i][0]), rows[i].question, x);
        UP_ASSERT_OK(up_vqa_accuracy(names[nearest_of(x, y[0], 6, 16)], rows[i].answers, 4, &score));
        all += score / ROWS;
        if (!strcmp(rows[i].type, "other")) other += score / 2;
        if (!strcmp(rows[i].type, "number")) number += score;
    }
    CU_ASSERT(near_to(score_of(&v, "asked", "VQA accuracy")->number.value, all));
    CU_ASSERT(near_to(score_of(&v, "asked", "VQA accuracy, other")->number.value, other));
    CU_ASSERT(near_to(score_of(&v, "asked", "VQA accuracy, number")->number.value, number));
    CU_ASSERT_EQUAL(score_of(&v, "asked", "VQA accuracy")->number.n, ROWS);
    CU_ASSERT_EQUAL(score_of(&v, "asked", "accuracy")->number.n, ROWS - 1); /* the last has no candidate */
    evaluated_free(&v);
}

/* Recall of n queries among v targets, by putting all in order; what is right for each other has equal names.
 */
static up_metric recall_of(const float *x, const char *const *of_x, int n, const float *y,
                           const char *const *of_y, int v, int k) {
    int hits = 0;
    double chance = 0;
    for (int i = 0; i < n; i++) {
        placed order[MANY];
        int found = 0, same = 0;
        for (int j = 0; j < v; j++) {
            int equal = !strcmp(of_x[i], of_y[j]);
            order[j] = (placed){dot(x + i * 16, y + j * 16, 16), equal, j};
            same += equal;
        }
        qsort(order, (size_t)v, sizeof *order, by_rank);
        for (int j = 0; j < k && j < v; j++) found |= order[j].own;
        hits += found;
        chance += chance_by_counting(same, v, k) / n;
    }
    return share_of(hits, n, chance);
}

/* x [n] inputs, y [v] texts. */
static void check_recalls_of(const evaluated *e, const char *task, const float *x, const char *const *of_x,
                             int n, const float *y, const char *const *of_y, int v) {
    static const int at[] = {1, 5, 10};
    char metric[64];
    for (int i = 0; i < 3; i++) {
        snprintf(metric, sizeof metric, "R@%d input to text", at[i]);
        check_number(e, task, metric, recall_of(x, of_x, n, y, of_y, v, at[i]));
        snprintf(metric, sizeof metric, "R@%d text to input", at[i]);
        check_number(e, task, metric, recall_of(y, of_y, v, x, of_x, n, at[i]));
    }
}

static void check_recalls(const evaluated *v, const char *task, const float *x, const float *y,
                          const char *const *own, int n) {
    check_recalls_of(v, task, x, own, n, y, own, n);
}

static const char *const numbers[] = {"0", "1", "2", "3", "4", "5", "6"};

static void test_retrieval(void) {
    evaluated v;
    char lines[1024], text[128];
    float x[PICTURES][16], y[PICTURES][16];
    const char *own[PICTURES];
    snprintf(lines, sizeof lines,
             "  - {name: pictures, kind: image_text_retrieval, data: %s, target: name, text_limit: 12, "
             "limit: %d}\n"
             "  - {name: words, kind: text_retrieval, data: %s, target: word, text_limit: 12,\n"
             "     template: 'the word {}'}\n",
             up_lab_path("pictures.tsv"), PICTURES, up_lab_path("texts.tsv"));
    evaluate(&v, lines);
    for (int i = 0; i < PICTURES; i++) {
        encode_file(&v, UP_PART_IMAGE, up_lab_golden("image", pictures[i][0]), NULL, x[i]);
        encode_text(&v, pictures[i][2], UP_SIDE_TARGET, y[i]);
        own[i] = numbers[i]; /* of two equal names one is its own */
    }
    check_recalls(&v, "pictures", x[0], y[0], own, PICTURES);
    for (int i = 0; i < TEXTS; i++) {
        snprintf(text, sizeof text, "the word %s", texts[i][1]);
        encode_text(&v, texts[i][0], UP_SIDE_INPUT, x[i]);
        encode_text(&v, text, UP_SIDE_TARGET, y[i]);
        own[i] = numbers[i];
    }
    check_recalls(&v, "words", x[0], y[0], own, TEXTS);
    evaluated_free(&v);
}

/* equal_texts: texts are equal where their tokens are: the model cannot tell them apart. */
static void test_retrieval_of_equal_texts(void) {
    enum { ROWS = 6 };
    static const char *const rows[ROWS][3] = {{"one", "Dog", "dog"},     {"two", "cat", "cat"},
                                              {"six", " dog", "dog"},    {"ten", "CAT", "cat"},
                                              {"red", "house", "house"}, {"tin", "dog", "dog"}};
    evaluated v;
    char list[512], lines[1024];
    float x[ROWS][16], y[ROWS][16];
    const char *own[ROWS];
    size_t n = (size_t)sprintf(list, "text\tword\n");
    for (int i = 0; i < ROWS; i++) n += (size_t)sprintf(list + n, "%s\t%s\n", rows[i][0], rows[i][1]);
    snprintf(lines, sizeof lines,
             "  - {name: equal, kind: text_retrieval, data: %s, target: word, text_limit: 12,\n"
             "     equal_texts: true}\n",
             up_lab_text("alike.tsv", list));
    evaluate(&v, lines);
    for (int i = 0; i < ROWS; i++) {
        encode_text(&v, rows[i][0], UP_SIDE_INPUT, x[i]);
        encode_text(&v, rows[i][1], UP_SIDE_TARGET, y[i]);
        own[i] = rows[i][2];
    }
    check_recalls(&v, "equal", x[0], y[0], own, ROWS);
    evaluated_free(&v);
}

/* Pictures with several texts, which stand in one row or in several: each picture is one query, every text a
 * candidate. A text that two pictures have is right for its own one alone. */
static void test_retrieval_of_several_texts(void) {
    enum { ROWS = 6, WORDS = 11 };
    static const struct {
        int picture;
        const char *texts[4];
    } rows[ROWS] = {{0, {"dog", "a dog"}},      {1, {"cat"}},        {0, {"house"}},
                    {2, {"red", "dog", "ten"}}, {1, {"one", "two"}}, {4, {"six", "a big house"}}};
    static const int order[] = {0, 1, 2, 4}; /* pictures, as they first stand */
    evaluated v;
    char list[2048], lines[1024];
    float x[4][16], y[WORDS][16];
    const char *of_x[4], *of_y[WORDS];
    size_t n = 0;
    int words = 0;
    for (int i = 0; i < ROWS; i++) {
        n += (size_t)sprintf(list + n, "{\"image\": \"%s\", \"name\": [",
                             up_lab_golden("image", pictures[rows[i].picture][0]));
        for (int k = 0; rows[i].texts[k]; k++)
            n += (size_t)sprintf(list + n, "%s\"%s\"", k ? ", " : "", rows[i].texts[k]);
        n += (size_t)sprintf(list + n, "]}\n");
    }
    snprintf(lines, sizeof lines,
             "  - {name: many, kind: image_text_retrieval, data: %s, target: name, text_limit: 12}\n",
             up_lab_text("many.jsonl", list));
    evaluate(&v, lines);
    for (int i = 0; i < 4; i++) {
        of_x[i] = numbers[order[i]];
        encode_file(&v, UP_PART_IMAGE, up_lab_golden("image", pictures[order[i]][0]), NULL, x[i]);
    }
    for (int i = 0; i < ROWS; i++)
        for (int k = 0; rows[i].texts[k]; k++, words++) {
            of_y[words] = numbers[rows[i].picture];
            encode_text(&v, rows[i].texts[k], UP_SIDE_TARGET, y[words]);
        }
    CU_ASSERT_EQUAL(words, WORDS);
    check_recalls_of(&v, "many", x[0], of_x, 4, y[0], of_y, WORDS);
    evaluated_free(&v);
}

/* Words of the model, each encoded alone: features [count, 16], malloc'ed. */
static float *encode_words(evaluated *v, const int32_t *words, int count) {
    float *y = malloc((size_t)count * 16 * sizeof *y);
    for (int i = 0; i < count; i++) {
        const int32_t ids[2] = {words[i], UP_TOKEN_END};
        const up_part part = {.kind = UP_PART_IDS, .data = ids, .size = 2};
        UP_ASSERT_OK(up_encode(v->session, &(up_input){&part, 1, 0}, 1, UP_SIDE_TARGET, y + i * 16));
    }
    return y;
}

/* Word accuracy of read-outs whose true words are known, counted apart. */
typedef struct counting {
    int hits, n, times[256];
} counting;

static void count_words(counting *c, const float *x, const int32_t *truth, int n, const float *y,
                        const int32_t *words, int count) {
    for (int i = 0; i < n; i++)
        for (int w = 0; w < count; w++) {
            if (words[w] != truth[i]) continue; /* a word outside the set is left out */
            c->n++;
            c->times[w]++;
            c->hits += nearest_of(x + i * 16, y, count, 16) == w;
        }
}

static up_metric word_accuracy(const counting *c) {
    int most = 0;
    for (int i = 0; i < 256; i++) most = c->times[i] > most ? c->times[i] : most;
    return share_of(c->hits, c->n, (double)most / c->n);
}

static void test_words(void) {
    evaluated v;
    char lines[1024];
    int count, vocabulary;
    counting slots = {0}, masked = {0};
    snprintf(lines, sizeof lines,
             "  - {name: next, kind: ar, data: %1$s, text_limit: 12}\n"
             "  - {name: masked, kind: mlm, data: %1$s, text_limit: 12, mask: 0.4}\n",
             up_lab_path("texts.tsv"));
    evaluate(&v, lines);
    const int32_t *words = up_model_targets(up_session_model(v.session), &vocabulary);
    float *y = encode_words(&v, words, vocabulary), x[64][16];
    for (int row = 0; row < TEXTS; row++) { /* [<SPE> | words | slots], the end token included */
        int32_t ids[16];
        size_t n;
        up_batch b = {0};
        UP_ASSERT_OK(up_tokenize_closed(up_session_tokenizer(v.session), texts[row][0], strlen(texts[row][0]),
                                        12, ids, &n));
        count = (int)n;
        UP_ASSERT_OK(up_batch_begin(&b, up_model_config(up_session_model(v.session))));
        UP_ASSERT_OK(up_batch_open(&b, UP_SIDE_INPUT, 0));
        UP_ASSERT_OK(up_batch_words_and_slots(&b, ids, count));
        UP_ASSERT_OK(up_batch_close(&b));
        up_lab_encode(up_session_model(v.session), &b, x[0]);
        count_words(&slots, x[0], ids, count, y, words, vocabulary);
        up_batch_free(&b);
    }
    CU_ASSERT(slots.n > 20);
    check_number(&v, "next", "word accuracy", word_accuracy(&slots));

    up_source
        source; /* which words are hidden is the source's choice; the rest is done here, a row at a time */
    up_work work = {0};
    const up_build_options options = {.seed = 0};
    UP_ASSERT_OK(up_source_open(&v.e.settings.evaluations[1], &v.e.world, &source));
    for (size_t row = 0; row < TEXTS; row++) {
        int32_t truth[64];
        UP_ASSERT_OK(up_source_build(&source, &options, &row, 1, &work));
        if (!work.batch.readouts) continue;
        for (int i = 0; i < work.batch.readouts; i++)
            truth[i] = work.labels[i] < 0 ? -1 : words[work.labels[i]];
        up_lab_encode(up_session_model(v.session), &work.batch, x[0]);
        count_words(&masked, x[0], truth, work.batch.readouts, y, words, vocabulary);
    }
    CU_ASSERT(masked.n > 3);
    check_number(&v, "masked", "word accuracy", word_accuracy(&masked));
    up_source_close(&source);
    up_work_free(&work);
    free(y);
    evaluated_free(&v);
}

/* Rows are pictures of their own here; chance is each caption before the next row's text. */
static void check_caption_metrics(const evaluated *v, const char *task, const up_caption *made, int n) {
    up_corpus own = {0}, shifted = {0};
    for (int i = 0; i < n; i++) {
        size_t picture;
        const char *text = pictures[i][2], *said = made[i].text, *before = made[(i + n - 1) % n].text;
        UP_ASSERT_OK(up_corpus_add_picture(&own, &picture));
        UP_ASSERT_OK(up_corpus_add_reference(&own, picture, text, strlen(text)));
        UP_ASSERT_OK(up_corpus_set_candidate(&own, picture, said, strlen(said)));
        UP_ASSERT_OK(up_corpus_add_picture(&shifted, &picture));
        UP_ASSERT_OK(up_corpus_add_reference(&shifted, picture, text, strlen(text)));
        UP_ASSERT_OK(up_corpus_set_candidate(&shifted, picture, before, strlen(before)));
    }
    for (const up_caption_metric *m = up_caption_metrics; m->name; m++) {
        double value, chance;
        if (m->wants_wordnet) continue; /* test_scores has them */
        UP_ASSERT_OK(m->compute(&own, NULL, NULL, &value));
        UP_ASSERT_OK(m->compute(&shifted, NULL, NULL, &chance));
        CU_ASSERT(near_to(score_of(v, task, m->name)->number.value, value));
        CU_ASSERT(near_to(score_of(v, task, m->name)->number.chance, chance));
        CU_ASSERT_EQUAL(score_of(v, task, m->name)->number.n, n);
    }
    up_corpus_free(&own);
    up_corpus_free(&shifted);
}

static void test_captions(void) {
    enum { N = 5 };
    evaluated v;
    char lines[512];
    up_caption made[N];
    double own[N], others = 0, mean = 0, spread = 0;
    snprintf(lines, sizeof lines,
             "  - {name: say, kind: caption, data: %s, text: name, text_limit: 6, limit: %d}\n",
             up_lab_path("pictures.tsv"), N);
    evaluate(&v, lines);
    for (int i = 0; i < N; i++) {
        void *bytes;
        size_t size;
        UP_ASSERT_OK(up_file_read(up_lab_golden("image", pictures[i][0]), &bytes, &size));
        const up_part part = {.kind = UP_PART_IMAGE, .data = bytes, .size = size};
        const up_caption_options o = {.beam = 3, .max_words = 6};
        UP_ASSERT_OK(up_caption_input(v.session, &(up_input){&part, 1, 0}, &o, &made[i]));
        free(bytes);
    }
    for (int j = 0; j < N; j++) {
        int32_t *ids;
        size_t n;
        UP_ASSERT_OK(
            up_tokenize(up_session_tokenizer(v.session), pictures[j][2], strlen(pictures[j][2]), &ids, &n));
        for (int i = 0; i < N; i++) {
            double f1 = f1_by_sorting(made[i].ids, (size_t)made[i].words, ids, n);
            if (i == j) own[i] = f1;
            if (i != j) others += f1;
        }
        free(ids);
    }
    for (int i = 0; i < N; i++) mean += own[i] / N;
    for (int i = 0; i < N; i++) spread += (own[i] - mean) * (own[i] - mean);
    check_number(&v, "say", "word F1", (up_metric){mean, others / (N * (N - 1)), sqrt(spread / N / N), N});
    check_caption_metrics(&v, "say", made, N);
    for (int i = 0; i < N; i++) up_caption_free(&made[i]);
    evaluated_free(&v);
}

/* ---- several views ---- */

/* Features of a row in each view, each of length 1, averaged, of length 1 again: to a row's targets it is as
 * the mean of its logits. */
static void encode_views(evaluated *v, const up_source *s, size_t row, up_work *work, float mean[16]) {
    int views = up_views(s->settings);
    memset(mean, 0, 16 * sizeof *mean);
    for (int view = 0; view < views; view++) {
        const up_build_options options = {.view = view};
        float x[16][16];
        UP_ASSERT_OK(up_source_build(s, &options, &row, 1, work));
        up_lab_encode(up_session_model(v->session), &work->batch, x[0]);
        float length = (float)sqrt(dot(x[0], x[0], 16));
        for (int i = 0; i < 16; i++) mean[i] += x[0][i] / length / (float)views;
    }
    float length = (float)sqrt(dot(mean, mean, 16));
    for (int i = 0; i < 16; i++) mean[i] /= length;
}

static void test_views(void) {
    evaluated v;
    char lines[1024];
    up_source s;
    up_work work = {0};
    up_sample sample = {0};
    int hits = 0, counted = 0, differ[2] = {0};
    snprintf(lines, sizeof lines,
             "  - {name: once, kind: image_classification, data: %1$s, text_limit: 12}\n"
             "  - {name: thrice, kind: image_classification, data: %1$s, text_limit: 12, views: 3}\n"
             "  - {name: found, kind: image_text_retrieval, data: %1$s, target: name, text_limit: 12,\n"
             "     views: 3, limit: %2$d, equal_texts: true}\n",
             up_lab_path("pictures.tsv"), PICTURES);
    evaluate(&v, lines);
    UP_ASSERT_OK(up_source_open(&v.e.settings.evaluations[1], &v.e.world, &s));
    float y[3][16];
    for (size_t i = 0; i < 3; i++) encode_text(&v, s.classes[i], UP_SIDE_TARGET, y[i]);
    for (size_t row = 0; row < MANY; row++) {
        float mean[16];
        int class;
        UP_ASSERT_OK(up_dataset_sample(&s.data, row, &sample));
        UP_ASSERT_OK(up_source_class(&s, &sample, row, &class));
        if (class < 0) continue;
        encode_views(&v, &s, row, &work, mean);
        hits += nearest_of(mean, y[0], 3, 16) == class;
        counted++;
    }
    CU_ASSERT_EQUAL_FATAL(s.class_count, 3);
    check_number(&v, "thrice", "accuracy", share_of(hits, counted, 1.0 / 3));
    CU_ASSERT_EQUAL(score_of(&v, "thrice", "accuracy")->tokens.inputs,
                    3 * score_of(&v, "once", "accuracy")->tokens.inputs);
    up_sample_free(&sample);
    up_source_close(&s);

    UP_ASSERT_OK(up_source_open(&v.e.settings.evaluations[2], &v.e.world, &s));
    static float x[PICTURES][16], z[PICTURES][16], one[2][PICTURES][16];
    const char *own[PICTURES];
    for (size_t row = 0; row < PICTURES; row++) {
        own[row] = pictures[row][2];
        encode_views(&v, &s, row, &work, x[row]);
        up_lab_encode(up_session_model(v.session), &work.batch, one[1][row]);
        UP_ASSERT_OK(up_source_build(&s, &(up_build_options){.view = 0}, &row, 1, &work));
        up_lab_encode(up_session_model(v.session), &work.batch, one[0][row]);
        encode_text(&v, own[row], UP_SIDE_TARGET, z[row]);
    }
    for (int row = 0; row < PICTURES; row++)
        for (int i = 0; i < 2; i++)
            differ[i] += dot(x[row], one[i][row], 16) / sqrt(dot(one[i][row], one[i][row], 16)) < 0.999;
    CU_ASSERT(differ[0] > 0 && differ[1] > 0); /* neither the first nor the last view alone is near to it */
    check_recalls(&v, "found", x[0], z[0], own, PICTURES);
    up_source_close(&s);
    up_work_free(&work);
    evaluated_free(&v);
}

/* ---- tokens ---- */

/* [<SPE>, words, end] */
static int64_t text_tokens(evaluated *v, const char *text) {
    int32_t *ids;
    size_t n;
    UP_ASSERT_OK(up_tokenize(up_session_tokenizer(v->session), text, strlen(text), &ids, &n));
    free(ids);
    return (int64_t)n + 2;
}

/* Each evaluation encodes its target set once, however many rows it has, and not at all where one before has
 * used the same. */
static void test_tokens(void) {
    evaluated v;
    char lines[2048];
    int vocabulary;
    int64_t classes = 0, names = 0, labelled = 0;
    snprintf(lines, sizeof lines,
             "  - {name: classes, kind: image_classification, data: %1$s, text_limit: 12}\n"
             "  - {name: again, kind: image_classification, data: %1$s, text_limit: 12, limit: 9}\n"
             "  - {name: words, kind: image_mlm, data: %1$s, text: name, text_limit: 12, mask: 0.5}\n"
             "  - {name: names, kind: image_text_retrieval, data: %1$s, target: name, text_limit: 12}\n"
             "  - {name: say, kind: caption, data: %1$s, text: name, text_limit: 4, limit: 2}\n",
             up_lab_path("pictures.tsv"));
    evaluate(&v, lines);
    classes += text_tokens(&v, "photograph") + text_tokens(&v, "drawing") + text_tokens(&v, "chart");
    for (int row = 0; row < MANY; row++) {
        names += text_tokens(&v, pictures[row % PICTURES][2]);
        labelled += *pictures[row % PICTURES][1] != 0;
    }
    up_model_targets(up_session_model(v.session), &vocabulary);
    const up_tokens *t = &score_of(&v, "classes", "accuracy")->tokens;
    CU_ASSERT_EQUAL(t->targets, classes);
    CU_ASSERT_EQUAL(t->inputs, labelled * (1 + 4)); /* <SPE> and four patches */
    CU_ASSERT_EQUAL(score_of(&v, "again", "accuracy")->tokens.targets, 0);
    CU_ASSERT_EQUAL(score_of(&v, "words", "word accuracy")->tokens.targets, 3 * vocabulary);
    CU_ASSERT_EQUAL(score_of(&v, "say", "word F1")->tokens.targets, 0); /* the same words */
    CU_ASSERT(score_of(&v, "say", "word F1")->tokens.inputs > 2 * (1 + 4));
    t = &score_of(&v, "names", "R@5 text to input")->tokens; /* once for four numbers and the examples */
    CU_ASSERT_EQUAL(t->targets, names);
    CU_ASSERT_EQUAL(t->inputs, PICTURES * (1 + 4)); /* each picture once, however many rows it has */
    evaluated_free(&v);
}

/* ---- from outside ---- */

/* The numbers in structs are those of the table, and are told with the evaluations' progress to a listener.
 */
static void count_line(void *self, up_log_level level, const char *line) {
    *(int *)self += level == UP_LOG_REPORT && !strncmp(line, "evaluating ", 11);
}

static void compare_results(const up_scores *scores, const char *config, const char *model) {
    const up_train_options options = {.backend = "ref"};
    up_results results;
    int evaluations = 0;
    UP_ASSERT_OK(up_listen(&(up_listener){.log = count_line, .self = &evaluations}));
    UP_ASSERT_OK(up_evaluate_results(config, NULL, 0, &options, model, &results));
    UP_ASSERT_OK(up_listen(NULL));
    CU_ASSERT(evaluations > 1);
    CU_ASSERT_EQUAL_FATAL(results.count, scores->count);
    for (size_t i = 0; i < results.count; i++) {
        const up_score *s = &scores->list[i];
        const up_result *r = &results.list[i];
        CU_ASSERT_STRING_EQUAL(r->task, s->task);
        CU_ASSERT_STRING_EQUAL(r->metric, s->metric);
        CU_ASSERT_EQUAL(r->trained, s->trained);
        CU_ASSERT_EQUAL(r->value, s->number.value);
        CU_ASSERT_EQUAL(r->chance, s->number.chance);
        CU_ASSERT_EQUAL(r->standard_error, s->number.error);
        CU_ASSERT_EQUAL(r->n, s->number.n);
        CU_ASSERT_EQUAL(r->input_tokens, s->tokens.inputs);
        CU_ASSERT_EQUAL(r->target_tokens, s->tokens.targets);
    }
    up_results_free(&results);
}

/* up_evaluate with what it prints in a file. */
static up_status evaluate_aside(const char *config, const char *const *overrides, size_t count,
                                const char *model, const char *json, char *printed, size_t room) {
    const char *path = up_lab_path("printed.txt");
    const up_train_options options = {.backend = "ref", .quiet = 1};
    fflush(stdout);
    int kept = dup(STDOUT_FILENO);
    CU_ASSERT_PTR_NOT_NULL_FATAL(freopen(path, "w", stdout));
    up_status status = up_evaluate(config, overrides, count, &options, model, json);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    void *bytes;
    size_t size;
    UP_ASSERT_OK(up_file_read(path, &bytes, &size));
    snprintf(printed, room, "%.*s", (int)size, (const char *)bytes);
    free(bytes);
    return status;
}

static void test_evaluate(void) {
    char lines[1024], printed[8192];
    const char *json = up_lab_path("metrics.json"), *model = up_lab_path("eval.safetensors");
    evaluated v;
    snprintf(lines, sizeof lines,
             "  - {name: kinds, kind: image_classification, data: %1$s, text_limit: 12}\n"
             "  - {name: names, kind: image_text_retrieval, data: %1$s, target: name, text_limit: 12}\n"
             "  - {name: say, kind: caption, data: %1$s, text: name, text_limit: 4, limit: 3}\n",
             up_lab_path("pictures.tsv"));
    evaluate(&v, lines);
    UP_ASSERT_OK(evaluate_aside(write_config(lines), NULL, 0, model, json, printed, sizeof printed));
    CU_ASSERT_PTR_NOT_NULL(strstr(printed, "Retrievals, in words (names"));
    CU_ASSERT_PTR_NOT_NULL(strstr(printed, "Captions, in words (say"));
    CU_ASSERT_PTR_NOT_NULL(strstr(printed, "Tasks that were never trained\n  names"));
    CU_ASSERT_PTR_NOT_NULL(strstr(printed, "tokens encoded"));
    json_t *list = json_load_file(json, 0, NULL);
    CU_ASSERT_EQUAL_FATAL(json_array_size(list), v.e.scores.count);
    for (size_t i = 0; i < v.e.scores.count; i++) {
        const up_score *s = &v.e.scores.list[i];
        const json_t *j = json_array_get(list, i), *tokens = json_object_get(j, "tokens");
        CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(j, "task")), s->task);
        CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(j, "metric")), s->metric);
        CU_ASSERT(fabs(json_number_value(json_object_get(j, "value")) - s->number.value) < 1e-5);
        CU_ASSERT(fabs(json_number_value(json_object_get(j, "chance")) - s->number.chance) < 1e-5);
        CU_ASSERT_EQUAL(json_integer_value(json_object_get(tokens, "inputs")), s->tokens.inputs);
        CU_ASSERT_EQUAL(json_integer_value(json_object_get(tokens, "targets")), s->tokens.targets);
    }
    json_decref(list);
    compare_results(&v.e.scores, write_config(lines), model);
    const char *const half[] = {"precision=bf16"};
    UP_ASSERT_OK(evaluate_aside(write_config(lines), half, 1, model, json, printed, sizeof printed));
    evaluated_free(&v);
}

static void test_wrong_evaluations(void) {
    char lines[512], printed[256];
    volatile sig_atomic_t stop = 1;
    const up_train_options stopped = {.backend = "ref", .quiet = 1, .stop = &stop};
    const char *model = up_lab_path("eval.safetensors");
    CU_ASSERT_EQUAL(up_evaluate(NULL, NULL, 0, NULL, NULL, NULL), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_evaluate("x.yaml", NULL, 1, NULL, NULL, NULL), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_evaluate("no/such.yaml", NULL, 0, NULL, NULL, NULL), UP_ERR_IO);
    CU_ASSERT_EQUAL(up_evaluate(write_config("  []\n"), NULL, 0, NULL, model, NULL), UP_ERR_ARGUMENT);
    snprintf(lines, sizeof lines, "  - {kind: image_classification, data: %s, text_limit: 12}\n",
             up_lab_path("pictures.tsv"));
    const char *config = write_config(lines);
    write_model(config, model);
    CU_ASSERT_EQUAL(up_evaluate(config, NULL, 0, &stopped, model, NULL), UP_ERR_INTERRUPTED);
    CU_ASSERT_EQUAL(evaluate_aside(config, NULL, 0, model, "/no/such/folder/x.json", printed, sizeof printed),
                    UP_ERR_IO);
}

/* The five best of random logits with equal ones among them, against a sort; probabilities among all. */
static void test_choices(void) {
    up_rng rng = up_rng_make(up_test_seed(), 77, 0, 0);
    for (int n = 1; n <= 40; n++) {
        placed order[40];
        float z[40];
        double sum = 0;
        up_choice got[UP_CHOICES];
        for (int j = 0; j < n; j++) {
            z[j] = (float)(up_rng_u32(&rng) % 9);
            order[j] = (placed){(double)z[j], 0, j};
            sum += exp((double)z[j]);
        }
        qsort(order, (size_t)n, sizeof *order, by_rank);
        CU_ASSERT_EQUAL_FATAL(up_choose(z, n, got), n < UP_CHOICES ? n : UP_CHOICES);
        for (int i = 0; i < n && i < UP_CHOICES; i++) {
            CU_ASSERT_EQUAL(got[i].target, order[i].place);
            CU_ASSERT(near_to(got[i].probability, exp(order[i].cosine) / sum));
        }
    }
}

const up_test up_tests[] = {{"choices", test_choices},
                            {"nearest", test_nearest},
                            {"nearest_over_tiles", test_nearest_over_tiles},
                            {"recall", test_recall},
                            {"recall_of_ties", test_recall_of_ties},
                            {"accuracy", test_accuracy},
                            {"word_f1", test_word_f1},
                            {"classification", test_classification},
                            {"top five", test_top_five},
                            {"several templates", test_templates},
                            {"head", test_head},
                            {"clips", test_clips},
                            {"label_scores", test_label_scores},
                            {"f1_error", test_f1_error},
                            {"answers", test_answers},
                            {"retrieval", test_retrieval},
                            {"retrieval_of_equal_texts", test_retrieval_of_equal_texts},
                            {"retrieval_of_several_texts", test_retrieval_of_several_texts},
                            {"words", test_words},
                            {"captions", test_captions},
                            {"views", test_views},
                            {"tokens", test_tokens},
                            {"evaluate", test_evaluate},
                            {"wrong_evaluations", test_wrong_evaluations},
                            {NULL, NULL}};
