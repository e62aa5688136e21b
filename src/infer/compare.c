/* compare.c - inputs to features, and the one formula of the paper (equations 1 and 2):
 *     P(x, y) ~ exp(cos(f(x), f(y)) / tau), normalised over the candidates y. */
#include "infer/session.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double up_dot(const float *a, const float *b, int n) {
    double sums[8] = {0}, sum = 0; /* eight at a time: the compiler may not reorder a single sum */
    int i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) sums[k] += (double)a[i + k] * b[i + k];
    for (; i < n; i++) sum += (double)a[i] * b[i];
    for (int k = 0; k < 8; k++) sum += sums[k];
    return sum;
}

up_status up_encode_batch(up_session *s, float *out) {
    size_t rows = (size_t)s->batch.queries + (size_t)s->batch.targets,
           count = rows * (size_t)up_session_width(s);
    UP_TRY(up_run_forward(s->run, &s->batch, NULL));
    UP_TRY(up_run_features(s->run, out));
    for (size_t i = 0; i < count; i++)
        if (!isfinite(out[i]))
            return up_fail(UP_ERR_NUMERIC, "feature", "not finite: check the model and the input");
    return UP_OK;
}

static up_status pack_input(up_session *s, const up_input *input, up_side side) {
    up_pieces pieces;
    up_status status = up_pieces_make(s, input, 0, &pieces);
    if (status == UP_OK) status = up_batch_open(&s->batch, side, !pieces.slot);
    if (status == UP_OK) status = up_pieces_pack(s, &pieces, pieces.count, &s->batch);
    if (status == UP_OK &&
        pieces.slot) /* the appended <SPE> stands at position 0, as in the released models */
        status = up_batch_text(&s->batch, (int32_t[]){-1}, 1, 0, (uint8_t[]){1});
    if (status == UP_OK) status = up_batch_close(&s->batch);
    up_pieces_free(&pieces);
    return status;
}

up_status up_encode(up_session *s, const up_input *inputs, int n, up_side side, float *out) {
    size_t width = (size_t)up_session_width(s);
    UP_TRY(up_batch_begin(&s->batch, up_model_config(s->model)));
    for (int i = 0, first = 0; i < n; i++) {
        UP_TRY(pack_input(s, &inputs[i], side));
        if (s->batch.tokens < UP_ENCODE_TOKENS && i + 1 < n) continue;
        UP_TRY(up_encode_batch(s, out + (size_t)first * width));
        UP_TRY(up_batch_begin(&s->batch, up_model_config(s->model)));
        first = i + 1;
    }
    return UP_OK;
}

/* Names of the temperature that fits, in order: this project's own, then the released models'. */
static const char *const image_slot_tasks[] = {"image_mlm", "mlm", "downstream", NULL};
static const char *const text_slot_tasks[] = {"text_mlm", "mlm", "downstream", NULL};
static const char *const image_tasks[] = {"image_classification", "img_cls", NULL};
static const char *const video_tasks[] = {"video_classification", "video_cls", NULL};
static const char *const text_tasks[] = {"text_retrieval", "retrieve", NULL};

static const char *const *fitting_tasks(const up_input *input) {
    int pictures = 0, clips = 0;
    for (int i = 0; i < input->count; i++) {
        const up_part *p = &input->parts[i];
        pictures |= p->kind == UP_PART_IMAGE || (p->kind == UP_PART_PIXELS && !p->frames);
        clips |= p->kind == UP_PART_VIDEO || (p->kind == UP_PART_PIXELS && p->frames);
    }
    if (input->slot) return pictures || clips ? image_slot_tasks : text_slot_tasks;
    return clips ? video_tasks : pictures ? image_tasks : text_tasks;
}

static up_status unknown_task(const up_config *c, const char *task) {
    char names[UP_MAX_TASKS * (UP_NAME_SIZE + 2)] = "";
    for (int i = 0; i < c->tasks; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", c->task_names[i]);
    }
    return up_fail(UP_ERR_ARGUMENT, task, "unknown task; the model has %s", names);
}

up_status up_logit_scale(up_session *s, const char *task, const char *const *fitting, double *scale) {
    const up_config *c = up_model_config(s->model);
    int index = task ? up_config_task(c, task) : -1;
    float log_scale;
    if (task && index < 0) return unknown_task(c, task);
    for (; !task && index < 0 && *fitting; fitting++) index = up_config_task(c, *fitting);
    if (index < 0) index = 0;
    up_view view = up_model_weight(s->model, up_model_params(s->model)->temperature[index]);
    UP_TRY(s->backend->ops->download(s->backend, &log_scale, view));
    *scale = fmin(exp(log_scale), UP_MAX_LOGIT_SCALE);
    return isfinite(*scale) ? UP_OK
                            : up_fail(UP_ERR_NUMERIC, c->task_names[index], "its temperature is not finite");
}

up_status up_input_scale(up_session *s, const char *task, const up_input *input, double *scale) {
    return up_logit_scale(s, task, fitting_tasks(input), scale);
}

void up_softmax(const float *x, const float *candidates, int n, int width, double scale, float *out) {
    double largest = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) {
        out[i] = (float)(scale * up_dot(x, candidates + (size_t)i * (size_t)width, width));
        largest = fmax(largest, out[i]);
    }
    for (int i = 0; i < n; i++) sum += exp(out[i] - largest);
    for (int i = 0; i < n; i++) out[i] = (float)(exp(out[i] - largest) / sum);
}

up_status up_compare(up_session *s, const char *task, const up_input *input, const up_input *candidates,
                     int n, float *probabilities) {
    up_status status = UP_OK;
    int width = up_session_width(s);
    double scale;
    if (n < 1) return up_fail(UP_ERR_ARGUMENT, "candidates", "%d of them; wanted at least 1", n);
    UP_TRY(up_input_scale(s, task, input, &scale));
    float *features = malloc(((size_t)n + 1) * (size_t)width * sizeof *features);
    if (!features) return up_fail(UP_ERR_MEMORY, "candidates", "features of %d wanted", n);
    UP_GO(up_encode(s, input, 1, UP_SIDE_INPUT, features));
    UP_GO(up_encode(s, candidates, n, UP_SIDE_TARGET, features + width));
    up_softmax(features, features + width, n, width, scale, probabilities);
done:
    free(features);
    return status;
}

up_status up_classify(up_session *s, const up_input *input, const char *const *labels, int n,
                      float *probabilities) {
    up_status status = UP_ERR_MEMORY;
    up_part *parts = calloc((size_t)(n > 0 ? n : 1), sizeof *parts);
    up_input *candidates = calloc((size_t)(n > 0 ? n : 1), sizeof *candidates);
    if (!parts || !candidates) UP_GO(up_fail(UP_ERR_MEMORY, "labels", "no memory for %d", n));
    for (int i = 0; i < n; i++) {
        parts[i] =
            (up_part){.kind = UP_PART_TEXT, .data = labels[i], .size = strlen(labels[i]), .name = "label"};
        candidates[i] = (up_input){&parts[i], 1, 0};
    }
    status = up_compare(s, NULL, input, candidates, n, probabilities);
done:
    free(parts);
    free(candidates);
    return status;
}
