/* index_search.c - the rows of an index that are most similar to a query, exactly, in one pass over the rows
 * in 8 bits.
 *
 * A row is x = s a + r with a in 8 bits and |r| <= error, a query is q = t b + u likewise. Then
 *     q.x = s t a.b + (t b).r + u.x, so |q.x - s t a.b| <= |t b| error + |u| |x|:
 * every row has a lower and an upper bound of its cosine for a quarter of its bytes. Where k rows have a
 * lower bound of L at least, a row whose upper bound is below L is none of the best k. The others, some
 * hundred in a million, are compared in double precision. */
#include "infer/index_file.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 256, MAX_THREADS = 256 };
static const double longest = 1.00001; /* rows have length 1 up to the rounding of their elements */
static const double roundings = 2e-6;  /* of the sums that make a bound, in f32 */

typedef struct candidate {
    int64_t row;
    float upper;
} candidate;

/* The query in 8 bits. */
typedef struct coarse_query {
    uint8_t *bytes; /* plus 128 */
    double scale, length, rest;
} coarse_query;

/* Some rows, in the hands of one thread. */
typedef struct scan {
    const up_index *index;
    const coarse_query *query;
    int64_t first, end;
    float *lowest; /* the largest lower bounds so far: a heap of up to k, the smallest on top */
    int k, kept;
    candidate *candidates;
    size_t count, room;
    int failed; /* no memory */
} scan;

/* --- the largest k of many --- */

static void sink(float *heap, int count, int at) {
    for (int child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && heap[child + 1] < heap[child]) child++;
        if (heap[at] <= heap[child]) return;
        float held = heap[at];
        heap[at] = heap[child];
        heap[child] = held;
    }
}

static void offer(float *heap, int k, int *kept, float value) {
    if (*kept < k) {
        heap[(*kept)++] = value;
        for (int at = *kept / 2 - 1; *kept == k && at >= 0; at--) sink(heap, k, at);
        return;
    }
    if (value <= heap[0]) return;
    heap[0] = value;
    sink(heap, k, 0);
}

/* --- one pass --- */

static void keep(scan *s, int64_t row, float upper) {
    if (s->count == s->room) {
        size_t room = s->room ? 2 * s->room : 1024;
        candidate *grown = realloc(s->candidates, room * sizeof *grown);
        if (!grown) {
            s->failed = 1;
            return;
        }
        s->candidates = grown;
        s->room = room;
    }
    s->candidates[s->count++] = (candidate){row, upper};
}

static void *scan_rows(void *argument) {
    scan *s = argument;
    const up_index *x = s->index;
    int32_t sums[BLOCK];
    for (int64_t row = s->first; row < s->end && !s->failed; row += BLOCK) {
        int count = s->end - row < BLOCK ? (int)(s->end - row) : BLOCK;
        const up_index_coarse *coarse = x->coarse + row;
        up_index_dots(x->bytes8 + (size_t)row * x->stride, x->stride, count, s->query->bytes, sums);
        for (int i = 0; i < count; i++) {
            double cosine =
                s->query->scale * (double)coarse[i].scale * (double)(sums[i] - 128 * coarse[i].sum);
            double margin = s->query->length * (double)coarse[i].error + s->query->rest + roundings;
            float upper = (float)(cosine + margin);
            offer(s->lowest, s->k, &s->kept, (float)(cosine - margin));
            if (s->kept < s->k || upper >= s->lowest[0]) keep(s, row + i, upper);
        }
    }
    return NULL;
}

/* The last share is scanned here, and so is one that gets no thread. */
static void scan_all(scan *scans, int count) {
    pthread_t threads[MAX_THREADS];
    int started = 0;
    while (started < count - 1 && !pthread_create(&threads[started], NULL, scan_rows, &scans[started]))
        started++;
    for (int i = started; i < count; i++) scan_rows(&scans[i]);
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
}

/* --- the answer --- */

static int by_score(const void *a, const void *b) {
    const up_index_hit *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return (x->row > y->row) - (x->row < y->row);
}

static double cosine_of(const up_index *x, int64_t row, const float *query) {
    const float *values = up_index_row(x, row);
    double sum = 0;
    for (int i = 0; i < x->about.width; i++) sum += (double)values[i] * (double)query[i];
    return sum;
}

/* The k-th largest lower bound of all shares. */
static float bound_of(scan *scans, int count) {
    for (int i = 1; i < count; i++)
        for (int j = 0; j < scans[i].kept; j++)
            offer(scans[0].lowest, scans[0].k, &scans[0].kept, scans[i].lowest[j]);
    return scans[0].kept < scans[0].k ? -INFINITY : scans[0].lowest[0];
}

static up_status compare(const up_index *x, const float *query, scan *scans, int count, int k,
                         up_index_hit *hits) {
    size_t most = 0, n = 0;
    float bound = bound_of(scans, count);
    for (int i = 0; i < count; i++) {
        if (scans[i].failed)
            return up_fail(UP_ERR_MEMORY, x->path, "no memory for the rows that may be best");
        most += scans[i].count;
    }
    up_index_hit *all = malloc((most + 1) * sizeof *all);
    if (!all) return up_fail(UP_ERR_MEMORY, x->path, "no memory for %zu rows that may be best", most);
    for (int i = 0; i < count; i++)
        for (size_t j = 0; j < scans[i].count; j++) {
            const candidate *c = &scans[i].candidates[j];
            if (c->upper >= bound) all[n++] = (up_index_hit){c->row, cosine_of(x, c->row, query)};
        }
    qsort(all, n, sizeof *all, by_score);
    memcpy(hits, all, (size_t)k * sizeof *hits);
    free(all);
    return UP_OK;
}

static up_status make_query(const up_index *x, const float *query, coarse_query *out) {
    int8_t *bytes = malloc(x->stride);
    double sum = 0;
    out->bytes = aligned_alloc(UP_INDEX_LINE, x->stride);
    if (!bytes || !out->bytes) {
        free(bytes);
        return up_fail(UP_ERR_MEMORY, x->path, "no memory for a query");
    }
    up_index_coarse coarse = up_index_quantize(query, x->about.width, x->stride, bytes);
    for (size_t i = 0; i < x->stride; i++) {
        out->bytes[i] = (uint8_t)(bytes[i] + 128);
        sum += (double)bytes[i] * (double)bytes[i];
    }
    free(bytes);
    out->scale = (double)coarse.scale;
    out->length = out->scale * sqrt(sum);
    out->rest = (double)coarse.error * longest;
    return UP_OK;
}

static up_status check_query(const up_index *x, const float *query) {
    double sum = 0;
    for (int i = 0; i < x->about.width; i++) sum += (double)query[i] * (double)query[i];
    if (fabs(sqrt(sum) - 1) < 1e-3) return UP_OK;
    return up_fail(UP_ERR_NUMERIC, x->path, "a query of length %g; wanted 1", sqrt(sum));
}

up_status up_index_search(const up_index *x, const float *query, int k, int threads, up_index_hit *hits,
                          int *found) {
    up_status status = UP_OK;
    scan scans[MAX_THREADS] = {0};
    coarse_query coarse = {0};
    int64_t n = x->about.count, blocks = (n + BLOCK - 1) / BLOCK;
    int count = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
    *found = 0;
    if (k < 1) return up_fail(UP_ERR_ARGUMENT, x->path, "the best %d; wanted 1 or more", k);
    if (k > n) k = (int)n;
    UP_TRY(check_query(x, query));
    UP_GO(make_query(x, query, &coarse));
    for (int i = 0; i < count; i++) {
        scans[i] = (scan){.index = x, .query = &coarse, .k = k};
        scans[i].first = blocks * i / count * BLOCK;
        scans[i].end = i + 1 < count ? blocks * (i + 1) / count * BLOCK : n;
        scans[i].lowest = malloc((size_t)k * sizeof *scans[i].lowest);
        if (!scans[i].lowest) UP_GO(up_fail(UP_ERR_MEMORY, x->path, "no memory for the best %d", k));
    }
    scan_all(scans, count);
    UP_GO(compare(x, query, scans, count, k, hits));
    *found = k;
done:
    for (int i = 0; i < count; i++) {
        free(scans[i].lowest);
        free(scans[i].candidates);
    }
    free(coarse.bytes);
    return status;
}
