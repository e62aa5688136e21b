/* operations.h - the operations of a backend at the shapes of the demo (width 128) and of Base (width 768):
 * one row of a table each, which prepares its tensors, runs it, and says how much it computes and moves. */
#ifndef UP_BENCH_OPERATIONS_H
#define UP_BENCH_OPERATIONS_H

#include "uniperceiver/backend.h"

enum { UP_OPERATION_TENSORS = 16 };

typedef struct up_operation up_operation;

typedef struct up_operation_state {
    up_backend *b;
    const up_operation *row;
    up_buffer *buffer[UP_OPERATION_TENSORS + 1];
    up_view t[UP_OPERATION_TENSORS], scratch;
    up_dtype dtype;      /* of the activations */
    up_buffer *prepared; /* of a weight, where the backend has such */
    up_view prepared_view;
    int used, max_keys;
    double flop, bytes; /* of one call, set by prepare */
} up_operation_state;

/* One line of the table: what is run, and its shape. */
struct up_operation {
    const char *name;
    up_op op;
    void (*prepare)(up_operation_state *s, int64_t n, int64_t i, int64_t o);
    up_status (*run)(up_operation_state *s);
    int64_t n, i, o;
};

/* Ended by a row without a name. */
extern const up_operation up_operations[];

/* 1: its time is that of its products; 0: that of the memory it reads and writes. */
int up_operation_computes(const up_operation *row);

/* Tensors and scratch of a row, on a backend; run it by row->run(s). */
void up_operation_open(const up_operation *row, up_backend *b, up_dtype dtype, up_operation_state *s);
void up_operation_close(up_operation_state *s);

#endif
