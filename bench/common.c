/* common.c - options, clocks, memory and JSON of the measuring programs. */
#include "bench/common.h"
#include "backend_cpu/cpu.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static const char *program = "bench";

void up_bench_die(const char *message) {
    fprintf(stderr, "%s: %s\n", program, message);
    exit(1);
}

void *up_bench_room(size_t count, size_t size) {
    void *room = calloc(count ? count : 1, size);
    if (!room) up_bench_die("no memory");
    return room;
}

/* ---- options ---- */

static const up_dtype dtypes[] = {UP_F32, UP_BF16, UP_F16};
static const char *const dtype_names[] = {[UP_F32] = "f32", [UP_F16] = "f16", [UP_BF16] = "bf16"};

const char *up_bench_dtype_name(up_dtype dtype) {
    return dtype_names[dtype];
}

static void print_default(const up_option *o) {
    switch (o->type) {
    case UP_OPTION_FLAG:
        break;
    case UP_OPTION_WHOLE:
        printf(" (%d)", *(int *)o->value);
        break;
    case UP_OPTION_REAL:
        printf(" (%g)", *(double *)o->value);
        break;
    case UP_OPTION_TEXT:
        if (*(const char **)o->value) printf(" (%s)", *(const char **)o->value);
        break;
    case UP_OPTION_DTYPE:
        printf(" (%s)", dtype_names[*(up_dtype *)o->value]);
        break;
    }
}

static void print_help(const char *usage, const up_option *table) {
    static const char *const arguments[] = {"", " N", " X", " NAME", " f32|bf16|f16"};
    printf("%s\n\n", usage);
    for (; table->name; table++) {
        int width = printf("  %s%s", table->name, arguments[table->type]);
        printf("%*s%s", width < 26 ? 26 - width : 1, "", table->help);
        print_default(table);
        printf("\n");
    }
    exit(0);
}

static void refuse(const char *name, const char *why) {
    fprintf(stderr, "%s: %s: %s (see --help)\n", program, name, why);
    exit(2);
}

static void read_dtype(const up_option *o, const char *text) {
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (!strcmp(text, dtype_names[dtypes[i]])) {
            *(up_dtype *)o->value = dtypes[i];
            return;
        }
    refuse(o->name, "wanted f32, bf16 or f16");
}

static void read_value(const up_option *o, const char *text) {
    char *end = NULL;
    if (o->type == UP_OPTION_TEXT) *(const char **)o->value = text;
    if (o->type == UP_OPTION_DTYPE) read_dtype(o, text);
    if (o->type != UP_OPTION_WHOLE && o->type != UP_OPTION_REAL) return;
    double number = o->type == UP_OPTION_WHOLE ? (double)strtol(text, &end, 10) : strtod(text, &end);
    if (end == text || *end || !(number >= o->least) || number > 2e9)
        refuse(o->name, "no number it can take");
    if (o->type == UP_OPTION_WHOLE)
        *(int *)o->value = (int)number;
    else
        *(double *)o->value = number;
}

int up_bench_options(int argc, char **argv, const char *usage, const up_option *table) {
    int words = 0;
    const char *slash = strrchr(argv[0], '/');
    program = slash ? slash + 1 : argv[0];
    for (int i = 1; i < argc; i++) {
        const up_option *o = table;
        if (!strcmp(argv[i], "--help")) print_help(usage, table);
        if (strncmp(argv[i], "--", 2) != 0) {
            argv[1 + words++] = argv[i];
            continue;
        }
        while (o->name && strcmp(o->name, argv[i]) != 0) o++;
        if (!o->name) refuse(argv[i], "unknown option");
        if (o->type == UP_OPTION_FLAG) {
            *(int *)o->value = 1;
            continue;
        }
        if (i + 1 >= argc) refuse(o->name, "a value is missing");
        read_value(o, argv[++i]);
    }
    return words;
}

int up_bench_threads(const char *backend, int wanted) {
    return strcmp(backend, "ref") ? up_cpu_threads(wanted) : 1;
}

/* ---- clocks and memory ---- */

static double read_clock(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double up_bench_now(void) {
    return read_clock(CLOCK_MONOTONIC);
}

double up_bench_processor(void) {
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

double up_bench_thread(void) {
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

double up_bench_peak_mib(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double up_bench_median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, ascending);
    return count % 2 ? values[count / 2] : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

double up_bench_least(const double *values, int count) {
    double least = values[0];
    for (int i = 1; i < count; i++)
        if (values[i] < least) least = values[i];
    return least;
}

/* ---- JSON ---- */

void up_bench_json_text(FILE *to, const char *text) {
    fputc('"', to);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') fputc('\\', to);
        if ((unsigned char)*text >= ' ') fputc(*text, to);
    }
    fputc('"', to);
}
