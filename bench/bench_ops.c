/* bench_ops.c - time of each operation of a backend, forward and backward: medians by the clock, and of all
 * cores together, which other work on the machine disturbs less. Products as a share of the multiply-adds
 * that this process reached just before, by the instruction set that the backend takes; the others as a share
 * of the bandwidth of a copy (more than 1: the tensors are in the caches). */
#include "bench/common.h"
#include "bench/machine.h"
#include "bench/operations.h"

#include <stdlib.h>
#include <string.h>

enum { REPETITIONS = 1000 };

typedef struct options {
    const char *backend, *isa;
    up_dtype dtype;
    int json, threads;
    double seconds;
} options;

/* Of one core while all are at work, and how many those are: other work on the machine does not lower it. */
typedef struct limits {
    double flops, bandwidth; /* GFLOP/s, GB/s */
    int threads;
} limits;

typedef struct times {
    double wall, cores; /* seconds */
} times;

/* Median seconds of one call by the clock, and of all cores together. */
static times measure(up_operation_state *s, double seconds) {
    static double wall[REPETITIONS], cores[REPETITIONS];
    const up_backend_ops *ops = s->b->ops;
    int count = 0;
    UP_BENCH_OK(s->row->run(s));
    UP_BENCH_OK(ops->sync(s->b)); /* warm */
    for (double start = up_bench_now();
         count < REPETITIONS && (count < 5 || up_bench_now() - start < seconds); count++) {
        double before = up_bench_now(), used = up_bench_processor();
        UP_BENCH_OK(s->row->run(s));
        UP_BENCH_OK(ops->sync(s->b));
        wall[count] = up_bench_now() - before;
        cores[count] = up_bench_processor() - used;
    }
    return (times){up_bench_median(wall, count), up_bench_median(cores, count)};
}

static void print_row(const up_operation_state *s, const options *o, const limits *l, times t) {
    int computes = up_operation_computes(s->row);
    double amount = 1e-9 * (computes ? s->flop : s->bytes);
    double peak = computes ? l->flops : l->bandwidth;
    double share = amount / t.wall / (peak * l->threads), core_share = amount / t.cores / peak;
    if (!o->json) {
        printf("%-26s %10.3f %10.1f %8.1f %10.3f %10.1f %7.1f%% %7.1f%% of %s\n", s->row->name, 1e3 * t.wall,
               1e-9 * s->flop / t.wall, 1e-9 * s->bytes / t.wall, 1e3 * t.cores, 1e-9 * s->flop / t.cores,
               100 * share, 100 * core_share, computes ? "FMA" : "copy");
        return;
    }
    printf(
        "{\"operation\": \"%s\", \"backend\": \"%s\", \"isa\": \"%s\", \"dtype\": \"%s\", \"threads\": %d, "
        "\"ms\": %.4f, \"gflops\": %.2f, \"gbps\": %.2f, \"core_ms\": %.4f, \"core_gflops\": %.2f, "
        "\"share\": %.4f, \"core_share\": %.4f, \"of\": \"%s\"}\n",
        s->row->name, o->backend, up_isa_name(up_isa_chosen()), up_bench_dtype_name(o->dtype), l->threads,
        1e3 * t.wall, 1e-9 * s->flop / t.wall, 1e-9 * s->bytes / t.wall, 1e3 * t.cores,
        1e-9 * s->flop / t.cores, share, core_share, computes ? "flops" : "copy");
}

static limits measure_limits(const options *o) {
    up_isa isa = up_isa_chosen();
    int threads = up_bench_threads(o->backend, o->threads);
    limits l = {up_machine_flops(isa, o->dtype, threads, 0.2).core,
                up_machine_bandwidth(UP_STREAM_COPY, threads).core, threads};
    const char *form =
        o->json ? "{\"peak\": \"both\", \"isa\": \"%s\", \"threads\": %d, \"instruction\": \"%s\", "
                  "\"core_gflops\": %.1f, \"core_copy_gbps\": %.1f}\n"
                : "%s, %d threads; of one core: %s %.1f GFLOP/s, copy %.1f GB/s\n";
    printf(form, up_isa_name(isa), threads, up_machine_instruction(isa, o->dtype), l.flops, l.bandwidth);
    return l;
}

static int wanted(const char *name, char **words, int count) {
    for (int k = 0; k < count; k++)
        if (strstr(name, words[k])) return 1;
    return count == 0;
}

int main(int argc, char **argv) {
    options o = {.backend = "cpu", .dtype = UP_F32, .seconds = 0.3};
    const up_option table[] = {
        {"--backend", UP_OPTION_TEXT, &o.backend, 0, "cpu or ref"},
        {"--threads", UP_OPTION_WHOLE, &o.threads, 0, "0: as many as the backend takes"},
        {"--isa", UP_OPTION_TEXT, &o.isa, 0, "avx512, avx2 or base; else what the backend takes"},
        {"--dtype", UP_OPTION_DTYPE, &o.dtype, 0, "of the activations"},
        {"--seconds", UP_OPTION_REAL, &o.seconds, 0, "of each row, at least 5 calls"},
        {"--json", UP_OPTION_FLAG, &o.json, 0, "one object a line"},
        {0}};
    int words = up_bench_options(argc, argv,
                                 "bench_ops [WORD...] [OPTION...]: the operations whose name holds "
                                 "one of the words; without a word, all",
                                 table);
    up_backend *b = NULL;
    if (o.isa) up_isa_force(up_isa_named(o.isa));
    limits l = measure_limits(&o);
    UP_BENCH_OK(up_backend_create(o.backend, o.threads, &b));
    if (!o.json)
        printf("%-26s %10s %10s %8s %10s %10s %8s %8s\n", "operation", "ms", "GFLOP/s", "GB/s", "core ms",
               "GFLOP/s", "share", "a core's");
    for (const up_operation *row = up_operations; row->name; row++) {
        up_operation_state s;
        if (!wanted(row->name, argv + 1, words)) continue;
        up_operation_open(row, b, o.dtype, &s);
        times t = measure(&s, o.seconds);
        print_row(&s, &o, &l, t);
        up_operation_close(&s);
        fflush(stdout);
    }
    up_backend_free(b);
    return 0;
}
