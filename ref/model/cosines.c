/* cosines.c - products of unit features through the backend's `logits`, brought to the host; the log-sum-exp
 * of their rows through its `xent`, in which no target is true. */
#include "uniperceiver/cosines.h"
#include "ref/given.h"
#include "ref/model/model.h"

#include <stdlib.h>

struct up_cosines {
    up_backend *backend;
    up_buffer *scale;    /* f32 [1, 2]: the logarithm of scale 1, and a factor */
    up_buffer *products; /* f32 [Q, V], then what the rows of a softmax need: row_views */
    size_t bytes;
};

/* Of Q rows: i32 [Q, 1] no true target; f32 [Q, UP_XENT_FIELDS], [Q, 1], [Q, 1]. */
typedef struct row_views {
    up_view index, state, loss, lse;
} row_views;

enum { ROW_VALUES = 1 + UP_XENT_FIELDS + 1 + 1 }; /* of four bytes */

up_status up_cosines_create(up_backend *backend, up_cosines **out) {
    UP_GIVEN(backend, out);
    up_status status = UP_OK;
    up_cosines *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c) return up_fail(UP_ERR_MEMORY, "cosines", "%zu bytes wanted", sizeof *c);
    c->backend = backend;
    UP_GO(backend->ops->alloc(backend, 2 * sizeof(float), &c->scale));
    UP_GO(backend->ops->fill(backend, up_view_at(c->scale, UP_F32, 0, 1, 2), 0));
    *out = c;
    c = NULL;
done:
    up_cosines_free(c);
    return status;
}

void up_cosines_free(up_cosines *c) {
    if (!c) return;
    c->backend->ops->release(c->backend, c->scale);
    c->backend->ops->release(c->backend, c->products);
    free(c);
}

/* z [Q, V] = factor x y' on the device; factor absent: 1. */
static up_status multiply(up_cosines *c, up_view x, up_view y, up_view factor, up_view *z) {
    up_backend *b = c->backend;
    if (x.cols != y.cols)
        return up_fail(UP_ERR_ARGUMENT, "cosines", "features of width %lld and of width %lld",
                       (long long)x.cols, (long long)y.cols);
    size_t values = (size_t)x.rows * ((size_t)y.rows + ROW_VALUES);
    UP_TRY(up_grow_buffer(b, &c->products, &c->bytes, values * sizeof(float)));
    *z = up_view_at(c->products, UP_F32, 0, x.rows, y.rows);
    return b->ops->logits(
        b, &(up_logits_args){
               .a = x, .b = y, .log_scale = up_view_at(c->scale, UP_F32, 0, 1, 1), .alpha = factor, .z = *z});
}

up_status up_cosines_read(up_cosines *c, up_view x, up_view y, float *out) {
    UP_GIVEN(c, out);
    up_view z;
    if (!x.rows || !y.rows) return UP_OK;
    UP_TRY(multiply(c, x, y, (up_view){0}, &z));
    return c->backend->ops->download(c->backend, out, z);
}

static row_views rows_behind(const up_cosines *c, up_view z) {
    int64_t at = z.rows * z.cols, n = z.rows;
    row_views r;
    r.index = up_view_at(c->products, UP_I32, at, n, 1);
    r.state = up_view_at(c->products, UP_F32, at + n, n, UP_XENT_FIELDS);
    r.loss = up_view_at(c->products, UP_F32, at + n + n * UP_XENT_FIELDS, n, 1);
    r.lse = up_view_at(c->products, UP_F32, at + 2 * n + n * UP_XENT_FIELDS, n, 1);
    return r;
}

up_status up_cosines_logits(up_cosines *c, up_view x, up_view y, double scale, float *logits, float *lse) {
    UP_GIVEN(c, logits, lse);
    up_backend *b = c->backend;
    up_view z, factor = up_view_at(c->scale, UP_F32, 1, 1, 1);
    if (!x.rows || !y.rows) return UP_OK;
    UP_TRY(b->ops->upload(b, factor, &(float){(float)scale}));
    UP_TRY(multiply(c, x, y, factor, &z));
    row_views r = rows_behind(c, z);
    UP_TRY(b->ops->fill(b, r.index, -1));
    UP_TRY(b->ops->xent(b, &(up_xent_args){.z = z,
                                           .begin = 1,
                                           .end = 1,
                                           .truth = {.index = r.index},
                                           .state = r.state,
                                           .loss = r.loss,
                                           .lse = r.lse}));
    UP_TRY(b->ops->download(b, lse, r.lse));
    return b->ops->download(b, logits, z);
}
