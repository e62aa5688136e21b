/* machine.h - the machine that a measurement ran on, and what it can do at most: multiply-adds a second by
 * micro-kernel and bytes a second by streaming, measured in the same process as what is compared with them.
 * Every share of a peak in this folder is a share of these. */
#ifndef UP_BENCH_MACHINE_H
#define UP_BENCH_MACHINE_H

#include "uniperceiver/tensor.h"

#include <stdio.h>

typedef enum up_isa { UP_ISA_BASE, UP_ISA_AVX2, UP_ISA_AVX512, UP_ISA_COUNT } up_isa;

const char *up_isa_name(up_isa isa);
up_isa up_isa_named(const char *name); /* one that is unknown, or not this processor's, ends the program */
int up_isa_here(up_isa isa);           /* does this processor run it? */
/* The one that the cpu backend takes: the best, or what UP_CPU_ISA says (backend_cpu/dispatch.c). */
up_isa up_isa_chosen(void);
/* Makes a cpu backend that is created later take it, and the libraries of products under it no better one. */
void up_isa_force(up_isa isa);

typedef struct up_machine {
    char model[128];    /* of the processor, as it calls itself */
    char features[256]; /* those that matter here */
    long l1d, l2, l3;   /* bytes, of one core; 0: not known */
    int processors;     /* that this process may run on */
    double memory_gib;  /* of the machine */
    char system[128];   /* kernel */
} up_machine;
void up_machine_read(up_machine *out);

typedef struct up_rate {
    double all;  /* threads together, by the clock: GFLOP/s or GB/s */
    double core; /* of one thread, by its processor time: what other work on the machine disturbs less */
} up_rate;

/* What the fastest instruction for products of a type reaches, with sums in f32: vfmadd; for bf16 under
 * avx512, AMX or vdpbf16ps where the processor has them. Other 16-bit products are f32's. The best of some
 * rounds of `seconds` / 8. 2 FLOP a multiply-add. */
up_rate up_machine_flops(up_isa isa, up_dtype dtype, int threads, double seconds);
const char *up_machine_instruction(up_isa isa, up_dtype dtype);

typedef enum up_stream { UP_STREAM_READ, UP_STREAM_COPY, UP_STREAM_TRIAD, UP_STREAM_COUNT } up_stream;
const char *up_stream_name(up_stream stream);
/* Bytes that a loop over arrays of several times the last cache asks for: read 1 array, copy 2, triad 3 (what
 * a store fetches first is not counted). The best of some rounds. */
up_rate up_machine_bandwidth(up_stream stream, int threads);

/* The same as JSON fields: "machine": {...}. */
void up_machine_json(FILE *to, const up_machine *machine);

#endif
