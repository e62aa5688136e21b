/* npy.h - NumPy .npy arrays (format 1.0 and 2.0, C order, little endian), for features, masks and fixtures.
 */
#ifndef UP_FILES_NPY_H
#define UP_FILES_NPY_H

#include "uniperceiver/status.h"
#include <stddef.h>
#include <stdint.h>

enum { UP_NPY_MAX_DIMS = 8 };

typedef enum up_npy_type { UP_NPY_U8, UP_NPY_I32, UP_NPY_I64, UP_NPY_F32, UP_NPY_F64 } up_npy_type;

typedef struct up_npy {
    up_npy_type type;
    int ndim;
    int64_t shape[UP_NPY_MAX_DIMS];
    int64_t count; /* product of the shape */
    void *data;    /* malloc'ed, count elements, C order */
} up_npy;

/* Read a file; the header is checked like hostile input. Free with up_npy_free (fine on a zeroed struct). */
up_status up_npy_read(const char *path, up_npy *out);
up_status up_npy_write(const char *path, up_npy_type type, int ndim, const int64_t *shape, const void *data);
/* The same piece by piece: what stands before the values. UP_NPY_HEAD bytes for any shape of two sizes. */
enum { UP_NPY_HEAD = 128, UP_NPY_HEAD_ROOM = 512 };
up_status up_npy_head(const char *path, up_npy_type type, int ndim, const int64_t *shape,
                      unsigned char head[UP_NPY_HEAD_ROOM], size_t *length);
void up_npy_free(up_npy *array);
size_t up_npy_type_size(up_npy_type type);

#endif
