/* lab.c - small lists, a tiny model and its training run for the tests; see lab.h. */
#include "tests/lab.h"
#include "files/file.h"
#include "tests/support.h"
#include "uniperceiver/video.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the folder ---- */

static char folder[] = "/tmp/uniperceiver-test-XXXXXX";
static pid_t owner; /* a forked child that ends must not take the folder away */

static int remove_entry(const char *path, const struct stat *about, int type, struct FTW *where) {
    (void)about;
    (void)type;
    (void)where;
    return remove(path);
}

void up_lab_remove(const char *path) {
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void remove_folder(void) {
    if (getpid() == owner) up_lab_remove(folder);
}

const char *up_lab_path(const char *name) {
    enum { PATHS = 256 };
    static char *paths[PATHS]; /* each path is made once and stays */
    char path[512];
    int i = 0;
    if (!owner) {
        CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
        owner = getpid();
        atexit(remove_folder);
    }
    snprintf(path, sizeof path, "%s/%s", folder, name);
    while (i < PATHS && paths[i] && strcmp(paths[i], path)) i++;
    CU_ASSERT_FATAL(i < PATHS);
    if (!paths[i]) paths[i] = strdup(path);
    return paths[i];
}

const char *up_lab_file(const char *name, const void *bytes, size_t size) {
    const char *path = up_lab_path(name);
    UP_ASSERT_OK(up_file_write(path, bytes, size));
    return path;
}

const char *up_lab_text(const char *name, const char *text) {
    return up_lab_file(name, text, strlen(text));
}

/* ---- lists and configuration ---- */

static const char *const pictures[][3] = {
    {"jpeg_420.jpg", "photograph", "a small photograph with coarse colours"},
    {"png_rgb8.png", "drawing", "a drawing in red, green and blue"},
    {"png_grey8.png", "drawing", "a grey drawing"},
    {"jpeg_444.jpg", "photograph", "the same photograph in finer colours"},
    {"png_palette8.png", "chart", "a chart of few colours"},
    {"png_rgba8.png", "chart", "a chart that one can see through"},
    {"jpeg_grey.jpg", "photograph", "an old photograph"},
};
static const char *const clips[][2] = {
    {"h264.mp4", "left"}, {"mjpeg.avi", "right"}, {"short.mp4", "left"}, {"gif.gif", "still"}};
static const char *const texts[][2] = {
    {"a large cat that lives in the mountains", "snow leopard"},
    {"what remains of a fire", "ash"},
    {"to go on foot, slowly and for pleasure", "stroll"},
    {"the star around which the earth turns", "sun"},
    {"one who bakes bread", "baker"},
    {"a vessel for tea", "teapot"},
    {"not wet", "dry"},
    {"a house for a dog", "kennel"},
    {"the colour of grass", "green"},
};
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

int up_lab_clips(void) {
    if (!up_video_available()) printf("(no clips: built without FFmpeg) ");
    return up_video_available();
}

const char *up_lab_golden(const char *kind, const char *name) {
    static char path[4096];
    char relative[256];
    snprintf(relative, sizeof relative, "golden/%s/%s", kind, name);
    CU_ASSERT_PTR_NOT_NULL_FATAL(realpath(up_test_path(relative), path));
    return path;
}

static void write_lists(void) {
    char text[16384];
    size_t n = (size_t)sprintf(text, "image\tlabel\tname\n");
    for (size_t i = 0; i < COUNT(pictures); i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s\t%s\t%s\n",
                              up_lab_golden("image", pictures[i][0]), pictures[i][1], pictures[i][2]);
    up_lab_text("pictures.tsv", text);
    n = (size_t)sprintf(text, "video\tlabel\n");
    for (size_t i = 0; i < COUNT(clips); i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s\t%s\n", up_lab_golden("video", clips[i][0]),
                              clips[i][1]);
    up_lab_text("clips.tsv", text);
    n = (size_t)sprintf(text, "text\tword\n");
    for (size_t i = 0; i < COUNT(texts); i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s\t%s\n", texts[i][0], texts[i][1]);
    up_lab_text("texts.tsv", text);
}

const char *up_lab_config(void) {
    static const char *const tasks[][3] = {
        {"image_classification", "pictures", ""},
        {"video_classification", "clips", ""},
        {"mlm", "texts", ", mask: 0.3"},
        {"ar", "texts", ""},
        {"image_mlm", "pictures", ", text: name, mask: 0.3"},
        {"caption", "pictures", ", text: name"},
        {"image_text_retrieval", "pictures", ", target: name"},
        {"text_retrieval", "texts", ", target: word, template: \"the word {}\""},
    };
    char yaml[8192];
    size_t n = (size_t)snprintf(
        yaml, sizeof yaml,
        "run: %s\nseed: 11\nsteps: 12\naccumulate: 2\nlog_every: 1\ncheckpoint_every: 4\nworkers: 2\n"
        "model: {preset: tiny, layers: 2, width: 16, heads: 2, ffn: 64, text_positions: 16, image_size: 16,\n"
        "        image_resize: 20, patch: 8, frames: 2, video_stride: 1, drop_path: 0.1}\n"
        "optimizer: {lr: 2e-3, warmup: 3}\ntasks:\n",
        up_lab_path("run"));
    write_lists();
    int with_clips = up_lab_clips();
    for (size_t i = 0; i < COUNT(tasks); i++)
        if (with_clips || strcmp(tasks[i][1], "clips"))
            n += (size_t)snprintf(yaml + n, sizeof yaml - n,
                                  "  - {kind: %s, data: %s.tsv, batch: 3, text_limit: 12%s}\n", tasks[i][0],
                                  up_lab_path(tasks[i][1]), tasks[i][2]);
    return up_lab_text("train.yaml", yaml);
}

/* ---- a run taken apart ---- */

void up_lab_open(up_lab *lab, up_backend *backend, const char *const *overrides, size_t count) {
    *lab = (up_lab){.backend = backend};
    UP_ASSERT_OK(up_settings_read(up_lab_config(), overrides, count, &lab->settings));
    UP_ASSERT_OK(up_settings_model(&lab->settings, &lab->config));
    lab->world.config = &lab->config;
    UP_ASSERT_OK(up_tokenizer_create(NULL, &lab->world.tokenizer));
    lab->sources = calloc(lab->settings.task_count, sizeof *lab->sources);
    for (size_t i = 0; i < lab->settings.task_count; i++) {
        UP_ASSERT_OK(up_source_open(&lab->settings.tasks[i], &lab->world, &lab->sources[i]));
        lab->sources[i].number = i;
    }
    UP_ASSERT_OK(
        up_world_collect(&lab->world, lab->sources, lab->settings.task_count, lab->settings.vocabulary));
    int64_t iterations = lab->settings.steps * lab->settings.accumulate;
    const up_rounds alone = {.ranks = 1};
    UP_ASSERT_OK(up_order_make(&lab->settings, &alone, iterations, NULL, &lab->order));
    UP_ASSERT_OK(up_model_create(backend, &lab->config, (uint64_t)lab->settings.seed, &lab->model));
    UP_ASSERT_OK(up_model_set_targets(lab->model, lab->world.vocabulary, lab->world.vocabulary_count));
    UP_ASSERT_OK(up_comm_none(&lab->comm));
    UP_ASSERT_OK(up_stepper_open(&lab->settings, lab->model, lab->comm, &lab->stepper));
    for (size_t i = 0; i < lab->settings.task_count; i++)
        UP_ASSERT_OK(up_sets_bind(&lab->stepper.sets, &lab->sources[i]));
}

void up_lab_close(up_lab *lab) {
    up_work_free(&lab->work);
    up_stepper_close(&lab->stepper);
    up_model_destroy(lab->model);
    up_comm_free(lab->comm);
    if (!lab->shared) up_backend_free(lab->backend);
    for (size_t i = 0; i < lab->settings.task_count; i++) up_source_close(&lab->sources[i]);
    free(lab->sources);
    free(lab->order);
    up_world_free(&lab->world);
    up_tokenizer_free(lab->world.tokenizer);
    up_settings_free(&lab->settings);
}

up_source *up_lab_source(up_lab *lab, const char *kind) {
    for (size_t i = 0; i < lab->settings.task_count; i++)
        if (!strcmp(lab->sources[i].task->name, kind)) return &lab->sources[i];
    CU_FAIL_FATAL("no such task in the laboratory's configuration");
    return NULL;
}

void up_lab_build(up_lab *lab, int64_t iteration) {
    size_t rows[64];
    const up_order_entry *entry = &lab->order[iteration];
    const up_source *s = &lab->sources[entry->source];
    int count = (int)s->settings->batch;
    uint64_t seed = (uint64_t)lab->settings.seed;
    for (int i = 0; i < count; i++) rows[i] = up_order_row(seed, entry->source, &s->data, entry->first + i);
    const up_build_options options = {.training = 1, .seed = seed, .first = (uint64_t)entry->first};
    UP_ASSERT_OK(up_source_build(s, &options, rows, count, &lab->work));
}

up_loss_value up_lab_iterate(up_lab *lab, double share) {
    up_loss_value value = {0};
    UP_ASSERT_OK(up_stepper_iterate(&lab->stepper, &lab->work, share));
    if (lab->work.batch.readouts) UP_ASSERT_OK(up_criterion_value(lab->stepper.criterion, &value));
    return value;
}

up_loss_value up_lab_gradients(up_lab *lab, double share) {
    up_stepper_begin(&lab->stepper, lab->step);
    up_loss_value value = up_lab_iterate(lab, share);
    UP_ASSERT_OK(up_stepper_gather(&lab->stepper));
    return value;
}

void up_lab_zero(up_lab *lab) {
    UP_ASSERT_OK(lab->backend->ops->fill(lab->backend, up_gradients_all(lab->stepper.gradients), 0));
}

up_step_value up_lab_step(up_lab *lab) {
    int64_t accumulate = lab->settings.accumulate;
    double share = 1 / ((double)accumulate * lab->comm->ranks);
    up_step_value value;
    int known;
    up_stepper_begin(&lab->stepper, lab->step);
    for (int64_t i = 0; i < accumulate; i++) {
        up_lab_build(lab, lab->step * accumulate + i);
        lab->losses[i] = up_lab_iterate(lab, share).loss / share;
    }
    double lr = up_learning_rate(&lab->settings.optimizer, lab->step, lab->settings.steps);
    UP_ASSERT_OK(up_stepper_finish(&lab->stepper, lr));
    UP_ASSERT_OK(up_optimizer_value(lab->stepper.optimizer, 0, &value, &known));
    CU_ASSERT(known);
    lab->step++;
    return value;
}

int64_t up_lab_updates(up_lab *lab) {
    up_optimizer_state state;
    UP_ASSERT_OK(up_optimizer_get(lab->stepper.optimizer, &state));
    return state.steps;
}

static up_view view_of(const up_lab *lab, up_lab_state state, int param) {
    if (state == UP_LAB_WEIGHTS) return up_model_weight(lab->model, param);
    if (state == UP_LAB_GRADIENTS) return up_gradient(lab->stepper.gradients, param);
    return up_optimizer_moment(lab->stepper.optimizer, state == UP_LAB_MEANS ? 1 : 2, param);
}

float *up_lab_download(up_lab *lab, up_lab_state state) {
    const up_params *p = up_model_params(lab->model);
    float *values = calloc((size_t)p->total, sizeof *values);
    CU_ASSERT_PTR_NOT_NULL_FATAL(values);
    for (int i = 0; i < p->count; i++) {
        up_view v = view_of(lab, state, i);
        if (up_view_present(v))
            UP_ASSERT_OK(lab->backend->ops->download(lab->backend, values + p->list[i].offset, v));
    }
    return values;
}

void up_lab_upload_weights(up_lab *lab, const float *weights) {
    const up_params *p = up_model_params(lab->model);
    for (int i = 0; i < p->count; i++)
        UP_ASSERT_OK(lab->backend->ops->upload(lab->backend, up_model_weight(lab->model, i),
                                               weights + p->list[i].offset));
    up_model_changed(lab->model);
}

void up_lab_encode(up_model *model, const up_batch *batch, float *unit) {
    up_encoder *encoder;
    up_features features;
    UP_ASSERT_OK(up_encoder_create(model, NULL, &encoder));
    UP_ASSERT_OK(up_features_create(model, 0, &features));
    UP_ASSERT_OK(up_features_resize(&features, batch->readouts));
    UP_ASSERT_OK(up_encoder_stage(encoder, batch, NULL));
    UP_ASSERT_OK(up_encoder_forward(encoder, features.raw));
    UP_ASSERT_OK(up_features_normalize(&features));
    UP_ASSERT_OK(up_features_read(&features, unit));
    up_features_free(&features);
    up_encoder_free(encoder);
}
