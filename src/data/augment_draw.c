/* augment_draw.c - which part of a picture, which operations of RandAugment at which strength, which
 * rectangle becomes noise. The ranges are those of timm's `rand-m9-mstd0.5-inc1`, random resized crop and
 * random erasing (mode "pixel"), which DeiT trains with. */
#include "data/augment.h"

#include <math.h>
#include <string.h>

enum { STRONGEST = 10, ATTEMPTS = 10 };

static double between(up_rng *rng, double low, double high) {
    return low + (high - low) * up_rng_uniform(rng);
}

/* ---- parts ---- */

/* A rectangle of so many pixels, its sides in proportion `ratio`. */
static up_box rectangle(double pixels, double ratio) {
    return (up_box){.width = (int)rint(sqrt(pixels * ratio)), .height = (int)rint(sqrt(pixels / ratio))};
}

static void place(up_rng *rng, int width, int height, up_box *box) {
    box->y = (int)up_rng_below(rng, (uint32_t)(height - box->height + 1));
    box->x = (int)up_rng_below(rng, (uint32_t)(width - box->width + 1));
}

/* The middle, as near to the wanted proportions as the picture has it. */
static up_box middle(double ratio, int width, int height) {
    up_box box = {.width = width, .height = height};
    double own = (double)width / height;
    if (own < 1 / ratio) box.height = (int)fmin(rint(width * ratio), height);
    if (own > ratio) box.width = (int)fmin(rint(height * ratio), width);
    box.x = (width - box.width) / 2;
    box.y = (height - box.height) / 2;
    return box;
}

up_box up_draw_part(const up_augmentation *how, up_rng *rng, int width, int height) {
    double pixels = (double)width * height, widest = log(how->ratio);
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        double area = between(rng, how->area, 1) * pixels;
        up_box box = rectangle(area, exp(between(rng, -widest, widest)));
        if (box.width < 1 || box.height < 1 || box.width > width || box.height > height) continue;
        place(rng, width, height, &box);
        return box;
    }
    return middle(how->ratio, width, height);
}

/* ---- RandAugment ---- */

double up_change_value(up_change change, double magnitude, int negative) {
    double level = magnitude / STRONGEST, sign = negative ? -1 : 1;
    switch (change) {
    case UP_CHANGE_ROTATE:
        return sign * level * 30;
    case UP_CHANGE_POSTERIZE:
        return 4 - (int)(level * 4);
    case UP_CHANGE_SOLARIZE:
        return 256 - (int)(level * 256);
    case UP_CHANGE_SOLARIZE_ADD:
        return (int)(level * 110);
    case UP_CHANGE_COLOUR:
    case UP_CHANGE_CONTRAST:
    case UP_CHANGE_BRIGHTNESS:
    case UP_CHANGE_SHARPNESS:
        return fmax(0.1, 1 + sign * (level * 0.9));
    case UP_CHANGE_SHEAR_X:
    case UP_CHANGE_SHEAR_Y:
        return sign * level * 0.3;
    case UP_CHANGE_TRANSLATE_X:
    case UP_CHANGE_TRANSLATE_Y:
        return sign * level * 0.45;
    default: /* auto-contrast, equalize, invert have none */
        return 0;
    }
}

/* The same number of draws whatever comes of them. */
int up_draw_change(const up_augmentation *how, up_rng *rng, up_change *change, double *value) {
    *change = (up_change)up_rng_below(rng, UP_CHANGES);
    uint32_t bits = up_rng_u32(rng);
    double magnitude = how->magnitude + how->deviation * up_rng_normal(rng);
    *value = up_change_value(*change, fmin(fmax(magnitude, 0), STRONGEST), bits >> 30 & 1);
    return (int)(bits >> 31); /* each operation is done with probability 1/2 */
}

/* ---- erasing ---- */

up_box up_draw_erased(up_rng *rng, int width, int height) {
    const double least = 0.02, most = 1.0 / 3, widest = log(1 / 0.3);
    double pixels = (double)width * height;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        double area = between(rng, least, most) * pixels;
        up_box box = rectangle(area, exp(between(rng, -widest, widest)));
        if (box.width < 1 || box.height < 1 || box.width >= width || box.height >= height) continue;
        place(rng, width, height, &box);
        return box;
    }
    return (up_box){0};
}

enum { NOISE_BITS = 12, NOISE = 1 << NOISE_BITS };

/* Bytes whose normalised values are normally distributed with mean 0 and deviation 1, but for what lies
 * beyond 0 and 255: quantiles, so that a uniform index gives one. */
static void fill_noise(double mean, double deviation, uint8_t noise[NOISE]) {
    int at = 0;
    for (int v = 0; v < 255; v++) {
        double below = 0.5 * erfc((mean * 255 - (v + 0.5)) / (deviation * 255 * sqrt(2)));
        for (int end = (int)rint(below * NOISE); at < end; at++) noise[at] = (uint8_t)v;
    }
    memset(noise + at, 255, (size_t)(NOISE - at));
}

static void erase(up_image *image, up_box box, const up_pixel_norm *norm, up_rng *rng) {
    uint8_t noise[3][NOISE];
    for (int c = 0; c < 3; c++) fill_noise((double)norm->mean[c], (double)norm->std[c], noise[c]);
    for (int y = box.y; y < box.y + box.height; y++) {
        uint8_t *pixel = image->data + ((size_t)y * (size_t)image->width + (size_t)box.x) * 3;
        for (int x = 0; x < box.width; x++, pixel += 3) {
            uint32_t two = up_rng_u32(rng), one = up_rng_u32(rng);
            pixel[0] = noise[0][two % NOISE];
            pixel[1] = noise[1][two >> 16 & (NOISE - 1)];
            pixel[2] = noise[2][one % NOISE];
        }
    }
}

up_status up_augment(const up_augmentation *how, const up_pixel_norm *norm, up_rng *rng, up_image *image) {
    uint8_t fill[3];
    for (int c = 0; c < 3; c++) fill[c] = (uint8_t)fminf(rintf(norm->mean[c] * 255), 255);
    for (int i = 0; i < how->operations; i++) {
        up_change change;
        double value;
        if (up_draw_change(how, rng, &change, &value)) UP_TRY(up_image_change(image, change, value, fill));
    }
    if (how->erase > 0 && up_rng_uniform(rng) < how->erase) {
        up_box box = up_draw_erased(rng, image->width, image->height);
        erase(image, box, norm, rng);
    }
    return UP_OK;
}
