/* augment_points.c - RandAugment's operations that change values where they stand: tables of 256 bytes a
 * channel, blends with a degenerate picture, a 3 x 3 filter. The arithmetic of Pillow's ImageOps and
 * ImageEnhance, byte for byte. */
#include "data/augment.h"
#include "data/pixels.h"

#include <stdlib.h>
#include <string.h>

typedef uint8_t tables[3][256];

static size_t pixels_of(const up_image *image) {
    return (size_t)image->width * (size_t)image->height;
}

static void look_up(up_image *image, tables t) {
    uint8_t *p = image->data;
    for (size_t n = pixels_of(image); n > 0; n--, p += 3) {
        p[0] = t[0][p[0]];
        p[1] = t[1][p[1]];
        p[2] = t[2][p[2]];
    }
}

static uint8_t clamped(double value) {
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* ---- by each channel's histogram ---- */

static void count(const up_image *image, int64_t histogram[3][256]) {
    const uint8_t *p = image->data;
    memset(histogram, 0, 3 * sizeof *histogram);
    for (size_t n = pixels_of(image); n > 0; n--, p += 3)
        for (int c = 0; c < 3; c++) histogram[c][p[c]]++;
}

static void keep(uint8_t table[256]) {
    for (int v = 0; v < 256; v++) table[v] = (uint8_t)v;
}

static void stretch(const int64_t histogram[256], uint8_t table[256]) {
    int low = 0, high = 255;
    while (low < 255 && !histogram[low]) low++;
    while (high > 0 && !histogram[high]) high--;
    keep(table);
    if (high <= low) return;
    double scale = 255.0 / (high - low), offset = -low * scale;
    for (int v = 0; v < 256; v++) table[v] = clamped(v * scale + offset);
}

/* The last value that occurs counts for no step, so that it becomes 255. */
static void level(const int64_t histogram[256], uint8_t table[256]) {
    int64_t total = 0, last = 0;
    for (int v = 0; v < 256; v++) {
        total += histogram[v];
        if (histogram[v]) last = histogram[v];
    }
    int64_t step = (total - last) / 255;
    keep(table);
    if (!step) return;
    int64_t sum = step / 2;
    for (int v = 0; v < 256; v++) {
        table[v] = sum / step < 255 ? (uint8_t)(sum / step) : 255;
        sum += histogram[v];
    }
}

static void by_histogram(const up_image *image, up_change change, tables t) {
    int64_t histogram[3][256];
    count(image, histogram);
    for (int c = 0; c < 3; c++) {
        if (change == UP_CHANGE_EQUALIZE)
            level(histogram[c], t[c]);
        else
            stretch(histogram[c], t[c]);
    }
}

/* ---- blends: degenerate + factor (picture - degenerate), in single precision ---- */

static inline uint8_t blend(int degenerate, int value, float factor) {
    float sum = (float)degenerate + factor * (float)(value - degenerate);
    return (uint8_t)(sum <= 0 ? 0 : sum >= 255 ? 255 : sum);
}

/* ITU-R 601-2 luma with 16 fractional bits. */
static inline int grey_of(const uint8_t *p) {
    return (p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16;
}

static int mean_grey(const up_image *image) {
    const uint8_t *p = image->data;
    int64_t sum = 0;
    size_t n = pixels_of(image);
    for (size_t i = 0; i < n; i++, p += 3) sum += grey_of(p);
    return (int)((double)sum / (double)n + 0.5);
}

static void blend_colour(up_image *image, float factor) {
    uint8_t *p = image->data;
    for (size_t n = pixels_of(image); n > 0; n--, p += 3) {
        int grey = grey_of(p);
        for (int c = 0; c < 3; c++) p[c] = blend(grey, p[c], factor);
    }
}

/* Row y of the picture blended with its smooth version: weights 1, the middle one's 5, by 13, rounded. A
 * border of one pixel stays. `above` and `here` are copies of rows y - 1 and y, which have changed. */
static void sharpen_row(uint8_t *row, const uint8_t *above, const uint8_t *here, const uint8_t *below,
                        size_t length, float factor) {
    for (size_t i = 3; i + 3 < length; i++) {
        int sum = above[i - 3] + above[i] + above[i + 3] + here[i - 3] + 5 * here[i] + here[i + 3] +
                  below[i - 3] + below[i] + below[i + 3];
        row[i] = blend((2 * sum + 13) / 26, here[i], factor);
    }
}

static up_status sharpen(up_image *image, float factor) {
    size_t length = (size_t)image->width * 3;
    uint8_t *copies = malloc(2 * length);
    if (!copies) return up_fail(UP_ERR_MEMORY, "sharpness", "no memory for two rows of %zu bytes", length);
    uint8_t *above = copies, *here = copies + length;
    memcpy(above, image->data, length);
    for (int y = 1; y + 1 < image->height; y++) {
        uint8_t *row = image->data + (size_t)y * length;
        memcpy(here, row, length);
        sharpen_row(row, above, here, row + length, length, factor);
        uint8_t *done = above;
        above = here;
        here = done;
    }
    free(copies);
    return UP_OK;
}

/* ---- all of them ---- */

/* The operations that treat all channels and pictures alike, `grey`: the mean that contrast is against. */
static uint8_t changed(up_change change, int v, double value, int grey) {
    switch (change) {
    case UP_CHANGE_INVERT:
        return (uint8_t)(255 - v);
    case UP_CHANGE_POSTERIZE:
        return (uint8_t)(v & ~((1 << (8 - (int)value)) - 1));
    case UP_CHANGE_SOLARIZE:
        return (uint8_t)(v < value ? v : 255 - v);
    case UP_CHANGE_SOLARIZE_ADD:
        return v < 128 ? clamped(v + value) : (uint8_t)v;
    default: /* contrast, brightness */
        return blend(grey, v, (float)value);
    }
}

up_status up_change_points(up_image *image, up_change change, double value) {
    tables t;
    if (change == UP_CHANGE_SHARPNESS) return sharpen(image, (float)value);
    if (change == UP_CHANGE_COLOUR) {
        blend_colour(image, (float)value);
        return UP_OK;
    }
    if (change == UP_CHANGE_AUTOCONTRAST || change == UP_CHANGE_EQUALIZE) {
        by_histogram(image, change, t);
    } else {
        int grey = change == UP_CHANGE_CONTRAST ? mean_grey(image) : 0;
        for (int v = 0; v < 256; v++) t[0][v] = changed(change, v, value, grey);
        memcpy(t[1], t[0], sizeof *t);
        memcpy(t[2], t[0], sizeof *t);
    }
    look_up(image, t);
    return UP_OK;
}
