/* worker.h - a measurement as a process of its own: it makes ready, then does one turn whenever it is asked
 * to. So several are measured in turns, under the same conditions, and each has its own peak of memory. A
 * program forks its workers; another program (bench/peers/compare.py) drives one through its input and
 * output. */
#ifndef UP_BENCH_WORKER_H
#define UP_BENCH_WORKER_H

#include <sys/types.h>

typedef struct up_turn {
    double seconds, processor; /* by the clock; of all threads */
} up_turn;

/* What a turn is, and what the process took. */
typedef struct up_report {
    double samples, tokens;  /* of a turn: pictures, texts, entries, captions, bytes; 0: does not apply */
    double needed, executed; /* FLOP of a turn */
    double activations_mib;  /* of the encoders that a turn uses */
    double peak_mib;         /* largest resident memory of the process */
    double learns;           /* numbers that learn */
} up_report;

/* A measurement: `open` makes it ready, `run` is a turn, `report` fills all but the peak. */
typedef struct up_measure {
    void *(*open)(const void *options);
    void (*prepare)(void *state); /* before each turn, not counted in it; NULL: nothing */
    void (*run)(void *state);
    void (*report)(void *state, up_report *report);
    void (*close)(void *state);
} up_measure;

typedef struct up_worker {
    pid_t process;
    int to, from;
} up_worker;

/* Starts a worker; call it before the program has threads of its own. */
void up_worker_start(up_worker *worker, const up_measure *measure, const void *options);
/* One turn; what failed in the worker ends the program. */
void up_worker_turn(up_worker *worker, up_turn *turn);
void up_worker_end(up_worker *worker, up_report *report);

/* This process as a worker: after "ready", each line of the input is a turn, answered by a line of JSON; the
 * report follows at its end. */
void up_worker_serve(const up_measure *measure, const void *options);

#endif
