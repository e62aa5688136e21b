/* run.c - the life of a run and its forward pass. The road: plan (lay out, upload) -> embed -> encoder ->
 * similarity. */
#include "ref/model/run.h"

#include <stdlib.h>

static up_status make_state(up_run *r) {
    up_backend *b = r->model->backend;
    int64_t total = r->model->params.total;
    up_buffer **buffers[] = {&r->gradients, &r->moment1, &r->moment2};
    for (int i = 0; i < 3; i++) {
        UP_TRY(b->ops->alloc(b, (size_t)total * sizeof(float), buffers[i]));
        UP_TRY(b->ops->fill(b, up_view_at(*buffers[i], UP_F32, 0, 1, total), 0));
    }
    return b->ops->alloc(b, sizeof(float), &r->scalars);
}

/* Every operation that the model uses, asked before the first batch. */
static up_status check_support(const up_model *model) {
    up_backend *b = model->backend;
    const up_config *c = &model->config;
    up_op_dims dims = {
        .rows = 1, .in = c->width, .out = c->width, .keys = 1, .heads = c->heads, .sequences = 1};
    for (int op = 0; op < UP_OP_COUNT; op++) {
        const char *why = "";
        if (!b->ops->supports(b, (up_op)op, UP_F32, &dims, &why))
            return up_fail(UP_ERR_UNSUPPORTED, b->ops->name, "operation %d: %s", op, why);
    }
    return UP_OK;
}

up_status up_run_create(up_model *model, int training, up_run **out) {
    up_status status = UP_OK;
    up_run *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r) return up_fail(UP_ERR_MEMORY, "run", "%zu bytes wanted", sizeof *r);
    r->model = model;
    r->training = training;
    UP_GO(check_support(model));
    r->layers = calloc((size_t)model->config.layers, sizeof *r->layers);
    if (!r->layers) UP_GO(up_fail(UP_ERR_MEMORY, "run", "state of %d layers wanted", model->config.layers));
    if (training) UP_GO(make_state(r));
done:
    if (status != UP_OK) {
        up_run_free(r);
        r = NULL;
    }
    *out = r;
    return status;
}

void up_run_free(up_run *r) {
    if (!r) return;
    up_backend *b = r->model->backend;
    up_buffer *buffers[] = {r->arena, r->gradients, r->moment1, r->moment2, r->scalars, r->soft_targets};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) b->ops->release(b, buffers[i]);
    free(r->layers);
    free(r->keep_index);
    free(r);
}

void up_run_keep_all_rows(up_run *r, int all) {
    r->keep_all = all;
}

up_status up_run_forward(up_run *r, const up_batch *batch, const float *drop) {
    UP_TRY(up_plan(r, batch));
    UP_TRY(up_plan_drop(r, batch, drop));
    UP_TRY(up_embed_forward(r));
    UP_TRY(up_encoder_forward(r));
    UP_TRY(up_similarity_forward(r));
    r->stage = 1;
    return UP_OK;
}

up_status up_run_features(up_run *r, float *out) {
    up_backend *b = r->model->backend;
    if (!up_view_present(r->unit)) return up_fail(UP_ERR_ARGUMENT, "features", "no forward pass yet");
    return b->ops->download(b, out, r->unit);
}

up_view up_run_view(up_run *r, up_run_tensor tensor, int index) {
    switch (tensor) {
    case UP_RUN_EMBEDDING:
        return r->layers[0].x;
    case UP_RUN_LAYER:
        return r->layers[index].y;
    case UP_RUN_FEATURES:
        return r->features;
    case UP_RUN_UNIT:
        return r->unit;
    case UP_RUN_LOGITS:
        return r->logits;
    case UP_RUN_LOSS:
        return r->loss;
    }
    return (up_view){0};
}
