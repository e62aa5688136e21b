/* index_file.h - what the files of an index share: how it lies in memory, and rows in 8 bits. */
#ifndef UP_INFER_INDEX_FILE_H
#define UP_INFER_INDEX_FILE_H

#include "infer/index.h"

#include <stddef.h>

enum { UP_INDEX_LINE = 64, UP_INDEX_MAX_WIDTH = 65536 };

/* A row x is `scale` times its 8-bit row, and a rest of length `error` at most. */
typedef struct up_index_coarse {
    float scale, error;
    int32_t sum; /* of the 8-bit row */
} up_index_coarse;

struct up_index {
    char *path;
    void *map;
    size_t bytes;
    up_index_about about;
    size_t stride; /* bytes of an 8-bit row: the width, made a multiple of UP_INDEX_LINE */
    const struct up_index_record *records;
    const char *names;
    const int8_t *bytes8;
    const up_index_coarse *coarse;
    const float *rows;
};

/* x [width] in 8 bits: out [stride], zeros behind the row. Answers scale, error (rounded up) and sum. */
up_index_coarse up_index_quantize(const float *x, int width, size_t stride, int8_t *out);

/* sums[i] = the dot product of 8-bit row i with query + 128, which is unsigned; stride a multiple of
 * UP_INDEX_LINE, everything at multiples of it. */
void up_index_dots(const int8_t *rows, size_t stride, int count, const uint8_t *query, int32_t *sums);

#endif
