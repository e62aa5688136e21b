/* config.c - presets, the table of fields, and their checks. Sizes: paper section 4.2 (BERT-base encoder) and
 * appendix A (tokenizers); released presets: the authors' published models. */
#include "uniperceiver/model.h"
#include "ref/given.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

/* The eight pre-training tasks of the demo and of the paper, each with its own temperature. */
static const char *const paper_tasks[] = {
    "image_classification", "video_classification", "mlm", "ar", "image_mlm", "caption",
    "image_text_retrieval", "text_retrieval",       NULL};
/* The released models' temperatures (logit_scale_X), in their order. */
static const char *const released_tasks[] = {"img_cls",     "video_cls",    "text_mlm",   "text_caption",
                                             "caption",     "mlm",          "retrieve",   "tqa_mlm",
                                             "tqa_caption", "tqa_retrieve", "downstream", NULL};

typedef struct preset {
    const char *name;
    int layers, width, heads, ffn, text_positions, image_size, patch, released;
} preset;

static const preset presets[] = {
    /* name            L    D   H     F    T  image patch released */
    {"base", 12, 768, 12, 3072, 256, 224, 16, 0},
    {"large", 24, 1024, 16, 4096, 256, 224, 16, 0},
    {"tiny", 4, 128, 4, 512, 64, 32, 8, 0},
    {"released-base", 12, 768, 12, 3072, 512, 224, 16, 1},
    {"released-large", 24, 1024, 16, 4096, 512, 224, 16, 1},
};
enum { PRESETS = sizeof presets / sizeof presets[0] };

const char *const *up_config_presets(void) {
    static const char *names[PRESETS + 1];
    for (int i = 0; i < PRESETS; i++) names[i] = presets[i].name;
    return names;
}

static void set_tasks(up_config *c, const char *const *names) {
    for (c->tasks = 0; names[c->tasks]; c->tasks++)
        snprintf(c->task_names[c->tasks], UP_NAME_SIZE, "%s", names[c->tasks]);
}

up_status up_config_preset(const char *name, up_config *c) {
    UP_GIVEN(name, c);
    const preset *p = presets;
    while (p < presets + PRESETS && strcmp(p->name, name)) p++;
    if (p == presets + PRESETS)
        return up_fail(UP_ERR_ARGUMENT, name,
                       "unknown preset; there are base, large, tiny, released-base, released-large");
    memset(c, 0, sizeof *c);
    snprintf(c->preset, sizeof c->preset, "%s", name);
    c->layers = p->layers;
    c->width = p->width;
    c->heads = p->heads;
    c->ffn = p->ffn;
    c->vocabulary = 49411;
    c->text_positions = p->text_positions;
    c->image_size = p->image_size;
    c->patch = p->patch;
    c->frames = 8;
    c->image_resize = p->image_size == 224 ? 256 : p->image_size; /* paper appendix E */
    c->video_resize = p->image_size;
    c->video_stride = p->image_size == 224 ? 32 : 1;
    c->patch_position_init = 0.02;
    c->branch_init = 1;
    c->frames_as_images = !p->released;
    c->drop_path = 0.1;
    c->initial_temperature = 0.07;
    c->layer_scale_init = 1e-3;
    c->prompt_sides = p->released ? 1 : 2;
    c->shared_norm = c->image_time = c->fixed_space = c->output_head = c->layer_scale = p->released;
    c->visual_type = !p->released;
    set_tasks(c, p->released ? released_tasks : paper_tasks);
    return UP_OK;
}

int up_config_cells(const up_config *c) {
    if (!c || c->patch < 1) return 0;
    return (c->image_size / c->patch) * (c->image_size / c->patch);
}

int up_config_task(const up_config *c, const char *name) {
    if (!c || !name) return -1;
    for (int i = 0; i < c->tasks; i++)
        if (!strcmp(c->task_names[i], name)) return i;
    return -1;
}

#define FIELD(field, type) #field, offsetof(up_config, field), UP_FIELD_##type
const up_config_field up_config_fields[] = {
    {FIELD(preset, NAME), 0, 0, 0},
    {FIELD(layers, WHOLE), 1, 1024, 0},
    {FIELD(width, WHOLE), 1, 65536, 0},
    {FIELD(heads, WHOLE), 1, 1024, 0},
    {FIELD(ffn, WHOLE), 1, 1 << 20, 0},
    {FIELD(vocabulary, WHOLE), 2, 1 << 24, 0},
    {FIELD(text_positions, WHOLE), 1, 1 << 20, 0},
    {FIELD(image_size, WHOLE), 1, 8192, 0},
    {FIELD(patch, WHOLE), 1, 256, 0},
    {FIELD(frames, WHOLE), 1, 4096, 0},
    {FIELD(image_resize, WHOLE), 1, 16384, 1},
    {FIELD(video_resize, WHOLE), 1, 16384, 1},
    {FIELD(video_stride, WHOLE), 1, 1 << 20, 1},
    {FIELD(frames_as_images, WHOLE), 0, 1, 1},
    {FIELD(shared_norm, WHOLE), 0, 1, 0},
    {FIELD(image_time, WHOLE), 0, 1, 0},
    {FIELD(visual_type, WHOLE), 0, 1, 0},
    {FIELD(fixed_space, WHOLE), 0, 1, 0},
    {FIELD(output_head, WHOLE), 0, 1, 0},
    {FIELD(layer_scale, WHOLE), 0, 1, 0},
    {FIELD(layer_scale_init, REAL), -DBL_MAX, DBL_MAX, 0},
    {FIELD(patch_position_init, REAL), 0, DBL_MAX, 1},
    {FIELD(branch_init, REAL), 0, DBL_MAX, 1},
    {FIELD(drop_path, REAL), 0, 1, 0},
    {FIELD(prompts, WHOLE), 0, 4096, 0},
    {FIELD(prompt_sides, WHOLE), 1, 2, 0},
    {FIELD(classes, WHOLE), 0, 1 << 24, 0},
    {FIELD(head_only, WHOLE), 0, 1, 1},
    {FIELD(initial_temperature, REAL), 0, DBL_MAX, 0},
    {NULL, 0, UP_FIELD_NAME, 0, 0, 0},
};

const up_config_field *up_config_field_named(const char *name) {
    if (!name) return NULL;
    for (const up_config_field *f = up_config_fields; f->name; f++)
        if (!strcmp(f->name, name)) return f;
    return NULL;
}

static up_status check_field(const up_config *c, const up_config_field *f) {
    const void *at = (const char *)c + f->offset;
    if (f->type == UP_FIELD_NAME) return UP_OK;
    double value = f->type == UP_FIELD_WHOLE ? *(const int *)at : *(const double *)at;
    if (value >= f->low && value <= f->high) return UP_OK;
    return up_fail(UP_ERR_ARGUMENT, f->name, "%.9g is outside %.9g..%.9g", value, f->low, f->high);
}

/* What one field asks of another. */
static up_status check_together(const up_config *c) {
    if (c->width % c->heads)
        return up_fail(UP_ERR_ARGUMENT, "width", "%d is not a multiple of heads (%d)", c->width, c->heads);
    if (c->image_size % c->patch)
        return up_fail(UP_ERR_ARGUMENT, "image_size", "%d is not a multiple of patch (%d)", c->image_size,
                       c->patch);
    if (c->image_resize < c->image_size || c->video_resize < c->image_size)
        return up_fail(UP_ERR_ARGUMENT, c->image_resize < c->image_size ? "image_resize" : "video_resize",
                       "%d is less than image_size (%d)",
                       c->image_resize < c->image_size ? c->image_resize : c->video_resize, c->image_size);
    if (c->head_only && !c->classes)
        return up_fail(UP_ERR_ARGUMENT, "head_only", "the model has no linear head: classes is 0");
    if (c->fixed_space && c->width % 4)
        return up_fail(UP_ERR_ARGUMENT, "width",
                       "%d is not a multiple of 4, which the sine-cosine table needs", c->width);
    return UP_OK;
}

up_status up_config_check(const up_config *c) {
    UP_GIVEN(c);
    for (const up_config_field *f = up_config_fields; f->name; f++) UP_TRY(check_field(c, f));
    if (c->tasks < 1 || c->tasks > UP_MAX_TASKS)
        return up_fail(UP_ERR_ARGUMENT, "tasks", "%d is outside 1..%d", c->tasks, UP_MAX_TASKS);
    if (c->drop_path >= 1)
        return up_fail(UP_ERR_ARGUMENT, "drop_path", "%g is outside 0 <= p < 1", c->drop_path);
    if (!(c->initial_temperature > 0))
        return up_fail(UP_ERR_ARGUMENT, "initial_temperature", "%g is not positive", c->initial_temperature);
    return check_together(c);
}

const up_pixel_norm up_pixel_norm_image = {{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};
const up_pixel_norm up_pixel_norm_video = {{0.5f, 0.5f, 0.5f}, {0.5f, 0.5f, 0.5f}};

const up_pixel_norm *up_config_pixel_norm(const up_config *c, int video) {
    if (!c) return &up_pixel_norm_image;
    return video && !c->frames_as_images ? &up_pixel_norm_video : &up_pixel_norm_image;
}

void up_pixel_levels(const up_pixel_norm *norm, float *levels) {
    if (!norm || !levels) return;
    for (int c = 0; c < 3; c++)
        for (int p = 0; p < 256; p++)
            levels[256 * c + p] = ((float)p / 255.0f - norm->mean[c]) / norm->std[c];
}
