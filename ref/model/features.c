/* features.c - features of length 1 and the gradients that come back to them (paper equation 2). */
#include "uniperceiver/features.h"
#include "ref/given.h"

#include <math.h>
#include <string.h>

up_status up_features_create(up_model *model, int with_gradients, up_features *f) {
    UP_GIVEN(model, f);
    memset(f, 0, sizeof *f);
    f->backend = up_model_backend(model);
    f->width = up_model_config(model)->width;
    f->with_gradients = with_gradients;
    f->with_head = with_gradients && up_model_config(model)->classes > 0;
    return UP_OK;
}

void up_features_free(up_features *f) {
    if (!f) return;
    if (f->backend) f->backend->ops->release(f->backend, f->buffer);
    memset(f, 0, sizeof *f);
}

static up_view place(const up_features *f, int64_t *at, int64_t cols) {
    up_view v = up_view_at(f->buffer, UP_F32, *at, f->rows, cols);
    *at += up_whole_units(f->capacity * cols);
    return v;
}

static int64_t lay_out(up_features *f) {
    int64_t at = 0;
    f->raw = place(f, &at, f->width);
    f->unit = place(f, &at, f->width);
    f->rnorm = place(f, &at, 1);
    f->dunit = f->with_gradients ? place(f, &at, f->width) : (up_view){0};
    f->draw = f->with_head ? place(f, &at, f->width) : f->dunit; /* the same place, one after the other */
    return at;
}

up_status up_features_resize(up_features *f, int64_t rows) {
    UP_GIVEN(f);
    UP_GIVEN(f->backend);
    if (rows < 0) return up_fail(UP_ERR_ARGUMENT, "features", "%lld rows", (long long)rows);
    up_backend *b = f->backend;
    f->has_dunit = f->has_draw = 0;
    f->rows = rows;
    if (rows > f->capacity) {
        b->ops->release(b, f->buffer);
        f->buffer = NULL;
        f->capacity = f->capacity ? rows + rows / 4 : rows; /* batches differ: do not grow for each */
        size_t bytes = (size_t)lay_out(f) * sizeof(float);
        up_status status = b->ops->alloc(b, bytes, &f->buffer);
        if (status != UP_OK) {
            f->capacity = f->rows = 0;
            return status;
        }
    }
    lay_out(f);
    return UP_OK;
}

up_status up_features_normalize(up_features *f) {
    UP_GIVEN(f);
    UP_GIVEN(f->backend);
    up_backend *b = f->backend;
    return b->ops->l2norm(b, &(up_l2norm_args){.x = f->raw, .y = f->unit, .rnorm = f->rnorm});
}

up_status up_features_back(up_features *f) {
    UP_GIVEN(f);
    UP_GIVEN(f->backend);
    up_backend *b = f->backend;
    int had_draw = f->has_draw, had_dunit = f->has_dunit;
    f->has_draw = f->has_dunit = 0;
    if (!had_dunit) return had_draw ? UP_OK : b->ops->fill(b, f->draw, 0);
    return b->ops->l2norm_bwd(b, &(up_l2norm_grad){.y = f->unit,
                                                   .rnorm = f->rnorm,
                                                   .dy = f->dunit,
                                                   .past = had_draw ? f->draw : (up_view){0},
                                                   .dx = f->draw});
}

up_status up_features_read(const up_features *f, float *out) {
    UP_GIVEN(f, out);
    UP_GIVEN(f->backend);
    up_backend *b = f->backend;
    UP_TRY(b->ops->download(b, out, f->unit));
    for (int64_t i = 0; i < f->rows * f->width; i++)
        if (!isfinite(out[i]))
            return up_fail(UP_ERR_NUMERIC, "feature", "not finite: check the model and the input");
    return UP_OK;
}
