/* sums.c - sums over the rows of a matrix, in double: of all rows (gradients of biases) and of the rows that
 * share an index (gradients of embedding tables). */
#include "ref/ops/ops.h"

enum { BLOCK = 64 }; /* columns summed at a time */

static int64_t lesser(int64_t a, int64_t b) {
    return a < b ? a : b;
}

void up_ref_add_columns(up_view sum, up_view x, up_view index, int64_t least, int64_t most) {
    for (int64_t d0 = 0; d0 < x.cols; d0 += BLOCK) {
        int64_t count = lesser(BLOCK, x.cols - d0);
        double total[BLOCK] = {0};
        for (int64_t n = 0; n < x.rows; n++) {
            if (up_view_present(index) && (up_index(index, n) < least || up_index(index, n) > most)) continue;
            for (int64_t d = 0; d < count; d++) total[d] += up_get(x, n, d0 + d);
        }
        for (int64_t d = 0; d < count; d++) up_f32(sum)[d0 + d] = (float)(up_f32(sum)[d0 + d] + total[d]);
    }
}

/* Heap sort: in place, no recursion. The keys are distinct, so the order is unique. */
static void sift(int64_t *key, int64_t root, int64_t count) {
    for (int64_t child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && key[child + 1] > key[child]) child++;
        if (key[root] >= key[child]) return;
        int64_t swap = key[root];
        key[root] = key[child];
        key[child] = swap;
    }
}

static void sort(int64_t *key, int64_t count) {
    for (int64_t root = count / 2; root-- > 0;) sift(key, root, count);
    while (--count > 0) {
        int64_t swap = key[0];
        key[0] = key[count];
        key[count] = swap;
        sift(key, 0, count);
    }
}

/* One run of equal indices: to[D] += the rows x[key & low]. */
static void add_run(float *to, up_view x, const int64_t *key, int64_t count) {
    for (int64_t d0 = 0; d0 < x.cols; d0 += BLOCK) {
        int64_t width = lesser(BLOCK, x.cols - d0);
        double total[BLOCK] = {0};
        for (int64_t i = 0; i < count; i++) {
            int64_t n = key[i] & 0xffffffff;
            for (int64_t d = 0; d < width; d++) total[d] += up_get(x, n, d0 + d);
        }
        for (int64_t d = 0; d < width; d++) to[d0 + d] = (float)(to[d0 + d] + total[d]);
    }
}

void up_ref_add_by_index(up_view table, up_view index, up_view x, up_view scratch) {
    if (x.rows == 0) return;
    int64_t *key = up_ref_scratch(scratch),
            count = 0; /* index in the high half, row number in the low half */
    for (int64_t n = 0; n < x.rows; n++)
        if (up_index(index, n) >= 0) key[count++] = up_index(index, n) << 32 | n;
    sort(key, count);
    for (int64_t first = 0, end; first < count; first = end) {
        for (end = first + 1; end < count && key[end] >> 32 == key[first] >> 32;) end++;
        add_run(up_row(table, key[first] >> 32), x, key + first, end - first);
    }
}

void up_ref_zero(up_view v) {
    for (int64_t n = 0; n < v.rows; n++)
        for (int64_t d = 0; d < v.cols; d++) up_put(v, n, d, 0);
}
