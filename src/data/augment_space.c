/* augment_space.c - RandAugment's operations that move pixels: each pixel of the result is interpolated
 * (bicubic, a = -1) where an affine map puts it in the picture. The rules of Pillow's Image.transform: pixels
 * outside are the fill, taps beyond an edge are the edge's, the result is cut off and not rounded. */
#include "data/augment.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A pixel's three channels and a fourth that means nothing. */
typedef float colour __attribute__((vector_size(16)));
typedef uint8_t colour_bytes __attribute__((vector_size(4)));
typedef int32_t colour_words __attribute__((vector_size(16)));

/* Result pixel (x, y), at its middle, is at (a[0] x + a[1] y + a[2], a[3] x + a[4] y + a[5]). */
typedef double map[6];

enum { TAPS = 4 };

/* Where a coordinate's four taps begin, and how far it lies behind the second. */
typedef struct taps {
    int first;
    float behind; /* 0 to 1 */
} taps;

/* `at` is 0 or more. */
static inline taps taps_at(double at) {
    int before = (int)(at + 0.5) - 1; /* floor(at - 0.5), which costs a call */
    return (taps){before - 1, (float)(at - 0.5 - before)};
}

/* The cubic through b and c whose slopes there are those of a to c and b to d. By Horner's rule, so that what
 * is equal stays as it is to the last bit: the result is cut off. */
static inline colour cubic(colour a, colour b, colour c, colour d, float t) {
    return b + t * ((c - a) + t * ((2 * (a - b) + c - d) + t * (b - a + d - c)));
}

static inline int inside(int at, int size) {
    return at < 0 ? 0 : at >= size ? size - 1 : at;
}

/* The picture in single precision: most of its pixels are taps many times. NULL without memory. */
static colour *widen(const up_image *image) {
    size_t n = (size_t)image->width * (size_t)image->height;
    colour *wide = aligned_alloc(sizeof *wide, n * sizeof *wide);
    const uint8_t *pixel = image->data;
    for (size_t i = 0; wide && i < n; i++, pixel += 3) {
        colour_bytes bytes = {0};
        memcpy(&bytes, pixel, 3);
        wide[i] = __builtin_convertvector(__builtin_convertvector(bytes, colour_words), colour);
    }
    return wide;
}

static inline colour across(const colour *row, const int column[TAPS], float t) {
    if (t == 0) return row[column[1]]; /* columns that are moved whole */
    return cubic(row[column[0]], row[column[1]], row[column[2]], row[column[3]], t);
}

/* Cut off and clamped. */
static inline void put(colour value, uint8_t *out) {
    colour_words whole = __builtin_convertvector(value, colour_words);
    whole &= whole > 0;
    whole |= whole > 255; /* whose lowest byte is 255 then */
    colour_bytes bytes = __builtin_convertvector(whole, colour_bytes);
    memcpy(out, &bytes, 3);
}

/* `wide` is what has been in `image`. */
static inline void interpolate(const up_image *image, const colour *wide, double x, double y, uint8_t *out) {
    taps h = taps_at(x), v = taps_at(y);
    int column[TAPS];
    const colour *row[TAPS];
    for (int t = 0; t < TAPS; t++) {
        column[t] = inside(h.first + t, image->width);
        row[t] = wide + (size_t)inside(v.first + t, image->height) * (size_t)image->width;
    }
    colour value = across(row[1], column, h.behind);
    if (v.behind != 0)
        value = cubic(across(row[0], column, h.behind), value, across(row[2], column, h.behind),
                      across(row[3], column, h.behind), v.behind);
    put(value, out);
}

static void fill_map(up_change change, double value, const up_image *image, map a) {
    double x = image->width / 2.0, y = image->height / 2.0, angle = -value * (acos(-1) / 180);
    memcpy(a, (map){1, 0, 0, 0, 1, 0}, sizeof(map));
    switch (change) {
    case UP_CHANGE_SHEAR_X:
        a[1] = value;
        break;
    case UP_CHANGE_SHEAR_Y:
        a[3] = value;
        break;
    case UP_CHANGE_TRANSLATE_X:
        a[2] = value * image->width;
        break;
    case UP_CHANGE_TRANSLATE_Y:
        a[5] = value * image->height;
        break;
    default: /* rotation */
        a[0] = a[4] = cos(angle);
        a[1] = sin(angle);
        a[3] = -a[1];
        a[2] = x - a[0] * x - a[1] * y;
        a[5] = y - a[3] * x - a[4] * y;
    }
}

up_status up_change_places(up_image *image, up_change change, double value, const uint8_t fill[3]) {
    map a;
    if (value == 0) return UP_OK;
    colour *wide = widen(image);
    if (!wide)
        return up_fail(UP_ERR_MEMORY, "augment", "no memory for %d x %d pixels", image->width, image->height);
    fill_map(change, value, image, a);
    uint8_t *to = image->data;
    for (int row = 0; row < image->height; row++)
        for (int column = 0; column < image->width; column++, to += 3) {
            double x = a[0] * (column + 0.5) + a[1] * (row + 0.5) + a[2];
            double y = a[3] * (column + 0.5) + a[4] * (row + 0.5) + a[5];
            if (x >= 0 && x < image->width && y >= 0 && y < image->height)
                interpolate(image, wide, x, y, to);
            else
                memcpy(to, fill, 3);
        }
    free(wide);
    return UP_OK;
}

static int moves(up_change change) {
    return change == UP_CHANGE_ROTATE || change >= UP_CHANGE_SHEAR_X;
}

up_status up_image_change(up_image *image, up_change change, double value, const uint8_t fill[3]) {
    return moves(change) ? up_change_places(image, change, value, fill)
                         : up_change_points(image, change, value);
}
