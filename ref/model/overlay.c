/* overlay.c - a tuned task: a model that shares its base's tensors but for <SPE>, layer norms, prompts,
 * linear head and temperatures (paper section 3.3, appendix C). Encoders and losses see an ordinary model;
 * nothing of the base is copied that is not its own. */
#include "ref/model/model.h"
#include "ref/given.h"

#include <stdlib.h>

/* Groups of which an overlay has its own tensors. */
static int is_own(up_param_group group) {
    return group == UP_GROUP_SPE || group == UP_GROUP_NORM || group == UP_GROUP_PROMPT ||
           group == UP_GROUP_LINEAR_HEAD || group == UP_GROUP_TEMPERATURE;
}

/* Own tensors move to the front of a buffer of their own; the others point at the base's. */
static up_status divide(up_model *m) {
    m->shared = malloc((size_t)m->params.count * sizeof *m->shared);
    if (!m->shared) return up_fail(UP_ERR_MEMORY, "overlay", "%d tensors wanted", m->params.count);
    for (int i = 0; i < m->params.count; i++) {
        up_param *p = &m->params.list[i];
        m->shared[i] = -1;
        if (is_own(p->group)) {
            p->offset = m->own;
            m->own += up_whole_units(p->rows * p->cols);
            continue;
        }
        m->shared[i] = up_params_find(&m->base->params, p->name);
        if (m->shared[i] < 0)
            return up_fail(UP_ERR_ARGUMENT, "overlay", "the base has no tensor %s", p->name);
        p->offset = m->base->params.list[m->shared[i]].offset;
    }
    m->params.total = m->own;
    return UP_OK;
}

/* A tensor that the base has, too, starts as its copy; prompts and head, which belong to a task, and what the
 * base lacks at their own initial values. */
static up_status start_tensor(up_model *m, int param, uint64_t seed) {
    const up_param *p = &m->params.list[param];
    up_backend *b = m->backend;
    int anew = p->group == UP_GROUP_PROMPT || p->group == UP_GROUP_LINEAR_HEAD;
    int same = anew ? -1 : up_params_find(&m->base->params, p->name);
    if (same >= 0) return b->ops->copy(b, up_model_weight(m, param), up_model_weight(m->base, same));
    float *values = malloc((size_t)(p->rows * p->cols) * sizeof *values);
    if (!values)
        return up_fail(UP_ERR_MEMORY, "overlay", "%lld values wanted", (long long)(p->rows * p->cols));
    up_param_init(p, seed, values);
    up_status status = b->ops->upload(b, up_model_weight(m, param), values);
    free(values);
    return status;
}

up_status up_overlay_create(up_model *base, int prompts, int prompt_sides, int classes, uint64_t seed,
                            up_model **out) {
    UP_GIVEN(base, out);
    up_status status = UP_OK;
    *out = NULL;
    if (base->base) return up_fail(UP_ERR_ARGUMENT, "overlay", "its base is an overlay itself");
    up_model *m = calloc(1, sizeof *m);
    if (!m) return up_fail(UP_ERR_MEMORY, "overlay", "%zu bytes wanted", sizeof *m);
    m->backend = base->backend;
    m->base = base;
    m->version = 1;
    m->config = base->config;
    m->config.prompts = prompts;
    if (prompts) m->config.prompt_sides = prompt_sides;
    m->config.classes = classes;
    UP_GO(up_params_build(&m->config, &m->params));
    UP_GO(divide(m));
    UP_GO(m->backend->ops->alloc(m->backend, (size_t)m->own * sizeof(float), &m->weights));
    UP_GO(m->backend->ops->fill(m->backend, up_view_at(m->weights, UP_F32, 0, 1, m->own), 0));
    for (int i = 0; i < m->params.count; i++)
        if (up_model_owns(m, i)) UP_GO(start_tensor(m, i, seed));
    UP_GO(up_model_set_targets(m, base->targets, base->target_count));
    *out = m;
    m = NULL;
done:
    up_model_destroy(m);
    return status;
}
