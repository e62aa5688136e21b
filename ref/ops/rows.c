/* rows.c - reading out and putting back rows by index: the features at <SPE>, at masked positions and at
 * slots (paper section 3.2 and figure 3). An index of -1 is a row that is not used. */
#include "ref/ops/ops.h"

static void copy_row(up_view to, int64_t to_row, up_view from, int64_t from_row) {
    for (int64_t d = 0; d < from.cols; d++) up_put(to, to_row, d, up_get(from, from_row, d));
}

up_status up_ref_gather(up_backend *b, const up_gather_args *a) {
    (void)b;
    for (int64_t i = 0; i < a->y.rows; i++) {
        int64_t row = up_index(a->rows, i);
        if (row < 0)
            up_ref_zero(up_view_rows(a->y, i, 1));
        else
            copy_row(a->y, i, a->x, row);
    }
    return UP_OK;
}

/* The first and the last i that have the row of i. */
static int64_t first_of(up_view rows, int64_t i) {
    int64_t k = 0;
    while (up_index(rows, k) != up_index(rows, i)) k++;
    return k;
}

static int64_t last_of(up_view rows, int64_t i) {
    int64_t k = rows.rows - 1;
    while (up_index(rows, k) != up_index(rows, i)) k--;
    return k;
}

/* y[i] = x[rows[i]]: dx[rows[i]] += dy[i]. Rows seldom repeat, so those that share one are looked for each
 * time: no scratch, and one rounding. */
up_status up_ref_gather_bwd(up_backend *b, const up_gather_grad *a) {
    (void)b;
    up_ref_zero(a->dx);
    for (int64_t i = 0; i < a->dy.rows; i++) {
        int64_t row = up_index(a->rows, i);
        if (row < 0 || first_of(a->rows, i) < i) continue;
        int64_t last = last_of(a->rows, i);
        for (int64_t d = 0; d < a->dy.cols; d++) {
            double total = 0;
            for (int64_t k = i; k <= last; k++)
                if (up_index(a->rows, k) == row) total += up_get(a->dy, k, d);
            up_put(a->dx, row, d, total);
        }
    }
    return UP_OK;
}

up_status up_ref_scatter(up_backend *b, const up_scatter_args *a) {
    (void)b;
    for (int64_t i = 0; i < a->x.rows; i++)
        if (up_index(a->rows, i) >= 0) copy_row(a->y, up_index(a->rows, i), a->x, i);
    return UP_OK;
}
