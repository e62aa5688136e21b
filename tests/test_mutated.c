/* test_mutated.c - files from outside with something changed at random: a model's and an overlay's
 * safetensors file, a checkpoint's state.json, a list of classes. Each is taken or refused with one sound
 * line, and nothing else happens; the sanitizers look on (./test.sh --sanitize).
 *
 * UP_TEST_ROUNDS=N takes N times as many files; UP_TEST_SEED other ones. */
#include "files/file.h"
#include "tasks/classes.h"
#include "tests/lab.h"
#include "tests/support.h"
#include "uniperceiver/random.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const up_suite_name = "mutated";

static up_rng rng;

static uint32_t below(uint32_t n) {
    return up_rng_below(&rng, n);
}

static int rounds(int usual) {
    const char *text = getenv("UP_TEST_ROUNDS");
    return text && atoi(text) > 0 ? usual * atoi(text) : usual;
}

/* ---- bytes ---- */

typedef struct bytes {
    unsigned char *data; /* [room] */
    size_t size, room;
} bytes;

static bytes read_bytes(const char *path) {
    void *data;
    bytes b = {0};
    UP_ASSERT_OK(up_file_read(path, &data, &b.size));
    b.room = b.size + 4096;
    b.data = realloc(data, b.room);
    CU_ASSERT_PTR_NOT_NULL_FATAL(b.data);
    return b;
}

static const char *const words[] = {
    "-1",
    "0",
    "18446744073709551616",
    "9223372036854775807",
    "-9223372036854775808",
    "1e308",
    "1e-320",
    "0.5",
    "null",
    "true",
    "[]",
    "{}",
    "[[[[[[[[",
    "\"\"",
    "\"",
    "\\u0000",
    ",",
    ":",
    "}",
    "]",
    "\n",
    "\r\n",
    "\t",
    "\xff\xfe",
    "\xef\xbb\xbf",
    "F32",
    "I64",
    "BF16",
    "shape",
    "data_offsets",
    "__metadata__",
    "base",
    "tasks",
    "-0",
    "1,",
    "%s%n",
    "\xf0\x9f\x99\x82",
};
enum { WORDS = sizeof words / sizeof words[0] };

/* `count` bytes at `at` become `more`; what finds no room is left out. */
static void splice(bytes *b, size_t at, size_t count, const void *more, size_t size) {
    if (count > b->size - at) count = b->size - at;
    if (b->size - count + size > b->room) return;
    memmove(b->data + at + size, b->data + at + count, b->size - at - count);
    if (size) memcpy(b->data + at, more, size);
    b->size += size - count;
}

/* One change among the first `reach` bytes. */
static void change(bytes *b, size_t reach) {
    unsigned char some[16];
    if (reach > b->size) reach = b->size;
    size_t at = reach ? below((uint32_t)reach) : 0, left = b->size - at;
    const char *word = words[below(WORDS)];
    size_t few = below(16) < left ? below(16) : left;
    switch (below(8)) {
    case 0:
        if (left) b->data[at] ^= (unsigned char)(1u << below(8));
        break;
    case 1:
        if (left) b->data[at] = (unsigned char)below(256);
        break;
    case 2:
        splice(b, at, 0, word, strlen(word));
        break;
    case 3:
        splice(b, at, few, word, strlen(word));
        break;
    case 4:
        splice(b, at, few, NULL, 0);
        break;
    case 5:
        few = few < left ? few : left;
        memcpy(some, b->data + at, few);
        splice(b, at, 0, some, few); /* twice */
        break;
    case 6: /* a number becomes another */
        while (at < b->size && (b->data[at] < '0' || b->data[at] > '9')) at++;
        for (few = 0; at + few < b->size && b->data[at + few] >= '0' && b->data[at + few] <= '9';) few++;
        splice(b, at, few, word, strlen(word));
        break;
    case 7:
        if (!below(8)) b->size = at;
        break;
    }
}

static void mutate(const bytes *whole, bytes *out, size_t reach) {
    memcpy(out->data, whole->data, whole->size);
    out->size = whole->size;
    for (int i = 1 + (int)below(3); i > 0; i--) change(out, reach);
}

static bytes copy_of(const bytes *whole) {
    bytes b = {malloc(whole->room), 0, whole->room};
    CU_ASSERT_PTR_NOT_NULL_FATAL(b.data);
    return b;
}

/* ---- what is said of them ---- */

typedef struct tally {
    int taken, refused, unsound;
} tally;

static void note(tally *t, up_status status, int i) {
    const char *said = up_last_error();
    t->taken += status == UP_OK;
    t->refused += status != UP_OK;
    if (status == UP_OK || (*said && strstr(said, ": ") && !strchr(said, '\n'))) return;
    t->unsound++;
    fprintf(stderr, "UP_TEST_SEED=%llu, file %d: \"%s\"\n", (unsigned long long)up_test_seed(), i, said);
}

static void sum_up(const tally *t) {
    printf("[%d taken, %d refused] ", t->taken, t->refused);
    CU_ASSERT_EQUAL(t->unsound, 0);
    CU_ASSERT(t->taken > 0 && t->refused > 0);
}

/* ---- safetensors ---- */

static up_model *small_model(up_backend *backend) {
    up_config c;
    up_model *model;
    UP_ASSERT_OK(up_config_preset("tiny", &c));
    c.vocabulary = 40;
    c.layers = 1;
    c.width = 8;
    c.heads = 2;
    c.ffn = 12;
    c.text_positions = 8;
    c.image_size = 8;
    c.patch = 4;
    UP_ASSERT_OK(up_model_create(backend, &c, 1, &model));
    return model;
}

/* The header's length, the first eight bytes, is made true again in most files, so that reading goes on. */
static void mend_length(bytes *b, const bytes *whole) {
    if (b->size < 8 || !below(4)) return;
    uint64_t length;
    memcpy(&length, whole->data, 8);
    length += b->size - whole->size;
    memcpy(b->data, &length, 8);
}

static size_t header_of(const bytes *whole) {
    uint64_t length;
    memcpy(&length, whole->data, 8);
    return (size_t)length + 8;
}

/* Files like `path`, read as models, or laid over `base`. */
static tally read_models(const char *path, up_backend *backend, up_model *base, int count) {
    bytes whole = read_bytes(path), b = copy_of(&whole);
    tally t = {0};
    for (int i = 0; i < count; i++) {
        up_model *model = NULL;
        mutate(&whole, &b, below(8) ? header_of(&whole) : whole.size);
        mend_length(&b, &whole);
        const char *changed = up_lab_file("changed.safetensors", b.data, b.size);
        note(&t, base ? up_overlay_read(base, changed, &model) : up_model_read(backend, changed, &model), i);
        up_model_destroy(model);
    }
    free(whole.data);
    free(b.data);
    return t;
}

static void test_models(void) {
    up_backend *backend;
    UP_ASSERT_OK(up_backend_create("ref", 1, &backend));
    up_model *model = small_model(backend);
    rng = up_rng_make(up_test_seed(), 1, 0, 0);
    UP_ASSERT_OK(up_model_write(model, up_lab_path("whole.safetensors")));
    tally t = read_models(up_lab_path("whole.safetensors"), backend, NULL, rounds(200));
    sum_up(&t);
    up_model_destroy(model);
    up_backend_free(backend);
}

static void test_overlays(void) {
    up_backend *backend;
    up_model *overlay;
    UP_ASSERT_OK(up_backend_create("ref", 1, &backend));
    up_model *base = small_model(backend);
    rng = up_rng_make(up_test_seed(), 2, 0, 0);
    UP_ASSERT_OK(up_overlay_create(base, 2, 2, 3, 1, &overlay));
    UP_ASSERT_OK(up_model_write(overlay, up_lab_path("overlay.safetensors")));
    up_model_destroy(overlay);
    tally t = read_models(up_lab_path("overlay.safetensors"), backend, base, rounds(200));
    sum_up(&t);
    up_model_destroy(base);
    up_backend_free(backend);
}

/* ---- state.json ---- */

static json_t *some_value(void) {
    switch (below(10)) {
    case 0:
        return json_null();
    case 1:
        return json_array();
    case 2:
        return json_object();
    case 3:
        return json_string("x");
    case 4:
        return json_real(below(2) ? 1e308 : 1e-320);
    case 5:
        return json_integer(INT64_MAX - below(3));
    case 6:
        return json_integer(INT64_MIN + below(3));
    case 7:
        return json_integer(-1 - (json_int_t)below(3));
    default:
        return json_integer(below(20));
    }
}

/* Somewhere in a tree of objects and arrays, a value becomes another or goes. */
static void change_tree(json_t *tree) {
    size_t n = json_is_object(tree) ? json_object_size(tree) : json_array_size(tree);
    if (!n) return;
    uint32_t place = below((uint32_t)n);
    if (json_is_array(tree)) {
        json_t *value = json_array_get(tree, place);
        if (json_is_object(value) && below(4))
            change_tree(value);
        else
            json_array_set_new(tree, place, some_value());
        return;
    }
    void *at = json_object_iter(tree);
    for (; place > 0; place--) at = json_object_iter_next(tree, at);
    json_t *value = json_object_iter_value(at);
    if ((json_is_object(value) || json_is_array(value)) && below(4))
        change_tree(value);
    else if (below(5))
        json_object_iter_set_new(tree, at, some_value());
    else
        json_object_del(tree, json_object_iter_key(at));
}

static void write_changed_state(const char *path, const bytes *whole, bytes *b) {
    if (!below(4)) {
        mutate(whole, b, whole->size);
        UP_ASSERT_OK(up_file_write(path, b->data, b->size));
        return;
    }
    json_t *tree = json_loadb((const char *)whole->data, whole->size, 0, NULL);
    for (int i = 1 + (int)below(2); i > 0; i--) change_tree(tree);
    CU_ASSERT_EQUAL(json_dump_file(tree, path, 0), 0);
    json_decref(tree);
}

/* A run of one small task, stopped after a step, is resumed from each; what it would do next is done. */
static up_status go_on(const char *config, const char *run) {
    static const char *const few[] = {"steps=2", "workers=1", "accumulate=1", "checkpoint_every=9"};
    char setting[600];
    snprintf(setting, sizeof setting, "run=%s", run);
    const char *const overrides[] = {setting, few[0], few[1], few[2], few[3]};
    const up_train_options options = {.backend = "ref", .threads = 1, .resume = 1, .quiet = 1};
    up_trainer t;
    void *slot;
    UP_TRY(up_trainer_open(config, overrides, 5, &options, &t));
    up_status status = t.step < t.settings.steps ? up_loader_next(t.loader, &slot, NULL) : UP_OK;
    up_trainer_close(&t);
    return status;
}

static const char *small_config(void) {
    char yaml[2000];
    up_lab_text("few.tsv", "text\tword\nthe star of the day\tsun\nnot wet\tdry\nto go on foot\tstroll\n");
    snprintf(
        yaml, sizeof yaml,
        "run: x\nsteps: 2\nlearn: [norm]\n"
        "model: {preset: tiny, layers: 1, width: 8, heads: 2, ffn: 12, text_positions: 16, image_size: 8,\n"
        "        image_resize: 8, patch: 4}\n"
        "tasks:\n  - {kind: text_retrieval, data: %s, target: word, batch: 2, text_limit: 8}\n",
        up_lab_path("few.tsv"));
    return up_lab_text("few.yaml", yaml);
}

static void test_states(void) {
    const char *config = small_config(), *run = up_lab_path("changed");
    char setting[600], path[700];
    volatile sig_atomic_t stop = 1;
    const up_train_options options = {.backend = "ref", .threads = 1, .quiet = 1, .stop = &stop};
    snprintf(setting, sizeof setting, "run=%s", run);
    const char *const overrides[] = {setting};
    tally t = {0};
    rng = up_rng_make(up_test_seed(), 3, 0, 0);
    CU_ASSERT_EQUAL_FATAL(up_train(config, overrides, 1, &options), UP_ERR_INTERRUPTED);
    snprintf(path, sizeof path, "%s/checkpoint-00000001/state.json", run);
    bytes whole = read_bytes(path), b = copy_of(&whole);
    int said = dup(STDERR_FILENO); /* settings that differ are told there, thousands of times */
    CU_ASSERT_PTR_NOT_NULL_FATAL(freopen("/dev/null", "w", stderr));
    for (int i = 0, count = rounds(30); i < count; i++) {
        write_changed_state(path, &whole, &b);
        note(&t, go_on(config, run), i);
    }
    fflush(stderr);
    dup2(said, STDERR_FILENO);
    close(said);
    sum_up(&t);
    free(whole.data);
    free(b.data);
    up_lab_remove(run);
}

/* ---- lists of classes ---- */

static void test_classes(void) {
    static const char list[] = "\xef\xbb\xbf"
                               "sun\r\ndry\n\nstroll\na long name of several words\nm\xc3\xa4rz\nend";
    up_lab lab;
    up_backend *backend;
    tally t = {0};
    rng = up_rng_make(up_test_seed(), 4, 0, 0);
    small_config();
    UP_ASSERT_OK(up_backend_create("ref", 1, &backend));
    up_lab_open(&lab, backend, NULL, 0);
    up_lab_text("rows.tsv", "text\tword\nthe star of the day\tsun\nnothing\t\nnot wet\tdry\n");
    bytes whole = read_bytes(up_lab_text("whole.txt", list)), b = copy_of(&whole);
    up_task_settings settings = *up_lab_source(&lab, "text_retrieval")->settings;
    settings.kind = (int)(up_task_find("text_classification") - up_tasks_table);
    settings.data = (char *)up_lab_path("rows.tsv");
    settings.classes = (char *)up_lab_path("changed.txt");
    for (int i = 0, count = rounds(500); i < count; i++) {
        up_source source;
        mutate(&whole, &b, whole.size);
        up_lab_file("changed.txt", b.data, b.size);
        up_status status = up_source_open(&settings, &lab.world, &source);
        note(&t, status, i);
        if (status == UP_OK) up_source_close(&source);
    }
    sum_up(&t);
    free(whole.data);
    free(b.data);
    up_lab_close(&lab);
}

const up_test up_tests[] = {
    {"models", test_models},
    {"overlays", test_overlays},
    {"states", test_states},
    {"classes", test_classes},
    {NULL, NULL},
};
