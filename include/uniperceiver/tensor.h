/* tensor.h - element types and views. A view is a description, never memory: it names a buffer that only its
 * backend can read, where it starts, and its shape. All tensors of the model are matrices [rows, cols],
 * row-major.
 *
 * Shape letters, everywhere: S sequences, N tokens (rows of a packed batch), D width, H heads, L layers, F
 * FFN width, P prompts, Q queries (read-out rows of inputs), V targets (read-out rows of a target set), R
 * read-out rows of a batch.
 */
#ifndef UNIPERCEIVER_TENSOR_H
#define UNIPERCEIVER_TENSOR_H

#include "uniperceiver/status.h"
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum up_dtype { UP_F32, UP_F16, UP_BF16, UP_I32, UP_U8 } up_dtype;

static inline size_t up_dtype_size(up_dtype dtype) {
    return dtype == UP_F32 || dtype == UP_I32 ? 4 : dtype == UP_U8 ? 1 : 2;
}

typedef struct up_buffer up_buffer; /* opaque; owned by the backend that made it */

typedef struct up_view {
    up_buffer *buffer; /* NULL: the tensor is absent (an all-zero view) */
    int64_t offset;    /* of element [0, 0], in elements from the start of the buffer */
    int64_t rows, cols;
    int64_t stride; /* elements from one row to the next, >= cols */
    up_dtype dtype;
} up_view;

/* A dense [rows, cols] view at an element offset. */
static inline up_view up_view_at(up_buffer *buffer, up_dtype dtype, int64_t offset, int64_t rows,
                                 int64_t cols) {
    up_view view = {buffer, offset, rows, cols, cols, dtype};
    return view;
}

/* Rows first..first+count-1 of a view. */
static inline up_view up_view_rows(up_view v, int64_t first, int64_t count) {
    v.offset += first * v.stride;
    v.rows = count;
    return v;
}

/* Columns first..first+count-1 of a view: the stride stays. */
static inline up_view up_view_cols(up_view v, int64_t first, int64_t count) {
    v.offset += first;
    v.cols = count;
    return v;
}

static inline int up_view_present(up_view v) {
    return v.buffer != NULL;
}

#ifdef __cplusplus
}
#endif
#endif
