/* build.c - rows of a list -> packed batch: inputs first, then the target set. Formats: paper figures 3
 * and 5. */
#include "tasks/source.h"
#include "data/corrupt.h"
#include "uniperceiver/image.h"
#include "uniperceiver/random.h"
#include "uniperceiver/video.h"

#include <stdlib.h>
#include <string.h>

typedef struct job {
    const up_source *source;
    const up_build_options *options;
    up_work *work;
    int32_t *ids, *corrupted; /* [text_limit] */
    uint8_t *read;
    float *pixels, *patches; /* [3, S, S]; [frames, cells, 3 patch^2] */
    up_image *frames;        /* [config->frames] */
} job;

static up_status job_begin(job *j) {
    const up_config *c = j->source->world->config;
    size_t limit = (size_t)j->source->settings->text_limit,
           pixels = 3 * (size_t)c->image_size * (size_t)c->image_size;
    size_t frames = j->source->task->video ? (size_t)c->frames : 1;
    j->ids = malloc(limit * sizeof *j->ids);
    j->corrupted = malloc(limit * sizeof *j->corrupted);
    j->read = malloc(limit);
    j->pixels = malloc(pixels * sizeof *j->pixels);
    j->patches = malloc(frames * pixels * sizeof *j->patches);
    j->frames = calloc(frames, sizeof *j->frames);
    if (!j->ids || !j->corrupted || !j->read || !j->pixels || !j->patches || !j->frames)
        return up_fail(UP_ERR_MEMORY, j->source->settings->name, "no memory for a sample");
    return UP_OK;
}

static void job_end(job *j) {
    free(j->ids);
    free(j->corrupted);
    free(j->read);
    free(j->pixels);
    free(j->patches);
    free(j->frames);
}

static up_status put_label(up_work *w, int place, int32_t label) {
    if (place >= w->label_capacity) {
        int room = w->label_capacity ? 2 * w->label_capacity : 256;
        while (room <= place) room *= 2;
        int32_t *grown = realloc(w->labels, (size_t)room * sizeof *grown);
        if (!grown) return up_fail(UP_ERR_MEMORY, "labels", "%d wanted", room);
        w->labels = grown;
        w->label_capacity = room;
    }
    w->labels[place] = label;
    return UP_OK;
}

static up_status tokenize(job *j, const char *text, int *count) {
    size_t n = 0;
    up_status status = up_tokenize_closed(j->source->world->tokenizer, text, strlen(text),
                                          (size_t)j->source->settings->text_limit, j->ids, &n);
    *count = (int)n;
    return status;
}

/* ---- pixels ---- */

typedef struct crop {
    double x, y;
    int mirror;
} crop;

static crop choose_crop(const job *j, up_rng *rng) {
    if (!j->options->training) return (crop){0.5, 0.5, 0};
    crop c = {up_rng_uniform(rng), up_rng_uniform(rng), 0};
    c.mirror = up_rng_u32(rng) & 1 && j->source->settings->flip;
    return c;
}

static void mirror(up_image *image) {
    for (int y = 0; y < image->height; y++)
        for (int x = 0; x < image->width / 2; x++)
            for (int c = 0; c < 3; c++) {
                uint8_t *a = &image->data[(y * image->width + x) * 3 + c];
                uint8_t *b = &image->data[(y * image->width + image->width - 1 - x) * 3 + c];
                uint8_t swap = *a;
                *a = *b;
                *b = swap;
            }
}

/* One picture or frame -> patches [cells, 3 patch^2]. */
static up_status to_patches(job *j, const up_image *image, int resize, const crop *where,
                            const up_pixel_norm *norm, float *out) {
    const up_config *c = j->source->world->config;
    up_image square = {0};
    UP_TRY(up_image_square(image, resize, c->image_size, where->x, where->y, &square));
    if (where->mirror) mirror(&square);
    up_image_normalize(&square, norm, j->pixels);
    up_image_free(&square);
    return up_image_patches(j->pixels, c->image_size, c->image_size, c->patch, out);
}

static up_status put_image(job *j, size_t row, up_rng *rng) {
    const up_config *c = j->source->world->config;
    const up_task_settings *t = j->source->settings;
    up_image image = {0};
    char *path = NULL;
    UP_TRY(up_table_file(&j->source->table, row, j->source->image, &path));
    up_status status = up_image_read(path, &j->source->world->limits, &image);
    free(path);
    crop where = choose_crop(j, rng);
    int resize = t->resize && j->options->training ? (int)t->resize : c->image_resize;
    if (status == UP_OK) status = to_patches(j, &image, resize, &where, &up_pixel_norm_image, j->patches);
    up_image_free(&image);
    return status == UP_OK ? up_batch_image(&j->work->batch, c, j->patches, up_config_cells(c)) : status;
}

static up_status put_video(job *j, size_t row, up_rng *rng) {
    const up_config *c = j->source->world->config;
    const up_task_settings *t = j->source->settings;
    int cells = up_config_cells(c);
    char *path = NULL;
    UP_TRY(up_table_file(&j->source->table, row, j->source->video, &path));
    up_video_clip clip = {.frames = c->frames,
                          .stride = c->video_stride,
                          .start = -1,
                          .fraction = j->options->training ? up_rng_uniform(rng) : -1};
    up_status status = up_video_read(path, &clip, &j->source->world->limits, j->frames);
    free(path);
    if (status != UP_OK) return status;
    crop where = choose_crop(j, rng);
    int resize = t->resize && j->options->training ? (int)t->resize : c->video_resize;
    const up_pixel_norm *norm = c->frames_as_images ? &up_pixel_norm_image : &up_pixel_norm_video;
    size_t frame_values = (size_t)cells * 3 * (size_t)c->patch * (size_t)c->patch;
    for (int f = 0; f < c->frames; f++) {
        if (status == UP_OK)
            status =
                to_patches(j, &j->frames[f], resize, &where, norm, j->patches + (size_t)f * frame_values);
        up_image_free(&j->frames[f]);
    }
    return status == UP_OK ? up_batch_video(&j->work->batch, c, j->patches, c->frames, cells, 0) : status;
}

/* ---- inputs ---- */

/* Label of a language-modelling read-out: the id's place in the target set; -1 (left out) for ids outside it.
 */
static up_status put_word_label(job *j, int place, int32_t id) {
    return put_label(j->work, place, j->source->world->vocabulary_index[id]);
}

static up_status put_masked_text(job *j, up_rng *rng, int count) {
    const up_world *w = j->source->world;
    up_masking masking = {j->source->settings->mask, w->vocabulary, w->vocabulary_count,
                          !j->options->training};
    up_batch *b = &j->work->batch;
    up_mask_words(w->tokenizer, &masking, rng, j->ids, count, j->corrupted, j->read);
    int place = b->queries;
    for (int i = 0; i < count; i++)
        if (j->read[i]) UP_TRY(put_word_label(j, place++, j->ids[i]));
    return up_batch_text(b, j->corrupted, count, 0, j->read);
}

static up_status put_words(job *j, int count) {
    up_batch *b = &j->work->batch;
    for (int i = 0; i < count; i++) UP_TRY(put_word_label(j, b->queries + i, j->ids[i]));
    return up_batch_words_and_slots(b, j->ids, count);
}

/* The question, then the slot, at position 0 as in the released models. */
static up_status put_question(job *j) {
    int count;
    UP_TRY(tokenize(j, j->source->settings->question, &count));
    UP_TRY(up_batch_text(&j->work->batch, j->ids, count, 0, NULL));
    return up_batch_text(&j->work->batch, (int32_t[]){-1}, 1, 0, (uint8_t[]){1});
}

static up_status put_text(job *j, size_t row, up_rng *rng) {
    int count;
    up_objective objective = j->source->task->objective;
    if (objective == UP_ANSWER) return put_question(j);
    UP_TRY(tokenize(j, up_table_cell(&j->source->table, row, j->source->text), &count));
    if (objective == UP_MLM) return put_masked_text(j, rng, count);
    if (objective == UP_AR) return put_words(j, count);
    return up_batch_text(&j->work->batch, j->ids, count, 0, NULL);
}

/* [<SPE>, image, video, text]: the parts that the task's row names. */
static up_status put_input(job *j, size_t row, int place) {
    const up_task *t = j->source->task;
    up_batch *b = &j->work->batch;
    up_rng rng = up_rng_make(j->options->seed, j->options->moment, row, (uint64_t)(t - up_tasks_table));
    int leading = t->objective == UP_CLASSIFY || t->objective == UP_RETRIEVE;
    UP_TRY(up_batch_open(b, UP_SIDE_INPUT, leading));
    if (t->image) UP_TRY(put_image(j, row, &rng));
    if (t->video) UP_TRY(put_video(j, row, &rng));
    if (t->text) UP_TRY(put_text(j, row, &rng));
    UP_TRY(up_batch_close(b));
    if (j->source->class_of_row) return put_label(j->work, place, j->source->class_of_row[row]);
    return t->objective == UP_RETRIEVE ? put_label(j->work, place, place) : UP_OK;
}

/* ---- target sets ---- */

up_status up_source_target_text(const up_source *s, const char *cell, char **text) {
    const char *pattern = s->settings->template_text ? s->settings->template_text : "{}";
    const char *hole = strstr(pattern, "{}");
    size_t head = hole ? (size_t)(hole - pattern) : strlen(pattern),
           room = strlen(pattern) + strlen(cell) + 1;
    *text = malloc(room);
    if (!*text) return up_fail(UP_ERR_MEMORY, s->settings->name, "no memory for a target text");
    memcpy(*text, pattern, head);
    strcpy(*text + head, hole ? cell : "");
    if (hole) strcat(*text, hole + 2);
    return UP_OK;
}

static up_status put_target_text(job *j, const char *cell) {
    char *text = NULL;
    int count;
    UP_TRY(up_source_target_text(j->source, cell, &text));
    up_status status = tokenize(j, text, &count);
    free(text);
    if (status != UP_OK) return status;
    UP_TRY(up_batch_open(&j->work->batch, UP_SIDE_TARGET, 1));
    UP_TRY(up_batch_text(&j->work->batch, j->ids, count, 0, NULL));
    return up_batch_close(&j->work->batch);
}

/* A vocabulary entry is the sequence [<SPE>, v, end]. */
static up_status put_vocabulary(job *j) {
    const up_world *w = j->source->world;
    for (int i = 0; i < w->vocabulary_count; i++) {
        int32_t entry[2] = {w->vocabulary[i], UP_TOKEN_END};
        UP_TRY(up_batch_open(&j->work->batch, UP_SIDE_TARGET, 1));
        UP_TRY(up_batch_text(&j->work->batch, entry, 2, 0, NULL));
        UP_TRY(up_batch_close(&j->work->batch));
    }
    return UP_OK;
}

static up_status put_targets(job *j, const size_t *rows, int count) {
    const up_source *s = j->source;
    switch (s->task->objective) {
    case UP_MLM:
    case UP_AR:
        return put_vocabulary(j);
    case UP_CLASSIFY:
    case UP_ANSWER:
        for (size_t i = 0; i < s->class_count; i++) UP_TRY(put_target_text(j, s->classes[i]));
        return UP_OK;
    case UP_RETRIEVE:
        for (int i = 0; i < count; i++)
            UP_TRY(put_target_text(j, up_table_cell(&s->table, rows[i], s->target)));
        return UP_OK;
    }
    return UP_OK;
}

/* Drop path: a branch of a layer is left out for a whole sequence with probability p, else scaled by 1 / (1 -
 * p). */
static up_status choose_drops(job *j) {
    up_work *w = j->work;
    const up_config *c = j->source->world->config;
    double p = c->drop_path;
    w->dropping = j->options->training && p > 0;
    if (!w->dropping) return UP_OK;
    size_t count = 2 * (size_t)c->layers * (size_t)w->batch.sequences;
    if (count > w->drop_capacity) {
        float *grown = realloc(w->drop, 2 * count * sizeof *grown);
        if (!grown) return up_fail(UP_ERR_MEMORY, "drop path", "%zu factors wanted", count);
        w->drop = grown;
        w->drop_capacity = 2 * count;
    }
    up_rng rng = up_rng_make(j->options->seed, j->options->moment, 0, 0x64726f70 /* "drop" */);
    for (size_t i = 0; i < count; i++) w->drop[i] = up_rng_uniform(&rng) < p ? 0.0f : (float)(1 / (1 - p));
    return UP_OK;
}

up_status up_source_build(const up_source *s, const up_build_options *options, const size_t *rows, int count,
                          up_work *work) {
    job j = {.source = s, .options = options, .work = work};
    up_status status = UP_OK;
    UP_GO(job_begin(&j));
    UP_GO(up_batch_begin(&work->batch, s->world->config));
    for (int i = 0; i < count; i++) UP_GO(put_input(&j, rows[i], i));
    UP_GO(put_targets(&j, rows, count));
    UP_GO(choose_drops(&j));
    work->source = s;
    work->loss = (up_loss){.task = s->temperature,
                           .labels = work->labels,
                           .symmetric = s->task->objective == UP_RETRIEVE,
                           .smoothing = (float)s->settings->smoothing,
                           .weight = (float)s->settings->loss_weight};
done:
    job_end(&j);
    return status;
}

void up_work_free(up_work *w) {
    up_batch_free(&w->batch);
    free(w->labels);
    free(w->drop);
    memset(w, 0, sizeof *w);
}
