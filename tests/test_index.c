/* test_index.c - an index of features: what is written is read, the best k are those of a plain loop over
 * all rows in double precision, and damage is found. */
#include "files/file.h"
#include "infer/index_file.h"
#include "tests/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct rows {
    int count, width;
    float *values;
} rows;

static uint64_t state;

static double draw(void) { /* in -1..1 */
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int32_t)(state >> 32) / 2147483648.0;
}

static void make_unit(float *row, int width) {
    double sum = 0;
    for (int k = 0; k < width; k++) sum += (double)row[k] * (double)row[k];
    for (int k = 0; k < width; k++) row[k] = (float)((double)row[k] / sqrt(sum));
}

/* `spread` 1: any direction; less: close to one another, as features are. Each 50th row is the one before it
 * again, and one has a single element. */
static rows make_rows(int count, int width, double spread) {
    rows r = {count, width, malloc((size_t)count * (size_t)width * sizeof(float))};
    for (int i = 0; i < count; i++) {
        float *row = r.values + (size_t)i * (size_t)width;
        for (int k = 0; k < width; k++) row[k] = (float)(spread * draw() + (1 - spread) * (k % 7 - 3));
        if (i == 3)
            for (int k = 1; k < width; k++) row[k] = 0;
        if (i % 50 == 49) memcpy(row, row - width, (size_t)width * sizeof *row);
        make_unit(row, width);
    }
    return r;
}

static char path[64];
static const char *name_of(int64_t i) {
    static char name[32];
    snprintf(name, sizeof name, "row %lld", (long long)i);
    return name;
}

static up_status give(void *context, int64_t i, up_index_entry *entry, const float **row) {
    const rows *r = context;
    *entry = (up_index_entry){name_of(i), i, -i};
    *row = r->values + (size_t)i * (size_t)r->width;
    return UP_OK;
}

static up_index *write_and_open(rows *r) {
    up_index *index = NULL;
    up_index_about about = {r->count, r->width, 7, 1};
    snprintf(path, sizeof path, "/tmp/test_index.%d", (int)getpid());
    UP_ASSERT_OK(up_index_write(path, &about, give, r));
    UP_ASSERT_OK(up_index_open(path, &index));
    UP_ASSERT_OK(up_index_check(index));
    return index;
}

static void what_is_written_is_read(void) {
    rows r = make_rows(1000, 70, 1);
    up_index *index = write_and_open(&r);
    up_index_about about = up_index_about_of(index);
    CU_ASSERT_EQUAL(about.count, 1000);
    CU_ASSERT_EQUAL(about.width, 70);
    CU_ASSERT_EQUAL(about.model, 7);
    CU_ASSERT_EQUAL(about.precision, 1);
    for (int64_t i = 0; i < about.count; i++) {
        up_index_entry entry = up_index_entry_at(index, i);
        CU_ASSERT_STRING_EQUAL(entry.name, name_of(i));
        CU_ASSERT_EQUAL(entry.size, i);
        CU_ASSERT_EQUAL(entry.time, -i);
        CU_ASSERT_EQUAL(memcmp(up_index_row(index, i), r.values + 70 * i, 70 * sizeof(float)), 0);
    }
    up_index_close(index);
    free(r.values);
    unlink(path);
}

static int by_score(const void *a, const void *b) {
    const up_index_hit *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return x->row < y->row ? -1 : 1;
}

/* All rows by a plain loop, best first. */
static up_index_hit *by_force(const rows *r, const float *query) {
    up_index_hit *all = malloc((size_t)r->count * sizeof *all);
    for (int i = 0; i < r->count; i++) {
        all[i] = (up_index_hit){i, 0};
        for (int k = 0; k < r->width; k++)
            all[i].score += (double)r->values[(size_t)i * (size_t)r->width + (size_t)k] * (double)query[k];
    }
    qsort(all, (size_t)r->count, sizeof *all, by_score);
    return all;
}

static void compare(const up_index *index, const rows *r, const float *query) {
    const int wanted[] = {1, 10, 300, r->count, r->count + 5};
    up_index_hit *all = by_force(r, query), *hits = malloc((size_t)(r->count + 5) * sizeof *hits);
    for (int w = 0; w < 5; w++)
        for (int threads = 1; threads < 9; threads += 3) {
            int found = 0, same = 0;
            int k = wanted[w] < r->count ? wanted[w] : r->count;
            UP_ASSERT_OK(up_index_search(index, query, wanted[w], threads, hits, &found));
            CU_ASSERT_EQUAL(found, k);
            for (int i = 0; i < found; i++)
                same += hits[i].row == all[i].row && hits[i].score == all[i].score;
            CU_ASSERT_EQUAL(same, k);
        }
    free(all);
    free(hits);
}

static void best_are_those_of_a_plain_loop(void) {
    const int counts[] = {1, 257, 5000}, widths[] = {1, 64, 130, 768};
    const double spreads[] = {1, 0.05};
    state = up_test_seed();
    for (int c = 0; c < 3; c++)
        for (int w = 0; w < 4; w++)
            for (int s = 0; s < 2; s++) {
                rows r = make_rows(counts[c], widths[w], spreads[s]);
                rows queries = make_rows(3, widths[w], 1);
                up_index *index = write_and_open(&r);
                for (int q = 0; q < 3; q++) compare(index, &r, queries.values + q * widths[w]);
                compare(index, &r, r.values); /* a row finds itself */
                up_index_close(index);
                free(r.values);
                free(queries.values);
            }
    unlink(path);
}

static void dots_are_those_of_a_plain_loop(void) {
    enum { STRIDE = 192, COUNT = 50 };
    int8_t *at = aligned_alloc(64, STRIDE * COUNT);
    uint8_t *query = aligned_alloc(64, STRIDE);
    int32_t sums[COUNT];
    for (int i = 0; i < STRIDE * COUNT; i++)
        at[i] = (int8_t)(i < STRIDE ? 127 : i < 2 * STRIDE ? -127 : 127 * draw());
    for (int i = 0; i < STRIDE; i++) query[i] = 255;
    up_index_dots(at, STRIDE, COUNT, query, sums);
    for (int r = 0; r < COUNT; r++) {
        int32_t sum = 0;
        for (int i = 0; i < STRIDE; i++) sum += at[r * STRIDE + i] * query[i];
        CU_ASSERT_EQUAL(sums[r], sum);
    }
    free(at);
    free(query);
}

/* A byte anywhere in the file: it is not opened, or the check finds it, unless it lies between two sections.
 */
static void damage_is_found(void) {
    rows r = make_rows(60, 70, 1);
    void *bytes;
    size_t size;
    int missed = 0;
    up_index_close(write_and_open(&r));
    UP_ASSERT_OK(up_file_read(path, &bytes, &size));
    for (size_t i = 0; i < size; i += 7) {
        up_index *index = NULL;
        ((unsigned char *)bytes)[i] ^= 0x40;
        UP_ASSERT_OK(up_file_write(path, bytes, size));
        if (up_index_open(path, &index) == UP_OK && up_index_check(index) == UP_OK) missed++;
        up_index_close(index);
        ((unsigned char *)bytes)[i] ^= 0x40;
    }
    CU_ASSERT_TRUE(missed <= 5 * 63 / 7 + 5); /* what lies between the sections is nothing */
    for (size_t i = 0; i < size; i += 97) {
        up_index *index = NULL;
        UP_ASSERT_OK(up_file_write(path, bytes, i));
        CU_ASSERT_EQUAL(up_index_open(path, &index), UP_ERR_FORMAT);
        CU_ASSERT_PTR_NULL(index);
    }
    free(bytes);
    free(r.values);
    unlink(path);
}

static void refusals(void) {
    rows r = make_rows(3, 8, 1);
    up_index *index = write_and_open(&r);
    up_index_hit hits[3];
    int found;
    float far[8] = {2}, none[8] = {0}, odd[8] = {NAN};
    CU_ASSERT_EQUAL(up_index_search(index, far, 1, 1, hits, &found), UP_ERR_NUMERIC);
    CU_ASSERT_EQUAL(up_index_search(index, none, 1, 1, hits, &found), UP_ERR_NUMERIC);
    CU_ASSERT_EQUAL(up_index_search(index, odd, 1, 1, hits, &found), UP_ERR_NUMERIC);
    CU_ASSERT_EQUAL(up_index_search(index, r.values, 0, 1, hits, &found), UP_ERR_ARGUMENT);
    up_index_close(index);
    memset(r.values, 0, 8 * sizeof *r.values);
    CU_ASSERT_EQUAL(up_index_write(path, &(up_index_about){3, 8, 0, 0}, give, &r), UP_ERR_NUMERIC);
    CU_ASSERT_EQUAL(up_index_write(path, &(up_index_about){0, 8, 0, 0}, give, &r), UP_ERR_ARGUMENT);
    UP_ASSERT_OK(up_index_open(path, &index)); /* the one before is whole */
    up_index_close(index);
    free(r.values);
    unlink(path);
}

const char *const up_suite_name = "index";
const up_test up_tests[] = {{"what_is_written_is_read", what_is_written_is_read},
                            {"best_are_those_of_a_plain_loop", best_are_those_of_a_plain_loop},
                            {"dots_are_those_of_a_plain_loop", dots_are_those_of_a_plain_loop},
                            {"damage_is_found", damage_is_found},
                            {"refusals", refusals},
                            {NULL, NULL}};
