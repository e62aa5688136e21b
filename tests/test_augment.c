/* test_augment.c - augmentation: each operation against golden/augment (Pillow's pixels, timm's magnitudes),
 * the distributions of what is drawn, the mixing of a batch against its definition on whole pictures. */
#include "data/augment.h"
#include "files/npy.h"
#include "tests/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const up_suite_name = "augment";

static const uint8_t fill[3] = {124, 116, 104};

/* Operations that fix every byte, and those that move pixels: most that a byte may differ. */
static const struct {
    const char *name;
    int most;
} changes[UP_CHANGES] = {
    [UP_CHANGE_AUTOCONTRAST] = {"AutoContrast", 0},
    [UP_CHANGE_EQUALIZE] = {"Equalize", 0},
    [UP_CHANGE_INVERT] = {"Invert", 0},
    [UP_CHANGE_ROTATE] = {"Rotate", 1},
    [UP_CHANGE_POSTERIZE] = {"PosterizeIncreasing", 0},
    [UP_CHANGE_SOLARIZE] = {"SolarizeIncreasing", 0},
    [UP_CHANGE_SOLARIZE_ADD] = {"SolarizeAdd", 0},
    [UP_CHANGE_COLOUR] = {"ColorIncreasing", 0},
    [UP_CHANGE_CONTRAST] = {"ContrastIncreasing", 0},
    [UP_CHANGE_BRIGHTNESS] = {"BrightnessIncreasing", 0},
    [UP_CHANGE_SHARPNESS] = {"SharpnessIncreasing", 0},
    [UP_CHANGE_SHEAR_X] = {"ShearX", 1},
    [UP_CHANGE_SHEAR_Y] = {"ShearY", 1},
    [UP_CHANGE_TRANSLATE_X] = {"TranslateXRel", 1},
    [UP_CHANGE_TRANSLATE_Y] = {"TranslateYRel", 1},
};

static up_npy golden(const char *name, const char *ending) {
    char path[128];
    up_npy array = {0};
    snprintf(path, sizeof path, "golden/augment/%s%s.npy", name, ending);
    UP_ASSERT_OK(up_npy_read(up_test_path(path), &array));
    return array;
}

/* A picture of its own memory, with the bytes behind it that pictures have. */
static up_image picture(const uint8_t *bytes, int width, int height) {
    up_image image = {0};
    up_image whole = {width, height, (uint8_t *)bytes};
    UP_ASSERT_OK(up_image_crop(&whole, 0, 0, width, height, &image));
    return image;
}

/* Bytes that differ by more than `most`. */
static int64_t differing(const uint8_t *a, const uint8_t *b, size_t n, int most) {
    int64_t count = 0;
    for (size_t i = 0; i < n; i++) count += abs(a[i] - b[i]) > most;
    return count;
}

static void like_pillow(void) {
    up_npy source = golden("source", "");
    int height = (int)source.shape[0], width = (int)source.shape[1];
    size_t bytes = (size_t)source.count;
    for (int change = 0; change < UP_CHANGES; change++) {
        up_npy want = golden(changes[change].name, ""), values = {0};
        int cases = (int)want.shape[0];
        if (cases > 1) values = golden(changes[change].name, "_values");
        for (int i = 0; i < cases; i++) {
            up_image image = picture(source.data, width, height);
            double value = cases > 1 ? ((const double *)values.data)[i] : 0;
            const uint8_t *pixels = (const uint8_t *)want.data + (size_t)i * bytes;
            UP_ASSERT_OK(up_image_change(&image, (up_change)change, value, fill));
            int64_t wrong = differing(image.data, pixels, bytes, changes[change].most);
            if (wrong)
                fprintf(stderr, "%s(%g): %lld bytes differ\n", changes[change].name, value, (long long)wrong);
            CU_ASSERT_EQUAL(wrong, 0);
            up_image_free(&image);
        }
        up_npy_free(&want);
        up_npy_free(&values);
    }
    up_npy_free(&source);
}

/* A part is cut out before it is resized. */
static void parts_like_torchvision(void) {
    up_npy source = golden("source", ""), want = golden("crops", ""), boxes = golden("crop_boxes", "");
    up_image whole = {(int)source.shape[1], (int)source.shape[0], source.data};
    int side = (int)want.shape[1];
    size_t bytes = 3 * (size_t)side * (size_t)side;
    for (int64_t i = 0; i < want.shape[0]; i++) {
        const int32_t *box = (const int32_t *)boxes.data + 4 * i;
        up_image part = {0}, square = {0};
        UP_ASSERT_OK(up_image_crop(&whole, box[0], box[1], box[2], box[3], &part));
        UP_ASSERT_OK(up_image_resize(&part, 0, 0, part.width, part.height, side, side, &square));
        CU_ASSERT(!memcmp(square.data, (const uint8_t *)want.data + (size_t)i * bytes, bytes));
        up_image_free(&part);
        up_image_free(&square);
    }
    up_npy_free(&source);
    up_npy_free(&want);
    up_npy_free(&boxes);
}

/* Cut off and not rounded: where arithmetic in single precision lands on the other side of a whole number, a
 * byte is one less or more. That is rare. */
static void mostly_equal(void) {
    up_npy source = golden("source", "");
    int64_t differ = 0, all = 0;
    for (int change = 0; change < UP_CHANGES; change++) {
        if (!changes[change].most) continue;
        up_npy want = golden(changes[change].name, ""), values = golden(changes[change].name, "_values");
        for (int64_t i = 0; i < want.shape[0]; i++) {
            up_image image = picture(source.data, (int)source.shape[1], (int)source.shape[0]);
            UP_ASSERT_OK(up_image_change(&image, (up_change)change, ((const double *)values.data)[i], fill));
            differ +=
                differing(image.data, (const uint8_t *)want.data + i * source.count, (size_t)source.count, 0);
            all += source.count;
            up_image_free(&image);
        }
        up_npy_free(&want);
        up_npy_free(&values);
    }
    up_npy_free(&source);
    printf("(%lld of %lld bytes differ) ", (long long)differ, (long long)all);
    CU_ASSERT(differ * 1000 < all);
}

/* One value a channel; single pixels and lines. */
static void corners(void) {
    up_npy want = golden("flat", "");
    uint8_t flat[4 * 5 * 3];
    for (size_t i = 0; i < sizeof flat; i++) flat[i] = i % 3 ? 200 : 7;
    for (int i = 0; i < 2; i++) {
        up_image image = picture(flat, 5, 4);
        UP_ASSERT_OK(up_image_change(&image, i ? UP_CHANGE_EQUALIZE : UP_CHANGE_AUTOCONTRAST, 0, fill));
        CU_ASSERT(!memcmp(image.data, (const uint8_t *)want.data + (size_t)i * sizeof flat, sizeof flat));
        up_image_free(&image);
    }
    up_npy_free(&want);
    const int sizes[][2] = {{1, 1}, {1, 6}, {6, 1}, {2, 2}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int change = 0; change < UP_CHANGES; change++)
            for (int magnitude = 0; magnitude <= 10; magnitude++) {
                up_image image = picture(flat, sizes[s][0], sizes[s][1]);
                double value = up_change_value((up_change)change, magnitude, magnitude % 2);
                CU_ASSERT_EQUAL(up_image_change(&image, (up_change)change, value, fill), UP_OK);
                CU_ASSERT(image.width == sizes[s][0] && image.height == sizes[s][1]);
                up_image_free(&image);
            }
    up_image image = picture(flat, 5, 4); /* at magnitude 10 not a bit is kept */
    UP_ASSERT_OK(
        up_image_change(&image, UP_CHANGE_POSTERIZE, up_change_value(UP_CHANGE_POSTERIZE, 10, 0), fill));
    for (size_t i = 0; i < sizeof flat; i++) CU_ASSERT_EQUAL(image.data[i], 0);
    up_image_free(&image);
}

static void magnitudes(void) {
    up_npy table = golden("magnitudes", "");
    const double *want = table.data;
    CU_ASSERT_EQUAL_FATAL(table.shape[0], UP_CHANGES);
    for (int change = 0; change < UP_CHANGES; change++)
        for (int negative = 0; negative < 2; negative++)
            for (int m = 0; m <= 100; m++, want++) {
                double found = up_change_value((up_change)change, m / 10.0, negative);
                CU_ASSERT(isnan(*want) ? found == 0 : fabs(found - *want) <= 1e-12);
            }
    up_npy_free(&table);
}

/* ---- distributions ---- */

enum { DRAWS = 20000 };

/* Pearson's statistic, and a bound that true shares pass all but once in 10,000 times: Wilson and Hilferty's
 * approximation of the quantile. */
static void expect_shares(const char *what, const int64_t *found, const double *shares, int n) {
    double statistic = 0, total = 0;
    for (int i = 0; i < n; i++) total += (double)found[i];
    for (int i = 0; i < n; i++)
        statistic += pow((double)found[i] - shares[i] * total, 2) / (shares[i] * total);
    double k = 2 / (9.0 * (n - 1)), bound = (n - 1) * pow(1 - k + 3.719 * sqrt(k), 3);
    if (!(statistic <= bound)) fprintf(stderr, "%s: chi-square %.1f, bound %.1f\n", what, statistic, bound);
    CU_ASSERT(statistic <= bound);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Kolmogorov and Smirnov: the largest distance of the n values' distribution from `cdf`; 2.23 / sqrt(n) is
 * passed once in 10,000 times. */
static void expect_distribution(const char *what, double *values, int n, double (*cdf)(double)) {
    double most = 0;
    qsort(values, (size_t)n, sizeof *values, ascending);
    for (int i = 0; i < n; i++) {
        double p = cdf(values[i]);
        most = fmax(most, fmax(fabs(p - (double)i / n), fabs(p - (i + 1.0) / n)));
    }
    if (!(most <= 2.23 / sqrt(n)))
        fprintf(stderr, "%s: distance %.4f, bound %.4f\n", what, most, 2.23 / sqrt(n));
    CU_ASSERT(most <= 2.23 / sqrt(n));
}

static const up_augmentation deit = {.resized = 1,
                                     .area = 0.08,
                                     .ratio = 4.0 / 3,
                                     .operations = 2,
                                     .magnitude = 9,
                                     .deviation = 0.5,
                                     .erase = 0.25};

static double normal_around_9(double x) {
    return 0.5 * erfc((9 - x) / (0.5 * sqrt(2)));
}

/* Operations alike, each done half of the time, either direction, strengths of N(9, 0.5) up to 10. */
static void drawn_operations(void) {
    static double strengths[DRAWS];
    int64_t which[UP_CHANGES] = {0}, done[2] = {0}, directions[2] = {0};
    double each[UP_CHANGES];
    int n = 0, most = 0, rotations = 0;
    for (int i = 0; i < UP_CHANGES; i++) each[i] = 1.0 / UP_CHANGES;
    for (int draw = 0; draw < 8 * DRAWS; draw++) {
        up_rng rng = up_rng_make(up_test_seed(), 60, (uint64_t)draw, 0);
        up_change change;
        double value;
        done[up_draw_change(&deit, &rng, &change, &value)]++;
        which[change]++;
        if (change != UP_CHANGE_ROTATE) continue;
        double strength = fabs(value) / 3;
        directions[value < 0]++;
        rotations++;
        most += strength >= 10;
        if (strength < 10) strengths[n++] = strength;
    }
    expect_shares("operations", which, each, UP_CHANGES);
    expect_shares("done", done, (double[]){0.5, 0.5}, 2);
    expect_shares("directions", directions, (double[]){0.5, 0.5}, 2);
    double beyond = 1 - normal_around_9(10);
    expect_shares("strongest", (int64_t[]){most, rotations - most}, (double[]){beyond, 1 - beyond}, 2);
    for (int i = 0; i < most; i++) strengths[n++] = 10 + i; /* the rest of the distribution lies beyond 10 */
    double within = 0;
    qsort(strengths, (size_t)n, sizeof *strengths, ascending);
    for (int i = 0; i < n - most; i++)
        within = fmax(within, fabs(normal_around_9(strengths[i]) - (i + 0.5) / n));
    CU_ASSERT(within <= 2.23 / sqrt(n));
}

static double erased_cdf(double x) {
    return (x - 0.02) / (1.0 / 3 - 0.02);
}
static double ratio_cdf(double x) { /* the logarithm is uniform */
    return (log(x) + log(4.0 / 3)) / (2 * log(4.0 / 3));
}
static double erased_ratio_cdf(double x) {
    return (log(x) - log(0.3)) / (-2 * log(0.3));
}

static double between(double x, double low, double high) {
    return fmin(fmax(x, low), high);
}

/* Parts of a square that is large enough for every proportion where the area is at most 3/4 of it: those
 * alone are uniform, and uniform given that. */
static double small_area_cdf(double x) {
    return between((x - 0.08) / (0.7 - 0.08), 0, 1);
}

static void drawn_parts(void) {
    enum { SIDE = 4000 };
    static double areas[DRAWS], ratios[DRAWS];
    int n = 0;
    int64_t halves[4] = {0};
    for (int draw = 0; draw < DRAWS; draw++) {
        up_rng rng = up_rng_make(up_test_seed(), 61, (uint64_t)draw, 0);
        up_box box = up_draw_part(&deit, &rng, SIDE, SIDE);
        CU_ASSERT_FATAL(box.x >= 0 && box.y >= 0 && box.width >= 1 && box.height >= 1);
        CU_ASSERT_FATAL(box.x + box.width <= SIDE && box.y + box.height <= SIDE);
        double area = (double)box.width * box.height / ((double)SIDE * SIDE);
        CU_ASSERT(area >= deit.area - 1e-3);
        halves[2 * (box.x > (SIDE - box.width) / 2) + (box.y > (SIDE - box.height) / 2)]++;
        if (area > 0.7) continue;
        areas[n] = area;
        ratios[n++] = (double)box.width / box.height;
    }
    CU_ASSERT_FATAL(n > DRAWS / 2);
    expect_distribution("areas", areas, n, small_area_cdf);
    expect_distribution("ratios", ratios, n, ratio_cdf);
    expect_shares("places", halves, (double[]){0.25, 0.25, 0.25, 0.25}, 4);
    up_rng rng = up_rng_make(up_test_seed(), 62, 0, 0); /* no part fits a line: its middle */
    up_box box = up_draw_part(&deit, &rng, 1000, 2);
    CU_ASSERT(box.height <= 2 && box.width <= 3 && box.x >= 0 && box.x + box.width <= 1000);
    up_augmentation most = deit;
    most.area = 1;
    box = up_draw_part(&most, &rng, 300, 100);
    CU_ASSERT(box.x == 83 && box.y == 0 && box.width == 133 && box.height == 100);
    box = up_draw_part(&most, &rng, 100, 300);
    CU_ASSERT(box.x == 0 && box.y == 83 && box.width == 100 && box.height == 133);
}

static void drawn_rectangles(void) {
    enum { SIDE = 4000 };
    static double areas[DRAWS], ratios[DRAWS];
    for (int draw = 0; draw < DRAWS; draw++) {
        up_rng rng = up_rng_make(up_test_seed(), 63, (uint64_t)draw, 0);
        up_box box = up_draw_erased(&rng, SIDE, SIDE);
        CU_ASSERT_FATAL(box.width >= 1 && box.x >= 0 && box.y >= 0);
        CU_ASSERT_FATAL(box.x + box.width <= SIDE && box.y + box.height <= SIDE);
        areas[draw] = (double)box.width * box.height / ((double)SIDE * SIDE);
        ratios[draw] = (double)box.width / box.height;
    }
    /* what is too long for the square is drawn again: areas above 0.3 with the most extreme proportions */
    expect_distribution("erased areas", areas, DRAWS, erased_cdf);
    expect_distribution("erased ratios", ratios, DRAWS, erased_ratio_cdf);
    up_rng rng = up_rng_make(up_test_seed(), 64, 0, 0);
    CU_ASSERT_EQUAL(up_draw_erased(&rng, 1, 1).width, 0);
}

/* A quarter of the pictures, and noise with the model's mean and deviation where bytes have room for it. */
static void erasing(void) {
    enum { SIDE = 32, N = 3 * SIDE * SIDE };
    static uint8_t grey[N];
    const up_augmentation only = {.erase = 0.25};
    const up_pixel_norm norm = {{0.5f, 0.5f, 0.5f}, {0.1f, 0.1f, 0.1f}};
    int64_t erased[2] = {0};
    double sum = 0, squares = 0, n = 0;
    for (int draw = 0; draw < 4000; draw++) {
        memset(grey, 255, sizeof grey); /* noise of this norm is never white: 5 deviations */
        up_image image = {SIDE, SIDE, grey};
        up_rng rng = up_rng_make(up_test_seed(), 65, (uint64_t)draw, 0);
        double before = n;
        UP_ASSERT_OK(up_augment(&only, &norm, &rng, &image));
        for (int i = 0; i < N; i++) {
            if (grey[i] == 255) continue;
            double z = (grey[i] / 255.0 - 0.5) / 0.1;
            sum += z;
            squares += z * z;
            n++;
        }
        erased[n > before]++;
    }
    expect_shares("erased", erased, (double[]){0.75, 0.25}, 2);
    double step = 1 / 25.5; /* of a byte, in deviations: adds its variance */
    CU_ASSERT(fabs(sum / n) < 4 / sqrt(n) + 0.001);
    CU_ASSERT(fabs(squares / n - 1 - step * step / 12) < 4 * sqrt(2 / n) + 0.003); /* 4096 quantiles */
}

/* A sample is a function of its stream. */
static void repeats(void) {
    up_npy source = golden("source", "");
    size_t bytes = (size_t)source.count;
    int changed = 0;
    for (int draw = 0; draw < 50; draw++) {
        up_image images[2];
        for (int i = 0; i < 2; i++) {
            images[i] = picture(source.data, (int)source.shape[1], (int)source.shape[0]);
            up_rng rng = up_rng_make(up_test_seed(), 66, (uint64_t)draw, 0);
            UP_ASSERT_OK(up_augment(&deit, &up_pixel_norm_image, &rng, &images[i]));
        }
        CU_ASSERT(!memcmp(images[0].data, images[1].data, bytes));
        changed += memcmp(images[0].data, source.data, bytes) != 0;
        up_image_free(&images[0]);
        up_image_free(&images[1]);
    }
    CU_ASSERT(changed > 20 && changed < 50); /* 2 operations at 1/2, erasing at 1/4: 81% */
    up_npy_free(&source);
}

/* ---- mixing ---- */

static double
beta_4_5(double x) { /* of Beta(0.8, 0.8), by the midpoint rule in u = x^0.8 / 0.8 from each end */
    enum { STEPS = 400 };
    double half = x <= 0.5 ? x : 1 - x, top = pow(half, 0.8), whole = pow(0.5, 0.8), sum = 0, all = 0;
    for (int i = 0; i < STEPS; i++) {
        sum += top / STEPS * pow(1 - pow((i + 0.5) / STEPS * top, 1.25), -0.2);
        all += whole / STEPS * pow(1 - pow((i + 0.5) / STEPS * whole, 1.25), -0.2);
    }
    return x <= 0.5 ? sum / all / 2 : 1 - sum / all / 2;
}
static double same(double x) {
    return x;
}

static void drawn_mixes(void) {
    enum { SIDE = 8192 };
    static double shares[DRAWS], sides[DRAWS];
    const up_mixing both = {0.8, 1, 0.5};
    int n = 0, cuts = 0, inner = 0;
    for (int draw = 0; draw < DRAWS; draw++) {
        up_rng rng = up_rng_make(up_test_seed(), 67, (uint64_t)draw, 0);
        up_mix mix = up_draw_mix(&both, &rng, SIDE);
        CU_ASSERT_FATAL(mix.kept >= 0 && mix.kept <= 1);
        if (mix.box.width) {
            CU_ASSERT(mix.box.x >= 0 && mix.box.y >= 0 && mix.box.x + mix.box.width <= SIDE &&
                      mix.box.y + mix.box.height <= SIDE);
            CU_ASSERT(fabs(mix.kept - 1 + (double)mix.box.width * mix.box.height / SIDE / SIDE) < 1e-12);
            cuts++;
        } else {
            shares[n++] = mix.kept;
        }
    }
    expect_shares("mixup or cutmix", (int64_t[]){n, cuts}, (double[]){0.5, 0.5}, 2);
    expect_distribution("mixup", shares, n, beta_4_5);
    const up_mixing cut = {.cutmix = 1, .choice = 0.5}, mixup = {.mixup = 0.8, .choice = 0.5},
                    none = {.choice = 0.5};
    for (int draw = 0; draw < DRAWS; draw++) { /* a side's square is uniform, where the box was not clipped */
        up_rng rng = up_rng_make(up_test_seed(), 68, (uint64_t)draw, 0);
        up_mix mix = up_draw_mix(&cut, &rng, SIDE);
        double side = fmax(mix.box.width, mix.box.height) / SIDE;
        if (mix.box.x > 0 && mix.box.y > 0 && mix.box.x + mix.box.width < SIDE &&
            mix.box.y + mix.box.height < SIDE && side < 0.3)
            sides[inner++] = side;
        CU_ASSERT(!up_draw_mix(&mixup, &rng, SIDE).box.width);
        CU_ASSERT_EQUAL(up_draw_mix(&none, &rng, SIDE).kept, 1);
    }
    /* density of the side s given that the box lies inside: s (1 - s)^2, up to 0.3 */
    for (int i = 0; i < inner; i++) {
        double s = sides[i], top = 0.3;
        sides[i] = (s * s / 2 - 2 * s * s * s / 3 + s * s * s * s / 4) /
                   (top * top / 2 - 2 * top * top * top / 3 + top * top * top * top / 4);
    }
    CU_ASSERT_FATAL(inner > 500);
    expect_distribution("cutmix", sides, inner, same);
}

/* Patches of mixed pictures are the mix of whole pictures, put into patches. */
static void mixed_patches(void) {
    enum { SIDE = 24, PATCH = 8, PICTURES = 5, N = 3 * SIDE * SIDE };
    static uint8_t pixels[PICTURES][N], patches[PICTURES][N], want[N], mixed[N + 64];
    const up_mix mixes[] = {
        {.kept = 0.3}, {.kept = 1}, {.box = {5, 7, 12, 9}, .kept = 0.8}, {.box = {0, 0, 24, 24}}};
    up_rng rng = up_rng_make(up_test_seed(), 69, 0, 0);
    for (size_t m = 0; m < sizeof mixes / sizeof *mixes; m++) {
        up_mix mix = mixes[m];
        for (int i = 0; i < PICTURES; i++) {
            for (int j = 0; j < N; j++) pixels[i][j] = (uint8_t)up_rng_u32(&rng);
            up_image image = picture(pixels[i], SIDE, SIDE);
            UP_ASSERT_OK(up_image_patch_bytes(&image, PATCH, patches[i]));
            up_image_free(&image);
        }
        up_mix_patches(&mix, patches[0], PICTURES, SIDE, PATCH);
        for (int i = 0; i < PICTURES; i++) {
            const uint8_t *own = pixels[i], *other = pixels[PICTURES - 1 - i];
            for (int j = 0; j < N; j++) {
                int x = j / 3 % SIDE, y = j / 3 / SIDE;
                int in = x >= mix.box.x && x < mix.box.x + mix.box.width && y >= mix.box.y &&
                         y < mix.box.y + mix.box.height;
                mixed[j] = mix.box.width
                               ? (in ? other[j] : own[j])
                               : (uint8_t)floor(mix.kept * own[j] + (1 - mix.kept) * other[j] + 0.5);
            }
            up_image image = picture(mixed, SIDE, SIDE);
            UP_ASSERT_OK(up_image_patch_bytes(&image, PATCH, want));
            CU_ASSERT_EQUAL(differing(patches[i], want, N, mix.box.width || mix.kept == 1 ? 0 : 1), 0);
            up_image_free(&image);
        }
    }
}

const up_test up_tests[] = {
    {"operations as Pillow does them", like_pillow},
    {"moved pixels are mostly equal", mostly_equal},
    {"parts as torchvision takes them", parts_like_torchvision},
    {"corners", corners},
    {"magnitudes as timm has them", magnitudes},
    {"which operations", drawn_operations},
    {"which parts", drawn_parts},
    {"which rectangles", drawn_rectangles},
    {"erasing", erasing},
    {"repeats", repeats},
    {"which mixes", drawn_mixes},
    {"mixed patches", mixed_patches},
    {NULL, NULL},
};
