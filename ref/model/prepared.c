/* prepared.c - weights of linear layers in the form that the backend likes: asked for once, made again after
 * each change. An overlay's linear layers are its base's, and so are their prepared forms. */
#include "ref/model/model.h"
#include "ref/given.h"

#include <stdlib.h>

static up_prepared *find(const up_model *m, int param, int64_t first, int64_t rows, up_dtype dtype) {
    for (int i = 0; i < m->prepared_count; i++) {
        up_prepared *p = &m->prepared[i];
        if (p->param == param && p->first == first && p->rows == rows && p->dtype == dtype) return p;
    }
    return NULL;
}

static up_view prepared_view(const up_prepared *p) {
    return up_view_at(p->buffer, UP_U8, 0, 1, (int64_t)p->bytes);
}

static up_status add(up_model *m, up_prepared prepared) {
    if (m->prepared_count == m->prepared_room) {
        int room = m->prepared_room ? 2 * m->prepared_room : 64;
        up_prepared *grown = realloc(m->prepared, (size_t)room * sizeof *grown);
        if (!grown) return up_fail(UP_ERR_MEMORY, "prepared weights", "%d entries wanted", room);
        m->prepared = grown;
        m->prepared_room = room;
    }
    m->prepared[m->prepared_count++] = prepared;
    return UP_OK;
}

/* Memory for a form, which is stale then. Where there is none, the weight is used as it lies, and whoever
 * wants the form next tries again. */
static up_status take_memory(up_model *m, up_prepared *p, int backward) {
    up_backend *b = m->backend;
    up_op_dims dims = {.dtype = p->dtype, .in = m->params.list[p->param].cols, .out = p->rows};
    b->ops->release(b, p->buffer);
    p->buffer = NULL;
    p->bytes = 0;
    p->version = 0;
    p->backward = -1;
    m->prepared_version = 0;
    size_t bytes = b->ops->prepared_size(b, &dims, backward);
    if (bytes) UP_TRY(b->ops->alloc(b, bytes, &p->buffer));
    p->bytes = bytes;
    p->backward = backward;
    return UP_OK;
}

up_status up_model_want_prepared(up_model *m, int param, int64_t first, int64_t rows, up_dtype dtype,
                                 int backward) {
    UP_GIVEN(m);
    if (param < 0 || !m->backend->ops->prepare) return UP_OK;
    if (!up_model_owns(m, param))
        return up_model_want_prepared(m->base, m->shared[param], first, rows, dtype, backward);
    up_prepared *p = find(m, param, first, rows, dtype);
    if (p && p->backward >= backward) return UP_OK;
    if (!p) {
        UP_TRY(add(m, (up_prepared){.param = param, .first = first, .rows = rows, .dtype = dtype}));
        p = &m->prepared[m->prepared_count - 1];
    }
    return take_memory(m, p, backward);
}

up_view up_model_prepared(const up_model *m, int param, int64_t first, int64_t rows, up_dtype dtype) {
    if (!m || param >= m->params.count) return (up_view){0};
    if (param < 0) return (up_view){0};
    if (!up_model_owns(m, param)) return up_model_prepared(m->base, m->shared[param], first, rows, dtype);
    const up_prepared *p = find(m, param, first, rows, dtype);
    return p && p->bytes ? prepared_view(p) : (up_view){0};
}

up_status up_model_prepare(up_model *m) {
    UP_GIVEN(m);
    up_backend *b = m->backend;
    if (m->base) UP_TRY(up_model_prepare(m->base));
    if (m->prepared_version == m->version) return UP_OK;
    for (int i = 0; i < m->prepared_count; i++) {
        up_prepared *p = &m->prepared[i];
        if (!p->bytes || p->version == m->version) continue;
        UP_TRY(b->ops->prepare(
            b, &(up_prepare_args){.weight = up_view_rows(up_model_weight(m, p->param), p->first, p->rows),
                                  .dtype = p->dtype,
                                  .backward = p->backward,
                                  .prepared = prepared_view(p)}));
        p->version = m->version;
    }
    m->prepared_version = m->version;
    return UP_OK;
}

size_t up_model_prepared_bytes(const up_model *m) {
    if (!m) return 0;
    size_t bytes = m->base ? up_model_prepared_bytes(m->base) : 0;
    for (int i = 0; i < m->prepared_count; i++) bytes += m->prepared[i].bytes;
    return bytes;
}
