/* test_torch_file.c - checkpoints of PyTorch: what is written is read again; pickles that call, storages that
 * lie about their size, tensors that reach outside, and files that are cut are refused. */
#include "files/file.h"
#include "files/torch_file.h"
#include "files/zip.h"
#include "tests/lab.h"
#include "tests/support.h"

#include <stdlib.h>
#include <string.h>

enum { VALUES = 6 };
static const float values[VALUES] = {1, -2, 0.5f, 1e-30f, 3, 4};

/* --- what is written is read again --- */

static void write_two(const char *path) {
    const up_safetensor specs[] = {{.name = "a.weight", .type = UP_ST_F32, .ndim = 2, .shape = {2, 3}},
                                   {.name = "scale", .type = UP_ST_F32, .ndim = 0}};
    up_torch_writer *writer;
    UP_ASSERT_OK(up_torch_begin(path, specs, 2, &writer));
    CU_ASSERT_EQUAL(up_torch_put(writer, values, sizeof values - 1), UP_ERR_ARGUMENT);
    UP_ASSERT_OK(up_torch_put(writer, values, sizeof values));
    UP_ASSERT_OK(up_torch_put(writer, values + 2, sizeof values[0]));
    UP_ASSERT_OK(up_torch_commit(writer));
}

static void test_round_trip(void) {
    const char *path = up_lab_path("two.pth");
    float read[VALUES];
    up_torch_file *file;
    write_two(path);
    UP_ASSERT_OK(up_torch_open(path, &file));
    CU_ASSERT_EQUAL(up_torch_count(file), 2);
    const up_safetensor *a = up_torch_find(file, "a.weight"), *scale = up_torch_find(file, "scale");
    CU_ASSERT_FATAL(a && scale && !up_torch_find(file, "a"));
    CU_ASSERT(a == up_torch_at(file, 0) && a->ndim == 2 && a->shape[0] == 2 && a->shape[1] == 3);
    CU_ASSERT(scale->ndim == 0 && scale->count == 1);
    UP_ASSERT_OK(up_torch_check(file, a));
    UP_ASSERT_OK(up_safetensor_to_f32(a, read));
    CU_ASSERT(!memcmp(read, values, sizeof values));
    up_torch_release(file, a);
    UP_ASSERT_OK(up_safetensor_to_f32(a, read)); /* the file has it still */
    CU_ASSERT(!memcmp(read, values, sizeof values));
    UP_ASSERT_OK(up_safetensor_to_f32(scale, read));
    CU_ASSERT(read[0] == values[2]);
    up_torch_close(file);
}

/* --- pickles made by hand --- */

typedef struct text {
    char bytes[2048];
    size_t size;
} text;

static void add(text *t, const char *bytes, size_t size) {
    CU_ASSERT_FATAL(size <= sizeof t->bytes - t->size);
    memcpy(t->bytes + t->size, bytes, size);
    t->size += size;
}

static void add_line(text *t, const char *line) {
    add(t, line, strlen(line));
}

static void add_string(text *t, const char *string) {
    const char head[5] = {'X', (char)strlen(string), 0, 0, 0};
    add(t, head, sizeof head);
    add_line(t, string);
}

static void add_whole(text *t, int64_t n) {
    char bytes[10] = {(char)0x8a, 8}; /* LONG1 */
    for (int i = 0; i < 8; i++) bytes[2 + i] = (char)((uint64_t)n >> 8 * i);
    add(t, bytes, sizeof bytes);
}

/* A tensor [2, 3] of VALUES floats, of which a test changes what it is about. */
typedef struct tensor {
    const char *storage, *key, *call;
    int64_t elements, offset, shape[2], strides[2];
} tensor;
static const tensor sound = {
    "ctorch\nFloatStorage\n", "0", "ctorch._utils\n_rebuild_tensor_v2\n", VALUES, 0, {2, 3}, {3, 1}};

static void add_tensor(text *t, const tensor *a) {
    add_line(t, a->call);
    add_line(t, "((");
    add_string(t, "storage");
    add_line(t, a->storage);
    add_string(t, a->key);
    add_string(t, "cpu");
    add_whole(t, a->elements);
    add_line(t, "tQ");
    add_whole(t, a->offset);
    add_line(t, "(");
    for (int i = 0; i < 2; i++) add_whole(t, a->shape[i]);
    add_line(t, "t(");
    for (int i = 0; i < 2; i++) add_whole(t, a->strides[i]);
    add_line(t, "t\x89}tR");
}

/* {"model": {"w": tensor}, "args": EXTRA}, or without args. */
static text make_pickle(const tensor *a, const char *extra) {
    text t = {.size = 0};
    add_line(&t, "\x80\x02}(");
    add_string(&t, "model");
    add_line(&t, "}");
    add_string(&t, "w");
    add_tensor(&t, a);
    add_line(&t, "s");
    if (extra) {
        add_string(&t, "args");
        add_line(&t, extra);
    }
    add_line(&t, "u.");
    return t;
}

static void put_member(up_zip_writer *zip, const char *name, const void *data, size_t size) {
    UP_ASSERT_OK(up_zip_begin(zip, name, size));
    UP_ASSERT_OK(up_zip_put(zip, data, size));
    UP_ASSERT_OK(up_zip_end(zip));
}

static const char *make_file(const text *pickle, const char *byte_order) {
    const char *path = up_lab_path("made.pth");
    up_file_writer file;
    up_zip_writer *zip;
    UP_ASSERT_OK(up_file_begin(path, &file));
    UP_ASSERT_OK(up_zip_writer_create(&file, &zip));
    put_member(zip, "m/data.pkl", pickle->bytes, pickle->size);
    put_member(zip, "m/byteorder", byte_order, strlen(byte_order));
    put_member(zip, "m/data/0", values, sizeof values);
    UP_ASSERT_OK(up_zip_finish(zip));
    up_zip_writer_free(zip);
    UP_ASSERT_OK(up_file_commit(&file));
    return path;
}

static up_status open_made(const text *pickle) {
    up_torch_file *file;
    up_status status = up_torch_open(make_file(pickle, "little"), &file);
    up_torch_close(file);
    return status;
}

static up_status open_tensor(const tensor *a) {
    text pickle = make_pickle(a, NULL);
    return open_made(&pickle);
}

static void test_sound(void) {
    static const char *const harmless[] = {
        "cargparse\nNamespace\n)\x81}b", "cnumpy.core.multiarray\nscalar\n)R", "c_codecs\nencode\n)R",
        "comegaconf.dictconfig\nDictConfig\n)\x81}b", "ccollections\nOrderedDict\n)R"};
    tensor a = sound;
    UP_ASSERT_OK(open_tensor(&a));
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
        text pickle = make_pickle(&a, harmless[i]);
        UP_ASSERT_OK(open_made(&pickle));
    }
    a.offset = 5;
    a.shape[0] = a.shape[1] = 1; /* strides of single rows mean nothing */
    a.strides[0] = a.strides[1] = 99;
    UP_ASSERT_OK(open_tensor(&a));
}

/* Whatever a pickle would call, wherever it stands, ends in an error that names it. */
static void test_calls(void) {
    static const char *const calls[] = {"cos\nsystem\nX\x02\x00\x00\x00ls\x85R",
                                        "cos\nsystem\n",
                                        "cbuiltins\neval\n)R",
                                        "cos\nsystem\n)\x81",
                                        "cbuiltins\ngetattr\n0N",
                                        "cposix\nsystem\n)R}b",
                                        "ctorchx\nload\n)R",
                                        "(ios\nsystem\n",
                                        "(cos\nsystem\no",
                                        "cos\nsystem\n)}\x92",
                                        "csubprocess\nPopen\n)R"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        text pickle = make_pickle(&sound, NULL);
        pickle.size -= 2; /* "u." */
        add_string(&pickle, "args");
        if (i == 0)
            add(&pickle, calls[i], 11 + 1 + 4 + 2 + 2);
        else
            add_line(&pickle, calls[i]);
        add_line(&pickle, "u.");
        CU_ASSERT_EQUAL(open_made(&pickle), UP_ERR_FORMAT);
    }
    text stacked = {.size = 0};
    add_line(&stacked, "\x80\x04");
    add_string(&stacked, "os");
    add_string(&stacked, "system");
    add_line(&stacked, "\x93)R.");
    CU_ASSERT_EQUAL(open_made(&stacked), UP_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "os.system"));
}

static void test_tensors_refused(void) {
    const int64_t most = INT64_MAX;
    tensor wrong[] = {
        {"ctorch\nFloatStorage\n", "1", sound.call, VALUES, 0, {2, 3}, {3, 1}},
        {"ctorch\nFloatStorage\n", "../0", sound.call, VALUES, 0, {2, 3}, {3, 1}},
        {"ctorch\nFloatStorage\n", "", sound.call, VALUES, 0, {2, 3}, {3, 1}},
        {"ctorch\nDoubleStorage\n", "0", sound.call, VALUES, 0, {2, 3}, {3, 1}},
        {"ctorch\nQInt8Storage\n", "0", sound.call, VALUES, 0, {2, 3}, {3, 1}},
        {"N", "0", sound.call, VALUES, 0, {2, 3}, {3, 1}},
        {sound.storage, "0", "ctorch._utils\n_rebuild_qtensor\n", VALUES, 0, {2, 3}, {3, 1}},
        {sound.storage, "0", "ctorch._utils\n_rebuild_sparse_tensor\n", VALUES, 0, {2, 3}, {3, 1}},
        {sound.storage, "0", sound.call, VALUES + 1, 0, {2, 3}, {3, 1}},
        {sound.storage, "0", sound.call, -1, 0, {2, 3}, {3, 1}},
        {sound.storage, "0", sound.call, most / 2 + 1 + VALUES, 0, {2, 3}, {3, 1}},
        {sound.storage, "0", sound.call, VALUES, 1, {2, 3}, {3, 1}},
        {sound.storage, "0", sound.call, VALUES, -1, {2, 3}, {3, 1}},
        {sound.storage, "0", sound.call, VALUES, most, {2, 3}, {3, 1}},
        {sound.storage, "0", sound.call, VALUES, 0, {3, 3}, {3, 1}},
        {sound.storage, "0", sound.call, VALUES, 0, {-2, 3}, {3, 1}},
        {sound.storage, "0", sound.call, VALUES, 0, {-1, -1}, {1, 1}},
        {sound.storage, "0", sound.call, VALUES, 0, {most, most}, {most, 1}},
        {sound.storage, "0", sound.call, VALUES, 0, {1, most}, {most, 1}},
        {sound.storage, "0", sound.call, VALUES, 0, {2, 3}, {1, 2}},
        {sound.storage, "0", sound.call, VALUES, 0, {2, 3}, {-3, 1}},
        {sound.storage, "0", sound.call, VALUES, 0, {2, 3}, {most, most}},
        {sound.storage, "0", sound.call, VALUES, 0, {2, 3}, {0, 0}},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CU_ASSERT_EQUAL(open_tensor(&wrong[i]), UP_ERR_FORMAT);
        CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), ": w: "));
    }
}

static void test_other_kinds(void) {
    up_torch_file *file;
    text pickle = make_pickle(&sound, NULL);
    CU_ASSERT_EQUAL(up_torch_open(make_file(&pickle, "big"), &file), UP_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(up_torch_open(make_file(&pickle, "gittle"), &file), UP_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(up_torch_open(up_lab_file("old.pth", "\x80\x02N.", 4), &file), UP_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(up_torch_open(up_lab_text("text.pth", "hello"), &file), UP_ERR_FORMAT);
    CU_ASSERT_EQUAL(up_torch_open(up_lab_text("one.pth", "P"), &file), UP_ERR_FORMAT);
    CU_ASSERT_EQUAL(up_torch_open(up_lab_text("none.pth", ""), &file), UP_ERR_FORMAT);
    static const char *const roots[] = {"N.", "}.", "].", "}NNs.", "}K\x01Ns."};
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        text root = {.size = 0};
        add_line(&root, roots[i]);
        CU_ASSERT_EQUAL(open_made(&root), UP_ERR_FORMAT);
    }
}

/* A file cut anywhere, and one with a damaged byte of a storage. */
static void test_damaged(void) {
    void *data;
    size_t size;
    up_torch_file *file;
    text pickle = make_pickle(&sound, NULL);
    UP_ASSERT_OK(up_file_read(make_file(&pickle, "little"), &data, &size));
    for (size_t n = 0; n < size; n += 7)
        CU_ASSERT_EQUAL(up_torch_open(up_lab_file("cut.pth", data, n), &file), UP_ERR_FORMAT);
    unsigned char *at = memmem(data, size, values, sizeof values);
    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    *at ^= 1;
    UP_ASSERT_OK(up_torch_open(up_lab_file("cut.pth", data, size), &file));
    CU_ASSERT_EQUAL(up_torch_check(file, up_torch_at(file, 0)), UP_ERR_FORMAT);
    up_torch_close(file);
    free(data);
}

const char *const up_suite_name = "torch_file";
const up_test up_tests[] = {{"round trip", test_round_trip},
                            {"sound", test_sound},
                            {"calls", test_calls},
                            {"tensors refused", test_tensors_refused},
                            {"other kinds", test_other_kinds},
                            {"damaged", test_damaged},
                            {NULL, NULL}};
