/* rows.c - reading out and putting back rows by index: the features at <SPE>, at masked positions and at
 * slots (paper section 3.2 and figure 3). */
#include "ref/ops/ops.h"

#include <string.h>

static void copy_row(up_view to, int64_t to_row, up_view from, int64_t from_row) {
    memcpy(up_row(to, to_row), up_row(from, from_row), (size_t)from.cols * sizeof(float));
}

up_status up_ref_gather(up_backend *b, const up_gather_args *a) {
    (void)b;
    for (int64_t i = 0; i < a->y.rows; i++) copy_row(a->y, i, a->x, up_index(a->rows, i));
    return UP_OK;
}

/* y[i] = x[rows[i]]: dx[rows[i]] += dy[i]. The one sum in f32, because it has no scratch: a row seldom
 * repeats. */
up_status up_ref_gather_bwd(up_backend *b, const up_gather_grad *a) {
    (void)b;
    up_ref_zero(a->dx);
    for (int64_t i = 0; i < a->dy.rows; i++) {
        const float *dy = up_row(a->dy, i);
        float *dx = up_row(a->dx, up_index(a->rows, i));
        for (int64_t d = 0; d < a->dy.cols; d++) dx[d] += dy[d];
    }
    return UP_OK;
}

up_status up_ref_scatter(up_backend *b, const up_scatter_args *a) {
    (void)b;
    for (int64_t i = 0; i < a->x.rows; i++) copy_row(a->y, up_index(a->rows, i), a->x, i);
    return UP_OK;
}
