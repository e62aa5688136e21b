/* steps.h - the steps that are measured: encoding, training, tuning, the vocabulary, captions. */
#ifndef UP_BENCH_STEPS_H
#define UP_BENCH_STEPS_H

#include "bench/machine.h"
#include "bench/worker.h"
#include "uniperceiver/tensor.h"

typedef struct up_step_options {
    const char *preset, *backend;
    up_isa isa; /* that the cpu backend is made to take */
    up_dtype dtype;
    int threads;
    int pictures; /* of a batch */
    int texts;    /* of a batch */
    int tokens;   /* of a chunk of the vocabulary */
    int entries;  /* of the vocabulary; 0: all */
} up_step_options;

typedef struct up_step_case {
    const char *name, *unit, *what;
    const up_measure *measure; /* of up_step_options */
} up_step_case;

/* Ended by a case without a name. */
extern const up_step_case up_step_cases[];

/* Lengths of `count` texts, tokens with the end token and without the leading <SPE>: log-normal, mean 15 and
 * standard deviation 8, between 3 and 77; the same every time. */
void up_step_lengths(int count, int *lengths);

#endif
