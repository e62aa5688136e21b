/* model.c - a configuration with its weights on a backend. Reading and writing files is src/files/weights.c;
 * overlays are overlay.c, prepared weights prepared.c. */
#include "ref/model/model.h"
#include "ref/given.h"

#include <stdlib.h>
#include <string.h>

up_status up_backend_check(const up_backend *backend) {
    const up_backend_ops *ops = backend->ops;
    if (ops->version != UP_BACKEND_VERSION || ops->size != sizeof(up_backend_ops))
        return up_fail(UP_ERR_UNSUPPORTED, ops->name ? ops->name : "backend",
                       "its table is of version %u with %u bytes, wanted version %d with %zu", ops->version,
                       ops->size, UP_BACKEND_VERSION, sizeof(up_backend_ops));
    return UP_OK;
}

up_status up_backend_ask(up_backend *b, up_op op, const up_op_dims *dims, size_t *scratch) {
    static const char *const names[UP_OP_COUNT] = {
        [UP_OP_EMBED] = "embed",         [UP_OP_PATCH_EMBED] = "patch_embed",
        [UP_OP_LINEAR] = "linear",       [UP_OP_LAYERNORM] = "layernorm",
        [UP_OP_ATTENTION] = "attention", [UP_OP_RESIDUAL] = "residual",
        [UP_OP_GATHER] = "gather",       [UP_OP_SCATTER] = "scatter",
        [UP_OP_L2NORM] = "l2norm",       [UP_OP_LOGITS] = "logits",
        [UP_OP_XENT] = "xent",           [UP_OP_SQNORM] = "sqnorm",
        [UP_OP_STEP] = "step",           [UP_OP_ADAMW] = "adamw",
        [UP_OP_CAST] = "cast",           [UP_OP_GELU] = "gelu"};
    const char *why = "no reason given";
    if (!b->ops->supports(b, op, dims, &why))
        return up_fail(UP_ERR_UNSUPPORTED, b->ops->name, "%s: %s", names[op], why);
    size_t bytes = b->ops->scratch(b, op, dims);
    if (bytes > *scratch) *scratch = bytes;
    return UP_OK;
}

up_status up_grow_buffer(up_backend *b, up_buffer **buffer, size_t *bytes, size_t wanted) {
    if (wanted <= *bytes) return UP_OK;
    b->ops->release(b, *buffer);
    *buffer = NULL;
    *bytes = 0;
    UP_TRY(b->ops->alloc(b, wanted, buffer));
    *bytes = wanted;
    return UP_OK;
}

static up_status upload_initial(up_model *model, uint64_t seed) {
    up_backend *b = model->backend;
    size_t bytes = (size_t)model->params.total * sizeof(float);
    float *weights = malloc(bytes);
    if (!weights)
        return up_fail(UP_ERR_MEMORY, "model", "%zu bytes wanted for %s", bytes, model->config.preset);
    up_status status = up_params_init(&model->config, &model->params, seed, weights);
    if (status == UP_OK)
        status = b->ops->upload(b, up_view_at(model->weights, UP_F32, 0, 1, model->params.total), weights);
    free(weights);
    return status;
}

/* Everything but the weights. */
static up_status create(up_backend *backend, const up_config *config, up_model **out) {
    up_status status = UP_OK;
    *out = NULL;
    UP_TRY(up_backend_check(backend));
    up_model *model = calloc(1, sizeof *model);
    if (!model) return up_fail(UP_ERR_MEMORY, "model", "%zu bytes wanted", sizeof *model);
    model->backend = backend;
    model->config = *config;
    model->version = 1;
    UP_GO(up_params_build(config, &model->params));
    model->own = model->params.total;
    *out = model;
    model = NULL;
done:
    up_model_destroy(model);
    return status;
}

static up_status take_memory(up_model *model) {
    return model->backend->ops->alloc(model->backend, (size_t)model->own * sizeof(float), &model->weights);
}

up_status up_model_create(up_backend *backend, const up_config *config, uint64_t seed, up_model **out) {
    UP_GIVEN(backend, config, out);
    UP_TRY(create(backend, config, out));
    up_status status = take_memory(*out);
    if (status == UP_OK) status = upload_initial(*out, seed);
    if (status == UP_OK) return UP_OK;
    up_model_destroy(*out);
    *out = NULL;
    return status;
}

up_status up_model_create_bare(up_backend *backend, const up_config *config, up_model **out) {
    UP_GIVEN(backend, config, out);
    UP_TRY(create(backend, config, out));
    up_status status = take_memory(*out);
    if (status == UP_OK)
        status = backend->ops->fill(backend, up_view_at((*out)->weights, UP_F32, 0, 1, (*out)->own), 0);
    if (status == UP_OK) return UP_OK;
    up_model_destroy(*out);
    *out = NULL;
    return status;
}

up_status up_model_create_over(up_backend *backend, const up_config *config, void *memory, size_t bytes,
                               const int64_t *offsets, void (*let_go)(void *), void *memory_owner,
                               up_model **out) {
    UP_GIVEN(backend, config, memory, offsets, out);
    up_status status = UP_OK;
    up_model *model = NULL;
    *out = NULL;
    if (!backend->ops->wrap)
        return up_fail(UP_ERR_UNSUPPORTED, backend->ops->name, "cannot use weights in the host's memory");
    UP_TRY(create(backend, config, &model));
    for (int i = 0; i < model->params.count; i++) {
        up_param *p = &model->params.list[i];
        size_t end = (size_t)offsets[i] + (size_t)(p->rows * p->cols) * sizeof(float);
        if (offsets[i] < 0 || offsets[i] % (int64_t)sizeof(float) || end > bytes)
            UP_GO(up_fail(UP_ERR_ARGUMENT, p->name, "at byte %lld of %zu", (long long)offsets[i], bytes));
        p->offset = offsets[i] / (int64_t)sizeof(float);
    }
    UP_GO(backend->ops->wrap(backend, memory, bytes, &model->weights));
    model->let_go = let_go;
    model->memory_owner = memory_owner;
    *out = model;
    model = NULL;
done:
    up_model_destroy(model);
    return status;
}

static void release_weights(up_model *model) {
    if (!model->let_go) {
        model->backend->ops->release(model->backend, model->weights);
        return;
    }
    model->backend->ops->unwrap(model->backend, model->weights);
    model->let_go(model->memory_owner);
}

static void forget_classes(up_model *model) {
    for (int i = 0; i < model->class_count; i++) free(model->classes[i]);
    free(model->classes);
    model->classes = NULL;
    model->class_count = 0;
}

void up_model_destroy(up_model *model) {
    if (!model) return;
    for (int i = 0; i < model->prepared_count; i++)
        model->backend->ops->release(model->backend, model->prepared[i].buffer);
    release_weights(model);
    up_params_free(&model->params);
    free(model->prepared);
    free(model->shared);
    free(model->targets);
    forget_classes(model);
    free(model);
}

static up_status check_targets(const up_model *model, const int32_t *ids, int count) {
    if (count < 0 || (count && !ids))
        return up_fail(UP_ERR_ARGUMENT, "target set", "%d ids and no list of them", count);
    for (int i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= model->config.vocabulary || (i && ids[i] <= ids[i - 1]))
            return up_fail(UP_ERR_ARGUMENT, "target set", "id %d at place %d: wanted ascending ids below %d",
                           ids[i], i, model->config.vocabulary);
    return UP_OK;
}

up_status up_model_set_targets(up_model *model, const int32_t *ids, int count) {
    UP_GIVEN(model);
    int32_t *copy = NULL;
    UP_TRY(check_targets(model, ids, count));
    if (count > 0) {
        copy = malloc((size_t)count * sizeof *copy);
        if (!copy) return up_fail(UP_ERR_MEMORY, "target set", "%d ids wanted", count);
        memcpy(copy, ids, (size_t)count * sizeof *copy);
    }
    free(model->targets);
    model->targets = copy;
    model->target_count = count;
    return UP_OK;
}

const int32_t *up_model_targets(const up_model *model, int *count) {
    if (!model || !count) return NULL;
    *count = model->target_count;
    return model->targets;
}

const up_config *up_model_config(const up_model *model) {
    if (!model) return NULL;
    return &model->config;
}
const up_params *up_model_params(const up_model *model) {
    if (!model) return NULL;
    return &model->params;
}
up_backend *up_model_backend(const up_model *model) {
    if (!model) return NULL;
    return model->backend;
}
up_model *up_model_base(const up_model *model) {
    if (!model) return NULL;
    return model->base;
}
int up_model_owns(const up_model *model, int param) {
    if (!model || param >= model->params.count) return 0;
    return param >= 0 && (!model->shared || model->shared[param] < 0);
}

up_status up_model_set_classes(up_model *model, const char *const *names, int count) {
    UP_GIVEN(model);
    if (!names) count = 0;
    if (names && count != model->config.classes)
        return up_fail(UP_ERR_ARGUMENT, "classes", "%d names; the model's linear head has %d classes", count,
                       model->config.classes);
    for (int i = 0; i < count; i++) UP_TRY(up_given(names[i], "a class"));
    char **copies = calloc((size_t)count + 1, sizeof *copies);
    if (!copies) return up_fail(UP_ERR_MEMORY, "classes", "%d names wanted", count);
    forget_classes(model);
    model->classes = copies;
    for (; model->class_count < count; model->class_count++) {
        copies[model->class_count] = strdup(names[model->class_count]);
        if (copies[model->class_count]) continue;
        forget_classes(model);
        return up_fail(UP_ERR_MEMORY, "classes", "%d names wanted", count);
    }
    return UP_OK;
}

const char *const *up_model_classes(const up_model *model, int *count) {
    if (!model || !count) return NULL;
    *count = model->class_count;
    return model->class_count ? (const char *const *)model->classes : NULL;
}

/* Whether row i of both heads is the same class, and alpha means the same. */
static int same_head(const up_model *a, const up_model *b) {
    if (a->class_count != b->class_count || a->config.head_only != b->config.head_only) return 0;
    for (int i = 0; i < a->class_count; i++)
        if (strcmp(a->classes[i], b->classes[i])) return 0;
    return 1;
}

up_status up_model_copy(up_model *model, const up_model *from) {
    UP_GIVEN(model, from);
    up_backend *b = model->backend;
    for (int i = 0; i < model->params.count; i++) {
        int other = up_params_find(&from->params, model->params.list[i].name);
        if (other < 0 || !up_model_owns(model, i)) continue;
        if (model->params.list[i].group == UP_GROUP_LINEAR_HEAD && !same_head(model, from)) continue;
        up_view to = up_model_weight(model, i), weight = up_model_weight(from, other);
        if (to.rows == weight.rows && to.cols == weight.cols) UP_TRY(b->ops->copy(b, to, weight));
    }
    up_model_changed(model);
    return b->ops->sync(b); /* `from` may go on return */
}

up_view up_model_weight(const up_model *model, int param) {
    if (!model || param >= model->params.count) return (up_view){0};
    if (param < 0) return (up_view){0};
    if (!up_model_owns(model, param)) return up_model_weight(model->base, model->shared[param]);
    const up_param *p = &model->params.list[param];
    return up_view_at(model->weights, UP_F32, p->offset, p->rows, p->cols);
}

uint64_t up_model_version(const up_model *model) {
    if (!model) return 0;
    return model->version + (model->base ? up_model_version(model->base) : 0);
}
void up_model_changed(up_model *model) {
    if (!model) return;
    model->version++;
    model->fingerprint = 0;
}

uint64_t up_model_fingerprint(const up_model *model) {
    if (!model) return 0;
    return model->fingerprint;
}
void up_model_set_fingerprint(up_model *model, uint64_t fingerprint) {
    if (!model) return;
    model->fingerprint = fingerprint;
}
