/* bench_pixels.c - pictures a second, from JPEG files in memory to the patches of a model:
 * decode, resize of the short side and centre cut, patches of bytes (what a batch holds; the model's device
 * looks the normalised values up), and the same as normalised floats. Processor time, medians over rounds.
 * bench_pixels --help says how it is called. */
#include "bench/common.h"
#include "bench/worker.h"
#include "files/file.h"
#include "uniperceiver/image.h"
#include "uniperceiver/random.h"

#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

enum { MADE = 24, WIDTH = 500, HEIGHT = 375, PATCH = 16, MIN_ROUNDS = 5, MAX_ROUNDS = 101 };

typedef struct file {
    char name[256];
    unsigned char *bytes;
    unsigned long size;
} file;

typedef struct options {
    int json, size, resize, threads;
    double seconds; /* of all rounds of a thread together */
    const char *write, *folder;
} options;

enum { DECODE, SQUARE, PATCHES, FLOATS, STAGES };
static const char *const stage_names[STAGES] = {"decode", "resize and cut", "patches of bytes",
                                                "normalised floats"};

/* ---- pictures ---- */

/* Light, a few soft discs with hard edges, texture of several scales and a little noise: a photograph, as far
 * as its file's size and the decoder's work go. */
static void paint(int number, unsigned char *rgb) {
    enum { DISCS = 12, WAVES = 24 };
    up_rng rng = up_rng_make(11, (uint64_t)number, 0, 0);
    double disc[DISCS][6], wave[WAVES][4];
    for (int d = 0; d < DISCS; d++)
        for (int k = 0; k < 6; k++) disc[d][k] = up_rng_uniform(&rng);
    for (int w = 0; w < WAVES; w++) {
        double pitch = exp2(-1.0 - 6.0 * up_rng_uniform(&rng)) * 3.14, turn = 6.28 * up_rng_uniform(&rng);
        wave[w][0] = pitch * cos(turn);
        wave[w][1] = pitch * sin(turn);
        wave[w][2] = 6.28 * up_rng_uniform(&rng);
        wave[w][3] = 1.6 / (pitch + 0.15);
    }
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++, rgb += 3) {
            double value[3] = {90 + 0.15 * x, 100 + 0.2 * y, 140 - 0.1 * x};
            for (int d = 0; d < DISCS; d++) {
                double far = hypot(x - WIDTH * disc[d][0], y - HEIGHT * disc[d][1]);
                if (far > 20 + 80 * disc[d][2]) continue;
                for (int c = 0; c < 3; c++) value[c] += 160 * (disc[d][3 + c] - 0.5);
            }
            double texture = 24 * (up_rng_uniform(&rng) - 0.5);
            for (int w = 0; w < WAVES; w++)
                texture += wave[w][3] * sin(wave[w][0] * x + wave[w][1] * y + wave[w][2]);
            for (int c = 0; c < 3; c++) rgb[c] = (unsigned char)fmin(fmax(value[c] + texture, 0), 255);
        }
}

static void make_file(int number, file *out) {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *rgb = up_bench_room(WIDTH * HEIGHT, 3);
    paint(number, rgb);
    snprintf(out->name, sizeof out->name, "picture%02d.jpg", number);
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &out->bytes, &out->size);
    jpeg.image_width = WIDTH;
    jpeg.image_height = HEIGHT;
    jpeg.input_components = 3;
    jpeg.in_color_space = JCS_RGB;
    jpeg_set_defaults(&jpeg); /* chroma at half the resolution both ways, as cameras and ImageNet have it */
    jpeg_set_quality(&jpeg, 85 + 5 * (number % 3), TRUE);
    jpeg_start_compress(&jpeg, TRUE);
    while (jpeg.next_scanline < HEIGHT) {
        JSAMPROW row = rgb + (size_t)jpeg.next_scanline * WIDTH * 3;
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    free(rgb);
}

static void read_file(const char *folder, const char *name, file *out) {
    char path[4096];
    void *bytes;
    size_t size;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(out->name, sizeof out->name, "%s", name);
    UP_BENCH_OK(up_file_read(path, &bytes, &size));
    out->bytes = bytes;
    out->size = size;
}

static int is_jpeg(const struct dirent *entry) {
    const char *dot = strrchr(entry->d_name, '.');
    return dot && (!strcmp(dot, ".jpg") || !strcmp(dot, ".jpeg") || !strcmp(dot, ".JPEG"));
}

/* The folder's JPEG files by name, or pictures made here. */
static int load(const options *o, file **out) {
    if (!o->folder) {
        *out = up_bench_room(MADE, sizeof **out);
        for (int i = 0; i < MADE; i++) make_file(i, &(*out)[i]);
        return MADE;
    }
    struct dirent **entries = NULL;
    int count = scandir(o->folder, &entries, is_jpeg, alphasort);
    if (count < 1) up_bench_die("the folder has no .jpg or .jpeg file");
    *out = up_bench_room((size_t)count, sizeof **out);
    for (int i = 0; i < count; i++) {
        read_file(o->folder, entries[i]->d_name, &(*out)[i]);
        free(entries[i]);
    }
    free(entries);
    return count;
}

static void write_files(const char *folder, const file *files, int count) {
    for (int i = 0; i < count; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, files[i].name);
        FILE *to = fopen(path, "wb");
        int failed = !to || fwrite(files[i].bytes, 1, files[i].size, to) != files[i].size;
        if (to && fclose(to)) failed = 1;
        if (failed) up_bench_die("--write: a file cannot be written");
    }
}

/* ---- measuring ---- */

/* All files once; the time of each stage is added to `spent`. */
static void round_of(const options *o, const file *files, int count, double spent[STAGES]) {
    size_t n = 3 * (size_t)o->size * (size_t)o->size;
    unsigned char *patches = up_bench_room(n, 1);
    float *planar = up_bench_room(n, sizeof *planar), *values = up_bench_room(n, sizeof *values);
    for (int i = 0; i < count; i++) {
        up_image whole, square;
        double t[STAGES + 1] = {up_bench_thread()};
        UP_BENCH_OK(up_image_decode(files[i].bytes, files[i].size, files[i].name, NULL, &whole));
        t[1] = up_bench_thread();
        UP_BENCH_OK(up_image_square(&whole, o->resize, o->size, 0.5, 0.5, &square));
        t[2] = up_bench_thread();
        UP_BENCH_OK(up_image_patch_bytes(&square, PATCH, patches));
        t[3] = up_bench_thread();
        up_image_normalize(&square, &up_pixel_norm_image, planar);
        UP_BENCH_OK(up_image_patches(planar, o->size, o->size, PATCH, values));
        t[4] = up_bench_thread();
        for (int s = 0; s < STAGES; s++) spent[s] += t[s + 1] - t[s];
        up_image_free(&whole);
        up_image_free(&square);
    }
    free(patches);
    free(planar);
    free(values);
}

static void report(const options *o, int count, double bytes, const double ms[STAGES]) {
    double to_bytes = ms[DECODE] + ms[SQUARE] + ms[PATCHES], to_floats = ms[DECODE] + ms[SQUARE] + ms[FLOATS];
    double per_second = 1e3 * o->threads / to_bytes, floats_per_second = 1e3 * o->threads / to_floats;
    if (o->json) {
        printf("{\"threads\": %d, \"pictures\": %d, \"file_bytes\": %.0f, \"size\": %d, \"resize\": %d, "
               "\"decode_ms\": %.4f, \"square_ms\": %.4f, \"patches_ms\": %.4f, \"floats_ms\": %.4f, "
               "\"pictures_per_second\": %.1f, \"float_pictures_per_second\": %.1f}\n",
               o->threads, count, bytes, o->size, o->resize, ms[DECODE], ms[SQUARE], ms[PATCHES], ms[FLOATS],
               per_second, floats_per_second);
        return;
    }
    printf("%d pictures, %.1f KiB on average, short side %d, square of %d, threads: %d\n", count,
           bytes / 1024, o->resize, o->size, o->threads);
    printf("%-20s%12s\n", "stage", "ms");
    for (int s = 0; s < STAGES; s++) printf("%-20s%12.4f\n", stage_names[s], ms[s]);
    printf("\n%-20s%12s%14s\n", "from a file to", "ms", "pictures/s");
    printf("%-20s%12.4f%14.1f\n", "patches of bytes", to_bytes, per_second);
    printf("%-20s%12.4f%14.1f\n", "normalised floats", to_floats, floats_per_second);
}

typedef struct job {
    const options *options;
    const file *files;
    int count;
    double ms[STAGES]; /* a picture; medians over rounds */
    pthread_t thread;
} job;

static void *measure(void *argument) {
    job *j = argument;
    double spent[STAGES][MAX_ROUNDS], warm[STAGES] = {0}, begun = up_bench_thread();
    int rounds = 0;
    round_of(j->options, j->files, j->count, warm);
    while (rounds < MAX_ROUNDS && (rounds < MIN_ROUNDS || up_bench_thread() - begun < j->options->seconds)) {
        double one[STAGES] = {0};
        round_of(j->options, j->files, j->count, one);
        for (int s = 0; s < STAGES; s++) spent[s][rounds] = 1e3 * one[s] / j->count;
        rounds++;
    }
    for (int s = 0; s < STAGES; s++) j->ms[s] = up_bench_median(spent[s], rounds);
    return NULL;
}

/* Every thread works on all pictures by itself, as workers of the loader do on theirs. */
static void measure_all(const options *o, const file *files, int count) {
    job *jobs = up_bench_room((size_t)o->threads, sizeof *jobs);
    double ms[STAGES] = {0}, bytes = 0;
    for (int i = 0; i < count; i++) bytes += (double)files[i].size / count;
    for (int t = 0; t < o->threads; t++) {
        jobs[t] = (job){.options = o, .files = files, .count = count};
        if (pthread_create(&jobs[t].thread, NULL, measure, &jobs[t]))
            up_bench_die("the system gave no thread");
    }
    for (int t = 0; t < o->threads; t++) {
        pthread_join(jobs[t].thread, NULL);
        for (int s = 0; s < STAGES; s++) ms[s] += jobs[t].ms[s] / o->threads;
    }
    report(o, count, bytes, ms);
    free(jobs);
}

static void free_files(file *files, int count) {
    for (int i = 0; i < count; i++) free(files[i].bytes);
    free(files);
}

/* ---- as a worker: all files once, to normalised patches ---- */
typedef struct state {
    const options *options;
    file *files;
    int count;
    float *planar, *patches;
} state;

static void *open_state(const void *opts) {
    state *s = up_bench_room(1, sizeof *s);
    s->options = opts;
    s->count = load(opts, &s->files);
    size_t values = 3 * (size_t)s->options->size * (size_t)s->options->size;
    s->planar = up_bench_room(values, sizeof *s->planar);
    s->patches = up_bench_room(values, sizeof *s->patches);
    return s;
}

static void run(void *opened) {
    state *s = opened;
    const options *o = s->options;
    for (int i = 0; i < s->count; i++) {
        up_image whole, square;
        UP_BENCH_OK(up_image_decode(s->files[i].bytes, s->files[i].size, s->files[i].name, NULL, &whole));
        UP_BENCH_OK(up_image_square(&whole, o->resize, o->size, 0.5, 0.5, &square));
        up_image_normalize(&square, &up_pixel_norm_image, s->planar);
        UP_BENCH_OK(up_image_patches(s->planar, o->size, o->size, PATCH, s->patches));
        up_image_free(&whole);
        up_image_free(&square);
    }
}

static void report_turn(void *opened, up_report *report) {
    report->samples = ((const state *)opened)->count;
}

static void close_state(void *opened) {
    state *s = opened;
    free_files(s->files, s->count);
    free(s->planar);
    free(s->patches);
    free(s);
}

static const up_measure to_floats = {open_state, NULL, run, report_turn, close_state};

int main(int argc, char **argv) {
    options o = {.size = 224, .threads = 1, .seconds = 2};
    int serve = 0;
    const up_option table[] = {
        {"--seconds", UP_OPTION_REAL, &o.seconds, 0, "at least as long, and 5 rounds over all pictures"},
        {"--threads", UP_OPTION_WHOLE, &o.threads, 1, "so many at once, each on all pictures"},
        {"--size", UP_OPTION_WHOLE, &o.size, PATCH, "side of the square, a multiple of 16"},
        {"--resize", UP_OPTION_WHOLE, &o.resize, 0, "short side before the cut; 0: as --size"},
        {"--write", UP_OPTION_TEXT, &o.write, 0, "write the pictures to this folder and end"},
        {"--serve", UP_OPTION_FLAG, &serve, 0, "instead: as a worker, a turn for each line of the input"},
        {"--json", UP_OPTION_FLAG, &o.json, 0, "one object"},
        {0}};
    int words =
        up_bench_options(argc, argv,
                         "bench_pixels [FOLDER] [OPTION...]: JPEG files to patches, pictures a second, a "
                         "core for each thread; without FOLDER 24 pictures of 500 x 375 are made",
                         table);
    if (words > 1) up_bench_die("wanted: one folder, or none");
    if (words) o.folder = argv[1];
    if (!o.resize) o.resize = o.size;
    if (o.size % PATCH || o.resize < o.size) up_bench_die("--size, --resize: wrong number");
    if (serve) {
        up_worker_serve(&to_floats, &o);
        return 0;
    }
    file *files = NULL;
    int count = load(&o, &files);
    if (o.write)
        write_files(o.write, files, count);
    else
        measure_all(&o, files, count);
    free_files(files, count);
    return 0;
}
