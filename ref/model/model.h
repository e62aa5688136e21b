/* model.h - what the files of ref/model share of a model: its struct, and how one parameter is initialised.
 * The public face is include/uniperceiver/model.h. */
#ifndef UP_REF_MODEL_MODEL_H
#define UP_REF_MODEL_MODEL_H

#include "uniperceiver/model.h"

/* A weight in the form that the backend likes. */
typedef struct up_prepared {
    int param;
    int64_t first, rows;
    up_dtype dtype;
    int backward; /* 1: for dx too; -1: there was no memory */
    size_t bytes;
    up_buffer *buffer;
    uint64_t version; /* of the weights that it was made from; 0: never */
} up_prepared;

struct up_model {
    up_backend *backend; /* borrowed */
    up_model *base;      /* borrowed; NULL: no overlay */
    up_config config;
    up_params params;   /* of an overlay: offsets of its own tensors are in its own buffer */
    int *shared;        /* [params.count] an overlay's tensor -> the base's, -1: its own; NULL without base */
    up_buffer *weights; /* f32: own tensors, each padded to UP_SEGMENT_UNIT */
    void (*let_go)(
        void *); /* not NULL: `weights` is memory of memory_owner's, tensors lie as they are there */
    void *memory_owner;
    int64_t own; /* elements of `weights` */
    uint64_t version;
    uint64_t fingerprint; /* of the weights at this version; 0: nobody has taken it */
    int32_t *targets;     /* vocabulary entries of language tasks; NULL: all */
    int target_count;
    char **classes; /* [class_count] names of the head's rows; NULL: they have none */
    int class_count;

    up_prepared *prepared; /* [prepared_count] */
    int prepared_count, prepared_room;
    uint64_t prepared_version;
};

/* Initial values of one tensor (params.c). */
void up_param_init(const up_param *param, uint64_t seed, float *out);

/* At least `wanted` bytes in *buffer; what was in it is gone where it had to grow (model.c). */
up_status up_grow_buffer(up_backend *b, up_buffer **buffer, size_t *bytes, size_t wanted);

/* Refuses a backend whose table is of another version or size (model.c). */
up_status up_backend_check(const up_backend *backend);
/* Refuses what the backend does not support, by its reason; *scratch becomes what the operation needs, where
 * that is more. */
up_status up_backend_ask(up_backend *backend, up_op op, const up_op_dims *dims, size_t *scratch);

#endif
