/* safetensors.h - named tensors in one file: 8 bytes of header length (little endian), a JSON header, the
 * data. Read by memory map with the header checked like hostile input; written as a stream in a given order.
 */
#ifndef UP_FILES_SAFETENSORS_H
#define UP_FILES_SAFETENSORS_H

#include "uniperceiver/status.h"
#include <stddef.h>
#include <stdint.h>

enum { UP_SAFETENSORS_MAX_DIMS = 8, UP_SAFETENSORS_MAX_HEADER = 100000000 };

typedef enum up_safetensors_type {
    UP_ST_BOOL,
    UP_ST_U8,
    UP_ST_I8,
    UP_ST_U16,
    UP_ST_I16,
    UP_ST_F16,
    UP_ST_BF16,
    UP_ST_U32,
    UP_ST_I32,
    UP_ST_F32,
    UP_ST_U64,
    UP_ST_I64,
    UP_ST_F64
} up_safetensors_type;

typedef struct up_safetensor {
    const char *name;
    up_safetensors_type type;
    int ndim;
    int64_t shape[UP_SAFETENSORS_MAX_DIMS];
    int64_t count;    /* product of the shape */
    size_t bytes;     /* count x size of the type */
    const void *data; /* inside the map; may be unaligned (memcpy, or up_safetensor_to_f32). NULL in a spec to
                         write */
} up_safetensor;

typedef struct up_safetensors up_safetensors;

/* Map a file. A header that lies, overlaps, leaves gaps or holds a name twice is an error that names file and
 * tensor. The file must not be shortened while it is open (the system would end the program on access). */
up_status up_safetensors_open(const char *path, up_safetensors **out);
void up_safetensors_close(up_safetensors *st); /* NULL is fine */

/* The whole file: memory whose changes the file does not see. */
void *up_safetensors_map(const up_safetensors *st, size_t *bytes);

size_t up_safetensors_count(const up_safetensors *st);
const up_safetensor *up_safetensors_at(const up_safetensors *st, size_t i); /* in the order of the data */
const up_safetensor *up_safetensors_find(const up_safetensors *st, const char *name); /* or NULL */
const char *up_safetensors_metadata(const up_safetensors *st, const char *key);       /* or NULL */
size_t up_safetensors_metadata_count(const up_safetensors *st);
void up_safetensors_metadata_at(const up_safetensors *st, size_t i, const char **key, const char **value);

const char *up_safetensors_type_name(up_safetensors_type type); /* "F32" */
size_t up_safetensors_type_size(up_safetensors_type type);      /* bytes */

/* count values as f32: exact from F32, F16 and BF16 (NaN stays NaN), rounded from F64; other types are an
 * error. */
up_status up_safetensor_to_f32(const up_safetensor *tensor, float *out);

/* Writing: begin with all specs (name, type, ndim, shape; the rest is ignored), put the data of each in that
 * order, commit. metadata is pair_count x {key, value}. The old file stays until commit succeeds; commit and
 * abort free. */
typedef struct up_safetensors_writer up_safetensors_writer;
up_status up_safetensors_begin(const char *path, const char *const (*metadata)[2], size_t pair_count,
                               const up_safetensor *specs, size_t count, up_safetensors_writer **out);
up_status up_safetensors_put(up_safetensors_writer *writer, const void *data, size_t bytes);
up_status up_safetensors_commit(up_safetensors_writer *writer);
void up_safetensors_abort(up_safetensors_writer *writer); /* NULL is fine */

/* What every writer of tensors sees to: `given` bytes are those of the next of `count` tensors, and at the
 * end all are there. */
up_status up_tensors_take(const char *path, const size_t *bytes, size_t count, size_t *next, size_t given);
up_status up_tensors_end(const char *path, size_t count, size_t next);

#endif
