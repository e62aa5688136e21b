/* model.c - a configuration with its weights on a backend. Reading and writing files is src/files/weights.c.
 */
#include "ref/model/run.h"

#include <stdlib.h>
#include <string.h>

up_status up_model_create(up_backend *backend, const up_config *config, uint64_t seed, up_model **out) {
    up_status status = UP_OK;
    float *weights = NULL;
    up_model *model = calloc(1, sizeof *model);
    if (!model) return up_fail(UP_ERR_MEMORY, "model", "%zu bytes wanted", sizeof *model);
    model->backend = backend;
    model->config = *config;
    UP_GO(up_params_build(config, &model->params));
    size_t bytes = (size_t)model->params.total * sizeof *weights;
    UP_GO(backend->ops->alloc(backend, bytes, &model->weights));
    weights = malloc(bytes);
    if (!weights) UP_GO(up_fail(UP_ERR_MEMORY, "model", "%zu bytes wanted for %s", bytes, config->preset));
    UP_GO(up_params_init(config, &model->params, seed, weights));
    UP_GO(backend->ops->upload(backend, up_view_at(model->weights, UP_F32, 0, 1, model->params.total),
                               weights));
done:
    free(weights);
    if (status != UP_OK) {
        up_model_destroy(model);
        model = NULL;
    }
    *out = model;
    return status;
}

void up_model_destroy(up_model *model) {
    if (!model) return;
    model->backend->ops->release(model->backend, model->weights);
    up_params_free(&model->params);
    free(model->targets);
    free(model);
}

up_status up_model_set_targets(up_model *model, const int32_t *ids, int count) {
    int32_t *copy = NULL;
    if (count > 0) {
        copy = malloc((size_t)count * sizeof *copy);
        if (!copy) return up_fail(UP_ERR_MEMORY, "target set", "%d ids wanted", count);
        memcpy(copy, ids, (size_t)count * sizeof *copy);
    }
    for (int i = 0; i < count; i++)
        if (copy[i] < 0 || copy[i] >= model->config.vocabulary || (i && copy[i] <= copy[i - 1])) {
            up_status status =
                up_fail(UP_ERR_ARGUMENT, "target set", "id %d at place %d: wanted ascending ids below %d",
                        copy[i], i, model->config.vocabulary);
            free(copy);
            return status;
        }
    free(model->targets);
    model->targets = copy;
    model->target_count = count;
    return UP_OK;
}

const int32_t *up_model_targets(const up_model *model, int *count) {
    *count = model->target_count;
    return model->targets;
}

const up_config *up_model_config(const up_model *model) {
    return &model->config;
}
const up_params *up_model_params(const up_model *model) {
    return &model->params;
}
up_backend *up_model_backend(const up_model *model) {
    return model->backend;
}

static up_view param_view(up_buffer *buffer, const up_params *params, int param) {
    if (param < 0 || !buffer) return (up_view){0};
    const up_param *p = &params->list[param];
    return up_view_at(buffer, UP_F32, p->offset, p->rows, p->cols);
}

up_view up_model_weight(const up_model *model, int param) {
    return param_view(model->weights, &model->params, param);
}

up_view up_weight(const up_run *run, int param) {
    return up_model_weight(run->model, param);
}

up_view up_grad(const up_run *run, int param) {
    const up_params *p = &run->model->params;
    if (param < 0 || !p->list[param].trainable) return (up_view){0};
    return param_view(run->gradients, p, param);
}

up_view up_run_gradient(up_run *run, int param) {
    return up_grad(run, param);
}

up_view up_run_moment(up_run *run, int order, int param) {
    return param_view(order == 1 ? run->moment1 : run->moment2, &run->model->params, param);
}

up_view up_run_gradients(up_run *run) {
    if (!run->gradients) return (up_view){0};
    return up_view_at(run->gradients, UP_F32, 0, 1, run->model->params.total);
}
