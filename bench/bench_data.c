/* bench_data.c - from files to what the model reads, on one thread: text to token ids by a tokenizer that has
 * read nothing yet, and JPEG pictures to normalised patches. */
#include "bench/common.h"
#include "bench/worker.h"
#include "files/file.h"
#include "uniperceiver/image.h"
#include "uniperceiver/text.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_TURNS = 1000 };

typedef struct options {
    char **names;
    int count; /* files */
    int size, resize, patch, json, serve, turns;
} options;

typedef struct content {
    void *bytes;
    size_t size;
} content;

typedef struct data {
    const options *o;
    content *files;
    double bytes; /* of all */
    up_tokenizer *tokenizer;
    size_t tokens;
    float *pixels, *patches;
} data;

static void *open_files(const void *opts) {
    data *d = up_bench_room(1, sizeof *d);
    d->o = opts;
    d->files = up_bench_room((size_t)d->o->count, sizeof *d->files);
    for (int i = 0; i < d->o->count; i++) {
        content *f = &d->files[i];
        UP_BENCH_OK(up_file_read(d->o->names[i], &f->bytes, &f->size));
        d->bytes += (double)f->size;
    }
    return d;
}

static void close_files(void *state) {
    data *d = state;
    for (int i = 0; i < d->o->count; i++) free(d->files[i].bytes);
    up_tokenizer_free(d->tokenizer);
    free(d->files);
    free(d->pixels);
    free(d->patches);
    free(d);
}

/* ---- text ---- */

/* Whatever it keeps of words that it has seen is gone. */
static void prepare_text(void *state) {
    data *d = state;
    up_tokenizer_free(d->tokenizer);
    UP_BENCH_OK(up_tokenizer_create(NULL, &d->tokenizer));
    d->tokens = 0;
}

static void run_text(void *state) {
    data *d = state;
    for (int i = 0; i < d->o->count; i++) {
        int32_t *ids;
        size_t count;
        UP_BENCH_OK(
            up_tokenize(d->tokenizer, (const char *)d->files[i].bytes, d->files[i].size, &ids, &count));
        d->tokens += count;
        free(ids);
    }
}

static void report_text(void *state, up_report *report) {
    const data *d = state;
    report->samples = d->bytes;
    report->tokens = (double)d->tokens;
}

/* ---- pictures ---- */

static void *open_jpeg(const void *opts) {
    data *d = open_files(opts);
    size_t values = 3 * (size_t)d->o->size * (size_t)d->o->size;
    d->pixels = up_bench_room(values, sizeof *d->pixels);
    d->patches = up_bench_room(values, sizeof *d->patches);
    return d;
}

static void run_jpeg(void *state) {
    data *d = state;
    const options *o = d->o;
    for (int i = 0; i < o->count; i++) {
        up_image picture, square;
        UP_BENCH_OK(up_image_decode(d->files[i].bytes, d->files[i].size, o->names[i], NULL, &picture));
        UP_BENCH_OK(up_image_square(&picture, o->resize, o->size, 0.5, 0.5, &square));
        up_image_normalize(&square, &up_pixel_norm_image, d->pixels);
        UP_BENCH_OK(up_image_patches(d->pixels, o->size, o->size, o->patch, d->patches));
        up_image_free(&picture);
        up_image_free(&square);
    }
}

static void report_jpeg(void *state, up_report *report) {
    const data *d = state;
    report->samples = d->o->count;
}

static const up_measure measure_text = {open_files, prepare_text, run_text, report_text, close_files};
static const up_measure measure_jpeg = {open_jpeg, NULL, run_jpeg, report_jpeg, close_files};

/* ---- */

static void print_result(const options *o, int text) {
    static double seconds[MOST_TURNS], processor[MOST_TURNS];
    up_worker worker;
    up_turn turn;
    up_report report;
    up_worker_start(&worker, text ? &measure_text : &measure_jpeg, o);
    for (int t = -1; t < o->turns; t++) {
        up_worker_turn(&worker, &turn);
        if (t < 0) continue;
        seconds[t] = turn.seconds;
        processor[t] = turn.processor;
    }
    up_worker_end(&worker, &report);
    double median = up_bench_median(seconds, o->turns), busy = up_bench_median(processor, o->turns);
    double scale = text ? 1e-6 : 1;
    const char *unit = text ? "MB" : "pictures";
    const char *form =
        o->json ? "{\"data\": \"%s\", \"seconds\": %.6f, \"processor\": %.6f, \"per_second\": %.2f, "
                  "\"per_core_second\": %.2f, \"unit\": \"%s\"}\n"
                : "%-5s %9.4f s (processor %9.4f s) %10.1f a second, %10.1f a core's second, %s\n";
    printf(form, text ? "text" : "jpeg", median, busy, scale * report.samples / median,
           scale * report.samples / busy, unit);
}

int main(int argc, char **argv) {
    options o = {.size = 224, .resize = 256, .patch = 16, .turns = 5};
    const up_option table[] = {
        {"--size", UP_OPTION_WHOLE, &o.size, 1, "pixels of a side of the square that is cut out"},
        {"--resize", UP_OPTION_WHOLE, &o.resize, 1, "pixels of the short side before it is cut"},
        {"--patch", UP_OPTION_WHOLE, &o.patch, 1, "pixels of a side of a patch"},
        {"--repeat", UP_OPTION_WHOLE, &o.turns, 1, "turns, after one that is not counted"},
        {"--serve", UP_OPTION_FLAG, &o.serve, 0, "instead: as a worker, a turn for each line of the input"},
        {"--json", UP_OPTION_FLAG, &o.json, 0, "one object"},
        {0}};
    int words = up_bench_options(
        argc, argv, "bench_data text|jpeg FILE... [OPTION...]: files to tokens or patches", table);
    int text = words > 1 && !strcmp(argv[1], "text");
    if (words < 2 || (!text && strcmp(argv[1], "jpeg") != 0)) up_bench_die("wanted: text or jpeg, and files");
    if (o.turns > MOST_TURNS) up_bench_die("--repeat: at most 1000");
    o.names = argv + 2;
    o.count = words - 1;
    if (o.serve)
        up_worker_serve(text ? &measure_text : &measure_jpeg, &o);
    else
        print_result(&o, text);
    return 0;
}
