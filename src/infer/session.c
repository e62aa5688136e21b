/* session.c - a model made ready: backend, weights, tokenizer and working memory in one object. */
#include "infer/session.h"
#include "tasks/tasks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *up_version(void) {
    return UP_VERSION;
}

static up_status lay_over(up_session *s, const char *path) {
    up_model *overlay = NULL;
    UP_TRY(up_overlay_read(s->base, path, &overlay));
    s->model = overlay;
    return UP_OK;
}

static up_status open_model(up_session *s, const char *path, const up_load_options *o) {
    UP_TRY(up_backend_create(o->backend ? o->backend : "cpu", o->threads, &s->backend));
    UP_TRY((o->map ? up_model_map : up_model_read)(s->backend, path, &s->base));
    s->model = s->base;
    return o->overlay ? lay_over(s, o->overlay) : UP_OK;
}

/* What each session has of its own: encoders and what they write to. */
static up_status open_work(up_session *s) {
    const up_encoder_options options = {.dtype = s->precision};
    UP_TRY(up_encoder_create(s->model, &options, &s->encoder));
    UP_TRY(up_encoder_create(s->model, &options, &s->scout));
    UP_TRY(up_features_create(s->model, 0, &s->features));
    return up_cosines_create(s->backend, &s->cosines);
}

static up_status remember(up_session *s, const char *path, const up_load_options *o) {
    if (o->precision != UP_F32 && o->precision != UP_BF16 && o->precision != UP_F16)
        return up_fail(UP_ERR_ARGUMENT, "precision", "%d; wanted UP_F32, UP_BF16 or UP_F16",
                       (int)o->precision);
    s->limits.max_pixels = o->max_pixels;
    s->precision = o->precision;
    s->keeps_words = !o->cache || strcmp(o->cache, "none");
    s->path = strdup(o->overlay ? o->overlay : path);
    s->cache = o->cache ? strdup(o->cache) : NULL;
    return s->path && (!o->cache || s->cache) ? UP_OK
                                              : up_fail(UP_ERR_MEMORY, path, "no memory for its name");
}

up_status up_model_load(const char *path, const up_load_options *options, up_session **out) {
    up_load_options known;
    const up_load_options *o = &known;
    up_status status = UP_OK;
    UP_TRY(up_given(out, "session"));
    *out = NULL;
    UP_TRY(up_given(path, "model"));
    UP_TRY(
        up_options_take("load options", options, UP_BYTES_TO(up_load_options, cache), &known, sizeof known));
    up_session *s = calloc(1, sizeof *s);
    if (!s) return up_fail(UP_ERR_MEMORY, path, "no memory for a session");
    UP_GO(remember(s, path, o));
    UP_GO(open_model(s, path, o));
    UP_GO(open_work(s));
    UP_GO(up_tokenizer_create(o->vocabulary, &s->tokenizer));
    s->loaded_version = up_model_version(s->model);
    *out = s;
    s = NULL;
done:
    up_session_close(s);
    return status;
}

up_status up_session_add_tuned(up_session *owner, const char *overlay, up_session **out) {
    up_status status = UP_OK;
    UP_TRY(up_given(out, "session"));
    *out = NULL;
    UP_TRY(up_given(owner, "session"));
    UP_TRY(up_given(overlay, "overlay"));
    while (owner->owner) owner = owner->owner;
    up_session *s = calloc(1, sizeof *s);
    if (!s) return up_fail(UP_ERR_MEMORY, overlay, "no memory for a session");
    s->owner = owner;
    s->backend = owner->backend;
    s->base = s->model = owner->base;
    s->tokenizer = owner->tokenizer;
    const up_load_options options = {.overlay = overlay,
                                     .precision = owner->precision,
                                     .max_pixels = owner->limits.max_pixels,
                                     .cache = owner->keeps_words ? owner->cache : "none"};
    UP_GO(remember(s, overlay, &options));
    UP_GO(lay_over(s, overlay));
    UP_GO(open_work(s));
    s->loaded_version = up_model_version(s->model);
    *out = s;
    s = NULL;
done:
    up_session_close(s);
    return status;
}

up_status up_session_over(up_model *model, up_dtype precision, up_session **out) {
    const up_load_options options = {.precision = precision, .cache = "none"};
    up_status status = UP_OK;
    up_session *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s) return up_fail(UP_ERR_MEMORY, "model", "no memory for a session");
    s->borrowed = 1;
    s->backend = up_model_backend(model);
    s->base = s->model = model;
    UP_GO(remember(s, "model", &options));
    UP_GO(open_work(s));
    UP_GO(up_tokenizer_create(NULL, &s->tokenizer));
    s->loaded_version = up_model_version(model);
    *out = s;
    s = NULL;
done:
    up_session_close(s);
    return status;
}

void up_session_close(up_session *s) {
    if (!s) return;
    up_target_set_free(s->words);
    up_cosines_free(s->cosines);
    up_features_free(&s->features);
    up_decoder_free(s->decoder);
    up_encoder_free(s->scout);
    up_encoder_free(s->encoder);
    if (s->model != s->base) up_model_destroy(s->model);
    if (!s->owner && !s->borrowed) {
        up_model_destroy(s->base);
        up_backend_free(s->backend);
    }
    if (!s->owner) up_tokenizer_free(s->tokenizer);
    up_batch_free(&s->batch);
    free(s->word_ids);
    free(s->path);
    free(s->cache);
    free(s);
}

up_model *up_session_model(up_session *s) {
    return s ? s->model : NULL;
}

up_tokenizer *up_session_tokenizer(up_session *s) {
    return s ? s->tokenizer : NULL;
}

int up_session_width(const up_session *s) {
    return s ? up_model_config(s->model)->width : 0;
}

void up_session_tokens(const up_session *s, int64_t *inputs, int64_t *targets) {
    if (inputs) *inputs = s ? up_encoder_tokens(s->encoder) : 0;
    if (targets) *targets = s ? up_encoder_tokens(s->scout) : 0;
}

up_status up_session_encode_set(up_session *s, up_target_set *set) {
    return up_target_set_encode(set, &(up_set_encoders){.scout = s->scout});
}

/* --- words --- */

static void forget_words(up_session *s) {
    up_target_set_free(s->words);
    free(s->word_ids);
    s->words = NULL;
    s->word_ids = NULL;
    s->word_count = 0;
    s->words_version = 0;
}

static up_status check_words(const up_session *s, const int32_t *ids, int count) {
    const up_config *c = up_model_config(s->model);
    if (c->vocabulary <= UP_TOKEN_END)
        return up_fail(UP_ERR_ARGUMENT, "vocabulary", "the model's has %d entries and no end token",
                       c->vocabulary);
    if (count < 1) return up_fail(UP_ERR_ARGUMENT, "vocabulary", "%d words; wanted at least 1", count);
    for (int i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= c->vocabulary - 1)
            return up_fail(UP_ERR_ARGUMENT, "vocabulary", "id %d; the model has words 0 to %d", ids[i],
                           c->vocabulary - 2);
    return UP_OK;
}

/* The ids given, else the model's own target set, else every entry but <SPE>: malloc'ed. */
static up_status choose_words(const up_session *s, const int32_t *given, int count, int32_t **ids, int *n) {
    const int32_t *from = given ? given : up_model_targets(s->model, &count);
    *n = from ? count : up_model_config(s->model)->vocabulary - 1;
    if (from) UP_TRY(check_words(s, from, count));
    *ids = malloc((size_t)*n * sizeof **ids);
    if (!*ids) return up_fail(UP_ERR_MEMORY, "vocabulary", "%d ids wanted", *n);
    for (int i = 0; i < *n; i++) (*ids)[i] = from ? from[i] : i;
    return from ? UP_OK : check_words(s, *ids, *n);
}

/* Features that are of other weights or of none: from their file, else encoded and put into it. */
static up_status freshen_words(up_session *s) {
    uint64_t version = up_model_version(s->model);
    if (s->words_version == version) return UP_OK;
    s->words_version = 0;
    if (!up_words_file_read(s)) {
        UP_TRY(up_session_encode_set(s, s->words));
        up_words_file_write(s);
    }
    s->words_version = version;
    return UP_OK;
}

up_status up_session_words(up_session *s, const int32_t *ids, int count, up_target_set **out) {
    up_status status = UP_OK;
    int32_t *chosen = NULL;
    int n = 0;
    UP_TRY(up_given(out, "words"));
    *out = NULL;
    UP_TRY(up_given(s, "session"));
    UP_GO(choose_words(s, ids, count, &chosen, &n));
    if (!s->words || n != s->word_count || memcmp(s->word_ids, chosen, (size_t)n * sizeof *chosen)) {
        forget_words(s);
        UP_GO(up_target_set_create(s->model, 0, 0, &s->words));
        UP_GO(up_target_set_fill_words(s->words, chosen, n, UP_TOKEN_END));
        s->word_ids = chosen;
        s->word_count = n;
        chosen = NULL;
    }
    UP_GO(freshen_words(s));
    *out = s->words;
done:
    if (status != UP_OK && s->words && !s->word_count) forget_words(s);
    free(chosen);
    return status;
}

/* --- temperatures --- */

static up_status unknown_task(const up_config *c, const char *task) {
    char names[UP_MAX_TASKS * (UP_NAME_SIZE + 2)] = "";
    for (int i = 0; i < c->tasks; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", c->task_names[i]);
    }
    return up_fail(UP_ERR_ARGUMENT, task, "unknown task; the model has %s", names);
}

up_status up_task_scale(up_session *s, const char *task, double *scale) {
    const up_config *c = up_model_config(s->model);
    int index = up_task_temperature(c, task);
    float log_scale;
    if (index < 0) return unknown_task(c, task);
    up_view view = up_model_weight(s->model, up_model_params(s->model)->temperature[index]);
    UP_TRY(s->backend->ops->download(s->backend, &log_scale, view));
    *scale = fmin(exp(log_scale), UP_MAX_LOGIT_SCALE);
    return isfinite(log_scale)
               ? UP_OK
               : up_fail(UP_ERR_NUMERIC, c->task_names[index], "its temperature is not finite");
}

const char *up_input_kind(const up_input *input) {
    int pictures = 0, clips = 0;
    for (int i = 0; i < input->count; i++) {
        const up_part *p = &input->parts[i];
        int decoded = p->kind == UP_PART_PIXELS || p->kind == UP_PART_PATCHES;
        pictures |= p->kind == UP_PART_IMAGE || (decoded && !p->frames);
        clips |= p->kind == UP_PART_VIDEO || (decoded && p->frames);
    }
    if (input->slot) return pictures || clips ? "image_mlm" : "text_mlm";
    if (clips) return "video_classification";
    return pictures ? "image_classification" : "text_retrieval";
}
