/* session.c - a model made ready: backend, weights, tokenizer and working memory in one object. */
#include "infer/session.h"

#include <stdlib.h>

const char *up_version(void) {
    return UP_VERSION;
}

up_status up_model_load(const char *path, const up_load_options *options, up_session **out) {
    static const up_load_options defaults = {0};
    const up_load_options *o = options ? options : &defaults;
    up_status status = UP_OK;
    up_session *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s) return up_fail(UP_ERR_MEMORY, path, "no memory for a session");
    s->limits.max_pixels = o->max_pixels;
    UP_GO(up_backend_create(o->backend ? o->backend : "cpu", o->threads, &s->backend));
    UP_GO(up_model_read(s->backend, path, &s->model));
    UP_GO(up_run_create(s->model, 0, &s->run));
    UP_GO(up_tokenizer_create(o->vocabulary, &s->tokenizer));
    *out = s;
    s = NULL;
done:
    up_session_close(s);
    return status;
}

void up_session_close(up_session *s) {
    if (!s) return;
    up_run_free(s->run);
    up_model_destroy(s->model);
    up_backend_free(s->backend);
    up_tokenizer_free(s->tokenizer);
    up_batch_free(&s->batch);
    free(s->vocabulary);
    free(s->vocabulary_features);
    free(s);
}

up_model *up_session_model(up_session *s) {
    return s->model;
}
up_tokenizer *up_session_tokenizer(up_session *s) {
    return s->tokenizer;
}
int up_session_width(const up_session *s) {
    return up_model_config(s->model)->width;
}
