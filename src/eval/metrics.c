/* metrics.c - the numbers of an evaluation, from features and what is true of them. */
#include "eval/metrics.h"
#include "eval/label_scores.h"

#include <math.h>
#include <stdlib.h>

enum { TILE_ROWS = 256, TILE_COLUMNS = 4096 };

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Memory for a tile of cosines between x and y, with at most `columns` of them in a row. */
static up_status tile_create(up_view x, int64_t columns, float **tile) {
    size_t values = (size_t)smaller(x.rows, TILE_ROWS) * (size_t)columns;
    *tile = malloc((values + 1) * sizeof **tile);
    return *tile ? UP_OK : up_fail(UP_ERR_MEMORY, "cosines", "%zu wanted", values);
}

static up_status tile_read(up_cosines *c, up_view x, up_view y, float *tile) {
    UP_TRY(up_cosines_read(c, x, y, tile));
    for (int64_t i = 0; i < x.rows * y.rows; i++)
        if (!isfinite(tile[i])) return up_fail(UP_ERR_NUMERIC, "feature", "not finite: check the model");
    return UP_OK;
}

/* --- nearest targets --- */

/* Columns first.. of some rows; `most` and `best` carry on from the columns before. */
static void take_columns(const float *tile, int64_t rows, int64_t columns, int64_t first, float *most,
                         int32_t *best) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            float z = tile[i * columns + j];
            if (!(z > most[i])) continue;
            most[i] = z;
            best[i] = (int32_t)(first + j);
        }
}

static up_status nearest_of_rows(up_cosines *c, up_view x, up_view y, float *tile, int32_t *best) {
    float most[TILE_ROWS];
    for (int64_t i = 0; i < x.rows; i++) most[i] = -INFINITY;
    for (int64_t first = 0; first < y.rows; first += TILE_COLUMNS) {
        int64_t columns = smaller(TILE_COLUMNS, y.rows - first);
        UP_TRY(tile_read(c, x, up_view_rows(y, first, columns), tile));
        take_columns(tile, x.rows, columns, first, most, best);
    }
    return UP_OK;
}

up_status up_nearest(up_cosines *c, up_view x, up_view y, int32_t *best) {
    float *tile = NULL;
    up_status status = UP_OK;
    if (y.rows < 1) return up_fail(UP_ERR_ARGUMENT, "targets", "none to choose from");
    UP_GO(tile_create(x, smaller(y.rows, TILE_COLUMNS), &tile));
    for (int64_t row = 0; row < x.rows; row += TILE_ROWS) {
        int64_t rows = smaller(TILE_ROWS, x.rows - row);
        UP_GO(nearest_of_rows(c, up_view_rows(x, row, rows), y, tile, best + row));
    }
done:
    free(tile);
    return status;
}

/* --- ranks --- */

static int64_t rank_of(const float *z, int32_t own, const int32_t *group, int64_t n) {
    float best = -INFINITY;
    int64_t before = 0;
    for (int64_t j = 0; j < n; j++)
        if (group[j] == own && z[j] > best) best = z[j];
    for (int64_t j = 0; j < n; j++) before += group[j] != own && z[j] >= best;
    return best > -INFINITY ? before : n;
}

up_status up_ranks(up_cosines *c, up_view x, up_view y, const int32_t *group_x, const int32_t *group_y,
                   int64_t *rank) {
    float *tile = NULL;
    up_status status = UP_OK;
    UP_GO(tile_create(x, y.rows, &tile));
    for (int64_t row = 0; row < x.rows; row += TILE_ROWS) {
        int64_t rows = smaller(TILE_ROWS, x.rows - row);
        UP_GO(tile_read(c, up_view_rows(x, row, rows), y, tile));
        for (int64_t i = 0; i < rows; i++)
            rank[row + i] = rank_of(tile + i * y.rows, group_x[row + i], group_y, y.rows);
    }
done:
    free(tile);
    return status;
}

/* --- scores --- */

up_metric up_share(int64_t hits, int64_t n, double chance) {
    double p = n ? (double)hits / (double)n : 0;
    return (up_metric){p, chance, n ? sqrt(p * (1 - p) / (double)n) : 0, n};
}

up_metric up_accuracy(const int32_t *best, const int32_t *labels, int64_t n, int64_t targets) {
    int64_t hits = 0, counted = 0;
    for (int64_t i = 0; i < n; i++) {
        counted += labels[i] >= 0;
        hits += labels[i] >= 0 && best[i] == labels[i];
    }
    return up_share(hits, counted, targets ? 1.0 / (double)targets : 0);
}

up_status up_word_accuracy(const int32_t *best, const int32_t *labels, int64_t n, int64_t targets,
                           up_metric *out) {
    int64_t *times = calloc((size_t)targets + 1, sizeof *times), most = 0;
    if (!times) return up_fail(UP_ERR_MEMORY, "word accuracy", "%lld counts wanted", (long long)targets);
    for (int64_t i = 0; i < n; i++)
        if (labels[i] >= 0 && ++times[labels[i]] > most) most = times[labels[i]];
    free(times);
    *out = up_accuracy(best, labels, n, targets);
    out->chance = out->n ? (double)most / (double)out->n : 0;
    return UP_OK;
}

up_metric up_f1_metric(const int32_t *said, const int32_t *labels, int64_t n) {
    int64_t right = 0, wrong = 0, ones = 0;
    for (int64_t i = 0; i < n; i++) {
        right += said[i] && labels[i];
        wrong += said[i] != labels[i];
        ones += labels[i];
    }
    double a = n ? (double)right / (double)n : 0, b = n ? (double)wrong / (double)n : 0, all = 2 * a + b;
    return (up_metric){.value = up_f1(said, labels, (size_t)n),
                       .chance = ones ? 2 * (double)ones / (double)(n + ones) : 0,
                       .error = all > 0 ? sqrt(4 * a * b * (a + b) / (double)n) / (all * all) : 0,
                       .n = n};
}

/* One of `own` among the first k of n in a random order. */
static double chance_at(int64_t own, int64_t n, int64_t k) {
    double miss = 1;
    for (int64_t t = 0; t < k && t < n; t++) miss *= fmax(0, (double)(n - own - t)) / (double)(n - t);
    return 1 - miss;
}

up_status up_recall(const int64_t *rank, const int32_t *group_x, int64_t n, const int32_t *group_y, int64_t v,
                    int64_t k, up_metric *out) {
    int32_t groups = 0;
    int64_t hits = 0;
    double chance = 0;
    for (int64_t i = 0; i < n; i++) groups = group_x[i] >= groups ? group_x[i] + 1 : groups;
    for (int64_t j = 0; j < v; j++) groups = group_y[j] >= groups ? group_y[j] + 1 : groups;
    int64_t *members = calloc((size_t)groups + 1, sizeof *members);
    if (!members) return up_fail(UP_ERR_MEMORY, "recall", "%d groups wanted", groups);
    for (int64_t j = 0; j < v; j++) members[group_y[j]]++;
    for (int64_t i = 0; i < n; i++) {
        hits += rank[i] < k && members[group_x[i]];
        chance += chance_at(members[group_x[i]], v, k) / (double)n;
    }
    free(members);
    *out = up_share(hits, n, chance);
    return UP_OK;
}

/* --- words --- */

static size_t times_before(const int32_t *ids, size_t end, int32_t id) {
    size_t times = 0;
    for (size_t i = 0; i < end; i++) times += ids[i] == id;
    return times;
}

double up_bag_f1(const int32_t *a, size_t m, const int32_t *b, size_t n) {
    size_t shared = 0;
    for (size_t i = 0; i < m; i++) /* the k-th of its kind counts where b has so many */
        shared += times_before(a, i, a[i]) < times_before(b, n, a[i]);
    return m + n ? 2.0 * (double)shared / (double)(m + n) : 0;
}

up_metric up_mean(const double *own, int64_t n, double chance) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += own[i];
        squares += own[i] * own[i];
    }
    double mean = n ? sum / (double)n : 0, variance = n ? fmax(0, squares / (double)n - mean * mean) : 0;
    return (up_metric){mean, chance, n ? sqrt(variance / (double)n) : 0, n};
}
