/* bench_peak.c - what this machine can do at most: multiply-adds a second of each instruction set and type,
 * and memory bandwidth, with one thread and with all. Other figures are shares of these. */
#include "bench/common.h"
#include "bench/machine.h"

static void print_machine(const up_machine *m) {
    printf("%s; %s; %d processors, %.1f GiB; L1d %ld KiB, L2 %ld KiB a core, L3 %ld KiB; %s\n", m->model,
           m->features, m->processors, m->memory_gib, m->l1d >> 10, m->l2 >> 10, m->l3 >> 10, m->system);
}

static void print_flops(int json, up_isa isa, up_dtype dtype, int threads, double seconds) {
    up_rate rate = up_machine_flops(isa, dtype, threads, seconds);
    const char *form =
        json ? "{\"peak\": \"flops\", \"isa\": \"%s\", \"dtype\": \"%s\", \"instruction\": \"%s\", "
               "\"threads\": %d, \"gflops\": %.1f, \"core_gflops\": %.1f}\n"
             : "%-8s %-6s %-14s %3d threads %10.1f GFLOP/s %10.1f a core\n";
    printf(form, up_isa_name(isa), up_bench_dtype_name(dtype), up_machine_instruction(isa, dtype), threads,
           rate.all, rate.core);
    fflush(stdout);
}

static void print_bandwidth(int json, up_stream stream, int threads) {
    up_rate rate = up_machine_bandwidth(stream, threads);
    const char *form = json ? "{\"peak\": \"bandwidth\", \"stream\": \"%s\", \"threads\": %d, \"gbps\": "
                              "%.1f, \"core_gbps\": %.1f}\n"
                            : "memory   %-21s %3d threads %10.1f GB/s    %10.1f a core\n";
    printf(form, up_stream_name(stream), threads, rate.all, rate.core);
    fflush(stdout);
}

int main(int argc, char **argv) {
    static const up_dtype dtypes[] = {UP_F32, UP_BF16};
    up_machine machine;
    int json = 0, threads = 0;
    double seconds = 0.4;
    const up_option options[] = {
        {"--threads", UP_OPTION_WHOLE, &threads, 0, "the most that are started; 0: all processors"},
        {"--seconds", UP_OPTION_REAL, &seconds, 0.01, "of each measurement"},
        {"--json", UP_OPTION_FLAG, &json, 0, "one object a line"},
        {0}};
    if (up_bench_options(
            argc, argv,
            "bench_peak [OPTION...]: multiply-adds and bytes a second of this machine; the "
            "GFLOP/s of all threads, of the set and type that a training uses, are its key `peak`",
            options))
        up_bench_die("it takes no words, see --help");
    up_machine_read(&machine);
    if (threads == 0) threads = machine.processors;
    if (json) {
        printf("{");
        up_machine_json(stdout, &machine);
        printf("}\n");
    } else
        print_machine(&machine);
    for (int isa = UP_ISA_COUNT - 1; isa >= 0; isa--)
        for (int d = 0; d < 2 && up_isa_here((up_isa)isa); d++)
            for (int n = 1; n <= threads; n += threads > 1 ? threads - 1 : 1)
                print_flops(json, (up_isa)isa, dtypes[d], n, seconds);
    for (int s = 0; s < UP_STREAM_COUNT; s++)
        for (int n = 1; n <= threads; n += threads > 1 ? threads - 1 : 1)
            print_bandwidth(json, (up_stream)s, n);
    return 0;
}
