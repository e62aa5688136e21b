/* test_released.c - the released models' checkpoints (golden/released, written by PyTorch in two layouts):
 * what is imported has the bits of the weights that they were made from, whose features test_golden.c
 * compares, and what is exported is imported as the same again. */
#include "files/file.h"
#include "files/released.h"
#include "files/safetensors.h"
#include "files/torch_file.h"
#include "tests/lab.h"
#include "tests/support.h"

#include <stdlib.h>
#include <string.h>

static const up_released_options four_heads = {.heads = 4};
static const char *const layouts[] = {"plain.pth", "deepspeed.pth"};

static void load(const char *path, up_backend **backend, up_model **model) {
    UP_ASSERT_OK(up_backend_create("ref", 1, backend));
    UP_ASSERT_OK(up_model_read(*backend, path, model));
}

static void assert_same_tensors(const char *path) {
    up_safetensors *made, *wanted;
    UP_ASSERT_OK(up_safetensors_open(path, &made));
    UP_ASSERT_OK(up_safetensors_open(up_test_path("golden/model/released/weights.safetensors"), &wanted));
    CU_ASSERT_EQUAL(up_safetensors_count(made), up_safetensors_count(wanted));
    for (size_t i = 0; i < up_safetensors_count(wanted); i++) {
        const up_safetensor *w = up_safetensors_at(wanted, i), *m = up_safetensors_find(made, w->name);
        CU_ASSERT_PTR_NOT_NULL_FATAL(m);
        CU_ASSERT(m->bytes == w->bytes && !memcmp(m->data, w->data, w->bytes));
    }
    up_safetensors_close(made);
    up_safetensors_close(wanted);
}

/* Every field that says what is computed is the one of golden/model/released/config.json. */
static void assert_config(const char *path) {
    up_backend *backend;
    up_model *model;
    load(path, &backend, &model);
    const up_config *c = up_model_config(model);
    CU_ASSERT(c->layers == 2 && c->width == 32 && c->heads == 4 && c->ffn == 64 && c->vocabulary == 50);
    CU_ASSERT(c->text_positions == 16 && c->image_size == 12 && c->patch == 4 && c->frames == 3);
    CU_ASSERT(c->shared_norm && c->image_time && c->fixed_space && c->output_head && c->layer_scale);
    CU_ASSERT(!c->frames_as_images && !c->visual_type && !c->prompts && !c->classes && c->tasks == 4);
    CU_ASSERT(up_config_task(c, "vqa") >= 0 && up_config_task(c, "img_cls") >= 0);
    up_model_destroy(model);
    up_backend_free(backend);
}

static void test_import(void) {
    for (int i = 0; i < 2; i++) {
        const char *path = up_lab_path("imported.safetensors");
        UP_ASSERT_OK(up_released_import(up_lab_golden("released", layouts[i]), &four_heads, path));
        assert_same_tensors(path);
        assert_config(path);
    }
}

static void test_export(void) {
    const char *path = up_lab_path("first.safetensors"), *again = up_lab_path("again.safetensors");
    const char *out = up_lab_path("exported.pth"), *plain = up_lab_path("exported.safetensors");
    const char *original = up_lab_golden("released", layouts[0]);
    up_torch_file *made, *wanted;
    UP_ASSERT_OK(up_released_import(original, &four_heads, path));
    UP_ASSERT_OK(up_released_export(path, out));
    UP_ASSERT_OK(up_released_import(out, &four_heads, again));
    assert_same_tensors(again);
    UP_ASSERT_OK(up_released_export(path, plain));
    UP_ASSERT_OK(up_released_import(plain, &four_heads, again));
    assert_same_tensors(again);
    CU_ASSERT_EQUAL(up_released_import(path, &four_heads, again), UP_ERR_FORMAT); /* has our names */
    UP_ASSERT_OK(up_torch_open(out, &made));
    UP_ASSERT_OK(up_torch_open(original, &wanted));
    CU_ASSERT_EQUAL(up_torch_count(made), up_torch_count(wanted));
    for (size_t i = 0; i < up_torch_count(wanted); i++) {
        const up_safetensor *w = up_torch_at(wanted, i), *m = up_torch_find(made, w->name);
        CU_ASSERT_PTR_NOT_NULL_FATAL(m);
        CU_ASSERT(m->ndim == w->ndim && !memcmp(m->shape, w->shape, sizeof m->shape));
    }
    up_torch_close(made);
    up_torch_close(wanted);
}

/* Another grid has other cells, and everything else as it was. */
static void test_resized(void) {
    const up_released_options larger = {.heads = 4, .image_size = 24};
    const char *path = up_lab_path("larger.safetensors");
    up_safetensors *file;
    UP_ASSERT_OK(up_released_import(up_lab_golden("released", layouts[0]), &larger, path));
    UP_ASSERT_OK(up_safetensors_open(path, &file));
    const up_safetensor *space = up_safetensors_find(file, "patch.space.weight");
    CU_ASSERT_FATAL(space && space->shape[0] == 36);
    up_safetensors_close(file);
}

static void test_refused(void) {
    const char *out = up_lab_path("none.safetensors");
    const up_released_options wrong = {.heads = 5}, odd = {.heads = 4, .image_size = 13};
    const up_safetensor one = {
        .name = "token_embed.embeddings.weight", .type = UP_ST_F32, .ndim = 2, .shape = {4, 4}};
    const float zeros[16] = {0};
    up_config config;
    up_backend *backend;
    up_model *model;
    up_torch_writer *writer;
    CU_ASSERT_NOT_EQUAL(up_released_import(up_lab_golden("released", layouts[0]), &wrong, out), UP_OK);
    CU_ASSERT_NOT_EQUAL(up_released_import(up_lab_golden("released", layouts[0]), &odd, out), UP_OK);
    const char *part = up_lab_path("part.pth");
    UP_ASSERT_OK(up_torch_begin(part, &one, 1, &writer));
    UP_ASSERT_OK(up_torch_put(writer, zeros, sizeof zeros));
    UP_ASSERT_OK(up_torch_commit(writer));
    CU_ASSERT_EQUAL(up_released_import(part, &four_heads, out), UP_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "position_embeddings.weight"));
    UP_ASSERT_OK(up_backend_create("ref", 1, &backend));
    UP_ASSERT_OK(up_config_preset("tiny", &config));
    UP_ASSERT_OK(up_model_create(backend, &config, 1, &model));
    UP_ASSERT_OK(up_model_write(model, out));
    CU_ASSERT_EQUAL(up_released_export(out, up_lab_path("none.pth")), UP_ERR_UNSUPPORTED);
    up_model_destroy(model);
    up_backend_free(backend);
}

/* Cut at every kilobyte, a checkpoint is an error, and nothing is written. */
static void test_cut(void) {
    const char *out = up_lab_path("none.safetensors");
    void *data;
    size_t size;
    int file;
    int64_t bytes;
    UP_ASSERT_OK(up_file_read(up_lab_golden("released", layouts[1]), &data, &size));
    for (size_t n = 0; n < size; n += 1024) {
        const char *cut = up_lab_file("cut.pth", data, n);
        CU_ASSERT_EQUAL(up_released_import(cut, &four_heads, out), UP_ERR_FORMAT);
        CU_ASSERT_EQUAL(up_file_open(out, &file, &bytes), UP_ERR_IO);
    }
    free(data);
}

const char *const up_suite_name = "released";
const up_test up_tests[] = {{"import", test_import}, {"export", test_export},   {"resized", test_resized},
                            {"cut", test_cut},       {"refused", test_refused}, {NULL, NULL}};
