/* bench_step.c - whole steps of a model, each type and instruction set in a process of its own, turn by turn:
 * medians, needed arithmetic as a share of the multiply-adds that this processor reached just before, memory.
 */
#include "bench/common.h"
#include "bench/steps.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_VARIANTS = 12, MOST_TURNS = 1000 };

typedef struct options {
    up_step_options step;
    const char *dtypes, *isas;
    int turns, warm, json, serve, memory, lengths;
} options;

/* One case at one type and instruction set. */
typedef struct variant {
    up_step_options options;
    up_worker worker;
    double seconds[MOST_TURNS], processor[MOST_TURNS];
    up_report report;
} variant;

/* ---- the variants that are asked for ---- */

static int named(const char *list, const char *name) {
    size_t length = strlen(name);
    for (const char *at = list; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (!strncmp(at, name, length) && (at[length] == ',' || !at[length])) return 1;
    }
    return 0;
}

static int list_variants(const options *o, variant *out) {
    static const up_dtype dtypes[] = {UP_F32, UP_BF16, UP_F16};
    int count = 0;
    for (int isa = UP_ISA_COUNT - 1; isa >= 0; isa--)
        for (int d = 0; d < 3; d++) {
            int wanted = o->isas ? named(o->isas, up_isa_name((up_isa)isa)) : isa == (int)up_isa_chosen();
            if (!wanted || !named(o->dtypes, up_bench_dtype_name(dtypes[d]))) continue;
            if (!up_isa_here((up_isa)isa)) {
                fprintf(stderr, "bench_step: this processor has no %s\n", up_isa_name((up_isa)isa));
                continue;
            }
            out[count].options = o->step;
            out[count].options.isa = (up_isa)isa;
            out[count++].options.dtype = dtypes[d];
        }
    return count;
}

/* ---- one case: all variants, in turns ---- */

/* The first `warm` turns, which take memory, are not counted. */
static void take_turns(const up_step_case *c, variant *variants, int count, int warm, int turns) {
    for (int v = 0; v < count; v++) up_worker_start(&variants[v].worker, c->measure, &variants[v].options);
    for (int t = -warm; t < turns; t++)
        for (int v = 0; v < count; v++) {
            up_turn turn;
            up_worker_turn(&variants[v].worker, &turn);
            if (t < 0) continue;
            variants[v].seconds[t] = turn.seconds;
            variants[v].processor[t] = turn.processor;
        }
    for (int v = 0; v < count; v++) up_worker_end(&variants[v].worker, &variants[v].report);
}

/* Of one core while all are at work: other work on the machine does not lower it. */
static double core_peak(const up_step_options *o, int threads) {
    static double known[UP_ISA_COUNT][3];
    double *peak = &known[o->isa][o->dtype];
    if (*peak == 0) *peak = up_machine_flops(o->isa, o->dtype, threads, 0.2).core;
    return *peak;
}

static void print_head(const options *o) {
    if (!o->json)
        printf("%-11s %-6s %-5s %-6s %3s %10s %10s %11s %11s %9s %6s %7s %8s %8s\n", "step", "preset", "type",
               "isa", "thr", "ms", "core ms", "samples/s", "tokens/s", "GFLOP/s", "share", "a core",
               "act MiB", "peak MiB");
}

static void print_variant(const up_step_case *c, variant *v, const options *o) {
    const up_step_options *s = &v->options;
    const up_report *r = &v->report;
    int threads = up_bench_threads(s->backend, s->threads);
    double seconds = up_bench_median(v->seconds, o->turns), busy = up_bench_median(v->processor, o->turns);
    double core = core_peak(s, threads), rate = 1e-9 * r->needed / seconds;
    double share = rate / (core * threads), core_share = 1e-9 * r->needed / busy / core;
    if (!o->json) {
        printf("%-11s %-6s %-5s %-6s %3d %10.2f %10.2f %11.1f %11.1f %9.1f %5.1f%% %6.1f%% %8.1f %8.1f\n",
               c->name, s->preset, up_bench_dtype_name(s->dtype), up_isa_name(s->isa), threads, 1e3 * seconds,
               1e3 * busy, r->samples / seconds, r->tokens / seconds, rate, 100 * share, 100 * core_share,
               r->activations_mib, r->peak_mib);
        return;
    }
    printf("{\"step\": \"%s\", \"what\": \"%s\", \"unit\": \"%s\", \"preset\": \"%s\", \"backend\": \"%s\", "
           "\"dtype\": \"%s\", \"isa\": \"%s\", \"threads\": %d, \"turns\": %d, \"seconds\": %.6f, "
           "\"processor\": %.6f, "
           "\"least_seconds\": %.6f, ",
           c->name, c->what, c->unit, s->preset, s->backend, up_bench_dtype_name(s->dtype),
           up_isa_name(s->isa), threads, o->turns, seconds, busy, v->seconds[0]);
    printf("\"samples\": %.0f, \"tokens\": %.0f, \"needed\": %.6g, \"executed\": %.6g, \"gflops\": %.2f, "
           "\"core_peak\": %.2f, \"share\": %.4f, \"core_share\": %.4f, \"activations_mib\": %.1f, "
           "\"peak_mib\": %.1f, "
           "\"learns\": %.0f}\n",
           r->samples, r->tokens, r->needed, r->executed, rate, core, share, core_share, r->activations_mib,
           r->peak_mib, r->learns);
}

static void measure_case(const up_step_case *c, const options *o) {
    variant *variants = up_bench_room(MOST_VARIANTS, sizeof *variants);
    int count = list_variants(o, variants);
    if (count == 0) up_bench_die("no such type or instruction set here");
    take_turns(c, variants, count, o->warm, o->turns);
    for (int v = 0; v < count; v++) print_variant(c, &variants[v], o);
    fflush(stdout);
    free(variants);
}

/* ---- memory of a batch: what a second one of the same size adds to the peak ---- */

static double peak_of(const up_step_case *c, const up_step_options *options) {
    up_worker worker;
    up_turn turn;
    up_report report;
    up_worker_start(&worker, c->measure, options);
    up_worker_turn(&worker, &turn);
    up_worker_end(&worker, &report);
    return report.peak_mib;
}

static void measure_memory(const up_step_case *c, const options *o) {
    variant *variants = up_bench_room(MOST_VARIANTS, sizeof *variants);
    int count = list_variants(o, variants);
    for (int v = 0; v < count; v++) {
        up_step_options small = variants[v].options, large = small;
        large.pictures *= 2;
        large.texts *= 2;
        double low = peak_of(c, &small), high = peak_of(c, &large);
        const char *form =
            o->json ? "{\"memory\": \"%s\", \"preset\": \"%s\", \"dtype\": \"%s\", \"isa\": \"%s\", "
                      "\"batch\": %d, \"peak_mib\": %.1f, \"doubled_peak_mib\": %.1f, "
                      "\"difference_mib\": %.1f}\n"
                    : "%-11s %-6s %-5s %-6s batch %d: peak %.1f MiB, doubled %.1f, difference %.1f\n";
        printf(form, c->name, small.preset, up_bench_dtype_name(small.dtype), up_isa_name(small.isa),
               small.pictures, low, high, high - low);
    }
    free(variants);
}

/* ---- */

static void print_lengths(int count) {
    int *lengths = up_bench_room((size_t)count, sizeof *lengths);
    up_step_lengths(count, lengths);
    for (int i = 0; i < count; i++) printf("%s%d", i ? "," : "", lengths[i]);
    printf("\n");
    free(lengths);
}

static const up_step_case *case_named(const char *name) {
    const up_step_case *c = up_step_cases;
    while (c->name && strcmp(c->name, name) != 0) c++;
    if (!c->name) up_bench_die("a word is no step, see --help");
    return c;
}

static void run_case(const up_step_case *c, options *o) {
    variant first[MOST_VARIANTS];
    if (o->serve) {
        if (list_variants(o, first) != 1)
            up_bench_die("--serve: one type and one instruction set are wanted");
        up_worker_serve(c->measure, &first[0].options);
    } else if (o->memory)
        measure_memory(c, o);
    else
        measure_case(c, o);
}

int main(int argc, char **argv) {
    options o = {
        .step =
            {.preset = "base", .backend = "cpu", .pictures = 8, .texts = 64, .tokens = 1536, .entries = 8192},
        .dtypes = "f32",
        .turns = 5,
        .warm = 1};
    const up_option table[] = {
        {"--preset", UP_OPTION_TEXT, &o.step.preset, 0, "sizes of the model"},
        {"--backend", UP_OPTION_TEXT, &o.step.backend, 0, "cpu or ref"},
        {"--threads", UP_OPTION_WHOLE, &o.step.threads, 0, "0: as many as the backend takes"},
        {"--dtype", UP_OPTION_TEXT, &o.dtypes, 0, "of the activations: f32, bf16, f16, or a list of them"},
        {"--isa", UP_OPTION_TEXT, &o.isas, 0, "avx512, avx2, base, or a list; else what the backend takes"},
        {"--batch", UP_OPTION_WHOLE, &o.step.pictures, 1, "pictures of a batch"},
        {"--texts", UP_OPTION_WHOLE, &o.step.texts, 1, "texts of a batch"},
        {"--repeat", UP_OPTION_WHOLE, &o.turns, 1, "turns of each"},
        {"--warm", UP_OPTION_WHOLE, &o.warm, 0, "turns before them that are not counted"},
        {"--tokens", UP_OPTION_WHOLE, &o.step.tokens, 3, "of a chunk of the vocabulary"},
        {"--entries", UP_OPTION_WHOLE, &o.step.entries, 0, "of the vocabulary; 0: all 49,410"},
        {"--memory", UP_OPTION_FLAG, &o.memory, 0,
         "instead: what a batch twice as large adds to the peak of memory"},
        {"--serve", UP_OPTION_FLAG, &o.serve, 0,
         "instead: one step as a worker, a turn for each line of the input"},
        {"--lengths", UP_OPTION_FLAG, &o.lengths, 0, "instead: the lengths of the texts, with commas"},
        {"--json", UP_OPTION_FLAG, &o.json, 0, "one object a line"},
        {0}};
    int words = up_bench_options(argc, argv,
                                 "bench_step [STEP...] [OPTION...]: encode, train, texts, captions, tune, "
                                 "vocabulary, beam, beam_whole; without one, all",
                                 table);
    if (o.turns > MOST_TURNS) up_bench_die("--repeat: at most 1000");
    if (o.lengths) {
        print_lengths(o.step.texts);
        return 0;
    }
    if (!o.serve && !o.memory) print_head(&o);
    for (int i = 0; i < words; i++) run_case(case_named(argv[1 + i]), &o);
    for (const up_step_case *c = up_step_cases; words == 0 && c->name; c++) run_case(c, &o);
    return 0;
}
