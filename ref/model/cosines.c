/* cosines.c - products of unit features through the backend's `logits` at scale 1, brought to the host. */
#include "uniperceiver/cosines.h"

#include <stdlib.h>

struct up_cosines {
    up_backend *backend;
    up_buffer *zero; /* f32 [1, 1]: the logarithm of scale 1 */
    up_buffer *products;
    int64_t capacity;
};

up_status up_cosines_create(up_backend *backend, up_cosines **out) {
    up_status status = UP_OK;
    up_cosines *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c) return up_fail(UP_ERR_MEMORY, "cosines", "%zu bytes wanted", sizeof *c);
    c->backend = backend;
    UP_GO(backend->ops->alloc(backend, sizeof(float), &c->zero));
    UP_GO(backend->ops->fill(backend, up_view_at(c->zero, UP_F32, 0, 1, 1), 0));
    *out = c;
    c = NULL;
done:
    up_cosines_free(c);
    return status;
}

void up_cosines_free(up_cosines *c) {
    if (!c) return;
    c->backend->ops->release(c->backend, c->zero);
    c->backend->ops->release(c->backend, c->products);
    free(c);
}

static up_status make_room(up_cosines *c, int64_t values) {
    if (values <= c->capacity) return UP_OK;
    c->backend->ops->release(c->backend, c->products);
    c->products = NULL;
    c->capacity = 0;
    UP_TRY(c->backend->ops->alloc(c->backend, (size_t)values * sizeof(float), &c->products));
    c->capacity = values;
    return UP_OK;
}

up_status up_cosines_read(up_cosines *c, up_view x, up_view y, float *out) {
    up_backend *b = c->backend;
    if (x.cols != y.cols)
        return up_fail(UP_ERR_ARGUMENT, "cosines", "features of width %lld and of width %lld",
                       (long long)x.cols, (long long)y.cols);
    if (!x.rows || !y.rows) return UP_OK;
    UP_TRY(make_room(c, x.rows * y.rows));
    up_view z = up_view_at(c->products, UP_F32, 0, x.rows, y.rows);
    const up_logits_args args = {.a = x, .b = y, .log_scale = up_view_at(c->zero, UP_F32, 0, 1, 1), .z = z};
    UP_TRY(b->ops->logits(b, &args));
    return b->ops->download(b, out, z);
}
