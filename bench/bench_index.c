/* bench_index.c - the time of a search among random rows: an index is written, and each query compared with
 * all of its rows. The answers are those of an exact comparison (tests/test_index.c). Run by hand. */
#include "bench/common.h"
#include "infer/index.h"
#include "uniperceiver/random.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct rows {
    int width;
    float *row;
} rows;

/* Uniform in [-1, 1) and quick to make (Marsaglia 2003), since four times as many are made as are kept. */
static float next_value(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (float)(int32_t)(*state >> 32) / 0x1p31f;
}

/* Row i of length 1, the same each time it is asked for. */
static void make_row(rows *r, int64_t i) {
    up_rng rng = up_rng_make(1, (uint64_t)i, 0, 0);
    uint64_t state = (uint64_t)up_rng_below(&rng, UINT32_MAX) << 32 | 1;
    double sum = 0;
    for (int k = 0; k < r->width; k++) {
        r->row[k] = next_value(&state);
        sum += (double)r->row[k] * (double)r->row[k];
    }
    for (int k = 0; k < r->width; k++) r->row[k] = (float)((double)r->row[k] / sqrt(sum));
}

static up_status give(void *context, int64_t i, up_index_entry *entry, const float **row) {
    rows *r = context;
    make_row(r, i);
    *entry = (up_index_entry){.name = "row"};
    *row = r->row;
    return UP_OK;
}

static void measure(const char *path, rows *r, int64_t first, int queries, int top, int threads) {
    up_index *index;
    double *times = up_bench_room((size_t)queries, sizeof *times);
    up_index_hit *hits = up_bench_room((size_t)top, sizeof *hits);
    int found;
    UP_BENCH_OK(up_index_open(path, &index));
    make_row(r, first);
    UP_BENCH_OK(up_index_search(index, r->row, top, threads, hits, &found)); /* brings it into memory */
    for (int i = 0; i < queries; i++) {
        make_row(r, first + 1 + i);
        double start = up_bench_now();
        UP_BENCH_OK(up_index_search(index, r->row, top, threads, hits, &found));
        times[i] = up_bench_now() - start;
    }
    double median = up_bench_median(times, queries); /* sorts them */
    printf(
        "%lld rows of width %d, the best %d, %d threads, %d queries: median %.1f ms, 99%% within %.1f ms\n",
        (long long)up_index_about_of(index).count, r->width, top, threads, queries, 1e3 * median,
        1e3 * times[(queries * 99 - 1) / 100]);
    up_index_close(index);
    free(hits);
    free(times);
}

int main(int argc, char **argv) {
    int count = 1000000, width = 768, queries = 100, top = 10, threads = 0;
    const char *path = "/tmp/bench_index.index";
    const up_option options[] = {{"--rows", UP_OPTION_WHOLE, &count, 1, "rows of the index"},
                                 {"--width", UP_OPTION_WHOLE, &width, 1, "of a feature"},
                                 {"--queries", UP_OPTION_WHOLE, &queries, 1, "so many, one at a time"},
                                 {"--top", UP_OPTION_WHOLE, &top, 1, "rows wanted of each"},
                                 {"--threads", UP_OPTION_WHOLE, &threads, 0, "0: all processors"},
                                 {"--file", UP_OPTION_TEXT, &path, 0, "written for it, then removed"},
                                 {0}};
    up_bench_options(argc, argv, "bench_index [OPTION...]: the time of a search among random rows", options);
    rows r = {width, up_bench_room((size_t)width, sizeof *r.row)};
    const up_index_about about = {.count = count, .width = width};
    UP_BENCH_OK(up_index_write(path, &about, give, &r));
    measure(path, &r, count, queries, top, up_bench_threads("cpu", threads));
    unlink(path);
    free(r.row);
    return 0;
}
