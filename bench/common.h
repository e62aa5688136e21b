/* common.h - what the programs of this folder share: options with their help, clocks, medians, memory, JSON.
 */
#ifndef UP_BENCH_COMMON_H
#define UP_BENCH_COMMON_H

#include "uniperceiver/status.h"
#include "uniperceiver/tensor.h"

#include <stdint.h>
#include <stdio.h>

/* A measurement that fails has no result: the program ends with the library's message. */
#define UP_BENCH_OK(call)                                                                                    \
    do {                                                                                                     \
        if ((call) != UP_OK) up_bench_die(up_last_error());                                                  \
    } while (0)
void up_bench_die(const char *message) __attribute__((noreturn));

/* Zeroed memory, or the end. */
void *up_bench_room(size_t count, size_t size);

/* ---- options: a table, from which --help is printed ---- */

typedef enum up_option_type {
    UP_OPTION_FLAG,  /* int: 1 where it stands */
    UP_OPTION_WHOLE, /* int, from `least` on */
    UP_OPTION_REAL,  /* double, from `least` on */
    UP_OPTION_TEXT,  /* const char * */
    UP_OPTION_DTYPE  /* up_dtype: f32, bf16, f16 */
} up_option_type;

typedef struct up_option {
    const char *name; /* "--threads" */
    up_option_type type;
    void *value; /* holds the default */
    double least;
    const char *help;
} up_option;

/* Reads argv by a table ended by a row without a name; --help prints `usage` and the table and ends the
 * program, what is unknown ends it with exit code 2. Words that are no options are moved to the front of
 * argv[1...]; returns how many there are. */
int up_bench_options(int argc, char **argv, const char *usage, const up_option *table);

const char *up_bench_dtype_name(up_dtype dtype);

/* How many threads a backend takes where `wanted` are asked for; 0: its own choice. */
int up_bench_threads(const char *backend, int wanted);

/* ---- clocks and memory ---- */

double up_bench_now(void);       /* seconds */
double up_bench_processor(void); /* of all threads together: other work on the machine disturbs it less */
double up_bench_thread(void);    /* of the calling thread */
double up_bench_peak_mib(void);  /* largest resident memory of this process so far */
double up_bench_median(double *values, int count); /* sorts them */
double up_bench_least(const double *values, int count);

/* ---- JSON: one object a line ---- */

/* A string with its quotes. */
void up_bench_json_text(FILE *to, const char *text);

#endif
