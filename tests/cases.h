/* cases.h - one description of a case for the tests of the reference, the parity of a backend, and the
 * benchmark: a row of up_case_kinds draws a shape and inputs from a seed, launches the operation forward and
 * backward on any backend, and knows the exact result with the error that an honest computation makes
 * (running.h).
 *
 * Every case draws the element type of its activations: f32, bf16 or f16 (UP_CASE_DTYPE in the environment
 * chooses one for all). Half-sized inputs hold values that exist in their type.
 *
 * To add a case: a row in up_case_kinds (cases.c) with its `make`, `launch` and `oracle`. */
#ifndef UP_TESTS_CASES_H
#define UP_TESTS_CASES_H

#include "tests/running.h"
#include "uniperceiver/backend.h"
#include "uniperceiver/random.h"

enum { UP_CASE_TENSORS = 24, UP_CASE_SHAPE = 6 };

typedef enum up_role {
    UP_ROLE_ABSENT,
    UP_ROLE_IN,
    UP_ROLE_OUT,   /* poisoned, then set */
    UP_ROLE_CHANGE /* holds a value that is added to or overwritten */
} up_role;

typedef struct up_case_tensor {
    const char *name;
    up_role role;
    up_dtype dtype;
    int64_t rows, cols;
    int home;            /* the tensor whose buffer it lies in; itself by default */
    int64_t col, gap;    /* first column there; columns between the rows of a home */
    int64_t margin;      /* elements before and behind a home */
    int grad;            /* the tensor that holds the gradient of this one, or -1 */
    int upstream;        /* the tensor that holds dL/d(this), or -1 */
    double upstream_all; /* without it: the same dL/d(this) for every element */
    void *data;          /* [rows, cols] dense content before, floats where the type is f32, f16 or bf16;
                            NULL for UP_ROLE_OUT */
    up_num *num;         /* [rows, cols] what the oracle computes, of the float types */
} up_case_tensor;

typedef struct up_case up_case;

typedef struct up_case_kind {
    const char *name;
    up_op op;
    int64_t limit;            /* the largest size that `make` draws in the parity test */
    void (*make)(up_case *c); /* fills t, dims, shape and options from rng and limit */
    up_status (*launch)(const up_case *c, up_backend *b, const up_view *v, up_view scratch);
    void (*oracle)(up_case *c,
                   int backward); /* fills num of the outputs; NULL: the reference's bits are the answer */
} up_case_kind;

struct up_case {
    const up_case_kind *kind;
    uint64_t seed;
    up_rng rng;
    int64_t limit;
    const int64_t *sizes; /* [size_count] given instead of drawn, the first ones first */
    int size_count;
    int smooth;       /* leave out points where the operation has no derivative */
    int exact;        /* small integers: every honest result is equal, whatever the order of the sums */
    up_dtype dtype;   /* of the activations */
    int half_weights; /* the oracle's computation rounds weights to that type first */
    up_op_dims dims;
    char shape[160];
    up_case_tensor t[UP_CASE_TENSORS];
    int64_t options[8]; /* the kind's own */
    double numbers[8];
};

/* A case of all kinds' table by seed; limit 0: the kind's own. NULL: out of memory. */
up_case *up_case_make(const up_case_kind *kind, uint64_t seed, int64_t limit, int smooth);
/* The same, with the first `count` sizes that `make` asks for given, e.g. a model's. */
up_case *up_case_make_sized(const up_case_kind *kind, uint64_t seed, const int64_t *sizes, int count);
void up_case_free(up_case *c);

/* Compute num of every tensor, in an arithmetic whose rounding unit is `unit`; 2^-53 is the reference's,
 * which takes weights as they are. */
void up_case_solve(up_case *c, double unit);

/* A case on a backend: buffers placed and filled; launched as often as wanted; results fetched. */
typedef struct up_placed {
    up_backend *backend;
    up_buffer *buffer[UP_CASE_TENSORS], *scratch_buffer;
    up_view view[UP_CASE_TENSORS], scratch;
} up_placed;

up_status up_case_place(const up_case *c, up_backend *b, up_placed *p);
up_status up_case_launch(const up_case *c, const up_placed *p);
/* Dense contents of all tensors that are not inputs, halves as floats; fails where anything beside them was
 * written. Freed by up_case_drop. */
up_status up_case_fetch(const up_case *c, const up_placed *p, void *result[UP_CASE_TENSORS]);
void up_case_remove(up_placed *p);
void up_case_drop(void *result[UP_CASE_TENSORS]);

/* All of the above: place, launch, fetch, remove. */
up_status up_case_run(const up_case *c, up_backend *b, void *result[UP_CASE_TENSORS]);

/* Checks every element of every output against the results of another backend, by the worst case and, where
 * there are enough elements, by the norm; or against the exact values (want = NULL), by the worst case.
 * `factor` times what an honest computation does wrong is allowed; nothing where c->exact. What is not finite
 * must be so on both sides. */
up_status up_case_check(const up_case *c, void *const *got, void *const *want, double factor);

/* Prints what failed and the one command that shows it again. */
void up_case_report(const up_case *c, const char *program, const char *backend, const char *why);

/* NULL, or what is wrong with a backend's table as a driver finds it that was built with this header. */
const char *up_table_fault(const up_backend_ops *ops);

extern const up_case_kind up_case_kinds[]; /* ended by a row without a name */
const up_case_kind *up_case_kind_named(const char *name);

/* What `make` is written with. */
int64_t up_case_dim(up_case *c, int64_t least); /* a size from `least` to limit: often 1, sometimes `least` */
int64_t up_case_size(up_case *c, int64_t drawn); /* the next of the sizes that are given, else `drawn` */
int up_case_chance(up_case *c, uint32_t one_in); /* 1 once in so many times */
void up_case_in(up_case *c, int t, const char *name, int64_t rows,
                int64_t cols); /* f32, normal or integers */
void up_case_change(up_case *c, int t, const char *name, int64_t rows, int64_t cols); /* likewise, += */
void up_case_out(up_case *c, int t, const char *name, int64_t rows, int64_t cols);
int32_t *up_case_index(up_case *c, int t, const char *name, int64_t rows, int64_t cols, int64_t below);
uint8_t *up_case_bytes(up_case *c, int t, const char *name, int64_t rows, int64_t cols); /* drawn */
float *up_case_floats(up_case *c, int t);
/* Gives a tensor another float type; what it holds is rounded to it. Absent tensors stay absent. */
void up_case_retype(up_case *c, int t, up_dtype dtype);
double up_case_round(up_dtype dtype, double x); /* the nearest value of a float type */

#endif
