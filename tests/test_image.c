/* test_image.c - pictures against golden/image (Pillow's pixels, torchvision's rules) and against hostile
 * bytes. */
#include "data/picture.h"
#include "data/pixels.h"
#include "files/file.h"
#include "files/npy.h"
#include "tests/support.h"
#include "uniperceiver/random.h"
#include "uniperceiver/video.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

const char *const up_suite_name = "image";

/* Files of golden/image; X.ext must decode to X.npy, up to `most` in any byte. JPEG decoders may round their
 * inverse transform and colours differently; the other formats define every value. */
typedef struct sample {
    const char *name, *extension;
    int most;
} sample;
static const sample samples[] = {
    {"jpeg_420", "jpg", 1},
    {"jpeg_422", "jpg", 1},
    {"jpeg_444", "jpg", 1},
    {"jpeg_progressive", "jpg", 1},
    {"jpeg_grey", "jpg", 1},
    {"jpeg_cmyk", "jpg", 1},
    {"jpeg_ycck", "jpg", 1},
    {"jpeg_trailing", "jpg", 1},
    {"jpeg_exif1", "jpg", 1},
    {"jpeg_exif2", "jpg", 1},
    {"jpeg_exif3", "jpg", 1},
    {"jpeg_exif4", "jpg", 1},
    {"jpeg_exif5", "jpg", 1},
    {"jpeg_exif6", "jpg", 1},
    {"jpeg_exif7", "jpg", 1},
    {"jpeg_exif8", "jpg", 1},
    {"png_rgb8", "png", 0},
    {"png_rgb8_i", "png", 0},
    {"png_rgba8", "png", 0},
    {"png_rgba8_i", "png", 0},
    {"png_grey1", "png", 0},
    {"png_grey2", "png", 0},
    {"png_grey4", "png", 0},
    {"png_grey8", "png", 0},
    {"png_grey1_i", "png", 0},
    {"png_grey2_i", "png", 0},
    {"png_grey4_i", "png", 0},
    {"png_grey8_i", "png", 0},
    {"png_palette1", "png", 0},
    {"png_palette2", "png", 0},
    {"png_palette4", "png", 0},
    {"png_palette8", "png", 0},
    {"png_palette1_i", "png", 0},
    {"png_palette2_i", "png", 0},
    {"png_palette4_i", "png", 0},
    {"png_palette8_i", "png", 0},
    {"png_palette1_trns", "png", 0},
    {"png_palette2_trns", "png", 0},
    {"png_palette4_trns", "png", 0},
    {"png_palette8_trns", "png", 0},
    {"png_palette1_trns_i", "png", 0},
    {"png_palette2_trns_i", "png", 0},
    {"png_palette4_trns_i", "png", 0},
    {"png_palette8_trns_i", "png", 0},
    {"png_rgb16", "png", 0},
    {"png_rgba16", "png", 0},
    {"png_grey16", "png", 0},
    {"png_greya16", "png", 0},
    {"png_greya8", "png", 0},
    {"png_grey8_trns", "png", 0},
    {"png_rgb8_trns", "png", 0},
    {"png_gamma", "png", 0},
    {"webp_lossy", "webp", 0},
    {"webp_lossless", "webp", 0},
    {"webp_alpha", "webp", 0},
    {"webp_lossy_alpha", "webp", 0}, /* WebP comes last: not every build has it */
};
enum { SAMPLES = sizeof samples / sizeof *samples, WEBP = 4 };

typedef struct bytes {
    uint8_t *data;
    size_t size;
} bytes;

static const char *golden(const char *name, const char *extension) {
    char relative[128];
    snprintf(relative, sizeof relative, "golden/image/%s.%s", name, extension);
    return up_test_path(relative);
}

static bytes load(const sample *s) {
    void *data = NULL;
    bytes b = {0};
    UP_ASSERT_OK(up_file_read(golden(s->name, s->extension), &data, &b.size));
    b.data = data;
    return b;
}

/* The samples that this build can read. */
static size_t readable(void) {
    up_image out;
    up_status status = up_image_read(golden(samples[SAMPLES - 1].name, "webp"), NULL, &out);
    up_image_free(&out);
    if (status == UP_ERR_UNSUPPORTED) printf("(skipped %d WebP samples: %s) ", WEBP, up_last_error());
    return status == UP_ERR_UNSUPPORTED ? SAMPLES - WEBP : SAMPLES;
}

/* Largest difference of a picture and golden/image/<name>.npy; 1000 where the shapes differ. */
static int difference(const up_image *image, const char *name) {
    up_npy want = {0};
    UP_ASSERT_OK(up_npy_read(golden(name, "npy"), &want));
    int most = 1000;
    if (want.type == UP_NPY_U8 && want.ndim == 3 && want.shape[0] == image->height &&
        want.shape[1] == image->width && want.shape[2] == 3) {
        const uint8_t *w = want.data;
        most = 0;
        for (int64_t i = 0; i < want.count; i++)
            if (abs(image->data[i] - w[i]) > most) most = abs(image->data[i] - w[i]);
    }
    up_npy_free(&want);
    return most;
}

static void expect(const char *name, up_image *image, int most) {
    int found = difference(image, name);
    if (found > most)
        fprintf(stderr, "%s (%d x %d): differs by %d, at most %d wanted\n", name, image->width, image->height,
                found, most);
    CU_ASSERT(found <= most);
    up_image_free(image);
}

static void decode_samples(void) {
    for (size_t i = 0, n = readable(); i < n; i++) {
        up_image image;
        UP_ASSERT_OK(up_image_read(golden(samples[i].name, samples[i].extension), NULL, &image));
        expect(samples[i].name, &image, samples[i].most);
    }
}

/* Those that FFmpeg decodes. */
static void decode_stills(void) {
    static const sample stills[] = {
        {"gif_plain", "gif", 0},     {"gif_clear", "gif", 0},   {"gif_moving", "gif", 0},
        {"bmp_rgb", "bmp", 0},       {"bmp_palette", "bmp", 0}, {"bmp_grey", "bmp", 0},
        {"tiff_raw", "tif", 0},      {"tiff_lzw", "tif", 0},    {"tiff_deflate", "tif", 0},
        {"tiff_packbits", "tif", 0}, {"tiff_grey", "tif", 0},   {"tiff_palette", "tif", 0},
        {"tiff_alpha", "tif", 0},    {"tiff_turned", "tif", 0}};
    for (size_t i = 0; i < sizeof stills / sizeof *stills; i++) {
        up_image image;
        up_status status = up_image_read(golden(stills[i].name, stills[i].extension), NULL, &image);
        if (!up_video_available()) {
            CU_ASSERT_EQUAL(status, UP_ERR_UNSUPPORTED);
            continue;
        }
        UP_ASSERT_OK(status);
        expect(stills[i].name, &image, stills[i].most);
        const up_image_limits few = {37 * 29 - 1};
        CU_ASSERT_EQUAL(up_image_read(golden(stills[i].name, stills[i].extension), &few, &image),
                        UP_ERR_FORMAT);
        CU_ASSERT_PTR_NULL(image.data);
    }
    if (!up_video_available()) printf("(skipped the pixels of GIF, BMP and TIFF: no FFmpeg) ");
}

static up_image source(const char *name) {
    up_image image;
    UP_ASSERT_OK(up_image_read(golden(name, "png"), NULL, &image));
    return image;
}

static void resize_like_pillow(void) {
    static const struct {
        const char *name;
        int width, height;
        double box[4]; /* all zero: the whole picture */
    } cases[] = {
        {"resize_half", 31, 24, {0}},
        {"resize_double", 122, 94, {0}},
        {"resize_same", 61, 47, {0}},
        {"resize_tiny", 7, 5, {0}},
        {"resize_one", 1, 1, {0}},
        {"resize_wide", 150, 10, {0}},
        {"resize_tall", 9, 90, {0}},
        {"resize_across", 40, 47, {0}},
        {"resize_down", 61, 33, {0}},
        {"resize_box", 24, 24, {3.3, 2.7, 40.1, 33.9}},
        {"resize_box_up", 50, 40, {10.25, 5.5, 22.75, 17.125}},
        {"resize_box_whole", 20, 20, {11, 7, 51, 47}},
        {"resize_box_same", 40, 40, {11, 7, 51, 47}},
        {"resize_box_thin", 8, 8, {60.5, 0, 61, 47}},
    };
    up_image in = source("source"), out;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const double *b = cases[i].box;
        UP_ASSERT_OK(up_image_resize(&in, b[0], b[1], b[2] > 0 ? b[2] : in.width, b[3] > 0 ? b[3] : in.height,
                                     cases[i].width, cases[i].height, &out));
        expect(cases[i].name, &out, 0);
    }
    up_image_free(&in);
}

static void short_sides_and_squares(void) {
    static const struct {
        const char *name;
        int resize, size; /* size 0: the whole of it */
        double fx, fy;
    } cases[] = {
        {"short_20", 20, 0, 0, 0},          {"short_47", 47, 0, 0, 0},        {"short_70", 70, 0, 0, 0},
        {"square_mid", 24, 16, 0.5, 0.5},   {"square_odd", 25, 16, 0.5, 0.5}, {"square_corner", 24, 24, 1, 1},
        {"square_some", 32, 20, 0.3, 0.85}, {"square_zero", 60, 17, 0, 0},
    };
    for (int tall = 0; tall < 2; tall++) {
        up_image in = source(tall ? "source_tall" : "source"), out;
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            char name[64];
            snprintf(name, sizeof name, "%s%s", cases[i].name, tall ? "_tall" : "");
            if (cases[i].size)
                UP_ASSERT_OK(
                    up_image_square(&in, cases[i].resize, cases[i].size, cases[i].fx, cases[i].fy, &out));
            else
                UP_ASSERT_OK(up_image_resize_short(&in, cases[i].resize, &out));
            expect(name, &out, 0);
        }
        up_image_free(&in);
    }
}

/* A picture in a block of exactly its size, so that a sanitizer sees any byte read past it. Noise, flat black
 * and white, or stripes of both, where sums leave 0 to 255 on either side. */
static up_image random_picture(up_rng *rng, int width, int height) {
    up_image image = {width, height, malloc((size_t)width * (size_t)height * 3)};
    CU_ASSERT_FATAL(image.data != NULL);
    uint32_t kind = up_rng_below(rng, 4), period = 1 + up_rng_below(rng, 9);
    for (size_t i = 0; i < (size_t)width * (size_t)height * 3; i++)
        image.data[i] = (uint8_t)(kind ? up_rng_u32(rng) >> 24 : (i / period) % 2 * 255);
    return image;
}

static int random_side(up_rng *rng) {
    static const uint32_t most[] = {1, 4, 20, 80, 300, 1500};
    return 1 + (int)up_rng_below(rng, most[up_rng_below(rng, 6)]);
}

/* The sets of passes that this processor can run, the definition first. */
static int runnable(const up_image_passes *passes[3]) {
    int n = 0;
    for (up_isa isa = UP_ISA_BASE; isa <= up_isa_best(); isa++)
        if (up_image_passes_of(isa)) passes[n++] = up_image_passes_of(isa);
    if (n < 3) printf("(skipped %d of 3 instruction sets: not on this processor) ", 3 - n);
    return n;
}

/* Every instruction set resizes any window of any box to the bytes of the definition. */
static void passes_agree(void) {
    enum { ROUNDS = 1500, MOST = 200 };
    const up_image_passes *passes[3];
    int sets = runnable(passes), compared = 0;
    up_rng rng = up_rng_make(up_test_seed(), 1, 0, 0);
    printf("UP_TEST_SEED=%llu ", (unsigned long long)up_test_seed());
    for (int round = 0; round < ROUNDS; round++) {
        up_image in = random_picture(&rng, random_side(&rng), 1 + random_side(&rng) % 90);
        double x = up_rng_uniform(&rng) * 0.9 * in.width, y = up_rng_uniform(&rng) * 0.9 * in.height;
        double box[4] = {x, y, x + (in.width - x) * (0.1 + 0.9 * up_rng_uniform(&rng)),
                         y + (in.height - y) * (0.1 + 0.9 * up_rng_uniform(&rng))};
        const double all[4] = {0, 0, in.width, in.height};
        const double *part = round % 2 ? box : all;
        int full[2], at[2], size[2];
        for (int d = 0; d < 2; d++) {
            full[d] = 1 + random_side(&rng) % MOST;
            at[d] = (int)up_rng_below(&rng, (uint32_t)full[d]);
            size[d] = 1 + (int)up_rng_below(&rng, (uint32_t)(full[d] - at[d]));
        }
        up_image want = {0}, out;
        for (int s = 0; s < sets; s++) {
            UP_ASSERT_OK(up_image_resize_window(passes[s], &in, part, full[0], full[1], at[0], at[1], size[0],
                                                size[1], s ? &out : &want));
            if (!s) continue;
            int same = out.width == want.width && out.height == want.height &&
                       !memcmp(out.data, want.data, (size_t)want.width * (size_t)want.height * 3);
            if (!same)
                fprintf(stderr, "set %d: %d x %d to %d x %d of %d x %d differs\n", s, in.width, in.height,
                        size[0], size[1], full[0], full[1]);
            CU_ASSERT(same);
            compared++;
            up_image_free(&out);
        }
        up_image_free(&want);
        up_image_free(&in);
    }
    CU_ASSERT_EQUAL(compared, ROUNDS * (sets - 1));
}

/* Channels taken apart, and nothing written beside them. */
static void splits_agree(void) {
    enum { MOST = 100, PLANE = MOST + 30 };
    const up_image_passes *passes[3];
    int sets = runnable(passes);
    up_rng rng = up_rng_make(up_test_seed(), 2, 0, 0);
    for (int n = 0; n <= MOST; n++) {
        uint8_t found[3][PLANE], *in = malloc((size_t)n * 3 + 1);
        CU_ASSERT_FATAL(in != NULL);
        for (int i = 0; i < n * 3; i++) in[i] = (uint8_t)(up_rng_u32(&rng) >> 24);
        for (int s = 0; s < sets; s++) {
            int wrong = 0;
            memset(found, 77, sizeof found);
            passes[s]->split(in, n, found[0], PLANE);
            for (int c = 0; c < 3; c++)
                for (int i = 0; i < PLANE; i++) wrong += found[c][i] != (i < n ? in[3 * i + c] : 77);
            CU_ASSERT_EQUAL(wrong, 0);
        }
        free(in);
    }
}

static double worst(const float *found, const char *name, int64_t n) {
    up_npy want = {0};
    UP_ASSERT_OK(up_npy_read(golden(name, "npy"), &want));
    CU_ASSERT_FATAL(want.type == UP_NPY_F32 && want.count == n);
    double most = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)found[i] - (double)((float *)want.data)[i]);
        if (!(d <= most)) most = d;
    }
    up_npy_free(&want);
    return most;
}

static void normalise_and_patches(void) {
    enum { WIDTH = 48, HEIGHT = 32, N = 3 * WIDTH * HEIGHT };
    up_image in = source("source"), cut;
    UP_ASSERT_OK(up_image_crop(&in, 5, 3, WIDTH, HEIGHT, &cut));
    float *planar = malloc(N * sizeof *planar), *cells = malloc(N * sizeof *cells);
    CU_ASSERT_FATAL(planar && cells);
    static const struct {
        const char *planar, *patches;
        const up_pixel_norm *norm;
        int patch;
    } cases[] = {{"planar_image", "patches_image", &up_pixel_norm_image, 16},
                 {"planar_video", "patches_video", &up_pixel_norm_video, 8}};
    for (size_t i = 0; i < 2; i++) {
        memset(planar, 0xff, N * sizeof *planar);
        memset(cells, 0xff, N * sizeof *cells);
        up_image_normalize(&cut, cases[i].norm, planar);
        UP_ASSERT_OK(up_image_patches(planar, HEIGHT, WIDTH, cases[i].patch, cells));
        double a = worst(planar, cases[i].planar, N), b = worst(cells, cases[i].patches, N);
        CU_ASSERT(a <= 1e-6);
        CU_ASSERT(b <= 1e-6);
    }
    CU_ASSERT_EQUAL(up_image_patches(planar, HEIGHT, WIDTH, 10, cells), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_image_patches(planar, HEIGHT, WIDTH, 0, cells), UP_ERR_ARGUMENT);
    free(planar);
    free(cells);
    up_image_free(&in);
    up_image_free(&cut);
}

static void wrong_arguments(void) {
    up_image in = source("source"), out;
    CU_ASSERT_EQUAL(up_image_crop(&in, 1, 0, 61, 47, &out), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_image_crop(&in, -1, 0, 5, 5, &out), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_image_crop(&in, 0, 0, 0, 5, &out), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_image_resize(&in, 0, 0, 62, 47, 5, 5, &out), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_image_resize(&in, 5, 0, 5, 47, 5, 5, &out), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_image_resize(&in, NAN, 0, 61, 47, 5, 5, &out), UP_ERR_ARGUMENT);
    CU_ASSERT_NOT_EQUAL(up_image_resize(&in, 0, 0, 61, 47, 0, 5, &out), UP_OK);
    CU_ASSERT_NOT_EQUAL(up_image_resize(&in, 0, 0, 61, 47, 2000000000, 2000000000, &out), UP_OK);
    CU_ASSERT_EQUAL(up_image_resize_short(&in, 0, &out), UP_ERR_ARGUMENT);
    CU_ASSERT_NOT_EQUAL(up_image_resize_short(&in, 2000000000, &out), UP_OK);
    CU_ASSERT_EQUAL(up_image_square(&in, 16, 17, 0.5, 0.5, &out), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_image_square(&in, 16, 16, 1.5, 0.5, &out), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_image_square(&in, 16, 16, NAN, 0.5, &out), UP_ERR_ARGUMENT);
    CU_ASSERT_PTR_NULL(out.data);
    up_image_free(&in);
}

/* A failure is one line that begins with the file's name, and leaves nothing behind. */
static void expect_failure(up_status status, up_status wanted, const char *name, const char *word,
                           const up_image *out) {
    if (status != wanted || !strstr(up_last_error(), word))
        fprintf(stderr, "%s: status %d, message \"%s\"; status %d and \"%s\" wanted\n", name, status,
                up_last_error(), wanted, word);
    CU_ASSERT_EQUAL(status, wanted);
    CU_ASSERT_EQUAL(strncmp(up_last_error(), name, strlen(name)), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), word));
    CU_ASSERT_PTR_NULL(out->data);
}

/* golden/image/jpeg_large.jpg, 203 x 304 when upright, no shorter than `least`. */
static up_image large(int least, up_whole *whole) {
    up_image image;
    up_decoding how = {.short_side = least};
    UP_ASSERT_OK(up_image_read_as(golden("jpeg_large", "jpg"), &how, &image, whole));
    CU_ASSERT(whole->width == 203 && whole->height == 304);
    CU_ASSERT_EQUAL(image.width, (203 + whole->times - 1) / whole->times);
    CU_ASSERT_EQUAL(image.height, (304 + whole->times - 1) / whole->times);
    return image;
}

/* The smallest of 1/1, 1/2, 1/4 and 1/8 that is large enough, and no other. */
static void scaled_sizes(void) {
    static const int expected[][2] = {{0, 1},  {203, 1}, {103, 1}, {102, 2}, {52, 2},
                                      {51, 4}, {27, 4},  {26, 8},  {1, 8},   {300, 1}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        up_whole whole;
        up_image image = large(expected[i][0], &whole);
        CU_ASSERT_EQUAL(whole.times, expected[i][1]);
        up_image_free(&image);
    }
    up_image image;
    up_whole whole;
    up_decoding how = {&(up_image_limits){203 * 304 - 1}, 20};
    expect_failure(up_image_read_as(golden("jpeg_large", "jpg"), &how, &image, &whole), UP_ERR_FORMAT,
                   golden("jpeg_large", "jpg"), "limit", &image); /* which is on the stored picture */
    how = (up_decoding){.short_side = 5};
    UP_ASSERT_OK(up_image_read_as(golden("source", "png"), &how, &image, &whole)); /* PNG comes whole */
    CU_ASSERT(image.width == 61 && whole.width == 61 && whole.times == 1);
    up_image_free(&image);
}

/* What docs/numerics.md states of this picture: patches of a scaled picture lie on average within 2 of 255 of
 * the whole one's, and all but one in a thousand within 24; without the option they are the whole one's. */
static void scaled_patches(void) {
    static uint8_t exact[3 * 64 * 64], scaled[3 * 64 * 64], again[3 * 64 * 64];
    const char *path = golden("jpeg_large", "jpg");
    for (int side = 16; side <= 64; side += 16) {
        up_config config = {.image_size = side, .image_resize = side + 4, .patch = 16};
        up_cut cut = {.x = 0.3, .y = 0.8};
        up_image image;
        int sum = 0, far = 0, n = 3 * side * side;
        UP_ASSERT_OK(up_image_read(path, NULL, &image));
        UP_ASSERT_OK(up_picture_patches(&config, &image, 0, &cut, exact));
        UP_ASSERT_OK(
            up_picture_read(&config, &(up_media){.name = (char *)(uintptr_t)path}, NULL, &cut, again));
        CU_ASSERT(!memcmp(exact, again, (size_t)n));
        cut.scaled = 1;
        UP_ASSERT_OK(
            up_picture_read(&config, &(up_media){.name = (char *)(uintptr_t)path}, NULL, &cut, scaled));
        for (int i = 0; i < n; i++) {
            sum += abs(exact[i] - scaled[i]);
            far += abs(exact[i] - scaled[i]) > 24;
        }
        CU_ASSERT(sum > 0); /* it was decoded smaller */
        CU_ASSERT(sum <= 2 * n);
        CU_ASSERT(far <= n / 1000);
        up_image_free(&image);
    }
}

/* A side of 203 pixels becomes 50.75, rounded up to 51: wherever an orientation puts the part of a pixel that
 * is too much, the square is the same piece of the picture. */
static void scaled_orientations(void) {
    static const uint8_t entry[] = {0x12, 1, 3, 0, 1, 0, 0, 0}; /* orientation, one number of 16 bits */
    enum { SIZE = 30, N = 3 * SIZE * SIZE };
    const sample s = {"jpeg_large", "jpg", 0};
    bytes b = load(&s);
    uint8_t *value = memmem(b.data, b.size, entry, sizeof entry);
    CU_ASSERT_FATAL(value != NULL);
    for (uint8_t orientation = 1; orientation <= 8; orientation++) {
        up_image image, exact, found;
        up_whole whole;
        int sum = 0;
        value[sizeof entry] = orientation;
        UP_ASSERT_OK(up_image_decode(b.data, b.size, s.name, NULL, &image));
        UP_ASSERT_OK(up_image_square(&image, SIZE + 4, SIZE, 0.2, 0.9, &exact));
        up_image_free(&image);
        image = (up_image){0};
        UP_ASSERT_OK(
            up_jpeg_decode(b.data, b.size, s.name, &(up_decoding){.short_side = 51}, &image, &whole));
        CU_ASSERT(whole.times == 4 && (whole.width == 203) == (orientation > 4));
        UP_ASSERT_OK(up_image_square_of(&image, whole, SIZE + 4, SIZE, 0.2, 0.9, &found));
        for (int i = 0; i < N; i++) sum += abs(exact.data[i] - found.data[i]);
        CU_ASSERT(sum > 0 && sum <= N); /* 1 of 255 on average; a quarter of a pixel makes it 1.3 */
        up_image_free(&image);
        up_image_free(&exact);
        up_image_free(&found);
    }
    free(b.data);
}

static void not_a_picture(void) {
    static const char text[] = "hello\nworld, this is text";
    up_image out;
    expect_failure(up_image_decode("", 0, "none.jpg", NULL, &out), UP_ERR_FORMAT, "none.jpg", "empty", &out);
    expect_failure(up_image_decode(text, sizeof text - 1, "text.jpg", NULL, &out), UP_ERR_FORMAT, "text.jpg",
                   "hello.wo", &out);
    expect_failure(up_image_decode("\xff", 1, "one.jpg", NULL, &out), UP_ERR_FORMAT, "one.jpg", "no JPEG",
                   &out);
    expect_failure(up_image_decode("RIFF\4\0\0\0WAVE", 12, "a.webp", NULL, &out), UP_ERR_FORMAT, "a.webp",
                   "RIFF", &out);
    const char *missing = golden("missing", "jpg");
    expect_failure(up_image_read(missing, NULL, &out), UP_ERR_IO, missing, "No such file", &out);
}

static void put32(uint8_t *to, uint32_t value) {
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(value >> (24 - 8 * i));
}

static void huge_headers(void) {
    static const uint32_t sides[][2] = {
        {60000, 60000}, {0x7fffffff, 0x7fffffff}, {0x7fffffff, 1}, {13378, 13378}};
    up_image out;
    for (size_t i = 0; i < 4; i++) { /* signature, IHDR of 8-bit RGBA, an empty IDAT */
        uint8_t png[45] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR........\10\6\0\0\0....\0\0\0\0IDAT";
        put32(png + 16, sides[i][0]);
        put32(png + 20, sides[i][1]);
        put32(png + 29, (uint32_t)crc32(0, png + 12, 17));
        put32(png + 41, (uint32_t)crc32(0, png + 37, 4));
        expect_failure(up_image_decode(png, sizeof png, "huge.png", NULL, &out), UP_ERR_FORMAT, "huge.png",
                       "limit", &out);
    }
    bytes jpeg = load(&samples[0]);
    for (size_t i = 2; i + 9 < jpeg.size; i++)
        if (jpeg.data[i] == 0xff && jpeg.data[i + 1] == 0xc0) {
            memset(jpeg.data + i + 5, 0xfe, 4); /* height and width */
            break;
        }
    expect_failure(up_image_decode(jpeg.data, jpeg.size, "huge.jpg", NULL, &out), UP_ERR_FORMAT, "huge.jpg",
                   "limit", &out);
    free(jpeg.data);
    for (size_t i = 0, n = readable(); i < n; i++) { /* the limit itself is allowed, one less is not */
        bytes b = load(&samples[i]);
        UP_ASSERT_OK(up_image_decode(b.data, b.size, samples[i].name, NULL, &out));
        up_image_limits limits = {(int64_t)out.width * out.height};
        up_image_free(&out);
        CU_ASSERT_EQUAL(up_image_decode(b.data, b.size, samples[i].name, &limits, &out), UP_OK);
        up_image_free(&out);
        limits.max_pixels--;
        expect_failure(up_image_decode(b.data, b.size, samples[i].name, &limits, &out), UP_ERR_FORMAT,
                       samples[i].name, "limit", &out);
        free(b.data);
    }
}

static size_t chunk_at(const bytes *b, const char *name) {
    size_t at = 8;
    while (at + 12 <= b->size && memcmp(b->data + at + 4, name, 4))
        at += 12 + ((size_t)b->data[at] << 24 | (size_t)b->data[at + 1] << 16 | (size_t)b->data[at + 2] << 8 |
                    b->data[at + 3]);
    return at + 12 <= b->size ? at : 0;
}

/* 256 entries where a small palette or a colour has fewer, with a sum that fits. */
static void expect_too_much(const bytes *b, size_t at, size_t length) {
    up_image out;
    size_t size = b->size + 256 - length;
    uint8_t *more = calloc(size, 1);
    memcpy(more, b->data, at + 8 + length);
    more[at + 2] = 1;
    more[at + 3] = 0;
    put32(more + at + 264, (uint32_t)crc32(0, more + at + 4, 260));
    memcpy(more + at + 268, b->data + at + 12 + length, b->size - at - 12 - length);
    expect_failure(up_image_decode(more, size, "more.png", NULL, &out), UP_ERR_FORMAT, "more.png", "tRNS",
                   &out);
    free(more);
}

/* A damaged tRNS chunk: each of its bytes, or a sound one that has no business in this picture. */
static void png_transparency(void) {
    int damaged = 0;
    up_image out;
    for (size_t i = 0; i < readable(); i++) {
        if (!strstr(samples[i].name, "_trns")) continue;
        bytes b = load(&samples[i]);
        size_t at = chunk_at(&b, "tRNS"), length = at ? b.data[at + 2] << 8 | b.data[at + 3] : 0;
        CU_ASSERT_FATAL(at && length);
        for (size_t k = at; k < at + 12 + length; k++) {
            b.data[k] ^= 0x20;
            expect_failure(up_image_decode(b.data, b.size, "damaged.png", NULL, &out), UP_ERR_FORMAT,
                           "damaged.png", "damaged PNG", &out);
            b.data[k] ^= 0x20;
            damaged++;
        }
        if (!strstr(samples[i].name, "palette8")) expect_too_much(&b, at, length);
        free(b.data);
    }
    CU_ASSERT(damaged > 100);
}

/* Every proper beginning of a file is an error. The copy has exactly its length, so that a sanitizer sees any
 * byte read past it. */
static void truncations(void) {
    for (size_t i = 0, n = readable(); i < n; i++) {
        if (!strcmp(samples[i].name, "jpeg_trailing"))
            continue; /* its last bytes are no part of the picture */
        bytes b = load(&samples[i]);
        size_t step = b.size > 10000 ? 997 : 1, accepted = 0;
        for (size_t size = 0; size < b.size; size += size + step < b.size ? step : 1) {
            uint8_t *part = malloc(size ? size : 1);
            CU_ASSERT_FATAL(part != NULL);
            memcpy(part, b.data, size);
            up_image out;
            if (up_image_decode(part, size, samples[i].name, NULL, &out) == UP_OK) {
                if (!accepted++)
                    fprintf(stderr, "%s: %zu of %zu bytes are accepted\n", samples[i].name, size, b.size);
                up_image_free(&out);
            }
            free(part);
        }
        CU_ASSERT_EQUAL(accepted, 0);
        free(b.data);
    }
}

/* Changed bytes may still make a picture, but never one over the limit, and never a crash. */
static void random_damage(void) {
    enum { ROUNDS = 300 };
    const up_image_limits limits = {1 << 20};
    up_rng rng = up_rng_make(up_test_seed(), 0, 0, 0);
    printf("UP_TEST_SEED=%llu ", (unsigned long long)up_test_seed());
    for (size_t i = 0, n = readable(); i < n; i++) {
        bytes b = load(&samples[i]);
        uint8_t *copy = malloc(b.size);
        CU_ASSERT_FATAL(copy != NULL);
        for (int round = 0; round < (b.size > 10000 ? ROUNDS / 10 : ROUNDS); round++) {
            memcpy(copy, b.data, b.size);
            /* half the rounds aim at the headers */
            uint32_t reach = round % 2 && b.size > 200 ? 200 : (uint32_t)b.size;
            for (uint32_t n = 1 + up_rng_below(&rng, 4); n--;)
                copy[up_rng_below(&rng, reach)] ^= (uint8_t)(1u << up_rng_below(&rng, 8));
            up_image out;
            up_status status = up_image_decode(copy, b.size, samples[i].name, &limits, &out);
            CU_ASSERT((status == UP_OK) == (out.data != NULL));
            CU_ASSERT((int64_t)out.width * out.height <= limits.max_pixels);
            up_image_free(&out);
        }
        free(copy);
        free(b.data);
    }
}

static void exif_bodies(void) {
    uint8_t body[] =
        "Exif\0\0II*\0\10\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0"; /* one little-endian entry: orientation 6 */
    size_t size = sizeof body - 1;
    CU_ASSERT_EQUAL(up_exif_orientation(body, size), 6);
    for (size_t n = 0; n < size; n++) {
        uint8_t *part = malloc(n ? n : 1);
        CU_ASSERT_FATAL(part != NULL);
        memcpy(part, body, n);
        CU_ASSERT_EQUAL(up_exif_orientation(part, n), 1);
        free(part);
    }
    static const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {{24, 0}, {24, 9}, {18, 4}, {20, 2}, {6, 'X'}, {10, 9}, {13, 0xff}, {0, 'e'}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint8_t was = body[wrong[i].at];
        body[wrong[i].at] = wrong[i].value;
        CU_ASSERT_EQUAL(up_exif_orientation(body, size), 1);
        body[wrong[i].at] = was;
    }
}

/* Several loader threads decode and resize at once and get what one gets alone. */
static struct {
    size_t n;
    bytes files[SAMPLES];
    uLong sums[SAMPLES];
} shared;

static uLong checksum(size_t i) {
    up_image image, small;
    uLong sum = 0;
    if (up_image_decode(shared.files[i].data, shared.files[i].size, "thread", NULL, &image) != UP_OK)
        return 0;
    if (up_image_square(&image, 16, 12, 0.5, 0.25, &small) == UP_OK) {
        sum = crc32(crc32(0, image.data, (uInt)(image.width * image.height * 3)), small.data, 12 * 12 * 3);
        up_image_free(&small);
    }
    up_image_free(&image);
    return sum;
}

static void *work(void *offset) {
    uintptr_t wrong = 0;
    for (size_t i = 0; i < 3 * shared.n; i++) {
        size_t at = (i + *(size_t *)offset) % shared.n;
        wrong += checksum(at) != shared.sums[at];
    }
    return (void *)wrong;
}

static void threads(void) {
    enum { THREADS = 4 };
    pthread_t ids[THREADS];
    size_t offsets[THREADS];
    shared.n = readable();
    for (size_t i = 0; i < shared.n; i++) {
        shared.files[i] = load(&samples[i]);
        shared.sums[i] = checksum(i);
        CU_ASSERT_NOT_EQUAL(shared.sums[i], 0);
    }
    for (size_t t = 0; t < THREADS; t++) {
        offsets[t] = t * 11;
        CU_ASSERT_EQUAL_FATAL(pthread_create(&ids[t], NULL, work, &offsets[t]), 0);
    }
    for (size_t t = 0; t < THREADS; t++) {
        void *wrong = &wrong;
        pthread_join(ids[t], &wrong);
        CU_ASSERT_PTR_NULL(wrong);
    }
    for (size_t i = 0; i < shared.n; i++) free(shared.files[i].data);
}

const up_test up_tests[] = {
    {"decode_samples", decode_samples},
    {"decode_stills", decode_stills},
    {"resize_like_pillow", resize_like_pillow},
    {"short_sides_and_squares", short_sides_and_squares},
    {"passes_agree", passes_agree},
    {"splits_agree", splits_agree},
    {"normalise_and_patches", normalise_and_patches},
    {"scaled_sizes", scaled_sizes},
    {"scaled_patches", scaled_patches},
    {"scaled_orientations", scaled_orientations},
    {"wrong_arguments", wrong_arguments},
    {"not_a_picture", not_a_picture},
    {"huge_headers", huge_headers},
    {"png_transparency", png_transparency},
    {"truncations", truncations},
    {"random_damage", random_damage},
    {"exif_bodies", exif_bodies},
    {"threads", threads},
    {NULL, NULL},
};
